"""Names of typed keys: one each, decodable, legal, readable where it can be."""
import math
import os
import random
import struct
import sys
import unittest

import kvfs
from kvfs import _kvfs
from support import Case

NAMES = [
    ('hello', b'hello'), ('user:7', b'user:7'), ('é ü', 'é ü'.encode()), ('.profile', b'.profile'), ('~', b'~'), ('', b'str:'),
    ('.', b'str:.'), ('..', b'str:..'), ('int:5', b'str:int:5'), ('str:', b'str:str:'), ('a/b', b'a%2Fb'), ('100%', b'100%25'),
    ('a\nb\0', b'a%0Ab%00'), ('\x7f', b'%7F'), ('\ud800', b'%ED%A0%80'), ('\udcff', b'%ED%B3%BF'), ('\ud7ff', '\ud7ff'.encode()),
    (1, b'int:1'), (-5, b'int:-5'), (0, b'int:0'), (2**63 - 1, b'int:9223372036854775807'),
    (-2**63, b'int:-9223372036854775808'), (2**63, b'int:0x8000000000000000'), (-2**63 - 1, b'int:-0x8000000000000001'),
    (1.0, b'float:1.0'), (1e300, b'float:1e+300'), (math.inf, b'float:inf'), (-math.inf, b'float:-inf'), (0.1, b'float:0.1'),
    (b'hello', b'bytes:hello'), (b'', b'bytes:'), (b'\xff/%', b'bytes:%FF%2F%25'), (b'1', b'bytes:1'),
    (b'\xc3\xa9', b'bytes:%C3%A9'),
]

sys.set_int_max_str_digits(0)  # for repr() in same()


def same(a, b):
    return type(a) is type(b) and (a == b or (a != a and b != b)) and repr(a) == repr(b)


class Key(unittest.TestCase):
    def round(self, key):
        name, line = _kvfs.encode_key(key)
        self.assertLessEqual(len(name), 255)
        self.assertFalse(set(name) & set(b'/\0\n') or name in (b'', b'.', b'..'))
        name.decode()  # is UTF-8
        self.assertTrue(same(_kvfs.decode_name(name, line), key), (key, name))
        return name, line

    def test_names_are_as_documented(self):
        for key, name in NAMES:
            self.assertEqual(self.round(key), (name, None))

    def test_zeros_and_nan(self):
        self.assertEqual(self.round(-0.0), (b'float:-0.0', None))
        self.assertEqual(self.round(0.0), (b'float:0.0', None))
        self.assertEqual(self.round(math.nan), (b'float:nan', None))
        self.assertEqual(_kvfs.encode_key(-math.nan), (b'float:nan', None))

    def test_other_types_are_refused(self):
        for key in (True, False, None, (1, 2), [1], 1j, bytearray(b'x')):
            with self.assertRaises(TypeError):
                _kvfs.encode_key(key)

    def test_an_int_of_any_size(self):
        self.round(10**5000)
        self.round(-7**9999)

    def test_a_float_is_named_as_it_is_printed(self):
        rnd = random.Random(1)
        for x in [*(2.0**n for n in range(-1074, 1024)), *(struct.unpack('d', rnd.randbytes(8))[0] for _ in range(5000)),
                  *(10.0**n for n in range(-323, 309)), *(round(rnd.uniform(-1e6, 1e6), n % 9) for n in range(2000))]:
            if x == x:
                self.assertEqual(self.round(x), (b'float:' + repr(x).encode(), None))

    def test_random_keys_come_back_and_no_two_share_a_name(self):
        seed = int(os.environ.get('KVFS_SEED', random.randrange(1 << 30)))
        print(f'KVFS_SEED={seed}', end=' ')
        rnd = random.Random(seed)
        alphabet = 'aZ0:%/.\n\0\x7f\x80é漢😀\ud800\udfff' + 'intfloabyesr'
        seen = {}
        for _ in range(20000):
            n = rnd.choice((0, 1, 2, 3, 10, 100, 250, 256, 300, 5000) if rnd.random() < 0.1 else (0, 1, 2, 3, 8))
            kind = rnd.randrange(5)
            if kind < 2:
                key = rnd.choice(('', '', 'int:', 'str:', 'float:', 'bytes:')) + ''.join(rnd.choices(alphabet, k=n))
            elif kind == 2:
                key = rnd.randbytes(n)
            elif kind == 3:
                key = rnd.randrange(-1 << rnd.randrange(1, 200), 1 << rnd.randrange(1, 200))
            else:
                key = rnd.choice((rnd.random(), rnd.uniform(-1e9, 1e9), 10.0 ** rnd.randrange(-300, 300), float(n)))
            name = self.round(key)[0]
            self.assertTrue(same(seen.setdefault(name, key), key), (seen[name], key))

    def test_what_is_no_name_is_no_key(self):
        for name in (b'%', b'%4', b'%41', b'%zz', b'int:', b'int:01', b'int:+1', b'int: 1', b'int:x', b'int:0x1', b'float:1', b'float:1.00',
                     b'float:NaN', b'bytes:\xff', b'bytes:%41', b'str:hello', b'\xff', b'a%2fb', b'a\nb', b'x%', b'a%%' + b'0' * 64):
            with self.assertRaises(LookupError, msg=name):
                _kvfs.decode_name(name, b'x\n')
            with self.assertRaises(LookupError, msg=name):
                _kvfs.decode_name(name)


class Dict(Case):
    KEYS = [*(key for key, _ in NAMES), math.nan, -0.0, 'x' * 255, 'x' * 256, 'x' * 100000, '/' * 5000, b'\xff' * 86, b'y' * 70000, 10**5000, '漢' * 300]

    def test_keys_of_every_kind_live_side_by_side(self):
        d = self.dict()
        for i, key in enumerate(self.KEYS):
            d[key] = i
        for i, key in enumerate(self.KEYS):
            self.assertEqual(d[key], i)
            self.assertIn(key, d)
        self.assertEqual(len(d), len(self.KEYS))
        back = list(d.items())
        self.assertEqual(len(back), len(self.KEYS))
        for key, i in back:
            self.assertTrue(same(key, self.KEYS[i]), (key, self.KEYS[i]))
        self.assertEqual([repr(k) for k in d], [repr(k) for k, _ in back])
        self.assertEqual([repr(k) for k in reversed(d)], [repr(k) for k, _ in reversed(back)])
        for key in self.KEYS:
            del d[key]
            self.assertNotIn(key, d)
        self.assertEqual((len(d), list(d), bool(d)), (0, [], False))

    def test_equal_numbers_of_different_types_are_different_keys(self):
        d = self.dict()
        for key in (1, 1.0, '1', b'1'):
            d[key] = repr(key)
        self.assertEqual({d[1], d[1.0], d['1'], d[b'1']}, {'1', '1.0', "'1'", "b'1'"})
        with self.assertRaises(TypeError):
            d[True] = 1
        self.assertRaises(TypeError, lambda: d[True])
        self.assertRaises(TypeError, lambda: True in d)

    def test_a_long_key_can_do_what_others_can(self):
        d, key = self.dict(), 'k' * 1000
        self.assertTrue(d.add(key, 1))
        self.assertFalse(d.add(key, 2))
        self.assertEqual(d.incr(key, 5), 6)
        self.assertTrue(d.compare_and_set(key, 6, [1]))
        with d.edit(key) as value:
            value.append(2)
        self.assertEqual(d[key], [1, 2])
        with d.transaction() as t:
            t[key] += [3]
            t['l' * 1000] = 1
            self.assertEqual(sorted(t), [key, 'l' * 1000])
            self.assertEqual(dict(t.items()), {key: [1, 2, 3], 'l' * 1000: 1})
        with d.batch():
            d['m' * 1000] = 2
            self.assertEqual(d['m' * 1000], 2)
        with d.file(key, 'wb') as f:
            f.write(b'[1, 2')
            self.assertEqual(f.tell(), 5)
            f.write(b', 3, 4]')
        with d.file(key, 'ab') as f:
            f.write(b'  ')
        with d.file(key) as f:
            self.assertEqual(f.read(), b'[1, 2, 3, 4]  ')
            self.assertEqual(f.seek(0, 2), 14)
        with d.file(key, 'r+b') as f:
            f.write(b'[7')
            f.truncate(12)
        self.assertEqual(d[key], [7, 2, 3, 4])
        with d.file('n' * 1000, 'ab') as f:
            f.write(b'5')
        buf = bytearray(3)
        self.assertEqual((d.readinto(key, buf, 1), buf), (3, b'7, '))
        self.assertEqual(dict(d), {key: [7, 2, 3, 4], 'l' * 1000: 1, 'm' * 1000: 2, 'n' * 1000: 5})
        self.assertEqual(d.pop(key), [7, 2, 3, 4])
        with self.tree() as db:
            self.assertTrue(db['l' * 180 + '%%' + __import__('hashlib').sha256(b'l' * 1000).hexdigest()].startswith(b'l' * 1000 + b'\n1'))

    def test_files_that_are_no_keys_are_left_alone(self):
        d, db = self.dict(), self.tree()
        db['dir/file'] = b'1'
        db['int:007'] = b'2'
        db['x%%' + 'a' * 64] = b'no line'
        d['key'] = 1
        self.assertEqual(list(d), ['key'])
        self.assertEqual(list(d.items()), [('key', 1)])
        d.clear()
        self.assertEqual(len(db), 3)

    def test_subclasses_are_stored_as_what_they_are(self):
        class Text(str):
            def __str__(self):
                return 'other'
        class Number(int):
            def __index__(self):
                return 99
            __repr__ = __str__ = lambda self: 'other'
        d = self.dict()
        d[Text('a')] = 1
        d[Number(5)] = 2
        self.assertEqual((d['a'], d[5], sorted(map(type, d), key=str)), (1, 2, [int, str]))

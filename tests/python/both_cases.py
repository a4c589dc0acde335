"""What both kinds of mapping can do: transactions, batches, single steps, files."""
import gc
import os
import pickle
import time
import weakref

import kvfs
from support import Case


class Both(Case):
    def test_a_transaction_happens_or_not(self):
        for db, key, one, two in self.both():
            with db.transaction() as t:
                t[key] = one
                self.assertEqual(t[key], one)
                self.assertNotIn(key, db)
            self.assertEqual(db[key], one)
            with self.assertRaises(ZeroDivisionError):
                with db.transaction() as t:
                    t[key] = two
                    1 / 0
            self.assertEqual(db[key], one)
            self.assertRaises(kvfs.Closed, lambda: t[key])
            t = db.transaction()
            del t[key]
            t.commit()
            self.assertNotIn(key, db)

    def test_a_conflict_is_told_and_changes_nothing(self):
        for db, key, one, two in self.both():
            db[key] = one
            with self.assertRaises(kvfs.Conflict) as caught:
                with db.transaction() as t:
                    t[key]
                    db[key] = two
                    t[key] = one
            self.assertEqual(db[key], two)
            self.assertTrue(caught.exception.key)  # by its name in the store
            calls = []

            def change(t):
                calls.append(t[key])
                if len(calls) == 1:
                    db[key] = one
                t[key] = two
                return 'done'
            self.assertEqual(db.atomically(change), 'done')
            self.assertEqual((calls, db[key]), ([two, one], two))

    def test_too_large_a_transaction_is_an_error_with_a_name(self):
        for db, key, one, _ in self.both():
            with self.assertRaises(kvfs.TransactionTooLarge):
                with db.transaction() as t:
                    for i in range(5000):
                        t[f'k{i}'] = one
            self.assertEqual(len(db), 0)
        db = self.tree()
        with self.assertRaises(kvfs.TransactionTooLarge):
            with db.transaction() as t:
                t['a'] = bytes(9 << 20)

    def test_transactions_do_not_nest_and_are_not_pickled(self):
        for db, *_ in self.both():
            t = db.transaction()
            self.assertRaises(ValueError, t.transaction)
            self.assertRaises(ValueError, t.snapshot)
            self.assertRaises(TypeError, pickle.dumps, t)
            t.abort()
            self.assertRaises(ValueError, db.commit)

    def test_a_snapshot_stays_as_it_was(self):
        for db, key, one, two in self.both():
            db[key] = one
            with db.snapshot() as s:
                db[key] = two
                self.assertEqual((s[key], len(s), list(s), bool(s)), (one, 1, [key], True))
                with self.assertRaises(kvfs.ReadOnly):
                    s[key] = two
                with s.file(key) as f:
                    self.assertTrue(f.read())
                late = s.file(key)
            self.assertRaises(kvfs.Closed, late.read)
            self.assertRaises(kvfs.Closed, lambda: s[key])
            self.assertEqual(db[key], two)

    def test_a_batch_is_seen_by_its_thread_at_once(self):
        for db, _, one, two in self.both():
            with db.batch() as same:
                self.assertIs(same, db)
                with db.batch():
                    db['a'] = one
                self.assertEqual((db['a'], 'a' in db, 'b' in db), (one, True, False))
                with pickle.loads(pickle.dumps(db)) as other:
                    self.assertEqual(len(other), 0)
                db['b'] = one
                self.assertEqual(sorted(db), ['a', 'b'])
                del db['a']
                self.assertNotIn('a', db)
                db['c'] = two
                self.assertFalse(db.add('c', one))
                self.assertEqual(len(db), 2)
                db['d'] = one
                self.assertEqual(len(db), 3)
                db['e'] = one
                with db.snapshot() as s:
                    self.assertEqual(len(s), 4)
            self.assertEqual(dict(db), {'b': one, 'c': two, 'd': one, 'e': one})

    def test_a_batch_that_raises_keeps_what_was_assigned(self):
        for db, key, one, _ in self.both():
            with self.assertRaises(ZeroDivisionError):
                with db.batch():
                    db[key] = one
                    1 / 0
            self.assertEqual(db[key], one)

    def test_update_of_more_than_a_transaction_holds(self):
        d, db = self.dict(), self.tree(self.fresh())
        d.update({i: i for i in range(9000)})
        self.assertEqual((len(d), d[8999]), (9000, 8999))
        big = bytes(3 << 20)
        db.update((f'b{i}', big) for i in range(8))
        db.update(huge=bytes(9 << 20), small=b'')
        self.assertEqual((len(db), len(db['b7']), len(db['huge'])), (10, 3 << 20, 9 << 20))

    def test_an_old_slice_of_a_batch_is_committed(self):
        db, other = self.tree(), self.tree()
        with db.batch():
            db['a'] = b''
            time.sleep(2.1)
            db['b'] = b''
            self.assertEqual(list(other), ['a'])

    def test_edit(self):
        d, db = self.dict(), self.tree(self.fresh())
        d['x'] = {'list': [1]}
        with d.edit('x') as value:
            value['list'].append(2)
        self.assertEqual(d['x'], {'list': [1, 2]})
        with self.assertRaises(ZeroDivisionError):
            with d.edit('x') as value:
                value.clear()
                1 / 0
        self.assertEqual(d['x'], {'list': [1, 2]})
        with self.assertRaises(kvfs.Conflict):
            with d.edit('x') as value:
                d['x'] = 5
        with self.assertRaises(KeyError):
            with d.edit('absent'):
                pass
        with d.edit('absent', []) as value:
            value.append(1)
        with d.transaction() as t:
            with t.edit('absent') as value:
                value.append(2)
            self.assertEqual(d['absent'], [1])
        self.assertEqual(d['absent'], [1, 2])
        db['x'] = b'abc'
        with db.edit('x') as value:
            value += b'd'
        self.assertEqual(db['x'], b'abcd')

    def test_compare_and_set_add_setdefault_pop(self):
        for db, key, one, two in self.both():
            self.assertFalse(db.compare_and_set(key, one, two))
            self.assertTrue(db.compare_and_set(key, kvfs.ABSENT, one))
            self.assertFalse(db.compare_and_set(key, kvfs.ABSENT, two))
            self.assertTrue(db.compare_and_set(key, one, two))
            self.assertEqual(db[key], two)
            self.assertTrue(db.compare_and_set(key, two, kvfs.ABSENT))
            self.assertNotIn(key, db)
            self.assertTrue(db.add(key, one))
            self.assertFalse(db.add(key, two))
            self.assertEqual(db.setdefault(key, two), one)
            self.assertEqual(db.pop(key), one)
            self.assertEqual(db.setdefault(key, two), two)
            self.assertEqual(db.popitem(), (key, two))
            self.assertRaises(KeyError, db.pop, key)
            self.assertEqual(db.pop(key, None), None)

    def test_incr(self):
        d, db = self.dict(), self.tree(self.fresh())
        self.assertEqual((db.incr('n'), db.incr('n', 41), db['n']), (1, 42, b'42'))
        db['x'] = b'text'
        self.assertRaises(kvfs.Invalid, db.incr, 'x')
        self.assertEqual((d.incr('n'), d.incr('n', -5), d['n']), (1, -4, -4))
        self.assertEqual((d.incr('n', 0.5), d.incr('n', 10**20), d['n']), (-3.5, 1e20 - 3.5, 1e20 - 3.5))
        d['s'] = 'text'
        self.assertRaises(TypeError, d.incr, 's')
        p = self.dict(self.fresh(), codec=kvfs.UNSAFE_PICKLE)
        self.assertEqual((p.incr('n'), p.incr('n', 2), p['n']), (1, 3, 3))
        with d.transaction() as t:
            t['new'] = 5
            self.assertEqual(t.incr('new'), 6)
        self.assertEqual(d['new'], 6)

    def test_pickle(self):
        for db, key, one, _ in self.both():
            db[key] = one
            for view in (db, db.sub('below')):
                with pickle.loads(pickle.dumps(view)) as copy:
                    copy['x'] = one
                    self.assertEqual(view['x'], one)
                    self.assertIs(type(copy), type(db))
            self.assertEqual(db[key], one)
        d = self.dict(codec=str)
        d['a'] = 'text'
        with pickle.loads(pickle.dumps(d)) as copy:
            self.assertEqual(copy['a'], 'text')
        with kvfs.open(self.path, 'n') as db:
            db['a'] = b''
            with pickle.loads(pickle.dumps(db)) as copy:
                self.assertEqual(len(copy), 1)

    def test_views_of_a_dict(self):
        d = self.dict()
        d.update(a=1, b=2)
        self.assertEqual((sorted(d.keys()), sorted(d.values()), sorted(d.items())), (['a', 'b'], [1, 2], [('a', 1), ('b', 2)]))
        self.assertEqual((list(reversed(d.keys())), list(reversed(d.values()))), (['b', 'a'], [2, 1]))
        self.assertIn(('a', 1), d.items())
        self.assertIn(2, d.values())
        self.assertEqual(d, {'a': 1, 'b': 2})
        self.assertEqual(d.keys() | {'c'}, {'a', 'b', 'c'})

    def test_sub_of_a_dict(self):
        d = self.dict()
        s = d.sub('dir')
        s['a'] = 1
        d['dir'] = 2
        d['dir%'] = 3
        self.assertEqual((dict(d), dict(s), len(d), len(s)), ({'dir': 2, 'dir%': 3}, {'a': 1}, 2, 1))
        d.clear()
        self.assertEqual((len(d), len(s)), (0, 1))

    def test_codecs(self):
        cases = [(kvfs.JSON, {'a': [1, 2.5, None, True, 'é\ud800']}, TypeError, b'bytes'),
                 (bytes, b'\xff', TypeError, 'text'), (str, 'tëxt', TypeError, b'bytes'),
                 (kvfs.UNSAFE_PICKLE, {1, (2, 3)}, None, None),
                 ((lambda v: str(v).encode(), int), 17, None, None)]
        for codec, value, error, wrong in cases:
            d = self.dict(self.fresh(), codec=codec)
            d['a'] = value
            self.assertEqual(d['a'], value)
            if error:
                with self.assertRaises(error):
                    d['b'] = wrong
            self.assertEqual(dict(d), {'a': value})

    def test_json_that_others_wrote(self):
        d = self.dict()
        for text, value in ((b' [1, 2]\n', [1, 2]), (b'"a"\n', 'a'), (b'\n17', 17), (b'17', 17)):
            self.tree()['a'] = text
            self.assertEqual(d['a'], value)
        for text in (b'', b'1 2', b'[1', b'x', b'\xff'):
            self.tree()['a'] = text
            self.assertRaises(ValueError, lambda: d['a'])
            self.assertRaises(ValueError, d.get, 'a')
            self.assertRaises(ValueError, lambda: list(d.items()))

    def test_a_codec_is_asked_once(self):
        calls = []
        def dumps(value):
            calls.append(value)
            return b'x' * value
        d = self.dict(codec=(dumps, len))
        with d.batch():
            d['a'], d['large'] = 1, 10 << 20  # which no batch takes
        self.assertTrue(d.add('k' * 300, 3))
        self.assertFalse(d.add('a', 2))
        self.assertEqual(calls, [1, 10 << 20, 3, 2])
        self.assertEqual(dict(d), {'a': 1, 'large': 10 << 20, 'k' * 300: 3})

    def test_what_a_codec_raises(self):
        def fail(_):
            raise KeyError('codec')
        d = self.dict(codec=(bytes, fail))
        d['a'] = b'1'
        for get in (lambda: d['a'], lambda: d.get('a'), lambda: list(d.items()), lambda: list(d.values())):
            with self.assertRaisesRegex(KeyError, 'codec'):
                get()
        with d.transaction() as t:
            t['b'] = b'2'
            with self.assertRaisesRegex(KeyError, 'codec'):
                list(t.items())
        d = self.dict(codec=(fail, bytes))
        with self.assertRaisesRegex(KeyError, 'codec'):
            d['c'] = 1

    def test_a_codec_that_ends_the_batch_it_is_called_from(self):
        def dumps(value):
            d._store.batch.commit()
            d._store.set_batch(None)
            return value
        d = self.dict(codec=(dumps, None))
        with d.batch():
            d['a'] = b'1'
        self.assertEqual(dict(d), {'a': b'1'})

    def test_cycles_through_a_codec_are_collected(self):
        class Codec:
            def dumps(self, value):
                return value
            loads = dumps
        codec = Codec()
        d = kvfs.Dict(self.fresh(), durability='none', codec=(codec.dumps, codec.loads))
        d['a'] = b'1'
        codec.view, codec.iterator = d, iter(d.items())
        store = d._store
        alive = weakref.ref(codec)
        del codec, d
        gc.collect()
        self.assertIsNone(alive())
        store.close()

    def test_what_has_ended_does_not_keep_the_store_open(self):
        def is_open(path):
            return any(os.path.realpath(f'/proc/self/fd/{fd}') == f'{path}/data.mdb' for fd in os.listdir('/proc/self/fd'))
        for m, key, one, _ in self.both():
            with m.transaction() as t:
                t[key] = one
            with m.snapshot() as s:
                self.assertEqual(s[key], one)
            with m.file(key) as f:
                f.read()
            with m.watch(timeout=0) as w:
                self.assertEqual(list(w), [])
            self.assertTrue(is_open(m.path))
            m.close()
            self.assertFalse(is_open(m.path))
            for ended in (t, s):
                with self.assertRaises(ValueError):
                    ended[key]
                with self.assertRaises(ValueError):
                    list(ended)
            with self.assertRaises(ValueError):
                t.commit()
            with self.assertRaises(ValueError):
                f.read()
            with self.assertRaises((ValueError, StopIteration)):
                next(w)

    def test_watch_of_a_dict(self):
        d = self.dict()
        long = 'l' * 300
        with d.watch(timeout=5) as w:
            d[1] = 'a'
            d[long] = 'b'
            del d[1]
            self.assertEqual([next(w)[:2] for _ in range(3)], [('put', 1), ('put', long), ('delete', 1)])


class File(Case):
    def test_modes(self):
        db = self.tree()
        with self.assertRaises(kvfs.NotFound) as caught:
            db.file('a')
        self.assertIsInstance(caught.exception, KeyError)
        self.assertRaises(kvfs.NotFound, db.file, 'a', 'r+b')
        self.assertRaises(ValueError, db.file, 'a', 'r')
        with db.file('a', 'xb') as f:
            self.assertNotIn('a', db)
            self.assertRaises(kvfs.Exists, db.file, 'a', 'xb')
            f.write(b'hello')
        self.assertRaises(kvfs.Exists, db.file, 'a', 'xb')
        with db.file('a', 'r+b') as f:
            f.seek(1)
            f.write(b'E')
            f.seek(0)
            self.assertEqual(f.read(), b'hEllo')
        with db.file('a') as f:
            self.assertEqual((f.read(1), f.readline(), f.tell()), (b'h', b'Ello', 5))
            self.assertRaises(OSError, f.write, b'x')
        with db.file('a', 'w+b') as f:
            f.write(b'12')
            f.seek(0)
            self.assertEqual(f.read(), b'12')
        with db.file('a', 'ab') as f:
            f.write(b'34')
        self.assertEqual(db['a'], b'1234')

    def test_a_writer_is_private_until_it_closes_and_dropped_if_its_block_raises(self):
        for db, key, *_ in self.both():
            with db.file(key, 'wb') as f:
                f.write(b'"old"')
                f.flush()
                self.assertNotIn(key, db)
            for mode in ('wb', 'w+b', 'r+b'):
                with self.assertRaises(ZeroDivisionError):
                    with db.file(key, mode) as f:
                        f.write(b'x' * 3_000_000)
                        f.flush()
                        f.write(b'more')
                        1 / 0
                self.assertTrue(f.closed)
                with db.file(key) as f:
                    self.assertEqual(f.read(), b'"old"')
            f = db.file(key, 'wb')
            f.write(b'"new"')
            f.sync()
            f.write(b' and more')
            f.drop()
            with db.file(key) as f:
                self.assertEqual(f.read(), b'"new"')

    def test_a_reader_keeps_what_it_opened(self):
        db = self.tree()
        db['a'] = b'1' * 200_000
        with db.file('a') as f:
            f.read(1)
            db['a'] = b'2'
            self.assertEqual(set(f.read()), set(b'1'))

    def test_in_a_transaction(self):
        db = self.tree()
        db['a'] = b'1'
        with db.transaction() as t:
            with t.file('a') as f:
                self.assertEqual(f.read(), b'1')
            t['a'] = b'22'
            with t.file('a') as f:
                self.assertEqual(f.read(), b'22')
            self.assertRaises(kvfs.ReadOnly, t.file, 'a', 'wb')

    def test_text_and_seek(self):
        import io
        db = self.tree()
        with io.TextIOWrapper(db.file('a', 'wb'), 'utf-8') as f:
            print('tëxt', file=f)
        with io.TextIOWrapper(db.file('a'), 'utf-8') as f:
            self.assertEqual(f.readlines(), ['tëxt\n'])
        with db.file('a', 'wb') as f:
            f.seek(1000)
            f.write(b'x')
            self.assertEqual(f.truncate(500), 500)
        self.assertEqual(db['a'], bytes(500))

"""kvfs.open(): the path view."""
import errno
import os
import subprocess
import sys
import tarfile
import tempfile

import kvfs
from support import KVFS, Case

ILLEGAL = ['', '/', '//', 'a//b', 'a/', '.', '..', 'a/../b', 'a\0b', 'x' * 256, 'x/' * 2047 + 'xx', 'y/' * 3000]


class Open(Case):
    def test_flags_are_those_of_dbm(self):
        for flag in 'rw':
            with self.assertRaises(kvfs.NotFound) as caught:
                kvfs.open(self.path, flag)
            self.assertEqual((caught.exception.errno, caught.exception.key), (errno.ENOENT, self.path))
            self.assertIsInstance(caught.exception, FileNotFoundError)
        with kvfs.open(self.path, 'c') as db:
            db['a'] = b'1'
        with kvfs.open(self.path) as db:
            self.assertEqual(db['a'], b'1')
            with self.assertRaises(kvfs.ReadOnly):
                db['a'] = b'2'
        with kvfs.open(self.path, 'w') as db:
            db['a'] = b'2'
        with kvfs.open(self.path, 'n') as db:
            self.assertEqual((len(db), list(db)), (0, []))
        self.assertRaises(ValueError, kvfs.open, self.path, 'x')
        self.assertRaises(ValueError, kvfs.open, self.path, durability='some')

    def test_mode(self):
        self.tree()
        self.assertEqual((os.stat(self.path).st_mode & 0o777, os.stat(self.path + '/data.mdb').st_mode & 0o777), (0o700, 0o600))
        path = self.fresh()
        kvfs.open(path, 'c', 0o660).close()
        self.assertEqual((os.stat(path).st_mode & 0o777, os.stat(path + '/data.mdb').st_mode & 0o777), (0o770, 0o660))

    def test_a_named_store(self):
        with kvfs.open('@notes', 'c') as db:
            db['a'] = 'b'
            self.assertEqual(db.path, os.path.join(os.environ['XDG_DATA_HOME'], 'kvfs', 'notes'))
        self.assertEqual(subprocess.run([KVFS, '-s', '@notes', 'get', 'a'], capture_output=True, check=True).stdout, b'b')
        self.assertRaises(ValueError, kvfs.open, '@a/b', 'c')

    def test_what_is_no_store(self):
        os.mkdir(self.path)
        with open(self.path + '/data.mdb', 'wb') as f:
            f.write(b'something else' * 1000)
        self.assertRaises(kvfs.Error, kvfs.open, self.path)
        self.assertRaises(kvfs.NotDirectory, kvfs.open, __file__)

    def test_closed(self):
        db = self.tree()
        db.close()
        db.close()
        for use in (lambda: db['a'], lambda: len(db), lambda: list(db), lambda: db.sync(), lambda: db.transaction()):
            self.assertRaises(kvfs.Closed, use)
        with self.assertRaises(ValueError):
            db['a'] = b''


class Keys(Case):
    def test_illegal_names(self):
        db = self.tree()
        for key in ILLEGAL:
            self.assertNotIn(key, db, key)
            self.assertIsNone(db.get(key))
            self.assertEqual(db.get(key, 5), 5)
            self.assertRaises(KeyError, lambda: db[key])
            with self.assertRaises(ValueError, msg=key):
                db[key] = b''
            with self.assertRaises(KeyError, msg=key):
                del db[key]
            self.assertRaises(ValueError, db.incr, key)
            self.assertRaises(ValueError, db.add, key, b'')
            self.assertRaises(ValueError, db.file, key, 'wb')
            self.assertRaises(ValueError, db.sub('dir').add, key, b'')
        with self.assertRaises(kvfs.Invalid) as caught:
            db['a//b'] = b''
        self.assertEqual(caught.exception.key, 'a//b')
        self.assertIn('component is empty', str(caught.exception))
        for key in (1, None, ('a',)):
            self.assertRaises(TypeError, lambda: key in db)
            with self.assertRaises(TypeError):
                db[key] = b''

    def test_values_are_bytes_or_text(self):
        db = self.tree()
        for value in (b'bytes', bytearray(b'array'), memoryview(b'view'), b'', 'tëxt', b'x' * 4095, b'x' * 4096, b'y' * 5_000_000):
            db['a'] = value
            self.assertEqual(db['a'], value.encode() if isinstance(value, str) else bytes(value))
        for value in (1, None, ['a']):
            with self.assertRaises(TypeError):
                db['a'] = value

    def test_names_that_are_not_utf8(self):
        db = self.tree()
        name = b'caf\xe9'.decode('utf-8', 'surrogateescape')
        db[name] = b'1'
        self.assertEqual((list(db), db[name], db[b'caf\xe9']), ([name], b'1', b'1'))
        self.assertEqual(os.fsencode(list(db)[0]), b'caf\xe9')

    def test_directories_are_no_keys(self):
        db = self.tree()
        db['a/b'] = b'1'
        self.assertNotIn('a', db)
        self.assertIsNone(db.get('a'))
        self.assertRaises(KeyError, lambda: db['a'])
        with self.assertRaises(KeyError):
            del db['a']
        with self.assertRaises(kvfs.IsDirectory):
            db['a'] = b''
        with self.assertRaises(kvfs.NotDirectory):
            db['a/b/c'] = b''
        self.assertNotIn('a/b/c', db)
        del db['a/b']
        self.assertEqual(len(db), 0)

    def test_ranges(self):
        db = self.tree()
        keys = ['a', 'a.b', 'b/1', 'b/2', 'b/2x', 'b/3/x', 'b.c', 'c']
        db.update(dict.fromkeys(keys, b''))
        order = sorted(keys, key=lambda k: k.encode().split(b'/'))
        for view in (db, db.transaction(), db.snapshot()):
            self.assertEqual(list(view), order)
            self.assertEqual(list(reversed(view)), order[::-1])
            self.assertEqual(list(view.keys(prefix='b/2')), ['b/2', 'b/2x'])
            self.assertEqual(list(view.keys(prefix='b/', reverse=True)), ['b/3/x', 'b/2x', 'b/2', 'b/1'])
            self.assertEqual(list(view.keys(start='b/2', stop='c')), ['b/2', 'b/2x', 'b/3/x', 'b.c'])
            self.assertEqual(list(view.keys(prefix='nothing')), [])
            self.assertEqual((len(view.keys()), len(view.keys(prefix='b/2')), len(view)), (8, 2, 8))
            self.assertIn('b/2', view.keys(prefix='b'))
            self.assertNotIn('a', view.keys(prefix='b'))
            self.assertEqual(view.keys() & {'a', 'z'}, {'a'})
        with self.assertRaises(ValueError):
            list(db.keys(start='a//b'))

    def test_in_a_transaction_its_own_changes_are_listed_in_place(self):
        db = self.tree()
        db.update(dict.fromkeys(['a', 'c', 'd/1', 'd/2', 'e'], b'old'))
        with db.transaction() as t:
            t['b'] = b'new'
            t['d/1x'] = b'new'
            t['e'] = b'new'
            del t['c']
            want = ['a', 'b', 'd/1', 'd/1x', 'd/2', 'e']
            self.assertEqual(list(t), want)
            self.assertEqual(list(reversed(t)), want[::-1])
            self.assertEqual(len(t), 6)
            self.assertEqual(list(t.keys(prefix='d/')), ['d/1', 'd/1x', 'd/2'])
            self.assertEqual(list(t.keys(start='b', stop='d/2', reverse=True)), ['d/1x', 'd/1', 'b'])
            self.assertEqual([v for _, v in t.items()], [b'old', b'new', b'old', b'new', b'old', b'new'])
            self.assertEqual(list(t.sub('d')), ['1', '1x', '2'])
            self.assertEqual(list(db), ['a', 'c', 'd/1', 'd/2', 'e'])
        self.assertEqual(list(db), want)

    def test_sub(self):
        db = self.tree()
        s = db.sub('dir/in')
        self.assertEqual((len(s), list(s), bool(s)), (0, [], False))
        s['a'] = b'1'
        s['b/c'] = b'2'
        self.assertEqual((list(s), len(s), bool(s), list(db)), (['a', 'b/c'], 2, True, ['dir/in/a', 'dir/in/b/c']))
        self.assertEqual(s.sub('b')['c'], b'2')
        self.assertEqual(list(s.keys(start='b/c')), ['b/c'])
        with s:
            pass
        self.assertEqual(db['dir/in/a'], b'1')
        db['dir/out'] = b'3'
        s.clear()
        self.assertEqual(list(db), ['dir/out'])

    def test_len_and_bool_count_values(self):
        db = self.tree()
        self.assertFalse(db)
        for i in range(10):
            db[f'd/{i}'] = b''
        self.assertTrue(db)
        self.assertEqual(len(db), 10)

    def test_while_others_write(self):
        db = self.tree()
        with db.batch():
            for i in range(3000):
                db[f'{i:05}'] = b''
        seen = []
        for key, value in db.items():
            seen.append(key)
            if len(seen) == 10:
                db['00500x'] = b'made'
                del db['02000']
        self.assertEqual(len(seen), len(set(seen)))
        self.assertEqual(set(seen) - {'00500x', '02000'}, {f'{i:05}' for i in range(3000)} - {'02000'})
        frozen = iter(db.items(snapshot=True))
        first = next(frozen)
        db.clear()
        self.assertEqual(1 + sum(1 for _ in frozen), 3000)
        self.assertEqual(first, ('00000', b''))

    def test_stat(self):
        db = self.tree()
        db['a/b'] = b'123'
        before = db.stat('a/b')
        self.assertEqual((before.size, before.nlink), (3, 1))
        db['a/b'] = b'1234'
        self.assertGreater(db.stat('a/b').version, before.version)
        self.assertEqual(db.stat('a').size, 1)
        self.assertEqual(db.stat('').size, 1)
        self.assertRaises(KeyError, db.stat, 'c')

    def test_len_counts_what_is_listed(self):
        archive = tempfile.TemporaryFile()
        self.addCleanup(archive.close)
        with tarfile.open(fileobj=archive, mode='w') as tar:
            for name, kind, target in (('d/a', tarfile.REGTYPE, ''), ('d/b', tarfile.LNKTYPE, 'd/a'), ('e/c', tarfile.LNKTYPE, 'd/a'),
                                       ('e/s', tarfile.SYMTYPE, 'c'), ('e/f', tarfile.FIFOTYPE, ''), ('g', tarfile.DIRTYPE, '')):
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, target
                tar.addfile(info)
        archive.seek(0)
        db = self.tree()
        db['x'] = b''
        subprocess.run([KVFS, '-s', self.path, 'import', '-'], stdin=archive, check=True, timeout=60)
        self.assertEqual(list(db), ['d/a', 'd/b', 'e/c', 'x'])
        self.assertEqual((db.stat('d/a').nlink, len(db), len(db.sub('d')), len(db.keys())), (3, 4, 2, 4))
        del db['d/b'], db['d/a']
        self.assertEqual((len(db), len(list(db))), (2, 2))
        del db['x'], db['e/c']
        self.assertEqual((len(db), bool(db)), (0, False))

    def test_readinto(self):
        db = self.tree()
        db['a'] = b'0123456789'
        buf = bytearray(4)
        self.assertEqual((db.readinto('a', buf), buf), (4, b'0123'))
        self.assertEqual((db.readinto('a', buf, 8), buf), (2, b'8923'))
        self.assertEqual(db.readinto('a', buf, 80), 0)
        self.assertRaises(KeyError, db.readinto, 'b', buf)
        with db.transaction() as t:
            self.assertEqual((t.readinto('a', buf, 2), buf), (4, b'2345'))

    def test_watch(self):
        db, other = self.tree(), self.tree()
        with db.watch('a/', timeout=5) as w, db.sub('a').watch(timeout=5) as below:
            other['b'] = b''
            other['a/x'] = b'1'
            other.append('a/x', b'2')
            del other['a/x']
            events = [next(w) for _ in range(3)]
            self.assertEqual([(e.kind, e.key) for e in events if e.kind != 'mkdir'], [('put', 'a/x'), ('append', 'a/x'), ('delete', 'a/x')])
            self.assertEqual(next(below)[:2], ('put', 'x'))
            self.assertGreater(events[2].sequence, events[0].sequence)
            other['a/y'] = b''
        with db.watch(since=events[1].sequence, timeout=0.1) as w:
            self.assertEqual([(e.kind, e.key) for e in w if '/' in e.key], [('delete', 'a/x'), ('put', 'a/y')])
            self.assertEqual(list(w), [])
        self.assertRaises(kvfs.Closed, next, w)


class Unmade(Case):
    def test_objects_that_were_never_opened(self):
        from kvfs import _kvfs
        view = kvfs.Tree.__new__(kvfs.Tree)
        for use in (lambda: view['a'], lambda: view.add('a', b''), lambda: list(view._cursor(0)), lambda: view._stat(''), view._del_tree,
                    lambda: view.__setitem__('a', b''), lambda: 'a' in view, _kvfs.Store.__new__(_kvfs.Store).sync,
                    _kvfs.Txn.__new__(_kvfs.Txn).commit, lambda: _kvfs.Watch.__new__(_kvfs.Watch).next(0)):
            self.assertRaises(kvfs.Closed, use)
        _kvfs.Watch.__new__(_kvfs.Watch).close()
        with self.assertRaises(ValueError):
            _kvfs.View.__init__(self.tree(), _kvfs.Store(self.path), None, b'', False)


class Process(Case):
    def test_what_ends_without_close_is_stored(self):
        script = 'import kvfs, sys; db = kvfs.open(sys.argv[1], "c", durability="relaxed"); db["a"] = "1"'
        subprocess.run([sys.executable, '-c', script, self.path], check=True)
        self.assertEqual(self.tree()['a'], b'1')

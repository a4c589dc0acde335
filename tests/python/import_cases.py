"""What `kvfs import` reads a kvfs.Dict has, and `kvfs export` gives back: keys of all types, each still of its own."""
import json
import os
import random
import sqlite3
import struct
import subprocess

from support import KVFS, Case

PIECES = ['a', '%', '/', '\0', 'é', '\x7f', '😀', '\n', '.', ':', 'ÿ', '\ud7ff']
LENGTHS = [0, 1, 2, 3, 10, 60, 82, 83, 84, 85, 86, 100, 180, 254, 255, 256, 300, 5000]


def keys(rng):
    yield from ('', '.', '..', 'str:', 'bytes:x', 'int:5', 'float:', 0, -2**63, 2**63 - 1, 0.0, -0.0, 1e15, 1e16, 1e-4, 1e-5, 5e-324, 2.0**-44)
    for _ in range(300):
        yield ''.join(rng.choice(PIECES) for _ in range(rng.choice(LENGTHS)))
        yield rng.randbytes(rng.choice(LENGTHS))
        yield rng.randrange(-2**63, 2**63)
        yield struct.unpack('d', rng.randbytes(8))[0]
        yield rng.random() * 10.0**rng.randrange(-8, 20)
        yield round(rng.random(), rng.randrange(1, 5))


class Import(Case):
    def setUp(self):
        super().setUp()
        seed = int(os.environ.get('KVFS_SEED', random.randrange(1 << 30)))
        print(f'KVFS_SEED={seed}', end=' ')
        rows = ((type(k).__name__, k) for k in keys(random.Random(seed)))
        self.rows = {(t, repr(k)): k for t, k in rows if k == k and abs(k if t == 'float' else 0) < float('inf')}

    def kvfs(self, *args):
        subprocess.run([KVFS, '-s', self.path, *args], check=True, timeout=60)

    def check(self):
        d = self.dict()
        found = {(type(k).__name__, repr(k)): v for k, v in d.items()}
        self.assertEqual(set(found), set(self.rows))
        for (kind, text), value in found.items():
            self.assertEqual(value, [kind, text])
        return d

    def test_what_comes_in_is_what_a_dict_holds(self):
        source = os.path.join(self.dir, 'source.db')
        db = sqlite3.connect(source)
        with db:
            db.execute('CREATE TABLE t (key, value)')
            db.executemany('INSERT INTO t VALUES (?, ?)', ((k, json.dumps(v)) for v, k in self.rows.items()))
        db.close()
        self.kvfs('import', '--create', '--from', f'sqlite:{source}', '--sort')
        self.check()

    def test_what_a_dict_holds_goes_out_and_in_again(self):
        lines = os.path.join(self.dir, 'lines')
        d = self.dict()
        d.update((k, list(v)) for v, k in self.rows.items())
        self.kvfs('export', '--to', f'jsonl:{lines}', '--keys=escape', '--values=json')
        d.close()
        self.path = self.fresh()
        self.kvfs('import', '--create', '--from', f'jsonl:{lines}', '--values=json')
        self.check()

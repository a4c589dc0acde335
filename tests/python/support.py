"""What the tests share: a case with a directory of its own."""
import os
import shutil
import tempfile
import unittest

import kvfs

KVFS = os.environ.get('KVFS_BIN') or os.path.abspath(os.path.join(os.environ['PYTHONPATH'].split(':')[0], '..', 'kvfs'))
SECONDS = float(os.environ.get('KVFS_PYTHON_S', '3'))


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.path = os.path.join(self.dir, 'store')
        self.count = 0

    def fresh(self):
        self.count += 1
        return f'{self.path}{self.count}'

    def tree(self, path=None, flag='c', durability='none'):
        db = kvfs.open(path or self.path, flag, durability=durability)
        self.addCleanup(db.close)
        return db

    def dict(self, path=None, **options):
        d = kvfs.Dict(path or self.path, durability='none', **options)
        self.addCleanup(d.close)
        return d

    def both(self):
        """Each kind of mapping, with a key and two values of it."""
        return [(self.tree(self.fresh()), 'a/b', b'1', b'2'), (self.dict(self.fresh()), 7, [1], {'x': None})]

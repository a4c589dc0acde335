"""CPython's own tests of a mapping (Debian: libpython3.x-testsuite)."""
import os
import shutil
import tempfile
from test import mapping_tests

import kvfs


class Stores:
    """Empty stores, which go with the test."""

    def setUp(self):
        super().setUp()
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)
        self.made = []

    def tearDown(self):
        for mapping in self.made:
            mapping.close()
        super().tearDown()

    def _empty_mapping(self):
        mapping = self.make(os.path.join(self.dir, str(len(self.made))))
        self.made.append(mapping)
        return mapping


class Tree(Stores, mapping_tests.BasicTestMappingProtocol):
    def make(self, path):
        return kvfs.open(path, 'c', durability='none')

    def _reference(self):
        return {'1': b'2', 'key1': b'value1', 'key2': b''}

    def test_pop(self):
        # The test's default, an int, cannot be stored; the rest of it is in test_write.
        d = self._empty_mapping()
        self.assertRaises(KeyError, d.pop, 'x')

    def test_write(self):
        self.reference = dict(self.reference)
        d = self._full_mapping(self.reference)
        self.assertEqual(dict(d), self.reference)
        self.assertEqual(d.setdefault('new', b'v'), b'v')
        self.assertEqual(d.pop('new'), b'v')
        self.assertEqual(d.pop('new', 909), 909)
        key, value = d.popitem()
        self.assertEqual(value, self.reference[key])
        self.assertNotIn(key, d)

    def test_update(self):
        d = self._empty_mapping()
        d.update(self.other)
        self.assertEqual(list(d.items()), list(self.other.items()))
        d.update()
        d.update([('x', b'1')], y=b'2')
        self.assertEqual((d['x'], d['y']), (b'1', b'2'))
        self.assertRaises((TypeError, AttributeError), d.update, 42)
        self.assertRaises(ValueError, d.update, [(1, 2, 3)])


class Dict(Stores, mapping_tests.TestMappingProtocol):
    def make(self, path):
        return kvfs.Dict(path, durability='none', codec=kvfs.UNSAFE_PICKLE)

    def type2test(self, **items):
        d = self._empty_mapping()
        d.update(items)
        return d

    def test_popitem(self):
        super(mapping_tests.TestMappingProtocol, self).test_popitem()

    def test_setdefault(self):
        d = self._empty_mapping()
        self.assertIs(d.setdefault('key0'), None)
        self.assertEqual(d.setdefault('key', []), [])
        self.assertEqual(d.setdefault('key', [1]), [])
        self.assertRaises(TypeError, d.setdefault)

    # As with shelve and dbm: what changes is stored when it is assigned, and a store is not copied, or made of keys.
    test_copy = test_fromkeys = None

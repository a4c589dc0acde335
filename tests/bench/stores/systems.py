"""The stores that store_bench compares: for each, its levels and what they survive, and, for those used from Python, how it is used.

A level's two words are what is left of commits that had returned. After a power cut: `all`; `older` (one earlier state of the store: what came
last is missing); `broken` (perhaps not even that). After kill -9: `all`; `between` (all, unless it hit in the middle of a change: then perhaps a
damaged file). For kvfs they are tested in this repository; for the others they are what their documentation says.

A store in Python is a class with `put`, `get`, `items`, `close`; `begin` and `commit` around many puts, its quick way to load, if it has one.
Keys are 10 random bytes, values are text; what a store cannot take as it is, its class converts, because a user would have to."""
import os


class Base:
    def begin(self):
        pass

    commit = begin


class KvfsDict(Base):
    """`d[key] = value` of kvfs, by a user who wrote nothing but that."""

    def __init__(self, path, level):
        import kvfs
        self.d = kvfs.Dict(path + "/store", durability=level)
        self.put = self.d.__setitem__
        self.get = self.d.__getitem__
        self.items = self.d.items
        self.close = self.d.close

    def begin(self):
        self.batch = self.d.batch()
        self.batch.__enter__()

    def commit(self):
        self.batch.__exit__(None, None, None)


class Lmdb(Base):
    def __init__(self, path, level):
        import lmdb
        self.env = lmdb.open(path, map_size=1 << 40, sync=level != "nosync", metasync=level == "sync")
        self.txn = None

    def put(self, key, text):
        if self.txn:
            self.txn.put(key, text.encode())
        else:
            with self.env.begin(write=True) as txn:
                txn.put(key, text.encode())

    def get(self, key):
        with self.env.begin() as txn:
            return txn.get(key).decode()

    def items(self):
        with self.env.begin() as txn:
            for key, value in txn.cursor():
                yield key, value.decode()

    def begin(self):
        self.txn = self.env.begin(write=True)

    def commit(self):
        self.txn.commit()
        self.txn = None

    def close(self):
        self.env.close()


class Sqlite(Base):
    def __init__(self, path, level):
        import sqlite3
        self.db = sqlite3.connect(path + "/db", timeout=60, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL").fetchall()
        self.db.execute(f"PRAGMA synchronous = {level}")
        self.db.execute("CREATE TABLE IF NOT EXISTS kv (key BLOB PRIMARY KEY, value TEXT) WITHOUT ROWID")
        self.close = self.db.close

    def put(self, key, text):
        self.db.execute("INSERT OR REPLACE INTO kv VALUES (?, ?)", (key, text))

    def get(self, key):
        return self.db.execute("SELECT value FROM kv WHERE key = ?", (key,)).fetchone()[0]

    def items(self):
        return self.db.execute("SELECT key, value FROM kv")

    def begin(self):
        self.db.execute("BEGIN IMMEDIATE")

    def commit(self):
        self.db.execute("COMMIT")


class Sqlitedict(Base):
    """Keys are str. It switches SQLite's flushes off, and has no way to leave them on."""

    def __init__(self, path, level):
        import sqlitedict
        self.d = sqlitedict.SqliteDict(path + "/db", journal_mode=level)
        self.many = False

    def put(self, key, text):
        self.d[key.hex()] = text
        if not self.many:
            self.d.commit()

    def get(self, key):
        return self.d[key.hex()]

    def items(self):
        return self.d.items()

    def begin(self):
        self.many = True

    def commit(self):
        self.d.commit()
        self.many = False

    def close(self):
        self.d.close()


class Diskcache(Base):
    def __init__(self, path, level):
        import diskcache
        self.d = diskcache.Cache(path, timeout=60, size_limit=1 << 40, sqlite_synchronous={"NORMAL": 1, "FULL": 2}[level])
        self.put = self.d.set
        self.get = self.d.get
        self.close = self.d.close

    def items(self):
        return ((key, self.d[key]) for key in self.d)

    def begin(self):
        self.transaction = self.d.transact()
        self.transaction.__enter__()

    def commit(self):
        self.transaction.__exit__(None, None, None)


class Leveldb(Base):
    def __init__(self, path, level):
        import plyvel
        self.db = plyvel.DB(path + "/db", create_if_missing=True)
        self.sync = level == "sync"
        self.batch = None
        self.close = self.db.close

    def put(self, key, text):
        if self.batch:
            self.batch.put(key, text.encode())
        else:
            self.db.put(key, text.encode(), sync=self.sync)

    def get(self, key):
        return self.db.get(key).decode()

    def items(self):
        return ((key, value.decode()) for key, value in self.db)

    def begin(self):
        self.batch = self.db.write_batch(sync=self.sync)

    def commit(self):
        self.batch.write()
        self.batch = None


class Berkeley(Base):
    """A B-tree in a transactional environment, with a cache of 16 MB: 256 KB, its default, is of another age."""

    def __init__(self, path, level):
        from bsddb3 import db
        self.deadlock = db.DBLockDeadlockError
        self.env = db.DBEnv()
        self.env.set_cachesize(0, 16 << 20)
        self.env.set_lk_detect(db.DB_LOCK_DEFAULT)
        self.env.set_lk_max_locks(20000)
        self.env.set_lk_max_objects(20000)
        self.env.log_set_config(db.DB_LOG_AUTO_REMOVE, 1)
        flags = db.DB_CREATE | db.DB_INIT_MPOOL | db.DB_INIT_LOCK | db.DB_INIT_LOG | db.DB_INIT_TXN
        self.env.open(path, flags)
        if level == "write_nosync":
            self.env.set_flags(db.DB_TXN_WRITE_NOSYNC, 1)
        self.db = db.DB(self.env)
        self.db.open("db", dbtype=db.DB_BTREE, flags=db.DB_CREATE | db.DB_AUTO_COMMIT)
        self.txn = None

    def put(self, key, text):
        while True:
            try:
                return self.db.put(key, text.encode(), txn=self.txn)
            except self.deadlock:
                if self.txn:
                    raise

    def get(self, key):
        while True:
            try:
                return self.db.get(key).decode()
            except self.deadlock:
                pass

    def items(self):
        cursor = self.db.cursor()
        item = cursor.first()
        while item:
            yield item[0], item[1].decode()
            item = cursor.next()
        cursor.close()

    def begin(self):
        self.txn = self.env.txn_begin()

    def commit(self):
        self.txn.commit()
        self.txn = None
        self.env.txn_checkpoint(8 << 10)  # KiB of log: without, the log keeps all there ever was

    def close(self):
        self.db.close()
        self.env.close()


class Gdbm(Base):
    def __init__(self, path, level):
        import dbm.gnu
        self.d = dbm.gnu.open(path + "/db", "cs" if level == "sync" else "c")
        self.close = self.d.close

    def put(self, key, text):
        self.d[key] = text.encode()

    def get(self, key):
        return self.d[key].decode()

    def items(self):
        key = self.d.firstkey()
        while key is not None:
            yield key, self.d[key].decode()
            key = self.d.nextkey(key)


class Shelve(Base):
    """Keys are str, values are pickled; over gdbm."""

    def __init__(self, path, level):
        import dbm.gnu
        import shelve
        self.d = shelve.Shelf(dbm.gnu.open(path + "/db", "c"))
        self.close = self.d.close
        self.items = self.d.items

    def put(self, key, text):
        self.d[key.hex()] = text

    def get(self, key):
        return self.d[key.hex()]


class Hdf5(Base):
    """A data set for each key, as the question tried it. A commit is a flush of HDF5's buffers to the operating system."""

    def __init__(self, path, level):
        import h5py
        self.f = h5py.File(path + "/db.h5", "a", libver="latest")
        self.many = False
        self.close = self.f.close

    def put(self, key, text):
        self.f[key.hex()] = text
        if not self.many:
            self.f.flush()

    def get(self, key):
        return self.f[key.hex()][()].decode()

    def items(self):
        return ((name, self.f[name][()].decode()) for name in self.f)

    def begin(self):
        self.many = True

    def commit(self):
        self.f.flush()
        self.many = False


class System:
    """A store: its name, its class here or its program in C, whether several processes may have it open, its levels, and how many records it
    gets at most: fewer only where more would take hours."""

    def __init__(self, name, engine, shared, levels, most=1 << 40):
        self.name, self.engine, self.shared, self.levels, self.most = name, engine, shared, levels, most


# (level, after a power cut, after a kill); the level that bulk loading uses comes last
SYSTEMS = [
    System("kvfs (C)", "kvfs", True, [("full", "all", "all"), ("relaxed", "older", "all"), ("none", "broken", "all")]),
    System("kvfs.Dict", KvfsDict, True, [("full", "all", "all"), ("relaxed", "older", "all"), ("none", "broken", "all")]),
    System("LMDB (C)", "lmdb", True, [("sync", "all", "all"), ("nometasync", "older", "all"), ("nosync", "broken", "all")]),
    System("py-lmdb", Lmdb, True, [("sync", "all", "all"), ("nometasync", "older", "all"), ("nosync", "broken", "all")]),
    System("RocksDB (C)", "rocksdb", False, [("sync", "all", "all"), ("nosync", "older", "all")]),
    System("WiredTiger (C)", "wiredtiger", False, [("fsync", "all", "all"), ("none", "older", "all")]),
    System("LevelDB (plyvel)", Leveldb, False, [("sync", "all", "all"), ("nosync", "older", "all")]),
    System("sqlite3", Sqlite, True, [("FULL", "all", "all"), ("NORMAL", "older", "all"), ("OFF", "broken", "all")]),
    System("diskcache", Diskcache, True, [("FULL", "all", "all"), ("NORMAL", "older", "all")]),
    System("sqlitedict", Sqlitedict, True, [("DELETE", "broken", "all")]),
    System("bsddb3", Berkeley, True, [("sync", "all", "all"), ("write_nosync", "older", "all")]),
    System("gdbm", Gdbm, False, [("sync", "broken", "between"), ("fast", "broken", "between")]),
    System("shelve", Shelve, False, [("default", "broken", "between")]),
    System("h5py", Hdf5, False, [("flush", "broken", "between")], 1000),
]


def system(name):
    return next(s for s in SYSTEMS if s.name == name)


def files(path):
    """Every file of a store, with what it takes."""
    for where, _, names in os.walk(path):
        for name in names:
            yield os.path.join(where, name)

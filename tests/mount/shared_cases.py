"""Keys that are published at each write (user.kvfs.publish, -o publish=write): one face for everybody in the mount."""
import errno
import mmap
import os
import sqlite3

from harness import Child, elsewhere, equal, fails, get, other_get, put, run


def shared_dir(b, *args):
    b.up('-o', 'durability=none', *args)
    os.mkdir(b.path('d'))
    os.setxattr(b.path('d'), 'user.kvfs.publish', b'write')
    return b.path('d/')


def test_each_write_is_seen_at_once(b):
    d = shared_dir(b)
    fd = os.open(d + 'k', os.O_RDWR | os.O_CREAT)
    equal(b.kvfs('get', 'd/k'), b'')
    os.write(fd, b'one')
    reader = Child({'open': lambda s, p: s.setdefault('fd', os.open(p, os.O_RDONLY)), 'read': lambda s: os.pread(s['fd'], 100, 0),
                    'size': lambda s: os.fstat(s['fd']).st_size})
    reader.do('open', d + 'k')
    equal(reader.do('read'), b'one')
    equal(b.kvfs('get', 'd/k'), b'one')
    os.write(fd, b' two')
    equal(reader.do('read'), b'one two')
    equal(reader.do('size'), 7)
    equal(b.kvfs('get', 'd/k'), b'one two')
    os.ftruncate(fd, 3)
    equal(reader.do('read'), b'one')
    equal(b.kvfs('get', 'd/k'), b'one')
    other = os.open(d + 'k', os.O_WRONLY | os.O_APPEND)
    os.write(other, b' end')
    equal(reader.do('read'), b'one end')
    equal(b.kvfs('get', 'd/k'), b'one end')
    elsewhere(put, d + 'k', b'anew')
    equal(os.pread(fd, 100, 0), b'anew')
    equal(reader.do('read'), b'anew')
    os.close(fd)
    os.close(other)
    reader.end()


def test_other_doors_reach_open_descriptors(b):
    d = shared_dir(b)
    put(d + 'k', b'mine')
    fd = os.open(d + 'k', os.O_RDWR)
    equal(os.pread(fd, 100, 0), b'mine')
    b.kvfs('put', 'd/k', 'theirs, and longer')
    equal(os.pread(fd, 100, 0), b'theirs, and longer')
    equal(os.fstat(fd).st_size, 18)
    os.pwrite(fd, b'OURS', 0)
    equal(b.kvfs('get', 'd/k'), b'OURSrs, and longer')
    os.close(fd)
    b.kvfs('put', 'd/k', 'while nobody has it open')
    equal(get(d + 'k'), b'while nobody has it open')


def test_shared_mappings_between_processes(b):
    d = shared_dir(b)
    put(d + 'k', bytes(8192))

    def write(at, data):
        fd = os.open(d + 'k', os.O_RDWR)
        with mmap.mmap(fd, 8192) as memory:
            memory[at:at + len(data)] = data
            os.close(fd)
    fd = os.open(d + 'k', os.O_RDWR)
    with mmap.mmap(fd, 8192) as memory:
        elsewhere(write, 5000, b'there')
        equal(memory[5000:5005], b'there')
        memory[0:4] = b'here'
        memory.flush()
    os.close(fd)
    equal(b.kvfs('get', 'd/k')[:4] + b.kvfs('get', 'd/k')[5000:5005], b'herethere')


def test_the_attribute(b):
    d = shared_dir(b)
    os.mkdir(d + 'sub')
    put(d + 'sub/k', b'x')
    equal(os.getxattr(d + 'sub/k', 'user.kvfs.publish'), b'write')
    b.kvfs('put', 'd/lib', 'y')
    equal(os.getxattr(d + 'lib', 'user.kvfs.publish'), b'write')
    fails(errno.EINVAL, os.setxattr, d + 'lib', 'user.kvfs.publish', b'sometimes')
    os.setxattr(d + 'lib', 'user.kvfs.publish', b'close')
    fd = os.open(d + 'lib', os.O_RDWR)
    os.pwrite(fd, b'z', 0)
    equal(other_get(d + 'lib'), b'y', 'private again')
    os.close(fd)
    equal(other_get(d + 'lib'), b'z')
    os.setxattr(d + 'lib', 'user.kvfs.publish', b'write')
    fd = os.open(d + 'lib', os.O_RDWR)
    os.pwrite(fd, b'w', 0)
    equal(other_get(d + 'lib'), b'w')
    os.unlink(d + 'lib')
    os.pwrite(fd, b'gone', 0)
    equal(os.pread(fd, 10, 0), b'gone')
    os.close(fd)
    put(b.path('outside'), b'x')
    fails(errno.ENODATA, os.getxattr, b.path('outside'), 'user.kvfs.publish')


def test_the_mount_option(b):
    b.up('-o', 'durability=none,publish=write')
    fd = os.open(b.path('k'), os.O_RDWR | os.O_CREAT)
    os.write(fd, b'now')
    equal(other_get(b.path('k')), b'now')
    os.close(fd)
    os.mkdir(b.mnt + '2')
    run(b.bin, 'mount', b.store, b.mnt + '2', '-o', 'publish=maybe', status=2)


def rows(path, who, count):
    db = sqlite3.connect(path, timeout=30, isolation_level=None)
    for i in range(count):
        db.execute('insert into t values (?, ?)', (who, i))
    db.close()


def test_sqlite_with_a_write_ahead_log(b):
    d = shared_dir(b)

    def make():
        db = sqlite3.connect(d + 'db', timeout=30, isolation_level=None)
        equal(db.execute('pragma journal_mode=wal').fetchone(), ('wal',))
        db.execute('create table t (who, i)')
    elsewhere(make)
    children = [Child({'rows': lambda s, who: rows(d + 'db', who, 60)}) for _ in range(2)]
    for child, who in zip(children, 'ab'):
        child.start('rows', who)
    for child in children:
        child.finish()
        child.end()
    db = sqlite3.connect(d + 'db', timeout=30, isolation_level=None)
    equal(db.execute('select who, count(*), count(distinct i) from t group by who').fetchall(), [('a', 60, 60), ('b', 60, 60)])
    equal(db.execute('pragma integrity_check').fetchone(), ('ok',))
    db.close()
    db = sqlite3.connect(d + 'db')
    equal(db.execute('select count(*) from t').fetchone(), (120,))


def test_private_sessions_of_before_are_seen(b):
    b.up()
    put(b.path('k'), b'0123456789')
    writer = Child({'write': lambda s: os.write(s.setdefault('fd', os.open(b.path('k'), os.O_RDWR)), b'AA'),
                    'close': lambda s: os.close(s['fd'])})
    writer.do('write')
    os.setxattr(b.path('k'), 'user.kvfs.publish', b'write')
    fd = os.open(b.path('k'), os.O_RDWR)
    equal(os.pread(fd, 100, 0), b'0123456789')
    writer.do('close')
    equal(get(b.path('k')), b'AA23456789')
    equal(os.pread(fd, 100, 0), b'AA23456789')
    os.close(fd)
    writer.end()

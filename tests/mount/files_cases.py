"""Contract, section 6: the mount is a file system; and of section 2, keys and their order."""
import ctypes
import errno
import mmap
import os
import socket
import stat
import subprocess
import time

from harness import elsewhere, equal, fails, get, other_get, put, run


def test_directories(b):
    b.up()
    os.makedirs(b.path('a/b/c'))
    put(b.path('a/b/c/k'), b'deep')
    equal(b.kvfs('get', 'a/b/c/k'), b'deep')
    fails(errno.ENOTEMPTY, os.rmdir, b.path('a/b'))
    fails(errno.EISDIR, os.open, b.path('a'), os.O_WRONLY)
    fails(errno.ENOTDIR, os.open, b.path('a/b/c/k/x'), os.O_RDONLY)
    fails(errno.ENOENT, os.open, b.path('a/x/k'), os.O_WRONLY | os.O_CREAT)
    fails(errno.EEXIST, os.mkdir, b.path('a'))
    fails(errno.EISDIR, os.unlink, b.path('a'))
    fails(errno.ENOTDIR, os.rmdir, b.path('a/b/c/k'))
    os.rename(b.path('a/b'), b.path('z'))
    equal(get(b.path('z/c/k')), b'deep')
    fails(errno.EINVAL, os.rename, b.path('z'), b.path('z/c/z'))
    equal(os.stat(b.path('z')).st_nlink, 3)
    equal(os.path.realpath(b.path('z/c/..')), b.path('z'))
    os.unlink(b.path('z/c/k'))
    os.removedirs(b.path('z/c'))
    equal(os.listdir(b.mnt), ['a'])


def test_removed_directory_that_is_still_used(b):
    b.up()
    os.mkdir(b.path('d'))
    fd = os.open(b.path('d'), os.O_RDONLY)
    os.rmdir(b.path('d'))
    equal(os.listdir(fd), [])
    try:
        os.open('k', os.O_WRONLY | os.O_CREAT, dir_fd=fd)
    except OSError as error:
        assert error.errno in (errno.ENOENT, errno.ESTALE), error
    else:
        raise AssertionError('a file was made in a directory that is gone')
    os.close(fd)


def test_names(b):
    b.up()
    long = 'n' * 255
    put(b.path(long), b'x')
    fails(errno.ENAMETOOLONG, os.open, b.path(long + 'n'), os.O_WRONLY | os.O_CREAT)
    odd = [b'\xff\xfe', b' ', b'a\nb', b'-rf', '\u00e4\u4e2d'.encode(), b'..x', b'$(x)']
    for name in odd:
        put(os.path.join(b.mnt.encode(), name), name)
    equal(sorted(os.listdir(b.mnt.encode())), sorted(odd + [long.encode()]))
    for name in odd:
        equal(get(os.path.join(b.mnt.encode(), name)), name)


def test_listing_is_in_byte_order(b):
    b.up()
    names = ['b', 'a', 'B', 'aa', 'a.b', 'ab', '\u00e4', '10', '9']
    for name in names:
        put(b.path(name), b'')
    equal([entry.name for entry in os.scandir(b.mnt)], sorted(names, key=str.encode))


def test_large_directory_with_deletions_while_listing(b):
    b.up()
    os.mkdir(b.path('d'))
    wanted = {f'name-{i:05d}-{"x" * (i % 50)}' for i in range(5000)}
    lines = [f'put d/{name} v\n' for name in wanted]
    for at in range(0, len(lines), 2500):
        b.kvfs('apply', data=''.join(lines[at:at + 2500]).encode())
    equal(set(os.listdir(b.path('d'))), wanted)
    seen = []
    for i, entry in enumerate(os.scandir(b.path('d'))):
        seen.append(entry.name)
        if i % 3 == 0:
            os.unlink(entry.path)
        assert entry.is_file()
    equal(len(seen), 5000)
    equal(set(seen), wanted)
    run('rm', '-r', b.path('d'))
    equal(os.listdir(b.mnt), [])


def test_seekdir(b):
    b.up()
    for i in range(3000):
        os.mkdir(b.path(f'{i:04d}'))
    program = r'''
use strict; opendir(my $d, $ARGV[0]) or die; my (@at, @name);
while (1) { push @at, telldir $d; my $n = readdir $d; last unless defined $n; push @name, $n; }
die scalar @name unless @name == 3002;
for my $i (2999, 5, 0, 1, 2, 1500, 3001) { seekdir $d, $at[$i]; my $n = readdir $d; die "$i $n" if $n ne $name[$i]; }
rewinddir $d; my $n = () = readdir $d; die $n if $n != 3002;
'''
    run('perl', '-e', program, b.mnt)


def test_links(b):
    b.up()
    put(b.path('a'), b'value')
    os.link(b.path('a'), b.path('b'))
    equal(os.stat(b.path('b')).st_nlink, 2)
    equal(os.stat(b.path('a')).st_ino, os.stat(b.path('b')).st_ino)
    put(b.path('b'), b'changed')
    equal(get(b.path('a')), b'changed')
    os.unlink(b.path('a'))
    equal(os.stat(b.path('b')).st_nlink, 1)
    fails(errno.EEXIST, os.link, b.path('b'), b.path('b'))
    os.mkdir(b.path('d'))
    fails(errno.EPERM, os.link, b.path('d'), b.path('d2'))
    os.symlink('b', b.path('s'))
    equal(os.readlink(b.path('s')), 'b')
    equal(get(b.path('s')), b'changed')
    put(b.path('s'), b'through')
    equal(get(b.path('b')), b'through')
    equal(os.lstat(b.path('s')).st_size, 1)
    os.symlink('x' * 4095, b.path('long'))
    equal(os.readlink(b.path('long')), 'x' * 4095)
    os.symlink('nowhere', b.path('dangling'))
    fails(errno.ENOENT, os.stat, b.path('dangling'))
    put(b.path('dangling'), b'made')
    equal(get(b.path('nowhere')), b'made')
    os.symlink('loop', b.path('loop'))
    fails(errno.ELOOP, os.stat, b.path('loop'))


def test_session_on_one_of_two_names(b):
    b.up()
    put(b.path('a'), b'value')
    os.link(b.path('a'), b.path('b'))
    fd = os.open(b.path('a'), os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b'longer than before')
    equal(elsewhere(os.stat, b.path('b')).st_size, 5)
    os.unlink(b.path('a'))
    os.close(fd)
    equal(get(b.path('b')), b'longer than before')


def test_special_files(b):
    b.up()
    os.mkfifo(b.path('fifo'), 0o640)
    equal(os.stat(b.path('fifo')).st_mode, stat.S_IFIFO | 0o640)
    reader = os.open(b.path('fifo'), os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(b.path('fifo'), os.O_WRONLY)
    os.write(writer, b'through')
    equal(os.read(reader, 99), b'through')
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(b.path('socket'))
    assert stat.S_ISSOCK(os.stat(b.path('socket')).st_mode)
    os.mknod(b.path('null'), 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    equal(os.stat(b.path('null')).st_rdev, os.makedev(1, 3))
    os.mknod(b.path('plain'), 0o600 | stat.S_IFREG)
    equal((get(b.path('plain')), os.stat(b.path('plain')).st_mode), (b'', stat.S_IFREG | 0o600))


def test_rename(b):
    b.up()
    put(b.path('a'), b'a')
    put(b.path('b'), b'b')
    fd = os.open(b.path('b'), os.O_RDONLY)
    os.rename(b.path('a'), b.path('b'))
    equal((get(b.path('b')), os.read(fd, 9), os.fstat(fd).st_nlink), (b'a', b'b', 0))
    os.mkdir(b.path('d'))
    os.mkdir(b.path('e'))
    fails(errno.EISDIR, os.rename, b.path('b'), b.path('d'))
    fails(errno.ENOTDIR, os.rename, b.path('d'), b.path('b'))
    os.rename(b.path('d'), b.path('e'))
    put(b.path('e/k'), b'')
    os.mkdir(b.path('d'))
    fails(errno.ENOTEMPTY, os.rename, b.path('d'), b.path('e'))
    os.rename(b.path('b'), b.path('b'))
    fails(errno.ENOENT, os.rename, b.path('none'), b.path('b'))
    run('mv', '--exchange' if b'--exchange' in run('mv', '--help') else '-n', b.path('b'), b.path('d'))


def test_open_but_unlinked(b):
    b.up()
    put(b.path('k'), b'0123456789')
    reader = os.open(b.path('k'), os.O_RDONLY)
    writer = os.open(b.path('k'), os.O_RDWR)
    os.unlink(b.path('k'))
    put(b.path('k'), b'another')
    os.pwrite(writer, b'XX', 4)
    equal(os.pread(writer, 99, 0), b'0123XX6789')
    os.ftruncate(writer, 5)
    equal(os.fstat(writer).st_size, 5)
    equal(os.pread(reader, 99, 0), b'0123456789')
    os.fchmod(reader, 0o600)
    os.fchmod(writer, 0o600)
    os.fsync(writer)
    os.close(writer)
    os.close(reader)
    equal(get(b.path('k')), b'another')


def test_attributes(b):
    b.up()
    p = b.path('k')
    old = os.umask(0o027)
    put(p, b'x')
    os.mkdir(b.path('d'))
    os.umask(old)
    equal((os.stat(p).st_mode & 0o7777, os.stat(b.path('d')).st_mode & 0o7777), (0o640, 0o750))
    before = os.stat(p)
    assert abs(before.st_mtime - time.time()) < 5
    os.chmod(p, 0o4711)
    equal(os.stat(p).st_mode & 0o7777, 0o4711)
    assert os.stat(p).st_ctime_ns > before.st_ctime_ns
    equal(os.stat(p).st_mtime_ns, before.st_mtime_ns)
    os.chown(p, 1, 2)
    equal((os.stat(p).st_uid, os.stat(p).st_gid), (1, 2))
    os.chmod(p, 0o6755)
    os.chown(p, 3, -1)
    equal((os.stat(p).st_uid, os.stat(p).st_mode & 0o7777), (3, 0o755))
    os.utime(p, ns=(1_000_000_001, 2_000_000_003))
    equal((os.stat(p).st_atime_ns, os.stat(p).st_mtime_ns), (1_000_000_001, 2_000_000_003))
    os.utime(p, ns=(-1_500_000_000, 4_294_967_296_123_456_789))
    equal((os.stat(p).st_atime_ns, os.stat(p).st_mtime_ns), (-1_500_000_000, 4_294_967_296_123_456_789))
    os.utime(p)
    assert abs(os.stat(p).st_mtime - time.time()) < 5
    get(p)
    equal(os.stat(p).st_blocks > 0, True)
    os.utime(p, (1, 1))
    with open(p, 'ab') as file:
        file.write(b'y')
    assert abs(os.stat(p).st_mtime - time.time()) < 5, 'publication sets mtime'
    with open(p, 'wb') as file:
        file.write(b'z')
        os.utime(file.fileno(), (5, 6))
    equal(os.stat(p).st_mtime, 6, 'unless the session set it')
    run('touch', '-d', '@77', p)
    equal((os.stat(p).st_mtime, get(p)), (77, b'z'))
    run('touch', b.path('touched'))
    equal(get(b.path('touched')), b'')


def test_setgid_and_sticky_directories(b):
    b.up('-o', 'allow_other')
    os.mkdir(b.path('shared'))
    os.chown(b.path('shared'), 0, 4242)
    os.chmod(b.path('shared'), 0o3777)
    put(b.path('shared/k'), b'')
    os.mkdir(b.path('shared/d'))
    os.symlink('x', b.path('shared/s'))
    equal([os.lstat(b.path('shared/' + name)).st_gid for name in 'kds'], [4242] * 3)
    equal(os.stat(b.path('shared/d')).st_mode & 0o2000, 0o2000)
    equal(os.stat(b.path('shared/k')).st_mode & 0o2000, 0)

    def as_user(uid, fn, *args):
        def change():
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            return fn(*args)
        return elsewhere(change)
    as_user(1001, put, b.path('shared/mine'), b'1001')
    equal(os.stat(b.path('shared/mine')).st_uid, 1001)
    fails(errno.EPERM, as_user, 1002, os.unlink, b.path('shared/mine'))
    fails(errno.EPERM, as_user, 1002, os.rename, b.path('shared/mine'), b.path('shared/yours'))
    fails(errno.EACCES, as_user, 1002, put, b.path('shared/mine'), b'')
    fails(errno.EACCES, as_user, 1002, put, b.path('top'), b'')
    fails(errno.EPERM, as_user, 1002, os.chmod, b.path('shared/mine'), 0o666)
    os.chmod(b.path('shared/mine'), 0o600)
    fails(errno.EACCES, as_user, 1002, get, b.path('shared/mine'))
    equal(as_user(1001, get, b.path('shared/mine')), b'1001')
    as_user(1001, os.unlink, b.path('shared/mine'))


def test_extended_attributes(b):
    b.up()
    put(b.path('k'), b'x')
    os.mkdir(b.path('d'))
    for name in ('k', 'd'):
        p = b.path(name)
        os.setxattr(p, 'user.one', b'1')
        os.setxattr(p, 'trusted.two', b'\0' * 60000)
        fails(errno.EEXIST, os.setxattr, p, 'user.one', b'', os.XATTR_CREATE)
        fails(errno.ENODATA, os.setxattr, p, 'user.none', b'', os.XATTR_REPLACE)
        fails(errno.ENODATA, os.getxattr, p, 'user.none')
        assert b'not supported' in run('setfacl', '-m', 'u:1:r', p, status=1)
        equal(sorted(os.listxattr(p)), ['trusted.two', 'user.one'])
        equal((os.getxattr(p, 'user.one'), len(os.getxattr(p, 'trusted.two'))), (b'1', 60000))
        os.removexattr(p, 'user.one')
        fails(errno.ENODATA, os.removexattr, p, 'user.one')
    put(b.path('k'), b'replaced')
    equal(os.listxattr(b.path('k')), ['trusted.two'])
    os.symlink('k', b.path('s'))
    os.setxattr(b.path('s'), 'trusted.link', b'l', follow_symlinks=False)
    equal(os.listxattr(b.path('s'), follow_symlinks=False), ['trusted.link'])
    for name in ('many', 'new'):
        fd = os.open(b.path(name), os.O_WRONLY | os.O_CREAT)
        if name == 'many':
            os.fsync(fd)  # it is published; the other is not
        for i in range(65536 // 255):
            os.setxattr(fd, f'user.{i:0249}', b'')
        fails(errno.ENOSPC, os.setxattr, fd, 'user.more', b'')
        equal(len(os.listxattr(fd)), 257, 'what could be set can be listed')
        os.close(fd)
    run('setcap', 'cap_net_raw+ep', b.path('k'))
    equal(sorted(os.listxattr(b.path('k'))), ['security.capability', 'trusted.two'])


def test_sparse_values(b):
    b.up()
    fd = os.open(b.path('k'), os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 1 << 40)
    os.pwrite(fd, b'data', 1 << 30)
    equal(os.lseek(fd, 0, os.SEEK_DATA) <= 1 << 30, True)
    equal(os.lseek(fd, 0, os.SEEK_DATA) > (1 << 30) - (1 << 20), True)
    os.close(fd)
    st = os.stat(b.path('k'))
    equal((st.st_size, st.st_blocks * 512 < 1 << 20), (1 << 40, True))
    fd = os.open(b.path('k'), os.O_RDONLY)
    data = os.lseek(fd, 0, os.SEEK_DATA)
    hole = os.lseek(fd, data, os.SEEK_HOLE)
    assert (1 << 30) - (1 << 20) < data <= 1 << 30 and (1 << 30) + 4 <= hole < (1 << 30) + (1 << 20), (data, hole)
    equal(os.lseek(fd, 0, os.SEEK_HOLE), 0)
    fails(errno.ENXIO, os.lseek, fd, hole, os.SEEK_DATA)
    equal(os.pread(fd, 6, (1 << 30) - 1), b'\0data\0')
    os.close(fd)
    run('cp', '--sparse=auto', b.path('k'), b.path('copy'))
    equal(os.stat(b.path('copy')).st_size, 1 << 40)


def test_fallocate(b):
    b.up()
    fd = os.open(b.path('k'), os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(fd, 0, 100_000)
    equal(os.fstat(fd).st_size, 100_000)
    os.pwrite(fd, b'x' * 100_000, 0)
    punch_and_keep = 3
    equal(ctypes.CDLL(None).fallocate(fd, punch_and_keep, ctypes.c_long(10), ctypes.c_long(50_000)), 0)
    equal(os.pread(fd, 100_000, 0), b'x' * 10 + b'\0' * 50_000 + b'x' * 49_990)
    os.close(fd)
    equal(os.stat(b.path('k')).st_size, 100_000)
    run('fallocate', '--zero-range', '-o', '90000', '-l', '20000', b.path('k'))
    equal(get(b.path('k'))[-20_000:], b'\0' * 20_000)
    equal(os.stat(b.path('k')).st_size, 110_000)
    run('fallocate', '--keep-size', '-l', '500000', b.path('k'))
    equal(os.stat(b.path('k')).st_size, 110_000)


def test_punched_hole_reads_zero(b):
    b.up()
    put(b.path('k'), b'x' * 200_000)
    run('fallocate', '--punch-hole', '-o', '1000', '-l', '150000', b.path('k'))
    equal(get(b.path('k')), b'x' * 1000 + b'\0' * 150_000 + b'x' * 49_000)


def test_truncate(b):
    b.up()
    p = b.path('k')
    put(p, b'0123456789')
    os.truncate(p, 4)
    equal(get(p), b'0123')
    os.truncate(p, 8)
    equal(get(p), b'0123\0\0\0\0')
    with open(p, 'r+b') as file:
        file.truncate(2)
        equal(other_get(p), b'0123\0\0\0\0')
        file.seek(4)
        file.write(b'x')
    equal(get(p), b'01\0\0x')
    fails(errno.EISDIR, os.truncate, b.mnt, 0)
    fails(errno.ENOENT, os.truncate, b.path('none'), 0)
    fd = os.open(p, os.O_RDONLY | os.O_TRUNC)
    os.close(fd)
    equal(get(p), b'')


def test_what_has_no_key_is_missed_aloud(b):
    """Relative names may go on for ever."""
    b.up('-o', 'durability=none')
    name = 'n' * 200
    at = os.open(b.mnt, os.O_RDONLY)
    for _ in range(20):
        os.mkdir(name, dir_fd=at)
        at = os.open(name, os.O_RDONLY, dir_fd=at)
    os.close(os.open('n' * 75, os.O_WRONLY | os.O_CREAT, dir_fd=at))
    longest = '/'.join([name] * 20 + ['n' * 75])
    equal(len(longest), 4095)
    assert longest.encode() in b.kvfs('ls', '-R').split()
    b.kvfs('export', '/', b.base + '/out')
    with open(os.open('n' * 76, os.O_WRONLY | os.O_CREAT, dir_fd=at), 'wb') as file:
        file.write(b'deep')
    with open(os.open('n' * 76, os.O_RDONLY, dir_fd=at), 'rb') as file:
        equal(file.read(), b'deep')
    put(b.path('before'), b'1')
    put(b.path('o'), b'2')
    for args in ('ls', '-R'), ('export', '/', b.base + '/out2'):
        assert b'too long' in b.kvfs(*args, status=2), args
    equal(sorted(os.listdir(b.base + '/out2')), ['before', name, 'o'], 'all the rest')
    listed = subprocess.run([b.bin, '-s', b.store, 'ls', '-R'], capture_output=True, check=False).stdout.split()
    equal((listed[0], listed[-1], len(listed)), (b'before', b'o', 23))
    b.kvfs('del', 'before', 'o')
    b.kvfs('del', '-r', name)
    equal(b.kvfs('ls'), b'')


def test_large_values(b):
    b.up()
    block = os.urandom(1 << 20)
    with open(b.path('k'), 'wb') as file:
        for i in range(40):
            file.write(block[i:] + block[:i])
    with open(b.path('k'), 'rb') as file:
        for i in range(40):
            assert file.read(1 << 20) == block[i:] + block[:i], i
    with open(b.path('k'), 'r+b') as file:
        file.seek(20 << 20)
        file.write(b'middle')
    with open(b.path('k'), 'rb') as file:
        file.seek((20 << 20) - 1)
        equal(file.read(8), block[18:19] + b'middle' + (block[20:] + block[:20])[6:7])
    equal(os.stat(b.path('k')).st_size, 40 << 20)
    os.unlink(b.path('k'))


def test_shared_mapping_is_written(b):
    b.up()
    put(b.path('k'), b'.' * 20_000)
    fd = os.open(b.path('k'), os.O_RDWR)
    with mmap.mmap(fd, 0) as view:
        view[5000:5005] = b'first'
        equal(other_get(b.path('k')), b'.' * 20_000)
        view.flush()
        equal(other_get(b.path('k'))[5000:5005], b'first', 'msync publishes')
        view[10000:10006] = b'second'
    os.close(fd)
    equal(get(b.path('k'))[10000:10006], b'second')
    equal(len(get(b.path('k'))), 20_000)


def test_mapping_that_outlives_its_descriptor(b):
    b.up()
    fd = os.open(b.path('k'), os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 8192)
    view = mmap.mmap(fd, 0)
    os.close(fd)
    view[0:5] = b'later'
    view.close()
    for _ in range(200):
        if os.path.exists(b.path('k')) and get(b.path('k'))[:5] == b'later':
            break
        time.sleep(0.01)
    equal(get(b.path('k'))[:5], b'later')


def test_statfs(b):
    b.up()
    st = os.statvfs(b.mnt)
    assert st.f_bsize >= 512 and st.f_blocks > 0 and st.f_bavail <= st.f_bfree <= st.f_blocks, st
    equal(st.f_namemax, 255)


def test_sync(b):
    b.up()
    put(b.path('k'), b'x')
    for name in ('k', ''):
        fd = os.open(b.path(name), os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
    run('sync', '-f', b.path('k'))

"""Contract, section 4: a reader holds a snapshot."""
import mmap
import os
import threading
import time

from harness import elsewhere, equal, get, put, run


def test_reader_keeps_what_it_opened(b):
    b.up()
    put(b.path('k'), b'first value')
    fd = os.open(b.path('k'), os.O_RDONLY)
    equal(os.read(fd, 5), b'first')
    for i in range(50):
        put(b.path('k'), b'x' * (i * 1000))
    equal(os.read(fd, 99), b' value')
    equal(os.fstat(fd).st_size, 11)
    equal(os.pread(fd, 99, 0), b'first value')
    equal(os.lseek(fd, 0, os.SEEK_END), 11)
    os.unlink(b.path('k'))
    equal(os.pread(fd, 99, 0), b'first value')
    equal((os.fstat(fd).st_size, os.fstat(fd).st_nlink), (11, 0))
    os.close(fd)


def test_large_snapshots_survive_replacement_and_deletion(b):
    b.up()
    size = 3_000_000
    fds = []
    for i in range(8):
        put(b.path('k'), bytes([65 + i]) * size)
        fds.append(os.open(b.path('k'), os.O_RDONLY))
    b.kvfs('put', 'k', 'through another door')
    b.kvfs('del', 'k')
    for i in range(20):  # what frees space for others must leave these alone
        put(b.path('other'), os.urandom(1_000_000))
    run('sh', '-c', 'echo 3 > /proc/sys/vm/drop_caches')
    for i, fd in enumerate(fds):
        equal(os.fstat(fd).st_size, size)
        for offset in (0, size // 2, size - 10):
            equal(os.pread(fd, 10, offset), bytes([65 + i]) * 10)
        os.close(fd)


def test_size_does_not_leak_by_any_call(b):
    b.up()
    put(b.path('k'), b'1' * 10)
    fd = os.open(b.path('k'), os.O_RDONLY)
    put(b.path('k'), b'2' * 5000)
    equal(os.stat(b.path('k')).st_size, 5000)
    equal(os.fstat(fd).st_size, 10)
    equal(os.read(fd, 9999), b'1' * 10)
    equal(os.stat(b.path('k')).st_size, 5000)
    os.truncate(b.path('k'), 3)
    equal(os.fstat(fd).st_size, 10)
    equal(os.pread(fd, 9999, 0), b'1' * 10)
    equal(get(b.path('k')), b'222')
    out = b.base + '/out'
    with open(out, 'wb') as file:
        equal(os.sendfile(file.fileno(), fd, 0, 9999), 10)
    equal(get(out), b'1' * 10)
    os.close(fd)


def test_mappings_are_snapshots(b):
    b.up()
    put(b.path('k'), b'one' * 10000)
    fd = os.open(b.path('k'), os.O_RDONLY)
    shared = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
    private = mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    os.close(fd)
    put(b.path('k'), b'x')
    os.truncate(b.path('k'), 0)
    run('sh', '-c', 'echo 3 > /proc/sys/vm/drop_caches')
    equal(shared[:], b'one' * 10000)
    equal(private[29000:29004], (b'one' * 10000)[29000:29004])
    private[0:3] = b'own'
    equal(get(b.path('k')), b'')
    os.unlink(b.path('k'))
    run('sh', '-c', 'echo 3 > /proc/sys/vm/drop_caches')
    equal(shared[29990:], (b'one' * 10000)[29990:])


def test_mapped_while_others_truncate(b):
    b.up()
    put(b.path('k'), b'm' * 100_000)

    def reader():
        fd = os.open(b.path('k'), os.O_RDONLY)
        view = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
        for i in range(50):
            elsewhere(os.truncate, b.path('k'), i)
            equal(view[i * 2000], ord('m'))
        return True
    assert elsewhere(reader)


def test_reader_by_proc_link_reads_the_newest(b):
    b.up()
    put(b.path('k'), b'old')
    fd = os.open(b.path('k'), os.O_RDONLY)
    put(b.path('k'), b'the newest')
    equal(get(f'/proc/self/fd/{fd}'), b'the newest')
    equal(os.read(fd, 99), b'old')
    with open(f'/proc/self/fd/{fd}', 'r+b') as file:
        file.write(b'THE')
    equal(get(b.path('k')), b'THE newest')
    os.truncate(f'/proc/self/fd/{fd}', 3)
    equal(get(b.path('k')), b'THE')
    equal(os.pread(fd, 99, 0), b'old')
    os.close(fd)


def test_path_descriptors(b):
    b.up()
    put(b.path('k'), b'1')
    fd = os.open(b.path('k'), os.O_PATH)
    put(b.path('k'), b'22')
    equal(os.fstat(fd).st_size, 2)
    equal(get(f'/proc/self/fd/{fd}'), b'22')
    os.unlink(b.path('k'))
    os.close(fd)


def test_no_stale_handle_ever_reaches_the_user(b):
    """Many readers and statters against writers that replace, remove and rename: ESTALE is the mount's affair."""
    b.up()
    names = [b.path(f'k{i}') for i in range(3)]
    for name in names:
        put(name, b'v')
    until = time.monotonic() + 3

    def read():
        count = 0
        while time.monotonic() < until:
            for name in names:
                try:
                    data = get(name)
                    assert data == b'v' * len(data) and data, data
                    os.stat(name)
                except FileNotFoundError:
                    pass
                count += 1
        return count

    def write():
        count = 0
        while time.monotonic() < until:
            for name in names:
                count += 1
                put(name, b'v' * (count % 5000 + 1))
                try:
                    if count % 7 == 0:
                        put(name + '.tmp', b'v')
                        os.replace(name + '.tmp', name)
                    if count % 11 == 0:
                        os.truncate(name, 1)
                    if count % 13 == 0:
                        os.unlink(name)
                    with open(name, 'ab') as file:
                        file.write(b'v')
                except FileNotFoundError:
                    pass
        return count
    results = []

    def job(fn):
        try:
            results.append(elsewhere(fn))
        except Exception as error:  # noqa: B902 shown below
            results.append(error)
    threads = [threading.Thread(target=job, args=(fn,)) for fn in (write, write, read, read, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(results)
    assert all(isinstance(result, int) and result > 10 for result in results), results


def test_tail_sees_appended_records(b):
    b.up()
    put(b.path('log'), b'')
    for i in range(5):
        with open(b.path('log'), 'a') as file:
            file.write(f'{i}\n')
        equal(run('tail', '-n', '1', b.path('log')), f'{i}\n'.encode())


def test_what_was_just_published_is_followed(b):
    b.up()
    for i in range(3):
        put(b.path('log'), b'first')
        fd = os.open(b.path('log'), os.O_RDONLY)
        with open(b.path('log'), 'ab', buffering=0) as log:
            log.write(b'second')
        equal(os.pread(fd, 100, 0), b'firstsecond', i)
        os.close(fd)

"""What an operation costs: the requests that the kernel sends to the mount, counted.  A round trip takes tens of microseconds and its count
does not vary, so the counts are promises: warm, uncontended, one process.

Warm: whatever of the path the kernel may keep, it has.  What a do-nothing file system cannot avoid either: after a name of a directory was
made, removed or expired, the kernel asks for the directory's attributes at the next walk through it (it checks permission by them); after
an uncached read, for those of what was read, at the next stat, since atime may have changed.  warm() has that behind it.

Files are opened by system calls alone: Python's open() adds an ioctl and an fstat."""
import os
from collections import Counter

from harness import Door, elsewhere, equal, run

READ = os.O_RDONLY
OVER = os.O_WRONLY | os.O_TRUNC
NEW = os.O_WRONLY | os.O_CREAT
ONE = 128 << 10  # the kernel's largest read ahead


def at_most(limit, seen, what=''):
    assert len(seen) <= limit, f'{what}: {len(seen)} requests, not {limit}: {" ".join(seen[:40])}; {dict(Counter(seen))}'


def only(wanted, seen, what=''):
    extra = [name for name in seen if name not in wanted]
    assert not extra, f'{what}: {" ".join(seen[:40])}: not only {" ".join(sorted(wanted))}; {dict(Counter(seen))}'


def read_whole(path):
    """As cat does: until a read says that the end has come."""
    fd = os.open(path, READ)
    try:
        data = b''
        while True:
            piece = os.read(fd, 1 << 20)
            if not piece:
                return data
            data += piece
    finally:
        os.close(fd)


def write_whole(path, flags, *pieces):
    fd = os.open(path, flags, 0o644)
    try:
        for piece in pieces:
            os.write(fd, piece)
    finally:
        os.close(fd)


def warm(*paths):
    """The kernel knows the attributes of these, and of the directory that they are in."""
    for path in paths:
        os.stat(os.path.dirname(path))
        os.stat(path)


def stored(b, **values):
    """A store with these values in directory d, put there before the mount is up, and the requests of the mount; d is warm."""
    b.up()
    b.down()
    door = Door(b.store)
    for name, value in values.items():
        door.put(f'd/{name}', value)
    door.end()
    requests = b.up_told()
    warm(b.path('d'))
    return requests


def test_stat_again_is_free(b):
    requests = stored(b, k=b'value')
    path = b.path('d/k')
    warm(path)
    equal(requests.of(os.stat, path), [])
    read_whole(path)
    warm(path)
    equal(requests.of(os.stat, path), [], 'after a read')


def test_read_again_is_one_open(b):
    for size in (0, 100, 4096, ONE):
        value = os.urandom(size)
        name = f'k{size}'
        requests = stored(b, **{name: value})
        path = b.path('d/' + name)
        equal(read_whole(path), value)
        equal(requests.of(read_whole, path), ['OPEN'], f'{size} bytes')
        equal(requests.of(read_whole, path), ['OPEN'], f'{size} bytes, a third time')
        equal(read_whole(path), value)
        b.down()
        b.told.wait(10)


def test_a_large_value_read_again_is_one_open(b):
    """Its pages stay in the kernel for as long as there is memory; so do those of small ones."""
    def read(path):
        with open(path, 'rb', 0) as file:
            while file.read(1 << 20):
                pass
    requests = stored(b, k=b'')
    path = b.path('d/k')
    os.truncate(path, 300 << 20)
    read(path)
    for _ in range(4):  # a kernel that reclaims what is idle may just have taken some
        seen = requests.of(read, path)
        if 'READ' not in seen:
            break
    only({'OPEN', 'GETATTR'}, seen)
    os.unlink(path)


def test_first_read_is_three(b):
    sizes = (100, 4096, 100_000, ONE)
    requests = stored(b, **{f'k{size}': b'%07d' % size * (size // 7) + b'.' * (size % 7) for size in sizes})
    for size in sizes:
        at_most(3, requests.of(read_whole, b.path(f'd/k{size}')), f'{size} bytes')


def test_first_read_after_an_overwrite_is_four(b):
    """The overwrite has expired the name: the directory's attributes, LOOKUP, OPEN, READ."""
    requests = stored(b, k=b'old')
    path = b.path('d/k')
    read_whole(path)
    write_whole(path, OVER, b'new value')
    at_most(4, requests.of(read_whole, path))
    equal(requests.of(read_whole, path), ['OPEN'])
    equal(read_whole(path), b'new value')


def test_overwrite_is_five(b):
    requests = stored(b, k=b'old')
    path = b.path('d/k')
    for size in (100, 4096, 1 << 19):
        warm(path)
        at_most(5, requests.of(write_whole, path, OVER, b'v' * size), f'{size} bytes')
    read_whole(path)
    warm(path)
    at_most(5, requests.of(write_whole, path, OVER, b'after a read'), 'after a read')
    equal(b.kvfs('get', 'd/k'), b'after a read')


def test_overwrites_in_a_row_are_five(b):
    """The name stays true; the attributes that open(2) is allowed by are asked for again, for the last one had them forgotten."""
    requests = stored(b, k=b'old')
    path = b.path('d/k')
    for turn in range(4):
        at_most(5, requests.of(write_whole, path, OVER, b'%d' % turn), f'turn {turn}')
    equal(b.kvfs('get', 'd/k'), b'3')


def test_each_further_write_is_one(b):
    requests = stored(b, k=b'old')
    path = b.path('d/k')
    warm(path)
    at_most(5 + 9, requests.of(write_whole, path, OVER, *[b'a line\n'] * 10))
    warm(path)
    at_most(4 + 9, requests.of(write_whole, b.path('d/new'), NEW, *[b'a line\n'] * 10), 'of a new key')
    equal(b.kvfs('get', 'd/k'), b'a line\n' * 10)


def test_overwrite_beside_a_reader_is_eight(b):
    requests = stored(b, k=b'old')
    path = b.path('d/k')
    reader = os.open(path, READ)
    equal(os.read(reader, 99), b'old')
    warm(path)
    at_most(5 + 3, requests.of(write_whole, path, OVER, b'new'))
    equal(os.pread(reader, 99, 0), b'old')
    os.close(reader)
    equal(read_whole(path), b'new')


def test_create_is_four(b):
    requests = stored(b, other=b'')
    write_whole(b.path('d/first'), NEW, b'x')
    for i in range(3):
        warm(b.path('d'))
        at_most(4, requests.of(write_whole, b.path(f'd/new{i}'), NEW, b'value'))
    warm(b.path('d'))
    at_most(4, requests.of(write_whole, b.path('d/excl'), NEW | os.O_EXCL, b'value'), 'O_EXCL')
    equal(b.kvfs('get', 'd/new2'), b'value')


def test_absent_again_is_free(b):
    requests = stored(b, k=b'')
    path = b.path('d/none')
    equal(os.path.exists(path), False)
    equal(os.path.exists(path), False)
    equal(requests.of(os.path.exists, path), [], 'from the third time on')
    write_whole(path, NEW, b'x')
    equal(os.path.exists(path), True, 'a name that was absent and now is there')
    os.unlink(path)
    os.path.exists(path)
    os.path.exists(path)
    equal(requests.of(os.path.exists, path), [], 'after an unlink')


def stat_each(path):
    with os.scandir(path) as entries:
        return {entry.name: entry.stat().st_size for entry in entries}


def test_listing_with_attributes_asks_nothing_of_an_entry(b):
    count = 300
    requests = stored(b, **{f'k{i:03}': b'x' * i for i in range(count)})
    seen = requests.of(stat_each, b.path('d'))
    only({'OPENDIR', 'READDIRPLUS', 'READDIR'}, seen, 'scandir and stat')
    warm(b.path('d'))
    equal(requests.of(stat_each, b.path('d')), ['OPENDIR'], 'again')
    equal(stat_each(b.path('d')), {f'k{i:03}': i for i in range(count)})


def test_ls_l_asks_nothing_of_an_entry(b):
    requests = stored(b, **{f'k{i:03}': b'x' * i for i in range(300)})
    seen = requests.of(run, 'ls', '-l', b.path('d'))
    only({'OPENDIR', 'READDIRPLUS', 'READDIR', 'GETXATTR', 'GETATTR'}, seen, 'ls -l')
    # It asks for labels and ACLs, but no more on a device that says once that it has none.
    aside = [name for name in seen if not name.startswith('READDIR')]
    at_most(8, aside, 'beside the reading')


def test_reading_a_directory_again_is_one_opendir(b):
    requests = stored(b, **{f'k{i:03}': b'' for i in range(300)})
    wanted = os.listdir(b.path('d'))
    warm(b.path('d'))
    equal(requests.of(os.listdir, b.path('d')), ['OPENDIR'])
    equal(os.listdir(b.path('d')), wanted)
    write_whole(b.path('d/new'), NEW, b'x')
    equal(sorted(os.listdir(b.path('d'))), sorted([*wanted, 'new']), 'after a change')
    warm(b.path('d'))
    equal(requests.of(os.listdir, b.path('d')), ['OPENDIR'], 'after a change')


def test_rm_r_is_two_for_a_file(b):
    b.up()
    dirs, each = 4, 50
    for i in range(dirs):
        os.makedirs(b.path(f'd/{i}'))
        for j in range(each):
            write_whole(b.path(f'd/{i}/k{j:02}'), NEW, b'x')
    b.down()
    requests = b.up_told()
    warm(b.path('d'))
    seen = requests.of(run, 'rm', '-r', b.path('d'))
    assert len(seen) <= 2 * dirs * each + 12 * (dirs + 1), f'{len(seen)} requests: {dict(Counter(seen))}'
    equal(os.listdir(b.mnt), [])


def test_a_stranger_is_led_away_from_a_session(b):
    """Told the old size under the session's id, the kernel would take it for the session's, and later for that of what it published:
    readers saw zeros to there once in a million reads beside writers and other doors."""
    requests = stored(b, k=b'o' * 79)
    path = b.path('d/k')
    warm(path)
    fd = os.open(path, OVER)
    os.write(fd, b'n' * 225)
    seen = requests.of(lambda: equal(elsewhere(lambda: os.stat(path).st_size), 79))
    assert 'LOOKUP' in seen, seen
    os.close(fd)
    equal(elsewhere(lambda: os.stat(path).st_size), 225)

"""Contract, section 1: what one door commits, every other sees by the next call.  The kernel answers stat, lookups and reads from its caches
without asking, so the mount must have dropped what the other door changed before that door's call returns.

KVFS_ALTERNATIONS   2000; 100000 is the long form"""
import calendar
import collections
import concurrent.futures
import errno
import json
import mmap
import os
import stat
import time

from harness import Door, elsewhere, equal, fails, get, put

TURNS = int(os.environ.get('KVFS_ALTERNATIONS', '2000'))
FAST = ('-o', 'durability=none')


def value_of(turn):
    """Of a size that often stays and often changes, so that neither size nor time gives a change away."""
    size = (0, 7, 100, 100, 100, 5000, 4096, 70_000)[turn // 3 % 8]
    return (b'%d ' % turn * (size // 2 + 1))[:size] if size > 100 else b'%07d' % turn + b'x' * (size - 7) if size else b''


def look(path, value, turn):
    """cat, stat and ls."""
    equal(os.stat(path).st_size, len(value), f'stat in turn {turn}')
    equal(get(path), value, f'read in turn {turn}')
    equal(os.stat(path).st_size, len(value), f'stat after the read in turn {turn}')
    if turn % 8 == 0:
        names = os.listdir(os.path.dirname(path))
        assert os.path.basename(path) in names, f'{names} in turn {turn}'


def alternate(b, door, paths, turns):
    """The library and each path in turn publish; all others look."""
    for turn in range(turns):
        value = value_of(turn)
        writer = turn % (len(paths) + 1)
        if writer == len(paths):
            door.put('d/k', value)
        else:
            put(paths[writer], value)
        equal(door.get('d/k'), value, f'the library in turn {turn}')
        equal(door.size('d/k'), len(value), f'its size in turn {turn}')
        for path in paths:
            look(path, value, turn)


def test_library_and_mount_alternate(b):
    b.up(*FAST)
    door = Door(b.store)
    door.put('d/k', b'first')
    alternate(b, door, [b.path('d/k')], TURNS)
    door.end()


def test_library_and_two_mounts_alternate(b):
    b.up(*FAST)
    b.up(*FAST, mnt=b.base + '/other')
    door = Door(b.store)
    door.put('d/k', b'first')
    alternate(b, door, [b.path('d/k'), b.base + '/other/d/k'], TURNS)
    door.end()


def test_a_second_mount_that_comes_and_goes(b):
    b.up(*FAST)
    door = Door(b.store)
    for turn in range(4):
        alternate(b, door, [b.path('d/k')] if turn else [b.path('d/k')][:0], 20)
        b.up(*FAST, mnt=b.base + '/other')
        alternate(b, door, [b.path('d/k'), b.base + '/other/d/k'], 20)
        b.down(b.base + '/other')
    door.end()


def test_the_other_way_in_another_process(b):
    """The reader is not the process that wrote: nothing of a session's privileges can help it."""
    b.up(*FAST)
    door = Door(b.store)
    for turn in range(TURNS // 20):
        value = value_of(turn)
        door.put('k', value)
        equal(elsewhere(lambda: (os.stat(b.path('k')).st_size, get(b.path('k')))), (len(value), value))
        value = value[::-1] + b'.'
        elsewhere(put, b.path('k'), value)
        equal(door.get('k'), value)
        equal(elsewhere(lambda: (os.stat(b.path('k')).st_size, get(b.path('k')))), (len(value), value))
    door.end()


def mounts(b, count):
    paths = [b.mnt, b.base + '/other'][:count]
    for path in paths:
        b.up(*FAST, mnt=path)
    return paths


def absent(path):
    fails(errno.ENOENT, os.stat, path)
    fails(errno.ENOENT, os.open, path, os.O_RDONLY)
    assert os.path.basename(path) not in os.listdir(os.path.dirname(path))


def present(path, value):
    equal(os.stat(path).st_size, len(value))
    equal(get(path), value)
    equal(os.listdir(os.path.dirname(path)).count(os.path.basename(path)), 1)


def name_changes(b, count):
    paths = mounts(b, count)
    door = Door(b.store)
    door.put('d/stays', b'here')
    for turn in range(max(TURNS // 20, 50)):
        value = b'%d' % turn
        for path in paths:
            absent(path + '/d/k')
        door.put('d/k', value)
        for path in paths:
            present(path + '/d/k', value)
            absent(path + '/d/moved')
        door.must('mv', 'd/k', 'd/moved')
        for path in paths:
            absent(path + '/d/k')
            present(path + '/d/moved', value)
        door.must('swap', 'd/moved', 'd/stays')
        for path in paths:
            present(path + '/d/moved', b'here')
            present(path + '/d/stays', value)
        door.must('mv', 'd/moved', 'd/stays')  # over a name whose value the kernel holds
        for path in paths:
            absent(path + '/d/moved')
            present(path + '/d/stays', b'here')
    door.end()


def test_names_made_moved_and_removed_by_the_library(b):
    name_changes(b, 1)


def test_names_made_moved_and_removed_by_the_library_and_two_mounts(b):
    name_changes(b, 2)


def test_names_changed_in_one_mount_are_seen_in_the_other(b):
    here, there = mounts(b, 2)
    door = Door(b.store)
    os.mkdir(here + '/d')
    for turn in range(max(TURNS // 20, 50)):
        value = b'%d' % turn
        absent(there + '/d/k')
        put(here + '/d/k', value)
        present(there + '/d/k', value)
        os.rename(here + '/d/k', here + '/d/moved')
        absent(there + '/d/k')
        present(there + '/d/moved', value)
        equal(door.ls('d'), ['moved'])
        os.unlink(there + '/d/moved')
        absent(here + '/d/moved')
        here, there = there, here
    door.end()


def test_directories_made_and_removed_by_the_library(b):
    paths = mounts(b, 2)
    door = Door(b.store)
    for turn in range(50):
        for path in paths:
            fails(errno.ENOENT, os.stat, path + '/d/e/k')
            equal(os.listdir(path), [])
        door.put('d/e/k', b'x')
        for path in paths:
            equal(os.listdir(path), ['d'])
            equal(os.listdir(path + '/d/e'), ['k'])
        door.must('mv', 'd', 'f')
        for path in paths:
            fails(errno.ENOENT, os.stat, path + '/d/e/k')
            equal(get(path + '/f/e/k'), b'x')
            equal(os.listdir(path), ['f'])
        door.must('mkdir', 'd')
        for path in paths:
            equal(sorted(os.listdir(path)), ['d', 'f'])
            equal(os.stat(path + '/d').st_nlink, 2)
        door.must('del', 'd')
        door.must('del', 'f/e/k')  # takes the directories that it made along
    door.end()


def test_attributes_changed_by_the_library(b):
    paths = mounts(b, 2)
    door = Door(b.store)
    door.put('k', b'x')
    for turn in range(max(TURNS // 20, 50)):
        mode = (0o600, 0o644, 0o400, 0o755)[turn % 4]
        door.must('chmod', 'k', f'{mode:o}')
        for path in paths:
            equal(stat.S_IMODE(os.stat(path + '/k').st_mode), mode, path)
        os.chmod(paths[turn % 2] + '/k', 0o640)
        for path in paths:
            equal(stat.S_IMODE(os.stat(path + '/k').st_mode), 0o640, path)
        equal(stat.S_IMODE(door.mode('k')), 0o640)
    door.end()


def test_appends_by_the_library_are_seen(b):
    paths = mounts(b, 2)
    door = Door(b.store)
    wanted = b''
    for turn in range(TURNS // 10):
        record = b'%d\n' % turn * (turn % 40 + 1)
        if turn % 3:
            door.append('log', record)
        else:
            fd = os.open(paths[turn // 3 % 2] + '/log', os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            os.write(fd, record)
            os.close(fd)
        wanted += record
        for path in paths:
            equal(os.stat(path + '/log').st_size, len(wanted), f'turn {turn}, {path}')
            equal(get(path + '/log'), wanted, f'turn {turn}, {path}')
        equal(door.get('log'), wanted)
    door.end()


def test_what_is_open_keeps_its_value_beside_the_library(b):
    b.up(*FAST)
    door = Door(b.store)
    held = []
    for turn in range(60):
        value = b'%04d' % turn * 3000
        door.put('k', value)
        fd = os.open(b.path('k'), os.O_RDONLY)
        held.append((fd, mmap.mmap(fd, 0, prot=mmap.PROT_READ), value))
        equal(get(b.path('k')), value)
    for fd, mapped, value in held:
        equal(os.fstat(fd).st_size, len(value))
        equal(os.pread(fd, 1 << 20, 0), value)
        equal(mapped[:], value)
        mapped.close()
        os.close(fd)
    door.end()


def test_the_command_changes_what_the_kernel_keeps(b):
    b.up(*FAST)
    for turn in range(25):
        value = value_of(turn)
        b.kvfs('put', 'k', data=value)
        look(b.path('k'), value, turn)
    b.kvfs('del', 'k')
    absent(b.path('k'))


def test_a_value_that_lost_the_name_it_was_known_by(b):
    b.up('-o', 'durability=none')
    for turn in range(3):
        put(b.path('first'), b'old')
        os.link(b.path('first'), b.path('second'))
        os.unlink(b.path('second' if turn == 1 else 'first'))
        name = 'first' if turn == 1 else 'second'
        for _ in range(2):
            equal(os.stat(b.path(name)).st_size, 3)
        reader = os.open(b.path(name), os.O_RDONLY)
        b.kvfs('put', name, 'anew, and longer')
        equal(os.stat(b.path(name)).st_size, 16)
        equal(get(b.path(name)), b'anew, and longer')
        equal(os.pread(reader, 100, 0), b'old')
        os.close(reader)
        os.unlink(b.path(name))


def test_attributes_beside_a_session_that_took_over(b):
    """Whatever it does, others see the published attributes while it lasts, and the new ones after, also who had not looked in between."""
    b.up()
    source = b.path('source')
    put(source, b's' * 5000)

    def copy(fd):
        with open(source, 'rb') as file:
            os.copy_file_range(file.fileno(), fd, 3000)

    changes = {
        'cut': (os.O_TRUNC, lambda fd: None),
        'cut and written': (os.O_TRUNC, lambda fd: os.write(fd, b'n' * 77)),
        'written': (0, lambda fd: os.write(fd, b'n' * 77)),
        'written past the end': (0, lambda fd: os.pwrite(fd, b'n', 9999)),
        'cut later': (0, lambda fd: os.ftruncate(fd, 11)),
        'longer': (0, lambda fd: os.ftruncate(fd, 11111)),
        'allocated': (0, lambda fd: os.posix_fallocate(fd, 0, 7777)),
        'copied': (0, copy),
        'times': (0, lambda fd: os.utime(fd, ns=(1, 2))),
        'nothing': (0, lambda fd: None),
    }

    def nanoseconds(text):
        seconds, fraction = text[:-1].split('.')
        return calendar.timegm(time.strptime(seconds, '%Y-%m-%dT%H:%M:%S')) * 10**9 + int(fraction)

    def attributes(path):
        st = os.stat(path)
        return st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_mode, st.st_nlink

    for look in (True, False):
        for name, (flags, change) in changes.items():
            path = b.path(f'{name} {look}')
            put(path, b'old value')
            before = elsewhere(attributes, path)
            fd = os.open(path, os.O_WRONLY | flags)
            if look:
                equal(elsewhere(attributes, path)[0], 9, name)
            change(fd)
            if look and name != 'times':
                equal(elsewhere(attributes, path), before, name)
            os.close(fd)
            told = elsewhere(attributes, path), attributes(path)
            kvfs = json.loads(b.kvfs('stat', '--json', f'{name} {look}'))
            truth = kvfs['size'], nanoseconds(kvfs['modified']), nanoseconds(kvfs['changed']), stat.S_IFREG | 0o644, 1
            equal(told, (truth, truth), name)
            equal(len(get(path)), kvfs['size'], name)


def sizes_seen(b, removes):
    """How often others see which size by stat(2), who look all the time while 100 bytes are written again and again."""
    b.up(*FAST)
    path, until = b.path('x'), time.monotonic() + 4
    put(path, b'x' * 100)

    def make():
        while time.monotonic() < until:
            put(path, b'x' * 100)
            for _ in range(500):
                pass
            if removes:
                os.unlink(path)

    def look():
        sizes = collections.Counter()
        while time.monotonic() < until:
            for _ in range(100):
                try:
                    sizes[os.stat(path).st_size] += 1
                except FileNotFoundError:
                    sizes[None] += 1
        return sizes

    maker = os.fork()
    if maker == 0:
        try:
            make()
        finally:
            os._exit(0)
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        seen = sum((task.result() for task in [threads.submit(elsewhere, look) for _ in range(3)]), collections.Counter())
    equal(os.waitpid(maker, 0)[1], 0)
    return seen


def test_a_name_that_is_being_made_is_nobody_elses(b):
    """The kernel may remember for others that a name is absent, at the moment in which it is made: whoever comes then sees nothing, not what is
    written to it."""
    equal(set(sizes_seen(b, True)), {None, 100})


def test_a_value_that_is_being_cut_is_nobody_elses(b):
    """The kernel sets the size of what is opened with O_TRUNC before it forgets that it knew it, so it is told to forget it first: one look in
    some 30,000 saw 0 without that, 20 and more in this test.  A look that loses the processor between the kernel's two steps, for as long
    as an open(2) takes, still does."""
    seen = sizes_seen(b, False)
    equal(set(seen) - {0}, {100})
    assert seen[0] <= 3, f'{seen[0]} of {seen.total()} looks saw a size of 0'


def test_a_writer_sees_his_own_value_beside_readers(b):
    """What others look up meanwhile leads the name back to what they still read."""
    b.up(*FAST)
    path, until = b.path('x'), time.monotonic() + 4
    put(path, b'first')

    def read():
        while time.monotonic() < until:
            get(path)
            for _ in range(os.getpid() % 2 + 1):
                os.stat(path)

    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        readers = [threads.submit(elsewhere, read) for _ in range(2)]
        turn = 0
        while time.monotonic() < until:
            turn += 1
            size = turn * 7919 % 60_000
            put(path, b'x' * size)
            equal(os.stat(path).st_size, size, f'in turn {turn}')
        for task in readers:
            task.result()


def test_a_writer_who_has_closed_sees_what_others_published(b):
    """The kernel tells of the last close a while after it has returned: until then his session is there, and over."""
    b.up(*FAST)
    path, until = b.path('x'), time.monotonic() + 4
    done = memoryview(mmap.mmap(-1, 8)).cast('Q')  # the last turn that the other has closed
    put(path, b'')

    def replace():
        turn = 0
        while time.monotonic() < until:
            turn += 1
            put_raw(path, os.O_TRUNC, b'x' * (turn % 1000 * 20))
            done[0] = turn

    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        other = threads.submit(elsewhere, replace)
        while time.monotonic() < until:
            put_raw(path, os.O_APPEND, b'a')
            before = done[0]
            size = os.stat(path).st_size
            assert (size // 20 - before) % 1000 < 500, (size, before)
        other.result()


def put_raw(path, flags, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
    os.write(fd, data)
    os.close(fd)

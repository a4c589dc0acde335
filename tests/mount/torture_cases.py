"""Everything at once on 16 keys: four writers, one of them killed at random, four readers, a renamer, a lister and two other doors.

Each value says who wrote it and what it must look like, so a part, a mix or an unpublished value gives itself away:
- w0..w7 hold whole values, with a checksum.  They are replaced, exchanged and renamed over one another; w0..w5 may be absent for a moment.
- a0..a3 are logs.  They are exchanged, never replaced: each record that was written is in one of them, once and whole.
- p0..p3 have two writers, who each rewrite all of their slots in one session: a reader finds one count in all slots of one writer, and one
  at least as new as what was published before it opened.

What is private is checked by counters in shared memory: a writer counts up before it publishes, so nobody may see a higher count.

KVFS_TORTURE_S   20; 600 is the long form (with CASE_TIMEOUT_S above it)"""
import ctypes
import mmap
import os
import random
import signal
import subprocess
import sys
import time
import traceback
import zlib

from harness import Door, daemons_under, equal, seed_of

SECONDS = float(os.environ.get('KVFS_TORTURE_S', '20'))
WHOLE = [f'w{i}' for i in range(8)]
REMOVED = WHOLE[:6]  # only these are ever renamed over another
LOGS = [f'a{i}' for i in range(4)]
PARTS = [f'p{i}' for i in range(4)]
SLOTS, SLOT = 32, 1000  # of a p key; slot i belongs to its writer i % 2
# Who counts in shared memory: writers of whole values, of logs, and of each p key (two each).
WHOLE_WRITERS = ('whole', 'killed', 'renamer', 'door', 'command')
LOG_WRITERS = ('append', 'killed', 'door')
LIBC = ctypes.CDLL(None, use_errno=True)
PAUSE_S = max(0.002, SECONDS / 10_000)  # between appends, so that logs stay small


class Shared:
    """Counters that every process of a case sees; each has one writer."""

    def __init__(self):
        self.memory = mmap.mmap(-1, 4096)
        self.cells = memoryview(self.memory).cast('q')
        self.names = {}
        for kind in ('closing', 'whole'), ('about', 'log'), ('done', 'log'), ('changing', 'part'), ('published', 'part'):
            who = {'whole': WHOLE_WRITERS, 'log': LOG_WRITERS, 'part': [(key, w) for key in PARTS for w in (0, 1)]}[kind[1]]
            for name in who:
                self.names[kind[0], name] = len(self.names)
        for key in REMOVED:
            self.names['absent', key] = len(self.names)

    def __getitem__(self, name):
        return self.cells[self.names[name]]

    def __setitem__(self, name, value):
        self.cells[self.names[name]] = value


# ---- what values look like ----


def whole_value(writer, count, rng):
    payload = rng.randbytes(rng.choice((0, 50, 3000, 4096, 20_000, 140_000)))
    return b'W %s %d %d %08x\n' % (writer.encode(), count, len(payload), zlib.crc32(payload)) + payload


def check_whole(data, shared):
    head, _, payload = data.partition(b'\n')
    words = head.split()
    assert len(words) == 5 and words[0] == b'W', f'not a whole value: {data[:80]!r} ({len(data)})'
    writer, count = words[1].decode(), int(words[2])
    equal((len(payload), b'%08x' % zlib.crc32(payload)), (int(words[3]), words[4]), f'a mix or a part: {head!r}')
    assert count <= shared['closing', writer], f'{head!r} was never published'


def log_record(writer, count, rng):
    payload = rng.randbytes(rng.choice((5, 60, 1500))).hex().encode()
    return b'R %s %d %d %08x %s\n' % (writer.encode(), count, len(payload), zlib.crc32(payload), payload)


def records_of(data):
    assert not data or data.endswith(b'\n'), f'a part of a record at the end: {data[-80:]!r}'
    for line in data.split(b'\n')[:-1]:
        words = line.split(b' ')
        assert len(words) == 6 and words[0] == b'R', f'not a record: {line[:80]!r}'
        equal((len(words[5]), b'%08x' % zlib.crc32(words[5])), (int(words[3]), words[4]), f'a broken record: {line[:80]!r}')
        yield words[1].decode(), int(words[2])


def check_log(data, shared):
    for writer, count in records_of(data):
        assert count <= shared['about', writer], f'record {count} of {writer} was never written'


def slot_of(writer, count, slot):
    text = b'%d %d %d ' % (writer, count, slot)
    return text + b'%08x' % zlib.crc32(text) + b'.' * (SLOT - len(text) - 8)


def slots_of(writer):
    return range(writer, SLOTS, 2)


def part_value(count):
    return b''.join(slot_of(slot % 2, count, slot) for slot in range(SLOTS))


def check_part(data, least, most):
    equal(len(data), SLOTS * SLOT)
    for writer in (0, 1):
        counts = {int(data[slot * SLOT:].split(b' ', 2)[1]) for slot in slots_of(writer)}
        assert len(counts) == 1, f'a mix: writer {writer} has counts {counts}'
        count = counts.pop()
        for slot in slots_of(writer):
            equal(data[slot * SLOT:(slot + 1) * SLOT], slot_of(writer, count, slot))
        assert least[writer] <= count, f'stale: writer {writer} had published {least[writer]}, {count} was read'
        assert count <= most[writer](), f'count {count} of writer {writer} was never published'


class Look:
    """One look at a key: what may be seen is settled before the value is read, and checked after."""

    def __init__(self, shared, key):
        self.shared, self.key = shared, key
        self.gone = shared['absent', key] if key in REMOVED else 0
        if key in PARTS:
            self.least = [shared['published', (key, writer)] for writer in (0, 1)]

    def absent(self):
        """ENOENT: right if the key was being renamed away at some time since."""
        assert self.key in REMOVED, f'{self.key} is never absent'
        assert self.gone % 2 or self.shared['absent', self.key] != self.gone, f'{self.key} was there all the time'

    def value(self, data):
        if self.key in WHOLE:
            check_whole(data, self.shared)
        elif self.key in LOGS:
            check_log(data, self.shared)
        else:
            check_part(data, self.least, [lambda w=w: self.shared['changing', (self.key, w)] for w in (0, 1)])


# ---- writers ----


def publish_whole(b, shared, writer, key, rng, pauses=False):
    """A session of one value in pieces."""
    count = shared['closing', writer] + 1
    data = whole_value(writer, count, rng)
    fd = os.open(b.path(key), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    while data:
        data = data[os.write(fd, data[:rng.choice((100, 5000, 200_000))]):]
        if pauses:
            time.sleep(rng.random() * 0.003)
    shared['closing', writer] = count
    os.close(fd)


def append_record(b, shared, writer, key, rng):
    count = shared['done', writer] + 1
    record = log_record(writer, count, rng)
    fd = os.open(b.path(key), os.O_WRONLY | os.O_APPEND)
    shared['about', writer] = count
    equal(os.write(fd, record), len(record))
    shared['done', writer] = count
    os.close(fd)


def whole_writer(b, shared, rng):
    publish_whole(b, shared, 'whole', rng.choice(WHOLE), rng)
    time.sleep(rng.random() * 0.005)


def append_writer(b, shared, rng):
    append_record(b, shared, 'append', rng.choice(LOGS), rng)
    time.sleep(PAUSE_S)


def part_writer(b, shared, rng):
    key = rng.choice(PARTS)
    count = shared['changing', (key, 0)] + 1
    fd = os.open(b.path(key), rng.choice((os.O_WRONLY, os.O_RDWR)))
    for slot in slots_of(0):
        equal(os.pwrite(fd, slot_of(0, count, slot), slot * SLOT), SLOT)
    shared['changing', (key, 0)] = count
    os.close(fd)
    shared['published', (key, 0)] = count
    time.sleep(rng.random() * 0.005)


def killed_writer(b, shared, rng, lost):
    """A child that works until it is killed; `lost` gets the record that it may or may not have appended."""
    pid = os.fork()
    if pid == 0:
        try:
            while True:
                if rng.random() < 0.7:
                    publish_whole(b, shared, 'killed', rng.choice(WHOLE), rng, pauses=True)
                else:
                    append_record(b, shared, 'killed', rng.choice(LOGS), rng)
                time.sleep(PAUSE_S)
        finally:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    time.sleep(rng.random() * 0.05)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), 'the writer failed before it was killed'
    if shared['about', 'killed'] != shared['done', 'killed']:
        lost.append(shared['about', 'killed'])
        shared['done', 'killed'] = shared['about', 'killed']


# ---- readers ----


def by_read(fd, rng):
    data, size = b'', rng.choice((1000, 65_536, 1 << 20))
    while True:
        piece = os.read(fd, size)
        if not piece:
            return data
        data += piece


def by_mmap(fd, rng):
    size = os.fstat(fd).st_size
    if not size:
        return b''
    with mmap.mmap(fd, size, flags=rng.choice((mmap.MAP_PRIVATE, mmap.MAP_SHARED)), prot=mmap.PROT_READ) as mapped:
        data = mapped[:]
        time.sleep(rng.random() * 0.01)
        assert mapped[:] == data, 'a mapping changed'
    return data


def by_sendfile(fd, rng):
    size = os.fstat(fd).st_size
    into = os.memfd_create('copy')
    try:
        at = 0
        while at < size:
            sent = os.sendfile(into, fd, at, size - at)
            assert sent > 0, f'the end came at {at} of {size}'
            at += sent
        return os.pread(into, size + 1, 0)
    finally:
        os.close(into)


def by_pread(fd, rng):
    size = os.fstat(fd).st_size
    each = rng.choice((700, 4096, 50_000))
    starts = list(range(0, size, each))
    rng.shuffle(starts)
    pieces = {}
    for start in starts:
        pieces[start] = os.pread(fd, min(each, size - start), start)
        equal(len(pieces[start]), min(each, size - start), 'a short read inside the value')
    return b''.join(pieces[start] for start in sorted(pieces))


def read_in_the_mount(b, shared, rng, how):
    key = rng.choice(WHOLE + LOGS + PARTS)
    look = Look(shared, key)
    try:
        fd = os.open(b.path(key), os.O_RDONLY)
    except FileNotFoundError:
        look.absent()
        return
    try:
        time.sleep(rng.choice((0, 0, 0.01)))
        look.value(how(fd, rng))
    finally:
        os.close(fd)


# ---- names ----


def exchange(b, one, other):
    if LIBC.renameat2(-100, b.path(one).encode(), -100, b.path(other).encode(), 2) < 0:
        raise OSError(ctypes.get_errno(), f'exchange of {one} and {other}: {os.strerror(ctypes.get_errno())}')


def renamer(b, shared, rng):
    if rng.random() < 0.3:
        one, other = rng.sample(REMOVED, 2)
        shared['absent', one] += 1  # odd: may be absent
        os.rename(b.path(one), b.path(other))
        time.sleep(rng.random() * 0.005)
        publish_whole(b, shared, 'renamer', one, rng)
        shared['absent', one] += 1
    elif rng.random() < 0.5:
        # Not those that may be absent: who else makes them is not known here.
        exchange(b, *WHOLE[6:])
    else:
        exchange(b, *rng.sample(LOGS, 2))
    time.sleep(rng.random() * 0.01)


def lister(b, shared, rng):
    before = {key: shared['absent', key] for key in REMOVED}
    names = os.listdir(b.mnt)
    equal(len(names), len(set(names)), 'a name is listed twice')
    equal(set(names) - set(WHOLE + LOGS + PARTS), set(), 'a name that nobody made')
    for key in PARTS:
        assert key in names, f'{key} is not listed'
    for key in rng.sample(WHOLE + LOGS + PARTS, 6):
        try:
            size = os.stat(b.path(key)).st_size
        except FileNotFoundError:
            assert key in REMOVED, f'{key} is never absent'
            assert before[key] % 2 or shared['absent', key] != before[key], f'{key} was there all the time'
            continue
        if key in PARTS:
            equal(size, SLOTS * SLOT)
        assert size > 0 or key in LOGS, f'{key} is empty'
    time.sleep(rng.random() * 0.005)


# ---- other doors ----


def library_reads(door, shared, rng):
    key = rng.choice(WHOLE + LOGS + PARTS)
    look = Look(shared, key)
    try:
        data = door.get(key)
    except FileNotFoundError:
        look.absent()
        return
    look.value(data)


def first_door(b, shared, rng, door):
    """Whole values and names, by the library; now and then by the command."""
    what = rng.random()
    if what < 0.05:
        count = shared['closing', 'command'] + 1
        shared['closing', 'command'] = count
        b.kvfs('put', rng.choice(WHOLE), data=whole_value('command', count, rng))
    elif what < 0.4:
        count = shared['closing', 'door'] + 1
        shared['closing', 'door'] = count
        door.put(rng.choice(WHOLE), whole_value('door', count, rng))
    elif what < 0.5:
        door.must('swap', *rng.choice((WHOLE[6:], LOGS[:2], LOGS[2:])))
    else:
        library_reads(door, shared, rng)
    time.sleep(rng.random() * 0.005)


def second_door(b, shared, rng, door):
    """Records and slots."""
    what = rng.random()
    if what < 0.4:
        count = shared['done', 'door'] + 1
        shared['about', 'door'] = count
        door.append(rng.choice(LOGS), log_record('door', count, rng))
        shared['done', 'door'] = count
    elif what < 0.8:
        key = rng.choice(PARTS)
        count = shared['changing', (key, 1)] + 1
        shared['changing', (key, 1)] = count
        door.patch(key, [slot * SLOT for slot in slots_of(1)], [slot_of(1, count, slot) for slot in slots_of(1)])
        shared['published', (key, 1)] = count
    else:
        library_reads(door, shared, rng)
    time.sleep(PAUSE_S)


# ---- the case ----


def worker(fn, until, out):
    """fn() again and again in a process of its own, which says at its end how often, and what went wrong."""
    pid = os.fork()
    if pid:
        return pid
    status, turns = 1, 0
    try:
        while time.monotonic() < until:
            fn()
            turns += 1
        status = 0
    except BaseException:  # noqa: B902 it is told
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os.write(out, b'%d\n' % turns)
        os._exit(status)


def begin(b, shared, rng):
    for key in WHOLE:
        publish_whole(b, shared, 'whole', key, rng)
    for key in LOGS:
        os.close(os.open(b.path(key), os.O_WRONLY | os.O_CREAT, 0o644))
    for key in PARTS:
        with open(b.path(key), 'wb') as file:
            file.write(part_value(0))


def check_end(b, shared, lost):
    """Nothing was lost, nothing is there twice, and the library sees what the mount shows."""
    seen = {}
    for key in LOGS:
        last = {}
        with open(b.path(key), 'rb') as file:
            data = file.read()
        equal(b.kvfs('get', key), data, key)
        for writer, count in records_of(data):
            assert (writer, count) not in seen, f'record {count} of {writer} is in {key} and in {seen[writer, count]}'
            assert count > last.get(writer, 0), f'record {count} of {writer} comes after {last[writer]} in {key}'
            seen[writer, count], last[writer] = key, count
    for writer in LOG_WRITERS:
        wanted = set(range(1, shared['done', writer] + 1)) - set(lost if writer == 'killed' else ())
        missing = wanted - {count for name, count in seen if name == writer}
        assert not missing, f'records {sorted(missing)[:20]} of {writer} are lost ({len(missing)} of {len(wanted)})'
    for key in WHOLE + PARTS:
        with open(b.path(key), 'rb') as file:
            data = file.read()
        Look(shared, key).value(data)
        equal(b.kvfs('get', key), data, key)


def start_workers(b, shared, rng, until, lost_to):
    """(name, pid, pipe) of each."""
    lost = []

    def killed(own):
        known = len(lost)
        killed_writer(b, shared, own, lost)
        os.write(lost_to, b''.join(b'%d\n' % count for count in lost[known:]))

    jobs = [(fn.__name__, lambda own, fn=fn: fn(b, shared, own)) for fn in (whole_writer, append_writer, part_writer, renamer, lister)]
    jobs += [(how.__name__, lambda own, how=how: read_in_the_mount(b, shared, own, how))
             for how in (by_read, by_mmap, by_sendfile, by_pread)]
    jobs += [('killed_writer', killed)]
    jobs += [(fn.__name__, lambda own, fn=fn, door=Door(b.store): fn(b, shared, own, door)) for fn in (first_door, second_door)]
    started = []
    for name, fn in jobs:
        own = random.Random(rng.random())
        out, into = os.pipe()
        started.append((name, worker(lambda fn=fn, own=own: fn(own), until, into), out))
        os.close(into)
    return started


def test_everything_at_once(b):
    rng = random.Random(seed_of())
    b.up('-o', 'durability=none')
    shared = Shared()
    begin(b, shared, rng)
    told, lost_to = os.pipe()
    os.set_blocking(told, False)
    failed = []
    for name, pid, out in start_workers(b, shared, rng, time.monotonic() + SECONDS, lost_to):
        _, status = os.waitpid(pid, 0)
        print(f'{name}: {os.read(out, 99).decode().strip()} turns', '' if status == 0 else 'FAILED', flush=True)
        if status:
            failed.append(name)
    os.write(lost_to, b'0\n')
    lost = [int(word) for word in os.read(told, 1 << 20).split()]
    assert not failed, f'failed: {" ".join(failed)}'
    equal(len(daemons_under(b.base)), 1, 'mounts that live')
    check_end(b, shared, lost)
    subprocess.run([b.bin, 'umount', b.mnt], check=True)

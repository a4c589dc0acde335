"""A mount under load and in adversity: contract, section 7, and what holds whatever happens to its process or its disk."""
import errno
import fcntl
import json
import mmap
import os
import re
import signal
import subprocess
import sys
import time

from harness import Child, daemons_under, equal, fails, get, limit_memory, mounts_under, other_get, put, run

MIB = 1 << 20
BUFFERS = 64 * MIB  # of unpublished data in memory; what is more waits in the store
NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def memory(pid):
    """The process's own: what it maps of the store is the kernel's to take away."""
    with open(f'/proc/{pid}/status', encoding='ascii') as file:
        return int([line for line in file if line.startswith('RssAnon')][0].split()[1]) << 10


def info(b):
    return json.loads(b.kvfs('info', '--json'))


def apply(b, lines):
    """Makes keys through the command, as many at once as a transaction takes."""
    for first in range(0, len(lines), 2000):
        b.kvfs('apply', data='\n'.join(lines[first:first + 2000]).encode() + b'\n')


# ---- thousands of sessions ----

HEAD, HALF = 10, 20_000  # what a session does not write; what it writes twice, into a chunk each


def half(key, which):
    return (b'%s %d ' % (key.encode(), which) * HALF)[:HALF]


def open_sessions(state, b, keys):
    """Every other one changes a part of a value that is there."""
    state['all'] = {key: os.open(b.path(key), NEW if key[0] == 'n' else os.O_RDWR) for key in keys}


def write_sessions(state, which):
    for key, fd in state['all'].items():
        equal(os.pwrite(fd, half(key, which), HEAD + which * 2 * HALF), HALF)


def close_sessions(state):
    for fd in state['all'].values():
        os.close(fd)


def test_thousands_of_sessions(b):
    """They write four times what may be in memory, by turns, so that what one has written is partly there and partly in the store."""
    names = [f'{kind}{i}' for i in range(2000) for kind in 'no']
    b.up('-o', 'durability=none')
    apply(b, [f'put {name} 0123456789and-more' for name in names if name[0] == 'o'])
    daemon = b.daemon()
    before = memory(daemon)
    steps = {'open': open_sessions, 'write': write_sessions, 'close': close_sessions}
    children = [Child(steps) for _ in range(8)]

    def all_do(name, *args):
        for i, child in enumerate(children):
            child.start(name, *args, *([names[i::8]] if name == 'open' else []))
        for child in children:
            child.finish()
        print(name, memory(daemon) - before, time.monotonic(), flush=True)
    print('also within a group:', limit_memory(b.base, daemon, 6 * BUFFERS))
    all_do('open', b)
    for which in (0, 1):
        all_do('write', which)
        used = memory(daemon) - before
        assert BUFFERS / 2 < used < BUFFERS * 5 / 2, used  # without a limit it would be four times
    equal(len(os.listdir(b.mnt)), 2000, 'nothing is published')
    all_do('close')
    for child in children:
        child.end()
    for name in names:
        equal(get(b.path(name)), (b'0123456789' if name[0] == 'o' else bytes(HEAD)) + half(name, 0) + bytes(HALF) + half(name, 1), name)
    equal(info(b)['values'], 4000)


# ---- names without number ----

def drop_caches(base):
    """Has the kernel forget what nobody uses: the mount gets a FORGET for each."""
    # Where containers see /proc/sys read-only, a proc of one's own is not.
    os.makedirs(base + '/proc', exist_ok=True)
    run('unshare', '-m', 'sh', '-c', f'mount -t proc proc {base}/proc && echo 2 > {base}/proc/sys/vm/drop_caches')


KEYS, WRITTEN = 20_000, 3000


def name_of(i):
    return f'd{i // 200}/{i % 200}'


def work(b, me, until):
    """Reads what is there, writes and reads keys of its own, and keeps some open all the time."""
    held = [os.open(b.path(name_of(me * 200 + i)), os.O_RDONLY) for i in range(20)]
    turn = 0
    while time.monotonic() < until:
        turn += 1
        at, own, data = turn * 7919 % KEYS, b.path(f'own{me}.{turn % 50}'), b'%d' % turn
        equal(get(b.path(name_of(at))), b'%d' % at)
        fd = os.open(own, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.write(fd, data)
        if turn % 3 == 0:
            os.fsync(fd)
        equal(os.pread(fd, 99, 0), data)
        os.close(fd)
        equal(get(own), data)
        equal(os.pread(held[turn % 20], 99, 0), b'%d' % (me * 200 + turn % 20))
    return turn


def test_forgotten_by_the_thousand(b):
    """What the kernel forgets, the mount forgets; what is open, or asked for at that moment, is unharmed."""
    told = b.up_told('-o', 'durability=none')
    apply(b, [f'put {name_of(i)} {i}' for i in range(KEYS)])
    for i in range(WRITTEN):  # each had a session: its node id says nothing by itself, and must be remembered
        put(b.path(f'd{i % 100}/w{i}'), b'x')
    until = time.monotonic() + 6
    workers = [Child({'work': lambda s, me: work(b, me, until)}) for _ in range(3)]
    for me, child in enumerate(workers):
        child.start('work', me)
    used = []
    while time.monotonic() < until:
        equal(len(run('find', b.mnt, '-path', '*/d*/*', '-size', '+0', '-printf', 'x')), KEYS + WRITTEN)
        drop_caches(b.base)
        used.append(memory(b.told.pid))
    print('turns', [child.finish() for child in workers], 'memory', used)
    for child in workers:
        child.end()
    told.settle()
    forgotten = len(re.findall(rb'opcode: (?:BATCH_)?FORGET', get(told.log)))
    print('requests to forget', forgotten)
    assert forgotten > len(used), forgotten
    assert max(used) < used[0] + 4 * MIB, used


# ---- a mount that is taken away while files are open ----

def lazily_unmounted(b, *undo):
    b.up('-o', 'durability=none')
    large = os.urandom(3 * MIB)
    for name, data in (('large', large), ('mapped', large), ('whole', b'old'), ('part', b'0123456789'), ('log', b'one\n')):
        put(b.path(name), data)
    directory = os.open(b.mnt, os.O_RDONLY)
    reader, mapped = (os.open(b.path(name), os.O_RDONLY) for name in ('large', 'mapped'))
    fds = {name: os.open(b.path(name), flags) for name, flags in (
        ('new', NEW), ('whole', NEW), ('part', os.O_RDWR), ('log', os.O_WRONLY | os.O_APPEND))}
    for name, fd in fds.items():
        os.write(fd, f'{name} before, '.encode())
    doomed = Child({'write': lambda s: os.write(s.setdefault('fd', os.open(b.path('doomed'), NEW)), b'x')})
    doomed.do('write')
    with mmap.mmap(mapped, 0, prot=mmap.PROT_READ) as view:
        os.close(mapped)
        run(*undo, b.mnt)
        equal(mounts_under(b.base), [])
        for name in ('large', 'mapped'):
            b.kvfs('put', name, 'changed through another door')
        equal(os.pread(reader, 4 * MIB, 0), large)
        equal(view[:], large)
    doomed.kill()
    for name, fd in fds.items():
        os.write(fd, b'and after\n')
    equal(b.kvfs('ls'), b'large\nlog\nmapped\npart\nwhole\n')
    for fd in fds.values():
        os.close(fd)
    equal(b.kvfs('get', 'new'), b'new before, and after\n')
    equal(b.kvfs('get', 'whole'), b'whole before, and after\n')
    equal(b.kvfs('get', 'part'), b'part before, and after\n')
    equal(b.kvfs('get', 'log'), b'one\nlog before, and after\n')
    os.close(reader)
    # A directory is a door as well: what is opened below it is served.
    late = os.open('late', NEW, dir_fd=directory)
    os.write(late, b'late')
    os.close(directory)
    equal(len(daemons_under(b.base)), 1)
    os.close(late)
    b.daemon_gone()
    equal(b.kvfs('get', 'late'), b'late')
    equal(info(b)['doors'], [])
    assert b'doomed' in b.kvfs('sessions'), 'what the killed one wrote is kept'
    b.up('-o', 'durability=none')
    equal(sorted(os.listdir(b.mnt)), ['large', 'late', 'log', 'mapped', 'new', 'part', 'whole'])


def test_lazy_umount(b):
    lazily_unmounted(b, 'fusermount3', '-uz')


def test_lazy_umount_by_the_system(b):
    lazily_unmounted(b, 'umount', '-l')


# ---- a disk that fills up ----

def fill(path):
    """Takes all the space that there is."""
    with open(path, 'wb', buffering=0) as hog:
        for size in (MIB, 4096):
            try:
                while True:
                    hog.write(bytes(size))
            except OSError as error:
                equal(error.errno, errno.ENOSPC)


def write_all(fd, data, at=0):
    """How much of it could be written, and the errno of what could not."""
    try:
        while at < len(data):
            at += os.pwrite(fd, data[at:at + MIB], at)
        return at, 0
    except OSError as error:
        return at, error.errno


def on_a_full_disk(b, disk):
    """Each call fails or does what it is asked to; what failed but at a close can be asked for again."""
    names = ('whole', 'part', 'closed', 'log')
    some, large = os.urandom(2 * MIB), os.urandom(24 * MIB)
    for name in names:
        put(b.path(name), b'old ' + name.encode())
    whole, part, closed = (os.open(b.path(name), os.O_RDWR) for name in names[:3])
    os.truncate(whole, 0)
    log = os.open(b.path('log'), os.O_WRONLY | os.O_APPEND)
    big = os.open(b.path('big'), NEW)
    for fd in (whole, part, closed):
        equal(write_all(fd, some), (2 * MIB, 0))
    done, error = write_all(big, large[:12 * MIB])
    equal(error, 0)

    fill(disk + '/hog')
    done, error = write_all(big, large, done)
    equal(error, errno.ENOSPC, f'after {done}')
    for _ in range(2):
        fails(errno.ENOSPC, os.fsync, whole)
        fails(errno.ENOSPC, os.fsync, part)
        fails(errno.ENOSPC, os.write, log, some[:MIB])
    fails(errno.ENOSPC, os.close, closed)
    for name in names:
        equal(other_get(b.path(name)), b'old ' + name.encode())
    equal(other_get(b.path('big')), None)

    os.unlink(disk + '/hog')
    os.fsync(whole)
    equal(other_get(b.path('whole')), some)
    os.close(part)
    equal(other_get(b.path('part')), some)
    os.write(log, b'\nnew')
    equal(other_get(b.path('log')), b'old log\nnew')
    equal(write_all(big, large, done), (len(large), 0))
    os.close(big)
    equal(other_get(b.path('big')), large)
    equal(other_get(b.path('closed')), b'old closed')
    put(b.path('closed'), some)
    equal(other_get(b.path('closed')), some)
    for fd in (whole, log):
        os.close(fd)


def test_disk_fills_up_in_mid_session(b):
    disk = b.base + '/disk'
    os.mkdir(disk)
    run('mount', '-t', 'tmpfs', '-o', 'size=64m', 'kvfs-test', disk)
    b.store = disk + '/store'
    b.up('-o', 'durability=none')
    on_a_full_disk(b, disk)
    b.down()
    equal(info(b)['doors'], [])
    run('umount', disk)


# ---- signals ----

def interrupted_writer(state, path, until):
    """Writes, publishes and reads back under a hail of signals that it handles."""
    struck = []
    signal.signal(signal.SIGALRM, lambda *_: struck.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    turn = 0
    while time.monotonic() < until:
        turn += 1
        data = b'%06d ' % turn * 50_000
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        equal(write_all(fd, data), (len(data), 0))
        os.fsync(fd)
        equal(os.pread(fd, 14, len(data) - 14), data[-14:])
        os.pwrite(fd, b'!', 0)
        os.close(fd)
        equal(get(path), b'!' + data[1:])
    signal.setitimer(signal.ITIMER_REAL, 0)
    return turn, len(struck)


def test_a_hail_of_signals(b):
    """No call fails because of a signal that came while the mount was at work on it, and none is done twice or by half."""
    b.up('-o', 'durability=none')
    until = time.monotonic() + 4
    children = [Child({'write': interrupted_writer}) for _ in range(4)]
    for i, child in enumerate(children):
        child.start('write', b.path(f'k{i}'), until)
    told = [child.finish() for child in children]
    print('turns, signals', told)
    assert all(turn > 2 and signals > 50 for turn, signals in told), told
    for i, child in enumerate(children):
        child.end()
        equal(len(get(b.path(f'k{i}'))), 350_000)


def endless_writer(path, letter):
    data = letter * (12 * MIB)
    while True:
        put(path, data)


def test_killed_at_work(b):
    """A process that is killed while the mount is at work for it is gone at once; the value is an old one or the new one."""
    b.up('-o', 'durability=none')
    slowest = 0
    for turn in range(12):
        letter = b'%c' % (97 + turn)
        child = Child({'write': lambda s: endless_writer(b.path('k'), letter)})
        child.start('write')
        time.sleep(0.02 + turn * 0.03)
        began = time.monotonic()
        child.kill()
        slowest = max(slowest, time.monotonic() - began)
        data = other_get(b.path('k'))
        assert data is None or (len(data) == 12 * MIB and data == data[:1] * len(data) and data[:1] <= letter), (data or b'')[:10]
    print('the last to go took', slowest)
    assert slowest < 3, slowest


def test_killed_while_it_waits(b):
    """For a lock, by the dozen: gone at once, and not in the way of who comes after."""
    b.up('-o', 'durability=none')
    put(b.path('k'), b'x')
    own = os.open(b.path('k'), os.O_RDWR)
    fcntl.flock(own, fcntl.LOCK_EX)
    waiting = [Child({'wait': lambda s, how: how(os.open(b.path('k'), os.O_RDWR), fcntl.LOCK_EX)}) for _ in range(24)]
    for i, child in enumerate(waiting):
        child.start('wait', (fcntl.flock, fcntl.lockf)[i % 2])
    other = Child({'lock': lambda s: fcntl.lockf(s.setdefault('fd', os.open(b.path('k'), os.O_RDWR)), fcntl.LOCK_SH)})
    time.sleep(0.2)
    began = time.monotonic()
    for child in waiting:
        child.kill()
    assert time.monotonic() - began < 2, time.monotonic() - began
    fcntl.flock(own, fcntl.LOCK_UN)
    other.do('lock')
    fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
    other.end()
    os.close(own)


HOLD = """
import ctypes, sys
lmdb, env, txn = ctypes.CDLL('liblmdb.so.0'), ctypes.c_void_p(), ctypes.c_void_p()
status = [lmdb.mdb_env_create(ctypes.byref(env)), lmdb.mdb_env_open(env, sys.argv[1].encode(), 0, 0o600),
          lmdb.mdb_txn_begin(env, None, 0, ctypes.byref(txn))]
assert status == [0, 0, 0], status
print('held', flush=True)
sys.stdin.read()
"""


def test_a_process_that_keeps_the_write_lock(b):
    """It is stopped, or broken: who reads other keys, or writes in a session of his own, goes on; who publishes waits, and is served when
    it is gone."""
    b.up('-o', 'durability=none')
    names = [f'k{i}' for i in range(8)]
    put(b.path('other'), b'old')
    for name in names:
        put(b.path(name), b'old')
    with subprocess.Popen([sys.executable, '-c', HOLD, b.store], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        equal(holder.stdout.readline(), b'held\n')
        writers = [Child({'put': lambda s, *args: put(*args)}) for _ in names]
        for name, child in zip(names, writers):
            child.start('put', b.path(name), b'new')
        time.sleep(0.2)
        fd = os.open(b.path('other'), os.O_RDWR)
        os.write(fd, b'mine')
        equal(other_get(b.path('other')), b'old')
        equal(sorted(os.listdir(b.mnt)), [*names, 'other'])
        holder.kill()
    for child in writers:
        child.finish()
        child.end()
    for name in names:
        equal(other_get(b.path(name)), b'new')
    os.close(fd)
    equal(other_get(b.path('other')), b'mine')


# ---- a mount whose process is killed ----

def look_in(state, b):
    os.chdir(b.path('d'))
    state['reader'] = os.open('large', os.O_RDONLY)
    state['writer'] = os.open('k', NEW)
    os.write(state['writer'], b'half')


def look_again(state):
    fails(errno.ENOTCONN, os.pread, state['reader'], 10, 2 * MIB)
    fails(errno.ENOTCONN, os.write, state['writer'], b'other half')
    fails(errno.ENOTCONN, os.close, state['writer'])


def test_killed_daemon_in_use(b):
    """A new mount takes the place of the dead one, though programs work in that and have files of it open."""
    b.up('-o', 'durability=none')
    os.mkdir(b.path('d'))
    put(b.path('d/k'), b'old')
    put(b.path('d/large'), b'l' * 4 * MIB)
    users = [Child({'in': look_in, 'again': look_again, 'back': lambda s, at: os.chdir(at)}) for _ in range(2)]
    for user in users:
        user.do('in', b)
    os.kill(b.daemon(), signal.SIGKILL)
    b.daemon_gone()
    users[0].do('again')
    b.up('-o', 'durability=none')
    users[1].do('again')
    equal(len(mounts_under(b.base)), 1)
    equal(len(info(b)['doors']), 1)
    equal(get(b.path('d/k')), b'old')
    put(b.path('d/k'), b'new')
    equal(b.kvfs('get', 'd/k'), b'new')
    for user in users:
        user.do('back', b.path('d'))
        user.end()
    b.down()
    equal(info(b)['doors'], [])


def test_advice_for_a_dead_mount_of_others(b):
    binary = b.base + '/kvfs'
    run('cp', b.bin, binary)
    os.chmod(binary, 0o755)
    b.up('-o', 'allow_other')
    os.chmod(b.mnt, 0o777)
    os.kill(b.daemon(), signal.SIGKILL)
    b.daemon_gone()
    said = run('setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', binary, 'mount', b.store, b.mnt, status=2).decode()
    assert said.count('\n') == 1 and 'lost its process' in said and 'fusermount3 -uz' in said, said
    equal(len(mounts_under(b.base)), 1)


# ---- damage ----

def test_what_is_damaged_is_said_now_and_then(b):
    """Contract 5: a failing read is for that value only.  Who reads it again and again does not fill the log."""
    b.up()
    put(b.path('bad'), b'to be damaged ' * 100)
    put(b.path('good'), b'whole')
    b.down()
    data = bytearray(get(b.store + '/data.mdb'))
    while b'to be damaged ' * 3 in data:
        data[data.index(b'to be damaged ' * 3)] ^= 1
    put(b.store + '/data.mdb', bytes(data))
    told = b.up_told().log
    for _ in range(300):
        fails(errno.EUCLEAN, get, b.path('bad'))
        equal(get(b.path('good')), b'whole')
    lines = [line for line in get(told).splitlines() if b'the store is damaged' in line]
    assert 0 < len(lines) <= 30, len(lines)
    assert b'bad' in lines[0] or b'record' in lines[0], lines[0]

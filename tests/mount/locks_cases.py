"""Advisory locks between the processes of a mount, as points of publication."""
import errno
import fcntl
import os
import resource
import select
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import time

from harness import Child, elsewhere, equal, fails, get, other_get, put, receive, send

FLOCK = 'hhqqi4x'
READ, WRITE, NONE = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK


def posix(fd, kind, start=0, length=0, wait=False):
    fcntl.fcntl(fd, fcntl.F_SETLKW if wait else fcntl.F_SETLK, struct.pack(FLOCK, kind, 0, start, length, 0))


def ofd(fd, kind, start=0, length=0, wait=False):
    fcntl.fcntl(fd, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, struct.pack(FLOCK, kind, 0, start, length, 0))


def flock(fd, kind, start=0, length=0, wait=False):
    how = {READ: fcntl.LOCK_SH, WRITE: fcntl.LOCK_EX, NONE: fcntl.LOCK_UN}[kind]
    fcntl.flock(fd, how | (0 if wait else fcntl.LOCK_NB))


def tested(fd, kind, start=0, length=0):
    """What F_GETLK says: type, start, length, pid."""
    seen = struct.unpack(FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack(FLOCK, kind, 0, start, length, 0)))
    return NONE if seen[0] == NONE else (seen[0], *seen[2:])


KINDS = {'posix': posix, 'ofd': ofd, 'flock': flock}


class Locker(Child):
    """A process with descriptors to lock."""

    def __init__(self):
        super().__init__({
            'open': lambda state, path, flags=os.O_RDWR, fd=0: state.update({fd: os.open(path, flags, 0o666)}),
            'close': lambda state, fd=0: os.close(state.pop(fd)),
            'lock': lambda state, how, *args: KINDS[how](state[0], *args),
            'wait': lambda state, how, *args: interruptible(KINDS[how], state[0], *args, wait=True),
            'test': lambda state, *args: tested(state[0], *args),
            'pwrite': lambda state, data, at=0: os.pwrite(state[0], data, at),
            'pread': lambda state, size, at=0: os.pread(state[0], size, at),
            'signal': lambda state, sig: signal.signal(sig, interrupt) and None,
        })

    def begin(self, name, *args):
        """Has it do what may take long; end_of() has the result."""
        send(self.to_child[1], (name, args))

    def is_done(self, limit_s=0.0):
        return bool(select.select([self.from_child[0]], [], [], limit_s)[0])

    def end_of(self, limit_s=20):
        assert self.is_done(limit_s), 'it still waits'
        good, value = receive(self.from_child[0])
        if not good:
            raise value
        return value


MAY_INTERRUPT = [False]


def interrupt(_number, _frame):
    if MAY_INTERRUPT[0]:
        MAY_INTERRUPT[0] = False
        raise InterruptedError(errno.EINTR, 'interrupted')


def interruptible(fn, *args, **more):
    MAY_INTERRUPT[0] = True
    try:
        fn(*args, **more)
    finally:
        MAY_INTERRUPT[0] = False


def lockers(path, count, flags=os.O_RDWR):
    made = [Locker() for _ in range(count)]
    for locker in made:
        locker.do('open', path, flags)
    return made


def waits(locker, how, *args):
    locker.begin('wait', how, *args)
    assert not locker.is_done(0.1), 'it does not wait'


def test_exclusion(b):
    b.up('-o', 'durability=none')
    for how in KINDS:
        put(b.path(how), b'x')
        one, two = lockers(b.path(how), 2)
        one.do('lock', how, WRITE)
        for kind in READ, WRITE:
            fails(errno.EAGAIN, two.do, 'lock', how, kind)
        one.do('lock', how, NONE)
        two.do('lock', how, WRITE)
        two.do('lock', how, READ)
        one.do('lock', how, READ)
        fails(errno.EAGAIN, one.do, 'lock', how, WRITE)
        # a lock that was to become another one is kept, but for that of flock(2)
        two.do('lock', how, NONE)
        three = lockers(b.path(how), 1)[0]
        if how == 'flock':
            three.do('lock', how, WRITE)
        else:
            fails(errno.EAGAIN, three.do, 'lock', how, WRITE)


def test_kinds_are_told_apart(b):
    b.up('-o', 'durability=none')
    put(b.path('k'), b'x')
    one, two, three = lockers(b.path('k'), 3)
    one.do('lock', 'flock', WRITE)
    two.do('lock', 'posix', WRITE)
    fails(errno.EAGAIN, three.do, 'lock', 'ofd', READ)
    fails(errno.EAGAIN, three.do, 'lock', 'flock', READ)
    two.do('lock', 'posix', NONE)
    three.do('lock', 'ofd', WRITE)
    # an open file description is not its process
    fails(errno.EAGAIN, three.do, 'lock', 'posix', READ)
    three.do('lock', 'ofd', NONE)
    three.do('lock', 'posix', WRITE)
    equal(elsewhere(lambda: tested(os.open(b.path('k'), os.O_RDWR), READ)), (WRITE, 0, 0, three.pid))


def test_ranges(b):
    b.up('-o', 'durability=none')
    put(b.path('k'), b'x')
    one, two = lockers(b.path('k'), 2)
    one.do('lock', 'posix', WRITE, 10, 10)
    one.do('lock', 'posix', WRITE, 20, 10)
    equal(two.do('test', READ, 0, 100), (WRITE, 10, 20, one.pid), 'merged')
    one.do('lock', 'posix', READ, 15, 10)
    equal(two.do('test', READ, 0, 100)[0], WRITE)
    equal(two.do('test', READ, 15, 10), NONE, 'downgraded')
    equal(two.do('test', WRITE, 15, 10), (READ, 15, 10, one.pid))
    two.do('lock', 'posix', READ, 15, 10)
    fails(errno.EAGAIN, one.do, 'lock', 'posix', WRITE, 10, 20)
    two.do('lock', 'posix', NONE, 15, 10)
    one.do('lock', 'posix', WRITE, 10, 20)
    one.do('lock', 'posix', NONE, 12, 1)
    equal(two.do('test', WRITE, 12, 1), NONE)
    equal(two.do('test', WRITE, 11, 1), (WRITE, 10, 2, one.pid), 'split')
    equal(two.do('test', WRITE, 13, 1), (WRITE, 13, 17, one.pid), 'split')
    one.do('lock', 'posix', WRITE, 1 << 40)
    equal(two.do('test', READ, 1 << 50, 1), (WRITE, 1 << 40, 0, one.pid), 'to the end')
    equal(one.do('test', WRITE, 0, 0), NONE, 'its own')


def test_pid_of_the_holder(b):
    b.up('-o', 'durability=none')
    put(b.path('k'), b'x')
    one, two = lockers(b.path('k'), 2, os.O_RDONLY)
    one.do('lock', 'posix', READ)
    equal(two.do('test', READ), NONE)
    equal(two.do('test', WRITE), (READ, 0, 0, one.pid))


def test_blocked_ones_get_their_turn_in_order(b):
    b.up('-o', 'durability=none')
    for how in KINDS:
        put(b.path(how), b'x')
        first, *others = lockers(b.path(how), 5)
        first.do('lock', how, WRITE)
        for locker in others:
            waits(locker, how, WRITE)
        holder = first
        for locker in others:
            holder.do('lock', how, NONE)
            locker.end_of()
            assert not any(other.is_done() for other in others), how
            holder = locker
        # readers get theirs together
        for locker in others[:-1]:
            waits(locker, how, READ)
        holder.do('close')
        for locker in others[:-1]:
            locker.end_of()


def test_interrupted(b):
    b.up('-o', 'durability=none')
    for how in KINDS:
        put(b.path(how), b'x')
        one, two, three = lockers(b.path(how), 3)
        one.do('lock', how, WRITE)
        two.do('signal', signal.SIGUSR1)
        waits(two, how, WRITE)
        waits(three, how, WRITE)
        os.kill(two.pid, signal.SIGUSR1)
        fails(errno.EINTR, two.end_of)
        three.kill()
        one.do('lock', how, NONE)
        two.do('lock', how, WRITE)
        one.do('close')


def test_restarted_after_a_signal(b):
    b.up('-o', 'durability=none')
    put(b.path('k'), b'x')
    one = lockers(b.path('k'), 1)[0]
    one.do('lock', 'posix', WRITE)
    waiter = subprocess.Popen([sys.executable, '-c', 'import fcntl, signal, sys\n'
                               'signal.signal(signal.SIGUSR1, lambda *_: None); signal.siginterrupt(signal.SIGUSR1, False)\n'
                               'file = open(sys.argv[1], "r+"); print("ready", flush=True); fcntl.lockf(file, fcntl.LOCK_EX)\n'
                               'print("locked", flush=True)', b.path('k')], stdout=subprocess.PIPE)
    equal(waiter.stdout.readline(), b'ready\n')
    for _ in range(5):
        time.sleep(0.05)
        waiter.send_signal(signal.SIGUSR1)
    one.do('lock', 'posix', NONE)
    equal(waiter.communicate(timeout=10)[0], b'locked\n')
    equal(waiter.returncode, 0)


def test_many_interrupted_and_granted_at_once(b):
    """No wait is lost, and none answered twice, when signals and turns meet."""
    b.up('-o', 'durability=none')
    put(b.path('k'), b'x')
    holder, *others = lockers(b.path('k'), 6)
    for locker in others:
        locker.do('signal', signal.SIGUSR1)
    for turn in range(60):
        holder.do('lock', 'ofd', WRITE)
        for locker in others:
            locker.begin('wait', 'ofd', READ)
        time.sleep(0.01)
        if turn % 2:
            for locker in others:
                os.kill(locker.pid, signal.SIGUSR1)
        holder.begin('lock', 'ofd', NONE)
        if not turn % 2:
            for locker in others:
                os.kill(locker.pid, signal.SIGUSR1)
        holder.end_of()
        for locker in others:
            try:
                locker.end_of()
            except InterruptedError:
                pass
            locker.do('lock', 'ofd', NONE)
    holder.do('lock', 'ofd', WRITE)


def gone_after(b, end):
    for how in KINDS:
        for flags in os.O_RDWR, os.O_RDONLY:
            path = b.path(f'{how}{flags}')
            put(path, b'x')
            one, two = lockers(path, 1, flags) + lockers(path, 1)
            one.do('lock', how, WRITE if how == 'flock' or flags == os.O_RDWR else READ)
            end(one)
            two.do('lock', how, WRITE)


def test_free_when_close_returns(b):
    """To who asks at once and would not wait, too: the end of a description comes to the mount after its close."""
    b.up('-o', 'durability=none')
    put(b.path('k'), b'x')
    for how in flock, ofd:
        for flags in os.O_RDONLY, os.O_RDWR:
            kind = WRITE if how is flock or flags == os.O_RDWR else READ
            for turn in range(400):
                one, two = os.open(b.path('k'), flags), os.open(b.path('k'), os.O_RDWR)
                how(one, kind)
                if turn % 2 and flags == os.O_RDWR:
                    os.write(one, b'y')
                os.close(one)
                how(two, WRITE)
                os.close(two)
    # a copy that is closed is not the end
    one, two = os.open(b.path('k'), os.O_RDWR), os.open(b.path('k'), os.O_RDWR)
    flock(one, WRITE)
    os.close(os.dup(one))
    for _ in range(3):
        fails(errno.EAGAIN, flock, two, READ)


def test_gone_after_close(b):
    b.up('-o', 'durability=none')
    gone_after(b, lambda one: one.do('close'))


def test_gone_after_exit(b):
    b.up('-o', 'durability=none')
    gone_after(b, lambda one: one.end())


def test_gone_after_kill(b):
    b.up('-o', 'durability=none')
    gone_after(b, lambda one: one.kill())


def test_any_close_ends_the_locks_of_the_process(b):
    b.up('-o', 'durability=none')
    put(b.path('k'), b'x')
    one, two = lockers(b.path('k'), 2)
    one.do('open', b.path('k'), os.O_RDWR, 1)
    one.do('lock', 'posix', WRITE)
    fails(errno.EAGAIN, two.do, 'lock', 'posix', WRITE)
    one.do('close', 1)
    two.do('lock', 'posix', WRITE)


def test_deadlock(b):
    b.up('-o', 'durability=none')
    put(b.path('a'), b'x')
    put(b.path('b'), b'x')
    one, two, three = lockers(b.path('a'), 3)
    for at, locker in enumerate((one, two, three)):
        locker.do('lock', 'posix', WRITE, at, 1)
    waits(one, 'posix', WRITE, 1, 1)
    waits(two, 'posix', READ, 2, 1)
    fails(errno.EDEADLK, three.do, 'wait', 'posix', WRITE, 0, 1)
    three.do('lock', 'posix', NONE)
    two.end_of()
    two.do('lock', 'posix', NONE)
    one.end_of()


def test_unlock_publishes(b):
    b.up('-o', 'durability=none')
    for how in KINDS:
        put(b.path(how), b'old')
        one = lockers(b.path(how), 1)[0]
        one.do('lock', how, WRITE)
        one.do('pwrite', b'new')
        equal(other_get(b.path(how)), b'old')
        one.do('lock', how, NONE)
        equal(other_get(b.path(how)), b'new')
        # so does letting others read
        one.do('lock', how, WRITE)
        one.do('pwrite', b'two')
        one.do('lock', how, READ)
        equal(other_get(b.path(how)), b'two')
        # what was not locked is nothing to publish
        one.do('lock', how, NONE)
        one.do('pwrite', b'few')
        one.do('lock', how, NONE)
        equal(other_get(b.path(how)), b'two')


def test_unlock_that_cannot_publish(b):
    b.up('-o', 'durability=none')
    os.mkdir(b.path('d'))
    one = lockers(b.path('d/k'), 1, os.O_RDWR | os.O_CREAT | os.O_EXCL)[0]
    one.do('lock', 'posix', WRITE)
    one.do('pwrite', b'mine')
    b.kvfs('del', 'd')
    fails(errno.ENOENT, one.do, 'lock', 'posix', NONE)
    one.do('lock', 'posix', NONE)
    assert not os.path.exists(b.path('d'))


def test_child_publishes_under_its_lock(b):
    """Who inherited the descriptor publishes at the end of its lock; the process that opened it goes on."""
    b.up('-o', 'durability=none')
    put(b.path('k'), b'old')
    fd = os.open(b.path('k'), os.O_RDWR)
    pid = os.fork()
    if pid == 0:
        try:
            posix(fd, WRITE)
            os.pwrite(fd, b'new', 0)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    equal(other_get(b.path('k')), b'new')
    os.pwrite(fd, b'two', 0)
    equal(other_get(b.path('k')), b'new')


def test_published_before_the_next_turn(b):
    b.up('-o', 'durability=none')
    put(b.path('k'), b'0')

    def count_up():
        for _ in range(100):
            with open(b.path('gate'), 'w', encoding='utf-8') as gate:
                fcntl.lockf(gate, fcntl.LOCK_EX)
                with open(b.path('k'), 'r+b') as file:
                    fcntl.flock(file, fcntl.LOCK_EX)
                    value = int(get(b.path('k')))
                    os.pwrite(file.fileno(), b'%d' % (value + 1), 0)
    pids = []
    for _ in range(4):
        pids.append(os.fork())
        if pids[-1] == 0:
            try:
                count_up()
                os._exit(0)
            finally:
                os._exit(1)
    for pid in pids:
        equal(os.waitpid(pid, 0)[1], 0)
    equal(get(b.path('k')), b'400')


def test_killed_under_a_lock_publishes_nothing(b):
    b.up('-o', 'durability=none')
    put(b.path('k'), b'old')
    one, two = lockers(b.path('k'), 2)
    one.do('lock', 'posix', WRITE)
    one.do('pwrite', b'new')
    waits(two, 'posix', WRITE)
    one.kill()
    two.end_of()
    equal(get(b.path('k')), b'old')


def test_lock_takes_the_newest_value(b):
    b.up('-o', 'durability=none')
    for how in KINDS:
        for flags in os.O_RDWR, os.O_RDONLY:
            path = b.path(f'{how}{flags}')
            put(path, b'old')
            one = lockers(path, 1)[0]
            two = lockers(path, 1, flags)[0]
            equal(two.do('pread', 10), b'old')
            one.do('lock', how, WRITE)
            one.do('pwrite', b'newer')
            waits(two, how, READ)
            one.do('lock', how, NONE)
            two.end_of()
            equal(two.do('pread', 10), b'newer', path)


def test_a_new_key(b):
    """Those who make the same lock file at once exclude each other."""
    b.up('-o', 'durability=none')
    for how in KINDS:
        for flags in os.O_WRONLY | os.O_CREAT, os.O_RDWR | os.O_CREAT | os.O_TRUNC:
            path = b.path(f'{how}{flags}')
            one, two = lockers(path, 2, flags)
            one.do('lock', how, WRITE)
            fails(errno.EAGAIN, two.do, 'lock', how, WRITE)
            waits(two, how, WRITE)
            one.do('pwrite', b'done')
            one.do('close')
            two.end_of()
            equal(get(path), b'done')
    # a name that is reserved stays unseen
    one = lockers(b.path('tmp'), 1, os.O_RDWR | os.O_CREAT | os.O_EXCL)[0]
    one.do('lock', 'posix', WRITE)
    equal(other_get(b.path('tmp')), None)
    one.do('close')
    equal(other_get(b.path('tmp')), b'')


def test_hard_links(b):
    b.up('-o', 'durability=none')
    put(b.path('k'), b'x')
    os.link(b.path('k'), b.path('l'))
    one, two = lockers(b.path('k'), 1) + lockers(b.path('l'), 1)
    for how in KINDS:
        one.do('lock', how, WRITE)
        fails(errno.EAGAIN, two.do, 'lock', how, READ)
        one.do('lock', how, NONE)
    one.do('lock', 'posix', WRITE)
    os.rename(b.path('k'), b.path('m'))
    fails(errno.EAGAIN, lockers(b.path('m'), 1)[0].do, 'lock', 'posix', READ)


def test_each_mount_has_its_own(b):
    b.up('-o', 'durability=none')
    b.up('-o', 'durability=none', mnt=b.base + '/two')
    put(b.path('k'), b'x')
    one, two = lockers(b.path('k'), 1) + lockers(b.base + '/two/k', 1)
    for how in KINDS:
        one.do('lock', how, WRITE)
        two.do('lock', how, WRITE)
        one.do('lock', how, NONE)
        two.do('lock', how, NONE)


def test_thousand_waiters(b):
    b.up('-o', 'durability=none')
    put(b.path('k'), b'x')
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    threading.stack_size(256 << 10)
    holder = os.open(b.path('k'), os.O_RDONLY)
    flock(holder, WRITE)
    fds = [os.open(b.path('k'), os.O_RDONLY) for _ in range(1000)]
    order = []

    def wait(fd):
        flock(fd, WRITE, wait=True)
        order.append(fd)
        flock(fd, NONE)
    threads = [threading.Thread(target=wait, args=(fd,)) for fd in fds]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    put(b.path('other'), b'the mount answers')
    equal(order, [])
    flock(holder, NONE)
    for thread in threads:
        thread.join(30)
    equal(sorted(order), sorted(fds))


def test_the_mount_ends_while_somebody_waits(b):
    b.up('-o', 'durability=none')
    put(b.path('k'), b'x')
    one, two = lockers(b.path('k'), 2)
    one.do('lock', 'posix', WRITE)
    waits(two, 'posix', WRITE)
    os.kill(b.daemon(), signal.SIGTERM)
    b.daemon_gone()
    try:
        two.end_of()
    except OSError as error:
        assert error.errno in (errno.ENOTCONN, errno.ECONNABORTED), error
    else:
        raise AssertionError('it has the lock')


INSERT = '''
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
for i in range(100):
    c.execute('begin immediate')
    c.execute('insert into t values (?, ?)', (sys.argv[2], i))
    c.execute('commit')
c.close()
'''


def test_sqlite_between_processes(b):
    b.up('-o', 'durability=none')
    made = sqlite3.connect(b.path('db'))
    made.execute('create table t (who text, i integer)')
    made.close()
    both = [subprocess.Popen([sys.executable, '-c', INSERT, b.path('db'), who], stderr=subprocess.PIPE) for who in ('a', 'b')]
    for process in both:
        error = process.communicate(timeout=100)[1]
        equal((process.returncode, error), (0, b''))
    seen = sqlite3.connect(b.path('db'))
    equal(seen.execute('pragma integrity_check').fetchall(), [('ok',)])
    equal(seen.execute('select who, count(*), count(distinct i) from t group by who').fetchall(), [('a', 100, 100), ('b', 100, 100)])


def test_a_lock_shows_what_another_made_meanwhile(b):
    """Both have made the key: who gets the lock second must not believe what it was for him when he opened it, which is nothing."""
    b.up()
    steps = {'open': lambda s: s.update(fd=os.open(b.path('k'), os.O_RDWR | os.O_CREAT)),
             'look': lambda s: (os.fstat(s['fd']).st_size, os.pread(s['fd'], 99, 0)),
             'lock': lambda s: fcntl.lockf(s['fd'], fcntl.LOCK_EX),
             'write': lambda s: os.pwrite(s['fd'], b'by the first', 0),
             'unlock': lambda s: fcntl.lockf(s['fd'], fcntl.LOCK_UN)}
    first, second = Child(steps), Child(steps)
    for child in first, second:
        child.do('open')
        equal(child.do('look'), (0, b''))
    for step in 'lock', 'write', 'unlock':
        first.do(step)
    second.do('lock')
    equal(second.do('look'), (12, b'by the first'))
    for child in first, second:
        child.kill()


CREATE = '''
import sqlite3, sys, time
while time.time() < float(sys.argv[3]):
    pass
c = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
c.execute('begin immediate')
c.execute('create table if not exists t (who text)')
c.execute('insert into t values (?)', (sys.argv[2],))
c.execute('commit')
c.close()
'''


def test_sqlite_made_by_several_processes_at_once(b):
    b.up('-o', 'durability=none')
    names = ['a', 'b', 'c', 'd']
    for turn in range(8):
        start = str(time.time() + 0.3)
        all_of_them = [subprocess.Popen([sys.executable, '-c', CREATE, b.path(f'db{turn}'), who, start], stderr=subprocess.PIPE)
                       for who in names]
        for process in all_of_them:
            error = process.communicate(timeout=100)[1]
            equal((process.returncode, error), (0, b''), turn)
        seen = sqlite3.connect(b.path(f'db{turn}'))
        equal([who for who, in seen.execute('select who from t order by who')], names)
        seen.close()

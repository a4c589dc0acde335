"""What the cases share: a store with its mounts, other processes, checks."""
import ctypes
import errno
import fcntl
import glob
import os
import pickle
import pty
import pwd
import random
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time


def mounts_under(base):
    """Mounts below a directory, the last made first."""
    found = []
    with open('/proc/self/mountinfo', encoding='utf-8', errors='surrogateescape') as table:
        for line in table:
            part = line.split()
            path = part[4].replace('\\040', ' ')
            if path.startswith(base + '/'):
                found.append({'path': path, 'minor': int(part[2].split(':')[1]), 'type': part[part.index('-') + 1]})
    return found[::-1]


def daemons_under(base):
    """Processes of the program under test that serve a mount below `base`."""
    found = []
    for path in glob.glob('/proc/[0-9]*/cmdline'):
        try:
            with open(path, 'rb') as file:
                words = file.read().split(b'\0')
        except OSError:
            continue
        if len(words) > 1 and words[0].endswith(b'kvfs') and any(word.startswith(base.encode() + b'/') for word in words):
            found.append(int(path.split('/')[2]))
    return found


def ended(pid):
    """Whether all its threads have.  A process that ends loses its command line first, and its locks on files later."""
    try:
        for path in glob.glob(f'/proc/{pid}/task/*/stat'):
            with open(path, encoding='utf-8') as file:
                if file.read().rsplit(')', 1)[1].split()[0] not in 'ZX':
                    return False
    except OSError:
        return False  # one ended meanwhile: to be looked at again
    return True


def hierarchies():
    """Where groups of processes with a limit of memory are made, and the name of that limit."""
    with open('/proc/self/mountinfo', encoding='utf-8', errors='surrogateescape') as table:
        for line in table:
            where, what = line.split(' - ')
            kind, _, options = what.split()[:3]
            if kind == 'cgroup2' or (kind == 'cgroup' and 'memory' in options.split(',')):
                yield where.split()[4], 'memory.max' if kind == 'cgroup2' else 'memory.limit_in_bytes'


def limit_memory(base, pid, size):
    """Lets a process use `size` bytes of memory, caches included.  False where the machine has no such groups, or lets us make none."""
    for top, limit in hierarchies():
        group = os.path.join(top, os.path.basename(base))
        try:
            os.mkdir(group)
            for name, number in ((limit, size), ('cgroup.procs', pid)):
                with open(os.path.join(group, name), 'w', encoding='ascii') as file:
                    file.write(str(number))
            return True
        except OSError:
            continue
    return False


def unlimit_memory(base):
    """Removes the group of limit_memory(); its process is gone, or goes."""
    for top, _ in hierarchies():
        group = os.path.join(top, os.path.basename(base))
        until = time.monotonic() + 5
        while os.path.isdir(group) and time.monotonic() < until:
            try:
                os.rmdir(group)
            except OSError:
                time.sleep(0.01)


class Requests:
    """What the kernel asks of a mount that debugs: libfuse tells each request on stderr, before it is answered."""
    LINE = re.compile(r'^ *unique: \d+, opcode: (\w+) \(\d+\), nodeid: (\d+)', re.M)
    # These come when the kernel likes, and nobody waits for them.
    ASIDE = {'RELEASE', 'RELEASEDIR', 'FORGET', 'BATCH_FORGET', 'INTERRUPT'}

    def __init__(self, log):
        self.log = log

    def settle(self, quiet_s=0.05, limit_s=5):
        """Waits until nothing more is told of what was done before."""
        size, since, until = -1, 0, time.monotonic() + limit_s
        while time.monotonic() < until:
            now = os.path.getsize(self.log)
            if now != size:
                size, since = now, time.monotonic()
            elif time.monotonic() - since >= quiet_s:
                return size
            time.sleep(0.005)
        raise AssertionError('the mount is never idle')

    def of(self, fn, *args):
        """The names of the requests that fn(*args) makes, in order."""
        start = self.settle()
        fn(*args)
        with open(self.log, encoding='utf-8', errors='replace') as file:
            file.seek(start)
            told = file.read()
        return [name for name, _ in self.LINE.findall(told) if name not in self.ASIDE]


class Door:
    """The library's door to a store, in a process that stays (door.c)."""

    def __init__(self, store):
        program = os.path.join(os.path.dirname(os.environ['KVFS_BIN']), 'tests/mount/door')
        self.process = subprocess.Popen([program, store], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, *words, data=b''):
        """Returns 0 or a negative errno, and what was read."""
        to, out = self.process.stdin, self.process.stdout
        to.write(' '.join(map(str, words)).encode() + b'\n' + data)
        to.flush()
        status, size = map(int, out.readline().split())
        return status, out.read(size)

    def must(self, *words, data=b''):
        status, answer = self.ask(*words, data=data)
        if status < 0:
            raise OSError(-status, f'{os.strerror(-status)}: the door, asked to {" ".join(map(str, words))}')
        return answer

    def put(self, key, data):
        self.must('put', key, len(data), data=data)

    def append(self, key, data):
        self.must('append', key, len(data), data=data)

    def patch(self, key, offsets, pieces):
        """Writes pieces of one length at the offsets, in one session."""
        data = b''.join(pieces)
        self.must('patch', key, len(data), *offsets, data=data)

    def get(self, key):
        return self.must('get', key)

    def size(self, key):
        return int(self.must('stat', key).split()[1])

    def mode(self, key):
        return int(self.must('stat', key).split()[0], 8)

    def ls(self, path='/'):
        return self.must('ls', path).decode().split()

    def end(self):
        self.process.stdin.close()
        equal(self.process.wait(10), 0)


class Bench:
    """A directory with a store in it, and its mounts."""

    def __init__(self, base):
        self.base = base
        self.bin = os.environ['KVFS_BIN']
        self.store = base + '/store'
        self.mnt = base + '/mnt'
        self.known = set()
        os.chmod(base, 0o755)
        os.mkdir(self.mnt)

    def kvfs(self, *args, status=0, data=b'', **more):
        """Runs the command; returns its output (its error output when another status than 0 is expected)."""
        r = subprocess.run([self.bin, '-s', self.store, *args], input=data, capture_output=True, timeout=60, check=False, **more)
        assert r.returncode == status, f'kvfs {args}: status {r.returncode}, not {status}: {r.stderr.decode()}'
        return r.stdout if status == 0 else r.stderr

    def up(self, *args, mnt=None, init=True):
        """Makes the store if need be, and mounts it."""
        mnt = mnt or self.mnt
        if init and not os.path.exists(self.store):
            run(self.bin, 'init', self.store)
        os.makedirs(mnt, exist_ok=True)
        run(self.bin, 'mount', self.store, mnt, *args)
        return self

    def up_as_user(self, *args):
        """Makes and mounts the store as an ordinary user, whose id it returns; only this process and its children see the mount: they get a
        mount namespace in which /dev/fuse and allow_other are open to everyone."""
        user = pwd.getpwnam('nobody')
        binary = self.base + '/kvfs'
        shutil.copy(self.bin, binary)
        os.chmod(binary, 0o755)
        os.chown(self.base, user.pw_uid, user.pw_gid)
        os.chown(self.mnt, user.pw_uid, user.pw_gid)
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(0x20000) == 0, 'unshare(CLONE_NEWNS)'
        run('mount', '--make-rprivate', '/')
        run('mknod', '-m', '666', self.base + '/fuse', 'c', '10', '229')
        put(self.base + '/fuse.conf', b'user_allow_other\n')
        run('mount', '--bind', self.base + '/fuse', '/dev/fuse')
        run('mount', '--bind', self.base + '/fuse.conf', '/etc/fuse.conf')
        as_user = 'setpriv', '--reuid', str(user.pw_uid), '--regid', str(user.pw_gid), '--clear-groups', binary
        run(*as_user, 'init', self.store)
        run(*as_user, 'mount', self.store, self.mnt, *args)
        return user.pw_uid

    def up_told(self, *args):
        """Mounts as up() does, and returns the Requests of the mount, whose process is our child."""
        log = self.base + '/requests'
        if not os.path.exists(self.store):
            run(self.bin, 'init', self.store)
        with open(log, 'ab') as told:
            self.told = subprocess.Popen([self.bin, 'mount', '-f', '-d', self.store, self.mnt, *args], stdin=subprocess.DEVNULL,
                                         stdout=told, stderr=told)
        eventually(lambda: self.told.poll() is not None or mounts_under(self.base))
        assert self.told.poll() is None, get(log)
        os.statvfs(self.mnt)
        return Requests(log)

    def down(self, mnt=None):
        run(self.bin, 'umount', mnt or self.mnt)

    def path(self, name=''):
        return os.path.join(self.mnt, name)

    def daemon(self):
        found = daemons_under(self.base)
        assert len(found) == 1, found
        self.known.add(found[0])
        return found[0]

    def daemon_gone(self, limit_s=10):
        eventually(lambda: not daemons_under(self.base) and all(map(ended, self.known)), limit_s)


def run(*args, status=0, data=None, limit_s=60, **more):
    """Runs a program that must end with `status`; returns its output, then its error output."""
    r = subprocess.run(args, input=data, capture_output=True, timeout=limit_s, check=False, **more)
    assert r.returncode == status, f'{args}: status {r.returncode}, not {status}: {r.stdout[-2000:]!r} {r.stderr[-2000:]!r}'
    return r.stdout + r.stderr


def sh(script, status=0, **more):
    return run('bash', '-c', script, status=status, **more)


def close_all_but(*keep):
    edges = [2, *sorted(keep), 4096]
    for low, high in zip(edges, edges[1:]):
        os.closerange(low + 1, high)


def elsewhere(fn, *args):
    """The result of fn(*args) in another process, which has none of our descriptors; or what it raised."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                close_all_but(into)
                answer = (True, fn(*args))
            except Exception as error:  # noqa: B902 it is passed on
                answer = (False, error)
            os.write(into, pickle.dumps(answer))
        finally:
            os._exit(0)
    os.close(into)
    data = bytearray()
    while True:
        piece = os.read(out, 1 << 20)
        if not piece:
            break
        data += piece
    os.close(out)
    os.waitpid(pid, 0)
    good, value = pickle.loads(data)
    if not good:
        raise value
    return value


def get(path):
    with open(path, 'rb') as file:
        return file.read()


def put(path, data):
    with open(path, 'wb') as file:
        file.write(data)


def other_get(path):
    """What another process reads; None when it finds nothing."""
    def read():
        try:
            return get(path)
        except FileNotFoundError:
            return None
    return elsewhere(read)


def equal(seen, wanted, what=''):
    assert seen == wanted, f'{what}: {shown(seen)}, not {shown(wanted)}'


def shown(value):
    text = repr(value)
    return text if len(text) < 300 else f'{text[:300]}... ({len(value)})'


def fails(code, fn, *args, **more):
    """fn must fail with errno `code`."""
    try:
        value = fn(*args, **more)
    except OSError as error:
        assert error.errno == code, f'{errno.errorcode.get(error.errno)}, not {errno.errorcode[code]}: {error}'
        return
    raise AssertionError(f'{shown(value)}, not {errno.errorcode[code]}')


def seed_of():
    """What a case that uses chance begins with; the runner shows it."""
    seed = int(os.environ.get('KVFS_SEED', random.SystemRandom().randrange(1 << 32)))
    print('seed', seed, flush=True)
    return seed


def eventually(check, limit_s=10):
    until = time.monotonic() + limit_s
    while not check():
        assert time.monotonic() < until, 'it never came to be'
        time.sleep(0.002)


class Terminal:
    """A program that believes that somebody sits before it."""

    def __init__(self, *args, cwd):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(cwd)
                os.execvpe(args[0], args, {**os.environ, 'TERM': 'xterm', 'HOME': cwd})
            finally:
                os._exit(127)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack('4H', 24, 80, 0, 0))
        self.said = b''

    def shows(self, text, limit_s=10):
        """Waits for it, past what was waited for before."""
        until = time.monotonic() + limit_s
        while text not in self.said:
            assert time.monotonic() < until, (text, self.said)
            if select.select([self.fd], [], [], 0.1)[0]:
                self.said += os.read(self.fd, 65536)
        self.said = self.said[self.said.index(text) + len(text):]

    def type(self, keys):
        os.write(self.fd, keys)

    def end(self):
        """Of itself; it may have more to say."""
        try:
            while os.read(self.fd, 65536):
                pass
        except OSError as error:
            equal(error.errno, errno.EIO)
        os.close(self.fd)
        equal(os.waitpid(self.pid, 0)[1], 0)


class Child:
    """A process that does what it is told, step by step: functions of a dictionary, called with a state of its own to keep."""

    def __init__(self, steps):
        self.to_child, self.from_child = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            close_all_but(self.to_child[0], self.from_child[1])
            try:
                self.serve(steps)
            finally:
                sys.stdout.flush()
                os._exit(0)
        os.close(self.to_child[0])
        os.close(self.from_child[1])

    def serve(self, steps):
        state = {}
        while True:
            order = receive(self.to_child[0])
            if order is None:
                break
            try:
                answer = (True, steps[order[0]](state, *order[1]))
            except Exception as error:  # noqa: B902 it is passed on
                answer = (False, error)
            send(self.from_child[1], answer)

    def do(self, name, *args):
        self.start(name, *args)
        return self.finish()

    def start(self, name, *args):
        send(self.to_child[1], (name, args))

    def finish(self):
        good, value = receive(self.from_child[0])
        if not good:
            raise value
        return value

    def kill(self, sig=signal.SIGKILL):
        os.kill(self.pid, sig)
        os.waitpid(self.pid, 0)

    def end(self):
        os.close(self.to_child[1])
        os.waitpid(self.pid, 0)


def send(fd, value):
    data = pickle.dumps(value)
    data = len(data).to_bytes(8, 'little') + data
    while data:
        data = data[os.write(fd, data):]


def receive(fd):
    def exactly(size):
        data = b''
        while len(data) < size:
            piece = os.read(fd, size - len(data))
            if not piece:
                return None
            data += piece
        return data
    head = exactly(8)
    return None if head is None else pickle.loads(exactly(int.from_bytes(head, 'little')))

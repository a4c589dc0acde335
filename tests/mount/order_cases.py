"""No call waits for another for ever.  The kernel holds a directory's lock while it renames, links and removes, and then takes the locks of the
files meant; it holds a file's lock while a write, truncation or change of attributes is answered.  So an answer to one of these may not
wait until the kernel has been told about a name, which needs the directory's lock, nor stand in a queue behind such a notice."""
import ctypes
import os
import time

from harness import Door, daemons_under, equal, eventually, get, put

NAMES = ('a', 'b', 'c')
SECONDS = 3
LIBC = ctypes.CDLL(None, use_errno=True)


def append(path, _):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(fd, b'a record\n')
    os.close(fd)


def patch(path, _):
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, b'patch', 3)
    os.fsync(fd)
    os.close(fd)


def attributes(path, _):
    os.truncate(path, 4000)
    os.chmod(path, 0o600)
    os.setxattr(path, 'user.x', b'y')
    os.utime(path)


def replace(path, _):
    put(path, b'whole')


def read(path, _):
    get(path)
    os.stat(path)
    os.listdir(os.path.dirname(path))


def exchange(path, other):
    LIBC.renameat2(-100, path.encode(), -100, other.encode(), 2)


def rename(path, other):
    os.rename(path, other)


def link(path, other):
    os.unlink(other)
    os.link(path, other)


def begin(step, paths, until):
    """step(path, another) again and again in a process of its own; what others removed or made meanwhile is no failure."""
    pid = os.fork()
    if pid:
        return pid
    status, turn = 1, 0
    try:
        while time.monotonic() < until:
            path, other = paths[turn % len(paths)], paths[(turn // 2 + 1) % len(paths)]
            turn += 1
            try:
                if path != other:
                    step(path, other)
            except (FileNotFoundError, FileExistsError):
                pass
        status = 0
    except OSError as error:
        print(f'{step.__name__}: {error}', flush=True)
    finally:
        os._exit(status)


def all_end(b, steps):
    until = time.monotonic() + SECONDS
    paths = [b.path(name) for name in NAMES]
    left = {begin(step, paths, until): step.__name__ for step in steps}
    failed = []
    door = Door(b.store)
    turn = 0
    while time.monotonic() < until:
        door.put(NAMES[turn % 3], b'%d' % turn)
        door.ask('swap', NAMES[turn % 3], NAMES[(turn + 1) % 3])
        turn += 1

    def ended():
        for pid in list(left):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done and status:
                failed.append(left[pid])
            if done:
                del left[pid]
        return not left
    try:
        eventually(ended, 15)
    except AssertionError as error:
        raise AssertionError(f'these wait for ever: {sorted(left.values())}') from error
    equal(failed, [])
    door.end()


def prepared(b):
    b.up('-o', 'durability=none')
    for name in NAMES:
        put(b.path(name), b'x' * 5000)


def test_appends_beside_exchanges(b):
    prepared(b)
    all_end(b, [append, append, exchange, replace, read])


def test_writes_beside_renames(b):
    prepared(b)
    all_end(b, [patch, patch, rename, replace, read])


def test_attributes_beside_links(b):
    prepared(b)
    all_end(b, [attributes, attributes, link, replace, read])


def test_all_of_these(b):
    prepared(b)
    all_end(b, [append, patch, attributes, replace, read, exchange, rename, link])
    equal(len(daemons_under(b.base)), 1)

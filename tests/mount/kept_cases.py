"""What a killed writer wrote is kept; who else holds what: reservations through every door, many descriptors, tail -f."""
import errno
import json
import os
import resource
import signal
import subprocess
import time

from harness import Child, elsewhere, equal, eventually, fails, get, other_get, put, sh

STEPS = {
    'open': lambda s, path, flags: s.setdefault('fd', os.open(path, flags, 0o644)),
    'pwrite': lambda s, data, at: os.pwrite(s['fd'], data, at),
    'close': lambda s: os.close(s.pop('fd')),
}
NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def killed(path, flags, data, at=0):
    """A writer that is killed before it closes."""
    child = Child(STEPS)
    child.do('open', path, flags)
    child.do('pwrite', data, at)
    child.kill()


def ids(b):
    return [json.loads(line)['id'] for line in b.kvfs('sessions', '--json').decode().splitlines()]


def test_a_killed_writer_is_kept_and_recovered(b):
    b.up('-o', 'durability=none')
    put(b.path('k'), b'old value')
    killed(b.path('k'), NEW, b'half of what')
    equal(other_get(b.path('k')), b'old value')
    eventually(lambda: ids(b))
    assert b'SIGKILL' in b.kvfs('sessions') and b' k ' in b.kvfs('sessions'), b.kvfs('sessions')
    b.kvfs('recover', str(ids(b)[0]))
    equal(other_get(b.path('k')), b'half of what')
    equal(ids(b), [])


def test_parts_of_a_killed_writer(b):
    b.up('-o', 'durability=none')
    put(b.path('k'), b'0123456789')
    killed(b.path('k'), os.O_RDWR, b'XX', 4)
    eventually(lambda: ids(b))
    put(b.path('k'), b'abcdefghij')
    b.kvfs('recover', str(ids(b)[0]))
    equal(other_get(b.path('k')), b'abcdXXghij')
    killed(b.path('new'), NEW | os.O_EXCL, b'never published')
    eventually(lambda: ids(b))
    fails(errno.ENOENT, os.stat, b.path('new'))
    b.kvfs('recover', str(ids(b)[0]), 'elsewhere')
    equal(other_get(b.path('elsewhere')), b'never published')
    killed(b.path('k'), NEW, b'again')
    eventually(lambda: ids(b))
    b.kvfs('sessions', '--drop', str(ids(b)[0]))
    equal(ids(b), [])


def test_who_wrote_nothing_leaves_nothing(b):
    b.up('-o', 'durability=none')
    put(b.path('k'), b'old')
    child = Child(STEPS)
    child.do('open', b.path('k'), NEW)
    child.kill()
    time.sleep(0.1)
    equal(ids(b), [])
    equal(other_get(b.path('k')), b'old')


def test_on_kill_commit(b):
    b.up('-o', 'durability=none')
    os.mkdir(b.path('d'))
    os.setxattr(b.path('d'), 'user.kvfs.on-kill', b'commit')
    put(b.path('d/k'), b'old')
    killed(b.path('d/k'), NEW, b'as far as it came')
    eventually(lambda: other_get(b.path('d/k')) == b'as far as it came')
    killed(b.path('d/new'), NEW, b'new as well')
    eventually(lambda: other_get(b.path('d/new')) == b'new as well')
    os.setxattr(b.path('d/k'), 'user.kvfs.on-kill', b'drop')
    killed(b.path('d/k'), NEW, b'not this')
    eventually(lambda: ids(b))
    equal(other_get(b.path('d/k')), b'as far as it came')
    fails(errno.EINVAL, os.setxattr, b.path('d/k'), 'user.kvfs.on-kill', b'perhaps')
    b.down()
    b.up('-o', 'durability=none,on-kill=commit')
    killed(b.path('top'), NEW, b'by the mount')
    eventually(lambda: other_get(b.path('top')) == b'by the mount')


def test_killed_in_open(b):
    b.up('-o', 'durability=none')
    put(b.path('k'), b'value')
    until = time.monotonic() + 2
    while time.monotonic() < until:
        process = subprocess.Popen(['sh', '-c', f'while :; do exec 3> {b.path("k")}; kill -9 $$; done'])
        time.sleep(0.003)
        process.send_signal(signal.SIGKILL)
        process.wait()
        equal(get(b.path('k')), b'value')


def test_exclusive_through_every_door(b):
    b.up('-o', 'durability=none')
    fd = os.open(b.path('k'), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    b.kvfs('put', 'k', 'theirs', status=2)
    fails(errno.ENOENT, other_stat, b.path('k'))
    os.write(fd, b'mine')
    os.close(fd)
    equal(b.kvfs('get', 'k'), b'mine')
    b.kvfs('put', 'k', 'theirs')
    equal(get(b.path('k')), b'theirs')


def other_stat(path):
    return elsewhere(os.stat, path)


def test_tail_f_follows(b):
    b.up('-o', 'durability=none')
    put(b.path('log'), b'first\n')
    with open(b.base + '/seen', 'wb') as seen:
        tail = subprocess.Popen(['tail', '-s', '0.05', '-n', '+1', '-f', b.path('log')], stdout=seen)
    try:
        eventually(lambda: get(b.base + '/seen') == b'first\n')
        for i in range(200):
            with open(b.path('log'), 'ab') as file:
                file.write(b'line %d\n' % i)
        wanted = get(b.path('log'))
        eventually(lambda: get(b.base + '/seen') == wanted)
    finally:
        tail.kill()
        tail.wait()


def test_ten_thousand_descriptors(b):
    b.up('-o', 'durability=none')
    resource.setrlimit(resource.RLIMIT_NOFILE, (11000, max(11000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    count, size = 10000, 2000
    for first in range(1, count, 2000):
        b.kvfs('apply', data=b''.join(b'put k%d %0*d\n' % (i, size, i) for i in range(first, first + 2000)))
    fds = [os.open(b.path(f'k{i}'), os.O_RDONLY) for i in range(1, count + 1)]
    for turn in range(10):
        b.kvfs('apply', data=b''.join(b'put k%d changed%d\n' % (i, turn) for i in range(1, 11)))
    for i, fd in enumerate(fds):
        equal(int(os.pread(fd, size + 1, 0)), i + 1)
        os.close(fd)

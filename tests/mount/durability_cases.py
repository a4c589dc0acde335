"""What a power cut leaves: the daemon is killed, and the store's record made to say that this was in an earlier boot."""
import json
import os
import signal
import time

from harness import equal, get, put, run


def info(b):
    return json.loads(b.kvfs('info', '--json'))


def kill_daemon(b):
    os.kill(b.daemon(), signal.SIGKILL)
    b.daemon_gone()
    run('fusermount3', '-uz', b.mnt)


def cut_power(b):
    kill_daemon(b)
    run(os.path.join(os.path.dirname(os.environ['KVFS_BIN']), 'tests/cli/cut_power'), b.store)


def sync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def test_relaxed_is_the_default(b):
    b.up()
    put(b.path('k'), b'1')
    equal((info(b)['relaxed'], [d['durability'] for d in info(b)['doors']]), (True, ['relaxed']))
    b.down()
    equal(info(b)['relaxed'], False)
    equal(b.kvfs('get', 'k'), b'1')


def test_full_flushes_each(b):
    b.up('-o', 'durability=full')
    put(b.path('k'), b'1')
    equal((info(b)['relaxed'], info(b)['doors'][0]['durability']), (False, 'full'))
    assert not os.path.exists(b.store + '/sync')


def test_the_environment_chooses(b):
    os.environ['KVFS_DURABILITY'] = 'full'
    b.up()
    equal(info(b)['doors'][0]['durability'], 'full')
    b.down()
    b.up('-o', 'durability=relaxed')
    equal(info(b)['doors'][0]['durability'], 'relaxed')


def test_a_killed_daemon_loses_nothing(b):
    b.up()
    for i in range(50):
        put(b.path(f'k{i}'), b'x' * i * 100)
    kill_daemon(b)
    for i in range(50):
        equal(b.kvfs('get', f'k{i}'), b'x' * i * 100)


def test_fsync_survives_a_power_cut(b):
    b.up()
    for i in range(20):
        put(b.path(f'k{i}'), b'old')
    sync(b.path('k3'))  # of any file, or directory: everything before
    put(b.path('k4'), b'new')
    cut_power(b)
    assert b.kvfs('get', 'k4') in (b'old', b'new')
    for i in range(20):
        if i != 4:
            equal(b.kvfs('get', f'k{i}'), b'old')
    b.up(init=False)
    put(b.path('k4'), b'newer')
    sync(b.path(''))
    cut_power(b)
    equal(b.kvfs('get', 'k4'), b'newer')


def test_fsync_publishes_and_survives(b):
    b.up()
    put(b.path('k'), b'old')
    with open(b.path('k'), 'wb') as f:
        f.write(b'written, not closed')
        f.flush()
        os.fsync(f.fileno())
        f.write(b', and more')
        cut_power(b)
        try:
            f.close()
        except OSError:
            pass
    equal(b.kvfs('get', 'k'), b'written, not closed')


def test_a_second_is_enough(b):
    b.up()
    put(b.path('k'), b'1')
    put(b.path('k'), b'2')
    time.sleep(2.5)
    cut_power(b)
    equal(b.kvfs('get', 'k'), b'2')


def test_a_full_command_beside_a_relaxed_mount(b):
    b.up()
    put(b.path('a'), b'1')
    b.kvfs('put', 'b', '2')
    put(b.path('a'), b'3')
    cut_power(b)
    equal(b.kvfs('get', 'b'), b'2')
    assert b.kvfs('get', 'a') in (b'1', b'3')


def test_kvfs_sync_beside_a_mount(b):
    b.up()
    put(b.path('a'), b'1')
    b.kvfs('sync')
    cut_power(b)
    equal(b.kvfs('get', 'a'), b'1')
    b.up(init=False)
    equal(get(b.path('a')), b'1')


def test_a_read_only_mount_after_a_power_cut(b):
    b.up()
    put(b.path('a'), b'1')
    sync(b.path('a'))
    cut_power(b)
    b.up('-o', 'ro', init=False)
    equal(get(b.path('a')), b'1')

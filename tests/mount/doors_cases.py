"""Contract, section 1: one store, many doors."""
import os
import subprocess

from harness import Child, equal, get, other_get, put


def test_command_and_mount_see_each_other_at_once(b):
    b.up()
    for i in range(30):
        value = f'value {i}' * (i * 50 + 1)
        b.kvfs('put', 'k', data=value.encode())
        equal(get(b.path('k')).decode(), value)
        equal(os.stat(b.path('k')).st_size, len(value))
        put(b.path('k'), value[::-1].encode())
        equal(b.kvfs('get', 'k').decode(), value[::-1])
    b.kvfs('del', 'k')
    assert not os.path.exists(b.path('k'))
    equal(os.listdir(b.mnt), [])
    b.kvfs('put', 'a/b/c', 'deep')
    equal(get(b.path('a/b/c')), b'deep')
    b.kvfs('mv', 'a/b/c', 'a/moved')
    equal(get(b.path('a/moved')), b'deep')
    os.unlink(b.path('a/moved'))
    b.kvfs('get', 'a/moved', status=1)


def test_two_mounts_of_one_store(b):
    other = b.base + '/other'
    b.up()
    b.up(mnt=other)
    for i in range(30):
        put(b.path('k'), b'%d' % i * (i * 100))
        equal(get(other + '/k'), b'%d' % i * (i * 100))
        put(other + '/k', b'back %d' % i)
        equal(get(b.path('k')), b'back %d' % i)
    fd = os.open(b.path('k'), os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b'private')
    equal(get(other + '/k'), b'back 29')
    os.close(fd)
    equal(get(other + '/k'), b'private')
    reader = os.open(other + '/k', os.O_RDONLY)
    os.unlink(b.path('k'))
    equal(os.read(reader, 99), b'private')
    assert not os.path.exists(other + '/k')
    os.mkdir(b.path('d'))
    os.rmdir(other + '/d')
    equal(os.listdir(b.mnt), [])
    os.close(reader)
    b.down(other)
    b.down()


def test_session_of_a_key_deleted_through_another_door(b):
    b.up()
    put(b.path('k'), b'old')
    fd = os.open(b.path('k'), os.O_RDWR)
    os.write(fd, b'new')
    b.kvfs('del', 'k')
    os.close(fd)
    assert not os.path.exists(b.path('k'))


def test_many_processes_on_many_keys(b):
    b.up()
    script = 'for i in $(seq 40); do echo "$0 $i" > "k$0-$((i % 5))"; cat k* > /dev/null 2>&1; done'
    shells = [subprocess.Popen(['bash', '-c', script, str(n)], cwd=b.mnt) for n in range(5)]
    commands = [b.kvfs('put', f'c{i}', 'x') for i in range(20)]
    equal(len(commands), 20)
    for shell in shells:
        equal(shell.wait(60), 0)
    equal(len(os.listdir(b.mnt)), 45)
    for n in range(5):
        equal(get(b.path(f'k{n}-0')), f'{n} 40\n'.encode())


def test_a_key_under_the_mount_is_explained(b):
    b.up()
    put(b.path('k'), b'x')
    said = b.kvfs('get', b.path('k'), status=2).decode()
    assert "did you mean 'k'" in said, said


def test_store_is_complete_without_the_mount(b):
    b.up()
    put(b.path('k'), b'x')
    child = Child({'open': lambda s: s.update(fd=os.open(b.path('k'), os.O_RDONLY))})
    child.do('open')
    child.end()
    b.down()
    equal(b.kvfs('get', 'k'), b'x')
    b.up()
    equal(other_get(b.path('k')), b'x')

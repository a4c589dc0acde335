"""Mounting, unmounting, and the ends of a mount's process."""
import os
import pwd
import signal
import subprocess
import time

from harness import Child, daemons_under, equal, eventually, fails, get, mounts_under, other_get, put, run, sh
import errno

NEW = os.O_WRONLY | os.O_CREAT


def test_mount_answers_when_the_command_returns(b):
    for _ in range(5):
        b.up()
        put(b.path('k'), b'x')
        equal(len(mounts_under(b.base)), 1)
        b.down()
        equal(mounts_under(b.base), [])
        equal(daemons_under(b.base), [], 'umount waits for the process')
    said = run('cat', '/proc/self/mountinfo')
    assert b.base.encode() not in said


def test_mount_table_and_options(b):
    b.up('-o', 'noauto,nofail,x-systemd.automount,_netdev,user,nosuid,nodev,noatime,exec')
    line = sh(f'grep "{b.base}" /proc/self/mountinfo').decode()
    for word in ('fuse.kvfs', b.store, 'nosuid', 'nodev', 'noatime', 'default_permissions'):
        assert word in line, line
    b.down()
    for wrong in ('bogus', 'durability=some', 'ro,what=ever'):
        assert b'kvfs: mount' in run(b.bin, 'mount', b.store, b.mnt, '-o', wrong, status=2)
    b.up('-o', 'durability=none')
    put(b.path('k'), b'x')
    b.down()


def test_read_only(b):
    b.up()
    put(b.path('k'), b'x')
    b.down()
    b.up('-o', 'ro')
    equal(get(b.path('k')), b'x')
    fails(errno.EROFS, put, b.path('k'), b'y')
    fails(errno.EROFS, os.mkdir, b.path('d'))
    fails(errno.EROFS, os.utime, b.path('k'))


def one_line(said, *words):
    lines = said.decode().strip().split('\n')
    equal(len([line for line in lines if not line.startswith('usage:')]), 1, said)
    for word in words:
        assert word in lines[0], said


def test_failures_are_one_line_and_status_2(b):
    b.up()
    b.down()
    one_line(run(b.bin, 'mount', b.store, b.base + '/none', status=2), "kvfs: mount '", 'No such file', 'mkdir')
    put(b.base + '/file', b'')
    one_line(run(b.bin, 'mount', b.store, b.base + '/file', status=2), 'not a directory')
    one_line(run(b.bin, 'mount', b.base + '/nostore', b.mnt, status=2), 'nostore')
    one_line(run(b.bin, 'mount', b.base + '/file', b.mnt, status=2), 'file')
    one_line(run(b.bin, 'umount', b.mnt, status=2), "kvfs: umount '", 'no store is mounted')
    run(b.bin, 'mount', status=2)
    run(b.bin, 'mount', 'a', 'b', 'c', status=2)
    b.up()
    one_line(run(b.bin, 'mount', b.store, b.mnt, status=2), 'mounted there already')
    # No /dev/fuse at all
    said = run('unshare', '-m', 'sh', '-c', f'mount --bind /dev/null /dev/fuse; mkdir -p {b.base}/m2; {b.bin} mount {b.store} {b.base}/m2',
               status=2)
    one_line(said, "kvfs: mount '")


def test_store_is_made_only_on_request(b):
    said = run(b.bin, 'mount', b.store, b.mnt, status=2)
    one_line(said, 'no store')
    run(b.bin, 'mount', '--create', b.store, b.mnt)
    put(b.path('k'), b'x')
    equal(b.kvfs('get', 'k'), b'x')


def test_foreground_and_debug(b):
    run(b.bin, 'init', b.store)
    for flag, words in (('-f', b''), ('-d', b'LOOKUP')):
        with subprocess.Popen([b.bin, 'mount', b.store, b.mnt, flag], stderr=subprocess.PIPE) as daemon:
            eventually(lambda: os.path.ismount(b.mnt))
            put(b.path('k'), b'x')
            daemon.send_signal(signal.SIGINT)
            said = daemon.stderr.read()
            equal(daemon.wait(10), 0)
            assert words in said, said


def test_daemon_lets_go_of_the_shell(b):
    b.kvfs('--version')
    run(b.bin, 'init', b.store)
    out = sh(f'exec 9> {b.base}/lock; flock 9; {b.bin} mount {b.store} {b.mnt}; ls -l /proc/$(pgrep -nf "mount {b.store}")/fd')
    assert b'/lock\n' not in out and b'/dev/null' in out, out
    sh(f'exec 9> {b.base}/lock; flock -n 9', cwd=b.base)


def test_sigterm_with_open_sessions(b):
    b.up()
    put(b.path('k'), b'old')
    fd = os.open(b.path('k'), NEW | os.O_TRUNC)
    os.write(fd, b'half')
    new = os.open(b.path('new'), NEW)
    for i in range(20):
        put(b.path(f'closed{i}'), b'done')
    os.kill(b.daemon(), signal.SIGTERM)
    b.daemon_gone()
    fails(errno.ENOTCONN, os.write, fd, b'more')
    for lost in (fd, new):
        try:
            os.close(lost)
        except OSError:
            pass
    equal(mounts_under(b.base), [])
    equal(b.kvfs('get', 'k'), b'old')
    b.kvfs('get', 'new', status=1)
    for i in range(20):
        equal(b.kvfs('get', f'closed{i}'), b'done')
    b.up()
    equal(get(b.path('k')), b'old')


def test_nothing_closed_is_lost_at_umount(b):
    for i in range(10):
        b.up()
        # the second is published at its last close only, by a process that did not open it
        sh(f'echo {i} > k; (sh -c "exec 3> late; (sleep 0.0{i}; echo {i} >&3) & exit 0"); sleep 0.0{i}', cwd=b.mnt)
        eventually(lambda: not subprocess.run(['fuser', '-sm', b.mnt], check=False).returncode == 0)
        b.down()
        equal(b.kvfs('get', 'k'), b'%d\n' % i)
        equal(b.kvfs('get', 'late'), b'%d\n' % i)


def test_umount_of_a_busy_mount(b):
    b.up()
    fd = os.open(b.path('k'), NEW)
    one_line(run(b.bin, 'umount', b.mnt, status=2), 'in use')
    os.write(fd, b'goes on')
    os.close(fd)
    equal(get(b.path('k')), b'goes on')
    b.down()


def test_killed_daemon(b):
    b.up()
    put(b.path('k'), b'published')
    fd = os.open(b.path('k'), NEW | os.O_TRUNC)
    os.write(fd, os.urandom(20 << 20))
    os.kill(b.daemon(), signal.SIGKILL)
    b.daemon_gone()
    try:
        os.stat(b.path('k'))  # the first to find out may be told of an aborted connection instead
    except OSError:
        pass
    fails(errno.ENOTCONN, os.stat, b.path('k'))
    try:
        os.close(fd)
    except OSError:
        pass
    equal(b.kvfs('get', 'k'), b'published')
    b.up()  # over the dead one
    equal(len(mounts_under(b.base)), 1)
    equal(get(b.path('k')), b'published')
    os.kill(b.daemon(), signal.SIGKILL)
    b.daemon_gone()
    b.down()  # a dead one can be taken down, too
    equal(mounts_under(b.base), [])
    b.up()
    put(b.path('k'), b'again')
    equal(other_get(b.path('k')), b'again')


def test_aborted_connection(b):
    control = b.base + '/control'
    os.mkdir(control)
    run('mount', '-t', 'fusectl', 'none', control)
    try:
        b.up()
        put(b.path('k'), b'old')
        minor = [mount for mount in mounts_under(b.base) if mount['path'] == b.mnt][0]['minor']
        fd = os.open(b.path('k'), NEW | os.O_TRUNC)
        os.write(fd, b'half')
        with open(f'{control}/{minor}/abort', 'w', encoding='ascii') as file:
            file.write('1')
        b.daemon_gone()
        equal(b.kvfs('get', 'k'), b'old', 'what was still open is dropped')
        try:
            os.close(fd)
        except OSError:
            pass
    finally:
        run('umount', control)


def test_many_interrupted_calls(b):
    b.up()
    put(b.path('k'), b'x' * 1_000_000)
    for i in range(30):
        shell = subprocess.Popen(['bash', '-c', 'while :; do cat k > copy; cp copy c2; ls -l > /dev/null; rm c2; done'], cwd=b.mnt,
                                 start_new_session=True, stderr=subprocess.DEVNULL)
        time.sleep(0.01 * (i % 5))
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
    equal(len(get(b.path('k'))), 1_000_000)
    assert other_get(b.path('copy')) in (None, b'', b'x' * 1_000_000)


def test_crash_of_the_writer_does_not_leak(b):
    b.up()
    for _ in range(20):
        child = Child({'go': lambda s: os.write(os.open(b.path('n'), NEW), b'x' * 300_000) and None})
        child.do('go')
        child.kill()
    eventually(lambda: not os.listdir(b.mnt))
    put(b.path('n'), b'at last')
    equal(get(b.path('n')), b'at last')


def test_root_mounts_for_another_user(b):
    """The process is that user's for good, and so are the store's files."""
    user = pwd.getpwnam('nobody')
    os.mkdir(b.base + '/theirs')
    os.chown(b.base + '/theirs', user.pw_uid, user.pw_gid)
    b.store = b.base + '/theirs/store'
    b.up('--create', '-o', 'user=nobody,allow_other', init=False)
    with open(f'/proc/{b.daemon()}/status', encoding='ascii') as file:
        status = dict(line.split(':', 1) for line in file)
    equal([set(status[name].split()) for name in ('Uid', 'Gid')], [{str(user.pw_uid)}, {str(user.pw_gid)}])
    equal(int(status['CapPrm'], 16), 0)
    equal({os.stat(os.path.join(b.store, name)).st_uid for name in os.listdir(b.store)}, {user.pw_uid})
    put(b.path('k'), b'by root')
    equal(os.stat(b.path('k')).st_uid, 0)
    with open('/proc/self/mountinfo', encoding='utf-8') as file:
        options = next(line for line in file if b.mnt in line).split()[5].split(',')
    assert {'nosuid', 'nodev'} <= set(options), options
    b.down()
    b.daemon_gone()
    equal(b.kvfs('get', 'k'), b'by root')
    run(b.bin, 'mount', '-o', 'user=nosuch', b.store, b.mnt, status=2)
    run('setpriv', '--reuid', str(user.pw_uid), '--clear-groups', b.bin, 'mount', '-o', 'user=root', b.store, b.mnt, status=2)


def test_ordinary_user(b):
    """In a private mount namespace, with a /dev/fuse that everyone may open, as on a normal system."""
    user = pwd.getpwnam('nobody')
    for name in ('store', 'mnt'):
        os.makedirs(f'{b.base}/u/{name}')
    for name in ('', 'store', 'mnt'):
        os.chown(f'{b.base}/u/{name}', user.pw_uid, user.pw_gid)
    os.rmdir(f'{b.base}/u/store')
    os.chmod(b.base, 0o755)
    binary = b.base + '/kvfs'
    run('cp', b.bin, binary)
    os.chmod(binary, 0o755)
    script = f'''
set -e
mknod -m 666 {b.base}/fuse c 10 229
mount --bind {b.base}/fuse /dev/fuse
cat > {b.base}/as-user <<'END'
set -e
cd {b.base}/u
{binary} init store
{binary} mount store mnt
echo mine > mnt/k
test "$(cat mnt/k)" = mine
test "$(stat -c %u mnt/k)" = {user.pw_uid}
(cd mnt; (echo a; echo b) > g; exec 3> p; echo 1 >&3; test -e p; env test ! -e p; exec 3>&-; test "$(cat p)" = 1)
(cd mnt; sh -c 'echo half > h; kill -9 $$' || true; sh -c 'exec 3> h2; echo half >&3; kill -9 $$' || true; test ! -e h2)
! {binary} mount store mnt
grep -q "fuse.kvfs.*user_id={user.pw_uid}" /proc/self/mountinfo
touch ready; while [ ! -e go ]; do sleep 0.01; done
{binary} umount mnt
{binary} -s store get k
END
setpriv --reuid {user.pw_uid} --regid {user.pw_gid} --clear-groups sh {b.base}/as-user &
while [ ! -e {b.base}/u/ready ]; do sleep 0.01; kill -0 $!; done
! ls {b.base}/u/mnt/ 2> {b.base}/refused
touch {b.base}/u/go
wait $!
cat {b.base}/refused
'''
    said = run('unshare', '-m', '--propagation', 'private', 'sh', '-c', script).decode()
    assert 'mine\n' in said and 'Permission denied' in said, said


def test_memory_does_not_grow_with_what_passes_through(b):
    b.up('-o', 'durability=none')

    def resident():
        with open(f'/proc/{b.daemon()}/status', encoding='ascii') as file:
            return int([line for line in file if line.startswith('RssAnon')][0].split()[1])
    for i in range(300):
        put(b.path(f'k{i % 10}'), b'x' * 10_000)
    before = resident()
    for i in range(3000):
        put(b.path(f'k{i % 10}'), b'x' * 10_000)
        os.stat(b.path(f'k{i % 7}'))
    with open(b.path('large'), 'wb') as file:
        for _ in range(200):
            file.write(b'y' * (1 << 20))
    get(b.path('large'))
    os.unlink(b.path('large'))
    after = resident()
    print(before, after)
    assert after < before + 100_000, (before, after)

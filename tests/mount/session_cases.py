"""Contract, section 3: a write session is a transaction."""
import ctypes
import errno
import fcntl
import mmap
import os
import signal
import subprocess
import sys
import threading
import time

from harness import Child, elsewhere, equal, eventually, fails, get, other_get, put, run, sh

WRITE = os.O_WRONLY
NEW = os.O_WRONLY | os.O_CREAT


def test_new_key_is_private_until_close(b):
    b.up()
    fd = os.open(b.path('k'), NEW)
    os.write(fd, b'secret')
    equal(other_get(b.path('k')), None)
    equal(elsewhere(os.listdir, b.mnt), [])
    equal(b.kvfs('exists', 'k', status=1), b'')
    equal(os.listdir(b.mnt), [], 'an unpublished key is in no listing')
    os.close(fd)
    equal(other_get(b.path('k')), b'secret')
    equal(b.kvfs('get', 'k'), b'secret')
    equal(os.listdir(b.mnt), ['k'])


def test_content_and_size_are_private_until_close(b):
    b.up()
    put(b.path('k'), b'old value')
    fd = os.open(b.path('k'), WRITE | os.O_TRUNC)
    equal(other_get(b.path('k')), b'old value', 'no empty in-between after O_TRUNC')
    os.write(fd, b'the new one, longer')
    equal(other_get(b.path('k')), b'old value')
    equal(elsewhere(os.stat, b.path('k')).st_size, 9)
    equal(os.fstat(fd).st_size, 19)
    equal(os.stat(b.path('k')).st_size, 19, 'by path, to the writer')
    equal(get(b.path('k')), b'the new one, longer', 'by path, to the writer')
    os.close(fd)
    equal(other_get(b.path('k')), b'the new one, longer')
    equal(elsewhere(os.stat, b.path('k')).st_size, 19)


def test_fsync_publishes(b):
    b.up()
    fd = os.open(b.path('k'), NEW)
    os.write(fd, b'one')
    os.fsync(fd)
    equal(other_get(b.path('k')), b'one')
    os.write(fd, b'two')
    equal(other_get(b.path('k')), b'one')
    os.fdatasync(fd)
    equal(other_get(b.path('k')), b'onetwo')
    os.close(fd)


def test_shell_redirections(b):
    b.up()
    sh('{ echo a; sleep 0.1; env test ! -e k || echo seen; echo b; } > k', cwd=b.mnt)
    equal(get(b.path('k')), b'a\nb\n', 'a group is one transaction')
    sh('exec 3> k; echo 1 >&3; cat k > seen; echo 2 >&3; cat k >> seen; exec 3>&-; cat k >> seen', cwd=b.mnt)
    equal(get(b.path('seen')), b'a\nb\na\nb\n1\n2\n')
    sh('exec 3> new; echo 1 >&3; env test ! -e new || exit 1; test -e new || exit 1; cat new; exec 3>&-; cat new', cwd=b.mnt)
    equal(get(b.path('new')), b'1\n')
    sh(': > k', cwd=b.mnt)
    equal(get(b.path('k')), b'')
    sh('> empty; : >> empty2', cwd=b.mnt)
    equal(get(b.path('empty')) + get(b.path('empty2')), b'')
    sh('for i in 1 2 3; do echo $i >> log; done; echo 4 | tee -a log > /dev/null', cwd=b.mnt)
    equal(get(b.path('log')), b'1\n2\n3\n4\n')
    sh('(echo sub; echo shell) > k; echo "$(< k)" > k2', cwd=b.mnt)
    equal(get(b.path('k2')), b'sub\nshell\n')
    sh('sort k2 | tr a-z A-Z > k', cwd=b.mnt)
    equal(get(b.path('k')), b'SHELL\nSUB\n')
    sh('cat <<< here > k; exit 3', status=3, cwd=b.mnt)
    equal(get(b.path('k')), b'here\n', 'a normal exit commits, whatever its status')
    sh('echo x 1<> k', cwd=b.mnt)
    equal(get(b.path('k')), b'x\nre\n')
    sh('set -C; echo y > fresh; echo z > fresh', status=1, cwd=b.mnt)
    equal(get(b.path('fresh')), b'y\n')
    sh('tee -a k k2 <<< t > /dev/null; tee /dev/stderr 2> err <<< both > out', cwd=b.mnt)
    equal(get(b.path('err')) + get(b.path('out')), b'both\nboth\n')


def test_commit_without_a_wait_in_a_pipeline(b):
    b.up()
    for i in range(20):
        sh(f'echo {i} > k; cat k > copy; cmp k copy; read v < copy; [ "$v" = {i} ]', cwd=b.mnt)


def killed_writer(b, flags, sig):
    put(b.path('k'), b'old')
    names = ('k', 'n')

    def begin(state):
        for name in names:
            state[name] = os.open(b.path(name), flags)
            os.write(state[name], b'half of the new')
    child = Child({'begin': begin})
    child.do('begin')
    child.kill(sig)
    equal(get(b.path('k')), b'old')
    equal(other_get(b.path('n')), None)
    time.sleep(0.05)
    equal(get(b.path('k')), b'old', 'nor later')
    equal(os.listdir(b.mnt), ['k'])


def test_killed_writer_does_not_commit(b):
    b.up()
    for sig in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGINT):
        killed_writer(b, NEW | os.O_TRUNC, signal.SIGKILL if sig == signal.SIGINT else sig)
        killed_writer(b, os.O_RDWR | os.O_CREAT, sig if sig != signal.SIGINT else signal.SIGHUP)


def test_killed_with_threads_and_mapping(b):
    b.up()
    put(b.path('k'), b'o' * 8192)

    def begin(state):
        state['fd'] = os.open(b.path('k'), os.O_RDWR)
        state['map'] = mmap.mmap(state['fd'], 8192)
        state['map'][0:4] = b'NEW!'
        threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
    child = Child({'begin': begin})
    child.do('begin')
    child.kill()
    equal(get(b.path('k')), b'o' * 8192)


def test_exec_and_children_do_not_commit(b):
    b.up()
    fd = os.open(b.path('k'), NEW)
    os.write(fd, b'a')
    os.set_inheritable(fd, True)
    subprocess.run(['sh', '-c', f'echo b >&{fd}'], close_fds=False, check=True)
    equal(other_get(b.path('k')), None, 'a child closed its copy')
    copy = os.dup(fd)
    os.close(fd)
    equal(other_get(b.path('k')), None, 'the opener still has a descriptor')
    os.write(copy, b'c')
    os.close(copy)
    equal(other_get(b.path('k')), b'ab\nc')


def test_published_at_the_last_close_when_the_opener_is_gone(b):
    b.up()
    sh('(sleep 0.2; echo late; sleep 0.2) > k & disown; sleep 0.05; [ ! -e k ]', cwd=b.mnt)
    eventually(lambda: os.path.exists(b.path('k')))
    equal(get(b.path('k')), b'late\n')
    # The opener exits normally, its child goes on.
    sh('sh -c \'exec 3> k2; echo first >&3; { sleep 0.2; echo second >&3; } & exit 0\' >/dev/null', cwd=b.mnt)
    eventually(lambda: get(b.path('k2')) == b'first\nsecond\n')


def test_thread_that_opened_is_gone(b):
    b.up()
    fds = []
    thread = threading.Thread(target=lambda: fds.append(os.open(b.path('k'), NEW)))
    thread.start()
    thread.join()
    os.write(fds[0], b'x')
    equal(get(b.path('k')), b'x', 'seen by its process')
    equal(other_get(b.path('k')), None)
    os.close(fds[0])
    equal(other_get(b.path('k')), b'x')


def test_two_sessions_last_one_wins_whole(b):
    b.up()
    put(b.path('k'), b'old')
    steps = {'open': lambda s: s.update(fd=os.open(b.path('k'), NEW | os.O_TRUNC)),
             'write': lambda s: os.write(s['fd'], b'child'), 'close': lambda s: os.close(s['fd'])}
    child = Child(steps)
    child.do('open')
    fd = os.open(b.path('k'), NEW | os.O_TRUNC)
    os.write(fd, b'parent, longer')
    child.do('write')
    os.close(fd)
    equal(get(b.path('k')), b'parent, longer')
    child.do('close')
    equal(get(b.path('k')), b'child')
    child.end()


def test_two_sessions_of_one_process(b):
    b.up()
    put(b.path('k'), b'old')
    for name in ('k', 'new'):
        first = os.open(b.path(name), NEW | os.O_TRUNC)
        second = os.open(b.path(name), NEW | os.O_TRUNC)
        os.write(first, b'first')
        os.write(second, b'2')
        os.close(second)
        equal(other_get(b.path(name)), b'2', name)
        os.close(first)
        equal(other_get(b.path(name)), b'first', name)


def test_partial_changes_are_merged(b):
    b.up()
    put(b.path('k'), b'0123456789' * 1000)
    first, second = (os.open(b.path('k'), os.O_RDWR) for _ in range(2))
    os.pwrite(first, b'AAAA', 0)
    os.pwrite(second, b'BBBB', 9000)
    os.close(second)
    equal(os.pread(first, 4, 9000), b'0123', 'a session keeps what it was opened on')
    os.close(first)
    data = get(b.path('k'))
    equal((data[:6], data[9000:9006], len(data)), (b'AAAA45', b'BBBB45', 10000))


def test_reopened_for_update_by_its_process(b):
    b.up()
    first = os.open(b.path('k'), NEW)
    os.write(first, b'0123456789')
    second = os.open(b.path('k'), os.O_RDWR)
    equal(os.read(second, 5), b'01234')
    os.pwrite(second, b'XX', 8)
    os.close(second)
    os.close(first)
    equal(other_get(b.path('k')), b'01234567XX')


def test_mkstemp_then_open_by_name(b):
    b.up()
    fd = os.open(b.path('tmp'), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    put(b.path('tmp'), b'written by name')
    os.close(fd)
    equal(other_get(b.path('tmp')), b'written by name')


def test_o_excl_reserves(b):
    b.up()
    fd = os.open(b.path('k'), NEW | os.O_EXCL)
    fails(errno.EEXIST, elsewhere, os.open, b.path('k'), NEW | os.O_EXCL)
    fails(errno.EEXIST, elsewhere, os.open, b.path('k'), NEW)
    fails(errno.EEXIST, elsewhere, os.mkdir, b.path('k'))
    fails(errno.EEXIST, elsewhere, os.symlink, 'x', b.path('k'))
    fails(errno.EEXIST, os.open, b.path('k'), NEW | os.O_EXCL)
    equal(other_get(b.path('k')), None)
    os.close(fd)
    fails(errno.EEXIST, elsewhere, os.open, b.path('k'), NEW | os.O_EXCL)
    os.unlink(b.path('k'))
    fd = os.open(b.path('k'), NEW | os.O_EXCL)
    os.unlink(b.path('k'))
    os.close(elsewhere_open_close(b.path('k')))
    os.close(fd)


def elsewhere_open_close(path):
    elsewhere(lambda: os.close(os.open(path, NEW | os.O_EXCL)))
    return os.open(path, os.O_RDONLY)


def test_o_excl_one_of_many_wins(b):
    b.up()

    def try_once(state):
        try:
            state['fd'] = os.open(b.path('lock'), NEW | os.O_EXCL)
            return 1
        except FileExistsError:
            return 0
    children = [Child({'go': try_once}) for _ in range(8)]
    equal(sum(child.do('go') for child in children), 1)
    for child in children:
        child.end()


def test_created_by_two(b):
    b.up()
    child = Child({'open': lambda s: s.update(fd=os.open(b.path('k'), NEW)), 'write': lambda s: os.write(s['fd'], b'child'),
                   'close': lambda s: os.close(s['fd'])})
    child.do('open')
    fd = os.open(b.path('k'), NEW)
    os.write(fd, b'parent')
    child.do('write')
    child.do('close')
    equal(other_get(b.path('k')), b'child')
    os.close(fd)
    equal(other_get(b.path('k')), b'parent')
    child.end()


def test_execve_is_a_close(b):
    """What execve(2) closes is published before the new program runs; nothing of /proc may be asked meanwhile that waits for execve."""
    b.up()
    put(b.path('old'), b'old')

    def run_cat(kept):
        fd = os.open(b.path('k'), NEW | os.O_TRUNC | os.O_CLOEXEC)
        other = os.open(b.path('old'), os.O_WRONLY)
        os.set_inheritable(other, True)
        os.write(fd, b'written')
        if kept:
            os.set_inheritable(os.dup(fd), True)
            os.dup2(os.dup(fd), 9, inheritable=True)
        out = os.open(b.base + '/out', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.execlp('sh', 'sh', '-c', 'cat "$0"; exit $?', b.path('k'))
    for kept in False, True:
        pid = os.fork()
        if pid == 0:
            try:
                run_cat(kept)
            finally:
                os._exit(9)
        _, status = os.waitpid(pid, 0)
        if kept:
            assert status, 'a descriptor is left, so nothing was published yet'
        else:
            equal((status, get(b.base + '/out')), (0, b'written'))
        equal(other_get(b.path('k')), b'written', 'at its end at the latest')
        os.unlink(b.path('k'))


def test_a_key_that_another_user_made_meanwhile_is_his(b):
    """Nobody was asked whether the creator may write it, so his close or fsync fails, and he does not get to read it either."""
    b.up('-o', 'allow_other')
    os.mkdir(b.path('d'))
    os.chmod(b.path('d'), 0o1777)
    path = b.path('d/v')

    def become(s):
        os.setgid(1000)
        os.setuid(1000)
    steps = {'become': become, 'write': lambda s: os.write(s['fd'], b'theirs'), 'read': lambda s: os.pread(s['fd'], 99, 0),
             'sync': lambda s: fails(errno.EEXIST, os.fsync, s['fd']), 'close': lambda s: fails(errno.EEXIST, os.close, s['fd']),
             'append': lambda s: fails(errno.EEXIST, os.write, s['fd'], b'theirs')}
    for mode in 0o600, 0o4755, 0o666:
        child = Child({'open': lambda s: s.update(fd=os.open(path, os.O_RDWR | os.O_CREAT, 0o666)), **steps})
        log = Child({'open': lambda s: s.update(fd=os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)), **steps})
        for user in child, log:
            user.do('become')
            user.do('open')
        child.do('write')
        put(path + '.new', b'ours')
        os.chmod(path + '.new', mode)
        os.rename(path + '.new', path)
        child.do('sync')
        log.do('append')
        equal(child.do('read'), b'theirs')
        child.do('close')
        equal((get(path), os.stat(path).st_mode & 0o7777, os.stat(path).st_uid), (b'ours', mode, 0))
        child.end()
        log.kill()
        os.unlink(path)


def test_an_unpublished_key_is_renamed_over_another_users(b):
    """As by rename(2): the inode is the new one, with its mode and owner."""
    b.up('-o', 'allow_other')
    put(b.path('k'), b'old')
    os.chown(b.path('k'), 1000, 1000)
    os.chmod(b.path('k'), 0o666)
    fd = os.open(b.path('k.new'), NEW | os.O_EXCL, 0o600)
    held = os.open(b.path('k'), os.O_RDONLY)
    os.write(fd, b'new')
    os.rename(b.path('k.new'), b.path('k'))
    equal(other_get(b.path('k')), b'old')
    os.close(fd)
    equal(other_get(b.path('k')), b'new')
    st = os.stat(b.path('k'))
    equal((st.st_uid, st.st_mode & 0o7777, st.st_nlink), (0, 0o600, 1))
    equal((os.read(held, 9), os.fstat(held).st_nlink), (b'old', 0))
    os.close(held)
    equal(b.kvfs('ls'), b'k\n')


def test_a_name_one_reserved_is_replaced(b):
    """rename(2) replaces what the process sees there, also what it made by O_EXCL and has not published; others cannot."""
    b.up()
    put(b.path('a'), b'a')
    fd = os.open(b.path('t'), NEW | os.O_EXCL)
    os.write(fd, b'temporary')
    for call in os.mkdir, os.mknod:
        fails(errno.EEXIST, call, b.path('t'))
        fails(errno.EEXIST, elsewhere, call, b.path('t'))
    fails(errno.EEXIST, os.link, b.path('a'), b.path('t'))
    fails(errno.EEXIST, elsewhere, os.rename, b.path('a'), b.path('t'))
    os.rename(b.path('a'), b.path('t'))
    equal(get(b.path('t')), b'a')
    equal(os.fstat(fd).st_nlink, 0)
    os.write(fd, b', unlinked')
    os.close(fd)
    equal(get(b.path('t')), b'a')
    equal(b.kvfs('ls'), b't\n')


def test_made_by_several_is_one_file(b):
    """They see one inode number, before and after; and who only opened it, without O_TRUNC, empties nothing (touch does so)."""
    b.up()
    for turn in 'first', 'last':
        path = b.path(turn)
        others = [Child({'open': lambda s, path=path: s.update(fd=os.open(path, os.O_RDWR | os.O_CREAT)),
                         'ino': lambda s: os.fstat(s['fd']).st_ino,
                         'write': lambda s: os.write(s['fd'], b'written'),
                         'close': lambda s: os.close(s['fd'])}) for _ in range(3)]
        for child in others:
            child.do('open')
        inos = {child.do('ino') for child in others}
        equal(len(inos), 1, inos)
        writer = others.pop(0 if turn == 'first' else -1)
        writer.do('write')
        writer.do('close')
        equal({os.stat(path).st_ino}, inos)
        equal({child.do('ino') for child in others}, inos)
        for child in others:
            child.do('close')
        equal(get(path), b'written')
        equal({os.stat(path).st_ino}, inos)
        for child in [*others, writer]:
            child.end()


WHILE_PUBLISHED = '''
import os, sys, time

path, role, start = sys.argv[1], sys.argv[2], float(sys.argv[3])


def wait(until):
    while time.time() < until:
        pass


for turn in range(300):
    now = start + turn * 0.01
    time.sleep(max(0, now - time.time()))
    wait(now + (0.003 + turn * 3e-6 if role == 'late' else 0))
    fd = os.open(f'{path}{turn}', os.O_RDWR | os.O_CREAT, 0o600)
    if role == 'writer':
        os.write(fd, b'written')
        wait(now + 0.003)
        os.fsync(fd)
    print(os.fstat(fd).st_ino)
    if role == 'holder':
        time.sleep(max(0, now + 0.008 - time.time()))
    os.close(fd)
'''


def test_made_while_another_publishes_is_one_file(b):
    """Of three who make a key, one comes while another's value is being committed: who compares the number of his descriptor with that of the
    name, as SQLite does, finds them equal."""
    b.up('-o', 'durability=none')
    start = str(time.time() + 0.5)
    makers = [subprocess.Popen([sys.executable, '-c', WHILE_PUBLISHED, b.path('k'), role, start], stdout=subprocess.PIPE, text=True)
              for role in ('holder', 'writer', 'late')]
    seen = [maker.communicate(timeout=100)[0].split() for maker in makers]
    for turn, inos in enumerate(zip(*seen, strict=True)):
        equal({int(ino) for ino in inos}, {os.stat(b.path(f'k{turn}')).st_ino}, (turn, inos))
    equal(len(seen[0]), 300)


def test_a_number_that_several_were_promised_is_used_once(b):
    """One publishes and the key is removed: the next must not bring back what the kernel knows of that number."""
    b.up()
    children = [Child({'open': lambda s: s.update(fd=os.open(b.path('k'), NEW)), 'write': lambda s, data=data: os.write(s['fd'], data),
                       'close': lambda s: os.close(s['fd'])}) for data in (b'the first one, and longer', b'second')]
    for child in children:
        child.do('open')
        child.do('write')
    children[0].do('close')
    equal(get(b.path('k')), b'the first one, and longer')
    held = os.open(b.path('k'), os.O_RDONLY)
    b.kvfs('mv', 'k', 'moved')
    children[1].do('close')
    equal((get(b.path('k')), get(b.path('moved'))), (b'second', b'the first one, and longer'))
    assert os.stat(b.path('k')).st_ino != os.stat(b.path('moved')).st_ino
    equal(os.read(held, 99), b'the first one, and longer')
    os.close(held)
    for child in children:
        child.end()


def test_more_writers_than_are_remembered(b):
    """What the system shows of a process is kept open for the last few that closed something: others in turn, and ended ones, are seen as well."""
    b.up()
    steps = {'open': lambda s: s.update(fd=os.open(b.path(s['name']), NEW | os.O_TRUNC)),
             'dup': lambda s: s.update(dup=os.dup(s['fd'])),
             'write': lambda s: os.write(s['fd'], s['value']),
             'close': lambda s: os.close(s['fd']),
             'close dup': lambda s: os.close(s['dup'])}
    for turn in range(3):
        writers = [Child({'name': lambda s, i=i, turn=turn: s.update(name=f'k{i}', value=b'%d' % turn), **steps}) for i in range(12)]
        for step in 'name', 'open', 'dup', 'write', 'close':
            for writer in writers:
                writer.do(step)
        for i, writer in enumerate(writers):
            equal(other_get(b.path(f'k{i}')), b'%d' % (turn - 1) if turn else None)
            writer.do('close dup')
            equal(other_get(b.path(f'k{i}')), b'%d' % turn)
        for writer in writers:
            writer.end()


def test_appends_are_published_one_by_one(b):
    b.up()
    fd = os.open(b.path('log'), NEW | os.O_APPEND)
    equal(other_get(b.path('log')), None)
    os.write(fd, b'one\n')
    equal(other_get(b.path('log')), b'one\n')
    child = Child({'open': lambda s: s.update(fd=os.open(b.path('log'), WRITE | os.O_APPEND)),
                   'write': lambda s: os.write(s['fd'], b'theirs\n')})
    child.do('open')
    child.do('write')
    os.write(fd, b'two\n')
    child.do('write')
    equal(get(b.path('log')), b'one\ntheirs\ntwo\ntheirs\n')
    child.kill()
    equal(get(b.path('log')), b'one\ntheirs\ntwo\ntheirs\n', 'a log survives the killing of its writer')
    b.kvfs('put', 'log', 'replaced\n')
    os.write(fd, b'three\n')
    os.close(fd)
    equal(get(b.path('log')), b'replaced\nthree\n')


def test_many_appenders(b):
    b.up()
    script = 'i=0; while [ $i -lt 100 ]; do echo "$0 $i" >> log; i=$((i+1)); done'
    writers = [subprocess.Popen(['bash', '-c', script, str(n)], cwd=b.mnt) for n in range(4)]
    for writer in writers:
        equal(writer.wait(60), 0)
    lines = get(b.path('log')).decode().splitlines()
    equal(len(lines), 400)
    for n in range(4):
        equal([line for line in lines if line.startswith(f'{n} ')], [f'{n} {i}' for i in range(100)])


def test_appender_that_writes_nothing_empties_nothing(b):
    b.up()
    fd = os.open(b.path('log'), NEW | os.O_APPEND)
    elsewhere(lambda: run('sh', '-c', 'echo theirs >> "$0"', b.path('log')))
    os.close(fd)
    equal(get(b.path('log')), b'theirs\n')


def test_append_and_read_back(b):
    b.up()
    with open(b.path('log'), 'a+b', buffering=0) as file:
        file.write(b'12345')
        elsewhere(lambda: run('sh', '-c', 'printf 678 >> "$0"', b.path('log')))
        file.write(b'9')
        file.seek(0)
        equal(file.read(), b'123456789')


def test_own_process_sees_its_unpublished_key(b):
    b.up()
    p = b.path('k')
    fd = os.open(p, os.O_RDWR | os.O_CREAT, 0o640)
    os.write(fd, b'0123456789')
    equal(os.stat(p).st_size, 10)
    equal(os.stat(p).st_ino, os.fstat(fd).st_ino)
    os.chmod(p, 0o604)
    os.utime(p, (5, 7))
    os.setxattr(p, 'user.color', b'blue')
    os.chown(p, 12, 34)
    os.truncate(p, 4)
    equal(get(p), b'0123')
    equal(os.getxattr(p, 'user.color'), b'blue')
    equal(os.listxattr(p), ['user.color'])
    fails(errno.ENOENT, elsewhere, os.stat, p)
    os.rename(p, b.path('moved'))
    fails(errno.ENOENT, os.stat, p)
    equal(get(b.path('moved')), b'0123')
    fails(errno.ENOENT, elsewhere, os.stat, b.path('moved'))
    os.close(fd)
    st = elsewhere(os.stat, b.path('moved'))
    equal((st.st_mode & 0o7777, st.st_mtime, st.st_atime, st.st_uid, st.st_gid, st.st_size), (0o604, 7, 5, 12, 34, 4))
    equal(elsewhere(os.getxattr, b.path('moved'), 'user.color'), b'blue')


def test_unpublished_key_is_unlinked_or_linked(b):
    b.up()
    fd = os.open(b.path('k'), os.O_RDWR | os.O_CREAT)
    os.write(fd, b'going')
    os.unlink(b.path('k'))
    fails(errno.ENOENT, os.stat, b.path('k'))
    equal(os.pread(fd, 9, 0), b'going')
    equal(os.fstat(fd).st_nlink, 0)
    os.close(fd)
    equal(os.listdir(b.mnt), [])
    fd = os.open(b.path('a'), NEW)
    os.write(fd, b'linked')
    os.link(b.path('a'), b.path('b'))
    equal(other_get(b.path('b')), b'linked')
    equal(os.stat(b.path('a')).st_nlink, 2)
    os.close(fd)
    equal(other_get(b.path('a')), b'linked')


def test_write_then_rename_then_close(b):
    b.up()
    put(b.path('k'), b'old')
    fd = os.open(b.path('k.tmp'), NEW | os.O_EXCL)
    os.write(fd, b'new')
    os.replace(b.path('k.tmp'), b.path('k'))
    equal(other_get(b.path('k')), b'old')
    equal(get(b.path('k')), b'new')
    os.close(fd)
    equal(other_get(b.path('k')), b'new')
    equal(os.listdir(b.mnt), ['k'])


def test_rename_flags_on_unpublished(b):
    b.up()
    put(b.path('k'), b'old')
    fd = os.open(b.path('n'), NEW)
    os.write(fd, b'new')
    libc = ctypes.CDLL(None, use_errno=True)

    def renameat2(src, dst, flags):
        if libc.renameat2(-100, b.path(src).encode(), -100, b.path(dst).encode(), flags) < 0:
            raise OSError(ctypes.get_errno(), 'renameat2')
    fails(errno.EEXIST, renameat2, 'n', 'k', 1)
    renameat2('n', 'k', 2)
    equal((other_get(b.path('k')), other_get(b.path('n'))), (b'new', b'old'))
    os.close(fd)
    renameat2('n', 'k', 2)
    equal((other_get(b.path('k')), other_get(b.path('n'))), (b'old', b'new'))
    renameat2('n', 'm', 1)
    equal(sorted(os.listdir(b.mnt)), ['k', 'm'])


def test_session_follows_its_inode(b):
    b.up()
    put(b.path('k'), b'old')
    fd = os.open(b.path('k'), os.O_RDWR)
    os.write(fd, b'NEW')
    elsewhere(os.rename, b.path('k'), b.path('elsewhere'))
    os.close(fd)
    equal(get(b.path('elsewhere')), b'NEW')
    equal(os.listdir(b.mnt), ['elsewhere'])
    for remove in (os.unlink, lambda p: os.rename(b.path('x'), p)):
        put(b.path('k'), b'old')
        put(b.path('x'), b'x')
        fd = os.open(b.path('k'), os.O_RDWR)
        os.write(fd, b'gone')
        elsewhere(remove, b.path('k'))
        os.write(fd, b'!')
        equal(os.pread(fd, 9, 0), b'gone!')
        equal(os.fstat(fd).st_nlink, 0)
        os.fsync(fd)
        os.close(fd)
        assert not os.path.exists(b.path('k')) or get(b.path('k')) == b'x'


def test_an_unpublished_key_does_not_keep_its_directory(b):
    b.up()
    os.mkdir(b.path('d'))
    fd = os.open(b.path('d/k'), NEW)
    os.write(fd, b'x')
    elsewhere(os.rmdir, b.path('d'))
    fails(errno.ENOENT, os.close, fd)
    equal(os.listdir(b.mnt), [])


def test_errors_at_close_leave_the_old_value(b):
    b.up()
    fd = os.open(b.path('k'), NEW)
    os.write(fd, b'x')
    elsewhere(os.mkdir, b.path('k'))
    fails(errno.EISDIR, os.fsync, fd)
    fails(errno.EISDIR, os.close, fd)
    assert os.path.isdir(b.path('k'))
    fd = os.open(b.path('e'), NEW | os.O_EXCL)
    os.write(fd, b'mine')
    b.kvfs('put', 'e', 'theirs', status=2)
    os.close(fd)
    equal(get(b.path('e')), b'mine')


def test_disk_full_at_close(b):
    disk = b.base + '/disk'
    os.mkdir(disk)
    run('mount', '-t', 'tmpfs', '-o', 'size=24m', 'kvfs-test', disk)
    try:
        b.store = disk + '/store'
        b.up()
        put(b.path('k'), b'old')
        fd = os.open(b.path('k'), NEW | os.O_TRUNC)
        error = None
        try:
            for _ in range(40):
                os.write(fd, os.urandom(1 << 20))
            os.close(fd)
        except OSError as seen:
            error = seen
        equal(error and error.errno, errno.ENOSPC)
        try:
            os.close(fd)
        except OSError:
            pass
        equal(get(b.path('k')), b'old')
        os.unlink(b.path('k'))
        put(b.path('k2'), b'goes on')
        b.down()
    finally:
        run('fusermount3', '-uz', b.mnt, status=1 if not os.path.ismount(b.mnt) else 0)
        b.daemon_gone()
        run('umount', disk)


def test_atomic_under_load(b):
    """Two writers, three readers, one key of 300 kB: every reader sees whole values only."""
    b.up()
    size = 300_000
    put(b.path('k'), b'a' * size)
    until = time.monotonic() + 3

    def write(letter):
        count = 0
        while time.monotonic() < until:
            put(b.path('k'), letter * size)
            count += 1
        return count

    def read():
        count = 0
        while time.monotonic() < until:
            data = get(b.path('k'))
            assert len(data) == size and data == data[:1] * size, (len(data), set(data))
            equal(os.stat(b.path('k')).st_size, size)
            count += 1
        return count
    jobs = [(write, (b'a',)), (write, (b'b',)), (read, ()), (read, ()), (read, ())]
    results = [None] * len(jobs)

    def job(i):
        try:
            results[i] = elsewhere(jobs[i][0], *jobs[i][1])
        except Exception as error:  # noqa: B902 shown below
            results[i] = error
    threads = [threading.Thread(target=job, args=(i,)) for i in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(results)
    assert all(isinstance(result, int) and result > 10 for result in results), results


def appender(b, flags):
    return Child({'open': lambda s: s.update(fd=os.open(b.path('log'), os.O_WRONLY | os.O_APPEND | flags)),
                  'write': lambda s: os.write(s['fd'], b'theirs\n'),
                  'close': lambda s: os.close(s['fd'])})


def test_appends_after_truncation(b):
    """Of descriptors that only append, each truncation is one transaction, or one with the append that follows it."""
    b.up()
    put(b.path('log'), b'old\n')
    fd = os.open(b.path('log'), os.O_WRONLY | os.O_APPEND | os.O_TRUNC)
    equal(other_get(b.path('log')), b'old\n')
    os.write(fd, b'one\n')
    equal(other_get(b.path('log')), b'one\n')
    child = appender(b, os.O_TRUNC)
    child.do('open')
    child.do('write')
    equal(get(b.path('log')), b'theirs\n')
    os.write(fd, b'two\n')
    child.do('write')
    equal(get(b.path('log')), b'theirs\ntwo\ntheirs\n')
    os.ftruncate(fd, 7)
    equal(other_get(b.path('log')), b'theirs\n')
    child.do('write')
    os.write(fd, b'three\n')
    equal(other_get(b.path('log')), b'theirs\ntheirs\nthree\n')
    os.posix_fallocate(fd, 0, 4)
    os.write(fd, b'four\n')
    child.do('close')
    os.close(fd)
    equal(other_get(b.path('log')), b'theirs\ntheirs\nthree\nfour\n')
    child.end()


def test_appending_is_what_the_descriptor_says_now(b):
    """fcntl(F_SETFL) switches it on and off."""
    b.up()
    put(b.path('log'), b'old\n')
    fd = os.open(b.path('log'), os.O_WRONLY)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    child = appender(b, 0)
    child.do('open')
    for _ in range(2):
        child.do('write')
        os.write(fd, b'ours\n')
    equal(other_get(b.path('log')), b'old\n' + b'theirs\nours\n' * 2)
    fcntl.fcntl(fd, fcntl.F_SETFL, 0)
    os.pwrite(fd, b'new', 0)
    equal(other_get(b.path('log'))[:4], b'old\n')
    os.close(fd)
    equal(other_get(b.path('log')), b'new\n' + b'theirs\nours\n' * 2)
    child.kill()


def test_synchronous_writes_are_published(b):
    """O_SYNC, O_DSYNC and RWF_DSYNC: as if an fsync followed each."""
    b.up()
    for flags in os.O_SYNC, os.O_DSYNC:
        for way in WAYS:
            put(b.path('k'), b'0123456789')
            fd = os.open(b.path('k'), way | flags)
            for i in range(3):
                put(b.path('k'), b'ABCDEFGHIJ')
                os.pwrite(fd, b'x', i)
                equal(other_get(b.path('k')), (b'x' + b'BCDEFGHIJ', b'AxCDEFGHIJ', b'ABxDEFGHIJ')[i])
            os.close(fd)
    fd = os.open(b.path('k'), os.O_WRONLY)
    os.pwritev(fd, [b'now'], 0, os.RWF_DSYNC)
    equal(other_get(b.path('k')), b'nowDEFGHIJ')
    os.pwrite(fd, b'later', 0)
    equal(other_get(b.path('k')), b'nowDEFGHIJ')
    os.close(fd)


def test_set_id_bits_go_with_a_truncation(b):
    b.up('-o', 'allow_other')
    os.chmod(b.mnt, 0o777)

    def truncate():
        os.setgid(1000)
        os.setuid(1000)
        os.close(os.open(b.path('k'), os.O_WRONLY | os.O_TRUNC))
    for data in b'x', b'':
        put(b.path('k'), data)
        os.chown(b.path('k'), 1000, 1000)
        os.chmod(b.path('k'), 0o6775)
        elsewhere(truncate)
        equal(os.stat(b.path('k')).st_mode & 0o7777, 0o775)


def test_set_id_bits_go_with_a_write(b):
    b.up('-o', 'allow_other')
    os.chmod(b.mnt, 0o777)
    put(b.path('k'), b'x')
    os.chown(b.path('k'), 1000, 1000)
    os.chmod(b.path('k'), 0o6775)

    def write():
        os.setgid(1000)
        os.setuid(1000)
        put(b.path('k'), b'y')
    elsewhere(write)
    equal(os.stat(b.path('k')).st_mode & 0o7777, 0o775)
    equal(get(b.path('k')), b'y')


WAYS = os.O_WRONLY, os.O_RDWR  # past the page cache on the kernel inode that the name leads to, and cached on one of its own


def with_session(b, way):
    """A key whose name the kernel has cached, and another process that writes it."""
    put(b.path('k'), b'old')
    os.stat(b.path('k'))
    return Child({'write': lambda s: os.write(s.setdefault('fd', os.open(b.path('k'), way)), b'longer than that'),
                  'size': lambda s: os.fstat(s['fd']).st_size,
                  'close': lambda s: os.close(s['fd'])})


def test_a_link_to_a_key_publishes_no_session_of_others(b):
    b.up()
    for way in WAYS:
        writer = with_session(b, way)
        writer.do('write')
        os.link(b.path('k'), b.path('l'))
        equal(get(b.path('k')), b'old')
        equal(get(b.path('l')), b'old')
        equal(b.kvfs('get', 'k'), b'old')
        writer.do('close')
        equal(get(b.path('l')), b'longer than that')
        writer.end()
        os.unlink(b.path('l'))


def test_attributes_that_others_set_are_the_keys(b):
    b.up()
    for way in WAYS:
        writer = with_session(b, way)
        writer.do('write')
        os.utime(b.path('k'), (1, 1))
        equal(os.stat(b.path('k')).st_mtime, 1, 'done when the call returns')
        writer.do('close')
        assert os.stat(b.path('k')).st_mtime > 1, 'the time of publication'
        writer.end()


def test_a_descriptor_that_opens_nothing_shows_no_session_of_others(b):
    b.up()
    for way in WAYS:
        writer = with_session(b, way)
        fd = os.open(b.path('k'), os.O_PATH)
        writer.do('write')
        for _ in range(3):
            equal(os.fstat(fd).st_size, 3)
            equal(os.stat(b.path('k')).st_size, 3)
            equal(writer.do('size'), 16)
        writer.do('close')
        equal(os.fstat(fd).st_size, 16)
        put(b.path('k'), b'again')
        put(b.path('k'), b'again!')
        equal(os.fstat(fd).st_size, 6)
        os.close(fd)
        writer.end()


def test_who_cannot_be_looked_at_sees_no_session_of_others(b):
    """The daemon of an ordinary user, who serves others, may not ask for the descriptors of their processes."""
    user = b.up_as_user('-o', 'allow_other')
    os.chmod(b.mnt, 0o777)
    for way in WAYS:
        writer = with_session(b, way)
        os.chmod(b.path('k'), 0o666)
        writer.do('write')
        for uid in 0, user, 2000:
            def look(uid=uid):
                os.setgid(uid)
                os.setuid(uid)
                fd = os.open(b.path('k'), os.O_PATH)
                return [(os.stat(b.path('k')).st_size, os.fstat(fd).st_size, get(b.path('k'))) for _ in range(3)]
            equal(elsewhere(look), [(3, 3, b'old')] * 3, uid)
        writer.do('close')
        writer.end()
    b.down()

"""Real programs on a mount."""
import os
import signal
import sqlite3
import subprocess
import sys
import time

from harness import Terminal, equal, get, other_get, put, run, sh

TREE = '/usr/include/linux'


def tree(b):
    """A small tree with all kinds of things in it."""
    top = b.base + '/tree'
    os.makedirs(top + '/a/b')
    os.mkdir(top + '/empty')
    for i in range(200):
        put(f'{top}/a/f{i}', os.urandom(i * i))
    put(top + '/a/b/run', b'#!/bin/sh\n')
    os.chmod(top + '/a/b/run', 0o755)
    os.symlink('../a/f1', top + '/a/b/link')
    os.link(top + '/a/f2', top + '/hard')
    os.mkfifo(top + '/fifo')
    os.utime(top + '/a/f3', (1, 2))
    os.chown(top + '/a/f4', 12, 34)
    os.setxattr(top + '/a/f5', 'user.x', b'1')
    with open(top + '/sparse', 'wb') as file:
        file.truncate(50_000_000)
    return top


def same(one, two, kinds='flp'):
    """Directories are left out: programs set their times last, and in their own order."""
    run('diff', '-r', '--no-dereference', '-x', 'fifo', one, two)
    form = 'cd "$0" && find . ! -name . -printf "%P %y %m %u %g %T@ %l %n\\n" | sort'
    seen, wanted = (run('bash', '-c', form, where).decode().splitlines() for where in (two, one))
    equal([line for line in seen if line.split()[1] in kinds], [line for line in wanted if line.split()[1] in kinds])


def test_cp(b):
    b.up('-o', 'durability=none')
    run('cp', '-a', tree(b), b.path('copy'))
    same(b.base + '/tree', b.path('copy'))
    equal(os.getxattr(b.path('copy/a/f5'), 'user.x'), b'1')
    run('cp', '-a', b.path('copy'), b.path('again'))
    same(b.base + '/tree', b.path('again'))
    run('mv', b.path('copy'), b.base + '/back')
    same(b.base + '/tree', b.base + '/back')
    run('rm', '-rf', b.path('again'))
    equal(os.listdir(b.mnt), [])


def test_tar(b):
    b.up('-o', 'durability=none')
    sh(f'tar -C {tree(b)} --format=posix --xattrs -c . | tar -C {b.mnt} --xattrs -x')
    same(b.base + '/tree', b.mnt)
    sh(f'mkdir {b.base}/back; tar -C {b.mnt} --format=posix -c . | tar -C {b.base}/back -x')
    same(b.base + '/tree', b.base + '/back')


def test_rsync(b):
    b.up('-o', 'durability=none')
    run('rsync', '-aHX', tree(b) + '/', b.mnt)
    same(b.base + '/tree', b.mnt, kinds='f')
    put(b.base + '/tree/a/f7', b'changed')
    run('rsync', '-aHX', '--delete', b.base + '/tree/', b.mnt)
    equal(run('rsync', '-aHXn', '--itemize-changes', b.base + '/tree/', b.mnt), b'')
    run('rsync', '-a', '--inplace', '--checksum', b.base + '/tree/', b.mnt)
    same(b.base + '/tree', b.mnt, kinds='f')


def test_git(b):
    b.up('-o', 'durability=none')
    os.environ.update(GIT_AUTHOR_NAME='a', GIT_AUTHOR_EMAIL='a@b', GIT_COMMITTER_NAME='a', GIT_COMMITTER_EMAIL='a@b',
                      GIT_CONFIG_NOSYSTEM='1', HOME=b.base)
    sh(f'''set -e
git init -q repo; cd repo
cp -r {TREE} src; git add .; git commit -qm one
echo change >> src/stat.h; git commit -qam two; git checkout -q HEAD~1; git checkout -q -; git gc -q
git fsck --strict; cd ..; git clone -q repo clone; cd clone; git log --oneline | wc -l; git status --porcelain''', cwd=b.mnt, limit_s=110)
    run('diff', '-r', b.path('repo/src'), b.path('clone/src'))


LINES = b'one\ntwo\nthree\n'


def edited(b, edit, *args, after, left=()):
    """What others see of k while it is edited, and what is there afterwards."""
    for name in os.listdir(b.mnt):
        os.unlink(b.path(name))
    put(b.path('k'), LINES)
    os.chmod(b.path('k'), 0o640)
    edit(b, *args)
    equal(get(b.path('k')), after, args)
    equal(b.kvfs('get', 'k'), after, args)
    equal(os.stat(b.path('k')).st_mode & 0o777, 0o640, args)
    equal(sorted(os.listdir(b.mnt)), sorted(('k', *left)), args)
    for name in left:
        equal(get(b.path(name)), LINES, args)


def by_command(b, *args):
    run(*args, cwd=b.mnt, env={**os.environ, 'HOME': b.base, 'TERM': 'dumb'})


def vim(b, *settings):
    """On a terminal, where it has a swap file beside k."""
    screen = Terminal('vim', '-u', 'NONE', '-c', f'set backupskip= {" ".join(settings)}', 'k', cwd=b.mnt)
    screen.shows(b'three')
    screen.type(b'Go' + b'four\x1b')
    screen.shows(b'four')
    screen.type(b':w\r')
    screen.shows(b'written')
    equal(other_get(b.path('k')), LINES + b'four\n')
    screen.type(b'Gofive\x1b')
    screen.shows(b'five')
    equal(other_get(b.path('k')), LINES + b'four\n')
    screen.type(b':wq\r')
    screen.end()


def nano(b, *options):
    screen = Terminal('nano', '--ignorercfiles', *options, 'k', cwd=b.mnt)
    screen.shows(b'three')
    screen.type(b'zero\r')
    screen.shows(b'zero')
    screen.type(b'\x0f')
    screen.shows(b'Write')
    screen.type(b'\r')
    screen.shows(b'Wrote')
    equal(other_get(b.path('k')), b'zero\n' + LINES)
    screen.type(b'\x18')
    screen.end()


def emacs(b, *settings):
    backup = f"(setq backup-inhibited nil backup-enable-predicate (lambda (_) t) {' '.join(settings)})"
    code = f'(progn {backup} (goto-char (point-max)) (insert "four\\n") (save-buffer))'
    by_command(b, 'emacs', '-Q', '-batch', 'k', '--eval', code)


def test_editors(b):
    """On a terminal and without; with a backup (the old value, renamed or copied) and without, which they skip in /tmp unless told."""
    b.up('-o', 'durability=none')
    changed = b'one\n2\nthree\n'
    edited(b, by_command, 'sed', '-i', 's/two/2/', 'k', after=changed)
    edited(b, by_command, 'sed', '-i~', 's/two/2/', 'k', after=changed, left=['k~'])
    edited(b, by_command, 'perl', '-i', '-pe', 's/two/2/', 'k', after=changed)
    for settings in ('nobackup', 'backup', 'nowritebackup', 'backupcopy=yes backup', 'backupcopy=no backup', 'noswapfile'):
        edited(b, by_command, 'vim', '-es', '-u', 'NONE', '-c', f'set backupskip= {settings} | %s/two/2/ | wq', 'k',
               after=changed, left=['k~'] if 'backup' in settings.split() else [])
    edited(b, vim, 'nobackup', after=LINES + b'four\nfive\n')
    edited(b, vim, 'backupcopy=no', after=LINES + b'four\nfive\n')
    edited(b, nano, after=b'zero\n' + LINES)
    edited(b, nano, '--backup', after=b'zero\n' + LINES, left=['k~'])
    edited(b, nano, '--locking', after=b'zero\n' + LINES)
    edited(b, emacs, after=LINES + b'four\n', left=['k~'])
    edited(b, emacs, 'backup-by-copying t', after=LINES + b'four\n', left=['k~'])
    edited(b, emacs, 'make-backup-files nil', after=LINES + b'four\n')


def test_editor_that_is_killed(b):
    """The value stands; what the editor made safe can be recovered from its swap file, which it has open all the time."""
    b.up('-o', 'durability=none')
    put(b.path('k'), LINES)
    screen = Terminal('vim', '-u', 'NONE', 'k', cwd=b.mnt)
    screen.shows(b'three')
    screen.type(b'Gofour\x1b:preserve\r')
    screen.shows(b'preserved')
    os.kill(screen.pid, signal.SIGKILL)
    os.waitpid(screen.pid, 0)
    os.close(screen.fd)
    equal(get(b.path('k')), LINES)
    equal(sorted(os.listdir(b.mnt)), ['.k.swp', 'k'])
    by_command(b, 'vim', '-es', '-u', 'NONE', '-r', 'k', '-c', 'wq')
    equal(get(b.path('k')), LINES + b'four\n')


def test_sqlite(b):
    """One process; several are below and in locks_cases.py and shared_cases.py."""
    b.up()
    db = sqlite3.connect(b.path('db'))
    db.execute('create table t (a integer primary key, b text)')
    for i in range(20):
        with db:
            db.executemany('insert into t (b) values (?)', [(f'row {i} {j}' * 10,) for j in range(100)])
    equal(db.execute('select count(*) from t').fetchone()[0], 2000)
    try:
        with db:
            db.execute('delete from t')
            raise RuntimeError
    except RuntimeError:
        pass
    equal(db.execute('pragma integrity_check').fetchone()[0], 'ok')
    db.close()
    db = sqlite3.connect(b.path('db'))
    equal(db.execute('select count(*) from t').fetchone()[0], 2000)
    db.close()


def sqlite(b, *words, **more):
    return run('sqlite3', '-bail', '-cmd', '.timeout 60000', 'db', *words, cwd=b.mnt, **more)


def test_sqlite_in_two_processes(b):
    """Rollback journals of each kind; one of the processes is killed in a transaction that had begun to write into the database."""
    b.up('-o', 'durability=none')
    sqlite(b, 'create table t (who text, i integer, pad text)')
    for turn, mode in enumerate(('delete', 'truncate', 'persist')):
        text = ''.join(f"begin immediate; insert into t values ('%s', {i}, hex(randomblob(500))); commit;\n" for i in range(40))
        both = [subprocess.Popen(['sqlite3', '-bail', '-cmd', '.timeout 60000', 'db'], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                 cwd=b.mnt) for _ in 'ab']
        for process, who in zip(both, 'ab'):
            process.stdin.write(f'pragma journal_mode = {mode};\n{text}'.replace('%s', who + mode).encode())
            process.stdin.close()
        for process in both:
            equal(process.wait(60), 0)
        equal(sqlite(b, 'select count(*) from t'), b'%d\n' % (80 * (turn + 1)))
        doomed = subprocess.Popen(['sqlite3', '-bail', 'db'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=b.mnt)
        doomed.stdin.write(f'pragma journal_mode = {mode}; pragma cache_size = 5; begin; update t set pad = hex(randomblob(500)), i = -1;'
                           "select 'changed';\n".encode())
        doomed.stdin.flush()
        while doomed.stdout.readline() != b'changed\n':
            pass
        doomed.kill()
        doomed.communicate()
        equal(sqlite(b, 'pragma integrity_check; select count(*), min(i) from t'), b'ok\n%d|0\n' % (80 * (turn + 1)), mode)


MAKEFILE = b"""
objects = $(patsubst %.c,%.o,$(wildcard part*.c))
all: main
main: main.o libparts.a
\tgcc -o $@ main.o -L. -lparts
libparts.a: $(objects)
\trm -f $@; ar rcs $@ $^
%.o: %.c parts.h
\tgcc -O1 -g -MMD -c -o $@ $<
-include *.d
"""


def test_make(b):
    """A small project is built inside the mount, by several jobs; by the times of the files, make knows what is old."""
    b.up('-o', 'durability=none')
    parts = range(12)
    put(b.path('Makefile'), MAKEFILE)
    put(b.path('parts.h'), ''.join(f'int part{i}(void);\n' for i in parts).encode())
    for i in parts:
        put(b.path(f'part{i}.c'), b'#include <stdio.h>\n#include "parts.h"\nint part%d(void) { return printf("%d\\n"); }\n' % (i, i))
    put(b.path('main.c'), f'#include "parts.h"\nint main(void) {{ {" ".join(f"part{i}();" for i in parts)} }}\n'.encode())
    made = [run('make', '-j4', cwd=b.mnt).count(b'gcc ')]
    equal(run('./main', cwd=b.mnt), ''.join(f'{i}\n' for i in parts).encode())
    made.append(run('make', cwd=b.mnt).count(b'gcc '))
    os.utime(b.path('part3.c'))
    made.append(run('make', cwd=b.mnt).count(b'gcc '))
    put(b.path('part4.c'), get(b.path('part4.c')).replace(b'"4', b'"four'))
    made.append(run('make', '-j4', cwd=b.mnt).count(b'gcc '))
    os.utime(b.path('parts.h'))
    made.append(run('make', '-j4', cwd=b.mnt).count(b'gcc '))
    equal(made, [14, 0, 2, 2, 14])
    assert b'3\nfour\n5\n' in run('./main', cwd=b.mnt)
    run('strip', 'main', cwd=b.mnt)
    run('./main', cwd=b.mnt)


def test_archives(b):
    """Archives that are themselves keys: made, added to, taken apart."""
    b.up('-o', 'durability=none')
    top = tree(b)
    os.unlink(top + '/sparse')
    for flag, name in (('', 'a.tar'), ('z', 'a.tgz')):
        run('tar', '--format=posix', f'-c{flag}f', b.path(name), '-C', top, '.')
        os.mkdir(b.path('out'))
        run('tar', f'-x{flag}f', '../' + name, cwd=b.path('out'))
        same(top, b.path('out'))
        run('rm', '-r', b.path('out'))
    put(b.path('more'), b'more')
    run('tar', '-rf', 'a.tar', 'more', cwd=b.mnt)
    run('tar', '--delete', '-f', 'a.tar', './a/f7', cwd=b.mnt)
    listed = run('tar', '-tf', 'a.tar', cwd=b.mnt).decode().split('\n')
    assert 'more' in listed and './a/f8' in listed and './a/f7' not in listed, listed
    size = os.path.getsize(b.path('a.tar'))
    run('gzip', 'a.tar', cwd=b.mnt)
    equal(sorted(os.listdir(b.mnt)), ['a.tar.gz', 'a.tgz', 'more'])
    run('gunzip', 'a.tar.gz', cwd=b.mnt)
    equal(os.path.getsize(b.path('a.tar')), size)


def test_python(b):
    b.up()
    run(sys.executable, '-c', r'''
import tempfile, os, shutil, json, zipfile, pickle, dbm.dumb
with tempfile.NamedTemporaryFile('w', dir='.', delete=False) as f:
    json.dump(list(range(1000)), f)
os.replace(f.name, 'data.json')
assert json.load(open('data.json'))[-1] == 999
with zipfile.ZipFile('z.zip', 'w') as z:
    z.write('data.json')
    z.writestr('b', 'x' * 100000)
assert zipfile.ZipFile('z.zip').testzip() is None
with zipfile.ZipFile('z.zip', 'a') as z:
    z.writestr('c', 'more')
assert zipfile.ZipFile('z.zip').namelist() == ['data.json', 'b', 'c']
d = dbm.dumb.open('d'); d['k'] = 'v'; d.close()
d = dbm.dumb.open('d'); assert d['k'] == b'v'; d['k2'] = 'w'; d.close()
fd, name = tempfile.mkstemp(dir='.')
with open(name, 'w') as f: f.write('x')
os.close(fd)
assert open(name).read() == 'x'
shutil.copytree('.', '../copy')
assert sorted(os.listdir('../copy')) == sorted(os.listdir('.'))
with tempfile.TemporaryDirectory(dir='.') as d:
    open(d + '/x', 'w').write('y')
''', cwd=b.mnt)


def test_dd(b):
    b.up()
    run('dd', 'if=/dev/urandom', f'of={b.base}/data', 'bs=1M', 'count=30')
    for options in (['bs=4k'], ['bs=1M', 'conv=fsync'], ['bs=100k', 'oflag=direct'], ['bs=64k', 'oflag=append', 'conv=notrunc']):
        put(b.path('k'), b'')
        run('dd', f'if={b.base}/data', f'of={b.path("k")}', *options)
        run('cmp', b.base + '/data', b.path('k'))
    run('dd', 'if=/dev/zero', f'of={b.path("k")}', 'bs=1000', 'seek=7', 'count=3', 'conv=notrunc')
    data = get(b.base + '/data')
    assert get(b.path('k')) == data[:7000] + b'\0' * 3000 + data[10000:]


def test_programs_that_write_in_parallel(b):
    b.up('-o', 'durability=none')
    jobs = [subprocess.Popen(['cp', '-r', TREE, b.path(f'copy{i}')]) for i in range(3)]
    for job in jobs:
        equal(job.wait(100), 0)
    for i in range(3):
        run('diff', '-r', TREE, b.path(f'copy{i}'))

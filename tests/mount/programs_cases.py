"""Real programs on a mount."""
import os
import sqlite3
import subprocess
import sys

from harness import equal, get, put, run, sh

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


def test_editors(b):
    b.up()
    put(b.path('k'), b'one\ntwo\nthree\n')
    run('sed', '-i', 's/two/2/', b.path('k'))
    equal(get(b.path('k')), b'one\n2\nthree\n')
    run('perl', '-i', '-pe', 's/one/1/', b.path('k'))
    equal(get(b.path('k')), b'1\n2\nthree\n')
    for more in ('', 'set backupcopy=yes | ', 'set backupcopy=no backup | '):
        run('vim', '-es', '-u', 'NONE', '-c', f'{more}%s/^/+/ | wq', b.path('k'))
    equal(get(b.path('k')), b'+++1\n+++2\n+++three\n')


def test_sqlite(b):
    """One process; sharing a database between processes is for later."""
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


def test_compiler(b):
    b.up()
    put(b.path('a.c'), b'int twice(int x) { return 2 * x; }\n')
    put(b.path('m.c'), b'int twice(int); int main(void) { return twice(21) != 42; }\n')
    sh('gcc -O1 -c a.c && ar rc liba.a a.o && gcc -o m m.c -L. -la && ./m && strip m && ./m', cwd=b.mnt)


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

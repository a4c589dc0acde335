"""What `make install` puts somewhere works there, with nothing set in the environment; `make uninstall` takes it all away.  README's first
minute is as README says."""
import os
import re

from harness import equal, get, put, run

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), '../..'))
BARE = {'PATH': '/usr/sbin:/usr/bin:/sbin:/bin', 'LC_ALL': 'C.UTF-8'}


def make(b, *words):
    build = os.path.dirname(os.path.realpath(b.bin))
    run('make', '-s', '-C', ROOT, 'BUILD=' + os.path.dirname(build), 'VARIANT=' + os.path.basename(build), *words, env=BARE)


def files_of(top):
    return {os.path.relpath(os.path.join(at, name), top) for at, _, names in os.walk(top) for name in names}


def test_destdir(b):
    """Everything has its place, says nothing of DESTDIR, and may be read by all, whatever the umask was."""
    dest = b.base + '/dest'
    os.umask(0o077)
    make(b, 'install', 'DESTDIR=' + dest, 'PREFIX=/usr', 'LIBDIR=/usr/lib/x')
    found = files_of(dest)
    equal({name for name in found if name.startswith('usr/sbin/')}, {'usr/sbin/mount.kvfs', 'usr/sbin/mount.fuse.kvfs'})
    for name in ('bin/kvfs', 'include/kvfs.h', 'lib/x/libkvfs.so', 'lib/x/libkvfs.so.0', 'lib/x/pkgconfig/kvfs.pc', 'share/man/man1/kvfs.1',
                 'share/man/man3/libkvfs.3', 'share/man/man7/kvfs.7', 'share/man/man8/mount.kvfs.8', 'lib/systemd/user/kvfs@.service',
                 'lib/systemd/user/kvfs-backup@.timer', 'lib/systemd/system/kvfs@.service', 'lib/systemd/system/kvfs-backup@.timer',
                 'share/bash-completion/completions/kvfs', 'share/zsh/site-functions/_kvfs'):
        assert 'usr/' + name in found, (name, found)
    equal(os.readlink(dest + '/usr/sbin/mount.kvfs'), '/usr/bin/kvfs')
    for name in found:
        path = os.path.join(dest, name)
        if not os.path.islink(path):
            equal(os.stat(path).st_mode & 0o444, 0o444, name)
            assert dest.encode() not in get(path), name
    make(b, 'uninstall', 'DESTDIR=' + dest, 'PREFIX=/usr', 'LIBDIR=/usr/lib/x')
    equal(files_of(dest), set())


def test_prefix(b):
    """README's program, the command, the mount helper, the units: in a directory of which the system knows nothing."""
    prefix = b.base + '/opt'
    make(b, 'install', 'PREFIX=' + prefix)
    kvfs = prefix + '/bin/kvfs'
    run(kvfs, 'init', b.store, env=BARE)
    run(prefix + '/sbin/mount.kvfs', b.store, b.mnt, '-o', 'rw,noatime', env=BARE)
    put(b.path('k'), b'v')
    equal(run(kvfs, '-s', b.store, 'get', 'k', env=BARE), b'v')
    run(kvfs, 'umount', b.mnt, env=BARE)

    readme = get(ROOT + '/README.md').decode()
    program = re.search(r'```c\n(.*?)```', readme, re.S).group(1).replace('/tmp/visits', b.base + '/visited')
    put(b.base + '/visits.c', program.encode())
    build = re.search(r'\n    (cc visits\.c .*?) && \./visits\n    (.*)\n', readme)
    run('sh', '-c', build.group(1), cwd=b.base, env=dict(BARE, PKG_CONFIG_PATH=prefix + '/lib/pkgconfig'))
    equal(run(b.base + '/visits', env={}), build.group(2).encode() + b'\n')

    for name in ('user/kvfs@.service', 'system/kvfs@.service'):
        started = re.findall(r'^Exec\w+=(\S+) (mount|umount)', get(f'{prefix}/lib/systemd/{name}').decode(), re.M)
        equal({program for program, _ in started}, {kvfs}, name)
        equal([verb for _, verb in started], ['umount', 'mount'], 'nothing clears a mount away whose process died, but the next')
    for name in ('user', 'system'):
        backup = get(f'{prefix}/lib/systemd/{name}/kvfs-backup@.service').decode()
        assert f'exec {kvfs} -s' in backup, backup
    offered = f'. {prefix}/share/bash-completion/completions/kvfs; COMP_LINE="{kvfs} exi" COMP_POINT=999 COMP_WORDS=({kvfs} exi) COMP_CWORD=1; ' \
        '_kvfs; echo "${COMPREPLY[@]}"'
    equal(run('bash', '-c', offered, env=BARE), b'exists\n')
    make(b, 'uninstall', 'PREFIX=' + prefix)
    equal(files_of(prefix), set())


def test_sixty_seconds(b):
    """The lines of README after `$ `, one after the other in a shell, print what README says they print."""
    text = re.search(r'\n## Sixty seconds\n(.*?)\n## ', get(ROOT + '/README.md').decode(), re.S).group(1)
    steps = re.findall(r'^    \$ (.*)\n((?:    (?!\$ ).*\n)*)', text, re.M)
    assert len(steps) > 20, steps
    os.mkdir(b.base + '/kv')
    env = dict(BARE, HOME=b.base, PATH=os.path.dirname(os.path.realpath(b.bin)) + ':' + BARE['PATH'])
    run('kvfs', 'mount', b.base + '/kv', env=env)
    script = ''.join(f'{command}\necho "@@"\n' for command, _ in steps).replace('/tmp/netfilter', b.base + '/netfilter')
    said = run('bash', '-c', f'exec 2>&1\n{script}', cwd=b.base, env=env).decode().split('@@\n')
    for (command, output), seen in zip(steps, said):
        equal(seen, re.sub(r'^    ', '', output, flags=re.M), command)

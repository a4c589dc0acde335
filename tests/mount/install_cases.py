"""What `make install` puts somewhere works there, with nothing set in the environment; `make uninstall` takes it all away.  The commands of
README print what README says."""
import os
import re

from harness import Terminal, equal, get, put, run

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
    make(b, 'uninstall', 'PREFIX=' + prefix)
    equal(files_of(prefix), set())


# What Tab makes of a line, in bash and in zsh.
COMPLETED = {
    'kvfs g': 'kvfs get ',
    'kvfs umount -': 'kvfs umount --dead ',
    'kvfs get we': r'kvfs get we\ ird/',
    'kvfs get a/i': r"kvfs get a/it\'s ",
    "kvfs get 'a/c": "kvfs get 'a/c d' ",
    r'kvfs del top st\*': r'kvfs del top st\*r ',
    'kvfs get -- -': 'kvfs get -- -dash ',
    'kvfs get x=': 'kvfs get x=y/',
    'kvfs get m@': 'kvfs get m@n ',
    'kvfs get no/such/': 'kvfs get no/such/',
    'kvfs put top v': 'kvfs put top v',
    'kvfs -s @n': 'kvfs -s @notes ',
    'kvfs -s @notes get n': 'kvfs -s @notes get n/',
    'kvfs --store=@notes get n/': 'kvfs --store=@notes get n/1 ',
    'kvfs -s @nosuch get t': 'kvfs -s @nosuch get t',
    'kvfs export we': r'kvfs export we\ ird/',
    'kvfs import --from csv:f': 'kvfs import --from csv:file ',
}
# With more than one answer zsh, so told, puts all of them there; and takes capital letters for small ones.
OFFERED = {
    'kvfs e': 'kvfs edit exists export ',
    'kvfs ls --n': 'kvfs ls --no-dirs --null ',
    'kvfs help mo': 'kvfs help mount mount.kvfs ',
    'kvfs mount -o ro,pub': 'kvfs mount -o ro,publish=close ro,publish=write',
    'kvfs mount @': 'kvfs mount @default @notes ',
    'kvfs get ': r'kvfs get @at a/ m@n st\*r stor top we\ ird/ x=y/',
    'kvfs get TO': 'kvfs get top ',
    'kvfs get a/': r"kvfs get a/b a/c\ d a/it\'s ",
}
BASH = r'''
. /usr/share/bash-completion/completions/kvfs
bind 'set enable-bracketed-paste off'
tell() { printf '\n=>%s<=\n' "$READLINE_LINE"; READLINE_LINE= READLINE_POINT=0; }
bind -x '"\C-x": tell'
PS1='ready%'
'''
ZSH = r'''
fpath=(/usr/share/zsh/site-functions $fpath)
autoload -Uz compinit
compinit -u -D
zstyle ':completion:*' matcher-list '' 'm:{A-Z}={a-z}'
all() { _main_complete; compstate[insert]=all }
zle -C all complete-word all
ask() {
	while IFS= read -r BUFFER; do
		CURSOR=$#BUFFER
		zle all
		print -r -- "$BUFFER"
	done <questions >answers
	exit
}
zle -N zle-line-init ask
'''


def test_completion(b):
    """In shells that complete what is typed on a terminal, as installed."""
    dest, home = b.base + '/dest', b.base + '/home'
    make(b, 'install', 'DESTDIR=' + dest, 'PREFIX=/usr')
    os.mkdir(home)
    shell = ('env', '-i', f'PATH={dest}/usr/bin:/usr/bin:/bin', 'HOME=' + home, 'LC_ALL=C.UTF-8', 'TERM=dumb')
    for key in ('a/b', 'a/c d', "a/it's", 'we ird/x', 'top', 'st*r', 'stor', '@at', 'm@n', 'x=y/z', '-dash'):
        run(*shell, 'kvfs', 'put', '--', key, 'v')
    run(*shell, 'kvfs', '-s', '@notes', 'put', '--create', 'n/1', 'v')
    put(home + '/file', b'')
    b.up()
    completed = {**COMPLETED, f'kvfs umount {b.base}/': f'kvfs umount {b.mnt} '}

    put(home + '/rc', BASH.replace(' /usr', f' {dest}/usr').encode())
    bash = Terminal(*shell, 'bash', '--rcfile', 'rc', '-i', cwd=home)
    for line, wanted in completed.items():
        bash.shows(b'ready%')
        bash.type(f'{line}\t\x18'.encode())
        bash.shows(f'=>{wanted}<='.encode())
    bash.type(b'\x04')
    bash.end()

    completed.update(OFFERED)
    put(home + '/.zshrc', ZSH.replace('(/usr', f'({dest}/usr').encode())
    put(home + '/questions', '\n'.join([*completed, '']).encode())
    Terminal(*shell, 'zsh', '-i', cwd=home).end()
    for (line, wanted), seen in zip(completed.items(), get(home + '/answers').decode().splitlines(), strict=True):
        equal(seen, wanted, line)


def test_readme(b):
    """The lines of README after `$ `, one after the other in a shell, print what README says they print."""
    steps = re.findall(r'^    \$ (.*)\n((?:    (?!\$ ).*\n)*)', get(ROOT + '/README.md').decode(), re.M)
    assert len(steps) > 20, steps
    os.mkdir(b.base + '/kv')
    env = dict(BARE, HOME=b.base, PATH=os.path.dirname(os.path.realpath(b.bin)) + ':' + BARE['PATH'])
    run('kvfs', 'mount', b.base + '/kv', env=env)
    script = ''.join(f'{command}\necho "@@"\n' for command, _ in steps).replace('/tmp/netfilter', b.base + '/netfilter')
    said = run('bash', '-c', f'exec 2>&1\n{script}', cwd=b.base, env=env).decode().split('@@\n')
    for (command, output), seen in zip(steps, said):
        equal(seen, re.sub(r'^    ', '', output, flags=re.M), command)

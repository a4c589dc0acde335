"""mount(8) and /etc/fstab by mount.kvfs, as root and as an ordinary user; what a service manager is told; what it clears away."""
import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess

from harness import daemons_under, equal, eventually, get, mounts_under, put, run

NOBODY = pwd.getpwnam('nobody')


def as_nobody(*args, status=0):
    return run('setpriv', '--reuid', str(NOBODY.pw_uid), '--regid', str(NOBODY.pw_gid), '--clear-groups', *args, status=status)


def installed(b, *fstab):
    """Lets this process and its children see another machine: one with mount.kvfs in /sbin, such an fstab, and a /dev/fuse for all."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x20000) == 0, 'unshare(CLONE_NEWNS)'
    run('mount', '--make-rprivate', '/')
    sbin = os.path.realpath('/sbin')
    for name in ('sbin', 'sbin.before'):
        os.mkdir(f'{b.base}/{name}')
    run('mount', '--bind', sbin, b.base + '/sbin.before')
    for name in os.listdir(sbin):
        os.symlink(f'{b.base}/sbin.before/{name}', f'{b.base}/sbin/{name}')
    shutil.copy(b.bin, b.base + '/kvfs')
    for name in ('mount.kvfs', 'mount.fuse.kvfs'):
        os.symlink(b.base + '/kvfs', f'{b.base}/sbin/{name}')
    run('mknod', '-m', '666', b.base + '/fuse', 'c', '10', '229')
    put(b.base + '/fstab', ''.join(line + '\n' for line in fstab).encode())
    os.chmod(b.base + '/fstab', 0o644)
    run('mount', '--bind', b.base + '/sbin', sbin)
    run('mount', '--bind', b.base + '/fuse', '/dev/fuse')
    run('mount', '--bind', b.base + '/fstab', '/etc/fstab')


def mounted(b):
    """Type, options of the mount and options of the file system of what is mounted at b.mnt."""
    with open('/proc/self/mountinfo', encoding='utf-8') as table:
        for line in table:
            part = line.split()
            if part[4] == b.mnt:
                kind, source, options = part[part.index('-') + 1:]
                equal(source, b.store)
                return kind, set(part[5].split(',')), set(options.split(','))
    return None


def test_mount_as_root(b):
    installed(b)
    run(b.bin, 'init', b.store)
    for kind in ('kvfs', 'fuse.kvfs'):
        run('mount', '-t', kind, b.store, b.mnt)
        put(b.path('k'), kind.encode())
        found, options, _ = mounted(b)
        equal(found, 'fuse.kvfs')
        assert {'rw', 'nosuid', 'nodev'} <= options, options
        run('umount', b.mnt)
        b.daemon_gone()
        equal(b.kvfs('get', 'k'), kind.encode())
    run('mount', '-t', 'kvfs', b.store, b.mnt, '-o', 'ro,noatime,noexec,allow_other,durability=full')
    _, options, more = mounted(b)
    assert {'ro', 'noatime', 'noexec'} <= options and 'allow_other' in more, (options, more)
    said = run('mount', '-o', 'remount,rw', b.mnt, status=2)
    assert b'mount.kvfs: the options of a mount cannot be changed' in said, said
    assert 'ro' in mounted(b)[1]
    run('umount', b.mnt)


def test_wrong_use(b):
    installed(b)
    said = run('mount', '-t', 'kvfs', b.store, b.mnt, status=2)
    assert b'there is no store at' in said and said.count(b'\n') == 1, said
    run(b.bin, 'init', b.store)
    said = run('mount', '-t', 'kvfs', b.store, b.mnt, '-o', 'bogus', status=2)
    assert b"unknown mount option 'bogus'" in said and said.count(b'\n') == 1, said
    run('mount.kvfs', b.store, status=2)
    run('mount.kvfs', b.store, b.mnt, b.mnt, status=2)
    equal(mounted(b), None)
    run('mount.kvfs', b.store, b.mnt, '-f', '-o', 'rw')
    run('mount.kvfs', b.store, b.mnt, '-f', '-o', 'bogus', status=2)
    equal(mounted(b), None)
    run('mount', '-s', '-t', 'kvfs', b.store, b.mnt, '-o', 'bogus')
    assert mounted(b)
    run('umount', b.mnt)


def test_fstab_as_root(b):
    installed(b, f'{b.store} {b.mnt} kvfs defaults,nofail,_netdev,x-systemd.automount,x-gvfs-name=kv,comment=mine,allow_other 0 0')
    run(b.bin, 'init', b.store)
    for _ in range(2):
        run('mount', '-a')
        equal(len(daemons_under(b.base)), 1, 'mounted once')
    put(b.path('k'), b'v')
    os.kill(b.daemon(), signal.SIGKILL)
    b.daemon_gone()
    run('umount', b.mnt)
    run('mount', b.mnt)
    equal(get(b.path('k')), b'v')
    run('umount', b.mnt)


def test_fstab_as_ordinary_user(b):
    """`noauto,user`: mount(8) gives up its privileges, so the mount is the user's, and nobody else's."""
    installed(b, f'{b.store} {b.mnt} kvfs noauto,user 0 0')
    for path in (b.base, b.mnt):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    as_nobody(b.base + '/kvfs', 'init', b.store)
    as_nobody('mount', b.mnt)
    _, options, more = mounted(b)
    assert {'nosuid', 'nodev', 'noexec'} <= options and f'user_id={NOBODY.pw_uid}' in more, (options, more)
    equal(os.stat(f'/proc/{b.daemon()}').st_uid, NOBODY.pw_uid)
    as_nobody('sh', '-c', f'echo mine > {b.mnt}/k')
    as_nobody('umount', b.mnt)
    b.daemon_gone()
    equal(mounted(b), None)
    equal(as_nobody(b.base + '/kvfs', '-s', b.store, 'get', 'k'), b'mine\n')


def test_umount_without_mtab(b):
    """A root that nobody has booted: fusermount3 says what it misses, and kvfs how to make it."""
    installed(b, f'{b.store} {b.mnt} kvfs noauto,user 0 0')
    for path in (b.base, b.mnt):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    as_nobody(b.base + '/kvfs', 'init', b.store)
    as_nobody('mount', b.mnt)
    said = 'failed to open /etc/mtab: No such file or directory'
    put(b.base + '/fusermount3', f'#!/bin/sh\necho "$0: {said}" >&2\nexit 1\n'.encode())
    os.chmod(b.base + '/fusermount3', 0o755)
    seen = as_nobody('env', f'PATH={b.base}:' + os.environ['PATH'], b.base + '/kvfs', 'umount', b.mnt, status=2).decode()
    assert seen.count('\n') == 1 and said + '; as root: ln -s ../proc/self/mounts /etc/mtab' in seen, seen
    as_nobody(b.base + '/kvfs', 'umount', b.mnt)


def test_an_automounter_is_not_waited_for(b):
    """autofs lets nobody but its own process group pass to a mount point that waits for its mount: whatever mounts has to be of that
    group, or both wait for each other.  Here what mounts is fusermount3; the process that serves leads a session of its own afterwards."""
    installed(b, f'{b.store} {b.mnt} kvfs noauto,user 0 0')
    real = shutil.which('fusermount3')
    put(b.base + '/fusermount3.real', b'')
    run('mount', '--bind', real, b.base + '/fusermount3.real')
    put(b.base + '/fusermount3', f'#!/bin/bash\nread -ra at </proc/$$/stat\necho ${{at[4]}} >>{b.base}/groups\n'
                                 f'exec {b.base}/fusermount3.real "$@"\n'.encode())
    os.chmod(b.base + '/fusermount3', 0o755)
    run('mount', '--bind', b.base + '/fusermount3', real)
    for path in (b.base, b.mnt):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    as_nobody(b.base + '/kvfs', 'init', b.store)
    as_nobody('mount', b.mnt)
    equal(get(b.base + '/groups').split(), [str(os.getpgrp()).encode()])
    equal(os.getsid(b.daemon()), b.daemon())
    as_nobody('umount', b.mnt)


def test_served_by_a_user_heeds_no_set_user_id(b):
    """user=NAME: to mount(8) that is also its own `user`, for which it adds suid and dev when root mounts."""
    installed(b)
    os.chown(b.base, NOBODY.pw_uid, NOBODY.pw_gid)
    as_nobody(b.base + '/kvfs', 'init', b.store)
    for options in ('user=nobody,allow_other', 'user=nobody,suid,dev'):
        run('mount', '-t', 'kvfs', b.store, b.mnt, '-o', options)
        equal(os.stat(f'/proc/{b.daemon()}').st_uid, NOBODY.pw_uid)
        assert {'nosuid', 'nodev'} <= mounted(b)[1], mounted(b)
        run('umount', b.mnt)
        b.daemon_gone()


def served(b, manager, address):
    """A mount in the foreground, as a service manager starts one; when the first word of it has come."""
    process = subprocess.Popen([b.bin, 'mount', '-f', b.store, b.mnt], env=dict(os.environ, NOTIFY_SOCKET=address))
    manager.settimeout(10)
    equal(manager.recv(100), b'READY=1')
    return process


def test_service_manager_is_told(b):
    run(b.bin, 'init', b.store)
    for address in (b.base + '/notify', '@' + b.base + '/notify'):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind('\0' + address[1:] if address[0] == '@' else address)
            process = served(b, manager, address)
            put(b.path('k'), b'v')
            process.send_signal(signal.SIGTERM)
            equal(manager.recv(100), b'STOPPING=1')
            equal(process.wait(10), 0)
            equal(mounts_under(b.base), [])
            # in the background there is nobody to tell
            run(b.bin, 'mount', b.store, b.mnt, env=dict(os.environ, NOTIFY_SOCKET=address))
            b.down()
            manager.setblocking(False)
            try:
                raise AssertionError(manager.recv(100))
            except BlockingIOError:
                pass
    # one that is not there does not keep it from serving, and is missed aloud
    with subprocess.Popen([b.bin, 'mount', '-f', b.store, b.mnt], env=dict(os.environ, NOTIFY_SOCKET=b.base + '/none'),
                          stderr=subprocess.PIPE) as process:
        eventually(lambda: os.path.ismount(b.mnt))
        equal(get(b.path('k')), b'v')
        b.down()
        assert b'cannot tell the service manager READY=1' in process.stderr.read()


def test_dead_mounts_are_cleared_and_no_others(b):
    """What the units do first: `umount --dead`."""
    run(b.bin, 'umount', '--dead', b.mnt)
    run(b.bin, 'umount', '--dead', b.base + '/none')
    b.up()
    put(b.path('k'), b'v')
    run(b.bin, 'umount', '--dead', b.mnt)
    equal(get(b.path('k')), b'v')
    for _ in range(5):
        os.kill(b.daemon(), signal.SIGKILL)
        b.daemon_gone()
        equal(run(b.bin, 'umount', '--dead', b.mnt), b'')
        equal(mounts_under(b.base), [])
        b.up()
    equal(get(b.path('k')), b'v')
    b.down()

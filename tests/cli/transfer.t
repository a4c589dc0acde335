# A tree comes back as it was.
$ mkdir -p src/dir/empty src/deep/er; cd src
$ printf 'plain\n' >dir/file; : >dir/nothing; ln dir/file dir/second; ln -s ../nowhere dir/link; mkfifo dir/fifo
$ head -c 300000 /dev/urandom >big; truncate -s 5M sparse; printf x | dd of=sparse bs=1 seek=2M conv=notrunc status=none; truncate -s 1M hole
$ printf tail | dd of=ends bs=1 seek=1M status=none
$ chmod 640 dir/file; chmod 4755 big; chmod 1777 deep; chmod 500 dir/empty; echo x >$'odd\n\377name'; echo ü >ünï
$ setfattr -n user.note -v hello dir/nothing; setfattr -n user.dir -v there dir
$ touch -d '2001-02-03 04:05:06.123456789' big dir/file; touch -h -d '2002-02-02 02:02:02.5' dir/link; touch -d '2003-03-03 03:03:03.000000003' dir deep .
$ cd ..
$ cat >look <<'END'
> #!/bin/bash
> # look DIR: all that is to be kept, in one text
> cd "$1"; find . -mindepth 1 -printf '%P %M %n %U %G %T@ %y %l ' \( -type f -printf %s -o -true \) -printf '\n' | LC_ALL=C sort
> find . -type f -exec md5sum {} + | LC_ALL=C sort; getfattr -dhR -m - . 2>/dev/null
> END
$ chmod +x look
$ kvfs import src && kvfs export out
$ diff <(./look src) <(./look out) && diff -r --no-dereference src out 2>&1 | grep -v fifo
[1]
$ [ out/dir/file -ef out/dir/second ] && echo one file
one file
$ for f in sparse hole ends; do [ $(stat -c %b out/$f) -le 128 ] || echo $f is full; done
$ kvfs stat sparse | grep -c 'size: 5242880 bytes, [0-9]\{1,6\} stored'
1

# Into and out of a directory; the top one too keeps its attributes when it is new.
$ kvfs import src a/b && kvfs export a/b out2 && diff <(./look src) <(./look out2)
$ stat -c %Y src out2 | uniq | wc -l
1
$ kvfs import src a/b && kvfs export a/b out2 && diff <(./look src) <(./look out2)
$ kvfs export a out3 && ls out3
b

# The same through tar, and to and from tar(1).
$ kvfs export - >x.tar && tar -tf x.tar 2>/dev/null | wc -l
32
$ kvfs export a/b - | kvfs import - t && kvfs export t out4 && diff <(./look src) <(./look out4)
$ [ $(kvfs export a/b - | wc -c) -lt 600000 ] && echo holes are left out
holes are left out
$ tar -C src --xattrs -cf - . | kvfs import - u && kvfs export u out5 && diff <(./look src) <(./look out5)
$ tar -C src --xattrs -czf - . | kvfs import - z && kvfs export z out6 && diff <(./look src) <(./look out6)
$ mkdir out7; kvfs export a/b - | tar -C out7 --xattrs --warning=no-unknown-keyword -xf - && diff -r --no-dereference src out7 2>&1 | grep -v fifo
[1]

# Second names of whatever may have them, devices too.
$ mkdir special; mkfifo special/fifo; ln special/fifo special/fifo2; ln -s x special/link; ln special/link special/link2
$ kvfs import special sp && kvfs export sp out11 && [ out11/fifo -ef out11/fifo2 ] && find out11 ! -type d -links 2 -printf '%P %y\n' | sort
fifo p
fifo2 p
link l
link2 l
$ cat >devices.py <<'END'
> import sys, tarfile
> with tarfile.open(fileobj=sys.stdout.buffer, mode='w|') as t:
>     for name, kind in (('c', tarfile.CHRTYPE), ('b', tarfile.BLKTYPE)):
>         one, two = tarfile.TarInfo(name), tarfile.TarInfo(name + '2')
>         one.type, one.devmajor, one.devminor, two.type, two.linkname = kind, 1, 3, tarfile.LNKTYPE, name
>         t.addfile(one), t.addfile(two)
> END
$ python3 devices.py | kvfs import - dev; kvfs export dev - | tar -tvf - | sed 's/ [0-9]*\/.* / /'; kvfs export dev - | kvfs import - dev2; kvfs stat --json dev2/b2 | grep -o '"links":.\|block device'
brw-r--r-- b
hrw-r--r-- b
crw-r--r-- c
hrw-r--r-- c
block device
"links":2

# What does not work is told, and the rest goes on.
$ kvfs import missing
! kvfs: import 'missing': No such file or directory
[2]
$ kvfs import src/big
! kvfs: import 'src/big': is not a directory; one value: kvfs put KEY <FILE; an archive: kvfs import - <FILE
[2]
$ kvfs import src dir/file
! kvfs: import 'dir/file': is not a directory
[2]
$ kvfs export missing out8
! kvfs: export 'missing': no such key
[1]
$ kvfs export dir/file out8
! kvfs: export 'dir/file': is not a directory; one value: kvfs get KEY >FILE
[2]
$ kvfs export a/b src/big
! kvfs: export 'src/big': is there and no directory; an archive: kvfs export - >FILE
[2]
$ kvfs export nowhere/below/out8 2>&1
kvfs: export 'nowhere/below/out8': cannot make the directory: No such file or directory
[2]
$ ls -d out8
! ls: cannot access 'out8': No such file or directory
[2]
$ echo garbage | kvfs import - g
! kvfs: import: archive: Unrecognized archive format
[2]
$ kvfs import - g </dev/null
! kvfs: import: archive: Unrecognized archive format
[2]
$ head -c 100000 x.tar | kvfs import - cut 2>&1 | cat; kvfs exists cut/big
kvfs: import 'cut/a/b/big': Truncated tar archive
[1]
$ kvfs import .local own 2>&1; kvfs ls -R own
kvfs: import './share/kvfs/default': left out: it is the store itself
own/share
own/share/kvfs
$ cat >evil.py <<'END'
> import io, sys, tarfile
> t = tarfile.open(fileobj=sys.stdout.buffer, mode="w|")
> def add(name, data=b"x", **kw):
>     i = tarfile.TarInfo(name); i.size = len(data)
>     for k, v in kw.items(): setattr(i, k, v)
>     t.addfile(i, io.BytesIO(data))
> add("/abs/file"); add("./dot/./file"); add("../up"); add("a/../../up"); add("n" * 300 + "/x"); add("twice", b"1"); add("twice", b"2")
> add("kind", b"1"); add("kind", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"); add("kind", b"3")
> add("out", b"", type=tarfile.SYMTYPE, linkname="/tmp"); add("out/file")
> add("hard", b"", type=tarfile.LNKTYPE, linkname="twice"); add("lost", b"", type=tarfile.LNKTYPE, linkname="no/such")
> t.close()
> END
$ python3 evil.py | kvfs import - evil 2>&1 | sed 's/n\{300\}/NAME/'
kvfs: import '../up': has a ".." in its path
kvfs: import 'a/../../up': has a ".." in its path
kvfs: import 'NAME/x': a component is longer than 255 bytes
kvfs: import 'evil/out/file': a part of its path is a value, not a directory
kvfs: import 'evil/lost': is a second name of 'evil/no/such', which is not there
$ kvfs ls -R evil; kvfs get evil/twice; kvfs get evil/kind; kvfs get evil/hard
evil/abs
evil/abs/file
evil/dot
evil/dot/file
evil/hard
evil/kind
evil/out
evil/twice
232
(no newline)

# An export goes through no link in the target.
$ mkdir victim out9; ln -s ../victim out9/dir; kvfs export out9; ls -A victim; stat -c %F out9/dir
directory

# Nor into the store, where a key could be named as one of its files.
$ kvfs -s own init; echo x | kvfs -s own put data.mdb; kvfs -s own put own/data.mdb y
$ kvfs -s own export own; kvfs -s own export .; kvfs -s own export --to jsonl:own/data.mdb
! kvfs: export 'own': is the store itself
! kvfs: export 'own': would be written into the store itself; nothing more is
! kvfs: export 'own/data.mdb': is in the store itself
[2]
$ kvfs -s own get data.mdb; kvfs -s own check | grep -o ^whole
x
whole

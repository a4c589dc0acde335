# Bytes are verbatim in both directions.
$ kvfs put a 'hello, world'
$ kvfs get a
hello, world
(no newline)
$ kvfs put a ''
$ kvfs get a
$ printf 'x\0y\377\n\n' | kvfs put dir/bin
$ kvfs get dir/bin | od -An -c
   x  \0   y 377  \n  \n
$ kvfs put a -
$ kvfs get a
-
(no newline)
$ kvfs put a --if-absent
$ kvfs get a
--if-absent
(no newline)
$ kvfs put -- -k -v
$ kvfs get -- -k
-v
(no newline)
$ kvfs put /a slash; kvfs get a; kvfs get /a
slashslash
(no newline)
$ : | kvfs put empty; kvfs stat empty | grep size
     size: 0 bytes, 0 stored

# Values of any size are streamed.
$ head -c 5000000 /dev/zero | tr '\0' x >big; kvfs put big <big; kvfs get big | cmp - big
$ kvfs put big <big && kvfs get big | cmp - big
$ kvfs put big - ; kvfs get big
-
(no newline)

# A key gets the mode that a new file would; one that exists keeps its own.
$ (umask 077; kvfs put private 1; echo 2 | kvfs put private2); kvfs put public 1; kvfs put private 3
$ kvfs ls -l | awk '$NF ~ /^p/ {print $1, $NF}'
-rw------- private
-rw------- private2
-rw-r--r-- public

# Conditions.
$ kvfs put --if-absent a new
! kvfs: put 'a': the key exists already; nothing was stored
[2]
$ kvfs get a
slash
(no newline)
$ kvfs put --if-absent new 1 && kvfs get new
1
(no newline)
$ echo piped | kvfs put --if-absent new
! kvfs: put 'new': the key exists already; nothing was stored
[2]
$ kvfs put --if-absent big2 <big && kvfs put --if-absent big2 <big
! kvfs: put 'big2': the key exists already; nothing was stored
[2]
$ v=$(kvfs stat --json a | sed 's/.*"version":\([0-9]*\).*/\1/')
$ kvfs put --if-version $v a one && kvfs get a
one
(no newline)
$ kvfs put --if-version $v a two 2>err; echo $?; sed "s/version $v/version V/" err
2
kvfs: put 'a': is not at version V (any more); nothing was stored
$ kvfs get a
one
(no newline)
$ kvfs put --if-version 1 missing x
! kvfs: put 'missing': is not at version 1 (any more); nothing was stored
[2]

# Reading that fails stores nothing.
$ kvfs put a <$HOME
! kvfs: put 'a': standard input: Is a directory; nothing was stored
[2]
$ kvfs put a <&-
! kvfs: put 'a': standard input: Bad file descriptor; nothing was stored
[2]
$ kvfs get a
one
(no newline)

# No such key, and keys that are no values.
$ kvfs get missing
! kvfs: get 'missing': no such key
[1]
$ kvfs get dir
! kvfs: get 'dir': is a directory; `kvfs ls` lists it
[2]
$ kvfs get dir/missing
! kvfs: get 'dir/missing': no such key
[1]
$ kvfs get a/b
! kvfs: get 'a/b': no such key
[1]
$ kvfs put dir x
! kvfs: put 'dir': is a directory
[2]
$ kvfs put a/b x
! kvfs: put 'a/b': a part of its path is a value, not a directory
[2]
$ kvfs get /
! kvfs: get '/': is the root directory, not a value
[2]
$ kvfs put / x
! kvfs: put '/': is the root directory, not a value
[2]
$ kvfs exists a; kvfs exists dir; kvfs exists /
$ kvfs exists missing
[1]

# What cannot be written is told.
$ kvfs put a 1; kvfs put b 2
$ kvfs get a >/dev/full
! kvfs: get: standard output: No space left on device
[2]
$ kvfs ls >/dev/full
! kvfs: ls: standard output: No space left on device
[2]
$ kvfs stat a >/dev/full
! kvfs: stat: standard output: No space left on device
[2]
$ kvfs info >/dev/full
! kvfs: info: standard output: No space left on device
[2]
$ kvfs help >/dev/full
! kvfs: help: standard output: No space left on device
[2]
$ kvfs export - >/dev/full
! kvfs: export: Write error: No space left on device
[2]
$ kvfs ls >&-
! kvfs: ls: standard output: Bad file descriptor
[2]
$ kvfs put c 3 >&-

# A closed pipe ends a command quietly.
$ for i in {1..100}; do echo "put key$i x"; done | kvfs apply
$ head -c 3000000 /dev/zero | kvfs put big
$ kvfs get big | head -c 1 | od -An -c; echo ${PIPESTATUS[0]}
  \0
141
$ (set -o pipefail; kvfs get big | head -c 1 >/dev/null); echo $?
141

# On a terminal, and only there, a value ends with a newline.
$ kvfs get a | od -An -c
   1
$ script -qec 'kvfs get a' /dev/null </dev/null | od -An -c
   1  \r  \n
$ printf 'x\n' | kvfs put a; script -qec 'kvfs get a' /dev/null </dev/null | od -An -c
   x  \r  \n

# A file size limit is an error, not a death.
$ (ulimit -f 4; kvfs get big >out); ls -s --block-size=1 out
4096 out
! kvfs: get: standard output: File too large

# What cannot be written is told.
$ kvfs put a 1; kvfs put b 2
$ kvfs get a >/dev/full
$ kvfs ls >/dev/full
$ kvfs stat a >/dev/full
$ kvfs info >/dev/full
$ kvfs help >/dev/full
$ kvfs export - >/dev/full
$ kvfs ls >&-
$ kvfs put c 3 >&-

# A closed pipe ends a command quietly.
$ for i in {1..100}; do echo "put key$i x"; done | kvfs apply
$ head -c 3000000 /dev/zero | kvfs put big
$ kvfs get big | head -c 1 | od -An -c; echo ${PIPESTATUS[0]}
$ (set -o pipefail; kvfs get big | head -c 1 >/dev/null); echo $?

# On a terminal, and only there, a value ends with a newline.
$ kvfs get a | od -An -c
$ script -qec 'kvfs get a' /dev/null </dev/null | od -An -c
$ printf 'x\n' | kvfs put a; script -qec 'kvfs get a' /dev/null </dev/null | od -An -c

# A file size limit is an error, not a death.
$ (ulimit -f 4; kvfs get big >out); ls -s --block-size=1 out

# kvfs backup: a store of its own, durable, replaced only when asked to.
$ kvfs init store
$ export KVFS_STORE=$HOME/store
$ for i in {1..300}; do printf 'put d%d/key%d "%0500d"\n' $((i%7)) $i $i; done | kvfs apply
$ ln -s nowhere link; head -c 200000 /dev/urandom >random; kvfs put big <random
$ kvfs del -r d3 && kvfs backup copy/
$ ls -A copy; stat -c %a copy copy/data.mdb copy/FORMAT; cmp store/FORMAT copy/FORMAT
FORMAT
data.mdb
700
600
600
$ kvfs -s copy check --data | sed 's/sequence.*pages, //'
whole: 258 values (321KB), 6 directories, 0 others; 0 of them free
$ kvfs -s copy get big | cmp - random
$ diff <(kvfs export - | tar t | sort) <(kvfs -s copy export - | tar t | sort)
$ kvfs info | grep uuid >a; kvfs -s copy info | grep uuid | cmp - a

# It is not written over, but by --force, and then whole.
$ kvfs backup copy
! kvfs: backup: 'copy': something is there already
[2]
$ kvfs put new value; kvfs backup --force copy; kvfs -s copy get new
value
(no newline)
$ touch plain; kvfs backup plain; kvfs backup -f plain; ls plain
plain
! kvfs: backup: 'plain': something is there already
! kvfs: backup: 'plain': the old backup: Not a directory
$ mkdir other; touch other/x; kvfs backup -f other; ls -A . other
.:
a
copy
link
other
plain
random
store

other:
x
! kvfs: backup: 'other': no store there (the directory has no data.mdb)
$ kvfs backup -f store
! kvfs: backup: 'store': this process has it open
[2]
$ kvfs backup nowhere/copy
! kvfs: backup: 'nowhere/copy': the directory above: No such file or directory
[2]
$ kvfs backup; kvfs backup /; kvfs backup a b
! kvfs: backup: an argument is missing; usage: kvfs backup [--force] DEST
! kvfs: backup: '/': the backup needs a name of its own
! kvfs: backup: too many arguments; usage: kvfs backup [--force] DEST
[2]

# What an interrupted one left is begun anew; the restored store goes on.
$ mkdir .second.backup; echo junk >.second.backup/data.mdb; kvfs backup second; ls -A second
FORMAT
data.mdb
$ rm -r store; cp -a second store; kvfs put new 2; kvfs get new; kvfs check | grep -o '^whole'
2whole
$ ls -A
a
copy
link
other
plain
random
second
store

# While it is open, it is not replaced.
$ kvfs -s second watch >/dev/null 2>&1 & until kvfs -s second info | grep -q "open by"; do :; done; kvfs backup -f second 2>&1 | sed 's/process [0-9]*/process N/'; kill $!; wait $! 2>/dev/null
kvfs: backup: 'second': the store that is to be replaced is in use by process N (command)
[143]

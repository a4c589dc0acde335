# Levels of durability: on the command line, in the environment; what is told of them.
$ S=$HOME/.local/share/kvfs/default; kvfs put a 1; ls $S
FORMAT
ballast
data.mdb
doors
lock.mdb
$ kvfs --durability relaxed put a 2; kvfs info | grep commits
      commits: flushed each
$ ls $S; stat -c '%a %s' $S/sync
FORMAT
ballast
data.mdb
doors
lock.mdb
sync
600 8192
$ KVFS_DURABILITY=relaxed kvfs put a 3; KVFS_DURABILITY=none kvfs put b 1; kvfs get a
3
(no newline)
$ kvfs sync
$ kvfs sync now
! kvfs: sync: too many arguments; usage: kvfs sync
[2]
$ KVFS_DURABILITY=most kvfs get a
! kvfs: durability is full, relaxed or none, not 'most'; `kvfs help` lists the commands
[2]
$ kvfs --durability some get a
! kvfs: durability is full, relaxed or none, not 'some'; `kvfs help` lists the commands
[2]
$ mkdir d; echo 1 >d/x; kvfs import --durability relaxed d in; kvfs get in/x
1
# A power cut: the record is loose, and of another boot.  The first command puts the state back.
$ "$(dirname "$KVFS_BIN")/tests/cli/cut_power" $S c 1
$ kvfs get c; echo; kvfs info | grep commits
1
      commits: flushed each
$ "$(dirname "$KVFS_BIN")/tests/cli/cut_power" $S c 2; cp -a $S copy; kvfs -s copy get c
! kvfs: get: store '@HOME/copy': it was copied after the power went and before the original was opened; open that, or remove the file 'sync' here if this data.mdb was not copied so
[2]
$ kvfs get c; rm copy/sync; kvfs -s copy get c
2lost
(no newline)

# kvfs compact: the file without its free space, when nobody else is there.
$ kvfs init store
$ export KVFS_STORE=$HOME/store
$ for i in {1..20}; do head -c 300000 /dev/urandom | kvfs put v$i; done
$ kvfs get v20 >v20; for i in {1..19}; do kvfs del v$i; done; for i in {1..30}; do kvfs put x $i; done
$ before=$(stat -c %s store/data.mdb)
$ kvfs compact | sed -E 's/[0-9.]+[KM]?B/SIZE/g'
SIZE before, SIZE now
$ after=$(stat -c %s store/data.mdb); [ $after -lt $((before / 5)) ] || echo $before $after
$ kvfs get v20 | cmp - v20; kvfs get x; echo; kvfs ls; kvfs check --data | grep -o ^whole
30
v20
x
whole
$ ls -A store
FORMAT
ballast
data.mdb
doors
lock.mdb
$ kvfs put y 1; kvfs get y; echo
1

# Others have it open: they are named, and nothing happens.
$ kvfs watch >/dev/null 2>&1 & until kvfs info | grep -q "open by"; do :; done; kvfs compact 2>&1 | sed 's/process [0-9]*/process N/'; kill $!; wait $! 2>/dev/null
kvfs: compact: '@HOME/store': the store is in use by process N (command)
[143]
$ ls -A store; kvfs compact x
FORMAT
ballast
data.mdb
doors
lock.mdb
! kvfs: compact: too many arguments; usage: kvfs compact
[2]
$ kvfs -s none compact
! kvfs: compact: '@HOME/none': no store there
[2]

# What a crash left goes.
$ mkdir store/.new; touch store/.new/data.mdb; kvfs compact >/dev/null; ls -A store
FORMAT
ballast
data.mdb
doors

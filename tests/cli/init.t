# A store is private unless shared.
$ kvfs init s
$ stat -c %a s s/data.mdb
700
600
$ kvfs init s
! kvfs: init: store '@HOME/s': a store is there already
[2]
$ kvfs init --shared g
$ stat -c %a g g/data.mdb
2770
660
$ kvfs init --shared=group g2
$ stat -c %a g2
2770
$ kvfs init --shared=0750 m
$ stat -c %a m m/data.mdb
2750
640
$ kvfs init --shared=0777 all
$ stat -c %a all all/data.mdb
2777
666
$ kvfs init --shared=everybody x
! kvfs: init: --shared=everybody: neither "group" nor an octal mode; usage: kvfs init [--shared[=group|MODE]] [STORE]
[2]
$ kvfs init --shared=99 x
! kvfs: init: --shared=99: neither "group" nor an octal mode; usage: kvfs init [--shared[=group|MODE]] [STORE]
[2]
$ kvfs init --shared=0070 x
! kvfs: init: --shared=0070: the owner needs 7 (read, write and enter); usage: kvfs init [--shared[=group|MODE]] [STORE]
[2]
$ kvfs -s y init x
! kvfs: init: the store is named twice; usage: kvfs init [--shared[=group|MODE]] [STORE]
[2]
$ kvfs init a b
! kvfs: init: too many arguments; usage: kvfs init [--shared[=group|MODE]] [STORE]
[2]
$ ls
all
g
g2
m
s
$ KVFS_STORE=$HOME/byenv kvfs init && KVFS_STORE=$HOME/byenv kvfs put a 1 && kvfs -s byenv get a
1
(no newline)
$ kvfs init && kvfs put a 1

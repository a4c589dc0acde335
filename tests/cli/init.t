# A store is private unless shared.
$ kvfs init s
$ stat -c %a s s/data.mdb
$ kvfs init s
$ kvfs init --shared g
$ stat -c %a g g/data.mdb
$ kvfs init --shared=group g2
$ stat -c %a g2
$ kvfs init --shared=0750 m
$ stat -c %a m m/data.mdb
$ kvfs init --shared=0777 all
$ stat -c %a all all/data.mdb
$ kvfs init --shared=everybody x
$ kvfs init --shared=99 x
$ kvfs init --shared=0070 x
$ kvfs -s y init x
$ kvfs init a b
$ ls
$ KVFS_STORE=$HOME/byenv kvfs init && KVFS_STORE=$HOME/byenv kvfs put a 1 && kvfs -s byenv get a
$ kvfs init && kvfs put a 1

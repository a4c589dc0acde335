# A name that a program has reserved by O_EXCL: nobody else makes it meanwhile (reserve_name plays a mount's part).
$ reserved() { "$(dirname "$KVFS_BIN")/tests/cli/reserve_name" "$HOME/s" k "$1"; }
$ kvfs init s; export KVFS_STORE=$PWD/s; kvfs put x 1
$ reserved 'kvfs put k v'
! kvfs: put 'k': another program is making it, and asked to be the only one; nothing was stored
[1]
$ reserved 'kvfs put --if-absent k v'
! kvfs: put 'k': another program is making it, and asked to be the only one; nothing was stored
[1]
$ reserved 'yes | head -c 5M | kvfs put k'
! kvfs: put 'k': another program is making it, and asked to be the only one; nothing was stored
[1]
$ reserved 'kvfs put k/below v'
! kvfs: put 'k/below': another program is making it, and asked to be the only one; nothing was stored
[1]
$ reserved 'echo put k v | kvfs apply'
! kvfs: apply 'k': another program is making it, and asked to be the only one; nothing was applied
[1]
$ reserved 'kvfs mv x k'
! kvfs: mv 'x': to 'k': another program is making it, and asked to be the only one; nothing was renamed
[1]
$ reserved 'kvfs get k; kvfs put other v'
! kvfs: get 'k': no such key
$ kvfs put k v; kvfs ls
k
other
x

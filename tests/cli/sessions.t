# What a writer in a mount left unpublished (keep_session plays its part) is listed, recovered, dropped.
$ keep() { "$(dirname "$KVFS_BIN")/tests/cli/keep_session" "$HOME/s" "$@"; }
$ hide() { sed -E 's/20[0-9]+-[0-9]+-[0-9]+ [0-9:]+/TIME/'; }
$ kvfs init s; export KVFS_STORE=$PWD/s
$ kvfs sessions
$ echo old | kvfs put k
$ echo 'a new value' | keep k 9; echo 'a name' | keep 'new key' -28; printf XY | keep k 15 1; echo x | keep k 64
$ kvfs sessions | hide
1  TIME  12  k  killed by SIGKILL
2  TIME  7  'new key'  not published: No space left on device
3  TIME  4 (parts)  k  killed by SIGTERM
4  TIME  2  k  killed by signal 64
$ kvfs sessions --json | sed -E 's/20[0-9-]+T[0-9:.]+Z/TIME/'
{"id":1,"key":"k","size":12,"stored":32736,"whole":true,"reason":"killed by SIGKILL","time":"TIME"}
{"id":2,"key":"new key","size":7,"stored":32736,"whole":true,"reason":"not published: No space left on device","time":"TIME"}
{"id":3,"key":"k","size":4,"stored":32736,"whole":false,"reason":"killed by SIGTERM","time":"TIME"}
{"id":4,"key":"k","size":2,"stored":32736,"whole":true,"reason":"killed by signal 64","time":"TIME"}
$ kvfs get k; kvfs ls
old
k
$ kvfs recover 1
$ kvfs get k
a new value
$ kvfs recover 3
$ kvfs get k
aXYew value
$ kvfs recover 2 'd/other key'
$ kvfs get 'd/other key'; kvfs ls -R
a name
d
d/other key
k
$ kvfs sessions | hide
4  TIME  2  k  killed by signal 64
$ kvfs del k
$ kvfs sessions | hide
4  TIME  2  k  killed by signal 64
$ kvfs recover 4
! kvfs: recover: the key of session 4 is gone; name one: kvfs recover 4 KEY
[2]
$ kvfs recover 4 d
! kvfs: recover 'd': is a directory
[2]
$ kvfs recover 4 /a//b
! kvfs: recover '/a//b': not a key: a component is empty ("//", or a '/' at the end)
[2]
$ kvfs recover 1
! kvfs: recover: no session 1 is kept; `kvfs sessions` lists them
[2]
$ kvfs sessions --drop 4 17
! kvfs: sessions: no session 17 is kept; `kvfs sessions` lists them
[2]
$ kvfs sessions
$ kvfs recover
! kvfs: recover: an argument is missing; usage: kvfs recover ID [KEY]
[2]
$ kvfs recover four
! kvfs: recover: 'four' is no ID; `kvfs sessions` lists them; usage: kvfs recover ID [KEY]
[2]
$ kvfs sessions --drop
! kvfs: sessions: an argument is missing; usage: kvfs sessions [--json | --drop ID...]
[2]
$ kvfs sessions --drop x
! kvfs: sessions: 'x' is no ID; `kvfs sessions` lists them; usage: kvfs sessions [--json | --drop ID...]
[2]
$ kvfs sessions --drop --json 1
! kvfs: sessions: --json and --drop exclude each other; usage: kvfs sessions [--json | --drop ID...]
[2]
$ kvfs sessions 4
! kvfs: sessions: too many arguments; usage: kvfs sessions [--json | --drop ID...]
[2]
$ kvfs recover 1 a b
! kvfs: recover: too many arguments; usage: kvfs recover ID [KEY]
[2]

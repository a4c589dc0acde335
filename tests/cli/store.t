# Only the default store is made unasked, and only by put, import and mount.
$ kvfs get a
! kvfs: get: there is no store at '@HOME/.local/share/kvfs/default' yet: `kvfs put`, `kvfs import` or `kvfs mount` makes it
[2]
$ kvfs ls
! kvfs: ls: there is no store at '@HOME/.local/share/kvfs/default' yet: `kvfs put`, `kvfs import` or `kvfs mount` makes it
[2]
$ kvfs exists a
! kvfs: exists: there is no store at '@HOME/.local/share/kvfs/default' yet: `kvfs put`, `kvfs import` or `kvfs mount` makes it
[2]
$ kvfs incr a
! kvfs: incr: there is no store at '@HOME/.local/share/kvfs/default' yet: `kvfs put`, `kvfs import` or `kvfs mount` makes it
[2]
$ ls -A
$ kvfs put a 1
$ kvfs get a
1
(no newline)
$ stat -c '%a %F' .local .local/share/kvfs .local/share/kvfs/default
700 directory
700 directory
700 directory

# Another store is never made by a typing error.
$ kvfs -s $HOME/other get a
! kvfs: get: there is no store at '@HOME/other': make it with `kvfs init`, or mount its disk
[2]
$ kvfs -s $HOME/other put a 1
! kvfs: put: there is no store at '@HOME/other': make it with `kvfs init` or --create, or mount its disk
[2]
$ kvfs -s other put a 1
! kvfs: put: there is no store at '@HOME/other': make it with `kvfs init` or --create, or mount its disk
[2]
$ ls
$ kvfs -s other put --create a 2
$ kvfs --store other get a
2
(no newline)
$ KVFS_STORE=other kvfs get a
2
(no newline)
$ KVFS_STORE=other kvfs -s .local/share/kvfs/default get a
1
(no newline)
$ KVFS_STORE= kvfs get a
1
(no newline)
$ kvfs -s '' get a
! kvfs: get: the name of the store is empty
[2]

# -s stands before the command only.
$ kvfs get -s other a
! kvfs: get: unknown option '-s'; usage: kvfs get KEY
[2]

# @NAME is beside the default store.
$ kvfs -s @work put a 1
! kvfs: put: there is no store at '@HOME/.local/share/kvfs/work': make it with `kvfs init` or --create, or mount its disk
[2]
$ kvfs init @work
$ kvfs -s @work put a 3
$ kvfs -s @work get a
3
(no newline)
$ ls .local/share/kvfs
default
work
$ kvfs -s @a/b get a
! kvfs: get: '@a/b' names no store: after @ comes one name without '/'
[2]
$ kvfs -s @.. get a
! kvfs: get: '@..' names no store: after @ comes one name without '/'
[2]
$ kvfs -s @ get a
! kvfs: get: '@' names no store: after @ comes one name without '/'
[2]
$ XDG_DATA_HOME=$HOME/xdg kvfs put a 4
$ XDG_DATA_HOME=$HOME/xdg kvfs get a
4
(no newline)
$ ls xdg/kvfs
default
$ XDG_DATA_HOME=relative kvfs get a
1
(no newline)

# What is no store.
$ kvfs -s /etc/passwd get a
! kvfs: get: store '/etc/passwd': not a directory, so not a store
[2]
$ kvfs -s /etc/passwd put --create a 1
! kvfs: put: store '/etc/passwd': not a directory, so not a store
[2]
$ mkdir empty full; echo x >full/x
$ kvfs -s empty get a
! kvfs: get: there is no store at '@HOME/empty': make it with `kvfs init`, or mount its disk
[2]
$ kvfs -s full put --create a 1
! kvfs: put: store '@HOME/full': the directory holds other things ('x') and no store
[2]
$ kvfs -s nowhere/other init
! kvfs: init: store '@HOME/nowhere/other': cannot make the directory: No such file or directory
[2]
$ kvfs -s /proc/store put --create a 1
! kvfs: put: store '/proc/store': cannot make the directory: No such file or directory
[2]

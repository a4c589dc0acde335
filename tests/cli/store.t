# Only the default store is made unasked, and only by put, import and mount.
$ kvfs get a
$ kvfs ls
$ kvfs exists a
$ kvfs incr a
$ ls -A
$ kvfs put a 1
$ kvfs get a
$ stat -c '%a %F' .local .local/share/kvfs .local/share/kvfs/default

# Another store is never made by a typing error.
$ kvfs -s $HOME/other get a
$ kvfs -s $HOME/other put a 1
$ kvfs -s other put a 1
$ ls
$ kvfs -s other put --create a 2
$ kvfs --store other get a
$ KVFS_STORE=other kvfs get a
$ KVFS_STORE=other kvfs -s .local/share/kvfs/default get a
$ KVFS_STORE= kvfs get a
$ kvfs -s '' get a

# -s stands before the command only.
$ kvfs get -s other a

# @NAME is beside the default store.
$ kvfs -s @work put a 1
$ kvfs init @work
$ kvfs -s @work put a 3
$ kvfs -s @work get a
$ ls .local/share/kvfs
$ kvfs -s @a/b get a
$ kvfs -s @.. get a
$ kvfs -s @ get a
$ XDG_DATA_HOME=$HOME/xdg kvfs put a 4
$ XDG_DATA_HOME=$HOME/xdg kvfs get a
$ ls xdg/kvfs
$ XDG_DATA_HOME=relative kvfs get a

# What is no store.
$ kvfs -s /etc/passwd get a
$ kvfs -s /etc/passwd put --create a 1
$ mkdir empty full; echo x >full/x
$ kvfs -s empty get a
$ kvfs -s full put --create a 1
$ kvfs -s nowhere/other init
$ kvfs -s /proc/store put --create a 1

# Wrong use: one line, a hint, exit status 2. `help` and --help: exit status 0, on standard output.
$ kvfs
! kvfs: no command given; `kvfs help` lists the commands
[2]
$ kvfs frobnicate
! kvfs: unknown command 'frobnicate'; `kvfs help` lists the commands
[2]
$ kvfs --frobnicate
! kvfs: unknown option '--frobnicate'; `kvfs help` lists the commands
[2]
$ kvfs -s
! kvfs: option '-s' needs an argument; `kvfs help` lists the commands
[2]
$ kvfs get
! kvfs: get: an argument is missing; usage: kvfs get KEY
[2]
$ kvfs get a b
! kvfs: get: too many arguments; usage: kvfs get KEY
[2]
$ kvfs get -x a
! kvfs: get: unknown option '-x'; usage: kvfs get KEY
[2]
$ kvfs ls --frobnicate
! kvfs: ls: unknown option '--frobnicate'; usage: kvfs ls [-lRr0adnhpF1] [--no-dirs] [--json] [KEY]
[2]
$ kvfs put --if-version 1x a b
! kvfs: put: '1x' is no version; `kvfs stat KEY` shows it; usage: kvfs put [--if-absent | --if-version V] [--create] KEY [VALUE]
[2]
$ kvfs put --if-version
! kvfs: put: option '--if-version' needs an argument; usage: kvfs put [--if-absent | --if-version V] [--create] KEY [VALUE]
[2]
$ kvfs put --if-absent --if-version 1 a b
! kvfs: put: --if-absent and --if-version exclude each other; usage: kvfs put [--if-absent | --if-version V] [--create] KEY [VALUE]
[2]
$ kvfs incr a one
! kvfs: incr: 'one' is not a whole number of 64 bits; usage: kvfs incr KEY [N]
[2]
$ kvfs incr a 9223372036854775808
! kvfs: incr: '9223372036854775808' is not a whole number of 64 bits; usage: kvfs incr KEY [N]
[2]
$ kvfs ls -l --json
! kvfs: ls: --json goes with neither -l nor -0; usage: kvfs ls [-lRr0adnhpF1] [--no-dirs] [--json] [KEY]
[2]
$ kvfs import --durability some .
! kvfs: import: durability is full, relaxed or none, not 'some'; usage: kvfs import [--create] [--durability LEVEL] {SOURCE | --from KIND:FILE [--keys=path] [--values=json] [--sort]} [DIR]
[2]
$ kvfs help frobnicate
! kvfs: help: there is no command 'frobnicate'; usage: kvfs help [COMMAND]
[2]
$ kvfs help incr
usage: kvfs [-s STORE] incr KEY [N]

Add N (1) to a number and print it.

  N may be negative.  A key that does not exist counts as 0.




$ kvfs incr --help
usage: kvfs [-s STORE] incr KEY [N]

Add N (1) to a number and print it.

  N may be negative.  A key that does not exist counts as 0.




$ kvfs help | grep -c '^  [a-z]'
26
$ kvfs --version | grep -cE '^kvfs [0-9]+\.[0-9]+\.[0-9]+$'
1
# Every command explains itself, and needs no store to do so.
$ for c in $(kvfs help | sed -n 's/^  \([a-z]*\) .*/\1/p'); do kvfs help $c >a && kvfs $c --help >b && cmp a b && grep -q "usage: .* $c" a || echo $c; done

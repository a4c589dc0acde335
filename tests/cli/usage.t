# Wrong use: one line, a hint, exit status 2. `help` and --help: exit status 0, on standard output.
$ kvfs
$ kvfs frobnicate
$ kvfs --frobnicate
$ kvfs -s
$ kvfs get
$ kvfs get a b
$ kvfs get -x a
$ kvfs ls --frobnicate
$ kvfs put --if-version 1x a b
$ kvfs put --if-version
$ kvfs put --if-absent --if-version 1 a b
$ kvfs incr a one
$ kvfs incr a 9223372036854775808
$ kvfs ls -l --json
$ kvfs import --durability some .
$ kvfs help frobnicate
$ kvfs help incr
$ kvfs incr --help
$ kvfs help | grep -c '^  [a-z]'
$ kvfs --version | grep -cE '^kvfs [0-9]+\.[0-9]+\.[0-9]+$'
# Every command explains itself, and needs no store to do so.
$ for c in $(kvfs help | sed -n 's/^  \([a-z]*\) .*/\1/p'); do kvfs help $c >a && kvfs $c --help >b && cmp a b && grep -q "usage: .* $c" a || echo $c; done

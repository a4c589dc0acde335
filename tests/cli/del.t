$ for k in a b c d/e d/f/g; do kvfs put $k 1; done
$ kvfs del a && kvfs ls
$ kvfs del missing
$ kvfs del -f missing
$ kvfs del -f
$ kvfs del
# One that fails does not keep the others.
$ kvfs del missing b a//b c
$ kvfs ls
$ kvfs rm d
$ kvfs rm -r d
$ kvfs ls
$ kvfs put x/y/z 1; kvfs del x/y/z; kvfs exists x
# The whole store only when it is meant.
$ kvfs put a 1
$ kvfs del -r ''
$ kvfs del /
$ kvfs ls
$ kvfs del -r /
$ kvfs ls

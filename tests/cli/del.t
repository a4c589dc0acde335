$ for k in a b c d/e d/f/g; do kvfs put $k 1; done
$ kvfs del a && kvfs ls
b
c
d
$ kvfs del missing
! kvfs: del 'missing': no such key
[1]
$ kvfs del -f missing
$ kvfs del -f
$ kvfs del
! kvfs: del: an argument is missing; usage: kvfs del [-rf] KEY...
[2]
# One that fails does not keep the others.
$ kvfs del missing b a//b c
! kvfs: del 'missing': no such key
! kvfs: del 'a//b': not a key: a component is empty ("//", or a '/' at the end)
[2]
$ kvfs ls
d
$ kvfs rm d
! kvfs: rm 'd': is a directory with keys in it; -r deletes those too
[2]
$ kvfs rm -r d
$ kvfs ls
$ kvfs put x/y/z 1; kvfs del x/y/z; kvfs exists x
[1]
# The whole store only when it is meant.
$ kvfs put a 1
$ kvfs del -r ''
! kvfs: del: the key '' is empty; the whole store is '/'
[2]
$ kvfs del /
! kvfs: del '/': is the whole store; -r deletes all its keys
[2]
$ kvfs ls
a
$ kvfs del -r /
$ kvfs ls

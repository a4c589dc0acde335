# A line for each change, as soon as it is committed; an interrupt is the ordinary end.
$ kvfs put d/old 1; kvfs put top 1
$ kvfs watch -r >seen & pid=$!; until ls -l /proc/$pid/fd 2>/dev/null | grep -q inotify; do sleep 0.02; done; sleep 0.1
$ kvfs put a/b 1; kvfs put 'a/with space' 2; kvfs mv a/b c; kvfs del d/old; kvfs put top 2; kvfs rm -r a
$ until grep -q 'delete a$' seen; do sleep 0.02; done; kill -INT $pid; wait $pid; echo $?; cat seen
0
mkdir a
put a/b
put 'a/with space'
rename a/b -> c
delete d/old
delete d
put top
delete 'a/with space'
delete a
$ kvfs put d/k 1; kvfs put e 1
$ seq=$(kvfs info --json | sed 's/.*"sequence":\([0-9]*\).*/\1/')
$ kvfs put d/k 2; kvfs mv d/k e; kvfs put d/x/y 3
$ after() { rm -f seen; kvfs watch "$@" >seen & pid=$!; until [ -s seen ]; do sleep 0.02; done; sleep 0.1; kill -INT $pid; wait $pid; sed -E 's/"sequence":[0-9]+/"sequence":N/; s/"time":"[^"]*"/"time":"T"/' seen; }
$ after --since $seq
delete e
rename-to e
delete d
mkdir d
$ after --since $seq -r d
put d/k
rename-from d/k
delete d
mkdir d
mkdir d/x
put d/x/y
$ after --since $seq d
put d/k
rename-from d/k
delete d
mkdir d
mkdir d/x
$ after --since $seq --json -r
{"sequence":N,"time":"T","kind":"put","key":"d/k","type":"value"}
{"sequence":N,"time":"T","kind":"delete","key":"e","type":"value"}
{"sequence":N,"time":"T","kind":"rename","key":"d/k","type":"value","target":"e"}
{"sequence":N,"time":"T","kind":"delete","key":"d","type":"directory"}
{"sequence":N,"time":"T","kind":"mkdir","key":"d","type":"directory"}
{"sequence":N,"time":"T","kind":"mkdir","key":"d/x","type":"directory"}
{"sequence":N,"time":"T","kind":"put","key":"d/x/y","type":"value"}
# A value with several names: the one that was used, or one that is watched.
$ mkdir t t/p t/q; echo 1 >t/p/a; ln t/p/a t/q/b; ln t/p/a t/c; kvfs import t
$ seq=$(kvfs info --json | sed 's/.*"sequence":\([0-9]*\).*/\1/')
$ kvfs put q/b 2; head -c 5000000 /dev/zero | kvfs put p/a -; kvfs del c; kvfs put q/b 4; kvfs mv q/b e
$ after --since $seq -r
put q/b
put p/a
delete c
put q/b
delete e
rename q/b -> e
$ after --since $seq p
put p/a
put p/a
put p/a
# Whoever reads may stop.
$ timeout 10 kvfs watch -r --since $seq | head -n1
put q/b
$ kvfs watch nothing
! kvfs: watch 'nothing': no such key
[1]
$ kvfs watch --since x
! kvfs: watch: 'x' is not a sequence number; usage: kvfs watch [-r] [--json] [--since SEQUENCE] [KEY]
[2]
$ kvfs watch --since 99999999
! kvfs: watch: the log of changes does not reach back to 99999999
[2]
$ kvfs watch a b
! kvfs: watch: too many arguments; usage: kvfs watch [-r] [--json] [--since SEQUENCE] [KEY]
[2]

$ kvfs put x 1
$ kvfs incr n
1
$ kvfs incr n
2
$ kvfs incr n 40
42
$ kvfs incr n -50
-8
$ kvfs get n
-8
(no newline)
$ kvfs incr n +8
0
$ echo 41 | kvfs put line; kvfs incr line; kvfs get line
42
42
$ kvfs put word hello; kvfs incr word
! kvfs: incr 'word': the value is not a whole number of 64 bits
[2]
$ kvfs put n 9223372036854775807; kvfs incr n
! kvfs: incr 'n': the sum would not fit in 64 bits; nothing was changed
[2]
$ kvfs get n
9223372036854775807
(no newline)
$ kvfs incr d/e/f; kvfs incr d
1
! kvfs: incr 'd': is a directory
[2]
# Nothing is lost between processes.
$ for p in 1 2 3 4; do (for i in {1..25}; do kvfs incr many >/dev/null; done) & done; wait; kvfs get many
100
(no newline)

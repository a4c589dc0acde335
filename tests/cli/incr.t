$ kvfs put x 1
$ kvfs incr n
$ kvfs incr n
$ kvfs incr n 40
$ kvfs incr n -50
$ kvfs get n
$ kvfs incr n +8
$ echo 41 | kvfs put line; kvfs incr line; kvfs get line
$ kvfs put word hello; kvfs incr word
$ kvfs put n 9223372036854775807; kvfs incr n
$ kvfs get n
$ kvfs incr d/e/f; kvfs incr d
# Nothing is lost between processes.
$ for p in 1 2 3 4; do (for i in {1..25}; do kvfs incr many >/dev/null; done) & done; wait; kvfs get many

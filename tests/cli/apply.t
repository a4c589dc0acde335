$ kvfs put a 1; kvfs put n 5; kvfs put old x
$ printf '# remark\n\nput b 2\nput "c d" "two\\nlines \\x00\\xff \\"quoted\\" \\\\"\n  del a \nincr n 10\nmv old dir/new\nput empty ""' | kvfs apply
$ kvfs ls -R
$ kvfs get 'c d' | od -An -c
$ kvfs get n; kvfs get dir/new; kvfs get empty
# All or nothing.
$ printf 'put x 1\ndel missing\n' | kvfs apply
$ printf 'put x 1\nfly away\n' | kvfs apply
$ printf 'put x 1\nput y\n' | kvfs apply
$ printf 'put x 1\nput y 1 2\n' | kvfs apply
$ printf 'put x 1\nput y "1\n' | kvfs apply
$ printf 'put x 1\nput y "\\q"\n' | kvfs apply
$ printf 'put x 1\nput y "1"2\n' | kvfs apply
$ printf 'put x 1\nput y a\\\n' | kvfs apply
$ printf 'put x 1\nput a//b 2\n' | kvfs apply
$ printf 'put x 1\nput "a\\x00" 2\n' | kvfs apply
$ printf 'put x 1\nincr b one\n' | kvfs apply
$ printf 'put x 1\nincr empty 1\n' | kvfs apply
$ printf 'put x 1\nput dir 1\n' | kvfs apply
$ kvfs apply <$HOME
$ kvfs exists x
$ kvfs apply </dev/null
# Conditions.
$ v=$(kvfs stat --json b | sed 's/.*"version":\([0-9]*\).*/\1/')
$ printf "check b $v\ncheck z absent\nput b 3\nput z 1\n" | kvfs apply; kvfs get b
$ printf "check b $v\nput b 4\n" | kvfs apply 2>&1 | sed -E 's/version [0-9]+/version N/'
$ printf "check z absent\nput z 2\n" | kvfs apply 2>&1 | sed -E 's/version [0-9]+/version N/'
$ printf 'check missing 5\n' | kvfs apply
$ printf 'check b soon\n' | kvfs apply
$ kvfs get b
# Somebody changes a key of the batch while it is read.
$ (echo 'incr n 1'; sleep 0.5; kvfs put n 100; echo 'put w 1') | kvfs apply
$ kvfs get n; kvfs exists w

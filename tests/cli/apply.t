$ kvfs put a 1; kvfs put n 5; kvfs put old x; kvfs put word hello
$ printf '# remark\n\nput b 2\nput "c d" "two\\nlines \\x00\\xff \\"quoted\\" \\\\"\n  del a \nincr n 10\nmv old dir/new\nput empty ""' | kvfs apply
$ kvfs ls -R
b
c d
dir
dir/new
empty
n
word
$ kvfs get 'c d' | od -An -c
   t   w   o  \n   l   i   n   e   s      \0 377       "   q   u
   o   t   e   d   "       \
$ kvfs get n; kvfs get dir/new; kvfs get empty
15x
(no newline)
# All or nothing.
$ printf 'put x 1\ndel missing\n' | kvfs apply
! kvfs: apply 'missing': line 2: no such key; nothing was applied
[1]
$ printf 'put x 1\nfly away\n' | kvfs apply
! kvfs: apply: line 2: begins with none of put, del, incr, mv, check; nothing was applied
[2]
$ printf 'put x 1\nput y\n' | kvfs apply
! kvfs: apply: line 2: a word is missing, or one too many; nothing was applied
[2]
$ printf 'put x 1\nput y 1 2\n' | kvfs apply
! kvfs: apply: line 2: too many words; one with blanks in it stands in double quotes; nothing was applied
[2]
$ printf 'put x 1\nput y "1\n' | kvfs apply
! kvfs: apply: line 2: a double quote is not closed; nothing was applied
[2]
$ printf 'put x 1\nput y "\\q"\n' | kvfs apply
! kvfs: apply: line 2: a backslash begins none of \\ \" \n \t \r \xHH; nothing was applied
[2]
$ printf 'put x 1\nput y "1"2\n' | kvfs apply
! kvfs: apply: line 2: after a closing double quote comes a blank; nothing was applied
[2]
$ printf 'put x 1\nput y a\\\n' | kvfs apply
! kvfs: apply: line 2: a word with a double quote or a backslash in it must stand in double quotes; nothing was applied
[2]
$ printf 'put x 1\nput a//b 2\n' | kvfs apply
! kvfs: apply 'a//b': line 2: a component is empty ("//", or a '/' at the end); nothing was applied
[2]
$ printf 'put x 1\nput "a\\x00" 2\n' | kvfs apply
! kvfs: apply: line 2: a key holds no NUL byte; nothing was applied
[2]
$ printf 'put x 1\nincr b one\n' | kvfs apply
! kvfs: apply: line 2: incr: N is not a whole number of 64 bits; nothing was applied
[2]
$ printf 'put x 1\nincr word 1\n' | kvfs apply
! kvfs: apply: line 2: incr: the value is not a whole number of 64 bits; nothing was applied
[2]
$ printf 'put x 1\nput dir 1\n' | kvfs apply
! kvfs: apply 'dir': is a directory; nothing was applied
[2]
$ kvfs apply <$HOME
! kvfs: apply: line 1: Is a directory; nothing was applied
[2]
$ kvfs exists x
[1]
$ kvfs apply </dev/null
# Conditions.
$ v=$(kvfs stat --json b | sed 's/.*"version":\([0-9]*\).*/\1/')
$ printf "check b $v\ncheck z absent\nput b 3\nput z 1\n" | kvfs apply; kvfs get b
3
(no newline)
$ printf "check b $v\nput b 4\n" | kvfs apply 2>&1 | sed -E 's/version [0-9]+/version N/'
kvfs: apply 'b': line 1: the check failed, the key is at version N; nothing was applied
$ printf "check z absent\nput z 2\n" | kvfs apply 2>&1 | sed -E 's/version [0-9]+/version N/'
kvfs: apply 'z': line 1: the check failed, the key is at version N; nothing was applied
$ printf 'check missing 5\n' | kvfs apply
! kvfs: apply 'missing': line 1: the check failed, there is no such key; nothing was applied
[2]
$ printf 'check b soon\n' | kvfs apply
! kvfs: apply: line 1: check: neither a version nor "absent"; nothing was applied
[2]
$ kvfs get b
3
(no newline)
# Somebody changes a key of the batch while it is read.
$ (echo 'incr n 1'; sleep 0.5; kvfs put n 100; echo 'put w 1') | kvfs apply
! kvfs: apply 'n': somebody else changed it meanwhile; nothing was applied, try again
[2]
$ kvfs get n; kvfs exists w
100
(no newline)
[1]
# What cannot be applied is known when all is: the key is named.
$ kvfs put dir/k 1
$ printf 'put b 5\ndel dir\n' | kvfs apply
! kvfs: apply 'dir': the directory is not empty; nothing was applied
[2]
$ kvfs get b
3
(no newline)

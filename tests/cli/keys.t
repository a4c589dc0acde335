# Illegal keys: the rule is named, the status is 2, at every command.
$ kvfs put ok 1
$ kvfs get ''
$ kvfs put '' x
$ kvfs get a//b
$ kvfs get a/
$ kvfs get //a
$ kvfs get a/../b
$ kvfs get .
$ kvfs put ../etc/passwd x
$ long=$(printf '%0256d' 0)
$ kvfs put $long x
$ kvfs put ${long:1} x && kvfs get ${long:1}
$ deep=$(printf 'abcdefg/%.0s' {1..512})x
$ kvfs put $deep x 2>&1 | sed 's/put .*:/put KEY:/'
$ kvfs put ${deep:8} x && kvfs get ${deep:8}
$ kvfs exists a//b
$ kvfs stat a//b
$ kvfs ls a//b
$ kvfs del a//b
$ kvfs mv ok a//b
$ kvfs incr a//b
$ kvfs edit a//b

# Any other byte is fine; messages show it safely.
$ kvfs put $'new\nline' 1 && kvfs get $'new\nline'
$ kvfs get $'esc\033[31m\a\'\\'
$ kvfs get $'not\377utf8'
$ kvfs put $'not\377utf8' 2 && kvfs get $'not\377utf8'
$ kvfs put 'ünï cödé' 3 && kvfs get 'ünï cödé'
$ kvfs ls | grep -v 000 | od -An -c | head -3

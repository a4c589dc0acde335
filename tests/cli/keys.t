# Illegal keys: the rule is named, the status is 2, at every command.
$ kvfs put ok 1
$ kvfs get ''
! kvfs: get '/': is the root directory, not a value
[2]
$ kvfs put '' x
! kvfs: put '/': is the root directory, not a value
[2]
$ kvfs get a//b
! kvfs: get 'a//b': not a key: a component is empty ("//", or a '/' at the end)
[2]
$ kvfs get a/
! kvfs: get 'a/': not a key: a component is empty ("//", or a '/' at the end)
[2]
$ kvfs get //a
! kvfs: get '//a': not a key: a component is empty ("//", or a '/' at the end)
[2]
$ kvfs get a/../b
! kvfs: get 'a/../b': not a key: a component is ".."
[2]
$ kvfs get .
! kvfs: get '.': not a key: a component is "."
[2]
$ kvfs put ../etc/passwd x
! kvfs: put '../etc/passwd': a component is ".."
[2]
$ long=$(printf '%0256d' 0)
$ kvfs put $long x
! kvfs: put '0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000': a component is longer than 255 bytes
[2]
$ kvfs put ${long:1} x && kvfs get ${long:1}
x
(no newline)
$ deep=$(printf 'abcdefg/%.0s' {1..512})x
$ kvfs put $deep x 2>&1 | sed 's/put .*:/put KEY:/'
kvfs: put KEY: the key is longer than 4095 bytes
$ kvfs put ${deep:8} x && kvfs get ${deep:8}
x
(no newline)
$ kvfs exists a//b
! kvfs: exists 'a//b': not a key: a component is empty ("//", or a '/' at the end)
[2]
$ kvfs stat a//b
! kvfs: stat 'a//b': not a key: a component is empty ("//", or a '/' at the end)
[2]
$ kvfs ls a//b
! kvfs: ls 'a//b': not a key: a component is empty ("//", or a '/' at the end)
[2]
$ kvfs del a//b
! kvfs: del 'a//b': not a key: a component is empty ("//", or a '/' at the end)
[2]
$ kvfs mv ok a//b
! kvfs: mv 'a//b': not a key: a component is empty ("//", or a '/' at the end)
[2]
$ kvfs incr a//b
! kvfs: incr 'a//b': not a key: a component is empty ("//", or a '/' at the end)
[2]
$ kvfs edit a//b
! kvfs: edit 'a//b': not a key: a component is empty ("//", or a '/' at the end)
[2]

# Any other byte is fine; messages show it safely.
$ kvfs put $'new\nline' 1 && kvfs get $'new\nline'
1
(no newline)
$ kvfs get $'esc\033[31m\a\'\\'
! kvfs: get 'esc\e[31m\x07\'\\': no such key
[1]
$ kvfs get $'not\377utf8'
! kvfs: get 'not\xffutf8': no such key
[1]
$ kvfs put $'not\377utf8' 2 && kvfs get $'not\377utf8'
2
(no newline)
$ kvfs put 'ünï cödé' 3 && kvfs get 'ünï cödé'
3
(no newline)
$ kvfs ls | grep -av 000 | od -An -c | head -3
   a   b   c   d   e   f   g  \n   n   e   w  \n   l   i   n   e
  \n   n   o   t 377   u   t   f   8  \n   o   k  \n 303 274   n
 303 257       c 303 266   d 303 251  \n

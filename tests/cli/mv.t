$ kvfs put a 1; kvfs put b 2; kvfs put d/x 3
$ kvfs mv a c && kvfs get c && kvfs exists a
1
(no newline)
[1]
$ kvfs mv c b && kvfs get b
1
(no newline)
$ kvfs mv b d && kvfs ls -R
d
d/b
d/x
$ kvfs mv d/b new/dir/b && kvfs ls -R
d
d/x
new
new/dir
new/dir/b
$ kvfs mv new d && kvfs ls -R
d
d/new
d/new/dir
d/new/dir/b
d/x
$ kvfs put e 5
$ kvfs mv -n e d/x
! kvfs: mv 'e': to 'd/x': the key exists already; nothing was renamed
[2]
$ kvfs mv -T e d
! kvfs: mv 'e': 'd' is a directory and this is none
[2]
$ kvfs mv d e
! kvfs: mv 'd': 'e' is, or lies under, something that is not a directory
[2]
$ kvfs mv d d/inside
! kvfs: mv 'd': a directory cannot move into itself ('d/inside')
[2]
$ kvfs mv d d/new/inside
! kvfs: mv 'd': a directory cannot move into itself ('d/new/inside')
[2]
$ kvfs mv missing x
! kvfs: mv 'missing': no such key
[1]
$ kvfs mv e e
! kvfs: mv 'e': is the same key as 'e'
[2]
$ kvfs mv e e/f
! kvfs: mv 'e': 'e/f' is, or lies under, something that is not a directory
[2]
$ kvfs mv / x
! kvfs: mv '/': the whole store cannot be renamed; move its directory instead
[2]
$ kvfs mv d/x / && kvfs ls -R
d
d/new
d/new/dir
d/new/dir/b
e
x
$ kvfs mv -T d d2 && kvfs ls -R
d2
d2/new
d2/new/dir
d2/new/dir/b
e
x

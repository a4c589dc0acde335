$ kvfs put a 1; kvfs put b 2; kvfs put d/x 3
$ kvfs mv a c && kvfs get c && kvfs exists a
$ kvfs mv c b && kvfs get b
$ kvfs mv b d && kvfs ls -R
$ kvfs mv d/b new/dir/b && kvfs ls -R
$ kvfs mv new d && kvfs ls -R
$ kvfs put e 5
$ kvfs mv -n e d/x
$ kvfs mv -T e d
$ kvfs mv d e
$ kvfs mv d d/inside
$ kvfs mv d d/new/inside
$ kvfs mv missing x
$ kvfs mv e e
$ kvfs mv e e/f
$ kvfs mv / x
$ kvfs mv d/x / && kvfs ls -R
$ kvfs mv -T d d2 && kvfs ls -R

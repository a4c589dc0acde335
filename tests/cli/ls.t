$ for k in b a/2 a/1 a/sub/x c 'with blank'; do kvfs put "$k" "value of $k"; done
$ kvfs ls
$ kvfs ls -r
$ kvfs ls a
$ kvfs ls -R
$ kvfs ls -R a
$ kvfs ls -Rr a
$ kvfs ls -R --no-dirs
$ kvfs ls -p
$ kvfs ls -RF a
$ kvfs ls -d a
$ kvfs ls a/1
$ kvfs ls missing
$ kvfs ls a/1/x
$ kvfs ls -0 a | od -An -c
$ kvfs ls -a1 a
$ kvfs ls -R0 --no-dirs | xargs -0 -n1 kvfs get | sed 's/value/\nvalue/g'; echo
$ kvfs ls -l | sed -E 's/20[0-9]{2}-[0-9]{2}-[0-9]{2} [0-9:]{5}/DATE/; s/(root|[a-z]+) +(root|[a-z]+)  /U G /'
$ kvfs ls -n a/1 | awk '{print $1, $2, $3 == '$(id -u)', $4 == '$(id -g)', $5, $NF}'
$ head -c 1536 /dev/zero | kvfs put c; kvfs ls -lh c | awk '{print $5}'
$ kvfs ls --json a | sed -E 's/"(inode|uid|gid|version)":[0-9]+/"\1":N/g; s/"20[^"]*Z"/"TIME"/g'
$ kvfs put $'odd "\\\n\377' x
$ kvfs ls --json $'odd "\\\n\377' | grep -o '"key[^,]*'
$ kvfs put $'odd "\\\n' x
$ kvfs ls --json $'odd "\\\n' | grep -o '"key[^,]*",'
$ kvfs ls --json | python3 -c 'import json, sys; print([json.loads(l)["type"] for l in sys.stdin])'

# On a terminal, names that a shell would not take are quoted.
$ kvfs put "it's" x
$ script -qec 'kvfs ls' /dev/null </dev/null | tr -d '\r'
$ script -qec 'kvfs ls -0' /dev/null </dev/null | tr '\0' '!' | head -1 | cut -c1-8

# What is no value.
$ mkdir t; ln -s 'some where' t/link; mkfifo t/fifo; kvfs import t t
$ kvfs ls -F t
$ kvfs ls -l t | sed -E 's/.*(fifo|link)/\1/'
$ kvfs get t/link
$ kvfs get t/fifo
$ kvfs stat t/link | head -2

$ for k in b a/2 a/1 a/sub/x c 'with blank'; do kvfs put "$k" "value of $k"; done
$ kvfs ls
a
b
c
with blank
$ kvfs ls -r
with blank
c
b
a
$ kvfs ls a
1
2
sub
$ kvfs ls -R
a
a/1
a/2
a/sub
a/sub/x
b
c
with blank
$ kvfs ls -R a
a/1
a/2
a/sub
a/sub/x
$ kvfs ls -Rr a
a/sub/x
a/sub
a/2
a/1
$ kvfs ls -R --no-dirs
a/1
a/2
a/sub/x
b
c
with blank
$ kvfs ls -p
a/
b
c
with blank
$ kvfs ls -RF a
a/1
a/2
a/sub/
a/sub/x
$ kvfs ls -d a
a
$ kvfs ls a/1
a/1
$ kvfs ls missing
! kvfs: ls 'missing': no such key
[1]
$ kvfs ls a/1/x
! kvfs: ls 'a/1/x': no such key
[1]
$ kvfs ls -0 a | od -An -c
   1  \0   2  \0   s   u   b  \0
$ kvfs ls -a1 a
1
2
sub
$ kvfs ls -R0 --no-dirs | xargs -0 -n1 kvfs get | sed 's/value/\nvalue/g'; echo

value of a/1
value of a/2
value of a/sub/x
value of b
value of c
value of with blank

$ kvfs ls -l | sed -E 's/20[0-9]{2}-[0-9]{2}-[0-9]{2} [0-9:]{5}/DATE/; s/ [a-z]+ +[a-z]+ +/ U G /'
drwxr-xr-x  3 U G 3 DATE a
-rw-r--r--  1 U G 10 DATE b
-rw-r--r--  1 U G 10 DATE c
-rw-r--r--  1 U G 19 DATE with blank
$ kvfs ls -n a/1 | awk '{print $1, $2, $3 == '$(id -u)', $4 == '$(id -g)', $5, $NF}'
-rw-r--r-- 1 1 1 12 a/1
$ head -c 1536 /dev/zero | kvfs put c; kvfs ls -lh c | awk '{print $5}'
1.5K
$ kvfs ls --json a | sed -E 's/"(inode|uid|gid|version)":[0-9]+/"\1":N/g; s/"20[^"]*Z"/"TIME"/g'
{"key":"a/1","type":"value","size":12,"allocated":12,"version":N,"inode":N,"mode":"0644","links":1,"uid":N,"gid":N,"accessed":"TIME","modified":"TIME","changed":"TIME","born":"TIME"}
{"key":"a/2","type":"value","size":12,"allocated":12,"version":N,"inode":N,"mode":"0644","links":1,"uid":N,"gid":N,"accessed":"TIME","modified":"TIME","changed":"TIME","born":"TIME"}
{"key":"a/sub","type":"directory","size":1,"allocated":0,"version":N,"inode":N,"mode":"0755","links":2,"uid":N,"gid":N,"accessed":"TIME","modified":"TIME","changed":"TIME","born":"TIME"}
$ kvfs put $'odd "\\\n\377' x
$ kvfs ls --json $'odd "\\\n\377' | grep -o '"key[^,]*'
"key_base64":"b2RkICJcCv8="
$ kvfs put $'odd "\\\n' x
$ kvfs ls --json $'odd "\\\n' | grep -o '"key[^,]*",'
"key":"odd \"\\\n",
$ kvfs ls --json | python3 -c 'import json, sys; print([json.loads(l)["type"] for l in sys.stdin])'
['directory', 'value', 'value', 'value', 'value', 'value']

# On a terminal, names that a shell would not take are quoted.
$ kvfs put "it's" x
$ script -qec 'kvfs ls' /dev/null </dev/null | tr -d '\r'
a
b
c
'it'\''s'
$'odd "\\\n'
$'odd "\\\n\xff'
'with blank'
$ script -qec 'kvfs ls -0' /dev/null </dev/null | tr '\0' '!' | head -1 | cut -c1-8
a!b!c!it

# What is no value.
$ mkdir t; ln -s 'some where' t/link; mkfifo t/fifo; kvfs import t t
$ kvfs ls -F t
fifo|
link@
$ kvfs ls -l t | sed -E 's/.*(fifo|link)/\1/'
fifo
link -> some where
$ kvfs get t/link
! kvfs: get 't/link': is a symbolic link (to 'some where'), which kvfs does not follow
[2]
$ kvfs get t/fifo
! kvfs: get 't/fifo': is a special file and has no value
[2]
$ kvfs stat t/link | head -2
      key: 't/link' -> 'some where'
     type: link

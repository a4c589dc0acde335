# Stores of other kinds, with keys of all sorts, made by their own libraries.
$ cat >keys.py <<'END'
> texts = ['hello', '', '.', '..', 'a/b', 'x' * 5000, 'nul\0', 'new\nline', '100%', '%41', 'ünï', 'str:x', 'bytes:q', 'int:5',
>     'e' * 255, 'f' * 256, 'é' * 130, '\x7f', '/', '~', '"quo\'ted,"']
> binary = [b'\xff\xfe', bytes(range(256)), b'z\xff' * 2500]
> numbers = [0, 5, -7, 2**63 - 1, -2**63, 1.5, 1e300, -0.0, 1e16, 0.1]
> def value(key):
>     return b'v\r\n\0\xff' + repr(key)[:9].encode()
> END
$ cat >make.py <<'END'
> import csv, dbm.dumb, dbm.gnu, json, lmdb, pickle, shelve, sqlite3
> from keys import *
> db = sqlite3.connect('lite.db')
> db.execute('CREATE TABLE "odd name" (k, n, v)')
> db.execute('CREATE TABLE unnamed (key TEXT PRIMARY KEY, value BLOB)') # what sqlitedict makes
> db.executemany('INSERT INTO "odd name" VALUES (?, 0, ?)', ((k, value(k)) for k in texts + binary + [b'', b'hello'] + numbers))
> db.execute("INSERT INTO unnamed VALUES ('answer', ?)", (pickle.dumps(42),))
> db.commit()
> for open_dbm, name in (dbm.gnu.open, 'gnu'), (dbm.dumb.open, 'dumb'):
>     with open_dbm(name, 'n') as d:
>         for k in texts:
>             d[k.encode()] = value(k)
>         for k in binary:
>             d[k] = value(k)
> with shelve.Shelf(dbm.gnu.open('shelf', 'n')) as s:
>     s['answer'] = 42
> with lmdb.open('env', max_dbs=2) as env:
>     sub = env.open_db(b'sub')
>     with env.begin(write=True) as t:
>         for k in texts:
>             0 < len(k.encode()) < 512 and t.put(k.encode(), value(k))
>         t.put(b'\xff', value(b'\xff'), db=sub)
> with open('lines', 'w') as f:
>     for k in texts + numbers:
>         print(json.dumps({'key': k, 'value': 'v\r\n\0' + repr(k)[:9]}, ensure_ascii=len(str(k)) % 2 == 0), file=f)
>     print('\n{"value_base64": "AP8=", "n": {}, "key_base64": "/wA="}', end='', file=f)
> with open('table.csv', 'w', newline='', encoding='utf-8-sig') as f:
>     w = csv.writer(f)
>     w.writerow(['n', 'value', 'key'])
>     w.writerows([0, 'v\r\n\0' + repr(k)[:9], k] for k in texts)
> END
$ /usr/bin/python3 make.py

# Each gets the name that says what it is; this is the rule once more, in Python.
$ cat >expect.py <<'END'
> import hashlib, re, subprocess, sys, tarfile
> from keys import *
> def name(key):
>     if isinstance(key, bytes):
>         text = 'bytes:' + ''.join(chr(b) if 32 <= b < 127 and b not in b'%/' else f'%{b:02X}' for b in key)
>     elif isinstance(key, str):
>         marked = re.match('(str|bytes|int|float):', key) or key in ('', '.', '..')
>         text = 'str:' * bool(marked) + re.sub('[\0-\x1f\x7f%/]', lambda m: f'%{ord(m[0]):02X}', key)
>     else:
>         text = f'{type(key).__name__}:{key!r}'
>     data = text.encode()
>     if len(data) <= 255:
>         return data, b''
>     head = re.sub(b'%.?$', b'', data[:180].decode(errors='ignore').encode())
>     return head + b'%%' + hashlib.sha256(data).hexdigest().encode(), data + b'\n'
> def want(keys, value):
>     return {name(k)[0]: name(k)[1] + value(k) for k in keys}
> def have(directory):
>     tar = subprocess.Popen(['kvfs', 'export', directory, '-'], stdout=subprocess.PIPE)
>     with tarfile.open(fileobj=tar.stdout, mode='r|', errors='surrogateescape') as t:
>         return {m.name.encode(errors='surrogateescape'): t.extractfile(m).read() for m in t}
> def text(key):
>     return b'v\r\n\0' + repr(key)[:9].encode()
> cases = {'lite': want(texts + binary + [b'', b'hello'] + numbers, value), 'gnu': want(texts + binary, value), 'dumb': want(texts + binary, value),
>     'env': want([k for k in texts if 0 < len(k.encode()) < 512], value), 'sub': want([b'\xff'], value), 'lines': want(texts + numbers, text),
>     'csv': want(texts, text)}
> cases['lines'][b'bytes:%FF%00'] = b'\0\xff'
> for d in sys.argv[1:]:
>     print(d, len(cases[d]), have(d) == cases[d])
> END
$ kvfs import --from 'sqlite:lite.db#odd name,k,v' lite && kvfs import --from dbm:gnu gnu && kvfs import dumb --from dbm:dumb
$ kvfs import --from lmdb:env env; kvfs import --from lmdb:env#sub sub && kvfs import --from lmdb:env/data.mdb#sub sub
! kvfs: import 'env': the key 'sub' is a database of its own, for an import from lmdb:PATH#NAME
! kvfs: import 'env': 1 of 20 records were left out
$ kvfs import --from jsonl:lines lines && kvfs import --from csv:table.csv csv
$ /usr/bin/python3 expect.py lite gnu dumb env sub lines csv
lite 36 True
gnu 24 True
dumb 24 True
env 19 True
sub 1 True
lines 32 True
csv 21 True
$ kvfs ls lite | cut -c -40 | head -30
"quo'ted,"
%2541
%2F
%7F
100%25
a%2Fb
bytes:
bytes:%00%01%02%03%04%05%06%07%08%09%0A%
bytes:%FF%FE
bytes:hello
bytes:z%FFz%FFz%FFz%FFz%FFz%FFz%FFz%FFz%
eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee
ffffffffffffffffffffffffffffffffffffffff
float:-0.0
float:0.1
float:1.5
float:1e+16
float:1e+300
hello
int:-7
int:-9223372036854775808
int:0
int:5
int:9223372036854775807
new%0Aline
nul%00
str:
str:.
str:..
str:bytes:q

# Without a fragment, the table of sqlitedict; a shelve; another two columns of CSV, from a pipe; values as JSON.
$ kvfs import --from sqlite:lite.db w && kvfs import --from dbm:shelf w2 && cmp <(kvfs get w/answer) <(/usr/bin/python3 -c 'import pickle, sys; sys.stdout.buffer.write(pickle.dumps(42))')
$ printf 'a,1\nb,2\r\n\n"c",",""3"' | kvfs import --from csv:-#2,1 w3; kvfs ls w3; kvfs get 'w3/,"3'; echo
,"3
1
2
c
$ printf '{"key":"n","value": { "b":1.10,"a":[123456789012345678901234567890] } }\n{"key":"s","value":"q\\"\\n"}\n{"key":"z","value":null}' >v.jsonl
$ kvfs import --from jsonl:v.jsonl w4; kvfs import --from jsonl:v.jsonl --values=json w5; for k in w4/n w4/s w4/z w5/n w5/s w5/z; do echo "$(kvfs get $k)"; done
{ "b":1.10,"a":[123456789012345678901234567890] }
q"
null
{ "b":1.10,"a":[123456789012345678901234567890] }
"q\"\n"
null
$ sqlite3 null.db "CREATE TABLE t (key, value); INSERT INTO t VALUES ('a', 'x'), ('b', 5), ('c', NULL), ('d', x'ff')"
$ kvfs import --from sqlite:null.db w6; kvfs ls w6; kvfs import --from sqlite:null.db --values=json w7; for k in a b c; do kvfs get w7/$k; echo; done
a
b
d
"x"
5
null
! kvfs: import 'null.db': row 3: the value is NULL; --values=json keeps that
! kvfs: import 'null.db': 1 of 4 records were left out
! kvfs: import 'd': its value is not UTF-8, so it cannot be a JSON string
! kvfs: import 'null.db': 1 of 4 records were left out

# A key that is a directory, or below a value, or no key at all, costs itself only; --keys=path.
$ kvfs put p/dir/below kept; kvfs put p/value kept; ln -s x there; mkdir links; mv there links; kvfs import links p
$ cat >paths.csv <<'END'
> key,value
> a,1
> a/b,2
> b/c,3
> b,4
> dir,5
> value/x,6
> value,7
> there,8
> ,9
> /,10
> ..,11
> x//y,12
> /abs/key,13
> a,14
> END
$ (printf 'n%.0s' {1..256}; echo ,15; printf 'm/%.0s' {1..3000}; echo m,16) >>paths.csv
$ for sort in '' --sort; do kvfs import --from csv:paths.csv --keys=path $sort p 2>&1 | sed -E 's/n{250}/N/; s/(m.){2000}/M/g'; kvfs ls -R --no-dirs p; kvfs get p/a; echo; kvfs get p/dir/below; echo; kvfs del p/a p/abs/key p/b/c; done
kvfs: import '/': is the root directory, not a value
kvfs: import '/': is the root directory, not a value
kvfs: import '..': a component is ".."
kvfs: import 'x//y': a component is empty ("//", or a '/' at the end)
kvfs: import 'Nnnnnnn': a component is longer than 255 bytes
kvfs: import 'Mm/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m': a key is longer than 4095 bytes
kvfs: import 'p/a/b': a part of its path is a value, not a directory
kvfs: import 'p/b': is a directory
kvfs: import 'p/dir': is a directory
kvfs: import 'p/value/x': a part of its path is a value, not a directory
kvfs: import 'p/there': is a symbolic link, which kvfs does not follow
kvfs: import 'paths.csv': 11 of 16 records were left out
p/a
p/abs/key
p/b/c
p/dir/below
p/there
p/value
14
kept
kvfs: import '..': a component is ".."
kvfs: import 'x//y': a component is empty ("//", or a '/' at the end)
kvfs: import 'Nnnnnnn': a component is longer than 255 bytes
kvfs: import 'Mm/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m/m': a key is longer than 4095 bytes
kvfs: import '/': is the root directory, not a value
kvfs: import '/': is the root directory, not a value
kvfs: import 'p/a/b': a part of its path is a value, not a directory
kvfs: import 'p/b/c': a part of its path is a value, not a directory
kvfs: import 'p/dir': is a directory
kvfs: import 'p/there': is a symbolic link, which kvfs does not follow
kvfs: import 'p/value/x': a part of its path is a value, not a directory
kvfs: import 'paths.csv': 11 of 16 records were left out
p/a
p/abs/key
p/b
p/dir/below
p/there
p/value
14
kept
! kvfs: del 'p/b/c': no such key
[1]
$ printf 'key,value\n\0nul,1\nlast,2\n' >nul.csv; kvfs import --from csv:nul.csv --keys=path p
! kvfs: import '%00nul': a key holds no NUL byte
! kvfs: import 'nul.csv': 1 of 2 records were left out
[2]

# In a batch of many the others are stored, and with them the order of what comes twice.
$ seq 2500 | sed 's/.*/{"key":"k&","value":"1"}/; 1500s/k1500/dir/; 700,710s/k[0-9][0-9]*/twice/; 710s/"1"/"last"/' >many; kvfs import --from jsonl:many --keys=path p; kvfs ls p | grep -c '^k'; kvfs get p/twice; echo
2488
last
! kvfs: import 'p/dir': is a directory
! kvfs: import 'many': 1 of 2500 records were left out


# What is no record is counted, and told where it is.
$ printf '{"key":"a"}\n{"value":1}\nnonsense\n{"key":"b","value":1} x\n{"key":[],"value":1}\n{"key":"\\ud800","value":1}\n{"key_base64":"?","value":1}\n{"key":99999999999999999999,"value":1}\n{"key":"ok","value":1}\n[1]\n{"key":"b","value":1,}\n{"key":"c","value":01}' >bad.jsonl
$ kvfs import --from jsonl:bad.jsonl q; kvfs ls q
ok
! kvfs: import 'bad.jsonl': line 1: it has no value
! kvfs: import 'bad.jsonl': line 2: it has no key
! kvfs: import 'bad.jsonl': line 3: not a JSON object
! kvfs: import 'bad.jsonl': line 4: something follows the JSON object
! kvfs: import 'bad.jsonl': line 5: its key is neither a string nor a number of 64 bits
! kvfs: import 'bad.jsonl': line 6: invalid Unicode '\uD800' near '"\ud800"'
! kvfs: import 'bad.jsonl': line 7: key_base64 is not Base64
! kvfs: import 'bad.jsonl': line 8: its key is neither a string nor a number of 64 bits
! kvfs: import 'bad.jsonl': line 10: not a JSON object
! kvfs: import 'bad.jsonl': line 11: unexpected token near '}'
! kvfs: import 'bad.jsonl': line 12: invalid token near '0'
! kvfs: import 'bad.jsonl': 11 of 12 records were left out
$ printf 'key,value\nonly\n"a"b,1\nok,1\n"open,1\n' >bad.csv; kvfs import --from csv:bad.csv q2; kvfs ls q2
ok
! kvfs: import 'bad.csv': line 2: only 1 columns
! kvfs: import 'bad.csv': line 3: not CSV: a quote is not closed, or something follows a closing quote
! kvfs: import 'bad.csv': line 5: not CSV: a quote is not closed, or something follows a closing quote
! kvfs: import 'bad.csv': 3 of 4 records were left out
$ cp dumb.dat bad.dat; (head -3 dumb.dir; echo "nonsense"; echo "'x', (999999, 5)"; echo "'\\q', (0, 1)") >bad.dir; kvfs import --from dbm:bad q3; kvfs ls q3 | wc -l
3
! kvfs: import 'bad': line 4 of its .dir: not what dbm.dumb writes
! kvfs: import 'bad': line 5 of its .dir: the value cannot be read in its .dat
! kvfs: import 'bad': line 6 of its .dir: not what dbm.dumb writes
! kvfs: import 'bad': 3 of 6 records were left out

# What cannot be read at all.
$ kvfs import --from sqlite:none.db q; kvfs import --from sqlite:lines q; kvfs import --from sqlite:lite.db#nope q; kvfs import --from sqlite:lite.db#unnamed,key,nope q; kvfs import --from dbm:lite.db q; kvfs import --from dbm:none q
! kvfs: import 'none.db': SQLite: unable to open database file
! kvfs: import 'lines': SQLite: file is not a database
! kvfs: import 'lite.db#nope': SQLite: no such table: nope
! kvfs: import 'lite.db#unnamed,key,nope': SQLite: no such column: nope
! kvfs: import 'lite.db': is no GNU dbm file; one of another kind is opened by Python: kvfs.Dict(...).update(dbm.open(...))
! kvfs: import 'none': GNU dbm: File open error: No such file or directory
[2]
$ kvfs import --from lmdb:none q; kvfs import --from lmdb:lines q; kvfs import --from lmdb:env#nope q; kvfs import --from jsonl:none q; kvfs import --from csv:env q; kvfs import --from csv:/dev/null q; kvfs import --from csv:table.csv#a,b q; kvfs import --from csv:table.csv#a q
! kvfs: import 'none': LMDB: No such file or directory
! kvfs: import 'lines': LMDB: MDB_INVALID: File is not an LMDB file
! kvfs: import 'env#nope': LMDB: no database of this name in it
! kvfs: import 'none': No such file or directory
! kvfs: import 'env': Is a directory
! kvfs: import '/dev/null': no header can be read: its first line names the columns
! kvfs: import 'table.csv#a,b': its first line names no column 'a'; name two as in #name,text or #1,2
! kvfs: import 'table.csv#a': after # come the columns of key and value, as in #name,text or #1,2
[2]
$ kvfs import --from lmdb:.local/share/kvfs/default q; kvfs import --from csv:table.csv p/value; kvfs import --from nope:x; kvfs import --from csv:x y z; kvfs import --sort x; kvfs import --from csv:x --keys=what
! kvfs: import '.local/share/kvfs/default': is the store itself
! kvfs: import 'p/value': is not a directory
! kvfs: import: --from is sqlite:FILE, dbm:FILE, lmdb:PATH, jsonl:FILE or csv:FILE, not 'nope:x'; usage: kvfs import [--create] [--durability LEVEL] {SOURCE | --from KIND:FILE [--keys=path] [--values=json] [--sort]} [DIR]
! kvfs: import: too many arguments; usage: kvfs import [--create] [--durability LEVEL] {SOURCE | --from KIND:FILE [--keys=path] [--values=json] [--sort]} [DIR]
! kvfs: import: --keys, --values and --sort are for records: --from says whence; usage: kvfs import [--create] [--durability LEVEL] {SOURCE | --from KIND:FILE [--keys=path] [--values=json] [--sort]} [DIR]
! kvfs: import: --keys is escape or path, not 'what'; usage: kvfs import [--create] [--durability LEVEL] {SOURCE | --from KIND:FILE [--keys=path] [--values=json] [--sort]} [DIR]
[2]
$ head -c 20000 lite.db >cut.db; kvfs import --from 'sqlite:cut.db#odd name,k,v' q 2>&1 | head -1
kvfs: import 'cut.db#odd name,k,v': SQLite: database disk image is malformed

# Sorted: numbers of inodes are in the order of keys.
$ for i in $(seq 1000); do echo "{\"key\":\"$RANDOM$RANDOM-$i\",\"value\":\"$i\"}"; done >random; kvfs import --from jsonl:random --sort s; kvfs ls --json s | sed 's/.*"inode":\([0-9]*\).*/\1/' | sort -nc && kvfs ls s | wc -l
1000
$ TMPDIR=/nowhere kvfs import --from jsonl:random --sort s2; kvfs exists s2
! kvfs: import: sorting: temporary file: No such file or directory
[1]

# Killed, it goes on; killed at any time, nothing is missing in the end.
$ seq 150000 | sed 's/.*/{"key":"&","value":"value &"}/' >long
$ cat >kill.sh <<'END'
> for how in '' --sort; do
>     for t in $(seq 0.25 0.15 5); do
>         timeout -s KILL $t kvfs import --durability relaxed --from jsonl:long $how long$how 2>said
>         grep 'goes on' said && break
>     done
>     kvfs import --durability relaxed --from jsonl:long $how long$how
>     kvfs ls long$how | wc -l
> done
> END
$ bash kill.sh 2>/dev/null
kvfs: import 'jsonl:long': goes on where it was interrupted
150000
kvfs: import 'jsonl:long': goes on where it was interrupted
150000
$ diff <(sed 's/.*"value":"\(.*\)"}/\1/' long | sort) <(kvfs export --to csv:- long | tr -d '"\r' | sed 1d | cut -d, -f2 | sort) && echo the same
the same

# A full disk: one line, nothing half, and the same import goes through when there is room.
$ cat >full.sh <<'END'
> mkdir full; mount -t tmpfs -o size=4m none full; kvfs init full/store
> for size in 6m 100m; do
>     mount -o remount,size=$size full
>     kvfs -s full/store import --from jsonl:long 2>&1 | grep -v 'goes on' | tr -d 0-9; kvfs -s full/store check | tail -1 | cut -c -6
> done
> kvfs -s full/store ls | wc -l; mkdir tiny; mount -t tmpfs -o size=1m none tiny; TMPDIR=tiny kvfs -s full/store import --from jsonl:long --sort again
> kvfs -s full/store exists again
> END
$ unshare -m bash full.sh
kvfs: import '': No space left on device
whole:
whole:
150000
! kvfs: import: sorting: temporary file: No space left on device
[1]

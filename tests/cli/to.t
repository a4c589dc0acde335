# What one writes the other reads, with names of typed keys.
$ printf '{"key":"a/b","value":"text\\n\\u0000\\""}\n{"key":5,"value":""}\n{"key":1.5,"value":"x"}\n{"key_base64":"/w==","value_base64":"/wA="}\n{"key":"","value":"empty"}\n' >typed
$ (printf '{"key":"%03000d","value":"after a first line"}\n' 7; printf '{"key_base64":"'; head -c 300 /dev/zero | base64 -w0; printf '","value":""}\n') >>typed
$ kvfs import --from jsonl:typed d && kvfs export --to jsonl:back --keys=escape d && diff <(sort typed) <(sort back) && echo the same
the same
$ kvfs ls d | cut -c -30
000000000000000000000000000000
a%2Fb
bytes:%00%00%00%00%00%00%00%00
bytes:%FF
float:1.5
int:5
str:

# By path; a value that is no UTF-8, or whose characters lie across steps of the reader.
$ kvfs put tree/a/b one; printf '\377' | kvfs put tree/bytes; printf x | kvfs put $'tree/\377'; kvfs put 'tree/"q,"' 'say "hi", twice'; kvfs put tree/empty ''
$ kvfs export --to jsonl:- tree
{"key":"\"q,\"","value":"say \"hi\", twice"}
{"key":"a/b","value":"one"}
{"key":"bytes","value_base64":"/w=="}
{"key":"empty","value":""}
{"key_base64":"/w==","value":"x"}
$ kvfs export --to csv:- tree | tail -n +1 | tr -d '\r' | cat -v
key,value
"""q,""","say ""hi"", twice"
"a/b","one"
"bytes","M-^?"
"empty",""
"M-^?","x"
$ for c in é € 😀; do for n in 0 1 2 3; do head -c $((196608 - n)) /dev/zero | tr '\0' x; echo -n $c; done | kvfs put wide/$c; done; printf 'x\303' | kvfs put wide/cut
$ kvfs export --to jsonl:wide wide; grep -c value_base64 wide; kvfs import --keys=path --from jsonl:wide wide2; for c in é € 😀 cut; do cmp <(kvfs get wide/$c) <(kvfs get wide2/$c); done
1
$ for kind in jsonl csv; do kvfs export --to $kind:all; kvfs import --create --from $kind:all --keys=path && kvfs -s other-$kind init && kvfs -s other-$kind import --from $kind:all --keys=path && diff <(kvfs export --to jsonl:-) <(kvfs -s other-$kind export --to jsonl:-) && echo the same; done
the same
the same
$ kvfs export --to tar:x.tar tree && tar -tf x.tar 2>/dev/null | head -2; ls *.part
"q,"
a/
! ls: cannot access '*.part': No such file or directory
[2]

# JSON as such, on one line each.
$ printf '{"key":"o","value":{"b":[1.10,99999999999999999999],"a":"\\n"}}\n{"key":"s","value":"str"}\n' >json; kvfs import --from jsonl:json --values=json j; kvfs export --to jsonl:- --values=json j
{"key":"o","value":{"b":[1.10,99999999999999999999],"a":"\n"}}
{"key":"s","value":"str"}
$ printf '{\n"a":\n1}\n' | kvfs put j/pretty; kvfs put j/none 'no JSON'; kvfs export --to jsonl:- --values=json j
{"key":"o","value":{"b":[1.10,99999999999999999999],"a":"\n"}}
{"key":"pretty","value":{ "a": 1} }
{"key":"s","value":"str"}
! kvfs: export 'j/none': is not JSON: invalid token near 'no'
! kvfs: export: 1 of 4 were left out
[2]

# What is no record is told; the file is then left as it was.
$ mkdir odd; ln -s x odd/link; mkfifo odd/fifo; echo 1 >odd/value; kvfs import odd odd; echo old >odd.csv
$ kvfs export --to csv:odd.csv odd; cat odd.csv; tail -1 odd.csv.part
old
"
! kvfs: export 'odd/fifo': is a fifo, not a value
! kvfs: export 'odd/link': is a link, not a value
! kvfs: export: 2 of 3 were left out
! kvfs: export 'odd.csv': is not complete, and left as it was; what could be written is in 'odd.csv.part'
$ kvfs export --to jsonl:- --keys=escape tree
{"key":"\"q,\"","value":"say \"hi\", twice"}
{"key":"bytes","value_base64":"/w=="}
{"key":"empty","value":""}
! kvfs: export 'tree/a/b': is not the name of a key of a dict; --keys=path writes it
! kvfs: export 'tree/\xff': is not the name of a key of a dict; --keys=path writes it
! kvfs: export: 2 of 5 were left out
[2]
$ kvfs put e/float:inf ''; kvfs put e/int:0x10000000000000000 ''; kvfs put e/int:05 ''; kvfs put e/%ED%A0%80 ''; kvfs put e/a%2fb ''; printf 'x%%%%%064d' 1 | { read -r n; kvfs put e/$n; }; kvfs export --to jsonl:- --keys=escape e
! kvfs: export 'e/%ED%A0%80': holds half a surrogate pair, which is not UTF-8
! kvfs: export 'e/a%2fb': is not the name of a key of a dict; --keys=path writes it
! kvfs: export 'e/float:inf': no number in JSON: inf
! kvfs: export 'e/int:05': is not the name of a key of a dict; --keys=path writes it
! kvfs: export 'e/int:0x10000000000000000': no number in JSON: 0x10000000000000000
! kvfs: export 'e/x%%0000000000000000000000000000000000000000000000000000000000000001': is not the name of a key of a dict; --keys=path writes it
! kvfs: export: 6 of 6 were left out
[2]
$ kvfs export --to jsonl:/dev/full; kvfs export --to csv:nowhere/x; kvfs export --to jsonl:- none; kvfs export --to jsonl:- tree/empty
! kvfs: export: output: No space left on device
! kvfs: export 'nowhere/x.part': No such file or directory
! kvfs: export 'none': no such key
! kvfs: export 'tree/empty': a part of its path is a value, not a directory
[2]
# What has written nothing leaves nothing.
$ kvfs export --to jsonl:none.jsonl none; ls none*
! kvfs: export 'none': no such key
! ls: cannot access 'none*': No such file or directory
[2]
$ kvfs export --to zip:x; kvfs export --to csv:x --values=json; kvfs export --keys=escape x; kvfs export --to csv:x --keys=any; kvfs export --to csv:x a b; kvfs export --to csv:
! kvfs: export: --to is tar:FILE, csv:FILE or jsonl:FILE, not 'zip:x'; usage: kvfs export {[DIR] TARGET | --to KIND:FILE [--keys=escape] [--values=json] [DIR]}
! kvfs: export: --values=json is for --to jsonl:; usage: kvfs export {[DIR] TARGET | --to KIND:FILE [--keys=escape] [--values=json] [DIR]}
! kvfs: export: --keys and --values are for --to csv: and --to jsonl:; usage: kvfs export {[DIR] TARGET | --to KIND:FILE [--keys=escape] [--values=json] [DIR]}
! kvfs: export: --keys is path or escape, not 'any'; usage: kvfs export {[DIR] TARGET | --to KIND:FILE [--keys=escape] [--values=json] [DIR]}
! kvfs: export: too many arguments; usage: kvfs export {[DIR] TARGET | --to KIND:FILE [--keys=escape] [--values=json] [DIR]}
! kvfs: export: --to is tar:FILE, csv:FILE or jsonl:FILE, not 'csv:'; usage: kvfs export {[DIR] TARGET | --to KIND:FILE [--keys=escape] [--values=json] [DIR]}
[2]
$ cat >full.sh <<'END'
> mkdir full; mount -t tmpfs -o size=64k none full; echo old >full/out
> for kind in jsonl csv tar; do kvfs export --to $kind:full/out wide; cat full/out; done
> END
$ unshare -m bash full.sh
old
old
old
! kvfs: export: output: No space left on device
! kvfs: export 'full/out': is not complete, and left as it was; what could be written is in 'full/out.part'
! kvfs: export: output: No space left on device
! kvfs: export 'full/out': is not complete, and left as it was; what could be written is in 'full/out.part'
! kvfs: export 'wide/é': Write error: No space left on device
! kvfs: export: Write error: No space left on device
! kvfs: export 'full/out': is not complete, and left as it was; what could be written is in 'full/out.part'

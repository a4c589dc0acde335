# kvfs check: whole or not, in words, in JSON, by the exit status.
$ kvfs init good
$ export KVFS_STORE=$HOME/good
$ for i in {1..300}; do printf 'put d%d/key%d "%0500d"\n' $((i%7)) $i 0; done | kvfs apply
$ head -c 200000 /dev/zero | kvfs put big
$ tidy() { sed -E 's/sequence [0-9]+, [0-9]+ pages, [0-9]+ of/sequence S, N pages, F of/; s/"(sequence|pages|free_pages)":[0-9]+/"\1":N/g; s/page [0-9]+ /page P /; s/inode [0-9]+/inode I/'; }
$ kvfs check | tidy
whole: 301 values (342KB), 7 directories, 0 others; sequence S, N pages, F of them free
$ kvfs check --data --json | tidy
{"lost":0,"wrong":0,"space":0,"sequence":N,"pages":N,"free_pages":N,"values":301,"damaged_values":0,"directories":7,"others":0,"value_bytes":350000,"chunks":6,"dead_chunks":0,"garbage":0,"sessions":0,"kept":0}
$ kvfs check x
! kvfs: check: too many arguments; usage: kvfs check [--data] [--json] [--repair DEST]
[2]
$ kvfs -s $HOME/none check
! kvfs: check: store '@HOME/none': no store there
[2]

# A rotted byte in the data of a value: seen with --data, and by who reads that value.
$ cat >rot.py <<'END'
> import sys
> f = open(sys.argv[1] + "/data.mdb", "r+b"); data = f.read()
> at = data.find(b"\0" * 20000, 16384)
> f.seek(at + 10000); f.write(b"\1")
> END
$ cp -a good bad; python3 rot.py bad
$ kvfs -s bad check | tidy
whole: 301 values (342KB), 7 directories, 0 others; sequence S, N pages, F of them free
$ kvfs -s bad check --data | tidy; echo ${PIPESTATUS[0]}
lost: 'big': 1 of its 6 chunks are damaged, the first at byte 0
1 findings (1 lost, 0 wrong, 0 space); can be read: 300 values (342KB), 7 directories, 0 others; sequence S, N pages, F of them free
1
$ kvfs -s bad check --data --json | grep finding
{"finding":"lost","key":"big","text":"1 of its 6 chunks are damaged, the first at byte 0"}
$ kvfs -s bad get big | wc -c
0
! kvfs: get 'big': the store is damaged: chunk record 1: checksum does not match
$ kvfs -s bad backup copy 2>&1 | tidy; ls -A
kvfs: backup: 'copy': damaged, so not copied: page P of its tree 'chunk': a record in it does not match its sum; `kvfs check` says what suffers
bad
good
rot.py

# What can be saved is saved; what could not be read is told, and is zeros.
$ kvfs -s bad check --data --repair saved | tidy; echo ${PIPESTATUS[0]}
lost: 'big': 1 of its 6 chunks are damaged, the first at byte 0
1 findings (1 lost, 0 wrong, 0 space); can be read: 300 values (342KB), 7 directories, 0 others; sequence S, N pages, F of them free
lost: 'big': 1 of its 6 chunks of 32736 bytes are lost, the first is chunk 0: there are zeros now
saved: 301 values, 7 directories, 0 others, of them 0 in lost+found; 1 values with bytes lost; 0 names lost
1
$ kvfs -s saved check --data | tidy; ls -A
whole: 301 values (342KB), 7 directories, 0 others; sequence S, N pages, F of them free
bad
good
rot.py
saved
$ kvfs -s bad check --data --repair saved | tidy
lost: 'big': 1 of its 6 chunks are damaged, the first at byte 0
1 findings (1 lost, 0 wrong, 0 space); can be read: 300 values (342KB), 7 directories, 0 others; sequence S, N pages, F of them free
! kvfs: check: repair into 'saved': something is there already
$ kvfs -s good check --json --repair again | tidy; diff <(kvfs export - | tar tv | sort) <(kvfs -s again export - | tar tv | sort)
{"lost":0,"wrong":0,"space":0,"sequence":N,"pages":N,"free_pages":N,"values":301,"damaged_values":0,"directories":7,"others":0,"value_bytes":350000,"chunks":6,"dead_chunks":0,"garbage":0,"sessions":0,"kept":0}
{"saved_values":301,"saved_directories":7,"saved_others":0,"saved_in_lost_found":0,"saved_damaged":0,"names_lost":0}
$ kvfs -s good check --repair
! kvfs: check: option '--repair' needs an argument; usage: kvfs check [--data] [--json] [--repair DEST]
[2]

# What a truncated file still has.
$ rm -r bad; cp -a good bad; truncate -s 200000 bad/data.mdb
$ kvfs -s bad check >out; echo $?; grep -c lost out >/dev/null && tail -1 out | grep -c 'can be read'
1
1
$ truncate -s 0 bad/data.mdb; kvfs -s bad check
! kvfs: check: store '@HOME/bad': both meta pages of data.mdb are damaged: nothing can be found in it; restore a backup
[2]

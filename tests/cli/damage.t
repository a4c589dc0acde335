# A store that is not as it should be: one line that says what, status 2; never a crash, and nothing made worse.
$ kvfs init good
$ for i in {1..500}; do printf 'put key%d "%0500d"\n' $i 0; done | kvfs -s good apply
$ export KVFS_STORE=$HOME/bad
$ again() { rm -rf bad; cp -a good bad; }

$ again; truncate -s 8192 bad/data.mdb
$ kvfs get key7 2>&1 | sed 's/[0-9]\{6,\}/SIZE/'
kvfs: get: store '@HOME/bad': data.mdb is truncated: 8192 bytes where it had SIZE; restore a backup
$ kvfs put a 1 2>&1 | sed 's/[0-9]\{6,\}/SIZE/'
kvfs: put: store '@HOME/bad': data.mdb is truncated: 8192 bytes where it had SIZE; restore a backup
$ again; truncate -s 0 bad/data.mdb; kvfs get key7
! kvfs: get: store '@HOME/bad': data.mdb is empty: damaged; restore a backup
[2]
$ again; head -c 100000 /dev/urandom >bad/data.mdb; kvfs get key7
! kvfs: get: store '@HOME/bad': data.mdb is not an LMDB file: not a kvfs store
[2]
$ kvfs import good
! kvfs: import: store '@HOME/bad': data.mdb is not an LMDB file: not a kvfs store
[2]
$ again; sed -i 's/^format .*/format 99/' bad/FORMAT; kvfs get key7 2>&1 | sed 's/([0-9.]*)/(V)/'
kvfs: get: store '@HOME/bad': the store has format 99, this kvfs (V) knows format 1; use a newer kvfs, or one that can write it to export
$ again; sed -i 's/^page-size .*/page-size 16384/' bad/FORMAT; kvfs put key7 1
! kvfs: put: store '@HOME/bad': the store has pages of 16384 bytes, this machine 4096; move it with export and import
[2]
$ again; sed -i 's/^byte-order .*/byte-order big/' bad/FORMAT; kvfs ls
! kvfs: ls: store '@HOME/bad': the store is of a big-endian machine; move it with export and import
[2]
$ again; echo something >bad/FORMAT; kvfs ls
! kvfs: ls: store '@HOME/bad': its FORMAT file does not say 'kvfs store'
[2]
$ again; rm bad/data.mdb; kvfs ls
! kvfs: ls: there is no store at '@HOME/bad': make it with `kvfs init`, or mount its disk
[2]

# The files that only say who is there may go.
$ again; rm bad/lock.mdb bad/doors; kvfs put a 1 && kvfs get a
1
(no newline)

# Random bytes: whatever comes of it, it is one of the three statuses, and a line with every 2.
$ cat >mutate.py <<'END'
> import random, shutil, subprocess, sys
> seed = int(sys.argv[1]); random.seed(seed)
> good = open("good/data.mdb", "rb").read()
> for i in range(40):
>     bad = bytearray(good)
>     for _ in range(random.choice([1, 3, 10])):
>         page = random.randrange(2, len(bad) // 4096)
>         bad[page * 4096 + random.choice([random.randrange(16), random.randrange(4096)])] = random.randrange(256)
>     for command in (["ls", "-lR"], ["get", "key7"], ["put", "new", "x" * 3000], ["del", "key9"], ["export", "-"], ["info"]):
>         shutil.rmtree("bad"); shutil.copytree("good", "bad"); open("bad/data.mdb", "wb").write(bad)
>         r = subprocess.run(["kvfs"] + command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
>         lines = r.stderr.splitlines()
>         if r.returncode not in (0, 1, 2) or (r.returncode == 2) != (b"kvfs: " in r.stderr and r.returncode != 1) or (len(lines) > 1 and command[0] != "export"):
>             print("seed", seed, "round", i, command, r.returncode, r.stderr)
> END
$ python3 mutate.py $RANDOM

$ kvfs put a 12345; kvfs put d/b 1
$ kvfs info | sed -E 's/[0-9.]+[KMGT]?( \([0-9]+ bytes\)| bytes)/SIZE/; s/uuid .*/uuid U/; s/20[0-9-]+ [0-9:.]+( \+0000)?/TIME/; s/process [0-9]+/process P/; s/(sequence): [0-9]+/\1: N/; s/(slots:) [0-9]+ of [0-9]+/\1 N of N/'
        store: '@HOME/.local/share/kvfs/default'
       format: 1, uuid U
         keys: 2 values, 1 directories, 0 others
       values: SIZE
         file: SIZE
         used: SIZE
 free in file: SIZE
 free on disk: SIZE
  to be freed: SIZE
         held: 0 old values still open
       layout: page 4096, chunk 32736, inline up to SIZE
     sequence: N
    last sync: TIME
      commits: flushed each
     snapshot: none
 reader slots: N of N in use
$ kvfs info --json | python3 -c 'import json, sys; d = json.load(sys.stdin); print(d["values"], d["directories"], d["value_bytes"], d["doors"], len(d["uuid"]), d["path"].split("/")[-1])'
2 1 6 [] 36 default
$ kvfs info x
! kvfs: info: too many arguments; usage: kvfs info [--json]
[2]

$ kvfs put dir/a 12345
$ kvfs stat dir/a | sed -E 's/20[0-9-]+ [0-9:.]+ \+0000/TIME/; s/[0-9]+ [a-z]+, group.*/OWNER/; s/(inode|version): [0-9]+/\1: N/'
      key: 'dir/a'
     type: value
     size: 5 bytes, 5 stored
  version: N
    inode: N, 1 link
     mode: 0644 -rw-r--r--
    owner: OWNER
 accessed: TIME
 modified: TIME
  changed: TIME
     born: TIME
$ kvfs stat dir | sed -n 1,3p
      key: 'dir'
     type: directory
  entries: 1
$ kvfs stat / | sed -n 1,3p
      key: '/'
     type: directory
  entries: 1
$ kvfs stat missing
! kvfs: stat 'missing': no such key
[1]
$ kvfs stat --json missing
! kvfs: stat 'missing': no such key
[1]
$ kvfs stat --json dir/a | python3 -c 'import json, sys; d = json.load(sys.stdin); print(d["key"], d["type"], d["size"], d["mode"], d["links"])'
dir/a value 5 0644 1
# The version changes with every publication.
$ version() { kvfs stat --json dir/a | sed 's/.*"version":\([0-9]*\).*/\1/'; }
$ a=$(version); kvfs put dir/a 12345; b=$(version); kvfs get dir/a; c=$(version); [ $b -gt $a ] && [ $b = $c ] && echo grows
12345grows

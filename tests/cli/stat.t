$ kvfs put dir/a 12345
$ kvfs stat dir/a | sed -E 's/20[0-9-]+ [0-9:.]+ \+0000/TIME/; s/[0-9]+ [a-z]+, group.*/OWNER/; s/(inode|version): [0-9]+/\1: N/'
$ kvfs stat dir | sed -n 1,3p
$ kvfs stat / | sed -n 1,3p
$ kvfs stat missing
$ kvfs stat --json missing
$ kvfs stat --json dir/a | python3 -c 'import json, sys; d = json.load(sys.stdin); print(d["key"], d["type"], d["size"], d["mode"], d["links"])'
# The version changes with every publication.
$ version() { kvfs stat --json dir/a | sed 's/.*"version":\([0-9]*\).*/\1/'; }
$ a=$(version); kvfs put dir/a 12345; b=$(version); kvfs get dir/a; c=$(version); [ $b -gt $a ] && [ $b = $c ] && echo grows

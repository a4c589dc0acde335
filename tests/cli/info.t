$ kvfs put a 12345; kvfs put d/b 1
$ kvfs info | sed -E 's/[0-9.]+[KMGT]?( \([0-9]+ bytes\)| bytes)/SIZE/; s/uuid .*/uuid U/; s/20[0-9-]+ [0-9:.]+( \+0000)?/TIME/; s/process [0-9]+/process P/; s/(sequence): [0-9]+/\1: N/; s/(slots:) [0-9]+ of [0-9]+/\1 N of N/'
$ kvfs info --json | python3 -c 'import json, sys; d = json.load(sys.stdin); print(d["values"], d["directories"], d["value_bytes"], d["doors"][0]["purpose"], len(d["uuid"]), d["path"].split("/")[-1])'
$ kvfs info x

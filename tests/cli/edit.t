$ printf 'one\ntwo\n' | kvfs put dir/text
$ EDITOR='sed -i s/two/three/' kvfs edit dir/text && kvfs get dir/text
one
three
$ EDITOR=true kvfs edit dir/text
! kvfs: edit 'dir/text': not changed
$ VISUAL='sed -i s/one/1/' EDITOR=false kvfs edit dir/text && kvfs get dir/text
1
three
$ EDITOR='sh -c '\''echo new >"$1"'\'' sh' kvfs edit new && kvfs get new
new
$ EDITOR=true kvfs edit new2; kvfs exists new2
! kvfs: edit 'new2': not changed
[1]
# The key is never a part of a shell's program, and names the file.
$ EDITOR='basename' kvfs edit 'a;touch x$(touch y)'; ls
a;touch x$(touch y)
! kvfs: edit 'a;touch x$(touch y)': not changed
$ kvfs put gone.json 1; EDITOR='basename' kvfs edit gone.json
gone.json
! kvfs: edit 'gone.json': not changed
# What cannot be published is kept.
$ cat >race <<'END'
> #!/bin/sh
> kvfs put dir/text other
> echo mine >"$1"
> END
$ chmod +x race; EDITOR=./race kvfs edit dir/text 2>err; echo $?; sed -E 's|/tmp/kvfs-edit-[^/]*|TMP|' err; kvfs get dir/text
2
kvfs: edit 'dir/text': somebody else changed it meanwhile; nothing was stored, what you wrote is in TMP/text
other
(no newline)
$ file=$(sed 's/.* //' err); cat $file; rm -r ${file%/*}
mine
$ EDITOR='sh -c '\''echo mine >"$1"; exit 3'\'' sh' kvfs edit dir/text 2>err; echo $?; sed -E 's|/tmp/kvfs-edit-[^/]*|TMP|' err
2
kvfs: edit 'dir/text': the editor failed; nothing was stored, what you wrote is in TMP/text
$ file=$(sed 's/.* //' err); cat $file; rm -r ${file%/*}
mine
$ EDITOR=false kvfs edit dir/text
! kvfs: edit 'dir/text': the editor failed; nothing was stored
[2]
$ EDITOR=/nonexistent kvfs edit dir/text 2>&1 | tail -1
kvfs: edit 'dir/text': the editor failed; nothing was stored
$ kvfs edit dir
! kvfs: edit 'dir': is a directory
[2]
$ ls -d /tmp/kvfs-edit-* 2>/dev/null
[2]

$ printf 'one\ntwo\n' | kvfs put dir/text
$ EDITOR='sed -i s/two/three/' kvfs edit dir/text && kvfs get dir/text
$ EDITOR=true kvfs edit dir/text
$ VISUAL='sed -i s/one/1/' EDITOR=false kvfs edit dir/text && kvfs get dir/text
$ EDITOR='sh -c '\''echo new >"$1"'\'' sh' kvfs edit new && kvfs get new
$ EDITOR=true kvfs edit new2; kvfs exists new2
# The key is never a part of a shell's program, and names the file.
$ EDITOR='basename' kvfs edit 'a;touch x$(touch y)'; ls
$ kvfs put gone.json 1; EDITOR='basename' kvfs edit gone.json
# What cannot be published is kept.
$ cat >race <<'END'
> #!/bin/sh
> kvfs put dir/text other
> echo mine >"$1"
> END
$ chmod +x race; EDITOR=./race kvfs edit dir/text 2>err; echo $?; sed -E 's|/tmp/kvfs-edit-[^/]*|TMP|' err; kvfs get dir/text
$ file=$(sed 's/.* //' err); cat $file; rm -r ${file%/*}
$ EDITOR='sh -c '\''echo mine >"$1"; exit 3'\'' sh' kvfs edit dir/text 2>err; echo $?; sed -E 's|/tmp/kvfs-edit-[^/]*|TMP|' err
$ file=$(sed 's/.* //' err); cat $file; rm -r ${file%/*}
$ EDITOR=false kvfs edit dir/text
$ EDITOR=/nonexistent kvfs edit dir/text 2>&1 | tail -1
$ kvfs edit dir
$ ls -d /tmp/kvfs-edit-* 2>/dev/null

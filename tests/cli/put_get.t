# Bytes are verbatim in both directions.
$ kvfs put a 'hello, world'
$ kvfs get a
$ kvfs put a ''
$ kvfs get a
$ printf 'x\0y\377\n\n' | kvfs put dir/bin
$ kvfs get dir/bin | od -An -c
$ kvfs put a -
$ kvfs get a
$ kvfs put a --if-absent
$ kvfs get a
$ kvfs put -- -k -v
$ kvfs get -- -k
$ kvfs put /a slash; kvfs get a; kvfs get /a
$ : | kvfs put empty; kvfs stat empty | grep size

# Values of any size are streamed.
$ head -c 5000000 /dev/zero | tr '\0' x >big; kvfs put big <big; kvfs get big | cmp - big
$ kvfs put big <big && kvfs get big | cmp - big
$ kvfs put big - ; kvfs get big

# A key gets the mode that a new file would; one that exists keeps its own.
$ (umask 077; kvfs put private 1; echo 2 | kvfs put private2); kvfs put public 1; kvfs put private 3
$ kvfs ls -l | awk '$NF ~ /^p/ {print $1, $NF}'

# Conditions.
$ kvfs put --if-absent a new
$ kvfs get a
$ kvfs put --if-absent new 1 && kvfs get new
$ echo piped | kvfs put --if-absent new
$ kvfs put --if-absent big2 <big && kvfs put --if-absent big2 <big
$ v=$(kvfs stat --json a | sed 's/.*"version":\([0-9]*\).*/\1/')
$ kvfs put --if-version $v a one && kvfs get a
$ kvfs put --if-version $v a two 2>err; echo $?; sed "s/version $v/version V/" err
$ kvfs get a
$ kvfs put --if-version 1 missing x

# Reading that fails stores nothing.
$ kvfs put a <$HOME
$ kvfs put a <&-
$ kvfs get a

# No such key, and keys that are no values.
$ kvfs get missing
$ kvfs get dir
$ kvfs get dir/missing
$ kvfs get a/b
$ kvfs put dir x
$ kvfs put a/b x
$ kvfs get /
$ kvfs put / x
$ kvfs exists a; kvfs exists dir; kvfs exists /
$ kvfs exists missing

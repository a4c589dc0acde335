# Completion in bash: `ask LINE` shows what bash is offered at the end of a line, which it has cut into words at @ = and :
$ . "$here/../../kvfs/completion/kvfs.bash"
$ compopt() { :; }
$ ask() {
>   COMP_LINE=$1 COMP_POINT=${#1}
>   mapfile -t COMP_WORDS < <(grep -oE "([^] @=:'\"\\]|\\\\.|'[^']*'?|\"[^\"]*\"?)+|[@=:]+" <<<"$1")
>   case $1 in *[!\\]' ' | *[=@:]) COMP_WORDS+=('') ;; esac
>   COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
>   _kvfs
>   [ ${#COMPREPLY[@]} -eq 0 ] || printf '%s\n' "${COMPREPLY[@]}"
> }
$ for key in a/b 'a/c d' "a/it's" 'we ird/x' top 'st*r' stor @at x=y/z; do kvfs put "$key" v; done
$ kvfs -s @notes put --create n/1 v

# Commands, their options, and what an option takes.
$ ask 'kvfs e'
exists
edit
export
$ ask 'kvfs ls --n'
--no-dirs
--null
$ ask 'kvfs umount -'
--dead
$ ask 'kvfs help mo'
mount
mount.kvfs
$ ask 'kvfs --durability '
full
relaxed
none
$ ask 'kvfs mount -o ro,pub'
ro,publish=close
ro,publish=write
$ ask 'kvfs mount -o durability='
full
relaxed
none

# Keys, a directory at a time, quoted as they have to be.
$ ask 'kvfs get '
@at
a/
st\*r
stor
top
we\ ird/
x=y/
$ ask 'kvfs get a/'
a/b
a/c\ d
a/it\'s
$ ask "kvfs get 'a/c"
a/c d
$ ask 'kvfs get a/c\ '
a/c\ d
$ ask 'kvfs del top st*'
st\*r
$ ask 'kvfs get x='
y/
$ ask 'kvfs get x=y/'
y/z
$ ask 'kvfs get no/such/'
$ ask 'kvfs put top '

# Of the store that is meant; and stores.
$ ask 'kvfs -s @n'
@notes
$ ask 'kvfs -s @notes get n/'
n/1
$ ask 'kvfs mount @'
@default
@notes
$ ask 'kvfs -s @nosuch get '
$ ls .local/share/kvfs
default
notes

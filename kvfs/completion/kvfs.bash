# Completion of kvfs for bash: commands and options as `kvfs help` has them, keys as `kvfs ls` has them, one directory of them at a time.
# Nothing is changed, no store is made, and no error is shown.  Names of its own begin with __kvfs; bash-completion is not needed.

# Offers those of the words on standard input, each ended by a NUL, that begin with $1.  With a second argument they are quoted.
__kvfs_offer() {
	local word begin=$1 quote=${2-}
	while IFS= read -r -d '' word; do
		[[ $word == "$begin"* ]] || continue
		[[ $word != */ ]] || compopt -o nospace 2>/dev/null
		[[ -z $quote ]] || printf -v word %q "$word"
		COMPREPLY+=("$word")
	done
}

# Keys that begin with $1, which may be quoted in part.
__kvfs_keys() {
	local typed quote=yes head pattern
	case $1 in
	[\'\"]*) typed=${1:1} quote= ;;
	*) IFS= read typed <<<"$1" ;; # without -r: takes the backslashes away
	esac
	head=${typed%"${typed##*/}"}
	pattern=$(sed 's/[][\\.*^$]/\\&/g' <<<"${typed##*/}")
	[[ -n $typed$ended ]] || pattern='[^-]' # an option else
	__kvfs_offer "$typed" "$quote" < <("${kvfs[@]}" ls -0p -- "${head%/}" 2>/dev/null |
		LC_ALL=C grep -za -m 2000 "^$pattern" | while IFS= read -r -d '' name; do printf '%s\0' "$head$name"; done)
}

__kvfs_words() { # BEGIN WORD...
	__kvfs_offer "$1" < <(printf '%s\0' "${@:2}")
}

__kvfs_files() { # -d or -f, BEGIN
	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen "$1" -- "$2")
}

__kvfs_paths() { # BEGIN: directories, and stores beside the default one
	local store data=${XDG_DATA_HOME:-$HOME/.local/share}/kvfs
	if [[ $1 == @* ]]; then
		for store in "$data"/*/data.mdb; do
			store=${store%/data.mdb}
			[[ -d $store ]] && __kvfs_words "$1" "@${store##*/}"
		done
	else
		__kvfs_files -d "$1"
	fi
}

__kvfs_records() { # BEGIN KIND...: files of records
	if [[ $1 == *:* ]]; then
		__kvfs_files -f "${1#*:}"
		COMPREPLY=("${COMPREPLY[@]/#/"${1%%:*}:"}")
	else
		compopt -o nospace 2>/dev/null
		__kvfs_words "$1" "${@:2}"
	fi
}

__kvfs_mounts() {
	local line
	while read -r line; do
		[[ $line == *' - fuse.kvfs '* ]] && read -r _ _ _ _ line _ <<<"$line" && __kvfs_words "$1" "$(printf %b "${line//\\/\\0}")"
	done </proc/self/mountinfo
}

# Which operand of the command that is word $1, from 1, is the last word?  Counted in $operand; $ended tells of a -- before it.
__kvfs_operand() {
	local i
	operand=1 ended=
	for ((i = $1 + 1; i < cword; i++)); do
		case $ended${words[i]} in
		--) ended=yes ;;
		-o | --if-version | --durability | --since | --repair | --from | --to) ((++i)) ;;
		-?*) ;;
		*) ((++operand)) ;;
		esac
	done
}

# The words of the line up to the cursor, put together again where bash cut them at @ = and :
__kvfs_line() {
	local i word gap rest=${COMP_LINE:0:COMP_POINT}
	words=() cword=-1
	for ((i = 0; i <= COMP_CWORD; i++)); do
		gap=${rest%%[![:space:]]*}
		rest=${rest#"$gap"}
		word=${COMP_WORDS[i]:0:${#rest}}
		[[ $i != 0 && -z $gap ]] || words[++cword]=
		words[cword]+=$word
		rest=${rest#"$word"}
	done
}

_kvfs() {
	local words word cword cur prev i command='' at operand ended kept='' kvfs breaks=${COMP_WORDBREAKS//[^@=:]/}
	COMPREPLY=()
	__kvfs_line
	cur=${words[cword]} prev=${words[cword - 1]}
	kvfs=("${words[0]/#\~\//$HOME/}")
	for ((i = 1; i < cword; i++)); do
		case ${words[i]} in
		-s | --store) kvfs+=(-s "${words[++i]/#\~\//$HOME/}") ;;
		--store=*) word=${words[i]#*=} && kvfs+=(-s "${word/#\~\//$HOME/}") ;;
		--durability) ((++i)) ;;
		-*) ;;
		*)
			command=${words[i]} at=$i
			break
			;;
		esac
	done

	[[ -z $command ]] || __kvfs_operand "$at"
	if [[ $prev == --durability ]]; then
		__kvfs_words "$cur" full relaxed none
	elif [[ -z $command ]]; then
		case $prev:$cur in
		-s:* | --store:*) __kvfs_paths "$cur" ;;
		*:--store=*) __kvfs_paths "${cur#*=}" && COMPREPLY=("${COMPREPLY[@]/#/--store=}") ;;
		*:-*) __kvfs_words "$cur" --store --durability --help --version ;;
		*) __kvfs_words "$cur" $("${kvfs[0]}" help 2>/dev/null | sed -nE 's/^  ([a-z]+) .*/\1/p') ;;
		esac
	elif [[ $command == mount* && $prev == -o ]]; then
		compopt -o nospace 2>/dev/null
		__kvfs_words "${cur##*,}" ro allow_other noatime noexec durability={full,relaxed,none} on-kill={drop,commit} publish={close,write} user=
		[[ $cur != *,* ]] || COMPREPLY=("${COMPREPLY[@]/#/${cur%,*},}")
	elif [[ $prev == --from ]]; then
		__kvfs_records "$cur" sqlite: dbm: lmdb: jsonl: csv:
	elif [[ $prev == --to ]]; then
		__kvfs_records "$cur" tar: csv: jsonl:
	elif [[ -z $ended && $cur == -* ]]; then
		__kvfs_words "$cur" $("${kvfs[0]}" help "$command" 2>/dev/null | sed '1s/^[^]]*. //' |
			grep -oE -- '(^|[ [])(-[a-zA-Z]|--[a-z][a-z-]+)' | tr -d ' [' | sort -u)
	else
		case $command:$operand in
		put:[2-9] | incr:[2-9] | apply:* | sync:* | info:* | compact:*) ;;
		check:*) [[ $prev != --repair ]] || __kvfs_files -d "$cur" ;;
		sessions:* | recover:1) __kvfs_words "$cur" $("${kvfs[@]}" sessions 2>/dev/null | awk '{ print $1 }') ;;
		init:* | mount:* | mount.kvfs:*) __kvfs_paths "$cur" ;;
		umount:*) __kvfs_mounts "$cur" ;;
		import:1) __kvfs_files -f "$cur" ;;
		export:1) __kvfs_keys "$cur" ;;
		backup:* | export:*) __kvfs_files -d "$cur" ;;
		help:*) __kvfs_words "$cur" $("${kvfs[0]}" help 2>/dev/null | sed -nE 's/^  ([a-z.]+) .*/\1/p') ;;
		*) __kvfs_keys "$cur" ;;
		esac
	fi
	# bash replaces what follows the last of those at which it cuts, an @ itself too.
	[[ -z $breaks || $cur != *["$breaks"]* ]] || kept=${cur%"${cur##*["$breaks"]}"}
	COMPREPLY=("${COMPREPLY[@]#"${kept%@}"}")
}
complete -F _kvfs kvfs

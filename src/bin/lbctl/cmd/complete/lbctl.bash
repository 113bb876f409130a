# bash completion for lbctl. `lbctl completions bash` prints it.

_lbctl() {
	local line=${COMP_LINE:0:COMP_POINT} current breaks before
	local -a words
	# Not COMP_WORDS: bash breaks words at colons, which VIPs have.
	read -ra words <<<"$line"
	[[ $line == *[[:space:]] ]] && words+=("")
	current=${words[${#words[@]} - 1]}

	local IFS=$'\n'
	COMPREPLY=($("$1" complete -- "${words[@]:1}" 2>/dev/null | cut -f 1))

	# Bash replaces only what is behind the last break.
	breaks=${COMP_WORDBREAKS//[^:=]/}
	if [[ -n $breaks && $current == *[$breaks]* ]]; then
		before=${current%"${current##*[$breaks]}"}
		COMPREPLY=("${COMPREPLY[@]#"$before"}")
	fi
	if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == */ ]]; then
		compopt -o nospace 2>/dev/null
	fi
	return 0
}

complete -F _lbctl lbctl

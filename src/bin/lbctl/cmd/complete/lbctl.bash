# bash completion for lbctl. `lbctl completions bash` prints it.

_lbctl() {
	local line=${COMP_LINE:0:COMP_POINT} current breaks before candidate
	local -a words
	# Not COMP_WORDS: bash breaks words at colons, which VIPs have.
	read -ra words <<<"$line"
	[[ $line == *[[:space:]] ]] && words+=("")
	current=${words[${#words[@]} - 1]}

	# Not COMPREPLY=($(…)): bash would take VIPs such as tcp://10.0.0.1:* and [fc00::1] for patterns of files.
	mapfile -t COMPREPLY < <("$1" complete -- "${words[@]:1}" 2>/dev/null | cut -f 1)

	# Bash replaces only what is behind the last break.
	breaks=${COMP_WORDBREAKS//[^:=]/}
	if [[ -n $breaks && $current == *[$breaks]* ]]; then
		before=${current%"${current##*[$breaks]}"}
		COMPREPLY=("${COMPREPLY[@]#"$before"}")
	fi
	# Bash types candidates as they are: a file called $(reboot) must not become a command.
	for candidate in "${!COMPREPLY[@]}"; do
		if [[ ${COMPREPLY[candidate]} == *[^[:alnum:]/:.,@%+=_*\[\]-]* ]]; then
			printf -v "COMPREPLY[candidate]" %q "${COMPREPLY[candidate]}"
		fi
	done
	if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == */ ]]; then
		compopt -o nospace 2>/dev/null
	fi
	return 0
}

complete -F _lbctl lbctl

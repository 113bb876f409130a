# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#
# What demo.sh stands on: namespaces, processes, printing, and leaving nothing behind.

# Process by node, for those that run beside the script.
declare -A PROCESSES=()
NAMESPACES=()
STEP=0
TMP=
BOLD='' PLAIN=''

begin() {
	((EUID == 0)) || refuse "network namespaces and BPF need root: sudo ${BASH_SOURCE[-1]}"
	[[ -x $LBCTL ]] || refuse "$LBCTL is missing: make build"
	local tool
	for tool in ip ethtool mount curl nginx jq; do
		command -v "$tool" >/dev/null || refuse "$tool is missing: make setup"
	done

	if [[ -t 1 ]]; then BOLD=$'\e[1m' PLAIN=$'\e[0m'; fi
	trap 'failed_at "$LINENO" "$BASH_COMMAND"' ERR
	trap clean_up EXIT
	trap 'echo; echo "Interrupted."; exit 130' INT
	trap 'exit 143' TERM HUP
	TMP=$(mktemp -d /tmp/l4lb-demo.XXXXXX)
	# nginx reads its pages as another user.
	chmod 755 "$TMP"
	LBCTL=$(realpath "$LBCTL")
	echo "$("$LBCTL" --version | sed s/lbctl/l4lb/) on Linux $(uname -r)"
}

refuse() {
	echo "demo: $1" >&2
	exit 1
}

fail() {
	echo >&2
	echo "FAILED in step $STEP: $1" >&2
	exit 1
}

failed_at() {
	# Subshells leave it to the script.
	((BASH_SUBSHELL == 0)) || return 0
	fail "line $1: $2"
}

# Runs whatever happens; every step is tried. Calling it again does no harm.
clean_up() {
	local node
	trap '' INT TERM HUP
	trap - ERR
	set +e
	for node in "${!PROCESSES[@]}"; do
		stop_process "$node"
	done
	for node in "${NAMESPACES[@]}"; do
		# What still runs there is of this script too, such as an interrupted curl.
		ip netns pids "$PREFIX-$node" | xargs -r kill 2>/dev/null
		umount "$TMP/$node/bpf" || umount --lazy "$TMP/$node/bpf"
		ip netns delete "$PREFIX-$node"
	done
	NAMESPACES=()
	[[ -z $TMP ]] || rm -rf --one-file-system "$TMP"
}

# A namespace, a folder, and a BPF filesystem for the pins: what a host of its own would have.
add_ns() {
	local node=$1
	mkdir -p "$TMP/$node/bpf"
	ip netns add "$PREFIX-$node"
	NAMESPACES+=("$node")
	mount -t bpf -o mode=0700 "$PREFIX" "$TMP/$node/bpf"
	# IPv6 addresses that can be used at once.
	set_sysctl "$node" net/ipv6/conf/all/accept_dad 0
	set_sysctl "$node" net/ipv6/conf/default/accept_dad 0
	in_ns "$node" ip link set lo up
}

set_sysctl() {
	in_ns "$1" tee "/proc/sys/$2" <<<"$3" >/dev/null
}

in_ns() {
	local node=$1
	shift
	ip netns exec "$PREFIX-$node" "$@"
}

# Starts a program that runs until stop_process.
spawn() {
	local node=$1
	# Not by in_ns: a function would run in a shell of its own, and that would be the process.
	ip netns exec "$PREFIX-$node" "${@:2}" </dev/null >"$TMP/$node/output" 2>&1 &
	PROCESSES[$node]=$!
}

stop_process() {
	kill "${PROCESSES[$1]}" 2>/dev/null
	wait "${PROCESSES[$1]}" 2>/dev/null || true
	unset "PROCESSES[$1]"
}

# Tries a command until it works.
await() {
	local what=$1 deadline=$((SECONDS + 10))
	shift
	until "$@" 2>/dev/null; do
		((SECONDS < deadline)) || fail "waited 10 s in vain: $what"
		sleep 0.05
	done
}

lbctl() {
	local node=$1
	shift
	(cd "$TMP/$node" && in_ns "$node" "$LBCTL" --bpffs "$TMP/$node/bpf" "$@")
}

# Runs lbctl on a node, and shows the command and what it says.
show() {
	show_command "$@"
	lbctl "$@" 2>&1 | indent || fail "lbctl ${*:2}: see above"
}

show_command() {
	printf '   %s# lbctl %s\n' "$1" "${*:2}"
}

step() {
	STEP=$((STEP + 1))
	printf '\n%s%d. %s%s\n\n' "$BOLD" "$STEP" "$1" "$PLAIN"
}

say() {
	printf '   %s\n' "$1"
}

indent() {
	sed 's/^./   &/'
}

row() {
	printf '   %-20s %8s %8s %8s %8s\n' "$@" | sed 's/ *$//'
}

# How many of the last answers came from a real.
count() {
	grep -cx "$1" "$TMP/answers" || true
}

failed() {
	echo $((REQUESTS - $(wc -l <"$TMP/answers")))
}

# The share of the last answers that came from a real, in percent.
measured() {
	jq -n "100 * $(count "$1") / $REQUESTS"
}

percent() {
	printf '%.1f %%\n' "$@"
}

tally() {
	local n text=
	for n in "${REALS[@]}"; do
		text+="real$n $(count "real$n"), "
	done
	echo "${text}failed $(failed)"
}

# The share of the ring that each real of a VIP has, in percent.
shares_of() {
	lbctl balancer --json status |
		jq -r --arg vip "$1" \
		'.vips[] | select(.vip == $vip) | .reals[].share * 100'
}

# Whether two percentages differ by no more than chance allows in 1000 requests: 5 standard deviations.
near() {
	jq -en "$1 - $2 | fabs < 8" >/dev/null
}

# Bytes that the balancer has seen.
balanced_bytes() {
	lbctl balancer --json stats | jq .total.bytes
}

megabytes() {
	jq -n "$1 / 1e5 | round / 10"
}

checksum() {
	sha256sum "$1" | cut -c1-16
}

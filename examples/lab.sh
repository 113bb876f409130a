#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#
# The lab: the demo's network, left standing, with a prompt for each host and eight lessons (docs/lab.md).
#
#     client ──── router ──── balancer
#                   │
#         ┌─────────┼─────────┐
#       real1     real2     real3
#
# `lbctl lab` runs this as process 1 of new PID, mount, network and UTS namespaces. So nothing outlives it: when this
# shell ends, the kernel kills what it started, and with the last process go mounts, pins and interfaces.
#
# Arguments: the path of lbctl, then nothing (a shell), "check" and numbers of lessons, or "run" and a command.

set -euo pipefail

readonly LAB=/run/lab
readonly VIP=10.200.1.1
readonly HOSTS=(client router balancer real1 real2 real3)

refuse() {
	echo "lab: $1" >&2
	exit 1
}

# What the whole lab sees: a /run and an /etc of its own.
make_room() {
	mount -t tmpfs -o mode=0755 lab /run
	mkdir -p $LAB/{bin,home,etc}
	# A copy: `lbctl` reads /etc/l4lb, which must not be the machine's, and may be missing there.
	cp -a /etc/. $LAB/etc 2>/dev/null || true
	rm -rf $LAB/etc/l4lb
	mkdir $LAB/etc/l4lb
	mount --bind $LAB/etc /etc
	mount -t bpf -o mode=0700 bpf /sys/fs/bpf
	hostname lab
	export PATH=$LAB/bin:$PATH HISTFILE=/dev/null TMPDIR=$LAB/home LAB
	unset LBCTL_INSTANCE LBCTL_BPFFS
	cd $LAB/home
	ln -s "$1" $LAB/bin/lbctl
	lbctl lab print lessons >$LAB/lessons.md
	lbctl lab print drop-list >$LAB/home/drop_list.bpf.o
}

# Commands that every host has.
make_commands() {
	local host
	# A host's name alone is its prompt; with a command, the command runs there.
	cat >$LAB/bin/host <<-'END'
		#!/usr/bin/env bash
		host=${0##*/}
		enter=(nsenter --target "$(</run/lab/$host/pid)" --net --mount --uts env --chdir=/run/lab/home "LAB_HOST=$host")
		if (($#)); then exec "${enter[@]}" "$@"; fi
		exec "${enter[@]}" bash --rcfile /run/lab/rc -i
	END
	# A program that runs on a host until it is stopped.
	cat >$LAB/bin/service <<-'END'
		#!/usr/bin/env bash
		name=${0##*/} host=${LAB_HOST:-}
		case $name:$host in
		web:real*) program=(lbctl lab web "$host") ;;
		serve:balancer) program=(lbctl serve -f /etc/l4lb/default.toml) ;;
		*) echo "$name: run it on $([[ $name == web ]] && echo "a real: real1 web stop" || echo "the balancer: balancer serve stop")" >&2; exit 1 ;;
		esac
		pid=/run/lab/$host/$name.pid
		case ${1:-} in
		start)
			kill -0 "$(cat $pid 2>/dev/null)" 2>/dev/null && exit
			"${program[@]}" </dev/null >>/run/lab/$host/$name.log 2>&1 &
			echo $! >$pid
			;;
		stop)
			[[ -e $pid ]] || exit 0
			kill "$(<$pid)" 2>/dev/null
			while kill -0 "$(<$pid)" 2>/dev/null; do sleep 0.05; done
			rm $pid
			;;
		log) cat /run/lab/$host/$name.log ;;
		*) echo "usage: $name start | stop | log" >&2; exit 2 ;;
		esac
	END
	cat >$LAB/bin/block <<-'END'
		#!/usr/bin/env bash
		[[ ${LAB_HOST:-} == balancer ]] || { echo "block: the balancer does that: balancer block $*" >&2; exit 1; }
		exec lbctl lab block "$@"
	END
	# What the client does.
	cat >$LAB/bin/visitor <<-'END'
		#!/usr/bin/env bash
		[[ ${LAB_HOST:-} == client ]] || { echo "${0##*/}: the client does that: client ${0##*/} $*" >&2; exit 1; }
		exec lbctl lab "${0##*/}" "$@"
	END
	cat >$LAB/bin/lesson <<-'END'
		#!/usr/bin/env bash
		case ${1:-} in
		'') sed -n 's/^## Lesson /  lesson /p' /run/lab/lessons.md ;;
		[1-9]) awk -v head="## Lesson $1:" 'index($0, "## ") == 1 { on = index($0, head) == 1 } on' /run/lab/lessons.md ;;
		*) echo "usage: lesson [1 to 8]" >&2; exit 2 ;;
		esac
	END
	cat >$LAB/bin/windows <<-'END'
		#!/usr/bin/env bash
		command -v tmux >/dev/null || { echo "windows: tmux is missing: apt-get install tmux" >&2; exit 1; }
		[[ -z ${LAB_HOST:-} ]] || { echo "windows: leave this host first: exit" >&2; exit 1; }
		tmux -f /dev/null -S /run/lab/tmux new-session -d -s lab -n lab 'exec bash --rcfile /run/lab/rc -i' || exit
		for host in client router balancer real1 real2 real3; do
			tmux -S /run/lab/tmux new-window -d -n "$host" "exec $host"
		done
		exec tmux -S /run/lab/tmux attach
	END
	cat >$LAB/rc <<-'END'
		PS1='\[\e[1m\]\h\[\e[0m\]# '
		unset PROMPT_COMMAND
		alias ls='ls --color=auto'
	END
	for host in "${HOSTS[@]}"; do ln -s host "$LAB/bin/$host"; done
	ln -s service $LAB/bin/web
	ln -s service $LAB/bin/serve
	for host in ask flood talk; do ln -s visitor "$LAB/bin/$host"; done
	make_check
	chmod 755 $LAB/bin/*
}

# check N: runs a lesson's commands, and looks whether what the text promises is seen.
make_check() {
	cat >$LAB/bin/check <<-'END'
		#!/usr/bin/env bash
		# Runs each block of the lesson. Behind it, a paragraph "You see …" has what must be in the output, between backquotes;
		# "You no longer see …" what must not. The last command of a block looks: it is repeated until both hold, for 20 s.
		[[ ${1:-} == [1-8] ]] || { echo "usage: check 1 to 8" >&2; exit 2; }
		[[ -z ${LAB_HOST:-} ]] || { echo "check: leave this host first: exit" >&2; exit 1; }
		set -f
		commands=() seen='' last='' failed=0

		# Not by a pipe: what a command leaves in the background would hold it open.
		run() {
			bash -c "$1" >/run/lab/output 2>&1 || code=$?
			last=$(</run/lab/output)
		}

		# Whether a line of the text has the words, in which … stands for anything.
		has() {
			local line pattern=${2//'*'/'\*'}
			pattern=${pattern//'['/'\['}
			pattern=*${pattern//'…'/'*'}*
			# shellcheck disable=SC2053 # it is a pattern
			while read -r line; do [[ $line == $pattern ]] && return; done < <(tr -s ' ' <<<"$1")
			return 1
		}

		missing() {
			local want spans no=0
			[[ $1 != "You no longer see"* ]] || no=1
			mapfile -t spans < <(grep -o '`[^`]*`' <<<"$1" | tr -d '`')
			for want in "${spans[@]}"; do
				if ((no)); then
					has "$last" "$want" && echo "still seen: $want"
				else
					has "$seen"$'\n'"$last" "$want" || echo "not seen: $want"
				fi
			done
		}

		look() {
			local deadline=$((SECONDS + 20)) lacking first=$last
			lacking=$(missing "$1")
			while [[ -n $lacking ]] && ((SECONDS < deadline)); do
				sleep 0.3
				run "${commands[-1]}"
				lacking=$(missing "$1")
			done
			if [[ -z $lacking ]]; then
				[[ $last == "$first" ]] || printf '%s\n' "lab# ${commands[-1]}" "$last"
				return
			fi
			printf '%s\n%s\n%s\n' "$seen" "$last" "$lacking" >&2
			failed=1
		}

		paragraph='' block=0
		while IFS= read -r line; do
			if [[ $line == '```sh' ]]; then
				block=1 commands=() seen='' last=''
			elif [[ $line == '```'* ]]; then
				((block)) || continue
				block=0
				for command in "${commands[@]}"; do
					printf '%s\n' "lab# $command"
					seen+=$last$'\n'
					code=0
					run "$command"
					[[ -z $last ]] || printf '%s\n' "$last"
					((code == 0)) || echo "(exit code $code)"
				done
			elif ((block)); then
				[[ $line == \#* ]] || commands+=("${line%%  #*}")
			elif [[ -z $line ]]; then
				[[ $paragraph != "You see"* && $paragraph != "You no longer see"* ]] || look "$paragraph"
				paragraph=
			else
				paragraph+=${paragraph:+ }$line
			fi
		done < <(lesson "$1"; echo)
		if ((failed)); then echo "lesson $1: FAILED"; else echo "lesson $1: as promised"; fi
		exit "$failed"
	END
}

# A host has its own network, mounts and name. Its process sleeps until the lab ends.
add_host() {
	mkdir -p "$LAB/$1/etc" "$LAB/$1/var"
	# shellcheck disable=SC2016 # that shell expands it
	unshare --net --mount --uts bash -euc '
		hostname "$1"
		mount -t sysfs sysfs /sys
		mount -t bpf -o mode=0700 bpf /sys/fs/bpf
		mount --bind "$2/etc" /etc/l4lb
		mkdir -p /run/l4lb
		mount --bind "$2/var" /run/l4lb
		ip link set lo up
		echo 0 >/proc/sys/net/ipv6/conf/all/accept_dad
		echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
		echo $$ >"$2/pid.new"
		mv "$2/pid.new" "$2/pid"
		exec sleep infinity
	' host "$1" "$LAB/$1" </dev/null >"$LAB/$1/host.log" 2>&1 &
}

await() {
	local what=$1 deadline=$((SECONDS + 20))
	shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < deadline)) || refuse "waited 20 s in vain: $what; $(cat $LAB/*/*.log | tail -n 1)"
		sleep 0.05
	done
}

# One link: a host's eth0, and the router's end of it.
#   link HOST MTU NETWORK HOST-NUMBER
link() {
	local queues
	# A queue for each CPU, as a network card has it.
	queues=$(nproc --all)
	((queues <= 64)) || queues=64
	router ip link add "to-$1" mtu "$2" numtxqueues "$queues" numrxqueues "$queues" type veth \
		peer name eth0 mtu "$2" numtxqueues "$queues" numrxqueues "$queues" netns "$(<"$LAB/$1/pid")"
	router ip -batch - <<-END
		address add $3.254/24 dev to-$1
		link set to-$1 up
	END
	"$1" ip -batch - <<-END
		address add $3.$4/24 dev eth0
		link set eth0 up
		route add default via $3.254 mtu 1500
	END
}

build_network() {
	local host n
	for host in "${HOSTS[@]}"; do add_host "$host"; done
	for host in "${HOSTS[@]}"; do await "$host begins" test -s "$LAB/$host/pid"; done
	router sysctl -qw net.ipv4.ip_forward=1
	# Encapsulation makes packets longer by 20 bytes: where they travel, the MTU has room.
	link client 1500 192.168.1 2
	link balancer 1600 172.31.0 2
	for n in 1 2 3; do
		link "real$n" 1600 "10.0.$n" 1
		"real$n" ip address add $VIP/32 dev lo
		"real$n" sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
		"real$n" lbctl decap attach eth0 --from 172.16.0.0/16 --from 100::/64 >/dev/null
		"real$n" web start
	done
	router ip route add $VIP/32 via 172.31.0.2
	# veth leaves checksums and segmentation to a network card, and there is none.
	client ethtool -K eth0 tx off tso off gso off >/dev/null
	router ethtool -K to-balancer tx off >/dev/null
	# A veth takes no frame that its other end sends by XDP, unless it runs an XDP program itself.
	router lbctl decap attach to-balancer --from 172.16.0.0/16 >/dev/null
}

start_balancer() {
	cat >$LAB/balancer/etc/default.toml <<-END
		[[interfaces]]
		name = "eth0"
		xdp_mode = "native"

		[connection_table]
		entries = 100_000
		new_connections_per_second = 125_000

		[checks.web]
		type = "http"
		interval = "500ms"
		timeout = "400ms"

		[[vips]]
		address = "$VIP"
		port = 80
		protocol = "tcp"
		check = "web"
		reals = [
		  { address = "10.0.1.1", weight = 1 },
		  { address = "10.0.2.1", weight = 1 },
		  { address = "10.0.3.1", weight = 1 },
		]
	END
	cp $LAB/balancer/etc/default.toml $LAB/home/start.toml
	balancer serve start
	await "the reals are healthy" all_healthy
}

all_healthy() {
	[[ $(balancer lbctl real list | grep -cw healthy) == 3 ]]
}

welcome() {
	cat <<-END

		  client 192.168.1.2 ──── router ──── balancer 172.31.0.2
		                            │
		           ┌────────────────┼────────────────┐
		         real1            real2            real3
		        10.0.1.1         10.0.2.1         10.0.3.1

		  VIP tcp://$VIP:80, on the loopback of each real; a web server on each real

		  balancer               a prompt on that host; exit leaves it
		  client ask 30          a command on a host, from here: 30 requests
		  lesson, lesson 1       the eight lessons, and one of them
		  check 1                runs lesson 1, and says whether it went as the text says
		  windows                a tmux window for each host
		  exit                   ends the lab; nothing stays

	END
}

# One CPU for all: the packets of a connection meet one connection table, as they do where a network card steers them.
taskset -cp "$(taskset -cp $$ | sed 's/.*: //; s/[-,].*//')" $$ >/dev/null

make_room "$1"
shift
make_commands
build_network
start_balancer
case ${1:-} in
'')
	welcome
	# It must not replace this process: as process 1, an interactive shell would get no signals from its children's end.
	bash --rcfile $LAB/rc -i || true
	;;
check)
	code=0
	for number in "${@:2}"; do check "$number" || code=1; done
	exit $code
	;;
run) bash -c "$2" ;;
esac

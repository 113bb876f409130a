#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#
# Shows l4lb at work, in network namespaces of its own:
#
#     client ──── router ──── balancer
#                   │
#         ┌─────────┼─────────┐
#       real1     real2     real3       weights 1 : 2 : 3
#
# A request goes client → router → balancer → (encapsulated) → router → real; the answer goes
# real → router → client and never sees the balancer. The host's own network is not touched.
#
# Usage: examples/demo.sh, as root. LBCTL: the lbctl to show, if not the release build.

set -Eeuo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LBCTL=${LBCTL:-$here/../target/release/lbctl}

readonly PREFIX="l4lb-demo-$$"
readonly VIP4=10.200.1.1 VIP6=fc00:1::1
readonly VIPS=("tcp://$VIP4:80" "tcp://[$VIP6]:80")
readonly URLS=("http://$VIP4" "http://[$VIP6]")
readonly REALS=(1 2 3)
# The outer sources of a balancer by default.
readonly FROM=(--from 172.16.0.0/16 --from 100::/64)
readonly REQUESTS=1000
readonly DOWNLOAD_MB=200 DOWNLOAD_MB_PER_SECOND=32

# shellcheck source=examples/demo-lib.sh
source "$here/demo-lib.sh"

# One link: a node's eth0, and the router's end of it.
#   link NODE MTU IPV4 ROUTER-IPV4 IPV6 ROUTER-IPV6
link() {
	local node=$1 mtu=$2 v4=$3 router4=$4 v6=$5 router6=$6
	in_ns router ip link add "to-$node" mtu "$mtu" type veth \
		peer name eth0 mtu "$mtu" netns "$PREFIX-$node"
	in_ns router ip -batch - <<-END
		address add $router4/24 dev to-$node
		address add $router6/64 dev to-$node nodad
		link set to-$node up
	END
	in_ns "$node" ip -batch - <<-END
		address add $v4/24 dev eth0
		address add $v6/64 dev eth0 nodad
		link set eth0 up
		route add default via $router4 mtu 1500
		route add default via $router6 mtu 1500
	END
}

build_network() {
	local node n
	for node in client router balancer "${REALS[@]/#/real}"; do
		add_ns "$node"
	done
	set_sysctl router net/ipv4/ip_forward 1
	set_sysctl router net/ipv6/conf/all/forwarding 1

	# Encapsulation makes packets longer by 20 or 40 bytes: where they travel, the MTU has room.
	link client 1500 192.168.1.2 192.168.1.254 fc00:2::2 fc00:2::fe
	link balancer 1600 172.31.0.2 172.31.0.254 fc00:31::2 fc00:31::fe
	for n in "${REALS[@]}"; do
		link "real$n" 1600 "10.0.$n.1" "10.0.$n.254" "fc00:0:0:$n::1" "fc00:0:0:$n::fe"
	done
	in_ns router ip route add "$VIP4/32" via 172.31.0.2
	in_ns router ip route add "$VIP6/128" via fc00:31::2

	# veth leaves checksums and segmentation to a network card, and there is none.
	in_ns client ethtool -K eth0 tx off tso off gso off >/dev/null
}

# A real has the VIP on its loopback device, and answers no ARP request for it.
own_vip() {
	local node=$1
	in_ns "$node" ip address add "$VIP4/32" dev lo
	in_ns "$node" ip address add "$VIP6/128" dev lo nodad
	set_sysctl "$node" net/ipv4/conf/all/arp_ignore 1
	set_sysctl "$node" net/ipv4/conf/all/arp_announce 2
}

start_nginx() {
	local node=$1 dir=$TMP/$1
	mkdir "$dir/www"
	echo "$node" >"$dir/www/index.html"
	ln "$TMP/file" "$dir/www/file"
	cat >"$dir/nginx.conf" <<-END
		daemon off;
		worker_processes 1;
		pid $dir/nginx.pid;
		error_log $dir/error.log;
		events {}
		http {
			access_log off;
			keepalive_timeout 0;    # a connection for each request
			client_body_temp_path $dir/body;
			proxy_temp_path $dir/proxy;
			fastcgi_temp_path $dir/fastcgi;
			uwsgi_temp_path $dir/uwsgi;
			scgi_temp_path $dir/scgi;
			server {
				listen 80 backlog=1024;
				listen [::]:80 backlog=1024;
				root $dir/www;
				add_header X-Real $node;
				location /file { limit_rate ${DOWNLOAD_MB_PER_SECOND}m; }
			}
		}
	END
	run_nginx "$node"
}

run_nginx() {
	spawn "$1" nginx -e "$TMP/$1/error.log" -c "$TMP/$1/nginx.conf"
}

write_config() {
	local n vip
	cat <<-END
		[[interfaces]]
		name = "eth0"
		xdp_mode = "native"
		gateway = "auto"

		[connection_table]
		entries = 100_000

		[checks.web]
		type = "http"
		interval = "500ms"
		timeout = "400ms"
	END
	for vip in "$VIP4" "$VIP6"; do
		printf '\n[[vips]]\naddress = "%s"\nport = 80\nprotocol = "tcp"\ncheck = "web"\nreals = [\n' "$vip"
		for n in "${REALS[@]}"; do
			printf '  { address = "%s", weight = %d },\n' "$(real_address "$vip" "$n")" "$n"
		done
		echo "]"
	done
}

# The address under which the balancer reaches a real: in the VIP's family.
real_address() {
	case $1 in
	*$VIP6*) echo "fc00:0:0:$2::1" ;;
	*) echo "10.0.$2.1" ;;
	esac
}

# Asks a VIP REQUESTS times, a connection each, and keeps the answers: "real2", "real2", "real1" …
ask() {
	in_ns client curl -s --connect-timeout 1 "$1/?[1-$REQUESTS]" >"$TMP/answers" || true
}

step_network() {
	step "The network: a namespace each for client, router, balancer and three reals"
	dd if=/dev/urandom of="$TMP/file" bs=1000000 count="$DOWNLOAD_MB" status=none
	build_network
	local n
	for n in "${REALS[@]}"; do
		own_vip "real$n"
		start_nginx "real$n"
	done
	for n in "${REALS[@]}"; do
		await "nginx answers on real$n" \
			in_ns client curl -sgf --max-time 1 -o /dev/null "http://10.0.$n.1" -o /dev/null "http://[fc00:0:0:$n::1]"
	done
	cat <<-END | indent
		client 192.168.1.2 ──── router ──── balancer 172.31.0.2
		                          │
		         ┌────────────────┼────────────────┐
		       real1            real2            real3
		      10.0.1.1         10.0.2.1         10.0.3.1
		      weight 1         weight 2         weight 3

		VIPs $VIP4 and $VIP6, also on the loopback of every real; nginx on every real
	END
}

step_start() {
	step "The reals remove the outer header that the balancer adds; the balancer is set up"
	local n
	for n in "${REALS[@]}"; do
		show_command "real$n" decap attach eth0 "${FROM[@]}"
		lbctl "real$n" decap attach eth0 "${FROM[@]}" >/dev/null || fail "lbctl decap attach: see above"
	done
	# A veth takes no frame that its other end sends by XDP unless it runs an XDP program itself.
	# This one finds nothing to decapsulate and passes everything on. Network cards need no such program.
	lbctl router decap attach to-balancer >/dev/null

	write_config >"$TMP/balancer/lb.toml"
	show balancer apply -f lb.toml
	show balancer plan -f lb.toml
}

step_shares() {
	step "$REQUESTS requests to each VIP, each a connection of its own"
	local i n expected
	row "" real1 real2 real3 failed
	for i in 0 1; do
		ask "${URLS[i]}"
		mapfile -t expected < <(shares_of "${VIPS[i]}")
		row "${VIPS[i]}" "$(count real1)" "$(count real2)" "$(count real3)" "$(failed)"
		row "  measured" "$(percent "$(measured real1)")" "$(percent "$(measured real2)")" \
			"$(percent "$(measured real3)")" ""
		row "  expected (ring)" "$(percent "${expected[0]}")" "$(percent "${expected[1]}")" \
			"$(percent "${expected[2]}")" ""
		[[ $(failed) == 0 ]] || fail "$(failed) requests to ${VIPS[i]} got no answer"
		for n in "${REALS[@]}"; do
			near "$(measured "real$n")" "${expected[n - 1]}" ||
				fail "real$n did not get its share of ${VIPS[i]}"
		done
	done
}

step_download() {
	step "A download of $DOWNLOAD_MB MB; meanwhile another real is taken out of the configuration"
	local before after real gone download arrived
	before=$(balanced_bytes)
	in_ns client curl -sgf -D "$TMP/headers" -o "$TMP/download" "${URLS[0]}/file" &
	download=$!
	await "the download begins" grep -q X-Real "$TMP/headers"
	real=$(sed -n 's/\r$//; s/^X-Real: real//p' "$TMP/headers")
	gone=$((real == 3 ? 2 : 3))
	say "real$real serves it; real$gone goes"

	write_config | grep -ve "\"$(real_address "$VIP4" "$gone")\"" -e "\"$(real_address "$VIP6" "$gone")\"" \
		>"$TMP/balancer/lb.toml"
	# The connection table still has flows of that real. They move, and apply wants consent for that.
	show balancer apply --yes -f lb.toml
	ask "${URLS[0]}"
	say "$REQUESTS requests to ${VIPS[0]}: $(tally)"
	[[ $(failed) == 0 && $(count "real$gone") == 0 ]] || fail "real$gone is to get no request, the others all"
	arrived=$(stat -c %s "$TMP/download")
	kill -0 "$download" 2>/dev/null || fail "the download was over too early to show anything"
	say "$(megabytes "$arrived") MB of the download have arrived; real$gone comes back"
	write_config >"$TMP/balancer/lb.toml"
	show balancer apply -f lb.toml

	wait "$download" || fail "the download broke off"
	after=$(balanced_bytes)
	say "all of the download has arrived, from real$real:"
	say "  SHA-256 at real$real      $(checksum "$TMP/file")…"
	say "  SHA-256 at the client $(checksum "$TMP/download")…"
	[[ $(checksum "$TMP/file") == "$(checksum "$TMP/download")" ]] || fail "the checksums differ"
	say "the answers went past the balancer: all that it saw meanwhile was $(megabytes $((after - before))) MB"
	((after - before < DOWNLOAD_MB * 1000000 / 10)) || fail "the balancer saw the answers"
}

# Whether checks have found all reals but these to be well, and these not to be.
health_is() {
	lbctl balancer --json status | jq -e --arg sick "$*" \
		'[.vips[].reals[] | (.health == "unhealthy") == (.address | IN($sick | split(" ")[])) and .health != "unknown"] | all'
}

milliseconds() {
	date +%s%3N
}

# Asks a VIP REQUESTS times in parts, and keeps the answers. FAILED_FOR: how long after the start requests failed, in ms.
ask_in_parts() {
	local part part_size=25 begun before
	begun=$(milliseconds)
	FAILED_FOR=0
	: >"$TMP/answers"
	for ((part = 1; part <= REQUESTS / part_size; part++)); do
		before=$(wc -l <"$TMP/answers")
		in_ns client curl -s --connect-timeout 1 "$1/?[1-$part_size]" >>"$TMP/answers" || true
		(($(wc -l <"$TMP/answers") - before == part_size)) || FAILED_FOR=$(($(milliseconds) - begun))
		sleep 0.1
	done
}

step_dead_real() {
	step "nginx on real3 stops. The balancer checks its reals, each through its tunnel, and takes it out by itself"
	local addresses=()
	for vip in "${VIPS[@]}"; do
		addresses+=("$(real_address "$vip" 3)")
	done
	show_command balancer serve -f lb.toml
	spawn balancer "$LBCTL" --bpffs "$TMP/balancer/bpf" serve -f "$TMP/balancer/lb.toml"
	await "lbctl serve has checked all reals" health_is >/dev/null

	stop_process real3
	ask_in_parts "${URLS[0]}"
	say "nginx is stopped. $REQUESTS requests to ${VIPS[0]}: $(tally)"
	say "requests failed for $FAILED_FOR ms; a check every 500 ms, and 3 in a row decide"
	[[ $(failed) != 0 ]] || fail "requests are to fail until real3 is out"
	await "real3 is out" health_is "${addresses[@]}" >/dev/null
	show balancer real list "${VIPS[0]}"
	ask "${URLS[1]}"
	say "$REQUESTS requests to ${VIPS[1]}: $(tally)"
	[[ $(failed) == 0 ]] || fail "$(failed) requests failed although real3 is out"

	run_nginx real3
	await "real3 is in use again" health_is >/dev/null
	ask "${URLS[0]}"
	say "nginx is back. $REQUESTS requests to ${VIPS[0]}: $(tally)"
	[[ $(failed) == 0 && $(count real3) != 0 ]] || fail "real3 is to come back without a failure"
}

step_status() {
	step "What runs now"
	show real1 decap status
	echo
	show balancer status
}

begin
step_network
step_start
step_shares
step_download
step_dead_real
step_status
clean_up
echo
echo "Done in $SECONDS s. Namespaces, processes and pins are removed again."

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Health checks through the tunnel. A checker marks its socket with the id of a real and connects
 * to the VIP's address. This program, on the way out of the interface (tc), sends the packets of
 * such sockets to that real as the balancer sends a client's packets, by IP in IP, GUE or L2: the
 * same functions, the same knobs, the same maps. So a check finds a real that answers on its own
 * address but does not decapsulate, lacks the VIP's address, or is behind a path with a small MTU.
 *
 * A real that is this host itself gets a client's packets from the kernel, if the VIP's address is
 * one of the host's. Then a check's packets do not come here: the kernel delivers them itself. So
 * what comes here for such a real has no way to it, and is dropped as a client's would be.
 *
 * The answers come from the VIP's address to this host's, and pass the balancer as any packet that
 * is for no VIP. A check never meets the connection tables and the rings.
 *
 * What the kernel sends for a check's flow after its socket is closed has no mark, and goes the
 * same way: packet/gone_socket.h.
 *
 * Packets of others cost a comparison of the mark, and a look at what kind of packet it is.
 */
#define LB_SOCKET_BUFFER

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "l4lb/abi/abi.h"
#include "l4lb/state/healthcheck.h"
#include "l4lb/state/interfaces.h"
#include "l4lb/state/knobs.h"
#include "l4lb/state/neighbours.h"
#include "l4lb/state/reals.h"
#include "l4lb/state/vips.h"
#include "l4lb/packet/context.h"
#include "l4lb/packet/encap_skb.h"
#include "l4lb/packet/gone_socket.h"
#include "l4lb/packet/icmp.h"
#include "l4lb/packet/parse.h"
#include "l4lb/packet/pkt.h"
#include "l4lb/packet/verifier.h"
#include "l4lb/packet/way.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define LB_UNFIT                                                                                   \
	(LB_PKT_FRAGMENT | LB_PKT_OPTIONS | LB_PKT_RUNT | LB_PKT_BAD_LENGTH | LB_PKT_EXT_HEADERS)

/* Behind the results: the packet has nothing to do with checks. */
#define LB_NOT_OURS LB_HEALTHCHECK_RESULT_COUNT

static __always_inline int is_vip_address(const struct lb_addr *addr)
{
	struct vip_key marker = {.addr = *addr, .proto = IPPROTO_ICMP};

	return bpf_map_lookup_elem(&vips, &marker) != NULL;
}

/* The flags of a VIP or a marker, or 0. */
static __always_inline __u32 vip_flags(const struct lb_addr *addr, __be16 port, __u8 proto)
{
	struct vip_key key = {.addr = *addr, .port = port, .proto = proto};
	struct vip *vip = bpf_map_lookup_elem(&vips, &key);

	return vip ? vip->flags : 0;
}

/*
 * The flags that tell the way of the VIP's packets. A check may go to another port than a VIP's:
 * then the way is that of the address's first VIP, which its marker has.
 */
static __always_inline __u32 way_flags(const struct pkt *p)
{
	__u32 flags = vip_flags(&p->dst, p->dport, p->proto);

	if (!flags)
		flags = vip_flags(&p->dst, 0, p->proto);
	if (!flags || flags & LB_VIP_MARKER)
		flags = vip_flags(&p->dst, 0, IPPROTO_ICMP);
	return flags;
}

/* Parses as the balancer does. Returns whether it is IP at all. */
static __always_inline int parse(struct __sk_buff *ctx, struct pkt *p)
{
	__be16 proto = parse_l2(ctx, p);

	if (proto == bpf_htons(ETH_P_IP))
		return !parse_v4(ctx, p);
	p->v6 = 1;
	return proto == bpf_htons(ETH_P_IPV6) && !parse_v6(ctx, p);
}

/*
 * Tells whether the balancer would send such a packet to a real. Of an ICMP error, p becomes the
 * flow that it quotes.
 */
static __always_inline int is_fit(struct __sk_buff *ctx, struct pkt *p, struct parsed *parsed)
{
	__u8 *type;

	if (p->proto == IPPROTO_TCP || p->proto == IPPROTO_UDP) {
		parse_l4(ctx, p);
		return !has(p, LB_UNFIT);
	}
	check_length(p);
	if (!is_icmp(p) || has(p, LB_UNFIT))
		return 0;
	type = packet_at(ctx, p, p->l4_off, sizeof(struct icmphdr));
	return type && is_error(p, *type) && !quoted_flow(ctx, p, parsed);
}

/* Returns the interface whose gateway the packet goes to; `redirect`: if another than asked for. */
static __always_inline struct interface *way_out(struct __sk_buff *ctx, __u32 *redirect)
{
	struct interface *interface = served_interface(ctx->ifindex);

	if (interface || !options.exit)
		return interface;
	interface = served_interface(options.exit);
	*redirect = options.exit;
	return interface && interface->own != LB_NO_MAC ? interface : NULL;
}

/* The frame's source becomes the interface by which it leaves now. */
static __always_inline int write_source(struct __sk_buff *ctx, const struct interface *interface)
{
	__u64 own = interface->own >> LB_MAC_SHIFT;

	return bpf_skb_store_bytes(ctx, ETH_ALEN, &own, ETH_ALEN, 0);
}

/*
 * Sends the packet by L2: in a frame to the real's MAC, out of the interface that leads there. Its
 * bytes stay what they are.
 */
static __always_inline int send_by_l2(struct __sk_buff *ctx, __u32 id, __u32 *redirect)
{
	struct neighbour *neighbour = bpf_map_lookup_elem(&neighbours, &id);
	struct interface *interface;

	if (!neighbour || !neighbour->ifindex)
		return LB_HEALTHCHECK_no_neighbour;
	if (write_mac_to(ctx, (const struct mac *)neighbour->mac))
		return LB_HEALTHCHECK_no_room;
	if (neighbour->ifindex == ctx->ifindex)
		return LB_HEALTHCHECK_l2;
	interface = served_interface(neighbour->ifindex);
	if (!interface || interface->own == LB_NO_MAC)
		return LB_HEALTHCHECK_no_interface;
	*redirect = neighbour->ifindex;
	return write_source(ctx, interface) ? LB_HEALTHCHECK_no_room : LB_HEALTHCHECK_l2;
}

/*
 * Sends the packet to the real. Returns the result; `redirect`: the interface that it leaves by, if
 * it is another one.
 */
static __always_inline int send_to_real(struct __sk_buff *ctx, struct pkt *p, __u32 id,
					__u32 *redirect)
{
	struct interface *interface;
	struct real *real;
	__u32 flags, way;
	int failed;

	real = bpf_map_lookup_elem(&reals, &id);
	if (!real || !(real->flags & LB_REAL_LIVE))
		return LB_HEALTHCHECK_no_real;
	flags = way_flags(p);
	way = encap_of(flags, real);
	if (way == LB_ENCAP_LOCAL)
		return LB_HEALTHCHECK_not_local;
	if (way == LB_ENCAP_L2)
		return send_by_l2(ctx, id, redirect);
	interface = way_out(ctx, redirect);
	if (!interface)
		return LB_HEALTHCHECK_no_interface;
	if (longest_packet(ctx, p) > path_mtu(interface, flags, real))
		return LB_HEALTHCHECK_too_long;
	if (way == LB_ENCAP_GUE)
		failed = encapsulate_skb_gue(ctx, p, interface, real);
	else
		failed = encapsulate_skb(ctx, p, interface, real);
	if (failed || (*redirect && write_source(ctx, interface)))
		return LB_HEALTHCHECK_no_room;
	if (real->flags & LB_REAL_V6)
		return p->v6 ? LB_HEALTHCHECK_ipv6_in_ipv6 : LB_HEALTHCHECK_ipv4_in_ipv6;
	return p->v6 ? LB_HEALTHCHECK_ipv6_in_ipv4 : LB_HEALTHCHECK_ipv4_in_ipv4;
}

/*
 * Sends a packet of a check. An id that no real has: the packet has no mark, and may be of a
 * check's flow all the same. Returns the result, or LB_NOT_OURS if it is not.
 */
static __always_inline int send_check(struct __sk_buff *ctx, struct healthcheck_state *state,
				      __u32 id, __u32 *redirect)
{
	int stranger = id >= LB_HEALTHCHECK_MARKS;
	int otherwise = stranger ? LB_NOT_OURS : LB_HEALTHCHECK_not_vip;
	struct pkt p = {.frame_len = ctx->len};

	/* What the kernel sends without a socket lies in one piece. */
	if ((!stranger && gather_headers(ctx)) || !parse(ctx, &p))
		return otherwise;
	forget_path_by(&p, &state->parsed);
	if (!is_vip_address(&p.dst))
		return otherwise;
	if (!is_fit(ctx, &p, &state->parsed))
		return stranger ? LB_NOT_OURS : LB_HEALTHCHECK_unfit;
	forget_path_by(&p, &state->parsed);
	if (stranger) {
		id = recall_flow(&p);
		if (id >= LB_HEALTHCHECK_MARKS)
			return LB_NOT_OURS;
	} else if (!has(&p, LB_PKT_ICMP_ERROR) && (p.proto == IPPROTO_UDP || has(&p, LB_PKT_SYN))) {
		remember_flow(&p, id);
	}
	return send_to_real(ctx, &p, id, redirect);
}

SEC("tc")
int healthcheck(struct __sk_buff *ctx)
{
	__u32 id = ctx->mark - options.first_mark, zero = 0, redirect = 0, result, bytes;
	struct healthcheck_state *state;

	if (id >= LB_HEALTHCHECK_MARKS && !may_lack_socket(ctx))
		return TC_ACT_UNSPEC;
	state = bpf_map_lookup_elem(&healthcheck_states, &zero);
	if (!state)
		return TC_ACT_SHOT;
	bytes = ctx->len;
	result = send_check(ctx, state, id, &redirect);
	if (result >= LB_HEALTHCHECK_RESULT_COUNT)
		return TC_ACT_UNSPEC;
	state->results[result].packets++;
	state->results[result].bytes += bytes;
	if (result == LB_HEALTHCHECK_not_vip)
		return TC_ACT_UNSPEC;
	if (result >= LB_HEALTHCHECK_no_real)
		return TC_ACT_SHOT;
	/* It may meet this program again, at the device below or at the one that it is sent to. */
	ctx->mark = 0;
	return redirect ? bpf_redirect(redirect, 0) : TC_ACT_UNSPEC;
}

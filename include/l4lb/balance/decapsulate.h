/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Tunnels that end at the balancer: the outer header of IP in IP and of GUE is taken off, if the
 * packet is for an address of `tunnel_ends`. Other sites send such packets. What was inside then
 * goes the balancer's one way, as if it had come so; or back to the router.
 *
 * This comes before everything else, once for each packet. Of a packet within a packet within a
 * packet, the balancer sees the middle one, which is for no VIP.
 *
 * A filter of the network saw the outer header only, so the host's kernel gets nothing that was
 * taken out: finish() in balance/verdict.h drops it.
 */
#ifndef L4LB_BALANCE_DECAPSULATE_H
#define L4LB_BALANCE_DECAPSULATE_H

#include "l4lb/state/decapsulate.h"
#include "l4lb/state/knobs.h"
#include "l4lb/packet/addr.h"
#include "l4lb/packet/gue_in.h"
#include "l4lb/packet/inner.h"
#include "l4lb/packet/l2.h"
#include "l4lb/packet/parse.h"
#include "l4lb/packet/pkt.h"
#include "l4lb/packet/ttl.h"
#include "l4lb/packet/verifier.h"
#include "l4lb/balance/ingress.h"
#include "l4lb/balance/vips.h"

/*
 * Parses the outer headers. Returns whether the packet is a tunnel's: IP in IP, or UDP to the port
 * of GUE. A later fragment of UDP does not tell its port, so it is none.
 */
static __always_inline int parse_tunnel(struct xdp_md *ctx, struct pkt *p)
{
	__be16 proto = parse_l2(ctx, p);
	__be16 *ports;

	if (proto == bpf_htons(ETH_P_IP)) {
		if (parse_v4(ctx, p))
			return 0;
	} else if (proto == bpf_htons(ETH_P_IPV6)) {
		p->v6 = 1;
		if (parse_outer_v6(ctx, p))
			return 0;
	} else {
		return 0;
	}
	if (p->proto == IPPROTO_IPIP || p->proto == IPPROTO_IPV6)
		return 1;
	if (p->proto != IPPROTO_UDP || has(p, LB_PKT_NO_PORTS))
		return 0;
	ports = packet_at(ctx, p, p->l4_off, 2 * sizeof(*ports));
	return ports && ports[1] == knobs.gue_port;
}

static __always_inline struct tunnel_end *tunnel_end_of(const struct lb_addr *addr)
{
	struct lb_addr key = *addr;

	return bpf_map_lookup_elem(&tunnel_ends, &key);
}

static __always_inline int may_send(const struct pkt *p)
{
	struct tunnel_source key = {
		.length = LB_TUNNEL_SOURCE_BITS + 128,
		.v6 = p->v6,
		.end = p->dst,
		.source = p->src,
	};

	return !!bpf_map_lookup_elem(&tunnel_sources, &key);
}

/*
 * Whether a router may get the inner packet. One to an address of `tunnel_ends` would come straight
 * back: a packet in many outer headers could make as many rounds.
 */
static __always_inline int is_for_router(const struct inner *in)
{
	return !is_never_routed(&in->dst, in->v6) && !is_link_local_v4(&in->dst, in->v6) &&
	       !tunnel_end_of(&in->dst);
}

/*
 * Whether nobody may send the inner packet from where it says that it comes. No client has an
 * address that no router forwards, nor one of a VIP: filters at the edge of a network drop packets
 * from its own addresses, but they saw the outer header only. A real that trusts them, or answers
 * them, would talk to itself; Linux drops only IPv4 packets from its own addresses. A real's answer
 * for the router does come from a VIP.
 */
static __always_inline int is_no_client(const struct inner *in, __u32 then)
{
	struct vip marker;

	if (is_never_routed(&in->src, in->v6))
		return 1;
	return then != LB_THEN_ROUTER &&
	       lookup_vip(vip_index_now(), &in->src, 0, IPPROTO_ICMP, &marker);
}

/* Finds and checks the inner packet. Returns LB_GO_ON, or the reason to drop the packet. */
static __always_inline int find_inner(struct xdp_md *ctx, struct pkt *p, struct cpu_state *cpu,
				      struct inner *in)
{
	if (has(p, LB_PKT_OPTIONS))
		return LB_DROP_decap_malformed;
	if (!p->v6 && !is_v4_header_right(ctx, p))
		return LB_DROP_decap_checksum;
	/* All packets of all balancers have id 0, so reassembly could mix their fragments. */
	if (has(p, LB_PKT_FRAGMENT))
		return LB_DROP_decap_fragment;
	check_length(p);
	if (has(p, LB_PKT_BAD_LENGTH))
		return LB_DROP_decap_malformed;
	in->off = p->l4_off;
	in->v6 = p->proto == IPPROTO_IPV6;
	if (p->proto == IPPROTO_UDP) {
		if (read_gue(ctx, p, in) != LB_DECAP_GO_ON)
			return LB_DROP_decap_malformed;
		if (check_gue_sum(ctx, p, in) != LB_DECAP_GO_ON)
			return LB_DROP_decap_checksum;
	}
	in->off = forget_number(cpu, in->off);
	return read_inner(ctx, p, in) ? LB_DROP_decap_malformed : LB_GO_ON;
}

/*
 * Takes the packet out, if it is in a tunnel that ends here. Returns LB_GO_ON if the frame is to be
 * balanced as it is now, or the reason with which it ends.
 */
static __always_inline int take_out(struct xdp_md *ctx, struct pkt *p, struct cpu_state *cpu)
{
	struct interface *interface;
	struct tunnel_end *end;
	struct ethhdr *eth;
	struct inner in;
	__u32 then;
	void *ip;
	int reason;

	cpu->taken_out = 0;
	if (!parse_tunnel(ctx, p))
		return LB_GO_ON;
	forget_path(p, cpu);
	interface = ingress(ctx);
	if (!interface || !is_ours(interface, p->mac))
		return LB_GO_ON;
	end = tunnel_end_of(&p->dst);
	if (!end)
		return LB_GO_ON;
	then = end->then;
	if (end->check_source && !may_send(p))
		return LB_DROP_decap_source;
	/* What goes back would go to every host of the network. */
	if (then == LB_THEN_ROUTER && is_from_broadcast(ctx))
		return LB_DROP_decap_malformed;
	reason = find_inner(ctx, p, cpu, &in);
	if (reason)
		return reason;
	if (is_no_client(&in, then) || (then == LB_THEN_ROUTER && !is_for_router(&in)))
		return LB_DROP_decap_inner_address;
	/* Of either family, what changes lies within these bytes. */
	ip = packet_at(ctx, p, in.off, sizeof(struct iphdr));
	if (!ip)
		return LB_DROP_decap_malformed;
	if (!decrement_ttl(ip, in.v6))
		return LB_DROP_decap_ttl;
	if (decapsulate(ctx, p, &in))
		return LB_DROP_decap_malformed;
	if (then == LB_THEN_ROUTER) {
		eth = pkt_at(ctx, 0, sizeof(*eth));
		if (!eth)
			return LB_DROP_decap_malformed;
		swap_macs(eth);
		return LB_TX_to_router;
	}
	cpu->taken_out = 1;
	return LB_GO_ON;
}

#endif

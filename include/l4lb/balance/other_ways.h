/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Sends a packet to its real by another way than IP in IP (packet/way.h):
 *
 *   GUE     in a UDP packet to the real's address, by the gateway
 *   L2      as it is, in a frame to the real's own MAC: the real is on the interface's network
 *   local   not at all: the real is this host, and the kernel gets the packet as it came
 */
#ifndef L4LB_BALANCE_OTHER_WAYS_H
#define L4LB_BALANCE_OTHER_WAYS_H

#include "l4lb/state/neighbours.h"
#include "l4lb/packet/bytes.h"
#include "l4lb/packet/encap.h"
#include "l4lb/packet/l2.h"
#include "l4lb/packet/pkt.h"
#include "l4lb/packet/ttl.h"
#include "l4lb/packet/way.h"
#include "l4lb/balance/ask.h"

/* The client's port on the wire: what flow_key_of has left of it, or what that has put aside. */
static __always_inline __be16 wire_source_port(const struct pkt *p, const struct vip *vip,
					       const struct cpu_state *cpu)
{
	return vip->flags & LB_VIP_IGNORE_SPORT ? cpu->wire_sport : p->sport;
}

/* Sends the packet by GUE. Returns `why`, or the reason to drop it. */
static __always_inline int send_gue(struct xdp_md *ctx, const struct pkt *p,
				    const struct interface *interface, const struct vip *vip,
				    const struct real *real, struct cpu_state *cpu, int why)
{
	__u64 gateway = gateway_mac(interface);
	const int v6 = real->flags & LB_REAL_V6;
	__be16 source = gue_source_port(p, wire_source_port(p, vip, cpu), v6);
	int reason, derived = 1;

	if (!v6) {
		reason = encap_gue_v4(ctx, p, gateway, real, source, &derived);
		return reason ? rarely(reason) : why;
	}
	reason = encap_gue_v6(ctx, p, gateway, real, source, &derived);
	if (reason)
		return rarely(reason);
	return derived ? why : ask_gue_checksum(p, cpu, why);
}

/*
 * Sends the packet by L2. Its TTL is decremented, as by a router: a real may be a balancer of the
 * same VIP that sends it back, and a loop must end.
 */
static __always_inline int send_l2(struct xdp_md *ctx, const struct pkt *p,
				   const struct interface *interface, int why)
{
	__u32 id = p->real;
	struct neighbour *neighbour = bpf_map_lookup_elem(&neighbours, &id);
	struct mac *macs = pkt_at(ctx, 0, sizeof(struct ethhdr));
	void *ip = pkt_at(ctx, p->l3_off, p->v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));

	if (!neighbour || !macs || !ip || neighbour->ifindex != interface->ifindex)
		return rarely(LB_DROP_no_neighbour);
	if (!decrement_ttl(ip, p->v6))
		return rarely(LB_DROP_l2_ttl);
	macs[1] = macs[0];
	macs[0] = *(struct mac *)neighbour->mac;
	return why;
}

/* Sends the packet to its real. `way` is neither IP in IP nor local. */
static __always_inline int send_by(__u32 way, struct xdp_md *ctx, const struct pkt *p,
				   const struct interface *interface, const struct vip *vip,
				   const struct real *real, struct cpu_state *cpu, int why)
{
	if (has(p, LB_PKT_ICMP_ERROR))
		why = LB_TX_icmp_error;
	if (way == LB_ENCAP_L2)
		return send_l2(ctx, p, interface, why);
	return send_gue(ctx, p, interface, vip, real, cpu, why);
}

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Which interface a packet came in by, and whether the frame is for this host. */
#ifndef L4LB_BALANCE_INGRESS_H
#define L4LB_BALANCE_INGRESS_H

#include "l4lb/state/maps.h"
#include "l4lb/packet/pkt.h"

/* The interface the packet came in by, if this instance serves it. */
static __always_inline struct interface *ingress(struct xdp_md *ctx)
{
	__u32 ifindex = ctx->ingress_ifindex;
	struct interface *interface;
	__u32 at;

	/* Unrolled, as verifiers before Linux 6.2 refuse a loop that begins behind a call. */
#pragma unroll
	for (int i = 0; i < LB_INTERFACE_PROBES; i++) {
		at = (ifindex + i) % LB_INTERFACE_PLACES;
		interface = bpf_map_lookup_elem(&interfaces, &at);
		if (interface && interface->ifindex == ifindex)
			return interface;
	}
	return NULL;
}

/*
 * Whether the frame was sent to this host, by its destination MAC (mac_word). Other frames come
 * from a switch that does not know where their host is and floods them, to a card in promiscuous
 * mode; or they are broadcast or multicast, by which no router sends a packet of a VIP. To answer
 * them, or send them on, with their destination as source would teach switches that their host is
 * here.
 */
static __always_inline int is_ours(const struct interface *interface, __u64 mac)
{
	__s64 differs = -1;
	__u64 bits, minus;

	if (__builtin_expect(mac == interface->own, 1))
		return 1;
	if (interface->any_unicast)
		return !(mac & LB_MAC_GROUP);
	/*
	 * Without a branch for each, all of which the verifier would follow: of a number that is
	 * not 0, and its negative, one has the highest bit.
	 */
#pragma unroll
	for (int i = 0; i < LB_MAX_MACS; i++) {
		bits = mac ^ interface->macs[i];
		minus = -bits;
		barrier_var(minus);
		differs &= bits | minus;
	}
	return differs >= 0;
}

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The interface by which a packet came in, and whether the frame is for this host. */
#ifndef L4LB_BALANCE_INGRESS_H
#define L4LB_BALANCE_INGRESS_H

#include "l4lb/state/interfaces.h"
#include "l4lb/packet/pkt.h"

/* Returns the interface by which the packet came in, or NULL if this instance does not serve it. */
static __always_inline struct interface *ingress(struct xdp_md *ctx)
{
	return served_interface(ctx->ingress_ifindex);
}

/*
 * Whether the frame is for this host, by the MAC word of its destination. A card in promiscuous
 * mode also receives frames for other hosts, when a switch does not know the port of a host and
 * floods its frames. Other frames are broadcast or multicast; routers do not send packets for VIPs
 * by these. The program must neither answer nor forward either: it sends with the destination of
 * the frame as the source, so switches would learn that the other host is here.
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
	 * Without branches, each of which the verifier would follow. Of a number that is not 0 and
	 * its negative, one has the highest bit set.
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

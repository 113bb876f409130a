/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* How packets get to a real: the flags that say so, and GUE's headers. */
#ifndef L4LB_ABI_ENCAP_H
#define L4LB_ABI_ENCAP_H

#include <linux/types.h>

/*
 * Three bits, LB_ENCAP_*, at the same place in vip.flags and in real.flags. A real's own wins. The
 * control plane has put the default of [packets] into each VIP, so that the packet path needs no
 * third place.
 */
#define LB_ENCAP_SHIFT	24
#define LB_ENCAP_MASK	(7 << LB_ENCAP_SHIFT)
#define LB_ENCAP_UNSAID 0 /* a real: as the VIP says; a VIP: IP in IP */
#define LB_ENCAP_IPIP	1 /* reals only */
#define LB_ENCAP_GUE	2
#define LB_ENCAP_L2	3
#define LB_ENCAP_LOCAL	4 /* reals only: this host itself */

/* Default ports, by variant. IANA gave 6080 to GUE; GLB takes 19523. */
#define LB_GUE_PORT    6080
#define LB_GUE_PORT_V0 19523

/*
 * What follows the UDP header in variant 0 (draft-ietf-intarea-gue): the base header, and the
 * private data as GLB lays them out. `hops` IPv4 addresses may follow. A receiver that does not
 * know the flow sends the packet on to the hop at `next_hop`. l4lb sends no hops.
 */
struct gue {
	__u8 length; /* version 0, control bit 0, then the number of 32-bit words that follow */
	__u8 proto;  /* of the inner packet: 4 or 41 */
	__be16 flags;
	__be16 type; /* LB_GUE_HOPS_* */
	__u8 next_hop;
	__u8 hops;
};

#define LB_GUE_HOPS_V4 0
#define LB_GUE_HOPS_V6 1 /* l4lb's: GLB knows hops of IPv4 only */

_Static_assert(sizeof(struct gue) == 8, "on the wire");

#endif

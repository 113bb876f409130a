/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* IP addresses and MACs as maps hold them. */
#ifndef L4LB_ABI_ADDR_H
#define L4LB_ABI_ADDR_H

#include <linux/types.h>

struct lb_addr {
	__be32 word[4];
};

/*
 * A MAC word holds a MAC in 64 bits: the packet path reads the first eight bytes of the frame, six
 * of the destination MAC and two of the source MAC, and shifts the latter out. No frame has
 * LB_NO_MAC.
 */
#define LB_MAC_SHIFT 16
#define LB_MAC_GROUP (1 << LB_MAC_SHIFT) /* set in multicast and broadcast (IEEE 802, 8.2) */
#define LB_NO_MAC    1

#endif

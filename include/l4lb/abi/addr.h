/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Addresses of IP, and MACs. */
#ifndef L4LB_ABI_ADDR_H
#define L4LB_ABI_ADDR_H

#include <linux/types.h>

struct lb_addr {
	__be32 word[4];
};

/*
 * A MAC as one word: what the first eight bytes of a frame to it are, shifted by the two of the
 * sender's that are among them. LB_NO_MAC is no frame's.
 */
#define LB_MAC_SHIFT 16
#define LB_MAC_GROUP (1 << LB_MAC_SHIFT) /* set in multicast and broadcast (IEEE 802, 8.2) */
#define LB_NO_MAC    1

#endif

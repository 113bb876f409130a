/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Reals on a network of this host: the map `neighbours`. */
#ifndef L4LB_ABI_NEIGHBOUR_H
#define L4LB_ABI_NEIGHBOUR_H

#include <linux/types.h>

/* Where the real with this id is. Only L2 reads it. */
struct neighbour {
	__u32 ifindex; /* of the interface that it is behind; 0: not known */
	__u8 mac[6];
	__u16 pad;
};

_Static_assert(sizeof(struct neighbour) == 12, "abi");

#endif

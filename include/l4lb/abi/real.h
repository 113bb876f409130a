/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Reals: the map `reals`. */
#ifndef L4LB_ABI_REAL_H
#define L4LB_ABI_REAL_H

#include <linux/types.h>
#include "l4lb/abi/addr.h"

/* real.flags */
#define LB_REAL_LIVE (1 << 0)
#define LB_REAL_V6   (1 << 1)
/*
 * For user space, beside LB_ENCAP_LOCAL: the operator said that the real is this host. Without it,
 * the real's address was found to be one of the host's own.
 */
#define LB_REAL_LOCAL_SAID (1 << 2)
/* Bits 24 to 26: LB_ENCAP_* (abi/encap.h). */

struct real {
	struct lb_addr addr;
	__u32 flags;
	__u32 generation; /* 1 to LB_MAX_GENERATION: differs for each real that has had the id */
	__u32 csum; /* IPv4: sum of the outer header's words that are the same in every packet */
	__u32 pad;
};

_Static_assert(sizeof(struct real) == 32, "abi");

#endif

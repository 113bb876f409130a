/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Addresses of the balancer itself at which tunnels end: `[[decapsulate]]` in the file. */
#ifndef L4LB_ABI_DECAPSULATE_H
#define L4LB_ABI_DECAPSULATE_H

#include <linux/types.h>
#include "l4lb/abi/addr.h"

#define LB_MAX_TUNNEL_ENDS    64
#define LB_MAX_TUNNEL_SOURCES 64 /* prefixes that one of the addresses may have */

/* What happens to a packet that was taken out: tunnel_end.then. */
#define LB_THEN_BALANCE 0 /* it is balanced, as if it had come so */
#define LB_THEN_ROUTER	1 /* it goes back to where it came from, a router */

/* Value of `tunnel_ends`; the key is the address. */
struct tunnel_end {
	__u32 then;
	__u32 check_source; /* 1: only what `tunnel_sources` has for the address may send */
};

/*
 * Key of `tunnel_sources`, in the form that LPM tries need. The first 160 bits always count, so
 * that no prefix covers another family or another address.
 */
struct tunnel_source {
	__u32 length; /* in bits: 160, and those of the prefix; of IPv4, 96 more */
	__u32 v6;
	struct lb_addr end;
	struct lb_addr source;
};

#define LB_TUNNEL_SOURCE_BITS 160 /* in front of `source` */

_Static_assert(sizeof(struct tunnel_end) == 8, "abi");
_Static_assert(sizeof(struct tunnel_source) == 40, "abi");

#endif

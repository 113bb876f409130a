/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What the control plane keeps in maps for itself. The packet path does not read it. */
#ifndef L4LB_ABI_CONTROL_H
#define L4LB_ABI_CONTROL_H

#include <linux/types.h>
#include "l4lb/abi/limits.h"

#define LB_STATE_UP    0
#define LB_STATE_DRAIN 1
#define LB_STATE_DOWN  2
/* Of an entry with real 0, which stands for the VIP itself: a change of the VIP is under way. */
#define LB_STATE_CHANGING 3

/*
 * A value of `vip_reals`: a real of a VIP. Entries are in no order, and one that is all 0 is empty.
 * There is room for twice as many as a configuration may have, the old and the new ones, and for
 * one entry with LB_STATE_CHANGING per VIP.
 */
struct vip_real {
	__u32 vip;  /* id */
	__u32 real; /* id */
	__u32 weight;
	__u8 state; /* LB_STATE_*: what the operator wants */
	/* What was found about the real (src/model/health); both are 0 if nothing is known. */
	__u8 health;
	__u8 missing_share; /* percent of the weight that do not count */
	__u8 pad;
};

#define LB_VIP_REAL_PLACES (2 * LB_MAX_VIP_REALS + LB_MAX_VIPS)

/* The only value of `control`. */
struct control {
	__u32 abi;
	__u32 next_serial;
	__u64 table_entries;  /* connection_table.entries */
	__u32 cpus_auto;      /* connection_table.cpus = "auto" */
	__u32 draining_since; /* the node: seconds since 1970; 0: it is not drained */
};

_Static_assert(sizeof(struct vip_real) == 16, "abi");
_Static_assert(sizeof(struct control) == 24, "abi");

#endif

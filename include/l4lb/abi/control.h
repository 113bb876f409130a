/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What the control plane keeps for itself. */
#ifndef L4LB_ABI_CONTROL_H
#define L4LB_ABI_CONTROL_H

#include <linux/types.h>
#include "l4lb/abi/limits.h"

#define LB_STATE_UP    0
#define LB_STATE_DRAIN 1
#define LB_STATE_DOWN  2
/* The VIP itself, with real 0: a change of it began and did not end. */
#define LB_STATE_CHANGING 3

/*
 * A value of `vip_reals`, which only the control plane reads: a real of a VIP. They lie in no
 * order, and where all is 0, there is none. Twice as many as a configuration may have: those that
 * go and those that come; and a mark for every VIP.
 */
struct vip_real {
	__u32 vip;  /* id */
	__u32 real; /* id */
	__u32 weight;
	__u32 state; /* LB_STATE_* */
};

#define LB_VIP_REAL_PLACES (2 * LB_MAX_VIP_REALS + LB_MAX_VIPS)

/* The one value of `control`, which only the control plane reads. */
struct control {
	__u32 abi;
	__u32 next_serial;
	__u64 table_entries; /* connection_table.entries */
	__u32 cpus_auto;     /* connection_table.cpus = "auto" */
	__u32 pad;
};

_Static_assert(sizeof(struct vip_real) == 16, "abi");
_Static_assert(sizeof(struct control) == 24, "abi");

#endif

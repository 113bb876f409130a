/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What `lbctl trace` reads. */
#ifndef L4LB_ABI_TRACE_H
#define L4LB_ABI_TRACE_H

#include <linux/types.h>
#include "l4lb/abi/flow.h"

/* What a copy of the balancer found out that only looks (trace.h). */
struct trace {
	struct flow_key key; /* what the VIP's hash mode leaves of the flow */
	__u32 ring_slot;
	__u32 has_key; /* and a ring slot */
	__u32 v6;
	__u32 server_id; /* that the packet carries */
	__u32 has_server_id;
	__u32 reason;
	__u32 vip; /* id */
	__u32 has_vip;
	__u32 real; /* id, if the reason says that the packet goes to one */
};

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What `lbctl trace` reads after it has run a tracing copy of the balancer (watch/trace.h). */
#ifndef L4LB_ABI_TRACE_H
#define L4LB_ABI_TRACE_H

#include <linux/types.h>
#include "l4lb/abi/flow.h"

struct trace {
	struct flow_key key; /* the flow, as far as the VIP's hash mode uses it */
	__u32 ring_slot;
	__u32 has_key; /* 1: key and ring_slot are set */
	__u32 v6;
	__u32 server_id; /* the one in the packet */
	__u32 has_server_id;
	__u32 reason;
	__u32 vip; /* id */
	__u32 has_vip;
	__u32 real; /* id, if the reason sends the packet to a real */
};

#endif

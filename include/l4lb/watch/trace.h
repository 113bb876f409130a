/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A copy of the balancer that says where a packet would go and leaves the connection tables as they
 * are: `lbctl trace` runs it over the maps of the one that forwards. In every other copy the
 * verifier removes what is here.
 */
#ifndef L4LB_WATCH_TRACE_H
#define L4LB_WATCH_TRACE_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "l4lb/abi/abi.h"
#include "l4lb/packet/pkt.h"

const volatile __u32 tracing = 0;

/* A map of its own, which every copy of the program has for itself. */
struct trace trace SEC(".data.trace") = {};

static __always_inline void trace_flow(const struct pkt *p, const struct flow_key *key, __u32 slot)
{
	trace.key = *key;
	trace.ring_slot = slot;
	trace.v6 = p->v6;
	trace.has_key = 1;
}

static __always_inline void trace_server_id(__u32 id)
{
	trace.server_id = id;
	trace.has_server_id = 1;
}

static __always_inline void trace_end(const struct pkt *p, int reason)
{
	trace.reason = reason;
	trace.vip = p->vip;
	trace.has_vip = p->has_vip;
	trace.real = p->real;
}

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Tracing. `lbctl trace` loads a second copy of the balancer with `tracing` set. That copy shares
 * the maps of the one that forwards, says where a packet would go, and does not write to the
 * connection tables. In all other copies the verifier removes this code.
 */
#ifndef L4LB_WATCH_TRACE_H
#define L4LB_WATCH_TRACE_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "l4lb/abi/abi.h"
#include "l4lb/packet/pkt.h"

const volatile __u32 tracing = 0;

/* A section of its own makes it a map of its own. Each copy of the program has one. */
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

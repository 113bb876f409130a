/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Connection tables of kind LRU: LRU hash maps of the kernel. */
#ifndef L4LB_BALANCE_TABLE_LRU_H
#define L4LB_BALANCE_TABLE_LRU_H

#include "l4lb/state/knobs.h"
#include "l4lb/packet/pkt.h"
#include "l4lb/balance/limits.h"
#include "l4lb/balance/remembered.h"

/* Whether the table has the flow. Reads it, and marks it as used now. */
static __always_inline int lru_recall(const struct pkt *p, void *lru, const struct flow_key *key,
				      struct cpu_state *cpu, struct remembered *flow)
{
	struct flow_key on_stack = *key;
	struct flow *found = bpf_map_lookup_elem(lru, &on_stack);
	__u64 now;

	if (!found)
		return 0;
	/*
	 * Both are read at once: the kernel may give an element of a shared table to another flow.
	 */
	flow->real = found->real;
	flow->generation = found->generation;
	flow->expired = 0;
	if (p->proto == IPPROTO_UDP) {
		now = coarse_now(cpu);
		/* Signed: with a shared table, another CPU may have seen the flow after `now`. */
		flow->expired = (__s64)(now - found->last_seen) > (__s64)knobs.udp_timeout;
		if (!flow->expired && !has(p, LB_PKT_ICMP_ERROR))
			found->last_seen = now;
	}
	return 1;
}

/* Writes the flow; with `known_only`, only if the table has it. */
static __always_inline void lru_put(void *lru, const struct flow_key *key,
				    const struct remembered *flow, __u64 now, int known_only)
{
	struct flow value = {.real = flow->real, .generation = flow->generation, .last_seen = now};
	struct flow_key on_stack = *key;

	bpf_map_update_elem(lru, &on_stack, &value, known_only ? BPF_EXIST : BPF_ANY);
}

#endif

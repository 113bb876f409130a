/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The connection table: it remembers to which real a flow went, so that the flow stays there when
 * the ring changes. Each CPU has a table of its own. Tables are of one of two kinds, SETS or LRU;
 * this is what both have in common.
 */
#ifndef L4LB_BALANCE_CONNECTION_TABLE_H
#define L4LB_BALANCE_CONNECTION_TABLE_H

#include "l4lb/state/knobs.h"
#include "l4lb/state/maps.h"
#include "l4lb/packet/pkt.h"
#include "l4lb/balance/limits.h"
#include "l4lb/balance/remembered.h"
#include "l4lb/balance/ring.h"
#include "l4lb/balance/table_lru.h"
#include "l4lb/balance/table_sets.h"

/* Where a flow is remembered: in a set or in a table of kind LRU. The other one is NULL. */
struct flow_place {
	struct flow_words words;
	void *set;
	void *lru;
};

/* Finds the flow's place in the table of this CPU. Counts the packet if there is none. */
static __always_inline int find_place(const struct pkt *p, const struct flow_key *key,
				      struct cpu_state *cpu, struct flow_place *place)
{
	__u32 at = knobs.table_bank * LB_MAX_CPUS + bpf_get_smp_processor_id();
	void *table;
	__u32 set;

	flow_words_of(key, p->v6, &place->words);
	if (knobs.table_kind == LB_TABLE_KIND_SETS) {
		table = p->v6 ? bpf_map_lookup_elem(&flows6, &at)
			      : bpf_map_lookup_elem(&flows4, &at);
		if (table) {
			set = set_of(&place->words, p->v6, knobs.sets);
			place->set = bpf_map_lookup_elem(table, &set);
			if (place->set)
				return 1;
		}
	} else {
		place->lru = bpf_map_lookup_elem(&connections, &at);
	}
	if (!place->lru) {
		__u32 shared = LB_SHARED_TABLE;

		place->lru = bpf_map_lookup_elem(&connections, &shared);
		cpu->table[LB_TABLE_shared_table]++;
	}
	if (place->lru)
		return 1;
	cpu->table[LB_TABLE_no_table]++;
	return 0;
}

static __always_inline int recall(const struct pkt *p, const struct flow_place *place,
				  const struct flow_key *key, struct cpu_state *cpu,
				  struct remembered *flow)
{
	if (place->set)
		return sets_recall(p, place->set, &place->words, cpu, flow);
	return lru_recall(p, place->lru, key, cpu, flow);
}

/*
 * Returns the real that the table holds for the flow, or NULL if there is none, or it may not be
 * used. Packets of a UDP flow keep it from expiring; ICMP errors about it do not.
 */
static __always_inline struct real *flow_lookup(struct pkt *p, const struct vip *vip,
						const struct flow_place *place,
						const struct flow_key *key, struct cpu_state *cpu)
{
	struct remembered flow = {};
	struct real *real;

	if (!recall(p, place, key, cpu, &flow)) {
		if (has(p, LB_PKT_ICMP_ERROR))
			cpu->table[LB_TABLE_miss_icmp_error]++;
		else if (has(p, LB_PKT_SYN))
			cpu->table[LB_TABLE_miss_syn]++;
		else if (p->proto == IPPROTO_TCP)
			cpu->table[LB_TABLE_miss_tcp]++;
		else
			cpu->table[LB_TABLE_miss_udp]++;
		return NULL;
	}
	if (flow.expired) {
		cpu->table[LB_TABLE_expired]++;
		return NULL;
	}
	p->real = flow.real;
	real = live_real(p->real);
	if (!real || real->generation != flow.generation || is_barred(vip, p->real)) {
		cpu->table[LB_TABLE_stale]++;
		return NULL;
	}
	cpu->table[LB_TABLE_hit]++;
	return real;
}

/* Whether the flood guard lets this CPU remember another flow. Sets cpu->now. */
static __always_inline int admit_flow(struct cpu_state *cpu)
{
	if (second_allows(&cpu->new_flows, coarse_now(cpu), knobs.new_flows_per_second))
		return 1;
	cpu->table[LB_TABLE_flood]++;
	return 0;
}

/* Remembers the flow's real; with `known_only`, only if the table has the flow. */
static __always_inline void flow_put(const struct pkt *p, const struct flow_place *place,
				     const struct flow_key *key, const struct real *real,
				     int known_only, struct cpu_state *cpu)
{
	struct remembered flow = {.real = p->real, .generation = real->generation};

	if (!known_only)
		cpu->table[LB_TABLE_inserted]++;
	if (place->set)
		sets_put(p, place->set, &place->words, &flow, known_only, cpu);
	else
		lru_put(place->lru, key, &flow, cpu->now, known_only);
}

#endif

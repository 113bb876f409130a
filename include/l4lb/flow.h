/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The connection table: which real a flow went to before. */
#ifndef L4LB_FLOW_H
#define L4LB_FLOW_H

#include "config.h"
#include "maps.h"
#include "pkt.h"

#define LB_SECOND 1000000000ULL

/*
 * Counts an event; false when there were `limit` of them within the second that began with the
 * first. A second that the limit was not reached in ends as well: the window does not slide.
 */
static __always_inline int second_allows(struct second *second, __u64 now, __u32 limit)
{
	if (now - second->start >= LB_SECOND) {
		second->start = now;
		second->events = 0;
	}
	if (second->events >= limit)
		return 0;
	second->events++;
	return 1;
}

/* This CPU's table. */
static __always_inline void *flow_table(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&connections, &cpu);
}

/* The real with this id, if it is live. */
static __always_inline struct real *live_real(__u32 id)
{
	struct real *real = bpf_map_lookup_elem(&reals, &id);

	return real && real->flags & LB_REAL_LIVE ? real : NULL;
}

static __always_inline void *vip_ring(const struct vip *vip)
{
	return bpf_map_lookup_elem(&rings, &vip->id);
}

/* Whether the VIP may not use the real: it is down there, or no longer one of its reals. */
static __always_inline int is_barred(const struct vip *vip, __u32 real)
{
	__u32 at = LB_RING_VALUES + real / 64;
	__u64 *bits;
	void *ring;

	if (!(vip->flags & LB_VIP_BARRED))
		return 0;
	ring = vip_ring(vip);
	if (!ring)
		return 0;
	bits = bpf_map_lookup_elem(ring, &at);
	return !bits || *bits >> (real % 64) & 1;
}

/*
 * The live real that the table holds for the flow, or NULL. A UDP flow lives for as long as its
 * packets come; an ICMP error about it is none of them.
 */
static __always_inline struct real *flow_lookup(struct pkt *p, const struct vip *vip, void *table,
						const struct flow_key *key, struct cpu_state *cpu)
{
	struct flow *flow = bpf_map_lookup_elem(table, key);
	struct real *real;
	__u32 generation;
	__u64 now;

	if (!flow) {
		if (p->flags & LB_PKT_ICMP_ERROR)
			cpu->table[LB_TABLE_miss_icmp_error]++;
		else if (p->proto == IPPROTO_TCP)
			cpu->table[LB_TABLE_miss_tcp]++;
		else
			cpu->table[LB_TABLE_miss_udp]++;
		return NULL;
	}
	/* Both at once: the kernel may give the element of a shared table to another flow. */
	p->real = flow->real;
	generation = flow->generation;
	if (p->proto == IPPROTO_UDP) {
		now = bpf_ktime_get_coarse_ns();
		/* Signed: another CPU may have seen the flow of a shared table after `now`. */
		if ((__s64)(now - flow->last_seen) > (__s64)knobs.udp_timeout) {
			cpu->table[LB_TABLE_expired]++;
			return NULL;
		}
		if (!(p->flags & LB_PKT_ICMP_ERROR))
			flow->last_seen = now;
	}
	real = live_real(p->real);
	if (!real || real->generation != generation || is_barred(vip, p->real)) {
		cpu->table[LB_TABLE_stale]++;
		return NULL;
	}
	cpu->table[LB_TABLE_hit]++;
	return real;
}

/* Remembers where the flow went. `known` is its entry, if the caller has looked. */
static __always_inline void flow_insert(struct pkt *p, void *table, const struct flow_key *key,
					const struct real *real, struct flow *known,
					struct cpu_state *cpu)
{
	struct flow flow = {
		.real = p->real,
		.generation = real->generation,
		.last_seen = bpf_ktime_get_coarse_ns(),
	};

	if (!second_allows(&cpu->new_flows, flow.last_seen, knobs.new_flows_per_second)) {
		cpu->table[LB_TABLE_flood]++;
		/*
		 * A client that uses its port again must not find the table pointing elsewhere than
		 * its SYN went.
		 */
		if (p->flags & LB_PKT_SYN)
			known = bpf_map_lookup_elem(table, key);
		if (known)
			*known = flow;
		return;
	}
	cpu->table[LB_TABLE_inserted]++;
	bpf_map_update_elem(table, key, &flow, BPF_ANY);
}

#endif

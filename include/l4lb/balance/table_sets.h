/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A connection table of sets, in an array that one CPU alone writes to.
 *
 * A keyed hash gives a flow its set, of LB_SET_WAYS entries in the order of their last use. A
 * packet moves its flow's entry to the front. A new flow takes a free entry, or begins in the
 * middle: the last entry goes, and the first half belongs to flows of which a second packet came. A
 * flood of packets without a second one pushes out its own kind and what was used less lately.
 *
 * The kernel's LRU hash costs three to four cache lines a packet and up to a microsecond an insert;
 * here it is one line (IPv6: two), and a sixth of the memory (docs/performance.md).
 */
#ifndef L4LB_BALANCE_TABLE_SETS_H
#define L4LB_BALANCE_TABLE_SETS_H

#include "l4lb/state/knobs.h"
#include "l4lb/packet/addr.h"
#include "l4lb/packet/pkt.h"
#include "l4lb/packet/verifier.h"
#include "l4lb/watch/trace.h"
#include "l4lb/balance/limits.h"
#include "l4lb/balance/remembered.h"

#define LB_SET_MIDDLE (LB_SET_WAYS / 2)

/* An entry without what changes: compared, and copied, as words. */
struct flow_words {
	__u64 src_high; /* IPv6 */
	__u64 src_low;
	__u64 ports; /* and the source of IPv4: the first half of struct flow_entry */
	__u32 vip;
};

static __always_inline void flow_words_of(const struct flow_key *key, int v6,
					  struct flow_words *words)
{
	__u64 ports = (__u64)key->dport << 16 | key->sport;

	words->src_high = addr_high(&key->src);
	words->src_low = addr_low(&key->src);
	words->ports = ports << 32 | (v6 ? 0 : key->src.word[3]);
	words->vip = key->vip;
}

/* A pair of words, each with a key added modulo 2^32, multiplied to 64 bits. */
static __always_inline __u64 keyed_product(__u32 a, __u32 key_a, __u32 b, __u32 key_b)
{
	return (__u64)(__u32)(a + key_a) * (__u32)(b + key_b);
}

/*
 * Which of `sets` a flow belongs to. src/tables/place.rs has the same.
 *
 * Clients choose their addresses and ports, and a set has room for four flows: whoever knew flows
 * that share a set could push one out with a handful of packets, and numbered clients that happen
 * to share one push each other out. So the place depends on a secret, in two layers:
 *
 * 1. The sum of keyed products is NH, of UMAC (Black, Halevi, Krawczyk, Krovetz, Rogaway: UMAC:
 *    Fast and Secure Message Authentication, 1999; RFC 4418, 5.2.2). Every word of the flow is in
 *    a pair. For any two flows and any difference of 64 bits, at most 2^-32 of all keys give that
 *    difference: there are no two flows that share a set under every key, or under many.
 *    (IPv4 has three words. The VIP's serial, which no client chooses, is multiplied by an odd
 *    number, so that two flows of one client that differ in it alone never meet.)
 * 2. NH is linear in each half of a pair, and numbered clients would lie in a row. The row is
 *    broken by shifts and multiplications by odd numbers that are secret as well. Each step can be
 *    undone: nothing that layer 1 told apart meets again before the last, which takes the high
 *    bits of a product by a random odd number (Dietzfelbinger et al.: A Reliable Randomized
 *    Algorithm for the Closest-Pair Problem, 1997): two numbers share a set with a probability of
 *    at most about 2 / sets.
 *
 * So nobody can compute flows that aim at another: what collides is a matter of the secret, which
 * is drawn anew for each instance that is set up, and known to who may read the instance's maps.
 * Whoever could watch when a flow of theirs is forgotten, which takes a change of the VIP's reals
 * between two packets of it, would have to try about as many flows as there are sets for each that
 * shares a set with a given one; they would know it until `lbctl down`.
 *
 * The kernel's LRU hash mixes jhash with a random number of each map (kernel/bpf/hashtab.c), and
 * its buckets are lists: it needs nothing of this.
 */
static __always_inline __u32 set_of(const struct flow_words *words, int v6, __u32 sets)
{
	__u32 src = words->ports, ports = words->ports >> 32;
	__u64 hash;

	if (v6) {
		hash = keyed_product(words->src_high, knobs.table_keys[0], words->src_high >> 32,
				     knobs.table_keys[1]);
		hash += keyed_product(words->src_low, knobs.table_keys[2], words->src_low >> 32,
				      knobs.table_keys[3]);
		hash += keyed_product(ports, knobs.table_keys[4], words->vip, knobs.table_keys[5]);
	} else {
		hash = keyed_product(src, knobs.table_keys[0], ports, knobs.table_keys[1]);
		hash += words->vip * knobs.table_factors[0];
	}
	hash ^= hash >> 32;
	hash *= knobs.table_factors[1];
	hash ^= hash >> 32;
	hash *= knobs.table_factors[2];
	return (hash >> 32) * sets >> 32;
}

static __always_inline __u64 *entry_words_at(void *set, int way, int v6)
{
	return v6 ? (__u64 *)&((struct flow6_set *)set)->entry[way]
		  : (__u64 *)&((struct flow4_set *)set)->entry[way];
}

static __always_inline struct flow_entry *entry_at(void *set, int way, int v6)
{
	return v6 ? &((struct flow6_set *)set)->entry[way].rest
		  : &((struct flow4_set *)set)->entry[way];
}

static __always_inline int entry_is(void *set, int way, int v6, const struct flow_words *words)
{
	struct flow_entry *entry = entry_at(set, way, v6);
	__u64 *at = entry_words_at(set, way, v6);

	if (*(__u64 *)entry != words->ports || entry->vip_generation >> 8 != words->vip)
		return 0;
	return !v6 || (at[0] == words->src_high && at[1] == words->src_low);
}

/* A whole entry, IPv4 in the first two. */
struct entry_words {
	__u64 word[4];
};

/* Puts an entry in at a place and returns what was there. */
static __always_inline struct entry_words swap_entry(void *set, int way, int v6,
						     struct entry_words new)
{
	__u64 *at = entry_words_at(set, way, v6);
	struct entry_words old = {};

#pragma unroll
	for (int i = 0; i < (v6 ? 4 : 2); i++) {
		old.word[i] = at[i];
		at[i] = new.word[i];
	}
	return old;
}

static __always_inline struct entry_words make_entry(int v6, const struct flow_words *flow,
						     __u32 generation, __u32 real, __u16 seen)
{
	struct entry_words entry = {.word = {flow->src_high, flow->src_low}};
	__u64 *tail = &entry.word[v6 ? 2 : 0];

	tail[0] = flow->ports;
	tail[1] = (__u64)seen << 48 | (__u64)real << 32 | flow->vip << 8 | generation;
	return entry;
}

/* Which entry of the set the flow has, or -1. */
static __always_inline int way_of(void *set, int v6, const struct flow_words *words)
{
#pragma unroll
	for (int way = 0; way < LB_SET_WAYS; way++)
		if (entry_is(set, way, v6, words))
			return way;
	return -1;
}

/* Marks an entry as used now. */
static __always_inline void sets_touch(void *set, int way, int v6, const struct flow_words *words,
				       const struct remembered *flow, __u16 now)
{
	struct flow_entry *first = entry_at(set, 0, v6);
	struct entry_words entry;

	if (!way) {
		/* A cache line that is not written to needs not be written back. */
		if (first->seen != now)
			first->seen = now;
		return;
	}
	entry = make_entry(v6, words, flow->generation, flow->real, now);
#pragma unroll
	for (int i = 0; i < LB_SET_WAYS; i++) {
		entry = swap_entry(set, i, v6, entry);
		if (i == way)
			return;
	}
}

/* Whether the set has the flow, and what it says. */
static __always_inline int sets_recall(const struct pkt *p, void *set,
				       const struct flow_words *words, struct cpu_state *cpu,
				       struct remembered *flow)
{
	int way = way_of(set, p->v6, words);
	struct flow_entry *entry;
	__u16 now;

	if (way < 0)
		return 0;
	if (way)
		way = forget_number(cpu, way) % LB_SET_WAYS;
	entry = entry_at(set, way, p->v6);
	flow->real = entry->real;
	flow->generation = entry->vip_generation & LB_MAX_GENERATION;
	flow->expired = 0;
	/* What was read last is good enough for telling how long a TCP flow was idle. */
	now = (p->proto == IPPROTO_UDP ? coarse_now(cpu) : cpu->now) >> LB_SEEN_SHIFT;
	/* So many units apart are at least one less: each of the two times is rounded down. */
	if (p->proto == IPPROTO_UDP)
		flow->expired = (__u16)(now - entry->seen + LB_SEEN_FUTURE) >
				knobs.udp_timeout_units + LB_SEEN_FUTURE;
	if (!flow->expired && !has(p, LB_PKT_ICMP_ERROR) && !tracing)
		sets_touch(set, way, p->v6, words, flow, now);
	return 1;
}

/* Writes the flow's entry; with `known_only`, unless it has none. */
static __always_inline void sets_put(const struct pkt *p, void *set, const struct flow_words *words,
				     const struct remembered *flow, int known_only,
				     struct cpu_state *cpu)
{
	__u16 seen = cpu->now >> LB_SEEN_SHIFT;
	struct entry_words entry = make_entry(p->v6, words, flow->generation, flow->real, seen);
	int way;

	if (tracing)
		return;
	way = way_of(set, p->v6, words);
	if (way < 0) {
		if (known_only)
			return;
#pragma unroll
		for (int i = LB_SET_WAYS - 1; i >= 0; i--) {
			__u64 last = entry_words_at(set, i, p->v6)[p->v6 ? 3 : 1];

			/*
			 * The control plane writes to an entry of the set, just now, and it must
			 * not move meanwhile: the next packet of the flow comes soon enough.
			 */
			if (last == LB_SET_CLAIMED)
				return;
			if (!last)
				way = i;
		}
	}
	if (way >= 0) {
		way = forget_number(cpu, way) % LB_SET_WAYS;
		swap_entry(set, way, p->v6, entry);
		return;
	}
#pragma unroll
	for (int i = LB_SET_MIDDLE; i < LB_SET_WAYS; i++)
		entry = swap_entry(set, i, p->v6, entry);
}

#endif

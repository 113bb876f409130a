/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Connection tables of kind SETS: a set-associative cache in an array. Only one CPU writes to a
 * table.
 *
 * A keyed hash selects the set of a flow. A set has LB_SET_WAYS entries, the most recently used
 * first. A packet moves the entry of its flow to the front. A new flow takes a free entry. If there
 * is none, it is inserted in the middle and evicts the last entry. So the first half of a set
 * belongs to flows of which a second packet came: a flood of single packets evicts its own flows,
 * and those in the second half.
 *
 * A packet touches one cache line here (IPv6: two), and a table takes a sixth of the memory. The
 * kernel's LRU hash takes three to four cache lines per packet, and up to a microsecond per insert
 * (docs/performance.md).
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

/* The parts of an entry that identify the flow, as words to compare and copy. */
struct flow_words {
	__u64 src_high; /* IPv6 */
	__u64 src_low;
	__u64 ports; /* and the source address of IPv4: the first half of struct flow_entry */
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

/* Adds a key to each word of a pair, modulo 2^32, and multiplies both to 64 bits. */
static __always_inline __u64 keyed_product(__u32 a, __u32 key_a, __u32 b, __u32 key_b)
{
	return (__u64)(__u32)(a + key_a) * (__u32)(b + key_b);
}

/*
 * Returns which of `sets` sets a flow belongs to. set_of in the Rust code computes the same.
 *
 * Clients choose their addresses and ports, and a set has room for four flows. Somebody who knew
 * flows that share a set could evict one of them with a handful of packets; and clients with
 * consecutive addresses could evict one another by accident. So the set depends on a secret, by a
 * hash of two layers:
 *
 * 1. The sum of keyed products is NH, the hash of UMAC (Black, Halevi, Krawczyk, Krovetz, Rogaway:
 *    UMAC: Fast and Secure Message Authentication, 1999; RFC 4418, section 5.2.2). Every word of
 *    the flow is in a pair. For any two flows and any difference of 64 bits, at most 2^-32 of all
 *    keys give that difference: no two flows share a set under all keys, or under many. IPv4 has
 *    three words. The third, the VIP's serial, which no client chooses, is multiplied by an odd
 *    number, so that two flows of one client that differ in the serial only never collide.
 * 2. NH is linear in each half of a pair, so consecutive clients would get consecutive results.
 *    Shifts and multiplications by secret odd numbers break the pattern. Each step can be
 *    reversed, so what layer 1 has told apart stays apart until the last step, which takes the
 *    high bits of a product by a random odd number (Dietzfelbinger et al.: A Reliable Randomized
 *    Algorithm for the Closest-Pair Problem, 1997). Two numbers share a set with a probability of
 *    at most about 2 / sets.
 *
 * So nobody can compute flows that evict a given one without the secret. Each new instance draws
 * its own; those who may read the instance's maps can read it. An attacker may learn that one of
 * their own flows was evicted if the VIP's reals change between two packets of it. They would have
 * to try about as many flows as there are sets to find one that shares a set with a given flow, and
 * it would be of use until `lbctl down`.
 *
 * The kernel's LRU hash needs none of this: it mixes a random number of each map into jhash
 * (kernel/bpf/hashtab.c), and its buckets are lists.
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

/* A whole entry; one for IPv4 takes the first two words. */
struct entry_words {
	__u64 word[4];
};

/* Writes an entry to a place of the set, and returns the one that was there. */
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

/* Returns the place of the flow's entry in the set, or -1. */
static __always_inline int way_of(void *set, int v6, const struct flow_words *words)
{
#pragma unroll
	for (int way = 0; way < LB_SET_WAYS; way++)
		if (entry_is(set, way, v6, words))
			return way;
	return -1;
}

/* Moves an entry to the front, with the time of now. */
static __always_inline void sets_touch(void *set, int way, int v6, const struct flow_words *words,
				       const struct remembered *flow, __u16 now)
{
	struct flow_entry *first = entry_at(set, 0, v6);
	struct entry_words entry;

	if (!way) {
		/* Without a write, the cache line stays clean. */
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

/* Whether the set has the flow. Reads it, and marks it as used now. */
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
	/* For TCP, the time that was read last tells well enough how long a flow has been idle. */
	now = (p->proto == IPPROTO_UDP ? coarse_now(cpu) : cpu->now) >> LB_SEEN_SHIFT;
	/* Both times are rounded down, so flows may be one unit less apart than this says. */
	if (p->proto == IPPROTO_UDP)
		flow->expired = (__u16)(now - entry->seen + LB_SEEN_FUTURE) >
				knobs.udp_timeout_units + LB_SEEN_FUTURE;
	if (!flow->expired && !has(p, LB_PKT_ICMP_ERROR) && !tracing)
		sets_touch(set, way, p->v6, words, flow, now);
	return 1;
}

/* Writes the flow's entry; with `known_only`, only if the set has one. */
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
			 * The control plane is writing to this entry, so it must not move. The
			 * next packet of the flow will insert it.
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

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Limits: how often something may happen within a second, and the clock that they use. */
#ifndef L4LB_BALANCE_LIMITS_H
#define L4LB_BALANCE_LIMITS_H

#include "l4lb/state/knobs.h"
#include "l4lb/packet/addr.h"
#include "l4lb/packet/pkt.h"

#define LB_SECOND 1000000000ULL

/*
 * The coarse clock of the kernel. It changes only at a tick, and the program reads the number of
 * ticks without a call: as long as that is the same, so is the time that was read last.
 */
static __always_inline __u64 coarse_now(struct cpu_state *cpu)
{
	__u64 tick = bpf_jiffies64();

	if (cpu->tick != tick) {
		cpu->tick = tick;
		cpu->now = bpf_ktime_get_coarse_ns();
	}
	return cpu->now;
}

/*
 * Counts an event. Returns false if there were `limit` events already in this second. A second
 * begins with an event that comes a second or more after the start of the one before; the window
 * does not slide.
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

/*
 * The bucket of a source address; of IPv6, that of its /64, as one host may use all of it. The hash
 * depends on a secret: without it, nobody can find two sources that share a bucket.
 */
static __always_inline struct answer_bucket *bucket_of(const struct pkt *p, struct cpu_state *cpu)
{
	__u64 sum = p->v6 ? addr_high(&p->src) : p->src.word[3];

	sum = (sum ^ knobs.answer_secret[0]) * knobs.answer_secret[1];
	sum = (sum ^ sum >> 32) * knobs.answer_secret[1];
	return &cpu->answer_buckets[sum >> (64 - LB_ANSWER_BUCKET_BITS)];
}

/* Counts an answer. Returns LB_GO_ON, or the reason why there were too many. */
static __always_inline int limit_answer(const struct pkt *p, struct cpu_state *cpu, __u32 kind)
{
	struct answer_bucket *bucket = bucket_of(p, cpu);
	__u64 now = coarse_now(cpu);

	if (now - bucket->start >= LB_SECOND) {
		bucket->start = now;
		bucket->errors = 0;
		bucket->echoes = 0;
	}
	/*
	 * Echo replies have no limit for all sources together: a flood from other sources does not
	 * stop the answers to monitoring.
	 */
	if (kind == LB_ANSWER_ECHO) {
		if (bucket->echoes >= LB_ECHOES_PER_SOURCE)
			return LB_DROP_source_limited;
		bucket->echoes++;
		return LB_GO_ON;
	}
	if (bucket->errors >= LB_ERRORS_PER_SOURCE)
		return LB_DROP_source_limited;
	bucket->errors++;
	/*
	 * Each has a limit of its own: a port scan does not stop the answers to packets that are
	 * too long.
	 */
	if (kind == LB_ANSWER_TOO_BIG)
		return second_allows(&cpu->too_big_replies, now, knobs.too_big_replies_per_second)
			       ? LB_GO_ON
			       : LB_DROP_too_big_limited;
	return second_allows(&cpu->refusals, now, LB_REFUSALS_PER_SECOND) ? LB_GO_ON
									  : LB_DROP_refusal_limited;
}

#endif

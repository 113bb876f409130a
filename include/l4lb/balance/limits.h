/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The coarse clock, and what may happen only so often within a second. */
#ifndef L4LB_BALANCE_LIMITS_H
#define L4LB_BALANCE_LIMITS_H

#include "l4lb/state/knobs.h"
#include "l4lb/packet/addr.h"
#include "l4lb/packet/pkt.h"

#define LB_SECOND 1000000000ULL

/*
 * The coarse clock, which a tick moves on: between two ticks, told by a counter that is read
 * without a call, what was read last is still right.
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

/*
 * The bucket of a source: of IPv6 its /64, all of which one host can use. Nobody who does not know
 * the secret can tell whose bucket is whose.
 */
static __always_inline struct answer_bucket *bucket_of(const struct pkt *p, struct cpu_state *cpu)
{
	__u64 sum = p->v6 ? addr_high(&p->src) : p->src.word[3];

	sum = (sum ^ knobs.answer_secret[0]) * knobs.answer_secret[1];
	sum = (sum ^ sum >> 32) * knobs.answer_secret[1];
	return &cpu->answer_buckets[sum >> (64 - LB_ANSWER_BUCKET_BITS)];
}

/* Counts the answer; LB_GO_ON, or the reason why there were too many. */
static __always_inline int limit_answer(const struct pkt *p, struct cpu_state *cpu, __u32 kind)
{
	struct answer_bucket *bucket = bucket_of(p, cpu);
	__u64 now = coarse_now(cpu);

	if (now - bucket->start >= LB_SECOND) {
		bucket->start = now;
		bucket->errors = 0;
		bucket->echoes = 0;
	}
	/* All sources together have as many as there are buckets: a flood of others does not
	 * silence whoever watches the balancer. */
	if (kind == LB_ANSWER_ECHO) {
		if (bucket->echoes >= LB_ECHOES_PER_SOURCE)
			return LB_DROP_source_limited;
		bucket->echoes++;
		return LB_GO_ON;
	}
	if (bucket->errors >= LB_ERRORS_PER_SOURCE)
		return LB_DROP_source_limited;
	bucket->errors++;
	/* Limits of their own: a scan of ports does not take from those whose packets are too long.
	 */
	if (kind == LB_ANSWER_TOO_BIG)
		return second_allows(&cpu->too_big_replies, now, knobs.too_big_replies_per_second)
			       ? LB_GO_ON
			       : LB_DROP_too_big_limited;
	return second_allows(&cpu->refusals, now, LB_REFUSALS_PER_SECOND) ? LB_GO_ON
									  : LB_DROP_refusal_limited;
}

#endif

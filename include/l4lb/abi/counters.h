/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What the packet path counts and limits. */
#ifndef L4LB_ABI_COUNTERS_H
#define L4LB_ABI_COUNTERS_H

#include <linux/types.h>
#include "l4lb/abi/reasons.h"
#include "l4lb/abi/scratch.h"

struct count {
	__u64 packets;
	__u64 bytes; /* of frames as received */
};

/*
 * What was sent to a real for a VIP is counted at vip.counters + the real's id. The control plane
 * chooses `counters` so that no two pairs of a VIP and a real meet. The indices below LB_REAL_IDS,
 * where `counters` is 0, are for VIPs for which it found no such place: they count by real only.
 *
 * The kernel allocates each value of a per-CPU map on its own, so a value holds many counters.
 */
#define LB_REAL_COUNTS	    65536
#define LB_COUNTS_PER_BLOCK 64

struct count_block {
	struct count of[LB_COUNTS_PER_BLOCK];
};

struct vip_count {
	struct count sent;
	__u64 dropped;
	__u64 new_flows;
};

/* A limit per second and CPU: see second_allows in balance/limits.h. */
struct second {
	__u64 start; /* CLOCK_MONOTONIC, ns */
	__u64 events;
};

/*
 * Limits of answers per second, CPU and bucket; a hash maps source addresses to buckets. Monitoring
 * sends many echo requests; a client needs one or two ICMP errors or resets.
 */
#define LB_ANSWER_BUCKET_BITS 8
#define LB_ANSWER_BUCKETS     (1 << LB_ANSWER_BUCKET_BITS)
#define LB_ECHOES_PER_SOURCE  500
#define LB_ERRORS_PER_SOURCE  50
/* The limit of refusals to all sources, per second and CPU. */
#define LB_REFUSALS_PER_SECOND 1000

/* The answers to all sources of a bucket, in the second that begins at `start`. */
struct answer_bucket {
	__u64 start; /* CLOCK_MONOTONIC, ns */
	__u32 errors;
	__u32 echoes;
};

/* Everything that a CPU counts and limits, in one map value: one look-up per packet. */
struct cpu_state {
	struct count reasons[LB_REASON_COUNT];
	__u64 table[LB_TABLE_EVENT_COUNT];
	struct second new_flows;
	struct second too_big_replies;
	struct second refusals;
	__u64 now;  /* CLOCK_MONOTONIC, ns: the last time that was read */
	__u64 tick; /* jiffies at that time */
	struct parsed parsed;
	struct question question;
	__be16 wire_sport; /* of a packet whose source port the VIP's hash leaves out */
	__u16 taken_out;   /* 1: the packet at hand was taken out of a tunnel */
	struct answer_bucket answer_buckets[LB_ANSWER_BUCKETS];
};

_Static_assert(sizeof(struct vip_count) == 32, "abi");

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Captures. There are two points: entry, in front of all programs of the chain, and exit, behind
 * the balancer. At each point packets run through all captures, as through a chain. A capture
 * starts with its filter. If the filter matches, it calls the program that copies the packet;
 * either then continues at the next place that has a program. After the last capture, capture.bpf.c
 * does what would have happened without captures.
 */
#ifndef L4LB_WATCH_CAPTURES_H
#define L4LB_WATCH_CAPTURES_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "l4lb/abi/abi.h"

/* Place → program. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, LB_CAPTURE_PLACES);
	__type(key, __u32);
	__type(value, __u32);
} captures SEC(".maps");

/*
 * This is a global instead of a map of its own: without captures it costs one load from a constant
 * address. Its section is a map too, which lbctl pins and shares among the programs.
 */
volatile struct capture_next capture_next SEC(".data.capture");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct decision);
} capture_verdict SEC(".maps");

/*
 * Continues after the first `done` captures at a point, LB_CAPTURE_ENTRY or LB_CAPTURE_EXIT.
 * Returns only if there is no program.
 */
static __always_inline void follow_captures(struct xdp_md *ctx, __u32 point, __u32 done)
{
	bpf_tail_call(ctx, &captures, capture_next.place[point + done]);
	/*
	 * The place was emptied in the meantime, so this tries the others. It does not do so at
	 * once: before Linux 6.12, calls that fail count towards the limit of tail calls as well.
	 * It is no loop, because clang would not unroll it.
	 */
	if (!done)
		bpf_tail_call(ctx, &captures, point);
	if (done <= 1)
		bpf_tail_call(ctx, &captures, point + 1);
	if (done <= 2)
		bpf_tail_call(ctx, &captures, point + 2);
	if (done <= 3)
		bpf_tail_call(ctx, &captures, point + 3);
	_Static_assert(LB_MAX_CAPTURES == 4, "one line for each");
	bpf_tail_call(ctx, &captures, point + LB_MAX_CAPTURES);
}

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Captures. A packet runs through the captures at its point as through a chain: the filter of each
 * goes on, on a match by way of the program that copies the packet, at the next place that has a
 * program. Behind the last capture, xdpdump.bpf.c does what would have been done without.
 */
#ifndef L4LB_WATCH_CAPTURES_H
#define L4LB_WATCH_CAPTURES_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "l4lb/abi/abi.h"

/* Place → program. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, LB_DUMP_PLACES);
	__type(key, __u32);
	__type(value, __u32);
} dump SEC(".maps");

/*
 * A global, not a map of its own kind: without a capture, all that it costs is one load from a
 * known address. It is pinned and shared all the same (object.rs).
 */
volatile struct dump_next dump_next SEC(".data.capture");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct decision);
} dump_decision SEC(".maps");

/*
 * Goes on behind the first `done` captures at a point, LB_DUMP_ENTRY or LB_DUMP_EXIT. Returns only
 * if nothing is there.
 */
static __always_inline void dump_follow(struct xdp_md *ctx, __u32 point, __u32 done)
{
	bpf_tail_call(ctx, &dump, dump_next.place[point + done]);
	/*
	 * The place was emptied meanwhile. Before Linux 6.12, calls that fail count towards the
	 * limit of tail calls, too: they are tried then only. Not a loop: clang does not unroll it.
	 */
	if (!done)
		bpf_tail_call(ctx, &dump, point);
	if (done <= 1)
		bpf_tail_call(ctx, &dump, point + 1);
	if (done <= 2)
		bpf_tail_call(ctx, &dump, point + 2);
	if (done <= 3)
		bpf_tail_call(ctx, &dump, point + 3);
	_Static_assert(LB_DUMP_CAPTURES == 4, "one line for each");
	bpf_tail_call(ctx, &dump, point + LB_DUMP_CAPTURES);
}

#endif

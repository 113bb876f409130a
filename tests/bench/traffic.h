/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The packets of the benchmark. BPF_PROG_TEST_RUN with `repeat` hands the same frame to every run,
 * as the one before has left it: each run therefore begins by undoing what the last one did to it,
 * and makes it a packet of another flow.
 */
#ifndef L4LB_BENCH_TRAFFIC_H
#define L4LB_BENCH_TRAFFIC_H

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* So much of a frame may differ between packets; frames are at least as long. */
#define TRAFFIC_WORDS 9

/* Repeated in programs.rs. */
struct traffic {
	__u32 frame_len;
	__u32 restore;	  /* of the frame's first 8-byte words, how many the program changes */
	__u32 address_at; /* where the client's IPv4 address is, or its IPv6 address's last word */
	__u32 port_at;	  /* where the client's port is */
	__u32 first;	  /* the first flow's id */
	__u32 flows;	  /* how many flows take turns; 0: every packet is one of its own */
	__u32 stride;	  /* 0: in order; else from turn to turn by this 32-bit fraction of them */
	__u32 known;	  /* of these flows, only the first so many ever come again … */
	__u32 strangers;  /* … and instead of the others come new ones, from this id on */
	__u32 begin;	  /* the turn to begin with, unless in order */
	__u64 frame[TRAFFIC_WORDS];
};

const volatile struct traffic traffic = {};

/* The program under test. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} subject SEC(".maps");

/* The frame as it was before the last run, or NULL. */
static __always_inline void *restored(struct xdp_md *ctx)
{
	__u32 len = ctx->data_end - ctx->data;
	__u64 *words;

	/* Or clang subtracts the length from a pointer, which the verifier refuses. */
	barrier_var(len);
	if (len != traffic.frame_len && bpf_xdp_adjust_head(ctx, (int)(len - traffic.frame_len)))
		return NULL;
	words = (void *)(long)ctx->data;
	if ((void *)(words + TRAFFIC_WORDS) > (void *)(long)ctx->data_end)
		return NULL;
#pragma unroll
	for (__u32 i = 0; i < TRAFFIC_WORDS; i++)
		if (i < traffic.restore)
			words[i] = traffic.frame[i];
	return words;
}

/* Makes the frame a packet of this flow. Ids that differ have clients that differ. */
static __always_inline int set_flow(void *frame, __u32 id)
{
	if (traffic.address_at > TRAFFIC_WORDS * 8 - sizeof(__be32) ||
	    traffic.port_at > TRAFFIC_WORDS * 8 - sizeof(__be16))
		return -1;
	*(__be32 *)(frame + traffic.address_at) = id * 2654435769U;
	*(__be16 *)(frame + traffic.port_at) = bpf_htons(1024 | (id & 0x7fff));
	return 0;
}

#endif

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* A program that says which datagrams to port 7777 and to DNS it has seen, and does what it is told
 * with them. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#ifndef SECTION
#define SECTION "xdp"
#endif
#ifdef FOREIGN
#define l4lb_hand_on(ctx) XDP_PASS
#else
#include "l4lb/chain.h"
#endif
#ifndef ENTRIES
#define ENTRIES 1
#endif

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ENTRIES);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

/* 0: hand on. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} verdict SEC(".maps");

#ifdef HOLDS
/* What user space asks for, and the answer: 0: nothing; 1: hold a packet; 2: one is held. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} hold SEC(".maps");

#define HOLD_AT_MOST 5000000000ULL /* nanoseconds */
#define LOOKS	     8000000 /* in a loop, of which the verifier allows eight million at most */
#define LOOPS	     1000

struct held {
	volatile __u32 *until_0;
	__u64 end;
	int over;
};

static long look(__u32 n, struct held *held)
{
	held->over = !*held->until_0 || bpf_ktime_get_ns() > held->end;
	return held->over;
}

static long look_on(__u32 n, struct held *held)
{
	bpf_loop(LOOKS, look, held, 0);
	return held->over;
}

/* Comes between the two steps of l4lb_hand_on. */
static int hold_and_hand_on(struct xdp_md *ctx)
{
	__u32 zero = 0, at = l4lb_slot + 1, next = L4LB_CHAIN_END;
	__u32 *found = bpf_map_lookup_elem(&chain_next, &at);
	__u32 *wanted = bpf_map_lookup_elem(&hold, &zero);

	if (found)
		next = *found;
	if (wanted && *wanted == 1) {
		struct held held = {.until_0 = wanted, .end = bpf_ktime_get_ns() + HOLD_AT_MOST};

		*wanted = 2;
		bpf_loop(LOOPS, look_on, &held, 0);
		*wanted = 0;
	}
	if (next < L4LB_CHAIN_END)
		bpf_tail_call(ctx, &chain, next);
	return XDP_PASS;
}
#endif

/* Its own data, which goes along when it is moved. */
__u64 all;

SEC(SECTION)
int tracer(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);
	__u32 zero = 0, *what;
	__u64 *count;

	if ((void *)(udp + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP) ||
	    ip->protocol != IPPROTO_UDP ||
	    (udp->dest != bpf_htons(7777) && udp->dest != bpf_htons(53)))
		return l4lb_hand_on(ctx);
	__sync_fetch_and_add(&all, 1);
	count = bpf_map_lookup_elem(&seen, &zero);
	if (count)
		__sync_fetch_and_add(count, 1);
	what = bpf_map_lookup_elem(&verdict, &zero);
	if (what && *what)
		return *what;
#ifdef HOLDS
	return hold_and_hand_on(ctx);
#endif
	return l4lb_hand_on(ctx);
}

#ifdef TWO
SEC(SECTION)
int another(struct xdp_md *ctx)
{
	return l4lb_hand_on(ctx);
}
#endif

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
	return l4lb_hand_on(ctx);
}

#ifdef TWO
SEC(SECTION)
int another(struct xdp_md *ctx)
{
	return l4lb_hand_on(ctx);
}
#endif

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * A program for the chain: drops what comes from listed networks, counts it, and hands on the rest.
 * Inserted in front of the balancer, it keeps floods from known sources away from it.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include <l4lb/chain.h>

#define COUNTERS 1024
#define TAGS	 2

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct network4 {
	__u32 prefix;
	__u8 address[4];
};

struct network6 {
	__u32 prefix;
	__u8 address[16];
};

/* Network → number of the counter for what is dropped. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct network4);
	__type(value, __u32);
} drop4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct network6);
	__type(value, __u32);
} drop6 SEC(".maps");

/* Packets dropped. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} dropped SEC(".maps");

struct tag {
	__be16 id;
	__be16 type;
};

/* The number of the counter, if the packet's source is listed. */
static __always_inline __u32 *find(struct xdp_md *ctx)
{
	void *at = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = at;
	__be16 type;

	at += sizeof(*eth);
	if (at > end)
		return NULL;
	type = eth->h_proto;
#pragma unroll
	for (int i = 0; i < TAGS; i++) {
		struct tag *tag = at;

		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		at += sizeof(*tag);
		if (at > end)
			return NULL;
		type = tag->type;
	}
	if (type == bpf_htons(ETH_P_IP)) {
		struct network4 source = {.prefix = 32};
		struct iphdr *ip = at;

		if (at + sizeof(*ip) > end)
			return NULL;
		__builtin_memcpy(source.address, &ip->saddr, sizeof(source.address));
		return bpf_map_lookup_elem(&drop4, &source);
	}
	if (type == bpf_htons(ETH_P_IPV6)) {
		struct network6 source = {.prefix = 128};
		struct ipv6hdr *ip = at;

		if (at + sizeof(*ip) > end)
			return NULL;
		__builtin_memcpy(source.address, &ip->saddr, sizeof(source.address));
		return bpf_map_lookup_elem(&drop6, &source);
	}
	return NULL;
}

SEC("xdp")
int drop_list(struct xdp_md *ctx)
{
	__u32 *counter = find(ctx);
	__u64 *packets;

	if (!counter)
		return l4lb_hand_on(ctx);
	packets = bpf_map_lookup_elem(&dropped, counter);
	if (packets)
		(*packets)++;
	return XDP_DROP;
}

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The yardstick: the least that a stateful balancer can do with the kernel's own maps. One look-up
 * for the VIP and one for the flow, else ring and insert; the real; two counters; encapsulation.
 * Nothing is checked, answered or limited. How many times as long a balancer takes can be compared
 * across machines: nanoseconds cannot.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define MAX_VIPS  8
#define MAX_REALS 1024
#define RING_SIZE 65537

#define GATEWAY "\x02\x00\x00\x00\x00\xfe"

/* yardstick.rs writes VIPs and reals in this form. IPv4 takes the first word. */
struct vip_key {
	__be32 addr[4];
	__be16 port;
	__u8 proto;
	__u8 pad;
};

struct vip {
	__u32 id;
	__u32 stateless;
};

struct flow4 {
	__be32 src;
	__be32 dst;
	__be32 ports;
	__u32 proto;
};

struct flow6 {
	__be32 src[4];
	__be32 dst[4];
	__be32 ports;
	__u32 proto;
};

struct flow {
	__u64 real;
};

struct real {
	__be32 addr[4];
	__u32 csum; /* of what is the same in every outer IPv4 header to this real */
};

struct count {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_VIPS);
	__type(key, struct vip_key);
	__type(value, struct vip);
} vips SEC(".maps");

/* Their size is set before they are loaded. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow4);
	__type(value, struct flow);
} flows4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow6);
	__type(value, struct flow);
} flows6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_VIPS *RING_SIZE);
	__type(key, __u32);
	__type(value, __u32);
} rings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_REALS);
	__type(key, __u32);
	__type(value, struct real);
} reals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_VIPS);
	__type(key, __u32);
	__type(value, struct count);
} vip_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_REALS);
	__type(key, __u32);
	__type(value, struct count);
} real_counts SEC(".maps");

/* The same places in TCP and UDP. */
struct ports {
	__be16 source;
	__be16 dest;
};

static __always_inline __u32 ring_slot(__u32 id, __u32 src, __u32 ports)
{
	__u64 hash = ((__u64)src << 32 | ports) * 0x9e3779b97f4a7c15ULL;

	hash ^= hash >> 32;
	hash *= 0xd6e8feb86659fd93ULL;
	return (__u32)(hash >> 32) % RING_SIZE + id * RING_SIZE;
}

static __always_inline void count(void *counts, __u32 at, __u32 bytes)
{
	struct count *count = bpf_map_lookup_elem(counts, &at);

	if (count) {
		count->packets++;
		count->bytes += bytes;
	}
}

static __always_inline __u32 select_real(void *flows, const void *key, const struct vip *vip,
					 __u32 src, __u32 ports, int syn)
{
	struct flow *known = NULL, flow = {};
	__u32 slot, *real;

	if (!vip->stateless && !syn)
		known = bpf_map_lookup_elem(flows, key);
	if (known)
		return known->real;
	slot = ring_slot(vip->id, src, ports);
	real = bpf_map_lookup_elem(&rings, &slot);
	if (!real)
		return 0;
	flow.real = *real;
	if (!vip->stateless)
		bpf_map_update_elem(flows, key, &flow, BPF_ANY);
	return flow.real;
}

/* Moves the Ethernet header in front of room for the outer header, which is returned, or NULL. */
static __always_inline void *push(struct xdp_md *ctx, int room, __be16 proto)
{
	struct ethhdr *eth, *old;

	if (bpf_xdp_adjust_head(ctx, -room))
		return NULL;
	eth = (void *)(long)ctx->data;
	if ((void *)(eth + 1) + room + ETH_HLEN > (void *)(long)ctx->data_end)
		return NULL;
	old = (void *)eth + room;
	__builtin_memcpy(eth->h_source, old->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, GATEWAY, ETH_ALEN);
	eth->h_proto = proto;
	return eth + 1;
}

static __always_inline int balance4(struct xdp_md *ctx, struct iphdr *ip, __u32 frame_len)
{
	void *end = (void *)(long)ctx->data_end;
	struct ports *ports = (void *)(ip + 1);
	struct tcphdr *tcp = (void *)ports;
	struct vip_key vip_key = {};
	struct flow4 key;
	struct vip *vip;
	struct real *real;
	__u32 id, sum;

	if ((void *)(tcp + 1) > end)
		return XDP_PASS;
	vip_key.addr[0] = ip->daddr;
	vip_key.port = ports->dest;
	vip_key.proto = ip->protocol;
	vip = bpf_map_lookup_elem(&vips, &vip_key);
	if (!vip)
		return XDP_PASS;
	key.src = ip->saddr;
	key.dst = ip->daddr;
	key.ports = *(__be32 *)ports;
	key.proto = ip->protocol;
	id = select_real(&flows4, &key, vip, key.src, key.ports,
			 ip->protocol == IPPROTO_TCP && tcp->syn);
	count(&vip_counts, vip->id, frame_len);
	real = bpf_map_lookup_elem(&reals, &id);
	if (!real)
		return XDP_DROP;
	count(&real_counts, id, frame_len);

	ip = push(ctx, sizeof(*ip), bpf_htons(ETH_P_IP));
	if (!ip)
		return XDP_DROP;
	*(__be32 *)ip = bpf_htonl(0x45U << 24 | (frame_len - ETH_HLEN + sizeof(*ip)));
	((__be32 *)ip)[1] = 0;
	ip->ttl = 64;
	ip->protocol = IPPROTO_IPIP;
	ip->saddr = bpf_htonl(0xac100000) | ((key.src ^ key.ports) & bpf_htonl(0xffff));
	ip->daddr = real->addr[0];
	sum = real->csum + ip->tot_len + (ip->saddr & 0xffff) + (ip->saddr >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = ~(sum + (sum >> 16));
	return XDP_TX;
}

static __always_inline int balance6(struct xdp_md *ctx, struct ipv6hdr *ip, __u32 frame_len)
{
	void *end = (void *)(long)ctx->data_end;
	struct ports *ports = (void *)(ip + 1);
	struct tcphdr *tcp = (void *)ports;
	struct vip_key vip_key = {};
	struct flow6 key;
	struct vip *vip;
	struct real *real;
	__u32 id;

	if ((void *)(tcp + 1) > end)
		return XDP_PASS;
	__builtin_memcpy(vip_key.addr, &ip->daddr, sizeof(vip_key.addr));
	vip_key.port = ports->dest;
	vip_key.proto = ip->nexthdr;
	vip = bpf_map_lookup_elem(&vips, &vip_key);
	if (!vip)
		return XDP_PASS;
	__builtin_memcpy(key.src, &ip->saddr, sizeof(key.src));
	__builtin_memcpy(key.dst, &ip->daddr, sizeof(key.dst));
	key.ports = *(__be32 *)ports;
	key.proto = ip->nexthdr;
	id = select_real(&flows6, &key, vip, key.src[0] ^ key.src[1] ^ key.src[2] ^ key.src[3],
			 key.ports, ip->nexthdr == IPPROTO_TCP && tcp->syn);
	count(&vip_counts, vip->id, frame_len);
	real = bpf_map_lookup_elem(&reals, &id);
	if (!real)
		return XDP_DROP;
	count(&real_counts, id, frame_len);

	ip = push(ctx, sizeof(*ip), bpf_htons(ETH_P_IPV6));
	if (!ip)
		return XDP_DROP;
	*(__be32 *)ip = bpf_htonl(6U << 28);
	((__be32 *)ip)[1] = bpf_htonl((frame_len - ETH_HLEN) << 16 | IPPROTO_IPV6 << 8 | 64);
	ip->saddr.s6_addr32[0] = bpf_htonl(0x01000000);
	ip->saddr.s6_addr32[1] = 0;
	ip->saddr.s6_addr32[2] = 0;
	ip->saddr.s6_addr32[3] = key.src[3] ^ key.ports;
	__builtin_memcpy(&ip->daddr, real->addr, sizeof(ip->daddr));
	return XDP_TX;
}

SEC("xdp")
int yardstick(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	__u32 frame_len = ctx->data_end - ctx->data;

	if ((void *)(eth + 1) > end)
		return XDP_PASS;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		return balance4(ctx, (void *)(eth + 1), frame_len);
	if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		return balance6(ctx, (void *)(eth + 1), frame_len);
	return XDP_PASS;
}

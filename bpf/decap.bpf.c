// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The real's side, for hosts without tunnel devices: takes the balancer's outer header off packets
 * to the host's own addresses, and hands them on, in the end to the kernel, which has the VIP on
 * its loopback.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "l4lb/abi.h"
#include "l4lb/chain.h"
#include "l4lb/pkt.h"
#include "l4lb/parse.h"
#include "l4lb/l2.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/*
 * Outer destinations to decapsulate for: the addresses under which balancers know this host. Not by
 * interface: a packet for a bond comes in by the index of one of its members.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct lb_addr);
	__type(value, __u32);
} decap_addresses SEC(".maps");

/*
 * The set of what was asked for: an address stays as long as any interface has it. For user space
 * alone.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct decap_owner);
	__type(value, __u32);
} decap_owners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct decap_state);
} decap_states SEC(".maps");

/* The explicit congestion notification bits (RFC 3168). */
#define ECN_MASK 3
#define ECN_CE	 3

/*
 * A router on the way from the balancer may have marked the outer header; the mark must reach the
 * receiver (RFC 6040, section 4.2), unless the packet says that its ends do not know of it.
 */
static __always_inline void carry_congestion_mark(void *inner, int inner_v6)
{
	struct iphdr *ip = inner;
	__be16 *first =
		inner; /* IPv4: version, IHL, TOS. IPv6: version, traffic class, flow label. */
	__be16 old = *first;
	__u32 sum;

	if (inner_v6) {
		if (old & bpf_htons(ECN_MASK << 4))
			*first = old | bpf_htons(ECN_CE << 4);
		return;
	}
	if (!(old & bpf_htons(ECN_MASK)))
		return;
	*first = old | bpf_htons(ECN_CE);
	/* RFC 1624: HC' = ~(~HC + ~m + m') */
	sum = (__u16)~ip->check + (__u16)~old + *first;
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = ~(sum + (sum >> 16));
}

/* Strips outer_len bytes of header between Ethernet and the inner packet. */
static __always_inline int decapsulate(struct xdp_md *ctx, struct pkt *p, __u32 outer_len,
				       int inner_v6)
{
	__u32 inner_len = inner_v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	struct l2_header l2;
	__u8 *inner = pkt_at(ctx, p->l3_off + outer_len, sizeof(struct iphdr));

	if (!inner || inner[0] >> 4 != (inner_v6 ? 6 : 4) || read_l2(ctx, &l2))
		return -1;
	if (p->l3_off + outer_len + inner_len > p->frame_len || p->ip_len < outer_len + inner_len ||
	    p->ip_len > p->frame_len - p->l3_off)
		return -1;
	if (bpf_xdp_adjust_head(ctx, outer_len))
		return -1;
	inner = write_l2(ctx, p, &l2, inner_v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP),
			 sizeof(struct iphdr) - sizeof(l2.tags));
	if (!inner)
		return -1;
	if ((p->tos & ECN_MASK) == ECN_CE)
		carry_congestion_mark(inner, inner_v6);
	return 0;
}

static __always_inline int classify(struct xdp_md *ctx, struct pkt *p)
{
	__be16 proto = parse_l2(ctx, p);
	__u32 outer_len;
	int outer_v6, inner_v6;

	if (proto == bpf_htons(ETH_P_IP)) {
		if (parse_v4(ctx, p) || p->flags & (LB_PKT_FRAGMENT | LB_PKT_OPTIONS))
			return LB_DECAP_not_encapsulated;
		outer_len = sizeof(struct iphdr);
	} else if (proto == bpf_htons(ETH_P_IPV6)) {
		p->v6 = 1;
		if (parse_v6(ctx, p) || p->l4_off != p->l3_off + sizeof(struct ipv6hdr))
			return LB_DECAP_not_encapsulated;
		outer_len = sizeof(struct ipv6hdr);
	} else {
		return LB_DECAP_not_encapsulated;
	}
	if (p->proto != IPPROTO_IPIP && p->proto != IPPROTO_IPV6)
		return LB_DECAP_not_encapsulated;
	if (!bpf_map_lookup_elem(&decap_addresses, &p->dst))
		return LB_DECAP_other_destination;
	outer_v6 = p->v6;
	inner_v6 = p->proto == IPPROTO_IPV6;
	if (decapsulate(ctx, p, outer_len, inner_v6))
		return LB_DECAP_malformed;
	if (outer_v6)
		return inner_v6 ? LB_DECAP_ipv6_in_ipv6 : LB_DECAP_ipv4_in_ipv6;
	return inner_v6 ? LB_DECAP_ipv6_in_ipv4 : LB_DECAP_ipv4_in_ipv4;
}

SEC("xdp")
int decap(struct xdp_md *ctx)
{
	struct pkt p = {.frame_len = frame_length(ctx)};
	struct decap_state *state;
	__u32 result, zero = 0;

	state = bpf_map_lookup_elem(&decap_states, &zero);
	if (!state)
		return XDP_ABORTED;
	result = classify(ctx, &p);
	if (result >= LB_DECAP_RESULT_COUNT)
		return XDP_ABORTED;
	state->results[result].packets++;
	state->results[result].bytes += p.frame_len;
	return result == LB_DECAP_malformed ? XDP_DROP : l4lb_hand_on(ctx);
}

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The inner packet of an encapsulated one: reads it, and removes the outer header. */
#ifndef L4LB_PACKET_INNER_H
#define L4LB_PACKET_INNER_H

#include "l4lb/packet/addr.h"
#include "l4lb/packet/bytes.h"
#include "l4lb/packet/checksum.h"
#include "l4lb/packet/l2.h"
#include "l4lb/packet/parse.h"
#include "l4lb/packet/pkt.h"

/*
 * Parses the outer IPv6 header and a fragment header behind it, if there is one. Nothing between
 * the balancer and the real adds other extension headers.
 */
static __always_inline int parse_outer_v6(struct xdp_md *ctx, struct pkt *p)
{
	struct {
		__u8 next;
		__u8 reserved;
		__be16 offset;
		__be32 id;
	} *fragment;

	if (parse_v6_header(ctx, p))
		return -1;
	if (p->proto != IPPROTO_FRAGMENT)
		return 0;
	fragment = packet_at(ctx, p, p->l4_off, sizeof(*fragment));
	if (!fragment)
		return -1;
	p->proto = fragment->next;
	p->l4_off += sizeof(*fragment);
	if (fragment->offset & bpf_htons(LB_IPV6_OFFSET | LB_IPV6_MORE))
		p->flags |= LB_PKT_FRAGMENT;
	if (fragment->offset & bpf_htons(LB_IPV6_OFFSET))
		p->flags |= LB_PKT_NO_PORTS;
	return 0;
}

/* The inner packet. */
struct inner {
	struct lb_addr src;
	struct lb_addr dst;
	__u32 off;
	__u32 v6;
	__u32 way; /* what it came in: LB_DECAP_IPIP, LB_DECAP_GUE1, LB_DECAP_GUE0 */
};

/*
 * Whether the header's checksum is right: the sum, with the checksum, is all ones (RFC 1071). There
 * are no options.
 */
static __always_inline int is_v4_header_right(struct xdp_md *ctx, const struct pkt *p)
{
	__be32 *words = pkt_at(ctx, p->l3_off, sizeof(struct iphdr));
	__u32 sum = 0;

	if (!words)
		return 0;
#pragma unroll
	for (__u32 i = 0; i < sizeof(struct iphdr) / sizeof(*words); i++)
		sum = csum_add32(sum, words[i]);
	return !csum_fold(sum);
}

/*
 * Reads the inner header. The inner packet must lie within the outer one, and the outer one within
 * the frame.
 */
static __always_inline int read_inner(struct xdp_md *ctx, const struct pkt *p, struct inner *in)
{
	struct ipv6hdr *ip6;
	struct iphdr *ip;
	__u32 len, header;

	if (p->ip_len > p->frame_len - p->l3_off)
		return -1;
	if (in->v6) {
		ip6 = packet_at(ctx, p, in->off, sizeof(*ip6));
		if (!ip6 || ip6->version != 6)
			return -1;
		addr_from_v6(&in->src, &ip6->saddr);
		addr_from_v6(&in->dst, &ip6->daddr);
		/* These addresses do not occur on the wire, and would count as IPv4 ones. */
		if (addr_is_v4(&in->src) || addr_is_v4(&in->dst))
			return -1;
		header = sizeof(*ip6);
		len = bpf_ntohs(ip6->payload_len) + sizeof(*ip6);
	} else {
		ip = packet_at(ctx, p, in->off, sizeof(*ip));
		if (!ip || ip->version != 4 || ip->ihl < 5)
			return -1;
		addr_from_v4(&in->src, ip->saddr);
		addr_from_v4(&in->dst, ip->daddr);
		header = ip->ihl * 4;
		len = bpf_ntohs(ip->tot_len);
	}
	return len < header || in->off + len > p->end ? -1 : 0;
}

/* The bits of explicit congestion notification, ECN (RFC 3168). */
#define ECN_MASK 3
#define ECN_CE	 3

/*
 * Copies a congestion mark to the inner header. A router between the balancer and this host may
 * have marked the outer one, and the receiver must see it (RFC 6040, section 4.2), unless the inner
 * header says that its ends do not use ECN.
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

/* Removes the outer header. */
static __always_inline int decapsulate(struct xdp_md *ctx, struct pkt *p, const struct inner *in)
{
	struct l2_header l2;
	void *inner;

	if (read_l2(ctx, &l2) || bpf_xdp_adjust_head(ctx, in->off - p->l3_off))
		return -1;
	inner = write_l2(ctx, p, &l2, in->v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP),
			 sizeof(struct iphdr) - sizeof(l2.tags));
	if (!inner)
		return -1;
	if ((p->tos & ECN_MASK) == ECN_CE)
		carry_congestion_mark(inner, in->v6);
	return 0;
}

#endif

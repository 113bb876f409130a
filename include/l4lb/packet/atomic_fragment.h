/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Atomic fragments (RFC 6946): whole IPv6 packets that have a fragment header. */
#ifndef L4LB_PACKET_ATOMIC_FRAGMENT_H
#define L4LB_PACKET_ATOMIC_FRAGMENT_H

#include "l4lb/packet/bytes.h"
#include "l4lb/packet/l2.h"
#include "l4lb/packet/parse.h"
#include "l4lb/packet/pkt.h"

/* Whether the fragment header is the only extension header of an atomic fragment. */
static __always_inline int is_atomic_alone(struct xdp_md *ctx, const struct pkt *p)
{
	struct ipv6hdr *ip = pkt_at(ctx, p->l3_off, sizeof(*ip));

	return ip && ip->nexthdr == IPPROTO_FRAGMENT &&
	       p->l4_off == p->l3_off + sizeof(*ip) + LB_FRAGMENT_HEADER;
}

/*
 * Removes the fragment header: answers should not be atomic fragments (RFC 8021). Returns LB_GO_ON,
 * or the reason to drop the packet.
 */
static __always_inline int take_off_fragment_header(struct xdp_md *ctx, struct pkt *p)
{
	struct ipv6hdr *ip = pkt_at(ctx, p->l3_off, sizeof(*ip) + LB_FRAGMENT_HEADER);
	struct ipv6hdr *moved;
	struct l2_header l2;
	__u8 hop_limit;

	if (!ip || read_l2(ctx, &l2))
		return LB_DROP_runt;
	hop_limit = ip->hop_limit;
	moved = (void *)ip + LB_FRAGMENT_HEADER;
	*(__be32 *)moved = *(__be32 *)ip; /* version, traffic class, flow label */
	p->ip_len -= LB_FRAGMENT_HEADER;
	p->end -= LB_FRAGMENT_HEADER;
	p->l4_off -= LB_FRAGMENT_HEADER;
	moved->payload_len = bpf_htons(p->ip_len - sizeof(*ip));
	moved->nexthdr = p->proto;
	moved->hop_limit = hop_limit;
	__builtin_memcpy(&moved->saddr, &p->src, sizeof(moved->saddr));
	__builtin_memcpy(&moved->daddr, &p->dst, sizeof(moved->daddr));
	if (bpf_xdp_adjust_head(ctx, LB_FRAGMENT_HEADER) ||
	    !write_l2(ctx, p, &l2, bpf_htons(ETH_P_IPV6), sizeof(*ip) - sizeof(l2.tags)))
		return LB_DROP_no_headroom;
	return LB_GO_ON;
}

#endif

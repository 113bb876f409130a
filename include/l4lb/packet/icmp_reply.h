/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* ICMP replies: they turn a packet into an echo reply, or into an ICMP error about it. */
#ifndef L4LB_PACKET_ICMP_REPLY_H
#define L4LB_PACKET_ICMP_REPLY_H

#include "l4lb/packet/bytes.h"
#include "l4lb/packet/checksum.h"
#include "l4lb/packet/icmp.h"
#include "l4lb/packet/l2.h"
#include "l4lb/packet/pkt.h"
#include "l4lb/packet/reply.h"

/*
 * Bytes of the packet that an ICMP error quotes. An error that refuses a packet quotes it up to its
 * UDP header, as its sender needs no more (RFC 792). bpf_csum_diff wants multiples of 4.
 */
#define LB_QUOTE_V4	    84
#define LB_QUOTE_V6	    248
#define LB_QUOTE_REFUSED_V4 (sizeof(struct iphdr) + sizeof(struct udphdr))
#define LB_QUOTE_REFUSED_V6 (sizeof(struct ipv6hdr) + sizeof(struct udphdr))

/*
 * Turns an echo request into its reply. Requests with IP options or extension headers do not get
 * here.
 */
static __always_inline int echo_reply(struct xdp_md *ctx, const struct pkt *p)
{
	struct ethhdr *eth = pkt_at(ctx, 0, sizeof(*eth));
	struct icmp6hdr *icmp6;
	struct ipv6hdr *ip6;
	struct icmphdr *icmp;
	struct iphdr *ip;

	if (p->v6) {
		ip6 = pkt_at(ctx, p->l3_off, sizeof(*ip6) + sizeof(*icmp6));
		if (!ip6 || !eth)
			return LB_DROP_runt;
		icmp6 = (void *)(ip6 + 1);
		__builtin_memcpy(&ip6->saddr, &p->dst, sizeof(ip6->saddr));
		__builtin_memcpy(&ip6->daddr, &p->src, sizeof(ip6->daddr));
		ip6->hop_limit = LB_REPLY_TTL;
		icmp6->icmp6_type = ICMPV6_ECHO_REPLY;
		icmp6->icmp6_cksum =
			csum_add16(icmp6->icmp6_cksum,
				   ~bpf_htons((ICMPV6_ECHO_REPLY - ICMPV6_ECHO_REQUEST) << 8));
	} else {
		ip = pkt_at(ctx, p->l3_off, sizeof(*ip) + sizeof(*icmp));
		if (!ip || !eth)
			return LB_DROP_runt;
		icmp = (void *)(ip + 1);
		ip->saddr = p->dst.word[3];
		ip->daddr = p->src.word[3];
		ip->ttl = LB_REPLY_TTL;
		ip->check = 0;
		ip->check = csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)ip, sizeof(*ip), 0));
		icmp->type = ICMP_ECHOREPLY;
		/* A valid checksum does not become 0, as the number that is added is not 0. */
		icmp->checksum = csum_add16(icmp->checksum, bpf_htons(ICMP_ECHO << 8));
	}
	swap_macs(eth);
	return LB_TX_echo_reply;
}

/* Turns the packet into an ICMP error that quotes its first `quote` bytes. */
static __always_inline int icmp_error_v4(struct xdp_md *ctx, const struct pkt *p,
					 const struct l2_header *l2, __u8 code, __u32 mtu,
					 __u32 quote)
{
	const int room = sizeof(struct iphdr) + sizeof(struct icmphdr);
	const __u32 icmp_len = sizeof(struct icmphdr) + quote;
	int frame_len = frame_length(ctx);
	struct icmphdr *icmp;
	struct iphdr *ip;

	if (bpf_xdp_adjust_tail(ctx, (int)(p->l3_off + quote) - frame_len) ||
	    bpf_xdp_adjust_head(ctx, -room))
		return LB_DROP_no_headroom;
	ip = write_l2(ctx, p, l2, bpf_htons(ETH_P_IP), room);
	if (!ip)
		return LB_DROP_no_headroom;
	icmp = (void *)(ip + 1);
	if ((void *)icmp + icmp_len > pkt_end(ctx))
		return LB_DROP_no_headroom;
	write_v4(ip, p, IPPROTO_ICMP, icmp_len);
	__builtin_memset(icmp, 0, sizeof(*icmp));
	icmp->type = ICMP_DEST_UNREACH;
	icmp->code = code;
	icmp->mtu = bpf_htons(mtu);
	icmp->checksum = csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)icmp, icmp_len, 0));
	return LB_GO_ON;
}

static __always_inline int icmp_error_v6(struct xdp_md *ctx, const struct pkt *p,
					 const struct l2_header *l2, __u8 type, __u8 code,
					 __u32 mtu, __u32 quote)
{
	const int room = sizeof(struct ipv6hdr) + sizeof(struct icmp6hdr);
	const __u32 icmp_len = sizeof(struct icmp6hdr) + quote;
	int frame_len = frame_length(ctx);
	struct icmp6hdr *icmp;
	struct ipv6hdr *ip;
	__u32 sum;

	if (bpf_xdp_adjust_tail(ctx, (int)(p->l3_off + quote) - frame_len) ||
	    bpf_xdp_adjust_head(ctx, -room))
		return LB_DROP_no_headroom;
	ip = write_l2(ctx, p, l2, bpf_htons(ETH_P_IPV6), room);
	if (!ip)
		return LB_DROP_no_headroom;
	icmp = (void *)(ip + 1);
	if ((void *)icmp + icmp_len > pkt_end(ctx))
		return LB_DROP_no_headroom;
	write_v6(ip, p, IPPROTO_ICMPV6, icmp_len);
	__builtin_memset(icmp, 0, sizeof(*icmp));
	icmp->icmp6_type = type;
	icmp->icmp6_code = code;
	icmp->icmp6_mtu = bpf_htonl(mtu);
	/* The pseudo-header holds addresses, length and next header. */
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&ip->saddr, 2 * sizeof(ip->saddr),
			    bpf_htonl(icmp_len + IPPROTO_ICMPV6));
	icmp->icmp6_cksum = csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)icmp, icmp_len, sum));
	return LB_GO_ON;
}

static __always_inline int too_big_reply(struct xdp_md *ctx, const struct pkt *p,
					 const struct l2_header *l2, __u32 mtu)
{
	int reason = p->v6 ? icmp_error_v6(ctx, p, l2, ICMPV6_PKT_TOOBIG, 0, mtu, LB_QUOTE_V6)
			   : icmp_error_v4(ctx, p, l2, ICMP_FRAG_NEEDED, mtu, LB_QUOTE_V4);

	return reason ? reason : LB_TX_too_big_reply;
}

static __always_inline int unreachable_reply(struct xdp_md *ctx, const struct pkt *p,
					     const struct l2_header *l2)
{
	int reason = p->v6 ? icmp_error_v6(ctx, p, l2, ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH, 0,
					   LB_QUOTE_REFUSED_V6)
			   : icmp_error_v4(ctx, p, l2, ICMP_PORT_UNREACH, 0, LB_QUOTE_REFUSED_V4);

	return reason ? reason : LB_TX_unreachable_reply;
}

#endif

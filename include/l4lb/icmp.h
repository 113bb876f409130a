/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * ICMP and ICMPv6: echo requests to VIP addresses are answered, errors follow the flow they quote,
 * and the sender of a packet that is too long is told the right size (RFC 1191, RFC 8201).
 */
#ifndef L4LB_ICMP_H
#define L4LB_ICMP_H

#include "csum.h"
#include "flow.h"
#include "l2.h"
#include "parse.h"
#include "vips.h"

/* <linux/icmp.h> draws in the C library's headers, which have no BPF flavour. */
struct icmphdr {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 unused; /* of an error */
	__be16 mtu;    /* of "fragmentation needed" */
};

#define ICMP_ECHOREPLY	   0
#define ICMP_DEST_UNREACH  3
#define ICMP_FRAG_NEEDED   4
#define ICMP_ECHO	   8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12

#define LB_REPLY_TTL 64

/* Bytes of the offending packet that a "too big" answer quotes. Multiples of 4: bpf_csum_diff. */
#define LB_QUOTE_V4 84
#define LB_QUOTE_V6 248

static __always_inline int is_icmp(const struct pkt *p)
{
	return p->proto == (p->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
}

static __always_inline int is_echo_request(const struct pkt *p, __u8 type)
{
	return type == (p->v6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO);
}

/*
 * An error that the sender of a flow's packets must hear of: RFC 792 and RFC 4443, but for source
 * quench, which hosts must ignore (RFC 6633), and redirects, which are for the next router only.
 */
static __always_inline int is_error(const struct pkt *p, __u8 type)
{
	if (p->v6)
		return type >= ICMPV6_DEST_UNREACH && type <= ICMPV6_PARAMPROB;
	return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED ||
	       type == ICMP_PARAMETERPROB;
}

static __always_inline void finish_v4_header(struct iphdr *ip)
{
	__be16 *word = (__be16 *)ip;
	__u32 sum = 0;

	ip->check = 0;
	for (unsigned int i = 0; i < sizeof(*ip) / sizeof(*word); i++)
		sum += word[i];
	ip->check = csum_fold(sum);
}

/*
 * Takes an atomic fragment's header, and no other extension header, off an echo request: the answer
 * is not in pieces, and its header should not say that it could be (RFC 8021). Addresses and hop
 * limit are the answer's to write. Returns LB_GO_ON or the reason to drop the packet.
 */
static __always_inline int take_off_fragment_header(struct xdp_md *ctx, struct pkt *p)
{
	struct ipv6hdr *ip = pkt_at(ctx, p->l3_off, sizeof(*ip) + LB_FRAGMENT_HEADER);
	struct ipv6hdr *moved;
	struct l2_header l2;
	__be16 rest;

	if (!ip || ip->nexthdr != IPPROTO_FRAGMENT ||
	    p->l4_off != p->l3_off + sizeof(*ip) + LB_FRAGMENT_HEADER || read_l2(ctx, &l2))
		return LB_DROP_extension_headers;
	rest = bpf_htons(p->ip_len - sizeof(*ip) - LB_FRAGMENT_HEADER);
	moved = (void *)ip + LB_FRAGMENT_HEADER;
	*(__be32 *)moved = *(__be32 *)ip; /* version, traffic class, flow label */
	moved->payload_len = rest;
	moved->nexthdr = IPPROTO_ICMPV6;
	if (bpf_xdp_adjust_head(ctx, LB_FRAGMENT_HEADER) ||
	    !write_l2(ctx, p, &l2, bpf_htons(ETH_P_IPV6), sizeof(*ip) - sizeof(l2.tags)))
		return LB_DROP_no_headroom;
	p->ip_len -= LB_FRAGMENT_HEADER;
	p->end -= LB_FRAGMENT_HEADER;
	p->l4_off -= LB_FRAGMENT_HEADER;
	return LB_GO_ON;
}

/* Answers an echo request in place. */
static __always_inline int echo_reply(struct xdp_md *ctx, struct pkt *p)
{
	struct ethhdr *eth = pkt_at(ctx, 0, sizeof(*eth));
	struct icmp6hdr *icmp6;
	struct ipv6hdr *ip6;
	struct icmphdr *icmp;
	struct iphdr *ip;

	/* Only a packet without options and extension headers comes here: the header sizes are
	 * fixed. */
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
		finish_v4_header(ip);
		icmp->type = ICMP_ECHOREPLY;
		icmp->checksum = csum_add16(icmp->checksum, bpf_htons(ICMP_ECHO << 8));
	}
	swap_macs(eth);
	return LB_TX_echo_reply;
}

/*
 * Turns p into the flow that the error quotes, seen from the client: what the VIP's real sent to
 * the client came from the other direction. Returns LB_GO_ON, or the reason why the error is not
 * the balancer's business.
 */
static __always_inline int quoted_flow(struct xdp_md *ctx, struct pkt *p, struct cpu_state *cpu)
{
	struct lb_addr error_dst = p->dst;
	struct pkt quoted = {.v6 = p->v6};
	struct udphdr *ports; /* TCP's ports lie in the same place */
	int reason;

	quoted.l3_off = p->l4_off + sizeof(struct icmphdr);
	quoted.end = p->end;
	reason = p->v6 ? parse_v6(ctx, &quoted) : parse_v4(ctx, &quoted);
	if (reason)
		return LB_PASS_other_icmp;
	forget_path(&quoted, cpu);
	if (quoted.flags & (LB_PKT_NO_PORTS | LB_PKT_EXT_HEADERS) ||
	    (quoted.proto != IPPROTO_TCP && quoted.proto != IPPROTO_UDP))
		return LB_PASS_other_icmp;
	/* The router that answers was told by the source of the quoted packet: the VIP. */
	if (!addr_equal(&quoted.src, &error_dst))
		return LB_PASS_other_icmp;
	ports = packet_at(ctx, p, quoted.l4_off, sizeof(*ports));
	if (!ports)
		return LB_PASS_other_icmp;
	p->src = quoted.dst;
	p->sport = ports->dest;
	p->dport = ports->source;
	p->proto = quoted.proto;
	p->flags |= LB_PKT_ICMP_ERROR;
	return LB_GO_ON;
}

/* Returns LB_GO_ON for an error, with p turned into its flow; or the reason with which the packet
 * ends. */
static __always_inline int handle_icmp(struct xdp_md *ctx, struct pkt *p, struct cpu_state *cpu)
{
	__u8 *type = NULL;
	int reason;

	check_length(p);
	if (!has(p, LB_PKT_NO_PORTS))
		type = packet_at(ctx, p, p->l4_off, sizeof(struct icmphdr));
	if (type && is_error(p, *type))
		return quoted_flow(ctx, p, cpu);
	if (type && !is_echo_request(p, *type))
		return LB_PASS_other_icmp;
	reason = for_vip_address(p, LB_GO_ON);
	if (reason)
		return reason;
	if (has(p, LB_PKT_FRAGMENT))
		return LB_DROP_fragment;
	if (has(p, LB_PKT_OPTIONS))
		return LB_DROP_ip_options;
	if (!type)
		return LB_DROP_runt;
	if (has(p, LB_PKT_BAD_LENGTH))
		return LB_DROP_bad_length;
	if (p->v6 && p->l4_off != p->l3_off + sizeof(struct ipv6hdr)) {
		reason = take_off_fragment_header(ctx, p);
		if (reason)
			return reason;
	}
	return echo_reply(ctx, p);
}

static __always_inline int too_big_reply_v4(struct xdp_md *ctx, const struct pkt *p,
					    const struct l2_header *l2,
					    const struct lb_addr *client, __u32 mtu)
{
	const int room = sizeof(struct iphdr) + sizeof(struct icmphdr);
	struct icmphdr *icmp;
	struct iphdr *ip;

	if (bpf_xdp_adjust_tail(ctx, (int)(p->l3_off + LB_QUOTE_V4) - (int)p->frame_len) ||
	    bpf_xdp_adjust_head(ctx, -room))
		return LB_DROP_no_headroom;
	ip = write_l2(ctx, p, l2, bpf_htons(ETH_P_IP), room);
	if (!ip)
		return LB_DROP_no_headroom;
	icmp = (void *)(ip + 1);
	if ((void *)icmp + sizeof(*icmp) + LB_QUOTE_V4 > pkt_end(ctx))
		return LB_DROP_no_headroom;
	__builtin_memset(ip, 0, room);
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = bpf_htons(room + LB_QUOTE_V4);
	ip->ttl = LB_REPLY_TTL;
	ip->protocol = IPPROTO_ICMP;
	ip->saddr = p->dst.word[3];
	ip->daddr = client->word[3];
	finish_v4_header(ip);
	icmp->type = ICMP_DEST_UNREACH;
	icmp->code = ICMP_FRAG_NEEDED;
	icmp->mtu = bpf_htons(mtu);
	icmp->checksum =
		csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)icmp, sizeof(*icmp) + LB_QUOTE_V4, 0));
	return LB_TX_too_big_reply;
}

static __always_inline int too_big_reply_v6(struct xdp_md *ctx, const struct pkt *p,
					    const struct l2_header *l2,
					    const struct lb_addr *client, __u32 mtu)
{
	const int room = sizeof(struct ipv6hdr) + sizeof(struct icmp6hdr);
	const __u32 icmp_len = sizeof(struct icmp6hdr) + LB_QUOTE_V6;
	struct icmp6hdr *icmp;
	struct ipv6hdr *ip;
	__u32 sum;

	if (bpf_xdp_adjust_tail(ctx, (int)(p->l3_off + LB_QUOTE_V6) - (int)p->frame_len) ||
	    bpf_xdp_adjust_head(ctx, -room))
		return LB_DROP_no_headroom;
	ip = write_l2(ctx, p, l2, bpf_htons(ETH_P_IPV6), room);
	if (!ip)
		return LB_DROP_no_headroom;
	icmp = (void *)(ip + 1);
	if ((void *)icmp + icmp_len > pkt_end(ctx))
		return LB_DROP_no_headroom;
	__builtin_memset(ip, 0, room);
	ip->version = 6;
	ip->payload_len = bpf_htons(icmp_len);
	ip->nexthdr = IPPROTO_ICMPV6;
	ip->hop_limit = LB_REPLY_TTL;
	__builtin_memcpy(&ip->saddr, &p->dst, sizeof(ip->saddr));
	__builtin_memcpy(&ip->daddr, client, sizeof(ip->daddr));
	icmp->icmp6_type = ICMPV6_PKT_TOOBIG;
	icmp->icmp6_mtu = bpf_htonl(mtu);
	/* The pseudo-header (RFC 8200, 8.1): addresses, length, next header. */
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&ip->saddr, 2 * sizeof(ip->saddr),
			    bpf_htonl(icmp_len + IPPROTO_ICMPV6));
	icmp->icmp6_cksum = csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)icmp, icmp_len, sum));
	return LB_TX_too_big_reply;
}

/*
 * Ends a packet of which `mtu` bytes could be forwarded at the most. The answer goes back the way
 * the packet came, from the VIP's address.
 */
static __always_inline int too_big(struct xdp_md *ctx, struct pkt *p, const struct lb_addr *client,
				   __u32 mtu, struct cpu_state *cpu)
{
	struct l2_header l2;
	struct mac mac;

	/* Never an ICMP error about an ICMP error (RFC 1122, 3.2.2). */
	if (!knobs.oversize_reply || has(p, LB_PKT_ICMP_ERROR))
		return LB_DROP_too_big;
	if (!second_allows(&cpu->too_big_replies, coarse_now(cpu),
			   knobs.too_big_replies_per_second))
		return LB_DROP_too_big_limited;
	if (read_l2(ctx, &l2))
		return LB_DROP_no_headroom;
	mac = l2.dst;
	l2.dst = l2.src;
	l2.src = mac;
	if (p->v6)
		return too_big_reply_v6(ctx, p, &l2, client, mtu);
	return too_big_reply_v4(ctx, p, &l2, client, mtu);
}

#endif

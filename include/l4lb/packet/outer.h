/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The outer header: IP in IP (RFC 2003, RFC 2473, RFC 4213). The balancer (packet/encap.h) and the
 * program for health checks (bpf/healthcheck.bpf.c) both get their bytes from here, so that a check
 * meets on its way what a client's packet meets.
 *
 * The outer source address is synthetic: it contains bits of the client's address, so that the
 * real's network card spreads the flows of a balancer over its receive queues.
 */
#ifndef L4LB_PACKET_OUTER_H
#define L4LB_PACKET_OUTER_H

#include "l4lb/state/knobs.h"
#include "l4lb/packet/checksum.h"
#include "l4lb/packet/pkt.h"

#define LB_OUTER_TTL 64
#define LB_OUTER_DF  0x4000

union addr_tail {
	__be32 word;
	__be16 half[2];
};

/*
 * The last word of the client's address. Of IPv6 it is all four words, XORed, so that the clients
 * of one /64 differ too.
 */
static __always_inline __be32 client_word(const struct pkt *p)
{
	if (p->v6)
		return p->src.word[0] ^ p->src.word[1] ^ p->src.word[2] ^ p->src.word[3];
	return p->src.word[3];
}

static __always_inline __be32 outer_source4(const struct pkt *p)
{
	union addr_tail tail = {.word = client_word(p)};

	tail.half[1] ^= __builtin_bswap16(p->sport);
	return knobs.source4 | (tail.word & knobs.source4_spread);
}

static __always_inline __be32 outer_source6_tail(const struct pkt *p)
{
	union addr_tail tail = {.word = p->src.word[3]};

	tail.half[0] ^= p->sport;
	return knobs.source6.word[3] | (tail.word & knobs.source6_spread);
}

/* Writes the outer header of a packet to an IPv4 real. */
static __always_inline void write_outer_v4(struct iphdr *ip, const struct pkt *p,
					   const struct real *real)
{
	__be16 ttl_proto;
	__u32 sum;

	ip->version = 4;
	ip->ihl = 5;
	ip->tos = p->tos;
	ip->tot_len = bpf_htons(p->ip_len + sizeof(*ip));
	ip->id = 0;
	ip->frag_off = 0;
	ip->ttl = LB_OUTER_TTL;
	ip->protocol = p->v6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
	ip->saddr = outer_source4(p);
	ip->daddr = real->addr.word[3];
	/* real->csum is the sum of the words that are the same in every packet to the real. */
	ttl_proto = bpf_htons(LB_OUTER_TTL << 8 | ip->protocol);
	sum = real->csum + bpf_htons(p->tos) + ip->tot_len + ttl_proto;
	/* The verifier removes the branch; a value would be computed for every packet. */
	if (knobs.outer_df) {
		ip->frag_off = bpf_htons(LB_OUTER_DF);
		sum += bpf_htons(LB_OUTER_DF);
	}
	ip->check = csum_fold(csum_add32(sum, ip->saddr));
}

/* Writes the outer header of a packet to an IPv6 real. */
static __always_inline void write_outer_v6(struct ipv6hdr *ip, const struct pkt *p,
					   const struct real *real)
{
	*(__be32 *)ip = bpf_htonl(6U << 28 | (__u32)p->tos << 20);
	ip->payload_len = bpf_htons(p->ip_len);
	ip->nexthdr = p->v6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
	ip->hop_limit = LB_OUTER_TTL;
	ip->saddr.s6_addr32[0] = knobs.source6.word[0];
	ip->saddr.s6_addr32[1] = knobs.source6.word[1];
	ip->saddr.s6_addr32[2] = knobs.source6.word[2];
	ip->saddr.s6_addr32[3] = outer_source6_tail(p);
	__builtin_memcpy(&ip->daddr, &real->addr, sizeof(ip->daddr));
}

/* Bytes of the outer header; without a real, of the shortest one. */
static __always_inline __u32 encap_overhead(const struct real *real)
{
	return real && real->flags & LB_REAL_V6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
}

/*
 * The longest IP packet, in bytes, that can go to the real through the interface. Without a real,
 * the longest that can go to any: the sender of a longer one then hears of it even if the VIP has
 * no real.
 */
static __always_inline __u32 path_mtu(const struct interface *interface, const struct real *real)
{
	__u32 mtu = interface->mtu - encap_overhead(real);

	return mtu < knobs.max_ip_packet ? mtu : knobs.max_ip_packet;
}

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The outer IP header: IP in IP (RFC 2003, RFC 2473, RFC 4213), or what carries GUE
 * (packet/gue.h). The balancer (packet/encap.h) and the program for health checks
 * (bpf/healthcheck.bpf.c) both get their bytes from here, so that a check meets on its way what a
 * client's packet meets.
 *
 * The outer source address of IP in IP is synthetic: it contains bits of the client's address, so
 * that the real's network card spreads the flows of a balancer over its receive queues. GUE has one
 * fixed address: its UDP source port tells flows apart.
 */
#ifndef L4LB_PACKET_OUTER_H
#define L4LB_PACKET_OUTER_H

#include "l4lb/state/knobs.h"
#include "l4lb/packet/checksum.h"
#include "l4lb/packet/pkt.h"

#define LB_OUTER_V4  0x45 /* version, and length of the header in words */
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

/* The protocol number of IP in IP. */
static __always_inline __u8 inner_proto(const struct pkt *p)
{
	return p->v6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
}

/* Writes the outer header to an IPv4 real, in front of `len` bytes. */
static __always_inline void write_outer_v4(struct iphdr *ip, const struct pkt *p,
					   const struct real *real, __u32 len, __u8 proto,
					   __be32 source)
{
	__be32 first = bpf_htonl((LB_OUTER_V4 << 8 | p->tos) << 16 | (__u16)(len + sizeof(*ip)));
	__u64 sum;

	*(__be32 *)ip = first; /* version, length of the header, class, length of the packet */
	ip->id = 0;
	ip->frag_off = 0;
	ip->ttl = LB_OUTER_TTL;
	ip->protocol = proto;
	ip->saddr = source;
	ip->daddr = real->addr.word[3];
	/*
	 * real->csum is the sum of what is the same in every packet to the real, version and header
	 * length included; `first` has these as well.
	 */
	sum = real->csum + bpf_htons(LB_OUTER_TTL << 8 | proto) - bpf_htons(LB_OUTER_V4 << 8);
	sum += (__u64)first + source;
	/* The verifier removes the branch; a value would be computed for every packet. */
	if (knobs.outer_df) {
		ip->frag_off = bpf_htons(LB_OUTER_DF);
		sum += bpf_htons(LB_OUTER_DF);
	}
	ip->check = csum_fold64(sum);
}

/* Writes the outer header to an IPv6 real, in front of `len` bytes. */
static __always_inline void write_outer_v6(struct ipv6hdr *ip, const struct pkt *p,
					   const struct real *real, __u32 len, __u8 proto,
					   __be32 source_tail)
{
	*(__be32 *)ip = bpf_htonl(6U << 28 | (__u32)p->tos << 20);
	ip->payload_len = bpf_htons(len);
	ip->nexthdr = proto;
	ip->hop_limit = LB_OUTER_TTL;
	ip->saddr.s6_addr32[0] = knobs.source6.word[0];
	ip->saddr.s6_addr32[1] = knobs.source6.word[1];
	ip->saddr.s6_addr32[2] = knobs.source6.word[2];
	ip->saddr.s6_addr32[3] = source_tail;
	__builtin_memcpy(&ip->daddr, &real->addr, sizeof(ip->daddr));
}

static __always_inline void write_ipip_v4(struct iphdr *ip, const struct pkt *p,
					  const struct real *real)
{
	write_outer_v4(ip, p, real, p->ip_len, inner_proto(p), outer_source4(p));
}

static __always_inline void write_ipip_v6(struct ipv6hdr *ip, const struct pkt *p,
					  const struct real *real)
{
	write_outer_v6(ip, p, real, p->ip_len, inner_proto(p), outer_source6_tail(p));
}

#endif

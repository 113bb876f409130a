/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Generic UDP Encapsulation (draft-ietf-intarea-gue):
 *
 *   variant 1   | outer IP | UDP |             IP | TCP or UDP | …
 *   variant 0   | outer IP | UDP | struct gue | IP | TCP or UDP | …
 *
 * The UDP checksum covers all that follows the outer IP header. It is derived instead of summed
 * (RFC 1624): a valid IPv4 header sums to all ones, which is ones' complement's zero, and so does a
 * valid TCP, UDP or ICMP part with its pseudo-header. What remains are the outer pseudo-header, the
 * UDP and the GUE header, less the inner pseudo-header. Of an IPv6 packet, the inner header is left
 * as well, but for the addresses: they are in its pseudo-header. So a packet whose inner checksum
 * is wrong has an outer one that is wrong by as much, and a checksum that the card has yet to fill
 * in (CHECKSUM_PARTIAL) need not be there.
 *
 * Nothing can be derived if the inner packet is UDP without a checksum, or with bytes behind the
 * datagram, which no checksum covers; or if it has extension headers, which may change what the
 * pseudo-header holds. To an IPv4 real the outer checksum is
 * then 0, "not computed". Over IPv6 it must be there (RFC 8200, section 8.1): whoever called sums
 * the packet.
 */
#ifndef L4LB_PACKET_GUE_H
#define L4LB_PACKET_GUE_H

#include "l4lb/state/knobs.h"
#include "l4lb/packet/bytes.h"
#include "l4lb/packet/checksum.h"
#include "l4lb/packet/outer.h"
#include "l4lb/packet/pkt.h"
#include "l4lb/packet/way.h"

/*
 * The source port, from client address and port as Katran has it. `sport` is the client's port on
 * the wire, even if the VIP's hash leaves it out.
 */
static __always_inline __be16 gue_source_port(const struct pkt *p, __be16 sport, int real_v6)
{
	union addr_tail tail = {.word = p->src.word[3]};

	if (p->v6)
		return sport ^ tail.half[0];
	return (real_v6 ? sport : __builtin_bswap16(sport)) ^ tail.half[1];
}

/*
 * Whether ICMPv4 errors get the checksum that Katran gives them. It takes ICMP for a protocol with
 * a pseudo-header, so the checksum is wrong, and receivers that check it drop the error. No outer
 * checksum of IPv6 is wrong, nor one of variant 0, which Katran does not send.
 */
static __always_inline int icmp_as_katran(int real_v6)
{
	return !real_v6 && knobs.gue_variant && knobs.gue_icmp_as_katran;
}

/*
 * What the inner packet adds to the sum. Returns false if that cannot be derived. `room`: by how
 * much the packet has moved since it was parsed.
 */
static __always_inline int inner_sum(packet_ctx *ctx, const struct pkt *p, __u32 room, int real_v6,
				     __u64 *sum)
{
	const int is_error = has(p, LB_PKT_ICMP_ERROR);
	struct udphdr *udp;
	struct iphdr *ip;
	__be32 *words;
	__u8 next;

	if (!is_error && p->proto == IPPROTO_UDP) {
		udp = pkt_at(ctx, p->l4_off + room, sizeof(*udp));
		if (!udp || !udp->check || udp->len != bpf_htons(p->end - p->l4_off))
			return 0;
	}
	if (!p->v6) {
		/* ICMP has no pseudo-header. */
		if (is_error && !icmp_as_katran(real_v6))
			return 1;
		ip = pkt_at(ctx, p->l3_off + room, sizeof(*ip));
		if (!ip)
			return 0;
		*sum += (__u64)(__u32)~ip->saddr + (__u32)~ip->daddr;
		*sum += (__u16)~bpf_htons(is_error ? IPPROTO_ICMP : p->proto);
		*sum += (__u16)~bpf_htons(p->ip_len - sizeof(*ip));
		return 1;
	}
	if (!p->plain && p->l4_off != p->l3_off + sizeof(struct ipv6hdr))
		return 0;
	words = pkt_at(ctx, p->l3_off + room, sizeof(struct ipv6hdr));
	if (!words)
		return 0;
	/* Version, class and flow label; next header and hop limit. The lengths cancel out. */
	next = ((struct ipv6hdr *)words)->nexthdr;
	*sum += (__u64)words[0] + (words[1] >> 16) + (__u16)~bpf_htons(next);
	return 1;
}

static __always_inline __u64 sum_v6_addresses(const struct ipv6hdr *ip)
{
	const __be32 *words = (const __be32 *)&ip->saddr;
	__u64 sum = 0;

#pragma unroll
	for (int i = 0; i < 8; i++)
		sum += words[i];
	return sum;
}

/* Makes a UDP checksum of a sum of words of 32 bits. */
static __always_inline __u16 udp_checksum(__u64 sum)
{
	__u16 check = csum_fold64(sum);

	/* 0 says that there is none (RFC 768). */
	return check ? check : 0xffff;
}

/* Bytes of the UDP packet that carries the packet. */
static __always_inline __u32 gue_len(const struct pkt *p)
{
	return gue_bytes() + p->ip_len;
}

/*
 * Writes UDP and GUE headers. `sum` is that of the addresses of the outer header and of what the
 * inner packet adds to it; if it could not be derived, there is no checksum so far.
 */
static __always_inline void write_gue(struct udphdr *udp, const struct pkt *p, __be16 source,
				      int real_v6, int derived, __u64 sum)
{
	struct gue *gue = (void *)(udp + 1);
	__be16 len = bpf_htons(gue_len(p));
	__be32 *words;

	udp->source = source;
	udp->dest = knobs.gue_port;
	udp->len = len;
	udp->check = 0;
	/* The length counts in the pseudo-header, too. */
	sum += (__u64)source + knobs.gue_port + 2 * len + bpf_htons(IPPROTO_UDP);
	if (!knobs.gue_variant) {
		words = (__be32 *)gue;
		/* Behind the first word: private data of one word, without any hop. */
		words[0] = bpf_htonl(1 << 24 | inner_proto(p) << 16);
		words[1] = bpf_htonl((real_v6 ? LB_GUE_HOPS_V6 : LB_GUE_HOPS_V4) << 16);
		sum += (__u64)words[0] + words[1];
	}
	if (derived)
		udp->check = udp_checksum(sum);
}

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * GUE, generic UDP encapsulation (draft-ietf-intarea-gue), as a receiver reads it.
 *
 *   variant 1   | outer IP | UDP | IP …
 *   variant 0   | outer IP | UDP | GUE header | private data | IP …
 *
 * The first two bits behind the UDP header are the variant. In variant 1 they are those of the IP
 * version: 01 is how 4 and 6 begin. The private data of variant 0 may name further hops, in GLB's
 * format: a receiver that does not know the connection sends the packet on to the next one. Nobody
 * here does that yet: read_gue checks that the hops are there, and takes the packet. Whoever sends
 * packets on finds the hops behind the GUE header: struct gue_hops.
 */
#ifndef L4LB_PACKET_GUE_IN_H
#define L4LB_PACKET_GUE_IN_H

#include "l4lb/packet/bytes.h"
#include "l4lb/packet/checksum.h"
#include "l4lb/packet/inner.h"
#include "l4lb/packet/pkt.h"

/* The header of variant 0. */
struct gue_in {
	__u8 first; /* two bits: variant; one: control; five: 32-bit words behind this header */
	__u8 proto;
	__be16 flags;
};

#define LB_GUE_VARIANT_SHIFT 6
#define LB_GUE_CONTROL	     0x20
#define LB_GUE_WORDS	     0x1f

/* Private data that names further hops. So many addresses follow. */
struct gue_hops {
	__be16 type;
	__u8 next;
	__u8 count;
};

/* There is nothing wrong so far. */
#define LB_DECAP_GO_ON LB_DECAP_RESULT_COUNT

/* Whether the hops reach beyond the `len` bytes of private data. Other types are not looked into.
 */
static __always_inline int has_too_many_hops(struct xdp_md *ctx, const struct pkt *p, __u32 off,
					     __u32 len)
{
	struct gue_hops *hops = packet_at(ctx, p, off, sizeof(*hops));
	__u32 address;

	if (!hops)
		return 1;
	if (hops->type == bpf_htons(LB_GUE_HOPS_V4))
		address = 4;
	else if (hops->type == bpf_htons(LB_GUE_HOPS_V6))
		address = 16;
	else
		return 0;
	return sizeof(*hops) + hops->count * address > len;
}

/* Reads the header of variant 0 at off. */
static __always_inline int read_gue0(struct xdp_md *ctx, const struct pkt *p, __u32 off,
				     struct inner *in)
{
	struct gue_in *gue = packet_at(ctx, p, off, sizeof(*gue));
	__u8 *version;
	__u32 len;

	if (!gue)
		return LB_DECAP_gue_truncated;
	if (gue->first & LB_GUE_CONTROL)
		return LB_DECAP_gue_control;
	/* They announce fields behind the header, which change what is inside. */
	if (gue->flags)
		return LB_DECAP_gue_flags;
	if (gue->proto != IPPROTO_IPIP && gue->proto != IPPROTO_IPV6)
		return LB_DECAP_gue_protocol;
	in->v6 = gue->proto == IPPROTO_IPV6;
	in->way = LB_DECAP_GUE0;
	len = (gue->first & LB_GUE_WORDS) * 4;
	off += sizeof(*gue);
	in->off = off + len;
	if (in->off > p->end)
		return LB_DECAP_gue_header_length;
	if (len && has_too_many_hops(ctx, p, off, len))
		return LB_DECAP_gue_hops;
	version = packet_at(ctx, p, in->off, sizeof(*version));
	if (version && *version >> 4 != (in->v6 ? 6 : 4))
		return LB_DECAP_gue_inner_version;
	return LB_DECAP_GO_ON;
}

/*
 * Reads what follows the outer IP header: where the inner packet begins, and of which family it is.
 * The UDP header must say the length that the IP header says: nobody who sends GUE has anything
 * behind the datagram.
 */
static __always_inline int read_gue(struct xdp_md *ctx, const struct pkt *p, struct inner *in)
{
	struct udphdr *udp = packet_at(ctx, p, p->l4_off, sizeof(*udp));
	__u32 off = p->l4_off + sizeof(*udp);
	__u8 *first;

	if (!udp || bpf_ntohs(udp->len) != p->end - p->l4_off)
		return LB_DECAP_gue_udp_length;
	first = packet_at(ctx, p, off, sizeof(*first));
	if (!first)
		return LB_DECAP_gue_truncated;
	if (*first >> LB_GUE_VARIANT_SHIFT > 1)
		return LB_DECAP_gue_version;
	if (*first >> LB_GUE_VARIANT_SHIFT == 0)
		return read_gue0(ctx, p, off, in);
	if (*first >> 4 != 4 && *first >> 4 != 6)
		return LB_DECAP_gue_inner_version;
	in->v6 = *first >> 4 == 6;
	in->way = LB_DECAP_GUE1;
	in->off = off;
	return LB_DECAP_GO_ON;
}

/*
 * Whether a sum that is wrong is what Katran makes of an ICMPv4 error, and l4lb beside it
 * (packet/gue.h): wrong by a pseudo-header that ICMP does not have.
 */
static __always_inline int is_error_of_katran(struct xdp_md *ctx, const struct pkt *p,
					      const struct inner *in, __u32 sum)
{
	struct iphdr *ip;
	__u32 len;

	if (p->v6 || in->v6 || in->way != LB_DECAP_GUE1)
		return 0;
	ip = packet_at(ctx, p, in->off, sizeof(*ip));
	if (!ip || ip->ihl != 5 || ip->protocol != IPPROTO_ICMP)
		return 0;
	len = bpf_ntohs(ip->tot_len) - sizeof(*ip);
	sum = csum_add32(csum_add32(sum, ~ip->saddr), ~ip->daddr);
	sum += (__u16)~bpf_htons(IPPROTO_ICMP) + (__u16)~bpf_htons(len);
	return !csum_fold(sum);
}

/*
 * Checks the outer UDP checksum, by the bytes of the whole datagram. A sender may derive it from
 * the inner checksum without a look at the payload. A receiver must not: it would find right what
 * was damaged together with the inner checksum, and the network card may have told the kernel that
 * this frame needs no further check.
 *
 * Without a checksum: over IPv4 that is allowed (RFC 768). Over IPv6 nothing would protect the
 * outer addresses, and so it is allowed for ports only where somebody says so (RFC 6935, RFC 6936,
 * section 5). No balancer of ours needs it.
 */
static __always_inline int check_gue_sum(struct xdp_md *ctx, const struct pkt *p,
					 const struct inner *in)
{
	struct udphdr *udp = packet_at(ctx, p, p->l4_off, sizeof(*udp));
	__u32 len = p->end - p->l4_off;
	__u32 sum;

	if (!udp)
		return LB_DECAP_gue_udp_length;
	if (!udp->check)
		return p->v6 ? LB_DECAP_gue_no_checksum : LB_DECAP_GO_ON;
	sum = pseudo_sum(p, len);
	if (!sum_bytes(ctx, p->l4_off, len, &sum))
		return LB_DECAP_gue_checksum;
	if (csum_fold(sum) && !is_error_of_katran(ctx, p, in, sum))
		return LB_DECAP_gue_checksum;
	return LB_DECAP_GO_ON;
}

#endif

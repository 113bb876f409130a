/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Encapsulation of a packet of this host on its way out (tc). The outer headers are those of
 * packet/outer.h and packet/gue.h.
 *
 *   before     | Ethernet |            IP | TCP or UDP | …
 *   IP in IP   | Ethernet | outer IP | IP | TCP or UDP | …
 *   GUE        | Ethernet | outer IP | UDP | GUE | IP | TCP or UDP | …
 *
 * A packet of a socket is not finished yet. Its transport checksum may be left to the card
 * (CHECKSUM_PARTIAL), and it may be several segments in one (GSO). So it matters how room is made:
 *
 * - bpf_skb_adjust_room with a flag BPF_F_ADJ_ROOM_ENCAP_L3_* makes a tunnel packet of it, as the
 *   kernel's own tunnels do: skb->encapsulation, the places of the inner headers, and of a GSO
 *   packet the type IPXIP4 or IPXIP6, or with BPF_F_ADJ_ROOM_ENCAP_L4_UDP the type UDP_TUNNEL.
 *   Behind this program the kernel then asks for the offloads that
 * the device has for tunnels (hw_enc_features). What the device lacks, the kernel does itself: it
 *   completes the inner checksum, and segments with both headers.
 * - bpf_skb_change_head would only move bytes. The kernel would go by the device's features for
 * plain packets, and a card that knows TCP and UDP only would get a checksum to fill in that it
 * does not find; a GSO packet would be segmented as if the outer header were the only one.
 *
 * veth says of itself that it can do all that. It hands an unfinished packet to its other end,
 * which takes it for right: a plain kernel there, too, but not a program that sends the frame on.
 * As with the frames that clients send in such a network: `ethtool -K DEVICE tx off gso off`.
 *
 * BPF_F_ADJ_ROOM_FIXED_GSO: a segment stays as long as TCP made it. If that is too long with the
 * outer header, the check must find it out, as a client would.
 *
 * The kernel numbers the outer headers of a GSO packet's segments: ids 0, 1, 2, …, where the
 * balancer writes 0. A program cannot set the GSO type that keeps the id. It makes no difference:
 * an id only tells fragments of one packet from those of another (RFC 6864). A packet of a client
 * that is too long for the path with its outer header is fragmented there as well, all with id 0;
 * the check's fragments have other ids, and so cannot be mixed up with those.
 *
 * GUE's UDP checksum is derived (packet/gue.h), so it is right as soon as the inner one is filled
 * in: Linux calls that local checksum offload. A GSO packet is another matter. The kernel gives its
 * segments their lengths, and so other checksums, only by the GSO type UDP_TUNNEL_CSUM, which a
 * program cannot set. So GSO packets go without a checksum. IPv4 does not need one. Over IPv6,
 * receivers may want one (RFC 6936): lbctl's checks write a segment at a time, so that no GSO
 * packets arise (probe/wire.rs), and of other sockets, TCP sends segments again one by one.
 *
 * Writes go by bpf_skb_store_bytes. If the program wrote to the packet by pointers, the kernel
 * would put code in front of it that copies every cloned packet of the interface: nearly all of
 * TCP.
 */
#ifndef L4LB_PACKET_ENCAP_SKB_H
#define L4LB_PACKET_ENCAP_SKB_H

#include "l4lb/packet/bytes.h"
#include "l4lb/packet/gue.h"
#include "l4lb/packet/l2.h"
#include "l4lb/packet/outer.h"
#include "l4lb/packet/pkt.h"

/* The parsers look at no more bytes than these. */
#define LB_HEADER_BYTES (LB_MAX_L4_OFF + sizeof(struct tcphdr))

/* A longer GSO packet has no length that fits into an outer header. */
#define LB_LONGEST_GSO                                                                             \
	(0xffff - sizeof(struct ipv6hdr) - sizeof(struct udphdr) - sizeof(struct gue))

/* Brings the headers into one piece. */
static __always_inline int gather_headers(struct __sk_buff *ctx)
{
	return bpf_skb_pull_data(ctx, ctx->len < LB_HEADER_BYTES ? ctx->len : LB_HEADER_BYTES);
}

/* Bytes of the longest IP packet that becomes of it: of a GSO packet, those of a segment. */
static __always_inline __u32 longest_packet(struct __sk_buff *ctx, const struct pkt *p)
{
	struct tcphdr *tcp;

	if (!ctx->gso_size)
		return p->frame_len - p->l3_off;
	tcp = pkt_at(ctx, p->l4_off, sizeof(*tcp));
	/* The kernel makes GSO packets of TCP; of UDP only if the socket asks for it. */
	if (!tcp || p->proto != IPPROTO_TCP || p->frame_len - p->l3_off > LB_LONGEST_GSO)
		return ~0U;
	return p->l4_off - p->l3_off + tcp->doff * 4 + ctx->gso_size;
}

static __always_inline int make_room(struct __sk_buff *ctx, __u32 bytes, __u64 kind)
{
	return bpf_skb_adjust_room(ctx, bytes, BPF_ADJ_ROOM_MAC, kind | BPF_F_ADJ_ROOM_FIXED_GSO);
}

/* Addresses the frame to a MAC. Its source is already this host's. */
static __always_inline int write_mac_to(struct __sk_buff *ctx, const struct mac *mac)
{
	struct mac to = *mac;

	return bpf_skb_store_bytes(ctx, 0, &to, sizeof(to), 0);
}

static __always_inline int write_l2_to(struct __sk_buff *ctx, const struct mac *gateway,
				       __be16 proto)
{
	return write_mac_to(ctx, gateway) ||
	       bpf_skb_store_bytes(ctx, 2 * ETH_ALEN, &proto, sizeof(proto), 0);
}

/*
 * Encapsulates the packet for the real, by IP in IP, and addresses the frame to the interface's
 * gateway. Returns 0, or -1 if the kernel made no room.
 */
static __always_inline int encapsulate_skb(struct __sk_buff *ctx, const struct pkt *p,
					   const struct interface *interface,
					   const struct real *real)
{
	const struct mac *gateway = (const struct mac *)interface->mac;
	struct ipv6hdr v6 = {};
	struct iphdr v4 = {};

	if (real->flags & LB_REAL_V6) {
		write_ipip_v6(&v6, p, real);
		if (make_room(ctx, sizeof(v6), BPF_F_ADJ_ROOM_ENCAP_L3_IPV6) ||
		    bpf_skb_store_bytes(ctx, ETH_HLEN, &v6, sizeof(v6), 0))
			return -1;
		return write_l2_to(ctx, gateway, bpf_htons(ETH_P_IPV6)) ? -1 : 0;
	}
	write_ipip_v4(&v4, p, real);
	if (make_room(ctx, sizeof(v4), BPF_F_ADJ_ROOM_ENCAP_L3_IPV4) ||
	    bpf_skb_store_bytes(ctx, ETH_HLEN, &v4, sizeof(v4), 0))
		return -1;
	return write_l2_to(ctx, gateway, bpf_htons(ETH_P_IP)) ? -1 : 0;
}

/* UDP and GUE headers, as they lie behind the outer IP header. */
struct gue_headers {
	struct udphdr udp;
	struct gue gue;
};

/*
 * The same by GUE; also -1 if a checksum is needed that cannot be derived: of a UDP socket without
 * checksums.
 */
static __always_inline int encapsulate_skb_gue(struct __sk_buff *ctx, const struct pkt *p,
					       const struct interface *interface,
					       const struct real *real)
{
	const struct mac *gateway = (const struct mac *)interface->mac;
	const __u64 udp = BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
	struct gue_headers gue = {};
	struct ipv6hdr v6 = {};
	struct iphdr v4 = {};
	int derived;
	__u64 sum = 0;

	derived = inner_sum(ctx, p, 0, real->flags & LB_REAL_V6, &sum) && !ctx->gso_size;
	if (real->flags & LB_REAL_V6) {
		if (!derived && !ctx->gso_size)
			return -1;
		write_outer_v6(&v6, p, real, gue_len(p), IPPROTO_UDP, knobs.source6.word[3]);
		sum += sum_v6_addresses(&v6);
		write_gue(&gue.udp, p, gue_source_port(p, p->sport, 1), 1, derived, sum);
		if (make_room(ctx, sizeof(v6) + gue_bytes(), BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 | udp) ||
		    bpf_skb_store_bytes(ctx, ETH_HLEN, &v6, sizeof(v6), 0) ||
		    bpf_skb_store_bytes(ctx, ETH_HLEN + sizeof(v6), &gue, gue_bytes(), 0))
			return -1;
		return write_l2_to(ctx, gateway, bpf_htons(ETH_P_IPV6)) ? -1 : 0;
	}
	write_outer_v4(&v4, p, real, gue_len(p), IPPROTO_UDP, knobs.source4);
	sum += (__u64)v4.saddr + v4.daddr;
	write_gue(&gue.udp, p, gue_source_port(p, p->sport, 0), 0, derived, sum);
	if (make_room(ctx, sizeof(v4) + gue_bytes(), BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | udp) ||
	    bpf_skb_store_bytes(ctx, ETH_HLEN, &v4, sizeof(v4), 0) ||
	    bpf_skb_store_bytes(ctx, ETH_HLEN + sizeof(v4), &gue, gue_bytes(), 0))
		return -1;
	return write_l2_to(ctx, gateway, bpf_htons(ETH_P_IP)) ? -1 : 0;
}

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Parsers: from the frame to struct pkt. A parser returns LB_GO_ON, or the reason why the packet
 * does not concern the balancer. What counts only for packets to a VIP becomes a flag: the host's
 * own packets pass, whatever they look like.
 */
#ifndef L4LB_PACKET_PARSE_H
#define L4LB_PACKET_PARSE_H

#include "l4lb/packet/addr.h"
#include "l4lb/packet/bytes.h"
#include "l4lb/packet/l2.h"
#include "l4lb/packet/pkt.h"

struct vlan_tag {
	__be16 tci;
	__be16 next;
};

#define LB_IP_FRAGMENT 0x3fff /* more fragments, or an offset */
#define LB_IP_OFFSET   0x1fff

/*
 * Of an IPv6 fragment header: offset, and "more fragments". A packet with neither is whole, an
 * atomic fragment (RFC 6946). The two bits between them are reserved, and receivers ignore them
 * (RFC 8200, section 4.5).
 */
#define LB_IPV6_OFFSET 0xfff8
#define LB_IPV6_MORE   0x0001

#define LB_FRAGMENT_HEADER 8 /* bytes */

static __always_inline int is_vlan(__be16 proto)
{
	return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD);
}

/*
 * Parses the Ethernet header and up to two VLAN tags. Returns the EtherType behind them, or 0 if
 * the frame is too short.
 */
static __always_inline __be16 parse_l2(packet_ctx *ctx, struct pkt *p)
{
	struct ethhdr *eth = pkt_at(ctx, 0, sizeof(*eth));
	struct vlan_tag *tag;
	__be16 proto;

	if (!eth)
		return 0;
	p->mac = mac_word(eth);
	p->l3_off = sizeof(*eth);
	proto = ether_type(eth);
	if (!is_vlan(proto))
		return proto;
#pragma unroll
	for (int i = 0; i < 2 && is_vlan(proto); i++) {
		tag = pkt_at(ctx, p->l3_off, sizeof(*tag));
		if (!tag)
			return 0;
		proto = tag->next;
		p->l3_off += sizeof(*tag);
	}
	return proto;
}

/* Checks that the IP packet lies within the frame. */
static __always_inline void check_length(struct pkt *p)
{
	if (p->ip_len > p->frame_len - p->l3_off)
		p->flags |= LB_PKT_BAD_LENGTH;
}

/* Parses TCP or UDP at p->l4_off. The packet must contain the whole fixed header. */
static __always_inline void parse_l4(packet_ctx *ctx, struct pkt *p)
{
	struct udphdr *ports; /* TCP has its ports at the same place */
	struct tcphdr *tcp;

	check_length(p);
	if (has(p, LB_PKT_NO_PORTS))
		return;
	ports = packet_at(ctx, p, p->l4_off, sizeof(ports->source) + sizeof(ports->dest));
	if (!ports) {
		p->flags |= LB_PKT_RUNT | LB_PKT_NO_PORTS;
		return;
	}
	p->sport = ports->source;
	p->dport = ports->dest;
	if (p->proto == IPPROTO_TCP) {
		tcp = packet_at(ctx, p, p->l4_off, sizeof(*tcp));
		if (!tcp) {
			p->flags |= LB_PKT_RUNT;
			return;
		}
		if (tcp->syn)
			p->flags |= LB_PKT_SYN;
		if (tcp->rst)
			p->flags |= LB_PKT_RST;
	} else if (!packet_at(ctx, p, p->l4_off, sizeof(*ports))) {
		p->flags |= LB_PKT_RUNT;
	}
}

/*
 * Sets the end of the packet. For a packet that an ICMP error quotes, the caller has set it: the
 * length in its header does not tell how much of it is quoted.
 */
static __always_inline void set_end(struct pkt *p)
{
	if (!p->end)
		p->end = p->l3_off + p->ip_len;
}

static __always_inline int parse_v4(packet_ctx *ctx, struct pkt *p)
{
	struct iphdr *ip = pkt_at(ctx, p->l3_off, sizeof(*ip));
	__be16 frag;

	if (!ip || ip->version != 4 || ip->ihl < 5)
		return LB_PASS_bad_ip_header;
	addr_from_v4(&p->src, ip->saddr);
	addr_from_v4(&p->dst, ip->daddr);
	p->proto = ip->protocol;
	p->tos = ip->tos;
	p->ip_len = bpf_ntohs(ip->tot_len);
	set_end(p);
	p->l4_off = p->l3_off + ip->ihl * 4;
	frag = ip->frag_off;
	if (ip->ihl != 5)
		p->flags |= LB_PKT_OPTIONS;
	if (frag & bpf_htons(LB_IP_FRAGMENT)) {
		p->flags |= LB_PKT_FRAGMENT;
		if (frag & bpf_htons(LB_IP_OFFSET))
			p->flags |= LB_PKT_NO_PORTS;
	}
	return LB_GO_ON;
}

/*
 * Walks the extension headers (RFC 8200, section 4) up to the first other header. A header of type
 * p->proto begins at p->l4_off.
 */
static __always_inline void walk_ext_headers(packet_ctx *ctx, struct pkt *p)
{
	struct ext {
		__u8 next;
		__u8 len;
		__be16 offset; /* of a fragment header: 13 bits, then flags */
	} *ext;
	__u8 type;

	/* Why the loop is unrolled: packet/verifier.h. */
#pragma unroll
	for (int i = 0; i <= LB_MAX_EXT_HEADERS; i++) {
		type = p->proto;
		if (type != IPPROTO_HOPOPTS && type != IPPROTO_ROUTING && type != IPPROTO_DSTOPTS &&
		    type != IPPROTO_FRAGMENT && type != IPPROTO_AH)
			return;
		ext = packet_at(ctx, p, p->l4_off, sizeof(*ext));
		if (i == LB_MAX_EXT_HEADERS) {
			p->flags |= LB_PKT_EXT_HEADERS;
			return;
		}
		if (!ext) {
			p->flags |= LB_PKT_EXT_HEADERS | LB_PKT_RUNT;
			return;
		}
		p->proto = ext->next;
		if (type == IPPROTO_FRAGMENT) {
			p->l4_off += LB_FRAGMENT_HEADER;
			if (ext->offset & bpf_htons(LB_IPV6_OFFSET | LB_IPV6_MORE))
				p->flags |= LB_PKT_FRAGMENT;
			if (ext->offset & bpf_htons(LB_IPV6_OFFSET)) {
				p->flags |= LB_PKT_NO_PORTS;
				return;
			}
		} else if (type == IPPROTO_AH) {
			p->l4_off += (ext->len + 2) * 4;
		} else {
			p->l4_off += (ext->len + 1) * 8;
		}
		if (p->l4_off > LB_MAX_L4_OFF) {
			p->flags |= LB_PKT_EXT_HEADERS;
			return;
		}
	}
}

/*
 * Parses the fixed header. p->l4_off and p->proto are then those of the next header, which may be
 * an extension header.
 */
static __always_inline int parse_v6_header(packet_ctx *ctx, struct pkt *p)
{
	struct ipv6hdr *ip = pkt_at(ctx, p->l3_off, sizeof(*ip));

	if (!ip || ip->version != 6)
		return LB_PASS_bad_ip_header;
	addr_from_v6(&p->src, &ip->saddr);
	addr_from_v6(&p->dst, &ip->daddr);
	/*
	 * No packet has an IPv4-mapped address on the wire, and Linux drops such packets too. Here
	 * it would count as the IPv4 address of a VIP or of the client of another flow.
	 */
	if (addr_is_v4(&p->src) || addr_is_v4(&p->dst))
		return LB_PASS_bad_ip_header;
	p->proto = ip->nexthdr;
	p->tos = ip->priority << 4 | ip->flow_lbl[0] >> 4;
	p->ip_len = bpf_ntohs(ip->payload_len) + sizeof(*ip);
	set_end(p);
	p->l4_off = p->l3_off + sizeof(*ip);
	return LB_GO_ON;
}

static __always_inline int parse_v6(packet_ctx *ctx, struct pkt *p)
{
	int reason = parse_v6_header(ctx, p);

	if (reason)
		return reason;
	walk_ext_headers(ctx, p);
	return LB_GO_ON;
}

/*
 * Parsers of plain packets. Most packets are plain: no VLAN tag, no IP options or extension
 * headers, no fragment, TCP or UDP, complete, in a frame with room for a TCP header. Much of struct
 * pkt is then constant, so that the code for plain packets is shorter. A parser returns whether the
 * packet is plain. If not, it leaves struct pkt unusable.
 */
static __always_inline int parse_plain_l4(const void *l4, struct pkt *p)
{
	const struct udphdr *ports = l4; /* TCP has its ports at the same place */
	const struct tcphdr *tcp = l4;
	__u32 header = sizeof(*ports);

	p->sport = ports->source;
	p->dport = ports->dest;
	p->plain = 1;
	p->flags = 0;
	if (p->proto == IPPROTO_TCP) {
		header = sizeof(*tcp);
		p->flags = (tcp->syn ? LB_PKT_SYN : 0) | (tcp->rst ? LB_PKT_RST : 0);
	} else if (p->proto != IPPROTO_UDP) {
		return 0;
	}
	p->end = p->l3_off + p->ip_len;
	return p->end <= p->frame_len && p->l4_off + header <= p->end;
}

static __always_inline int parse_plain_v4(packet_ctx *ctx, struct pkt *p)
{
	struct ethhdr *eth = pkt_data(ctx);
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) + sizeof(struct tcphdr) > pkt_end(ctx))
		return 0;
	if (ether_type(eth) != bpf_htons(ETH_P_IP) || *(__u8 *)ip != 0x45 ||
	    ip->frag_off & bpf_htons(LB_IP_FRAGMENT))
		return 0;
	p->v6 = 0;
	p->mac = mac_word(eth);
	p->l3_off = sizeof(*eth);
	p->l4_off = sizeof(*eth) + sizeof(*ip);
	addr_from_v4(&p->src, ip->saddr);
	addr_from_v4(&p->dst, ip->daddr);
	p->proto = ip->protocol;
	p->tos = ip->tos;
	p->ip_len = bpf_ntohs(ip->tot_len);
	return parse_plain_l4(ip + 1, p);
}

static __always_inline int parse_plain_v6(packet_ctx *ctx, struct pkt *p)
{
	struct ethhdr *eth = pkt_data(ctx);
	struct ipv6hdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) + sizeof(struct tcphdr) > pkt_end(ctx))
		return 0;
	if (ether_type(eth) != bpf_htons(ETH_P_IPV6) || ip->version != 6)
		return 0;
	p->v6 = 1;
	p->mac = mac_word(eth);
	p->l3_off = sizeof(*eth);
	p->l4_off = sizeof(*eth) + sizeof(*ip);
	addr_from_v6(&p->src, &ip->saddr);
	addr_from_v6(&p->dst, &ip->daddr);
	if (addr_is_v4(&p->src) || addr_is_v4(&p->dst))
		return 0;
	p->proto = ip->nexthdr;
	p->tos = ip->priority << 4 | ip->flow_lbl[0] >> 4;
	p->ip_len = bpf_ntohs(ip->payload_len) + sizeof(*ip);
	return parse_plain_l4(ip + 1, p);
}

#endif

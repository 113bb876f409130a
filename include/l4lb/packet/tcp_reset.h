/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* TCP resets, which refuse a connection. */
#ifndef L4LB_PACKET_TCP_RESET_H
#define L4LB_PACKET_TCP_RESET_H

#include "l4lb/packet/bytes.h"
#include "l4lb/packet/checksum.h"
#include "l4lb/packet/l2.h"
#include "l4lb/packet/pkt.h"
#include "l4lb/packet/reply.h"

/* Makes the reset to a packet of a connection that does not exist (RFC 9293, section 3.10.7.1). */
static __always_inline void reset_of(const struct tcphdr *tcp, __u32 len, struct tcphdr *reset)
{
	__u32 next = bpf_ntohl(tcp->seq) + len - tcp->doff * 4 + tcp->syn + tcp->fin;

	*reset = (struct tcphdr){.source = tcp->dest, .dest = tcp->source, .doff = 5, .rst = 1};
	reset->seq = tcp->ack ? tcp->ack_seq : 0;
	reset->ack_seq = tcp->ack ? 0 : bpf_htonl(next);
	reset->ack = !tcp->ack;
}

/* Turns the packet into a reset. The frame keeps Ethernet's minimum length if it has that now. */
static __always_inline int reset_reply(struct xdp_md *ctx, const struct pkt *p)
{
	struct tcphdr reset;
	__u32 frame_len = frame_length(ctx);
	__u32 len =
		p->l3_off + sizeof(reset) + (p->v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	struct tcphdr *tcp;
	struct ipv6hdr *ip6;
	struct ethhdr *eth;
	struct iphdr *ip;
	__u32 sum;

	tcp = pkt_at(ctx, p->l4_off, sizeof(*tcp));
	if (!tcp)
		return LB_DROP_no_headroom;
	reset_of(tcp, p->end - p->l4_off, &reset);
	if (len < ETH_ZLEN)
		len = frame_len < ETH_ZLEN ? frame_len : ETH_ZLEN;
	if (bpf_xdp_adjust_tail(ctx, (int)len - (int)frame_len))
		return LB_DROP_no_headroom;
	eth = pkt_at(ctx, 0, sizeof(*eth));
	if (!eth)
		return LB_DROP_no_headroom;
	/* The sum of both addresses is the same for either direction. */
	sum = pseudo_sum(p, sizeof(reset));
	if (p->v6) {
		ip6 = pkt_at(ctx, p->l3_off, sizeof(*ip6) + sizeof(*tcp));
		if (!ip6)
			return LB_DROP_no_headroom;
		write_v6(ip6, p, IPPROTO_TCP, sizeof(*tcp));
		tcp = (void *)(ip6 + 1);
		*tcp = reset;
		tcp->check = csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)tcp, sizeof(*tcp), sum));
	} else {
		ip = pkt_at(ctx, p->l3_off, sizeof(*ip) + sizeof(*tcp));
		if (!ip)
			return LB_DROP_no_headroom;
		write_v4(ip, p, IPPROTO_TCP, sizeof(*tcp));
		tcp = (void *)(ip + 1);
		*tcp = reset;
		tcp->check = csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)tcp, sizeof(*tcp), sum));
	}
	swap_macs(eth);
	return LB_TX_reset_reply;
}

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Answers from a VIP address: echo replies, "too big" (RFC 1191, RFC 8201), and refusals, which are
 * TCP resets and "port unreachable". balance/ask.h decides that a packet is to be answered;
 * answer() checks it once more and turns it into the answer.
 *
 * A packet gets no answer if its source address or the frame's source MAC does not name one host,
 * if a checksum is wrong, or if the limits do not allow it.
 */
#ifndef L4LB_BALANCE_ANSWER_H
#define L4LB_BALANCE_ANSWER_H

#include "l4lb/packet/addr.h"
#include "l4lb/packet/atomic_fragment.h"
#include "l4lb/packet/bytes.h"
#include "l4lb/packet/checksum.h"
#include "l4lb/packet/gue.h"
#include "l4lb/packet/icmp_reply.h"
#include "l4lb/packet/l2.h"
#include "l4lb/packet/pkt.h"
#include "l4lb/packet/tcp_reset.h"
#include "l4lb/packet/verifier.h"
#include "l4lb/balance/ask.h"
#include "l4lb/balance/limits.h"
#include "l4lb/balance/vips.h"

/* Reads what ask() has written. */
static __always_inline void recall_question(const struct cpu_state *cpu, struct pkt *p)
{
	const struct question *asked = &cpu->question;

	p->frame_len = asked->frame_len;
	p->ip_len = asked->ip_len;
	p->l3_off = asked->l3_off;
	p->l4_off = asked->l4_off;
	p->end = p->l3_off + p->ip_len;
	p->proto = asked->proto;
	p->v6 = asked->v6;
	p->has_vip = asked->has_vip;
	p->vip = asked->vip;
	p->real = asked->real;
	p->counter = asked->counter;
	p->new_flow = asked->new_flow;
}

/*
 * Whether the packet's source address names one host (RFC 1122, section 3.2.2; RFC 4443,
 * section 2.4, (e)) and is no VIP address: two VIPs would answer one another for ever.
 */
static __always_inline int is_answerable(const struct pkt *p)
{
	const __be32 *word = p->src.word;
	struct vip marker;
	__u8 first;

	if (p->v6) {
		if ((word[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000))
			return 0;
		/* Unspecified and loopback. */
		if (!(word[0] | word[1] | word[2]) && bpf_ntohl(word[3]) <= 1)
			return 0;
	} else {
		/* 0.0.0.0/8, loopback, multicast, class E and broadcast. */
		first = bpf_ntohl(word[3]) >> 24;
		if (first == 0 || first == 127 || first >= 224)
			return 0;
	}
	return !lookup_vip(vip_index_now(), &p->src, 0, IPPROTO_ICMP, &marker);
}

/*
 * Returns where the sum over the `len` bytes at p->l4_off has to start, so that it ends as all ones
 * if the checksum in the TCP, UDP or ICMP header is right.
 */
static __always_inline __u32 sum_to_check(struct xdp_md *ctx, const struct pkt *p, __u32 kind,
					  __u32 *len)
{
	struct udphdr *udp = pkt_at(ctx, p->l4_off, sizeof(*udp));

	*len = p->end - p->l4_off;
	/* Nobody checks it, or the sender computed none (RFC 768). */
	if (kind == LB_ANSWER_TOO_BIG ||
	    (!p->v6 && p->proto == IPPROTO_UDP && udp && !udp->check)) {
		*len = 0;
		return 0xffff;
	}
	return p->v6 || p->proto != IPPROTO_ICMP ? pseudo_sum(p, *len) : 0;
}

/*
 * Makes the verifier forget what kind of packet this is, as forget_path does, so that it follows
 * the code that sums the packet only once.
 */
static __always_inline void forget_kind(struct pkt *p, struct cpu_state *cpu)
{
	cpu->question.src = p->src;
	cpu->question.dst = p->dst;
	barrier();
	p->src = cpu->question.src;
	p->dst = cpu->question.dst;
	recall_question(cpu, p);
}

/*
 * Whether the packet may be refused. No reset answers a reset, or a packet that is shorter than its
 * header.
 */
static __always_inline int is_refusable(struct xdp_md *ctx, const struct pkt *p)
{
	struct tcphdr *tcp;
	__u32 header;

	if (p->v6 && p->l4_off != p->l3_off + sizeof(struct ipv6hdr) && !is_atomic_alone(ctx, p))
		return 0;
	if (p->proto != IPPROTO_TCP)
		return 1;
	tcp = pkt_at(ctx, p->l4_off, sizeof(*tcp));
	if (!tcp || tcp->rst)
		return 0;
	header = tcp->doff * 4;
	return header >= sizeof(*tcp) && header <= p->end - p->l4_off;
}

/* Completes a packet that balance/ask.h has noted. */
static __always_inline int set_gue_checksum(struct xdp_md *ctx, const struct pkt *p, __u32 sum)
{
	struct udphdr *udp = pkt_at(ctx, p->l4_off, sizeof(*udp));

	if (!udp)
		return -1;
	udp->check = udp_checksum(sum);
	return 0;
}

/* Turns the packet into its answer, or completes it. Returns the reason with which the packet ends.
 */
static __always_inline int answer(struct xdp_md *ctx, struct pkt *p, struct cpu_state *cpu)
{
	int reason;
	struct l2_header l2;
	struct ipv6hdr *ip6;
	struct iphdr *ip;
	struct mac mac;
	__u32 kind, sum, len;

	recall_question(cpu, p);
	kind = cpu->question.kind;
	if (p->v6) {
		ip6 = pkt_at(ctx, p->l3_off, sizeof(*ip6));
		if (!ip6)
			return LB_DROP_runt;
		addr_from_v6(&p->src, &ip6->saddr);
		addr_from_v6(&p->dst, &ip6->daddr);
	} else {
		ip = pkt_at(ctx, p->l3_off, sizeof(*ip));
		if (!ip)
			return LB_DROP_runt;
		addr_from_v4(&p->src, ip->saddr);
		addr_from_v4(&p->dst, ip->daddr);
		if (csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)ip, sizeof(*ip), 0)))
			return LB_DROP_bad_checksum;
	}
	if (kind == LB_ANSWER_REFUSAL && !is_refusable(ctx, p))
		return cpu->question.otherwise;
	if (kind != LB_ANSWER_GUE && (is_from_broadcast(ctx) || !is_answerable(p)))
		return LB_DROP_unanswerable;
	sum = sum_to_check(ctx, p, kind, &len);
	forget_kind(p, cpu);
	kind = cpu->question.kind;
	sum = forget_number(cpu, sum);
	len = forget_number(cpu, len);
	if (!sum_bytes(ctx, p->l4_off, len, &sum))
		return kind == LB_ANSWER_GUE ? LB_DROP_gue_checksum : LB_DROP_bad_checksum;
	if (kind == LB_ANSWER_GUE)
		return set_gue_checksum(ctx, p, sum) ? LB_DROP_gue_checksum
						     : (int)cpu->question.otherwise;
	if (csum_fold(sum))
		return LB_DROP_bad_checksum;
	reason = limit_answer(p, cpu, kind);
	if (reason)
		return reason;
	if (kind != LB_ANSWER_TOO_BIG && p->v6 && p->l4_off != p->l3_off + sizeof(*ip6)) {
		reason = take_off_fragment_header(ctx, p);
		if (reason)
			return reason;
	}
	if (kind == LB_ANSWER_ECHO)
		return echo_reply(ctx, p);
	if (kind == LB_ANSWER_REFUSAL && p->proto == IPPROTO_TCP)
		return reset_reply(ctx, p);
	if (read_l2(ctx, &l2))
		return LB_DROP_no_headroom;
	mac = l2.dst;
	l2.dst = l2.src;
	l2.src = mac;
	return kind == LB_ANSWER_TOO_BIG ? too_big_reply(ctx, p, &l2, cpu->question.mtu)
					 : unreachable_reply(ctx, p, &l2);
}

#endif

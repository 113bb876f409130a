/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Answers in a VIP's name: echo replies, "too big" (RFC 1191, RFC 8201), and refusals: a TCP reset
 * or "port unreachable".
 *
 * Whoever finds out that a packet is to be answered notes it in the CPU's state and returns
 * LB_ANSWER: all answers are given at one place, so that verifiers follow it once, not from each
 * way that leads there. Nobody is answered whose address does not name one host, nor a packet that
 * was damaged, nor more often than the limits say.
 */
#ifndef L4LB_BALANCE_ANSWER_H
#define L4LB_BALANCE_ANSWER_H

#include "l4lb/state/knobs.h"
#include "l4lb/packet/checksum.h"
#include "l4lb/balance/connection_table.h"
#include "l4lb/packet/l2.h"
#include "l4lb/packet/parse.h"
#include "l4lb/packet/pkt.h"
#include "l4lb/balance/vips.h"

/* In place of a reason: the packet is to be answered. */
#define LB_ANSWER (-1)

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
#define ICMP_PORT_UNREACH  3
#define ICMP_FRAG_NEEDED   4
#define ICMP_ECHO	   8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12

#define LB_REPLY_TTL 64

/* An IPv6 path carries packets of this size (RFC 8200, section 5). */
#define LB_MIN_MTU_V6 1280

/*
 * Bytes of the offending packet that an ICMP error quotes: of one that is too long, and of one that
 * is refused, whose sender needs no more than its UDP header (RFC 792). Multiples of 4:
 * bpf_csum_diff.
 */
#define LB_QUOTE_V4	    84
#define LB_QUOTE_V6	    248
#define LB_QUOTE_REFUSED_V4 (sizeof(struct iphdr) + sizeof(struct udphdr))
#define LB_QUOTE_REFUSED_V6 (sizeof(struct ipv6hdr) + sizeof(struct udphdr))

/* Notes that the packet is to be answered; `otherwise` is the reason if a refusal is not sent. */
static __always_inline int ask(const struct pkt *p, struct cpu_state *cpu, __u32 kind, __u32 mtu,
			       int otherwise)
{
	cpu->question = (struct question){
		.kind = kind,
		.otherwise = otherwise,
		.mtu = mtu,
		.frame_len = p->frame_len,
		.ip_len = p->ip_len,
		.l3_off = p->l3_off,
		.l4_off = p->l4_off,
		.proto = p->proto,
		.v6 = p->v6,
		.has_vip = p->has_vip,
		.vip = p->vip,
	};
	return rarely(LB_ANSWER);
}

/* What was noted. */
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
}

/*
 * Whether the packet's source names one host, which is not this one nor a balancer beside it (RFC
 * 1122, 3.2.2; RFC 4443, 2.4 (e)). Between two VIPs answers would go round for ever.
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
		/* 0.0.0.0/8, loopback, multicast, class E with broadcast. */
		first = bpf_ntohl(word[3]) >> 24;
		if (first == 0 || first == 127 || first >= 224)
			return 0;
	}
	return !lookup_vip(vip_index_now(), &p->src, 0, IPPROTO_ICMP, &marker);
}

/* Offsets of what is summed reach further than those of headers. */
#define LB_SUM_MASK 0x3fff

/* For bpf_csum_diff: the most that it takes, so often, and what is left by powers of two. */
#define LB_SUM_BITS   9
#define LB_SUM_BLOCK  (1 << LB_SUM_BITS)
#define LB_SUM_BLOCKS 19

static __always_inline int sum_block(struct xdp_md *ctx, __u32 off, __u32 len, __u32 *sum)
{
	void *at = pkt_data(ctx);

	/* As in pkt_at. */
	asm volatile("" : "+r"(off));
	at += off & LB_SUM_MASK;
	asm volatile("" : "+r"(at));
	if (at + len > pkt_end(ctx))
		return 0;
	if (len == 2)
		*sum += *(__u16 *)at;
	else if (len == 1)
		*sum += bpf_htons(*(__u8 *)at << 8);
	else
		*sum = bpf_csum_diff(NULL, 0, at, len, *sum);
	return 1;
}

/*
 * Adds `len` bytes of the frame to a sum. False if the frame ends before, or they are too many.
 * Unrolled, and what is known of offset and length is the same on each way to the next step:
 * verifiers follow one.
 */
static __always_inline int sum_bytes(struct xdp_md *ctx, __u32 off, __u32 len, __u32 *sum)
{
#pragma unroll
	for (int i = 0; i < LB_SUM_BLOCKS; i++) {
		if (len < LB_SUM_BLOCK)
			continue;
		if (!sum_block(ctx, off, LB_SUM_BLOCK, sum))
			return 0;
		off += LB_SUM_BLOCK;
		len -= LB_SUM_BLOCK;
	}
	if (len >= LB_SUM_BLOCK)
		return 0;
#pragma unroll
	for (int bit = LB_SUM_BITS - 1; bit >= 0; bit--) {
		/* The bytes that bpf_csum_diff does not sum must not overflow. */
		if (bit == 1)
			*sum = (*sum & 0xffff) + (*sum >> 16);
		if (!(len & 1 << bit))
			continue;
		if (!sum_block(ctx, off, 1 << bit, sum))
			return 0;
		off += 1 << bit;
	}
	return 1;
}

/* The sum over the pseudo-header of what goes from src to dst (RFC 8200, 8.1; RFC 9293, 3.1). */
static __always_inline __u32 pseudo_sum(const struct pkt *p, __u32 len)
{
	__u32 sum = 0;

	/* IPv4 as it is mapped: the constant words are left out. */
	if (p->v6) {
		sum = csum_add32(csum_add32(sum, p->src.word[0]), p->src.word[1]);
		sum = csum_add32(csum_add32(sum, p->src.word[2]), p->dst.word[0]);
		sum = csum_add32(csum_add32(sum, p->dst.word[1]), p->dst.word[2]);
	}
	sum = csum_add32(csum_add32(sum, p->src.word[3]), p->dst.word[3]);
	return sum + bpf_htons(len) + bpf_htons(p->proto);
}

/*
 * What is to be added to the sum over the `len` bytes at p->l4_off, so that it is all ones if the
 * checksum of what the IP packet carries is right.
 */
static __always_inline __u32 sum_to_check(struct xdp_md *ctx, const struct pkt *p, __u32 kind,
					  __u32 *len)
{
	struct udphdr *udp = pkt_at(ctx, p->l4_off, sizeof(*udp));

	*len = p->end - p->l4_off;
	/* It is not looked at, or the sender computed none (RFC 768). */
	if (kind == LB_ANSWER_TOO_BIG ||
	    (!p->v6 && p->proto == IPPROTO_UDP && udp && !udp->check)) {
		*len = 0;
		return 0xffff;
	}
	return p->v6 || p->proto != IPPROTO_ICMP ? pseudo_sum(p, *len) : 0;
}

/*
 * Makes the verifier forget what kind of packet this is, as forget_path does: it follows the sum
 * once for all of them.
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
 * The bucket of a source: of IPv6 its /64, all of which one host can use. Nobody who does not know
 * the secret can tell whose bucket is whose.
 */
static __always_inline struct answer_bucket *bucket_of(const struct pkt *p, struct cpu_state *cpu)
{
	__u64 sum = p->v6 ? addr_high(&p->src) : p->src.word[3];

	sum = (sum ^ knobs.answer_secret[0]) * knobs.answer_secret[1];
	sum = (sum ^ sum >> 32) * knobs.answer_secret[1];
	return &cpu->answer_buckets[sum >> (64 - LB_ANSWER_BUCKET_BITS)];
}

/* Counts the answer; LB_GO_ON, or the reason why there were too many. */
static __always_inline int limit_answer(const struct pkt *p, struct cpu_state *cpu, __u32 kind)
{
	struct answer_bucket *bucket = bucket_of(p, cpu);
	__u64 now = coarse_now(cpu);

	if (now - bucket->start >= LB_SECOND) {
		bucket->start = now;
		bucket->errors = 0;
		bucket->echoes = 0;
	}
	/* All sources together have as many as there are buckets: a flood of others does not
	 * silence whoever watches the balancer. */
	if (kind == LB_ANSWER_ECHO) {
		if (bucket->echoes >= LB_ECHOES_PER_SOURCE)
			return LB_DROP_source_limited;
		bucket->echoes++;
		return LB_GO_ON;
	}
	if (bucket->errors >= LB_ERRORS_PER_SOURCE)
		return LB_DROP_source_limited;
	bucket->errors++;
	/* Limits of their own: a scan of ports does not take from those whose packets are too long.
	 */
	if (kind == LB_ANSWER_TOO_BIG)
		return second_allows(&cpu->too_big_replies, now, knobs.too_big_replies_per_second)
			       ? LB_GO_ON
			       : LB_DROP_too_big_limited;
	return second_allows(&cpu->refusals, now, LB_REFUSALS_PER_SECOND) ? LB_GO_ON
									  : LB_DROP_refusal_limited;
}

/* An IPv4 header in place of whatever is there, back to the packet's source. */
static __always_inline void write_v4(struct iphdr *ip, const struct pkt *p, __u8 proto, __u32 len)
{
	__builtin_memset(ip, 0, sizeof(*ip));
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = bpf_htons(sizeof(*ip) + len);
	ip->ttl = LB_REPLY_TTL;
	ip->protocol = proto;
	ip->saddr = p->dst.word[3];
	ip->daddr = p->src.word[3];
	ip->check = csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)ip, sizeof(*ip), 0));
}

static __always_inline void write_v6(struct ipv6hdr *ip, const struct pkt *p, __u8 proto, __u32 len)
{
	__builtin_memset(ip, 0, sizeof(*ip));
	ip->version = 6;
	ip->payload_len = bpf_htons(len);
	ip->nexthdr = proto;
	ip->hop_limit = LB_REPLY_TTL;
	__builtin_memcpy(&ip->saddr, &p->dst, sizeof(ip->saddr));
	__builtin_memcpy(&ip->daddr, &p->src, sizeof(ip->daddr));
}

/* Whether an atomic fragment's header is the only extension header. */
static __always_inline int is_atomic_alone(struct xdp_md *ctx, const struct pkt *p)
{
	struct ipv6hdr *ip = pkt_at(ctx, p->l3_off, sizeof(*ip));

	return ip && ip->nexthdr == IPPROTO_FRAGMENT &&
	       p->l4_off == p->l3_off + sizeof(*ip) + LB_FRAGMENT_HEADER;
}

/*
 * Takes it off: the answer is not in pieces, and its header should not say that it could be (RFC
 * 8021). Returns LB_GO_ON or the reason to drop the packet.
 */
static __always_inline int take_off_fragment_header(struct xdp_md *ctx, struct pkt *p)
{
	struct ipv6hdr *ip = pkt_at(ctx, p->l3_off, sizeof(*ip) + LB_FRAGMENT_HEADER);
	struct ipv6hdr *moved;
	struct l2_header l2;
	__u8 hop_limit;

	if (!ip || read_l2(ctx, &l2))
		return LB_DROP_runt;
	hop_limit = ip->hop_limit;
	moved = (void *)ip + LB_FRAGMENT_HEADER;
	*(__be32 *)moved = *(__be32 *)ip; /* version, traffic class, flow label */
	p->ip_len -= LB_FRAGMENT_HEADER;
	p->end -= LB_FRAGMENT_HEADER;
	p->l4_off -= LB_FRAGMENT_HEADER;
	moved->payload_len = bpf_htons(p->ip_len - sizeof(*ip));
	moved->nexthdr = p->proto;
	moved->hop_limit = hop_limit;
	__builtin_memcpy(&moved->saddr, &p->src, sizeof(moved->saddr));
	__builtin_memcpy(&moved->daddr, &p->dst, sizeof(moved->daddr));
	if (bpf_xdp_adjust_head(ctx, LB_FRAGMENT_HEADER) ||
	    !write_l2(ctx, p, &l2, bpf_htons(ETH_P_IPV6), sizeof(*ip) - sizeof(l2.tags)))
		return LB_DROP_no_headroom;
	return LB_GO_ON;
}

/* Turns an echo request round. The header sizes are fixed: nothing else is asked about. */
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
		/* Never 0 where it was right: the number that is added is not. */
		icmp->checksum = csum_add16(icmp->checksum, bpf_htons(ICMP_ECHO << 8));
	}
	swap_macs(eth);
	return LB_TX_echo_reply;
}

/* An ICMP error that quotes the packet's first `quote` bytes. */
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
	/* The pseudo-header: addresses, length, next header. */
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

/* Whether there is an answer that refuses the packet: none to a reset, nor to a header that is
 * longer than the packet. */
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

/* What answers a TCP packet of a connection that does not exist (RFC 9293, 3.10.7.1). */
static __always_inline void reset_of(const struct tcphdr *tcp, __u32 len, struct tcphdr *reset)
{
	__u32 next = bpf_ntohl(tcp->seq) + len - tcp->doff * 4 + tcp->syn + tcp->fin;

	*reset = (struct tcphdr){.source = tcp->dest, .dest = tcp->source, .doff = 5, .rst = 1};
	reset->seq = tcp->ack ? tcp->ack_seq : 0;
	reset->ack_seq = tcp->ack ? 0 : bpf_htonl(next);
	reset->ack = !tcp->ack;
}

/* Makes the frame a reset, no shorter than Ethernet has them if it is not already. */
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
	/* The sum over addresses is the same in both directions. */
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

static __always_inline int unreachable_reply(struct xdp_md *ctx, const struct pkt *p,
					     const struct l2_header *l2)
{
	int reason = p->v6 ? icmp_error_v6(ctx, p, l2, ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH, 0,
					   LB_QUOTE_REFUSED_V6)
			   : icmp_error_v4(ctx, p, l2, ICMP_PORT_UNREACH, 0, LB_QUOTE_REFUSED_V4);

	return reason ? reason : LB_TX_unreachable_reply;
}

/* Answers a packet in the VIP's name. Returns the reason with which it ends. */
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
	if (!is_answerable(p))
		return LB_DROP_unanswerable;
	sum = sum_to_check(ctx, p, kind, &len);
	forget_kind(p, cpu);
	kind = cpu->question.kind;
	sum = forget_number(cpu, sum);
	len = forget_number(cpu, len);
	if (!sum_bytes(ctx, p->l4_off, len, &sum) || csum_fold(sum))
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

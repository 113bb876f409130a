/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* ICMP and ICMPv6: types, and the flow that an error quotes. */
#ifndef L4LB_PACKET_ICMP_H
#define L4LB_PACKET_ICMP_H

#include "l4lb/packet/addr.h"
#include "l4lb/packet/bytes.h"
#include "l4lb/packet/context.h"
#include "l4lb/packet/parse.h"
#include "l4lb/packet/pkt.h"
#include "l4lb/packet/verifier.h"

/* <linux/icmp.h> includes headers of the C library, which do not compile for BPF. */
struct icmphdr {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 unused; /* in an error */
	__be16 mtu;    /* in "fragmentation needed" */
};

#define ICMP_ECHOREPLY	   0
#define ICMP_DEST_UNREACH  3
#define ICMP_PORT_UNREACH  3
#define ICMP_FRAG_NEEDED   4
#define ICMP_ECHO	   8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12

static __always_inline int is_icmp(const struct pkt *p)
{
	return p->proto == (p->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
}

static __always_inline int is_echo_request(const struct pkt *p, __u8 type)
{
	return type == (p->v6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO);
}

/* Whether nobody listens at the port that the quoted packet is for. */
static __always_inline int is_port_unreachable(const struct icmphdr *icmp, int v6)
{
	if (v6)
		return icmp->type == ICMPV6_DEST_UNREACH && icmp->code == ICMPV6_PORT_UNREACH;
	return icmp->type == ICMP_DEST_UNREACH && icmp->code == ICMP_PORT_UNREACH;
}

/*
 * Whether the error must reach the sender of the packet that it quotes (RFC 792, RFC 4443). Source
 * quench need not, as hosts ignore it (RFC 6633), nor do redirects, which are for the next router.
 */
static __always_inline int is_error(const struct pkt *p, __u8 type)
{
	if (p->v6)
		return type >= ICMPV6_DEST_UNREACH && type <= ICMPV6_PARAMPROB;
	return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED ||
	       type == ICMP_PARAMETERPROB;
}

/*
 * Turns p into the flow that the error quotes. The error quotes a packet from the VIP to the
 * client, so source and destination are swapped. Returns LB_GO_ON, or the reason why the error does
 * not concern the balancer.
 */
static __always_inline int quoted_flow(packet_ctx *ctx, struct pkt *p, struct parsed *parsed)
{
	struct lb_addr error_dst = p->dst;
	struct pkt quoted = {.v6 = p->v6};
	struct udphdr *ports; /* TCP has its ports at the same place */
	int reason;

	quoted.l3_off = p->l4_off + sizeof(struct icmphdr);
	quoted.end = p->end;
	reason = p->v6 ? parse_v6(ctx, &quoted) : parse_v4(ctx, &quoted);
	if (reason)
		return LB_PASS_other_icmp;
	forget_path_by(&quoted, parsed);
	if (quoted.flags & (LB_PKT_NO_PORTS | LB_PKT_EXT_HEADERS) ||
	    (quoted.proto != IPPROTO_TCP && quoted.proto != IPPROTO_UDP))
		return LB_PASS_other_icmp;
	/* A router sends the error to the source of the packet that it quotes, the VIP. */
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

#endif

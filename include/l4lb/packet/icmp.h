/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * ICMP and ICMPv6: echo requests to VIP addresses are answered, errors follow the flow they quote.
 * And what becomes of a packet that is too long.
 */
#ifndef L4LB_PACKET_ICMP_H
#define L4LB_PACKET_ICMP_H

#include "l4lb/balance/answer.h"
#include "l4lb/packet/parse.h"
#include "l4lb/balance/vips.h"

static __always_inline int is_icmp(const struct pkt *p)
{
	return p->proto == (p->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
}

static __always_inline int is_echo_request(const struct pkt *p, __u8 type)
{
	return type == (p->v6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO);
}

/*
 * An error that the sender of a flow's packets must hear of: RFC 792 and RFC 4443, but for source
 * quench, which hosts must ignore (RFC 6633), and redirects, which are for the next router only.
 */
static __always_inline int is_error(const struct pkt *p, __u8 type)
{
	if (p->v6)
		return type >= ICMPV6_DEST_UNREACH && type <= ICMPV6_PARAMPROB;
	return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED ||
	       type == ICMP_PARAMETERPROB;
}

/*
 * Turns p into the flow that the error quotes, seen from the client: what the VIP's real sent to
 * the client came from the other direction. Returns LB_GO_ON, or the reason why the error is not
 * the balancer's business.
 */
static __always_inline int quoted_flow(struct xdp_md *ctx, struct pkt *p, struct cpu_state *cpu)
{
	struct lb_addr error_dst = p->dst;
	struct pkt quoted = {.v6 = p->v6};
	struct udphdr *ports; /* TCP's ports lie in the same place */
	int reason;

	quoted.l3_off = p->l4_off + sizeof(struct icmphdr);
	quoted.end = p->end;
	reason = p->v6 ? parse_v6(ctx, &quoted) : parse_v4(ctx, &quoted);
	if (reason)
		return LB_PASS_other_icmp;
	forget_path(&quoted, cpu);
	if (quoted.flags & (LB_PKT_NO_PORTS | LB_PKT_EXT_HEADERS) ||
	    (quoted.proto != IPPROTO_TCP && quoted.proto != IPPROTO_UDP))
		return LB_PASS_other_icmp;
	/* The router that answers was told by the source of the quoted packet: the VIP. */
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

/* Returns LB_GO_ON for an error, with p turned into its flow; or the reason with which the packet
 * ends. */
static __always_inline int handle_icmp(struct xdp_md *ctx, struct pkt *p, struct cpu_state *cpu)
{
	__u8 *type = NULL;
	struct vip marker;
	int reason;

	check_length(p);
	if (!has(p, LB_PKT_NO_PORTS))
		type = packet_at(ctx, p, p->l4_off, sizeof(struct icmphdr));
	if (type && is_error(p, *type))
		return quoted_flow(ctx, p, cpu);
	if (type && !is_echo_request(p, *type))
		return LB_PASS_other_icmp;
	reason = for_vip_address(p, &marker, LB_GO_ON);
	if (reason)
		return reason;
	if (has(p, LB_PKT_FRAGMENT))
		return LB_DROP_fragment;
	if (has(p, LB_PKT_OPTIONS))
		return LB_DROP_ip_options;
	if (!type)
		return LB_DROP_runt;
	if (has(p, LB_PKT_BAD_LENGTH))
		return LB_DROP_bad_length;
	if (p->v6 && p->l4_off != p->l3_off + sizeof(struct ipv6hdr) && !is_atomic_alone(ctx, p))
		return LB_DROP_extension_headers;
	if (marker.flags & LB_VIP_NO_ECHO)
		return LB_DROP_no_echo;
	return ask(p, cpu, LB_ANSWER_ECHO, 0, LB_DROP_no_real);
}

/* Ends a packet of which `mtu` bytes could be forwarded at the most. */
static __always_inline int too_big(const struct pkt *p, __u32 mtu, struct cpu_state *cpu)
{
	/* Never an ICMP error about an ICMP error (RFC 1122, 3.2.2). */
	if (!knobs.oversize_reply || has(p, LB_PKT_ICMP_ERROR))
		return rarely(LB_DROP_too_big);
	/* No answer may name less; the sender would go on with packets of this size. */
	if (p->v6 && mtu < LB_MIN_MTU_V6)
		return rarely(LB_DROP_small_mtu);
	return ask(p, cpu, LB_ANSWER_TOO_BIG, mtu, LB_DROP_too_big);
}

#endif

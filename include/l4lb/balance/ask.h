/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Packets that are to be answered: pings, packets that are too long, and refused ones.
 *
 * The code that finds out calls ask(), which writes the question to the CPU's state and returns
 * LB_ANSWER. The program answers at one place, at its end: the verifier then follows that code
 * once, not once for each path that leads there. For the same reason, the few packets to a real
 * that have to be summed are finished there (ask_gue_checksum).
 */
#ifndef L4LB_BALANCE_ASK_H
#define L4LB_BALANCE_ASK_H

#include "l4lb/state/knobs.h"
#include "l4lb/packet/atomic_fragment.h"
#include "l4lb/packet/bytes.h"
#include "l4lb/packet/gue.h"
#include "l4lb/packet/icmp.h"
#include "l4lb/packet/parse.h"
#include "l4lb/packet/pkt.h"
#include "l4lb/packet/verifier.h"
#include "l4lb/balance/vips.h"

/* Returned instead of a reason: the packet is to be answered. */
#define LB_ANSWER (-1)

/* Every IPv6 path carries packets of this size (RFC 8200, section 5). */
#define LB_MIN_MTU_V6 1280

/* Asks for an answer. `otherwise` is the reason if the packet may not be refused. */
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

/*
 * Asks for the UDP checksum of a packet that was just encapsulated in IPv6 (packet/gue.h). `why` is
 * the reason with which it then ends.
 */
static __always_inline int ask_gue_checksum(const struct pkt *p, struct cpu_state *cpu, int why)
{
	cpu->question = (struct question){
		.kind = LB_ANSWER_GUE,
		.otherwise = why,
		.frame_len = p->frame_len,
		.ip_len = sizeof(struct ipv6hdr) + gue_len(p),
		.l3_off = p->l3_off,
		.l4_off = p->l3_off + sizeof(struct ipv6hdr),
		.proto = IPPROTO_UDP,
		.v6 = 1,
		.has_vip = p->has_vip,
		.vip = p->vip,
		.real = p->real,
		.counter = p->counter,
		.new_flow = p->new_flow,
	};
	return rarely(LB_ANSWER);
}

/*
 * Handles ICMP. Returns LB_GO_ON for an error about a flow, with p turned into that flow; or
 * LB_ANSWER for a ping to a VIP address; or the reason with which the packet ends.
 */
static __always_inline int handle_icmp(struct xdp_md *ctx, struct pkt *p, struct cpu_state *cpu)
{
	__u8 *type = NULL;
	struct vip marker;
	int reason;

	check_length(p);
	if (!has(p, LB_PKT_NO_PORTS))
		type = packet_at(ctx, p, p->l4_off, sizeof(struct icmphdr));
	if (type && is_error(p, *type))
		return quoted_flow(ctx, p, &cpu->parsed);
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

/*
 * Returns the reason of an ICMP error that is about no flow of a VIP. p is what quoted_flow() made
 * of it: the source is the host to which the quoted packet went.
 */
static __always_inline int about_no_vip(struct xdp_md *ctx, const struct pkt *p)
{
	struct lb_addr source = knobs.source6;
	struct icmphdr *icmp;

	if (p->proto != IPPROTO_UDP || p->sport != knobs.gue_port)
		return LB_PASS_other_icmp;
	if (!p->v6)
		addr_from_v4(&source, knobs.source4);
	if (!addr_equal(&p->dst, &source))
		return LB_PASS_other_icmp;
	icmp = packet_at(ctx, p, p->l4_off, sizeof(*icmp));
	if (!icmp || !is_port_unreachable(icmp, p->v6))
		return LB_PASS_other_icmp;
	return LB_PASS_gue_refused;
}

/* Ends a packet that is longer than `mtu`, the most that can be forwarded. */
static __always_inline int too_big(const struct pkt *p, __u32 mtu, struct cpu_state *cpu)
{
	/* No ICMP error answers an ICMP error (RFC 1122, section 3.2.2). */
	if (!knobs.oversize_reply || has(p, LB_PKT_ICMP_ERROR))
		return rarely(LB_DROP_too_big);
	/* An answer may not name less, and the sender would go on with packets of LB_MIN_MTU_V6. */
	if (p->v6 && mtu < LB_MIN_MTU_V6)
		return rarely(LB_DROP_small_mtu);
	return ask(p, cpu, LB_ANSWER_TOO_BIG, mtu, LB_DROP_too_big);
}

#endif

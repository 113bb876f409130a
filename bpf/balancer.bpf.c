// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The load balancer. This page shows a newcomer around.
 *
 * The way of a packet to a VIP:
 *
 *   balance/decapsulate.h        takes it out of a tunnel that ends here, if there are any
 *   packet/parse.h               Ethernet, VLAN tags, IP, TCP or UDP: fills struct pkt
 *   balance/vips.h               finds the VIP; a packet for none goes on to the kernel (not_vip)
 *   balance/ingress.h            checks the interface and the frame's MAC
 *   balance/select.h             selects the real:
 *     balance/ids.h                by a server id in the packet, if the VIP has such (QUIC),
 *     balance/connection_table.h   or by this CPU's table of flows,
 *     balance/ring.h               or by the VIP's ring; the table then remembers the choice
 *   packet/encap.h               puts an outer header in front, addressed to the real; or
 *     balance/other_ways.h         sends it by GUE or L2, or leaves it to this host
 *   balance/verdict.h            counts the packet by its reason, and ends it with XDP_TX
 *
 * Other ways: packet/icmp.h finds the flow that an ICMP error quotes, which then goes the same way.
 * balance/ask.h notes packets that are to be answered, and balance/answer.h answers them at the end
 * of the program: pings to a VIP address, packets that are too long, and refused ones. A packet
 * that no other program of the chain (chain.h) and no VIP wants reaches the kernel unchanged.
 *
 * Each function returns LB_GO_ON (0), or the reason with which the packet ends. finish() is the
 * only exit. Flags in struct pkt mark what is wrong with a packet, as options or fragments; unfit()
 * judges them after a VIP was found, so that the host's own packets pass.
 *
 * What costs. Most packets are plain (packet/parse.h): untagged TCP or UDP without IP options. The
 * program has three copies of its code: for plain IPv4, for plain IPv6, and for all others. In the
 * first two much is constant, and clang removes the rest. A packet of a known flow reads the index
 * of VIPs, one cache line of the connection table, the real, and three counters. With few flows the
 * instructions count; with many flows cache misses do, about one per map. So maps that are read for
 * each packet are arrays, which the kernel reads without a call; code for rare packets is kept out
 * of the way by rarely(); nothing divides. If you change this path, run `make bench ARGS=tcp4-hit`
 * before and after (docs/performance.md).
 *
 * What the verifier demands: packet/verifier.h.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "l4lb/chain.h"
#include "l4lb/abi/abi.h"
#include "l4lb/state/knobs.h"
#include "l4lb/state/maps.h"
#include "l4lb/packet/encap.h"
#include "l4lb/packet/icmp.h"
#include "l4lb/packet/parse.h"
#include "l4lb/packet/pkt.h"
#include "l4lb/packet/verifier.h"
#include "l4lb/packet/way.h"
#include "l4lb/balance/answer.h"
#include "l4lb/balance/ask.h"
#include "l4lb/balance/decapsulate.h"
#include "l4lb/balance/ingress.h"
#include "l4lb/balance/other_ways.h"
#include "l4lb/balance/select.h"
#include "l4lb/balance/verdict.h"
#include "l4lb/balance/vips.h"

_Static_assert(L4LB_CHAIN_SLOTS == LB_CHAIN_SLOTS, "abi/limits.h repeats chain.h");

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/*
 * Returns the reason why no real could take this packet of a VIP, or LB_GO_ON. handle_icmp in
 * balance/ask.h judges pings. Plain packets have none of these flags (parse_plain_l4).
 */
static __always_inline int unfit(const struct pkt *p)
{
	if (has(p, LB_PKT_FRAGMENT))
		return LB_DROP_fragment;
	if (has(p, LB_PKT_OPTIONS))
		return LB_DROP_ip_options;
	if (has(p, LB_PKT_RUNT))
		return LB_DROP_runt;
	if (has(p, LB_PKT_BAD_LENGTH))
		return LB_DROP_bad_length;
	return LB_GO_ON;
}

/* Ends a packet of a VIP that has no usable real. */
static __always_inline int no_real(const struct pkt *p, const struct vip *vip,
				   struct cpu_state *cpu)
{
	if (!(vip->flags & LB_VIP_REJECTS_NO_REAL) || has(p, LB_PKT_ICMP_ERROR))
		return rarely(LB_DROP_no_real);
	return ask(p, cpu, LB_ANSWER_REFUSAL, 0, LB_DROP_no_real);
}

static __always_inline int is_other_mac(const struct pkt *p, const struct interface *interface)
{
	return p->plain ? !is_ours(interface, p->mac) : has(p, LB_PKT_OTHER_MAC);
}

/* Ends a packet that is for no VIP. `found` is what find_vip has set. */
static __always_inline int not_vip(struct xdp_md *ctx, const struct pkt *p,
				   const struct interface *interface, struct vip *found,
				   struct cpu_state *cpu)
{
	__u32 rule;

	if (has(p, LB_PKT_ICMP_ERROR))
		return rarely(about_no_vip(ctx, p));
	rule = other_ports(p, found);
	if (rule <= LB_OTHER_PORTS_PASS || !interface || is_other_mac(p, interface))
		return rarely(LB_PASS_not_vip);
	if (rule == LB_OTHER_PORTS_DROP || unfit(p))
		return rarely(LB_DROP_other_port);
	return ask(p, cpu, LB_ANSWER_REFUSAL, 0, LB_DROP_other_port);
}

/* The end of forward() without a real, or for another way than IP in IP. */
static __always_inline int forward_otherwise(struct xdp_md *ctx, struct pkt *p,
					     const struct interface *interface,
					     const struct vip *vip, const struct real *real,
					     struct cpu_state *cpu, int why)
{
	__u32 mtu = path_mtu(interface, vip->flags, real);
	__u32 way = encap_of(vip->flags, real);

	if (ip_bytes(p) > mtu)
		return too_big(p, mtu, cpu);
	if (!real)
		return no_real(p, vip, cpu);
	if (way == LB_ENCAP_LOCAL) {
		/* As is_no_client() in balance/decapsulate.h: the real is this host. */
		if (knobs.decapsulates && cpu->taken_out && addr_equal(&p->src, &real->addr))
			return rarely(LB_DROP_decap_inner_address);
		return rarely(LB_PASS_local);
	}
	return send_by(way, ctx, p, interface, vip, real, cpu, why);
}

static __always_inline int forward(struct xdp_md *ctx, struct pkt *p,
				   const struct interface *interface, const struct vip *vip,
				   struct cpu_state *cpu)
{
	struct real *real;
	int why, reason;
	__u32 mtu;

	/* A packet without ports is for one of the VIPs of its address, but nobody knows which. */
	p->vip = vip->id;
	p->has_vip = p->plain || !(vip->flags & LB_VIP_MARKER);
	reason = unfit(p);
	if (reason)
		return reason;
	why = select_real(ctx, p, vip, interface, cpu, &real);
	p->counter = vip->counters + p->real;
	if (!real || takes_other_way(vip->flags, real))
		return forward_otherwise(ctx, p, interface, vip, real, cpu, why);
	mtu = ipip_path_mtu(interface, real);
	if (ip_bytes(p) > mtu)
		return too_big(p, mtu, cpu);
	reason = encapsulate(ctx, p, interface, real);
	if (reason)
		return rarely(reason);
	return has(p, LB_PKT_ICMP_ERROR) ? LB_TX_icmp_error : why;
}

static __always_inline int for_vip(struct xdp_md *ctx, struct pkt *p,
				   const struct interface *interface, struct cpu_state *cpu)
{
	struct vip vip;

	if (!find_vip(p, &vip))
		return not_vip(ctx, p, interface, &vip, cpu);
	if (!interface)
		return rarely(LB_PASS_other_interface);
	if (is_other_mac(p, interface))
		return rarely(LB_PASS_other_mac);
	return forward(ctx, p, interface, &vip, cpu);
}

/*
 * Parses a packet that is not plain. Returns LB_GO_ON if it may be for a VIP, or the reason with
 * which it ends.
 */
static __always_inline int classify(struct xdp_md *ctx, struct pkt *p, struct cpu_state *cpu)
{
	int reason = p->v6 ? parse_v6(ctx, p) : parse_v4(ctx, p);
	struct vip marker;

	if (reason)
		return reason;
	forget_path(p, cpu);
	if (has(p, LB_PKT_EXT_HEADERS))
		return for_vip_address(
			p, &marker, has(p, LB_PKT_RUNT) ? LB_DROP_runt : LB_DROP_extension_headers);
	if (is_icmp(p))
		return handle_icmp(ctx, p, cpu);
	if (p->proto == IPPROTO_TCP || p->proto == IPPROTO_UDP) {
		parse_l4(ctx, p);
		return LB_GO_ON;
	}
	/* The transport header may follow further extension headers. */
	if (has(p, LB_PKT_FRAGMENT) && p->v6)
		return for_vip_address(p, &marker, LB_DROP_fragment);
	return LB_PASS_other_protocol;
}

static __always_inline int balance(struct xdp_md *ctx, struct pkt *p,
				   const struct interface *interface, struct cpu_state *cpu)
{
	int reason = classify(ctx, p, cpu);

	if (reason)
		return reason;
	forget_path(p, cpu);
	return for_vip(ctx, p, interface, cpu);
}

/* Each family has its own copy of the code, with p->v6 as a constant. */
static __always_inline int balance_any(struct xdp_md *ctx, struct pkt *p, struct cpu_state *cpu)
{
	struct interface *interface = ingress(ctx);
	__be16 proto = parse_l2(ctx, p);

	if (!interface)
		p->flags |= LB_PKT_FOREIGN;
	else if (!is_ours(interface, p->mac))
		p->flags |= LB_PKT_OTHER_MAC;
	p->flags = forget_number(cpu, p->flags);
	if (proto == bpf_htons(ETH_P_IP))
		return balance(ctx, p, interface, cpu);
	if (proto != bpf_htons(ETH_P_IPV6))
		return LB_PASS_not_ip;
	p->v6 = 1;
	return balance(ctx, p, interface, cpu);
}

SEC("xdp")
int balancer(struct xdp_md *ctx)
{
	struct pkt v4 = {}, v6 = {}, any = {}, answered = {};
	struct cpu_state *cpu;
	__u32 zero = 0;
	int reason;

	cpu = bpf_map_lookup_elem(&cpu_states, &zero);
	if (!cpu)
		return XDP_ABORTED;
	if (knobs.decapsulates) {
		struct pkt outer = {.frame_len = frame_length(ctx)};

		reason = take_out(ctx, &outer, cpu);
		if (reason)
			return finish(ctx, &outer, cpu, reason);
		/* The same as below. */
		barrier();
	}
	v4.frame_len = v6.frame_len = frame_length(ctx);
	if (parse_plain_v4(ctx, &v4)) {
		reason = for_vip(ctx, &v4, ingress(ctx), cpu);
		if (reason != LB_ANSWER)
			return finish(ctx, &v4, cpu, reason);
	} else if (parse_plain_v6(ctx, &v6)) {
		reason = for_vip(ctx, &v6, ingress(ctx), cpu);
		if (reason != LB_ANSWER)
			return finish(ctx, &v6, cpu, reason);
	} else {
		/*
		 * After the barrier, clang uses nothing that was read before it, so the verifier
		 * follows the rest once, not once for each path that leads here.
		 */
		barrier();
		any.frame_len = frame_length(ctx);
		reason = balance_any(ctx, &any, cpu);
		if (reason != LB_ANSWER)
			return finish(ctx, &any, cpu, reason);
	}
	/* The same as above. */
	barrier();
	reason = forget_number(cpu, answer(ctx, &answered, cpu));
	return finish(ctx, &answered, cpu, reason);
}

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The load balancer: a packet's way from the wire to the real that serves its flow. */
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
#include "l4lb/balance/answer.h"
#include "l4lb/balance/ask.h"
#include "l4lb/balance/ingress.h"
#include "l4lb/balance/select.h"
#include "l4lb/balance/verdict.h"
#include "l4lb/balance/vips.h"

_Static_assert(L4LB_CHAIN_SLOTS == LB_CHAIN_SLOTS, "abi.h repeats chain.h");

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* A packet of a VIP that cannot be balanced, whatever real would serve it. */
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

/* Ends a packet of a VIP without a real that could take it. */
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

/* Ends a packet that is for no VIP; `found` is what find_vip has left. */
static __always_inline int not_vip(const struct pkt *p, const struct interface *interface,
				   struct vip *found, struct cpu_state *cpu)
{
	__u32 rule;

	if (has(p, LB_PKT_ICMP_ERROR))
		return rarely(LB_PASS_other_icmp);
	rule = other_ports(p, found);
	if (rule <= LB_OTHER_PORTS_PASS || !interface || is_other_mac(p, interface))
		return rarely(LB_PASS_not_vip);
	if (rule == LB_OTHER_PORTS_DROP || unfit(p))
		return rarely(LB_DROP_other_port);
	return ask(p, cpu, LB_ANSWER_REFUSAL, 0, LB_DROP_other_port);
}

static __always_inline int forward(struct xdp_md *ctx, struct pkt *p,
				   const struct interface *interface, const struct vip *vip,
				   struct cpu_state *cpu)
{
	struct real *real;
	int why, reason;
	__u32 mtu;

	/* A packet without ports is for some VIP of its address, nobody knows which. */
	p->vip = vip->id;
	p->has_vip = p->plain || !(vip->flags & LB_VIP_MARKER);
	reason = unfit(p);
	if (reason)
		return reason;
	why = select_real(ctx, p, vip, interface, cpu, &real);
	mtu = path_mtu(interface, real);
	if (ip_bytes(p) > mtu)
		return too_big(p, mtu, cpu);
	if (!real)
		return no_real(p, vip, cpu);
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
		return not_vip(p, interface, &vip, cpu);
	if (!interface)
		return rarely(LB_PASS_other_interface);
	if (is_other_mac(p, interface))
		return rarely(LB_PASS_other_mac);
	return forward(ctx, p, interface, &vip, cpu);
}

/* What kind of packet this is. Returns LB_GO_ON if it may be for a VIP, or the reason with which it
 * ends. */
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
	/* What it is a fragment of may hide behind further extension headers. */
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

/* The code for either family is a copy of its own: p->v6 is a constant in it. */
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
	__u32 zero = 0, frame_len = frame_length(ctx);
	struct pkt v4 = {.frame_len = frame_len}, v6 = {.frame_len = frame_len}, any = {};
	struct pkt answered = {};
	struct cpu_state *cpu;
	int reason;

	cpu = bpf_map_lookup_elem(&cpu_states, &zero);
	if (!cpu)
		return XDP_ABORTED;
	if (parse_plain_v4(ctx, &v4)) {
		reason = for_vip(ctx, &v4, ingress(ctx), cpu);
		if (reason != LB_ANSWER)
			return finish(ctx, &v4, cpu, reason);
	} else if (parse_plain_v6(ctx, &v6)) {
		reason = for_vip(ctx, &v6, ingress(ctx), cpu);
		if (reason != LB_ANSWER)
			return finish(ctx, &v6, cpu, reason);
	} else {
		/* Nothing is kept of what was read so far: the verifier follows the rest once, not
		 * for each way that leads here. */
		barrier();
		any.frame_len = frame_length(ctx);
		reason = balance_any(ctx, &any, cpu);
		if (reason != LB_ANSWER)
			return finish(ctx, &any, cpu, reason);
	}
	/* Nor here. */
	barrier();
	reason = forget_number(cpu, answer(ctx, &answered, cpu));
	return finish(ctx, &answered, cpu, reason);
}

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The load balancer: a packet's way from the wire to the real that serves its flow. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "l4lb/abi.h"
#include "l4lb/chain.h"
#include "l4lb/config.h"
#include "l4lb/maps.h"
#include "l4lb/pkt.h"
#include "l4lb/parse.h"
#include "l4lb/select.h"
#include "l4lb/icmp.h"
#include "l4lb/encap.h"
#include "l4lb/verdict.h"

_Static_assert(L4LB_CHAIN_SLOTS == LB_CHAIN_SLOTS, "abi.h repeats chain.h");

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The interface the packet came in by, if this instance serves it. */
static __always_inline struct interface *ingress(struct xdp_md *ctx)
{
	__u32 ifindex = ctx->ingress_ifindex;
	struct interface *interface;
	__u32 at;

	/* Unrolled, as verifiers before Linux 6.2 refuse a loop that begins behind a call. */
#pragma unroll
	for (int i = 0; i < LB_INTERFACE_PROBES; i++) {
		at = (ifindex + i) % LB_INTERFACE_PLACES;
		interface = bpf_map_lookup_elem(&interfaces, &at);
		if (interface && interface->ifindex == ifindex)
			return interface;
	}
	return NULL;
}

/* A packet of a VIP that cannot be balanced, whatever real would serve it. */
static __always_inline int unfit(const struct pkt *p)
{
	if (p->flags & LB_PKT_FRAGMENT)
		return LB_DROP_fragment;
	if (p->flags & LB_PKT_OPTIONS)
		return LB_DROP_ip_options;
	if (p->flags & LB_PKT_RUNT)
		return LB_DROP_runt;
	if (p->flags & LB_PKT_BAD_LENGTH)
		return LB_DROP_bad_length;
	return LB_GO_ON;
}

/* Bytes of IP packet that can go to the real by way of the interface. */
static __always_inline __u32 path_mtu(const struct interface *interface, const struct real *real)
{
	__u32 mtu = interface->mtu - encap_overhead(real);

	return mtu < knobs.max_ip_packet ? mtu : knobs.max_ip_packet;
}

static __always_inline int forward(struct xdp_md *ctx, struct pkt *p,
				   const struct interface *interface, const struct vip *vip,
				   struct cpu_state *cpu)
{
	struct lb_addr client = p->src;
	struct real *real;
	int why, reason;

	/* A packet without ports is for some VIP of its address, nobody knows which. */
	p->vip = vip->id;
	p->has_vip = !(vip->flags & LB_VIP_MARKER);
	reason = unfit(p);
	if (reason)
		return reason;
	why = select_real(ctx, p, vip, cpu, &real);
	if (!real)
		return why;
	if (p->frame_len - p->l3_off > path_mtu(interface, real))
		return too_big(ctx, p, &client, path_mtu(interface, real), cpu);
	reason = encapsulate(ctx, p, interface, real);
	if (reason)
		return reason;
	return p->flags & LB_PKT_ICMP_ERROR ? LB_TX_icmp_error : why;
}

static __always_inline int balance(struct xdp_md *ctx, struct pkt *p, struct cpu_state *cpu)
{
	__be16 proto = parse_l2(ctx, p);
	struct interface *interface;
	struct vip vip;
	int reason;

	if (proto == bpf_htons(ETH_P_IP))
		reason = parse_v4(ctx, p);
	else if (proto == bpf_htons(ETH_P_IPV6))
		reason = parse_v6(ctx, p);
	else
		reason = LB_PASS_not_ip;
	if (reason)
		return reason;

	interface = ingress(ctx);
	if (!interface)
		p->flags |= LB_PKT_FOREIGN;
	if (p->flags & LB_PKT_EXT_HEADERS)
		return for_vip_address(p, p->flags & LB_PKT_RUNT ? LB_DROP_runt
								 : LB_DROP_extension_headers);
	if (is_icmp(p)) {
		reason = handle_icmp(ctx, p);
		if (reason)
			return reason;
	} else if (p->proto == IPPROTO_TCP || p->proto == IPPROTO_UDP) {
		parse_l4(ctx, p);
	} else if (p->flags & LB_PKT_FRAGMENT && p->flags & LB_PKT_V6) {
		/* What it is a fragment of may hide behind further extension headers. */
		return for_vip_address(p, LB_DROP_fragment);
	} else {
		return LB_PASS_other_protocol;
	}

	if (!find_vip(p, &vip))
		return p->flags & LB_PKT_ICMP_ERROR ? LB_PASS_other_icmp : LB_PASS_not_vip;
	if (!interface)
		return LB_PASS_other_interface;
	return forward(ctx, p, interface, &vip, cpu);
}

SEC("xdp")
int balancer(struct xdp_md *ctx)
{
	struct pkt p = {.frame_len = ctx->data_end - ctx->data};
	struct cpu_state *cpu;
	__u32 zero = 0;

	cpu = bpf_map_lookup_elem(&cpu_states, &zero);
	if (!cpu)
		return XDP_ABORTED;
	return finish(ctx, &p, cpu, balance(ctx, &p, cpu));
}

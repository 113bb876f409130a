/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The only exit: counts the packet by its reason, and turns the reason into a verdict. */
#ifndef L4LB_BALANCE_VERDICT_H
#define L4LB_BALANCE_VERDICT_H

#include "l4lb/chain.h"
#include "l4lb/state/knobs.h"
#include "l4lb/state/maps.h"
#include "l4lb/packet/pkt.h"
#include "l4lb/packet/verifier.h"
#include "l4lb/watch/captures.h"
#include "l4lb/watch/trace.h"

static __always_inline void count(struct count *count, const struct pkt *p)
{
	count->packets++;
	count->bytes += p->frame_len;
}

static __always_inline struct vip_count *count_of_vip(const struct pkt *p)
{
	__u32 id = p->vip;

	return bpf_map_lookup_elem(&vip_counts, &id);
}

static __always_inline void count_dropped(const struct pkt *p)
{
	struct vip_count *vip = count_of_vip(p);

	if (vip)
		vip->dropped++;
}

/* Counts a packet that goes to a real, even if that is this host. */
static __always_inline void count_forwarded(const struct pkt *p, struct cpu_state *cpu)
{
	struct vip_count *vip = count_of_vip(p);
	/* An offset into a value has to be exact for the verifier, on each path that leads here. */
	__u32 counter = forget_number(cpu, p->counter);
	__u32 at = counter / LB_COUNTS_PER_BLOCK;
	struct count_block *block = bpf_map_lookup_elem(&real_counts, &at);

	if (vip) {
		count(&vip->sent, p);
		vip->new_flows += p->new_flow;
	}
	if (block)
		count(&block->of[counter % LB_COUNTS_PER_BLOCK], p);
}

/* Whether the packet went to a real, even if that is this host. */
static __always_inline int has_real(int reason)
{
	return reason <= LB_TX_icmp_error || reason == LB_PASS_local;
}

/* Gives the packet to the captures at exit. Returns only if there are none. */
static __always_inline void captured(struct xdp_md *ctx, const struct pkt *p, int reason,
				     __u32 verdict)
{
	__u64 first = capture_next.place[LB_CAPTURE_EXIT];
	struct decision *decision;
	__u32 zero = 0;

	if (__builtin_expect(!first, 1))
		return;
	decision = bpf_map_lookup_elem(&capture_verdict, &zero);
	if (!decision)
		return;
	decision->reason = reason;
	decision->verdict = verdict;
	decision->vip = p->has_vip ? p->vip : LB_CAPTURE_NO_VIP;
	decision->real = has_real(reason) ? p->real : 0;
	decision->slot = l4lb_slot;
	bpf_tail_call(ctx, &captures, first);
}

static __always_inline int finish(struct xdp_md *ctx, const struct pkt *p, struct cpu_state *cpu,
				  int reason)
{
	/* The verifier does not know that each reason is one of the enum. */
	if (reason <= LB_GO_ON || reason >= LB_REASON_COUNT)
		return XDP_ABORTED;
	if (knobs.decapsulates && cpu->taken_out) {
		/* Filters of the network have not seen it: balance/decapsulate.h. */
		if (reason >= LB_PASS_not_vip && reason != LB_PASS_local)
			reason = LB_DROP_decap_not_vip;
		else
			cpu->table[LB_TABLE_decapsulated]++;
	}
	if (tracing)
		trace_end(p, reason);
	count(&cpu->reasons[(__u32)reason], p);
	/* Most packets. forward() has found their VIP. */
	if (reason <= LB_TX_icmp_error) {
		count_forwarded(p, cpu);
		captured(ctx, p, reason, XDP_TX);
		return XDP_TX;
	}
	if (reason >= LB_PASS_not_vip) {
		if (reason == LB_PASS_local)
			count_forwarded(p, cpu);
		captured(ctx, p, reason, XDP_PASS);
		return l4lb_hand_on(ctx);
	}
	if (reason >= LB_DROP_too_big) {
		if (p->has_vip)
			count_dropped(p);
		captured(ctx, p, reason, XDP_DROP);
		return XDP_DROP;
	}
	captured(ctx, p, reason, XDP_TX);
	return XDP_TX;
}

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The one exit: counts the packet by its reason and turns the reason into a verdict. */
#ifndef L4LB_VERDICT_H
#define L4LB_VERDICT_H

#include "chain.h"
#include "maps.h"
#include "pkt.h"
#include "trace.h"

static __always_inline void count(struct count *count, const struct pkt *p)
{
	count->packets++;
	count->bytes += p->frame_len;
}

static __always_inline void count_vip(const struct pkt *p, int reason)
{
	__u32 id = p->vip;
	struct vip_count *vip = bpf_map_lookup_elem(&vip_counts, &id);

	if (!vip)
		return;
	if (reason > LB_TX_icmp_error) {
		vip->dropped++;
		return;
	}
	count(&vip->sent, p);
	vip->new_flows += p->new_flow;
}

static __always_inline void count_real(const struct pkt *p)
{
	__u32 id = p->real;
	struct count *real = bpf_map_lookup_elem(&real_counts, &id);

	if (real)
		count(real, p);
}

static __always_inline int finish(struct xdp_md *ctx, const struct pkt *p, struct cpu_state *cpu,
				  int reason)
{
	/* The verifier does not know that every reason is one of the enum. */
	if (reason <= LB_GO_ON || reason >= LB_REASON_COUNT)
		return XDP_ABORTED;
	if (tracing)
		trace_end(p, reason);
	count(&cpu->reasons[reason], p);
	if (reason >= LB_PASS_not_vip)
		return l4lb_hand_on(ctx);
	if (p->has_vip)
		count_vip(p, reason);
	if (reason >= LB_DROP_too_big)
		return XDP_DROP;
	if (reason <= LB_TX_icmp_error)
		count_real(p);
	return XDP_TX;
}

#endif

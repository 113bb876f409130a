// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The programs in front of captures and behind them. The first one is in slot 0 of the chain while
 * somebody captures at entry.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "l4lb/chain.h"
#include "l4lb/abi/abi.h"
#include "l4lb/watch/captures.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("xdp")
int capture(struct xdp_md *ctx)
{
	follow_captures(ctx, LB_CAPTURE_ENTRY, 0);
	return l4lb_hand_on(ctx);
}

SEC("xdp")
int entry_end(struct xdp_md *ctx)
{
	return l4lb_hand_on(ctx);
}

/* Does what the balancer was about to do. */
SEC("xdp")
int exit_end(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct decision *decision = bpf_map_lookup_elem(&capture_verdict, &zero);

	if (!decision)
		return XDP_ABORTED;
	if (decision->verdict != XDP_PASS)
		return decision->verdict;
	return l4lb_hand_on_behind(ctx, decision->slot);
}

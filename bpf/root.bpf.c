// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The root program is attached to the interface. It runs the chain and does nothing else, so that
 * it never has to change.
 */
#include "l4lb/chain.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("xdp")
int l4lb_root(struct xdp_md *ctx)
{
	return l4lb_hand_on(ctx);
}

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Another program in the chain, which looks at nothing and hands every packet on. */
#include "l4lb/chain.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("xdp")
int neighbour(struct xdp_md *ctx)
{
	return l4lb_hand_on(ctx);
}

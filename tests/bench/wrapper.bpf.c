// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Hands packet after packet to a program under test, or sends them. */
#include "traffic.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* How many packets there were. */
__u32 packets = 0;

/* The id of the flow whose turn it is. */
static __always_inline __u32 next_flow(void)
{
	__u32 at, turn = packets++;

	if (!traffic.flows)
		return traffic.first + turn;
	if (traffic.stride) {
		at = (__u64)((traffic.begin + turn) * traffic.stride) * traffic.flows >> 32;
		return at < traffic.known ? traffic.first + at : traffic.strangers + turn;
	}
	if (packets >= traffic.flows)
		packets = 0;
	return traffic.first + turn;
}

SEC("xdp")
int wrapper(struct xdp_md *ctx)
{
	void *frame = restored(ctx);

	if (!frame || set_flow(frame, next_flow()))
		return XDP_ABORTED;
	bpf_tail_call(ctx, &subject, 0);
	return XDP_ABORTED;
}

/* The subject that does nothing: with it, the wrapper measures itself. */
SEC("xdp")
int nothing(struct xdp_md *ctx)
{
	return XDP_TX;
}

/* For live frames: out of the interface that the frame is said to come in by. */
SEC("xdp")
int generator(struct xdp_md *ctx)
{
	void *frame = restored(ctx);

	if (!frame || set_flow(frame, next_flow()))
		return XDP_ABORTED;
	return XDP_TX;
}

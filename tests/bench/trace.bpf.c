// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Hands TCP packets to a program under test in the order that user space has written down. */
#include "traffic.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Packets of a trace: a power of two. Repeated in hit_ratio.rs. */
#define TRACE_PACKETS (1 << 16)

/* A packet: the id of its flow, and this bit if it opens the connection. */
#define TRACE_SYN (1U << 31)

#define TCP_SYN 0x02
#define TCP_ACK 0x10
/* From the source port to the flags. */
#define TCP_FLAGS_AT 13

struct {
	__u32 next;
	__u32 packet[TRACE_PACKETS];
} trace;

SEC("xdp")
int tracer(struct xdp_md *ctx)
{
	__u32 packet = trace.packet[trace.next++ & (TRACE_PACKETS - 1)];
	__u8 *frame = restored(ctx);

	if (!frame || set_flow(frame, packet & ~TRACE_SYN))
		return XDP_ABORTED;
	if (traffic.port_at > TRAFFIC_WORDS * 8 - TCP_FLAGS_AT - 1)
		return XDP_ABORTED;
	frame[traffic.port_at + TCP_FLAGS_AT] = packet & TRACE_SYN ? TCP_SYN : TCP_ACK;
	bpf_tail_call(ctx, &subject, 0);
	return XDP_ABORTED;
}

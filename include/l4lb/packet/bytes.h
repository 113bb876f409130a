/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The packet's bytes: every access is checked here. */
#ifndef L4LB_PACKET_BYTES_H
#define L4LB_PACKET_BYTES_H

#include "l4lb/packet/pkt.h"
#include "l4lb/packet/verifier.h"

/*
 * A transport header beyond this is not looked for. The mask leaves room for the packet that an
 * ICMP error quotes; the verifier wants to see it, as an offset loses its bounds on the stack
 * (until Linux 5.18).
 */
#define LB_MAX_L4_OFF 511
#define LB_OFF_MASK   1023

static __always_inline void *pkt_data(struct xdp_md *ctx)
{
	return (void *)(long)ctx->data;
}

static __always_inline void *pkt_end(struct xdp_md *ctx)
{
	return (void *)(long)ctx->data_end;
}

/*
 * Bytes of the frame. The difference is that of pointers to the end: clang subtracts the halves
 * that are asked for, may have to keep one of them on the stack, and the verifier lets no part of a
 * pointer go there.
 */
static __always_inline __u32 frame_length(struct xdp_md *ctx)
{
	__u64 length = pkt_end(ctx) - pkt_data(ctx);

	barrier_var(length);
	return length;
}

/* The len bytes at off, or NULL where the frame ends before. */
static __always_inline void *pkt_at(struct xdp_md *ctx, __u32 off, __u32 len)
{
	void *at = pkt_data(ctx);

	if (__builtin_constant_p(off)) {
		at += off;
	} else {
		/*
		 * Clang must know nothing of the offset, or it leaves out the mask as needless:
		 * what it knows by a comparison, the verifier may have lost.
		 */
		barrier_var(off);
		at += off & LB_OFF_MASK;
		/* Nor that one check covers a later one at a smaller offset. */
		barrier_var(at);
	}
	return at + len > pkt_end(ctx) ? NULL : at;
}

/* The same, or NULL where the packet ends before. */
static __always_inline void *packet_at(struct xdp_md *ctx, const struct pkt *p, __u32 off,
				       __u32 len)
{
	return off + len > p->end ? NULL : pkt_at(ctx, off, len);
}

#endif

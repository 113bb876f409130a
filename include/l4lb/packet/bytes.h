/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Access to the bytes of the frame, with the bounds checks that the verifier demands. */
#ifndef L4LB_PACKET_BYTES_H
#define L4LB_PACKET_BYTES_H

#include "l4lb/packet/context.h"
#include "l4lb/packet/pkt.h"
#include "l4lb/packet/verifier.h"

/*
 * The parsers give up if the transport header begins beyond LB_MAX_L4_OFF. The mask is larger, so
 * that there is room for the packet that an ICMP error quotes. Why there is a mask:
 * packet/verifier.h.
 */
#define LB_MAX_L4_OFF 511
#define LB_OFF_MASK   1023

static __always_inline void *pkt_data(packet_ctx *ctx)
{
	return (void *)(long)ctx->data;
}

static __always_inline void *pkt_end(packet_ctx *ctx)
{
	return (void *)(long)ctx->data_end;
}

/*
 * Bytes of the frame. The barrier makes clang subtract whole pointers. It would subtract their
 * lower halves, as the result has 32 bits, and may spill one of them to the stack; the verifier
 * refuses to store a part of a pointer.
 */
static __always_inline __u32 frame_length(packet_ctx *ctx)
{
	__u64 length = pkt_end(ctx) - pkt_data(ctx);

	barrier_var(length);
	return length;
}

/* Returns the len bytes at off, or NULL if the frame ends before them. */
static __always_inline void *pkt_at(packet_ctx *ctx, __u32 off, __u32 len)
{
	void *at = pkt_data(ctx);

	if (__builtin_constant_p(off)) {
		at += off;
	} else {
		/*
		 * Clang must not know the bounds of the offset, or it drops the mask: it may know
		 * them by a comparison that the verifier has forgotten.
		 */
		barrier_var(off);
		at += off & LB_OFF_MASK;
		/* Clang must not drop this check because an earlier one reaches further. */
		barrier_var(at);
	}
	return at + len > pkt_end(ctx) ? NULL : at;
}

/* The same, but NULL if the packet ends before them: behind it the frame has padding. */
static __always_inline void *packet_at(packet_ctx *ctx, const struct pkt *p, __u32 off, __u32 len)
{
	return off + len > p->end ? NULL : pkt_at(ctx, off, len);
}

#endif

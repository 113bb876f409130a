/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The Internet checksum (RFC 1071). Sums add up 16-bit words as they lie in memory. */
#ifndef L4LB_PACKET_CHECKSUM_H
#define L4LB_PACKET_CHECKSUM_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "l4lb/packet/bytes.h"
#include "l4lb/packet/pkt.h"

static __always_inline __u16 csum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* The same of a sum of 32-bit words, which must be below 2^48. */
static __always_inline __u16 csum_fold64(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline __u32 csum_add32(__u32 sum, __be32 word)
{
	return sum + (word & 0xffff) + (word >> 16);
}

/*
 * Ones' complement addition. To subtract from a summed word, add the same to its checksum (RFC
 * 1141).
 */
static __always_inline __u16 csum_add16(__u16 check, __u16 word)
{
	__u32 sum = (__u32)check + word;

	return (sum & 0xffff) + (sum >> 16);
}

/* The mask of offsets here: the bytes of a whole packet reach further than headers. */
#define LB_SUM_MASK 0x3fff

/*
 * Blocks for bpf_csum_diff: so many of the largest size that it takes, and what is left in blocks
 * whose sizes are powers of two.
 */
#define LB_SUM_BITS   9
#define LB_SUM_BLOCK  (1 << LB_SUM_BITS)
#define LB_SUM_BLOCKS 19

static __always_inline int sum_block(packet_ctx *ctx, __u32 off, __u32 len, __u32 *sum)
{
	void *at = pkt_data(ctx);

	/* The barriers are those of pkt_at. */
	barrier_var(off);
	at += off & LB_SUM_MASK;
	barrier_var(at);
	if (at + len > pkt_end(ctx))
		return 0;
	if (len == 2)
		*sum += *(__u16 *)at;
	else if (len == 1)
		*sum += bpf_htons(*(__u8 *)at << 8);
	else
		*sum = bpf_csum_diff(NULL, 0, at, len, *sum);
	return 1;
}

/*
 * Adds `len` bytes of the frame to a sum. Returns false if the frame ends before them, or if they
 * are too many. The loops are unrolled. After each step the verifier knows the same about offset
 * and length whether the step was taken or not, so that it follows one path only.
 */
static __always_inline int sum_bytes(packet_ctx *ctx, __u32 off, __u32 len, __u32 *sum)
{
#pragma unroll
	for (int i = 0; i < LB_SUM_BLOCKS; i++) {
		if (len < LB_SUM_BLOCK)
			continue;
		if (!sum_block(ctx, off, LB_SUM_BLOCK, sum))
			return 0;
		off += LB_SUM_BLOCK;
		len -= LB_SUM_BLOCK;
	}
	if (len >= LB_SUM_BLOCK)
		return 0;
#pragma unroll
	for (int bit = LB_SUM_BITS - 1; bit >= 0; bit--) {
		/* bpf_csum_diff does not sum the last bytes; they must not overflow. */
		if (bit == 1)
			*sum = (*sum & 0xffff) + (*sum >> 16);
		if (!(len & 1 << bit))
			continue;
		if (!sum_block(ctx, off, 1 << bit, sum))
			return 0;
		off += 1 << bit;
	}
	return 1;
}

/* The sum over the pseudo-header (RFC 8200, section 8.1; RFC 9293, section 3.1). */
static __always_inline __u32 pseudo_sum(const struct pkt *p, __u32 len)
{
	__u32 sum = 0;

	/* Of IPv4, the constant words of the mapped addresses do not count. */
	if (p->v6) {
		sum = csum_add32(csum_add32(sum, p->src.word[0]), p->src.word[1]);
		sum = csum_add32(csum_add32(sum, p->src.word[2]), p->dst.word[0]);
		sum = csum_add32(csum_add32(sum, p->dst.word[1]), p->dst.word[2]);
	}
	sum = csum_add32(csum_add32(sum, p->src.word[3]), p->dst.word[3]);
	return sum + bpf_htons(len) + bpf_htons(p->proto);
}

#endif

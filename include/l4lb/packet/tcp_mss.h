/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The MSS option of TCP (RFC 9293, section 3.7.1): the longest segment that its sender takes. */
#ifndef L4LB_PACKET_TCP_MSS_H
#define L4LB_PACKET_TCP_MSS_H

#include <stddef.h>
#include "l4lb/packet/bytes.h"
#include "l4lb/packet/pkt.h"

#define TCP_OPTION_END	 0
#define TCP_OPTION_NOP	 1
#define TCP_OPTION_MSS	 2
#define TCP_OPTION_AO	 29
#define TCP_MSS_LENGTH	 4  /* kind, length, and 16 bits */
#define TCP_MOST_OPTIONS 40 /* as many as fit, if each has one byte */

/*
 * Finds the MSS option of the segment whose TCP header is at off: state->found becomes its offset,
 * or 0 if there is none. Returns LB_MSS_lowered, or why the segment must stay as it is. A segment
 * that authenticates its options (TCP-AO, RFC 5925) must stay as it is. MD5 signatures (RFC 2385)
 * leave the options out.
 *
 * Offsets pass through a map value: whatever the options before have been, the verifier then knows
 * the same about the next one, and follows one path.
 */
static __always_inline int find_mss(struct __sk_buff *ctx, __u32 off, struct mss_state *state)
{
	volatile __u32 *at = &state->at, *found = &state->found;
	struct tcphdr *tcp = pkt_at(ctx, off, sizeof(*tcp));
	__u8 *kind, *length;
	__u32 end;

	if (!tcp)
		return LB_MSS_malformed;
	end = off + tcp->doff * 4;
	*at = off + sizeof(*tcp);
	*found = 0;
#pragma unroll
	for (int i = 0; i < TCP_MOST_OPTIONS; i++) {
		off = *at;
		if (off >= end)
			break;
		kind = pkt_at(ctx, off, sizeof(*kind));
		if (!kind || *kind == TCP_OPTION_END)
			break;
		if (*kind == TCP_OPTION_NOP) {
			*at = off + 1;
			continue;
		}
		if (*kind == TCP_OPTION_AO)
			return LB_MSS_authenticated;
		length = pkt_at(ctx, off + 1, sizeof(*length));
		if (off + 2 > end || !length || *length < 2 || off + *length > end)
			return LB_MSS_malformed;
		if (*kind == TCP_OPTION_MSS && *length == TCP_MSS_LENGTH)
			*found = off;
		*at = off + *length;
	}
	return LB_MSS_lowered;
}

/* Swaps the bytes of what lies at an odd offset: there it counts for the checksum so. */
static __always_inline __u16 as_summed(__be16 word, __u32 odd)
{
	return odd ? __builtin_bswap16(word) : word;
}

/*
 * Lowers the MSS option to the limit. Returns the result.
 *
 * The checksum changes by the difference (RFC 1624), and bpf_l4_csum_replace knows whether there is
 * one: of a packet whose checksum is left to the card (CHECKSUM_PARTIAL), the field has the sum of
 * the pseudo-header alone, which stays. Whoever completes it sums the new option.
 */
static __always_inline int lower_mss(struct __sk_buff *ctx, __u32 off, __u16 limit,
				     struct mss_state *state)
{
	int result = find_mss(ctx, off, state);
	__be16 old, new = bpf_htons(limit);
	__u32 at, odd;
	__u8 *bytes;

	if (result != LB_MSS_lowered)
		return result;
	if (!state->found)
		return LB_MSS_no_option;
	at = state->found + 2;
	bytes = pkt_at(ctx, at, sizeof(old));
	if (!bytes)
		return LB_MSS_malformed;
	old = bpf_htons(bytes[0] << 8 | bytes[1]);
	if (bpf_ntohs(old) <= limit)
		return LB_MSS_fits;
	odd = (at - off) & 1;
	if (bpf_l4_csum_replace(ctx, off + offsetof(struct tcphdr, check), as_summed(old, odd),
				as_summed(new, odd), sizeof(new)) ||
	    bpf_skb_store_bytes(ctx, at, &new, sizeof(new), 0))
		return LB_MSS_malformed;
	return LB_MSS_lowered;
}

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The Internet checksum (RFC 1071). Sums are of 16-bit words as they lie in memory. */
#ifndef L4LB_PACKET_CHECKSUM_H
#define L4LB_PACKET_CHECKSUM_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

static __always_inline __u16 csum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline __u32 csum_add32(__u32 sum, __be32 word)
{
	return sum + (word & 0xffff) + (word >> 16);
}

/* Ones' complement addition. A checksum grows by what the summed words shrink by (RFC 1141). */
static __always_inline __u16 csum_add16(__u16 check, __u16 word)
{
	__u32 sum = (__u32)check + word;

	return (sum & 0xffff) + (sum >> 16);
}

#endif

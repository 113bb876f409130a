/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The TTL, or hop limit, of a packet that is sent on as by a router. */
#ifndef L4LB_PACKET_TTL_H
#define L4LB_PACKET_TTL_H

#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Decrements it. Returns false, and changes nothing, if it is used up. */
static __always_inline int decrement_ttl(void *header, int v6)
{
	struct ipv6hdr *ip6 = header;
	struct iphdr *ip = header;
	__u32 check;

	if (v6) {
		if (ip6->hop_limit <= 1)
			return 0;
		ip6->hop_limit--;
		return 1;
	}
	if (ip->ttl <= 1)
		return 0;
	ip->ttl--;
	/* RFC 1624, section 3: HC' = ~(~HC + ~m + m'). The sum is never 0, so HC' is not 0xffff. */
	check = (__u32)ip->check + bpf_htons(0x0100);
	ip->check = check + (check >= 0xffff);
	return 1;
}

#endif

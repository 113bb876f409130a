/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* IP addresses. IPv4 addresses are IPv4-mapped IPv6 addresses. */
#ifndef L4LB_PACKET_ADDR_H
#define L4LB_PACKET_ADDR_H

#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "l4lb/abi/abi.h"

static __always_inline void addr_from_v4(struct lb_addr *addr, __be32 v4)
{
	addr->word[0] = 0;
	addr->word[1] = 0;
	addr->word[2] = bpf_htonl(0xffff);
	addr->word[3] = v4;
}

static __always_inline void addr_from_v6(struct lb_addr *addr, const struct in6_addr *v6)
{
	__builtin_memcpy(addr, v6, sizeof(*addr));
}

/* Whether the address is an IPv4 one. */
static __always_inline int addr_is_v4(const struct lb_addr *addr)
{
	return !(addr->word[0] | addr->word[1]) && addr->word[2] == bpf_htonl(0xffff);
}

static __always_inline int addr_equal(const struct lb_addr *a, const struct lb_addr *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] && a->word[2] == b->word[2] &&
	       a->word[3] == b->word[3];
}

static __always_inline __u64 addr_high(const struct lb_addr *addr)
{
	return (__u64)addr->word[1] << 32 | addr->word[0];
}

static __always_inline __u64 addr_low(const struct lb_addr *addr)
{
	return (__u64)addr->word[3] << 32 | addr->word[2];
}

/*
 * Whether routers never forward packets from or to the address, so that no inner packet may have
 * it, whoever decapsulates. For IPv4: "this" network, loopback, multicast and broadcast (RFC
 * 1122, section 3.2.1.3; RFC 6890). For IPv6: ::/96 with the unspecified address and loopback,
 * multicast, and link-local (RFC 4291, sections 2.5 and 2.7).
 */
static __always_inline int is_never_routed(const struct lb_addr *addr, __u32 v6)
{
	__u32 first = bpf_ntohl(v6 ? addr->word[0] : addr->word[3]);

	if (v6)
		return !(addr->word[0] | addr->word[1] | addr->word[2]) || first >> 24 == 0xff ||
		       first >> 22 == 0xfe80 >> 6;
	return first >> 24 == 0 || first >> 24 == 127 || first >> 28 == 14 || first == 0xffffffff;
}

/*
 * Whether it is a link-local address of IPv4 (RFC 3927, section 2.7). It cannot be a destination.
 * It may be a source: routers send ICMP errors from addresses of their links.
 */
static __always_inline int is_link_local_v4(const struct lb_addr *addr, __u32 v6)
{
	return !v6 && bpf_ntohl(addr->word[3]) >> 16 == 0xa9fe;
}

#endif

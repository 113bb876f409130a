/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Ways to a real, LB_ENCAP_* (abi/encap.h): which one a packet takes, and how long it may be.
 *
 * Nearly all balancers send IP in IP only. So the packet path asks one question, takes_other_way(),
 * and all that concerns the other ways lies behind it.
 */
#ifndef L4LB_PACKET_WAY_H
#define L4LB_PACKET_WAY_H

#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include "l4lb/abi/abi.h"
#include "l4lb/state/knobs.h"

/* The way that the VIP's flags and a real's own say. There may be no real. */
static __always_inline __u32 encap_of(__u32 vip_flags, const struct real *real)
{
	__u32 own = real ? real->flags & LB_ENCAP_MASK : 0;
	__u32 way = (own ? own : vip_flags & LB_ENCAP_MASK) >> LB_ENCAP_SHIFT;

	return way == LB_ENCAP_UNSAID ? LB_ENCAP_IPIP : way;
}

/* Whether the way is another than IP in IP. */
static __always_inline int takes_other_way(__u32 vip_flags, const struct real *real)
{
	__u32 flags = real ? vip_flags | real->flags : vip_flags;

	return __builtin_expect(flags & LB_ENCAP_MASK, 0) &&
	       encap_of(vip_flags, real) != LB_ENCAP_IPIP;
}

/* Bytes of UDP and GUE headers. */
static __always_inline __u32 gue_bytes(void)
{
	return sizeof(struct udphdr) + (knobs.gue_variant ? 0 : sizeof(struct gue));
}

/* Bytes of the outer IP header; without a real, of the shortest one. */
static __always_inline __u32 outer_bytes(const struct real *real)
{
	return real && real->flags & LB_REAL_V6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
}

static __always_inline __u32 mtu_behind(const struct interface *interface, __u32 overhead)
{
	__u32 mtu = interface->mtu - overhead;

	return mtu < knobs.max_ip_packet ? mtu : knobs.max_ip_packet;
}

/* path_mtu() of packets that take another way than IP in IP. */
static __always_inline __u32 other_path_mtu(const struct interface *interface, __u32 vip_flags,
					    const struct real *real)
{
	/* Nothing is put in front, so what came in fits. */
	if (encap_of(vip_flags, real) != LB_ENCAP_GUE)
		return ~0U;
	return mtu_behind(interface, outer_bytes(real) + gue_bytes());
}

/* path_mtu() of IP in IP. */
static __always_inline __u32 ipip_path_mtu(const struct interface *interface,
					   const struct real *real)
{
	return mtu_behind(interface, outer_bytes(real));
}

/*
 * The longest IP packet, in bytes, that can go to the real through the interface. Without a real,
 * the longest that can go to any: the sender of a longer one then hears of it even if the VIP has
 * no real.
 */
static __always_inline __u32 path_mtu(const struct interface *interface, __u32 vip_flags,
				      const struct real *real)
{
	if (takes_other_way(vip_flags, real))
		return other_path_mtu(interface, vip_flags, real);
	return ipip_path_mtu(interface, real);
}

#endif

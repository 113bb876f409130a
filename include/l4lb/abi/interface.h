/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Interfaces that the balancer serves: the map `interfaces`. */
#ifndef L4LB_ABI_INTERFACE_H
#define L4LB_ABI_INTERFACE_H

#include <linux/types.h>
#include "l4lb/abi/addr.h"

/* Further MACs of an interface that are its own, beside the one it has. */
#define LB_MAX_MACS 10

/*
 * An interface that the balancer serves. An entry lies at index (ifindex + n) %
 * LB_INTERFACE_PLACES, n below LB_INTERFACE_PROBES. The packet path reads what lies in front of
 * `macs`, always in one cache line as an entry takes two; of frames that are not to `own`, more.
 * The rest is what the operator asked for, and whom the gateway was found by.
 */
struct interface {
	__u32 ifindex;
	__u32 mtu;	   /* bytes of IP packet that the interface can send */
	__u64 own;	   /* MAC word: its MAC */
	__u8 mac[6];	   /* of the gateway */
	__u8 gateway_kind; /* LB_GATEWAY_* */
	__u8 mode;	   /* LB_MODE_* as asked for */
	__u64 macs[LB_MAX_MACS];
	__u32 any_unicast;	/* 1: every MAC of a single host counts as its own */
	__u32 gateway_route;	/* LB_ROUTE_*: the default route that `gateway` is of */
	struct lb_addr gateway; /* as asked for; of LB_GATEWAY_AUTO, the next hop in use */
};

#define LB_ROUTE_NONE 0 /* or the next hop in use is not known */
#define LB_ROUTE_V4   4
#define LB_ROUTE_V6   6

#define LB_GATEWAY_AUTO	   0
#define LB_GATEWAY_ADDRESS 1
#define LB_GATEWAY_MAC	   2

#define LB_MODE_AUTO	0
#define LB_MODE_NATIVE	1
#define LB_MODE_GENERIC 2

_Static_assert(sizeof(struct interface) == 128, "abi");

#endif

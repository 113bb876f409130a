/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Interfaces that the balancer serves: the map `interfaces`. */
#ifndef L4LB_ABI_INTERFACE_H
#define L4LB_ABI_INTERFACE_H

#include <linux/types.h>
#include "l4lb/abi/addr.h"

/* MACs that an interface accepts beside its own. */
#define LB_MAX_MACS 10

/*
 * An interface that the balancer serves. An entry lies at index (ifindex + n) %
 * LB_INTERFACE_PLACES, with n below LB_INTERFACE_PROBES. An entry takes two cache lines. The packet
 * path reads what lies in front of `macs`, which is within the first one, and the rest up to
 * `any_unicast` only for frames that are not to `own`. The other members are for the control plane:
 * what the operator asked for, and how it found the gateway.
 */
struct interface {
	__u32 ifindex;
	__u32 mtu;	   /* bytes of IP packet that the interface can send */
	__u64 own;	   /* MAC word of the interface's MAC */
	__u8 mac[6];	   /* the gateway's */
	__u8 gateway_kind; /* LB_GATEWAY_* */
	__u8 mode;	   /* LB_MODE_* that the operator asked for */
	__u64 macs[LB_MAX_MACS];
	__u32 any_unicast;	/* 1: the interface accepts frames to any unicast MAC */
	__u32 gateway_route;	/* LB_ROUTE_*: the default route that names `gateway` */
	struct lb_addr gateway; /* as asked for; with LB_GATEWAY_AUTO, the next hop in use */
};

#define LB_ROUTE_NONE 0 /* none, or its next hop is not known */
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

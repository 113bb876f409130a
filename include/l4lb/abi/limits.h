/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Limits: how many VIPs, reals, flows and interfaces there may be. */
#ifndef L4LB_ABI_LIMITS_H
#define L4LB_ABI_LIMITS_H

#define LB_ABI_VERSION 4

#define LB_RING_SIZE	  65537 /* slots of a VIP's Maglev ring: the prime that Katran uses */
#define LB_MAX_VIPS	  512
#define LB_MAX_REALS	  4096
#define LB_MAX_VIP_REALS  65536 /* reals of all VIPs together */
#define LB_MAX_SERVER_IDS 65536
#define LB_MAX_CPUS	  1024
/*
 * The maps of connection tables hold two sets of tables, called banks. The running program uses one
 * bank. The control plane prepares the other one for the program that replaces it.
 */
#define LB_TABLE_BANKS	2
#define LB_TABLE_PLACES (LB_TABLE_BANKS * LB_MAX_CPUS) /* index: bank * LB_MAX_CPUS + CPU */
#define LB_SHARED_TABLE LB_TABLE_PLACES		       /* index of `connections` */
/*
 * `interfaces` has many more places than there may be interfaces: a look-up tries
 * LB_INTERFACE_PROBES places, and one of them must be free for a new interface.
 */
#define LB_INTERFACE_PLACES 1024
#define LB_MAX_INTERFACES   64
#define LB_MAX_EXT_HEADERS  6 /* extension headers that the IPv6 parser walks before it gives up */
#define LB_INTERFACE_PROBES 8

/*
 * There are three times as many ids as a configuration may have reals. An apply that replaces every
 * real needs the old and the new ids until it has swapped the last ring, and an interrupted apply
 * before it may have left a third set. Id 0 means "no real".
 */
#define LB_REAL_IDS (3 * LB_MAX_REALS)

/* The same number as L4LB_CHAIN_SLOTS in chain.h, which includes nothing of ours. */
#define LB_CHAIN_SLOTS 16

/* The slots of the chain (chain.h) in which our own programs run. */
#define LB_SLOT_CAPTURE	 0 /* in front of all others: captures see packets as they come in */
#define LB_SLOT_BALANCER 8
#define LB_SLOT_DECAP	 12

#endif

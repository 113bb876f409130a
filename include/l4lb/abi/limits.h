/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* How much there may be of everything. */
#ifndef L4LB_ABI_LIMITS_H
#define L4LB_ABI_LIMITS_H

#define LB_ABI_VERSION 3

#define LB_RING_SIZE	  65537 /* slots of a VIP's Maglev ring: prime, as Katran's */
#define LB_MAX_VIPS	  512
#define LB_MAX_REALS	  4096
#define LB_MAX_VIP_REALS  65536 /* reals of all VIPs together */
#define LB_MAX_SERVER_IDS 65536
#define LB_MAX_CPUS	  1024
/*
 * Maps of connection tables have places for two sets of them: the running program's, and those that
 * are prepared for the program that replaces it.
 */
#define LB_TABLE_BANKS	2
#define LB_TABLE_PLACES (LB_TABLE_BANKS * LB_MAX_CPUS) /* index: bank * LB_MAX_CPUS + CPU */
#define LB_SHARED_TABLE LB_TABLE_PLACES		       /* index of `connections` */
/* Places for interfaces: many more, so that one is free within LB_INTERFACE_PROBES. */
#define LB_INTERFACE_PLACES 1024
#define LB_MAX_INTERFACES   64
#define LB_MAX_EXT_HEADERS  6 /* IPv6 extension headers walked in front of the transport header */
#define LB_INTERFACE_PROBES 8

/*
 * Three times the reals that a configuration may have: one that replaces every real needs the ids
 * of both sets until the last ring is swapped, and an interrupted one before it may hold a third
 * set. Id 0 means "no real".
 */
#define LB_REAL_IDS (3 * LB_MAX_REALS)

/* As chain.h has it for programs that know nothing else of this project. */
#define LB_CHAIN_SLOTS 16

/* Slots of the chain that the programs of this project take (chain.h). */
#define LB_SLOT_XDPDUMP	 0 /* before all others: captures see what came in */
#define LB_SLOT_BALANCER 8
#define LB_SLOT_DECAP	 12

#endif

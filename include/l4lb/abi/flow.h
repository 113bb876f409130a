/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Flows: the connection tables of both kinds. */
#ifndef L4LB_ABI_FLOW_H
#define L4LB_ABI_FLOW_H

#include <linux/types.h>
#include "l4lb/abi/addr.h"

/*
 * What a flow is remembered with. Serial and generation share 32 bits of a table entry; who starts
 * over with one that was used before first forgets the flows that have it.
 */
#define LB_MAX_SERIAL	  0xffffff
#define LB_MAX_GENERATION 0xff

/* knobs.table_kind */
#define LB_TABLE_KIND_LRU  0 /* the kernel's LRU hash */
#define LB_TABLE_KIND_SETS 1 /* arrays of sets: flow_sets.h */

/* What the VIP's hash mode leaves of the 5-tuple. Key of a table of kind LRU. */
struct flow_key {
	struct lb_addr src;
	__be16 sport;
	__be16 dport;
	__u32 vip; /* serial */
};

/* Value of a table of kind LRU. */
struct flow {
	__u32 real;
	__u32 generation; /* of the real when the flow was given to it; another one: stale */
	__u64 last_seen;  /* CLOCK_MONOTONIC, ns: of the last packet (UDP), of the insert (TCP) */
};

/* A flow in a table of sets. */
struct flow_entry {
	__be32 src; /* IPv4; in an IPv6 entry 0 */
	__be16 sport;
	__be16 dport;
	__u32 vip_generation; /* VIP serial << 8 | generation of the real; serial 0: no flow */
	__u16 real;
	__u16 seen; /* CLOCK_MONOTONIC >> LB_SEEN_SHIFT, the low 16 bits: of the last packet */
};

struct flow6_entry {
	struct lb_addr src;
	struct flow_entry rest;
};

/*
 * The last 64 bits of an entry that the control plane writes to: VIP 0, so that it is no flow, but
 * not free.
 */
#define LB_SET_CLAIMED 1

/* The longer ago an entry was used, the further behind. An IPv4 set is one cache line. */
#define LB_SET_WAYS 4

struct flow4_set {
	struct flow_entry entry[LB_SET_WAYS];
};

struct flow6_set {
	struct flow6_entry entry[LB_SET_WAYS];
};

/* A unit of about a second. After 65536 of them, 19 hours, it starts over. */
#define LB_SEEN_SHIFT 30
/* Units that are taken for a time to come rather than for one 19 hours ago. */
#define LB_SEEN_FUTURE		   64
#define LB_MAX_UDP_TIMEOUT_SECONDS 28800

_Static_assert(sizeof(struct flow_key) == 24, "abi");
_Static_assert(sizeof(struct flow) == 16, "abi");
_Static_assert(sizeof(struct flow4_set) == 64, "abi");
_Static_assert(sizeof(struct flow6_set) == 128, "abi");

#endif

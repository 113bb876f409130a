/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Flows: what the connection tables of both kinds hold. */
#ifndef L4LB_ABI_FLOW_H
#define L4LB_ABI_FLOW_H

#include <linux/types.h>
#include "l4lb/abi/addr.h"

/*
 * A table entry names the VIP by its serial and the real by id and generation. Both share 32 bits,
 * so that numbers run out. Before the control plane uses one again, it deletes the flows that have
 * it.
 */
#define LB_MAX_SERIAL	  0xffffff
#define LB_MAX_GENERATION 0xff

/* knobs.table_kind */
#define LB_TABLE_KIND_LRU  0 /* LRU hash maps of the kernel */
#define LB_TABLE_KIND_SETS 1 /* arrays of sets: balance/table_sets.h */

/* Key of a table of kind LRU: the 5-tuple, as far as the VIP's hash mode uses it. */
struct flow_key {
	struct lb_addr src;
	__be16 sport;
	__be16 dport;
	__u32 vip; /* serial */
};

/* Value of a table of kind LRU. */
struct flow {
	__u32 real;
	__u32 generation; /* of the real when the flow was assigned; stale if it differs now */
	__u64 last_seen;  /* CLOCK_MONOTONIC, ns: of the last packet (UDP) or of the insert (TCP) */
};

/* A flow in a table of sets. */
struct flow_entry {
	__be32 src; /* IPv4; 0 in an entry for IPv6 */
	__be16 sport;
	__be16 dport;
	__u32 vip_generation; /* VIP serial << 8 | generation of the real; serial 0: free */
	__u16 real;
	__u16 seen; /* time of the last packet: CLOCK_MONOTONIC >> LB_SEEN_SHIFT, the low 16 bits */
};

struct flow6_entry {
	struct lb_addr src;
	struct flow_entry rest;
};

/*
 * The last 64 bits of an entry while the control plane writes to it. Serial 0 says that it is no
 * flow, and the bit that is set says that it is not free either.
 */
#define LB_SET_CLAIMED 1

/* Entries of a set, the most recently used first. A set for IPv4 is one cache line. */
#define LB_SET_WAYS 4

struct flow4_set {
	struct flow_entry entry[LB_SET_WAYS];
};

struct flow6_set {
	struct flow6_entry entry[LB_SET_WAYS];
};

/* `seen` counts units of about a second. It wraps after 65536 units, 19 hours. */
#define LB_SEEN_SHIFT 30
/* A `seen` up to so many units ahead of now is in the future, not 19 hours in the past. */
#define LB_SEEN_FUTURE		   64
#define LB_MAX_UDP_TIMEOUT_SECONDS 28800

_Static_assert(sizeof(struct flow_key) == 24, "abi");
_Static_assert(sizeof(struct flow) == 16, "abi");
_Static_assert(sizeof(struct flow4_set) == 64, "abi");
_Static_assert(sizeof(struct flow6_set) == 128, "abi");

#endif

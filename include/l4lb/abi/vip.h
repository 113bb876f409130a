/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* VIPs: the map `vips`, and its index `vip_index`, which the packet path reads. */
#ifndef L4LB_ABI_VIP_H
#define L4LB_ABI_VIP_H

#include <linux/types.h>
#include "l4lb/abi/addr.h"

/*
 * Key of `vips`. The map holds VIPs and markers. Markers tell a packet for a VIP from the host's
 * own traffic when the packet has no readable ports: the key {address, 0, TCP or UDP} exists if the
 * address has VIPs of this protocol, and {address, 0, ICMP} exists for every VIP address.
 */
struct vip_key {
	struct lb_addr addr;
	__be16 port; /* 0: the VIP has every port of the address that no other VIP has */
	__u8 proto;
	__u8 pad;
};

/* vip.flags */
#define LB_VIP_MARKER	      (1 << 0) /* a marker, not a VIP */
#define LB_VIP_IGNORE_SPORT   (1 << 1) /* the source port counts as 0 */
#define LB_VIP_IGNORE_DPORT   (1 << 2) /* the destination port counts as 0 */
#define LB_VIP_DPORT_ONLY     (1 << 3) /* source port := destination port, source address := 0 */
#define LB_VIP_STATELESS      (1 << 4) /* no connection table */
#define LB_VIP_QUIC_SERVER_ID (1 << 5) /* QUIC connection ids carry server ids */
#define LB_VIP_BARRED	      (1 << 6) /* the bitmap in the ring map bars some reals: check it */
#define LB_VIP_REDUCED_KEY    (LB_VIP_IGNORE_SPORT | LB_VIP_IGNORE_DPORT | LB_VIP_DPORT_ONLY)
#define LB_VIP_SRC_AND_DPORT  (1 << 7) /* for user space: the name of the hash mode in the file */
/*
 * The ring has changed since the VIP was added, so the table may hold flows that it maps elsewhere.
 */
#define LB_VIP_RING_CHANGED (1 << 9)
/* In the index: the bucket is full, and further keys of it are in `vips` only. */
#define LB_VIP_BUCKET_FULL (1 << 10)
/*
 * In every bucket of the index: some VIP address drops or rejects packets to ports without a VIP.
 */
#define LB_VIP_PORT_RULES (1 << 11)
/*
 * In every bucket of the index: no VIP has every port of its address. So a packet that has a port
 * and finds no VIP by it is for none.
 */
#define LB_VIP_PORTS_NAMED (1 << 12)
/*
 * For user space: the operator allows the VIP on an address of the balancer itself; FORCED: even if
 * sockets listen on it.
 */
#define LB_VIP_OWN_ADDRESS	  (1 << 16)
#define LB_VIP_OWN_ADDRESS_FORCED (1 << 17)
/*
 * Two bits, LB_OTHER_PORTS_*: what happens to packets to ports of the address that no VIP has. The
 * packet path reads it in markers. In VIPs it is for user space: what the file says.
 */
#define LB_VIP_OTHER_PORTS_SHIFT 18
#define LB_OTHER_PORTS_UNSAID	 0
#define LB_OTHER_PORTS_PASS	 1
#define LB_OTHER_PORTS_DROP	 2
#define LB_OTHER_PORTS_REJECT	 3
/* For user space, in VIPs: two bits, LB_ECHO_*: when the address answers echo requests. */
#define LB_VIP_ECHO_SHIFT      20
#define LB_ECHO_UNSAID	       0
#define LB_ECHO_ALWAYS	       1
#define LB_ECHO_WHEN_USABLE    2
#define LB_ECHO_NEVER	       3
#define LB_VIP_REJECTS_NO_REAL (1 << 22) /* if no real is usable, senders get a refusal */
#define LB_VIP_NO_ECHO	       (1 << 23) /* in markers: echo requests are dropped at present */
/* Bits 24 to 26: LB_ENCAP_* (abi/encap.h). */

struct vip {
	__u16 id;	/* index of `rings` and `vip_counts` */
	__u16 counters; /* where its reals' counters begin: LB_REAL_COUNTS */
	__u32 serial;	/* 1 to LB_MAX_SERIAL: identifies the VIP in the keys of its flows */
	__u32 flags;
};

/*
 * The index of `vips` (balance/vips.h): a hash of the key selects a bucket, which is one cache
 * line. An entry with protocol 0 is empty.
 */
struct vip_entry {
	struct vip_key key;
	struct vip vip;
};

struct vip_bucket {
	struct vip_entry entry[2];
};

#define LB_VIP_BUCKET_BITS 12
#define LB_VIP_BUCKETS	   (1 << LB_VIP_BUCKET_BITS)
#define LB_VIP_HASH_HIGH   0x85a65b28b0545c15ULL
#define LB_VIP_HASH_ADDR   0xa3a7051f5460b225ULL
#define LB_VIP_HASH_LAST   0xd28641a8ed31339dULL

_Static_assert(sizeof(struct vip_key) == 20, "abi");
_Static_assert(sizeof(struct vip) == 12, "abi");
_Static_assert(sizeof(struct vip_bucket) == 64, "abi");

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* VIPs: the map `vips`, and the index that the packet path reads. */
#ifndef L4LB_ABI_VIP_H
#define L4LB_ABI_VIP_H

#include <linux/types.h>
#include "l4lb/abi/addr.h"

/*
 * Key of `vips`. Beside the VIPs themselves it holds markers, so that a packet without readable
 * ports can be told from the host's own traffic: {address, 0, TCP or UDP} for an address that has
 * VIPs of this protocol, {address, 0, ICMP} for every VIP address.
 */
struct vip_key {
	struct lb_addr addr;
	__be16 port; /* 0: every port of the address without a VIP of its own */
	__u8 proto;
	__u8 pad;
};

/* vip.flags */
#define LB_VIP_MARKER	      (1 << 0) /* no VIP, only a marker */
#define LB_VIP_IGNORE_SPORT   (1 << 1) /* the source port counts as 0 */
#define LB_VIP_IGNORE_DPORT   (1 << 2) /* the destination port counts as 0 */
#define LB_VIP_DPORT_ONLY     (1 << 3) /* source port := destination port, source address := 0 */
#define LB_VIP_STATELESS      (1 << 4) /* no connection table */
#define LB_VIP_QUIC_SERVER_ID (1 << 5) /* QUIC connection ids carry server ids */
#define LB_VIP_BARRED	      (1 << 6) /* the ring map's bitmap bars reals: look before using one */
#define LB_VIP_REDUCED_KEY    (LB_VIP_IGNORE_SPORT | LB_VIP_IGNORE_DPORT | LB_VIP_DPORT_ONLY)
#define LB_VIP_SRC_AND_DPORT  (1 << 7) /* for user space: how the hash mode was written */
/* Table and ring may differ about a flow: since the VIP was added, its ring has changed. */
#define LB_VIP_RING_CHANGED (1 << 9)
/* In the index: there are more keys of this bucket, in `vips` only. */
#define LB_VIP_BUCKET_FULL (1 << 10)
/* In the index, in every bucket: for some address, ports that no VIP has do not pass. */
#define LB_VIP_PORT_RULES (1 << 11)
/* For user space: the VIP may be on an address of the balancer itself; though sockets listen there.
 */
#define LB_VIP_OWN_ADDRESS	  (1 << 16)
#define LB_VIP_OWN_ADDRESS_FORCED (1 << 17)
/*
 * What the address does with ports that no VIP has, LB_OTHER_PORTS_*, in two bits. In markers it is
 * in force; in VIPs for user space: how it was written.
 */
#define LB_VIP_OTHER_PORTS_SHIFT 18
#define LB_OTHER_PORTS_UNSAID	 0
#define LB_OTHER_PORTS_PASS	 1
#define LB_OTHER_PORTS_DROP	 2
#define LB_OTHER_PORTS_REJECT	 3
/* For user space, in VIPs: when the address answers echo requests, in two bits. */
#define LB_VIP_ECHO_SHIFT      20
#define LB_ECHO_UNSAID	       0
#define LB_ECHO_ALWAYS	       1
#define LB_ECHO_WHEN_USABLE    2
#define LB_ECHO_NEVER	       3
#define LB_VIP_REJECTS_NO_REAL (1 << 22) /* without a usable real, packets are refused */
#define LB_VIP_NO_ECHO	       (1 << 23) /* in markers: echo requests are dropped by now */

struct vip {
	__u32 id;     /* index of `rings` and `vip_counters` */
	__u32 serial; /* 1 to LB_MAX_SERIAL: keys the VIP's flows; another VIP's are never found */
	__u32 flags;
};

/*
 * The index of `vips` (vips.h): buckets of one cache line, by a hash of the key. An entry whose
 * protocol is 0 is none.
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

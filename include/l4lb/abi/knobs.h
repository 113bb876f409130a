/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Knobs: settings that are fixed when the balancer is loaded (state/knobs.h). */
#ifndef L4LB_ABI_KNOBS_H
#define L4LB_ABI_KNOBS_H

#include <linux/types.h>
#include "l4lb/abi/addr.h"

struct knobs {
	__u64 build; /* identifies object and knobs: if it differs, apply replaces the program */
	__u64 udp_timeout;	/* ns; includes how late the coarse clock may be */
	__u64 table_factors[3]; /* odd; with table_keys, the secret of the sets' hash */
	__u32 table_keys[6];
	__u64 answer_secret[2]; /* of bucket_of (balance/limits.h); the second is odd */
	__u32 table_kind;
	__u32 table_bank;
	__u32 sets;	     /* kind SETS: number of sets in each CPU's table of either family */
	__u32 max_ip_packet; /* bytes */
	__u32 new_flows_per_second;
	__u32 too_big_replies_per_second;
	__u32 oversize_reply;  /* packets that are too long: 0: drop; 1: tell their sender */
	__be32 source4;	       /* outer source: these bits, … */
	__be32 source4_spread; /* … and the client's bits where this mask is set */
	struct lb_addr source6;
	__be32 source6_spread; /* the mask for the last word */
	__u32 source4_prefix;  /* prefix lengths, for user space; 0: the default is in use */
	__u32 source6_prefix;
	__u32 outer_df;		 /* 1: outer IPv4 headers say "do not fragment" */
	__u32 udp_timeout_units; /* the timeout, in units of 1 << LB_SEEN_SHIFT ns */
	__be16 gue_port;
	__u8 gue_variant;	 /* 0 or 1 */
	__u8 encapsulation;	 /* for user space: the default of [packets], LB_ENCAP_* */
	__u16 decapsulates;	 /* 1: some address is configured for it */
	__u8 gue_icmp_as_katran; /* 1: packet/gue.h says what that means */
	__u8 unused;
};

/* A multiple of 8. With a single field of 4 bytes more, add `__u32 unused` at the end. */
_Static_assert(sizeof(struct knobs) == 160, "no implicit padding; pod! in src/model/abi.rs agrees");

#endif

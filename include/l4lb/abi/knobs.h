/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What is fixed when the program is loaded. */
#ifndef L4LB_ABI_KNOBS_H
#define L4LB_ABI_KNOBS_H

#include <linux/types.h>
#include "l4lb/abi/addr.h"

/* Fixed when the program is loaded; see config.h. */
struct knobs {
	__u64 build; /* which object and knobs this is: another value means "replace the program" */
	__u64 udp_timeout;	/* ns, with what the coarse clock may be late */
	__u64 table_factors[3]; /* odd; with table_keys the secret that a flow's set depends on */
	__u32 table_keys[6];
	__u64 answer_secret[2]; /* what the bucket of a source depends on; the second is odd */
	__u32 table_kind;
	__u32 table_bank;
	__u32 sets;	     /* of kind SETS: in each CPU's table of either family */
	__u32 max_ip_packet; /* bytes */
	__u32 new_flows_per_second;
	__u32 too_big_replies_per_second;
	__u32 oversize_reply;  /* 0: drop packets that are too long; 1: tell their sender */
	__be32 source4;	       /* outer source: these bits … */
	__be32 source4_spread; /* … and where this mask is set, the client's */
	struct lb_addr source6;
	__be32 source6_spread; /* of the last word */
	__u32 source4_prefix;  /* lengths, for user space; 0: not configured, the default */
	__u32 source6_prefix;
	__u32 outer_df;		 /* 1: outer IPv4 headers say "do not fragment" */
	__u32 udp_timeout_units; /* of 1 << LB_SEEN_SHIFT ns, which the timeout never exceeds */
};

_Static_assert(sizeof(struct knobs) == 152, "abi");

#endif

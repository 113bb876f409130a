/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What a program keeps about the packet at hand in a map. User space does not read it. */
#ifndef L4LB_ABI_SCRATCH_H
#define L4LB_ABI_SCRATCH_H

#include <linux/types.h>
#include "l4lb/abi/addr.h"

/* What parsing found out about a packet: see forget_path in packet/verifier.h. */
struct parsed {
	__u32 ports;
	__u32 flags;
	__u32 ip_len;
	__u32 end;
	__u32 l3_off;
	__u32 l4_off;
	__u32 proto;
	__u32 tos;
};

/* A packet that is to be answered, or finished: see balance/ask.h. */
struct question {
	__u32 kind;	 /* LB_ANSWER_* */
	__u32 otherwise; /* the reason to count if no refusal is sent; of LB_ANSWER_GUE: if all is
			    well */
	__u32 mtu;
	__u32 frame_len;
	__u32 ip_len;
	__u32 l3_off;
	__u32 l4_off;
	__u32 vip;
	__u32 real;    /* of LB_ANSWER_GUE, and `counter` */
	__u32 counter; /* as in struct pkt */
	__u8 has_vip;
	__u8 v6;
	__u8 proto;
	__u8 new_flow;
	struct lb_addr src;
	struct lb_addr dst;
};

#define LB_ANSWER_ECHO	  0
#define LB_ANSWER_TOO_BIG 1
#define LB_ANSWER_REFUSAL 2
#define LB_ANSWER_GUE	  3 /* not an answer: the checksum of an encapsulated packet */

#endif

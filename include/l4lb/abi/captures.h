/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Captures: see watch/captures.h. */
#ifndef L4LB_ABI_CAPTURES_H
#define L4LB_ABI_CAPTURES_H

#include <linux/types.h>
#include "l4lb/abi/addr.h"
#include "l4lb/abi/limits.h"
#include "l4lb/abi/reasons.h"

/*
 * Places in `captures`: those of the captures at entry, then the program that continues after the
 * last of them; and the same at exit. Place 0 is empty.
 */
#define LB_MAX_CAPTURES	     4
#define LB_CAPTURE_ENTRY     1
#define LB_CAPTURE_ENTRY_END (LB_CAPTURE_ENTRY + LB_MAX_CAPTURES)
#define LB_CAPTURE_EXIT	     (LB_CAPTURE_ENTRY_END + 1)
#define LB_CAPTURE_EXIT_END  (LB_CAPTURE_EXIT + LB_MAX_CAPTURES)
#define LB_CAPTURE_PLACES    (LB_CAPTURE_EXIT_END + 1)

/*
 * Place → the first place from there on that has a program. 0 at LB_CAPTURE_EXIT as long as nobody
 * captures there.
 */
struct capture_next {
	__u64 place[LB_CAPTURE_PLACES];
};

/* The balancer's decision about the packet that this CPU is handling. */
struct decision {
	__u32 reason;
	__u32 verdict; /* XDP_*; XDP_PASS: to be handed on */
	__u32 vip;     /* id, or LB_CAPTURE_NO_VIP */
	__u32 real;    /* id, or 0 */
	__u32 slot;    /* of the balancer */
};

#define LB_CAPTURE_NO_VIP 0xffffffff

/* Header of a captured packet, in front of its bytes. */
struct capture_event {
	__u64 time;  /* CLOCK_MONOTONIC, ns */
	__u32 point; /* LB_CAPTURE_ENTRY, LB_CAPTURE_EXIT */
	__u32 ifindex;
	__u32 queue;
	__u32 length;	/* of the frame */
	__u32 captured; /* bytes of the frame that follow */
	/* The decision, at exit only. */
	__u32 reason;
	__u32 vip;
	__u32 real;
	struct lb_addr real_addr;
};

/* The kernel has 16 bits for the size of an event with its bytes. */
#define LB_CAPTURE_MAX_SNAPLEN 65400

/* Options of a capture, fixed when its programs are loaded. */
struct capture_options {
	__u32 capture;	     /* 0 to LB_MAX_CAPTURES - 1 */
	__u32 snaplen;	     /* bytes */
	__u32 sample_below;  /* a random number below this lets a packet through; 0: all */
	__u32 match_ifindex; /* whether capture_wanted.ifindex counts */
	__u32 match_vip;
	__u32 match_real;
	__u64 reasons; /* bitmap */
	__u64 cpus[LB_MAX_CPUS / 64];
};

/* Options of a capture that may change: user space keeps the ids up to date. */
struct capture_wanted {
	__u64 ifindex;
	__u64 vips[LB_MAX_VIPS / 64];
	__u64 reals[LB_REAL_IDS / 64];
};

/* Packets that matched, by what became of them. */
struct capture_count {
	__u64 captured;
	__u64 sampled_out;
	__u64 buffer_full;
};

_Static_assert(LB_REASON_COUNTERS <= 64, "capture_options.reasons has a bit for each");

_Static_assert(sizeof(struct decision) == 20, "abi");
_Static_assert(sizeof(struct capture_event) == 56, "abi");
_Static_assert(sizeof(struct capture_options) == 160, "abi");

#endif

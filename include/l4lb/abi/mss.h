/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Lowering the MSS, on reals. */
#ifndef L4LB_ABI_MSS_H
#define L4LB_ABI_MSS_H

#include <linux/types.h>
#include "l4lb/abi/reasons.h"

/* What became of a segment that begins a connection: X(name, help). */
#define LB_MSS_RESULTS(X)                                                                          \
	X(lowered, "the MSS was larger than what fits: lowered")                                   \
	X(fits, "the MSS was small enough: left as it is")                                         \
	X(no_option, "a segment without an MSS, from which peers send 536 or 1220 bytes: left")    \
	X(authenticated, "its options are authenticated (TCP-AO), so they must stay: left")        \
	X(malformed, "its options cannot be read: left")

#define LB_MSS_ENUM(name, help) LB_MSS_##name,
enum lb_mss_result { LB_MSS_RESULTS(LB_MSS_ENUM) LB_MSS_RESULT_COUNT };
#undef LB_MSS_ENUM

#define LB_MSS_COUNTERS (0 LB_MSS_RESULTS(LB_PLUS_ONE))

#define LB_MSS_MIN 536	/* what every host takes */
#define LB_MSS_MAX 9176 /* what fits the longest frames of Ethernet */

/* Of an interface: the longest segment that may be asked for, by the family of the packet. */
struct mss_limit {
	__u16 v4;
	__u16 v6;
};

struct mss_state {
	__u64 results[LB_MSS_RESULT_COUNT];
	__u32 at; /* while options are read: the next one, and that of the MSS */
	__u32 found;
};

_Static_assert(sizeof(struct mss_limit) == 4, "abi");
_Static_assert(sizeof(struct mss_state) == 8 * LB_MSS_COUNTERS + 8, "abi");

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What a connection table of either kind knows about a flow. */
#ifndef L4LB_BALANCE_REMEMBERED_H
#define L4LB_BALANCE_REMEMBERED_H

#include <linux/types.h>

/* What a table says of a flow, whatever its kind. */
struct remembered {
	__u32 real;
	__u32 generation; /* of the real when the flow was assigned */
	int expired;
};

#endif

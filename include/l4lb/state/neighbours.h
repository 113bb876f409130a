/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The map of reals' MACs. The balancer and the program for health checks read it. */
#ifndef L4LB_STATE_NEIGHBOURS_H
#define L4LB_STATE_NEIGHBOURS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "l4lb/abi/abi.h"

/* Real id → interface and MAC. BPF_F_MMAPABLE: as `reals`. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, LB_REAL_IDS);
	__type(key, __u32);
	__type(value, struct neighbour);
} neighbours SEC(".maps");

#endif

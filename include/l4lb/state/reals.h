/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The map of reals. The balancer and the copying program of captures read it. */
#ifndef L4LB_STATE_REALS_H
#define L4LB_STATE_REALS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "l4lb/abi/abi.h"

/*
 * Real id → address and state. BPF_F_MMAPABLE: the control plane reads the whole map at each
 * change.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, LB_REAL_IDS);
	__type(key, __u32);
	__type(value, struct real);
} reals SEC(".maps");

#endif

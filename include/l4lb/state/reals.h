/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The map of reals, which captures read, too. */
#ifndef L4LB_STATE_REALS_H
#define L4LB_STATE_REALS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "l4lb/abi/abi.h"

/* Real id → where it is. BPF_F_MMAPABLE: the control plane reads all of them at every change. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, LB_REAL_IDS);
	__type(key, __u32);
	__type(value, struct real);
} reals SEC(".maps");

#endif

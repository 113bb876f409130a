/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The maps of the program that lowers the MSS. It writes `mss_states`, user space `mss_limits`. */
#ifndef L4LB_STATE_MSS_H
#define L4LB_STATE_MSS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "l4lb/abi/abi.h"

/* Interface → the most that a segment which leaves by it may ask for. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, LB_DECAP_MAX_INTERFACES);
	__type(key, __u32);
	__type(value, struct mss_limit);
} mss_limits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mss_state);
} mss_states SEC(".maps");

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What the program for health checks has for itself. */
#ifndef L4LB_STATE_HEALTHCHECK_H
#define L4LB_STATE_HEALTHCHECK_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "l4lb/abi/abi.h"

const volatile struct healthcheck_options options = {};

/* Only the program writes it. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct healthcheck_state);
} healthcheck_states SEC(".maps");

/* Only the program uses it. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, LB_CHECK_FLOWS);
	__type(key, struct check_flow);
	__type(value, __u32);
} check_flows SEC(".maps");

#endif

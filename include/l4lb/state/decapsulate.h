/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The addresses at which tunnels end. The control plane writes these maps. */
#ifndef L4LB_STATE_DECAPSULATE_H
#define L4LB_STATE_DECAPSULATE_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "l4lb/abi/abi.h"

/* There is room for the old and the new ones while an apply is under way. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * LB_MAX_TUNNEL_ENDS);
	__type(key, struct lb_addr);
	__type(value, struct tunnel_end);
} tunnel_ends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * LB_MAX_TUNNEL_ENDS * LB_MAX_TUNNEL_SOURCES);
	__type(key, struct tunnel_source);
	__type(value, __u32);
} tunnel_sources SEC(".maps");

#endif

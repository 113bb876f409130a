/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The map of VIPs. The balancer and the program for health checks read it. */
#ifndef L4LB_STATE_VIPS_H
#define L4LB_STATE_VIPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "l4lb/abi/abi.h"

/* VIPs and markers; an address has at most three markers. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4 * LB_MAX_VIPS);
	__type(key, struct vip_key);
	__type(value, struct vip);
} vips SEC(".maps");

#endif

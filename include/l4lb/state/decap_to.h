/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The VIPs of a real: the destinations that inner packets may have. User space writes them. */
#ifndef L4LB_STATE_DECAP_TO_H
#define L4LB_STATE_DECAP_TO_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "l4lb/abi/abi.h"

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, LB_DECAP_MAX_PREFIXES);
	__type(key, struct decap_prefix);
	__type(value, __u32);
} decap_to SEC(".maps");

static __always_inline int is_in(void *prefixes, const struct lb_addr *addr)
{
	struct decap_prefix key = {.length = 128, .addr = *addr};
	__u32 *counts = bpf_map_lookup_elem(prefixes, &key);

	/* A short IPv6 prefix covers IPv4 too. Another entry, with value 0, excludes IPv4 then. */
	return counts && *counts;
}

#endif

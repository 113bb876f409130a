/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The map of interfaces. The balancer and the program for health checks read it. */
#ifndef L4LB_STATE_INTERFACES_H
#define L4LB_STATE_INTERFACES_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "l4lb/abi/abi.h"

/* The interfaces that the balancer serves: a hash of ifindex, see struct interface. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LB_INTERFACE_PLACES);
	__type(key, __u32);
	__type(value, struct interface);
} interfaces SEC(".maps");

/* Returns an interface, or NULL if this instance does not serve it. */
static __always_inline struct interface *served_interface(__u32 ifindex)
{
	struct interface *interface;
	__u32 at;

	/* Why the loop is unrolled: packet/verifier.h. */
#pragma unroll
	for (int i = 0; i < LB_INTERFACE_PROBES; i++) {
		at = (ifindex + i) % LB_INTERFACE_PLACES;
		interface = bpf_map_lookup_elem(&interfaces, &at);
		if (interface && interface->ifindex == ifindex)
			return interface;
	}
	return NULL;
}

#endif

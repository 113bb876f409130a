/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The balancer's maps. The packet path writes the counters and the connection tables, the control
 * plane writes all others.
 */
#ifndef L4LB_STATE_MAPS_H
#define L4LB_STATE_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "l4lb/abi/abi.h"
#include "l4lb/state/interfaces.h"
#include "l4lb/state/neighbours.h"
#include "l4lb/state/reals.h"
#include "l4lb/state/vips.h"

/*
 * The index of `vips`, which the packet path reads instead of it: one array of buckets. The control
 * plane builds a new array and swaps it in. BPF_F_MMAPABLE: it fills the array in memory.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_ARRAY);
			__uint(map_flags, BPF_F_MMAPABLE);
			__uint(max_entries, LB_VIP_BUCKETS);
			__uint(key_size, sizeof(__u32));
			__uint(value_size, sizeof(struct vip_bucket));
		});
} vip_index SEC(".maps");

/*
 * VIP id → the VIP's ring map; none if the VIP has no usable real. BPF_F_MMAPABLE: the control
 * plane fills a ring in memory, which saves it sixteen thousand system calls.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, LB_MAX_VIPS);
	__type(key, __u32);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_ARRAY);
			__uint(map_flags, BPF_F_MMAPABLE);
			__uint(max_entries, LB_RING_VALUES + LB_BARRED_VALUES);
			__uint(key_size, sizeof(__u32));
			__uint(value_size, sizeof(__u64));
		});
} rings SEC(".maps");

/*
 * The connection tables. Bank and CPU → the table of the CPU: in `flows4` and `flows6` of kind
 * SETS, in `connections` of kind LRU. Each table lies on its CPU's NUMA node, and brings its size
 * along.
 *
 * At LB_SHARED_TABLE, `connections` holds a small table for CPUs without one of their own. It is of
 * kind LRU whatever the others are: several CPUs may write to it at once.
 *
 * BPF_F_MMAPABLE: the kernel then puts values at the start of a page, so that each set begins at a
 * cache line.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, LB_TABLE_PLACES);
	__type(key, __u32);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_ARRAY);
			__uint(map_flags, BPF_F_MMAPABLE | BPF_F_INNER_MAP | BPF_F_NUMA_NODE);
			__uint(max_entries, 1);
			__uint(key_size, sizeof(__u32));
			__uint(value_size, sizeof(struct flow4_set));
		});
} flows4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, LB_TABLE_PLACES);
	__type(key, __u32);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_ARRAY);
			__uint(map_flags, BPF_F_MMAPABLE | BPF_F_INNER_MAP | BPF_F_NUMA_NODE);
			__uint(max_entries, 1);
			__uint(key_size, sizeof(__u32));
			__uint(value_size, sizeof(struct flow6_set));
		});
} flows6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, LB_TABLE_PLACES + 1);
	__type(key, __u32);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_LRU_HASH);
			__uint(map_flags, BPF_F_NUMA_NODE);
			__uint(max_entries, 1);
			__uint(key_size, sizeof(struct flow_key));
			__uint(value_size, sizeof(struct flow));
		});
} connections SEC(".maps");

/* Server id → real id. There is room for the old and the new ids while an apply is under way. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * LB_MAX_SERVER_IDS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u32);
} server_ids SEC(".maps");

/* Counters by reason and by table event, and the rate limits. Only the packet path writes them. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cpu_state);
} cpu_states SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LB_MAX_VIPS);
	__type(key, __u32);
	__type(value, struct vip_count);
} vip_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LB_REAL_COUNTS / LB_COUNTS_PER_BLOCK);
	__type(key, __u32);
	__type(value, struct count_block);
} real_counts SEC(".maps");

/*
 * For the control plane only: what each counter of `real_counts` had when its present pair of a VIP
 * and a real began to use it. To set a counter to zero instead would take away what another CPU
 * counts in the same block at that moment.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, LB_REAL_COUNTS);
	__type(key, __u32);
	__type(value, struct count);
} count_starts SEC(".maps");

/*
 * Only the control plane uses this map and the next one. They are maps so that the pinned maps are
 * the whole state of an instance: here, which reals each VIP has, and what the operator asked for.
 * It is an array with BPF_F_MMAPABLE instead of a hash because the control plane reads all of it at
 * each change: to walk a hash takes the kernel a hundred times as long as to share a few pages.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, LB_VIP_REAL_PLACES);
	__type(key, __u32);
	__type(value, struct vip_real);
} vip_reals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct control);
} control SEC(".maps");

/* These put the structs of inner maps into the object's BTF, from which Rust gets its types. */
const volatile struct flow_key lb_btf_flow_key = {};
const volatile struct flow lb_btf_flow = {};
const volatile struct flow4_set lb_btf_flow4_set = {};
const volatile struct flow6_set lb_btf_flow6_set = {};
const volatile struct vip_bucket lb_btf_vip_bucket = {};

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The balancer's maps. The control plane writes all but the counters and the connection tables. */
#ifndef L4LB_STATE_MAPS_H
#define L4LB_STATE_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "l4lb/abi/abi.h"
#include "l4lb/state/reals.h"

/* VIPs and markers. At most three markers an address. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4 * LB_MAX_VIPS);
	__type(key, struct vip_key);
	__type(value, struct vip);
} vips SEC(".maps");

/*
 * What the packet path reads of `vips`: one array of buckets, built aside and swapped whole.
 * BPF_F_MMAPABLE: the control plane fills it in memory.
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
 * VIP id → its ring map; empty: no usable real. BPF_F_MMAPABLE: the control plane fills a ring in
 * memory instead of with sixteen thousand system calls.
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
 * Bank and CPU → the CPU's connection table, of kind SETS: one map for either family, and of kind
 * LRU. At LB_SHARED_TABLE lies the small one for CPUs without a table of their own, which is of
 * kind LRU in any case: several CPUs may write to it at once. Each lies on its CPU's NUMA node. The
 * sizes come with the inner maps. BPF_F_MMAPABLE: values begin at a page, and thus sets at a cache
 * line.
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

/* Server id → real id. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * LB_MAX_SERVER_IDS); /* those that go and those that come */
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u32);
} server_ids SEC(".maps");

/* The interfaces served, by a small hash of their index: see struct interface. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LB_INTERFACE_PLACES);
	__type(key, __u32);
	__type(value, struct interface);
} interfaces SEC(".maps");

/* Counters by reason and table event, and the rate limits. Written by the packet path only. */
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
	__uint(max_entries, LB_REAL_IDS);
	__type(key, __u32);
	__type(value, struct count);
} real_counts SEC(".maps");

/*
 * For the control plane alone, kept here so that the maps are the whole state: which reals a VIP
 * has, and what was asked for. An array with BPF_F_MMAPABLE, not a hash: all of it is read at every
 * change, and the kernel takes a hundred times as long to walk a hash as to share a few pages.
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

/* Brings the structs of nested maps into the object's BTF, which Rust's types come from. */
const volatile struct flow_key lb_btf_flow_key = {};
const volatile struct flow lb_btf_flow = {};
const volatile struct flow4_set lb_btf_flow4_set = {};
const volatile struct flow6_set lb_btf_flow6_set = {};
const volatile struct vip_bucket lb_btf_vip_bucket = {};

#endif

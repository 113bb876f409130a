/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The maps of decapsulation. The program writes `decap_states`, user space writes the others. */
#ifndef L4LB_STATE_DECAP_H
#define L4LB_STATE_DECAP_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "l4lb/abi/abi.h"
#include "l4lb/state/decap_to.h"

/*
 * Address → LB_DECAP_OUTER, LB_DECAP_OWN: the outer destinations to decapsulate for, by which
 * balancers know this host, and the host's own addresses. The interface is no part of the key: a
 * packet for a bond comes in by one of the bond's members.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, LB_DECAP_MAX_ADDRESSES);
	__type(key, struct lb_addr);
	__type(value, __u32);
} decap_addresses SEC(".maps");

/* The outer sources that may send, if settings.check_source is set. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, LB_DECAP_MAX_PREFIXES);
	__type(key, struct decap_prefix);
	__type(value, __u32);
} decap_from SEC(".maps");

/* Prefixes that are local to the host, if settings.own_prefixes is set. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, LB_DECAP_MAX_PREFIXES);
	__type(key, struct decap_prefix);
	__type(value, __u32);
} decap_own SEC(".maps");

/*
 * Interface → what the operator asked for it. Only user space reads it. The program applies the
 * requests of all interfaces to each of them.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, LB_DECAP_MAX_INTERFACES);
	__type(key, __u32);
	__type(value, struct decap_request);
} decap_requests SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct decap_settings);
} decap_settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct decap_state);
} decap_states SEC(".maps");

#endif

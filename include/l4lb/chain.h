/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The chain: several XDP programs on one interface, run in slot order by the root program. This
 * header is the whole contract. A program that lives in a slot
 *
 *   - is of type SEC("xdp"), without "xdp.frags" (one program array cannot hold both),
 *   - ends with its own verdict, or with `return l4lb_hand_on(ctx)`, which runs the next program
 * and, after the last one, passes the packet to the kernel.
 *
 * Whoever loads the program sets l4lb_slot and shares the two maps, which lie at
 * <bpffs>/l4lb/<instance>/map/{chain,chain_next}.
 */
#ifndef L4LB_CHAIN_H
#define L4LB_CHAIN_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define L4LB_CHAIN_SLOTS 16
#define L4LB_CHAIN_END	 L4LB_CHAIN_SLOTS
#define L4LB_ROOT	 0xffffffffU /* l4lb_slot of the root program, in front of slot 0 */

/* The slot of this program. */
const volatile __u32 l4lb_slot = L4LB_ROOT;

/* Slot → program. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, L4LB_CHAIN_SLOTS);
	__type(key, __u32);
	__type(value, __u32);
} chain SEC(".maps");

/* Slot + 1 → the next slot that holds a program, or L4LB_CHAIN_END; 0 is the root's entry. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, L4LB_CHAIN_SLOTS + 1);
	__type(key, __u32);
	__type(value, __u32);
} chain_next SEC(".maps");

static __always_inline int l4lb_hand_on(struct xdp_md *ctx)
{
	__u32 at = l4lb_slot + 1;
	__u32 *next = bpf_map_lookup_elem(&chain_next, &at);

	if (!next || *next >= L4LB_CHAIN_END)
		return XDP_PASS;
	bpf_tail_call(ctx, &chain, *next);

	/*
	 * The slot was emptied after chain_next was read: no packet may skip the programs behind
	 * it. Unrolled, as verifiers before Linux 6.2 refuse a jump back to behind a call.
	 */
#pragma unroll
	for (__u32 slot = 0; slot < L4LB_CHAIN_SLOTS; slot++)
		if (slot >= at)
			bpf_tail_call(ctx, &chain, slot);
	return XDP_PASS;
}

#endif

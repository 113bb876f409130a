/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The chain: several XDP programs on one interface. The root program starts them in the order of
 * their slots. This header is the whole contract. A program in a slot
 *
 *   - is of type SEC("xdp"), not "xdp.frags": a program array cannot hold both,
 *   - ends with its own verdict, or with `return l4lb_hand_on(ctx)`, which runs the next program.
 * After the last one, the packet passes to the kernel.
 *
 * `lbctl chain insert SLOT OBJECT.bpf.o` loads a program. To load it by other means, set l4lb_slot,
 * share the two maps, which are pinned at <bpffs>/l4lb/<instance>/map/{chain,chain_next}, pin the
 * program, and run `lbctl chain insert SLOT PINNED`.
 */
#ifndef L4LB_CHAIN_H
#define L4LB_CHAIN_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define L4LB_CHAIN_SLOTS 16
#define L4LB_CHAIN_END	 L4LB_CHAIN_SLOTS
#define L4LB_ROOT	 0xffffffffU /* l4lb_slot of the root program, in front of slot 0 */

/*
 * The place of this program: its number in chain_next. No two programs of a chain have the same
 * place. The place is the number of the slot, unless the program has been moved since it was
 * loaded, or another program has that place.
 */
const volatile __u32 l4lb_slot = L4LB_ROOT;

/* Slot → program. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, L4LB_CHAIN_SLOTS);
	__type(key, __u32);
	__type(value, __u32);
} chain SEC(".maps");

/*
 * Place + 1 → the next slot that holds a program, or L4LB_CHAIN_END. Entry 0 is the root program's.
 * lbctl empties a slot only after all packets have left that may have read its number here.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, L4LB_CHAIN_SLOTS + 1);
	__type(key, __u32);
	__type(value, __u32);
} chain_next SEC(".maps");

/* Runs the next program behind a place, or passes the packet if there is none. */
static __always_inline int l4lb_hand_on_behind(struct xdp_md *ctx, __u32 behind)
{
	__u32 at = behind + 1;
	__u32 *next = bpf_map_lookup_elem(&chain_next, &at);

	if (next && *next < L4LB_CHAIN_END)
		bpf_tail_call(ctx, &chain, *next);
	return XDP_PASS;
}

/* Runs the next program, or passes the packet if there is none. */
static __always_inline int l4lb_hand_on(struct xdp_md *ctx)
{
	return l4lb_hand_on_behind(ctx, l4lb_slot);
}

#endif

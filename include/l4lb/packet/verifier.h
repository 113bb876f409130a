/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the verifier demands, and how the code complies. Other headers refer to this page.
 *
 * The verifier runs through the program on every path before the kernel loads it. It gives up after
 * a million instructions, and it keeps no more than 512 bytes of stack. tests/budgets.toml records
 * what each program takes. The programs have to load on Linux 5.15 and later; older verifiers
 * refuse more.
 *
 * - Bounds. The verifier must see a comparison with data_end in front of each access to the
 *   packet. pkt_at in packet/bytes.h does that for nearly all code.
 * - Masks. An offset that is spilled to the stack loses its bounds until Linux 5.18, so the code
 *   masks it again right where it is used. Clang knows the bounds and would drop the mask as
 *   needless: barrier_var(), of libbpf, makes it believe that the value may be anything.
 * - Unrolled loops. Verifiers before Linux 6.2 refuse a loop if anything but a jump leads to its
 *   head, and clang lays loops out as it likes. A loop over a few steps is unrolled instead.
 * - Paths. Where two paths meet, the verifier goes on once only if it knows the same on both.
 *   Parsing has hundreds of paths, each with other offsets and flags. Hence forget_path and
 *   forget_number: they write what is known to a map value and read it back, and what comes out of
 *   a map may be anything. `barrier()` in balancer.bpf.c does the same for values that clang would
 *   carry along in registers.
 * - Stack. struct pkt lives in registers and on the stack. What is needed later, at one place,
 *   waits in struct cpu_state (struct question).
 * - Constants. p->v6 and p->plain are constants in each copy of the code, so clang removes what a
 *   family or a plain packet does not need.
 * - Branches. is_ours in balance/ingress.h compares a MAC with ten others without a branch, or the
 *   verifier would follow the code behind it once for each.
 */
#ifndef L4LB_PACKET_VERIFIER_H
#define L4LB_PACKET_VERIFIER_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "l4lb/abi/abi.h"
#include "l4lb/packet/pkt.h"

/*
 * Returns a reason with which few packets end. Without the barrier, clang computes the reason, and
 * what depends on it, in the code that every packet runs.
 */
static __always_inline int rarely(int reason)
{
	barrier_var(reason);
	return reason;
}

/*
 * Makes the verifier forget on which path the packet was parsed. It would follow each path to the
 * end otherwise.
 */
static __always_inline void forget_path_by(struct pkt *p, struct parsed *parsed)
{
	*parsed = (struct parsed){
		.ports = (__u32)p->dport << 16 | p->sport,
		.flags = p->flags,
		.ip_len = p->ip_len,
		.end = p->end,
		.l3_off = p->l3_off,
		.l4_off = p->l4_off,
		.proto = p->proto,
		.tos = p->tos,
	};
	barrier();
	p->sport = parsed->ports;
	p->dport = parsed->ports >> 16;
	p->flags = parsed->flags;
	p->ip_len = parsed->ip_len;
	p->end = parsed->end;
	p->l3_off = parsed->l3_off;
	p->l4_off = parsed->l4_off;
	p->proto = parsed->proto;
	p->tos = parsed->tos;
}

static __always_inline void forget_path(struct pkt *p, struct cpu_state *cpu)
{
	forget_path_by(p, &cpu->parsed);
}

/* Makes the verifier forget what it knows of a number. */
static __always_inline __u32 forget_number(struct cpu_state *cpu, __u32 number)
{
	volatile __u32 *place = &cpu->parsed.flags;

	*place = number;
	return *place;
}

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What the verifier and clang have to be helped with. */
#ifndef L4LB_PACKET_VERIFIER_H
#define L4LB_PACKET_VERIFIER_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "l4lb/abi/abi.h"
#include "l4lb/packet/pkt.h"

/*
 * A reason with which few packets end. Without the barrier, clang prepares it, and all that goes
 * with it, in the code that every packet runs.
 */
static __always_inline int rarely(int reason)
{
	barrier_var(reason);
	return reason;
}

/*
 * Makes the verifier forget on which of many paths the packet was parsed, or it would follow each
 * of them to the end: what comes out of a map may be anything.
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

/* The same for a number. */
static __always_inline __u32 forget_number(struct cpu_state *cpu, __u32 number)
{
	volatile __u32 *place = &cpu->parsed.flags;

	*place = number;
	return *place;
}

#endif

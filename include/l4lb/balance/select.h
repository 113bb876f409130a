/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Which real a packet of a VIP goes to: an id it carries, the connection table, the ring. */
#ifndef L4LB_BALANCE_SELECT_H
#define L4LB_BALANCE_SELECT_H

#include "l4lb/packet/encap.h"
#include "l4lb/packet/pkt.h"
#include "l4lb/watch/trace.h"
#include "l4lb/balance/connection_table.h"
#include "l4lb/balance/ids.h"
#include "l4lb/balance/ring.h"
#include "l4lb/balance/ring_hash.h"

/*
 * What the VIP's hash mode leaves of the 5-tuple. The packet's own client address and port follow
 * where the outer source address derives from them (encap.h).
 */
static __always_inline void flow_key_of(struct pkt *p, const struct vip *vip, struct flow_key *key)
{
	key->sport = p->sport;
	if (vip->flags & LB_VIP_REDUCED_KEY) {
		if (vip->flags & LB_VIP_IGNORE_SPORT)
			key->sport = p->sport = 0;
		if (vip->flags & LB_VIP_IGNORE_DPORT)
			p->dport = 0;
		if (vip->flags & LB_VIP_DPORT_ONLY) {
			__builtin_memset(&p->src, 0, sizeof(p->src));
			key->sport = p->dport;
		}
	}
	key->dport = p->dport;
	key->src = p->src;
	key->vip = vip->serial;
}

/*
 * Whether a flow may begin, or change its real, with this packet: one that is dropped because it is
 * too long for the real must leave nothing behind.
 */
static __always_inline int may_remember(const struct pkt *p, const struct interface *interface,
					const struct real *real)
{
	return real && !has(p, LB_PKT_RST | LB_PKT_ICMP_ERROR) &&
	       ip_bytes(p) <= path_mtu(interface, real);
}

/* Brings the table in line with the real that an id in the packet named. */
static __always_inline void flow_follow(struct pkt *p, const struct flow_key *key,
					const struct interface *interface, const struct real *real,
					struct cpu_state *cpu)
{
	struct flow_place place = {};
	struct remembered flow = {};
	int known, admitted;

	if (!find_place(p, key, cpu, &place))
		return;
	known = recall(p, &place, key, cpu, &flow);
	if (known && !flow.expired && flow.real == p->real && flow.generation == real->generation)
		return;
	if (!may_remember(p, interface, real))
		return;
	admitted = admit_flow(cpu);
	if (admitted || known)
		flow_put(p, &place, key, real, !admitted, cpu);
}

/*
 * The real of a flow that is looked for in the table, or else in the ring and then remembered. Sets
 * *why.
 *
 * A SYN begins a connection: there is nothing to look for. Unless connections share an entry: then
 * it begins one of many, and goes where the others are, or it would take them along.
 */
static __always_inline struct real *flow_select(struct pkt *p, const struct vip *vip,
						const struct flow_key *key,
						const struct interface *interface,
						struct cpu_state *cpu, int *why)
{
	int asked = !has(p, LB_PKT_SYN) || vip->flags & LB_VIP_REDUCED_KEY;
	struct flow_place place = {};
	int admitted, known_only, found = 0;
	struct real *real;

	if (asked) {
		found = find_place(p, key, cpu, &place);
		real = found ? flow_lookup(p, vip, &place, key, cpu) : NULL;
		if (real) {
			*why = LB_TX_connection_table;
			return real;
		}
	} else {
		cpu->table[LB_TABLE_miss_syn]++;
	}
	*why = LB_TX_ring;
	p->new_flow = !has(p, LB_PKT_RST | LB_PKT_ICMP_ERROR);
	real = ring_select(p, vip, key);
	if (!may_remember(p, interface, real) || (asked && !found))
		return real;
	/*
	 * A client that uses its port again must not find the table pointing elsewhere than its SYN
	 * went. It cannot, while the ring is the one that the table was filled by: a flood of SYNs
	 * then leaves the table alone.
	 */
	admitted = admit_flow(cpu);
	known_only = !admitted && has(p, LB_PKT_SYN) && vip->flags & LB_VIP_RING_CHANGED;
	if (!admitted && !known_only)
		return real;
	if (!asked && !find_place(p, key, cpu, &place))
		return real;
	flow_put(p, &place, key, real, known_only, cpu);
	return real;
}

/* Sets *real and p->real and returns why it is these; or returns the reason to drop the packet. */
static __always_inline int select_real(struct xdp_md *ctx, struct pkt *p, const struct vip *vip,
				       const struct interface *interface, struct cpu_state *cpu,
				       struct real **real)
{
	int stateful = !(vip->flags & LB_VIP_STATELESS);
	int why = LB_TX_ring;
	struct flow_key key;

	flow_key_of(p, vip, &key);
	if (tracing)
		trace_flow(p, &key, ring_slot(p, &key));
	if (vip->flags & LB_VIP_QUIC_SERVER_ID) {
		*real = server_id_select(ctx, p, vip, cpu);
		if (*real) {
			if (stateful)
				flow_follow(p, &key, interface, *real, cpu);
			return LB_TX_server_id;
		}
	}
	*real = stateful ? flow_select(p, vip, &key, interface, cpu, &why)
			 : ring_select(p, vip, &key);
	return *real ? why : LB_DROP_no_real;
}

#endif

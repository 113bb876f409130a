/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Selects the real of a packet to a VIP: by an id in the packet, by the connection table, or by the
 * ring.
 */
#ifndef L4LB_BALANCE_SELECT_H
#define L4LB_BALANCE_SELECT_H

#include "l4lb/packet/encap.h"
#include "l4lb/packet/pkt.h"
#include "l4lb/packet/way.h"
#include "l4lb/watch/trace.h"
#include "l4lb/balance/connection_table.h"
#include "l4lb/balance/ids.h"
#include "l4lb/balance/ring.h"
#include "l4lb/balance/ring_hash.h"

/*
 * Makes the flow's key: the 5-tuple, as far as the VIP's hash mode uses it. It changes the packet's
 * address and ports too, because the outer source address derives from them (packet/outer.h). The
 * source port of GUE is another matter, and is put aside.
 */
static __always_inline void flow_key_of(struct pkt *p, const struct vip *vip, struct cpu_state *cpu,
					struct flow_key *key)
{
	key->sport = p->sport;
	if (vip->flags & LB_VIP_REDUCED_KEY) {
		if (vip->flags & LB_VIP_IGNORE_SPORT) {
			cpu->wire_sport = p->sport;
			key->sport = p->sport = 0;
		}
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
 * Whether the table may remember the flow of this packet. It must not if the packet is too long for
 * the real: that packet is dropped, and must not change anything.
 */
static __always_inline int may_remember(const struct pkt *p, const struct interface *interface,
					const struct vip *vip, const struct real *real)
{
	return real && !has(p, LB_PKT_RST | LB_PKT_ICMP_ERROR) &&
	       ip_bytes(p) <= path_mtu(interface, vip->flags, real);
}

/* Updates the table after an id in the packet has selected the real. */
static __always_inline void flow_follow(struct pkt *p, const struct vip *vip,
					const struct flow_key *key,
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
	if (!may_remember(p, interface, vip, real))
		return;
	admitted = admit_flow(cpu);
	if (admitted || known)
		flow_put(p, &place, key, real, !admitted, cpu);
}

/*
 * Selects the real by the table, or else by the ring, and remembers it then. Sets *why.
 *
 * A SYN begins a connection, so the table is not asked. It is asked if the hash mode makes
 * connections share an entry: then a SYN has to go where the other connections of its entry are.
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
	if (!may_remember(p, interface, vip, real) || (asked && !found))
		return real;
	/*
	 * If the flood guard refuses a SYN, its flow may still have an entry, of an earlier
	 * connection from the same port. That entry must not send the next packet to another real
	 * than the SYN, so it is overwritten. If the ring has never changed, both name the same
	 * real, and a flood of SYNs does not write to the table.
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

/* Sets *real and p->real. Returns the reason for the choice, or the reason to drop the packet. */
static __always_inline int select_real(struct xdp_md *ctx, struct pkt *p, const struct vip *vip,
				       const struct interface *interface, struct cpu_state *cpu,
				       struct real **real)
{
	int stateful = !(vip->flags & LB_VIP_STATELESS);
	int why = LB_TX_ring;
	struct flow_key key;

	flow_key_of(p, vip, cpu, &key);
	if (tracing)
		trace_flow(p, &key, ring_slot(p, &key));
	if (vip->flags & LB_VIP_QUIC_SERVER_ID) {
		*real = server_id_select(ctx, p, vip, cpu);
		if (*real) {
			if (stateful)
				flow_follow(p, vip, &key, interface, *real, cpu);
			return LB_TX_server_id;
		}
	}
	*real = stateful ? flow_select(p, vip, &key, interface, cpu, &why)
			 : ring_select(p, vip, &key);
	return *real ? why : LB_DROP_no_real;
}

#endif

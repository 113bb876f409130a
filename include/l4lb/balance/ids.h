/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Selection by an id that the packet carries. */
#ifndef L4LB_BALANCE_IDS_H
#define L4LB_BALANCE_IDS_H

#include "l4lb/state/maps.h"
#include "l4lb/packet/pkt.h"
#include "l4lb/packet/quic.h"
#include "l4lb/watch/trace.h"
#include "l4lb/balance/ring.h"

/*
 * Returns the real whose server id a QUIC packet carries, or NULL. Other kinds of ids belong here.
 */
static __always_inline struct real *server_id_select(struct xdp_md *ctx, struct pkt *p,
						     const struct vip *vip, struct cpu_state *cpu)
{
	struct real *real = NULL;
	__s64 found;
	__u32 id, *known;

	/* An ICMP error quotes too little of the packet to contain the id. */
	if (has(p, LB_PKT_ICMP_ERROR))
		return NULL;
	found = quic_server_id(ctx, p);
	if (found == QUIC_NO_SERVER_ID)
		return NULL;
	id = found;
	if (tracing)
		trace_server_id(id);
	known = bpf_map_lookup_elem(&server_ids, &id);
	if (known) {
		p->real = *known;
		real = live_real(p->real);
		if (real && is_barred(vip, p->real))
			real = NULL;
	}
	cpu->table[real ? LB_TABLE_server_id_known : LB_TABLE_server_id_unknown]++;
	return real;
}

#endif

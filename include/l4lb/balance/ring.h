/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Reals of a VIP: its ring, and the check whether a real may serve it. */
#ifndef L4LB_BALANCE_RING_H
#define L4LB_BALANCE_RING_H

#include "l4lb/state/maps.h"
#include "l4lb/packet/pkt.h"
#include "l4lb/balance/ring_hash.h"

/* Returns the real with this id if it is live, or NULL. */
static __always_inline struct real *live_real(__u32 id)
{
	struct real *real = bpf_map_lookup_elem(&reals, &id);

	return real && real->flags & LB_REAL_LIVE ? real : NULL;
}

static __always_inline void *vip_ring(const struct vip *vip)
{
	__u32 id = vip->id;

	return bpf_map_lookup_elem(&rings, &id);
}

/* Whether the real is barred: it is down for this VIP, or no longer one of the VIP's reals. */
static __always_inline int is_barred(const struct vip *vip, __u32 real)
{
	__u32 at = LB_RING_VALUES + real / 64;
	__u64 *bits;
	void *ring;

	if (!(vip->flags & LB_VIP_BARRED))
		return 0;
	ring = vip_ring(vip);
	if (!ring)
		return 0;
	bits = bpf_map_lookup_elem(ring, &at);
	return !bits || *bits >> (real % 64) & 1;
}

static __always_inline struct real *ring_select(struct pkt *p, const struct vip *vip,
						const struct flow_key *key)
{
	void *ring = vip_ring(vip);
	__u32 slot, at;
	__u64 *ids;

	if (!ring)
		return NULL;
	slot = ring_slot(p, key);
	at = slot / LB_RING_IDS_PER_VALUE;
	ids = bpf_map_lookup_elem(ring, &at);
	if (!ids)
		return NULL;
	p->real = *ids >> (slot % LB_RING_IDS_PER_VALUE * 16) & 0xffff;
	return live_real(p->real);
}

#endif

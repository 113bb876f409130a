/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Which real a packet of a VIP goes to: an id it carries, the connection table, the ring. */
#ifndef L4LB_SELECT_H
#define L4LB_SELECT_H

#include "flow.h"
#include "hash.h"
#include "quic.h"

/* Seeds of the flow hash. Part of the agreement with Katran. */
#define LB_FLOW_SEED	33554944
#define LB_FLOW_SEED_V6 512

/*
 * Finds the VIP that the packet is for. Without readable ports: the marker of the address, which
 * says that there are VIPs of this protocol. It is copied: the kernel gives the element of an entry
 * that is written anew to the next one at once, under the eyes of those who found it.
 */
static __always_inline int find_vip(const struct pkt *p, struct vip *found)
{
	struct vip_key key = {.addr = p->dst, .port = p->dport, .proto = p->proto};
	struct vip *vip = bpf_map_lookup_elem(&vips, &key);

	if (!vip && key.port) {
		key.port = 0;
		vip = bpf_map_lookup_elem(&vips, &key);
	}
	if (!vip)
		return 0;
	*found = *vip;
	return p->flags & LB_PKT_NO_PORTS || !(found->flags & LB_VIP_MARKER);
}

/* Whether some VIP has the packet's destination address. */
static __always_inline int is_vip_address(const struct pkt *p)
{
	struct vip_key key = {.addr = p->dst, .proto = IPPROTO_ICMP};

	return bpf_map_lookup_elem(&vips, &key) != NULL;
}

/*
 * How a packet ends that ends with `reason` if it is for a VIP address, and came in by an interface
 * on which this instance serves them.
 */
static __always_inline int for_vip_address(const struct pkt *p, int reason)
{
	if (!is_vip_address(p))
		return LB_PASS_not_vip;
	return p->flags & LB_PKT_FOREIGN ? LB_PASS_other_interface : reason;
}

/*
 * What the VIP's hash mode leaves of the 5-tuple. The packet's own client address and port follow
 * where the outer source address derives from them (encap.h).
 */
static __always_inline void flow_key_of(struct pkt *p, const struct vip *vip, struct flow_key *key)
{
	if (vip->flags & LB_VIP_IGNORE_SPORT)
		p->sport = 0;
	if (vip->flags & LB_VIP_IGNORE_DPORT)
		p->dport = 0;
	key->sport = p->sport;
	if (vip->flags & LB_VIP_DPORT_ONLY) {
		__builtin_memset(&p->src, 0, sizeof(p->src));
		key->sport = p->dport;
	}
	key->dport = p->dport;
	key->src = p->src;
	key->vip = vip->serial;
}

static __always_inline __u32 ring_slot(const struct pkt *p, const struct flow_key *key)
{
	__u32 ports, src = key->src.word[3];

	__builtin_memcpy(&ports, &key->sport, sizeof(ports));
	if (p->flags & LB_PKT_V6)
		src = jhash_16bytes(key->src.word, LB_FLOW_SEED_V6);
	return jhash_2words(src, ports, LB_FLOW_SEED) % LB_RING_SIZE;
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

/*
 * The real named by an id in the packet. Other kinds of ids belong here.
 */
static __always_inline struct real *server_id_select(struct xdp_md *ctx, struct pkt *p,
						     const struct vip *vip, struct cpu_state *cpu)
{
	struct real *real = NULL;
	__s64 found;
	__u32 id, *known;

	/* An ICMP error quotes too little of the packet. */
	if (!(vip->flags & LB_VIP_QUIC_SERVER_ID) || p->flags & LB_PKT_ICMP_ERROR)
		return NULL;
	found = quic_server_id(ctx, p);
	if (found == QUIC_NO_SERVER_ID)
		return NULL;
	id = found;
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

/* Brings the table in line with the real that an id in the packet named. */
static __always_inline void flow_follow(struct pkt *p, void *table, const struct flow_key *key,
					const struct real *real, struct cpu_state *cpu)
{
	struct flow *flow = bpf_map_lookup_elem(table, key);

	if (flow && flow->real == p->real && flow->generation == real->generation)
		flow->last_seen = bpf_ktime_get_coarse_ns();
	else
		flow_insert(p, table, key, real, flow, cpu);
}

/* Sets *real and p->real and returns why it is these; or returns the reason to drop the packet. */
static __always_inline int select_real(struct xdp_md *ctx, struct pkt *p, const struct vip *vip,
				       struct cpu_state *cpu, struct real **real)
{
	struct flow_key key;
	void *table = NULL;

	flow_key_of(p, vip, &key);
	if (!(vip->flags & LB_VIP_STATELESS)) {
		table = flow_table();
		if (!table)
			cpu->table[LB_TABLE_no_table]++;
	}
	*real = server_id_select(ctx, p, vip, cpu);
	if (*real) {
		if (table)
			flow_follow(p, table, &key, *real, cpu);
		return LB_TX_server_id;
	}
	if (table) {
		if (p->flags & LB_PKT_SYN)
			cpu->table[LB_TABLE_miss_syn]++;
		else
			*real = flow_lookup(p, vip, table, &key, cpu);
		if (*real)
			return LB_TX_connection_table;
	}
	*real = ring_select(p, vip, &key);
	if (!*real)
		return LB_DROP_no_real;
	if (table && !(p->flags & (LB_PKT_RST | LB_PKT_ICMP_ERROR))) {
		p->new_flow = 1;
		flow_insert(p, table, &key, *real, NULL, cpu);
	}
	return LB_TX_ring;
}

#endif

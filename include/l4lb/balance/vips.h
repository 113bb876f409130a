/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Which VIP a packet is for.
 *
 * `vip_index` holds the keys of `vips` laid out for the packet path: an array, which is read
 * without a call, where `vips` takes a third of what a packet costs. The control plane swaps it
 * whole; a key that found no room in its bucket, and every key while there is no index, is looked
 * up in `vips`.
 */
#ifndef L4LB_BALANCE_VIPS_H
#define L4LB_BALANCE_VIPS_H

#include "l4lb/state/maps.h"
#include "l4lb/packet/addr.h"
#include "l4lb/packet/pkt.h"

/*
 * The bucket of a key; src/vip_index.rs has the same. VIPs are the operator's own, so it needs no
 * secret. But they are numbered: by host, by network, by port. Between the words, the high half is
 * brought down to the low one, or what one word adds another one takes away again: the last byte of
 * a /64 and that of a host lie at the same place of their words. IPv4 has no high word: one
 * multiplication less.
 */
static __always_inline __u32 vip_bucket(const struct lb_addr *addr, __be16 port, __u8 proto)
{
	__u64 hash = addr_high(addr) * LB_VIP_HASH_HIGH;

	hash ^= hash >> 32;
	hash += addr_low(addr);
	hash ^= hash >> 32;
	hash *= LB_VIP_HASH_ADDR;
	hash ^= hash >> 32;
	hash ^= (__u32)proto << 16 | port;
	hash *= LB_VIP_HASH_LAST;
	return hash >> (64 - LB_VIP_BUCKET_BITS);
}

/* Compares as few words as there are. */
static __always_inline int vip_entry_is(const struct vip_entry *entry, const struct lb_addr *addr,
					__be16 port, __u8 proto)
{
	const __u64 *words = (const __u64 *)entry;

	return words[1] == addr_low(addr) &&
	       *(const __u32 *)&entry->key.port == ((__u32)proto << 16 | port) &&
	       words[0] == addr_high(addr);
}

/*
 * Finds a key. The value is copied: the kernel gives the element of an entry that is written anew
 * to the next one at once, under the eyes of those who found it. If there is none, flags say
 * whether other ports of VIP addresses have rules.
 */
static __always_inline int lookup_vip(void *index, const struct lb_addr *addr, __be16 port,
				      __u8 proto, struct vip *found)
{
	__u32 at = vip_bucket(addr, port, proto);
	struct vip_bucket *bucket = NULL;
	struct vip_entry *entry;

	if (index)
		bucket = bpf_map_lookup_elem(index, &at);
	if (bucket) {
		entry = &bucket->entry[0];
		if (!vip_entry_is(entry, addr, port, proto)) {
			entry = &bucket->entry[1];
			if (!vip_entry_is(entry, addr, port, proto))
				entry = NULL;
		}
		if (entry) {
			*found = entry->vip;
			return 1;
		}
	}
	if (!bucket || bucket->entry[0].vip.flags & LB_VIP_BUCKET_FULL) {
		struct vip_key key = {.addr = *addr, .port = port, .proto = proto};
		struct vip *vip = bpf_map_lookup_elem(&vips, &key);

		if (vip) {
			*found = *vip;
			return 1;
		}
	}
	found->flags = bucket ? bucket->entry[0].vip.flags & LB_VIP_PORT_RULES : LB_VIP_PORT_RULES;
	return 0;
}

static __always_inline void *vip_index_now(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&vip_index, &zero);
}

/*
 * Finds the VIP that the packet is for. Without readable ports: the marker of the address, which
 * says that there are VIPs of this protocol.
 */
static __always_inline int find_vip(const struct pkt *p, struct vip *found)
{
	void *index = vip_index_now();

	if (!lookup_vip(index, &p->dst, p->dport, p->proto, found) &&
	    (!p->dport || !lookup_vip(index, &p->dst, 0, p->proto, found)))
		return 0;
	return has(p, LB_PKT_NO_PORTS) || !(found->flags & LB_VIP_MARKER);
}

/*
 * What becomes of a packet to a port that no VIP has, LB_OTHER_PORTS_*, with what find_vip has left
 * in `found`: a marker of the address, which knows, or whether it is worth while to look for one.
 */
static __always_inline __u32 other_ports(const struct pkt *p, struct vip *found)
{
	if (!(found->flags & (LB_VIP_MARKER | LB_VIP_PORT_RULES)))
		return LB_OTHER_PORTS_UNSAID;
	if (!(found->flags & LB_VIP_MARKER) &&
	    !lookup_vip(vip_index_now(), &p->dst, 0, IPPROTO_ICMP, found))
		return LB_OTHER_PORTS_UNSAID;
	return found->flags >> LB_VIP_OTHER_PORTS_SHIFT & 3;
}

/*
 * How a packet ends that ends with `reason` if it is for a VIP address, in a frame for this host,
 * and came in by an interface on which this instance serves them. Then `marker` is that of the
 * address.
 */
static __always_inline int for_vip_address(const struct pkt *p, struct vip *marker, int reason)
{
	if (!lookup_vip(vip_index_now(), &p->dst, 0, IPPROTO_ICMP, marker))
		return LB_PASS_not_vip;
	if (has(p, LB_PKT_FOREIGN))
		return LB_PASS_other_interface;
	return has(p, LB_PKT_OTHER_MAC) ? LB_PASS_other_mac : reason;
}

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Finds the VIP of a packet.
 *
 * `vip_index` holds the keys of `vips` in an array of buckets. The program reads an array without a
 * call; a look-up in `vips`, a hash, would be a third of the cost of a packet. The control plane
 * swaps the whole index. The program asks `vips` only for keys that did not fit into their bucket,
 * and while there is no index.
 */
#ifndef L4LB_BALANCE_VIPS_H
#define L4LB_BALANCE_VIPS_H

#include "l4lb/state/maps.h"
#include "l4lb/packet/addr.h"
#include "l4lb/packet/pkt.h"

/*
 * Returns the bucket of a key. The Rust code of the index computes the same. The operator chooses
 * the VIPs, so the hash needs no secret. But VIPs often have consecutive hosts, networks or ports.
 * Between two words, the hash mixes its high half into the low one. Otherwise a difference in one
 * word could cancel a difference in another: the last bytes of a /64 and of a host lie at the same
 * place of their words. IPv4 addresses have no high word, which saves a multiplication.
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

/* Compares by words, the one that differs most often first. */
static __always_inline int vip_entry_is(const struct vip_entry *entry, const struct lb_addr *addr,
					__be16 port, __u8 proto)
{
	const __u64 *words = (const __u64 *)entry;

	return words[1] == addr_low(addr) &&
	       *(const __u32 *)&entry->key.port == ((__u32)proto << 16 | port) &&
	       words[0] == addr_high(addr);
}

/*
 * Looks up a key, and copies its value: the kernel may reuse the element of a hash for another key
 * while the program still reads it. If there is no such key, found->flags has what every
 * bucket says (LB_VIP_PORT_RULES, LB_VIP_PORTS_NAMED).
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
	found->flags =
		bucket ? bucket->entry[0].vip.flags & (LB_VIP_PORT_RULES | LB_VIP_PORTS_NAMED)
		       : LB_VIP_PORT_RULES;
	return 0;
}

static __always_inline void *vip_index_now(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&vip_index, &zero);
}

/*
 * Finds the VIP of the packet. For a packet without readable ports it finds the marker of the
 * address and protocol.
 */
static __always_inline int find_vip(const struct pkt *p, struct vip *found)
{
	void *index = vip_index_now();

	if (!lookup_vip(index, &p->dst, p->dport, p->proto, found) &&
	    (!p->dport || found->flags & LB_VIP_PORTS_NAMED ||
	     !lookup_vip(index, &p->dst, 0, p->proto, found)))
		return 0;
	return has(p, LB_PKT_NO_PORTS) || !(found->flags & LB_VIP_MARKER);
}

/*
 * Returns what to do with a packet to a port that no VIP has, LB_OTHER_PORTS_*. `found` is what
 * find_vip has set: a marker of the address, which knows the rule; or flags that tell whether any
 * address has one.
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
 * Returns `reason` if the packet is for a VIP address, in a frame for this host, and came in by an
 * interface that the instance serves; `marker` is then the marker of the address. Otherwise it
 * returns the reason to pass the packet.
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

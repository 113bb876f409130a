/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The Ethernet header and its VLAN tags. Code that moves the frame's head reads them before and
 * writes them after.
 */
#ifndef L4LB_PACKET_L2_H
#define L4LB_PACKET_L2_H

#include "l4lb/packet/bytes.h"
#include "l4lb/packet/pkt.h"

/* The MAC word of the frame's destination. */
static __always_inline __u64 mac_word(const struct ethhdr *eth)
{
	return *(const __u64 *)eth << LB_MAC_SHIFT;
}

/* The EtherType. Struct ethhdr is packed, so clang would read its member byte by byte. */
static __always_inline __be16 ether_type(const struct ethhdr *eth)
{
	return *(const __be16 *)((const void *)eth + 2 * ETH_ALEN);
}

/*
 * Whether the frame's source is the broadcast address, or cannot be read. Whatever is sent back
 * there would reach every host of the network. Other groups' addresses count as hosts': the frames
 * of Katran's tests have one, and are answered.
 */
static __always_inline int is_from_broadcast(packet_ctx *ctx)
{
	struct ethhdr *eth = pkt_at(ctx, 0, sizeof(*eth));

	return !eth || (*(const __u32 *)&eth->h_source[0] == 0xffffffff &&
			*(const __u16 *)&eth->h_source[4] == 0xffff);
}

/* The MAC word of the interface's gateway. */
static __always_inline __u64 gateway_mac(const struct interface *interface)
{
	return *(const __u64 *)interface->mac << LB_MAC_SHIFT;
}

/* Halfwords, because clang copies bytes one by one. */
struct mac {
	__u16 half[ETH_ALEN / 2];
};

struct l2_header {
	struct mac dst;
	struct mac src;
	__be32 tags[2]; /* TPID and TCI of each; p->l3_off tells how many there are */
};

static __always_inline int read_l2(packet_ctx *ctx, struct l2_header *l2)
{
	struct l2_header *frame = pkt_at(ctx, 0, sizeof(*frame));

	if (!frame)
		return -1;
	*l2 = *frame;
	return 0;
}

/*
 * Writes the packet's VLAN tags and the EtherType to the place behind the MACs. Returns the place
 * of the network header.
 */
static __always_inline void *put_ether_type(void *at, const struct pkt *p, const __be32 tags[2],
					    __be16 proto)
{
	if (p->l3_off >= ETH_HLEN + 4) {
		*(__be32 *)at = tags[0];
		at += 4;
	}
	if (p->l3_off >= ETH_HLEN + 8) {
		*(__be32 *)at = tags[1];
		at += 4;
	}
	*(__be16 *)at = proto;
	return at + 2;
}

/* Returns the place of the network header, or NULL if its l3_len bytes are not in the frame. */
static __always_inline void *write_l2(packet_ctx *ctx, const struct pkt *p,
				      const struct l2_header *l2, __be16 proto, __u32 l3_len)
{
	void *at = pkt_data(ctx);

	if (at + ETH_HLEN + sizeof(l2->tags) + l3_len > pkt_end(ctx))
		return NULL;
	((struct mac *)at)[0] = l2->dst;
	((struct mac *)at)[1] = l2->src;
	return put_ether_type(at + 2 * ETH_ALEN, p, l2->tags, proto);
}

/* Writes destination and source of a frame, which are given as MAC words. */
static __always_inline void write_macs(void *frame, __u64 dst, __u64 src)
{
	*(__u64 *)frame = dst >> LB_MAC_SHIFT | src >> LB_MAC_SHIFT << 48;
	*(__u32 *)(frame + sizeof(__u64)) = src >> (LB_MAC_SHIFT + 16);
}

/*
 * Call it after bpf_xdp_adjust_head(ctx, -room). Moves the Ethernet header and its tags to the
 * front and addresses the frame to the gateway, whose MAC word this is. Returns the place of the
 * network header, or NULL.
 */
static __always_inline void *move_l2(packet_ctx *ctx, const struct pkt *p, __u32 room,
				     __u64 gateway, __be16 proto)
{
	void *at = pkt_data(ctx);
	struct l2_header *old = at + room;
	__be32 tags[2];

	if (at + room + ETH_HLEN + sizeof(tags) > pkt_end(ctx))
		return NULL;
	tags[0] = old->tags[0];
	tags[1] = old->tags[1];
	write_macs(at, gateway, p->mac);
	return put_ether_type(at + 2 * ETH_ALEN, p, tags, proto);
}

static __always_inline void swap_macs(struct ethhdr *eth)
{
	struct mac *macs = (struct mac *)eth;
	struct mac dst = macs[0];

	macs[0] = macs[1];
	macs[1] = dst;
}

#endif

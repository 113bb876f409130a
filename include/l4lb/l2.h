/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The Ethernet header and its VLAN tags, taken off before the frame's head moves and put back after. */
#ifndef L4LB_L2_H
#define L4LB_L2_H

#include "pkt.h"

struct l2_header {
	__u8 dst[ETH_ALEN];
	__u8 src[ETH_ALEN];
	__be32 tags[2]; /* TPID and TCI each; as many as p->l3_off leaves room for */
};

static __always_inline int read_l2(struct xdp_md *ctx, const struct pkt *p, struct l2_header *l2)
{
	__u8 *frame = pkt_data(ctx);

	if (frame + 2 * ETH_ALEN + sizeof(l2->tags) > (__u8 *)pkt_end(ctx))
		return -1;
	__builtin_memcpy(l2, frame, 2 * ETH_ALEN);
	if (p->l3_off > ETH_HLEN)
		__builtin_memcpy(l2->tags, frame + 2 * ETH_ALEN, sizeof(l2->tags));
	return 0;
}

/* Returns the place of the network header, l3_len bytes of which are in the frame, or NULL. */
static __always_inline void *write_l2(struct xdp_md *ctx, const struct pkt *p,
				      const struct l2_header *l2, __be16 proto, __u32 l3_len)
{
	__u8 *at = pkt_data(ctx);

	if (at + ETH_HLEN + sizeof(l2->tags) + l3_len > (__u8 *)pkt_end(ctx))
		return NULL;
	__builtin_memcpy(at, l2, 2 * ETH_ALEN);
	at += 2 * ETH_ALEN;
	if (p->l3_off >= ETH_HLEN + 4) {
		__builtin_memcpy(at, &l2->tags[0], 4);
		at += 4;
	}
	if (p->l3_off >= ETH_HLEN + 8) {
		__builtin_memcpy(at, &l2->tags[1], 4);
		at += 4;
	}
	*(__be16 *)at = proto;
	return at + 2;
}

static __always_inline void swap_macs(struct ethhdr *eth)
{
	__u8 mac[ETH_ALEN];

	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
}

#endif

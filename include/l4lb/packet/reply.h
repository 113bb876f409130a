/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* IP headers of replies to the sender of a packet. */
#ifndef L4LB_PACKET_REPLY_H
#define L4LB_PACKET_REPLY_H

#include "l4lb/packet/checksum.h"
#include "l4lb/packet/pkt.h"

#define LB_REPLY_TTL 64

/* Writes the IPv4 header of a reply over whatever is there. */
static __always_inline void write_v4(struct iphdr *ip, const struct pkt *p, __u8 proto, __u32 len)
{
	__builtin_memset(ip, 0, sizeof(*ip));
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = bpf_htons(sizeof(*ip) + len);
	ip->ttl = LB_REPLY_TTL;
	ip->protocol = proto;
	ip->saddr = p->dst.word[3];
	ip->daddr = p->src.word[3];
	ip->check = csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)ip, sizeof(*ip), 0));
}

static __always_inline void write_v6(struct ipv6hdr *ip, const struct pkt *p, __u8 proto, __u32 len)
{
	__builtin_memset(ip, 0, sizeof(*ip));
	ip->version = 6;
	ip->payload_len = bpf_htons(len);
	ip->nexthdr = proto;
	ip->hop_limit = LB_REPLY_TTL;
	__builtin_memcpy(&ip->saddr, &p->dst, sizeof(ip->saddr));
	__builtin_memcpy(&ip->daddr, &p->src, sizeof(ip->daddr));
}

#endif

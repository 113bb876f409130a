/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The packet on its way: what parsing found out, by offsets, which survive bpf_xdp_adjust_head. */
#ifndef L4LB_PACKET_PKT_H
#define L4LB_PACKET_PKT_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/icmpv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "l4lb/abi/abi.h"

#define LB_PKT_OPTIONS	   (1 << 0) /* IPv4 header longer than 20 bytes */
#define LB_PKT_FRAGMENT	   (1 << 1)
#define LB_PKT_NO_PORTS	   (1 << 2) /* the transport header's ports are not in this packet */
#define LB_PKT_RUNT	   (1 << 3) /* ends before the end of its transport header */
#define LB_PKT_BAD_LENGTH  (1 << 4) /* the IP header says that it is longer than the frame */
#define LB_PKT_EXT_HEADERS (1 << 5) /* what its extension headers lead to was not found */
#define LB_PKT_SYN	   (1 << 6)
#define LB_PKT_RST	   (1 << 7)
#define LB_PKT_ICMP_ERROR  (1 << 8)  /* src, ports and proto are the quoted flow's, swapped */
#define LB_PKT_FOREIGN	   (1 << 9)  /* came in by an interface that is not served */
#define LB_PKT_OTHER_MAC   (1 << 10) /* the frame is not for this host */

/*
 * Never give a helper the address of a member: clang keeps a struct in registers, and knows what it
 * holds, only while its address stays within the program.
 */
struct pkt {
	struct lb_addr src; /* the client, IPv4 as IPv4-mapped */
	struct lb_addr dst;
	__u64 mac; /* MAC word: the frame's destination */
	__be16 sport;
	__be16 dport;
	__u32 flags;
	__u32 frame_len; /* as received */
	__u32 ip_len;	 /* as the IP header says, header included */
	__u32 end;	 /* where the packet ends; what the frame has behind it is padding */
	__u32 l3_off;	 /* 14, and 4 for every VLAN tag */
	__u32 l4_off;
	__u8 v6;    /* a constant in the code for either family */
	__u8 plain; /* a constant: no flags but LB_PKT_SYN and LB_PKT_RST (parse.h) */
	__u8 proto;
	__u8 tos;
	__u32 vip;  /* id, once has_vip */
	__u32 real; /* id, once the reason says that the packet goes to one */
	__u8 has_vip;
	__u8 new_flow;
};

#define LB_PKT_PLAIN (LB_PKT_SYN | LB_PKT_RST)

static __always_inline int has(const struct pkt *p, __u32 flags)
{
	return p->flags & (p->plain ? flags & LB_PKT_PLAIN : flags);
}

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * struct pkt: what parsing has found out about the packet. It holds offsets, because pointers into
 * the packet become invalid when bpf_xdp_adjust_head moves its head.
 */
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

/*
 * Flags. A plain packet has LB_PKT_SYN and LB_PKT_RST at most. If parse_v4 or parse_v6 sets another
 * flag, parse_plain_v4 or parse_plain_v6 has to say that the packet is not plain.
 */
#define LB_PKT_OPTIONS	   (1 << 0) /* IPv4 header longer than 20 bytes */
#define LB_PKT_FRAGMENT	   (1 << 1)
#define LB_PKT_NO_PORTS	   (1 << 2) /* this packet does not contain the ports */
#define LB_PKT_RUNT	   (1 << 3) /* the packet ends within its transport header */
#define LB_PKT_BAD_LENGTH  (1 << 4) /* the length in the IP header exceeds the frame */
#define LB_PKT_EXT_HEADERS (1 << 5) /* no transport header found behind extension headers */
#define LB_PKT_SYN	   (1 << 6)
#define LB_PKT_RST	   (1 << 7)
#define LB_PKT_ICMP_ERROR  (1 << 8)  /* src, ports, proto are the quoted flow's, swapped */
#define LB_PKT_FOREIGN	   (1 << 9)  /* the interface of ingress is not served */
#define LB_PKT_OTHER_MAC   (1 << 10) /* the frame is addressed to another host */

/*
 * Do not pass the address of a member to a BPF helper: clang keeps the struct in registers, and
 * knows what is in it, only as long as no address of it leaves the program.
 */
struct pkt {
	struct lb_addr src; /* the client, IPv4 as IPv4-mapped */
	struct lb_addr dst;
	__u64 mac; /* MAC word of the frame's destination */
	__be16 sport;
	__be16 dport;
	__u32 flags;
	__u32 frame_len; /* as received */
	__u32 ip_len;	 /* length in the IP header, which is included */
	__u32 end;	 /* offset of the packet's end; bytes of the frame behind it are padding */
	__u32 l3_off;	 /* 14, plus 4 for each VLAN tag */
	__u32 l4_off;
	__u8 v6;    /* a constant in the code of each family */
	__u8 plain; /* a constant: no flags but LB_PKT_SYN and LB_PKT_RST, see packet/parse.h */
	__u8 proto;
	__u8 tos;
	__u32 vip;     /* id, if has_vip */
	__u32 real;    /* id, if the reason sends the packet to a real */
	__u32 counter; /* of this pair of a VIP and a real: LB_REAL_COUNTS */
	__u8 has_vip;
	__u8 new_flow;
};

#define LB_PKT_PLAIN (LB_PKT_SYN | LB_PKT_RST)

static __always_inline int has(const struct pkt *p, __u32 flags)
{
	return p->flags & (p->plain ? flags & LB_PKT_PLAIN : flags);
}

#endif

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

/*
 * A transport header beyond this is not looked for. The mask leaves room for the packet that an
 * ICMP error quotes; the verifier wants to see it, as an offset loses its bounds on the stack
 * (until Linux 5.18).
 */
#define LB_MAX_L4_OFF 511
#define LB_OFF_MASK   1023

#define LB_PKT_PLAIN (LB_PKT_SYN | LB_PKT_RST)

static __always_inline int has(const struct pkt *p, __u32 flags)
{
	return p->flags & (p->plain ? flags & LB_PKT_PLAIN : flags);
}

/*
 * A reason with which few packets end. Without the barrier, clang prepares it, and all that goes
 * with it, in the code that every packet runs.
 */
static __always_inline int rarely(int reason)
{
	asm volatile("" : "+r"(reason));
	return reason;
}

static __always_inline void *pkt_data(struct xdp_md *ctx)
{
	return (void *)(long)ctx->data;
}

static __always_inline void *pkt_end(struct xdp_md *ctx)
{
	return (void *)(long)ctx->data_end;
}

/* The destination MAC of a frame, as one word. */
static __always_inline __u64 mac_word(const struct ethhdr *eth)
{
	return *(const __u64 *)eth << LB_MAC_SHIFT;
}

/* Its EtherType, in one piece: struct ethhdr is packed, and clang reads the member byte by byte. */
static __always_inline __be16 ether_type(const struct ethhdr *eth)
{
	return *(const __be16 *)((const void *)eth + 2 * ETH_ALEN);
}

/*
 * Bytes of the frame. The difference is that of pointers to the end: clang subtracts the halves
 * that are asked for, may have to keep one of them on the stack, and the verifier lets no part of a
 * pointer go there.
 */
static __always_inline __u32 frame_length(struct xdp_md *ctx)
{
	__u64 length = pkt_end(ctx) - pkt_data(ctx);

	asm volatile("" : "+r"(length));
	return length;
}

/* The len bytes at off, or NULL where the frame ends before. */
static __always_inline void *pkt_at(struct xdp_md *ctx, __u32 off, __u32 len)
{
	void *at = pkt_data(ctx);

	if (__builtin_constant_p(off)) {
		at += off;
	} else {
		/*
		 * Clang must know nothing of the offset, or it leaves out the mask as needless:
		 * what it knows by a comparison, the verifier may have lost.
		 */
		asm volatile("" : "+r"(off));
		at += off & LB_OFF_MASK;
		/* Nor that one check covers a later one at a smaller offset. */
		asm volatile("" : "+r"(at));
	}
	return at + len > pkt_end(ctx) ? NULL : at;
}

/* The same, or NULL where the packet ends before. */
static __always_inline void *packet_at(struct xdp_md *ctx, const struct pkt *p, __u32 off,
				       __u32 len)
{
	return off + len > p->end ? NULL : pkt_at(ctx, off, len);
}

static __always_inline void addr_from_v4(struct lb_addr *addr, __be32 v4)
{
	addr->word[0] = 0;
	addr->word[1] = 0;
	addr->word[2] = bpf_htonl(0xffff);
	addr->word[3] = v4;
}

static __always_inline void addr_from_v6(struct lb_addr *addr, const struct in6_addr *v6)
{
	__builtin_memcpy(addr, v6, sizeof(*addr));
}

/* Whether it stands for an IPv4 address. */
static __always_inline int addr_is_v4(const struct lb_addr *addr)
{
	return !(addr->word[0] | addr->word[1]) && addr->word[2] == bpf_htonl(0xffff);
}

static __always_inline int addr_equal(const struct lb_addr *a, const struct lb_addr *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] && a->word[2] == b->word[2] &&
	       a->word[3] == b->word[3];
}

/*
 * Makes the verifier forget on which of many paths the packet was parsed, or it would follow each
 * of them to the end: what comes out of a map may be anything.
 */
static __always_inline void forget_path_by(struct pkt *p, struct parsed *parsed)
{
	*parsed = (struct parsed){
		.ports = (__u32)p->dport << 16 | p->sport,
		.flags = p->flags,
		.ip_len = p->ip_len,
		.end = p->end,
		.l3_off = p->l3_off,
		.l4_off = p->l4_off,
		.proto = p->proto,
		.tos = p->tos,
	};
	barrier();
	p->sport = parsed->ports;
	p->dport = parsed->ports >> 16;
	p->flags = parsed->flags;
	p->ip_len = parsed->ip_len;
	p->end = parsed->end;
	p->l3_off = parsed->l3_off;
	p->l4_off = parsed->l4_off;
	p->proto = parsed->proto;
	p->tos = parsed->tos;
}

static __always_inline void forget_path(struct pkt *p, struct cpu_state *cpu)
{
	forget_path_by(p, &cpu->parsed);
}

/* The same for a number. */
static __always_inline __u32 forget_number(struct cpu_state *cpu, __u32 number)
{
	volatile __u32 *place = &cpu->parsed.flags;

	*place = number;
	return *place;
}

/*
 * The coarse clock, which a tick moves on: between two ticks, told by a counter that is read
 * without a call, what was read last is still right.
 */
static __always_inline __u64 coarse_now(struct cpu_state *cpu)
{
	__u64 tick = bpf_jiffies64();

	if (cpu->tick != tick) {
		cpu->tick = tick;
		cpu->now = bpf_ktime_get_coarse_ns();
	}
	return cpu->now;
}

#endif

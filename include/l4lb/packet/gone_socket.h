/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Packets of a check's flow that no socket sends. The real may answer after the checker has closed
 * its socket: it hung, or the answer took a long way. The kernel then sends a RST, or for UDP an
 * ICMP error, and no socket gives it a mark. A router would send it to the balancer, as a client's.
 *
 * So the program remembers the flows of checks, and sends such packets to the same real: as a
 * client's RST, they end the connection there, and the real stops sending.
 *
 * What is asked of packets without a mark, in this order, so that packets of others cost little:
 *
 * 1. Is it a RST, the SYN of a client, or an ICMP error? A few loads and comparisons.
 * 2. Is it to a VIP's address? One look-up.
 * 3. Is it of a check's flow? One more.
 *
 * Nobody outside makes the host remember anything: only a packet with a mark does, and only root
 * marks sockets. Who makes this host send a RST by a forged packet from a VIP's address has it sent
 * to the balancer, as without this program. If the forger has guessed the ports of a check, it goes
 * to the real that was checked, whose connection is over. One packet becomes one packet.
 *
 * If the host later uses the ports of a check for a connection of its own to the VIP, the SYN ends
 * the memory. A UDP socket has no SYN: an ICMP error for it then goes to the wrong real.
 */
#ifndef L4LB_PACKET_GONE_SOCKET_H
#define L4LB_PACKET_GONE_SOCKET_H

#include "l4lb/state/healthcheck.h"
#include "l4lb/packet/bytes.h"
#include "l4lb/packet/icmp.h"
#include "l4lb/packet/pkt.h"

/* Whether a segment is a RST, or the first of a connection. */
static __always_inline int begins_or_resets(packet_ctx *ctx, __u32 off)
{
	struct tcphdr *tcp = pkt_at(ctx, off, sizeof(*tcp));

	return tcp && (tcp->rst || (tcp->syn && !tcp->ack));
}

static __always_inline int is_icmp_error_at(packet_ctx *ctx, __u32 off, __u8 v6)
{
	__u8 *type = pkt_at(ctx, off, sizeof(struct icmphdr));
	struct pkt p = {.v6 = v6};

	return type && is_error(&p, *type);
}

/*
 * Whether the packet may be what the kernel sends without a socket, or the SYN of another one. The
 * kernel sends such packets without IP options and extension headers, unless it got some.
 */
static __always_inline int may_lack_socket(packet_ctx *ctx)
{
	const __u32 behind_v4 = ETH_HLEN + sizeof(struct iphdr);
	const __u32 behind_v6 = ETH_HLEN + sizeof(struct ipv6hdr);
	struct ipv6hdr *ip6;
	struct iphdr *ip;

	if (ctx->protocol == bpf_htons(ETH_P_IP)) {
		ip = pkt_at(ctx, ETH_HLEN, sizeof(*ip));
		if (!ip || ip->ihl != 5)
			return 0;
		if (ip->protocol == IPPROTO_TCP)
			return begins_or_resets(ctx, behind_v4);
		return ip->protocol == IPPROTO_ICMP && is_icmp_error_at(ctx, behind_v4, 0);
	}
	if (ctx->protocol != bpf_htons(ETH_P_IPV6))
		return 0;
	ip6 = pkt_at(ctx, ETH_HLEN, sizeof(*ip6));
	if (!ip6)
		return 0;
	if (ip6->nexthdr == IPPROTO_TCP)
		return begins_or_resets(ctx, behind_v6);
	return ip6->nexthdr == IPPROTO_ICMPV6 && is_icmp_error_at(ctx, behind_v6, 1);
}

static __always_inline struct check_flow check_flow_of(const struct pkt *p)
{
	return (struct check_flow){
		.src = p->src,
		.dst = p->dst,
		.sport = p->sport,
		.dport = p->dport,
		.proto = p->proto,
	};
}

/* Remembers to which real a flow goes. The packet is the first of its flow, or of UDP. */
static __always_inline void remember_flow(const struct pkt *p, __u32 real)
{
	struct check_flow flow = check_flow_of(p);
	__u32 *known = bpf_map_lookup_elem(&check_flows, &flow);

	if (!known || *known != real)
		bpf_map_update_elem(&check_flows, &flow, &real, BPF_ANY);
}

/* Returns the real to which the packet's flow went, or LB_REAL_IDS if it is not a check's. */
static __always_inline __u32 recall_flow(const struct pkt *p)
{
	struct check_flow flow = check_flow_of(p);
	__u32 *known = bpf_map_lookup_elem(&check_flows, &flow);

	if (!known)
		return LB_REAL_IDS;
	if (has(p, LB_PKT_SYN)) {
		bpf_map_delete_elem(&check_flows, &flow);
		return LB_REAL_IDS;
	}
	return *known;
}

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Encapsulation in XDP. An outer header is put in front. The packet itself stays as it is,
 * including its TTL.
 *
 *   received   | Ethernet | VLAN tags |            IP | TCP or UDP | …
 *   IP in IP   | Ethernet | VLAN tags | outer IP | IP | TCP or UDP | …
 *   GUE        | Ethernet | VLAN tags | outer IP | UDP | GUE | IP | TCP or UDP | …
 */
#ifndef L4LB_PACKET_ENCAP_H
#define L4LB_PACKET_ENCAP_H

#include "l4lb/packet/gue.h"
#include "l4lb/packet/l2.h"
#include "l4lb/packet/outer.h"
#include "l4lb/packet/pkt.h"
#include "l4lb/packet/way.h"

static __always_inline int encap_v4(struct xdp_md *ctx, const struct pkt *p, __u64 gateway,
				    const struct real *real)
{
	struct iphdr *ip;

	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(*ip)))
		return LB_DROP_no_headroom;
	ip = move_l2(ctx, p, sizeof(*ip), gateway, bpf_htons(ETH_P_IP));
	if (!ip)
		return LB_DROP_no_headroom;
	write_ipip_v4(ip, p, real);
	return LB_GO_ON;
}

static __always_inline int encap_v6(struct xdp_md *ctx, const struct pkt *p, __u64 gateway,
				    const struct real *real)
{
	struct ipv6hdr *ip;

	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(*ip)))
		return LB_DROP_no_headroom;
	ip = move_l2(ctx, p, sizeof(*ip), gateway, bpf_htons(ETH_P_IPV6));
	if (!ip)
		return LB_DROP_no_headroom;
	write_ipip_v6(ip, p, real);
	return LB_GO_ON;
}

/* Bytes that encapsulation puts the outer header in front of; they include padding. */
static __always_inline __u32 ip_bytes(const struct pkt *p)
{
	return p->frame_len - p->l3_off;
}

/*
 * Encapsulates the packet for the real, by IP in IP, and addresses the frame to the interface's
 * gateway. Returns LB_GO_ON, or the reason to drop the packet.
 */
static __always_inline int encapsulate(struct xdp_md *ctx, const struct pkt *p,
				       const struct interface *interface, const struct real *real)
{
	__u64 gateway = gateway_mac(interface);

	if (real->flags & LB_REAL_V6)
		return encap_v6(ctx, p, gateway, real);
	return encap_v4(ctx, p, gateway, real);
}

/*
 * Both functions that follow do the same by GUE. `derived` tells whether the packet has its UDP
 * checksum. How far the packet moves is computed where it is needed: see "masks" in
 * packet/verifier.h.
 */
static __always_inline int encap_gue_v4(struct xdp_md *ctx, const struct pkt *p, __u64 gateway,
					const struct real *real, __be16 source, int *derived)
{
	struct iphdr *ip;
	__u64 sum = 0;

	if (bpf_xdp_adjust_head(ctx, -(int)(sizeof(*ip) + gue_bytes())))
		return LB_DROP_no_headroom;
	ip = move_l2(ctx, p, sizeof(*ip) + gue_bytes(), gateway, bpf_htons(ETH_P_IP));
	if (!ip)
		return LB_DROP_no_headroom;
	*derived = inner_sum(ctx, p, sizeof(*ip) + gue_bytes(), 0, &sum);
	write_outer_v4(ip, p, real, gue_len(p), IPPROTO_UDP, knobs.source4);
	sum += (__u64)ip->saddr + ip->daddr;
	write_gue((void *)(ip + 1), p, source, 0, *derived, sum);
	return LB_GO_ON;
}

static __always_inline int encap_gue_v6(struct xdp_md *ctx, const struct pkt *p, __u64 gateway,
					const struct real *real, __be16 source, int *derived)
{
	struct ipv6hdr *ip;
	__u64 sum = 0;

	if (bpf_xdp_adjust_head(ctx, -(int)(sizeof(*ip) + gue_bytes())))
		return LB_DROP_no_headroom;
	ip = move_l2(ctx, p, sizeof(*ip) + gue_bytes(), gateway, bpf_htons(ETH_P_IPV6));
	if (!ip)
		return LB_DROP_no_headroom;
	*derived = inner_sum(ctx, p, sizeof(*ip) + gue_bytes(), 1, &sum);
	write_outer_v6(ip, p, real, gue_len(p), IPPROTO_UDP, knobs.source6.word[3]);
	sum += sum_v6_addresses(ip);
	write_gue((void *)(ip + 1), p, source, 1, *derived, sum);
	return LB_GO_ON;
}

#endif

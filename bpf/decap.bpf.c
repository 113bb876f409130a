// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Decapsulation on reals, for hosts without tunnel devices. The program removes the balancer's
 * outer headers, IP in IP or GUE, from packets to the host's own addresses, and hands them on. In
 * the end the kernel gets them, which has the VIP on its loopback device. Filters of the network
 * see the outer header only. So the program checks the inner packet itself.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* linux/socket.h defines these for the kernel only. */
#define AF_INET	 2
#define AF_INET6 10

#include "l4lb/chain.h"
#include "l4lb/abi/abi.h"
#include "l4lb/state/decap.h"
#include "l4lb/packet/bytes.h"
#include "l4lb/packet/gue_in.h"
#include "l4lb/packet/inner.h"
#include "l4lb/packet/parse.h"
#include "l4lb/packet/pkt.h"
#include "l4lb/packet/verifier.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static __always_inline int has_flag(const struct lb_addr *addr, __u32 flag)
{
	struct lb_addr key = *addr;
	__u32 *flags = bpf_map_lookup_elem(&decap_addresses, &key);

	return flags && *flags & flag;
}

/*
 * Whether the kernel would forward the inner packet to another host. The program asks the kernel,
 * since local addresses change, and forwarding may be switched on and off.
 */
static __always_inline int would_be_forwarded(struct xdp_md *ctx, const struct inner *in)
{
	struct bpf_fib_lookup route = {.ifindex = ctx->ingress_ifindex};
	long answer;

	if (in->v6) {
		route.family = AF_INET6;
		__builtin_memcpy(route.ipv6_src, &in->src, sizeof(in->src));
		__builtin_memcpy(route.ipv6_dst, &in->dst, sizeof(in->dst));
	} else {
		route.family = AF_INET;
		route.ipv4_src = in->src.word[3];
		route.ipv4_dst = in->dst.word[3];
	}
	answer = bpf_fib_lookup(ctx, &route, sizeof(route), 0);
	return answer != BPF_FIB_LKUP_RET_NOT_FWDED && answer != BPF_FIB_LKUP_RET_FWD_DISABLED;
}

/* Whether a datagram goes to one of the ports of GUE. All places are compared, without branches. */
static __always_inline int is_gue(struct xdp_md *ctx, const struct pkt *p,
				  const struct decap_settings *settings)
{
	const struct udphdr *udp;
	int found = 0;

	if (p->proto != IPPROTO_UDP || has(p, LB_PKT_NO_PORTS))
		return 0;
	udp = packet_at(ctx, p, p->l4_off, sizeof(udp->source) + sizeof(udp->dest));
	if (!udp || !udp->dest)
		return 0;
#pragma unroll
	for (int i = 0; i < LB_DECAP_MAX_GUE_PORTS; i++)
		found |= udp->dest == settings->gue_port[i];
	return found;
}

static __always_inline int is_ipip(const struct pkt *p)
{
	return p->proto == IPPROTO_IPIP || p->proto == IPPROTO_IPV6;
}

static __always_inline int classify(struct xdp_md *ctx, struct pkt *p, struct decap_state *state)
{
	__be16 proto = parse_l2(ctx, p);
	__u32 zero = 0;
	struct decap_settings *settings;
	struct inner in = {.way = LB_DECAP_IPIP};
	int result;

	if (proto == bpf_htons(ETH_P_IP)) {
		if (parse_v4(ctx, p) || has(p, LB_PKT_OPTIONS))
			return LB_DECAP_not_encapsulated;
	} else if (proto == bpf_htons(ETH_P_IPV6)) {
		p->v6 = 1;
		if (parse_outer_v6(ctx, p))
			return LB_DECAP_not_encapsulated;
	} else {
		return LB_DECAP_not_encapsulated;
	}
	if (!is_ipip(p) && p->proto != IPPROTO_UDP)
		return LB_DECAP_not_encapsulated;
	settings = bpf_map_lookup_elem(&decap_settings, &zero);
	if (!settings)
		return LB_DECAP_not_encapsulated;
	/*
	 * Each fragment says which protocol its packet carries, and the first one of a datagram
	 * has the ports. The kernel gets the others, and forgets them.
	 */
	if (!is_ipip(p) && !is_gue(ctx, p, settings))
		return LB_DECAP_not_encapsulated;
	/* Without the outer header, the kernel could not see that the frame was multicast. */
	if (p->mac & LB_MAC_GROUP)
		return LB_DECAP_not_encapsulated;
	forget_path_by(p, &state->parsed);
	if (!has_flag(&p->dst, LB_DECAP_OUTER))
		return LB_DECAP_other_destination;
	if (settings->check_source && !is_in(&decap_from, &p->src))
		return LB_DECAP_unknown_source;
	if (!p->v6 && !is_v4_header_right(ctx, p))
		return LB_DECAP_malformed;
	/* All packets of all balancers have id 0, so reassembly could mix their fragments. */
	if (has(p, LB_PKT_FRAGMENT))
		return LB_DECAP_outer_fragment;
	if (is_ipip(p)) {
		in.off = p->l4_off;
		in.v6 = p->proto == IPPROTO_IPV6;
	} else {
		result = read_gue(ctx, p, &in);
		if (result != LB_DECAP_GO_ON)
			return result;
	}
	if (read_inner(ctx, p, &in))
		return LB_DECAP_malformed;
	if (is_never_routed(&in.dst, in.v6) || is_link_local_v4(&in.dst, in.v6) ||
	    !is_in(&decap_to, &in.dst))
		return LB_DECAP_unknown_inner_destination;
	if (is_never_routed(&in.src, in.v6) || has_flag(&in.src, LB_DECAP_OWN) ||
	    (settings->own_prefixes && is_in(&decap_own, &in.src)))
		return LB_DECAP_bad_inner_source;
	/* It costs most, so that it comes behind what refuses a packet by its headers. */
	if (!is_ipip(p)) {
		result = check_gue_sum(ctx, p, &in);
		if (result != LB_DECAP_GO_ON)
			return result;
	}
	if (would_be_forwarded(ctx, &in))
		return LB_DECAP_would_be_forwarded;
	if (decapsulate(ctx, p, &in))
		return LB_DECAP_malformed;
	return in.way + (p->v6 ? LB_DECAP_ipv4_in_ipv6 : LB_DECAP_ipv4_in_ipv4) + !!in.v6;
}

SEC("xdp")
int decap(struct xdp_md *ctx)
{
	struct pkt p = {.frame_len = frame_length(ctx)};
	struct decap_state *state;
	__u32 result, zero = 0;

	state = bpf_map_lookup_elem(&decap_states, &zero);
	if (!state)
		return XDP_ABORTED;
	result = classify(ctx, &p, state);
	if (result >= LB_DECAP_RESULT_COUNT)
		return XDP_ABORTED;
	state->results[result].packets++;
	state->results[result].bytes += p.frame_len;
	if (result >= LB_DECAP_unknown_source && result <= LB_DECAP_malformed)
		return XDP_DROP;
	return l4lb_hand_on(ctx);
}

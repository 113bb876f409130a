// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The size of segments that a real asks clients for. Where the network between balancer and real
 * carries no longer packets than that of the clients, a full segment has no room for the outer
 * header. This program, on the way out of the real's interface (tc), lowers the MSS option of what
 * the real says when a connection begins: then clients send nothing that is too long.
 *
 * It looks at segments with SYN from a VIP's address: SYN-ACKs, and SYNs of connections that a
 * program of the real itself opens from a VIP's address, whose answers come by the balancer, too.
 * Other packets cost a look at the headers. The path MTU of the kernel stays as it is.
 */
#define LB_SOCKET_BUFFER

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "l4lb/abi/abi.h"
#include "l4lb/state/decap_to.h"
#include "l4lb/state/mss.h"
#include "l4lb/packet/bytes.h"
#include "l4lb/packet/context.h"
#include "l4lb/packet/parse.h"
#include "l4lb/packet/pkt.h"
#include "l4lb/packet/tcp_mss.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Whether the packet begins a connection. A parsed packet is whole: this host has made it. */
static __always_inline int is_syn(struct __sk_buff *ctx, struct pkt *p)
{
	__be16 proto = parse_l2(ctx, p);
	struct tcphdr *tcp;

	if (proto == bpf_htons(ETH_P_IP)) {
		if (parse_v4(ctx, p))
			return 0;
	} else if (proto == bpf_htons(ETH_P_IPV6)) {
		p->v6 = 1;
		if (parse_v6_header(ctx, p))
			return 0;
	} else {
		return 0;
	}
	if (p->proto != IPPROTO_TCP || has(p, LB_PKT_NO_PORTS))
		return 0;
	tcp = pkt_at(ctx, p->l4_off, sizeof(*tcp));
	return tcp && tcp->syn;
}

SEC("tc")
int mss(struct __sk_buff *ctx)
{
	struct pkt p = {.frame_len = ctx->len};
	struct mss_limit *limit;
	struct mss_state *state;
	__u32 ifindex, result, zero = 0;

	if (!is_syn(ctx, &p) || !is_in(&decap_to, &p.src))
		return TC_ACT_UNSPEC;
	ifindex = ctx->ifindex;
	limit = bpf_map_lookup_elem(&mss_limits, &ifindex);
	state = bpf_map_lookup_elem(&mss_states, &zero);
	if (!limit || !state)
		return TC_ACT_UNSPEC;
	result = lower_mss(ctx, p.l4_off, p.v6 ? limit->v6 : limit->v4, state);
	barrier_var(result);
	if (result < LB_MSS_RESULT_COUNT)
		state->results[result]++;
	return TC_ACT_UNSPEC;
}

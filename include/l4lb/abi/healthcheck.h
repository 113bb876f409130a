/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Packets of health checks that go through the tunnel: bpf/healthcheck.bpf.c. */
#ifndef L4LB_ABI_HEALTHCHECK_H
#define L4LB_ABI_HEALTHCHECK_H

#include <linux/types.h>
#include "l4lb/abi/addr.h"
#include "l4lb/abi/counters.h"
#include "l4lb/abi/limits.h"
#include "l4lb/abi/scratch.h"

/*
 * The mark of a socket says which real its packets go to: first_mark + the real's id. So many
 * marks, from first_mark on, are taken.
 */
#define LB_HEALTHCHECK_MARKS LB_REAL_IDS

/*
 * How packets with such a mark leave the program: X(name, help). healthcheck.bpf.c sends the first
 * five and drops what lies between no_real and not_local, so the order counts. Those in IPv4 and
 * IPv6 are sent by IP in IP or by GUE.
 */
#define LB_HEALTHCHECK_RESULTS(X)                                                                  \
	X(ipv4_in_ipv4, "IPv4 sent in IPv4")                                                       \
	X(ipv6_in_ipv4, "IPv6 sent in IPv4")                                                       \
	X(ipv4_in_ipv6, "IPv4 sent in IPv6")                                                       \
	X(ipv6_in_ipv6, "IPv6 sent in IPv6")                                                       \
	X(l2, "sent as it is, to the MAC of a real (L2)")                                          \
	X(no_real, "the mark is of no real, or of one that is gone: dropped")                      \
	X(no_interface, "no interface that the balancer serves to send it by: dropped")            \
	X(too_long, "too long to encapsulate: dropped")                                            \
	X(unfit, "a packet that the balancer sends to no real, such as a fragment: dropped")       \
	X(no_room, "the kernel made no room for the outer header: dropped")                        \
	X(no_neighbour, "for a real on this network (L2) whose MAC is not known: dropped")         \
	X(not_local, "for a real that is this host, which has not the VIP's address: dropped")     \
	X(not_vip, "to an address that is no VIP's: sent on as it is")

#define LB_HEALTHCHECK_ENUM(name, help) LB_HEALTHCHECK_##name,
enum lb_healthcheck_result {
	LB_HEALTHCHECK_RESULTS(LB_HEALTHCHECK_ENUM) LB_HEALTHCHECK_RESULT_COUNT
};
#undef LB_HEALTHCHECK_ENUM

#define LB_HEALTHCHECK_COUNTERS (0 LB_HEALTHCHECK_RESULTS(LB_PLUS_ONE))

/* Fixed when the program is loaded, beside the knobs. */
struct healthcheck_options {
	__u64 build; /* identifies the object: if it differs, the program is replaced */
	__u32 first_mark;
	__u32 exit; /* ifindex: packets that would leave by an interface that is not served take it
		     */
};

/*
 * A flow of a check. The value is the id of the real that its packets go to. What the host sends
 * for it when no socket is left has no mark: see packet/gone_socket.h.
 */
struct check_flow {
	struct lb_addr src; /* this host */
	struct lb_addr dst; /* the VIP */
	__be16 sport;
	__be16 dport;
	__u32 proto;
};

/*
 * The most flows of checks that are remembered; the least recently used ones go. A real sends a
 * SYN-ACK for a minute: 500 checks a second fit, and those that were answered need no more.
 */
#define LB_CHECK_FLOWS 32768

struct healthcheck_state {
	struct count results[LB_HEALTHCHECK_RESULT_COUNT];
	struct parsed parsed;
};

_Static_assert(sizeof(struct healthcheck_options) == 16, "abi");
_Static_assert(sizeof(struct check_flow) == 40, "abi");

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Decapsulation, on reals. */
#ifndef L4LB_ABI_DECAP_H
#define L4LB_ABI_DECAP_H

#include <linux/types.h>
#include "l4lb/abi/addr.h"
#include "l4lb/abi/counters.h"
#include "l4lb/abi/reasons.h"
#include "l4lb/abi/scratch.h"

/*
 * How packets leave the program: X(name, help). The order counts: decap.bpf.c computes the first
 * twelve, and drops what lies between unknown_source and malformed.
 */
#define LB_DECAP_RESULTS(X)                                                                        \
	X(ipv4_in_ipv4, "IPv4 taken out of IPv4")                                                  \
	X(ipv6_in_ipv4, "IPv6 taken out of IPv4")                                                  \
	X(ipv4_in_ipv6, "IPv4 taken out of IPv6")                                                  \
	X(ipv6_in_ipv6, "IPv6 taken out of IPv6")                                                  \
	X(gue1_ipv4_in_ipv4, "IPv4 taken out of GUE variant 1 over IPv4")                          \
	X(gue1_ipv6_in_ipv4, "IPv6 taken out of GUE variant 1 over IPv4")                          \
	X(gue1_ipv4_in_ipv6, "IPv4 taken out of GUE variant 1 over IPv6")                          \
	X(gue1_ipv6_in_ipv6, "IPv6 taken out of GUE variant 1 over IPv6")                          \
	X(gue0_ipv4_in_ipv4, "IPv4 taken out of GUE variant 0 over IPv4")                          \
	X(gue0_ipv6_in_ipv4, "IPv6 taken out of GUE variant 0 over IPv4")                          \
	X(gue0_ipv4_in_ipv6, "IPv4 taken out of GUE variant 0 over IPv6")                          \
	X(gue0_ipv6_in_ipv6, "IPv6 taken out of GUE variant 0 over IPv6")                          \
	X(other_destination, "encapsulated, but not for one of the addresses: passed on")          \
	X(unknown_source, "the outer source is none of --from: dropped")                           \
	X(outer_fragment, "a piece of an encapsulated packet, fragmented on the way: dropped")     \
	X(gue_udp_length, "GUE: the length in the UDP header is not that of the packet: dropped")  \
	X(gue_checksum, "GUE: the UDP checksum is wrong: dropped")                                 \
	X(gue_no_checksum, "GUE: over IPv6 without a UDP checksum: dropped")                       \
	X(gue_truncated, "GUE: the packet ends before the GUE header does: dropped")               \
	X(gue_version, "GUE: a variant other than 0 and 1: dropped")                               \
	X(gue_control, "GUE: a control message, not a packet: dropped")                            \
	X(gue_flags, "GUE: flags are set that nobody here knows: dropped")                         \
	X(gue_protocol, "GUE: the header says that neither IPv4 nor IPv6 is inside: dropped")      \
	X(gue_header_length, "GUE: the header says that it is longer than the packet: dropped")    \
	X(gue_hops, "GUE: more further hops announced than the header has room for: dropped")      \
	X(gue_inner_version, "GUE: the packet inside has another IP version than said: dropped")   \
	X(unknown_inner_destination, "the packet inside is for no address of --to: dropped")       \
	X(bad_inner_source, "the packet inside has a source that no client has: dropped")          \
	X(would_be_forwarded, "the packet inside would be sent on to another host: dropped")       \
	X(malformed, "encapsulated for one of the addresses, but no valid packet inside: dropped") \
	X(not_encapsulated, "anything else: passed on")

#define LB_DECAP_ENUM(name, help) LB_DECAP_##name,
enum lb_decap_result { LB_DECAP_RESULTS(LB_DECAP_ENUM) LB_DECAP_RESULT_COUNT };
#undef LB_DECAP_ENUM

#define LB_DECAP_COUNTERS (0 LB_DECAP_RESULTS(LB_PLUS_ONE))

/* What takes the first places of LB_DECAP_RESULTS: four for each, by the families. */
#define LB_DECAP_IPIP 0
#define LB_DECAP_GUE1 4
#define LB_DECAP_GUE0 8

_Static_assert(LB_DECAP_gue1_ipv4_in_ipv4 == LB_DECAP_GUE1, "order");
_Static_assert(LB_DECAP_gue0_ipv4_in_ipv4 == LB_DECAP_GUE0, "order");

#define LB_DECAP_MAX_INTERFACES 64
#define LB_DECAP_MAX_ASKED	64    /* entries of each list of a request */
#define LB_DECAP_MAX_ADDRESSES	65536 /* of `decap_addresses`, with the host's own */
#define LB_DECAP_MAX_PREFIXES	4096  /* of `decap_from`, `decap_to`, `decap_own` */
#define LB_DECAP_MAX_GUE_PORTS	4     /* of a request, and of all together */

/* Values of `decap_addresses`. */
#define LB_DECAP_OUTER (1 << 0) /* packets to this address are decapsulated */
#define LB_DECAP_OWN   (1 << 1) /* the host's own address: no inner packet may come from it */

/* Key of `decap_from`, `decap_to` and `decap_own`, in the form that LPM tries need. */
struct decap_prefix {
	__u32 length; /* in bits: 0 to 128, for IPv4 96 to 128 */
	struct lb_addr addr;
};

/*
 * What the operator asked for an interface. Only the control plane reads it. The counts say how
 * many entries of each list are in use. Without addresses, those of the interface count; without
 * `from`, every source may send; without `to`, the addresses of the host's loopback devices are
 * allowed.
 */
#define LB_MSS_NONE 0
#define LB_MSS_AUTO 1

struct decap_request {
	__u32 addresses;
	__u32 from;
	__u32 to;
	struct lb_addr address[LB_DECAP_MAX_ASKED];
	struct decap_prefix from_prefix[LB_DECAP_MAX_ASKED];
	struct decap_prefix to_prefix[LB_DECAP_MAX_ASKED];
	__u32 gue_ports; /* 0: the usual ones; else how many there are, and 1 more */
	__u32 mss;	 /* LB_MSS_NONE, LB_MSS_AUTO, or the number */
	__be16 gue_port[LB_DECAP_MAX_GUE_PORTS];
};

/* The only value of `decap_settings`. */
struct decap_settings {
	__u32 abi; /* 0 until the control plane has written all other maps */
	__u32 check_source;
	__u32 own_left_out; /* addresses and prefixes of the host that did not fit */
	__u32 own_prefixes; /* 1: `decap_own` is not empty */
	__be16 gue_port[LB_DECAP_MAX_GUE_PORTS]; /* UDP ports of GUE; 0: none */
};

struct decap_state {
	struct count results[LB_DECAP_RESULT_COUNT];
	struct parsed parsed;
};

_Static_assert(sizeof(struct decap_prefix) == 20, "abi");
_Static_assert(sizeof(struct decap_request) == 28 + 56 * LB_DECAP_MAX_ASKED, "abi");
_Static_assert(sizeof(struct decap_settings) == 24, "abi");

#endif

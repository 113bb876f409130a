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
 * How packets leave the program: X(name, help). decap.bpf.c drops what lies between unknown_source
 * and malformed, so the order counts.
 */
#define LB_DECAP_RESULTS(X)                                                                        \
	X(ipv4_in_ipv4, "IPv4 taken out of IPv4")                                                  \
	X(ipv6_in_ipv4, "IPv6 taken out of IPv4")                                                  \
	X(ipv4_in_ipv6, "IPv4 taken out of IPv6")                                                  \
	X(ipv6_in_ipv6, "IPv6 taken out of IPv6")                                                  \
	X(other_destination, "encapsulated, but not for one of the addresses: passed on")          \
	X(unknown_source, "the outer source is none of --from: dropped")                           \
	X(outer_fragment, "a piece of an encapsulated packet, fragmented on the way: dropped")     \
	X(unknown_inner_destination, "the packet inside is for no address of --to: dropped")       \
	X(bad_inner_source, "the packet inside has a source that no client has: dropped")          \
	X(would_be_forwarded, "the packet inside would be sent on to another host: dropped")       \
	X(malformed, "encapsulated for one of the addresses, but no valid packet inside: dropped") \
	X(not_encapsulated, "anything else: passed on")

#define LB_DECAP_ENUM(name, help) LB_DECAP_##name,
enum lb_decap_result { LB_DECAP_RESULTS(LB_DECAP_ENUM) LB_DECAP_RESULT_COUNT };
#undef LB_DECAP_ENUM

#define LB_DECAP_COUNTERS (0 LB_DECAP_RESULTS(LB_PLUS_ONE))

#define LB_DECAP_MAX_INTERFACES 64
#define LB_DECAP_MAX_ASKED	64    /* entries of each list of a request */
#define LB_DECAP_MAX_ADDRESSES	65536 /* of `decap_addresses`, with the host's own */
#define LB_DECAP_MAX_PREFIXES	4096  /* of `decap_from`, `decap_to`, `decap_own` */

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
struct decap_request {
	__u32 addresses;
	__u32 from;
	__u32 to;
	struct lb_addr address[LB_DECAP_MAX_ASKED];
	struct decap_prefix from_prefix[LB_DECAP_MAX_ASKED];
	struct decap_prefix to_prefix[LB_DECAP_MAX_ASKED];
};

/* The only value of `decap_settings`. */
struct decap_settings {
	__u32 abi; /* 0 until the control plane has written all other maps */
	__u32 check_source;
	__u32 own_left_out; /* addresses and prefixes of the host that did not fit */
	__u32 own_prefixes; /* 1: `decap_own` is not empty */
};

struct decap_state {
	struct count results[LB_DECAP_RESULT_COUNT];
	struct parsed parsed;
};

_Static_assert(sizeof(struct decap_prefix) == 20, "abi");
_Static_assert(sizeof(struct decap_request) == 12 + 56 * LB_DECAP_MAX_ASKED, "abi");
_Static_assert(sizeof(struct decap_settings) == 16, "abi");

#endif

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
 * Decapsulation: X(name, help). What is dropped lies between unknown_source and malformed
 * (decap.bpf.c relies on it).
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
#define LB_DECAP_MAX_ASKED	64    /* of each kind, for an interface */
#define LB_DECAP_MAX_ADDRESSES	65536 /* of `decap_addresses`, with all of the host's own */
#define LB_DECAP_MAX_PREFIXES	4096  /* of `decap_from`, `decap_to`, `decap_own` */

/* Values of `decap_addresses`. */
#define LB_DECAP_OUTER (1 << 0) /* packets to it are decapsulated */
#define LB_DECAP_OWN   (1 << 1) /* an address of this host: no packet inside comes from it */

/* Key of `decap_from`, `decap_to` and `decap_own`, as the kernel's tries want it; IPv4 as
 * IPv4-mapped. */
struct decap_prefix {
	__u32 length; /* 0 to 128, for IPv4 96 to 128 */
	struct lb_addr addr;
};

/*
 * What was asked for an interface, which only the control plane reads: the first so many places of
 * each list. No addresses: those of the interface. No `from`: anybody. No `to`: what the host has
 * by its loopback devices.
 */
struct decap_request {
	__u32 addresses;
	__u32 from;
	__u32 to;
	struct lb_addr address[LB_DECAP_MAX_ASKED];
	struct decap_prefix from_prefix[LB_DECAP_MAX_ASKED];
	struct decap_prefix to_prefix[LB_DECAP_MAX_ASKED];
};

/* The one value of `decap_settings`. */
struct decap_settings {
	__u32 abi; /* written when all other maps are; 0: they are not */
	__u32 check_source;
	__u32 own_left_out; /* addresses and prefixes of the host that there was no room for */
	__u32 own_prefixes; /* 1: `decap_own` has some */
};

struct decap_state {
	struct count results[LB_DECAP_RESULT_COUNT];
	struct parsed parsed;
};

_Static_assert(sizeof(struct decap_prefix) == 20, "abi");
_Static_assert(sizeof(struct decap_request) == 12 + 56 * LB_DECAP_MAX_ASKED, "abi");
_Static_assert(sizeof(struct decap_settings) == 16, "abi");

#endif

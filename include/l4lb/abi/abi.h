/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Every struct, constant and limit that the BPF programs share with user space. Rust gets them from
 * the BTF of the skeletons; nothing here is typed a second time. Change of any layout or meaning:
 * raise LB_ABI_VERSION, so that pins of another build are refused instead of misread.
 *
 * No implicit padding, ever: a padded hash key misses at random. Addresses are in network order,
 * IPv4 as IPv4-mapped IPv6 (RFC 4291, 2.5.5.2).
 */
#ifndef L4LB_ABI_ABI_H
#define L4LB_ABI_ABI_H

#include <linux/types.h>
#include "l4lb/abi/reasons.h"

#define LB_ABI_VERSION 3

#define LB_RING_SIZE	  65537 /* slots of a VIP's Maglev ring: prime, as Katran's */
#define LB_MAX_VIPS	  512
#define LB_MAX_REALS	  4096
#define LB_MAX_VIP_REALS  65536 /* reals of all VIPs together */
#define LB_MAX_SERVER_IDS 65536
#define LB_MAX_CPUS	  1024
/*
 * Maps of connection tables have places for two sets of them: the running program's, and those that
 * are prepared for the program that replaces it.
 */
#define LB_TABLE_BANKS	2
#define LB_TABLE_PLACES (LB_TABLE_BANKS * LB_MAX_CPUS) /* index: bank * LB_MAX_CPUS + CPU */
#define LB_SHARED_TABLE LB_TABLE_PLACES		       /* index of `connections` */
/* Places for interfaces: many more, so that one is free within LB_INTERFACE_PROBES. */
#define LB_INTERFACE_PLACES 1024
#define LB_MAX_INTERFACES   64
#define LB_MAX_EXT_HEADERS  6 /* IPv6 extension headers walked in front of the transport header */
#define LB_INTERFACE_PROBES 8

/*
 * Three times the reals that a configuration may have: one that replaces every real needs the ids
 * of both sets until the last ring is swapped, and an interrupted one before it may hold a third
 * set. Id 0 means "no real".
 */
#define LB_REAL_IDS (3 * LB_MAX_REALS)

/* As chain.h has it for programs that know nothing else of this project. */
#define LB_CHAIN_SLOTS 16

/* Slots of the chain that the programs of this project take (chain.h). */
#define LB_SLOT_XDPDUMP	 0 /* before all others: captures see what came in */
#define LB_SLOT_BALANCER 8
#define LB_SLOT_DECAP	 12

#define LB_REASON_ENUM(verdict, name, help) LB_##verdict##_##name,
enum lb_reason { LB_GO_ON = 0, LB_REASONS(LB_REASON_ENUM) LB_REASON_COUNT };
#undef LB_REASON_ENUM

#define LB_EVENT_ENUM(name, help) LB_TABLE_##name,
enum lb_table_event { LB_TABLE_EVENTS(LB_EVENT_ENUM) LB_TABLE_EVENT_COUNT };
#undef LB_EVENT_ENUM

/* The same as constants of the preprocessor, for user space to check its tables against. */
#define LB_PLUS_ONE(...)   +1
#define LB_REASON_COUNTERS (1 LB_REASONS(LB_PLUS_ONE)) /* the first is LB_GO_ON's, and stays 0 */
#define LB_EVENT_COUNTERS  (0 LB_TABLE_EVENTS(LB_PLUS_ONE))

struct lb_addr {
	__be32 word[4];
};

/*
 * Key of `vips`. Beside the VIPs themselves it holds markers, so that a packet without readable
 * ports can be told from the host's own traffic: {address, 0, TCP or UDP} for an address that has
 * VIPs of this protocol, {address, 0, ICMP} for every VIP address.
 */
struct vip_key {
	struct lb_addr addr;
	__be16 port; /* 0: every port of the address without a VIP of its own */
	__u8 proto;
	__u8 pad;
};

/* vip.flags */
#define LB_VIP_MARKER	      (1 << 0) /* no VIP, only a marker */
#define LB_VIP_IGNORE_SPORT   (1 << 1) /* the source port counts as 0 */
#define LB_VIP_IGNORE_DPORT   (1 << 2) /* the destination port counts as 0 */
#define LB_VIP_DPORT_ONLY     (1 << 3) /* source port := destination port, source address := 0 */
#define LB_VIP_STATELESS      (1 << 4) /* no connection table */
#define LB_VIP_QUIC_SERVER_ID (1 << 5) /* QUIC connection ids carry server ids */
#define LB_VIP_BARRED	      (1 << 6) /* the ring map's bitmap bars reals: look before using one */
#define LB_VIP_REDUCED_KEY    (LB_VIP_IGNORE_SPORT | LB_VIP_IGNORE_DPORT | LB_VIP_DPORT_ONLY)
#define LB_VIP_SRC_AND_DPORT  (1 << 7) /* for user space: how the hash mode was written */
/* Table and ring may differ about a flow: since the VIP was added, its ring has changed. */
#define LB_VIP_RING_CHANGED (1 << 9)
/* In the index: there are more keys of this bucket, in `vips` only. */
#define LB_VIP_BUCKET_FULL (1 << 10)
/* In the index, in every bucket: for some address, ports that no VIP has do not pass. */
#define LB_VIP_PORT_RULES (1 << 11)
/* For user space: the VIP may be on an address of the balancer itself; though sockets listen there.
 */
#define LB_VIP_OWN_ADDRESS	  (1 << 16)
#define LB_VIP_OWN_ADDRESS_FORCED (1 << 17)
/*
 * What the address does with ports that no VIP has, LB_OTHER_PORTS_*, in two bits. In markers it is
 * in force; in VIPs for user space: how it was written.
 */
#define LB_VIP_OTHER_PORTS_SHIFT 18
#define LB_OTHER_PORTS_UNSAID	 0
#define LB_OTHER_PORTS_PASS	 1
#define LB_OTHER_PORTS_DROP	 2
#define LB_OTHER_PORTS_REJECT	 3
/* For user space, in VIPs: when the address answers echo requests, in two bits. */
#define LB_VIP_ECHO_SHIFT      20
#define LB_ECHO_UNSAID	       0
#define LB_ECHO_ALWAYS	       1
#define LB_ECHO_WHEN_USABLE    2
#define LB_ECHO_NEVER	       3
#define LB_VIP_REJECTS_NO_REAL (1 << 22) /* without a usable real, packets are refused */
#define LB_VIP_NO_ECHO	       (1 << 23) /* in markers: echo requests are dropped by now */

struct vip {
	__u32 id;     /* index of `rings` and `vip_counters` */
	__u32 serial; /* 1 to LB_MAX_SERIAL: keys the VIP's flows; another VIP's are never found */
	__u32 flags;
};

/*
 * The index of `vips` (vips.h): buckets of one cache line, by a hash of the key. An entry whose
 * protocol is 0 is none.
 */
struct vip_entry {
	struct vip_key key;
	struct vip vip;
};

struct vip_bucket {
	struct vip_entry entry[2];
};

#define LB_VIP_BUCKET_BITS 12
#define LB_VIP_BUCKETS	   (1 << LB_VIP_BUCKET_BITS)
#define LB_VIP_HASH_HIGH   0x85a65b28b0545c15ULL
#define LB_VIP_HASH_ADDR   0xa3a7051f5460b225ULL
#define LB_VIP_HASH_LAST   0xd28641a8ed31339dULL

/*
 * Value of a ring map. Slot s of the ring is the real id (s % 4) of value (s / 4); behind the ring
 * lies a bitmap of the real ids that no packet of this VIP may go to, though they serve other VIPs.
 * One map holds both, so that both change in the one update that swaps it in, or within the same
 * microseconds where it is written over: slots first, so that who is barred has no slot any more.
 */
#define LB_RING_IDS_PER_VALUE 4
#define LB_RING_VALUES	      ((LB_RING_SIZE + LB_RING_IDS_PER_VALUE - 1) / LB_RING_IDS_PER_VALUE)
#define LB_BARRED_VALUES      (LB_REAL_IDS / 64)
/*
 * The last value of the ring has a single slot. Its other bits are for user space: a checksum of
 * the whole map and of the reals that it was made from; 0: the build that wrote it had none.
 */
#define LB_RING_CHECKSUM_SHIFT 16
#define LB_RING_CHECKSUM_MASK  0xffffffffffffULL

/* real.flags */
#define LB_REAL_LIVE (1 << 0)
#define LB_REAL_V6   (1 << 1)

struct real {
	struct lb_addr addr;
	__u32 flags;
	__u32 generation; /* 1 to LB_MAX_GENERATION, another one for each owner of the id */
	__u32 csum;	  /* IPv4: sum of the outer header's 16-bit words that are the same in every
			     packet */
	__u32 pad;
};

/*
 * What a flow is remembered with. Serial and generation share 32 bits of a table entry; who starts
 * over with one that was used before first forgets the flows that have it.
 */
#define LB_MAX_SERIAL	  0xffffff
#define LB_MAX_GENERATION 0xff

/* knobs.table_kind */
#define LB_TABLE_KIND_LRU  0 /* the kernel's LRU hash */
#define LB_TABLE_KIND_SETS 1 /* arrays of sets: flow_sets.h */

/* What the VIP's hash mode leaves of the 5-tuple. Key of a table of kind LRU. */
struct flow_key {
	struct lb_addr src;
	__be16 sport;
	__be16 dport;
	__u32 vip; /* serial */
};

/* Value of a table of kind LRU. */
struct flow {
	__u32 real;
	__u32 generation; /* of the real when the flow was given to it; another one: stale */
	__u64 last_seen;  /* CLOCK_MONOTONIC, ns: of the last packet (UDP), of the insert (TCP) */
};

/* A flow in a table of sets. */
struct flow_entry {
	__be32 src; /* IPv4; in an IPv6 entry 0 */
	__be16 sport;
	__be16 dport;
	__u32 vip_generation; /* VIP serial << 8 | generation of the real; serial 0: no flow */
	__u16 real;
	__u16 seen; /* CLOCK_MONOTONIC >> LB_SEEN_SHIFT, the low 16 bits: of the last packet */
};

struct flow6_entry {
	struct lb_addr src;
	struct flow_entry rest;
};

/*
 * The last 64 bits of an entry that the control plane writes to: VIP 0, so that it is no flow, but
 * not free.
 */
#define LB_SET_CLAIMED 1

/* The longer ago an entry was used, the further behind. An IPv4 set is one cache line. */
#define LB_SET_WAYS 4

struct flow4_set {
	struct flow_entry entry[LB_SET_WAYS];
};

struct flow6_set {
	struct flow6_entry entry[LB_SET_WAYS];
};

/* A unit of about a second. After 65536 of them, 19 hours, it starts over. */
#define LB_SEEN_SHIFT 30
/* Units that are taken for a time to come rather than for one 19 hours ago. */
#define LB_SEEN_FUTURE		   64
#define LB_MAX_UDP_TIMEOUT_SECONDS 28800

/* Further MACs of an interface that are its own, beside the one it has. */
#define LB_MAX_MACS 10

/*
 * A MAC as one word: what the first eight bytes of a frame to it are, shifted by the two of the
 * sender's that are among them. LB_NO_MAC is no frame's.
 */
#define LB_MAC_SHIFT 16
#define LB_MAC_GROUP (1 << LB_MAC_SHIFT) /* set in multicast and broadcast (IEEE 802, 8.2) */
#define LB_NO_MAC    1

/*
 * An interface that the balancer serves. An entry lies at index (ifindex + n) %
 * LB_INTERFACE_PLACES, n below LB_INTERFACE_PROBES. The packet path reads what lies in front of
 * `macs`, always in one cache line as an entry takes two; of frames that are not to `own`, more.
 * The rest is what the operator asked for, and whom the gateway was found by.
 */
struct interface {
	__u32 ifindex;
	__u32 mtu;	   /* bytes of IP packet that the interface can send */
	__u64 own;	   /* MAC word: its MAC */
	__u8 mac[6];	   /* of the gateway */
	__u8 gateway_kind; /* LB_GATEWAY_* */
	__u8 mode;	   /* LB_MODE_* as asked for */
	__u64 macs[LB_MAX_MACS];
	__u32 any_unicast;	/* 1: every MAC of a single host counts as its own */
	__u32 gateway_route;	/* LB_ROUTE_*: the default route that `gateway` is of */
	struct lb_addr gateway; /* as asked for; of LB_GATEWAY_AUTO, the next hop in use */
};

#define LB_ROUTE_NONE 0 /* or the next hop in use is not known */
#define LB_ROUTE_V4   4
#define LB_ROUTE_V6   6

#define LB_GATEWAY_AUTO	   0
#define LB_GATEWAY_ADDRESS 1
#define LB_GATEWAY_MAC	   2

#define LB_MODE_AUTO	0
#define LB_MODE_NATIVE	1
#define LB_MODE_GENERIC 2

struct count {
	__u64 packets;
	__u64 bytes; /* of the frames as received */
};

struct vip_count {
	struct count sent;
	__u64 dropped;
	__u64 new_flows;
};

/* At most `limit` events within one second, on one CPU. */
struct second {
	__u64 start; /* CLOCK_MONOTONIC, ns */
	__u64 events;
};

/* What parsing found out about a packet: only for the program itself (forget_path). */
struct parsed {
	__u32 ports;
	__u32 flags;
	__u32 ip_len;
	__u32 end;
	__u32 l3_off;
	__u32 l4_off;
	__u32 proto;
	__u32 tos;
};

/* A packet that is to be answered: only for the program itself (answer.h). */
struct question {
	__u32 kind;	 /* LB_ANSWER_* */
	__u32 otherwise; /* reason, if a refusal is not sent */
	__u32 mtu;
	__u32 frame_len;
	__u32 ip_len;
	__u32 l3_off;
	__u32 l4_off;
	__u32 vip;
	__u8 has_vip;
	__u8 v6;
	__u8 proto;
	__u8 pad;
	struct lb_addr src;
	struct lb_addr dst;
};

#define LB_ANSWER_ECHO	  0
#define LB_ANSWER_TOO_BIG 1
#define LB_ANSWER_REFUSAL 2

/*
 * Limits of answers by source: per second, CPU and bucket. Echo requests come from who watches the
 * balancer; ICMP errors and resets a client needs one or two of.
 */
#define LB_ANSWER_BUCKET_BITS 8
#define LB_ANSWER_BUCKETS     (1 << LB_ANSWER_BUCKET_BITS)
#define LB_ECHOES_PER_SOURCE  500
#define LB_ERRORS_PER_SOURCE  50
/* And of refusals in all, per second and CPU. */
#define LB_REFUSALS_PER_SECOND 1000

/* The answers to sources that share a bucket, within the second from `start` on. */
struct answer_bucket {
	__u64 start; /* CLOCK_MONOTONIC, ns */
	__u32 errors;
	__u32 echoes;
};

/* What one CPU counts and limits, in one map value: one look-up a packet. */
struct cpu_state {
	struct count reasons[LB_REASON_COUNT];
	__u64 table[LB_TABLE_EVENT_COUNT];
	struct second new_flows;
	struct second too_big_replies;
	struct second refusals;
	__u64 now;  /* CLOCK_MONOTONIC, ns, when a packet last had to know */
	__u64 tick; /* jiffies, then */
	struct parsed parsed;
	struct question question;
	__u32 pad;
	struct answer_bucket answer_buckets[LB_ANSWER_BUCKETS];
};

/* What a copy of the balancer found out that only looks (trace.h). */
struct trace {
	struct flow_key key; /* what the VIP's hash mode leaves of the flow */
	__u32 ring_slot;
	__u32 has_key; /* and a ring slot */
	__u32 v6;
	__u32 server_id; /* that the packet carries */
	__u32 has_server_id;
	__u32 reason;
	__u32 vip; /* id */
	__u32 has_vip;
	__u32 real; /* id, if the reason says that the packet goes to one */
};

#define LB_STATE_UP    0
#define LB_STATE_DRAIN 1
#define LB_STATE_DOWN  2
/* The VIP itself, with real 0: a change of it began and did not end. */
#define LB_STATE_CHANGING 3

/*
 * A value of `vip_reals`, which only the control plane reads: a real of a VIP. They lie in no
 * order, and where all is 0, there is none. Twice as many as a configuration may have: those that
 * go and those that come; and a mark for every VIP.
 */
struct vip_real {
	__u32 vip;  /* id */
	__u32 real; /* id */
	__u32 weight;
	__u32 state; /* LB_STATE_* */
};

#define LB_VIP_REAL_PLACES (2 * LB_MAX_VIP_REALS + LB_MAX_VIPS)

/* The one value of `control`, which only the control plane reads. */
struct control {
	__u32 abi;
	__u32 next_serial;
	__u64 table_entries; /* connection_table.entries */
	__u32 cpus_auto;     /* connection_table.cpus = "auto" */
	__u32 pad;
};

/* Fixed when the program is loaded; see config.h. */
struct knobs {
	__u64 build; /* which object and knobs this is: another value means "replace the program" */
	__u64 udp_timeout;	/* ns, with what the coarse clock may be late */
	__u64 table_factors[3]; /* odd; with table_keys the secret that a flow's set depends on */
	__u32 table_keys[6];
	__u64 answer_secret[2]; /* what the bucket of a source depends on; the second is odd */
	__u32 table_kind;
	__u32 table_bank;
	__u32 sets;	     /* of kind SETS: in each CPU's table of either family */
	__u32 max_ip_packet; /* bytes */
	__u32 new_flows_per_second;
	__u32 too_big_replies_per_second;
	__u32 oversize_reply;  /* 0: drop packets that are too long; 1: tell their sender */
	__be32 source4;	       /* outer source: these bits … */
	__be32 source4_spread; /* … and where this mask is set, the client's */
	struct lb_addr source6;
	__be32 source6_spread; /* of the last word */
	__u32 source4_prefix;  /* lengths, for user space; 0: not configured, the default */
	__u32 source6_prefix;
	__u32 outer_df;		 /* 1: outer IPv4 headers say "do not fragment" */
	__u32 udp_timeout_units; /* of 1 << LB_SEEN_SHIFT ns, which the timeout never exceeds */
};

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

/*
 * Captures (dump.h). Places in `dump`: those of captures at entry, then what goes on behind the
 * last of them; and the same at exit, as packets leave the balancer. There is nothing at place 0.
 */
#define LB_DUMP_CAPTURES  4
#define LB_DUMP_ENTRY	  1
#define LB_DUMP_ENTRY_END (LB_DUMP_ENTRY + LB_DUMP_CAPTURES)
#define LB_DUMP_EXIT	  (LB_DUMP_ENTRY_END + 1)
#define LB_DUMP_EXIT_END  (LB_DUMP_EXIT + LB_DUMP_CAPTURES)
#define LB_DUMP_PLACES	  (LB_DUMP_EXIT_END + 1)

/*
 * Place → the first one from it on that has a program. At LB_DUMP_EXIT 0 as long as nobody captures
 * there.
 */
struct dump_next {
	__u64 place[LB_DUMP_PLACES];
};

/* What the balancer decided about the packet that this CPU is at. */
struct decision {
	__u32 reason;
	__u32 verdict; /* XDP_*; XDP_PASS: to be handed on */
	__u32 vip;     /* id, or LB_DUMP_NO_VIP */
	__u32 real;    /* id, or 0 */
	__u32 slot;    /* of the balancer */
};

#define LB_DUMP_NO_VIP 0xffffffff

/* In front of the bytes of a captured packet. */
struct dump_event {
	__u64 time;  /* CLOCK_MONOTONIC, ns */
	__u32 point; /* LB_DUMP_ENTRY, LB_DUMP_EXIT */
	__u32 ifindex;
	__u32 queue;
	__u32 length;	/* of the frame */
	__u32 captured; /* bytes of it that follow */
	/* At exit: the decision. */
	__u32 reason;
	__u32 vip;
	__u32 real;
	struct lb_addr real_addr;
};

/* An event with its bytes fits the 16 bits that the kernel has for its size. */
#define LB_DUMP_MAX_SNAPLEN 65400

/* What a capture was asked for, fixed when its program is loaded. */
struct dump_options {
	__u32 capture;	     /* 0 to LB_DUMP_CAPTURES - 1 */
	__u32 snaplen;	     /* bytes */
	__u32 sample_below;  /* a random number below this lets a packet through; 0: all */
	__u32 match_ifindex; /* whether dump_wanted.ifindex counts */
	__u32 match_vip;
	__u32 match_real;
	__u64 reasons; /* bitmap */
	__u64 cpus[LB_MAX_CPUS / 64];
};

/* What it was asked for, too, by ids that may change meanwhile. */
struct dump_wanted {
	__u64 ifindex;
	__u64 vips[LB_MAX_VIPS / 64];
	__u64 reals[LB_REAL_IDS / 64];
};

/* Packets that a capture matched, by what became of them. */
struct dump_count {
	__u64 captured;
	__u64 sampled_out;
	__u64 buffer_full;
};

_Static_assert(LB_REASON_COUNTERS <= 64, "dump_options.reasons has a bit for each");
_Static_assert(sizeof(struct vip_key) == 20, "abi");
_Static_assert(sizeof(struct vip) == 12, "abi");
_Static_assert(sizeof(struct vip_bucket) == 64, "abi");
_Static_assert(sizeof(struct real) == 32, "abi");
_Static_assert(sizeof(struct flow_key) == 24, "abi");
_Static_assert(sizeof(struct flow) == 16, "abi");
_Static_assert(sizeof(struct interface) == 128, "abi");
_Static_assert(sizeof(struct vip_count) == 32, "abi");
_Static_assert(sizeof(struct vip_real) == 16, "abi");
_Static_assert(sizeof(struct control) == 24, "abi");
_Static_assert(sizeof(struct knobs) == 152, "abi");
_Static_assert(sizeof(struct flow4_set) == 64, "abi");
_Static_assert(sizeof(struct flow6_set) == 128, "abi");
_Static_assert(sizeof(struct decap_prefix) == 20, "abi");
_Static_assert(sizeof(struct decap_request) == 12 + 56 * LB_DECAP_MAX_ASKED, "abi");
_Static_assert(sizeof(struct decap_settings) == 16, "abi");
_Static_assert(sizeof(struct decision) == 20, "abi");
_Static_assert(sizeof(struct dump_event) == 56, "abi");
_Static_assert(sizeof(struct dump_options) == 160, "abi");

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Reasons: why a packet left the balancer as it did. Every packet ends with exactly one reason, and
 * the reason implies the verdict. build.rs makes the Rust table from these lists, and the table
 * makes the metric labels, `lbctl stats` and the reference in docs/.
 */
#ifndef L4LB_ABI_REASONS_H
#define L4LB_ABI_REASONS_H

/*
 * X(verdict, name, help). balance/verdict.h relies on the order: TX, DROP, PASS, and of TX first
 * the reasons that send a packet to a real.
 */
#define LB_REASONS(X)                                                                              \
	X(TX, connection_table, "sent to the real that the connection table holds for the flow")   \
	X(TX, ring, "sent to the real that the VIP's ring selects")                                \
	X(TX, server_id, "sent to the real whose server id the packet carries")                    \
	X(TX, icmp_error, "ICMP error sent to the real of the flow that it quotes")                \
	X(TX, echo_reply, "ICMP echo request to a VIP address, answered")                          \
	X(TX, too_big_reply, "packet too long to encapsulate, its sender told the right size")     \
	X(TX, reset_reply, "TCP packet refused: answered with a reset")                            \
	X(TX, unreachable_reply, "UDP packet refused: answered with \"port unreachable\"")         \
	X(TX, to_router,                                                                           \
	  "taken out of its outer header (decapsulate), and sent back to the router")              \
	X(DROP, too_big, "packet too long to encapsulate")                                         \
	X(DROP, too_big_limited, "packet too long to encapsulate, too many such answers already")  \
	X(DROP, small_mtu,                                                                         \
	  "IPv6 packet too long for a path of less than 1280 bytes, which no answer may name")     \
	X(DROP, source_limited, "not answered: its source had its share of the second's answers")  \
	X(DROP, unanswerable, "not answered: its source is no single host, or a VIP's address")    \
	X(DROP, bad_checksum, "not answered: a checksum is wrong, or too many bytes to check")     \
	X(DROP, refusal_limited, "packet to be refused, too many such answers already")            \
	X(DROP, no_echo, "ICMP echo request to a VIP address that answers none now (echo)")        \
	X(DROP, other_port, "to a port of a VIP's address that no VIP has (other_ports)")          \
	X(DROP, no_real, "the VIP has no real that can take the packet")                           \
	X(DROP, ip_options, "IPv4 packet with options for a VIP")                                  \
	X(DROP, fragment, "IP fragment for a VIP")                                                 \
	X(DROP, extension_headers,                                                                 \
	  "IPv6 packet for a VIP address with too many extension headers, or a ping with any")     \
	X(DROP, runt, "packet for a VIP that ends before the end of its transport header")         \
	X(DROP, bad_length, "packet for a VIP that is longer than the frame it is in")             \
	X(DROP, no_headroom, "the driver left no room in front of the frame to encapsulate it")    \
	X(DROP, gue_checksum, "too long to compute the checksum that GUE needs over IPv6")         \
	X(DROP, l2_ttl, "to go to a real by L2, but its TTL or hop limit is used up")              \
	X(DROP, no_neighbour,                                                                      \
	  "the real's MAC is not known, or it is on another interface's network (L2)")             \
	X(DROP, decap_source,                                                                      \
	  "encapsulated for an address of decapsulate, but not from its sources (from)")           \
	X(DROP, decap_checksum,                                                                    \
	  "encapsulated, and the checksum of the outer IPv4 or UDP header is wrong")               \
	X(DROP, decap_fragment,                                                                    \
	  "a piece of an encapsulated packet, which was fragmented on the way")                    \
	X(DROP, decap_malformed,                                                                   \
	  "encapsulated for an address of decapsulate, but no valid packet inside")                \
	X(DROP, decap_ttl,                                                                         \
	  "encapsulated, and the TTL of the packet inside has run out: perhaps a loop")            \
	X(DROP, decap_inner_address,                                                               \
	  "encapsulated, and the packet inside has an address that nobody may send from or to")    \
	X(DROP, decap_not_vip, "taken out of its outer header, and for no VIP")                    \
	X(PASS, not_vip, "not for a VIP")                                                          \
	X(PASS, not_ip, "neither IPv4 nor IPv6")                                                   \
	X(PASS, bad_ip_header, "no complete and valid IP header")                                  \
	X(PASS, other_protocol, "IP, but neither TCP, UDP nor ICMP")                               \
	X(PASS, other_icmp, "ICMP that is neither an echo request nor an error of a VIP's flow")   \
	X(PASS, gue_refused,                                                                       \
	  "ICMP \"port unreachable\" about GUE: nothing takes it off at that host and port")       \
	X(PASS, other_interface,                                                                   \
	  "for a VIP, but on an interface that this instance does not serve")                      \
	X(PASS, other_mac,                                                                         \
	  "for a VIP, but the frame is addressed to another host's MAC, broadcast or multicast")   \
	X(PASS, local, "for a real that is this host itself: handed to the kernel")

/* What happened at the connection table and with server ids: X(name, help). */
#define LB_TABLE_EVENTS(X)                                                                         \
	X(hit, "the flow was in the table and its real may still take it")                         \
	X(miss_syn, "TCP SYN: the table is not asked, or has no entry that connections share")     \
	X(miss_tcp, "TCP packet of a flow that is not in the table")                               \
	X(miss_udp, "UDP packet of a flow that is not in the table")                               \
	X(miss_icmp_error, "ICMP error that quotes a flow which is not in the table")              \
	X(stale, "the flow's real was removed or is down: selected again")                         \
	X(expired, "UDP flow silent for longer than the timeout: selected again")                  \
	X(inserted, "flow remembered")                                                             \
	X(flood, "flow not remembered: too many new flows on this CPU within the second")          \
	X(shared_table, "packet on a CPU without a connection table of its own: the shared one")   \
	X(no_table, "no connection table at all: balanced by the ring alone")                      \
	X(decapsulated, "packet taken out of its outer header (decapsulate) and then balanced")    \
	X(server_id_known, "packet with the server id of a real")                                  \
	X(server_id_unknown,                                                                       \
	  "packet with a server id that is zero, unknown or of a real that is down")

#define LB_REASON_ENUM(verdict, name, help) LB_##verdict##_##name,
enum lb_reason { LB_GO_ON = 0, LB_REASONS(LB_REASON_ENUM) LB_REASON_COUNT };
#undef LB_REASON_ENUM

#define LB_EVENT_ENUM(name, help) LB_TABLE_##name,
enum lb_table_event { LB_TABLE_EVENTS(LB_EVENT_ENUM) LB_TABLE_EVENT_COUNT };
#undef LB_EVENT_ENUM

/*
 * The lengths of the lists as constants of the preprocessor: user space checks its tables with
 * them.
 */
#define LB_PLUS_ONE(...)   +1
#define LB_REASON_COUNTERS (1 LB_REASONS(LB_PLUS_ONE)) /* counts LB_GO_ON, which stays 0 */
#define LB_EVENT_COUNTERS  (0 LB_TABLE_EVENTS(LB_PLUS_ONE))

#endif

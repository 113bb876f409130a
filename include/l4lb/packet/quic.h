/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * QUIC server ids. A QUIC server writes its id into the connection ids that it issues, in plain
 * bits:
 *
 *    0 1                                                   version 1: in bits 2-17
 *   +---+----------------+- - - - - - - -+- - - - - - - -+ version 2: in bytes 1-3
 *   | V |  id (V = 1)    |   id (V = 2, 3)               | version 3: in bytes 1-4
 *   +---+----------------+- - - - - - - -+- - - - - - - -+ version 0: none
 *
 * This is the format of Katran and mvfst. The IETF's QUIC-LB draft encrypts the id.
 *
 * Packets with a short header carry a connection id that the server chose (RFC 8999, section 5.2).
 * Packets with a long header carry one if the client sends them after the server's first packet.
 * Their type tells, and its meaning depends on the version:
 *
 *   type (two bits)                           0        1        2          3
 *   version 1 (RFC 9000, 17.2), and mvfst's   Initial  0-RTT    Handshake  Retry
 *   version 2 (RFC 9369, 3.2)                 Retry    Initial  0-RTT      Handshake
 *
 * In Initial and 0-RTT packets the client made up the id. Of other versions, and of version
 * negotiation, only the place of the id is known (RFC 8999, section 5.1), so the code takes it for
 * the client's. Table and ring decide about these packets. Clients send no Retry; its id counts, as
 * in Katran. The code ignores bit 0x40, because clients may clear it (RFC 9287).
 */
#ifndef L4LB_PACKET_QUIC_H
#define L4LB_PACKET_QUIC_H

#include "l4lb/packet/bytes.h"
#include "l4lb/packet/pkt.h"

#define QUIC_LONG_HEADER 0x80
#define QUIC_CID_LEN	 8 /* bytes that a connection id must have */

#define QUIC_V1		0x00000001
#define QUIC_V2		0x6b3343cf
#define QUIC_MVFST	0xfaceb000 /* the first of 32 numbers, which all mean version 1 */
#define QUIC_MVFST_MASK 0xffffffe0

/* Types of long headers, as version 1 numbers them. */
#define QUIC_INITIAL 0
#define QUIC_0RTT    1

#define QUIC_NO_SERVER_ID (-1)

/* Whether the server chose the connection id in this long header. */
static __always_inline int quic_id_is_servers(const __u8 *header)
{
	__u32 type = header[0] >> 4 & 3;
	__be32 network_order;
	__u32 version;

	__builtin_memcpy(&network_order, header + 1, sizeof(network_order));
	version = bpf_ntohl(network_order);
	if (version == QUIC_V2)
		type = (type - 1) & 3;
	else if (version != QUIC_V1 && (version & QUIC_MVFST_MASK) != QUIC_MVFST)
		return 0;
	return type != QUIC_INITIAL && type != QUIC_0RTT;
}

/* Returns the server id of a packet, which may be 0, or QUIC_NO_SERVER_ID if it carries none. */
static __always_inline __s64 quic_server_id(struct xdp_md *ctx, const struct pkt *p)
{
	__u32 off = p->l4_off + sizeof(struct udphdr);
	__u8 *first = packet_at(ctx, p, off, 1);
	__u8 *header, *cid;

	if (!first)
		return QUIC_NO_SERVER_ID;
	if (*first & QUIC_LONG_HEADER) {
		header = packet_at(ctx, p, off, 6 + QUIC_CID_LEN);
		if (!header || header[5] < QUIC_CID_LEN || !quic_id_is_servers(header))
			return QUIC_NO_SERVER_ID;
		cid = header + 6;
	} else {
		header = packet_at(ctx, p, off, 1 + QUIC_CID_LEN);
		if (!header)
			return QUIC_NO_SERVER_ID;
		cid = header + 1;
	}
	switch (cid[0] >> 6) {
	case 1:
		return (cid[0] & 0x3f) << 10 | cid[1] << 2 | cid[2] >> 6;
	case 2:
		return cid[1] << 16 | cid[2] << 8 | cid[3];
	case 3:
		return (__u32)cid[1] << 24 | cid[2] << 16 | cid[3] << 8 | cid[4];
	default:
		return QUIC_NO_SERVER_ID;
	}
}

#endif

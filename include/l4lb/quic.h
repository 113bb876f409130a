/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The server id that a QUIC server wrote into the connection ids it handed out, in plain bits:
 *
 *    0 1                                                   version 1: id in bits 2-17 of the
 * connection id
 *   +---+----------------+- - - - - - - -+- - - - - - - -+ version 2: in bytes 1-3
 *   | V |  id (V = 1)    |   id (V = 2, 3)               | version 3: in bytes 1-4
 *   +---+----------------+- - - - - - - -+- - - - - - - -+ version 0: none
 *
 * This is the format of Katran and mvfst. The IETF's QUIC-LB draft encrypts the id.
 */
#ifndef L4LB_QUIC_H
#define L4LB_QUIC_H

#include "pkt.h"

#define QUIC_LONG_HEADER 0x80
#define QUIC_LONG_TYPE	 0x30
#define QUIC_INITIAL	 0x00
#define QUIC_0RTT	 0x10
#define QUIC_CID_LEN	 8 /* bytes of a connection id that must be there */

#define QUIC_NO_SERVER_ID (-1)

/* The server id of a packet, which may be 0, or QUIC_NO_SERVER_ID where it carries none. */
static __always_inline __s64 quic_server_id(struct xdp_md *ctx, const struct pkt *p)
{
	__u32 off = p->l4_off + sizeof(struct udphdr);
	__u8 *first = packet_at(ctx, p, off, 1);
	__u8 *header, *cid;

	if (!first)
		return QUIC_NO_SERVER_ID;
	if (*first & QUIC_LONG_HEADER) {
		header = packet_at(ctx, p, off, 6 + QUIC_CID_LEN);
		if (!header || header[5] < QUIC_CID_LEN)
			return QUIC_NO_SERVER_ID;
		/* The client chose these connection ids. */
		if ((header[0] & QUIC_LONG_TYPE) == QUIC_INITIAL ||
		    (header[0] & QUIC_LONG_TYPE) == QUIC_0RTT)
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

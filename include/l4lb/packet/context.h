/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The context by which a program reaches the frame: that of XDP; or that of tc, a socket buffer, in
 * a program that defines LB_SOCKET_BUFFER before it includes anything. Both have `data` and
 * `data_end`. Of a socket buffer, these hold only the bytes that lie in one piece.
 */
#ifndef L4LB_PACKET_CONTEXT_H
#define L4LB_PACKET_CONTEXT_H

#include <linux/bpf.h>

#ifdef LB_SOCKET_BUFFER
typedef struct __sk_buff packet_ctx;
#else
typedef struct xdp_md packet_ctx;
#endif

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Every struct, constant and limit that the BPF programs share with user space. Include this file,
 * not its parts.
 *
 * build.rs takes the constants and the lists of reasons from here, by the preprocessor; the structs
 * reach Rust by the BTF of the programs. Nothing here is typed a second time. If you change the
 * layout or the meaning of anything that is pinned, raise LB_ABI_VERSION: lbctl then refuses the
 * pins of another build instead of misreading them.
 *
 * Structs have no implicit padding: the kernel compares hash keys byte by byte, and padding holds
 * whatever was on the stack. Addresses are in network order, IPv4 as IPv4-mapped IPv6 (RFC 4291,
 * section 2.5.5.2).
 */
#ifndef L4LB_ABI_ABI_H
#define L4LB_ABI_ABI_H

#include "l4lb/abi/addr.h"
#include "l4lb/abi/captures.h"
#include "l4lb/abi/control.h"
#include "l4lb/abi/counters.h"
#include "l4lb/abi/decap.h"
#include "l4lb/abi/decapsulate.h"
#include "l4lb/abi/encap.h"
#include "l4lb/abi/flow.h"
#include "l4lb/abi/healthcheck.h"
#include "l4lb/abi/interface.h"
#include "l4lb/abi/knobs.h"
#include "l4lb/abi/limits.h"
#include "l4lb/abi/mss.h"
#include "l4lb/abi/neighbour.h"
#include "l4lb/abi/real.h"
#include "l4lb/abi/reasons.h"
#include "l4lb/abi/ring.h"
#include "l4lb/abi/scratch.h"
#include "l4lb/abi/trace.h"
#include "l4lb/abi/vip.h"

#endif

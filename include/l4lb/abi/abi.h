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

#include "l4lb/abi/addr.h"
#include "l4lb/abi/captures.h"
#include "l4lb/abi/control.h"
#include "l4lb/abi/counters.h"
#include "l4lb/abi/decap.h"
#include "l4lb/abi/flow.h"
#include "l4lb/abi/interface.h"
#include "l4lb/abi/knobs.h"
#include "l4lb/abi/limits.h"
#include "l4lb/abi/real.h"
#include "l4lb/abi/reasons.h"
#include "l4lb/abi/ring.h"
#include "l4lb/abi/scratch.h"
#include "l4lb/abi/trace.h"
#include "l4lb/abi/vip.h"

#endif

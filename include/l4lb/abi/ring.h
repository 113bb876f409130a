/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The ring map of a VIP. */
#ifndef L4LB_ABI_RING_H
#define L4LB_ABI_RING_H

#include "l4lb/abi/limits.h"

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

#endif

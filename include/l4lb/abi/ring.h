/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The ring map of a VIP. */
#ifndef L4LB_ABI_RING_H
#define L4LB_ABI_RING_H

#include "l4lb/abi/limits.h"

/*
 * A value of a ring map holds four real ids: slot s of the ring is id (s % 4) of value (s / 4).
 * Behind the ring lies a bitmap of barred reals: ids that no packet of this VIP may go to, though
 * they may serve other VIPs. One map holds both, so that one update swaps both. If the control
 * plane overwrites the map in place, it writes the slots first: a real that is then barred has no
 * slot any more.
 */
#define LB_RING_IDS_PER_VALUE 4
#define LB_RING_VALUES	      ((LB_RING_SIZE + LB_RING_IDS_PER_VALUE - 1) / LB_RING_IDS_PER_VALUE)
#define LB_BARRED_VALUES      (LB_REAL_IDS / 64)
/*
 * The last value of the ring has one slot only. User space keeps a checksum in the bits above it:
 * of the whole map and of the reals from which the ring was computed. 0: written by a build without
 * it.
 */
#define LB_RING_CHECKSUM_SHIFT 16
#define LB_RING_CHECKSUM_MASK  0xffffffffffffULL

#endif

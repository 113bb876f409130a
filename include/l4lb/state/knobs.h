/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The knobs of this copy of the balancer. lbctl sets them before it loads the program; then the
 * verifier knows them as constants, and removes the branches that they switch off.
 */
#ifndef L4LB_STATE_KNOBS_H
#define L4LB_STATE_KNOBS_H

#include "l4lb/abi/abi.h"

const volatile struct knobs knobs = {};

#endif

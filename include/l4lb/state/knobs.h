/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What is fixed at load: the verifier removes the branches that a knob switches off. */
#ifndef L4LB_STATE_KNOBS_H
#define L4LB_STATE_KNOBS_H

#include "l4lb/abi/abi.h"

const volatile struct knobs knobs = {};

#endif

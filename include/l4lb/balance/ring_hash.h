/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * From a flow to its slot of the ring: the Linux kernel's jhash (include/linux/jhash.h, after Bob
 * Jenkins' lookup3), as Katran uses it.
 */
#ifndef L4LB_BALANCE_RING_HASH_H
#define L4LB_BALANCE_RING_HASH_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "l4lb/packet/pkt.h"

#define JHASH_INITVAL 0xdeadbeef

static __always_inline __u32 rol32(__u32 word, __u32 shift)
{
	return word << shift | word >> (32 - shift);
}

/* One step each of lookup3's mix() and final(). The next step rotates the arguments. */
#define JHASH_MIX_STEP(a, b, c, shift) (a -= c, a ^= rol32(c, shift), c += b)
#define JHASH_FINAL_STEP(a, b, shift)  (a ^= b, a -= rol32(b, shift))

static __always_inline __u32 jhash_final(__u32 a, __u32 b, __u32 c)
{
	JHASH_FINAL_STEP(c, b, 14);
	JHASH_FINAL_STEP(a, c, 11);
	JHASH_FINAL_STEP(b, a, 25);
	JHASH_FINAL_STEP(c, b, 16);
	JHASH_FINAL_STEP(a, c, 4);
	JHASH_FINAL_STEP(b, a, 14);
	JHASH_FINAL_STEP(c, b, 24);
	return c;
}

static __always_inline __u32 jhash_2words(__u32 a, __u32 b, __u32 initval)
{
	initval += JHASH_INITVAL + (2 << 2);
	return jhash_final(a + initval, b + initval, initval);
}

/* jhash of 16 bytes: it mixes once after 12 of them, and adds the last 4 before the end. */
static __always_inline __u32 jhash_16bytes(const __u32 word[4], __u32 initval)
{
	__u32 a, b, c;

	a = b = c = JHASH_INITVAL + 16 + initval;
	a += word[0];
	b += word[1];
	c += word[2];

	JHASH_MIX_STEP(a, b, c, 4);
	JHASH_MIX_STEP(b, c, a, 6);
	JHASH_MIX_STEP(c, a, b, 8);
	JHASH_MIX_STEP(a, b, c, 16);
	JHASH_MIX_STEP(b, c, a, 19);
	JHASH_MIX_STEP(c, a, b, 4);

	a += word[3];
	return jhash_final(a, b, c);
}

/* Seeds of the flow hash. Katran has the same, and both must agree about every flow. */
#define LB_FLOW_SEED	33554944
#define LB_FLOW_SEED_V6 512

/* hash % 65537. A division costs as much as all of jhash. Modulo 2^16 + 1, 2^16 is -1. */
static __always_inline __u32 mod_65537(__u32 hash)
{
	__s32 rest = (__s32)(hash & 0xffff) - (__s32)(hash >> 16);

	return rest < 0 ? rest + 65537 : rest;
}

static __always_inline __u32 ring_slot(const struct pkt *p, const struct flow_key *key)
{
	__u32 ports, src = key->src.word[3];

	__builtin_memcpy(&ports, &key->sport, sizeof(ports));
	if (p->v6)
		src = jhash_16bytes(key->src.word, LB_FLOW_SEED_V6);
	return mod_65537(jhash_2words(src, ports, LB_FLOW_SEED));
}

#endif

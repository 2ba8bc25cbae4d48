/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bup's rolling sum (bup-format.md 4.1), private to this folder.  Over the last 64 bytes, newest
 * first, with zeros before the start of the chunk:
 *
 *	s1 = 1984 + sum of w_k,  s2 = 124992 + sum of k * w_k,  k = 1..64
 *
 * A boundary is where the low `bits` bits of s2 are all ones.  From the 64th byte of a chunk on it
 * depends on those 64 bytes alone: such a boundary is called steady, an earlier one early.
 */
#ifndef WR_ROLLSUM_H
#define WR_ROLLSUM_H

#include "base/base.h"

#define WR_ROLL_WINDOW 64u

struct wr_rollsum {
	uint32_t s1, s2;
};
#define WR_ROLLSUM_INIT      \
	{                    \
		1984, 124992 \
	}

/* The state after WR_ROLL_WINDOW bytes or more, of which these are the last. */
struct wr_rollsum wr_rollsum_of(const uint8_t *window);
/* Level of a boundary with this state. */
unsigned wr_rollsum_level(struct wr_rollsum r, unsigned bits);

/* Implementations of the search that this CPU can run, the last is the fastest. */
unsigned wr_rollsum_variants(void);
/*
 * All steady boundaries of buf in ascending order, as the offset behind the boundary's last byte:
 * WR_ROLL_WINDOW .. len, and len is at most UINT32_MAX.  Fills the growable array *pos and gives
 * the count.
 */
size_t wr_rollsum_find(unsigned variant, const uint8_t *buf, size_t len, unsigned bits,
		       uint32_t **pos, size_t *cap);

#endif

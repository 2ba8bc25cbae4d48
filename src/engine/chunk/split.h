/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bup's content-defined cutting (bup-format.md 4.1 and 4.2), in linear time: the places where the
 * 64 bytes before satisfy the test are found by vector arithmetic for a whole block at once, a
 * short serial pass then turns them into cuts.  Pure.
 */
#ifndef WR_SPLIT_H
#define WR_SPLIT_H

#include "base/base.h"

#define WR_SPLIT_BITS_MIN 13
#define WR_SPLIT_BITS_MAX 19              /* s2 stays below 2^20, so 20 bits of ones never occur */
#define WR_SPLIT_BLOCK (8u << 20)         /* what bup reads at a time, from offset 0 */
#define WR_SPLIT_MAX(bits) (4u << (bits)) /* the largest chunk */

struct wr_cut {
	uint32_t len;
	uint32_t level; /* of the boundary at its end */
};

struct wr_splitter {
	unsigned bits;
	bool block_rule;    /* 0.33's rule, used for 13 bits; else the simple rule */
	struct wr_cut *cut; /* result of the last wr_split_feed, owned by the splitter */
	size_t cut_count, cut_cap;
	uint32_t *steady; /* scratch: steady boundaries of the buffer */
	size_t steady_count, steady_cap;
	size_t left; /* what the last wr_split_feed left over */
};

void wr_splitter_init(struct wr_splitter *s, unsigned bits);
void wr_splitter_fini(struct wr_splitter *s);
/* Forget a stream that was given up before its end; behind an eof the next one just starts. */
void wr_splitter_reset(struct wr_splitter *s);
/*
 * Cut buf: the left-over of the previous call followed by the next block of WR_SPLIT_BLOCK bytes
 * of the stream (fewer only at its end, told by eof).  Fills s->cut; gives the bytes consumed, the
 * sum of the cuts.  The rest, less than WR_SPLIT_MAX(bits), belongs in front of the next block; at
 * eof nothing is left.  A stream whose end shows only behind its last block ends with a call for
 * the left-over alone.  The simple rule takes blocks of any size and always cuts alike.
 */
size_t wr_split_feed(struct wr_splitter *s, const uint8_t *buf, size_t len, bool eof);

#endif

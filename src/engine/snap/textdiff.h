/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unified differences of two texts: Myers' algorithm in linear space on whole lines, with a budget.
 * Where the budget ends, the rest is given as one coarse change: still right, only not smallest.
 * Pure.
 */
#ifndef WR_TEXTDIFF_H
#define WR_TEXTDIFF_H

#include "base/err.h"

#define WR_TEXTDIFF_MAX (16u << 20) /* LIMIT: bytes of one text */
#define WR_TEXTDIFF_CONTEXT 3

/* Does it look like no text: a NUL among the first 8000 bytes, as git judges? */
bool wr_text_is_binary(const void *p, size_t len);

struct wr_textdiff_stats {
	uint64_t added, removed; /* lines */
	bool coarse;             /* the budget ended, or there are too many lines */
};

/*
 * One line of the result: sign '@' the head of a hunk, ' ' '-' '+' a line, '\\' the remark that the
 * line before has no line feed.  text is without sign and line feed, borrowed.  Nonzero ends the
 * comparison with that value.
 */
typedef int (*wr_diffline_fn)(void *ctx, char sign, const char *text, size_t len,
			      struct wr_err *err);
/* WR_E_LIMIT for texts above WR_TEXTDIFF_MAX. *out may be NULL. */
int wr_textdiff(const void *a, size_t a_len, const void *b, size_t b_len, wr_diffline_fn fn,
		void *ctx, struct wr_textdiff_stats *out, struct wr_err *err);

#endif

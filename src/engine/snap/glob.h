/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shell patterns as git reads them: `*`, `?`, `[a-z]`, `[!...]`, `[[:alpha:]]`, backslash, and
 * over paths `**`.  A pattern is compiled once; matching follows all readings of the pattern side
 * by side, so it takes at most pattern length x text length steps.  Pure.
 */
#ifndef WR_GLOB_H
#define WR_GLOB_H

#include "base/err.h"

#define WR_GLOB_MAX 4096 /* LIMIT: bytes of a pattern */

struct wr_glob {
	struct wr_glob_tok *tok; /* owned */
	size_t count;
	uint8_t (*sets)[32]; /* owned: the bit sets of character classes */
	size_t set_count, set_cap;
	unsigned flags;
	bool never;        /* malformed ("[a", "x\"): matches nothing, as in git */
	size_t head, tail; /* literal bytes at both ends */
};
#define WR_GLOB_INIT \
	{            \
		0    \
	}

enum wr_glob_flag {
	WR_GLOB_PATHS = 1, /* `*`, `?` and classes stop at '/' and `**` has its meaning */
	WR_GLOB_FOLD = 2,  /* ASCII letters match in either case */
};

/* WR_E_LIMIT above WR_GLOB_MAX. A malformed pattern is no error: it never matches. */
int wr_glob_compile(struct wr_glob *g, const char *pattern, size_t len, unsigned flags,
		    struct wr_err *err);
void wr_glob_fini(struct wr_glob *g);
/* Does the pattern match the whole text? Thread safe. */
bool wr_glob_match(const struct wr_glob *g, const char *text, size_t len);

#endif

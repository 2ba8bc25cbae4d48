/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every file of Warren may rely on: the C library, checked allocation, scope-exit release,
 * assertions that stay on in release builds.  Memory that cannot be had ends the process with a
 * message: the repository is safe against that at any point, and no caller could go on.
 */
#ifndef WR_BASE_H
#define WR_BASE_H

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

#define WR_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define WR_MUST_CHECK __attribute__((warn_unused_result))
#define WR_NORETURN __attribute__((noreturn))
#define WR_UNUSED __attribute__((unused))

/* Release at the end of the scope: fn takes a pointer to the variable. */
#define WR_SCOPED(fn) __attribute__((cleanup(fn)))

/* Hand ownership of a pointer over: yields it and leaves NULL behind. */
#define wr_steal(pp)                                  \
	({                                            \
		__typeof__(*(pp)) wr_stolen_ = *(pp); \
		*(pp) = NULL;                         \
		wr_stolen_;                           \
	})

#define WR_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define WR_MIN(a, b) ((a) < (b) ? (a) : (b))
#define WR_MAX(a, b) ((a) > (b) ? (a) : (b))

/* For our own mistakes only; input from disk, network or users is parsed, never asserted. */
#define wr_assert(cond)                                            \
	do {                                                       \
		if (!(cond))                                       \
			wr_assert_fail(#cond, __FILE__, __LINE__); \
	} while (0)
WR_NORETURN void wr_assert_fail(const char *cond, const char *file, int line);

/* Allocation that does not return on failure. Sizes of 0 are legal. free(3) releases. */
void *wr_malloc(size_t size);
void *wr_calloc(size_t count, size_t size);
void *wr_realloc(void *p, size_t size);
/* Room for count elements of size bytes; an overflow of the product ends the process. */
void *wr_reallocarray(void *p, size_t count, size_t size);
char *wr_strdup(const char *s);
void *wr_memdup(const void *p, size_t len);
char *wr_asprintf(const char *fmt, ...) WR_PRINTF(1, 2);

/* Grow array *p (of elements of elem_size) so that it has room for need elements. */
void wr_grow(void *p, size_t *cap, size_t need, size_t elem_size);

/* WR_SCOPED helpers. */
void wr_freep(void *pp);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of paths for receipts: what was skipped and why, what is left out and how large. */
#ifndef WR_NOTES_H
#define WR_NOTES_H

#include "base/base.h"

/* LIMIT: entries named in a list of skipped or left-out paths; the rest is counted. */
#define WR_LIST_MAX 10000
/* LIMIT: bytes of their paths; in a deep tree a single one may have a megabyte. */
#define WR_LIST_BYTES (2u << 20)

/* A path with a reason, or with a size. */
struct wr_note {
	char *path; /* relative to the root, any bytes */
	size_t path_len;
	const char *reason; /* static text */
	uint64_t bytes;
};
struct wr_notes {
	struct wr_note *note;
	size_t count, cap, bytes;
	uint64_t more; /* beyond these */
	bool heap;     /* full, and ordered by wr_notes_add_largest */
};
void wr_notes_add(struct wr_notes *n, const char *path, size_t len, const char *reason,
		  uint64_t bytes);
/* The same, but of too many the largest stay. Not to be mixed with wr_notes_add. */
void wr_notes_add_largest(struct wr_notes *n, const char *path, size_t len, const char *reason,
			  uint64_t bytes);
void wr_notes_fini(struct wr_notes *n);

#endif

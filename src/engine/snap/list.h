/* SPDX-License-Identifier: Apache-2.0 */
/* What lies in a directory of a snapshot, or in all below it, in the order of a walk. */
#ifndef WR_LIST_H
#define WR_LIST_H

#include "engine/snap/dirview.h"

struct wr_list_item {
	const char *path; /* relative to the listed directory; NUL-terminated */
	size_t path_len;
	enum wr_kind kind;
	struct wr_id id; /* of the blob, chunk tree or directory */
	bool chunked;
	/* With WR_LIST_META; without it absent. Borrowed. */
	const struct wr_meta *meta;
	uint64_t size;          /* 0 for directories */
	struct wr_bytes target; /* of symlinks */
};
typedef int (*wr_list_fn)(void *ctx, const struct wr_list_item *it, struct wr_err *err);

enum wr_list_flag {
	WR_LIST_RECURSIVE = 1,
	WR_LIST_META = 2,
};

/* Nonzero of fn ends the walk with that value. at is what wr_at_find gave: of a file or link, that
 * itself is listed. */
int wr_list(struct wr_reader *rd, const struct wr_at *at, unsigned flags, wr_list_fn fn, void *ctx,
	    struct wr_err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What differs between two trees of snapshots.  Subtrees with equal ids are not entered, so the
 * work follows the changes; memory is that of the directories between the root and the one in hand.
 */
#ifndef WR_DIFF_H
#define WR_DIFF_H

#include "engine/snap/dirview.h"

enum wr_change {
	WR_CHANGE_NONE = 0,
	WR_CHANGE_ADDED = 'A',
	WR_CHANGE_REMOVED = 'D',
	WR_CHANGE_CONTENT = 'M',
	WR_CHANGE_META = 'm', /* metadata only */
	WR_CHANGE_TYPE = 'T', /* a file became a directory, a fifo a symlink, ... */
};
const char *wr_change_name(enum wr_change c); /* "added", ... */

struct wr_diff_side {
	enum wr_kind kind; /* WR_KIND_NONE: not on this side */
	uint32_t mode;     /* st_mode; of WR_DIFF_NAMES only the type, a special file is a file */
	struct wr_id id;
	bool chunked;
	uint64_t size; /* 0 for directories, and with WR_DIFF_NAMES */
};

struct wr_diff_item {
	enum wr_change change;
	const char *path; /* relative to what is compared, "" for that itself; NUL-terminated */
	size_t path_len;
	struct wr_diff_side a, b;
};
/* Nonzero ends the walk with that value. */
typedef int (*wr_diff_fn)(void *ctx, const struct wr_diff_item *it, struct wr_err *err);

enum wr_diff_flag {
	/* Names, types and ids only: no metadata is read, WR_CHANGE_META is never reported. */
	WR_DIFF_NAMES = 1,
};

/*
 * Compare two places; NULL stands for nothing at all.  Items come in the order of a walk, names
 * ascending, a directory before what is in it; one that is added, removed or changes its type is
 * followed by all that was or is in it.  A directory is WR_CHANGE_META if its own metadata differs;
 * its mtime alone counts only when nothing directly in it was added, removed or changed, which
 * moves it anyway.
 */
int wr_diff(struct wr_reader *rd, const struct wr_at *a, const struct wr_at *b, unsigned flags,
	    wr_diff_fn fn, void *ctx, struct wr_err *err);
/* The root of a snapshot as a place. */
struct wr_at wr_at_root(const struct wr_id *tree);

#endif

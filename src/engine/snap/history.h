/* SPDX-License-Identifier: Apache-2.0 */
/* The versions of one path along a branch, newest first. */
#ifndef WR_HISTORY_H
#define WR_HISTORY_H

#include "engine/repo/resolve.h"
#include "engine/snap/dirview.h"

/*
 * A run of neighbouring snapshots with the same content at the path.  Content that comes back later
 * is a version again, with the same id.  Metadata alone makes no new version.
 */
struct wr_version {
	enum wr_kind kind;                  /* WR_KIND_NONE: the path was not there */
	const struct wr_snap *first, *last; /* oldest and newest of the run */
	size_t snapshots;
	struct wr_id id;
	bool chunked;
	/* as in the newest snapshot of the run */
	uint32_t mode;
	bool has_meta; /* false: no owner and times are known */
	struct wr_ts mtime;
	uint64_t size; /* 0 for directories */
};
typedef int (*wr_version_fn)(void *ctx, const struct wr_version *v, struct wr_err *err);

/* Absence is reported only after the path's first appearance. WR_E_NOT_FOUND if no snapshot has it.
 * snaps: from wr_snaps_list, of one branch. */
int wr_versions(struct wr_reader *rd, const struct wr_snaps *snaps, const char *path, size_t len,
		wr_version_fn fn, void *ctx, struct wr_err *err);

#endif

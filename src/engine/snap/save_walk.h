/* SPDX-License-Identifier: Apache-2.0 */
/* The second pass of a save: read what is not known, store it, build directories bottom up. */
#ifndef WR_SAVE_WALK_H
#define WR_SAVE_WALK_H

#include "engine/snap/save.h"
#include "engine/snap/sums.h"

struct wr_walk_in {
	struct wr_repo *repo;
	const struct wr_save_opts *o;
	struct wr_pool *pool;
	struct wr_sink *sink;
	const struct wr_scan *scan;
	const struct wr_scan_opts *scan_opts;
	struct wr_statcache *cache; /* read, and appended to unless dry_run; may be NULL */
	bool use_cache;             /* its ids may be trusted */
	int root_fd;
	const struct wr_id *carry; /* root tree to carry over from, or NULL */
	const char *link_root;     /* what hard-link keys begin with */
	struct wr_sums *sums;      /* what is stored adds to these; may be NULL */
};

struct wr_walk_out {
	struct wr_id tree;
	bool root_failed; /* the root itself could not be read; why is in err */
	uint64_t block;   /* root block of the new cache, 0: none */
	uint64_t files_new, files_changed, files_removed, bytes_read;
	struct wr_notes skipped;
};

int wr_save_walk(const struct wr_walk_in *in, struct wr_walk_out *out, struct wr_err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Find paths in all snapshots of one branch or of all.  Each snapshot is compared with the one
 * before it, so what did not change between them is not looked at again.
 */
#ifndef WR_FIND_H
#define WR_FIND_H

#include "engine/repo/resolve.h"
#include "engine/snap/dirview.h"

struct wr_found {
	char *path; /* owned, NUL-terminated */
	size_t path_len;
	const struct wr_snap *first, *last; /* the oldest and the newest that has it */
	uint64_t versions;                  /* distinct contents; of a directory 1 */
	/* as in `last` */
	enum wr_kind kind;
	bool chunked;
	struct wr_id id;
	bool has_size; /* false for directories, and if the object cannot be read */
	uint64_t size;
};

struct wr_find_result {
	struct wr_found *found; /* ascending by path */
	size_t count;
	struct wr_snaps snaps; /* what first and last point into */
	uint64_t snapshots;    /* looked at */
};
void wr_find_result_fini(struct wr_find_result *r);

struct wr_find_opts {
	const char *branch; /* NULL: all */
	bool ignore_case;
};

/*
 * pattern: as in .gitignore.  Without '/' it is held against names, otherwise against the whole
 * path below the root; one '/' at its end asks for directories only.  No match is no error.
 * WR_E_LIMIT above a million paths.
 */
int wr_find(struct wr_reader *rd, const char *pattern, const struct wr_find_opts *o,
	    struct wr_find_result *out, struct wr_err *err);

#endif

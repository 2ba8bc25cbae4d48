/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of snapshots as users type them:
 *   BRANCH | [BRANCH/]latest | [BRANCH/]NAME | TAG | COMMIT-ID (4 or more digits) | refs/... |
 *   [BRANCH/]TIME with TIME = now, today, yesterday, 90s 20m 2h 3d 2w, 2026-11-22,
 *   2026-11-22T10:15[:30][Z] (UTC) : the newest snapshot not younger than that.  A day, minute
 *   or yesterday counts to its end, so that what was saved during it is found.
 * Without a branch, TIME and NAME look at the default branch: the one HEAD names if it exists,
 * "main", or the only one.  NAME may be shortened as long as it is unambiguous (2026-11-22-10).
 * What could be several of these is the first in the order branch, tag, time, name, id.
 * Any of these may be followed by :PATH.
 */
#ifndef WR_RESOLVE_H
#define WR_RESOLVE_H

#include "engine/repo/repo.h"

struct wr_snap {
	struct wr_id commit, tree; /* commit: zero for a tag of a tree */
	int64_t time;              /* the author's, as bup names snapshots by it */
	char *branch;              /* NULL if addressed by id or tag */
	char name[40];             /* 2026-11-22-101530 */
};
void wr_snap_fini(struct wr_snap *s);

/* spec may hold ":PATH"; *out_path (caller frees) is the part behind the first ':' or NULL.
 * now: what relative times count from. WR_E_NOT_FOUND with a hint that lists what there is. */
int wr_resolve(struct wr_reader *rd, const char *spec, int64_t now, struct wr_snap *out,
	       char **out_path, struct wr_err *err);
/* The default branch (see above); caller frees. WR_E_NOT_FOUND in an empty repository. */
int wr_default_branch(struct wr_reader *rd, char **out, struct wr_err *err);

struct wr_snaps {
	struct wr_snap *snap; /* newest first */
	size_t count;
};
void wr_snaps_fini(struct wr_snaps *s);
/* First-parent history of one branch; branch NULL = all branches one after another. Equal times
 * get bup's -0, -1 suffixes in their names (bup-format.md 8). */
int wr_snaps_list(struct wr_reader *rd, const char *branch, struct wr_snaps *out,
		  struct wr_err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * refs/warren/latest: the newest state where it may not become history.  A commit without parents;
 * a trailer names the branch and the tip that it was made on:
 *
 *   Warren-Base: main 8e73355b...
 *
 * It is newer than that tip and than nothing else: once the branch has moved on it stands for
 * nothing any more, for what moved it was made of these files.  So the branch and it need not move
 * at the same moment.  Others that go by this ref (newest first, fleet/sync) have no such trailer:
 * they came ahead of a history, and are never taken for files' origin.
 */
#ifndef WR_LATEST_H
#define WR_LATEST_H

#include "engine/repo/repo.h"

#define WR_LATEST_REF "refs/warren/latest"

struct wr_latest {
	bool there; /* the ref is */
	bool base;  /* its commit has the trailer */
	bool valid; /* and stands on what was asked for */
	bool past; /* or on its parent: that took its place, and was cut off before it dropped it */
	struct wr_id id;
	struct wr_commit commit; /* readable, or empty */
};
void wr_latest_fini(struct wr_latest *l);
/* tip: where the branch is; NULL: nowhere yet. One that cannot be read is not valid, no error. */
int wr_latest_find(struct wr_repo *r, struct wr_reader *rd, const char *branch,
		   const struct wr_id *tip, struct wr_latest *out, struct wr_err *err);
/* What a commit's trailer names; zero: a branch without snapshots. false: it has none. */
bool wr_latest_base(const struct wr_commit *c, struct wr_id *out);
/* Is that the branch it names? */
bool wr_latest_on(const struct wr_commit *c, const char *branch);

/* The line of a commit message. */
void wr_latest_trailer(struct wr_buf *out, const char *branch, const struct wr_id *tip);
/* Under the repository's lock. old: as it was found. One that came ahead of a history becomes a
 * side branch first. */
int wr_latest_put(struct wr_repo *r, const struct wr_latest *old, const struct wr_id *id,
		  const char *ident, struct wr_err *err);
int wr_latest_drop(struct wr_repo *r, const struct wr_latest *old, struct wr_err *err);

#endif

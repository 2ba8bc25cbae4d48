/* SPDX-License-Identifier: Apache-2.0 */
/* Git commit objects within the limits that bup's reader sets (bup-format.md 2). Pure. */
#ifndef WR_COMMIT_H
#define WR_COMMIT_H

#include "base/buf.h"
#include "engine/object/id.h"

struct wr_commit {
	struct wr_id tree;
	struct wr_id *parent; /* parent_count of them, owned */
	size_t parent_count;
	char *author, *committer; /* "NAME <MAIL>", owned */
	int64_t author_time;      /* seconds since the epoch */
	int64_t committer_time;
	int author_zone; /* minutes east of UTC */
	char *message;   /* owned; ends at its first NUL byte */
};
#define WR_COMMIT_INIT \
	{              \
		0      \
	}

/* Parse a commit payload (also git's own, with gpgsig, encoding and so on). WR_E_CORRUPT. */
int wr_commit_parse(const void *p, size_t len, struct wr_commit *out, struct wr_err *err);
void wr_commit_fini(struct wr_commit *c);
/* Append the payload: author = committer, zone +0000. ident must come from wr_ident. */
void wr_commit_format(struct wr_buf *out, const struct wr_id *tree, const struct wr_id *parent,
		      const char *ident, int64_t seconds, const char *message);
/* The commit that stands for a tree alone (refs/warren/latest): no parents, and nothing in it but
 * tree and time, so that whoever knows these knows its id. */
void wr_commit_latest(struct wr_buf *out, const struct wr_id *tree, int64_t seconds);
/* "NAME <MAIL>" that bup's commit parser accepts, from any bytes; parts that nothing is left of
 * become "unknown". The caller frees it. */
char *wr_ident(const char *name, const char *mail);
/* Value of a trailer line "Key: value" in the last paragraph, NULL if absent; caller frees. */
char *wr_commit_trailer(const struct wr_commit *c, const char *key);

/* Branch and tag names that git and bup accept and bup's VFS can reach: no '/', ... */
int wr_ref_name_check(const char *name, struct wr_err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* What `warren repo tag` and `warren repo branch` share: list, set, delete names of commits. */
#ifndef WR_REFCMD_H
#define WR_REFCMD_H

#include "cli/view.h"

#define WR_TAGS "refs/tags/"
#define WR_HEADS "refs/heads/"

struct wr_refcmd {
	const char *word, *schema, *prefix;
	const char *other_word, *other_prefix; /* names that would hide these, or be hidden */
	int (*show)(struct wr_view *v, const struct wr_refs *refs, struct wr_err *err);
};
int wr_refcmd_run(const struct wr_refcmd *c, const struct wr_args *a, struct wr_err *err);

/* What a ref leads to, through tag objects. */
struct wr_ref_target {
	struct wr_id id;
	const char *type; /* "commit", "tree", ..., "missing" */
	bool is_commit;
	int64_t time; /* of a commit */
};
void wr_ref_target(struct wr_view *v, const struct wr_id *id, struct wr_ref_target *out);

#endif

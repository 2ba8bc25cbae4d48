/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/snap/latest.h"

#include "base/str.h"
#include "sys/crash.h"

#define TRAILER "Warren-Base"

void
wr_latest_fini(struct wr_latest *l)
{
	wr_commit_fini(&l->commit);
	*l = (struct wr_latest){0};
}

bool
wr_latest_base(const struct wr_commit *c, struct wr_id *out)
{
	WR_SCOPED(wr_freep) char *value = wr_commit_trailer(c, TRAILER);
	const char *hex = value ? strrchr(value, ' ') : NULL;

	return hex && strlen(hex + 1) == 40 && wr_id_parse(hex + 1, out);
}

bool
wr_latest_on(const struct wr_commit *c, const char *branch)
{
	WR_SCOPED(wr_freep) char *value = wr_commit_trailer(c, TRAILER);
	char *end = value ? strrchr(value, ' ') : NULL;

	if (!end)
		return false;
	*end = '\0';
	return !strcmp(value, branch);
}

/* base: zero if there was no snapshot before it */
static bool
stood_on(struct wr_reader *rd, const struct wr_id *tip, const struct wr_id *base)
{
	struct wr_commit c = WR_COMMIT_INIT;
	bool is = wr_repo_read_commit(rd, tip, &c, NULL) == 0 &&
		  (c.parent_count ? wr_id_eq(&c.parent[0], base) : wr_id_is_zero(base));

	wr_commit_fini(&c);
	return is;
}

int
wr_latest_find(struct wr_repo *r, struct wr_reader *rd, const char *branch, const struct wr_id *tip,
	       struct wr_latest *out, struct wr_err *err)
{
	static const struct wr_id none;
	struct wr_err why = WR_ERR_INIT;
	struct wr_id base;

	*out = (struct wr_latest){0};
	if (wr_ref_read(r, WR_LATEST_REF, &out->id, &why) < 0) {
		if (why.code == WR_E_NOT_FOUND)
			return 0;
		if (err)
			*err = why;
		return -1;
	}
	out->there = true;
	if (wr_repo_read_commit(rd, &out->id, &out->commit, NULL) < 0)
		return 0;
	out->base = wr_latest_base(&out->commit, &base);
	if (!out->base || !wr_latest_on(&out->commit, branch))
		return 0;
	out->valid = wr_id_eq(&base, tip ? tip : &none);
	out->past = !out->valid && tip && stood_on(rd, tip, &base);
	return 0;
}

void
wr_latest_trailer(struct wr_buf *out, const char *branch, const struct wr_id *tip)
{
	static const struct wr_id none;

	wr_buf_addf(out, TRAILER ": %s %s\n", branch, wr_id_hex(tip ? tip : &none).s);
}

int
wr_latest_put(struct wr_repo *r, const struct wr_latest *old, const struct wr_id *id,
	      const char *ident, struct wr_err *err)
{
	if (old->there && !old->base) {
		WR_SCOPED(wr_freep)
		char *side = wr_asprintf("refs/heads/conflict-latest-%.12s", wr_id_hex(&old->id).s);
		struct wr_id there;

		if (wr_ref_read(r, side, &there, NULL) < 0 &&
		    wr_ref_update(r, side, &old->id, NULL, ident, "save: kept", err) < 0)
			return wr_err_wrap(err, "keep '%s'", WR_LATEST_REF);
	}
	if (wr_ref_update(r, WR_LATEST_REF, id, old->there ? &old->id : NULL, ident, "save: latest",
			  err) < 0)
		return wr_err_wrap(err, "move '%s'", WR_LATEST_REF);
	wr_crash_point("save.after-latest");
	return 0;
}

int
wr_latest_drop(struct wr_repo *r, const struct wr_latest *old, struct wr_err *err)
{
	if (wr_ref_delete(r, WR_LATEST_REF, &old->id, err) < 0)
		return wr_err_wrap(err, "drop '%s'", WR_LATEST_REF);
	return 0;
}

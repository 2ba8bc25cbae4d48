/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of projects, and the uids that are in use. */
#include "host/store/store_int.h"
#include "model/text.h"
#include "sys/clock.h"

void
wr_proj_row_fini(struct wr_proj_row *r)
{
	free(r->settings);
	free(r->holders);
	r->settings = r->holders = NULL;
}

/* In the order of WR_PROJ_COLUMNS. */
static void
read_row(sqlite3_stmt *st, struct wr_proj_row *r)
{
	memset(r, 0, sizeof(*r));
	wr_db_col_copy(st, 0, r->id.s, sizeof(r->id.s));
	wr_db_col_copy(st, 1, r->name, sizeof(r->name));
	r->tree_vol = wr_db_col_u32(st, 2);
	r->repo_vol = wr_db_col_u32(st, 3);
	r->uid = wr_db_col_u32(st, 4);
	r->gid = wr_db_col_u32(st, 5);
	r->exclusive = sqlite3_column_int64(st, 6);
	r->desired = sqlite3_column_int64(st, 7);
	r->autostart = sqlite3_column_int64(st, 8);
	r->created = sqlite3_column_int64(st, 9);
	r->deleted = sqlite3_column_int64(st, 10);
	r->save_began = sqlite3_column_int64(st, 11);
	r->save_ended = sqlite3_column_int64(st, 12);
	r->save_ok = sqlite3_column_int64(st, 13);
	wr_db_col_copy(st, 14, r->commit, sizeof(r->commit));
	wr_db_col_copy(st, 15, r->snapshot, sizeof(r->snapshot));
	r->files = (uint64_t)sqlite3_column_int64(st, 16);
	r->bytes = (uint64_t)sqlite3_column_int64(st, 17);
	r->repo_bytes = (uint64_t)sqlite3_column_int64(st, 18);
	r->used = sqlite3_column_int64(st, 19);
	r->settings = wr_strdup(wr_db_col_text(st, 20));
	r->holders = wr_strdup(wr_db_col_text(st, 21));
}

static void
bind_row(sqlite3_stmt *st, const struct wr_proj_row *r)
{
	wr_db_text(st, 1, r->id.s);
	wr_db_text(st, 2, r->name);
	wr_db_int(st, 3, r->tree_vol);
	wr_db_int(st, 4, r->repo_vol);
	wr_db_int(st, 5, r->uid);
	wr_db_int(st, 6, r->gid);
	wr_db_int(st, 7, r->exclusive);
	wr_db_int(st, 8, r->desired);
	wr_db_int(st, 9, r->autostart);
	wr_db_int(st, 10, r->created);
	wr_db_int(st, 11, r->deleted);
	wr_db_int(st, 12, r->save_began);
	wr_db_int(st, 13, r->save_ended);
	wr_db_int(st, 14, r->save_ok);
	wr_db_text(st, 15, r->commit);
	wr_db_text(st, 16, r->snapshot);
	wr_db_int(st, 17, (int64_t)r->files);
	wr_db_int(st, 18, (int64_t)r->bytes);
	wr_db_int(st, 19, (int64_t)r->repo_bytes);
	wr_db_int(st, 20, r->used);
	wr_db_text(st, 21, r->settings ? r->settings : "{}");
	wr_db_text(st, 22, r->holders ? r->holders : "[]");
}

/* Half a day is a step, of which the last two are kept. */
static int
growth_put(struct wr_store *s, const struct wr_proj_row *r, struct wr_err *err)
{
	const int64_t now = wr_clock_wall().s;
	sqlite3_stmt *st;

	if (wr_db_get(&s->db, WR_SQL_GROWTH_PUT, &st, err) < 0)
		return -1;
	wr_db_text(st, 1, r->id.s);
	wr_db_int(st, 2, now);
	wr_db_int(st, 3, (int64_t)r->bytes);
	wr_db_int(st, 4, (int64_t)r->repo_bytes);
	wr_db_int(st, 5, now - WR_GROWTH_HALF_S);
	return wr_db_run(&s->db, WR_SQL_GROWTH_PUT, st, err);
}

int
wr_store_growth_each(struct wr_store *s, wr_growth_fn fn, void *ctx, struct wr_err *err)
{
	sqlite3_stmt *st;
	int rc, end = 0;

	if (wr_db_get(&s->db, WR_SQL_GROWTH_EACH, &st, err) < 0)
		return -1;
	/* A step that was followed by none ended longer ago than what is asked about. */
	wr_db_int(st, 1, wr_clock_wall().s - 2 * WR_GROWTH_HALF_S);
	while ((rc = wr_db_step(&s->db, st, err)) > 0 && end == 0) {
		struct wr_growth_row r = {
		    .tree_vol = wr_db_col_u32(st, 2),
		    .repo_vol = wr_db_col_u32(st, 3),
		    .tree = (uint64_t)sqlite3_column_int64(st, 4),
		    .repo = (uint64_t)sqlite3_column_int64(st, 5),
		};

		wr_db_col_copy(st, 0, r.id.s, sizeof(r.id.s));
		wr_db_col_copy(st, 1, r.name, sizeof(r.name));
		end = fn(ctx, &r, err);
	}
	wr_db_put(&s->db, WR_SQL_GROWTH_EACH, st);
	return rc < 0 ? -1 : end;
}

int
wr_store_proj_put(struct wr_store *s, const struct wr_proj_row *r, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;
	sqlite3_stmt *st;
	bool taken, own;

	if (wr_store_enter(s, &own, err) < 0)
		return -1;
	if (wr_db_get(&s->db, WR_SQL_PROJ_PUT, &st, err) < 0)
		return wr_store_leave(s, own, -1, err);
	bind_row(st, r);
	if (wr_db_run(&s->db, WR_SQL_PROJ_PUT, st, &why) == 0)
		return wr_store_leave(s, own, growth_put(s, r, err), err);
	/* Nothing else in the row is unique. */
	taken = sqlite3_extended_errcode(s->db.sqlite) == SQLITE_CONSTRAINT_UNIQUE;
	(void)wr_store_leave(s, own, -1, NULL);
	if (err)
		*err = why;
	if (!taken)
		return -1;
	wr_err_set(err, WR_E_EXISTS, "there is a project named '%s' already", WR_Q(r->name));
	return wr_err_hint(err, "it may be in the trash: 'warren trash list' shows it");
}

/* ---- looking for one ---- */

static int
not_found(struct wr_store *s, const char *ref, bool trashed, struct wr_err *err)
{
	char best[64] = "";
	unsigned cost = WR_NEAR_NO;
	sqlite3_stmt *st;
	int rc;

	if (wr_db_get(&s->db, WR_SQL_PROJ_NAMES, &st, err) < 0)
		return -1;
	wr_db_int(st, 1, trashed);
	while ((rc = wr_db_step(&s->db, st, err)) > 0) {
		unsigned c = wr_near_cost(ref, wr_db_col_text(st, 0));

		if (c < cost) {
			cost = c;
			wr_db_col_copy(st, 0, best, sizeof(best));
		}
	}
	wr_db_put(&s->db, WR_SQL_PROJ_NAMES, st);
	if (rc < 0)
		return -1;
	wr_err_set(err, WR_E_NOT_FOUND, "there is no project '%s'", WR_Q(ref));
	if (*best)
		return wr_err_hint(err, "did you mean '%s'?", best);
	return wr_err_hint(err, "'warren list' shows all of them");
}

static int
find_exact(struct wr_store *s, enum wr_sql q, const char *ref, bool trashed,
	   struct wr_proj_row *out, struct wr_err *err)
{
	struct wr_proj_row r;
	sqlite3_stmt *st;
	int rc;

	if (wr_db_get(&s->db, q, &st, err) < 0)
		return -1;
	wr_db_text(st, 1, ref);
	rc = wr_db_step(&s->db, st, err);
	if (rc > 0)
		read_row(st, &r);
	wr_db_put(&s->db, q, st);
	if (rc < 0)
		return -1;
	if (rc == 0)
		return not_found(s, ref, trashed, err);
	if (r.deleted && !trashed) {
		wr_err_set(err, WR_E_NOT_FOUND, "project '%s' is in the trash", WR_Q(ref));
		wr_err_hint(err, "'warren undelete %s' takes it out", r.id.s);
		wr_proj_row_fini(&r);
		return -1;
	}
	*out = r;
	return 0;
}

static int
find_prefix(struct wr_store *s, const char *ref, bool trashed, struct wr_proj_row *out,
	    struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf names = WR_BUF_INIT;
	struct wr_proj_row r = {0};
	sqlite3_stmt *st;
	unsigned n = 0;
	char end[40];
	int rc;

	if (wr_db_get(&s->db, WR_SQL_PROJ_BY_PREFIX, &st, err) < 0)
		return -1;
	wr_id_range_end(ref, end);
	wr_db_text(st, 1, ref);
	wr_db_text(st, 2, end);
	wr_db_int(st, 3, trashed);
	while ((rc = wr_db_step(&s->db, st, err)) > 0) {
		if (n++ == 0)
			read_row(st, &r);
		if (n <= 5)
			wr_buf_addf(&names, "%s%s (%s)", n > 1 ? ", " : "", wr_db_col_text(st, 1),
				    wr_db_col_text(st, 0));
	}
	wr_db_put(&s->db, WR_SQL_PROJ_BY_PREFIX, st);
	if (rc == 0 && n == 1) {
		*out = r;
		return 0;
	}
	wr_proj_row_fini(&r);
	if (rc < 0)
		return -1;
	if (n == 0)
		return not_found(s, ref, trashed, err);
	wr_err_set(err, WR_E_INVALID, "'%s' is the beginning of several ids", WR_Q(ref));
	return wr_err_hint(err, "%s%s", wr_buf_str(&names), n > 5 ? ", ..." : "");
}

int
wr_store_proj_find(struct wr_store *s, const char *ref, bool prefix_ok, bool trashed,
		   struct wr_proj_row *out, struct wr_err *err)
{
	switch (wr_project_ref(ref)) {
	case WR_REF_ID:
		return find_exact(s, WR_SQL_PROJ_BY_ID, ref, trashed, out, err);
	case WR_REF_NAME:
		return find_exact(s, WR_SQL_PROJ_BY_NAME, ref, trashed, out, err);
	case WR_REF_PREFIX:
		if (prefix_ok)
			return find_prefix(s, ref, trashed, out, err);
		wr_err_set(err, WR_E_INVALID, "'%s' is only the beginning of an id", WR_Q(ref));
		return wr_err_hint(err, "this takes the whole id, or the name");
	case WR_REF_BAD:
		break;
	}
	return wr_err_set(err, WR_E_INVALID, "'%s' is neither a project's id nor its name",
			  WR_Q(ref));
}

int
wr_store_proj_by_uid(struct wr_store *s, uint32_t uid, struct wr_proj_row *out, struct wr_err *err)
{
	struct wr_proj_row r = {0};
	unsigned n = 0;
	sqlite3_stmt *st;
	int rc;

	if (wr_db_get(&s->db, WR_SQL_PROJ_BY_UID, &st, err) < 0)
		return -1;
	wr_db_int(st, 1, uid);
	while ((rc = wr_db_step(&s->db, st, err)) > 0)
		if (n++ == 0)
			read_row(st, &r);
	wr_db_put(&s->db, WR_SQL_PROJ_BY_UID, st);
	if (rc == 0 && n == 1) {
		*out = r;
		return 0;
	}
	wr_proj_row_fini(&r);
	if (rc < 0)
		return -1;
	return wr_err_set(err, WR_E_NOT_FOUND,
			  n ? "uid %" PRIu32 " has more than one project"
			    : "uid %" PRIu32 " has no project",
			  uid);
}

int
wr_store_proj_each(struct wr_store *s, int what, wr_proj_fn fn, void *ctx, struct wr_err *err)
{
	static const enum wr_sql of[] = {WR_SQL_PROJ_LIVING, WR_SQL_PROJ_TRASHED, WR_SQL_PROJ_ALL,
					 WR_SQL_PROJ_DESIRED};
	sqlite3_stmt *st;
	enum wr_sql q;
	int rc, end = 0;

	wr_assert(what >= 0 && what < (int)WR_ARRAY_LEN(of));
	q = of[what];
	if (wr_db_get(&s->db, q, &st, err) < 0)
		return -1;
	while (end == 0 && (rc = wr_db_step(&s->db, st, err)) != 0) {
		struct wr_proj_row r;

		if (rc < 0) {
			end = -1;
			break;
		}
		read_row(st, &r);
		end = fn(ctx, &r, err);
		wr_proj_row_fini(&r);
	}
	wr_db_put(&s->db, q, st);
	return end;
}

/* ---- going, and uids ---- */

int
wr_store_proj_drop(struct wr_store *s, const struct wr_uuid *id, struct wr_err *err)
{
	sqlite3_stmt *st;
	int rc = -1;
	bool own;

	if (wr_store_enter(s, &own, err) < 0)
		return -1;
	if (wr_db_get(&s->db, WR_SQL_TOMB_PUT, &st, err) < 0)
		goto out;
	wr_db_text(st, 1, id->s);
	wr_db_int(st, 2, wr_clock_wall().s);
	if (wr_db_run(&s->db, WR_SQL_TOMB_PUT, st, err) < 0 ||
	    wr_db_get(&s->db, WR_SQL_PROJ_DROP, &st, err) < 0)
		goto out;
	wr_db_text(st, 1, id->s);
	if (wr_db_run(&s->db, WR_SQL_PROJ_DROP, st, err) < 0 ||
	    wr_db_get(&s->db, WR_SQL_GROWTH_DROP, &st, err) < 0)
		goto out;
	wr_db_text(st, 1, id->s);
	if (wr_db_run(&s->db, WR_SQL_GROWTH_DROP, st, err) == 0)
		rc = wr_store_token_drop(s, id, NULL, err);
out:
	return wr_store_leave(s, own, rc, err);
}

int
wr_store_uid_next(struct wr_store *s, uint32_t first, uint32_t last, uint64_t keep_s, uint32_t *out,
		  struct wr_err *err)
{
	int64_t now = wr_clock_wall().s,
		until = now - (int64_t)WR_MIN(keep_s, (uint64_t)INT32_MAX * 64);
	uint64_t next = first;
	sqlite3_stmt *st;
	int rc;

	if (wr_db_get(&s->db, WR_SQL_TOMB_TRIM, &st, err) < 0)
		return -1;
	wr_db_int(st, 1, until);
	if (wr_db_run(&s->db, WR_SQL_TOMB_TRIM, st, err) < 0 ||
	    wr_db_get(&s->db, WR_SQL_UIDS, &st, err) < 0)
		return -1;
	wr_db_int(st, 1, first);
	wr_db_int(st, 2, last);
	wr_db_int(st, 3, until);
	/* Ascending, each once: the first that is not next leaves a gap. */
	while ((rc = wr_db_step(&s->db, st, err)) > 0 &&
	       sqlite3_column_int64(st, 0) == (int64_t)next)
		next++;
	wr_db_put(&s->db, WR_SQL_UIDS, st);
	if (rc < 0)
		return -1;
	if (next > last) {
		wr_err_set(err, WR_E_LIMIT, "no uid from %" PRIu32 " to %" PRIu32 " is free", first,
			   last);
		return wr_err_hint(err, "make [node] uid_range larger, or purge projects from the "
					"trash");
	}
	*out = (uint32_t)next;
	return 0;
}

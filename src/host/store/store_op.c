/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of operations. */
#include "host/store/store_int.h"

void
wr_op_row_fini(struct wr_op_row *r)
{
	free(r->args);
	free(r->receipt);
	free(r->error);
	r->args = r->receipt = r->error = NULL;
}

static char *
dup_or_null(sqlite3_stmt *st, int at)
{
	return sqlite3_column_type(st, at) == SQLITE_NULL ? NULL
							  : wr_strdup(wr_db_col_text(st, at));
}

/* In the order of WR_OP_COLUMNS. */
static void
read_row(sqlite3_stmt *st, struct wr_op_row *r)
{
	memset(r, 0, sizeof(*r));
	wr_db_col_copy(st, 0, r->id.s, sizeof(r->id.s));
	wr_db_col_copy(st, 1, r->project.s, sizeof(r->project.s));
	r->kind = wr_op_kind_parse(wr_db_col_text(st, 2));
	r->state = wr_op_state_parse(wr_db_col_text(st, 3));
	wr_db_col_copy(st, 4, r->by, sizeof(r->by));
	r->args = wr_strdup(wr_db_col_text(st, 5));
	r->created = sqlite3_column_int64(st, 6);
	r->started = sqlite3_column_int64(st, 7);
	r->finished = sqlite3_column_int64(st, 8);
	wr_db_col_copy(st, 9, r->proc, sizeof(r->proc));
	r->joined = wr_db_col_u32(st, 10);
	r->receipt = dup_or_null(st, 11);
	r->error = dup_or_null(st, 12);
	wr_db_col_copy(st, 13, r->step, sizeof(r->step));
}

int
wr_store_op_put(struct wr_store *s, const struct wr_op_row *r, struct wr_err *err)
{
	sqlite3_stmt *st;

	wr_assert(r->kind != WR_OP_NONE && r->state != WR_OPS_UNSET);
	if (wr_db_get(&s->db, WR_SQL_OP_PUT, &st, err) < 0)
		return -1;
	wr_db_text(st, 1, r->id.s);
	wr_db_text(st, 2, r->project.s);
	wr_db_text(st, 3, wr_op_kind_name(r->kind));
	wr_db_text(st, 4, wr_op_state_name(r->state));
	wr_db_text(st, 5, r->by);
	wr_db_text(st, 6, r->args ? r->args : "{}");
	wr_db_int(st, 7, r->created);
	wr_db_int(st, 8, r->started);
	wr_db_int(st, 9, r->finished);
	wr_db_text(st, 10, r->proc);
	wr_db_int(st, 11, r->joined);
	wr_db_text(st, 12, r->receipt);
	wr_db_text(st, 13, r->error);
	wr_db_text(st, 14, r->step);
	return wr_db_run(&s->db, WR_SQL_OP_PUT, st, err);
}

int
wr_store_op_find(struct wr_store *s, const char *ref, struct wr_op_row *out, struct wr_err *err)
{
	enum wr_ref_kind kind = wr_project_ref(ref);
	struct wr_op_row r = {0};
	unsigned n = 0;
	sqlite3_stmt *st;
	char end[40];
	int rc;

	if (kind != WR_REF_ID && kind != WR_REF_PREFIX) {
		wr_err_set(err, WR_E_INVALID, "'%s' is no id of an operation", WR_Q(ref));
		return wr_err_hint(err, "an id, or at least its first 4 characters");
	}
	if (wr_db_get(&s->db, WR_SQL_OP_BY_PREFIX, &st, err) < 0)
		return -1;
	wr_id_range_end(ref, end);
	wr_db_text(st, 1, ref);
	wr_db_text(st, 2, end);
	while ((rc = wr_db_step(&s->db, st, err)) > 0)
		if (n++ == 0)
			read_row(st, &r);
	wr_db_put(&s->db, WR_SQL_OP_BY_PREFIX, st);
	if (rc == 0 && n == 1) {
		*out = r;
		return 0;
	}
	wr_op_row_fini(&r);
	if (rc < 0)
		return -1;
	if (n)
		return wr_err_set(err, WR_E_INVALID,
				  "'%s' is the beginning of several operations' ids", WR_Q(ref));
	wr_err_set(err, WR_E_NOT_FOUND, "there is no operation '%s'", WR_Q(ref));
	return wr_err_hint(err, "only the newest of each project are kept: 'warren op list'");
}

int
wr_store_op_each(struct wr_store *s, const struct wr_uuid *project, enum wr_op_state state,
		 uint32_t limit, wr_op_fn fn, void *ctx, struct wr_err *err)
{
	static const enum wr_sql of[2][2] = {{WR_SQL_OP_ALL, WR_SQL_OP_OF_STATE},
					     {WR_SQL_OP_OF_PROJECT, WR_SQL_OP_OF_BOTH}};
	enum wr_sql q = of[project != NULL][state != WR_OPS_UNSET];
	sqlite3_stmt *st;
	int rc, end = 0;

	if (wr_db_get(&s->db, q, &st, err) < 0)
		return -1;
	if (project)
		wr_db_text(st, 1, project->s);
	if (state)
		wr_db_text(st, 2, wr_op_state_name(state));
	wr_db_int(st, 3, limit ? (int64_t)limit : -1);
	while (end == 0 && (rc = wr_db_step(&s->db, st, err)) != 0) {
		struct wr_op_row r;

		if (rc < 0) {
			end = -1;
			break;
		}
		read_row(st, &r);
		end = fn(ctx, &r, err);
		wr_op_row_fini(&r);
	}
	wr_db_put(&s->db, q, st);
	return end;
}

/* The ids of what is too old, oldest last. */
static int
surplus(struct wr_store *s, const struct wr_uuid *project, uint32_t keep, struct wr_uuid **out,
	size_t *out_count, struct wr_err *err)
{
	size_t cap = 0;
	sqlite3_stmt *st;
	int rc;

	if (wr_db_get(&s->db, WR_SQL_OP_SURPLUS, &st, err) < 0)
		return -1;
	wr_db_text(st, 1, project ? project->s : "");
	wr_db_int(st, 2, keep);
	while ((rc = wr_db_step(&s->db, st, err)) > 0) {
		wr_grow(out, &cap, *out_count + 1, sizeof(**out));
		wr_db_col_copy(st, 0, (*out)[*out_count].s, sizeof((*out)->s));
		++*out_count;
	}
	wr_db_put(&s->db, WR_SQL_OP_SURPLUS, st);
	return rc;
}

int
wr_store_op_trim(struct wr_store *s, const struct wr_uuid *project, uint32_t keep,
		 struct wr_uuid **out_ids, size_t *out_count, struct wr_err *err)
{
	struct wr_uuid *ids = NULL;
	size_t count = 0;
	int rc;
	bool own;

	if (wr_store_enter(s, &own, err) < 0)
		return -1;
	rc = surplus(s, project, keep, &ids, &count, err);
	for (size_t i = 0; rc == 0 && i < count; i++) {
		sqlite3_stmt *st;

		rc = wr_db_get(&s->db, WR_SQL_OP_DROP, &st, err);
		if (rc < 0)
			break;
		wr_db_text(st, 1, ids[i].s);
		rc = wr_db_run(&s->db, WR_SQL_OP_DROP, st, err);
	}
	if (wr_store_leave(s, own, rc, err) < 0) {
		free(ids);
		return -1;
	}
	*out_ids = ids;
	*out_count = count;
	return 0;
}

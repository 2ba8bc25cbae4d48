/* SPDX-License-Identifier: Apache-2.0 */
/* Replicas: what other members acknowledged, and who is behind since when. */
#include "host/store/store_int.h"

int
wr_store_replica_put(struct wr_store *s, const struct wr_replica_row *r, struct wr_err *err)
{
	sqlite3_stmt *st;

	if (wr_db_get(&s->db, WR_SQL_REPLICA_PUT, &st, err) < 0)
		return -1;
	wr_db_text(st, 1, r->project.s);
	wr_db_text(st, 2, r->node.s);
	wr_db_int(st, 3, (int64_t)r->epoch);
	wr_db_int(st, 4, (int64_t)r->seq);
	wr_db_int(st, 5, r->scan_started);
	wr_db_int(st, 6, r->at);
	wr_db_int(st, 7, r->behind_since);
	wr_db_int(st, 8, r->tries);
	wr_db_int(st, 9, r->next_try);
	wr_db_text(st, 10, r->error);
	wr_db_text(st, 11, r->hint);
	wr_db_int(st, 12, (int64_t)r->settings_rev);
	wr_db_int(st, 13, r->latest);
	return wr_db_run(&s->db, WR_SQL_REPLICA_PUT, st, err);
}

static void
read_row(sqlite3_stmt *st, struct wr_replica_row *r)
{
	*r = (struct wr_replica_row){
	    .epoch = (uint64_t)sqlite3_column_int64(st, 2),
	    .seq = (uint64_t)sqlite3_column_int64(st, 3),
	    .scan_started = sqlite3_column_int64(st, 4),
	    .at = sqlite3_column_int64(st, 5),
	    .behind_since = sqlite3_column_int64(st, 6),
	    .tries = wr_db_col_u32(st, 7),
	    .next_try = sqlite3_column_int64(st, 8),
	    .settings_rev = (uint64_t)sqlite3_column_int64(st, 11),
	    .latest = sqlite3_column_int64(st, 12),
	};
	wr_db_col_copy(st, 0, r->project.s, sizeof(r->project.s));
	wr_db_col_copy(st, 1, r->node.s, sizeof(r->node.s));
	wr_db_col_copy(st, 9, r->error, sizeof(r->error));
	wr_db_col_copy(st, 10, r->hint, sizeof(r->hint));
}

int
wr_store_replica_each(struct wr_store *s, const struct wr_uuid *project, wr_replica_fn fn,
		      void *ctx, struct wr_err *err)
{
	enum wr_sql q = project ? WR_SQL_REPLICA_OF : WR_SQL_REPLICA_BEHIND;
	sqlite3_stmt *st;
	int rc, end = 0;

	if (wr_db_get(&s->db, q, &st, err) < 0)
		return -1;
	if (project)
		wr_db_text(st, 1, project->s);
	while ((rc = wr_db_step(&s->db, st, err)) > 0 && end == 0) {
		struct wr_replica_row r;

		read_row(st, &r);
		end = fn(ctx, &r, err);
	}
	wr_db_put(&s->db, q, st);
	return rc < 0 ? -1 : end;
}

int
wr_store_replica_drop(struct wr_store *s, const struct wr_uuid *project, const struct wr_uuid *node,
		      struct wr_err *err)
{
	sqlite3_stmt *st;

	if (wr_db_get(&s->db, WR_SQL_REPLICA_DROP, &st, err) < 0)
		return -1;
	wr_db_text(st, 1, project->s);
	wr_db_text(st, 2, node ? node->s : NULL);
	return wr_db_run(&s->db, WR_SQL_REPLICA_DROP, st, err);
}

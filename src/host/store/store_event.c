/* SPDX-License-Identifier: Apache-2.0 */
/* Events: what happened, by whom, why. Never changed; the oldest go. */
#include "host/store/store_int.h"
#include "sys/clock.h"

/* LIMITs: events that are kept; bytes of the texts of one. */
#define EVENTS_MAX 100000
/* Of one project, lest its user washes away what is told of others. */
#define EVENTS_OF_MAX 5000
/* How often it is counted through. */
#define TRIM_EVERY 64
#define TEXT_MAX 1024
#define DETAIL_MAX (8u << 10)

/* detail as text, NULL for none; takes it. */
static char *
detail_text(json_t *taken)
{
	WR_SCOPED(wr_json_freep) json_t *detail = taken;
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	if (!detail)
		return NULL;
	wr_json_write(detail, &b);
	if (b.len > DETAIL_MAX)
		return wr_asprintf("{\"too_long\":%zu}", b.len);
	return wr_buf_detach(&b, NULL);
}

static int
trim(struct wr_store *s, const struct wr_uuid *project, int64_t newest, struct wr_err *err)
{
	sqlite3_stmt *st;

	if (project && *project->s) {
		if (wr_db_get(&s->db, WR_SQL_EVENT_TRIM_OF, &st, err) < 0)
			return -1;
		wr_db_text(st, 1, project->s);
		wr_db_int(st, 2, EVENTS_OF_MAX);
		if (wr_db_run(&s->db, WR_SQL_EVENT_TRIM_OF, st, err) < 0)
			return -1;
	}
	if (newest <= EVENTS_MAX || newest % TRIM_EVERY)
		return 0;
	if (wr_db_get(&s->db, WR_SQL_EVENT_TRIM, &st, err) < 0)
		return -1;
	wr_db_int(st, 1, EVENTS_MAX - TRIM_EVERY);
	return wr_db_run(&s->db, WR_SQL_EVENT_TRIM, st, err);
}

int
wr_store_event(struct wr_store *s, const char *who, const struct wr_uuid *project, const char *what,
	       const char *why, json_t *detail_taken, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *detail = detail_text(detail_taken);
	WR_SCOPED(wr_freep) char *short_who = wr_asprintf("%.*s", TEXT_MAX, who);
	WR_SCOPED(wr_freep) char *short_why = wr_asprintf("%.*s", TEXT_MAX, why ? why : "");
	sqlite3_stmt *st;
	int rc;
	bool own;

	if (wr_store_enter(s, &own, err) < 0)
		return -1;
	rc = wr_db_get(&s->db, WR_SQL_EVENT_PUT, &st, err);
	if (rc == 0) {
		wr_db_int(st, 1, wr_clock_wall().s);
		wr_db_text(st, 2, short_who);
		wr_db_text(st, 3, project && *project->s ? project->s : NULL);
		wr_db_text(st, 4, what);
		wr_db_text(st, 5, short_why);
		wr_db_text(st, 6, detail);
		rc = wr_db_run(&s->db, WR_SQL_EVENT_PUT, st, err);
	}
	if (rc == 0)
		rc = trim(s, project, sqlite3_last_insert_rowid(s->db.sqlite), err);
	return wr_store_leave(s, own, rc, err);
}

/* In the order of WR_EVENT_COLUMNS. */
static void
add_event(json_t *list, sqlite3_stmt *st)
{
	json_t *o = wr_json_item(list), *detail;
	const char *project = wr_db_col_text(st, 3), *text = wr_db_col_text(st, 6);

	wr_json_i64(o, "seq", sqlite3_column_int64(st, 0));
	wr_json_time(o, "at", sqlite3_column_int64(st, 1));
	wr_json_str(o, "who", wr_db_col_text(st, 2));
	wr_json_str(o, "project", *project ? project : NULL);
	wr_json_str(o, "what", wr_db_col_text(st, 4));
	wr_json_str(o, "why", wr_db_col_text(st, 5));
	detail = *text ? wr_json_parse(text, strlen(text), NULL) : NULL;
	wr_json_take(o, "detail", detail ? detail : json_null());
}

int
wr_store_events(struct wr_store *s, uint64_t since, const struct wr_uuid *project, uint32_t limit,
		json_t **out, struct wr_err *err)
{
	static const enum wr_sql of[2][2] = {{WR_SQL_EVENT_SINCE, WR_SQL_EVENT_SINCE_OF},
					     {WR_SQL_EVENT_LAST, WR_SQL_EVENT_LAST_OF}};
	enum wr_sql q = of[since == UINT64_MAX][project != NULL];
	WR_SCOPED(wr_json_freep) json_t *list = json_array();
	sqlite3_stmt *st;
	int rc;

	if (wr_db_get(&s->db, q, &st, err) < 0)
		return -1;
	if (since != UINT64_MAX)
		wr_db_int(st, 1, (int64_t)WR_MIN(since, (uint64_t)INT64_MAX));
	if (project)
		wr_db_text(st, 2, project->s);
	wr_db_int(st, 3, limit);
	while ((rc = wr_db_step(&s->db, st, err)) > 0)
		add_event(list, st);
	wr_db_put(&s->db, q, st);
	if (rc == 0)
		*out = wr_steal(&list);
	return rc;
}

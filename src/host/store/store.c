/* SPDX-License-Identifier: Apache-2.0 */
/* The database itself: its formats, groups of changes. */
#include "host/store/store_int.h"

static const char *const sql[WR_SQL_COUNT] = {
#define X(name, text) [WR_SQL_##name] = text,
    WR_SQL_TABLE(X)
#undef X
};

/* An operation's project is no foreign key: operations outlive projects. */
static const char schema[] =
    "CREATE TABLE project(id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
    " tree_vol INTEGER NOT NULL, repo_vol INTEGER NOT NULL, uid INTEGER NOT NULL,"
    " gid INTEGER NOT NULL, exclusive INTEGER NOT NULL, desired INTEGER NOT NULL,"
    " autostart INTEGER NOT NULL, created INTEGER NOT NULL, deleted INTEGER NOT NULL,"
    " save_began INTEGER NOT NULL, save_ended INTEGER NOT NULL, save_ok INTEGER NOT NULL,"
    " \"commit\" TEXT NOT NULL, snapshot TEXT NOT NULL, files INTEGER NOT NULL,"
    " bytes INTEGER NOT NULL, repo_bytes INTEGER NOT NULL, used INTEGER NOT NULL,"
    " settings TEXT NOT NULL, holders TEXT NOT NULL);"
    "CREATE INDEX project_uid ON project(uid);"
    "CREATE INDEX project_desired ON project(name) WHERE desired=1 AND deleted=0;"
    "CREATE TABLE tombstone(uid INTEGER NOT NULL, dropped INTEGER NOT NULL);"
    "CREATE INDEX tombstone_uid ON tombstone(uid);"
    "CREATE TABLE op(seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
    " project TEXT NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL, asked_by TEXT NOT NULL,"
    " args TEXT NOT NULL, created INTEGER NOT NULL, started INTEGER NOT NULL,"
    " finished INTEGER NOT NULL, proc TEXT NOT NULL, joined INTEGER NOT NULL, receipt TEXT,"
    " error TEXT, step TEXT NOT NULL);"
    "CREATE INDEX op_project ON op(project, seq);"
    "CREATE INDEX op_state ON op(state, seq);"
    "CREATE TABLE event(seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL,"
    " who TEXT NOT NULL, project TEXT, what TEXT NOT NULL, why TEXT NOT NULL, detail TEXT);"
    "CREATE INDEX event_project ON event(project, seq);"
    "CREATE TABLE token(hash BLOB PRIMARY KEY, scope INTEGER NOT NULL, project TEXT NOT NULL,"
    " purpose TEXT NOT NULL, expires INTEGER NOT NULL, UNIQUE(scope, project, purpose))"
    " WITHOUT ROWID;";

/* Tokens that people ask for: several of a kind, and when they were used. */
static const char asked_tokens[] =
    "CREATE TABLE token2(hash BLOB PRIMARY KEY, scope INTEGER NOT NULL, project TEXT NOT NULL,"
    " purpose TEXT NOT NULL, asked INTEGER NOT NULL, created INTEGER NOT NULL,"
    " expires INTEGER NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;"
    "INSERT INTO token2 SELECT hash,scope,project,purpose,0,0,expires,0 FROM token;"
    "DROP TABLE token;"
    "ALTER TABLE token2 RENAME TO token;"
    "CREATE INDEX token_project ON token(project);";

/* What other members of a project acknowledged, by this node's own pushes. */
static const char replicas[] =
    "CREATE TABLE replica(project TEXT NOT NULL, node TEXT NOT NULL, epoch INTEGER NOT NULL,"
    " seq INTEGER NOT NULL, scan_started INTEGER NOT NULL, at INTEGER NOT NULL,"
    " behind_since INTEGER NOT NULL, tries INTEGER NOT NULL, next_try INTEGER NOT NULL,"
    " error TEXT NOT NULL, hint TEXT NOT NULL, PRIMARY KEY(project, node)) WITHOUT ROWID;"
    "CREATE INDEX replica_behind ON replica(project) WHERE behind_since<>0;";

static const char replica_extras[] =
    "ALTER TABLE replica ADD COLUMN settings_rev INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE replica ADD COLUMN latest INTEGER NOT NULL DEFAULT 0;";

/* How large projects were half a day ago, and before that: see wr_store_growth_each. */
static const char growth[] =
    "CREATE TABLE growth(project TEXT PRIMARY KEY, at INTEGER NOT NULL, tree INTEGER NOT NULL,"
    " repo INTEGER NOT NULL, before_tree INTEGER NOT NULL, before_repo INTEGER NOT NULL)"
    " WITHOUT ROWID;"
    "INSERT INTO growth SELECT id,0,bytes,repo_bytes,bytes,repo_bytes FROM project;";

/* What makes format i + 1 of format i; a new file goes all the way. */
static const char *const formats[] = {schema, asked_tokens, replicas, replica_extras, growth};

static const struct wr_db_kind kind = {
    .application = 0x5752534eu, /* "WRSN" */
    .formats = formats,
    .format_count = WR_ARRAY_LEN(formats),
    .cache_kib = 1024,
    .statement = sql,
    .statement_count = WR_SQL_COUNT,
    .damage_hint = "stop the daemon and move the file away, with its -wal and -shm: projects "
		   "are found again on the disks, operations and events in it are lost",
};

void
wr_id_range_end(const char *prefix, char out[40])
{
	/* 'g' stands behind the hex digits, and they behind the dash. */
	snprintf(out, 40, "%.36sg", prefix);
}

/* ---- groups ---- */

int
wr_store_begin(struct wr_store *s, struct wr_err *err)
{
	wr_assert(!s->in_group);
	if (wr_db_begin(&s->db, err) < 0)
		return -1;
	s->in_group = true;
	return 0;
}

int
wr_store_commit(struct wr_store *s, struct wr_err *err)
{
	wr_assert(s->in_group);
	s->in_group = false;
	return wr_db_commit(&s->db, err);
}

void
wr_store_abort(struct wr_store *s)
{
	s->in_group = false;
	wr_db_rollback(&s->db);
}

int
wr_store_enter(struct wr_store *s, bool *out_own, struct wr_err *err)
{
	*out_own = !s->in_group;
	return *out_own ? wr_db_begin(&s->db, err) : 0;
}

int
wr_store_leave(struct wr_store *s, bool own, int rc, struct wr_err *err)
{
	if (own && rc >= 0 && wr_db_commit(&s->db, err) < 0)
		return -1;
	if (own && rc < 0)
		wr_db_rollback(&s->db);
	return rc;
}

/* ---- opening ---- */

void
wr_store_relax(struct wr_store *s, bool on)
{
	wr_assert(!s->in_group);
	wr_db_relax(&s->db, on);
}

int
wr_store_open(const char *path, bool read_only, struct wr_store **out, struct wr_err *err)
{
	struct wr_store *s = wr_calloc(1, sizeof(*s));

	if (wr_db_open(path, read_only, &kind, &s->db, err) < 0) {
		wr_store_close(s);
		return -1;
	}
	*out = s;
	return 0;
}

void
wr_store_close(struct wr_store *s)
{
	if (!s)
		return;
	wr_db_close(&s->db);
	free(s);
}

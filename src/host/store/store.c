/* SPDX-License-Identifier: Apache-2.0 */
/* The database itself: opening, format, statements, groups of changes. */
#include "host/store/store_int.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "sys/fs.h"

#define APPLICATION 0x5752534eu /* says in the file whose it is: "WRSN" */

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

/* What makes format i + 1 of format i; a new file goes all the way. */
static const char *const formats[] = {schema, asked_tokens, replicas};
#define FORMAT ((int)WR_ARRAY_LEN(formats))

/* ---- errors ---- */

static int
damaged(struct wr_store *s, const char *what, struct wr_err *err)
{
	wr_err_set(err, WR_E_CORRUPT, "'%s': %s", WR_Q(s->path), what);
	return wr_err_hint(
	    err, "stop the daemon and move the file away, with its -wal and -shm: projects "
		 "are found again on the disks, operations and events in it are lost");
}

int
wr_sql_fail(struct wr_store *s, struct wr_err *err)
{
	static const struct {
		int sqlite;
		enum wr_err_code code;
	} codes[] = {{SQLITE_BUSY, WR_E_BUSY},       {SQLITE_LOCKED, WR_E_BUSY},
		     {SQLITE_READONLY, WR_E_DENIED}, {SQLITE_PERM, WR_E_DENIED},
		     {SQLITE_AUTH, WR_E_DENIED},     {SQLITE_TOOBIG, WR_E_LIMIT},
		     {SQLITE_IOERR, WR_E_SYS},       {SQLITE_CANTOPEN, WR_E_SYS}};
	int rc = sqlite3_errcode(s->db) & 0xff, e = sqlite3_system_errno(s->db);
	enum wr_err_code code = WR_E_FAILED;

	wr_assert(rc != SQLITE_NOMEM && rc != SQLITE_MISUSE);
	if (rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB)
		return damaged(s, sqlite3_errmsg(s->db), err);
	if (rc == SQLITE_FULL)
		e = ENOSPC; /* known by other ways than a system call */
	if (e && (rc == SQLITE_IOERR || rc == SQLITE_CANTOPEN || rc == SQLITE_FULL)) {
		errno = e;
		return wr_err_sys(err, "'%s'", WR_Q(s->path));
	}
	for (size_t i = 0; i < WR_ARRAY_LEN(codes); i++)
		if (codes[i].sqlite == rc)
			code = codes[i].code;
	return wr_err_set(err, code, "'%s': %s", WR_Q(s->path), sqlite3_errmsg(s->db));
}

/* ---- statements ---- */

int
wr_sql_get(struct wr_store *s, enum wr_sql q, sqlite3_stmt **out, struct wr_err *err)
{
	bool keep = !s->kept[q];

	if (s->kept[q] && !sqlite3_stmt_busy(s->kept[q])) {
		*out = s->kept[q];
		return 0;
	}
	if (sqlite3_prepare_v3(s->db, sql[q], -1, keep ? SQLITE_PREPARE_PERSISTENT : 0, out, NULL))
		return wr_sql_fail(s, err);
	if (keep)
		s->kept[q] = *out;
	return 0;
}

void
wr_sql_put(struct wr_store *s, enum wr_sql q, sqlite3_stmt *st)
{
	/* What they give is the error that step gave before. */
	if (st != s->kept[q]) {
		(void)sqlite3_finalize(st);
		return;
	}
	(void)sqlite3_reset(st);
	(void)sqlite3_clear_bindings(st);
}

int
wr_sql_step(struct wr_store *s, sqlite3_stmt *st, struct wr_err *err)
{
	int rc = sqlite3_step(st);

	if (rc == SQLITE_ROW || rc == SQLITE_DONE)
		return rc == SQLITE_ROW;
	return wr_sql_fail(s, err);
}

int
wr_sql_run(struct wr_store *s, enum wr_sql q, sqlite3_stmt *st, struct wr_err *err)
{
	int rc;

	do
		rc = wr_sql_step(s, st, err);
	while (rc > 0);
	wr_sql_put(s, q, st);
	return rc;
}

void
wr_sql_text(sqlite3_stmt *st, int at, const char *text)
{
	int rc =
	    text ? sqlite3_bind_text(st, at, text, -1, SQLITE_STATIC) : sqlite3_bind_null(st, at);

	wr_assert(rc == SQLITE_OK);
}

void
wr_sql_int(sqlite3_stmt *st, int at, int64_t v)
{
	int rc = sqlite3_bind_int64(st, at, v);

	wr_assert(rc == SQLITE_OK);
}

void
wr_sql_blob(sqlite3_stmt *st, int at, const void *p, size_t len)
{
	int rc = sqlite3_bind_blob64(st, at, p, len, SQLITE_STATIC);

	wr_assert(rc == SQLITE_OK);
}

const char *
wr_sql_col_text(sqlite3_stmt *st, int at)
{
	const unsigned char *p = sqlite3_column_text(st, at);

	return p ? (const char *)p : "";
}

int64_t
wr_sql_col_int(sqlite3_stmt *st, int at)
{
	return sqlite3_column_int64(st, at);
}

uint32_t
wr_sql_col_u32(sqlite3_stmt *st, int at)
{
	int64_t v = sqlite3_column_int64(st, at);

	return v < 0 ? 0 : (uint32_t)WR_MIN(v, (int64_t)UINT32_MAX);
}

void
wr_sql_col_copy(sqlite3_stmt *st, int at, char *out, size_t size)
{
	snprintf(out, size, "%s", wr_sql_col_text(st, at));
}

void
wr_id_range_end(const char *prefix, char out[40])
{
	/* 'g' stands behind the hex digits, and they behind the dash. */
	snprintf(out, 40, "%.36sg", prefix);
}

static int
run_plain(struct wr_store *s, enum wr_sql q, struct wr_err *err)
{
	sqlite3_stmt *st;

	return wr_sql_get(s, q, &st, err) < 0 ? -1 : wr_sql_run(s, q, st, err);
}

/* Text that is run once and gives no rows. */
static int
exec(struct wr_store *s, const char *text, struct wr_err *err)
{
	return sqlite3_exec(s->db, text, NULL, NULL, NULL) ? wr_sql_fail(s, err) : 0;
}

/* ---- groups ---- */

static void
rollback(struct wr_store *s)
{
	/* Some errors have rolled back already. What ROLLBACK itself says changes nothing. */
	if (!sqlite3_get_autocommit(s->db))
		(void)run_plain(s, WR_SQL_ROLLBACK, NULL);
}

int
wr_store_begin(struct wr_store *s, struct wr_err *err)
{
	wr_assert(!s->in_group);
	if (run_plain(s, WR_SQL_BEGIN, err) < 0)
		return -1;
	s->in_group = true;
	return 0;
}

int
wr_store_commit(struct wr_store *s, struct wr_err *err)
{
	wr_assert(s->in_group);
	s->in_group = false;
	if (sqlite3_get_autocommit(s->db))
		return wr_err_set(err, WR_E_FAILED,
				  "'%s': the changes were undone by an error before",
				  WR_Q(s->path));
	if (run_plain(s, WR_SQL_COMMIT, err) == 0)
		return 0;
	rollback(s);
	return -1;
}

void
wr_store_abort(struct wr_store *s)
{
	s->in_group = false;
	rollback(s);
}

int
wr_store_enter(struct wr_store *s, bool *out_own, struct wr_err *err)
{
	*out_own = !s->in_group;
	return *out_own ? run_plain(s, WR_SQL_BEGIN, err) : 0;
}

int
wr_store_leave(struct wr_store *s, bool own, int rc, struct wr_err *err)
{
	if (own && rc >= 0 && run_plain(s, WR_SQL_COMMIT, err) < 0)
		rc = -1;
	if (own && rc < 0)
		rollback(s);
	return rc;
}

/* ---- opening ---- */

static int
pragma_number(struct wr_store *s, const char *text, int64_t *out, struct wr_err *err)
{
	sqlite3_stmt *st;
	int rc;

	if (sqlite3_prepare_v2(s->db, text, -1, &st, NULL))
		return wr_sql_fail(s, err);
	rc = wr_sql_step(s, st, err);
	*out = rc > 0 ? wr_sql_col_int(st, 0) : 0;
	(void)sqlite3_finalize(st);
	return rc < 0 ? -1 : 0;
}

/* From format `have` (0: an empty file) to ours, all or nothing. */
static int
upgrade(struct wr_store *s, int have, struct wr_err *err)
{
	char stamp[96];
	int rc = 0;

	if (run_plain(s, WR_SQL_BEGIN, err) < 0)
		return -1;
	snprintf(stamp, sizeof(stamp), "PRAGMA application_id=%u; PRAGMA user_version=%d;",
		 APPLICATION, FORMAT);
	for (int i = have; rc == 0 && i < FORMAT; i++)
		rc = exec(s, formats[i], err);
	if (rc == 0)
		rc = exec(s, stamp, err);
	return wr_store_leave(s, true, rc, err);
}

static int
check_format(struct wr_store *s, bool read_only, struct wr_err *err)
{
	int64_t application = 0, format = 0, tables = 0;

	if (pragma_number(s, "PRAGMA application_id", &application, err) < 0 ||
	    pragma_number(s, "PRAGMA user_version", &format, err) < 0 ||
	    pragma_number(s, "SELECT count(*) FROM sqlite_schema", &tables, err) < 0)
		return -1;
	if (!tables && !format && read_only)
		return wr_err_set(err, WR_E_NOT_FOUND, "'%s' is empty", WR_Q(s->path));
	if (!tables && !format)
		return upgrade(s, 0, err);
	if (application != APPLICATION || format < 1)
		return damaged(s, "this is no database of Warren", err);
	if (format > FORMAT)
		return wr_err_set(err, WR_E_UNSUPPORTED,
				  "'%s' has format %" PRId64 ", this program reads up to %d",
				  WR_Q(s->path), format, FORMAT);
	return format < FORMAT && !read_only ? upgrade(s, (int)format, err) : 0;
}

static int
check_damage(struct wr_store *s, struct wr_err *err)
{
	sqlite3_stmt *st;
	int rc;

	if (sqlite3_prepare_v2(s->db, "PRAGMA quick_check(1)", -1, &st, NULL))
		return wr_sql_fail(s, err);
	rc = wr_sql_step(s, st, err);
	if (rc > 0 && strcmp(wr_sql_col_text(st, 0), "ok") != 0)
		rc = damaged(s, wr_sql_col_text(st, 0), err);
	(void)sqlite3_finalize(st);
	return rc < 0 ? -1 : 0;
}

/* SQLite would make the file with the caller's umask, and follow a link. */
static int
make_file(const char *path, bool read_only, struct wr_err *err)
{
	int flags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (read_only ? O_RDONLY : O_RDWR | O_CREAT);
	int fd = open(path, flags, 0600);
	struct stat st;
	bool plain;

	if (fd < 0)
		return wr_err_sys(err, "open '%s'", WR_Q(path));
	plain = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
	close(fd);
	return plain ? 0 : wr_err_set(err, WR_E_CORRUPT, "'%s' is no file", WR_Q(path));
}

static int
open_db(struct wr_store *s, bool read_only, struct wr_err *err)
{
	int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE |
		    (read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE);

	if (make_file(s->path, read_only, err) < 0)
		return -1;
	if (sqlite3_open_v2(s->path, &s->db, flags, NULL))
		return wr_sql_fail(s, err);
	/* There is one writer; a reader may have to wait while the log is put back into the file.
	 */
	(void)sqlite3_busy_timeout(s->db, 2000);
	(void)sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	if (exec(s,
		 "PRAGMA trusted_schema=OFF; PRAGMA cache_size=-1024; PRAGMA temp_store=MEMORY;"
		 "PRAGMA mmap_size=0;",
		 err) < 0)
		return -1;
	/* DURABLE: a commit is on disk when it returns. The mode of the journal stays in the file,
	 * so nothing is written before we know whose it is. */
	if (check_format(s, read_only, err) < 0)
		return -1;
	if (!read_only && (exec(s,
				"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
				"PRAGMA journal_size_limit=4194304;",
				err) < 0 ||
			   check_damage(s, err) < 0))
		return -1;
	return 0;
}

void
wr_store_relax(struct wr_store *s, bool on)
{
	wr_assert(!s->in_group);
	/* Where that fails they are durable, as always. */
	(void)exec(s, on ? "PRAGMA synchronous=NORMAL" : "PRAGMA synchronous=FULL", NULL);
}

int
wr_store_open(const char *path, bool read_only, struct wr_store **out, struct wr_err *err)
{
	struct wr_store *s = wr_calloc(1, sizeof(*s));

	s->path = wr_strdup(path);
	if (open_db(s, read_only, err) < 0) {
		wr_store_close(s);
		return -1;
	}
	*out = s;
	return 0;
}

void
wr_store_close(struct wr_store *s)
{
	int rc;

	if (!s)
		return;
	if (s->db)
		rollback(s);
	for (size_t i = 0; i < WR_SQL_COUNT; i++)
		(void)sqlite3_finalize(s->kept[i]);
	rc = sqlite3_close(s->db);
	wr_assert(rc == SQLITE_OK); /* else a statement was not put back */
	free(s->path);
	free(s);
}

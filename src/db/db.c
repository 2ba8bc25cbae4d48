/* SPDX-License-Identifier: Apache-2.0 */
#include "db/db.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUSY_MS 5000

/* ---- errors ---- */

static int
damaged(struct wr_db *d, const char *what, struct wr_err *err)
{
	wr_err_set(err, WR_E_CORRUPT, "'%s': %s", WR_Q(d->path), what);
	return wr_err_hint(err, "%s", d->kind->damage_hint);
}

/* What the database just said. */
static int
fail(struct wr_db *d, struct wr_err *err)
{
	static const struct {
		int sqlite;
		enum wr_err_code code;
	} codes[] = {{SQLITE_BUSY, WR_E_BUSY},       {SQLITE_LOCKED, WR_E_BUSY},
		     {SQLITE_READONLY, WR_E_DENIED}, {SQLITE_PERM, WR_E_DENIED},
		     {SQLITE_AUTH, WR_E_DENIED},     {SQLITE_TOOBIG, WR_E_LIMIT},
		     {SQLITE_IOERR, WR_E_SYS},       {SQLITE_CANTOPEN, WR_E_SYS}};
	int rc = sqlite3_errcode(d->sqlite) & 0xff, e = sqlite3_system_errno(d->sqlite);
	enum wr_err_code code = WR_E_FAILED;

	wr_assert(rc != SQLITE_NOMEM && rc != SQLITE_MISUSE);
	if (rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB)
		return damaged(d, sqlite3_errmsg(d->sqlite), err);
	if (rc == SQLITE_FULL)
		e = ENOSPC; /* known by other ways than a system call */
	if (e && (rc == SQLITE_IOERR || rc == SQLITE_CANTOPEN || rc == SQLITE_FULL)) {
		errno = e;
		return wr_err_sys(err, "'%s'", WR_Q(d->path));
	}
	for (size_t i = 0; i < WR_ARRAY_LEN(codes); i++)
		if (codes[i].sqlite == rc)
			code = codes[i].code;
	if ((sqlite3_extended_errcode(d->sqlite) == SQLITE_CONSTRAINT_UNIQUE))
		code = WR_E_EXISTS;
	return wr_err_set(err, code, "'%s': %s", WR_Q(d->path), sqlite3_errmsg(d->sqlite));
}

/* ---- statements ---- */

int
wr_db_get(struct wr_db *d, size_t q, sqlite3_stmt **out, struct wr_err *err)
{
	bool keep = !d->kept[q];

	wr_assert(q < d->kind->statement_count);
	if (d->kept[q] && !sqlite3_stmt_busy(d->kept[q])) {
		*out = d->kept[q];
		return 0;
	}
	if (sqlite3_prepare_v3(d->sqlite, d->kind->statement[q], -1,
			       keep ? SQLITE_PREPARE_PERSISTENT : 0, out, NULL))
		return fail(d, err);
	if (keep)
		d->kept[q] = *out;
	return 0;
}

void
wr_db_put(struct wr_db *d, size_t q, sqlite3_stmt *st)
{
	if (!st)
		return;
	/* What they give is the error that step gave before. */
	if (st != d->kept[q]) {
		(void)sqlite3_finalize(st);
		return;
	}
	(void)sqlite3_reset(st);
	(void)sqlite3_clear_bindings(st);
}

int
wr_db_step(struct wr_db *d, sqlite3_stmt *st, struct wr_err *err)
{
	int rc = sqlite3_step(st);

	if (rc == SQLITE_ROW || rc == SQLITE_DONE)
		return rc == SQLITE_ROW;
	return fail(d, err);
}

int
wr_db_run(struct wr_db *d, size_t q, sqlite3_stmt *st, struct wr_err *err)
{
	int rc;

	do
		rc = wr_db_step(d, st, err);
	while (rc > 0);
	wr_db_put(d, q, st);
	return rc;
}

void
wr_db_text(sqlite3_stmt *st, int at, const char *text)
{
	int rc =
	    text ? sqlite3_bind_text(st, at, text, -1, SQLITE_STATIC) : sqlite3_bind_null(st, at);

	wr_assert(rc == SQLITE_OK);
}

void
wr_db_int(sqlite3_stmt *st, int at, int64_t v)
{
	int rc = sqlite3_bind_int64(st, at, v);

	wr_assert(rc == SQLITE_OK);
}

void
wr_db_blob(sqlite3_stmt *st, int at, const void *p, size_t len)
{
	int rc = sqlite3_bind_blob64(st, at, p, len, SQLITE_STATIC);

	wr_assert(rc == SQLITE_OK);
}

const char *
wr_db_col_text(sqlite3_stmt *st, int at)
{
	const unsigned char *p = sqlite3_column_text(st, at);

	return p ? (const char *)p : "";
}

void
wr_db_col_copy(sqlite3_stmt *st, int at, char *out, size_t size)
{
	snprintf(out, size, "%s", wr_db_col_text(st, at));
}

uint32_t
wr_db_col_u32(sqlite3_stmt *st, int at)
{
	int64_t v = sqlite3_column_int64(st, at);

	return v < 0 ? 0 : (uint32_t)WR_MIN(v, (int64_t)UINT32_MAX);
}

/* Text that is run once and gives no rows. */
static int
exec(struct wr_db *d, const char *text, struct wr_err *err)
{
	return sqlite3_exec(d->sqlite, text, NULL, NULL, NULL) ? fail(d, err) : 0;
}

/* ---- groups ---- */

int
wr_db_begin(struct wr_db *d, struct wr_err *err)
{
	return exec(d, "BEGIN IMMEDIATE", err);
}

void
wr_db_rollback(struct wr_db *d)
{
	/* Some errors have rolled back already. What ROLLBACK itself says changes nothing. */
	if (!sqlite3_get_autocommit(d->sqlite))
		(void)exec(d, "ROLLBACK", NULL);
}

int
wr_db_commit(struct wr_db *d, struct wr_err *err)
{
	if (sqlite3_get_autocommit(d->sqlite))
		return wr_err_set(err, WR_E_FAILED,
				  "'%s': the changes were undone by an error before",
				  WR_Q(d->path));
	if (exec(d, "COMMIT", err) == 0)
		return 0;
	wr_db_rollback(d);
	return -1;
}

void
wr_db_relax(struct wr_db *d, bool on)
{
	/* Where that fails they are durable, as always. */
	(void)exec(d, on ? "PRAGMA synchronous=NORMAL" : "PRAGMA synchronous=FULL", NULL);
}

/* ---- opening ---- */

/* The first value of a row. */
static int
ask(struct wr_db *d, const char *text, int64_t *out_number, char *out_text, size_t text_size,
    struct wr_err *err)
{
	sqlite3_stmt *st;
	int rc;

	if (sqlite3_prepare_v2(d->sqlite, text, -1, &st, NULL))
		return fail(d, err);
	rc = wr_db_step(d, st, err);
	if (out_number)
		*out_number = rc > 0 ? sqlite3_column_int64(st, 0) : 0;
	if (rc > 0 && out_text)
		wr_db_col_copy(st, 0, out_text, text_size);
	(void)sqlite3_finalize(st);
	return rc < 0 ? -1 : 0;
}

/* From format `have` (0: an empty file) to ours, all or nothing. */
static int
upgrade(struct wr_db *d, size_t have, struct wr_err *err)
{
	char stamp[96];
	int rc = 0;

	snprintf(stamp, sizeof(stamp),
		 "PRAGMA application_id=%" PRIu32 "; PRAGMA user_version=%zu;",
		 d->kind->application, d->kind->format_count);
	if (wr_db_begin(d, err) < 0)
		return -1;
	for (size_t i = have; rc == 0 && i < d->kind->format_count; i++)
		rc = exec(d, d->kind->formats[i], err);
	if (rc == 0 && exec(d, stamp, err) == 0)
		return wr_db_commit(d, err);
	wr_db_rollback(d);
	return -1;
}

static int
check_format(struct wr_db *d, bool read_only, struct wr_err *err)
{
	int64_t application, format, tables;

	if (ask(d, "PRAGMA application_id", &application, NULL, 0, err) < 0 ||
	    ask(d, "PRAGMA user_version", &format, NULL, 0, err) < 0 ||
	    ask(d, "SELECT count(*) FROM sqlite_schema", &tables, NULL, 0, err) < 0)
		return -1;
	if (!tables && !format && read_only)
		return wr_err_set(err, WR_E_NOT_FOUND, "'%s' is empty", WR_Q(d->path));
	if (!tables && !format)
		return upgrade(d, 0, err);
	if (application != d->kind->application || format < 1)
		return damaged(d, "this is something else, or no database of Warren", err);
	if (format > (int64_t)d->kind->format_count) {
		wr_err_set(err, WR_E_UNSUPPORTED,
			   "'%s' has format %" PRId64 ", this program reads up to %zu",
			   WR_Q(d->path), format, d->kind->format_count);
		return wr_err_hint(err,
				   "a newer release wrote it; run that release or a later one");
	}
	if (format == (int64_t)d->kind->format_count || read_only)
		return 0;
	return upgrade(d, (size_t)format, err);
}

static int
check_damage(struct wr_db *d, struct wr_err *err)
{
	char said[200] = "ok";

	if (ask(d, "PRAGMA quick_check(1)", NULL, said, sizeof(said), err) < 0)
		return -1;
	return strcmp(said, "ok") != 0 ? damaged(d, said, err) : 0;
}

/* SQLite would make the file with the caller's umask, and follow a link. */
static int
make_file(const char *path, bool read_only, struct wr_err *err)
{
	int flags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (read_only ? O_RDONLY : O_RDWR | O_CREAT);
	int fd = open(path, flags, (mode_t)0600);
	struct stat st;
	bool plain;

	if (fd < 0)
		return wr_err_sys(err, "open '%s'", WR_Q(path));
	plain = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
	close(fd);
	return plain ? 0 : wr_err_set(err, WR_E_CORRUPT, "'%s' is no file", WR_Q(path));
}

int
wr_db_open(const char *path, bool read_only, const struct wr_db_kind *kind, struct wr_db *out,
	   struct wr_err *err)
{
	const int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE |
			  (read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE);
	char frame[160];

	*out = (struct wr_db){.kind = kind,
			      .path = wr_strdup(path),
			      .kept = wr_calloc(kind->statement_count, sizeof(*out->kept))};
	if (make_file(path, read_only, err) < 0)
		return -1;
	if (sqlite3_open_v2(path, &out->sqlite, flags, NULL))
		return fail(out, err);
	(void)sqlite3_busy_timeout(out->sqlite, BUSY_MS);
	(void)sqlite3_db_config(out->sqlite, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	snprintf(frame, sizeof(frame),
		 "PRAGMA trusted_schema=OFF; PRAGMA cache_size=-%u; PRAGMA temp_store=MEMORY;"
		 "PRAGMA mmap_size=0;",
		 kind->cache_kib);
	if (exec(out, frame, err) < 0)
		return -1;
	/* DURABLE: a commit is on disk when it returns. The mode of the journal stays in the file,
	 * so nothing is written before we know whose it is. */
	if (check_format(out, read_only, err) < 0)
		return -1;
	if (read_only)
		return 0;
	if (exec(out,
		 "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
		 "PRAGMA journal_size_limit=4194304;",
		 err) < 0)
		return -1;
	return check_damage(out, err);
}

void
wr_db_close(struct wr_db *d)
{
	int rc;

	if (d->sqlite)
		wr_db_rollback(d);
	for (size_t i = 0; d->kept && i < d->kind->statement_count; i++)
		(void)sqlite3_finalize(d->kept[i]);
	rc = sqlite3_close(d->sqlite);
	wr_assert(rc == SQLITE_OK); /* else a statement was not put back */
	free(d->kept);
	free(d->path);
	*d = (struct wr_db){0};
}

/* SPDX-License-Identifier: Apache-2.0 */
/* SQLite as it is used here: one file with a write-ahead log, a table of statements that are
 * prepared when first used and then kept, errors as ours.  What is committed is on disk. */
#ifndef WR_DB_H
#define WR_DB_H

#include <sqlite3.h>

#include "base/err.h"

/* What the file holds. */
struct wr_db_kind {
	uint32_t application; /* says in the file whose it is */
	/* What makes format i + 1 of format i, a new file goes all the way. The last one is what we
	 * write, and the newest we read. */
	const char *const *formats;
	size_t format_count;
	unsigned cache_kib;
	const char *const *statement;
	size_t statement_count;
	const char *damage_hint;
};

struct wr_db {
	const struct wr_db_kind *kind;
	sqlite3 *sqlite;
	char *path;
	sqlite3_stmt **kept;
};

/* Made if it is absent. read_only: it must be there (WR_E_NOT_FOUND if it is empty), and whoever
 * writes it goes on. A newer format: WR_E_UNSUPPORTED; damaged or not ours: WR_E_CORRUPT; neither
 * is written to. */
int wr_db_open(const char *path, bool read_only, const struct wr_db_kind *kind, struct wr_db *out,
	       struct wr_err *err);
void wr_db_close(struct wr_db *d); /* of what open left, also where it failed */

/* BEGIN IMMEDIATE, COMMIT (undoes all where it fails), ROLLBACK if there is anything to undo. */
int wr_db_begin(struct wr_db *d, struct wr_err *err);
int wr_db_commit(struct wr_db *d, struct wr_err *err);
void wr_db_rollback(struct wr_db *d);

/* Commits survive a crash of this program alone (on), or of the machine as well. */
void wr_db_relax(struct wr_db *d, bool on);

/* A statement ready to be bound. One that is running (a callback asks again) is made a second time.
 */
int wr_db_get(struct wr_db *d, size_t q, sqlite3_stmt **out, struct wr_err *err);
/* Back to be used again; NULL is fine. */
void wr_db_put(struct wr_db *d, size_t q, sqlite3_stmt *st);
/* 1: a row; 0: no more; -1. */
int wr_db_step(struct wr_db *d, sqlite3_stmt *st, struct wr_err *err);
/* All of it, and back. */
int wr_db_run(struct wr_db *d, size_t q, sqlite3_stmt *st, struct wr_err *err);

/* Parameters count from 1. Text and bytes stay the caller's until the statement is put back; NULL
 * is NULL. */
void wr_db_text(sqlite3_stmt *st, int at, const char *text);
void wr_db_int(sqlite3_stmt *st, int at, int64_t v);
void wr_db_blob(sqlite3_stmt *st, int at, const void *p, size_t len);
/* Columns count from 0. "" for NULL; borrowed until the next step. */
const char *wr_db_col_text(sqlite3_stmt *st, int at);
/* Copied, cut to the buffer. */
void wr_db_col_copy(sqlite3_stmt *st, int at, char *out, size_t size);
/* A number that only we have written, made to fit. */
uint32_t wr_db_col_u32(sqlite3_stmt *st, int at);

#endif

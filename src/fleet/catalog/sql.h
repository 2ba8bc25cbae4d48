/* SPDX-License-Identifier: Apache-2.0 */
/* SQLite as it is used here: one file, a table of statements that are prepared when first used and
 * then kept, errors as ours.  Knows nothing of catalogs. */
#ifndef WR_CATALOG_SQL_H
#define WR_CATALOG_SQL_H

#include <sqlite3.h>

#include "base/err.h"

/* What the file holds. */
struct wr_db_kind {
	uint32_t application; /* says in the file whose it is */
	int format;           /* what we write, and the newest we read */
	const char *schema;   /* makes it */
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

int wr_db_open(const char *path, const struct wr_db_kind *kind, struct wr_db *out,
	       struct wr_err *err);
void wr_db_close(struct wr_db *d); /* of what open left, also where it failed */

/* BEGIN IMMEDIATE, COMMIT (undoes all where it fails), ROLLBACK if there is anything to undo. */
int wr_db_begin(struct wr_db *d, struct wr_err *err);
int wr_db_commit(struct wr_db *d, struct wr_err *err);
void wr_db_rollback(struct wr_db *d);

/* A statement ready to be bound. One that is running (a callback asks again) is made a second time.
 */
int wr_db_get(struct wr_db *d, size_t q, sqlite3_stmt **out, struct wr_err *err);
/* Back to be used again. */
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
/* Columns count from 0. Copied, cut to the buffer; "" for NULL. */
void wr_db_col_copy(sqlite3_stmt *st, int at, char *out, size_t size);
/* A number that only we have written, made to fit. */
uint32_t wr_db_col_u32(sqlite3_stmt *st, int at);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What commands print: text for people, one JSON object for programs, progress on a terminal.
 * Names go raw into pipes; a terminal never receives their control bytes.
 */
#ifndef WR_OUT_H
#define WR_OUT_H

#include "base/json.h"
#include "host/task/receipt.h"

struct wr_args;

/* Once, by main, before anything is printed: what the terminal can, --quiet, --json. */
void wr_out_init(const struct wr_args *a);
bool wr_out_json(void);  /* --json given */
bool wr_out_quiet(void); /* --quiet given: no receipts and no remarks */
bool wr_out_tty(void);   /* standard output is a terminal */

/* ---- text ---- */

enum wr_color { WR_PLAIN = 0, WR_BOLD, WR_DIM, WR_RED, WR_GREEN, WR_YELLOW, WR_BLUE, WR_CYAN };
/* Escape sequence for standard output, "" unless it is a terminal that shows colour. */
const char *wr_color(enum wr_color c);

/* Append a name fit for standard output: as it is in a pipe, control and invalid bytes escaped
 * (never cut) on a terminal. */
void wr_name_add(struct wr_buf *out, const void *bytes, size_t len);
/* Always escaped, for standard error. */
void wr_name_escape(struct wr_buf *out, const void *bytes, size_t len);
void wr_name_print(const void *bytes, size_t len);
/* Columns that a terminal needs for this text. */
size_t wr_text_width(const char *s);

/* A warning on standard error, in front of it "warren repo save: warning: "; it does not disturb
 * a progress line. Thread safe. Foreign bytes go through wr_quote. */
void wr_warn(const char *fmt, ...) WR_PRINTF(1, 2);
/* A remark for people on standard error; none with --quiet or --json. Thread safe. */
void wr_remark(const char *fmt, ...) WR_PRINTF(1, 2);

/* Aligned columns on standard output. */
struct wr_table {
	char **cell; /* owned, row by row */
	size_t cell_count, cell_cap;
	size_t column_count;
	const char *align; /* per column 'l' or 'r' */
};
/* heads: one per letter of align; NULL for a table without a head line. */
void wr_table_init(struct wr_table *t, const char *align, const char *const *heads);
void wr_table_add(struct wr_table *t, const char *text); /* next cell, a copy */
void wr_table_addf(struct wr_table *t, const char *fmt, ...) WR_PRINTF(2, 3);
void wr_table_add_name(struct wr_table *t, const void *bytes, size_t len);
void wr_table_print(struct wr_table *t);
void wr_table_fini(struct wr_table *t);

/* ---- JSON: made with base/json.h, printed here ---- */

/* Print the object (whose reference is taken) and a line feed. WR_E_SYS if that fails. */
int wr_json_print(json_t *taken, struct wr_err *err);

/* For long lists: the members of head (taken), then "key": [ item, ... ], then those of tail
 * (taken, may be NULL).  One object on the wire, one item in memory.  If a command fails in the
 * middle, main closes the list and adds the member "error". */
void wr_json_stream_begin(json_t *taken_head, const char *key);
int wr_json_stream_item(json_t *taken, struct wr_err *err);
int wr_json_stream_end(json_t *taken_tail, struct wr_err *err);
/* {"schema": "warren.error/1", "error": {code, message, hint}}, or the end of an open stream. */
void wr_json_error(const struct wr_err *err);

/* ---- progress ---- */

/*
 * A line on standard error, drawn by a thread of its own at most ten times a second: only on a
 * terminal, not with --quiet, --json or --no-progress, and not for what is over in a blink.
 * Everything but begin and end may be called by any thread and costs an atomic addition.
 */
struct wr_progress;
bool wr_progress_wanted(const struct wr_args *a); /* would anything be drawn? */
struct wr_progress *wr_progress_begin(const struct wr_args *a, const char *verb); /* "saving" */
/* What there is to do; 0 = not known. May be told again. */
void wr_progress_total(struct wr_progress *p, uint64_t files, uint64_t bytes);
void wr_progress_add(struct wr_progress *p, uint64_t files, uint64_t bytes);
void wr_progress_set(struct wr_progress *p, uint64_t files, uint64_t bytes);
void wr_progress_end(struct wr_progress *p); /* clears the line and frees; NULL is fine */

#endif

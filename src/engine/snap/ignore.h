/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What not to save: gitignore(5) patterns, from options (--exclude, --exclude-from; anchored at the
 * root) and from .warrenignore files (anchored at their directory, inner files win over outer,
 * later lines over earlier, `!` takes back; nothing below an ignored directory can be taken back).
 * Pure.
 */
#ifndef WR_IGNORE_H
#define WR_IGNORE_H

#include "base/buf.h"
#include "base/err.h"

/* LIMITs: an ignore file of 1 MiB, 10,000 patterns, a pattern of 4096 bytes. */
#define WR_IGNORE_FILE_MAX (1u << 20)

struct wr_ignore; /* one level: the patterns of one place, and the level above */

/* An empty level below parent (NULL: the outermost). Shared: the child keeps its parent alive.
 * dir: path of the level's directory relative to the root, without slashes at its ends. */
struct wr_ignore *wr_ignore_new(struct wr_ignore *parent, const char *dir);
struct wr_ignore *wr_ignore_ref(struct wr_ignore *ig); /* thread safe */
void wr_ignore_unref(struct wr_ignore *ig);            /* NULL is fine */
/* Add one line of an ignore file, comments and blank lines included. */
int wr_ignore_add(struct wr_ignore *ig, const char *line, size_t len, struct wr_err *err);
/* Add the lines of a whole file. */
int wr_ignore_add_file(struct wr_ignore *ig, const void *p, size_t len, struct wr_err *err);
/* No pattern here or above: nothing can match. */
bool wr_ignore_empty(const struct wr_ignore *ig);
/* Is root-relative path (parent directories are known not to be ignored) ignored? name is its last
 * component. Thread safe. Runs in time bounded by pattern length x path length. */
bool wr_ignore_match(const struct wr_ignore *ig, const char *path, size_t path_len,
		     const char *name, bool is_dir);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of copies share. Each uses those above it:
 *
 *   holdings.c    what is known of who holds a project
 *   behind.c      receipts, who is behind, retries
 *   copy_files.c  files of copies brought along
 *   reports.c     what hubs are told
 *   copies.c      what came beside operations; beginning and end of all of them
 *   orphans.c     projects that were here before the fleet
 */
#ifndef WR_CONTROL_COPIES_INT_H
#define WR_CONTROL_COPIES_INT_H

#include <string.h>

#include "base/buf.h"
#include "serve/control/replicas.h"

/* Questions to hubs, and to ourselves. */
#define WR_COPIES_ASK_MS 30000

struct wr_copy_due {
	struct wr_uuid project;
	uint64_t at_s; /* monotonic */
};

struct wr_uuids {
	struct wr_uuid *id;
	size_t count, cap;
};

struct wr_copies {
	struct wr_control *c;
	struct wr_timer retry, update, report, adopt;
	struct wr_copy_due *due; /* files to bring along */
	size_t due_count, due_cap;
	struct wr_uuids changed; /* to be reported */
	struct wr_uuids orphans; /* projects without a record, to be given one */
	struct wr_uuids behind;  /* nodes that are, to tell at once when one is back */
	bool asking;             /* a hub, for an orphan's record */
	struct wr_opening *openings;
	struct wr_sides *sides;
};

/* NULL: in no fleet, or not begun. */
static inline struct wr_copies *
wr_copies_of(struct wr_control *c)
{
	return c->fleet ? c->fleet->copies : NULL;
}

static inline bool
wr_uuids_has(const struct wr_uuids *l, const struct wr_uuid *id)
{
	for (size_t i = 0; i < l->count; i++)
		if (!strcmp(l->id[i].s, id->s))
			return true;
	return false;
}

static inline void
wr_uuids_add(struct wr_uuids *l, const struct wr_uuid *id)
{
	if (wr_uuids_has(l, id))
		return;
	wr_grow(&l->id, &l->cap, l->count + 1, sizeof(*l->id));
	l->id[l->count++] = *id;
}

/* ---- holdings.c ---- */

struct wr_replica_rows {
	struct wr_replica_row *row;
	size_t count, cap;
};

/* Rows of the table replica; a row that is taken (ctx: struct wr_replica_rows), and all of a
 * project. The caller frees out->row. */
int wr_replica_row_take(void *ctx, const struct wr_replica_row *r, struct wr_err *err);
void wr_replica_rows(struct wr_control *c, const struct wr_uuid *project,
		     struct wr_replica_rows *out);

/* ---- behind.c ---- */

void wr_behind_begin(struct wr_control *c);
/* Whoever lacks the newest save, or what was set since, is sent it, also who was not asked for this
 * time. */
void wr_copies_note_behind(struct wr_control *c, const struct wr_uuid *project);

/* ---- copy_files.c ---- */

/* Does someone's work lie in its files that no save has? */
bool wr_copy_is_dirty(struct wr_control *c, const struct wr_uuid *project);

/* ---- reports.c ---- */

void wr_reports_begin(struct wr_control *c);

#endif

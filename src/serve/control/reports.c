/* SPDX-License-Identifier: Apache-2.0 */
/* What this node tells hubs of its copies: what changed, and all when asked. */
#include <stdlib.h>

#include "serve/control/copies_int.h"
#include "serve/control/marks.h"
#include "serve/control/replicas.h"

#define REPORT_S 60
/* LIMIT: of one message. */
#define REPORTS_MAX 4000
#define RECORDS_BYTES (900u << 10)

/* Of what was deleted and purged, nothing is here: told once, so that its name is free. */
static bool
is_purged(struct wr_control *c, const struct wr_uuid *project, struct wr_report *r)
{
	struct wr_record e;

	if (!wr_fleet_record(c, project, &e) || e.state != WR_RECORD_DELETED)
		return false;
	*r = (struct wr_report){.project = *project, .n = e.n, .state = WR_ST_ABSENT};
	return true;
}

/* false: nothing is here but what was promised. */
static bool
report_of(struct wr_control *c, const struct wr_uuid *project, struct wr_report *r)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	struct wr_proj_row row = {0};
	struct wr_member_state ms;
	struct wr_status st = {.state = WR_ST_STOPPED};
	bool is;

	if (wr_auth_load(c->fleet->auth, project, &ms, NULL) < 0)
		return false;
	*r = (struct wr_report){.project = *project, .hidden = ms.hidden, .state = WR_ST_ABSENT};
	if (ms.has_record)
		r->n = ms.record.n;
	r->held = wr_member_version(&ms);
	if (ms.has_save)
		r->scan_started = ms.save.scan_started;
	is = ms.has_record;
	if (wr_row_find(c, project, &row, NULL) == 0) {
		if (wr_proj_find(c, project))
			wr_row_status(c, &row, &st);
		r->state = (uint8_t)(row.deleted ? WR_ST_ABSENT : st.state);
		r->running = st.active;
		r->repo_bytes = row.repo_bytes;
		r->tree_bytes = row.bytes;
		r->dirty = wr_copy_is_dirty(c, project);
		if (row.save_ok && row.save_began > r->scan_started &&
		    wr_node_id_eq(&ms.record.writer, &c->fleet->auth->self))
			r->scan_started = row.save_began;
	} else {
		is = is && wr_place_of_find(c->node, project, &place, NULL) == 0;
	}
	wr_place_of_fini(&place);
	wr_proj_row_fini(&row);
	wr_member_fini(&ms);
	return is;
}

struct all {
	struct wr_control *c;
	const char *after; /* ids up to this one are left out; NULL: none */
	struct wr_report *r;
	size_t count, cap;
	bool cut;
};

static int
add_report(void *ctx, const struct wr_uuid *project, struct wr_err *err WR_UNUSED)
{
	struct all *l = ctx;

	if (l->after && strcmp(project->s, l->after) <= 0)
		return 0;
	if (l->count >= REPORTS_MAX) {
		l->cut = true;
		return 1;
	}
	wr_grow(&l->r, &l->cap, l->count + 1, sizeof(*l->r));
	if (report_of(l->c, project, &l->r[l->count]))
		l->count++;
	return 0;
}

size_t
wr_copies_holds(struct wr_control *c, const char *after, struct wr_report **out, bool *out_end)
{
	struct all l = {.c = c, .after = after};
	int rc = wr_auth_each(c->fleet->auth, add_report, &l, NULL);

	*out = l.r;
	*out_end = rc == 0 && !l.cut;
	return l.count;
}

void
wr_copies_inventory(struct wr_asked *k)
{
	struct wr_msg a = WR_MSG_INIT;

	wr_msg_answer(&a, &k->q, &k->c->fleet->auth->self, WR_MSG_HOLDS);
	a.report_count = wr_copies_holds(k->c, k->q.text, &a.report, &a.flag);
	wr_asked_answer(k, &a);
}

void
wr_copies_records(struct wr_asked *k)
{
	struct wr_msg a = WR_MSG_INIT;
	size_t bytes = 0;

	a.kind = WR_MSG_RECORDS;
	a.blobs = wr_calloc(WR_MSG_BLOBS, sizeof(*a.blobs));
	for (size_t i = 0; i < k->q.keep_count && a.blob_count + 2 <= WR_MSG_BLOBS; i++) {
		struct wr_member_state ms;

		wr_member_init(&ms, &k->q.keep[i].project);
		if (wr_auth_load(k->c->fleet->auth, &k->q.keep[i].project, &ms, NULL) == 0 &&
		    ms.has_record) {
			bytes += ms.record_bytes.len + ms.settings.len;
			if (bytes <= RECORDS_BYTES) {
				wr_buf_add(&a.blobs[a.blob_count], ms.record_bytes.p,
					   ms.record_bytes.len);
				wr_buf_add(&a.blobs[a.blob_count + 1], ms.settings.p,
					   ms.settings.len);
			}
		}
		wr_member_fini(&ms);
		if (bytes > RECORDS_BYTES)
			break;
		a.blob_count += 2;
	}
	wr_asked_answer(k, &a);
}

/* Newer records, each with its settings: judged as if a hub had sent them, which it did. */
static void
on_reported(void *ctx, const struct wr_msg *answer, const struct wr_err *why WR_UNUSED)
{
	struct wr_control *c = ctx;

	if (!answer || answer->kind != WR_MSG_REPORTED)
		return;
	for (size_t i = 0; i + 1 < answer->blob_count; i += 2) {
		struct wr_msg m = WR_MSG_INIT;
		struct wr_record e;

		if (wr_record_decode(answer->blobs[i].p, answer->blobs[i].len, &e, NULL) < 0)
			continue;
		m.kind = WR_MSG_INSTALL;
		m.project = e.project;
		wr_buf_add(&m.record, answer->blobs[i].p, answer->blobs[i].len);
		wr_buf_add(&m.settings, answer->blobs[i + 1].p, answer->blobs[i + 1].len);
		wr_ask(c, &c->fleet->auth->self.id, &m, WR_COPIES_ASK_MS, NULL, NULL);
	}
}

static void
on_report(struct wr_timer *t)
{
	struct wr_copies *k = WR_OWNER(t, struct wr_copies, report);
	struct wr_control *c = k->c;
	struct wr_msg m = WR_MSG_INIT;
	size_t n = WR_MIN(k->changed.count, (size_t)REPORTS_MAX);

	if (c->draining)
		return;
	wr_timer_on(&c->loop, t, REPORT_S * (uint64_t)WR_SECOND, on_report);
	m.kind = WR_MSG_REPORT;
	m.flag = wr_marks_full(c);
	m.report = wr_calloc(n + 1, sizeof(*m.report));
	for (size_t i = 0; i < n; i++)
		if (report_of(c, &k->changed.id[i], &m.report[m.report_count]) ||
		    is_purged(c, &k->changed.id[i], &m.report[m.report_count]))
			m.report_count++;
	/* What is lost on the way is told by the next change, or when a hub asks for all. */
	k->changed.count -= n;
	if (n)
		memmove(k->changed.id, k->changed.id + n,
			k->changed.count * sizeof(*k->changed.id));
	wr_ask(c, wr_hub_pick(c), &m, WR_COPIES_ASK_MS, on_reported, c);
}

void
wr_reports_begin(struct wr_control *c)
{
	wr_timer_on(&c->loop, &c->fleet->copies->report, WR_SECOND, on_report);
}

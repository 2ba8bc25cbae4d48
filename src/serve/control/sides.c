/* SPDX-License-Identifier: Apache-2.0 */
/*
 * W7: side branches that lie here alone.  Where a project is marked (STATE/sides/ID) an operation
 * lists those that no save names and offers them to the writer, who names them in its next save;
 * that comes back as a push, and with it the mark goes.  Until then it is tried again, at growing
 * distance.  Nothing is kept but the mark.
 */
#include "base/log.h"
#include "base/str.h"
#include "serve/control/replicas.h"
#include "serve/control/fleet_int.h"
#include "sys/clock.h"

#define SOON_S 2
#define AGAIN_S 10
#define AGAIN_MAX_S 900
/* LIMIT: operations begun in one go. */
#define AT_ONCE 16

struct alone {
	struct wr_uuid project;
	uint64_t at_s; /* monotonic */
	unsigned tries;
	bool told;
};
struct wr_sides {
	struct wr_control *c;
	struct wr_timer timer;
	struct alone *alone;
	size_t count, cap;
};

static struct wr_sides *
sides_of(struct wr_control *c)
{
	struct wr_sides **at = wr_copies_sides(c);

	return at ? *at : NULL;
}

static struct alone *
find(struct wr_sides *s, const struct wr_uuid *project)
{
	for (size_t i = 0; i < s->count; i++)
		if (!strcmp(s->alone[i].project.s, project->s))
			return &s->alone[i];
	return NULL;
}

static void on_due(struct wr_timer *t);

static void
set_timer(struct wr_sides *s)
{
	uint64_t now = wr_clock_mono_ns() / WR_SECOND, next = UINT64_MAX;

	for (size_t i = 0; i < s->count; i++)
		next = WR_MIN(next, s->alone[i].at_s);
	if (next == UINT64_MAX)
		wr_timer_off(&s->c->loop, &s->timer);
	else
		wr_timer_on(&s->c->loop, &s->timer, (next > now ? next - now : 1) * WR_SECOND,
			    on_due);
}

static void
put_off(struct alone *a)
{
	uint64_t wait = (uint64_t)AGAIN_S << WR_MIN(a->tries, 10u);

	a->tries++;
	a->at_s = wr_clock_mono_ns() / WR_SECOND + WR_MIN(wait, (uint64_t)AGAIN_MAX_S);
}

static void
begin_one(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_op_wish w = {.kind = WR_OP_REPLICATE, .by = "schedule", .scheduled = true};
	struct wr_proj_row row = {0};
	struct wr_err err = WR_ERR_INIT;
	struct wr_record e;
	struct wr_uuid op;

	if (wr_row_find(c, project, &row, NULL) < 0 || row.deleted ||
	    !wr_fleet_record(c, project, &e)) {
		wr_proj_row_fini(&row);
		return;
	}
	w.row = &row;
	w.args = json_object();
	wr_json_bool(w.args, "sides", true);
	wr_json_str(w.args, "fill_to", e.writer.id.s);
	if (wr_op_submit(c, &w, &op, &err) < 0)
		wr_log_err(WR_LOG_NOTICE, "side branches", &err); /* it is busy: later */
	wr_proj_row_fini(&row);
}

static void
on_due(struct wr_timer *t)
{
	struct wr_sides *s = WR_OWNER(t, struct wr_sides, timer);
	struct wr_control *c = s->c;
	uint64_t now = wr_clock_mono_ns() / WR_SECOND;
	struct wr_uuid due[AT_ONCE];
	size_t n = 0;

	if (c->draining)
		return;
	for (size_t i = 0; i < s->count && n < AT_ONCE; i++) {
		if (s->alone[i].at_s > now)
			continue;
		due[n++] = s->alone[i].project;
		put_off(&s->alone[i]);
	}
	set_timer(s);
	for (size_t i = 0; i < n; i++)
		begin_one(c, &due[i]);
}

void
wr_sides_learn(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_sides *s = sides_of(c);
	struct alone *a = s ? find(s, project) : NULL;
	uint64_t soon = wr_clock_mono_ns() / WR_SECOND + SOON_S;

	if (!s || !wr_flag_is(c->node, WR_FLAG_SIDES, project))
		return;
	if (!a) {
		wr_grow(&s->alone, &s->cap, s->count + 1, sizeof(*s->alone));
		a = &s->alone[s->count++];
		*a = (struct alone){.project = *project, .at_s = soon};
	}
	/* A new record, or a save that may name them. */
	a->at_s = WR_MIN(a->at_s, soon);
	set_timer(s);
}

/* Said once, with the reason; it is tried again all the same. */
static void
tell(struct wr_control *c, struct alone *a, const json_t *receipt)
{
	const json_t *names = wr_json_get_arr(receipt, "sides");
	WR_SCOPED(wr_freep) char *why = NULL;
	struct wr_err err = WR_ERR_INIT;

	if (a->told || wr_json_get_bool(receipt, "ok", true))
		return;
	wr_json_get_err(wr_json_get_obj(receipt, "error"), &err);
	why = wr_asprintf("side branch %s%s is on this node alone: %s",
			  json_string_value(json_array_get(names, 0)),
			  json_array_size(names) > 1 ? " (and others)" : "", err.msg);
	wr_event(c, "control", &a->project, "side.alone", why, NULL);
	a->told = true;
}

void
wr_sides_op_ended(struct wr_control *c, const struct wr_op_row *op, const json_t *receipt)
{
	struct wr_sides *s = sides_of(c);
	struct alone *a;

	if (!s)
		return;
	a = find(s, &op->project);
	if (!a) {
		wr_sides_learn(c, &op->project);
		return;
	}
	if (!wr_flag_is(c->node, WR_FLAG_SIDES, &op->project)) {
		*a = s->alone[--s->count];
		set_timer(s);
		return;
	}
	if (receipt && wr_json_get_arr(receipt, "sides")) {
		const char *record = wr_json_get_str(receipt, "record", NULL);

		tell(c, a, receipt);
		if (record)
			wr_copies_record(c, &op->project, record);
	}
}

void
wr_sides_begin(struct wr_control *c)
{
	struct wr_sides *s = wr_calloc(1, sizeof(*s));
	struct wr_err err = WR_ERR_INIT;
	struct wr_uuid *id;
	size_t n;

	*wr_copies_sides(c) = s;
	s->c = c;
	if (wr_flag_list(c->node, WR_FLAG_SIDES, &id, &n, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "side branches", &err);
	for (size_t i = 0; i < n; i++)
		wr_sides_learn(c, &id[i]);
	free(id);
}

void
wr_sides_end(struct wr_control *c)
{
	struct wr_sides *s = sides_of(c);

	if (!s)
		return;
	wr_timer_off(&c->loop, &s->timer);
	free(s->alone);
	free(s);
	*wr_copies_sides(c) = NULL;
}

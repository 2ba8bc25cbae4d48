/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All projects of this node at once: save-all, and what is saved before the host goes down.
 *
 *   shutdown --> nothing new starts; each active project: stop (its wish to be active stays), a few
 *   at a time, those in use last first --> at the end of its time: what was not begun stays as it
 *   is, saves that run are broken off --> answer
 *
 * The host is expected to end then. Where it does not, what was stopped comes back by itself.
 */
#include <signal.h>
#include <stdlib.h>

#include "base/log.h"
#include "serve/control/replicas.h"

/* Operations that run at a time. */
#define SAVES_PARALLEL 4
#define STOPS_PARALLEL 8
/* LIMITs: projects of one call; who waits for it. */
#define SAVE_ALL_MAX 100000
#define WAITERS_MAX 8
/* What is broken off has this long to say so. */
#define LAST_S 5
/* A host that still runs so long after its shutdown was announced does not go down. */
#define STAYS_S 300

struct save_all;

struct save_one {
	struct save_all *all;
	struct wr_uuid project, op;
	char name[64];
	int64_t used;
	bool active, begun, ended;
	struct wr_op_watch watch;
};
struct save_all {
	struct wr_control *c;
	struct wr_req *q[WAITERS_MAX]; /* NULL: nobody */
	char by[64];
	uint64_t rf;
	uint64_t within; /* seconds; 0: no shutdown */
	struct save_one *of;
	size_t count, cap, next, running;
	bool over; /* the time of a shutdown is */
	uint64_t made, behind, failed, late;
	json_t *list;
	struct wr_timer go, end;
};

static void
forget_all(struct wr_req *q)
{
	struct save_all *a = q->held;

	for (size_t i = 0; i < WAITERS_MAX; i++)
		if (a->q[i] == q)
			a->q[i] = NULL;
}

static int
wait_for(struct save_all *a, struct wr_req *q, struct wr_err *err)
{
	for (size_t i = 0; i < WAITERS_MAX; i++) {
		if (a->q[i])
			continue;
		a->q[i] = q;
		q->held = a;
		q->gone = forget_all;
		return 0;
	}
	return wr_err_set(err, WR_E_LIMIT, "%d wait for it already", WAITERS_MAX);
}

/* What has something to save: whatever is active, or was and is not clean. */
static int
look_to_save(void *ctx, const struct wr_proj_row *r, struct wr_err *err WR_UNUSED)
{
	struct save_all *a = ctx;
	struct wr_work w = {0};
	bool dirty = wr_work_load(a->c->node, &r->id, &w, NULL) == 0 && w.dirty;
	struct wr_record e;

	wr_work_fini(&w);
	if ((!r->desired && !dirty) ||
	    (wr_fleet_record(a->c, &r->id, &e) && !wr_fleet_is_writer(a->c, &r->id)))
		return 0;
	wr_grow(&a->of, &a->cap, a->count + 1, sizeof(*a->of));
	a->of[a->count] =
	    (struct save_one){.project = r->id, .used = r->used, .active = r->desired};
	snprintf(a->of[a->count++].name, sizeof(a->of[0].name), "%s", r->name);
	return a->count >= SAVE_ALL_MAX;
}

static void
save_all_free(struct save_all *a)
{
	for (size_t i = 0; i < a->count; i++)
		if (a->of[i].begun && !a->of[i].ended)
			wr_op_unwatch(a->c, &a->of[i].watch);
	wr_timer_off(&a->c->loop, &a->go);
	wr_timer_off(&a->c->loop, &a->end);
	if (a->c->leave == a)
		a->c->leave = NULL;
	json_decref(a->list);
	free(a->of);
	free(a);
}

static void
save_all_end(struct save_all *a)
{
	json_t *o = wr_json_begin(a->within ? "warren.shutdown/1" : "warren.save-all/1");
	bool bad = a->failed || a->behind || a->late;

	wr_json_u64(o, "projects", a->count);
	wr_json_u64(o, "made", a->made);
	wr_json_u64(o, "behind", a->behind);
	wr_json_u64(o, "failed", a->failed);
	if (a->within) {
		wr_json_u64(o, "late", a->late);
		wr_json_u64(o, "within", a->within);
	}
	json_object_set(o, "saves", a->list);
	for (size_t i = 0; i < WAITERS_MAX; i++) {
		if (!a->q[i])
			continue;
		a->q[i]->gone = NULL;
		wr_req_reply(a->q[i], 200, bad ? 3 : 0, json_incref(o));
	}
	json_decref(o);
	save_all_free(a);
}

static void save_some(struct wr_timer *t);

/* What a stop could not save it says in its warnings. */
static void
unsaved(const json_t *receipt, struct wr_err *err)
{
	const json_t *said = wr_json_get_arr(receipt, "warnings");
	const char *text = json_string_value(json_array_get(said, 0));

	wr_err_set(err, WR_E_FAILED, "%s", text ? text : "it was stopped without a save");
}

/* How it went with one: why, unless there is a receipt, which may be of a stop without a save. */
static void
tell_save(struct save_one *s, const json_t *receipt, const struct wr_err *why)
{
	struct save_all *a = s->all;
	struct wr_err none = WR_ERR_INIT;
	bool stopped = a->within && s->active;
	const json_t *save = stopped ? wr_json_get_obj(receipt, "save") : receipt;
	const json_t *replicas = wr_json_get_arr(receipt, "replicas"), *e;
	json_t *o = wr_json_item(a->list);
	uint64_t in = wr_json_get_u64(receipt, "safe_in", 0);
	bool safe = wr_json_get_bool(receipt, "safe", false), late = false;
	struct wr_record record;
	size_t i;

	json_array_foreach(replicas, i, e) late |= !wr_json_get_bool(e, "ok", false);
	/* A stop says nothing of it where there is no other node, or where it was broken off before
	 * they were asked. */
	if (save && !json_object_get(receipt, "safe")) {
		safe = !wr_fleet_record(a->c, &s->project, &record);
		late = !safe;
		in = 1;
	}
	wr_json_str(o, "project", s->project.s);
	wr_json_str(o, "name", s->name);
	wr_json_bool(o, "ok", save != NULL);
	wr_json_bool(o, "made", wr_json_get_bool(save, "made", false));
	wr_json_bool(o, "safe", safe);
	wr_json_u64(o, "safe_in", in);
	if (receipt && !save)
		unsaved(receipt, &none);
	if (save)
		wr_json_null(o, "error");
	else
		wr_json_err(o, "error", receipt ? &none : why);
	a->made += wr_json_get_bool(save, "made", false);
	/* Who asked for fewer copies is content with them. */
	a->behind += save && late && (!a->rf || in < a->rf);
	a->failed += !save && !a->over;
	a->late += !save && a->over;
}

static void
save_ended(struct save_one *s, const json_t *receipt, const struct wr_err *why)
{
	struct save_all *a = s->all;

	tell_save(s, receipt, why);
	s->ended = true;
	a->running--;
	wr_timer_on(&a->c->loop, &a->go, 0, save_some);
}

static void
on_saved(struct wr_op_watch *w, const json_t *receipt, const struct wr_err *why)
{
	struct wr_err none = WR_ERR_INIT;

	wr_err_set(&none, WR_E_FAILED, "it ended without a word");
	save_ended(WR_OWNER(w, struct save_one, watch), receipt, why ? why : &none);
}

static void
save_begin(struct save_one *s)
{
	struct save_all *a = s->all;
	struct wr_op_wish w = {.kind = WR_OP_SAVE, .by = a->by};
	struct wr_proj_row row = {0};
	struct wr_err err = WR_ERR_INIT;
	int rc = wr_row_find(a->c, &s->project, &row, &err);

	s->begun = true;
	a->running++;
	if (rc == 0) {
		w.row = &row;
		w.args = json_object();
		if (a->rf)
			wr_json_u64(w.args, "rf", a->rf);
		if (a->within)
			wr_json_u64(w.args, "replicate_wait", a->within);
		if (a->within && s->active) {
			w.kind = WR_OP_STOP;
			w.may_wait = true;
			w.wait_s = a->within + LAST_S;
			wr_json_bool(w.args, "comes_back", true);
			wr_json_u64(w.args, "grace", WR_MAX(a->within / 4, UINT64_C(1)));
		}
		rc = wr_op_submit(a->c, &w, &s->op, &err);
	}
	wr_proj_row_fini(&row);
	s->watch.fn = on_saved;
	if (rc == 0 && wr_op_watch(a->c, &s->op, &s->watch))
		return;
	if (rc == 0)
		wr_err_set(&err, WR_E_FAILED, "it ended before it was looked at");
	save_ended(s, NULL, &err);
}

static void
save_some(struct wr_timer *t)
{
	struct save_all *a = WR_OWNER(t, struct save_all, go);
	size_t most = a->within ? STOPS_PARALLEL : SAVES_PARALLEL;

	if (a->c->draining)
		a->next = a->count;
	while (a->next < a->count && a->running < most)
		save_begin(&a->of[a->next++]);
	if (a->next == a->count && a->running == 0)
		save_all_end(a);
}

static int
begin(struct wr_req *q, struct save_all **out, struct wr_err *err)
{
	struct save_all *a = wr_calloc(1, sizeof(*a));

	a->c = q->c;
	snprintf(a->by, sizeof(a->by), "%s", q->who.by);
	if (wr_store_proj_each(a->c->store, 0, look_to_save, a, err) < 0) {
		save_all_free(a);
		return -1;
	}
	for (size_t i = 0; i < a->count; i++)
		a->of[i].all = a;
	a->list = json_array();
	(void)wait_for(a, q, NULL);
	wr_timer_on(&a->c->loop, &a->go, 0, save_some);
	*out = a;
	return 0;
}

int
wr_on_save_all(struct wr_control *c WR_UNUSED, struct wr_req *q, struct wr_err *err)
{
	uint64_t limit = wr_call_u64(&q->call, "limit", 0);
	struct save_all *a;

	if (begin(q, &a, err) < 0)
		return -1;
	a->rf = wr_call_u64(&q->call, "rf", 0);
	if (limit && a->count > limit)
		a->count = (size_t)limit;
	return 0;
}

/* ---- the host goes down ---- */

static int
by_use(const void *x, const void *y)
{
	const struct save_one *a = x, *b = y;

	if (a->active != b->active)
		return a->active ? -1 : 1;
	return (a->used < b->used) - (a->used > b->used);
}

/* Those that do not even end: their operations go on as long as the host does. */
static void
last_over(struct wr_timer *t)
{
	struct save_all *a = WR_OWNER(t, struct save_all, end);
	struct wr_err err = WR_ERR_INIT;

	wr_err_set(&err, WR_E_BUSY, "not done within %" PRIu64 " s", a->within);
	for (size_t i = 0; i < a->count; i++)
		if (a->of[i].begun && !a->of[i].ended)
			tell_save(&a->of[i], NULL, &err);
	save_all_end(a);
}

/* A stop is never cancelled, but its save and its transfers may be broken off. */
static void
break_off(struct save_all *a, const struct save_one *s)
{
	struct wr_err why = WR_ERR_INIT;
	struct wr_op_row row = {0};
	struct wr_op *o = NULL;

	if (wr_op_find(a->c, s->op.s, &row, NULL) == 0)
		o = wr_op_live(a->c, &row);
	wr_op_row_fini(&row);
	if (o && o->p->run == o)
		(void)wr_proc_signal(&o->proc, SIGTERM); /* gone already: its result comes */
	else if (o)
		(void)wr_op_cancel(o, a->by, &why); /* it waits, so it can be */
}

static void
time_over(struct wr_timer *t)
{
	struct save_all *a = WR_OWNER(t, struct save_all, end);
	struct wr_err err = WR_ERR_INIT;

	wr_err_set(&err, WR_E_BUSY, "not begun within %" PRIu64 " s", a->within);
	a->over = true;
	for (; a->next < a->count; a->next++)
		tell_save(&a->of[a->next], NULL, &err);
	wr_timer_on(&a->c->loop, &a->end, LAST_S * (uint64_t)WR_SECOND, last_over);
	for (size_t i = 0; i < a->count; i++)
		if (a->of[i].begun && !a->of[i].ended)
			break_off(a, &a->of[i]);
	wr_timer_on(&a->c->loop, &a->go, 0, save_some);
}

/* What was stopped is wanted still. */
static void
stays(struct wr_timer *t)
{
	struct wr_control *c = WR_OWNER(t, struct wr_control, stays);
	struct wr_err err = WR_ERR_INIT;

	c->leaving = false;
	wr_event(c, "control", NULL, "node.stays", "it was to go down, and did not", NULL);
	c->back_count = 0;
	if (wr_bring_back(c, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "bring projects back", &err);
	wr_back_next(c);
}

int
wr_on_shutdown(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	uint64_t within = wr_call_u64(&q->call, "within", c->node->config.work_shutdown_save);
	WR_SCOPED(wr_freep) char *text = wr_asprintf("projects have %" PRIu64 " s", within);
	struct save_all *a;

	/* systemd goes on when its call is answered, which must not be before this is done. */
	if (c->leave)
		return wait_for(c->leave, q, err);
	if (c->leaving)
		return wr_err_set(err, WR_E_BUSY, "this host is going down already");
	if (within == 0) {
		wr_err_set(err, WR_E_DENIED, "[work] shutdown_save is never: nothing is saved");
		return wr_err_hint(err, "warren save-all --shutdown --within TIME");
	}
	if (begin(q, &a, err) < 0)
		return -1;
	c->leaving = true;
	c->leave = a;
	wr_timer_on(&c->loop, &c->stays, (within + STAYS_S) * (uint64_t)WR_SECOND, stays);
	wr_event(c, q->who.by, NULL, "node.leaving", text, NULL);
	a->within = within;
	if (a->count)
		qsort(a->of, a->count, sizeof(*a->of), by_use);
	wr_timer_on(&c->loop, &a->end, within * WR_SECOND, time_over);
	return 0;
}

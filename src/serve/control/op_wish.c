/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked for: joined to what waits, refused, or queued durably. */
#include <signal.h>

#include "base/log.h"
#include "base/str.h"
#include "serve/control/control_int.h"
#include "serve/control/queue_int.h"
#include "sys/clock.h"
#include "sys/crash.h"

/* Who is in the way, as everywhere. */
static int
busy(const struct wr_op *o, const struct wr_proj_row *row, struct wr_err *err)
{
	int64_t since = o->row.started ? o->row.started : o->row.created;
	struct wr_short at = wr_fmt_utc(since);

	wr_err_set(err, WR_E_BUSY, "project '%s' is busy: %s by %s since %.8s (%" PRId64 " s)",
		   row->name, wr_op_kind_name(o->row.kind), o->row.by, at.s + 11,
		   WR_MAX(wr_clock_wall().s - since, (int64_t)0));
	return wr_err_hint(err, "wait for it with --wait SECONDS; see 'warren op show %s'",
			   o->row.id.s);
}

static struct wr_op *
op_new(struct wr_control *c, struct wr_proj *p, struct wr_op_wish *w)
{
	struct wr_op *o = wr_calloc(1, sizeof(*o));

	o->c = c;
	o->p = p;
	o->lock = (struct wr_lock)WR_LOCK_INIT;
	o->args = wr_steal(&w->args);
	o->scheduled = w->scheduled;
	o->back = w->back;
	if (w->id)
		o->row.id = *w->id;
	else
		wr_uuid_new(&o->row.id);
	o->row.project = p->id;
	o->row.kind = w->kind;
	o->row.state = WR_OPS_QUEUED;
	snprintf(o->row.by, sizeof(o->row.by), "%s", w->by);
	o->row.created = wr_clock_wall().s;
	wr_op_args_changed(o);
	return o;
}

/* Targets of both: none named means all. */
static void
merge_targets(struct wr_op *o, const json_t *wish)
{
	json_t *have = wr_json_get_arr(o->args, "targets"), *t;
	const json_t *more = wr_json_get_arr(wish, "targets");
	size_t i;

	if (!have || !more)
		json_object_del(o->args, "targets");
	else
		json_array_foreach(more, i, t) json_array_append(have, t);
	wr_op_args_changed(o);
}

/* What another node lacks is the same until there is another record. */
static bool
same_fill(const struct wr_op *o, const json_t *wish)
{
	const char *to = wr_json_get_str(wish, "fill_to", NULL);

	return o && to && !strcmp(to, wr_json_get_str(o->args, "fill_to", "")) &&
	       wr_json_get_bool(o->args, "mend", false) == wr_json_get_bool(wish, "mend", false) &&
	       wr_json_get_bool(o->args, "sides", false) == wr_json_get_bool(wish, "sides", false);
}

/* A request that a live operation fulfils: joined, and *out is it. */
static bool
join(struct wr_proj *p, struct wr_op_wish *w, struct wr_uuid *out)
{
	struct wr_err err = WR_ERR_INIT;
	struct wr_op *o = NULL;

	if (w->kind == WR_OP_SAVE) {
		/* Never a running one: its scan began before this was asked. */
		for (o = p->first; o; o = o->next) {
			json_t *merged = NULL;

			if (o->row.kind != WR_OP_SAVE || !wr_save_joins(o->args, w->args, &merged))
				continue;
			json_decref(o->args);
			o->args = merged;
			wr_op_args_changed(o);
			break;
		}
	} else if (w->kind == WR_OP_REPLICATE && same_fill(p->copying, w->args)) {
		o = p->copying;
	} else if (w->kind == WR_OP_REPLICATE && same_fill(p->to_copy, w->args)) {
		o = p->to_copy;
	} else if (w->kind == WR_OP_REPLICATE && p->to_copy &&
		   !json_object_get(p->to_copy->args, "fill_to") &&
		   !json_object_get(w->args, "fill_to")) {
		o = p->to_copy;
		merge_targets(o, w->args);
	} else if (w->kind == WR_OP_START && p->run && p->run->row.kind == WR_OP_START &&
		   !p->first) {
		struct wr_proj_row row = {0};

		o = p->run;
		if (wr_row_find(p->c, &p->id, &row, NULL) == 0) {
			WR_SCOPED(wr_json_freep) json_t *holders = wr_holders_parse(row.holders);

			wr_holders_add(holders, wr_json_get_str(w->args, "holder", "manual"),
				       wr_clock_wall().s);
			free(row.holders);
			row.holders = wr_holders_text(holders);
			if (wr_store_proj_put(p->c->store, &row, &err) < 0)
				wr_log_err(WR_LOG_ERROR, "record a holder", &err);
			wr_proj_row_fini(&row);
		}
	}
	if (!o)
		return false;
	o->row.joined++;
	if (wr_op_store(o, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "record an operation", &err);
	*out = o->row.id;
	return true;
}

/* The files of a copy are brought along when nobody wants anything else of it. */
static bool
gives_way(const struct wr_op *run)
{
	return run && run->row.kind == WR_OP_UPDATE && run->scheduled;
}

/* May it be queued at all? */
static int
admit(struct wr_proj *p, const struct wr_op_wish *w, struct wr_err *err)
{
	if (wr_row_volumes(p->c, w->row, err) < 0)
		return -1;
	if (p->waiting >= WR_QUEUE_MAX || p->c->queued >= WR_QUEUED_MAX) {
		wr_err_set(err, WR_E_BUSY, "too many operations wait%s",
			   p->waiting >= WR_QUEUE_MAX ? " for this project" : "");
		return wr_err_hint(err, "see 'warren op list'");
	}
	if (p->c->leaving && (w->kind == WR_OP_START || w->kind == WR_OP_RESTART)) {
		wr_err_set(err, WR_E_BUSY, "this host is going down");
		return wr_err_hint(err, "what was active comes back with it");
	}
	if (w->kind == WR_OP_REPLICATE)
		return p->to_copy ? busy(p->to_copy, w->row, err) : 0;
	if (w->kind == WR_OP_SAVE || w->may_wait || gives_way(p->run))
		return 0;
	if (p->run)
		return busy(p->run, w->row, err);
	return p->first ? busy(p->first, w->row, err) : 0;
}

int
wr_op_submit(struct wr_control *c, struct wr_op_wish *w, struct wr_uuid *out, struct wr_err *err)
{
	struct wr_proj *p = wr_proj_get(c, &w->row->id);
	struct wr_op *o;

	if (join(p, w, out)) {
		json_decref(w->args);
		return 0;
	}
	if (admit(p, w, err) < 0) {
		json_decref(w->args);
		wr_proj_rest(p);
		return -1;
	}
	o = op_new(c, p, w);
	if (gives_way(p->run) && w->kind != WR_OP_REPLICATE)
		(void)wr_proc_signal(&p->run->proc, SIGTERM); /* gone already: its result comes */
	/* Refused at once, and leaves no trace, if someone outside holds the lock. */
	if ((w->kind != WR_OP_SAVE && !w->may_wait && !gives_way(p->run) &&
	     wr_op_take_lock(o, err) < 0) ||
	    wr_op_store(o, err) < 0) {
		wr_op_free(o);
		wr_proj_rest(p);
		return -1;
	}
	*out = o->row.id;
	wr_op_append(o);
	wr_op_wait(o, w->may_wait ? w->wait_s : WR_OP_PATIENCE_S);
	wr_crash_point("control.op-queued");
	if (w->kind == WR_OP_REPLICATE)
		wr_op_kick_copy(p);
	else
		wr_op_kick(p);
	return 0;
}

int
wr_op_submit_copy(struct wr_control *c, const struct wr_proj_row *source, struct wr_op_wish *w,
		  struct wr_uuid *out, struct wr_err *err)
{
	struct wr_proj *p = wr_proj_get(c, &w->row->id);
	struct wr_op_wish save = {.row = source, .kind = WR_OP_SAVE, .by = w->by};
	struct wr_op *o;

	if (admit(p, w, err) < 0) {
		json_decref(w->args);
		wr_proj_rest(p);
		return -1;
	}
	o = op_new(c, p, w);
	if (wr_op_store(o, err) < 0) {
		wr_op_free(o);
		wr_proj_rest(p);
		return -1;
	}
	*out = o->row.id;
	save.args = json_object();
	o->next = c->beside;
	c->beside = o;
	p->waiting++;
	c->queued++;
	if (wr_op_submit(c, &save, &o->source_save, err) < 0) {
		struct wr_err why = *err;

		wr_err_wrap(&why, "save of the source");
		wr_op_end(o, WR_OPS_FAILED, NULL, &why, "");
	}
	return 0;
}

int
wr_op_cancel(struct wr_op *o, const char *by, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;

	wr_err_set(&why, WR_E_CANCELLED, "cancelled by %s", by);
	if (!wr_op_is_running(o)) {
		wr_op_end(o, WR_OPS_CANCELLED, NULL, &why, "");
		return 0;
	}
	if (!wr_op_cancellable(o->row.kind)) {
		wr_err_set(err, WR_E_BUSY, "a running %s cannot be cancelled",
			   wr_op_kind_name(o->row.kind));
		return wr_err_hint(err, "it is short, or must end: 'warren op wait %s'",
				   o->row.id.s);
	}
	o->cancelled = true;
	(void)wr_proc_signal(&o->proc, SIGTERM); /* gone already: its result comes */
	return 0;
}

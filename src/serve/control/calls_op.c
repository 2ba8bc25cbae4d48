/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that ask for operations, and those about operations. */
#include <fcntl.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "host/node/age.h"
#include "host/runner/runner.h"
#include "serve/control/control_int.h"
#include "serve/control/deletion.h"
#include "serve/control/replicas.h"
#include "sys/clock.h"
#include "sys/fs.h"

static int
submit(struct wr_control *c, struct wr_req *q, enum wr_op_kind kind, json_t *args,
       struct wr_err *err)
{
	struct wr_op_wish w = {.row = &q->row, .kind = kind, .args = args, .by = q->who.by};
	struct wr_uuid op;

	for (const struct wr_api_arg *a = q->call.api->arg; a->name; a++)
		if (!strcmp(a->name, "wait")) {
			w.may_wait = wr_call_str(&q->call, "wait") != NULL;
			w.wait_s = wr_call_u64(&q->call, "wait", 0);
		}
	if (wr_op_submit(c, &w, &op, err) < 0)
		return -1;
	wr_req_reply_op(q, &op);
	return 0;
}

/* What answers a call that needs no operation. */
static json_t *
receipt(struct wr_control *c, const struct wr_req *q, const char *schema)
{
	json_t *o = wr_json_begin(schema);

	wr_json_str(o, "project", q->row.id.s);
	wr_json_str(o, "name", q->row.name);
	wr_json_str(o, "node", c->node->id.s);
	wr_json_u64(o, "epoch", 1);
	return o;
}

static void
add_names(json_t *o, const char *key, const json_t *holders)
{
	json_t *list = wr_json_array(o, key), *h;
	size_t i;

	json_array_foreach(holders, i, h) wr_json_add_str(list, wr_json_get_str(h, "name", ""));
}

static int
put_holders(struct wr_control *c, struct wr_proj_row *row, const json_t *holders,
	    struct wr_err *err)
{
	free(row->holders);
	row->holders = wr_holders_text(holders);
	return wr_store_proj_put(c->store, row, err);
}

static const char *
holder_of(const struct wr_req *q)
{
	const char *h = wr_call_str(&q->call, "holder");

	return h ? h : "manual";
}

/* Is there no command, or does what it started live? */
static bool
command_lives(struct wr_control *c, const struct wr_proj_row *row)
{
	struct wr_settings set = {0};
	struct wr_runner_status run = {0};
	bool has;

	if (wr_row_settings(row, &set, NULL) < 0)
		return true;
	has = *wr_settings_str(&set, "command");
	wr_settings_fini(&set);
	if (!has)
		return true;
	wr_runner_status(c->node, &row->id, row->uid, false, false, &run);
	return run.keeper || run.main;
}

/* Does something wait or run that will end what is active now? */
static bool
will_change(struct wr_control *c, const struct wr_uuid *id)
{
	struct wr_proj *p = wr_proj_find(c, id);

	if (!p)
		return false;
	if (p->run && p->run->row.kind != WR_OP_SAVE)
		return true;
	for (struct wr_op *o = p->first; o; o = o->next)
		if (o->row.kind != WR_OP_SAVE)
			return true;
	return false;
}

/* A start that other nodes are asked about first. */
struct opening_start {
	struct wr_control *c;
	struct wr_req *q; /* NULL: nobody waits any more */
	struct wr_uuid project;
	char by[64];
	json_t *args;
	bool may_wait, accept_loss;
	struct wr_version base; /* as it was before; accept_loss */
	uint64_t wait_s;
};

static void
forget_start(struct wr_req *q)
{
	struct opening_start *s = q->held;

	s->q = NULL;
}

/* What the receipt is to say of a loss that was accepted. */
static void
name_gap(struct opening_start *s)
{
	WR_SCOPED(wr_freep) char *text = NULL;
	struct wr_record e;

	if (!s->accept_loss || !wr_fleet_record(s->c, &s->project, &e) ||
	    wr_version_cmp(&e.base, &s->base) >= 0)
		return;
	text = wr_asprintf("save %s was given up: it goes on from save %s (epoch %" PRIu64 ")",
			   wr_version_text(&s->base).s, wr_version_text(&e.base).s, e.n.number);
	wr_json_str(s->args, "given_up", text);
	wr_event(s->c, s->by, &s->project, "save.given-up", text, NULL);
}

static void
on_open(void *ctx, const struct wr_err *why)
{
	struct opening_start *s = ctx;
	struct wr_proj_row row = {0};
	struct wr_op_wish w = {.row = &row,
			       .kind = WR_OP_START,
			       .by = s->by,
			       .may_wait = s->may_wait,
			       .wait_s = s->wait_s};
	struct wr_err err = WR_ERR_INIT;
	struct wr_uuid op;

	if (why) {
		err = *why;
	} else if (wr_row_find(s->c, &s->project, &row, &err) == 0) {
		name_gap(s);
		w.args = wr_steal(&s->args);
		(void)wr_op_submit(s->c, &w, &op, &err);
	}
	if (s->q) {
		s->q->gone = NULL;
		if (err.code != WR_E_NONE)
			wr_req_fail(s->q, &err);
		else
			wr_req_reply_op(s->q, &op);
	}
	wr_proj_row_fini(&row);
	json_decref(s->args);
	free(s);
}

static int
open_first(struct wr_control *c, struct wr_req *q, json_t *args)
{
	struct opening_start *s = wr_calloc(1, sizeof(*s));
	struct wr_record e;

	s->c = c;
	s->q = q;
	s->project = q->row.id;
	s->accept_loss =
	    wr_call_bool(&q->call, "accept_loss", false) && wr_fleet_record(c, &q->row.id, &e);
	if (s->accept_loss)
		s->base = e.base;
	snprintf(s->by, sizeof(s->by), "%s", q->who.by);
	s->args = args;
	s->may_wait = wr_call_str(&q->call, "wait") != NULL;
	s->wait_s = wr_call_u64(&q->call, "wait", 0);
	q->held = s;
	q->gone = forget_start;
	wr_open_here(c, &q->row.id, wr_call_bool(&q->call, "accept_loss", false), on_open, s);
	return 0;
}

int
wr_on_start(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	struct wr_status st = {0};
	struct wr_settings set = {0};
	WR_SCOPED(wr_json_freep) json_t *holders = NULL;
	WR_SCOPED(wr_freep) char *home = NULL;
	json_t *o;

	if (wr_call_bool(&q->call, "accept_loss", false) && !(q->who.rights & WR_RIGHT_OPERATE))
		return wr_refuse(c, &q->who, q->call.api, q->call.ref, err);
	holders = wr_holders_parse(q->row.holders);
	if (wr_holder_check(holder_of(q), err) < 0 ||
	    wr_holder_room(holders, holder_of(q), err) < 0)
		return -1;
	wr_row_status(c, &q->row, &st);
	if (!q->row.desired || !st.active || will_change(c, &q->row.id) ||
	    (st.state != WR_ST_RUNNING && st.state != WR_ST_SAVING) || !command_lives(c, &q->row)) {
		json_t *args = wr_json_args(&q->call);

		wr_json_str(args, "holder", holder_of(q));
		if (wr_open_needed(c, &q->row.id))
			return open_first(c, q, args);
		return submit(c, q, WR_OP_START, args, err);
	}
	if (wr_holders_add(holders, holder_of(q), wr_clock_wall().s) &&
	    put_holders(c, &q->row, holders, err) < 0)
		return -1;
	o = receipt(c, q, "warren.start/1");
	wr_json_bool(o, "already", true);
	if (wr_row_settings(&q->row, &set, NULL) == 0)
		home = wr_settings_home(&set, c->node->root ? c->node->root : "");
	wr_settings_fini(&set);
	wr_json_str(o, "home", home);
	wr_json_u64(o, "uid", q->row.uid);
	wr_json_u64(o, "gid", q->row.gid);
	wr_json_str(o, "snapshot", *q->row.snapshot ? q->row.snapshot : NULL);
	add_names(o, "holders", holders);
	wr_req_reply(q, 200, 0, o);
	return 0;
}

int
wr_on_stop(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *holders = wr_holders_parse(q->row.holders);
	bool force = wr_call_bool(&q->call, "force", false);
	struct wr_status st = {0};
	const char *why;
	bool dropped;
	json_t *o;

	if (wr_holder_check(holder_of(q), err) < 0)
		return -1;
	if (wr_call_bool(&q->call, "if_idle", false) && (why = wr_not_idle(c, &q->row))) {
		o = receipt(c, q, "warren.stop/1");
		wr_json_bool(o, "stopped", false);
		wr_json_str(o, "reason", why);
		add_names(o, "holders", holders);
		wr_req_reply(q, 200, 0, o);
		return 0;
	}
	dropped = wr_holders_drop(holders, holder_of(q));
	if (!force && !wr_call_bool(&q->call, "if_idle", false) && json_array_size(holders) > 0) {
		if (dropped && put_holders(c, &q->row, holders, err) < 0)
			return -1;
		o = receipt(c, q, "warren.stop/1");
		wr_json_bool(o, "stopped", false);
		add_names(o, "holders", holders);
		wr_req_reply(q, 200, 0, o);
		return 0;
	}
	wr_row_status(c, &q->row, &st);
	if (!q->row.desired && !st.active && st.state == WR_ST_STOPPED &&
	    !will_change(c, &q->row.id)) {
		if (dropped && put_holders(c, &q->row, holders, err) < 0)
			return -1;
		o = receipt(c, q, "warren.stop/1");
		wr_json_bool(o, "stopped", true);
		wr_json_bool(o, "already", true);
		wr_json_u64(o, "processes", 0);
		wr_json_u64(o, "killed", 0);
		wr_json_null(o, "save");
		wr_json_array(o, "dropped");
		wr_json_array(o, "warnings");
		wr_req_reply(q, 200, 0, o);
		return 0;
	}
	o = wr_json_args(&q->call);
	add_names(o, "dropped", holders);
	return submit(c, q, WR_OP_STOP, o, err);
}

int
wr_on_restart(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	return submit(c, q, WR_OP_RESTART, wr_json_args(&q->call), err);
}

int
wr_on_save(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	return submit(c, q, WR_OP_SAVE, wr_json_args(&q->call), err);
}

int
wr_on_plain_op(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	static const enum wr_op_kind kind[WR_API_CALLS] = {
	    [WR_API_RESTORE] = WR_OP_RESTORE,
	    [WR_API_UNDO] = WR_OP_UNDO,
	    [WR_API_CHOWN] = WR_OP_CHOWN,
	};

	return submit(c, q, kind[q->call.api->id], wr_json_args(&q->call), err);
}

int
wr_on_undelete(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	int rc = wr_deletion_undelete(c, q, err);

	if (rc != 0)
		return rc;
	if (!q->row.deleted)
		return wr_err_set(err, WR_E_EXISTS, "project '%s' is not in the trash",
				  q->row.name);
	return submit(c, q, WR_OP_UNDELETE, wr_json_args(&q->call), err);
}

int
wr_on_delete(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	struct wr_status st = {0};
	int rc;

	wr_row_status(c, &q->row, &st);
	if (st.active && !wr_call_bool(&q->call, "force", false)) {
		wr_err_set(err, WR_E_BUSY, "project '%s' is active", q->row.name);
		return wr_err_hint(err, "warren stop %s, or delete it with --force", q->row.name);
	}
	if ((rc = wr_deletion_delete(c, q, err)) != 0)
		return rc;
	return submit(c, q, WR_OP_DELETE, wr_json_args(&q->call), err);
}

int
wr_on_purge(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	int64_t until = q->row.deleted + (int64_t)wr_age_span(c->node, c->node->config.trash_keep);

	if (!q->row.deleted) {
		wr_err_set(err, WR_E_DENIED, "project '%s' is not in the trash", q->row.name);
		return wr_err_hint(err, "warren delete %s", q->row.name);
	}
	if (!wr_call_bool(&q->call, "now", false) && wr_clock_wall().s < until) {
		wr_err_set(err, WR_E_DENIED, "project '%s' is kept in the trash until %s",
			   q->row.name, wr_fmt_utc(until).s);
		return wr_err_hint(err, "to remove it before that: warren purge %s --now",
				   q->row.name);
	}
	return submit(c, q, WR_OP_PURGE, wr_json_args(&q->call), err);
}

/* One end of a copy, which he must own. */
static int
copy_end(struct wr_control *c, struct wr_req *q, const char *ref, struct wr_proj_row *out,
	 struct wr_err *err)
{
	bool found = wr_store_proj_find(c->store, ref, true, false, out, err) == 0;

	if (!found && (q->who.rights & WR_RIGHT_READ))
		return -1;
	if (!found || !((q->who.rights & WR_RIGHT_OPERATE) || wr_who_owns(&q->who, &out->id)))
		return wr_refuse(c, &q->who, q->call.api, ref, err);
	return 0;
}

int
wr_on_copy(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	struct wr_proj_row from = {0}, to = {0};
	struct wr_op_wish w = {.row = &to, .kind = WR_OP_COPY, .by = q->who.by};
	struct wr_uuid op;
	int rc = -1;

	if (copy_end(c, q, wr_call_str(&q->call, "from"), &from, err) < 0 ||
	    copy_end(c, q, wr_call_str(&q->call, "to"), &to, err) < 0 ||
	    wr_row_volumes(c, &from, err) < 0)
		goto out;
	w.may_wait = wr_call_str(&q->call, "wait") != NULL;
	w.wait_s = wr_call_u64(&q->call, "wait", 0);
	w.args = wr_json_args(&q->call);
	wr_json_str(w.args, "from", from.id.s);
	wr_json_str(w.args, "to", to.id.s);
	rc = wr_op_submit_copy(c, &from, &w, &op, err);
	if (rc == 0)
		wr_req_reply_op(q, &op);
out:
	wr_proj_row_fini(&from);
	wr_proj_row_fini(&to);
	return rc;
}

/* ---- about operations ---- */

struct listing {
	struct wr_control *c;
	json_t *out;
	uint64_t left;
};

static int
list_op(void *ctx, const struct wr_op_row *r, struct wr_err *err WR_UNUSED)
{
	struct listing *l = ctx;
	json_t *o;

	o = wr_json_op(l->c, r);
	json_object_del(o, "schema");
	json_array_append_new(l->out, o);
	return --l->left == 0;
}

int
wr_on_ops(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	const char *ref = wr_call_str(&q->call, "project"), *state = wr_call_str(&q->call, "state");
	enum wr_op_state st = state ? wr_op_state_parse(state) : WR_OPS_UNSET;
	struct listing l = {.c = c, .left = wr_call_u64(&q->call, "limit", 100)};
	struct wr_proj_row row = {0};
	json_t *o;
	int rc;

	if (state && st == WR_OPS_UNSET)
		return wr_err_set(err, WR_E_INVALID, "state: '%s' is no state of an operation",
				  WR_Q(state));
	if (ref) {
		if (wr_store_proj_find(c->store, ref, true, true, &row, err) < 0)
			return q->who.rights & WR_RIGHT_READ
				   ? -1
				   : wr_refuse(c, &q->who, q->call.api, ref, err);
		if (!wr_who_sees(&q->who, &row.id)) {
			wr_proj_row_fini(&row);
			return wr_refuse(c, &q->who, q->call.api, ref, err);
		}
	}
	o = wr_json_begin("warren.operations/1");
	l.out = wr_json_array(o, "operations");
	rc = 0;
	if (ref || (q->who.rights & WR_RIGHT_READ))
		rc = l.left
			 ? wr_store_op_each(c->store, ref ? &row.id : NULL, st, 0, list_op, &l, err)
			 : 0;
	else
		for (size_t i = 0; rc == 0 && l.left && i < q->who.own_count; i++)
			rc = wr_store_op_each(c->store, &q->who.own[i], st, 0, list_op, &l, err);
	wr_proj_row_fini(&row);
	return wr_req_answer(q, rc, o);
}

static void
wait_over(struct wr_timer *t)
{
	struct wr_req *q = WR_OWNER(t, struct wr_req, until);
	struct wr_uuid id = q->op->row.id;

	wr_req_reply_op(q, &id);
}

int
wr_on_op_show(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	uint64_t wait = wr_call_u64(&q->call, "wait", 0);
	struct wr_op_row row = {0};
	struct wr_uuid id;
	struct wr_op *o;

	if (wr_op_find(c, q->call.ref, &row, err) < 0)
		return -1;
	id = row.id;
	o = wr_op_live(c, &row);
	wr_op_row_fini(&row);
	if (!o || wait == 0 || c->draining) {
		wr_req_reply_op(q, &id);
		return 0;
	}
	q->op = o;
	q->op_next = o->waiters;
	o->waiters = q;
	wr_timer_on(&c->loop, &q->until, WR_MIN(wait, 86400u) * WR_SECOND, wait_over);
	return 0;
}

int
wr_on_op_cancel(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	struct wr_op_row row = {0};
	struct wr_uuid id;
	struct wr_op *o;

	if (wr_op_find(c, q->call.ref, &row, err) < 0)
		return -1;
	id = row.id;
	o = wr_op_live(c, &row);
	if (!o) {
		wr_err_set(err, WR_E_BUSY, "operation %s is %s already", id.s,
			   wr_op_state_name(row.state));
		wr_op_row_fini(&row);
		return -1;
	}
	wr_op_row_fini(&row);
	if (wr_op_cancel(o, q->who.by, err) < 0)
		return -1;
	wr_req_reply_op(q, &id);
	return 0;
}

/* Its log is bounded where it is written. */
#define LOG_MAX (2u << 20)

int
wr_on_op_log(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;
	struct wr_uuid id;
	WR_SCOPED(wr_closep) int fd = -1;

	if (!wr_uuid_parse(q->call.ref, &id))
		return wr_err_set(err, WR_E_INVALID, "op: '%s' is no id", WR_Q(q->call.ref));
	fd = wr_opdir_open(c->node, &id, NULL);
	/* One that waits, or whose files are gone, has said nothing. */
	if (fd >= 0 && wr_read_file(fd, "log", LOG_MAX, &b, err) < 0) {
		if (err->code != WR_E_NOT_FOUND)
			return -1;
		wr_buf_clear(&b);
	}
	return wr_stream_text(q, &b, err);
}

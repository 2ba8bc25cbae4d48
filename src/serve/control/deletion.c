/* SPDX-License-Identifier: Apache-2.0 */
/*
 * X3: a project of several members is deleted, or comes back, by its record.
 *
 *   delete:   a majority answers -> stopped -> RAISE{DELETE} -> operation `delete` here
 *   undelete: RAISE{UNDELETE}, this node is the writer       -> operation `undelete` here
 *   members:  the record says otherwise than the disk -> `delete` or `undelete` by "fleet"
 *
 * The record comes first: whatever is cut off after it is finished here, by what record and disk
 * say.  Nothing is kept for that.  Who asked for the record tells the others until each has it.
 */
#include "base/log.h"
#include "base/str.h"
#include "serve/control/deletion.h"
#include "serve/control/fleet_int.h"
#include "serve/control/replicas.h"
#include "sys/clock.h"
#include "sys/crash.h"

#define TICK_NS WR_SECOND
#define RAISE_MS 75000
#define ASK_MS 5000
#define HELLO_MS 4000
#define OP_WAIT_S 60
/* What is not as the record says is looked at again after 2 s, later twice as long each time. */
#define AGAIN_S 2
#define AGAIN_MAX_S 60
/* LIMIT: projects that are looked at in one tick. */
#define AT_ONCE 32

/* A project whose copy here, or whose members, do not follow its record yet. */
struct following {
	struct wr_uuid project;
	uint64_t due_s; /* monotonic */
	unsigned tries;
	bool tell;                 /* the others are told */
	struct wr_epoch n;         /* of the record that they are told */
	bool told[WR_MEMBERS_MAX]; /* by the record's order */
	struct following *next;
};
struct wr_deletions {
	struct wr_control *c;
	struct following *list;
	struct deleting *calls;
	struct wr_timer tick;
};
/* A call. */
struct deleting {
	struct wr_control *c;
	struct wr_req *q; /* NULL: nobody waits any more */
	struct wr_uuid project;
	char name[64], by[64];
	bool undelete, stopped;
	json_t *args;
	size_t asked, there, need;
	struct wr_op_watch watch;
	struct wr_timer go;
	struct wr_err err;
	struct deleting *next;
};

static struct wr_deletions *
deletions_of(struct wr_control *c)
{
	return c->fleet ? c->fleet->deletions : NULL;
}

static uint64_t
now_s(void)
{
	return wr_clock_mono_ns() / WR_SECOND;
}

static struct deleting *
call_of(struct wr_deletions *d, const struct wr_uuid *project)
{
	struct deleting *k = d->calls;

	while (k && strcmp(k->project.s, project->s) != 0)
		k = k->next;
	return k;
}

/* ---- disks and members follow the record ---- */

static struct following *
follow(struct wr_deletions *d, const struct wr_uuid *project)
{
	struct following *f = d->list;

	while (f && strcmp(f->project.s, project->s) != 0)
		f = f->next;
	if (!f) {
		f = wr_calloc(1, sizeof(*f));
		f->project = *project;
		f->next = d->list;
		d->list = f;
	}
	f->due_s = now_s();
	return f;
}

/* What is to be done here, or WR_OP_NONE. A copy that is hidden was dropped: drop.c's. */
static enum wr_op_kind
due_here(const struct wr_member_state *ms, const struct wr_proj_row *row)
{
	if (!ms->has_record)
		return WR_OP_NONE;
	if (ms->record.state == WR_RECORD_DELETED)
		return row->deleted ? WR_OP_NONE : WR_OP_DELETE;
	return row->deleted && ms->record.member_count > 1 && !ms->hidden ? WR_OP_UNDELETE
									  : WR_OP_NONE;
}

static int
submit(struct wr_control *c, const struct wr_proj_row *row, enum wr_op_kind kind, json_t *args,
       const char *by, struct wr_uuid *out, struct wr_err *err)
{
	struct wr_op_wish w = {.row = row,
			       .kind = kind,
			       .args = args,
			       .by = by,
			       .may_wait = true,
			       .wait_s = OP_WAIT_S,
			       .scheduled = !strcmp(by, "fleet")};

	return wr_op_submit(c, &w, out, err);
}

/* false: it is as the record says. */
static bool
act(struct wr_control *c, const struct wr_member_state *ms)
{
	const struct wr_proj *p = wr_proj_find(c, &ms->project);
	struct wr_proj_row row = {0};
	struct wr_err err = WR_ERR_INIT;
	enum wr_op_kind kind = WR_OP_NONE;
	struct wr_uuid op;

	if (wr_row_find(c, &ms->project, &row, NULL) == 0)
		kind = due_here(ms, &row);
	/* What runs ends first; a stop among them, where it is still in use. */
	if (kind != WR_OP_NONE && !(p && (p->run || p->first)) &&
	    submit(c, &row, kind, json_object(), "fleet", &op, &err) < 0)
		wr_log_err(WR_LOG_WARNING, wr_op_kind_name(kind), &err);
	wr_proj_row_fini(&row);
	return kind != WR_OP_NONE;
}

struct telling {
	struct wr_control *c;
	struct wr_uuid project;
	struct wr_epoch n;
	size_t member;
};

static void
on_told(void *ctx, const struct wr_msg *answer, const struct wr_err *why WR_UNUSED)
{
	struct telling *t = ctx;
	struct wr_deletions *d = deletions_of(t->c);
	struct following *f = d ? d->list : NULL;

	while (f && strcmp(f->project.s, t->project.s) != 0)
		f = f->next;
	/* NACK: it knows a newer one. */
	if (f && answer && answer->kind != WR_MSG_ERROR && wr_epoch_cmp(&f->n, &t->n) == 0)
		f->told[t->member] = true;
	free(t);
}

/* false: all know it. */
static bool
tell(struct wr_control *c, struct following *f, const struct wr_member_state *ms)
{
	const struct wr_record *e = &ms->record;
	bool any = false;

	if (wr_epoch_cmp(&f->n, &e->n) != 0) {
		f->n = e->n;
		memset(f->told, 0, sizeof(f->told));
	}
	for (size_t i = 0; i < e->member_count; i++) {
		struct wr_msg m = WR_MSG_INIT;
		struct telling *t;

		if (f->told[i] || wr_node_id_eq(&e->member[i].node, &c->fleet->auth->self) ||
		    !wr_fleet_has(&c->fleet->auth->fleet, &e->member[i].node))
			continue;
		any = true;
		t = wr_calloc(1, sizeof(*t));
		*t = (struct telling){c, ms->project, e->n, i};
		m.kind = WR_MSG_INSTALL;
		m.project = ms->project;
		wr_buf_add(&m.record, ms->record_bytes.p, ms->record_bytes.len);
		wr_buf_add(&m.settings, ms->settings.p, ms->settings.len);
		wr_ask(c, &e->member[i].node.id, &m, ASK_MS, on_told, t);
	}
	return any;
}

/* false: it is done with. */
static bool
look(struct wr_deletions *d, struct following *f)
{
	struct wr_control *c = d->c;
	struct wr_member_state ms;
	bool more;

	if (call_of(d, &f->project)) {
		f->due_s = now_s() + AGAIN_S;
		return true;
	}
	if (wr_auth_load(c->fleet->auth, &f->project, &ms, NULL) < 0)
		return false;
	more = act(c, &ms);
	f->tell = f->tell && ms.has_record && tell(c, f, &ms);
	more |= f->tell;
	wr_member_fini(&ms);
	f->due_s =
	    now_s() + WR_MIN((uint64_t)AGAIN_S << WR_MIN(f->tries, 8u), (uint64_t)AGAIN_MAX_S);
	f->tries++;
	return more;
}

static void
on_tick(struct wr_timer *t)
{
	struct wr_deletions *d = WR_OWNER(t, struct wr_deletions, tick);
	struct following **at = &d->list;
	uint64_t now = now_s();
	size_t n = 0;

	wr_timer_on(&d->c->loop, t, TICK_NS, on_tick);
	if (d->c->draining || d->c->fleet->amnesia)
		return;
	while (*at && n < AT_ONCE) {
		struct following *f = *at;

		if (f->due_s > now || (n++, look(d, f))) {
			at = &f->next;
			continue;
		}
		*at = f->next;
		free(f);
	}
}

void
wr_deletion_learn(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_deletions *d = deletions_of(c);
	struct wr_proj_row row = {0};
	struct wr_member_state ms;

	if (!d || wr_row_find(c, project, &row, NULL) < 0)
		return;
	if (wr_auth_load(c->fleet->auth, project, &ms, NULL) == 0) {
		if (due_here(&ms, &row) != WR_OP_NONE)
			follow(d, project)->tries = 0;
		wr_member_fini(&ms);
	}
	wr_proj_row_fini(&row);
}

void
wr_deletion_op_ended(struct wr_control *c, const struct wr_op_row *op)
{
	struct wr_record e;

	if (!deletions_of(c) || op->state != WR_OPS_DONE ||
	    (op->kind != WR_OP_DELETE && op->kind != WR_OP_UNDELETE))
		return;
	/* What the others hold is asked of them anew when it comes back. */
	if (op->kind == WR_OP_DELETE && wr_fleet_record(c, &op->project, &e) &&
	    e.state == WR_RECORD_DELETED)
		(void)wr_store_replica_drop(c->store, &op->project, NULL, NULL);
	wr_deletion_learn(c, &op->project); /* it may have changed meanwhile */
}

bool
wr_deletion_offered(struct wr_control *c, const struct wr_msg *push, struct wr_err *err)
{
	struct wr_proj_row row = {0};
	struct wr_member_state ms;
	struct wr_msg m = WR_MSG_INIT;
	struct wr_record e;
	bool trashed;

	if (!deletions_of(c) || wr_row_find(c, &push->project, &row, NULL) < 0)
		return false;
	trashed = row.deleted != 0;
	wr_proj_row_fini(&row);
	if (!trashed || wr_record_decode(push->record.p, push->record.len, &e, NULL) < 0 ||
	    wr_auth_load(c->fleet->auth, &push->project, &ms, NULL) < 0)
		return false;
	trashed = ms.has_record && !ms.hidden && ms.record.state == WR_RECORD_DELETED &&
		  wr_epoch_cmp(&e.n, &ms.record.n) > 0;
	wr_member_fini(&ms);
	if (!trashed)
		return false;
	m.kind = WR_MSG_INSTALL;
	m.project = push->project;
	wr_buf_add(&m.record, push->record.p, push->record.len);
	wr_buf_add(&m.settings, push->settings.p, push->settings.len);
	wr_ask(
	    c, &c->fleet->auth->self.id, &m, ASK_MS, on_told,
	    wr_memdup(&(struct telling){.c = c, .project = push->project}, sizeof(struct telling)));
	wr_err_set(err, WR_E_BUSY, "its copy here comes out of the trash first");
	return true;
}

/* ---- calls ---- */

static void
call_free(struct deleting *k)
{
	struct deleting **at = &k->c->fleet->deletions->calls;

	while (*at != k)
		at = &(*at)->next;
	*at = k->next;
	wr_timer_off(&k->c->loop, &k->go);
	wr_ask_forget(k->c, k);
	wr_op_unwatch(k->c, &k->watch);
	if (k->q)
		k->q->gone = NULL;
	json_decref(k->args);
	free(k);
}

static void
forget_call(struct wr_req *q)
{
	struct deleting *k = q->held;

	k->q = NULL;
}

static struct deleting *
call_new(struct wr_control *c, struct wr_req *q, bool undelete)
{
	struct wr_deletions *d = c->fleet->deletions;
	struct deleting *k = wr_calloc(1, sizeof(*k));

	k->c = c;
	k->q = q;
	k->project = q->row.id;
	snprintf(k->name, sizeof(k->name), "%s", q->row.name);
	snprintf(k->by, sizeof(k->by), "%s", q->who.by);
	k->undelete = undelete;
	k->args = wr_json_args(&q->call);
	k->next = d->calls;
	d->calls = k;
	q->held = k;
	q->gone = forget_call;
	return k;
}

static void
call_fail(struct deleting *k, const struct wr_err *why)
{
	struct wr_req *q = k->q;

	wr_event(k->c, k->by, &k->project, k->undelete ? "undelete.failed" : "delete.failed",
		 why->msg, NULL);
	wr_deletion_learn(k->c, &k->project); /* the record may say so all the same */
	call_free(k);
	if (q)
		wr_req_fail(q, why);
}

static void
on_installed(void *ctx, const struct wr_msg *answer, const struct wr_err *why)
{
	struct deleting *k = ctx;
	struct wr_control *c = k->c;
	struct wr_req *q = k->q;
	struct wr_proj_row row = {0};
	struct wr_err err = WR_ERR_INIT;
	struct following *f;
	struct wr_uuid op;
	int rc = 0;

	if (!answer || answer->kind != WR_MSG_OK) {
		if (answer)
			wr_msg_get_err(answer, &err);
		else
			err = *why;
		call_fail(k, &err);
		return;
	}
	wr_crash_point("control.deletion-raised");
	f = follow(c->fleet->deletions, &k->project);
	f->tell = true;
	f->tries = 0;
	rc = wr_row_find(c, &k->project, &row, &err);
	if (rc == 0)
		rc = submit(c, &row, k->undelete ? WR_OP_UNDELETE : WR_OP_DELETE,
			    wr_steal(&k->args), k->by, &op, &err);
	wr_proj_row_fini(&row);
	if (rc < 0) {
		call_fail(k, &err); /* its record says so: it is done as soon as it can be */
		return;
	}
	call_free(k);
	if (q)
		wr_req_reply_op(q, &op);
}

/* To ourselves, as a hub would: its own INSTALL may have been lost, or be on its way. */
static void
on_raised(void *ctx, const struct wr_msg *answer, const struct wr_err *why)
{
	struct deleting *k = ctx;
	struct wr_msg m = WR_MSG_INIT;
	struct wr_err err = WR_ERR_INIT;

	if (answer && answer->kind == WR_MSG_RAISED) {
		m.kind = WR_MSG_INSTALL;
		m.project = k->project;
		wr_buf_add(&m.record, answer->record.p, answer->record.len);
		wr_buf_add(&m.settings, answer->settings.p, answer->settings.len);
		wr_ask(k->c, &k->c->fleet->auth->self.id, &m, ASK_MS, on_installed, k);
		return;
	}
	if (answer)
		wr_msg_get_err(answer, &err);
	else
		err = *why;
	call_fail(k, &err);
}

static void
raise_record(struct deleting *k)
{
	struct wr_control *c = k->c;
	struct wr_msg m = WR_MSG_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_member_state ms;

	if (wr_auth_load(c->fleet->auth, &k->project, &ms, &err) < 0) {
		call_fail(k, &err);
		return;
	}
	m.kind = WR_MSG_RAISE;
	m.project = k->project;
	m.wish = k->undelete ? WR_WISH_UNDELETE : WR_WISH_DELETE;
	m.node = c->fleet->auth->self;
	wr_buf_add(&m.record, ms.record_bytes.p, ms.record_bytes.len);
	wr_member_fini(&ms);
	wr_ask(c, wr_hub_pick(c), &m, RAISE_MS, on_raised, k);
}

static void
on_go(struct wr_timer *t)
{
	struct deleting *k = WR_OWNER(t, struct deleting, go);

	if (k->err.code != WR_E_NONE)
		call_fail(k, &k->err);
	else
		raise_record(k);
}

/* Stopped and saved, or not: from the loop. */
static void
on_stopped(struct wr_op_watch *w, const json_t *receipt, const struct wr_err *why)
{
	struct deleting *k = WR_OWNER(w, struct deleting, watch);

	if (!receipt && why)
		k->err = *why;
	else if (!receipt)
		wr_err_set(&k->err, WR_E_FAILED, "it was not stopped");
	wr_timer_on(&k->c->loop, &k->go, 0, on_go);
}

static void
stop_first(struct deleting *k)
{
	struct wr_control *c = k->c;
	struct wr_proj_row row = {0};
	struct wr_op_wish w = {.row = &row, .kind = WR_OP_STOP, .by = k->by};
	struct wr_err err = WR_ERR_INIT;
	struct wr_status st = {0};
	struct wr_uuid op;

	if (wr_row_find(c, &k->project, &row, &err) < 0) {
		call_fail(k, &err);
		return;
	}
	wr_row_status(c, &row, &st);
	if (!st.active && !row.desired) {
		wr_proj_row_fini(&row);
		raise_record(k);
		return;
	}
	w.args = json_object();
	wr_json_bool(w.args, "force", true);
	k->watch.fn = on_stopped;
	if (wr_op_submit(c, &w, &op, &err) < 0)
		call_fail(k, &err);
	else if (!wr_op_watch(c, &op, &k->watch))
		on_stopped(&k->watch, NULL, NULL);
	wr_proj_row_fini(&row);
}

static void
on_there(void *ctx, const struct wr_msg *answer, const struct wr_err *why WR_UNUSED)
{
	struct deleting *k = ctx;
	struct wr_err err = WR_ERR_INIT;

	k->asked--;
	k->there += answer && answer->kind == WR_MSG_HELLO_OK;
	if (k->asked)
		return;
	if (k->there >= k->need) {
		stop_first(k);
		return;
	}
	wr_err_set(&err, WR_E_BUSY,
		   "%zu of the nodes that keep '%s' answer, %zu must: nothing was changed",
		   k->there, k->name, k->need);
	wr_err_hint(&err, "warren explain %s", k->name);
	call_fail(k, &err);
}

/* A raise that too few answer would only keep the project from being saved. */
static void
ask_who_is_there(struct deleting *k, const struct wr_record *e)
{
	const struct wr_auth *a = k->c->fleet->auth;

	k->there = 1;
	k->need = wr_record_majority(e);
	for (size_t i = 0; i < e->member_count; i++) {
		struct wr_msg m = WR_MSG_INIT;

		if (wr_node_id_eq(&e->member[i].node, &a->self) ||
		    e->member[i].role == WR_ROLE_LEARNER)
			continue;
		m.kind = WR_MSG_HELLO;
		m.fleet_seq = a->fleet.seq;
		m.at = wr_clock_wall().s;
		k->asked++;
		wr_ask(k->c, &e->member[i].node.id, &m, HELLO_MS, on_there, k);
	}
	if (!k->asked)
		stop_first(k);
}

static int
busy(const struct wr_req *q, struct wr_err *err)
{
	wr_err_set(err, WR_E_BUSY, "project '%s' is being deleted, or comes back", q->row.name);
	return wr_err_hint(err, "again in a moment");
}

int
wr_deletion_delete(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	const struct wr_proj *p = wr_proj_find(c, &q->row.id);
	struct wr_record e;

	if (!deletions_of(c) || !wr_fleet_record(c, &q->row.id, &e) || e.member_count == 1)
		return 0;
	if (call_of(c->fleet->deletions, &q->row.id))
		return busy(q, err);
	if (e.state == WR_RECORD_DELETED)
		return 0;
	if (!wr_node_id_eq(&e.writer, &c->fleet->auth->self)) {
		wr_err_set(err, WR_E_DENIED, "the files of '%s' are kept by node %s", q->row.name,
			   wr_fleet_name(c, &e.writer.id));
		return wr_err_hint(
		    err, "there: warren delete %s; if it is gone: warren start %s here first",
		    q->row.name, q->row.name);
	}
	if (p && (p->run || p->first)) {
		wr_err_set(err, WR_E_BUSY, "project '%s' is busy", q->row.name);
		return wr_err_hint(err, "see 'warren op list'");
	}
	ask_who_is_there(call_new(c, q, false), &e);
	return 1;
}

int
wr_deletion_undelete(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	const struct wr_member *me;
	struct wr_record e;

	if (!deletions_of(c) || !wr_fleet_record(c, &q->row.id, &e) || e.state != WR_RECORD_DELETED)
		return 0;
	if (!q->row.deleted || call_of(c->fleet->deletions, &q->row.id))
		return busy(q, err);
	me = wr_record_has(&e, &c->fleet->auth->self);
	if (!me || me->role != WR_ROLE_DATA) {
		wr_err_set(err, WR_E_DENIED, "this node keeps no copy of '%s' that counts",
			   q->row.name);
		return wr_err_hint(err, "on node %s: warren undelete %s",
				   wr_fleet_name(c, &e.writer.id), q->row.id.s);
	}
	raise_record(call_new(c, q, true));
	return 1;
}

/* ---- beginning and end ---- */

static int
look_row(void *ctx, const struct wr_proj_row *r, struct wr_err *err WR_UNUSED)
{
	struct wr_control *c = ctx;
	struct wr_member_state ms;

	if (wr_auth_load(c->fleet->auth, &r->id, &ms, NULL) < 0)
		return 0;
	if (due_here(&ms, r) != WR_OP_NONE)
		follow(c->fleet->deletions, &r->id);
	/* Somebody may have been away all the time. */
	if (r->deleted && ms.has_record && ms.record.state == WR_RECORD_DELETED &&
	    wr_node_id_eq(&ms.record.writer, &c->fleet->auth->self))
		follow(c->fleet->deletions, &r->id)->tell = true;
	wr_member_fini(&ms);
	return 0;
}

void
wr_deletions_begin(struct wr_control *c)
{
	struct wr_deletions *d = wr_calloc(1, sizeof(*d));
	struct wr_err err = WR_ERR_INIT;

	d->c = c;
	c->fleet->deletions = d;
	if (wr_store_proj_each(c->store, 2, look_row, c, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "look for what was deleted", &err);
	wr_timer_on(&c->loop, &d->tick, TICK_NS, on_tick);
}

void
wr_deletions_end(struct wr_control *c)
{
	struct wr_deletions *d = deletions_of(c);
	struct wr_err why = WR_ERR_INIT;

	if (!d)
		return;
	wr_timer_off(&c->loop, &d->tick);
	wr_err_set(&why, WR_E_CANCELLED, "the daemon is ending");
	while (d->calls) {
		struct wr_req *q = d->calls->q;

		call_free(d->calls);
		if (q)
			wr_req_fail(q, &why);
	}
	while (d->list) {
		struct following *f = d->list;

		d->list = f->next;
		free(f);
	}
	free(d);
	c->fleet->deletions = NULL;
}

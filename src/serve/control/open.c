/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a project comes to run on this node, and to move to another one.
 *
 *   open: look at our own disk -> not the writer: RAISE at a hub, INSTALL here, look again
 *                              -> the newest files are not here: FILL_ASK, wait, look again
 *                              -> writer: a round of keepalives (lease_int.h) -> it may start
 *   move: the others are there (HELLO) -> stop, all safe -> RAISE to the other -> START there
 *
 * Each step looks at what is, so whatever was cut off goes on when it is asked for again.
 */
#include <fcntl.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "serve/control/fleet_int.h"
#include "serve/control/replicas.h"
#include "serve/control/scratch.h"
#include "sys/clock.h"
#include "sys/fs.h"

/* A hub tries for a minute. */
#define RAISE_MS 75000
#define ASK_MS 5000
#define HELLO_MS 4000
#define START_MS 600000
/* Who promised to send the files is reminded; all in all it may take so long. */
#define FILL_AGAIN_S 15
#define FILL_MAX_S 600
/* LIMIT */
#define WAITERS_MAX 16

struct wr_opening {
	struct wr_control *c;
	struct wr_uuid project;
	bool accept_loss;
	bool raised, filled; /* what was done already */
	size_t source;       /* position of the member that is to send the files */
	uint64_t fill_ns;    /* since when it is waited for; 0: it is not */
	struct wr_timer again;
	struct {
		wr_open_fn fn;
		void *ctx;
	} waiter[WAITERS_MAX];
	size_t waiter_count;
	struct wr_opening *next;
};

static void look(struct wr_opening *o);
static void look_soon(struct wr_timer *t);

/* ---- ends ---- */

static void
opening_free(struct wr_opening *o)
{
	struct wr_opening **at = wr_copies_openings(o->c);

	while (*at != o)
		at = &(*at)->next;
	*at = o->next;
	wr_timer_off(&o->c->loop, &o->again);
	wr_ask_forget(o->c, o);
	free(o);
}

static void
end(struct wr_opening *o, const struct wr_err *why)
{
	struct wr_opening now = *o;

	opening_free(o);
	for (size_t i = 0; i < now.waiter_count; i++)
		now.waiter[i].fn(now.waiter[i].ctx, why);
}

static void
fail(struct wr_opening *o, enum wr_err_code code, const char *text, const char *hint)
{
	struct wr_err why = WR_ERR_INIT;

	wr_err_set(&why, code, "%s", text);
	if (hint)
		wr_err_hint(&why, "%s", hint);
	end(o, &why);
}

static void
look_later(struct wr_opening *o, uint64_t after_ns)
{
	wr_timer_on(&o->c->loop, &o->again, after_ns, look_soon);
}

/* ---- raise ---- */

static void
on_installed(void *ctx, const struct wr_msg *answer WR_UNUSED, const struct wr_err *why WR_UNUSED)
{
	look(ctx);
}

/* To ourselves, as a hub would: its own INSTALL may have been lost, or be on its way. */
static void
install(struct wr_control *c, const struct wr_uuid *project, const struct wr_msg *raised,
	wr_ask_fn fn, void *ctx)
{
	struct wr_msg m = WR_MSG_INIT;

	m.kind = WR_MSG_INSTALL;
	m.project = *project;
	wr_buf_add(&m.record, raised->record.p, raised->record.len);
	wr_buf_add(&m.settings, raised->settings.p, raised->settings.len);
	wr_ask(c, &c->fleet->auth->self.id, &m, ASK_MS, fn, ctx);
}

static void
refused(const struct wr_msg *answer, const struct wr_err *why, struct wr_err *out)
{
	if (answer)
		wr_msg_get_err(answer, out);
	else
		*out = *why;
}

static void
on_raised(void *ctx, const struct wr_msg *answer, const struct wr_err *why)
{
	struct wr_opening *o = ctx;
	struct wr_err e = WR_ERR_INIT;

	if (answer && answer->kind == WR_MSG_RAISED) {
		install(o->c, &o->project, answer, on_installed, o);
		return;
	}
	refused(answer, why, &e);
	end(o, &e);
}

static void
ask_raise(struct wr_control *c, const struct wr_member_state *ms, const struct wr_node_id *writer,
	  bool accept_loss, wr_ask_fn fn, void *ctx)
{
	struct wr_msg m = WR_MSG_INIT;

	m.kind = WR_MSG_RAISE;
	m.project = ms->project;
	m.wish = WR_WISH_WRITER;
	m.node = *writer;
	m.flag = accept_loss;
	wr_buf_add(&m.record, ms->record_bytes.p, ms->record_bytes.len);
	wr_ask(c, wr_hub_pick(c), &m, RAISE_MS, fn, ctx);
}

/* ---- fill ---- */

static bool
fill_is_here(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	WR_SCOPED(wr_closep) int repo = -1;

	if (wr_place_of_find(c->node, project, &place, NULL) == 0)
		repo = wr_repo_dir_open(&place, NULL);
	wr_place_of_fini(&place);
	return repo >= 0 && faccessat(repo, "refs/warren/fill", F_OK, 0) == 0;
}

static void
on_fill_asked(void *ctx, const struct wr_msg *answer, const struct wr_err *why WR_UNUSED)
{
	struct wr_opening *o = ctx;

	if (answer && answer->kind == WR_MSG_OK) {
		look_later(o, FILL_AGAIN_S * (uint64_t)WR_SECOND);
		return;
	}
	o->source++; /* the next one */
	look_later(o, 0);
}

static void
fill(struct wr_opening *o, const struct wr_member_state *ms)
{
	const struct wr_record *e = &ms->record;
	struct wr_msg m = WR_MSG_INIT;

	if (!o->fill_ns)
		o->fill_ns = wr_clock_mono_ns();
	if (wr_clock_mono_ns() - o->fill_ns > FILL_MAX_S * (uint64_t)WR_SECOND) {
		fail(o, WR_E_BUSY, "the newest files are still not here",
		     "they go on coming: start it again later");
		return;
	}
	while (o->source < e->member_count &&
	       (e->member[o->source].role == WR_ROLE_WITNESS ||
		wr_node_id_eq(&e->member[o->source].node, &o->c->fleet->auth->self)))
		o->source++;
	if (o->source >= e->member_count) {
		fail(o, WR_E_FAILED, "no node that answers has the newest files",
		     "wait until one is back: warren locate shows who has them");
		return;
	}
	m.kind = WR_MSG_FILL_ASK;
	m.project = o->project;
	m.version = e->base;
	wr_ask(o->c, &e->member[o->source].node.id, &m, ASK_MS, on_fill_asked, o);
}

/* ---- the others say so too ---- */

/* May it run without them? */
static bool
runs_alone(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_proj_row row = {0};
	struct wr_settings set = {0};
	bool alone = wr_row_find(c, project, &row, NULL) == 0 &&
		     wr_row_settings(&row, &set, NULL) == 0 &&
		     !strcmp(wr_settings_str(&set, "isolation"), "run");

	wr_settings_fini(&set);
	wr_proj_row_fini(&row);
	return alone;
}

static void
on_wanted(void *ctx, const struct wr_err *why)
{
	struct wr_opening *o = ctx;

	if (why && !o->raised && !wr_fleet_is_writer(o->c, &o->project))
		look_later(o, 0); /* they know a newer record, which is here by now */
	else
		end(o, why && !runs_alone(o->c, &o->project) ? why : NULL);
}

/* ---- the steps ---- */

static void
look_soon(struct wr_timer *t)
{
	look(WR_OWNER(t, struct wr_opening, again));
}

static void
look(struct wr_opening *o)
{
	struct wr_control *c = o->c;
	struct wr_err err = WR_ERR_INIT;
	struct wr_member_env env;
	struct wr_member_state ms;

	wr_timer_off(&c->loop, &o->again);
	if (wr_auth_load(c->fleet->auth, &o->project, &ms, &err) < 0) {
		end(o, &err);
		return;
	}
	wr_member_env_of(c, &o->project, &env);
	switch (ms.has_record ? wr_writer_stand(&ms, &env, &err) : WR_WRITER_READY) {
	case WR_WRITER_NOT:
		if (ms.record.state == WR_RECORD_DELETED)
			wr_err_hint(&err, "warren undelete %s", o->project.s);
		if (o->raised || !ms.has_record || ms.record.state == WR_RECORD_DELETED) {
			end(o, &err);
			break;
		}
		o->raised = true;
		ask_raise(c, &ms, &c->fleet->auth->self, o->accept_loss, on_raised, o);
		break;
	case WR_WRITER_FETCH:
		if (o->filled)
			wr_lease_want(c, &o->project, on_wanted, o);
		else
			fill(o, &ms);
		break;
	case WR_WRITER_OPEN:
	case WR_WRITER_READY:
		if (ms.has_record)
			wr_lease_want(c, &o->project, on_wanted, o);
		else
			end(o, NULL);
		break;
	}
	wr_member_fini(&ms);
}

void
wr_open_learned(struct wr_control *c, const struct wr_uuid *project)
{
	for (struct wr_opening *o = *wr_copies_openings(c); o; o = o->next)
		if (!strcmp(o->project.s, project->s) && o->fill_ns && !o->filled &&
		    fill_is_here(c, project)) {
			o->filled = true;
			look_later(o, 0);
		}
}

bool
wr_open_needed(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_member_state ms;
	struct wr_member_env env;
	enum wr_writer_stand s;
	bool alone;

	if (!c->fleet || !c->fleet->copies || wr_auth_load(c->fleet->auth, project, &ms, NULL) < 0)
		return false;
	wr_member_env_of(c, project, &env);
	s = ms.has_record ? wr_writer_stand(&ms, &env, NULL) : WR_WRITER_READY;
	alone = !ms.has_record || wr_record_voters(&ms.record) == 1;
	wr_member_fini(&ms);
	return !alone || (s != WR_WRITER_READY && s != WR_WRITER_OPEN);
}

void
wr_open_here(struct wr_control *c, const struct wr_uuid *project, bool accept_loss, wr_open_fn fn,
	     void *ctx)
{
	struct wr_opening *o;

	struct wr_opening **all = wr_copies_openings(c);

	for (o = *all; o; o = o->next)
		if (!strcmp(o->project.s, project->s) && o->accept_loss == accept_loss &&
		    o->waiter_count < WAITERS_MAX)
			break;
	if (!o) {
		o = wr_calloc(1, sizeof(*o));
		o->c = c;
		o->project = *project;
		o->accept_loss = accept_loss;
		o->next = *all;
		*all = o;
		look_later(o, 0);
	}
	o->waiter[o->waiter_count].fn = fn;
	o->waiter[o->waiter_count++].ctx = ctx;
}

void
wr_open_end(struct wr_control *c)
{
	struct wr_opening **all = wr_copies_openings(c);
	struct wr_err why = WR_ERR_INIT;

	wr_err_set(&why, WR_E_CANCELLED, "the daemon is ending");
	while (*all)
		end(*all, &why);
}

/* ---- START: another node moved it here ---- */

struct started {
	struct wr_control *c;
	struct wr_asked *k; /* NULL: our own wish */
	struct wr_uuid project;
	char by[64];
};

static void
answer_start(struct started *s, const struct wr_err *why)
{
	struct wr_msg a = WR_MSG_INIT;

	if (s->k && why) {
		wr_asked_fail(s->k, why);
	} else if (s->k) {
		wr_msg_answer(&a, &s->k->q, &s->c->fleet->auth->self, WR_MSG_OK);
		wr_asked_answer(s->k, &a);
	} else if (why) {
		wr_event(s->c, s->by, &s->project, "move.failed", why->msg, NULL);
	}
	free(s);
}

static void
start_opened(void *ctx, const struct wr_err *why)
{
	struct started *s = ctx;
	struct wr_proj_row row = {0};
	struct wr_op_wish w = {.row = &row, .kind = WR_OP_START, .by = s->by};
	struct wr_err err = WR_ERR_INIT;
	struct wr_uuid op;
	int rc = -1;

	if (why) {
		answer_start(s, why);
		return;
	}
	if (wr_row_find(s->c, &s->project, &row, &err) == 0) {
		w.args = json_object();
		wr_json_str(w.args, "holder", "manual");
		rc = wr_op_submit(s->c, &w, &op, &err);
	}
	wr_proj_row_fini(&row);
	answer_start(s, rc < 0 ? &err : NULL);
}

static void
start_here(struct wr_control *c, const struct wr_uuid *project, struct wr_asked *k, const char *by)
{
	struct started *s = wr_calloc(1, sizeof(*s));

	s->c = c;
	s->k = k;
	s->project = *project;
	snprintf(s->by, sizeof(s->by), "%s", by);
	wr_open_here(c, project, false, start_opened, s);
}

void
wr_open_asked(struct wr_asked *k)
{
	struct wr_control *c = k->c;
	struct wr_err err = WR_ERR_INIT;
	struct wr_record e;
	char by[64];

	if (!wr_fleet_record(c, &k->q.project, &e) ||
	    !wr_node_id_eq(&e.writer, &c->fleet->auth->self))
		wr_err_set(&err, WR_E_CHANGED, "this node is not its writer");
	else if (!wr_record_has(&e, &k->q.from))
		wr_err_set(&err, WR_E_DENIED, "who asks keeps no copy of it");
	if (err.code != WR_E_NONE) {
		wr_asked_fail(k, &err);
		return;
	}
	snprintf(by, sizeof(by), "node %.50s", wr_fleet_name(c, &k->q.from.id));
	start_here(c, &k->q.project, k, by);
}

/* ---- move ---- */

struct moving {
	struct wr_control *c;
	struct wr_req *q; /* NULL: nobody waits any more */
	struct wr_uuid project;
	char name[64], by[64];
	struct wr_node_id to;
	bool accept_loss, active, stopped;
	size_t asked, there, need;
	bool target_there;
	struct wr_op_watch watch;
	struct wr_timer go;
	struct wr_err err;
	uint64_t epoch;
};

static void
forget_move(struct wr_req *q)
{
	struct moving *m = q->held;

	m->q = NULL;
}

static void
move_fail(struct moving *m, const struct wr_err *why)
{
	wr_event(m->c, m->by, &m->project, "move.failed", why->msg, NULL);
	/* What ran goes on running, here. */
	if (m->stopped && m->active && !m->c->draining)
		start_here(m->c, &m->project, NULL, m->by);
	if (m->q) {
		m->q->gone = NULL;
		wr_req_fail(m->q, why);
	}
	wr_timer_off(&m->c->loop, &m->go);
	free(m);
}

static void
move_done(struct moving *m, const struct wr_err *not_started)
{
	json_t *o = wr_json_begin("warren.move/1");
	json_t *warnings = json_array();
	WR_SCOPED(wr_freep)
	char *why =
	    wr_asprintf("to node %s, epoch %" PRIu64, wr_fleet_name(m->c, &m->to.id), m->epoch);

	wr_json_str(o, "project", m->project.s);
	wr_json_str(o, "name", m->name);
	wr_json_str(o, "node", m->c->node->id.s);
	wr_json_u64(o, "epoch", m->epoch);
	wr_json_str(o, "to", m->to.id.s);
	wr_json_str(o, "to_name", wr_fleet_name(m->c, &m->to.id));
	wr_json_bool(o, "started", m->active && !not_started);
	wr_scratch_left(m->c, &m->project, o);
	if (not_started) {
		WR_SCOPED(wr_freep)
		char *text = wr_asprintf("it is there, but does not run yet: %s", not_started->msg);

		wr_json_add_str(warnings, text);
	}
	wr_json_take(o, "warnings", warnings);
	wr_event(m->c, m->by, &m->project, "moved", why, NULL);
	if (m->q) {
		m->q->gone = NULL;
		wr_req_reply(m->q, 200, not_started ? 3 : 0, o);
	} else {
		json_decref(o);
	}
	wr_timer_off(&m->c->loop, &m->go);
	free(m);
}

static void
on_there_started(void *ctx, const struct wr_msg *answer, const struct wr_err *why)
{
	struct wr_err e = WR_ERR_INIT;

	if (answer && answer->kind == WR_MSG_OK) {
		move_done(ctx, NULL);
		return;
	}
	refused(answer, why, &e);
	move_done(ctx, &e);
}

static void
on_move_installed(void *ctx, const struct wr_msg *answer WR_UNUSED,
		  const struct wr_err *why WR_UNUSED)
{
	struct moving *m = ctx;
	struct wr_msg q = WR_MSG_INIT;

	if (!m->active) {
		move_done(m, NULL);
		return;
	}
	q.kind = WR_MSG_START;
	q.project = m->project;
	wr_ask(m->c, &m->to.id, &q, START_MS, on_there_started, m);
}

static void
on_move_raised(void *ctx, const struct wr_msg *answer, const struct wr_err *why)
{
	struct moving *m = ctx;
	struct wr_err e = WR_ERR_INIT;
	struct wr_record r;

	if (answer && answer->kind == WR_MSG_RAISED) {
		if (wr_record_decode(answer->record.p, answer->record.len, &r, NULL) == 0)
			m->epoch = r.n.number;
		install(m->c, &m->project, answer, on_move_installed, m);
		return;
	}
	refused(answer, why, &e);
	move_fail(m, &e);
}

static void
move_raise(struct moving *m)
{
	struct wr_member_state ms;
	struct wr_err err = WR_ERR_INIT;

	if (wr_auth_load(m->c->fleet->auth, &m->project, &ms, &err) < 0) {
		move_fail(m, &err);
		return;
	}
	ask_raise(m->c, &ms, &m->to, m->accept_loss, on_move_raised, m);
	wr_member_fini(&ms);
}

static void
move_go(struct wr_timer *t)
{
	struct moving *m = WR_OWNER(t, struct moving, go);

	if (m->err.code != WR_E_NONE)
		move_fail(m, &m->err);
	else
		move_raise(m);
}

/* Stopped and saved, or not: from the loop. What goes is what is safe (W5), or he takes the loss.
 */
static void
on_saved(struct wr_op_watch *w, const json_t *receipt, const struct wr_err *why)
{
	struct moving *m = WR_OWNER(w, struct moving, watch);

	m->stopped = receipt != NULL;
	if (!receipt && why) {
		m->err = *why;
	} else if (!m->accept_loss && !wr_json_get_bool(receipt, "safe", false)) {
		wr_err_set(&m->err, WR_E_BUSY,
			   "'%s' stays here: its newest files are not safe on other nodes",
			   m->name);
		wr_err_hint(&m->err, "'warren save %s' says why; --accept-loss moves what is safe",
			    m->name);
	}
	wr_timer_on(&m->c->loop, &m->go, 0, move_go);
}

/* What is done here before another node takes over. NONE: all that this node could add is safe, or
 * given up. */
static enum wr_op_kind
last_op(const struct moving *m, const struct wr_status *st)
{
	struct wr_work work = {0};
	struct wr_member_state ms;
	struct wr_member_env env;
	enum wr_writer_stand stand = WR_WRITER_NOT;
	bool dirty;

	if (m->active || st->state != WR_ST_STOPPED)
		return WR_OP_STOP;
	if (m->accept_loss)
		return WR_OP_NONE;
	dirty = wr_work_load(m->c->node, &m->project, &work, NULL) == 0 && work.dirty;
	wr_work_fini(&work);
	if (wr_auth_load(m->c->fleet->auth, &m->project, &ms, NULL) == 0) {
		wr_member_env_of(m->c, &m->project, &env);
		stand = wr_writer_stand(&ms, &env, NULL);
		wr_member_fini(&ms);
	}
	/* Of an epoch that it never opened it has nothing. */
	if (stand != WR_WRITER_READY && stand != WR_WRITER_OPEN)
		return WR_OP_NONE;
	return dirty ? WR_OP_SAVE : WR_OP_REPLICATE;
}

static void
move_stop(struct moving *m)
{
	struct wr_proj_row row = {0};
	struct wr_op_wish w = {.row = &row, .by = m->by};
	struct wr_err err = WR_ERR_INIT;
	struct wr_status st = {0};
	struct wr_uuid op;

	if (wr_row_find(m->c, &m->project, &row, &err) < 0) {
		move_fail(m, &err);
		return;
	}
	wr_row_status(m->c, &row, &st);
	m->active = row.desired || st.active;
	w.kind = last_op(m, &st);
	if (w.kind == WR_OP_NONE) {
		wr_proj_row_fini(&row);
		move_raise(m);
		return;
	}
	w.args = json_object();
	if (w.kind == WR_OP_STOP)
		wr_json_bool(w.args, "force", true);
	m->watch.fn = on_saved;
	if (wr_op_submit(m->c, &w, &op, &err) < 0)
		move_fail(m, &err);
	else if (!wr_op_watch(m->c, &op, &m->watch))
		on_saved(&m->watch, NULL, NULL);
	wr_proj_row_fini(&row);
}

static void
on_there(void *ctx, const struct wr_msg *answer, const struct wr_err *why WR_UNUSED)
{
	struct moving *m = ctx;
	struct wr_err err = WR_ERR_INIT;

	m->asked--;
	if (answer && answer->kind == WR_MSG_HELLO_OK) {
		m->there++;
		m->target_there |= wr_node_id_eq(&answer->from, &m->to);
	}
	if (m->asked)
		return;
	if (m->target_there && m->there >= m->need) {
		move_stop(m);
		return;
	}
	if (!m->target_there)
		wr_err_set(&err, WR_E_BUSY, "node %s does not answer",
			   wr_fleet_name(m->c, &m->to.id));
	else
		wr_err_set(&err, WR_E_BUSY,
			   "%zu of the nodes that keep '%s' answer, %zu must: nothing was changed",
			   m->there, m->name, m->need);
	wr_err_hint(&err, "warren explain %s", m->name);
	move_fail(m, &err);
}

/* Everybody is asked before anything is stopped. */
static void
move_begin(struct moving *m, const struct wr_record *e)
{
	const struct wr_auth *a = m->c->fleet->auth;

	m->there = 1;
	m->need = wr_record_majority(e);
	for (size_t i = 0; i < e->member_count; i++) {
		struct wr_msg q = WR_MSG_INIT;

		if (wr_node_id_eq(&e->member[i].node, &a->self) ||
		    e->member[i].role == WR_ROLE_LEARNER)
			continue;
		q.kind = WR_MSG_HELLO;
		q.fleet_seq = a->fleet.seq;
		q.at = wr_clock_wall().s;
		m->asked++;
		wr_ask(m->c, &e->member[i].node.id, &q, HELLO_MS, on_there, m);
	}
}

static int
check_move(struct wr_control *c, struct wr_req *q, const struct wr_fleet_node *to,
	   const struct wr_record *e, struct wr_err *err)
{
	const struct wr_member *t = wr_record_has(e, &to->node);

	if (!t || t->role != WR_ROLE_DATA) {
		wr_err_set(err, WR_E_INVALID, "to: node %s keeps no copy of '%s'", to->name,
			   q->row.name);
		return wr_err_hint(err, "warren explain %s shows who does", q->row.name);
	}
	if (!wr_node_id_eq(&e->writer, &c->fleet->auth->self)) {
		wr_err_set(err, WR_E_DENIED, "the files of '%s' are kept by node %s", q->row.name,
			   wr_fleet_name(c, &e->writer.id));
		return wr_err_hint(err, "there: warren move %s --to %s", q->row.name, to->name);
	}
	if (wr_node_id_eq(&to->node, &e->writer))
		return wr_err_set(err, WR_E_EXISTS, "'%s' is on node %s already", q->row.name,
				  to->name);
	return 0;
}

int
wr_on_move(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	const struct wr_fleet_node *to;
	struct wr_record e;
	struct moving *m;

	if (!c->fleet)
		return wr_err_set(err, WR_E_UNSUPPORTED, "this node belongs to no fleet");
	to = wr_fleet_node_of(c, wr_call_str(&q->call, "to"), err);
	if (!to)
		return -1;
	if (!wr_fleet_record(c, &q->row.id, &e))
		return wr_err_set(err, WR_E_NOT_FOUND, "'%s' has no record in the fleet yet",
				  q->row.name);
	if (check_move(c, q, to, &e, err) < 0)
		return -1;
	m = wr_calloc(1, sizeof(*m));
	m->c = c;
	m->q = q;
	m->project = q->row.id;
	snprintf(m->name, sizeof(m->name), "%s", q->row.name);
	snprintf(m->by, sizeof(m->by), "%s", q->who.by);
	m->to = to->node;
	m->accept_loss = wr_call_bool(&q->call, "accept_loss", false);
	q->held = m;
	q->gone = forget_move;
	move_begin(m, &e);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Members that come and go, one record after the other, so that there are never fewer copies in
 * between:
 *
 *   add     a raise: the node becomes a learner -> the writer sends it all (replicate) -> it holds
 *           the newest version -> a raise: it becomes a voter
 *   witness a raise: a learner -> at once another: it votes, and is sent nothing
 *   remove  a raise: the node is no member; it sees to its copy itself (drop.c)
 *
 * Whoever asks for an `add` sees to the first raise alone; the rest is the writer's, by itself,
 * also after a restart: a learner in the record is all that has to be known.
 */
#include "base/log.h"
#include "base/str.h"
#include "serve/control/drops.h"
#include "serve/control/fleet_int.h"
#include "serve/control/replicas.h"
#include "sys/clock.h"

#define RAISE_MS 75000
/* A learner is tried again after this, then twice as long each time, up to the most. */
#define AGAIN_S 2
#define AGAIN_MAX_S 300
#define LOOK_NS (WR_SECOND / 4)

static uint64_t
now_s(void)
{
	return wr_clock_mono_ns() / WR_SECOND;
}

/* ---- learners ---- */

/* A project that is written here and has learners, or a record that is newer than its files. */
struct wr_fill {
	struct wr_control *c; /* NULL: it ended while a hub was asked */
	struct wr_uuid project;
	struct wr_node_id
	    filled;   /* holds the newest version, as it said itself; inc 0: none does */
	bool asking;  /* a hub */
	bool sending; /* its operation is under way */
	uint64_t due_s;
	unsigned tries;
	char told[128];
	struct wr_fill *next;
};

static const struct wr_member *
learner_of(const struct wr_record *e)
{
	for (size_t i = 0; i < e->member_count; i++)
		if (e->member[i].role == WR_ROLE_LEARNER)
			return &e->member[i];
	return NULL;
}

static struct wr_fill *
fill_find(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_fill *f = c->fleet->drops->fills;

	while (f && strcmp(f->project.s, project->s) != 0)
		f = f->next;
	return f;
}

static void
fill_free(struct wr_control *c, struct wr_fill *f)
{
	struct wr_fill **at = &c->fleet->drops->fills;

	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	if (f->asking)
		f->c = NULL; /* the answer frees it */
	else
		free(f);
}

static void
fill_later(struct wr_fill *f, const struct wr_err *why)
{
	uint64_t s = AGAIN_S;

	for (unsigned i = 0; i < f->tries && s < AGAIN_MAX_S; i++)
		s *= 2;
	f->tries++;
	f->due_s = now_s() + WR_MIN(s, (uint64_t)AGAIN_MAX_S);
	if (!why || !strncmp(f->told, why->msg, sizeof(f->told) - 1))
		return;
	snprintf(f->told, sizeof(f->told), "%.127s", why->msg);
	wr_event(f->c, "fleet", &f->project, "replica.waits", why->msg, NULL);
}

static void
install_here(struct wr_control *c, const struct wr_msg *answer)
{
	struct wr_msg m = WR_MSG_INIT;

	m.kind = WR_MSG_INSTALL;
	m.project = answer->project;
	wr_buf_add(&m.record, answer->record.p, answer->record.len);
	wr_buf_add(&m.settings, answer->settings.p, answer->settings.len);
	wr_ask(c, &c->fleet->auth->self.id, &m, RAISE_MS, NULL, NULL);
}

static void
ask_raise(struct wr_control *c, const struct wr_record *e, unsigned wish,
	  const struct wr_node_id *node, wr_ask_fn fn, void *ctx)
{
	struct wr_msg m = WR_MSG_INIT;

	m.kind = WR_MSG_RAISE;
	m.project = e->project;
	m.wish = wish;
	m.node = *node;
	wr_record_encode(e, &m.record);
	wr_ask(c, wr_hub_pick(c), &m, RAISE_MS, fn, ctx);
}

/* What an answer to RAISE says. */
static int
raised(const struct wr_msg *answer, const struct wr_err *why, struct wr_record *out,
       struct wr_err *err)
{
	if (!answer) {
		*err = *why;
		return wr_err_wrap(err, "ask a hub");
	}
	if (answer->kind != WR_MSG_RAISED) {
		wr_msg_get_err(answer, err);
		if (err->code == WR_E_NONE)
			wr_err_set(err, WR_E_FAILED, "a hub did not answer the question");
		return -1;
	}
	return wr_record_decode(answer->record.p, answer->record.len, out, err);
}

static void
on_voter(void *ctx, const struct wr_msg *answer, const struct wr_err *why)
{
	struct wr_fill *f = ctx;
	struct wr_err err = WR_ERR_INIT;
	struct wr_record e;
	WR_SCOPED(wr_freep) char *text = NULL;

	f->asking = false;
	if (!f->c) {
		free(f);
		return;
	}
	if (raised(answer, why, &e, &err) < 0) {
		f->filled.inc = 0;
		fill_later(f, &err);
		return;
	}
	install_here(f->c, answer);
	text = wr_asprintf("node %s holds a copy that counts from now on (epoch %" PRIu64 ")",
			   wr_fleet_name(f->c, &f->filled.id), e.n.number);
	wr_event(f->c, "fleet", &f->project, "replica.added", text, NULL);
	f->filled.inc = 0;
	f->tries = 0;
	f->due_s = now_s(); /* the new record is to be opened; is there another learner? */
}

/* to: NULL: to all. */
static void
send_all(struct wr_fill *f, const struct wr_member *to)
{
	struct wr_control *c = f->c;
	struct wr_proj_row row = {0};
	struct wr_err err = WR_ERR_INIT;
	json_t *targets = to ? json_array() : NULL;
	struct wr_uuid op;
	int rc = wr_row_find(c, &f->project, &row, &err);

	if (to)
		wr_json_add_str(targets, to->node.id.s);
	if (rc == 0) {
		rc = wr_copies_replicate(c, &row, targets, "fleet", &op, &err);
		wr_proj_row_fini(&row);
	} else {
		json_decref(targets);
	}
	if (rc < 0)
		fill_later(f, err.code == WR_E_BUSY ? NULL : &err);
	else
		f->sending = true;
}

/* Is there something for its writer to do, here? Learners; or the members are others than when its
 * newest version was made: until one of the new record is with them, nothing of it is safe (W2). */
static bool
wants(struct wr_control *c, const struct wr_uuid *project, struct wr_record *out)
{
	struct wr_member_state s;
	struct wr_member_env env;
	bool yes = false;

	wr_member_init(&s, project);
	if (wr_auth_load(c->fleet->auth, project, &s, NULL) == 0 && s.has_record && s.has_save &&
	    wr_node_id_eq(&s.record.writer, &c->fleet->auth->self) &&
	    s.record.state == WR_RECORD_LIVE) {
		wr_member_env_of(c, project, &env);
		*out = s.record;
		yes = learner_of(&s.record) || wr_writer_stand(&s, &env, NULL) == WR_WRITER_OPEN;
	}
	wr_member_fini(&s);
	return yes;
}

/* false: f is gone. */
static bool
fill_one(struct wr_control *c, struct wr_fill *f)
{
	struct wr_record e;

	if (!wants(c, &f->project, &e)) {
		fill_free(c, f);
		return false;
	}
	if (f->filled.inc && wr_record_has(&e, &f->filled)) {
		f->asking = true;
		ask_raise(c, &e, WR_WISH_VOTER, &f->filled, on_voter, f);
		return true;
	}
	send_all(f, learner_of(&e));
	return true;
}

void
wr_fills_tick(struct wr_control *c)
{
	struct wr_fill *next;
	uint64_t now = now_s();

	for (struct wr_fill *f = c->fleet->drops->fills; f; f = next) {
		next = f->next;
		if (!f->asking && !f->sending && f->due_s <= now)
			(void)fill_one(c, f);
	}
}

void
wr_fills_end(struct wr_control *c)
{
	while (c->fleet->drops->fills)
		fill_free(c, c->fleet->drops->fills);
}

void
wr_fill_learn(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_fill *f;
	struct wr_record e;

	if (!c->fleet || !c->fleet->drops || fill_find(c, project) || !wants(c, project, &e))
		return;
	f = wr_calloc(1, sizeof(*f));
	f->c = c;
	f->project = *project;
	f->due_s = now_s() + 1; /* who is to be a witness is not sent anything */
	f->next = c->fleet->drops->fills;
	c->fleet->drops->fills = f;
}

/* Of the learners that an operation sent to: one that took it. */
static bool
took(const struct wr_record *e, const json_t *receipt, struct wr_fill *f)
{
	const json_t *t;
	size_t i;

	json_array_foreach(wr_json_get_arr(receipt, "replicas"), i, t)
	{
		struct wr_uuid id;
		const struct wr_member *m = NULL;

		if (wr_json_get_bool(t, "ok", false) &&
		    wr_uuid_parse(wr_json_get_str(t, "node", ""), &id))
			m = wr_record_member(e, &id);
		if (m && m->role == WR_ROLE_LEARNER) {
			f->filled = m->node;
			return true;
		}
	}
	return false;
}

void
wr_fill_op_ended(struct wr_control *c, const struct wr_op_row *op, const json_t *receipt)
{
	struct wr_fill *f = c->fleet && c->fleet->drops ? fill_find(c, &op->project) : NULL;
	struct wr_record e;

	if (!f || f->asking || op->kind != WR_OP_REPLICATE)
		return;
	f->sending = false;
	if (receipt && wr_fleet_record(c, &op->project, &e) && took(&e, receipt, f))
		f->due_s = now_s();
	else
		fill_later(f, NULL);
}

/* ---- the call ---- */

struct change {
	struct wr_control *c;
	struct wr_req *q; /* NULL: nobody waits any more */
	struct wr_uuid project;
	struct wr_node_id node;
	bool add, witness, asking;
	struct wr_timer look;
	uint64_t end_ns;
};

static void
change_free(struct change *h)
{
	wr_timer_off(&h->c->loop, &h->look);
	if (h->q) {
		h->q->held = NULL;
		h->q->gone = NULL;
	}
	free(h);
}

static void
on_gone(struct wr_req *q)
{
	struct change *h = q->held;

	h->q = NULL;
	if (!h->asking)
		change_free(h);
}

static json_t *
answer_of(const struct change *h, const struct wr_record *e)
{
	struct wr_control *c = h->c;
	const struct wr_member *m = wr_record_has(e, &h->node);
	json_t *o = wr_json_begin("warren.replica/1"), *list;

	wr_json_str(o, "project", h->project.s);
	wr_json_str(o, "name", h->q->row.name);
	wr_json_str(o, h->add ? "added" : "removed", wr_fleet_name(c, &h->node.id));
	wr_json_str(o, "node", h->node.id.s);
	wr_json_str(o, "role", m ? wr_role_name(m->role) : NULL);
	wr_json_u64(o, "epoch", e->n.number);
	list = wr_json_array(o, "members");
	for (size_t i = 0; i < e->member_count; i++) {
		const struct wr_fleet_node *f =
		    wr_fleet_has(&c->fleet->auth->fleet, &e->member[i].node);
		json_t *j = json_object();

		wr_json_str(j, "node", e->member[i].node.id.s);
		wr_json_str(j, "name", f ? f->name : NULL);
		wr_json_str(j, "dc", f ? f->dc : NULL);
		wr_json_str(j, "role", wr_role_name(e->member[i].role));
		wr_json_bool(j, "writer", wr_node_id_eq(&e->member[i].node, &e->writer));
		json_array_append_new(list, j);
	}
	return o;
}

static void
reply(struct change *h, const struct wr_record *e)
{
	const struct wr_member *m = wr_record_has(e, &h->node);
	struct wr_req *q = h->q;
	json_t *o = answer_of(h, e);

	q->held = NULL;
	q->gone = NULL;
	h->q = NULL;
	/* 202: it goes on by itself. */
	wr_req_reply(q, h->add && m && m->role == WR_ROLE_LEARNER ? 202 : 200, 0, o);
	change_free(h);
}

/* Whoever waits for a copy to count. */
static void
on_look(struct wr_timer *t)
{
	struct change *h = WR_OWNER(t, struct change, look);
	const struct wr_member *m;
	struct wr_record e;

	if (!wr_fleet_record(h->c, &h->project, &e) || !(m = wr_record_has(&e, &h->node)) ||
	    m->role != WR_ROLE_LEARNER || wr_clock_mono_ns() >= h->end_ns) {
		if (wr_fleet_record(h->c, &h->project, &e))
			reply(h, &e);
		return;
	}
	wr_timer_on(&h->c->loop, &h->look, LOOK_NS, on_look);
}

static bool
still_learns(const struct change *h, const struct wr_record *e)
{
	const struct wr_member *m = wr_record_has(e, &h->node);

	return h->witness && m && m->role == WR_ROLE_LEARNER;
}

static void
on_raised(void *ctx, const struct wr_msg *answer, const struct wr_err *why)
{
	struct change *h = ctx;
	struct wr_err err = WR_ERR_INIT;
	struct wr_record e;
	struct wr_req *q = h->q;
	int rc = raised(answer, why, &e, &err);

	h->asking = false;
	if (rc == 0)
		install_here(h->c, answer);
	if (rc == 0 && still_learns(h, &e)) {
		/* At once: what is sent to it meanwhile nobody needs. */
		h->asking = true;
		ask_raise(h->c, &e, WR_WISH_WITNESS, &h->node, on_raised, h);
	} else if (!q) {
		change_free(h);
	} else if (rc < 0) {
		q->held = NULL;
		q->gone = NULL;
		h->q = NULL;
		wr_req_fail(q, &err);
		change_free(h);
	} else if (h->add && wr_clock_mono_ns() < h->end_ns) {
		wr_timer_on(&h->c->loop, &h->look, LOOK_NS, on_look);
	} else {
		reply(h, &e);
	}
}

static int
check_add(const struct wr_record *e, const struct wr_fleet_node *n, const char *project,
	  struct wr_err *err)
{
	const struct wr_member *m = wr_record_member(e, &n->node.id);

	if (m && wr_node_id_eq(&m->node, &n->node) && m->role == WR_ROLE_DATA)
		return wr_err_set(err, WR_E_EXISTS, "node %s holds a copy of '%s' already", n->name,
				  project);
	if (m && wr_node_id_eq(&m->node, &n->node) && m->role == WR_ROLE_WITNESS) {
		wr_err_set(err, WR_E_EXISTS, "node %s is a witness of '%s' already", n->name,
			   project);
		return wr_err_hint(err,
				   "to hold a copy it is removed first: warren replica remove");
	}
	if (n->flags & WR_FLEET_DRAINING) {
		wr_err_set(err, WR_E_DENIED, "node %s is being drained", n->name);
		return wr_err_hint(err, "warren node set %s --draining no", n->name);
	}
	if (!*n->peer) {
		wr_err_set(err, WR_E_DENIED, "node %s has no address for other nodes", n->name);
		return wr_err_hint(err, "there: [listen] peer = HOST:PORT in warren.conf");
	}
	return 0;
}

static int
check_remove(struct wr_control *c, const struct wr_record *e, const struct wr_fleet_node *n,
	     const char *project, struct wr_err *err)
{
	const struct wr_member *m = wr_record_member(e, &n->node.id);
	size_t data = 0, least = WR_MIN(WR_MAX(c->fleet->auth->fleet.replicas, 1u), 2u);

	if (!m) {
		wr_err_set(err, WR_E_NOT_FOUND, "node %s is no member of '%s'", n->name, project);
		return wr_err_hint(err, "warren explain %s", project);
	}
	if (wr_node_id_eq(&m->node, &e->writer)) {
		wr_err_set(err, WR_E_DENIED, "node %s keeps the files of '%s'", n->name, project);
		return wr_err_hint(err, "warren move %s --to another node first", project);
	}
	for (size_t i = 0; i < e->member_count; i++)
		data += e->member[i].role == WR_ROLE_DATA;
	if (m->role == WR_ROLE_DATA && data <= least) {
		wr_err_set(err, WR_E_DENIED, "'%s' would be left with %zu %s", project, data - 1,
			   data == 2 ? "copy" : "copies");
		return wr_err_hint(err, "warren replica add %s --node ANOTHER first", project);
	}
	return 0;
}

int
wr_on_replicas(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	const char *add = wr_call_str(&q->call, "add"), *rm = wr_call_str(&q->call, "remove");
	const struct wr_fleet_node *n;
	struct wr_record e;
	struct change *h;

	if (!c->fleet) {
		wr_err_set(err, WR_E_UNSUPPORTED, "this host belongs to no fleet");
		return wr_err_hint(err, "warren init, warren join");
	}
	if (!add == !rm)
		return wr_err_set(err, WR_E_INVALID, "one of add and remove: a node");
	n = wr_fleet_node_of(c, add ? add : rm, err);
	if (!n)
		return -1;
	if (!wr_fleet_record(c, &q->row.id, &e)) {
		wr_err_set(err, WR_E_NOT_FOUND, "no record of '%s' is here", q->row.name);
		return wr_err_hint(err, "ask a node that holds a copy: warren locate %s",
				   q->row.name);
	}
	if ((add ? check_add(&e, n, q->row.name, err) : check_remove(c, &e, n, q->row.name, err)) <
	    0)
		return -1;
	h = wr_calloc(1, sizeof(*h));
	h->c = c;
	h->q = q;
	h->project = q->row.id;
	h->node = n->node;
	/* As it is a member: perhaps in an incarnation that is gone. */
	if (rm)
		h->node = wr_record_member(&e, &n->node.id)->node;
	h->add = add != NULL;
	h->witness = add && wr_call_bool(&q->call, "witness", false);
	h->asking = true;
	h->end_ns = wr_clock_mono_ns() + wr_call_u64(&q->call, "wait", 0) * WR_SECOND;
	q->held = h;
	q->gone = on_gone;
	ask_raise(c, &e,
		  !add                  ? WR_WISH_REMOVE
		  : still_learns(h, &e) ? WR_WISH_WITNESS
					: WR_WISH_ADD,
		  &h->node, on_raised, h);
	return 0;
}

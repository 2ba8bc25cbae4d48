/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls about more than one node: who holds what, why there, replicate, save everything; and what
 * create and settings have to do with a hub.
 */
#include <stdlib.h>

#include "base/log.h"
#include "base/str.h"
#include "fleet/catalog/catalog.h"
#include "fleet/rules/safe.h"
#include "serve/control/know.h"
#include "serve/control/replicas.h"
#include "sys/clock.h"
#include "sys/crash.h"

#define HUB_MS 15000
#define LOCATE_MS 20000
/* Saves of save-all that run at a time. */
#define SAVE_ALL_PARALLEL 4
#define SAVE_ALL_MAX 100000

static int
in_fleet(const struct wr_control *c, struct wr_err *err)
{
	if (c->fleet)
		return 0;
	wr_err_set(err, WR_E_UNSUPPORTED, "this node belongs to no fleet");
	return wr_err_hint(err, "'warren init' makes one, 'warren join' makes a host part of one");
}

static void
time_or_null(json_t *o, const char *key, int64_t t)
{
	if (t)
		wr_json_time(o, key, t);
	else
		wr_json_null(o, key);
}

/* ---- create and settings: a hub is asked first ---- */

struct asking {
	struct wr_control *c;
	struct wr_uuid project;
	wr_created_fn fn;
	void *ctx;
	struct wr_err why; /* SETTINGS: of the first answer, while the newest ones are fetched */
};

static int
read_doc(struct wr_control *c, const struct wr_buf *doc, struct wr_settings *out,
	 struct wr_err *err)
{
	WR_SCOPED(wr_settings_doc_fini) struct wr_settings_doc d = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;

	if (wr_settings_doc_decode(doc->p, doc->len, &d, err) < 0 ||
	    wr_settings_doc_verify(&d, &c->fleet->auth->fleet, err) < 0)
		return -1;
	o = wr_json_parse(d.json, strlen(d.json), err);
	return o ? wr_settings_parse(o, out, err) : -1;
}

/* What a hub answered becomes what this node knows: durable before anyone relies on it. */
static int
store_answer(struct asking *k, const struct wr_msg *m, struct wr_settings *out, struct wr_err *err)
{
	struct wr_auth *a = k->c->fleet->auth;
	struct wr_lock lock = WR_LOCK_INIT;
	struct wr_err none = WR_ERR_INIT;
	struct wr_member_state ms;
	struct wr_record e;
	int rc = -1;

	wr_member_init(&ms, &k->project);
	if (read_doc(k->c, &m->settings, out, err) < 0 ||
	    wr_auth_lock(a, &k->project, &lock, err) < 0)
		goto out;
	if (wr_auth_load(a, &k->project, &ms, &none) < 0 && none.code != WR_E_NOT_FOUND) {
		*err = none;
		goto out;
	}
	if (m->record.len && !ms.has_record) {
		/* What it saved under that record would be numbered anew, and taken for the old. */
		if (wr_auth_forgot(a, &k->project)) {
			*err = none;
			goto out;
		}
		if (wr_record_decode(m->record.p, m->record.len, &e, err) < 0 ||
		    wr_record_verify(&e, &a->fleet, err) < 0)
			goto out;
		if (strcmp(e.project.s, k->project.s) != 0 || !wr_record_has(&e, &a->self)) {
			wr_err_set(err, WR_E_DENIED, "the hub's record is about something else");
			goto out;
		}
		ms.record = e;
		ms.has_record = true;
		ms.promised = e.n;
		wr_buf_add(&ms.record_bytes, m->record.p, m->record.len);
	}
	if (out->rev > ms.settings_rev) {
		wr_buf_clear(&ms.settings);
		wr_buf_add(&ms.settings, m->settings.p, m->settings.len);
		ms.settings_rev = out->rev;
	}
	rc = wr_auth_store(a, &k->project, &ms, err);
out:
	wr_lock_drop(&lock);
	wr_member_fini(&ms);
	return rc;
}

static void
asked(struct asking *k, struct wr_settings *set, const struct wr_err *why)
{
	k->fn(k->ctx, set, why);
	free(k);
}

static void
on_created(void *ctx, const struct wr_msg *answer, const struct wr_err *why)
{
	struct asking *k = ctx;
	struct wr_control *c = k->c;
	const struct wr_uuid project = k->project;
	struct wr_settings set = {0};
	struct wr_err err = WR_ERR_INIT;
	struct wr_proj_row row = {0};
	bool refused = answer && answer->kind != WR_MSG_CREATED;

	if (!answer) {
		err = *why;
		wr_err_wrap(&err, "ask the fleet's hub");
	} else if (refused) {
		wr_msg_get_err(answer, &err);
	} else {
		wr_crash_point("control.name-given");
		(void)store_answer(k, answer, &set, &err);
	}
	/* Before it may be asked for once more. */
	if (refused)
		wr_reserve_used(c, &project);
	asked(k, &set, err.code != WR_E_NONE ? &err : NULL);
	wr_settings_fini(&set);
	if (refused)
		return;
	/* No answer: it may be this node's all the same. */
	if (wr_row_find(c, &project, &row, NULL) == 0)
		wr_reserve_used(c, &project);
	else
		wr_reserve_free(c, &project);
	wr_proj_row_fini(&row);
}

static void
add_settings(const struct wr_settings *set, struct wr_buf *out)
{
	WR_SCOPED(wr_json_freep) json_t *o = wr_settings_json(set);

	wr_json_write(o, out);
}

static struct asking *
asking_new(struct wr_control *c, const struct wr_uuid *project, wr_created_fn fn, void *ctx)
{
	struct asking *k = wr_calloc(1, sizeof(*k));

	*k = (struct asking){c, *project, fn, ctx, WR_ERR_INIT};
	return k;
}

void
wr_fleet_create(struct wr_control *c, const struct wr_settings *set, bool pick_uid,
		wr_created_fn fn, void *ctx)
{
	struct wr_msg m = WR_MSG_INIT;

	m.kind = WR_MSG_CREATE;
	m.project = set->id;
	m.text = wr_strdup(set->name);
	m.number = pick_uid ? 0 : set->uid;
	add_settings(set, &m.blob);
	wr_reserve_note(c, &set->id);
	wr_ask(c, wr_hub_pick(c), &m, HUB_MS, on_created, asking_new(c, &set->id, fn, ctx));
}

/* The newest ones, after a refusal: they are here when it is told. */
static void
on_fetched(void *ctx, const struct wr_msg *answer, const struct wr_err *why WR_UNUSED)
{
	struct asking *k = ctx;
	struct wr_settings set = {0};
	struct wr_err ignored = WR_ERR_INIT;

	if (answer && answer->kind == WR_MSG_RAISED && store_answer(k, answer, &set, &ignored) == 0)
		wr_fleet_learn(k->c, &k->project);
	wr_settings_fini(&set);
	asked(k, NULL, &k->why);
}

static void
on_settings(void *ctx, const struct wr_msg *answer, const struct wr_err *why)
{
	struct asking *k = ctx;
	struct wr_control *c = k->c;
	struct wr_uuid project = k->project;
	struct wr_settings set = {0};
	struct wr_err err = WR_ERR_INIT;
	struct wr_msg m = WR_MSG_INIT;
	bool took = false;

	if (!answer) {
		err = *why;
		wr_err_wrap(&err, "ask the fleet's hub");
	} else if (answer->kind != WR_MSG_RAISED) {
		wr_msg_get_err(answer, &err);
	} else {
		took = store_answer(k, answer, &set, &err) == 0;
	}
	if (err.code == WR_E_CHANGED) {
		k->why = err;
		m.kind = WR_MSG_SETTINGS;
		m.project = k->project;
		wr_ask(k->c, wr_hub_pick(k->c), &m, HUB_MS, on_fetched, k);
		return;
	}
	asked(k, &set, err.code != WR_E_NONE ? &err : NULL);
	/* Members that the hub does not reach get them from here, if this is the writer. */
	if (took)
		wr_fleet_learn(c, &project);
	wr_settings_fini(&set);
}

void
wr_fleet_settings(struct wr_control *c, const struct wr_settings *set, uint64_t rev,
		  wr_created_fn fn, void *ctx)
{
	struct wr_msg m = WR_MSG_INIT;

	m.kind = WR_MSG_SETTINGS;
	m.project = set->id;
	m.number = rev;
	add_settings(set, &m.blob);
	wr_ask(c, wr_hub_pick(c), &m, HUB_MS, on_settings, asking_new(c, &set->id, fn, ctx));
}

static void
told(void *ctx WR_UNUSED, const struct wr_msg *answer WR_UNUSED, const struct wr_err *why WR_UNUSED)
{
}

void
wr_fleet_tell(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_member_state ms;

	if (wr_auth_load(c->fleet->auth, project, &ms, NULL) < 0)
		return;
	for (size_t i = 0; ms.has_record && i < ms.record.member_count; i++) {
		struct wr_msg m = WR_MSG_INIT;

		if (wr_node_id_eq(&ms.record.member[i].node, &c->fleet->auth->self))
			continue;
		m.kind = WR_MSG_INSTALL;
		wr_buf_add(&m.record, ms.record_bytes.p, ms.record_bytes.len);
		wr_buf_add(&m.settings, ms.settings.p, ms.settings.len);
		wr_ask(c, &ms.record.member[i].node.id, &m, HUB_MS, told, NULL);
	}
	wr_member_fini(&ms);
}

/* ---- explain ---- */

static const char *
role_name(enum wr_role role)
{
	return role == WR_ROLE_DATA ? "data" : role == WR_ROLE_WITNESS ? "witness" : "learner";
}

static void
explain_members(struct wr_control *c, json_t *o, const struct wr_record *e)
{
	json_t *list = wr_json_array(o, "members");

	for (size_t i = 0; i < e->member_count; i++) {
		const struct wr_member *m = &e->member[i];
		const struct wr_fleet_node *n = wr_fleet_find(&c->fleet->auth->fleet, &m->node.id);
		json_t *k = wr_json_item(list);

		wr_json_str(k, "node", m->node.id.s);
		wr_json_u64(k, "incarnation", m->node.inc);
		wr_json_str(k, "name", n ? n->name : NULL);
		wr_json_str(k, "dc", n ? n->dc : NULL);
		wr_json_str(k, "role", role_name(m->role));
		wr_json_bool(k, "writer", wr_node_id_eq(&m->node, &e->writer));
		wr_json_bool(k, "removed",
			     !n || (n->flags & WR_FLEET_REMOVED) ||
				 !wr_node_id_eq(&n->node, &m->node));
	}
}

/* Where a new project of this node would go, and why not elsewhere. */
static void
explain_placement(struct wr_control *c, json_t *o, const struct wr_record *e)
{
	const struct wr_fleet *f = &c->fleet->auth->fleet;
	WR_SCOPED(wr_freep) struct wr_placed *p = wr_calloc(f->node_count + 1, sizeof(*p));
	json_t *list = wr_json_array(o, "placement");
	struct wr_err ignored = WR_ERR_INIT;
	size_t n = wr_hub_placement(c, &e->project, &e->writer, p, NULL, &ignored);

	wr_json_u64(o, "wanted", f->replicas);
	for (size_t i = 0; i < n; i++) {
		json_t *k = wr_json_item(list);

		wr_json_str(k, "node", p[i].node->node.id.s);
		wr_json_str(k, "name", p[i].node->name);
		wr_json_str(k, "dc", p[i].node->dc);
		wr_json_bool(k, "member", wr_record_member(e, &p[i].node->node.id) != NULL);
		wr_json_str(k, "reason", wr_place_reason_name(p[i].why));
		wr_json_str(k, "text", wr_place_reason_text(p[i].why));
	}
}

int
wr_on_explain(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	struct wr_member_state ms;
	const char *why = NULL;
	int64_t since = 0;
	json_t *o, *lease;

	if (in_fleet(c, err) < 0 || wr_auth_load(c->fleet->auth, &q->row.id, &ms, err) < 0)
		return -1;
	o = wr_json_begin("warren.explain/1");
	wr_json_str(o, "id", q->row.id.s);
	wr_json_str(o, "name", q->row.name);
	wr_json_str(o, "node", c->node->id.s);
	if (ms.has_record) {
		wr_fleet_json(c, o, &q->row, WR_ITEM_SHOW);
		wr_json_str(o, "base",
			    ms.record.base.n.number ? wr_version_text(&ms.record.base).s : NULL);
		wr_json_u64(o, "promised", ms.promised.number);
		wr_json_bool(o, "released",
			     ms.released.number && !wr_epoch_cmp(&ms.released, &ms.record.n));
		wr_json_str(o, "state", ms.record.state == WR_RECORD_LIVE ? "live" : "deleted");
		wr_json_u64(o, "settings_rev", ms.settings_rev);
		time_or_null(o, "since", ms.record.at);
		explain_members(c, o, &ms.record);
		explain_placement(c, o, &ms.record);
		lease = wr_json_object(o, "lease");
		wr_json_bool(lease, "may_run", wr_lease_may_run(c, &q->row.id));
		wr_json_bool(lease, "frozen", wr_lease_frozen(c, &q->row.id, &since, &why));
		wr_json_str(lease, "why", why);
		time_or_null(lease, "frozen_since", since);
	}
	wr_member_fini(&ms);
	wr_req_reply(q, 200, 0, o);
	return 0;
}

/* ---- replicate ---- */

int
wr_on_replicate(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	const char *const *list = NULL;
	struct wr_uuid op;
	size_t n;
	json_t *targets = NULL;
	int rc;

	if (in_fleet(c, err) < 0)
		return -1;
	n = wr_call_list(&q->call, "targets", &list);
	if (n)
		targets = json_array();
	for (size_t i = 0; i < n; i++)
		wr_json_add_str(targets, list[i]);
	free((void *)(uintptr_t)list);
	rc = wr_copies_replicate(c, &q->row, targets, q->who.by, &op, err);
	if (rc == 0)
		wr_req_reply_op(q, &op);
	return rc;
}

/* ---- GET /v1/fleet: the recovery points ---- */

struct line {
	struct wr_cat_copy *copy;
	size_t count, cap;
};
struct overview {
	struct wr_control *c;
	const struct wr_who *who;
	json_t *list;
	uint64_t safe, behind, unknown;
	int64_t oldest; /* of the recovery points of what runs */
};

static void
tell_point(struct overview *v, json_t *o, const struct wr_record *e, const struct wr_holding *h,
	   size_t count, bool running)
{
	const struct wr_fleet *f = &v->c->fleet->auth->fleet;
	const struct wr_holding *newest = NULL;
	int64_t at = wr_recovery_point(e, h, count);
	json_t *behind = wr_json_array(o, "behind"), *safe;
	struct wr_acked acked[WR_MEMBERS_MAX];
	struct wr_safe s;
	struct wr_version top;

	for (size_t i = 0; i < count; i++) {
		acked[i].node = h[i].member->node;
		acked[i].v = (struct wr_version){{h[i].epoch, 0}, h[i].seq};
		if (h[i].epoch == e->n.number)
			acked[i].v.n = e->n;
		if (wr_node_id_eq(&h[i].member->node, &e->writer))
			newest = &h[i];
	}
	top = (struct wr_version){e->n, newest && newest->epoch == e->n.number ? newest->seq : 0};
	s = wr_safe_of(e, &top, acked, count, f);
	for (size_t i = 0; i < count; i++) {
		bool less = newest && (h[i].epoch < newest->epoch ||
				       (h[i].epoch == newest->epoch && h[i].seq < newest->seq));

		if (less && h[i].member->role == WR_ROLE_DATA)
			wr_json_add_str(behind, wr_fleet_name(v->c, &h[i].member->node.id));
	}
	safe = wr_json_object(o, "safe");
	wr_json_bool(safe, "now", s.safe);
	wr_json_u64(safe, "in", s.in);
	wr_json_u64(safe, "of", s.data);
	wr_json_u64(safe, "dcs", s.dcs);
	time_or_null(safe, "since", at);
	time_or_null(o, "last_change", newest ? newest->scan_started : 0);
	if (json_array_size(behind))
		v->behind++;
	else if (s.safe)
		v->safe++;
	else
		v->unknown++;
	if (running && at && (!v->oldest || at < v->oldest))
		v->oldest = at;
}

static json_t *
begin_line(struct overview *v, const struct wr_uuid *id, const char *name,
	   const struct wr_record *e)
{
	json_t *o = wr_json_item(v->list), *w;

	wr_json_str(o, "id", id->s);
	wr_json_str(o, "name", name);
	wr_json_u64(o, "epoch", e->n.number);
	w = wr_json_object(o, "writer");
	wr_json_str(w, "node", e->writer.id.s);
	wr_json_str(w, "name", wr_fleet_name(v->c, &e->writer.id));
	return o;
}

/* From this node's own disk: what it writes. */
static int
local_line(void *ctx, const struct wr_proj_row *r, struct wr_err *err WR_UNUSED)
{
	struct overview *v = ctx;
	struct wr_holding h[WR_MEMBERS_MAX];
	struct wr_status st = {.state = WR_ST_STOPPED};
	struct wr_member_state ms;
	size_t n;
	json_t *o;

	if (wr_auth_load(v->c->fleet->auth, &r->id, &ms, NULL) < 0)
		return 0;
	if (ms.has_record &&
	    (wr_node_id_eq(&ms.record.writer, &v->c->fleet->auth->self) || !v->c->fleet->catalog)) {
		if (wr_proj_find(v->c, &r->id))
			wr_row_status(v->c, r, &st);
		o = begin_line(v, &r->id, r->name, &ms.record);
		wr_json_str(o, "state", wr_state_name(st.state));
		wr_json_bool(o, "running", st.active);
		wr_json_null(o, "reported_at"); /* as it is now */
		n = wr_holdings(v->c, &ms, r, h);
		tell_point(v, o, &ms.record, h, n, st.active);
	}
	wr_member_fini(&ms);
	return 0;
}

static int
take_copy(void *ctx, const struct wr_cat_copy *k, struct wr_err *err WR_UNUSED)
{
	struct line *l = ctx;

	wr_grow(&l->copy, &l->cap, l->count + 1, sizeof(*l->copy));
	l->copy[l->count++] = *k;
	return 0;
}

/* From the catalog: as the nodes reported it. */
static int
catalog_line(void *ctx, const struct wr_cat_project *p, struct wr_err *err WR_UNUSED)
{
	struct overview *v = ctx;
	struct wr_holding h[WR_MEMBERS_MAX];
	struct line l = {0};
	struct wr_record e;
	int64_t at = 0;
	bool running = false;
	unsigned state = WR_ST_UNSET;
	json_t *o;

	if (wr_record_decode(p->record.p, p->record.len, &e, NULL) < 0 ||
	    e.state != WR_RECORD_LIVE || wr_node_id_eq(&e.writer, &v->c->fleet->auth->self))
		return 0;
	(void)wr_catalog_copies(v->c->fleet->catalog, &p->id, NULL, take_copy, &l, NULL);
	for (size_t i = 0; i < e.member_count; i++) {
		h[i] = (struct wr_holding){
		    .member = &e.member[i],
		    .node = wr_fleet_find(&v->c->fleet->auth->fleet, &e.member[i].node.id)};
		for (size_t k = 0; k < l.count; k++) {
			const struct wr_cat_copy *y = &l.copy[k];

			if (!wr_node_id_eq(&y->node, &e.member[i].node))
				continue;
			h[i].epoch = y->r.held.n.number;
			h[i].seq = y->r.held.s;
			h[i].scan_started = y->r.scan_started;
			if (wr_node_id_eq(&y->node, &e.writer)) {
				running = y->r.running;
				state = y->r.state;
				at = y->reported_at;
			}
		}
	}
	o = begin_line(v, &p->id, p->name, &e);
	wr_json_str(o, "state",
		    state > WR_ST_UNSET && state <= WR_ST_ERROR
			? wr_state_name((enum wr_state)state)
			: NULL);
	wr_json_bool(o, "running", running);
	time_or_null(o, "reported_at", at);
	tell_point(v, o, &e, h, e.member_count, running);
	free(l.copy);
	return 0;
}

int
wr_on_fleet(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	json_t *o, *sum, *missing;
	struct overview v = {.c = c, .who = &q->who};
	int rc;

	if (in_fleet(c, err) < 0)
		return -1;
	o = wr_json_begin("warren.fleet/1");
	wr_json_str(o, "fleet", c->fleet->auth->fleet.id.s);
	wr_json_bool(o, "whole", c->fleet->catalog != NULL);
	wr_json_time(o, "at", wr_clock_wall().s);
	missing = wr_json_array(o, "missing");
	if (c->fleet->know)
		(void)wr_know_missing(c, missing);
	wr_json_bool(o, "recovering", json_array_size(missing) > 0);
	v.list = wr_json_array(o, "projects");
	rc = wr_store_proj_each(c->store, 0, local_line, &v, err);
	if (rc == 0 && c->fleet->catalog)
		rc = wr_catalog_project_each(c->fleet->catalog, catalog_line, &v, err);
	sum = wr_json_object(o, "summary");
	wr_json_u64(sum, "projects", json_array_size(v.list));
	wr_json_u64(sum, "safe", v.safe);
	wr_json_u64(sum, "behind", v.behind);
	wr_json_u64(sum, "unknown", v.unknown);
	time_or_null(sum, "oldest", v.oldest);
	return wr_req_answer(q, rc, o);
}

/* ---- locate ---- */

struct place {
	struct wr_node_id node;
	bool answered;
	struct wr_err why;
	struct wr_report *r;
	size_t count;
	struct locating *l;
};
struct locating {
	struct wr_control *c;
	struct wr_req *q;       /* NULL: nobody waits any more */
	struct wr_uuid project; /* s[0] = 0: all */
	struct place *place;
	size_t count, asked;
};

static void
forget_locate(struct wr_req *q)
{
	struct locating *l = q->held;

	l->q = NULL;
}

static void
add_place(json_t *list, struct locating *l, const struct place *p, const struct wr_report *r,
	  const char *what)
{
	json_t *o = wr_json_item(list);

	wr_json_str(o, "node", p->node.id.s);
	wr_json_str(o, "name", wr_fleet_name(l->c, &p->node.id));
	wr_json_str(o, "what", what);
	wr_json_u64(o, "epoch", r ? r->n.number : 0);
	wr_json_str(o, "version", r && r->held.n.number ? wr_version_text(&r->held).s : NULL);
	time_or_null(o, "since", r ? r->scan_started : 0);
	wr_json_u64(o, "repo_bytes", r ? r->repo_bytes : 0);
	wr_json_u64(o, "tree_bytes", r ? r->tree_bytes : 0);
	wr_json_bool(o, "dirty", r && r->dirty);
	wr_json_bool(o, "hidden", r && r->hidden);
	wr_json_bool(o, "running", r && r->running);
}

static const struct wr_report *
report_in(const struct place *p, const struct wr_uuid *project)
{
	for (size_t i = 0; i < p->count; i++)
		if (!strcmp(p->r[i].project.s, project->s))
			return &p->r[i];
	return NULL;
}

struct comparing {
	struct locating *l;
	json_t *out;
	uint64_t problems;
};

/* A project of the catalog against what the nodes said. */
static int
locate_one(void *ctx, const struct wr_cat_project *p, struct wr_err *err WR_UNUSED)
{
	struct comparing *k = ctx;
	struct wr_version newest = {0};
	struct wr_record e;
	json_t *o, *list;

	if (*k->l->project.s && strcmp(k->l->project.s, p->id.s) != 0)
		return 0;
	if (wr_record_decode(p->record.p, p->record.len, &e, NULL) < 0 || e.state != WR_RECORD_LIVE)
		return 0;
	o = wr_json_item(k->out);
	wr_json_str(o, "id", p->id.s);
	wr_json_str(o, "name", p->name);
	wr_json_str(o, "writer", wr_fleet_name(k->l->c, &e.writer.id));
	list = wr_json_array(o, "places");
	for (size_t i = 0; i < k->l->count; i++) {
		const struct wr_report *r = report_in(&k->l->place[i], &p->id);

		if (r && wr_version_cmp(&r->held, &newest) > 0)
			newest = r->held;
	}
	for (size_t i = 0; i < k->l->count; i++) {
		const struct place *at = &k->l->place[i];
		const struct wr_report *r = report_in(at, &p->id);
		bool member = wr_record_has(&e, &at->node) != NULL;
		const char *what = "current";

		if (!member && !r)
			continue;
		if (!at->answered)
			what = "unknown";
		else if (!member)
			what = "surplus";
		else if (!r || !r->held.n.number)
			what = "missing";
		else if (wr_version_cmp(&r->held, &newest) < 0)
			what = "older";
		k->problems += strcmp(what, "current") != 0;
		add_place(list, k->l, at, r, what);
	}
	return 0;
}

/* What a node has and no catalog knows. */
static void
locate_unknown(struct comparing *cmp)
{
	struct locating *l = cmp->l;

	for (size_t i = 0; i < l->count; i++)
		for (size_t k = 0; k < l->place[i].count; k++) {
			const struct wr_report *r = &l->place[i].r[k];
			struct wr_cat_project p = {0};

			if (*l->project.s && strcmp(l->project.s, r->project.s) != 0)
				continue;
			if (wr_catalog_project_find(l->c->fleet->catalog, r->project.s, &p, NULL) <
			    0) {
				json_t *o = wr_json_item(cmp->out);

				wr_json_str(o, "id", r->project.s);
				wr_json_null(o, "name");
				wr_json_null(o, "writer");
				add_place(wr_json_array(o, "places"), l, &l->place[i], r,
					  "not in the catalog");
				cmp->problems++;
			}
			wr_cat_project_fini(&p);
		}
}

static void
located(struct locating *l)
{
	json_t *o = wr_json_begin("warren.locate/1"), *nodes;
	struct comparing k = {.l = l};
	struct wr_err err = WR_ERR_INIT;
	int rc;

	nodes = wr_json_array(o, "nodes");
	for (size_t i = 0; i < l->count; i++) {
		json_t *n = wr_json_item(nodes);

		wr_json_str(n, "node", l->place[i].node.id.s);
		wr_json_str(n, "name", wr_fleet_name(l->c, &l->place[i].node.id));
		wr_json_bool(n, "answered", l->place[i].answered);
		wr_json_u64(n, "copies", l->place[i].count);
		wr_json_str(n, "error", l->place[i].answered ? NULL : l->place[i].why.msg);
		k.problems += !l->place[i].answered;
	}
	k.out = wr_json_array(o, "projects");
	rc = wr_catalog_project_each(l->c->fleet->catalog, locate_one, &k, &err);
	if (rc == 0)
		locate_unknown(&k);
	wr_json_u64(o, "problems", k.problems);
	if (l->q) {
		l->q->gone = NULL;
		if (rc < 0)
			wr_req_fail(l->q, &err);
		else
			wr_req_reply(l->q, 200, k.problems ? 3 : 0, json_incref(o));
	}
	json_decref(o);
	for (size_t i = 0; i < l->count; i++)
		free(l->place[i].r);
	free(l->place);
	free(l);
}

static void
on_holds(void *ctx, const struct wr_msg *answer, const struct wr_err *why)
{
	struct place *p = ctx;
	struct locating *l = p->l;
	struct wr_err err = WR_ERR_INIT;

	if (answer && answer->kind == WR_MSG_HOLDS) {
		p->answered = true;
		p->count = answer->report_count;
		p->r = wr_memdup(answer->report, p->count * sizeof(*p->r));
		if (wr_catalog_report(l->c->fleet->catalog, &p->node, p->r, p->count, answer->flag,
				      wr_clock_wall().s, &err) < 0)
			wr_log_err(WR_LOG_ERROR, "catalog a report", &err);
	} else if (answer) {
		wr_msg_get_err(answer, &p->why);
	} else {
		p->why = *why;
	}
	if (--l->asked == 0)
		located(l);
}

int
wr_on_locate(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	const char *ref = wr_call_str(&q->call, "project");
	const struct wr_fleet *f;
	struct wr_cat_project p = {0};
	struct locating *l;

	if (in_fleet(c, err) < 0)
		return -1;
	if (!c->fleet->catalog) {
		wr_err_set(err, WR_E_UNSUPPORTED, "this node is no hub of its fleet");
		return wr_err_hint(err, "ask node %s", wr_fleet_name(c, wr_hub_pick(c)));
	}
	if (ref && wr_catalog_project_find(c->fleet->catalog, ref, &p, err) < 0)
		return -1;
	f = &c->fleet->auth->fleet;
	l = wr_calloc(1, sizeof(*l));
	l->c = c;
	l->q = q;
	if (ref)
		l->project = p.id;
	wr_cat_project_fini(&p);
	q->held = l;
	q->gone = forget_locate;
	l->place = wr_calloc(f->node_count, sizeof(*l->place));
	for (size_t i = 0; i < f->node_count; i++)
		if (!(f->node[i].flags & WR_FLEET_REMOVED))
			l->place[l->count++] = (struct place){.node = f->node[i].node, .l = l};
	l->asked = l->count;
	for (size_t i = 0; i < l->count; i++) {
		struct wr_msg m = WR_MSG_INIT;

		m.kind = WR_MSG_INVENTORY;
		wr_ask(c, &l->place[i].node.id, &m, LOCATE_MS, on_holds, &l->place[i]);
	}
	return 0;
}

/* ---- save-all ---- */

struct save_one {
	struct save_all *all;
	struct wr_uuid project;
	char name[64];
	bool begun, ended;
	struct wr_op_watch watch;
};
struct save_all {
	struct wr_control *c;
	struct wr_req *q; /* NULL: nobody waits any more */
	char by[64];
	uint64_t rf;
	struct save_one *of;
	size_t count, cap, next, running;
	uint64_t made, behind, failed;
	json_t *list;
	struct wr_timer go;
};

static void
forget_all(struct wr_req *q)
{
	struct save_all *a = q->held;

	a->q = NULL;
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
	a->of[a->count] = (struct save_one){.project = r->id};
	snprintf(a->of[a->count++].name, sizeof(a->of[0].name), "%s", r->name);
	return a->count >= SAVE_ALL_MAX;
}

static void
save_all_end(struct save_all *a)
{
	json_t *o = wr_json_begin("warren.save-all/1");
	bool bad = a->failed || a->behind;

	wr_json_u64(o, "projects", a->count);
	wr_json_u64(o, "made", a->made);
	wr_json_u64(o, "behind", a->behind);
	wr_json_u64(o, "failed", a->failed);
	json_object_set(o, "saves", a->list);
	if (a->q) {
		a->q->gone = NULL;
		wr_req_reply(a->q, 200, bad ? 3 : 0, json_incref(o));
	}
	json_decref(o);
	json_decref(a->list);
	wr_timer_off(&a->c->loop, &a->go);
	free(a->of);
	free(a);
}

static void save_some(struct wr_timer *t);

static void
save_ended(struct save_one *s, const json_t *receipt, const struct wr_err *why)
{
	struct save_all *a = s->all;
	json_t *o = wr_json_item(a->list);
	const json_t *replicas = wr_json_get_arr(receipt, "replicas"), *e;
	uint64_t in = wr_json_get_u64(receipt, "safe_in", 0);
	bool late = false;
	size_t i;

	json_array_foreach(replicas, i, e) late |= !wr_json_get_bool(e, "ok", false);
	wr_json_str(o, "project", s->project.s);
	wr_json_str(o, "name", s->name);
	wr_json_bool(o, "ok", receipt != NULL);
	wr_json_bool(o, "made", wr_json_get_bool(receipt, "made", false));
	wr_json_bool(o, "safe", wr_json_get_bool(receipt, "safe", false));
	wr_json_u64(o, "safe_in", in);
	if (receipt)
		wr_json_null(o, "error");
	else
		wr_json_err(o, "error", why);
	a->made += wr_json_get_bool(receipt, "made", false);
	/* Who asked for fewer copies is content with them. */
	a->behind += receipt && late && (!a->rf || in < a->rf);
	a->failed += !receipt;
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
	struct wr_uuid op;
	int rc = wr_row_find(a->c, &s->project, &row, &err);

	a->running++;
	if (rc == 0) {
		w.row = &row;
		w.args = json_object();
		if (a->rf)
			wr_json_u64(w.args, "rf", a->rf);
		rc = wr_op_submit(a->c, &w, &op, &err);
	}
	wr_proj_row_fini(&row);
	s->watch.fn = on_saved;
	if (rc == 0 && wr_op_watch(a->c, &op, &s->watch))
		return;
	if (rc == 0)
		wr_err_set(&err, WR_E_FAILED, "it ended before it was looked at");
	save_ended(s, NULL, &err);
}

static void
save_some(struct wr_timer *t)
{
	struct save_all *a = WR_OWNER(t, struct save_all, go);

	if (a->c->draining)
		a->next = a->count;
	while (a->next < a->count && a->running < SAVE_ALL_PARALLEL)
		save_begin(&a->of[a->next++]);
	if (a->next == a->count && a->running == 0)
		save_all_end(a);
}

int
wr_on_save_all(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	uint64_t limit = wr_call_u64(&q->call, "limit", 0);
	struct save_all *a = wr_calloc(1, sizeof(*a));

	a->c = c;
	a->rf = wr_call_u64(&q->call, "rf", 0);
	snprintf(a->by, sizeof(a->by), "%s", q->who.by);
	if (wr_store_proj_each(c->store, 0, look_to_save, a, err) < 0) {
		free(a->of);
		free(a);
		return -1;
	}
	if (limit && a->count > limit)
		a->count = (size_t)limit;
	for (size_t i = 0; i < a->count; i++)
		a->of[i].all = a;
	a->list = json_array();
	a->q = q;
	q->held = a;
	q->gone = forget_all;
	wr_timer_on(&c->loop, &a->go, 0, save_some);
	return 0;
}

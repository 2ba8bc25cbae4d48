/* SPDX-License-Identifier: Apache-2.0 */
/* Calls about more than one node: why a project is where it is, replicate, the recovery points. */
#include <stdlib.h>

#include "fleet/catalog/catalog.h"
#include "fleet/rules/safe.h"
#include "serve/control/know.h"
#include "serve/control/replicas.h"
#include "sys/clock.h"

/* ---- explain ---- */

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
		wr_json_str(k, "role", wr_role_name(m->role));
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

	if (wr_fleet_must(c, err) < 0 || wr_auth_load(c->fleet->auth, &q->row.id, &ms, err) < 0)
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
		wr_json_time_or_null(o, "since", ms.record.at);
		explain_members(c, o, &ms.record);
		explain_placement(c, o, &ms.record);
		lease = wr_json_object(o, "lease");
		wr_json_bool(lease, "may_run", wr_lease_may_run(c, &q->row.id));
		wr_json_bool(lease, "frozen", wr_lease_frozen(c, &q->row.id, &since, &why));
		wr_json_str(lease, "why", why);
		wr_json_time_or_null(lease, "frozen_since", since);
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

	if (wr_fleet_must(c, err) < 0)
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
	wr_json_time_or_null(safe, "since", at);
	wr_json_time_or_null(o, "last_change", newest ? newest->scan_started : 0);
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
	wr_json_time_or_null(o, "reported_at", at);
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

	if (wr_fleet_must(c, err) < 0)
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
	wr_json_time_or_null(sum, "oldest", v.oldest);
	return wr_req_answer(q, rc, o);
}

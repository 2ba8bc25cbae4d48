/* SPDX-License-Identifier: Apache-2.0 */
/* The call that finds out where projects are: the catalog, and what nodes say that they hold. */
#include <stdlib.h>

#include "fleet/catalog/catalog.h"
#include "serve/control/fleet.h"
#include "sys/clock.h"

#define LOCATE_MS 20000
/* LIMIT: copies of one node that are compared; what is behind them is shown as unknown. */
#define LOCATE_MAX 1000000

struct place {
	struct wr_node_id node;
	bool answered;
	struct wr_err why;
	struct wr_report *r; /* ascending by id */
	size_t count, cap;
	char after[37]; /* the first page begins behind it */
	bool cut;       /* it has more, behind the last of these */
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
	wr_json_time_or_null(o, "since", r ? r->scan_started : 0);
	wr_json_u64(o, "repo_bytes", r ? r->repo_bytes : 0);
	wr_json_u64(o, "tree_bytes", r ? r->tree_bytes : 0);
	wr_json_bool(o, "dirty", r && r->dirty);
	wr_json_bool(o, "hidden", r && r->hidden);
	wr_json_bool(o, "running", r && r->running);
}

static const struct wr_report *
report_in(const struct place *p, const struct wr_uuid *project)
{
	size_t lo = 0, hi = p->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = strcmp(p->r[mid].project.s, project->s);

		if (c == 0)
			return &p->r[mid];
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

/* Did it say what it has of this one? */
static bool
said(const struct place *p, const struct wr_uuid *project)
{
	return p->answered &&
	       !(p->cut && p->count && strcmp(project->s, p->r[p->count - 1].project.s) > 0);
}

struct comparing {
	struct locating *l;
	json_t *out;
	uint64_t problems;
};

/* Copies of nodes that were removed, or came back as another incarnation, without anything. */
static uint64_t
locate_gone(json_t *list, struct locating *l, const struct wr_record *e)
{
	uint64_t n = 0;

	for (size_t i = 0; i < e->member_count; i++) {
		const struct place gone = {.node = e->member[i].node};
		bool there = e->member[i].role == WR_ROLE_WITNESS;

		for (size_t k = 0; k < l->count && !there; k++)
			there = wr_node_id_eq(&l->place[k].node, &gone.node);
		if (there)
			continue;
		add_place(list, l, &gone, NULL, "missing");
		n++;
	}
	return n;
}

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
		if (!said(at, &p->id))
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
	k->problems += locate_gone(list, k->l, &e);
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

static void on_holds(void *ctx, const struct wr_msg *answer, const struct wr_err *why);

static void
ask_holds(struct place *p)
{
	const char *after = p->count ? p->r[p->count - 1].project.s : p->after;
	struct wr_msg m = WR_MSG_INIT;

	m.kind = WR_MSG_INVENTORY;
	m.text = *after ? wr_strdup(after) : NULL;
	wr_ask(p->l->c, &p->node.id, &m, LOCATE_MS, on_holds, p);
}

/* Another page of what it has. */
static int
add_holds(struct place *p, const struct wr_msg *m, struct wr_err *err)
{
	const char *after = p->count ? p->r[p->count - 1].project.s : p->after;

	if (wr_catalog_report_page(p->l->c->fleet->catalog, &p->node, after, m->report,
				   m->report_count, m->flag, wr_clock_wall().s, err) < 0)
		return -1;
	wr_grow(&p->r, &p->cap, p->count + m->report_count + 1, sizeof(*p->r));
	if (m->report_count)
		memcpy(p->r + p->count, m->report, m->report_count * sizeof(*p->r));
	p->count += m->report_count;
	p->cut = !m->flag;
	return 0;
}

static void
on_holds(void *ctx, const struct wr_msg *answer, const struct wr_err *why)
{
	struct place *p = ctx;
	struct locating *l = p->l;

	if (!answer) {
		p->why = *why;
	} else if (answer->kind != WR_MSG_HOLDS) {
		wr_msg_get_err(answer, &p->why);
	} else if (add_holds(p, answer, &p->why) == 0) {
		p->answered = true;
		/* One project is on the first page. */
		if (p->cut && answer->report_count && !*l->project.s && p->count < LOCATE_MAX) {
			ask_holds(p);
			return;
		}
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

	if (wr_fleet_must(c, err) < 0)
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
		/* Few sort between an id and all of it but its last digit. */
		snprintf(l->place[i].after, sizeof(l->place[i].after), "%.35s", l->project.s);
		ask_holds(&l->place[i]);
	}
	return 0;
}

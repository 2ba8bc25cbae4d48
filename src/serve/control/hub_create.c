/* SPDX-License-Identifier: Apache-2.0 */
/* A hub: where a new project goes, its name, uid and first record. */
#include <sys/random.h>

#include "fleet/catalog/catalog.h"
#include "host/node/age.h"
#include "host/ident/ident.h"
#include "serve/control/hub_int.h"
#include "serve/control/know.h"
#include "serve/control/marks.h"
#include "serve/control/replicas.h"
#include "sys/clock.h"
#include "sys/crash.h"
#include "sys/getent.h"

/* ---- placement ---- */

size_t
wr_hub_placement(struct wr_control *c, const struct wr_uuid *project,
		 const struct wr_node_id *writer, struct wr_placed *out, struct wr_record *io,
		 struct wr_err *err)
{
	const struct wr_fleet *f = &c->fleet->auth->fleet;
	WR_SCOPED(wr_freep)
	struct wr_place_node *node = wr_calloc(f->node_count + 1, sizeof(*node));
	struct wr_place_policy policy = {.replicas = WR_MIN(f->replicas, (uint32_t)WR_MEMBERS_MAX)};
	WR_SCOPED(wr_freep)
	enum wr_place_reason *why = wr_calloc(f->node_count + 1, sizeof(*why));
	WR_SCOPED(wr_placer_freep) struct wr_placer *placer = NULL;
	struct wr_placement at;
	size_t n = 0;

	for (size_t i = 0; i < f->node_count; i++) {
		const struct wr_fleet_node *k = &f->node[i];

		if (wr_fleet_find(f, &k->node.id) != k)
			continue; /* an earlier incarnation */
		if (wr_node_id_eq(&k->node, writer)) {
			policy.has_fixed = true;
			policy.fixed = n;
		}
		out[n].node = k;
		node[n++] = (struct wr_place_node){
		    .id = k->node.id,
		    .dc = k->dc,
		    .weight = *k->peer ? k->weight : 0, /* nobody could send it anything */
		    .draining = k->flags & WR_FLEET_DRAINING,
		    .experimental = k->flags & WR_FLEET_EXPERIMENTAL,
		    .removed = k->flags & WR_FLEET_REMOVED,
		    .full = wr_marks_node_full(c, &k->node.id),
		};
	}
	placer = wr_placer_new(node, n, err);
	if (!placer || wr_placer_run(placer, project, &policy, &at, why, err) < 0)
		return 0;
	for (size_t i = 0; i < n; i++)
		out[i].why = why[i];
	for (size_t i = 0; io && i < at.count; i++)
		io->member[io->member_count++] =
		    (struct wr_member){out[at.nodes[i]].node->node, WR_ROLE_DATA};
	return n;
}

static bool
choose_members(struct wr_control *c, struct wr_record *e, struct wr_err *err)
{
	WR_SCOPED(wr_freep)
	struct wr_placed *p = wr_calloc(c->fleet->auth->fleet.node_count + 1, sizeof(*p));

	return wr_hub_placement(c, &e->project, &e->writer, p, e, err) > 0;
}

static void
advise(struct wr_control *c, const struct wr_record *e)
{
	struct wr_hub *h = c->fleet->hub;

	if (e->member_count != 2 || h->told_two)
		return;
	h->told_two = true;
	wr_event(c, "hub", NULL, "fleet.two-copies",
		 "with two copies nothing is safe, and nothing starts elsewhere, while either node "
		 "is away: add a third node, be it as a witness: warren replica add --witness",
		 NULL);
}

/* ---- records and settings, signed ---- */

uint64_t
wr_hub_random(void)
{
	uint64_t x = 0;

	while (getrandom(&x, sizeof(x), 0) != (ssize_t)sizeof(x))
		;
	return x;
}

int
wr_hub_sign_settings(struct wr_control *c, const struct wr_settings *set, struct wr_buf *out,
		     struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = wr_settings_json(set);
	struct wr_settings_doc d = {.project = set->id, .rev = set->rev};
	struct wr_buf b = WR_BUF_INIT;
	int rc;

	wr_json_write(o, &b);
	d.json = wr_buf_detach(&b, NULL);
	rc = wr_settings_doc_sign(&d, &c->fleet->hub_key, err);
	if (rc == 0)
		wr_settings_doc_encode(&d, out);
	wr_settings_doc_fini(&d);
	return rc;
}

static int
free_uid(void *ctx, uint32_t first, uint32_t last, uint32_t *out, struct wr_err *err)
{
	struct wr_control *c = ctx;

	return wr_catalog_uid_next(c->fleet->catalog, first, last,
				   wr_age_span(c->node, c->node->config.trash_keep),
				   wr_clock_wall().s, out, err);
}

static int
choose_uid(struct wr_control *c, struct wr_settings *s, struct wr_err *err)
{
	bool same = s->gid == s->uid;
	int rc = wr_ident_next(c->node, free_uid, c, &s->uid, err);

	wr_getent_end();
	if (rc < 0)
		return -1;
	if (same)
		s->gid = s->uid;
	return 0;
}

int
wr_hub_first(struct wr_control *c, const struct wr_node_id *writer, struct wr_settings *io_set,
	     bool pick_uid, struct wr_buf *out_record, struct wr_buf *out_settings,
	     struct wr_err *err)
{
	struct wr_record e = {.project = io_set->id, .state = WR_RECORD_LIVE};
	struct wr_cat_project p = {.id = io_set->id};

	if (pick_uid && choose_uid(c, io_set, err) < 0)
		return -1;
	e.n = (struct wr_epoch){1, wr_hub_random()};
	e.at = wr_clock_wall().s;
	e.settings_rev = io_set->rev;
	e.writer = *writer;
	if (!choose_members(c, &e, err))
		return -1;
	if (wr_record_sign(&e, &c->fleet->hub_key, err) < 0 ||
	    wr_hub_sign_settings(c, io_set, out_settings, err) < 0)
		return -1;
	wr_record_encode(&e, out_record);
	snprintf(p.name, sizeof(p.name), "%s", io_set->name);
	p.uid = io_set->uid;
	p.gid = io_set->gid;
	p.n = e.n;
	p.settings_rev = io_set->rev;
	p.record = *out_record; /* borrowed */
	p.settings = *out_settings;
	p.created = p.changed = e.at;
	if (wr_catalog_project_put(c->fleet->catalog, &p, err) < 0)
		return -1;
	advise(c, &e);
	return 0;
}

/* ---- CREATE ---- */

int
wr_hub_read_settings(const struct wr_buf *json, const struct wr_uuid *project,
		     struct wr_settings *out, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = wr_json_parse((const char *)json->p, json->len, err);

	if (!o || wr_settings_parse(o, out, err) < 0)
		return wr_err_wrap(err, "settings");
	if (strcmp(out->id.s, project->s) != 0)
		return wr_err_set(err, WR_E_INVALID, "settings: they are of project %s", out->id.s);
	/* Who asks is root on one host; what we sign goes to all. */
	if (out->uid == 0)
		return wr_err_set(err, WR_E_DENIED, "settings: no project of a fleet is root's");
	return 0;
}

static void
tell_members(struct wr_control *c, const struct wr_record *e, const struct wr_buf *record,
	     const struct wr_buf *settings, const struct wr_uuid *but)
{
	for (size_t i = 0; i < e->member_count; i++) {
		struct wr_msg m = WR_MSG_INIT;

		if (!strcmp(e->member[i].node.id.s, but->s))
			continue;
		m.kind = WR_MSG_INSTALL;
		m.project = e->project;
		wr_buf_add(&m.record, record->p, record->len);
		wr_buf_add(&m.settings, settings->p, settings->len);
		wr_ask(c, &e->member[i].node.id, &m, WR_HUB_ASK_MS, NULL, NULL);
	}
}

static void
answer_created(struct wr_asked *k, const struct wr_buf *record, const struct wr_buf *settings,
	       uint32_t uid)
{
	struct wr_msg a = WR_MSG_INIT;

	wr_msg_answer(&a, &k->q, &k->c->fleet->auth->self, WR_MSG_CREATED);
	wr_buf_add(&a.record, record->p, record->len);
	wr_buf_add(&a.settings, settings->p, settings->len);
	a.number = uid;
	wr_asked_answer(k, &a);
}

int
wr_hub_count_elsewhere(void *ctx, const struct wr_cat_copy *k, struct wr_err *err WR_UNUSED)
{
	struct wr_hub_elsewhere *e = ctx;

	e->copies += !wr_node_id_eq(&k->node, e->asker) && !wr_epoch_none(&k->r.held.n);
	return 0;
}

/* Nothing was made of it, or it was purged where alone it was: the name is free again. Only who was
 * to make it may say so. */
static int
give_back(struct wr_asked *k, struct wr_err *err)
{
	struct wr_control *c = k->c;
	struct wr_hub_elsewhere other = {.asker = &k->q.from};
	struct wr_cat_project p = {0};
	struct wr_record e;
	int rc = wr_catalog_project_find(c->fleet->catalog, k->q.project.s, &p, err);

	if (rc == 0)
		rc = wr_record_decode(p.record.p, p.record.len, &e, err);
	if (rc == 0)
		rc = wr_catalog_copies(c->fleet->catalog, &k->q.project, NULL,
				       wr_hub_count_elsewhere, &other, err);
	if (rc == 0 && (!wr_node_id_eq(&e.writer, &k->q.from) || other.copies ||
			(e.n.number != 1 && e.member_count != 1)))
		rc = wr_err_set(err, WR_E_DENIED, "other nodes keep copies of it");
	if (rc == 0)
		rc = wr_catalog_project_purged(c->fleet->catalog, &k->q.project, wr_clock_wall().s,
					       err);
	wr_cat_project_fini(&p);
	return rc;
}

static int
create(struct wr_asked *k, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf record = WR_BUF_INIT, settings = WR_BUF_INIT;
	struct wr_control *c = k->c;
	struct wr_settings set = {0};
	struct wr_cat_project p = {0};
	struct wr_record e;
	int rc = wr_hub_read_settings(&k->q.blob, &k->q.project, &set, err);

	if (rc == 0 && strcmp(set.name, k->q.text ? k->q.text : "") != 0)
		rc = wr_err_set(err, WR_E_INVALID, "the name is not that of the settings");
	if (rc < 0)
		goto out;
	/* Asked again: the answer was lost. */
	if (wr_catalog_project_find(c->fleet->catalog, set.id.s, &p, NULL) == 0) {
		if (wr_record_decode(p.record.p, p.record.len, &e, NULL) == 0 &&
		    wr_node_id_eq(&e.writer, &k->q.from) && !strcmp(p.name, set.name))
			answer_created(k, &p.record, &p.settings, p.uid);
		else
			rc = wr_err_set(err, WR_E_EXISTS,
					"id: the fleet has a project '%s' with it", p.name);
		goto out;
	}
	rc = wr_know_may_create(c, &k->q.from, err);
	if (rc == 0)
		rc = wr_hub_first(c, &k->q.from, &set, k->q.number == 0 && set.uid != 0, &record,
				  &settings, err);
	if (rc == 0)
		rc = wr_record_decode(record.p, record.len, &e, err);
	if (rc == 0) {
		struct wr_uuid from = k->q.from.id;

		wr_crash_point("control.name-taken");
		answer_created(k, &record, &settings, set.uid);
		tell_members(c, &e, &record, &settings, &from);
	}
out:
	wr_cat_project_fini(&p);
	wr_settings_fini(&set);
	return rc;
}

int
wr_hub_create(struct wr_asked *k, struct wr_err *err)
{
	struct wr_msg a = WR_MSG_INIT;

	if (k->q.text || k->q.blob.len)
		return create(k, err);
	if (give_back(k, err) < 0)
		return -1;
	wr_msg_answer(&a, &k->q, &k->c->fleet->auth->self, WR_MSG_OK);
	wr_asked_answer(k, &a);
	return 0;
}

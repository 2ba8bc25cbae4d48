/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hub: names and uids of projects, their first records, raises, settings, what nodes report,
 * certificates.  Several hubs may do all this at once; nothing here is needed for safety, which the
 * members see to by their own disks.
 *
 * Raises are machines (fleet/rules/raise.h), one per project at a time; the same wish again joins
 * the one under way.
 */
#include <sys/random.h>

#include "base/log.h"
#include "base/str.h"
#include "fleet/catalog/catalog.h"
#include "fleet/rules/raise.h"
#include "fleet/trust/trust.h"
#include "host/ident/ident.h"
#include "serve/control/know.h"
#include "serve/control/marks.h"
#include "serve/control/replicas.h"
#include "sys/clock.h"
#include "sys/crash.h"
#include "sys/getent.h"

/* LIMITs */
#define RAISES_MAX 256
#define WAITERS_MAX 16
#define REPORTED_BYTES (900u << 10)
#define ASK_MS 5000

struct raise;

/* A question of a machine that is under way. */
struct asking {
	struct raise *r; /* NULL: the machine ended */
	struct wr_control *c;
	struct wr_node_id node;
	enum wr_msg_kind kind;
	struct asking *next;
};
struct raise {
	struct wr_control *c;
	struct wr_uuid project;
	struct wr_raise *m;
	unsigned wish;
	struct wr_node_id node;
	bool accept_loss;
	struct wr_asked *waiter[WAITERS_MAX];
	size_t waiter_count;
	struct asking *asked;
	struct wr_timer wake;
	struct wr_buf settings;
	struct raise *next;
};
struct wr_hub {
	struct raise *raises;
	size_t raise_count;
	bool told_two; /* that two nodes make one fleet that stops with either */
};

static void drive(struct raise *r);

/* ---- beginnings ---- */

static bool
is_here(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	struct wr_proj_row row = {0};
	bool here = wr_row_find(c, project, &row, NULL) == 0 ||
		    wr_place_of_find(c->node, project, &place, NULL) == 0;

	wr_place_of_fini(&place);
	wr_proj_row_fini(&row);
	return here;
}

static int
learn_own(void *ctx, const struct wr_uuid *project, struct wr_err *err)
{
	struct wr_control *c = ctx;
	WR_SCOPED(wr_settings_doc_fini) struct wr_settings_doc doc = {0};
	struct wr_err why = WR_ERR_INIT;
	struct wr_member_state s;
	int rc = 0;

	if (wr_auth_load(c->fleet->auth, project, &s, &why) < 0)
		wr_log_err(WR_LOG_WARNING, "what is known of a project", &why);
	else if (s.has_record && is_here(c, project) &&
		 wr_settings_doc_decode(s.settings.p, s.settings.len, &doc, &why) == 0)
		rc = wr_catalog_project_learn(c->fleet->catalog, &s.record, &s.record_bytes, &doc,
					      &s.settings, err);
	wr_member_fini(&s);
	return rc;
}

/* A catalog that is older than this node's own disk, or empty, must not give away names and uids
 * that projects here have. */
int
wr_hub_begin(struct wr_control *c, struct wr_err *err)
{
	int rc;

	c->fleet->hub = wr_calloc(1, sizeof(*c->fleet->hub));
	if (wr_catalog_begin(c->fleet->catalog, err) < 0)
		return -1;
	rc = wr_auth_each(c->fleet->auth, learn_own, c, err);
	if (rc == 0)
		rc = wr_catalog_commit(c->fleet->catalog, err);
	else
		wr_catalog_abort(c->fleet->catalog);
	if (rc == 0)
		return wr_know_begin(c, err);
	return wr_err_wrap(err, "read this node's projects into the catalog");
}

static void
raise_free(struct raise *r)
{
	struct raise **at = &r->c->fleet->hub->raises;

	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	r->c->fleet->hub->raise_count--;
	for (struct asking *a = r->asked; a; a = a->next)
		a->r = NULL;
	wr_timer_off(&r->c->loop, &r->wake);
	wr_raise_free(r->m);
	wr_buf_fini(&r->settings);
	free(r);
}

void
wr_hub_end(struct wr_control *c)
{
	struct wr_hub *h = c->fleet ? c->fleet->hub : NULL;
	struct wr_err why = WR_ERR_INIT;

	wr_know_end(c);
	if (!h)
		return;
	wr_err_set(&why, WR_E_CANCELLED, "the hub is ending");
	while (h->raises) {
		struct raise *r = h->raises;

		for (size_t i = 0; i < r->waiter_count; i++)
			wr_asked_fail(r->waiter[i], &why);
		raise_free(r);
	}
	free(h);
	c->fleet->hub = NULL;
}

const struct wr_uuid *
wr_hub_pick(struct wr_control *c)
{
	const struct wr_fleet *f = &c->fleet->auth->fleet;
	const struct wr_fleet_node *any = NULL;

	if (c->fleet->hub)
		return &c->fleet->auth->self.id;
	for (size_t i = 0; i < f->node_count; i++) {
		const struct wr_fleet_node *n = &f->node[i];

		if ((n->flags & (WR_FLEET_HUB | WR_FLEET_REMOVED)) != WR_FLEET_HUB)
			continue;
		if (!any || (!*any->peer && *n->peer))
			any = n;
	}
	/* Without any the question goes to ourselves, who say that this is no hub. */
	return any ? &any->node.id : &c->fleet->auth->self.id;
}

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

static uint64_t
random_u64(void)
{
	uint64_t x = 0;

	while (getrandom(&x, sizeof(x), 0) != (ssize_t)sizeof(x))
		;
	return x;
}

static int
sign_settings(struct wr_control *c, const struct wr_settings *set, struct wr_buf *out,
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

	return wr_catalog_uid_next(c->fleet->catalog, first, last, c->node->config.trash_keep,
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
	e.n = (struct wr_epoch){1, random_u64()};
	e.at = wr_clock_wall().s;
	e.settings_rev = io_set->rev;
	e.writer = *writer;
	if (!choose_members(c, &e, err))
		return -1;
	if (wr_record_sign(&e, &c->fleet->hub_key, err) < 0 ||
	    sign_settings(c, io_set, out_settings, err) < 0)
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

static int
read_settings(const struct wr_buf *json, const struct wr_uuid *project, struct wr_settings *out,
	      struct wr_err *err)
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

/* The others hear of it at once, so that they can answer for it; a push tells them as well. */
static void
told(void *ctx WR_UNUSED, const struct wr_msg *answer WR_UNUSED, const struct wr_err *why WR_UNUSED)
{
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
		wr_ask(c, &e->member[i].node.id, &m, ASK_MS, told, NULL);
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

struct elsewhere {
	const struct wr_node_id *asker;
	size_t copies;
};

static int
count_elsewhere(void *ctx, const struct wr_cat_copy *k, struct wr_err *err WR_UNUSED)
{
	struct elsewhere *e = ctx;

	e->copies += !wr_node_id_eq(&k->node, e->asker) && !wr_epoch_none(&k->r.held.n);
	return 0;
}

/* Nothing was made of it, or it was purged where alone it was: the name is free again. Only who was
 * to make it may say so. */
static int
give_back(struct wr_asked *k, struct wr_err *err)
{
	struct wr_control *c = k->c;
	struct elsewhere other = {.asker = &k->q.from};
	struct wr_cat_project p = {0};
	struct wr_record e;
	int rc = wr_catalog_project_find(c->fleet->catalog, k->q.project.s, &p, err);

	if (rc == 0)
		rc = wr_record_decode(p.record.p, p.record.len, &e, err);
	if (rc == 0)
		rc = wr_catalog_copies(c->fleet->catalog, &k->q.project, NULL, count_elsewhere,
				       &other, err);
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
	int rc = read_settings(&k->q.blob, &k->q.project, &set, err);

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

static int
on_create(struct wr_asked *k, struct wr_err *err)
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

/* ---- RAISE ---- */

static void
answer_raised(struct wr_asked *k, const struct wr_buf *record, const struct wr_buf *settings)
{
	struct wr_msg a = WR_MSG_INIT;

	wr_msg_answer(&a, &k->q, &k->c->fleet->auth->self, WR_MSG_RAISED);
	if (record)
		wr_buf_add(&a.record, record->p, record->len);
	wr_buf_add(&a.settings, settings->p, settings->len);
	wr_asked_answer(k, &a);
}

/* A record that was signed may be out there, whatever came of it: it is remembered. */
static void
learn(struct raise *r, struct wr_buf *record)
{
	const struct wr_record *e = wr_raise_record(r->m);
	struct wr_err err = WR_ERR_INIT;

	if (!e)
		return;
	wr_record_encode(e, record);
	if (wr_catalog_project_learn(r->c->fleet->catalog, e, record, NULL, NULL, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "catalog a record", &err);
}

static void
tell_raise(struct raise *r, const struct wr_err *why)
{
	const struct wr_record *e = wr_raise_record(r->m);
	WR_SCOPED(wr_freep) char *text = NULL;

	if (why)
		text = wr_asprintf("not done: %s", why->msg);
	else
		text = wr_asprintf("epoch %" PRIu64 ", writer %s, %zu members%s", e->n.number,
				   wr_fleet_name(r->c, &e->writer.id), e->member_count,
				   e->state == WR_RECORD_DELETED ? ", deleted"
				   : e->accept_loss              ? ", with a loss that was accepted"
								 : "");
	wr_event(r->c, "hub", &r->project, "raise", text, NULL);
}

static void
over(struct raise *r, const struct wr_err *why)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf record = WR_BUF_INIT;

	learn(r, &record);
	tell_raise(r, why);
	if (!why && r->accept_loss)
		wr_know_loss_done(r->c, &r->project);
	while (r->waiter_count) {
		struct wr_asked *k = r->waiter[--r->waiter_count];

		if (why)
			wr_asked_fail(k, why);
		else
			answer_raised(k, &record, &r->settings);
	}
	raise_free(r);
}

/* Who runs it says so; no time is lost with asking the others. */
static bool
runs_there(const struct asking *a, const struct wr_msg *answer, struct wr_err *out)
{
	struct wr_err why = WR_ERR_INIT;

	if (a->kind != WR_MSG_GRANT_ASK ||
	    (answer->kind != WR_MSG_NACK && answer->kind != WR_MSG_ERROR))
		return false;
	wr_msg_get_err(answer, &why);
	if (why.code != WR_E_BUSY)
		return false;
	*out = why;
	wr_err_hint(out, "on node %s: warren move ID --to NODE, or warren stop ID",
		    wr_fleet_name(a->c, &a->node.id));
	return true;
}

static void
asking_free(struct asking *a)
{
	struct asking **at = a->r ? &a->r->asked : NULL;

	while (at && *at && *at != a)
		at = &(*at)->next;
	if (at && *at)
		*at = a->next;
	free(a);
}

static void
on_answer(void *ctx, const struct wr_msg *answer, const struct wr_err *why WR_UNUSED)
{
	struct asking *a = ctx;
	struct raise *r = a->r;
	struct wr_node_id node = a->node;
	struct wr_err busy = WR_ERR_INIT;
	bool runs = r && answer && runs_there(a, answer, &busy);

	asking_free(a);
	if (!r)
		return;
	if (runs) {
		over(r, &busy);
		return;
	}
	if (answer)
		wr_raise_answer(r->m, answer, wr_clock_boot_ns());
	else
		wr_raise_unreachable(r->m, &node, wr_clock_boot_ns());
	drive(r);
}

static void
on_wake(struct wr_timer *t)
{
	struct raise *r = WR_OWNER(t, struct raise, wake);

	wr_raise_tick(r->m, wr_clock_boot_ns());
	drive(r);
}

static void
drive(struct raise *r)
{
	struct wr_msg m = WR_MSG_INIT;
	struct wr_node_id to;
	uint64_t now, wake;

	while (wr_raise_next(r->m, &to, &m)) {
		struct asking *a = wr_calloc(1, sizeof(*a));

		*a = (struct asking){r, r->c, to, m.kind, r->asked};
		r->asked = a;
		wr_ask(r->c, &to.id, &m, ASK_MS, on_answer, a);
		wr_msg_fini(&m);
	}
	switch (wr_raise_state(r->m)) {
	case WR_RAISE_DONE:
		over(r, NULL);
		return;
	case WR_RAISE_FAILED:
		over(r, wr_raise_err(r->m));
		return;
	default:
		break;
	}
	now = wr_clock_boot_ns();
	wake = wr_raise_wake(r->m);
	wr_timer_on(&r->c->loop, &r->wake, wake > now ? wake - now : 0, on_wake);
}

/* ---- what a raise starts from ---- */

static void
newer(struct wr_record *have, bool *io_has, const struct wr_record *other)
{
	if (!*io_has || wr_epoch_cmp(&other->n, &have->n) > 0) {
		*have = *other;
		*io_has = true;
	}
}

/* The newest record that is at hand: catalog, our own disk, the question. */
static int
find_record(struct wr_asked *k, struct wr_record *out, struct wr_buf *settings, uint64_t *rev,
	    struct wr_err *err)
{
	struct wr_control *c = k->c;
	const struct wr_fleet *f = &c->fleet->auth->fleet;
	struct wr_cat_project p = {0};
	struct wr_record e;
	bool has = false;

	if (wr_catalog_project_find(c->fleet->catalog, k->q.project.s, &p, NULL) == 0) {
		if (wr_record_decode(p.record.p, p.record.len, &e, NULL) == 0)
			newer(out, &has, &e);
		wr_buf_add(settings, p.settings.p, p.settings.len);
		*rev = p.settings_rev;
	}
	wr_cat_project_fini(&p);
	if (wr_fleet_record(c, &k->q.project, &e))
		newer(out, &has, &e);
	if (k->q.record.len && wr_record_decode(k->q.record.p, k->q.record.len, &e, NULL) == 0 &&
	    !strcmp(e.project.s, k->q.project.s) && wr_record_verify(&e, f, NULL) == 0)
		newer(out, &has, &e);
	return has ? 0
		   : wr_err_set(err, WR_E_NOT_FOUND, "no record of project %s is known here",
				k->q.project.s);
}

struct opinions {
	struct wr_raise_node *node;
	size_t count;
};

static int
add_copy(void *ctx, const struct wr_cat_copy *k, struct wr_err *err WR_UNUSED)
{
	struct opinions *o = ctx;

	for (size_t i = 0; i < o->count; i++)
		if (wr_node_id_eq(&o->node[i].node, &k->node)) {
			o->node[i].held = k->r.held;
			o->node[i].scan_started = k->r.scan_started;
			o->node[i].warm = !k->r.dirty && k->r.tree_bytes > 0;
		}
	return 0;
}

/* Whoever is asked shows by its answer that it is there; who drains is not chosen. */
static void
opinions_of(struct wr_control *c, const struct wr_record *e, struct opinions *o)
{
	const struct wr_fleet *f = &c->fleet->auth->fleet;

	o->node = wr_calloc(WR_MEMBERS_MAX, sizeof(*o->node));
	for (size_t i = 0; i < e->member_count; i++) {
		const struct wr_fleet_node *n = wr_fleet_has(f, &e->member[i].node);

		o->node[o->count++] = (struct wr_raise_node){
		    .node = e->member[i].node,
		    .ready = n && !(n->flags & (WR_FLEET_REMOVED | WR_FLEET_DRAINING)),
		};
	}
	(void)wr_catalog_copies(c->fleet->catalog, &e->project, NULL, add_copy, o, NULL);
}

static int
may_raise(const struct wr_asked *k, const struct wr_record *e, struct wr_err *err)
{
	const struct wr_fleet_node *n = wr_fleet_has(&k->c->fleet->auth->fleet, &k->q.from);

	if (k->q.kind == WR_MSG_RAISE && k->q.wish == WR_WISH_DELETE &&
	    !wr_node_id_eq(&e->writer, &k->q.from))
		return wr_err_set(err, WR_E_DENIED, "node %s, its writer, deletes it",
				  wr_fleet_name(k->c, &e->writer.id));
	if (wr_record_has(e, &k->q.from) || (n && (n->flags & WR_FLEET_HUB)))
		return 0;
	return wr_err_set(err, WR_E_DENIED, "node %s is no member of the project",
			  wr_fleet_name(k->c, &k->q.from.id));
}

/* A node that was taken over would have older files than there are: an operator says so here. At
 * this hub it was asked by control, which saw to who he is. */
static int
may_lose(const struct wr_asked *k, struct wr_err *err)
{
	struct wr_control *c = k->c;

	if (!k->q.flag || wr_asked_here(k) || wr_know_loss_permitted(c, &k->q.project, &k->q.from))
		return 0;
	wr_err_set(err, WR_E_DENIED, "losing saves has to be permitted at a hub, by an operator");
	return wr_err_hint(err, "on node %s: warren hub permit-loss %s --node %s; then again",
			   wr_fleet_name(c, &c->node->id), k->q.project.s,
			   wr_fleet_name(c, &k->q.from.id));
}

static bool
same_wish(const struct raise *r, const struct wr_msg *q)
{
	return r->wish == q->wish && wr_node_id_eq(&r->node, &q->node) &&
	       r->accept_loss == q->flag && r->waiter_count < WAITERS_MAX;
}

static int
on_raise(struct wr_asked *k, struct wr_err *err)
{
	struct wr_control *c = k->c;
	struct wr_hub *h = c->fleet->hub;
	struct wr_raise_opts o = {.project = k->q.project,
				  .fleet = &c->fleet->auth->fleet,
				  .key = &c->fleet->hub_key,
				  .wish = k->q.wish,
				  .node = k->q.node,
				  .role = WR_ROLE_DATA,
				  .accept_loss = k->q.flag,
				  /* Two at least, unless one is all that was ever wanted. */
				  .min_data =
				      WR_MIN(WR_MAX(c->fleet->auth->fleet.replicas, 1u), 2u),
				  .at = wr_clock_wall().s,
				  .request = 1};
	struct wr_buf settings = WR_BUF_INIT;
	struct opinions op = {0};
	struct wr_record e = {0};
	struct raise *r;

	if (may_lose(k, err) < 0)
		return -1;
	for (r = h->raises; r; r = r->next) {
		if (strcmp(r->project.s, k->q.project.s) != 0)
			continue;
		if (!same_wish(r, &k->q)) {
			wr_err_set(err, WR_E_BUSY,
				   "another change of the project's record is under "
				   "way");
			return wr_err_hint(err, "again in a moment");
		}
		r->waiter[r->waiter_count++] = k;
		return 0;
	}
	if (h->raise_count >= RAISES_MAX)
		return wr_err_set(err, WR_E_BUSY, "too many raises are under way");
	if (find_record(k, &e, &settings, &o.settings_rev, err) < 0 || may_raise(k, &e, err) < 0) {
		wr_buf_fini(&settings);
		return -1;
	}
	opinions_of(c, &e, &op);
	for (size_t i = 0; i < WR_RAISE_TRIES; i++)
		o.random[i] = random_u64();
	if (o.wish == WR_WISH_WITNESS) {
		o.wish = WR_WISH_VOTER;
		o.role = WR_ROLE_WITNESS;
	}
	o.known = &e;
	o.settings = settings;
	o.nodes = op.node;
	o.node_count = op.count;
	/* To another node: what it runs on lets go first. Anything else goes on under its feet. */
	o.ask_grant = (o.wish == WR_WISH_WRITER || o.wish == WR_WISH_UNDELETE) &&
			      !wr_node_id_eq(&o.node, &e.writer)
			  ? WR_GRANT_RELEASE
			  : WR_GRANT_CONSENT;
	r = wr_calloc(1, sizeof(*r));
	r->c = c;
	r->project = k->q.project;
	r->wish = k->q.wish;
	r->node = k->q.node;
	r->accept_loss = k->q.flag;
	r->settings = settings;
	r->waiter[r->waiter_count++] = k;
	r->m = wr_raise_new(&o, wr_clock_boot_ns());
	r->next = h->raises;
	h->raises = r;
	h->raise_count++;
	free(op.node);
	drive(r);
	return 0;
}

/* ---- SETTINGS ---- */

static int
new_settings(struct wr_asked *k, struct wr_cat_project *p, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf doc = WR_BUF_INIT;
	struct wr_settings set = {0};
	int rc = read_settings(&k->q.blob, &k->q.project, &set, err);

	if (rc == 0 && (set.uid != p->uid || set.gid != p->gid))
		rc = wr_err_set(err, WR_E_DENIED, "settings: whose project '%s' is does not change",
				p->name);
	if (rc == 0 && p->settings_rev != k->q.number) {
		rc = wr_err_set(err, WR_E_CHANGED,
				"settings of '%s' are at revision %" PRIu64 ", not %" PRIu64,
				p->name, p->settings_rev, k->q.number);
		wr_err_hint(err, "look at them again: warren settings %s", p->name);
	}
	if (rc == 0) {
		set.rev = k->q.number + 1;
		rc = sign_settings(k->c, &set, &doc, err);
	}
	if (rc == 0) {
		snprintf(p->name, sizeof(p->name), "%s", set.name);
		p->uid = set.uid;
		p->gid = set.gid;
		p->settings_rev = set.rev;
		p->changed = wr_clock_wall().s;
		wr_buf_clear(&p->settings);
		wr_buf_add(&p->settings, doc.p, doc.len);
		rc = wr_catalog_project_put(k->c->fleet->catalog, p, err);
	}
	wr_settings_fini(&set);
	return rc;
}

/* Without any: the newest there are. */
static int
on_settings(struct wr_asked *k, struct wr_err *err)
{
	struct wr_cat_project p = {0};
	struct wr_record e;
	int rc = wr_catalog_project_find(k->c->fleet->catalog, k->q.project.s, &p, err);

	if (rc == 0)
		rc = wr_record_decode(p.record.p, p.record.len, &e, err);
	if (rc == 0)
		rc = may_raise(k, &e, err);
	if (rc == 0 && k->q.blob.len)
		rc = new_settings(k, &p, err);
	if (rc == 0)
		answer_raised(k, NULL, &p.settings);
	wr_cat_project_fini(&p);
	return rc;
}

/* ---- REPORT ---- */

/* Deleted, and the last copy is purged: its name is free. */
static void
look_purged(struct wr_control *c, const struct wr_node_id *from, const struct wr_report *r)
{
	struct elsewhere other = {.asker = from};
	struct wr_cat_project p = {0};
	struct wr_err err = WR_ERR_INIT;

	if (r->state != WR_ST_ABSENT || !wr_epoch_none(&r->held.n) ||
	    wr_catalog_project_find(c->fleet->catalog, r->project.s, &p, NULL) < 0)
		return;
	if (p.deleted &&
	    wr_catalog_copies(c->fleet->catalog, &r->project, NULL, count_elsewhere, &other,
			      &err) == 0 &&
	    !other.copies)
		(void)wr_catalog_project_purged(c->fleet->catalog, &r->project, wr_clock_wall().s,
						&err);
	if (err.code != WR_E_NONE)
		wr_log_err(WR_LOG_ERROR, "catalog a report", &err);
	wr_cat_project_fini(&p);
}

static void
add_blob(struct wr_msg *a, const struct wr_buf *b)
{
	a->blobs = wr_reallocarray(a->blobs, a->blob_count + 1, sizeof(*a->blobs));
	a->blobs[a->blob_count] = (struct wr_buf)WR_BUF_INIT;
	wr_buf_add(&a->blobs[a->blob_count++], b->p, b->len);
}

/* Records newer than what it has, each with its settings; the rest comes with the next report. */
static void
add_newer(struct wr_control *c, const struct wr_report *r, struct wr_msg *a, size_t *io_bytes)
{
	struct wr_cat_project p = {0};

	if (a->blob_count + 2 <= WR_MSG_BLOBS &&
	    wr_catalog_project_find(c->fleet->catalog, r->project.s, &p, NULL) == 0 &&
	    p.record.len && wr_epoch_cmp(&p.n, &r->n) > 0 &&
	    *io_bytes + p.record.len + p.settings.len < REPORTED_BYTES) {
		*io_bytes += p.record.len + p.settings.len;
		add_blob(a, &p.record);
		add_blob(a, &p.settings);
	}
	wr_cat_project_fini(&p);
}

static int
on_report(struct wr_asked *k, struct wr_err *err)
{
	struct wr_control *c = k->c;
	struct wr_msg a = WR_MSG_INIT;
	size_t bytes = 0;

	if (wr_catalog_report(c->fleet->catalog, &k->q.from, k->q.report, k->q.report_count, false,
			      wr_clock_wall().s, err) < 0)
		return -1;
	wr_know_reported(c, &k->q);
	wr_marks_heard(c, &k->q.from.id, k->q.flag);
	wr_msg_answer(&a, &k->q, &c->fleet->auth->self, WR_MSG_REPORTED);
	for (size_t i = 0; i < k->q.report_count; i++) {
		add_newer(c, &k->q.report[i], &a, &bytes);
		look_purged(c, &k->q.from, &k->q.report[i]);
	}
	wr_asked_answer(k, &a);
	return 0;
}

/* ---- CERT ---- */

/* For the names that the fleet record has of it, and no others. */
static int
on_cert(struct wr_asked *k, struct wr_err *err)
{
	struct wr_control *c = k->c;
	const struct wr_fleet_node *n = wr_fleet_has(&c->fleet->auth->fleet, &k->q.from);
	WR_SCOPED(wr_freep) char(*host)[WR_HOST_SIZE] = wr_calloc(WR_CERT_NAMES, sizeof(*host));
	struct wr_cert_ask ask = WR_CERT_ASK_INIT;
	const char *name[WR_CERT_NAMES], *at;
	struct wr_msg a = WR_MSG_INIT;
	struct wr_ca *ca = NULL;
	int rc;

	if (!n || (n->flags & WR_FLEET_REMOVED))
		return wr_err_set(err, WR_E_DENIED, "it is not in the fleet");
	if (wr_auth_hub_ca(c->fleet->auth, &ca, err) < 0)
		return -1;
	ask.fleet = c->fleet->auth->fleet.id;
	ask.node = k->q.from;
	ask.spki = (struct wr_der){k->q.blob.p, k->q.blob.len};
	ask.name = name;
	for (at = n->names;
	     ask.name_count < WR_CERT_NAMES && wr_host_next(&at, host[ask.name_count]);)
		name[ask.name_count] = host[ask.name_count], ask.name_count++;
	ask.now = wr_clock_wall().s;
	wr_msg_answer(&a, &k->q, &c->fleet->auth->self, WR_MSG_CERT_OK);
	rc = wr_cert_issue(ca, &ask, &a.blob, err);
	wr_ca_free(ca);
	if (rc < 0) {
		wr_msg_fini(&a);
		return -1;
	}
	wr_event(c, "hub", NULL, "node.certificate", n->name, NULL);
	wr_asked_answer(k, &a);
	return 0;
}

/* ---- ADDRESS ---- */

static bool
address_ok(const char *s)
{
	char host[WR_HOST_SIZE];
	uint16_t port;

	return !*s || wr_hostport_parse(s, host, &port);
}

/* A node says where it is reached: its own configuration is the truth of that. */
static int
on_address(struct wr_asked *k, struct wr_err *err)
{
	const char *peer = k->q.text ? k->q.text : "", *api = k->q.hint ? k->q.hint : "";
	struct wr_msg a = WR_MSG_INIT;

	if (!address_ok(peer) || !address_ok(api))
		return wr_err_set(err, WR_E_INVALID, "'%s', '%s': no addresses", WR_Q(peer),
				  WR_Q(api));
	if (wr_fleet_set_address(k->c, &k->q.from, peer, api, err) < 0)
		return -1;
	wr_msg_answer(&a, &k->q, &k->c->fleet->auth->self, WR_MSG_OK);
	wr_asked_answer(k, &a);
	return 0;
}

/* ---- all of them ---- */

void
wr_hub_serve(struct wr_asked *k)
{
	struct wr_err err = WR_ERR_INIT;
	int rc;

	if (!k->c->fleet->hub) {
		wr_err_set(&err, WR_E_UNSUPPORTED, "this node is no hub");
		wr_asked_fail(k, &err);
		return;
	}
	switch (k->q.kind) {
	case WR_MSG_CREATE:
		rc = on_create(k, &err);
		break;
	case WR_MSG_RAISE:
		rc = on_raise(k, &err);
		break;
	case WR_MSG_SETTINGS:
		rc = on_settings(k, &err);
		break;
	case WR_MSG_REPORT:
		rc = on_report(k, &err);
		break;
	case WR_MSG_CERT:
		rc = on_cert(k, &err);
		break;
	case WR_MSG_ADDRESS:
		rc = on_address(k, &err);
		break;
	default:
		rc = wr_err_set(&err, WR_E_UNSUPPORTED, "a hub is not asked that");
	}
	if (rc < 0)
		wr_asked_fail(k, &err);
}

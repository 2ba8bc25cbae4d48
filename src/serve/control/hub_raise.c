/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hub: raises.  They are machines (fleet/rules/raise.h), one per project at a time; the same wish
 * again joins the one under way.
 */
#include "base/log.h"
#include "fleet/catalog/catalog.h"
#include "fleet/rules/raise.h"
#include "serve/control/hub_int.h"
#include "serve/control/know.h"
#include "sys/clock.h"

/* LIMITs */
#define RAISES_MAX 256
#define WAITERS_MAX 16

/* A question of a machine that is under way. */
struct asking {
	struct wr_hub_raise *r; /* NULL: the machine ended */
	struct wr_control *c;
	struct wr_node_id node;
	enum wr_msg_kind kind;
	struct asking *next;
};

struct wr_hub_raise {
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
	struct wr_hub_raise *next;
};

static void drive(struct wr_hub_raise *r);

static void
raise_free(struct wr_hub_raise *r)
{
	struct wr_hub_raise **at = &r->c->fleet->hub->raises;

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

/* ---- RAISE ---- */

void
wr_hub_answer_raised(struct wr_asked *k, const struct wr_buf *record, const struct wr_buf *settings)
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
learn(struct wr_hub_raise *r, struct wr_buf *record)
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
tell_raise(struct wr_hub_raise *r, const struct wr_err *why)
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
over(struct wr_hub_raise *r, const struct wr_err *why)
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
			wr_hub_answer_raised(k, &record, &r->settings);
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
	struct wr_hub_raise *r = a->r;
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
	struct wr_hub_raise *r = WR_OWNER(t, struct wr_hub_raise, wake);

	wr_raise_tick(r->m, wr_clock_boot_ns());
	drive(r);
}

static void
drive(struct wr_hub_raise *r)
{
	struct wr_msg m = WR_MSG_INIT;
	struct wr_node_id to;
	uint64_t now, wake;

	while (wr_raise_next(r->m, &to, &m)) {
		struct asking *a = wr_calloc(1, sizeof(*a));

		*a = (struct asking){r, r->c, to, m.kind, r->asked};
		r->asked = a;
		wr_ask(r->c, &to.id, &m, WR_HUB_ASK_MS, on_answer, a);
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

int
wr_hub_may_raise(const struct wr_asked *k, const struct wr_record *e, struct wr_err *err)
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
same_wish(const struct wr_hub_raise *r, const struct wr_msg *q)
{
	return r->wish == q->wish && wr_node_id_eq(&r->node, &q->node) &&
	       r->accept_loss == q->flag && r->waiter_count < WAITERS_MAX;
}

int
wr_hub_raise(struct wr_asked *k, struct wr_err *err)
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
	struct wr_hub_raise *r;

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
	if (find_record(k, &e, &settings, &o.settings_rev, err) < 0 ||
	    wr_hub_may_raise(k, &e, err) < 0) {
		wr_buf_fini(&settings);
		return -1;
	}
	opinions_of(c, &e, &op);
	for (size_t i = 0; i < WR_RAISE_TRIES; i++)
		o.random[i] = wr_hub_random();
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

void
wr_hub_raises_end(struct wr_control *c, const struct wr_err *why)
{
	struct wr_hub *h = c->fleet->hub;

	while (h->raises) {
		struct wr_hub_raise *r = h->raises;

		for (size_t i = 0; i < r->waiter_count; i++)
			wr_asked_fail(r->waiter[i], why);
		raise_free(r);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * H6: a majority of a project's members is gone for good, and the operator says so with the fleet's
 * recovery key.  All members that are not named dead are asked to promise, so that whatever a
 * living one holds is kept; the record that follows has the others alone.
 *
 * Nobody is released: a member that heard the old writer a moment ago promises nothing yet.  A node
 * that was called dead and is not is found out by that.
 */
#include <sys/random.h>

#include "base/log.h"
#include "base/str.h"
#include "fleet/catalog/catalog.h"
#include "fleet/rules/raise.h"
#include "fleet/trust/trust.h"
#include "serve/control/control_int.h"
#include "serve/control/replicas.h"
#include "sys/clock.h"

#define ASK_MS 5000
/* Longer than a hold: a writer that died just now is waited for. */
#define WHOLE_NS (60 * (uint64_t)WR_SECOND)

struct force {
	struct wr_control *c;
	struct wr_req *q; /* NULL: nobody waits any more */
	struct wr_uuid project;
	char name[64], by[64];
	struct wr_sign_key key;
	struct wr_record old;
	struct wr_node_id dead[WR_MEMBERS_MAX];
	size_t dead_count;
	struct wr_report told[WR_MEMBERS_MAX]; /* of old's members, as they last reported */
	struct wr_raise *m;
	struct wr_buf settings;
	size_t asked; /* questions whose answers are still to come */
	bool over;
	struct wr_timer wake;
};

struct question {
	struct force *f;
	struct wr_node_id node;
};

static void drive(struct force *f);

static void
force_free(struct force *f)
{
	wr_timer_off(&f->c->loop, &f->wake);
	wr_raise_free(f->m);
	f->m = NULL;
	wr_sign_key_fini(&f->key);
	wr_buf_fini(&f->settings);
	free(f);
}

/* ---- the answer ---- */

static bool
is_dead(const struct force *f, const struct wr_node_id *node)
{
	for (size_t i = 0; i < f->dead_count; i++)
		if (wr_node_id_eq(&f->dead[i], node))
			return true;
	return false;
}

static void
add_nodes(const struct force *f, json_t *o, const char *key, const struct wr_record *e, bool dead)
{
	json_t *list = wr_json_array(o, key);

	for (size_t i = 0; i < e->member_count; i++) {
		const struct wr_node_id *node = &e->member[i].node;
		const struct wr_fleet_node *n = wr_fleet_has(&f->c->fleet->auth->fleet, node);
		const struct wr_report *r = NULL;
		json_t *j;

		if (is_dead(f, node) != dead)
			continue;
		for (size_t k = 0; k < f->old.member_count; k++)
			if (wr_node_id_eq(&f->old.member[k].node, node))
				r = &f->told[k];
		j = wr_json_item(list);
		wr_json_str(j, "node", node->id.s);
		wr_json_u64(j, "incarnation", node->inc);
		wr_json_str(j, "name", n ? n->name : NULL);
		wr_json_str(j, "dc", n ? n->dc : NULL);
		wr_json_bool(j, "writer", wr_node_id_eq(node, &e->writer));
		wr_json_str(j, "version",
			    r && !wr_epoch_none(&r->held.n) ? wr_version_text(&r->held).s : NULL);
		if (r && r->scan_started)
			wr_json_time(j, "since", r->scan_started);
		else
			wr_json_null(j, "since");
	}
}

/* What the dead were reported to have and base lacks.  What they never reported nobody knows. */
static void
add_loss(const struct force *f, json_t *o, const struct wr_version *base)
{
	json_t *list = wr_json_array(o, "lost");

	for (size_t i = 0; i < f->old.member_count; i++) {
		const struct wr_report *r = &f->told[i];

		if (is_dead(f, &f->old.member[i].node) && wr_version_cmp(&r->held, base) > 0) {
			WR_SCOPED(wr_freep)
			char *text = wr_asprintf(
			    "save %s, which node %s had, is not among what is left (%s)",
			    wr_version_text(&r->held).s,
			    wr_fleet_name(f->c, &f->old.member[i].node.id),
			    wr_version_text(base).s);

			wr_json_add_str(list, text);
		}
	}
}

/* e: the record then; NULL: nothing was done, this is what would be. */
static json_t *
answer_of(const struct force *f, const struct wr_record *e)
{
	const struct wr_record *r = e ? e : &f->old;
	json_t *o = wr_json_begin("warren.force/1");
	struct wr_version base = f->old.base;

	for (size_t i = 0; !e && i < f->old.member_count; i++)
		if (!is_dead(f, &f->old.member[i].node) &&
		    wr_version_cmp(&f->told[i].held, &base) > 0)
			base = f->told[i].held;
	if (e)
		base = e->base;
	wr_json_str(o, "project", f->project.s);
	wr_json_str(o, "name", f->name);
	wr_json_bool(o, "forced", e != NULL);
	wr_json_u64(o, "epoch", r->n.number);
	if (e && !is_dead(f, &e->writer))
		wr_json_str(o, "writer", wr_fleet_name(f->c, &e->writer.id));
	else
		wr_json_null(o, "writer");
	wr_json_str(o, "version", wr_epoch_none(&base.n) ? NULL : wr_version_text(&base).s);
	wr_json_bool(o, "accept_loss", e && e->accept_loss);
	add_nodes(f, o, "members", r, false);
	add_nodes(f, o, "dead", &f->old, true);
	add_loss(f, o, &base);
	return o;
}

/* ---- the machine ---- */

static void
tell(const struct force *f, const struct wr_record *e, const struct wr_err *why)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf names = WR_BUF_INIT;
	WR_SCOPED(wr_freep) char *text = NULL;

	for (size_t i = 0; i < f->dead_count; i++)
		wr_buf_addf(&names, "%s%s (incarnation %u)", i ? ", " : "",
			    wr_fleet_name(f->c, &f->dead[i].id), (unsigned)f->dead[i].inc);
	if (e)
		text = wr_asprintf("epoch %" PRIu64 ", writer %s, without %s%s", e->n.number,
				   wr_fleet_name(f->c, &e->writer.id), wr_buf_str(&names),
				   e->accept_loss ? ", with a loss that was accepted" : "");
	else
		text = wr_asprintf("without %s: not done: %s", wr_buf_str(&names), why->msg);
	wr_event(f->c, f->by, &f->project, "raise.forced", text, NULL);
}

static void
end(struct force *f, const struct wr_err *why)
{
	const struct wr_record *e = wr_raise_record(f->m);
	WR_SCOPED(wr_buf_fini) struct wr_buf bytes = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;

	f->over = true;
	if (e) {
		wr_record_encode(e, &bytes);
		if (wr_catalog_project_learn(f->c->fleet->catalog, e, &bytes, NULL, NULL, &err) < 0)
			wr_log_err(WR_LOG_ERROR, "catalog a record", &err);
	}
	tell(f, why ? NULL : e, why);
	if (f->q) {
		f->q->held = NULL;
		f->q->gone = NULL;
		if (why)
			wr_req_fail(f->q, why);
		else
			wr_req_reply(f->q, 200, 0, answer_of(f, e));
		f->q = NULL;
	}
	wr_timer_off(&f->c->loop, &f->wake);
	if (!f->asked)
		force_free(f);
}

static void
on_answer(void *ctx, const struct wr_msg *answer, const struct wr_err *why)
{
	struct question *k = ctx;
	struct force *f = k->f;
	struct wr_node_id node = k->node;

	free(k);
	f->asked--;
	if (f->over) {
		if (!f->asked)
			force_free(f);
		return;
	}
	if (why && why->code == WR_E_CANCELLED) {
		end(f, why);
		return;
	}
	if (answer)
		wr_raise_answer(f->m, answer, wr_clock_boot_ns());
	else
		wr_raise_unreachable(f->m, &node, wr_clock_boot_ns());
	drive(f);
}

static void
on_wake(struct wr_timer *t)
{
	struct force *f = WR_OWNER(t, struct force, wake);

	wr_raise_tick(f->m, wr_clock_boot_ns());
	drive(f);
}

static void
drive(struct force *f)
{
	struct wr_msg m = WR_MSG_INIT;
	struct wr_node_id to;
	uint64_t now, wake;

	while (wr_raise_next(f->m, &to, &m)) {
		struct question *k = wr_calloc(1, sizeof(*k));

		*k = (struct question){f, to};
		f->asked++;
		wr_ask(f->c, &to.id, &m, ASK_MS, on_answer, k);
		wr_msg_fini(&m);
	}
	if (wr_raise_state(f->m) == WR_RAISE_DONE) {
		end(f, NULL);
		return;
	}
	if (wr_raise_state(f->m) == WR_RAISE_FAILED) {
		end(f, wr_raise_err(f->m));
		return;
	}
	now = wr_clock_boot_ns();
	wake = wr_raise_wake(f->m);
	wr_timer_on(&f->c->loop, &f->wake, wake > now ? wake - now : 0, on_wake);
}

static void
on_gone(struct wr_req *q)
{
	((struct force *)q->held)->q = NULL;
}

static int
fill_random(uint64_t *out, size_t count)
{
	return getrandom(out, count * sizeof(*out), 0) == (ssize_t)(count * sizeof(*out)) ? 0 : -1;
}

/* to.inc 0: whoever has most. */
static int
begin(struct force *f, const struct wr_node_id *to, uint64_t settings_rev, bool accept_loss,
      struct wr_err *err)
{
	struct wr_raise_node node[WR_MEMBERS_MAX];
	struct wr_raise_opts o = {.project = f->project,
				  .fleet = &f->c->fleet->auth->fleet,
				  .key = &f->key,
				  .known = &f->old,
				  .wish = WR_WISH_WRITER,
				  .node = *to,
				  .settings_rev = settings_rev,
				  .settings = f->settings,
				  .accept_loss = accept_loss,
				  .forced = true,
				  .dead = f->dead,
				  .dead_count = f->dead_count,
				  .nodes = node,
				  .node_count = f->old.member_count,
				  .at = wr_clock_wall().s,
				  .request = 1,
				  .timeout_ns = WHOLE_NS};

	if (fill_random(o.random, WR_RAISE_TRIES) < 0)
		return wr_err_sys(err, "random numbers");
	for (size_t i = 0; i < f->old.member_count; i++)
		node[i] = (struct wr_raise_node){.node = f->old.member[i].node,
						 .ready = !is_dead(f, &f->old.member[i].node),
						 .held = f->told[i].held,
						 .scan_started = f->told[i].scan_started};
	f->m = wr_raise_new(&o, wr_clock_boot_ns());
	return 0;
}

/* ---- the call ---- */

static int
take_told(void *ctx, const struct wr_cat_copy *k, struct wr_err *err WR_UNUSED)
{
	struct force *f = ctx;

	for (size_t i = 0; i < f->old.member_count; i++)
		if (wr_node_id_eq(&f->old.member[i].node, &k->node))
			f->told[i] = k->r;
	return 0;
}

/* The newest record of the catalog and of this node's own disk. */
static int
find_old(struct force *f, const char *ref, uint64_t *out_rev, struct wr_err *err)
{
	struct wr_cat_project p = {0};
	struct wr_record own;
	int rc = wr_catalog_project_find(f->c->fleet->catalog, ref, &p, err);

	if (rc == 0)
		rc = wr_record_decode(p.record.p, p.record.len, &f->old, err);
	if (rc == 0) {
		f->project = p.id;
		snprintf(f->name, sizeof(f->name), "%s", p.name);
		wr_buf_add(&f->settings, p.settings.p, p.settings.len);
		*out_rev = p.settings_rev;
		if (wr_fleet_record(f->c, &p.id, &own) && wr_epoch_cmp(&own.n, &f->old.n) > 0)
			f->old = own;
		rc = wr_catalog_copies(f->c->fleet->catalog, &p.id, NULL, take_told, f, err);
	}
	wr_cat_project_fini(&p);
	return rc;
}

/* By id or name, in the incarnation that the record names; it may be removed from the fleet. */
static const struct wr_member *
member_of(const struct force *f, const char *ref)
{
	for (size_t i = 0; i < f->old.member_count; i++) {
		const struct wr_member *m = &f->old.member[i];
		const struct wr_fleet_node *n = wr_fleet_has(&f->c->fleet->auth->fleet, &m->node);

		if (!strcmp(m->node.id.s, ref) || (n && !strcmp(n->name, ref)))
			return m;
	}
	return NULL;
}

static int
add_dead(struct force *f, const char *ref, struct wr_err *err)
{
	const struct wr_member *m = member_of(f, ref);

	if (!m) {
		wr_err_set(err, WR_E_INVALID, "dead: node '%s' is no member of '%s'", WR_Q(ref),
			   f->name);
		return wr_err_hint(err, "warren hub force --dry-run shows who is");
	}
	if (wr_node_id_eq(&m->node, &f->c->fleet->auth->self))
		return wr_err_set(err, WR_E_INVALID, "dead: node '%s' is this one", WR_Q(ref));
	if (!is_dead(f, &m->node))
		f->dead[f->dead_count++] = m->node;
	return 0;
}

static int
read_dead(struct force *f, const struct wr_call *call, struct wr_err *err)
{
	const char *const *list;
	size_t n = wr_call_list(call, "dead", &list), voters = wr_record_voters(&f->old), gone = 0;

	for (size_t i = 0; i < n; i++)
		if (add_dead(f, list[i], err) < 0)
			return -1;
	for (size_t i = 0; i < f->old.member_count; i++)
		gone +=
		    f->old.member[i].role != WR_ROLE_LEARNER && is_dead(f, &f->old.member[i].node);
	if (gone == voters)
		return wr_err_set(err, WR_E_DENIED, "nobody is left who has '%s'", f->name);
	if (voters - gone >= wr_record_majority(&f->old)) {
		wr_err_set(err, WR_E_DENIED,
			   "%zu of the %zu that vote on '%s' are left, and need no force",
			   voters - gone, voters, f->name);
		return wr_err_hint(err,
				   "warren start %s there; warren replica remove takes the "
				   "others out",
				   f->name);
	}
	return 0;
}

static int
read_to(struct force *f, const char *ref, struct wr_node_id *out, struct wr_err *err)
{
	const struct wr_member *m = ref ? member_of(f, ref) : NULL;

	if (!ref)
		return 0;
	if (!m || m->role != WR_ROLE_DATA || is_dead(f, &m->node))
		return wr_err_set(err, WR_E_INVALID, "to: node '%s' keeps no copy of '%s'",
				  WR_Q(ref), f->name);
	*out = m->node;
	return 0;
}

static int
read_key(struct force *f, const char *path, struct wr_err *err)
{
	if (!path)
		return wr_err_set(err, WR_E_INVALID, "key: the recovery key's file is needed");
	if (*path != '/')
		return wr_err_set(err, WR_E_INVALID, "key: '%s' is no absolute path", WR_Q(path));
	if (wr_auth_recovery_load(path, &f->key, err) < 0)
		return -1;
	if (memcmp(f->key.pub.b, f->c->fleet->auth->fleet.recovery.b, sizeof(f->key.pub.b)) != 0)
		return wr_err_set(err, WR_E_DENIED, "'%s' is not this fleet's recovery key",
				  WR_Q(path));
	return 0;
}

int
wr_on_force(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	struct wr_node_id to = {.inc = 0};
	struct force *f;
	uint64_t rev = 0;

	if (!c->fleet || !c->fleet->catalog) {
		wr_err_set(err, WR_E_UNSUPPORTED, "this node is no hub");
		return wr_err_hint(err, "warren node list shows which is");
	}
	/* The file is opened by root: for those who are at this host. */
	if (q->who.nobody)
		return wr_err_set(err, WR_E_DENIED, "that is for those who are at the hub itself");
	f = wr_calloc(1, sizeof(*f));
	f->c = c;
	snprintf(f->by, sizeof(f->by), "%s", q->who.by);
	if (find_old(f, wr_call_str(&q->call, "project"), &rev, err) < 0 ||
	    read_dead(f, &q->call, err) < 0 ||
	    read_to(f, wr_call_str(&q->call, "to"), &to, err) < 0)
		goto bad;
	if (wr_call_bool(&q->call, "dry_run", false)) {
		wr_req_reply(q, 200, 0, answer_of(f, NULL));
		force_free(f);
		return 0;
	}
	if (read_key(f, wr_call_str(&q->call, "key"), err) < 0 ||
	    begin(f, &to, rev, wr_call_bool(&q->call, "accept_loss", false), err) < 0)
		goto bad;
	f->q = q;
	q->held = f;
	q->gone = on_gone;
	drive(f);
	return 0;
bad:
	force_free(f);
	return -1;
}

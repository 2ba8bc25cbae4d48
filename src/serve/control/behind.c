/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who holds what by the receipts of operations (node.db, table replica), who is behind and when it
 * is tried again.
 */
#include <stdlib.h>

#include "base/log.h"
#include "base/str.h"
#include "serve/control/copies_int.h"
#include "serve/control/replicas.h"
#include "sys/clock.h"

/* Who is behind is tried again after 5 s, then twice as long each time, up to the configured most.
 */
#define RETRY_S 5
/* LIMIT: projects whose retries are begun in one go. */
#define RETRIES_AT_ONCE 64
#define SOON_S 2
/* A damaged copy is tried again after so long: it is refilled by then, or not. */
#define DAMAGED_S 30

static void on_retry(struct wr_timer *t);

/* ---- receipts ---- */

static int64_t
backoff_s(struct wr_control *c, uint32_t tries)
{
	uint64_t most = c->node->config.replica_retry_max;
	uint64_t s = (uint64_t)RETRY_S << WR_MIN(tries, 16u);
	uint64_t jitter = wr_clock_mono_ns() / 1000 % 100;

	s = WR_MIN(s, WR_MAX(most, (uint64_t)RETRY_S));
	/* Many that fell behind together do not come back together. */
	return (int64_t)(s - s * jitter / 400);
}

static void
store_row(struct wr_control *c, const struct wr_replica_row *r)
{
	struct wr_err err = WR_ERR_INIT;

	if (wr_store_replica_put(c->store, r, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "note who holds what", &err);
}

static void
tell_behind(struct wr_control *c, const struct wr_replica_row *r, bool behind)
{
	const char *name = wr_fleet_name(c, &r->node);
	WR_SCOPED(wr_freep)
	char *why = behind ? wr_asprintf("replica %s is behind: %s", name, r->error)
			   : wr_asprintf("replica %s has caught up", name);

	wr_event(c, "control", &r->project, behind ? "replica.behind" : "replica.current", why,
		 NULL);
}

static void
fell_behind(struct wr_control *c, struct wr_replica_row *r, const char *msg, const char *hint)
{
	int64_t now = wr_clock_wall().s;
	bool first = r->behind_since == 0;

	snprintf(r->error, sizeof(r->error), "%s", msg);
	snprintf(r->hint, sizeof(r->hint), "%s", hint);
	if (first) {
		r->behind_since = now;
		r->tries = 0;
	}
	r->next_try = now + backoff_s(c, r->tries++);
	store_row(c, r);
	wr_uuids_add(&c->fleet->copies->behind, &r->node);
	if (first)
		tell_behind(c, r, true);
}

static void
caught_up(struct wr_control *c, struct wr_replica_row *r)
{
	bool was = *r->error != '\0';

	r->behind_since = r->next_try = r->latest = 0;
	r->tries = 0;
	r->error[0] = r->hint[0] = '\0';
	store_row(c, r);
	if (was)
		tell_behind(c, r, false);
}

/* "7.12" */
static void
read_version(const char *text, struct wr_replica_row *r)
{
	unsigned long long epoch = 0, seq = 0;
	char *end = NULL;

	epoch = strtoull(text, &end, 10);
	if (*end == '.')
		seq = strtoull(end + 1, NULL, 10);
	r->epoch = epoch;
	r->seq = seq;
}

/* The other node knows a newer record: judged here as if a hub had sent it. */
void
wr_copies_record(struct wr_control *c, const struct wr_uuid *project, const char *b64)
{
	struct wr_msg m = WR_MSG_INIT;

	m.kind = WR_MSG_INSTALL;
	m.project = *project;
	if (wr_base64_decode(&m.record, b64, strlen(b64)))
		wr_ask(c, &c->fleet->auth->self.id, &m, WR_COPIES_ASK_MS, NULL, NULL);
	wr_msg_fini(&m);
}

static void
take_target(struct wr_control *c, const struct wr_uuid *project, const struct wr_replica_rows *have,
	    const json_t *e, int64_t scan)
{
	struct wr_replica_row r = {.project = *project};
	const char *record = wr_json_get_str(e, "record", NULL);
	struct wr_err why = WR_ERR_INIT;

	if (!wr_uuid_parse(wr_json_get_str(e, "node", ""), &r.node))
		return;
	for (size_t i = 0; i < have->count; i++)
		if (!strcmp(have->row[i].node.s, r.node.s))
			r = have->row[i];
	r.at = wr_clock_wall().s;
	if (wr_json_get_bool(e, "ok", false)) {
		int64_t since = wr_json_get_time(e, "since", 0);

		read_version(wr_json_get_str(e, "version", ""), &r);
		r.scan_started = wr_held_until(r.scan_started, WR_MAX(scan, since), r.at);
		r.settings_rev = WR_MAX(r.settings_rev, wr_json_get_u64(e, "settings_rev", 0));
		caught_up(c, &r);
	} else {
		wr_json_get_err(wr_json_get_obj(e, "error"), &why);
		r.latest = wr_json_get_time(e, "latest", r.latest);
		fell_behind(c, &r, why.msg, why.hint);
	}
	if (record)
		wr_copies_record(c, project, record);
}

/* Rows of nodes that are members no more. */
static void
drop_others(struct wr_control *c, const struct wr_uuid *project, const struct wr_replica_rows *have)
{
	struct wr_record e;

	if (!wr_fleet_record(c, project, &e))
		return;
	for (size_t i = 0; i < have->count; i++)
		if (!wr_record_member(&e, &have->row[i].node))
			(void)wr_store_replica_drop(c->store, project, &have->row[i].node, NULL);
}

static const json_t *
part_with_targets(const json_t *receipt)
{
	static const char *const parts[] = {"stop", "start", "save"};

	if (wr_json_get_arr(receipt, "replicas"))
		return receipt;
	for (size_t i = 0; i < WR_ARRAY_LEN(parts); i++) {
		const json_t *p = wr_json_get_obj(receipt, parts[i]);

		if (p && wr_json_get_arr(p, "replicas"))
			return p;
	}
	return NULL;
}

void
wr_copies_took(struct wr_control *c, const struct wr_uuid *project, const json_t *receipt)
{
	const json_t *part = part_with_targets(receipt);
	const json_t *list = part ? wr_json_get_arr(part, "replicas") : NULL, *e;
	struct wr_replica_rows have = {0};
	int64_t scan;
	size_t i;

	if (!wr_copies_of(c) || !list)
		return;
	scan = wr_json_get_time(part, "scan_started", 0);
	if (!scan)
		scan = wr_json_get_time(wr_json_get_obj(part, "save"), "scan_started", 0);
	wr_replica_rows(c, project, &have);
	json_array_foreach(list, i, e) take_target(c, project, &have, e, scan);
	drop_others(c, project, &have);
	free(have.row);
	wr_timer_sooner(&c->loop, &c->fleet->copies->retry, WR_SECOND, on_retry);
}

/* Whoever lacks the newest save, or what was set since, is sent it, also who was not asked for this
 * time. */
void
wr_copies_note_behind(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_holding h[WR_MEMBERS_MAX];
	struct wr_version own;
	struct wr_member_state ms;
	size_t n = 0;
	bool any = false;

	if (wr_auth_load(c->fleet->auth, project, &ms, NULL) < 0)
		return;
	own = wr_member_version(&ms);
	if (ms.has_record && wr_node_id_eq(&ms.record.writer, &c->fleet->auth->self))
		n = wr_holdings(c, &ms, NULL, h);
	for (size_t i = 0; i < n; i++) {
		struct wr_replica_row r = h[i].row;

		if (h[i].self || h[i].member->role == WR_ROLE_WITNESS || r.behind_since ||
		    (h[i].epoch == own.n.number && h[i].seq >= own.s &&
		     h[i].row.settings_rev >= ms.settings_rev))
			continue;
		r.project = *project;
		r.node = h[i].member->node.id;
		r.behind_since = wr_clock_wall().s;
		r.next_try = r.behind_since + SOON_S;
		store_row(c, &r);
		any = true;
	}
	wr_member_fini(&ms);
	if (any)
		wr_timer_sooner(&c->loop, &c->fleet->copies->retry, SOON_S * (uint64_t)WR_SECOND,
				on_retry);
}

/* One that could not even begin to send: later. */
static void
put_off(struct wr_control *c, const struct wr_uuid *project, const struct wr_err *why)
{
	struct wr_replica_rows have = {0};

	wr_replica_rows(c, project, &have);
	for (size_t i = 0; i < have.count; i++)
		if (have.row[i].behind_since)
			fell_behind(c, &have.row[i], why->msg, why->hint);
	free(have.row);
	wr_timer_sooner(&c->loop, &c->fleet->copies->retry, RETRY_S * (uint64_t)WR_SECOND,
			on_retry);
}

static void
give_back(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_proj_row row = {0};

	if (wr_row_find(c, project, &row, NULL) < 0 && wr_fleet_is_writer(c, project))
		wr_reserve_free(c, project);
	wr_proj_row_fini(&row);
}

void
wr_copies_op_ended(struct wr_control *c, const struct wr_op_row *op, const json_t *receipt,
		   const struct wr_err *why)
{
	if (!wr_copies_of(c))
		return;
	if (receipt)
		wr_copies_took(c, &op->project, receipt);
	else if (op->kind == WR_OP_REPLICATE && why && !strcmp(op->by, "schedule"))
		put_off(c, &op->project, why);
	wr_copies_note_behind(c, &op->project);
	wr_sides_op_ended(c, op, receipt);
	/* Nothing is left of it here, and it was nowhere else. */
	if ((op->kind == WR_OP_CREATE && !receipt) || (op->kind == WR_OP_PURGE && receipt))
		give_back(c, &op->project);
	wr_uuids_add(&c->fleet->copies->changed, &op->project);
}

/* ---- retries ---- */

int
wr_copies_replicate(struct wr_control *c, const struct wr_proj_row *row, json_t *targets,
		    const char *by, struct wr_uuid *out, struct wr_err *err)
{
	struct wr_op_wish w = {.row = row,
			       .kind = WR_OP_REPLICATE,
			       .args = json_object(),
			       .by = by,
			       .scheduled = !strcmp(by, "schedule")};

	if (targets)
		wr_json_take(w.args, "targets", targets);
	return wr_op_submit(c, &w, out, err);
}

struct retry {
	struct wr_uuid project;
	int64_t saved;
	json_t *targets;
};

struct retries {
	struct wr_control *c;
	struct retry *of;
	size_t count, cap;
	int64_t now, next;
};

static int
look_due(void *ctx, const struct wr_replica_row *r, struct wr_err *err WR_UNUSED)
{
	struct retries *l = ctx;
	struct wr_proj *p = wr_proj_find(l->c, &r->project);
	struct retry *t = l->count ? &l->of[l->count - 1] : NULL;

	if (p && (p->copying || p->to_copy))
		return 0; /* its end looks again */
	if (r->next_try > l->now) {
		l->next = l->next ? WR_MIN(l->next, r->next_try) : r->next_try;
		return 0;
	}
	if (!t || strcmp(t->project.s, r->project.s) != 0) {
		wr_grow(&l->of, &l->cap, l->count + 1, sizeof(*l->of));
		t = &l->of[l->count++];
		*t = (struct retry){.project = r->project, .targets = json_array()};
	}
	wr_json_add_str(t->targets, r->node.s);
	return 0;
}

/* Newest work first. */
static int
by_saved(const void *a, const void *b)
{
	const struct retry *x = a, *y = b;

	return x->saved > y->saved ? -1 : x->saved < y->saved;
}

static void
retry_one(struct wr_control *c, struct retry *t)
{
	struct wr_proj_row row = {0};
	struct wr_err err = WR_ERR_INIT;
	struct wr_uuid op;

	if (wr_row_find(c, &t->project, &row, NULL) < 0 || row.deleted ||
	    !wr_fleet_is_writer(c, &t->project)) {
		/* Whoever is writer now sees to it. */
		(void)wr_store_replica_drop(c->store, &t->project, NULL, NULL);
		wr_proj_row_fini(&row);
		return;
	}
	if (wr_copies_replicate(c, &row, wr_steal(&t->targets), "schedule", &op, &err) < 0)
		put_off(c, &t->project, &err);
	wr_proj_row_fini(&row);
}

static void
on_retry(struct wr_timer *t)
{
	struct wr_copies *k = WR_OWNER(t, struct wr_copies, retry);
	struct wr_control *c = k->c;
	struct retries l = {.c = c, .now = wr_clock_wall().s};
	struct wr_err err = WR_ERR_INIT;

	if (c->draining)
		return;
	if (wr_store_replica_each(c->store, NULL, look_due, &l, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "look who is behind", &err);
	for (size_t i = 0; i < l.count; i++) {
		struct wr_proj_row row = {0};

		if (wr_row_find(c, &l.of[i].project, &row, NULL) == 0)
			l.of[i].saved = row.save_began;
		wr_proj_row_fini(&row);
	}
	if (l.count)
		qsort(l.of, l.count, sizeof(*l.of), by_saved);
	for (size_t i = 0; i < l.count; i++) {
		if (i < RETRIES_AT_ONCE && c->copying < WR_COPYING_MAX)
			retry_one(c, &l.of[i]);
		else
			l.next = l.now + SOON_S;
		json_decref(l.of[i].targets);
	}
	free(l.of);
	if (l.next)
		wr_timer_sooner(&c->loop, t,
				(uint64_t)WR_MAX(l.next - l.now, (int64_t)1) * WR_SECOND, on_retry);
}

struct seen {
	struct wr_control *c;
	const struct wr_uuid *node;
	struct wr_replica_rows rows;
};

static int
look_seen(void *ctx, const struct wr_replica_row *r, struct wr_err *err)
{
	struct seen *s = ctx;

	return strcmp(r->node.s, s->node->s) != 0 ? 0 : wr_replica_row_take(&s->rows, r, err);
}

void
wr_copies_seen(struct wr_control *c, const struct wr_uuid *node)
{
	struct wr_copies *k = wr_copies_of(c);
	struct seen s = {.c = c, .node = node};

	if (!k || !wr_uuids_has(&k->behind, node))
		return;
	for (size_t i = 0; i < k->behind.count; i++)
		if (!strcmp(k->behind.id[i].s, node->s))
			k->behind.id[i] = k->behind.id[--k->behind.count];
	if (wr_store_replica_each(c->store, NULL, look_seen, &s, NULL) == 0)
		for (size_t i = 0; i < s.rows.count; i++) {
			s.rows.row[i].next_try = wr_clock_wall().s;
			store_row(c, &s.rows.row[i]);
		}
	free(s.rows.row);
	wr_timer_sooner(&c->loop, &k->retry, WR_SECOND, on_retry);
}

void
wr_copies_damaged(struct wr_control *c, const struct wr_uuid *project, const struct wr_uuid *node)
{
	struct wr_replica_row r = {.project = *project, .node = *node};
	struct wr_replica_rows have = {0};

	wr_replica_rows(c, project, &have);
	for (size_t i = 0; i < have.count; i++)
		if (!strcmp(have.row[i].node.s, node->s))
			r = have.row[i];
	free(have.row);
	r.epoch = r.seq = 0;
	r.scan_started = 0;
	r.at = wr_clock_wall().s;
	if (!r.behind_since)
		r.behind_since = r.at;
	r.next_try = r.at + DAMAGED_S;
	snprintf(r.error, sizeof(r.error), "its copy was found damaged, and is being refilled");
	*r.hint = '\0';
	store_row(c, &r);
	wr_timer_sooner(&c->loop, &wr_copies_of(c)->retry, DAMAGED_S * (uint64_t)WR_SECOND,
			on_retry);
}

/* ---- beginning and end ---- */

static int
look_behind(void *ctx, const struct wr_replica_row *r, struct wr_err *err WR_UNUSED)
{
	struct wr_control *c = ctx;

	wr_uuids_add(&c->fleet->copies->behind, &r->node);
	return 0;
}

void
wr_behind_begin(struct wr_control *c)
{
	(void)wr_store_replica_each(c->store, NULL, look_behind, c, NULL);
	wr_timer_on(&c->loop, &c->fleet->copies->retry, SOON_S * (uint64_t)WR_SECOND, on_retry);
}

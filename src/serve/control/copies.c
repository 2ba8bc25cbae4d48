/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who holds what of the projects here: what members acknowledged (node.db, table replica), who is
 * behind and when it is tried again, files of copies brought along, what hubs are told.
 *
 * What an ACK says is evidence of the other node's disk at that time.  Nothing here decides who may
 * write or what is safe by protocol; it says what was heard, and asks for operations.
 */
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "fleet/catalog/catalog.h"
#include "fleet/rules/safe.h"
#include "serve/control/deletion.h"
#include "serve/control/drops.h"
#include "serve/control/marks.h"
#include "serve/control/replicas.h"
#include "sys/clock.h"
#include "sys/fs.h"

/* Who is behind is tried again after 5 s, then twice as long each time, up to the configured most.
 */
#define RETRY_S 5
/* LIMIT: projects whose retries are begun in one go. */
#define RETRIES_AT_ONCE 64
/* The files of a copy follow [replica] tree_after the first save that they lack; sooner where all
 * copies are to, or someone's work lies in them. */
#define UPDATE_EAGER_S 2
#define UPDATE_DIRTY_S 5
#define UPDATE_AGAIN_S 300
#define REPORT_S 60
#define REPORT_MS 30000
#define SOON_S 2
/* A damaged copy is tried again after so long: it is refilled by then, or not. */
#define DAMAGED_S 30
/* LIMIT: of one message. */
#define REPORTS_MAX 4000
#define RECORDS_BYTES (900u << 10)

struct due {
	struct wr_uuid project;
	uint64_t at_s; /* monotonic */
};
struct uuids {
	struct wr_uuid *id;
	size_t count, cap;
};
struct wr_copies {
	struct wr_control *c;
	struct wr_timer retry, update, report, adopt;
	struct due *due; /* files to bring along */
	size_t due_count, due_cap;
	struct uuids changed; /* to be reported */
	struct uuids orphans; /* projects without a record, to be given one */
	struct uuids behind;  /* nodes that are, to tell at once when one is back */
	bool asking;          /* a hub, for an orphan's record */
	struct wr_opening *openings;
	struct wr_sides *sides;
};

static void on_retry(struct wr_timer *t);
static void on_update(struct wr_timer *t);

static bool
has_uuid(const struct uuids *l, const struct wr_uuid *id)
{
	for (size_t i = 0; i < l->count; i++)
		if (!strcmp(l->id[i].s, id->s))
			return true;
	return false;
}

static void
add_uuid(struct uuids *l, const struct wr_uuid *id)
{
	if (has_uuid(l, id))
		return;
	wr_grow(&l->id, &l->cap, l->count + 1, sizeof(*l->id));
	l->id[l->count++] = *id;
}

static struct wr_copies *
copies_of(struct wr_control *c)
{
	return c->fleet ? c->fleet->copies : NULL;
}

struct wr_opening **
wr_copies_openings(struct wr_control *c)
{
	return &c->fleet->copies->openings;
}

struct wr_sides **
wr_copies_sides(struct wr_control *c)
{
	struct wr_copies *k = copies_of(c);

	return k ? &k->sides : NULL;
}

static void
sooner(struct wr_control *c, struct wr_timer *t, uint64_t after_ns, void (*fn)(struct wr_timer *t))
{
	uint64_t at = wr_clock_mono_ns() + after_ns;

	if (!t->on || t->at_ns > at)
		wr_timer_on(&c->loop, t, after_ns, fn);
}

/* ---- what is known of a project ---- */

bool
wr_fleet_record(struct wr_control *c, const struct wr_uuid *project, struct wr_record *out)
{
	struct wr_member_state ms;
	bool has;

	if (!c->fleet || wr_auth_load(c->fleet->auth, project, &ms, NULL) < 0)
		return false;
	has = ms.has_record;
	if (has)
		*out = ms.record;
	wr_member_fini(&ms);
	return has;
}

bool
wr_fleet_is_writer(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_record e;

	return wr_fleet_record(c, project, &e) && wr_node_id_eq(&e.writer, &c->fleet->auth->self);
}

const struct wr_fleet_node *
wr_fleet_node_of(struct wr_control *c, const char *ref, struct wr_err *err)
{
	const struct wr_fleet *f = &c->fleet->auth->fleet;
	const struct wr_fleet_node *n;
	struct wr_uuid id;

	n = wr_uuid_parse(ref, &id) ? wr_fleet_find(f, &id) : wr_fleet_by_name(f, ref);
	if (n && !(n->flags & WR_FLEET_REMOVED))
		return n;
	wr_err_set(err, WR_E_NOT_FOUND, "the fleet has no node '%s'", WR_Q(ref));
	wr_err_hint(err, "'warren node list' shows all");
	return NULL;
}

struct rows {
	struct wr_replica_row *row;
	size_t count, cap;
};

static int
take_row(void *ctx, const struct wr_replica_row *r, struct wr_err *err WR_UNUSED)
{
	struct rows *l = ctx;

	wr_grow(&l->row, &l->cap, l->count + 1, sizeof(*l->row));
	l->row[l->count++] = *r;
	return 0;
}

static void
rows_of(struct wr_control *c, const struct wr_uuid *project, struct rows *out)
{
	struct wr_err err = WR_ERR_INIT;

	if (wr_store_replica_each(c->store, project, take_row, out, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "read who holds what", &err);
}

int64_t
wr_held_until(int64_t before, int64_t told, int64_t now)
{
	return before > now ? told : WR_MAX(before, told);
}

size_t
wr_holdings(struct wr_control *c, const struct wr_member_state *ms, const struct wr_proj_row *row,
	    struct wr_holding out[WR_MEMBERS_MAX])
{
	const struct wr_auth *a = c->fleet->auth;
	struct wr_version own = wr_member_version(ms);
	struct rows l = {0};

	rows_of(c, &ms->project, &l);
	for (size_t i = 0; i < ms->record.member_count; i++) {
		const struct wr_member *m = &ms->record.member[i];
		struct wr_holding *h = &out[i];

		*h = (struct wr_holding){.member = m,
					 .node = wr_fleet_find(&a->fleet, &m->node.id),
					 .self = wr_node_id_eq(&m->node, &a->self)};
		if (h->self) {
			h->epoch = own.n.number;
			h->seq = own.s;
			h->scan_started = ms->has_save ? ms->save.scan_started : 0;
			/* A later scan that found nothing new says that this is still all. */
			if (row && row->save_ok && wr_node_id_eq(&ms->record.writer, &a->self))
				h->scan_started = wr_held_until(h->scan_started, row->save_began,
								wr_clock_wall().s);
			continue;
		}
		for (size_t k = 0; k < l.count; k++)
			if (!strcmp(l.row[k].node.s, m->node.id.s))
				h->row = l.row[k];
		h->epoch = h->row.epoch;
		h->seq = h->row.seq;
		h->scan_started = h->row.scan_started;
	}
	free(l.row);
	return ms->record.member_count;
}

/* a before b: it holds more. */
static int
by_version(const struct wr_holding *a, const struct wr_holding *b)
{
	if (a->epoch != b->epoch)
		return a->epoch > b->epoch ? -1 : 1;
	if (a->seq != b->seq)
		return a->seq > b->seq ? -1 : 1;
	return a->scan_started > b->scan_started ? -1 : a->scan_started < b->scan_started;
}

int64_t
wr_recovery_point(const struct wr_record *e, const struct wr_holding *h, size_t count)
{
	size_t need = wr_record_majority(e), n = 0;
	struct wr_holding sorted[WR_MEMBERS_MAX];

	for (size_t i = 0; i < count; i++) {
		size_t at = n;

		if (h[i].member->role != WR_ROLE_DATA || h[i].epoch == 0)
			continue;
		while (at > 0 && by_version(&h[i], &sorted[at - 1]) < 0) {
			sorted[at] = sorted[at - 1];
			at--;
		}
		sorted[at] = h[i];
		n++;
	}
	return n >= need ? sorted[need - 1].scan_started : 0;
}

/* ---- as JSON ---- */

static const char *
role_name(enum wr_role role)
{
	return role == WR_ROLE_DATA ? "data" : role == WR_ROLE_WITNESS ? "witness" : "learner";
}

static void
time_or_null(json_t *o, const char *key, int64_t t)
{
	if (t)
		wr_json_time(o, key, t);
	else
		wr_json_null(o, key);
}

static void
version_json(json_t *o, const char *key, uint64_t epoch, uint64_t seq)
{
	struct wr_version v = {{epoch, 0}, seq};

	wr_json_str(o, key, epoch ? wr_version_text(&v).s : NULL);
}

static void
holding_json(json_t *o, const struct wr_holding *h, const struct wr_record *e,
	     const struct wr_holding *writer)
{
	bool same = writer && h->epoch == writer->epoch && h->seq >= writer->seq;
	int64_t now = wr_clock_wall().s;

	wr_json_str(o, "node", h->member->node.id.s);
	wr_json_str(o, "name", h->node ? h->node->name : NULL);
	wr_json_str(o, "dc", h->node ? h->node->dc : NULL);
	wr_json_str(o, "role", role_name(h->member->role));
	wr_json_bool(o, "writer", wr_node_id_eq(&h->member->node, &e->writer));
	version_json(o, "version", h->epoch, h->seq);
	time_or_null(o, "since", h->scan_started);
	if (h->member->role == WR_ROLE_WITNESS || !writer) {
		wr_json_null(o, "ok");
		wr_json_null(o, "behind");
	} else {
		wr_json_bool(o, "ok", same);
		if (same)
			wr_json_null(o, "behind");
		else
			wr_json_u64(o, "behind",
				    h->scan_started && now > h->scan_started
					? (uint64_t)(now - h->scan_started)
					: 0);
	}
	/* For recovery alone: nothing is safe by it. */
	time_or_null(o, "latest", h->row.latest);
	time_or_null(o, "at", h->row.at);
	wr_json_str(o, "error", *h->row.error ? h->row.error : NULL);
	wr_json_str(o, "hint", *h->row.hint ? h->row.hint : NULL);
	time_or_null(o, "next_try", h->row.behind_since ? h->row.next_try : 0);
}

/* {in, of, dcs, since}: what the newest save of this node, the writer, is known to be held by. */
static void
safe_json(struct wr_control *c, json_t *o, const struct wr_member_state *ms,
	  const struct wr_holding *h, size_t count)
{
	struct wr_acked acked[WR_MEMBERS_MAX] = {0};
	struct wr_version v = wr_member_version(ms);
	struct wr_safe safe;
	json_t *s;

	for (size_t i = 0; i < count; i++) {
		acked[i].node = h[i].member->node;
		if (h[i].self && wr_flag_is(c->node, WR_FLAG_DAMAGED, &ms->project))
			continue; /* F20: what it holds counts for nothing */
		acked[i].v = (struct wr_version){{h[i].epoch, 0}, h[i].seq};
		if (h[i].epoch == v.n.number) /* its own pushes: the epoch is this one */
			acked[i].v.n = v.n;
	}
	safe = wr_safe_of(&ms->record, &v, acked, count, &c->fleet->auth->fleet);
	s = wr_json_object(o, "safe");
	wr_json_bool(s, "now", safe.safe);
	wr_json_u64(s, "in", safe.in);
	wr_json_u64(s, "of", safe.data);
	wr_json_u64(s, "dcs", safe.dcs);
	time_or_null(s, "since", wr_recovery_point(&ms->record, h, count));
}

static const char *
side_of(const struct wr_save_ref *ref)
{
	return ref->name + strlen("refs/heads/");
}

void
wr_fleet_json(struct wr_control *c, json_t *o, const struct wr_proj_row *r, enum wr_item how)
{
	struct wr_holding h[WR_MEMBERS_MAX];
	const struct wr_holding *writer = NULL;
	struct wr_member_state ms;
	json_t *w, *list;
	size_t count;

	if (!c->fleet || wr_auth_load(c->fleet->auth, &r->id, &ms, NULL) < 0)
		return;
	if (ms.has_record) {
		bool here = wr_node_id_eq(&ms.record.writer, &c->fleet->auth->self);
		struct wr_version v = wr_member_version(&ms);

		wr_json_u64(o, "epoch", ms.record.n.number);
		w = wr_json_object(o, "writer");
		wr_json_str(w, "node", ms.record.writer.id.s);
		wr_json_str(w, "name", wr_fleet_name(c, &ms.record.writer.id));
		version_json(o, "version", v.n.number, v.s);
		count = wr_holdings(c, &ms, r, h);
		for (size_t i = 0; here && i < count; i++)
			if (h[i].self)
				writer = &h[i];
		if (writer)
			safe_json(c, o, &ms, h, count);
		else
			wr_json_null(o, "safe");
		list = how == WR_ITEM_SHOW ? wr_json_array(o, "replicas") : NULL;
		for (size_t i = 0; list && i < count; i++)
			holding_json(wr_json_item(list), &h[i], &ms.record, writer);
		list = how == WR_ITEM_SHOW ? wr_json_array(o, "sides") : NULL;
		for (size_t i = 0; list && i < ms.save.ref_count; i++)
			if (wr_is_side(ms.save.ref[i].name))
				wr_json_add_str(list, side_of(&ms.save.ref[i]));
	}
	wr_member_fini(&ms);
}

void
wr_copies_beside(struct wr_control *c, const struct wr_proj_row *r, struct wr_beside *out)
{
	struct wr_holding h[WR_MEMBERS_MAX];
	struct wr_member_state ms;
	size_t count;

	*out = (struct wr_beside){0};
	if (!c->fleet || wr_auth_load(c->fleet->auth, &r->id, &ms, NULL) < 0)
		return;
	for (size_t i = 0; i < ms.save.ref_count; i++)
		if (wr_is_side(ms.save.ref[i].name) && out->sides++ == 0)
			snprintf(out->side, sizeof(out->side), "%s", side_of(&ms.save.ref[i]));
	count = ms.has_record ? wr_holdings(c, &ms, r, h) : 0;
	for (size_t i = 0; i < count; i++)
		if (h[i].row.latest > out->latest) {
			out->latest = h[i].row.latest;
			snprintf(out->latest_on, sizeof(out->latest_on), "%s",
				 wr_fleet_name(c, &h[i].member->node.id));
		}
	wr_member_fini(&ms);
}

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
	add_uuid(&c->fleet->copies->behind, &r->node);
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

static void
ignored(void *ctx WR_UNUSED, const struct wr_msg *answer WR_UNUSED,
	const struct wr_err *why WR_UNUSED)
{
}

/* The other node knows a newer record: judged here as if a hub had sent it. */
void
wr_copies_record(struct wr_control *c, const struct wr_uuid *project, const char *b64)
{
	struct wr_msg m = WR_MSG_INIT;

	m.kind = WR_MSG_INSTALL;
	m.project = *project;
	if (wr_base64_decode(&m.record, b64, strlen(b64)))
		wr_ask(c, &c->fleet->auth->self.id, &m, REPORT_MS, ignored, NULL);
	wr_msg_fini(&m);
}

static void
take_target(struct wr_control *c, const struct wr_uuid *project, const struct rows *have,
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
drop_others(struct wr_control *c, const struct wr_uuid *project, const struct rows *have)
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
	struct rows have = {0};
	int64_t scan;
	size_t i;

	if (!copies_of(c) || !list)
		return;
	scan = wr_json_get_time(part, "scan_started", 0);
	if (!scan)
		scan = wr_json_get_time(wr_json_get_obj(part, "save"), "scan_started", 0);
	rows_of(c, project, &have);
	json_array_foreach(list, i, e) take_target(c, project, &have, e, scan);
	drop_others(c, project, &have);
	free(have.row);
	sooner(c, &c->fleet->copies->retry, WR_SECOND, on_retry);
}

/* Whoever lacks the newest save, or what was set since, is sent it, also who was not asked for this
 * time. */
static void
note_behind(struct wr_control *c, const struct wr_uuid *project)
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
		sooner(c, &c->fleet->copies->retry, SOON_S * (uint64_t)WR_SECOND, on_retry);
}

/* One that could not even begin to send: later. */
static void
put_off(struct wr_control *c, const struct wr_uuid *project, const struct wr_err *why)
{
	struct rows have = {0};

	rows_of(c, project, &have);
	for (size_t i = 0; i < have.count; i++)
		if (have.row[i].behind_since)
			fell_behind(c, &have.row[i], why->msg, why->hint);
	free(have.row);
	sooner(c, &c->fleet->copies->retry, RETRY_S * (uint64_t)WR_SECOND, on_retry);
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
	if (!copies_of(c))
		return;
	if (receipt)
		wr_copies_took(c, &op->project, receipt);
	else if (op->kind == WR_OP_REPLICATE && why && !strcmp(op->by, "schedule"))
		put_off(c, &op->project, why);
	note_behind(c, &op->project);
	wr_sides_op_ended(c, op, receipt);
	/* Nothing is left of it here, and it was nowhere else. */
	if ((op->kind == WR_OP_CREATE && !receipt) || (op->kind == WR_OP_PURGE && receipt))
		give_back(c, &op->project);
	add_uuid(&c->fleet->copies->changed, &op->project);
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
		sooner(c, t, (uint64_t)WR_MAX(l.next - l.now, (int64_t)1) * WR_SECOND, on_retry);
}

struct seen {
	struct wr_control *c;
	const struct wr_uuid *node;
	struct rows rows;
};

static int
look_seen(void *ctx, const struct wr_replica_row *r, struct wr_err *err)
{
	struct seen *s = ctx;

	return strcmp(r->node.s, s->node->s) != 0 ? 0 : take_row(&s->rows, r, err);
}

void
wr_copies_seen(struct wr_control *c, const struct wr_uuid *node)
{
	struct wr_copies *k = copies_of(c);
	struct seen s = {.c = c, .node = node};

	if (!k || !has_uuid(&k->behind, node))
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
	sooner(c, &k->retry, WR_SECOND, on_retry);
}

void
wr_copies_damaged(struct wr_control *c, const struct wr_uuid *project, const struct wr_uuid *node)
{
	struct wr_replica_row r = {.project = *project, .node = *node};
	struct rows have = {0};

	rows_of(c, project, &have);
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
	sooner(c, &copies_of(c)->retry, DAMAGED_S * (uint64_t)WR_SECOND, on_retry);
}

/* ---- files of copies ---- */

static bool
is_dirty(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_work w = {0};
	bool dirty = wr_work_load(c->node, project, &w, NULL) == 0 && w.dirty;

	wr_work_fini(&w);
	return dirty;
}

static uint64_t
update_after(struct wr_control *c, const struct wr_uuid *project)
{
	uint64_t after = c->node->config.replica_tree_after;
	struct wr_proj_row row = {0};
	struct wr_settings set = {0};

	if (wr_row_find(c, project, &row, NULL) == 0 && wr_row_settings(&row, &set, NULL) == 0 &&
	    !strcmp(wr_settings_str(&set, "replica_tree"), "eager"))
		after = WR_MIN(after, (uint64_t)UPDATE_EAGER_S);
	wr_settings_fini(&set);
	wr_proj_row_fini(&row);
	return is_dirty(c, project) ? WR_MIN(after, (uint64_t)UPDATE_DIRTY_S) : after;
}

/* Does this node keep working files of a project that others write? */
static bool
keeps_tree(struct wr_control *c, const struct wr_record *e, const struct wr_proj_row *row)
{
	const struct wr_node_id *self = &c->fleet->auth->self;
	struct wr_settings set = {0};
	bool keep = false;

	if (wr_row_settings(row, &set, NULL) < 0)
		return false;
	if (!strcmp(wr_settings_str(&set, "replica_tree"), "eager")) {
		const struct wr_member *m = wr_record_has(e, self);

		keep = m && m->role == WR_ROLE_DATA;
	} else if (!strcmp(wr_settings_str(&set, "replica_tree"), "warm")) {
		for (size_t i = 0; i < e->member_count; i++) {
			const struct wr_member *m = &e->member[i];

			if (m->role != WR_ROLE_DATA || wr_node_id_eq(&m->node, &e->writer))
				continue;
			keep = wr_node_id_eq(&m->node, self); /* the first one stands by */
			break;
		}
	}
	wr_settings_fini(&set);
	return keep;
}

static void
update_later(struct wr_control *c, const struct wr_uuid *project, uint64_t after_s)
{
	struct wr_copies *k = c->fleet->copies;
	uint64_t at = wr_clock_mono_ns() / WR_SECOND + after_s;
	struct due *d = NULL;

	for (size_t i = 0; i < k->due_count && !d; i++)
		if (!strcmp(k->due[i].project.s, project->s))
			d = &k->due[i];
	if (d) {
		d->at_s = WR_MIN(d->at_s, at); /* the first save that it lacks counts */
	} else {
		wr_grow(&k->due, &k->due_cap, k->due_count + 1, sizeof(*k->due));
		k->due[k->due_count++] = (struct due){*project, at};
	}
	sooner(c, &k->update, after_s * WR_SECOND, on_update);
}

static void
update_one(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_op_wish w = {.kind = WR_OP_UPDATE, .by = "schedule", .scheduled = true};
	struct wr_proj_row row = {0};
	struct wr_err err = WR_ERR_INIT;
	struct wr_record e;
	struct wr_uuid op;

	if (wr_row_find(c, project, &row, NULL) < 0 || row.deleted ||
	    !wr_fleet_record(c, project, &e) || wr_node_id_eq(&e.writer, &c->fleet->auth->self) ||
	    !(keeps_tree(c, &e, &row) || is_dirty(c, project))) {
		wr_proj_row_fini(&row);
		return;
	}
	w.row = &row;
	w.args = json_object();
	if (wr_op_submit(c, &w, &op, &err) < 0)
		update_later(c, project, /* it is busy */
			     WR_MIN((uint64_t)UPDATE_AGAIN_S, c->node->config.replica_tree_after));
	wr_proj_row_fini(&row);
}

static void
on_update(struct wr_timer *t)
{
	struct wr_copies *k = WR_OWNER(t, struct wr_copies, update);
	struct wr_control *c = k->c;
	uint64_t now = wr_clock_mono_ns() / WR_SECOND, next = UINT64_MAX;
	struct wr_uuid due[16];
	size_t n = 0;

	if (c->draining)
		return;
	for (size_t i = 0; i < k->due_count;) {
		if (k->due[i].at_s > now || n == WR_ARRAY_LEN(due)) {
			next = WR_MIN(next, k->due[i].at_s);
			i++;
			continue;
		}
		due[n++] = k->due[i].project;
		k->due[i] = k->due[--k->due_count];
	}
	if (next != UINT64_MAX)
		wr_timer_on(&c->loop, t, (next > now ? next - now : 1) * WR_SECOND, on_update);
	for (size_t i = 0; i < n; i++)
		update_one(c, &due[i]);
}

/* ---- what came to this node beside operations ---- */

/* The row of a copy says what a hub signed; what is wanted here stays. */
static void
learn_row(struct wr_control *c, const struct wr_member_state *ms)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	struct wr_settings_doc doc = {0};
	struct wr_place_of place = WR_PLACE_OF_INIT;
	struct wr_settings set = {0}, have = {0};
	struct wr_proj_row row = {0};
	struct wr_err err = WR_ERR_INIT;
	bool known = wr_row_find(c, &ms->project, &row, NULL) == 0, put = false;
	uint64_t size;

	if (!ms->settings.len ||
	    wr_settings_doc_decode(ms->settings.p, ms->settings.len, &doc, &err) < 0 ||
	    !(o = wr_json_parse(doc.json, strlen(doc.json), &err)) ||
	    wr_settings_parse(o, &set, &err) < 0)
		goto out;
	if (known)
		put = wr_row_settings(&row, &have, NULL) < 0 || have.rev < set.rev;
	else
		put = wr_place_of_find(c->node, &ms->project, &place, NULL) == 0;
	if (put && wr_copy_admit(c, &ms->project, &set, have.set ? &have : NULL, &err) < 0) {
		wr_log_err(WR_LOG_WARNING, "settings from the fleet", &err);
		put = false;
	}
	if (put)
		wr_row_from_settings(&row, &set);
	/* What others sent makes it grow. */
	size = row.repo_bytes;
	if (known || put)
		wr_row_measure(c, &row);
	if (!put && size == row.repo_bytes)
		goto out;
	if (!known) {
		row.tree_vol = (uint32_t)place.tree_vol;
		row.repo_vol = (uint32_t)place.repo_vol;
	}
	if (wr_store_proj_put(c->store, &row, &err) < 0) {
		/* Another project of this node has the name: it was made when this host was alone.
		 */
		wr_event(c, "control", &ms->project, "replica.name", err.msg, NULL);
	} else {
		struct wr_proj *p = wr_proj_find(c, &ms->project);

		if (p)
			wr_proj_refresh(p, &row);
	}
out:
	wr_settings_doc_fini(&doc);
	wr_settings_fini(&set);
	wr_settings_fini(&have);
	wr_place_of_fini(&place);
	wr_proj_row_fini(&row);
}

void
wr_fleet_learn(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_copies *k = copies_of(c);
	struct wr_member_state ms;

	if (!k || wr_auth_load(c->fleet->auth, project, &ms, NULL) < 0)
		return;
	if (ms.has_record) {
		learn_row(c, &ms);
		if (!wr_node_id_eq(&ms.record.writer, &c->fleet->auth->self))
			update_later(c, project, update_after(c, project));
		else if (ms.has_save)
			note_behind(c, project);
	}
	wr_member_fini(&ms);
	wr_sides_learn(c, project);
	add_uuid(&k->changed, project);
	wr_open_learned(c, project);
	wr_deletion_learn(c, project);
	wr_drop_learn(c, project);
	wr_fill_learn(c, project);
}

/* ---- reports ---- */

/* Of what was deleted and purged, nothing is here: told once, so that its name is free. */
static bool
is_purged(struct wr_control *c, const struct wr_uuid *project, struct wr_report *r)
{
	struct wr_record e;

	if (!wr_fleet_record(c, project, &e) || e.state != WR_RECORD_DELETED)
		return false;
	*r = (struct wr_report){.project = *project, .n = e.n, .state = WR_ST_ABSENT};
	return true;
}

/* false: nothing is here but what was promised. */
static bool
report_of(struct wr_control *c, const struct wr_uuid *project, struct wr_report *r)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	struct wr_proj_row row = {0};
	struct wr_member_state ms;
	struct wr_status st = {.state = WR_ST_STOPPED};
	bool is;

	if (wr_auth_load(c->fleet->auth, project, &ms, NULL) < 0)
		return false;
	*r = (struct wr_report){.project = *project, .hidden = ms.hidden, .state = WR_ST_ABSENT};
	if (ms.has_record)
		r->n = ms.record.n;
	r->held = wr_member_version(&ms);
	if (ms.has_save)
		r->scan_started = ms.save.scan_started;
	is = ms.has_record;
	if (wr_row_find(c, project, &row, NULL) == 0) {
		if (wr_proj_find(c, project))
			wr_row_status(c, &row, &st);
		r->state = (uint8_t)(row.deleted ? WR_ST_ABSENT : st.state);
		r->running = st.active;
		r->repo_bytes = row.repo_bytes;
		r->tree_bytes = row.bytes;
		r->dirty = is_dirty(c, project);
		if (row.save_ok && row.save_began > r->scan_started &&
		    wr_node_id_eq(&ms.record.writer, &c->fleet->auth->self))
			r->scan_started = row.save_began;
	} else {
		is = is && wr_place_of_find(c->node, project, &place, NULL) == 0;
	}
	wr_place_of_fini(&place);
	wr_proj_row_fini(&row);
	wr_member_fini(&ms);
	return is;
}

struct all {
	struct wr_control *c;
	const char *after; /* ids up to this one are left out; NULL: none */
	struct wr_report *r;
	size_t count, cap;
	bool cut;
};

static int
add_report(void *ctx, const struct wr_uuid *project, struct wr_err *err WR_UNUSED)
{
	struct all *l = ctx;

	if (l->after && strcmp(project->s, l->after) <= 0)
		return 0;
	if (l->count >= REPORTS_MAX) {
		l->cut = true;
		return 1;
	}
	wr_grow(&l->r, &l->cap, l->count + 1, sizeof(*l->r));
	if (report_of(l->c, project, &l->r[l->count]))
		l->count++;
	return 0;
}

size_t
wr_copies_holds(struct wr_control *c, const char *after, struct wr_report **out, bool *out_end)
{
	struct all l = {.c = c, .after = after};
	int rc = wr_auth_each(c->fleet->auth, add_report, &l, NULL);

	*out = l.r;
	*out_end = rc == 0 && !l.cut;
	return l.count;
}

void
wr_copies_inventory(struct wr_asked *k)
{
	struct wr_msg a = WR_MSG_INIT;

	wr_msg_answer(&a, &k->q, &k->c->fleet->auth->self, WR_MSG_HOLDS);
	a.report_count = wr_copies_holds(k->c, k->q.text, &a.report, &a.flag);
	wr_asked_answer(k, &a);
}

void
wr_copies_records(struct wr_asked *k)
{
	struct wr_msg a = WR_MSG_INIT;
	size_t bytes = 0;

	a.kind = WR_MSG_RECORDS;
	a.blobs = wr_calloc(WR_MSG_BLOBS, sizeof(*a.blobs));
	for (size_t i = 0; i < k->q.keep_count && a.blob_count + 2 <= WR_MSG_BLOBS; i++) {
		struct wr_member_state ms;

		wr_member_init(&ms, &k->q.keep[i].project);
		if (wr_auth_load(k->c->fleet->auth, &k->q.keep[i].project, &ms, NULL) == 0 &&
		    ms.has_record) {
			bytes += ms.record_bytes.len + ms.settings.len;
			if (bytes <= RECORDS_BYTES) {
				wr_buf_add(&a.blobs[a.blob_count], ms.record_bytes.p,
					   ms.record_bytes.len);
				wr_buf_add(&a.blobs[a.blob_count + 1], ms.settings.p,
					   ms.settings.len);
			}
		}
		wr_member_fini(&ms);
		if (bytes > RECORDS_BYTES)
			break;
		a.blob_count += 2;
	}
	wr_asked_answer(k, &a);
}

/* Newer records, each with its settings: judged as if a hub had sent them, which it did. */
static void
on_reported(void *ctx, const struct wr_msg *answer, const struct wr_err *why WR_UNUSED)
{
	struct wr_control *c = ctx;

	if (!answer || answer->kind != WR_MSG_REPORTED)
		return;
	for (size_t i = 0; i + 1 < answer->blob_count; i += 2) {
		struct wr_msg m = WR_MSG_INIT;
		struct wr_record e;

		if (wr_record_decode(answer->blobs[i].p, answer->blobs[i].len, &e, NULL) < 0)
			continue;
		m.kind = WR_MSG_INSTALL;
		m.project = e.project;
		wr_buf_add(&m.record, answer->blobs[i].p, answer->blobs[i].len);
		wr_buf_add(&m.settings, answer->blobs[i + 1].p, answer->blobs[i + 1].len);
		wr_ask(c, &c->fleet->auth->self.id, &m, REPORT_MS, ignored, NULL);
	}
}

static void
on_report(struct wr_timer *t)
{
	struct wr_copies *k = WR_OWNER(t, struct wr_copies, report);
	struct wr_control *c = k->c;
	struct wr_msg m = WR_MSG_INIT;
	size_t n = WR_MIN(k->changed.count, (size_t)REPORTS_MAX);

	if (c->draining)
		return;
	wr_timer_on(&c->loop, t, REPORT_S * (uint64_t)WR_SECOND, on_report);
	m.kind = WR_MSG_REPORT;
	m.flag = wr_marks_full(c);
	m.report = wr_calloc(n + 1, sizeof(*m.report));
	for (size_t i = 0; i < n; i++)
		if (report_of(c, &k->changed.id[i], &m.report[m.report_count]) ||
		    is_purged(c, &k->changed.id[i], &m.report[m.report_count]))
			m.report_count++;
	/* What is lost on the way is told by the next change, or when a hub asks for all. */
	k->changed.count -= n;
	if (n)
		memmove(k->changed.id, k->changed.id + n,
			k->changed.count * sizeof(*k->changed.id));
	wr_ask(c, wr_hub_pick(c), &m, REPORT_MS, on_reported, c);
}

/* ---- projects that were here before the fleet ---- */

static size_t
living_nodes(const struct wr_fleet *f)
{
	size_t n = 0;

	for (size_t i = 0; i < f->node_count; i++)
		n += !(f->node[i].flags & WR_FLEET_REMOVED);
	return n;
}

static int
look_orphan(void *ctx, const struct wr_proj_row *r, struct wr_err *err WR_UNUSED)
{
	struct wr_control *c = ctx;
	struct wr_err why = WR_ERR_INIT;
	struct wr_member_state ms;

	if (wr_auth_load(c->fleet->auth, &r->id, &ms, &why) == 0) {
		if (!ms.has_record)
			add_uuid(&c->fleet->copies->orphans, &r->id);
		wr_member_fini(&ms);
	} else if (why.code == WR_E_NOT_FOUND && !wr_auth_forgot(c->fleet->auth, &r->id)) {
		add_uuid(&c->fleet->copies->orphans, &r->id);
	} else {
		wr_event(c, "control", &r->id, "project.not-in-fleet", why.msg, NULL);
	}
	return 0;
}

static int
adopt_alone(struct wr_control *c, const struct wr_uuid *id, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf record = WR_BUF_INIT, doc = WR_BUF_INIT;
	struct wr_auth *a = c->fleet->auth;
	struct wr_lock lock = WR_LOCK_INIT;
	struct wr_proj_row row = {0};
	struct wr_settings set = {0};
	struct wr_member_state ms;
	int rc;

	wr_member_init(&ms, id);
	if (wr_row_find(c, id, &row, err) < 0)
		return -1;
	rc = wr_row_settings(&row, &set, err);
	if (rc == 0)
		rc = wr_hub_first(c, &a->self, &set, false, &record, &doc, err);
	if (rc == 0)
		rc = wr_record_decode(record.p, record.len, &ms.record, err);
	if (rc == 0) {
		ms.has_record = true;
		ms.promised = ms.record.n;
		wr_buf_add(&ms.record_bytes, record.p, record.len);
		wr_buf_add(&ms.settings, doc.p, doc.len);
		ms.settings_rev = set.rev;
		rc = wr_auth_lock(a, id, &lock, err);
	}
	if (rc == 0)
		rc = wr_auth_store(a, id, &ms, err);
	wr_lock_drop(&lock);
	wr_member_fini(&ms);
	wr_settings_fini(&set);
	wr_proj_row_fini(&row);
	return rc;
}

static void next_orphan(struct wr_timer *t);

static void
on_adopted(void *ctx, struct wr_settings *set, const struct wr_err *why)
{
	struct wr_control *c = ctx;
	struct wr_copies *k = copies_of(c);

	if (!k)
		return;
	k->asking = false;
	if (why) {
		/* Its name may be taken in the fleet: an operator sees to it, and it is tried again
		 * with the next start of the daemon. Where no hub answered, soon. */
		if (why->code != WR_E_EXISTS)
			sooner(c, &k->adopt, REPORT_S * (uint64_t)WR_SECOND, next_orphan);
		wr_event(c, "control", &k->orphans.id[0], "project.not-in-fleet", why->msg, NULL);
		if (why->code != WR_E_EXISTS)
			return;
	} else {
		wr_event(c, "control", &set->id, "project.in-fleet", set->name, NULL);
		wr_fleet_learn(c, &set->id);
	}
	k->orphans.id[0] = k->orphans.id[--k->orphans.count];
	if (k->orphans.count)
		sooner(c, &k->adopt, 0, next_orphan);
}

static void
next_orphan(struct wr_timer *t)
{
	struct wr_copies *k = WR_OWNER(t, struct wr_copies, adopt);
	struct wr_control *c = k->c;
	struct wr_proj_row row = {0};
	struct wr_settings set = {0};

	if (c->draining || k->asking || !k->orphans.count)
		return;
	if (wr_row_find(c, &k->orphans.id[0], &row, NULL) == 0 &&
	    wr_row_settings(&row, &set, NULL) == 0) {
		k->asking = true;
		wr_fleet_create(c, &set, false, on_adopted, c);
	} else {
		k->orphans.id[0] = k->orphans.id[--k->orphans.count];
		sooner(c, &k->adopt, 0, next_orphan);
	}
	wr_settings_fini(&set);
	wr_proj_row_fini(&row);
}

int
wr_copies_adopt(struct wr_control *c, struct wr_err *err)
{
	struct wr_copies *k = copies_of(c);

	if (!k)
		return 0;
	if (wr_store_proj_each(c->store, 0, look_orphan, c, err) < 0)
		return -1;
	if (!k->orphans.count)
		return 0;
	if (!c->fleet->hub || living_nodes(&c->fleet->auth->fleet) > 1) {
		sooner(c, &k->adopt, WR_SECOND, next_orphan);
		return 0;
	}
	while (k->orphans.count) {
		struct wr_uuid id = k->orphans.id[--k->orphans.count];
		struct wr_err why = WR_ERR_INIT;

		if (adopt_alone(c, &id, &why) < 0)
			wr_event(c, "control", &id, "project.not-in-fleet", why.msg, NULL);
	}
	return 0;
}

/* ---- beginning and end ---- */

static int
look_behind(void *ctx, const struct wr_replica_row *r, struct wr_err *err WR_UNUSED)
{
	struct wr_control *c = ctx;

	add_uuid(&c->fleet->copies->behind, &r->node);
	return 0;
}

void
wr_copies_begin(struct wr_control *c)
{
	struct wr_copies *k = wr_calloc(1, sizeof(*k));

	c->fleet->copies = k;
	k->c = c;
	(void)wr_store_replica_each(c->store, NULL, look_behind, c, NULL);
	wr_timer_on(&c->loop, &k->retry, SOON_S * (uint64_t)WR_SECOND, on_retry);
	wr_timer_on(&c->loop, &k->report, WR_SECOND, on_report);
	wr_sides_begin(c);
}

void
wr_copies_end(struct wr_control *c)
{
	struct wr_copies *k = copies_of(c);

	if (!k)
		return;
	wr_open_end(c);
	wr_sides_end(c);
	wr_timer_off(&c->loop, &k->retry);
	wr_timer_off(&c->loop, &k->update);
	wr_timer_off(&c->loop, &k->report);
	wr_timer_off(&c->loop, &k->adopt);
	free(k->due);
	free(k->changed.id);
	free(k->orphans.id);
	free(k->behind.id);
	free(k);
	c->fleet->copies = NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of who holds a project, and how that is told. */
#include <stdlib.h>

#include "base/log.h"
#include "fleet/rules/safe.h"
#include "serve/control/copies_int.h"
#include "serve/control/replicas.h"
#include "sys/clock.h"

int
wr_replica_row_take(void *ctx, const struct wr_replica_row *r, struct wr_err *err WR_UNUSED)
{
	struct wr_replica_rows *l = ctx;

	wr_grow(&l->row, &l->cap, l->count + 1, sizeof(*l->row));
	l->row[l->count++] = *r;
	return 0;
}

void
wr_replica_rows(struct wr_control *c, const struct wr_uuid *project, struct wr_replica_rows *out)
{
	struct wr_err err = WR_ERR_INIT;

	if (wr_store_replica_each(c->store, project, wr_replica_row_take, out, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "read who holds what", &err);
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
	struct wr_replica_rows l = {0};

	wr_replica_rows(c, &ms->project, &l);
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
	wr_json_str(o, "role", wr_role_name(h->member->role));
	wr_json_bool(o, "writer", wr_node_id_eq(&h->member->node, &e->writer));
	version_json(o, "version", h->epoch, h->seq);
	wr_json_time_or_null(o, "since", h->scan_started);
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
	wr_json_time_or_null(o, "latest", h->row.latest);
	wr_json_time_or_null(o, "at", h->row.at);
	wr_json_str(o, "error", *h->row.error ? h->row.error : NULL);
	wr_json_str(o, "hint", *h->row.hint ? h->row.hint : NULL);
	wr_json_time_or_null(o, "next_try", h->row.behind_since ? h->row.next_try : 0);
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
	wr_json_time_or_null(s, "since", wr_recovery_point(&ms->record, h, count));
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

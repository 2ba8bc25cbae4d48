/* SPDX-License-Identifier: Apache-2.0 */
/* Begins with what lies here: projects that were here before the fleet get their first record, work
 * that nobody saved in the files of copies is put aside. */
#include "serve/control/copies_int.h"
#include "serve/control/replicas.h"

/* Where no hub answered, one is asked again after so long. */
#define AGAIN_S 60

static size_t
living_nodes(const struct wr_fleet *f)
{
	size_t n = 0;

	for (size_t i = 0; i < f->node_count; i++)
		n += !(f->node[i].flags & WR_FLEET_REMOVED);
	return n;
}

static int
look(void *ctx, const struct wr_proj_row *r, struct wr_err *err WR_UNUSED)
{
	struct wr_control *c = ctx;
	struct wr_err why = WR_ERR_INIT;
	struct wr_member_state ms;

	if (wr_auth_load(c->fleet->auth, &r->id, &ms, &why) == 0) {
		if (!ms.has_record)
			wr_uuids_add(&c->fleet->copies->orphans, &r->id);
		else if (!wr_node_id_eq(&ms.record.writer, &c->fleet->auth->self) &&
			 wr_copy_is_dirty(c, &r->id))
			wr_copy_update_later(c, &r->id);
		wr_member_fini(&ms);
	} else if (why.code == WR_E_NOT_FOUND && !wr_auth_forgot(c->fleet->auth, &r->id)) {
		wr_uuids_add(&c->fleet->copies->orphans, &r->id);
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
	struct wr_copies *k = wr_copies_of(c);

	if (!k)
		return;
	k->asking = false;
	if (why) {
		/* Its name may be taken in the fleet: an operator sees to it, and it is tried again
		 * with the next start of the daemon. Where no hub answered, soon. */
		if (why->code != WR_E_EXISTS)
			wr_timer_sooner(&c->loop, &k->adopt, AGAIN_S * (uint64_t)WR_SECOND,
					next_orphan);
		wr_event(c, "control", &k->orphans.id[0], "project.not-in-fleet", why->msg, NULL);
		if (why->code != WR_E_EXISTS)
			return;
	} else {
		wr_event(c, "control", &set->id, "project.in-fleet", set->name, NULL);
		wr_fleet_learn(c, &set->id);
	}
	k->orphans.id[0] = k->orphans.id[--k->orphans.count];
	if (k->orphans.count)
		wr_timer_sooner(&c->loop, &k->adopt, 0, next_orphan);
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
		wr_timer_sooner(&c->loop, &k->adopt, 0, next_orphan);
	}
	wr_settings_fini(&set);
	wr_proj_row_fini(&row);
}

int
wr_copies_adopt(struct wr_control *c, struct wr_err *err)
{
	struct wr_copies *k = wr_copies_of(c);

	if (!k)
		return 0;
	if (wr_store_proj_each(c->store, 0, look, c, err) < 0)
		return -1;
	if (!k->orphans.count)
		return 0;
	if (!c->fleet->hub || living_nodes(&c->fleet->auth->fleet) > 1) {
		wr_timer_sooner(&c->loop, &k->adopt, WR_SECOND, next_orphan);
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

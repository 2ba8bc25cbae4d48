/* SPDX-License-Identifier: Apache-2.0 */
/* Files of copies here: brought along when their writer has saved. */
#include "serve/control/copies_int.h"
#include "sys/clock.h"

/* The files of a copy follow [replica] tree_after the first save that they lack; sooner where all
 * copies are to, or someone's work lies in them. */
#define UPDATE_EAGER_S 2
#define UPDATE_DIRTY_S 5
#define UPDATE_AGAIN_S 300

static void on_update(struct wr_timer *t);

bool
wr_copy_is_dirty(struct wr_control *c, const struct wr_uuid *project)
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
	return wr_copy_is_dirty(c, project) ? WR_MIN(after, (uint64_t)UPDATE_DIRTY_S) : after;
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
	struct wr_copy_due *d = NULL;

	for (size_t i = 0; i < k->due_count && !d; i++)
		if (!strcmp(k->due[i].project.s, project->s))
			d = &k->due[i];
	if (d) {
		d->at_s = WR_MIN(d->at_s, at); /* the first save that it lacks counts */
	} else {
		wr_grow(&k->due, &k->due_cap, k->due_count + 1, sizeof(*k->due));
		k->due[k->due_count++] = (struct wr_copy_due){*project, at};
	}
	wr_timer_sooner(&c->loop, &k->update, after_s * WR_SECOND, on_update);
}

void
wr_copy_update_later(struct wr_control *c, const struct wr_uuid *project)
{
	update_later(c, project, update_after(c, project));
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
	    !(keeps_tree(c, &e, &row) || wr_copy_is_dirty(c, project))) {
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

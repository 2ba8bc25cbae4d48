/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The copies of the projects here: what is known of all of them, and what came to this node beside
 * operations.
 *
 * What an ACK says is evidence of the other node's disk at that time.  Nothing here decides who may
 * write or what is safe by protocol; it says what was heard, and asks for operations.
 */
#include <stdlib.h>

#include "base/log.h"
#include "serve/control/copies_int.h"
#include "serve/control/deletion.h"
#include "serve/control/drops.h"
#include "serve/control/replicas.h"

struct wr_opening **
wr_copies_openings(struct wr_control *c)
{
	return &c->fleet->copies->openings;
}

struct wr_sides **
wr_copies_sides(struct wr_control *c)
{
	struct wr_copies *k = wr_copies_of(c);

	return k ? &k->sides : NULL;
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
	struct wr_copies *k = wr_copies_of(c);
	struct wr_member_state ms;

	if (!k || wr_auth_load(c->fleet->auth, project, &ms, NULL) < 0)
		return;
	if (ms.has_record) {
		learn_row(c, &ms);
		if (!wr_node_id_eq(&ms.record.writer, &c->fleet->auth->self))
			wr_copy_update_later(c, project);
		else if (ms.has_save)
			wr_copies_note_behind(c, project);
	}
	wr_member_fini(&ms);
	wr_sides_learn(c, project);
	wr_uuids_add(&k->changed, project);
	wr_open_learned(c, project);
	wr_deletion_learn(c, project);
	wr_drop_learn(c, project);
	wr_fill_learn(c, project);
}

void
wr_copies_begin(struct wr_control *c)
{
	struct wr_copies *k = wr_calloc(1, sizeof(*k));

	c->fleet->copies = k;
	k->c = c;
	wr_behind_begin(c);
	wr_reports_begin(c);
	wr_sides_begin(c);
}

void
wr_copies_end(struct wr_control *c)
{
	struct wr_copies *k = wr_copies_of(c);

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

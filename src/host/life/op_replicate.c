/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replicate: what is saved goes to the members that lack it; no lock is held, for nothing changes
 * here.  update: the files of a copy are brought to its newest state (M6).
 */
#include "host/life/life_int.h"

/* FILL: another member asked for the base of the newest record, and this one holds exactly that;
 * or its copy is damaged, and whatever is here may be of use to it. */
static int
check_fill(struct wr_life *l, struct wr_err *err)
{
	const struct wr_record *e = &l->ms.record;
	struct wr_digest d = wr_save_refs_digest(&l->ms.save);

	if (wr_life_arg_bool(l, "mend") && !l->ms.hidden)
		return 0;
	if (l->ms.hidden || wr_version_cmp(&l->ms.save.v, &e->base) != 0 ||
	    memcmp(d.b, e->base_refs.b, sizeof(d.b)) != 0)
		return wr_err_set(err, WR_E_NOT_FOUND, "version %s of '%s' is not here",
				  wr_version_text(&e->base).s, l->set.name);
	return 0;
}

/* A record that came with consent is a new epoch: what is sent has to be of it, or members that are
 * new would not take it. Nothing moves but the version. */
static int
open_epoch(struct wr_life *l, struct wr_err *err)
{
	struct wr_member_env env;
	bool opened;

	if (!l->auth || !l->ms.has_record)
		return 0;
	wr_life_env(l, &env);
	return wr_writer_stand(&l->ms, &env, NULL) == WR_WRITER_OPEN ? wr_life_open(l, &opened, err)
								     : 0;
}

json_t *
wr_life_replicate_op(struct wr_life *l, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	bool fill = wr_life_arg(l, "fill_to") != NULL, sides = wr_life_arg_bool(l, "sides");

	if (wr_place_of_find(l->node, &l->project, &l->place, err) < 0) {
		wr_err_wrap(err, "project '%s'", l->project.s);
		return NULL;
	}
	if (wr_life_load(l, err) < 0 || (!fill && !sides && wr_life_may_write(l, err) < 0))
		return NULL;
	o = wr_life_receipt(l, "warren.replicate/1");
	if (sides)
		return wr_life_offer_sides(l, o, err) < 0 ? NULL : wr_steal(&o);
	if (!l->ms.has_save) {
		wr_err_set(err, WR_E_NOT_FOUND, "nothing of '%s' is saved yet", l->set.name);
		wr_err_hint(err, "warren save %s", l->set.name);
		return NULL;
	}
	if ((fill ? check_fill(l, err) : open_epoch(l, err)) < 0 ||
	    wr_life_replicate(l, o, 0, err) < 0)
		return NULL;
	return wr_steal(&o);
}

/* Work that nobody saved, in the files of a copy whose tip did not move: this node wrote it until
 * another took over, and may be no member any more, so that nothing will ever be pushed to it. */
static int
put_aside(struct wr_life *l, const struct wr_tip *tip, struct wr_life_brought *out,
	  struct wr_err *err)
{
	WR_SCOPED(wr_life_saved_fini) struct wr_life_saved s = {0};
	struct wr_err why = WR_ERR_INIT;

	if (!l->copy || !l->work.dirty || !wr_life_on_line(l, tip))
		return 0;
	if (wr_life_protect(l, NULL, &s, &why) < 0) {
		if (why.code == WR_E_NOT_FOUND)
			return 0; /* there are none */
		*err = why;
		return -1;
	}
	l->skipped = !s.whole;
	snprintf(out->salvaged, sizeof(out->salvaged), "%s", s.snapshot);
	return wr_life_clean(l, &s, err);
}

json_t *
wr_life_update(struct wr_life *l, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	WR_SCOPED(wr_life_brought_fini) struct wr_life_brought b = {0};
	struct wr_runner_status run;
	struct wr_life_mend mend;
	struct wr_tip tip;

	if (wr_life_begin(l, err) < 0)
		return NULL;
	wr_life_processes(l, &run);
	if (l->before.active || run.processes > 0) {
		wr_err_set(err, WR_E_BUSY, "project '%s' is in use here", l->set.name);
		return NULL;
	}
	o = wr_life_receipt(l, "warren.update/1");
	wr_json_null(o, "salvaged");
	wr_json_null(o, "restored");
	if (wr_life_settle_work(l, &mend, err) < 0 || wr_life_inspect(l, &tip, err) < 0 ||
	    put_aside(l, &tip, &b, err) < 0)
		return NULL;
	if (!b.salvaged[0] && wr_life_bring_up(l, &tip, &b, err) < 0)
		return NULL;
	if (b.salvaged[0])
		wr_json_str(o, "salvaged", b.salvaged);
	if (b.restored)
		json_object_set(o, "restored", b.restored);
	wr_json_str(o, "commit", tip.has ? tip.commit : NULL);
	return wr_steal(&o);
}

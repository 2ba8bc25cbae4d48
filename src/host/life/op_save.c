/* SPDX-License-Identifier: Apache-2.0 */
/* save: the files become a snapshot; receipts say from when on what was written is not in it. */
#include "host/life/life_int.h"

#include "fleet/rules/safe.h"

/* Without a fleet what is durable here is as safe as it gets. What a copy puts to the side is on
 * this node alone. */
static void
tell_here(const struct wr_life *l, json_t *o, bool made)
{
	const struct wr_version none = {0};
	uint64_t members = 1;

	if (l->copy && l->ms.has_record)
		members = wr_safe_of(&l->ms.record, &none, NULL, 0, &l->auth->fleet).data;
	wr_json_bool(o, "safe", made && !l->copy);
	wr_json_u64(o, "safe_in", made ? 1 : 0);
	wr_json_u64(o, "members", members);
}

json_t *
wr_life_save(struct wr_life *l, struct wr_err *err)
{
	WR_SCOPED(wr_life_saved_fini) struct wr_life_saved s = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	const char *tag = NULL;
	struct wr_runner_status run;
	struct wr_life_mend mend;

	if (wr_life_begin(l, err) < 0)
		return NULL;
	tag = wr_life_arg(l, "tag");
	if (wr_life_settle_work(l, &mend, err) < 0 || wr_life_protect(l, tag, &s, err) < 0)
		return NULL;
	wr_life_processes(l, &run);
	if (!l->before.active && run.processes == 0 && wr_life_clean(l, &s, err) < 0)
		return NULL;
	l->skipped = !s.whole;
	o = wr_life_receipt(l, "warren.save/1");
	wr_life_merge(o, s.part);
	wr_json_str(o, "snapshot", s.snapshot[0] ? s.snapshot : NULL);
	tell_here(l, o, s.commit[0] != '\0');
	wr_json_str(o, "tag", s.latest ? NULL : tag);
	wr_json_bool(o, "latest", s.latest);
	if (s.latest)
		wr_json_err(o, "refused", &s.refused);
	l->refused = s.latest;
	wr_json_bool(o, "side_branch", s.side);
	if (!l->copy &&
	    (wr_life_note_save(l, s.refs, s.scan_started, err) < 0 ||
	     wr_life_replicate(l, o, wr_life_arg_u64(l, "replicate_wait", WR_REPLICATE_WAIT_S),
			       err) < 0))
		return NULL;
	if (s.side)
		wr_life_warn(l, "the history of '%s' has moved; its files went to side branch %s",
			     l->set.name, s.snapshot);
	return wr_steal(&o);
}

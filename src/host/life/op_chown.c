/* SPDX-License-Identifier: Apache-2.0 */
/* chown: every file becomes the project's own. Never done by itself: it walks the whole tree. */
#include "host/life/life_int.h"

json_t *
wr_life_chown(struct wr_life *l, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *r = NULL;
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	WR_SCOPED(wr_json_freep) json_t *args = NULL;
	struct wr_life_mend mend;

	if (wr_life_begin(l, err) < 0 || wr_life_settle_work(l, &mend, err) < 0)
		return NULL;
	/* Owners are part of snapshots. */
	l->work.dirty = true;
	if (wr_life_work_store(l, err) < 0)
		return NULL;
	wr_life_crash(l, "dirty");
	l->changed = true;
	wr_life_step(l, "chown");
	args = json_object();
	wr_json_u64(args, "uid", l->set.uid);
	wr_json_u64(args, "gid", l->set.gid);
	if (wr_life_arg(l, "from_uid") || wr_life_arg_u64(l, "from_uid", UINT32_MAX) != UINT32_MAX)
		wr_json_u64(args, "from_uid", wr_life_arg_u64(l, "from_uid", UINT32_MAX));
	o = wr_life_receipt(l, "warren.chown/1");
	if (wr_life_task(l, WR_TASK_CHOWN, json_incref(args), -1, &r, err) < 0 ||
	    wr_life_scratch_chown(l, args, o, err) < 0) {
		wr_err_wrap(err, "give the files of '%s' to uid %u", l->set.name, l->set.uid);
		if (!err->hint[0])
			wr_err_hint(err, "warren chown %s can be repeated", l->set.name);
		return NULL;
	}
	wr_life_merge(o, r);
	if (json_array_size(wr_json_get_arr(r, "left")) > 0)
		l->skipped = true;
	return wr_steal(&o);
}

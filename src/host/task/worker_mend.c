/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MEND: a copy that was found damaged is looked at whole; indexes are made anew; when all that its
 * refs reach is there, packs that are damaged go aside.  What it lacks comes from other nodes
 * (RECEIVE), between two of these.  The repository's lock is held for what changes it, not while it
 * is read.
 */
#include "host/task/worker_int.h"

#include "base/str.h"
#include "engine/repo/repo.h"
#include "engine/repo/verify.h"
#include "sys/clock.h"

#define LOCK_WAIT_S 60

/* "pack-HEX" of what damage is in; NULL: in no pack. */
static char *
pack_of(const struct wr_damage *d)
{
	const char *dot = d->where ? strrchr(d->where, '.') : NULL;

	if (!dot || strncmp(d->where, "pack-", 5) != 0 || d->kind == WR_DAMAGE_UNINDEXED)
		return NULL;
	return wr_asprintf("%.*s", (int)(dot - d->where), d->where);
}

static json_t *
damaged_packs(const struct wr_verify_result *v)
{
	json_t *list = json_array();

	for (size_t i = 0; i < v->damage_count; i++) {
		WR_SCOPED(wr_freep) char *name = pack_of(&v->damage[i]);
		size_t n = json_array_size(list);

		/* Damage comes pack by pack. */
		if (!name || (n && !strcmp(name, json_string_value(json_array_get(list, n - 1)))))
			continue;
		wr_json_add_str(list, name);
	}
	return list;
}

static int
rebuild_indexes(struct wr_repo *r, struct wr_err *err)
{
	uint64_t rebuilt;
	int rc;

	if (wr_repo_lock(r, "mend", LOCK_WAIT_S, err) < 0)
		return -1;
	rc = wr_repair_indexes(r, &rebuilt, err);
	wr_repo_unlock(r);
	return rc;
}

static int
set_aside(struct wr_repo *r, const json_t *packs, int64_t now, size_t *out_moved,
	  struct wr_err *err)
{
	size_t n = json_array_size(packs);
	WR_SCOPED(wr_freep) const char **name = wr_calloc(n + 1, sizeof(*name));
	struct wr_idmap needed = WR_IDMAP_INIT;
	int rc;

	for (size_t i = 0; i < n; i++)
		name[i] = json_string_value(json_array_get(packs, i));
	if (wr_repo_lock(r, "mend", LOCK_WAIT_S, err) < 0)
		return -1;
	rc = wr_worker_reached(r, &needed, err);
	if (rc == 0)
		rc = wr_repo_set_aside(r, name, n, &needed, now, out_moved, err);
	wr_repo_unlock(r);
	wr_idmap_fini(&needed);
	return rc;
}

static int
mend(struct wr_worker *w, struct wr_repo *r, json_t *o, struct wr_err *err)
{
	WR_SCOPED(wr_verify_result_fini) struct wr_verify_result v = {0};
	WR_SCOPED(wr_json_freep) json_t *packs = NULL;
	struct wr_err why = WR_ERR_INIT;
	const int64_t now = wr_json_get_i64(w->args, "now", wr_clock_wall().s);
	size_t moved = 0;
	bool whole;

	if (wr_repo_drop_aside(r, now, wr_json_get_i64(w->args, "floor_s", -1), err) < 0 ||
	    rebuild_indexes(r, err) < 0 || wr_worker_verify(w, r, true, &v, err) < 0)
		return -1;
	packs = damaged_packs(&v);
	whole = wr_verify_whole(&v);
	if (whole && json_array_size(packs)) {
		if (set_aside(r, packs, now, &moved, &why) < 0) {
			whole = false;
		} else {
			wr_verify_result_fini(&v);
			if (wr_worker_verify(w, r, false, &v, err) < 0)
				return -1;
			whole = wr_verify_whole(&v);
		}
	}
	wr_json_bool(o, "whole", whole);
	json_object_set(o, "packs", packs);
	wr_json_u64(o, "aside", moved);
	wr_worker_damage(o, &v, &why);
	return 0;
}

json_t *
wr_work_mend(struct wr_worker *w, struct wr_err *err)
{
	wr_worker_step_back();
	return wr_worker_with_repo(w, mend, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * W2: a writer opens its epoch.  What the record names as its base must be here: as the own newest
 * version, or as a fill that another member sent (refs/warren/fill/), which then becomes the refs;
 * a tip of our own that is not on that line goes to a side branch.  Then version (n, 0) is made.
 *
 *   fill's refs -> refs (worker) -> D3 = (n, 0) -> pushes
 *
 * The worker takes the fill away with the same move of refs.  Cut off between that and D3, the refs
 * are those of the base, under the own older version: the next open finds no fill, asks for it once
 * more, and it comes as a list of refs whose objects are here.
 */
#include "host/life/life_int.h"

#include "base/str.h"

#define FILL "refs/warren/fill/"

/* The fill as a save record: the version is the base's, if the list is. */
static int
read_fill(struct wr_life *l, struct wr_save_rec *out, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *r = NULL;
	json_t *args = json_object();
	const json_t *list, *e;
	struct wr_digest d;
	size_t i;

	wr_json_bool(args, "fill", true);
	if (wr_life_task(l, WR_TASK_REFS, args, -1, &r, err) < 0)
		return -1;
	list = wr_json_get_arr(r, "refs");
	out->project = l->project;
	out->v = l->ms.record.base;
	out->ref = wr_calloc(json_array_size(list) + 1, sizeof(*out->ref));
	json_array_foreach(list, i, e)
	{
		struct wr_id id;

		if (!wr_id_parse(wr_json_get_str(e, "id", ""), &id))
			return wr_err_set(err, WR_E_CORRUPT, "a ref without id");
		out->ref[i].name = wr_strdup(wr_json_get_str(e, "name", ""));
		memcpy(out->ref[i].id, id.b, sizeof(id.b));
		out->ref_count++;
	}
	d = wr_save_refs_digest(out);
	if (memcmp(d.b, l->ms.record.base_refs.b, sizeof(d.b)) != 0) {
		wr_err_set(err, WR_E_NOT_FOUND, "the newest state of '%s' is not here yet",
			   l->set.name);
		return wr_err_hint(err, "another member has to send it: warren start %s again",
				   l->set.name);
	}
	return 0;
}

static int
move_refs(struct wr_life *l, const struct wr_save_rec *to, const struct wr_buf *held,
	  const struct wr_push *side, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	WR_SCOPED(wr_freep) char *save = NULL;
	WR_SCOPED(wr_freep) char *had = held->len ? wr_base64(held->p, held->len) : NULL;
	json_t *args = json_object();

	wr_save_rec_encode(to, &b);
	save = wr_base64(b.p, b.len);
	wr_json_str(args, "save_b64", save);
	wr_json_str(args, "held_b64", had);
	wr_age_floor(l->node, args);
	if (side->side)
		wr_json_str(args, "side", side->side_name);
	return wr_life_task(l, WR_TASK_OPEN, args, -1, NULL, err);
}

int
wr_life_open(struct wr_life *l, bool *out_opened, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf held = WR_BUF_INIT;
	struct wr_save_rec fill = WR_SAVE_REC_INIT;
	struct wr_push side = WR_PUSH_INIT;
	struct wr_lock lock = WR_LOCK_INIT;
	struct wr_member_env env;
	enum wr_writer_stand stand;
	int rc = -1;

	*out_opened = false;
	if (!l->auth || !l->ms.has_record)
		return 0;
	wr_life_env(l, &env);
	stand = wr_writer_stand(&l->ms, &env, err);
	if (stand == WR_WRITER_READY)
		return 0;
	if (stand == WR_WRITER_NOT)
		return -1;
	wr_life_step(l, "open");
	if (stand == WR_WRITER_FETCH && read_fill(l, &fill, err) < 0)
		goto out;
	if (wr_auth_lock(l->auth, &l->project, &lock, err) < 0 ||
	    wr_auth_load(l->auth, &l->project, &l->ms, err) < 0)
		goto out;
	/* A replicate needs no lifecycle lock: it may have been here first. */
	if (wr_writer_stand(&l->ms, &env, NULL) == WR_WRITER_READY) {
		rc = 0;
		goto out;
	}
	if (l->ms.has_save)
		wr_buf_add(&held, l->ms.save_bytes.p, l->ms.save_bytes.len);
	if (wr_writer_open(&l->ms, &env, stand == WR_WRITER_FETCH ? &fill : NULL, &l->auth->key,
			   &side, err) < 0)
		goto out;
	if (stand == WR_WRITER_FETCH && move_refs(l, &l->ms.save, &held, &side, err) < 0)
		goto out;
	wr_life_crash(l, "opening");
	rc = wr_auth_store(l->auth, &l->project, &l->ms, err);
	if (rc == 0) {
		*out_opened = true;
		wr_life_crash(l, "opened");
		if (side.side)
			wr_life_warn(l, "what was saved here alone is in branch %s",
				     side.side_name);
	}
out:
	wr_lock_drop(&lock);
	wr_push_fini(&side);
	wr_save_rec_fini(&fill);
	return rc < 0 ? wr_err_wrap(err, "open epoch %" PRIu64 " of '%s'", l->ms.record.n.number,
				    l->set.name)
		      : 0;
}

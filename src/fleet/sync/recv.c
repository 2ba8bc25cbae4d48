/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The receiver.  Nothing of what comes is believed: objects are hashed one by one on their way into
 * the quarantine, then every reference of each is found in the quarantine or reachable from those
 * own refs that the sender says it builds on.
 *
 *   START (work)     own refs, HELLO
 *   OFFER, WANT      MEND: ids that could come, which of them do (work)
 *   BEGIN            MORE is answered, then the stream is announced, perhaps as the newest state
 *   LOAD (work)      what lies here of a transfer that broke off is read again
 *   HELD             its objects are told, piece by piece: which belong to the stream?
 *   KEEP (work)      the others go
 *   DATA             entries, then END
 *   SEAL (work)      trailer, index
 *   HISTORY (work)   which commits are new
 *   TREES (work)     their trees beside those of their parents
 *   REST (work)      objects that no new commit led to
 *   FULL (work)      only if pairs left references open: all that the base reaches
 *   SYNC (work)      durable: READY
 *   READY            commit; or, base refs moved, or that was the newest state alone: START again
 *
 * What comes for a MEND is checked by its hash alone, and is something that was asked for: what it
 * refers to may be on its way from another node.
 */
#include "engine/repo/verify.h"
#include "fleet/sync/recv_int.h"
#include "fleet/sync/sync_int.h"

#define MAX_OBJECTS (UINT64_C(16) << 20)
#define STALE_S ((int64_t)7 * 86400)

static void
recv_free(struct wr_sync *m)
{
	struct wr_recv *v = (struct wr_recv *)m;

	wr_recv_forget(v);
	wr_quar_close(v->quar);
	free(v->held);
	wr_sync_list_fini(&v->newest);
	wr_sync_list_fini(&v->own);
	wr_buf_fini(&v->part);
	wr_buf_fini(&v->payload);
	wr_buf_fini(&v->other);
	free(v->suspect);
	wr_buf_fini(&v->offered_ids);
	wr_buf_fini(&v->want);
	wr_idmap_fini(&v->wanted);
	wr_inflater_free(v->inflater);
}

/* ---- the machine ---- */

static int
recv_frame(struct wr_sync *m, enum wr_frame type, struct wr_rd *r, struct wr_err *err)
{
	struct wr_recv *v = (struct wr_recv *)m;

	if (type == WR_FRAME_OFFER && v->state == WR_RECV_OFFER)
		return wr_recv_on_offer(v, r, err);
	if (type == WR_FRAME_MORE && v->state == WR_RECV_BEGIN && !wr_recv_mends(v))
		return wr_recv_on_more(v, err);
	if (type == WR_FRAME_FIRST && v->state == WR_RECV_BEGIN)
		return wr_recv_on_first(v, r, err);
	if (type == WR_FRAME_BEGIN && v->state == WR_RECV_BEGIN)
		return wr_recv_on_begin(v, r, err);
	if (type == WR_FRAME_USE && v->state == WR_RECV_HELD)
		return wr_recv_on_use(v, r, err);
	if (type == WR_FRAME_DATA && v->state == WR_RECV_DATA)
		return wr_recv_on_data(v, r, err);
	if (type == WR_FRAME_END && v->state == WR_RECV_DATA)
		return wr_recv_on_end(v, r, err);
	return wr_sync_out_of_turn(type, err);
}

static int
recv_step(struct wr_recv *v, struct wr_err *err)
{
	int rc;

	switch (v->state) {
	case WR_RECV_START:
		return wr_recv_start(v, err);
	case WR_RECV_WANT:
		wr_recv_want(v);
		return 0;
	case WR_RECV_LOAD:
		return wr_recv_load(v, err);
	case WR_RECV_KEEP:
		return wr_recv_keep(v, err);
	case WR_RECV_SEAL:
		return wr_recv_check(v, err);
	case WR_RECV_HISTORY:
		rc = wr_hist_step(&v->hist, WR_SLICE, err);
		return rc == 0 ? wr_recv_end_history(v, err) : rc < 0 ? -1 : 0;
	case WR_RECV_TREES:
		return wr_recv_trees(v, err);
	case WR_RECV_REST:
		return wr_recv_rest(v, err);
	case WR_RECV_FULL:
		return wr_recv_full(v, err);
	default:
		return wr_recv_sync(v, err);
	}
}

static int
recv_work(struct wr_sync *m, struct wr_err *err)
{
	struct wr_recv *v = (struct wr_recv *)m;
	enum wr_recv_state was = v->state;

	if (recv_step(v, err) == 0)
		return 0;
	/* What is wrong in itself would be wrong again after a resumption. */
	if (was >= WR_RECV_SEAL && err->code != WR_E_SYS && err->code != WR_E_NOSPACE) {
		m->src.quar = NULL;
		wr_quar_drop(wr_steal(&v->quar));
	}
	return -1;
}

static bool
recv_busy(const struct wr_sync *m)
{
	const struct wr_recv *v = (const struct wr_recv *)m;

	return v->state == WR_RECV_START || v->state == WR_RECV_WANT || v->state == WR_RECV_LOAD ||
	       v->state == WR_RECV_KEEP || (v->state >= WR_RECV_SEAL && v->state <= WR_RECV_SYNC);
}

struct wr_sync *
wr_sync_recv_new(struct wr_repo *r, const struct wr_save_rec *target,
		 const struct wr_sync_recv_opts *o)
{
	static const struct wr_sync_ops ops = {recv_frame, recv_work, recv_busy, recv_free};
	struct wr_recv *v = wr_calloc(1, sizeof(*v));

	wr_sync_init(&v->m, &ops, r, target);
	v->o = *o;
	v->o.max_bytes = o->max_bytes ? o->max_bytes : UINT64_MAX;
	v->o.max_objects = o->max_objects ? o->max_objects : MAX_OBJECTS;
	v->o.max_object = o->max_object ? WR_MIN(o->max_object, WR_OBJ_MAX) : WR_OBJ_MAX;
	v->o.stale_s = o->stale_s ? o->stale_s : STALE_S;
	v->state = WR_RECV_START;
	return &v->m;
}

/* ---- commit ---- */

/* 1: they are where they were when the sender was told; 0: not. */
static int
base_unchanged(struct wr_recv *v, struct wr_err *err)
{
	for (size_t i = 0; i < v->own.count; i++) {
		const struct wr_sync_ref *ref = &v->own.ref[i];
		struct wr_err why = WR_ERR_INIT;
		struct wr_id now;

		if (!ref->used)
			continue;
		if (wr_ref_read(v->m.src.repo, ref->name, &now, &why) < 0) {
			if (why.code == WR_E_NOT_FOUND)
				return 0;
			if (err)
				*err = why;
			return -1;
		}
		if (!wr_id_eq(&now, &ref->id))
			return 0;
	}
	return 1;
}

/* Packs came to the repository since: what they brought must be the same, too. */
static int
check_all_same(struct wr_recv *v, struct wr_err *err)
{
	for (uint32_t i = 0; i < v->total; i++) {
		struct wr_id id = wr_idx_id(&v->quar->idx, i);
		enum wr_obj_type type;

		if (!wr_repo_exists(v->m.src.repo, &id))
			continue;
		if (wr_quar_read(v->quar, i, &type, &v->payload, err) < 0 ||
		    wr_recv_check_same(v, &id, type, &v->payload, err) < 0)
			return -1;
	}
	return 0;
}

static void
begin_again(struct wr_recv *v)
{
	v->first_on = false;
	wr_sync_list_fini(&v->newest);
	v->m.status = WR_SYNC_RUNNING;
	v->m.progress.phase = WR_SYNC_PHASE_NEGOTIATE;
	v->m.src.quar = NULL;
	v->state = WR_RECV_START;
}

static int
commit_locked(struct wr_recv *v, const struct wr_sync_commit *c, struct wr_sync_result *out,
	      struct wr_err *err)
{
	struct wr_repo *r = v->m.src.repo;
	int same = base_unchanged(v, err);

	if (same < 0)
		return -1;
	if (!same)
		return wr_err_set(err, WR_E_CHANGED, "refs that the far side builds on have moved");
	if (v->quar) {
		if ((v->reused || wr_repo_ordinal_end(r) != v->packs) && check_all_same(v, err) < 0)
			return -1;
		out->objects = v->quar->total;
		out->bytes = v->quar->bytes + WR_ID_LEN;
		v->m.src.quar = NULL;
		if (wr_quar_install(v->quar, err) < 0)
			return -1;
		v->quar = NULL;
		if (wr_repo_refresh(r, err) < 0)
			return -1;
	}
	if (wr_recv_mends(v))
		return 0;
	if (v->first_on)
		return wr_sync_put_latest(r, &v->newest.ref[0].id, c, err);
	if (wr_sync_move_refs(r, v->o.mode, &v->m.target, c, out, err) < 0)
		return -1;
	if (wr_sync_drop_keeps(r, c->now, c->floor_s, &out->refs_dropped, err) < 0 ||
	    wr_repo_drop_aside(r, c->now, c->floor_s, err) < 0)
		return -1;
	/* A cache: without it searches are slower. */
	if (out->objects)
		(void)wr_repo_index_maintain(r, NULL);
	return 0;
}

int
wr_sync_recv_commit(struct wr_sync *m, const struct wr_sync_commit *c, struct wr_sync_result *out,
		    struct wr_err *err)
{
	struct wr_recv *v = (struct wr_recv *)m;
	struct wr_err why = WR_ERR_INIT;
	struct wr_sync_result res = {0};
	int rc;

	wr_assert(m->status == WR_SYNC_READY && v->state == WR_RECV_READY);
	if (wr_repo_lock(m->src.repo, "receive", c->lock_wait_s, &why) < 0) {
		if (why.code != WR_E_BUSY)
			wr_sync_fail(m, &why);
		if (err)
			*err = why;
		return -1;
	}
	rc = commit_locked(v, c, &res, &why);
	wr_repo_unlock(m->src.repo);
	if (rc == 0 && v->first_on) {
		v->first_done = true;
		rc =
		    wr_err_set(&why, WR_E_CHANGED, "the newest state is here, its history follows");
	}
	if (rc < 0) {
		if (why.code == WR_E_CHANGED)
			begin_again(v);
		else
			wr_sync_fail(m, &why);
		if (err)
			*err = why;
		return -1;
	}
	wr_frame_end(m, wr_frame_begin(m, WR_FRAME_DONE));
	m->status = WR_SYNC_DONE;
	*out = res;
	return 0;
}

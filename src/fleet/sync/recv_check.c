/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The receiver: every reference of what came is found in the quarantine, or reachable from those
 * own refs that the sender says it builds on.
 */
#include "fleet/sync/recv_int.h"
#include "fleet/sync/sync_int.h"
#include "sys/crash.h"

void
wr_recv_forget(struct wr_recv *v)
{
	wr_hist_fini(&v->hist);
	wr_idmap_fini(&v->base_id);
	free(wr_steal(&v->fresh));
	v->fresh_count = v->fresh_at = 0;
	wr_pairs_fini(&v->pairs);
	free(wr_steal(&v->visited));
	v->rest_at = 0;
	wr_idmap_fini(&v->open);
	v->open_count = 0;
	wr_full_fini(&v->full);
}

static void
open_question(struct wr_recv *v, const struct wr_id *id, enum wr_obj_type type)
{
	bool fresh;
	uint64_t *t = wr_idmap_put(&v->open, id, &fresh);

	v->open_count += fresh;
	if (fresh || *t == WR_OBJ_NONE)
		*t = type;
}

/* A reference: 1 = it is here and was not seen yet, 0 = it is settled or an open question, -1. */
static int
refer(struct wr_recv *v, const struct wr_id *id, enum wr_obj_type type, bool known,
      struct wr_err *err)
{
	const uint64_t *base;
	enum wr_obj_type is;
	int64_t at;

	if (known)
		return 0;
	at = v->quar ? wr_quar_find_id(v->quar, id) : -1;
	base = at < 0 ? wr_idmap_find(&v->base_id, id) : NULL;
	if (at < 0 && !base) {
		open_question(v, id, type);
		return 0;
	}
	is = at < 0 ? (enum wr_obj_type) * base : v->quar->type[at];
	if (type != WR_OBJ_NONE && is != type)
		return wr_err_set(err, WR_E_CORRUPT, "object %s is a %s and referred to as a %s",
				  wr_id_hex(id).s, wr_obj_type_name(is), wr_obj_type_name(type));
	if (at < 0)
		return 0;
	if (v->visited[at / 8] >> (at % 8) & 1)
		return 0;
	v->visited[at / 8] |= (uint8_t)(1u << (at % 8));
	return 1;
}

static int
on_ref(void *ctx, const struct wr_id *id, enum wr_obj_type type, bool known, struct wr_err *err)
{
	return refer(ctx, id, type, known, err);
}

/* A tree that came and was not looked at yet proves nothing about another. */
static bool
with_ok(void *ctx, const struct wr_id *id)
{
	const struct wr_recv *v = ctx;
	int64_t at = v->quar ? wr_quar_find_id(v->quar, id) : -1;

	return at < 0 || (v->visited[at / 8] >> (at % 8) & 1);
}

static int
refer_tree(struct wr_recv *v, const struct wr_id *id, const struct wr_id *with, struct wr_err *err)
{
	int rc = refer(v, id, WR_OBJ_TREE, false, err);

	if (rc > 0)
		wr_pairs_push(&v->pairs, id, with);
	return rc < 0 ? -1 : 0;
}

/* Where a tag that came leads to. */
static int
refer_tagged(struct wr_recv *v, const struct wr_id *tag, struct wr_id *out,
	     enum wr_obj_type *out_type, struct wr_err *err)
{
	if (wr_src_read(&v->m.src, tag, WR_OBJ_TAG, NULL, &v->payload, err) < 0 ||
	    wr_tag_parse(&v->payload, out, out_type, err) < 0)
		return wr_err_wrap(err, "tag %s", wr_id_hex(tag).s);
	return 0;
}

/* A commit: one that came is looked at in the order of history, others are looked for there. */
static int
refer_commit(struct wr_recv *v, const struct wr_id *id, struct wr_err *err)
{
	return wr_hist_add(&v->hist, id, true, false, err);
}

static int
check_target(struct wr_recv *v, const struct wr_sync_ref *ref, struct wr_err *err)
{
	bool branch = !strncmp(ref->name, "refs/heads/", 11) || !strcmp(ref->name, WR_SYNC_LATEST);
	struct wr_id at = ref->id;
	enum wr_obj_type type = WR_OBJ_NONE, claimed = WR_OBJ_NONE;

	for (int depth = 0; depth < WR_SYNC_TAG_DEPTH; depth++) {
		bool here = v->quar && wr_quar_find_id(v->quar, &at) >= 0;

		if (!here && !wr_repo_exists(v->m.src.repo, &at))
			return wr_err_set(err, WR_E_CORRUPT, "object %s is missing",
					  wr_id_hex(&at).s);
		if (wr_src_stat(&v->m.src, &at, &type, err) < 0)
			return -1;
		if ((branch && type != WR_OBJ_COMMIT) ||
		    (claimed != WR_OBJ_NONE && claimed != type))
			return wr_err_set(err, WR_E_CORRUPT, "object %s is a %s", wr_id_hex(&at).s,
					  wr_obj_type_name(type));
		if (type == WR_OBJ_COMMIT)
			return wr_idmap_find(&v->base_id, &at) ? 0 : refer_commit(v, &at, err);
		if (type == WR_OBJ_TREE)
			return refer_tree(v, &at, NULL, err);
		if (refer(v, &at, type, false, err) < 0)
			return -1;
		if (type != WR_OBJ_TAG || !here)
			return 0;
		if (refer_tagged(v, &at, &at, &claimed, err) < 0)
			return -1;
	}
	return wr_err_set(err, WR_E_CORRUPT, "more than %d tags of tags", WR_SYNC_TAG_DEPTH);
}

static const struct wr_sync_list *
list_now(const struct wr_recv *v)
{
	return v->first_on ? &v->newest : &v->m.target;
}

static void
add_base(struct wr_recv *v, const struct wr_id *id)
{
	struct wr_id at = *id;
	enum wr_obj_type type;
	bool fresh;

	for (int depth = 0; depth < WR_SYNC_TAG_DEPTH; depth++) {
		uint64_t size;

		/* From the repository, not from what came. */
		if (wr_repo_stat_object(v->m.src.rd, &at, &type, &size, NULL) < 0)
			return;
		*wr_idmap_put(&v->base_id, &at, &fresh) = type;
		if (type == WR_OBJ_COMMIT)
			(void)wr_hist_add(&v->hist, &at, false, true, NULL); /* never fails */
		if (type != WR_OBJ_TAG ||
		    wr_repo_read(v->m.src.rd, &at, WR_OBJ_TAG, true, NULL, &v->payload, NULL) < 0 ||
		    wr_tag_parse(&v->payload, &at, &type, NULL) < 0)
			return;
	}
}

int
wr_recv_check(struct wr_recv *v, struct wr_err *err)
{
	struct wr_sync *m = &v->m;

	if (v->quar && !v->quar->sealed && wr_quar_seal(v->quar, err) < 0)
		return -1;
	wr_recv_forget(v);
	if (wr_recv_mends(v)) {
		v->packs = wr_repo_ordinal_end(m->src.repo);
		v->state = WR_RECV_SYNC;
		return 0;
	}
	m->src.quar = v->quar;
	v->packs = wr_repo_ordinal_end(m->src.repo);
	v->visited = wr_calloc(v->total / 8 + 1, 1);
	v->pairs = (struct wr_pairs){.src = &m->src, .fn = on_ref, .ctx = v, .with_ok = with_ok};
	wr_hist_init(&v->hist, &m->src);
	for (size_t i = 0; i < v->own.count; i++)
		if (v->own.ref[i].used)
			add_base(v, &v->own.ref[i].id);
	for (size_t i = 0; i < list_now(v)->count; i++)
		if (check_target(v, &list_now(v)->ref[i], err) < 0)
			return wr_err_wrap(err, "ref '%s'", WR_Q(list_now(v)->ref[i].name));
	v->state = WR_RECV_HISTORY;
	return 0;
}

int
wr_recv_end_history(struct wr_recv *v, struct wr_err *err)
{
	bool fresh;

	wr_hist_new(&v->hist, &v->fresh, &v->fresh_count);
	for (size_t i = 0; i < v->hist.count; i++)
		if (v->hist.c[i].base && !v->hist.c[i].unread)
			*wr_idmap_put(&v->base_id, &v->hist.c[i].tree, &fresh) = WR_OBJ_TREE;
	/* Commits that did not come and were not met on the way back from the base. */
	for (size_t i = 0; i < v->hist.count; i++)
		if (v->hist.c[i].target && !v->hist.c[i].base && !v->hist.c[i].quar &&
		    refer(v, &v->hist.c[i].id, WR_OBJ_COMMIT, false, err) < 0)
			return -1;
	v->state = WR_RECV_TREES;
	return 0;
}

static int
next_commit(struct wr_recv *v, struct wr_err *err)
{
	const struct wr_hist_commit *c = &v->hist.c[v->fresh[v->fresh_at]], *parent = NULL;
	bool same;

	if (c->parents > 0)
		parent = wr_hist_find(&v->hist, &v->hist.parent[c->parent]);
	if (parent && parent->unread)
		parent = NULL;
	if (refer(v, &c->id, WR_OBJ_COMMIT, false, err) < 0)
		return -1;
	/* A parent that is an open question answers none: all fails with it. */
	same = parent && wr_id_eq(&parent->tree, &c->tree);
	if (!same &&
	    refer_tree(v, &c->tree,
		       parent ? &parent->tree : wr_hist_beside(&v->hist, v->fresh, v->fresh_at),
		       err) < 0)
		return wr_err_wrap(err, "commit %s", wr_id_hex(&c->id).s);
	v->fresh_at++;
	return 0;
}

int
wr_recv_trees(struct wr_recv *v, struct wr_err *err)
{
	int rc = wr_pairs_step(&v->pairs, WR_SLICE, err);

	if (rc != 0)
		return rc < 0 ? -1 : 0;
	for (unsigned i = 0; i < WR_SLICE && v->pairs.count == 0; i++) {
		if (v->fresh_at == v->fresh_count) {
			v->state = WR_RECV_REST;
			return 0;
		}
		if (next_commit(v, err) < 0)
			return -1;
	}
	return 0;
}

/* References of an object that nothing led to. */
static int
rest_object(struct wr_recv *v, uint32_t pos, struct wr_err *err)
{
	struct wr_id id = wr_idx_id(&v->quar->idx, pos), to;
	enum wr_obj_type type = v->quar->type[pos];
	struct wr_commit c = WR_COMMIT_INIT;
	int rc = refer(v, &id, type, false, err);

	if (rc <= 0 || type == WR_OBJ_BLOB)
		return rc < 0 ? -1 : 0;
	if (type == WR_OBJ_TREE) {
		wr_pairs_push(&v->pairs, &id, NULL);
		return 0;
	}
	if (type == WR_OBJ_TAG) {
		if (refer_tagged(v, &id, &to, &type, err) < 0)
			return -1;
		/* What it leads to is met here as well, if it came. */
		if (wr_quar_find_id(v->quar, &to) < 0)
			return refer(v, &to, type, false, err) < 0 ? -1 : 0;
		return 0;
	}
	if (wr_src_read(&v->m.src, &id, WR_OBJ_COMMIT, NULL, &v->payload, err) < 0 ||
	    wr_commit_parse(v->payload.p, v->payload.len, &c, err) < 0)
		return wr_err_wrap(err, "commit %s", wr_id_hex(&id).s);
	rc = refer_tree(v, &c.tree, NULL, err);
	for (size_t i = 0; rc == 0 && i < c.parent_count; i++) {
		int64_t at = wr_quar_find_id(v->quar, &c.parent[i]);

		if (at < 0)
			rc = refer(v, &c.parent[i], WR_OBJ_COMMIT, false, err);
		else if (v->quar->type[at] != WR_OBJ_COMMIT)
			rc = wr_err_set(err, WR_E_CORRUPT, "parent %s is no commit",
					wr_id_hex(&c.parent[i]).s);
	}
	wr_commit_fini(&c);
	return rc;
}

int
wr_recv_rest(struct wr_recv *v, struct wr_err *err)
{
	int rc = wr_pairs_step(&v->pairs, WR_SLICE, err);

	if (rc != 0)
		return rc < 0 ? -1 : 0;
	for (unsigned i = 0; i < 64 * WR_SLICE && v->pairs.count == 0; i++) {
		if (v->rest_at == v->total) {
			v->state = v->open_count ? WR_RECV_FULL : WR_RECV_SYNC;
			return 0;
		}
		if (rest_object(v, v->rest_at++, err) < 0)
			return -1;
	}
	return 0;
}

static int
answer(void *ctx, const struct wr_id *id, enum wr_obj_type type)
{
	struct wr_recv *v = ctx;
	uint64_t *want = wr_idmap_find(&v->open, id);

	/* A ref of the base comes without its type: nobody can have asked for it with another. */
	if (!want || *want == UINT64_MAX)
		return 0;
	if (type != WR_OBJ_NONE && *want != WR_OBJ_NONE && *want != type) {
		wr_err_set(&v->bad, WR_E_CORRUPT, "object %s is a %s and referred to as a %s",
			   wr_id_hex(id).s, wr_obj_type_name(type),
			   wr_obj_type_name((enum wr_obj_type) * want));
		return 1;
	}
	*want = UINT64_MAX;
	return --v->open_count == 0;
}

int
wr_recv_full(struct wr_recv *v, struct wr_err *err)
{
	static const struct wr_err none = WR_ERR_INIT;
	const struct wr_idmap_slot *s;
	int rc;

	if (!v->full.src) {
		v->bad = none;
		v->repo_only = (struct wr_src){.repo = v->m.src.repo, .rd = v->m.src.rd};
		wr_full_init(&v->full, &v->repo_only);
		v->full.lenient = true;
		v->full.fn = answer;
		v->full.ctx = v;
		for (size_t i = 0; i < v->own.count; i++)
			if (v->own.ref[i].used)
				wr_full_push(&v->full, &v->own.ref[i].id, WR_OBJ_NONE);
	}
	rc = wr_full_step(&v->full, WR_SLICE, err);
	if (v->bad.code != WR_E_NONE) {
		if (err)
			*err = v->bad;
		return -1;
	}
	if (v->open_count == 0) {
		v->state = WR_RECV_SYNC;
		return 0;
	}
	if (rc == 1)
		return 0;
	for (size_t i = 0; (s = wr_idmap_next(&v->open, &i));)
		if (s->value != UINT64_MAX)
			return wr_err_set(err, WR_E_CORRUPT,
					  "object %s is missing: it neither came nor is it reached "
					  "by the refs that the far side builds on",
					  wr_id_hex(&s->id).s);
	return wr_err_set(err, WR_E_CORRUPT, "an object is missing");
}

int
wr_recv_sync(struct wr_recv *v, struct wr_err *err)
{
	if (v->quar && wr_quar_sync(v->quar, err) < 0)
		return -1;
	wr_crash_point("sync.ready");
	wr_recv_forget(v);
	v->m.progress.phase = WR_SYNC_PHASE_COMMIT;
	v->m.status = WR_SYNC_READY;
	v->state = WR_RECV_READY;
	return 0;
}

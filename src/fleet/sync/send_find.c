/* SPDX-License-Identifier: Apache-2.0 */
/* The sender: what the far side lacks, by histories and by trees beside trees. */
#include "fleet/sync/send_int.h"
#include "fleet/sync/sync_int.h"

/* New commits from which on it is worth to ask for MORE. */
#define MANY_NEW 64

void
wr_send_forget(struct wr_send *s)
{
	wr_hist_fini(&s->hist);
	wr_idmap_fini(&s->base_id);
	wr_pairs_fini(&s->pairs);
	wr_id_marks_fini(&s->seen);
	wr_full_fini(&s->full);
	free(wr_steal(&s->tree));
	free(wr_steal(&s->fresh));
	free(wr_steal(&s->packed));
	free(wr_steal(&s->loose));
	free(wr_steal(&s->pack));
	free(wr_steal(&s->item));
	free(wr_steal(&s->table.slot));
	free(wr_steal(&s->held));
	s->told = 0;
	s->has_far_tree = false;
	s->tree_count = s->tree_cap = 0;
	s->fresh_count = s->fresh_at = 0;
	s->packed_count = s->packed_cap = 0;
	s->loose_count = s->loose_cap = 0;
	s->pack_count = s->item_count = 0;
	s->full_done = false;
	s->at = 0;
	wr_pack_close(&s->open);
	s->open_pack = 0;
	wr_buf_clear(&s->data);
}

/* True: it is new. */
bool
wr_send_add(struct wr_send *s, const struct wr_id *id)
{
	int64_t n;

	if (!wr_id_marks_set(&s->seen, id))
		return false;
	n = wr_repo_ordinal(s->m.src.repo, id);
	if (n >= 0) {
		wr_grow(&s->packed, &s->packed_cap, s->packed_count + 1, sizeof(*s->packed));
		s->packed[s->packed_count++] = (uint64_t)n;
	} else {
		wr_grow(&s->loose, &s->loose_cap, s->loose_count + 1, sizeof(*s->loose));
		s->loose[s->loose_count++] = *id;
	}
	return true;
}

static int
on_ref(void *ctx, const struct wr_id *id, enum wr_obj_type type, bool known,
       WR_UNUSED struct wr_err *err)
{
	struct wr_send *s = ctx;

	return !known && wr_send_add(s, id) && type == WR_OBJ_TREE;
}

/* What the far side has: refs and commits that we know, too. */
static void
add_base(struct wr_send *s, const struct wr_id *id, struct wr_sync_ref *ref)
{
	struct wr_id at = *id;
	enum wr_obj_type type;
	bool fresh;

	if (!wr_repo_exists(s->m.src.repo, &at))
		return;
	for (int depth = 0; depth < WR_SYNC_TAG_DEPTH; depth++) {
		if (wr_src_stat(&s->m.src, &at, &type, NULL) < 0)
			return;
		ref->used = true;
		wr_idmap_put(&s->base_id, &at, &fresh);
		if (type == WR_OBJ_COMMIT)
			(void)wr_hist_add(&s->hist, &at, false, true, NULL); /* never fails */
		if (type != WR_OBJ_TAG ||
		    wr_src_read(&s->m.src, &at, WR_OBJ_TAG, NULL, &s->payload, NULL) < 0 ||
		    wr_tag_parse(&s->payload, &at, &type, NULL) < 0)
			return;
	}
}

static int
add_target(struct wr_send *s, const struct wr_sync_ref *ref, struct wr_err *err)
{
	struct wr_id at = ref->id;
	enum wr_obj_type type;

	for (int depth = 0; depth < WR_SYNC_TAG_DEPTH; depth++) {
		if (wr_idmap_find(&s->base_id, &at))
			return 0;
		if (wr_src_stat(&s->m.src, &at, &type, err) < 0)
			return -1;
		switch (type) {
		case WR_OBJ_COMMIT:
			return wr_hist_add(&s->hist, &at, true, false, err);
		case WR_OBJ_TREE:
			if (s->first_on)
				return 0;
			wr_grow(&s->tree, &s->tree_cap, s->tree_count + 1, sizeof(*s->tree));
			s->tree[s->tree_count++] = at;
			return 0;
		case WR_OBJ_TAG:
			if (!s->first_on)
				wr_send_add(s, &at);
			if (wr_src_read(&s->m.src, &at, WR_OBJ_TAG, NULL, &s->payload, err) < 0 ||
			    wr_tag_parse(&s->payload, &at, &type, err) < 0)
				return -1;
			break;
		default:
			if (!s->first_on)
				wr_send_add(s, &at);
			return 0;
		}
	}
	return wr_err_set(err, WR_E_CORRUPT, "more than %d tags of tags", WR_SYNC_TAG_DEPTH);
}

/* Are all refs of the target where the far side has them already? Then nothing is looked at. */
bool
wr_send_far_has_all(struct wr_send *s)
{
	struct wr_idmap ids = WR_IDMAP_INIT;
	bool all = true, fresh;

	for (size_t i = 0; i < s->far.count; i++)
		*wr_idmap_put(&ids, &s->far.ref[i].id, &fresh) = i;
	for (size_t i = 0; i < s->m.target.count; i++) {
		const uint64_t *v = wr_idmap_find(&ids, &s->m.target.ref[i].id);

		if (v)
			s->far.ref[*v].used = true;
		all &= v != NULL;
	}
	wr_idmap_fini(&ids);
	return all;
}

int
wr_send_history(struct wr_send *s, struct wr_err *err)
{
	wr_send_forget(s);
	wr_id_marks_init(&s->seen, s->m.src.repo);
	wr_hist_init(&s->hist, &s->m.src);
	s->hist.strict = true;
	for (size_t i = 0; i < s->far.count; i++)
		add_base(s, &s->far.ref[i].id, &s->far.ref[i]);
	for (size_t i = 0; i < s->have_count; i++)
		add_base(s, &s->have[i].id, &s->far.ref[s->have[i].ref]);
	for (size_t i = 0; i < s->m.target.count; i++)
		if (add_target(s, &s->m.target.ref[i], err) < 0)
			return wr_err_wrap(err, "ref '%s'", WR_Q(s->m.target.ref[i].name));
	s->state = WR_SEND_HISTORY;
	return 0;
}

/* Would it help to know more of the far side's branches? */
bool
wr_send_want_more(const struct wr_send *s)
{
	bool unknown = false;
	size_t fresh = 0;

	for (size_t i = 0; i < s->far.count; i++)
		unknown |= !s->far.ref[i].used && !strncmp(s->far.ref[i].name, "refs/heads/", 11);
	for (size_t i = 0; i < s->hist.count && unknown && !s->asked_more; i++) {
		const struct wr_hist_commit *c = &s->hist.c[i];

		/* A beginning without base below: also of a branch that has a base, if we only
		 * knew it. */
		if (c->target && !c->base && (++fresh > MANY_NEW || c->parents == 0))
			return true;
	}
	return false;
}

/* Tree to put beside that of a commit without parents. */
static const struct wr_id *
some_tree(const struct wr_send *s)
{
	const struct wr_id *tree = wr_hist_beside(&s->hist, s->fresh, s->fresh_at);

	return tree || !s->has_far_tree ? tree : &s->far_tree;
}

/* The far side's newest state stands for the tree of a commit of ours: its id says which. */
static void
know_latest(struct wr_send *s)
{
	struct wr_sync_ref *far = NULL;
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	bool fresh;

	for (size_t i = 0; i < s->far.count; i++)
		if (!strcmp(s->far.ref[i].name, WR_SYNC_LATEST) && !s->far.ref[i].used)
			far = &s->far.ref[i];
	for (size_t i = 0; far && i < s->hist.count && !s->has_far_tree; i++) {
		struct wr_id id;

		wr_buf_clear(&b);
		wr_commit_latest(&b, &s->hist.c[i].tree, s->hist.c[i].time);
		id = wr_obj_id(WR_OBJ_COMMIT, b.p, b.len);
		if (!wr_id_eq(&id, &far->id) || s->hist.c[i].unread)
			continue;
		s->far_tree = s->hist.c[i].tree;
		s->has_far_tree = far->used = true;
		wr_idmap_put(&s->base_id, &s->far_tree, &fresh);
	}
}

void
wr_send_trees(struct wr_send *s)
{
	bool fresh;

	s->pairs = (struct wr_pairs){.src = &s->m.src, .fn = on_ref, .ctx = s};
	know_latest(s);
	wr_hist_new(&s->hist, &s->fresh, &s->fresh_count);
	for (size_t i = 0; i < s->hist.count; i++)
		if (s->hist.c[i].base)
			wr_idmap_put(&s->base_id, &s->hist.c[i].tree, &fresh);
	for (size_t i = 0; i < s->tree_count; i++)
		if (wr_send_add(s, &s->tree[i]))
			wr_pairs_push(&s->pairs, &s->tree[i], NULL);
	if (s->first_on) {
		if (!wr_idmap_find(&s->base_id, &s->tip_tree) && wr_send_add(s, &s->tip_tree))
			wr_pairs_push(&s->pairs, &s->tip_tree, some_tree(s));
		s->fresh_at = s->fresh_count;
	}
	s->state = WR_SEND_TREES;
}

static void
next_commit(struct wr_send *s)
{
	const struct wr_hist_commit *c = &s->hist.c[s->fresh[s->fresh_at]], *parent = NULL;

	if (c->parents > 0)
		parent = wr_hist_find(&s->hist, &s->hist.parent[c->parent]);
	wr_send_add(s, &c->id);
	if (!wr_idmap_find(&s->base_id, &c->tree) && wr_send_add(s, &c->tree))
		wr_pairs_push(&s->pairs, &c->tree, parent ? &parent->tree : some_tree(s));
	s->fresh_at++;
}

int
wr_send_work_trees(struct wr_send *s, struct wr_err *err)
{
	int rc = wr_pairs_step(&s->pairs, WR_SLICE, err);

	if (rc != 0)
		return rc < 0 ? -1 : 0;
	for (unsigned i = 0; i < WR_SLICE && s->pairs.count == 0; i++) {
		if (s->fresh_at == s->fresh_count) {
			s->state = WR_SEND_PLAN;
			return 0;
		}
		next_commit(s);
	}
	return 0;
}

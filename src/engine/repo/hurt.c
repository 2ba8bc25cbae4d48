/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From lost objects to the snapshots and paths that need them.
 *
 * Each snapshot's tree is walked with a stack of its own (trees may be nested deeper than C calls
 * should be).  A tree below which nothing is lost gets a mark, and is not entered again, so the
 * whole costs one walk over all trees plus the damaged paths of each snapshot.
 */
#include "engine/object/name.h"
#include "engine/object/tree.h"
#include "engine/repo/verify_int.h"

/* LIMIT: paths listed; the rest is counted. */
#define HURT_MAX 10000

struct frame {
	struct wr_id id;
	struct wr_buf payload;
	struct wr_rd rd;
	size_t path_len; /* of the path this tree stands for */
	uint64_t hurt_before;
	bool chunks; /* the tree of a chunked file or chunked .bupm */
};

struct walk {
	struct wr_verify_run *run;
	struct wr_reader *rd;
	struct wr_marks clean; /* trees without a lost object below */
	struct wr_idmap seen;  /* commits and bare trees that were looked at */
	struct frame *frame;
	size_t depth, cap;
	struct wr_buf path;
	const struct wr_id *commit;
	const char *snapshot;
	uint64_t hurt; /* so far, listed or not */
};

static void
add_hurt(struct walk *w, size_t path_len, const struct wr_id *object)
{
	struct wr_verify_result *out = w->run->result;
	struct wr_hurt *h;

	w->hurt++;
	if (out->hurt_count >= HURT_MAX) {
		out->hurt_more++;
		return;
	}
	wr_grow(&out->hurt, &out->hurt_cap, out->hurt_count + 1, sizeof(*out->hurt));
	h = &out->hurt[out->hurt_count++];
	*h = (struct wr_hurt){.commit = w->commit ? *w->commit : (struct wr_id){{0}},
			      .snapshot = wr_strdup(w->snapshot),
			      .object = *object};
	wr_buf_add(&h->path, w->path.p, path_len);
}

static bool
is_lost(const struct walk *w, const struct wr_id *id)
{
	return wr_idmap_find(&w->run->lost, id);
}

static bool
is_clean(struct walk *w, const struct wr_id *id)
{
	int64_t o = wr_repo_ordinal(w->run->repo, id);

	if (o >= 0 && (uint64_t)o < w->clean.bits)
		return w->clean.word[o / 64] >> (o % 64) & 1;
	return wr_idmap_find(&w->clean.other, id);
}

static void
set_clean(struct walk *w, const struct wr_id *id)
{
	int64_t o = wr_repo_ordinal(w->run->repo, id);
	bool ignored;

	if (o >= 0 && (uint64_t)o < w->clean.bits)
		w->clean.word[o / 64] |= UINT64_C(1) << (o % 64);
	else
		wr_idmap_put(&w->clean.other, id, &ignored);
}

static void
pop(struct walk *w)
{
	struct frame *f = &w->frame[--w->depth];

	if (f->hurt_before == w->hurt)
		set_clean(w, &f->id);
	wr_buf_fini(&f->payload);
}

/* Enter a tree that stands for the first path_len bytes of w->path. */
static void
push(struct walk *w, const struct wr_id *id, size_t path_len, bool chunks)
{
	struct frame f = {
	    .id = *id, .path_len = path_len, .hurt_before = w->hurt, .chunks = chunks};

	if (is_lost(w, id)) {
		add_hurt(w, path_len, id);
		return;
	}
	if (is_clean(w, id))
		return;
	/* It was readable a moment ago; if it no longer is, it is lost now. */
	if (wr_repo_read(w->rd, id, WR_OBJ_TREE, true, NULL, &f.payload, NULL) < 0) {
		wr_buf_fini(&f.payload);
		add_hurt(w, path_len, id);
		return;
	}
	f.rd = wr_rd(f.payload.p, f.payload.len);
	wr_grow(&w->frame, &w->cap, w->depth + 1, sizeof(*w->frame));
	w->frame[w->depth++] = f;
}

/* One chunk lost is the file lost: leave all trees of this file. */
static void
lose_file(struct walk *w, const struct wr_id *id)
{
	add_hurt(w, w->frame[w->depth - 1].path_len, id);
	while (w->depth && w->frame[w->depth - 1].chunks)
		pop(w);
}

static void
enter_chunk(struct walk *w, const struct wr_tree_entry *e)
{
	struct frame *f = &w->frame[w->depth - 1];

	if (is_lost(w, &e->id))
		lose_file(w, &e->id);
	else if ((e->mode & 0170000) == WR_MODE_TREE)
		push(w, &e->id, f->path_len, true);
}

static void
enter_name(struct walk *w, const struct wr_tree_entry *e)
{
	struct frame *f = &w->frame[w->depth - 1];
	bool is_tree = (e->mode & 0170000) == WR_MODE_TREE, chunked;
	size_t n = wr_name_unmangle(e->name, e->name_len, is_tree, &chunked);

	w->path.len = f->path_len;
	if (n > 0) { /* otherwise .bupm, which stands for the directory */
		if (f->path_len)
			wr_buf_add8(&w->path, '/');
		wr_buf_add(&w->path, e->name, n);
	}
	if (is_tree)
		push(w, &e->id, w->path.len, chunked);
	else if (is_lost(w, &e->id))
		add_hurt(w, w->path.len, &e->id);
}

static void
walk_tree(struct walk *w, const struct wr_id *tree)
{
	wr_buf_clear(&w->path);
	push(w, tree, 0, false);
	while (w->depth) {
		struct frame *f = &w->frame[w->depth - 1];
		struct wr_tree_entry e;

		if (wr_tree_next(&f->rd, &e, NULL) <= 0)
			pop(w); /* checked when the closure was walked */
		else if ((e.mode & 0170000) == 0160000)
			continue;
		else if (f->chunks)
			enter_chunk(w, &e);
		else
			enter_name(w, &e);
	}
}

/* True the first time. */
static bool
first_time(struct walk *w, const struct wr_id *id)
{
	bool is_new;

	wr_idmap_put(&w->seen, id, &is_new);
	return is_new;
}

static void
walk_whole(struct walk *w, const struct wr_id *commit, const char *snapshot,
	   const struct wr_id *lost)
{
	w->commit = commit;
	w->snapshot = snapshot;
	add_hurt(w, 0, lost);
}

/* The history of a commit: the tip is called tip_name if that is given, the others base/NAME. */
static void
walk_history(struct walk *w, const struct wr_id *tip, const char *base, const char *tip_name)
{
	WR_SCOPED(wr_snaps_fini) struct wr_snaps s = {0};
	struct wr_id bad;
	int rc = wr_history(w->rd, tip, NULL, &s, &bad, NULL);

	for (size_t i = 0; i < s.count; i++) {
		WR_SCOPED(wr_freep) char *name = wr_asprintf("%s/%s", base, s.snap[i].name);

		if (!first_time(w, &s.snap[i].commit))
			return; /* and so are its elders */
		w->commit = &s.snap[i].commit;
		w->snapshot = i == 0 && tip_name ? tip_name : name;
		walk_tree(w, &s.snap[i].tree);
	}
	if (rc < 0 && first_time(w, &bad)) {
		WR_SCOPED(wr_freep) char *name = wr_asprintf("%s/%s", base, wr_id_short(&bad).s);

		walk_whole(w, &bad, s.count == 0 && tip_name ? tip_name : name, &bad);
	}
}

static void
walk_ref(struct walk *w, const struct wr_ref *ref)
{
	const char *name = ref->name;
	bool branch = !strncmp(name, "refs/heads/", 11);
	struct wr_id id;
	enum wr_obj_type type;

	if (wr_id_is_zero(&ref->id))
		return;
	if (branch)
		name += 11;
	else if (!strncmp(name, "refs/tags/", 10))
		name += 10;
	if (wr_peel(w->rd, &ref->id, &id, &type, NULL) < 0) {
		/* The target is lost, or what a tag leads to. */
		walk_whole(w, NULL, name, &ref->id);
		if (is_lost(w, &ref->id))
			(void)first_time(w, &ref->id);
		return;
	}
	if (type == WR_OBJ_COMMIT) {
		walk_history(w, &id, name, branch ? NULL : name);
	} else if (first_time(w, &id)) {
		w->commit = NULL;
		w->snapshot = name;
		if (type == WR_OBJ_TREE)
			walk_tree(w, &id);
		else if (is_lost(w, &id))
			walk_whole(w, NULL, name, &id);
	}
}

int
wr_verify_hurt(struct wr_verify_run *v, struct wr_err *err)
{
	struct walk w = {.run = v, .rd = v->reader[0]};

	wr_marks_init(&w.clean, v->repo);
	/* Branches first: what they share with tags is known by the branch's name. */
	for (int pass = 0; pass < 2 && !atomic_load(&v->cancelled); pass++)
		for (size_t i = 0; i < v->refs.count; i++)
			if (!strncmp(v->refs.ref[i].name, "refs/heads/", 11) == (pass == 0))
				walk_ref(&w, &v->refs.ref[i]);
	while (w.depth)
		pop(&w);
	free(w.frame);
	wr_buf_fini(&w.path);
	wr_idmap_fini(&w.seen);
	wr_marks_fini(&w.clean);
	if (atomic_load(&v->cancelled))
		return wr_err_set(err, WR_E_CANCELLED, "cancelled");
	return 0;
}

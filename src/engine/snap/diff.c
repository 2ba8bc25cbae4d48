/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/snap/diff.h"

#include <sys/stat.h>

struct level {
	struct wr_dirview a, b; /* empty where the directory is on one side only */
	size_t ia, ib;
	size_t path_len; /* of the directory's path */
};

struct diff {
	struct wr_reader *rd;
	unsigned flags;
	wr_diff_fn fn;
	void *ctx;
	struct level *level;
	size_t depth, cap;
	struct wr_buf path;
	struct wr_buf scratch_a, scratch_b;
};

const char *
wr_change_name(enum wr_change c)
{
	switch (c) {
	case WR_CHANGE_ADDED:
		return "added";
	case WR_CHANGE_REMOVED:
		return "removed";
	case WR_CHANGE_CONTENT:
		return "content";
	case WR_CHANGE_META:
		return "metadata";
	case WR_CHANGE_TYPE:
		return "type";
	case WR_CHANGE_NONE:
		break;
	}
	return "none";
}

struct wr_at
wr_at_root(const struct wr_id *tree)
{
	struct wr_at at = WR_AT_INIT;

	at.is_dir = true;
	at.tree = *tree;
	return at;
}

/* Describe an entry; *m is its metadata, if the walk reads any. */
static int
describe(struct diff *d, const struct wr_dirent *e, struct wr_diff_side *out, struct wr_meta *m,
	 struct wr_buf *scratch, struct wr_err *err)
{
	*out = (struct wr_diff_side){.kind = WR_KIND_NONE};
	if (!e)
		return 0;
	if (wr_dirent_meta(e, m, scratch, err) < 0)
		return -1;
	out->kind = wr_dirent_kind(e);
	out->mode = m->mode;
	out->id = e->id;
	out->chunked = e->chunked;
	if (out->kind == WR_KIND_DIR || (d->flags & WR_DIFF_NAMES))
		return 0;
	return wr_dirent_size(d->rd, e, &out->size, err);
}

static bool
same_type(const struct wr_diff_side *a, const struct wr_diff_side *b)
{
	return a->kind == b->kind && (a->mode & S_IFMT) == (b->mode & S_IFMT);
}

static int
report(struct diff *d, enum wr_change change, const struct wr_diff_side *a,
       const struct wr_diff_side *b, struct wr_err *err)
{
	struct wr_diff_item it = {.change = change,
				  .path = wr_buf_str(&d->path),
				  .path_len = d->path.len,
				  .a = *a,
				  .b = *b};

	return d->fn(d->ctx, &it, err);
}

static bool
raw_equal(struct wr_bytes a, struct wr_bytes b)
{
	return a.len == b.len && !a.p == !b.p && (!a.len || memcmp(a.p, b.p, a.len) == 0);
}

/* Neither entry is a directory, or only one of them. */
static int
compare_entries(struct diff *d, const struct wr_dirent *ea, const struct wr_dirent *eb,
		struct wr_err *err)
{
	struct wr_diff_side a, b;
	struct wr_meta ma, mb;
	enum wr_change change = WR_CHANGE_NONE;

	if (ea && eb && wr_id_eq(&ea->id, &eb->id) && ea->git_mode == eb->git_mode &&
	    ea->chunked == eb->chunked && raw_equal(ea->raw, eb->raw))
		return 0;
	if (describe(d, ea, &a, &ma, &d->scratch_a, err) < 0 ||
	    describe(d, eb, &b, &mb, &d->scratch_b, err) < 0)
		return -1;
	if (!eb)
		change = WR_CHANGE_REMOVED;
	else if (!ea)
		change = WR_CHANGE_ADDED;
	else if (!same_type(&a, &b))
		change = WR_CHANGE_TYPE;
	else if (a.chunked != b.chunked || !wr_id_eq(&a.id, &b.id))
		change = WR_CHANGE_CONTENT;
	else if (!wr_meta_same(&ma, &mb))
		change = WR_CHANGE_META;
	return change ? report(d, change, &a, &b, err) : 0;
}

static int
cmp_entry(const struct wr_dirent *a, const struct wr_dirent *b)
{
	int c;

	if (!a || !b)
		return a ? -1 : 1;
	c = memcmp(a->name, b->name, WR_MIN(a->name_len, b->name_len));
	if (c)
		return c;
	return a->name_len < b->name_len ? -1 : a->name_len > b->name_len;
}

/* The next name of a level, on one side or on both. False at the end. */
static bool
next_pair(struct level *l, const struct wr_dirent **ea, const struct wr_dirent **eb)
{
	const struct wr_dirent *a = l->ia < l->a.count ? &l->a.ent[l->ia] : NULL;
	const struct wr_dirent *b = l->ib < l->b.count ? &l->b.ent[l->ib] : NULL;
	int c;

	if (!a && !b)
		return false;
	c = cmp_entry(a, b);
	*ea = c <= 0 ? a : NULL;
	*eb = c >= 0 ? b : NULL;
	l->ia += c <= 0;
	l->ib += c >= 0;
	return true;
}

/* Did anything directly in the directory come, go or change? */
static bool
entries_moved(const struct level *l)
{
	struct level walk = *l;
	const struct wr_dirent *a, *b;

	walk.ia = walk.ib = 0;
	while (next_pair(&walk, &a, &b)) {
		if (!a || !b || wr_dirent_kind(a) != wr_dirent_kind(b))
			return true;
		if (wr_dirent_kind(a) != WR_KIND_DIR && !wr_id_eq(&a->id, &b->id))
			return true;
	}
	return false;
}

static int
load(struct diff *d, const struct wr_id *tree, struct wr_dirview *out, struct wr_err *err)
{
	return d->flags & WR_DIFF_NAMES ? wr_dirview_load_names(d->rd, tree, out, err)
					: wr_dirview_load(d->rd, tree, out, err);
}

static int
describe_dir(const struct wr_dirview *v, struct wr_diff_side *out, struct wr_meta *m,
	     struct wr_buf *scratch, struct wr_err *err)
{
	if (wr_dirview_self_meta(v, m, scratch, err) < 0)
		return -1;
	*out = (struct wr_diff_side){.kind = WR_KIND_DIR, .mode = m->mode, .id = v->tree};
	return 0;
}

/* Enter a directory that is on one side (the other NULL) or differs; report it as needed. other:
 * the non-directory that stands in its place on the other side, NULL if there is none. */
static int
enter(struct diff *d, const struct wr_id *a, const struct wr_id *b, const struct wr_dirent *other,
      struct wr_err *err)
{
	struct wr_diff_side sa = {.kind = WR_KIND_NONE}, sb = {.kind = WR_KIND_NONE};
	enum wr_change change = WR_CHANGE_NONE;
	struct wr_meta ma, mb;
	struct level *l;

	if (d->depth == WR_TREE_DEPTH_MAX)
		return wr_err_set(err, WR_E_LIMIT, "more than %d directories deep",
				  WR_TREE_DEPTH_MAX);
	wr_grow(&d->level, &d->cap, d->depth + 1, sizeof(*d->level));
	l = &d->level[d->depth++];
	*l = (struct level){.path_len = d->path.len};
	if ((a && load(d, a, &l->a, err) < 0) || (b && load(d, b, &l->b, err) < 0))
		return -1;
	if (a ? describe_dir(&l->a, &sa, &ma, &d->scratch_a, err) < 0
	      : describe(d, other, &sa, &ma, &d->scratch_a, err) < 0)
		return -1;
	if (b ? describe_dir(&l->b, &sb, &mb, &d->scratch_b, err) < 0
	      : describe(d, other, &sb, &mb, &d->scratch_b, err) < 0)
		return -1;
	if (other) {
		change = WR_CHANGE_TYPE;
	} else if (!b) {
		change = WR_CHANGE_REMOVED;
	} else if (!a) {
		change = WR_CHANGE_ADDED;
	} else if (!(d->flags & WR_DIFF_NAMES)) {
		if (entries_moved(l))
			ma.mtime = mb.mtime;
		change = wr_meta_same(&ma, &mb) ? WR_CHANGE_NONE : WR_CHANGE_META;
	}
	return change ? report(d, change, &sa, &sb, err) : 0;
}

static int
compare_pair(struct diff *d, const struct wr_dirent *ea, const struct wr_dirent *eb,
	     struct wr_err *err)
{
	bool dir_a = ea && wr_dirent_kind(ea) == WR_KIND_DIR;
	bool dir_b = eb && wr_dirent_kind(eb) == WR_KIND_DIR;
	struct wr_id a, b;

	if (!dir_a && !dir_b)
		return compare_entries(d, ea, eb, err);
	if (dir_a && dir_b && wr_id_eq(&ea->id, &eb->id))
		return 0;
	if (dir_a)
		a = ea->id;
	if (dir_b)
		b = eb->id;
	return enter(d, dir_a ? &a : NULL, dir_b ? &b : NULL,
		     dir_a && dir_b ? NULL
		     : dir_a        ? eb
				    : ea,
		     err);
}

static void
leave(struct diff *d)
{
	struct level *l = &d->level[--d->depth];

	wr_dirview_fini(&l->a);
	wr_dirview_fini(&l->b);
}

static int
walk(struct diff *d, struct wr_err *err)
{
	while (d->depth) {
		struct level *l = &d->level[d->depth - 1];
		const struct wr_dirent *ea, *eb, *e;
		int r;

		if (!next_pair(l, &ea, &eb)) {
			leave(d);
			continue;
		}
		e = ea ? ea : eb;
		d->path.len = l->path_len;
		if (d->path.len)
			wr_buf_add8(&d->path, '/');
		wr_buf_add(&d->path, e->name, e->name_len);
		r = compare_pair(d, ea, eb, err);
		if (r < 0)
			return wr_err_wrap(err, "'%s'", wr_quote(d->path.p, d->path.len).s);
		if (r)
			return r;
	}
	return 0;
}

int
wr_diff(struct wr_reader *rd, const struct wr_at *a, const struct wr_at *b, unsigned flags,
	wr_diff_fn fn, void *ctx, struct wr_err *err)
{
	struct diff d = {.rd = rd, .flags = flags, .fn = fn, .ctx = ctx};
	bool dir_a = a && a->is_dir, dir_b = b && b->is_dir;
	const struct wr_dirent *ea = a && !dir_a ? a->ent : NULL;
	const struct wr_dirent *eb = b && !dir_b ? b->ent : NULL;
	int r;

	if (!a && !b)
		return 0;
	if (dir_a && dir_b && wr_id_eq(&a->tree, &b->tree))
		return 0;
	if (!dir_a && !dir_b)
		r = compare_entries(&d, ea, eb, err);
	else
		r = enter(&d, dir_a ? &a->tree : NULL, dir_b ? &b->tree : NULL, ea ? ea : eb, err);
	if (!r)
		r = walk(&d, err);
	while (d.depth)
		leave(&d);
	free(d.level);
	wr_buf_fini(&d.path);
	wr_buf_fini(&d.scratch_a);
	wr_buf_fini(&d.scratch_b);
	return r;
}

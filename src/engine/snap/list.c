/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/snap/list.h"

#include <sys/stat.h>

#define TARGET_MAX (64u << 10) /* LIMIT: bytes of a symlink's target */

struct level {
	struct wr_dirview view;
	size_t next;
	size_t path_len; /* of the directory's path */
};

struct lister {
	struct wr_reader *rd;
	unsigned flags;
	wr_list_fn fn;
	void *ctx;
	struct level *level;
	size_t depth, cap;
	struct wr_buf path, storage, scratch, target;
};

static int
target_piece(void *ctx, const void *p, size_t len, struct wr_err *err)
{
	struct wr_buf *out = ctx;

	if (len > TARGET_MAX - out->len)
		return wr_err_set(err, WR_E_LIMIT, "symlink target is longer than %u bytes",
				  TARGET_MAX);
	wr_buf_add(out, p, len);
	return 0;
}

static int
show(struct lister *l, const struct wr_dirent *e, struct wr_err *err)
{
	struct wr_list_item it = {.path = wr_buf_str(&l->path),
				  .path_len = l->path.len,
				  .kind = wr_dirent_kind(e),
				  .id = e->id,
				  .chunked = e->chunked};
	struct wr_meta m;

	if (!(l->flags & WR_LIST_META))
		return l->fn(l->ctx, &it, err);
	if (it.kind == WR_KIND_DIR) {
		if (wr_dir_meta(l->rd, &e->id, &m, &l->storage, &l->scratch, err) < 0)
			return -1;
	} else if (wr_dirent_meta(e, &m, &l->scratch, err) < 0 ||
		   wr_dirent_size(l->rd, e, &it.size, err) < 0) {
		return -1;
	}
	it.meta = &m;
	if (it.kind == WR_KIND_LINK) {
		wr_buf_clear(&l->target);
		wr_buf_reserve(&l->target, 1);
		if (wr_content_each(l->rd, &e->id, false, target_piece, &l->target, err) < 0)
			return -1;
		it.target = (struct wr_bytes){l->target.p, l->target.len};
	}
	return l->fn(l->ctx, &it, err);
}

static int
enter(struct lister *l, const struct wr_id *tree, struct wr_err *err)
{
	struct level *lev;

	if (l->depth == WR_TREE_DEPTH_MAX)
		return wr_err_set(err, WR_E_LIMIT, "more than %d directories deep",
				  WR_TREE_DEPTH_MAX);
	wr_grow(&l->level, &l->cap, l->depth + 1, sizeof(*l->level));
	lev = &l->level[l->depth];
	*lev = (struct level){.path_len = l->path.len};
	if (l->flags & WR_LIST_META ? wr_dirview_load(l->rd, tree, &lev->view, err) < 0
				    : wr_dirview_load_names(l->rd, tree, &lev->view, err) < 0)
		return -1;
	l->depth++;
	return 0;
}

static int
walk(struct lister *l, struct wr_err *err)
{
	while (l->depth) {
		struct level *lev = &l->level[l->depth - 1];
		const struct wr_dirent *e;
		int r;

		if (lev->next == lev->view.count) {
			wr_dirview_fini(&lev->view);
			l->depth--;
			continue;
		}
		e = &lev->view.ent[lev->next++];
		l->path.len = lev->path_len;
		if (l->path.len)
			wr_buf_add8(&l->path, '/');
		wr_buf_add(&l->path, e->name, e->name_len);
		r = show(l, e, err);
		if (!r && (l->flags & WR_LIST_RECURSIVE) && wr_dirent_kind(e) == WR_KIND_DIR) {
			struct wr_id tree = e->id;

			r = enter(l, &tree, err);
		}
		if (r < 0)
			return wr_err_wrap(err, "'%s'", wr_quote(l->path.p, l->path.len).s);
		if (r)
			return r;
	}
	return 0;
}

int
wr_list(struct wr_reader *rd, const struct wr_at *at, unsigned flags, wr_list_fn fn, void *ctx,
	struct wr_err *err)
{
	struct lister l = {.rd = rd, .flags = flags, .fn = fn, .ctx = ctx};
	int r;

	if (at->is_dir) {
		r = enter(&l, &at->tree, err);
		if (!r)
			r = walk(&l, err);
	} else {
		wr_buf_add(&l.path, at->ent->name, at->ent->name_len);
		r = show(&l, at->ent, err);
	}
	while (l.depth)
		wr_dirview_fini(&l.level[--l.depth].view);
	free(l.level);
	wr_buf_fini(&l.path);
	wr_buf_fini(&l.storage);
	wr_buf_fini(&l.scratch);
	wr_buf_fini(&l.target);
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/snap/reach.h"

#include "engine/object/name.h"
#include "engine/object/tree.h"
#include "engine/pack/pack.h"
#include "engine/snap/sums.h"

/* ---- packs ---- */

struct at {
	uint64_t off;
	uint32_t pos; /* in the index */
};

static int
by_offset(const void *a, const void *b)
{
	const struct at *x = a, *y = b;

	return x->off < y->off ? -1 : x->off > y->off;
}

int
wr_stored_each(struct wr_repo *r, size_t i, void (*fn)(void *ctx, const struct wr_stored *s),
	       void *ctx, struct wr_err *err)
{
	const struct wr_idx *x = wr_repo_pack_idx(r, i);
	const struct wr_pack *p = wr_repo_pack(r, i, err);
	WR_SCOPED(wr_freep) struct at *at = NULL;

	if (!p)
		return -1;
	if (!x)
		return 0;
	at = wr_calloc(x->count + 1u, sizeof(*at));
	for (uint32_t k = 0; k < x->count; k++)
		at[k] = (struct at){wr_idx_offset(x, k), k};
	qsort(at, x->count, sizeof(*at), by_offset);
	/* Behind the last one is the trailer. */
	at[x->count] = (struct at){p->size - WR_ID_LEN, 0};
	for (uint32_t k = 0; k < x->count; k++) {
		const uint64_t off = at[k].off, end = at[k + 1].off;
		const struct wr_stored s = {wr_idx_id(x, at[k].pos), off,
					    end > off ? end - off : 0};

		fn(ctx, &s);
	}
	return 0;
}

/* ---- trees ---- */

struct todo {
	struct wr_id id;
	struct wr_fold *fold;
	bool chunks; /* of a file */
};

struct list {
	struct todo *todo;
	size_t count, cap;
};

static void
add(struct list *l, const struct wr_id *id, struct wr_fold *fold, bool chunks)
{
	wr_grow(&l->todo, &l->cap, l->count + 1, sizeof(*l->todo));
	l->todo[l->count++] = (struct todo){*id, fold, chunks};
}

static void
meet(const struct wr_reach *h, struct list *l, const struct todo *at, const struct wr_tree_entry *e)
{
	const bool tree = e->mode == WR_MODE_TREE;
	struct wr_fold *f = at->fold;
	bool chunked = true;
	size_t len = 0;

	if (f && tree && !at->chunks)
		len = wr_name_unmangle(e->name, e->name_len, true, &chunked);
	chunked |= len == 0;
	if (f && !chunked)
		f = wr_sums_child(h->sums, f, (const char *)e->name, len);
	if (h->claim(h->ctx, &e->id, f) && tree)
		add(l, &e->id, f, at->chunks || chunked);
}

int
wr_reach_tree(const struct wr_reach *h, const struct wr_id *root, struct wr_err *err)
{
	struct wr_fold *top = h->sums ? wr_sums_root(h->sums) : NULL;
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct list l = {0};
	int rc = 0;

	if (h->claim(h->ctx, root, top))
		add(&l, root, top, false);
	while (rc == 0 && l.count) {
		const struct todo at = l.todo[--l.count];
		struct wr_tree_entry e;
		struct wr_rd rd;

		rc = wr_repo_read(h->reader, &at.id, WR_OBJ_TREE, false, NULL, &b, err);
		if (rc < 0)
			break;
		rd = wr_rd(b.p, b.len);
		while ((rc = wr_tree_next(&rd, &e, err)) > 0)
			meet(h, &l, &at, &e);
		if (rc < 0)
			wr_err_wrap(err, "tree %s", wr_id_hex(&at.id).s);
	}
	free(l.todo);
	return rc;
}

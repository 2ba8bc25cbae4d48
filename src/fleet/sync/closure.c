/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is new, and what is there: shared by the sender, who sends what the far side lacks, and the
 * receiver, who proves that nothing is missing.  Three walks, from cheap to dear:
 *
 *   histories    which commits are new
 *   pairs        the trees of new commits beside those of their parents; equal ids are not entered
 *   full         everything that the base reaches; only for what pairs leave open
 *
 * Each goes in slices of a bounded number of objects.
 */
#include "engine/chunk/hashtree.h"
#include "engine/object/name.h"
#include "engine/object/tree.h"
#include "fleet/sync/sync_int.h"

/* LIMIT: ids of the chunk tree beside another; what is beyond is left to the full walk. */
#define SET_MAX ((size_t)1 << 20)
/* LIMIT: trees within one another in a chunk tree. */
#define SET_DEPTH 16
/* A buffer that one large tree made this large is given back after it. */
#define BUF_KEEP ((size_t)4 << 20)

static void
buf_reset(struct wr_buf *b)
{
	if (b->cap > BUF_KEEP)
		wr_buf_fini(b);
	wr_buf_clear(b);
}

/* ---- reading ---- */

int
wr_src_read(const struct wr_src *s, const struct wr_id *id, enum wr_obj_type want,
	    enum wr_obj_type *out_type, struct wr_buf *out, struct wr_err *err)
{
	int64_t at = s->quar ? wr_quar_find_id(s->quar, id) : -1;
	enum wr_obj_type type;

	if (at < 0)
		return wr_repo_read(s->rd, id, want, true, out_type, out, err);
	if (wr_quar_read(s->quar, (uint32_t)at, &type, out, err) < 0)
		return -1;
	if (want != WR_OBJ_NONE && type != want)
		return wr_err_set(err, WR_E_CORRUPT, "object %s is a %s, not a %s", wr_id_hex(id).s,
				  wr_obj_type_name(type), wr_obj_type_name(want));
	if (out_type)
		*out_type = type;
	return 0;
}

int
wr_src_stat(const struct wr_src *s, const struct wr_id *id, enum wr_obj_type *out_type,
	    struct wr_err *err)
{
	int64_t at = s->quar ? wr_quar_find_id(s->quar, id) : -1;
	uint64_t size;

	if (at < 0)
		return wr_repo_stat_object(s->rd, id, out_type, &size, err);
	*out_type = s->quar->type[at];
	return 0;
}

int
wr_tag_parse(const struct wr_buf *b, struct wr_id *out, enum wr_obj_type *out_type,
	     struct wr_err *err)
{
	static const char object[] = "object ", type[] = "\ntype ";
	const size_t type_at = sizeof(object) - 1 + 2 * WR_ID_LEN, name_at = type_at + 6;
	const char *s = (const char *)b->p, *lf;

	if (b->len < name_at || memcmp(s, object, sizeof(object) - 1) != 0 ||
	    !wr_id_parse(s + sizeof(object) - 1, out) || memcmp(s + type_at, type, 6) != 0)
		return wr_err_set(err, WR_E_CORRUPT, "a tag that names no object");
	lf = memchr(s + name_at, '\n', b->len - name_at);
	*out_type = lf ? wr_obj_type_parse(s + name_at, (size_t)(lf - s) - name_at) : WR_OBJ_NONE;
	if (*out_type == WR_OBJ_NONE)
		return wr_err_set(err, WR_E_CORRUPT, "a tag that names no type");
	return 0;
}

/* Of a tree's entry; NONE: a commit of another repository, which is nothing of ours. */
static enum wr_obj_type
entry_type(const struct wr_tree_entry *e)
{
	if (e->mode == WR_MODE_TREE)
		return WR_OBJ_TREE;
	return e->mode == 0160000 ? WR_OBJ_NONE : WR_OBJ_BLOB;
}

/* ---- histories ---- */

void
wr_hist_init(struct wr_hist *h, const struct wr_src *src)
{
	*h = (struct wr_hist){.src = src};
}

void
wr_hist_fini(struct wr_hist *h)
{
	wr_idmap_fini(&h->known);
	free(h->c);
	free(h->parent);
	free(h->heap);
	wr_buf_fini(&h->buf);
	*h = (struct wr_hist){.src = h->src};
}

struct wr_hist_commit *
wr_hist_find(const struct wr_hist *h, const struct wr_id *id)
{
	const uint64_t *v = wr_idmap_find(&h->known, id);

	return v ? &h->c[*v - 1] : NULL;
}

/* Has it to tell its parents that they are the target's? */
static bool
tells_target(const struct wr_hist *h, const struct wr_hist_commit *c)
{
	return c->target && !c->told_target && !c->unread && (h->src->quar ? c->quar : !c->base);
}

/* Is the walk not over while this one waits? */
static bool
of_interest(const struct wr_hist *h, const struct wr_hist_commit *c)
{
	return tells_target(h, c) || (c->target && !c->base);
}

static void
heap_push(struct wr_hist *h, size_t n)
{
	size_t i = h->heap_count;

	wr_grow(&h->heap, &h->heap_cap, h->heap_count + 1, sizeof(*h->heap));
	h->heap_count++;
	while (i > 0 && h->c[h->heap[(i - 1) / 2]].time < h->c[n].time) {
		h->heap[i] = h->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	h->heap[i] = n;
	h->c[n].queued = true;
	h->open += of_interest(h, &h->c[n]);
}

static size_t
heap_pop(struct wr_hist *h)
{
	size_t top = h->heap[0], last = h->heap[--h->heap_count], i = 0;

	for (;;) {
		size_t k = 2 * i + 1;

		if (k >= h->heap_count)
			break;
		if (k + 1 < h->heap_count && h->c[h->heap[k + 1]].time > h->c[h->heap[k]].time)
			k++;
		if (h->c[h->heap[k]].time <= h->c[last].time)
			break;
		h->heap[i] = h->heap[k];
		i = k;
	}
	h->heap[i] = last;
	h->c[top].queued = false;
	h->open -= of_interest(h, &h->c[top]);
	return top;
}

/* Read a commit into the next place; 1 = it is there, 0 = it is not, or is none. */
static int
hist_read(struct wr_hist *h, const struct wr_id *id, struct wr_hist_commit *c, struct wr_err *err)
{
	struct wr_commit commit = WR_COMMIT_INIT;

	*c = (struct wr_hist_commit){.id = *id, .parent = h->parent_count};
	c->quar = h->src->quar && wr_quar_find_id(h->src->quar, id) >= 0;
	if (wr_src_read(h->src, id, WR_OBJ_COMMIT, NULL, &h->buf, err) < 0)
		return 0;
	if (wr_commit_parse(h->buf.p, h->buf.len, &commit, err) < 0) {
		wr_err_wrap(err, "commit %s", wr_id_hex(id).s);
		return 0;
	}
	c->tree = commit.tree;
	c->time = commit.committer_time;
	c->parents = (uint32_t)commit.parent_count;
	wr_grow(&h->parent, &h->parent_cap, h->parent_count + commit.parent_count,
		sizeof(*h->parent));
	for (size_t i = 0; i < commit.parent_count; i++)
		h->parent[h->parent_count++] = commit.parent[i];
	wr_commit_fini(&commit);
	return 1;
}

int
wr_hist_add(struct wr_hist *h, const struct wr_id *id, bool target, bool base, struct wr_err *err)
{
	struct wr_hist_commit *c = wr_hist_find(h, id);
	struct wr_err why = WR_ERR_INIT;
	bool fresh;

	if (!c) {
		struct wr_hist_commit read;

		if (!hist_read(h, id, &read, &why)) {
			if (target && (h->strict || read.quar)) {
				if (err)
					*err = why;
				return -1;
			}
			if (!target)
				return 0;
			/* Not here, or not to be read: an open question of the receiver's. */
			read.unread = true;
		}
		wr_grow(&h->c, &h->cap, h->count + 1, sizeof(*h->c));
		h->c[h->count] = read;
		*wr_idmap_put(&h->known, id, &fresh) = ++h->count;
		c = &h->c[h->count - 1];
	}
	if ((!target || c->target) && (!base || c->base))
		return 0;
	if (c->queued)
		h->open -= of_interest(h, c);
	c->target |= target;
	c->base |= base;
	if (c->queued)
		h->open += of_interest(h, c);
	else
		heap_push(h, (size_t)(c - h->c));
	return 0;
}

int
wr_hist_step(struct wr_hist *h, size_t budget, struct wr_err *err)
{
	while (h->open > 0 && budget-- > 0) {
		size_t n = heap_pop(h);
		bool target = tells_target(h, &h->c[n]);
		bool base = h->c[n].base && !h->c[n].told_base && !h->c[n].unread;

		h->c[n].told_target |= target;
		h->c[n].told_base |= base;
		/* Adding moves the array: by number, not by pointer. */
		for (uint32_t i = 0; (target || base) && i < h->c[n].parents; i++) {
			struct wr_id id = h->parent[h->c[n].parent + i];

			if (wr_hist_add(h, &id, target, base, err) < 0)
				return wr_err_wrap(err, "parent of commit %s",
						   wr_id_hex(&h->c[n].id).s);
		}
	}
	return h->open > 0;
}

static bool
hist_is_new(const struct wr_hist *h, const struct wr_hist_commit *c)
{
	return c->target && !c->unread && (h->src->quar ? c->quar : !c->base);
}

void
wr_hist_new(const struct wr_hist *h, size_t **out, size_t *out_count)
{
	size_t *order = wr_calloc(h->count, sizeof(*order)), count = 0;
	uint8_t *seen = wr_calloc(h->count, 1);
	struct {
		size_t n;
		uint32_t next;
	} *stack = NULL;
	size_t depth = 0, cap = 0;

	for (size_t i = 0; i < h->count; i++) {
		if (seen[i] || !hist_is_new(h, &h->c[i]))
			continue;
		wr_grow(&stack, &cap, depth + 1, sizeof(*stack));
		stack[depth].n = i;
		stack[depth++].next = 0;
		seen[i] = 1;
		while (depth > 0) {
			const struct wr_hist_commit *c = &h->c[stack[depth - 1].n], *p;

			if (stack[depth - 1].next == c->parents) {
				order[count++] = stack[--depth].n;
				continue;
			}
			p = wr_hist_find(h, &h->parent[c->parent + stack[depth - 1].next++]);
			if (!p || seen[p - h->c] || !hist_is_new(h, p))
				continue;
			seen[p - h->c] = 1;
			wr_grow(&stack, &cap, depth + 1, sizeof(*stack));
			stack[depth].n = (size_t)(p - h->c);
			stack[depth++].next = 0;
		}
	}
	free(stack);
	free(seen);
	*out = order;
	*out_count = count;
}

const struct wr_id *
wr_hist_beside(const struct wr_hist *h, const size_t *fresh, size_t fresh_at)
{
	const struct wr_hist_commit *best = NULL;

	if (fresh_at > 0)
		return &h->c[fresh[fresh_at - 1]].tree;
	for (size_t i = 0; i < h->count; i++)
		if (h->c[i].base && (!best || h->c[i].time > best->time))
			best = &h->c[i];
	return best ? &best->tree : NULL;
}

/* ---- trees beside trees ---- */

struct wr_pair_set {
	struct wr_idmap id; /* -> type */
	size_t users;
};

static void
set_unref(struct wr_pair_set *s)
{
	if (!s || --s->users > 0)
		return;
	wr_idmap_fini(&s->id);
	free(s);
}

void
wr_pairs_fini(struct wr_pairs *p)
{
	while (p->count > 0)
		set_unref(p->job[--p->count].set);
	free(p->job);
	p->job = NULL;
	p->cap = 0;
	wr_buf_fini(&p->a);
	wr_buf_fini(&p->b);
	wr_buf_fini(&p->c);
}

static void
push_job(struct wr_pairs *p, const struct wr_pair_job *j)
{
	wr_grow(&p->job, &p->cap, p->count + 1, sizeof(*p->job));
	p->job[p->count++] = *j;
	if (j->set)
		j->set->users++;
}

void
wr_pairs_push(struct wr_pairs *p, const struct wr_id *tree, const struct wr_id *with)
{
	struct wr_pair_job j = {.id = *tree, .has_with = with};

	if (with)
		j.with = *with;
	push_job(p, &j);
}

/* All ids in the tree; what cannot be read is left out: it proves nothing then. */
static void
set_fill(struct wr_pairs *p, struct wr_pair_set *s, const struct wr_id *tree, unsigned depth)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_tree_entry e;
	struct wr_rd r;
	uint64_t *v;
	bool fresh;

	if ((p->with_ok && !p->with_ok(p->ctx, tree)) ||
	    wr_src_read(p->src, tree, WR_OBJ_TREE, NULL, &b, NULL) < 0)
		return;
	r = wr_rd(b.p, b.len);
	while (s->id.count < SET_MAX && wr_tree_next(&r, &e, NULL) == 1) {
		v = wr_idmap_put(&s->id, &e.id, &fresh);
		if (!fresh)
			continue;
		*v = entry_type(&e);
		if (*v == WR_OBJ_TREE && depth < SET_DEPTH)
			set_fill(p, s, &e.id, depth + 1);
	}
}

/* A look at the tree beside: by name, going along, and by id. */
struct beside {
	struct wr_rd r;
	struct wr_tree_entry e;
	bool has;
	const struct wr_buf *b;
	struct wr_idmap id; /* made when first asked */
	bool listed;
};

static void
beside_next(struct beside *s)
{
	s->has = wr_tree_next(&s->r, &s->e, NULL) == 1;
}

static bool
beside_has(struct beside *s, const struct wr_id *id, enum wr_obj_type type)
{
	const uint64_t *v;

	if (!s->b)
		return false;
	if (!s->listed) {
		struct wr_rd r = wr_rd(s->b->p, s->b->len);
		struct wr_tree_entry e;
		bool fresh;

		while (wr_tree_next(&r, &e, NULL) == 1)
			*wr_idmap_put(&s->id, &e.id, &fresh) = entry_type(&e);
		s->listed = true;
	}
	v = wr_idmap_find(&s->id, id);
	return v && *v == type;
}

/* The entry beside this one, of the same name and kind. */
static const struct wr_tree_entry *
beside_named(struct beside *s, const struct wr_tree_entry *e)
{
	bool tree = e->mode == WR_MODE_TREE;
	int c = -1;

	while (s->has && (c = wr_tree_name_cmp(s->e.name, s->e.name_len, s->e.mode == WR_MODE_TREE,
					       e->name, e->name_len, tree)) < 0)
		beside_next(s);
	return s->has && c == 0 && entry_type(&s->e) == entry_type(e) ? &s->e : NULL;
}

static int
pair_entries(struct wr_pairs *p, const struct wr_pair_job *j, struct beside *s,
	     struct wr_pair_set *set, struct wr_err *err)
{
	struct wr_rd r = wr_rd(p->a.p, p->a.len);
	struct wr_tree_entry e;
	int rc;

	while ((rc = wr_tree_next(&r, &e, err)) == 1) {
		enum wr_obj_type type = entry_type(&e);
		const struct wr_tree_entry *with = beside_named(s, &e);
		struct wr_pair_job sub = {.id = e.id};
		const uint64_t *v = set ? wr_idmap_find(&set->id, &e.id) : NULL;
		bool known = (with && wr_id_eq(&with->id, &e.id)) || (v && *v == type);
		int in;

		if (type == WR_OBJ_NONE)
			continue;
		in = p->fn(p->ctx, &e.id, type, known || beside_has(s, &e.id, type), err);
		if (in < 0)
			return -1;
		if (in == 0 || type != WR_OBJ_TREE)
			continue;
		if (set) {
			sub.set = set;
		} else if (with) {
			sub.has_with = true;
			sub.with = with->id;
			(void)wr_name_unmangle(e.name, e.name_len, true, &sub.chunks);
		}
		push_job(p, &sub);
	}
	return rc < 0 ? wr_err_wrap(err, "tree %s", wr_id_hex(&j->id).s) : 0;
}

static int
pair_one(struct wr_pairs *p, const struct wr_pair_job *j, struct wr_err *err)
{
	struct wr_pair_set *set = j->set;
	struct beside s = {0};
	int rc;

	if (wr_src_read(p->src, &j->id, WR_OBJ_TREE, NULL, &p->a, err) < 0)
		return -1;
	if (j->has_with && j->chunks) {
		set = wr_calloc(1, sizeof(*set));
		set_fill(p, set, &j->with, 0);
	} else if (j->has_with && (!p->with_ok || p->with_ok(p->ctx, &j->with)) &&
		   wr_src_read(p->src, &j->with, WR_OBJ_TREE, NULL, &p->b, NULL) == 0) {
		s.b = &p->b;
		s.r = wr_rd(p->b.p, p->b.len);
		beside_next(&s);
	}
	if (set)
		set->users++;
	rc = pair_entries(p, j, &s, set, err);
	set_unref(set);
	wr_idmap_fini(&s.id);
	buf_reset(&p->a);
	buf_reset(&p->b);
	return rc;
}

int
wr_pairs_step(struct wr_pairs *p, size_t budget, struct wr_err *err)
{
	while (p->count > 0 && budget-- > 0) {
		struct wr_pair_job j = p->job[--p->count];
		int rc = pair_one(p, &j, err);

		set_unref(j.set);
		if (rc < 0)
			return -1;
	}
	return p->count > 0;
}

/* ---- marks ---- */

void
wr_id_marks_init(struct wr_id_marks *m, struct wr_repo *r)
{
	*m = (struct wr_id_marks){.repo = r, .bits = wr_repo_ordinal_end(r)};
	m->word = wr_calloc((size_t)(m->bits / 64 + 1), sizeof(*m->word));
}

void
wr_id_marks_fini(struct wr_id_marks *m)
{
	free(m->word);
	m->word = NULL;
	m->bits = 0;
	wr_idmap_fini(&m->other);
}

bool
wr_id_marks_has(const struct wr_id_marks *m, const struct wr_id *id)
{
	int64_t n = wr_repo_ordinal(m->repo, id);

	/* An object may be in two packs, and packs come: the map has what had no bit when it was
	 * marked. */
	if (n >= 0 && (uint64_t)n < m->bits && (m->word[n / 64] >> (n % 64) & 1))
		return true;
	return m->other.count > 0 && wr_idmap_find(&m->other, id);
}

bool
wr_id_marks_set(struct wr_id_marks *m, const struct wr_id *id)
{
	int64_t n = wr_repo_ordinal(m->repo, id);
	bool fresh;

	if (n >= 0 && (uint64_t)n < m->bits) {
		uint64_t bit = UINT64_C(1) << (n % 64);

		fresh = !(m->word[n / 64] & bit);
		m->word[n / 64] |= bit;
		return fresh;
	}
	wr_idmap_put(&m->other, id, &fresh);
	return fresh;
}

/* ---- full ---- */

void
wr_full_init(struct wr_full *f, const struct wr_src *src)
{
	*f = (struct wr_full){.src = src};
	wr_id_marks_init(&f->marks, src->repo);
}

void
wr_full_fini(struct wr_full *f)
{
	wr_id_marks_fini(&f->marks);
	free(f->item);
	wr_buf_fini(&f->buf);
	*f = (struct wr_full){0};
}

void
wr_full_push(struct wr_full *f, const struct wr_id *id, enum wr_obj_type type)
{
	if (f->over || !wr_id_marks_set(&f->marks, id))
		return;
	if (f->fn && f->fn(f->ctx, id, type) == 1)
		f->over = true;
	if (type == WR_OBJ_BLOB)
		return;
	wr_grow(&f->item, &f->cap, f->count + 1, sizeof(*f->item));
	f->item[f->count++] = (struct wr_full_item){*id, (uint8_t)type};
}

static int
full_tree(struct wr_full *f, struct wr_err *err)
{
	struct wr_rd r = wr_rd(f->buf.p, f->buf.len);
	struct wr_tree_entry e;
	int rc;

	while ((rc = wr_tree_next(&r, &e, err)) == 1)
		if (entry_type(&e) != WR_OBJ_NONE)
			wr_full_push(f, &e.id, entry_type(&e));
	return rc;
}

static int
full_commit(struct wr_full *f, struct wr_err *err)
{
	struct wr_commit c = WR_COMMIT_INIT;

	if (wr_commit_parse(f->buf.p, f->buf.len, &c, err) < 0)
		return -1;
	/* The tree last: it is looked at first, so that old ones come late. */
	for (size_t i = 0; i < c.parent_count; i++)
		wr_full_push(f, &c.parent[i], WR_OBJ_COMMIT);
	wr_full_push(f, &c.tree, WR_OBJ_TREE);
	wr_commit_fini(&c);
	return 0;
}

static int
full_one(struct wr_full *f, const struct wr_full_item *it, struct wr_err *err)
{
	enum wr_obj_type want = it->type, type, to_type;
	struct wr_id to;
	int rc = 0;

	if (wr_src_read(f->src, &it->id, want, &type, &f->buf, err) < 0)
		return -1;
	switch (type) {
	case WR_OBJ_COMMIT:
		rc = full_commit(f, err);
		break;
	case WR_OBJ_TREE:
		rc = full_tree(f, err);
		break;
	case WR_OBJ_TAG:
		rc = wr_tag_parse(&f->buf, &to, &to_type, err);
		if (rc == 0)
			wr_full_push(f, &to, to_type);
		break;
	default:
		break;
	}
	buf_reset(&f->buf);
	return rc < 0 ? wr_err_wrap(err, "%s %s", wr_obj_type_name(type), wr_id_hex(&it->id).s) : 0;
}

int
wr_full_step(struct wr_full *f, size_t budget, struct wr_err *err)
{
	while (f->count > 0 && !f->over && budget-- > 0) {
		struct wr_full_item it = f->item[--f->count];
		struct wr_err why = WR_ERR_INIT;

		if (full_one(f, &it, &why) < 0 && !f->lenient) {
			if (err)
				*err = why;
			return -1;
		}
	}
	return f->count > 0 && !f->over;
}

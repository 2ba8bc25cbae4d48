/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list of stacks: chunks enter stack 0, and what a stack holds moves up as one tree when a
 * boundary of a higher level has passed or FANOUT_MAX elements have gathered.
 *
 *	stack 2	  T
 *	stack 1	  T T T b	(a lone element moves up as it is, so blobs and trees mix)
 *	stack 0	  b b b b b	<- chunks
 *
 * Between calls no stack holds FANOUT_MAX elements or more.
 */
#include "engine/chunk/hashtree.h"

#include "engine/object/tree.h"

#define FANOUT_MAX 256u

struct element {
	uint64_t len; /* bytes of the file below it */
	uint32_t mode;
	struct wr_id id;
};

struct wr_hashtree_stack {
	size_t count;
	struct element el[FANOUT_MAX];
};

void
wr_hashtree_init(struct wr_hashtree *t, wr_put_tree_fn put, void *ctx)
{
	*t = (struct wr_hashtree){.put = put, .ctx = ctx};
}

void
wr_hashtree_fini(struct wr_hashtree *t)
{
	free(t->stack);
	wr_buf_fini(&t->payload);
	wr_hashtree_init(t, t->put, t->ctx);
}

static void
clear(struct wr_hashtree *t)
{
	t->stack_count = 0;
	t->total = 0;
}

/* Make stack i, whose predecessor exists, if it does not. */
static void
need_stack(struct wr_hashtree *t, size_t i)
{
	if (i < t->stack_count)
		return;
	if (i == t->stack_cap) {
		t->stack = wr_reallocarray(t->stack, i + 1, sizeof(*t->stack));
		t->stack_cap = i + 1;
	}
	t->stack[i].count = 0;
	t->stack_count = i + 1;
}

static void
push(struct wr_hashtree *t, size_t i, struct element e)
{
	struct wr_hashtree_stack *s = &t->stack[i];

	wr_assert(s->count < FANOUT_MAX);
	s->el[s->count++] = e;
}

/* Store a tree of these elements; names are their offsets in it, all of the same width. */
static int
put_tree(struct wr_hashtree *t, const struct element *el, size_t count, struct element *out,
	 struct wr_err *err)
{
	static const char digits[] = "0123456789abcdef";
	struct element tree = {.mode = WR_MODE_TREE};
	uint64_t off = 0;
	size_t width = 1;
	char name[16];

	for (size_t i = 0; i < count; i++)
		tree.len += el[i].len;
	while (width < sizeof(name) && tree.len >> 4 * width)
		width++;
	wr_buf_clear(&t->payload);
	for (size_t i = 0; i < count; i++) {
		for (size_t k = 0; k < width; k++)
			name[k] = digits[off >> 4 * (width - 1 - k) & 15];
		wr_tree_add(&t->payload, el[i].mode, name, width, &el[i].id);
		off += el[i].len;
	}
	if (t->put(t->ctx, t->payload.p, t->payload.len, &tree.id, err) < 0)
		return wr_err_wrap(err, "store a tree of chunks");
	*out = tree;
	return 0;
}

/* Close what ends with a boundary of this level, and every full stack. */
static int
squash(struct wr_hashtree *t, size_t level, struct wr_err *err)
{
	for (size_t i = 0; i < level || t->stack[i].count == FANOUT_MAX; i++) {
		struct element up;
		size_t count;

		need_stack(t, i + 1);
		count = t->stack[i].count;
		if (!count)
			continue;
		if (count == 1)
			up = t->stack[i].el[0];
		else if (put_tree(t, t->stack[i].el, count, &up, err) < 0)
			return -1;
		t->stack[i].count = 0;
		push(t, i + 1, up);
	}
	return 0;
}

static int
grow_total(struct wr_hashtree *t, uint32_t len, uint64_t count, struct wr_err *err)
{
	uint64_t bytes;

	if (__builtin_mul_overflow(count, (uint64_t)len, &bytes) ||
	    __builtin_add_overflow(t->total, bytes, &t->total)) {
		clear(t);
		return wr_err_set(err, WR_E_LIMIT, "file too large");
	}
	return 0;
}

int
wr_hashtree_add(struct wr_hashtree *t, const struct wr_id *blob, uint32_t len, unsigned level,
		struct wr_err *err)
{
	wr_assert(len > 0 && level <= WR_HASHTREE_LEVEL_MAX);
	if (grow_total(t, len, 1, err) < 0)
		return -1;
	need_stack(t, 0);
	push(t, 0, (struct element){len, WR_MODE_FILE, *blob});
	if (squash(t, level, err) < 0) {
		clear(t);
		return -1;
	}
	return 0;
}

/*
 * Push e on stack i count times, closing what becomes full.  As soon as the stack is empty each
 * further FANOUT_MAX of them make the same tree, so these go up as a run of their own.
 */
static int
push_run(struct wr_hashtree *t, size_t i, struct element e, uint64_t count, struct wr_err *err)
{
	need_stack(t, i);
	while (count && t->stack[i].count) {
		push(t, i, e);
		count--;
		if (t->stack[i].count == FANOUT_MAX) {
			struct element up;

			if (put_tree(t, t->stack[i].el, FANOUT_MAX, &up, err) < 0)
				return -1;
			t->stack[i].count = 0;
			if (push_run(t, i + 1, up, 1, err) < 0)
				return -1;
		}
	}
	if (count >= FANOUT_MAX) {
		struct element up;

		for (size_t k = 0; k < FANOUT_MAX; k++)
			t->stack[i].el[k] = e;
		if (put_tree(t, t->stack[i].el, FANOUT_MAX, &up, err) < 0 ||
		    push_run(t, i + 1, up, count / FANOUT_MAX, err) < 0)
			return -1;
	}
	for (count %= FANOUT_MAX; count; count--)
		push(t, i, e);
	return 0;
}

int
wr_hashtree_add_run(struct wr_hashtree *t, const struct wr_id *blob, uint32_t len, uint64_t count,
		    struct wr_err *err)
{
	wr_assert(len > 0);
	if (!count)
		return 0;
	if (grow_total(t, len, count, err) < 0)
		return -1;
	if (push_run(t, 0, (struct element){len, WR_MODE_FILE, *blob}, count, err) < 0) {
		clear(t);
		return -1;
	}
	return 0;
}

int
wr_hashtree_end(struct wr_hashtree *t, uint32_t *out_mode, struct wr_id *out, bool *out_empty,
		struct wr_err *err)
{
	struct element top = {.mode = WR_MODE_FILE};
	struct wr_hashtree_stack *s;
	bool empty = !t->stack_count;
	int r = 0;

	if (empty) {
		top.id = wr_obj_id(WR_OBJ_BLOB, "", 0);
	} else {
		r = squash(t, t->stack_count - 1, err);
		s = &t->stack[t->stack_count - 1];
		if (r == 0 && s->count == 1)
			top = s->el[0];
		else if (r == 0)
			r = put_tree(t, s->el, s->count, &top, err);
	}
	clear(t);
	if (r < 0)
		return -1;
	*out_mode = top.mode;
	*out = top.id;
	*out_empty = empty;
	return 0;
}

bool
wr_hashtree_offset(const void *name, size_t len, uint64_t *out)
{
	const uint8_t *p = name;
	uint64_t v = 0;

	if (len == 0 || len > 16)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (p[i] >= '0' && p[i] <= '9')
			v = v << 4 | (uint64_t)(p[i] - '0');
		else if (p[i] >= 'a' && p[i] <= 'f')
			v = v << 4 | (uint64_t)(p[i] - 'a' + 10);
		else
			return false;
	}
	*out = v;
	return true;
}

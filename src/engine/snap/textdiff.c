/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 1. Both texts are cut into lines; what is equal at their beginnings and ends is set aside.
 * 2. Equal lines of the rest get equal numbers, by sorting (a hash table could be attacked).
 * 3. A line whose number the other text does not have is a change for sure; the others form the two
 *    sequences that Myers' algorithm compares: searches run from both corners of a box until they
 *    meet on a cheapest path, then both halves are solved.  A search that goes on for too long cuts
 *    the box at the farthest point it has reached.
 * 4. Changed lines are flagged; hunks are read off the flags.
 */
#include "engine/snap/textdiff.h"

#include "base/buf.h"

#define LINES_MAX (1u << 20) /* LIMIT: lines of one text between common ends */
#define COST_MAX 512         /* LIMIT: edits that one search looks for */
#define BUDGET (1u << 27)    /* LIMIT: steps of all searches together */
#define UNREACHED (INT64_MIN / 2)

struct text {
	const uint8_t *p;
	size_t len;
	size_t *start; /* of each line; count + 1 of them */
	size_t count;
	size_t from, to; /* the lines between the common ends */
	uint8_t *changed;
	uint32_t *number; /* of the lines from .. to */
	uint32_t *kept;   /* lines (relative to from) that both texts have, */
	uint32_t *seq;    /* and their numbers: a sequence of seq_count */
	size_t seq_count;
};

struct line_key {
	uint64_t hash;
	const uint8_t *p;
	size_t len;
	uint32_t line;
	bool of_b;
};

struct search {
	const struct text *a, *b;
	int64_t fwd[2 * COST_MAX + 3], bwd[2 * COST_MAX + 3]; /* farthest x per diagonal */
	uint64_t budget;
	bool coarse;
};

bool
wr_text_is_binary(const void *p, size_t len)
{
	return memchr(p, '\0', WR_MIN(len, (size_t)8000)) != NULL;
}

static void
text_init(struct text *t, const void *p, size_t len)
{
	size_t cap = 0;

	*t = (struct text){.p = p, .len = len};
	for (size_t at = 0; at < len;) {
		const uint8_t *nl = memchr(t->p + at, '\n', len - at);

		wr_grow(&t->start, &cap, t->count + 2, sizeof(*t->start));
		t->start[t->count++] = at;
		at = nl ? (size_t)(nl - t->p) + 1 : len;
	}
	wr_grow(&t->start, &cap, t->count + 1, sizeof(*t->start));
	t->start[t->count] = len;
	t->changed = wr_calloc(t->count + 1, 1);
	t->to = t->count;
}

static void
text_fini(struct text *t)
{
	free(t->start);
	free(t->changed);
	free(t->number);
	free(t->kept);
	free(t->seq);
}

static size_t
line_len(const struct text *t, size_t i)
{
	return t->start[i + 1] - t->start[i];
}

static bool
same_line(const struct text *a, size_t i, const struct text *b, size_t j)
{
	size_t n = line_len(a, i);

	return n == line_len(b, j) && memcmp(a->p + a->start[i], b->p + b->start[j], n) == 0;
}

static uint64_t
line_hash(const uint8_t *p, size_t len)
{
	uint64_t h = len;

	for (; len >= 8; p += 8, len -= 8) {
		uint64_t w;

		memcpy(&w, p, 8);
		h = (h ^ w) * UINT64_C(0x9e3779b97f4a7c15);
		h ^= h >> 29;
	}
	while (len--)
		h = (h ^ *p++) * UINT64_C(0x9e3779b97f4a7c15);
	return h ^ h >> 32;
}

static int
cmp_key(const void *pa, const void *pb)
{
	const struct line_key *a = pa, *b = pb;

	if (a->hash != b->hash)
		return a->hash < b->hash ? -1 : 1;
	if (a->len != b->len)
		return a->len < b->len ? -1 : 1;
	return memcmp(a->p, b->p, a->len);
}

static void
add_keys(struct line_key *key, const struct text *t, bool of_b)
{
	for (size_t i = t->from; i < t->to; i++) {
		const uint8_t *p = t->p + t->start[i];
		size_t n = line_len(t, i);

		*key++ = (struct line_key){.hash = line_hash(p, n),
					   .p = p,
					   .len = n,
					   .line = (uint32_t)(i - t->from),
					   .of_b = of_b};
	}
}

/* The lines whose number is not 0 become the sequence, the others are changes. */
static void
build_seq(struct text *t)
{
	size_t n = t->to - t->from;

	t->kept = wr_reallocarray(NULL, n + 1, sizeof(*t->kept));
	t->seq = wr_reallocarray(NULL, n + 1, sizeof(*t->seq));
	for (size_t i = 0; i < n; i++) {
		if (t->number[i]) {
			t->kept[t->seq_count] = (uint32_t)i;
			t->seq[t->seq_count++] = t->number[i];
		} else {
			t->changed[t->from + i] = 1;
		}
	}
}

/* Number the lines: equal lines equally, 0 for those that only one text has. */
static void
number_lines(struct text *a, struct text *b)
{
	size_t na = a->to - a->from, nb = b->to - b->from;
	struct line_key *key = wr_reallocarray(NULL, na + nb + 1, sizeof(*key));
	uint32_t number = 0;

	add_keys(key, a, false);
	add_keys(key + na, b, true);
	qsort(key, na + nb, sizeof(*key), cmp_key);
	a->number = wr_calloc(na + 1, sizeof(*a->number));
	b->number = wr_calloc(nb + 1, sizeof(*b->number));
	for (size_t i = 0, end; i < na + nb; i = end) {
		bool in_a = false, in_b = false;

		for (end = i; end < na + nb && cmp_key(&key[i], &key[end]) == 0; end++) {
			in_a |= !key[end].of_b;
			in_b |= key[end].of_b;
		}
		if (!in_a || !in_b)
			continue;
		number++;
		for (size_t k = i; k < end; k++)
			(key[k].of_b ? b : a)->number[key[k].line] = number;
	}
	free(key);
	build_seq(a);
	build_seq(b);
}

static void
mark(const struct text *t, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		t->changed[t->from + t->kept[i]] = 1;
}

/* The farthest x on diagonal k (x - y) with one edit more than its neighbours in v have. */
static int64_t
advance(const int64_t *v, int64_t k, int64_t n, int64_t m)
{
	int64_t right = v[k - 1], down = v[k + 1], x = UNREACHED;

	if (right != UNREACHED && right < n)
		x = right + 1;
	if (down != UNREACHED && down - k <= m && down > x)
		x = down;
	return x;
}

/*
 * A point on a cheapest path through the box, roughly in its middle; on a search too dear, the
 * farthest point reached.  False if nothing of use was found before the budget ended.
 */
static bool
split_box(struct search *s, size_t a0, size_t a1, size_t b0, size_t b1, size_t *out_a,
	  size_t *out_b)
{
	const uint32_t *a = s->a->seq + a0, *b = s->b->seq + b0;
	int64_t n = (int64_t)(a1 - a0), m = (int64_t)(b1 - b0), delta = n - m;
	int64_t *fwd = s->fwd + COST_MAX + 1, *bwd = s->bwd + COST_MAX + 1;
	int64_t best = 0, best_x = 0;
	uint64_t steps = 0;

	for (int64_t d = 0; d <= COST_MAX && steps < s->budget; d++) {
		fwd[-d - 1] = fwd[d + 1] = bwd[-d - 1] = bwd[d + 1] = UNREACHED;
		for (int64_t k = -d; k <= d; k += 2) {
			int64_t x = d ? advance(fwd, k, n, m) : 0, y = x - k;

			fwd[k] = x;
			steps++;
			if (x == UNREACHED)
				continue;
			while (x < n && y < m && a[x] == b[y])
				x++, y++, steps++;
			fwd[k] = x;
			if ((delta & 1) && delta - k > -d && delta - k < d &&
			    bwd[delta - k] != UNREACHED && x + bwd[delta - k] >= n) {
				*out_a = a0 + (size_t)x;
				*out_b = b0 + (size_t)y;
				goto found;
			}
		}
		for (int64_t k = -d; k <= d; k += 2) {
			int64_t x = d ? advance(bwd, k, n, m) : 0, y = x - k;

			bwd[k] = x;
			steps++;
			if (x == UNREACHED)
				continue;
			while (x < n && y < m && a[n - 1 - x] == b[m - 1 - y])
				x++, y++, steps++;
			bwd[k] = x;
			if (!(delta & 1) && delta - k >= -d && delta - k <= d &&
			    fwd[delta - k] != UNREACHED && x + fwd[delta - k] >= n) {
				*out_a = a0 + (size_t)(n - x);
				*out_b = b0 + (size_t)(m - y);
				goto found;
			}
		}
	}
	s->budget -= WR_MIN(steps, s->budget);
	if (s->budget == 0)
		return false;
	for (int64_t k = -COST_MAX; k <= COST_MAX; k += 2) {
		if (fwd[k] != UNREACHED && 2 * fwd[k] - k > best) {
			best = 2 * fwd[k] - k; /* x + y */
			best_x = fwd[k];
		}
	}
	*out_a = a0 + (size_t)best_x;
	*out_b = b0 + (size_t)(best - best_x);
	return best > 0 && best < n + m;
found:
	s->budget -= WR_MIN(steps, s->budget);
	return true;
}

/* Flag the changes of a box.  The first part of a box costs half as much as the box, or at most
 * COST_MAX, so recursion stays shallow; the second part is the loop's next turn. */
static void
solve(struct search *s, size_t a0, size_t a1, size_t b0, size_t b1)
{
	for (;;) {
		size_t x, y;

		while (a0 < a1 && b0 < b1 && s->a->seq[a0] == s->b->seq[b0])
			a0++, b0++;
		while (a0 < a1 && b0 < b1 && s->a->seq[a1 - 1] == s->b->seq[b1 - 1])
			a1--, b1--;
		if (a0 == a1 || b0 == b1)
			break;
		if (!split_box(s, a0, a1, b0, b1, &x, &y)) {
			s->coarse = true;
			break;
		}
		solve(s, a0, x, b0, y);
		a0 = x;
		b0 = y;
	}
	mark(s->a, a0, a1);
	mark(s->b, b0, b1);
}

static bool
compare(struct text *a, struct text *b)
{
	struct search *s;
	bool coarse;

	while (a->from < a->to && b->from < b->to && same_line(a, a->from, b, b->from))
		a->from++, b->from++;
	while (a->from < a->to && b->from < b->to && same_line(a, a->to - 1, b, b->to - 1))
		a->to--, b->to--;
	if (a->to - a->from > LINES_MAX || b->to - b->from > LINES_MAX) {
		memset(a->changed + a->from, 1, a->to - a->from);
		memset(b->changed + b->from, 1, b->to - b->from);
		return true;
	}
	number_lines(a, b);
	s = wr_malloc(sizeof(*s));
	s->a = a;
	s->b = b;
	s->budget = BUDGET;
	s->coarse = false;
	solve(s, 0, a->seq_count, 0, b->seq_count);
	coarse = s->coarse;
	free(s);
	return coarse;
}

struct printer {
	const struct text *a, *b;
	wr_diffline_fn fn;
	void *ctx;
	struct wr_textdiff_stats stats;
};

static int
print_line(struct printer *p, char sign, const struct text *t, size_t i, struct wr_err *err)
{
	static const char remark[] = " No newline at end of file";
	size_t n = line_len(t, i);
	bool whole = t->p[t->start[i] + n - 1] == '\n';
	int r = p->fn(p->ctx, sign, (const char *)t->p + t->start[i], n - whole, err);

	return r || whole ? r : p->fn(p->ctx, '\\', remark, strlen(remark), err);
}

static void
add_range(struct wr_buf *out, char sign, size_t from, size_t to)
{
	/* Lines count from 1; an empty range names the line before it. */
	wr_buf_addf(out, "%c%zu", sign, from + (to > from));
	if (to - from != 1)
		wr_buf_addf(out, ",%zu", to - from);
}

/* Lines i0 .. i1 of a and j0 .. j1 of b. */
static int
print_hunk(struct printer *p, size_t i0, size_t i1, size_t j0, size_t j1, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf head = WR_BUF_INIT;
	int r;

	wr_buf_adds(&head, "@@ ");
	add_range(&head, '-', i0, i1);
	wr_buf_adds(&head, " ");
	add_range(&head, '+', j0, j1);
	wr_buf_adds(&head, " @@");
	r = p->fn(p->ctx, '@', (const char *)head.p, head.len, err);
	while (!r && (i0 < i1 || j0 < j1)) {
		if (i0 < i1 && p->a->changed[i0]) {
			p->stats.removed++;
			r = print_line(p, '-', p->a, i0++, err);
		} else if (j0 < j1 && p->b->changed[j0]) {
			p->stats.added++;
			r = print_line(p, '+', p->b, j0++, err);
		} else {
			r = print_line(p, ' ', p->a, i0, err);
			i0++, j0++;
		}
	}
	return r;
}

static int
print_hunks(struct printer *p, struct wr_err *err)
{
	const struct text *a = p->a, *b = p->b;
	size_t i = 0, j = 0;

	for (;;) {
		size_t lead = 0, i0, j0, quiet = 0;
		int r;

		while (i < a->count && j < b->count && !a->changed[i] && !b->changed[j])
			i++, j++, lead++;
		if (i == a->count && j == b->count)
			return 0;
		lead = WR_MIN(lead, (size_t)WR_TEXTDIFF_CONTEXT);
		i0 = i - lead;
		j0 = j - lead;
		/* Go on as long as no gap is wide enough to stand between two hunks. */
		while ((i < a->count || j < b->count) && quiet <= 2 * WR_TEXTDIFF_CONTEXT) {
			if (i < a->count && a->changed[i])
				i++, quiet = 0;
			else if (j < b->count && b->changed[j])
				j++, quiet = 0;
			else
				i++, j++, quiet++;
		}
		if (quiet > WR_TEXTDIFF_CONTEXT) {
			i -= quiet - WR_TEXTDIFF_CONTEXT;
			j -= quiet - WR_TEXTDIFF_CONTEXT;
		}
		r = print_hunk(p, i0, i, j0, j, err);
		if (r)
			return r;
	}
}

int
wr_textdiff(const void *a, size_t a_len, const void *b, size_t b_len, wr_diffline_fn fn, void *ctx,
	    struct wr_textdiff_stats *out, struct wr_err *err)
{
	struct text ta, tb;
	struct printer p = {.a = &ta, .b = &tb, .fn = fn, .ctx = ctx};
	int r;

	if (a_len > WR_TEXTDIFF_MAX || b_len > WR_TEXTDIFF_MAX)
		return wr_err_set(err, WR_E_LIMIT, "texts above %u bytes are not compared",
				  WR_TEXTDIFF_MAX);
	text_init(&ta, a, a_len);
	text_init(&tb, b, b_len);
	p.stats.coarse = compare(&ta, &tb);
	r = print_hunks(&p, err);
	text_fini(&ta);
	text_fini(&tb);
	if (r == 0 && out)
		*out = p.stats;
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Text differences: applying one to a must give b, the smallest is found, time is bounded. */
#include "engine/snap/textdiff.h"

#include <setjmp.h>

#include <cmocka.h>

#include "base/buf.h"
#include "sys/clock.h"

static int
collect(void *ctx, char sign, const char *text, size_t len, struct wr_err *err)
{
	struct wr_buf *out = ctx;

	(void)err;
	if (sign != '@')
		wr_buf_add8(out, (uint8_t)sign);
	wr_buf_add(out, text, len);
	wr_buf_add8(out, '\n');
	return 0;
}

static void
expect(const char *a, const char *b, const char *want)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;

	assert_int_equal(wr_textdiff(a, strlen(a), b, strlen(b), collect, &out, NULL, NULL), 0);
	assert_string_equal(wr_buf_str(&out), want);
}

static void
test_textdiff__as_diff_u(void **state)
{
	(void)state;
	expect("", "", "");
	expect("a\n", "a\n", "");
	expect("", "a\n", "@@ -0,0 +1 @@\n+a\n");
	expect("a\n", "", "@@ -1 +0,0 @@\n-a\n");
	expect("a\nb\nc\n", "a\nx\nc\n", "@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n");
	expect("a\nb", "a\nb\n", "@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n");
	expect("x\nb", "y\nb", "@@ -1,2 +1,2 @@\n-x\n+y\n b\n\\ No newline at end of file\n");
	expect("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\n5\n6\n7\n8\nN\n",
	       "@@ -6,4 +6,4 @@\n 6\n 7\n 8\n-9\n+N\n");
	/* six equal lines between two changes join them, seven part them */
	expect("a\n1\n2\n3\n4\n5\n6\nb\n", "A\n1\n2\n3\n4\n5\n6\nB\n",
	       "@@ -1,8 +1,8 @@\n-a\n+A\n 1\n 2\n 3\n 4\n 5\n 6\n-b\n+B\n");
	expect("a\n1\n2\n3\n4\n5\n6\n7\nb\n", "A\n1\n2\n3\n4\n5\n6\n7\nB\n",
	       "@@ -1,4 +1,4 @@\n-a\n+A\n 1\n 2\n 3\n@@ -6,4 +6,4 @@\n 5\n 6\n 7\n-b\n+B\n");
}

/* Reads a difference as patch(1) would. */
struct applier {
	const char *a;
	size_t a_len, a_at, a_line;
	struct wr_buf b;
	size_t want_a, want_b; /* lines of the hunk still to come */
	bool cut;              /* the last line went into b and has a line feed to lose */
};

static void
take(struct applier *p, const char *text, size_t len, bool keep)
{
	size_t n;
	const char *nl = memchr(p->a + p->a_at, '\n', p->a_len - p->a_at);

	n = nl ? (size_t)(nl - p->a) - p->a_at : p->a_len - p->a_at;
	if (text) {
		assert_int_equal(n, len);
		assert_memory_equal(p->a + p->a_at, text, n);
	}
	n += nl != NULL;
	if (keep)
		wr_buf_add(&p->b, p->a + p->a_at, n);
	p->a_at += n;
	p->a_line++;
}

static int
apply(void *ctx, char sign, const char *text, size_t len, struct wr_err *err)
{
	struct applier *p = ctx;
	unsigned long from, count = 1;
	char head[100], *s, *end;

	(void)err;
	switch (sign) {
	case '@':
		assert_int_equal(p->want_a + p->want_b, 0);
		assert_true(len < sizeof(head));
		memcpy(head, text, len);
		head[len] = '\0';
		assert_memory_equal(head, "@@ -", 4);
		from = strtoul(head + 4, &end, 10);
		if (*end == ',')
			count = strtoul(end + 1, &end, 10);
		p->want_a = count;
		if (count)
			from--;
		while (p->a_line < from)
			take(p, NULL, 0, true);
		s = strchr(end, '+');
		assert_non_null(s);
		strtoul(s + 1, &end, 10);
		p->want_b = *end == ',' ? strtoul(end + 1, NULL, 10) : 1;
		break;
	case ' ':
		p->want_a--, p->want_b--;
		take(p, text, len, true);
		break;
	case '-':
		p->want_a--;
		take(p, text, len, false);
		break;
	case '+':
		p->want_b--;
		wr_buf_add(&p->b, text, len);
		wr_buf_add8(&p->b, '\n');
		break;
	default:
		assert_int_equal(sign, '\\');
	}
	p->cut = sign == '+';
	return 0;
}

static int
apply_cut(void *ctx, char sign, const char *text, size_t len, struct wr_err *err)
{
	struct applier *p = ctx;

	if (sign == '\\' && p->cut)
		p->b.len--;
	return apply(ctx, sign, text, len, err);
}

static struct wr_textdiff_stats
check(const struct wr_buf *a, const struct wr_buf *b)
{
	struct applier p = {.a = (const char *)a->p, .a_len = a->len};
	struct wr_textdiff_stats st;

	assert_int_equal(wr_textdiff(a->p, a->len, b->p, b->len, apply_cut, &p, &st, NULL), 0);
	assert_int_equal(p.want_a + p.want_b, 0);
	if (p.a_at < p.a_len)
		wr_buf_add(&p.b, p.a + p.a_at, p.a_len - p.a_at);
	assert_int_equal(p.b.len, b->len);
	if (b->len)
		assert_memory_equal(p.b.p, b->p, b->len);
	wr_buf_fini(&p.b);
	return st;
}

static uint32_t seed;

static uint32_t
rnd(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % below;
}

/* Lines of one letter; the last perhaps without its line feed. */
static void
random_text(struct wr_buf *t, uint32_t lines, uint32_t letters)
{
	wr_buf_clear(t);
	for (uint32_t i = 0; i < lines; i++) {
		wr_buf_add8(t, (uint8_t)('a' + rnd(letters)));
		wr_buf_add8(t, '\n');
	}
	if (lines && rnd(4) == 0)
		t->len--;
}

/* Length of a longest common subsequence of lines, by the table. */
static size_t
lcs(const struct wr_buf *a, const struct wr_buf *b)
{
	static uint16_t best[64][64];
	size_t na = (a->len + 1) / 2, nb = (b->len + 1) / 2;

	for (size_t i = 0; i <= na; i++) {
		for (size_t j = 0; j <= nb; j++) {
			bool last_a = i && 2 * i > a->len, last_b = j && 2 * j > b->len;

			if (!i || !j)
				best[i][j] = 0;
			else if (a->p[2 * i - 2] == b->p[2 * j - 2] && last_a == last_b)
				best[i][j] = (uint16_t)(best[i - 1][j - 1] + 1);
			else
				best[i][j] = WR_MAX(best[i - 1][j], best[i][j - 1]);
		}
	}
	return best[na][nb];
}

static void
test_textdiff__right_and_smallest(void **state)
{
	struct wr_buf a = WR_BUF_INIT, b = WR_BUF_INIT;

	(void)state;
	wr_buf_reserve(&a, 1);
	wr_buf_reserve(&b, 1);
	for (uint32_t round = 0; round < 20000; round++) {
		struct wr_textdiff_stats st;
		size_t common;

		seed = round;
		random_text(&a, rnd(60), 1 + rnd(6));
		random_text(&b, rnd(60), 1 + rnd(6));
		st = check(&a, &b);
		common = lcs(&a, &b);
		assert_int_equal(st.removed, (a.len + 1) / 2 - common);
		assert_int_equal(st.added, (b.len + 1) / 2 - common);
		assert_false(st.coarse);
	}
	wr_buf_fini(&a);
	wr_buf_fini(&b);
}

static void
test_textdiff__large_edits(void **state)
{
	struct wr_buf a = WR_BUF_INIT, b = WR_BUF_INIT;

	(void)state;
	for (uint32_t i = 0; i < 30000; i++) {
		seed = i;
		wr_buf_addf(&a, "line %u\n", i / 3);
		switch (rnd(10)) {
		case 0:
			break;
		case 1:
			wr_buf_addf(&b, "new %u\n", i);
			/* fall through */
		default:
			wr_buf_addf(&b, "line %u\n", i / 3);
		}
	}
	assert_false(check(&a, &b).coarse);
	wr_buf_fini(&a);
	wr_buf_fini(&b);
}

static void
test_textdiff__hostile_time(void **state)
{
	struct wr_buf a = WR_BUF_INIT, b = WR_BUF_INIT;
	uint64_t from = wr_clock_mono_ns();

	(void)state;
	seed = 7;
	random_text(&a, 900000, 26); /* nothing but common lines in random order */
	random_text(&b, 900000, 26);
	assert_true(check(&a, &b).coarse);
	for (uint32_t i = 0; i < 3000000; i++) {
		wr_buf_adds(&a, "\n");
		wr_buf_adds(&b, i % 2 ? "x\n" : "\n");
	}
	assert_true(check(&a, &b).coarse); /* too many lines */
	assert_true(wr_clock_mono_ns() - from < UINT64_C(20000000000));
	wr_buf_fini(&a);
	wr_buf_fini(&b);
}

static void
test_textdiff__limits(void **state)
{
	struct wr_err err = WR_ERR_INIT;
	char *big = wr_calloc(WR_TEXTDIFF_MAX + 1, 1);

	(void)state;
	assert_true(wr_text_is_binary("ab\0c", 4));
	assert_false(wr_text_is_binary("abc\xff", 4));
	assert_false(wr_text_is_binary("", 0));
	memset(big, 'a', 9000);
	assert_false(wr_text_is_binary(big, 9001));
	assert_int_equal(wr_textdiff(big, WR_TEXTDIFF_MAX + 1, "", 0, collect, NULL, NULL, &err),
			 -1);
	assert_int_equal(err.code, WR_E_LIMIT);
	free(big);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_textdiff__as_diff_u),
	    cmocka_unit_test(test_textdiff__right_and_smallest),
	    cmocka_unit_test(test_textdiff__large_edits),
	    cmocka_unit_test(test_textdiff__hostile_time),
	    cmocka_unit_test(test_textdiff__limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

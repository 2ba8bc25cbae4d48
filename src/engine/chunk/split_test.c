/* SPDX-License-Identifier: Apache-2.0 */
/* Cuts compared with known ones and with a splitter that goes byte by byte, as the text says. */
#include "engine/chunk/split.h"

#include <setjmp.h>
#include <cmocka.h>

#include "engine/chunk/rollsum.h"
#include "engine/chunk/testdata.h"

struct cuts {
	struct wr_cut *v;
	size_t count, cap;
};

static void
cuts_add(struct cuts *c, size_t len, unsigned level)
{
	wr_grow(&c->v, &c->cap, c->count + 1, sizeof(*c->v));
	c->v[c->count++] = (struct wr_cut){(uint32_t)len, level};
}

static void
cuts_fini(struct cuts *c)
{
	free(c->v);
	*c = (struct cuts){0};
}

/* The first boundary of a chunk at p: its length, 0 if there is none in len bytes. */
static size_t
naive_first(const uint8_t *p, size_t len, unsigned bits, unsigned *level)
{
	uint8_t window[64] = {0};
	uint32_t s1 = 64 * 31, s2 = 64 * 63 * 31, mask = (1u << bits) - 1;

	for (size_t i = 0; i < len; i++) {
		uint32_t d = window[i % 64];

		window[i % 64] = p[i];
		s1 += p[i] - d;
		s2 += s1 - 64 * (d + 31);
		if ((s2 & mask) == mask) {
			uint32_t sum = (s1 << 16 | (s2 & 0xffff)) >> (bits + 1), ones = 0;

			for (; sum & 1; sum >>= 1)
				ones++;
			*level = ones / 4;
			return i + 1;
		}
	}
	return 0;
}

static void
naive_simple(const uint8_t *p, size_t len, unsigned bits, struct cuts *out)
{
	const size_t max = (size_t)4 << bits;

	for (size_t at = 0; at < len;) {
		unsigned level = 0;
		size_t in_reach = WR_MIN(len - at, max);
		size_t n = naive_first(p + at, in_reach, bits, &level);

		cuts_add(out, n ? n : in_reach, level);
		at += n ? n : in_reach;
	}
}

/* Steps 1 to 3 of 0.33's rule with blocks of this size. */
static void
naive_block(const uint8_t *p, size_t len, unsigned bits, size_t block, struct cuts *out)
{
	const size_t max = (size_t)4 << bits;
	size_t at = 0;

	for (size_t end = WR_MIN(block, len);; end = WR_MIN(end + block, len)) {
		unsigned level = 0;
		size_t n;

		while ((n = naive_first(p + at, end - at, bits, &level)) > 0) {
			cuts_add(out, n <= max ? n : max, n <= max ? level : 0);
			at += n <= max ? n : max;
		}
		for (; end - at >= max; at += max)
			cuts_add(out, max, 0);
		if (end == len)
			break;
	}
	if (at < len)
		cuts_add(out, len - at, 0);
}

/* Feed p in blocks; late_eof: the end of the stream shows only behind its last block. */
static void
split(const uint8_t *p, size_t len, unsigned bits, bool block_rule, size_t block, bool late_eof,
      struct cuts *out)
{
	struct wr_splitter s;
	size_t at = 0, end = 0;
	bool eof = false;

	wr_splitter_init(&s, bits);
	s.block_rule = block_rule;
	while (!eof) {
		size_t sum = 0, used;

		eof = late_eof ? end == len : len - end <= block;
		end += WR_MIN(block, len - end);
		used = wr_split_feed(&s, p + at, end - at, eof);
		for (size_t i = 0; i < s.cut_count; i++) {
			cuts_add(out, s.cut[i].len, s.cut[i].level);
			sum += s.cut[i].len;
		}
		assert_int_equal(used, sum);
		at += used;
		assert_true(end - at < WR_SPLIT_MAX(bits));
	}
	assert_int_equal(at, len);
	wr_splitter_fini(&s);
	wr_splitter_fini(&s);
}

static void
assert_same(const struct cuts *got, const struct cuts *want, const char *what)
{
	size_t at = 0;

	for (size_t i = 0; i < want->count && i < got->count; i++) {
		if (got->v[i].len != want->v[i].len || got->v[i].level != want->v[i].level)
			fail_msg("%s: cut %zu at %zu: %u/%u, want %u/%u", what, i, at,
				 got->v[i].len, got->v[i].level, want->v[i].len, want->v[i].level);
		at += want->v[i].len;
	}
	if (got->count != want->count)
		fail_msg("%s: %zu cuts, want %zu", what, got->count, want->count);
}

static uint64_t rng_state;

static uint32_t
rng(uint32_t below)
{
	rng_state = rng_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((rng_state >> 33) % below);
}

/* Append a stretch of one of several characters, up to a total of len. */
static void
add_stretch(struct wr_buf *b, unsigned kind, size_t len)
{
	uint8_t cycle[300];
	size_t period = 1 + rng(rng(2) ? 4 : (uint32_t)sizeof(cycle));
	uint8_t one = (uint8_t)rng(256), other = (uint8_t)rng(256);

	for (size_t i = 0; i < period; i++)
		cycle[i] = rng(2) ? (uint8_t)rng(256) : one;
	for (size_t i = 0; b->len < len; i++) {
		static const char text[] = "the quick brown fox jumps over the lazy dog\n";

		switch (kind) {
		case 0:
			wr_buf_add8(b, (uint8_t)rng(256));
			break;
		case 1:
			wr_buf_add8(b, rng(2) ? one : other);
			break;
		case 2:
			wr_buf_add8(b, 0);
			break;
		case 3:
			wr_buf_add8(b, rng(64) ? 255 : (uint8_t)rng(256));
			break;
		case 4:
			wr_buf_add8(b, rng(500) ? cycle[i % period] : other);
			break;
		case 5:
			wr_buf_add8(b, cycle[i % period]);
			break;
		case 6: /* the mean of which makes 18 and 19 bits of ones likely */
			wr_buf_add8(b, (uint8_t)((period & 1) * 128 + rng(128)));
			break;
		default:
			wr_buf_add8(b, rng(20) ? (uint8_t)text[i % (sizeof(text) - 1)]
					       : (uint8_t)('0' + rng(10)));
			break;
		}
	}
}
#define KINDS 8

/* Data of one kind, or for kind KINDS of stretches of any. */
static void
make_data(struct wr_buf *b, unsigned kind, size_t len)
{
	wr_buf_clear(b);
	while (b->len < len) {
		if (kind < KINDS)
			add_stretch(b, kind, len);
		else
			add_stretch(b, rng(KINDS), WR_MIN(len, b->len + 1 + rng(30000)));
	}
}

static void
check_find(const uint8_t *p, size_t len, const uint32_t *s2, unsigned bits, unsigned variant,
	   size_t *hits)
{
	/* A copy of its own, so that a sanitizer sees a read outside. */
	uint8_t *copy = wr_memdup(p, len);
	uint32_t *pos = NULL, mask = (1u << bits) - 1;
	size_t cap = 0, n = 0, count;

	count = wr_rollsum_find(variant, copy, len, bits, &pos, &cap);
	for (uint32_t at = 64; at <= len; at++) {
		if ((s2[at] & mask) != mask)
			continue;
		if (n >= count || pos[n] != at)
			fail_msg("variant %u, %u bits, %zu bytes: at %u", variant, bits, len, at);
		n++;
	}
	assert_int_equal(n, count);
	*hits += count;
	free(pos);
	free(copy);
}

static void
test_rollsum_find__every_variant(void **state)
{
	static const size_t lens[] = {0,    1,    63,   64,   65,   100,  319,  320,  321,
				      2047, 2110, 2111, 2112, 2367, 2368, 4159, 4160, 70001};
	enum { LEN = 200001 };
	uint32_t *s2 = wr_calloc(LEN + 1, sizeof(*s2));
	struct wr_buf b = WR_BUF_INIT;
	size_t hits[WR_SPLIT_BITS_MAX + 1] = {0};

	(void)state;
	rng_state = 1;
	for (unsigned round = 0; round < 10 * (KINDS + 1); round++) {
		uint32_t sum1 = 1984, sum2 = 124992;

		make_data(&b, round % (KINDS + 1), LEN);
		for (size_t i = 0; i < LEN; i++) {
			uint32_t d = i < 64 ? 0 : b.p[i - 64];

			sum1 += b.p[i] - d;
			sum2 += sum1 - 64 * (d + 31);
			s2[i + 1] = sum2;
		}
		for (unsigned bits = 13; bits <= 19; bits++) {
			size_t len = rng(2) ? LEN : lens[rng(WR_ARRAY_LEN(lens))];

			for (unsigned v = 0; v < wr_rollsum_variants(); v++)
				check_find(b.p, len, s2, bits, v, &hits[bits]);
		}
	}
	for (unsigned bits = 13; bits <= 19; bits++)
		assert_true(hits[bits] > 30);
	free(s2);
	wr_buf_fini(&b);
}

static void
test_split__first_cuts_of_noise(void **state)
{
	static const size_t first[] = {690, 15909, 25461, 28401};
	static const size_t first_of_level[] = {0, 46803, 118369, 3014404};
	struct wr_buf b = WR_BUF_INIT;
	struct cuts c = {0};
	size_t at = 0;
	unsigned seen = 0;

	(void)state;
	td_noise(&b, "big", 4 << 20);
	split(b.p, b.len, 13, true, WR_SPLIT_BLOCK, false, &c);
	for (size_t i = 0; i < c.count; i++) {
		at += c.v[i].len;
		if (i < WR_ARRAY_LEN(first))
			assert_int_equal(at, first[i]);
		if (c.v[i].level > seen) {
			seen++;
			assert_int_equal(c.v[i].level, seen);
			assert_int_equal(at, first_of_level[seen]);
		}
	}
	assert_int_equal(seen, 3);
	cuts_fini(&c);

	/* A file that ends on a boundary keeps its level and gets no empty chunk. */
	split(b.p, 46803, 13, true, WR_SPLIT_BLOCK, false, &c);
	assert_int_equal(c.v[c.count - 1].level, 1);
	cuts_fini(&c);
	split(b.p, 46804, 13, true, WR_SPLIT_BLOCK, false, &c);
	assert_int_equal(c.v[c.count - 1].level, 0);
	assert_int_equal(c.v[c.count - 1].len, 1);
	cuts_fini(&c);
	split(b.p, 0, 13, true, WR_SPLIT_BLOCK, false, &c);
	assert_int_equal(c.count, 0);
	cuts_fini(&c);
	wr_buf_fini(&b);
}

static void
test_split__rules_differ_where_bup_does(void **state)
{
	struct wr_buf b = WR_BUF_INIT;
	struct cuts c = {0};

	(void)state;
	td_quirk_tail(&b);
	split(b.p, b.len, 13, true, WR_SPLIT_BLOCK, false, &c);
	assert_int_equal(c.count, 7);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(c.v[i].len, 32768);
	cuts_fini(&c);
	split(b.p, b.len, 13, false, WR_SPLIT_BLOCK, false, &c);
	assert_int_equal(c.v[2].len, 65579 - 65536);
	cuts_fini(&c);

	wr_buf_clear(&b);
	td_quirk_block(&b);
	split(b.p, b.len, 13, true, WR_SPLIT_BLOCK, false, &c);
	assert_int_equal(c.count, 265);
	cuts_fini(&c);
	split(b.p, b.len, 13, false, WR_SPLIT_BLOCK, false, &c);
	assert_int_equal(c.count, 266);
	cuts_fini(&c);
	wr_buf_fini(&b);
}

/* What 0.33 does with a left-over depends on whether anything comes behind it. */
static void
test_split__left_over_at_the_end(void **state)
{
	static const size_t more[] = {0, 1, 42, 43, 44, 5000};
	struct wr_buf b = WR_BUF_INIT;
	struct cuts got = {0}, want = {0};

	(void)state;
	td_hidden(&b, WR_SPLIT_BLOCK + 5000);
	for (size_t i = 0; i < WR_ARRAY_LEN(more); i++) {
		size_t len = WR_SPLIT_BLOCK + more[i];

		naive_block(b.p, len, 13, WR_SPLIT_BLOCK, &want);
		split(b.p, len, 13, true, WR_SPLIT_BLOCK, false, &got);
		assert_same(&got, &want, "end known");
		cuts_fini(&got);
		split(b.p, len, 13, true, WR_SPLIT_BLOCK, true, &got);
		assert_same(&got, &want, "end behind the last block");
		/* 690, then a forced cut each 32 KiB; early boundaries only with something new. */
		assert_int_equal(want.v[0].len, 690);
		assert_int_equal(want.v[255].len, 32768);
		assert_int_equal(want.v[256].len, more[i] ? 43 : 32768 - 690);
		cuts_fini(&got);
		cuts_fini(&want);
	}
	wr_buf_fini(&b);
}

static void
test_split__reset_forgets_the_left_over(void **state)
{
	struct wr_buf b = WR_BUF_INIT;
	struct wr_splitter s;
	size_t left;

	(void)state;
	td_hidden(&b, 100690);
	wr_splitter_init(&s, 13);
	left = b.len - wr_split_feed(&s, b.p, b.len, false);
	assert_true(left > 690);
	wr_splitter_reset(&s);
	wr_split_feed(&s, b.p, left, true);
	assert_int_equal(s.cut[0].len, 690);
	/* Behind an end no reset is needed. */
	wr_split_feed(&s, b.p, left, true);
	assert_int_equal(s.cut[0].len, 690);
	wr_splitter_fini(&s);
	wr_buf_fini(&b);
}

static void
test_split__block_rule_as_the_text(void **state)
{
	struct wr_buf b = WR_BUF_INIT;
	struct cuts got = {0}, want = {0};

	(void)state;
	rng_state = 2;
	for (unsigned round = 0; round < 16 * (KINDS + 1); round++) {
		unsigned bits = round % 4 ? 13 : 13 + rng(7);
		size_t max = WR_SPLIT_MAX(bits), block = 1 + rng(10) * max / 2 + rng(1000);
		size_t len = rng((uint32_t)(bits == 13 ? 12 : 2) * (uint32_t)max);
		char what[80];

		make_data(&b, round % (KINDS + 1), len);
		block = WR_MAX(block, len / 200 + 1);
		snprintf(what, sizeof(what), "round %u: %u bits, %zu bytes in blocks of %zu", round,
			 bits, len, block);
		naive_block(b.p, len, bits, block, &want);
		split(b.p, len, bits, true, block, rng(2), &got);
		assert_same(&got, &want, what);
		cuts_fini(&got);
		cuts_fini(&want);
	}
	wr_buf_fini(&b);
}

static void
test_split__simple_rule_however_fed(void **state)
{
	struct wr_buf b = WR_BUF_INIT;
	struct cuts got = {0}, want = {0};
	size_t inner = 0;

	(void)state;
	rng_state = 3;
	for (unsigned round = 0; round < 16 * (KINDS + 1); round++) {
		unsigned bits = 13 + rng(round % 4 ? 3 : 7);
		size_t max = WR_SPLIT_MAX(bits), len = 1 + rng(3 * (uint32_t)max);
		size_t blocks[] = {len, len + 1, max, max - 1, max / 4 + 1, max / 10 + rng(1000)};

		make_data(&b, round % (KINDS + 1), len);
		naive_simple(b.p, len, bits, &want);
		inner += want.count;
		for (size_t i = 0; i < WR_ARRAY_LEN(blocks); i++) {
			char what[80];

			snprintf(what, sizeof(what),
				 "round %u: %u bits, %zu bytes in blocks of %zu", round, bits, len,
				 blocks[i]);
			split(b.p, len, bits, false, blocks[i], i % 2, &got);
			assert_same(&got, &want, what);
			cuts_fini(&got);
		}
		cuts_fini(&want);
	}
	assert_true(inner > 500);
	make_data(&b, 4, 40000);
	naive_simple(b.p, b.len, 13, &want);
	split(b.p, b.len, 13, false, 7, false, &got);
	assert_same(&got, &want, "blocks of 7 bytes");
	cuts_fini(&got);
	cuts_fini(&want);
	wr_buf_fini(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_rollsum_find__every_variant),
	    cmocka_unit_test(test_split__first_cuts_of_noise),
	    cmocka_unit_test(test_split__rules_differ_where_bup_does),
	    cmocka_unit_test(test_split__left_over_at_the_end),
	    cmocka_unit_test(test_split__reset_forgets_the_left_over),
	    cmocka_unit_test(test_split__block_rule_as_the_text),
	    cmocka_unit_test(test_split__simple_rule_however_fed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

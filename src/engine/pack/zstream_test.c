/* SPDX-License-Identifier: Apache-2.0 */
/* zlib is the judge of every stream we make. */
#include "engine/pack/zstream.h"
#include "engine/pack/test_pack.h"

#include <zlib.h>

enum kind { TEXT, NOISE, ZEROS, REPEATED_NOISE, HALF, KINDS };

static void
fill(enum kind kind, uint8_t *p, size_t len)
{
	uint64_t seed = 99 + len;

	switch (kind) {
	case TEXT:
		random_text(&seed, p, len);
		break;
	case ZEROS:
		memset(p, 0, len);
		break;
	case REPEATED_NOISE:
		random_bytes(&seed, p, WR_MIN(len, 1000));
		for (size_t i = 1000; i < len; i++)
			p[i] = p[i - 1000];
		break;
	case HALF:
		random_text(&seed, p, len / 2);
		random_bytes(&seed, p + len / 2, len - len / 2);
		break;
	default:
		random_bytes(&seed, p, len);
	}
}

/* zlib inflates z to exactly p. */
static void
assert_stream(const struct wr_buf *z, const uint8_t *p, size_t len)
{
	uint8_t *out = wr_malloc(len + 1);
	z_stream s = {0};

	assert_int_equal(inflateInit(&s), Z_OK);
	s.next_in = z->p;
	s.avail_in = (uInt)z->len;
	s.next_out = out;
	s.avail_out = (uInt)len + 1;
	assert_int_equal(inflate(&s, Z_FINISH), Z_STREAM_END);
	assert_int_equal(s.avail_in, 0);
	assert_int_equal(s.total_out, len);
	assert_memory_equal(out, p, len);
	inflateEnd(&s);
	free(out);
}

static void
test_deflate__zlib_inflates_all(WR_UNUSED void **state)
{
	static const size_t size[] = {0,     1,     2,     3,     4,      5,      8,      20,
				      100,   1023,  1024,  1025,  4095,   4096,   4097,   8192,
				      65535, 65536, 65537, 70000, 131070, 131071, 300000, 2000000};
	WR_SCOPED(wr_freep) uint8_t *p = wr_malloc(2000000);
	struct wr_inflater *inf = wr_inflater_new();

	for (int level = -1; level <= 4; level++) {
		struct wr_deflater *d = wr_deflater_new(level);

		for (size_t i = 0; i < WR_ARRAY_LEN(size) * KINDS; i++) {
			WR_SCOPED(wr_buf_fini) struct wr_buf z = WR_BUF_INIT;
			size_t len = size[i / KINDS], used;
			WR_SCOPED(wr_freep) uint8_t *out = wr_malloc(len + 1);

			fill(i % KINDS, p, len);
			wr_deflate(d, p, len, &z);
			assert_true(z.len <= wr_deflate_bound(len));
			assert_true(z.len <= len + 6 + 5 * (1 + len / 65535));
			assert_stream(&z, p, len);
			wr_buf_adds(&z, "what follows in the pack");
			assert_int_equal(wr_inflate(inf, z.p, z.len, out, len, &used),
					 WR_INFLATE_OK);
			assert_int_equal(used, z.len - strlen("what follows in the pack"));
			assert_memory_equal(out, p, len);
		}
		wr_deflater_free(d);
	}
	wr_inflater_free(inf);
}

static size_t
deflated(int level, enum kind kind, size_t len)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf z = WR_BUF_INIT;
	WR_SCOPED(wr_freep) uint8_t *p = wr_malloc(len);
	struct wr_deflater *d = wr_deflater_new(level);

	fill(kind, p, len);
	wr_deflate(d, p, len, &z);
	wr_deflater_free(d);
	return z.len;
}

static void
test_deflate__noise_is_stored_repetition_is_not(WR_UNUSED void **state)
{
	for (int level = 1; level <= 3; level++) {
		assert_int_equal(deflated(level, NOISE, 8192), 8192 + 11);
		assert_int_equal(deflated(level, NOISE, 100000), 100000 + 16);
		assert_true(deflated(level, REPEATED_NOISE, 8192) < 3000);
		assert_true(deflated(level, REPEATED_NOISE, 65536) < 8000);
		assert_true(deflated(level, TEXT, 8192) < 4096);
		assert_true(deflated(level, TEXT, 400) < 300);
	}
	assert_int_equal(deflated(0, ZEROS, 8192), 8192 + 11);
}

static void
test_deflate__no_larger_than_zlib_1(WR_UNUSED void **state)
{
	static const size_t piece[] = {500, 2000, 8192, 65536};
	WR_SCOPED(wr_buf_fini) struct wr_buf text = WR_BUF_INIT;
	struct wr_deflater *d = wr_deflater_new(1);

	/* Real text. */
	assert_int_equal(run(&text, "cat /usr/share/common-licenses/*"), 0);
	assert_true(text.len > 100000);
	for (size_t k = 0; k < WR_ARRAY_LEN(piece); k++) {
		size_t ours = 0, theirs = 0;

		for (size_t at = 0; at < text.len; at += piece[k]) {
			WR_SCOPED(wr_buf_fini) struct wr_buf z = WR_BUF_INIT;
			size_t len = WR_MIN(piece[k], text.len - at);
			uLongf n = compressBound(len);
			WR_SCOPED(wr_freep) uint8_t *out = wr_malloc(n);

			wr_deflate(d, text.p + at, len, &z);
			assert_int_equal(compress2(out, &n, text.p + at, len, 1), Z_OK);
			ours += z.len;
			theirs += n;
		}
		assert_true(ours <= theirs);
	}
	wr_deflater_free(d);
}

static void
test_inflate__short_and_bad(WR_UNUSED void **state)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf z = WR_BUF_INIT;
	struct wr_deflater *d = wr_deflater_new(1);
	struct wr_inflater *inf = wr_inflater_new();
	uint8_t p[3000], out[3001];
	size_t used = 77, stream;

	fill(TEXT, p, sizeof(p));
	wr_deflate(d, p, sizeof(p), &z);
	stream = z.len;
	for (size_t n = 0; n < stream; n++)
		assert_int_equal(wr_inflate(inf, z.p, n, out, sizeof(p), &used), WR_INFLATE_SHORT);
	wr_buf_reserve(&z, wr_deflate_bound(sizeof(out)));
	memset(z.p + z.len, 0, wr_deflate_bound(sizeof(out)));
	z.len = wr_deflate_bound(sizeof(out));
	assert_int_equal(wr_inflate(inf, z.p, z.len, out, sizeof(p) - 1, &used), WR_INFLATE_BAD);
	assert_int_equal(wr_inflate(inf, z.p, z.len, out, sizeof(p) + 1, &used), WR_INFLATE_BAD);
	assert_int_equal(used, 77);
	for (size_t i = 0; i < stream; i++) {
		z.p[i] ^= 0x10;
		/* A flipped bit in the header's level or window size changes nothing. */
		if (wr_inflate(inf, z.p, z.len, out, sizeof(p), &used) == WR_INFLATE_OK)
			assert_memory_equal(out, p, sizeof(p));
		else
			assert_int_equal(wr_inflate(inf, z.p, z.len, out, sizeof(p), &used),
					 WR_INFLATE_BAD);
		z.p[i] ^= 0x10;
	}
	z.p[stream - 1] ^= 1; /* Adler-32 */
	assert_int_equal(wr_inflate(inf, z.p, z.len, out, sizeof(p), &used), WR_INFLATE_BAD);
	wr_inflater_free(inf);
	wr_deflater_free(d);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_deflate__zlib_inflates_all),
	    cmocka_unit_test(test_deflate__noise_is_stored_repetition_is_not),
	    cmocka_unit_test(test_deflate__no_larger_than_zlib_1),
	    cmocka_unit_test(test_inflate__short_and_bad),
	};

	return cmocka_run_group_tests(tests, setup_dir, teardown_dir);
}

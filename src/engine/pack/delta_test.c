/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/pack/pack.h"
#include "engine/pack/test_pack.h"

static int
apply(const char *base, const void *delta, size_t len, struct wr_buf *out, struct wr_err *err)
{
	return wr_delta_apply(base, strlen(base), delta, len, out, err);
}

static void
test_delta_apply__copies_and_inserts(WR_UNUSED void **state)
{
	static const uint8_t delta[] = {10,   11,  0x90, 3, /* base 0..2 */
					2,    'x', 'y',     /* xy */
					0x91, 7,   3,       /* base 7..9 */
					0x91, 1,   3};      /* base 1..3 */
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;

	wr_buf_adds(&out, "what stood there before");
	assert_int_equal(apply("0123456789", delta, sizeof(delta), &out, &err), 0);
	assert_string_equal(wr_buf_str(&out), "012xy789123");
	assert_int_equal(out.len, 11);
	assert_int_equal(wr_delta_apply(NULL, 0, "\0\0", 2, &out, &err), 0);
	assert_int_equal(out.len, 0);
}

static void
test_delta_apply__size_zero_means_64k(WR_UNUSED void **state)
{
	/* base 70000, result 65536; copy from offset 0x102 */
	static const uint8_t delta[] = {0xf0, 0xa2, 0x04, 0x80, 0x80, 0x04, 0x83, 0x02, 0x01};
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;
	WR_SCOPED(wr_freep) uint8_t *base = wr_malloc(70000);
	struct wr_err err = WR_ERR_INIT;
	uint64_t seed = 5;

	random_bytes(&seed, base, 70000);
	assert_int_equal(wr_delta_apply(base, 70000, delta, sizeof(delta), &out, &err), 0);
	assert_int_equal(out.len, 65536);
	assert_memory_equal(out.p, base + 0x102, 65536);
}

static void
test_delta_apply__refuses(WR_UNUSED void **state)
{
	static const struct {
		const char *what;
		size_t len;
		uint8_t d[16];
	} bad[] = {
	    {"empty", 0, {0}},
	    {"one size", 1, {4}},
	    {"size without end", 12, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
	    {"other base", 4, {5, 2, 0x90, 2}},
	    {"copy behind the end", 5, {4, 2, 0x91, 3, 2}},
	    {"copy from behind the end", 5, {4, 2, 0x91, 5, 2}},
	    {"copy of 64k", 3, {4, 2, 0x80}},
	    {"operand cut", 3, {4, 2, 0x91}},
	    {"literal cut", 4, {4, 2, 2, 'a'}},
	    {"reserved", 5, {4, 1, 0, 1, 'a'}},
	    {"too much", 6, {4, 1, 2, 'a', 'b'}},
	    {"too little", 4, {4, 3, 1, 'a'}},
	    {"too large", 7, {4, 0x80, 0x80, 0x80, 0x80, 0x02, 0}},
	};
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;

	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		struct wr_err err = WR_ERR_INIT;

		if (apply("base", bad[i].d, bad[i].len, &out, &err) == 0)
			fail_msg("taken: %s", bad[i].what);
		assert_int_equal(err.code,
				 !strcmp(bad[i].what, "too large") ? WR_E_LIMIT : WR_E_CORRUPT);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_delta_apply__copies_and_inserts),
	    cmocka_unit_test(test_delta_apply__size_zero_means_64k),
	    cmocka_unit_test(test_delta_apply__refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

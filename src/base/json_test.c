/* SPDX-License-Identifier: Apache-2.0 */
/* JSON as we make it, and foreign JSON with its bounds. */
#include "base/json.h"

#include <math.h>
#include <setjmp.h>

#include <cmocka.h>

static void
written_as(json_t *taken, const char *want)
{
	struct wr_buf b = WR_BUF_INIT;

	wr_json_write(taken, &b);
	assert_string_equal(wr_buf_str(&b), want);
	wr_buf_fini(&b);
	json_decref(taken);
}

static void
test_make__members_in_order(void **state)
{
	json_t *o = wr_json_begin("warren.x/1"), *list, *own = json_array();

	(void)state;
	wr_json_u64(wr_json_object(o, "z"), "big", UINT64_MAX);
	list = wr_json_array(o, "a");
	wr_json_i64(wr_json_item(list), "i", INT64_MIN);
	wr_json_add_str(list, "t\xff");
	wr_json_real(o, "r", 0.5);
	wr_json_real(o, "nan", NAN);
	wr_json_bool(o, "b", true);
	wr_json_null(o, "n");
	wr_json_str(o, "s", NULL);
	wr_json_path(o, "p", "plain", 5);
	wr_json_path(o, "q", "a\xff", 2);
	wr_json_time(o, "t", 0);
	wr_json_take(o, "own", own);
	written_as(o,
		   "{\"schema\":\"warren.x/1\",\"z\":{\"big\":9223372036854775807},"
		   "\"a\":[{\"i\":-9223372036854775808},\"t\xef\xbf\xbd\"],\"r\":0.5,\"nan\":null,"
		   "\"b\":true,\"n\":null,\"s\":null,\"p\":\"plain\",\"q\":\"a\xef\xbf\xbd\","
		   "\"q_b64\":\"Yf8=\",\"t\":\"1970-01-01T00:00:00Z\",\"own\":[]}");
}

static void
test_err__there_and_back(void **state)
{
	struct wr_err e = WR_ERR_INIT, back = WR_ERR_INIT;
	WR_SCOPED(wr_json_freep) json_t *o = json_object();
	json_t *m;

	(void)state;
	wr_err_set(&e, WR_E_BUSY, "in use");
	wr_json_err(o, "plain", &e);
	wr_err_hint(&e, "wait");
	wr_json_err(o, "error", &e);
	assert_null(json_object_get(wr_json_get_obj(o, "plain"), "hint"));
	wr_json_get_err(wr_json_get_obj(o, "error"), &back);
	assert_int_equal(back.code, WR_E_BUSY);
	assert_string_equal(back.msg, "in use");
	assert_string_equal(back.hint, "wait");
	/* Of a later version, or of nobody. */
	m = wr_json_get_obj(o, "error");
	wr_json_str(m, "code", "brand_new");
	wr_json_get_err(m, &back);
	assert_int_equal(back.code, WR_E_FAILED);
	assert_string_equal(back.msg, "in use");
	wr_json_get_err(NULL, &back);
	assert_int_equal(back.code, WR_E_FAILED);
}

static void
test_get__defaults_for_absent_and_wrong(void **state)
{
	static const char text[] = "{\"s\":\"x\",\"u\":5,\"neg\":-5,\"b\":true,\"r\":1.5,"
				   "\"t\":\"1970-01-01T00:01:00Z\",\"o\":{},\"a\":[]}";
	WR_SCOPED(wr_json_freep) json_t *o = wr_json_parse(text, strlen(text), NULL);

	(void)state;
	assert_non_null(o);
	assert_string_equal(wr_json_get_str(o, "s", "d"), "x");
	assert_string_equal(wr_json_get_str(o, "u", "d"), "d");
	assert_null(wr_json_get_str(o, "none", NULL));
	assert_int_equal(wr_json_get_u64(o, "u", 9), 5);
	assert_int_equal(wr_json_get_u64(o, "neg", 9), 9);
	assert_int_equal(wr_json_get_u64(o, "r", 9), 9);
	assert_int_equal(wr_json_get_i64(o, "neg", 9), -5);
	assert_int_equal(wr_json_get_i64(o, "s", 9), 9);
	assert_true(wr_json_get_bool(o, "b", false));
	assert_true(wr_json_get_bool(o, "u", true));
	assert_true(wr_json_get_real(o, "r", 0) > 1.4 && wr_json_get_real(o, "u", 0) > 4.9);
	assert_true(wr_json_get_real(o, "s", 7) > 6.9);
	assert_int_equal(wr_json_get_time(o, "t", 9), 60);
	assert_int_equal(wr_json_get_time(o, "s", 9), 9);
	assert_non_null(wr_json_get_obj(o, "o"));
	assert_null(wr_json_get_obj(o, "a"));
	assert_non_null(wr_json_get_arr(o, "a"));
	assert_null(wr_json_get_arr(NULL, "a"));
}

static void
test_parse__refused(void **state)
{
	static const struct {
		const char *text;
		size_t len;
	} bad[] = {
#define T(s) {s, sizeof(s) - 1}
	    T(""),
	    T("{"),
	    T("{\"a\":1,\"a\":2}"),
	    T("{} {}"),
	    T("[1,]"),
	    T("\"a\\u0000b\""),
	    T("\"\xff\""),
	    T("{'a':1}"),
	    T("nul"),
	    T("[1e999]"),
	    T("[99999999999999999999]"),
	    T("\0"),
	    T("{}\0"),
#undef T
	};

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		struct wr_err e = WR_ERR_INIT;

		assert_null(wr_json_parse(bad[i].text, bad[i].len, &e));
		assert_int_equal(e.code, WR_E_INVALID);
		assert_non_null(strstr(e.msg, "line 1, column"));
	}
	assert_null(wr_json_parse(NULL, 0, NULL));
}

static void
test_parse__depth(void **state)
{
	struct wr_err e = WR_ERR_INIT;
	char text[200], quoted[] = "[\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[\",1]";
	json_t *o;

	(void)state;
	memset(text, '[', 32);
	memset(text + 32, ']', 32);
	o = wr_json_parse(text, 64, &e);
	assert_non_null(o);
	json_decref(o);
	memset(text, '[', 33);
	memset(text + 33, ']', 33);
	assert_null(wr_json_parse(text, 66, &e));
	assert_int_equal(e.code, WR_E_INVALID);
	memset(text, '[', sizeof(text));
	assert_null(wr_json_parse(text, sizeof(text), &e));
	/* Brackets in text are no levels. */
	o = wr_json_parse(quoted, strlen(quoted), &e);
	assert_non_null(o);
	json_decref(o);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_make__members_in_order),
	    cmocka_unit_test(test_err__there_and_back),
	    cmocka_unit_test(test_get__defaults_for_absent_and_wrong),
	    cmocka_unit_test(test_parse__refused),
	    cmocka_unit_test(test_parse__depth),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

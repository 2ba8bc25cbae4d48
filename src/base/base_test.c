/* SPDX-License-Identifier: Apache-2.0 */
/* base, buf, err and str: the ground everything stands on. */
#include "base/base.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hostport.h"
#include "base/str.h"
#include "base/ts.h"

/* ---- base ---- */

static void
test_grow__keeps_content_and_reaches_need(void **state)
{
	(void)state;
	uint32_t *a = NULL;
	size_t cap = 0;

	for (uint32_t i = 0; i < 1000; i++) {
		wr_grow(&a, &cap, i + 1, sizeof(*a));
		assert_true(cap >= i + 1);
		a[i] = i * 7;
	}
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(a[i], i * 7);
	assert_true(cap < 3000);
	free(a);
}

static void
test_alloc__zero_sizes_are_legal(void **state)
{
	(void)state;
	void *p = wr_malloc(0), *q = wr_calloc(0, 8), *r = wr_realloc(NULL, 0);
	void *s = wr_memdup("", 0);

	assert_non_null(p);
	assert_non_null(q);
	assert_non_null(r);
	assert_non_null(s);
	free(p);
	free(q);
	free(r);
	free(s);
}

/* Run fn in a child whose standard error is dropped; gives the wait status. */
static int
in_child(void (*fn)(void))
{
	pid_t pid = fork();
	int status = 0;

	if (pid == 0) {
		if (!freopen("/dev/null", "w", stderr))
			_exit(99);
		fn();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void
overflow_product(void)
{
	free(wr_reallocarray(NULL, SIZE_MAX / 2, 3));
}

static void
broken_assertion(void)
{
	signal(SIGABRT, SIG_DFL);
	wr_assert(1 + 1 == 3);
}

static void
test_alloc__overflow_ends_the_process(void **state)
{
	(void)state;
	int status = in_child(overflow_product);

	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 1);
}

static void
test_assert__stays_on(void **state)
{
	(void)state;
	int status = in_child(broken_assertion);

	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void
test_steal__leaves_null(void **state)
{
	(void)state;
	char *a = wr_strdup("x"), *b = wr_steal(&a);

	assert_null(a);
	assert_string_equal(b, "x");
	free(b);
}

static void
test_ts__order_across_1970(void **state)
{
	(void)state;
	struct wr_ts before = {-1, 999999999}, zero = {0, 0}, after = {0, 1};

	assert_true(wr_ts_cmp(before, zero) < 0);
	assert_true(wr_ts_cmp(after, zero) > 0);
	assert_int_equal(wr_ts_cmp(zero, zero), 0);
}

/* ---- buf ---- */

static void
test_buf__integers_are_big_endian(void **state)
{
	(void)state;
	static const uint8_t want[] = {0x01, 0x12, 0x34, 0x56, 0x78, 0xfe, 0xdc,
				       0xba, 0x98, 0x76, 0x54, 0x32, 0x10};
	struct wr_buf b = WR_BUF_INIT;
	struct wr_rd r;

	wr_buf_add8(&b, 1);
	wr_buf_add32be(&b, 0x12345678);
	wr_buf_add64be(&b, 0xfedcba9876543210);
	assert_int_equal(b.len, sizeof(want));
	assert_memory_equal(b.p, want, sizeof(want));

	r = wr_rd(b.p, b.len);
	assert_int_equal(wr_rd8(&r), 1);
	assert_int_equal(wr_rd16be(&r), 0x1234);
	assert_int_equal(wr_rd16be(&r), 0x5678);
	assert_true(wr_rd64be(&r) == 0xfedcba9876543210);
	assert_false(r.bad);
	assert_int_equal(r.left, 0);
	wr_buf_fini(&b);
	wr_buf_fini(&b);
}

static void
test_rd__after_the_end_everything_is_zero(void **state)
{
	(void)state;
	static const uint8_t bytes[] = {9, 9, 9, 9, 9};
	struct wr_rd r = wr_rd(bytes, sizeof(bytes));

	assert_true(wr_rd64be(&r) == 0);
	assert_true(r.bad);
	/* Bytes are left, but a reader that failed once stays failed. */
	assert_int_equal(wr_rd8(&r), 0);
	assert_null(wr_rd_bytes(&r, 1));
	assert_null(wr_rd_bytes(&r, SIZE_MAX));
}

static void
test_rd__empty_read_at_the_end_is_fine(void **state)
{
	(void)state;
	struct wr_rd r = wr_rd("ab", 2);

	assert_non_null(wr_rd_bytes(&r, 2));
	assert_non_null(wr_rd_bytes(&r, 0));
	assert_false(r.bad);
}

static void
test_buf__format_and_detach(void **state)
{
	(void)state;
	struct wr_buf b = WR_BUF_INIT;
	size_t len;
	char *s;

	wr_buf_adds(&b, "a");
	wr_buf_addf(&b, "%05d/%s", 42, "tail");
	assert_string_equal(wr_buf_str(&b), "a00042/tail");
	assert_int_equal(b.len, 11);
	s = wr_buf_detach(&b, &len);
	assert_int_equal(len, 11);
	assert_string_equal(s, "a00042/tail");
	assert_null(b.p);
	free(s);
	s = wr_buf_detach(&b, NULL);
	assert_string_equal(s, "");
	free(s);
}

static void
test_buf__a_long_format_is_not_cut(void **state)
{
	(void)state;
	struct wr_buf b = WR_BUF_INIT;

	for (int i = 0; i < 100; i++)
		wr_buf_addf(&b, "%0500d", i);
	assert_int_equal(b.len, 50000);
	assert_memory_equal(b.p + b.len - 2, "99", 2);
	wr_buf_fini(&b);
}

/* ---- err ---- */

static void
test_err__wrap_keeps_code_and_puts_text_in_front(void **state)
{
	(void)state;
	struct wr_err e = WR_ERR_INIT;

	assert_int_equal(wr_err_set(&e, WR_E_CORRUPT, "cut short at %d", 7), -1);
	assert_int_equal(wr_err_wrap(&e, "read '%s'", "x"), -1);
	assert_int_equal(wr_err_hint(&e, "do %s", "this"), -1);
	assert_int_equal(wr_err_wrap(&e, "verify"), -1);
	assert_int_equal(e.code, WR_E_CORRUPT);
	assert_string_equal(e.msg, "verify: read 'x': cut short at 7");
	assert_string_equal(e.hint, "do this");
	wr_err_recode(&e, WR_E_BUSY);
	assert_int_equal(e.code, WR_E_BUSY);
	wr_err_clear(&e);
	assert_int_equal(e.code, WR_E_NONE);
	assert_string_equal(e.msg, "");
	assert_string_equal(e.hint, "");
}

static void
test_err__set_drops_the_hint_of_an_older_error(void **state)
{
	(void)state;
	struct wr_err e = WR_ERR_INIT;

	wr_err_set(&e, WR_E_FAILED, "one");
	wr_err_hint(&e, "hint of one");
	wr_err_set(&e, WR_E_FAILED, "two");
	assert_string_equal(e.hint, "");
}

static void
test_err__system_errors_find_their_code(void **state)
{
	(void)state;
	static const struct {
		int errnum;
		enum wr_err_code code;
	} cases[] = {{ENOENT, WR_E_NOT_FOUND}, {ENOSPC, WR_E_NOSPACE}, {EACCES, WR_E_DENIED},
		     {EPERM, WR_E_DENIED},     {EROFS, WR_E_DENIED},   {EIO, WR_E_SYS}};

	for (size_t i = 0; i < WR_ARRAY_LEN(cases); i++) {
		struct wr_err e = WR_ERR_INIT;

		errno = cases[i].errnum;
		assert_int_equal(wr_err_sys(&e, "open '%s'", "f"), -1);
		assert_int_equal(e.code, cases[i].code);
		assert_int_equal(e.sys_errno, cases[i].errnum);
		assert_true(strncmp(e.msg, "open 'f': ", 10) == 0);
		assert_true(strlen(e.msg) > 10);
	}
}

static void
test_err__null_is_allowed(void **state)
{
	(void)state;
	assert_int_equal(wr_err_set(NULL, WR_E_FAILED, "x"), -1);
	assert_int_equal(wr_err_sys(NULL, "x"), -1);
	assert_int_equal(wr_err_wrap(NULL, "x"), -1);
	assert_int_equal(wr_err_hint(NULL, "x"), -1);
	assert_int_equal(wr_err_recode(NULL, WR_E_FAILED), -1);
}

static void
test_err__long_texts_are_cut_not_overrun(void **state)
{
	(void)state;
	struct wr_err e = WR_ERR_INIT;
	char text[3000];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	wr_err_set(&e, WR_E_FAILED, "%s", text);
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
	wr_err_wrap(&e, "%s", text);
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
	errno = EIO;
	wr_err_sys(&e, "%s", text);
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
	wr_err_hint(&e, "%s", text);
	assert_int_equal(strlen(e.hint), sizeof(e.hint) - 1);
}

static void
test_err__table_is_the_documented_one(void **state)
{
	(void)state;
	assert_int_equal(wr_err_exit(WR_E_NONE), 0);
	assert_int_equal(wr_err_exit(WR_E_FAILED), 1);
	assert_int_equal(wr_err_exit(WR_E_USAGE), 2);
	assert_int_equal(wr_err_exit(WR_E_INVALID), 2);
	assert_int_equal(wr_err_exit(WR_E_BUSY), 4);
	assert_int_equal(wr_err_exit(WR_E_DENIED), 4);
	assert_int_equal(wr_err_exit(WR_E_NOT_FOUND), 5);
	for (unsigned i = 0; i < WR_E_COUNT; i++) {
		/* 3 means "done with warnings" and is no error. */
		assert_true(wr_err_exit(i) >= 0 && wr_err_exit(i) <= 5 && wr_err_exit(i) != 3);
		for (unsigned j = 0; j < i; j++)
			assert_string_not_equal(wr_err_name(i), wr_err_name(j));
	}
}

static void
test_quote__terminals_and_logs_are_safe(void **state)
{
	(void)state;
	assert_string_equal(WR_Q("plain \xc3\xa4"), "plain \xc3\xa4");
	assert_string_equal(WR_Q("a\033[31mb\n"), "a\\x1b[31mb\\x0a");
	assert_string_equal(WR_Q("\x7f"), "\\x7f");
	assert_string_equal(WR_Q("\xff\xc3"), "\\xff\\xc3");
	/* A name that looks like an escape must not read as one. */
	assert_string_not_equal(WR_Q("\\x1b"), WR_Q("\033"));
	assert_string_equal(wr_quote("a\0b", 3).s, "a\\x00b");
}

static void
test_quote__long_names_are_cut_and_fit(void **state)
{
	(void)state;
	char text[5000];
	struct wr_quoted q;

	memset(text, 0x01, sizeof(text));
	q = wr_quote(text, sizeof(text));
	assert_int_equal(strlen(q.s), 803);
	assert_string_equal(q.s + 800, "...");
	/* A four-byte character across the cut stays whole. */
	for (size_t i = 0; i + 4 <= sizeof(text); i += 4)
		memcpy(text + i, "\xf0\x9f\x90\x87", 4);
	memmove(text + 1, text, 400);
	text[0] = 'x';
	q = wr_quote(text, 401);
	assert_true(wr_utf8_valid(q.s, strlen(q.s)));
}

/* ---- str ---- */

static void
test_utf8__what_is_well_formed(void **state)
{
	(void)state;
	static const struct {
		const char *s;
		size_t len;
		bool ok;
	} cases[] = {
	    {"", 0, true},
	    {"ascii\n", 6, true},
	    {"\xc2\x80", 2, true},
	    {"\xe2\x82\xac", 3, true},
	    {"\xf0\x9f\x90\x87", 4, true},
	    {"\xf4\x8f\xbf\xbf", 4, true},
	    {"\xc0\x80", 2, false},         /* overlong */
	    {"\xe0\x9f\xbf", 3, false},     /* overlong */
	    {"\xf0\x8f\xbf\xbf", 4, false}, /* overlong */
	    {"\xed\xa0\x80", 3, false},     /* surrogate */
	    {"\xf4\x90\x80\x80", 4, false}, /* above U+10FFFF */
	    {"\x80", 1, false},             /* lone continuation */
	    {"\xe2\x82", 2, false},         /* cut short */
	    {"\xe2\x28\xa1", 3, false},
	    {"\xf8\x88\x80\x80\x80", 5, false},
	};

	for (size_t i = 0; i < WR_ARRAY_LEN(cases); i++)
		assert_int_equal(wr_utf8_valid(cases[i].s, cases[i].len), cases[i].ok);
}

static void
test_utf8__lossy_copy_is_valid(void **state)
{
	(void)state;
	char *s = wr_utf8_lossy("a\xff\xe2\x82z\0.", 7);

	assert_string_equal(s, "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd.");
	assert_true(wr_utf8_valid(s, strlen(s)));
	free(s);
}

static void
test_base64__vectors_of_rfc_4648(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
	    {"", ""},
	    {"f", "Zg=="},
	    {"fo", "Zm8="},
	    {"foo", "Zm9v"},
	    {"foob", "Zm9vYg=="},
	    {"fooba", "Zm9vYmE="},
	    {"foobar", "Zm9vYmFy"},
	};
	static const char *const wrong[] = {
	    "Zg=", "Zg", "Z===", "=Zg=", "Zg==Zg==", "Zm 9", "Zm9v\n"};
	struct wr_buf b = WR_BUF_INIT;
	char *s;

	for (size_t i = 0; i < WR_ARRAY_LEN(cases); i++) {
		s = wr_base64(cases[i][0], strlen(cases[i][0]));
		assert_string_equal(s, cases[i][1]);
		free(s);
		wr_buf_clear(&b);
		assert_true(wr_base64_decode(&b, cases[i][1], strlen(cases[i][1])));
		assert_string_equal(wr_buf_str(&b), cases[i][0]);
	}
	s = wr_base64("\xfb\xff\xbf", 3);
	assert_string_equal(s, "+/+/");
	free(s);
	for (size_t i = 0; i < WR_ARRAY_LEN(wrong); i++)
		assert_false(wr_base64_decode(&b, wrong[i], strlen(wrong[i])));
	wr_buf_fini(&b);
}

static void
test_parse__numbers(void **state)
{
	(void)state;
	static const char *const bad[] = {"",
					  "-1",
					  "+1",
					  " 1",
					  "1 ",
					  "0x10",
					  "1e3",
					  "\xd9\xa1",
					  "18446744073709551616",
					  "99999999999999999999999"};
	uint64_t v = 77;

	assert_int_equal(wr_parse_u64("0", &v, NULL), 0);
	assert_true(v == 0);
	assert_int_equal(wr_parse_u64("18446744073709551615", &v, NULL), 0);
	assert_true(v == UINT64_MAX);
	v = 77;
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		struct wr_err e = WR_ERR_INIT;

		assert_int_equal(wr_parse_u64(bad[i], &v, &e), -1);
		assert_int_equal(e.code, WR_E_INVALID);
	}
	assert_true(v == 77);
}

static void
test_parse__sizes(void **state)
{
	(void)state;
	static const struct {
		const char *s;
		uint64_t v;
	} good[] = {{"0", 0},
		    {"12", 12},
		    {"12B", 12},
		    {"1K", 1024},
		    {"1k", 1024},
		    {"500M", 500u << 20},
		    {"4G", UINT64_C(4) << 30},
		    {"2MiB", 2 << 20},
		    {"3T", UINT64_C(3) << 40},
		    {"8191P", UINT64_C(8191) << 50}};
	static const char *const bad[] = {"",    "K",   "1X",    "1.5G",   "-1K",
					  "1KK", "1 K", "1MiBs", "16384P", "18446744073709551616"};
	uint64_t v;

	for (size_t i = 0; i < WR_ARRAY_LEN(good); i++) {
		assert_int_equal(wr_parse_size(good[i].s, &v, NULL), 0);
		assert_true(v == good[i].v);
	}
	v = 77;
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		struct wr_err e = WR_ERR_INIT;

		assert_int_equal(wr_parse_size(bad[i], &v, &e), -1);
		assert_int_equal(e.code, WR_E_INVALID);
	}
	assert_true(v == 77);
}

static void
test_parse__decimals(void **state)
{
	static const struct {
		const char *s;
		uint64_t v;
	} good[] = {{"0", 0},        {"2", 2000},      {"1.5", 1500},  {"0.001", 1},
		    {"1.050", 1050}, {"12.34", 12340}, {"007.7", 7700}};
	static const char *const bad[] = {"",    "1.",  ".5",   "1.2345", "-1",
					  "1,5", "1e3", "1.5 ", "1.5.5",  "18446744073709551615"};
	uint64_t v;

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(good); i++) {
		assert_int_equal(wr_parse_decimal(good[i].s, &v, NULL), 0);
		assert_true(v == good[i].v);
	}
	v = 77;
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		struct wr_err e = WR_ERR_INIT;

		assert_int_equal(wr_parse_decimal(bad[i], &v, &e), -1);
		assert_int_equal(e.code, WR_E_INVALID);
	}
	assert_true(v == 77);
}

static void
test_parse__durations_and_back(void **state)
{
	(void)state;
	static const struct {
		const char *s;
		uint64_t v;
		const char *back;
	} good[] = {
	    {"0", 0, "0"},         {"never", 0, "0"},
	    {"0d", 0, "0"},        {"90", 90, "90s"},
	    {"90s", 90, "90s"},    {"5min", 300, "5min"},
	    {"24h", 86400, "1d"},  {"30d", 2592000, "30d"},
	    {"4w", 2419200, "4w"}, {"18446744073709551615", UINT64_MAX, "18446744073709551615s"}};
	static const char *const bad[] = {"",
					  "s",
					  "-1s",
					  "1.5h",
					  "1m",
					  "1 s",
					  "5mins",
					  "Never",
					  "1d ",
					  "1dd",
					  "99999999999999999999s",
					  "30500568904944w"};
	uint64_t v, again;

	for (size_t i = 0; i < WR_ARRAY_LEN(good); i++) {
		assert_int_equal(wr_parse_duration(good[i].s, &v, NULL), 0);
		assert_true(v == good[i].v);
		assert_string_equal(wr_fmt_duration(v).s, good[i].back);
		assert_int_equal(wr_parse_duration(wr_fmt_duration(v).s, &again, NULL), 0);
		assert_true(again == v);
	}
	v = 77;
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		struct wr_err e = WR_ERR_INIT;

		assert_int_equal(wr_parse_duration(bad[i], &v, &e), -1);
		assert_int_equal(e.code, WR_E_INVALID);
	}
	assert_true(v == 77);
}

static void
test_parse__booleans(void **state)
{
	(void)state;
	static const char *const yes[] = {"yes", "true", "on", "1"};
	static const char *const no[] = {"no", "false", "off", "0"};
	static const char *const bad[] = {"", "2", "y", "Yes", "yes ", "nope"};
	struct wr_err e = WR_ERR_INIT;
	bool v;

	for (size_t i = 0; i < WR_ARRAY_LEN(yes); i++) {
		v = false;
		assert_int_equal(wr_parse_bool(yes[i], &v, &e), 0);
		assert_true(v);
		assert_int_equal(wr_parse_bool(no[i], &v, &e), 0);
		assert_false(v);
	}
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		assert_int_equal(wr_parse_bool(bad[i], &v, &e), -1);
		assert_int_equal(e.code, WR_E_INVALID);
	}
}

static void
test_parse__times_and_back(void **state)
{
	(void)state;
	static const int64_t good[] = {0, -1, 1795342530, INT64_C(253402300799), INT64_C(1) << 32};
	static const char *const bad[] = {"",
					  "2026",
					  "2026-11-22",
					  "2026-11-22T10:15:30",
					  "2026-11-22T10:15:30z",
					  "2026-11-22 10:15:30Z",
					  "2026-11-22T10:15:30Z ",
					  "2026-11-22T10:15:30.5Z",
					  "2026-11-22T10:15:30+01:00",
					  "2026-13-22T10:15:30Z",
					  "2026-02-30T10:15:30Z",
					  "2026-11-22T24:00:00Z",
					  "12026-11-22T10:15:30Z",
					  "-026-11-22T10:15:30Z",
					  "@5"};
	struct wr_err e = WR_ERR_INIT;
	int64_t t = 77;

	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		assert_int_equal(wr_parse_utc(bad[i], &t, &e), -1);
		assert_int_equal(e.code, WR_E_INVALID);
	}
	assert_true(t == 77);
	for (size_t i = 0; i < WR_ARRAY_LEN(good); i++) {
		assert_int_equal(wr_parse_utc(wr_fmt_utc(good[i]).s, &t, &e), 0);
		assert_true(t == good[i]);
	}
}

static void
test_format__sizes_read_back_exactly(void **state)
{
	(void)state;
	static const struct {
		uint64_t v;
		const char *s;
	} cases[] = {{0, "0"},
		     {1, "1"},
		     {1023, "1023"},
		     {1024, "1K"},
		     {1025, "1025"},
		     {500u << 20, "500M"},
		     {UINT64_C(3) << 30, "3G"},
		     {UINT64_C(1) << 60, "1024P"},
		     {UINT64_MAX, "18446744073709551615"}};
	uint64_t v;

	for (size_t i = 0; i < WR_ARRAY_LEN(cases); i++) {
		assert_string_equal(wr_fmt_size(cases[i].v).s, cases[i].s);
		assert_int_equal(wr_parse_size(cases[i].s, &v, NULL), 0);
		assert_true(v == cases[i].v);
	}
}

static void
test_format__for_people(void **state)
{
	(void)state;
	assert_string_equal(wr_fmt_bytes(0).s, "0 B");
	assert_string_equal(wr_fmt_bytes(1023).s, "1023 B");
	assert_string_equal(wr_fmt_bytes(1536).s, "1.5 KiB");
	assert_string_equal(wr_fmt_bytes(UINT64_MAX).s, "16.0 EiB");
	assert_string_equal(wr_fmt_count(0).s, "0");
	assert_string_equal(wr_fmt_count(999).s, "999");
	assert_string_equal(wr_fmt_count(64000).s, "64,000");
	assert_string_equal(wr_fmt_count(UINT64_MAX).s, "18,446,744,073,709,551,615");
	assert_string_equal(wr_fmt_seconds(0.416).s, "0.42 s");
	assert_string_equal(wr_fmt_seconds(190).s, "3 min 10 s");
	assert_string_equal(wr_fmt_seconds(3600 * 5 + 120).s, "5 h 2 min");
}

static void
test_format__times_are_utc_in_any_zone(void **state)
{
	(void)state;
	setenv("TZ", "Pacific/Kiritimati", 1);
	assert_string_equal(wr_fmt_utc(0).s, "1970-01-01T00:00:00Z");
	assert_string_equal(wr_fmt_utc(-1).s, "1969-12-31T23:59:59Z");
	assert_string_equal(wr_fmt_utc(INT64_C(1) << 32).s, "2106-02-07T06:28:16Z");
	assert_string_equal(wr_fmt_snap_name(1795342530).s, "2026-11-22-101530");
	unsetenv("TZ");
	/* Beyond what a calendar shows, the number itself. */
	assert_string_equal(wr_fmt_utc(INT64_MAX).s, "@9223372036854775807");
	assert_string_equal(wr_fmt_utc(INT64_MIN).s, "@-9223372036854775808");
}

static void
test_utc__calendar_and_back(void **state)
{
	(void)state;
	int64_t t;

	assert_true(wr_utc_seconds(2026, 11, 22, 10, 15, 30, &t));
	assert_true(t == 1795342530);
	assert_true(wr_utc_seconds(2024, 2, 29, 0, 0, 0, &t));
	assert_true(wr_utc_seconds(1969, 12, 31, 23, 59, 59, &t));
	assert_true(t == -1);
	t = 5;
	assert_false(wr_utc_seconds(2023, 2, 29, 0, 0, 0, &t));
	assert_false(wr_utc_seconds(2023, 13, 1, 0, 0, 0, &t));
	assert_false(wr_utc_seconds(2023, 0, 1, 0, 0, 0, &t));
	assert_false(wr_utc_seconds(2023, 1, 32, 0, 0, 0, &t));
	assert_false(wr_utc_seconds(2023, 1, 1, 24, 0, 0, &t));
	assert_false(wr_utc_seconds(2023, 1, 1, 0, 60, 0, &t));
	assert_true(t == 5);
}

static void
test_hostport__is_taken_apart(void **state)
{
	static const struct {
		const char *s, *host;
		bool v6;
		uint16_t port;
	} good[] = {{"a:1", "a", false, 1},
		    {"n-7.example.org:65535", "n-7.example.org", false, 65535},
		    {"[::1]:80", "::1", true, 80},
		    {"h:0", "h", false, 0}};
	static const char *const bad[] = {
	    "",        "a",     ":1",    "a:",    "a:x",    "a:65536",   "a:99999",
	    "a:-1",    "a:+1",  "a: 1",  "a:1 ",  "::1:80", "[::1]",     "[::1]80",
	    "[::1:80", "[]:80", "a:1:2", "a:080", "a:00",   "a:0000001", "a:4294967297"};
	struct wr_hostport h;

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(good); i++) {
		assert_null(wr_hostport_split(good[i].s, &h));
		assert_int_equal(h.len, strlen(good[i].host));
		assert_memory_equal(h.host, good[i].host, h.len);
		assert_int_equal(h.v6, good[i].v6);
		assert_int_equal(h.port, good[i].port);
	}
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++)
		if (!wr_hostport_split(bad[i], &h))
			fail_msg("'%s' is taken", bad[i]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_grow__keeps_content_and_reaches_need),
	    cmocka_unit_test(test_alloc__zero_sizes_are_legal),
	    cmocka_unit_test(test_alloc__overflow_ends_the_process),
	    cmocka_unit_test(test_assert__stays_on),
	    cmocka_unit_test(test_steal__leaves_null),
	    cmocka_unit_test(test_ts__order_across_1970),
	    cmocka_unit_test(test_buf__integers_are_big_endian),
	    cmocka_unit_test(test_rd__after_the_end_everything_is_zero),
	    cmocka_unit_test(test_rd__empty_read_at_the_end_is_fine),
	    cmocka_unit_test(test_buf__format_and_detach),
	    cmocka_unit_test(test_buf__a_long_format_is_not_cut),
	    cmocka_unit_test(test_err__wrap_keeps_code_and_puts_text_in_front),
	    cmocka_unit_test(test_err__set_drops_the_hint_of_an_older_error),
	    cmocka_unit_test(test_err__system_errors_find_their_code),
	    cmocka_unit_test(test_err__null_is_allowed),
	    cmocka_unit_test(test_err__long_texts_are_cut_not_overrun),
	    cmocka_unit_test(test_err__table_is_the_documented_one),
	    cmocka_unit_test(test_quote__terminals_and_logs_are_safe),
	    cmocka_unit_test(test_quote__long_names_are_cut_and_fit),
	    cmocka_unit_test(test_utf8__what_is_well_formed),
	    cmocka_unit_test(test_utf8__lossy_copy_is_valid),
	    cmocka_unit_test(test_base64__vectors_of_rfc_4648),
	    cmocka_unit_test(test_parse__numbers),
	    cmocka_unit_test(test_parse__sizes),
	    cmocka_unit_test(test_parse__decimals),
	    cmocka_unit_test(test_parse__durations_and_back),
	    cmocka_unit_test(test_parse__booleans),
	    cmocka_unit_test(test_parse__times_and_back),
	    cmocka_unit_test(test_format__sizes_read_back_exactly),
	    cmocka_unit_test(test_format__for_people),
	    cmocka_unit_test(test_format__times_are_utc_in_any_zone),
	    cmocka_unit_test(test_utc__calendar_and_back),
	    cmocka_unit_test(test_hostport__is_taken_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

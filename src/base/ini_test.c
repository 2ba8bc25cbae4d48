/* SPDX-License-Identifier: Apache-2.0 */
#include "base/ini.h"

#include <setjmp.h>

#include <cmocka.h>

#include "base/buf.h"

/* "section.key=value;" for each, and an error at the key "stop". */
static int
note(void *ctx, unsigned line, const char *section, const char *key, const char *value,
     struct wr_err *err)
{
	wr_buf_addf(ctx, "%u:%s.%s=%s;", line, section, key, value);
	return strcmp(key, "stop") ? 0 : wr_err_set(err, WR_E_DENIED, "no");
}

static void
gives(const char *text, const char *want)
{
	struct wr_buf b = WR_BUF_INIT;
	struct wr_err e = WR_ERR_INIT;

	if (wr_ini_parse("f", text, strlen(text), note, &b, &e) < 0)
		fail_msg("%s", e.msg);
	assert_string_equal(wr_buf_str(&b), want);
	wr_buf_fini(&b);
}

static void
refused(const char *text, size_t len, const char *where)
{
	struct wr_buf b = WR_BUF_INIT;
	struct wr_err e = WR_ERR_INIT;

	assert_int_equal(wr_ini_parse("my.conf", text, len, note, &b, &e), -1);
	assert_int_equal(e.code, WR_E_INVALID);
	if (strncmp(e.msg, where, strlen(where)) != 0)
		fail_msg("%s", e.msg);
	wr_buf_fini(&b);
}

static void
test_parse__sections_keys_values(void **state)
{
	(void)state;
	gives("", "");
	gives("a=1", "1:.a=1;");
	gives("\n# c\n; d\n  # e\n[one]\n a b = x y \t\n[ two ]\r\nc=\r\n",
	      "6:one.a b=x y;8:two.c=;");
	gives("[s]\nu = http://h/#frag;x = y # no comment\n",
	      "2:s.u=http://h/#frag;x = y # no comment;");
	gives("a=\"  kept  \"\nb=\"\"\nc = it is \"so\"\n",
	      "1:.a=  kept  ;2:.b=;3:.c=it is \"so\";");
	gives("\xc3\xa4=\xe2\x82\xac\n", "1:.\xc3\xa4=\xe2\x82\xac;");
}

static void
test_parse__errors_name_file_and_line(void **state)
{
	static const char *const bad[] = {"x",      "=1",     "[s",       "[]",        "[a]b",
					  "[a[b]",  "a=\"x",  "a=\"x\"y", "a=\"",      "a=\"x\"\"",
					  "a=\xff", "a=\x1b", "a=\x7f",   "a=\xc2\x85"};
	struct wr_buf b = WR_BUF_INIT;
	struct wr_err e = WR_ERR_INIT;

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		WR_SCOPED(wr_freep) char *text = wr_asprintf("[ok]\nk=v\n%s\nk=v\n", bad[i]);

		refused(text, strlen(text), "my.conf:3: ");
	}
	refused("a=\0", 3, "my.conf:1: ");
	/* What the reader of the values says comes with the place as well, its code kept. */
	assert_int_equal(wr_ini_parse("f", "a=1\nstop=1\nb=1\n", 15, note, &b, &e), -1);
	assert_int_equal(e.code, WR_E_DENIED);
	assert_string_equal(e.msg, "f:2: no");
	assert_string_equal(wr_buf_str(&b), "1:.a=1;2:.stop=1;");
	wr_buf_fini(&b);
}

static void
test_parse__limits(void **state)
{
	struct wr_buf b = WR_BUF_INIT, out = WR_BUF_INIT;

	(void)state;
	wr_buf_addf(&b, "k=%04094d\n", 0);
	assert_int_equal(wr_ini_parse("f", b.p, b.len, note, &out, NULL), 0);
	wr_buf_clear(&b);
	wr_buf_addf(&b, "k=%04095d\n", 0);
	refused((const char *)b.p, b.len, "my.conf:1: ");
	wr_buf_clear(&b);
	wr_buf_addf(&b, "[%04094d]\nk=v\n", 0);
	assert_int_equal(wr_ini_parse("f", b.p, b.len, note, &out, NULL), 0);
	wr_buf_clear(&b);
	while (b.len < WR_INI_MAX)
		wr_buf_adds(&b, "#\n");
	assert_int_equal(wr_ini_parse("f", b.p, b.len, note, &out, NULL), 0);
	wr_buf_adds(&b, "\n");
	refused((const char *)b.p, b.len, "'my.conf' is larger");
	wr_buf_fini(&b);
	wr_buf_fini(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_parse__sections_keys_values),
	    cmocka_unit_test(test_parse__errors_name_file_and_line),
	    cmocka_unit_test(test_parse__limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

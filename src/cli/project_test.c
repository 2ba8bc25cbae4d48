/* SPDX-License-Identifier: Apache-2.0 */
/* What is read out of arguments before anyone is asked. */
#include "cli/project.h"

#include <setjmp.h>

#include <cmocka.h>

#include "cli/options.h"

static const struct wr_cmd one = {.path = "show", .pos = {{.name = "ID", .lead = true}}};
static const struct wr_cmd path = {
    .path = "read",
    .pos = {{.name = "ID", .lead = true}, {.name = "PATH"}},
};
static const struct wr_cmd maybe = {
    .path = "ls",
    .pos = {{.name = "ID", .lead = true}, {.name = "SNAP", .optional = true}},
};
static const struct wr_cmd many = {
    .path = "cat",
    .pos = {{.name = "ID", .lead = true}, {.name = "SNAP:PATH", .repeat = true}},
};

static bool
given(const struct wr_cmd *c, const char *first, size_t count)
{
	const char *pos[] = {first, "x", "x", "x"};
	struct wr_args a = {.cmd = c, .pos = pos, .pos_count = count};

	return wr_target_given(&a);
}

static void
test_given__the_number_decides(void **state)
{
	(void)state;
	assert_false(given(&one, NULL, 0));
	assert_true(given(&one, "alice", 1));
	assert_true(given(&one, "No Name", 1)); /* whatever it is: nothing else is taken */
	assert_false(given(&path, "alice", 1));
	assert_true(given(&path, "No Name", 2));
	assert_false(given(&many, "alice", 1));
}

static void
test_given__else_the_form_does(void **state)
{
	(void)state;
	assert_false(given(&maybe, NULL, 0));
	assert_true(given(&maybe, "alice", 1));
	assert_true(given(&maybe, ".", 1));
	assert_true(given(&maybe, "1c6d474f", 1));
	assert_false(given(&maybe, "main/latest", 1));
	assert_false(given(&maybe, "latest:docs", 1));
	assert_true(given(&maybe, "No Name", 2));
	assert_true(given(&many, "alice", 3));
	assert_false(given(&many, "latest:a", 3));
}

static void
test_cut__colons_of_a_time_are_its_own(void **state)
{
	static const struct {
		const char *spec, *snap, *path;
	} rows[] = {
	    {"latest", "latest", NULL},
	    {"latest:", "latest", ""},
	    {"latest:a:b", "latest", "a:b"},
	    {":a", "", "a"},
	    {"", "", NULL},
	    {"main/2026-11-22-101530:a", "main/2026-11-22-101530", "a"},
	    {"2026-11-22:a", "2026-11-22", "a"},
	    {"2026-11-22T10:15", "2026-11-22T10:15", NULL},
	    {"2026-11-22T10:15:a", "2026-11-22T10:15", "a"},
	    {"2026-11-22T10:15Z:a", "2026-11-22T10:15Z", "a"},
	    {"2026-11-22T10:15:30", "2026-11-22T10:15:30", NULL},
	    {"2026-11-22T10:15:30Z:a", "2026-11-22T10:15:30Z", "a"},
	    {"main/2026-11-22T10:15:30:a", "main/2026-11-22T10:15:30", "a"},
	    {"2026-11-22T10:15:30days", "2026-11-22T10:15", "30days"},
	    {"2026-11-22T10:1", "2026-11-22T10", "1"},
	    {"6-11-22T10:15", "6-11-22T10", "15"},
	};

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(rows); i++) {
		char *snap, *p;

		wr_snapshot_cut(rows[i].spec, &snap, &p);
		assert_string_equal(snap, rows[i].snap);
		if (rows[i].path)
			assert_string_equal(p, rows[i].path);
		else
			assert_null(p);
		free(snap);
		free(p);
	}
}

static void
test_path__loses_the_home(void **state)
{
	static char home[] = "/home/alice/";
	struct wr_target t = {.home = home};

	(void)state;
	assert_string_equal(wr_target_path(&t, "/home/alice/a/b"), "a/b");
	assert_string_equal(wr_target_path(&t, "/home/alice"), "");
	assert_string_equal(wr_target_path(&t, "/home/alicia/a"), "/home/alicia/a");
	assert_string_equal(wr_target_path(&t, "a/b"), "a/b");
	t.home = NULL;
	assert_string_equal(wr_target_path(&t, "/home/alice/a"), "/home/alice/a");
}

static void
test_exact__no_beginnings(void **state)
{
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	assert_int_equal(wr_target_exact("alice", NULL), 0);
	assert_int_equal(wr_target_exact("1c6d474f-17ec-4484-9d9e-3d0f30fb1cc8", NULL), 0);
	assert_int_equal(wr_target_exact("1c6d474f", &err), -1);
	assert_non_null(strstr(err.msg, "only the beginning"));
	assert_int_equal(wr_target_exact(".", &err), -1);
	assert_int_equal(wr_target_exact("", &err), -1);
}

static void
test_ask__query_and_body(void **state)
{
	struct wr_ask r;
	struct wr_buf b = WR_BUF_INIT;

	(void)state;
	wr_ask_init(&r, WR_API_READ, "a/b");
	wr_ask_path(&r, "path", "\xff &=+%");
	wr_ask_str(&r, "format", NULL);
	wr_ask_u64(&r, "max_size", 7);
	assert_string_equal(wr_buf_str(&r.target),
			    "/v1/projects/a%2Fb/read?path=%FF%20%26%3D%2B%25&max_size=7");
	assert_null(r.body);
	wr_ask_fini(&r);

	wr_ask_init(&r, WR_API_CREATE, NULL);
	wr_ask_path(&r, "from", "/a\xff");
	wr_ask_flag(&r, "adopt", false);
	assert_int_equal(wr_ask_pair(&r, "labels", "k=v=w", NULL), 0);
	assert_int_equal(wr_ask_pair(&r, "labels", "x", NULL), -1);
	assert_int_equal(wr_ask_pair(&r, "labels", "=x", NULL), -1);
	wr_json_write(r.body, &b);
	assert_string_equal(wr_buf_str(&b), "{\"from_b64\":\"L2H/\",\"labels\":{\"k\":\"v=w\"}}");
	wr_ask_fini(&r);
	wr_buf_fini(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_given__the_number_decides),
	    cmocka_unit_test(test_given__else_the_form_does),
	    cmocka_unit_test(test_cut__colons_of_a_time_are_its_own),
	    cmocka_unit_test(test_path__loses_the_home),
	    cmocka_unit_test(test_exact__no_beginnings),
	    cmocka_unit_test(test_ask__query_and_body),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

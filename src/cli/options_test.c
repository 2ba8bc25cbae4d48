/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing, with a command of its own, so that no real one has to change for it. */
#include "cli/options.h"

#include <setjmp.h>

#include <cmocka.h>

static const char *const colors[] = {"red", "green", NULL};

static const struct wr_opt opts[] = {
    {.name = "name", .letter = 'n', .kind = WR_OPT_STR, .value = "NAME", .help = "a name"},
    {.name = "long", .letter = 'l', .kind = WR_OPT_FLAG, .help = "long"},
    {.name = "all", .letter = 'a', .kind = WR_OPT_FLAG, .help = "all"},
    {.name = "exclude", .letter = 'e', .kind = WR_OPT_LIST, .value = "PATTERN", .help = "no"},
    {.name = "size", .kind = WR_OPT_SIZE, .value = "SIZE", .help = "size"},
    {.name = "bits", .kind = WR_OPT_U64, .value = "N", .help = "bits", .min = 13, .max = 19},
    {.name = "date", .letter = 'd', .kind = WR_OPT_TIME, .value = "SECONDS", .help = "date"},
    {.name = "color", .kind = WR_OPT_CHOICE, .value = "C", .help = "color", .choices = colors},
    {0},
};

static const struct wr_opt lead_opts[] = {
    {.name = "wait", .kind = WR_OPT_DURATION, .value = "TIME", .help = "wait", .max = 3600},
    {0},
};

static const struct wr_cmd cmd = {
    .path = "repo try",
    .summary = "try",
    .flags = WR_CMD_REPO,
    .pos = {{.name = "A"}, {.name = "B", .optional = true}, {.name = "C"}},
    .opts = opts,
};

static const struct wr_cmd list_cmd = {
    .path = "list",
    .summary = "list",
    .flags = WR_CMD_JSON,
    .pos = {{.name = "WORD", .repeat = true}},
};

static const struct wr_cmd init_cmd = {
    .path = "repo init",
    .summary = "init",
    .flags = WR_CMD_REPO,
    .pos = {{.name = "REPO", .optional = true}},
};

static const struct wr_cmd lead_cmd = {
    .path = "diff",
    .summary = "diff",
    .flags = WR_CMD_CLIENT | WR_CMD_NO_WAIT | WR_CMD_JSON,
    .pos = {{.name = "ID", .lead = true}, {.name = "A"}, {.name = "B", .optional = true}},
    .opts = lead_opts,
};

/* Parse words separated by '|', so that words may hold blanks and be empty. */
static int
parse(struct wr_args *a, const struct wr_cmd *c, const char *words, struct wr_err *err)
{
	static char text[500];
	static char *argv[50];
	int argc = 0;

	snprintf(text, sizeof(text), "%s", words);
	for (char *p = text; p;) {
		char *bar = strchr(p, '|');

		argv[argc++] = p;
		if (bar)
			*bar++ = '\0';
		p = bar;
	}
	return wr_args_parse(a, c, *words ? argc : 0, argv, err);
}

static void
refuse(const struct wr_cmd *c, const char *words, const char *in_message, const char *in_hint)
{
	struct wr_args a;
	struct wr_err err = WR_ERR_INIT;

	assert_int_equal(parse(&a, c, words, &err), -1);
	assert_int_equal(err.code, WR_E_USAGE);
	if (!strstr(err.msg, in_message) || !strstr(err.hint, in_hint))
		fail_msg("'%s': got '%s' with hint '%s'", words, err.msg, err.hint);
}

static void
test_parse__every_way_to_write_a_value(void **state)
{
	static const char *const ways[] = {"--name=v|x", "--name|v|x", "-nv|x",    "-n|v|x",
					   "x|-n|v",     "-lnv|x",     "-lan|v|x", "-n|w|-n|v|x"};

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(ways); i++) {
		struct wr_args a;

		assert_int_equal(parse(&a, &cmd, ways[i], NULL), 0);
		assert_string_equal(wr_arg_str(&a, "name"), "v");
		assert_int_equal(a.pos_count, 1);
		assert_string_equal(a.pos[0], "x");
		wr_args_fini(&a);
	}
}

static void
test_parse__flags_and_defaults(void **state)
{
	struct wr_args a;

	(void)state;
	assert_int_equal(parse(&a, &cmd, "x|-la|--json", NULL), 0);
	assert_true(wr_arg_flag(&a, "long"));
	assert_true(wr_arg_flag(&a, "all"));
	assert_true(wr_arg_flag(&a, "json"));
	assert_false(wr_arg_flag(&a, "quiet"));
	assert_null(wr_arg_str(&a, "name"));
	assert_true(wr_arg_u64(&a, "bits", 5) == 5);
	assert_int_equal(wr_arg_choice(&a, "color", -1), -1);
	wr_args_fini(&a);
	wr_args_fini(&a);
}

static void
test_parse__values_may_look_like_anything(void **state)
{
	struct wr_args a;

	(void)state;
	assert_int_equal(parse(&a, &cmd, "--name=|--exclude|--all|--exclude=a=b|--|--long", NULL),
			 0);
	assert_string_equal(wr_arg_str(&a, "name"), "");
	assert_false(wr_arg_flag(&a, "all"));
	assert_false(wr_arg_flag(&a, "long"));
	assert_string_equal(a.pos[0], "--long");
	wr_args_fini(&a);
	/* A lone dash is an argument. */
	assert_int_equal(parse(&a, &list_cmd, "-|--|-|--", NULL), 0);
	assert_int_equal(a.pos_count, 3);
	assert_string_equal(a.pos[2], "--");
	wr_args_fini(&a);
}

static void
test_parse__lists_keep_their_order(void **state)
{
	const char *const *v;
	struct wr_args a;

	(void)state;
	assert_int_equal(parse(&a, &cmd, "-ea|x|--exclude|b|--exclude=c", NULL), 0);
	assert_int_equal(wr_arg_list(&a, "exclude", &v), 3);
	assert_string_equal(v[0], "a");
	assert_string_equal(v[1], "b");
	assert_string_equal(v[2], "c");
	wr_args_fini(&a);
	assert_int_equal(parse(&a, &cmd, "x", NULL), 0);
	assert_int_equal(wr_arg_list(&a, "exclude", &v), 0);
	wr_args_fini(&a);
}

static void
test_parse__numbers(void **state)
{
	struct wr_args a;

	(void)state;
	assert_int_equal(parse(&a, &cmd, "x|--size=3K|--bits|13|-d|1795342530", NULL), 0);
	assert_true(wr_arg_u64(&a, "size", 0) == 3072);
	assert_true(wr_arg_u64(&a, "bits", 0) == 13);
	assert_true(wr_arg_u64(&a, "date", 0) == 1795342530);
	wr_args_fini(&a);
	assert_int_equal(parse(&a, &cmd, "x|-d9223372036854775807|--color=green", NULL), 0);
	assert_true(wr_arg_u64(&a, "date", 0) == INT64_MAX);
	assert_int_equal(wr_arg_choice(&a, "color", -1), 1);
	wr_args_fini(&a);
	refuse(&cmd, "x|--bits=12", "12 is out of range", "from 13 to 19");
	refuse(&cmd, "x|--bits=20", "out of range", "13");
	refuse(&cmd, "x|--bits=", "number", "");
	refuse(&cmd, "x|--size=1X", "'1X' is not a size", "500M");
	refuse(&cmd, "x|-d|9223372036854775808", "out of range", "");
	refuse(&cmd, "x|-d|-5", "'-5' is not a number", "date +%s");
	refuse(&cmd, "x|--color=blue", "'blue'", "red, green");
	refuse(&cmd, "x|--color=gre", "'gre'", "red, green");
}

static void
test_parse__refusals(void **state)
{
	(void)state;
	refuse(&cmd, "x|--nmae=v", "unknown option '--nmae'", "did you mean '--name'?");
	refuse(&cmd, "x|--excl", "unknown option '--excl'", "did you mean '--exclude'?");
	refuse(&cmd, "x|--zzzzzz", "unknown option '--zzzzzz'", "repo try --help");
	refuse(&cmd, "x|-z", "unknown option '-z'", "--help");
	refuse(&cmd, "x|-lz", "unknown option '-z'", "--help");
	refuse(&cmd, "x|-5", "unknown option '-5'", "--");
	refuse(&cmd, "x|-\xc3\xa4", "unknown option '-\xc3\xa4'", "");
	refuse(&cmd, "x|-\x1b", "unknown option '-\\x1b'", "");
	refuse(&cmd, "x|--long=yes", "'--long' takes no value", "");
	refuse(&cmd, "x|--name", "'-n, --name' needs a value: NAME", "");
	refuse(&cmd, "x|-n", "needs a value", "");
	refuse(&cmd, "x|-ln", "needs a value", "");
	refuse(&cmd, "x|--=v", "unknown option '--'", "");
}

static void
test_parse__arguments_are_counted(void **state)
{
	struct wr_args a;

	(void)state;
	refuse(&cmd, "", "argument A is missing", "");
	refuse(&cmd, "a|b", "argument C is missing", "");
	refuse(&cmd, "a|b|c|d", "unexpected argument 'd'", "");
	assert_int_equal(parse(&a, &cmd, "a|b|c", NULL), 0);
	wr_args_fini(&a);
	refuse(&list_cmd, "", "argument WORD is missing", "");
	assert_int_equal(parse(&a, &list_cmd, "a|b|c|d|e|f", NULL), 0);
	assert_int_equal(a.pos_count, 6);
	wr_args_fini(&a);
	/* An empty argument is one. */
	assert_int_equal(parse(&a, &list_cmd, "|", NULL), 0);
	assert_int_equal(a.pos_count, 2);
	wr_args_fini(&a);
}

static void
test_parse__help_wins_over_what_is_missing(void **state)
{
	struct wr_args a;

	(void)state;
	assert_int_equal(parse(&a, &cmd, "--help", NULL), 0);
	assert_true(wr_arg_flag(&a, "help"));
	wr_args_fini(&a);
	assert_int_equal(parse(&a, &cmd, "-h|--nonsense", NULL), 0);
	wr_args_fini(&a);
}

static void
test_repo__where_it_comes_from(void **state)
{
	struct wr_err err = WR_ERR_INIT;
	struct wr_args a;

	(void)state;
	unsetenv("WARREN_REPO");
	assert_int_equal(parse(&a, &cmd, "x", NULL), 0);
	assert_null(wr_arg_repo(&a, &err));
	assert_int_equal(err.code, WR_E_USAGE);
	setenv("WARREN_REPO", "", 1);
	assert_null(wr_arg_repo(&a, NULL));
	setenv("WARREN_REPO", "/from/env", 1);
	assert_string_equal(wr_arg_repo(&a, NULL), "/from/env");
	wr_args_fini(&a);
	assert_int_equal(parse(&a, &init_cmd, "-r|/from/option", NULL), 0);
	assert_string_equal(wr_arg_repo(&a, NULL), "/from/option");
	wr_args_fini(&a);
	assert_int_equal(parse(&a, &init_cmd, "-r|/from/option|/from/argument", NULL), 0);
	assert_string_equal(wr_arg_repo(&a, NULL), "/from/argument");
	wr_args_fini(&a);
	unsetenv("WARREN_REPO");
}

static void
test_parse__the_first_may_be_left_out(void **state)
{
	static const char *const right[] = {"a", "id|a", "id|a|b"};

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(right); i++) {
		struct wr_args a;

		assert_int_equal(parse(&a, &lead_cmd, right[i], NULL), 0);
		assert_int_equal(a.pos_count, i + 1);
		wr_args_fini(&a);
	}
	refuse(&lead_cmd, "", "argument A is missing", "see");
	refuse(&lead_cmd, "id|a|b|c", "unexpected argument 'c'", "see");
}

static void
test_parse__durations(void **state)
{
	struct wr_args a;

	(void)state;
	assert_int_equal(parse(&a, &lead_cmd, "a|--wait=5min|--no-wait|-q", NULL), 0);
	assert_int_equal(wr_arg_u64(&a, "wait", 0), 300);
	assert_true(wr_arg_flag(&a, "no-wait"));
	wr_args_fini(&a);
	refuse(&lead_cmd, "a|--wait=5x", "option '--wait'", "durations");
	refuse(&lead_cmd, "a|--wait=2h", "out of range", "from 0 to 3600");
}

static void
test_synopsis__brackets(void **state)
{
	char *s = wr_cmd_synopsis(&cmd);

	(void)state;
	assert_string_equal(s, "[OPTION]... A [B C]");
	free(s);
	s = wr_cmd_synopsis(&list_cmd);
	assert_string_equal(s, "[OPTION]... WORD...");
	free(s);
	s = wr_cmd_synopsis(&lead_cmd);
	assert_string_equal(s, "[OPTION]... [ID] A [B]");
	free(s);
	s = wr_cmd_man_name(&cmd);
	assert_string_equal(s, "warren-repo-try");
	free(s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_parse__every_way_to_write_a_value),
	    cmocka_unit_test(test_parse__flags_and_defaults),
	    cmocka_unit_test(test_parse__values_may_look_like_anything),
	    cmocka_unit_test(test_parse__lists_keep_their_order),
	    cmocka_unit_test(test_parse__numbers),
	    cmocka_unit_test(test_parse__refusals),
	    cmocka_unit_test(test_parse__arguments_are_counted),
	    cmocka_unit_test(test_parse__help_wins_over_what_is_missing),
	    cmocka_unit_test(test_repo__where_it_comes_from),
	    cmocka_unit_test(test_parse__the_first_may_be_left_out),
	    cmocka_unit_test(test_parse__durations),
	    cmocka_unit_test(test_synopsis__brackets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/control/rules.h"

#include <setjmp.h>
/* cmocka wants these four before it */
#include <cmocka.h>

static const struct wr_uuid p1 = {"11111111-1111-4111-8111-111111111111"};
static const struct wr_uuid p2 = {"22222222-2222-4222-8222-222222222222"};

static bool
may(const struct wr_who *w, enum wr_api_call_id id, const struct wr_uuid *project)
{
	return wr_who_may(w, &wr_api_calls[id], project);
}

static void
test_authority__nobody(void **state WR_UNUSED)
{
	struct wr_who w;

	wr_who_init(&w, 1000);
	assert_string_equal(w.by, "uid 1000");
	for (int id = WR_API_NONE + 1; id < WR_API_CALLS; id++) {
		bool open = wr_api_calls[id].scope == WR_SCOPE_PUBLIC;

		assert_int_equal(may(&w, (enum wr_api_call_id)id, NULL), open);
		assert_int_equal(may(&w, (enum wr_api_call_id)id, &p1), open);
	}
	assert_false(wr_who_sees(&w, &p1));
	assert_false(wr_who_sees(&w, NULL));
}

static void
test_authority__project(void **state WR_UNUSED)
{
	struct wr_who w;

	wr_who_init(&w, 1000);
	wr_who_grant(&w, WR_SCOPE_PROJECT, &p1);
	wr_who_grant(&w, WR_SCOPE_PROJECT, &p1);
	assert_int_equal(w.own_count, 1);
	for (int id = WR_API_NONE + 1; id < WR_API_CALLS; id++) {
		enum wr_scope s = wr_api_calls[id].scope;
		bool his = s == WR_SCOPE_PUBLIC || s == WR_SCOPE_PROJECT;

		assert_int_equal(may(&w, (enum wr_api_call_id)id, &p1), his);
		assert_int_equal(may(&w, (enum wr_api_call_id)id, &p2), s == WR_SCOPE_PUBLIC);
	}
	assert_true(wr_who_sees(&w, &p1));
	assert_false(wr_who_sees(&w, &p2));
	assert_false(wr_who_sees(&w, NULL));
}

static void
test_authority__read_is_no_reading_of_files(void **state WR_UNUSED)
{
	struct wr_who w;

	wr_who_init(&w, 1000);
	wr_who_grant(&w, WR_SCOPE_READ, NULL);
	assert_true(may(&w, WR_API_SHOW, &p1));
	assert_true(may(&w, WR_API_NODE, NULL));
	assert_true(may(&w, WR_API_LIST, NULL));
	assert_false(may(&w, WR_API_READ, &p1));
	assert_false(may(&w, WR_API_CAT, &p1));
	assert_false(may(&w, WR_API_SAVE, &p1));
	assert_false(may(&w, WR_API_CREATE, NULL));
	/* A second piece of evidence adds to the first. */
	wr_who_grant(&w, WR_SCOPE_PROJECT, &p1);
	assert_true(may(&w, WR_API_READ, &p1));
	assert_false(may(&w, WR_API_READ, &p2));
}

static void
test_authority__operators_and_admins(void **state WR_UNUSED)
{
	struct wr_who o, a;

	wr_who_init(&o, 1);
	wr_who_init(&a, 2);
	wr_who_grant(&o, WR_SCOPE_OPERATE, NULL);
	wr_who_grant(&a, WR_SCOPE_ADMIN, NULL);
	for (int id = WR_API_NONE + 1; id < WR_API_CALLS; id++) {
		assert_true(may(&a, (enum wr_api_call_id)id, &p1));
		assert_int_equal(may(&o, (enum wr_api_call_id)id, &p1),
				 wr_api_calls[id].scope != WR_SCOPE_ADMIN);
	}
}

static void
test_rate(void **state WR_UNUSED)
{
	struct wr_tally r = {0};
	unsigned hidden, told = 0;
	uint64_t t = 100000000000u;

	for (int i = 0; i < 200; i++)
		told += wr_tally_pass(&r, t + (uint64_t)i, 50, &hidden);
	assert_int_equal(told, 50);
	assert_int_equal(hidden, 0);
	assert_int_equal(wr_tally_flush(&r, t + 1000), 0);
	assert_int_equal(wr_tally_flush(&r, t + 60000000000u), 150);
	assert_int_equal(wr_tally_flush(&r, t + 120000000000u), 0);
	for (int i = 0; i < 51; i++)
		wr_tally_pass(&r, t + 130000000000u, 50, &hidden);
	assert_true(wr_tally_pass(&r, t + 200000000000u, 50, &hidden));
	assert_int_equal(hidden, 1);
}

static json_t *
args(const char *text)
{
	json_t *o = wr_json_parse(text, strlen(text), NULL);

	assert_non_null(o);
	return o;
}

static void
check_join(const char *waiting, const char *wish, const char *merged)
{
	WR_SCOPED(wr_json_freep) json_t *a = args(waiting);
	WR_SCOPED(wr_json_freep) json_t *b = args(wish);
	WR_SCOPED(wr_json_freep) json_t *got = NULL;

	assert_int_equal(wr_save_joins(a, b, &got), merged != NULL);
	if (merged) {
		WR_SCOPED(wr_json_freep) json_t *want = args(merged);

		assert_true(json_equal(got, want));
	} else {
		assert_null(got);
	}
}

static void
test_joins(void **state WR_UNUSED)
{
	check_join("{}", "{}", "{}");
	check_join("{}", "{\"tag\":\"x\"}", "{\"tag\":\"x\"}");
	check_join("{\"tag\":\"x\"}", "{}", "{\"tag\":\"x\"}");
	check_join("{\"tag\":\"x\"}", "{\"tag\":\"x\",\"message\":\"m\"}",
		   "{\"tag\":\"x\",\"message\":\"m\"}");
	/* One snapshot cannot have both: such a wish waits for a save of its own. */
	check_join("{\"tag\":\"x\"}", "{\"tag\":\"y\"}", NULL);
	check_join("{\"message\":\"x\"}", "{\"message\":\"y\"}", NULL);
}

static void
test_due(void **state WR_UNUSED)
{
	uint64_t hits[10] = {0};

	assert_true(wr_save_due(1000, 0, 90, &p1) == UINT64_MAX);
	for (uint64_t last = 100000; last < 101000; last += 7) {
		uint64_t due = wr_save_due(last, 300, 90, &p1);

		assert_true(due >= last + 90 && due <= last + 300);
		/* Settled on its phase it stays there. */
		due = wr_save_due(due, 300, 0, &p1);
		assert_int_equal(wr_save_due(due, 300, 90, &p1), due + 300);
	}
	/* An interval below the minimum is the user's own wish. */
	assert_true(wr_save_due(1000, 10, 90, &p1) <= 1010);
	/* Many projects that begin at one time are spread. */
	for (int i = 0; i < 2000; i++) {
		struct wr_uuid id;

		wr_uuid_new(&id);
		hits[(wr_save_due(30000, 300, 0, &id) - 30000 - 1) / 30]++;
	}
	for (size_t i = 0; i < WR_ARRAY_LEN(hits); i++)
		assert_true(hits[i] > 100 && hits[i] < 320);
}

static void
test_holders(void **state WR_UNUSED)
{
	WR_SCOPED(wr_json_freep) json_t *h = wr_holders_parse(NULL);
	WR_SCOPED(wr_json_freep) json_t *again = NULL;
	WR_SCOPED(wr_json_freep) json_t *bad = wr_holders_parse("{\"no\":\"list\"}");
	WR_SCOPED(wr_freep) char *text = NULL;
	struct wr_err err = WR_ERR_INIT;

	assert_int_equal(json_array_size(h), 0);
	assert_int_equal(json_array_size(bad), 0);
	assert_true(wr_holders_add(h, "one", 0));
	assert_false(wr_holders_add(h, "one", 5));
	assert_true(wr_holders_add(h, "two", 0));
	text = wr_holders_text(h);
	again = wr_holders_parse(text);
	assert_true(json_equal(h, again));
	assert_true(wr_holders_drop(h, "one"));
	assert_false(wr_holders_drop(h, "one"));
	assert_int_equal(json_array_size(h), 1);
	assert_int_equal(wr_holder_check("jupyter: server 1", &err), 0);
	assert_int_equal(wr_holder_check("", &err), -1);
	assert_int_equal(wr_holder_check("a\nb", &err), -1);
	assert_non_null(strstr(err.msg, "holder"));
}

static void
test_glob(void **state WR_UNUSED)
{
	assert_true(wr_glob_name("*", ""));
	assert_true(wr_glob_name("a*b?d", "axxbxd"));
	assert_true(wr_glob_name("*.x", "a.x.x"));
	assert_false(wr_glob_name("a*b", "axxbx"));
	assert_false(wr_glob_name("a", "ab"));
	assert_false(wr_glob_name("a?", "a"));
	/* Linear, whatever the pattern. */
	assert_false(
	    wr_glob_name("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b",
			 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
}

static void
test_who__nobody_and_who_makes_tokens(void **state)
{
	const struct wr_uuid a = {"0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d"},
			     b = {"1b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d"};
	struct wr_who w;

	(void)state;
	wr_who_init_nobody(&w, "192.0.2.1");
	assert_string_equal(w.by, "address 192.0.2.1");
	for (unsigned i = WR_API_NONE + 1; i < WR_API_CALLS; i++)
		assert_int_equal(wr_who_may(&w, &wr_api_calls[i], NULL),
				 wr_api_calls[i].scope == WR_SCOPE_PUBLIC);
	assert_false(wr_who_mints(&w, NULL));
	assert_false(wr_who_mints(&w, &a));
	/* A token of a project opens it, and makes no further ones. */
	wr_who_grant(&w, WR_SCOPE_PROJECT, &a);
	assert_true(wr_who_may(&w, &wr_api_calls[WR_API_SHOW], &a));
	assert_false(wr_who_mints(&w, &a));
	wr_who_grant(&w, WR_SCOPE_OPERATE, NULL);
	assert_false(wr_who_mints(&w, NULL));
	wr_who_grant(&w, WR_SCOPE_ADMIN, NULL);
	assert_true(wr_who_mints(&w, NULL));
	assert_true(wr_who_mints(&w, &b));
	/* Its own user does. */
	wr_who_init(&w, 1000);
	wr_who_grant(&w, WR_SCOPE_PROJECT, &a);
	w.by_uid = a;
	assert_true(wr_who_mints(&w, &a));
	assert_false(wr_who_mints(&w, &b));
	assert_false(wr_who_mints(&w, NULL));
}

static void
test_wrongs__bounded_by_address(void **state)
{
	struct wr_wrongs *w = calloc(1, sizeof(*w));
	struct wr_from a = {{1}}, b = {{2}};
	const uint64_t minute = 60000000000u;
	uint64_t now = 5 * minute;

	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_false(wr_wrongs_too_many(w, &a, now, 3));
		assert_false(wr_wrongs_add(w, &a, now, 3));
	}
	assert_true(wr_wrongs_add(w, &a, now, 3)); /* told once */
	assert_true(wr_wrongs_too_many(w, &a, now, 3));
	assert_false(wr_wrongs_add(w, &a, now, 3));
	assert_false(wr_wrongs_too_many(w, &b, now, 3));
	assert_true(wr_wrongs_too_many(w, &a, now + minute - 1, 3));
	assert_false(wr_wrongs_too_many(w, &a, now + minute, 3));
	/* However many come, memory is bounded: the oldest makes room. */
	for (uint32_t i = 0; i < 10 * WR_WRONGS_MAX; i++) {
		struct wr_from f = {{0}};

		memcpy(f.b + 8, &i, sizeof(i));
		wr_wrongs_add(w, &f, now + 1 + i, 3);
	}
	assert_false(wr_wrongs_too_many(w, &a, now + 1, 3));
	free(w);
}

static void
test_counters(void **state WR_UNUSED)
{
	const uint64_t s = 1000000000u;
	struct wr_counters k;

	wr_counters_init(&k, 0);
	assert_int_equal(wr_counters_newest(&k), 0);
	assert_int_equal(wr_counters_see(&k, 10, 1 * s), 0);
	assert_int_equal(wr_counters_see(&k, 12, 20 * s), 0);
	assert_int_equal(wr_counters_newest(&k), 12);
	/* What was on its way for a while is late, not behind. */
	assert_int_equal(wr_counters_see(&k, 9, 50 * s), 0);
	assert_int_equal(wr_counters_see(&k, 9, 62 * s), 10);
	assert_int_equal(wr_counters_see(&k, 10, 62 * s), 0);
	assert_int_equal(wr_counters_see(&k, 11, 81 * s), 12);
	assert_int_equal(wr_counters_see(&k, 12, 1000 * s), 0);
	/* Faster than anyone may: some are not noticed, and nothing overflows. */
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(wr_counters_see(&k, 100 + i, 2000 * s + i), 0);
	assert_int_equal(wr_counters_see(&k, 1100, 2061 * s), 0);
	assert_int_equal(wr_counters_newest(&k), 1100);
	assert_int_equal(wr_counters_see(&k, 12, 2062 * s), 100 + WR_COUNTER_SLOTS - 1);
	/* From the file: seen long ago. */
	wr_counters_init(&k, 500);
	assert_int_equal(wr_counters_see(&k, 499, 1), 500);
	assert_int_equal(wr_counters_see(&k, 500, 1), 0);
	assert_int_equal(wr_counters_newest(&k), 500);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_counters),
	    cmocka_unit_test(test_who__nobody_and_who_makes_tokens),
	    cmocka_unit_test(test_wrongs__bounded_by_address),
	    cmocka_unit_test(test_authority__nobody),
	    cmocka_unit_test(test_authority__project),
	    cmocka_unit_test(test_authority__read_is_no_reading_of_files),
	    cmocka_unit_test(test_authority__operators_and_admins),
	    cmocka_unit_test(test_rate),
	    cmocka_unit_test(test_joins),
	    cmocka_unit_test(test_due),
	    cmocka_unit_test(test_holders),
	    cmocka_unit_test(test_glob),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

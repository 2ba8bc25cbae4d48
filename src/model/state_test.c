/* SPDX-License-Identifier: Apache-2.0 */
/* The table of transitions as a whole, and conf/state.json. */
#include "model/state.h"

#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#define ID "0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d"

static const enum wr_state_event ends[] = {WR_EV_DONE, WR_EV_FAILED, WR_EV_INTERRUPTED,
					   WR_EV_REFUSED};

static void
test_table__every_row_is_what_next_says_and_stands_once(void **state)
{
	struct wr_transition t, u;
	size_t n = 0;

	(void)state;
	for (; wr_state_row(n, &t); n++) {
		assert_int_equal(wr_state_next(t.from, t.kind, t.ev, true), t.to_active);
		assert_int_equal(wr_state_next(t.from, t.kind, t.ev, false), t.to_inactive);
		assert_int_not_equal(t.to_active, WR_ST_UNSET);
		assert_int_not_equal(t.to_inactive, WR_ST_UNSET);
		for (size_t m = 0; m < n; m++) {
			assert_true(wr_state_row(m, &u));
			assert_false(u.from == t.from && u.kind == t.kind && u.ev == t.ev);
		}
	}
	assert_true(n > 50);
	/* No transition that is not a row. */
	for (unsigned from = 0; from <= WR_ST_ERROR; from++)
		for (unsigned kind = 0; kind < WR_OP_KINDS; kind++)
			for (unsigned ev = 0; ev <= WR_EV_REFUSED; ev++)
				if (wr_state_next(from, kind, ev, false))
					n--;
	assert_int_equal(n, 0);
}

static void
test_table__what_begins_can_end_in_every_way(void **state)
{
	struct wr_transition t;

	(void)state;
	for (size_t i = 0; wr_state_row(i, &t); i++) {
		if (t.ev != WR_EV_BEGIN)
			continue;
		assert_int_equal(t.to_active, t.to_inactive);
		for (size_t e = 0; e < WR_ARRAY_LEN(ends); e++)
			for (int active = 0; active < 2; active++) {
				enum wr_state to =
				    wr_state_next(t.to_active, t.kind, ends[e], active);

				assert_int_not_equal(to, WR_ST_UNSET);
				assert_false(wr_state_transient(to));
			}
	}
}

static void
test_table__nothing_is_unreachable_or_a_trap(void **state)
{
	bool reached[WR_ST_ERROR + 1] = {[WR_ST_ABSENT] = true}, more = true;
	struct wr_transition t;

	(void)state;
	while (more) {
		more = false;
		for (size_t i = 0; wr_state_row(i, &t); i++)
			if (reached[t.from] && !(reached[t.to_active] && reached[t.to_inactive])) {
				reached[t.to_active] = reached[t.to_inactive] = true;
				more = true;
			}
	}
	for (unsigned s = WR_ST_ABSENT; s <= WR_ST_ERROR; s++)
		assert_true(reached[s]);
	/* error is left by each of these. */
	for (unsigned k = WR_OP_START; k <= WR_OP_UNDO; k++)
		assert_true(wr_state_transient(wr_state_next(WR_ST_ERROR, k, WR_EV_BEGIN, false)));
}

static void
test_table__a_save_never_ends_in_error(void **state)
{
	(void)state;
	for (size_t e = 0; e < WR_ARRAY_LEN(ends); e++) {
		assert_int_equal(wr_state_next(WR_ST_SAVING, WR_OP_SAVE, ends[e], true),
				 WR_ST_RUNNING);
		assert_int_equal(wr_state_next(WR_ST_SAVING, WR_OP_SAVE, ends[e], false),
				 WR_ST_STOPPED);
	}
}

static void
test_table__failures_of_the_others_are_errors(void **state)
{
	static const enum wr_op_kind kinds[] = {WR_OP_START,   WR_OP_STOP, WR_OP_RESTART,
						WR_OP_RESTORE, WR_OP_UNDO, WR_OP_COPY};

	(void)state;
	for (size_t k = 0; k < WR_ARRAY_LEN(kinds); k++) {
		enum wr_state now = wr_state_next(WR_ST_ERROR, kinds[k], WR_EV_BEGIN, false);

		for (int active = 0; active < 2; active++) {
			assert_int_equal(wr_state_next(now, kinds[k], WR_EV_FAILED, active),
					 WR_ST_ERROR);
			assert_int_equal(wr_state_next(now, kinds[k], WR_EV_INTERRUPTED, active),
					 WR_ST_ERROR);
		}
	}
	assert_int_equal(wr_state_next(WR_ST_SAVING, WR_OP_RESTORE, WR_EV_REFUSED, true),
			 WR_ST_RUNNING);
	assert_int_equal(wr_state_next(WR_ST_STARTING, WR_OP_START, WR_EV_REFUSED, false),
			 WR_ST_ERROR);
}

static void
test_table__what_is_refused(void **state)
{
	(void)state;
	/* While one operation runs, no other begins. */
	for (unsigned s = WR_ST_ABSENT; s <= WR_ST_ERROR; s++)
		for (unsigned k = 0; wr_state_transient(s) && k < WR_OP_KINDS; k++)
			assert_int_equal(wr_state_next(s, k, WR_EV_BEGIN, true), WR_ST_UNSET);
	/* What runs can be started again: its command may have ended by itself. */
	assert_int_equal(wr_state_next(WR_ST_RUNNING, WR_OP_START, WR_EV_BEGIN, true),
			 WR_ST_STARTING);
	assert_int_equal(wr_state_next(WR_ST_ABSENT, WR_OP_SAVE, WR_EV_BEGIN, false), WR_ST_UNSET);
	assert_int_equal(wr_state_next(WR_ST_STOPPED, WR_OP_CREATE, WR_EV_BEGIN, false),
			 WR_ST_UNSET);
}

static void
test_names__there_and_back(void **state)
{
	(void)state;
	for (unsigned s = WR_ST_ABSENT; s <= WR_ST_ERROR; s++)
		assert_int_equal(wr_state_parse(wr_state_name(s)), s);
	assert_int_equal(wr_state_parse("unset"), WR_ST_UNSET);
	assert_int_equal(wr_state_parse("Running"), WR_ST_UNSET);
	assert_true(wr_step_known("scan"));
	assert_false(wr_step_known("scam"));
	for (const char *const *s = wr_step_names; *s; s++)
		assert_true(strlen(*s) < sizeof(((struct wr_status *)0)->step));
}

static void
test_status__there_and_back(void **state)
{
	struct wr_status s = {.state = WR_ST_SAVING,
			      .when = 1795342530,
			      .step = "scan",
			      .done = 300,
			      .total = 400,
			      .unit = "files",
			      .files = 300,
			      .files_total = 400,
			      .bytes = 7,
			      .bytes_total = 9,
			      .op = ID,
			      .op_kind = "save",
			      .active = true,
			      .epoch = 1,
			      .node = ID},
			 back;
	struct wr_err err = WR_ERR_INIT;
	json_t *o;

	(void)state;
	wr_err_set(&s.error, WR_E_NOSPACE, "it is full");
	wr_err_hint(&s.error, "free some");
	s.target[0] = (struct wr_status_target){
	    .node = ID, .name = "b", .state = "sending", .done = 5, .total = 6};
	s.target_count = 1;
	o = wr_status_json(&s);
	assert_int_equal(wr_json_get_u64(wr_json_get_obj(o, "progress"), "percent", 0), 75);
	assert_int_equal(json_array_size(wr_json_get_arr(o, "targets")), 1);
	assert_string_equal(wr_json_get_str(o, "when", ""), "2026-11-22T10:15:30Z");
	assert_int_equal(wr_status_parse(o, &back, &err), 0);
	json_decref(o);
	assert_memory_equal(&back.when, &s.when, sizeof(s.when));
	assert_int_equal(back.target_count, 1);
	assert_memory_equal(&back.target[0], &s.target[0], sizeof(s.target[0]));
	assert_int_equal(back.state, s.state);
	assert_string_equal(back.step, s.step);
	assert_string_equal(back.unit, s.unit);
	assert_int_equal(back.done, s.done);
	assert_int_equal(back.total, s.total);
	assert_int_equal(back.files_total, s.files_total);
	assert_int_equal(back.bytes_total, s.bytes_total);
	assert_string_equal(back.op, s.op);
	assert_string_equal(back.op_kind, s.op_kind);
	assert_string_equal(back.node, s.node);
	assert_true(back.active);
	assert_int_equal(back.error.code, WR_E_NOSPACE);
	assert_string_equal(back.error.msg, "it is full");
	assert_string_equal(back.error.hint, "free some");
}

static void
test_status__what_is_not_known_is_null(void **state)
{
	struct wr_status s = {.state = WR_ST_STOPPED, .epoch = 1}, back;
	json_t *o = wr_status_json(&s);

	(void)state;
	assert_true(json_is_null(json_object_get(o, "progress")));
	assert_true(json_is_null(json_object_get(o, "step")));
	assert_true(json_is_null(json_object_get(o, "op")));
	assert_true(json_is_null(json_object_get(o, "error")));
	assert_int_equal(wr_status_parse(o, &back, NULL), 0);
	assert_int_equal(back.error.code, WR_E_NONE);
	assert_string_equal(back.op, "");
	json_decref(o);
}

static void
test_notices__there_and_back_the_gravest_first(void **state)
{
	struct wr_status s = {.state = WR_ST_RUNNING,
			      .epoch = 1,
			      .notice = {{"disk", 80, "much is used", "warren usage x", 5},
					 {"history", 100, "no snapshots", "", 6}},
			      .notice_count = 2},
			 back;
	json_t *o = wr_status_json(&s);

	(void)state;
	assert_string_equal(wr_json_get_str(wr_json_get_obj(o, "notice"), "code", ""), "history");
	assert_int_equal(wr_status_parse(o, &back, NULL), 0);
	assert_int_equal(back.notice_count, 2);
	assert_string_equal(back.notice[0].text, "much is used");
	assert_string_equal(back.notice[0].command, "warren usage x");
	assert_int_equal(back.notice[0].level, 80);
	assert_int_equal(back.notice[1].since, 6);
	assert_string_equal(back.notice[1].command, "");
	json_decref(o);
	s.notice_count = 0;
	o = wr_status_json(&s);
	assert_true(json_is_null(json_object_get(o, "notice")));
	json_decref(o);
}

static void
test_notices__marks_are_left_below_them(void **state)
{
	static const struct {
		uint64_t used, was, level;
	} c[] = {{0, 0, 0},     {79, 0, 0},    {80, 0, 80},    {94, 0, 80},   {95, 0, 95},
		 {100, 0, 100}, {300, 0, 100}, {78, 80, 80},   {77, 80, 0},   {78, 0, 0},
		 {93, 95, 95},  {92, 95, 80},  {98, 100, 100}, {97, 100, 95}, {93, 100, 95},
		 {92, 100, 80}, {60, 100, 0}};

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(c); i++)
		assert_int_equal(wr_notice_level(c[i].used, 100, c[i].was), c[i].level);
	assert_int_equal(wr_notice_level(7, 0, 0), 0);
	assert_int_equal(wr_notice_level(UINT64_MAX, UINT64_MAX, 0), 100);
}

static void
test_status__foreign_text_is_refused_by_member(void **state)
{
#define HEAD "{\"v\":1,\"state\":\"stopped\",\"when\":\"2026-11-22T10:15:30Z\""
	static const struct {
		const char *text, *says;
		enum wr_err_code code;
	} bad[] = {
	    {"[]", "no JSON object", WR_E_CORRUPT},
	    {"{}", "version", WR_E_CORRUPT},
	    {"{\"v\":2}", "version 2, this program reads up to 1", WR_E_UNSUPPORTED},
	    {"{\"v\":1,\"state\":\"x\"}", "'x' is no state", WR_E_CORRUPT},
	    {"{\"v\":1,\"state\":\"error\",\"when\":7}", "'when'", WR_E_CORRUPT},
	    {HEAD ",\"step\":\"../..\"}", "'step'", WR_E_CORRUPT},
	    {HEAD ",\"step\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}", "'step'",
	     WR_E_CORRUPT},
	    {HEAD ",\"op\":\"deadbeef\"}", "'op'", WR_E_CORRUPT},
	    {HEAD ",\"node\":[]}", "'node'", WR_E_CORRUPT},
	    {HEAD ",\"progress\":{\"unit\":\"A B\"}}", "'unit'", WR_E_CORRUPT},
	    {HEAD ",\"notices\":[{\"code\":\"A\"}]}", "'code'", WR_E_CORRUPT},
	    {HEAD ",\"notices\":[{\"text\":\"a\\u001bb\"}]}", "'text'", WR_E_CORRUPT},
	    {HEAD ",\"notices\":[{},{},{},{},{},{}]}", "more than 5 notices", WR_E_CORRUPT},
	};
	struct wr_err err = WR_ERR_INIT;
	struct wr_status s;
	json_t *o;

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		o = wr_json_parse(bad[i].text, strlen(bad[i].text), NULL);
		assert_non_null(o);
		assert_int_equal(wr_status_parse(o, &s, &err), -1);
		assert_int_equal(err.code, bad[i].code);
		assert_non_null(strstr(err.msg, bad[i].says));
		json_decref(o);
	}
	o = wr_json_parse(HEAD "}", sizeof(HEAD "}") - 1, NULL);
	assert_int_equal(wr_status_parse(o, &s, &err), 0);
	json_decref(o);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_table__every_row_is_what_next_says_and_stands_once),
	    cmocka_unit_test(test_table__what_begins_can_end_in_every_way),
	    cmocka_unit_test(test_table__nothing_is_unreachable_or_a_trap),
	    cmocka_unit_test(test_table__a_save_never_ends_in_error),
	    cmocka_unit_test(test_table__failures_of_the_others_are_errors),
	    cmocka_unit_test(test_table__what_is_refused),
	    cmocka_unit_test(test_names__there_and_back),
	    cmocka_unit_test(test_status__there_and_back),
	    cmocka_unit_test(test_status__what_is_not_known_is_null),
	    cmocka_unit_test(test_notices__there_and_back_the_gravest_first),
	    cmocka_unit_test(test_notices__marks_are_left_below_them),
	    cmocka_unit_test(test_status__foreign_text_is_refused_by_member),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

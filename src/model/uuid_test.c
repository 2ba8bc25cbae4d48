/* SPDX-License-Identifier: Apache-2.0 */
/* Ids, names, labels, what users type for a project, near words. */
#include "model/uuid.h"

#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/op.h"
#include "model/text.h"

#define ID "0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d"

static void
test_uuid__new_ones_are_canonical_and_differ(void **state)
{
	struct wr_uuid a, b, c;

	(void)state;
	for (int i = 0; i < 200; i++) {
		wr_uuid_new(&a);
		wr_uuid_new(&b);
		assert_string_not_equal(a.s, b.s);
		assert_true(wr_uuid_parse(a.s, &c));
		assert_string_equal(a.s, c.s);
		assert_int_equal(wr_project_ref(a.s), WR_REF_ID);
	}
}

static void
test_uuid__only_the_canonical_form(void **state)
{
	static const char *const bad[] = {"",
					  "0",
					  "0B1C2D3E-4F50-4A6B-8C7D-9E0F1A2B3C4D",
					  "0b1c2d3e-4f50-1a6b-8c7d-9e0f1a2b3c4d",
					  "0b1c2d3e-4f50-4a6b-0c7d-9e0f1a2b3c4d",
					  "0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4",
					  ID "0",
					  "0b1c2d3e4f504a6b8c7d9e0f1a2b3c4d",
					  "0b1c2d3e-4f50-4a6b-8c7d_9e0f1a2b3c4d",
					  " b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d"};
	struct wr_uuid u;

	(void)state;
	assert_true(wr_uuid_parse(ID, &u));
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++)
		assert_false(wr_uuid_parse(bad[i], &u));
}

static void
test_name__each_rule_says_itself(void **state)
{
	static const struct {
		const char *name, *says;
	} bad[] = {
	    {"", "is empty"},
	    {"A", "begin with"},
	    {"1x", "begin with"},
	    {"-x", "begin with"},
	    {".x", "begin with"},
	    {"..", "begin with"},
	    {"xY", "a character"},
	    {"x/y", "a character"},
	    {"x y", "a character"},
	    {"x\xc3\xa4", "a character"},
	    {"abc", "as the beginning of an id"},
	    {"deadbeef", "as the beginning of an id"},
	    {"deadbeef-cafe", "as the beginning of an id"},
	    {"xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "longer than 63"},
	};
	static const char *const good[] = {
	    "x",
	    "_",
	    "ada.lovelace@example.org",
	    "a-b",
	    "face-book",
	    "deadbeefs",
	    "a+b_c.d",
	    "fed-1",
	    "xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		assert_int_equal(wr_name_check(bad[i].name, &err), -1);
		assert_int_equal(err.code, WR_E_INVALID);
		assert_non_null(strstr(err.msg, bad[i].says));
		assert_true(*err.hint);
	}
	for (size_t i = 0; i < WR_ARRAY_LEN(good); i++) {
		assert_int_equal(wr_name_check(good[i], &err), 0);
		assert_int_equal(wr_project_ref(good[i]), WR_REF_NAME);
	}
}

static void
test_ref__what_was_typed(void **state)
{
	(void)state;
	assert_int_equal(wr_project_ref(ID), WR_REF_ID);
	assert_int_equal(wr_project_ref("0b1c"), WR_REF_PREFIX);
	assert_int_equal(wr_project_ref("abcd"), WR_REF_PREFIX);
	assert_int_equal(wr_project_ref("0b1c2d3e-"), WR_REF_PREFIX);
	assert_int_equal(wr_project_ref("0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4"), WR_REF_PREFIX);
	assert_int_equal(wr_project_ref("0b1"), WR_REF_BAD);
	assert_int_equal(wr_project_ref("0b1c2d3e4"), WR_REF_BAD);
	assert_int_equal(wr_project_ref("../etc"), WR_REF_BAD);
	assert_int_equal(wr_project_ref(""), WR_REF_BAD);
	assert_int_equal(wr_project_ref("0B1C"), WR_REF_BAD);
}

static void
test_label__keys_and_values(void **state)
{
	char value[258];
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	memset(value, 'v', sizeof(value));
	value[255] = '\0';
	assert_int_equal(wr_label_check("a/b.c_d-e", value, &err), 0);
	assert_int_equal(wr_label_check("0", "", &err), 0);
	assert_int_equal(wr_label_check("k", "gr\xc3\xbc\xc3\x9f", &err), 0);
	value[255] = 'v';
	value[256] = '\0';
	assert_int_equal(wr_label_check("k", value, &err), -1);
	assert_non_null(strstr(err.msg, "'k'"));
	assert_int_equal(wr_label_check("k", "a\nb", &err), -1);
	assert_int_equal(wr_label_check("k", "\xff", &err), -1);
	assert_int_equal(wr_label_check("", "v", &err), -1);
	assert_int_equal(wr_label_check("K", "v", &err), -1);
	assert_int_equal(wr_label_check("/k", "v", &err), -1);
}

static void
test_near__and_far(void **state)
{
	static const char *const list[] = {"disk", "description", "memory", "save_every", NULL};

	(void)state;
	assert_string_equal(wr_near("dsik", list), "disk");
	assert_string_equal(wr_near("desc", list), "description");
	assert_string_equal(wr_near("memroy", list), "memory");
	assert_string_equal(wr_near("saveevery", list), "save_every");
	assert_null(wr_near("xyzzy", list));
	assert_null(wr_near("", list));
	assert_null(wr_near("m", list));
	assert_int_equal(wr_near_cost("disk", "disk"), 0);
}

static void
test_op__names_there_and_back(void **state)
{
	(void)state;
	for (unsigned k = WR_OP_NONE + 1; k < WR_OP_KINDS; k++)
		assert_int_equal(wr_op_kind_parse(wr_op_kind_name(k)), k);
	for (unsigned s = WR_OPS_QUEUED; s <= WR_OPS_CANCELLED; s++)
		assert_int_equal(wr_op_state_parse(wr_op_state_name(s)), s);
	assert_int_equal(wr_op_kind_parse("none"), WR_OP_NONE);
	assert_int_equal(wr_op_state_parse("unset"), WR_OPS_UNSET);
	assert_true(wr_op_cancellable(WR_OP_SAVE));
	assert_false(wr_op_cancellable(WR_OP_DELETE));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_uuid__new_ones_are_canonical_and_differ),
	    cmocka_unit_test(test_uuid__only_the_canonical_form),
	    cmocka_unit_test(test_name__each_rule_says_itself),
	    cmocka_unit_test(test_ref__what_was_typed),
	    cmocka_unit_test(test_label__keys_and_values),
	    cmocka_unit_test(test_near__and_far),
	    cmocka_unit_test(test_op__names_there_and_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

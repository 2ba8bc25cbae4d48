/* SPDX-License-Identifier: Apache-2.0 */
/* The table of calls, routes, arguments, the binary form. */
#include "model/api.h"

#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"

#define ID "0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d"

static int
add(struct wr_call *c, const char *name, const char *value, struct wr_err *err)
{
	return wr_call_add(c, name, value, strlen(value), err);
}

static void
test_table__is_whole(void **state)
{
	(void)state;
	for (unsigned i = WR_API_NONE + 1; i < WR_API_CALLS; i++) {
		const struct wr_api_call *c = &wr_api_calls[i];
		size_t n = 0;

		assert_int_equal(c->id, i);
		assert_true(!strncmp(c->route, "/v1/", 4));
		assert_true(c->scope != WR_SCOPE_NONE && c->summary && *c->summary);
		assert_int_equal(!(c->flags & WR_API_CHANGES), !strcmp(c->method, "GET"));
		assert_int_equal(!(c->flags & WR_API_PROJECT), !strstr(c->route, "{id}"));
		assert_int_equal(!(c->flags & WR_API_OP), !strstr(c->route, "{op}"));
		/* Who joins has a token of another kind. */
		if (c->flags & WR_API_CHANGES && i != WR_API_JOIN && i != WR_API_JOIN_LOOK)
			assert_true(c->scope >= WR_SCOPE_PROJECT);
		for (; n < WR_API_ARGS && c->arg[n].name; n++) {
			assert_true(c->arg[n].kind != 0);
			for (size_t m = 0; m < n; m++)
				assert_string_not_equal(c->arg[m].name, c->arg[n].name);
		}
		for (unsigned j = WR_API_NONE + 1; j < i; j++)
			assert_false(!strcmp(c->method, wr_api_calls[j].method) &&
				     !strcmp(c->route, wr_api_calls[j].route));
	}
}

static void
test_match__routes(void **state)
{
	struct wr_err err = WR_ERR_INIT;
	char ref[128];

	(void)state;
	assert_int_equal(wr_api_match("GET", "/v1/projects", ref, &err)->id, WR_API_LIST);
	assert_string_equal(ref, "");
	assert_int_equal(wr_api_match("POST", "/v1/projects", ref, &err)->id, WR_API_CREATE);
	assert_int_equal(wr_api_match("GET", "/v1/projects/zoe@x.org", ref, &err)->id, WR_API_SHOW);
	assert_string_equal(ref, "zoe@x.org");
	assert_int_equal(wr_api_match("POST", "/v1/projects/" ID "/start", ref, &err)->id,
			 WR_API_START);
	assert_string_equal(ref, ID);
	assert_int_equal(wr_api_match("POST", "/v1/operations/0b1c/cancel", ref, &err)->id,
			 WR_API_OP_CANCEL);
	assert_null(wr_api_match("GET", "/v1/nothing", ref, &err));
	assert_int_equal(err.code, WR_E_NOT_FOUND);
	assert_null(wr_api_match("GET", "/v1/projects/", ref, &err));
	assert_int_equal(err.code, WR_E_NOT_FOUND);
	assert_null(wr_api_match("GET", "/v1/projects/zoe/", ref, &err));
	assert_null(wr_api_match("GET", "/v1/projects/zoe/state/x", ref, &err));
	assert_null(wr_api_match("GET", "", ref, &err));
	assert_null(wr_api_match("PUT", "/v1/projects/zoe/settings", ref, &err));
	assert_int_equal(err.code, WR_E_UNSUPPORTED);
	assert_string_equal(err.hint, "it takes GET, PATCH");
	assert_null(wr_api_match("GET", "/v1/projects/..", ref, &err));
	assert_int_equal(err.code, WR_E_INVALID);
	assert_non_null(strstr(err.msg, "id: '..'"));
	assert_null(wr_api_match("GET", "/v1/operations/zoe", ref, &err));
	assert_int_equal(err.code, WR_E_INVALID);
}

static void
test_match__every_route_is_found(void **state)
{
	char ref[128];

	(void)state;
	for (unsigned i = WR_API_NONE + 1; i < WR_API_CALLS; i++) {
		const struct wr_api_call *c = &wr_api_calls[i];
		const char *brace = strchr(c->route, '{');
		char *path = brace ? wr_asprintf("%.*s%s%s", (int)(brace - c->route), c->route,
						 "deadbeef", strchr(c->route, '}') + 1)
				   : wr_strdup(c->route);

		assert_ptr_equal(wr_api_match(c->method, path, ref, NULL), c);
		assert_string_equal(ref, brace ? "deadbeef" : "");
		free(path);
	}
}

static void
test_match__a_long_name_is_refused(void **state)
{
	struct wr_err err = WR_ERR_INIT;
	char path[400], ref[128];

	(void)state;
	snprintf(path, sizeof(path), "/v1/projects/%0300d", 7);
	assert_null(wr_api_match("GET", path, ref, &err));
	assert_int_equal(err.code, WR_E_INVALID);
}

static void
test_add__errors_name_the_field(void **state)
{
	static const struct {
		enum wr_api_call_id id;
		const char *name, *value, *says;
	} bad[] = {
	    {WR_API_EVENTS, "limit", "1001", "limit: '1001' is too large"},
	    {WR_API_EVENTS, "limit", "x", "limit: 'x' is not a number"},
	    {WR_API_EVENTS, "since", "-1", "since: '-1'"},
	    {WR_API_EVENTS, "limt", "1", "limt: there is no such field"},
	    {WR_API_CREATE, "adopt", "perhaps", "adopt: 'perhaps' is neither"},
	    {WR_API_CREATE, "id", "0b1c", "id: '0b1c' is no UUID"},
	    {WR_API_CREATE, "uid", "4294967295", "uid: '4294967295' is too large"},
	    {WR_API_CREATE, "labels", "novalue", "labels: 'novalue' is not KEY=VALUE"},
	    {WR_API_START, "wait", "2d", "wait: '2d' is too large"},
	    {WR_API_START, "wait", "soon", "wait: "},
	    {WR_API_READ, "max_size", "1Q", "max_size: '1Q' is not a size"},
	    {WR_API_READ, "format", "rar", "format: 'rar' is no choice"},
	    {WR_API_RESTORE, "snapshot", "a\xff", "snapshot: 'a\\xff' is not UTF-8 text"},
	    {WR_API_RESTORE, "snapshot", "a\x01", "snapshot: 'a\\x01' is not UTF-8 text"},
	    {WR_API_HEALTH, "x", "1", "x: there is no such field"},
	};
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		struct wr_call c = {.api = &wr_api_calls[bad[i].id]};

		assert_int_equal(add(&c, bad[i].name, bad[i].value, &err), -1);
		assert_int_equal(err.code, WR_E_INVALID);
		if (!strstr(err.msg, bad[i].says))
			fail_msg("%s, not %s", err.msg, bad[i].says);
		assert_int_equal(c.val_count, 0);
		wr_call_fini(&c);
	}
}

static void
test_add__repetition_length_and_nul(void **state)
{
	struct wr_call c WR_SCOPED(wr_call_fini) = {.api = &wr_api_calls[WR_API_CREATE]};
	struct wr_err err = WR_ERR_INIT;
	char large[4097];

	(void)state;
	memset(large, 'x', sizeof(large));
	assert_int_equal(add(&c, "name", "zoe", &err), 0);
	assert_int_equal(add(&c, "name", "zoe", &err), -1);
	assert_string_equal(err.msg, "name: given twice");
	assert_int_equal(add(&c, "labels", "a=1", &err), 0);
	assert_int_equal(add(&c, "labels", "ab=1", &err), 0);
	assert_int_equal(add(&c, "labels", "a=2", &err), -1);
	assert_int_equal(add(&c, "settings", "disk=1G", &err), 0);
	assert_int_equal(add(&c, "settings", "disk=1G", &err), 0);
	assert_int_equal(wr_call_add(&c, "from", "a\0b", 3, &err), -1);
	assert_string_equal(err.msg, "from: a NUL byte");
	assert_int_equal(wr_call_add(&c, "from", large, 4097, &err), -1);
	assert_string_equal(err.msg, "from: more than 4096 bytes");
	assert_int_equal(wr_call_add(&c, "from", "\xff\xfe", 2, &err), 0);
	assert_string_equal(wr_call_str(&c, "from"), "\xff\xfe");
}

static void
test_add__a_call_is_bounded(void **state)
{
	struct wr_call c WR_SCOPED(wr_call_fini) = {.api = &wr_api_calls[WR_API_CAT], .ref = "zoe"};
	struct wr_err err = WR_ERR_INIT;
	char item[4096];

	(void)state;
	memset(item, 'x', sizeof(item));
	for (int i = 0; i < 24; i++)
		assert_int_equal(wr_call_add(&c, "spec", item, sizeof(item), &err), 0);
	assert_int_equal(add(&c, "spec", "x", &err), -1);
	wr_call_fini(&c);
	for (int i = 0; i < WR_CALL_VALUES; i++)
		assert_int_equal(add(&c, "spec", "x", &err), 0);
	assert_int_equal(add(&c, "spec", "x", &err), -1);
	assert_non_null(strstr(err.msg, "spec: a call has at most"));
}

static void
test_values__typed(void **state)
{
	struct wr_call c WR_SCOPED(wr_call_fini) = {.api = &wr_api_calls[WR_API_READ],
						    .ref = "zoe"};
	struct wr_err err = WR_ERR_INIT;
	const char *const *list;

	(void)state;
	assert_int_equal(wr_call_check(&c, &err), -1);
	assert_string_equal(err.msg, "path: is missing");
	assert_int_equal(add(&c, "path", "", &err), 0);
	assert_int_equal(wr_call_check(&c, &err), 0);
	assert_int_equal(wr_call_u64(&c, "max_size", 7), 7);
	assert_int_equal(add(&c, "max_size", "4K", &err), 0);
	assert_int_equal(wr_call_u64(&c, "max_size", 7), 4096);
	assert_null(wr_call_str(&c, "format"));
	wr_call_fini(&c);
	c.api = &wr_api_calls[WR_API_STOP];
	assert_true(wr_call_bool(&c, "force", true));
	assert_int_equal(add(&c, "force", "no", &err), 0);
	assert_false(wr_call_bool(&c, "force", true));
	assert_int_equal(add(&c, "wait", "5min", &err), 0);
	assert_int_equal(wr_call_u64(&c, "wait", 0), 300);
	wr_call_fini(&c);
	c.api = &wr_api_calls[WR_API_CAT];
	assert_int_equal(wr_call_list(&c, "spec", &list), 0);
	assert_null(list[0]);
	free((void *)(uintptr_t)list);
	add(&c, "spec", "a", &err);
	add(&c, "tty", "1", &err);
	add(&c, "spec", "b", &err);
	assert_int_equal(wr_call_list(&c, "spec", &list), 2);
	assert_string_equal(list[0], "a");
	assert_string_equal(list[1], "b");
	free((void *)(uintptr_t)list);
}

static void
fill(struct wr_call *c)
{
	*c = (struct wr_call){.api = &wr_api_calls[WR_API_RESTORE], .ref = "zoe"};
	assert_int_equal(add(c, "snapshot", "latest", NULL), 0);
	assert_int_equal(add(c, "path", "a/\xff", NULL), 0);
	assert_int_equal(add(c, "live", "yes", NULL), 0);
}

static void
test_binary__there_and_back(void **state)
{
	struct wr_call c WR_SCOPED(wr_call_fini), back WR_SCOPED(wr_call_fini) = {0};
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_rd r;

	(void)state;
	fill(&c);
	wr_call_encode(&c, &b);
	wr_buf_adds(&b, "rest");
	r = wr_rd(b.p, b.len);
	assert_int_equal(wr_call_decode(&r, &back, &err), 0);
	assert_int_equal(r.left, 4);
	assert_ptr_equal(back.api, c.api);
	assert_string_equal(back.ref, "zoe");
	assert_int_equal(back.val_count, 3);
	assert_string_equal(wr_call_str(&back, "path"), "a/\xff");
}

static void
test_binary__cut_off_anywhere(void **state)
{
	struct wr_call c WR_SCOPED(wr_call_fini), back = {0};
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;

	(void)state;
	fill(&c);
	wr_call_encode(&c, &b);
	for (size_t len = 0; len < b.len; len++) {
		struct wr_err err = WR_ERR_INIT;
		struct wr_rd r = wr_rd(b.p, len);

		assert_int_equal(wr_call_decode(&r, &back, &err), -1);
		assert_int_equal(err.code, WR_E_INVALID);
		assert_non_null(strstr(err.msg, "cut off"));
	}
	assert_null(back.val);
}

/* The sender is not trusted: what add and check refuse is refused here too. */
static void
test_binary__everything_is_checked_again(void **state)
{
	static const struct {
		uint16_t id;
		const char *ref;
		int arg; /* -1: no value */
		const char *value, *says;
	} bad[] = {
	    {0, "", -1, "", "no number 0"},
	    {WR_API_CALLS, "", -1, "", "no number"},
	    {65535, "", -1, "", "no number"},
	    {WR_API_SHOW, "", -1, "", "id: ''"},
	    {WR_API_SHOW, "../etc", -1, "", "id: '../etc'"},
	    {WR_API_LIST, "zoe", -1, "", "names nothing"},
	    {WR_API_OP_SHOW, "zoe", -1, "", "op: 'zoe'"},
	    {WR_API_MKDIR, "zoe", -1, "", "path: is missing"},
	    {WR_API_MKDIR, "zoe", 1, "x", "has no field 1"},
	    {WR_API_MKDIR, "zoe", 255, "x", "has no field 255"},
	    {WR_API_OP_SHOW, "0b1c", 0, "soon", "wait: "},
	};
	struct wr_call back = {0};

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;
		struct wr_err err = WR_ERR_INIT;
		struct wr_rd r;

		wr_buf_add8(&b, (uint8_t)(bad[i].id >> 8));
		wr_buf_add8(&b, (uint8_t)bad[i].id);
		wr_buf_add32be(&b, (uint32_t)strlen(bad[i].ref));
		wr_buf_adds(&b, bad[i].ref);
		wr_buf_add32be(&b, bad[i].arg >= 0);
		if (bad[i].arg >= 0) {
			wr_buf_add8(&b, (uint8_t)bad[i].arg);
			wr_buf_add32be(&b, (uint32_t)strlen(bad[i].value));
			wr_buf_adds(&b, bad[i].value);
		}
		r = wr_rd(b.p, b.len);
		assert_int_equal(wr_call_decode(&r, &back, &err), -1);
		assert_int_equal(err.code, WR_E_INVALID);
		if (!strstr(err.msg, bad[i].says))
			fail_msg("%s, not %s", err.msg, bad[i].says);
	}
	assert_null(back.val);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_table__is_whole),
	    cmocka_unit_test(test_match__routes),
	    cmocka_unit_test(test_match__every_route_is_found),
	    cmocka_unit_test(test_match__a_long_name_is_refused),
	    cmocka_unit_test(test_add__errors_name_the_field),
	    cmocka_unit_test(test_add__repetition_length_and_nul),
	    cmocka_unit_test(test_add__a_call_is_bounded),
	    cmocka_unit_test(test_values__typed),
	    cmocka_unit_test(test_binary__there_and_back),
	    cmocka_unit_test(test_binary__cut_off_anywhere),
	    cmocka_unit_test(test_binary__everything_is_checked_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

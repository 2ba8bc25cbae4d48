/* SPDX-License-Identifier: Apache-2.0 */
/* From a request line, a query and a body to a call, or to a refusal that names what is wrong. */
#include "serve/front/request.h"

#include <setjmp.h>

#include <cmocka.h>

#include "base/buf.h"

/* 0 or the status of the refusal, whose message then is in *out_no. */
static unsigned
request(const char *method, const char *target, const char *type, const char *body,
	struct wr_call *out, struct wr_refusal *out_no)
{
	*out = (struct wr_call){0};
	*out_no = (struct wr_refusal){0};
	if (wr_request_target(method, target, out, out_no) < 0)
		return out_no->status;
	if (wr_request_body(out, type, body, body ? strlen(body) : 0, out_no) < 0)
		return out_no->status;
	return 0;
}

#define JSON "application/json"
#define ID "/v1/projects/demo"

static void
test_queries(void **state)
{
	WR_SCOPED(wr_call_fini) struct wr_call c;
	struct wr_refusal no;
	const char *const *list;

	(void)state;
	assert_int_equal(request("GET",
				 "/v1/projects?label=a%3Db&&label=c+d&name=%c3%a4*&trashed=yes&",
				 NULL, NULL, &c, &no),
			 0);
	assert_int_equal(c.api->id, WR_API_LIST);
	assert_int_equal(wr_call_list(&c, "label", &list), 2);
	assert_string_equal(list[0], "a=b");
	assert_string_equal(list[1], "c d");
	free((void *)(uintptr_t)list);
	assert_string_equal(wr_call_str(&c, "name"), "\xc3\xa4*");
	assert_true(wr_call_bool(&c, "trashed", false));
}

static void
test_paths_of_any_bytes(void **state)
{
	static const struct {
		const char *target, *path;
	} t[] = {
	    {ID "/files?path=a%ffb", "a\xff"
				     "b"},
	    {ID "/files?path_b64=Yf9i", "a\xff"
					"b"},
	    {ID "/files?path_b64=%2f%2f%2b%2F", "\xff\xff\xbf"},
	    {ID "/files?path_b64=YQ%3D%3D", "a"},
	    {ID "/files?path_b64=YWI=", "ab"},
	    {"/v1/projects/d%65mo/files?%70ath=x", "x"},
	};

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(t); i++) {
		WR_SCOPED(wr_call_fini) struct wr_call c;
		struct wr_refusal no;

		assert_int_equal(request("GET", t[i].target, NULL, NULL, &c, &no), 0);
		assert_string_equal(c.ref, "demo");
		assert_string_equal(wr_call_str(&c, "path"), t[i].path);
	}
}

static void
test_bodies(void **state)
{
	WR_SCOPED(wr_call_fini) struct wr_call c;
	struct wr_refusal no;
	const char *const *list;

	(void)state;
	assert_int_equal(request("POST", "/v1/projects", "Application/JSON; charset=utf-8",
				 "{\"name\":\"demo\",\"from_b64\":\"L2H/\",\"labels\":{\"a\":\"b\","
				 "\"c\":\"d=e\"},\"settings\":[\"disk=4G\",\"pids=7\"],\"uid\":7,"
				 "\"adopt\":true,\"volume\":null,\"wait\":\"5min\"}",
				 &c, &no),
			 0);
	assert_int_equal(c.api->id, WR_API_CREATE);
	assert_string_equal(wr_call_str(&c, "name"), "demo");
	assert_string_equal(wr_call_str(&c, "from"), "/a\xff");
	assert_int_equal(wr_call_list(&c, "labels", &list), 2);
	assert_string_equal(list[0], "a=b");
	assert_string_equal(list[1], "c=d=e");
	free((void *)(uintptr_t)list);
	assert_int_equal(wr_call_list(&c, "settings", &list), 2);
	assert_string_equal(list[1], "pids=7");
	free((void *)(uintptr_t)list);
	assert_int_equal(wr_call_u64(&c, "uid", 0), 7);
	assert_true(wr_call_bool(&c, "adopt", false));
	assert_null(wr_call_str(&c, "volume"));
	assert_int_equal(wr_call_u64(&c, "wait", 0), 300);
}

/* What is wrong, and the word that its message must have. */
static void
test_refusals(void **state)
{
	static const struct {
		const char *method, *target, *type, *body;
		unsigned status;
		const char *word;
	} t[] = {
	    {"GET", "/", NULL, NULL, 404, "'/'"},
	    {"GET", "", NULL, NULL, 404, "no"},
	    {"GET", "*", NULL, NULL, 404, "'*'"},
	    {"GET", "/v1/nowhere", NULL, NULL, 404, "nowhere"},
	    {"GET", "/v1/health/", NULL, NULL, 404, "health/"},
	    {"GET", "//v1/health", NULL, NULL, 404, "//v1"},
	    {"GET", "/v1/../v1/health", NULL, NULL, 404, ".."},
	    {"GET", "/v1/projects/a%2fb/state", NULL, NULL, 404, "a/b"},
	    {"GET", "/v1/health%00", NULL, NULL, 400, "NUL"},
	    {"GET", "/v1/health%", NULL, NULL, 400, "hex"},
	    {"GET", "/v1/health%2", NULL, NULL, 400, "hex"},
	    {"GET", "/v1/health%zz", NULL, NULL, 400, "hex"},
	    {"GET", "/v1/projects/%01%ff/state", NULL, NULL, 400, "id:"},
	    {"HEAD", "/v1/health", NULL, NULL, 405, "HEAD"},
	    {"OPTIONS", "/v1/health", NULL, NULL, 405, "OPTIONS"},
	    {"DELETE", ID, NULL, NULL, 405, "DELETE"},
	    {"HEAD", "/nowhere", NULL, NULL, 404, "nowhere"},
	    {"GET", "/v1/projects?color=red", NULL, NULL, 400, "color"},
	    {"GET", "/v1/projects?=red", NULL, NULL, 400, "no such field"},
	    {"GET", "/v1/projects?trashed", NULL, NULL, 400, "trashed"},
	    {"GET", "/v1/projects?trashed=maybe", NULL, NULL, 400, "trashed"},
	    {"GET", "/v1/projects?name=a&name=b", NULL, NULL, 400, "name"},
	    {"GET", "/v1/projects?name=%00", NULL, NULL, 400, "name"},
	    {"GET", "/v1/projects?name_b64=YQ==", NULL, NULL, 400, "name_b64"},
	    {"GET", "/v1/events?limit=1001", NULL, NULL, 400, "limit"},
	    {"GET", "/v1/events?since=-1", NULL, NULL, 400, "since"},
	    {"GET", ID "/read", NULL, NULL, 400, "path"},
	    {"GET", ID "/files?path_b64=YQ", NULL, NULL, 400, "path_b64"},
	    {"GET", ID "/files?path_b64=Y===", NULL, NULL, 400, "path_b64"},
	    {"GET", ID "/files?path_b64=Y%3DQ%3D", NULL, NULL, 400, "path_b64"},
	    {"GET", ID "/files?path_b64=YQBi", NULL, NULL, 400, "path_b64"},
	    {"GET", ID "/files?path=a&path_b64=YQ==", NULL, NULL, 400, "path"},
	    {"GET", ID "/files", JSON, "{}", 400, "no body"},
	    {"POST", ID "/save", NULL, "{}", 415, "none"},
	    {"POST", ID "/save", "text/plain", "{}", 415, "text/plain"},
	    {"POST", ID "/save", "application/jsonp", "{}", 415, "jsonp"},
	    {"POST", ID "/save", JSON, "{\n\"tag\": }", 400, "line 2, column"},
	    {"POST", ID "/save", JSON, "{\"tag\":\"a\",\"tag\":\"b\"}", 400, "duplicate"},
	    {"POST", ID "/save", JSON, "{\"tag\":\"a\"} x", 400, "line 1"},
	    {"POST", ID "/save", JSON, "{\"tag\":\"\xff\"}", 400, "line 1"},
	    {"POST", ID "/save", JSON, "{\"tag\":\"\\u0000\"}", 400, "line 1"},
	    {"POST", ID "/save", JSON, "[]", 400, "an array"},
	    {"POST", ID "/save", JSON, "7", 400, "a number"},
	    {"POST", ID "/save", JSON, "null", 400, "null"},
	    {"POST", ID "/save", JSON, "{\"tags\":\"a\"}", 400, "tags"},
	    {"POST", ID "/save", JSON, "{\"tag\":7}", 400, "tag: it must be a string"},
	    {"POST", ID "/save", JSON, "{\"tag\":[\"a\"]}", 400, "not an array"},
	    {"POST", ID "/save", JSON, "{\"wait\":1.5}", 400, "wait"},
	    {"POST", ID "/save", JSON, "{\"wait\":-1}", 400, "wait"},
	    {"POST", ID "/save", JSON, "{\"wait\":\"soon\"}", 400, "wait"},
	    {"POST", ID "/save", JSON, "{\"wait\":99999999999999999999}", 400, "line 1"},
	    {"POST", ID "/save?wait=1", JSON, "{\"wait\":1}", 400, "wait"},
	    {"POST", ID "/stop", JSON, "{\"force\":\"yes\"}", 400, "force"},
	    {"POST", ID "/stop", JSON, "{\"force\":1}", 400, "force"},
	    {"POST", ID "/restore", JSON, "{}", 400, "snapshot"},
	    {"POST", ID "/mkdir", JSON, "{\"path_b64\":\"!!!!\"}", 400, "path_b64"},
	    {"POST", ID "/mkdir", JSON, "{\"path_b64\":7}", 400, "path_b64"},
	    {"POST", "/v1/projects", JSON, "{\"uid\":\"7\"}", 400, "uid"},
	    {"POST", "/v1/projects", JSON, "{\"settings\":\"a=b\"}", 400, "settings"},
	    {"POST", "/v1/projects", JSON, "{\"settings\":[1]}", 400, "settings"},
	    {"POST", "/v1/projects", JSON, "{\"labels\":[\"a=b\"]}", 400, "labels"},
	    {"POST", "/v1/projects", JSON, "{\"labels\":{\"a\":1}}", 400, "labels"},
	    {"POST", "/v1/projects", JSON, "{\"labels\":{\"a=b\":\"c\"}}", 400, "labels"},
	    {"POST", "/v1/projects", JSON, "{\"id\":\"demo\"}", 400, "id"},
	};

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(t); i++) {
		WR_SCOPED(wr_call_fini) struct wr_call c;
		struct wr_refusal no;
		unsigned got = request(t[i].method, t[i].target, t[i].type, t[i].body, &c, &no);

		if (got != t[i].status || !strstr(no.err.msg, t[i].word))
			fail_msg("%s %s %s: %u '%s'", t[i].method, t[i].target,
				 t[i].body ? t[i].body : "", got, no.err.msg);
		if (got == 404)
			assert_true(no.err.hint[0] != '\0');
	}
}

static void
test_allow(void **state)
{
	WR_SCOPED(wr_call_fini) struct wr_call c;
	WR_SCOPED(wr_call_fini) struct wr_call d;
	struct wr_refusal no;

	(void)state;
	assert_int_equal(request("PUT", ID "/settings", NULL, NULL, &c, &no), 405);
	assert_string_equal(no.allow, "GET, PATCH");
	assert_int_equal(request("HEAD", "/v1/projects/%20/settings", NULL, NULL, &d, &no), 405);
	assert_string_equal(no.allow, "GET, PATCH");
}

static void
test_deep_and_wide_bodies(void **state)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	(void)state;
	for (int deep = 0; deep < 2; deep++) {
		WR_SCOPED(wr_call_fini) struct wr_call c;
		struct wr_refusal no;

		wr_buf_clear(&b);
		wr_buf_adds(&b, "{\"settings\":[");
		while (b.len < WR_BODY_MAX - 3)
			wr_buf_adds(&b, deep ? "[" : "\"\",");
		wr_buf_adds(&b, "\"\"]}");
		assert_int_equal(request("POST", "/v1/projects", JSON, wr_buf_str(&b), &c, &no),
				 400);
		assert_non_null(strstr(no.err.msg, deep ? "nested" : "settings"));
	}
}

static void
test_tokens(void **state)
{
	static const struct {
		const char *header, *token;
	} t[] = {
	    {NULL, ""},
	    {"Bearer wrt_abc", "wrt_abc"},
	    {"bEARER   x", "x"},
	    {"Bearer", NULL},
	    {"Bearer ", NULL},
	    {"Bearerx", NULL},
	    {"Bearer a b", NULL},
	    {"Bearer a\tb", NULL},
	    {"Bearer \xc3\xa4", NULL},
	    {"Basic YTpi", NULL},
	    {"", NULL},
	    {"Bearer 0123456789abcdef", NULL},
	};

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(t); i++) {
		struct wr_refusal no = {0};
		char token[16];
		int rc = wr_request_token(t[i].header, token, sizeof(token), &no);

		assert_int_equal(rc, t[i].token ? 0 : -1);
		assert_string_equal(token, t[i].token ? t[i].token : "");
		if (rc < 0)
			assert_int_equal(no.status, 400);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_queries), cmocka_unit_test(test_paths_of_any_bytes),
	    cmocka_unit_test(test_bodies),  cmocka_unit_test(test_refusals),
	    cmocka_unit_test(test_allow),   cmocka_unit_test(test_deep_and_wide_bodies),
	    cmocka_unit_test(test_tokens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

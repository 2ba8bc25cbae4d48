/* SPDX-License-Identifier: Apache-2.0 */
/* The document says what the table says; that the server does so is test/cli/81-https.bats. */
#include "model/openapi.h"

#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/api.h"

static json_t *
of(const json_t *doc, const char *route, const char *method)
{
	return wr_json_get_obj(wr_json_get_obj(wr_json_get_obj(doc, "paths"), route), method);
}

static void
test_openapi__has_every_call_and_no_other(void **state)
{
	json_t *doc = wr_openapi(), *path;
	const char *route;
	size_t n = 0;

	(void)state;
	json_object_foreach(wr_json_get_obj(doc, "paths"), route, path) n += json_object_size(path);
	assert_int_equal(n, WR_API_CALLS - 1);
	for (unsigned i = WR_API_NONE + 1; i < WR_API_CALLS; i++) {
		const struct wr_api_call *c = &wr_api_calls[i];
		const char *method = !strcmp(c->method, "GET")    ? "get"
				     : !strcmp(c->method, "POST") ? "post"
								  : "patch";
		json_t *o = of(doc, c->route, method);

		assert_non_null(o);
		assert_int_equal(json_array_size(wr_json_get_arr(o, "security")),
				 c->scope != WR_SCOPE_PUBLIC);
		assert_string_equal(wr_json_get_str(o, "summary", ""), c->summary);
	}
	json_decref(doc);
}

static void
test_openapi__arguments(void **state)
{
	json_t *doc = wr_openapi(), *o, *s;

	(void)state;
	o = of(doc, "/v1/projects/{id}/restore", "post");
	s = wr_json_get_obj(
	    wr_json_get_obj(wr_json_get_obj(wr_json_get_obj(o, "requestBody"), "content"),
			    "application/json"),
	    "schema");
	assert_string_equal(json_string_value(json_array_get(wr_json_get_arr(s, "required"), 0)),
			    "snapshot");
	s = wr_json_get_obj(s, "properties");
	assert_string_equal(wr_json_get_str(wr_json_get_obj(s, "path_b64"), "contentEncoding", ""),
			    "base64");
	assert_string_equal(wr_json_get_str(wr_json_get_obj(s, "live"), "type", ""), "boolean");
	assert_int_equal(json_array_size(wr_json_get_arr(wr_json_get_obj(s, "overwrite"), "enum")),
			 4);
	/* A path that is needed may come in either form. */
	o = of(doc, "/v1/projects/{id}/mkdir", "post");
	s = wr_json_get_obj(
	    wr_json_get_obj(wr_json_get_obj(wr_json_get_obj(o, "requestBody"), "content"),
			    "application/json"),
	    "schema");
	assert_null(wr_json_get_arr(s, "required"));
	assert_int_equal(json_array_size(wr_json_get_arr(s, "allOf")), 1);
	/* Of a GET they are parameters; the path's own first. */
	o = of(doc, "/v1/projects/{id}/files", "get");
	assert_null(wr_json_get_obj(o, "requestBody"));
	assert_int_equal(json_array_size(wr_json_get_arr(o, "parameters")), 7);
	assert_string_equal(
	    wr_json_get_str(json_array_get(wr_json_get_arr(o, "parameters"), 0), "in", ""), "path");
	json_decref(doc);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_openapi__has_every_call_and_no_other),
	    cmocka_unit_test(test_openapi__arguments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

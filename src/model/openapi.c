/* SPDX-License-Identifier: Apache-2.0 */
#include "model/openapi.h"

#include "model/api.h"

#define ANSWER "#/components/schemas/Answer"
#define ERROR_SCHEMA "#/components/schemas/Error"
#define OPERATION "#/components/schemas/Operation"

/* ---- small things ---- */

static void
ref(json_t *o, const char *key, const char *target)
{
	wr_json_str(wr_json_object(o, key), "$ref", target);
}

/* content: {TYPE: {schema: {"$ref"}}} */
static void
json_content(json_t *o, const char *schema)
{
	ref(wr_json_object(wr_json_object(o, "content"), "application/json"), "schema", schema);
}

static void
words(json_t *list, const char *text)
{
	for (const char *w = text; *w; w += *w == '|') {
		size_t n = strcspn(w, "|");
		WR_SCOPED(wr_freep) char *one = wr_asprintf("%.*s", (int)n, w);

		wr_json_add_str(list, one);
		w += n;
	}
}

/* ---- arguments ---- */

static uint64_t
longest(const struct wr_api_arg *a)
{
	return a->max ? a->max : 4096;
}

static void
number(json_t *s, const struct wr_api_arg *a)
{
	wr_json_str(s, "type", "integer");
	wr_json_u64(s, "minimum", 0);
	wr_json_u64(s, "maximum", a->max ? a->max : INT64_MAX);
}

static void
number_or_text(json_t *s, const struct wr_api_arg *a, const char *pattern, const char *what)
{
	json_t *list = wr_json_array(s, "oneOf"), *text;

	number(wr_json_item(list), a);
	text = wr_json_item(list);
	wr_json_str(text, "type", "string");
	wr_json_str(text, "pattern", pattern);
	wr_json_str(s, "description", what);
}

static void
decimal(json_t *s, const struct wr_api_arg *a)
{
	json_t *list = wr_json_array(s, "oneOf"), *o = wr_json_item(list);

	wr_json_str(o, "type", "number");
	wr_json_u64(o, "minimum", 0);
	wr_json_u64(o, "maximum", (a->max ? a->max : INT64_MAX) / 1000);
	o = wr_json_item(list);
	wr_json_str(o, "type", "string");
	wr_json_str(o, "pattern", "^[0-9]+(\\.[0-9]{1,3})?$");
	wr_json_str(o, "description", "with at most three digits behind the point: 1.5");
}

/* The schema of a value. */
static void
value_schema(json_t *s, const struct wr_api_arg *a)
{
	json_t *of;

	switch (a->kind) {
	case WR_ARG_STR:
		wr_json_str(s, "type", "string");
		if (a->choices)
			words(wr_json_array(s, "enum"), a->choices);
		else
			wr_json_u64(s, "maxLength", longest(a));
		break;
	case WR_ARG_BOOL:
		wr_json_str(s, "type", "boolean");
		break;
	case WR_ARG_U64:
		number(s, a);
		break;
	case WR_ARG_DECIMAL:
		decimal(s, a);
		break;
	case WR_ARG_SIZE:
		number_or_text(s, a, "^[0-9]+([KMGTP](iB)?)?$", "bytes, or a text with a unit: 4G");
		break;
	case WR_ARG_DURATION:
		number_or_text(s, a, "^([0-9]+(s|min|h|d|w)?|never)$",
			       "seconds, or a text with a unit: 5min");
		break;
	case WR_ARG_UUID:
		wr_json_str(s, "type", "string");
		wr_json_str(s, "format", "uuid");
		break;
	case WR_ARG_PATH:
		wr_json_str(s, "type", "string");
		wr_json_u64(s, "maxLength", longest(a));
		break;
	case WR_ARG_LIST:
		wr_json_str(s, "type", "array");
		of = wr_json_object(s, "items");
		wr_json_str(of, "type", "string");
		wr_json_u64(of, "maxLength", longest(a));
		break;
	case WR_ARG_MAP:
		wr_json_str(s, "type", "object");
		of = wr_json_object(s, "additionalProperties");
		wr_json_str(of, "type", "string");
		wr_json_u64(of, "maxLength", longest(a));
		break;
	}
}

static void
parameter(json_t *list, const char *name, const char *in, bool required, const char *what,
	  const struct wr_api_arg *a)
{
	json_t *p = wr_json_item(list), *s;

	wr_json_str(p, "name", name);
	wr_json_str(p, "in", in);
	wr_json_bool(p, "required", required);
	if (what)
		wr_json_str(p, "description", what);
	s = wr_json_object(p, "schema");
	if (a)
		value_schema(s, a);
	else
		wr_json_str(s, "type", "string");
}

static void
parameters(json_t *o, const struct wr_api_call *c)
{
	bool query = !strcmp(c->method, "GET");
	json_t *list;

	if (!(c->flags & (WR_API_PROJECT | WR_API_OP)) && !(query && c->arg[0].name))
		return;
	list = wr_json_array(o, "parameters");
	if (c->flags & WR_API_PROJECT)
		parameter(list, "id", "path", true,
			  "a project: its id, its name, or the first characters of its id", NULL);
	if (c->flags & WR_API_OP)
		parameter(list, "op", "path", true,
			  "an operation: its id or the first characters of it", NULL);
	for (size_t i = 0; query && i < WR_API_ARGS && c->arg[i].name; i++)
		parameter(list, c->arg[i].name, "query", c->arg[i].required,
			  c->arg[i].kind == WR_ARG_PATH ? "any bytes, percent-encoded" : NULL,
			  &c->arg[i]);
}

/* A path that is no UTF-8 stands in NAME_b64: then one of both is needed. */
static void
required_path(json_t *schema, const struct wr_api_arg *a, const char *b64)
{
	json_t *all = wr_json_get_arr(schema, "allOf"), *list;

	if (!all)
		all = wr_json_array(schema, "allOf");
	list = wr_json_array(wr_json_item(all), "anyOf");
	wr_json_add_str(wr_json_array(wr_json_item(list), "required"), a->name);
	wr_json_add_str(wr_json_array(wr_json_item(list), "required"), b64);
}

static void
body(json_t *o, const struct wr_api_call *c)
{
	json_t *b, *s, *all, *required = NULL;
	bool needed = false;

	if (!strcmp(c->method, "GET"))
		return;
	b = wr_json_object(o, "requestBody");
	for (size_t i = 0; i < WR_API_ARGS && c->arg[i].name; i++)
		needed |= c->arg[i].required;
	wr_json_bool(b, "required", needed);
	s = wr_json_object(wr_json_object(wr_json_object(b, "content"), "application/json"),
			   "schema");
	wr_json_str(s, "type", "object");
	wr_json_bool(s, "additionalProperties", false);
	all = wr_json_object(s, "properties");
	for (size_t i = 0; i < WR_API_ARGS && c->arg[i].name; i++) {
		const struct wr_api_arg *a = &c->arg[i];
		WR_SCOPED(wr_freep) char *b64 = wr_asprintf("%s_b64", a->name);
		json_t *p;

		value_schema(wr_json_object(all, a->name), a);
		if (a->kind == WR_ARG_PATH) {
			p = wr_json_object(all, b64);
			wr_json_str(p, "type", "string");
			wr_json_str(p, "contentEncoding", "base64");
		}
		if (!a->required)
			continue;
		if (a->kind == WR_ARG_PATH) {
			required_path(s, a, b64);
		} else {
			if (!required)
				required = wr_json_array(s, "required");
			wr_json_add_str(required, a->name);
		}
	}
}

/* ---- answers ---- */

static void
stream_answer(json_t *r)
{
	json_t *content = wr_json_object(r, "content"), *h;

	wr_json_object(wr_json_object(content, "application/octet-stream"), "schema");
	ref(wr_json_object(content, "application/json"), "schema", ANSWER);
	wr_json_str(wr_json_object(wr_json_object(content, "text/plain"), "schema"), "type",
		    "string");
	h = wr_json_object(wr_json_object(r, "headers"), "Warren-Exit");
	wr_json_str(h, "description",
		    "exit status of the far side; of a long stream it is a trailer");
	wr_json_str(wr_json_object(h, "schema"), "type", "integer");
}

static void
responses(json_t *o, const struct wr_api_call *c)
{
	json_t *all = wr_json_object(o, "responses"), *r;

	r = wr_json_object(all, "200");
	wr_json_str(r, "description", c->flags & WR_API_STREAM ? "a stream" : "done");
	if (c->flags & WR_API_STREAM)
		stream_answer(r);
	else if (c->id == WR_API_OPENAPI)
		wr_json_str(
		    wr_json_object(wr_json_object(wr_json_object(r, "content"), "application/json"),
				   "schema"),
		    "type", "object");
	else
		json_content(r, ANSWER);
	if (c->flags & WR_API_CHANGES) {
		r = wr_json_object(all, "202");
		wr_json_str(r, "description", "begun: the operation");
		json_content(r, OPERATION);
	}
	r = wr_json_object(all, "default");
	wr_json_str(r, "description", "an error");
	json_content(r, ERROR_SCHEMA);
}

/* ---- calls ---- */

/* "get_projects_id_state" */
static char *
operation_id(const struct wr_api_call *c)
{
	struct wr_buf b = WR_BUF_INIT;

	for (const char *p = c->method; *p; p++)
		wr_buf_add8(&b, (uint8_t)(*p | 0x20));
	for (const char *p = c->route + strlen("/v1"); *p; p++)
		if (*p != '{' && *p != '}')
			wr_buf_add8(&b, *p == '/' || *p == '.' ? '_' : (uint8_t)*p);
	return wr_buf_detach(&b, NULL);
}

static void
call(json_t *paths, const struct wr_api_call *c)
{
	WR_SCOPED(wr_freep) char *id = operation_id(c);
	WR_SCOPED(wr_freep)
	char *tag = wr_asprintf("%.*s", (int)strcspn(c->route + strlen("/v1/"), "/."),
				c->route + strlen("/v1/"));
	char method[8] = "";
	json_t *path = wr_json_get_obj(paths, c->route), *o, *security;

	if (!path)
		path = wr_json_object(paths, c->route);
	for (size_t i = 0; i < sizeof(method) - 1 && c->method[i]; i++)
		method[i] = (char)(c->method[i] | 0x20);
	o = wr_json_object(path, method);
	wr_json_str(o, "operationId", id);
	wr_json_add_str(wr_json_array(o, "tags"), tag);
	wr_json_str(o, "summary", c->summary);
	security = wr_json_array(o, "security");
	if (c->scope != WR_SCOPE_PUBLIC)
		wr_json_add_str(wr_json_array(wr_json_item(security), "bearer"),
				wr_scope_name(c->scope));
	parameters(o, c);
	body(o, c);
	responses(o, c);
}

/* ---- the whole ---- */

static void
error_schema(json_t *s)
{
	static const char *const codes[] = {
#define X(code, name, ex, http, text) name,
	    WR_ERR_TABLE(X)
#undef X
	};
	json_t *all, *e, *of, *list;

	wr_json_str(s, "type", "object");
	list = wr_json_array(s, "required");
	wr_json_add_str(list, "schema");
	wr_json_add_str(list, "error");
	all = wr_json_object(s, "properties");
	wr_json_str(wr_json_object(all, "schema"), "const", "warren.error/1");
	e = wr_json_object(all, "error");
	wr_json_str(e, "type", "object");
	list = wr_json_array(e, "required");
	wr_json_add_str(list, "code");
	wr_json_add_str(list, "message");
	of = wr_json_object(e, "properties");
	list = wr_json_array(wr_json_object(of, "code"), "enum");
	for (size_t i = 1; i < WR_ARRAY_LEN(codes); i++)
		wr_json_add_str(list, codes[i]);
	wr_json_str(wr_json_object(of, "message"), "type", "string");
	wr_json_str(wr_json_object(of, "hint"), "type", "string");
}

static void
answer_schema(json_t *s, const char *schema, const char *what)
{
	json_t *name;

	wr_json_str(s, "type", "object");
	wr_json_str(s, "description", what);
	wr_json_add_str(wr_json_array(s, "required"), "schema");
	name = wr_json_object(wr_json_object(s, "properties"), "schema");
	if (schema)
		wr_json_str(name, "const", schema);
	else
		wr_json_str(name, "type", "string");
}

static void
components(json_t *o)
{
	json_t *c = wr_json_object(o, "components"), *schemas = wr_json_object(c, "schemas"), *b;

	error_schema(wr_json_object(schemas, "Error"));
	answer_schema(wr_json_object(schemas, "Answer"), NULL,
		      "an object whose member schema says what is in it; members are added to a "
		      "schema, never changed or removed");
	answer_schema(wr_json_object(schemas, "Operation"), "warren.operation/1",
		      "an operation; GET /v1/operations/{op}?wait=30 waits for its end");
	b = wr_json_object(wr_json_object(c, "securitySchemes"), "bearer");
	wr_json_str(b, "type", "http");
	wr_json_str(b, "scheme", "bearer");
	wr_json_str(b, "description",
		    "a token of 'warren token create'; its scope is at least the one that a call "
		    "names: project (one project), read, operate, admin");
}

json_t *
wr_openapi(void)
{
	json_t *o = json_object(), *info, *license, *paths;

	wr_json_str(o, "openapi", "3.1.0");
	info = wr_json_object(o, "info");
	wr_json_str(info, "title", "Warren");
	wr_json_str(info, "summary",
		    "Projects that are saved, restored and kept in several places");
	wr_json_str(info, "version", WR_VERSION);
	license = wr_json_object(info, "license");
	wr_json_str(license, "name", "Apache License 2.0");
	wr_json_str(license, "identifier", "Apache-2.0");
	wr_json_str(wr_json_item(wr_json_array(o, "servers")), "url", "/");
	paths = wr_json_object(o, "paths");
	for (unsigned i = WR_API_NONE + 1; i < WR_API_CALLS; i++)
		call(paths, &wr_api_calls[i]);
	components(o);
	return o;
}

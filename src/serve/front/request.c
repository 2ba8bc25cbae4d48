/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/front/request.h"

#include <strings.h>

#include "base/json.h"
#include "base/str.h"

static const unsigned statuses[] = {
#define X(code, name, ex, http, text) [code] = http,
    WR_ERR_TABLE(X)
#undef X
};

unsigned
wr_http_status(enum wr_err_code code)
{
	return (unsigned)code < WR_E_COUNT ? statuses[code] : 500;
}

/* The error that was set becomes the refusal. */
static int
refuse(struct wr_refusal *no)
{
	no->status = wr_http_status(no->err.code);
	return -1;
}

/* ---- text ---- */

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
		return (c | 0x20) - 'a' + 10;
	return -1;
}

/* Replace *out by the bytes that are meant, without NUL among them. */
static int
percent_decode(const char *s, size_t len, bool query, struct wr_buf *out, struct wr_err *err)
{
	wr_buf_clear(out);
	for (size_t i = 0; i < len; i++) {
		int hi, lo;

		if (s[i] != '%') {
			wr_buf_add8(out, query && s[i] == '+' ? ' ' : (uint8_t)s[i]);
			continue;
		}
		hi = len - i > 2 ? hex(s[i + 1]) : -1;
		lo = len - i > 2 ? hex(s[i + 2]) : -1;
		if (hi < 0 || lo < 0)
			return wr_err_set(err, WR_E_INVALID, "'%%' without two hex digits in '%s'",
					  wr_quote(s, len).s);
		if (hi == 0 && lo == 0)
			return wr_err_set(err, WR_E_INVALID, "a NUL byte in '%s'",
					  wr_quote(s, len).s);
		wr_buf_add8(out, (uint8_t)(hi << 4 | lo));
		i += 2;
	}
	return 0;
}

/* ---- fields ---- */

static const struct wr_api_arg *
arg_find(const struct wr_api_call *api, const char *name, size_t len)
{
	for (size_t i = 0; i < WR_API_ARGS && api->arg[i].name; i++)
		if (strlen(api->arg[i].name) == len && !memcmp(api->arg[i].name, name, len))
			return &api->arg[i];
	return NULL;
}

/* Text for people: what the call takes. */
static void
hint_fields(const struct wr_api_call *api, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	for (size_t i = 0; i < WR_API_ARGS && api->arg[i].name; i++)
		wr_buf_addf(&b, "%s%s", i ? ", " : "", api->arg[i].name);
	wr_err_hint(err, "%s %s takes %s", api->method, api->route,
		    b.len ? wr_buf_str(&b) : "no fields");
}

/* The argument that a name stands for; NAME_b64 of a path sets *out_b64. */
static const struct wr_api_arg *
field_find(struct wr_call *c, const char *name, bool *out_b64, struct wr_err *err)
{
	const struct wr_api_call *api = c->api;
	size_t len = strlen(name);
	const struct wr_api_arg *a = arg_find(api, name, len);

	*out_b64 = false;
	if (a)
		return a;
	if (len > 4 && !strcmp(name + len - 4, "_b64")) {
		a = arg_find(api, name, len - 4);
		if (a && a->kind == WR_ARG_PATH) {
			*out_b64 = true;
			return a;
		}
	}
	/* It says which name may have been meant. */
	(void)wr_call_add(c, name, "", 0, err);
	if (!err->hint[0])
		hint_fields(api, err);
	return NULL;
}

/* A value as text for a field of that name. */
static int
add_text(struct wr_call *c, const struct wr_api_arg *a, bool b64, const char *s, size_t len,
	 struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	if (!b64)
		return wr_call_add(c, a->name, s, len, err);
	if (!wr_base64_decode(&b, s, len) || (b.len && memchr(b.p, '\0', b.len)))
		return wr_err_set(err, WR_E_INVALID, "%s_b64: not base64 of bytes without NUL",
				  a->name);
	return wr_call_add(c, a->name, wr_buf_str(&b), b.len, err);
}

/* ---- query ---- */

static int
add_pair(struct wr_call *c, const char *s, size_t len, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf name = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf value = WR_BUF_INIT;
	const char *eq = memchr(s, '=', len);
	size_t name_len = eq ? (size_t)(eq - s) : len;
	const struct wr_api_arg *a;
	bool b64;

	if (percent_decode(s, name_len, true, &name, err) < 0)
		return -1;
	a = field_find(c, wr_buf_str(&name), &b64, err);
	if (!a)
		return -1;
	if (!eq)
		return wr_err_set(err, WR_E_INVALID, "%s: it has no '=' and value", a->name);
	if (percent_decode(eq + 1, len - name_len - 1, true, &value, err) < 0)
		return wr_err_wrap(err, "%s", a->name);
	return add_text(c, a, b64, wr_buf_str(&value), value.len, err);
}

static int
add_query(struct wr_call *c, const char *q, struct wr_err *err)
{
	while (*q) {
		size_t len = strcspn(q, "&");

		if (len && add_pair(c, q, len, err) < 0)
			return -1;
		q += len + (q[len] == '&');
	}
	return 0;
}

/* ---- path ---- */

static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE"};

/* The error says already that the route has others. */
static int
refuse_method(const char *path, struct wr_refusal *no)
{
	size_t used = 0;

	no->status = 405;
	for (size_t i = 0; i < WR_ARRAY_LEN(methods); i++) {
		struct wr_err e = WR_ERR_INIT;
		char ref[128];

		/* Whatever else may be wrong with it, this method is there. */
		if (wr_api_match(methods[i], path, ref, &e) ||
		    (e.code != WR_E_UNSUPPORTED && e.code != WR_E_NOT_FOUND))
			used += (size_t)snprintf(no->allow + used, sizeof(no->allow) - used, "%s%s",
						 used ? ", " : "", methods[i]);
	}
	return -1;
}

int
wr_request_target(const char *method, const char *target, struct wr_call *out,
		  struct wr_refusal *no)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf path = WR_BUF_INIT;
	size_t len = strcspn(target, "?");
	struct wr_err *err = &no->err;

	if (percent_decode(target, len, false, &path, err) < 0)
		return refuse(no);
	out->api = wr_api_match(method, wr_buf_str(&path), out->ref, err);
	if (!out->api && err->code == WR_E_UNSUPPORTED)
		return refuse_method(wr_buf_str(&path), no);
	if (!out->api) {
		if (!err->hint[0])
			wr_err_hint(err, "paths begin with /v1/; GET /v1/health answers anyone");
		return refuse(no);
	}
	if (target[len] && add_query(out, target + len + 1, err) < 0)
		return refuse(no);
	return 0;
}

/* ---- body ---- */

static const char *
type_name(const json_t *v)
{
	switch (json_typeof(v)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "a number";
	case JSON_REAL:
		return "a fraction";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a boolean";
	case JSON_NULL:
		return "null";
	}
	return "something else";
}

static int
wrong_type(const char *name, const char *wanted, const json_t *v, struct wr_err *err)
{
	return wr_err_set(err, WR_E_INVALID, "%s: it must be %s, not %s", WR_Q(name), wanted,
			  type_name(v));
}

static int
add_number(struct wr_call *c, const struct wr_api_arg *a, const json_t *v, const char *wanted,
	   struct wr_err *err)
{
	char text[32];
	int n;

	if (!json_is_integer(v) || json_integer_value(v) < 0)
		return wrong_type(a->name, wanted, v, err);
	n = snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT, json_integer_value(v));
	return wr_call_add(c, a->name, text, (size_t)n, err);
}

static int
add_decimal(struct wr_call *c, const struct wr_api_arg *a, const json_t *v, struct wr_err *err)
{
	const double d = json_number_value(v);
	char text[32];
	int n;

	if (!json_is_number(v) || !(d >= 0 && d < 1e12))
		return wrong_type(a->name, "a number from 0 or a string as \"1.5\"", v, err);
	n = snprintf(text, sizeof(text), "%.3f", d);
	return wr_call_add(c, a->name, text, (size_t)n, err);
}

static int
add_list(struct wr_call *c, const struct wr_api_arg *a, const json_t *v, struct wr_err *err)
{
	const json_t *item;
	size_t i;

	if (!json_is_array(v))
		return wrong_type(a->name, "an array of strings", v, err);
	json_array_foreach(v, i, item)
	{
		if (!json_is_string(item))
			return wrong_type(a->name, "an array of strings", item, err);
		if (wr_call_add(c, a->name, json_string_value(item), json_string_length(item),
				err) < 0)
			return -1;
	}
	return 0;
}

static int
add_map(struct wr_call *c, const struct wr_api_arg *a, json_t *v, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	const char *key;
	json_t *item;

	if (!json_is_object(v))
		return wrong_type(a->name, "an object of strings", v, err);
	json_object_foreach(v, key, item)
	{
		if (!json_is_string(item))
			return wrong_type(a->name, "an object of strings", item, err);
		/* It would be read as another key. */
		if (strchr(key, '='))
			return wr_err_set(err, WR_E_INVALID, "%s: a '=' in its key '%s'", a->name,
					  WR_Q(key));
		wr_buf_clear(&b);
		wr_buf_adds(&b, key);
		wr_buf_add8(&b, '=');
		wr_buf_add(&b, json_string_value(item), json_string_length(item));
		if (wr_call_add(c, a->name, wr_buf_str(&b), b.len, err) < 0)
			return -1;
	}
	return 0;
}

static int
add_member(struct wr_call *c, const char *key, json_t *v, struct wr_err *err)
{
	bool b64;
	const struct wr_api_arg *a = field_find(c, key, &b64, err);

	if (!a)
		return -1;
	if (json_is_null(v))
		return 0;
	switch (a->kind) {
	case WR_ARG_STR:
	case WR_ARG_UUID:
	case WR_ARG_PATH:
		if (!json_is_string(v))
			return wrong_type(key, "a string", v, err);
		return add_text(c, a, b64, json_string_value(v), json_string_length(v), err);
	case WR_ARG_BOOL:
		if (!json_is_boolean(v))
			return wrong_type(key, "true or false", v, err);
		return wr_call_add(c, a->name, json_is_true(v) ? "true" : "false",
				   json_is_true(v) ? 4 : 5, err);
	case WR_ARG_U64:
		return add_number(c, a, v, "a whole number from 0", err);
	case WR_ARG_DECIMAL:
		if (json_is_string(v))
			return add_text(c, a, false, json_string_value(v), json_string_length(v),
					err);
		return add_decimal(c, a, v, err);
	case WR_ARG_SIZE:
		if (json_is_string(v))
			return add_text(c, a, false, json_string_value(v), json_string_length(v),
					err);
		return add_number(c, a, v, "a number of bytes or a string as \"4G\"", err);
	case WR_ARG_DURATION:
		if (json_is_string(v))
			return add_text(c, a, false, json_string_value(v), json_string_length(v),
					err);
		return add_number(c, a, v, "a number of seconds or a string as \"5min\"", err);
	case WR_ARG_LIST:
		return add_list(c, a, v, err);
	case WR_ARG_MAP:
		return add_map(c, a, v, err);
	}
	wr_assert(false); /* the table has no other kind */
	return -1;
}

/* application/json, with or without parameters */
static bool
is_json(const char *content_type)
{
	static const char want[] = "application/json";
	size_t len = sizeof(want) - 1;

	return content_type && !strncasecmp(content_type, want, len) &&
	       (content_type[len] == '\0' || content_type[len] == ';' || content_type[len] == ' ');
}

int
wr_request_body(struct wr_call *c, const char *content_type, const void *body, size_t len,
		struct wr_refusal *no)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	struct wr_err *err = &no->err;
	const char *key;
	json_t *v;

	if (len == 0)
		return wr_call_check(c, err) < 0 ? refuse(no) : 0;
	if (!strcmp(c->api->method, "GET")) {
		wr_err_set(err, WR_E_INVALID, "%s %s takes no body", c->api->method, c->api->route);
		wr_err_hint(err, "put its fields into the query: ?name=value");
		return refuse(no);
	}
	if (!is_json(content_type)) {
		wr_err_set(err, WR_E_INVALID, "the body is of type '%s'",
			   content_type ? WR_Q(content_type) : "none given");
		wr_err_hint(err, "send Content-Type: application/json");
		no->status = 415;
		return -1;
	}
	o = wr_json_parse(body, len, err);
	if (!o) {
		wr_err_wrap(err, "body");
		return refuse(no);
	}
	if (!json_is_object(o)) {
		wr_err_set(err, WR_E_INVALID, "the body must be an object, not %s", type_name(o));
		return refuse(no);
	}
	json_object_foreach(o, key, v)
	{
		if (add_member(c, key, v, err) < 0)
			return refuse(no);
	}
	return wr_call_check(c, err) < 0 ? refuse(no) : 0;
}

int
wr_request_token(const char *header, char *out, size_t size, struct wr_refusal *no)
{
	static const char scheme[] = "bearer";
	const char *s;
	size_t len;

	out[0] = '\0';
	if (!header)
		return 0;
	s = header + sizeof(scheme) - 1;
	if (!strncasecmp(header, scheme, sizeof(scheme) - 1) && *s == ' ') {
		s += strspn(s, " ");
		len = strlen(s);
		for (size_t i = 0; i < len; i++)
			if (s[i] <= 0x20 || s[i] > 0x7e)
				len = 0;
		if (len && len < size) {
			memcpy(out, s, len + 1);
			return 0;
		}
	}
	/* What was given may be a secret: the message does not repeat it. */
	wr_err_set(&no->err, WR_E_INVALID, "the header Authorization is not 'Bearer TOKEN'");
	return refuse(no);
}

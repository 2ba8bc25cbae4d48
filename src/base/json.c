/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include <math.h>

#include "base/str.h"

/* LIMIT: nesting of foreign text; jansson parses by recursion. */
#define DEPTH_MAX 32

/* Before main, so that no program can forget it: jansson then never sees an allocation fail. */
__attribute__((constructor)) static void
use_our_allocator(void)
{
	json_set_alloc_funcs(wr_malloc, free);
}

void
wr_json_freep(json_t **o)
{
	json_decref(*o);
	*o = NULL;
}

/* ---- making ---- */

void
wr_json_take(json_t *obj, const char *key, json_t *taken)
{
	int rc = json_object_set_new(obj, key, taken);

	wr_assert(rc == 0);
}

json_t *
wr_json_begin(const char *schema)
{
	json_t *obj = json_object();

	wr_json_str(obj, "schema", schema);
	return obj;
}

json_t *
wr_json_object(json_t *obj, const char *key)
{
	json_t *child = json_object();

	wr_json_take(obj, key, child);
	return child;
}

json_t *
wr_json_array(json_t *obj, const char *key)
{
	json_t *child = json_array();

	wr_json_take(obj, key, child);
	return child;
}

json_t *
wr_json_item(json_t *array)
{
	json_t *child = json_object();
	int rc = json_array_append_new(array, child);

	wr_assert(rc == 0);
	return child;
}

void
wr_json_u64(json_t *obj, const char *key, uint64_t v)
{
	/* LIMIT: JSON readers share signed 64 bits; no size or count comes near. */
	wr_json_take(obj, key, json_integer((json_int_t)WR_MIN(v, (uint64_t)INT64_MAX)));
}

void
wr_json_i64(json_t *obj, const char *key, int64_t v)
{
	wr_json_take(obj, key, json_integer((json_int_t)v));
}

void
wr_json_real(json_t *obj, const char *key, double v)
{
	wr_json_take(obj, key, isfinite(v) ? json_real(v) : json_null());
}

void
wr_json_bool(json_t *obj, const char *key, bool v)
{
	wr_json_take(obj, key, json_boolean(v));
}

void
wr_json_null(json_t *obj, const char *key)
{
	wr_json_take(obj, key, json_null());
}

void
wr_json_str(json_t *obj, const char *key, const char *s)
{
	WR_SCOPED(wr_freep) char *clean = s ? wr_utf8_lossy(s, strlen(s)) : NULL;

	wr_json_take(obj, key, clean ? json_string(clean) : json_null());
}

void
wr_json_path(json_t *obj, const char *key, const void *bytes, size_t len)
{
	WR_SCOPED(wr_freep) char *clean = wr_utf8_lossy(bytes, len);

	wr_json_take(obj, key, json_string(clean));
	if (!wr_utf8_valid(bytes, len)) {
		WR_SCOPED(wr_freep) char *key64 = wr_asprintf("%s_b64", key);
		WR_SCOPED(wr_freep) char *text = wr_base64(bytes, len);

		wr_json_take(obj, key64, json_string(text));
	}
}

void
wr_json_time(json_t *obj, const char *key, int64_t seconds)
{
	wr_json_str(obj, key, wr_fmt_utc(seconds).s);
}

void
wr_json_time_or_null(json_t *obj, const char *key, int64_t seconds)
{
	if (seconds)
		wr_json_time(obj, key, seconds);
	else
		wr_json_null(obj, key);
}

void
wr_json_add_str(json_t *array, const char *s)
{
	WR_SCOPED(wr_freep) char *clean = wr_utf8_lossy(s, strlen(s));
	int rc = json_array_append_new(array, json_string(clean));

	wr_assert(rc == 0);
}

void
wr_json_err(json_t *obj, const char *key, const struct wr_err *err)
{
	json_t *e = wr_json_object(obj, key);

	wr_json_str(e, "code", wr_err_name(err->code));
	wr_json_str(e, "message", err->msg);
	if (*err->hint)
		wr_json_str(e, "hint", err->hint);
}

static int
append(const char *bytes, size_t len, void *ctx)
{
	struct wr_buf *out = ctx;

	wr_buf_add(out, bytes, len);
	return 0;
}

void
wr_json_write(const json_t *o, struct wr_buf *out)
{
	int rc = json_dump_callback(o, append, out,
				    JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));

	wr_assert(rc == 0);
}

/* ---- reading ---- */

/* Is any value nested deeper than DEPTH_MAX, as far as the text is well-formed? */
static bool
too_deep(const char *p, size_t len)
{
	size_t depth = 0;
	bool in_string = false;

	for (size_t i = 0; i < len; i++) {
		if (in_string) {
			if (p[i] == '\\')
				i++;
			else if (p[i] == '"')
				in_string = false;
		} else if (p[i] == '"') {
			in_string = true;
		} else if (p[i] == '{' || p[i] == '[') {
			if (++depth > DEPTH_MAX)
				return true;
		} else if ((p[i] == '}' || p[i] == ']') && depth) {
			depth--;
		}
	}
	return false;
}

json_t *
wr_json_parse(const void *p, size_t len, struct wr_err *err)
{
	json_error_t e;
	json_t *o;

	if (too_deep(p, len)) {
		wr_err_set(err, WR_E_INVALID, "JSON is nested deeper than %d levels", DEPTH_MAX);
		return NULL;
	}
	/* jansson takes no NULL, not even for no bytes. */
	o = json_loadb(len ? p : "", len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
	if (!o)
		wr_err_set(err, WR_E_INVALID, "no valid JSON at line %d, column %d: %s", e.line,
			   e.column, WR_Q(e.text));
	return o;
}

const char *
wr_json_get_str(const json_t *obj, const char *key, const char *otherwise)
{
	const char *s = json_string_value(json_object_get(obj, key));

	return s ? s : otherwise;
}

uint64_t
wr_json_get_u64(const json_t *obj, const char *key, uint64_t otherwise)
{
	const json_t *v = json_object_get(obj, key);

	return json_is_integer(v) && json_integer_value(v) >= 0 ? (uint64_t)json_integer_value(v)
								: otherwise;
}

int64_t
wr_json_get_i64(const json_t *obj, const char *key, int64_t otherwise)
{
	const json_t *v = json_object_get(obj, key);

	return json_is_integer(v) ? (int64_t)json_integer_value(v) : otherwise;
}

bool
wr_json_get_bool(const json_t *obj, const char *key, bool otherwise)
{
	const json_t *v = json_object_get(obj, key);

	return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

double
wr_json_get_real(const json_t *obj, const char *key, double otherwise)
{
	const json_t *v = json_object_get(obj, key);

	return json_is_number(v) ? json_number_value(v) : otherwise;
}

int64_t
wr_json_get_time(const json_t *obj, const char *key, int64_t otherwise)
{
	const char *s = wr_json_get_str(obj, key, NULL);
	int64_t t;

	return s && wr_parse_utc(s, &t, NULL) == 0 ? t : otherwise;
}

json_t *
wr_json_get_obj(const json_t *obj, const char *key)
{
	json_t *v = json_object_get(obj, key);

	return json_is_object(v) ? v : NULL;
}

json_t *
wr_json_get_arr(const json_t *obj, const char *key)
{
	json_t *v = json_object_get(obj, key);

	return json_is_array(v) ? v : NULL;
}

void
wr_json_get_err(const json_t *obj, struct wr_err *out)
{
	const char *name = wr_json_get_str(obj, "code", "");
	enum wr_err_code code = WR_E_FAILED; /* also for the codes of a later version */

	for (unsigned i = 0; i < WR_E_COUNT; i++)
		if (!strcmp(name, wr_err_name(i)))
			code = i;
	wr_err_set(out, code, "%s", wr_json_get_str(obj, "message", "no message"));
	wr_err_hint(out, "%s", wr_json_get_str(obj, "hint", ""));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments of an operation. Control checked them by the table of calls; here they are only read,
 * as typed JSON or as the text they came in. */
#include "host/life/life_int.h"

#include "base/str.h"

static const json_t *
member(const struct wr_life *l, const char *name)
{
	const json_t *v = json_object_get(l->args, name);

	return v && !json_is_null(v) ? v : NULL;
}

const char *
wr_life_arg(const struct wr_life *l, const char *name)
{
	const char *s = json_string_value(member(l, name));

	return s && *s ? s : NULL;
}

bool
wr_life_arg_bool(const struct wr_life *l, const char *name)
{
	const json_t *v = member(l, name);
	bool b = false;

	if (json_is_string(v))
		return wr_parse_bool(json_string_value(v), &b, NULL) == 0 && b;
	return json_is_true(v);
}

uint64_t
wr_life_arg_u64(const struct wr_life *l, const char *name, uint64_t otherwise)
{
	const json_t *v = member(l, name);
	uint64_t n;

	if (json_is_string(v))
		return wr_parse_u64(json_string_value(v), &n, NULL) == 0 ? n : otherwise;
	return json_is_integer(v) && json_integer_value(v) >= 0 ? (uint64_t)json_integer_value(v)
								: otherwise;
}

char *
wr_life_get_path(const json_t *o, const char *name, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *key = wr_asprintf("%s_b64", name);
	const char *b64 = wr_json_get_str(o, key, NULL), *s = wr_json_get_str(o, name, NULL);
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	if (!b64)
		return s ? wr_strdup(s) : NULL;
	if (!wr_base64_decode(&b, b64, strlen(b64)) || (b.len && memchr(b.p, '\0', b.len))) {
		wr_err_set(err, WR_E_INVALID, "'%s' is no base64 of a path", key);
		return NULL;
	}
	return wr_buf_detach(&b, NULL);
}

char *
wr_life_arg_path(const struct wr_life *l, const char *name, struct wr_err *err)
{
	return wr_life_get_path(l->args, name, err);
}

json_t *
wr_life_arg_list(const struct wr_life *l, const char *name)
{
	const json_t *v = member(l, name), *e;
	json_t *out = json_array();

	if (json_is_array(v)) {
		for (size_t i = 0; i < json_array_size(v); i++) {
			e = json_array_get(v, i);
			if (json_is_string(e))
				wr_json_add_str(out, json_string_value(e));
		}
	} else if (json_is_object(v)) {
		for (void *it = json_object_iter((json_t *)(uintptr_t)v); it;
		     it = json_object_iter_next((json_t *)(uintptr_t)v, it)) {
			const char *value = json_string_value(json_object_iter_value(it));
			WR_SCOPED(wr_freep)
			char *pair =
			    wr_asprintf("%s=%s", json_object_iter_key(it), value ? value : "");

			wr_json_add_str(out, pair);
		}
	} else if (json_is_string(v)) {
		wr_json_add_str(out, json_string_value(v));
	}
	return out;
}

void
wr_life_set_path(json_t *o, const char *key, const char *path)
{
	wr_json_path(o, key, path, strlen(path));
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * STATE/control/ID: what the working files derive from.  It lies outside repository and tree and
 * survives both.  Nothing here is guessed: a record that cannot be understood is an error, and what
 * would touch files does not go on.
 *
 *   {"format":1,"base","dirty","saving","applying":null|{"op","commit","path","dest",
 *    "delete_extra","overwrite"},"deleted":null|SECONDS,"purged"}
 */
#include "host/node/node_int.h"

#include <unistd.h>

#include "base/str.h"
#include "host/node/room.h"
#include "sys/crash.h"
#include "sys/fs.h"

static void
forget_applying(struct wr_work *w)
{
	free(w->applying.path);
	free(w->applying.dest);
	w->applying.path = w->applying.dest = NULL;
}

void
wr_work_fini(struct wr_work *w)
{
	forget_applying(w);
}

static char *
record_name(const struct wr_uuid *id)
{
	return wr_asprintf("control/%s", id->s);
}

/* ---- reading ---- */

static int
bad(const char *key, struct wr_err *err)
{
	return wr_err_set(err, WR_E_CORRUPT, "member '%s' is missing or not as it should be", key);
}

static int
get_bool(const json_t *o, const char *key, bool *out, struct wr_err *err)
{
	const json_t *v = json_object_get(o, key);

	if (!json_is_boolean(v))
		return bad(key, err);
	*out = json_is_true(v);
	return 0;
}

static int
get_commit(const json_t *o, const char *key, bool may_be_empty, char out[41], struct wr_err *err)
{
	const char *s = wr_json_get_str(o, key, NULL);

	if (!s ||
	    !((may_be_empty && !*s) || (strlen(s) == 40 && strspn(s, "0123456789abcdef") == 40)))
		return bad(key, err);
	memcpy(out, s, strlen(s) + 1);
	return 0;
}

static int
get_op(const json_t *o, const char *key, bool may_be_empty, char out[37], struct wr_err *err)
{
	const char *s = wr_json_get_str(o, key, NULL);
	struct wr_uuid id = {""};

	if (!s || !((may_be_empty && !*s) || wr_uuid_parse(s, &id)))
		return bad(key, err);
	memcpy(out, id.s, sizeof(id.s));
	return 0;
}

/* Names are bytes, JSON is text: as pairs of hex digits they come back as they were. */
static int
get_bytes(const json_t *o, const char *key, char **out, struct wr_err *err)
{
	static const char hex[] = "0123456789abcdef";
	const json_t *v = json_object_get(o, key);
	const char *s = json_string_value(v);
	size_t n = s ? strlen(s) : 0;
	WR_SCOPED(wr_freep) char *bytes = NULL;

	if (json_is_null(v))
		return 0;
	if (!s || n % 2 || strspn(s, hex) != n)
		return bad(key, err);
	bytes = wr_malloc(n / 2 + 1);
	for (size_t i = 0; i < n; i += 2)
		bytes[i / 2] =
		    (char)((strchr(hex, s[i]) - hex) << 4 | (strchr(hex, s[i + 1]) - hex));
	bytes[n / 2] = '\0';
	if (strlen(bytes) != n / 2)
		return bad(key, err);
	*out = wr_steal(&bytes);
	return 0;
}

static int
get_applying(const json_t *o, struct wr_work *w, struct wr_err *err)
{
	const json_t *a = json_object_get(o, "applying"), *v;

	if (json_is_null(a))
		return 0;
	v = json_object_get(a, "overwrite"); /* NULL for what is no object */
	if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > 255)
		return bad("applying", err);
	w->applying.on = true;
	w->applying.overwrite = (int)json_integer_value(v);
	if (get_op(a, "op", false, w->applying.op, err) < 0 ||
	    get_commit(a, "commit", false, w->applying.commit, err) < 0 ||
	    get_bytes(a, "path", &w->applying.path, err) < 0 ||
	    get_bytes(a, "dest", &w->applying.dest, err) < 0)
		return -1;
	return get_bool(a, "delete_extra", &w->applying.delete_extra, err);
}

static int
get_deleted(const json_t *o, struct wr_work *w, struct wr_err *err)
{
	const json_t *v = json_object_get(o, "deleted");

	if (json_is_null(v))
		return 0;
	if (!json_is_integer(v))
		return bad("deleted", err);
	w->deleted = true;
	w->deleted_at = json_integer_value(v);
	return 0;
}

int
wr_work_load(struct wr_node *n, const struct wr_uuid *id, struct wr_work *out, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *name = record_name(id);
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	struct wr_err why = WR_ERR_INIT;
	struct wr_work w = {0};

	o = wr_file_load(n->state_fd, name, WR_FILE_MAX, "format", WR_NODE_FORMAT, &why);
	if (!o && why.code == WR_E_NOT_FOUND && faccessat(n->state_fd, "control", F_OK, 0) == 0) {
		*out = w;
		return 0;
	}
	if (!o || get_commit(o, "base", true, w.base, &why) < 0 ||
	    get_bool(o, "dirty", &w.dirty, &why) < 0 ||
	    get_op(o, "saving", true, w.saving, &why) < 0 || get_applying(o, &w, &why) < 0 ||
	    get_deleted(o, &w, &why) < 0 || get_bool(o, "purged", &w.purged, &why) < 0) {
		forget_applying(&w);
		if (err)
			*err = why;
		wr_err_wrap(err, "work record '%s/%s'", WR_Q(n->state_path), name);
		return why.code == WR_E_CORRUPT
			   ? wr_err_hint(err, "it says whether the working files hold unsaved "
					      "changes, so nothing touches them; move it away, and "
					      "the next start puts them on a side branch first")
			   : -1;
	}
	*out = w;
	return 0;
}

/* ---- writing ---- */

static void
put_bytes(json_t *o, const char *key, const char *bytes)
{
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;

	for (const char *s = bytes; s && *s; s++)
		wr_buf_addf(&b, "%02x", (uint8_t)*s);
	wr_json_str(o, key, bytes ? wr_buf_str(&b) : NULL);
}

static void
put_applying(json_t *o, const struct wr_work *w)
{
	json_t *a;

	if (!w->applying.on) {
		wr_json_null(o, "applying");
		return;
	}
	a = wr_json_object(o, "applying");
	wr_json_str(a, "op", w->applying.op);
	wr_json_str(a, "commit", w->applying.commit);
	put_bytes(a, "path", w->applying.path);
	put_bytes(a, "dest", w->applying.dest);
	wr_json_bool(a, "delete_extra", w->applying.delete_extra);
	wr_json_i64(a, "overwrite", w->applying.overwrite);
}

int
wr_work_store(struct wr_node *n, const struct wr_uuid *id, const struct wr_work *w,
	      struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *name = record_name(id);
	WR_SCOPED(wr_json_freep) json_t *o = json_object();
	struct wr_err why = WR_ERR_INIT;

	wr_json_u64(o, "format", WR_NODE_FORMAT);
	wr_json_str(o, "base", w->base);
	wr_json_bool(o, "dirty", w->dirty);
	wr_json_str(o, "saving", w->saving);
	put_applying(o, w);
	if (w->deleted)
		wr_json_i64(o, "deleted", w->deleted_at);
	else
		wr_json_null(o, "deleted");
	wr_json_bool(o, "purged", w->purged);
	wr_crash_point("work.store");
	/* DURABLE: what comes next relies on it. */
	if (wr_file_store(n->state_fd, name, o, WR_FILE_MAX, 0600, true, &why) < 0) {
		if (why.code == WR_E_NOSPACE)
			wr_room_make_state(n);
		if (why.code != WR_E_NOSPACE ||
		    wr_file_store(n->state_fd, name, o, WR_FILE_MAX, 0600, true, &why) < 0) {
			if (err)
				*err = why;
			return wr_err_wrap(err, "work record '%s/%s'", WR_Q(n->state_path), name);
		}
	}
	wr_crash_point("work.stored");
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include "sys/fs.h"

json_t *
wr_json_load(int dirfd, const char *name, size_t max, uint64_t format, struct wr_err *err)
{
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;
	struct wr_err why = WR_ERR_INIT;
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	const json_t *f;

	if (wr_read_file(dirfd, name, max, &b, &why) < 0) {
		if (why.code == WR_E_LIMIT)
			wr_err_recode(&why, WR_E_CORRUPT);
		if (err)
			*err = why;
		return NULL;
	}
	o = wr_json_parse(b.p, b.len, &why);
	if (!o) {
		wr_err_set(err, WR_E_CORRUPT, "'%s': %s", WR_Q(name), why.msg);
		return NULL;
	}
	f = json_object_get(o, "format"); /* NULL for what is no object */
	if (!json_is_integer(f) || json_integer_value(f) < 0) {
		wr_err_set(err, WR_E_CORRUPT, "'%s' says no format", WR_Q(name));
		return NULL;
	}
	if ((uint64_t)json_integer_value(f) > format) {
		wr_err_set(err, WR_E_UNSUPPORTED,
			   "'%s' has format %" JSON_INTEGER_FORMAT
			   ", this program reads up to %" PRIu64,
			   WR_Q(name), json_integer_value(f), format);
		return NULL;
	}
	return wr_steal(&o);
}

int
wr_json_save(int dirfd, const char *name, const json_t *o, int mode, struct wr_err *err)
{
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;

	wr_json_write(o, &b);
	wr_buf_add8(&b, '\n');
	return wr_replace_file(dirfd, name, b.p, b.len, mode, err);
}

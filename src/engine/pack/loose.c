/* SPDX-License-Identifier: Apache-2.0 */
/* Loose objects: one zlib stream of "<type> <size>\0" and the payload, in objects/ab/cdef... */
#include <fcntl.h>
#include <unistd.h>

#include "engine/pack/pack_int.h"
#include "sys/fs.h"

/* Type, space, decimal size, NUL. */
#define HEAD_MAX 32

struct loose_path {
	char s[2 * WR_ID_LEN + 2];
};

static struct loose_path
path_of(const struct wr_id *id)
{
	struct loose_path p;
	struct wr_id_hex hex = wr_id_hex(id);

	snprintf(p.s, sizeof(p.s), "%.2s/%s", hex.s, hex.s + 2);
	return p;
}

static int
bad(struct wr_err *err, const char *what)
{
	return wr_err_set(err, WR_E_CORRUPT, "damaged loose object: %s", what);
}

/* The payload's length is inside the stream: inflate into more and more room. */
static int
inflate_all(const uint8_t *p, size_t len, struct wr_buf *out, struct wr_err *err)
{
	struct wr_inflater *i = wr_inflater_new();
	size_t max = (size_t)WR_OBJ_MAX + HEAD_MAX, made = 0;
	size_t room = WR_MAX((size_t)4096, WR_MIN(len, max) * 4);
	int done;

	do {
		room = WR_MIN(room, max);
		wr_buf_clear(out);
		wr_buf_reserve(out, room);
		done = wr_inflate_upto(i, p, len, out->p, room, &made);
	} while (done == 0 && room < max && (room *= 4));
	wr_inflater_free(i);
	if (done < 0)
		return bad(err, "its zlib stream is broken");
	if (done == 0)
		return wr_err_set(err, WR_E_LIMIT,
				  "loose object is above the limit of %" PRIu64 " bytes",
				  WR_OBJ_MAX);
	out->len = made;
	return 0;
}

int
wr_loose_parse(const void *p, size_t len, enum wr_obj_type *out_type, struct wr_buf *out,
	       struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_buf other;
	enum wr_obj_type type;
	const uint8_t *space, *nul;
	uint64_t size = 0;

	if (inflate_all(p, len, &b, err) < 0)
		return -1;
	nul = memchr(b.p, 0, WR_MIN(b.len, (size_t)HEAD_MAX));
	space = nul ? memchr(b.p, ' ', (size_t)(nul - b.p)) : NULL;
	if (!space || nul == space + 1)
		return bad(err, "no header");
	type = wr_obj_type_parse((const char *)b.p, (size_t)(space - b.p));
	if (type == WR_OBJ_NONE)
		return bad(err, "unknown type");
	for (const uint8_t *c = space + 1; c < nul; c++) {
		if (*c < '0' || *c > '9' || size > WR_OBJ_MAX)
			return bad(err, "size is no number");
		size = size * 10 + (*c - '0');
	}
	nul++;
	if (size != b.len - (size_t)(nul - b.p))
		return bad(err, "size does not fit its header");
	memmove(b.p, nul, (size_t)size);
	b.len = (size_t)size;
	other = *out;
	*out = b;
	b = other;
	*out_type = type;
	return 0;
}

int
wr_loose_read(int objects_fd, const struct wr_id *id, enum wr_obj_type *out_type,
	      struct wr_buf *out, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf file = WR_BUF_INIT;
	struct loose_path path = path_of(id);

	if (wr_read_file(objects_fd, path.s, wr_deflate_bound(WR_OBJ_MAX), &file, err) < 0 ||
	    wr_loose_parse(file.p, file.len, out_type, out, err) < 0)
		return wr_err_wrap(err, "read loose object %s", wr_id_hex(id).s);
	return 0;
}

bool
wr_loose_exists(int objects_fd, const struct wr_id *id)
{
	return faccessat(objects_fd, path_of(id).s, F_OK, 0) == 0;
}

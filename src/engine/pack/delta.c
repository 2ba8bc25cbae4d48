/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Git's deltas: base size, result size (both little-endian base 128), then instructions.
 * 1ooosooo-style byte = copy from the base: its low 7 bits tell which of 4 offset bytes and 3
 * size bytes follow (size 0 means 65536); 0nnnnnnn = the next n bytes literally; 0 is reserved.
 */
#include "engine/pack/pack_int.h"

static int
bad(struct wr_err *err, const char *what)
{
	return wr_err_set(err, WR_E_CORRUPT, "damaged delta: %s", what);
}

static uint64_t
get_size(struct wr_rd *r)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 64; shift += 7) {
		uint8_t c = wr_rd8(r);

		v |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80))
			return v;
	}
	r->bad = true;
	return 0;
}

static int
get_sizes(struct wr_rd *r, uint64_t *out_base, uint64_t *out_result, struct wr_err *err)
{
	uint64_t base = get_size(r), result = get_size(r);

	if (r->bad)
		return bad(err, "no sizes");
	if (result > WR_OBJ_MAX)
		return wr_err_set(err, WR_E_LIMIT,
				  "object of %" PRIu64 " bytes is above the limit of %" PRIu64,
				  result, WR_OBJ_MAX);
	*out_base = base;
	*out_result = result;
	return 0;
}

int
wr_delta_sizes(const void *delta, size_t delta_len, uint64_t *out_base, uint64_t *out_result,
	       struct wr_err *err)
{
	struct wr_rd r = wr_rd(delta, delta_len);

	return get_sizes(&r, out_base, out_result, err);
}

/* The operands of a copy instruction. */
static void
get_copy(struct wr_rd *r, uint8_t op, size_t *off, size_t *len)
{
	*off = *len = 0;
	for (unsigned i = 0; i < 4; i++)
		if (op & 1u << i)
			*off |= (size_t)wr_rd8(r) << 8 * i;
	for (unsigned i = 0; i < 3; i++)
		if (op & 0x10u << i)
			*len |= (size_t)wr_rd8(r) << 8 * i;
	if (*len == 0)
		*len = 0x10000;
}

int
wr_delta_apply(const void *base, size_t base_len, const void *delta, size_t delta_len,
	       struct wr_buf *out, struct wr_err *err)
{
	struct wr_rd r = wr_rd(delta, delta_len);
	uint64_t base_size, size;
	size_t done = 0;

	if (get_sizes(&r, &base_size, &size, err) < 0)
		return -1;
	if (base_size != base_len)
		return bad(err, "made for a base of another size");
	wr_buf_clear(out);
	wr_buf_reserve(out, (size_t)size);
	while (r.left > 0) {
		uint8_t op = wr_rd8(&r);
		const uint8_t *from;
		size_t off, len;

		if (op & 0x80) {
			get_copy(&r, op, &off, &len);
			if (r.bad || off > base_len || len > base_len - off)
				return bad(err, "copies from outside its base");
			from = (const uint8_t *)base + off;
		} else {
			len = op;
			from = wr_rd_bytes(&r, len);
			if (!len || !from)
				return bad(err, "reserved or cut instruction");
		}
		if (len > size - done)
			return bad(err, "makes more than it declares");
		memcpy(out->p + done, from, len);
		done += len;
	}
	if (done != size)
		return bad(err, "makes less than it declares");
	out->len = done;
	return 0;
}

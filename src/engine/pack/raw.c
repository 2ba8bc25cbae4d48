/* SPDX-License-Identifier: Apache-2.0 */
/* Entries as bytes: copied out of packs, made, taken apart. */
#include <libdeflate.h>

#include "engine/pack/pack_int.h"

size_t
wr_pack_head_format(uint8_t head[WR_ENTRY_HEAD_MAX], enum wr_obj_type type, uint64_t size)
{
	size_t n = 0;

	head[n] = (uint8_t)((unsigned)type << 4 | (size & 15));
	for (size >>= 4; size; size >>= 7) {
		head[n++] |= 0x80;
		head[n] = (uint8_t)(size & 0x7f);
	}
	return n + 1;
}

int
wr_pack_raw(const struct wr_pack *p, struct wr_pack_reader *r, uint64_t off, uint64_t end,
	    const uint32_t *crc, struct wr_buf *out, struct wr_err *err)
{
	struct wr_pack_entry e;
	const uint8_t *b;
	size_t len, n;

	if (wr_pack_entry_at(p, r, off, &e, err) < 0)
		return wr_err_wrap(err, "pack '%s'", WR_Q(p->name));
	if (wr_pack_is_delta(e.type))
		return 0;
	/* What no index may claim: more than the stream can take, or bytes behind the last entry.
	 */
	if (end <= off + e.head_len || end > p->size - WR_PACK_SUM_LEN ||
	    end - off > e.head_len + wr_deflate_bound((size_t)e.size))
		return wr_err_set(err, WR_E_CORRUPT,
				  "pack '%s': the object at offset %" PRIu64
				  " does not end where the next begins",
				  WR_Q(p->name), off);
	n = (size_t)(end - off);
	if (wr_pack_bytes(p, r, off, n, n, &b, &len, err) < 0)
		return -1;
	if (crc && libdeflate_crc32(0, b, n) != *crc)
		return wr_err_set(err, WR_E_CORRUPT,
				  "pack '%s': damaged object at offset %" PRIu64
				  ": its CRC is wrong",
				  WR_Q(p->name), off);
	wr_buf_add(out, b, n);
	return 1;
}

void
wr_pack_entry_make(struct wr_deflater *d, enum wr_obj_type type, const void *p, size_t len,
		   struct wr_buf *out)
{
	uint8_t head[WR_ENTRY_HEAD_MAX];

	wr_buf_add(out, head, wr_pack_head_format(head, type, len));
	wr_deflate(d, p, len, out);
}

static int
whole_only(const struct wr_pack_entry *e, uint64_t max, struct wr_err *err)
{
	if (wr_pack_is_delta(e->type))
		return wr_err_set(err, WR_E_CORRUPT, "a delta where whole objects are expected");
	if (e->size > max)
		return wr_err_set(err, WR_E_LIMIT,
				  "object of %" PRIu64 " bytes is above the limit of %" PRIu64,
				  e->size, max);
	return 0;
}

int
wr_pack_entry_open(struct wr_inflater *i, const void *p, size_t len, uint64_t max,
		   enum wr_obj_type *out_type, uint32_t *out_crc, struct wr_buf *out,
		   struct wr_err *err)
{
	const uint8_t *b = p;
	struct wr_pack_entry e;
	size_t used;

	if (wr_pack_entry_parse(b, len, 0, len, &e, err) < 0 || whole_only(&e, max, err) < 0)
		return -1;
	wr_buf_clear(out);
	wr_buf_reserve(out, (size_t)e.size);
	if (wr_inflate(i, b + e.head_len, len - e.head_len, out->p, (size_t)e.size, &used) !=
		WR_INFLATE_OK ||
	    used != len - e.head_len)
		return wr_err_set(err, WR_E_CORRUPT, "broken zlib stream");
	out->len = (size_t)e.size;
	*out_type = e.type;
	*out_crc = libdeflate_crc32(0, b, len);
	return 0;
}

int
wr_pack_scan(const struct wr_pack *p, struct wr_pack_reader *r, uint64_t off,
	     enum wr_obj_type *out_type, uint32_t *out_crc, struct wr_buf *out, struct wr_buf *raw,
	     struct wr_err *err)
{
	struct wr_pack_entry e;
	const uint8_t *b;
	size_t used, len;

	if (wr_pack_entry_at(p, r, off, &e, err) < 0 || whole_only(&e, WR_OBJ_MAX, err) < 0 ||
	    wr_pack_entry_inflate(p, r, &e, out, &used, err) < 0)
		return -1;
	used += e.head_len;
	if (wr_pack_bytes(p, r, off, used, used, &b, &len, err) < 0)
		return -1;
	*out_type = e.type;
	*out_crc = libdeflate_crc32(0, b, used);
	wr_buf_clear(raw);
	wr_buf_add(raw, b, used);
	return 0;
}

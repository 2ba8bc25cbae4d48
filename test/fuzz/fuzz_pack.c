/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole packs: the index is rebuilt, then every object is read, asked for its size and verified
 * through it, and objects are read at offsets where none begins.
 *
 * Checksums in the streams would stop nearly every change to a real pack.  So an input that is not
 * one is taken as a recipe for a pack with good streams:
 *   per entry: type, size and base, one byte each, then that many bytes of payload
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/pack/pack.h"
#include "sys/fs.h"
#include "sys/pool.h"

#define ENTRIES_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
on_bad(void *ctx, const struct wr_id *id, const char *why)
{
	(void)ctx;
	(void)id;
	wr_assert(why != NULL);
}

static void
read_one(const struct wr_pack *p, const struct wr_idx *x, struct wr_pack_reader *r, uint64_t off,
	 struct wr_buf *out)
{
	struct wr_err err = WR_ERR_INIT;
	enum wr_obj_type type, stat_type;
	uint64_t size;

	if (wr_pack_read(p, x, r, off, &type, out, &err) < 0)
		return;
	wr_assert(type >= WR_OBJ_COMMIT && type <= WR_OBJ_TAG);
	wr_assert(wr_pack_stat(p, x, r, off, &stat_type, &size, &err) == 0);
	wr_assert(stat_type == type && size == out->len);
}

static void
use(const struct wr_pack *p, uint64_t size)
{
	static struct wr_pool *pool;
	struct wr_pack_reader *r = wr_pack_reader_new();
	struct wr_buf idx = WR_BUF_INIT, out = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_idx x;

	if (!pool)
		pool = wr_pool_new(1);
	if (wr_pack_index(p, &idx, on_bad, NULL, &err) == 0) {
		wr_assert(wr_idx_open_mem(&x, idx.p, idx.len, &err) == 0);
		wr_assert(wr_idx_check(&x, size, &err) == 0);
		for (uint32_t i = 0; i < x.count; i++)
			read_one(p, &x, r, wr_idx_offset(&x, i), &out);
		(void)wr_pack_verify(p, &x, pool, on_bad, NULL, NULL, &err);
	}
	for (uint64_t off = 0; off < size; off += 1 + size / 16)
		read_one(p, NULL, r, off, &out);
	wr_pack_reader_free(r);
	wr_buf_fini(&idx);
	wr_buf_fini(&out);
}

/* An id that some entry may have, or none. */
static struct wr_id
id_of(const struct wr_id *known, size_t count, uint8_t base)
{
	struct wr_id none;

	memset(none.b, base, sizeof(none.b));
	return known && base < count ? known[base] : none;
}

static void
add_entry(struct wr_buf *b, enum wr_obj_type type, uint8_t base, const uint64_t *off,
	  const struct wr_id *id, size_t count, const uint8_t *p, uint8_t len)
{
	struct wr_deflater *d = wr_deflater_new(0);

	wr_buf_add8(b, (uint8_t)(0x80 | (unsigned)type << 4 | (len & 15)));
	wr_buf_add8(b, len >> 4);
	if (type == WR_OBJ_REF_DELTA) {
		struct wr_id of = id_of(id, count, base);

		wr_buf_add(b, of.b, WR_ID_LEN);
	} else if (type == WR_OBJ_OFS_DELTA) {
		uint64_t distance = base < count ? off[count] - off[base] : base;

		if (distance >= 128) {
			distance -= 128;
			wr_buf_add8(b, (uint8_t)(0x80 | (distance >> 7 & 0x7f)));
		}
		wr_buf_add8(b, distance & 0x7f);
	}
	wr_deflate(d, p, len, b);
	wr_deflater_free(d);
}

static void
build(struct wr_buf *b, struct wr_rd r)
{
	uint64_t off[ENTRIES_MAX + 1];
	struct wr_id id[ENTRIES_MAX], sum = {{0}};
	size_t count = 0;

	wr_buf_adds(b, "PACK");
	wr_buf_add32be(b, 2);
	wr_buf_add32be(b, 0);
	while (r.left > 0 && count < ENTRIES_MAX) {
		enum wr_obj_type type = wr_rd8(&r) & 7;
		uint8_t len = wr_rd8(&r), base = wr_rd8(&r);
		const uint8_t *p;

		len = (uint8_t)WR_MIN((size_t)len, r.left);
		p = wr_rd_bytes(&r, len);
		if (!p)
			break;
		off[count] = b->len;
		/* Whole objects can be named by later deltas; so can, by luck, other deltas. */
		id[count] = type >= WR_OBJ_COMMIT && type <= WR_OBJ_TAG ? wr_obj_id(type, p, len)
									: id_of(NULL, 0, base);
		add_entry(b, type, base, off, id, count, p, len);
		count++;
	}
	wr_put32be(b->p + 8, (uint32_t)count);
	wr_buf_add(b, sum.b, WR_ID_LEN);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wr_pack p = WR_PACK_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_buf b = WR_BUF_INIT;
	char path[40];
	int fd = memfd_create("pack", MFD_CLOEXEC);

	if (size >= 4 && memcmp(data, "PACK", 4) == 0)
		wr_buf_add(&b, data, size);
	else
		build(&b, wr_rd(data, size));
	wr_assert(fd >= 0 && wr_write_all(fd, b.p, b.len) == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (wr_pack_open(&p, AT_FDCWD, path, &err) == 0) {
		use(&p, b.len);
		wr_pack_close(&p);
	}
	close(fd);
	wr_buf_fini(&b);
	return 0;
}

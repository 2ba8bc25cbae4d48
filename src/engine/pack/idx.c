/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pack indexes.
 *
 *   version 2: ff 't' 'O' 'c', be32 2, fan-out 256 x be32, N ids, N x be32 CRC-32, N x be32 offset,
 *              M x be64 offset (for offsets from 2^31), SHA-1 of the pack, SHA-1 of the index
 *   version 1: fan-out, N x (be32 offset, id), the two SHA-1s
 *
 * Open checks what a lookup needs to stay inside the map; everything else is wr_idx_check's.
 */
#include "engine/pack/idx.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/pack/pack_int.h"
#include "sys/fs.h"

#define MAGIC 0xff744f63u
#define FANOUT_LEN 1024
#define SUMS_LEN 40
#define FAR 0x80000000u /* the offset stands in the 64-bit table */

int
wr_map_file(int dirfd, const char *name, const uint8_t **out, size_t *out_len, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *p;

	if (fd < 0 || fstat(fd, &st) < 0)
		return wr_err_sys(err, "open '%s'", WR_Q(name));
	if (!S_ISREG(st.st_mode) || st.st_size == 0)
		return wr_err_set(err, WR_E_CORRUPT, "'%s' is empty or not a file", WR_Q(name));
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return wr_err_sys(err, "map '%s'", WR_Q(name));
	*out = p;
	*out_len = (size_t)st.st_size;
	return 0;
}

void
wr_unmap_file(const uint8_t *map, size_t len)
{
	munmap((void *)(uintptr_t)map, len);
}

static uint32_t
fan(const struct wr_idx *x, unsigned byte)
{
	return wr_get32be(x->fanout + 4 * (size_t)byte);
}

static int
bad_shape(struct wr_err *err, const char *what)
{
	return wr_err_set(err, WR_E_CORRUPT, "damaged pack index: %s", what);
}

int
wr_idx_open_mem(struct wr_idx *x, const void *p, size_t len, struct wr_err *err)
{
	struct wr_idx t = {.map = p, .map_len = len};
	uint64_t n, need;

	if (len < FANOUT_LEN + SUMS_LEN)
		return bad_shape(err, "cut short");
	t.version = wr_get32be(t.map) == MAGIC ? 2 : 1;
	if (t.version == 2 && wr_get32be(t.map + 4) != 2)
		return wr_err_set(err, WR_E_UNSUPPORTED, "pack index of version %" PRIu32,
				  wr_get32be(t.map + 4));
	t.fanout = t.map + (t.version == 2 ? 8 : 0);
	need = (t.version == 2 ? 8 : 0) + FANOUT_LEN + SUMS_LEN;
	if (len < need)
		return bad_shape(err, "cut short");
	for (unsigned i = 1; i < 256; i++)
		if (fan(&t, i) < fan(&t, i - 1))
			return bad_shape(err, "fan-out goes backwards");
	n = t.count = fan(&t, 255);
	if (t.version == 1) {
		t.offs = t.fanout + FANOUT_LEN;
		t.ids = t.offs + 4;
		t.id_stride = 24;
		if (need + 24 * n != len)
			return bad_shape(err, "length does not fit its count");
	} else {
		need += 28 * n;
		if (len < need || (len - need) % 8 != 0 || (len - need) / 8 > n)
			return bad_shape(err, "length does not fit its count");
		t.ids = t.fanout + FANOUT_LEN;
		t.id_stride = 20;
		t.crcs = t.ids + 20 * n;
		t.offs = t.crcs + 4 * n;
		t.offs64 = t.offs + 4 * n;
		t.offs64_count = (size_t)(len - need) / 8;
	}
	*x = t;
	return 0;
}

int
wr_idx_open(struct wr_idx *x, int dirfd, const char *name, struct wr_err *err)
{
	const uint8_t *map;
	size_t len;

	if (wr_map_file(dirfd, name, &map, &len, err) < 0)
		return -1;
	if (wr_idx_open_mem(x, map, len, err) < 0) {
		wr_unmap_file(map, len);
		return wr_err_wrap(err, "open '%s'", WR_Q(name));
	}
	x->mapped = true;
	return 0;
}

void
wr_idx_close(struct wr_idx *x)
{
	if (x->mapped)
		wr_unmap_file(x->map, x->map_len);
	*x = (struct wr_idx){0};
}

static const uint8_t *
id_at(const struct wr_idx *x, uint32_t pos)
{
	return x->ids + x->id_stride * pos;
}

int64_t
wr_idx_find(const struct wr_idx *x, const struct wr_id *id)
{
	uint32_t lo, hi;

	if (!x->count)
		return -1;
	lo = id->b[0] ? fan(x, id->b[0] - 1u) : 0;
	hi = fan(x, id->b[0]);
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		int c = memcmp(id_at(x, mid), id->b, WR_ID_LEN);

		if (c == 0)
			return mid;
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return -1;
}

/* As memcmp over the first `bits` bits. */
static int
prefix_cmp(const uint8_t *id, const uint8_t *prefix, unsigned bits)
{
	unsigned bytes = bits / 8, rest = bits % 8;
	int c = memcmp(id, prefix, bytes);
	unsigned mask = 0xff00u >> rest & 0xffu;

	if (c != 0 || rest == 0)
		return c;
	return (int)(id[bytes] & mask) - (int)(prefix[bytes] & mask);
}

/* First position whose id is not below (or, with past set, is above) the prefix. */
static uint32_t
prefix_edge(const struct wr_idx *x, const struct wr_id *prefix, unsigned bits, bool past)
{
	uint32_t lo = 0, hi = x->count;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		int c = prefix_cmp(id_at(x, mid), prefix->b, bits);

		if (c < 0 || (past && c == 0))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

uint32_t
wr_idx_prefix(const struct wr_idx *x, const struct wr_id *prefix, unsigned prefix_bits,
	      uint32_t *out_count)
{
	unsigned bits = WR_MIN(prefix_bits, 8u * WR_ID_LEN);
	uint32_t lo = prefix_edge(x, prefix, bits, false);
	uint32_t hi = prefix_edge(x, prefix, bits, true);

	*out_count = hi > lo ? hi - lo : 0; /* lo may be above hi if the ids are out of order */
	return lo;
}

struct wr_id
wr_idx_id(const struct wr_idx *x, uint32_t pos)
{
	struct wr_id id;

	wr_assert(pos < x->count);
	memcpy(id.b, id_at(x, pos), WR_ID_LEN);
	return id;
}

uint64_t
wr_idx_offset(const struct wr_idx *x, uint32_t pos)
{
	uint32_t v;

	wr_assert(pos < x->count);
	if (x->version == 1)
		return wr_get32be(x->offs + 24 * (size_t)pos);
	v = wr_get32be(x->offs + 4 * (size_t)pos);
	if (!(v & FAR))
		return v;
	v &= ~FAR;
	return v < x->offs64_count ? wr_get64be(x->offs64 + 8 * (size_t)v) : UINT64_MAX;
}

bool
wr_idx_crc(const struct wr_idx *x, uint32_t pos, uint32_t *out)
{
	wr_assert(pos < x->count);
	if (!x->crcs)
		return false;
	*out = wr_get32be(x->crcs + 4 * (size_t)pos);
	return true;
}

struct wr_id
wr_idx_pack_sum(const struct wr_idx *x)
{
	struct wr_id id;

	memcpy(id.b, x->map + x->map_len - SUMS_LEN, WR_ID_LEN);
	return id;
}

int
wr_idx_check(const struct wr_idx *x, uint64_t pack_size, struct wr_err *err)
{
	struct wr_sha1 h;
	struct wr_id sum;
	unsigned byte = 0;

	wr_sha1_init(&h);
	wr_sha1_add(&h, x->map, x->map_len - WR_ID_LEN);
	sum = wr_sha1_end(&h);
	if (memcmp(sum.b, x->map + x->map_len - WR_ID_LEN, WR_ID_LEN) != 0)
		return bad_shape(err, "its own checksum does not match");
	for (uint32_t i = 0; i < x->count; i++) {
		const uint8_t *id = id_at(x, i);
		uint64_t off = wr_idx_offset(x, i);

		if (i > 0 && memcmp(id_at(x, i - 1), id, WR_ID_LEN) >= 0)
			return bad_shape(err, "ids are not in order");
		for (; byte < id[0]; byte++)
			if (fan(x, byte) != i)
				return bad_shape(err, "fan-out does not fit the ids");
		if (off < WR_PACK_HEAD_LEN || pack_size < WR_PACK_HEAD_LEN + WR_ID_LEN ||
		    off >= pack_size - WR_ID_LEN)
			return bad_shape(err, "an offset lies outside the pack");
	}
	for (; byte < 256; byte++)
		if (fan(x, byte) != x->count)
			return bad_shape(err, "fan-out does not fit the ids");
	return 0;
}

static int
entry_cmp(const void *a, const void *b)
{
	const struct wr_idx_entry *x = a, *y = b;

	return wr_id_cmp(&x->id, &y->id);
}

void
wr_idx_format(struct wr_buf *out, struct wr_idx_entry *e, size_t count,
	      const struct wr_id *pack_sum)
{
	size_t start = out->len, i = 0;
	struct wr_sha1 h;
	struct wr_id sum;
	uint32_t far = 0;

	wr_assert(count <= UINT32_MAX);
	if (count)
		qsort(e, count, sizeof(*e), entry_cmp);
	wr_buf_reserve(out, 8 + FANOUT_LEN + 28 * count + SUMS_LEN);
	wr_buf_add32be(out, MAGIC);
	wr_buf_add32be(out, 2);
	for (unsigned byte = 0; byte < 256; byte++) {
		while (i < count && e[i].id.b[0] <= byte)
			i++;
		wr_buf_add32be(out, (uint32_t)i);
	}
	for (i = 0; i < count; i++)
		wr_buf_add(out, e[i].id.b, WR_ID_LEN);
	for (i = 0; i < count; i++)
		wr_buf_add32be(out, e[i].crc);
	for (i = 0; i < count; i++)
		wr_buf_add32be(out, e[i].off < FAR ? (uint32_t)e[i].off : FAR | far++);
	for (i = 0; i < count; i++)
		if (e[i].off >= FAR)
			wr_buf_add64be(out, e[i].off);
	wr_buf_add(out, pack_sum->b, WR_ID_LEN);
	wr_sha1_init(&h);
	wr_sha1_add(&h, out->p + start, out->len - start);
	sum = wr_sha1_end(&h);
	wr_buf_add(out, sum.b, WR_ID_LEN);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bup's multi-index, version 4; all numbers big-endian:
 *
 *   'M' 'I' 'D' 'X', be32 4, be32 bits
 *   2^bits x be32: how many ids have top bits <= that slot
 *   N ids, ascending, duplicates kept
 *   N x be32: which source index each came from
 *   the base names of the source indexes, joined by NUL
 */
#include "engine/pack/idx.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/pack/pack_int.h"
#include "sys/fs.h"

#define HEAD_LEN 12
/* LIMIT: 2^24 slots serve 3.4 * 10^9 ids. */
#define BITS_MAX 24
/* Bytes gathered before a write, one buffer for ids and one for their sources. */
#define OUT_LEN ((size_t)256 << 10)
/* Ids between two times of giving pages of the sources back: 20 MB of them. */
#define FORGET_EVERY (1u << 20)

static int
bad_shape(struct wr_err *err, const char *what)
{
	return wr_err_set(err, WR_E_CORRUPT, "damaged multi-index: %s", what);
}

static uint32_t
top_bits(const uint8_t *id, unsigned bits)
{
	return bits ? wr_get32be(id) >> (32 - bits) : 0;
}

static int
split_names(struct wr_midx *m, const uint8_t *p, size_t len, struct wr_err *err)
{
	size_t cap = 0;

	m->names_copy = wr_malloc(len + 1);
	memcpy(m->names_copy, p, len);
	m->names_copy[len] = '\0';
	for (size_t at = 0; at < len; at += strlen(m->names_copy + at) + 1) {
		const char *name = m->names_copy + at;

		/* A name is looked up in a directory: it may not lead out of it. */
		if (!*name || *name == '.' || strchr(name, '/'))
			return bad_shape(err, "a name that is none");
		wr_grow(&m->name, &cap, m->name_count + 1, sizeof(*m->name));
		m->name[m->name_count++] = name;
	}
	return 0;
}

int
wr_midx_open_mem(struct wr_midx *m, const void *p, size_t len, struct wr_err *err)
{
	struct wr_midx t = {.map = p, .map_len = len};
	uint64_t slots, need;
	uint32_t before = 0;

	if (len < HEAD_LEN || memcmp(t.map, "MIDX", 4) != 0)
		return bad_shape(err, "no header");
	if (wr_get32be(t.map + 4) != 4)
		return wr_err_set(err, WR_E_UNSUPPORTED, "multi-index of version %" PRIu32,
				  wr_get32be(t.map + 4));
	t.bits = wr_get32be(t.map + 8);
	if (t.bits > BITS_MAX)
		return bad_shape(err, "table too large");
	slots = UINT64_C(1) << t.bits;
	need = HEAD_LEN + 4 * slots;
	if (len < need)
		return bad_shape(err, "cut short");
	t.table = t.map + HEAD_LEN;
	for (uint64_t i = 0; i < slots; i++) {
		uint32_t v = wr_get32be(t.table + 4 * i);

		if (v < before)
			return bad_shape(err, "table goes backwards");
		before = v;
	}
	t.count = before;
	need += 24 * t.count;
	if (len < need)
		return bad_shape(err, "cut short");
	t.ids = t.table + 4 * slots;
	t.which = t.ids + WR_ID_LEN * t.count;
	if (split_names(&t, t.map + need, (size_t)(len - need), err) < 0) {
		wr_midx_close(&t);
		return -1;
	}
	*m = t;
	return 0;
}

int
wr_midx_open(struct wr_midx *m, int dirfd, const char *name, struct wr_err *err)
{
	const uint8_t *map;
	size_t len;

	if (wr_map_file(dirfd, name, &map, &len, err) < 0)
		return -1;
	if (wr_midx_open_mem(m, map, len, err) < 0) {
		wr_unmap_file(map, len);
		return wr_err_wrap(err, "open '%s'", WR_Q(name));
	}
	m->mapped = true;
	return 0;
}

void
wr_midx_close(struct wr_midx *m)
{
	if (m->mapped)
		wr_unmap_file(m->map, m->map_len);
	free(m->names_copy);
	free(m->name);
	*m = (struct wr_midx){0};
}

int64_t
wr_midx_find(const struct wr_midx *m, const struct wr_id *id)
{
	size_t slot, lo, hi;

	if (!m->count)
		return -1;
	slot = top_bits(id->b, m->bits);
	lo = slot ? wr_get32be(m->table + 4 * (slot - 1)) : 0;
	hi = wr_get32be(m->table + 4 * slot);
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = memcmp(m->ids + WR_ID_LEN * mid, id->b, WR_ID_LEN);

		if (c == 0) {
			uint32_t which = wr_get32be(m->which + 4 * mid);

			return which < m->name_count ? (int64_t)which : -1;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return -1;
}

/* ---- writing ---- */

/* One region of the new file, filled front to back. */
struct region {
	int fd;
	uint64_t at;
	uint8_t *p;
	size_t len;
};

static int
region_flush(struct region *g)
{
	if (wr_pwrite_all(g->fd, g->p, g->len, g->at) < 0)
		return -1;
	g->at += g->len;
	g->len = 0;
	return 0;
}

static int
region_add(struct region *g, const void *p, size_t len)
{
	if (g->len + len > OUT_LEN && region_flush(g) < 0)
		return -1;
	memcpy(g->p + g->len, p, len);
	g->len += len;
	return 0;
}

/* A heap of the sources' next ids, smallest on top. */
struct source {
	const struct wr_idx *idx;
	uint32_t pos;
	uint32_t number;
};

static const uint8_t *
head_id(const struct source *s)
{
	return s->idx->ids + s->idx->id_stride * s->pos;
}

static bool
above(const struct source *a, const struct source *b)
{
	int c = memcmp(head_id(a), head_id(b), WR_ID_LEN);

	return c > 0 || (c == 0 && a->number > b->number);
}

static void
sift_down(struct source *s, size_t n, size_t i)
{
	for (;;) {
		size_t c = 2 * i + 1;
		struct source t;

		if (c >= n)
			return;
		if (c + 1 < n && above(&s[c], &s[c + 1]))
			c++;
		if (!above(&s[i], &s[c]))
			return;
		t = s[i];
		s[i] = s[c];
		s[c] = t;
		i = c;
	}
}

static unsigned
bits_for(uint64_t total)
{
	uint64_t pages = total * WR_ID_LEN / 4096;
	unsigned bits = 0;

	while (bits < BITS_MAX && (UINT64_C(1) << bits) < pages)
		bits++;
	return bits;
}

/* Give the pages of a source back: they count as our memory, and the merge does not return to them.
 */
static void
forget_pages(const struct source *s)
{
	if (s->idx->mapped)
		(void)madvise((void *)(uintptr_t)s->idx->map, s->idx->map_len, MADV_DONTNEED);
}

/* Merge the sources into the two regions and count the ids of each slot. */
static int
merge(struct source *s, size_t n, uint8_t *table, unsigned bits, struct region *ids,
      struct region *which)
{
	uint32_t slot = 0, done = 0;

	for (size_t i = n / 2; i-- > 0;)
		sift_down(s, n, i);
	while (n > 0) {
		const uint8_t *id = head_id(&s[0]);
		uint32_t here = top_bits(id, bits);
		uint8_t number[4];

		for (; slot < here; slot++)
			wr_put32be(table + 4 * (size_t)slot, done);
		wr_put32be(number, s[0].number);
		if (region_add(ids, id, WR_ID_LEN) < 0 || region_add(which, number, 4) < 0)
			return -1;
		done++;
		if (done % FORGET_EVERY == 0)
			for (size_t i = 0; i < n; i++)
				forget_pages(&s[i]);
		if (++s[0].pos == s[0].idx->count) {
			forget_pages(&s[0]);
			s[0] = s[--n];
		}
		sift_down(s, n, 0);
	}
	for (; slot < UINT32_C(1) << bits; slot++)
		wr_put32be(table + 4 * (size_t)slot, done);
	return region_flush(ids) < 0 || region_flush(which) < 0 ? -1 : 0;
}

static int
write_all(int fd, const struct wr_idx *const *idx, size_t count, uint64_t total,
	  const struct wr_buf *names)
{
	unsigned bits = bits_for(total);
	size_t table_len = (size_t)4 << bits, n = 0;
	WR_SCOPED(wr_freep) uint8_t *head = wr_calloc(1, HEAD_LEN + table_len);
	WR_SCOPED(wr_freep) uint8_t *bufs = wr_malloc(2 * OUT_LEN);
	WR_SCOPED(wr_freep) struct source *s = wr_calloc(count, sizeof(*s));
	uint64_t at = HEAD_LEN + table_len;
	struct region ids = {.fd = fd, .at = at, .p = bufs};
	struct region which = {.fd = fd, .at = at + WR_ID_LEN * total, .p = bufs + OUT_LEN};

	memcpy(head, "MIDX", 4);
	wr_put32be(head + 4, 4);
	wr_put32be(head + 8, bits);
	for (size_t i = 0; i < count; i++)
		if (idx[i]->count)
			s[n++] = (struct source){.idx = idx[i], .number = (uint32_t)i};
	if (merge(s, n, head + HEAD_LEN, bits, &ids, &which) < 0 ||
	    wr_pwrite_all(fd, head, HEAD_LEN + table_len, 0) < 0)
		return -1;
	return wr_pwrite_all(fd, names->p, names->len, at + 24 * total);
}

int
wr_midx_write(int dirfd, const struct wr_idx *const *idx, const char *const *names, size_t count,
	      struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf joined = WR_BUF_INIT;
	WR_SCOPED(wr_closep) int fd = -1;
	char tmp[sizeof("tmp-warren-midx-") + 12], name[64];
	struct wr_sha1 h;
	struct wr_id id;
	uint64_t total = 0;

	wr_sha1_init(&h);
	for (size_t i = 0; i < count; i++) {
		total += idx[i]->count;
		if (i > 0)
			wr_buf_add8(&joined, 0);
		wr_buf_adds(&joined, names[i]);
	}
	if (total > UINT32_MAX)
		return wr_err_set(err, WR_E_LIMIT, "too many objects for one multi-index");
	wr_sha1_add(&h, joined.p, joined.len);
	id = wr_sha1_end(&h);
	snprintf(name, sizeof(name), "midx-%s.midx", wr_id_hex(&id).s);

	wr_random_name(tmp, sizeof(tmp), "tmp-warren-midx-");
	fd = openat(dirfd, tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	if (fd < 0)
		return wr_err_sys(err, "create '%s'", tmp);
	/* DURABLE: a half-written index under its final name would hide objects from bup. */
	if (write_all(fd, idx, count, total, &joined) < 0 || fsync(fd) < 0) {
		wr_err_sys(err, "write '%s'", tmp);
		goto fail;
	}
	if (renameat(dirfd, tmp, dirfd, name) < 0) {
		wr_err_sys(err, "rename '%s' to '%s'", tmp, name);
		goto fail;
	}
	return 0;
fail:
	unlinkat(dirfd, tmp, 0);
	return -1;
}

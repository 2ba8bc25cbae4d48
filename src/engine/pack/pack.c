/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading objects of a pack.  A reader keeps one window of the file: a jump reads little, going on
 * from there doubles it, so that neighbours cost no system calls.  Delta chains are walked down to
 * their base with an explicit stack and applied on the way back; objects that served as a base are
 * kept in a small cache, because their other deltas lie near.
 */
#include "engine/pack/pack.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/pack/pack_int.h"
#include "sys/fs.h"

#define STEP_MIN ((size_t)16 << 10)
#define STEP_MAX ((size_t)256 << 10)

/* LIMIT: the largest delta base kept. */
#define CACHE_ITEM_MAX ((size_t)4 << 20)
#define CACHE_SLOTS 1024
/* LIMIT: bytes that one chain may make on the way to its object. */
#define CHAIN_WORK_MAX (64 * WR_OBJ_MAX)

struct cache_slot {
	uint64_t serial, off;
	enum wr_obj_type type; /* WR_OBJ_NONE: empty */
	size_t len;
	uint8_t *p;
};

struct wr_pack_reader {
	struct wr_inflater *inf;
	/* window: win_len bytes at win_off of the pack with that serial; 0 = none */
	uint64_t serial, win_off;
	uint8_t *win;
	size_t win_cap, win_len;
	size_t step, step_min, step_max;
	size_t nice; /* what the last object took, a guess for the next */
	/* delta chain */
	struct wr_pack_entry *chain;
	size_t chain_len, chain_cap;
	struct wr_buf delta, work[2];
	struct cache_slot *cache; /* CACHE_SLOTS, made on first use */
	size_t cache_bytes, cache_max, cache_hand;
};

/* ---- packs ---- */

int
wr_pack_open(struct wr_pack *p, int dirfd, const char *name, struct wr_err *err)
{
	static atomic_uint_fast64_t serial;
	WR_SCOPED(wr_closep) int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	const char *slash = strrchr(name, '/');
	uint8_t head[WR_PACK_HEAD_LEN];
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return wr_err_sys(err, "open pack '%s'", WR_Q(name));
	if (!S_ISREG(st.st_mode) || st.st_size < WR_PACK_HEAD_LEN + WR_PACK_SUM_LEN)
		return wr_err_set(err, WR_E_CORRUPT, "pack '%s' is cut short", WR_Q(name));
	n = wr_pread_full(fd, head, sizeof(head), 0);
	if (n < 0)
		return wr_err_sys(err, "read pack '%s'", WR_Q(name));
	if (n != sizeof(head) || memcmp(head, "PACK", 4) != 0)
		return wr_err_set(err, WR_E_CORRUPT, "'%s' is not a pack", WR_Q(name));
	if (wr_get32be(head + 4) != 2 && wr_get32be(head + 4) != 3)
		return wr_err_set(err, WR_E_UNSUPPORTED, "pack '%s' has version %" PRIu32,
				  WR_Q(name), wr_get32be(head + 4));
	*p = (struct wr_pack){
	    .fd = fd,
	    .size = (uint64_t)st.st_size,
	    .count = wr_get32be(head + 8),
	    .name = wr_strdup(slash ? slash + 1 : name),
	    .serial = atomic_fetch_add(&serial, 1) + 1,
	};
	fd = -1;
	return 0;
}

void
wr_pack_close(struct wr_pack *p)
{
	wr_closep(&p->fd);
	free(p->name);
	*p = (struct wr_pack)WR_PACK_INIT;
}

/* ---- readers ---- */

struct wr_pack_reader *
wr_pack_reader_new_sized(size_t step_min, size_t step_max, size_t cache)
{
	struct wr_pack_reader *r = wr_calloc(1, sizeof(*r));

	r->inf = wr_inflater_new();
	r->step = r->step_min = step_min;
	r->step_max = step_max;
	r->cache_max = cache;
	return r;
}

struct wr_pack_reader *
wr_pack_reader_new(void)
{
	return wr_pack_reader_new_sized(STEP_MIN, STEP_MAX, WR_PACK_CACHE);
}

struct wr_inflater *
wr_pack_reader_inflater(struct wr_pack_reader *r)
{
	return r->inf;
}

void
wr_pack_reader_free(struct wr_pack_reader *r)
{
	if (!r)
		return;
	for (size_t i = 0; r->cache && i < CACHE_SLOTS; i++)
		free(r->cache[i].p);
	free(r->cache);
	wr_buf_fini(&r->delta);
	wr_buf_fini(&r->work[0]);
	wr_buf_fini(&r->work[1]);
	free(r->chain);
	free(r->win);
	wr_inflater_free(r->inf);
	free(r);
}

void
wr_pack_buf_reset(struct wr_buf *b)
{
	if (b->cap > WR_PACK_KEEP)
		wr_buf_fini(b);
	wr_buf_clear(b);
}

/* Make the window hold len bytes at off; what it held is gone. */
static int
window_fill(const struct wr_pack *p, struct wr_pack_reader *r, uint64_t off, size_t len,
	    struct wr_err *err)
{
	ssize_t n;

	r->serial = 0;
	if (len > r->win_cap || (r->win_cap > WR_PACK_KEEP && len <= r->step_max)) {
		free(r->win);
		r->win_cap = WR_MAX(len, r->step_max);
		r->win = wr_malloc(r->win_cap);
	}
	n = wr_pread_full(p->fd, r->win, len, off);
	if (n < 0)
		return wr_err_sys(err, "read pack '%s' at %" PRIu64, WR_Q(p->name), off);
	if ((size_t)n != len)
		return wr_err_set(err, WR_E_CORRUPT, "pack '%s' became shorter", WR_Q(p->name));
	r->serial = p->serial;
	r->win_off = off;
	r->win_len = len;
	return 0;
}

int
wr_pack_bytes(const struct wr_pack *p, struct wr_pack_reader *r, uint64_t off, size_t need,
	      size_t nice, const uint8_t **out, size_t *out_len, struct wr_err *err)
{
	bool mine = r->serial == p->serial && off >= r->win_off;
	uint64_t rest, skip = off - r->win_off;

	if (off >= p->size)
		return wr_err_set(err, WR_E_CORRUPT, "offset %" PRIu64 " is outside pack '%s'", off,
				  WR_Q(p->name));
	rest = p->size - off;
	need = (size_t)WR_MIN((uint64_t)need, rest);
	if (!mine || skip > r->win_len || r->win_len - skip < need) {
		bool near = mine && skip <= r->win_len + r->step;
		size_t len;

		r->step = near ? WR_MIN(r->step * 2, r->step_max) : r->step_min;
		len = WR_MAX(need, WR_MAX(nice, r->step));
		if (window_fill(p, r, off, (size_t)WR_MIN((uint64_t)len, rest), err) < 0)
			return -1;
		skip = 0;
	}
	*out = r->win + skip;
	*out_len = r->win_len - (size_t)skip;
	return 0;
}

/* ---- entries ---- */

static int
entry_bad(struct wr_err *err, uint64_t off, const char *what)
{
	return wr_err_set(err, WR_E_CORRUPT, "damaged object at offset %" PRIu64 ": %s", off, what);
}

/* The distance of an OFS_DELTA's base: big-endian base 128, each further byte worth one more. */
static uint64_t
get_distance(struct wr_rd *r)
{
	uint8_t c = wr_rd8(r);
	uint64_t v = c & 0x7f;

	while (c & 0x80) {
		if (r->bad || v >= UINT64_C(1) << 56)
			return 0;
		c = wr_rd8(r);
		v = (v + 1) << 7 | (c & 0x7f);
	}
	return r->bad ? 0 : v;
}

int
wr_pack_entry_parse(const uint8_t *p, size_t len, uint64_t off, uint64_t rest,
		    struct wr_pack_entry *out, struct wr_err *err)
{
	struct wr_rd r = wr_rd(p, len);
	struct wr_pack_entry e = {.off = off};
	uint8_t c = wr_rd8(&r);

	e.type = c >> 4 & 7;
	e.size = c & 15;
	for (unsigned shift = 4; c & 0x80; shift += 7) {
		if (shift > 53)
			return entry_bad(err, off, "its size has no end");
		c = wr_rd8(&r);
		e.size |= (uint64_t)(c & 0x7f) << shift;
	}
	if (e.type == WR_OBJ_OFS_DELTA) {
		uint64_t distance = get_distance(&r);

		if (distance == 0 || distance > off || off - distance < WR_PACK_HEAD_LEN)
			return entry_bad(err, off, "its delta base is outside the pack");
		e.base_off = off - distance;
	} else if (e.type == WR_OBJ_REF_DELTA) {
		const uint8_t *id = wr_rd_bytes(&r, WR_ID_LEN);

		if (id)
			memcpy(e.base.b, id, WR_ID_LEN);
	} else if (e.type == WR_OBJ_NONE || e.type > WR_OBJ_TAG) {
		return entry_bad(err, off, "unknown type");
	}
	if (r.bad)
		return entry_bad(err, off, "cut short");
	if (e.size > WR_OBJ_MAX)
		return wr_err_set(err, WR_E_LIMIT,
				  "object of %" PRIu64 " bytes at offset %" PRIu64
				  " is above the limit of %" PRIu64,
				  e.size, off, WR_OBJ_MAX);
	/* Deflate makes at most 1032 bytes of one: do not allocate for a lie. */
	if (e.size / 1032 > rest)
		return entry_bad(err, off, "larger than its pack can hold");
	e.head_len = len - r.left;
	*out = e;
	return 0;
}

int
wr_pack_entry_at(const struct wr_pack *p, struct wr_pack_reader *r, uint64_t off,
		 struct wr_pack_entry *out, struct wr_err *err)
{
	const uint8_t *b;
	size_t len;

	if (wr_pack_bytes(p, r, off, WR_ENTRY_HEAD_MAX, r->nice, &b, &len, err) < 0)
		return -1;
	return wr_pack_entry_parse(b, len, off, p->size - off, out, err);
}

int
wr_pack_entry_inflate(const struct wr_pack *p, struct wr_pack_reader *r,
		      const struct wr_pack_entry *e, struct wr_buf *out, size_t *out_used,
		      struct wr_err *err)
{
	size_t bound = wr_deflate_bound((size_t)e->size);
	size_t want = WR_MIN(bound, WR_PACK_GUESS), len;
	const uint8_t *b;

	r->nice = WR_ENTRY_HEAD_MAX + want;
	wr_buf_clear(out);
	wr_buf_reserve(out, (size_t)e->size);
	for (;; want = bound) {
		if (wr_pack_bytes(p, r, e->off + e->head_len, want, want, &b, &len, err) < 0)
			return -1;
		switch (wr_inflate(r->inf, b, len, out->p, (size_t)e->size, out_used)) {
		case WR_INFLATE_OK:
			out->len = (size_t)e->size;
			return 0;
		case WR_INFLATE_SHORT:
			if (want < bound && len < p->size - e->off - e->head_len)
				continue;
			return entry_bad(err, e->off, "its zlib stream is broken or cut short");
		default:
			return entry_bad(err, e->off, "its zlib stream is broken");
		}
	}
}

/* ---- the cache of delta bases ---- */

static struct cache_slot *
cache_slot(struct wr_pack_reader *r, const struct wr_pack *p, uint64_t off)
{
	uint64_t h = (off + p->serial) * UINT64_C(0x9e3779b97f4a7c15);

	return &r->cache[h >> 32 & (CACHE_SLOTS - 1)];
}

static const struct cache_slot *
cache_find(struct wr_pack_reader *r, const struct wr_pack *p, uint64_t off)
{
	const struct cache_slot *s;

	if (!r->cache)
		return NULL;
	s = cache_slot(r, p, off);
	return s->type != WR_OBJ_NONE && s->serial == p->serial && s->off == off ? s : NULL;
}

static void
cache_drop(struct wr_pack_reader *r, struct cache_slot *s)
{
	r->cache_bytes -= s->len;
	free(s->p);
	*s = (struct cache_slot){0};
}

static void
cache_add(struct wr_pack_reader *r, const struct wr_pack *p, uint64_t off, enum wr_obj_type type,
	  const struct wr_buf *b)
{
	struct cache_slot *s;

	if (b->len > WR_MIN(CACHE_ITEM_MAX, r->cache_max))
		return;
	if (!r->cache)
		r->cache = wr_calloc(CACHE_SLOTS, sizeof(*r->cache));
	s = cache_slot(r, p, off);
	cache_drop(r, s);
	while (r->cache_bytes + b->len > r->cache_max) {
		cache_drop(r, &r->cache[r->cache_hand]);
		r->cache_hand = (r->cache_hand + 1) % CACHE_SLOTS;
	}
	*s = (struct cache_slot){p->serial, off, type, b->len, wr_memdup(b->p, b->len)};
	r->cache_bytes += b->len;
}

/* ---- objects ---- */

/*
 * Put the deltas from off down to its base on r->chain; the base, of one of the four types, stands
 * in *out_base, or in *out_hit if the cache has it.
 */
static int
chain_walk(const struct wr_pack *p, wr_ref_base_fn base_of, void *base_ctx,
	   struct wr_pack_reader *r, uint64_t off, struct wr_pack_entry *out_base,
	   const struct cache_slot **out_hit, struct wr_err *err)
{
	uint64_t mark = UINT64_MAX;
	struct wr_pack_entry e;

	r->chain_len = 0;
	for (;;) {
		*out_hit = cache_find(r, p, off);
		if (*out_hit)
			return 0;
		if (wr_pack_entry_at(p, r, off, &e, err) < 0)
			return -1;
		if (!wr_pack_is_delta(e.type)) {
			*out_base = e;
			return 0;
		}
		/* Brent: a mark that moves to each power of two meets any cycle. */
		if (off == mark)
			return entry_bad(err, off, "its delta chain is a circle");
		if (r->chain_len == WR_DELTA_DEPTH_MAX)
			return wr_err_set(err, WR_E_LIMIT,
					  "delta chain at offset %" PRIu64 " is longer than %d",
					  r->chain[0].off, WR_DELTA_DEPTH_MAX);
		if ((r->chain_len & (r->chain_len - 1)) == 0)
			mark = off;
		wr_grow(&r->chain, &r->chain_cap, r->chain_len + 1, sizeof(*r->chain));
		r->chain[r->chain_len++] = e;
		off = e.base_off;
		if (e.type == WR_OBJ_REF_DELTA &&
		    (!base_of || base_of(base_ctx, &e.base, &off) < 0)) {
			wr_err_set(err, WR_E_CORRUPT,
				   "damaged object at offset %" PRIu64 ": its delta base %s is "
				   "not in the pack",
				   e.off, wr_id_hex(&e.base).s);
			return -1;
		}
	}
}

/* Apply r->chain, last first, to the base at p of type type; the result goes to *out. */
static int
chain_apply(const struct wr_pack *p, struct wr_pack_reader *r, enum wr_obj_type type,
	    const uint8_t *base, size_t base_len, struct wr_buf *out, struct wr_err *err)
{
	uint64_t work = 0;
	size_t used;

	for (size_t i = r->chain_len; i-- > 0;) {
		const struct wr_pack_entry *e = &r->chain[i];
		struct wr_buf *to = i ? &r->work[i & 1] : out;

		if (wr_pack_entry_inflate(p, r, e, &r->delta, &used, err) < 0)
			return -1;
		if (wr_delta_apply(base, base_len, r->delta.p, r->delta.len, to, err) < 0)
			return wr_err_wrap(err, "object at offset %" PRIu64, e->off);
		work += to->len;
		if (work > CHAIN_WORK_MAX)
			return wr_err_set(err, WR_E_LIMIT,
					  "delta chain at offset %" PRIu64 " makes too much data",
					  r->chain[0].off);
		if (i)
			cache_add(r, p, e->off, type, to);
		base = to->p;
		base_len = to->len;
	}
	return 0;
}

static int
read_chain(const struct wr_pack *p, wr_ref_base_fn base_of, void *base_ctx,
	   struct wr_pack_reader *r, uint64_t off, enum wr_obj_type *out_type, struct wr_buf *out,
	   struct wr_err *err)
{
	const struct cache_slot *hit;
	struct wr_pack_entry e;
	struct wr_buf *to;
	size_t used;

	if (chain_walk(p, base_of, base_ctx, r, off, &e, &hit, err) < 0)
		return -1;
	if (hit) {
		enum wr_obj_type type = hit->type;

		if (r->chain_len == 0) {
			wr_buf_clear(out);
			wr_buf_add(out, hit->p, hit->len);
		} else if (chain_apply(p, r, type, hit->p, hit->len, out, err) < 0) {
			return -1;
		}
		*out_type = type;
		return 0;
	}
	to = r->chain_len ? &r->work[r->chain_len & 1] : out;
	if (wr_pack_entry_inflate(p, r, &e, to, &used, err) < 0)
		return -1;
	if (r->chain_len) {
		cache_add(r, p, e.off, e.type, to);
		if (chain_apply(p, r, e.type, to->p, to->len, out, err) < 0)
			return -1;
	}
	*out_type = e.type;
	return 0;
}

int
wr_pack_read_via(const struct wr_pack *p, wr_ref_base_fn base_of, void *base_ctx,
		 struct wr_pack_reader *r, uint64_t off, enum wr_obj_type *out_type,
		 struct wr_buf *out, struct wr_err *err)
{
	int rc = read_chain(p, base_of, base_ctx, r, off, out_type, out, err);

	if (r->chain_len) {
		wr_pack_buf_reset(&r->delta);
		wr_pack_buf_reset(&r->work[0]);
		wr_pack_buf_reset(&r->work[1]);
	}
	if (rc < 0) {
		wr_buf_clear(out);
		return wr_err_wrap(err, "pack '%s'", WR_Q(p->name));
	}
	return 0;
}

static int
base_in_idx(void *ctx, const struct wr_id *base, uint64_t *out_off)
{
	const struct wr_idx *idx = ctx;
	int64_t pos = wr_idx_find(idx, base);

	if (pos < 0)
		return -1;
	*out_off = wr_idx_offset(idx, (uint32_t)pos);
	return 0;
}

int
wr_pack_read(const struct wr_pack *p, const struct wr_idx *idx, struct wr_pack_reader *r,
	     uint64_t off, enum wr_obj_type *out_type, struct wr_buf *out, struct wr_err *err)
{
	return wr_pack_read_via(p, idx ? base_in_idx : NULL, (void *)(uintptr_t)idx, r, off,
				out_type, out, err);
}

int
wr_pack_stat(const struct wr_pack *p, const struct wr_idx *idx, struct wr_pack_reader *r,
	     uint64_t off, enum wr_obj_type *out_type, uint64_t *out_size, struct wr_err *err)
{
	const struct cache_slot *hit;
	struct wr_pack_entry e;
	enum wr_obj_type type;
	uint64_t size, base_size;
	size_t used;

	if (chain_walk(p, idx ? base_in_idx : NULL, (void *)(uintptr_t)idx, r, off, &e, &hit, err) <
	    0)
		goto fail;
	type = hit ? hit->type : e.type;
	size = hit ? hit->len : e.size;
	if (r->chain_len) {
		/* The size stands at the front of the delta. */
		if (wr_pack_entry_inflate(p, r, &r->chain[0], &r->delta, &used, err) < 0 ||
		    wr_delta_sizes(r->delta.p, r->delta.len, &base_size, &size, err) < 0)
			goto fail;
		wr_pack_buf_reset(&r->delta);
	}
	*out_type = type;
	*out_size = size;
	return 0;
fail:
	wr_pack_buf_reset(&r->delta);
	return wr_err_wrap(err, "pack '%s'", WR_Q(p->name));
}

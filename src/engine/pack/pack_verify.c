/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checking a whole pack.  The pack is cut into ranges of bytes; a thread takes a range, collects
 * its objects from the index (one scan of the offset table, so nothing is kept per object of the
 * pack), sorts them by offset and reads them in order.  The trailer's SHA-1 cannot be spread: it
 * is the first item of the same loop and runs beside the ranges.
 *
 * Lock: verify->mutex guards the callbacks and the counters; nothing else is shared.
 */
#include <libdeflate.h>
#include <pthread.h>
#include <stdatomic.h>

#include "engine/object/tree.h"
#include "engine/pack/pack_int.h"
#include "sys/fs.h"
#include "sys/pool.h"

/* What one range aims at, in bytes and in objects. */
#define RANGE_BYTES ((uint64_t)64 << 20)
#define RANGE_OBJECTS 262144
#define RANGES_PER_THREAD 4
/* Reads, in order and far ahead. */
#define STEP ((size_t)1 << 20)
/* Delta bases: first read after a jump, bytes kept by all threads together, and by each at least.
 */
#define DELTA_STEP ((size_t)16 << 10)
#define CACHE_ALL ((size_t)16 << 20)
#define CACHE_MIN ((size_t)4 << 20)
/* Progress is told each time a thread has done this much. */
#define TELL_BYTES ((uint64_t)4 << 20)

struct place {
	uint64_t off;
	uint32_t pos; /* in the index */
};

struct worker {
	struct wr_pack_reader *r;      /* walks the pack in order */
	struct wr_pack_reader *deltas; /* jumps to delta bases */
	struct wr_buf out;
	struct place *place;
	size_t place_count, place_cap;
	uint64_t untold; /* bytes done since the last progress call */
};

struct verify {
	const struct wr_pack *p;
	const struct wr_idx *idx;
	struct wr_pool *pool;
	wr_pack_bad_fn bad;
	wr_progress_fn progress;
	void *ctx;
	uint64_t end; /* of the objects */
	size_t ranges;
	struct worker *worker; /* one per thread of the pool */
	struct wr_id trailer;

	atomic_bool cancelled;
	atomic_bool gap; /* bytes between objects that no object claims */
	pthread_mutex_t mutex;
	uint64_t bad_count, done;
	bool sum_known, sum_matches; /* written by the one thread that hashes */
};

static void
report(struct verify *v, const struct wr_id *id, const char *why)
{
	pthread_mutex_lock(&v->mutex);
	v->bad_count++;
	v->bad(v->ctx, id, why);
	pthread_mutex_unlock(&v->mutex);
}

static void
tell(struct verify *v, struct worker *w)
{
	pthread_mutex_lock(&v->mutex);
	v->done += w->untold;
	w->untold = 0;
	if (v->progress && !v->cancelled && v->progress(v->ctx, v->done) != 0)
		v->cancelled = true;
	pthread_mutex_unlock(&v->mutex);
}

/* Serial part: SHA-1 of everything before the trailer. */
static void
check_sum(struct verify *v)
{
	WR_SCOPED(wr_freep) uint8_t *b = wr_malloc(STEP);
	struct wr_sha1 h;
	struct wr_id sum;

	wr_sha1_init(&h);
	for (uint64_t at = 0; at < v->end;) {
		size_t n = (size_t)WR_MIN((uint64_t)STEP, v->end - at);

		if (v->cancelled)
			return;
		if (wr_pread_full(v->p->fd, b, n, at) != (ssize_t)n)
			return; /* the objects there say why */
		wr_sha1_add(&h, b, n);
		at += n;
	}
	sum = wr_sha1_end(&h);
	v->sum_known = true;
	v->sum_matches = wr_id_eq(&sum, &v->trailer);
}

static int
place_cmp(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	if (x->off != y->off)
		return x->off < y->off ? -1 : 1;
	return x->pos < y->pos ? -1 : x->pos > y->pos;
}

/* Collect the objects with lo <= offset < hi, in order; gives the first offset from hi on. */
static uint64_t
collect(const struct verify *v, struct worker *w, uint64_t lo, uint64_t hi)
{
	uint64_t next = v->end;

	w->place_count = 0;
	for (uint32_t i = 0; i < v->idx->count; i++) {
		/* The last range ends at UINT64_MAX, which also stands for a bad entry. */
		uint64_t off = WR_MIN(wr_idx_offset(v->idx, i), UINT64_MAX - 1);

		if (off >= lo && off < hi) {
			wr_grow(&w->place, &w->place_cap, w->place_count + 1, sizeof(*w->place));
			w->place[w->place_count++] = (struct place){off, i};
		} else if (off >= hi && off < next) {
			next = off;
		}
	}
	if (w->place_count)
		qsort(w->place, w->place_count, sizeof(*w->place), place_cmp);
	return next;
}

/* The object of the entry e, whose bytes are at b: its payload goes to w->out. */
static int
load(const struct verify *v, struct worker *w, const struct wr_pack_entry *e, const uint8_t *b,
     size_t len, enum wr_obj_type *out_type, size_t *out_used, struct wr_err *err)
{
	wr_buf_clear(&w->out);
	wr_buf_reserve(&w->out, (size_t)e->size);
	if (wr_inflate(wr_pack_reader_inflater(w->r), b + e->head_len, len - e->head_len, w->out.p,
		       (size_t)e->size, out_used) != WR_INFLATE_OK)
		return wr_err_set(err, WR_E_CORRUPT, "its zlib stream is broken");
	w->out.len = (size_t)e->size;
	*out_used += e->head_len;
	*out_type = e->type;
	if (!wr_pack_is_delta(e->type))
		return 0;
	return wr_pack_read(v->p, v->idx, w->deltas, e->off, out_type, &w->out, err);
}

static int
check_object(struct verify *v, struct worker *w, const struct place *at, uint64_t end,
	     struct wr_err *err)
{
	struct wr_id want = wr_idx_id(v->idx, at->pos), id;
	struct wr_pack_entry e;
	enum wr_obj_type type;
	const uint8_t *b;
	size_t len, used;
	uint32_t crc;

	if (at->off < WR_PACK_HEAD_LEN || at->off >= v->end)
		return wr_err_set(err, WR_E_CORRUPT, "the index puts it outside the pack");
	if (end <= at->off)
		return wr_err_set(err, WR_E_CORRUPT, "the index puts two objects in one place");
	if (wr_pack_entry_at(v->p, w->r, at->off, &e, err) < 0)
		return -1;
	len = (size_t)WR_MIN(end - at->off, e.head_len + wr_deflate_bound((size_t)e.size));
	if (len <= e.head_len)
		return wr_err_set(err, WR_E_CORRUPT, "the index puts another object into it");
	if (wr_pack_bytes(v->p, w->r, at->off, len, len, &b, &used, err) < 0 ||
	    load(v, w, &e, b, len, &type, &used, err) < 0)
		return -1;
	if (used != end - at->off)
		v->gap = true;
	if (wr_idx_crc(v->idx, at->pos, &crc)) {
		/* Reading deltas used another window, so b still stands. */
		if (libdeflate_crc32(0, b, used) != crc)
			return wr_err_set(err, WR_E_CORRUPT, "its CRC-32 does not match");
	}
	id = wr_obj_id(type, w->out.p, w->out.len);
	if (!wr_id_eq(&id, &want))
		return wr_err_set(err, WR_E_CORRUPT, "its content does not match its id");
	if (type == WR_OBJ_TREE && wr_tree_check(w->out.p, w->out.len, err) < 0)
		return wr_err_wrap(err, "malformed tree");
	return 0;
}

static void
check_range(struct verify *v, size_t range)
{
	struct worker *w = &v->worker[wr_pool_self(v->pool)];
	uint64_t bytes = v->end / v->ranges + 1;
	uint64_t lo = range * bytes, hi = range + 1 == v->ranges ? UINT64_MAX : lo + bytes;
	uint64_t next = collect(v, w, lo, hi);

	if (!w->r) {
		w->r = wr_pack_reader_new_sized(STEP, STEP, 0);
		w->deltas = wr_pack_reader_new_sized(
		    DELTA_STEP, STEP, WR_MAX(CACHE_MIN, CACHE_ALL / wr_pool_threads(v->pool)));
	}
	for (size_t i = 0; i < w->place_count && !v->cancelled; i++) {
		const struct place *at = &w->place[i];
		uint64_t end = i + 1 < w->place_count ? WR_MIN(at[1].off, v->end) : next;
		struct wr_err err = WR_ERR_INIT;

		if (check_object(v, w, at, end, &err) < 0) {
			struct wr_id id = wr_idx_id(v->idx, at->pos);

			report(v, &id, err.msg);
		}
		wr_pack_buf_reset(&w->out);
		w->untold += end > at->off ? end - at->off : 0;
		if (w->untold >= TELL_BYTES)
			tell(v, w);
	}
}

static void
run(void *ctx, size_t lo, size_t hi)
{
	struct verify *v = ctx;

	for (size_t i = lo; i < hi && !v->cancelled; i++) {
		if (i == 0)
			check_sum(v);
		else
			check_range(v, i - 1);
	}
}

/* What concerns the pack as a whole. */
static void
check_whole(struct verify *v)
{
	struct wr_id listed = wr_idx_pack_sum(v->idx);
	char why[160];

	if (v->p->count != v->idx->count) {
		snprintf(why, sizeof(why),
			 "the pack has %" PRIu32 " objects, its index lists %" PRIu32, v->p->count,
			 v->idx->count);
		report(v, NULL, why);
	} else if (v->bad_count == 0 && v->gap) {
		report(v, NULL, "there are bytes between the objects that belong to none");
	}
	if (v->bad_count == 0 && !v->sum_known)
		report(v, NULL, "it could not be read to its end");
	else if (v->bad_count == 0 && !v->sum_matches)
		report(v, NULL, "the checksum at its end does not match");
	else if (v->bad_count == 0 && !wr_id_eq(&listed, &v->trailer))
		report(v, NULL, "its index was made for another pack");
}

int
wr_pack_verify(const struct wr_pack *p, const struct wr_idx *idx, struct wr_pool *pool,
	       wr_pack_bad_fn bad, wr_progress_fn progress, void *ctx, struct wr_err *err)
{
	unsigned threads = wr_pool_threads(pool);
	struct verify v = {.p = p,
			   .idx = idx,
			   .pool = pool,
			   .bad = bad,
			   .progress = progress,
			   .ctx = ctx,
			   .end = p->size - WR_PACK_SUM_LEN};
	uint64_t ranges = WR_MAX(v.end / RANGE_BYTES, (uint64_t)idx->count / RANGE_OBJECTS);
	ssize_t n = wr_pread_full(p->fd, v.trailer.b, WR_PACK_SUM_LEN, v.end);

	if (n < 0)
		return wr_err_sys(err, "read pack '%s'", WR_Q(p->name));
	if (n != WR_PACK_SUM_LEN)
		return wr_err_set(err, WR_E_CORRUPT, "pack '%s' became shorter", WR_Q(p->name));
	/* At least a few per thread, so that all end together; small packs are one range. */
	v.ranges =
	    (size_t)WR_MAX(ranges, WR_MIN((uint64_t)threads * RANGES_PER_THREAD, 1 + v.end / STEP));
	v.worker = wr_calloc(threads, sizeof(*v.worker));
	pthread_mutex_init(&v.mutex, NULL);
	wr_pool_for(pool, v.ranges + 1, 1, 1, run, &v);
	for (unsigned i = 0; i < threads; i++) {
		struct worker *w = &v.worker[i];

		tell(&v, w);
		wr_pack_reader_free(w->r);
		wr_pack_reader_free(w->deltas);
		wr_buf_fini(&w->out);
		free(w->place);
	}
	if (!v.cancelled)
		check_whole(&v);
	pthread_mutex_destroy(&v.mutex);
	free(v.worker);
	if (v.cancelled)
		return wr_err_set(err, WR_E_CANCELLED, "cancelled");
	return 0;
}

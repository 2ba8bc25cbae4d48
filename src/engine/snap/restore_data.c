/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Content from the repository into a new file.  A chunk tree is walked without recursion into a
 * batch of chunks; idle threads read and inflate them, and whoever finds the next one in order
 * ready writes it.  Chunk trees of nothing but zeros are recognised by their id, so a sparse file
 * of any size costs what its data costs.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "engine/chunk/hashtree.h"
#include "engine/chunk/split.h"
#include "engine/object/tree.h"
#include "engine/snap/restore_int.h"
#include "sys/fs.h"

#define BATCH 32
/* Fewer chunks are not worth waking another thread. */
#define BATCH_MIN 4
/* A larger object is read when its turn comes, so that a batch of them cannot take all memory. */
#define CHUNK_MAX (2u << 20)
#define HOLE_BLOCK 4096u
/* Smaller files are written as they are. */
#define SPARSE_MIN (64u << 10)
/* LIMIT: known zero trees of one thread. */
#define ZERO_MAX 65536

struct slot {
	struct wr_id id;
	uint64_t expect; /* offset in the file, by the names of the chunk tree */
	uint64_t zeros;  /* a run of zeros instead of an object */
	struct wr_buf data;
	bool large; /* not read yet */
	bool ready; /* guarded by the feed's mutex */
};

struct wr_rs_feed {
	struct wr_rs *rs;
	int fd;
	bool sparse;
	uint64_t off, end, written; /* by the writing thread alone */
	struct slot slot[BATCH];
	size_t n;
	pthread_mutex_t mutex;
	size_t next;  /* guarded by mutex */
	bool writing; /* guarded by mutex */
	atomic_bool failed;
	bool damaged; /* guarded by mutex, as err */
	struct wr_err err;
};

static void
feed_fail(struct wr_rs_feed *f, const struct wr_err *err, bool damaged)
{
	pthread_mutex_lock(&f->mutex);
	if (!f->failed) {
		f->err = *err;
		f->damaged = damaged;
	}
	f->failed = true;
	pthread_mutex_unlock(&f->mutex);
}

static bool
all_zero(const uint8_t *p, size_t len)
{
	return p[0] == 0 && p[len - 1] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

static int
write_at(struct wr_rs_feed *f, const uint8_t *p, size_t len, uint64_t off)
{
	if (wr_pwrite_all(f->fd, p, len, off) < 0)
		return -1;
	f->written += len;
	f->end = off + len;
	return 0;
}

/* Append bytes; blocks of zeros are stepped over. */
static int
put(struct wr_rs_feed *f, const uint8_t *p, size_t len)
{
	size_t from = 0, at = 0;

	if (len > (uint64_t)INT64_MAX - f->off) {
		errno = EFBIG;
		return -1;
	}
	while (f->sparse && at < len) {
		size_t n = WR_MIN(HOLE_BLOCK - (size_t)((f->off + at) % HOLE_BLOCK), len - at);

		if (all_zero(p + at, n)) {
			if (at > from && write_at(f, p + from, at - from, f->off + from) < 0)
				return -1;
			from = at + n;
		}
		at += n;
	}
	if (len > from && write_at(f, p + from, len - from, f->off + from) < 0)
		return -1;
	f->off += len;
	return 0;
}

static int
read_chunk(struct wr_rs_feed *f, struct slot *s)
{
	struct wr_err err = WR_ERR_INIT;
	enum wr_obj_type type;

	if (wr_repo_read(wr_rs_self(f->rs)->reader, &s->id, WR_OBJ_BLOB, false, &type, &s->data,
			 &err) == 0)
		return 0;
	feed_fail(f, &err, true);
	return -1;
}

static void
put_slot(struct wr_rs_feed *f, struct slot *s)
{
	struct wr_err err = WR_ERR_INIT;

	if (f->failed || (s->large && read_chunk(f, s) < 0))
		return;
	if (s->expect != f->off || (!s->zeros && !s->data.len)) {
		wr_err_set(&err, WR_E_CORRUPT, "chunk %s: not where its chunk tree says",
			   wr_id_hex(&s->id).s);
		feed_fail(f, &err, true);
	} else if (s->zeros) {
		if (s->zeros > (uint64_t)INT64_MAX - f->off) {
			wr_err_set(&err, WR_E_LIMIT, "too large for a file");
			feed_fail(f, &err, true);
		}
		f->off += s->zeros;
	} else if (put(f, s->data.p, s->data.len) < 0) {
		wr_err_sys(&err, "write");
		feed_fail(f, &err, false);
	}
	if (s->large)
		wr_buf_fini(&s->data);
}

static void
publish(struct wr_rs_feed *f, struct slot *s)
{
	pthread_mutex_lock(&f->mutex);
	s->ready = true;
	if (!f->writing) {
		f->writing = true;
		while (f->next < f->n && f->slot[f->next].ready) {
			struct slot *next = &f->slot[f->next];

			pthread_mutex_unlock(&f->mutex);
			put_slot(f, next);
			pthread_mutex_lock(&f->mutex);
			f->next++;
		}
		f->writing = false;
	}
	pthread_mutex_unlock(&f->mutex);
}

static void
read_range(void *ctx, size_t lo, size_t hi)
{
	struct wr_rs_feed *f = ctx;
	struct wr_reader *rd = wr_rs_self(f->rs)->reader;

	for (size_t i = lo; i < hi; i++) {
		struct slot *s = &f->slot[i];
		struct wr_err err = WR_ERR_INIT;
		enum wr_obj_type type;
		uint64_t size;

		s->large = false;
		if (!f->failed && !s->zeros) {
			if (wr_repo_stat_object(rd, &s->id, &type, &size, &err) < 0)
				feed_fail(f, &err, true);
			else if (size > CHUNK_MAX)
				s->large = true;
			else
				(void)read_chunk(f, s); /* seen by the flag */
		}
		publish(f, s);
	}
}

static int
flush(struct wr_rs_feed *f)
{
	f->next = 0;
	for (size_t i = 0; i < f->n; i++)
		f->slot[i].ready = false;
	if (f->n < BATCH_MIN)
		read_range(f, 0, f->n);
	else
		wr_pool_for(f->rs->pool, f->n, 1, 1, read_range, f);
	f->n = 0;
	return f->failed ? -1 : 0;
}

static int
add_chunk(struct wr_rs_feed *f, const struct wr_id *id, uint64_t zeros, uint64_t expect)
{
	struct slot *s = &f->slot[f->n++];

	s->id = *id;
	s->zeros = zeros;
	s->expect = expect;
	return f->n == BATCH ? flush(f) : 0;
}

/* ---- walking a chunk tree ---- */

struct frame {
	struct wr_id id;
	struct wr_buf bytes;
	struct wr_rd rd;
	uint64_t start; /* offset in the file, by the names above */
	uint64_t zeros; /* length of the zeros met */
	bool pure;      /* nothing else was met */
	bool empty;
};

static void
seed_zeros(struct wr_rs *rs, struct wr_rs_worker *w)
{
	const unsigned bits[] = {WR_SPLIT_BITS_MIN, wr_repo_config(rs->repo)->split_bits};

	if (w->zero.count && w->zero.count < ZERO_MAX)
		return;
	wr_idmap_fini(&w->zero);
	w->zero = (struct wr_idmap)WR_IDMAP_INIT;
	for (size_t i = 0; i < WR_ARRAY_LEN(bits); i++) {
		size_t len = WR_SPLIT_MAX(bits[i]);
		WR_SCOPED(wr_freep) uint8_t *p = wr_calloc(1, len);
		struct wr_id id = wr_obj_id(WR_OBJ_BLOB, p, len);
		bool ignored;

		*wr_idmap_put(&w->zero, &id, &ignored) = len;
	}
}

static int
open_frame(struct wr_rs_worker *w, struct frame *fr, const struct wr_id *id, uint64_t start,
	   struct wr_err *err)
{
	enum wr_obj_type type;

	fr->id = *id;
	fr->start = start;
	fr->zeros = 0;
	fr->pure = fr->empty = true;
	if (wr_repo_read(w->reader, id, WR_OBJ_TREE, false, &type, &fr->bytes, err) < 0)
		return -1;
	fr->rd = wr_rd(fr->bytes.p, fr->bytes.len);
	return 0;
}

static void
add_zeros(struct frame *fr, uint64_t len)
{
	if (__builtin_add_overflow(fr->zeros, len, &fr->zeros))
		fr->pure = false;
}

/* Take one entry of the innermost frame: 1 = done, 2 = a frame was opened, 0 = end, -1. */
static int
step(struct wr_rs_feed *f, struct wr_rs_worker *w, struct frame *fr, bool may_open,
     struct wr_err *err)
{
	struct wr_tree_entry e;
	uint64_t at, *zeros;
	int more = wr_tree_next(&fr->rd, &e, err);

	if (more <= 0)
		return more < 0 ? wr_err_wrap(err, "chunk tree %s", wr_id_hex(&fr->id).s) : 0;
	if (!wr_hashtree_offset(e.name, e.name_len, &at) ||
	    __builtin_add_overflow(at, fr->start, &at))
		return wr_err_set(err, WR_E_CORRUPT, "chunk tree %s: a name is not an offset",
				  wr_id_hex(&fr->id).s);
	fr->empty = false;
	zeros = wr_idmap_find(&w->zero, &e.id);
	if (zeros)
		add_zeros(fr, *zeros);
	else if (S_ISREG(e.mode))
		fr->pure = false;
	if (zeros || S_ISREG(e.mode))
		return add_chunk(f, &e.id, zeros ? *zeros : 0, at) < 0 ? -1 : 1;
	if (!S_ISDIR(e.mode))
		return wr_err_set(err, WR_E_CORRUPT,
				  "chunk tree %s: an entry is neither blob nor tree",
				  wr_id_hex(&fr->id).s);
	if (!may_open)
		return wr_err_set(err, WR_E_LIMIT, "chunk tree %s: too many levels",
				  wr_id_hex(&e.id).s);
	return open_frame(w, fr + 1, &e.id, at, err) < 0 ? -1 : 2;
}

static int
walk(struct wr_rs_feed *f, const struct wr_id *id, struct wr_err *err)
{
	struct wr_rs_worker *w = wr_rs_self(f->rs);
	struct frame frame[WR_CHUNK_DEPTH_MAX] = {0};
	size_t depth = 0;
	int rc;

	seed_zeros(f->rs, w);
	rc = open_frame(w, &frame[0], id, 0, err);
	while (rc >= 0) {
		struct frame *fr = &frame[depth];
		bool is_new;

		rc = step(f, w, fr, depth + 1 < WR_CHUNK_DEPTH_MAX, err);
		if (rc == 2)
			depth++;
		if (rc != 0)
			continue;
		/* A tree may not be empty: a few of them could stand for endless work. */
		if (fr->empty && depth) {
			rc = wr_err_set(err, WR_E_CORRUPT, "chunk tree %s: empty",
					wr_id_hex(&fr->id).s);
			break;
		}
		if (fr->pure && fr->zeros)
			*wr_idmap_put(&w->zero, &fr->id, &is_new) = fr->zeros;
		if (depth == 0)
			break;
		depth--;
		frame[depth].pure = frame[depth].pure && fr->pure;
		add_zeros(&frame[depth], fr->zeros);
	}
	for (size_t i = 0; i < WR_CHUNK_DEPTH_MAX; i++)
		wr_buf_fini(&frame[i].bytes);
	return rc < 0 ? -1 : 0;
}

int
wr_rs_content(struct wr_rs *rs, int fd, const struct wr_id *id, bool chunked, uint64_t *out_bytes,
	      bool *out_damaged, struct wr_err *err)
{
	struct wr_rs_worker *w = wr_rs_self(rs);
	struct wr_rs_feed *f = w->feed;
	int rc;

	if (!chunked) {
		struct wr_rs_feed one = {.rs = rs, .fd = fd};
		enum wr_obj_type type;

		*out_damaged = true;
		if (wr_repo_read(w->reader, id, WR_OBJ_BLOB, false, &type, &w->object, err) < 0)
			return -1;
		*out_damaged = false;
		one.sparse = w->object.len > SPARSE_MIN;
		if (put(&one, w->object.p, w->object.len) < 0 ||
		    (one.end < one.off && ftruncate(fd, (off_t)one.off) < 0))
			return wr_err_sys(err, "write");
		*out_bytes = one.written;
		return 0;
	}
	if (!f) {
		f = w->feed = wr_calloc(1, sizeof(*f));
		pthread_mutex_init(&f->mutex, NULL);
		f->rs = rs;
		f->sparse = true;
	}
	f->fd = fd;
	f->off = f->end = f->written = 0;
	f->n = 0;
	f->failed = f->damaged = false;
	rc = walk(f, id, err);
	if (rc < 0 && !f->failed) {
		*out_damaged = true; /* the tree itself */
		return -1;
	}
	if (rc == 0)
		rc = flush(f);
	if (rc < 0) {
		*out_damaged = f->damaged;
		*err = f->err;
		return -1;
	}
	*out_damaged = false;
	if (f->end < f->off && ftruncate(fd, (off_t)f->off) < 0)
		return wr_err_sys(err, "set the size");
	*out_bytes = f->written;
	return 0;
}

void
wr_rs_feed_free(struct wr_rs_feed *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < BATCH; i++)
		wr_buf_fini(&f->slot[i].data);
	pthread_mutex_destroy(&f->mutex);
	free(f);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/snap/content.h"

#include <unistd.h>

#include "engine/chunk/hashtree.h"
#include "engine/chunk/split.h"
#include "engine/repo/sink.h"
#include "sys/fs.h"
#include "sys/pool.h"

/* Chunks given to a thread at a time: about 256 KiB of work. */
#define SLICE_BYTES (256u << 10)

/* Files from here on leave no trace in the page cache when they were not in it. Smaller ones are
 * not worth the calls. */
#define PASS_BYTES (4u << 20)

struct wr_content {
	struct wr_pool *pool;
	struct wr_sink *sink;
	struct wr_splitter splitter;
	struct wr_hashtree tree;
	unsigned bits;
	uint8_t *block;   /* left-over and one block; pages are touched as files need them */
	struct wr_id *id; /* of the block's chunks */
	uint32_t *off;    /* their offsets */
	size_t id_cap, off_cap;
	uint64_t *counter; /* bytes read so far, for progress; may be NULL */
	uint64_t *stored;
	void (*tick)(void *ctx);
	void *tick_ctx;
};

static int
put(struct wr_content *c, enum wr_obj_type type, const void *p, size_t len, struct wr_id *out,
    struct wr_err *err)
{
	if (!c->sink) {
		*out = wr_obj_id(type, p, len);
		return 0;
	}
	if (wr_sink_put_counted(c->sink, wr_pool_self(c->pool), type, p, len, out, c->stored, err) <
	    0) {
		/* WR_E_SYS is kept for reading, see the header. */
		if (err->code == WR_E_SYS)
			wr_err_recode(err, WR_E_FAILED);
		return -1;
	}
	return 0;
}

static int
put_tree(void *ctx, const void *p, size_t len, struct wr_id *out, struct wr_err *err)
{
	return put(ctx, WR_OBJ_TREE, p, len, out, err);
}

struct wr_content *
wr_content_new(struct wr_pool *pool, struct wr_sink *sink, unsigned split_bits)
{
	struct wr_content *c = wr_calloc(1, sizeof(*c));

	c->pool = pool;
	c->sink = sink;
	c->bits = split_bits;
	wr_splitter_init(&c->splitter, split_bits);
	wr_hashtree_init(&c->tree, put_tree, c);
	c->block = wr_malloc(WR_SPLIT_BLOCK + WR_SPLIT_MAX(split_bits));
	return c;
}

void
wr_content_free(struct wr_content *c)
{
	if (!c)
		return;
	wr_splitter_fini(&c->splitter);
	wr_hashtree_fini(&c->tree);
	free(c->block);
	free(c->id);
	free(c->off);
	free(c);
}

void
wr_content_count(struct wr_content *c, uint64_t *counter, void (*tick)(void *ctx), void *ctx)
{
	c->counter = counter;
	c->tick = tick;
	c->tick_ctx = ctx;
}

void
wr_content_stored(struct wr_content *c, uint64_t *counter)
{
	c->stored = counter;
}

struct batch {
	struct wr_content *c;
	const uint8_t *buf;
	struct wr_err *err; /* first error; guarded by failed */
	int failed;
};

static void
put_chunks(void *ctx, size_t lo, size_t hi)
{
	struct batch *b = ctx;
	struct wr_content *c = b->c;

	for (size_t i = lo; i < hi && !__atomic_load_n(&b->failed, __ATOMIC_RELAXED); i++) {
		struct wr_err e = WR_ERR_INIT;

		if (put(c, WR_OBJ_BLOB, b->buf + c->off[i], c->splitter.cut[i].len, &c->id[i], &e) <
			0 &&
		    !__atomic_exchange_n(&b->failed, 1, __ATOMIC_ACQ_REL))
			*b->err = e;
	}
}

/* Cut buf and store the chunks; gives what is left over in *out_used. */
static int
feed(struct wr_content *c, const uint8_t *buf, size_t len, bool eof, size_t *out_used,
     struct wr_err *err)
{
	struct batch b = {.c = c, .buf = buf, .err = err};
	size_t n, per_slice;
	uint32_t off = 0;

	*out_used = wr_split_feed(&c->splitter, buf, len, eof);
	n = c->splitter.cut_count;
	if (!n)
		return 0;
	wr_grow(&c->id, &c->id_cap, n, sizeof(*c->id));
	wr_grow(&c->off, &c->off_cap, n, sizeof(*c->off));
	for (size_t i = 0; i < n; i++) {
		c->off[i] = off;
		off += c->splitter.cut[i].len;
	}
	per_slice = WR_MAX((size_t)1, n * SLICE_BYTES / (*out_used + 1));
	wr_pool_for(c->pool, n, per_slice, 1, put_chunks, &b);
	if (b.failed)
		return -1;
	for (size_t i = 0; i < n; i++)
		if (wr_hashtree_add(&c->tree, &c->id[i], c->splitter.cut[i].len,
				    c->splitter.cut[i].level, err) < 0)
			return -1;
	return 0;
}

static int
finish(struct wr_content *c, struct wr_content_result *out, struct wr_err *err)
{
	uint32_t mode;
	bool empty = false;

	if (wr_hashtree_end(&c->tree, &mode, &out->id, &empty, err) < 0)
		return -1;
	if (empty) {
		out->chunked = false;
		return put(c, WR_OBJ_BLOB, "", 0, &out->id, err);
	}
	out->chunked = (mode == 040000);
	return 0;
}

/* After a failure the builder holds half a file; start over. */
static int
abandon(struct wr_content *c)
{
	wr_splitter_reset(&c->splitter);
	wr_hashtree_fini(&c->tree);
	wr_hashtree_init(&c->tree, put_tree, c);
	return -1;
}

/*
 * A hole that covers the whole next block, after a left-over of zeros only: no cut falls inside
 * zeros, so the result is a run of largest chunks and none of it has to be read or searched.
 * Holes are asked for by SEEK_DATA; *out_hole gets the bytes of whole blocks that may be skipped.
 */
static int
hole_blocks(int fd, uint64_t off, uint64_t size, uint64_t *out_hole)
{
	off_t data = lseek(fd, (off_t)off, SEEK_DATA);
	uint64_t end;

	if (data < 0 && errno != ENXIO)
		return -1; /* not supported: read everything */
	end = data < 0 ? size : (uint64_t)data;
	if (end > size)
		end = size;
	*out_hole = end > off ? (end - off) / WR_SPLIT_BLOCK * WR_SPLIT_BLOCK : 0;
	return 0;
}

/* bytes of zeros behind *left zeros that wait in the block. */
static int
add_zeros(struct wr_content *c, uint64_t bytes, size_t *left, struct wr_err *err)
{
	uint32_t max = WR_SPLIT_MAX(c->bits);
	uint64_t all = bytes + *left;
	WR_SCOPED(wr_freep) uint8_t *zeros = wr_calloc(1, max);
	struct wr_id id;

	if (put(c, WR_OBJ_BLOB, zeros, max, &id, err) < 0 ||
	    wr_hashtree_add_run(&c->tree, &id, max, all / max, err) < 0)
		return -1;
	*left = (size_t)(all % max);
	memset(c->block, 0, *left);
	return 0;
}

static bool
all_zero(const uint8_t *p, size_t len)
{
	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/*
 * The block at off, behind `left` bytes.  A file said to be smaller than a block is asked for one
 * byte more than it has, so that a single short read also tells its end.
 */
static ssize_t
read_block(struct wr_content *c, int fd, uint64_t off, uint64_t size_hint, size_t left)
{
	uint8_t *to = c->block + left;
	size_t want = WR_SPLIT_BLOCK;
	ssize_t n, more;

	if (off > 0 || size_hint >= WR_SPLIT_BLOCK)
		return wr_pread_full(fd, to, want, off);
	want = (size_t)size_hint + 1;
	do
		n = pread(fd, to, want, 0);
	while (n < 0 && errno == EINTR);
	if (n < (ssize_t)want)
		return n;
	more = wr_pread_full(fd, to + n, WR_SPLIT_BLOCK - want, want); /* it has grown */
	return more < 0 ? more : n + more;
}

int
wr_content_fd(struct wr_content *c, int fd, uint64_t size_hint, bool sparse,
	      struct wr_content_result *out, struct wr_err *err)
{
	struct wr_content_result res = {0};
	uint64_t off = 0, end = size_hint + WR_SPLIT_BLOCK;
	size_t left = 0, used; /* bytes of earlier blocks at the start of c->block */
	/* A large file that nobody uses shall not drive out what somebody does. */
	const bool pass = size_hint >= PASS_BYTES && !wr_cached(fd, size_hint);
	bool eof = false;

	while (!eof) {
		ssize_t n;

		if (sparse && all_zero(c->block, left)) {
			uint64_t hole = 0;

			if (hole_blocks(fd, off, size_hint, &hole) < 0)
				sparse = false;
			else if (hole && add_zeros(c, hole, &left, err) < 0)
				return abandon(c);
			off += hole;
		}
		n = read_block(c, fd, off, size_hint, left);
		if (n < 0) {
			wr_err_sys(err, "read");
			wr_err_recode(err, WR_E_SYS);
			return abandon(c);
		}
		if (pass)
			wr_uncache(fd, off, (uint64_t)n);
		off += (uint64_t)n;
		/* A file that grows as fast as it is read would have no end. */
		eof = (size_t)n < WR_SPLIT_BLOCK || off >= end;
		res.read += (uint64_t)n;
		if (feed(c, c->block, left + (size_t)n, eof, &used, err) < 0)
			return abandon(c);
		left = left + (size_t)n - used;
		memmove(c->block, c->block + used, left);
		if (c->counter)
			__atomic_fetch_add(c->counter, (uint64_t)n, __ATOMIC_RELAXED);
		if (c->tick)
			c->tick(c->tick_ctx);
	}
	res.bytes = off;
	if (finish(c, &res, err) < 0)
		return abandon(c);
	*out = res;
	return 0;
}

int
wr_content_mem(struct wr_content *c, const void *p, size_t len, struct wr_content_result *out,
	       struct wr_err *err)
{
	struct wr_content_result res = {.bytes = len};
	const uint8_t *at = p;
	size_t left = 0; /* bytes before `at` not yet consumed */

	for (;;) {
		size_t n = WR_MIN((size_t)WR_SPLIT_BLOCK, len), used;
		bool eof = n == len && n < WR_SPLIT_BLOCK;

		if (feed(c, at - left, left + n, eof, &used, err) < 0)
			return abandon(c);
		at += n;
		len -= n;
		left = left + n - used;
		if (eof)
			break;
	}
	if (finish(c, &res, err) < 0)
		return abandon(c);
	*out = res;
	return 0;
}

int
wr_content_blob(struct wr_content *c, const void *p, size_t len, struct wr_id *out,
		struct wr_err *err)
{
	return put(c, WR_OBJ_BLOB, p, len, out, err);
}

int
wr_content_tree(struct wr_content *c, const void *p, size_t len, struct wr_id *out,
		struct wr_err *err)
{
	return put(c, WR_OBJ_TREE, p, len, out, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   0      8    "WRSTAT1\n"
 *   512    slot A, 1024 slot B: the one with the higher generation and a good checksum rules
 *   4096   blocks
 *   block  struct block_head, then count entries: struct wr_cached and name_len bytes of name
 *
 * Integers are of the host's byte order: the file never leaves the machine, and on another one the
 * magic number in the slot does not fit.  No fsync: what did not reach the disk fails its checksum.
 */
#include "engine/snap/statcache.h"

#include <fcntl.h>
#include <libdeflate.h>
#include <pthread.h>
#include <unistd.h>

#include "sys/fs.h"

#define MAGIC "WRSTAT1\n"
#define SLOT_MAGIC 0x57524331u
#define BLOCK_MAGIC 0x57524431u
#define SLOT_AT(i) (512u + 512u * (i))
#define BLOCKS_AT 4096u
/* LIMIT: one block; 10^6 names of 20 bytes make 120 MB. */
#define BLOCK_MAX (1u << 30)
/* Rewrite the file when more than this and more than half of it is dead. */
#define SLACK_MIN (1u << 20)
/* Blocks gather here before they are written. */
#define WRITE_BYTES (1u << 20)

struct slot {
	uint32_t magic;
	uint32_t crc; /* of what follows */
	uint64_t generation;
	uint64_t root, end, live;
	struct wr_id tree, commit;
};

struct block_head {
	uint32_t magic;
	uint32_t crc; /* of what follows, to the end of the block */
	uint32_t len; /* whole block */
	uint32_t count;
	uint64_t subtree_bytes;
	uint64_t dev;
	struct wr_statkey key;
	struct wr_id tree;
	uint32_t has_links;
};

struct wr_statcache {
	int dir_fd; /* warren/stat, borrowed */
	char name[48];
	int fd; /* -1: nothing there yet */
	bool have;
	unsigned slot_index;
	struct slot slot;
	/* appending; guarded by mutex */
	pthread_mutex_t mutex;
	struct wr_buf pending;
	uint64_t pending_at; /* file offset of pending's first byte */
	bool writing, broken;
};

static uint32_t
checksum(const void *p, size_t len)
{
	return libdeflate_crc32(0, p, len);
}

void
wr_statkey_of(const struct stat *st, struct wr_statkey *out)
{
	*out = (struct wr_statkey){.mode = st->st_mode,
				   .uid = st->st_uid,
				   .gid = st->st_gid,
				   .nlink = (uint32_t)st->st_nlink,
				   .mtime_ns = (uint32_t)st->st_mtim.tv_nsec,
				   .ctime_ns = (uint32_t)st->st_ctim.tv_nsec,
				   .mtime_s = st->st_mtim.tv_sec,
				   .ctime_s = st->st_ctim.tv_sec,
				   .size = (uint64_t)st->st_size,
				   .ino = st->st_ino};
	if (S_ISDIR(st->st_mode)) {
		/* Neither belongs to the snapshot, and both follow from the entries. */
		out->size = 0;
		out->nlink = 0;
	}
}

/*
 * What the file system cuts off its times: 2 s (vfat), 1 s (ext4 with small inodes), 10 ms (exfat),
 * as the last change shows.  A fine time that looks like one of these only costs a second look.
 */
static uint32_t
cut_off_ms(const struct wr_statkey *k)
{
	if (k->ctime_ns == 0)
		return 2000;
	return k->ctime_ns % 10000000 == 0 ? 10 : 0;
}

static struct wr_ts
earlier(struct wr_ts t, uint32_t ms)
{
	int64_t ns = (int64_t)t.ns - (int64_t)(ms % 1000) * 1000000;

	t.s -= ms / 1000 + (ns < 0);
	t.ns = (uint32_t)(ns < 0 ? ns + 1000000000 : ns);
	return t;
}

bool
wr_stat_racy(const struct wr_statkey *k, struct wr_ts now)
{
	struct wr_ts ctime = {k->ctime_s, k->ctime_ns}, mtime = {k->mtime_s, k->mtime_ns};
	/* A clock tick is at most 10 ms; twice that is on the safe side. */
	const uint32_t cut = cut_off_ms(k), tick = 20;

	if (wr_ts_cmp(ctime, earlier(now, cut)) < 0)
		return false;
	return wr_ts_cmp(mtime, earlier(ctime, cut + tick)) >= 0;
}

static bool
load_slot(int fd, unsigned i, struct slot *out)
{
	struct slot s;

	if (wr_pread_full(fd, &s, sizeof(s), SLOT_AT(i)) != (ssize_t)sizeof(s) ||
	    s.magic != SLOT_MAGIC)
		return false;
	if (checksum((uint8_t *)&s + 8, sizeof(s) - 8) != s.crc)
		return false;
	*out = s;
	return true;
}

int
wr_statcache_open(struct wr_repo *r, const char *source, struct wr_statcache **out,
		  struct wr_err *err)
{
	struct wr_statcache *c;
	struct wr_id key = wr_obj_id(WR_OBJ_BLOB, source, strlen(source));
	int dir_fd = wr_repo_stat_fd(r, err);
	char magic[8];
	struct slot s;

	if (dir_fd < 0)
		return -1;
	c = wr_calloc(1, sizeof(*c));
	pthread_mutex_init(&c->mutex, NULL);
	c->dir_fd = dir_fd;
	snprintf(c->name, sizeof(c->name), "%s", wr_id_hex(&key).s);
	c->fd = openat(dir_fd, c->name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (c->fd < 0) /* a reader without rights to write may still use it */
		c->fd = openat(dir_fd, c->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (c->fd >= 0 && wr_pread_full(c->fd, magic, 8, 0) == 8 && !memcmp(magic, MAGIC, 8)) {
		for (unsigned i = 0; i < 2; i++) {
			if (!load_slot(c->fd, i, &s) ||
			    (c->have && s.generation < c->slot.generation))
				continue;
			c->slot = s;
			c->slot_index = i;
			c->have = true;
		}
	}
	*out = c;
	return 0;
}

void
wr_statcache_close(struct wr_statcache *c)
{
	if (!c)
		return;
	wr_closep(&c->fd);
	wr_buf_fini(&c->pending);
	pthread_mutex_destroy(&c->mutex);
	free(c);
}

bool
wr_statcache_root(const struct wr_statcache *c, uint64_t *out_block, struct wr_id *out_tree,
		  struct wr_id *out_commit)
{
	if (!c || !c->have)
		return false;
	if (out_block)
		*out_block = c->slot.root;
	if (out_tree)
		*out_tree = c->slot.tree;
	if (out_commit)
		*out_commit = c->slot.commit;
	return true;
}

void
wr_statcache_reset(struct wr_statcache *c)
{
	wr_closep(&c->fd);
	c->have = false;
}

/* ---- reading ---- */

void
wr_cached_dir_fini(struct wr_cached_dir *d)
{
	wr_buf_fini(&d->storage);
}

/* A head that can be one; its length says how much must follow. */
static bool
plausible(const struct block_head *h)
{
	return h->magic == BLOCK_MAGIC && h->len >= sizeof(*h) && h->len <= BLOCK_MAX;
}

bool
wr_cached_dir_parse(struct wr_cached_dir *d)
{
	struct wr_buf *b = &d->storage;
	struct block_head h;

	if (b->len < sizeof(h))
		return false;
	memcpy(&h, b->p, sizeof(h));
	if (!plausible(&h) || h.len != b->len || checksum(b->p + 8, h.len - 8) != h.crc)
		return false;
	d->key = h.key;
	d->dev = h.dev;
	d->tree = h.tree;
	d->count = h.count;
	d->subtree_bytes = h.subtree_bytes;
	d->has_links = h.has_links != 0;
	d->at = b->p + sizeof(h);
	d->left = h.len - sizeof(h);
	return true;
}

bool
wr_statcache_read(const struct wr_statcache *c, uint64_t off, struct wr_cached_dir *out)
{
	struct block_head h;
	struct wr_buf *b = &out->storage;
	const size_t guess = 8192;
	ssize_t n;

	if (!c || c->fd < 0 || off < BLOCKS_AT)
		return false;
	/* Most directories are small: one read gets head and entries. */
	wr_buf_clear(b);
	wr_buf_reserve(b, guess);
	n = pread(c->fd, b->p, guess, (off_t)off);
	if (n < (ssize_t)sizeof(h))
		return false;
	memcpy(&h, b->p, sizeof(h));
	if (!plausible(&h))
		return false;
	b->len = WR_MIN((size_t)n, (size_t)h.len);
	if (h.len > b->len) {
		size_t more = h.len - b->len;

		wr_buf_reserve(b, more);
		if (wr_pread_full(c->fd, b->p + b->len, more, off + b->len) != (ssize_t)more)
			return false;
		b->len = h.len;
	}
	return wr_cached_dir_parse(out);
}

bool
wr_cached_next(struct wr_cached_dir *d, struct wr_cached *out, const char **name)
{
	if (d->left < sizeof(*out))
		return false;
	memcpy(out, d->at, sizeof(*out));
	if (d->left - sizeof(*out) < out->name_len)
		return false;
	*name = (const char *)d->at + sizeof(*out);
	d->at += sizeof(*out) + out->name_len;
	d->left -= sizeof(*out) + out->name_len;
	return true;
}

/* ---- writing ---- */

void
wr_block_fini(struct wr_block *b)
{
	wr_buf_fini(&b->bytes);
	*b = (struct wr_block)WR_BLOCK_INIT;
}

void
wr_block_add(struct wr_block *b, const struct wr_cached *e, const char *name)
{
	if (!b->bytes.len) {
		static const struct block_head room;

		wr_buf_add(&b->bytes, &room, sizeof(room));
	}
	wr_buf_add(&b->bytes, e, sizeof(*e));
	wr_buf_add(&b->bytes, name, e->name_len);
	b->count++;
	b->has_links |= e->link_hash != 0;
	if (e->kind == WR_KIND_DIR)
		b->below += e->key.size;
}

/* Create the file, or cut off what a killed writer appended behind the last commit. */
static int
start_writing_locked(struct wr_statcache *c)
{
	c->writing = true;
	if (c->fd >= 0 && c->have) {
		c->pending_at = c->slot.end;
		return 0;
	}
	wr_closep(&c->fd);
	c->fd =
	    openat(c->dir_fd, c->name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (c->fd < 0 || wr_pwrite_all(c->fd, MAGIC, 8, 0) < 0)
		return -1;
	c->pending_at = BLOCKS_AT;
	return 0;
}

static int
flush_locked(struct wr_statcache *c)
{
	if (c->pending.len && wr_pwrite_all(c->fd, c->pending.p, c->pending.len, c->pending_at) < 0)
		return -1;
	c->pending_at += c->pending.len;
	wr_buf_clear(&c->pending);
	return 0;
}

int
wr_statcache_append(struct wr_statcache *c, struct wr_block *b, const struct wr_statkey *dir,
		    uint64_t dev, const struct wr_id *tree, uint64_t *out,
		    uint64_t *out_subtree_bytes)
{
	struct block_head h = {.magic = BLOCK_MAGIC};
	int rc = -1;

	if (!b->bytes.len)
		wr_buf_add(&b->bytes, &h, sizeof(h));
	if (b->bytes.len > BLOCK_MAX)
		return -1;
	h.len = (uint32_t)b->bytes.len;
	h.count = b->count;
	h.subtree_bytes = b->below + h.len;
	h.dev = dev;
	h.key = *dir;
	h.tree = *tree;
	h.has_links = b->has_links;
	memcpy(b->bytes.p, &h, sizeof(h));
	h.crc = checksum(b->bytes.p + 8, h.len - 8);
	memcpy(b->bytes.p, &h, sizeof(h));

	pthread_mutex_lock(&c->mutex);
	if (!c->broken && (c->writing || start_writing_locked(c) == 0)) {
		*out = c->pending_at + c->pending.len;
		*out_subtree_bytes = h.subtree_bytes;
		wr_buf_add(&c->pending, b->bytes.p, b->bytes.len);
		rc = c->pending.len >= WRITE_BYTES ? flush_locked(c) : 0;
	}
	if (rc < 0)
		c->broken = true;
	pthread_mutex_unlock(&c->mutex);
	return rc;
}

/* Copy the live blocks, children first, into a new file; *out_off is where this one went. */
static bool
copy_block(const struct wr_statcache *from, struct wr_statcache *to, uint64_t off, int depth,
	   uint64_t *out_off, uint64_t *out_bytes)
{
	WR_SCOPED(wr_cached_dir_fini) struct wr_cached_dir d = WR_CACHED_DIR_INIT;
	WR_SCOPED(wr_block_fini) struct wr_block b = WR_BLOCK_INIT;
	struct wr_cached e;
	const char *name;

	/* LIMIT: deeper trees go without a compacted cache, and are read anew once. */
	if (depth > 2000 || !wr_statcache_read(from, off, &d))
		return false;
	while (wr_cached_next(&d, &e, &name)) {
		if (e.kind == WR_KIND_DIR && e.child) {
			if (!copy_block(from, to, e.child, depth + 1, &e.child, &e.key.size))
				return false;
		}
		wr_block_add(&b, &e, name);
	}
	return wr_statcache_append(to, &b, &d.key, d.dev, &d.tree, out_off, out_bytes) == 0;
}

static void
compact(struct wr_statcache *c)
{
	struct wr_statcache to = {.dir_fd = c->dir_fd, .fd = -1};
	uint64_t root, bytes;
	bool done = false;

	wr_random_name(to.name, sizeof(to.name), "compact-");
	pthread_mutex_init(&to.mutex, NULL);
	if (copy_block(c, &to, c->slot.root, 0, &root, &bytes)) {
		wr_statcache_commit(&to, root, &c->slot.tree, &c->slot.commit);
		done = !to.broken && renameat(to.dir_fd, to.name, c->dir_fd, c->name) == 0;
	}
	if (!done)
		unlinkat(to.dir_fd, to.name, 0);
	else {
		wr_closep(&c->fd);
		c->fd = to.fd;
		to.fd = -1;
		c->slot = to.slot;
		c->slot_index = to.slot_index;
		c->writing = false;
	}
	wr_closep(&to.fd);
	wr_buf_fini(&to.pending);
	pthread_mutex_destroy(&to.mutex);
}

void
wr_statcache_commit(struct wr_statcache *c, uint64_t root, const struct wr_id *tree,
		    const struct wr_id *commit)
{
	struct slot s = {.magic = SLOT_MAGIC, .root = root, .tree = *tree, .commit = *commit};
	WR_SCOPED(wr_cached_dir_fini) struct wr_cached_dir d = WR_CACHED_DIR_INIT;
	unsigned i = c->have ? 1 - c->slot_index : 0;

	if (c->broken || (!c->writing && !c->have) || flush_locked(c) < 0)
		return; /* the old root stands */
	if (!wr_statcache_read(c, root, &d))
		return;
	s.live = d.subtree_bytes;
	s.end = c->writing ? c->pending_at : c->slot.end;
	s.generation = c->have ? c->slot.generation + 1 : 1;
	s.crc = checksum((uint8_t *)&s + 8, sizeof(s) - 8);
	if (wr_pwrite_all(c->fd, &s, sizeof(s), SLOT_AT(i)) < 0) {
		c->broken = true;
		return;
	}
	c->slot = s;
	c->slot_index = i;
	c->have = true;
	c->writing = false;
	if (s.end - BLOCKS_AT > 2 * s.live + SLACK_MIN)
		compact(c);
}

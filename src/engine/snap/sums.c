/* SPDX-License-Identifier: Apache-2.0 */
/*
 * REPO/warren/sums/KEY, integers big endian:
 *
 *   0   8  "WRSUMS1\n"
 *   8   4  CRC-32 of what follows
 *   12     i64 at, u64 files, bytes, left_out_files, left_out_bytes, i64 measured, u64 packs,
 *          needed, then, u32 folders; each: u16 length, path, u64 files, bytes, stored; ascending
 * by path
 */
#include "engine/snap/sums.h"

#include <fcntl.h>
#include <limits.h>
#include <libdeflate.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/str.h"
#include "engine/pack/pack.h"
#include "engine/repo/resolve.h"
#include "engine/snap/latest.h"
#include "engine/snap/reach.h"
#include "sys/clock.h"
#include "sys/fs.h"

#define MAGIC "WRSUMS1\n"
#define HEAD_LEN 12u
#define DIR_NAME "warren/sums"
/* LIMIT: of the file: some 130,000 folders of usual names. */
#define FILE_MAX_BYTES ((size_t)8 << 20)
#define BUCKETS 4096u
#define TELL_EVERY 1024    /* objects */
#define BLOCK 256u         /* folders that are allocated at once */
#define NAMES_BLOCK 16384u /* bytes of names, likewise */

/* Of one folder, with or without what is below. */
struct sum {
	uint64_t files, bytes, stored;
};

struct wr_fold {
	struct wr_fold *parent, *next; /* next: of its bucket */
	const char *name;              /* in its parent: few are ever told by their path */
	uint32_t at;                   /* of all */
	uint32_t hash;
	uint16_t name_len, depth;
	atomic_ullong files, bytes, stored;
};

/* Every save of an unchanged tree makes all folders and lets them go again, so neither costs an
 * allocation of its own. */
struct wr_sums {
	pthread_mutex_t mutex; /* of what follows */
	struct wr_fold *block[WR_SUMS_FOLDERS / BLOCK];
	size_t count; /* parents before what is in them */
	char **names; /* blocks of them */
	size_t name_blocks, names_cap, names_left;
	struct wr_fold *bucket[BUCKETS];
};

/* ---- counting ---- */

static struct wr_fold *
fold_at(const struct wr_sums *s, size_t i)
{
	return &s->block[i / BLOCK][i % BLOCK];
}

static const char *
keep_name(struct wr_sums *s, const char *name, size_t len)
{
	char *to;

	if (len >= s->names_left) {
		wr_grow(&s->names, &s->names_cap, s->name_blocks + 1, sizeof(*s->names));
		s->names[s->name_blocks++] = wr_malloc(NAMES_BLOCK);
		s->names_left = NAMES_BLOCK;
	}
	to = s->names[s->name_blocks - 1] + NAMES_BLOCK - s->names_left;
	memcpy(to, name, len);
	s->names_left -= len;
	return to;
}

static struct wr_fold *
add_fold(struct wr_sums *s, struct wr_fold *parent, const char *name, size_t len, uint32_t hash)
{
	struct wr_fold *f;

	if (s->count % BLOCK == 0)
		s->block[s->count / BLOCK] = wr_calloc(BLOCK, sizeof(*f));
	f = fold_at(s, s->count);
	f->at = (uint32_t)s->count++;
	f->parent = parent;
	f->depth = parent ? (uint16_t)(parent->depth + 1) : 0;
	f->hash = hash;
	f->name_len = (uint16_t)len;
	f->name = keep_name(s, name, len);
	return f;
}

struct wr_sums *
wr_sums_new(void)
{
	struct wr_sums *s = wr_calloc(1, sizeof(*s));

	pthread_mutex_init(&s->mutex, NULL);
	add_fold(s, NULL, "", 0, 0);
	return s;
}

void
wr_sums_free(struct wr_sums *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->count; i += BLOCK)
		free(s->block[i / BLOCK]);
	for (size_t i = 0; i < s->name_blocks; i++)
		free(s->names[i]);
	free(s->names);
	pthread_mutex_destroy(&s->mutex);
	free(s);
}

struct wr_fold *
wr_sums_root(struct wr_sums *s)
{
	return fold_at(s, 0);
}

/* Eight bytes at a time; users choose names, and get long chains by them, of their own folders. */
static uint32_t
hash_of(const struct wr_fold *parent, const char *name, size_t len)
{
	uint64_t h = (uint64_t)parent->at << 8 ^ len, v = 0;

	for (; len >= 8; name += 8, len -= 8) {
		memcpy(&v, name, 8);
		h = (h ^ v) * UINT64_C(0x9e3779b97f4a7c15);
		h ^= h >> 29;
	}
	v = 0;
	for (size_t i = 0; i < len; i++)
		v = v << 8 | (uint8_t)name[i];
	h = (h ^ v) * UINT64_C(0x9e3779b97f4a7c15);
	return (uint32_t)(h >> 32);
}

static struct wr_fold *
in_bucket(struct wr_fold *f, const struct wr_fold *parent, uint32_t hash, const char *name,
	  size_t len)
{
	while (f && (f->hash != hash || f->parent != parent || f->name_len != len ||
		     memcmp(f->name, name, len) != 0))
		f = f->next;
	return f;
}

struct wr_fold *
wr_sums_child(struct wr_sums *s, struct wr_fold *parent, const char *name, size_t len)
{
	struct wr_fold *f, **at;
	uint32_t hash;

	/* LIMIT: names of file systems are of 255 bytes, those of trees may be of any length. */
	if (parent->depth == WR_SUMS_DEPTH || len > NAME_MAX)
		return parent;
	hash = hash_of(parent, name, len);
	at = &s->bucket[hash % BUCKETS];
	pthread_mutex_lock(&s->mutex);
	f = in_bucket(*at, parent, hash, name, len);
	if (!f && s->count < WR_SUMS_FOLDERS) {
		f = add_fold(s, parent, name, len, hash);
		f->next = *at;
		*at = f;
	}
	pthread_mutex_unlock(&s->mutex);
	return f ? f : parent;
}

void
wr_fold_live(struct wr_fold *f, uint64_t files, uint64_t bytes)
{
	atomic_fetch_add_explicit(&f->files, files, memory_order_relaxed);
	atomic_fetch_add_explicit(&f->bytes, bytes, memory_order_relaxed);
}

void
wr_fold_stored(struct wr_fold *f, uint64_t bytes)
{
	atomic_fetch_add_explicit(&f->stored, bytes, memory_order_relaxed);
}

/* ---- sums of folders with all that is below them ---- */

/* Where in all a path is; SIZE_MAX: it was not met. */
static size_t
find_path(struct wr_sums *s, const char *path, size_t len)
{
	const char *end = path + len;
	struct wr_fold *f = wr_sums_root(s);

	while (f && path < end) {
		const char *slash = memchr(path, '/', (size_t)(end - path));
		size_t n = (size_t)((slash ? slash : end) - path);
		uint32_t hash = hash_of(f, path, n);

		f = in_bucket(s->bucket[hash % BUCKETS], f, hash, path, n);
		path += n + 1;
	}
	return f ? f->at : SIZE_MAX;
}

static char *
path_of(const struct wr_fold *f, size_t *out_len)
{
	size_t len = 0;
	char *path, *at;

	for (const struct wr_fold *up = f; up->parent; up = up->parent)
		len += up->name_len + (up->parent->parent ? 1u : 0u);
	path = wr_calloc(1, len + 1);
	for (at = path + len; f->parent; f = f->parent) {
		at -= f->name_len;
		memcpy(at, f->name, f->name_len);
		if (f->parent->parent)
			*--at = '/';
	}
	*out_len = len;
	return path;
}

/* By position in all. */
static struct sum *
add_up(const struct wr_sums *s)
{
	struct sum *sum = wr_calloc(s->count, sizeof(*sum));

	for (size_t i = s->count; i-- > 0;) {
		const struct wr_fold *f = fold_at(s, i);

		sum[i].files += f->files;
		sum[i].bytes += f->bytes;
		sum[i].stored += f->stored;
		if (f->parent) {
			struct sum *up = &sum[f->parent->at];

			up->files += sum[i].files;
			up->bytes += sum[i].bytes;
			up->stored += sum[i].stored;
		}
	}
	return sum;
}

/* The heaviest of many numbers. */
struct top {
	uint64_t heap[WR_SUMS_KEPT]; /* the least first */
	size_t count;
};
/* Which these are: all above least, and so many that are as heavy. */
struct mark {
	uint64_t least;
	size_t equal;
	bool few; /* there are not as many */
};

static void
top_add(struct top *t, uint64_t v)
{
	size_t i, child;

	if (t->count < WR_SUMS_KEPT) {
		for (i = t->count++; i > 0 && t->heap[(i - 1) / 2] > v; i = (i - 1) / 2)
			t->heap[i] = t->heap[(i - 1) / 2];
		t->heap[i] = v;
		return;
	}
	if (v <= t->heap[0])
		return;
	for (i = 0; (child = 2 * i + 1) < t->count; i = child) {
		child += child + 1 < t->count && t->heap[child + 1] < t->heap[child];
		if (t->heap[child] >= v)
			break;
		t->heap[i] = t->heap[child];
	}
	t->heap[i] = v;
}

static struct mark
top_mark(const struct top *t)
{
	struct mark m = {.few = t->count < WR_SUMS_KEPT};

	if (m.few)
		return m;
	m.least = t->heap[0];
	for (size_t i = 0; m.least && i < t->count; i++)
		m.equal += t->heap[i] == m.least;
	return m;
}

/* Is v one of the heaviest? Of equal ones the first are; nothing is never. */
static bool
heavy(struct mark *m, uint64_t v)
{
	if (v != m->least)
		return v > m->least;
	if (!m->equal)
		return false;
	m->equal--;
	return true;
}

static int
by_path(const void *a, const void *b)
{
	const struct wr_usage_folder *x = a, *y = b;
	int c = memcmp(x->path, y->path, WR_MIN(x->path_len, y->path_len));

	return c ? c : x->path_len < y->path_len ? -1 : x->path_len > y->path_len;
}

static void
prune(struct wr_usage *u)
{
	struct top bytes = {.count = 0}, stored = {.count = 0};
	struct mark b, h;
	size_t n = 1;

	for (size_t i = 1; i < u->folder_count; i++) {
		top_add(&bytes, u->folder[i].bytes);
		top_add(&stored, u->folder[i].stored);
	}
	b = top_mark(&bytes);
	h = top_mark(&stored);
	for (size_t i = 1; i < u->folder_count; i++) {
		struct wr_usage_folder *f = &u->folder[i];
		const bool live = heavy(&b, f->bytes), past = heavy(&h, f->stored);

		/* Files may take nothing, and are there. */
		if (live || past || (b.few && f->files))
			u->folder[n++] = *f;
		else
			free(f->path);
	}
	u->folder_count = n;
}

enum take { TAKE_LIVE = 1, TAKE_STORED = 2, TAKE_MORE = 4 };

/* What a folder that was known has now. */
static bool
take_sum(struct wr_usage_folder *f, const struct sum *now, unsigned take)
{
	const struct wr_usage_folder was = *f;

	if (take & TAKE_LIVE) {
		f->files = now->files;
		f->bytes = now->bytes;
	}
	if (take & TAKE_STORED)
		f->stored = now->stored + (take & TAKE_MORE ? f->stored : 0);
	return f->files != was.files || f->bytes != was.bytes || f->stored != was.stored;
}

/* The heaviest ones that were not known. Returns how many. */
static size_t
take_new(struct wr_usage *u, size_t cap, const struct wr_sums *s, const struct sum *sum,
	 const bool *known, unsigned take)
{
	struct top bytes = {.count = 0}, stored = {.count = 0};
	struct mark b, h;
	size_t before = u->folder_count;

	for (size_t i = 1; i < s->count; i++) {
		if (take & TAKE_LIVE)
			top_add(&bytes, sum[i].bytes);
		if (sum[i].stored)
			top_add(&stored, sum[i].stored);
	}
	b = top_mark(&bytes);
	h = top_mark(&stored);
	/* Where some of equal ones can stay, those do that were there. */
	for (size_t i = 1; i < s->count; i++)
		if (known[i]) {
			(void)heavy(&b, sum[i].bytes);
			(void)heavy(&h, sum[i].stored);
		}
	for (size_t i = 1; i < s->count && u->folder_count < cap; i++) {
		bool live, past;

		if (known[i])
			continue;
		live = take & TAKE_LIVE && (heavy(&b, sum[i].bytes) || (b.few && sum[i].files));
		past = heavy(&h, sum[i].stored);
		if (live || past) {
			struct wr_usage_folder *f = &u->folder[u->folder_count++];

			*f = (struct wr_usage_folder){0};
			f->path = path_of(fold_at(s, i), &f->path_len);
			(void)take_sum(f, &sum[i], take);
		}
	}
	return u->folder_count - before;
}

/* Members of the folders of s go into u, or (TAKE_MORE) are added to it. Only what may be kept gets
 * a path and is looked at more than once. */
static bool
merge(struct wr_usage *u, struct wr_sums *s, unsigned take)
{
	static const struct sum none;
	WR_SCOPED(wr_freep) struct sum *sum = add_up(s);
	WR_SCOPED(wr_freep) bool *known = wr_calloc(s->count, sizeof(*known));
	const size_t was = u->folder_count, cap = was + 2 * WR_SUMS_KEPT + 1;
	struct wr_usage_folder *f = wr_calloc(cap, sizeof(*f));
	bool changed = false;

	if (was)
		memcpy(f, u->folder, was * sizeof(*f));
	free(u->folder);
	u->folder = f;
	for (size_t i = 0; i < was; i++) {
		size_t at = find_path(s, f[i].path, f[i].path_len);

		changed |= take_sum(&f[i], at == SIZE_MAX ? &none : &sum[at], take);
		if (at != SIZE_MAX)
			known[at] = true;
	}
	if (!was) {
		f[0].path = wr_strdup("");
		(void)take_sum(&f[0], &sum[0], take);
		u->folder_count = 1;
	}
	changed |= take_new(u, cap, s, sum, known, take) > 0 || !was;
	qsort(u->folder, u->folder_count, sizeof(*u->folder), by_path);
	prune(u);
	return changed || u->folder_count != was;
}

/* Of a tree that is as it was when u was made: the totals would tell if u were of another. */
static bool
says_the_same(const struct wr_usage *u, const struct wr_sums *s)
{
	struct sum all = {0};

	for (size_t i = 0; i < s->count; i++) {
		const struct wr_fold *f = fold_at(s, i);

		all.files += f->files;
		all.bytes += f->bytes;
		all.stored += f->stored;
	}
	return u->folder_count && !all.stored && all.files == u->files && all.bytes == u->bytes;
}

void
wr_usage_add(struct wr_usage *u, struct wr_sums *s, bool same_tree, bool *out_changed)
{
	*out_changed = false;
	if (same_tree && says_the_same(u, s))
		return;
	*out_changed = merge(u, s, TAKE_LIVE | TAKE_STORED | TAKE_MORE);
	u->files = u->folder[0].files;
	u->bytes = u->folder[0].bytes;
}

/* ---- the file ---- */

void
wr_usage_fini(struct wr_usage *u)
{
	for (size_t i = 0; i < u->folder_count; i++)
		free(u->folder[i].path);
	free(u->folder);
	*u = (struct wr_usage){0};
}

struct file_name {
	char s[64];
};

static struct file_name
file_name(const char *source, const char *end)
{
	struct wr_id key = wr_obj_id(WR_OBJ_BLOB, source, strlen(source));
	struct file_name n;

	snprintf(n.s, sizeof(n.s), "%s%s", wr_id_hex(&key).s, end);
	return n;
}

static bool
parse(const struct wr_buf *b, struct wr_usage *u)
{
	struct wr_rd r;
	uint32_t n;

	if (b->len < HEAD_LEN || memcmp(b->p, MAGIC, 8) != 0)
		return false;
	r = wr_rd(b->p + 8, b->len - 8);
	if (wr_rd32be(&r) != libdeflate_crc32(0, b->p + HEAD_LEN, b->len - HEAD_LEN))
		return false;
	u->at = (int64_t)wr_rd64be(&r);
	u->files = wr_rd64be(&r);
	u->bytes = wr_rd64be(&r);
	u->left_out_files = wr_rd64be(&r);
	u->left_out_bytes = wr_rd64be(&r);
	u->measured = (int64_t)wr_rd64be(&r);
	u->packs = wr_rd64be(&r);
	u->needed = wr_rd64be(&r);
	u->then = wr_rd64be(&r);
	n = wr_rd32be(&r);
	if (r.bad || n > r.left / 26)
		return false;
	u->folder = wr_calloc(n + 1u, sizeof(*u->folder));
	for (uint32_t i = 0; i < n; i++) {
		struct wr_usage_folder *f = &u->folder[i];
		size_t len = wr_rd16be(&r);
		const uint8_t *path = wr_rd_bytes(&r, len);

		if (!path || memchr(path, '\0', len))
			return false;
		f->path = wr_calloc(1, len + 1);
		memcpy(f->path, path, len);
		f->path_len = len;
		u->folder_count++;
		f->files = wr_rd64be(&r);
		f->bytes = wr_rd64be(&r);
		f->stored = wr_rd64be(&r);
		if (r.bad || (i ? by_path(f - 1, f) >= 0 : len > 0))
			return false;
	}
	return n > 0 && r.left == 0;
}

void
wr_usage_load(struct wr_repo *r, const char *source, struct wr_usage *out)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	WR_SCOPED(wr_closep) int dir = wr_open_dir(wr_repo_fd(r), DIR_NAME);

	*out = (struct wr_usage){0};
	if (dir >= 0 && wr_read_file(dir, file_name(source, "").s, FILE_MAX_BYTES, &b, NULL) == 0 &&
	    !parse(&b, out))
		wr_usage_fini(out);
}

void
wr_usage_store(struct wr_repo *r, const char *source, const struct wr_usage *u)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT, body = WR_BUF_INIT;
	const struct file_name name = file_name(source, ""), tmp = file_name(source, ".new");
	WR_SCOPED(wr_closep) int fd = -1;
	WR_SCOPED(wr_closep) int dir = -1;

	wr_buf_add64be(&body, (uint64_t)u->at);
	wr_buf_add64be(&body, u->files);
	wr_buf_add64be(&body, u->bytes);
	wr_buf_add64be(&body, u->left_out_files);
	wr_buf_add64be(&body, u->left_out_bytes);
	wr_buf_add64be(&body, (uint64_t)u->measured);
	wr_buf_add64be(&body, u->packs);
	wr_buf_add64be(&body, u->needed);
	wr_buf_add64be(&body, u->then);
	wr_buf_add32be(&body, (uint32_t)u->folder_count);
	for (size_t i = 0; i < u->folder_count; i++) {
		const struct wr_usage_folder *f = &u->folder[i];

		wr_buf_add8(&body, (uint8_t)(f->path_len >> 8));
		wr_buf_add8(&body, (uint8_t)f->path_len);
		wr_buf_add(&body, f->path, f->path_len);
		wr_buf_add64be(&body, f->files);
		wr_buf_add64be(&body, f->bytes);
		wr_buf_add64be(&body, f->stored);
	}
	wr_buf_adds(&b, MAGIC);
	wr_buf_add32be(&b, libdeflate_crc32(0, body.p, body.len));
	wr_buf_add(&b, body.p, body.len);
	if (b.len > FILE_MAX_BYTES || wr_mkdirs(wr_repo_fd(r), DIR_NAME, 0755, NULL) < 0)
		return;
	dir = wr_open_dir(wr_repo_fd(r), DIR_NAME);
	if (dir < 0)
		return;
	fd = openat(dir, tmp.s, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd >= 0 &&
	    (wr_pwrite_all(fd, b.p, b.len, 0) < 0 || renameat(dir, tmp.s, dir, name.s) < 0))
		(void)unlinkat(dir, tmp.s, 0);
}

/* ---- history ---- */

struct measure {
	struct wr_repo *repo;
	struct wr_reader *reader;
	uint32_t *size;    /* by ordinal: stored bytes */
	uint64_t *claimed; /* bits by ordinal */
	void (*progress)(void *ctx, uint64_t done, uint64_t total);
	void *ctx;
	uint64_t done, total, met; /* stored bytes; objects */
};

static void
take_size(void *ctx, const struct wr_stored *s)
{
	struct measure *m = ctx;
	int64_t o = wr_repo_ordinal(m->repo, &s->id);

	if (o >= 0 && s->bytes)
		m->size[o] = (uint32_t)WR_MIN(s->bytes, UINT32_MAX);
}

static int
pack_sizes(struct measure *m, size_t i, uint64_t *io_packs, struct wr_err *err)
{
	const struct wr_idx *x = wr_repo_pack_idx(m->repo, i);
	const struct wr_pack *p = wr_repo_pack(m->repo, i, err);

	if (!p)
		return -1;
	*io_packs += p->size + (x ? x->map_len : 0);
	m->total += p->size;
	if (m->progress)
		m->progress(m->ctx, 0, m->total);
	return wr_stored_each(m->repo, i, take_size, m, err);
}

/* true: for the first time, so what is below it is to be looked at. */
static bool
claim(void *ctx, const struct wr_id *id, struct wr_fold *f)
{
	struct measure *m = ctx;
	int64_t o = wr_repo_ordinal(m->repo, id);
	uint64_t bit;

	if (o < 0)
		return false; /* loose objects are not counted; missing ones are verify's matter */
	bit = UINT64_C(1) << (o & 63);
	if (m->claimed[o >> 6] & bit)
		return false;
	m->claimed[o >> 6] |= bit;
	m->done += m->size[o];
	if (m->progress && m->met++ % TELL_EVERY == 0)
		m->progress(m->ctx, m->done, m->total);
	if (f)
		wr_fold_stored(f, m->size[o]);
	return true;
}

static int
walk(struct measure *m, struct wr_sums *sums, const struct wr_id *root, struct wr_err *err)
{
	const struct wr_reach h = {.reader = m->reader, .claim = claim, .ctx = m, .sums = sums};

	return wr_reach_tree(&h, root, err);
}

static int
by_time(const void *a, const void *b)
{
	const struct wr_snap *x = a, *y = b;

	return x->time < y->time ? -1 : x->time > y->time;
}

/* The newest state: its tree. false: there is none. */
static bool
newest(struct measure *m, const char *branch, struct wr_id *out)
{
	WR_SCOPED(wr_freep) char *ref = wr_asprintf("refs/heads/%s", branch);
	WR_SCOPED(wr_latest_fini) struct wr_latest latest = {0};
	struct wr_commit c = WR_COMMIT_INIT;
	struct wr_id tip;
	bool has = wr_ref_read(m->repo, ref, &tip, NULL) == 0;

	if (wr_latest_find(m->repo, m->reader, branch, has ? &tip : NULL, &latest, NULL) == 0 &&
	    latest.valid) {
		*out = latest.commit.tree;
		return true;
	}
	has = has && wr_repo_read_commit(m->reader, &tip, &c, NULL) == 0;
	if (has)
		*out = c.tree;
	wr_commit_fini(&c);
	return has;
}

/* What the newest state needs. */
static int
measure_newest(struct measure *m, const struct wr_id *state, struct wr_usage *u, struct wr_err *err)
{
	const size_t words = (size_t)(wr_repo_ordinal_end(m->repo) / 64 + 1);
	const uint64_t packs = m->total;

	m->total *= 2; /* at most */
	if (walk(m, NULL, state, err) < 0)
		return -1;
	memset(m->claimed, 0, words * sizeof(*m->claimed));
	u->needed = m->done;
	m->total = m->done + packs;
	return 0;
}

/* What folders have cost: each object counts where the oldest snapshot has it. */
static int
measure_history(struct measure *m, const struct wr_id *state, struct wr_usage *u,
		struct wr_err *err)
{
	struct wr_sums *sums = wr_sums_new();
	struct wr_snaps snaps = {0};
	int rc = wr_snaps_list(m->reader, NULL, &snaps, err);

	if (rc == 0 && snaps.count)
		qsort(snaps.snap, snaps.count, sizeof(*snaps.snap), by_time);
	for (size_t i = 0; rc == 0 && i < snaps.count; i++)
		rc = walk(m, sums, &snaps.snap[i].tree, err);
	if (rc == 0) /* it may be in no snapshot */
		rc = walk(m, sums, state, err);
	if (rc == 0)
		(void)merge(u, sums, TAKE_STORED);
	wr_snaps_fini(&snaps);
	wr_sums_free(sums);
	return rc;
}

static int
measure_all(struct measure *m, const char *branch, struct wr_usage *u, struct wr_err *err)
{
	struct wr_id state;

	u->packs = u->needed = 0;
	for (size_t i = 0; i < wr_repo_pack_count(m->repo); i++)
		if (pack_sizes(m, i, &u->packs, err) < 0)
			return -1;
	if (!newest(m, branch, &state))
		return 0;
	if (measure_newest(m, &state, u, err) < 0 || measure_history(m, &state, u, err) < 0)
		return -1;
	u->then = u->bytes;
	u->measured = wr_clock_wall().s;
	return 0;
}

int
wr_usage_measure(struct wr_repo *r, const char *branch, struct wr_usage *u,
		 void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
		 struct wr_err *err)
{
	const uint64_t end = wr_repo_ordinal_end(r);
	struct measure m = {.repo = r,
			    .reader = wr_reader_new(r),
			    .size = wr_calloc(end + 1, sizeof(*m.size)),
			    .claimed = wr_calloc(end / 64 + 1, sizeof(*m.claimed)),
			    .progress = progress,
			    .ctx = ctx};
	int rc = measure_all(&m, branch, u, err);

	wr_reader_free(m.reader);
	free(m.size);
	free(m.claimed);
	return rc;
}

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
#include <libdeflate.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/str.h"
#include "engine/object/name.h"
#include "engine/object/tree.h"
#include "engine/pack/pack.h"
#include "engine/repo/resolve.h"
#include "engine/snap/latest.h"
#include "sys/clock.h"
#include "sys/fs.h"

#define MAGIC "WRSUMS1\n"
#define HEAD_LEN 12u
#define DIR_NAME "warren/sums"
/* LIMIT: of the file: some 130,000 folders of usual names. */
#define FILE_MAX_BYTES ((size_t)8 << 20)
#define BUCKETS 4096u

struct wr_fold {
	struct wr_fold *parent, *next; /* next: of its bucket */
	char *path;
	size_t path_len;
	unsigned depth;
	atomic_ullong files, bytes, stored;
};

struct wr_sums {
	pthread_mutex_t mutex; /* of what follows */
	struct wr_fold **all;  /* parents before what is in them */
	size_t count, cap;
	struct wr_fold *bucket[BUCKETS];
};

/* ---- counting ---- */

static struct wr_fold *
add_fold(struct wr_sums *s, struct wr_fold *parent, const char *name, size_t len)
{
	struct wr_fold *f = wr_calloc(1, sizeof(*f));
	size_t up = parent && parent->path_len ? parent->path_len + 1 : 0;

	f->parent = parent;
	f->depth = parent ? parent->depth + 1 : 0;
	f->path_len = up + len;
	f->path = wr_calloc(1, f->path_len + 1);
	if (up) {
		memcpy(f->path, parent->path, up - 1);
		f->path[up - 1] = '/';
	}
	memcpy(f->path + up, name, len);
	wr_grow(&s->all, &s->cap, s->count + 1, sizeof(struct wr_fold *));
	s->all[s->count++] = f;
	return f;
}

struct wr_sums *
wr_sums_new(void)
{
	struct wr_sums *s = wr_calloc(1, sizeof(*s));

	pthread_mutex_init(&s->mutex, NULL);
	add_fold(s, NULL, "", 0);
	return s;
}

void
wr_sums_free(struct wr_sums *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->count; i++) {
		free(s->all[i]->path);
		free(s->all[i]);
	}
	free(s->all);
	pthread_mutex_destroy(&s->mutex);
	free(s);
}

struct wr_fold *
wr_sums_root(struct wr_sums *s)
{
	return s->all[0];
}

struct wr_fold *
wr_sums_child(struct wr_sums *s, struct wr_fold *parent, const char *name, size_t len)
{
	size_t up = parent->path_len ? parent->path_len + 1 : 0;
	struct wr_fold *f, **at;

	if (parent->depth == WR_SUMS_DEPTH)
		return parent;
	at = &s->bucket[libdeflate_crc32((uint32_t)((uintptr_t)parent >> 4), name, len) % BUCKETS];
	pthread_mutex_lock(&s->mutex);
	for (f = *at; f; f = f->next)
		if (f->parent == parent && f->path_len == up + len &&
		    !memcmp(f->path + up, name, len))
			break;
	if (!f && s->count < WR_SUMS_FOLDERS) {
		f = add_fold(s, parent, name, len);
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

static int
by_path(const void *a, const void *b)
{
	const struct wr_usage_folder *x = a, *y = b;
	int c = memcmp(x->path, y->path, WR_MIN(x->path_len, y->path_len));

	return c ? c : x->path_len < y->path_len ? -1 : x->path_len > y->path_len;
}

static struct wr_usage_folder *
add_up(const struct wr_sums *s)
{
	struct wr_usage_folder *f = wr_calloc(s->count, sizeof(*f));

	for (size_t i = s->count; i-- > 0;) {
		struct wr_fold *from = s->all[i], *up = from->parent;

		f[i] = (struct wr_usage_folder){.path = wr_memdup(from->path, from->path_len + 1),
						.path_len = from->path_len,
						.files = from->files,
						.bytes = from->bytes,
						.stored = from->stored};
		if (up) {
			wr_fold_live(up, f[i].files, f[i].bytes);
			wr_fold_stored(up, f[i].stored);
		}
	}
	/* Once: what was handed up is taken back. */
	for (size_t i = 0; i < s->count; i++) {
		struct wr_fold *from = s->all[i], *up = from->parent;

		if (up) {
			atomic_fetch_sub(&up->files, f[i].files);
			atomic_fetch_sub(&up->bytes, f[i].bytes);
			atomic_fetch_sub(&up->stored, f[i].stored);
		}
	}
	qsort(f, s->count, sizeof(*f), by_path);
	return f;
}

static int
heaviest(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? 1 : x > y ? -1 : 0;
}

/* The least that one of the kept ones has. */
static uint64_t
threshold(const struct wr_usage *u, bool stored)
{
	WR_SCOPED(wr_freep) uint64_t *v = NULL;
	uint64_t least;

	if (u->folder_count <= WR_SUMS_KEPT)
		return 0;
	v = wr_calloc(u->folder_count, sizeof(*v));
	for (size_t i = 0; i < u->folder_count; i++)
		v[i] = stored ? u->folder[i].stored : u->folder[i].bytes;
	qsort(v, u->folder_count, sizeof(*v), heaviest);
	least = v[WR_SUMS_KEPT - 1];
	return WR_MAX(least, (uint64_t)1);
}

static void
prune(struct wr_usage *u)
{
	uint64_t bytes = threshold(u, false), stored = threshold(u, true);
	size_t n = 0;

	for (size_t i = 0; i < u->folder_count; i++) {
		struct wr_usage_folder *f = &u->folder[i];

		if (f->path_len && (bytes || stored) && f->bytes < bytes && f->stored < stored)
			free(f->path);
		else if (f->path_len && !f->bytes && !f->files && !f->stored)
			free(f->path);
		else
			u->folder[n++] = *f;
	}
	u->folder_count = n;
}

enum take { TAKE_LIVE = 1, TAKE_STORED = 2, TAKE_MORE = 4 };

/* Members of the folders of s go into u, or (TAKE_MORE) are added to it. */
static bool
merge(struct wr_usage *u, const struct wr_sums *s, unsigned take)
{
	WR_SCOPED(wr_freep) struct wr_usage_folder *now = add_up(s);
	struct wr_usage_folder *out = wr_calloc(u->folder_count + s->count, sizeof(*out));
	size_t n = 0, i = 0, k = 0;
	bool changed = false;

	while (i < u->folder_count || k < s->count) {
		int c = i == u->folder_count ? 1
			: k == s->count      ? -1
					     : by_path(&u->folder[i], &now[k]);
		struct wr_usage_folder f = c > 0 ? now[k] : u->folder[i];
		struct wr_usage_folder zero = {0}, *has = c >= 0 ? &now[k] : &zero;

		if (c > 0)
			f.files = f.bytes = f.stored = 0;
		if (take & TAKE_LIVE) {
			changed |= f.bytes != has->bytes || f.files != has->files;
			f.files = has->files;
			f.bytes = has->bytes;
		}
		if (take & TAKE_STORED) {
			changed |= has->stored > 0;
			f.stored = has->stored + (take & TAKE_MORE ? f.stored : 0);
		}
		out[n++] = f;
		if (c == 0)
			free(now[k].path);
		i += c <= 0;
		k += c >= 0;
	}
	free(u->folder);
	u->folder = out;
	u->folder_count = n;
	prune(u);
	return changed;
}

void
wr_usage_add(struct wr_usage *u, const struct wr_sums *s, bool *out_changed)
{
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
	uint32_t *size;       /* by ordinal: stored bytes */
	uint64_t *claimed;    /* bits by ordinal */
	struct wr_sums *sums; /* NULL: only the sum counts */
	uint64_t sum;
};

struct at {
	uint64_t off;
	uint32_t pos;
};

static int
by_offset(const void *a, const void *b)
{
	const struct at *x = a, *y = b;

	return x->off < y->off ? -1 : x->off > y->off;
}

static int
pack_sizes(struct measure *m, size_t i, uint64_t *io_packs, struct wr_err *err)
{
	const struct wr_idx *x = wr_repo_pack_idx(m->repo, i);
	struct wr_pack *p = wr_repo_pack(m->repo, i, err);
	WR_SCOPED(wr_freep) struct at *at = NULL;

	if (!p)
		return -1;
	*io_packs += p->size;
	if (!x)
		return 0;
	*io_packs += x->map_len;
	at = wr_calloc(x->count + 1u, sizeof(*at));
	for (uint32_t k = 0; k < x->count; k++)
		at[k] = (struct at){wr_idx_offset(x, k), k};
	qsort(at, x->count, sizeof(*at), by_offset);
	at[x->count] = (struct at){p->size - WR_ID_LEN, 0};
	for (uint32_t k = 0; k < x->count; k++) {
		struct wr_id id = wr_idx_id(x, at[k].pos);
		int64_t o = wr_repo_ordinal(m->repo, &id);

		if (o >= 0 && at[k + 1].off > at[k].off)
			m->size[o] = (uint32_t)WR_MIN(at[k + 1].off - at[k].off, UINT32_MAX);
	}
	return 0;
}

/* true: for the first time, so what is below it is to be looked at. */
static bool
claim(struct measure *m, const struct wr_id *id, struct wr_fold *f)
{
	int64_t o = wr_repo_ordinal(m->repo, id);
	uint64_t bit;

	if (o < 0)
		return false; /* loose objects are not counted; missing ones are verify's matter */
	bit = UINT64_C(1) << (o & 63);
	if (m->claimed[o >> 6] & bit)
		return false;
	m->claimed[o >> 6] |= bit;
	m->sum += m->size[o];
	if (f)
		wr_fold_stored(f, m->size[o]);
	return true;
}

struct todo {
	struct wr_id id;
	struct wr_fold *fold;
	bool chunks; /* of a file */
};

static int
walk(struct measure *m, const struct wr_id *root, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_fold *top = m->sums ? wr_sums_root(m->sums) : NULL;
	struct todo *t = NULL;
	size_t n = 0, cap = 0;
	int rc = 0;

	if (claim(m, root, top)) {
		wr_grow(&t, &cap, 1, sizeof(*t));
		t[n++] = (struct todo){*root, top, false};
	}
	while (rc == 0 && n) {
		struct todo at = t[--n];
		struct wr_tree_entry e;
		struct wr_rd rd;

		rc = wr_repo_read(m->reader, &at.id, WR_OBJ_TREE, false, NULL, &b, err);
		if (rc < 0)
			break;
		rd = wr_rd(b.p, b.len);
		while ((rc = wr_tree_next(&rd, &e, err)) > 0) {
			struct wr_fold *f = at.fold;
			bool chunked = true;
			size_t len = 0;

			if (!at.chunks && e.mode == WR_MODE_TREE)
				len = wr_name_unmangle(e.name, e.name_len, true, &chunked);
			chunked |= len == 0;
			if (f && !chunked)
				f = wr_sums_child(m->sums, f, (const char *)e.name, len);
			if (!claim(m, &e.id, f) || e.mode != WR_MODE_TREE)
				continue;
			wr_grow(&t, &cap, n + 1, sizeof(*t));
			t[n++] = (struct todo){e.id, f, at.chunks || chunked};
		}
		if (rc < 0)
			wr_err_wrap(err, "tree %s", wr_id_hex(&at.id).s);
	}
	free(t);
	return rc;
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

static int
measure_all(struct measure *m, const char *branch, struct wr_usage *u,
	    void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
	    struct wr_err *err)
{
	const size_t words = (size_t)(wr_repo_ordinal_end(m->repo) / 64 + 1);
	struct wr_snaps snaps = {0};
	struct wr_id state;
	int rc = 0;

	u->packs = u->needed = 0;
	for (size_t i = 0; rc == 0 && i < wr_repo_pack_count(m->repo); i++)
		rc = pack_sizes(m, i, &u->packs, err);
	if (rc == 0)
		rc = wr_snaps_list(m->reader, NULL, &snaps, err);
	if (rc == 0 && snaps.count)
		qsort(snaps.snap, snaps.count, sizeof(*snaps.snap), by_time);
	for (size_t i = 0; rc == 0 && i < snaps.count; i++) {
		rc = walk(m, &snaps.snap[i].tree, err);
		if (progress)
			progress(ctx, i + 1, snaps.count);
	}
	wr_snaps_fini(&snaps);
	if (rc < 0 || !newest(m, branch, &state))
		return rc;
	rc = walk(m, &state, err);
	if (rc < 0)
		return -1;
	(void)merge(u, m->sums, TAKE_STORED);
	memset(m->claimed, 0, words * sizeof(*m->claimed));
	wr_sums_free(wr_steal(&m->sums));
	m->sum = 0;
	rc = walk(m, &state, err);
	u->needed = m->sum;
	u->then = u->bytes;
	u->measured = wr_clock_wall().s;
	return rc;
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
			    .sums = wr_sums_new()};
	int rc = measure_all(&m, branch, u, progress, ctx, err);

	wr_sums_free(m.sums);
	wr_reader_free(m.reader);
	free(m.size);
	free(m.claimed);
	return rc;
}

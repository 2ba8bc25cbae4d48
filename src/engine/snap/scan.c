/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One task per directory, newest first.  A node lives until everything below it has been seen; then
 * its verdict (dirty, holds hard links) goes up to its parent.  A directory's descriptor is closed
 * as soon as its last subdirectory has been opened.
 */
#include "engine/snap/scan.h"

#include <dirent.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "engine/snap/dirview.h"
#include "engine/snap/fsmeta.h"
#include "engine/snap/links.h"
#include "sys/clock.h"

/* A directory that rules leave out, with what lies below it. */
struct place {
	struct place *next;
	char *path;
	const char *reason;
	atomic_ullong files, bytes;
};

/* A set of block offsets; no two blocks begin in the same 64 bytes. */
struct block_set {
	uint64_t *bits;
	size_t cap; /* words */
};

struct wr_scan {
	struct wr_pool *pool;
	const struct wr_scan_opts *o;
	struct wr_statcache *cache;
	char *link_root;
	dev_t dev;
	uint64_t mount;
	struct worker {
		struct wr_listing listing;
		struct wr_cached_dir cached;
		struct wr_buf path;
	} * worker; /* one per thread */

	atomic_ullong files, dirs, bytes, todo_files, todo_bytes;
	atomic_bool incomplete; /* something that is there could not be looked at */
	int root_errno;         /* why the root could not be read, 0 if it could */
	pthread_mutex_t mutex;
	struct wr_links links;   /* guarded by mutex, fixed after the run */
	struct place *places;    /* guarded by mutex */
	struct wr_links refused; /* guarded by mutex: see wr_scan_refuses */
	/* Seen and unchanged with all below; what was not seen is not in it. */
	struct block_set clean;      /* guarded by mutex, fixed after the run */
	struct block_set with_links; /* the same; those of clean with hard links below */
	struct wr_notes left_out;    /* guarded by mutex as are the sums; directories come last */
	uint64_t left_out_files, left_out_bytes;
};

struct node {
	struct wr_scan *s;
	struct node *parent;
	char
	    *name; /* in the parent, "" for the root; a path each would make deep trees quadratic */
	size_t path_len; /* of the path below the root */
	unsigned depth;
	int fd;
	dev_t dev;           /* of the directory, once it is open */
	uint64_t block;      /* of the stat cache, 0: none */
	struct place *place; /* we are below a left-out place: only count */
	struct wr_fold *fold;
	struct wr_rules rules;
	atomic_uint unopened; /* children that still need fd, plus 1 while listing */
	atomic_uint pending;  /* children not finished, plus 1 for itself */
	atomic_bool dirty, has_links;
};

static void
set_add(struct block_set *b, uint64_t off)
{
	size_t word = (size_t)(off >> 12), old = b->cap;

	if (word >= b->cap) {
		wr_grow(&b->bits, &b->cap, word + 1, sizeof(*b->bits));
		memset(b->bits + old, 0, (b->cap - old) * sizeof(*b->bits));
	}
	b->bits[word] |= UINT64_C(1) << (off >> 6 & 63);
}

static bool
set_has(const struct block_set *b, uint64_t off)
{
	size_t word = (size_t)(off >> 12);

	return word < b->cap && (b->bits[word] >> (off >> 6 & 63) & 1);
}

/* The path of n below the root. */
static void
path_of(const struct node *n, struct wr_buf *out)
{
	char *at;

	wr_buf_clear(out);
	wr_buf_reserve(out, n->path_len);
	out->len = n->path_len;
	for (at = (char *)out->p + out->len; n->parent; n = n->parent) {
		size_t len = strlen(n->name);

		at -= len;
		memcpy(at, n->name, len);
		if (n->parent->parent)
			*--at = '/';
	}
}

static struct place *
add_place(struct wr_scan *s, const char *path, const char *reason)
{
	struct place *p = wr_calloc(1, sizeof(*p));

	p->path = wr_strdup(path);
	p->reason = reason;
	pthread_mutex_lock(&s->mutex);
	p->next = s->places;
	s->places = p;
	pthread_mutex_unlock(&s->mutex);
	return p;
}

static void
opened(struct node *n)
{
	if (atomic_fetch_sub(&n->unopened, 1) == 1 && n->fd >= 0) {
		close(n->fd);
		n->fd = -1;
	}
}

/* One reason less to keep n; goes up as far as nodes end. */
static void
finished(struct node *n)
{
	while (n && atomic_fetch_sub(&n->pending, 1) == 1) {
		struct node *up = n->parent;
		struct wr_scan *s = n->s;

		if (n->block && !n->dirty) {
			pthread_mutex_lock(&s->mutex);
			set_add(&s->clean, n->block);
			if (n->has_links)
				set_add(&s->with_links, n->block);
			pthread_mutex_unlock(&s->mutex);
		}
		if (up && n->dirty)
			up->dirty = true;
		if (up && n->has_links)
			up->has_links = true;
		wr_rules_fini(&n->rules);
		free(n->name);
		free(n);
		n = up;
	}
}

static void scan_dir(void *arg);

static void
push_child(struct node *parent, const struct wr_name *e, uint64_t block, struct place *place)
{
	struct node *n;

	if (parent->depth + 1 == WR_TREE_DEPTH_MAX) {
		parent->dirty = true; /* so that the second pass comes by and says it */
		return;
	}
	n = wr_calloc(1, sizeof(*n));
	n->s = parent->s;
	n->parent = parent;
	n->name = wr_strdup(e->name);
	n->path_len = parent->path_len + (parent->path_len ? 1 : 0) + e->len;
	n->depth = parent->depth + 1;
	n->fd = -1;
	n->block = block;
	n->place = place;
	if (parent->fold && !place)
		n->fold = wr_sums_child(n->s->o->sums, parent->fold, e->name, e->len);
	n->unopened = 1;
	n->pending = 1;
	atomic_fetch_add(&parent->unopened, 1);
	atomic_fetch_add(&parent->pending, 1);
	wr_pool_push(n->s->pool, scan_dir, n);
}

/* A directory could not be looked at: the second pass finds out why, if it fails there too. */
static void
unseen(struct node *n, int e)
{
	n->dirty = true;
	if (e != ENOENT)
		n->s->incomplete = true;
	if (!n->parent)
		n->s->root_errno = e;
}

/* Is this entry as the cache says? Also tells the link table of inodes with several names. */
static bool
same_as_cached(struct wr_scan *s, struct node *n, const struct stat *st, const struct wr_cached *c,
	       const char *path)
{
	struct wr_statkey key;
	bool same;

	wr_statkey_of(st, &key);
	same = c && c->trusted && c->kind != WR_KIND_DIR && st->st_dev == n->dev &&
	       memcmp(&key, &c->key, sizeof(key)) == 0;
	if (st->st_nlink > 1) {
		n->has_links = true;
		pthread_mutex_lock(&s->mutex);
		wr_links_add(&s->links, st->st_dev, st->st_ino, path, same ? c->link_hash : 0);
		pthread_mutex_unlock(&s->mutex);
	}
	return same;
}

static void
count_left_out(struct place *p, const struct stat *st)
{
	atomic_fetch_add(&p->files, 1);
	atomic_fetch_add(&p->bytes, S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0);
}

/* There may be a great many: only the largest are kept by name. */
static void
leave_out_file(struct wr_scan *s, const char *path, size_t len, const char *reason,
	       const struct stat *st)
{
	uint64_t bytes = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;

	pthread_mutex_lock(&s->mutex);
	wr_notes_add_largest(&s->left_out, path, len, reason, bytes);
	s->left_out_files++;
	s->left_out_bytes += bytes;
	pthread_mutex_unlock(&s->mutex);
}

struct totals {
	uint64_t files, bytes;
	uint64_t taken; /* on disk; of a file with several names each has its part */
};

static uint64_t
taken(const struct stat *st)
{
	const uint64_t all = (uint64_t)st->st_blocks * 512;

	/* A division would be the dearest part of the sums. */
	return st->st_nlink > 1 ? all / (uint64_t)st->st_nlink : all;
}

static void
scan_entry(struct node *n, const struct wr_name *e, const char *path, size_t path_len,
	   const struct wr_cached *c, struct totals *t)
{
	struct wr_scan *s = n->s;
	struct stat st;
	const char *out;
	bool is_dir = e->type == DT_DIR;

	if (!is_dir) {
		if (fstatat(n->fd, e->name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			n->dirty = true;
			if (errno != ENOENT)
				s->incomplete = true;
			return;
		}
		is_dir = S_ISDIR(st.st_mode);
	}
	if (n->place) {
		if (is_dir)
			push_child(n, e, 0, n->place);
		else
			count_left_out(n->place, &st);
		return;
	}
	out = wr_rules_out(&n->rules, path, path_len, e->name, is_dir);
	if (!out && !is_dir && (out = wr_scan_refuses(s->o, &st))) {
		pthread_mutex_lock(&s->mutex);
		wr_links_add(&s->refused, st.st_dev, st.st_ino, "", 0);
		pthread_mutex_unlock(&s->mutex);
	}
	if (out) {
		n->dirty |= c != NULL;
		if (is_dir)
			push_child(n, e, 0, add_place(s, path, out));
		else if (!s->o->own_link || !S_ISLNK(st.st_mode) ||
			 strcmp(path, s->o->own_link) != 0)
			leave_out_file(s, path, path_len, out, &st);
		return;
	}
	if (is_dir) {
		bool known = c && c->kind == WR_KIND_DIR && c->child;

		n->dirty |= !known;
		push_child(n, e, known ? c->child : 0, NULL);
		return;
	}
	t->files++;
	t->taken += taken(&st);
	t->bytes += S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
	if (!same_as_cached(s, n, &st, c, path)) {
		n->dirty = true;
		atomic_fetch_add(&s->todo_files, 1);
		atomic_fetch_add(&s->todo_bytes, S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0);
	}
}

/* w->path: of n; names are appended. own: what the directory itself takes. */
static void
scan_names(struct node *n, struct worker *w, bool cached, uint64_t own)
{
	struct wr_scan *s = n->s;
	struct wr_cached c;
	struct totals t = {.taken = own};
	const char *c_name = NULL;
	bool more = cached && wr_cached_next(&w->cached, &c, &c_name);
	size_t base;

	if (w->path.len)
		wr_buf_add8(&w->path, '/');
	base = w->path.len;
	for (size_t i = 0; i < w->listing.count; i++) {
		const struct wr_name *e = &w->listing.ent[i];
		int cmp = 1;

		/* Both lists ascend: step over cached names that are gone. */
		while (more) {
			cmp = memcmp(c_name, e->name, WR_MIN(c.name_len, e->len));
			if (cmp == 0)
				cmp = (int)c.name_len - (int)e->len;
			if (cmp >= 0)
				break;
			n->dirty = true;
			more = wr_cached_next(&w->cached, &c, &c_name);
		}
		w->path.len = base;
		wr_buf_add(&w->path, e->name, e->len);
		scan_entry(n, e, wr_buf_str(&w->path), w->path.len, more && cmp == 0 ? &c : NULL,
			   &t);
		if (more && cmp == 0)
			more = wr_cached_next(&w->cached, &c, &c_name);
	}
	if (more)
		n->dirty = true;
	if (n->fold)
		wr_fold_live(n->fold, t.files, t.taken);
	t.files = atomic_fetch_add(&s->files, t.files) + t.files;
	t.bytes = atomic_fetch_add(&s->bytes, t.bytes) + t.bytes;
	if (s->o->progress && !n->place)
		s->o->progress(s->o->ctx, t.files, t.bytes);
}

const char *
wr_scan_beyond(const struct wr_scan *s, int fd, const struct stat *st)
{
	if (s->o->no_mounts && s->mount)
		return wr_mount_of(fd) == s->mount ? NULL : "another mount";
	return s->o->one_file_system && st->st_dev != s->dev ? "other file system" : NULL;
}

/* Open the directory; false if it is not to be entered. */
static bool
enter(struct node *n, const char *path, struct stat *st)
{
	struct wr_scan *s = n->s;
	const char *beyond;

	if (n->parent) {
		n->fd = openat(n->parent->fd, n->name,
			       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC);
		if (n->fd < 0 && errno == EPERM)
			n->fd = openat(n->parent->fd, n->name,
				       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		opened(n->parent);
	}
	if (n->fd < 0 || fstat(n->fd, st) < 0) {
		unseen(n, errno);
		return false;
	}
	n->dev = st->st_dev;
	if (n->place)
		return true;
	if (st->st_dev == s->o->skip_dev && st->st_ino == s->o->skip_ino && s->o->skip_ino) {
		add_place(s, path, "the repository itself");
		n->dirty = true; /* it is in no snapshot, so nor in a cache that is right */
		return false;
	}
	beyond = wr_scan_beyond(s, n->fd, st);
	if (beyond) {
		add_place(s, path, beyond);
		n->dirty = true;
		return false;
	}
	return true;
}

static void
scan_dir(void *arg)
{
	struct node *n = arg;
	struct wr_scan *s = n->s;
	struct worker *w = &s->worker[wr_pool_self(s->pool)];
	bool cached = false;
	struct wr_err err = WR_ERR_INIT;
	struct stat st;

	path_of(n, &w->path);
	if (!enter(n, wr_buf_str(&w->path), &st))
		goto out;
	if (wr_listing_read(&w->listing, n->fd, &err) < 0) {
		unseen(n, err.sys_errno);
		goto out;
	}
	if (!n->place) {
		atomic_fetch_add(&s->dirs, 1);
		wr_rules_enter(&n->rules, n->parent ? n->parent->rules.level : s->o->ignore, n->fd,
			       wr_buf_str(&w->path), &w->listing);
	}
	if (n->block) {
		struct wr_statkey key;

		wr_statkey_of(&st, &key);
		cached = wr_statcache_read(s->cache, n->block, &w->cached);
		if (!cached || wr_id_is_zero(&w->cached.tree) || w->cached.dev != st.st_dev ||
		    memcmp(&key, &w->cached.key, sizeof(key)) != 0)
			n->dirty = true;
	}
	scan_names(n, w, cached, (uint64_t)st.st_blocks * 512);
out:
	opened(n);
	finished(n);
}

static int
by_bytes(const void *a, const void *b)
{
	const struct wr_note *x = a, *y = b;

	if (x->bytes != y->bytes)
		return x->bytes < y->bytes ? 1 : -1;
	return strcmp(x->path, y->path);
}

/* After the run: the places become notes, and doubtful hard links make their directories dirty. */
static void
conclude(struct wr_scan *s)
{
	bool doubt = false;
	WR_SCOPED(wr_buf_fini) struct wr_buf key = WR_BUF_INIT;

	while (s->places) {
		struct place *p = s->places;

		s->places = p->next;
		wr_notes_add_largest(&s->left_out, p->path, strlen(p->path), p->reason, p->bytes);
		s->left_out_files += p->files;
		s->left_out_bytes += p->bytes;
		free(p->path);
		free(p);
	}
	if (s->left_out.count)
		qsort(s->left_out.note, s->left_out.count, sizeof(*s->left_out.note), by_bytes);
	for (size_t i = 0; i < s->links.cap && !doubt; i++) {
		const struct wr_link_group *g = &s->links.slot[i];

		if (!g->path || !g->cached_hash)
			continue;
		wr_buf_clear(&key);
		(void)wr_scan_link_key(s, g->dev, g->ino, &key);
		doubt = g->mixed || wr_link_hash(key.p, key.len) != g->cached_hash;
	}
	if (doubt)
		for (size_t i = 0; i < WR_MIN(s->clean.cap, s->with_links.cap); i++)
			s->clean.bits[i] &= ~s->with_links.bits[i];
}

int
wr_scan_run(int root_fd, struct wr_pool *pool, const struct wr_scan_opts *o,
	    struct wr_statcache *cache, const char *link_root, struct wr_scan **out,
	    struct wr_err *err)
{
	struct wr_scan *s = wr_calloc(1, sizeof(*s));
	struct node *n = wr_calloc(1, sizeof(*n));
	struct stat st;

	s->pool = pool;
	s->o = o;
	s->cache = cache;
	s->link_root = wr_strdup(link_root);
	pthread_mutex_init(&s->mutex, NULL);
	s->worker = wr_calloc(wr_pool_threads(pool), sizeof(*s->worker));
	n->s = s;
	n->name = wr_strdup("");
	n->unopened = 1;
	n->pending = 1;
	n->fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (n->fd < 0 || fstat(n->fd, &st) < 0) {
		wr_err_sys(err, "open the directory to scan");
		if (n->fd >= 0)
			close(n->fd);
		free(n->name);
		free(n);
		wr_scan_free(s);
		return -1;
	}
	if (o->sums)
		n->fold = wr_sums_root(o->sums);
	s->dev = st.st_dev;
	s->mount = wr_mount_of(n->fd);
	if (!wr_statcache_root(cache, &n->block, NULL, NULL))
		n->block = 0;
	wr_pool_push(pool, scan_dir, n);
	wr_pool_run(pool);
	conclude(s);
	for (unsigned i = 0; i < wr_pool_threads(pool); i++) {
		wr_listing_fini(&s->worker[i].listing);
		wr_cached_dir_fini(&s->worker[i].cached);
		wr_buf_fini(&s->worker[i].path);
	}
	free(wr_steal(&s->worker));
	if (s->root_errno) {
		errno = s->root_errno;
		wr_err_sys(err, "read the directory to save");
		wr_scan_free(s);
		return -1;
	}
	*out = s;
	return 0;
}

void
wr_scan_free(struct wr_scan *s)
{
	if (!s)
		return;
	wr_links_fini(&s->links);
	wr_links_fini(&s->refused);
	wr_notes_fini(&s->left_out);
	free(s->clean.bits);
	free(s->with_links.bits);
	free(s->worker);
	free(s->link_root);
	pthread_mutex_destroy(&s->mutex);
	free(s);
}

void
wr_scan_totals(const struct wr_scan *s, uint64_t *out_files, uint64_t *out_dirs,
	       uint64_t *out_bytes)
{
	*out_files = s->files;
	*out_dirs = s->dirs;
	*out_bytes = s->bytes;
}

void
wr_scan_todo(const struct wr_scan *s, uint64_t *out_files, uint64_t *out_bytes)
{
	*out_files = s->todo_files;
	*out_bytes = s->todo_bytes;
}

const struct wr_notes *
wr_scan_left_out(const struct wr_scan *s, uint64_t *out_files, uint64_t *out_bytes)
{
	*out_files = s->left_out_files;
	*out_bytes = s->left_out_bytes;
	return &s->left_out;
}

const char *
wr_scan_refuses(const struct wr_scan_opts *o, const struct stat *st)
{
	if (!S_ISREG(st->st_mode))
		return NULL;
	if (o->max_file_size && (uint64_t)st->st_size > o->max_file_size)
		return "larger than the limit";
	if (o->only_own_links && st->st_nlink > 1 && st->st_uid != o->owner)
		return "a hard link to another user's file";
	return NULL;
}

bool
wr_scan_refused(const struct wr_scan *s, dev_t dev, ino_t ino)
{
	return wr_links_find(&s->refused, dev, ino) != NULL;
}

bool
wr_scan_clean(const struct wr_scan *s, uint64_t block)
{
	return block && set_has(&s->clean, block);
}

unsigned
wr_scan_link_key(const struct wr_scan *s, dev_t dev, ino_t ino, struct wr_buf *out)
{
	const struct wr_link_group *g = wr_links_find(&s->links, dev, ino);

	wr_buf_adds(out, s->link_root);
	if (g) {
		wr_buf_addf(out, "/%s", g->path);
		return s->incomplete ? WR_MAX(g->names, 2u) : g->names;
	}
	if (!s->incomplete)
		return 0;
	/* Names that only the second pass meets must still find each other. */
	wr_buf_addf(out, "/.inode-%ju-%ju", (uintmax_t)dev, (uintmax_t)ino);
	return 2;
}

uint32_t
wr_link_hash(const void *key, size_t len)
{
	uint32_t h = libdeflate_crc32(0, key, len);

	return h ? h : 1;
}

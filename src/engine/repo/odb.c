/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packs of a repository: which there are, where an id lies, which of them are open.
 *
 * Order of a search: the filter (if built), the midx files, the indexes no midx covers, the one of
 * the last hit first.  What a filter or a midx says is a hint; only an index decides.
 *
 * Memory: indexes are mapped files.  What a search touches stays resident until we give it back, so
 * every so often the process looks at what it holds and drops the pages (they remain in the page
 * cache).
 */
#include "engine/repo/repo_int.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/clock.h"
#include "sys/fs.h"

/* Indexes together smaller than this are left alone. */
#define MAP_SMALL (UINT64_C(32) << 20)
/* LIMIT: resident pages of files, above which the indexes' pages are given back. */
#define MAP_RESIDENT_MAX (UINT64_C(32) << 20)
/* A search makes at most some 300 KB resident (the kernel maps 16 pages around each one touched).
 */
#define MAP_LOOK_EVERY 32
/* LIMIT: table of the filter; at 10 bits an id that is good for 13 million objects. */
#define FILTER_MAX (UINT64_C(16) << 20)
#define FILTER_BLOCK 64
#define FILTER_HASHES 6

/* ---- resident memory ---- */

static void
drop_map(const void *map, size_t len)
{
	/* Only a hint, and the mapping is read-only: nothing can be lost. */
	(void)madvise((void *)(uintptr_t)map, len, MADV_DONTNEED);
}

void
wr_odb_forget_pages(const struct wr_pack_ent *e)
{
	if (e->has_idx)
		drop_map(e->idx.map, e->idx.map_len);
}

static uint64_t
resident_file_bytes(void)
{
	WR_SCOPED(wr_closep) int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	char text[128], *end;
	ssize_t n = fd < 0 ? -1 : wr_read_full(fd, text, sizeof(text) - 1);

	if (n <= 0)
		return UINT64_MAX; /* unknown: as if there were much */
	text[n] = '\0';
	strtoull(text, &end, 10); /* size, resident, shared */
	strtoull(end, &end, 10);
	return strtoull(end, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* After a search that touched maps. */
static void
mind_memory(const struct wr_packset *s)
{
	static _Thread_local unsigned searches;

	if (s->map_bytes < MAP_SMALL || ++searches % MAP_LOOK_EVERY != 0 ||
	    resident_file_bytes() < MAP_RESIDENT_MAX)
		return;
	for (size_t i = 0; i < s->count; i++)
		wr_odb_forget_pages(s->pack[i]);
	for (size_t i = 0; i < s->midx_count; i++)
		drop_map(s->midx[i]->midx.map, s->midx[i]->midx.map_len);
}

/* ---- filter ---- */

static uint64_t
load64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint64_t *
filter_block(const struct wr_id_filter *f, const struct wr_id *id)
{
	return f->word + (load64(id->b) & f->block_mask) * (FILTER_BLOCK / 8);
}

static bool
filter_may_have(const struct wr_id_filter *f, const struct wr_id *id)
{
	const uint64_t *block = filter_block(f, id);
	uint64_t h = load64(id->b + 8);

	for (unsigned i = 0; i < FILTER_HASHES; i++, h >>= 9) {
		uint64_t w = __atomic_load_n(block + (h >> 6 & 7), __ATOMIC_RELAXED);

		if (!(w >> (h & 63) & 1))
			return false;
	}
	return true;
}

static void
filter_add_pack(struct wr_id_filter *f, const struct wr_pack_ent *e, bool forget)
{
	for (uint32_t i = 0; e->has_idx && i < e->idx.count; i++) {
		struct wr_id id = wr_idx_id(&e->idx, i);
		uint64_t *block = filter_block(f, &id);
		uint64_t h = load64(id.b + 8);

		for (unsigned k = 0; k < FILTER_HASHES; k++, h >>= 9)
			__atomic_fetch_or(block + (h >> 6 & 7), UINT64_C(1) << (h & 63),
					  __ATOMIC_RELAXED);
		f->count++;
		if (forget && i % (1u << 19) == 0)
			wr_odb_forget_pages(e);
	}
	if (forget)
		wr_odb_forget_pages(e);
}

/* Build the filter unless somebody does so already, or a refresh is under way. */
static void
filter_build(struct wr_repo *r)
{
	const struct wr_packset *s;
	struct wr_id_filter *f;
	uint64_t size = 64u << 10;

	if (pthread_mutex_trylock(&r->refresh_mutex) != 0)
		return;
	s = atomic_load_explicit(&r->set, memory_order_acquire);
	if (!atomic_load_explicit(&r->filter, memory_order_relaxed)) {
		while (size < FILTER_MAX && size * 8 < s->objects * 15)
			size *= 2;
		f = wr_calloc(1, sizeof(*f));
		f->planned = size * 8 / 10;
		f->block_mask = size / FILTER_BLOCK - 1;
		f->word = aligned_alloc(FILTER_BLOCK, size);
		wr_assert(f->word);
		memset(f->word, 0, size);
		for (size_t i = 0; i < s->count; i++)
			filter_add_pack(f, s->pack[i], s->map_bytes >= MAP_SMALL);
		f->older = r->filters;
		r->filters = f;
		atomic_store_explicit(&r->filter, f, memory_order_release);
	}
	pthread_mutex_unlock(&r->refresh_mutex);
}

/* Before a set with these new packs is published; refresh_mutex is held. */
static void
filter_extend_locked(struct wr_repo *r, const struct wr_packset *s, size_t first_new)
{
	struct wr_id_filter *f = atomic_load_explicit(&r->filter, memory_order_relaxed);
	uint64_t more = 0;

	if (!f)
		return;
	for (size_t i = first_new; i < s->count; i++)
		more += s->pack[i]->has_idx ? s->pack[i]->idx.count : 0;
	if (f->count + more > 2 * f->planned && (f->block_mask + 1) * FILTER_BLOCK < FILTER_MAX) {
		/* Outgrown: the next misses build a larger one. */
		atomic_store_explicit(&r->filter, NULL, memory_order_release);
		atomic_store_explicit(&r->probes, 0, memory_order_relaxed);
		return;
	}
	for (size_t i = first_new; i < s->count; i++)
		filter_add_pack(f, s->pack[i], s->map_bytes >= MAP_SMALL);
}

/* ---- search ---- */

static bool
ent_has(const struct wr_pack_ent *e, const struct wr_id *id, uint32_t *out_pos)
{
	int64_t pos = wr_idx_find(&e->idx, id);

	if (pos < 0)
		return false;
	*out_pos = (uint32_t)pos;
	return true;
}

struct wr_pack_ent *
wr_odb_find(struct wr_repo *r, const struct wr_packset *s, const struct wr_id *id,
	    uint32_t *out_pos)
{
	const struct wr_id_filter *f = atomic_load_explicit(&r->filter, memory_order_acquire);
	size_t hot;

	if (f && !filter_may_have(f, id))
		return NULL;
	for (size_t i = 0; i < s->midx_count; i++) {
		const struct wr_midx_ent *m = s->midx[i];
		int64_t k = wr_midx_find(&m->midx, id);

		if (k >= 0 && (size_t)k < m->midx.name_count && ent_has(m->pack[k], id, out_pos)) {
			mind_memory(s);
			return m->pack[k];
		}
	}
	hot = atomic_load_explicit(&s->hot, memory_order_relaxed);
	for (size_t i = 0; i < s->bare_count; i++) {
		/* hot, 0, 1, ... without hot */
		size_t at = i == 0 ? hot : i <= hot ? i - 1 : i;

		if (!ent_has(s->bare[at], id, out_pos))
			continue;
		if (at != hot)
			atomic_store_explicit((atomic_size_t *)(uintptr_t)&s->hot, at,
					      memory_order_relaxed);
		mind_memory(s);
		return s->bare[at];
	}
	mind_memory(s);
	if (!f) {
		uint64_t n = s->midx_count + s->bare_count;
		/* Reading all ids once costs less than going on like this; where pages have to be
		 * mapped again and again it does so sooner. */
		uint64_t enough = s->objects / (s->map_bytes < MAP_SMALL ? 32 : 128);

		if (atomic_fetch_add_explicit(&r->probes, n, memory_order_relaxed) > 1000 + enough)
			filter_build(r);
	}
	return NULL;
}

bool
wr_repo_has(struct wr_repo *r, const struct wr_id *id)
{
	uint32_t pos;

	return wr_odb_find(r, atomic_load_explicit(&r->set, memory_order_acquire), id, &pos);
}

int64_t
wr_repo_ordinal(struct wr_repo *r, const struct wr_id *id)
{
	uint32_t pos;
	const struct wr_pack_ent *e =
	    wr_odb_find(r, atomic_load_explicit(&r->set, memory_order_acquire), id, &pos);

	return e ? (int64_t)(e->base + pos) : -1;
}

uint64_t
wr_repo_ordinal_end(const struct wr_repo *r)
{
	const struct wr_packset *s = atomic_load_explicit(&r->set, memory_order_acquire);
	const struct wr_pack_ent *last = s->count ? s->pack[s->count - 1] : NULL;

	if (!last)
		return 0;
	return last->base + (last->has_idx ? last->idx.count : 0);
}

int64_t
wr_repo_ordinal_pack(const struct wr_repo *r, uint64_t ordinal, uint32_t *out_pos)
{
	const struct wr_packset *s = atomic_load_explicit(&r->set, memory_order_acquire);
	const struct wr_pack_ent *e;
	size_t lo = 0, hi = s->count; /* the last entry with base <= ordinal is below hi */

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->pack[mid]->base <= ordinal)
			lo = mid + 1;
		else
			hi = mid;
	}
	e = lo ? s->pack[lo - 1] : NULL;
	if (!e || !e->has_idx || ordinal - e->base >= e->idx.count)
		return -1;
	*out_pos = (uint32_t)(ordinal - e->base);
	return (int64_t)lo - 1;
}

struct wr_id
wr_repo_ordinal_id(const struct wr_repo *r, uint64_t ordinal)
{
	uint32_t pos;
	int64_t at = wr_repo_ordinal_pack(r, ordinal, &pos);

	if (at < 0)
		return (struct wr_id){{0}};
	return wr_idx_id(wr_repo_pack_idx(r, (size_t)at), pos);
}

/* ---- open packs ---- */

static void
close_coldest_locked(struct wr_repo *r)
{
	size_t best = SIZE_MAX;

	for (size_t i = 0; i < r->open_count; i++)
		if (!r->open_ent[i]->users &&
		    (best == SIZE_MAX || r->open_ent[i]->used < r->open_ent[best]->used))
			best = i;
	if (best == SIZE_MAX)
		return;
	wr_pack_close(&r->open_ent[best]->pack);
	r->open_ent[best] = r->open_ent[--r->open_count];
}

const struct wr_pack *
wr_odb_acquire(struct wr_repo *r, struct wr_pack_ent *e, struct wr_err *err)
{
	const struct wr_pack *out = NULL;

	pthread_mutex_lock(&r->fd_mutex);
	if (e->pack.fd < 0) {
		WR_SCOPED(wr_freep) char *file = wr_asprintf("%s.pack", e->name);

		if (r->open_count == WR_PACK_FDS_MAX)
			close_coldest_locked(r);
		if (r->open_count == WR_PACK_FDS_MAX) {
			wr_err_set(err, WR_E_LIMIT, "%d packs are in use at once", WR_PACK_FDS_MAX);
			goto out;
		}
		if (wr_pack_open(&e->pack, r->pack_fd, file, err) < 0)
			goto out;
		r->open_ent[r->open_count++] = e;
	}
	e->users++;
	e->used = ++r->tick;
	out = &e->pack;
out:
	pthread_mutex_unlock(&r->fd_mutex);
	return out;
}

void
wr_odb_release(struct wr_repo *r, struct wr_pack_ent *e)
{
	pthread_mutex_lock(&r->fd_mutex);
	e->users--;
	pthread_mutex_unlock(&r->fd_mutex);
}

/* ---- the list of packs ---- */

struct names {
	char **s; /* sorted, without suffix; midx: with it */
	size_t count, cap;
};

static void
names_fini(struct names *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->s[i]);
	free(n->s);
}

static void
names_add(struct names *n, const char *s, size_t len)
{
	char *copy = wr_malloc(len + 1);

	memcpy(copy, s, len);
	copy[len] = '\0';
	wr_grow(&n->s, &n->cap, n->count + 1, sizeof(*n->s));
	n->s[n->count++] = copy;
}

static int
name_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* qsort takes no NULL, and an empty list has nothing else. */
static void
names_sort(struct names *n)
{
	if (n->count)
		qsort(n->s, n->count, sizeof(*n->s), name_cmp);
}

static bool
names_have(const struct names *n, const char *s)
{
	return n->count && bsearch(&s, n->s, n->count, sizeof(*n->s), name_cmp);
}

struct listing {
	struct names pack, idx, midx;
};

static void
listing_fini(struct listing *l)
{
	names_fini(&l->pack);
	names_fini(&l->idx);
	names_fini(&l->midx);
}

static bool
has_suffix(const char *s, size_t len, const char *suffix)
{
	size_t n = strlen(suffix);

	return len > n && memcmp(s + len - n, suffix, n) == 0;
}

static int
list_packs(struct wr_repo *r, struct listing *l, struct wr_err *err)
{
	int fd = openat(r->pack_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		wr_err_sys(err, "read directory 'objects/pack'");
		wr_closep(&fd);
		return -1;
	}
	while ((e = readdir(d))) {
		size_t n = strlen(e->d_name);

		if (e->d_name[0] == '.')
			continue; /* also git's half-written packs */
		if (has_suffix(e->d_name, n, ".pack"))
			names_add(&l->pack, e->d_name, n - 5);
		else if (has_suffix(e->d_name, n, ".midx"))
			names_add(&l->midx, e->d_name, n);
		else if (has_suffix(e->d_name, n, ".idx"))
			names_add(&l->idx, e->d_name, n - 4);
	}
	closedir(d);
	names_sort(&l->pack);
	names_sort(&l->idx);
	names_sort(&l->midx);
	return 0;
}

/* All zero if there is no such file. */
static struct wr_file_key
file_key(int dirfd, const char *name)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, 0) < 0)
		return (struct wr_file_key){0};
	return (struct wr_file_key){st.st_ino, (uint64_t)st.st_size, st.st_mtim.tv_sec,
				    st.st_mtim.tv_nsec};
}

static bool
key_eq(const struct wr_file_key *a, const struct wr_file_key *b)
{
	return a->ino == b->ino && a->size == b->size && a->mtime_s == b->mtime_s &&
	       a->mtime_ns == b->mtime_ns;
}

static struct wr_pack_ent *
ent_open_locked(struct wr_repo *r, const char *name, const struct wr_file_key *key)
{
	struct wr_pack_ent *e = wr_calloc(1, sizeof(*e));
	WR_SCOPED(wr_freep) char *file = wr_asprintf("%s.idx", name);
	struct wr_err why = WR_ERR_INIT;

	e->name = wr_strdup(name);
	e->pack = (struct wr_pack)WR_PACK_INIT;
	e->idx_key = *key;
	e->base = r->next_base;
	if (wr_idx_open(&e->idx, r->pack_fd, file, &why) == 0) {
		e->has_idx = true;
		r->next_base += e->idx.count;
		/* Ids are random: reading ahead would only fill the cache. */
		(void)madvise((void *)(uintptr_t)e->idx.map, e->idx.map_len, MADV_RANDOM);
	} else {
		e->idx_why = wr_strdup(why.code == WR_E_NOT_FOUND ? "there is no index" : why.msg);
	}
	wr_grow(&r->ent, &r->ent_cap, r->ent_count + 1, sizeof(struct wr_pack_ent *));
	r->ent[r->ent_count++] = e;
	return e;
}

static int
ent_cmp(const void *a, const void *b)
{
	return strcmp((*(struct wr_pack_ent *const *)a)->name,
		      (*(struct wr_pack_ent *const *)b)->name);
}

/* Entry of this name among count sorted ones, or NULL. */
static struct wr_pack_ent *
ent_by_name(struct wr_pack_ent **sorted, size_t count, const char *name)
{
	struct wr_pack_ent key = {.name = (char *)(uintptr_t)name}, *k = &key, **at;

	at = count ? bsearch(&k, sorted, count, sizeof(struct wr_pack_ent *), ent_cmp) : NULL;
	return at ? *at : NULL;
}

static struct wr_pack_ent **
sorted_by_name(const struct wr_packset *s)
{
	struct wr_pack_ent **v = wr_calloc(s->count, sizeof(struct wr_pack_ent *));

	if (s->count) {
		memcpy(v, s->pack, s->count * sizeof(struct wr_pack_ent *));
		qsort(v, s->count, sizeof(struct wr_pack_ent *), ent_cmp);
	}
	return v;
}

/* Fill s->pack from the listing, reusing what old has; *out_first_new begins the others. */
static void
collect_packs_locked(struct wr_repo *r, const struct wr_packset *old, const struct listing *l,
		     struct wr_packset *s, size_t *out_first_new)
{
	WR_SCOPED(wr_freep) struct wr_pack_ent **sorted = sorted_by_name(old);
	WR_SCOPED(wr_freep) struct wr_file_key *key = wr_calloc(l->pack.count, sizeof(*key));
	WR_SCOPED(wr_freep) bool *known = wr_calloc(l->pack.count, sizeof(*known));
	unsigned generation = ++r->generation;

	s->pack = wr_calloc(l->pack.count, sizeof(struct wr_pack_ent *));
	for (size_t i = 0; i < l->pack.count; i++) {
		WR_SCOPED(wr_freep) char *file = wr_asprintf("%s.idx", l->pack.s[i]);
		struct wr_pack_ent *e = ent_by_name(sorted, old->count, l->pack.s[i]);

		key[i] = file_key(r->pack_fd, file);
		known[i] = e && key_eq(&key[i], &e->idx_key);
		if (known[i])
			e->generation = generation;
	}
	for (size_t i = 0; i < old->count; i++)
		if (old->pack[i]->generation == generation)
			s->pack[s->count++] = old->pack[i];
	*out_first_new = s->count;
	for (size_t i = 0; i < l->pack.count; i++) {
		struct wr_pack_ent *e;

		if (known[i])
			continue;
		e = ent_open_locked(r, l->pack.s[i], &key[i]);
		e->generation = generation;
		s->pack[s->count++] = e;
	}
}

static void
midx_free(struct wr_midx_ent *m)
{
	wr_midx_close(&m->midx);
	free(m->pack);
	free(m->file);
	free(m);
}

/* Open a midx and tie it to the set's packs; NULL if it does not fit them. */
static struct wr_midx_ent *
midx_open_locked(struct wr_repo *r, const char *file, const struct wr_file_key *key,
		 struct wr_pack_ent **sorted, size_t count)
{
	struct wr_midx_ent *m = wr_calloc(1, sizeof(*m));

	m->file = wr_strdup(file);
	m->key = *key;
	if (wr_midx_open(&m->midx, r->pack_fd, file, NULL) < 0) {
		free(m->file);
		free(m);
		return NULL; /* a cache of another version, or damaged: do without */
	}
	m->pack = wr_calloc(m->midx.name_count, sizeof(struct wr_pack_ent *));
	for (size_t i = 0; i < m->midx.name_count; i++) {
		size_t n = strlen(m->midx.name[i]);
		WR_SCOPED(wr_freep) char *base = wr_strdup(m->midx.name[i]);

		if (has_suffix(base, n, ".idx"))
			base[n - 4] = '\0';
		m->pack[i] = ent_by_name(sorted, count, base);
		if (!m->pack[i] || !m->pack[i]->has_idx) {
			midx_free(m);
			return NULL;
		}
	}
	(void)madvise((void *)(uintptr_t)m->midx.map, m->midx.map_len, MADV_RANDOM);
	wr_grow(&r->midx, &r->midx_cap, r->midx_count + 1, sizeof(struct wr_midx_ent *));
	r->midx[r->midx_count++] = m;
	return m;
}

/* Is the midx still about the packs of this generation? */
static bool
midx_current(const struct wr_midx_ent *m, unsigned generation)
{
	for (size_t i = 0; i < m->midx.name_count; i++)
		if (m->pack[i]->generation != generation)
			return false;
	return true;
}

static int
by_name_count(const void *a, const void *b)
{
	const struct wr_midx_ent *x = *(struct wr_midx_ent *const *)a;
	const struct wr_midx_ent *y = *(struct wr_midx_ent *const *)b;

	/* The largest first: what a larger one covers is not worth a search. */
	return x->midx.name_count < y->midx.name_count ? 1
						       : -(x->midx.name_count > y->midx.name_count);
}

static void
collect_midx_locked(struct wr_repo *r, const struct wr_packset *old, const struct listing *l,
		    struct wr_packset *s)
{
	WR_SCOPED(wr_freep) struct wr_pack_ent **sorted = sorted_by_name(s);
	WR_SCOPED(wr_freep) bool *covered = wr_calloc(s->count, sizeof(*covered));
	struct wr_midx_ent **all = wr_calloc(l->midx.count, sizeof(struct wr_midx_ent *));
	size_t n = 0;

	for (size_t i = 0; i < l->midx.count; i++) {
		struct wr_file_key key = file_key(r->pack_fd, l->midx.s[i]);
		struct wr_midx_ent *m = NULL;

		for (size_t k = 0; k < old->midx_count; k++)
			if (!strcmp(old->midx[k]->file, l->midx.s[i]) &&
			    key_eq(&old->midx[k]->key, &key) &&
			    midx_current(old->midx[k], r->generation))
				m = old->midx[k];
		if (!m)
			m = midx_open_locked(r, l->midx.s[i], &key, sorted, s->count);
		if (m)
			all[n++] = m;
	}
	qsort(all, n, sizeof(struct wr_midx_ent *), by_name_count);
	s->midx = all;
	for (size_t i = 0; i < n; i++) {
		bool adds = false;

		for (size_t k = 0; k < all[i]->midx.name_count; k++) {
			struct wr_pack_ent *e = all[i]->pack[k];
			struct wr_pack_ent **at =
			    bsearch(&e, sorted, s->count, sizeof(struct wr_pack_ent *), ent_cmp);

			adds |= !covered[at - sorted];
			covered[at - sorted] = true;
		}
		if (adds)
			s->midx[s->midx_count++] = all[i];
	}
	s->bare = wr_calloc(s->count, sizeof(struct wr_pack_ent *));
	for (size_t i = 0; i < s->count; i++) {
		struct wr_pack_ent **at =
		    bsearch(&s->pack[i], sorted, s->count, sizeof(struct wr_pack_ent *), ent_cmp);

		if (s->pack[i]->has_idx && !covered[at - sorted])
			s->bare[s->bare_count++] = s->pack[i];
	}
}

static void
set_free(struct wr_packset *s)
{
	for (size_t i = 0; i < s->orphan_count; i++)
		free(s->orphan[i]);
	free(s->orphan);
	free(s->pack);
	free(s->bare);
	free(s->midx);
	free(s);
}

static bool
set_same(const struct wr_packset *a, const struct wr_packset *b)
{
	if (a->count != b->count || a->midx_count != b->midx_count ||
	    a->orphan_count != b->orphan_count)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (a->pack[i] != b->pack[i])
			return false;
	for (size_t i = 0; i < a->midx_count; i++)
		if (a->midx[i] != b->midx[i])
			return false;
	for (size_t i = 0; i < a->orphan_count; i++)
		if (strcmp(a->orphan[i], b->orphan[i]) != 0)
			return false;
	return true;
}

static void
note_dir_locked(struct wr_repo *r)
{
	int64_t now = wr_clock_wall().s;

	r->dir_key = file_key(r->pack_fd, ".");
	/* A change in the same tick of the clock would not show. */
	r->dir_settled = now > r->dir_key.mtime_s + 1;
}

static int
refresh_locked(struct wr_repo *r, bool *out_changed, struct wr_err *err)
{
	struct wr_packset *old = atomic_load_explicit(&r->set, memory_order_relaxed);
	WR_SCOPED(listing_fini) struct listing l = {0};
	struct wr_packset *s;
	size_t first_new;

	note_dir_locked(r);
	if (list_packs(r, &l, err) < 0)
		return -1;
	s = wr_calloc(1, sizeof(*s));
	collect_packs_locked(r, old, &l, s, &first_new);
	collect_midx_locked(r, old, &l, s);
	s->orphan = wr_calloc(l.idx.count, sizeof(*s->orphan));
	for (size_t i = 0; i < l.idx.count; i++)
		if (!names_have(&l.pack, l.idx.s[i]))
			s->orphan[s->orphan_count++] = wr_strdup(l.idx.s[i]);
	if (set_same(old, s)) {
		set_free(s);
		*out_changed = false;
		return 0;
	}
	for (size_t i = 0; i < s->count; i++) {
		if (!s->pack[i]->has_idx)
			continue;
		s->objects += s->pack[i]->idx.count;
		s->map_bytes += s->pack[i]->idx.map_len;
	}
	for (size_t i = 0; i < s->midx_count; i++)
		s->map_bytes += s->midx[i]->midx.map_len;
	filter_extend_locked(r, s, first_new);
	s->older = old;
	atomic_store_explicit(&r->set, s, memory_order_release);
	*out_changed = true;
	return 0;
}

int
wr_repo_refresh(struct wr_repo *r, struct wr_err *err)
{
	bool changed;
	int rc;

	pthread_mutex_lock(&r->refresh_mutex);
	rc = refresh_locked(r, &changed, err);
	pthread_mutex_unlock(&r->refresh_mutex);
	return rc;
}

int
wr_odb_refresh_if_changed(struct wr_repo *r, bool *out_changed, struct wr_err *err)
{
	struct wr_file_key now;
	int rc = 0;

	pthread_mutex_lock(&r->refresh_mutex);
	now = file_key(r->pack_fd, ".");
	*out_changed = false;
	if (!r->dir_settled || !key_eq(&now, &r->dir_key))
		rc = refresh_locked(r, out_changed, err);
	pthread_mutex_unlock(&r->refresh_mutex);
	return rc;
}

int
wr_odb_open(struct wr_repo *r, struct wr_err *err)
{
	atomic_store_explicit(&r->set, wr_calloc(1, sizeof(struct wr_packset)),
			      memory_order_release);
	return wr_repo_refresh(r, err);
}

void
wr_odb_close(struct wr_repo *r)
{
	struct wr_packset *s = atomic_load_explicit(&r->set, memory_order_relaxed);

	while (s) {
		struct wr_packset *older = s->older;

		set_free(s);
		s = older;
	}
	for (size_t i = 0; i < r->midx_count; i++)
		midx_free(r->midx[i]);
	free(r->midx);
	for (size_t i = 0; i < r->ent_count; i++) {
		struct wr_pack_ent *e = r->ent[i];

		if (e->has_idx)
			wr_idx_close(&e->idx);
		wr_pack_close(&e->pack);
		free(e->idx_why);
		free(e->name);
		free(e);
	}
	free(r->ent);
	while (r->filters) {
		struct wr_id_filter *older = r->filters->older;

		free(r->filters->word);
		free(r->filters);
		r->filters = older;
	}
}

/* ---- for verify and stat ---- */

static struct wr_pack_ent *
ent_at(const struct wr_repo *r, size_t i)
{
	const struct wr_packset *s = atomic_load_explicit(&r->set, memory_order_acquire);

	wr_assert(i < s->count);
	return s->pack[i];
}

size_t
wr_repo_pack_count(const struct wr_repo *r)
{
	return atomic_load_explicit(&r->set, memory_order_acquire)->count;
}

const char *
wr_repo_pack_name(const struct wr_repo *r, size_t i)
{
	return ent_at(r, i)->name;
}

const struct wr_idx *
wr_repo_pack_idx(const struct wr_repo *r, size_t i)
{
	const struct wr_pack_ent *e = ent_at(r, i);

	return e->has_idx ? &e->idx : NULL;
}

struct wr_pack *
wr_repo_pack(struct wr_repo *r, size_t i, struct wr_err *err)
{
	struct wr_pack_ent *e = ent_at(r, i);

	if (!wr_odb_acquire(r, e, err))
		return NULL;
	pthread_mutex_lock(&r->fd_mutex);
	if (e->pinned)
		e->users--;
	e->pinned = true;
	pthread_mutex_unlock(&r->fd_mutex);
	return &e->pack;
}

/* ---- midx ---- */

/* With fewer indexes than this outside every midx a search is fast enough; bup's own number. */
#define BARE_MAX 5

static int
by_objects(const void *a, const void *b)
{
	const struct wr_midx_ent *x = *(struct wr_midx_ent *const *)a;
	const struct wr_midx_ent *y = *(struct wr_midx_ent *const *)b;

	return x->midx.count < y->midx.count ? -1 : x->midx.count > y->midx.count;
}

int
wr_repo_index_maintain(struct wr_repo *r, struct wr_err *err)
{
	const struct wr_packset *s = atomic_load_explicit(&r->set, memory_order_acquire);
	WR_SCOPED(wr_freep) struct wr_midx_ent **midx = NULL;
	WR_SCOPED(wr_freep) const struct wr_idx **idx = NULL;
	WR_SCOPED(wr_freep) char **name = NULL;
	struct names files = {0};
	size_t count = 0, absorbed = 0;
	uint64_t objects = 0;
	int rc;

	if (s->bare_count <= BARE_MAX)
		return 0;
	midx = wr_calloc(s->midx_count, sizeof(struct wr_midx_ent *));
	for (size_t i = 0; i < s->midx_count; i++)
		midx[i] = s->midx[i];
	qsort(midx, s->midx_count, sizeof(struct wr_midx_ent *), by_objects);
	idx = wr_calloc(s->count, sizeof(struct wr_idx *));
	for (size_t i = 0; i < s->bare_count; i++)
		objects += s->bare[i]->idx.count;
	/* Geometric: one that is at most as large again as the rest is merged with it, so their
	 * number stays logarithmic and each id is copied a logarithmic number of times. */
	while (absorbed < s->midx_count && midx[absorbed]->midx.count <= 2 * objects)
		objects += midx[absorbed++]->midx.count;
	for (size_t i = 0; i < s->count; i++) {
		bool take = false;

		for (size_t k = 0; k < s->bare_count && !take; k++)
			take = s->bare[k] == s->pack[i];
		for (size_t m = 0; m < absorbed && !take; m++)
			for (size_t k = 0; k < midx[m]->midx.name_count && !take; k++)
				take = midx[m]->pack[k] == s->pack[i];
		if (!take)
			continue;
		idx[count++] = &s->pack[i]->idx;
		names_add(&files, s->pack[i]->name, strlen(s->pack[i]->name));
	}
	name = wr_calloc(count, sizeof(*name));
	for (size_t i = 0; i < count; i++)
		name[i] = wr_asprintf("%s.idx", files.s[i]);
	rc = wr_midx_write(r->pack_fd, idx, (const char *const *)name, count, err);
	if (s->map_bytes >= MAP_SMALL)
		for (size_t i = 0; i < s->count; i++)
			wr_odb_forget_pages(s->pack[i]);
	/* The new one covers these; a failure leaves them beside it, which harms nothing. */
	for (size_t i = 0; rc == 0 && i < absorbed; i++)
		(void)unlinkat(r->pack_fd, midx[i]->file, 0);
	for (size_t i = 0; i < count; i++)
		free(name[i]);
	names_fini(&files);
	return rc < 0 ? -1 : wr_repo_refresh(r, err);
}

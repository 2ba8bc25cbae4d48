/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A task per directory.  It lists the names, settles all that are not directories (over all
 * threads), stores the .bupm, and pushes a task per subdirectory; the last of these to end builds
 * the directory's tree and hands its id up.  Objects are thus stored children before parents.
 *
 * For every entry there are up to three witnesses: the live file, the stat cache (what it was when
 * snapshot `cached` was made) and the directory to carry over from (`carry`).  Often the two
 * directories are the same tree, then one view serves for both.
 */
#include "engine/snap/save_walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "engine/object/name.h"
#include "engine/object/tree.h"
#include "engine/snap/content.h"
#include "engine/snap/dirview.h"
#include "engine/snap/fsmeta.h"
#include "sys/clock.h"

/* A file that keeps changing is read this often before it is listed as unstable. */
#define READ_TRIES 3
#define BATCH 16

struct worker {
	struct wr_content *content;
	struct wr_reader *reader;
	struct wr_listing listing;
	struct wr_metabuf meta;
	struct wr_buf record, scratch, key, link;
};

struct walk {
	const struct wr_walk_in *in;
	struct wr_names *names;
	struct worker *worker; /* one per thread */
	atomic_bool failed;
	atomic_ullong files_new, files_changed, files_removed, files_done;
	uint64_t bytes_read; /* atomically */
	uint64_t todo_files, todo_bytes;
	pthread_mutex_t mutex;
	struct wr_err err;       /* the first; guarded by mutex */
	struct wr_notes skipped; /* guarded by mutex */
	struct wr_walk_out *out;
};

/* One entry of a directory being saved. */
struct ent {
	const char *name; /* in dir->names */
	uint16_t name_len;
	uint8_t d_type;
	bool skip; /* not part of the snapshot */
	bool has_cached;
	struct wr_cached c;            /* as found in the cache; then what goes into the new one */
	const struct wr_dirent *known; /* entry of the cached snapshot */
	const struct wr_dirent *carry; /* entry to carry over from */
	struct wr_bytes record;        /* metadata entry; of a file */
	bool record_owned;
};

struct dir {
	struct walk *w;
	struct dir *parent;
	struct ent *in_parent; /* NULL for the root */
	const char *name; /* in the parent's names; a path each would make deep trees quadratic */
	size_t path_len;  /* of the path below the root */
	unsigned depth;
	int fd;
	uint64_t block;        /* of the cache, 0: none */
	struct wr_id carry_id; /* zero: none */
	struct wr_rules rules;
	struct stat st;
	struct wr_ts now; /* inode clock before st was taken */
	struct wr_buf names;
	struct ent *ent;
	size_t count;
	struct wr_dirview carry, known_own;
	const struct wr_dirview *known; /* view of the cached tree: &carry, &known_own or NULL */
	struct wr_id bupm;
	bool bupm_chunked;
	struct wr_fold *fold; /* what it is counted as; NULL: nothing is */
	uint64_t stored;      /* for it, atomically */
	atomic_uint unopened, pending;
};

static struct worker *
self(const struct walk *w)
{
	return &w->worker[wr_pool_self(w->in->pool)];
}

static void
fail(struct walk *w, const struct wr_err *err)
{
	pthread_mutex_lock(&w->mutex);
	if (!w->failed)
		w->err = *err;
	w->failed = true;
	pthread_mutex_unlock(&w->mutex);
}

/* Append the path below the root of name in d, or of d itself. */
static void
add_path(struct wr_buf *out, const struct dir *d, const char *name)
{
	size_t len = d->path_len;
	char *at;

	wr_buf_reserve(out, len);
	out->len += len;
	for (at = (char *)out->p + out->len; d->parent; d = d->parent) {
		size_t n = strlen(d->name);

		at -= n;
		memcpy(at, d->name, n);
		if (d->parent->parent)
			*--at = '/';
	}
	if (name && len)
		wr_buf_add8(out, '/');
	if (name)
		wr_buf_adds(out, name);
}

/* Say in err where it was. */
static void
wrap(struct wr_err *err, const struct dir *d, const char *name)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf path = WR_BUF_INIT;

	add_path(&path, d, name);
	wr_err_wrap(err, "save '%s'", WR_Q(wr_buf_str(&path)));
}

static void
note_skipped(struct walk *w, const struct dir *d, const char *name, const char *reason)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf path = WR_BUF_INIT;

	add_path(&path, d, name);
	if (!path.len)
		wr_buf_add8(&path, '.');
	pthread_mutex_lock(&w->mutex);
	wr_notes_add(&w->skipped, wr_buf_str(&path), path.len, reason, 0);
	pthread_mutex_unlock(&w->mutex);
}

static const char *
reason_of(int e)
{
	switch (e) {
	case ENOENT:
		return "vanished";
	case EACCES:
	case EPERM:
		return "permission denied";
	case ELOOP:
	case ENOTDIR:
		return "replaced while it was read";
	case EIO:
		return "input/output error";
	case ENAMETOOLONG:
		return "path too long";
	case EMFILE:
	case ENFILE:
		return "too many open files";
	default:
		return "cannot be read";
	}
}

static void
opened(struct dir *d)
{
	if (atomic_fetch_sub(&d->unopened, 1) == 1 && d->fd >= 0) {
		close(d->fd);
		d->fd = -1;
	}
}

static void
free_dir(struct dir *d)
{
	for (size_t i = 0; i < d->count; i++)
		if (d->ent[i].record_owned)
			free((void *)(uintptr_t)d->ent[i].record.p);
	wr_dirview_fini(&d->carry);
	wr_dirview_fini(&d->known_own);
	wr_rules_fini(&d->rules);
	wr_buf_fini(&d->names);
	free(d->ent);
	free(d);
}

/* ---- one entry ---- */

static void
set_record(struct ent *e, const void *p, size_t len)
{
	e->record = (struct wr_bytes){wr_memdup(p, len), len};
	e->record_owned = true;
}

static bool
same_object(const struct ent *e, const struct wr_dirent *d)
{
	return wr_dirent_kind(d) == (enum wr_kind)e->c.kind && d->chunked == (bool)e->c.chunked &&
	       wr_id_eq(&d->id, &e->c.id);
}

/*
 * An inode with one name in the tree, though there may be others outside it: whether its record
 * names a group of one makes no difference.  Carrying `old` over is safe if its key is the one that
 * only this name can have.
 */
static bool
same_sole_link(const struct dir *d, const struct ent *e, const struct wr_meta *m,
	       const struct wr_meta *old, struct worker *k)
{
	struct wr_meta as_old = *m;

	if (old->hardlink.p) {
		wr_buf_clear(&k->key);
		wr_buf_addf(&k->key, "%s/", d->w->in->link_root);
		add_path(&k->key, d, e->name);
		if (old->hardlink.len != k->key.len ||
		    memcmp(old->hardlink.p, k->key.p, k->key.len) != 0)
			return false;
	}
	as_old.hardlink = old->hardlink;
	return wr_meta_same(&as_old, old);
}

/* An owner's name that could not be looked up is the one it had in the parent snapshot. */
static void
keep_names(const struct walk *w, const struct wr_meta *old, struct wr_meta *io)
{
	if (!io->user.len && old->user.len && old->uid == io->uid &&
	    wr_names_unsure(w->names, false, io->uid))
		io->user = old->user;
	if (!io->group.len && old->group.len && old->gid == io->gid &&
	    wr_names_unsure(w->names, true, io->gid))
		io->group = old->group;
}

/*
 * The entry's record is m, or raw if that is given: take the carried bytes instead if they say the
 * same of the same content.
 */
static void
settle_record(const struct dir *d, struct worker *k, struct ent *e, const struct wr_meta *m,
	      bool sole, struct wr_bytes raw)
{
	struct wr_meta old, named;

	if (e->carry && e->carry->raw.p && same_object(e, e->carry) &&
	    wr_dirent_meta(e->carry, &old, &k->scratch, NULL) == 0 && old.has_common &&
	    (wr_meta_same(m, &old) || (sole && same_sole_link(d, e, m, &old, k)))) {
		e->record = e->carry->raw;
		return;
	}
	if (raw.p) {
		e->record = raw;
		return;
	}
	wr_buf_clear(&k->record);
	named = *m;
	if (e->carry && e->carry->raw.p && wr_dirent_meta(e->carry, &old, &k->scratch, NULL) == 0 &&
	    old.has_common)
		keep_names(d->w, &old, &named);
	wr_meta_encode(&k->record, &named);
	set_record(e, k->record.p, k->record.len);
}

/* Known from the cache: same stat, and (hard links) the same group key as then. */
static bool
take_cached(struct dir *d, struct worker *k, struct ent *e, const struct wr_statkey *key,
	    const struct stat *st)
{
	struct wr_meta m;
	unsigned names = 1;

	if (!e->has_cached || !e->c.trusted || e->c.kind == WR_KIND_DIR ||
	    st->st_dev != d->st.st_dev || memcmp(key, &e->c.key, sizeof(*key)) != 0)
		return false;
	if (!e->known || !e->known->raw.p || !same_object(e, e->known))
		return false;
	if (st->st_nlink > 1) {
		wr_buf_clear(&k->key);
		names = wr_scan_link_key(d->w->in->scan, st->st_dev, st->st_ino, &k->key);
		if (!names || wr_link_hash(k->key.p, k->key.len) != e->c.link_hash)
			return false;
	}
	if (e->known == e->carry) {
		e->record = e->known->raw;
		return true;
	}
	if (wr_dirent_meta(e->known, &m, &k->scratch, NULL) < 0)
		return false;
	settle_record(d, k, e, &m, names == 1, e->known->raw);
	return true;
}

/* rsync's quick check, only when asked for. */
static bool
take_by_mtime(const struct dir *d, struct worker *k, struct ent *e, const struct stat *st)
{
	struct wr_meta old;

	if (!d->w->in->o->trust_mtime || !e->carry || wr_dirent_kind(e->carry) != WR_KIND_FILE ||
	    wr_dirent_meta(e->carry, &old, &k->scratch, NULL) < 0 || !old.has_common ||
	    old.size != st->st_size || wr_ts_cmp(old.mtime, wr_st_mtime(st)) != 0)
		return false;
	e->c.id = e->carry->id;
	e->c.chunked = e->carry->chunked;
	return true;
}

enum read_result { READ_OK, READ_AGAIN, READ_SKIP, READ_FAILED };

/*
 * Read one entry that the cache does not know.  live.st is the stat by name, now the inode clock
 * before it; what is opened must be of that kind, and must look the same after reading as before.
 */
static enum read_result
read_entry(struct dir *d, struct worker *k, struct ent *e, struct wr_live *live, struct wr_ts now,
	   bool last_try, const char **reason, struct wr_err *err)
{
	struct walk *w = d->w;
	struct wr_content_result content = {0};
	struct wr_statkey before, after;
	struct wr_meta m;
	struct stat again;
	bool reg = S_ISREG(live->st.st_mode), stable = true;
	unsigned names = 1;

	e->c = (struct wr_cached){.kind = S_ISLNK(live->st.st_mode) ? WR_KIND_LINK : WR_KIND_FILE};
	if (reg) {
		live->fd = openat(d->fd, e->name,
				  O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME | O_CLOEXEC);
		if (live->fd < 0 && errno == EPERM)
			live->fd =
			    openat(d->fd, e->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (live->fd < 0 || fstat(live->fd, &live->st) < 0) {
			*reason = reason_of(errno);
			return errno == ELOOP ? READ_AGAIN : READ_SKIP;
		}
		if (!S_ISREG(live->st.st_mode) || wr_scan_refuses(w->in->scan_opts, &live->st)) {
			*reason = "replaced while it was read";
			return READ_AGAIN;
		}
	}
	wr_statkey_of(&live->st, &before);
	if (wr_fsmeta_read(live, w->names, &k->meta, &m, err) < 0) {
		*reason = reason_of(err->sys_errno);
		return READ_SKIP;
	}
	if (reg && !take_by_mtime(d, k, e, &live->st)) {
		bool sparse = (uint64_t)live->st.st_blocks * 512 < (uint64_t)live->st.st_size;

		if (wr_content_fd(k->content, live->fd, (uint64_t)live->st.st_size, sparse,
				  &content, err) < 0) {
			if (err->code != WR_E_SYS)
				return READ_FAILED;
			*reason = reason_of(err->sys_errno);
			return READ_SKIP;
		}
		e->c.id = content.id;
		e->c.chunked = content.chunked;
		m.size = (int64_t)content.bytes;
		stable = fstat(live->fd, &again) == 0;
		if (stable)
			wr_statkey_of(&again, &after);
		stable = stable && memcmp(&before, &after, sizeof(before)) == 0 &&
			 content.bytes == before.size;
	} else if (!reg) {
		bool link = S_ISLNK(live->st.st_mode);

		if (wr_content_blob(k->content, link ? m.symlink.p : (const void *)"",
				    link ? m.symlink.len : 0, &e->c.id, err) < 0)
			return READ_FAILED;
	}
	if (!stable) {
		*reason = "changed while it was read";
		if (!last_try)
			return READ_AGAIN;
	}
	if (live->st.st_nlink > 1) {
		wr_buf_clear(&k->link);
		names = wr_scan_link_key(w->in->scan, live->st.st_dev, live->st.st_ino, &k->link);
		if (names) {
			m.hardlink = (struct wr_bytes){k->link.p, k->link.len};
			e->c.link_hash = wr_link_hash(k->link.p, k->link.len);
		}
	}
	e->c.key = before;
	e->c.trusted = stable && live->st.st_dev == d->st.st_dev && !wr_stat_racy(&before, now) &&
		       (live->st.st_nlink == 1 || e->c.link_hash);
	settle_record(d, k, e, &m, names == 1, (struct wr_bytes){0});
	return READ_OK;
}

static void
count_change(struct walk *w, const struct ent *e)
{
	if (!e->carry)
		w->files_new++;
	else if (e->record.p != e->carry->raw.p || !same_object(e, e->carry))
		w->files_changed++;
}

static void
skip_entry(struct dir *d, struct ent *e, const char *reason)
{
	e->skip = true;
	note_skipped(d->w, d, e->name, reason);
}

static void
save_entry(struct dir *d, struct worker *k, struct ent *e)
{
	struct walk *w = d->w;
	const char *reason = NULL;
	struct wr_err err = WR_ERR_INIT;
	struct wr_statkey key;
	enum read_result r = READ_AGAIN;

	for (int i = 0; r == READ_AGAIN && i < READ_TRIES; i++) {
		struct wr_live live = {.dirfd = d->fd, .name = e->name, .fd = -1};
		struct wr_ts now = wr_clock_inode();

		if (fstatat(d->fd, e->name, &live.st, AT_SYMLINK_NOFOLLOW) < 0) {
			skip_entry(d, e, reason_of(errno));
			return;
		}
		if (S_ISDIR(live.st.st_mode)) {
			e->d_type = DT_DIR;
			return; /* it has just become one */
		}
		reason = wr_scan_refuses(w->in->scan_opts, &live.st);
		if (reason) {
			e->skip = true;
			/* The scan has noted it, unless it has become so since. */
			if (!wr_scan_refused(w->in->scan, live.st.st_dev, live.st.st_ino))
				note_skipped(w, d, e->name, reason);
			return;
		}
		wr_statkey_of(&live.st, &key);
		if (take_cached(d, k, e, &key, &live.st)) {
			count_change(w, e);
			return;
		}
		reason = NULL;
		r = read_entry(d, k, e, &live, now, i == READ_TRIES - 1, &reason, &err);
		if (live.fd >= 0)
			close(live.fd);
	}
	if (r == READ_FAILED) {
		wrap(&err, d, e->name);
		fail(w, &err);
	} else if (r != READ_OK) {
		skip_entry(d, e, reason);
	} else {
		if (reason)
			note_skipped(w, d, e->name, reason); /* kept as it was last read */
		count_change(w, e);
	}
	w->files_done++;
}

static void
tell_progress(void *ctx)
{
	struct walk *w = ctx;

	if (w->in->o->progress)
		w->in->o->progress(w->in->o->ctx, "save", w->files_done, w->todo_files,
				   __atomic_load_n(&w->bytes_read, __ATOMIC_RELAXED),
				   w->todo_bytes);
}

static void
save_range(void *ctx, size_t lo, size_t hi)
{
	struct dir *d = ctx;
	struct walk *w = d->w;
	struct worker *k = self(w);

	wr_content_stored(k->content, &d->stored);
	for (size_t i = lo; i < hi && !w->failed; i++)
		if (!d->ent[i].skip && d->ent[i].d_type != DT_DIR)
			save_entry(d, k, &d->ent[i]);
	tell_progress(w);
}

/* ---- one directory ---- */

/* Files (not directories) in a directory of history that is gone now. */
static uint64_t
count_files(struct wr_reader *rd, const struct wr_id *tree, int depth)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_tree_entry e;
	struct wr_rd r;
	uint64_t n = 0;
	bool chunked;

	/* A count for the receipt: what cannot be read, or is absurdly deep, adds nothing. */
	if (depth > 1000 || wr_repo_read(rd, tree, WR_OBJ_TREE, false, NULL, &b, NULL) < 0)
		return 0;
	r = wr_rd(b.p, b.len);
	while (wr_tree_next(&r, &e, NULL) > 0) {
		if (wr_name_unmangle(e.name, e.name_len, e.mode == WR_MODE_TREE, &chunked) == 0)
			continue;
		if (e.mode == WR_MODE_TREE && !chunked)
			n += count_files(rd, &e.id, depth + 1);
		else
			n++;
	}
	return n;
}

static void
count_removed(struct dir *d)
{
	struct wr_reader *rd = self(d->w)->reader;
	size_t i = 0;

	for (size_t j = 0; j < d->carry.count; j++) {
		const struct wr_dirent *old = &d->carry.ent[j];
		bool was_dir = wr_dirent_kind(old) == WR_KIND_DIR, there;

		while (i < d->count && strcmp(d->ent[i].name, old->name) < 0)
			i++;
		there = i < d->count && strcmp(d->ent[i].name, old->name) == 0 && !d->ent[i].skip;
		if (there && (d->ent[i].d_type == DT_DIR) == was_dir)
			continue;
		if (was_dir)
			d->w->files_removed += count_files(rd, &old->id, 0);
		else if (!there)
			d->w->files_removed++;
	}
}

/* Fill d->ent with the names that the rules keep. */
static int
list_names(struct dir *d, struct worker *k, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf path = WR_BUF_INIT;
	struct wr_listing *l = &k->listing;
	struct wr_ignore *above = d->parent ? d->parent->rules.level : d->w->in->o->ignore;
	size_t base, n = 0;

	if (wr_listing_read(l, d->fd, err) < 0)
		return -1;
	add_path(&path, d, NULL);
	wr_rules_enter(&d->rules, above, d->fd, wr_buf_str(&path), l);
	if (path.len)
		wr_buf_add8(&path, '/');
	base = path.len;
	/* The listing's buffer serves the next directory; keep the names of this one. */
	wr_buf_add(&d->names, l->names.p, l->names.len);
	d->ent = wr_calloc(l->count, sizeof(*d->ent));
	for (size_t i = 0; i < l->count; i++) {
		const struct wr_name *e = &l->ent[i];

		path.len = base;
		wr_buf_add(&path, e->name, e->len + 1u);
		if (wr_rules_out(&d->rules, (char *)path.p, path.len - 1, e->name,
				 e->type == DT_DIR))
			continue;
		d->ent[n++] = (struct ent){
		    .name = (char *)d->names.p + (e->name - (const char *)l->names.p),
		    .name_len = e->len,
		    .d_type = e->type,
		};
	}
	d->count = n;
	return 0;
}

/* Load what is known of this directory and tell each entry. All of it is optional: a view that
 * cannot be loaded only makes more work, the damage itself is verify's to report. */
static void
find_witnesses(struct dir *d, struct worker *k)
{
	WR_SCOPED(wr_cached_dir_fini) struct wr_cached_dir cd = WR_CACHED_DIR_INIT;
	const char *name;
	struct wr_cached c;
	size_t i = 0;

	if (!wr_id_is_zero(&d->carry_id) &&
	    wr_dirview_load(k->reader, &d->carry_id, &d->carry, NULL) < 0)
		memset(&d->carry_id, 0, sizeof(d->carry_id));
	if (d->block && wr_statcache_read(d->w->in->cache, d->block, &cd)) {
		if (wr_id_is_zero(&cd.tree))
			d->known = NULL;
		else if (wr_id_eq(&cd.tree, &d->carry_id))
			d->known = &d->carry;
		else if (wr_dirview_load(k->reader, &cd.tree, &d->known_own, NULL) == 0)
			d->known = &d->known_own;
		while (wr_cached_next(&cd, &c, &name)) {
			int cmp = 1;

			for (; i < d->count; i++) {
				cmp = memcmp(d->ent[i].name, name,
					     WR_MIN(d->ent[i].name_len, c.name_len));
				if (cmp == 0)
					cmp = (int)d->ent[i].name_len - (int)c.name_len;
				if (cmp >= 0)
					break;
			}
			if (i == d->count)
				break;
			if (cmp != 0)
				continue;
			d->ent[i].c = c;
			d->ent[i].has_cached = true;
		}
	}
	for (i = 0; i < d->count; i++) {
		struct ent *e = &d->ent[i];

		e->carry = wr_dirview_find(&d->carry, e->name, e->name_len);
		e->known = d->known == &d->carry ? e->carry
			   : d->known            ? wr_dirview_find(d->known, e->name, e->name_len)
						 : NULL;
	}
}

/* The directory's own record, then one per entry that is not a directory, all in order of name. */
static int
store_bupm(struct dir *d, struct worker *k, const struct wr_meta *m, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf bupm = WR_BUF_INIT;
	struct wr_content_result res;
	struct wr_meta old = {0}, named;

	if (d->carry.self_raw.p && wr_dirview_self_meta(&d->carry, &old, &k->scratch, NULL) == 0 &&
	    old.has_common && wr_meta_same(m, &old)) {
		wr_buf_add(&bupm, d->carry.self_raw.p, d->carry.self_raw.len);
	} else {
		named = *m;
		keep_names(d->w, &old, &named);
		wr_meta_encode(&bupm, &named);
	}
	for (size_t i = 0; i < d->count; i++)
		if (!d->ent[i].skip && d->ent[i].d_type != DT_DIR)
			wr_buf_add(&bupm, d->ent[i].record.p, d->ent[i].record.len);
	wr_content_stored(k->content, &d->stored);
	if (wr_content_mem(k->content, bupm.p, bupm.len, &res, err) < 0)
		return -1;
	d->bupm = res.id;
	d->bupm_chunked = res.chunked;
	return 0;
}

struct tree_ent {
	const char *name;
	uint32_t name_len, mode;
	const struct wr_id *id;
};

static int
by_git_order(const void *a, const void *b)
{
	const struct tree_ent *x = a, *y = b;

	return wr_tree_name_cmp(x->name, x->name_len, x->mode == WR_MODE_TREE, y->name, y->name_len,
				y->mode == WR_MODE_TREE);
}

static int
store_tree(struct dir *d, struct worker *k, struct wr_id *out, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf names = WR_BUF_INIT, tree = WR_BUF_INIT;
	WR_SCOPED(wr_freep) struct tree_ent *t = wr_calloc(d->count + 1, sizeof(*t));
	size_t n = 0;

	/* Offsets first, since names may move while they are gathered. */
	for (size_t i = 0; i < d->count; i++) {
		const struct ent *e = &d->ent[i];
		size_t at = names.len;

		if (e->skip)
			continue;
		wr_name_mangle(&names, e->name, e->name_len, e->c.chunked);
		t[n++] = (struct tree_ent){(const char *)(uintptr_t)at, (uint32_t)(names.len - at),
					   e->c.kind == WR_KIND_DIR || e->c.chunked ? WR_MODE_TREE
					   : e->c.kind == WR_KIND_LINK              ? WR_MODE_LINK
										    : WR_MODE_FILE,
					   &e->c.id};
	}
	t[n++] = (struct tree_ent){(const char *)(uintptr_t)names.len, 5,
				   d->bupm_chunked ? WR_MODE_TREE : WR_MODE_FILE, &d->bupm};
	wr_buf_adds(&names, ".bupm");
	for (size_t i = 0; i < n; i++)
		t[i].name = (const char *)names.p + (uintptr_t)t[i].name;
	qsort(t, n, sizeof(*t), by_git_order);
	wr_buf_reserve(&tree, names.len + n * 28);
	for (size_t i = 0; i < n; i++)
		wr_tree_add(&tree, t[i].mode, t[i].name, t[i].name_len, t[i].id);
	wr_content_stored(k->content, &d->stored);
	return wr_content_tree(k->content, tree.p, tree.len, out, err);
}

/* The new cache block; 0 when none could be written (the cache is then not renewed). */
static uint64_t
store_block(struct dir *d, const struct wr_id *tree, uint64_t *out_bytes, bool *out_links)
{
	WR_SCOPED(wr_block_fini) struct wr_block b = WR_BLOCK_INIT;
	struct wr_statkey key;
	uint64_t off;

	if (!d->w->in->cache || d->w->in->o->dry_run)
		return 0;
	for (size_t i = 0; i < d->count; i++) {
		struct ent *e = &d->ent[i];

		if (e->skip)
			continue;
		e->c.name_len = e->name_len;
		wr_block_add(&b, &e->c, e->name);
	}
	wr_statkey_of(&d->st, &key);
	if (wr_stat_racy(&key, d->now))
		key.ino = 0; /* matches nothing: look again next time */
	*out_links = b.has_links;
	if (wr_statcache_append(d->w->in->cache, &b, &key, d->st.st_dev, tree, &off, out_bytes) < 0)
		return 0;
	return off;
}

static void
finish_dir(struct dir *d)
{
	struct walk *w = d->w;
	struct wr_err err = WR_ERR_INIT;
	struct wr_id tree;
	uint64_t bytes = 0, block;
	bool links = false;

	if (w->failed)
		return;
	count_removed(d);
	if (store_tree(d, self(w), &tree, &err) < 0) {
		wrap(&err, d, NULL);
		fail(w, &err);
		return;
	}
	if (d->fold)
		wr_fold_stored(d->fold, d->stored);
	block = store_block(d, &tree, &bytes, &links);
	if (!d->in_parent) {
		w->out->tree = tree;
		w->out->block = block;
		return;
	}
	d->in_parent->c = (struct wr_cached){.kind = WR_KIND_DIR,
					     .id = tree,
					     .child = block,
					     .link_hash = links,
					     .trusted = 1,
					     .key.size = bytes};
}

static void
ended(struct dir *d)
{
	while (d && atomic_fetch_sub(&d->pending, 1) == 1) {
		struct dir *up = d->parent;

		if (!d->in_parent || !d->in_parent->skip)
			finish_dir(d);
		free_dir(d);
		d = up;
	}
}

static void save_dir(void *arg);

static void
push_child(struct dir *parent, struct ent *e)
{
	struct dir *d;

	if (parent->depth + 1 == WR_TREE_DEPTH_MAX) {
		skip_entry(parent, e, "too many directories within each other");
		return;
	}
	d = wr_calloc(1, sizeof(*d));
	d->w = parent->w;
	d->parent = parent;
	d->in_parent = e;
	d->name = e->name;
	d->path_len = parent->path_len + (parent->path_len ? 1 : 0) + e->name_len;
	d->depth = parent->depth + 1;
	d->fd = -1;
	d->unopened = 1;
	d->pending = 1;
	if (parent->fold)
		d->fold = wr_sums_child(d->w->in->sums, parent->fold, e->name, e->name_len);
	if (e->has_cached && e->c.kind == WR_KIND_DIR)
		d->block = e->c.child;
	if (e->carry && wr_dirent_kind(e->carry) == WR_KIND_DIR)
		d->carry_id = e->carry->id;
	atomic_fetch_add(&parent->unopened, 1);
	atomic_fetch_add(&parent->pending, 1);
	wr_pool_push(d->w->in->pool, save_dir, d);
}

/* Nothing below has changed since the cached snapshot, and that is the one to carry over from. */
static bool
subtree_known(const struct walk *w, const struct ent *e)
{
	if (!w->in->use_cache || !e->has_cached || e->c.kind != WR_KIND_DIR || !e->c.child ||
	    wr_id_is_zero(&e->c.id) || !wr_scan_clean(w->in->scan, e->c.child))
		return false;
	return !w->in->carry || (e->carry && wr_id_eq(&e->carry->id, &e->c.id));
}

static bool
enter(struct dir *d)
{
	struct walk *w = d->w;
	const struct wr_scan_opts *so = w->in->scan_opts;

	d->now = wr_clock_inode();
	if (d->parent) {
		d->fd = openat(d->parent->fd, d->name,
			       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC);
		if (d->fd < 0 && errno == EPERM)
			d->fd = openat(d->parent->fd, d->name,
				       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	}
	if (d->fd < 0 || fstat(d->fd, &d->st) < 0) {
		note_skipped(w, d, NULL, reason_of(errno));
		return false;
	}
	/* The repository inside its own source: the scan has noted it. */
	return d->st.st_dev != so->skip_dev || d->st.st_ino != so->skip_ino || !so->skip_ino;
}

static void
save_dir(void *arg)
{
	struct dir *d = arg;
	struct walk *w = d->w;
	struct worker *k = self(w);
	struct wr_err err = WR_ERR_INIT;
	struct wr_metabuf self_buf = WR_METABUF_INIT;
	struct wr_live live = {.dirfd = -1, .name = "."};
	struct wr_meta self_meta;
	bool other_fs, ok = !w->failed && enter(d);

	if (d->parent)
		opened(d->parent);
	if (!ok)
		goto skip;
	/* A mount point that is not entered is kept as an empty directory. */
	other_fs = wr_scan_beyond(w->in->scan, d->fd, &d->st) != NULL;
	live.fd = live.dirfd = d->fd;
	live.st = d->st;
	if ((!other_fs && list_names(d, k, &err) < 0) ||
	    wr_fsmeta_read(&live, w->names, &self_buf, &self_meta, &err) < 0) {
		note_skipped(w, d, NULL, reason_of(err.sys_errno));
		goto skip;
	}
	find_witnesses(d, k);
	wr_pool_for(w->in->pool, d->count, BATCH, 0, save_range, d);
	if (!w->failed && store_bupm(d, k, &self_meta, &err) < 0) {
		wrap(&err, d, NULL);
		fail(w, &err);
	}
	/* Pushed in descending order, so that they are taken in ascending order. */
	for (size_t i = d->count; i-- > 0 && !w->failed;) {
		struct ent *e = &d->ent[i];

		if (e->skip || e->d_type != DT_DIR)
			continue;
		if (!subtree_known(w, e))
			push_child(d, e);
	}
	goto out;
skip:
	if (d->in_parent)
		d->in_parent->skip = true;
	else if (!w->failed) {
		if (err.code == WR_E_NONE)
			wr_err_set(&err, WR_E_FAILED, "the directory cannot be read");
		fail(w, &err);
	}
out:
	wr_metabuf_fini(&self_buf);
	opened(d);
	ended(d);
}

int
wr_save_walk(const struct wr_walk_in *in, struct wr_walk_out *out, struct wr_err *err)
{
	unsigned threads = wr_pool_threads(in->pool);
	struct walk w = {.in = in, .out = out, .err = WR_ERR_INIT};
	struct dir *d = wr_calloc(1, sizeof(*d));

	d->w = &w;
	d->name = "";
	d->fd = openat(in->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->fd < 0) {
		free_dir(d);
		return wr_err_sys(err, "open the directory to save");
	}
	if (in->sums)
		d->fold = wr_sums_root(in->sums);
	d->unopened = 1;
	d->pending = 1;
	if (in->use_cache && !wr_statcache_root(in->cache, &d->block, NULL, NULL))
		d->block = 0;
	if (in->carry)
		d->carry_id = *in->carry;
	pthread_mutex_init(&w.mutex, NULL);
	w.names = wr_names_new();
	w.worker = wr_calloc(threads, sizeof(*w.worker));
	wr_scan_todo(in->scan, &w.todo_files, &w.todo_bytes);
	for (unsigned i = 0; i < threads; i++) {
		w.worker[i].reader = wr_reader_new(in->repo);
		w.worker[i].content =
		    wr_content_new(in->pool, in->sink, wr_repo_config(in->repo)->split_bits);
		wr_content_count(w.worker[i].content, &w.bytes_read, tell_progress, &w);
	}
	wr_pool_push(in->pool, save_dir, d);
	wr_pool_run(in->pool);
	for (unsigned i = 0; i < threads; i++) {
		struct worker *k = &w.worker[i];

		wr_content_free(k->content);
		wr_reader_free(k->reader);
		wr_listing_fini(&k->listing);
		wr_metabuf_fini(&k->meta);
		wr_buf_fini(&k->record);
		wr_buf_fini(&k->scratch);
		wr_buf_fini(&k->key);
		wr_buf_fini(&k->link);
	}
	free(w.worker);
	wr_names_free(w.names);
	pthread_mutex_destroy(&w.mutex);
	out->files_new = w.files_new;
	out->files_changed = w.files_changed;
	out->files_removed = w.files_removed;
	out->bytes_read = w.bytes_read;
	out->skipped = w.skipped;
	if (w.failed) {
		wr_notes_fini(&out->skipped);
		*err = w.err;
		return -1;
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A task per directory: it opens or makes the directory below its parent's descriptor, lays what is
 * wanted beside what is there and what the cache knows, pushes a task per subdirectory and settles
 * the rest over all threads.  The last of these to end gives the directory its metadata (its times
 * change until then) and its cache block, and goes on with the parent.
 */
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "engine/snap/restore_int.h"
#include "sys/clock.h"
#include "sys/crash.h"
#include "sys/fs.h"

/* The kernel lets one thread at a time make names in a directory: others help only where there is
 * much to do, and are better off with directories of their own. */
#define ALONE_MAX 200
#define BATCH 32
#define IN_THE_WAY "a directory is in the way"

struct wr_rs_dir *
wr_rs_dir_new(struct wr_rs *rs, struct wr_rs_dir *up, struct wr_rs_item *in_up, const char *name)
{
	struct wr_rs_dir *d = wr_calloc(1, sizeof(*d));

	d->rs = rs;
	d->up = up;
	d->in_up = in_up;
	d->name = wr_strdup(name);
	d->depth = up ? up->depth + 1 : 0;
	d->fd = -1;
	d->pending = 1;
	if (up)
		atomic_fetch_add(&up->pending, 1);
	return d;
}

void
wr_rs_dir_free(struct wr_rs_dir *d)
{
	wr_dirview_fini(&d->want);
	wr_dirview_fini(&d->have_own);
	wr_cached_dir_fini(&d->block);
	wr_rules_fini(&d->rules);
	wr_buf_fini(&d->names);
	wr_closep(&d->fd);
	free(d->cached);
	free(d->item);
	free(d->name);
	free(d);
}

void
wr_rs_touch(struct wr_rs_dir *d)
{
	struct wr_rs *rs = d->rs;

	if (d->touched)
		return;
	pthread_mutex_lock(&rs->mutex);
	if (d->existed && d->dress && !d->unlocked) {
		/* What is taken away here is set again with the metadata. */
		d->unlocked = true;
		if (wr_apply_unlock(d->fd))
			d->differs = true;
		if (!rs->apply.root && (d->st.st_mode & 0700) != 0700 &&
		    fchmod(d->fd, (d->st.st_mode & 07777) | 0700) == 0) {
			d->st.st_mode |= 0700;
			d->differs = true;
		}
	}
	d->touched = true;
	pthread_mutex_unlock(&rs->mutex);
}

/* ---- opening ---- */

/* Leave the directory, and all the snapshot has of it, as it is. */
static int
stay_out(struct wr_rs_dir *d, bool kept)
{
	if (kept)
		d->rs->n.kept++;
	if (d->in_up)
		d->in_up->state = WR_RS_NOT;
	d->inexact = true;
	d->done = true;
	return -1;
}

static int
refuse(struct wr_rs_dir *d, const char *reason)
{
	wr_rs_skip(d, NULL, reason);
	return stay_out(d, false);
}

static int
refuse_sys(struct wr_rs_dir *d, const char *what)
{
	wr_rs_skip_sys(d, NULL, what);
	return stay_out(d, false);
}

static int
want_meta(struct wr_rs_dir *d, struct wr_meta *m, struct wr_err *err)
{
	struct wr_rs *rs = d->rs;

	if (wr_dirview_self_meta(&d->want, m, &wr_rs_self(rs)->scratch, err) < 0)
		return -1;
	wr_apply_want(&rs->apply, S_IFDIR, m);
	return 0;
}

static int
create(struct wr_rs_dir *d)
{
	struct wr_rs *rs = d->rs;
	struct wr_rs_dir *up = d->up;
	struct wr_err err = WR_ERR_INIT;
	struct wr_meta m;
	mode_t mode;

	if (want_meta(d, &m, &err) < 0) {
		wr_rs_skip_err(d, NULL, &err);
		return stay_out(d, false);
	}
	d->dress = d->differs = true;
	if (!rs->o->dry_run) {
		wr_rs_touch(up);
		mode = wr_apply_create_mode(
		    &rs->apply, &m, up->st.st_mode & S_ISGID ? up->st.st_gid : rs->apply.gid);
		/* Ours alone until it is complete, and always passable for us. */
		if (mkdirat(up->fd, d->name, (mode & 0755) | 0700) < 0)
			return refuse_sys(d, "create directory");
		d->fd = wr_open_dir(up->fd, d->name);
		if (d->fd < 0 || fstat(d->fd, &d->st) < 0) {
			refuse_sys(d, "open directory");
			unlinkat(up->fd, d->name, AT_REMOVEDIR);
			return -1;
		}
		if (rs->o->no_mounts && wr_mount_of(d->fd) != rs->mount)
			return refuse(d, "another mount");
		d->inherits = up->inherits;
	}
	wr_rs_did(up, d->name, "create", &rs->n.created);
	return 0;
}

static bool
is_newer(const struct wr_rs_dir *d, const struct stat *st)
{
	struct wr_meta m;

	return wr_dirview_self_meta(&d->want, &m, &wr_rs_self(d->rs)->scratch, NULL) == 0 &&
	       wr_ts_cmp(wr_st_mtime(st), m.mtime) >= 0;
}

/* Something that is no directory is where one is wanted. */
static int
clear_the_way(struct wr_rs_dir *d)
{
	enum wr_overwrite mode = d->rs->o->overwrite;
	struct stat st;

	if (d->in_up->left_out || mode == WR_OVERWRITE_NEVER)
		return stay_out(d, true);
	if (mode == WR_OVERWRITE_NEWER &&
	    fstatat(d->up->fd, d->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && is_newer(d, &st))
		return stay_out(d, true);
	if (!wr_rs_remove(d->up, d->in_up))
		return stay_out(d, false); /* why is listed */
	return create(d);
}

static int
open_existing(struct wr_rs_dir *d)
{
	struct wr_rs *rs = d->rs;

	if (d->up) {
		d->fd = openat(d->up->fd, d->name,
			       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC);
		if (d->fd < 0 && errno == EPERM)
			d->fd = wr_open_dir(d->up->fd, d->name);
		if (d->fd < 0 && errno == ENOENT && !d->remove)
			return create(d);
	}
	if (d->fd < 0 || fstat(d->fd, &d->st) < 0)
		return refuse_sys(d, "open directory");
	if (rs->o->no_mounts && wr_mount_of(d->fd) != rs->mount)
		return refuse(d, "another mount");
	if (d->st.st_dev == rs->repo_dev && d->st.st_ino == rs->repo_ino)
		return d->remove ? stay_out(d, false) : refuse(d, "the repository itself");
	/* A subvolume on the same mount is a directory as others are. */
	if (d->remove && d->st.st_dev != d->up->st.st_dev && !(rs->o->no_mounts && rs->mount))
		return refuse(d, "another file system");
	if (d->remove && rs->guarded && !d->in_up->cached)
		return refuse(d, "not in the safety snapshot");
	d->existed = true;
	return 0;
}

/* 0: d->fd is open (or would be made in a dry run); -1: not to be entered. */
static int
open_dir(struct wr_rs_dir *d)
{
	struct wr_err err = WR_ERR_INIT;

	if (d->depth > WR_TREE_DEPTH_MAX)
		return refuse(d, "too many directories within each other");
	/* What cannot be read from the repository must not disturb what is there. */
	if (!d->remove &&
	    wr_dirview_load(wr_rs_self(d->rs)->reader, &d->tree, &d->want, &err) < 0) {
		wr_rs_skip_err(d, NULL, &err);
		return stay_out(d, false);
	}
	if (!d->up)
		return d->existed ? open_existing(d) : 0;
	if (d->in_up->type == DT_UNKNOWN)
		return create(d);
	if (d->in_up->type != DT_DIR)
		return clear_the_way(d);
	if (d->in_up->left_out)
		return stay_out(d, !d->remove);
	return open_existing(d);
}

/* ---- what is there ---- */

/* Its metadata as of now: is it as wanted, and does it hand anything down to new entries? */
static void
compare_self(struct wr_rs_dir *d)
{
	struct wr_rs *rs = d->rs;
	struct wr_rs_worker *w = wr_rs_self(rs);
	struct wr_live live = {.dirfd = d->fd, .name = ".", .fd = d->fd, .st = d->st};
	struct wr_meta want, m;
	struct wr_rd r;
	struct wr_bytes name, value;
	struct wr_ts mtime = wr_st_mtime(&d->st);
	bool have = d->fresh && d->have && d->have->self_raw.p;
	int rc = have ? wr_dirview_self_meta(d->have, &m, &w->scratch2, NULL)
		      : wr_fsmeta_read(&live, rs->names, &w->live, &m, NULL);

	d->inherits = rc < 0 || (m.attr & WR_ATTR_VISIBLE) != 0;
	r = wr_rd(rc < 0 ? NULL : m.xattrs.p, rc < 0 ? 0 : m.xattrs.len);
	while (rc == 0 && m.xattr_count && wr_meta_xattr_next(&r, &name, &value) > 0)
		d->inherits |= name.len == 24 && !memcmp(name.p, "system.posix_acl_default", 24);
	if (d->remove || want_meta(d, &want, NULL) < 0)
		return;
	d->differs = rc < 0 || !wr_apply_same(&rs->apply, &want, &m);
	d->dress = want.has_common && rs->o->overwrite != WR_OVERWRITE_NEVER &&
		   (rs->o->overwrite != WR_OVERWRITE_NEWER || wr_ts_cmp(mtime, want.mtime) < 0);
}

/* What the cache knows of the directory. */
static void
read_cached(struct wr_rs_dir *d)
{
	struct wr_rs *rs = d->rs;
	const char *name;
	size_t n = 0;

	if (!rs->use_cache || !d->old_block ||
	    !wr_statcache_read(rs->cache, d->old_block, &d->block))
		return;
	d->fresh =
	    d->block.dev == d->st.st_dev && (!rs->scan || wr_scan_clean(rs->scan, d->old_block));
	if (wr_id_is_zero(&d->block.tree))
		d->have = NULL;
	else if (!d->remove && wr_id_eq(&d->block.tree, &d->tree))
		d->have = &d->want;
	else if (!d->remove &&
		 wr_dirview_load(wr_rs_self(rs)->reader, &d->block.tree, &d->have_own, NULL) == 0)
		d->have = &d->have_own;
	d->cached = wr_calloc(d->block.count + 1u, sizeof(*d->cached));
	while (n < d->block.count && wr_cached_next(&d->block, &d->cached[n].c, &name))
		d->cached[n++].name = name;
	d->cached_count = n;
}

static int
cmp_names(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int c = memcmp(a, b, WR_MIN(a_len, b_len));

	return c ? c : a_len < b_len ? -1 : a_len > b_len;
}

/* What a killed restore left behind. */
static bool
is_stray(const struct wr_name *e)
{
	const size_t prefix = sizeof(WR_RS_TMP_PREFIX) - 1;

	return e->type != DT_DIR && e->len == WR_RS_TMP_LEN &&
	       !memcmp(e->name, WR_RS_TMP_PREFIX, prefix) &&
	       strspn(e->name + prefix, "abcdefghijklmnopqrstuvwxyz0123456789") == 12;
}

/* Does something there have this name, and do the rules leave it out? */
static void
mark_live(struct wr_rs_dir *d, struct wr_rs_item *it, const struct wr_name *e, struct wr_buf *path,
	  size_t base)
{
	it->type = e->type;
	if (!d->rules.cachedir && (!d->rules.level || wr_ignore_empty(d->rules.level)))
		return;
	path->len = base;
	wr_buf_add(path, e->name, e->len);
	it->left_out = wr_rules_out(&d->rules, wr_buf_str(path), path->len, it->name,
				    e->type == DT_DIR) != NULL;
}

/* Lay the wanted names and those that are there side by side. */
static void
merge(struct wr_rs_dir *d, const struct wr_listing *l)
{
	struct wr_rs_worker *w = wr_rs_self(d->rs);
	size_t i = 0, j = 0, k = 0, n = 0, base;

	wr_rs_path(d, NULL, &w->path);
	if (w->path.len)
		wr_buf_add8(&w->path, '/');
	base = w->path.len;
	if (l) /* the listing serves the next directory */
		wr_buf_add(&d->names, l->names.p, l->names.len);
	d->item = wr_calloc(d->want.count + (l ? l->count : 0) + 1, sizeof(*d->item));
	while (i < d->want.count || (l && j < l->count)) {
		const struct wr_dirent *want = i < d->want.count ? &d->want.ent[i] : NULL;
		const struct wr_name *e = l && j < l->count ? &l->ent[j] : NULL;
		struct wr_rs_item *it = &d->item[n];
		int c = !want ? 1
			: !e  ? -1
			      : cmp_names(want->name, want->name_len, e->name, e->len);

		if (c > 0 && is_stray(e) && !d->rs->o->dry_run) {
			unlinkat(d->fd, e->name, 0);
			j++;
			continue;
		}
		it->name =
		    c <= 0 ? want->name : (char *)d->names.p + (e->name - (const char *)l->names.p);
		it->name_len = c <= 0 ? (uint16_t)want->name_len : e->len;
		it->want = c <= 0 ? want : NULL;
		if (c >= 0)
			mark_live(d, it, e, &w->path, base);
		while (k < d->cached_count && cmp_names(d->cached[k].name, d->cached[k].c.name_len,
							it->name, it->name_len) < 0)
			k++;
		if (k < d->cached_count &&
		    !cmp_names(d->cached[k].name, d->cached[k].c.name_len, it->name, it->name_len))
			it->cached = &d->cached[k].c;
		if (it->cached && d->have && it->want)
			it->have = d->have == &d->want
				       ? it->want
				       : wr_dirview_find(d->have, it->name, it->name_len);
		it->dir = it->want ? wr_dirent_kind(it->want) == WR_KIND_DIR : it->type == DT_DIR;
		i += c <= 0;
		j += c >= 0;
		n++;
	}
	d->count = n;
}

static int
look(struct wr_rs_dir *d)
{
	struct wr_rs *rs = d->rs;
	struct wr_rs_worker *w = wr_rs_self(rs);
	struct wr_err err = WR_ERR_INIT;

	if (!d->existed) {
		merge(d, NULL);
		return 0;
	}
	if (wr_listing_read(&w->listing, d->fd, &err) < 0) {
		wr_rs_skip_err(d, NULL, &err);
		return stay_out(d, false);
	}
	wr_rs_path(d, NULL, &w->path);
	wr_rules_enter(&d->rules, d->up ? d->up->rules.level : rs->o->ignore, d->fd,
		       wr_buf_str(&w->path), &w->listing);
	read_cached(d);
	compare_self(d);
	merge(d, &w->listing);
	return 0;
}

/* ---- working ---- */

static bool
is_large(const struct wr_rs_item *it)
{
	return it->want && it->want->chunked;
}

static void
settle_range(void *ctx, size_t lo, size_t hi)
{
	struct wr_rs_dir *d = ctx;
	struct wr_rs *rs = d->rs;

	for (size_t i = lo; i < hi && !rs->failed; i++) {
		struct wr_rs_item *it = &d->item[i];

		if (!it->dir && it->state == WR_RS_OPEN && !is_large(it))
			wr_rs_entry(d, it);
	}
	if (rs->o->progress)
		rs->o->progress(rs->o->ctx, "restore", rs->n.files, 0, rs->n.bytes, 0);
}

struct large {
	struct wr_rs_dir *d;
	struct wr_rs_item **item;
	size_t count;
};

static void
settle_large(void *ctx, size_t lo, size_t hi)
{
	struct large *l = ctx;
	struct wr_rs *rs = l->d->rs;

	for (size_t i = lo; i < hi && !rs->failed; i++) {
		wr_rs_entry(l->d, l->item[i]);
		if (rs->o->progress)
			rs->o->progress(rs->o->ctx, "restore", rs->n.files, 0, rs->n.bytes, 0);
	}
}

static void
push_child(struct wr_rs_dir *d, struct wr_rs_item *it)
{
	struct wr_rs_dir *child = wr_rs_dir_new(d->rs, d, it, it->name);

	if (it->want && wr_dirent_kind(it->want) == WR_KIND_DIR)
		child->tree = it->want->id;
	else
		child->remove = true;
	if (it->cached && it->cached->kind == WR_KIND_DIR)
		child->old_block = it->cached->child;
	wr_pool_push(d->rs->pool, wr_rs_dir_run, child);
}

static void
work(struct wr_rs_dir *d)
{
	struct wr_rs *rs = d->rs;
	struct large large = {.d = d};
	bool extra = rs->o->delete_extra;

	/* Pushed in descending order, so that they are taken in ascending order. */
	for (size_t i = d->count; i-- > 0 && !rs->failed;) {
		struct wr_rs_item *it = &d->item[i];

		if (!it->want && !extra) {
			it->state = WR_RS_NOT;
			if (!it->left_out)
				d->inexact = true;
		} else if (it->dir) {
			push_child(d, it);
		} else if (it->want && it->type == DT_DIR) {
			it->state = WR_RS_LATER;
			if (extra && !it->left_out && rs->o->overwrite != WR_OVERWRITE_NEVER)
				push_child(d, it); /* it goes first */
		}
	}
	if (d->count <= ALONE_MAX)
		settle_range(d, 0, d->count);
	else
		wr_pool_for(rs->pool, d->count, BATCH, 0, settle_range, d);
	for (size_t i = 0; i < d->count; i++)
		large.count += d->item[i].state == WR_RS_OPEN && is_large(&d->item[i]);
	if (!large.count)
		return;
	/* Each of these is worth a thread. */
	large.item = wr_calloc(large.count, sizeof(*large.item));
	large.count = 0;
	for (size_t i = 0; i < d->count; i++)
		if (d->item[i].state == WR_RS_OPEN && is_large(&d->item[i]))
			large.item[large.count++] = &d->item[i];
	wr_pool_for(rs->pool, large.count, 1, 0, settle_large, &large);
	free(large.item);
}

/* ---- finishing ---- */

static bool
is_empty(struct wr_rs_dir *d, const char *name)
{
	WR_SCOPED(wr_closep) int fd = wr_open_dir(d->fd, name);
	struct wr_listing *l = &wr_rs_self(d->rs)->listing;

	return fd >= 0 && wr_listing_read(l, fd, NULL) == 0 && l->count == 0;
}

/* A directory lies where something else is wanted: it is gone by now, or goes if it is empty. */
static void
settle_later(struct wr_rs_dir *d, struct wr_rs_item *it)
{
	struct wr_rs *rs = d->rs;

	if (it->type == DT_DIR) {
		if (it->left_out || rs->o->overwrite == WR_OVERWRITE_NEVER) {
			rs->n.files++;
			rs->n.kept++;
			it->state = WR_RS_NOT;
			d->inexact = true;
			return;
		}
		if (rs->o->dry_run ? !is_empty(d, it->name)
				   : unlinkat(d->fd, it->name, AT_REMOVEDIR) < 0) {
			rs->n.files++;
			it->state = WR_RS_NOT;
			wr_rs_skip(d, it->name, IN_THE_WAY);
			return;
		}
		wr_rs_did(d, it->name, "delete", &rs->n.deleted);
	}
	it->type = DT_UNKNOWN;
	it->state = WR_RS_OPEN;
	wr_rs_entry(d, it);
}

/* Everything in it is gone, so it goes too. */
static void
finish_removed(struct wr_rs_dir *d)
{
	struct wr_rs *rs = d->rs;
	struct wr_rs_dir *up = d->up;
	bool all = true;

	for (size_t i = 0; i < d->count; i++)
		all = all && d->item[i].state == WR_RS_GONE;
	if (!all) {
		up->inexact = true;
		return;
	}
	if (!rs->o->dry_run) {
		wr_rs_touch(up);
		if (unlinkat(up->fd, d->name, AT_REMOVEDIR) < 0) {
			if (!d->in_up->want)
				wr_rs_skip_sys(up, d->name, "remove directory");
			up->inexact = true;
			return;
		}
		wr_crash_point("restore.deleted");
	}
	if (d->in_up->want)
		d->in_up->type = DT_UNKNOWN; /* make room for what is wanted */
	else
		d->in_up->state = WR_RS_GONE;
	wr_rs_did(up, d->name, "delete", &rs->n.deleted);
}

static void
dress(struct wr_rs_dir *d, const struct wr_meta *m)
{
	struct wr_apply_to p = {.dirfd = d->fd, .name = ".", .fd = d->fd, .st = d->st};
	struct timespec ts[2] = {{m->atime.s, m->atime.ns}, {m->mtime.s, m->mtime.ns}};
	struct wr_err err = WR_ERR_INIT;
	unsigned lost = 0;

	p.fresh = !d->existed;
	p.inherits = d->inherits;
	if (!d->differs) {
		if (d->touched && m->has_common)
			(void)futimens(d->fd, ts); /* a difference is seen by its stat */
	} else if (wr_apply_meta(&d->rs->apply, &p, m, &lost, &err) < 0) {
		wr_rs_skip_err(d, NULL, &err);
	} else if (lost) {
		wr_rs_lost(d, NULL, lost);
	}
}

/* Metadata, now that nothing in it changes any more. */
static void
finish_self(struct wr_rs_dir *d)
{
	struct wr_rs *rs = d->rs;
	struct wr_meta stored, m;
	struct wr_ts mtime;

	if (wr_dirview_self_meta(&d->want, &stored, &wr_rs_self(rs)->scratch, NULL) < 0 ||
	    want_meta(d, &m, NULL) < 0)
		return;
	if (rs->o->dry_run) {
		if (d->existed && d->differs && d->dress)
			wr_rs_did(d, NULL, "metadata", &rs->n.metadata);
	} else if (d->dress) {
		dress(d, &m);
	}
	if (d->existed) {
		if (!d->differs)
			rs->n.unchanged++;
		else if (!d->dress)
			rs->n.kept++;
		else if (!rs->o->dry_run)
			wr_rs_did(d, NULL, "metadata", &rs->n.metadata);
	}
	if (rs->o->dry_run)
		return;
	d->now = wr_clock_inode();
	if (fstat(d->fd, &d->st) < 0) {
		d->inexact = true;
		return;
	}
	mtime = wr_st_mtime(&d->st);
	if (!stored.has_common || (d->differs && !d->dress) || d->st.st_uid != stored.uid ||
	    d->st.st_gid != stored.gid || (d->st.st_mode & 07777) != (stored.mode & 07777) ||
	    wr_ts_cmp(mtime, stored.mtime) != 0)
		d->inexact = true;
}

static void
finish(struct wr_rs_dir *d)
{
	if (!d->done && d->remove) {
		finish_removed(d);
	} else if (!d->done) {
		for (size_t i = 0; i < d->count && !d->rs->failed; i++)
			if (d->item[i].state == WR_RS_LATER)
				settle_later(d, &d->item[i]);
		finish_self(d);
		if (!d->rs->o->dry_run)
			wr_rs_store_block(d);
	}
	if (d->up && d->inexact)
		d->up->inexact = true;
}

static void
ended(struct wr_rs_dir *d)
{
	while (d && atomic_fetch_sub(&d->pending, 1) == 1) {
		struct wr_rs_dir *up = d->up;

		finish(d);
		wr_rs_dir_free(d);
		d = up;
	}
}

void
wr_rs_dir_run(void *arg)
{
	struct wr_rs_dir *d = arg;
	struct wr_rs *rs = d->rs;

	if (rs->failed || (!d->remove && wr_rs_take_subtree(d))) {
		d->done = true;
	} else {
		if (!d->remove)
			rs->n.dirs++;
		if (open_dir(d) == 0 && look(d) == 0)
			work(d);
	}
	ended(d);
}

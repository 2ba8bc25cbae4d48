/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preparing and concluding a restore: the target, the lock, the safety snapshot, the stat cache;
 * afterwards one sync and, behind it, the new state of the cache.  A crash in between leaves files
 * that are old or new, and a cache that vouches for none of the new ones.
 */
#include "engine/snap/restore.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/str.h"
#include "engine/snap/restore_int.h"
#include "sys/clock.h"
#include "sys/crash.h"
#include "sys/fs.h"

#define THREADS_MAX 8

/* Texts of errors that notes point to. */
struct wr_restore_texts {
	char **text;
	size_t count, cap;
};

void
wr_restore_result_fini(struct wr_restore_result *r)
{
	wr_notes_fini(&r->skipped);
	for (size_t i = 0; r->texts && i < r->texts->count; i++)
		free(r->texts->text[i]);
	if (r->texts)
		free(r->texts->text);
	free(wr_steal(&r->texts));
	free(wr_steal(&r->target));
}

/* ---- what the other files call ---- */

void
wr_rs_path(const struct wr_rs_dir *d, const char *name, struct wr_buf *out)
{
	size_t len = name ? strlen(name) : 0, at;

	for (const struct wr_rs_dir *up = d; up->up; up = up->up)
		len += strlen(up->name) + 1;
	len -= len && !name; /* no slash behind the last */
	wr_buf_clear(out);
	wr_buf_reserve(out, len + 1);
	out->len = at = len;
	if (name) {
		at -= strlen(name);
		memcpy(out->p + at, name, strlen(name));
	}
	for (; d->up; d = d->up) {
		if (at < len)
			out->p[--at] = '/';
		at -= strlen(d->name);
		memcpy(out->p + at, d->name, strlen(d->name));
	}
}

/* What people see of a path: the target itself is ".". */
static const struct wr_buf *
shown_path(const struct wr_rs_dir *d, const char *name)
{
	struct wr_buf *path = &wr_rs_self(d->rs)->shown;

	wr_rs_path(d, name, path);
	if (!path->len)
		wr_buf_add8(path, '.');
	return path;
}

static void
note(struct wr_rs *rs, const struct wr_buf *path, const char *reason, bool copy)
{
	pthread_mutex_lock(&rs->mutex);
	if (copy && rs->skipped.count < WR_LIST_MAX) {
		struct wr_restore_texts *t = rs->texts;

		wr_grow(&t->text, &t->cap, t->count + 1, sizeof(*t->text));
		reason = t->text[t->count++] = wr_strdup(reason);
	}
	wr_notes_add(&rs->skipped, (const char *)path->p, path->len, reason, 0);
	pthread_mutex_unlock(&rs->mutex);
}

void
wr_rs_skip(struct wr_rs_dir *d, const char *name, const char *reason)
{
	d->inexact = true;
	note(d->rs, shown_path(d, name), reason, false);
}

static void
fail(struct wr_rs *rs, const struct wr_err *err)
{
	pthread_mutex_lock(&rs->mutex);
	if (!rs->failed)
		rs->err = *err;
	rs->failed = true;
	pthread_mutex_unlock(&rs->mutex);
}

void
wr_rs_skip_err(struct wr_rs_dir *d, const char *name, const struct wr_err *err)
{
	d->inexact = true;
	/* Trouble that every further file would have as well. */
	if (err->code == WR_E_NOSPACE || err->sys_errno == EROFS || err->sys_errno == EDQUOT)
		fail(d->rs, err);
	else
		note(d->rs, shown_path(d, name), err->msg, true);
}

void
wr_rs_skip_sys(struct wr_rs_dir *d, const char *name, const char *what)
{
	struct wr_err err = WR_ERR_INIT;

	wr_err_sys(&err, "%s", what);
	wr_rs_skip_err(d, name, &err);
}

void
wr_rs_lost(struct wr_rs_dir *d, const char *name, unsigned lost)
{
	struct wr_rs *rs = d->rs;

	d->inexact = true;
	for (unsigned i = 0; i < WR_LOST_KINDS; i++) {
		if (!(lost & 1u << i) || atomic_fetch_add(&rs->lost[i], 1))
			continue;
		wr_rs_path(d, name, &rs->lost_at[i]);
		if (!rs->lost_at[i].len)
			wr_buf_add8(&rs->lost_at[i], '.');
	}
}

void
wr_rs_did(struct wr_rs_dir *d, const char *name, const char *op, atomic_ullong *counter)
{
	const struct wr_buf *path;

	(*counter)++;
	if (!d->rs->o->action)
		return;
	path = shown_path(d, name);
	d->rs->o->action(d->rs->o->ctx, op, (const char *)path->p, path->len);
}

/* ---- beginning and end ---- */

static void
init(struct wr_rs *rs, struct wr_repo *r, const struct wr_restore_opts *o)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned threads = o->threads ? o->threads : (unsigned)WR_MAX(cpus, 1);
	struct stat st;

	wr_raise_fd_limit();
	rs->repo = r;
	rs->o = o;
	rs->root_fd = -1;
	rs->pool = wr_pool_new(WR_MIN(threads, (unsigned)THREADS_MAX));
	rs->worker = wr_calloc(wr_pool_threads(rs->pool), sizeof(*rs->worker));
	for (unsigned i = 0; i < wr_pool_threads(rs->pool); i++)
		rs->worker[i].reader = wr_reader_new(r);
	rs->names = wr_names_new();
	rs->links = wr_relinks_new();
	rs->texts = wr_calloc(1, sizeof(*rs->texts));
	wr_apply_init(&rs->apply, o->no_owner, o->names ? rs->names : NULL);
	if (o->owned)
		wr_apply_owner(&rs->apply, o->uid, o->gid);
	pthread_mutex_init(&rs->mutex, NULL);
	if (fstat(wr_repo_fd(r), &st) == 0) {
		rs->repo_dev = st.st_dev;
		rs->repo_ino = st.st_ino;
	}
}

static void
fini(struct wr_rs *rs)
{
	for (unsigned i = 0; i < wr_pool_threads(rs->pool); i++) {
		struct wr_rs_worker *w = &rs->worker[i];

		wr_reader_free(w->reader);
		wr_content_free(w->content);
		wr_rs_feed_free(w->feed);
		wr_listing_fini(&w->listing);
		wr_metabuf_fini(&w->live);
		wr_buf_fini(&w->scratch);
		wr_buf_fini(&w->scratch2);
		wr_buf_fini(&w->object);
		wr_buf_fini(&w->path);
		wr_buf_fini(&w->shown);
		wr_idmap_fini(&w->zero);
	}
	for (int i = 0; i < WR_LOST_KINDS; i++)
		wr_buf_fini(&rs->lost_at[i]);
	free(rs->worker);
	wr_pool_free(rs->pool);
	wr_scan_free(rs->scan);
	wr_statcache_close(rs->cache);
	wr_apply_fini(&rs->apply);
	wr_names_free(rs->names);
	wr_relinks_free(rs->links);
	pthread_mutex_destroy(&rs->mutex);
	wr_closep(&rs->root_fd);
}

static void
note_lost(struct wr_rs *rs)
{
	static const char *const what[WR_LOST_KINDS] = {
	    "owner not set: not permitted",
	    "extended attributes not set: not permitted or not supported here",
	    "attribute flags not set: not permitted",
	    "times not set: not supported here",
	    "mode not set: not permitted",
	};

	for (int i = 0; i < WR_LOST_KINDS; i++) {
		WR_SCOPED(wr_freep) char *text = NULL;

		if (!rs->lost[i])
			continue;
		text = wr_asprintf("%s (%s of all entries)", what[i], wr_fmt_count(rs->lost[i]).s);
		note(rs, &rs->lost_at[i], text, true);
	}
}

static void
take_result(struct wr_rs *rs, struct wr_restore_result *res)
{
	note_lost(rs);
	res->files = rs->n.files;
	res->dirs = rs->n.dirs;
	res->created = rs->n.created;
	res->replaced = rs->n.replaced;
	res->metadata = rs->n.metadata;
	res->deleted = rs->n.deleted;
	res->unchanged = rs->n.unchanged;
	res->kept = rs->n.kept;
	res->bytes_written = rs->n.bytes;
	res->skipped = rs->skipped;
	res->texts = rs->texts;
	rs->skipped = (struct wr_notes){0};
	rs->texts = NULL;
}

/* ---- safety ---- */

static bool
may_destroy(const struct wr_restore_opts *o)
{
	return !o->dry_run && !o->no_safety &&
	       (o->overwrite != WR_OVERWRITE_NEVER || o->delete_extra);
}

/* The lock is needed for a safety snapshot; without one it only serves the stat cache. */
static int
lock(struct wr_rs *rs, bool needed, bool *out_locked, struct wr_err *err)
{
	struct wr_err e = WR_ERR_INIT;

	*out_locked = false;
	if (rs->o->dry_run || wr_repo_locked(rs->repo))
		return 0;
	if (wr_repo_lock(rs->repo, "restore", rs->o->wait_s, &e) == 0) {
		*out_locked = true;
		return 0;
	}
	if (!needed)
		return 0;
	*err = e;
	wr_err_wrap(err, "make a safety snapshot first");
	if (!*err->hint)
		wr_err_hint(err, "--no-safety restores without one");
	return -1;
}

static int
save_safety(struct wr_rs *rs, const char *source, const struct wr_snap *snap,
	    struct wr_ignore *only, struct wr_restore_result *res, struct wr_id *out_tree,
	    struct wr_err *err)
{
	struct wr_save_opts so = WR_SAVE_OPTS_INIT;
	struct wr_save_result sr;
	WR_SCOPED(wr_freep)
	char *what = wr_asprintf("warren safety snapshot\n\nTaken before a restore of %s",
				 wr_id_hex(&snap->commit).s);

	so.branch = WR_SAFETY_BRANCH;
	so.root_fd = rs->o->dest_fd;
	so.no_mounts = rs->o->no_mounts;
	so.carry_from_cache = true;
	so.ignore = only;
	so.no_cache = only != NULL; /* the cache is of the whole directory */
	so.threads = rs->o->threads;
	so.what = what;
	so.progress = rs->o->progress;
	so.ctx = rs->o->ctx;
	if (wr_save(rs->repo, source, &so, &sr, err) < 0) {
		wr_err_wrap(err, "make a safety snapshot of '%s' first", WR_Q(source));
		if (!*err->hint)
			wr_err_hint(err, "--no-safety restores without one");
		return -1;
	}
	res->has_safety = sr.has_commit;
	res->safety_commit = sr.commit;
	snprintf(res->safety_name, sizeof(res->safety_name), "%s", sr.name);
	*out_tree = sr.tree;
	wr_save_result_fini(&sr);
	rs->guarded = true;
	return 0;
}

/* ---- a directory ---- */

static bool
is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0' || n == 1);
}

static int
refuse_repo(struct wr_rs *rs, const char *target, struct wr_err *err)
{
	char *repo = realpath(wr_repo_path(rs->repo), NULL);
	bool inside = repo && is_below(target, repo);

	free(repo);
	if (inside)
		return wr_err_set(err, WR_E_INVALID, "'%s' is part of the repository",
				  WR_Q(target));
	return 0;
}

/* Make dest and what is missing above it. */
static int
make_target(const char *dest, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *s = wr_strdup(dest);
	size_t n = strlen(s);
	char *slash;

	while (n > 1 && s[n - 1] == '/')
		s[--n] = '\0';
	slash = strrchr(s, '/');
	if (slash && slash > s) {
		*slash = '\0';
		if (wr_mkdirs(AT_FDCWD, s, 0777, err) < 0)
			return -1;
		*slash = '/';
	}
	if (mkdir(s, 0700) < 0)
		return wr_err_sys(err, "make directory '%s'", WR_Q(s));
	return 0;
}

static int
open_target(struct wr_rs *rs, const char *dest, bool *out_existed, struct wr_restore_result *res,
	    struct wr_err *err)
{
	if (rs->o->dest_fd >= 0) {
		rs->root_fd = openat(rs->o->dest_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (rs->root_fd < 0)
			return wr_err_sys(err, "open '%s'", WR_Q(dest));
		*out_existed = true;
		res->target = wr_strdup(dest);
		return 0;
	}
	rs->root_fd = open(dest, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*out_existed = rs->root_fd >= 0;
	if (rs->root_fd < 0 && errno != ENOENT) {
		bool not_dir = errno == ENOTDIR;

		wr_err_sys(err, "open '%s'", WR_Q(dest));
		if (not_dir) {
			wr_err_recode(err, WR_E_INVALID);
			wr_err_hint(err, "a directory is restored into a directory");
		}
		return -1;
	}
	if (rs->root_fd < 0) {
		if (rs->o->dry_run) {
			res->target = wr_strdup(dest);
			return 0;
		}
		if (make_target(dest, err) < 0)
			return -1;
		rs->root_fd = open(dest, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (rs->root_fd < 0)
			return wr_err_sys(err, "open '%s'", WR_Q(dest));
	}
	res->target = realpath(dest, NULL);
	if (!res->target)
		return wr_err_sys(err, "find the full path of '%s'", WR_Q(dest));
	return refuse_repo(rs, res->target, err);
}

static int
scan_target(struct wr_rs *rs, const struct wr_scan_opts *so, struct wr_err *err)
{
	return wr_scan_run(rs->root_fd, rs->pool, so, rs->cache, "", &rs->scan, err);
}

/* The snapshot that the caller made. */
static int
take_guard(struct wr_rs *rs, struct wr_id *out_tree, struct wr_err *err)
{
	struct wr_commit c = WR_COMMIT_INIT;

	if (wr_repo_read_commit(rs->worker[0].reader, rs->o->guard, &c, err) < 0)
		return wr_err_wrap(err, "the snapshot that guards the target");
	*out_tree = c.tree;
	rs->guarded = true;
	wr_commit_fini(&c);
	return 0;
}

/* What the cache says of the target now, if it can say anything. */
static int
open_cache(struct wr_rs *rs, const char *source, bool existed, bool writable,
	   const struct wr_id *safety_tree, struct wr_err *err)
{
	struct wr_scan_opts so = {.max_file_size = WR_MAX_FILE_SIZE_DEFAULT,
				  .skip_dev = rs->repo_dev,
				  .skip_ino = rs->repo_ino,
				  .no_mounts = rs->o->no_mounts,
				  .ignore = rs->o->ignore};
	struct wr_err e = WR_ERR_INIT;
	struct wr_id tree;

	if (rs->o->no_cache)
		return 0;
	if (wr_statcache_open(rs->repo, source, &rs->cache, &e) < 0)
		rs->cache = NULL; /* a repository that cannot be written to */
	rs->keep = writable && rs->cache;
	rs->use_cache = existed && wr_statcache_root(rs->cache, NULL, &tree, NULL);
	if (rs->guarded) {
		/* The cache is the list of what the snapshot protects. */
		if (rs->use_cache && wr_id_eq(&tree, safety_tree))
			return rs->o->guard ? scan_target(rs, &so, err) : 0;
		wr_err_set(err, WR_E_FAILED, "the stat cache of '%s' could not be written",
			   WR_Q(source));
		return wr_err_hint(err, "is the repository's disk full? --no-safety does without");
	}
	return rs->use_cache ? scan_target(rs, &so, err) : 0;
}

static void
commit_cache(struct wr_rs *rs, const struct wr_id *tree, const struct wr_id *commit)
{
	uint64_t old;
	struct wr_id old_commit;

	if (!rs->keep || rs->keep_failed || !rs->root_block)
		return;
	if (wr_statcache_root(rs->cache, &old, NULL, &old_commit) && old == rs->root_block &&
	    wr_id_eq(&old_commit, commit))
		return;
	wr_statcache_commit(rs->cache, rs->root_block, tree, commit);
	wr_rs_settle_links(rs, tree, commit);
}

/* Does what is made in this directory get ACLs or flags from it? */
static bool
hands_down(int fd)
{
	unsigned flags = 0;

	return fgetxattr(fd, "system.posix_acl_default", NULL, 0) >= 0 ||
	       (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && (flags & WR_ATTR_VISIBLE));
}

static int
walk(struct wr_rs *rs, const struct wr_id *tree, bool existed, struct wr_err *err)
{
	struct wr_rs_dir *d;

	wr_rs_known_links(rs, tree);
	if (rs->o->no_mounts)
		rs->mount = wr_mount_of(rs->root_fd);
	d = wr_rs_dir_new(rs, NULL, NULL, "");
	d->tree = *tree;
	d->existed = existed;
	if (rs->root_fd >= 0) {
		d->fd = openat(rs->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (d->fd < 0 || fstat(d->fd, &d->st) < 0) {
			wr_rs_dir_free(d);
			return wr_err_sys(err, "open the target");
		}
	}
	if (rs->use_cache && !wr_statcache_root(rs->cache, &d->old_block, NULL, NULL))
		d->old_block = 0;
	if (!existed) {
		d->dress = d->differs = true;
		d->inherits = d->fd >= 0 && hands_down(d->fd);
		wr_rs_did(d, NULL, "create", &rs->n.created);
	}
	wr_pool_push(rs->pool, wr_rs_dir_run, d);
	wr_pool_run(rs->pool);
	if (!rs->failed)
		return 0;
	*err = rs->err;
	return -1;
}

static int
sync_target(struct wr_rs *rs, struct wr_err *err)
{
	/* DURABLE: all files of the restore at once, before the cache vouches for them. */
	if (rs->root_fd >= 0 && !rs->o->dry_run && syncfs(rs->root_fd) < 0)
		return wr_err_sys(err, "sync the target");
	wr_crash_point("restore.synced");
	return 0;
}

static int
restore_tree(struct wr_rs *rs, const struct wr_snap *snap, const struct wr_id *tree,
	     const char *dest, struct wr_restore_result *res, struct wr_err *err)
{
	struct wr_listing *l = &rs->worker[0].listing;
	bool existed = false, filled = false, locked, writable;
	struct wr_id safety_tree;
	int rc = -1;

	if (open_target(rs, dest, &existed, res, err) < 0)
		return -1;
	if (existed) {
		if (wr_listing_read(l, rs->root_fd, err) < 0 || lseek(rs->root_fd, 0, SEEK_SET) < 0)
			return wr_err_wrap(err, "'%s'", WR_Q(dest));
		filled = l->count > 0;
	}
	if (lock(rs, filled && may_destroy(rs->o), &locked, err) < 0)
		return -1;
	writable = wr_repo_locked(rs->repo) && wr_id_eq(tree, &snap->tree);
	if (filled && may_destroy(rs->o) &&
	    save_safety(rs, res->target, snap, NULL, res, &safety_tree, err) < 0)
		goto out;
	if (filled && rs->o->guard && take_guard(rs, &safety_tree, err) < 0)
		goto out;
	if (rs->root_fd >= 0 &&
	    open_cache(rs, res->target, filled, writable, &safety_tree, err) < 0)
		goto out;
	if (walk(rs, tree, existed, err) < 0 || sync_target(rs, err) < 0)
		goto out;
	if (!rs->o->dry_run)
		commit_cache(rs, tree, &snap->commit);
	rc = 0;
out:
	if (locked)
		wr_repo_unlock(rs->repo);
	return rc;
}

/* ---- one file ---- */

/* Where the file goes: the directory, open, and the name in it. */
static int
open_place(struct wr_rs *rs, const char *dest, const char *stored, char **out_name,
	   struct wr_restore_result *res, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *dir = wr_strdup(dest);
	WR_SCOPED(wr_freep) char *full = NULL;
	size_t n = strlen(dest);
	char *slash = strrchr(dir, '/');
	struct stat st;

	if (rs->o->dest_fd >= 0) {
		*out_name = wr_strdup(slash ? slash + 1 : dest);
		rs->root_fd = openat(rs->o->dest_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		res->target = wr_strdup(dest);
		return rs->root_fd < 0 ? wr_err_sys(err, "open the directory of '%s'", WR_Q(dest))
				       : 0;
	}
	if (n && dest[n - 1] == '/' && stat(dest, &st) < 0 && errno == ENOENT && !rs->o->dry_run &&
	    make_target(dest, err) < 0)
		return -1;
	if ((n && dest[n - 1] == '/') || (stat(dest, &st) == 0 && S_ISDIR(st.st_mode))) {
		*out_name = wr_strdup(stored);
	} else {
		*out_name = wr_strdup(slash ? slash + 1 : dest);
		if (slash)
			slash[slash == dir] = '\0';
		else
			memcpy(dir, n ? "." : "", n ? 2 : 1);
	}
	rs->root_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	full = realpath(dir, NULL);
	if (rs->root_fd < 0 || !full)
		return wr_err_sys(err, "open '%s'", WR_Q(dir));
	res->target = wr_asprintf("%s%s%s", full, strcmp(full, "/") ? "/" : "", *out_name);
	return refuse_repo(rs, res->target, err);
}

/* Save what lies at the file's place, and nothing else. False: it is not in the snapshot. */
static int
save_place(struct wr_rs *rs, const struct wr_snap *snap, const char *name,
	   struct wr_restore_result *res, bool *out_saved, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *dir = wr_strdup(res->target);
	struct wr_buf pattern = WR_BUF_INIT;
	struct wr_ignore *only = wr_ignore_new(NULL, "");
	struct wr_at at = WR_AT_INIT;
	struct wr_id tree;
	bool locked;
	char *slash = strrchr(dir, '/');
	int rc = -1;

	slash[slash == dir] = '\0';
	wr_buf_adds(&pattern, "!/");
	for (const char *p = name; *p; p++) {
		wr_buf_add8(&pattern, '\\');
		wr_buf_add8(&pattern, (uint8_t)*p);
	}
	if (wr_ignore_add(only, "/*", 2, err) == 0 &&
	    wr_ignore_add(only, (char *)pattern.p, pattern.len, err) == 0 &&
	    lock(rs, true, &locked, err) == 0) {
		rc = save_safety(rs, dir, snap, only, res, &tree, err);
		if (locked)
			wr_repo_unlock(rs->repo);
	}
	if (rc == 0) {
		*out_saved =
		    wr_at_find(rs->worker[0].reader, &tree, name, strlen(name), &at, NULL) == 0;
		wr_at_fini(&at);
	}
	wr_buf_fini(&pattern);
	wr_ignore_unref(only);
	return rc;
}

static int
restore_one(struct wr_rs *rs, const struct wr_snap *snap, const struct wr_dirent *ent,
	    const char *dest, struct wr_restore_result *res, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *name = NULL;
	struct wr_rs_item it = {.want = ent};
	struct wr_rs_dir *d;
	struct stat st;
	bool saved = true;

	res->one_file = rs->lone = true;
	if (open_place(rs, dest, ent->name, &name, res, err) < 0)
		return -1;
	if (!*name || strlen(name) > 255 || !strcmp(name, ".") || !strcmp(name, ".."))
		return wr_err_set(err, WR_E_INVALID, "'%s' is not a place for a file", WR_Q(dest));
	if (fstatat(rs->root_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		it.type = (uint8_t)IFTODT(st.st_mode);
		wr_statkey_of(&st, &rs->alone);
	} else if (errno != ENOENT) {
		return wr_err_sys(err, "stat '%s'", WR_Q(res->target));
	}
	if (it.type == DT_DIR)
		return wr_err_set(err, WR_E_EXISTS, "'%s' is a directory", WR_Q(res->target));
	if (it.type != DT_UNKNOWN && may_destroy(rs->o) && rs->o->overwrite != WR_OVERWRITE_NEVER &&
	    save_place(rs, snap, name, res, &saved, err) < 0)
		return -1;
	it.name = name;
	it.name_len = (uint16_t)strlen(name);
	it.left_out = !saved;
	d = wr_rs_dir_new(rs, NULL, NULL, "");
	d->fd = openat(rs->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d->existed = true;
	if (d->fd < 0 || fstat(d->fd, &d->st) < 0) {
		wr_rs_dir_free(d);
		return wr_err_sys(err, "open the target");
	}
	d->inherits = hands_down(d->fd);
	if (saved)
		wr_rs_entry(d, &it);
	else
		wr_rs_skip(d, name, "the rules leave it out of saves, so it is not overwritten");
	wr_rs_dir_free(d);
	if (rs->failed) {
		*err = rs->err;
		return -1;
	}
	return sync_target(rs, err);
}

int
wr_restore(struct wr_repo *r, const struct wr_snap *snap, const char *path, const char *dest,
	   const struct wr_restore_opts *o, struct wr_restore_result *out, struct wr_err *err)
{
	WR_SCOPED(wr_at_fini) struct wr_at at = WR_AT_INIT;
	struct wr_restore_result res = {0};
	struct wr_rs rs = {0};
	uint64_t start = wr_clock_mono_ns();
	int rc = -1;

	init(&rs, r, o);
	if (!path)
		path = "";
	if (wr_at_find(rs.worker[0].reader, &snap->tree, path, strlen(path), &at, err) == 0)
		rc = at.is_dir ? restore_tree(&rs, snap, &at.tree, dest, &res, err)
			       : restore_one(&rs, snap, at.ent, dest, &res, err);
	if (rc == 0) {
		take_result(&rs, &res);
		res.seconds = (double)(wr_clock_mono_ns() - start) / 1e9;
		*out = res;
	} else {
		if (res.has_safety) {
			struct wr_err e = *err;

			wr_err_hint(err, "%s%swhat was there before is in snapshot %s/%s", e.hint,
				    *e.hint ? "; " : "", WR_SAFETY_BRANCH, res.safety_name);
		}
		take_result(&rs, &res);
		wr_restore_result_fini(&res);
	}
	fini(&rs);
	return rc;
}

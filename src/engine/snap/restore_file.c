/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One entry of a directory that is not a directory itself: is it as wanted already, may it be
 * touched, and if so bring it.  A new name is made directly; one that exists is replaced by a
 * temporary file and rename(2).
 */
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "engine/snap/restore_int.h"
#include "sys/clock.h"
#include "sys/crash.h"
#include "sys/fs.h"

#define NOT_SAFE "not in the safety snapshot"
#define CHANGED_SINCE "changed since the safety snapshot"
#define CHANGED_MEANWHILE "changed meanwhile"

enum diff { DIFF_NONE = 1, DIFF_META, DIFF_ALL };

struct job {
	struct wr_rs *rs;
	struct wr_rs_dir *d;
	struct wr_rs_item *it;
	struct wr_rs_worker *w;
	struct wr_meta want; /* as wanted here */
	uint32_t uid, gid;   /* as stored */
	mode_t type;
	struct wr_id group;    /* of hard links, if want.hardlink is there */
	bool first;            /* we make the group's file */
	struct wr_ts now;      /* inode clock before anything was looked at */
	struct wr_statkey key; /* of what is there */
	dev_t dev;
};

/* What kind of thing the snapshot holds.  The tree says more than the metadata: a record that
 * contradicts it is not believed. */
static mode_t
type_of(const struct wr_dirent *e, const struct wr_meta *m)
{
	if (wr_dirent_kind(e) == WR_KIND_LINK)
		return S_IFLNK;
	if (e->chunked || !m->has_common)
		return S_IFREG;
	switch (m->mode & S_IFMT) {
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		return m->mode & S_IFMT;
	default:
		return S_IFREG;
	}
}

static void
path_of(const struct job *j)
{
	wr_rs_path(j->d, j->it->name, &j->w->path);
}

static void
keep(struct wr_rs_dir *d, struct wr_rs_item *it)
{
	if (it->want)
		d->rs->n.kept++;
	it->state = WR_RS_NOT;
	d->inexact = true;
}

/* ---- may it be touched? ---- */

static bool
same_key(const struct wr_statkey *saved, const struct stat *st)
{
	struct wr_statkey now;

	wr_statkey_of(st, &now);
	/* Our own work on other names of the inode shows in these two. */
	if (saved->nlink > 1) {
		now.nlink = saved->nlink;
		now.ctime_s = saved->ctime_s;
		now.ctime_ns = saved->ctime_ns;
	}
	return memcmp(saved, &now, sizeof(now)) == 0;
}

static int
hash_file(struct wr_rs *rs, int fd, const struct stat *st, struct wr_content_result *out,
	  struct wr_err *err)
{
	struct wr_rs_worker *w = wr_rs_self(rs);

	if (!w->content)
		w->content = wr_content_new(rs->pool, NULL, wr_repo_config(rs->repo)->split_bits);
	return wr_content_fd(w->content, fd, (uint64_t)st->st_size,
			     (uint64_t)st->st_blocks * 512 < (uint64_t)st->st_size, out, err);
}

static int
open_live(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME | O_CLOEXEC);

	if (fd < 0 && errno == EPERM)
		fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	return fd;
}

/* A file that changed in the very tick of its save may have changed again, unseen: compare. */
static bool
still_saved(struct wr_rs_dir *d, const struct wr_rs_item *it, const struct stat *st)
{
	WR_SCOPED(wr_closep) int fd = -1;
	struct wr_content_result res;

	if (it->cached->trusted || !S_ISREG(st->st_mode))
		return true;
	fd = open_live(d->fd, it->name);
	return fd >= 0 && hash_file(d->rs, fd, st, &res, NULL) == 0 &&
	       res.chunked == (bool)it->cached->chunked && wr_id_eq(&res.id, &it->cached->id);
}

bool
wr_rs_may_touch(struct wr_rs_dir *d, struct wr_rs_item *it, const struct stat *st)
{
	struct wr_rs *rs = d->rs;
	const char *why;

	if (it->left_out) {
		keep(d, it);
		return false;
	}
	if (!rs->guarded)
		return true;
	if (rs->lone)
		why = same_key(&rs->alone, st) ? NULL : CHANGED_SINCE;
	else if (!it->cached)
		why = NOT_SAFE;
	else
		why =
		    same_key(&it->cached->key, st) && still_saved(d, it, st) ? NULL : CHANGED_SINCE;
	if (!why)
		return true;
	it->state = WR_RS_NOT;
	wr_rs_skip(d, it->name, why);
	return false;
}

static bool
unlock(const struct wr_rs_dir *d, const char *name)
{
	WR_SCOPED(wr_closep) int fd = open_live(d->fd, name);
	struct stat st;

	/* Another name of the inode may lie outside of what the user has. */
	if (fd >= 0 && d->rs->o->owned && (fstat(fd, &st) < 0 || st.st_nlink > 1))
		return false;
	return fd >= 0 && wr_apply_unlock(fd);
}

/* unlink and rename, also of what is immutable or append-only. */
static int
unlink_any(const struct wr_rs_dir *d, const char *name)
{
	if (unlinkat(d->fd, name, 0) == 0)
		return 0;
	return errno == EPERM && unlock(d, name) ? unlinkat(d->fd, name, 0) : -1;
}

static int
rename_any(const struct wr_rs_dir *d, const char *from, const char *to)
{
	bool again;

	if (renameat(d->fd, from, d->fd, to) == 0)
		return 0;
	if (errno != EPERM)
		return -1;
	again = unlock(d, from);
	again = unlock(d, to) || again;
	errno = EPERM;
	return again ? renameat(d->fd, from, d->fd, to) : -1;
}

bool
wr_rs_remove(struct wr_rs_dir *d, struct wr_rs_item *it)
{
	struct wr_rs *rs = d->rs;
	struct stat st;

	if (!it->want && it->left_out) {
		it->state = WR_RS_NOT; /* no save sees it, so the directory is as wanted */
		return false;
	}
	if (fstatat(d->fd, it->name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno != ENOENT) {
			it->state = WR_RS_NOT;
			wr_rs_skip_sys(d, it->name, "stat");
			return false;
		}
		it->type = DT_UNKNOWN;
		it->state = WR_RS_GONE;
		return true;
	}
	if (!wr_rs_may_touch(d, it, &st))
		return false;
	if (!rs->o->dry_run) {
		wr_rs_touch(d);
		if (unlink_any(d, it->name) < 0) {
			it->state = WR_RS_NOT;
			wr_rs_skip_sys(d, it->name, "remove");
			return false;
		}
		wr_crash_point("restore.deleted");
	}
	wr_rs_did(d, it->name, "delete", &rs->n.deleted);
	it->type = DT_UNKNOWN;
	it->state = WR_RS_GONE;
	return true;
}

/* ---- is it as wanted? ---- */

static bool
same_bytes(struct wr_bytes a, struct wr_bytes b)
{
	return a.p && b.p && a.len == b.len && memcmp(a.p, b.p, a.len) == 0;
}

/* Metadata of the live entry (content is equal): from the snapshot of the cache, else from it. */
static enum diff
compare_meta(struct job *j, int fd, const struct stat *st)
{
	const struct wr_dirent *have = j->it->have;
	struct wr_live live = {.dirfd = j->d->fd, .name = j->it->name, .fd = fd};
	struct wr_meta m;

	if (st) {
		live.st = *st;
		if (wr_fsmeta_read(&live, j->rs->names, &j->w->live, &m, NULL) < 0)
			return DIFF_ALL;
	} else {
		if (!j->rs->apply.names && j->uid == j->want.uid && j->gid == j->want.gid &&
		    same_bytes(have->raw, j->it->want->raw))
			return DIFF_NONE;
		if (wr_dirent_meta(have, &m, &j->w->scratch2, NULL) < 0)
			return DIFF_ALL;
	}
	if ((S_ISCHR(j->type) || S_ISBLK(j->type)) && m.rdev != j->want.rdev)
		return DIFF_ALL;
	return wr_apply_same(&j->rs->apply, &j->want, &m) ? DIFF_NONE : DIFF_META;
}

static bool
same_content(struct job *j, int fd, const struct stat *st)
{
	struct wr_rs_worker *w = j->w;
	struct wr_content_result res;

	if (S_ISLNK(j->type)) {
		struct wr_id id;
		ssize_t n;

		wr_buf_reserve(&w->object, 4097); /* PATH_MAX and one */
		n = readlinkat(j->d->fd, j->it->name, (char *)w->object.p, 4097);
		if (n < 0)
			return false;
		id = wr_obj_id(WR_OBJ_BLOB, w->object.p, (size_t)n);
		return wr_id_eq(&id, &j->it->want->id);
	}
	if (!S_ISREG(j->type))
		return true;
	if (fd < 0 || (j->want.size >= 0 && j->want.size != st->st_size))
		return false;
	return hash_file(j->rs, fd, st, &res, NULL) == 0 && res.chunked == j->it->want->chunked &&
	       wr_id_eq(&res.id, &j->it->want->id);
}

/* Does the cache say what is there?  Without looking right after the safety snapshot, else if the
 * file looks as it did. */
static bool
known(struct job *j, const struct stat *st)
{
	const struct wr_cached *c = j->it->cached;

	if (!c || !c->trusted || !j->it->have)
		return false;
	return st ? same_key(&c->key, st) : j->d->fresh;
}

static enum diff
compare_known(struct job *j)
{
	const struct wr_cached *c = j->it->cached;
	const struct wr_dirent *want = j->it->want, *have = j->it->have;

	j->key = c->key;
	j->dev = j->d->st.st_dev;
	if ((c->key.mode & S_IFMT) != j->type || !wr_id_eq(&c->id, &want->id) ||
	    (bool)c->chunked != want->chunked || !wr_id_eq(&c->id, &have->id))
		return DIFF_ALL;
	return compare_meta(j, -1, NULL);
}

static enum diff
compare(struct job *j)
{
	WR_SCOPED(wr_closep) int fd = -1;
	struct stat st;

	if (j->rs->o->overwrite != WR_OVERWRITE_ALWAYS && known(j, NULL))
		return compare_known(j);
	if (fstatat(j->d->fd, j->it->name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		memset(&j->key, 0, sizeof(j->key));
		return DIFF_ALL;
	}
	wr_statkey_of(&st, &j->key);
	j->dev = st.st_dev;
	if (j->rs->o->overwrite == WR_OVERWRITE_ALWAYS || (st.st_mode & S_IFMT) != j->type)
		return DIFF_ALL;
	if (known(j, &st))
		return compare_known(j);
	if (S_ISREG(st.st_mode)) {
		fd = open_live(j->d->fd, j->it->name);
		if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
			return DIFF_ALL;
		wr_statkey_of(&st, &j->key);
	}
	if (!same_content(j, fd, &st))
		return DIFF_ALL;
	return compare_meta(j, fd, &st);
}

/* ---- bringing it ---- */

/* The stored state in all that a stat shows; otherwise the directory is not what its tree says. */
static bool
exact(const struct job *j)
{
	const struct wr_statkey *k = &j->it->key;
	const struct wr_meta *m = &j->want;

	return m->has_common && k->uid == j->uid && k->gid == j->gid && k->mtime_s == m->mtime.s &&
	       k->mtime_ns == m->mtime.ns && (S_ISLNK(j->type) || k->mode == m->mode);
}

static void
settle(struct job *j, const struct wr_statkey *key, struct wr_ts now)
{
	struct wr_rs_item *it = j->it;

	it->key = *key;
	it->trusted = !wr_stat_racy(key, now);
	it->link_hash =
	    j->want.hardlink.p ? wr_link_hash(j->want.hardlink.p, j->want.hardlink.len) : 0;
	it->state = WR_RS_DONE;
	if (!exact(j))
		j->d->inexact = true;
}

static void
end_group(struct job *j, bool made, dev_t dev, ino_t ino)
{
	if (!j->first)
		return;
	if (made) {
		path_of(j);
		wr_relinks_done(j->rs->links, &j->group, wr_buf_str(&j->w->path), j->w->path.len,
				dev, ino);
	} else {
		wr_relinks_failed(j->rs->links, &j->group);
	}
	j->first = false;
}

static void
give_up(struct job *j, const char *what)
{
	j->it->state = WR_RS_NOT;
	wr_rs_skip_sys(j->d, j->it->name, what);
}

/* Set metadata and see what came of it; a wrong guess of what creation gives is put right. */
static int
dress(struct job *j, struct wr_apply_to *p, struct stat *st)
{
	struct wr_err err = WR_ERR_INIT;
	unsigned lost = 0;

	for (int round = 0;; round++) {
		if (wr_apply_meta(&j->rs->apply, p, &j->want, &lost, &err) < 0) {
			j->it->state = WR_RS_NOT;
			wr_rs_skip_err(j->d, j->it->name, &err);
			return -1;
		}
		if ((p->fd >= 0 ? fstat(p->fd, st)
		     : p->held  ? fstat(p->held_fd, st)
				: fstatat(p->dirfd, p->name, st, AT_SYMLINK_NOFOLLOW)) < 0) {
			give_up(j, "stat");
			return -1;
		}
		if (round || (st->st_uid == p->st.st_uid && st->st_gid == p->st.st_gid &&
			      (S_ISLNK(j->type) || st->st_mode == p->st.st_mode)))
			break;
		p->st = *st;
		p->inherits = true;
	}
	if (lost)
		wr_rs_lost(j->d, j->it->name, lost);
	return 0;
}

/*
 * Hold what is neither a regular file nor a directory, so that its metadata goes to it and to
 * nothing that its user puts in its place.  st: as it should look, at least its type.
 */
static int
hold(struct job *j, struct wr_apply_to *p, const struct stat *st)
{
	struct stat now;

	if (!j->rs->o->owned)
		return 0;
	p->held_fd = openat(p->dirfd, p->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	p->held = p->held_fd >= 0;
	if (p->held && fstat(p->held_fd, &now) == 0 && (now.st_mode & S_IFMT) == j->type &&
	    now.st_nlink == 1 && (!st || (now.st_ino == st->st_ino && now.st_dev == st->st_dev)))
		return 0;
	j->it->state = WR_RS_NOT;
	wr_rs_skip(j->d, j->it->name, CHANGED_MEANWHILE);
	return -1;
}

static void
let_go(struct wr_apply_to *p)
{
	if (p->held)
		close(p->held_fd);
	p->held = false;
}

static int
dress_held(struct job *j, struct wr_apply_to *p, struct stat *st)
{
	int rc = hold(j, p, NULL);

	if (rc == 0) {
		rc = dress(j, p, st);
		if (rc < 0)
			unlinkat(p->dirfd, p->name, 0);
	}
	let_go(p);
	return rc;
}

static int
make_file(struct job *j, const char *name, mode_t mode, struct wr_apply_to *p, struct stat *st)
{
	struct wr_err err = WR_ERR_INIT;
	uint64_t bytes;
	bool damaged;
	int rc;

	p->fd = openat(j->d->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (p->fd < 0) {
		give_up(j, "create");
		return -1;
	}
	rc = wr_rs_content(j->rs, p->fd, &j->it->want->id, j->it->want->chunked, &bytes, &damaged,
			   &err);
	if (rc < 0) {
		j->it->state = WR_RS_NOT;
		if (!damaged)
			wr_err_wrap(&err, "'%s'", WR_Q(j->it->name));
		wr_rs_skip_err(j->d, j->it->name, &err);
	} else {
		rc = dress(j, p, st);
	}
	close(p->fd);
	if (rc < 0)
		unlinkat(j->d->fd, name, 0);
	else
		j->rs->n.bytes += bytes;
	return rc;
}

static int
make_link(struct job *j, const char *name, struct wr_apply_to *p, struct stat *st)
{
	const struct wr_id *want = &j->it->want->id;
	struct wr_buf *b = &j->w->object;
	struct wr_err err = WR_ERR_INIT;
	struct wr_id id = wr_obj_id(WR_OBJ_BLOB, j->want.symlink.p, j->want.symlink.len);
	enum wr_obj_type type;

	/* The record repeats the target; it is taken if it is the same. */
	wr_buf_clear(b);
	if (j->want.symlink.p && wr_id_eq(&id, want))
		wr_buf_add(b, j->want.symlink.p, j->want.symlink.len);
	else if (wr_repo_read(j->w->reader, want, WR_OBJ_BLOB, false, &type, b, &err) < 0)
		goto damaged;
	if (!b->len || memchr(b->p, '\0', b->len)) {
		wr_err_set(&err, WR_E_CORRUPT, "blob %s: not the target of a link",
			   wr_id_hex(want).s);
		goto damaged;
	}
	if (symlinkat(wr_buf_str(b), j->d->fd, name) < 0) {
		give_up(j, "create link");
		return -1;
	}
	return dress_held(j, p, st);
damaged:
	j->it->state = WR_RS_NOT;
	wr_rs_skip_err(j->d, j->it->name, &err);
	return -1;
}

/* Make the entry under this name, complete with metadata. */
static int
make(struct job *j, const char *name, struct stat *st)
{
	const struct wr_apply *a = &j->rs->apply;
	bool setgid = j->d->st.st_mode & S_ISGID;
	gid_t gid = setgid ? j->d->st.st_gid : a->gid;
	mode_t mode = wr_apply_create_mode(a, &j->want, gid);
	struct wr_apply_to p = {.dirfd = j->d->fd, .name = name, .fd = -1};
	dev_t dev = (dev_t)j->want.rdev;

	p.fresh = true;
	p.inherits = j->d->inherits;
	p.st.st_mode = j->type | (mode & ~a->umask);
	p.st.st_uid = a->uid;
	p.st.st_gid = gid;
	if (S_ISREG(j->type))
		return make_file(j, name, mode, &p, st);
	if (S_ISLNK(j->type))
		return make_link(j, name, &p, st);
	if (j->rs->o->owned && (S_ISCHR(j->type) || S_ISBLK(j->type))) {
		j->it->state = WR_RS_NOT;
		wr_rs_skip(j->d, j->it->name, "device nodes are not made for users");
		return -1;
	}
	if (mknodat(j->d->fd, name, j->type | mode,
		    S_ISCHR(j->type) || S_ISBLK(j->type) ? dev : 0) < 0) {
		j->it->state = WR_RS_NOT;
		if (errno == EPERM && !a->root)
			wr_rs_skip(j->d, j->it->name, "only root can make device nodes");
		else
			wr_rs_skip_sys(j->d, j->it->name, "create");
		return -1;
	}
	return dress_held(j, &p, st);
}

/* Link to the group's file, or make an own one where that cannot be done. */
static int
make_or_link(struct job *j, const char *name, const struct wr_relink_at *at, struct stat *st)
{
	if (!at)
		return make(j, name, st);
	if (wr_relinks_make(j->rs->root_fd, at, j->d->fd, name) == 0) {
		if (fstatat(j->d->fd, name, st, AT_SYMLINK_NOFOLLOW) == 0)
			return 0;
		give_up(j, "stat");
		return -1;
	}
	if (make(j, name, st) < 0)
		return -1;
	/* Later names join this one: the other has as many links as can be, or is gone. */
	j->first = true;
	return 0;
}

/* Move the finished temporary over what is there, unless that has changed by now. */
static int
put_over(struct job *j, const char *tmp, struct stat *st)
{
	struct wr_rs_dir *d = j->d;
	struct wr_rs_item *it = j->it;
	struct stat now;

	if (fstatat(d->fd, it->name, &now, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno != ENOENT) {
			give_up(j, "stat");
			return -1;
		}
	} else if (!wr_rs_may_touch(d, it, &now)) {
		return -1;
	}
	if (rename_any(d, tmp, it->name) < 0) {
		give_up(j, "rename");
		return -1;
	}
	wr_crash_point("restore.renamed");
	/* The rename shows in its change time. */
	if (fstatat(d->fd, it->name, st, AT_SYMLINK_NOFOLLOW) < 0) {
		give_up(j, "stat");
		return -1;
	}
	return 0;
}

/* Immutable and append-only, which had to wait for the rename. */
static int
put_locks(struct job *j, uint64_t locks, struct stat *st)
{
	WR_SCOPED(wr_closep) int fd = open_live(j->d->fd, j->it->name);
	struct stat now;

	if (fd < 0 || fstat(fd, &now) < 0 || now.st_ino != st->st_ino) {
		give_up(j, "open");
		return -1;
	}
	if ((j->rs->o->owned && now.st_nlink > 1) || !wr_apply_lock(fd, locks))
		wr_rs_lost(j->d, j->it->name, WR_LOST_FLAGS);
	return fstat(fd, st);
}

static void
bring(struct job *j, const struct wr_relink_at *at)
{
	struct wr_rs *rs = j->rs;
	struct wr_rs_dir *d = j->d;
	struct wr_rs_item *it = j->it;
	bool replace = it->type != DT_UNKNOWN;
	char tmp[WR_RS_TMP_LEN + 1];
	struct wr_statkey key;
	struct stat st;
	struct wr_ts now = wr_clock_inode();
	uint64_t locks = replace ? wr_apply_locks(&j->want) : 0;
	int rc = 0;

	j->want.attr &= ~locks;
	if (replace) {
		/* Ask now, so that nothing is written in vain. */
		if (fstatat(d->fd, it->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    !wr_rs_may_touch(d, it, &st)) {
			end_group(j, false, 0, 0);
			return;
		}
		wr_random_name(tmp, sizeof(tmp), WR_RS_TMP_PREFIX);
	}
	if (rs->o->dry_run) {
		it->state = WR_RS_PLANNED;
		st.st_dev = 0;
		st.st_ino = 0;
	} else {
		wr_rs_touch(d);
		rc = make_or_link(j, replace ? tmp : it->name, at, &st);
		if (rc == 0)
			wr_crash_point("restore.file-written");
		if (rc == 0 && replace) {
			now = wr_clock_inode();
			rc = put_over(j, tmp, &st);
			if (rc < 0)
				(void)unlink_any(d, tmp); /* the next restore tries again */
			else if (locks)
				rc = put_locks(j, locks, &st);
		}
		if (rc == 0) {
			wr_statkey_of(&st, &key);
			settle(j, &key, now);
		}
	}
	end_group(j, rc == 0, st.st_dev, st.st_ino);
	if (rc == 0)
		wr_rs_did(d, it->name, replace ? "replace" : "create",
			  replace ? &rs->n.replaced : &rs->n.created);
}

/* Content is right, metadata is not, and the inode has no other name. */
static void
update(struct job *j)
{
	struct wr_rs_dir *d = j->d;
	struct wr_rs_item *it = j->it;
	struct wr_apply_to p = {.dirfd = d->fd, .name = it->name, .fd = -1};
	struct wr_ts now = wr_clock_inode();
	struct wr_statkey key;
	struct stat st;

	if (fstatat(d->fd, it->name, &p.st, AT_SYMLINK_NOFOLLOW) < 0) {
		give_up(j, "stat");
		return;
	}
	if (!wr_rs_may_touch(d, it, &p.st))
		return;
	if (j->rs->o->dry_run) {
		it->state = WR_RS_PLANNED;
	} else {
		if (S_ISREG(j->type)) {
			p.fd = open_live(d->fd, it->name);
			if (p.fd >= 0 ? fstat(p.fd, &st) < 0 || st.st_ino != p.st.st_ino ||
					    !same_key(&j->key, &st)
				      : j->rs->o->owned) {
				wr_closep(&p.fd);
				it->state = WR_RS_NOT;
				wr_rs_skip(d, it->name, CHANGED_MEANWHILE);
				return;
			}
		} else if (hold(j, &p, &p.st) < 0) {
			let_go(&p);
			return;
		}
		if (dress(j, &p, &st) == 0) {
			wr_statkey_of(&st, &key);
			settle(j, &key, now);
		}
		wr_closep(&p.fd);
		let_go(&p);
		if (it->state != WR_RS_DONE)
			return;
	}
	wr_rs_did(d, it->name, "metadata", &j->rs->n.metadata);
}

/* ---- deciding ---- */

/* Is this inode the one that the group, or the lone file, should be? */
static bool
right_inode(struct job *j, struct wr_relink_at *at, bool *out_linked)
{
	bool group = j->want.hardlink.p != NULL;

	*out_linked = false;
	if (!group)
		return j->key.nlink <= 1 ||
		       wr_relinks_take_inode(j->rs->links, j->dev, j->key.ino, NULL);
	j->first = wr_relinks_claim(j->rs->links, &j->group, at);
	if (j->first)
		return wr_relinks_take_inode(j->rs->links, j->dev, j->key.ino, &j->group);
	*out_linked = true;
	return at->dev == j->dev && at->ino == j->key.ino;
}

static void
settle_existing(struct job *j)
{
	struct wr_rs *rs = j->rs;
	enum wr_overwrite mode = rs->o->overwrite;
	struct wr_relink_at at = {0};
	struct wr_ts mtime;
	bool linked = false;
	enum diff diff;

	if (j->it->left_out || mode == WR_OVERWRITE_NEVER) {
		keep(j->d, j->it);
		return;
	}
	diff = compare(j);
	if (diff == DIFF_META && j->key.nlink > 1)
		diff = DIFF_ALL; /* the inode's other names are none of ours */
	if (diff == DIFF_NONE) {
		if (!right_inode(j, &at, &linked))
			diff = DIFF_ALL;
	} else if (j->want.hardlink.p) {
		j->first = wr_relinks_claim(rs->links, &j->group, &at);
		linked = !j->first;
		if (linked)
			diff = DIFF_ALL; /* it becomes a name of the group's file */
	}
	mtime = (struct wr_ts){j->key.mtime_s, j->key.mtime_ns};
	if (diff != DIFF_NONE && mode == WR_OVERWRITE_NEWER &&
	    wr_ts_cmp(mtime, j->want.mtime) >= 0) {
		end_group(j, false, 0, 0);
		keep(j->d, j->it);
	} else if (diff == DIFF_NONE) {
		settle(j, &j->key, j->now);
		if (known(j, NULL))
			j->it->trusted = true; /* it was looked at before */
		end_group(j, true, j->dev, j->key.ino);
		rs->n.unchanged++;
	} else if (diff == DIFF_META) {
		update(j);
		end_group(j, j->it->state == WR_RS_DONE, j->dev, j->key.ino);
	} else {
		bring(j, linked ? &at : NULL);
	}
	free(at.path);
}

static void
settle_absent(struct job *j)
{
	struct wr_relink_at at = {0};
	bool linked = false;

	if (j->want.hardlink.p) {
		j->first = wr_relinks_claim(j->rs->links, &j->group, &at);
		linked = !j->first;
	}
	bring(j, linked ? &at : NULL);
	free(at.path);
}

void
wr_rs_entry(struct wr_rs_dir *d, struct wr_rs_item *it)
{
	struct wr_rs *rs = d->rs;
	struct job j = {.rs = rs, .d = d, .it = it, .w = wr_rs_self(rs), .now = wr_clock_inode()};
	struct wr_err err = WR_ERR_INIT;

	if (rs->failed)
		return;
	if (!it->want) {
		(void)wr_rs_remove(d, it);
		return;
	}
	rs->n.files++;
	if (wr_dirent_meta(it->want, &j.want, &j.w->scratch, &err) < 0) {
		it->state = WR_RS_NOT;
		wr_rs_skip_err(d, it->name, &err);
		return;
	}
	j.uid = j.want.uid;
	j.gid = j.want.gid;
	j.type = type_of(it->want, &j.want);
	wr_apply_want(&rs->apply, j.type, &j.want);
	if (j.want.hardlink.p)
		wr_relink_group(&j.want, &it->want->id, it->want->chunked, &j.group);
	if (it->type == DT_UNKNOWN)
		settle_absent(&j);
	else
		settle_existing(&j);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Walking trees that users may be changing; what is done to whole trees. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/snap/listing.h"
#include "host/task/worker_int.h"
#include "sys/beneath.h"
#include "sys/fs.h"

/* LIMIT: directories within each other, one descriptor each. */
#define DEPTH_MAX 4000
#define GATHER_DEPTH 500

/* ---- the walk ---- */

struct level {
	struct wr_listing list;
	struct wr_met met; /* of the directory itself */
	char *name;        /* storage of met.name */
	size_t path_len;
	size_t next;
};

struct walk {
	struct level *level;
	size_t depth, cap;
	struct wr_buf path;
	unsigned flags;
	wr_met_fn fn;
	void *ctx;
	struct wr_notes *skipped;
};

static void
skip(struct walk *w, const char *reason)
{
	if (w->skipped)
		wr_notes_add(w->skipped, w->path.len ? (char *)w->path.p : ".",
			     w->path.len ? w->path.len : 1, reason, 0);
}

static const char *
reason_of(const struct wr_err *e)
{
	if (e->code == WR_E_DENIED && !e->sys_errno)
		return "another mount";
	switch (e->sys_errno) {
	case EACCES:
	case EPERM:
		return "permission denied";
	case EMFILE:
	case ENFILE:
		return "too many directories within each other";
	default:
		return "cannot be read";
	}
}

/* A level for the open directory met->fd, which it takes. False: it cannot be listed. */
static bool
push(struct walk *w, const struct wr_met *met, const char *name)
{
	struct wr_err e = WR_ERR_INIT;
	struct level *l;

	if (w->depth == DEPTH_MAX) {
		skip(w, "too many directories within each other");
		return false;
	}
	wr_grow(&w->level, &w->cap, w->depth + 1, sizeof(*w->level));
	l = &w->level[w->depth];
	*l = (struct level){.list = WR_LISTING_INIT, .met = *met, .path_len = w->path.len};
	/* The start may have been listed before. */
	if (lseek(met->fd, 0, SEEK_SET) < 0 || wr_listing_read(&l->list, met->fd, &e) < 0) {
		skip(w, reason_of(&e));
		wr_listing_fini(&l->list);
		return false;
	}
	l->name = wr_strdup(name);
	l->met.name = l->name;
	w->depth++;
	return true;
}

static void
pop(struct walk *w)
{
	struct level *l = &w->level[--w->depth];

	wr_listing_fini(&l->list);
	free(l->name);
	if (w->depth)
		close(l->met.fd);
}

/* Only what is ours: for those who may act as any owner nothing has to be done. */
static void
make_passable(int dirfd, const char *name)
{
	WR_SCOPED(wr_closep) int fd = wr_beneath_open(dirfd, name, O_PATH | O_DIRECTORY, 0, NULL);
	char held[40];
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & 0700) == 0700)
		return;
	snprintf(held, sizeof(held), "/proc/self/fd/%d", fd);
	if (chmod(held, 0700) < 0)
		return; /* opening it says what is wrong */
}

/* Open one entry as what it is. -1: noted, or gone. */
static int
open_entry(struct walk *w, int dirfd, const struct wr_name *e)
{
	struct wr_err err = WR_ERR_INIT;
	int fd = -1;

	if (e->type == DT_DIR && (w->flags & WR_WALK_FORCE))
		make_passable(dirfd, e->name);
	if (e->type == DT_DIR)
		fd = wr_beneath_open(dirfd, e->name, O_RDONLY | O_DIRECTORY | O_NONBLOCK, 0, &err);
	if (fd < 0 && (e->type != DT_DIR || err.sys_errno == ENOTDIR || !err.sys_errno)) {
		wr_err_clear(&err);
		fd = wr_beneath_open(dirfd, e->name, O_PATH, 0, &err);
	}
	if (fd < 0 && err.sys_errno != ENOENT)
		skip(w, reason_of(&err));
	return fd;
}

/* It was no directory when it was listed. */
static int
reopen_dir(int fd)
{
	int dir = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	close(fd);
	return dir;
}

static int
visit(struct walk *w, const struct wr_name *e, struct wr_err *err)
{
	const struct level *up = &w->level[w->depth - 1];
	struct wr_met m = {.dirfd = up->met.fd, .name = e->name};
	int rc;

	m.fd = open_entry(w, m.dirfd, e);
	if (m.fd < 0)
		return 0;
	if (fstat(m.fd, &m.st) < 0) {
		close(m.fd);
		return wr_err_sys(err, "stat '%s'", WR_Q(e->name));
	}
	if (S_ISDIR(m.st.st_mode) && e->type != DT_DIR && (m.fd = reopen_dir(m.fd)) < 0) {
		skip(w, "cannot be read");
		return 0;
	}
	m.path = wr_buf_str(&w->path);
	m.path_len = w->path.len;
	rc = w->fn(w->ctx, &m, false, err);
	if (rc == 0 && S_ISDIR(m.st.st_mode) && push(w, &m, e->name))
		return 0;
	close(m.fd);
	return rc < 0 ? -1 : 0;
}

static int
leave(struct walk *w, struct wr_err *err)
{
	struct level *l = &w->level[w->depth - 1];
	int rc = 0;

	w->path.len = l->path_len;
	if (w->flags & WR_WALK_AFTER) {
		struct wr_met m = l->met;

		m.path = wr_buf_str(&w->path);
		m.path_len = w->path.len;
		rc = w->fn(w->ctx, &m, true, err);
	}
	pop(w);
	return rc < 0 ? -1 : 0;
}

int
wr_walk(int fd, unsigned flags, wr_met_fn fn, void *ctx, struct wr_notes *skipped,
	struct wr_err *err)
{
	struct walk w = {.flags = flags, .fn = fn, .ctx = ctx, .skipped = skipped};
	struct wr_met m = {.dirfd = -1, .name = "", .path = "", .fd = fd};
	int rc = 0;

	if (fstat(fd, &m.st) < 0)
		return wr_err_sys(err, "stat the directory");
	rc = fn(ctx, &m, false, err);
	if (rc == 0)
		(void)push(&w, &m, ""); /* the reason is in skipped */
	while (rc >= 0 && w.depth) {
		struct level *l = &w.level[w.depth - 1];

		w.path.len = l->path_len;
		if (l->next == l->list.count) {
			rc = leave(&w, err);
			continue;
		}
		if (w.path.len)
			wr_buf_add8(&w.path, '/');
		wr_buf_adds(&w.path, l->list.ent[l->next].name);
		rc = visit(&w, &l->list.ent[l->next++], err);
	}
	while (w.depth)
		pop(&w);
	free(w.level);
	wr_buf_fini(&w.path);
	return rc < 0 ? -1 : 0;
}

/* ---- owners ---- */

struct owning {
	uid_t uid, from;
	gid_t gid;
	uint64_t seen, changed;
	struct wr_notes left;
};

/* The thing itself is held, so whatever its user does with names meanwhile, it is this one. */
static int
own(void *ctx, const struct wr_met *m, bool after, struct wr_err *err)
{
	struct owning *o = ctx;
	const struct stat *st = &m->st;
	const bool dir = S_ISDIR(st->st_mode), ours = st->st_uid == o->uid || st->st_uid == o->from;
	const char *path = m->path_len ? m->path : ".";
	char at[40];

	(void)after;
	(void)err;
	wr_worker_progress(NULL, "chown", ++o->seen, 0, 0, 0);
	if (st->st_uid == o->uid && st->st_gid == o->gid)
		return 0;
	if (!dir && st->st_nlink > 1 && !ours) {
		wr_notes_add(&o->left, path, strlen(path), "a hard link to another user's file", 0);
		return 0;
	}
	if (fchownat(m->fd, "", o->uid, o->gid, AT_EMPTY_PATH) < 0) {
		wr_notes_add(&o->left, path, strlen(path),
			     errno == EPERM ? "not permitted" : "the owner cannot be set", 0);
		return 0;
	}
	o->changed++;
	/* The kernel has dropped set-id bits; those of the user himself come back. */
	if (ours && S_ISREG(st->st_mode) && (st->st_mode & (S_ISUID | S_ISGID))) {
		snprintf(at, sizeof(at), "/proc/self/fd/%d", m->fd);
		(void)chmod(at, st->st_mode & 07777); /* the owner is what was asked for */
	}
	return 0;
}

json_t *
wr_work_chown(struct wr_worker *w, struct wr_err *err)
{
	struct owning o = {
	    .uid = (uid_t)wr_json_get_u64(w->args, "uid", w->uid),
	    .gid = (gid_t)wr_json_get_u64(w->args, "gid", w->gid),
	};
	json_t *out = NULL;

	o.from = (uid_t)wr_json_get_u64(w->args, "from_uid", o.uid);
	if (wr_walk(WR_WORKER_TREE, 0, own, &o, &o.left, err) == 0) {
		out = json_object();
		wr_json_u64(out, "changed", o.changed);
		wr_receipt_notes(out, "left", &o.left);
	}
	wr_notes_fini(&o.left);
	return out;
}

/* ---- numbers ---- */

struct marking {
	uint32_t number;
	uid_t uid;
	uint64_t seen, marked;
	struct wr_notes left;
};

/* Others of its kind, as links and devices, hold nothing that is worth a limit. */
static int
mark_fd(struct marking *k, const struct wr_met *m)
{
	WR_SCOPED(wr_closep) int own = -1;
	struct fsxattr x;
	struct stat st;
	int fd = m->fd;

	if (S_ISREG(m->st.st_mode)) {
		own = openat(m->dirfd, m->name,
			     O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		fd = own;
		/* It may have been exchanged since. */
		if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
		    (st.st_nlink > 1 && st.st_uid != k->uid))
			return -1;
	}
	if (ioctl(fd, FS_IOC_FSGETXATTR, &x) < 0)
		return -1;
	if (x.fsx_projid == k->number &&
	    (!S_ISDIR(m->st.st_mode) || (x.fsx_xflags & FS_XFLAG_PROJINHERIT)))
		return 0;
	x.fsx_projid = k->number;
	if (S_ISDIR(m->st.st_mode))
		x.fsx_xflags |= FS_XFLAG_PROJINHERIT;
	if (ioctl(fd, FS_IOC_FSSETXATTR, &x) < 0)
		return -1;
	k->marked++;
	return 0;
}

static int
mark(void *ctx, const struct wr_met *m, bool after, struct wr_err *err)
{
	struct marking *k = ctx;
	const bool top = m->dirfd < 0;
	const char *path = top ? "." : m->path;

	/* Directories before what is in them, so that what is made meanwhile has it. */
	if (after != top || (!S_ISREG(m->st.st_mode) && !S_ISDIR(m->st.st_mode)))
		return 0;
	wr_worker_progress(NULL, "set_quota", ++k->seen, 0, 0, 0);
	if (mark_fd(k, m) == 0)
		return 0;
	if (top)
		return wr_err_sys(err, "give the working files their number");
	wr_notes_add(&k->left, path, strlen(path), "it cannot be given the number", 0);
	return 0;
}

json_t *
wr_work_mark(struct wr_worker *w, struct wr_err *err)
{
	struct marking k = {.number = (uint32_t)wr_json_get_u64(w->args, "number", 0),
			    .uid = w->uid};
	json_t *out = NULL;

	if (!k.number) {
		wr_err_set(err, WR_E_INVALID, "number: missing");
		return NULL;
	}
	if (wr_walk(WR_WORKER_TREE, WR_WALK_AFTER, mark, &k, &k.left, err) == 0) {
		out = json_object();
		wr_json_u64(out, "marked", k.marked);
		wr_receipt_notes(out, "left", &k.left);
	}
	wr_notes_fini(&k.left);
	return out;
}

/* ---- removing ---- */

struct removing {
	int top;
	uint64_t files, bytes, moved;
};

static bool
unlock(int dirfd, const char *name)
{
	WR_SCOPED(wr_closep) int fd = -1;
	unsigned flags = 0;
	struct stat st;

	fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || (!S_ISDIR(st.st_mode) && st.st_nlink > 1) ||
	    ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0 ||
	    !(flags & (unsigned)(FS_IMMUTABLE_FL | FS_APPEND_FL)))
		return false;
	flags &= ~(unsigned)(FS_IMMUTABLE_FL | FS_APPEND_FL);
	return ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0;
}

static int
unlink_any(int dirfd, const char *name, int flags, struct wr_err *err)
{
	if (unlinkat(dirfd, name, flags) == 0 || errno == ENOENT)
		return 0;
	if (errno == EPERM) {
		bool here = unlock(dirfd, "."), it = unlock(dirfd, name);

		if ((here || it) && unlinkat(dirfd, name, flags) == 0)
			return 0;
		errno = EPERM;
	}
	return wr_err_sys(err, "remove '%s'", WR_Q(name));
}

static int
remove_one(void *ctx, const struct wr_met *m, bool after, struct wr_err *err)
{
	struct removing *r = ctx;
	const bool dir = S_ISDIR(m->st.st_mode);
	char name[40];

	if (m->dirfd < 0)
		return 0;
	if (dir && !after) {
		size_t depth = 0;

		for (size_t i = 0; i < m->path_len; i++)
			depth += m->path[i] == '/';
		if (depth < GATHER_DEPTH)
			return 0;
		/* Deeper than descriptors reach: it goes on from the top, in the next round. */
		wr_random_name(name, sizeof(name), "deep-");
		if (renameat(m->dirfd, m->name, r->top, name) < 0)
			return wr_err_sys(err, "move '%s'", WR_Q(m->name));
		r->moved++;
		return 1;
	}
	wr_worker_progress(NULL, "purge", ++r->files, 0, r->bytes, 0);
	if (m->st.st_nlink == 1)
		r->bytes += (uint64_t)m->st.st_blocks * 512;
	return unlink_any(m->dirfd, m->name, dir ? AT_REMOVEDIR : 0, err);
}

json_t *
wr_work_remove(struct wr_worker *w, struct wr_err *err)
{
	const char *name = wr_json_get_str(w->args, "name", NULL);
	struct removing r = {.top = -1};
	struct wr_notes skipped = {0};
	uint64_t moved;
	json_t *o = NULL;
	int rc;

	if (wr_worker_name(name, err) < 0)
		return NULL;
	make_passable(WR_WORKER_SOURCE, name);
	r.top = wr_beneath_open(WR_WORKER_SOURCE, name, O_RDONLY | O_DIRECTORY, 0, err);
	if (r.top < 0)
		return NULL;
	do {
		moved = r.moved;
		rc = wr_walk(r.top, WR_WALK_AFTER | WR_WALK_FORCE, remove_one, &r, &skipped, err);
	} while (rc == 0 && r.moved != moved);
	if (rc == 0 && skipped.count) {
		rc = wr_err_set(err, WR_E_FAILED, "'%s/%s': %s", name,
				wr_quote(skipped.note[0].path, skipped.note[0].path_len).s,
				skipped.note[0].reason);
	}
	if (rc == 0)
		rc = unlink_any(WR_WORKER_SOURCE, name, AT_REMOVEDIR, err);
	if (rc == 0)
		rc = wr_fsync_dir(WR_WORKER_SOURCE, ".", err);
	if (rc == 0) {
		o = json_object();
		wr_json_u64(o, "files", r.files);
		wr_json_u64(o, "bytes", r.bytes);
	}
	wr_notes_fini(&skipped);
	wr_closep(&r.top);
	return o;
}

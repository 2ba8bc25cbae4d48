/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tree a second time, on the same file system, without reading what is in its files: btrfs lets
 * two files share their data (FICLONE), also over the border of a subvolume, which no file can be
 * moved over.
 *
 * All or nothing: the copy is as the tree is, to the last attribute that can be seen (trusted.*
 * only by who may do everything, so in no snapshot either), or there is an error that says where it
 * could not be.  Who compares the two afterwards learns if anybody wrote meanwhile.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "base/str.h"
#include "engine/snap/fsmeta.h"
#include "host/task/worker_int.h"
#include "sys/beneath.h"
#include "sys/clock.h"
#include "sys/fs.h"

/* LIMIT: of the kernel, for the names of all extended attributes, and for one value. */
#define XATTR_MOST 65536
/* Data of smaller files lies within the metadata, which is not shared. */
#define INLINE_MOST 2048
/* Set where there is no data yet, or they are refused later. */
#define FLAGS_EARLY                                                                           \
	((unsigned)(FS_NOCOW_FL | FS_COMPR_FL | FS_NOCOMP_FL | FS_NODUMP_FL | FS_NOATIME_FL | \
		    FS_SYNC_FL | FS_DIRSYNC_FL))
/* These keep out even us. They come last; of the tree itself they would keep another from taking
 * its place. */
#define FLAGS_LATE ((unsigned)(FS_IMMUTABLE_FL | FS_APPEND_FL))

/* An inode with several names: where it lies in the copy. */
struct linked {
	dev_t dev;
	ino_t ino;
	nlink_t left; /* names that were not met yet */
	char *path;
};

struct cloning {
	int *dir; /* directories of the copy: the way to where the walk is */
	size_t depth, cap;
	struct linked *link; /* a hash table; path NULL: free */
	size_t link_count, link_cap;
	struct wr_buf names, value;
	uint64_t files, bytes;
	dev_t dev;
	bool compare;       /* nothing is made */
	struct wr_ts since; /* compare: whatever has changed since then */
};

/* ---- messages ---- */

static int
cannot(const struct wr_met *m, const char *why, struct wr_err *err)
{
	return wr_err_set(err, WR_E_UNSUPPORTED, "'%s' %s",
			  m->path_len ? wr_quote(m->path, m->path_len).s : ".", why);
}

static int
cannot_sys(const struct wr_met *m, const char *what, struct wr_err *err)
{
	wr_err_sys(err, "%s of '%s'", what, m->path_len ? wr_quote(m->path, m->path_len).s : ".");
	return -1;
}

/* ---- inodes with several names ---- */

static size_t
slot_of(const struct cloning *c, dev_t dev, ino_t ino)
{
	size_t i = (size_t)((ino ^ dev << 20) * UINT64_C(0x9e3779b97f4a7c15) >> 20);

	for (i &= c->link_cap - 1; c->link[i].path; i = (i + 1) & (c->link_cap - 1))
		if (c->link[i].ino == ino && c->link[i].dev == dev)
			break;
	return i;
}

static struct linked *
linked_find(struct cloning *c, const struct stat *st)
{
	struct linked *l = c->link_cap ? &c->link[slot_of(c, st->st_dev, st->st_ino)] : NULL;

	return l && l->path ? l : NULL;
}

static void
linked_add(struct cloning *c, const struct wr_met *m)
{
	struct linked *old = c->link;
	const size_t old_cap = c->link_cap;

	if (2 * (c->link_count + 1) > c->link_cap) {
		c->link_cap = old_cap ? 2 * old_cap : 1024;
		c->link = wr_calloc(c->link_cap, sizeof(*c->link));
		for (size_t i = 0; i < old_cap; i++)
			if (old[i].path)
				c->link[slot_of(c, old[i].dev, old[i].ino)] = old[i];
		free(old);
	}
	c->link[slot_of(c, m->st.st_dev, m->st.st_ino)] =
	    (struct linked){m->st.st_dev, m->st.st_ino, m->st.st_nlink - 1, wr_strdup(m->path)};
	c->link_count++;
}

/* All names of a file lie in the tree, or the copy would be a file of its own. */
static int
none_outside(const struct cloning *c, struct wr_err *err)
{
	for (size_t i = 0; i < c->link_cap; i++)
		if (c->link[i].path && c->link[i].left)
			return wr_err_set(err, WR_E_UNSUPPORTED,
					  "'%s' has names outside of the working files",
					  WR_Q(c->link[i].path));
	return 0;
}

static void
cloning_fini(struct cloning *c)
{
	for (size_t i = 0; i < c->link_cap; i++)
		free(c->link[i].path);
	free(c->link);
	while (c->depth > 1)
		close(c->dir[--c->depth]);
	free(c->dir);
	wr_buf_fini(&c->names);
	wr_buf_fini(&c->value);
}

/* ---- what an entry carries ---- */

/* By what is held, of any kind, links too. */
struct held {
	char s[40];
};

static struct held
held_of(int fd)
{
	struct held h;

	snprintf(h.s, sizeof(h.s), "/proc/self/fd/%d", fd);
	return h;
}

static int
copy_xattrs(struct cloning *c, const struct wr_met *m, int to, struct wr_err *err)
{
	const struct held from = held_of(m->fd), dest = held_of(to);
	ssize_t all, n;

	wr_buf_clear(&c->names);
	wr_buf_clear(&c->value);
	wr_buf_reserve(&c->names, XATTR_MOST);
	wr_buf_reserve(&c->value, XATTR_MOST);
	all = listxattr(from.s, (char *)c->names.p, XATTR_MOST);
	if (all < 0 && errno == ENOTSUP)
		return 0;
	if (all < 0)
		return cannot_sys(m, "list the extended attributes", err);
	for (const char *name = (char *)c->names.p, *end = name + all; name < end;
	     name += strlen(name) + 1) {
		n = getxattr(from.s, name, c->value.p, XATTR_MOST);
		if (n < 0 || setxattr(dest.s, name, c->value.p, (size_t)n, 0) < 0)
			return cannot_sys(m, "carry over the extended attributes", err);
	}
	return 0;
}

static int
get_flags(const struct wr_met *m, int fd, unsigned *out, struct wr_err *err)
{
	int flags = 0;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
		return cannot_sys(m, "read the flags", err);
	*out = (unsigned)flags;
	return 0;
}

static int
set_flags(const struct wr_met *m, int fd, unsigned flags, struct wr_err *err)
{
	unsigned now = 0;

	if (get_flags(m, fd, &now, err) < 0)
		return -1;
	if (now != flags && ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0)
		return cannot_sys(m, "set the flags", err);
	return 0;
}

/* Last of all, for times and flags change with whatever else is done. to: open for reading, of
 * others than files and directories O_PATH. */
static int
dress(struct cloning *c, const struct wr_met *m, int to, unsigned flags, struct wr_err *err)
{
	const struct stat *st = &m->st;
	const struct timespec times[2] = {st->st_atim, st->st_mtim};
	const struct held dest = held_of(to);
	unsigned now = 0;

	if (fchownat(to, "", st->st_uid, st->st_gid, AT_EMPTY_PATH) < 0)
		return cannot_sys(m, "set the owner", err);
	if (copy_xattrs(c, m, to, err) < 0)
		return -1;
	if (!S_ISLNK(st->st_mode) && chmod(dest.s, st->st_mode & 07777) < 0)
		return cannot_sys(m, "set the mode", err);
	if (utimensat(AT_FDCWD, dest.s, times, 0) < 0)
		return cannot_sys(m, "set the times", err);
	if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode))
		return 0;
	if (set_flags(m, to, flags, err) < 0 || get_flags(m, to, &now, err) < 0)
		return -1;
	return now == flags ? 0 : cannot(m, "has flags that cannot be given to another file", err);
}

/* ---- one entry ---- */

static int
clone_file(struct cloning *c, const struct wr_met *m, int up, struct wr_err *err)
{
	WR_SCOPED(wr_closep)
	int from = openat(m->dirfd, m->name,
			  O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME | O_NOCTTY | O_CLOEXEC);
	WR_SCOPED(wr_closep) int to = -1;
	struct stat now;
	unsigned flags = 0;

	if (from < 0 || fstat(from, &now) < 0)
		return cannot_sys(m, "open the file", err);
	if (now.st_ino != m->st.st_ino || now.st_dev != m->st.st_dev)
		return cannot(m, "was exchanged meanwhile", err);
	to = openat(up, m->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0)
		return cannot_sys(m, "make a second file", err);
	if (get_flags(m, from, &flags, err) < 0 || set_flags(m, to, flags & FLAGS_EARLY, err) < 0)
		return -1;
	if (m->st.st_size > 0 && ioctl(to, FICLONE, from) < 0)
		return cannot_sys(m, "share the data", err);
	return dress(c, m, to, flags, err);
}

static int
clone_other(struct cloning *c, const struct wr_met *m, int up, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int to = -1;
	char text[4097];
	ssize_t n;

	if (S_ISLNK(m->st.st_mode)) {
		n = readlinkat(m->fd, "", text, sizeof(text) - 1);
		if (n < 0)
			return cannot_sys(m, "read the link", err);
		text[n] = '\0';
		if (symlinkat(text, up, m->name) < 0)
			return cannot_sys(m, "make a second link", err);
	} else if (mknodat(up, m->name, (m->st.st_mode & S_IFMT) | 0600, m->st.st_rdev) < 0) {
		return cannot_sys(m, "make a second special file", err);
	}
	to = openat(up, m->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (to < 0)
		return cannot_sys(m, "open the second", err);
	return dress(c, m, to, 0, err);
}

/* Another name of what is there already. 1: it is none. */
static int
clone_name(struct cloning *c, const struct wr_met *m, int up, struct wr_err *err)
{
	struct linked *l = linked_find(c, &m->st);

	if (!l)
		return 1;
	if (!l->left)
		return cannot(m, "got more names meanwhile", err);
	l->left--;
	if (linkat(c->dir[0], l->path, up, m->name, 0) < 0)
		return cannot_sys(m, "make a second name", err);
	return 0;
}

static void
go_down(struct cloning *c, int taken)
{
	wr_grow(&c->dir, &c->cap, c->depth + 1, sizeof(*c->dir));
	c->dir[c->depth++] = taken;
}

static int
enter_dir(struct cloning *c, const struct wr_met *m, struct wr_err *err)
{
	const int up = c->dir[c->depth - 1];
	unsigned flags = 0;
	int fd;

	if (m->st.st_dev != c->dev)
		return cannot(m, "is a subvolume of its own", err);
	if (mkdirat(up, m->name, 0700) < 0)
		return cannot_sys(m, "make a second directory", err);
	fd = wr_open_dir(up, m->name);
	if (fd < 0)
		return cannot_sys(m, "open the second directory", err);
	go_down(c, fd);
	return get_flags(m, m->fd, &flags, err) < 0 ||
		       set_flags(m, fd, flags & FLAGS_EARLY, err) < 0
		   ? -1
		   : 0;
}

static int
leave_dir(struct cloning *c, const struct wr_met *m, struct wr_err *err)
{
	const int fd = c->dir[c->depth - 1];
	unsigned flags = 0;
	int rc;

	rc = get_flags(m, m->fd, &flags, err) < 0 ? -1 : dress(c, m, fd, flags, err);
	if (m->dirfd >= 0) {
		close(fd);
		c->depth--;
	}
	return rc;
}

static int
begin_top(const struct wr_met *m, struct wr_err *err)
{
	unsigned flags = 0;

	if (get_flags(m, m->fd, &flags, err) < 0)
		return -1;
	return flags & FLAGS_LATE ? cannot(m, "is immutable or append-only", err) : 0;
}

static int
clone_one(struct cloning *c, const struct wr_met *m, bool after, struct wr_err *err)
{
	const int up = c->dir[c->depth - 1];
	int rc = 1;

	if (S_ISDIR(m->st.st_mode) && after)
		return leave_dir(c, m, err);
	if (S_ISDIR(m->st.st_mode))
		return m->dirfd < 0 ? begin_top(m, err) : enter_dir(c, m, err);
	if (m->st.st_nlink > 1)
		rc = clone_name(c, m, up, err);
	if (rc <= 0)
		return rc;
	if (m->st.st_nlink > 1)
		linked_add(c, m);
	return S_ISREG(m->st.st_mode) ? clone_file(c, m, up, err) : clone_other(c, m, up, err);
}

/* ---- comparing ---- */

/* A time that all stamps of later changes have reached, and none of earlier ones. */
static struct wr_ts
stamp_from_now(void)
{
	const struct timespec nap = {0, 2000000};
	const struct wr_ts before = wr_clock_inode();
	struct wr_ts now;

	do {
		(void)nanosleep(&nap, NULL);
		now = wr_clock_inode();
	} while (wr_ts_cmp(now, before) == 0);
	return now;
}

/* Attributes too, and times that were set back, show in ctime; but where the directory itself lies
 * is what was changed by us. */
static bool
touched(const struct cloning *c, const struct wr_met *m)
{
	const struct wr_ts at = {m->st.st_ctim.tv_sec, (uint32_t)m->st.st_ctim.tv_nsec};

	return m->dirfd >= 0 && wr_ts_cmp(at, c->since) >= 0;
}

static bool
same(const struct stat *a, const struct stat *b)
{
	const bool dir = S_ISDIR(a->st_mode);

	return a->st_mode == b->st_mode && a->st_uid == b->st_uid && a->st_gid == b->st_gid &&
	       a->st_rdev == b->st_rdev && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       (dir || (a->st_size == b->st_size && a->st_nlink == b->st_nlink));
}

/* Has anyone the file open to write?  A lease of reading is given only where nobody has. */
static int
unwatched(const struct wr_met *m, struct wr_err *err)
{
	WR_SCOPED(wr_closep)
	int fd = openat(m->dirfd, m->name,
			O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return cannot_sys(m, "open the file", err);
	if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0)
		return fcntl(fd, F_SETLEASE, F_UNLCK) == 0
			   ? 0
			   : cannot_sys(m, "give back the lease", err);
	if (errno == EINVAL) /* this kernel gives none: then the times alone tell */
		return 0;
	if (errno == EAGAIN)
		return wr_err_set(err, WR_E_CHANGED, "somebody has '%s' open to write",
				  wr_quote(m->path, m->path_len).s);
	return cannot_sys(m, "ask who writes", err);
}

static int
compare_one(struct cloning *c, const struct wr_met *m, bool after, struct wr_err *err)
{
	const int up = c->dir[c->depth - 1];
	struct stat st;
	int fd;

	if (after) {
		if (m->dirfd >= 0)
			close(c->dir[--c->depth]);
		return 0;
	}
	if (m->dirfd < 0 ? fstat(up, &st) < 0 : fstatat(up, m->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return cannot_sys(m, "find the second", err);
	if (!same(&m->st, &st) || touched(c, m))
		return wr_err_set(err, WR_E_CHANGED, "'%s' was changed meanwhile",
				  m->path_len ? wr_quote(m->path, m->path_len).s : ".");
	if (S_ISREG(m->st.st_mode))
		return unwatched(m, err);
	if (!S_ISDIR(m->st.st_mode) || m->dirfd < 0)
		return 0;
	fd = wr_open_dir(up, m->name);
	if (fd < 0)
		return cannot_sys(m, "open the second directory", err);
	go_down(c, fd);
	return 0;
}

/* ---- all of them ---- */

static int
one(void *ctx, const struct wr_met *m, bool after, struct wr_err *err)
{
	struct cloning *c = ctx;

	if (!after) {
		if (S_ISREG(m->st.st_mode) && m->st.st_size > INLINE_MOST)
			c->bytes += (uint64_t)m->st.st_blocks * 512;
		wr_worker_progress(NULL, "set_quota", ++c->files, 0, 0, 0);
	}
	return (c->compare ? compare_one : clone_one)(c, m, after, err);
}

json_t *
wr_work_clone(struct wr_worker *w, struct wr_err *err)
{
	struct cloning c = {.compare = wr_json_get_bool(w->args, "compare", false),
			    .since = {wr_json_get_i64(w->args, "since_s", 0),
				      (uint32_t)wr_json_get_u64(w->args, "since_ns", 0)}};
	const int from = c.compare ? WR_WORKER_SOURCE : WR_WORKER_TREE;
	struct wr_notes skipped = {0};
	struct stat st;
	json_t *o = NULL;
	int rc;

	if (fstat(from, &st) < 0) {
		wr_err_sys(err, "stat the working files");
		return NULL;
	}
	c.dev = st.st_dev;
	if (!c.compare)
		c.since = stamp_from_now();
	go_down(&c, c.compare ? WR_WORKER_TREE : WR_WORKER_SOURCE);
	rc = wr_walk(from, WR_WALK_AFTER, one, &c, &skipped, err);
	if (rc == 0 && skipped.count)
		rc = wr_err_set(err, WR_E_UNSUPPORTED, "'%s': %s",
				wr_quote(skipped.note[0].path, skipped.note[0].path_len).s,
				skipped.note[0].reason);
	if (rc == 0)
		rc = none_outside(&c, err);
	if (rc == 0) {
		o = json_object();
		wr_json_u64(o, "files", c.files);
		wr_json_u64(o, "bytes", c.bytes);
		wr_json_i64(o, "since_s", c.since.s);
		wr_json_u64(o, "since_ns", c.since.ns);
	}
	wr_notes_fini(&skipped);
	cloning_fini(&c);
	return o;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quota_conform DRIVER DIR: one suite for all drivers, on a real file system. As root; DIR is on
 * the file system, with 300 MB free. TAP to standard output; a line "# caps ..." says what the
 * driver claims there, and the suite holds it to that. Everything it makes it removes.
 */
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "host/quota/quota_int.h"
#include "sys/fs.h"

#define MIB (UINT64_C(1) << 20)
#define UID_FIRST 47011
#define LIMIT (32 * MIB)
/* What metadata may take beside the data: tree blocks, and what is reserved for them. */
#define SLACK (3 * MIB)
#define PIECE (64u << 10)

static unsigned tests, failures;
static const char *todo; /* not NULL: the reason why the rest is skipped */

static void WR_PRINTF(2, 3) ok(bool good, const char *fmt, ...)
{
	va_list ap;

	failures += !good && !todo;
	printf("%sok %u - ", good || todo ? "" : "not ", ++tests);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf(todo ? " # SKIP %s\n" : "%s\n", todo ? todo : "");
	(void)fflush(stdout);
}

static void
done(int rc, const struct wr_err *err, const char *what)
{
	ok(rc == 0, "%s", what);
	if (rc < 0)
		printf("# %s\n", err->msg);
}

static WR_NORETURN void
bail(const struct wr_err *err)
{
	printf("Bail out! %s\n", err->msg);
	exit(1);
}

/* ---- the stage ---- */

static struct {
	char dir[4096];
	int dir_fd, projects_fd, scratch_fd, state_fd;
	struct wr_quota q;
} at;

static void
make_place(const char *dir, const char *driver)
{
	struct wr_err err = WR_ERR_INIT;
	WR_SCOPED(wr_freep) char *projects = NULL;

	snprintf(at.dir, sizeof(at.dir), "%s/conform.XXXXXX", dir);
	if (!mkdtemp(at.dir) || chmod(at.dir, 0755) < 0) {
		wr_err_sys(&err, "make a directory in '%s'", dir);
		bail(&err);
	}
	projects = wr_asprintf("%s/projects", at.dir);
	at.dir_fd = open(at.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (mkdirat(at.dir_fd, "projects", 0755) < 0 || mkdirat(at.dir_fd, "state", 0700) < 0 ||
	    (at.projects_fd = wr_open_dir(at.dir_fd, "projects")) < 0 ||
	    (at.state_fd = wr_open_dir(at.dir_fd, "state")) < 0 ||
	    mkdirat(at.projects_fd, ".trash", 0755) < 0 ||
	    mkdirat(at.dir_fd, "scratch", 0755) < 0 ||
	    (at.scratch_fd = wr_open_dir(at.dir_fd, "scratch")) < 0 || chdir(projects) < 0) {
		wr_err_sys(&err, "set up '%s'", at.dir);
		bail(&err);
	}
	if (wr_quota_open(at.projects_fd, at.state_fd, at.dir, driver, true, &at.q, &err) < 0)
		bail(&err);
}

static void
remove_all(void)
{
	wr_quota_close(&at.q);
	if (chdir("/") < 0 || wr_remove_tree(AT_FDCWD, at.dir, NULL) < 0)
		printf("# '%s' is left behind\n", at.dir);
}

static void
make_tree(const struct wr_quota_tree *t)
{
	struct wr_err err = WR_ERR_INIT;
	int fd;

	if (wr_quota_make_tree(&at.q, t, 0700, &err) < 0)
		bail(&err);
	fd = wr_open_dir(t->parent_fd, t->id.s);
	if (fd < 0 || fchown(fd, t->uid, t->uid) < 0) {
		wr_err_sys(&err, "give a tree to its user");
		bail(&err);
	}
	close(fd);
}

/* Each has a user of its own: what he has elsewhere may count as well. */
static struct wr_quota_tree
new_tree(void)
{
	static uid_t last = UID_FIRST;
	struct wr_quota_tree t = {.parent_fd = at.projects_fd, .exclusive = true};

	t.uid = ++last;
	wr_uuid_new(&t.id);
	make_tree(&t);
	return t;
}

static void
drop_tree(const struct wr_quota_tree *t)
{
	struct wr_err err = WR_ERR_INIT;
	bool gone;
	uint64_t bytes;

	if (wr_quota_remove_tree(&at.q, t, &gone, &bytes, &err) < 0 ||
	    (!gone && wr_remove_tree(t->parent_fd, t->id.s, &err) < 0))
		printf("# %s\n", err.msg);
}

/* XFS says of numbers that the disk is full, as it does in df. */
static bool
full(int error)
{
	return error == EDQUOT || (error == ENOSPC && at.q.caps.df);
}

static int
limit(const struct wr_quota_tree *t, uint64_t bytes, uint64_t inodes, struct wr_err *err)
{
	struct wr_quota_limits l = {bytes, at.q.caps.inodes ? inodes : 0};

	return wr_quota_set(&at.q, t, &l, err);
}

/* Counted and written: file systems that delay either have no excuse. */
static struct wr_quota_usage
use(const struct wr_quota_tree *t)
{
	struct wr_quota_usage u = {0};
	struct wr_err err = WR_ERR_INIT;

	(void)syncfs(at.projects_fd);
	if (wr_quota_usage(&at.q, t, &u, &err) < 0)
		printf("# %s\n", err.msg);
	return u;
}

/* XFS gives back what was removed a moment later. */
static void
settle(const struct wr_quota_tree *t, uint64_t most)
{
	for (unsigned i = 0; i < 500 && use(t).bytes > most; i++)
		(void)nanosleep(&(struct timespec){0, 20000000}, NULL);
}

/* ---- as the project's user ---- */

struct shared {
	uint64_t bytes, files;
	int error;
	int escapes[8];
};
static struct shared *said;

typedef void (*user_fn)(const char *dir, uint64_t most);

/* In a process of the user's, in the directory below projects/; denied as his processes are. */
static struct shared
as(uid_t uid, const char *dir, unsigned deny, user_fn fn, uint64_t most)
{
	struct wr_err err = WR_ERR_INIT;
	pid_t pid;

	memset(said, 0, sizeof(*said));
	pid = fork();
	if (pid == 0) {
		gid_t gid = uid;
		struct wr_sandbox box = {.set_ids = true,
					 .uid = uid,
					 .gid = gid,
					 .groups = &gid,
					 .group_count = 1,
					 .deny = deny};

		if (wr_sandbox_apply(&box, false, &err) < 0) {
			said->error = -1;
			printf("# %s\n", err.msg);
			_exit(1);
		}
		fn(dir, most);
		_exit(0);
	}
	if (pid > 0)
		(void)waitpid(pid, NULL, 0);
	return *said;
}

/* Up to so many bytes into dir/NAME, and stay open for nobody. */
static void
write_file(const char *dir, const char *name, uint64_t most)
{
	static char piece[PIECE];
	WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/%s", dir, name);
	WR_SCOPED(wr_closep) int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	size_t size = PIECE;
	uint64_t all = 0;

	if (fd < 0) {
		said->error = errno;
		return;
	}
	said->files++;
	if (getrandom(piece, sizeof(piece), 0) < 0)
		_exit(2);
	while (all < most) {
		ssize_t n = write(fd, piece, WR_MIN((uint64_t)size, most - all));

		if (n > 0) {
			all += (uint64_t)n;
			said->bytes += (uint64_t)n;
			continue;
		}
		said->error = errno;
		if (size == 4096)
			break;
		size = 4096; /* the last blocks one by one */
	}
	/* What was taken has to be kept: no error may come only now. */
	if (fsync(fd) < 0)
		said->error = errno == EDQUOT ? -EDQUOT : errno;
}

static void
fill(const char *dir, uint64_t most)
{
	write_file(dir, "fill", most);
}

static void
fill_more(const char *dir, uint64_t most)
{
	write_file(dir, "more", most);
}

static void
remove_fill(const char *dir, uint64_t most)
{
	WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/fill", dir);

	(void)most;
	if (unlink(path) < 0)
		said->error = errno;
}

static void
many_files(const char *dir, uint64_t most)
{
	for (uint64_t i = 0; i < most && !said->error; i++) {
		WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/n%" PRIu64, dir, i);
		int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

		if (fd < 0)
			said->error = errno;
		else
			close(fd);
		said->files += fd >= 0;
	}
}

static void
no_files(const char *dir, uint64_t most)
{
	for (uint64_t i = 0; i < most; i++) {
		WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/n%" PRIu64, dir, i);

		(void)unlink(path);
	}
}

/* Another number for a directory, none for what is made in it. */
static int
renumber(int fd, uint32_t number)
{
	struct fsxattr x;

	if (ioctl(fd, FS_IOC_FSGETXATTR, &x) < 0)
		return errno;
	x.fsx_projid = number;
	x.fsx_xflags &= ~(uint32_t)FS_XFLAG_PROJINHERIT;
	return ioctl(fd, FS_IOC_FSSETXATTR, &x) < 0 ? errno : 0;
}

static int
unflag(int fd)
{
	unsigned flags;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
		return errno;
	flags &= ~0x20000000u; /* the flag of inheritance; headers hide it from users */
	return ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0 ? errno : 0;
}

static int
subvolume(int fd, const char *name)
{
	struct btrfs_ioctl_vol_args a = {0};

	snprintf(a.name, sizeof(a.name), "%s", name);
	return ioctl(fd, BTRFS_IOC_SUBVOL_CREATE, &a) < 0 ? errno : 0;
}

static int
snapshot(int fd, const char *name)
{
	struct btrfs_ioctl_vol_args_v2 a = {.fd = fd};

	snprintf(a.name, sizeof(a.name), "%s", name);
	return ioctl(fd, BTRFS_IOC_SNAP_CREATE_V2, &a) < 0 ? errno : 0;
}

/* One that joins the groups named here, which are none, and not those around it. */
static int
groupless(int fd, const char *name)
{
	struct btrfs_qgroup_inherit none = {0};
	struct btrfs_ioctl_vol_args_v2 a = {.flags = BTRFS_SUBVOL_QGROUP_INHERIT,
					    .size = sizeof(none)};

	a.qgroup_inherit = &none;
	snprintf(a.name, sizeof(a.name), "%s", name);
	return ioctl(fd, BTRFS_IOC_SUBVOL_CREATE_V2, &a) < 0 ? errno : 0;
}

/* All ways out that an owner of files has; then as much as goes, everywhere. */
static void
escape(const char *dir, uint64_t most)
{
	static const char *const name[] = {"plain", "sub", "snap", "free", "."};
	WR_SCOPED(wr_closep) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int at_plain, *e = said->escapes;

	write_file(dir, "first", most / 8);
	if (fd < 0 || mkdirat(fd, "plain", 0700) < 0) {
		said->error = -1;
		return;
	}
	at_plain = openat(fd, "plain", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	e[0] = subvolume(fd, "sub");
	e[1] = snapshot(fd, "snap");
	e[2] = unflag(at_plain);
	e[3] = renumber(at_plain, 0);
	e[4] = unflag(fd);
	e[5] = renumber(fd, 0);
	e[6] = groupless(fd, "free");
	close(at_plain);
	for (size_t i = 0; i < WR_ARRAY_LEN(name); i++) {
		WR_SCOPED(wr_freep) char *into = wr_asprintf("%s/%s", dir, name[i]);

		if (access(into, W_OK) == 0)
			write_file(into, "loot", most);
	}
}

/* Subvolumes within each other, the first of them without a group. */
static void
burrow(const char *dir, uint64_t deep)
{
	for (uint64_t i = 0; i < deep && chdir(dir) == 0; i++) {
		WR_SCOPED(wr_closep) int fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		said->error = i ? subvolume(fd, dir = "in") : groupless(fd, dir = "in");
	}
}

/* ---- what must hold ---- */

static void
bytes_hold(void)
{
	struct wr_quota_tree t = new_tree(), other = new_tree();
	struct wr_err err = WR_ERR_INIT;
	struct wr_quota_usage u;
	struct statvfs v = {0};
	struct shared s;

	done(limit(&t, LIMIT, 0, &err), &err, "a limit is set");
	s = as(t.uid, t.id.s, 0, fill, 4 * LIMIT);
	ok(full(s.error), "writing ends with an error that says why");
	ok(s.bytes <= LIMIT && s.bytes + SLACK >= LIMIT, "at the limit");
	printf("# error %d, %" PRIu64 " of %" PRIu64 " bytes\n", s.error, s.bytes, (uint64_t)LIMIT);
	u = use(&t);
	ok(u.bytes >= s.bytes && u.bytes <= LIMIT && u.limit_bytes == LIMIT,
	   "use and limit are told");
	printf("# %" PRIu64 " of %" PRIu64 "\n", u.bytes, u.limit_bytes);
	if (statvfs(t.id.s, &v) < 0)
		v.f_frsize = 0;
	todo = at.q.caps.df ? NULL : "df is not claimed";
	ok((uint64_t)v.f_blocks * v.f_frsize == LIMIT && (uint64_t)v.f_bavail * v.f_frsize <= SLACK,
	   "df tells the same");
	todo = NULL;
	s = as(other.uid, other.id.s, 0, fill, 2 * LIMIT);
	ok(s.error == 0 && s.bytes == 2 * LIMIT, "another project is not limited by it");
	s = as(t.uid, t.id.s, 0, remove_fill, 0);
	ok(s.error == 0, "at the limit files can be removed");
	u = use(&t);
	s = as(t.uid, t.id.s, 0, fill, LIMIT / 2);
	ok(u.bytes < SLACK && s.error == 0, "and there is room again");
	done(limit(&t, 2 * LIMIT, 0, &err), &err, "a limit is raised");
	s = as(t.uid, t.id.s, 0, fill_more, LIMIT);
	ok(s.error == 0, "and holds at once");
	done(limit(&t, LIMIT, 0, &err), &err, "a limit is set below what is in use");
	(void)syncfs(at.projects_fd);
	s = as(t.uid, t.id.s, 0, fill_more, LIMIT);
	ok(full(s.error) && s.bytes == 0, "nothing more can be written then");
	s = as(t.uid, t.id.s, 0, remove_fill, 0);
	ok(s.error == 0, "but removed");
	done(wr_quota_clear(&at.q, &t, &err), &err, "limits are cleared");
	s = as(t.uid, t.id.s, 0, fill, 2 * LIMIT);
	u = use(&t);
	ok(s.error == 0 && !u.limit_bytes && !u.limit_inodes, "and hold no more");
	done(wr_quota_clear(&at.q, &t, &err), &err, "clearing them again is fine");
	drop_tree(&t);
	drop_tree(&other);
}

static void
inodes_hold(void)
{
	struct wr_quota_tree t = new_tree();
	struct wr_err err = WR_ERR_INIT;
	struct shared s = {0};

	todo = at.q.caps.inodes ? NULL : "files are not limited";
	if (!todo && limit(&t, 4 * LIMIT, 200, &err) < 0)
		printf("# %s\n", err.msg);
	if (!todo)
		s = as(t.uid, t.id.s, 0, many_files, 400);
	ok(full(s.error) && s.files == 199, "no more files than there may be");
	printf("# error %d, %" PRIu64 " files\n", s.error, s.files);
	if (!todo)
		s = as(t.uid, t.id.s, 0, no_files, 400);
	ok(s.error == 0 && (todo || use(&t).inodes == 1), "they are counted down again");
	todo = NULL;
	drop_tree(&t);
}

/* A user who has left his limits wrote more than they are. */
static void
held(const struct wr_quota_tree *t, unsigned deny, const char *what)
{
	struct wr_err err = WR_ERR_INIT;
	struct shared s = {0};

	if (!todo) {
		if (limit(t, LIMIT, 0, &err) < 0)
			printf("# %s\n", err.msg);
		s = as(t->uid, t->id.s, deny, escape, 2 * LIMIT);
		printf("# %" PRIu64 " bytes, last error %d; subvolume %d %d, snapshot %d, flag %d "
		       "%d, number %d %d\n",
		       s.bytes, s.error, s.escapes[0], s.escapes[6], s.escapes[1], s.escapes[2],
		       s.escapes[4], s.escapes[3], s.escapes[5]);
	}
	ok(full(s.error) && s.bytes <= LIMIT && s.bytes + 2 * SLACK >= LIMIT, "%s", what);
	if (deny & WR_DENY_PROJECT_ID)
		ok(s.escapes[3] == EPERM && s.escapes[5] == EPERM, "no file gets another number");
	if (deny & WR_DENY_FILE_FLAGS)
		ok(s.escapes[2] == EPERM && s.escapes[4] == EPERM, "nor is the flag taken away");
	if (deny & WR_DENY_SUBVOLUMES)
		ok(s.escapes[0] == EPERM && s.escapes[1] == EPERM && s.escapes[6] == EPERM,
		   "no subvolume is made");
}

static void
no_escape(void)
{
	struct wr_quota_tree t = new_tree(), u = new_tree();
	unsigned deny = wr_quota_deny(&at.q, true);
	struct wr_err err = WR_ERR_INIT;
	bool gone;
	uint64_t bytes;

	todo = at.q.caps.tamperproof ? NULL : "not claimed to be tamperproof";
	held(&t, 0, "the user does not get out by calls of his own");
	todo = deny ? NULL : "nothing has to be denied";
	u.exclusive = false;
	held(&u, wr_quota_deny(&at.q, false), "nor where his uid is not his alone, denied some");
	todo = NULL;
	done(wr_quota_clear(&at.q, &t, &err), &err, "then as deep as he likes");
	(void)as(t.uid, t.id.s, 0, burrow, 100);
	done(wr_quota_remove_tree(&at.q, &t, &gone, &bytes, &err), &err,
	     "whatever he made, the tree can be removed");
	ok(faccessat(at.projects_fd, t.id.s, F_OK, 0) == (gone ? -1 : 0), "gone as it says");
	if (!gone)
		drop_tree(&t);
	drop_tree(&u);
}

static int
by_id(const void *a, const void *b)
{
	const struct wr_quota_owner *x = a, *y = b;

	return strcmp(x->id.s, y->id.s);
}

static void
all_cleared(void)
{
	struct wr_quota_tree a = new_tree(), b = new_tree(), c = new_tree();
	struct wr_quota_owner list[] = {{a.id, a.uid, true, true}, {b.id, b.uid, true, false}};
	struct wr_err err = WR_ERR_INIT;
	struct shared s;
	size_t n = 0;

	qsort(list, WR_ARRAY_LEN(list), sizeof(list[0]), by_id);
	if (limit(&a, LIMIT, 100, &err) < 0 || limit(&b, LIMIT, 100, &err) < 0 ||
	    limit(&c, LIMIT, 100, &err) < 0)
		printf("# %s\n", err.msg);
	done(wr_quota_clear_all(&at.q, list, WR_ARRAY_LEN(list), &n, &err), &err,
	     "the limits of inactive projects are cleared");
	ok(use(&a).limit_bytes == LIMIT, "that of an active one stays");
	ok(use(&b).limit_bytes == 0 && use(&c).limit_bytes == 0, "no other does");
	s = as(b.uid, b.id.s, 0, fill, LIMIT + MIB);
	ok(s.error == 0, "and more can be written");
	ok(n >= 2, "it counts them");
	drop_tree(&a);
	drop_tree(&b);
	drop_tree(&c);
}

/* A project's scratch is its user's as well, and is counted apart. */
static void
scratch_apart(void)
{
	struct wr_quota_tree t = new_tree(), s = t;
	struct wr_quota_owner list[] = {{t.id, t.uid, true, true}};
	WR_SCOPED(wr_freep) char *dir = wr_asprintf("../scratch/%s", t.id.s);
	struct wr_err err = WR_ERR_INIT;
	struct wr_quota_usage u;
	struct shared got;
	size_t n = 0;

	s.parent_fd = at.scratch_fd;
	s.scratch = true;
	make_tree(&s);
	done(limit(&s, LIMIT / 2, 100, &err), &err, "scratch is limited");
	done(limit(&t, LIMIT, 100, &err), &err, "and the files beside it");
	got = as(s.uid, dir, 0, fill, LIMIT);
	ok(full(got.error) && got.bytes <= LIMIT / 2 && got.bytes + SLACK >= LIMIT / 2,
	   "scratch ends at its own limit");
	got = as(t.uid, t.id.s, 0, fill, LIMIT + MIB);
	ok(full(got.error) && got.bytes <= LIMIT && got.bytes + SLACK >= LIMIT,
	   "the files have all of theirs");
	u = use(&s);
	ok(u.bytes <= LIMIT / 2 && u.limit_bytes == LIMIT / 2 && use(&t).bytes > LIMIT / 2,
	   "each is told apart");
	/* Its limit is raised while both are in use, as settings do. */
	(void)wr_quota_tend(&at.q, &s, LIMIT, 1000, &u, &err);
	(void)wr_quota_tend(&at.q, &t, LIMIT, 1000, &u, &err);
	got = as(s.uid, dir, 0, fill_more, LIMIT / 4);
	ok(got.error == 0, "raised, there is room");
	done(wr_quota_clear_all(&at.q, list, WR_ARRAY_LEN(list), &n, &err), &err,
	     "where limits of others are cleared");
	ok(use(&s).limit_bytes == wr_quota_hard(LIMIT) && use(&t).limit_bytes, "both stay");
	list[0].active = false;
	done(wr_quota_clear_all(&at.q, list, WR_ARRAY_LEN(list), &n, &err), &err,
	     "of a project that is inactive");
	ok(use(&s).limit_bytes == 0 && use(&t).limit_bytes == 0 && n >= 2, "both go");
	/* Set aside it lies there without a limit, and takes nothing from the files. */
	(void)as(s.uid, dir, 0, fill_more, LIMIT);
	(void)as(t.uid, t.id.s, 0, remove_fill, 0);
	settle(&t, SLACK);
	done(limit(&t, LIMIT, 100, &err), &err, "scratch that nobody limits");
	got = as(t.uid, t.id.s, 0, fill, LIMIT - SLACK);
	ok(got.error == 0, "leaves the files their room");
	drop_tree(&s);
	drop_tree(&t);
}

static void
grace_closes(void)
{
	const uint64_t disk = LIMIT;
	struct wr_quota_tree t = new_tree();
	struct wr_quota_usage u = {0};
	struct wr_err err = WR_ERR_INIT;
	struct shared s;

	done(wr_quota_tend(&at.q, &t, disk, 1000, &u, &err), &err, "a project is tended");
	ok(wr_quota_grace(disk, u.limit_bytes) == WR_GRACE_OPEN, "the grace is open");
	s = as(t.uid, t.id.s, 0, fill, disk + MIB);
	ok(s.error == 0, "beyond disk there is room");
	(void)use(&t);
	(void)wr_quota_tend(&at.q, &t, disk, 1000, &u, &err);
	u = use(&t);
	ok(wr_quota_grace(disk, u.limit_bytes) == WR_GRACE_USED, "it is in use");
	(void)as(t.uid, t.id.s, 0, remove_fill, 0);
	settle(&t, disk);
	(void)wr_quota_tend(&at.q, &t, disk, 1000, &u, &err);
	u = use(&t);
	ok(u.limit_bytes == disk, "left again it is closed");
	s = as(t.uid, t.id.s, 0, fill, disk + MIB);
	ok(full(s.error) && s.bytes <= disk, "and closed it holds");
	drop_tree(&t);
}

static void
strangers(void)
{
	struct wr_quota_tree t = {.parent_fd = at.projects_fd, .uid = UID_FIRST, .exclusive = true};
	struct wr_quota_tree made = new_tree();
	struct wr_err err = WR_ERR_INIT;
	uint32_t number = 0;
	int rc;

	rc = wr_quota_check_tree(&at.q, &made, &number, &err);
	ok(rc == 0 && number == 0, "a tree of ours needs nothing");
	wr_uuid_new(&t.id);
	if (mkdirat(at.projects_fd, t.id.s, 0700) < 0)
		bail(&err);
	rc = wr_quota_check_tree(&at.q, &t, &number, &err);
	ok(rc < 0 ? err.code == WR_E_UNSUPPORTED && *err.hint : number != 0,
	   "a directory made otherwise is noticed");
	done(wr_quota_clear(&at.q, &t, &err), &err, "and has no limit to be cleared");
	drop_tree(&made);
}

static void
nothing_enforced(void)
{
	struct wr_quota_tree t = new_tree();
	struct wr_err err = WR_ERR_INIT;
	struct wr_quota_usage u;
	struct shared s;
	size_t n;

	done(limit(&t, MIB, 10, &err), &err, "a limit is kept for itself");
	s = as(t.uid, t.id.s, 0, fill, 2 * MIB);
	ok(s.error == 0 && !at.q.caps.bytes && !at.q.caps.inodes && !at.q.caps.df &&
	       !at.q.caps.tamperproof,
	   "nothing is enforced, and it says so");
	ok(*at.q.why, "why: %s", at.q.why);
	ok(wr_quota_usage(&at.q, &t, &u, &err) < 0 && err.code == WR_E_UNSUPPORTED,
	   "nobody counts");
	ok(wr_quota_clear(&at.q, &t, &err) == 0 &&
	       wr_quota_clear_all(&at.q, NULL, 0, &n, &err) == 0 && n == 0,
	   "clearing is fine");
}

int
main(int argc, char **argv)
{
	const struct wr_quota_caps *caps = &at.q.caps;

	if (argc != 3 || geteuid() != 0) {
		fprintf(stderr, "usage, as root: quota_conform btrfs|prjquota|none DIR\n");
		return 2;
	}
	said = mmap(NULL, sizeof(*said), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (said == MAP_FAILED)
		return 2;
	make_place(argv[2], argv[1]);
	printf("# caps %s%s%s%s%s%s\n", caps->driver, caps->bytes ? " bytes" : "",
	       caps->inodes ? " inodes" : "", caps->df ? " df" : "",
	       caps->tamperproof ? " tamperproof" : "", at.q.simple ? " (simple)" : "");
	if (*at.q.why)
		printf("# %s; %s\n", at.q.why, at.q.hint);
	ok(!strcmp(caps->driver, argv[1]) && (caps->bytes || !strcmp(argv[1], "none")),
	   "the driver is %s", argv[1]);
	if (!failures && caps->bytes) {
		bytes_hold();
		inodes_hold();
		no_escape();
		all_cleared();
		scratch_apart();
		grace_closes();
		strangers();
	} else if (!failures) {
		nothing_enforced();
	}
	remove_all();
	printf("1..%u\n", tests);
	return failures != 0;
}

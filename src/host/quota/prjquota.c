/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ext4 and XFS: quotas of projects.  The owner of a file may give it another number (FSSETXATTR),
 * or take away the flag by which new files inherit one (SETFLAGS): his uid is limited beside it
 * where it is the project's alone, and the project's processes may not do either (wr_quota_deny).
 */
#include <fcntl.h>
#include <linux/dqblk_xfs.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/quota.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "host/quota/quota_int.h"
#include "sys/fs.h"

/* <linux/quota.h> and <sys/quota.h> cannot be had together; the C library has no call by fd. */
#define UNIT UINT64_C(1024)

static int
call(int fd, unsigned cmd, unsigned type, uint32_t id, void *arg)
{
	return (int)syscall(SYS_quotactl_fd, fd, QCMD(cmd, type), id, arg);
}

/* ---- is it there ---- */

static unsigned
state(int fd)
{
	struct fs_quota_statv s = {.qs_version = FS_QSTATV_VERSION1};

	return call(fd, Q_XGETQSTATV, PRJQUOTA, 0, &s) < 0 ? 0 : s.qs_flags;
}

static void
say_how(struct wr_quota *q, const char *path, bool project)
{
	struct statfs st = {0};

	(void)fstatfs(q->fd, &st); /* looked at before */
	snprintf(q->why, sizeof(q->why), "%s",
		 project ? "uids are not limited beside the projects"
			 : "the file system is mounted without quotas of projects");
	if (st.f_type == XFS_SUPER_MAGIC)
		snprintf(q->hint, sizeof(q->hint),
			 "umount %.120s; mount it with -o prjquota,usrquota (also in /etc/fstab)",
			 path);
	else
		snprintf(q->hint, sizeof(q->hint),
			 "umount %.80s; tune2fs -O project,quota -Q prjquota,usrquota DEVICE; "
			 "mount it with -o prjquota,usrquota (also in /etc/fstab)",
			 path);
}

void
wr_quota_prjquota_probe(struct wr_quota *q, const char *path, bool turn_on)
{
	unsigned flags = state(q->fd), off = 0;

	if ((flags & FS_QUOTA_PDQ_ACCT) && !(flags & FS_QUOTA_PDQ_ENFD))
		off |= FS_QUOTA_PDQ_ENFD;
	if ((flags & FS_QUOTA_UDQ_ACCT) && !(flags & FS_QUOTA_UDQ_ENFD))
		off |= FS_QUOTA_UDQ_ENFD;
	if (turn_on && off && call(q->fd, Q_XQUOTAON, PRJQUOTA, 0, &off) == 0)
		flags = state(q->fd);
	if (!(flags & FS_QUOTA_PDQ_ENFD)) {
		say_how(q, path, false);
		return;
	}
	q->driver = &wr_quota_prjquota;
	q->user = flags & FS_QUOTA_UDQ_ENFD;
	q->caps = (struct wr_quota_caps){
	    .bytes = true, .inodes = true, .df = true, .tamperproof = q->user};
	if (!q->user)
		say_how(q, path, true);
}

/* ---- trees ---- */

static int
mark(int fd, uint32_t number)
{
	struct fsxattr x;

	if (ioctl(fd, FS_IOC_FSGETXATTR, &x) < 0)
		return -1;
	x.fsx_projid = number;
	x.fsx_xflags |= FS_XFLAG_PROJINHERIT;
	return ioctl(fd, FS_IOC_FSSETXATTR, &x);
}

static int
make_tree(struct wr_quota *q, const struct wr_quota_tree *t, mode_t mode, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int fd = -1;
	uint32_t number;

	if (wr_projid_of(q->state_fd, &t->id, t->scratch, true, &number, err) < 0)
		return -1;
	if (mkdirat(t->parent_fd, t->id.s, mode) < 0)
		return wr_err_sys(err, "make directory '%s'", t->id.s);
	fd = wr_open_dir(t->parent_fd, t->id.s);
	if (fd < 0 || mark(fd, number) < 0)
		return wr_err_sys(err, "give directory '%s' its number", t->id.s);
	return 0;
}

static int
check_tree(struct wr_quota *q, const struct wr_quota_tree *t, uint32_t *out_number,
	   struct wr_err *err)
{
	WR_SCOPED(wr_closep) int fd = wr_open_dir(t->parent_fd, t->id.s);
	struct fsxattr x;
	uint32_t number;

	if (fd < 0 || ioctl(fd, FS_IOC_FSGETXATTR, &x) < 0)
		return wr_err_sys(err, "look at the %s of project %s",
				  t->scratch ? "scratch" : "working files", t->id.s);
	if (wr_projid_of(q->state_fd, &t->id, t->scratch, true, &number, err) < 0)
		return -1;
	if (x.fsx_projid != number || !(x.fsx_xflags & FS_XFLAG_PROJINHERIT))
		*out_number = number;
	return 0;
}

/* ---- limits ---- */

static int
put(const struct wr_quota *q, unsigned type, uint32_t id, const struct wr_quota_limits *l)
{
	struct if_dqblk b = {.dqb_valid = QIF_LIMITS};

	b.dqb_bhardlimit = (l->bytes + UNIT - 1) / UNIT;
	b.dqb_ihardlimit = l->inodes;
	return call(q->fd, Q_SETQUOTA, type, id, &b);
}

/* The uid has both trees, so its limit goes with that of the working files. */
static bool
with_uid(const struct wr_quota *q, const struct wr_quota_tree *t)
{
	return q->user && t->exclusive && t->uid && !t->scratch;
}

/* What it may have beside the working files: the limit of its scratch, or what lies there, set
 * aside, without one. */
static int
beside(const struct wr_quota *q, const struct wr_quota_tree *t, struct wr_quota_limits *out,
       struct wr_err *err)
{
	struct if_dqblk b = {0};
	uint32_t number;

	*out = (struct wr_quota_limits){0};
	if (wr_projid_of(q->state_fd, &t->id, true, false, &number, err) < 0)
		return -1;
	if (!number)
		return 0;
	if (call(q->fd, Q_GETQUOTA, PRJQUOTA, number, &b) < 0)
		return errno == ENOENT ? 0 : wr_err_sys(err, "ask for number %u", number);
	out->bytes = b.dqb_bhardlimit ? b.dqb_bhardlimit * UNIT : b.dqb_curspace;
	out->inodes = b.dqb_ihardlimit ? b.dqb_ihardlimit : b.dqb_curinodes;
	return 0;
}

static int
put_uid(const struct wr_quota *q, const struct wr_quota_tree *t,
	const struct wr_quota_limits *limits, struct wr_err *err)
{
	struct wr_quota_limits l;

	if (beside(q, t, &l, err) < 0)
		return -1;
	l.bytes = limits->bytes ? limits->bytes + l.bytes : 0;
	l.inodes = limits->inodes ? limits->inodes + l.inodes : 0;
	return put(q, USRQUOTA, t->uid, &l) < 0 ? wr_err_sys(err, "limit uid %u", (unsigned)t->uid)
						: 0;
}

static int
set(struct wr_quota *q, const struct wr_quota_tree *t, const struct wr_quota_limits *limits,
    struct wr_err *err)
{
	const bool any = limits->bytes || limits->inodes;
	uint32_t number;

	if (wr_projid_of(q->state_fd, &t->id, t->scratch, any, &number, err) < 0)
		return -1;
	/* Number 0 is everyone's. */
	if (number && put(q, PRJQUOTA, number, limits) < 0)
		return wr_err_sys(err, "limit number %u", number);
	return with_uid(q, t) ? put_uid(q, t, limits, err) : 0;
}

/* Does the uid's limit still fit to those of the trees? */
static int
compare_uid(const struct wr_quota *q, const struct wr_quota_tree *t, struct wr_quota_usage *out,
	    struct wr_err *err)
{
	struct wr_quota_limits l;
	struct if_dqblk b = {0};

	if (beside(q, t, &l, err) < 0)
		return -1;
	if (call(q->fd, Q_GETQUOTA, USRQUOTA, t->uid, &b) < 0 && errno != ENOENT)
		return wr_err_sys(err, "ask for uid %u", (unsigned)t->uid);
	out->uneven = b.dqb_bhardlimit != (out->limit_bytes + l.bytes + UNIT - 1) / UNIT ||
		      b.dqb_ihardlimit != (out->limit_inodes ? out->limit_inodes + l.inodes : 0);
	return 0;
}

static int
usage(struct wr_quota *q, const struct wr_quota_tree *t, struct wr_quota_usage *out,
      struct wr_err *err)
{
	struct if_dqblk b = {0};
	uint32_t number;

	if (wr_projid_of(q->state_fd, &t->id, t->scratch, false, &number, err) < 0)
		return -1;
	if (!number)
		return 0;
	if (call(q->fd, Q_GETQUOTA, PRJQUOTA, number, &b) < 0) {
		/* XFS: nothing was ever written under that number. */
		return errno == ENOENT ? 0 : wr_err_sys(err, "ask for number %u", number);
	}
	out->bytes = b.dqb_curspace;
	out->inodes = b.dqb_curinodes;
	out->limit_bytes = b.dqb_bhardlimit * UNIT;
	out->limit_inodes = b.dqb_ihardlimit;
	return out->limit_bytes && with_uid(q, t) ? compare_uid(q, t, out, err) : 0;
}

static int
remove_tree(struct wr_quota *q, const struct wr_quota_tree *t, bool *out_gone, uint64_t *out_bytes,
	    struct wr_err *err)
{
	const struct wr_quota_limits no = {0, 0};

	(void)out_gone;
	(void)out_bytes;
	return set(q, t, &no, err);
}

/* ---- all of them ---- */

/* The next limited id from *io_id on: 1, 0: there is none, -1. */
static int
next_limited(const struct wr_quota *q, unsigned type, uint32_t *io_id, uint32_t last,
	     struct wr_err *err)
{
	for (uint32_t id = *io_id;;) {
		struct if_nextdqblk b = {0};

		if (call(q->fd, Q_GETNEXTQUOTA, type, id, &b) < 0)
			return errno == ENOENT || errno == ESRCH
				   ? 0
				   : wr_err_sys(err, "list the limits of the file system");
		if (b.dqb_id < id || b.dqb_id > last)
			return 0;
		if (b.dqb_bhardlimit || b.dqb_ihardlimit) {
			*io_id = b.dqb_id;
			return 1;
		}
		if (b.dqb_id == last)
			return 0;
		id = b.dqb_id + 1;
	}
}

static int
clear_numbers(struct wr_quota *q, const struct wr_quota_owner *all, size_t count,
	      size_t *io_cleared, struct wr_err *err)
{
	const struct wr_quota_limits no = {0, 0};
	uint32_t number = WR_PROJID_FIRST;
	int rc;

	while ((rc = next_limited(q, PRJQUOTA, &number, WR_PROJID_LAST, err)) > 0) {
		const struct wr_quota_owner *o = NULL;
		struct wr_uuid id;

		if (wr_projid_owner(q->state_fd, number, &id)) {
			o = wr_quota_owner_find(all, count, &id);
			if (!o || !o->active) {
				if (put(q, PRJQUOTA, number, &no) < 0)
					return wr_err_sys(err, "clear the limit of number %u",
							  number);
				++*io_cleared;
			}
		}
		if (number++ == WR_PROJID_LAST)
			break;
	}
	return rc < 0 ? -1 : 0;
}

static int
by_uid(const void *a, const void *b)
{
	const uid_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Limits of uids are ours where the uid is that of a project, and of no active one. */
static int
clear_uids(struct wr_quota *q, const struct wr_quota_owner *all, size_t count, size_t *io_cleared,
	   struct wr_err *err)
{
	const struct wr_quota_limits no = {0, 0};
	WR_SCOPED(wr_freep) uid_t *uid = wr_calloc(count + 1, sizeof(*uid));
	uint32_t at = 1;
	size_t n = 0;
	int rc;

	for (size_t i = 0; i < count; i++)
		if (all[i].exclusive && !all[i].active)
			uid[n++] = all[i].uid;
	qsort(uid, n, sizeof(*uid), by_uid);
	while ((rc = next_limited(q, USRQUOTA, &at, UINT32_MAX - 1, err)) > 0) {
		if (n && bsearch(&at, uid, n, sizeof(*uid), by_uid)) {
			if (put(q, USRQUOTA, at, &no) < 0)
				return wr_err_sys(err, "clear the limit of uid %u", at);
			++*io_cleared;
		}
		at++;
	}
	return rc < 0 ? -1 : 0;
}

static int
clear_all(struct wr_quota *q, const struct wr_quota_owner *all, size_t count, size_t *out_cleared,
	  struct wr_err *err)
{
	if (clear_numbers(q, all, count, out_cleared, err) < 0)
		return -1;
	return q->user ? clear_uids(q, all, count, out_cleared, err) : 0;
}

const struct wr_quota_driver wr_quota_prjquota = {
    .name = "prjquota",
    .make_tree = make_tree,
    .check_tree = check_tree,
    .remove_tree = remove_tree,
    .set = set,
    .usage = usage,
    .clear_all = clear_all,
};

/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/str.h"
#include "host/quota/quota_int.h"
#include "sys/fs.h"

#define MIB (UINT64_C(1) << 20)
#define GRACE_LEAST (64 * MIB)
/* File systems keep limits in blocks of up to 4 KiB. One block less says that the grace is used. */
#define BLOCK UINT64_C(4096)
/* LIMIT: no file system here has more; sums stay clear of the end of 64 bits. */
#define DISK_MAX (UINT64_C(1) << 62)

/* ---- the numbers ---- */

static uint64_t
in_blocks(uint64_t bytes)
{
	return (WR_MIN(bytes, DISK_MAX) + BLOCK - 1) / BLOCK * BLOCK;
}

uint64_t
wr_quota_hard(uint64_t disk)
{
	disk = in_blocks(disk);
	return disk + in_blocks(WR_MAX(disk / 20, GRACE_LEAST));
}

enum wr_quota_grace
wr_quota_grace(uint64_t disk, uint64_t limit)
{
	if (limit == in_blocks(disk))
		return WR_GRACE_CLOSED;
	return limit == wr_quota_hard(disk) - BLOCK ? WR_GRACE_USED : WR_GRACE_OPEN;
}

uint64_t
wr_quota_next(uint64_t disk, uint64_t now, uint64_t used)
{
	bool over = used > in_blocks(disk);

	switch (wr_quota_grace(disk, now)) {
	case WR_GRACE_CLOSED:
		return in_blocks(disk);
	case WR_GRACE_USED:
		return over ? now : in_blocks(disk);
	case WR_GRACE_OPEN:
		break;
	}
	return wr_quota_hard(disk) - (over ? BLOCK : 0);
}

const char *
wr_quota_grace_name(enum wr_quota_grace g)
{
	static const char *const name[] = {"", "open", "in use", "closed"};

	return name[g];
}

/* ---- which driver ---- */

static int
make_dir(struct wr_quota *q, const struct wr_quota_tree *t, mode_t mode, struct wr_err *err)
{
	(void)q;
	return mkdirat(t->parent_fd, t->id.s, mode) < 0
		   ? wr_err_sys(err, "make directory '%s'", t->id.s)
		   : 0;
}

static const struct wr_quota_driver none = {.name = "none", .make_tree = make_dir};

/* Is the directory above fd where a file system is mounted? */
static bool
own_mount(int fd)
{
	struct statx sx;

	return statx(fd, "..", AT_NO_AUTOMOUNT, STATX_TYPE, &sx) == 0 &&
	       (sx.stx_attributes_mask & sx.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

static void
fall_back(struct wr_quota *q, const char *want, const char *path)
{
	q->driver = &none;
	q->caps = (struct wr_quota_caps){.driver = none.name};
	if (*q->why)
		return;
	snprintf(q->why, sizeof(q->why), "this file system keeps no limits of directories%s%s",
		 strcmp(want, "auto") ? ", wanted: " : "", strcmp(want, "auto") ? want : "");
	snprintf(q->hint, sizeof(q->hint), "put volume '%.120s' on btrfs, ext4 or XFS", path);
}

int
wr_quota_open(int projects_fd, int state_fd, const char *path, const char *want, bool turn_on,
	      struct wr_quota *out, struct wr_err *err)
{
	struct wr_quota q = WR_QUOTA_INIT;
	bool any = !strcmp(want, "auto");
	struct statfs st;

	if (fstatfs(projects_fd, &st) < 0)
		return wr_err_sys(err, "look at the file system of '%s'", WR_Q(path));
	q.fd = fcntl(projects_fd, F_DUPFD_CLOEXEC, 0);
	q.state_fd = fcntl(state_fd, F_DUPFD_CLOEXEC, 0);
	if (q.fd < 0 || q.state_fd < 0) {
		wr_err_sys(err, "duplicate a descriptor");
		wr_quota_close(&q);
		return -1;
	}
	if (!strcmp(want, "none"))
		snprintf(q.why, sizeof(q.why), "[volume] quota = none");
	else if (geteuid() != 0)
		snprintf(q.why, sizeof(q.why), "only root can limit what others use");
	else if (st.f_type == BTRFS_SUPER_MAGIC && (any || !strcmp(want, "btrfs")))
		wr_quota_btrfs_probe(&q, path, turn_on, !any || own_mount(projects_fd));
	else if ((st.f_type == EXT4_SUPER_MAGIC || st.f_type == XFS_SUPER_MAGIC) &&
		 (any || !strcmp(want, "prjquota")))
		wr_quota_prjquota_probe(&q, path, turn_on);
	if (q.driver)
		q.caps.driver = q.driver->name;
	else
		fall_back(&q, want, path);
	*out = q;
	return 0;
}

void
wr_quota_close(struct wr_quota *q)
{
	wr_closep(&q->fd);
	wr_closep(&q->state_fd);
}

/* ---- trees ---- */

int
wr_quota_make_tree(struct wr_quota *q, const struct wr_quota_tree *t, mode_t mode,
		   struct wr_err *err)
{
	return q->driver->make_tree(q, t, mode, err);
}

int
wr_quota_check_tree(struct wr_quota *q, const struct wr_quota_tree *t, uint32_t *out_number,
		    struct wr_err *err)
{
	*out_number = 0;
	return q->driver->check_tree ? q->driver->check_tree(q, t, out_number, err) : 0;
}

bool
wr_quota_wants_new_tree(struct wr_quota *q, const struct wr_quota_tree *t)
{
	return q->caps.bytes && q->driver->wants_new_tree && q->driver->wants_new_tree(t);
}

int
wr_quota_remove_tree(struct wr_quota *q, const struct wr_quota_tree *t, bool *out_gone,
		     uint64_t *out_bytes, struct wr_err *err)
{
	*out_gone = false;
	*out_bytes = 0;
	if (!q->driver->remove_tree)
		return 0;
	return q->driver->remove_tree(q, t, out_gone, out_bytes, err);
}

int
wr_quota_set(struct wr_quota *q, const struct wr_quota_tree *t,
	     const struct wr_quota_limits *limits, struct wr_err *err)
{
	if (!q->caps.bytes)
		return 0;
	if (q->driver->set(q, t, limits, err) < 0)
		return wr_err_wrap(err, "limit the %s of project %s",
				   t->scratch ? "scratch" : "working files", t->id.s);
	return 0;
}

int
wr_quota_clear(struct wr_quota *q, const struct wr_quota_tree *t, struct wr_err *err)
{
	const struct wr_quota_limits no = {0, 0};

	if (!q->caps.bytes)
		return 0;
	if (q->driver->set(q, t, &no, err) < 0)
		return wr_err_wrap(err, "clear the limits of project %s", t->id.s);
	return 0;
}

int
wr_quota_usage(struct wr_quota *q, const struct wr_quota_tree *t, struct wr_quota_usage *out,
	       struct wr_err *err)
{
	if (!q->caps.bytes)
		return wr_err_set(err, WR_E_UNSUPPORTED, "nobody counts what project %s uses: %s",
				  t->id.s, q->why);
	*out = (struct wr_quota_usage){0};
	if (q->driver->usage(q, t, out, err) < 0)
		return wr_err_wrap(err, "look what project %s uses", t->id.s);
	return 0;
}

int
wr_quota_tend(struct wr_quota *q, const struct wr_quota_tree *t, uint64_t disk, uint64_t inodes,
	      struct wr_quota_usage *out, struct wr_err *err)
{
	struct wr_quota_limits l = {.inodes = q->caps.inodes ? inodes : 0};

	if (wr_quota_usage(q, t, out, err) < 0)
		return -1;
	l.bytes = wr_quota_next(disk, out->limit_bytes, out->bytes);
	if (l.bytes == out->limit_bytes && l.inodes == out->limit_inodes && !out->uneven)
		return 0;
	if (wr_quota_set(q, t, &l, err) < 0)
		return -1;
	out->limit_bytes = l.bytes;
	out->limit_inodes = l.inodes;
	return 0;
}

static int
by_id(const void *key, const void *p)
{
	const struct wr_quota_owner *o = p;
	const struct wr_uuid *id = key;

	return strcmp(id->s, o->id.s);
}

const struct wr_quota_owner *
wr_quota_owner_find(const struct wr_quota_owner *all, size_t count, const struct wr_uuid *id)
{
	return count ? bsearch(id, all, count, sizeof(*all), by_id) : NULL;
}

int
wr_quota_clear_all(struct wr_quota *q, const struct wr_quota_owner *all, size_t count,
		   size_t *out_cleared, struct wr_err *err)
{
	*out_cleared = 0;
	if (!q->caps.bytes)
		return 0;
	if (q->driver->clear_all(q, all, count, out_cleared, err) < 0)
		return wr_err_wrap(err, "clear the limits of inactive projects");
	return 0;
}

unsigned
wr_quota_deny(const struct wr_quota *q, bool exclusive)
{
	if (!q->caps.bytes)
		return 0;
	if (q->driver == &wr_quota_btrfs)
		return WR_DENY_SUBVOLUMES;
	/* With a number of his choice a user could have another project charged. Without the flag
	 * that new files inherit it he only gets at what his uid is limited to. */
	return WR_DENY_PROJECT_ID | (q->user && exclusive ? 0 : WR_DENY_FILE_FLAGS);
}

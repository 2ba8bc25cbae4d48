/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/bind.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sys/fs.h"

#define HELD_TRIES 20

static int
clone_of(int dir_fd, const char *path, unsigned flags)
{
	return open_tree(dir_fd, path, flags | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
}

static int
open_place(const char *dest)
{
	return open(dest, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

bool
wr_mount_available(void)
{
	/* A copy that is attached nowhere ends with its descriptor. */
	WR_SCOPED(wr_closep) int fd = clone_of(AT_FDCWD, "/", 0);

	return fd >= 0;
}

/* dest and what is missing above it, 0755 whatever the umask says. */
static int
make_place(const char *dest, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *s = wr_strdup(dest);

	for (char *p = s + 1;; p++) {
		char c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		if (mkdir(s, 0755) == 0) {
			if (chmod(s, 0755) < 0)
				return wr_err_sys(err, "set the mode of '%s'", WR_Q(s));
		} else if (errno != EEXIST) {
			return wr_err_sys(err, "make directory '%s'", WR_Q(s));
		}
		if (c == '\0')
			return 0;
		*p = c;
	}
}

int
wr_mount_bind(int src_fd, const char *dest, struct wr_err *err)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
				  .propagation = MS_PRIVATE};
	WR_SCOPED(wr_closep) int tree = -1;
	WR_SCOPED(wr_closep) int at = -1;

	if (*dest != '/')
		return wr_err_set(err, WR_E_INVALID, "'%s' is no absolute path", WR_Q(dest));
	if (make_place(dest, err) < 0)
		return -1;
	at = open_place(dest);
	if (at < 0)
		return wr_err_sys(err, "open '%s'", WR_Q(dest));
	tree = clone_of(src_fd, "", AT_EMPTY_PATH);
	/* The flags before the place: never is it there without them. */
	if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0 ||
	    move_mount(tree, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return wr_err_sys(err, "mount onto '%s'", WR_Q(dest));
	return 0;
}

bool
wr_mount_is(int src_fd, const char *dest)
{
	WR_SCOPED(wr_closep) int at = open_place(dest);
	struct statx want, there;

	return at >= 0 && statx(src_fd, "", AT_EMPTY_PATH, STATX_INO, &want) == 0 &&
	       statx(at, "", AT_EMPTY_PATH, STATX_INO, &there) == 0 &&
	       (there.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) &&
	       (there.stx_attributes & STATX_ATTR_MOUNT_ROOT) && want.stx_ino == there.stx_ino &&
	       want.stx_dev_major == there.stx_dev_major &&
	       want.stx_dev_minor == there.stx_dev_minor;
}

int
wr_mount_drop(const char *dest, bool *out_held, struct wr_err *err)
{
	const struct timespec nap = {0, 10000000};
	bool held;
	int rc = umount2(dest, UMOUNT_NOFOLLOW);

	/* Who just looks, as a monitor does, is gone in a moment. */
	for (unsigned i = 0; rc < 0 && errno == EBUSY && i < HELD_TRIES; i++) {
		nanosleep(&nap, NULL);
		rc = umount2(dest, UMOUNT_NOFOLLOW);
	}
	held = rc < 0 && errno == EBUSY;
	if (held)
		rc = umount2(dest, MNT_DETACH | UMOUNT_NOFOLLOW);
	if (out_held)
		*out_held = held;
	/* EINVAL: nothing is mounted there. */
	if (rc == 0 || errno == EINVAL || errno == ENOENT)
		return 0;
	return wr_err_sys(err, "unmount '%s'", WR_Q(dest));
}

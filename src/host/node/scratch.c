/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scratch: a directory of a project that is on this host alone, in no snapshot and on no other
 * node.
 *
 *   VOLUME/scratch/ID          made by a start; its user's
 *   VOLUME/scratch/.trash/ID   set aside; its modification time is when
 *   VOLUME/scratch/.gone/ID    its time in the trash is over: nobody takes it back any more
 *
 * A project has one of them, on one volume; it goes from one place to the next by a rename, so no
 * crash loses it, and who renames first has it.
 */
#include "host/node/node_int.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/fs.h"

#define DIR_NAME "scratch"
static const char *const part_name[] = {"", ".trash", ".gone"};

/* Limits and renames are of one file system; and who owns a directory renames what is in it. */
static int
check_own(const struct wr_volume *v, int fd, struct wr_err *err)
{
	struct statx a, b;

	if (statx(v->fd, "", AT_EMPTY_PATH, STATX_UID | STATX_MNT_ID, &a) < 0 ||
	    statx(fd, "", AT_EMPTY_PATH, STATX_UID | STATX_MNT_ID, &b) < 0)
		return wr_err_sys(err, "look at '%s/" DIR_NAME "'", v->path);
	if (b.stx_uid != geteuid())
		return wr_err_set(err, WR_E_DENIED, "'%s/" DIR_NAME "' belongs to uid %u", v->path,
				  (unsigned)b.stx_uid);
	if (!(a.stx_mask & b.stx_mask & STATX_MNT_ID) || a.stx_mnt_id == b.stx_mnt_id)
		return 0;
	wr_err_set(err, WR_E_DENIED, "'%s/" DIR_NAME "' is another mount than its volume", v->path);
	return wr_err_hint(err, "umount it; a faster disk is a volume of its own: "
				"warren volume add DIRECTORY");
}

static int
make_all(const struct wr_volume *v, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int fd = -1;

	if (mkdirat(v->fd, DIR_NAME, 0711) < 0 && errno != EEXIST)
		return wr_err_sys(err, "make directory '%s/" DIR_NAME "'", v->path);
	fd = wr_open_dir(v->fd, DIR_NAME);
	if (fd < 0)
		return wr_err_sys(err, "open '%s/" DIR_NAME "'", v->path);
	if (check_own(v, fd, err) < 0)
		return -1;
	/* Users pass through on the way to what is theirs, whatever the umask. */
	if (fchmod(fd, 0711) < 0)
		return wr_err_sys(err, "open '%s/" DIR_NAME "' to users", v->path);
	for (size_t i = WR_SCRATCH_TRASH; i < WR_ARRAY_LEN(part_name); i++)
		if (mkdirat(fd, part_name[i], 0700) < 0 && errno != EEXIST)
			return wr_err_sys(err, "make directory '%s/" DIR_NAME "/%s'", v->path,
					  part_name[i]);
	return wr_fsync_dir(fd, ".", err) < 0 ? -1 : wr_fsync_dir(v->fd, ".", err);
}

int
wr_scratch_dir(const struct wr_volume *v, enum wr_scratch_part part, bool make, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int top = -1;
	int fd;

	if (make && make_all(v, err) < 0)
		return -1;
	top = wr_open_dir(v->fd, DIR_NAME);
	if (top < 0)
		return wr_err_sys(err, "open '%s/" DIR_NAME "'", v->path);
	if (check_own(v, top, err) < 0)
		return -1;
	fd = wr_open_dir(top, part == WR_SCRATCH_LIVE ? "." : part_name[part]);
	return fd < 0 ? wr_err_sys(err, "open '%s/" DIR_NAME "/%s'", v->path, part_name[part]) : fd;
}

bool
wr_scratch_find(const struct wr_node *n, const struct wr_uuid *id, enum wr_scratch_part part,
		size_t *out_vol)
{
	for (size_t i = 0; i < n->volume_count; i++) {
		WR_SCOPED(wr_closep) int dir = wr_scratch_dir(&n->volume[i], part, false, NULL);
		struct stat st;

		if (dir < 0 || fstatat(dir, id->s, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISDIR(st.st_mode))
			continue;
		*out_vol = i;
		return true;
	}
	return false;
}

bool
wr_scratch_is_empty(const struct wr_volume *v, const struct wr_uuid *id)
{
	WR_SCOPED(wr_closep) int dir = wr_scratch_dir(v, WR_SCRATCH_LIVE, false, NULL);
	int fd = dir < 0 ? -1 : wr_open_dir(dir, id->s);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;
	bool empty = d != NULL;

	if (!d) {
		wr_closep(&fd);
		return false;
	}
	while (empty && (e = readdir(d)))
		empty = !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..");
	closedir(d);
	return empty;
}

char *
wr_scratch_path(const struct wr_volume *v, const struct wr_uuid *id)
{
	return wr_asprintf("%s/" DIR_NAME "/%s", v->path, id->s);
}

int
wr_scratch_move(const struct wr_volume *v, const struct wr_uuid *id, enum wr_scratch_part from,
		enum wr_scratch_part to, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int from_fd = wr_scratch_dir(v, from, false, err);
	WR_SCOPED(wr_closep) int to_fd = -1;

	if (from_fd < 0)
		return -1;
	to_fd = wr_scratch_dir(v, to, true, err);
	if (to_fd < 0)
		return -1;
	/* Before it is there, for its time in the trash begins now, whatever its user made of it.
	 */
	if (to == WR_SCRATCH_TRASH && utimensat(from_fd, id->s, NULL, AT_SYMLINK_NOFOLLOW) < 0)
		return wr_err_sys(err, "touch the scratch of project %s", id->s);
	if (renameat2(from_fd, id->s, to_fd, id->s, RENAME_NOREPLACE) < 0)
		return wr_err_sys(err, "move the scratch of project %s", id->s);
	/* DURABLE: where it is now before where it was. */
	return wr_fsync_dir(to_fd, ".", err) < 0 ? -1 : wr_fsync_dir(from_fd, ".", err);
}

int64_t
wr_scratch_since(const struct wr_volume *v, const struct wr_uuid *id)
{
	WR_SCOPED(wr_closep) int dir = wr_scratch_dir(v, WR_SCRATCH_TRASH, false, NULL);
	struct stat st;

	if (dir < 0 || fstatat(dir, id->s, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return st.st_mtim.tv_sec;
}

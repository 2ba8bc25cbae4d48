/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/snap/hardlink.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/snap/apply.h"
#include "sys/fs.h"

enum group_state { GROUP_MAKING = 1, GROUP_READY, GROUP_FAILED };

struct group {
	enum group_state state;
	char *path; /* owned */
	dev_t dev;
	ino_t ino;
};

struct wr_relinks {
	pthread_mutex_t mutex;
	pthread_cond_t ended; /* a group left GROUP_MAKING */
	struct wr_idmap map;  /* group id -> index into group */
	struct group *group;
	size_t count, cap;
	struct wr_idmap inode; /* hash of device and inode -> 1 */
	struct wr_idmap owner; /* hash of device, inode and owner -> 1 */
};

struct wr_relinks *
wr_relinks_new(void)
{
	struct wr_relinks *l = wr_calloc(1, sizeof(*l));

	pthread_mutex_init(&l->mutex, NULL);
	pthread_cond_init(&l->ended, NULL);
	return l;
}

void
wr_relinks_free(struct wr_relinks *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->count; i++)
		free(l->group[i].path);
	free(l->group);
	wr_idmap_fini(&l->map);
	wr_idmap_fini(&l->inode);
	wr_idmap_fini(&l->owner);
	pthread_mutex_destroy(&l->mutex);
	pthread_cond_destroy(&l->ended);
	free(l);
}

static void
add_bytes(struct wr_buf *b, struct wr_bytes s)
{
	wr_buf_add64be(b, s.p ? s.len : UINT64_MAX);
	if (s.p)
		wr_buf_add(b, s.p, s.len);
}

void
wr_relink_group(const struct wr_meta *m, const struct wr_id *content, bool chunked,
		struct wr_id *out)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_rd r = wr_rd(m->xattrs.p, m->xattrs.len);
	struct wr_bytes name, value;
	uint8_t sum[WR_ID_LEN] = {0};

	add_bytes(&b, m->hardlink);
	wr_buf_add(&b, content->b, WR_ID_LEN);
	wr_buf_add8(&b, chunked);
	wr_buf_add32be(&b, m->mode);
	wr_buf_add32be(&b, m->uid);
	wr_buf_add32be(&b, m->gid);
	wr_buf_add64be(&b, m->rdev);
	wr_buf_add64be(&b, (uint64_t)m->mtime.s);
	wr_buf_add32be(&b, m->mtime.ns);
	wr_buf_add64be(&b, m->attr & WR_ATTR_VISIBLE);
	/* Attributes are a set: the names of one inode may have been listed in another order. */
	while (m->xattr_count && wr_meta_xattr_next(&r, &name, &value) > 0) {
		WR_SCOPED(wr_buf_fini) struct wr_buf pair = WR_BUF_INIT;
		struct wr_id id;

		add_bytes(&pair, name);
		add_bytes(&pair, value);
		id = wr_obj_id(WR_OBJ_BLOB, pair.p, pair.len);
		for (size_t i = 0; i < WR_ID_LEN; i++)
			sum[i] ^= id.b[i];
	}
	wr_buf_add(&b, sum, sizeof(sum));
	*out = wr_obj_id(WR_OBJ_BLOB, b.p, b.len);
}

static struct group *
find_locked(struct wr_relinks *l, const struct wr_id *id)
{
	uint64_t *at = wr_idmap_find(&l->map, id);

	return at ? &l->group[*at] : NULL;
}

static struct group *
put_locked(struct wr_relinks *l, const struct wr_id *id)
{
	bool new_group;
	uint64_t *at = wr_idmap_put(&l->map, id, &new_group);

	if (new_group) {
		*at = l->count;
		wr_grow(&l->group, &l->cap, l->count + 1, sizeof(*l->group));
		l->group[l->count++] = (struct group){.state = GROUP_FAILED};
	}
	return &l->group[*at];
}

bool
wr_relinks_claim(struct wr_relinks *l, const struct wr_id *id, struct wr_relink_at *out)
{
	struct group *g;
	bool first;

	pthread_mutex_lock(&l->mutex);
	put_locked(l, id);
	while ((g = find_locked(l, id))->state == GROUP_MAKING)
		pthread_cond_wait(&l->ended, &l->mutex);
	first = g->state == GROUP_FAILED;
	if (first)
		g->state = GROUP_MAKING;
	else
		*out = (struct wr_relink_at){wr_strdup(g->path), g->dev, g->ino};
	pthread_mutex_unlock(&l->mutex);
	return first;
}

void
wr_relinks_done(struct wr_relinks *l, const struct wr_id *id, const char *path, size_t len,
		dev_t dev, ino_t ino)
{
	struct group *g;

	pthread_mutex_lock(&l->mutex);
	g = put_locked(l, id);
	free(g->path);
	g->path = wr_malloc(len + 1);
	memcpy(g->path, path, len);
	g->path[len] = '\0';
	g->dev = dev;
	g->ino = ino;
	g->state = GROUP_READY;
	pthread_cond_broadcast(&l->ended);
	pthread_mutex_unlock(&l->mutex);
}

void
wr_relinks_failed(struct wr_relinks *l, const struct wr_id *id)
{
	pthread_mutex_lock(&l->mutex);
	put_locked(l, id)->state = GROUP_FAILED;
	pthread_cond_broadcast(&l->ended);
	pthread_mutex_unlock(&l->mutex);
}

bool
wr_relinks_take_inode(struct wr_relinks *l, dev_t dev, ino_t ino, const struct wr_id *group)
{
	uint8_t b[16 + WR_ID_LEN] = {0};
	struct wr_id inode, owner;
	bool new_inode, mine;

	wr_put64be(b, dev);
	wr_put64be(b + 8, ino);
	inode = wr_obj_id(WR_OBJ_BLOB, b, 16);
	if (group)
		memcpy(b + 16, group->b, WR_ID_LEN);
	owner = wr_obj_id(WR_OBJ_BLOB, b, sizeof(b));
	pthread_mutex_lock(&l->mutex);
	wr_idmap_put(&l->inode, &inode, &new_inode);
	if (new_inode && group)
		wr_idmap_put(&l->owner, &owner, &mine);
	mine = new_inode || (group && wr_idmap_find(&l->owner, &owner));
	pthread_mutex_unlock(&l->mutex);
	return mine;
}

/* ---- making links ---- */

/* The directory that holds path, found without following any link; -1 with errno. */
static int
open_parent(int root_fd, const char *path, const char **out_base)
{
	const char *slash = strrchr(path, '/');
	WR_SCOPED(wr_freep) char *dir = slash ? wr_memdup(path, (size_t)(slash - path) + 1) : NULL;
	struct open_how how = {
	    .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
	    .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	int fd;

	*out_base = slash ? slash + 1 : path;
	if (!slash)
		return openat(root_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	dir[slash - path] = '\0';
	fd = (int)syscall(SYS_openat2, root_fd, dir, &how, sizeof(how));
	if (fd >= 0 || (errno != ENOSYS && errno != ENAMETOOLONG && errno != EPERM))
		return fd;
	/* An old kernel, a filter that does not know the call, or a path above PATH_MAX. */
	fd = openat(root_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (char *part = dir, *next; fd >= 0 && part; part = next) {
		int down;

		next = strchr(part, '/');
		if (next)
			*next++ = '\0';
		down = openat(fd, part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		close(fd);
		fd = down;
	}
	return fd;
}

/* An immutable file takes no further name: for this moment it is not. */
static int
link_locked(int from, const char *base, const struct wr_relink_at *at, int dirfd, const char *name)
{
	WR_SCOPED(wr_closep) int here = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	WR_SCOPED(wr_closep)
	int fd = openat(here, base, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	unsigned flags = 0;
	struct stat st;
	int rc;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_ino != at->ino || st.st_dev != at->dev ||
	    ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0 || !wr_apply_unlock(fd)) {
		errno = EPERM;
		return -1;
	}
	rc = linkat(from, base, dirfd, name, 0);
	if (ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0)
		return -1;
	return rc;
}

int
wr_relinks_make(int root_fd, const struct wr_relink_at *at, int dirfd, const char *name)
{
	const char *base;
	WR_SCOPED(wr_closep) int from = open_parent(root_fd, at->path, &base);
	struct stat st;

	if (from < 0)
		return -1;
	if (linkat(from, base, dirfd, name, 0) < 0 &&
	    (errno != EPERM || link_locked(from, base, at, dirfd, name) < 0))
		return -1;
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -1;
	if (st.st_dev == at->dev && st.st_ino == at->ino)
		return 0;
	unlinkat(dirfd, name, 0);
	errno = ESTALE;
	return -1;
}

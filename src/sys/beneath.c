/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/beneath.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sys/fs.h"

#define PATH_BYTES 4095
#define NAME_BYTES 255

/* ---- text ---- */

/* Is the component fit to be opened? "." is not: a clean path has none. */
static bool
is_name(const char *p, size_t len)
{
	return len > 0 && len <= NAME_BYTES && !(len == 1 && p[0] == '.') &&
	       !(len == 2 && p[0] == '.' && p[1] == '.');
}

char *
wr_beneath_clean(const char *path, size_t len, struct wr_err *err)
{
	struct wr_buf out WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;

	if (memchr(path, '\0', len)) {
		wr_err_set(err, WR_E_INVALID, "the path '%s' holds a zero byte",
			   wr_quote(path, len).s);
		return NULL;
	}
	for (size_t i = 0, n; i < len; i += n + 1) {
		const char *slash = memchr(path + i, '/', len - i);

		n = (slash ? (size_t)(slash - path) : len) - i;
		if (n == 0 || (n == 1 && path[i] == '.'))
			continue;
		if (!is_name(path + i, n)) {
			wr_err_set(err, WR_E_INVALID,
				   n > NAME_BYTES ? "a name in the path '%s' is too long"
						  : "the path '%s' leads upwards",
				   wr_quote(path, len).s);
			return NULL;
		}
		if (out.len)
			wr_buf_add8(&out, '/');
		wr_buf_add(&out, path + i, n);
		if (out.len > PATH_BYTES) {
			wr_err_set(err, WR_E_INVALID, "the path '%s' is too long",
				   wr_quote(path, len).s);
			return NULL;
		}
	}
	return wr_buf_detach(&out, NULL);
}

/* Is it as wr_beneath_clean leaves a path? Checked again, for what depends on it. */
static int
check_clean(const char *path, struct wr_err *err)
{
	const char *p = path;
	bool ok = strlen(path) <= PATH_BYTES;

	while (ok && *path) {
		size_t n = strcspn(p, "/");

		ok = is_name(p, n);
		if (!ok || !p[n])
			break;
		p += n + 1;
	}
	return ok ? 0 : wr_err_set(err, WR_E_INVALID, "'%s' is no clean path", WR_Q(path));
}

/* ---- opening ---- */

/* The number of the mount that fd is on; -1 if it cannot be told. */
static long
mount_of(int fd)
{
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;
	char name[64];
	const char *p;
	long id;

	snprintf(name, sizeof(name), "/proc/self/fdinfo/%d", fd);
	if (wr_read_file(AT_FDCWD, name, 1 << 16, &b, NULL) < 0)
		return -1;
	p = strstr(wr_buf_str(&b), "mnt_id:");
	return p && sscanf(p, "mnt_id: %ld", &id) == 1 ? id : -1;
}

/* errno as openat2 gives it. */
static int
open_one(int dirfd, long mount, const char *name, int flags, mode_t mode)
{
	int fd = openat(dirfd, name, flags | O_NOFOLLOW | O_CLOEXEC, mode);

	if (fd >= 0 && (mount < 0 || mount_of(fd) != mount)) {
		close(fd);
		errno = EXDEV;
		return -1;
	}
	return fd;
}

/*
 * For kernels (or filters of system calls) without openat2.  Each step opens one name in a
 * directory that is held, so nothing that others rename meanwhile can lead out of it.
 */
static int
open_stepwise(int dirfd, const char *path, int flags, mode_t mode)
{
	WR_SCOPED(wr_closep) int at = openat(dirfd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	char name[NAME_BYTES + 1];
	long mount = at < 0 ? -1 : mount_of(at);

	if (at < 0)
		return -1;
	for (;;) {
		size_t n = strcspn(path, "/");
		struct stat st;
		int next;

		snprintf(name, sizeof(name), "%.*s", n ? (int)n : 1, n ? path : ".");
		/* Also at the end: what is on another mount must not even be cut. */
		next = open_one(at, mount, name, O_PATH, 0);
		if (!path[n] && next < 0 && errno == ENOENT)
			return open_one(at, mount, name, flags, mode);
		if (next < 0)
			return -1;
		if (fstat(next, &st) < 0 || (!path[n] && (flags & (O_PATH | O_EXCL)))) {
			close(next);
			return open_one(at, mount, name, flags, mode);
		}
		if (S_ISLNK(st.st_mode) || (path[n] && !S_ISDIR(st.st_mode))) {
			close(next);
			errno = S_ISLNK(st.st_mode) ? ELOOP : ENOTDIR;
			return -1;
		}
		if (!path[n]) {
			close(next);
			return open_one(at, mount, name, flags, mode);
		}
		close(at);
		at = next;
		path += n + 1;
	}
}

static int
open_raw(int dirfd, const char *path, int flags, mode_t mode)
{
	static atomic_bool lacking;
	/* openat2 refuses a mode where nothing can be made. */
	const bool makes = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
	struct open_how how = {
	    .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC | O_NOFOLLOW),
	    .mode = makes ? mode & 07777 : 0,
	    .resolve =
		RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
	};
	int fd;

	if (atomic_load_explicit(&lacking, memory_order_relaxed))
		return open_stepwise(dirfd, path, flags, mode);
	do /* EAGAIN: something was renamed under the kernel's feet */
		fd = (int)syscall(SYS_openat2, dirfd, *path ? path : ".", &how, sizeof(how));
	while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	if (fd < 0 && errno == ENOSYS) {
		atomic_store_explicit(&lacking, true, memory_order_relaxed);
		return open_stepwise(dirfd, path, flags, mode);
	}
	return fd;
}

int
wr_beneath_open(int dirfd, const char *path, int flags, mode_t mode, struct wr_err *err)
{
	int fd, e;

	if (check_clean(path, err) < 0)
		return -1;
	fd = open_raw(dirfd, path, flags, mode);
	if (fd >= 0)
		return fd;
	e = errno;
	if (e == ELOOP || e == EXDEV)
		return wr_err_set(err, WR_E_DENIED, "'%s' leads out of its directory by a %s",
				  WR_Q(path), e == ELOOP ? "link" : "mount");
	wr_err_sys(err, "open '%s'", WR_Q(path));
	if (e == ENOTDIR)
		wr_err_recode(err, WR_E_NOT_FOUND);
	else if (e == EEXIST)
		wr_err_recode(err, WR_E_EXISTS);
	return -1;
}

int
wr_beneath_parent(int dirfd, const char *path, const char **out_name, struct wr_err *err)
{
	const char *slash = strrchr(path, '/');
	WR_SCOPED(wr_freep) char *parent = wr_strdup(path);
	int fd;

	if (!*path)
		return wr_err_set(err, WR_E_INVALID, "the top directory has no parent here");
	if (check_clean(path, err) < 0)
		return -1;
	parent[slash ? slash - path : 0] = '\0';
	fd = wr_beneath_open(dirfd, parent, O_RDONLY | O_DIRECTORY, 0, err);
	if (fd >= 0)
		*out_name = slash ? slash + 1 : path;
	return fd;
}

int
wr_beneath_mkdirs(int dirfd, const char *path, bool *out_existed, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int at = -1;
	char name[NAME_BYTES + 1];
	bool existed = true;

	if (check_clean(path, err) < 0)
		return -1;
	at = wr_beneath_open(dirfd, "", O_PATH | O_DIRECTORY, 0, err);
	if (at < 0)
		return -1;
	for (const char *p = path; *p;) {
		size_t n = strcspn(p, "/");
		int next;

		memcpy(name, p, n);
		name[n] = '\0';
		p += n + (p[n] == '/');
		existed = mkdirat(at, name, 0777) < 0;
		if (existed && errno != EEXIST)
			return wr_err_sys(err, "make directory '%s'", WR_Q(path));
		next = wr_beneath_open(at, name, O_PATH | O_DIRECTORY, 0, err);
		if (next < 0) {
			if (err && err->sys_errno == ENOTDIR)
				wr_err_recode(err, WR_E_EXISTS);
			return wr_err_wrap(err, "make directory '%s'", WR_Q(path));
		}
		close(at);
		at = next;
	}
	if (out_existed)
		*out_existed = existed;
	return 0;
}

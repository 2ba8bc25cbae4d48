/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/fs.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "sys/crash.h"

void
wr_closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

ssize_t
wr_read_full(int fd, void *p, size_t len)
{
	size_t n = 0;

	while (n < len) {
		ssize_t r = read(fd, (char *)p + n, len - n);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -1;
		if (r == 0)
			break;
		n += (size_t)r;
	}
	return (ssize_t)n;
}

ssize_t
wr_pread_full(int fd, void *p, size_t len, uint64_t off)
{
	size_t n = 0;

	while (n < len) {
		ssize_t r = pread(fd, (char *)p + n, len - n, (off_t)(off + n));

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -1;
		if (r == 0)
			break;
		n += (size_t)r;
	}
	return (ssize_t)n;
}

int
wr_write_all(int fd, const void *p, size_t len)
{
	size_t n = 0;

	while (n < len) {
		ssize_t r = write(fd, (const char *)p + n, len - n);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -1;
		n += (size_t)r;
	}
	return 0;
}

int
wr_pwrite_all(int fd, const void *p, size_t len, uint64_t off)
{
	size_t n = 0;

	while (n < len) {
		ssize_t r = pwrite(fd, (const char *)p + n, len - n, (off_t)(off + n));

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -1;
		n += (size_t)r;
	}
	return 0;
}

int
wr_read_file(int dirfd, const char *name, size_t max, struct wr_buf *out, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	struct stat st;
	size_t before = out->len;

	if (fd < 0)
		return wr_err_sys(err, "open '%s'", WR_Q(name));
	if (fstat(fd, &st) < 0)
		return wr_err_sys(err, "stat '%s'", WR_Q(name));
	if (S_ISDIR(st.st_mode)) {
		errno = EISDIR;
		return wr_err_sys(err, "read '%s'", WR_Q(name));
	}
	for (;;) {
		ssize_t n;

		wr_buf_reserve(out, WR_MAX((size_t)4096, (size_t)WR_MIN((uint64_t)st.st_size + 1,
									(uint64_t)max + 1)));
		n = wr_read_full(fd, out->p + out->len, out->cap - out->len);
		if (n < 0)
			return wr_err_sys(err, "read '%s'", WR_Q(name));
		if (n == 0)
			return 0;
		out->len += (size_t)n;
		if (out->len - before > max)
			return wr_err_set(err, WR_E_LIMIT, "'%s' is larger than %zu bytes",
					  WR_Q(name), max);
	}
}

void
wr_random_name(char *out, size_t out_size, const char *prefix)
{
	static const char abc[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	uint8_t r[12] = {0};
	size_t n = strlen(prefix);

	wr_assert(out_size >= n + sizeof(r) + 1);
	while (getrandom(r, sizeof(r), 0) != (ssize_t)sizeof(r))
		; /* at most 256 bytes are never cut short once the pool is ready */
	memcpy(out, prefix, n);
	for (size_t i = 0; i < sizeof(r); i++)
		out[n + i] = abc[r[i] % 36];
	out[n + sizeof(r)] = '\0';
}

int
wr_fsync_dir(int dirfd, const char *what, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int fd = openat(dirfd, what, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		return wr_err_sys(err, "sync directory '%s'", WR_Q(what));
	return 0;
}

int
wr_replace_file(int dirfd, const char *name, const void *p, size_t len, int mode,
		struct wr_err *err)
{
	const char *slash = strrchr(name, '/');
	WR_SCOPED(wr_freep)
	char *dir = slash ? wr_memdup(name, (size_t)(slash - name) + 1) : wr_strdup(".");
	WR_SCOPED(wr_freep) char *prefix = wr_asprintf("%s.tmp-", name);
	WR_SCOPED(wr_freep) char *tmp = wr_malloc(strlen(prefix) + 13);
	WR_SCOPED(wr_closep) int fd = -1;

	if (slash)
		dir[slash - name] = '\0';
	wr_random_name(tmp, strlen(prefix) + 13, prefix);
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd < 0)
		return wr_err_sys(err, "create '%s'", WR_Q(tmp));
	/* DURABLE: data, name, directory in turn. */
	if (wr_write_all(fd, p, len) < 0 || fsync(fd) < 0) {
		wr_err_sys(err, "write '%s'", WR_Q(tmp));
		goto fail;
	}
	wr_crash_point("file.replace-written");
	if (renameat(dirfd, tmp, dirfd, name) < 0) {
		wr_err_sys(err, "rename '%s' to '%s'", WR_Q(tmp), WR_Q(name));
		goto fail;
	}
	wr_crash_point("file.replace-renamed");
	return wr_fsync_dir(dirfd, dir, err);
fail:
	unlinkat(dirfd, tmp, 0);
	return -1;
}

int
wr_open_dir(int dirfd, const char *path)
{
	return openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* errno stays EEXIST if it is something else. */
static bool
is_dir(int dirfd, const char *path)
{
	struct stat st;

	if (fstatat(dirfd, path, &st, 0) < 0)
		return false;
	errno = EEXIST;
	return S_ISDIR(st.st_mode);
}

int
wr_mkdirs(int dirfd, const char *path, int mode, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *s = wr_strdup(path);

	for (char *p = s + 1; *s; p++) {
		char c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		if (mkdirat(dirfd, s, (mode_t)mode) < 0 && !(errno == EEXIST && is_dir(dirfd, s)))
			return wr_err_sys(err, "make directory '%s'", WR_Q(s));
		if (c == '\0')
			break;
		*p = c;
	}
	return 0;
}

int
wr_remove_tree(int dirfd, const char *name, struct wr_err *err)
{
	int fd;
	DIR *d;
	struct dirent *e;
	int rc = 0;

	if (unlinkat(dirfd, name, 0) == 0)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return wr_err_sys(err, "remove '%s'", WR_Q(name));
	fd = wr_open_dir(dirfd, name);
	if (fd < 0)
		return wr_err_sys(err, "open directory '%s'", WR_Q(name));
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return wr_err_sys(err, "read directory '%s'", WR_Q(name));
	}
	while (rc == 0 && (e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		rc = wr_remove_tree(fd, e->d_name, err);
	}
	closedir(d);
	if (rc == 0 && unlinkat(dirfd, name, AT_REMOVEDIR) < 0)
		return wr_err_sys(err, "remove directory '%s'", WR_Q(name));
	return rc;
}

void
wr_raise_fd_limit(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &rl); /* the old limit then stands */
	}
}

/* Spread over the file; one byte each. */
#define PROBES 16

bool
wr_cached(int fd, uint64_t size)
{
	for (uint64_t i = 0; i < PROBES; i++) {
		uint8_t byte;
		struct iovec v = {&byte, 1};

		if (preadv2(fd, &v, 1, (off_t)(size / PROBES * i), RWF_NOWAIT) >= 0 ||
		    errno != EAGAIN)
			return true;
	}
	return false;
}

void
wr_uncache(int fd, uint64_t off, uint64_t len)
{
	(void)posix_fadvise(fd, (off_t)off, (off_t)len, POSIX_FADV_DONTNEED); /* only advice */
}

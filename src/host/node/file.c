/* SPDX-License-Identifier: Apache-2.0 */
#include "host/node/node_int.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "sys/clock.h"
#include "sys/fs.h"

static int
read_bounded(int fd, off_t size, const char *name, size_t max, struct wr_buf *out,
	     struct wr_err *err)
{
	ssize_t n;

	if ((uint64_t)size > max)
		return wr_err_set(err, WR_E_CORRUPT, "'%s' is larger than %zu bytes", WR_Q(name),
				  max);
	/* Files are replaced, never written into: it does not grow under us. */
	wr_buf_reserve(out, (size_t)size + 1);
	n = wr_read_full(fd, out->p, (size_t)size);
	if (n < 0)
		return wr_err_sys(err, "read '%s'", WR_Q(name));
	out->len = (size_t)n;
	return 0;
}

json_t *
wr_file_load(int dirfd, const char *name, size_t max, const char *format_key, uint64_t format,
	     struct wr_err *err)
{
	/* O_NONBLOCK: a fifo in its place must not make us wait. */
	WR_SCOPED(wr_closep)
	int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	struct wr_err why = WR_ERR_INIT;
	struct stat st;
	const json_t *f;

	if (fd < 0) {
		int e = errno;

		wr_err_sys(err, "open '%s'", WR_Q(name));
		if (e == ELOOP)
			wr_err_set(err, WR_E_CORRUPT, "'%s' is a link", WR_Q(name));
		return NULL;
	}
	if (fstat(fd, &st) < 0) {
		wr_err_sys(err, "stat '%s'", WR_Q(name));
		return NULL;
	}
	if (!S_ISREG(st.st_mode)) {
		wr_err_set(err, WR_E_CORRUPT, "'%s' is no regular file", WR_Q(name));
		return NULL;
	}
	if (read_bounded(fd, st.st_size, name, max, &b, err) < 0)
		return NULL;
	o = wr_json_parse(b.p, b.len, &why);
	if (!o) {
		wr_err_set(err, WR_E_CORRUPT, "'%s': %s", WR_Q(name), why.msg);
		return NULL;
	}
	f = json_object_get(o, format_key); /* NULL for what is no object */
	if (!json_is_integer(f) || json_integer_value(f) < 0) {
		wr_err_set(err, WR_E_CORRUPT, "'%s' says no format", WR_Q(name));
		return NULL;
	}
	if ((uint64_t)json_integer_value(f) > format) {
		wr_err_set(err, WR_E_UNSUPPORTED,
			   "'%s' has format %" JSON_INTEGER_FORMAT
			   ", this program reads up to %" PRIu64,
			   WR_Q(name), json_integer_value(f), format);
		wr_err_hint(err, "a newer release wrote it; run that release or a later one");
		return NULL;
	}
	return wr_steal(&o);
}

/* Atomic alone: after a power loss the file may be empty or old. */
static int
replace_quickly(int dirfd, const char *name, const struct wr_buf *b, mode_t mode,
		struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *prefix = wr_asprintf("%s.tmp-", name);
	WR_SCOPED(wr_freep) char *tmp = wr_malloc(strlen(prefix) + 13);
	WR_SCOPED(wr_closep) int fd = -1;

	wr_random_name(tmp, strlen(prefix) + 13, prefix);
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd < 0)
		return wr_err_sys(err, "create '%s'", WR_Q(tmp));
	if (wr_write_all(fd, b->p, b->len) == 0 && renameat(dirfd, tmp, dirfd, name) == 0)
		return 0;
	wr_err_sys(err, "write '%s'", WR_Q(name));
	unlinkat(dirfd, tmp, 0);
	return -1;
}

int
wr_file_store(int dirfd, const char *name, const json_t *o, size_t max, mode_t mode, bool durable,
	      struct wr_err *err)
{
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;

	wr_json_write(o, &b);
	wr_buf_add8(&b, '\n');
	if (b.len > max)
		return wr_err_set(err, WR_E_LIMIT, "'%s' would be larger than %zu bytes",
				  WR_Q(name), max);
	return durable ? wr_replace_file(dirfd, name, b.p, b.len, (int)mode, err)
		       : replace_quickly(dirfd, name, &b, mode, err);
}

void
wr_file_sweep(int dirfd, int64_t age_s)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	int64_t now = wr_clock_wall().s;
	struct dirent *e;

	if (!d) {
		wr_closep(&fd);
		return; /* it only tidies */
	}
	while ((e = readdir(d))) {
		const char *tail = strstr(e->d_name, ".tmp-");
		struct stat st;

		if (tail && strlen(tail) == 17 &&
		    fstatat(dirfd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode) && st.st_mtim.tv_sec + age_s <= now)
			(void)unlinkat(dirfd, e->d_name, 0);
	}
	closedir(d);
}

char *
wr_note_read(int dirfd, const char *name)
{
	WR_SCOPED(wr_closep)
	int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	char note[512];
	ssize_t n = fd < 0 ? -1 : wr_pread_full(fd, note, sizeof(note) - 1, 0);

	if (n <= 0)
		return NULL;
	note[n] = '\0';
	note[strcspn(note, "\n")] = '\0';
	return *note ? wr_strdup(note) : NULL;
}

struct wr_short
wr_now_text(void)
{
	return wr_fmt_utc(wr_clock_wall().s);
}

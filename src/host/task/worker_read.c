/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file as it is, or a folder as one tar or zip, to standard output, as the project's user.
 * libarchive is loaded when it is needed: a host without it lacks the two archives and nothing
 * else.
 */
#include <archive.h>
#include <archive_entry.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <locale.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "host/task/worker_int.h"
#include "sys/beneath.h"
#include "sys/fs.h"

#define LIBRARY "libarchive.so.13"
#define COPY_BYTES (256u << 10)

/* ---- the library ---- */

#define CALLS(X)                                   \
	X(archive_write_new)                       \
	X(archive_write_free)                      \
	X(archive_write_close)                     \
	X(archive_write_set_format_pax_restricted) \
	X(archive_write_set_format_zip)            \
	X(archive_write_set_bytes_in_last_block)   \
	X(archive_write_open)                      \
	X(archive_write_header)                    \
	X(archive_write_data)                      \
	X(archive_error_string)                    \
	X(archive_errno)                           \
	X(archive_entry_new)                       \
	X(archive_entry_free)                      \
	X(archive_entry_clear)                     \
	X(archive_entry_set_pathname)              \
	X(archive_entry_copy_stat)                 \
	X(archive_entry_set_nlink)                 \
	X(archive_entry_set_size)                  \
	X(archive_entry_set_symlink)

static struct {
#define X(name) __typeof__(name) *name;
	CALLS(X)
#undef X
} ar;

static int
load(struct wr_err *err)
{
	void *lib = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	void *p;

	if (!lib) {
		wr_err_set(err, WR_E_UNSUPPORTED, "this host cannot make archives: %s", dlerror());
		return wr_err_hint(err, "install libarchive13 (apt-get install libarchive13)");
	}
	/* Never unloaded: the process ends with its one task. */
#define X(name)                                                                          \
	p = dlsym(lib, #name);                                                           \
	if (!p)                                                                          \
		return wr_err_set(err, WR_E_UNSUPPORTED, LIBRARY " has no '%s'", #name); \
	memcpy(&ar.name, &p, sizeof(p));
	CALLS(X)
#undef X
	return 0;
}

/* ---- one file ---- */

struct reading {
	struct wr_worker *w;
	uint64_t max; /* 0: no limit */
	uint64_t bytes, files;
	struct wr_notes skipped;
	uint8_t *block;
	/* archives */
	struct archive *a;
	struct archive_entry *entry;
	const char *base; /* name of the folder in the archive; "" for the home itself */
	bool zip;
	int write_errno;
};

static int
too_large(const struct reading *r, struct wr_err *err)
{
	wr_err_set(err, WR_E_LIMIT, "it holds more than %s", wr_fmt_bytes(r->max).s);
	return wr_err_hint(err, "--max-size sets another limit");
}

static int
read_raw(struct reading *r, int fd, uint64_t size, struct wr_err *err)
{
	if (r->max && size > r->max)
		return too_large(r, err);
	for (;;) {
		ssize_t n = wr_read_full(fd, r->block, COPY_BYTES);

		if (n < 0)
			return wr_err_sys(err, "read the file");
		if (n == 0)
			return 0;
		r->bytes += (uint64_t)n;
		if (r->max && r->bytes > r->max) /* it grows */
			return too_large(r, err);
		if (wr_write_all(r->w->out_fd, r->block, (size_t)n) < 0)
			return wr_err_sys(err, "write the file");
	}
}

/* ---- archives ---- */

static la_ssize_t
on_write(struct archive *a, void *ctx, const void *p, size_t len)
{
	struct reading *r = ctx;

	(void)a;
	if (wr_write_all(r->w->out_fd, p, len) == 0)
		return (la_ssize_t)len;
	r->write_errno = errno;
	return -1;
}

static int
archive_failed(struct reading *r, struct wr_err *err)
{
	const char *why = ar.archive_error_string(r->a);

	if (r->write_errno) {
		errno = r->write_errno;
		return wr_err_sys(err, "write the archive");
	}
	return wr_err_set(err, WR_E_FAILED, "write the archive: %s", why ? why : "unknown error");
}

static void
skip(struct reading *r, const struct wr_met *m, const char *reason)
{
	wr_notes_add(&r->skipped, m->path_len ? m->path : ".", m->path_len ? m->path_len : 1,
		     reason, 0);
}

/* As many bytes as the header says, whatever the file does meanwhile. */
static int
add_content(struct reading *r, const struct wr_met *m, int fd, uint64_t size, struct wr_err *err)
{
	bool whole = true;

	while (size) {
		size_t want = (size_t)WR_MIN(size, (uint64_t)COPY_BYTES);
		ssize_t n = whole ? wr_read_full(fd, r->block, want) : 0;

		if (n < (ssize_t)want) {
			whole = false;
			memset(r->block + WR_MAX(n, 0), 0, want - (size_t)WR_MAX(n, 0));
		}
		if (ar.archive_write_data(r->a, r->block, want) < 0)
			return archive_failed(r, err);
		size -= want;
		r->bytes += want;
		wr_worker_progress(NULL, "read", r->files, 0, r->bytes, 0);
	}
	if (!whole)
		skip(r, m, "it became shorter while it was read");
	return 0;
}

static int
set_target(struct reading *r, const struct wr_met *m)
{
	char target[4096];
	ssize_t n = readlinkat(m->fd, "", target, sizeof(target) - 1);

	if (n < 0)
		return -1;
	target[n] = '\0';
	ar.archive_entry_set_symlink(r->entry, target);
	return 0;
}

static char *
name_in_archive(const struct reading *r, const struct wr_met *m)
{
	const bool both = *r->base && m->path_len;

	return wr_asprintf("%s%s%s%s", r->base, both ? "/" : "", m->path,
			   S_ISDIR(m->st.st_mode) ? "/" : "");
}

static int
add_entry(void *ctx, const struct wr_met *m, bool after, struct wr_err *err)
{
	struct reading *r = ctx;
	WR_SCOPED(wr_freep) char *name = name_in_archive(r, m);
	WR_SCOPED(wr_freep) char *fit = NULL;
	WR_SCOPED(wr_closep) int fd = -1;
	const mode_t type = m->st.st_mode & S_IFMT;
	struct stat st = m->st;
	char held[40];
	int rc;

	(void)after;
	if (!strcmp(name, "/"))
		return 0; /* the home itself has no name */
	if (type != S_IFREG && type != S_IFDIR && type != S_IFLNK) {
		skip(r, m, "neither file, directory nor link");
		return 0;
	}
	if (type == S_IFREG) {
		snprintf(held, sizeof(held), "/proc/self/fd/%d", m->fd);
		fd = open(held, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) < 0) {
			skip(r, m, "cannot be read");
			return 0;
		}
		if (r->max && (uint64_t)st.st_size > r->max - WR_MIN(r->bytes, r->max))
			return too_large(r, err);
	}
	/* The one kind of names that readers of zip files agree on. */
	if (r->zip && !wr_utf8_valid(name, strlen(name))) {
		fit = wr_utf8_lossy(name, strlen(name));
		skip(r, m, "its name is not UTF-8 and was changed in the archive");
	}
	ar.archive_entry_clear(r->entry);
	ar.archive_entry_copy_stat(r->entry, &st);
	ar.archive_entry_set_nlink(r->entry, 1);
	ar.archive_entry_set_pathname(r->entry, fit ? fit : name);
	if (type != S_IFREG)
		ar.archive_entry_set_size(r->entry, 0);
	if (type == S_IFLNK && set_target(r, m) < 0) {
		skip(r, m, "cannot be read");
		return 0;
	}
	rc = ar.archive_write_header(r->a, r->entry);
	if (rc == ARCHIVE_FATAL || (rc < ARCHIVE_WARN && r->write_errno))
		return archive_failed(r, err);
	if (rc < ARCHIVE_WARN) {
		skip(r, m, "the archive's format cannot hold it");
		return 0;
	}
	r->files++;
	return fd < 0 ? 0 : add_content(r, m, fd, (uint64_t)st.st_size, err);
}

static int
add_size(void *ctx, const struct wr_met *m, bool after, struct wr_err *err)
{
	struct reading *r = ctx;

	(void)after;
	if (S_ISREG(m->st.st_mode) &&
	    __builtin_add_overflow(r->bytes, (uint64_t)m->st.st_size, &r->bytes))
		r->bytes = UINT64_MAX;
	return r->bytes > r->max ? too_large(r, err) : 0;
}

/* Entries of a folder, or one file. */
static int
each(struct reading *r, int fd, const struct stat *st, wr_met_fn fn, struct wr_notes *skipped,
     struct wr_err *err)
{
	struct wr_met m = {.dirfd = -1, .name = "", .path = "", .fd = fd, .st = *st};

	return S_ISDIR(st->st_mode) ? wr_walk(fd, 0, fn, r, skipped, err)
				    : WR_MIN(fn(r, &m, false, err), 0);
}

static int
read_archive(struct reading *r, int fd, const struct stat *st, struct wr_err *err)
{
	int rc = 0;

	/* Before the first byte, so that nobody gets half of it. */
	if (r->max && each(r, fd, st, add_size, NULL, err) < 0)
		return -1;
	r->bytes = 0;
	if (load(err) < 0)
		return -1;
	(void)setlocale(LC_CTYPE, "C.UTF-8"); /* names are bytes, and mostly this */
	r->a = ar.archive_write_new();
	r->entry = ar.archive_entry_new();
	if (!r->a || !r->entry)
		return wr_err_set(err, WR_E_FAILED, "make an archive");
	if ((r->zip ? ar.archive_write_set_format_zip(r->a)
		    : ar.archive_write_set_format_pax_restricted(r->a)) != ARCHIVE_OK ||
	    ar.archive_write_set_bytes_in_last_block(r->a, 1) != ARCHIVE_OK ||
	    ar.archive_write_open(r->a, r, NULL, on_write, NULL) != ARCHIVE_OK)
		rc = archive_failed(r, err);
	if (rc == 0)
		rc = each(r, fd, st, add_entry, &r->skipped, err);
	if (rc == 0 && ar.archive_write_close(r->a) != ARCHIVE_OK)
		rc = archive_failed(r, err);
	ar.archive_entry_free(r->entry);
	ar.archive_write_free(r->a);
	return rc;
}

/* ---- the task ---- */

static int
open_place(const char *path, bool raw, struct stat *st, struct wr_err *err)
{
	/* A fifo or a device must not be opened for reading; so look first. */
	WR_SCOPED(wr_closep) int held = wr_beneath_open(WR_WORKER_TREE, path, O_PATH, 0, err);
	char name[40];
	int fd;

	if (held < 0)
		return -1;
	if (fstat(held, st) < 0)
		return wr_err_sys(err, "stat '%s'", WR_Q(path));
	if (raw && S_ISDIR(st->st_mode)) {
		wr_err_set(err, WR_E_INVALID, "'%s' is a directory", WR_Q(path));
		return wr_err_hint(err, "directories are read as --tar or --zip");
	}
	if (S_ISLNK(st->st_mode) && raw)
		return wr_err_set(err, WR_E_DENIED, "'%s' is a link, which is not followed",
				  WR_Q(path));
	if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode) && raw)
		return wr_err_set(err, WR_E_INVALID, "'%s' is neither file nor directory",
				  WR_Q(path));
	if (!raw && !S_ISDIR(st->st_mode)) {
		fd = held;
		held = -1;
		return fd;
	}
	snprintf(name, sizeof(name), "/proc/self/fd/%d", held);
	fd = open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	return fd < 0 ? wr_err_sys(err, "open '%s'", WR_Q(path)) : fd;
}

json_t *
wr_work_read(struct wr_worker *w, struct wr_err *err)
{
	const char *format = wr_json_get_str(w->args, "format", "raw");
	const bool raw = !strcmp(format, "raw");
	struct reading r = {.w = w, .max = wr_json_get_u64(w->args, "max_size", 0)};
	WR_SCOPED(wr_freep) char *path = NULL;
	WR_SCOPED(wr_closep) int fd = -1;
	struct stat st;
	json_t *o = NULL;
	int rc;

	r.zip = !strcmp(format, "zip");
	if (!raw && !r.zip && strcmp(format, "tar") != 0) {
		wr_err_set(err, WR_E_INVALID, "format: raw, tar or zip, not '%s'", WR_Q(format));
		return NULL;
	}
	if (wr_worker_path(w, "path", &path, err) < 0)
		return NULL;
	if (!path)
		path = wr_strdup("");
	fd = open_place(path, raw, &st, err);
	if (fd < 0)
		return NULL;
	r.base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	r.block = wr_malloc(COPY_BYTES);
	rc = raw ? read_raw(&r, fd, (uint64_t)st.st_size, err) : read_archive(&r, fd, &st, err);
	if (rc == 0) {
		o = json_object();
		wr_json_u64(o, "bytes", r.bytes);
		wr_receipt_notes(o, "skipped", &r.skipped);
	} else {
		wr_err_wrap(err, "read '%s'", WR_Q(path));
	}
	wr_notes_fini(&r.skipped);
	free(r.block);
	return o;
}

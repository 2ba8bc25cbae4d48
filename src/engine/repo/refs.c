/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refs in git's files: loose ones (one file each), packed-refs, symbolic refs, reflogs.
 *
 * An update: name the ref in the note of the repository's lock, make REF.lock, read the old value,
 * write and sync the new one, rename it into place, sync the directory, append to the reflog.  A
 * writer that dies leaves at most a REF.lock, and the note tells the next one that it was ours.
 */
#include "engine/repo/repo_int.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/refname.h"
#include "sys/clock.h"
#include "sys/crash.h"
#include "sys/fs.h"

/* LIMIT: a loose ref's file. */
#define LOOSE_MAX 4096
/* LIMIT: of a reflog's last line */
#define REFLOG_LINE 8192
/* LIMIT: packed-refs, about 800,000 refs. */
#define PACKED_MAX ((size_t)64 << 20)
/* LIMIT: directories within one another below refs/. */
#define DIR_DEPTH_MAX 32
/* How long a lock of git's own is waited for. */
#define GIT_LOCK_WAIT_NS UINT64_C(2000000000)

/* ---- names and formats ---- */

bool
wr_ref_full_ok(const char *name, size_t len)
{
	if (len == 4 && memcmp(name, "HEAD", 4) == 0)
		return true;
	return len >= 6 && len <= WR_REF_NAME_MAX && memcmp(name, "refs/", 5) == 0 &&
	       wr_refname_ok(name, len);
}

static bool
blank(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

int
wr_loose_ref_parse(const void *p, size_t len, struct wr_id *out, char **out_target,
		   struct wr_err *err)
{
	const char *s = p;
	char hex[2 * WR_ID_LEN + 1];
	size_t at = 4;

	while (len > 0 && blank((uint8_t)s[len - 1]))
		len--;
	if (len > 4 && memcmp(s, "ref:", 4) == 0) {
		while (at < len && blank((uint8_t)s[at]))
			at++;
		if (!wr_ref_full_ok(s + at, len - at))
			return wr_err_set(err, WR_E_CORRUPT, "points to '%s', which is no ref",
					  wr_quote(s + at, len - at).s);
		*out_target = wr_malloc(len - at + 1);
		memcpy(*out_target, s + at, len - at);
		(*out_target)[len - at] = '\0';
		return 0;
	}
	if (len != 2 * WR_ID_LEN)
		return wr_err_set(err, WR_E_CORRUPT, "holds '%s' instead of an id",
				  wr_quote(s, len).s);
	memcpy(hex, s, len);
	hex[len] = '\0';
	if (!wr_id_parse(hex, out))
		return wr_err_set(err, WR_E_CORRUPT, "holds '%s' instead of an id", WR_Q(hex));
	*out_target = NULL;
	return 0;
}

void
wr_refs_fini(struct wr_refs *r)
{
	for (size_t i = 0; i < r->count; i++)
		free(r->ref[i].name);
	free(r->ref);
	*r = (struct wr_refs){0};
}

static void
refs_add(struct wr_refs *r, size_t *cap, const char *name, size_t len, const struct wr_id *id)
{
	char *copy = wr_malloc(len + 1);

	memcpy(copy, name, len);
	copy[len] = '\0';
	wr_grow(&r->ref, cap, r->count + 1, sizeof(*r->ref));
	r->ref[r->count++] = (struct wr_ref){copy, *id};
}

static int
ref_cmp(const void *a, const void *b)
{
	return strcmp(((const struct wr_ref *)a)->name, ((const struct wr_ref *)b)->name);
}

static void
refs_sort(struct wr_refs *r)
{
	if (r->count)
		qsort(r->ref, r->count, sizeof(*r->ref), ref_cmp);
}

/* Among the first count of r, which are sorted. */
static const struct wr_ref *
refs_find(const struct wr_refs *r, size_t count, const char *name)
{
	struct wr_ref key = {.name = (char *)(uintptr_t)name};

	return count ? bsearch(&key, r->ref, count, sizeof(key), ref_cmp) : NULL;
}

/* One line of packed-refs without its LF: 1 = a ref, 0 = nothing of interest, -1 = malformed. */
static int
packed_line(const char *s, size_t len, struct wr_id *out)
{
	if (len == 0 || s[0] == '#')
		return 0;
	if (s[0] == '^')
		return len == 1 + 2 * WR_ID_LEN && wr_id_parse(s + 1, out) ? 0 : -1;
	if (len < 2 * WR_ID_LEN + 2 || s[2 * WR_ID_LEN] != ' ' || !wr_id_parse(s, out) ||
	    !wr_ref_full_ok(s + 2 * WR_ID_LEN + 1, len - 2 * WR_ID_LEN - 1))
		return -1;
	return 1;
}

int
wr_packed_refs_parse(const void *p, size_t len, struct wr_refs *out, struct wr_err *err)
{
	const char *s = p;
	WR_SCOPED(wr_refs_fini) struct wr_refs refs = {0};
	size_t cap = 0, line = 0;

	for (size_t at = 0; at < len;) {
		const char *lf = memchr(s + at, '\n', len - at);
		size_t n = lf ? (size_t)(lf - (s + at)) : len - at;
		struct wr_id id;
		int kind = packed_line(s + at, n, &id);

		line++;
		if (kind < 0 || !lf)
			return wr_err_set(err, WR_E_CORRUPT, "'packed-refs' line %zu is '%s'", line,
					  wr_quote(s + at, n).s);
		if (kind == 1)
			refs_add(&refs, &cap, s + at + 2 * WR_ID_LEN + 1, n - 2 * WR_ID_LEN - 1,
				 &id);
		at += n + 1;
	}
	refs_sort(&refs);
	for (size_t i = 1; i < refs.count; i++)
		if (!strcmp(refs.ref[i - 1].name, refs.ref[i].name))
			return wr_err_set(err, WR_E_CORRUPT, "'packed-refs' names '%s' twice",
					  WR_Q(refs.ref[i].name));
	*out = refs;
	refs = (struct wr_refs){0};
	return 0;
}

/* ---- reading ---- */

/* Read a small file of the repository: 1 = read, 0 = there is none, -1. */
static int
read_ref_file(struct wr_repo *r, const char *name, size_t max, struct wr_buf *out,
	      struct wr_err *err)
{
	struct stat st;
	struct wr_err e = WR_ERR_INIT;

	if (fstatat(r->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno == ENOENT || errno == ENOTDIR)
			return 0;
		return wr_err_sys(err, "stat '%s'", WR_Q(name));
	}
	if (S_ISDIR(st.st_mode))
		return 0;
	if (!S_ISREG(st.st_mode))
		return wr_err_set(err, WR_E_CORRUPT, "'%s' is not a regular file", WR_Q(name));
	if (wr_read_file(r->fd, name, max, out, &e) == 0)
		return 1;
	if (e.code == WR_E_NOT_FOUND)
		return 0;
	if (e.code == WR_E_LIMIT)
		e.code = WR_E_CORRUPT;
	if (err)
		*err = e;
	return -1;
}

/* A loose ref: 1 = *out or *out_target, 0 = there is none, -1. */
static int
read_loose_ref(struct wr_repo *r, const char *name, struct wr_id *out, char **out_target,
	       struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf text = WR_BUF_INIT;
	int rc = read_ref_file(r, name, LOOSE_MAX, &text, err);

	if (rc <= 0)
		return rc;
	if (wr_loose_ref_parse(text.p, text.len, out, out_target, err) < 0)
		return wr_err_wrap(err, "ref '%s'", WR_Q(name));
	return 1;
}

static int
read_packed_refs(struct wr_repo *r, struct wr_refs *out, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf text = WR_BUF_INIT;
	int rc = read_ref_file(r, "packed-refs", PACKED_MAX, &text, err);

	if (rc < 0)
		return -1;
	if (rc == 0) {
		*out = (struct wr_refs){0};
		return 0;
	}
	return wr_packed_refs_parse(text.p, text.len, out, err);
}

/* A ref that is not loose: 1, 0, -1. */
static int
read_packed_ref(struct wr_repo *r, const char *name, struct wr_id *out, struct wr_err *err)
{
	WR_SCOPED(wr_refs_fini) struct wr_refs packed = {0};
	const struct wr_ref *ref;

	if (read_packed_refs(r, &packed, err) < 0)
		return wr_err_wrap(err, "read ref '%s'", WR_Q(name));
	ref = refs_find(&packed, packed.count, name);
	if (!ref)
		return 0;
	*out = ref->id;
	return 1;
}

static int
check_name(const char *name, struct wr_err *err)
{
	if (!wr_ref_full_ok(name, strlen(name)))
		return wr_err_set(err, WR_E_INVALID, "'%s' is not a ref name", WR_Q(name));
	return 0;
}

int
wr_ref_read(struct wr_repo *r, const char *name, struct wr_id *out, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *at = wr_strdup(name);

	if (check_name(name, err) < 0)
		return -1;
	for (int depth = 0; depth <= WR_REF_DEPTH_MAX; depth++) {
		char *target = NULL;
		int rc = read_loose_ref(r, at, out, &target, err);

		if (rc == 0)
			rc = read_packed_ref(r, at, out, err);
		if (rc < 0)
			return strcmp(at, name) ? wr_err_wrap(err, "ref '%s'", WR_Q(name)) : -1;
		if (rc == 0)
			return wr_err_set(err, WR_E_NOT_FOUND, "ref '%s' does not exist", WR_Q(at));
		if (!target)
			return 0;
		free(at);
		at = target;
	}
	return wr_err_set(err, WR_E_CORRUPT, "ref '%s' is symbolic more than %d deep", WR_Q(name),
			  WR_REF_DEPTH_MAX);
}

char *
wr_head_branch(struct wr_repo *r)
{
	struct wr_id id;
	WR_SCOPED(wr_freep) char *target = NULL;

	if (read_loose_ref(r, "HEAD", &id, &target, NULL) != 1 || !target ||
	    strncmp(target, "refs/heads/", 11) != 0)
		return NULL;
	return wr_strdup(target + 11);
}

/* ---- listing ---- */

struct walk {
	struct wr_repo *repo;
	const char *prefix;
	struct wr_refs *out;
	size_t cap;
};

/* All loose refs below the directory dir, which ends in '/'. */
static int
walk_dir(struct walk *w, const char *dir, int depth, struct wr_err *err)
{
	int fd = openat(w->repo->fd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	int rc = 0;

	if (!d) {
		bool absent = fd < 0 && (errno == ENOENT || errno == ENOTDIR);

		if (!absent)
			wr_err_sys(err, "read directory '%s'", WR_Q(dir));
		wr_closep(&fd);
		return absent ? 0 : -1;
	}
	while (rc == 0 && (e = readdir(d))) {
		WR_SCOPED(wr_freep) char *name = wr_asprintf("%s%s", dir, e->d_name);
		struct stat st;

		/* Also keeps out ".", "..", locks and other names that no ref can have. */
		if (!wr_ref_full_ok(name, strlen(name)) || strstr(e->d_name, ".tmp-") ||
		    fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISDIR(st.st_mode)) {
			WR_SCOPED(wr_freep) char *sub = wr_asprintf("%s/", name);

			if (depth < DIR_DEPTH_MAX)
				rc = walk_dir(w, sub, depth + 1, err);
		} else if (!strncmp(name, w->prefix, strlen(w->prefix))) {
			struct wr_id id;
			struct wr_err why = WR_ERR_INIT;

			if (wr_ref_read(w->repo, name, &id, &why) < 0) {
				if (why.code == WR_E_NOT_FOUND &&
				    faccessat(fd, e->d_name, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
					continue; /* deleted under our eyes */
				id = (struct wr_id){{0}};
			}
			refs_add(w->out, &w->cap, name, strlen(name), &id);
		}
	}
	closedir(d);
	return rc;
}

int
wr_refs_list_lenient(struct wr_repo *r, const char *prefix, struct wr_refs *out,
		     struct wr_err *out_packed_err, struct wr_err *err)
{
	WR_SCOPED(wr_refs_fini) struct wr_refs refs = {0};
	WR_SCOPED(wr_refs_fini) struct wr_refs packed = {0};
	WR_SCOPED(wr_freep) char *dir = wr_strdup(prefix);
	struct walk w = {.repo = r, .prefix = prefix, .out = &refs};
	size_t loose;

	/* The directory part of the prefix, if it is one that git could have. */
	if (strrchr(dir, '/'))
		strrchr(dir, '/')[1] = '\0';
	if (strncmp(dir, "refs/", 5) != 0 || (dir[5] && !wr_ref_full_ok(dir, strlen(dir) - 1))) {
		free(dir);
		dir = wr_strdup("refs/");
	}
	/* Loose before packed: a ref that git packs meanwhile is seen in one or both. */
	if (walk_dir(&w, dir, 0, err) < 0)
		return -1;
	refs_sort(&refs);
	loose = refs.count;
	wr_err_clear(out_packed_err);
	if (read_packed_refs(r, &packed, out_packed_err) < 0)
		packed = (struct wr_refs){0};
	for (size_t i = 0; i < packed.count; i++) {
		const char *name = packed.ref[i].name;

		if (!strncmp(name, prefix, strlen(prefix)) && !refs_find(&refs, loose, name))
			refs_add(&refs, &w.cap, name, strlen(name), &packed.ref[i].id);
	}
	refs_sort(&refs);
	*out = refs;
	refs = (struct wr_refs){0};
	return 0;
}

int
wr_refs_list(struct wr_repo *r, const char *prefix, struct wr_refs *out, struct wr_err *err)
{
	WR_SCOPED(wr_refs_fini) struct wr_refs refs = {0};
	struct wr_err packed_err = WR_ERR_INIT;

	if (wr_refs_list_lenient(r, prefix, &refs, &packed_err, err) < 0)
		return -1;
	if (packed_err.code != WR_E_NONE) {
		if (err)
			*err = packed_err;
		return -1;
	}
	*out = refs;
	refs = (struct wr_refs){0};
	return 0;
}

/* ---- locks ---- */

/* The note: who we are, and which ref files are locked just now. */
static int
write_note(struct wr_repo *r, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf note = WR_BUF_INIT;

	wr_buf_adds(&note, r->lock_note);
	for (size_t i = 0; i < WR_ARRAY_LEN(r->ref_lock); i++)
		if (r->ref_lock[i])
			wr_buf_addf(&note, "\nref %s\n", r->ref_lock[i]);
	return wr_lock_note(&r->lock, wr_buf_str(&note), err);
}

void
wr_ref_clean(struct wr_repo *r, const char *note)
{
	for (const char *line = note; line; line = strchr(line, '\n')) {
		WR_SCOPED(wr_freep) char *file = NULL;
		size_t n;

		line += *line == '\n';
		n = strcspn(line, "\n");
		if (strncmp(line, "ref ", 4) != 0)
			continue;
		if (!wr_ref_full_ok(line + 4, n - 4) &&
		    !(n == 15 && !memcmp(line + 4, "packed-refs", 11)))
			continue;
		file = wr_asprintf("%.*s.lock", (int)(n - 4), line + 4);
		(void)unlinkat(r->fd, file, 0); /* absent: its owner came to an end after all */
	}
}

static void
drop_ref_lock(struct wr_repo *r, unsigned slot, int *fd)
{
	WR_SCOPED(wr_freep) char *file = wr_asprintf("%s.lock", r->ref_lock[slot]);

	wr_closep(fd);
	(void)unlinkat(r->fd, file, 0); /* absent after the rename */
	r->ref_lock[slot] = NULL;
	(void)write_note(r, NULL); /* a name too many there makes the next writer look in vain */
}

/* Make NAME.lock; a lock of git's own is waited for briefly. name is borrowed until the drop. */
static int
take_ref_lock(struct wr_repo *r, unsigned slot, const char *name, int *out_fd, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *file = wr_asprintf("%s.lock", name);
	uint64_t end = wr_clock_mono_ns() + GIT_LOCK_WAIT_NS;

	for (;;) {
		struct timespec nap = {0, 20000000};
		bool taken;
		int fd;

		/* DURABLE: the note first; whoever finds it after a power cut may then remove the
		 * lock file.  While git holds the lock the note does not claim it. */
		r->ref_lock[slot] = name;
		if (write_note(r, err) < 0) {
			r->ref_lock[slot] = NULL;
			return -1;
		}
		if (fdatasync(r->lock.fd) < 0) {
			wr_err_sys(err, "sync 'warren/lock'");
			r->ref_lock[slot] = NULL;
			return -1;
		}
		fd = openat(r->fd, file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (fd >= 0) {
			*out_fd = fd;
			return 0;
		}
		taken = errno == EEXIST;
		if (!taken)
			wr_err_sys(err, "create '%s'", WR_Q(file));
		r->ref_lock[slot] = NULL;
		(void)write_note(r, NULL);
		if (!taken)
			return -1;
		if (wr_clock_mono_ns() >= end) {
			wr_err_set(err, WR_E_BUSY, "ref '%s' is locked by another program",
				   WR_Q(name));
			return wr_err_hint(err, "if no git or bup is running there, remove '%s/%s'",
					   WR_Q(r->path), WR_Q(file));
		}
		nanosleep(&nap, NULL);
	}
}

/* ---- writing ---- */

/* Make the directories above name below the repository, durably. */
static int
make_parents(struct wr_repo *r, const char *name, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *path = wr_strdup(name);

	for (char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		char *up;

		*slash = '\0';
		if (mkdirat(r->fd, path, 0755) == 0) {
			up = strrchr(path, '/');
			if (up)
				*up = '\0';
			if (wr_fsync_dir(r->fd, up ? path : ".", err) < 0)
				return -1;
			if (up)
				*up = '/';
		} else if (errno != EEXIST) {
			return wr_err_sys(err, "make directory '%s'", WR_Q(path));
		}
		*slash = '/';
	}
	return 0;
}

/* Remove directory name and those in it as long as they are all empty. */
static int
remove_empty_dirs(int dirfd, const char *name, int depth)
{
	int fd = wr_open_dir(dirfd, name);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		wr_closep(&fd);
		return -1;
	}
	while (depth < DIR_DEPTH_MAX && (e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
		    remove_empty_dirs(fd, e->d_name, depth + 1) < 0)
			break;
	closedir(d);
	return unlinkat(dirfd, name, AT_REMOVEDIR);
}

/* A ref cannot be both a file and a directory of others. */
static int
check_no_clash(struct wr_repo *r, const char *name, struct wr_err *err)
{
	WR_SCOPED(wr_refs_fini) struct wr_refs packed = {0};
	size_t len = strlen(name);
	struct stat st;

	if (read_packed_refs(r, &packed, err) < 0)
		return -1;
	for (size_t i = 0; i < packed.count; i++) {
		const char *other = packed.ref[i].name;
		size_t n = strlen(other);

		if ((n > len && other[len] == '/' && !memcmp(other, name, len)) ||
		    (n < len && name[n] == '/' && !memcmp(other, name, n)))
			return wr_err_set(err, WR_E_EXISTS, "ref '%s' cannot exist beside '%s'",
					  WR_Q(name), WR_Q(other));
	}
	if (fstatat(r->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) &&
	    remove_empty_dirs(r->fd, name, 0) < 0)
		return wr_err_set(err, WR_E_EXISTS, "there are refs below '%s'", WR_Q(name));
	return 0;
}

static void
append_reflog(struct wr_repo *r, const char *name, const struct wr_id *old, const struct wr_id *id,
	      const char *ident, const char *message)
{
	WR_SCOPED(wr_freep) char *file = wr_asprintf("logs/%s", name);
	WR_SCOPED(wr_buf_fini) struct wr_buf line = WR_BUF_INIT;
	WR_SCOPED(wr_closep) int fd = -1;
	size_t start;

	wr_buf_addf(&line, "%s %s %s %" PRId64 " +0000\t", wr_id_hex(old).s, wr_id_hex(id).s, ident,
		    wr_clock_wall().s);
	start = line.len;
	wr_buf_adds(&line, message);
	for (size_t i = start; i < line.len; i++)
		if (line.p[i] == '\n')
			line.p[i] = ' ';
	wr_buf_add8(&line, '\n');
	if (make_parents(r, file, NULL) < 0)
		return;
	fd = openat(r->fd, file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd >= 0)
		(void)wr_write_all(fd, line.p, line.len);
}

/* The present value for a compare-and-set: 1 = *out (zero: unreadable, which only a caller who
 * does not care may replace), 0 = there is none, -1. */
static int
read_old(struct wr_repo *r, const char *name, bool any, struct wr_id *out, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *target = NULL;
	struct wr_err why = WR_ERR_INIT;
	int rc = read_loose_ref(r, name, out, &target, &why);

	if (rc == 0)
		rc = read_packed_ref(r, name, out, &why);
	if (rc < 0 && any && why.code == WR_E_CORRUPT) {
		*out = (struct wr_id){{0}};
		return 1;
	}
	if (rc < 0 && err)
		*err = why;
	if (rc > 0 && target)
		return wr_err_set(err, WR_E_UNSUPPORTED, "ref '%s' is symbolic", WR_Q(name));
	return rc;
}

static int
moved(const char *name, bool exists, const struct wr_id *now, const struct wr_id *old,
      struct wr_err *err)
{
	if (!exists)
		return wr_err_set(err, WR_E_CHANGED, "ref '%s' is gone, it was at %s", WR_Q(name),
				  wr_id_short(old).s);
	if (!old)
		return wr_err_set(err, WR_E_CHANGED, "ref '%s' exists already, at %s", WR_Q(name),
				  wr_id_short(now).s);
	return wr_err_set(err, WR_E_CHANGED, "ref '%s' moved to %s, it was at %s", WR_Q(name),
			  wr_id_short(now).s, wr_id_short(old).s);
}

int
wr_ref_update(struct wr_repo *r, const char *name, const struct wr_id *id, const struct wr_id *old,
	      const char *ident, const char *message, struct wr_err *err)
{
	bool any = old && wr_id_is_zero(old);
	WR_SCOPED(wr_closep) int fd = -1;
	WR_SCOPED(wr_freep) char *file = wr_asprintf("%s.lock", name);
	WR_SCOPED(wr_freep) char *dir = wr_strdup(name);
	struct wr_id_hex hex = wr_id_hex(id);
	struct wr_id now = {{0}};
	int exists, rc = -1;

	wr_assert(r->lock.fd >= 0);
	if (check_name(name, err) < 0)
		return -1;
	if (!strchr(name, '/'))
		return wr_err_set(err, WR_E_INVALID, "'%s' cannot be moved", WR_Q(name));
	*strrchr(dir, '/') = '\0';
	if (make_parents(r, name, err) < 0 || take_ref_lock(r, 0, name, &fd, err) < 0)
		return wr_err_wrap(err, "update ref '%s'", WR_Q(name));
	wr_crash_point("ref.locked");
	exists = read_old(r, name, any, &now, err);
	if (exists < 0)
		goto out;
	if (!any && (exists ? !old || !wr_id_eq(old, &now) : old != NULL)) {
		moved(name, exists, &now, old, err);
		goto out;
	}
	if (!exists && check_no_clash(r, name, err) < 0)
		goto out;
	/* DURABLE: content, name, directory in turn. */
	hex.s[2 * WR_ID_LEN] = '\n';
	if (wr_write_all(fd, hex.s, sizeof(hex.s)) < 0 || fsync(fd) < 0) {
		wr_err_sys(err, "write '%s'", WR_Q(file));
		goto out;
	}
	wr_crash_point("ref.written");
	if (renameat(r->fd, file, r->fd, name) < 0) {
		wr_err_sys(err, "rename '%s'", WR_Q(file));
		goto out;
	}
	wr_crash_point("ref.renamed");
	rc = wr_fsync_dir(r->fd, dir, err);
	/* The ref has moved; that its log lacks a line is no reason to call it a failure. */
	append_reflog(r, name, &now, id, ident, message);
out:
	drop_ref_lock(r, 0, &fd);
	return rc < 0 ? wr_err_wrap(err, "update ref '%s'", WR_Q(name)) : 0;
}

/* Write packed-refs anew without name; its lock is held on fd. */
static int
unpack_ref(struct wr_repo *r, const char *name, int fd, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf text = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf kept = WR_BUF_INIT;
	size_t len = strlen(name);
	bool skipping = false, found = false;
	int rc = read_ref_file(r, "packed-refs", PACKED_MAX, &text, err);

	if (rc <= 0)
		return rc;
	for (size_t at = 0; at < text.len;) {
		const char *line = (const char *)text.p + at;
		const char *lf = memchr(line, '\n', text.len - at);
		size_t n = lf ? (size_t)(lf - line) + 1 : text.len - at;

		/* A line of what a tag points to goes with the tag. */
		if (line[0] != '^')
			skipping = n == 2 * WR_ID_LEN + 1 + len + 1 &&
				   !memcmp(line + 2 * WR_ID_LEN + 1, name, len);
		found |= skipping;
		if (!skipping)
			wr_buf_add(&kept, line, n);
		at += n;
	}
	if (!found)
		return 0;
	if (wr_write_all(fd, kept.p, kept.len) < 0 || fsync(fd) < 0)
		return wr_err_sys(err, "write 'packed-refs.lock'");
	if (renameat(r->fd, "packed-refs.lock", r->fd, "packed-refs") < 0)
		return wr_err_sys(err, "rename 'packed-refs.lock'");
	return wr_fsync_dir(r->fd, ".", err);
}

int
wr_ref_delete(struct wr_repo *r, const char *name, const struct wr_id *old, struct wr_err *err)
{
	bool any = !old || wr_id_is_zero(old);
	WR_SCOPED(wr_closep) int fd = -1;
	WR_SCOPED(wr_closep) int packed_fd = -1;
	WR_SCOPED(wr_freep) char *dir = wr_strdup(name);
	WR_SCOPED(wr_freep) char *log = wr_asprintf("logs/%s", name);
	struct wr_id now = {{0}};
	int exists, rc = -1;

	wr_assert(r->lock.fd >= 0);
	if (check_name(name, err) < 0)
		return -1;
	if (!strchr(name, '/'))
		return wr_err_set(err, WR_E_INVALID, "'%s' cannot be deleted", WR_Q(name));
	*strrchr(dir, '/') = '\0';
	if (make_parents(r, name, err) < 0 || take_ref_lock(r, 0, name, &fd, err) < 0)
		return wr_err_wrap(err, "delete ref '%s'", WR_Q(name));
	exists = read_old(r, name, any, &now, err);
	if (exists < 0)
		goto out;
	if (!exists) {
		wr_err_set(err, WR_E_NOT_FOUND, "it does not exist");
		goto out;
	}
	if (!any && !wr_id_eq(old, &now)) {
		moved(name, true, &now, old, err);
		goto out;
	}
	if (take_ref_lock(r, 1, "packed-refs", &packed_fd, err) < 0)
		goto out;
	/* DURABLE: packed first; the other way round a crash would bring an old value back. */
	rc = unpack_ref(r, name, packed_fd, err);
	drop_ref_lock(r, 1, &packed_fd);
	if (rc < 0)
		goto out;
	if (unlinkat(r->fd, name, 0) < 0 && errno != ENOENT)
		rc = wr_err_sys(err, "remove '%s'", WR_Q(name));
	else
		rc = wr_fsync_dir(r->fd, dir, err);
	(void)unlinkat(r->fd, log, 0); /* as git does; often there is none */
out:
	drop_ref_lock(r, 0, &fd);
	return rc < 0 ? wr_err_wrap(err, "delete ref '%s'", WR_Q(name)) : 0;
}

bool
wr_ref_since(struct wr_repo *r, const char *name, int64_t *out)
{
	WR_SCOPED(wr_freep) char *file = wr_asprintf("logs/%s", name);
	WR_SCOPED(wr_closep)
	int fd = openat(r->fd, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	char b[REFLOG_LINE + 1], *line, *at;
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return false;
	n = pread(fd, b, REFLOG_LINE, WR_MAX(st.st_size - REFLOG_LINE, (off_t)0));
	if (n <= 0 || b[n - 1] != '\n')
		return false; /* a line that was cut off */
	b[n - 1] = '\0';
	line = memrchr(b, '\n', (size_t)n - 1);
	line = line ? line + 1 : b;
	/* old new NAME <MAIL> SECONDS ZONE TAB message */
	at = strchr(line, '\t');
	if (at)
		*at = '\0';
	at = strrchr(line, '>');
	return at && at[1] == ' ' && sscanf(at + 2, "%" SCNd64, out) == 1;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making, opening and locking a repository.
 *
 * Init writes HEAD last: a directory with HEAD and objects/pack is a repository, one that holds
 * only names that init makes is an interrupted init and is completed.
 */
#include "engine/repo/repo.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "engine/repo/repo_int.h"
#include "sys/clock.h"
#include "sys/fs.h"

/* ---- init ---- */

static const char *const init_dirs[] = {"objects",    "objects/info", "objects/pack", "refs",
					"refs/heads", "refs/tags",    "info",         "branches"};

static bool
is_dir(int fd, const char *name)
{
	struct stat st;

	return fstatat(fd, name, &st, 0) == 0 && S_ISDIR(st.st_mode);
}

static bool
is_repo(int fd)
{
	return is_dir(fd, "objects/pack") && faccessat(fd, "HEAD", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* May an unfinished init have made this name in the repository's directory? */
static bool
is_init_name(const char *name)
{
	static const char *const files[] = {"HEAD", "config", "description"};

	for (size_t i = 0; i < WR_ARRAY_LEN(init_dirs); i++)
		if (!strcmp(name, init_dirs[i]))
			return true;
	for (size_t i = 0; i < WR_ARRAY_LEN(files); i++) {
		size_t n = strlen(files[i]);

		if (!strncmp(name, files[i], n) && (!name[n] || !strncmp(name + n, ".tmp-", 5)))
			return true;
	}
	return false;
}

/* WR_E_EXISTS if something other than an unfinished init lies in the directory. */
static int
check_vacant(int fd, const char *path, struct wr_err *err)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *e;
	int rc = 0;

	if (!d) {
		wr_err_sys(err, "read directory '%s'", WR_Q(path));
		wr_closep(&copy);
		return -1;
	}
	while (rc == 0 && (e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || is_init_name(e->d_name))
			continue;
		rc = wr_err_set(err, WR_E_EXISTS, "'%s' is not empty and not a repository",
				WR_Q(path));
		wr_err_hint(err, "give a directory that is empty or does not exist");
	}
	closedir(d);
	return rc;
}

static void
config_text(struct wr_buf *out, unsigned split_bits)
{
	char id[40];

	wr_buf_adds(out, "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n"
			 "\tbare = true\n\tlogAllRefUpdates = true\n"
			 "[pack]\n\tindexVersion = 2\n");
	if (split_bits != 13)
		wr_buf_addf(out, "[bup \"split\"]\n\tfiles = legacy:%u\n", split_bits);
	for (size_t i = 0; i < 36; i += 12)
		wr_random_name(id + i, sizeof(id) - i, "");
	wr_buf_addf(out, "[bup \"repo\"]\n\tid = %.31s\n", id); /* as long as bup's own */
}

static int
write_text(int fd, const char *name, const char *text, struct wr_err *err)
{
	return wr_replace_file(fd, name, text, strlen(text), 0644, err);
}

static int
fill(int fd, unsigned split_bits, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf config = WR_BUF_INIT;

	for (size_t i = 0; i < WR_ARRAY_LEN(init_dirs); i++)
		if (wr_mkdirs(fd, init_dirs[i], 0755, err) < 0)
			return -1;
	config_text(&config, split_bits);
	if (write_text(fd, "description",
		       "Unnamed repository; edit this file 'description' to name the repository.\n",
		       err) < 0 ||
	    write_text(fd, "info/exclude", "# Paths that git should not show as untracked.\n",
		       err) < 0 ||
	    wr_replace_file(fd, "config", config.p, config.len, 0644, err) < 0)
		return -1;
	/* DURABLE: every directory before HEAD, which makes it a repository. */
	for (size_t i = 0; i < WR_ARRAY_LEN(init_dirs); i++)
		if (wr_fsync_dir(fd, init_dirs[i], err) < 0)
			return -1;
	return write_text(fd, "HEAD", "ref: refs/heads/main\n", err);
}

int
wr_repo_init(const char *path, unsigned split_bits, bool *out_existed, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int fd = -1;
	WR_SCOPED(wr_closep) int git_fd = -1;
	bool ours = access(path, F_OK) < 0;

	if (wr_mkdirs(AT_FDCWD, path, 0755, err) < 0)
		return -1;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return wr_err_sys(err, "open directory '%s'", WR_Q(path));
	git_fd = openat(fd, ".git", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (is_repo(fd) || (git_fd >= 0 && is_repo(git_fd))) {
		*out_existed = true;
		return 0;
	}
	if (check_vacant(fd, path, err) < 0)
		return -1;
	/* Who made the directory may have made its parent unreadable to us. */
	if (fill(fd, split_bits, err) < 0 || (ours && wr_fsync_dir(fd, "..", err) < 0))
		return wr_err_wrap(err, "make repository '%s'", WR_Q(path));
	*out_existed = false;
	return 0;
}

/* ---- open ---- */

static int
no_repo(const char *path, const char *why, struct wr_err *err)
{
	wr_err_set(err, WR_E_NOT_FOUND, "'%s' %s", WR_Q(path), why);
	return wr_err_hint(err, "make a repository with 'warren repo init'");
}

/* A disk that fails must not look like a repository that is not there. */
static bool
disk_failed(int e)
{
	return e && e != ENOENT && e != ENOTDIR;
}

static int
open_dirs(struct wr_repo *r, const char *path, struct wr_err *err)
{
	r->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->fd < 0 && errno == ENOENT)
		return no_repo(path, "does not exist", err);
	if (r->fd < 0)
		return wr_err_sys(err, "open repository '%s'", WR_Q(path));
	errno = 0;
	if (!is_dir(r->fd, "objects/pack")) {
		int git_fd;

		if (disk_failed(errno))
			return wr_err_sys(err, "look at '%s/objects/pack'", WR_Q(path));
		if (!is_dir(r->fd, ".git/objects/pack"))
			return no_repo(path, "is not a repository", err);
		git_fd = openat(r->fd, ".git", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (git_fd < 0)
			return wr_err_sys(err, "open repository '%s/.git'", WR_Q(path));
		close(r->fd);
		r->fd = git_fd;
		r->path = wr_asprintf("%s/.git", path);
	} else {
		r->path = wr_strdup(path);
	}
	errno = 0;
	if (!is_repo(r->fd))
		return disk_failed(errno)
			   ? wr_err_sys(err, "look at '%s/HEAD'", WR_Q(path))
			   : no_repo(path, "is an unfinished repository without HEAD", err);
	r->objects_fd = openat(r->fd, "objects", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->objects_fd >= 0)
		r->pack_fd = openat(r->objects_fd, "pack", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->objects_fd < 0 || r->pack_fd < 0)
		return wr_err_sys(err, "open '%s/objects/pack'", WR_Q(path));
	return 0;
}

int
wr_repo_open(const char *path, struct wr_repo **out, struct wr_err *err)
{
	struct wr_repo *r = wr_calloc(1, sizeof(*r));

	r->fd = r->objects_fd = r->pack_fd = r->stat_fd = -1;
	r->lock = (struct wr_lock)WR_LOCK_INIT;
	pthread_mutex_init(&r->refresh_mutex, NULL);
	pthread_mutex_init(&r->fd_mutex, NULL);
	if (open_dirs(r, path, err) < 0)
		goto fail;
	if (wr_repo_config_load(r, err) < 0 || wr_odb_open(r, err) < 0) {
		wr_err_wrap(err, "open repository '%s'", WR_Q(path));
		goto fail;
	}
	*out = r;
	return 0;
fail:
	wr_repo_close(r);
	return -1;
}

void
wr_repo_close(struct wr_repo *r)
{
	if (!r)
		return;
	wr_repo_unlock(r);
	wr_odb_close(r);
	pthread_mutex_destroy(&r->refresh_mutex);
	pthread_mutex_destroy(&r->fd_mutex);
	wr_closep(&r->stat_fd);
	wr_closep(&r->pack_fd);
	wr_closep(&r->objects_fd);
	wr_closep(&r->fd);
	free(r->path);
	free(r);
}

const char *
wr_repo_path(const struct wr_repo *r)
{
	return r->path;
}

const struct wr_repo_config *
wr_repo_config(const struct wr_repo *r)
{
	return &r->config;
}

int
wr_repo_fd(const struct wr_repo *r)
{
	return r->fd;
}

int
wr_repo_objects_fd(const struct wr_repo *r)
{
	return r->objects_fd;
}

int
wr_repo_stat_fd(struct wr_repo *r, struct wr_err *err)
{
	if (r->stat_fd >= 0)
		return r->stat_fd;
	if (wr_mkdirs(r->fd, "warren/stat", 0755, err) < 0)
		return -1;
	r->stat_fd = wr_open_dir(r->fd, "warren/stat");
	if (r->stat_fd < 0)
		return wr_err_sys(err, "open 'warren/stat'");
	return r->stat_fd;
}

/* ---- lock ---- */

int
wr_repo_lock(struct wr_repo *r, const char *what, int wait_s, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *note = NULL;
	WR_SCOPED(wr_freep) char *prev = NULL;

	wr_assert(r->lock.fd < 0);
	if (r->config.split_trees)
		return wr_err_set(err, WR_E_UNSUPPORTED,
				  "'%s' asks for split directories (bup.split.trees), which can "
				  "be read but not written",
				  WR_Q(r->path));
	if (r->split_unknown)
		return wr_err_set(err, WR_E_UNSUPPORTED,
				  "'%s' asks for a way of cutting files (bup.split.files) that is "
				  "not supported for writing",
				  WR_Q(r->path));
	if (wr_mkdirs(r->fd, "warren", 0755, err) < 0)
		return wr_err_wrap(err, "lock repository '%s'", WR_Q(r->path));
	note = wr_asprintf("pid %ld, %s, since %s", (long)getpid(), WR_Q(what),
			   wr_fmt_utc(wr_clock_wall().s).s);
	if (wr_lock_take(&r->lock, r->fd, "warren/lock", wait_s, note, &prev, err) < 0)
		return wr_err_wrap(err, "lock repository '%s'", WR_Q(r->path));
	r->lock_note = wr_steal(&note);
	if (prev)
		wr_ref_clean(r, prev);
	/* Others may have published packs since this repository was opened. */
	if (wr_packw_clean(r->objects_fd, err) < 0 || wr_repo_refresh(r, err) < 0) {
		wr_repo_unlock(r);
		return wr_err_wrap(err, "lock repository '%s'", WR_Q(r->path));
	}
	return 0;
}

void
wr_repo_unlock(struct wr_repo *r)
{
	wr_lock_drop(&r->lock);
	free(r->lock_note);
	r->lock_note = NULL;
}

bool
wr_repo_locked(const struct wr_repo *r)
{
	return r->lock.fd >= 0;
}

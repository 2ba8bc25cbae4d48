/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A flag of a project: STATE/KIND/ID, mostly empty.  It is durable before what it tells of is done.
 * One that comes back after a crash is looked at once more, so taking it away is not waited for.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "host/node/node_int.h"
#include "sys/fs.h"

static const char *const kind_dir[] = {
    [WR_FLAG_SIDES] = "sides",
    [WR_FLAG_DAMAGED] = "damaged",
    [WR_FLAG_ASKED] = "asked",
    [WR_FLAG_PLAIN] = "plain",
};

/* Below STATE. */
struct flag_path {
	char s[64];
};

static struct flag_path
path_of(enum wr_flag kind, const struct wr_uuid *project)
{
	struct flag_path p;

	snprintf(p.s, sizeof(p.s), "%s/%s", kind_dir[kind], project->s);
	return p;
}

bool
wr_flag_is(struct wr_node *n, enum wr_flag kind, const struct wr_uuid *project)
{
	return faccessat(n->state_fd, path_of(kind, project).s, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int
wr_flag_set(struct wr_node *n, enum wr_flag kind, const struct wr_uuid *project, const void *p,
	    size_t len, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int dir = -1;
	WR_SCOPED(wr_closep) int fd = -1;

	if (mkdirat(n->state_fd, kind_dir[kind], 0700) == 0) {
		if (wr_fsync_dir(n->state_fd, ".", err) < 0)
			return -1;
	} else if (errno != EEXIST) {
		return wr_err_sys(err, "make directory '%s'", kind_dir[kind]);
	}
	dir = wr_open_dir(n->state_fd, kind_dir[kind]);
	if (dir < 0)
		return wr_err_sys(err, "open directory '%s'", kind_dir[kind]);
	if (len > 0)
		return wr_replace_file(dir, project->s, p, len, 0600, err);
	fd = openat(dir, project->s, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? wr_err_sys(err, "make '%s/%s'", kind_dir[kind], project->s)
		      : wr_fsync_dir(dir, ".", err);
}

int
wr_flag_load(struct wr_node *n, enum wr_flag kind, const struct wr_uuid *project, size_t max,
	     struct wr_buf *out, struct wr_err *err)
{
	return wr_read_file(n->state_fd, path_of(kind, project).s, max, out, err);
}

int
wr_flag_clear(struct wr_node *n, enum wr_flag kind, const struct wr_uuid *project,
	      struct wr_err *err)
{
	struct flag_path p = path_of(kind, project);

	if (unlinkat(n->state_fd, p.s, 0) < 0 && errno != ENOENT)
		return wr_err_sys(err, "remove '%s'", p.s);
	return 0;
}

int
wr_flag_list(struct wr_node *n, enum wr_flag kind, struct wr_uuid **out, size_t *out_count,
	     struct wr_err *err)
{
	size_t cap = 0;
	struct dirent *e;
	int fd = wr_open_dir(n->state_fd, kind_dir[kind]);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	*out = NULL;
	*out_count = 0;
	if (!d) {
		int code = errno;

		wr_closep(&fd);
		errno = code;
		return code == ENOENT ? 0 : wr_err_sys(err, "read directory '%s'", kind_dir[kind]);
	}
	while ((e = readdir(d))) {
		struct wr_uuid u;

		if (!wr_uuid_parse(e->d_name, &u))
			continue;
		wr_grow(out, &cap, *out_count + 1, sizeof(**out));
		(*out)[(*out_count)++] = u;
	}
	closedir(d);
	return 0;
}

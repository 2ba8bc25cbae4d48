/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mark of a project of which side branches may lie here that no other node has: STATE/sides/ID,
 * empty.  It is made before they are, and goes when the newest save names them all.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "host/node/node_int.h"
#include "sys/fs.h"

#define SIDES "sides"

bool
wr_sides_marked(struct wr_node *n, const struct wr_uuid *project)
{
	char name[64];

	snprintf(name, sizeof(name), SIDES "/%s", project->s);
	return faccessat(n->state_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int
wr_sides_mark(struct wr_node *n, const struct wr_uuid *project, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int dir = -1;

	if (wr_sides_marked(n, project))
		return 0;
	if (mkdirat(n->state_fd, SIDES, 0700) < 0 && errno != EEXIST)
		return wr_err_sys(err, "make directory '" SIDES "'");
	dir = wr_open_dir(n->state_fd, SIDES);
	if (dir < 0)
		return wr_err_sys(err, "open directory '" SIDES "'");
	if (fsync(n->state_fd) < 0)
		return wr_err_sys(err, "sync the state directory");
	return wr_replace_file(dir, project->s, "", 0, 0600, err);
}

int
wr_sides_clear(struct wr_node *n, const struct wr_uuid *project, struct wr_err *err)
{
	char name[64];

	snprintf(name, sizeof(name), SIDES "/%s", project->s);
	/* One that comes back after a crash is looked at once more. */
	if (unlinkat(n->state_fd, name, 0) < 0 && errno != ENOENT)
		return wr_err_sys(err, "remove '%s'", name);
	return 0;
}

int
wr_sides_list(struct wr_node *n, struct wr_uuid **out, size_t *out_count, struct wr_err *err)
{
	size_t cap = 0;
	struct dirent *e;
	int fd = wr_open_dir(n->state_fd, SIDES);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	*out = NULL;
	*out_count = 0;
	if (!d) {
		wr_closep(&fd);
		return errno == ENOENT ? 0 : wr_err_sys(err, "read directory '" SIDES "'");
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

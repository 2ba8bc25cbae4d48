/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mark of a copy that was found damaged: STATE/damaged/ID, since when, and which of its packs
 * are not to be trusted.  A mark that cannot be read is one all the same: then none is.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "host/node/node_int.h"
#include "sys/fs.h"

#define MARKS "damaged"
/* LIMIT of a mark: packs that it can name. */
#define PACKS_MAX 2000
#define MARK_BYTES (256u << 10)

static int
marks_open(struct wr_node *n, bool make, struct wr_err *err)
{
	int fd;

	if (make && mkdirat(n->state_fd, MARKS, 0700) < 0 && errno != EEXIST)
		return wr_err_sys(err, "make directory '" MARKS "'");
	fd = wr_open_dir(n->state_fd, MARKS);
	return fd < 0 ? wr_err_sys(err, "open directory '" MARKS "'") : fd;
}

bool
wr_damage_is(struct wr_node *n, const struct wr_uuid *project)
{
	char name[64];

	snprintf(name, sizeof(name), MARKS "/%s", project->s);
	return faccessat(n->state_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int
wr_damage_set(struct wr_node *n, const struct wr_uuid *project, const json_t *packs,
	      struct wr_err *err)
{
	WR_SCOPED(wr_closep) int dir = marks_open(n, true, err);
	WR_SCOPED(wr_json_freep) json_t *o = json_object();
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	if (dir < 0)
		return -1;
	if (packs && json_array_size(packs) <= PACKS_MAX)
		json_object_set(o, "packs", (json_t *)(uintptr_t)packs);
	else
		wr_json_null(o, "packs");
	wr_json_write(o, &b);
	if (fsync(n->state_fd) < 0)
		return wr_err_sys(err, "sync the state directory");
	return wr_replace_file(dir, project->s, b.p, b.len, 0600, err);
}

int
wr_damage_clear(struct wr_node *n, const struct wr_uuid *project, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int dir = -1;

	if (!wr_damage_is(n, project))
		return 0;
	dir = marks_open(n, false, err);
	if (dir < 0)
		return -1;
	if (unlinkat(dir, project->s, 0) < 0 && errno != ENOENT)
		return wr_err_sys(err, "remove the mark of project '%s'", project->s);
	return wr_fsync_dir(dir, ".", err);
}

json_t *
wr_damage_packs(struct wr_node *n, const struct wr_uuid *project)
{
	WR_SCOPED(wr_closep) int dir = marks_open(n, false, NULL);
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	json_t *list;

	if (dir < 0 || wr_read_file(dir, project->s, MARK_BYTES, &b, NULL) < 0)
		return NULL;
	o = wr_json_parse((const char *)b.p, b.len, NULL);
	list = o ? wr_json_get_arr(o, "packs") : NULL;
	return list ? json_incref(list) : NULL;
}

int
wr_damage_list(struct wr_node *n, struct wr_uuid **out, size_t *out_count, struct wr_err *err)
{
	struct wr_uuid *id = NULL;
	size_t count = 0, cap = 0;
	struct dirent *e;
	int fd = wr_open_dir(n->state_fd, MARKS);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	*out = NULL;
	*out_count = 0;
	if (!d) {
		wr_closep(&fd);
		return errno == ENOENT ? 0 : wr_err_sys(err, "read directory '" MARKS "'");
	}
	while ((e = readdir(d))) {
		struct wr_uuid u;

		if (!wr_uuid_parse(e->d_name, &u))
			continue;
		wr_grow(&id, &cap, count + 1, sizeof(*id));
		id[count++] = u;
	}
	closedir(d);
	*out = id;
	*out_count = count;
	return 0;
}

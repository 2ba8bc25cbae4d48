/* SPDX-License-Identifier: Apache-2.0 */
/* conf/state.json.  Reading it never fails: whatever lies there, the project stays reachable. */
#include "host/node/node_int.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/node/room.h"
#include "sys/clock.h"
#include "sys/fs.h"

static int
load(struct wr_place_of *p, struct wr_status *out, struct wr_err *err)
{
	int fd = wr_conf_fd(p, err);
	WR_SCOPED(wr_json_freep) json_t *o = NULL;

	if (fd < 0)
		return -1;
	o = wr_file_load(fd, "state.json", WR_FILE_MAX, "v", WR_NODE_FORMAT, err);
	return o ? wr_status_parse(o, out, err) : -1;
}

static int64_t
conf_time(const struct wr_place_of *p)
{
	struct stat st;

	return fstat(p->conf_fd, &st) == 0 ? (int64_t)st.st_mtim.tv_sec : wr_clock_wall().s;
}

void
wr_status_load(struct wr_place_of *p, struct wr_status *out)
{
	struct wr_err why = WR_ERR_INIT;
	struct wr_status s = {0};

	if (load(p, &s, &why) == 0) {
		*out = s;
		return;
	}
	s = (struct wr_status){.epoch = 1};
	memcpy(s.node, p->node->id.s, sizeof(s.node));
	if (p->conf_fd >= 0 && why.code == WR_E_NOT_FOUND) {
		s.state = WR_ST_STOPPED;
		s.when = conf_time(p);
	} else {
		s.state = WR_ST_ERROR;
		s.when = wr_clock_wall().s;
		s.error = why;
		wr_err_wrap(&s.error, "the state of this project cannot be read");
		if (!*s.error.hint)
			wr_err_hint(&s.error, "the next start, stop or save writes it anew; no "
					      "file of the project is touched by this");
	}
	*out = s;
}

/* Where not even a file of a few bytes can be made: into the room that the old one has, for a
 * project that fills its disk is still to be stopped. Who reads meanwhile finds all of either. */
static int
store_in_place(int dirfd, const json_t *o)
{
	WR_SCOPED(wr_closep)
	int fd = openat(dirfd, "state.json", O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > WR_FILE_MAX)
		return -1;
	wr_json_write(o, &b);
	wr_buf_add8(&b, '\n');
	while (b.len < (size_t)st.st_size)
		wr_buf_add8(&b, '\n');
	return wr_pwrite_all(fd, b.p, b.len, 0) < 0 || fdatasync(fd) < 0 ? -1 : 0;
}

int
wr_status_store(struct wr_place_of *p, const struct wr_status *s, bool durable, struct wr_err *err)
{
	int fd = wr_conf_fd(p, err);
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	struct wr_err why = WR_ERR_INIT;

	if (fd < 0)
		return -1;
	o = wr_status_json(s);
	if (wr_file_store(fd, "state.json", o, WR_FILE_MAX, 0644, durable, &why) == 0)
		return 0;
	if (why.code == WR_E_NOSPACE) {
		if (store_in_place(fd, o) == 0)
			return 0;
		/* Where nothing is written in place (btrfs) the reserve gives room. */
		if (durable) {
			wr_room_make(&p->node->volume[p->repo_vol]);
			if (wr_file_store(fd, "state.json", o, WR_FILE_MAX, 0644, true, &why) == 0)
				return 0;
		}
	}
	if (err)
		*err = why;
	return wr_err_wrap(err, "state of project %s", p->id.s);
}

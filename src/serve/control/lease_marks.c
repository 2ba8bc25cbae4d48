/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What earlier daemons and keepers froze.  RUN/frozen tells; from then on it is as if it had been
 * done here.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/runner/runner.h"
#include "serve/control/fleet_int.h"
#include "serve/control/lease_int.h"
#include "sys/clock.h"
#include "sys/fs.h"

/* A keeper freezes in less. An older mark of one that is at it is of one that was killed. */
#define ABOUT_S 5

/* Frozen by an earlier daemon, which saw to the rest as well; or by a keeper while there was none,
 * or none that came to it. Thawed as soon as it may run, or when it is looked at next. */
static void
adopt(struct wr_leases *x, const struct wr_uuid *project, int dir, const char *name)
{
	struct wr_leased *l = wr_leases_find(x, project);
	struct wr_frozen f;

	if (!wr_lease_lives(x->c, project)) {
		wr_leases_unmark(x->c, project);
		return;
	}
	/* Its keeper was a little earlier than we are: the same end of the same lease. */
	if (l && (l->frozen || (l->left_ns && !wr_leases_may_run(l, wr_clock_boot_ns()))))
		return;
	wr_frozen_load(dir, name, &f);
	l = wr_leases_get(x, project);
	l->frozen = true;
	l->isolated = l->isolated || !f.by_keeper;
	l->since = f.since;
	l->heard = f.heard;
	snprintf(l->why, sizeof(l->why), "%s", f.why);
	if (f.by_keeper)
		wr_event(x->c, "keeper", project, "project.frozen", l->why, NULL);
}

void
wr_leases_read_marks(struct wr_leases *x)
{
	int fd = wr_frozen_open(x->c->node->run_fd);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	int64_t now = wr_clock_wall().s;
	struct dirent *e;

	x->marks_due = false;
	while (d && (e = readdir(d))) {
		struct wr_uuid id;
		struct stat st;
		bool about;

		if (!wr_frozen_is(e->d_name, &id, &about) ||
		    (about && (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
			       (st.st_mtime <= now && st.st_mtime + ABOUT_S > now))))
			continue;
		adopt(x, &id, dirfd(d), e->d_name);
	}
	if (d)
		closedir(d);
	else
		wr_closep(&fd);
}

/* Leases of what ended while no daemon was there: a later run must not be frozen by one. */
void
wr_leases_sweep(struct wr_leases *x)
{
	int fd = wr_open_dir(x->c->node->run_fd, "run");
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		struct wr_uuid id;

		if (wr_run_lease_is(e->d_name, &id) && !wr_lease_lives(x->c, &id))
			wr_run_lease_remove(x->c->node, &id);
	}
	if (d)
		closedir(d);
	else
		wr_closep(&fd);
}

/* A keeper's mark is renamed into place when all stand still. */
static void
on_marks(struct wr_watch *w, uint32_t events WR_UNUSED)
{
	struct wr_leases *x = WR_OWNER(w, struct wr_leases, notify);
	char drop[4096];

	while (read(w->fd, drop, sizeof(drop)) > 0)
		;
	x->marks_due = true;
	wr_leases_wake(x);
}

void
wr_leases_watch_marks(struct wr_leases *x)
{
	WR_SCOPED(wr_closep) int dir = wr_frozen_open(x->c->node->run_fd);
	char path[32];

	x->notify = (struct wr_watch)WR_WATCH_INIT;
	x->notify_fd = dir < 0 ? -1 : inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", dir);
	if (x->notify_fd >= 0 && inotify_add_watch(x->notify_fd, path, IN_MOVED_TO) >= 0)
		wr_watch_on(&x->c->loop, &x->notify, x->notify_fd, EPOLLIN, on_marks);
}

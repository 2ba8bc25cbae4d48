/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scratch stays on its host. When another node takes a project over, or it was deleted while this
 * volume was missing, what is here goes to the trash, from where a start here would bring it back;
 * after [trash] keep it is removed. All of it is renames of directories (host/node/scratch.c), done
 * only while no operation of the project runs; a worker removes what is gone, one directory after
 * the other, and what a crash left of that is found again by the next sweep.
 */
#include "serve/control/scratch.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "host/node/age.h"
#include "host/task/task.h"
#include "serve/control/fleet.h"
#include "serve/control/limits.h"
#include "sys/clock.h"
#include "sys/fs.h"

struct place {
	size_t vol;
	struct wr_uuid id;
};

struct wr_scratches {
	struct wr_control *c;
	struct place *gone; /* still to be removed: the last one first */
	size_t gone_count, gone_cap;
	struct place now; /* by the worker, if there is one */
	struct wr_child child;
	struct wr_watch watch;
	struct wr_task task;
	struct wr_task_ear ear;
	int fd;
};

/* ---- what lies there ---- */

static void
list(struct wr_control *c, enum wr_scratch_part part, struct place **out, size_t *io_count,
     size_t *io_cap)
{
	for (size_t i = 0; i < c->node->volume_count; i++) {
		int fd =
		    c->volume_lost[i] ? -1 : wr_scratch_dir(&c->node->volume[i], part, false, NULL);
		DIR *d = fd < 0 ? NULL : fdopendir(fd);
		const struct dirent *e;
		struct wr_uuid id;

		if (!d) {
			wr_closep(&fd);
			continue;
		}
		while ((e = readdir(d))) {
			if (!wr_uuid_parse(e->d_name, &id))
				continue;
			wr_grow(out, io_cap, *io_count + 1, sizeof(**out));
			(*out)[(*io_count)++] = (struct place){i, id};
		}
		closedir(d);
	}
}

static bool
move(struct wr_control *c, const struct place *p, enum wr_scratch_part from,
     enum wr_scratch_part to)
{
	struct wr_err err = WR_ERR_INIT;

	if (wr_scratch_move(&c->node->volume[p->vol], &p->id, from, to, &err) == 0)
		return true;
	if (err.code != WR_E_NOT_FOUND)
		wr_log_err(WR_LOG_ERROR, "scratch", &err);
	return false;
}

/* ---- into the trash ---- */

static bool
at_work(struct wr_control *c, const struct wr_uuid *id)
{
	const struct wr_proj *p = wr_proj_find(c, id);

	return p && (p->run || p->first);
}

/* Whose is it? 1 a project that is here, 0 one that is not: deleted while this volume was missing,
 * or long gone; -1: nobody can tell now. */
static int
find_owner(struct wr_control *c, const struct wr_uuid *id, struct wr_proj_row *out)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	struct wr_err why = WR_ERR_INIT;

	if (wr_row_find(c, id, out, &why) == 0)
		return !out->deleted;
	for (size_t i = 0; i < c->node->volume_count; i++)
		if (c->volume_lost[i])
			return -1;
	/* Also one that cannot be read is there. */
	if (why.code != WR_E_NOT_FOUND || wr_place_of_find(c->node, id, &place, &why) == 0)
		return -1;
	return why.code == WR_E_NOT_FOUND ? 0 : -1;
}

/* Its files are another node's matter, or nobody's, and nothing runs here. */
static bool
has_left(struct wr_control *c, const struct wr_uuid *id)
{
	struct wr_proj_row row = {0};
	struct wr_status st = {0};
	struct wr_record e;
	int here;
	bool left;

	if (at_work(c, id))
		return false;
	here = find_owner(c, id, &row);
	left = here == 0;
	if (here > 0 && c->fleet && wr_fleet_record(c, id, &e) && !wr_fleet_is_writer(c, id)) {
		wr_row_status(c, &row, &st);
		left = !st.active;
	}
	wr_proj_row_fini(&row);
	return left;
}

/* Gives whether anything is in the trash now: an empty one is nothing to be kept. */
static bool
set_aside(struct wr_control *c, const struct place *p)
{
	WR_SCOPED(wr_freep) char *why = NULL;

	if (wr_scratch_is_empty(&c->node->volume[p->vol], &p->id)) {
		(void)move(c, p, WR_SCRATCH_LIVE, WR_SCRATCH_GONE);
		return false;
	}
	if (!move(c, p, WR_SCRATCH_LIVE, WR_SCRATCH_TRASH))
		return false;
	why =
	    wr_asprintf("no project on this host has it any more; it stays in the trash until %s: "
			"a start here brings it back",
			wr_fmt_utc(wr_clock_wall().s +
				   (int64_t)wr_age_span(c->node, c->node->config.trash_keep))
			    .s);
	wr_event(c, "control", &p->id, "scratch.aside", why, NULL);
	return true;
}

void
wr_scratch_left(struct wr_control *c, const struct wr_uuid *project, json_t *o)
{
	WR_SCOPED(wr_freep) char *path = NULL;
	struct place p = {.id = *project};
	struct wr_proj_row row = {0};
	struct wr_quota_usage u;
	json_t *s;
	bool counted;

	wr_json_null(o, "scratch");
	if (!wr_scratch_find(c->node, project, WR_SCRATCH_LIVE, &p.vol) || !has_left(c, project) ||
	    wr_row_find(c, project, &row, NULL) < 0)
		return;
	counted = wr_limits_scratch(c, &row, &u);
	wr_proj_row_fini(&row);
	if (!set_aside(c, &p))
		return;
	s = wr_json_object(o, "scratch");
	path = wr_scratch_path(&c->node->volume[p.vol], project);
	wr_json_path(s, "path", path, strlen(path));
	if (counted)
		wr_json_u64(s, "bytes", u.bytes);
	else
		wr_json_null(s, "bytes");
	wr_json_time(s, "trash_until",
		     wr_clock_wall().s + (int64_t)wr_age_span(c->node, c->node->config.trash_keep));
}

/* ---- and out of it ---- */

/* In the trash for longer than it is kept; with a deleted project it goes by that one's purge. */
static bool
is_over(struct wr_control *c, const struct place *p)
{
	const int64_t since = wr_scratch_since(&c->node->volume[p->vol], &p->id);
	struct wr_proj_row row = {0};
	bool deleted;

	if (!since ||
	    wr_clock_wall().s - since < (int64_t)wr_age_span(c->node, c->node->config.trash_keep) ||
	    at_work(c, &p->id))
		return false;
	deleted = wr_row_find(c, &p->id, &row, NULL) == 0 && row.deleted;
	wr_proj_row_fini(&row);
	return !deleted;
}

static void remove_next(struct wr_scratches *s);

static void
on_said(struct wr_watch *w, uint32_t events WR_UNUSED)
{
	struct wr_scratches *s = WR_OWNER(w, struct wr_scratches, watch);

	if (wr_task_hear(&s->task, &s->ear, s->fd, 0, NULL) <= 0)
		wr_watch_off(&s->c->loop, &s->watch);
}

static void
worker_end(struct wr_scratches *s)
{
	wr_watch_off(&s->c->loop, &s->watch);
	wr_task_ear_fini(&s->ear);
	s->ear = (struct wr_task_ear){0};
	wr_closep(&s->fd);
}

static void
on_removed(struct wr_child *ch, int wait_status)
{
	struct wr_scratches *s = WR_OWNER(ch, struct wr_scratches, child);
	struct wr_err err = WR_ERR_INIT;

	(void)wr_task_hear(&s->task, &s->ear, s->fd, 0, NULL);
	/* Tried again by the next sweep. */
	if (wr_task_end(s->ear.text.p, s->ear.text.len, wait_status, NULL, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "remove scratch", &err);
	else
		wr_event(s->c, "control", &s->now.id, "scratch.purged", NULL, NULL);
	worker_end(s);
	remove_next(s);
}

static int
remove_by_worker(struct wr_scratches *s, int dir_fd, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *args = json_object();
	pid_t pid;

	wr_json_str(args, "name", s->now.id.s);
	s->task = (struct wr_task)WR_TASK_INIT;
	s->task.kind = WR_TASK_REMOVE;
	s->task.args = args;
	s->task.source_fd = dir_fd;
	if (wr_task_begin(&s->task, &pid, &s->fd, err) < 0)
		return -1;
	s->task.args = NULL;
	s->task.source_fd = -1;
	wr_watch_on(&s->c->loop, &s->watch, s->fd, EPOLLIN, on_said);
	wr_child_on(&s->c->loop, &s->child, pid, -1, on_removed);
	return 0;
}

/* *out_gone: at once; else a worker is at it. */
static int
remove_one(struct wr_scratches *s, bool *out_gone, struct wr_err *err)
{
	const struct wr_volume *v = &s->c->node->volume[s->now.vol];
	WR_SCOPED(wr_closep) int dir = wr_scratch_dir(v, WR_SCRATCH_GONE, false, err);
	const struct wr_quota_tree t = {.id = s->now.id, .parent_fd = dir, .scratch = true};
	WR_SCOPED(wr_quota_close) struct wr_quota q = WR_QUOTA_INIT;
	uint64_t bytes;

	if (dir < 0 ||
	    wr_quota_open(v->projects_fd, s->c->node->state_fd, v->path,
			  s->c->node->config.volume_quota, false, &q, err) < 0 ||
	    wr_quota_remove_tree(&q, &t, out_gone, &bytes, err) < 0)
		return -1;
	return *out_gone ? wr_fsync_dir(dir, ".", err) : remove_by_worker(s, dir, err);
}

static void
remove_next(struct wr_scratches *s)
{
	while (s->gone_count && !s->child.pid && !s->c->draining) {
		struct wr_err err = WR_ERR_INIT;
		bool gone = false;

		s->now = s->gone[--s->gone_count];
		if (remove_one(s, &gone, &err) < 0)
			wr_log_err(WR_LOG_ERROR, "remove scratch", &err);
		else if (gone)
			wr_event(s->c, "control", &s->now.id, "scratch.purged", NULL, NULL);
	}
}

void
wr_scratch_sweep(struct wr_control *c)
{
	struct wr_scratches *s = c->scratches;
	struct place *p = NULL;
	size_t n = 0, cap = 0;

	if (s->child.pid)
		return; /* the last one is not at its end */
	list(c, WR_SCRATCH_LIVE, &p, &n, &cap);
	for (size_t i = 0; i < n; i++)
		if (has_left(c, &p[i].id))
			(void)set_aside(c, &p[i]);
	n = 0;
	list(c, WR_SCRATCH_TRASH, &p, &n, &cap);
	for (size_t i = 0; i < n; i++)
		if (is_over(c, &p[i]))
			(void)move(c, &p[i], WR_SCRATCH_TRASH, WR_SCRATCH_GONE);
	free(p);
	s->gone_count = 0;
	list(c, WR_SCRATCH_GONE, &s->gone, &s->gone_count, &s->gone_cap);
	remove_next(s);
}

/* ---- told ---- */

int
wr_scratch_open(struct wr_control *c, const struct wr_proj_row *r)
{
	WR_SCOPED(wr_closep) int dir = -1;
	size_t vol;

	if (!wr_scratch_find(c->node, &r->id, WR_SCRATCH_LIVE, &vol))
		return -1;
	dir = wr_scratch_dir(&c->node->volume[vol], WR_SCRATCH_LIVE, false, NULL);
	return dir < 0 ? -1 : wr_open_dir(dir, r->id.s);
}

void
wr_scratch_json(struct wr_control *c, json_t *o, const struct wr_proj_row *r,
		const struct wr_settings *set, const json_t *found)
{
	const uint64_t quota = set ? wr_settings_u64(set, "scratch") : 0;
	WR_SCOPED(wr_freep) char *path = NULL;
	struct wr_quota_usage u = {0};
	bool live, trashed, counted;
	json_t *s;
	size_t vol = r->tree_vol;

	live = wr_scratch_find(c->node, &r->id, WR_SCRATCH_LIVE, &vol);
	trashed = !live && wr_scratch_find(c->node, &r->id, WR_SCRATCH_TRASH, &vol);
	if ((!quota && !live && !trashed) || vol >= c->node->volume_count) {
		wr_json_null(o, "scratch");
		return;
	}
	counted = live && wr_limits_scratch(c, r, &u);
	if (!counted && found) {
		u.bytes = wr_json_get_u64(found, "bytes", 0);
		u.inodes = wr_json_get_u64(found, "files", 0);
	}
	s = wr_json_object(o, "scratch");
	path = wr_scratch_path(&c->node->volume[vol], &r->id);
	wr_json_path(s, "path", path, strlen(path));
	if (counted || found || (!live && !trashed))
		wr_json_u64(s, "bytes", u.bytes);
	else
		wr_json_null(s, "bytes");
	wr_json_str(s, "by", counted ? "quota" : found ? "scan" : NULL);
	wr_json_u64(s, "quota", quota);
	if (u.limit_bytes)
		wr_json_u64(s, "limit", u.limit_bytes);
	else
		wr_json_null(s, "limit");
	if (trashed)
		wr_json_time(s, "trash_until",
			     wr_scratch_since(&c->node->volume[vol], &r->id) +
				 (int64_t)wr_age_span(c->node, c->node->config.trash_keep));
	else
		wr_json_null(s, "trash_until");
}

/* ---- the frame ---- */

void
wr_scratch_begin(struct wr_control *c)
{
	c->scratches = wr_calloc(1, sizeof(*c->scratches));
	c->scratches->c = c;
	c->scratches->fd = -1;
	c->scratches->watch = (struct wr_watch)WR_WATCH_INIT;
	wr_scratch_sweep(c);
}

/* The worker ends with us; what it had left is found again. */
void
wr_scratch_end(struct wr_control *c)
{
	struct wr_scratches *s = c->scratches;

	if (!s)
		return;
	wr_child_off(&s->child);
	worker_end(s);
	free(s->gone);
	free(s);
	c->scratches = NULL;
}

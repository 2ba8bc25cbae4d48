/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What control does by itself: saves, idle stops, states put right, volumes looked at, old trash
 * removed, and after a start of the host what is wanted brought back.  Only projects in memory are
 * looked at.
 */
#include <fcntl.h>
#include <malloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "host/node/age.h"
#include "host/runner/runner.h"
#include "serve/control/control_int.h"
#include "serve/control/drops.h"
#include "serve/control/limits.h"
#include "serve/control/marks.h"
#include "serve/control/notices.h"
#include "serve/control/replicas.h"
#include "serve/control/resources.h"
#include "serve/control/scratch.h"
#include "sys/clock.h"
#include "sys/fs.h"

#define WATCHDOG_S 10
#define VOLUMES_S 60
#define IDLE_S 60
#define TRASH_S 3600
/* A save that could not even be asked for is tried again after this. */
#define SAVE_AGAIN_S 60

/* ---- saves ---- */

static struct wr_proj *
oldest_due(struct wr_control *c, uint64_t now_s)
{
	struct wr_proj *best = NULL;

	for (size_t i = 0; i < c->proj_count; i++) {
		struct wr_proj *p = c->proj[i];

		if (p->active && p->due_s <= now_s && !p->run && !p->first &&
		    (!best || p->due_s < best->due_s))
			best = p;
	}
	return best;
}

static void
save_due(struct wr_control *c, uint64_t now_s)
{
	struct wr_proj *p;

	while (c->by_schedule < c->node->config.save_parallel && (p = oldest_due(c, now_s))) {
		struct wr_op_wish w = {.kind = WR_OP_SAVE, .by = "schedule", .scheduled = true};
		struct wr_proj_row row = {0};
		struct wr_status st = {0};
		struct wr_err err = WR_ERR_INIT;
		struct wr_uuid op;

		p->due_s = now_s + SAVE_AGAIN_S; /* a save that begins says better */
		if (wr_row_find(c, &p->id, &row, &err) < 0)
			continue;
		wr_row_status(c, &row, &st);
		if (st.active) {
			w.row = &row;
			w.args = json_object();
			/* Saves that find nothing take each other's place. */
			if (*p->spare.s)
				w.id = &p->spare;
			if (wr_op_submit(c, &w, &op, &err) < 0)
				wr_log_err(WR_LOG_WARNING, "ask for a save", &err);
			p->spare.s[0] = '\0';
		}
		wr_proj_row_fini(&row);
	}
}

/* ---- idle stops ---- */

const char *
wr_not_idle(struct wr_control *c, const struct wr_proj_row *row)
{
	struct wr_settings set = {0};
	struct wr_runner_status run = {0};
	uint64_t timeout = 0;

	if (wr_row_settings(row, &set, NULL) == 0)
		timeout = wr_settings_u64(&set, "idle_timeout");
	wr_settings_fini(&set);
	if (timeout == 0)
		return "its idle_timeout is never";
	if (wr_clock_wall().s - row->used < (int64_t)timeout)
		return "it was in use less than its idle_timeout ago";
	wr_runner_status(c->node, &row->id, row->uid, row->exclusive, false, &run);
	return run.processes > 0 ? "it has processes" : NULL;
}

static void
stop_idle(struct wr_control *c)
{
	for (size_t i = 0; i < c->proj_count; i++) {
		struct wr_proj *p = c->proj[i];
		struct wr_op_wish w = {.kind = WR_OP_STOP, .by = "schedule", .scheduled = true};
		struct wr_proj_row row = {0};
		struct wr_err err = WR_ERR_INIT;
		struct wr_uuid op;

		if (!p->active || p->idle_timeout == 0 || p->run || p->first ||
		    wr_row_find(c, &p->id, &row, NULL) < 0)
			continue;
		if (!wr_not_idle(c, &row)) {
			w.row = &row;
			w.args = json_object();
			wr_json_bool(w.args, "if_idle", true);
			if (wr_op_submit(c, &w, &op, &err) < 0)
				wr_log_err(WR_LOG_WARNING, "stop an idle project", &err);
		}
		wr_proj_row_fini(&row);
	}
}

/* ---- watchdog ---- */

static void
watch_states(struct wr_control *c)
{
	for (size_t i = 0; i < c->proj_count; i++) {
		struct wr_proj_row row = {0};
		struct wr_status st = {0};

		if (c->proj[i]->run || wr_row_find(c, &c->proj[i]->id, &row, NULL) < 0)
			continue;
		wr_row_status(c, &row, &st);
		wr_proj_row_fini(&row);
	}
}

static void
watch_volumes(struct wr_control *c)
{
	for (size_t i = 0; i < c->node->volume_count; i++) {
		const struct wr_volume *v = &c->node->volume[i];
		WR_SCOPED(wr_closep) int fd = open(v->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		struct stat now, ours;
		bool lost = fd < 0 || fstat(fd, &now) < 0 || fstat(v->fd, &ours) < 0 ||
			    now.st_dev != ours.st_dev || now.st_ino != ours.st_ino ||
			    faccessat(fd, "volume.json", F_OK, 0) < 0;

		if (lost != c->volume_lost[i]) {
			c->volume_lost[i] = lost;
			wr_event(c, "control", NULL, lost ? "volume.lost" : "volume.back", v->path,
				 NULL);
		}
	}
}

/* ---- trash ---- */

struct old_trash {
	struct wr_proj_row *row;
	size_t count, cap;
	int64_t before;
};

static int
look_trash(void *ctx, const struct wr_proj_row *r, struct wr_err *err WR_UNUSED)
{
	struct old_trash *t = ctx;

	if (r->deleted > t->before)
		return 0;
	wr_grow(&t->row, &t->cap, t->count + 1, sizeof(*t->row));
	t->row[t->count] = *r;
	t->row[t->count].settings = t->row[t->count].holders = NULL;
	t->count++;
	return 0;
}

void
wr_purge_expired(struct wr_control *c)
{
	uint64_t keep = wr_age_span(c->node, c->node->config.trash_keep);
	struct old_trash t = {.before = wr_clock_wall().s - (int64_t)keep};
	struct wr_err err = WR_ERR_INIT;

	if (wr_store_proj_each(c->store, 1, look_trash, &t, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "look into the trash", &err);
	for (size_t i = 0; i < t.count; i++) {
		struct wr_op_wish w = {
		    .row = &t.row[i], .kind = WR_OP_PURGE, .by = "schedule", .args = json_object()};
		struct wr_uuid op;

		if (wr_drop_purges(c, &t.row[i].id)) {
			json_decref(w.args);
			continue;
		}
		if (wr_op_submit(c, &w, &op, &err) < 0)
			wr_log_err(WR_LOG_WARNING, "empty the trash", &err);
	}
	free(t.row);
	wr_scratch_sweep(c);
}

/* ---- the clock ---- */

static bool
every(uint64_t *last_ns, uint64_t now_ns, uint64_t seconds)
{
	if (now_ns - *last_ns < seconds * WR_SECOND)
		return false;
	*last_ns = now_ns;
	return true;
}

static void
on_tick(struct wr_timer *t)
{
	struct wr_control *c = WR_OWNER(t, struct wr_control, tick);
	uint64_t now = wr_clock_mono_ns();

	wr_timer_on(&c->loop, t, WR_SECOND, on_tick);
	wr_refusals_flush(c);
#ifdef __GLIBC__
	if (c->trim)
		malloc_trim(0);
#endif
	c->trim = false;
	if (c->draining)
		return;
	wr_clock_tick(c);
	wr_net_tick(c);
	wr_fronts_tick(c);
	wr_limits_tick(c);
	wr_resources_tick(c);
	wr_marks_tick(c);
	wr_notices_tick(c);
	if (every(&c->volumes_ns, now, VOLUMES_S))
		watch_volumes(c);
	if (every(&c->watchdog_ns, now, WATCHDOG_S))
		watch_states(c);
	if (every(&c->idle_ns, now, IDLE_S) && !c->leaving) {
		stop_idle(c);
		wr_back_next(c);
	}
	if (every(&c->trash_ns, now, TRASH_S))
		wr_purge_expired(c);
	if (!c->leaving)
		save_due(c, now / WR_SECOND);
}

void
wr_schedule_begin(struct wr_control *c)
{
	c->watchdog_ns = c->volumes_ns = c->idle_ns = c->trash_ns = wr_clock_mono_ns();
	wr_timer_on(&c->loop, &c->tick, WR_SECOND, on_tick);
}

/* ---- what is wanted comes back ---- */

/* The first start of the daemon since the host booted: RUN/boot holds another boot's id. */
static bool
first_since_boot(struct wr_control *c)
{
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;
	struct wr_proc_id me;
	struct wr_err err = WR_ERR_INIT;
	char now[24];

	if (wr_proc_id_of(getpid(), &me, NULL) < 0)
		return false;
	snprintf(now, sizeof(now), "%016" PRIx64, me.boot);
	if (wr_read_file(c->node->run_fd, "boot", 64, &b, NULL) == 0 &&
	    !strcmp(wr_buf_str(&b), now))
		return false;
	if (wr_replace_file(c->node->run_fd, "boot", now, strlen(now), 0644, &err) < 0)
		wr_log_err(WR_LOG_WARNING, "note the boot", &err);
	return true;
}

struct wanted {
	struct wr_control *c;
	bool autostart;
};

static int
look_wanted(void *ctx, const struct wr_proj_row *r, struct wr_err *err WR_UNUSED)
{
	struct wanted *w = ctx;
	struct wr_control *c = w->c;
	struct wr_place_of place = WR_PLACE_OF_INIT;
	struct wr_settings set = {0};
	struct wr_proj *p;

	if (!r->desired && !(w->autostart && r->autostart))
		return 0;
	p = wr_proj_get(c, &r->id);
	wr_proj_refresh(p, r);
	if (!p->run && !p->first && wr_place_of_find(c->node, &r->id, &place, NULL) == 0 &&
	    wr_row_settings(r, &set, NULL) == 0 && !wr_life_presented(&place, &set)) {
		wr_grow(&c->back, &c->back_cap, c->back_count + 1, sizeof(*c->back));
		c->back[c->back_count++] = r->id;
	}
	wr_settings_fini(&set);
	wr_place_of_fini(&place);
	return 0;
}

int
wr_bring_back(struct wr_control *c, struct wr_err *err)
{
	struct wanted w = {.c = c, .autostart = first_since_boot(c)};

	return wr_store_proj_each(c->store, w.autostart ? 0 : 3, look_wanted, &w, err);
}

static void
back_one(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_op_wish w = {.kind = WR_OP_START, .by = "control", .back = true};
	struct wr_proj_row row = {0};
	struct wr_err err = WR_ERR_INIT;
	struct wr_uuid op;

	if (wr_row_find(c, project, &row, &err) < 0)
		return;
	w.row = &row;
	w.args = json_object();
	c->back_running++;
	/* One that is busy by now has been started, or stopped, by someone else. */
	if (wr_op_submit(c, &w, &op, &err) < 0)
		c->back_running--;
	wr_proj_row_fini(&row);
}

/* Another node took it over while this one was away: it is not wanted here any more. */
static void
unwanted(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_proj *p = wr_proj_find(c, project);
	struct wr_proj_row row = {0};
	struct wr_err err = WR_ERR_INIT;

	if (wr_row_find(c, project, &row, NULL) < 0)
		return;
	row.desired = false;
	free(row.holders);
	row.holders = wr_strdup("[]");
	if (wr_store_proj_put(c->store, &row, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "note what is wanted", &err);
	if (p)
		wr_proj_refresh(p, &row);
	wr_event(c, "control", project, "project.taken-over", NULL, NULL);
	wr_copy_update_later(c, project); /* W6: what nobody saved goes to a side branch */
	wr_proj_row_fini(&row);
}

struct back {
	struct wr_control *c;
	struct wr_uuid project;
};

static void
on_back(void *ctx, const struct wr_err *why)
{
	struct back *b = ctx;

	if (b->c->draining || b->c->leaving)
		; /* the next daemon does it, or this one, if it stays */
	else if (!why)
		back_one(b->c, &b->project);
	else if (!wr_fleet_is_writer(b->c, &b->project))
		unwanted(b->c, &b->project);
	else {
		/* Tried again in a minute: the others may be on their way. */
		wr_log_err(WR_LOG_NOTICE, "bring a project back", why);
		wr_grow(&b->c->back, &b->c->back_cap, b->c->back_count + 1, sizeof(*b->c->back));
		b->c->back[b->c->back_count++] = b->project;
	}
	free(b);
}

void
wr_back_next(struct wr_control *c)
{
	while (c->back_count && c->back_running < c->node->config.start_parallel && !c->draining &&
	       !c->leaving) {
		struct wr_uuid project = c->back[--c->back_count];
		struct back *b;

		if (!wr_open_needed(c, &project)) {
			back_one(c, &project);
			continue;
		}
		/* Only what is still ours; nobody is asked to let go for that. */
		b = wr_calloc(1, sizeof(*b));
		*b = (struct back){c, project};
		wr_lease_want(c, &project, on_back, b);
	}
}

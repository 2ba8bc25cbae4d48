/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names that this node asked a hub for.  Whatever is cut off, or lost on the way, ends in one of
 * two: the project is in the index here, or the hub was told that it does not come.
 *
 *   STATE/asked/ID (empty) -> CREATE -> row in the index -> it goes
 *                                    -> nothing came of it: given back, again and again, until a
 *                                       hub has answered -> it goes
 *
 * The same when a project that was here alone is purged.  A hub frees by itself what is forgotten
 * all the same (know.c).
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "serve/control/fleet.h"
#include "serve/control/replicas.h"
#include "sys/clock.h"
#include "sys/crash.h"
#include "sys/fs.h"

#define DIR_NAME "asked"
#define ASK_MS 15000
#define AGAIN_S 2
#define AGAIN_MAX_S 60
/* LIMIT: of those that are given back at a time. */
#define AT_ONCE 16

struct giving {
	struct wr_control *c;
	struct wr_uuid project;
	bool asking;
	unsigned tries;
	uint64_t due_ns;
	struct giving *next;
};
struct wr_reserve {
	struct giving *list;
	struct wr_timer tick;
};

static int
note_open(struct wr_control *c, struct wr_err *err)
{
	int fd;

	if (mkdirat(c->node->state_fd, DIR_NAME, 0700) == 0)
		(void)wr_fsync_dir(c->node->state_fd, ".", NULL); /* at worst the note is lost */
	else if (errno != EEXIST)
		return wr_err_sys(err, "make '%s/" DIR_NAME "'", WR_Q(c->node->state_path));
	fd = wr_open_dir(c->node->state_fd, DIR_NAME);
	return fd < 0 ? wr_err_sys(err, "open '%s/" DIR_NAME "'", WR_Q(c->node->state_path)) : fd;
}

void
wr_reserve_note(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_err err = WR_ERR_INIT;
	WR_SCOPED(wr_closep) int dir = note_open(c, &err);
	WR_SCOPED(wr_closep) int fd = -1;

	if (dir >= 0) {
		fd = openat(dir, project->s, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		/* DURABLE: before a hub hears of it. */
		if (fd < 0)
			wr_err_sys(&err, "note '%s'", project->s);
		else
			(void)wr_fsync_dir(dir, ".", &err);
	}
	/* Without it a crash leaves a name to the hub's own look. */
	if (err.code != WR_E_NONE)
		wr_log_err(WR_LOG_WARNING, "note what is asked of a hub", &err);
}

void
wr_reserve_used(struct wr_control *c, const struct wr_uuid *project)
{
	WR_SCOPED(wr_freep) char *path = wr_asprintf(DIR_NAME "/%s", project->s);

	(void)unlinkat(c->node->state_fd, path, 0); /* what comes back is looked at anew */
}

static bool
is_here(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_proj_row row = {0};
	bool here = wr_row_find(c, project, &row, NULL) == 0;

	wr_proj_row_fini(&row);
	return here;
}

static struct giving *
find(struct wr_control *c, const struct wr_uuid *project)
{
	struct giving *g = c->fleet->reserve ? c->fleet->reserve->list : NULL;

	while (g && strcmp(g->project.s, project->s) != 0)
		g = g->next;
	return g;
}

bool
wr_reserve_busy(struct wr_control *c, const struct wr_uuid *project)
{
	return find(c, project) != NULL;
}

static void
done(struct giving *g)
{
	struct giving **at = &g->c->fleet->reserve->list;

	while (*at != g)
		at = &(*at)->next;
	*at = g->next;
	wr_ask_forget(g->c, g);
	wr_reserve_used(g->c, &g->project);
	free(g);
}

static void
on_given_back(void *ctx, const struct wr_msg *answer, const struct wr_err *why)
{
	struct giving *g = ctx;
	struct wr_err err = WR_ERR_INIT;

	g->asking = false;
	if (answer && answer->kind == WR_MSG_OK) {
		done(g);
		return;
	}
	if (answer)
		wr_msg_get_err(answer, &err);
	else
		err = *why;
	/* A hub that has nothing of this node's, or keeps it for others', has said all. */
	if (answer && (err.code == WR_E_NOT_FOUND || err.code == WR_E_DENIED)) {
		if (err.code == WR_E_DENIED)
			wr_log_err(WR_LOG_WARNING, "give a name back to the hub", &err);
		done(g);
		return;
	}
	g->due_ns =
	    wr_clock_mono_ns() +
	    WR_MIN((uint64_t)AGAIN_S << WR_MIN(g->tries, 8u), (uint64_t)AGAIN_MAX_S) * WR_SECOND;
	g->tries++;
}

static void
on_tick(struct wr_timer *t)
{
	struct wr_reserve *r = WR_OWNER(t, struct wr_reserve, tick);
	uint64_t now = wr_clock_mono_ns();
	struct giving *next;
	size_t n = 0;

	for (struct giving *g = r->list; g; g = g->next)
		n += g->asking;
	for (struct giving *g = r->list; g && n < AT_ONCE; g = next) {
		struct wr_msg m = WR_MSG_INIT;

		next = g->next;
		if (g->asking || g->due_ns > now)
			continue;
		if (is_here(g->c, &g->project)) {
			done(g);
			continue;
		}
		g->asking = true;
		n++;
		m.kind = WR_MSG_CREATE;
		m.project = g->project;
		wr_ask(g->c, wr_hub_pick(g->c), &m, ASK_MS, on_given_back, g);
	}
	if (r->list)
		wr_timer_on(&r->list->c->loop, t, WR_SECOND, on_tick);
}

static void
add(struct wr_control *c, const struct wr_uuid *project)
{
	struct giving *g = wr_calloc(1, sizeof(*g));

	g->c = c;
	g->project = *project;
	g->next = c->fleet->reserve->list;
	c->fleet->reserve->list = g;
	if (!c->fleet->reserve->tick.on)
		wr_timer_on(&c->loop, &c->fleet->reserve->tick, 0, on_tick);
}

void
wr_reserve_free(struct wr_control *c, const struct wr_uuid *project)
{
	wr_reserve_note(c, project);
	if (c->fleet->reserve && !find(c, project))
		add(c, project);
}

void
wr_reserve_begin(struct wr_control *c)
{
	int fd = wr_open_dir(c->node->state_fd, DIR_NAME);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;
	struct wr_uuid id;

	c->fleet->reserve = wr_calloc(1, sizeof(*c->fleet->reserve));
	while (d && (e = readdir(d)))
		if (wr_uuid_parse(e->d_name, &id))
			add(c, &id);
	if (d)
		closedir(d);
	else
		wr_closep(&fd);
}

void
wr_reserve_end(struct wr_control *c)
{
	struct wr_reserve *r = c->fleet->reserve;

	if (!r)
		return;
	wr_timer_off(&c->loop, &r->tick);
	while (r->list) {
		struct giving *g = r->list;

		r->list = g->next;
		wr_ask_forget(c, g);
		free(g);
	}
	free(r);
	c->fleet->reserve = NULL;
}

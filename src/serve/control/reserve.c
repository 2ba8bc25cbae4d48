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
#include "base/log.h"
#include "base/str.h"
#include "serve/control/fleet.h"
#include "serve/control/replicas.h"
#include "sys/clock.h"
#include "sys/crash.h"

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

void
wr_reserve_note(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_err err = WR_ERR_INIT;

	/* Without it a crash leaves a name to the hub's own look. */
	if (wr_flag_set(c->node, WR_FLAG_ASKED, project, "", 0, &err) < 0)
		wr_log_err(WR_LOG_WARNING, "note what is asked of a hub", &err);
}

void
wr_reserve_used(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_err err = WR_ERR_INIT;

	if (wr_flag_clear(c->node, WR_FLAG_ASKED, project, &err) < 0)
		wr_log_err(WR_LOG_WARNING, "what was asked of a hub", &err);
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
	struct wr_err err = WR_ERR_INIT;
	struct wr_uuid *id;
	size_t n;

	c->fleet->reserve = wr_calloc(1, sizeof(*c->fleet->reserve));
	if (wr_flag_list(c->node, WR_FLAG_ASKED, &id, &n, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "what was asked of a hub", &err);
	for (size_t i = 0; i < n; i++)
		add(c, &id[i]);
	free(id);
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

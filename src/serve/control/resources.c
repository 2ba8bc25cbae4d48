/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory, processors, processes and disks of active projects while the daemon runs.  A start sets
 * them before anything runs (host/runner); here they follow the settings, and what met its limits
 * is told: once as an event, and for a day as the project's notice.
 */
#include "serve/control/resources.h"

#include "base/log.h"
#include "base/str.h"
#include "host/runner/runner.h"
#include "sys/clock.h"

/* Each active project is looked after once in so many seconds. */
#define ROUND_S 30
/* A notice is about this much of the past; a project that goes on meeting its limit is told of once
 * in so long. */
#define NOTICE_S 86400
#define AGAIN_S 600

void
wr_resources_begin(struct wr_control *c)
{
	struct wr_run_place p;

	wr_run_settle(c->node, &p);
	wr_log(WR_LOG_NOTICE, "resources groups=%s%s%s%s%s%s%s%s%s", p.groups ? "yes" : "no",
	       p.unit ? " unit=yes" : "", p.controllers & WR_CGROUP_CPU ? " cpu" : "",
	       p.controllers & WR_CGROUP_IO ? " io" : "",
	       p.controllers & WR_CGROUP_MEMORY ? " memory" : "",
	       p.controllers & WR_CGROUP_PIDS ? " pids" : "", *p.why ? " why=\"" : "", p.why,
	       *p.why ? "\"" : "");
}

/* ---- limits that were met ---- */

static char *
text_of(const struct wr_proj_row *r, const struct wr_settings *set, bool oom)
{
	const uint64_t memory = wr_settings_u64(set, "memory");
	const uint64_t pids = wr_settings_u64(set, "pids");

	if (oom)
		return wr_asprintf("its processes were ended: together they took more than memory "
				   "= %s; again: warren start %s; with more: warren settings %s "
				   "memory=%s",
				   wr_fmt_size(memory).s, r->name, r->name,
				   wr_fmt_size(memory * 2).s);
	return wr_asprintf("more processes than pids = %" PRIu64 " were refused to it; to end all: "
			   "warren restart %s; to allow more: warren settings %s pids=%" PRIu64,
			   pids, r->name, r->name, pids * 2);
}

static void
tell(struct wr_control *c, const struct wr_proj_row *r, const struct wr_settings *set, bool oom)
{
	WR_SCOPED(wr_freep) char *why = text_of(r, set, oom);

	wr_event(c, "control", &r->id, oom ? "project.out-of-memory" : "project.out-of-processes",
		 why, NULL);
}

/* The group's numbers only grow; smaller ones are those of another group. */
static void
look(struct wr_control *c, struct wr_proj *p, const struct wr_proj_row *r,
     const struct wr_settings *set)
{
	const int64_t now = wr_clock_wall().s;
	struct wr_run_seen *seen = &p->seen, before;
	struct wr_cgroup_hits hits;
	bool oom, pids;

	if (!p->seen_loaded)
		wr_run_seen_load(c->node, &p->id, seen);
	p->seen_loaded = true;
	if (!wr_run_hits(c->node, &p->id, &hits))
		return;
	before = *seen;
	if (hits.oom < seen->oom || hits.pids < seen->pids)
		*seen = (struct wr_run_seen){0};
	oom = hits.oom > seen->oom;
	pids = hits.pids > seen->pids && now - seen->pids_at >= AGAIN_S;
	seen->oom = hits.oom;
	if (oom)
		seen->oom_at = now;
	if (pids) {
		seen->pids = hits.pids;
		seen->pids_at = now;
	}
	if (memcmp(&before, seen, sizeof(before)) != 0)
		wr_run_seen_store(c->node, &p->id, seen);
	if (oom)
		tell(c, r, set, true);
	if (pids)
		tell(c, r, set, false);
}

char *
wr_resources_notice(struct wr_control *c, const struct wr_proj_row *r,
		    const struct wr_settings *set)
{
	const int64_t since = wr_clock_wall().s - NOTICE_S;
	const struct wr_proj *p = wr_proj_find(c, &r->id);

	if (!p || WR_MAX(p->seen.oom_at, p->seen.pids_at) <= since)
		return NULL;
	return text_of(r, set, p->seen.oom_at >= p->seen.pids_at);
}

/* ---- limits ---- */

static void
tend(struct wr_control *c, struct wr_proj *p, const struct wr_proj_row *r)
{
	struct wr_settings set = {0};
	struct wr_cgroup_limits l;

	if (wr_row_settings(r, &set, NULL) < 0)
		return;
	l = wr_run_limits_of(&set);
	p->enforced = wr_run_limit(c->node, &r->id, &l);
	look(c, p, r, &set);
	wr_settings_fini(&set);
}

void
wr_resources_changed(struct wr_control *c, const struct wr_proj_row *r)
{
	struct wr_proj *p = wr_proj_find(c, &r->id);

	/* An operation that starts it sets what it began with; then the next round does. */
	if (p)
		tend(c, p, r);
}

void
wr_resources_tick(struct wr_control *c)
{
	for (size_t n = c->proj_count / ROUND_S + 1; n > 0 && c->proj_count; n--) {
		struct wr_proj_row row = {0};
		struct wr_proj *p;

		if (c->resources_next >= c->proj_count)
			c->resources_next = 0;
		p = c->proj[c->resources_next++];
		if (wr_row_find(c, &p->id, &row, NULL) < 0)
			continue;
		tend(c, p, &row);
		wr_proj_row_fini(&row);
	}
}

/* ---- told ---- */

void
wr_resources_json(struct wr_control *c, json_t *o, const struct wr_proj_row *r)
{
	struct wr_proj *p = wr_proj_find(c, &r->id);
	json_t *m = wr_json_object(o, "resources");
	struct wr_cgroup_hits hits = {0};
	struct wr_run_place place;
	bool has_group = p && wr_run_hits(c->node, &r->id, &hits);

	wr_run_place(c->node, &place);
	if (has_group)
		tend(c, p, r);
	for (unsigned i = 0; wr_cgroup_ctl_name[i]; i++)
		wr_json_bool(m, wr_cgroup_ctl_name[i],
			     (has_group ? p->enforced : place.controllers) & 1u << i);
	wr_json_str(m, "why", *place.why ? place.why : NULL);
	wr_json_u64(m, "out_of_memory", hits.oom);
	wr_json_u64(m, "out_of_processes", hits.pids);
}

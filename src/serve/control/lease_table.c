/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which projects have a lease here, and which of them are frozen.
 *
 * What is frozen is noted in RUN/frozen/ID, before it is, so that the next daemon thaws it.  RUN
 * does not outlive a boot, nor do processes.
 */
#include "base/log.h"
#include "fleet/rules/lease.h"
#include "host/runner/runner.h"
#include "serve/control/fleet_int.h"
#include "serve/control/lease_int.h"
#include "sys/clock.h"

/* After a start of the daemon the first answers have that long to come. */
#define GRACE_NS (10 * WR_SECOND_NS)

/* ---- the table ---- */

static size_t
lease_at(const struct wr_leases *x, const struct wr_uuid *project)
{
	size_t lo = 0, hi = x->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (strcmp(x->of[mid]->project.s, project->s) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct wr_leased *
wr_leases_find(const struct wr_leases *x, const struct wr_uuid *project)
{
	size_t i = x ? lease_at(x, project) : 0;

	return x && i < x->count && !strcmp(x->of[i]->project.s, project->s) ? x->of[i] : NULL;
}

struct wr_leased *
wr_leases_get(struct wr_leases *x, const struct wr_uuid *project)
{
	struct wr_leased *l = wr_leases_find(x, project);
	size_t i = lease_at(x, project);

	if (l)
		return l;
	l = wr_calloc(1, sizeof(*l));
	l->project = *project;
	l->grace_ns = wr_clock_boot_ns() + GRACE_NS;
	l->left = true;
	wr_lease_init(&l->l, &x->c->fleet->auth->self);
	wr_grow(&x->of, &x->cap, x->count + 1, sizeof(struct wr_leased *));
	memmove(x->of + i + 1, x->of + i, (x->count - i) * sizeof(struct wr_leased *));
	x->of[i] = l;
	x->count++;
	return l;
}

void
wr_leases_drop(struct wr_leases *x, struct wr_leased *l)
{
	size_t i = lease_at(x, &l->project);

	wr_leases_leave_nothing(x->c, l);
	x->count--;
	memmove(x->of + i, x->of + i + 1, (x->count - i) * sizeof(struct wr_leased *));
	free(l);
}

/* ---- what lives here ---- */

/* Is its home presented, by its state? */
bool
wr_leases_active(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_proj_row row = {0};
	struct wr_status st = {0};

	/* What is not in memory is at rest. */
	if (!wr_proj_find(c, project) || wr_row_find(c, project, &row, NULL) < 0)
		return false;
	wr_row_status(c, &row, &st);
	wr_proj_row_fini(&row);
	return st.active;
}

static bool
in_work(struct wr_control *c, const struct wr_uuid *project)
{
	const struct wr_proj *p = wr_proj_find(c, project);

	return p && p->run;
}

bool
wr_lease_lives(struct wr_control *c, const struct wr_uuid *project)
{
	return in_work(c, project) || wr_leases_active(c, project);
}

bool
wr_lease_runs(struct wr_control *c, const struct wr_uuid *project)
{
	const struct wr_leased *l = wr_leases_find(c->fleet->leases, project);

	if (l && wr_lease_holds(&l->l, wr_clock_boot_ns()))
		return true;
	return in_work(c, project) || (!(l && l->frozen) && wr_leases_active(c, project));
}

/* ---- for the keeper ---- */

/* It needs none, or is seen to here. */
void
wr_leases_leave_nothing(struct wr_control *c, struct wr_leased *l)
{
	if (l->left)
		wr_run_lease_remove(c->node, &l->project);
	l->left = false;
	l->left_ns = 0;
}

/* Before anything runs under it. */
void
wr_leases_leave(struct wr_control *c, struct wr_leased *l)
{
	uint64_t until = wr_lease_until(&l->l);
	struct wr_err err = WR_ERR_INIT;

	/* None that is known: an earlier daemon's is as good as ever. */
	if (!l->shared || l->isolation == WR_ISO_RUN)
		wr_leases_leave_nothing(c, l);
	else if (until > l->left_ns && wr_run_lease_store(c->node, &l->project, until, &err) == 0)
		l->left_ns = until;
	if (err.code)
		wr_log_err(WR_LOG_ERROR, "leave a lease for a keeper", &err);
	l->left = l->left || l->left_ns;
}

bool
wr_leases_may_run(const struct wr_leased *l, uint64_t now)
{
	return !l->lost && (!l->shared || wr_lease_holds(&l->l, now));
}

/* ---- frozen ---- */

static void
mark(struct wr_control *c, const struct wr_leased *l)
{
	struct wr_frozen f = {.since = l->since, .heard = l->heard};
	struct wr_err err = WR_ERR_INIT;

	snprintf(f.why, sizeof(f.why), "%s", l->why);
	if (wr_frozen_store(c->node->run_fd, &l->project, &f, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "note what is frozen", &err);
}

void
wr_leases_unmark(struct wr_control *c, const struct wr_uuid *project)
{
	wr_frozen_remove(c->node->run_fd, project);
}

static int
set_frozen(struct wr_control *c, const struct wr_leased *l, bool frozen)
{
	struct wr_proj_row row = {0};
	struct wr_err err = WR_ERR_INIT;
	int rc = wr_row_find(c, &l->project, &row, &err);

	if (rc == 0)
		rc = wr_runner_freeze(c->node, &l->project, row.uid, row.exclusive, frozen, &err);
	wr_proj_row_fini(&row);
	if (rc < 0)
		wr_log_err(WR_LOG_ERROR, frozen ? "freeze" : "thaw", &err);
	return rc;
}

void
wr_leases_freeze(struct wr_control *c, struct wr_leased *l, const char *why)
{
	bool was = l->frozen;

	l->frozen = true;
	l->since = was ? l->since : wr_clock_wall().s;
	snprintf(l->why, sizeof(l->why), "%s", why);
	mark(c, l);
	(void)set_frozen(c, l, true); /* asked for again at every look as long as it has to be */
	wr_leases_leave_nothing(c, l);
	if (!was)
		wr_event(c, "fleet", &l->project, "project.frozen", l->why, NULL);
}

void
wr_leases_thaw(struct wr_control *c, struct wr_leased *l)
{
	WR_SCOPED(wr_freep) char *why = NULL;

	wr_leases_leave(c, l);
	if (set_frozen(c, l, false) < 0)
		return;
	why = wr_asprintf("its replicas answer again, after %" PRId64 " s",
			  WR_MAX(wr_clock_wall().s - l->since, (int64_t)0));
	l->frozen = l->isolated = false;
	wr_leases_unmark(c, &l->project);
	wr_event(c, "fleet", &l->project, "project.thawed", why, NULL);
}

bool
wr_lease_frozen(struct wr_control *c, const struct wr_uuid *project, int64_t *out_since,
		const char **out_why)
{
	struct wr_leased *l = c->fleet ? wr_leases_find(c->fleet->leases, project) : NULL;

	if (!l || !l->frozen)
		return false;
	if (l->heard)
		snprintf(l->why, sizeof(l->why), "lost its replicas %" PRId64 " s ago",
			 WR_MAX(wr_clock_wall().s - l->heard, (int64_t)0));
	*out_since = l->since;
	*out_why = l->why;
	return true;
}

void
wr_lease_json(struct wr_control *c, json_t *o, const struct wr_uuid *project)
{
	const char *why;
	int64_t since;
	json_t *f;

	if (!wr_lease_frozen(c, project, &since, &why)) {
		wr_json_null(o, "frozen");
		return;
	}
	f = wr_json_object(o, "frozen");
	wr_json_time(f, "since", since);
	wr_json_str(f, "why", why);
}

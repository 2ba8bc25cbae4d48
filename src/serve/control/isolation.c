/* SPDX-License-Identifier: Apache-2.0 */
/* What follows when a majority is lost for too long, or a record names another writer. */
#include "base/log.h"
#include "fleet/rules/lease.h"
#include "serve/control/fleet_int.h"
#include "serve/control/lease_int.h"
#include "sys/clock.h"

#define STOP_WAIT_S 3600

static int
submit(struct wr_control *c, const struct wr_uuid *project, enum wr_op_kind kind, json_t *args)
{
	struct wr_op_wish w = {
	    .kind = kind, .args = args, .by = "fleet", .may_wait = true, .wait_s = STOP_WAIT_S};
	struct wr_proj_row row = {0};
	struct wr_err err = WR_ERR_INIT;
	struct wr_uuid op;
	int rc = wr_row_find(c, project, &row, &err);

	if (rc == 0) {
		w.row = &row;
		rc = wr_op_submit(c, &w, &op, &err);
	} else {
		json_decref(args);
	}
	wr_proj_row_fini(&row);
	if (rc < 0)
		wr_log_err(WR_LOG_WARNING, "ask for an operation", &err);
	return rc;
}

void
wr_leases_ask_stop(struct wr_control *c, struct wr_leased *l, bool force)
{
	json_t *args = json_object();

	wr_json_bool(args, "force", force);
	l->stop_asked = submit(c, &l->project, WR_OP_STOP, args) == 0;
}

void
wr_lease_lost(struct wr_control *c, const struct wr_uuid *project, const char *why)
{
	struct wr_leased *l = wr_leases_get(c->fleet->leases, project);

	wr_lease_drop(&l->l);
	l->self_ok = false;
	l->heard = 0;
	if (!l->lost && wr_leases_active(c, project)) {
		l->lost = true;
		wr_leases_freeze(c, l, why);
	}
	l->lost = true;
	/* An operation that works on it now is waited for: it has seen the record, or its last step
	 * will. */
	if (!l->stop_asked)
		wr_leases_ask_stop(c, l, true);
}

void
wr_lease_give_up(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_leased *l = wr_leases_find(c->fleet->leases, project);

	if (l)
		wr_lease_drop(&l->l);
}

/* By the wall clock, for people; 0: not since this daemon started. */
static int64_t
heard_at(const struct wr_leased *l, uint64_t now)
{
	uint64_t until = wr_lease_until(&l->l);

	return until ? wr_clock_wall().s - (int64_t)((now - (until - WR_LEASE_NS)) / WR_SECOND_NS)
		     : 0;
}

/* "lost its replicas 40 s ago" */
static void
say_lost(const struct wr_leases *x, const struct wr_leased *l, uint64_t now, char out[160])
{
	uint64_t until = wr_lease_until(&l->l);

	if (until)
		snprintf(out, 160, "lost its replicas %" PRIu64 " s ago",
			 (now - (until - WR_LEASE_NS)) / WR_SECOND_NS);
	else
		snprintf(out, 160,
			 "its replicas have not answered since this daemon started %" PRIu64
			 " s ago",
			 (now - x->begun_ns) / WR_SECOND_NS);
}

void
wr_leases_read_isolation(struct wr_control *c, struct wr_leased *l)
{
	struct wr_proj_row row = {0};
	struct wr_settings set = {0};

	if (wr_row_find(c, &l->project, &row, NULL) == 0 &&
	    wr_row_settings(&row, &set, NULL) == 0) {
		const char *how = wr_settings_str(&set, "isolation");

		l->isolation = !strcmp(how, "run")    ? WR_ISO_RUN
			       : !strcmp(how, "stop") ? WR_ISO_STOP
						      : WR_ISO_FREEZE;
	}
	wr_settings_fini(&set);
	wr_proj_row_fini(&row);
}

/* No majority for too long. */
void
wr_leases_isolate(struct wr_leases *x, struct wr_leased *l, uint64_t now)
{
	struct wr_control *c = x->c;
	char why[160];

	if (l->isolated)
		return;
	l->isolated = true;
	wr_leases_read_isolation(c, l);
	say_lost(x, l, now, why);
	if (l->isolation == WR_ISO_RUN) {
		wr_leases_leave_nothing(c, l);
		if (l->frozen) /* by its keeper, before that was set */
			wr_leases_thaw(c, l);
		l->isolated = true;
		wr_event(c, "fleet", &l->project, "project.isolated", why, NULL);
	} else if (l->isolation == WR_ISO_STOP) {
		wr_leases_leave_nothing(c, l);
		wr_event(c, "fleet", &l->project, "project.isolated", why, NULL);
		wr_leases_ask_stop(c, l, false);
	} else {
		l->heard = heard_at(l, now);
		wr_leases_freeze(c, l, why);
		/* What it did up to now is kept at least here. */
		(void)submit(c, &l->project, WR_OP_SAVE, json_object());
	}
}

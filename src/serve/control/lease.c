/* SPDX-License-Identifier: Apache-2.0 */
/*
 * W1: what runs here runs while a majority of its voters answers.  One message per other node and
 * round, whatever runs; a hub has no part in it.
 *
 *   round: KEEP to all voters of all that lives here   every 10 s, and when a start asks
 *   held --- no majority for L ---> isolation: freeze, run on, or stop    event, a local save
 *   frozen --- a majority again, same epoch ---> thawed                   event
 *   any --- a record that names another writer ---> frozen, stopped (W6)
 *
 * What is frozen is noted in RUN/frozen/ID, before it is, so that the next daemon thaws it.  RUN
 * does not outlive a boot, nor do processes.
 *
 * While no daemon is there to freeze, keepers do (host/runner): each longer lease is left for them
 * in RUN/run/ID.lease.  A restart that is shorter than the lease is noticed by nobody.  What a
 * keeper froze, RUN/frozen tells; from then on it is as if it had been done here.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "fleet/rules/lease.h"
#include "host/runner/runner.h"
#include "serve/control/fleet_int.h"
#include "sys/clock.h"
#include "sys/fs.h"

#define KEEP_TIMEOUT_MS 10000
#define WANT_NS (5 * WR_SECOND_NS)
/* After a start of the daemon the first answers have that long to come. */
#define GRACE_NS (10 * WR_SECOND_NS)
/* A hub is asked that often for a raise that this node consents to. */
#define RAISE_EVERY_NS (60 * WR_SECOND_NS)
#define STOP_WAIT_S 3600
/* A keeper freezes in less. An older mark of one that is at it is of one that was killed. */
#define ABOUT_S 5

struct want {
	struct want *next;
	wr_open_fn fn;
	void *ctx;
	uint64_t end_ns;
};

struct lease {
	struct wr_uuid project;
	struct wr_lease l;
	bool shared;       /* others vote, too: else it needs no lease */
	bool self_ok;      /* it is ours by what this node promised */
	uint64_t grace_ns; /* not judged before */
	bool frozen, lost; /* lost: for good (W6), a stop is asked for */
	bool stop_asked;
	bool isolated;                                    /* its isolation was seen to */
	enum { ISO_FREEZE, ISO_RUN, ISO_STOP } isolation; /* the setting, as of the last round */
	uint64_t left_ns; /* the end of its lease, as left for its keeper; 0: not by this daemon */
	bool left;        /* there may be a file */
	int64_t since;    /* of frozen */
	int64_t heard;    /* when they were last heard, if that is why; 0: it is not */
	char why[160];
	uint64_t raise_ns;
	struct wr_epoch promised; /* a later one than its record's, since: */
	uint64_t promised_ns;
	struct want *wants;
};

struct wr_leases {
	struct wr_control *c;
	struct lease **of; /* ascending by project */
	size_t count, cap;
	uint64_t round;   /* number of the newest */
	uint64_t next_ns; /* CLOCK_BOOTTIME */
	uint64_t begun_ns;
	struct wr_timer wake;
	int notify_fd; /* new marks in RUN/frozen; -1: they are found every round */
	struct wr_watch notify;
	bool marks_due, swept;
};

static void on_wake(struct wr_timer *t);
static void wake_at(struct wr_leases *x);

/* ---- for the keeper ---- */

/* It needs none, or is seen to here. */
static void
leave_nothing(struct wr_control *c, struct lease *l)
{
	if (l->left)
		wr_run_lease_remove(c->node, &l->project);
	l->left = false;
	l->left_ns = 0;
}

/* Before anything runs under it. */
static void
leave(struct wr_control *c, struct lease *l)
{
	uint64_t until = wr_lease_until(&l->l);
	struct wr_err err = WR_ERR_INIT;

	/* None that is known: an earlier daemon's is as good as ever. */
	if (!l->shared || l->isolation == ISO_RUN)
		leave_nothing(c, l);
	else if (until > l->left_ns && wr_run_lease_store(c->node, &l->project, until, &err) == 0)
		l->left_ns = until;
	if (err.code)
		wr_log_err(WR_LOG_ERROR, "leave a lease for a keeper", &err);
	l->left = l->left || l->left_ns;
}

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

static struct lease *
lease_find(const struct wr_leases *x, const struct wr_uuid *project)
{
	size_t i = x ? lease_at(x, project) : 0;

	return x && i < x->count && !strcmp(x->of[i]->project.s, project->s) ? x->of[i] : NULL;
}

static struct lease *
lease_get(struct wr_leases *x, const struct wr_uuid *project)
{
	struct lease *l = lease_find(x, project);
	size_t i = lease_at(x, project);

	if (l)
		return l;
	l = wr_calloc(1, sizeof(*l));
	l->project = *project;
	l->grace_ns = wr_clock_boot_ns() + GRACE_NS;
	l->left = true;
	wr_lease_init(&l->l, &x->c->fleet->auth->self);
	wr_grow(&x->of, &x->cap, x->count + 1, sizeof(struct lease *));
	memmove(x->of + i + 1, x->of + i, (x->count - i) * sizeof(struct lease *));
	x->of[i] = l;
	x->count++;
	return l;
}

static void
lease_drop(struct wr_leases *x, struct lease *l)
{
	size_t i = lease_at(x, &l->project);

	leave_nothing(x->c, l);
	x->count--;
	memmove(x->of + i, x->of + i + 1, (x->count - i) * sizeof(struct lease *));
	free(l);
}

/* ---- what lives here ---- */

/* Is its home presented, by its state? */
static bool
active(struct wr_control *c, const struct wr_uuid *project)
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
	return in_work(c, project) || active(c, project);
}

bool
wr_lease_runs(struct wr_control *c, const struct wr_uuid *project)
{
	const struct lease *l = lease_find(c->fleet->leases, project);

	if (l && wr_lease_holds(&l->l, wr_clock_boot_ns()))
		return true;
	return in_work(c, project) || (!(l && l->frozen) && active(c, project));
}

/* ---- frozen ---- */

static void
mark(struct wr_control *c, const struct lease *l)
{
	struct wr_frozen f = {.since = l->since, .heard = l->heard};
	struct wr_err err = WR_ERR_INIT;

	snprintf(f.why, sizeof(f.why), "%s", l->why);
	if (wr_frozen_store(c->node->run_fd, &l->project, &f, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "note what is frozen", &err);
}

static void
unmark(struct wr_control *c, const struct wr_uuid *project)
{
	wr_frozen_remove(c->node->run_fd, project);
}

static int
set_frozen(struct wr_control *c, const struct lease *l, bool frozen)
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

static void
freeze(struct wr_control *c, struct lease *l, const char *why)
{
	bool was = l->frozen;

	l->frozen = true;
	l->since = was ? l->since : wr_clock_wall().s;
	snprintf(l->why, sizeof(l->why), "%s", why);
	mark(c, l);
	(void)set_frozen(c, l, true); /* asked for again at every look as long as it has to be */
	leave_nothing(c, l);
	if (!was)
		wr_event(c, "fleet", &l->project, "project.frozen", l->why, NULL);
}

static void
thaw(struct wr_control *c, struct lease *l)
{
	WR_SCOPED(wr_freep) char *why = NULL;

	leave(c, l);
	if (set_frozen(c, l, false) < 0)
		return;
	why = wr_asprintf("its replicas answer again, after %" PRId64 " s",
			  WR_MAX(wr_clock_wall().s - l->since, (int64_t)0));
	l->frozen = l->isolated = false;
	unmark(c, &l->project);
	wr_event(c, "fleet", &l->project, "project.thawed", why, NULL);
}

bool
wr_lease_frozen(struct wr_control *c, const struct wr_uuid *project, int64_t *out_since,
		const char **out_why)
{
	struct lease *l = c->fleet ? lease_find(c->fleet->leases, project) : NULL;

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

/* ---- operations that follow ---- */

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

static void
ask_stop(struct wr_control *c, struct lease *l, bool force)
{
	json_t *args = json_object();

	wr_json_bool(args, "force", force);
	l->stop_asked = submit(c, &l->project, WR_OP_STOP, args) == 0;
}

void
wr_lease_lost(struct wr_control *c, const struct wr_uuid *project, const char *why)
{
	struct lease *l = lease_get(c->fleet->leases, project);

	wr_lease_drop(&l->l);
	l->self_ok = false;
	l->heard = 0;
	if (!l->lost && active(c, project)) {
		l->lost = true;
		freeze(c, l, why);
	}
	l->lost = true;
	/* An operation that works on it now is waited for: it has seen the record, or its last step
	 * will. */
	if (!l->stop_asked)
		ask_stop(c, l, true);
}

void
wr_lease_give_up(struct wr_control *c, const struct wr_uuid *project)
{
	struct lease *l = lease_find(c->fleet->leases, project);

	if (l)
		wr_lease_drop(&l->l);
}

/* By the wall clock, for people; 0: not since this daemon started. */
static int64_t
heard_at(const struct lease *l, uint64_t now)
{
	uint64_t until = wr_lease_until(&l->l);

	return until ? wr_clock_wall().s - (int64_t)((now - (until - WR_LEASE_NS)) / WR_SECOND_NS)
		     : 0;
}

/* "lost its replicas 40 s ago" */
static void
say_lost(const struct wr_leases *x, const struct lease *l, uint64_t now, char out[160])
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

static void
read_isolation(struct wr_control *c, struct lease *l)
{
	struct wr_proj_row row = {0};
	struct wr_settings set = {0};

	if (wr_row_find(c, &l->project, &row, NULL) == 0 &&
	    wr_row_settings(&row, &set, NULL) == 0) {
		const char *how = wr_settings_str(&set, "isolation");

		l->isolation = !strcmp(how, "run")    ? ISO_RUN
			       : !strcmp(how, "stop") ? ISO_STOP
						      : ISO_FREEZE;
	}
	wr_settings_fini(&set);
	wr_proj_row_fini(&row);
}

/* No majority for too long. */
static void
isolate(struct wr_leases *x, struct lease *l, uint64_t now)
{
	struct wr_control *c = x->c;
	char why[160];

	if (l->isolated)
		return;
	l->isolated = true;
	read_isolation(c, l);
	say_lost(x, l, now, why);
	if (l->isolation == ISO_RUN) {
		leave_nothing(c, l);
		if (l->frozen) /* by its keeper, before that was set */
			thaw(c, l);
		l->isolated = true;
		wr_event(c, "fleet", &l->project, "project.isolated", why, NULL);
	} else if (l->isolation == ISO_STOP) {
		leave_nothing(c, l);
		wr_event(c, "fleet", &l->project, "project.isolated", why, NULL);
		ask_stop(c, l, false);
	} else {
		l->heard = heard_at(l, now);
		freeze(c, l, why);
		/* What it did up to now is kept at least here. */
		(void)submit(c, &l->project, WR_OP_SAVE, json_object());
	}
}

/* ---- its record ---- */

/* 1: it has one; 0: none, so no lease is needed; -1: that cannot be told, and what was known
 * counts, but the lease becomes no longer. */
static int
read_record(struct wr_leases *x, struct lease *l, struct wr_member_state *s)
{
	struct wr_control *c = x->c;
	struct wr_err err = WR_ERR_INIT;
	uint64_t before = wr_lease_until(&l->l), now = wr_clock_boot_ns();
	struct wr_member_env env = {.self = c->fleet->auth->self,
				    .fleet = &c->fleet->auth->fleet,
				    .now_ns = now,
				    .amnesia = c->fleet->amnesia};

	wr_member_init(s, &l->project);
	l->self_ok = false;
	if (wr_member_load(c, &l->project, s, &err) < 0) {
		wr_log_err(WR_LOG_ERROR, "what is known of a project", &err);
		if (!l->l.voter_count) /* and nothing was: others may vote, where there are any */
			l->shared = c->fleet->auth->fleet.node_count > 1;
		return -1;
	}
	l->shared = s->has_record ? wr_record_voters(&s->record) > 1
				  : wr_auth_forgot(c->fleet->auth, &l->project);
	if (!s->has_record) {
		wr_lease_drop(&l->l);
		return 0;
	}
	wr_lease_record(&l->l, &s->record);
	wr_heard_env(c, &l->project, &env);
	/* Other voters: the new round has a moment. A record differs by one voter from the one
	 * before, so any majority of it meets the one that still holds us to the old lease. */
	if (before > now && !wr_lease_until(&l->l))
		l->grace_ns = WR_MIN(before, now + WANT_NS);
	l->self_ok = wr_writer_keeps(s, &env);
	return 1;
}

static bool
others(struct wr_leases *x, const struct wr_member_state *s)
{
	return s->has_record && (s->record.state != WR_RECORD_LIVE ||
				 !wr_node_id_eq(&s->record.writer, &x->c->fleet->auth->self));
}

/* ---- rounds ---- */

/* What one other node is asked in one round. */
struct keep_ask {
	struct wr_leases *x;
	struct wr_node_id node;
	uint64_t number;
	struct wr_msg m;
};

static void
told_nothing(void *ctx WR_UNUSED, const struct wr_msg *answer, const struct wr_err *why)
{
	struct wr_err err = WR_ERR_INIT;

	if (answer && (answer->kind == WR_MSG_ERROR || answer->kind == WR_MSG_NACK))
		wr_msg_get_err(answer, &err);
	else if (why)
		err = *why;
	if (err.code != WR_E_NONE && err.code != WR_E_CANCELLED)
		wr_log_err(WR_LOG_WARNING, "after a lost keepalive", &err);
}

static void
send_record(struct wr_control *c, const struct wr_uuid *to, const struct wr_buf *record,
	    const struct wr_buf *settings)
{
	struct wr_msg m = WR_MSG_INIT;

	m.kind = WR_MSG_INSTALL;
	wr_buf_add(&m.record, record->p, record->len);
	if (settings)
		wr_buf_add(&m.settings, settings->p, settings->len);
	wr_ask(c, to, &m, KEEP_TIMEOUT_MS, told_nothing, NULL);
}

static void
ask_raise(struct wr_control *c, struct lease *l, const struct wr_member_state *s)
{
	const struct wr_uuid *hub = wr_hub_pick(c);
	struct wr_msg m = WR_MSG_INIT;
	uint64_t now = wr_clock_boot_ns();

	if (!hub || (l->raise_ns && now - l->raise_ns < RAISE_EVERY_NS))
		return;
	l->raise_ns = now;
	m.kind = WR_MSG_RAISE;
	m.project = l->project;
	m.wish = WR_WISH_WRITER;
	m.node = c->fleet->auth->self;
	wr_buf_add(&m.record, s->record_bytes.p, s->record_bytes.len);
	wr_ask(c, hub, &m, 60000, told_nothing, NULL);
}

/* This node itself promised a later epoch, and its record does not come: who asked for the promise
 * may be gone, and the others may know nothing of it. */
static void
look_promised(struct wr_control *c, struct lease *l, const struct wr_member_state *s, uint64_t now)
{
	if (wr_epoch_cmp(&s->promised, &s->record.n) <= 0 ||
	    wr_epoch_cmp(&s->released, &s->record.n) >= 0 || c->fleet->amnesia)
		return;
	if (wr_epoch_cmp(&s->promised, &l->promised) != 0) {
		l->promised = s->promised;
		l->promised_ns = now;
	} else if (now - l->promised_ns >= WR_KEEP_EVERY_NS / 2) {
		ask_raise(c, l, s);
	}
}

/* LOST (W6): what it knows is judged like any record. */
static void
on_lost(struct wr_leases *x, struct lease *l, const struct wr_uuid *by, const struct wr_buf *theirs)
{
	struct wr_control *c = x->c;
	struct wr_member_state s;
	struct wr_member_env env;
	struct wr_record e;
	struct wr_err err = WR_ERR_INIT;
	bool has = theirs && theirs->len;

	if (has && (wr_record_decode(theirs->p, theirs->len, &e, &err) < 0 ||
		    strcmp(e.project.s, l->project.s) != 0 ||
		    wr_record_verify(&e, &c->fleet->auth->fleet, &err) < 0)) {
		wr_log_err(WR_LOG_WARNING, "a record in a keepalive's answer", &err);
		return;
	}
	wr_member_init(&s, &l->project);
	if (wr_member_load(c, &l->project, &s, &err) == 0 && s.has_record) {
		wr_member_env_of(c, &l->project, &env);
		switch (wr_writer_lost(&s, &env, has ? &e : NULL)) {
		case WR_LOST_GO_ON:
		case WR_LOST_STOP:
			send_record(c, &c->fleet->auth->self.id, theirs, NULL);
			break;
		case WR_LOST_INFORM:
			send_record(c, by, &s.record_bytes, &s.settings);
			break;
		case WR_LOST_ASK:
			/* It promised a later epoch; or it has no record of it yet. */
			if (has)
				ask_raise(c, l, &s);
			else
				send_record(c, by, &s.record_bytes, &s.settings);
			break;
		}
	}
	wr_member_fini(&s);
}

static bool
may_run(const struct lease *l, uint64_t now)
{
	return !l->lost && (!l->shared || wr_lease_holds(&l->l, now));
}

/* It may have become longer. */
static void
look_held(struct wr_leases *x, struct lease *l, uint64_t now)
{
	if (!may_run(l, now))
		return;
	leave(x->c, l);
	if (l->frozen) {
		thaw(x->c, l);
	} else if (l->isolated) {
		l->isolated = false;
		wr_event(x->c, "fleet", &l->project, "project.thawed", "its replicas answer again",
			 NULL);
	}
}

static void
on_kept(void *ctx, const struct wr_msg *m, const struct wr_err *why WR_UNUSED)
{
	struct keep_ask *k = ctx;
	struct wr_leases *x = k->x;
	size_t blob = 0;

	if (m && m->kind == WR_MSG_KEPT && m->number == k->number) {
		for (size_t i = 0; i < m->keep_count; i++) {
			const struct wr_keep *e = &m->keep[i];
			struct lease *l = lease_find(x, &e->project);
			const struct wr_buf *theirs = NULL;

			if (!e->ok && blob < m->blob_count)
				theirs = &m->blobs[blob++];
			if (!l)
				continue;
			if (e->ok)
				(void)wr_lease_answer(&l->l, k->number, &k->node, &e->n, true);
			else if (wr_epoch_cmp(&e->n, &l->l.n) == 0)
				on_lost(x, l, &k->node.id, theirs);
			look_held(x, l, wr_clock_boot_ns());
		}
		/* Starts that wait are told from the timer: they may end leases. */
		wr_timer_on(&x->c->loop, &x->wake, 0, on_wake);
	}
	free(k);
}

struct round {
	struct keep_ask **ask;
	size_t count, cap;
};

static void
round_add(struct wr_leases *x, struct round *r, const struct wr_node_id *node,
	  const struct wr_keep *keep)
{
	struct keep_ask *k = NULL;

	for (size_t i = 0; i < r->count; i++)
		if (wr_node_id_eq(&r->ask[i]->node, node) && r->ask[i]->m.keep_count < WR_MSG_KEEPS)
			k = r->ask[i];
	if (!k) {
		k = wr_calloc(1, sizeof(*k));
		k->x = x;
		k->node = *node;
		k->number = x->round;
		k->m.kind = WR_MSG_KEEP;
		k->m.number = x->round;
		wr_grow(&r->ask, &r->cap, r->count + 1, sizeof(struct keep_ask *));
		r->ask[r->count++] = k;
	}
	k->m.keep = wr_reallocarray(k->m.keep, k->m.keep_count + 1, sizeof(*k->m.keep));
	k->m.keep[k->m.keep_count++] = *keep;
}

/* One project's part of a round. false: another node is its writer. */
static bool
round_one(struct wr_leases *x, struct round *r, struct lease *l, uint64_t now)
{
	struct wr_member_state s;
	bool away = false;

	read_isolation(x->c, l);
	if (read_record(x, l, &s) > 0 && !(away = others(x, &s))) {
		struct wr_keep keep = {l->project, s.record.n, false};

		look_promised(x->c, l, &s, now);
		wr_lease_round_begin(&l->l, x->round, now, l->self_ok);
		for (size_t i = 0; i < l->l.voter_count; i++)
			if (!wr_node_id_eq(&l->l.voter[i], &x->c->fleet->auth->self))
				round_add(x, r, &l->l.voter[i], &keep);
	}
	wr_member_fini(&s);
	return !away;
}

static void
round_send(struct wr_leases *x, struct round *r)
{
	for (size_t i = 0; i < r->count; i++) {
		struct keep_ask *k = r->ask[i];

		wr_ask(x->c, &k->node.id, &k->m, KEEP_TIMEOUT_MS, on_kept, k);
	}
	free(r->ask);
}

/* Leases are for what lives, or is about to. */
static void
gather(struct wr_leases *x)
{
	struct wr_control *c = x->c;

	for (size_t i = 0; i < c->proj_count; i++)
		if (wr_lease_lives(c, &c->proj[i]->id))
			(void)lease_get(x, &c->proj[i]->id);
	for (size_t i = x->count; i-- > 0;) {
		struct lease *l = x->of[i];

		if (l->wants || wr_lease_lives(c, &l->project))
			continue;
		if (l->frozen)
			unmark(c, &l->project);
		lease_drop(x, l);
	}
}

/* All that lives here, or one. */
static void
round_do(struct wr_leases *x, struct lease *only)
{
	uint64_t now = wr_clock_boot_ns();
	struct round r = {0};

	x->round++;
	if (only) {
		(void)round_one(x, &r, only, now);
		round_send(x, &r);
		return;
	}
	x->next_ns = now + WR_KEEP_EVERY_NS;
	gather(x);
	for (size_t i = 0; i < x->count; i++) {
		struct lease *l = x->of[i];
		const struct wr_proj *p = wr_proj_find(x->c, &l->project);

		if (p && !p->run && !p->first)
			l->stop_asked = false; /* if it was, it failed */
		if (!round_one(x, &r, l, now) && active(x->c, &l->project))
			wr_lease_lost(x->c, &l->project, "another node is its writer now");
	}
	round_send(x, &r);
}

/* ---- the clock ---- */

static void
look(struct wr_leases *x, struct lease *l, uint64_t now)
{
	if (may_run(l, now)) {
		look_held(x, l, now);
	} else if (l->lost) {
		if (!l->stop_asked)
			ask_stop(x->c, l, true);
	} else if (!l->isolated && now >= l->grace_ns && active(x->c, &l->project)) {
		isolate(x, l, now);
	}
}

static bool
want_due(const struct lease *l, uint64_t now)
{
	return l->wants && (may_run(l, now) || now >= l->wants->end_ns);
}

/* The one that waits longest. */
static void
want_tell(struct wr_control *c, struct lease *l, uint64_t now)
{
	struct want *w = l->wants;
	struct wr_err err = WR_ERR_INIT;

	wr_err_set(&err, WR_E_BUSY, "too few of its replicas answer: it must not run now");
	wr_err_hint(&err, "'warren node list' shows who can be reached");
	l->wants = w->next;
	if (may_run(l, now))
		leave(c, l);
	w->fn(w->ctx, may_run(l, now) ? NULL : &err);
	free(w);
}

/* Frozen by an earlier daemon, which saw to the rest as well; or by a keeper while there was none,
 * or none that came to it. Thawed as soon as it may run, or when it is looked at next. */
static void
adopt(struct wr_leases *x, const struct wr_uuid *project, int dir, const char *name)
{
	struct lease *l = lease_find(x, project);
	struct wr_frozen f;

	if (!wr_lease_lives(x->c, project)) {
		unmark(x->c, project);
		return;
	}
	/* Its keeper was a little earlier than we are: the same end of the same lease. */
	if (l && (l->frozen || (l->left_ns && !may_run(l, wr_clock_boot_ns()))))
		return;
	wr_frozen_load(dir, name, &f);
	l = lease_get(x, project);
	l->frozen = true;
	l->isolated = l->isolated || !f.by_keeper;
	l->since = f.since;
	l->heard = f.heard;
	snprintf(l->why, sizeof(l->why), "%s", f.why);
	if (f.by_keeper)
		wr_event(x->c, "keeper", project, "project.frozen", l->why, NULL);
}

static void
read_marks(struct wr_leases *x)
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
static void
sweep(struct wr_leases *x)
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
	wr_timer_on(&x->c->loop, &x->wake, 0, on_wake);
}

static void
watch_marks(struct wr_leases *x)
{
	WR_SCOPED(wr_closep) int dir = wr_frozen_open(x->c->node->run_fd);
	char path[32];

	x->notify = (struct wr_watch)WR_WATCH_INIT;
	x->notify_fd = dir < 0 ? -1 : inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", dir);
	if (x->notify_fd >= 0 && inotify_add_watch(x->notify_fd, path, IN_MOVED_TO) >= 0)
		wr_watch_on(&x->c->loop, &x->notify, x->notify_fd, EPOLLIN, on_marks);
}

static void
on_wake(struct wr_timer *t)
{
	struct wr_leases *x = WR_OWNER(t, struct wr_leases, wake);
	uint64_t now = wr_clock_boot_ns();

	if (x->c->draining)
		return;
	/* Only now is it known what lives here. */
	if (x->marks_due || now >= x->next_ns)
		read_marks(x);
	if (!x->swept)
		sweep(x);
	x->swept = true;
	if (now >= x->next_ns)
		round_do(x, NULL);
	for (size_t i = 0; i < x->count; i++)
		look(x, x->of[i], now);
	/* A call-back may make leases and end them: begin anew after each. */
	for (size_t i = 0; i < x->count;) {
		if (want_due(x->of[i], now)) {
			want_tell(x->c, x->of[i], now);
			i = 0;
		} else {
			i++;
		}
	}
	wake_at(x);
}

/* At the next round, the first end of a lease, the end of the first wait. */
static void
wake_at(struct wr_leases *x)
{
	uint64_t now = wr_clock_boot_ns(), at = x->next_ns;

	for (size_t i = 0; i < x->count; i++) {
		const struct lease *l = x->of[i];
		uint64_t until = wr_lease_until(&l->l);

		if (until > now)
			at = WR_MIN(at, until);
		if (l->grace_ns > now)
			at = WR_MIN(at, l->grace_ns);
		if (l->wants)
			at = WR_MIN(at, l->wants->end_ns);
	}
	wr_timer_on(&x->c->loop, &x->wake, at > now ? at - now : 0, on_wake);
}

/* ---- what others ask ---- */

bool
wr_lease_may_run(struct wr_control *c, const struct wr_uuid *project)
{
	const struct lease *l = lease_find(c->fleet->leases, project);
	struct wr_record e;

	if (l)
		return may_run(l, wr_clock_boot_ns());
	return !wr_fleet_record(c, project, &e) || wr_record_voters(&e) == 1;
}

void
wr_lease_want(struct wr_control *c, const struct wr_uuid *project, wr_open_fn fn, void *ctx)
{
	struct wr_leases *x = c->fleet->leases;
	struct lease *l = lease_get(x, project);
	struct want *w = wr_calloc(1, sizeof(*w)), **at = &l->wants;

	*w = (struct want){NULL, fn, ctx, wr_clock_boot_ns() + WANT_NS};
	while (*at)
		at = &(*at)->next;
	*at = w;
	/* What was taken away and stopped may have been given back. */
	if (l->lost && !wr_lease_lives(c, project))
		l->lost = l->stop_asked = false;
	if (!may_run(l, wr_clock_boot_ns()) || !l->l.voter_count)
		round_do(x, l);
	wr_timer_on(&c->loop, &x->wake, 0, on_wake);
}

void
wr_lease_learn(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_leases *x = c->fleet->leases;
	struct lease *l = lease_find(x, project);
	struct wr_member_state s;

	if (!l)
		return;
	(void)read_record(x, l, &s);
	wr_member_fini(&s);
	/* Under another record it takes another round. */
	if (l->shared && l->self_ok && !wr_lease_until(&l->l))
		round_do(x, l);
	wake_at(x);
}

/* ---- beginning and end ---- */

void
wr_leases_begin(struct wr_control *c)
{
	struct wr_leases *x = wr_calloc(1, sizeof(*x));

	c->fleet->leases = x;
	x->c = c;
	x->begun_ns = x->next_ns = wr_clock_boot_ns();
	watch_marks(x);
	wr_timer_on(&c->loop, &x->wake, 0, on_wake);
}

/* After the asks: nobody calls back any more. */
void
wr_leases_end(struct wr_control *c)
{
	struct wr_leases *x = c->fleet->leases;

	if (!x)
		return;
	wr_timer_off(&c->loop, &x->wake);
	wr_watch_off(&c->loop, &x->notify);
	wr_closep(&x->notify_fd);
	for (size_t i = 0; i < x->count; i++) {
		while (x->of[i]->wants) {
			struct want *w = x->of[i]->wants;

			x->of[i]->wants = w->next;
			free(w);
		}
		free(x->of[i]);
	}
	free(x->of);
	free(x);
	c->fleet->leases = NULL;
}

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
 * While no daemon is there to freeze, keepers do (host/runner): each longer lease is left for them
 * in RUN/run/ID.lease.  A restart that is shorter than the lease is noticed by nobody.
 */
#include "fleet/rules/lease.h"
#include "serve/control/fleet_int.h"
#include "serve/control/lease_int.h"
#include "sys/clock.h"
#include "sys/fs.h"

/* ---- the clock ---- */

static void
look(struct wr_leases *x, struct wr_leased *l, uint64_t now)
{
	if (wr_leases_may_run(l, now)) {
		wr_leases_look_held(x, l, now);
	} else if (l->lost) {
		if (!l->stop_asked)
			wr_leases_ask_stop(x->c, l, true);
	} else if (!l->isolated && now >= l->grace_ns && wr_leases_active(x->c, &l->project)) {
		wr_leases_isolate(x, l, now);
	}
}

static bool
want_due(const struct wr_leased *l, uint64_t now)
{
	return l->wants && (wr_leases_may_run(l, now) || now >= l->wants->end_ns);
}

/* The one that waits longest. */
static void
want_tell(struct wr_control *c, struct wr_leased *l, uint64_t now)
{
	struct wr_lease_want *w = l->wants;
	struct wr_err err = WR_ERR_INIT;

	wr_err_set(&err, WR_E_BUSY, "too few of its replicas answer: it must not run now");
	wr_err_hint(&err, "'warren node list' shows who can be reached");
	l->wants = w->next;
	if (wr_leases_may_run(l, now))
		wr_leases_leave(c, l);
	w->fn(w->ctx, wr_leases_may_run(l, now) ? NULL : &err);
	free(w);
}

static void wake_at(struct wr_leases *x);

static void
on_wake(struct wr_timer *t)
{
	struct wr_leases *x = WR_OWNER(t, struct wr_leases, wake);
	uint64_t now = wr_clock_boot_ns();

	if (x->c->draining)
		return;
	/* Only now is it known what lives here. */
	if (x->marks_due || now >= x->next_ns)
		wr_leases_read_marks(x);
	if (!x->swept)
		wr_leases_sweep(x);
	x->swept = true;
	if (now >= x->next_ns)
		wr_leases_round(x, NULL);
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
		const struct wr_leased *l = x->of[i];
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
	const struct wr_leased *l = wr_leases_find(c->fleet->leases, project);
	struct wr_record e;

	if (l)
		return wr_leases_may_run(l, wr_clock_boot_ns());
	return !wr_fleet_record(c, project, &e) || wr_record_voters(&e) == 1;
}

void
wr_lease_want(struct wr_control *c, const struct wr_uuid *project, wr_open_fn fn, void *ctx)
{
	struct wr_leases *x = c->fleet->leases;
	struct wr_leased *l = wr_leases_get(x, project);
	struct wr_lease_want *w = wr_calloc(1, sizeof(*w)), **at = &l->wants;

	*w = (struct wr_lease_want){NULL, fn, ctx, wr_clock_boot_ns() + WR_LEASE_WANT_NS};
	while (*at)
		at = &(*at)->next;
	*at = w;
	/* What was taken away and stopped may have been given back. */
	if (l->lost && !wr_lease_lives(c, project))
		l->lost = l->stop_asked = false;
	if (!wr_leases_may_run(l, wr_clock_boot_ns()) || !l->l.voter_count)
		wr_leases_round(x, l);
	wr_timer_on(&c->loop, &x->wake, 0, on_wake);
}

void
wr_lease_learn(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_leases *x = c->fleet->leases;
	struct wr_leased *l = wr_leases_find(x, project);
	struct wr_member_state s;

	if (!l)
		return;
	(void)wr_leases_read_record(x, l, &s);
	wr_member_fini(&s);
	/* Under another record it takes another round. */
	if (l->shared && l->self_ok && !wr_lease_until(&l->l))
		wr_leases_round(x, l);
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
	wr_leases_watch_marks(x);
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
			struct wr_lease_want *w = x->of[i]->wants;

			x->of[i]->wants = w->next;
			free(w);
		}
		free(x->of[i]);
	}
	free(x->of);
	free(x);
	c->fleet->leases = NULL;
}

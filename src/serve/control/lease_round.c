/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keepalives: one message per other node and round, whatever runs here.  What answers say of
 * records is judged like any record.
 */
#include "base/log.h"
#include "fleet/rules/lease.h"
#include "serve/control/fleet_int.h"
#include "serve/control/lease_int.h"
#include "sys/clock.h"

#define KEEP_TIMEOUT_MS 10000
/* A hub is asked that often for a raise that this node consents to. */
#define RAISE_EVERY_NS (60 * WR_SECOND_NS)

/* ---- its record ---- */

/* 1: it has one; 0: none, so no lease is needed; -1: that cannot be told, and what was known
 * counts, but the lease becomes no longer. */
int
wr_leases_read_record(struct wr_leases *x, struct wr_leased *l, struct wr_member_state *s)
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
		l->grace_ns = WR_MIN(before, now + WR_LEASE_WANT_NS);
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
ask_raise(struct wr_control *c, struct wr_leased *l, const struct wr_member_state *s)
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
look_promised(struct wr_control *c, struct wr_leased *l, const struct wr_member_state *s,
	      uint64_t now)
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
on_lost(struct wr_leases *x, struct wr_leased *l, const struct wr_uuid *by,
	const struct wr_buf *theirs)
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

/* It may have become longer. */
void
wr_leases_look_held(struct wr_leases *x, struct wr_leased *l, uint64_t now)
{
	if (!wr_leases_may_run(l, now))
		return;
	wr_leases_leave(x->c, l);
	if (l->frozen) {
		wr_leases_thaw(x->c, l);
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
			struct wr_leased *l = wr_leases_find(x, &e->project);
			const struct wr_buf *theirs = NULL;

			if (!e->ok && blob < m->blob_count)
				theirs = &m->blobs[blob++];
			if (!l)
				continue;
			if (e->ok)
				(void)wr_lease_answer(&l->l, k->number, &k->node, &e->n, true);
			else if (wr_epoch_cmp(&e->n, &l->l.n) == 0)
				on_lost(x, l, &k->node.id, theirs);
			wr_leases_look_held(x, l, wr_clock_boot_ns());
		}
		/* Starts that wait are told from the timer: they may end leases. */
		wr_leases_wake(x);
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
round_one(struct wr_leases *x, struct round *r, struct wr_leased *l, uint64_t now)
{
	struct wr_member_state s;
	bool away = false;

	wr_leases_read_isolation(x->c, l);
	if (wr_leases_read_record(x, l, &s) > 0 && !(away = others(x, &s))) {
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
			(void)wr_leases_get(x, &c->proj[i]->id);
	for (size_t i = x->count; i-- > 0;) {
		struct wr_leased *l = x->of[i];

		if (l->wants || wr_lease_lives(c, &l->project))
			continue;
		if (l->frozen)
			wr_leases_unmark(c, &l->project);
		wr_leases_drop(x, l);
	}
}

/* All that lives here, or one. */
void
wr_leases_round(struct wr_leases *x, struct wr_leased *only)
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
		struct wr_leased *l = x->of[i];
		const struct wr_proj *p = wr_proj_find(x->c, &l->project);

		if (p && !p->run && !p->first)
			l->stop_asked = false; /* if it was, it failed */
		if (!round_one(x, &r, l, now) && wr_leases_active(x->c, &l->project))
			wr_lease_lost(x->c, &l->project, "another node is its writer now");
	}
	round_send(x, &r);
}

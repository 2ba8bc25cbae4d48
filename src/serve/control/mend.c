/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies of this node that are marked as damaged, until they are whole again:
 *
 *   LOOK   a worker reads all of it (WR_TASK_MEND): whole? then the mark goes
 *   ASK    else a member is asked to push what it has (FILL_ASK, version 0); none left: a pause
 *   WAIT   it comes by a push, of which @receive takes what is lacking; then LOOK again
 *
 * Nothing of this is remembered but the mark: after a restart it begins with LOOK.
 */
#include "base/log.h"
#include "base/str.h"
#include "host/node/age.h"
#include "serve/control/drops.h"
#include "serve/control/fleet_int.h"
#include "sys/clock.h"

#define ASK_MS 20000u
/* A push that was promised, and has not begun by then, is not waited for any more. */
#define WAIT_S 60
#define SOON_S 1
#define PAUSE_S 60
#define PAUSE_MAX_S 3600

struct wr_mend {
	struct wr_mend *next;
	struct wr_uuid project;
	bool busy;    /* looked at, or a question is out */
	bool waiting; /* for a push */
	bool told;    /* that nobody could help */
	uint64_t due_ns;
	unsigned rounds;
	size_t source; /* the next one, in the order of the record */
	struct wr_prove *look;
};

/* Call-backs come late: by then the copy may be whole, or gone. */
struct mend_call {
	struct wr_control *c;
	struct wr_uuid project;
};

static struct wr_mend *
find(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_drops *d = c->fleet ? c->fleet->drops : NULL;

	for (struct wr_mend *m = d ? d->mends : NULL; m; m = m->next)
		if (!strcmp(m->project.s, project->s))
			return m;
	return NULL;
}

static struct mend_call *
call_of(struct wr_control *c, const struct wr_mend *m)
{
	struct mend_call *k = wr_calloc(1, sizeof(*k));

	k->c = c;
	k->project = m->project;
	return k;
}

static void
due_in(struct wr_mend *m, uint64_t s)
{
	m->due_ns = wr_clock_mono_ns() + s * (uint64_t)WR_SECOND;
}

static void
drop(struct wr_drops *d, struct wr_mend *m)
{
	struct wr_mend **at = &d->mends;

	while (*at != m)
		at = &(*at)->next;
	*at = m->next;
	wr_prove_forget(m->look);
	free(m);
}

/* ---- ASK ---- */

static void ask(struct wr_control *c, struct wr_mend *m);

static void
on_asked(void *ctx, const struct wr_msg *answer, const struct wr_err *why WR_UNUSED)
{
	struct mend_call *k = ctx;
	struct wr_mend *m = find(k->c, &k->project);

	if (m) {
		m->busy = false;
		m->source++;
		m->waiting = answer && answer->kind == WR_MSG_OK;
		if (m->waiting)
			due_in(m, WAIT_S);
		else
			ask(k->c, m);
	}
	free(k);
}

static void
nobody_left(struct wr_control *c, struct wr_mend *m)
{
	uint64_t pause = PAUSE_S;

	for (unsigned i = 0; i < m->rounds && pause < PAUSE_MAX_S; i++)
		pause *= 2;
	m->rounds++;
	m->source = 0;
	due_in(m, WR_MIN(pause, (uint64_t)PAUSE_MAX_S));
	if (!m->told)
		wr_event(c, "audit", &m->project, "copy.lacking",
			 "no other member could give what it lacks; they are asked again", NULL);
	m->told = true;
}

static void
ask(struct wr_control *c, struct wr_mend *m)
{
	struct wr_msg q = WR_MSG_INIT;
	struct wr_member_state s;
	const struct wr_record *e = &s.record;

	m->waiting = false;
	wr_member_init(&s, &m->project);
	(void)wr_member_load(c, &m->project, &s, NULL); /* unknown: nobody is a member */
	while (m->source < e->member_count &&
	       (e->member[m->source].role == WR_ROLE_WITNESS ||
		wr_node_id_eq(&e->member[m->source].node, &c->fleet->auth->self)))
		m->source++;
	if (m->source < e->member_count) {
		q.kind = WR_MSG_FILL_ASK;
		q.project = m->project;
		m->busy = true;
		wr_ask(c, &e->member[m->source].node.id, &q, ASK_MS, on_asked, call_of(c, m));
	} else {
		nobody_left(c, m);
	}
	wr_member_fini(&s);
}

/* ---- LOOK ---- */

static void
on_looked(void *ctx, const json_t *result, const struct wr_err *why)
{
	struct mend_call *k = ctx;
	struct wr_control *c = k->c;
	struct wr_mend *m = find(c, &k->project);
	struct wr_err err = WR_ERR_INIT;

	c->fleet->drops->mending = false;
	if (!m) {
		free(k);
		return;
	}
	m->look = NULL;
	m->busy = false;
	if (why) {
		wr_log_err(WR_LOG_WARNING, "look at a damaged copy", why);
		due_in(m, PAUSE_S);
	} else if (wr_json_get_bool(result, "whole", false)) {
		if (wr_flag_clear(c->node, WR_FLAG_DAMAGED, &m->project, &err) == 0) {
			wr_event(c, "audit", &m->project, "copy.whole",
				 "it is whole again, and counts", NULL);
			drop(c->fleet->drops, m);
		} else {
			wr_log_err(WR_LOG_ERROR, "a copy that is whole again", &err);
			due_in(m, PAUSE_S);
		}
	} else if (wr_damage_set(c->node, &m->project, wr_json_get_arr(result, "packs"), &err) <
		   0) {
		wr_log_err(WR_LOG_ERROR, "what is damaged of a copy", &err);
		due_in(m, PAUSE_S);
	} else {
		ask(c, m);
	}
	free(k);
}

static void
look(struct wr_control *c, struct wr_mend *m)
{
	const struct wr_config *conf = &c->node->config;
	json_t *args = json_object();
	struct mend_call *k = call_of(c, m);
	struct wr_err err = WR_ERR_INIT;

	m->waiting = false;
	wr_json_u64(args, "rate", conf->replica_rate);
	wr_age_floor(c->node, args);
	m->look = wr_look_begin(c, WR_TASK_MEND, &m->project, false, args, on_looked, k, &err);
	if (!m->look) {
		free(k);
		due_in(m, err.code == WR_E_BUSY ? SOON_S : PAUSE_S);
		return;
	}
	m->busy = c->fleet->drops->mending = true;
}

/* ---- from outside ---- */

void
wr_mends_tick(struct wr_control *c)
{
	struct wr_drops *d = c->fleet->drops;
	uint64_t now = wr_clock_mono_ns();

	for (struct wr_mend *m = d->mends; m; m = m->next) {
		if (m->busy || m->due_ns > now)
			continue;
		if (m->waiting && wr_inbound_runs(c, &m->project))
			due_in(m, SOON_S);
		else if (m->waiting)
			ask(c, m); /* the next one */
		else if (!d->mending)
			look(c, m);
	}
}

void
wr_mend_now(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_drops *d = c->fleet->drops;
	struct wr_mend *m = find(c, project);

	if (!m) {
		m = wr_calloc(1, sizeof(*m));
		m->project = *project;
		m->next = d->mends;
		d->mends = m;
	}
	m->rounds = 0;
	if (!m->waiting)
		m->due_ns = 0;
}

void
wr_mend_received(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_mend *m = find(c, project);

	if (!m)
		return;
	m->waiting = false;
	m->due_ns = 0;
}

void
wr_mends_begin(struct wr_control *c)
{
	WR_SCOPED(wr_freep) struct wr_uuid *id = NULL;
	struct wr_err err = WR_ERR_INIT;
	size_t n = 0;

	if (wr_flag_list(c->node, WR_FLAG_DAMAGED, &id, &n, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "look for damaged copies", &err);
	for (size_t i = 0; i < n; i++)
		wr_mend_now(c, &id[i]);
}

void
wr_mends_end(struct wr_control *c)
{
	while (c->fleet->drops->mends)
		drop(c->fleet->drops, c->fleet->drops->mends);
}

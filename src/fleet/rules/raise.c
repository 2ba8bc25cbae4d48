/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/rules/raise_int.h"

#define WHOLE_NS (60 * WR_SECOND_NS)
#define REPEAT_NS (2 * WR_SECOND_NS)
#define GRANT_NS (10 * WR_SECOND_NS)
/* After a majority promised: how long others may still bring a newer save. */
#define SETTLE_NS (WR_SECOND_NS / 2)
/* LIMIT: numbers above are a liar's; ours stay far from the end of their range. */
#define NUMBER_MAX (UINT64_C(1) << 62)
/* Two hubs that outbid each other wait for up to that, times the number of tries. */
#define BACKOFF_NS (WR_SECOND_NS / 4)

/* ---- peers ---- */

struct wr_raise_peer *
wr_raise_peer_of(const struct wr_raise *r, const struct wr_node_id *node)
{
	for (size_t i = 0; i < r->peer_count; i++)
		if (wr_node_id_eq(&r->peer[i].node, node))
			return &r->peer[i];
	return NULL;
}

bool
wr_raise_dead(const struct wr_raise *r, const struct wr_node_id *node)
{
	for (size_t i = 0; r->o.forced && i < r->o.dead_count; i++)
		if (wr_node_id_eq(&r->dead[i], node))
			return true;
	return false;
}

static void
ask(struct wr_raise *r, const struct wr_node_id *node, enum ask what)
{
	struct wr_raise_peer *p = wr_raise_peer_of(r, node);

	if (wr_raise_dead(r, node))
		return;
	if (!p) {
		if (r->peer_count == WR_RAISE_NODES) /* LIMIT: the rest learns it by reports */
			return;
		p = &r->peer[r->peer_count++];
		*p = (struct wr_raise_peer){.node = *node};
	}
	p->ask = what;
	p->to_send = true;
	p->away = false;
	p->request = r->request++;
}

/* ---- states ---- */

int
wr_raise_fail(struct wr_raise *r, enum wr_err_code code, const char *text, const char *hint)
{
	wr_err_set(&r->err, code, "%s", text);
	if (hint)
		wr_err_hint(&r->err, "%s", hint);
	r->state = WR_RAISE_FAILED;
	return -1;
}

static void
ask_members(struct wr_raise *r, const struct wr_record *e, enum ask what)
{
	for (size_t i = 0; i < e->member_count; i++) {
		const struct wr_node_id *node = &e->member[i].node;
		const struct wr_raise_peer *p = wr_raise_peer_of(r, node);

		/* Witnesses, data members and learners alike: a learner may hold the newest save.
		 */
		if (what == ASK_PREPARE && p && p->promised)
			continue;
		if (what == ASK_INSTALL && p && p->ask == ASK_INSTALL)
			continue;
		ask(r, node, what);
	}
}

static void
begin_prepare(struct wr_raise *r)
{
	r->state = WR_RAISE_PREPARE;
	r->grant_ns = r->settle_ns = 0;
	if (r->has_c) {
		ask_members(r, &r->c, ASK_PREPARE);
		return;
	}
	for (size_t i = 0; i < r->o.ask_count; i++)
		ask(r, &r->ask[i], ASK_PREPARE);
}

bool
wr_raise_grant_fits(const struct wr_raise *r)
{
	return r->has_grant && r->has_c && wr_epoch_cmp(&r->grant.n, &r->c.n) == 0 &&
	       (r->grant.kind == WR_GRANT_RELEASE || wr_epoch_cmp(&r->grant.next, &r->n) == 0);
}

/* A handoff is done once, by the old writer; consent is needed for each number. */
static bool
asks_grant(const struct wr_raise *r)
{
	return r->has_c && !wr_raise_grant_fits(r) &&
	       (r->o.ask_grant == WR_GRANT_CONSENT ||
		(r->o.ask_grant == WR_GRANT_RELEASE && !r->again));
}

static void
attempt(struct wr_raise *r, uint64_t now_ns)
{
	if (r->tries == WR_RAISE_TRIES) {
		wr_raise_fail(r, WR_E_CHANGED, "other raises of the project went ahead of this one",
			      "try again in a moment");
		return;
	}
	if (r->has_known) {
		r->c = r->known;
		r->has_c = true;
		r->greatest = WR_MAX(r->greatest, r->c.n.number);
	}
	r->n.number = ++r->greatest;
	r->n.random = r->o.random[r->tries++];
	r->retry_ns = 0;
	r->undo = false;
	for (size_t i = 0; i < r->peer_count; i++)
		r->peer[i] = (struct wr_raise_peer){.node = r->peer[i].node};
	r->repeat_ns = now_ns + REPEAT_NS;
	if (!asks_grant(r)) {
		begin_prepare(r);
		return;
	}
	r->has_grant = false;
	r->state = WR_RAISE_GRANT;
	r->grant_ns = now_ns + GRANT_NS;
	ask(r, &r->c.writer, ASK_GRANT);
}

static void
retry(struct wr_raise *r, uint64_t now_ns)
{
	if (!r->retry_ns)
		r->retry_ns = now_ns + 1 + r->n.random % (BACKOFF_NS * r->tries);
}

/* ---- the record ---- */

/* The members of both records: who leaves shall know it, too. */
static void
begin_install(struct wr_raise *r)
{
	r->state = WR_RAISE_INSTALL;
	for (size_t i = 0; i < r->peer_count; i++)
		r->peer[i].ask = ASK_NOTHING;
	ask_members(r, &r->made, ASK_INSTALL);
	if (r->has_c)
		ask_members(r, &r->c, ASK_INSTALL);
}

static int
sign_record(struct wr_raise *r, struct wr_record *e)
{
	e->at = r->o.at;
	e->settings_rev = WR_MAX(e->settings_rev, r->o.settings_rev);
	if (wr_record_sign(e, r->o.key, &r->err) < 0) {
		r->state = WR_RAISE_FAILED;
		return -1;
	}
	r->made = r->known = *e;
	r->has_made = r->has_known = true;
	begin_install(r);
	return 0;
}

/* A majority promised, and v* is good. */
static void
make_record(struct wr_raise *r, const struct wr_tally *t)
{
	struct wr_record e;

	wr_raise_plan(r, t, &e);
	sign_record(r, &e);
}

/* ---- PREPARE and INSTALL, looked at as a whole ---- */

/* Has everybody who can be expected to answered? */
static bool
all_answered(const struct wr_raise *r)
{
	for (size_t i = 0; i < r->peer_count; i++) {
		const struct wr_raise_peer *p = &r->peer[i];

		if ((p->ask == ASK_PREPARE || p->ask == ASK_CATCH_UP) && !p->promised && !p->away)
			return false;
	}
	return true;
}

static void
look_at_promises(struct wr_raise *r, uint64_t now_ns)
{
	struct wr_tally t;
	struct wr_err ignored = WR_ERR_INIT;

	if (!r->has_c)
		return;
	t = wr_raise_tally(r);
	if (wr_raise_check(r, &t, &ignored) < 0) {
		r->settle_ns = 0;
		return;
	}
	if (!r->settle_ns)
		r->settle_ns = now_ns + SETTLE_NS;
	if (all_answered(r) || now_ns >= r->settle_ns)
		make_record(r, &t);
}

static void
look_at_installs(struct wr_raise *r, uint64_t now_ns)
{
	size_t done = 0, lost = 0, voters = wr_record_voters(&r->made),
	       need = wr_record_majority(&r->made);

	for (size_t i = 0; i < r->made.member_count; i++) {
		const struct wr_raise_peer *p = wr_raise_peer_of(r, &r->made.member[i].node);

		if (!wr_rules_voter(&r->made.member[i]) || !p)
			continue;
		done += p->installed;
		lost += p->overtaken && !p->installed;
	}
	if (done >= need && r->undo)
		r->state = WR_RAISE_FAILED;
	else if (done >= need && r->again)
		attempt(r, now_ns);
	else if (done >= need)
		r->state = WR_RAISE_DONE;
	else if (voters - lost < need)
		retry(r, now_ns);
}

static void
step(struct wr_raise *r, uint64_t now_ns)
{
	if (r->retry_ns && now_ns >= r->retry_ns) {
		attempt(r, now_ns);
		return;
	}
	if (r->retry_ns)
		return;
	if (r->state == WR_RAISE_PREPARE)
		look_at_promises(r, now_ns);
	else if (r->state == WR_RAISE_INSTALL)
		look_at_installs(r, now_ns);
}

/* ---- answers ---- */

static void
newer_record(struct wr_raise *r, uint64_t now_ns)
{
	bool granted = r->state == WR_RAISE_GRANT || r->has_grant;

	if (wr_epoch_cmp(&r->known.n, &r->n) >= 0 || granted) {
		/* Our number is too small, or the grant is for a record that is no more. */
		retry(r, now_ns);
		return;
	}
	if (r->state == WR_RAISE_PREPARE) {
		r->c = r->known;
		r->has_c = true;
		r->settle_ns = 0;
		ask_members(r, &r->c, ASK_PREPARE);
	}
}

/* Any record, and any promised number, in any answer. */
static void
learn(struct wr_raise *r, struct wr_raise_peer *p, const struct wr_msg *m, uint64_t now_ns)
{
	struct wr_record e;
	bool newer;

	if (m->n.number < NUMBER_MAX)
		r->greatest = WR_MAX(r->greatest, m->n.number);
	if (m->record.len == 0 ||
	    wr_rules_record(&m->record, &r->o.project, r->o.fleet, &e, NULL) < 0)
		return;
	p->record = e;
	p->has_record = true;
	r->greatest = WR_MAX(r->greatest, e.n.number);
	newer = !r->has_known || wr_epoch_cmp(&e.n, &r->known.n) > 0;
	if (newer) {
		r->known = e;
		r->has_known = true;
		newer_record(r, now_ns);
	}
}

static void
take_promise(struct wr_raise *r, struct wr_raise_peer *p, const struct wr_msg *m)
{
	WR_SCOPED(wr_save_rec_fini) struct wr_save_rec s = WR_SAVE_REC_INIT;

	if (r->state != WR_RAISE_PREPARE || wr_epoch_cmp(&m->n, &r->n) != 0 || !p->has_record)
		return;
	p->promised = true;
	p->clean = m->flag;
	p->damaged = m->damaged;
	p->to_send = p->away = false;
	p->has_save = m->save.len && wr_save_rec_decode(m->save.p, m->save.len, &s, NULL) == 0 &&
		      strcmp(s.project.s, r->o.project.s) == 0;
	if (p->has_save) {
		p->v = s.v;
		p->writer = s.writer;
		p->refs = wr_save_refs_digest(&s);
		p->save_ok = wr_save_rec_verify(&s, r->o.fleet, NULL) == 0;
	}
}

static void
take_grant(struct wr_raise *r, const struct wr_msg *m)
{
	struct wr_grant g;

	if (r->state != WR_RAISE_GRANT || wr_grant_decode(m->grant.p, m->grant.len, &g, NULL) < 0 ||
	    strcmp(g.project.s, r->o.project.s) != 0 || g.kind != r->o.ask_grant ||
	    !wr_node_id_eq(&g.writer, &r->c.writer) || wr_grant_verify(&g, r->o.fleet, NULL) < 0)
		return;
	r->grant = g;
	r->has_grant = true;
	if (wr_raise_grant_fits(r))
		begin_prepare(r);
	else
		r->has_grant = false;
}

static void
no_grant(struct wr_raise *r, const struct wr_err *why)
{
	if (!r->o.need_grant || r->again) {
		begin_prepare(r);
		return;
	}
	r->err = *why;
	wr_err_wrap(&r->err, "the writer '%s'", wr_rules_name(r->o.fleet, &r->c.writer).s);
	r->state = WR_RAISE_FAILED;
}

static void
take_refusal(struct wr_raise *r, struct wr_raise_peer *p, const struct wr_msg *m, uint64_t now_ns)
{
	if (p->request != m->request)
		return;
	wr_err_clear(&p->why);
	wr_msg_get_err(m, &p->why);
	if (m->kind == WR_MSG_NACK && wr_epoch_cmp(&m->n, &r->n) > 0) {
		p->overtaken = true;
		if (r->state == WR_RAISE_PREPARE)
			retry(r, now_ns);
	}
	if (p->ask == ASK_GRANT && r->state == WR_RAISE_GRANT) {
		no_grant(r, &p->why);
	} else if (p->ask == ASK_PREPARE && r->state == WR_RAISE_PREPARE) {
		/* An older record may be all that is wrong with it; else it is asked again later.
		 */
		if (r->has_c && m->kind == WR_MSG_NACK && p->has_record &&
		    wr_epoch_cmp(&p->record.n, &r->c.n) < 0)
			ask(r, &p->node, ASK_CATCH_UP);
		else
			p->away = true;
	} else if (p->ask == ASK_CATCH_UP) {
		p->ask = ASK_PREPARE;
		p->away = true;
	}
}

static void
take_ok(struct wr_raise *r, struct wr_raise_peer *p, const struct wr_msg *m)
{
	if (p->request != m->request)
		return;
	if (p->ask == ASK_INSTALL)
		p->installed = true;
	else if (p->ask == ASK_CATCH_UP && r->state == WR_RAISE_PREPARE)
		ask(r, &p->node, ASK_PREPARE);
}

static bool
over(const struct wr_raise *r)
{
	return r->state == WR_RAISE_DONE || r->state == WR_RAISE_FAILED;
}

void
wr_raise_answer(struct wr_raise *r, const struct wr_msg *m, uint64_t now_ns)
{
	struct wr_raise_peer *p = wr_raise_peer_of(r, &m->from);

	if (!p || over(r))
		return;
	if (m->kind == WR_MSG_PROMISE || m->kind == WR_MSG_NACK) {
		if (strcmp(m->project.s, r->o.project.s) != 0)
			return;
		learn(r, p, m, now_ns);
	}
	switch (m->kind) {
	case WR_MSG_PROMISE:
		take_promise(r, p, m);
		break;
	case WR_MSG_GRANT:
		if (p->request == m->request)
			take_grant(r, m);
		break;
	case WR_MSG_OK:
		take_ok(r, p, m);
		break;
	case WR_MSG_NACK:
	case WR_MSG_ERROR:
		take_refusal(r, p, m, now_ns);
		break;
	default:
		return;
	}
	if (!over(r))
		step(r, now_ns);
}

void
wr_raise_unreachable(struct wr_raise *r, const struct wr_node_id *node, uint64_t now_ns)
{
	struct wr_raise_peer *p = wr_raise_peer_of(r, node);
	struct wr_err e = WR_ERR_INIT;

	if (!p || over(r))
		return;
	p->away = true;
	if (r->state == WR_RAISE_GRANT && p->ask == ASK_GRANT) {
		wr_err_set(&e, WR_E_FAILED, "it cannot be reached");
		wr_err_hint(&e, "let it be replaced after %u s of silence",
			    (unsigned)(WR_HOLD_NS / WR_SECOND_NS));
		no_grant(r, &e);
	}
	if (!over(r))
		step(r, now_ns);
}

/* ---- time ---- */

static void
give_up(struct wr_raise *r)
{
	struct wr_tally t;

	r->state = WR_RAISE_FAILED;
	if (r->undo)
		return;
	if (r->has_made && wr_epoch_cmp(&r->made.n, &r->n) == 0) {
		wr_err_set(&r->err, WR_E_FAILED,
			   "the record of %s is signed, but too few have it yet",
			   wr_rules_epoch(&r->n).s);
		wr_err_hint(&r->err, "they learn it when they are back");
		return;
	}
	if (!r->has_c) {
		wr_err_set(&r->err, WR_E_NOT_FOUND, "nobody who answered knows the project");
		return;
	}
	t = wr_raise_tally(r);
	if (wr_raise_check(r, &t, &r->err) == 0)
		wr_err_set(&r->err, WR_E_FAILED, "it took too long");
}

void
wr_raise_tick(struct wr_raise *r, uint64_t now_ns)
{
	struct wr_err e = WR_ERR_INIT;

	if (over(r))
		return;
	if (now_ns >= r->end_ns) {
		give_up(r);
		return;
	}
	if (r->state == WR_RAISE_GRANT && now_ns >= r->grant_ns) {
		wr_err_set(&e, WR_E_FAILED, "it does not answer");
		no_grant(r, &e);
	}
	if (now_ns >= r->repeat_ns) {
		r->repeat_ns = now_ns + REPEAT_NS;
		for (size_t i = 0; i < r->peer_count; i++) {
			struct wr_raise_peer *p = &r->peer[i];

			if (p->ask == ASK_NOTHING || p->installed ||
			    (p->ask == ASK_PREPARE && p->promised))
				continue;
			p->to_send = true;
			p->away = false;
		}
	}
	if (!over(r))
		step(r, now_ns);
}

uint64_t
wr_raise_wake(const struct wr_raise *r)
{
	uint64_t at = WR_MIN(r->end_ns, r->repeat_ns);

	if (r->state == WR_RAISE_GRANT)
		at = WR_MIN(at, r->grant_ns);
	if (r->settle_ns && r->state == WR_RAISE_PREPARE)
		at = WR_MIN(at, r->settle_ns);
	if (r->retry_ns)
		at = WR_MIN(at, r->retry_ns);
	return at;
}

/* ---- messages ---- */

static void
put_record(struct wr_msg *m, const struct wr_record *e)
{
	wr_buf_clear(&m->record);
	wr_record_encode(e, &m->record);
}

static void
fill_msg(const struct wr_raise *r, const struct wr_raise_peer *p, struct wr_msg *m)
{
	m->request = p->request;
	m->project = r->o.project;
	switch (p->ask) {
	case ASK_NOTHING:
		break;
	case ASK_GRANT:
		m->kind = WR_MSG_GRANT_ASK;
		m->n = r->c.n;
		if (r->o.ask_grant == WR_GRANT_CONSENT)
			m->next = r->n;
		break;
	case ASK_PREPARE:
		m->kind = WR_MSG_PREPARE;
		m->n = r->n;
		if (wr_raise_grant_fits(r))
			wr_grant_encode(&r->grant, &m->grant);
		break;
	case ASK_CATCH_UP:
		m->kind = WR_MSG_INSTALL;
		put_record(m, &r->c);
		break;
	case ASK_INSTALL:
		m->kind = WR_MSG_INSTALL;
		put_record(m, &r->made);
		wr_buf_add(&m->settings, r->o.settings.p, r->o.settings.len);
		break;
	}
}

bool
wr_raise_next(struct wr_raise *r, struct wr_node_id *to, struct wr_msg *msg)
{
	/* The last INSTALLs still go out after DONE: whoever is not needed for it learns it, too.
	 */
	if (r->state == WR_RAISE_FAILED)
		return false;
	for (size_t i = 0; i < r->peer_count; i++) {
		struct wr_raise_peer *p = &r->peer[i];

		if (!p->to_send || p->ask == ASK_NOTHING ||
		    (r->state == WR_RAISE_FAILED && p->ask != ASK_INSTALL))
			continue;
		p->to_send = false;
		*to = p->node;
		fill_msg(r, p, msg);
		return true;
	}
	return false;
}

/* ---- begin and end ---- */

static struct wr_raise *
new_raise(const struct wr_raise_opts *o, uint64_t now_ns)
{
	struct wr_raise *r = wr_calloc(1, sizeof(*r));

	r->o = *o;
	r->peer = wr_calloc(WR_RAISE_NODES, sizeof(*r->peer));
	if (o->ask_count)
		r->ask = wr_memdup(o->ask, o->ask_count * sizeof(*o->ask));
	if (o->dead_count)
		r->dead = wr_memdup(o->dead, o->dead_count * sizeof(*o->dead));
	if (o->node_count)
		r->nodes = wr_memdup(o->nodes, o->node_count * sizeof(*o->nodes));
	r->o.settings = (struct wr_buf)WR_BUF_INIT;
	wr_buf_add(&r->o.settings, o->settings.p, o->settings.len);
	r->o.known = NULL;
	r->o.ask = r->o.dead = NULL;
	r->o.nodes = NULL;
	r->has_grant = o->has_grant;
	r->grant = o->grant;
	r->request = o->request;
	r->end_ns = now_ns + (o->timeout_ns ? o->timeout_ns : WHOLE_NS);
	r->repeat_ns = now_ns + REPEAT_NS;
	return r;
}

struct wr_raise *
wr_raise_new(const struct wr_raise_opts *opts, uint64_t now_ns)
{
	struct wr_raise *r = new_raise(opts, now_ns);

	if (opts->known) {
		r->known = *opts->known;
		r->has_known = true;
	}
	attempt(r, now_ns);
	return r;
}

struct wr_raise *
wr_raise_new_first(const struct wr_raise_opts *opts, const struct wr_record *first, uint64_t now_ns,
		   struct wr_err *err)
{
	struct wr_raise *r = new_raise(opts, now_ns);
	struct wr_record e = *first;

	e.project = opts->project;
	e.n = r->n = (struct wr_epoch){1, opts->random[0]};
	r->tries = WR_RAISE_TRIES; /* there is no second one */
	memset(&e.prev, 0, sizeof(e.prev));
	memset(&e.base, 0, sizeof(e.base));
	memset(&e.base_refs, 0, sizeof(e.base_refs));
	e.state = WR_RECORD_LIVE;
	e.has_consent = e.accept_loss = e.forced = false;
	memset(&e.consent, 0, sizeof(e.consent));
	if (sign_record(r, &e) < 0) {
		if (err)
			*err = r->err;
		wr_raise_free(r);
		return NULL;
	}
	return r;
}

void
wr_raise_free(struct wr_raise *r)
{
	if (!r)
		return;
	wr_buf_fini(&r->o.settings);
	free(r->peer);
	free(r->ask);
	free(r->dead);
	free(r->nodes);
	free(r);
}

enum wr_raise_state
wr_raise_state(const struct wr_raise *r)
{
	return r->state;
}

const struct wr_record *
wr_raise_record(const struct wr_raise *r)
{
	return r->has_made ? &r->made : NULL;
}

const struct wr_record *
wr_raise_known(const struct wr_raise *r)
{
	return r->has_known ? &r->known : NULL;
}

const struct wr_err *
wr_raise_err(const struct wr_raise *r)
{
	return &r->err;
}

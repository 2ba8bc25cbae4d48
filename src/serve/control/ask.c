/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages to other nodes and their answers; and the frame of those that come in.
 *
 *   wr_ask -> sealed, @peer -> ANSWER: verified -> WRONG_NONCE: once more, with the right one
 *      |                                        -> else to whoever asked, from the loop
 *      +-> to ourselves: served like any other, without seals
 *
 * A message is judged when it names the nonce of this process: so it was made while this process
 * lived, and by someone who heard from it. There is no exception, for HELLO and FLEET_PUT neither:
 * it costs one exchange more after a start of either side, and whatever is judged is fresh. (A
 * stream's envelope comes from an operation, which knows no nonces; what it carries is ordered by
 * its version, see inbound.c.)
 */
#include "base/log.h"
#include "serve/control/fleet_int.h"
#include "sys/clock.h"

/* A lock that a transfer holds is asked for again after this long, and for that long in all. */
#define AGAIN_NS (WR_SECOND / 20)
#define AGAIN_MAX_NS (10 * (uint64_t)WR_SECOND)
#define TRIES 2
/* Call-backs before everyone else has a turn. */
#define BURST 256
/* @peer promised an end within the time given to it. */
#define OVERDUE_NS (10 * (uint64_t)WR_SECOND)

struct wr_ask {
	struct wr_control *c;
	struct wr_ask *prev, *next; /* of p->asks; next: also of p->ready */
	uint32_t id;
	struct wr_node_id to;
	struct wr_msg m;
	uint64_t callers; /* the request's number as the caller counts; 0: none */
	uint64_t end_ns;
	unsigned tries;
	wr_ask_fn fn; /* NULL: forgotten */
	void *ctx;
	bool local;           /* to ourselves */
	struct wr_msg answer; /* kind NONE: why says what was wrong */
	struct wr_err why;
};

struct wr_asked_in {
	struct wr_asked k;
	struct wr_asked_in *prev, *next;
	struct wr_ask *ask; /* ours; NULL: it came from @peer: */
	uint32_t life, conn, seq;
	bool to_serve; /* from the loop */
	struct wr_timer again;
	uint64_t since_ns;
};

static void on_soon(struct wr_timer *t);

static void
soon(struct wr_control *c)
{
	struct wr_peers *p = c->fleet->peers;

	if (!p->soon.on)
		wr_timer_on(&c->loop, &p->soon, 0, on_soon);
}

/* ---- ends of asking ---- */

static void
ask_free(struct wr_ask *a)
{
	wr_msg_fini(&a->m);
	wr_msg_fini(&a->answer);
	free(a);
}

/* answer (taken) or why. The call-back comes from the loop. */
static void
ask_end(struct wr_ask *a, struct wr_msg *answer, const struct wr_err *why)
{
	struct wr_peers *p = a->c->fleet->peers;

	*(a->prev ? &a->prev->next : &p->asks) = a->next;
	if (a->next)
		a->next->prev = a->prev;
	a->prev = a->next = NULL;
	wr_assert(answer || why);
	if (answer) {
		a->answer = *answer;
		*answer = (struct wr_msg)WR_MSG_INIT;
		a->answer.request = a->callers;
	} else if (why) {
		a->why = *why;
	}
	*p->ready_tail = a;
	p->ready_tail = &a->next;
	soon(a->c);
}

static void
ask_fail(struct wr_ask *a, enum wr_err_code code, const char *text)
{
	struct wr_err why = WR_ERR_INIT;

	wr_err_set(&why, code, "%s", text);
	ask_end(a, NULL, &why);
}

static struct wr_ask *
ask_find(struct wr_control *c, uint32_t id)
{
	struct wr_ask *a = c->fleet->peers->asks;

	while (a && a->id != id)
		a = a->next;
	return a;
}

/* ---- asking ---- */

static int
seal(struct wr_ask *a, const struct wr_pnode *n, struct wr_buf *out, struct wr_err *err)
{
	const struct wr_auth *auth = a->c->fleet->auth;
	struct wr_msg head;

	wr_auth_msg(auth, &head, &a->to.id, n->nonce, a->m.kind);
	a->m.from = head.from;
	a->m.to = head.to;
	a->m.to_nonce = head.to_nonce;
	a->m.nonce = head.nonce;
	a->m.counter = head.counter;
	a->m.request = head.request;
	return wr_auth_seal(auth, &a->m, out, err);
}

static int
ask_send(struct wr_ask *a, struct wr_err *err)
{
	struct wr_control *c = a->c;
	const struct wr_fleet_node *f = wr_fleet_has(&c->fleet->auth->fleet, &a->to);
	struct wr_pnode *n = wr_pnode_get(c, &a->to);
	uint64_t now = wr_clock_mono_ns();
	struct wr_peer_msg m = WR_PEER_MSG_INIT;

	if (!f || !n || (f->flags & WR_FLEET_REMOVED))
		return wr_err_set(err, WR_E_NOT_FOUND, "node %s is not in the fleet any more",
				  a->to.id.s);
	if (!*f->peer) {
		wr_err_set(err, WR_E_NOT_FOUND, "node '%s' has no address for other nodes",
			   f->name);
		return wr_err_hint(err, "there: [listen] peer = HOST:PORT in warren.conf");
	}
	if (now >= a->end_ns)
		return wr_err_set(err, WR_E_BUSY, "node '%s' did not answer in time", f->name);
	if (seal(a, n, &m.payload, err) < 0) {
		wr_buf_fini(&m.payload);
		return -1;
	}
	m.type = WR_PEER_SEND;
	m.id = a->id;
	m.node = a->to;
	m.timeout_ms = (uint32_t)WR_MAX((a->end_ns - now) / 1000000, (uint64_t)1);
	snprintf(m.address, sizeof(m.address), "%s", f->peer);
	a->tries++;
	if (!wr_channel_send(c, &m))
		return wr_err_set(err, WR_E_BUSY, "the process for other nodes is being started");
	return 0;
}

static void serve_local(struct wr_ask *a);

void
wr_ask(struct wr_control *c, const struct wr_uuid *to, struct wr_msg *m, uint32_t timeout_ms,
       wr_ask_fn fn, void *ctx)
{
	struct wr_peers *p = c->fleet->peers;
	const struct wr_auth *auth = c->fleet->auth;
	const struct wr_fleet_node *f = wr_fleet_find(&auth->fleet, to);
	struct wr_ask *a = wr_calloc(1, sizeof(*a));
	struct wr_err err = WR_ERR_INIT;
	uint32_t life = p->life;

	a->c = c;
	do
		a->id = ++p->next_id;
	while (a->id == 0 || ask_find(c, a->id));
	a->m = *m;
	*m = (struct wr_msg)WR_MSG_INIT;
	a->callers = a->m.request;
	a->fn = fn;
	a->ctx = ctx;
	a->end_ns = wr_clock_mono_ns() + timeout_ms * UINT64_C(1000000);
	a->next = p->asks;
	if (a->next)
		a->next->prev = a;
	p->asks = a;
	if (!strcmp(to->s, auth->self.id.s)) {
		a->to = auth->self;
		a->local = true;
		serve_local(a);
		return;
	}
	a->to = f ? f->node : (struct wr_node_id){*to, 0};
	/* A channel that breaks meanwhile has ended this one with the others. */
	if (ask_send(a, &err) < 0 && p->life == life)
		ask_end(a, NULL, &err);
}

void
wr_ask_forget(struct wr_control *c, const void *ctx)
{
	struct wr_peers *p = c->fleet->peers;
	struct wr_ask *const list[] = {p->asks, p->ready};

	for (size_t i = 0; i < WR_ARRAY_LEN(list); i++)
		for (struct wr_ask *a = list[i]; a; a = a->next)
			if (a->ctx == ctx)
				a->fn = NULL;
}

/* ---- answers ---- */

static int
judge_answer(struct wr_ask *a, const struct wr_peer_msg *m, struct wr_msg *out,
	     struct wr_pnode **out_node, struct wr_err *err)
{
	const struct wr_auth *auth = a->c->fleet->auth;

	if (wr_auth_open_msg(auth, m->payload.p, m->payload.len, out, err) < 0)
		return wr_err_wrap(err, "the answer of node '%s'", wr_fleet_name(a->c, &a->to.id));
	*out_node = wr_pnode_get(a->c, &out->from);
	if (!wr_node_id_eq(&out->from, &a->to) || out->request != a->m.request ||
	    out->to_nonce != auth->nonce || !*out_node)
		return wr_err_set(err, WR_E_DENIED, "the answer of node '%s' is to something else",
				  wr_fleet_name(a->c, &a->to.id));
	return 0;
}

/* It is once more on its way; else it has ended. */
static void
once_more(struct wr_ask *a, const char *otherwise)
{
	struct wr_err err = WR_ERR_INIT;
	struct wr_control *c = a->c;
	uint32_t life = c->fleet->peers->life;

	if (a->tries >= TRIES)
		ask_fail(a, WR_E_BUSY, otherwise);
	else if (ask_send(a, &err) < 0 && c->fleet->peers->life == life)
		ask_end(a, NULL, &err);
}

/* A node that lies can say so, too: what it saw has to be more than we have. */
static void
told_behind(struct wr_ask *a, const struct wr_msg *m)
{
	struct wr_control *c = a->c;

	if (m->number <= c->fleet->auth->counter) {
		once_more(a, "it did not believe that this node is up to date");
		return;
	}
	wr_fleet_behind(c, &m->from.id, m->number);
	ask_fail(a, WR_E_DENIED, "this node was set back: it was restored from an image");
}

void
wr_asks_answered(struct wr_control *c, struct wr_peer_msg *pm)
{
	struct wr_ask *a = ask_find(c, pm->id);
	WR_SCOPED(wr_msg_fini) struct wr_msg m = WR_MSG_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_pnode *n = NULL;
	uint64_t seen;

	if (!a || a->local)
		return;
	if (judge_answer(a, pm, &m, &n, &err) < 0) {
		wr_peer_refused(c, &m, &err);
		ask_end(a, NULL, &err);
		return;
	}
	n->nonce = m.nonce;
	if (m.kind == WR_MSG_WRONG_NONCE) {
		once_more(a, "it was started again just now");
		return;
	}
	if (m.kind == WR_MSG_BEHIND) {
		told_behind(a, &m);
		return;
	}
	/* Its word counts for nothing then. */
	if (wr_pnode_count(c, n, m.counter, &seen, &err) < 0) {
		ask_end(a, NULL, &err);
		return;
	}
	n->answered_ns = wr_clock_mono_ns();
	ask_end(a, &m, NULL);
}

void
wr_asks_failed(struct wr_control *c, struct wr_peer_msg *pm)
{
	struct wr_ask *a = ask_find(c, pm->id);
	struct wr_err why = WR_ERR_INIT;

	if (!a || a->local)
		return;
	wr_err_set(&why, pm->code, "node '%s': %s", wr_fleet_name(c, &a->to.id),
		   pm->text ? pm->text : "?");
	if (pm->hint && *pm->hint)
		wr_err_hint(&why, "%s", pm->hint);
	ask_end(a, NULL, &why);
}

void
wr_asks_lost(struct wr_control *c)
{
	struct wr_ask *next;

	for (struct wr_ask *a = c->fleet->peers->asks; a; a = next) {
		next = a->next;
		if (!a->local)
			ask_fail(a, WR_E_BUSY, "the process for other nodes ended");
	}
}

/* ---- what came in ---- */

static struct wr_asked_in *
asked_new(struct wr_control *c)
{
	struct wr_peers *p = c->fleet->peers;
	struct wr_asked_in *s = wr_calloc(1, sizeof(*s));

	s->k.c = c;
	s->k.back = s;
	s->since_ns = wr_clock_mono_ns();
	s->next = p->asked;
	if (s->next)
		s->next->prev = s;
	p->asked = s;
	return s;
}

static void
asked_free(struct wr_asked_in *s)
{
	struct wr_peers *p = s->k.c->fleet->peers;

	wr_timer_off(&s->k.c->loop, &s->again);
	*(s->prev ? &s->prev->next : &p->asked) = s->next;
	if (s->next)
		s->next->prev = s->prev;
	wr_msg_fini(&s->k.q);
	free(s);
}

static void
reply(struct wr_control *c, const struct wr_asked_in *s, const struct wr_msg *a)
{
	struct wr_peer_msg m = WR_PEER_MSG_INIT;
	struct wr_err err = WR_ERR_INIT;

	if (s->life != c->fleet->peers->life)
		return;
	if (wr_auth_seal(c->fleet->auth, a, &m.payload, &err) < 0) {
		struct wr_msg e = WR_MSG_INIT;
		int rc;

		wr_log_err(WR_LOG_ERROR, "an answer to another node", &err);
		wr_buf_clear(&m.payload);
		wr_msg_answer(&e, &s->k.q, &c->fleet->auth->self, WR_MSG_ERROR);
		e.nonce = a->nonce;
		e.counter = a->counter;
		wr_msg_set_err(&e, &err);
		rc = wr_auth_seal(c->fleet->auth, &e, &m.payload, NULL);
		wr_msg_fini(&e);
		if (rc < 0) {
			wr_peer_msg_fini(&m);
			return;
		}
	}
	m.type = WR_PEER_REPLY;
	m.conn = s->conn;
	m.seq = s->seq;
	(void)wr_channel_send(c, &m);
}

void
wr_asked_answer(struct wr_asked *k, struct wr_msg *a)
{
	struct wr_asked_in *s = k->back;
	struct wr_control *c = k->c;

	wr_msg_answer(a, &k->q, &c->fleet->auth->self, a->kind);
	a->nonce = c->fleet->auth->nonce;
	a->counter = c->fleet->auth->counter;
	wr_fleet_touch(c);
	if (s->ask)
		ask_end(s->ask, a, NULL);
	else
		reply(c, s, a);
	wr_msg_fini(a);
	asked_free(s);
}

bool
wr_asked_here(const struct wr_asked *k)
{
	const struct wr_asked_in *s = k->back;

	return s->ask != NULL;
}

void
wr_asked_fail(struct wr_asked *k, const struct wr_err *err)
{
	struct wr_msg a = WR_MSG_INIT;

	a.kind = WR_MSG_ERROR;
	wr_msg_set_err(&a, err);
	wr_asked_answer(k, &a);
}

static void
serve_local(struct wr_ask *a)
{
	const struct wr_auth *auth = a->c->fleet->auth;
	struct wr_asked_in *s = asked_new(a->c);

	wr_auth_msg(auth, &s->k.q, &auth->self.id, auth->nonce, a->m.kind);
	a->m.from = s->k.q.from;
	a->m.to = s->k.q.to;
	a->m.to_nonce = s->k.q.to_nonce;
	a->m.nonce = s->k.q.nonce;
	a->m.counter = s->k.q.counter;
	a->m.request = s->k.q.request;
	s->k.q = a->m;
	a->m = (struct wr_msg)WR_MSG_INIT;
	s->ask = a;
	s->to_serve = true;
	soon(a->c);
}

static void
on_again(struct wr_timer *t)
{
	wr_asked_serve(&WR_OWNER(t, struct wr_asked_in, again)->k);
}

bool
wr_asked_again(struct wr_asked *k)
{
	struct wr_asked_in *s = k->back;

	if (wr_clock_mono_ns() - s->since_ns > AGAIN_MAX_NS)
		return false;
	wr_timer_on(&k->c->loop, &s->again, AGAIN_NS, on_again);
	return true;
}

/* Who is he, is it fresh, is he himself up to date? 0: serve it; -1: it was answered. */
static int
admit(struct wr_asked_in *s)
{
	struct wr_control *c = s->k.c;
	struct wr_pnode *n = wr_pnode_get(c, &s->k.q.from);
	struct wr_err err = WR_ERR_INIT;
	struct wr_msg a = WR_MSG_INIT;
	uint64_t seen = 0;

	if (!n) {
		wr_err_set(&err, WR_E_DENIED, "node %s is not in the fleet", s->k.q.from.id.s);
	} else if (s->k.q.to_nonce != c->fleet->auth->nonce) {
		/* 0 is who does not know better. What names another one was made for a process
		 * before this one. */
		a.kind = WR_MSG_WRONG_NONCE;
		wr_asked_answer(&s->k, &a);
		return -1;
	} else if (!wr_pnode_request(n, s->k.q.nonce, s->k.q.counter, s->k.q.request)) {
		wr_err_set(&err, WR_E_DENIED, "that message was here before");
	} else if (wr_pnode_count(c, n, s->k.q.counter, &seen, &err) == 0) {
		return 0;
	}
	wr_peer_refused(c, &s->k.q, &err);
	if (seen) {
		a.kind = WR_MSG_BEHIND;
		a.number = seen;
		wr_asked_answer(&s->k, &a);
	} else {
		wr_asked_fail(&s->k, &err);
	}
	return -1;
}

void
wr_asks_call(struct wr_control *c, struct wr_peer_msg *m)
{
	struct wr_asked_in *s = asked_new(c);
	struct wr_err err = WR_ERR_INIT;

	s->life = c->fleet->peers->life;
	s->conn = m->conn;
	s->seq = m->seq;
	if (wr_auth_open_msg(c->fleet->auth, m->payload.p, m->payload.len, &s->k.q, &err) < 0) {
		/* Answered all the same, so that whoever erred learns why. */
		if (wr_msg_peek(m->payload.p, m->payload.len, &s->k.q, NULL) < 0) {
			s->k.q.from = m->node.id.s[0] ? m->node : c->fleet->auth->self;
			s->k.q.to = c->fleet->auth->self.id;
		}
		wr_peer_refused(c, &s->k.q, &err);
		wr_asked_fail(&s->k, &err);
		return;
	}
	if (admit(s) == 0)
		wr_asked_serve(&s->k);
}

/* ---- from the loop ---- */

/* One at a time: a call-back may forget others. */
static void
deliver_first(struct wr_peers *p)
{
	struct wr_ask *a = p->ready;

	p->ready = a->next;
	if (!p->ready)
		p->ready_tail = &p->ready;
	if (a->fn && a->answer.kind)
		a->fn(a->ctx, &a->answer, NULL);
	else if (a->fn)
		a->fn(a->ctx, NULL, &a->why);
	ask_free(a);
}

static void
on_soon(struct wr_timer *t)
{
	struct wr_peers *p = WR_OWNER(t, struct wr_peers, soon);
	struct wr_asked_in *s;

	for (int i = 0; i < BURST && p->ready; i++)
		deliver_first(p);
	/* Whatever is served may ask and answer: the list is another one then. */
	for (;;) {
		for (s = p->asked; s && !s->to_serve; s = s->next)
			;
		if (!s)
			break;
		s->to_serve = false;
		wr_asked_serve(&s->k);
	}
	if (p->ready)
		soon(p->c);
}

bool
wr_asks_overdue(struct wr_control *c)
{
	uint64_t now = wr_clock_mono_ns();

	for (struct wr_ask *a = c->fleet->peers->asks; a; a = a->next)
		if (!a->local && now > a->end_ns + OVERDUE_NS)
			return true;
	return false;
}

void
wr_asks_end(struct wr_control *c)
{
	struct wr_peers *p = c->fleet->peers;

	/* Call-backs may ask again, in vain. */
	do {
		while (p->asks)
			ask_fail(p->asks, WR_E_CANCELLED, "the daemon ends");
		while (p->asked)
			asked_free(p->asked);
		if (p->ready)
			deliver_first(p);
	} while (p->asks || p->ready);
	wr_timer_off(&c->loop, &p->soon);
}

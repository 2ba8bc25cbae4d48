/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that others begin: who may, their calls, and control's answers in their order. */
#include "serve/peer/peer_int.h"

#include <netinet/in.h>

/* Connections taken before everyone else has a turn. */
#define BURST 16
/* Bytes of answers that may wait while further calls are taken. */
#define PENDING_MAX (256u << 10)

/* ---- who may ---- */

static bool
same_host(const struct wr_addr *a, const struct wr_addr *b)
{
	const struct sockaddr_in6 *x = (const void *)&a->ss, *y = (const void *)&b->ss;
	const struct sockaddr_in *v = (const void *)&a->ss, *w = (const void *)&b->ss;

	if (a->ss.ss_family != b->ss.ss_family)
		return false;
	if (a->ss.ss_family == AF_INET)
		return v->sin_addr.s_addr == w->sin_addr.s_addr;
	return !memcmp(&x->sin6_addr, &y->sin6_addr, sizeof(x->sin6_addr));
}

/* Those who said nothing for longest make room: a flood then is in the way of nobody for longer
 * than a handshake takes. from NULL: of any address. */
static void
make_room(struct wr_peerd *p, const struct wr_addr *from, size_t most)
{
	struct wr_pconn *oldest = NULL;
	size_t count = 0;

	/* The list has the newest first. */
	for (struct wr_pconn *c = p->conns; c; c = c->next)
		if (!c->ours && c->state == WR_PCONN_GREET &&
		    (!from || same_host(&c->from, from))) {
			count++;
			oldest = c;
		}
	if (count < most)
		return;
	wr_peerd_note(p, "connection of %s refused: too many without a handshake", oldest->address);
	wr_pconn_kill(oldest, NULL);
}

static void
admit(struct wr_peerd *p, int fd, const struct wr_addr *from)
{
	struct wr_err err = WR_ERR_INIT;
	struct wr_pconn *c;

	make_room(p, from, WR_PEER_GREETS_ADDR);
	make_room(p, NULL, p->served < WR_PEER_CONNS ? WR_PEER_GREETS : 1);
	c = wr_pconn_new(p, false);
	c->state = WR_PCONN_GREET;
	c->from = *from;
	snprintf(c->address, sizeof(c->address), "%s", wr_addr_text(from).s);
	if (wr_link_serve(p->tls, fd, &c->link, &err) < 0) {
		wr_peerd_note(p, "connection of %s refused: %s", c->address, err.msg);
		wr_pconn_kill(c, NULL);
		return;
	}
	if (p->served > WR_PEER_CONNS) {
		wr_peerd_note(p, "connection of %s refused: there are %u already", c->address,
			      WR_PEER_CONNS);
		wr_pconn_kill(c, NULL);
		return;
	}
	wr_pconn_step(c);
}

void
wr_served_accept(struct wr_peerd *p)
{
	for (int i = 0; i < BURST && p->listener >= 0 && p->tls; i++) {
		struct wr_err err = WR_ERR_INIT;
		struct wr_addr from;
		int fd = wr_link_accept(p->listener, &from, &err);

		if (fd < 0 && err.code == WR_E_BUSY)
			return;
		if (fd < 0) {
			wr_peerd_note(p, "take a connection: %s", err.msg);
			p->accept_ns = p->now_ns + UINT64_C(1000000000);
			return;
		}
		admit(p, fd, &from);
	}
}

static bool
allowed(const struct wr_peerd *p, const struct wr_node_id *n)
{
	for (size_t i = 0; i < p->setup.node_count; i++)
		if (wr_node_id_eq(&p->setup.node[i], n))
			return true;
	return false;
}

void
wr_served_greeted(struct wr_pconn *c)
{
	struct wr_peerd *p = c->p;
	const struct wr_cert_info *its = wr_link_cert(c->link);
	size_t count = 0;

	wr_assert(its); /* the handshake demands one */
	c->node = its->node;
	if (!allowed(p, &c->node)) {
		wr_peerd_note(p,
			      "connection of %s refused: node %s (incarnation %u) is not, or no "
			      "longer, of the fleet",
			      c->address, c->node.id.s, c->node.inc);
		wr_pconn_kill(c, NULL);
		return;
	}
	for (const struct wr_pconn *o = p->conns; o; o = o->next)
		count +=
		    !o->ours && o->state != WR_PCONN_GREET && wr_node_id_eq(&o->node, &c->node);
	if (count >= WR_PEER_CONNS_NODE) {
		wr_peerd_note(p, "connection of %s refused: node %s has %u already", c->address,
			      c->node.id.s, WR_PEER_CONNS_NODE);
		wr_pconn_kill(c, NULL);
		return;
	}
	c->state = WR_PCONN_OPEN;
}

void
wr_served_review(struct wr_peerd *p)
{
	for (struct wr_pconn *c = p->conns, *next; c; c = next) {
		next = c->next;
		if (!c->ours && c->state != WR_PCONN_GREET && !allowed(p, &c->node))
			wr_pconn_kill(c, NULL);
	}
}

/* ---- calls ---- */

/* The answers that are next in order. */
static void
put_answers(struct wr_pconn *c)
{
	while (c->call_count && wr_pconn_pending(c) < PENDING_MAX) {
		struct wr_pcall *s = &c->call[c->call_first % WR_PEER_CALLS];

		if (!s->answered)
			return;
		wr_frame_add(&c->out, WR_FRAME_MSG_REPLY, s->reply.p, s->reply.len);
		wr_buf_fini(&s->reply);
		s->answered = false;
		c->call_first++;
		c->call_count--;
	}
}

/* Take its frame as a call or stream of control's: false if it is cut for that. */
static bool
take_frame(struct wr_pconn *c, const struct wr_frame *f)
{
	struct wr_peer_msg m = WR_PEER_MSG_INIT;
	bool stream = f->type == WR_FRAME_STREAM;

	if ((!stream && f->type != WR_FRAME_MSG) || !f->len || (stream && c->call_count)) {
		wr_peerd_note(c->p, "connection of %s cut: it says what does not belong here",
			      c->address);
		wr_pconn_kill(c, NULL);
		return false;
	}
	m.type = stream ? WR_PEER_STREAM : WR_PEER_CALL;
	m.conn = c->id;
	if (stream)
		c->state = WR_PCONN_ASKED;
	else
		m.seq = c->call_first + c->call_count++;
	wr_buf_add(&m.payload, f->p, f->len);
	wr_peerd_tell(c->p, &m);
	return true;
}

/* Control takes more, and its answers get away. */
static bool
may_take(const struct wr_pconn *c)
{
	return c->state == WR_PCONN_OPEN && c->call_count < WR_PEER_CALLS &&
	       wr_pconn_pending(c) < PENDING_MAX && !c->p->queue_count && !c->p->quitting;
}

bool
wr_served_step(struct wr_pconn *c)
{
	struct wr_frame f;
	bool did = false;
	size_t used;
	int rc;

	put_answers(c);
	if (!wr_pconn_push(c) && c->state == WR_PCONN_DEAD)
		return false;
	/* Room has come for those that had to wait. */
	if (c->call_count && c->call[c->call_first % WR_PEER_CALLS].answered && !c->wants_out)
		did = true;
	while (may_take(c)) {
		rc = wr_pconn_frame(c, &f, &used);
		if (rc < 0 || (rc > 0 && !take_frame(c, &f)))
			return false;
		if (rc == 0)
			break;
		wr_pconn_taken(c, used);
		did = true;
	}
	return (may_take(c) && wr_pconn_pull(c)) || (did && c->state != WR_PCONN_DEAD);
}

/* ---- from control ---- */

/* What is for a connection that has gone meanwhile is nothing to anybody. */
static struct wr_pconn *
find(struct wr_peerd *p, uint32_t id, enum wr_pconn_state state)
{
	struct wr_pconn *c = wr_pconn_find(p, id);

	return c && !c->ours && c->state == state ? c : NULL;
}

void
wr_served_reply(struct wr_peerd *p, struct wr_peer_msg *m)
{
	struct wr_pconn *c = find(p, m->conn, WR_PCONN_OPEN);
	struct wr_pcall *s;

	if (!c || m->seq - c->call_first >= c->call_count)
		return;
	s = &c->call[m->seq % WR_PEER_CALLS];
	if (s->answered)
		return;
	s->answered = true;
	s->reply = m->payload;
	m->payload = (struct wr_buf)WR_BUF_INIT;
	if (wr_pconn_account(c))
		wr_pconn_step(c);
}

void
wr_served_go(struct wr_peerd *p, struct wr_peer_msg *m)
{
	struct wr_pconn *c = find(p, m->conn, WR_PCONN_ASKED);

	if (!c)
		return;
	wr_pstream_begin(c, m->fd);
	m->fd = -1;
	wr_pconn_step(c);
}

void
wr_served_refuse(struct wr_peerd *p, struct wr_peer_msg *m)
{
	struct wr_pconn *c = find(p, m->conn, WR_PCONN_ASKED);

	if (!c)
		return;
	wr_frame_add(&c->out, WR_FRAME_MSG_REPLY, m->payload.p, m->payload.len);
	c->state = WR_PCONN_LAST;
	c->moved_ns = p->now_ns;
	wr_pconn_step(c);
}

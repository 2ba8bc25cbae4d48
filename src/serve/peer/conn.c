/* SPDX-License-Identifier: Apache-2.0 */
/* What the connections of both directions share: bytes, frames, events, deadlines, the end. */
#include "serve/peer/peer_int.h"

#include <poll.h>
#include <unistd.h>

#include "sys/fs.h"

#define MS UINT64_C(1000000)
/* Read at a time; buffers that grew larger for a frame are given back when empty. */
#define CHUNK (64u << 10)
#define KEEP (256u << 10)
/* Rounds of one connection before everyone else has a turn. */
#define ROUNDS 16

struct wr_pconn *
wr_pconn_new(struct wr_peerd *p, bool ours)
{
	struct wr_pconn *c = wr_calloc(1, sizeof(*c));

	c->p = p;
	/* 0 is none; after 2^32 connections an old one may still be there. */
	do
		c->id = ++p->last_conn;
	while (!c->id || wr_pconn_find(p, c->id));
	c->ours = ours;
	c->on_link = (struct wr_pwatch){.kind = WR_PWATCH_LINK, .conn = c};
	c->on_local = (struct wr_pwatch){.kind = WR_PWATCH_LOCAL, .conn = c};
	c->since_ns = c->moved_ns = p->now_ns;
	c->local = -1;
	c->reqs_tail = &c->reqs;
	c->next = p->conns;
	if (c->next)
		c->next->prev = c;
	p->conns = c;
	*(ours ? &p->ours : &p->served) += 1;
	return c;
}

struct wr_pconn *
wr_pconn_find(struct wr_peerd *p, uint32_t id)
{
	for (struct wr_pconn *c = p->conns; c; c = c->next)
		if (c->id == id)
			return c;
	return NULL;
}

static void
unlink_conn(struct wr_pconn *c)
{
	*(c->prev ? &c->prev->next : &c->p->conns) = c->next;
	if (c->next)
		c->next->prev = c->prev;
	c->prev = c->next = NULL;
}

void
wr_pconn_to_end(struct wr_pconn *c)
{
	struct wr_pconn *last = c;

	while (last->next)
		last = last->next;
	if (last == c)
		return;
	unlink_conn(c);
	last->next = c;
	c->prev = last;
}

void
wr_pconn_kill(struct wr_pconn *c, const struct wr_err *err)
{
	struct wr_peerd *p = c->p;

	if (c->state == WR_PCONN_DEAD)
		return;
	*(c->ours ? &p->ours : &p->served) -= 1;
	c->state = WR_PCONN_DEAD;
	if (c->ours)
		wr_ours_fail_all(c, err);
	if (c->link)
		wr_peerd_watch(p, &c->on_link, wr_link_fd(c->link), 0);
	wr_link_close(c->link);
	c->link = NULL;
	if (c->local >= 0)
		wr_peerd_watch(p, &c->on_local, c->local, 0);
	wr_closep(&c->local);
	wr_buf_fini(&c->in);
	wr_buf_fini(&c->out);
	for (size_t i = 0; i < WR_PEER_CALLS; i++)
		wr_buf_fini(&c->call[i].reply);
	p->held -= c->counted;
	unlink_conn(c);
	c->next = p->dead;
	p->dead = c;
}

void
wr_pconn_free(struct wr_pconn *c)
{
	wr_assert(c->state == WR_PCONN_DEAD && !c->reqs);
	free(c);
}

/* ---- bytes ---- */

size_t
wr_pconn_pending(const struct wr_pconn *c)
{
	return c->out.len - c->out_off;
}

/* That others go away is nothing to speak of; what they say wrong is. */
static void
broken(struct wr_pconn *c, const struct wr_err *err)
{
	if (!c->ours && (err->code == WR_E_INVALID || err->code == WR_E_LIMIT))
		wr_peerd_note(c->p, "connection of %s cut: %s", c->address, err->msg);
	wr_pconn_kill(c, err);
}

bool
wr_pconn_account(struct wr_pconn *c)
{
	struct wr_peerd *p = c->p;
	struct wr_err err = WR_ERR_INIT;
	size_t now = c->in.cap + c->out.cap;

	for (size_t i = 0; i < WR_PEER_CALLS; i++)
		now += c->call[i].reply.cap;
	p->held += now - c->counted;
	if (now <= c->counted || p->held <= WR_PEER_HELD) {
		c->counted = now;
		return true;
	}
	c->counted = now;
	wr_err_set(&err, WR_E_LIMIT, "the connections together hold more than %u MiB",
		   WR_PEER_HELD >> 20);
	broken(c, &err);
	return false;
}

int
wr_pconn_frame(struct wr_pconn *c, struct wr_frame *out, size_t *out_used)
{
	struct wr_err err = WR_ERR_INIT;
	int rc;

	if (c->in.len == c->in_off)
		return 0;
	rc = wr_frame_next(c->in.p + c->in_off, c->in.len - c->in_off, out, out_used, &err);
	if (rc < 0)
		broken(c, &err);
	return rc;
}

void
wr_pconn_taken(struct wr_pconn *c, size_t used)
{
	c->in_off += used;
	if (c->in_off < c->in.len)
		return;
	c->in_off = c->in.len = 0;
	if (c->in.cap > KEEP)
		wr_buf_fini(&c->in);
}

bool
wr_pconn_pull(struct wr_pconn *c)
{
	struct wr_err err = WR_ERR_INIT;
	size_t want = CHUNK, had;
	enum wr_link_io io;

	if (c->in_off) {
		memmove(c->in.p, c->in.p + c->in_off, c->in.len - c->in_off);
		c->in.len -= c->in_off;
		c->in_off = 0;
	}
	/* A frame has to be there as a whole; its length was or will be checked. */
	if (c->in.len >= WR_FRAME_HEAD)
		want = WR_MAX(want, WR_FRAME_HEAD + WR_MIN(wr_get32be(c->in.p), WR_FRAME_MAX));
	had = c->in.len;
	io = wr_link_pull(c->link, &c->in, want, &err);
	c->wants_in = io == WR_LINK_WAIT;
	if (io == WR_LINK_FAILED) {
		broken(c, &err);
		return false;
	}
	if (!wr_pconn_account(c))
		return false;
	if (c->in.len > had)
		return true; /* should that be the end, the next pull says so */
	if (io == WR_LINK_END) {
		wr_err_set(&err, WR_E_FAILED, "'%s' has closed the connection", WR_Q(c->address));
		wr_err_hint(&err, "if it does so each time, its events tell why");
		broken(c, &err);
	}
	return false;
}

bool
wr_pconn_push(struct wr_pconn *c)
{
	struct wr_err err = WR_ERR_INIT;
	enum wr_link_io io;

	c->wants_out = false;
	if (!wr_pconn_pending(c))
		return true;
	io = wr_link_push(c->link, &c->out, &c->out_off, &err);
	c->wants_out = io == WR_LINK_WAIT;
	if (io == WR_LINK_FAILED || io == WR_LINK_END) {
		if (io == WR_LINK_END)
			wr_err_set(&err, WR_E_FAILED, "it has closed the connection");
		broken(c, &err);
		return false;
	}
	if (io == WR_LINK_OK && c->out.cap > KEEP)
		wr_buf_fini(&c->out);
	return io == WR_LINK_OK && wr_pconn_account(c);
}

/* ---- what can be done now ---- */

static bool
greet(struct wr_pconn *c)
{
	struct wr_err err = WR_ERR_INIT;

	switch (wr_link_handshake(c->link, &err)) {
	case WR_LINK_OK:
		break;
	case WR_LINK_WAIT:
		c->wants_in = true;
		return false;
	case WR_LINK_END:
		wr_err_set(&err, WR_E_FAILED, "it has closed the connection");
		/* fall through */
	case WR_LINK_FAILED:
		if (c->ours) {
			wr_ours_next(c, &err);
			return c->state == WR_PCONN_GREET;
		}
		/* Whether a port is open is asked by many a monitor. */
		if (wr_link_bytes_in(c->link))
			wr_peerd_note(c->p, "connection refused: %s%s%s", err.msg,
				      *err.hint ? "; " : "", err.hint);
		wr_pconn_kill(c, NULL);
		return false;
	}
	c->moved_ns = c->p->now_ns;
	c->wants_in = false;
	if (c->ours)
		c->state = WR_PCONN_OPEN;
	else
		wr_served_greeted(c);
	return true;
}

/* True: something was done, there may be more. */
static bool
one_step(struct wr_pconn *c)
{
	switch (c->state) {
	case WR_PCONN_GREET:
		return greet(c);
	case WR_PCONN_OPEN:
		return c->ours ? wr_ours_step(c) : wr_served_step(c);
	case WR_PCONN_STREAM:
		return wr_pstream_step(c);
	case WR_PCONN_LAST:
		if (wr_pconn_push(c))
			wr_pconn_kill(c, NULL);
		return false;
	case WR_PCONN_RESOLVE:
	case WR_PCONN_ASKED:
	case WR_PCONN_DEAD:
		return false;
	}
	return false;
}

static void
watch(struct wr_pconn *c)
{
	struct wr_peerd *p = c->p;
	uint32_t local =
	    (c->local_in ? (uint32_t)POLLIN : 0) | (c->local_out ? (uint32_t)POLLOUT : 0);

	/* The events of poll and epoll have the same numbers. */
	if (c->link)
		wr_peerd_watch(p, &c->on_link, wr_link_fd(c->link),
			       c->wants_in || c->wants_out
				   ? (uint32_t)wr_link_wants(c->link, c->wants_in, c->wants_out)
				   : 0);
	if (c->local >= 0)
		wr_peerd_watch(p, &c->on_local, c->local, local);
}

void
wr_pconn_step(struct wr_pconn *c)
{
	bool more = true;
	uint64_t wire;

	for (int i = 0; more && i < ROUNDS; i++) {
		c->wants_in = c->wants_out = c->local_in = c->local_out = false;
		more = one_step(c);
	}
	if (c->state == WR_PCONN_DEAD)
		return;
	if (more)
		c->again = c->p->again = true;
	wire = c->link ? wr_link_bytes_in(c->link) + wr_link_bytes_out(c->link) : 0;
	if (wire != c->wire)
		c->moved_ns = c->p->now_ns;
	c->wire = wire;
	watch(c);
	wr_peerd_arm(c->p, wr_pconn_deadline(c));
}

/* ---- time ---- */

uint64_t
wr_pconn_deadline(const struct wr_pconn *c)
{
	const struct wr_peer_opts *o = &c->p->opts;
	uint64_t first = UINT64_MAX;
	bool asks = false;

	switch (c->state) {
	case WR_PCONN_RESOLVE:
		first = c->since_ns + o->connect_ms * MS;
		break;
	case WR_PCONN_GREET:
		first = c->ours ? c->try_ns : c->since_ns + o->greet_ms * MS;
		break;
	case WR_PCONN_ASKED:
		return c->moved_ns + o->answer_ms * MS;
	case WR_PCONN_STREAM:
		return wr_pstream_lingers(c) ? c->since_ns + o->linger_ms * MS
					     : c->moved_ns + o->idle_ms * MS;
	case WR_PCONN_LAST:
		return c->moved_ns + o->linger_ms * MS;
	case WR_PCONN_OPEN:
		if (!c->ours)
			return c->moved_ns +
			       (c->call_count && !wr_pconn_pending(c) ? o->answer_ms : o->idle_ms) *
				   MS;
		break;
	case WR_PCONN_DEAD:
		return UINT64_MAX;
	}
	for (const struct wr_preq *r = c->reqs; r; r = r->next)
		if (!r->told) {
			first = WR_MIN(first, r->deadline_ns);
			asks = true;
		}
	return asks || c->state != WR_PCONN_OPEN ? first : c->moved_ns + o->keep_ms * MS;
}

void
wr_pconn_expired(struct wr_pconn *c)
{
	struct wr_err err = WR_ERR_INIT;

	switch (c->state) {
	case WR_PCONN_RESOLVE:
		wr_err_set(&err, WR_E_SYS, "look up '%s': no answer in time", WR_Q(c->address));
		break;
	case WR_PCONN_GREET:
		if (c->ours) {
			wr_err_set(&err, WR_E_SYS, "connect to '%s': no answer in time",
				   WR_Q(c->address));
			wr_ours_next(c, &err);
			wr_pconn_step(c);
			return;
		}
		wr_peerd_note(c->p, "connection of %s: no handshake in time", c->address);
		break;
	case WR_PCONN_STREAM:
		if (!wr_pstream_lingers(c))
			wr_peerd_note(c->p, "stream of %s: no byte in %u seconds", c->address,
				      c->p->opts.idle_ms / 1000);
		break;
	default:
		wr_err_set(&err, WR_E_SYS, "'%s' says nothing", WR_Q(c->address));
	}
	wr_pconn_kill(c, err.code ? &err : NULL);
}

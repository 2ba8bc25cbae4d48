/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that we begin, for what control wants sent.  They are kept while they are used, by
 * address and node; answers come in the order of requests.
 *
 * Names are looked up by the system's resolver, which blocks: each in a thread that lives as long
 * as that takes and says what it found through a pipe.  (getaddrinfo_a does the same behind the
 * scenes, but tells by signals or by a thread of its own, and what it began cannot be let go of.)
 */
#include "serve/peer/peer_int.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <unistd.h>

#include "sys/fs.h"

#define MS UINT64_C(1000000)
#define PENDING_MAX (256u << 10)
#define STACK (256u << 10)

/* ---- requests ---- */

static void
tell_failed(struct wr_peerd *p, uint32_t id, const struct wr_err *err)
{
	struct wr_peer_msg m = WR_PEER_MSG_INIT;

	m.type = WR_PEER_FAILED;
	m.id = id;
	m.code = err->code;
	m.text = wr_peerd_text(err->msg, sizeof(err->msg) - 1);
	m.hint = wr_peerd_text(err->hint, sizeof(err->hint) - 1);
	wr_peerd_tell(p, &m);
}

/* Unlink the request at *at and free it. */
static void
drop_req(struct wr_pconn *c, struct wr_preq **at)
{
	struct wr_preq *r = *at;

	*at = r->next;
	if (!r->next)
		c->reqs_tail = at;
	c->req_count--;
	c->p->req_count--;
	c->p->req_bytes -= r->envelope.len;
	wr_buf_fini(&r->envelope);
	free(r);
}

void
wr_ours_fail_all(struct wr_pconn *c, const struct wr_err *err)
{
	struct wr_err e = WR_ERR_INIT;

	if (err)
		e = *err;
	else
		wr_err_set(&e, WR_E_FAILED, "'%s' has closed the connection", WR_Q(c->address));
	while (c->reqs) {
		if (!c->reqs->told)
			tell_failed(c->p, c->reqs->id, &e);
		drop_req(c, &c->reqs);
	}
	c->asked = 0;
}

void
wr_ours_expire(struct wr_pconn *c)
{
	struct wr_preq **at = &c->reqs;
	struct wr_err err = WR_ERR_INIT;

	wr_err_set(&err, WR_E_SYS, "'%s' gave no answer in time", WR_Q(c->address));
	for (size_t i = 0; *at;) {
		struct wr_preq *r = *at;

		if (r->told || c->p->now_ns < r->deadline_ns) {
			at = &r->next;
			i++;
			continue;
		}
		tell_failed(c->p, r->id, &err);
		if (i >= c->asked) {
			drop_req(c, at);
			continue;
		}
		/* Its answer may still come and must not pass for another's. Whether anybody is
		 * there is doubtful, so the next ones go elsewhere. */
		r->told = true;
		c->retired = true;
		at = &r->next;
		i++;
	}
	if (c->retired && !c->reqs && c->state == WR_PCONN_OPEN)
		wr_pconn_kill(c, NULL);
}

void
wr_ours_retire(struct wr_peerd *p)
{
	for (struct wr_pconn *c = p->conns, *next; c; c = next) {
		next = c->next;
		if (!c->ours)
			continue;
		c->retired = true;
		if (!c->reqs)
			wr_pconn_kill(c, NULL);
	}
}

/* ---- where to ---- */

struct lookup {
	char address[264];
	uint64_t deadline_ns;
	uint32_t conn;
	int pipe;
	int rc;
	struct wr_addr addr[WR_ADDRS_MAX];
	size_t count;
	struct wr_err err;
};

static void *
look_up(void *arg)
{
	struct lookup *l = arg;

	l->rc = wr_addr_resolve(l->address, l->deadline_ns, l->addr, &l->count, &l->err);
	/* There is room for all that may be on their way. */
	(void)wr_write_all(l->pipe, &l, sizeof(l));
	return NULL;
}

static bool
start_lookup(struct wr_pconn *c)
{
	struct lookup *l = wr_calloc(1, sizeof(*l));
	pthread_attr_t a;
	pthread_t t;
	int rc;

	memcpy(l->address, c->address, sizeof(l->address));
	l->deadline_ns = c->since_ns + c->p->opts.connect_ms * MS;
	l->conn = c->id;
	l->pipe = c->p->found[1];
	wr_assert(pthread_attr_init(&a) == 0);
	(void)pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
	(void)pthread_attr_setstacksize(&a, STACK);
	rc = pthread_create(&t, &a, look_up, l);
	pthread_attr_destroy(&a);
	if (rc != 0) {
		free(l);
		return false;
	}
	c->looking = true;
	c->p->lookups++;
	return true;
}

/* Those that wait for one of the threads, as long as there are some. What cannot be started now is
 * tried again when another ends, or fails by its deadline. */
static void
start_lookups(struct wr_peerd *p)
{
	for (struct wr_pconn *c = p->conns; c && p->lookups < WR_PEER_LOOKUPS; c = c->next)
		if (c->state == WR_PCONN_RESOLVE && !c->looking && !start_lookup(c))
			return;
}

void
wr_ours_found(struct wr_peerd *p)
{
	struct lookup *l;

	while (read(p->found[0], &l, sizeof(l)) == sizeof(l)) {
		struct wr_pconn *c = wr_pconn_find(p, l->conn);

		p->lookups--;
		if (c && c->state == WR_PCONN_RESOLVE && l->rc < 0) {
			wr_pconn_kill(c, &l->err);
		} else if (c && c->state == WR_PCONN_RESOLVE) {
			memcpy(c->addr, l->addr, sizeof(c->addr));
			c->addr_count = l->count;
			wr_ours_next(c, NULL);
			wr_pconn_step(c);
		}
		free(l);
	}
	start_lookups(p);
}

static bool
is_numeric(const char *host)
{
	struct in6_addr a;

	return inet_pton(AF_INET, host, &a) == 1 || inet_pton(AF_INET6, host, &a) == 1;
}

void
wr_ours_next(struct wr_pconn *c, const struct wr_err *err)
{
	const struct wr_link_peer peer = {.node = &c->node};
	struct wr_err e = WR_ERR_INIT;
	uint64_t end = c->since_ns + c->p->opts.connect_ms * MS, now = c->p->now_ns;

	if (err)
		e = *err;
	else
		wr_err_set(&e, WR_E_NOT_FOUND, "'%s' has no address", WR_Q(c->address));
	if (c->link)
		wr_peerd_watch(c->p, &c->on_link, wr_link_fd(c->link), 0);
	wr_link_close(c->link);
	c->link = NULL;
	while (c->addr_next < c->addr_count && now < end) {
		size_t i = c->addr_next++;

		/* Each gets its share of what is left. */
		c->try_ns = now + (end - now) / (c->addr_count - i);
		c->state = WR_PCONN_GREET;
		if (wr_link_begin(c->p->tls, &c->addr[i], &peer, &c->link, &e) == 0)
			return;
	}
	wr_pconn_kill(c, &e);
}

static void
begin(struct wr_pconn *c)
{
	struct wr_err err = WR_ERR_INIT;
	char host[256];
	uint16_t port;

	c->state = WR_PCONN_RESOLVE;
	if (wr_addr_parse(c->address, host, &port, &err) < 0) {
		wr_pconn_kill(c, &err);
		return;
	}
	if (!is_numeric(host)) {
		start_lookups(c->p);
		wr_peerd_arm(c->p, wr_pconn_deadline(c));
		return;
	}
	if (wr_addr_resolve(c->address, c->p->now_ns, c->addr, &c->addr_count, &err) < 0) {
		wr_pconn_kill(c, &err);
		return;
	}
	wr_ours_next(c, NULL);
	wr_pconn_step(c);
}

/* ---- the pool ---- */

/* The one without use for longest. */
static bool
close_idle(struct wr_peerd *p)
{
	struct wr_pconn *oldest = NULL;

	for (struct wr_pconn *c = p->conns; c; c = c->next)
		if (c->ours && c->state == WR_PCONN_OPEN && !c->reqs &&
		    (!oldest || c->moved_ns < oldest->moved_ns))
			oldest = c;
	if (oldest)
		wr_pconn_kill(oldest, NULL);
	return oldest != NULL;
}

/* One that is free, else a new one, else the one with the least to do. NULL: there is none. */
static struct wr_pconn *
pick(struct wr_peerd *p, const struct wr_peer_msg *m, bool *out_new)
{
	struct wr_pconn *best = NULL, *c;
	size_t count = 0;

	*out_new = false;
	for (c = p->conns; c; c = c->next) {
		if (!c->ours || c->retired || !wr_node_id_eq(&c->node, &m->node) ||
		    strcmp(c->address, m->address) != 0)
			continue;
		count++;
		if (!best || c->req_count < best->req_count)
			best = c;
	}
	if (best && (!best->req_count || count >= WR_PEER_OURS_NODE))
		return best;
	if (p->ours >= WR_PEER_OURS && !close_idle(p))
		return best;
	*out_new = true;
	c = wr_pconn_new(p, true);
	snprintf(c->address, sizeof(c->address), "%s", m->address);
	c->node = m->node;
	return c;
}

static int
may_send(const struct wr_peerd *p, size_t len, struct wr_err *err)
{
	if (!p->have_setup)
		return wr_err_set(err, WR_E_FAILED, "this node's keys are not set up yet");
	if (p->quitting)
		return wr_err_set(err, WR_E_CANCELLED, "the node's service ends");
	if (p->req_count >= WR_PEER_REQS || p->req_bytes + len > WR_PEER_REQ_BYTES)
		return wr_err_set(err, WR_E_LIMIT, "%zu messages (%zu MiB) wait already",
				  p->req_count, p->req_bytes >> 20);
	return 0;
}

void
wr_ours_send(struct wr_peerd *p, struct wr_peer_msg *m)
{
	struct wr_err err = WR_ERR_INIT;
	struct wr_pconn *c = NULL;
	struct wr_preq *r;
	bool fresh = false;

	if (may_send(p, m->payload.len, &err) == 0) {
		c = pick(p, m, &fresh);
		if (!c)
			wr_err_set(&err, WR_E_LIMIT, "there are %u connections already",
				   WR_PEER_OURS);
	}
	if (!c) {
		tell_failed(p, m->id, &err);
		return;
	}
	r = wr_calloc(1, sizeof(*r));
	r->id = m->id;
	r->deadline_ns = p->now_ns + m->timeout_ms * MS;
	r->envelope = m->payload;
	m->payload = (struct wr_buf)WR_BUF_INIT;
	*c->reqs_tail = r;
	c->reqs_tail = &r->next;
	c->req_count++;
	p->req_count++;
	p->req_bytes += r->envelope.len;
	wr_peerd_arm(p, r->deadline_ns);
	if (fresh)
		begin(c);
	else
		wr_pconn_step(c);
}

/* ---- calls ---- */

static bool
put_requests(struct wr_pconn *c)
{
	struct wr_preq *r = c->reqs;
	bool did = false;

	for (size_t i = 0; r && i < c->asked; i++)
		r = r->next;
	for (; r && c->asked < WR_PEER_CALLS && wr_pconn_pending(c) < PENDING_MAX; r = r->next) {
		wr_frame_add(&c->out, WR_FRAME_MSG, r->envelope.p, r->envelope.len);
		c->p->req_bytes -= r->envelope.len;
		wr_buf_fini(&r->envelope);
		c->asked++;
		did = true;
	}
	return did;
}

/* False: killed for that. */
static bool
take_answer(struct wr_pconn *c, const struct wr_frame *f)
{
	struct wr_peer_msg m = WR_PEER_MSG_INIT;
	struct wr_err err = WR_ERR_INIT;

	if (f->type != WR_FRAME_MSG_REPLY || !f->len || !c->asked) {
		wr_err_set(&err, WR_E_INVALID, "'%s' says what does not belong here",
			   WR_Q(c->address));
		wr_pconn_kill(c, &err);
		return false;
	}
	c->asked--;
	if (!c->reqs->told) {
		m.type = WR_PEER_ANSWER;
		m.id = c->reqs->id;
		wr_buf_add(&m.payload, f->p, f->len);
		wr_peerd_tell(c->p, &m);
	}
	drop_req(c, &c->reqs);
	return true;
}

bool
wr_ours_step(struct wr_pconn *c)
{
	struct wr_frame f;
	bool did = put_requests(c);
	size_t used;
	int rc;

	if (!wr_pconn_push(c) && c->state == WR_PCONN_DEAD)
		return false;
	while (!c->p->queue_count) {
		rc = wr_pconn_frame(c, &f, &used);
		if (rc < 0 || (rc > 0 && !take_answer(c, &f)))
			return false;
		if (rc == 0)
			break;
		wr_pconn_taken(c, used);
		did = true;
	}
	if (c->retired && !c->reqs) {
		wr_pconn_kill(c, NULL);
		return false;
	}
	if (!c->p->queue_count && wr_pconn_pull(c))
		did = true;
	return did && c->state != WR_PCONN_DEAD;
}

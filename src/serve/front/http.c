/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a request inside libmicrohttpd; phases are in front_int.h. */
#include "serve/front/front_int.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/str.h"
#include "sys/clock.h"

/* LIMITs: what we read of a refused body before we hang up; memory per connection, which bounds the
 * request line and headers; read from a pipe at once. */
#define DRAIN_MAX (8u << 20)
#define CONN_MEMORY (64u << 10)
#define PIPE_READ (16u << 10)

/* ---- deadlines of connections from a network ---- */

static void
set_deadline(const struct wr_front *f, struct wr_conn *c, unsigned seconds)
{
	if (f->cert)
		c->deadline_ns = seconds ? wr_clock_mono_ns() + seconds * UINT64_C(1000000000) : 0;
}

void
wr_http_deadlines(struct wr_front *f, uint64_t now_ns, uint64_t *out_next_ns)
{
	*out_next_ns = UINT64_MAX;
	for (struct wr_conn *c = f->conns; c; c = c->next) {
		if (!c->deadline_ns)
			continue;
		if (c->deadline_ns <= now_ns) {
			/* The library sees the end of it and lets go. */
			c->deadline_ns = 0;
			(void)shutdown(c->fd, SHUT_RDWR);
		} else {
			*out_next_ns = WR_MIN(*out_next_ns, c->deadline_ns);
		}
	}
}

/* ---- requests ---- */

static void
drop_body(struct wr_req *r)
{
	r->front->bodies -= r->body.len;
	wr_buf_fini(&r->body);
}

static void
close_pipe(struct wr_req *r)
{
	if (r->pipe < 0)
		return;
	wr_front_unwatch(r->front, r->pipe);
	close(r->pipe);
	r->pipe = -1;
}

/* Control need not go on for this request. */
static void
abort_call(struct wr_req *r)
{
	struct wr_ipc m = WR_IPC_INIT;

	if (!r->owed)
		return;
	r->owed = false;
	m.type = WR_IPC_ABORT;
	m.seq = r->seq;
	(void)wr_front_send(r->front, &m, NULL); /* too long it is not */
}

static void *
request_new(void *cls, const char *uri, struct MHD_Connection *mhd)
{
	struct wr_front *f = cls;
	struct wr_req *r = wr_calloc(1, sizeof(*r));

	r->front = f;
	r->mhd = mhd;
	r->phase = WR_REQ_BODY;
	r->target = wr_strdup(uri);
	r->answer = (struct wr_answer)WR_ANSWER_INIT;
	r->pipe = -1;
	r->on_pipe = (struct wr_watch){WR_WATCH_PIPE, r};
	r->on_client = (struct wr_watch){WR_WATCH_CLIENT, r};
	r->next = f->reqs;
	if (r->next)
		r->next->prev = r;
	f->reqs = r;
	return r;
}

static void
request_end(void *cls, struct MHD_Connection *mhd, void **ctx, enum MHD_RequestTerminationCode toe)
{
	struct wr_front *f = cls;
	struct wr_req *r = *ctx;

	(void)mhd;
	(void)toe;
	if (!r)
		return;
	*ctx = NULL;
	if (r->conn)
		set_deadline(f, r->conn, WR_NEXT_S);
	abort_call(r);
	close_pipe(r);
	drop_body(r);
	wr_call_fini(&r->call);
	wr_answer_fini(&r->answer);
	free(r->target);
	free(r->type);
	free(r->error);
	if (r->next)
		r->next->prev = r->prev;
	if (r->prev)
		r->prev->next = r->next;
	else
		f->reqs = r->next;
	free(r);
}

static void
suspend(struct wr_req *r)
{
	wr_mhd.MHD_suspend_connection(r->mhd);
	r->suspended = true;
	/* The library does not look at it now; hang-up is told without being asked for, and comes
	 * only when both directions are closed: a client may stop sending and still listen. TCP
	 * does not tell of the other direction before one writes, and with TLS nobody closes but
	 * one. */
	wr_front_watch(r->front, r->conn->fd, &r->on_client,
		       r->front->cert ? (uint32_t)EPOLLRDHUP : 0);
}

static void
resume(struct wr_req *r)
{
	if (!r->suspended)
		return;
	r->suspended = false;
	wr_front_unwatch(r->front, r->conn->fd);
	wr_mhd.MHD_resume_connection(r->mhd);
}

/* The answer is in r->answer. */
static void
ready(struct wr_req *r)
{
	r->phase = WR_REQ_READY;
	resume(r);
}

static void
ready_error(struct wr_req *r, unsigned status, const struct wr_err *err)
{
	close_pipe(r);
	wr_answer_error(&r->answer, status, err);
	ready(r);
}

/* ---- long streams ---- */

static void
add_footers(struct wr_req *r)
{
	struct wr_answer end = WR_ANSWER_INIT;
	char number[16];

	wr_answer_end(&end, r->exit, r->error, r->error_len);
	snprintf(number, sizeof(number), "%d", end.exit);
	(void)wr_mhd.MHD_add_response_footer(r->flow, "Warren-Exit", number);
	if (end.error) {
		WR_SCOPED(wr_freep) char *text = wr_answer_header(end.error);

		(void)wr_mhd.MHD_add_response_footer(r->flow, "Warren-Error", text);
	}
	wr_answer_fini(&end);
}

static ssize_t
flow_read(void *cls, uint64_t pos, char *out, size_t max)
{
	struct wr_req *r = cls;
	ssize_t n;

	(void)pos;
	if (r->gone)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (r->sent < r->answer.body.len) {
		size_t len = WR_MIN(max, r->answer.body.len - r->sent);

		memcpy(out, r->answer.body.p + r->sent, len);
		r->sent += len;
		return (ssize_t)len;
	}
	wr_buf_fini(&r->answer.body);
	r->sent = 0;
	while (r->pipe >= 0) {
		n = read(r->pipe, out, max);
		if (n > 0)
			return n;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			wr_front_watch(r->front, r->pipe, &r->on_pipe, EPOLLIN);
			suspend(r);
			return 0;
		}
		if (n < 0)
			return MHD_CONTENT_READER_END_WITH_ERROR;
		close_pipe(r);
	}
	if (!r->ended) {
		suspend(r);
		return 0;
	}
	add_footers(r);
	return MHD_CONTENT_READER_END_OF_STREAM;
}

static enum MHD_Result
queue_flow(struct wr_req *r)
{
	enum MHD_Result rc;

	r->phase = WR_REQ_FLOW;
	r->flow = wr_mhd.MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, PIPE_READ, flow_read,
							   r, NULL);
	if (!r->flow)
		return MHD_NO;
	(void)wr_mhd.MHD_add_response_header(r->flow, "Content-Type", r->type);
	(void)wr_mhd.MHD_add_response_header(r->flow, "X-Content-Type-Options", "nosniff");
	(void)wr_mhd.MHD_add_response_header(r->flow, "Trailer", "Warren-Exit, Warren-Error");
	rc = wr_mhd.MHD_queue_response(r->mhd, MHD_HTTP_OK, r->flow);
	/* The connection has a reference of its own until the body is out. */
	wr_mhd.MHD_destroy_response(r->flow);
	return rc;
}

/* All of a short stream is here. */
static void
collected(struct wr_req *r)
{
	r->answer.type = r->type;
	wr_answer_end(&r->answer, r->exit, r->error, r->error_len);
	ready(r);
}

/* Take what the pipe has, until it is known whether the stream is a short one. */
static void
collect(struct wr_req *r)
{
	struct wr_buf *b = &r->answer.body;
	struct wr_err err = WR_ERR_INIT;

	while (b->len <= WR_COLLECT_MAX) {
		ssize_t n;

		wr_buf_reserve(b, PIPE_READ);
		n = read(r->pipe, b->p + b->len, PIPE_READ);
		if (n > 0) {
			b->len += (size_t)n;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			wr_err_sys(&err, "read the answer");
			abort_call(r);
			ready_error(r, 500, &err);
			return;
		}
		close_pipe(r);
		if (r->ended)
			collected(r);
		return;
	}
	wr_front_unwatch(r->front, r->pipe);
	ready(r);
}

/* ---- answers ---- */

static enum MHD_Result
queue_answer(struct wr_req *r)
{
	struct MHD_Response *response;
	enum MHD_Result rc;

	/* More than an answer at once can hold, or it would have ended. */
	if (r->type && r->answer.status == 0)
		return queue_flow(r);
	response = wr_answer_response(&r->answer);
	r->phase = WR_REQ_SENT;
	if (!response)
		return MHD_NO;
	rc = wr_mhd.MHD_queue_response(r->mhd, r->answer.status, response);
	wr_mhd.MHD_destroy_response(response);
	return rc;
}

static enum MHD_Result
queue_refusal(struct wr_req *r)
{
	wr_answer_refusal(&r->answer, &r->refused);
	return queue_answer(r);
}

static void
refuse(struct wr_req *r, unsigned status, enum wr_err_code code, const char *msg, const char *hint)
{
	r->refused.status = status;
	wr_err_set(&r->refused.err, code, "%s", msg);
	wr_err_hint(&r->refused.err, "%s", hint);
}

/* Which request an answer of control's is for. */
static struct wr_req *
find(const struct wr_front *f, uint32_t seq)
{
	struct wr_req *r = f->reqs;

	while (r && !(r->owed && r->seq == seq))
		r = r->next;
	return r;
}

static void
take_stream(struct wr_req *r, struct wr_ipc *m)
{
	int flags = fcntl(m->fd, F_GETFL);

	if (r->phase != WR_REQ_WAIT || flags < 0 || fcntl(m->fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return;
	r->type = wr_steal(&m->text);
	r->pipe = m->fd;
	m->fd = -1;
	r->phase = WR_REQ_COLLECT;
	wr_front_watch(r->front, r->pipe, &r->on_pipe, EPOLLIN);
}

static void
take_end(struct wr_req *r, struct wr_ipc *m)
{
	r->owed = false;
	r->ended = true;
	r->exit = m->exit;
	r->error_len = m->text_len;
	free(r->error);
	r->error = wr_steal(&m->text);
	if (r->phase == WR_REQ_WAIT || (r->phase == WR_REQ_COLLECT && r->pipe < 0))
		collected(r);
	else if (r->phase == WR_REQ_FLOW && r->pipe < 0)
		resume(r);
}

static void
take_reply(struct wr_req *r, struct wr_ipc *m)
{
	/* Not after a stream has begun. */
	if (r->phase != WR_REQ_WAIT)
		return;
	r->owed = false;
	r->answer.status = m->status;
	r->answer.exit = m->exit;
	r->answer.fd = m->fd;
	m->fd = -1;
	r->answer.body = (struct wr_buf){(uint8_t *)m->text, m->text_len, m->text_len + 1};
	m->text = NULL;
	ready(r);
}

void
wr_http_answer(struct wr_front *f, struct wr_ipc *m)
{
	struct wr_req *r = find(f, m->seq);

	/* Whoever asked may be gone meanwhile. */
	if (!r)
		return;
	if (m->type == WR_IPC_REPLY)
		take_reply(r, m);
	else if (m->type == WR_IPC_STREAM)
		take_stream(r, m);
	else if (m->type == WR_IPC_END)
		take_end(r, m);
}

void
wr_http_readable(struct wr_req *r)
{
	if (r->phase == WR_REQ_COLLECT) {
		collect(r);
	} else if (r->phase == WR_REQ_FLOW) {
		wr_front_unwatch(r->front, r->pipe);
		resume(r);
	}
}

/* Nobody reads the answer, but the library wants one before it lets go. */
void
wr_http_client_gone(struct wr_req *r)
{
	struct wr_err err = WR_ERR_INIT;

	r->gone = true;
	abort_call(r);
	if (r->phase == WR_REQ_WAIT || r->phase == WR_REQ_COLLECT) {
		wr_err_set(&err, WR_E_CANCELLED, "the client went away");
		ready_error(r, wr_http_status(err.code), &err);
	} else {
		resume(r);
	}
}

void
wr_http_give_up(struct wr_front *f)
{
	struct wr_err err = WR_ERR_INIT;

	wr_err_set(&err, WR_E_FAILED, "the daemon ended before it answered");
	wr_err_hint(&err, "try again in a moment");
	for (struct wr_req *r = f->reqs; r; r = r->next) {
		if (f->control_gone)
			r->owed = false;
		abort_call(r);
		if (r->phase == WR_REQ_WAIT || r->phase == WR_REQ_COLLECT) {
			ready_error(r, 503, &err);
		} else if (!r->ended) {
			r->gone = true;
			resume(r);
		}
	}
}

/* ---- requests come in ---- */

static const char *
header(const struct wr_req *r, const char *name)
{
	return wr_mhd.MHD_lookup_connection_value(r->mhd, MHD_HEADER_KIND, name);
}

static void
refuse_long(struct wr_req *r)
{
	char text[64];

	snprintf(text, sizeof(text), "the body is longer than %u bytes", WR_BODY_MAX);
	refuse(r, 413, WR_E_LIMIT, text, "");
}

/* The headers are here. */
static enum MHD_Result
begin(struct wr_req *r, const char *method)
{
	const union MHD_ConnectionInfo *info =
	    wr_mhd.MHD_get_connection_info(r->mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	const char *length = header(r, MHD_HTTP_HEADER_CONTENT_LENGTH);
	uint64_t len = 0;

	if (!info || !info->socket_context)
		return MHD_NO;
	r->conn = info->socket_context;
	set_deadline(r->front, r->conn, WR_BODY_S);
	if (length && (wr_parse_u64(length, &len, NULL) < 0 || len > WR_BODY_MAX)) {
		/* Answered without reading it; the library closes the connection then. */
		refuse_long(r);
		return queue_refusal(r);
	}
	(void)wr_request_target(method, r->target, &r->call, &r->refused);
	return MHD_YES;
}

static enum MHD_Result
more(struct wr_req *r, const char *p, size_t len)
{
	struct wr_front *f = r->front;

	r->body_seen += len;
	if (r->body_seen > WR_BODY_MAX && r->refused.status != 413)
		refuse_long(r);
	else if (!r->refused.status && len > WR_BODIES_MAX - f->bodies)
		refuse(r, 503, WR_E_BUSY, "too many long requests at once", "try again later");
	if (r->refused.status) {
		/* Read to its end, so that the client gets to reading why. */
		drop_body(r);
		return r->body_seen > DRAIN_MAX ? MHD_NO : MHD_YES;
	}
	wr_buf_add(&r->body, p, len);
	f->bodies += len;
	return MHD_YES;
}

/* All of the request is here: ask control. */
static enum MHD_Result
submit(struct wr_req *r)
{
	struct wr_front *f = r->front;
	struct wr_ipc m = WR_IPC_INIT;
	int rc;

	set_deadline(f, r->conn, 0);
	if (r->refused.status)
		return queue_refusal(r);
	if (f->quitting) {
		refuse(r, 503, WR_E_FAILED, "the daemon is ending", "try again in a moment");
		return queue_refusal(r);
	}
	rc = wr_request_body(&r->call, header(r, MHD_HTTP_HEADER_CONTENT_TYPE), r->body.p,
			     r->body.len, &r->refused);
	drop_body(r);
	if (rc < 0 || wr_request_token(header(r, MHD_HTTP_HEADER_AUTHORIZATION), m.token,
				       sizeof(m.token), &r->refused) < 0)
		return queue_refusal(r);
	m.type = WR_IPC_CALL;
	m.conn = r->conn->id;
	m.seq = ++f->last_seq;
	m.call = r->call; /* lent */
	if (wr_front_send(f, &m, &r->refused.err) < 0) {
		r->refused.status = wr_http_status(r->refused.err.code);
		return queue_refusal(r);
	}
	wr_call_fini(&r->call);
	r->seq = m.seq;
	r->owed = true;
	r->phase = WR_REQ_WAIT;
	suspend(r);
	return MHD_YES;
}

/* The library calls at the headers, for each piece of the body, at its end, and after a resume. */
static enum MHD_Result
on_request(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
	   const char *version, const char *data, size_t *size, void **ctx)
{
	struct wr_req *r = *ctx;

	(void)cls;
	(void)mhd;
	(void)url;
	(void)version;
	if (!r)
		return MHD_NO;
	if (r->phase == WR_REQ_READY)
		return queue_answer(r);
	if (r->phase != WR_REQ_BODY)
		return MHD_YES;
	if (!r->conn)
		return begin(r, method);
	if (*size) {
		size_t len = *size;

		*size = 0;
		return more(r, data, len);
	}
	return submit(r);
}

/* ---- connections ---- */

static void
conn_end(struct wr_front *f, struct wr_conn *c)
{
	struct wr_ipc m = WR_IPC_INIT;

	m.type = WR_IPC_CLOSED;
	m.conn = c->id;
	(void)wr_front_send(f, &m, NULL); /* too long it is not */
	f->conn_count--;
	if (c->next)
		c->next->prev = c->prev;
	if (c->prev)
		c->prev->next = c->next;
	else if (f->conns == c)
		f->conns = c->next;
	free(c);
}

static void
on_connection(void *cls, struct MHD_Connection *mhd, void **ctx,
	      enum MHD_ConnectionNotificationCode toe)
{
	struct wr_front *f = cls;

	(void)mhd;
	if (toe == MHD_CONNECTION_NOTIFY_STARTED) {
		struct wr_conn *c = wr_steal(&f->arriving);

		*ctx = c;
		c->next = f->conns;
		if (c->next)
			c->next->prev = c;
		f->conns = c;
	} else if (*ctx) {
		conn_end(f, *ctx);
		*ctx = NULL;
	}
}

/* One connection too many: say so, as far as that goes without waiting. */
static void
turn_away(int fd)
{
	static const char body[] =
	    "{\"schema\":\"warren.error/1\",\"error\":{\"code\":\"busy\",\"message\":\"too many "
	    "connections at once\",\"hint\":\"close some, or try again later\"}}";
	char text[512];
	int n = snprintf(text, sizeof(text),
			 "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
			 "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
			 sizeof(body) - 1, body);
	ssize_t ignored WR_UNUSED = send(fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void
wr_http_adopt(struct wr_front *f, int fd, uint32_t id)
{
	/* The library wants to know of what kind the socket is, and nothing else. */
	struct sockaddr_un local = {.sun_family = AF_UNIX};
	struct sockaddr_in remote = {.sin_family = AF_INET};
	struct sockaddr *addr = f->cert ? (struct sockaddr *)&remote : (struct sockaddr *)&local;
	socklen_t len = f->cert ? sizeof(remote) : sizeof(local.sun_family);
	struct wr_conn *c = wr_calloc(1, sizeof(*c));

	c->id = id;
	c->fd = fd;
	set_deadline(f, c, WR_HEAD_S);
	f->conn_count++;
	if (f->conn_count > WR_CONNS_MAX || f->quitting) {
		if (!f->cert)
			turn_away(fd);
		close(fd);
		conn_end(f, c);
		return;
	}
	f->arriving = c;
	/* On failure the library has closed the socket, with or without on_connection before. */
	(void)wr_mhd.MHD_add_connection(f->daemon, fd, addr, len);
	if (f->arriving)
		conn_end(f, wr_steal(&f->arriving));
}

/* ---- the library ---- */

static char priorities[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:%NO_TICKETS";

int
wr_http_start(struct wr_front *f, unsigned idle_s, struct wr_err *err)
{
	/* Nothing older than TLS 1.3, no tickets: each connection shows that it has the key. */
	struct MHD_OptionItem tls[] = {
	    {MHD_OPTION_HTTPS_MEM_KEY, 0, f->key},
	    {MHD_OPTION_HTTPS_MEM_CERT, 0, f->cert},
	    {MHD_OPTION_HTTPS_PRIORITIES, 0, priorities},
	    {MHD_OPTION_END, 0, NULL},
	};
	const union MHD_DaemonInfo *info;

	if (wr_mhd_load(err) < 0)
		return -1;
	f->daemon = wr_mhd.MHD_start_daemon(
	    MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME |
		(f->cert ? (unsigned)MHD_USE_TLS : 0),
	    0, NULL, NULL, on_request, f, MHD_OPTION_ARRAY, f->cert ? tls : tls + 3,
	    MHD_OPTION_NOTIFY_COMPLETED, request_end, f, MHD_OPTION_NOTIFY_CONNECTION,
	    on_connection, f, MHD_OPTION_URI_LOG_CALLBACK, request_new, f,
	    MHD_OPTION_CONNECTION_LIMIT, (unsigned)WR_CONNS_MAX + 1, MHD_OPTION_CONNECTION_TIMEOUT,
	    idle_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONN_MEMORY,
	    MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
	if (!f->daemon && f->cert)
		return wr_err_set(err, WR_E_FAILED,
				  "start the HTTP library with the node's certificate");
	if (!f->daemon)
		return wr_err_set(err, WR_E_FAILED, "start the HTTP library");
	info = wr_mhd.MHD_get_daemon_info(f->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	if (!info)
		return wr_err_set(err, WR_E_FAILED, "the HTTP library has no epoll descriptor");
	f->on_http = (struct wr_watch){WR_WATCH_HTTP, NULL};
	wr_front_watch(f, info->epoll_fd, &f->on_http, EPOLLIN);
	return 0;
}

void
wr_http_stop(struct wr_front *f)
{
	if (!f->daemon)
		return;
	/* The library does not end while a connection is suspended. */
	f->quitting = true;
	wr_http_give_up(f);
	for (struct wr_req *r = f->reqs; r; r = r->next) {
		r->gone = true;
		resume(r);
	}
	(void)wr_mhd.MHD_run(f->daemon);
	wr_mhd.MHD_stop_daemon(f->daemon);
	f->daemon = NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections and fronts.  Who connects is what the kernel says at accept; the connection goes to
 * the front of that uid, and whatever comes out of that front has this uid's authority and no
 * other.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "serve/control/control_int.h"
#include "sys/clock.h"
#include "sys/fs.h"
#include "sys/sandbox.h"

/* A message that its front has not taken yet. */
struct out {
	struct wr_ipc msg;
	struct out *next;
};

struct conn {
	uint32_t id;
	struct wr_from from; /* of nobody's */
};

struct wr_front {
	struct wr_control *c;
	uid_t uid;
	bool nobody;   /* of connections from a network; uid says nothing */
	uint64_t cert; /* which certificate it shows (wr_net.cert) */
	int sock;
	struct wr_watch watch;
	struct wr_child child;
	bool quitting; /* told to end */
	bool lost;     /* ended, or misbehaved: nothing more is taken from it */
	struct wr_timer doom;
	struct conn conn[WR_CONNS_MAX];
	size_t conn_count;
	struct wr_req *reqs;
	size_t req_count;
	struct out *out_first, *out_last;
	size_t out_bytes;
	uint64_t idle_ns; /* since when without connections */
	struct wr_front *prev, *next;
};

uid_t
wr_front_uid(const struct wr_front *f)
{
	return f->uid;
}

bool
wr_front_is_nobody(const struct wr_front *f)
{
	return f->nobody;
}

/* ---- requests ---- */

static void
req_free(struct wr_req *q)
{
	struct wr_front *f = q->front;

	wr_call_forget(q);
	*(q->prev ? &q->prev->next : &f->reqs) = q->next;
	if (q->next)
		q->next->prev = q->prev;
	f->req_count--;
	wr_call_fini(&q->call);
	wr_proj_row_fini(&q->row);
	free(q);
}

static void
front_clear(struct wr_front *f)
{
	wr_timer_off(&f->c->loop, &f->doom);
	while (f->reqs)
		req_free(f->reqs);
	while (f->out_first) {
		struct out *o = f->out_first;

		f->out_first = o->next;
		wr_ipc_fini(&o->msg);
		free(o);
	}
	f->out_last = NULL;
}

static void
on_doom(struct wr_timer *t)
{
	front_clear(WR_OWNER(t, struct wr_front, doom));
}

/* Nothing more goes to it or comes from it.  Its requests go later, from the loop: one of them may
 * be in work right now. */
static void
front_end(struct wr_front *f, const char *why)
{
	char who[32];

	if (f->lost)
		return;
	f->lost = true;
	wr_watch_off(&f->c->loop, &f->watch);
	wr_closep(&f->sock);
	f->conn_count = 0;
	if (why) {
		if (f->nobody)
			snprintf(who, sizeof(who), "front of the HTTPS API");
		else
			snprintf(who, sizeof(who), "uid %u", (unsigned)f->uid);
		wr_event(f->c, who, NULL, "front.ended", why, NULL);
	}
	wr_child_kill(&f->child);
	wr_timer_on(&f->c->loop, &f->doom, 0, on_doom);
}

/* Send what waits, in order. */
static void
front_flush(struct wr_front *f)
{
	struct wr_err err = WR_ERR_INIT;

	while (f->out_first) {
		struct out *o = f->out_first;
		int rc = wr_ipc_send(f->sock, &o->msg, &err);

		if (rc < 0) {
			front_end(f, f->quitting ? NULL : err.msg);
			return;
		}
		if (rc == 0)
			break;
		f->out_first = o->next;
		if (!o->next)
			f->out_last = NULL;
		f->out_bytes -= o->msg.text_len;
		wr_ipc_fini(&o->msg);
		free(o);
	}
	/* Who does not take answers is not heard either. */
	wr_watch_change(&f->c->loop, &f->watch, f->out_first ? EPOLLOUT : EPOLLIN);
}

/* The message's text and descriptor are taken. */
static void
front_send(struct wr_front *f, struct wr_ipc *m)
{
	struct out *o;

	if (f->lost) {
		wr_ipc_fini(m);
		return;
	}
	o = wr_calloc(1, sizeof(*o));
	o->msg = *m;
	*(f->out_last ? &f->out_last->next : &f->out_first) = o;
	f->out_last = o;
	f->out_bytes += m->text_len;
	if (f->out_bytes > WR_OUT_MAX)
		front_end(f, "it does not take its answers");
	else
		front_flush(f);
}

void
wr_req_reply(struct wr_req *q, unsigned http, int exit, json_t *body)
{
	struct wr_ipc m = WR_IPC_INIT;
	struct wr_buf b = WR_BUF_INIT;
	struct wr_front *f = q->front;

	wr_json_write(body, &b);
	json_decref(body);
	m.type = WR_IPC_REPLY;
	m.seq = q->seq;
	m.status = (uint16_t)http;
	m.exit = (uint8_t)exit;
	m.text = wr_buf_detach(&b, &m.text_len);
	f->c->trim |= m.text_len > WR_ANSWER_LARGE;
	req_free(q);
	front_send(f, &m);
}

int
wr_req_answer(struct wr_req *q, int rc, json_t *body)
{
	if (rc < 0) {
		json_decref(body);
		return -1;
	}
	wr_req_reply(q, 200, 0, body);
	return 0;
}

static unsigned
http_of(enum wr_err_code code)
{
	static const uint16_t http[] = {
#define X(code, name, ex, http, text) http,
	    WR_ERR_TABLE(X)
#undef X
	};

	return (unsigned)code < WR_ARRAY_LEN(http) ? http[code] : 500;
}

void
wr_req_fail_as(struct wr_req *q, unsigned http, const struct wr_err *err)
{
	json_t *o = wr_json_begin("warren.error/1");

	wr_json_err(o, "error", err);
	wr_req_reply(q, http, wr_err_exit(err->code), o);
}

void
wr_req_fail(struct wr_req *q, const struct wr_err *err)
{
	wr_req_fail_as(q, http_of(err->code), err);
}

void
wr_req_stream(struct wr_req *q, const char *type, int pipe_fd)
{
	struct wr_ipc m = WR_IPC_INIT;

	m.type = WR_IPC_STREAM;
	m.seq = q->seq;
	m.text = wr_strdup(type);
	m.text_len = strlen(type);
	m.fd = pipe_fd;
	front_send(q->front, &m);
}

void
wr_req_end(struct wr_req *q, int exit, const struct wr_err *err)
{
	struct wr_ipc m = WR_IPC_INIT;
	struct wr_buf b = WR_BUF_INIT;
	struct wr_front *f = q->front;

	if (err && err->code != WR_E_NONE) {
		WR_SCOPED(wr_json_freep) json_t *o = json_object();

		wr_json_err(o, "error", err);
		wr_json_write(json_object_get(o, "error"), &b);
	}
	m.type = WR_IPC_END;
	m.seq = q->seq;
	m.exit = (uint8_t)exit;
	m.text = wr_buf_detach(&b, &m.text_len);
	req_free(q);
	front_send(f, &m);
}

/* ---- what a front says ---- */

static void
on_call(struct wr_front *f, struct wr_ipc *m)
{
	const struct conn *conn = NULL;
	struct wr_req *q;

	for (size_t i = 0; i < f->conn_count; i++)
		if (f->conn[i].id == m->conn)
			conn = &f->conn[i];
	if (!conn) {
		front_end(f, "it spoke for a connection that it does not have");
		return;
	}
	for (q = f->reqs; q; q = q->next)
		if (q->seq == m->seq) {
			front_end(f, "it used the number of an open request again");
			return;
		}
	if (f->req_count >= WR_REQS_MAX) {
		front_end(f, "it has too many open requests");
		return;
	}
	q = wr_calloc(1, sizeof(*q));
	q->c = f->c;
	q->front = f;
	q->from = conn->from;
	q->seq = m->seq;
	q->call = m->call;
	m->call = (struct wr_call){0};
	q->next = f->reqs;
	if (q->next)
		q->next->prev = q;
	f->reqs = q;
	f->req_count++;
	wr_call_serve(q, m->token);
}

static void
on_closed(struct wr_front *f, uint32_t conn)
{
	for (size_t i = 0; i < f->conn_count; i++)
		if (f->conn[i].id == conn) {
			f->conn[i] = f->conn[--f->conn_count];
			f->idle_ns = wr_clock_mono_ns();
			return;
		}
	front_end(f, "it closed a connection that it does not have");
}

static void
on_message(struct wr_watch *w, uint32_t events)
{
	struct wr_front *f = WR_OWNER(w, struct wr_front, watch);
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_ipc m = WR_IPC_INIT;
	int fds[WR_MSG_FDS], rc;
	size_t fd_count = 0;

	if (events & EPOLLOUT) {
		front_flush(f);
		return;
	}
	rc = wr_msg_recv(f->sock, &b, fds, &fd_count, &err);
	if (rc < 0 && err.code == WR_E_BUSY)
		return;
	if (rc <= 0) {
		front_end(f, f->quitting ? NULL : rc == 0 ? "its channel ended" : err.msg);
		return;
	}
	if (wr_ipc_decode(b.p, b.len, fds, fd_count, true, &m, &err) < 0) {
		wr_err_wrap(&err, "it sent what is no message");
		front_end(f, err.msg);
		return;
	}
	switch (m.type) {
	case WR_IPC_CALL:
		on_call(f, &m);
		break;
	case WR_IPC_CLOSED:
		on_closed(f, m.conn);
		break;
	case WR_IPC_ABORT:
		/* Its answer may be on the way: then the number is unknown here, and that is fine.
		 */
		for (struct wr_req *q = f->reqs; q; q = q->next)
			if (q->seq == m.seq) {
				req_free(q);
				break;
			}
		break;
	default:
		break; /* decode lets nothing else pass */
	}
	wr_ipc_fini(&m);
}

/* ---- fronts ---- */

static void
on_front_ended(struct wr_child *ch, int wait_status)
{
	struct wr_front *f = WR_OWNER(ch, struct wr_front, child);
	WR_SCOPED(wr_freep)
	char *why = wr_asprintf("it ended with status %d", wait_status);

	front_end(f, f->quitting ? NULL : why);
	front_clear(f);
	*(f->prev ? &f->prev->next : &f->c->fronts) = f->next;
	if (f->next)
		f->next->prev = f->prev;
	f->c->front_count--;
	free(f);
}

/* The walls around a front: nobody's user, no files but libraries, no network. */
static void
front_sandbox(struct wr_control *c, struct wr_sandbox *s, int usr_fd, int program_fd)
{
	s->set_ids = c->node->root_mode;
	s->uid = c->node->uid;
	s->gid = c->node->gid;
	s->no_new_privs = true;
	s->no_network = c->node->root_mode;
	s->no_exec_new = true;
	s->max_files = 1024;
	s->path[0].fd = usr_fd;
	s->path[0].access = WR_FS_READ | WR_FS_EXEC;
	s->path_count = 1;
	if (program_fd >= 0) {
		s->path[1].fd = program_fd;
		s->path[1].access = WR_FS_READ | WR_FS_EXEC;
		s->path_count = 2;
	}
}

static pid_t
spawn_front(struct wr_control *c, int sock, int key_fd, struct wr_err *err)
{
	const char *const argv[] = {"warren", "@front", key_fd >= 0 ? "tls" : NULL, NULL};
	struct wr_spawn s = WR_SPAWN_INIT;
	struct wr_sandbox box = {0};
	WR_SCOPED(wr_closep) int usr_fd = open("/usr", O_PATH | O_CLOEXEC);
	WR_SCOPED(wr_closep) int program_fd = -1;
	const char *names = getenv("WARREN_HOSTILE"), *level = getenv("ASAN_OPTIONS");
	WR_SCOPED(wr_freep) char *hostile = wr_asprintf("WARREN_HOSTILE=%s", names ? names : "");
	/* A leak checker traces its process, which the walls forbid. */
	WR_SCOPED(wr_freep)
	char *asan = wr_asprintf("ASAN_OPTIONS=%s:detect_leaks=0", level ? level : "");
	const char *envp[] = {"PATH=/usr/bin:/bin", "LANG=C.UTF-8", asan, NULL, NULL};
	pid_t pid;

	if (usr_fd < 0)
		return wr_err_sys(err, "open '/usr'");
	if (c->front_program) {
		program_fd = open(c->front_program, O_PATH | O_CLOEXEC);
		if (program_fd < 0)
			return wr_err_sys(err, "open '%s'", WR_Q(c->front_program));
		s.path = c->front_program;
		envp[3] = hostile; /* what a test tells the program in a front's place */
	}
	front_sandbox(c, &box, usr_fd, program_fd);
	s.argv = argv;
	s.envp = envp;
	s.fd[2] = STDERR_FILENO;
	s.fd[3] = sock;
	s.fd[4] = key_fd;
	s.fd_count = 5;
	s.new_session = true;
	s.sandbox = &box;
	if (wr_spawn(&s, &pid, err) < 0)
		return wr_err_wrap(err, "start a front");
	return pid;
}

static struct wr_front *
front_start(struct wr_control *c, uid_t uid, bool nobody, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int theirs = -1;
	WR_SCOPED(wr_closep) int key_fd = -1;
	struct wr_front *f;
	int pair[2];
	pid_t pid;

	if (nobody && (key_fd = wr_net_key(c, err)) < 0)
		return NULL;
	if (wr_msg_pair(pair, err) < 0)
		return NULL;
	theirs = pair[1];
	(void)fcntl(pair[0], F_SETFL, O_NONBLOCK); /* a socket of ours: cannot fail */
	pid = spawn_front(c, theirs, key_fd, err);
	if (pid < 0) {
		close(pair[0]);
		return NULL;
	}
	f = wr_calloc(1, sizeof(*f));
	f->c = c;
	f->uid = uid;
	f->nobody = nobody;
	f->cert = c->net.cert;
	f->sock = pair[0];
	f->idle_ns = wr_clock_mono_ns();
	wr_watch_on(&c->loop, &f->watch, f->sock, EPOLLIN, on_message);
	wr_child_on(&c->loop, &f->child, pid, -1, on_front_ended);
	f->next = c->fronts;
	if (f->next)
		f->next->prev = f;
	c->fronts = f;
	c->front_count++;
	return f;
}

/* A front whose certificate was renewed meanwhile serves what it has. */
static bool
takes_more(const struct wr_front *f)
{
	return !f->quitting && !f->lost && (!f->nobody || f->cert == f->c->net.cert);
}

struct wr_front *
wr_front_of_nobody(struct wr_control *c, struct wr_err *err)
{
	for (struct wr_front *f = c->fronts; f; f = f->next)
		if (f->nobody && takes_more(f))
			return f;
	return front_start(c, (uid_t)-2, true, err);
}

struct wr_front *
wr_front_of(struct wr_control *c, uid_t uid, struct wr_err *err)
{
	struct wr_front *f, *idle = NULL;

	for (f = c->fronts; f; f = f->next) {
		if (f->nobody)
			continue;
		if (f->uid == uid && takes_more(f))
			return f;
		if (!f->conn_count && !f->quitting && f->uid != c->self &&
		    (!idle || f->idle_ns < idle->idle_ns))
			idle = f;
	}
	if (c->front_count >= WR_FRONTS_MAX) {
		struct wr_ipc quit = {.type = WR_IPC_QUIT, .fd = -1};

		/* Users together cannot lock out those who could do something about it. */
		if (!idle && !wr_is_admin(c, uid)) {
			wr_err_set(err, WR_E_LIMIT, "%d users are connected already",
				   WR_FRONTS_MAX);
			return NULL;
		}
		if (idle) {
			idle->quitting = true;
			front_send(idle, &quit);
		}
		if (c->front_count >= 2 * WR_FRONTS_MAX) {
			wr_err_set(err, WR_E_LIMIT, "too many fronts are ending");
			return NULL;
		}
	}
	return front_start(c, uid, false, err);
}

size_t
wr_front_conns(const struct wr_front *f, const struct wr_from *from, size_t *out_from)
{
	*out_from = 0;
	for (size_t i = 0; i < f->conn_count; i++)
		*out_from += !memcmp(&f->conn[i].from, from, sizeof(*from));
	return f->conn_count;
}

void
wr_front_give(struct wr_front *f, int fd, const struct wr_from *from)
{
	struct wr_control *c = f->c;
	struct wr_ipc m = WR_IPC_INIT;

	if (f->conn_count >= WR_CONNS_MAX) {
		close(fd);
		return;
	}
	do
		m.conn = ++c->next_conn;
	while (m.conn == 0);
	f->conn[f->conn_count++] = (struct conn){m.conn, from ? *from : (struct wr_from){{0}}};
	m.type = WR_IPC_CONN;
	m.fd = fd;
	front_send(f, &m);
}

void
wr_fronts_quit(struct wr_control *c)
{
	struct wr_front *next;

	for (struct wr_front *f = c->fronts; f; f = next) {
		struct wr_ipc quit = {.type = WR_IPC_QUIT, .fd = -1};

		next = f->next;
		if (f->quitting || f->lost)
			continue;
		f->quitting = true;
		front_send(f, &quit);
	}
}

void
wr_fronts_tick(struct wr_control *c)
{
	uint64_t now = wr_clock_mono_ns(), idle_ns = c->node->config.front_idle * WR_SECOND;

	for (struct wr_front *f = c->fronts; f; f = f->next) {
		struct wr_ipc quit = {.type = WR_IPC_QUIT, .fd = -1};

		if (f->conn_count || f->quitting || f->lost)
			continue;
		/* Our own user's stays, and so does that of the API as long as it is up to date:
		 * they are there before anyone asks. */
		if (f->nobody ? takes_more(f) : f->uid == c->self || now - f->idle_ns < idle_ns)
			continue;
		f->quitting = true;
		front_send(f, &quit);
	}
}

void
wr_fronts_kill(struct wr_control *c)
{
	for (struct wr_front *f = c->fronts; f; f = f->next)
		front_end(f, NULL);
}

void
wr_fronts_answer_waiting(struct wr_control *c)
{
	for (struct wr_front *f = c->fronts; f; f = f->next) {
		struct wr_req *q = f->reqs;

		while (q) {
			struct wr_req *next = q->next;

			if (q->op) {
				struct wr_uuid id = q->op->row.id;

				wr_req_reply_op(q, &id);
			}
			q = next;
		}
	}
}

/* ---- the socket ---- */

static void
listen_again(struct wr_timer *t)
{
	struct wr_control *c = WR_OWNER(t, struct wr_control, listen_again);

	wr_watch_change(&c->loop, &c->listener, EPOLLIN);
}

/* false: there is none. */
static bool
accept_one(struct wr_control *c, int listen_fd)
{
	struct wr_err err = WR_ERR_INIT;
	struct wr_front *f;
	struct wr_peer peer;
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		/* No descriptors: others may give some back; asking again at once would only burn
		 * the processor. */
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			wr_watch_change(&c->loop, &c->listener, 0);
			wr_timer_on(&c->loop, &c->listen_again, WR_SECOND / 5, listen_again);
		}
		return false;
	}
	if (wr_sock_peer(fd, &peer, &err) < 0 || !(f = wr_front_of(c, peer.uid, &err))) {
		wr_log_err(WR_LOG_WARNING, "a connection was refused", &err);
		close(fd);
		return true;
	}
	wr_front_give(f, fd, NULL);
	return true;
}

static void
on_connection(struct wr_watch *w, uint32_t events WR_UNUSED)
{
	accept_one(WR_OWNER(w, struct wr_control, listener), w->fd);
}

int
wr_ctl_listen(struct wr_control *c, struct wr_err *err)
{
	int fd = wr_sock_listen(c->node->socket_path, (mode_t)c->node->config.socket_mode, err);

	if (fd < 0)
		return -1;
	wr_watch_on(&c->loop, &c->listener, fd, EPOLLIN, on_connection);
	return 0;
}

void
wr_ctl_stop_listening(struct wr_control *c)
{
	int fd = c->listener.fd;

	/* Who has connected before the end is still answered. */
	for (int i = 0; fd >= 0 && i < WR_CONNS_MAX && accept_one(c, fd); i++)
		;
	wr_timer_off(&c->loop, &c->listen_again);
	wr_watch_off(&c->loop, &c->listener);
	wr_closep(&fd);
}

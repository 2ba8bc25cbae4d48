/* SPDX-License-Identifier: Apache-2.0 */
/* The loop: channel, listening socket, connections, deadlines; the last walls. */
#include "serve/peer/peer_int.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "sys/clock.h"
#include "sys/fs.h"
#include "sys/sandbox.h"

#define CHANNEL_FD 3
/* Messages taken before everyone else has a turn. */
#define BURST 32
#define MS UINT64_C(1000000)

void
wr_peerd_watch(struct wr_peerd *p, struct wr_pwatch *w, int fd, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.ptr = w};
	int op = !events ? EPOLL_CTL_DEL : w->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	/* Not in the set at all when nothing is waited for: a hang-up would wake us for ever. */
	if (events == w->events)
		return;
	wr_assert(epoll_ctl(p->epoll, op, fd, &e) == 0);
	w->events = events;
}

void
wr_peerd_arm(struct wr_peerd *p, uint64_t ns)
{
	p->next_ns = WR_MIN(p->next_ns, ns);
}

/* ---- to control ---- */

/* 1 sent, 0 no room; what cannot be sent at all is dropped, a broken channel shows when it is read.
 */
static int
try_tell(struct wr_peerd *p, struct wr_peer_msg *m)
{
	struct wr_err err = WR_ERR_INIT;
	int rc = wr_peer_send(p->channel, m, &err);

	if (rc < 0 && err.code == WR_E_LIMIT)
		wr_log_err(WR_LOG_WARNING, "a message to control", &err);
	if (rc != 0)
		wr_peer_msg_fini(m);
	return rc != 0;
}

void
wr_peerd_tell(struct wr_peerd *p, struct wr_peer_msg *m)
{
	if (p->gone) {
		wr_peer_msg_fini(m);
		return;
	}
	if (!p->queue_count && try_tell(p, m))
		return;
	wr_grow(&p->queue, &p->queue_cap, p->queue_count + 1, sizeof(*p->queue));
	p->queue[p->queue_count++] = *m;
	*m = (struct wr_peer_msg)WR_PEER_MSG_INIT;
	wr_peerd_watch(p, &p->on_channel, p->channel, EPOLLIN | EPOLLOUT);
}

static void
flush_queue(struct wr_peerd *p)
{
	size_t done = 0;

	while (done < p->queue_count && try_tell(p, &p->queue[done]))
		done++;
	p->queue_count -= done;
	if (done)
		memmove(p->queue, p->queue + done, p->queue_count * sizeof(*p->queue));
	if (p->queue_count)
		return;
	wr_peerd_watch(p, &p->on_channel, p->channel, EPOLLIN);
	/* What had to wait for that goes on. */
	for (struct wr_pconn *c = p->conns; c; c = c->next)
		c->again = true;
	p->again = true;
}

char *
wr_peerd_text(const char *s, size_t max)
{
	size_t len = strlen(s), at = 0;
	char *out = wr_malloc(max + 1);

	for (size_t i = 0, n; i < len; i += n) {
		const uint8_t *u = (const uint8_t *)s + i;

		n = wr_utf8_len(u, len - i);
		if (at + WR_MAX(n, 1) > max)
			break;
		if (!n || *u < 0x20 || *u == 0x7f || wr_utf8_acts(wr_utf8_decode(u, n))) {
			out[at++] = '?';
			n = WR_MAX(n, 1);
		} else {
			memcpy(out + at, u, n);
			at += n;
		}
	}
	out[at] = '\0';
	return out;
}

void
wr_peerd_note(struct wr_peerd *p, const char *fmt, ...)
{
	struct wr_peer_msg m = WR_PEER_MSG_INIT;
	struct wr_buf b = WR_BUF_INIT;
	char line[900];
	va_list ap;

	if (p->now_ns - p->notes_ns >= 60000 * MS) {
		p->notes_ns = p->now_ns;
		p->notes = 0;
	}
	if (p->notes >= WR_PEER_NOTES) {
		p->notes_lost++;
		return;
	}
	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap); /* cut is fine */
	va_end(ap);
	wr_buf_adds(&b, line);
	if (p->notes_lost)
		wr_buf_addf(&b, " (and %u more remarks before)", p->notes_lost);
	p->notes_lost = 0;
	p->notes++;
	m.type = WR_PEER_NOTE;
	m.text = wr_peerd_text(wr_buf_str(&b), sizeof(((struct wr_err *)NULL)->msg) - 1);
	wr_peerd_tell(p, &m);
	wr_buf_fini(&b);
}

/* ---- from control ---- */

static bool
same(const struct wr_buf *a, const struct wr_buf *b)
{
	return a->len == b->len && (!a->len || !memcmp(a->p, b->p, a->len));
}

static bool
same_keys(const struct wr_peer_setup *a, const struct wr_peer_setup *b)
{
	return same(&a->key_pem, &b->key_pem) && same(&a->cert_der, &b->cert_der) &&
	       same(&a->ca_der[0], &b->ca_der[0]) && same(&a->ca_der[1], &b->ca_der[1]);
}

static void
set_up(struct wr_peerd *p, const struct wr_buf *b)
{
	struct wr_peer_setup s = {0};
	struct wr_tls_conf conf = {.ca_count = 0};
	struct wr_der ca[WR_ARRAY_LEN(s.ca_der)];
	struct wr_err err = WR_ERR_INIT;
	struct wr_tls *tls = NULL;

	if (wr_peer_setup_decode(b->p, b->len, &s, &err) < 0)
		goto fail;
	for (size_t i = 0; i < WR_ARRAY_LEN(s.ca_der); i++)
		if (s.ca_der[i].len)
			ca[conf.ca_count++] = (struct wr_der){s.ca_der[i].p, s.ca_der[i].len};
	conf.key_pem = (struct wr_der){s.key_pem.p, s.key_pem.len};
	conf.cert = (struct wr_der){s.cert_der.p, s.cert_der.len};
	conf.ca = ca;
	conf.fleet_at = s.fleet_at;
	if (!wr_uuid_parse(s.fleet, &conf.fleet)) {
		wr_err_set(&err, WR_E_INVALID, "setup: the fleet's id is none");
		goto fail;
	}
	if (wr_tls_new(&conf, &tls, &err) < 0)
		goto fail;
	if (p->have_setup && !same_keys(&p->setup, &s))
		wr_ours_retire(p);
	wr_tls_free(p->tls);
	wr_peer_setup_fini(&p->setup);
	p->tls = tls;
	p->setup = s;
	p->have_setup = true;
	wr_served_review(p);
	return;
fail:
	wr_peerd_note(p, "what was set up cannot be used, so nothing has changed: %s", err.msg);
	wr_peer_setup_fini(&s);
}

static void
set_listener(struct wr_peerd *p, struct wr_peer_msg *m)
{
	int flags = fcntl(m->fd, F_GETFL);

	if (p->listener >= 0) {
		wr_peerd_watch(p, &p->on_listener, p->listener, 0);
		close(p->listener);
	}
	p->listener = m->fd;
	m->fd = -1;
	if (flags < 0 || fcntl(p->listener, F_SETFL, flags | O_NONBLOCK) < 0) {
		wr_peerd_note(p, "the listening socket cannot be used: %s", strerror(errno));
		wr_closep(&p->listener);
		p->listener = -1;
	}
}

static void
take(struct wr_peerd *p, struct wr_peer_msg *m)
{
	switch (m->type) {
	case WR_PEER_SETUP:
		set_up(p, &m->payload);
		return;
	case WR_PEER_LISTEN:
		set_listener(p, m);
		return;
	case WR_PEER_SEND:
		wr_ours_send(p, m);
		return;
	case WR_PEER_REPLY:
		wr_served_reply(p, m);
		return;
	case WR_PEER_GO:
		wr_served_go(p, m);
		return;
	case WR_PEER_REFUSE:
		wr_served_refuse(p, m);
		return;
	case WR_PEER_QUIT:
		if (!p->quitting)
			p->quit_ns = p->now_ns + p->opts.drain_ms * MS;
		p->quitting = true;
		return;
	default:
		wr_assert(false); /* the codec lets no other half pass */
	}
}

/* -1: what came is no message of control's, so neither is what comes next. */
static int
read_channel(struct wr_peerd *p, struct wr_err *err)
{
	for (int i = 0; i < BURST && !p->gone; i++) {
		WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg m = WR_PEER_MSG_INIT;
		struct wr_err e = WR_ERR_INIT;
		int rc = wr_peer_recv(p->channel, false, &m, &e);

		if (rc < 0 && e.code == WR_E_BUSY)
			return 0;
		if (rc < 0 && e.code == WR_E_INVALID) {
			*err = e;
			return wr_err_wrap(err, "from control");
		}
		if (rc <= 0)
			p->gone = true;
		else
			take(p, &m);
	}
	return 0;
}

/* ---- the loop ---- */

static void
watch_listener(struct wr_peerd *p)
{
	bool on = p->listener >= 0 && p->have_setup && !p->quitting && p->now_ns >= p->accept_ns;

	if (p->listener >= 0)
		wr_peerd_watch(p, &p->on_listener, p->listener, on ? (uint32_t)EPOLLIN : 0);
	if (p->listener >= 0 && !on && p->accept_ns > p->now_ns)
		wr_peerd_arm(p, p->accept_ns);
}

static int
timeout_ms(const struct wr_peerd *p)
{
	uint64_t next = p->quitting ? WR_MIN(p->next_ns, p->quit_ns) : p->next_ns;

	if (p->again)
		return 0;
	if (next == UINT64_MAX)
		return -1;
	return next <= p->now_ns ? 0 : (int)WR_MIN((next - p->now_ns) / MS + 1, 60000u);
}

static void
do_deadlines(struct wr_peerd *p)
{
	if (p->now_ns < p->next_ns)
		return;
	p->next_ns = UINT64_MAX;
	for (struct wr_pconn *c = p->conns, *next; c; c = next) {
		next = c->next;
		if (c->ours)
			wr_ours_expire(c);
		if (c->state != WR_PCONN_DEAD && p->now_ns >= wr_pconn_deadline(c))
			wr_pconn_expired(c);
	}
	/* Only now: the end of one may have moved another's. */
	for (struct wr_pconn *c = p->conns; c; c = c->next)
		wr_peerd_arm(p, wr_pconn_deadline(c));
}

static void
do_again(struct wr_peerd *p)
{
	size_t had;

	p->again = false;
	for (struct wr_pconn *c = p->conns, *next; c; c = next) {
		next = c->next;
		if (!c->again)
			continue;
		c->again = false;
		had = p->queue_count;
		wr_pconn_step(c);
		/* It filled the channel: another one is first when there is room again. */
		if (!had && p->queue_count && c->state != WR_PCONN_DEAD)
			wr_pconn_to_end(c);
	}
}

static void
bury(struct wr_peerd *p)
{
	for (struct wr_pconn *c = p->dead, *next; c; c = next) {
		next = c->next;
		wr_pconn_free(c);
	}
	p->dead = NULL;
}

static int
turn(struct wr_peerd *p, struct wr_err *err)
{
	struct epoll_event e[64];
	int n;

	watch_listener(p);
	n = epoll_wait(p->epoll, e, WR_ARRAY_LEN(e), timeout_ms(p));
	if (n < 0 && errno != EINTR)
		return wr_err_sys(err, "wait for events");
	p->now_ns = wr_clock_mono_ns();
	for (int i = 0; i < n; i++) {
		struct wr_pwatch *w = e[i].data.ptr;

		switch (w->kind) {
		case WR_PWATCH_CHANNEL:
			if ((e[i].events & EPOLLOUT) && p->queue_count)
				flush_queue(p);
			if (read_channel(p, err) < 0)
				return -1;
			break;
		case WR_PWATCH_LISTEN:
			wr_served_accept(p);
			break;
		case WR_PWATCH_FOUND:
			wr_ours_found(p);
			break;
		case WR_PWATCH_LINK:
		case WR_PWATCH_LOCAL:
			wr_pconn_step(w->conn);
			break;
		}
	}
	if (p->again)
		do_again(p);
	do_deadlines(p);
	bury(p);
	return 0;
}

/* Does anybody still wait for something? */
static bool
idle(const struct wr_peerd *p)
{
	if (p->req_count || p->queue_count)
		return false;
	for (const struct wr_pconn *c = p->conns; c; c = c->next)
		if (c->call_count || wr_pconn_pending(c) || c->state == WR_PCONN_ASKED ||
		    c->state == WR_PCONN_STREAM)
			return false;
	return true;
}

static int
loop(struct wr_peerd *p, struct wr_err *err)
{
	while (!p->gone) {
		if (turn(p, err) < 0)
			return -1;
		if (p->quitting && (idle(p) || p->now_ns >= p->quit_ns))
			return 0;
	}
	return 0;
}

/* Where the system keeps the list of its name servers, if /etc only points there: the directory,
 * for the file is replaced now and then. -1: nothing is needed. */
static int
open_resolver(void)
{
	char path[PATH_MAX];
	char *slash;

	if (!realpath("/etc/resolv.conf", path) || !strncmp(path, "/etc/", 5))
		return -1;
	slash = strrchr(path, '/');
	/* Not all of /run, though. */
	if (strchr(path + 1, '/') != slash)
		*slash = '\0';
	return open(path, O_PATH | O_CLOEXEC);
}

/* Everything is loaded but the resolver's parts, which lie where libraries do. */
static int
lock_up(struct wr_err *err)
{
	struct wr_sandbox s = {.no_new_privs = true, .no_exec_new = true, .inet = true};
	WR_SCOPED(wr_closep) int usr = open("/usr", O_PATH | O_CLOEXEC);
	WR_SCOPED(wr_closep) int resolver = open_resolver();

	if (usr < 0)
		return wr_err_sys(err, "open '/usr'");
	/* Holds the node's TLS key. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return wr_err_sys(err, "keep memory from others");
	s.path[s.path_count].fd = usr;
	s.path[s.path_count++].access = WR_FS_READ | WR_FS_EXEC;
	if (resolver >= 0) {
		s.path[s.path_count].fd = resolver;
		s.path[s.path_count++].access = WR_FS_READ;
	}
	return wr_sandbox_apply(&s, false, err);
}

static int
begin(struct wr_peerd *p, struct wr_err *err)
{
	int flags = fcntl(p->channel, F_GETFL);

	if (flags < 0 || fcntl(p->channel, F_SETFL, flags | O_NONBLOCK) < 0)
		return wr_err_sys(err, "use the channel to control");
	p->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (p->epoll < 0)
		return wr_err_sys(err, "make an epoll descriptor");
	if (pipe2(p->found, O_CLOEXEC | O_NONBLOCK) < 0)
		return wr_err_sys(err, "make a pipe");
	wr_peerd_watch(p, &p->on_channel, p->channel, EPOLLIN);
	wr_peerd_watch(p, &p->on_found, p->found[0], EPOLLIN);
	return p->opts.sandbox ? lock_up(err) : 0;
}

static void
end(struct wr_peerd *p)
{
	const struct wr_err why = {.code = WR_E_CANCELLED, .msg = "the node's service ends"};

	while (p->conns)
		wr_pconn_kill(p->conns, &why);
	bury(p);
	for (size_t i = 0; i < p->queue_count; i++)
		wr_peer_msg_fini(&p->queue[i]);
	free(p->queue);
	wr_tls_free(p->tls);
	wr_peer_setup_fini(&p->setup);
	wr_closep(&p->listener);
	/* A look-up that goes on may still write into it; the process ends soon. */
	if (!p->lookups) {
		wr_closep(&p->found[0]);
		wr_closep(&p->found[1]);
	}
	wr_closep(&p->epoll);
}

int
wr_peer_serve(int channel, const struct wr_peer_opts *o, struct wr_err *err)
{
	struct wr_peerd p = {
	    .opts = *o,
	    .channel = channel,
	    .epoll = -1,
	    .listener = -1,
	    .found = {-1, -1},
	    .on_channel = {.kind = WR_PWATCH_CHANNEL},
	    .on_listener = {.kind = WR_PWATCH_LISTEN},
	    .on_found = {.kind = WR_PWATCH_FOUND},
	    .now_ns = wr_clock_mono_ns(),
	    .next_ns = UINT64_MAX,
	};
	int rc = -1;

	p.notes_ns = p.now_ns;
	signal(SIGPIPE, SIG_IGN);
	if (begin(&p, err) == 0)
		rc = loop(&p, err);
	end(&p);
	return rc;
}

int
wr_peer_main(int argc, char **argv)
{
	struct wr_peer_opts o = WR_PEER_OPTS_INIT;
	struct wr_err err = WR_ERR_INIT;

	(void)argc;
	(void)argv;
	wr_log_init("peer", WR_LOG_NOTICE, getenv("JOURNAL_STREAM") != NULL);
	wr_raise_fd_limit();
	if (wr_peer_serve(CHANNEL_FD, &o, &err) < 0) {
		wr_log_err(WR_LOG_ERROR, "end", &err);
		return wr_err_exit(err.code);
	}
	return 0;
}

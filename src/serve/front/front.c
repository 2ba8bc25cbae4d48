/* SPDX-License-Identifier: Apache-2.0 */
/* The loop: the channel to control, libmicrohttpd's own epoll, pipes and waiting clients. */
#include "serve/front/front.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/log.h"
#include "serve/front/front_int.h"
#include "sys/clock.h"
#include "sys/fs.h"
#include "sys/sandbox.h"

#define CHANNEL_FD 3
#define KEY_FD 4
/* LIMIT: key and certificates. */
#define PEM_MAX (64u << 10)
/* Messages taken before everyone else has a turn. */
#define BURST 32

void
wr_front_watch(struct wr_front *f, int fd, struct wr_watch *w, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.ptr = w};
	int rc = epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &e);

	if (rc < 0 && errno == EEXIST)
		rc = epoll_ctl(f->epoll, EPOLL_CTL_MOD, fd, &e);
	wr_assert(rc == 0);
}

void
wr_front_unwatch(struct wr_front *f, int fd)
{
	/* Not watched just now is as good. */
	(void)epoll_ctl(f->epoll, EPOLL_CTL_DEL, fd, NULL);
}

/* ---- the channel ---- */

static void
watch_channel(struct wr_front *f)
{
	f->blocked = f->queue_count > 0;
	wr_front_watch(f, f->channel, &f->on_channel,
		       EPOLLIN | (f->blocked ? (uint32_t)EPOLLOUT : 0));
}

/*
 * There is at most one call, one abort and one end per connection on the way, and new connections
 * come by control alone, so what waits here is bounded by WR_CONNS_MAX.
 */
static void
flush_queue(struct wr_front *f)
{
	size_t done = 0;

	while (done < f->queue_count) {
		struct wr_buf *b = &f->queue[done];

		if (wr_msg_send(f->channel, b->p, b->len, NULL, 0, NULL) == 0)
			break;
		/* A broken channel shows when it is read. */
		wr_buf_fini(b);
		done++;
	}
	f->queue_count -= done;
	if (done)
		memmove(f->queue, f->queue + done, f->queue_count * sizeof(*f->queue));
	if (f->blocked != (f->queue_count > 0))
		watch_channel(f);
}

int
wr_front_send(struct wr_front *f, const struct wr_ipc *m, struct wr_err *err)
{
	struct wr_buf b = WR_BUF_INIT;

	if (f->control_gone)
		return 0;
	wr_ipc_encode(m, &b);
	if (b.len > WR_MSG_MAX) {
		wr_err_set(err, WR_E_LIMIT, "the request is too long: %zu bytes of %u", b.len,
			   WR_MSG_MAX);
		wr_buf_fini(&b);
		return -1;
	}
	wr_grow(&f->queue, &f->queue_cap, f->queue_count + 1, sizeof(*f->queue));
	f->queue[f->queue_count++] = b;
	if (f->queue_count == 1)
		flush_queue(f);
	return 0;
}

static void
quit(struct wr_front *f, bool control_gone)
{
	if (!f->quitting)
		f->deadline_ns = wr_clock_mono_ns() + WR_DRAIN_S * UINT64_C(1000000000);
	f->quitting = true;
	if (control_gone) {
		f->control_gone = true;
		wr_front_unwatch(f, f->channel);
		wr_http_give_up(f);
	}
}

static void
take(struct wr_front *f, struct wr_ipc *m)
{
	int fd = m->fd;

	switch (m->type) {
	case WR_IPC_CONN:
		m->fd = -1;
		wr_http_adopt(f, fd, m->conn);
		return;
	case WR_IPC_QUIT:
		quit(f, false);
		return;
	default:
		wr_http_answer(f, m);
	}
}

/* -1: what came is no message of control's, so neither is what comes next. */
static int
read_channel(struct wr_front *f, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	for (int i = 0; i < BURST && !f->control_gone; i++) {
		WR_SCOPED(wr_ipc_fini) struct wr_ipc m = WR_IPC_INIT;
		struct wr_err e = WR_ERR_INIT;
		int fds[WR_MSG_FDS];
		size_t count = 0;
		int rc = wr_msg_recv(f->channel, &b, fds, &count, &e);

		if (rc < 0 && e.code == WR_E_BUSY)
			return 0;
		if (rc <= 0) {
			quit(f, true);
			return 0;
		}
		if (wr_ipc_decode(b.p, b.len, fds, count, false, &m, err) < 0)
			return wr_err_wrap(err, "from control");
		take(f, &m);
	}
	return 0;
}

/* ---- the loop ---- */

static int
timeout_ms(struct wr_front *f)
{
	MHD_UNSIGNED_LONG_LONG ms = 0;
	uint64_t now = wr_clock_mono_ns(), next;
	int out = -1;

	if (wr_mhd.MHD_get_timeout(f->daemon, &ms) == MHD_YES)
		out = (int)WR_MIN(ms, 60000u);
	wr_http_deadlines(f, now, &next);
	if (next != UINT64_MAX) {
		uint64_t left = (next - now) / 1000000 + 1;

		if (out < 0 || left < (uint64_t)out)
			out = (int)left;
	}
	if (f->quitting) {
		uint64_t left = f->deadline_ns > now ? (f->deadline_ns - now) / 1000000 + 1 : 0;

		if (out < 0 || left < (uint64_t)out)
			out = (int)left;
	}
	return out;
}

/* Requests are freed by the library alone, in MHD_run: a batch of events holds no stale pointer. */
static int
turn(struct wr_front *f, struct wr_err *err)
{
	struct epoll_event e[64];
	int n = epoll_wait(f->epoll, e, WR_ARRAY_LEN(e), timeout_ms(f));

	if (n < 0 && errno != EINTR)
		return wr_err_sys(err, "wait for events");
	for (int i = 0; i < n; i++) {
		const struct wr_watch *w = e[i].data.ptr;

		switch (w->kind) {
		case WR_WATCH_CHANNEL:
			if ((e[i].events & EPOLLOUT) && !f->control_gone)
				flush_queue(f);
			if (read_channel(f, err) < 0)
				return -1;
			break;
		case WR_WATCH_PIPE:
			if (w->req->pipe >= 0)
				wr_http_readable(w->req);
			break;
		case WR_WATCH_CLIENT:
			if (w->req->suspended)
				wr_http_client_gone(w->req);
			break;
		case WR_WATCH_HTTP:
			break;
		}
	}
	(void)wr_mhd.MHD_run(f->daemon);
	return 0;
}

static int
loop(struct wr_front *f, struct wr_err *err)
{
	bool gave_up = false;

	while (!f->quitting || f->reqs) {
		if (turn(f, err) < 0)
			return -1;
		if (f->quitting && f->reqs && wr_clock_mono_ns() >= f->deadline_ns) {
			if (gave_up)
				return 0;
			/* Tell them, and a second for that. */
			gave_up = true;
			wr_http_give_up(f);
			(void)wr_mhd.MHD_run(f->daemon);
			f->deadline_ns = wr_clock_mono_ns() + UINT64_C(1000000000);
		}
	}
	return 0;
}

/* Everything is loaded: from now on neither programs nor sockets. */
static int
lock_up(struct wr_err *err)
{
	struct wr_sandbox s = {.no_new_privs = true, .no_exec_new = true, .no_sockets = true};

	return wr_sandbox_apply(&s, false, err);
}

/* Text of our own that others may not find in memory. */
static void
wipe(char **text)
{
	if (*text)
		explicit_bzero(*text, strlen(*text));
	free(wr_steal(text));
}

/* fd: the key, then certificates. */
static int
load_key(struct wr_front *f, int fd, struct wr_err *err)
{
	char *text = wr_calloc(1, PEM_MAX + 1), *cert;
	ssize_t n = wr_pread_full(fd, text, PEM_MAX + 1, 0);

	close(fd);
	if (n < 0 || (size_t)n > PEM_MAX) {
		wipe(&text);
		return wr_err_set(err, WR_E_INVALID, "the key for TLS cannot be read");
	}
	cert = strstr(text, "-----BEGIN CERTIFICATE-----");
	if (!cert) {
		wipe(&text);
		return wr_err_set(err, WR_E_INVALID, "a key for TLS without a certificate");
	}
	f->cert = wr_strdup(cert);
	*cert = '\0';
	f->key = wr_strdup(text);
	wipe(&text);
	return 0;
}

int
wr_front_serve(int channel, int key_fd, unsigned idle_s, bool sandbox, struct wr_err *err)
{
	struct wr_front f = {.channel = channel, .epoll = -1};
	int flags = fcntl(channel, F_GETFL);
	int rc = -1;

	signal(SIGPIPE, SIG_IGN);
	if (key_fd >= 0 && load_key(&f, key_fd, err) < 0)
		return -1;
	if (flags < 0 || fcntl(channel, F_SETFL, flags | O_NONBLOCK) < 0)
		return wr_err_sys(err, "use the channel to control");
	f.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (f.epoll < 0)
		return wr_err_sys(err, "make an epoll descriptor");
	f.on_channel = (struct wr_watch){WR_WATCH_CHANNEL, NULL};
	watch_channel(&f);
	if (wr_http_start(&f, idle_s, err) == 0 && (!sandbox || lock_up(err) == 0))
		rc = loop(&f, err);
	wr_http_stop(&f);
	while (f.queue_count)
		wr_buf_fini(&f.queue[--f.queue_count]);
	free(f.queue);
	close(f.epoll);
	wipe(&f.key);
	free(f.cert);
	return rc;
}

int
wr_front_main(int argc, char **argv)
{
	struct wr_err err = WR_ERR_INIT;
	bool tls = argc > 1 && !strcmp(argv[1], "tls");

	/* Others of the same user are not to read the key out of our memory. */
	if (tls)
		(void)prctl(PR_SET_DUMPABLE, 0);
	wr_log_init("front", WR_LOG_NOTICE, getenv("JOURNAL_STREAM") != NULL);
	wr_raise_fd_limit();
	if (wr_front_serve(CHANNEL_FD, tls ? KEY_FD : -1, WR_IDLE_S, true, &err) < 0) {
		wr_log_err(WR_LOG_ERROR, "end", &err);
		return wr_err_exit(err.code);
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine over two descriptors.  Nothing here waits for ever: not for the far side to speak, not
 * for it to listen.  The rate is kept by a bucket that fills with time; while it is empty writing
 * rests, reading does not.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "fleet/sync/sync_int.h"
#include "sys/clock.h"

#define IDLE_MS 30000
#define TICK_NS UINT64_C(100000000)
#define BUF_LEN ((size_t)256 << 10)
#define NS_PER_MS UINT64_C(1000000)

struct pump {
	struct wr_sync *m;
	int in_fd, out_fd;
	struct wr_sync_limits l;
	wr_sync_progress_fn progress;
	void *ctx;
	const atomic_bool *cancel;
	uint64_t start, moved, told; /* monotonic times: of the start, of the last byte, ... */
	uint64_t waited, got;        /* for the far side, and what came meanwhile: slow_ms */
	uint64_t tokens, filled;     /* bytes that may go out, and when that was so */
	uint8_t *in, *out;
	size_t out_at, out_len;
	bool eof;
};

/* Make it non-blocking; gives the flags it had. */
static int
unblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags >= 0 && !(flags & O_NONBLOCK))
		(void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	return flags;
}

static void
reblock(int fd, int flags)
{
	if (flags >= 0 && !(flags & O_NONBLOCK))
		(void)fcntl(fd, F_SETFL, flags);
}

static uint64_t
burst(const struct pump *p)
{
	return p->l.burst ? p->l.burst : WR_MAX(p->l.rate / 4, UINT64_C(1));
}

/* Bytes that may go out now. */
static uint64_t
allowance(struct pump *p, uint64_t now)
{
	uint64_t more;

	if (!p->l.rate)
		return UINT64_MAX;
	/* At most a second is counted: what is above would overflow the bucket anyway. */
	more = WR_MIN(now - p->filled, UINT64_C(1000000000)) / 1000 * p->l.rate / 1000000;
	if (more > 0) {
		p->tokens = WR_MIN(p->tokens + more, burst(p));
		p->filled = now;
	}
	return p->tokens;
}

static int
check_limits(struct pump *p, uint64_t now, struct wr_err *err)
{
	if (p->progress && now - p->told >= TICK_NS) {
		struct wr_sync_progress pr;

		wr_sync_progress(p->m, &pr);
		p->progress(p->ctx, &pr);
		p->told = now;
	}
	if (p->cancel && atomic_load(p->cancel))
		return wr_err_set(err, WR_E_CANCELLED, "cancelled");
	if (now - p->moved > p->l.idle_ms * NS_PER_MS)
		return wr_err_set(err, WR_E_FAILED, "nothing came or went for %" PRIu64 " s",
				  p->l.idle_ms / 1000);
	if (p->l.slow_ms && p->waited > p->l.slow_ms * NS_PER_MS) {
		if (p->got < p->l.slow_bytes)
			return wr_err_set(err, WR_E_FAILED,
					  "only %" PRIu64 " bytes came within %" PRIu64 " s",
					  p->got, p->waited / NS_PER_MS / 1000);
		p->waited = p->got = 0;
	}
	if (p->l.total_ms && now - p->start > p->l.total_ms * NS_PER_MS)
		return wr_err_set(err, WR_E_FAILED, "it took longer than %" PRIu64 " s",
				  p->l.total_ms / 1000);
	return 0;
}

/* Write what can be written now; 1 = something went out. */
static int
put_some(struct pump *p, uint64_t allowed, struct wr_err *err)
{
	size_t n = (size_t)WR_MIN((uint64_t)(p->out_len - p->out_at), allowed);
	ssize_t got;

	if (n == 0)
		return 0;
	got = send(p->out_fd, p->out + p->out_at, n, MSG_NOSIGNAL);
	if (got < 0 && errno == ENOTSOCK)
		got = write(p->out_fd, p->out + p->out_at, n);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got < 0)
		return wr_err_sys(err, "send to the far side");
	p->out_at += (size_t)got;
	if (p->l.rate)
		p->tokens -= WR_MIN(p->tokens, (uint64_t)got);
	return got > 0;
}

static int
get_some(struct pump *p, struct wr_err *err)
{
	ssize_t got = read(p->in_fd, p->in, BUF_LEN);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got < 0)
		return wr_err_sys(err, "receive from the far side");
	if (got == 0) {
		p->eof = true;
		wr_sync_eof(p->m);
		return 0;
	}
	p->got += (uint64_t)got;
	wr_sync_feed(p->m, p->in, (size_t)got);
	return 1;
}

/* How long poll may wait, in milliseconds. */
static int
nap_ms(const struct pump *p, uint64_t allowed)
{
	uint64_t want = WR_MIN((uint64_t)(p->out_len - p->out_at), burst(p) / 2 + 1), ms;

	if (wr_sync_busy(p->m) && p->out_at == p->out_len)
		return 0;
	if (p->out_at == p->out_len || allowed >= want)
		return 100;
	ms = (want - allowed) * 1000 / p->l.rate + 1;
	return (int)WR_MIN(ms, UINT64_C(100));
}

static int
turn(struct pump *p, struct wr_err *err)
{
	uint64_t now = wr_clock_mono_ns(), allowed = allowance(p, now), began;
	bool worked = false, writing;
	struct pollfd fd[2];
	int in = 0, out = 0;

	if (p->out_at == p->out_len) {
		worked = wr_sync_busy(p->m);
		p->out_at = 0;
		p->out_len = wr_sync_pull(p->m, p->out, BUF_LEN);
	}
	writing = p->out_at < p->out_len && allowed > 0;
	/* A broken-off far side may have said why: read on while there is something to write. */
	fd[0] = (struct pollfd){.fd = p->eof ? -1 : p->in_fd, .events = POLLIN};
	fd[1] = (struct pollfd){.fd = writing ? p->out_fd : -1, .events = POLLOUT};
	began = wr_clock_mono_ns();
	if (poll(fd, 2, worked ? 0 : writing ? 100 : nap_ms(p, allowed)) < 0 && errno != EINTR)
		return wr_err_sys(err, "wait for the far side");
	p->waited += wr_clock_mono_ns() - began;
	if (fd[0].fd >= 0 && fd[0].revents)
		in = get_some(p, err);
	if (in >= 0 && writing && fd[1].revents)
		out = put_some(p, allowed, err);
	if (in < 0 || out < 0)
		return -1;
	now = wr_clock_mono_ns();
	/* Own work, and waiting for the own bucket, is no silence of the far side. */
	if (in || out || worked || (p->out_at < p->out_len && allowed == 0))
		p->moved = now;
	return check_limits(p, now, err);
}

/* Why the far side broke off, if it said so. */
static void
last_words(struct pump *p)
{
	struct wr_err ignored = WR_ERR_INIT;

	while (!p->eof && wr_sync_status(p->m) == WR_SYNC_RUNNING && get_some(p, &ignored) > 0)
		;
}

/* Offer what is left to be said, the frame that is half out first; do not wait for it. */
static void
farewell(struct pump *p)
{
	for (;;) {
		if (p->out_at == p->out_len) {
			p->out_at = 0;
			p->out_len = wr_sync_pull(p->m, p->out, BUF_LEN);
		}
		if (p->out_len == 0 || put_some(p, UINT64_MAX, NULL) <= 0)
			return;
	}
}

static int
run(struct pump *p, struct wr_err *err)
{
	for (;;) {
		enum wr_sync_status s = wr_sync_status(p->m);
		struct wr_err why = WR_ERR_INIT;

		if (s == WR_SYNC_FAILED)
			break;
		if (s != WR_SYNC_RUNNING && p->out_at == p->out_len) {
			p->out_at = 0;
			p->out_len = wr_sync_pull(p->m, p->out, BUF_LEN);
			if (p->out_len == 0)
				return 0;
		}
		if (turn(p, &why) == 0)
			continue;
		if (s != WR_SYNC_RUNNING) {
			/* The last frame did not get out; what is done is done. */
			if (err)
				*err = why;
			return -1;
		}
		if (why.code == WR_E_SYS)
			last_words(p);
		wr_sync_fail(p->m, &why);
	}
	farewell(p);
	if (err)
		*err = *wr_sync_error(p->m);
	return -1;
}

/* SIGPIPE, of this thread only: writing to a pipe that nobody reads is an error like others. */
static bool
hush(sigset_t *old)
{
	sigset_t pipe;

	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	return pthread_sigmask(SIG_BLOCK, &pipe, old) == 0 && !sigismember(old, SIGPIPE);
}

static void
unhush(const sigset_t *old)
{
	struct timespec now = {0, 0};
	sigset_t pipe;

	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	while (sigtimedwait(&pipe, NULL, &now) < 0 && errno == EINTR)
		;
	(void)pthread_sigmask(SIG_SETMASK, old, NULL);
}

int
wr_sync_pump(struct wr_sync *m, int in_fd, int out_fd, const struct wr_sync_limits *l,
	     wr_sync_progress_fn progress, void *ctx, const atomic_bool *cancel, struct wr_err *err)
{
	struct pump p = {.m = m,
			 .in_fd = in_fd,
			 .out_fd = out_fd,
			 .progress = progress,
			 .ctx = ctx,
			 .cancel = cancel};
	int in_flags = unblock(in_fd), out_flags = unblock(out_fd), rc;
	sigset_t old;
	bool hushed = hush(&old);

	if (l)
		p.l = *l;
	if (!p.l.idle_ms)
		p.l.idle_ms = IDLE_MS;
	p.in = wr_malloc(BUF_LEN);
	p.out = wr_malloc(BUF_LEN);
	p.start = p.moved = p.told = p.filled = wr_clock_mono_ns();
	p.tokens = burst(&p);
	rc = run(&p, err);
	free(p.in);
	free(p.out);
	if (hushed)
		unhush(&old);
	/* The flags may be the same ones. */
	reblock(out_fd, out_flags);
	reblock(in_fd, in_flags);
	return rc;
}

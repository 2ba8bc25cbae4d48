/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/control/loop.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys/clock.h"
#include "sys/fs.h"

int
wr_loop_init(struct wr_loop *l, struct wr_err *err)
{
	*l = (struct wr_loop){.epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
	if (l->epoll_fd < 0)
		return wr_err_sys(err, "make the event loop");
	return 0;
}

void
wr_loop_fini(struct wr_loop *l)
{
	wr_closep(&l->epoll_fd);
}

int
wr_loop_step(struct wr_loop *l, struct wr_err *err)
{
	struct epoll_event ev;
	int timeout = -1, n;

	if (l->timers) {
		uint64_t now = wr_clock_mono_ns();

		if (l->timers->at_ns <= now) {
			struct wr_timer *t = l->timers;

			wr_timer_off(l, t);
			t->fn(t);
			timeout =
			    0; /* timers that come again at once leave descriptors their turn */
		} else {
			uint64_t ms = (l->timers->at_ns - now) / 1000000 + 1;

			timeout = (int)WR_MIN(ms, 3600000u);
		}
	}
	/* One event at a time: what a call-back takes out is never served after it.  The kernel
	 * hands ready descriptors out in turn, so none starves. */
	n = epoll_wait(l->epoll_fd, &ev, 1, timeout);
	if (n < 0 && errno != EINTR)
		return wr_err_sys(err, "wait for events");
	if (n == 1) {
		struct wr_watch *w = ev.data.ptr;

		w->fn(w, ev.events);
	}
	return 0;
}

void
wr_watch_on(struct wr_loop *l, struct wr_watch *w, int fd, uint32_t events,
	    void (*fn)(struct wr_watch *w, uint32_t events))
{
	struct epoll_event ev = {.events = events, .data.ptr = w};
	int rc;

	*w = (struct wr_watch){.fd = fd, .events = events, .fn = fn};
	/* The descriptor is open and not watched yet; memory alone can be short. */
	rc = epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev);
	wr_assert(rc == 0);
}

void
wr_watch_change(struct wr_loop *l, struct wr_watch *w, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = w};

	if (w->fd < 0 || w->events == events)
		return;
	w->events = events;
	(void)epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, w->fd, &ev); /* it is watched: cannot fail */
}

void
wr_watch_off(struct wr_loop *l, struct wr_watch *w)
{
	if (w->fd >= 0)
		(void)epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
	w->fd = -1;
}

void
wr_timer_on(struct wr_loop *l, struct wr_timer *t, uint64_t after_ns,
	    void (*fn)(struct wr_timer *t))
{
	struct wr_timer *before = NULL, *at;

	wr_timer_off(l, t);
	t->at_ns = wr_clock_mono_ns() + after_ns;
	t->fn = fn;
	t->on = true;
	for (at = l->timers; at && at->at_ns <= t->at_ns; at = at->next)
		before = at;
	t->prev = before;
	t->next = at;
	if (at)
		at->prev = t;
	*(before ? &before->next : &l->timers) = t;
}

void
wr_timer_sooner(struct wr_loop *l, struct wr_timer *t, uint64_t after_ns,
		void (*fn)(struct wr_timer *t))
{
	if (!t->on || t->at_ns > wr_clock_mono_ns() + after_ns)
		wr_timer_on(l, t, after_ns, fn);
}

void
wr_timer_off(struct wr_loop *l, struct wr_timer *t)
{
	if (!t->on)
		return;
	*(t->prev ? &t->prev->next : &l->timers) = t->next;
	if (t->next)
		t->next->prev = t->prev;
	t->on = false;
}

static void
child_event(struct wr_watch *w, uint32_t events WR_UNUSED)
{
	struct wr_child *ch = WR_OWNER(w, struct wr_child, watch);
	int status = -1;
	pid_t rc;

	while ((rc = waitpid(ch->pid, &status, WNOHANG)) < 0 && errno == EINTR)
		;
	if (rc == 0)
		return;
	if (rc < 0)
		status = -1;
	wr_child_off(ch);
	ch->fn(ch, status);
}

void
wr_child_on(struct wr_loop *l, struct wr_child *ch, pid_t pid, int pidfd,
	    void (*fn)(struct wr_child *ch, int wait_status))
{
	ch->loop = l;
	ch->pid = pid;
	/* Not reaped yet, so the number is still his. */
	ch->pidfd = pidfd >= 0 ? pidfd : (int)syscall(SYS_pidfd_open, pid, 0);
	ch->fn = fn;
	wr_assert(ch->pidfd >= 0);
	wr_watch_on(l, &ch->watch, ch->pidfd, EPOLLIN, child_event);
}

void
wr_child_kill(struct wr_child *ch)
{
	if (ch->pid > 0)
		(void)syscall(SYS_pidfd_send_signal, ch->pidfd, SIGKILL, NULL, 0);
}

void
wr_child_off(struct wr_child *ch)
{
	if (ch->pid == 0)
		return;
	wr_watch_off(ch->loop, &ch->watch);
	wr_closep(&ch->pidfd);
	ch->pid = 0;
}

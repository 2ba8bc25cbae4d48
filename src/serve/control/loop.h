/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop of control: descriptors, timers, children.  One thread; a watch, timer or child
 * may be taken out, and its owner freed, in any call-back, also its own.
 */
#ifndef WR_CONTROL_LOOP_H
#define WR_CONTROL_LOOP_H

#include <sys/epoll.h>
#include <sys/types.h>

#include "base/err.h"

#define WR_OWNER(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

struct wr_watch {
	int fd; /* borrowed; -1: not watched */
	uint32_t events;
	void (*fn)(struct wr_watch *w, uint32_t events);
};
#define WR_WATCH_INIT    \
	{                \
		.fd = -1 \
	}

struct wr_timer {
	uint64_t at_ns;
	void (*fn)(struct wr_timer *t);
	struct wr_timer *prev, *next;
	bool on;
};

struct wr_loop {
	int epoll_fd;
	struct wr_timer *timers; /* earliest first; there are few */
};

/* A process that is waited for: by its pidfd, whether it is our child or an adopted one. */
struct wr_child {
	struct wr_loop *loop;
	pid_t pid; /* 0: none */
	int pidfd;
	struct wr_watch watch;
	/* wait_status as of waitpid(2); -1: it was no child of ours. */
	void (*fn)(struct wr_child *ch, int wait_status);
};

int wr_loop_init(struct wr_loop *l, struct wr_err *err);
void wr_loop_fini(struct wr_loop *l);
/* Wait for one event or timer, and serve it. */
int wr_loop_step(struct wr_loop *l, struct wr_err *err);

void wr_watch_on(struct wr_loop *l, struct wr_watch *w, int fd, uint32_t events,
		 void (*fn)(struct wr_watch *w, uint32_t events));
void wr_watch_change(struct wr_loop *l, struct wr_watch *w, uint32_t events);
void wr_watch_off(struct wr_loop *l, struct wr_watch *w); /* harmless twice */

void wr_timer_on(struct wr_loop *l, struct wr_timer *t, uint64_t after_ns,
		 void (*fn)(struct wr_timer *t));
/* Likewise, unless it comes sooner anyway. */
void wr_timer_sooner(struct wr_loop *l, struct wr_timer *t, uint64_t after_ns,
		     void (*fn)(struct wr_timer *t));
void wr_timer_off(struct wr_loop *l, struct wr_timer *t); /* harmless twice */

/* pidfd: of an adopted process, taken; -1: pid is our child. fn is called once, from the loop. */
void wr_child_on(struct wr_loop *l, struct wr_child *ch, pid_t pid, int pidfd,
		 void (*fn)(struct wr_child *ch, int wait_status));
/* SIGKILL; fn comes as ever. */
void wr_child_kill(struct wr_child *ch);
/* Forget it without ending it. */
void wr_child_off(struct wr_child *ch);

#endif

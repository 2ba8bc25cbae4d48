/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sandbox in two halves, because between fork and exec of a threaded process nothing may
 * allocate: the plan is made before, entering it is system calls only.
 */
#ifndef WR_SANDBOX_INT_H
#define WR_SANDBOX_INT_H

#include "sys/sandbox.h"

struct sock_filter;

struct wr_sandbox_plan {
	const struct wr_sandbox *s; /* borrowed */
	unsigned walls;             /* of those asked for, what can be had */
	uint64_t caps;              /* of those asked for, what this process has */
	int ruleset_fd;             /* -1: no Landlock */
	struct sock_filter *filter; /* owned; NULL: no seccomp */
	unsigned short filter_len;
	struct sock_filter *deny; /* owned; NULL: nothing is denied */
	unsigned short deny_len;
};
#define WR_SANDBOX_PLAN_INIT     \
	{                        \
		.ruleset_fd = -1 \
	}

/* program_fd: the file about to be executed (O_PATH), which must be reachable; -1: none follows. */
int wr_sandbox_plan(const struct wr_sandbox *s, int program_fd, struct wr_sandbox_plan *out,
		    struct wr_err *err);
void wr_sandbox_plan_fini(struct wr_sandbox_plan *p);
/* Async-signal-safe. NULL, or what failed (a static text) with errno set. */
const char *wr_sandbox_enter(const struct wr_sandbox_plan *p);

#endif

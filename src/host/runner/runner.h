/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processes of an active project.  A keeper (our own image, detached from the daemon, in a
 * session and, where there is one, a cgroup of its own) is the subreaper above the project's
 * command, so it finds every descendant; it copies the command's output to a bounded log and
 * records its end.  Nothing here ends when the daemon does.
 *
 *   RUN/run/ID.json
 * {"format":1,"keeper":"PID:START:BOOT","main":"PID:START:BOOT","command","uid","started",
 *                    "ended":null|{"when","status","signal"}}
 *   STATE/log/ID    output of the command, the newest 1 MiB
 */
#ifndef WR_RUNNER_H
#define WR_RUNNER_H

#include "host/node/node.h"
#include "sys/proc.h"

struct wr_runner_start {
	struct wr_node *node;
	struct wr_uuid id;
	uid_t uid;
	gid_t gid;
	const char *home;       /* working directory and $HOME */
	const char *account;    /* $USER; "" = the project's name */
	const char *shell;      /* "" = /bin/sh */
	const char *command;    /* for /bin/sh -c */
	const char *const *env; /* K=V, ends with NULL */
	uint64_t settle_ms; /* the command must live that long (or end with status 0) to count as
			       started */
};
/* WR_E_FAILED: the command could not be run or ended at once, with its status and its last lines of
 * output. */
int wr_runner_start(const struct wr_runner_start *o, struct wr_proc_id *out_keeper,
		    struct wr_err *err);

struct wr_runner_status {
	bool keeper;      /* it lives */
	bool main;        /* the command itself lives */
	size_t processes; /* of the project: cgroup, keeper's descendants, and with exclusive those
			     of its uid */
	uint64_t rss;
	double cpu_s;
	int64_t started, ended; /* of the command; 0: not */
	int status, signal;     /* how it ended */
	char command[256];
};
void wr_runner_status(struct wr_node *n, const struct wr_uuid *id, uid_t uid, bool exclusive,
		      bool with_usage, struct wr_runner_status *out);

struct wr_runner_stopped {
	size_t processes; /* there were */
	size_t killed;    /* had to be killed after the grace */
};
/* TERM to every process of the project, after grace_s KILL, until none is left; then the keeper,
 * its files and its cgroup go. By uid only if exclusive and root (never our own uid). No processes
 * is fine. */
int wr_runner_stop(struct wr_node *n, const struct wr_uuid *id, uid_t uid, bool exclusive,
		   uint64_t grace_s, struct wr_runner_stopped *out, struct wr_err *err);
/* SIGSTOP/SIGCONT or the cgroup's freezer: used around the last scan of a stop. */
int wr_runner_freeze(struct wr_node *n, const struct wr_uuid *id, uid_t uid, bool exclusive,
		     bool frozen, struct wr_err *err);

/* Entry of the keeper's process. */
int wr_keeper_main(int argc, char **argv);

#endif

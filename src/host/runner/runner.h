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
 *
 * A project that others vote on may run unfrozen only while its lease holds (W1).  The daemon sees
 * to that; and because it may be dead, it leaves the lease's end in RUN/run/ID.lease, and the
 * keeper freezes the project when that has passed.
 */
#ifndef WR_RUNNER_H
#define WR_RUNNER_H

#include "host/node/node.h"
#include "sys/cgroup.h"
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
	bool exclusive;         /* the uid is the project's alone: see wr_runner_freeze */
	unsigned deny;          /* enum wr_deny: calls by which files would escape their limits */
	struct wr_cgroup_limits limits; /* of all its processes together: wr_run_limits_of */
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

/* ---- what its processes may take (limits.c) ---- */

/* Settings memory, pids, cpu_max, cpu_weight, io_weight. */
struct wr_cgroup_limits wr_run_limits_of(const struct wr_settings *s);
/* Anew, while they run. Gives enum wr_cgroup_ctl: what is in force; 0 where it has no group. */
unsigned wr_run_limit(struct wr_node *n, const struct wr_uuid *id,
		      const struct wr_cgroup_limits *l);
bool wr_run_hits(struct wr_node *n, const struct wr_uuid *id, struct wr_cgroup_hits *out);

/* How much of that was told, and when: RUN/run/ID.seen, so that another daemon tells nothing twice.
 * It goes with the processes. */
struct wr_run_seen {
	uint64_t oom, pids;
	int64_t oom_at, pids_at; /* wall time; 0: never */
};
void wr_run_seen_load(struct wr_node *n, const struct wr_uuid *id, struct wr_run_seen *out);
void wr_run_seen_store(struct wr_node *n, const struct wr_uuid *id, const struct wr_run_seen *s);

/* Where this node's groups are, and what they can limit. */
struct wr_run_place {
	bool groups;          /* there is a place for them */
	bool unit;            /* systemd made it: warren-projects.scope */
	unsigned controllers; /* enum wr_cgroup_ctl */
	char why[200];        /* not more; "" if all is there */
	const char *hint;     /* what helps, or NULL */
};
void wr_run_place(const struct wr_node *n, struct wr_run_place *out);
/* The daemon's start: the place is made ready. Where it is ours and no service manager sees to it,
 * this process goes to a group of its own there, of low weight, with all that it will start but the
 * projects' processes. */
void wr_run_settle(const struct wr_node *n, struct wr_run_place *out);

/* ---- leases (lease.c) ---- */

/* From now on its keeper freezes it at until_ns (CLOCK_BOOTTIME), unless that is moved. Cheap. */
int wr_run_lease_store(struct wr_node *n, const struct wr_uuid *id, uint64_t until_ns,
		       struct wr_err *err);
/* It needs none (any more), or somebody else sees to it. */
void wr_run_lease_remove(struct wr_node *n, const struct wr_uuid *id);
/* Is that name in RUN/run a lease, and of which project? */
bool wr_run_lease_is(const char *name, struct wr_uuid *out_id);

/* RUN/frozen: what stands still, by whom and why. Does not outlive a boot, nor do processes. */
struct wr_frozen {
	int64_t since, heard; /* heard: when its replicas were last, if that is why; 0: it is not */
	bool by_keeper;       /* no daemon knew */
	char why[160];
};
int wr_frozen_open(int run_fd); /* the directory, made if absent; -1: errno */
/* Before anything is frozen. */
int wr_frozen_store(int run_fd, const struct wr_uuid *id, const struct wr_frozen *f,
		    struct wr_err *err);
void wr_frozen_remove(int run_fd, const struct wr_uuid *id);
/* Is that name in RUN/frozen a mark? about: of a keeper that is at it, or died over it. */
bool wr_frozen_is(const char *name, struct wr_uuid *out_id, bool *out_about);
void wr_frozen_load(int frozen_dir, const char *name, struct wr_frozen *out);

/* Entry of the keeper's process. */
int wr_keeper_main(int argc, char **argv);

#endif

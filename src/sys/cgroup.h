/* SPDX-License-Identifier: Apache-2.0 */
/* Groups of processes in the unified hierarchy: find, make, list, end all. No controller is needed
 * for that; with controllers, as many as there are, groups have limits. */
#ifndef WR_CGROUP_H
#define WR_CGROUP_H

#include <sys/types.h>

#include "base/err.h"

/* Descriptor of a writable cgroup v2 directory `slice` ("warren-projects.slice"), made if absent
 * below the mount of the unified hierarchy ($WARREN_CGROUP names another parent directory); -1 with
 * err (WR_E_UNSUPPORTED: none here, or not ours to write). */
int wr_cgroup_open(const char *slice, struct wr_err *err);
/* Descriptor of the group that a unit of systemd with Delegate= has ("a.slice/b.service"), below
 * the mount of the unified hierarchy; -1: there is none, it is not ours to write, or $WARREN_CGROUP
 * names another place. */
int wr_cgroup_open_unit(const char *path);
/* The descriptor of a group below it, made if absent; name: no '/', no '.' in front. */
int wr_cgroup_make(int slice_fd, const char *name, struct wr_err *err);
/* Processes in a group, also in groups below it. */
size_t wr_cgroup_pids(int slice_fd, const char *name, pid_t **out_pids);
/* SIGKILL to all at once (cgroup.kill, else one by one until none is left). Returns when they are
 * gone; WR_E_BUSY if one hangs in the kernel for two seconds. Absent is fine. */
int wr_cgroup_kill(int slice_fd, const char *name, struct wr_err *err);
/* Returns when all stand still (or may run again); WR_E_BUSY as above. */
int wr_cgroup_freeze(int slice_fd, const char *name, bool frozen, struct wr_err *err);
/* Remove an empty group and the empty groups below it; absent is fine. WR_E_BUSY: not empty. */
int wr_cgroup_remove(int slice_fd, const char *name, struct wr_err *err);
/* CPU seconds ever used by the group. false: unknown. */
bool wr_cgroup_cpu(int slice_fd, const char *name, double *out_s);

/* ---- limits ---- */

enum wr_cgroup_ctl {
	WR_CGROUP_CPU = 1,
	WR_CGROUP_IO = 2,
	WR_CGROUP_MEMORY = 4,
	WR_CGROUP_PIDS = 8,
	WR_CGROUP_ALL = 15
};
/* "cpu" and so on, in the order of their bits; NULL behind the last. */
extern const char *const wr_cgroup_ctl_name[];

/* Let the groups below the slice have controllers, as many as can be had; those of the slice itself
 * too if `above`: its parent is ours then, and gives away what it has. Gives enum wr_cgroup_ctl:
 * which groups below the slice have now. Never fails: who has none runs without. */
unsigned wr_cgroup_enable(int slice_fd, bool above);
/* The same without changing anything. */
unsigned wr_cgroup_controllers(int slice_fd);
/* What the group itself has been given, and could hand on. */
unsigned wr_cgroup_available(int group_fd);

struct wr_cgroup_limits {
	uint64_t memory;                /* bytes; 0: no limit */
	uint64_t pids;                  /* 0: no limit */
	uint64_t cpu_percent;           /* of one processor; 0: no limit */
	uint64_t cpu_weight, io_weight; /* 1 .. 10000; 0: left alone */
};
/* Put them on a group. Memory: at the limit they end, all at once; nothing of it is swapped. A
 * limit of memory that is less than what is in use ends nobody: it follows the use down, call after
 * call. Gives enum wr_cgroup_ctl: what is in force now, with memory only when it is down at what
 * was asked for. */
unsigned wr_cgroup_limit(int group_fd, const struct wr_cgroup_limits *l);

struct wr_cgroup_hits {
	uint64_t oom;  /* how often processes were ended for want of memory */
	uint64_t pids; /* how often a fork failed at the limit */
};
/* Since the group was made, all below it included. false: it is not there. */
bool wr_cgroup_hits(int slice_fd, const char *name, struct wr_cgroup_hits *out);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Groups of processes in the unified hierarchy: find, make, list, end all. No controller is needed.
 */
#ifndef WR_CGROUP_H
#define WR_CGROUP_H

#include <sys/types.h>

#include "base/err.h"

/* Descriptor of a writable cgroup v2 directory `slice` ("warren-projects.slice"), made if absent
 * below the mount of the unified hierarchy ($WARREN_CGROUP names another parent directory); -1 with
 * err (WR_E_UNSUPPORTED: none here, or not ours to write). */
int wr_cgroup_open(const char *slice, struct wr_err *err);
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

#endif

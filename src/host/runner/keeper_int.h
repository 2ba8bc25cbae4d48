/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the starter and its keeper.
 *
 *   descriptor 3  the job, JSON (a sealed memfd): {"id","uid","gid","set_ids","by_uid","deny",
 *                 "home","command","shell","env":[...]}; by_uid: whatever has the uid is the
 *                 project's
 *   descriptor 4  lines of JSON to the starter, who may be gone: {"started":ID} or {"error":{...}},
 *                 then {"ended":{"status","signal","tail"}}
 *   descriptor 5  RUN/run      6  STATE/log      7  the project's cgroup, or closed
 */
#ifndef WR_KEEPER_INT_H
#define WR_KEEPER_INT_H

#include "host/runner/runner.h"

enum { KEEPER_JOB = 3, KEEPER_REPORT, KEEPER_RUN, KEEPER_LOG, KEEPER_CGROUP };

#define RUN_FORMAT 1
/* LIMIT: a job (mostly the environment), a record in RUN/run. */
#define JOB_MAX (1u << 20)
#define RECORD_MAX (64u << 10)
/* LIMIT: of the log of a project's processes. When it is full the newer half stays. */
#define LOG_MAX (1u << 20)
/* Of the command's output, shown when it ends at once. */
#define TAIL_MAX 600

/* limits.c: the group that all groups of projects are in, -1: none. err stays empty if there are to
 * be none. */
int wr_run_slice(const struct wr_node *n, struct wr_err *err);
/* Where systemd is to make it: it is there, if that can be. */
void wr_run_ready(const struct wr_node *n);
/* Keepers live in a group of their own: freezing or ending a project's group spares them. */
#define WR_KEEPERS "keepers"
/* runner.c: freeze from within the keeper, whose command is *main; cgroup_fd: the project's, -1:
 * none; by_uid (uid_t)-1: not to be asked for. */
int wr_keeper_freeze(const struct wr_uuid *id, const struct wr_proc_id *main, int cgroup_fd,
		     uid_t by_uid, struct wr_err *err);
/* lease.c: until when (0: no lease); marks of a keeper before it freezes, and when it is done. */
uint64_t wr_run_lease_load(int run_dir, const struct wr_uuid *id);
int wr_frozen_about(int run_fd, const struct wr_uuid *id, const struct wr_frozen *f,
		    struct wr_err *err);
int wr_frozen_done(int run_fd, const struct wr_uuid *id, struct wr_err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the starter and its keeper.
 *
 *   descriptor 3  the job, JSON (a sealed memfd): {"id","uid","gid","set_ids","home","command",
 *                 "shell","env":[...]}
 *   descriptor 4  lines of JSON to the starter, who may be gone: {"started":ID} or {"error":{...}},
 *                 then {"ended":{"status","signal","tail"}}
 *   descriptor 5  RUN/run      6  STATE/log      7  the project's cgroup, or closed
 */
#ifndef WR_KEEPER_INT_H
#define WR_KEEPER_INT_H

#include "base/base.h"

enum { KEEPER_JOB = 3, KEEPER_REPORT, KEEPER_RUN, KEEPER_LOG, KEEPER_CGROUP };

#define RUN_FORMAT 1
/* LIMIT: a job (mostly the environment), a record in RUN/run. */
#define JOB_MAX (1u << 20)
#define RECORD_MAX (64u << 10)
/* LIMIT: of the log of a project's processes. When it is full the newer half stays. */
#define LOG_MAX (1u << 20)
/* Of the command's output, shown when it ends at once. */
#define TAIL_MAX 600

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small thread pool for trees of work.  Tasks are taken newest first, so that a walk that pushes
 * a task per subdirectory stays depth-first and holds few directories open.  A task may spread a
 * loop over idle threads with wr_pool_for.
 */
#ifndef WR_POOL_H
#define WR_POOL_H

#include <stddef.h>

struct wr_pool;

typedef void (*wr_task_fn)(void *arg);
/* Items lo <= i < hi of a loop. */
typedef void (*wr_range_fn)(void *ctx, size_t lo, size_t hi);

/* threads counts the caller, who works in wr_pool_run and wr_pool_for; 0 = one per CPU. */
struct wr_pool *wr_pool_new(unsigned threads);
void wr_pool_free(struct wr_pool *p); /* NULL is fine; no task may be left */
unsigned wr_pool_threads(const struct wr_pool *p);
/* Index of the calling thread in p, 0 .. threads-1; 0 is the caller of wr_pool_new. */
unsigned wr_pool_self(const struct wr_pool *p);

void wr_pool_push(struct wr_pool *p, wr_task_fn fn, void *arg);
/* Work until every task, also those pushed meanwhile, has ended. */
void wr_pool_run(struct wr_pool *p);
/*
 * Run fn over 0 .. n-1 in slices of `batch`, shared with idle threads; returns when all are done.
 * `leaf`: fn itself calls neither wr_pool_for nor anything that waits for other tasks.
 */
void wr_pool_for(struct wr_pool *p, size_t n, size_t batch, int leaf, wr_range_fn fn, void *ctx);

#endif

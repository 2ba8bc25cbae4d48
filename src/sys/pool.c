/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One mutex guards everything; loops hand out their slices by an atomic counter, so the mutex is
 * taken once per task and once per helper that joins a loop.  Idle threads first join loops
 * (they are what someone waits for), then take the newest task.
 */
#include "sys/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/base.h"

struct loop {
	struct loop *next;
	wr_range_fn fn;
	void *ctx;
	size_t n, batch;
	int leaf;
	atomic_size_t at;
	unsigned helpers; /* guarded by the pool's mutex */
};

struct task {
	wr_task_fn fn;
	void *arg;
};

struct wr_pool {
	pthread_mutex_t mutex;
	pthread_cond_t work;  /* something to take, or stop */
	pthread_cond_t ended; /* a loop helper or the last task ended */
	struct task *task;    /* a stack */
	size_t task_count, task_cap;
	size_t running; /* tasks taken and not ended */
	struct loop *loops;
	bool stop;
	unsigned threads;
	pthread_t *thread;
};

static _Thread_local unsigned self;

static bool
loop_open(const struct loop *l)
{
	return atomic_load_explicit(&l->at, memory_order_relaxed) < l->n;
}

static void
loop_work(struct loop *l)
{
	size_t lo;

	while ((lo = atomic_fetch_add(&l->at, l->batch)) < l->n)
		l->fn(l->ctx, lo, WR_MIN(l->n, lo + l->batch));
}

/* Join an open loop if there is one; the mutex is held on entry and exit. */
static bool
help_locked(struct wr_pool *p, bool leaf_only)
{
	for (struct loop *l = p->loops; l; l = l->next) {
		if ((leaf_only && !l->leaf) || !loop_open(l))
			continue;
		l->helpers++;
		pthread_mutex_unlock(&p->mutex);
		loop_work(l);
		pthread_mutex_lock(&p->mutex);
		if (--l->helpers == 0)
			pthread_cond_broadcast(&p->ended);
		return true;
	}
	return false;
}

static bool
task_locked(struct wr_pool *p)
{
	struct task t;

	if (!p->task_count)
		return false;
	t = p->task[--p->task_count];
	p->running++;
	pthread_mutex_unlock(&p->mutex);
	t.fn(t.arg);
	pthread_mutex_lock(&p->mutex);
	if (--p->running == 0 && p->task_count == 0)
		pthread_cond_broadcast(&p->ended);
	return true;
}

struct start {
	struct wr_pool *pool;
	unsigned index;
};

static void *
thread_main(void *arg)
{
	struct start *s = arg;
	struct wr_pool *p = s->pool;

	self = s->index;
	free(s);
	pthread_mutex_lock(&p->mutex);
	while (!p->stop)
		if (!help_locked(p, false) && !task_locked(p))
			pthread_cond_wait(&p->work, &p->mutex);
	pthread_mutex_unlock(&p->mutex);
	return NULL;
}

struct wr_pool *
wr_pool_new(unsigned threads)
{
	struct wr_pool *p = wr_calloc(1, sizeof(*p));
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	p->threads = threads ? threads : (unsigned)WR_MAX(cpus, 1);
	pthread_mutex_init(&p->mutex, NULL);
	pthread_cond_init(&p->work, NULL);
	pthread_cond_init(&p->ended, NULL);
	p->thread = wr_calloc(p->threads, sizeof(*p->thread));
	self = 0;
	for (unsigned i = 1; i < p->threads; i++) {
		struct start *s = wr_malloc(sizeof(*s));

		*s = (struct start){p, i};
		if (pthread_create(&p->thread[i], NULL, thread_main, s) != 0) {
			free(s);
			p->threads = i; /* fewer threads do the same work */
		}
	}
	return p;
}

void
wr_pool_free(struct wr_pool *p)
{
	if (!p)
		return;
	wr_assert(p->task_count == 0 && p->running == 0);
	pthread_mutex_lock(&p->mutex);
	p->stop = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->mutex);
	for (unsigned i = 1; i < p->threads; i++)
		pthread_join(p->thread[i], NULL);
	pthread_mutex_destroy(&p->mutex);
	pthread_cond_destroy(&p->work);
	pthread_cond_destroy(&p->ended);
	free(p->thread);
	free(p->task);
	free(p);
}

unsigned
wr_pool_threads(const struct wr_pool *p)
{
	return p->threads;
}

unsigned
wr_pool_self(const struct wr_pool *p)
{
	(void)p; /* a thread works for one pool at a time */
	return self;
}

void
wr_pool_push(struct wr_pool *p, wr_task_fn fn, void *arg)
{
	pthread_mutex_lock(&p->mutex);
	wr_grow(&p->task, &p->task_cap, p->task_count + 1, sizeof(*p->task));
	p->task[p->task_count++] = (struct task){fn, arg};
	pthread_cond_signal(&p->work);
	/* The caller of wr_pool_run waits on the other condition. */
	pthread_cond_broadcast(&p->ended);
	pthread_mutex_unlock(&p->mutex);
}

void
wr_pool_run(struct wr_pool *p)
{
	pthread_mutex_lock(&p->mutex);
	for (;;) {
		if (task_locked(p) || help_locked(p, false))
			continue;
		if (p->running == 0)
			break;
		pthread_cond_wait(&p->ended, &p->mutex);
	}
	pthread_mutex_unlock(&p->mutex);
}

void
wr_pool_for(struct wr_pool *p, size_t n, size_t batch, int leaf, wr_range_fn fn, void *ctx)
{
	struct loop l = {.fn = fn, .ctx = ctx, .n = n, .batch = batch ? batch : 1, .leaf = leaf};
	struct loop **at;

	if (n == 0)
		return;
	if (p->threads == 1 || n <= l.batch) {
		fn(ctx, 0, n);
		return;
	}
	pthread_mutex_lock(&p->mutex);
	l.next = p->loops;
	p->loops = &l;
	pthread_cond_broadcast(&p->work);
	pthread_cond_broadcast(&p->ended);
	pthread_mutex_unlock(&p->mutex);
	loop_work(&l);
	pthread_mutex_lock(&p->mutex);
	/* While the last slices run elsewhere, lend a hand to loops that cannot wait for ours. */
	while (l.helpers > 0)
		if (leaf || !help_locked(p, true))
			pthread_cond_wait(&p->ended, &p->mutex);
	for (at = &p->loops; *at != &l; at = &(*at)->next)
		;
	*at = l.next;
	pthread_mutex_unlock(&p->mutex);
}

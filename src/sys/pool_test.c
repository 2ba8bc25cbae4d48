/* SPDX-License-Identifier: Apache-2.0 */
/* The pool under load: every task and every index exactly once, nobody waits for ever. */
#include "sys/pool.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

#include <cmocka.h>

static const unsigned thread_counts[] = {1, 2, 3, 8};

struct walk {
	struct wr_pool *pool;
	atomic_uint done;
	atomic_uint bad_self;
	atomic_uint loop_sum;
};

struct node {
	struct walk *walk;
	unsigned depth;
};

/* A tree of tasks: every node pushes three children. */
static void
visit(void *arg)
{
	struct node *n = arg;
	struct walk *w = n->walk;

	if (wr_pool_self(w->pool) >= wr_pool_threads(w->pool))
		atomic_fetch_add(&w->bad_self, 1);
	for (int i = 0; n->depth > 0 && i < 3; i++) {
		struct node *child = wr_malloc(sizeof(*child));

		*child = (struct node){w, n->depth - 1};
		wr_pool_push(w->pool, visit, child);
	}
	atomic_fetch_add(&w->done, 1);
	free(n);
}

static void
push_root(struct walk *w, unsigned depth, wr_task_fn fn)
{
	struct node *root = wr_malloc(sizeof(*root));

	*root = (struct node){w, depth};
	wr_pool_push(w->pool, fn, root);
}

static void
test_pool__a_tree_of_tasks(void **state)
{
	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(thread_counts); i++) {
		struct walk w = {.pool = wr_pool_new(thread_counts[i])};

		assert_int_equal(wr_pool_threads(w.pool), thread_counts[i]);
		for (int round = 0; round < 20; round++) {
			atomic_store(&w.done, 0);
			push_root(&w, 6, visit);
			wr_pool_run(w.pool);
			assert_int_equal(atomic_load(&w.done), (2187 - 1) / 2);
		}
		assert_int_equal(atomic_load(&w.bad_self), 0);
		wr_pool_free(w.pool);
	}
}

static void
mark(void *ctx, size_t lo, size_t hi)
{
	atomic_uchar *seen = ctx;

	for (size_t i = lo; i < hi; i++)
		atomic_fetch_add(&seen[i], 1);
}

static void
test_for__every_index_once(void **state)
{
	static const size_t counts[] = {0, 1, 2, 7, 100, 4096, 10007};
	static const size_t batches[] = {0, 1, 3, 64, 100000};
	atomic_uchar *seen = wr_calloc(10007, sizeof(*seen));

	(void)state;
	for (size_t t = 0; t < WR_ARRAY_LEN(thread_counts); t++) {
		struct wr_pool *p = wr_pool_new(thread_counts[t]);

		for (size_t c = 0; c < WR_ARRAY_LEN(counts); c++) {
			for (size_t b = 0; b < WR_ARRAY_LEN(batches); b++) {
				for (size_t i = 0; i < 10007; i++)
					atomic_store(&seen[i], 0);
				wr_pool_for(p, counts[c], batches[b], 1, mark, seen);
				for (size_t i = 0; i < 10007; i++)
					assert_int_equal(atomic_load(&seen[i]), i < counts[c]);
			}
		}
		wr_pool_free(p);
	}
	free(seen);
}

/* ---- loops inside tasks inside loops ---- */

static void
add_one(void *ctx, size_t lo, size_t hi)
{
	atomic_fetch_add((atomic_uint *)ctx, (unsigned)(hi - lo));
}

struct outer {
	struct wr_pool *pool;
	atomic_uint *sum;
};

/* Not a leaf: each of its slices runs a loop of its own. */
static void
outer_slice(void *ctx, size_t lo, size_t hi)
{
	struct outer *o = ctx;

	for (size_t i = lo; i < hi; i++)
		wr_pool_for(o->pool, 50, 4, 1, add_one, o->sum);
}

static void
visit_with_loops(void *arg)
{
	struct node *n = arg;
	struct walk *w = n->walk;
	struct outer o = {w->pool, &w->loop_sum};

	for (int i = 0; n->depth > 0 && i < 2; i++) {
		struct node *child = wr_malloc(sizeof(*child));

		*child = (struct node){w, n->depth - 1};
		wr_pool_push(w->pool, visit_with_loops, child);
	}
	wr_pool_for(w->pool, 200, 16, 1, add_one, &w->loop_sum);
	wr_pool_for(w->pool, 12, 1, 0, outer_slice, &o);
	atomic_fetch_add(&w->done, 1);
	free(n);
}

static void
test_pool__loops_in_tasks_and_in_loops(void **state)
{
	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(thread_counts); i++) {
		struct walk w = {.pool = wr_pool_new(thread_counts[i])};

		for (int round = 0; round < 20; round++) {
			atomic_store(&w.done, 0);
			atomic_store(&w.loop_sum, 0);
			push_root(&w, 5, visit_with_loops);
			wr_pool_run(w.pool);
			assert_int_equal(atomic_load(&w.done), 63);
			assert_int_equal(atomic_load(&w.loop_sum), 63 * (200 + 12 * 50));
		}
		wr_pool_free(w.pool);
	}
}

/* ---- order, idling, sharing ---- */

static unsigned order[8];
static unsigned order_count;

static void
note(void *arg)
{
	order[order_count++] = *(unsigned *)arg;
}

static void
test_pool__newest_task_first(void **state)
{
	struct wr_pool *p = wr_pool_new(1);
	unsigned n[3] = {0, 1, 2};

	(void)state;
	order_count = 0;
	for (int i = 0; i < 3; i++)
		wr_pool_push(p, note, &n[i]);
	wr_pool_run(p);
	assert_int_equal(order_count, 3);
	assert_int_equal(order[0], 2);
	assert_int_equal(order[1], 1);
	assert_int_equal(order[2], 0);
	wr_pool_free(p);
}

static void
test_pool__run_without_tasks_returns(void **state)
{
	struct wr_pool *p = wr_pool_new(4);

	(void)state;
	for (int i = 0; i < 100; i++)
		wr_pool_run(p);
	wr_pool_free(p);
	wr_pool_free(NULL);
	for (int i = 0; i < 50; i++)
		wr_pool_free(wr_pool_new(4)); /* stopped before its threads got going */
}

struct meeting {
	pthread_barrier_t barrier;
	struct wr_pool *pool;
	atomic_uint self_mask;
};

static void
meet(void *ctx, size_t lo, size_t hi)
{
	struct meeting *m = ctx;

	for (size_t i = lo; i < hi; i++) {
		atomic_fetch_or(&m->self_mask, 1u << wr_pool_self(m->pool));
		pthread_barrier_wait(&m->barrier);
	}
}

static void
test_for__idle_threads_do_share_the_loop(void **state)
{
	struct meeting m = {.pool = wr_pool_new(4)};

	(void)state;
	/* Passes only if four threads are inside at the same time. */
	pthread_barrier_init(&m.barrier, NULL, 4);
	wr_pool_for(m.pool, 4, 1, 1, meet, &m);
	assert_int_equal(atomic_load(&m.self_mask), 0xf);
	pthread_barrier_destroy(&m.barrier);
	wr_pool_free(m.pool);
}

static void
sleepy(void *arg)
{
	struct walk *w = arg;
	struct timespec nap = {0, 2000000};

	nanosleep(&nap, NULL);
	if (atomic_fetch_add(&w->done, 1) < 20)
		wr_pool_push(w->pool, sleepy, w);
}

static void
test_pool__late_tasks_are_waited_for(void **state)
{
	struct walk w = {.pool = wr_pool_new(3)};

	(void)state;
	/* A chain: most of the time no task is queued and one is running. */
	wr_pool_push(w.pool, sleepy, &w);
	wr_pool_run(w.pool);
	assert_int_equal(atomic_load(&w.done), 21);
	wr_pool_free(w.pool);
}

static void
test_pool__zero_means_one_per_cpu(void **state)
{
	struct wr_pool *p = wr_pool_new(0);

	(void)state;
	assert_int_equal(wr_pool_threads(p), sysconf(_SC_NPROCESSORS_ONLN));
	wr_pool_free(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_pool__a_tree_of_tasks),
	    cmocka_unit_test(test_for__every_index_once),
	    cmocka_unit_test(test_pool__loops_in_tasks_and_in_loops),
	    cmocka_unit_test(test_pool__newest_task_first),
	    cmocka_unit_test(test_pool__run_without_tasks_returns),
	    cmocka_unit_test(test_for__idle_threads_do_share_the_loop),
	    cmocka_unit_test(test_pool__late_tasks_are_waited_for),
	    cmocka_unit_test(test_pool__zero_means_one_per_cpu),
	};

	alarm(240); /* a lost wake-up ends here and not never */
	return cmocka_run_group_tests(tests, NULL, NULL);
}

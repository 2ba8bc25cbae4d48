/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/control/loop.h"

#include <setjmp.h>
/* cmocka wants these four before it */
#include <cmocka.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys/clock.h"
#include "sys/proc.h"

static struct wr_loop loop;
static int order[8], order_count;

struct numbered {
	struct wr_timer t;
	int n;
};

static void
on_numbered(struct wr_timer *t)
{
	struct numbered *x = WR_OWNER(t, struct numbered, t);

	order[order_count++] = x->n;
	/* Its owner may go in its own call-back. */
	free(x);
}

static struct numbered *
numbered(int n, uint64_t after_ms)
{
	struct numbered *x = wr_calloc(1, sizeof(*x));

	x->n = n;
	wr_timer_on(&loop, &x->t, after_ms * 1000000, on_numbered);
	return x;
}

static void
step_until(const int *counter, int n)
{
	uint64_t end = wr_clock_mono_ns() + 20000000000u;

	while (*counter < n) {
		assert_int_equal(wr_loop_step(&loop, NULL), 0);
		assert_true(wr_clock_mono_ns() < end);
	}
}

static void
test_timers__in_order(void **state WR_UNUSED)
{
	struct numbered *out;

	order_count = 0;
	numbered(3, 30);
	numbered(1, 0);
	out = numbered(9, 10);
	numbered(2, 20);
	wr_timer_off(&loop, &out->t);
	wr_timer_off(&loop, &out->t);
	free(out);
	step_until(&order_count, 3);
	for (int i = 0; i < 3; i++)
		assert_int_equal(order[i], i + 1);
	assert_null(loop.timers);
}

/* Two that are ready at once; each takes the other out. */
static struct wr_watch twin[2];
static int twin_calls;

static void
on_twin(struct wr_watch *w, uint32_t events WR_UNUSED)
{
	twin_calls++;
	wr_watch_off(&loop, &twin[w == &twin[0]]);
	wr_watch_off(&loop, w);
}

static void
test_watch__taken_out_is_never_served(void **state WR_UNUSED)
{
	int a[2], b[2];
	struct numbered *end;

	assert_int_equal(pipe(a), 0);
	assert_int_equal(pipe(b), 0);
	assert_int_equal(write(a[1], "x", 1), 1);
	assert_int_equal(write(b[1], "x", 1), 1);
	wr_watch_on(&loop, &twin[0], a[0], EPOLLIN, on_twin);
	wr_watch_on(&loop, &twin[1], b[0], EPOLLIN, on_twin);
	order_count = 0;
	end = numbered(1, 50);
	(void)end;
	step_until(&order_count, 1);
	assert_int_equal(twin_calls, 1);
	close(a[0]);
	close(a[1]);
	close(b[0]);
	close(b[1]);
}

static int child_calls, child_status;

static void
on_child(struct wr_child *ch, int wait_status)
{
	assert_int_equal(ch->pid, 0);
	child_calls++;
	child_status = wait_status;
}

static void
test_child__own(void **state WR_UNUSED)
{
	struct wr_child ch = {0};
	pid_t pid = fork();

	if (pid == 0)
		_exit(7);
	child_calls = 0;
	wr_child_on(&loop, &ch, pid, -1, on_child);
	step_until(&child_calls, 1);
	assert_true(WIFEXITED(child_status));
	assert_int_equal(WEXITSTATUS(child_status), 7);
	pid = fork();
	if (pid == 0)
		for (;;)
			pause();
	wr_child_on(&loop, &ch, pid, -1, on_child);
	wr_child_kill(&ch);
	step_until(&child_calls, 2);
	assert_true(WIFSIGNALED(child_status));
}

static void
test_child__adopted(void **state WR_UNUSED)
{
	struct wr_child ch = {0};
	struct wr_proc_id id;
	int pipes[2];
	pid_t grandchild, middle;

	assert_int_equal(pipe(pipes), 0);
	middle = fork();
	if (middle == 0) {
		grandchild = fork();
		if (grandchild == 0)
			for (;;)
				pause();
		_exit(write(pipes[1], &grandchild, sizeof(grandchild)) < 0);
	}
	assert_int_equal(read(pipes[0], &grandchild, sizeof(grandchild)), sizeof(grandchild));
	assert_int_equal(waitpid(middle, NULL, 0), middle);
	assert_int_equal(wr_proc_id_of(grandchild, &id, NULL), 0);
	child_calls = 0;
	wr_child_on(&loop, &ch, grandchild, wr_proc_pidfd(&id), on_child);
	wr_child_kill(&ch);
	step_until(&child_calls, 1);
	assert_int_equal(child_status, -1);
	close(pipes[0]);
	close(pipes[1]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_timers__in_order),
	    cmocka_unit_test(test_watch__taken_out_is_never_served),
	    cmocka_unit_test(test_child__own),
	    cmocka_unit_test(test_child__adopted),
	};
	struct wr_err err = WR_ERR_INIT;
	int rc;

	if (wr_loop_init(&loop, &err) < 0)
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	wr_loop_fini(&loop);
	return rc;
}

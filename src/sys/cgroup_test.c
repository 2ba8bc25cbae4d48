/* SPDX-License-Identifier: Apache-2.0 */
/* Control groups, where this system has some to write to. */
#include "sys/cgroup.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "sys/clock.h"
#include "sys/fs.h"
#include "sys/proc.h"

static char slice_name[64]; /* fixed before the tests */
static int slice = -1;      /* -1: none here */

static int
setup(void **state)
{
	struct wr_err e = WR_ERR_INIT;

	(void)state;
	snprintf(slice_name, sizeof(slice_name), "warren-test-%d.slice", (int)getpid());
	slice = wr_cgroup_open(slice_name, &e);
	if (slice < 0)
		print_message("skipped: %s\n", e.msg);
	return 0;
}

static int
teardown(void **state)
{
	WR_SCOPED(wr_closep) int parent = -1;

	(void)state;
	if (slice < 0)
		return 0;
	parent = openat(slice, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	close(slice);
	return wr_cgroup_kill(parent, slice_name, NULL) |
	       wr_cgroup_remove(parent, slice_name, NULL);
}

static void
need_slice(void)
{
	if (slice < 0)
		skip();
}

/* A process of the group that does as `script` says and its child does; both stay. */
static pid_t
start_in(int group, const char *script)
{
	const char *const argv[] = {"sh", "-c", script, NULL};
	struct wr_spawn s = WR_SPAWN_INIT;
	struct wr_err e = WR_ERR_INIT;
	pid_t pid;

	s.path = "/bin/sh";
	s.argv = argv;
	s.cgroup_fd = group;
	if (wr_spawn(&s, &pid, &e) < 0)
		fail_msg("%s", e.msg);
	return pid;
}

/* Poll until the group has n processes. */
static void
await_count(const char *name, size_t n)
{
	const uint64_t end = wr_clock_mono_ns() + UINT64_C(10000000000);
	struct timespec nap = {0, 5000000};

	while (wr_cgroup_pids(slice, name, NULL) != n) {
		if (wr_clock_mono_ns() > end)
			fail_msg("not %zu but %zu processes", n, wr_cgroup_pids(slice, name, NULL));
		nanosleep(&nap, NULL);
	}
}

static void
test_group__born_into_listed_killed_removed(void **state)
{
	struct wr_err e = WR_ERR_INIT;
	WR_SCOPED(wr_closep) int g = -1;
	WR_SCOPED(wr_closep) int again = -1;
	pid_t pid, *pids = NULL;
	int status = 0;
	double cpu;

	(void)state;
	need_slice();
	g = wr_cgroup_make(slice, "one", &e);
	again = wr_cgroup_make(slice, "one", &e);
	assert_true(g >= 0 && again >= 0);
	/* The child leaves the session, and stays in the group all the same. */
	pid = start_in(g, "setsid sleep 1000 & sleep 1000; :");
	await_count("one", 3);
	assert_int_equal(wr_cgroup_pids(slice, "one", &pids), 3);
	assert_true(pids[0] == pid || pids[1] == pid || pids[2] == pid);
	free(pids);
	assert_int_equal(wr_cgroup_remove(slice, "one", &e), -1);
	assert_int_equal(e.code, WR_E_BUSY);
	assert_int_equal(wr_cgroup_kill(slice, "one", &e), 0);
	assert_int_equal(wr_cgroup_pids(slice, "one", NULL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	if (wr_cgroup_cpu(slice, "one", &cpu))
		assert_true(cpu > 0 && cpu < 60);
	assert_int_equal(wr_cgroup_remove(slice, "one", &e), 0);
	assert_int_equal(wr_cgroup_remove(slice, "one", &e), 0);
	assert_int_equal(wr_cgroup_kill(slice, "one", &e), 0);
	assert_int_equal(wr_cgroup_pids(slice, "one", NULL), 0);
	assert_false(wr_cgroup_cpu(slice, "one", &cpu));
}

static void
test_group__frozen_and_killed_while_frozen(void **state)
{
	struct wr_err e = WR_ERR_INIT;
	WR_SCOPED(wr_closep) int g = -1;
	uint64_t rss;
	double before, after;
	pid_t pid;

	(void)state;
	need_slice();
	g = wr_cgroup_make(slice, "two", &e);
	assert_true(g >= 0);
	pid = start_in(g, "while :; do :; done");
	assert_int_equal(wr_cgroup_freeze(slice, "two", true, &e), 0);
	assert_true(wr_proc_usage(pid, &rss, &before));
	{
		struct timespec nap = {0, 100000000};

		nanosleep(&nap, NULL);
	}
	assert_true(wr_proc_usage(pid, &rss, &after));
	assert_true(after <= before);
	assert_int_equal(wr_cgroup_freeze(slice, "two", false, &e), 0);
	assert_int_equal(wr_cgroup_freeze(slice, "two", true, &e), 0);
	assert_int_equal(wr_cgroup_kill(slice, "two", &e), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(wr_cgroup_remove(slice, "two", &e), 0);
	assert_int_equal(wr_cgroup_freeze(slice, "two", true, &e), -1);
	assert_int_equal(e.code, WR_E_NOT_FOUND);
}

static void
test_group__groups_below_belong_to_it(void **state)
{
	struct wr_err e = WR_ERR_INIT;
	WR_SCOPED(wr_closep) int g = -1;
	WR_SCOPED(wr_closep) int deep = -1;
	pid_t pid;

	(void)state;
	need_slice();
	g = wr_cgroup_make(slice, "three", &e);
	assert_int_equal(mkdirat(g, "a", 0755), 0);
	assert_int_equal(mkdirat(g, "a/b", 0755), 0);
	assert_int_equal(mkdirat(g, "c", 0755), 0);
	deep = openat(g, "a/b", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	pid = start_in(deep, "exec sleep 1000");
	assert_int_equal(wr_cgroup_pids(slice, "three", NULL), 1);
	assert_int_equal(wr_cgroup_kill(slice, "three", &e), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(wr_cgroup_remove(slice, "three", &e), 0);
	assert_int_equal(faccessat(slice, "three", F_OK, 0), -1);
}

static void
test_names__no_paths(void **state)
{
	static const char *const bad[] = {"", ".", "..", "a/b", "/", ".hidden"};
	struct wr_err e = WR_ERR_INIT;

	(void)state;
	need_slice();
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		assert_int_equal(wr_cgroup_make(slice, bad[i], &e), -1);
		assert_int_equal(e.code, WR_E_INVALID);
	}
}

static void
test_open__elsewhere_is_unsupported(void **state)
{
	struct wr_err e = WR_ERR_INIT;

	(void)state;
	setenv("WARREN_CGROUP", "/tmp", 1);
	assert_int_equal(wr_cgroup_open("x.slice", &e), -1);
	assert_int_equal(e.code, WR_E_UNSUPPORTED);
	setenv("WARREN_CGROUP", "/nonexistent", 1);
	assert_int_equal(wr_cgroup_open("x.slice", &e), -1);
	assert_int_equal(e.code, WR_E_UNSUPPORTED);
	unsetenv("WARREN_CGROUP");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_group__born_into_listed_killed_removed),
	    cmocka_unit_test(test_group__frozen_and_killed_while_frozen),
	    cmocka_unit_test(test_group__groups_below_belong_to_it),
	    cmocka_unit_test(test_names__no_paths),
	    cmocka_unit_test(test_open__elsewhere_is_unsupported),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

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

/* ---- limits: where the parent of our slice gives controllers ---- */

static void
need_controllers(unsigned which)
{
	need_slice();
	if ((wr_cgroup_enable(slice, true) & which) != which)
		skip();
}

static void
read_text(int group, const char *file, char *out, size_t size)
{
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;
	struct wr_err e = WR_ERR_INIT;

	if (wr_read_file(group, file, 4096, &b, &e) < 0)
		fail_msg("%s", e.msg);
	snprintf(out, size, "%s", wr_buf_str(&b));
	out[strcspn(out, "\n")] = '\0';
}

static void
assert_text(int group, const char *file, const char *want)
{
	char have[128];

	read_text(group, file, have, sizeof(have));
	assert_string_equal(have, want);
}

static void
test_limit__numbers_arrive(void **state)
{
	const struct wr_cgroup_limits some = {
	    .memory = 64 << 20, .pids = 20, .cpu_percent = 150, .cpu_weight = 50, .io_weight = 30};
	const struct wr_cgroup_limits none = {.cpu_weight = 100};
	struct wr_err e = WR_ERR_INIT;
	WR_SCOPED(wr_closep) int g = -1;

	(void)state;
	need_controllers(WR_CGROUP_CPU | WR_CGROUP_MEMORY | WR_CGROUP_PIDS);
	g = wr_cgroup_make(slice, "lim", &e);
	assert_int_equal(wr_cgroup_limit(g, &some) | WR_CGROUP_IO, WR_CGROUP_ALL);
	assert_text(g, "memory.max", "67108864");
	assert_text(g, "memory.high", "67108864");
	assert_text(g, "memory.oom.group", "1");
	assert_text(g, "pids.max", "20");
	assert_text(g, "cpu.max", "150000 100000");
	assert_text(g, "cpu.weight", "50");
	assert_int_equal(wr_cgroup_limit(g, &none) | WR_CGROUP_IO, WR_CGROUP_ALL);
	assert_text(g, "memory.max", "max");
	assert_text(g, "memory.high", "max");
	assert_text(g, "pids.max", "max");
	assert_text(g, "cpu.max", "max 100000");
	assert_int_equal(wr_cgroup_remove(slice, "lim", &e), 0);
}

/* Perl is there wherever Debian is. */
#define TAKE(mib) "exec perl -e 'my @x; push @x, \"x\" x 1048576 for 1.." #mib "; sleep 1000'"

static uint64_t
memory_of(int group)
{
	char text[64];

	read_text(group, "memory.current", text, sizeof(text));
	return strtoull(text, NULL, 10);
}

static void
await_memory(int group, uint64_t bytes)
{
	const uint64_t end = wr_clock_mono_ns() + UINT64_C(30000000000);
	struct timespec nap = {0, 20000000};

	while (memory_of(group) < bytes) {
		if (wr_clock_mono_ns() > end)
			fail_msg("not %" PRIu64 " but %" PRIu64, bytes, memory_of(group));
		nanosleep(&nap, NULL);
	}
}

static void
test_memory__a_hog_ends_as_one_and_alone(void **state)
{
	const struct wr_cgroup_limits l = {.memory = 24 << 20};
	struct wr_err e = WR_ERR_INIT;
	WR_SCOPED(wr_closep) int hog = -1;
	WR_SCOPED(wr_closep) int other = -1;
	struct wr_cgroup_hits hits;
	pid_t pid, neighbour;
	int status = 0;

	(void)state;
	need_controllers(WR_CGROUP_MEMORY);
	hog = wr_cgroup_make(slice, "hog", &e);
	other = wr_cgroup_make(slice, "other", &e);
	assert_true(wr_cgroup_limit(hog, &l) & WR_CGROUP_MEMORY);
	neighbour = start_in(other, "exec sleep 1000");
	/* The shell and its sleep have done nothing. */
	pid = start_in(hog, "sleep 1000 & (" TAKE(100) ") & wait; wait; sleep 1000");
	/* Who looks after the limit gives it no more. */
	while (waitpid(pid, &status, WNOHANG) == 0) {
		struct timespec nap = {0, 10000000};

		assert_true(wr_cgroup_limit(hog, &l) & WR_CGROUP_MEMORY);
		assert_text(hog, "memory.max", "25165824");
		nanosleep(&nap, NULL);
	}
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	await_count("hog", 0);
	assert_true(wr_cgroup_hits(slice, "hog", &hits));
	assert_true(hits.oom >= 1);
	assert_int_equal(wr_cgroup_pids(slice, "other", NULL), 1);
	assert_true(wr_cgroup_hits(slice, "other", &hits));
	assert_int_equal(hits.oom, 0);
	assert_int_equal(wr_cgroup_kill(slice, "other", &e), 0);
	assert_int_equal(waitpid(neighbour, &status, 0), neighbour);
	assert_int_equal(wr_cgroup_remove(slice, "hog", &e), 0);
	assert_int_equal(wr_cgroup_remove(slice, "other", &e), 0);
	assert_false(wr_cgroup_hits(slice, "hog", &hits));
}

static void
test_memory__lowered_it_ends_nobody(void **state)
{
	const struct wr_cgroup_limits much = {.memory = 200 << 20}, little = {.memory = 16 << 20};
	struct wr_err e = WR_ERR_INIT;
	WR_SCOPED(wr_closep) int g = -1;
	struct wr_cgroup_hits hits;
	int status = 0;
	pid_t pid;

	(void)state;
	need_controllers(WR_CGROUP_MEMORY);
	g = wr_cgroup_make(slice, "low", &e);
	assert_true(wr_cgroup_limit(g, &much) & WR_CGROUP_MEMORY);
	pid = start_in(g, TAKE(60));
	await_memory(g, 60 << 20);
	assert_false(wr_cgroup_limit(g, &little) & WR_CGROUP_MEMORY);
	assert_false(wr_cgroup_limit(g, &little) & WR_CGROUP_MEMORY);
	assert_true(memory_of(g) > 16 << 20);
	assert_text(g, "memory.high", "16777216");
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	assert_true(wr_cgroup_hits(slice, "low", &hits));
	assert_int_equal(hits.oom, 0);
	/* What is in use is less now, so the limit follows. */
	assert_int_equal(wr_cgroup_kill(slice, "low", &e), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(wr_cgroup_limit(g, &little) & WR_CGROUP_MEMORY);
	assert_text(g, "memory.max", "16777216");
	assert_int_equal(wr_cgroup_remove(slice, "low", &e), 0);
}

static void
test_pids__no_more_than_that(void **state)
{
	const struct wr_cgroup_limits l = {.pids = 10};
	const uint64_t end = wr_clock_mono_ns() + UINT64_C(20000000000);
	struct timespec nap = {0, 10000000};
	struct wr_err e = WR_ERR_INIT;
	WR_SCOPED(wr_closep) int g = -1;
	struct wr_cgroup_hits hits = {0};
	pid_t pid;

	(void)state;
	need_controllers(WR_CGROUP_PIDS);
	g = wr_cgroup_make(slice, "bomb", &e);
	assert_true(wr_cgroup_limit(g, &l) & WR_CGROUP_PIDS);
	pid = start_in(g, "exec perl -e 'while (1) { fork; select undef, undef, undef, 0.01 }'");
	while (wr_cgroup_hits(slice, "bomb", &hits) && hits.pids == 0) {
		assert_true(wr_clock_mono_ns() < end);
		assert_true(wr_cgroup_pids(slice, "bomb", NULL) <= 10);
		nanosleep(&nap, NULL);
	}
	assert_true(wr_cgroup_pids(slice, "bomb", NULL) <= 10);
	assert_int_equal(wr_cgroup_kill(slice, "bomb", &e), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(wr_cgroup_remove(slice, "bomb", &e), 0);
}

/* Without controllers all is refused, quietly. */
static void
test_limit__none_where_there_are_no_controllers(void **state)
{
	const struct wr_cgroup_limits l = {.memory = 64 << 20, .pids = 20, .cpu_weight = 50};
	struct wr_err e = WR_ERR_INIT;
	WR_SCOPED(wr_closep) int g = -1;
	WR_SCOPED(wr_closep) int below = -1;

	(void)state;
	need_slice();
	g = wr_cgroup_make(slice, "plain", &e);
	assert_int_equal(mkdirat(g, "below", 0755), 0);
	below = openat(g, "below", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(wr_cgroup_controllers(g), 0); /* nobody asked for any */
	assert_int_equal(wr_cgroup_available(below), 0);
	assert_int_equal(wr_cgroup_limit(below, &l), 0);
	assert_int_equal(wr_cgroup_remove(slice, "plain", &e), 0);
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
	assert_int_equal(wr_cgroup_open_unit("x.slice"), -1);
	unsetenv("WARREN_CGROUP");
	assert_int_equal(wr_cgroup_open_unit("no.slice/no.service"), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_group__born_into_listed_killed_removed),
	    cmocka_unit_test(test_group__frozen_and_killed_while_frozen),
	    cmocka_unit_test(test_group__groups_below_belong_to_it),
	    cmocka_unit_test(test_limit__numbers_arrive),
	    cmocka_unit_test(test_memory__a_hog_ends_as_one_and_alone),
	    cmocka_unit_test(test_memory__lowered_it_ends_nobody),
	    cmocka_unit_test(test_pids__no_more_than_that),
	    cmocka_unit_test(test_limit__none_where_there_are_no_controllers),
	    cmocka_unit_test(test_names__no_paths),
	    cmocka_unit_test(test_open__elsewhere_is_unsupported),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

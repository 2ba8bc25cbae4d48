/* SPDX-License-Identifier: Apache-2.0 */
/* Lines on standard error, which is a pipe meanwhile. */
#include "base/log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/str.h"

static char *
logged(void (*fn)(void))
{
	static char out[16384];
	int p[2], saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	ssize_t n;

	assert_int_equal(pipe(p), 0);
	dup2(p[1], STDERR_FILENO);
	fn();
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(p[1]);
	n = read(p[0], out, sizeof(out) - 1); /* it fits into the pipe whole */
	close(p[0]);
	assert_true(n >= 0);
	out[n] = '\0';
	return out;
}

static void
two_and_a_dropped_one(void)
{
	struct wr_err e = WR_ERR_INIT;

	errno = EBADF;
	wr_log(WR_LOG_DEBUG, "not this");
	wr_log(WR_LOG_NOTICE, "listening at=%s", "/run/x");
	assert_int_equal(errno, EBADF);
	wr_err_set(&e, WR_E_BUSY, "in use\nby another");
	wr_err_hint(&e, "wait");
	wr_log_err(WR_LOG_ERROR, "start", &e);
}

static void
a_long_one(void)
{
	wr_log(WR_LOG_ERROR, "%09999d", 1);
}

static void
test_log__for_people(void **state)
{
	static const char first[] = " notice control: listening at=/run/x\n";
	static const char second[] = " error control: start: in use?by another hint=\"wait\"\n";
	char *s, *next;
	int64_t t;

	(void)state;
	wr_log_init("control", WR_LOG_NOTICE, false);
	s = logged(two_and_a_dropped_one);
	assert_memory_equal(s + 20, first, strlen(first));
	next = s + 20 + strlen(first);
	assert_string_equal(next + 20, second);
	s[20] = next[20] = '\0';
	assert_int_equal(wr_parse_utc(s, &t, NULL), 0);
	assert_int_equal(wr_parse_utc(next, &t, NULL), 0);
}

static void
test_log__for_the_journal(void **state)
{
	(void)state;
	wr_log_init("front", WR_LOG_NOTICE, true);
	assert_string_equal(logged(two_and_a_dropped_one),
			    "<5>front: listening at=/run/x\n"
			    "<3>front: start: in use?by another hint=\"wait\"\n");
}

static void
test_log__long_lines_are_cut(void **state)
{
	char *s;

	(void)state;
	wr_log_init("front", WR_LOG_NOTICE, true);
	s = logged(a_long_one);
	assert_true(strlen(s) <= 4096);
	assert_true(strchr(s, '\n') == s + strlen(s) - 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_log__for_people),
	    cmocka_unit_test(test_log__for_the_journal),
	    cmocka_unit_test(test_log__long_lines_are_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

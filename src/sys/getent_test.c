/* SPDX-License-Identifier: Apache-2.0 */
/* Against this host's name services; one that hangs or fails is put in its place by 77-identity. */
#include "sys/getent.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define NOBODY_HAS 3999999999u

static void
test_getent__found(void **state)
{
	struct wr_getent_entry e = {.id = 7};

	(void)state;
	assert_int_equal(wr_getent_by_name(false, "root", &e), WR_GETENT_FOUND);
	assert_int_equal(e.id, 0);
	assert_string_equal(e.name, "root");
	assert_int_equal(wr_getent_by_id(false, 0, &e), WR_GETENT_FOUND);
	assert_string_equal(e.name, "root");
	assert_int_equal(wr_getent_by_id(true, 0, &e), WR_GETENT_FOUND);
	assert_int_equal(e.gid, 0);
}

static size_t
children(void)
{
	size_t n = 0;
	DIR *d = opendir("/proc");
	const struct dirent *e;

	assert_non_null(d);
	while ((e = readdir(d))) {
		char path[300], line[512];
		const char *end;
		FILE *f;
		long parent = 0;

		if (*e->d_name < '1' || *e->d_name > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%s/stat", e->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (fgets(line, sizeof(line), f) && (end = strrchr(line, ')')) &&
		    sscanf(end, ") %*c %ld", &parent) == 1 && parent == getpid())
			n++;
		(void)fclose(f);
	}
	closedir(d);
	return n;
}

static void
test_getent__absent(void **state)
{
	struct wr_getent_entry e = {.id = 7};

	(void)state;
	assert_int_equal(wr_getent_by_name(false, "nobody-has-this-name", &e), WR_GETENT_ABSENT);
	assert_int_equal(wr_getent_by_name(true, "nobody-has-this-name", &e), WR_GETENT_ABSENT);
	assert_int_equal(wr_getent_by_id(false, NOBODY_HAS, &e), WR_GETENT_ABSENT);
	assert_int_equal(wr_getent_by_name(false, "", &e), WR_GETENT_ABSENT);
	assert_int_equal(e.id, 7); /* written only when found */
	/* The helper was needed for that, and ends when told. */
	assert_int_equal(children(), 1);
	wr_getent_end();
	wr_getent_end();
	assert_int_equal(children(), 0);
	/* Again: another helper. */
	assert_int_equal(wr_getent_by_id(false, NOBODY_HAS, &e), WR_GETENT_ABSENT);
	wr_getent_end();
}

/* A child that was forked has pipes that are not its own to use. */
static void
test_getent__fork(void **state)
{
	struct wr_getent_entry e;
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(wr_getent_by_id(false, NOBODY_HAS, &e), WR_GETENT_ABSENT);
	pid = fork();
	if (pid == 0) {
		int rc = wr_getent_by_id(false, NOBODY_HAS, &e) == WR_GETENT_ABSENT ? 0 : 1;

		wr_getent_end();
		_exit(rc);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(wr_getent_by_id(false, NOBODY_HAS, &e), WR_GETENT_ABSENT);
	wr_getent_end();
}

static void
test_getent__services(void **state)
{
	char *s = wr_getent_services("passwd");

	(void)state;
	assert_non_null(strstr(s, "files"));
	assert_int_equal(*s == ' ', 0);
	free(s);
	assert_true(wr_getent_has_service("passwd", "files"));
	assert_false(wr_getent_has_service("passwd", "file"));
	s = wr_getent_services("no-such-database");
	assert_string_equal(s, "files");
	free(s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_getent__found),
	    cmocka_unit_test(test_getent__absent),
	    cmocka_unit_test(test_getent__fork),
	    cmocka_unit_test(test_getent__services),
	};

	return cmocka_run_group_tests_name("getent", tests, NULL, NULL);
}

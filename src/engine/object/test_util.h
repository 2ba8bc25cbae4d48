/* SPDX-License-Identifier: Apache-2.0 */
/* For the tests of this folder: a temporary directory, commands run in it, files, random bytes. */
#ifndef WR_OBJECT_TEST_UTIL_H
#define WR_OBJECT_TEST_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <ftw.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "engine/object/id.h"

#define assert_id_equal(x, y) assert_memory_equal((x)->b, (y)->b, WR_ID_LEN)

static char test_dir[512]; /* the working directory of the commands */

/* A fresh directory, and git and bup kept away from the settings of whoever runs the test. */
static WR_UNUSED int
setup_dir(WR_UNUSED void **state)
{
	const char *base = getenv("TMPDIR");
	char path[600];

	snprintf(test_dir, sizeof(test_dir), "%s/warren-object-XXXXXX",
		 base && *base ? base : "/tmp");
	assert_non_null(mkdtemp(test_dir));
	snprintf(path, sizeof(path), "%s/repo", test_dir);
	setenv("BUP_DIR", path, 1);
	setenv("GIT_DIR", path, 1);
	setenv("HOME", test_dir, 1);
	setenv("GIT_CONFIG_NOSYSTEM", "1", 1);
	setenv("GIT_CONFIG_GLOBAL", "/dev/null", 1);
	setenv("LC_ALL", "C", 1);
	setenv("TZ", "UTC", 1);
	return 0;
}

static WR_UNUSED int
remove_one(const char *path, WR_UNUSED const struct stat *st, WR_UNUSED int type,
	   WR_UNUSED struct FTW *f)
{
	return remove(path);
}

static WR_UNUSED int
teardown_dir(WR_UNUSED void **state)
{
	return nftw(test_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Run a shell command in test_dir; its output replaces *out (NULL: not wanted). Exit status. */
static int run(struct wr_buf *out, const char *fmt, ...) WR_PRINTF(2, 3);

static WR_UNUSED int
run(struct wr_buf *out, const char *fmt, ...)
{
	struct wr_buf cmd = WR_BUF_INIT;
	char piece[4096];
	va_list ap;
	FILE *f;
	size_t n;
	int st;

	va_start(ap, fmt);
	vsnprintf(piece, sizeof(piece), fmt, ap);
	va_end(ap);
	wr_buf_addf(&cmd, "cd '%s' && { %s\n}", test_dir, piece);
	f = popen(wr_buf_str(&cmd), "re");
	assert_non_null(f);
	if (out)
		wr_buf_clear(out);
	while ((n = fread(piece, 1, sizeof(piece), f)) > 0)
		if (out)
			wr_buf_add(out, piece, n);
	st = pclose(f);
	wr_buf_fini(&cmd);
	return WIFEXITED(st) ? WEXITSTATUS(st) : 128;
}

static WR_UNUSED void
write_file(const char *name, const void *p, size_t len)
{
	char path[1024];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", test_dir, name);
	f = fopen(path, "wbe");
	assert_non_null(f);
	assert_int_equal(fwrite(p, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

/* What git says the id of these bytes is; stored when the options say so. */
static WR_UNUSED struct wr_id
git_hash(const char *options, const void *p, size_t len)
{
	struct wr_buf out = WR_BUF_INIT;
	struct wr_id id = {{0}};

	write_file("object", p, len);
	assert_int_equal(run(&out, "git hash-object %s object", options), 0);
	assert_true(out.len >= 40 && wr_id_parse(wr_buf_str(&out), &id));
	wr_buf_fini(&out);
	return id;
}

/* The same numbers in every run. */
static WR_UNUSED uint32_t
test_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint32_t)(*state >> 24);
}

#endif

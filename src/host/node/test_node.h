/* SPDX-License-Identifier: Apache-2.0 */
/* A node of its own in a temporary directory, for tests of this folder and of those above it. */
#ifndef WR_TEST_NODE_H
#define WR_TEST_NODE_H

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/node/node.h"
#include "sys/fs.h"

struct test_root {
	char dir[64]; /* --root is dir/r, the volume dir/v */
	char root[80], volume[80];
};

static inline struct test_root
test_root_new(void)
{
	struct test_root t;

	snprintf(t.dir, sizeof(t.dir), "/tmp/node_test.XXXXXX");
	assert_non_null(mkdtemp(t.dir));
	/* The users of projects have to get through. */
	assert_int_equal(chmod(t.dir, 0755), 0);
	snprintf(t.root, sizeof(t.root), "%s/r", t.dir);
	snprintf(t.volume, sizeof(t.volume), "%s/v", t.dir);
	return t;
}

static inline void
test_root_free(struct test_root *t)
{
	assert_int_equal(wr_remove_tree(AT_FDCWD, t->dir, NULL), 0);
}

/* As root repositories belong to a number without an account. */
static inline struct wr_node_init
test_init_opts(const struct test_root *t)
{
	return (struct wr_node_init){.root = t->root,
				     .dc = "dc1",
				     .name = "n1",
				     .user = geteuid() == 0 ? "64950" : NULL,
				     .volume = t->volume,
				     .allow_root_fs = true,
				     .reserve_bytes = 8192};
}

static inline void
assert_ok(int rc, const struct wr_err *err)
{
	if (rc < 0)
		fail_msg("%s (%s)", err->msg, err->hint);
}

static inline struct wr_node *
test_node_open(const struct test_root *t)
{
	struct wr_err err = WR_ERR_INIT;
	struct wr_node *n = NULL;

	assert_ok(wr_node_open(t->root, 0, &n, &err), &err);
	return n;
}

static inline struct wr_node *
test_node_new(const struct test_root *t)
{
	const struct wr_node_init o = test_init_opts(t);
	struct wr_err err = WR_ERR_INIT;

	assert_ok(wr_node_init(&o, NULL, &err), &err);
	return test_node_open(t);
}

/* Directories of a project without an engine: tree, repository and conf. */
static inline struct wr_place_of
test_project(struct wr_node *n, const struct wr_uuid *id)
{
	struct wr_place_of p = WR_PLACE_OF_INIT;
	WR_SCOPED(wr_freep) char *conf = wr_asprintf("%s/conf", id->s);
	struct wr_err err = WR_ERR_INIT;

	assert_ok(wr_mkdirs(n->volume[0].repos_fd, conf, 0700, &err), &err);
	assert_ok(wr_mkdirs(n->volume[0].projects_fd, id->s, 0700, &err), &err);
	assert_ok(wr_place_of_find(n, id, &p, &err), &err);
	return p;
}

/* Run this program anew as `@do WHAT ARG` with WARREN_CRASH=point (a process reads that once); it
 * has to be killed there. */
static inline void
crash_at(const char *point, const char *what, const char *arg)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		setenv("WARREN_CRASH", point, 1);
		execl("/proc/self/exe", "test", "@do", what, arg, NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		fail_msg("nothing passed the point %s", point);
}

#endif

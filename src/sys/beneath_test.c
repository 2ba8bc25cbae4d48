/* SPDX-License-Identifier: Apache-2.0 */
/* Paths of users, hostile ones: nothing outside the directory is ever opened.  Every test runs
 * twice, the second time in a process where the kernel denies openat2. */
#include "sys/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <seccomp.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "sys/fs.h"

struct dir {
	char path[64];
	int fd;  /* the top */
	int top; /* "in" below it: what paths stay beneath */
};

static void
put(int dirfd, const char *name, const char *text)
{
	assert_int_equal(wr_replace_file(dirfd, name, text, strlen(text), 0644, NULL), 0);
}

static int
setup(void **state)
{
	struct dir *d = wr_calloc(1, sizeof(*d));

	snprintf(d->path, sizeof(d->path), "/tmp/beneath_test.XXXXXX");
	if (!mkdtemp(d->path))
		return -1;
	d->fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	mkdirat(d->fd, "in", 0755);
	mkdirat(d->fd, "in/a", 0755);
	mkdirat(d->fd, "in/a/b", 0755);
	mkdirat(d->fd, "out", 0755);
	put(d->fd, "in/a/b/f", "inside");
	put(d->fd, "out/f", "outside");
	d->top = openat(d->fd, "in", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = d;
	return d->top < 0 ? -1 : 0;
}

static int
teardown(void **state)
{
	struct dir *d = *state;
	int rc = wr_remove_tree(AT_FDCWD, d->path, NULL);

	close(d->top);
	close(d->fd);
	free(d);
	return rc;
}

/* ---- text ---- */

static void
test_clean__what_paths_become(void **state)
{
	static const char *const good[][2] = {
	    {"", ""},
	    {"/", ""},
	    {".", ""},
	    {"a/b", "a/b"},
	    {"/a//./b/", "a/b"},
	    {"...", "..."},
	    {"a/..b/.c", "a/..b/.c"},
	    {"a\n/\xff", "a\n/\xff"},
	};
	static const char *const bad[] = {"..", "../a", "a/..", "a/../b", "/..", "a/.././b"};
	char name[300], *s;
	struct wr_buf b = WR_BUF_INIT;
	struct wr_err e = WR_ERR_INIT;

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(good); i++) {
		s = wr_beneath_clean(good[i][0], strlen(good[i][0]), &e);
		assert_non_null(s);
		assert_string_equal(s, good[i][1]);
		free(s);
	}
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		assert_null(wr_beneath_clean(bad[i], strlen(bad[i]), &e));
		assert_int_equal(e.code, WR_E_INVALID);
	}
	assert_null(wr_beneath_clean("a\0b", 3, &e));
	memset(name, 'x', sizeof(name));
	s = wr_beneath_clean(name, 255, &e);
	assert_non_null(s);
	free(s);
	assert_null(wr_beneath_clean(name, 256, &e));
	for (int i = 0; i < 2047; i++)
		wr_buf_adds(&b, "d/");
	wr_buf_adds(&b, "d");
	s = wr_beneath_clean((const char *)b.p, b.len, &e);
	assert_non_null(s);
	assert_int_equal(strlen(s), 4095);
	free(s);
	wr_buf_adds(&b, "d");
	assert_null(wr_beneath_clean((const char *)b.p, b.len, &e));
	wr_buf_fini(&b);
}

/* ---- opening ---- */

static void
refused(int dirfd, const char *path, int flags, enum wr_err_code code)
{
	struct wr_err e = WR_ERR_INIT;
	int fd = wr_beneath_open(dirfd, path, flags, 0644, &e);

	if (fd >= 0)
		fail_msg("'%s' was opened", path);
	if (e.code != code)
		fail_msg("'%s': %s (%s)", path, e.msg, wr_err_name(e.code));
}

static void
test_open__files_and_the_top(void **state)
{
	struct dir *d = *state;
	char text[16] = "";
	struct stat st, top;
	struct wr_err e = WR_ERR_INIT;
	int fd = wr_beneath_open(d->top, "a/b/f", O_RDONLY, 0, &e);

	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(wr_read_full(fd, text, sizeof(text) - 1), 6);
	assert_string_equal(text, "inside");
	close(fd);
	fd = wr_beneath_open(d->top, "", O_RDONLY | O_DIRECTORY, 0, &e);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st) | fstat(d->top, &top), 0);
	assert_true(st.st_ino == top.st_ino);
	close(fd);
	fd = wr_beneath_open(d->top, "a/new", O_WRONLY | O_CREAT | O_EXCL, 0600, &e);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	close(fd);
	refused(d->top, "a/new", O_WRONLY | O_CREAT | O_EXCL, WR_E_EXISTS);
	refused(d->top, "none", O_RDONLY, WR_E_NOT_FOUND);
	refused(d->top, "none/x", O_RDONLY, WR_E_NOT_FOUND);
	refused(d->top, "a/b/f/x", O_RDONLY, WR_E_NOT_FOUND);
}

static void
test_open__upwards_and_absolute(void **state)
{
	static const char *const bad[] = {"..",   "../out/f", "a/../../out/f", "/etc/passwd", "/",
					  "a//b", "a/",       "./a",           "a/."};
	struct dir *d = *state;

	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++)
		refused(d->top, bad[i], O_RDONLY, WR_E_INVALID);
}

static void
test_open__links(void **state)
{
	struct dir *d = *state;
	struct wr_err e = WR_ERR_INIT;
	struct stat st;
	char text[16] = "";
	int fd;

	assert_int_equal(symlinkat("../out", d->top, "up"), 0);
	assert_int_equal(symlinkat("../out/f", d->top, "upf"), 0);
	assert_int_equal(symlinkat("/etc", d->top, "abs"), 0);
	assert_int_equal(symlinkat("a", d->top, "near"), 0);
	assert_int_equal(symlinkat("../out/new", d->top, "dangling"), 0);
	refused(d->top, "up/f", O_RDONLY, WR_E_DENIED);
	refused(d->top, "up", O_RDONLY, WR_E_DENIED);
	refused(d->top, "upf", O_RDONLY, WR_E_DENIED);
	refused(d->top, "upf", O_WRONLY | O_TRUNC, WR_E_DENIED);
	refused(d->top, "abs/passwd", O_RDONLY, WR_E_DENIED);
	/* One that stays inside could lead out a moment later. */
	refused(d->top, "near/b/f", O_RDONLY, WR_E_DENIED);
	refused(d->top, "dangling", O_WRONLY | O_CREAT, WR_E_DENIED);
	assert_int_equal(faccessat(d->fd, "out/new", F_OK, 0), -1);
	/* The link itself, to be read or described. */
	fd = wr_beneath_open(d->top, "up", O_PATH, 0, &e);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(readlinkat(fd, "", text, sizeof(text) - 1), 6);
	assert_string_equal(text, "../out");
	close(fd);
}

static void
test_open__magic_links(void **state)
{
	WR_SCOPED(wr_closep) int self = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	(void)state;
	assert_true(self >= 0);
	refused(self, "cwd/etc", O_RDONLY, WR_E_DENIED);
	refused(self, "root/etc/passwd", O_RDONLY, WR_E_DENIED);
	refused(self, "exe", O_RDONLY, WR_E_DENIED);
	refused(self, "fd/0", O_RDONLY, WR_E_DENIED);
}

/* In a child, which has mounts of its own; gives its exit status. */
static int
mounts_inside(const struct dir *d)
{
	WR_SCOPED(wr_freep) char *in = wr_asprintf("%s/in", d->path);
	WR_SCOPED(wr_freep) char *a = wr_asprintf("%s/in/a", d->path);
	WR_SCOPED(wr_freep) char *out = wr_asprintf("%s/out", d->path);
	static const struct {
		const char *path;
		int flags;
	} tries[] = {{"a/f", O_RDONLY},
		     {"a", O_RDONLY | O_DIRECTORY},
		     {"a", O_PATH},
		     {"a/new", O_WRONLY | O_CREAT},
		     {"a/f", O_WRONLY | O_TRUNC}};
	struct wr_err e = WR_ERR_INIT;
	WR_SCOPED(wr_closep) int top = -1;

	/* Of the same file system, so that device numbers do not tell. */
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount(out, a, NULL, MS_BIND, NULL) < 0)
		return 77;
	top = open(in, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* d->top is of the old name space */
	if (top < 0 || faccessat(top, "a/f", F_OK, 0) < 0)
		return 1;
	for (size_t i = 0; i < WR_ARRAY_LEN(tries); i++)
		if (wr_beneath_open(top, tries[i].path, tries[i].flags, 0644, &e) >= 0 ||
		    e.code != WR_E_DENIED)
			return 10 + (int)i;
	return wr_beneath_mkdirs(top, "a/dir", NULL, &e) == 0 || e.code != WR_E_DENIED ? 2 : 0;
}

static void
test_open__mounts(void **state)
{
	struct dir *d = *state;
	int status = -1;
	pid_t pid = fork();

	if (pid == 0)
		_exit(mounts_inside(d));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("skipped: no right to mount\n");
		skip();
	}
	assert_int_equal(status, 0);
	assert_int_equal(faccessat(d->fd, "out/new", F_OK, 0), -1);
	assert_int_equal(faccessat(d->fd, "out/dir", F_OK, 0), -1);
}

/* ---- a race ---- */

struct swap {
	int fd;
	atomic_bool stop;
};

/* "x" is a directory, then a link to the one outside, and again, without a moment of nothing. */
static void *
swap_main(void *arg)
{
	struct swap *s = arg;

	while (!atomic_load(&s->stop))
		(void)renameat2(s->fd, "x", s->fd, "y", RENAME_EXCHANGE);
	return NULL;
}

static void
test_open__never_outside_while_names_are_swapped(void **state)
{
	struct dir *d = *state;
	struct swap s = {.fd = d->top};
	struct stat outside;
	pthread_t t;
	unsigned opened = 0, denied = 0;

	assert_int_equal(mkdirat(d->top, "x", 0755), 0);
	put(d->top, "x/f", "inside");
	assert_int_equal(symlinkat("../out", d->top, "y"), 0);
	assert_int_equal(fstatat(d->fd, "out/f", &outside, 0), 0);
	assert_int_equal(pthread_create(&t, NULL, swap_main, &s), 0);
	for (int i = 0; i < 20000 && (i < 5000 || !opened || !denied); i++) {
		struct wr_err e = WR_ERR_INIT;
		struct stat st;
		bool existed;
		int fd = wr_beneath_open(d->top, "x/f", O_RDONLY, 0, &e);

		if (fd < 0) {
			if (e.code != WR_E_DENIED)
				fail_msg("%s", e.msg);
			denied++;
		} else {
			assert_int_equal(fstat(fd, &st), 0);
			assert_true(st.st_ino != outside.st_ino);
			opened++;
			close(fd);
		}
		(void)wr_beneath_mkdirs(d->top, "x/made", &existed, NULL);
	}
	atomic_store(&s.stop, true);
	pthread_join(t, NULL);
	assert_int_equal(faccessat(d->fd, "out/made", F_OK, 0), -1);
	assert_true(opened > 0 && denied > 0);
}

/* ---- parents and directories ---- */

static void
test_parent(void **state)
{
	struct dir *d = *state;
	struct wr_err e = WR_ERR_INIT;
	const char *name = NULL;
	struct stat st;
	int fd = wr_beneath_parent(d->top, "a/b/f", &name, &e);

	assert_true(fd >= 0);
	assert_string_equal(name, "f");
	assert_int_equal(fstatat(fd, name, &st, 0), 0);
	assert_int_equal(fsync(fd), 0);
	close(fd);
	fd = wr_beneath_parent(d->top, "a", &name, &e);
	assert_true(fd >= 0);
	assert_string_equal(name, "a");
	assert_int_equal(faccessat(fd, "a/b/f", F_OK, 0), 0);
	close(fd);
	assert_int_equal(wr_beneath_parent(d->top, "", &name, &e), -1);
	assert_int_equal(e.code, WR_E_INVALID);
	assert_int_equal(wr_beneath_parent(d->top, "a/..", &name, &e), -1);
	assert_int_equal(e.code, WR_E_INVALID);
	assert_int_equal(wr_beneath_parent(d->top, "none/x", &name, &e), -1);
	assert_int_equal(e.code, WR_E_NOT_FOUND);
}

static void
test_mkdirs(void **state)
{
	struct dir *d = *state;
	struct wr_err e = WR_ERR_INIT;
	bool existed = true;

	assert_int_equal(wr_beneath_mkdirs(d->top, "p/q/r", &existed, &e), 0);
	assert_false(existed);
	assert_int_equal(faccessat(d->top, "p/q/r", F_OK, 0), 0);
	assert_int_equal(wr_beneath_mkdirs(d->top, "p/q/r", &existed, &e), 0);
	assert_true(existed);
	assert_int_equal(wr_beneath_mkdirs(d->top, "p/q/s", &existed, &e), 0);
	assert_false(existed);
	assert_int_equal(wr_beneath_mkdirs(d->top, "", &existed, &e), 0);
	assert_true(existed);
	/* A file and a link are in the way. */
	assert_int_equal(wr_beneath_mkdirs(d->top, "a/b/f/x", &existed, &e), -1);
	assert_int_equal(e.code, WR_E_EXISTS);
	assert_int_equal(symlinkat("../out", d->top, "up"), 0);
	assert_int_equal(wr_beneath_mkdirs(d->top, "up/x", &existed, &e), -1);
	assert_int_equal(faccessat(d->fd, "out/x", F_OK, 0), -1);
}

/* ---- without openat2 ---- */

static bool hidden; /* this is the second run */

/* A kernel from before openat2, as far as this process can see. */
static bool
hide_openat2(void)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	bool ok = ctx && seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(openat2), 0) == 0 &&
		  seccomp_load(ctx) == 0;

	if (ctx)
		seccomp_release(ctx);
	return ok;
}

static void
test_all_again_without_openat2(void **state)
{
	int status = -1;
	pid_t pid;

	(void)state;
	if (hidden)
		return;
	pid = fork();
	if (pid == 0) {
		/* Its lines are no part of this program's report. */
		if (!hide_openat2() || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
			_exit(77);
		execl("/proc/self/exe", "beneath_test", "hidden", (char *)NULL);
		_exit(99);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("skipped: no seccomp here\n");
		skip();
	}
	assert_int_equal(status, 0);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_clean__what_paths_become),
	    cmocka_unit_test_setup_teardown(test_open__files_and_the_top, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_open__upwards_and_absolute, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_open__links, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_open__magic_links, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_open__mounts, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_open__never_outside_while_names_are_swapped, setup,
					    teardown),
	    cmocka_unit_test_setup_teardown(test_parent, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_mkdirs, setup, teardown),
	    cmocka_unit_test(test_all_again_without_openat2),
	};

	hidden = argc == 2 && !strcmp(argv[1], "hidden");
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Bind mounts, in a name space of mounts of this process's own. */
#include "sys/bind.h"

#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cmocka.h>

#include "sys/fs.h"

static bool can_mount; /* fixed before the tests */

struct dir {
	char path[64];
	int fd, src;
	char *dest;
};

static int
setup(void **state)
{
	struct dir *d = wr_calloc(1, sizeof(*d));

	snprintf(d->path, sizeof(d->path), "/tmp/mount_test.XXXXXX");
	if (!mkdtemp(d->path))
		return -1;
	d->fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	mkdirat(d->fd, "src", 0700);
	mkdirat(d->fd, "src/sub", 0700);
	d->src = openat(d->fd, "src", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d->dest = wr_asprintf("%s/homes/of/one", d->path);
	*state = d;
	return d->src < 0 ? -1 : 0;
}

static int
teardown(void **state)
{
	struct dir *d = *state;
	int rc = can_mount ? wr_mount_drop(d->dest, NULL, NULL) : 0;

	rc |= wr_remove_tree(AT_FDCWD, d->path, NULL);
	close(d->src);
	close(d->fd);
	free(d->dest);
	free(d);
	return rc;
}

static void
need_mount(void)
{
	if (can_mount)
		return;
	print_message("skipped: no right to mount\n");
	skip();
}

static void
test_bind__is_and_drop(void **state)
{
	struct dir *d = *state;
	WR_SCOPED(wr_freep) char *homes = wr_asprintf("%s/homes", d->path);
	WR_SCOPED(wr_freep) char *file = wr_asprintf("%s/f", d->dest);
	WR_SCOPED(wr_closep) int sub = openat(d->src, "sub", O_PATH | O_CLOEXEC);
	WR_SCOPED(wr_closep) int busy = -1;
	struct wr_err e = WR_ERR_INIT;
	struct statvfs v;
	struct stat st;
	mode_t mask;

	need_mount();
	mask = umask(077);
	assert_false(wr_mount_is(d->src, d->dest));
	if (wr_mount_bind(d->src, d->dest, &e) < 0)
		fail_msg("%s", e.msg);
	umask(mask);
	assert_int_equal(stat(homes, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755); /* whatever the umask was */
	assert_true(wr_mount_is(d->src, d->dest));
	assert_false(wr_mount_is(sub, d->dest));
	assert_int_equal(statvfs(d->dest, &v), 0);
	assert_true((v.f_flag & ST_NOSUID) && (v.f_flag & ST_NODEV));
	assert_int_equal(wr_replace_file(d->src, "f", "x", 1, 0644, &e), 0);
	busy = open(file, O_RDWR | O_CLOEXEC);
	assert_true(busy >= 0);
	/* In use or not. */
	assert_int_equal(wr_mount_drop(d->dest, NULL, &e), 0);
	assert_false(wr_mount_is(d->src, d->dest));
	assert_int_equal(wr_write_all(busy, "yz", 2), 0);
	assert_int_equal(access(file, F_OK), -1);
	assert_int_equal(fstatat(d->src, "f", &st, 0), 0);
	assert_int_equal(st.st_size, 2);
	assert_int_equal(wr_mount_drop(d->dest, NULL, &e), 0);
	/* Again, onto directories that are there now. */
	assert_int_equal(wr_mount_bind(d->src, d->dest, &e), 0);
	assert_true(wr_mount_is(d->src, d->dest));
}

static void
test_is__the_topmost_counts(void **state)
{
	struct dir *d = *state;
	WR_SCOPED(wr_closep) int sub = openat(d->src, "sub", O_PATH | O_CLOEXEC);
	struct wr_err e = WR_ERR_INIT;

	need_mount();
	assert_int_equal(wr_mount_bind(d->src, d->dest, &e), 0);
	assert_int_equal(wr_mount_bind(sub, d->dest, &e), 0);
	assert_false(wr_mount_is(d->src, d->dest));
	assert_true(wr_mount_is(sub, d->dest));
	assert_int_equal(wr_mount_drop(d->dest, NULL, &e), 0);
	assert_true(wr_mount_is(d->src, d->dest));
	/* The directory itself is no mount of itself. */
	{
		WR_SCOPED(wr_freep) char *plain = wr_asprintf("%s/src", d->path);

		assert_false(wr_mount_is(d->src, plain));
	}
}

static void
test_bind__not_through_a_link(void **state)
{
	struct dir *d = *state;
	WR_SCOPED(wr_freep) char *dest = wr_asprintf("%s/link", d->path);
	struct wr_err e = WR_ERR_INIT;

	need_mount();
	assert_int_equal(mkdirat(d->fd, "elsewhere", 0755), 0);
	assert_int_equal(symlinkat("elsewhere", d->fd, "link"), 0);
	assert_int_equal(wr_mount_bind(d->src, dest, &e), -1);
	assert_int_equal(wr_mount_bind(d->src, "relative", &e), -1);
	assert_int_equal(e.code, WR_E_INVALID);
	assert_int_equal(wr_replace_file(d->fd, "file", "", 0, 0644, &e), 0);
	{
		WR_SCOPED(wr_freep) char *file = wr_asprintf("%s/file", d->path);

		assert_int_equal(wr_mount_bind(d->src, file, &e), -1);
	}
}

static void
test_drop__absent_is_fine(void **state)
{
	struct wr_err e = WR_ERR_INIT;

	(void)state;
	need_mount();
	assert_int_equal(wr_mount_drop("/nonexistent/x", NULL, &e), 0);
	assert_false(wr_mount_is(-1, "/nonexistent/x"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_bind__is_and_drop, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_is__the_topmost_counts, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_bind__not_through_a_link, setup, teardown),
	    cmocka_unit_test(test_drop__absent_is_fine),
	};

	can_mount = unshare(CLONE_NEWNS) == 0 &&
		    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 && wr_mount_available();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

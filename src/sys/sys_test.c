/* SPDX-License-Identifier: Apache-2.0 */
/* Files, locks, crash points and clocks, against the real kernel. */
#include "sys/fs.h"
#include "sys/test_dir.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "sys/clock.h"
#include "sys/crash.h"
#include "sys/lock.h"

static void
put(const struct dir *d, const char *name, const char *text)
{
	assert_int_equal(wr_replace_file(d->fd, name, text, strlen(text), 0644, NULL), 0);
}

static char *
get(const struct dir *d, const char *name)
{
	struct wr_buf b = WR_BUF_INIT;

	assert_int_equal(wr_read_file(d->fd, name, 1 << 20, &b, NULL), 0);
	return wr_buf_detach(&b, NULL);
}

static unsigned
count_entries(const struct dir *d)
{
	WR_SCOPED(wr_freep) char *command = wr_asprintf("ls -A %s | wc -l", d->path);
	FILE *f = popen(command, "r");
	unsigned n = 999;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%u", &n), 1);
	pclose(f);
	return n;
}

/* ---- files ---- */

static void
test_replace__new_old_and_no_litter(void **state)
{
	struct dir *d = *state;
	struct stat st;
	char *s;

	put(d, "f", "one");
	put(d, "f", "second");
	s = get(d, "f");
	assert_string_equal(s, "second");
	free(s);
	assert_int_equal(wr_replace_file(d->fd, "g", "", 0, 0600, NULL), 0);
	assert_int_equal(fstatat(d->fd, "g", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, 0);
	assert_int_equal(count_entries(d), 2);
}

static void
test_replace__failure_leaves_the_old_file(void **state)
{
	struct dir *d = *state;
	struct wr_err e = WR_ERR_INIT;

	assert_int_equal(mkdirat(d->fd, "sub", 0755), 0);
	assert_int_equal(mkdirat(d->fd, "sub/x", 0755), 0);
	/* A directory is in the way of the rename. */
	assert_int_equal(wr_replace_file(d->fd, "sub", "a", 1, 0644, &e), -1);
	assert_true(strlen(e.msg) > 0);
	assert_int_equal(count_entries(d), 1);
	assert_int_equal(wr_replace_file(d->fd, "none/f", "a", 1, 0644, &e), -1);
	assert_int_equal(e.code, WR_E_NOT_FOUND);
}

/* Run this program anew with WARREN_CRASH set (it is read once per process) and the words; gives
 * the wait status. */
static int
crash_child(const char *want, const char *word, const char *arg)
{
	pid_t pid = fork();
	int status = 0;

	if (pid == 0) {
		setenv("WARREN_CRASH", want, 1);
		execl("/proc/self/exe", "sys_test", word, arg, (char *)NULL);
		_exit(99);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static bool
killed(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static int
crash_main(const char *word, const char *arg)
{
	if (!strcmp(word, "replace"))
		return wr_replace_file(AT_FDCWD, arg, "new", 3, 0644, NULL) == 0 ? 0 : 1;
	wr_crash_point("other");
	wr_crash_point("save.here");
	wr_crash_point("save.here2");
	wr_crash_point("save.here");
	return 0;
}

static void
test_replace__crash_leaves_old_or_new(void **state)
{
	static const char *const points[] = {"file.replace-written", "file.replace-renamed"};
	static const char *const want[] = {"old", "new"};
	struct dir *d = *state;
	WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/f", d->path);

	for (size_t i = 0; i < WR_ARRAY_LEN(points); i++) {
		char *s;

		put(d, "f", "old");
		assert_true(killed(crash_child(points[i], "replace", path)));
		s = get(d, "f");
		assert_string_equal(s, want[i]);
		free(s);
	}
	assert_int_equal(crash_child("file.replace-written:2", "replace", path), 0);
}

static void
test_read_file__limit_absent_and_append(void **state)
{
	struct dir *d = *state;
	struct wr_buf b = WR_BUF_INIT;
	struct wr_err e = WR_ERR_INIT;

	put(d, "f", "0123456789");
	wr_buf_adds(&b, "x");
	assert_int_equal(wr_read_file(d->fd, "f", 10, &b, &e), 0);
	assert_string_equal(wr_buf_str(&b), "x0123456789");
	assert_int_equal(wr_read_file(d->fd, "f", 9, &b, &e), -1);
	assert_int_equal(e.code, WR_E_LIMIT);
	assert_int_equal(wr_read_file(d->fd, "none", 9, &b, &e), -1);
	assert_int_equal(e.code, WR_E_NOT_FOUND);
	assert_int_equal(wr_read_file(d->fd, ".", 9, &b, &e), -1);
	wr_buf_fini(&b);
}

static void
test_read_file__files_that_claim_no_size(void **state)
{
	struct wr_buf b = WR_BUF_INIT;

	(void)state;
	assert_int_equal(wr_read_file(AT_FDCWD, "/proc/self/status", 1 << 20, &b, NULL), 0);
	assert_true(b.len > 100);
	wr_buf_fini(&b);
}

static void
test_full_reads__stop_at_the_end(void **state)
{
	struct dir *d = *state;
	char out[16];
	int fd;

	put(d, "f", "0123456789");
	fd = openat(d->fd, "f", O_RDWR | O_CLOEXEC);
	assert_int_equal(wr_read_full(fd, out, 4), 4);
	assert_int_equal(wr_read_full(fd, out, 16), 6);
	assert_int_equal(wr_pread_full(fd, out, 16, 8), 2);
	assert_memory_equal(out, "89", 2);
	assert_int_equal(wr_pwrite_all(fd, "AB", 2, 9), 0);
	assert_int_equal(wr_pread_full(fd, out, 16, 0), 11);
	assert_memory_equal(out, "012345678AB", 11);
	close(fd);
	errno = 0;
	assert_int_equal(wr_read_full(fd, out, 1), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(wr_write_all(fd, "x", 1), -1);
}

static void
test_full_writes__through_a_small_pipe(void **state)
{
	int p[2], status = 0;
	size_t len = 1 << 20, got = 0;
	char *bytes = wr_calloc(1, len), *back = wr_malloc(len);
	pid_t pid;

	(void)state;
	for (size_t i = 0; i < len; i++)
		bytes[i] = (char)(i * 31);
	assert_int_equal(pipe(p), 0);
	pid = fork();
	if (pid == 0)
		_exit(wr_write_all(p[1], bytes, len) == 0 ? 0 : 1);
	close(p[1]);
	got = (size_t)wr_read_full(p[0], back, len);
	assert_int_equal(got, len);
	assert_memory_equal(bytes, back, len);
	close(p[0]);
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	free(bytes);
	free(back);
}

static void
test_mkdirs__nested_and_again(void **state)
{
	struct dir *d = *state;
	struct stat st;

	assert_int_equal(wr_mkdirs(d->fd, "a/b/c", 0755, NULL), 0);
	assert_int_equal(wr_mkdirs(d->fd, "a/b/c", 0755, NULL), 0);
	assert_int_equal(wr_mkdirs(d->fd, "a//x/", 0755, NULL), 0);
	assert_int_equal(fstatat(d->fd, "a/b/c", &st, 0), 0);
	assert_true(S_ISDIR(st.st_mode));
	assert_int_equal(fstatat(d->fd, "a/x", &st, 0), 0);
	put(d, "a/file", "x");
	assert_int_equal(wr_mkdirs(d->fd, "a/file/below", 0755, NULL), -1);
}

static void
test_open_dir__does_not_follow_links(void **state)
{
	struct dir *d = *state;
	int fd;

	assert_int_equal(mkdirat(d->fd, "real", 0755), 0);
	assert_int_equal(symlinkat("real", d->fd, "link"), 0);
	fd = wr_open_dir(d->fd, "real");
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(wr_open_dir(d->fd, "link"), -1);
	put(d, "file", "");
	assert_int_equal(wr_open_dir(d->fd, "file"), -1);
}

static void
test_remove_tree__stays_inside(void **state)
{
	struct dir *d = *state;
	struct stat st;
	char *s;

	assert_int_equal(wr_mkdirs(d->fd, "keep", 0755, NULL), 0);
	put(d, "keep/precious", "p");
	assert_int_equal(wr_mkdirs(d->fd, "gone/deep/er", 0755, NULL), 0);
	put(d, "gone/deep/f", "x");
	assert_int_equal(symlinkat("../keep", d->fd, "gone/link"), 0);
	assert_int_equal(wr_remove_tree(d->fd, "gone", NULL), 0);
	assert_int_equal(fstatat(d->fd, "gone", &st, AT_SYMLINK_NOFOLLOW), -1);
	s = get(d, "keep/precious");
	assert_string_equal(s, "p");
	free(s);
	assert_int_equal(symlinkat("keep", d->fd, "l"), 0);
	assert_int_equal(wr_remove_tree(d->fd, "l", NULL), 0);
	assert_int_equal(fstatat(d->fd, "keep", &st, 0), 0);
}

static void
test_random_name__length_alphabet_and_luck(void **state)
{
	char a[32], b[32];

	(void)state;
	wr_random_name(a, sizeof(a), "tmp-");
	wr_random_name(b, sizeof(b), "tmp-");
	assert_int_equal(strlen(a), 16);
	assert_memory_equal(a, "tmp-", 4);
	assert_int_equal(strspn(a + 4, "abcdefghijklmnopqrstuvwxyz0123456789"), 12);
	assert_string_not_equal(a, b);
}

/* ---- locks ---- */

/* A child that holds the lock until it is killed; returns when it has it. */
static pid_t
holder(const struct dir *d, const char *note)
{
	int p[2];
	char c;
	pid_t pid;

	assert_int_equal(pipe(p), 0);
	pid = fork();
	if (pid == 0) {
		struct wr_lock l = WR_LOCK_INIT;

		if (wr_lock_take(&l, d->fd, "lock", 0, note, NULL, NULL) < 0 ||
		    write(p[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(p[0], &c, 1), 1);
	close(p[0]);
	close(p[1]);
	return pid;
}

static void
end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void
test_lock__second_taker_is_told_who_holds_it(void **state)
{
	struct dir *d = *state;
	struct wr_lock l = WR_LOCK_INIT;
	struct wr_err e = WR_ERR_INIT;
	pid_t pid = holder(d, "save by pid 7\nsecond line");

	assert_int_equal(wr_lock_take(&l, d->fd, "lock", 0, "me", NULL, &e), -1);
	assert_int_equal(e.code, WR_E_BUSY);
	assert_int_equal(l.fd, -1);
	assert_non_null(strstr(e.msg, "save by pid 7"));
	assert_null(strstr(e.msg, "second line"));
	end(pid);
}

static void
test_lock__a_dead_holder_is_not_in_the_way(void **state)
{
	struct dir *d = *state;
	struct wr_lock l = WR_LOCK_INIT;
	char *prev = NULL;

	end(holder(d, "unfinished work"));
	assert_int_equal(wr_lock_take(&l, d->fd, "lock", 0, "me", &prev, NULL), 0);
	assert_string_equal(prev, "unfinished work");
	free(prev);
	wr_lock_drop(&l);
	wr_lock_drop(&l);
	/* Whoever lets go properly leaves nothing to look after. */
	assert_int_equal(wr_lock_take(&l, d->fd, "lock", 0, "me", &prev, NULL), 0);
	assert_string_equal(prev, "");
	free(prev);
	wr_lock_drop(&l);
}

static void
test_lock__waits_as_long_as_told(void **state)
{
	struct dir *d = *state;
	struct wr_lock l = WR_LOCK_INIT;
	struct wr_err e = WR_ERR_INIT;
	pid_t pid = holder(d, "x"), killer;
	uint64_t begin = wr_clock_mono_ns();

	assert_int_equal(wr_lock_take(&l, d->fd, "lock", 1, "me", NULL, &e), -1);
	assert_int_equal(e.code, WR_E_BUSY);
	assert_true(wr_clock_mono_ns() - begin >= 1000000000u);

	killer = fork();
	if (killer == 0) {
		usleep(100000);
		kill(pid, SIGKILL);
		_exit(0);
	}
	assert_int_equal(wr_lock_take(&l, d->fd, "lock", 20, "me", NULL, &e), 0);
	wr_lock_drop(&l);
	waitpid(killer, NULL, 0);
	waitpid(pid, NULL, 0);
}

static void
test_lock__waits_for_ever_if_told(void **state)
{
	struct dir *d = *state;
	struct wr_lock l = WR_LOCK_INIT;
	pid_t pid = holder(d, "x"), killer = fork();

	if (killer == 0) {
		usleep(100000);
		kill(pid, SIGKILL);
		_exit(0);
	}
	assert_int_equal(wr_lock_take(&l, d->fd, "lock", -1, "me", NULL, NULL), 0);
	wr_lock_drop(&l);
	waitpid(killer, NULL, 0);
	waitpid(pid, NULL, 0);
}

static void
test_lock__note_can_be_replaced(void **state)
{
	struct dir *d = *state;
	struct wr_lock l = WR_LOCK_INIT;
	char *s;

	assert_int_equal(wr_lock_take(&l, d->fd, "lock", 0, "a long first note", NULL, NULL), 0);
	assert_int_equal(wr_lock_note(&l, "short", NULL), 0);
	s = get(d, "lock");
	assert_string_equal(s, "short");
	free(s);
	wr_lock_drop(&l);
}

static void
test_lock__does_not_follow_a_link(void **state)
{
	struct dir *d = *state;
	struct wr_lock l = WR_LOCK_INIT;
	char *s;

	put(d, "victim", "precious");
	assert_int_equal(symlinkat("victim", d->fd, "lock"), 0);
	assert_int_equal(wr_lock_take(&l, d->fd, "lock", 0, "me", NULL, NULL), -1);
	s = get(d, "victim");
	assert_string_equal(s, "precious");
	free(s);
}

/* Many processes, each adding one to a number under the lock. */
static void
test_lock__excludes_under_load(void **state)
{
	enum { PROCESSES = 6, ROUNDS = 50 };
	struct dir *d = *state;
	pid_t pid[PROCESSES];
	char *s;

	put(d, "n", "0");
	for (int i = 0; i < PROCESSES; i++) {
		pid[i] = fork();
		if (pid[i] != 0)
			continue;
		for (int k = 0; k < ROUNDS; k++) {
			struct wr_lock l = WR_LOCK_INIT;
			struct wr_buf b = WR_BUF_INIT;
			char text[24];
			int fd;

			if (wr_lock_take(&l, d->fd, "lock", -1, "n", NULL, NULL) < 0 ||
			    wr_read_file(d->fd, "n", 16, &b, NULL) < 0)
				_exit(1);
			snprintf(text, sizeof(text), "%ld", strtol(wr_buf_str(&b), NULL, 10) + 1);
			wr_buf_fini(&b);
			fd = openat(d->fd, "n", O_WRONLY | O_TRUNC | O_CLOEXEC);
			if (wr_write_all(fd, text, strlen(text)) < 0)
				_exit(1);
			close(fd);
			wr_lock_drop(&l);
		}
		_exit(0);
	}
	for (int i = 0; i < PROCESSES; i++) {
		int status = 0;

		waitpid(pid[i], &status, 0);
		assert_int_equal(status, 0);
	}
	s = get(d, "n");
	assert_int_equal(strtol(s, NULL, 10), PROCESSES * ROUNDS);
	free(s);
}

/* ---- crash points and clocks ---- */

static void
test_crash__at_the_named_passage_only(void **state)
{
	(void)state;
	assert_true(killed(crash_child("save.here", "points", "")));
	assert_true(killed(crash_child("save.here:2", "points", "")));
	assert_true(killed(crash_child("save.here2:1", "points", "")));
	assert_int_equal(crash_child("save.here:3", "points", ""), 0);
	assert_int_equal(crash_child("save", "points", ""), 0);
	assert_int_equal(crash_child("", "points", ""), 0);
}

static void
test_clock__monotonic_and_inode_time(void **state)
{
	struct dir *d = *state;
	uint64_t a = wr_clock_mono_ns();
	struct wr_ts before = wr_clock_inode(), mtime;
	struct stat st;

	put(d, "f", "x");
	assert_true(wr_clock_mono_ns() >= a);
	assert_int_equal(fstatat(d->fd, "f", &st, 0), 0);
	mtime = (struct wr_ts){st.st_mtim.tv_sec, (uint32_t)st.st_mtim.tv_nsec};
	/* A stamp made later is never older than this clock said; since Linux 6.13 it may be finer
	 * and so ahead of it, but not of the wall clock. */
	assert_true(wr_ts_cmp(before, mtime) <= 0);
	assert_true(wr_ts_cmp(mtime, wr_clock_wall()) <= 0);
	assert_true(wr_ts_cmp(wr_clock_inode(), wr_clock_wall()) <= 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_replace__new_old_and_no_litter),
	    TEST(test_replace__failure_leaves_the_old_file),
	    TEST(test_replace__crash_leaves_old_or_new),
	    TEST(test_read_file__limit_absent_and_append),
	    TEST(test_read_file__files_that_claim_no_size),
	    TEST(test_full_reads__stop_at_the_end),
	    TEST(test_full_writes__through_a_small_pipe),
	    TEST(test_mkdirs__nested_and_again),
	    TEST(test_open_dir__does_not_follow_links),
	    TEST(test_remove_tree__stays_inside),
	    TEST(test_random_name__length_alphabet_and_luck),
	    TEST(test_lock__second_taker_is_told_who_holds_it),
	    TEST(test_lock__a_dead_holder_is_not_in_the_way),
	    TEST(test_lock__waits_as_long_as_told),
	    TEST(test_lock__waits_for_ever_if_told),
	    TEST(test_lock__note_can_be_replaced),
	    TEST(test_lock__does_not_follow_a_link),
	    TEST(test_lock__excludes_under_load),
	    TEST(test_crash__at_the_named_passage_only),
	    TEST(test_clock__monotonic_and_inode_time),
	};

	if (argc == 3)
		return crash_main(argv[1], argv[2]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Processes: what a child is given and what it is not, and telling one from another. */
#include "sys/proc.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "sys/clock.h"
#include "sys/fs.h"

/* Start argv (or this program) with its standard output in a pipe; gives all it printed and, in
 * *out_status, how it ended. The caller frees. */
static char *
run(struct wr_spawn *s, int *out_status)
{
	struct wr_buf b = WR_BUF_INIT;
	struct wr_err e = WR_ERR_INIT;
	int p[2];
	pid_t pid;
	char chunk[4096];
	ssize_t n;

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	s->fd[1] = p[1];
	if (wr_spawn(s, &pid, &e) < 0)
		fail_msg("%s", e.msg);
	close(p[1]);
	while ((n = wr_read_full(p[0], chunk, sizeof(chunk))) > 0)
		wr_buf_add(&b, chunk, (size_t)n);
	close(p[0]);
	if (!s->detach)
		assert_int_equal(waitpid(pid, out_status, 0), pid);
	return wr_buf_detach(&b, NULL);
}

static char *
run_shell(struct wr_spawn *s, const char *script)
{
	const char *const argv[] = {"sh", "-c", script, NULL};
	int status = -1;
	char *out;

	s->path = "/bin/sh";
	s->argv = argv;
	out = run(s, &status);
	assert_int_equal(status, 0);
	return out;
}

static bool
poll_until(bool (*done)(const void *), const void *ctx)
{
	const uint64_t end = wr_clock_mono_ns() + UINT64_C(10000000000);

	while (!done(ctx)) {
		struct timespec nap = {0, 5000000};

		if (wr_clock_mono_ns() > end)
			return false;
		nanosleep(&nap, NULL);
	}
	return true;
}

/* ---- wr_spawn ---- */

static void
test_spawn__environment_is_what_is_listed(void **state)
{
	static const char *const env[] = {"ONLY=this", NULL};
	struct wr_spawn s = WR_SPAWN_INIT;
	char *out;

	(void)state;
	setenv("SECRET", "x", 1);
	s.envp = env;
	out = run_shell(&s, "/usr/bin/env | grep -v -e ^PWD= -e ^_= -e ^SHLVL=");
	assert_string_equal(out, "ONLY=this\n");
	free(out);
	s.envp = NULL;
	out = run_shell(&s, "echo ${SECRET-none} ${PATH:+p} ${LANG:+l} ${TZ:+t}; pwd");
	assert_string_equal(out, "none p l t\n/\n");
	free(out);
}

/* This program anew, as the child: "number:kind" for each descriptor. */
static int
list_fds_main(void)
{
	DIR *d = opendir("/proc/self/fd");
	int own = d ? dirfd(d) : -1;

	for (int fd = 0; fd < 4096; fd++) {
		struct stat st;

		if (fd != own && fstat(fd, &st) == 0)
			printf("%d:%s ", fd,
			       S_ISCHR(st.st_mode)    ? "chr"
			       : S_ISFIFO(st.st_mode) ? "fifo"
			       : S_ISDIR(st.st_mode)  ? "dir"
						      : "file");
	}
	closedir(d);
	return 0;
}

static void
test_spawn__descriptors_are_exactly_those(void **state)
{
	static const char *const argv[] = {"proc_test", "list-fds", NULL};
	struct wr_spawn s = WR_SPAWN_INIT;
	int status = -1, leak = open("/etc/passwd", O_RDONLY); /* not close-on-exec */
	int dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char *out;

	(void)state;
	assert_true(leak >= 0 && dir >= 0);
	s.argv = argv;
	out = run(&s, &status);
	assert_string_equal(out, "0:chr 1:fifo 2:chr ");
	free(out);
	s.fd_count = 6; /* 3 and 4 stay free, 5 is the directory */
	s.fd[5] = dir;
	out = run(&s, &status);
	assert_string_equal(out, "0:chr 1:fifo 2:chr 5:dir ");
	free(out);
	close(leak);
	close(dir);
}

static void
test_spawn__descriptors_may_swap_places(void **state)
{
	static const char *const argv[] = {"proc_test", "list-fds", NULL};
	struct wr_spawn s = WR_SPAWN_INIT;
	int dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), status;
	int saved3 = fcntl(3, F_DUPFD_CLOEXEC, 100), saved4 = fcntl(4, F_DUPFD_CLOEXEC, 100);
	char *out;

	(void)state;
	/* 3 is a directory, 4 a file here; there it is the other way round. */
	assert_int_equal(dup2(dir, 3), 3);
	assert_true(dup2(open("/etc/passwd", O_RDONLY | O_CLOEXEC), 4) == 4);
	s.argv = argv;
	s.fd_count = 5;
	s.fd[3] = 4;
	s.fd[4] = 3;
	out = run(&s, &status);
	assert_string_equal(out, "0:chr 1:fifo 2:chr 3:file 4:dir ");
	free(out);
	close(3);
	close(4);
	if (saved3 >= 0)
		dup2(saved3, 3), close(saved3);
	if (saved4 >= 0)
		dup2(saved4, 4), close(saved4);
}

static void
test_spawn__failures_come_back(void **state)
{
	static const char *const argv[] = {"x", NULL};
	struct wr_spawn s = WR_SPAWN_INIT;
	struct wr_err e = WR_ERR_INIT;
	pid_t pid = 77;

	(void)state;
	s.path = "/nonexistent/x";
	s.argv = argv;
	assert_int_equal(wr_spawn(&s, &pid, &e), -1);
	assert_int_equal(e.code, WR_E_NOT_FOUND);
	assert_string_equal(e.msg, "run '/nonexistent/x': No such file or directory");
	s.detach = true;
	wr_err_clear(&e);
	assert_int_equal(wr_spawn(&s, &pid, &e), -1);
	assert_int_equal(e.code, WR_E_NOT_FOUND);
	s.detach = false;
	s.path = "/etc/passwd";
	assert_int_equal(wr_spawn(&s, &pid, &e), -1);
	assert_int_equal(e.code, WR_E_DENIED);
	s.path = "/bin/true";
	s.dir = "/nonexistent";
	assert_int_equal(wr_spawn(&s, &pid, &e), -1);
	assert_non_null(strstr(e.msg, "enter the working directory"));
	assert_int_equal(pid, 77);
	/* No zombie is left. */
	errno = 0;
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void
test_spawn__signals_are_as_new(void **state)
{
	struct wr_spawn s = WR_SPAWN_INIT;
	struct sigaction ign = {.sa_handler = SIG_IGN}, old;
	sigset_t all, before;
	char *out;

	(void)state;
	assert_int_equal(sigaction(SIGPIPE, &ign, &old), 0);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	out = run_shell(&s, "grep -E '^Sig(Blk|Ign)' /proc/self/status | tr -d '\\t\\n'");
	sigprocmask(SIG_SETMASK, &before, NULL);
	sigaction(SIGPIPE, &old, NULL);
	assert_string_equal(out, "SigBlk:0000000000000000SigIgn:0000000000000000");
	free(out);
}

static void
test_spawn__session_and_directory(void **state)
{
	struct wr_spawn s = WR_SPAWN_INIT;
	WR_SCOPED(wr_closep) int dir = open("/usr", O_PATH | O_CLOEXEC);
	WR_SCOPED(wr_freep) char *want = wr_asprintf("/etc\n%d\n", (int)getsid(0));
	char *out;

	(void)state;
	s.dir_fd = dir;
	out = run_shell(&s, "pwd");
	assert_string_equal(out, "/usr\n");
	free(out);
	s.dir = "/etc";
	out = run_shell(&s, "pwd; cut -d' ' -f6 /proc/$$/stat");
	assert_string_equal(out, want);
	free(out);
	s.new_session = true;
	out = run_shell(&s, "test $$ = $(cut -d' ' -f6 /proc/$$/stat) && echo leader");
	assert_string_equal(out, "leader\n");
	free(out);
}

static bool
is_gone(const void *ctx)
{
	return !wr_proc_alive(ctx);
}

static void
test_spawn__detached_is_no_child(void **state)
{
	static const char *const argv[] = {"sleep", "1000", NULL};
	struct wr_spawn s = WR_SPAWN_INIT;
	struct wr_err e = WR_ERR_INIT;
	struct wr_proc_id id;
	pid_t pid;

	(void)state;
	s.path = "/bin/sleep";
	s.argv = argv;
	s.detach = s.new_session = true;
	assert_int_equal(wr_spawn(&s, &pid, &e), 0);
	assert_int_equal(wr_proc_id_of(pid, &id, &e), 0);
	assert_true(wr_proc_alive(&id));
	errno = 0;
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	assert_int_equal(getsid(pid), pid);
	assert_true(wr_proc_signal(&id, SIGKILL));
	assert_true(poll_until(is_gone, &id));
}

static void *
allocate_main(void *arg)
{
	atomic_bool *stop = arg;

	while (!atomic_load(stop))
		free(wr_malloc(100));
	return NULL;
}

/* A fork in the middle of another thread's malloc must not hang the child. */
static void
test_spawn__from_a_threaded_process(void **state)
{
	static const char *const argv[] = {"true", NULL};
	atomic_bool stop = false;
	pthread_t t;

	(void)state;
	assert_int_equal(pthread_create(&t, NULL, allocate_main, &stop), 0);
	for (int i = 0; i < 50; i++) {
		struct wr_spawn s = WR_SPAWN_INIT;
		int status = -1;
		pid_t pid;

		s.path = "/bin/true";
		s.argv = argv;
		assert_int_equal(wr_spawn(&s, &pid, NULL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
	atomic_store(&stop, true);
	pthread_join(t, NULL);
}

/* ---- recognising ---- */

static void
test_id__text_and_back(void **state)
{
	static const char *const bad[] = {"",
					  "1",
					  "1:2",
					  "1:2:3",
					  "-1:2:0000000000000003",
					  " 1:2:0000000000000003",
					  "1:+2:0000000000000003",
					  "1:2:0000000000000003 ",
					  "1:2:000000000000000G",
					  "4294967297:2:0000000000000003",
					  "1:99999999999999999999999:0000000000000003"};
	struct wr_proc_id a, b = {0};

	(void)state;
	assert_int_equal(wr_proc_id_of(getpid(), &a, NULL), 0);
	assert_true(a.start > 0 && a.boot != 0);
	assert_true(wr_proc_parse(wr_proc_format(&a).s, &b));
	assert_true(a.pid == b.pid && a.start == b.start && a.boot == b.boot);
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++)
		assert_false(wr_proc_parse(bad[i], &b));
	assert_true(a.pid == b.pid && a.start == b.start && a.boot == b.boot);
}

static void
test_id__zombies_and_others_are_not_it(void **state)
{
	struct wr_proc_id id, other;
	struct wr_err e = WR_ERR_INIT;
	struct pollfd p = {.events = POLLIN};
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		pause();
		_exit(0);
	}
	assert_int_equal(wr_proc_id_of(pid, &id, &e), 0);
	assert_true(wr_proc_alive(&id));
	other = id;
	other.start++;
	assert_false(wr_proc_alive(&other));
	assert_false(wr_proc_signal(&other, SIGKILL));
	assert_int_equal(wr_proc_pidfd(&other), -1);
	other = id;
	other.boot++;
	assert_false(wr_proc_signal(&other, SIGKILL));
	assert_true(wr_proc_signal(&id, 0));

	p.fd = wr_proc_pidfd(&id);
	assert_true(p.fd >= 0);
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_true(wr_proc_signal(&id, SIGKILL));
	assert_int_equal(poll(&p, 1, 10000), 1);
	close(p.fd);
	assert_false(wr_proc_alive(&id)); /* a zombie now */
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(wr_proc_id_of(pid, &id, &e), -1);
	assert_int_equal(e.code, WR_E_NOT_FOUND);
	assert_false(wr_proc_alive(&(struct wr_proc_id){0}));
}

static bool
has(const pid_t *pids, size_t n, pid_t pid)
{
	for (size_t i = 0; i < n; i++)
		if (pids[i] == pid)
			return true;
	return false;
}

static void
test_list__children_of_children(void **state)
{
	pid_t *pids = NULL, child, grand = 0;
	int p[2];
	size_t n;

	(void)state;
	assert_int_equal(pipe(p), 0);
	child = fork();
	if (child == 0) {
		pid_t g = fork();

		if (g)
			(void)wr_write_all(p[1], &g, sizeof(g));
		pause();
		_exit(0);
	}
	assert_int_equal(wr_read_full(p[0], &grand, sizeof(grand)), sizeof(grand));
	n = wr_proc_descendants(getpid(), &pids);
	assert_int_equal(n, 2);
	assert_true(has(pids, n, child) && has(pids, n, grand));
	free(pids);
	pids = NULL;
	n = wr_proc_of_uid(getuid(), &pids);
	assert_true(has(pids, n, getpid()) && has(pids, n, grand));
	free(pids);
	assert_int_equal(wr_proc_of_uid((uid_t)-1, NULL), 0);
	kill(grand, SIGKILL);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	close(p[0]);
	close(p[1]);
}

static void
test_usage__grows_with_work(void **state)
{
	uint64_t rss = 0, end = wr_clock_mono_ns() + UINT64_C(10000000000);
	double cpu = 0;

	(void)state;
	while (cpu <= 0 && wr_clock_mono_ns() < end)
		assert_true(wr_proc_usage(getpid(), &rss, &cpu));
	assert_true(cpu > 0);
	assert_true(rss > 100000);
	assert_false(wr_proc_usage(0, &rss, &cpu));
}

static void
test_die_with_parent(void **state)
{
	struct wr_proc_id id;
	int p[2];
	pid_t parent, child = 0;

	(void)state;
	assert_int_equal(pipe(p), 0);
	parent = fork();
	if (parent == 0) {
		child = fork();
		if (child == 0) {
			wr_proc_die_with_parent(getppid());
			child = getpid();
			(void)wr_write_all(p[1], &child, sizeof(child));
			pause();
			_exit(0);
		}
		pause();
		_exit(0);
	}
	assert_int_equal(wr_read_full(p[0], &child, sizeof(child)), sizeof(child));
	assert_int_equal(wr_proc_id_of(child, &id, NULL), 0);
	kill(parent, SIGKILL);
	waitpid(parent, NULL, 0);
	assert_true(poll_until(is_gone, &id));
	close(p[0]);
	close(p[1]);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_spawn__environment_is_what_is_listed),
	    cmocka_unit_test(test_spawn__descriptors_are_exactly_those),
	    cmocka_unit_test(test_spawn__descriptors_may_swap_places),
	    cmocka_unit_test(test_spawn__failures_come_back),
	    cmocka_unit_test(test_spawn__signals_are_as_new),
	    cmocka_unit_test(test_spawn__session_and_directory),
	    cmocka_unit_test(test_spawn__detached_is_no_child),
	    cmocka_unit_test(test_spawn__from_a_threaded_process),
	    cmocka_unit_test(test_id__text_and_back),
	    cmocka_unit_test(test_id__zombies_and_others_are_not_it),
	    cmocka_unit_test(test_list__children_of_children),
	    cmocka_unit_test(test_usage__grows_with_work),
	    cmocka_unit_test(test_die_with_parent),
	};

	if (argc == 2 && !strcmp(argv[1], "list-fds"))
		return list_fds_main();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real processes: what leaves its parent, ignores signals, forks, floods, ends at once; starters
 * and keepers that are killed.  Each test runs with and without a cgroup, as far as there is one.
 */
#include "host/runner/runner.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "host/node/test_node.h"
#include "host/runner/keeper_int.h"
#include "sys/cgroup.h"
#include "sys/clock.h"

/* Ending by uid ends whatever has that uid, so it must be nobody else's on this machine: neither in
 * the range that projects get theirs from, nor that of another run of this test. */
#define UID_BASE 1900000000u
/* A test that fails leaves nothing for ever. */
#define LONG "sleep 120"

static struct test_root t;
static struct wr_node *node;
static struct wr_uuid id;
static uid_t uid;
static gid_t gid;
static char *home;
static unsigned controllers; /* enum wr_cgroup_ctl */
static struct wr_cgroup_limits limits;

static int
setup_with(const char *cgroup)
{
	struct wr_place_of p;
	int fd;

	t = test_root_new();
	node = test_node_new(&t);
	free(node->config.cgroup);
	node->config.cgroup = wr_strdup(cgroup);
	wr_uuid_new(&id);
	p = test_project(node, &id);
	uid = node->root_mode ? UID_BASE + (uid_t)getpid() : geteuid();
	gid = node->root_mode ? (gid_t)uid : getegid();
	fd = wr_tree_open(&p, NULL);
	if (fchown(fd, uid, gid) < 0)
		return -1;
	close(fd);
	home = wr_tree_path(&p);
	wr_place_of_fini(&p);
	return 0;
}

static int
setup_group(void **state)
{
	struct wr_run_place p;

	if (setup_with("auto") < 0)
		return -1;
	wr_run_settle(node, &p);
	controllers = p.controllers;
	*state = p.groups ? &node : NULL; /* not NULL: there are groups */
	return 0;
}

static int
setup_none(void **state)
{
	*state = NULL;
	return setup_with("none");
}

static int
teardown(void **state)
{
	struct wr_runner_stopped s;
	struct wr_err err = WR_ERR_INIT;
	int rc = wr_runner_stop(node, &id, uid, true, 0, &s, &err);

	(void)state;
	if (rc < 0)
		print_error("%s\n", err.msg);
	free(home);
	wr_node_close(node);
	test_root_free(&t);
	return rc;
}

/* ---- helpers ---- */

static int
start(const char *command, uint64_t settle_ms, struct wr_err *err)
{
	static const char *const env[] = {"WARREN_TOKEN=secret", "LANG=C", NULL};
	const struct wr_runner_start o = {.node = node,
					  .id = id,
					  .uid = uid,
					  .gid = gid,
					  .home = home,
					  .account = "ann",
					  .command = command,
					  .env = env,
					  .limits = limits,
					  .settle_ms = settle_ms};
	struct wr_proc_id keeper;

	return wr_runner_start(&o, &keeper, err);
}

static void
must_start(const char *command)
{
	struct wr_err err = WR_ERR_INIT;

	assert_ok(start(command, 20, &err), &err);
}

static struct wr_runner_status
status(void)
{
	struct wr_runner_status s;

	wr_runner_status(node, &id, uid, false, true, &s);
	return s;
}

static struct wr_runner_stopped
stop(uint64_t grace_s)
{
	struct wr_runner_stopped s;
	struct wr_err err = WR_ERR_INIT;

	assert_ok(wr_runner_stop(node, &id, uid, true, grace_s, &s, &err), &err);
	return s;
}

static void
nap(void)
{
	const struct timespec ts = {0, 10000000};

	nanosleep(&ts, NULL);
}

/* Poll until cond, at most 20 s. */
#define EVENTUALLY(cond)                                                    \
	do {                                                                \
		uint64_t end_ = wr_clock_mono_ns() + UINT64_C(20000000000); \
		while (!(cond) && wr_clock_mono_ns() < end_)                \
			nap();                                              \
		if (!(cond))                                                \
			fail_msg("never came true: %s", #cond);             \
	} while (0)

static char *
read_home(const char *name)
{
	WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/%s", home, name);
	struct wr_buf b = WR_BUF_INIT;

	if (wr_read_file(AT_FDCWD, path, 1 << 20, &b, NULL) < 0)
		wr_buf_clear(&b);
	return wr_buf_detach(&b, NULL);
}

static bool
has(const char *name)
{
	WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/%s", home, name);

	return access(path, F_OK) == 0;
}

static char *
record_path(void)
{
	return wr_asprintf("%s/run/%s.json", node->run_path, id.s);
}

/* Of the record: "keeper" or "main". */
static struct wr_proc_id
recorded(const char *who)
{
	WR_SCOPED(wr_freep) char *path = record_path();
	WR_SCOPED(wr_json_freep)
	json_t *o = wr_file_load(AT_FDCWD, path, 1 << 16, "format", 1, NULL);
	struct wr_proc_id p = {0};

	assert_true(wr_proc_parse(wr_json_get_str(o, who, ""), &p));
	return p;
}

/* Without the dead whom pid 1 may never bury in a container. */
static size_t
count_of_uid(void)
{
	pid_t *pids = NULL;
	size_t n = wr_proc_of_uid(uid, &pids), alive = 0;

	for (size_t i = 0; i < n; i++) {
		struct wr_proc_id p;

		alive += wr_proc_id_of(pids[i], &p, NULL) == 0 && wr_proc_alive(&p);
	}
	free(pids);
	return alive;
}

static void
assert_nothing_left(void)
{
	WR_SCOPED(wr_freep) char *path = record_path();
	int slice = wr_run_slice(node, NULL);
	struct wr_runner_status s = status();

	assert_int_equal(s.processes, 0);
	assert_false(s.keeper || s.main);
	assert_int_equal(access(path, F_OK), -1);
	if (node->root_mode)
		assert_int_equal(count_of_uid(), 0);
	if (slice >= 0)
		assert_int_equal(faccessat(slice, id.s, F_OK, 0), -1);
	wr_closep(&slice);
}

/* ---- tests ---- */

static void
test_start_and_stop(void **state)
{
	struct wr_runner_status s;
	struct wr_runner_stopped gone;
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	s = status();
	assert_false(s.keeper || s.main || s.processes || s.started);
	must_start("exec " LONG);
	s = status();
	assert_true(s.keeper && s.main);
	assert_int_equal(s.processes, 1);
	assert_string_equal(s.command, "exec " LONG);
	assert_true(s.started > 0);
	assert_int_equal(s.ended, 0);
	assert_true(s.rss > 0);
	assert_int_equal(start(LONG, 20, &err), -1);
	assert_int_equal(err.code, WR_E_BUSY);
	gone = stop(10);
	assert_int_equal(gone.processes, 1);
	assert_int_equal(gone.killed, 0);
	assert_nothing_left();
	gone = stop(10);
	assert_int_equal(gone.processes, 0);
}

static void
test_surroundings(void **state)
{
	int leak[20], high;
	WR_SCOPED(wr_freep) char *ids = NULL;
	WR_SCOPED(wr_freep) char *fds = NULL;
	WR_SCOPED(wr_freep) char *env = NULL;
	WR_SCOPED(wr_freep) char *self = NULL;
	WR_SCOPED(wr_freep) char *what = NULL;
	WR_SCOPED(wr_freep) char *mask = NULL;
	WR_SCOPED(wr_freep) char *cwd = NULL;

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(leak); i++)
		leak[i] = open("/etc/passwd", O_RDONLY); /* on purpose without O_CLOEXEC */
	high = fcntl(leak[0], F_DUPFD, 200);
	/* What ls itself opens is one more than the three. */
	must_start(
	    "ls /proc/self/fd > fds; readlink /proc/self/fd/0 > in; umask > mask; pwd > cwd; "
	    "env > env; cat /proc/self/status > self; cat /proc/self/oom_score_adj > oom; "
	    "id -G > ids; > done; exec " LONG);
	for (size_t i = 0; i < WR_ARRAY_LEN(leak); i++)
		close(leak[i]);
	close(high);
	EVENTUALLY(has("done"));
	fds = read_home("fds");
	assert_string_equal(fds, "0\n1\n2\n3\n");
	what = read_home("in");
	assert_string_equal(what, "/dev/null\n");
	mask = read_home("mask");
	assert_string_equal(mask, "0022\n");
	cwd = read_home("cwd");
	assert_int_equal(strncmp(cwd, home, strlen(home)), 0);
	env = read_home("env");
	assert_non_null(strstr(env, "USER=ann\n"));
	assert_non_null(strstr(env, "LOGNAME=ann\n"));
	assert_non_null(strstr(env, "HOME=/"));
	assert_non_null(strstr(env, "SHELL=/bin/sh\n"));
	assert_non_null(strstr(env, "WARREN_TOKEN=secret\n"));
	assert_non_null(strstr(env, "LANG=C\n"));
	assert_null(strstr(env, "LANG=C.UTF-8\n"));
	assert_non_null(strstr(env, "WARREN_PROJECT="));
	assert_null(strstr(env, "CMOCKA"));
	self = read_home("self");
	assert_non_null(strstr(self, "NoNewPrivs:\t0\n"));
	free(wr_steal(&what));
	what = read_home("oom");
	assert_string_equal(what, "0\n");
	if (node->root_mode) {
		WR_SCOPED(wr_freep)
		char *four = wr_asprintf("id:\t%u\t%u\t%u\t%u\n", uid, uid, uid, uid);
		WR_SCOPED(wr_freep) char *one = wr_asprintf("%u\n", uid);
		const char *at = strstr(self, four);

		assert_non_null(at);
		assert_non_null(strstr(at + 1, four)); /* the groups */
		assert_non_null(strstr(self, "CapEff:\t0000000000000000\n"));
		ids = read_home("ids");
		assert_string_equal(ids, one);
	}
	stop(5);
	assert_nothing_left();
}

static void
test_ends_at_once(void **state)
{
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	assert_int_equal(start("echo one; echo two; echo no such dataset >&2; exit 7", 5000, &err),
			 -1);
	assert_int_equal(err.code, WR_E_FAILED);
	if (!strstr(err.msg, "with status 7: one two no such dataset"))
		fail_msg("'%s'", err.msg);
	assert_nothing_left();
	assert_int_equal(start("kill -SEGV $$", 5000, &err), -1);
	assert_non_null(strstr(err.msg, "by signal 11"));
	assert_int_equal(
	    start("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; exit 1", 20000,
		  &err),
	    -1);
	assert_non_null(strstr(err.msg, "line 2999"));
	assert_nothing_left();
	assert_int_equal(start("", 20, &err), -1);
	assert_int_equal(err.code, WR_E_INVALID);
	/* A good end is a good start. */
	assert_ok(start("true", 5000, &err), &err);
	EVENTUALLY(!status().keeper);
	assert_true(status().ended > 0);
	stop(0);
}

static void
test_home_missing(void **state)
{
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	assert_int_equal(rmdir(home), 0);
	assert_int_equal(start(LONG, 20, &err), -1);
	assert_int_equal(err.code, WR_E_NOT_FOUND);
	assert_nothing_left();
}

static void
test_end_recorded(void **state)
{
	struct wr_runner_status s;

	(void)state;
	must_start("while [ ! -e go ]; do sleep 0.02; done; exit 9");
	{
		WR_SCOPED(wr_freep) char *go = wr_asprintf("%s/go", home);

		close(open(go, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
	}
	EVENTUALLY(!status().keeper);
	s = status();
	assert_int_equal(s.status, 9);
	assert_int_equal(s.signal, 0);
	assert_true(s.ended >= s.started);
	stop(0);
	assert_nothing_left();
}

/* Twice forked, in sessions of their own, with the command gone: still the project's. */
static void
test_daemons(void **state)
{
	struct wr_runner_stopped gone;

	(void)state;
	must_start("(setsid sh -c '" LONG " & echo > a; wait' &) ; "
		   "(setsid setsid sh -c 'echo > c; exec " LONG "' &) ; echo > b; exit 0");
	EVENTUALLY(has("a") && has("b") && has("c"));
	EVENTUALLY(!status().main && status().processes == 3);
	assert_true(status().keeper);
	gone = stop(10);
	assert_int_equal(gone.processes, 3);
	assert_int_equal(gone.killed, 0);
	assert_nothing_left();
}

static void
test_ignores_term(void **state)
{
	uint64_t before;
	struct wr_runner_stopped gone;

	(void)state;
	must_start("trap '' TERM; (trap '' TERM; echo > a; while :; do sleep 0.1; done) & "
		   "echo > b; while :; do sleep 0.1; done");
	EVENTUALLY(has("a") && has("b"));
	before = wr_clock_mono_ns();
	gone = stop(1);
	assert_true(wr_clock_mono_ns() - before >= UINT64_C(1000000000));
	assert_true(gone.killed >= 2);
	assert_nothing_left();
}

static void
test_stopped_hear_term(void **state)
{
	struct wr_runner_stopped gone;

	(void)state;
	must_start("echo > a; kill -STOP $$; " LONG);
	EVENTUALLY(has("a"));
	gone = stop(10);
	assert_int_equal(gone.killed, 0);
	assert_nothing_left();
}

/* Some hundred that do nothing but make others of their kind. */
static void
test_fork_storm(void **state)
{
	struct wr_runner_stopped gone;

	(void)state;
	must_start("trap '' TERM; ulimit -u 2000 2> /dev/null; echo > a; i=0\n"
		   "f() { trap '' TERM; while :; do sleep 0.05 & sleep 0.05; done; }\n"
		   "while [ $i -lt 150 ]; do f & i=$((i+1)); done; echo > b; wait");
	EVENTUALLY(has("b"));
	EVENTUALLY(status().processes >= 150);
	gone = stop(0);
	assert_true(gone.processes >= 150);
	assert_nothing_left();
}

static void
test_flood(void **state)
{
	WR_SCOPED(wr_freep) char *log = wr_asprintf("%s/log/%s", node->state_path, id.s);
	struct wr_proc_id keeper;
	struct stat st;
	uint64_t first, later;
	double cpu;

	(void)state;
	must_start("head -c 3000000 /dev/zero | tr '\\0' x; > a; "
		   "head -c 60000000 /dev/zero | tr '\\0' '\\n'; > b; "
		   "echo the last line; > c; exec " LONG);
	keeper = recorded("keeper");
	EVENTUALLY(has("a"));
	assert_true(wr_proc_usage(keeper.pid, &first, &cpu));
	EVENTUALLY(has("c"));
	assert_true(wr_proc_usage(keeper.pid, &later, &cpu));
	assert_true(later < first + (1 << 20));
	assert_int_equal(stat(log, &st), 0);
	assert_true(st.st_size <= 1 << 20);
	assert_int_equal(st.st_mode & 07777, 0600);
	stop(5);
	{
		struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;

		assert_int_equal(wr_read_file(AT_FDCWD, log, 2 << 20, &b, NULL), 0);
		assert_true(b.len > 400000);
		assert_non_null(strstr(wr_buf_str(&b), "the last line\n"));
	}
	assert_nothing_left();
}

static void
test_starter_killed(void **state)
{
	pid_t pid = fork();
	int wait_status;

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)start("while :; do echo x >> beat; sleep 0.02; done", 60000, NULL);
		_exit(1);
	}
	EVENTUALLY(has("beat"));
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &wait_status, 0), pid);
	{
		WR_SCOPED(wr_freep) char *beat = read_home("beat");
		size_t before = strlen(beat);

		for (;;) {
			WR_SCOPED(wr_freep) char *now = read_home("beat");

			if (strlen(now) > before + 10)
				break;
			nap();
		}
	}
	assert_true(status().keeper && status().main);
	stop(5);
	assert_nothing_left();
}

static void
test_keeper_killed(void **state)
{
	struct wr_proc_id keeper;
	struct wr_runner_stopped gone;

	if (!*state && !node->root_mode)
		skip(); /* what loses its parent can no more be told from others */
	must_start("(setsid " LONG " &) ; echo > a; exec " LONG);
	EVENTUALLY(has("a") && status().processes == 2);
	keeper = recorded("keeper");
	assert_true(wr_proc_signal(&keeper, SIGKILL));
	EVENTUALLY(!wr_proc_alive(&keeper));
	assert_true(status().main);
	gone = stop(5);
	assert_int_equal(gone.processes, 2);
	assert_nothing_left();
}

/* A keeper ends with its last child only, whoever sends what. */
static void
test_keeper_signals(void **state)
{
	struct wr_proc_id keeper;

	(void)state;
	must_start("exec " LONG);
	keeper = recorded("keeper");
	wr_proc_signal(&keeper, SIGTERM);
	wr_proc_signal(&keeper, SIGHUP);
	wr_proc_signal(&keeper, SIGINT);
	for (int i = 0; i < 5; i++)
		nap();
	assert_true(wr_proc_alive(&keeper));
	stop(5);
	assert_nothing_left();
}

static void
test_freeze(void **state)
{
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	must_start("(while :; do echo x >> beat; sleep 0.01; done) & wait");
	EVENTUALLY(has("beat"));
	assert_ok(wr_runner_freeze(node, &id, uid, true, true, &err), &err);
	{
		WR_SCOPED(wr_freep) char *before = read_home("beat");
		WR_SCOPED(wr_freep) char *after = NULL;

		for (int i = 0; i < 10; i++)
			nap();
		after = read_home("beat");
		assert_string_equal(before, after);
		assert_ok(wr_runner_freeze(node, &id, uid, true, false, &err), &err);
		EVENTUALLY(({
			WR_SCOPED(wr_freep) char *now = read_home("beat");

			strlen(now) > strlen(before);
		}));
	}
	/* Frozen ones can be stopped too, or killed, and do nothing more before they end. */
	for (uint64_t grace = 5;; grace = 0) {
		WR_SCOPED(wr_freep) char *before = NULL;
		WR_SCOPED(wr_freep) char *after = NULL;

		assert_ok(wr_runner_freeze(node, &id, uid, true, true, &err), &err);
		before = read_home("beat");
		stop(grace);
		after = read_home("beat");
		assert_string_equal(before, after);
		assert_nothing_left();
		if (!grace)
			break;
		must_start("while :; do echo y >> beat; sleep 0.01; done");
		EVENTUALLY(({
			WR_SCOPED(wr_freep) char *now = read_home("beat");

			strlen(now) > strlen(after);
		}));
	}
}

#define MS UINT64_C(1000000)

static void
lease_for(uint64_t ms)
{
	struct wr_err err = WR_ERR_INIT;

	assert_ok(wr_run_lease_store(node, &id, wr_clock_boot_ns() + ms * MS, &err), &err);
}

/* RUN/frozen says so; what it says in *out. */
static bool
marked(struct wr_frozen *out)
{
	WR_SCOPED(wr_closep) int dir = wr_frozen_open(node->run_fd);

	if (faccessat(dir, id.s, F_OK, 0) < 0)
		return false;
	wr_frozen_load(dir, id.s, out);
	return true;
}

static bool
stands_still(void)
{
	WR_SCOPED(wr_freep) char *before = read_home("beat");
	WR_SCOPED(wr_freep) char *after = NULL;

	for (int i = 0; i < 20; i++)
		nap();
	after = read_home("beat");
	return !strcmp(before, after);
}

/* No daemon is there: the keeper sees to it that nothing runs past the lease's end. */
static void
test_lease__past_its_end_all_stand_still(void **state WR_UNUSED)
{
	WR_SCOPED(wr_freep) char *log = NULL;
	struct wr_buf text WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;
	struct wr_frozen f = {0};
	struct wr_err err = WR_ERR_INIT;

	lease_for(600);
	must_start("(while :; do echo x >> beat; sleep 0.01; done) & wait");
	EVENTUALLY(has("beat"));
	assert_false(marked(&f));
	assert_false(stands_still());
	EVENTUALLY(marked(&f));
	assert_true(f.by_keeper && f.since > 0 && strstr(f.why, "lease"));
	assert_true(stands_still());
	log = wr_asprintf("%s/log/%s", node->state_path, id.s);
	assert_int_equal(wr_read_file(AT_FDCWD, log, 1 << 20, &text, NULL), 0);
	wr_buf_add8(&text, 0);
	assert_non_null(strstr((char *)text.p, "[warren: frozen: its lease ended"));
	/* The next daemon has another lease: renewed, thawed, and this one ends, too. */
	wr_frozen_remove(node->run_fd, &id);
	lease_for(11000); /* a keeper that froze looks every 10 s */
	assert_ok(wr_runner_freeze(node, &id, uid, true, false, &err), &err);
	EVENTUALLY(!stands_still());
	EVENTUALLY(marked(&f));
	assert_true(stands_still());
	/* What it froze can be stopped. */
	wr_frozen_remove(node->run_fd, &id);
	stop(5);
	assert_nothing_left();
}

static void
test_lease__renewed_in_time_nothing_happens(void **state WR_UNUSED)
{
	struct wr_frozen f;

	lease_for(300);
	must_start("(while :; do echo x >> beat; sleep 0.01; done) & wait");
	EVENTUALLY(has("beat"));
	lease_for(60000);
	for (int i = 0; i < 40; i++)
		nap();
	assert_false(stands_still());
	assert_false(marked(&f));
	/* It needs none any more: what it had is not missed. */
	lease_for(200);
	wr_run_lease_remove(node, &id);
	assert_false(stands_still());
	assert_false(marked(&f));
}

/* One of an earlier boot, cut, or half written is none. */
static void
test_lease__damaged(void **state WR_UNUSED)
{
	static const size_t at[] = {0, 7, 9, 18, 30};
	WR_SCOPED(wr_freep) char *name = wr_asprintf("%s.lease", id.s);
	WR_SCOPED(wr_closep) int dir = wr_open_dir(node->run_fd, "run");
	struct wr_uuid found;
	uint64_t until = wr_clock_boot_ns() + 5000 * MS;
	struct wr_err err = WR_ERR_INIT;

	assert_int_equal(wr_run_lease_load(dir, &id), 0);
	for (size_t i = 0; i < WR_ARRAY_LEN(at); i++) {
		WR_SCOPED(wr_closep) int fd = -1;
		uint8_t b = 0;

		assert_ok(wr_run_lease_store(node, &id, until, &err), &err);
		assert_int_equal(wr_run_lease_load(dir, &id), until);
		fd = openat(dir, name, O_RDWR | O_CLOEXEC);
		assert_int_equal(pread(fd, &b, 1, (off_t)at[i]), 1);
		b ^= 1;
		assert_int_equal(pwrite(fd, &b, 1, (off_t)at[i]), 1);
		assert_int_equal(wr_run_lease_load(dir, &id), 0);
		assert_int_equal(ftruncate(fd, 31), 0);
		assert_int_equal(wr_run_lease_load(dir, &id), 0);
	}
	assert_true(wr_run_lease_is(name, &found));
	assert_string_equal(found.s, id.s);
	assert_false(wr_run_lease_is("x.lease", &found));
	assert_false(wr_run_lease_is(id.s, &found));
}

/* Told to go by uid, we never do so with our own, root's or that of the repositories. */
static void
test_by_uid(void **state)
{
	const uid_t spared[] = {geteuid(), 0, node->uid};
	struct wr_runner_stopped gone;
	struct wr_err err = WR_ERR_INIT;
	int wait_status;
	pid_t pid;

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(spared); i++) {
		pid = fork();
		if (pid == 0) {
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			(void)!setresuid(spared[i], spared[i], spared[i]);
			pause();
		}
		assert_ok(wr_runner_stop(node, &id, spared[i], true, 0, &gone, &err), &err);
		assert_int_equal(gone.processes, 0);
		assert_int_equal(waitpid(pid, &wait_status, WNOHANG), 0);
		kill(pid, SIGKILL);
		waitpid(pid, &wait_status, 0);
	}
	if (!node->root_mode)
		return;
	/* What cron or a login started for the project's user. */
	pid = fork();
	if (pid == 0) {
		(void)!setresuid(uid, uid, uid);
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(0);
	}
	EVENTUALLY(count_of_uid() == 1);
	gone = (struct wr_runner_stopped){0};
	assert_ok(wr_runner_stop(node, &id, uid, false, 0, &gone, &err), &err);
	assert_int_equal(gone.processes, 0);
	assert_ok(wr_runner_stop(node, &id, uid, true, 0, &gone, &err), &err);
	assert_int_equal(gone.processes, 1);
	waitpid(pid, &wait_status, 0);
	assert_true(WIFSIGNALED(wait_status));
}

static void
test_record__garbage(void **state)
{
	WR_SCOPED(wr_freep) char *path = record_path();
	struct wr_runner_stopped gone;

	if (!*state && !node->root_mode)
		skip(); /* the record is all there is */
	must_start("exec " LONG);
	assert_int_equal(wr_replace_file(AT_FDCWD, path, "{\"format\":", 10, 0600, NULL), 0);
	assert_false(status().keeper);
	gone = stop(5);
	assert_int_equal(gone.processes, 1);
	/* The keeper follows its child by itself. */
	assert_nothing_left();
}

/* ---- limits ---- */

#define NEED(which)                                                \
	do {                                                       \
		if (!*state || (controllers & (which)) != (which)) \
			skip();                                    \
	} while (0)

static void
test_limits__from_settings(void **state)
{
	struct wr_settings s WR_SCOPED(wr_settings_fini) = {.set = json_object()};
	struct wr_cgroup_limits l = wr_run_limits_of(&s);
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	assert_int_equal(l.memory, UINT64_C(2) << 30);
	assert_int_equal(l.pids, 4096);
	assert_int_equal(l.cpu_percent, 0);
	assert_int_equal(l.cpu_weight, 100);
	assert_int_equal(l.io_weight, 100);
	assert_ok(wr_settings_change(&s, "cpu_max=1.5", false, false, &err), &err);
	assert_ok(wr_settings_change(&s, "memory=64M", false, false, &err), &err);
	assert_ok(wr_settings_change(&s, "io_weight=7", false, false, &err), &err);
	l = wr_run_limits_of(&s);
	assert_int_equal(l.memory, 64 << 20);
	assert_int_equal(l.cpu_percent, 150);
	assert_int_equal(l.io_weight, 7);
}

/* A hog ends with all that is its project's; the keeper lives to tell. */
static void
test_limits__memory(void **state)
{
	struct wr_cgroup_hits hits = {0};
	struct wr_runner_status s;

	NEED(WR_CGROUP_MEMORY);
	limits = (struct wr_cgroup_limits){.memory = 32 << 20};
	must_start("(setsid " LONG " &); while [ ! -e go ]; do sleep 0.02; done; "
		   "exec perl -e 'my @x; push @x, \"x\" x 1048576 while 1'");
	limits = (struct wr_cgroup_limits){0};
	{
		WR_SCOPED(wr_freep) char *go = wr_asprintf("%s/go", home);

		close(open(go, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
	}
	EVENTUALLY(status().processes == 0 && !status().keeper);
	s = status();
	assert_int_equal(s.signal, SIGKILL);
	assert_true(wr_run_hits(node, &id, &hits));
	assert_true(hits.oom >= 1);
	/* It starts again in the same group. */
	must_start("exec " LONG);
	assert_int_equal(status().processes, 1);
	stop(5);
	assert_nothing_left();
	assert_false(wr_run_hits(node, &id, &hits));
}

static void
test_limits__live(void **state)
{
	const struct wr_cgroup_limits l = {.pids = 5, .cpu_weight = 50};
	struct wr_cgroup_hits hits = {0};

	if (!*state) {
		assert_int_equal(wr_run_limit(node, &id, &l), 0);
		return;
	}
	NEED(WR_CGROUP_PIDS);
	assert_int_equal(wr_run_limit(node, &id, &l), 0); /* there is no group */
	must_start("while :; do (sleep 1 & sleep 1 & sleep 1 & sleep 1 & sleep 1 & sleep 1 & "
		   "sleep 1 & wait); done 2> /dev/null");
	EVENTUALLY(status().processes > 5);
	assert_true(wr_run_limit(node, &id, &l) & WR_CGROUP_PIDS);
	EVENTUALLY(wr_run_hits(node, &id, &hits) && hits.pids > 0);
	EVENTUALLY(status().processes <= 5);
	stop(0);
	assert_nothing_left();
}

static void
test_seen__there_and_back(void **state)
{
	const struct wr_run_seen some = {.oom = 3, .pids = 4000000000, .oom_at = 1700000000};
	struct wr_run_seen got;

	(void)state;
	wr_run_seen_load(node, &id, &got);
	assert_true(got.oom == 0 && got.pids == 0 && got.oom_at == 0);
	wr_run_seen_store(node, &id, &some);
	wr_run_seen_load(node, &id, &got);
	assert_true(got.oom == 3 && got.pids == 4000000000 && got.oom_at == 1700000000 &&
		    got.pids_at == 0);
	stop(0);
	wr_run_seen_load(node, &id, &got);
	assert_int_equal(got.oom, 0);
}

#define BOTH(f)                                                    \
	cmocka_unit_test_setup_teardown(f, setup_group, teardown), \
	    cmocka_unit_test_setup_teardown(f, setup_none, teardown)

static const struct CMUnitTest rootless[] = {
    BOTH(test_freeze),
    BOTH(test_lease__past_its_end_all_stand_still),
    BOTH(test_lease__renewed_in_time_nothing_happens),
};

/* Who is not root has neither a group of its own nor a uid that is the project's alone. */
static void
test_rootless__leases_too(void **state)
{
	const char *const argv[] = {"runner_test", "@rootless", NULL};
	pid_t pid;
	int end;

	(void)state;
	if (geteuid() != 0)
		skip(); /* then all of it is */
	pid = fork();
	if (pid == 0) {
		if (setgroups(0, NULL) < 0 || setgid(65534) < 0 || setuid(65534) < 0)
			_exit(1);
		execv("/proc/self/exe", (char *const *)(uintptr_t)argv);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &end, 0), pid);
	assert_int_equal(end, 0);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    BOTH(test_start_and_stop),
	    BOTH(test_surroundings),
	    BOTH(test_ends_at_once),
	    BOTH(test_home_missing),
	    BOTH(test_end_recorded),
	    BOTH(test_daemons),
	    BOTH(test_ignores_term),
	    BOTH(test_stopped_hear_term),
	    BOTH(test_fork_storm),
	    BOTH(test_flood),
	    BOTH(test_starter_killed),
	    BOTH(test_keeper_killed),
	    BOTH(test_keeper_signals),
	    BOTH(test_freeze),
	    BOTH(test_by_uid),
	    BOTH(test_record__garbage),
	    cmocka_unit_test_setup_teardown(test_limits__from_settings, setup_none, teardown),
	    cmocka_unit_test_setup_teardown(test_limits__memory, setup_group, teardown),
	    BOTH(test_limits__live),
	    cmocka_unit_test_setup_teardown(test_seen__there_and_back, setup_none, teardown),
	    BOTH(test_lease__past_its_end_all_stand_still),
	    BOTH(test_lease__renewed_in_time_nothing_happens),
	    cmocka_unit_test_setup_teardown(test_lease__damaged, setup_none, teardown),
	    cmocka_unit_test(test_rootless__leases_too),
	};

	if (argc > 1 && !strcmp(argv[1], "@keeper"))
		return wr_keeper_main(argc - 1, argv + 1);
	if (argc > 1) /* a pattern: these tests alone */
		cmocka_set_test_filter(argv[1]);
	if (argc > 1 && !strcmp(argv[1], "@rootless")) /* its output is not part of ours */
		return dup2(STDERR_FILENO, STDOUT_FILENO) < 0
			   ? 1
			   : cmocka_run_group_tests(rootless, NULL, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

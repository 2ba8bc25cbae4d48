/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations as the daemon starts them: request, lock, process, result. Each is killed at every one
 * of its crash points, and what comes next must put things right. As root with bind mounts in a
 * mount namespace of our own, and once more without root.
 */
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/repo/resolve.h"
#include "host/life/life.h"
#include "host/runner/runner.h"
#include "host/task/task.h"
#include "sys/clock.h"
#include "sys/fs.h"
#include "sys/bind.h"
#include "sys/proc.h"

#define NODE_USER 65534 /* nobody: bup wants a user with a name */
#define DEADLINE_NS UINT64_C(30000000000)

static char top[256]; /* everything lies below it */
static char root[300], volume[300];
static struct wr_node *node;
static uint32_t next_uid; /* tests run side by side, and a stop ends whatever has the uid */

/* ---- a project ---- */

struct project {
	struct wr_uuid id;
	uint32_t uid;
	char name[32];
	char tree[400], repo[400], home[400];
};

static char *
text_of(const char *dir, const char *path)
{
	WR_SCOPED(wr_freep) char *full = wr_asprintf("%s/%s", dir, path);
	struct wr_buf b = WR_BUF_INIT;

	if (wr_read_file(AT_FDCWD, full, 1 << 20, &b, NULL) < 0) {
		wr_buf_fini(&b);
		return NULL;
	}
	return wr_buf_detach(&b, NULL);
}

#define assert_text(dir, path, want)                                      \
	do {                                                              \
		WR_SCOPED(wr_freep) char *text_ = text_of((dir), (path)); \
		if (!text_)                                               \
			fail_msg("%s/%s is not there", (dir), (path));    \
		assert_string_equal(text_, (want));                       \
	} while (0)
#define assert_absent(dir, path)                                                       \
	do {                                                                           \
		WR_SCOPED(wr_freep) char *full_ = wr_asprintf("%s/%s", (dir), (path)); \
		struct stat st_;                                                       \
		assert_int_equal(lstat(full_, &st_), -1);                              \
	} while (0)

static void
put(const struct project *p, const char *path, const char *text)
{
	WR_SCOPED(wr_freep) char *full = wr_asprintf("%s/%s", p->tree, path);
	int fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(wr_write_all(fd, text, strlen(text)), 0);
	if (geteuid() == 0)
		assert_int_equal(fchown(fd, p->uid, p->uid), 0);
	close(fd);
}

static struct wr_work
work_of(const struct project *p)
{
	struct wr_work w;
	struct wr_err err = WR_ERR_INIT;

	if (wr_work_load(node, &p->id, &w, &err) < 0)
		fail_msg("%s", err.msg);
	return w;
}

static struct wr_status
status_of(const struct project *p)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	struct wr_status s;
	struct wr_err err = WR_ERR_INIT;

	if (wr_place_of_find(node, &p->id, &place, &err) < 0)
		fail_msg("%s", err.msg);
	wr_status_load(&place, &s);
	wr_place_of_fini(&place);
	return s;
}

static bool
presented(const struct project *p)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	struct wr_settings set = {0};
	bool is;

	if (wr_place_of_find(node, &p->id, &place, NULL) < 0)
		return false;
	assert_int_equal(wr_settings_load(&place, &set, NULL), 0);
	is = wr_life_presented(&place, &set);
	wr_settings_fini(&set);
	wr_place_of_fini(&place);
	return is;
}

/* ---- an operation ---- */

struct ran {
	json_t *result; /* NULL: it was killed */
	const json_t *receipt;
	struct wr_err err;
	int exit;
	struct wr_uuid op;
};

static void
ran_fini(struct ran *r)
{
	wr_json_freep(&r->result);
}

static int
lock_of(const struct project *p, const char *note)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	struct wr_lock lock = WR_LOCK_INIT;
	struct wr_err err = WR_ERR_INIT;

	if (wr_place_of_find(node, &p->id, &place, &err) < 0)
		return -1; /* in the trash, or not yet made */
	if (wr_life_lock(&place, 5, note, &lock, &err) < 0)
		fail_msg("%s", err.msg);
	wr_place_of_fini(&place);
	return lock.fd;
}

/* The settings as the daemon gives them along; null for what is yet to be made. */
static json_t *
conf_of(const struct project *p)
{
	static const char *const at[] = {"repos", "repos/.trash"};
	json_t *conf = NULL;

	for (size_t i = 0; !conf && i < WR_ARRAY_LEN(at); i++) {
		WR_SCOPED(wr_freep)
		char *path = wr_asprintf("%s/%s/%s/conf/settings.json", volume, at[i], p->id.s);

		conf = wr_file_load(AT_FDCWD, path, 1 << 20, "format", 1, NULL);
	}
	return conf ? conf : json_null();
}

static pid_t
op_begin(struct ran *r, const struct project *p, const char *kind, json_t *args_taken, int lock,
	 const char *crash)
{
	WR_SCOPED(wr_json_freep) json_t *req = json_object();
	WR_SCOPED(wr_freep) char *env_crash = crash ? wr_asprintf("WARREN_CRASH=%s", crash) : NULL;
	const char *env[] = {"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "WARREN_OP_TOKEN=wrt_secret",
			     env_crash, NULL};
	const char *argv[] = {"warren", "@op", root, NULL, NULL};
	struct wr_spawn s = WR_SPAWN_INIT;
	struct wr_err err = WR_ERR_INIT;
	pid_t pid;

	*r = (struct ran){.err = WR_ERR_INIT};
	wr_uuid_new(&r->op);
	wr_json_u64(req, "format", 1);
	wr_json_str(req, "id", r->op.s);
	wr_json_str(req, "project", p->id.s);
	wr_json_str(req, "kind", kind);
	wr_json_str(req, "by", "test");
	wr_json_time(req, "created", wr_clock_wall().s);
	wr_json_take(req, "args", args_taken ? args_taken : json_object());
	wr_json_take(req, "conf", conf_of(p));
	if (wr_opdir_make(node, &r->op, req, &err) < 0)
		fail_msg("%s", err.msg);
	argv[3] = r->op.s;
	s.argv = argv;
	s.envp = env;
	s.fd[2] = STDERR_FILENO;
	s.fd[3] = lock;
	s.fd_count = 4;
	s.new_session = true;
	if (wr_spawn(&s, &pid, &err) < 0)
		fail_msg("%s", err.msg);
	/* flock belongs to the open file: this end of it must not keep it. */
	if (lock >= 0)
		close(lock);
	return pid;
}

static void
op_end(struct ran *r, pid_t pid)
{
	int fd, status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	r->exit = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
	fd = wr_opdir_open(node, &r->op, NULL);
	assert_true(fd >= 0);
	r->result = wr_opdir_result(fd, NULL);
	close(fd);
	if (r->result) {
		r->receipt = wr_json_get_obj(r->result, "receipt");
		if (wr_json_get_obj(r->result, "error"))
			wr_json_get_err(wr_json_get_obj(r->result, "error"), &r->err);
	}
}

static struct ran
op(const struct project *p, const char *kind, json_t *args_taken, const char *crash)
{
	struct ran r;

	op_end(&r, op_begin(&r, p, kind, args_taken, lock_of(p, "test"), crash));
	return r;
}

/* It must end well. */
static struct ran
good(const struct project *p, const char *kind, json_t *args_taken)
{
	struct ran r = op(p, kind, args_taken, NULL);

	if (!r.receipt)
		fail_msg("%s: exit %d: %s (hint: %s)", kind, r.exit, r.err.msg, r.err.hint);
	return r;
}

/* It must end well with nothing to complain about. */
static struct ran
clean(const struct project *p, const char *kind, json_t *args_taken)
{
	struct ran r = good(p, kind, args_taken);

	if (r.exit != 0) {
		WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

		wr_json_write(r.receipt, &b);
		fail_msg("%s: exit %d: %s", kind, r.exit, wr_buf_str(&b));
	}
	return r;
}

static void
do_clean(const struct project *p, const char *kind, json_t *args_taken)
{
	struct ran r = clean(p, kind, args_taken);

	ran_fini(&r);
}

/* It must be refused with this code and leave the state as it was. */
static void
refused(const struct project *p, const char *kind, json_t *args_taken, enum wr_err_code code)
{
	struct wr_status before = status_of(p), after;
	struct ran r = op(p, kind, args_taken, NULL);

	if (r.receipt)
		fail_msg("%s went well", kind);
	if (r.err.code != code)
		fail_msg("%s: %s: %s", kind, wr_err_name(r.err.code), r.err.msg);
	after = status_of(p);
	assert_int_equal(after.state, before.state);
	ran_fini(&r);
}

/* It is killed there; false if it never comes by. */
static bool
killed(const struct project *p, const char *kind, json_t *args_taken, const char *point)
{
	WR_SCOPED(wr_freep) char *name = wr_asprintf("life.%s.%s", kind, point);
	struct ran r = op(p, kind, args_taken, name);
	bool hit = r.exit == -SIGKILL;

	if (!hit && !r.receipt)
		fail_msg("%s at %s: %s", kind, name, r.err.msg);
	ran_fini(&r);
	return hit;
}

static json_t *
args(const char *key, const char *value, ...)
{
	json_t *o = json_object();
	va_list ap;

	va_start(ap, value);
	while (key) {
		if (!strcmp(value, "true"))
			wr_json_bool(o, key, true);
		else
			wr_json_str(o, key, value);
		key = va_arg(ap, const char *);
		value = key ? va_arg(ap, const char *) : NULL;
	}
	va_end(ap);
	return o;
}
#define ARGS(...) args(__VA_ARGS__, NULL)

static json_t *
create_args(struct project *p, const char *name, const char *command)
{
	struct wr_settings set = {.rev = 1, .epoch = 1, .exclusive = geteuid() == 0};
	json_t *a = json_object();
	struct wr_err err = WR_ERR_INIT;

	memset(p, 0, sizeof(*p));
	wr_uuid_new(&p->id);
	p->uid = geteuid() == 0 ? next_uid++ : geteuid();
	snprintf(p->name, sizeof(p->name), "%s", name);
	snprintf(p->tree, sizeof(p->tree), "%s/projects/%s", volume, p->id.s);
	snprintf(p->repo, sizeof(p->repo), "%s/repos/%s", volume, p->id.s);
	snprintf(p->home, sizeof(p->home), "%s/home/%s", root, name);
	set.id = p->id;
	snprintf(set.name, sizeof(set.name), "%s", name);
	set.uid = p->uid;
	set.gid = geteuid() == 0 ? p->uid : getegid();
	set.created = wr_clock_wall().s;
	set.set = json_object();
	assert_int_equal(wr_settings_change(&set, "stop_timeout=2s", false, true, &err), 0);
	if (command) {
		WR_SCOPED(wr_freep) char *text = wr_asprintf("command=%s", command);

		if (wr_settings_change(&set, text, false, true, &err) < 0)
			fail_msg("%s", err.msg);
	}
	wr_json_str(a, "name", name);
	wr_json_take(a, "conf", wr_settings_json(&set));
	wr_settings_fini(&set);
	return a;
}

/* A project with files f=one, d/g=two in its history. */
static void
make(struct project *p, const char *name, const char *command)
{
	WR_SCOPED(wr_freep) char *dir = wr_asprintf("%s/seed-%s", top, name);
	WR_SCOPED(wr_freep) char *sub = wr_asprintf("%s/d", dir);
	struct project seed = {0};
	json_t *a = create_args(p, name, command);

	assert_int_equal(mkdir(dir, 0755), 0);
	assert_int_equal(mkdir(sub, 0755), 0);
	snprintf(seed.tree, sizeof(seed.tree), "%s", dir);
	seed.uid = p->uid;
	put(&seed, "f", "one\n");
	put(&seed, "d/g", "two\n");
	wr_json_str(a, "from", dir);
	do_clean(p, "create", a);
}

WR_PRINTF(1, 2) static void shell(const char *fmt, ...)
{
	char text[2000];
	const char *argv[] = {"sh", "-c", text, NULL};
	struct wr_spawn s = WR_SPAWN_INIT;
	struct wr_err err = WR_ERR_INIT;
	va_list ap;
	pid_t pid;
	int status;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	s.path = "/bin/sh";
	s.argv = argv;
	s.fd[2] = STDERR_FILENO;
	if (wr_spawn(&s, &pid, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (status != 0)
		fail_msg("'%s' ended with %d", text, status);
}

static size_t
processes(const struct project *p)
{
	struct wr_runner_status run = {0};

	wr_runner_status(node, &p->id, p->uid, geteuid() == 0, false, &run);
	return run.processes;
}

/* ---- create ---- */

static void
test_create__empty(void **state)
{
	struct project p;
	struct ran r;
	struct stat st;

	(void)state;
	r = clean(&p, "create", create_args(&p, "empty", NULL));
	assert_string_equal(wr_json_get_str(r.receipt, "id", ""), p.id.s);
	assert_true(json_is_null(json_object_get(r.receipt, "commit")));
	assert_string_equal(wr_json_get_str(r.receipt, "home", ""), p.home);
	assert_int_equal(lstat(p.tree, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(st.st_uid, p.uid);
	assert_int_equal(lstat(p.repo, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	ran_fini(&r);
	/* It starts, its first snapshot is made, it is kept. */
	do_clean(&p, "start", NULL);
	put(&p, "f", "first\n");
	do_clean(&p, "stop", NULL);
	assert_false(work_of(&p).dirty);
	assert_int_equal(strlen(work_of(&p).base), 40);
	do_clean(&p, "start", NULL);
	assert_text(p.home, "f", "first\n");
	do_clean(&p, "stop", NULL);
}

static void
test_create__from(void **state)
{
	struct project p;

	(void)state;
	make(&p, "from", NULL);
	assert_text(p.tree, "f", "one\n");
	assert_text(p.tree, "d/g", "two\n");
	assert_int_equal(strlen(work_of(&p).base), 40);
	assert_int_equal(status_of(&p).state, WR_ST_STOPPED);
}

static bool
have(const char *program)
{
	WR_SCOPED(wr_freep) char *path = wr_asprintf("/usr/bin/%s", program);

	return access(path, X_OK) == 0;
}

static void
test_create__adopt(void **state)
{
	struct project p;
	json_t *a;
	WR_SCOPED(wr_freep) char *repo = wr_asprintf("%s/theirs", top);

	(void)state;
	if (!have("bup")) {
		print_message("bup is not installed\n");
		skip();
	}
	shell("mkdir %s/files && echo theirs >%s/files/t && export BUP_DIR=%s && bup init "
	      ">/dev/null 2>&1 && bup index %s/files 2>/dev/null && bup save -q -n main --strip "
	      "%s/files",
	      top, top, repo, top, top);
	a = create_args(&p, "adopted", NULL);
	wr_json_str(a, "from", repo);
	wr_json_bool(a, "adopt", true);
	do_clean(&p, "create", a);
	assert_text(p.tree, "t", "theirs\n");
	do_clean(&p, "start", NULL);
	assert_text(p.home, "t", "theirs\n");
	do_clean(&p, "stop", NULL);
}

static void
test_create__killed_anywhere(void **state)
{
	static const char *const points[] = {"repo", "staged", "tree", "published", "result"};

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(points); i++) {
		char name[32];
		struct project p, next;
		json_t *a;
		bool whole;

		snprintf(name, sizeof(name), "cut%zu", i);
		a = create_args(&p, name, NULL);
		assert_true(killed(&p, "create", a, points[i]));
		whole = access(p.repo, F_OK) == 0;
		assert_int_equal(whole, i >= 3);
		/* The next create clears up behind it. */
		snprintf(name, sizeof(name), "after%zu", i);
		do_clean(&next, "create", create_args(&next, name, NULL));
		assert_int_equal(access(p.tree, F_OK), whole ? 0 : -1);
		assert_absent(volume, "projects/.stage/x");
		shell("test -z \"$(ls -A %s/projects/.stage %s/repos/.stage | grep -v :)\"", volume,
		      volume);
		if (whole) {
			do_clean(&p, "start", NULL);
			do_clean(&p, "stop", NULL);
		}
	}
}

static void
test_create__refused(void **state)
{
	struct project p;
	json_t *a;
	struct ran r;

	(void)state;
	a = create_args(&p, "wrong", NULL);
	wr_json_str(a, "from", "/nonexistent");
	r = op(&p, "create", a, NULL);
	assert_int_equal(r.err.code, WR_E_NOT_FOUND);
	ran_fini(&r);
	assert_int_equal(access(p.repo, F_OK), -1);
	a = create_args(&p, "wrong", NULL);
	wr_json_str(a, "volume", "nowhere");
	r = op(&p, "create", a, NULL);
	assert_int_equal(r.err.code, WR_E_NOT_FOUND);
	assert_non_null(strstr(r.err.hint, "warren volume list"));
	ran_fini(&r);
	do_clean(&p, "create", create_args(&p, "taken", NULL));
	r = op(&p, "create", ARGS("name", "other"), NULL);
	assert_int_equal(r.err.code, WR_E_EXISTS);
	ran_fini(&r);
}

/* ---- start, stop ---- */

static void
test_start__twice(void **state)
{
	struct project p;
	struct ran r;

	(void)state;
	make(&p, "twice", "exec sleep 1000");
	r = clean(&p, "start", NULL);
	assert_false(wr_json_get_bool(r.receipt, "already", true));
	assert_int_equal(wr_json_get_u64(r.receipt, "uid", 0), p.uid);
	assert_true(wr_json_get_u64(r.receipt, "processes", 0) >= 1);
	ran_fini(&r);
	assert_true(presented(&p));
	assert_text(p.home, "f", "one\n");
	assert_true(work_of(&p).dirty);
	assert_int_equal(status_of(&p).state, WR_ST_RUNNING);
	assert_true(status_of(&p).active);
	r = clean(&p, "start", NULL);
	assert_true(wr_json_get_bool(r.receipt, "already", false));
	ran_fini(&r);
	put(&p, "f", "edited\n");
	r = clean(&p, "stop", NULL);
	assert_non_null(wr_json_get_obj(r.receipt, "save"));
	ran_fini(&r);
	assert_false(presented(&p));
	assert_int_equal(processes(&p), 0);
	assert_false(work_of(&p).dirty);
	assert_int_equal(status_of(&p).state, WR_ST_STOPPED);
	do_clean(&p, "stop", NULL);
	do_clean(&p, "start", NULL);
	do_clean(&p, "restart", NULL);
	assert_text(p.home, "f", "edited\n");
	assert_true(processes(&p) >= 1);
	do_clean(&p, "stop", NULL);
}

static void
test_start__environment(void **state)
{
	struct project p;
	WR_SCOPED(wr_freep) char *want = NULL;
	WR_SCOPED(wr_freep) char *got = NULL;

	(void)state;
	make(&p, "env", "echo \"$WARREN_PROJECT $WARREN_TOKEN $PWD\" >said; exec sleep 1000");
	do_clean(&p, "start", NULL);
	want = wr_asprintf("%s wrt_secret", p.id.s);
	got = text_of(p.tree, "said");
	assert_non_null(got);
	assert_non_null(strstr(got, want));
	/* Nobody but the operation ever held the lock. */
	do_clean(&p, "save", NULL);
	do_clean(&p, "stop", NULL);
}

static void
test_start__broken_command(void **state)
{
	struct project p;
	struct ran r;

	(void)state;
	make(&p, "broken", "echo no such luck; exit 7");
	r = op(&p, "start", NULL, NULL);
	assert_null(r.receipt);
	assert_int_equal(r.err.code, WR_E_FAILED);
	assert_non_null(strstr(r.err.msg, "7"));
	ran_fini(&r);
	/* The home is there, the state says what is wrong, and everything else works. */
	assert_int_equal(status_of(&p).state, WR_ST_ERROR);
	assert_string_equal(status_of(&p).step, "start_processes");
	assert_true(presented(&p));
	put(&p, "f", "mended\n");
	/* A save is no cure, whether it ends or not. */
	assert_true(killed(&p, "save", NULL, "moved"));
	do_clean(&p, "save", NULL);
	assert_int_equal(status_of(&p).state, WR_ST_ERROR);
	assert_non_null(strstr(status_of(&p).error.msg, "7"));
	do_clean(&p, "stop", NULL);
	assert_int_equal(status_of(&p).state, WR_ST_STOPPED);
}

static void
test_start__killed_anywhere(void **state)
{
	static const char *const points[] = {"begun", "dirty", "presented", "processes", "result"};
	struct project p;

	(void)state;
	make(&p, "startcut", "exec sleep 1000");
	for (size_t i = 0; i < WR_ARRAY_LEN(points); i++) {
		char text[32];
		struct ran r;

		assert_true(killed(&p, "start", NULL, points[i]));
		snprintf(text, sizeof(text), "edit %zu\n", i);
		put(&p, "f", text);
		/* With the lock free whatever it says is over: a start repairs it. */
		r = clean(&p, "start", NULL);
		ran_fini(&r);
		assert_int_equal(status_of(&p).state, WR_ST_RUNNING);
		assert_text(p.home, "f", text);
		do_clean(&p, "stop", NULL);
		assert_int_equal(processes(&p), 0);
		assert_text(p.tree, "f", text);
	}
}

static void
test_stop__killed_anywhere(void **state)
{
	static const char *const points[] = {"begun",     "saving",     "moved",
					     "saved",     "first_save", "processes",
					     "unmounted", "clean",      "result"};
	struct project p;

	(void)state;
	make(&p, "stopcut", "exec sleep 1000");
	for (size_t i = 0; i < WR_ARRAY_LEN(points); i++) {
		char text[32];
		struct ran r;

		do_clean(&p, "start", NULL);
		snprintf(text, sizeof(text), "stop edit %zu\n", i);
		put(&p, "f", text);
		assert_true(killed(&p, "stop", NULL, points[i]));
		r = clean(&p, "start", NULL);
		assert_true(json_is_null(json_object_get(r.receipt, "salvaged")));
		ran_fini(&r);
		assert_text(p.home, "f", text);
		do_clean(&p, "stop", NULL);
		assert_false(work_of(&p).dirty);
	}
}

static void
test_start__tree_removed(void **state)
{
	static const char *const points[] = {"applying", "restored", "applied", NULL};
	struct project p;

	(void)state;
	make(&p, "gone", NULL);
	for (size_t i = 0; i < WR_ARRAY_LEN(points); i++) {
		shell("rm -rf %s", p.tree);
		if (points[i])
			assert_true(killed(&p, "start", NULL, points[i]));
		do_clean(&p, "start", NULL);
		assert_text(p.home, "f", "one\n");
		assert_text(p.home, "d/g", "two\n");
		do_clean(&p, "stop", NULL);
	}
	/* A save never takes an absent tree for an empty one. */
	shell("rm -rf %s", p.tree);
	refused(&p, "save", NULL, WR_E_NOT_FOUND);
	do_clean(&p, "start", NULL);
	do_clean(&p, "stop", NULL);
}

/* ---- save ---- */

static void
test_save__killed_anywhere(void **state)
{
	static const char *const points[] = {"begun", "saving", "moved", "saved", "result"};
	struct project p;

	(void)state;
	make(&p, "savecut", "exec sleep 1000");
	for (size_t i = 0; i < WR_ARRAY_LEN(points); i++) {
		char text[32];
		struct ran r;

		do_clean(&p, "start", NULL);
		snprintf(text, sizeof(text), "save edit %zu\n", i);
		put(&p, "f", text);
		assert_true(killed(&p, "save", NULL, points[i]));
		assert_true(processes(&p) >= 1); /* nobody's work is harmed */
		r = clean(&p, "save", NULL);
		assert_true(wr_json_get_bool(r.receipt, "safe", false));
		assert_false(wr_json_get_bool(r.receipt, "side_branch", true));
		assert_string_equal(work_of(&p).base, wr_json_get_str(r.receipt, "commit", ""));
		ran_fini(&r);
		assert_int_equal(status_of(&p).state, WR_ST_RUNNING);
		do_clean(&p, "stop", NULL);
		do_clean(&p, "start", NULL);
		assert_text(p.home, "f", text);
		do_clean(&p, "stop", NULL);
	}
}

/* A snapshot that someone else puts onto the branch. */
static void
foreign_save(const struct project *p, const char *text)
{
	char as[64] = "";

	if (geteuid() == 0)
		snprintf(as, sizeof(as), "setpriv --reuid=%d --regid=%d --clear-groups", NODE_USER,
			 NODE_USER);
	shell("rm -rf %s/foreign && mkdir -m 755 %s/foreign && echo %s >%s/foreign/f", top, top,
	      text, top);
	/* The index must not carry what an earlier one said of this path. */
	shell("rm -f %s/bupindex; export BUP_DIR=%s; %s bup index -f %s/idx/bupindex %s/foreign "
	      "2>/dev/null && %s bup save -q -f %s/idx/bupindex -n main --strip %s/foreign",
	      top, p->repo, as, top, top, as, top, top);
}

static void
test_start__tip_moved_under_edits(void **state)
{
	static const char *const points[] = {"salvaged", "applying", "restored", "applied", NULL};
	struct project p;

	(void)state;
	if (!have("bup") || !have("setpriv")) {
		print_message("bup or setpriv is not installed\n");
		skip();
	}
	shell("mkdir -m 777 %s/idx", top);
	for (size_t i = 0; i < WR_ARRAY_LEN(points); i++) {
		char name[32], text[32], want[40];
		struct ran r;

		snprintf(name, sizeof(name), "moved%zu", i);
		make(&p, name, NULL);
		do_clean(&p, "start", NULL);
		put(&p, "f", "mine\n");
		do_clean(&p, "stop", ARGS("no_save", "true"));
		assert_true(work_of(&p).dirty);
		snprintf(text, sizeof(text), "foreign%zu", i);
		snprintf(want, sizeof(want), "%s\n", text);
		shell("rm -rf %s/idx/*", top);
		foreign_save(&p, text);
		if (points[i])
			assert_true(killed(&p, "start", NULL, points[i]));
		r = good(&p, "start", NULL);
		if (!points[i]) {
			assert_int_equal(r.exit, 3);
			assert_non_null(
			    strstr(wr_json_get_str(r.receipt, "salvaged", ""), "conflict-1."));
			assert_non_null(wr_json_get_obj(r.receipt, "restored"));
		}
		ran_fini(&r);
		assert_text(p.home, "f", want);
		assert_absent(p.home, "d");
		/* What was salvaged can be had back. */
		shell("BUP_DIR=%s git --git-dir=%s -c safe.directory='*' for-each-ref | grep -q "
		      "heads/conflict-1",
		      p.repo, p.repo);
		do_clean(&p, "stop", NULL);
	}
}

static void
test_save__tip_moved_while_it_runs(void **state)
{
	struct project p;
	struct ran r;

	(void)state;
	if (!have("bup") || !have("setpriv"))
		skip();
	shell("mkdir -p -m 777 %s/idx", top);
	make(&p, "moving", "exec sleep 1000");
	do_clean(&p, "start", NULL);
	put(&p, "f", "mine\n");
	shell("rm -rf %s/idx/*", top);
	foreign_save(&p, "theirs");
	r = good(&p, "save", NULL);
	assert_true(wr_json_get_bool(r.receipt, "side_branch", false));
	assert_int_equal(r.exit, 3);
	ran_fini(&r);
	assert_text(p.home, "f", "mine\n");
	r = good(&p, "stop", NULL);
	ran_fini(&r);
	r = good(&p, "start", NULL);
	ran_fini(&r);
	assert_text(p.home, "f", "theirs\n");
	do_clean(&p, "stop", NULL);
}

/* ---- restore ---- */

static char *
save_commit(const struct project *p)
{
	struct ran r = clean(p, "save", NULL);
	char *c = wr_strdup(wr_json_get_str(r.receipt, "commit", ""));

	ran_fini(&r);
	return c;
}

static void
test_restore__one_file(void **state)
{
	struct project p;
	WR_SCOPED(wr_freep) char *first = NULL;
	struct ran r;
	const json_t *safety;

	(void)state;
	make(&p, "onefile", NULL);
	first = save_commit(&p);
	put(&p, "f", "later\n");
	/* Beside it. */
	r = clean(&p, "restore", ARGS("snapshot", first, "path", "f"));
	assert_text(p.tree, "f", "later\n");
	shell("grep -q one %s/f.from-*", p.tree);
	assert_true(json_is_null(json_object_get(r.receipt, "safety")));
	ran_fini(&r);
	/* At its place. */
	r = clean(&p, "restore", ARGS("snapshot", first, "path", "f", "in_place", "true"));
	assert_text(p.tree, "f", "one\n");
	safety = wr_json_get_obj(r.receipt, "safety");
	assert_non_null(safety);
	assert_int_equal(strncmp(wr_json_get_str(safety, "tag", ""), "before-", 7), 0);
	assert_non_null(strstr(wr_json_get_str(r.receipt, "undo", ""), "before-"));
	{
		json_t *a = ARGS("path", "f", "in_place", "true");

		wr_json_str(a, "snapshot", wr_json_get_str(safety, "tag", ""));
		do_clean(&p, "restore", a);
	}
	ran_fini(&r);
	assert_text(p.tree, "f", "later\n");
	/* Elsewhere, as it is typed in one word. */
	{
		WR_SCOPED(wr_freep) char *spec = wr_asprintf("%s:f", first);

		r = clean(&p, "restore", ARGS("snapshot", spec, "to", "copy"));
	}
	assert_text(p.tree, "copy", "one\n");
	assert_true(json_is_null(json_object_get(r.receipt, "safety")));
	ran_fini(&r);
	/* Never out of the home. */
	refused(&p, "restore", ARGS("snapshot", first, "path", "f", "to", "../out"), WR_E_INVALID);
	refused(&p, "restore", ARGS("snapshot", "nonsense", "path", "f"), WR_E_NOT_FOUND);
	refused(&p, "restore", ARGS("snapshot", "--help", "path", "f"), WR_E_INVALID);
}

static void
test_undo__and_undo_of_it(void **state)
{
	struct project p;
	WR_SCOPED(wr_freep) char *first = NULL;
	struct ran r;

	(void)state;
	make(&p, "undo", "exec sleep 1000");
	first = save_commit(&p);
	do_clean(&p, "start", NULL);
	put(&p, "f", "later\n");
	put(&p, "new", "new\n");
	refused(&p, "undo", ARGS("snapshot", first), WR_E_BUSY);
	assert_text(p.home, "f", "later\n");
	do_clean(&p, "undo", ARGS("snapshot", first, "live", "true"));
	assert_text(p.home, "f", "one\n");
	assert_absent(p.home, "new");
	assert_int_equal(status_of(&p).state, WR_ST_RUNNING);
	/* It stays so, over a stop and a start. */
	do_clean(&p, "stop", NULL);
	do_clean(&p, "start", NULL);
	assert_text(p.home, "f", "one\n");
	do_clean(&p, "stop", NULL);
	/* Without a name: back to before the undo, and back again. */
	do_clean(&p, "undo", NULL);
	assert_text(p.tree, "f", "later\n");
	assert_text(p.tree, "new", "new\n");
	do_clean(&p, "undo", NULL);
	assert_text(p.tree, "f", "one\n");
	assert_absent(p.tree, "new");
	r = clean(&p, "restore", ARGS("snapshot", first, "dry_run", "true"));
	assert_true(wr_json_get_bool(r.receipt, "dry_run", false));
	ran_fini(&r);
}

static void
test_undo__killed_anywhere(void **state)
{
	static const char *const points[] = {"begun",    "saving",   "moved",   "saved",
					     "applying", "restored", "applied", "result"};

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(points); i++) {
		char name[32];
		struct project p;
		WR_SCOPED(wr_freep) char *first = NULL;
		struct ran r;

		snprintf(name, sizeof(name), "undocut%zu", i);
		make(&p, name, NULL);
		first = save_commit(&p);
		put(&p, "f", "later\n");
		assert_true(killed(&p, "undo", ARGS("snapshot", first), points[i]));
		r = clean(&p, "start", NULL);
		/* Before the mark nothing has changed; after it, it is finished. */
		assert_text(p.home, "f", i < 4 ? "later\n" : "one\n");
		if (i == 4 || i == 5)
			assert_int_equal(strlen(wr_json_get_str(r.receipt, "finished_restore", "")),
					 36);
		ran_fini(&r);
		do_clean(&p, "stop", NULL);
		/* What was overwritten is a snapshot with a tag. */
		if (i >= 3) {
			do_clean(&p, "undo", NULL);
			assert_text(p.tree, "f", "later\n");
		}
	}
}

/* People worked on while a live restore was dead: it is not finished over their work. */
static void
test_undo__killed_while_in_use(void **state)
{
	struct project p;
	WR_SCOPED(wr_freep) char *first = NULL;
	struct ran r;

	(void)state;
	make(&p, "undolive", "exec sleep 1000");
	first = save_commit(&p);
	do_clean(&p, "start", NULL);
	put(&p, "f", "later\n");
	assert_true(killed(&p, "undo", ARGS("snapshot", first, "live", "true"), "applying"));
	put(&p, "f", "since\n");
	r = good(&p, "save", NULL);
	assert_int_equal(r.exit, 3);
	ran_fini(&r);
	assert_text(p.home, "f", "since\n");
	assert_false(work_of(&p).applying.on);
	do_clean(&p, "stop", NULL);
}

/* A save is of the files as they are: an old restore is not finished under its hands. */
static void
test_undo__killed_then_saved(void **state)
{
	struct project p;
	WR_SCOPED(wr_freep) char *first = NULL;
	struct ran r;

	(void)state;
	make(&p, "undosave", NULL);
	first = save_commit(&p);
	put(&p, "f", "later\n");
	assert_true(killed(&p, "undo", ARGS("snapshot", first), "applying"));
	put(&p, "new", "new\n");
	r = good(&p, "save", NULL);
	assert_int_equal(r.exit, 3);
	ran_fini(&r);
	do_clean(&p, "start", NULL);
	assert_text(p.home, "new", "new\n");
	assert_text(p.home, "f", "later\n");
	do_clean(&p, "stop", NULL);
}

static void
test_copy(void **state)
{
	struct project a, b;
	struct ran r;

	(void)state;
	make(&a, "source", NULL);
	make(&b, "target", NULL);
	r = clean(&b, "copy", ARGS("from", a.id.s, "from_path", "d", "to_path", "got"));
	ran_fini(&r);
	assert_text(b.tree, "got/g", "two\n");
	put(&b, "f", "mine\n");
	r = clean(&b, "copy", ARGS("from", a.id.s, "from_path", "f", "to_path", "f"));
	assert_text(b.tree, "f", "one\n");
	assert_non_null(wr_json_get_obj(r.receipt, "safety"));
	ran_fini(&r);
	do_clean(&b, "undo", NULL);
	assert_text(b.tree, "f", "mine\n");
	do_clean(&b, "copy",
		 ARGS("from", a.id.s, "from_path", "f", "to_path", "f", "mode", "keep"));
	assert_text(b.tree, "f", "mine\n");
}

/* ---- trash ---- */

static void
test_trash__there_and_back(void **state)
{
	struct project p;
	struct ran r;

	(void)state;
	make(&p, "trash", "exec sleep 1000");
	do_clean(&p, "start", NULL);
	put(&p, "f", "last\n");
	refused(&p, "delete", NULL, WR_E_BUSY);
	do_clean(&p, "delete", ARGS("force", "true"));
	assert_int_equal(access(p.tree, F_OK), -1);
	assert_int_equal(access(p.repo, F_OK), -1);
	assert_int_equal(processes(&p), 0);
	do_clean(&p, "undelete", NULL);
	do_clean(&p, "start", NULL);
	assert_text(p.home, "f", "last\n");
	do_clean(&p, "stop", NULL);
	do_clean(&p, "delete", NULL);
	r = op(&p, "purge", NULL, NULL);
	assert_int_equal(r.err.code, WR_E_DENIED);
	ran_fini(&r);
	do_clean(&p, "purge", ARGS("now", "true"));
	assert_true(work_of(&p).purged);
	r = op(&p, "undelete", NULL, NULL);
	assert_int_equal(r.err.code, WR_E_NOT_FOUND);
	ran_fini(&r);
	r = op(&p, "create", ARGS("name", "again"), NULL);
	assert_int_equal(r.err.code, WR_E_EXISTS);
	ran_fini(&r);
}

static void
test_trash__killed_anywhere(void **state)
{
	static const char *const away[] = {"begun", "marked", "tree", "moved", "result"};
	static const char *const back[] = {"tree", "moved", "unmarked", "result"};
	static const char *const gone[] = {"marked", "tree", "repo", "result"};
	struct project p;
	struct ran r;

	(void)state;
	make(&p, "trashcut", NULL);
	for (size_t i = 0; i < WR_ARRAY_LEN(away); i++) {
		assert_true(killed(&p, "delete", NULL, away[i]));
		if (i < 3)
			do_clean(&p, "delete", NULL);
		do_clean(&p, "undelete", NULL);
		do_clean(&p, "start", NULL);
		assert_text(p.home, "f", "one\n");
		do_clean(&p, "stop", NULL);
	}
	for (size_t i = 0; i < WR_ARRAY_LEN(back); i++) {
		do_clean(&p, "delete", NULL);
		assert_true(killed(&p, "undelete", NULL, back[i]));
		if (i < 2)
			do_clean(&p, "undelete", NULL);
		do_clean(&p, "start", NULL);
		assert_text(p.home, "d/g", "two\n");
		do_clean(&p, "stop", NULL);
	}
	/* Marked, and brought back half way: undelete is the way out. */
	assert_true(killed(&p, "delete", NULL, "marked"));
	r = op(&p, "start", NULL, NULL);
	assert_int_equal(r.err.code, WR_E_NOT_FOUND);
	assert_non_null(strstr(r.err.hint, "undelete"));
	ran_fini(&r);
	do_clean(&p, "undelete", NULL);
	for (size_t i = 0; i < WR_ARRAY_LEN(gone); i++) {
		char name[32];

		snprintf(name, sizeof(name), "purgecut%zu", i);
		make(&p, name, NULL);
		do_clean(&p, "delete", NULL);
		assert_true(killed(&p, "purge", ARGS("now", "true"), gone[i]));
		r = op(&p, "undelete", NULL, NULL);
		assert_null(r.receipt);
		ran_fini(&r);
		if (i < 2)
			do_clean(&p, "purge", NULL);
		assert_true(work_of(&p).purged);
		shell("! ls %s/*/.trash | grep -q %s", volume, p.id.s);
	}
}

/* ---- chown, lock, cancel, settle ---- */

static void
test_chown(void **state)
{
	struct project p;
	struct stat st;
	WR_SCOPED(wr_freep) char *f = NULL;
	struct ran r;

	(void)state;
	make(&p, "chown", NULL);
	f = wr_asprintf("%s/f", p.tree);
	if (geteuid() == 0)
		assert_int_equal(chown(f, 0, 0), 0);
	r = good(&p, "chown", NULL);
	ran_fini(&r);
	assert_int_equal(stat(f, &st), 0);
	assert_int_equal(st.st_uid, p.uid);
	assert_int_equal(status_of(&p).state, WR_ST_STOPPED);
}

static void
test_lock__must_be_ours(void **state)
{
	struct project p, other;
	struct ran r;
	int lock;

	(void)state;
	make(&p, "locked", NULL);
	make(&other, "other", NULL);
	op_end(&r, op_begin(&r, &p, "start", NULL, -1, NULL));
	assert_int_equal(r.err.code, WR_E_INVALID);
	ran_fini(&r);
	op_end(&r, op_begin(&r, &p, "start", NULL, lock_of(&other, "test"), NULL));
	assert_int_equal(r.err.code, WR_E_INVALID);
	ran_fini(&r);
	/* Handed over: free only when the operation ends. */
	lock = lock_of(&p, "test");
	op_end(&r, op_begin(&r, &p, "save", NULL, lock, NULL));
	assert_non_null(r.receipt);
	ran_fini(&r);
	lock = lock_of(&p, "test");
	assert_true(lock >= 0);
	close(lock);
}

static void
test_cancel__save(void **state)
{
	struct project p;
	struct ran r;
	uint64_t until = wr_clock_mono_ns() + DEADLINE_NS;
	pid_t pid;

	(void)state;
	make(&p, "cancel", NULL);
	shell("head -c 200000000 /dev/urandom >%s/big", p.tree);
	pid = op_begin(&r, &p, "save", NULL, lock_of(&p, "test"), NULL);
	for (;;) {
		struct wr_status s = status_of(&p);
		const struct timespec nap = {0, 5000000};

		if (s.state == WR_ST_SAVING)
			break;
		assert_true(wr_clock_mono_ns() < until);
		nanosleep(&nap, NULL);
	}
	kill(pid, SIGTERM);
	op_end(&r, pid);
	assert_null(r.receipt);
	assert_int_equal(r.err.code, WR_E_CANCELLED);
	ran_fini(&r);
	assert_int_equal(status_of(&p).state, WR_ST_STOPPED);
	shell("rm %s/big", p.tree);
	do_clean(&p, "save", NULL);
}

static void
test_settle(void **state)
{
	struct project p;
	struct wr_place_of place = WR_PLACE_OF_INIT;
	struct wr_settings set = {0};
	struct wr_status s, out;

	(void)state;
	make(&p, "settle", NULL);
	do_clean(&p, "start", NULL);
	assert_int_equal(wr_place_of_find(node, &p.id, &place, NULL), 0);
	assert_int_equal(wr_settings_load(&place, &set, NULL), 0);
	wr_status_load(&place, &s);
	assert_false(wr_life_settle(&place, &set, &s, &out));
	/* A save that died never misleads. */
	assert_true(killed(&p, "save", NULL, "moved"));
	wr_status_load(&place, &s);
	assert_int_equal(s.state, WR_ST_SAVING);
	assert_true(wr_life_settle(&place, &set, &s, &out));
	assert_int_equal(out.state, WR_ST_RUNNING);
	/* A stop that died: error, with the command that helps. */
	assert_true(killed(&p, "stop", NULL, "processes"));
	wr_status_load(&place, &s);
	assert_true(wr_life_settle(&place, &set, &s, &out));
	assert_int_equal(out.state, WR_ST_ERROR);
	assert_non_null(strstr(out.error.hint, "warren stop settle"));
	/* One whose result is on disk is what the result says. */
	assert_true(killed(&p, "stop", NULL, "result"));
	wr_status_load(&place, &s);
	assert_int_equal(s.state, WR_ST_STOPPING);
	assert_true(wr_life_settle(&place, &set, &s, &out));
	assert_int_equal(out.state, WR_ST_STOPPED);
	/* The home is gone: a reboot. */
	do_clean(&p, "start", NULL);
	if (geteuid() == 0)
		assert_int_equal(wr_mount_drop(p.home, NULL, NULL), 0);
	else
		assert_int_equal(unlink(p.home), 0);
	wr_status_load(&place, &s);
	assert_true(wr_life_settle(&place, &set, &s, &out));
	assert_int_equal(out.state, WR_ST_STOPPED);
	assert_false(out.active);
	do_clean(&p, "start", NULL);
	assert_true(presented(&p));
	do_clean(&p, "stop", NULL);
	wr_settings_fini(&set);
	wr_place_of_fini(&place);
}

static void
test_present__taken(void **state)
{
	struct project p;
	struct ran r;

	(void)state;
	make(&p, "squat", NULL);
	shell("mkdir -p %s && echo x >%s/theirs", p.home, p.home);
	r = op(&p, "start", NULL, NULL);
	assert_int_equal(r.err.code, WR_E_EXISTS);
	assert_non_null(strstr(r.err.hint, "warren settings squat"));
	ran_fini(&r);
	assert_int_equal(status_of(&p).state, WR_ST_ERROR);
	assert_string_equal(status_of(&p).step, "present_home");
	assert_text(p.home, "theirs", "x\n");
	shell("rm -r %s", p.home);
	do_clean(&p, "start", NULL);
	do_clean(&p, "stop", NULL);
}

/* ---- the program ---- */

static int
setup(void **state)
{
	struct wr_node_init o = {.dc = "dc1", .allow_root_fs = true};
	struct wr_err err = WR_ERR_INIT;
	WR_SCOPED(wr_json_freep) json_t *receipt = NULL;

	(void)state;
	snprintf(top, sizeof(top), "%s/warren-life-XXXXXX",
		 getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	if (!mkdtemp(top) || chmod(top, 0755) < 0)
		return -1;
	snprintf(root, sizeof(root), "%s/node", top);
	snprintf(volume, sizeof(volume), "%s/volume", top);
	next_uid = 10000000 + (uint32_t)getpid() % 100000 * 1000;
	o.root = root;
	o.volume = volume;
	o.user = geteuid() == 0 ? "nobody" : NULL;
	o.reserve_bytes = 64 << 20;
	if (wr_node_init(&o, &receipt, &err) < 0 || wr_node_open(root, 0, &node, &err) < 0) {
		print_error("%s\n", err.msg);
		return -1;
	}
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	wr_node_close(node);
	return wr_remove_tree(AT_FDCWD, top, NULL);
}

static void
test_without_root(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip(); /* these tests are that */
	pid = fork();
	if (pid == 0) {
		int fd = open("/dev/null", O_WRONLY);

		dup2(STDERR_FILENO, STDOUT_FILENO);
		close(fd);
		if (setgid(NODE_USER) < 0 || setuid(NODE_USER) < 0)
			_exit(9);
		execl("/proc/self/exe", "life_test", "--rootless", NULL);
		_exit(9);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* What `warren repo diff --name-only S S` and `warren repo tag` say: views run our own image, and
 * this is it. */
static int
view(int argc, char **argv)
{
	struct wr_err err = WR_ERR_INIT;
	struct wr_repo *repo;
	struct wr_reader *rd;
	json_t *o = json_object();
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	int rc = 0;

	if (wr_repo_open(argv[4], &repo, &err) < 0)
		return 1;
	rd = wr_reader_new(repo);
	if (!strcmp(argv[2], "tag")) {
		struct wr_refs refs = {0};
		json_t *list = wr_json_array(o, "tags");

		rc = wr_refs_list(repo, "refs/tags/", &refs, &err);
		for (size_t i = 0; i < refs.count; i++) {
			struct wr_commit c = WR_COMMIT_INIT;
			json_t *t = wr_json_item(list);

			wr_json_str(t, "tag", refs.ref[i].name + 10);
			if (wr_repo_read_commit(rd, &refs.ref[i].id, &c, NULL) == 0)
				wr_json_time(t, "time", c.author_time);
			wr_commit_fini(&c);
		}
		wr_refs_fini(&refs);
	} else {
		struct wr_snap snap = {0};
		char *path = NULL;

		rc = wr_resolve(rd, argv[argc - 1], wr_clock_wall().s, &snap, &path, &err);
		if (rc == 0) {
			json_t *a = wr_json_object(o, "a");

			wr_json_str(a, "snapshot", snap.name);
			wr_json_str(a, "commit", wr_id_hex(&snap.commit).s);
			wr_json_str(a, "path", path ? path : "");
		}
		wr_snap_fini(&snap);
		free(path);
	}
	if (rc < 0)
		wr_json_err(o, "error", &err);
	wr_json_write(o, &b);
	wr_buf_add8(&b, '\n');
	(void)wr_write_all(STDOUT_FILENO, b.p, b.len);
	json_decref(o);
	wr_reader_free(rd);
	wr_repo_close(repo);
	return rc < 0 ? wr_err_exit(err.code) : 0;
}

int
main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_create__empty),
	    cmocka_unit_test(test_create__from),
	    cmocka_unit_test(test_create__adopt),
	    cmocka_unit_test(test_create__killed_anywhere),
	    cmocka_unit_test(test_create__refused),
	    cmocka_unit_test(test_start__twice),
	    cmocka_unit_test(test_start__environment),
	    cmocka_unit_test(test_start__broken_command),
	    cmocka_unit_test(test_start__killed_anywhere),
	    cmocka_unit_test(test_stop__killed_anywhere),
	    cmocka_unit_test(test_start__tree_removed),
	    cmocka_unit_test(test_save__killed_anywhere),
	    cmocka_unit_test(test_start__tip_moved_under_edits),
	    cmocka_unit_test(test_save__tip_moved_while_it_runs),
	    cmocka_unit_test(test_restore__one_file),
	    cmocka_unit_test(test_undo__and_undo_of_it),
	    cmocka_unit_test(test_undo__killed_anywhere),
	    cmocka_unit_test(test_undo__killed_while_in_use),
	    cmocka_unit_test(test_undo__killed_then_saved),
	    cmocka_unit_test(test_copy),
	    cmocka_unit_test(test_trash__there_and_back),
	    cmocka_unit_test(test_trash__killed_anywhere),
	    cmocka_unit_test(test_chown),
	    cmocka_unit_test(test_lock__must_be_ours),
	    cmocka_unit_test(test_cancel__save),
	    cmocka_unit_test(test_settle),
	    cmocka_unit_test(test_present__taken),
	    cmocka_unit_test(test_without_root),
	};

	if (argc > 1 && !strcmp(argv[1], "@op"))
		return wr_life_main(argc - 1, argv + 1);
	if (argc > 1 && !strcmp(argv[1], "@worker"))
		return wr_worker_main(argc - 1, argv + 1);
	if (argc > 1 && !strcmp(argv[1], "@keeper"))
		return wr_keeper_main(argc - 1, argv + 1);
	if (argc > 5 && !strcmp(argv[1], "repo"))
		return view(argc, argv);
	if (argc > 1 && strcmp(argv[1], "--rootless") != 0)
		cmocka_set_test_filter(argv[1]);
	if (geteuid() == 0 &&
	    (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)) {
		print_message("1..0 # skip no mount namespace: run as root or as a user\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, setup, teardown);
}

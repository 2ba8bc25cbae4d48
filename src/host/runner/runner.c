/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting, looking at and ending a project's processes, from any process of Warren: what there is
 * to know lies in RUN/run/ID.json and in the kernel.
 *
 * Whose processes are they?  Those of the project's cgroup; without one the keeper's descendants
 * (or, if somebody killed the keeper, those of the command); and, where the project alone has its
 * uid, that uid's, which also finds what a service manager or cron started for it.
 */
#include "host/runner/runner.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/str.h"
#include "host/runner/keeper_int.h"
#include "sys/cgroup.h"
#include "sys/clock.h"
#include "sys/fs.h"
#include "sys/sealed.h"

/* LIMIT: how long a keeper may take to begin, killed processes to be gone, a keeper to follow. */
#define BEGIN_MS 30000
#define KILL_MS 10000
#define KEEPER_MS 2000
/* LIMIT: passes that stop what still forks, before all is killed anyway. */
#define STOP_PASSES 50
/* LIMIT: a keeper's report. */
#define REPORT_MAX (16u << 10)

/* ---- what there is ---- */

struct run {
	struct wr_node *node;
	const char *id;
	int slice_fd; /* -1: no cgroups */
	bool group;   /* the project has one */
	uid_t by_uid; /* (uid_t)-1: not to be asked for */
	struct wr_proc_id keeper, main;
	json_t *record; /* NULL: none that can be read */
};

static int
open_run_dir(const struct wr_node *n, struct wr_err *err)
{
	int fd = n->run_fd < 0 ? -1 : wr_open_dir(n->run_fd, "run");

	if (n->run_fd < 0)
		errno = ENOENT;
	return fd < 0 ? wr_err_sys(err, "open '%s/run'", WR_Q(n->run_path)) : fd;
}

static void
load_record(struct run *r)
{
	WR_SCOPED(wr_closep) int dir = open_run_dir(r->node, NULL);
	WR_SCOPED(wr_freep) char *name = wr_asprintf("%s.json", r->id);

	if (dir < 0)
		return;
	r->record = wr_file_load(dir, name, RECORD_MAX, "format", RUN_FORMAT, NULL);
	if (!r->record)
		return;
	(void)wr_proc_parse(wr_json_get_str(r->record, "keeper", ""), &r->keeper);
	(void)wr_proc_parse(wr_json_get_str(r->record, "main", ""), &r->main);
}

/* Never root's, our own, or that of the repositories: those are not the project's alone. */
static bool
may_ask_uid(const struct wr_node *n, uid_t uid, bool exclusive)
{
	return exclusive && geteuid() == 0 && uid != 0 && uid != getuid() && uid != n->uid;
}

static void
run_init(struct run *r, struct wr_node *n, const struct wr_uuid *id, uid_t uid, bool exclusive)
{
	*r = (struct run){.node = n, .id = id->s, .by_uid = (uid_t)-1};
	r->slice_fd = wr_run_slice(n, NULL);
	r->group = r->slice_fd >= 0 && faccessat(r->slice_fd, id->s, F_OK, 0) == 0;
	if (may_ask_uid(n, uid, exclusive))
		r->by_uid = uid;
	load_record(r);
}

static void
run_fini(struct run *r)
{
	wr_closep(&r->slice_fd);
	wr_json_freep(&r->record);
}

/* ---- its processes ---- */

struct crowd {
	struct wr_proc_id *p;
	size_t count, cap;
};

static void
crowd_fini(struct crowd *c)
{
	free(c->p);
	*c = (struct crowd){0};
}

static bool
crowd_has(const struct crowd *c, pid_t pid)
{
	for (size_t i = 0; i < c->count; i++)
		if (c->p[i].pid == pid)
			return true;
	return false;
}

/* Takes pids. The dead who were not yet buried do not count. */
static void
crowd_add(struct crowd *c, const struct run *r, pid_t *taken, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct wr_proc_id id;

		if (taken[i] == r->keeper.pid || taken[i] == getpid() || crowd_has(c, taken[i]) ||
		    wr_proc_id_of(taken[i], &id, NULL) < 0 || !wr_proc_alive(&id))
			continue;
		wr_grow(&c->p, &c->cap, c->count + 1, sizeof(*c->p));
		c->p[c->count++] = id;
	}
	free(taken);
}

static void
crowd_add_below(struct crowd *c, const struct run *r, const struct wr_proc_id *top)
{
	pid_t *pids = NULL;
	size_t count = wr_proc_descendants(top->pid, &pids);

	/* Asked afterwards: so it was there all the time, and they are its. */
	if (!wr_proc_alive(top))
		count = 0;
	crowd_add(c, r, pids, count);
}

/* All there are now. */
static struct crowd
gather(const struct run *r)
{
	struct crowd c = {0};
	pid_t *pids = NULL;
	size_t count;

	if (r->group) {
		count = wr_cgroup_pids(r->slice_fd, r->id, &pids);
		crowd_add(&c, r, pids, count);
	} else {
		if (wr_proc_alive(&r->keeper))
			crowd_add_below(&c, r, &r->keeper);
		if (wr_proc_alive(&r->main)) {
			crowd_add_below(&c, r, &r->main);
			crowd_add(&c, r, wr_memdup(&r->main.pid, sizeof(r->main.pid)), 1);
		}
	}
	if (r->by_uid != (uid_t)-1) {
		count = wr_proc_of_uid(r->by_uid, &pids);
		crowd_add(&c, r, pids, count);
	}
	return c;
}

static void
signal_all(const struct crowd *c, int sig)
{
	for (size_t i = 0; i < c->count; i++)
		(void)wr_proc_signal(&c->p[i], sig); /* gone is as good */
}

static uint64_t
now_ms(void)
{
	return wr_clock_mono_ns() / 1000000;
}

static void
nap_ms(unsigned ms)
{
	const struct timespec t = {0, (long)ms * 1000000};

	nanosleep(&t, NULL);
}

/* How many are left when it is time. */
static size_t
wait_for_end(const struct run *r, uint64_t end_ms)
{
	for (unsigned nap = 5;; nap = WR_MIN(nap * 2, 100u)) {
		struct crowd c WR_SCOPED(crowd_fini) = gather(r);
		uint64_t now = now_ms();

		if (c.count == 0 || now >= end_ms)
			return c.count;
		nap_ms((unsigned)WR_MIN((uint64_t)nap, end_ms - now));
	}
}

/* ---- start ---- */

static void
set_env(json_t *list, const char *key, size_t key_len, const char *value)
{
	WR_SCOPED(wr_freep)
	char *text = wr_asprintf("%.*s=%s", (int)key_len, key, value);

	for (size_t i = json_array_size(list); i-- > 0;) {
		const char *old = json_string_value(json_array_get(list, i));

		if (!strncmp(old, text, key_len + 1))
			json_array_remove(list, i);
	}
	wr_json_add_str(list, text);
}

static void
set_plain(json_t *list, const char *key, const char *value)
{
	set_env(list, key, strlen(key), value);
}

/* The project's name, for want of an account. */
static char *
account_of(const struct wr_runner_start *o)
{
	struct wr_place_of p WR_SCOPED(wr_place_of_fini) = WR_PLACE_OF_INIT;
	struct wr_settings s WR_SCOPED(wr_settings_fini) = {0};

	if (o->account && *o->account)
		return wr_strdup(o->account);
	if (wr_place_of_find(o->node, &o->id, &p, NULL) == 0 && wr_settings_load(&p, &s, NULL) == 0)
		return wr_strdup(s.name);
	return wr_strdup(o->id.s);
}

static json_t *
job_of(const struct wr_runner_start *o)
{
	json_t *job = json_object(), *env;
	WR_SCOPED(wr_freep) char *account = account_of(o);
	const char *shell = o->shell && *o->shell ? o->shell : "/bin/sh";

	wr_json_str(job, "id", o->id.s);
	wr_json_u64(job, "uid", o->uid);
	wr_json_u64(job, "gid", o->gid);
	wr_json_bool(job, "set_ids", o->node->root_mode);
	wr_json_bool(job, "by_uid", may_ask_uid(o->node, o->uid, o->exclusive));
	wr_json_u64(job, "deny", o->deny);
	wr_json_str(job, "home", o->home);
	wr_json_str(job, "command", o->command);
	env = wr_json_array(job, "env");
	set_plain(env, "HOME", o->home);
	set_plain(env, "USER", account);
	set_plain(env, "LOGNAME", account);
	set_plain(env, "SHELL", shell);
	set_plain(env, "PATH", "/usr/local/bin:/usr/bin:/bin");
	set_plain(env, "LANG", "C.UTF-8");
	set_plain(env, "WARREN_PROJECT", o->id.s);
	for (size_t i = 0; o->env && o->env[i]; i++) {
		const char *eq = strchr(o->env[i], '=');

		if (eq && eq > o->env[i])
			set_env(env, o->env[i], (size_t)(eq - o->env[i]), eq + 1);
	}
	return job;
}

/* A file without a name: the token in it is read by nobody else. */
static int
hand_over(const json_t *job, struct wr_err *err)
{
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;

	wr_json_write(job, &b);
	if (b.len > JOB_MAX)
		return wr_err_set(err, WR_E_LIMIT,
				  "command and environment take more than %u bytes", JOB_MAX);
	return wr_sealed_make(b.p, b.len, err);
}

/* The groups of the project and of keepers; both stay -1 without cgroups. */
static int
make_groups(const struct wr_runner_start *o, int *out_own, int *out_keepers, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;
	WR_SCOPED(wr_closep) int slice = -1;
	WR_SCOPED(wr_closep) int own = -1;

	wr_run_ready(o->node);
	slice = wr_run_slice(o->node, &why);
	if (slice < 0) {
		if (why.code == WR_E_NONE)
			return 0;
		if (err)
			*err = why;
		return -1;
	}
	(void)wr_cgroup_enable(slice, false); /* mostly the daemon did */
	own = wr_cgroup_make(slice, o->id.s, err);
	if (own < 0)
		return -1;
	/* Before anything is in it. What cannot be limited runs all the same. */
	(void)wr_cgroup_limit(own, &o->limits);
	*out_keepers = wr_cgroup_make(slice, WR_KEEPERS, err);
	if (*out_keepers < 0)
		return -1;
	*out_own = own;
	own = -1;
	return 0;
}

static int
spawn_keeper(const struct wr_runner_start *o, int *out_report, struct wr_proc_id *out_keeper,
	     struct wr_err *err)
{
	const char *argv[] = {"warren", "@keeper", wr_node_arg(o->node), o->id.s, NULL};
	WR_SCOPED(wr_json_freep) json_t *job = job_of(o);
	WR_SCOPED(wr_closep) int job_fd = hand_over(job, err);
	WR_SCOPED(wr_closep) int run_fd = -1;
	WR_SCOPED(wr_closep) int log_fd = -1;
	WR_SCOPED(wr_closep) int own = -1;
	WR_SCOPED(wr_closep) int keepers = -1;
	WR_SCOPED(wr_closep) int read_fd = -1;
	WR_SCOPED(wr_closep) int write_fd = -1;
	struct wr_spawn s = WR_SPAWN_INIT;
	int p[2];
	pid_t pid;

	if (job_fd < 0 || (run_fd = open_run_dir(o->node, err)) < 0)
		return -1;
	log_fd = wr_open_dir(o->node->state_fd, "log");
	if (log_fd < 0)
		return wr_err_sys(err, "open '%s/log'", WR_Q(o->node->state_path));
	if (make_groups(o, &own, &keepers, err) < 0)
		return -1;
	if (pipe2(p, O_CLOEXEC) < 0)
		return wr_err_sys(err, "make a pipe");
	read_fd = p[0];
	write_fd = p[1];
	s.argv = argv;
	s.fd[KEEPER_JOB] = job_fd;
	s.fd[KEEPER_REPORT] = write_fd;
	s.fd[KEEPER_RUN] = run_fd;
	s.fd[KEEPER_LOG] = log_fd;
	s.fd[KEEPER_CGROUP] = own;
	s.fd_count = KEEPER_CGROUP + 1;
	s.new_session = true;
	s.detach = true;
	s.cgroup_fd = keepers;
	if (wr_spawn(&s, &pid, err) < 0)
		return -1;
	/* One that is gone already tells why through the pipe. */
	if (wr_proc_id_of(pid, out_keeper, NULL) < 0)
		*out_keeper = (struct wr_proc_id){0};
	*out_report = read_fd;
	read_fd = -1;
	return 0;
}

struct report {
	int fd;
	size_t len;
	char text[REPORT_MAX + 1];
};

/* The next line: 1 and *out (new reference), 0 when it is time, -1 at the end. */
static int
next_line(struct report *r, uint64_t end_ms, json_t **out)
{
	for (;;) {
		char *nl = memchr(r->text, '\n', r->len);
		struct pollfd p = {.fd = r->fd, .events = POLLIN};
		uint64_t now = now_ms();
		ssize_t n;

		if (nl) {
			size_t line = (size_t)(nl + 1 - r->text);

			*out = wr_json_parse(r->text, line, NULL);
			memmove(r->text, r->text + line, r->len - line);
			r->len -= line;
			return *out ? 1 : -1;
		}
		if (r->len == REPORT_MAX)
			return -1;
		if (poll(&p, 1, now < end_ms ? (int)(end_ms - now) : 0) == 0)
			return 0;
		n = read(r->fd, r->text + r->len, REPORT_MAX - r->len);
		if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
			return -1;
		r->len += n > 0 ? (size_t)n : 0;
	}
}

/* The last lines, as one. In place; gives the start. */
static char *
last_words(char *s)
{
	size_t n = strlen(s), lines = 0, at;

	while (n && (s[n - 1] == '\n' || s[n - 1] == ' '))
		s[--n] = '\0';
	for (at = n; at > 0 && n - at < 190; at--) {
		if (s[at - 1] != '\n')
			continue;
		if (++lines == 3)
			break;
		s[at - 1] = ' ';
	}
	while (((unsigned char)s[at] & 0xc0) == 0x80)
		at++;
	return s + at;
}

static int
ended_at_once(const json_t *ended, struct wr_err *err)
{
	int64_t status = wr_json_get_i64(ended, "status", 0);
	int64_t signal = wr_json_get_i64(ended, "signal", 0);
	WR_SCOPED(wr_freep) char *tail = wr_strdup(wr_json_get_str(ended, "tail", ""));
	const char *words = last_words(tail);

	if (status == 0 && signal == 0)
		return 0;
	wr_err_set(err, WR_E_FAILED, "the command ended at once %s %" PRId64 "%s%s",
		   signal ? "by signal" : "with status", signal ? signal : status,
		   *words ? ": " : "", *words ? WR_Q(words) : "");
	return wr_err_hint(err, "put it right with `warren settings NAME command=...`, or start "
				"without one: command=");
}

static int
hear_keeper(int report_fd, uint64_t settle_ms, struct wr_err *err)
{
	struct report *r WR_SCOPED(wr_freep) = wr_calloc(1, sizeof(*r));
	WR_SCOPED(wr_json_freep) json_t *first = NULL;
	WR_SCOPED(wr_json_freep) json_t *second = NULL;
	int rc;

	r->fd = report_fd;
	if (next_line(r, now_ms() + BEGIN_MS, &first) != 1)
		return wr_err_set(err, WR_E_FAILED,
				  "the keeper ended or hung before the command "
				  "began");
	if (wr_json_get_obj(first, "error")) {
		if (err)
			wr_json_get_err(wr_json_get_obj(first, "error"), err);
		return wr_err_wrap(err, "run the command");
	}
	rc = next_line(r, now_ms() + settle_ms, &second);
	if (rc < 0)
		return wr_err_set(err, WR_E_FAILED, "the keeper was killed");
	return rc == 0 ? 0 : ended_at_once(wr_json_get_obj(second, "ended"), err);
}

static int
check_start(const struct wr_runner_start *o, struct wr_err *err)
{
	struct run r WR_SCOPED(run_fini);
	struct crowd c WR_SCOPED(crowd_fini) = {0};

	run_init(&r, o->node, &o->id, o->uid, false);
	if (!o->node->root_mode && o->uid != geteuid())
		return wr_err_set(err, WR_E_DENIED, "without root processes cannot run as uid %u",
				  o->uid);
	if (!o->command || !*o->command)
		return wr_err_set(err, WR_E_INVALID, "there is no command to run");
	c = gather(&r);
	if (c.count || wr_proc_alive(&r.keeper)) {
		wr_err_set(err, WR_E_BUSY, "processes of this project run already (%zu)", c.count);
		return wr_err_hint(err, "stop it first");
	}
	return 0;
}

int
wr_runner_start(const struct wr_runner_start *o, struct wr_proc_id *out_keeper, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int report = -1;
	struct wr_runner_stopped gone;
	struct wr_proc_id keeper;
	int rc;

	if (check_start(o, err) < 0)
		return -1;
	rc = spawn_keeper(o, &report, &keeper, err);
	if (rc == 0)
		rc = hear_keeper(report, o->settle_ms, err);
	if (rc < 0) {
		/* Nothing of what did not start stays: the first error is the one to tell. */
		(void)wr_runner_stop(o->node, &o->id, o->uid, false, 0, &gone, NULL);
		return -1;
	}
	*out_keeper = keeper;
	return 0;
}

/* ---- status ---- */

static void
add_usage(const struct run *r, const struct crowd *c, struct wr_runner_status *out)
{
	double cpu;

	for (size_t i = 0; i < c->count; i++) {
		uint64_t rss;

		if (!wr_proc_usage(c->p[i].pid, &rss, &cpu))
			continue;
		out->rss += rss;
		out->cpu_s += cpu;
	}
	/* The group also counts what has ended. */
	if (r->group && wr_cgroup_cpu(r->slice_fd, r->id, &cpu))
		out->cpu_s = WR_MAX(out->cpu_s, cpu);
}

void
wr_runner_status(struct wr_node *n, const struct wr_uuid *id, uid_t uid, bool exclusive,
		 bool with_usage, struct wr_runner_status *out)
{
	struct run r WR_SCOPED(run_fini);
	struct crowd c WR_SCOPED(crowd_fini) = {0};
	const json_t *ended;

	run_init(&r, n, id, uid, exclusive);
	c = gather(&r);
	*out = (struct wr_runner_status){
	    .keeper = wr_proc_alive(&r.keeper),
	    .main = wr_proc_alive(&r.main),
	    .processes = c.count,
	    .started = wr_json_get_time(r.record, "started", 0),
	};
	snprintf(out->command, sizeof(out->command), "%s",
		 wr_json_get_str(r.record, "command", ""));
	ended = wr_json_get_obj(r.record, "ended");
	if (ended) {
		out->ended = wr_json_get_time(ended, "when", 0);
		out->status = (int)wr_json_get_i64(ended, "status", 0);
		out->signal = (int)wr_json_get_i64(ended, "signal", 0);
	}
	if (with_usage)
		add_usage(&r, &c, out);
}

/* ---- stop ---- */

/* Stop all but those in `spare` (NULL: none), also what forks meanwhile: a pass that meets nobody
 * new has stopped them all. */
static struct crowd
halt(const struct run *r, const struct crowd *spare)
{
	struct crowd before = {0};

	for (unsigned pass = 0; pass < STOP_PASSES; pass++) {
		struct crowd now = gather(r);
		bool fresh = false;

		for (size_t i = 0; i < now.count; i++) {
			if (spare && crowd_has(spare, now.p[i].pid))
				continue;
			(void)wr_proc_signal(&now.p[i], SIGSTOP); /* gone is as good */
			fresh |= !crowd_has(&before, now.p[i].pid);
		}
		crowd_fini(&before);
		before = now;
		if (!fresh)
			break;
	}
	return before;
}

/* Kill those that are in no group, or in none any more: how many are left. */
static size_t
kill_all(const struct run *r, uint64_t end_ms)
{
	for (;;) {
		struct crowd c WR_SCOPED(crowd_fini) = halt(r, NULL);

		signal_all(&c, SIGKILL);
		if (c.count == 0 || wait_for_end(r, now_ms() + 200) == 0)
			return 0;
		if (now_ms() >= end_ms)
			return wait_for_end(r, 0);
	}
}

static int
end_processes(const struct run *r, uint64_t grace_s, struct wr_runner_stopped *out,
	      struct wr_err *err)
{
	struct crowd c WR_SCOPED(crowd_fini) = gather(r);
	size_t left;

	out->processes = c.count;
	out->killed = 0;
	if (c.count == 0)
		return 0;
	/* Who stands still, which mostly nobody does, hears it when he goes on, and before he does
	 * anything else: it may be that he must not run here any more. To be killed he need not. */
	if (grace_s) {
		signal_all(&c, SIGTERM);
		if (r->group)
			(void)wr_cgroup_freeze(r->slice_fd, r->id, false, NULL);
		signal_all(&c, SIGCONT);
	}
	/* LIMIT: a day of grace; nobody waits longer, and the sum stays a number. */
	left = wait_for_end(r, now_ms() + WR_MIN(grace_s, UINT64_C(86400)) * 1000);
	if (left == 0)
		return 0;
	out->killed = left;
	if (r->group)
		(void)wr_cgroup_kill(r->slice_fd, r->id, NULL); /* who is left is counted below */
	left = kill_all(r, now_ms() + KILL_MS);
	if (left == 0)
		return 0;
	wr_err_set(err, WR_E_BUSY, "%zu processes of project %s do not end, even when killed", left,
		   r->id);
	return wr_err_hint(err, "they hang in the kernel, mostly over a dead network file system");
}

/* It follows its last child by itself. */
static void
end_keeper(const struct run *r)
{
	uint64_t end = now_ms() + KEEPER_MS;

	while (wr_proc_alive(&r->keeper) && now_ms() < end)
		nap_ms(5);
	while (wr_proc_signal(&r->keeper, SIGKILL) && wr_proc_alive(&r->keeper) &&
	       now_ms() < end + KEEPER_MS)
		nap_ms(5);
}

static int
tidy(const struct run *r, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int dir = open_run_dir(r->node, NULL);
	WR_SCOPED(wr_freep) char *name = wr_asprintf("%s.json", r->id);
	WR_SCOPED(wr_freep) char *seen = wr_asprintf("%s.seen", r->id);
	uint64_t end = now_ms() + KEEPER_MS;
	struct wr_err why = WR_ERR_INIT;

	if (dir >= 0 && unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		return wr_err_sys(err, "remove '%s/run/%s'", WR_Q(r->node->run_path), name);
	if (dir >= 0)
		(void)unlinkat(dir, seen, 0); /* left behind it is seen to be another group's */
	/* The kernel takes a moment to see that a group is empty. */
	while (r->group && wr_cgroup_remove(r->slice_fd, r->id, &why) < 0) {
		if (why.code != WR_E_BUSY || now_ms() >= end) {
			if (err)
				*err = why;
			return -1;
		}
		nap_ms(5);
	}
	return 0;
}

int
wr_runner_stop(struct wr_node *n, const struct wr_uuid *id, uid_t uid, bool exclusive,
	       uint64_t grace_s, struct wr_runner_stopped *out, struct wr_err *err)
{
	struct run r WR_SCOPED(run_fini);

	run_init(&r, n, id, uid, exclusive);
	if (end_processes(&r, grace_s, out, err) < 0)
		return -1;
	end_keeper(&r);
	return tidy(&r, err);
}

static int
freeze(const struct run *r, bool frozen, struct wr_err *err)
{
	struct crowd all WR_SCOPED(crowd_fini) = {0};
	struct crowd in_group WR_SCOPED(crowd_fini) = {0};

	if (r->group) {
		pid_t *pids = NULL;
		size_t count;

		if (wr_cgroup_freeze(r->slice_fd, r->id, frozen, err) < 0)
			return -1;
		count = wr_cgroup_pids(r->slice_fd, r->id, &pids);
		crowd_add(&in_group, r, pids, count);
	}
	if (frozen) {
		all = halt(r, &in_group);
		return 0;
	}
	all = gather(r);
	for (size_t i = 0; i < all.count; i++)
		if (!crowd_has(&in_group, all.p[i].pid))
			(void)wr_proc_signal(&all.p[i], SIGCONT);
	return 0;
}

int
wr_runner_freeze(struct wr_node *n, const struct wr_uuid *id, uid_t uid, bool exclusive,
		 bool frozen, struct wr_err *err)
{
	struct run r WR_SCOPED(run_fini);

	run_init(&r, n, id, uid, exclusive);
	return freeze(&r, frozen, err);
}

int
wr_keeper_freeze(const struct wr_uuid *id, const struct wr_proc_id *main, int cgroup_fd,
		 uid_t by_uid, struct wr_err *err)
{
	struct run r WR_SCOPED(run_fini) = {
	    .id = id->s, .slice_fd = -1, .by_uid = by_uid, .main = *main};

	if (wr_proc_id_of(getpid(), &r.keeper, err) < 0)
		return -1;
	if (cgroup_fd >= 0) {
		/* Groups are found by name below the slice. */
		r.slice_fd = wr_open_dir(cgroup_fd, "..");
		r.group = r.slice_fd >= 0 && faccessat(r.slice_fd, r.id, F_OK, 0) == 0;
	}
	return freeze(&r, true, err);
}

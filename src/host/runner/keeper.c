/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper: starts the command, is the parent of whatever loses its own, copies output to a
 * bounded log and writes down how the command ended.  It ends when none of its children is left.
 * It holds no memory that output or processes could make grow, and reads nothing that users write
 * but their output, as bytes.
 *
 * Where others vote on the project it also watches the lease (lease.c): past its end, and not
 * renewed, it freezes all processes.  Thawing is for the daemon, which knows who may run.
 *
 *   no lease --- looked for every 10 s --- a lease: looked at again at its end
 *     its end has passed ---> RUN/frozen/ID.about, freeze, RUN/frozen/ID, a line in the log; once
 */
#include "host/runner/runner.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/runner/keeper_int.h"
#include "sys/clock.h"
#include "sys/fs.h"
#include "sys/sandbox.h"

#define CHUNK (64u << 10)
#define SECOND_NS UINT64_C(1000000000)
/* How often a first lease is looked for: the project gets other voters while it runs. It is one
 * that lasts longer than that. */
#define LOOK_NS (10 * SECOND_NS)
/* After a freeze that failed. */
#define AGAIN_NS (SECOND_NS / 2)

struct keeper {
	struct wr_uuid id;
	json_t *job, *record; /* the record is what RUN/run/ID.json holds */
	char *record_name;
	bool has_cgroup; /* asked first: later its number may be another file's */
	pid_t main;      /* 0: not there, or reaped */
	struct wr_proc_id main_id;
	uid_t by_uid;        /* (uid_t)-1: what has the uid need not be the project's */
	uint64_t frozen_for; /* the lease at whose end it froze */
	struct wr_frozen frozen;
	bool mark_due; /* all stand still, and RUN/frozen does not say so yet */
	bool failed;   /* to freeze; told */
	int out_fd;    /* the command's output; -1: all writers are gone */
	int log_fd;    /* -1: cannot be written */
	uint64_t log_len;
	char tail[TAIL_MAX]; /* the newest bytes of output, as a ring */
	uint64_t tail_total;
	uint8_t chunk[CHUNK];
};

/* ---- telling ---- */

/* The starter may be gone. */
static void
tell(json_t *taken)
{
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;

	wr_json_write(taken, &b);
	wr_buf_add8(&b, '\n');
	(void)wr_write_all(KEEPER_REPORT, b.p, b.len);
	json_decref(taken);
}

static int
tell_error(const struct wr_err *err)
{
	json_t *o = json_object();

	wr_json_err(o, "error", err);
	tell(o);
	return 1;
}

static int
store_record(const struct keeper *k, struct wr_err *err)
{
	/* After a power loss there is nothing that it could tell of. */
	return wr_file_store(KEEPER_RUN, k->record_name, k->record, RECORD_MAX, 0600, false, err);
}

/* Write down the end, only if there still is a record: a stop that could not read it, and so did
 * not know us, may have removed it meanwhile. */
static void
store_end(const struct keeper *k)
{
	WR_SCOPED(wr_freep) char *fresh = wr_asprintf("%s.end", k->id.s);

	if (wr_file_store(KEEPER_RUN, fresh, k->record, RECORD_MAX, 0600, false, NULL) < 0)
		return; /* the keeper's own end then tells, less */
	if (renameat2(KEEPER_RUN, fresh, KEEPER_RUN, k->record_name, RENAME_EXCHANGE) < 0 &&
	    errno == EINVAL) /* a file system that cannot exchange */
		(void)renameat(KEEPER_RUN, fresh, KEEPER_RUN, k->record_name);
	(void)unlinkat(KEEPER_RUN, fresh, 0); /* the old one, or what nobody wants */
}

/* ---- the log ---- */

static void
open_log(struct keeper *k)
{
	struct stat st;

	k->log_fd =
	    openat(KEEPER_LOG, k->id.s, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (k->log_fd >= 0 && fstat(k->log_fd, &st) == 0)
		k->log_len = (uint64_t)st.st_size;
}

/* Keep the newer half, from the start of a line: written anew and put in the old one's place, so
 * that a reader never meets a torn log. */
static void
halve_log(struct keeper *k)
{
	static char half[LOG_MAX / 2];
	ssize_t n = wr_pread_full(k->log_fd, half, LOG_MAX / 2, k->log_len - LOG_MAX / 2);
	const char *nl = n > 0 ? memchr(half, '\n', (size_t)n) : NULL;
	size_t skip = nl ? (size_t)(nl + 1 - half) : 0;
	WR_SCOPED(wr_freep) char *fresh = wr_asprintf("%s.new", k->id.s);
	int fd;

	fd = openat(KEEPER_LOG, fresh,
		    O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (n < 0 || fd < 0 || wr_write_all(fd, half + skip, (size_t)n - skip) < 0 ||
	    renameat(KEEPER_LOG, fresh, KEEPER_LOG, k->id.s) < 0) {
		/* No room for two: then the old one goes, so that the bound holds. */
		(void)unlinkat(KEEPER_LOG, fresh, 0);
		wr_closep(&fd);
		if (ftruncate(k->log_fd, 0) < 0)
			wr_closep(&k->log_fd);
		k->log_len = 0;
		return;
	}
	close(k->log_fd);
	k->log_fd = fd;
	k->log_len = (size_t)n - skip;
}

static void
add_to_log(struct keeper *k, const void *p, size_t len)
{
	if (k->log_fd < 0)
		return;
	if (k->log_len + len > LOG_MAX && k->log_len >= LOG_MAX / 2)
		halve_log(k);
	/* A full disk costs output, never the processes. */
	if (k->log_fd >= 0 && wr_write_all(k->log_fd, p, len) == 0)
		k->log_len += len;
}

static void
keep_output(struct keeper *k, size_t len)
{
	for (size_t i = len > TAIL_MAX ? len - TAIL_MAX : 0; i < len; i++)
		k->tail[(k->tail_total + i) % TAIL_MAX] = (char)k->chunk[i];
	k->tail_total += len;
	add_to_log(k, k->chunk, len);
}

/* false: nothing there now. */
static bool
copy_output(struct keeper *k)
{
	ssize_t n = k->out_fd < 0 ? -1 : read(k->out_fd, k->chunk, sizeof(k->chunk));

	if (n > 0) {
		keep_output(k, (size_t)n);
		return true;
	}
	if (k->out_fd >= 0 && (n == 0 || (errno != EAGAIN && errno != EINTR)))
		wr_closep(&k->out_fd);
	return false;
}

/* ---- the command ---- */

static void
tell_end(struct keeper *k, int wait_status)
{
	char text[TAIL_MAX + 1];
	uint64_t from = k->tail_total > TAIL_MAX ? k->tail_total - TAIL_MAX : 0;
	json_t *o = json_object(), *ended = wr_json_object(o, "ended");
	json_t *record;
	size_t n = 0;

	for (uint64_t i = from; i < k->tail_total; i++)
		if (k->tail[i % TAIL_MAX]) /* NUL is nothing for people */
			text[n++] = k->tail[i % TAIL_MAX];
	text[n] = '\0';
	wr_json_i64(ended, "status", WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 0);
	wr_json_i64(ended, "signal", WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : 0);
	wr_json_str(ended, "tail", text);
	record = wr_json_object(k->record, "ended");
	wr_json_time(record, "when", wr_clock_wall().s);
	wr_json_i64(record, "status", wr_json_get_i64(ended, "status", 0));
	wr_json_i64(record, "signal", wr_json_get_i64(ended, "signal", 0));
	store_end(k);
	tell(o);
}

/* false: no child is left. */
static bool
reap(struct keeper *k)
{
	for (;;) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid < 0 && errno == EINTR)
			continue;
		if (pid < 0)
			return false;
		if (pid == 0)
			return true;
		if (pid != k->main)
			continue;
		k->main = 0;
		/* Its last words, at most what the pipe holds: others may go on writing. */
		for (unsigned i = 0; i < 16 && copy_output(k); i++)
			;
		tell_end(k, status);
	}
}

/* What we were given for a daemon is not for users' processes. */
static void
plain_surroundings(void)
{
	struct rlimit rl;

	umask(022);
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
		/* Programs that use select(2) break above. */
		rl.rlim_cur = WR_MIN(rl.rlim_max, (rlim_t)1024);
		(void)setrlimit(RLIMIT_NOFILE, &rl);
	}
}

static void
oom_score(const char *value)
{
	WR_SCOPED(wr_closep) int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	/* Where it is not ours to lower it stays as it is. */
	if (fd >= 0)
		(void)wr_write_all(fd, value, strlen(value));
}

static int
start_command(struct keeper *k, struct wr_err *err)
{
	const json_t *env = wr_json_get_arr(k->job, "env");
	const char *argv[] = {"/bin/sh", "-c", wr_json_get_str(k->job, "command", ""), NULL};
	size_t env_count = json_array_size(env);
	WR_SCOPED(wr_freep) const char **envp = wr_calloc(env_count + 1, sizeof(*envp));
	gid_t gid = (gid_t)wr_json_get_u64(k->job, "gid", 0);
	struct wr_sandbox box = {
	    .set_ids = true,
	    .uid = (uid_t)wr_json_get_u64(k->job, "uid", 0),
	    .gid = gid,
	    .groups = &gid,
	    .group_count = 1,
	    .deny = (unsigned)wr_json_get_u64(k->job, "deny", 0),
	};
	struct wr_spawn s = WR_SPAWN_INIT;
	int p[2], rc;

	for (size_t i = 0; i < env_count; i++)
		envp[i] = json_string_value(json_array_get(env, i));
	if (pipe2(p, O_CLOEXEC) < 0)
		return wr_err_sys(err, "make a pipe");
	k->out_fd = p[0];
	(void)fcntl(p[0], F_SETFL, O_NONBLOCK); /* cannot fail on a pipe of ours */
	s.path = argv[0];
	s.argv = argv;
	s.envp = envp;
	s.fd[1] = s.fd[2] = p[1];
	s.new_session = true;
	s.dir = wr_json_get_str(k->job, "home", "/");
	if (k->has_cgroup)
		s.cgroup_fd = KEEPER_CGROUP;
	if (wr_json_get_bool(k->job, "set_ids", false))
		s.sandbox = &box;
	plain_surroundings();
	oom_score("0");
	rc = wr_spawn(&s, &k->main, err);
	close(p[1]);
	/* The one that must not be chosen when memory runs out: it knows the others. */
	oom_score("-500");
	if (rc < 0)
		return -1;
	/* It cannot be gone: nobody but us reaps it. */
	if (wr_proc_id_of(k->main, &k->main_id, err) < 0)
		return -1;
	wr_json_str(k->record, "main", wr_proc_format(&k->main_id).s);
	return 0;
}

/* ---- the lease ---- */

/* The lease that ended at until_ns was not renewed. false: not all stand still. */
static bool
freeze(struct keeper *k, int run_fd, uint64_t until_ns)
{
	struct wr_err err = WR_ERR_INIT;
	WR_SCOPED(wr_freep) char *line = NULL;

	k->frozen = (struct wr_frozen){.since = wr_clock_wall().s, .by_keeper = true};
	snprintf(k->frozen.why, sizeof(k->frozen.why),
		 "its lease ended, and no daemon was there to renew it");
	/* Where there is no room for a mark it follows when there is. */
	(void)wr_frozen_about(run_fd, &k->id, &k->frozen, NULL);
	if (wr_keeper_freeze(&k->id, &k->main_id, k->has_cgroup ? KEEPER_CGROUP : -1, k->by_uid,
			     &err) < 0) {
		line = wr_asprintf("[warren: not frozen, but tried again: %s]\n", err.msg);
		if (!k->failed)
			add_to_log(k, line, strlen(line));
		k->failed = true;
		return false;
	}
	k->failed = false;
	k->frozen_for = until_ns;
	k->mark_due = true;
	line = wr_asprintf("[warren: frozen: %s]\n", k->frozen.why);
	add_to_log(k, line, strlen(line));
	return true;
}

/* The mark that tells the next daemon, once there is something to tell. */
static void
mark(struct keeper *k, int run_fd)
{
	k->mark_due = wr_frozen_done(run_fd, &k->id, NULL) < 0 &&
		      (wr_frozen_about(run_fd, &k->id, &k->frozen, NULL) < 0 ||
		       wr_frozen_done(run_fd, &k->id, NULL) < 0);
}

/* Gives the time of the next look. */
static uint64_t
look(struct keeper *k)
{
	uint64_t until = wr_run_lease_load(KEEPER_RUN, &k->id), now = wr_clock_boot_ns();
	WR_SCOPED(wr_closep) int run_fd = -1;
	bool still = true;

	if (until > now && !k->mark_due)
		return until;
	if ((until && until <= now && until != k->frozen_for) || k->mark_due)
		run_fd = wr_open_dir(KEEPER_RUN, "..");
	if (until && until <= now && until != k->frozen_for)
		still = freeze(k, run_fd, until);
	if (k->mark_due)
		mark(k, run_fd);
	return now + (still ? LOOK_NS : AGAIN_NS);
}

static void
look_at(int timer_fd, uint64_t at_ns)
{
	const struct itimerspec t = {
	    .it_value = {(time_t)(at_ns / SECOND_NS), (long)(at_ns % SECOND_NS)}};

	(void)timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &t, NULL); /* cannot fail with that */
}

/* ---- the whole ---- */

static int
load_job(struct keeper *k, struct wr_err *err)
{
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;
	ssize_t n;

	wr_buf_reserve(&b, JOB_MAX);
	n = wr_pread_full(KEEPER_JOB, b.p, JOB_MAX, 0);
	if (n < 0)
		return wr_err_sys(err, "read the job");
	k->job = wr_json_parse(b.p, (size_t)n, err);
	if (!k->job)
		return -1;
	close(KEEPER_JOB); /* it holds the project's token */
	if (!wr_uuid_parse(wr_json_get_str(k->job, "id", ""), &k->id))
		return wr_err_set(err, WR_E_INVALID, "the job names no project");
	k->record_name = wr_asprintf("%s.json", k->id.s);
	return 0;
}

static int
begin_record(struct keeper *k, struct wr_err *err)
{
	struct wr_proc_id self;

	if (wr_proc_id_of(getpid(), &self, err) < 0)
		return -1;
	k->record = json_object();
	wr_json_u64(k->record, "format", RUN_FORMAT);
	wr_json_str(k->record, "keeper", wr_proc_format(&self).s);
	wr_json_null(k->record, "main");
	wr_json_str(k->record, "command", wr_json_get_str(k->job, "command", ""));
	wr_json_u64(k->record, "uid", wr_json_get_u64(k->job, "uid", 0));
	wr_json_time(k->record, "started", wr_clock_wall().s);
	wr_json_null(k->record, "ended");
	return store_record(k, err);
}

static void
watch(struct keeper *k, int signal_fd, int timer_fd)
{
	look_at(timer_fd, look(k));
	while (reap(k)) {
		struct pollfd p[3] = {{.fd = signal_fd, .events = POLLIN},
				      {.fd = k->out_fd, .events = POLLIN},
				      {.fd = timer_fd, .events = POLLIN}};
		struct signalfd_siginfo drop[16];

		(void)poll(p, 3, -1); /* EINTR: look again */
		if (p[0].revents)
			(void)!read(signal_fd, drop, sizeof(drop)); /* reap asks for all */
		if (p[1].revents)
			(void)copy_output(k);
		if (p[2].revents)
			look_at(timer_fd, look(k)); /* setting it makes it unreadable */
	}
	for (unsigned i = 0; i < 16 && copy_output(k); i++)
		;
}

static int
keep(struct keeper *k, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int signal_fd = -1;
	WR_SCOPED(wr_closep) int timer_fd = -1;
	sigset_t chld;
	json_t *o;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	signal_fd = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signal_fd < 0)
		return wr_err_sys(err, "wait for signals");
	/* Leases count by this clock, which goes on while the machine sleeps. */
	timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (timer_fd < 0)
		return wr_err_sys(err, "make a timer");
	if (load_job(k, err) < 0 || begin_record(k, err) < 0)
		return -1;
	open_log(k);
	if (start_command(k, err) < 0 || store_record(k, err) < 0)
		return -1;
	o = json_object();
	wr_json_str(o, "started", wr_json_get_str(k->record, "main", ""));
	tell(o);
	k->by_uid = wr_json_get_bool(k->job, "by_uid", false)
			? (uid_t)wr_json_get_u64(k->job, "uid", 0)
			: (uid_t)-1;
	/* The token and the rest are the command's now. */
	json_decref(wr_steal(&k->job));
	watch(k, signal_fd, timer_fd);
	return 0;
}

int
wr_keeper_main(int argc, char **argv)
{
	static const int ignored[] = {SIGPIPE, SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGUSR1, SIGUSR2};
	static struct keeper k = {.out_fd = -1, .log_fd = -1};
	struct wr_err err = WR_ERR_INIT;

	k.has_cgroup = fcntl(KEEPER_CGROUP, F_GETFD) >= 0;
	(void)argc;
	(void)argv; /* they name node and project, for those who look at `ps` */
	/* Fatal ones by hand or from a terminal included: only KILL ends a keeper before its time.
	 */
	for (size_t i = 0; i < WR_ARRAY_LEN(ignored); i++)
		(void)signal(ignored[i], SIG_IGN);
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) {
		wr_err_sys(&err, "become the parent of what loses its own");
		return tell_error(&err);
	}
	if (keep(&k, &err) < 0) {
		if (k.main > 0)
			(void)kill(k.main, SIGKILL);
		if (k.record_name)
			(void)unlinkat(KEEPER_RUN, k.record_name, 0);
		return tell_error(&err);
	}
	return 0;
}

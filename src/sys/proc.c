/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/proc.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/str.h"
#include "sys/fs.h"
#include "sys/sandbox_int.h"

/* ---- starting ---- */

/* Where the child keeps descriptors it still needs while it fills the low numbers. */
#define HIGH_FD 16

/* What the child tells through its pipe, which the exec closes. */
struct report {
	const char *what; /* a static text of this image; NULL: `pid` is the message */
	int error;
	pid_t pid;
};

struct child {
	const struct wr_spawn *s;
	const char *path;
	const char *const *envp;
	const struct wr_sandbox_plan *plan; /* NULL: none */
	int report_fd;
};

/* From here to child_main: between fork and exec, async-signal-safe calls only. */

WR_NORETURN static void
give_up(const struct child *c, const char *what)
{
	struct report r = {.what = what, .error = errno};

	(void)wr_write_all(c->report_fd, &r, sizeof(r)); /* nobody else to tell */
	_exit(127);
}

static void
reset_signals(void)
{
	static const char dfl[64]; /* the kernel's struct sigaction, all zero: SIG_DFL */
	sigset_t none;

	/* Past the C library, which would keep two that a parent may have left ignored. KILL and
	 * STOP cannot be changed. */
	for (int sig = 1; sig < NSIG; sig++)
		(void)syscall(SYS_rt_sigaction, sig, dfl, NULL, (size_t)8);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void
lift(const struct child *c, int *fd)
{
	int high = *fd < 0 ? -1 : fcntl(*fd, F_DUPFD_CLOEXEC, HIGH_FD);

	if (*fd >= 0 && high < 0)
		give_up(c, "duplicate a descriptor");
	*fd = high;
}

static void
place_fds(const struct child *c, int *fd, size_t count)
{
	for (size_t i = 0; i < WR_MAX(count, (size_t)3); i++) {
		if (i < count && fd[i] >= 0) {
			if (dup2(fd[i], (int)i) < 0)
				give_up(c, "place a descriptor");
			continue;
		}
		(void)close((int)i); /* it need not be open */
		if (i < 3 && open("/dev/null", O_RDWR) != (int)i)
			give_up(c, "open /dev/null");
	}
	/* Closed by the exec: some are still needed. */
	if (syscall(SYS_close_range, (unsigned)WR_MAX(count, (size_t)3), ~0u, CLOSE_RANGE_CLOEXEC) <
	    0)
		give_up(c, "close descriptors");
}

static void
join_cgroup(const struct child *c, int cgroup_fd)
{
	int fd = openat(cgroup_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "0", 1) != 1)
		give_up(c, "join the control group");
	close(fd);
}

WR_NORETURN static void
child_main(struct child *c)
{
	const struct wr_spawn *s = c->s;
	int fd[WR_ARRAY_LEN(s->fd)], cgroup_fd = s->cgroup_fd, dir_fd = s->dir ? -1 : s->dir_fd;
	struct wr_sandbox_plan plan;
	const char *what;

	if (s->detach) {
		struct report r = {0};

		/* Not before the session is new: the grandchild must not belong to the old one. */
		if (setsid() < 0)
			give_up(c, "start a session");
		r.pid = fork();
		if (r.pid < 0)
			give_up(c, "fork");
		if (r.pid > 0)
			_exit(wr_write_all(c->report_fd, &r, sizeof(r)) == 0 ? 0 : 1);
	}
	if (s->new_session && setsid() < 0)
		give_up(c, "start a session");
	reset_signals();
	lift(c, &c->report_fd);
	lift(c, &cgroup_fd);
	lift(c, &dir_fd);
	for (size_t i = 0; i < s->fd_count; i++) {
		fd[i] = s->fd[i];
		lift(c, &fd[i]);
	}
	if (c->plan) {
		plan = *c->plan;
		lift(c, &plan.ruleset_fd);
	}
	place_fds(c, fd, s->fd_count);
	if (cgroup_fd >= 0)
		join_cgroup(c, cgroup_fd);
	if (dir_fd >= 0 ? fchdir(dir_fd) < 0 : chdir(s->dir ? s->dir : "/") < 0)
		give_up(c, "enter the working directory");
	if (c->plan && (what = wr_sandbox_enter(&plan)))
		give_up(c, what);
	/* execve takes what it does not change without const. */
	syscall(SYS_execve, c->path, s->argv, c->envp);
	give_up(c, "");
}

/* Listen until exec closed the pipe. */
static int
hear(int fd, bool detach, pid_t *pid, const char *path, struct wr_err *err)
{
	struct report r;
	ssize_t n;
	int rc = 0;

	if (detach)
		*pid = 0;
	while ((n = wr_read_full(fd, &r, sizeof(r))) == (ssize_t)sizeof(r)) {
		if (!r.what) {
			*pid = r.pid;
			continue;
		}
		errno = r.error;
		rc = *r.what ? wr_err_sys(err, "run '%s': %s", WR_Q(path), r.what)
			     : wr_err_sys(err, "run '%s'", WR_Q(path));
	}
	if (n < 0)
		return wr_err_sys(err, "run '%s': hear of it", WR_Q(path));
	if (rc == 0 && *pid == 0)
		return wr_err_set(err, WR_E_FAILED, "run '%s': it ended before it began",
				  WR_Q(path));
	return rc;
}

static void
reap(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static const char *
env_or(const char *name, const char *otherwise)
{
	const char *v = getenv(name);

	return v && *v ? v : otherwise;
}

int
wr_spawn(const struct wr_spawn *s, pid_t *out_pid, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *lang = wr_asprintf("LANG=%s", env_or("LANG", "C.UTF-8"));
	WR_SCOPED(wr_freep) char *tz = wr_asprintf("TZ=%s", env_or("TZ", "UTC"));
	/* Tests end any process of ours (sys/crash.h). */
	WR_SCOPED(wr_freep)
	char *crash = wr_asprintf("WARREN_CRASH=%s", env_or("WARREN_CRASH", ""));
	const char *const plain_env[] = {
	    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", lang, tz,
	    getenv("WARREN_CRASH") ? crash : NULL, NULL};
	struct child c = {.s = s, .path = s->path ? s->path : "/proc/self/exe"};
	struct wr_sandbox_plan plan WR_SCOPED(wr_sandbox_plan_fini) = WR_SANDBOX_PLAN_INIT;
	WR_SCOPED(wr_closep) int hear_fd = -1;
	WR_SCOPED(wr_closep) int report_fd = -1;
	WR_SCOPED(wr_closep) int program = -1;
	sigset_t all, before;
	int p[2], rc, fork_errno;
	pid_t pid;

	wr_assert(s->fd_count <= WR_ARRAY_LEN(s->fd));
	c.envp = s->envp ? s->envp : plain_env;
	if (s->sandbox) {
		program = open(c.path, O_PATH | O_CLOEXEC);
		if (program < 0)
			return wr_err_sys(err, "run '%s'", WR_Q(c.path));
		if (wr_sandbox_plan(s->sandbox, program, &plan, err) < 0)
			return wr_err_wrap(err, "run '%s': prepare the sandbox", WR_Q(c.path));
		c.plan = &plan;
	}
	if (pipe2(p, O_CLOEXEC) < 0)
		return wr_err_sys(err, "make a pipe");
	hear_fd = p[0];
	report_fd = p[1];
	c.report_fd = p[1];
	/* No handler of ours may run in the child. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		child_main(&c);
	fork_errno = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = fork_errno;
	if (pid < 0)
		return wr_err_sys(err, "fork");
	wr_closep(&report_fd);
	/* The middle one has only to fork; who would listen first might meet it as a zombie. */
	if (s->detach)
		reap(pid);
	rc = hear(hear_fd, s->detach, &pid, c.path, err);
	if (rc < 0) {
		if (!s->detach)
			reap(pid);
		return -1;
	}
	*out_pid = pid;
	return 0;
}

/* ---- recognising ---- */

struct stat_line {
	char state;
	pid_t ppid;
	uint64_t ticks; /* user and system */
	uint64_t start;
	uint64_t rss_pages;
};

static int
read_proc(pid_t pid, const char *name, struct wr_buf *out, struct wr_err *err)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	if (wr_read_file(AT_FDCWD, path, 1 << 16, out, err) < 0)
		return -1;
	(void)wr_buf_str(out);
	return 0;
}

static int
no_process(pid_t pid, struct wr_err *err)
{
	return wr_err_set(err, WR_E_NOT_FOUND, "there is no process %d", (int)pid);
}

static int
read_stat(pid_t pid, struct stat_line *out, struct wr_err *err)
{
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;
	unsigned long long utime, stime, start;
	long long rss;
	int ppid;
	const char *p;

	if (pid <= 0 || read_proc(pid, "stat", &b, NULL) < 0)
		return no_process(pid, err); /* ESRCH when it ends while being read */
	/* Its name may hold anything, also blanks and brackets; the last one ends it. */
	p = strrchr((const char *)b.p, ')');
	if (!p || sscanf(p + 1,
			 " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d "
			 "%*d %*d %llu %*u %lld",
			 &out->state, &ppid, &utime, &stime, &start, &rss) != 6)
		return no_process(pid, err);
	out->ppid = ppid;
	out->ticks = utime + stime;
	out->start = start;
	out->rss_pages = rss > 0 ? (uint64_t)rss : 0;
	return 0;
}

static int
read_boot(uint64_t *out, struct wr_err *err)
{
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;
	uint64_t v = 0;
	unsigned digits = 0;

	if (wr_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 256, &b, err) < 0)
		return -1;
	for (size_t i = 0; i < b.len && digits < 16; i++) {
		static const char hex[] = "0123456789abcdef";
		const char *at = b.p[i] ? strchr(hex, b.p[i]) : NULL;

		if (!at)
			continue;
		v = v << 4 | (uint64_t)(at - hex);
		digits++;
	}
	if (digits < 16)
		return wr_err_set(err, WR_E_FAILED, "the kernel gives no boot id");
	*out = v;
	return 0;
}

int
wr_proc_id_of(pid_t pid, struct wr_proc_id *out, struct wr_err *err)
{
	struct stat_line st;
	uint64_t boot;

	if (read_stat(pid, &st, err) < 0 || read_boot(&boot, err) < 0)
		return -1;
	*out = (struct wr_proc_id){.pid = pid, .start = st.start, .boot = boot};
	return 0;
}

bool
wr_proc_alive(const struct wr_proc_id *p)
{
	struct stat_line st;
	uint64_t boot;

	return p->pid > 0 && read_stat(p->pid, &st, NULL) == 0 && st.start == p->start &&
	       st.state != 'Z' && st.state != 'X' && read_boot(&boot, NULL) == 0 && boot == p->boot;
}

int
wr_proc_pidfd(const struct wr_proc_id *p)
{
	int fd;

	if (p->pid <= 0)
		return -1;
	fd = (int)syscall(SYS_pidfd_open, p->pid, 0);
	/* Asked after opening: the descriptor pins the process, so what holds now, holds of it. */
	if (fd >= 0 && !wr_proc_alive(p))
		wr_closep(&fd);
	return fd;
}

bool
wr_proc_signal(const struct wr_proc_id *p, int sig)
{
	WR_SCOPED(wr_closep) int fd = wr_proc_pidfd(p);

	return fd >= 0 && (syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0) == 0 || errno != ESRCH);
}

struct wr_proc_text
wr_proc_format(const struct wr_proc_id *p)
{
	struct wr_proc_text t;

	snprintf(t.s, sizeof(t.s), "%d:%" PRIu64 ":%016" PRIx64, (int)p->pid, p->start, p->boot);
	return t;
}

bool
wr_proc_parse(const char *s, struct wr_proc_id *out)
{
	struct wr_proc_id p;
	int pid, end = -1;

	/* Written back it has to be the same: that refuses signs, blanks and overflow. */
	if (sscanf(s, "%d:%" SCNu64 ":%" SCNx64 "%n", &pid, &p.start, &p.boot, &end) != 3 ||
	    end < 0)
		return false;
	p.pid = pid;
	if (pid < 0 || strcmp(wr_proc_format(&p).s, s) != 0)
		return false;
	*out = p;
	return true;
}

/* ---- listing ---- */

struct pids {
	pid_t *p;
	size_t count, cap;
};

static void
add_pid(struct pids *l, pid_t pid)
{
	wr_grow(&l->p, &l->cap, l->count + 1, sizeof(*l->p));
	l->p[l->count++] = pid;
}

static struct pids
all_pids(void)
{
	struct pids l = {0};
	DIR *d = opendir("/proc");
	struct dirent *e;

	while (d && (e = readdir(d))) {
		uint64_t n;

		if (wr_parse_u64(e->d_name, &n, NULL) == 0 && n > 0 && n <= INT32_MAX)
			add_pid(&l, (pid_t)n);
	}
	if (d)
		closedir(d);
	return l;
}

static size_t
give_pids(struct pids *l, pid_t **out_pids)
{
	if (out_pids)
		*out_pids = l->p;
	else
		free(l->p);
	return l->count;
}

static bool
holds(const struct pids *l, pid_t pid)
{
	for (size_t i = 0; i < l->count; i++)
		if (l->p[i] == pid)
			return true;
	return false;
}

size_t
wr_proc_descendants(pid_t root_pid, pid_t **out_pids)
{
	struct pids all = all_pids(), found = {0};
	pid_t *parent = wr_calloc(all.count, sizeof(*parent));
	bool more = true;

	for (size_t i = 0; i < all.count; i++) {
		struct stat_line st;

		parent[i] = read_stat(all.p[i], &st, NULL) == 0 ? st.ppid : 0;
	}
	/* A child may have a lower number than its parent, so until nothing is added any more. */
	while (more) {
		more = false;
		for (size_t i = 0; i < all.count; i++) {
			if (parent[i] <= 0 || (parent[i] != root_pid && !holds(&found, parent[i])))
				continue;
			parent[i] = 0; /* taken */
			add_pid(&found, all.p[i]);
			more = true;
		}
	}
	free(parent);
	free(all.p);
	return give_pids(&found, out_pids);
}

size_t
wr_proc_of_uid(uid_t uid, pid_t **out_pids)
{
	struct pids all = all_pids(), found = {0};

	for (size_t i = 0; i < all.count && uid != (uid_t)-1; i++) {
		struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;
		unsigned real, effective;
		const char *p;

		if (read_proc(all.p[i], "status", &b, NULL) < 0)
			continue;
		p = strstr((const char *)b.p, "\nUid:");
		if (p && sscanf(p + 5, "%u %u", &real, &effective) == 2 &&
		    (real == uid || effective == uid))
			add_pid(&found, all.p[i]);
	}
	free(all.p);
	return give_pids(&found, out_pids);
}

bool
wr_proc_usage(pid_t pid, uint64_t *out_rss, double *out_cpu_s)
{
	struct stat_line st;

	if (read_stat(pid, &st, NULL) < 0)
		return false;
	*out_rss = st.rss_pages * (uint64_t)sysconf(_SC_PAGESIZE);
	*out_cpu_s = (double)st.ticks / (double)sysconf(_SC_CLK_TCK);
	return true;
}

void
wr_proc_die_with_parent(pid_t expected_parent)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* cannot fail with a valid signal */
	if (expected_parent && getppid() != expected_parent)
		_exit(0);
}

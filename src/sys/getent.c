/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/getent.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <nss.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/str.h"
#include "sys/clock.h"
#include "sys/fs.h"

#define DEADLINE_S 2
#define SECOND_NS UINT64_C(1000000000)
#define BACK_OFF_NS (60 * SECOND_NS)
/* LIMIT: a passwd or group line; groups with tens of thousands of members exist. */
#define LINE_MAX_BYTES (4u << 20)
#define CONF_MAX (64u << 10)
#define CONF "/etc/nsswitch.conf"
#define LOW_FD 16

/* Both ways less than PIPE_BUF, so each goes whole or not at all. */
struct question {
	uint32_t id;
	bool group, by_id;
	char name[WR_GETENT_TEXT];
};
struct answer {
	enum wr_getent_answer what;
	int error; /* errno of a failure */
	struct wr_getent_entry entry;
};

/* ---- the helper ---- */

static int
copy(char out[WR_GETENT_TEXT], const char *s, bool cut)
{
	if (!s)
		s = "";
	if (strlen(s) >= WR_GETENT_TEXT && !cut)
		return ENAMETOOLONG;
	snprintf(out, WR_GETENT_TEXT, "%s", s);
	return 0;
}

/* errno of a failure; 0 with a->what found or absent. */
static int
look_up(const struct question *q, struct answer *a)
{
	for (size_t size = 4096; size <= LINE_MAX_BYTES; size *= 4) {
		WR_SCOPED(wr_freep) char *buf = wr_malloc(size);
		struct passwd pw = {0}, *pwp = NULL;
		struct group gr = {0}, *grp = NULL;
		int rc;

		if (q->group)
			rc = q->by_id ? getgrgid_r(q->id, &gr, buf, size, &grp)
				      : getgrnam_r(q->name, &gr, buf, size, &grp);
		else
			rc = q->by_id ? getpwuid_r(q->id, &pw, buf, size, &pwp)
				      : getpwnam_r(q->name, &pw, buf, size, &pwp);
		if (rc == ERANGE)
			continue;
		if (rc != 0)
			return rc;
		a->what = grp || pwp ? WR_GETENT_FOUND : WR_GETENT_ABSENT;
		if (grp) {
			a->entry.id = a->entry.gid = gr.gr_gid;
			return copy(a->entry.name, gr.gr_name, false);
		}
		if (pwp) {
			a->entry.id = pw.pw_uid;
			a->entry.gid = pw.pw_gid;
			(void)copy(a->entry.gecos, pw.pw_gecos, true);
			return copy(a->entry.name, pw.pw_name, false);
		}
		return 0;
	}
	return ERANGE;
}

char *
wr_getent_services(const char *database)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	size_t len = strlen(database);
	char *save = NULL;

	if (wr_read_file(AT_FDCWD, CONF, CONF_MAX, &b, NULL) < 0)
		return wr_strdup("files");
	wr_buf_add8(&b, '\0');
	for (char *line = strtok_r((char *)b.p, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		line[strcspn(line, "#")] = '\0';
		line += strspn(line, " \t");
		if (strncmp(line, database, len) != 0)
			continue;
		line += len + strspn(line + len, " \t");
		if (*line == ':')
			return wr_strdup(line + 1 + strspn(line + 1, " \t"));
	}
	return wr_strdup("files");
}

bool
wr_getent_has_service(const char *database, const char *service)
{
	WR_SCOPED(wr_freep) char *line = wr_getent_services(database);
	char *save = NULL;

	for (char *w = strtok_r(line, " \t", &save); w; w = strtok_r(NULL, " \t", &save))
		if (!strcmp(w, service))
			return true;
	return false;
}

#ifdef __GLIBC__
/* One that is configured but not installed has nothing to say. */
static bool
installed(const char *service)
{
	WR_SCOPED(wr_freep) char *file = wr_asprintf("libnss_%s.so.2", service);

	return !strcmp(service, "files") || !strcmp(service, "dns") || dlopen(file, RTLD_LAZY);
}

/*
 * The C library forgets that a service failed when a later one says "not found".  So what seems to
 * be absent is asked of each by itself: errno of the first that fails, or 0.
 */
static int
ask_each(const struct question *q)
{
	const char *database = q->group ? "group" : "passwd";
	WR_SCOPED(wr_freep) char *all = wr_getent_services(database);
	WR_SCOPED(wr_freep) char *words = wr_strdup(all);
	char *save = NULL;
	int rc = 0;

	for (char *w = strtok_r(words, " \t", &save); rc == 0 && w;
	     w = strtok_r(NULL, " \t", &save)) {
		struct answer a = {0};

		/* "[NOTFOUND=return]": those behind are not asked. */
		if (*w == '[' && (strstr(w, "NOTFOUND") || strchr(w, '!')) && strstr(w, "return"))
			break;
		if (strpbrk(w, "[]=") || !installed(w) || __nss_configure_lookup(database, w) != 0)
			continue;
		rc = look_up(q, &a);
	}
	(void)__nss_configure_lookup(database, all); /* it was taken at first, too */
	return rc;
}
#else
static int
ask_each(const struct question *q WR_UNUSED)
{
	return 0;
}
#endif

/* Nothing of the process that we are a copy of: no files (locks!), signals, terminal. */
static void
leave_home(int ask, int answer)
{
	int null = open("/dev/null", O_RDWR), low = WR_MIN(ask, answer), high = WR_MAX(ask, answer);
	static const int own[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGCHLD, SIGALRM, SIGPIPE};
	sigset_t none;

	for (int i = 0; null >= 0 && i < 3; i++)
		(void)dup2(null, i);
	(void)syscall(SYS_close_range, 3u, (unsigned)low - 1, 0u);
	if (high - low > 1)
		(void)syscall(SYS_close_range, (unsigned)low + 1, (unsigned)high - 1, 0u);
	(void)syscall(SYS_close_range, (unsigned)high + 1, ~0u, 0u);
	(void)setsid();
	for (size_t i = 0; i < WR_ARRAY_LEN(own); i++)
		(void)signal(own[i], SIG_DFL);
	sigemptyset(&none);
	(void)pthread_sigmask(SIG_SETMASK, &none, NULL);
}

static void WR_NORETURN
serve(int ask, int answer)
{
	struct question q;

	leave_home(ask, answer);
	while (wr_read_full(ask, &q, sizeof(q)) == (ssize_t)sizeof(q)) {
		struct answer a = {0};

		/* Should the one that waits for us be killed while we hang. */
		alarm(DEADLINE_S + 1);
		a.error = look_up(&q, &a);
		if (a.error == 0 && a.what == WR_GETENT_ABSENT)
			a.error = ask_each(&q);
		alarm(0);
		if (a.error != 0)
			a.what = WR_GETENT_FAILED;
		if (wr_write_all(answer, &a, sizeof(a)) < 0)
			break;
	}
	_exit(0);
}

/* ---- who asks ---- */

static struct {
	pthread_mutex_t mutex;
	pid_t owner, pid; /* 0: no helper */
	int to, from;     /* pipes */
	int kept;         /* reading end of `to`: so that to write to a dead helper is no signal */
	uint64_t lost_ns; /* on what failed, since the last rest */
	uint64_t rest_until;
	char why[128];
} nss = {.mutex = PTHREAD_MUTEX_INITIALIZER, .to = -1, .from = -1, .kept = -1};

static void
end_helper(void)
{
	wr_closep(&nss.to);
	wr_closep(&nss.from);
	wr_closep(&nss.kept);
	/* A copy of who asked (fork) has the pipes, but the child is not its own. */
	if (nss.pid && nss.owner == getpid()) {
		(void)kill(nss.pid, SIGKILL);
		while (waitpid(nss.pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	nss.pid = 0;
}

static int
begin_helper(void)
{
	int ask[2], answer[2], down, up;

	if (pipe2(ask, O_CLOEXEC) < 0)
		return -1;
	if (pipe2(answer, O_CLOEXEC) < 0) {
		close(ask[0]);
		close(ask[1]);
		return -1;
	}
	nss.owner = getpid();
	nss.pid = fork();
	if (nss.pid == 0) {
		down = fcntl(ask[0], F_DUPFD, LOW_FD);
		up = fcntl(answer[1], F_DUPFD, LOW_FD);
		if (down < 0 || up < 0)
			_exit(1);
		serve(down, up);
	}
	close(answer[1]);
	nss.to = ask[1];
	nss.kept = ask[0];
	nss.from = answer[0];
	if (nss.pid > 0)
		return 0;
	nss.pid = 0;
	end_helper();
	return -1;
}

/* 0, or -1 with nss.why. */
static int
converse(const struct question *q, struct answer *a)
{
	uint64_t until = wr_clock_mono_ns() + DEADLINE_S * SECOND_NS;
	ssize_t got;

	if (wr_write_all(nss.to, q, sizeof(*q)) < 0) {
		snprintf(nss.why, sizeof(nss.why), "the helper cannot be asked");
		return -1;
	}
	for (;;) {
		uint64_t now = wr_clock_mono_ns();
		struct pollfd p = {.fd = nss.from, .events = POLLIN};
		int n = now < until ? poll(&p, 1, (int)((until - now) / 1000000) + 1) : 0;

		if (n > 0)
			break;
		if (n == 0) {
			snprintf(nss.why, sizeof(nss.why),
				 "the name service did not answer within %d s", DEADLINE_S);
			return -1;
		}
		if (errno != EINTR) {
			snprintf(nss.why, sizeof(nss.why), "wait for the name service: %s",
				 strerror(errno));
			return -1;
		}
	}
	got = wr_read_full(nss.from, a, sizeof(*a));
	if (got == (ssize_t)sizeof(*a))
		return 0;
	snprintf(nss.why, sizeof(nss.why), "the name service ended its process");
	return -1;
}

static enum wr_getent_answer
ask_locked(const struct question *q, struct wr_getent_entry *out)
{
	uint64_t began = wr_clock_mono_ns();
	struct answer a = {0};

	if (began < nss.rest_until)
		return WR_GETENT_FAILED;
	if (nss.pid && nss.owner != getpid())
		end_helper();
	if (!nss.pid && begin_helper() < 0) {
		snprintf(nss.why, sizeof(nss.why), "the helper cannot be started");
		return WR_GETENT_FAILED;
	}
	if (converse(q, &a) < 0) {
		end_helper();
		a.what = WR_GETENT_FAILED;
	} else if (a.what == WR_GETENT_FAILED) {
		snprintf(nss.why, sizeof(nss.why), "the name service failed: %s",
			 strerror(a.error));
	}
	if (a.what == WR_GETENT_FOUND) {
		a.entry.name[WR_GETENT_TEXT - 1] = a.entry.gecos[WR_GETENT_TEXT - 1] = '\0';
		*out = a.entry;
	} else if (a.what == WR_GETENT_FAILED) {
		nss.lost_ns += wr_clock_mono_ns() - began;
		if (nss.lost_ns >= DEADLINE_S * SECOND_NS) {
			nss.lost_ns = 0;
			nss.rest_until = wr_clock_mono_ns() + BACK_OFF_NS;
		}
	}
	return a.what;
}

/* Local accounts are there whatever else fails. */
static bool
in_files(const struct question *q, struct wr_getent_entry *out)
{
	FILE *f = fopen(q->group ? "/etc/group" : "/etc/passwd", "re");
	WR_SCOPED(wr_freep) char *buf = wr_malloc(LINE_MAX_BYTES);
	struct answer a = {0};
	bool found = false;

	if (!f)
		return false;
	while (!found) {
		struct passwd pw, *pwp = NULL;
		struct group gr, *grp = NULL;
		const char *name;

		if (q->group ? fgetgrent_r(f, &gr, buf, LINE_MAX_BYTES, &grp) != 0
			     : fgetpwent_r(f, &pw, buf, LINE_MAX_BYTES, &pwp) != 0)
			break;
		name = q->group ? gr.gr_name : pw.pw_name;
		a.entry.id = q->group ? gr.gr_gid : pw.pw_uid;
		a.entry.gid = q->group ? gr.gr_gid : pw.pw_gid;
		found = (q->by_id ? a.entry.id == q->id : !strcmp(name, q->name)) &&
			copy(a.entry.name, name, false) == 0;
		if (found && !q->group)
			(void)copy(a.entry.gecos, pw.pw_gecos, true);
	}
	(void)fclose(f);
	if (found)
		*out = a.entry;
	return found;
}

static bool
files_first(bool group)
{
	WR_SCOPED(wr_freep) char *line = wr_getent_services(group ? "group" : "passwd");

	line[strcspn(line, " \t")] = '\0';
	return !strcmp(line, "files");
}

static enum wr_getent_answer
ask(const struct question *q, struct wr_getent_entry *out)
{
	enum wr_getent_answer what;

	/* Most hosts, most accounts: no helper is needed. */
	if (files_first(q->group) && in_files(q, out))
		return WR_GETENT_FOUND;
	pthread_mutex_lock(&nss.mutex);
	what = ask_locked(q, out);
	pthread_mutex_unlock(&nss.mutex);
	return what == WR_GETENT_FAILED && in_files(q, out) ? WR_GETENT_FOUND : what;
}

enum wr_getent_answer
wr_getent_by_name(bool group, const char *name, struct wr_getent_entry *out)
{
	struct question q = {.group = group};

	/* No service has a name that long, or none at all. */
	if (!*name || strlen(name) >= sizeof(q.name))
		return WR_GETENT_ABSENT;
	memcpy(q.name, name, strlen(name) + 1);
	return ask(&q, out);
}

enum wr_getent_answer
wr_getent_by_id(bool group, uint32_t id, struct wr_getent_entry *out)
{
	const struct question q = {.group = group, .by_id = true, .id = id};

	return ask(&q, out);
}

const char *
wr_getent_why(void)
{
	return *nss.why ? nss.why : "the name service failed";
}

void
wr_getent_end(void)
{
	pthread_mutex_lock(&nss.mutex);
	end_helper();
	pthread_mutex_unlock(&nss.mutex);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Small tasks in the home, as its user. */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/snap/listing.h"
#include "host/task/worker_int.h"
#include "sys/beneath.h"
#include "sys/clock.h"
#include "sys/fs.h"

#define COPY_BYTES (256u << 10)

/* ---- mkdir, link ---- */

json_t *
wr_work_mkdir(struct wr_worker *w, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *path = NULL;
	bool existed;
	json_t *o;

	if (wr_worker_path(w, "path", &path, err) < 0)
		return NULL;
	if (!path || !*path) {
		wr_err_set(err, WR_E_INVALID, "path: which directory?");
		return NULL;
	}
	if (wr_beneath_mkdirs(WR_WORKER_TREE, path, &existed, err) < 0)
		return NULL;
	o = json_object();
	wr_json_bool(o, "existed", existed);
	return o;
}

json_t *
wr_work_link(struct wr_worker *w, struct wr_err *err)
{
	const char *name = wr_json_get_str(w->args, "name", NULL);
	const char *target = wr_json_get_str(w->args, "target", "");
	bool made;
	json_t *o;

	if (wr_worker_name(name, err) < 0)
		return NULL;
	made = symlinkat(target, WR_WORKER_TREE, name) == 0;
	if (!made && errno != EEXIST) {
		wr_err_sys(err, "make link '%s'", WR_Q(name));
		return NULL;
	}
	o = json_object();
	wr_json_bool(o, "made", made);
	return o;
}

/* ---- template ---- */

struct furnishing {
	uint64_t copied;
	struct wr_notes skipped;
	uint8_t *block;
};

static void
pass_by(struct furnishing *f, const struct wr_met *m, const char *reason)
{
	wr_notes_add(&f->skipped, m->path, m->path_len, reason, 0);
}

static int
copy_bytes(int from, int to, uint8_t *block)
{
	for (;;) {
		ssize_t n = wr_read_full(from, block, COPY_BYTES);

		if (n <= 0)
			return (int)n;
		if (wr_write_all(to, block, (size_t)n) < 0)
			return -1;
	}
}

/* Under a name of its own first: half a file would never be completed. */
static int
copy_file(struct furnishing *f, const struct wr_met *m, int dirfd, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int from = -1;
	WR_SCOPED(wr_closep) int to = -1;
	char held[40], tmp[40];
	struct stat st;
	int rc;

	if (fstatat(dirfd, m->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	snprintf(held, sizeof(held), "/proc/self/fd/%d", m->fd);
	from = open(held, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (from < 0) {
		pass_by(f, m, "the template's file cannot be read");
		return 0;
	}
	wr_random_name(tmp, sizeof(tmp), ".warren-tmp-");
	to = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		    m->st.st_mode & 0777);
	if (to < 0 || copy_bytes(from, to, f->block) < 0) {
		rc = wr_err_sys(err, "copy '%s' from the template", WR_Q(m->path));
	} else {
		rc = (int)syscall(SYS_renameat2, dirfd, tmp, dirfd, m->name, 1u /* NOREPLACE */);
		if (rc == 0)
			f->copied++;
		else if (errno == EEXIST)
			rc = 0;
		else
			rc = wr_err_sys(err, "rename '%s'", WR_Q(m->path));
	}
	if (to >= 0)
		(void)unlinkat(dirfd, tmp, 0); /* gone, if it was renamed */
	return rc;
}

static int
copy_link(struct furnishing *f, const struct wr_met *m, int dirfd, struct wr_err *err)
{
	char target[4096];
	ssize_t n = readlinkat(m->fd, "", target, sizeof(target) - 1);

	if (n < 0)
		return wr_err_sys(err, "read link '%s'", WR_Q(m->path));
	target[n] = '\0';
	if (symlinkat(target, dirfd, m->name) == 0)
		f->copied++;
	else if (errno != EEXIST)
		return wr_err_sys(err, "make link '%s'", WR_Q(m->path));
	return 0;
}

static int
furnish(void *ctx, const struct wr_met *m, bool after, struct wr_err *err)
{
	struct furnishing *f = ctx;
	struct wr_err e = WR_ERR_INIT;
	const char *name;
	WR_SCOPED(wr_closep) int dirfd = -1;

	(void)after;
	if (m->dirfd < 0)
		return 0;
	dirfd = wr_beneath_parent(WR_WORKER_TREE, m->path, &name, &e);
	if (dirfd < 0) { /* his own idea of that directory */
		pass_by(f, m, "its directory in the home is something else");
		return 1;
	}
	if (S_ISDIR(m->st.st_mode)) {
		if (mkdirat(dirfd, m->name, m->st.st_mode & 0777) == 0)
			f->copied++;
		else if (errno != EEXIST)
			return wr_err_sys(err, "make directory '%s'", WR_Q(m->path));
		return 0;
	}
	if (S_ISLNK(m->st.st_mode))
		return copy_link(f, m, dirfd, err);
	if (S_ISREG(m->st.st_mode))
		return copy_file(f, m, dirfd, err);
	pass_by(f, m, "neither file, directory nor link");
	return 0;
}

json_t *
wr_work_skel(struct wr_worker *w, struct wr_err *err)
{
	struct furnishing f = {.block = wr_malloc(COPY_BYTES)};
	json_t *o = NULL;

	(void)w;
	if (wr_walk(WR_WORKER_SOURCE, 0, furnish, &f, &f.skipped, err) == 0) {
		o = json_object();
		wr_json_u64(o, "copied", f.copied);
		wr_receipt_notes(o, "skipped", &f.skipped);
	}
	wr_notes_fini(&f.skipped);
	free(f.block);
	return o;
}

/* ---- listing ---- */

enum order { BY_NAME, BY_TIME, BY_SIZE };

struct file {
	const char *name;
	size_t len;
	bool known; /* st is filled in */
	struct stat st;
};

struct sorting {
	enum order order;
	bool reverse;
};

static int
by_order(const void *a, const void *b, void *ctx)
{
	const struct file *x = a, *y = b;
	const struct sorting *s = ctx;
	int c = 0;

	/* The newest and the largest come first. */
	if (s->order == BY_TIME) {
		struct timespec tx = x->st.st_mtim, ty = y->st.st_mtim;

		c = tx.tv_sec != ty.tv_sec     ? (tx.tv_sec < ty.tv_sec ? 1 : -1)
		    : tx.tv_nsec != ty.tv_nsec ? (tx.tv_nsec < ty.tv_nsec ? 1 : -1)
					       : 0;
	} else if (s->order == BY_SIZE) {
		c = x->st.st_size < y->st.st_size ? 1 : x->st.st_size > y->st.st_size ? -1 : 0;
	}
	if (c == 0)
		c = strcmp(x->name, y->name);
	return s->reverse ? -c : c;
}

static const char *
type_name(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "link";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	default:
		return "device";
	}
}

static void
add_file(json_t *list, int dirfd, struct file *f)
{
	char target[4096];
	json_t *e;
	ssize_t n;

	if (!f->known && fstatat(dirfd, f->name, &f->st, AT_SYMLINK_NOFOLLOW) < 0)
		return; /* gone since */
	e = wr_json_item(list);
	wr_json_path(e, "name", f->name, f->len);
	wr_json_str(e, "type", type_name(f->st.st_mode));
	wr_json_u64(e, "size", (uint64_t)f->st.st_size);
	wr_json_time(e, "mtime", f->st.st_mtime);
	wr_json_u64(e, "mode", f->st.st_mode & 07777);
	if (S_ISLNK(f->st.st_mode) && (n = readlinkat(dirfd, f->name, target, sizeof(target))) >= 0)
		wr_json_path(e, "target", target, (size_t)n);
}

static int
read_sorting(const struct wr_worker *w, struct sorting *out, struct wr_err *err)
{
	static const char *const words[] = {
	    [BY_NAME] = "name", [BY_TIME] = "time", [BY_SIZE] = "size"};
	const char *word = wr_json_get_str(w->args, "sort", "name");

	for (size_t i = 0; i < WR_ARRAY_LEN(words); i++)
		if (!strcmp(word, words[i])) {
			*out = (struct sorting){(enum order)i,
						wr_json_get_bool(w->args, "reverse", false)};
			return 0;
		}
	return wr_err_set(err, WR_E_INVALID, "sort: by name, time or size, not '%s'", WR_Q(word));
}

json_t *
wr_work_files(struct wr_worker *w, struct wr_err *err)
{
	const bool hidden = wr_json_get_bool(w->args, "hidden", false);
	const uint64_t start = wr_json_get_u64(w->args, "start", 0);
	const uint64_t limit = wr_json_get_u64(w->args, "limit", UINT64_MAX);
	WR_SCOPED(wr_freep) char *path = NULL;
	WR_SCOPED(wr_closep) int fd = -1;
	WR_SCOPED(wr_listing_fini) struct wr_listing l = WR_LISTING_INIT;
	WR_SCOPED(wr_freep) struct file *file = NULL;
	WR_SCOPED(wr_json_freep) json_t *o = wr_json_begin("warren.files/1");
	WR_SCOPED(wr_buf_fini) struct wr_buf text = WR_BUF_INIT;
	struct sorting s;
	size_t n = 0, end;
	json_t *list, *res;

	if (wr_worker_path(w, "path", &path, err) < 0 || read_sorting(w, &s, err) < 0)
		return NULL;
	fd = wr_beneath_open(WR_WORKER_TREE, path ? path : "", O_RDONLY | O_DIRECTORY, 0, err);
	if (fd < 0 || wr_listing_read(&l, fd, err) < 0)
		return NULL;
	file = wr_calloc(l.count + 1, sizeof(*file));
	for (size_t i = 0; i < l.count; i++) {
		struct file *f = &file[n];

		if (!hidden && l.ent[i].name[0] == '.')
			continue;
		*f = (struct file){.name = l.ent[i].name, .len = l.ent[i].len};
		/* By name only what is shown has to be looked at. */
		f->known =
		    s.order != BY_NAME && fstatat(fd, f->name, &f->st, AT_SYMLINK_NOFOLLOW) == 0;
		if (s.order == BY_NAME || f->known)
			n++;
	}
	qsort_r(file, n, sizeof(*file), by_order, &s);
	end = limit < n && start < n - limit ? (size_t)(start + limit) : n;
	wr_json_path(o, "path", path ? path : "", path ? strlen(path) : 0);
	wr_json_u64(o, "total", n);
	wr_json_u64(o, "start", start);
	wr_json_bool(o, "more", end < n);
	list = wr_json_array(o, "files");
	for (size_t i = (size_t)WR_MIN(start, (uint64_t)n); i < end; i++)
		add_file(list, fd, &file[i]);
	wr_json_write(o, &text);
	wr_buf_add8(&text, '\n');
	if (wr_write_all(w->out_fd, text.p, text.len) < 0) {
		wr_err_sys(err, "write the listing");
		return NULL;
	}
	res = json_object();
	wr_json_u64(res, "total", n);
	return res;
}

/* ---- hooks ---- */

WR_NORETURN static void
run_hook(const char *program, char *const *env)
{
	char *const argv[] = {(char *)(uintptr_t)program, NULL};
	sigset_t none;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* cannot fail with a valid signal */
	setsid();
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (fchdir(WR_WORKER_TREE) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
		_exit(126);
	syscall(SYS_close_range, 3u, ~0u, 0);
	execve(program, argv, env);
	dprintf(STDERR_FILENO, "run '%s': %s\n", program, strerror(errno));
	_exit(127);
}

static int
await_hook(pid_t pid, uint64_t timeout_s, int *out_status, struct wr_err *err)
{
	const uint64_t end = wr_clock_mono_ns() + timeout_s * UINT64_C(1000000000);
	WR_SCOPED(wr_closep) int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};

	for (;;) {
		uint64_t now = wr_clock_mono_ns();
		int ms = timeout_s ? (int)WR_MIN((end > now ? end - now : 0) / 1000000 + 1,
						 (uint64_t)1000)
				   : 1000;

		if (waitpid(pid, out_status, WNOHANG) == pid)
			return 0;
		if (timeout_s && now >= end)
			break;
		(void)poll(&p, fd >= 0, fd >= 0 ? ms : WR_MIN(ms, 20)); /* waitpid tells */
	}
	kill(-pid, SIGKILL);
	kill(pid, SIGKILL); /* before it had a group of its own */
	while (waitpid(pid, out_status, 0) < 0 && errno == EINTR)
		;
	return wr_err_set(err, WR_E_FAILED, "it took longer than %" PRIu64 " s", timeout_s);
}

json_t *
wr_work_hook(struct wr_worker *w, struct wr_err *err)
{
	const char *program = wr_json_get_str(w->args, "program", "");
	const json_t *list = wr_json_get_arr(w->args, "env");
	const size_t n = json_array_size(list);
	WR_SCOPED(wr_freep) char **env = wr_calloc(n + 1, sizeof(*env));
	const uint64_t start = wr_clock_mono_ns();
	int status = 0;
	json_t *o;
	pid_t pid;

	if (*program != '/') {
		wr_err_set(err, WR_E_INVALID, "a hook has to be an absolute path");
		return NULL;
	}
	for (size_t i = 0; i < n; i++) {
		const char *v = json_string_value(json_array_get(list, i));

		env[i] = (char *)(uintptr_t)(v ? v : "");
	}
	pid = fork();
	if (pid == 0)
		run_hook(program, env);
	if (pid < 0) {
		wr_err_sys(err, "fork");
		return NULL;
	}
	if (await_hook(pid, wr_json_get_u64(w->args, "timeout", 0), &status, err) < 0)
		return NULL;
	if (WIFSIGNALED(status)) {
		wr_err_set(err, WR_E_FAILED, "it was ended by signal %d", WTERMSIG(status));
		return NULL;
	}
	if (WEXITSTATUS(status) != 0) {
		wr_err_set(err, WR_E_FAILED, "it ended with status %d", WEXITSTATUS(status));
		wr_err_hint(err, "what it said is in the operation's log");
		return NULL;
	}
	o = json_object();
	wr_json_real(o, "seconds", (double)(wr_clock_mono_ns() - start) / 1e9);
	return o;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The starter's side: open what the task is about, start the worker, hear it out. */
#include "host/task/task.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/task/worker_int.h"
#include "sys/fs.h"
#include "sys/proc.h"
#include "sys/sandbox.h"

/* LIMIT: of one line of a worker, which may be a user's process. */
#define LINE_MAX_BYTES (64u << 20)
#define POLL_MS 100

/* ---- starting ---- */

static bool
wants_tree(enum wr_task_kind k)
{
	return k != WR_TASK_INIT_REPO && k != WR_TASK_INSPECT && k != WR_TASK_ADOPT &&
	       k != WR_TASK_TAG && k != WR_TASK_REFS && k != WR_TASK_OPEN && k != WR_TASK_PUSH &&
	       k != WR_TASK_RECEIVE && k != WR_TASK_PROVE && k != WR_TASK_AUDIT &&
	       k != WR_TASK_MEND && k != WR_TASK_REMOVE;
}

static bool
wants_repo(enum wr_task_kind k)
{
	return k < WR_TASK_SKEL;
}

/* -1 with *out -1: failed; 0 with *out -1: not wanted. */
static int
open_part(bool wanted, int given, const struct wr_place_of *p,
	  int (*open_it)(const struct wr_place_of *, struct wr_err *), int *out, struct wr_err *err)
{
	*out = -1;
	if (!wanted)
		return 0;
	wr_assert(given >= 0 || p);
	*out = given < 0 ? open_it(p, err) : fcntl(given, F_DUPFD_CLOEXEC, 3);
	if (given >= 0 && *out < 0)
		return wr_err_sys(err, "duplicate a descriptor");
	return *out < 0 ? -1 : 0;
}

/* The template is the operator's: who starts the task may read it, its user perhaps not. */
static int
open_source(const struct wr_task *t, int *out, struct wr_err *err)
{
	const char *path = wr_json_get_str(t->args, "template", NULL);

	*out = -1;
	if (t->kind != WR_TASK_SKEL && t->source_fd < 0)
		return 0;
	if (t->kind != WR_TASK_SKEL) {
		*out = fcntl(t->source_fd, F_DUPFD_CLOEXEC, 3);
		return *out < 0 ? wr_err_sys(err, "duplicate a descriptor") : 0;
	}
	if (!path || *path != '/')
		return wr_err_set(err, WR_E_INVALID, "the template has to be an absolute path");
	*out = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *out < 0 ? wr_err_sys(err, "open template '%s'", WR_Q(path)) : 0;
}

int
wr_work_rate_store(struct wr_node *n, struct wr_err *err)
{
	WR_SCOPED(wr_closep)
	int fd = openat(n->run_fd, WR_RATE_FILE, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	const uint64_t rate = n->config.work_rate;

	/* Written over in place: whoever has it mapped sees the new number. */
	if (fd < 0 || wr_pwrite_all(fd, &rate, sizeof(rate), 0) < 0)
		return wr_err_sys(err, "write '%s/%s'", WR_Q(n->run_path), WR_RATE_FILE);
	return 0;
}

/* A memfd, so that neither side waits for the other. */
static int
write_request(const struct wr_task *t, int *out, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = json_object();
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	WR_SCOPED(wr_closep) int fd = memfd_create("request", MFD_CLOEXEC);

	if (fd < 0)
		return wr_err_sys(err, "make a memfd");
	wr_json_u64(o, "kind", t->kind);
	wr_json_u64(o, "uid", t->uid);
	wr_json_u64(o, "gid", t->gid);
	if (t->place) {
		WR_SCOPED(wr_freep) char *tree = wr_tree_path(t->place);

		wr_json_u64(o, "node_uid", t->place->node->uid);
		wr_json_u64(o, "node_gid", t->place->node->gid);
		wr_json_str(o, "tree", tree);
		wr_json_str(o, "run", t->place->node->run_path);
	}
	wr_json_bool(o, "source", t->source_fd >= 0);
	if (t->args)
		json_object_set(o, "args", t->args);
	wr_json_write(o, &b);
	if (wr_pwrite_all(fd, b.p, b.len, 0) < 0)
		return wr_err_sys(err, "write the task's request");
	*out = fd;
	fd = -1;
	return 0;
}

int
wr_task_begin(const struct wr_task *t, pid_t *out_pid, int *out_result_fd, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int tree = -1;
	WR_SCOPED(wr_closep) int repo = -1;
	WR_SCOPED(wr_closep) int source = -1;
	WR_SCOPED(wr_closep) int request = -1;
	WR_SCOPED(wr_closep) int in = -1;
	WR_SCOPED(wr_closep) int out = -1;
	struct wr_spawn s = WR_SPAWN_INIT;
	char self[24];
	const char *const argv[] = {"warren", "@worker", self, NULL};
	int p[2];

	wr_assert(t->kind > WR_TASK_NONE && t->kind < WR_TASK_KINDS);
	if (open_part(wants_tree(t->kind), t->tree_fd, t->place, wr_tree_open, &tree, err) < 0 ||
	    open_part(wants_repo(t->kind), t->repo_fd, t->place, wr_repo_dir_open, &repo, err) <
		0 ||
	    open_source(t, &source, err) < 0 || write_request(t, &request, err) < 0)
		return -1;
	if (pipe2(p, O_CLOEXEC) < 0)
		return wr_err_sys(err, "make a pipe");
	in = p[0];
	out = p[1];
	snprintf(self, sizeof(self), "%ld", (long)getpid());
	s.argv = argv;
	s.fd[STDIN_FILENO] = t->in_fd;
	s.fd[STDOUT_FILENO] = t->out_fd;
	s.fd[STDERR_FILENO] = t->log_fd;
	s.fd[WR_WORKER_REQUEST] = request;
	s.fd[WR_WORKER_RESULT] = out;
	s.fd[WR_WORKER_TREE] = tree;
	s.fd[WR_WORKER_REPO] = repo;
	s.fd[WR_WORKER_SOURCE] = source;
	s.fd_count = WR_WORKER_SOURCE + 1;
	if (wr_spawn(&s, out_pid, err) < 0)
		return wr_err_wrap(err, "start a worker");
	*out_result_fd = in;
	in = -1;
	return 0;
}

/* ---- what came of it ---- */

static int
from_status(int status, struct wr_err *err)
{
	/* What base/ does where there is no memory. */
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT)
		return wr_err_set(err, WR_E_FAILED,
				  "the worker gave up: it needed more memory than it may have, or "
				  "found a mistake of its own; its log says which");
	if (WIFSIGNALED(status))
		return wr_err_set(err, WR_E_FAILED, "the worker was ended by signal %d",
				  WTERMSIG(status));
	return wr_err_set(err, WR_E_FAILED, "the worker ended with status %d and no result",
			  WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

/* 1: a result, 0: something else, -1: an error. */
static int
read_line(const char *p, size_t len, json_t **out_result, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = wr_json_parse(p, len, NULL);
	json_t *e = wr_json_get_obj(o, "error"), *r = wr_json_get_obj(o, "result");

	if (e) {
		struct wr_err there = WR_ERR_INIT;

		wr_json_get_err(e, &there);
		if (there.code == WR_E_NONE)
			there.code = WR_E_FAILED;
		if (err)
			*err = there;
		return -1;
	}
	if (r && out_result)
		*out_result = json_incref(r);
	return r != NULL;
}

int
wr_task_end(const void *text, size_t len, int wait_status, json_t **out_result, struct wr_err *err)
{
	const char *p = text, *line;
	int rc;

	/* Only a whole line counts, and only the last. */
	if (!len || p[len - 1] != '\n')
		return from_status(wait_status, err);
	len--;
	line = memrchr(p, '\n', len);
	line = line ? line + 1 : p;
	rc = read_line(line, (size_t)(p + len - line), out_result, err);
	return rc > 0 ? 0 : rc < 0 ? -1 : from_status(wait_status, err);
}

void
wr_task_ear_fini(struct wr_task_ear *e)
{
	wr_buf_fini(&e->text);
}

/* Take progress out of the text as soon as its line is complete. */
static void
take_lines(const struct wr_task *t, struct wr_task_ear *h)
{
	uint8_t *lf;

	while ((lf = memchr(h->text.p + h->line, '\n', h->text.len - h->line))) {
		const char *p = (char *)h->text.p + h->line;
		size_t len = (size_t)((char *)lf - p), end = h->line + len + 1;
		static const char mark[] = "{\"progress\":";
		WR_SCOPED(wr_json_freep) json_t *o = NULL;
		json_t *g;

		if (len < sizeof(mark) - 1 || memcmp(p, mark, sizeof(mark) - 1) != 0) {
			h->line = end;
			continue;
		}
		o = wr_json_parse(p, len, NULL);
		g = wr_json_get_obj(o, "progress");
		if (g && t->progress)
			t->progress(
			    t->ctx, wr_json_get_str(g, "step", ""), wr_json_get_u64(g, "files", 0),
			    wr_json_get_u64(g, "files_total", 0), wr_json_get_u64(g, "bytes", 0),
			    wr_json_get_u64(g, "bytes_total", 0));
		memmove(h->text.p + h->line, h->text.p + end, h->text.len - end);
		h->text.len -= len + 1;
	}
}

int
wr_task_hear(const struct wr_task *t, struct wr_task_ear *e, int result_fd, int timeout_ms,
	     struct wr_err *err)
{
	struct pollfd p = {.fd = result_fd, .events = POLLIN};
	int n = poll(&p, 1, timeout_ms);
	ssize_t got;

	if (n < 0 && errno != EINTR)
		return wr_err_sys(err, "wait for the worker");
	if (n <= 0)
		return 1;
	wr_buf_reserve(&e->text, 1 << 16);
	got = read(result_fd, e->text.p + e->text.len, 1 << 16);
	if (got < 0 && errno == EINTR)
		return 1;
	if (got < 0)
		return wr_err_sys(err, "read from the worker");
	if (got == 0)
		return 0;
	e->text.len += (size_t)got;
	take_lines(t, e);
	if (e->text.len > LINE_MAX_BYTES)
		return wr_err_set(err, WR_E_LIMIT, "the worker says too much");
	return 1;
}

json_t *
wr_task_word(struct wr_task_ear *e)
{
	while (e->word < e->line) {
		const char *p = (char *)e->text.p + e->word;
		const char *lf = memchr(p, '\n', e->line - e->word);
		json_t *o = wr_json_parse(p, (size_t)(lf - p), NULL);

		e->word += (size_t)(lf - p) + 1;
		if (json_is_object(o))
			return o;
		json_decref(o);
	}
	return NULL;
}

/* Until the worker has closed its end. */
static int
hear(const struct wr_task *t, struct wr_task_ear *e, int fd, struct wr_err *err)
{
	int rc;

	do {
		if (t->cancel && *t->cancel)
			return wr_err_set(err, WR_E_CANCELLED, "cancelled");
		rc = wr_task_hear(t, e, fd, t->cancel ? POLL_MS : -1, err);
	} while (rc > 0);
	return rc;
}

int
wr_task_run(const struct wr_task *t, json_t **out_result, struct wr_err *err)
{
	WR_SCOPED(wr_task_ear_fini) struct wr_task_ear ear = {0};
	WR_SCOPED(wr_closep) int fd = -1;
	int status = 0, rc;
	pid_t pid;

	if (wr_task_begin(t, &pid, &fd, err) < 0)
		return -1;
	rc = hear(t, &ear, fd, err);
	if (rc < 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (rc == 0)
		rc = wr_task_end(ear.text.p, ear.text.len, status, out_result, err);
	return rc;
}

/* ---- views ---- */

int
wr_view_begin(struct wr_place_of *p, const char *const *argv, bool json, bool tty, int out_fd,
	      int err_fd, pid_t *out_pid, struct wr_err *err)
{
	/* A leak checker, in builds that have one, traces its process, which the walls forbid. */
	const char *const env[] = {"PATH=/usr/bin:/bin",
				   "LANG=C.UTF-8",
				   "TZ=UTC",
				   "ASAN_OPTIONS=detect_leaks=0",
				   tty ? "WARREN_TTY=1" : NULL,
				   NULL};
	WR_SCOPED(wr_closep) int repo = wr_repo_dir_open(p, err);
	WR_SCOPED(wr_freep) const char **words = NULL;
	struct wr_sandbox box = {
	    .set_ids = p->node->root_mode,
	    .uid = p->node->uid,
	    .gid = p->node->gid,
	    .no_new_privs = true,
	    .no_exec_new = true,
	    .no_sockets = true,
	    .path = {{repo, WR_FS_READ}},
	    .path_count = 1,
	};
	struct wr_spawn s = WR_SPAWN_INIT;
	size_t n = 0, at = 0;

	if (repo < 0)
		return -1;
	while (argv[n])
		n++;
	wr_assert(n > 0);
	words = wr_calloc(n + 6, sizeof(*words));
	words[at++] = "warren";
	words[at++] = "repo";
	words[at++] = argv[0];
	words[at++] = "-r";
	words[at++] = "/proc/self/fd/3";
	if (json)
		words[at++] = "--json";
	memcpy(words + at, argv + 1, (n - 1) * sizeof(*words));
	s.argv = words;
	s.envp = env;
	s.fd[STDOUT_FILENO] = out_fd;
	s.fd[STDERR_FILENO] = err_fd;
	s.fd[3] = repo;
	s.fd_count = 4;
	s.sandbox = &box;
	if (wr_spawn(&s, out_pid, err) < 0)
		return wr_err_wrap(err, "start a view");
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers that come out of a worker: its output goes through a pipe straight to the front, control
 * sees only how it ended.
 */
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/str.h"
#include "host/task/task.h"
#include "serve/control/control_int.h"
#include "sys/fs.h"

struct wr_stream {
	struct wr_control *c;
	struct wr_req *q; /* NULL: nobody waits any more */
	char by[64];      /* who asked */
	struct wr_child child;
	bool task;            /* else a view */
	bool reply;           /* the result is the answer, there is no stream */
	struct wr_timer idle; /* of one that tells how far it is */
	int side_fd;          /* a view's standard error, a task's results; for text its way out */
	struct wr_watch side;
	struct wr_buf text; /* what came, or has to go, that way */
	size_t sent;
	struct wr_stream *prev, *next;
};

static struct wr_stream *
stream_new(struct wr_req *q, struct wr_err *err)
{
	struct wr_control *c = q->c;
	struct wr_stream *s;
	size_t n = 0;

	for (s = c->streams; s; s = s->next)
		n += !strcmp(s->by, q->who.by);
	if (n >= WR_STREAMS_MAX) {
		wr_err_set(err, WR_E_BUSY, "%s has %d answers on their way already", q->who.by,
			   WR_STREAMS_MAX);
		wr_err_hint(err, "wait until one of them is read");
		return NULL;
	}
	s = wr_calloc(1, sizeof(*s));
	s->c = c;
	s->q = q;
	memcpy(s->by, q->who.by, sizeof(s->by));
	s->side_fd = -1;
	s->side.fd = -1;
	s->next = c->streams;
	if (s->next)
		s->next->prev = s;
	c->streams = s;
	return s;
}

static void
stream_free(struct wr_stream *s)
{
	if (s->q)
		s->q->stream = NULL;
	wr_timer_off(&s->c->loop, &s->idle);
	wr_watch_off(&s->c->loop, &s->side);
	wr_closep(&s->side_fd);
	wr_child_off(&s->child);
	wr_buf_fini(&s->text);
	*(s->prev ? &s->prev->next : &s->c->streams) = s->next;
	if (s->next)
		s->next->prev = s->prev;
	free(s);
}

void
wr_stream_abort(struct wr_stream *s)
{
	s->q = NULL;
	if (s->child.pid)
		wr_child_kill(&s->child); /* freed when it is reaped */
	else
		stream_free(s);
}

void
wr_streams_kill(struct wr_control *c)
{
	for (struct wr_stream *s = c->streams; s; s = s->next)
		wr_child_kill(&s->child);
}

/* ---- how far it is ---- */

/* Its files may be where nothing answers any more: who asked shall not wait with it. */
static void
on_idle(struct wr_timer *t)
{
	struct wr_stream *s = WR_OWNER(t, struct wr_stream, idle);
	struct wr_req *q = s->q;
	struct wr_err err = WR_ERR_INIT;

	wr_err_set(&err, WR_E_FAILED, "looking at '%s': nothing moved for %s", q->row.name,
		   wr_fmt_duration(s->c->node->config.work_idle).s);
	wr_err_hint(&err, "is its volume well? 'warren doctor'; [work] idle in warren.conf says "
			  "how long to wait");
	q->stream = NULL;
	wr_stream_abort(s);
	wr_req_fail(q, &err);
}

static void
moved(struct wr_stream *s)
{
	if (s->q && s->q->call.api->id == WR_API_USAGE)
		wr_timer_on(&s->c->loop, &s->idle, s->c->node->config.work_idle * WR_SECOND,
			    on_idle);
}

/* The last whole line, if it tells of progress. */
static json_t *
last_progress(const struct wr_buf *text)
{
	const uint8_t *end = text->len ? memrchr(text->p, '\n', text->len) : NULL, *begin;
	WR_SCOPED(wr_json_freep) json_t *o = NULL;

	if (!end)
		return NULL;
	begin = memrchr(text->p, '\n', (size_t)(end - text->p));
	begin = begin ? begin + 1 : text->p;
	o = wr_json_parse(begin, (size_t)(end - begin), NULL);
	return json_incref(wr_json_get_obj(o, "progress"));
}

json_t *
wr_streams_progress(struct wr_control *c, const struct wr_uuid *project)
{
	for (struct wr_stream *s = c->streams; s; s = s->next)
		if (s->task && s->q && s->q->call.api->id == WR_API_USAGE &&
		    !strcmp(s->q->row.id.s, project->s))
			return last_progress(&s->text);
	return NULL;
}

/* ---- the side channel ---- */

/* Take what is there; false at the end. */
static bool
take_side(struct wr_stream *s)
{
	char block[4096];
	ssize_t n = read(s->side_fd, block, sizeof(block));

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	moved(s);
	wr_buf_add(&s->text, block, (size_t)n);
	if (s->text.len <= WR_STDERR_MAX)
		return true;
	if (!s->task) {
		s->text.len = WR_STDERR_MAX; /* the first is what explains the others */
	} else {
		/* Progress is not told on; the result is the last line. */
		uint8_t *lf = memrchr(s->text.p, '\n', s->text.len - 1);
		size_t cut = lf ? (size_t)(lf - s->text.p) + 1 : s->text.len;

		memmove(s->text.p, s->text.p + cut, s->text.len - cut);
		s->text.len -= cut;
	}
	return true;
}

static void
on_side(struct wr_watch *w, uint32_t events WR_UNUSED)
{
	struct wr_stream *s = WR_OWNER(w, struct wr_stream, side);

	if (!take_side(s))
		wr_watch_off(&s->c->loop, &s->side);
}

/* What a view said on standard error, "warren: TEXT" and "HINT: TEXT", with its exit status. */
static void
view_error(struct wr_stream *s, int exit, struct wr_err *out)
{
	static const enum wr_err_code code[] = {WR_E_NONE,   WR_E_FAILED, WR_E_INVALID,
						WR_E_FAILED, WR_E_DENIED, WR_E_NOT_FOUND};
	char *text = wr_buf_str(&s->text), *save = NULL;
	bool said = false;

	*out = (struct wr_err)WR_ERR_INIT;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		const char *says = strstr(line, ": ");

		if (!strncmp(line, "HINT: ", 6)) {
			wr_err_hint(out, "%s", line + 6);
		} else if (!said) {
			wr_err_set(out, exit < (int)WR_ARRAY_LEN(code) ? code[exit] : WR_E_FAILED,
				   "%s", !strncmp(line, "warren", 6) && says ? says + 2 : line);
			said = true;
		}
	}
	if (!said)
		wr_err_set(out, WR_E_FAILED, "the view ended with status %d", exit);
}

static void
on_ended(struct wr_child *ch, int wait_status)
{
	struct wr_stream *s = WR_OWNER(ch, struct wr_stream, child);
	struct wr_req *q = s->q;
	struct wr_err err = WR_ERR_INIT;
	WR_SCOPED(wr_json_freep) json_t *result = NULL;
	int exit = 0;

	/* Its end is its last word: what is in the pipe now is all. */
	for (size_t before = SIZE_MAX; s->side_fd >= 0 && before != s->text.len;) {
		before = s->text.len;
		if (!take_side(s))
			break;
	}
	if (s->task) {
		if (wr_task_end(s->text.p, s->text.len, wait_status, &result, &err) < 0)
			exit = wr_err_exit(err.code);
	} else if (WIFEXITED(wait_status)) {
		exit = WEXITSTATUS(wait_status);
		if (exit)
			view_error(s, exit, &err);
	} else {
		exit = 1;
		wr_err_set(&err, WR_E_FAILED, "the view was ended by signal %d",
			   WTERMSIG(wait_status));
	}
	if (q) {
		q->stream = NULL;
		s->q = NULL;
	}
	if (q && s->reply) {
		if (err.code != WR_E_NONE) {
			wr_req_fail(q, &err);
		} else if (q->call.api->id == WR_API_USAGE) {
			wr_req_reply(q, 200, 0, wr_usage_json(s->c, &q->row, result));
		} else {
			json_t *o = wr_json_begin("warren.mkdir/1");

			if (json_is_object(result))
				json_object_update_missing(o, result);
			wr_json_str(o, "project", q->row.id.s);
			wr_json_path(o, "path", wr_call_str(&q->call, "path"),
				     strlen(wr_call_str(&q->call, "path")));
			wr_req_reply(q, 200, 0, o);
		}
	} else if (q) {
		wr_req_end(q, exit, &err);
	}
	stream_free(s);
}

/* The worker runs: its side channel is watched, its output (-1: none) goes to the front. */
static void
stream_go(struct wr_stream *s, pid_t pid, int side_fd, const char *type, int out_fd)
{
	s->side_fd = side_fd;
	(void)fcntl(side_fd, F_SETFL, O_NONBLOCK); /* a pipe of ours: cannot fail */
	wr_watch_on(&s->c->loop, &s->side, side_fd, EPOLLIN, on_side);
	wr_child_on(&s->c->loop, &s->child, pid, -1, on_ended);
	s->q->stream = s;
	moved(s);
	if (out_fd >= 0)
		wr_req_stream(s->q, type, out_fd);
}

/* ---- tasks as the project's own user ---- */

int
wr_on_task(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	struct wr_task t = WR_TASK_INIT;
	WR_SCOPED(wr_json_freep) json_t *args = wr_json_args(&q->call);
	WR_SCOPED(wr_closep) int scratch = -1;
	const char *format, *type = "application/octet-stream";
	struct wr_stream *s;
	int out[2] = {-1, -1}, side, rc;
	pid_t pid;

	if (wr_row_volumes(c, &q->row, err) < 0)
		return -1;
	s = stream_new(q, err);
	if (!s)
		return -1;
	s->task = true;
	switch (q->call.api->id) {
	case WR_API_MKDIR:
		t.kind = WR_TASK_MKDIR;
		s->reply = true;
		break;
	case WR_API_USAGE:
		t.kind = WR_TASK_USAGE;
		s->reply = true;
		break;
	case WR_API_FILES:
		t.kind = WR_TASK_FILES;
		type = "application/json";
		break;
	default:
		t.kind = WR_TASK_READ;
		format = wr_call_str(&q->call, "format");
		if (format && !strcmp(format, "tar"))
			type = "application/x-tar";
		else if (format && !strcmp(format, "zip"))
			type = "application/zip";
		break;
	}
	rc = wr_place_of_find(c->node, &q->row.id, &place, err);
	if (rc == 0 && t.kind == WR_TASK_USAGE)
		rc = wr_usage_args(c, &q->row, args, &scratch, err);
	if (rc == 0 && !s->reply && pipe2(out, O_CLOEXEC) < 0)
		rc = wr_err_sys(err, "make a pipe");
	if (rc == 0) {
		t.place = &place;
		t.uid = q->row.uid;
		t.gid = q->row.gid;
		t.args = args;
		t.source_fd = scratch;
		t.out_fd = out[1];
		rc = wr_task_begin(&t, &pid, &side, err);
	}
	wr_closep(&out[1]);
	wr_place_of_fini(&place);
	if (rc < 0) {
		wr_closep(&out[0]);
		s->q = NULL;
		stream_free(s);
		return -1;
	}
	stream_go(s, pid, side, type, out[0]);
	return 0;
}

/* ---- views of the repository ---- */

#define WORDS_MAX 8

static int
view_words(const struct wr_req *q, const char ***out, struct wr_err *err)
{
	const struct wr_call *call = &q->call;
	const char *const *list = NULL;
	size_t n = 0, at = 0;
	const char **w, *limit, *branch;
	enum wr_api_call_id id = call->api->id;

	if (id == WR_API_CAT)
		n = wr_call_list(call, "spec", &list);
	w = wr_calloc(n + WORDS_MAX, sizeof(*w));
	switch (id) {
	case WR_API_SNAPSHOTS:
		limit = wr_call_str(call, "limit");
		branch = wr_call_str(call, "branch");
		w[at++] = "snapshots";
		if (limit) {
			w[at++] = "--limit";
			w[at++] = limit;
		}
		w[at++] = "--";
		if (branch)
			w[at++] = branch;
		break;
	case WR_API_LS:
		w[at++] = "ls";
		if (wr_call_bool(call, "long", false))
			w[at++] = "--long";
		if (wr_call_bool(call, "recursive", false))
			w[at++] = "--recursive";
		w[at++] = "--";
		w[at++] = wr_call_str(call, "spec") ? wr_call_str(call, "spec") : "latest";
		break;
	case WR_API_CAT:
		w[at++] = "cat";
		w[at++] = "--";
		memcpy(w + at, list, n * sizeof(*w));
		break;
	case WR_API_DIFF:
		w[at++] = "diff";
		if (wr_call_bool(call, "stat", false))
			w[at++] = "--stat";
		if (wr_call_bool(call, "name_only", false))
			w[at++] = "--name-only";
		w[at++] = "--";
		w[at++] = wr_call_str(call, "a");
		w[at++] = wr_call_str(call, "b") ? wr_call_str(call, "b") : "latest";
		break;
	case WR_API_FIND:
	case WR_API_HISTORY:
		branch = wr_call_str(call, "branch");
		w[at++] = id == WR_API_FIND ? "find" : "history";
		if (branch) {
			w[at++] = "--branch";
			w[at++] = branch;
		}
		if (id == WR_API_FIND && wr_call_bool(call, "ignore_case", false))
			w[at++] = "--ignore-case";
		w[at++] = "--";
		w[at++] = wr_call_str(call, id == WR_API_FIND ? "pattern" : "path");
		break;
	default:
		free(w);
		return wr_err_set(err, WR_E_UNSUPPORTED, "not a view");
	}
	free((void *)(uintptr_t)list);
	*out = w;
	return 0;
}

int
wr_on_view(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	WR_SCOPED(wr_freep) const char **words = NULL;
	const char *format = wr_call_str(&q->call, "format"), *type = "text/plain; charset=utf-8";
	bool json = !format || !strcmp(format, "json");
	int out[2] = {-1, -1}, side[2] = {-1, -1}, rc;
	struct wr_stream *s;
	pid_t pid;

	if (q->call.api->id == WR_API_CAT) {
		json = false; /* bytes are bytes */
		type = "application/octet-stream";
	} else if (json) {
		type = "application/json";
	}
	if (wr_row_volumes(c, &q->row, err) < 0 || view_words(q, &words, err) < 0)
		return -1;
	s = stream_new(q, err);
	if (!s)
		return -1;
	rc = wr_place_of_find(c->node, &q->row.id, &place, err);
	if (rc == 0 && (pipe2(out, O_CLOEXEC) < 0 || pipe2(side, O_CLOEXEC) < 0))
		rc = wr_err_sys(err, "make a pipe");
	if (rc == 0)
		rc = wr_view_begin(&place, words, json, wr_call_bool(&q->call, "tty", false),
				   out[1], side[1], &pid, err);
	wr_closep(&out[1]);
	wr_closep(&side[1]);
	wr_place_of_fini(&place);
	if (rc < 0) {
		wr_closep(&out[0]);
		wr_closep(&side[0]);
		s->q = NULL;
		stream_free(s);
		return -1;
	}
	stream_go(s, pid, side[0], type, out[0]);
	return 0;
}

/* ---- text that control has itself ---- */

static void
on_writable(struct wr_watch *w, uint32_t events WR_UNUSED)
{
	struct wr_stream *s = WR_OWNER(w, struct wr_stream, side);
	ssize_t n = write(s->side_fd, s->text.p + s->sent, s->text.len - s->sent);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n >= 0)
		s->sent += (size_t)n;
	if (n >= 0 && s->sent < s->text.len)
		return;
	/* All is out, or nobody reads: the front is told, or has said so itself. */
	if (s->q) {
		struct wr_req *q = wr_steal(&s->q);

		q->stream = NULL;
		wr_req_end(q, 0, NULL);
	}
	stream_free(s);
}

int
wr_stream_text(struct wr_req *q, struct wr_buf *text, struct wr_err *err)
{
	struct wr_stream *s = stream_new(q, err);
	int out[2];

	if (!s)
		return -1;
	if (pipe2(out, O_CLOEXEC | O_NONBLOCK) < 0) {
		s->q = NULL;
		stream_free(s);
		return wr_err_sys(err, "make a pipe");
	}
	s->text = *text;
	*text = (struct wr_buf)WR_BUF_INIT;
	s->side_fd = out[1];
	q->stream = s;
	wr_watch_on(&s->c->loop, &s->side, out[1], EPOLLOUT, on_writable);
	wr_req_stream(q, "text/plain; charset=utf-8", out[0]);
	return 0;
}

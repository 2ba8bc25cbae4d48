/* SPDX-License-Identifier: Apache-2.0 */
/* The process of one operation: what it is given, what it leaves behind. */
#include "host/life/life_int.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "host/node/room.h"
#include "sys/clock.h"
#include "sys/crash.h"
#include "sys/fs.h"

#define LOCK_FD 3
/* LIMIT: progress is written at most that often. */
#define PROGRESS_NS UINT64_C(100000000)

/* Set by SIGTERM; read by the wait for a worker. */
static volatile int cancel;

static void
on_term(int sig)
{
	(void)sig;
	cancel = 1;
}

/* ---- steps and progress ---- */

void
wr_life_crash(const struct wr_life *l, const char *where)
{
	WR_SCOPED(wr_freep)
	char *name = wr_asprintf("life.%s.%s", wr_op_kind_name(l->kind), where);

	wr_crash_point(name);
}

static double
seconds_since(uint64_t ns)
{
	return (double)(wr_clock_mono_ns() - ns) / 1e9;
}

static void
step_end(struct wr_life *l)
{
	if (l->status.step[0])
		wr_log(WR_LOG_NOTICE, "step=%s seconds=%.3f", l->status.step,
		       seconds_since(l->step_ns));
}

/* Progress is worth nothing after a crash, and a full disk shall not end an operation because of
 * it. */
static void
show_progress(struct wr_life *l)
{
	if (l->state_begun)
		(void)wr_status_store(&l->place, &l->status, false, NULL);
	(void)wr_opdir_progress_store(l->op_fd, &l->status, NULL);
	l->progress_ns = wr_clock_mono_ns();
}

void
wr_life_show(struct wr_life *l)
{
	if (wr_clock_mono_ns() - l->progress_ns >= PROGRESS_NS)
		show_progress(l);
}

bool
wr_life_cancelled(const struct wr_life *l)
{
	return cancel && !l->no_cancel;
}

void
wr_life_step(struct wr_life *l, const char *step)
{
	struct wr_status *s = &l->status;

	wr_assert(wr_step_known(step));
	step_end(l);
	snprintf(s->step, sizeof(s->step), "%s", step);
	s->done = s->total = s->files = s->files_total = s->bytes = s->bytes_total = 0;
	s->target_count = 0;
	s->unit[0] = '\0';
	l->step_ns = wr_clock_mono_ns();
	show_progress(l);
}

static void
on_progress(void *ctx, const char *step, uint64_t files, uint64_t files_total, uint64_t bytes,
	    uint64_t bytes_total)
{
	struct wr_life *l = ctx;
	struct wr_status *s = &l->status;

	if (step && *step && wr_step_known(step) && strcmp(step, s->step) != 0)
		wr_life_step(l, step);
	s->files = files, s->files_total = files_total;
	s->bytes = bytes, s->bytes_total = bytes_total;
	if (bytes_total || !files_total) {
		s->done = bytes, s->total = bytes_total;
		snprintf(s->unit, sizeof(s->unit), "bytes");
	} else {
		s->done = files, s->total = files_total;
		snprintf(s->unit, sizeof(s->unit), "files");
	}
	wr_life_show(l);
}

void
wr_life_warn(struct wr_life *l, const char *fmt, ...)
{
	char text[1600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	wr_log(WR_LOG_WARNING, "%s", text);
	wr_json_add_str(l->warnings, text);
}

/* ---- parts ---- */

int
wr_life_work_store(struct wr_life *l, struct wr_err *err)
{
	if (wr_work_store(l->node, &l->project, &l->work, err) < 0)
		return wr_err_wrap(err, "work record");
	return 0;
}

static int
run_task(struct wr_life *l, enum wr_task_kind kind, json_t *args, int tree_fd, int source_fd,
	 json_t **out_result, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *own = args;
	struct wr_task t = WR_TASK_INIT;

	t.kind = kind;
	t.place = kind == WR_TASK_REMOVE ? NULL : &l->place;
	t.uid = l->set.uid;
	t.gid = l->set.gid;
	t.args = own;
	t.tree_fd = tree_fd;
	t.source_fd = source_fd;
	t.log_fd = STDERR_FILENO;
	t.progress = on_progress;
	t.ctx = l;
	t.cancel = l->no_cancel ? NULL : &cancel;
	return wr_task_run(&t, out_result, err);
}

int
wr_life_task(struct wr_life *l, enum wr_task_kind kind, json_t *args, int source_fd,
	     json_t **out_result, struct wr_err *err)
{
	return run_task(l, kind, args, -1, source_fd, out_result, err);
}

int
wr_life_task_in(struct wr_life *l, enum wr_task_kind kind, json_t *args, int tree_fd,
		json_t **out_result, struct wr_err *err)
{
	return run_task(l, kind, args, tree_fd, -1, out_result, err);
}

void
wr_life_processes(struct wr_life *l, struct wr_runner_status *out)
{
	memset(out, 0, sizeof(*out));
	wr_runner_status(l->node, &l->project, l->set.uid, l->set.exclusive && l->node->root_mode,
			 false, out);
}

json_t *
wr_life_receipt(const struct wr_life *l, const char *schema)
{
	json_t *o = wr_json_begin(schema);

	wr_json_str(o, "project", l->project.s);
	wr_json_str(o, "name", l->set.name);
	wr_json_str(o, "op", l->op.s);
	wr_json_str(o, "node", l->node->id.s);
	wr_json_u64(o, "epoch", l->set.epoch);
	wr_json_time(o, "started", l->started);
	return o;
}

int
wr_life_fsync(int fd, const char *what, struct wr_err *err)
{
	if (fsync(fd) < 0)
		return wr_err_sys(err, "sync directory '%s'", what);
	return 0;
}

/* ---- places ---- */

void
wr_life_shadow(struct wr_life *l, size_t tree_vol, int projects_fd, size_t repo_vol, int repos_fd)
{
	struct wr_life_shadow *s = &l->shadow;

	wr_place_of_fini(&l->place);
	s->node = *l->node;
	s->volume[0] = l->node->volume[tree_vol];
	s->volume[1] = l->node->volume[repo_vol];
	s->volume[0].projects_fd = projects_fd;
	s->volume[1].repos_fd = repos_fd;
	s->node.volume = s->volume;
	s->node.volume_count = 2;
	l->place = (struct wr_place_of){
	    .node = &s->node, .id = l->project, .tree_vol = 0, .repo_vol = 1, .conf_fd = -1};
}

void
wr_life_unshadow(struct wr_life *l)
{
	struct wr_life_shadow *s = &l->shadow;

	if (!s->node.volume)
		return;
	wr_closep(&s->volume[0].projects_fd);
	wr_closep(&s->volume[1].repos_fd);
	for (size_t i = 0; i < l->node->volume_count; i++) {
		const struct wr_uuid *id = &l->node->volume[i].id;

		if (!strcmp(id->s, s->volume[0].id.s))
			l->place.tree_vol = i;
		if (!strcmp(id->s, s->volume[1].id.s))
			l->place.repo_vol = i;
	}
	s->node.volume = NULL;
	l->place.node = l->node;
}

bool
wr_life_may_be_in(int parent_fd, const char *sub, const char *id)
{
	WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/%s", sub, id);

	return parent_fd >= 0 &&
	       (faccessat(parent_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT);
}

int
wr_life_move(int from_fd, int to_fd, const char *name, struct wr_err *err)
{
	if (renameat2(from_fd, name, to_fd, name, RENAME_NOREPLACE) < 0)
		return wr_err_sys(err, "move directory '%s'", name);
	/* DURABLE: where it is now before where it was: a crash in between shows it twice at most.
	 */
	if (wr_life_fsync(to_fd, name, err) < 0)
		return -1;
	return wr_life_fsync(from_fd, name, err);
}

int
wr_life_remove(struct wr_life *l, int dir_fd, const char *name, uint64_t *io_files,
	       uint64_t *io_bytes, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *r = NULL;
	json_t *args;

	if (faccessat(dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
		return 0;
	args = json_object();
	wr_json_str(args, "name", name);
	if (wr_life_task(l, WR_TASK_REMOVE, args, dir_fd, &r, err) < 0)
		return -1;
	if (io_files)
		*io_files += wr_json_get_u64(r, "files", 0);
	if (io_bytes)
		*io_bytes += wr_json_get_u64(r, "bytes", 0);
	return 0;
}

/* ---- begin ---- */

/* The descriptor we were handed must be this very project's lock, or it protects nothing. */
static int
check_lock(struct wr_life *l, struct wr_err *err)
{
	int conf = wr_conf_fd(&l->place, err);
	struct stat ours, here;

	if (conf < 0)
		return -1;
	if (l->lock.fd < 0)
		return wr_err_set(err, WR_E_INVALID, "no lock was handed to this operation");
	if (fstat(l->lock.fd, &ours) < 0)
		return wr_err_sys(err, "stat the lock");
	if (fstatat(conf, "lock", &here, AT_SYMLINK_NOFOLLOW) < 0)
		return wr_err_sys(err, "stat 'conf/lock' of project '%s'", l->project.s);
	if (ours.st_dev != here.st_dev || ours.st_ino != here.st_ino)
		return wr_err_set(err, WR_E_INVALID,
				  "the lock handed over is not that of project '%s'", l->project.s);
	/* Held by this open file already: succeeds. Otherwise whoever has it is named by control.
	 */
	if (flock(l->lock.fd, LOCK_EX | LOCK_NB) < 0)
		return wr_err_set(err, WR_E_BUSY, "the lock of project '%s' is held by another",
				  l->project.s);
	return 0;
}

int
wr_life_lock_conf(struct wr_life *l, int conf_fd, struct wr_err *err)
{
	WR_SCOPED(wr_freep)
	char *note = wr_asprintf("op %s %s by %s since %s pid %d", l->op.s,
				 wr_op_kind_name(l->kind), wr_json_get_str(l->request, "by", "?"),
				 wr_fmt_utc(l->started).s, (int)getpid());

	struct stat ours, here;

	if (l->lock.fd >= 0 && fstat(l->lock.fd, &ours) == 0 &&
	    fstatat(conf_fd, "lock", &here, AT_SYMLINK_NOFOLLOW) == 0 &&
	    ours.st_dev == here.st_dev && ours.st_ino == here.st_ino &&
	    flock(l->lock.fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	wr_closep(&l->lock.fd); /* of something else: it protects nothing here */
	if (wr_lock_take(&l->lock, conf_fd, "lock", 0, "", NULL, err) < 0)
		return -1;
	(void)wr_lock_note(&l->lock, note, NULL); /* for people: a full disk must not matter */
	return 0;
}

int
wr_life_load(struct wr_life *l, struct wr_err *err)
{
	const json_t *conf = wr_json_get_obj(l->request, "conf");

	/* Not conf/settings.json: the repositories' user could write that. */
	if (!conf)
		return wr_err_set(err, WR_E_INVALID, "the request has no settings");
	if (wr_settings_parse(conf, &l->set, err) < 0)
		return wr_err_wrap(err, "settings of project '%s'", l->project.s);
	if (strcmp(l->set.id.s, l->project.s) != 0)
		return wr_err_set(err, WR_E_INVALID, "the settings are those of project '%s'",
				  l->set.id.s);
	free(l->home);
	l->home = wr_settings_home(&l->set, l->node->root ? l->node->root : "");
	if (wr_life_fleet_load(l, err) == 0) {
		if (wr_work_load(l->node, &l->project, &l->work, err) == 0)
			return 0;
		wr_err_wrap(err, "work record of project '%s'", l->set.name);
	}
	if (l->kind != WR_OP_STOP)
		return -1;
	/* What runs can be ended without it. */
	l->no_work = true;
	wr_life_warn(l, "%s; nothing was saved", err->msg);
	*err = (struct wr_err)WR_ERR_INIT;
	return 0;
}

static void
status_begin(struct wr_life *l, enum wr_state state)
{
	l->status = (struct wr_status){.state = state, .when = l->started, .epoch = 1};
	snprintf(l->status.op, sizeof(l->status.op), "%s", l->op.s);
	snprintf(l->status.op_kind, sizeof(l->status.op_kind), "%s", wr_op_kind_name(l->kind));
	snprintf(l->status.node, sizeof(l->status.node), "%s", l->node->id.s);
}

int
wr_life_state_begin(struct wr_life *l, struct wr_err *err)
{
	struct wr_status settled;
	enum wr_state next;
	bool stale;

	wr_status_load(&l->place, &l->before);
	/* We hold the lock: whatever is said to be going on is over. */
	stale = wr_life_settle(&l->place, &l->set, &l->before, &settled);
	if (stale)
		l->before = settled;
	l->before.active = wr_life_presented(&l->place, &l->set);
	next = wr_state_next(l->before.state, l->kind, WR_EV_BEGIN, l->before.active);
	if (l->kind == WR_OP_START && l->before.state == WR_ST_RUNNING && wr_life_runs(l)) {
		l->nothing_to_do = true;
		return stale ? wr_status_store(&l->place, &l->before, true, err) : 0;
	}
	if (next == WR_ST_UNSET) {
		wr_err_set(err, WR_E_BUSY, "project '%s' is %s: no %s now", l->set.name,
			   wr_state_name(l->before.state), wr_op_kind_name(l->kind));
		return wr_err_hint(err, "warren status %s", l->set.name);
	}
	status_begin(l, next);
	l->status.active = l->before.active;
	l->status.epoch = l->set.epoch;
	memcpy(l->status.notice, l->before.notice, sizeof(l->status.notice));
	l->status.notice_count = l->before.notice_count;
	if (wr_life_stays_wrong(&l->before, l->kind))
		l->status.error = l->before.error; /* for whoever settles this, if we cannot */
	if (wr_status_store(&l->place, &l->status, true, err) < 0) {
		wr_err_wrap(err, "state of project '%s'", l->set.name);
		/* What runs is ended all the same; whoever looks next puts the state right. */
		if (l->kind != WR_OP_STOP || err->code != WR_E_NOSPACE)
			return -1;
		wr_life_warn(l, "%s", err->msg);
		*err = (struct wr_err)WR_ERR_INIT;
	}
	l->state_begun = true;
	wr_life_crash(l, "begun");
	return 0;
}

/*
 * A copy's files may be stopped, brought to the newest state and, if someone worked on them while
 * this node was the writer (W6), saved to the side; nothing else.
 */
static int
check_writer(struct wr_life *l, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;

	if (l->kind == WR_OP_DELETE || wr_life_may_write(l, &why) == 0) {
		if (l->kind != WR_OP_UPDATE || !l->auth)
			return 0;
		return wr_err_set(err, WR_E_DENIED, "the files of '%s' are kept here", l->set.name);
	}
	l->copy = true;
	if (l->kind == WR_OP_STOP || l->kind == WR_OP_UPDATE || l->kind == WR_OP_DROP ||
	    (l->kind == WR_OP_SAVE && l->work.dirty))
		return 0;
	*err = why;
	return -1;
}

int
wr_life_begin(struct wr_life *l, struct wr_err *err)
{
	if (wr_place_of_find(l->node, &l->project, &l->place, err) < 0)
		return wr_err_wrap(err, "project '%s'", l->project.s);
	if (check_lock(l, err) < 0 || wr_life_load(l, err) < 0)
		return -1;
	if (l->work.purged ||
	    (l->work.deleted && l->kind != WR_OP_DELETE && l->kind != WR_OP_DROP)) {
		wr_err_set(err, WR_E_NOT_FOUND, "project '%s' is deleted", l->set.name);
		return wr_err_hint(err, "warren undelete %s", l->project.s);
	}
	if (check_writer(l, err) < 0)
		return -1;
	return wr_life_state_begin(l, err);
}

/* ---- end ---- */

/* What has to work on a full volume is given room on those where the project lies. A stop does with
 * what its state takes: its save is not what the reserve is for. */
static void
make_room(struct wr_life *l)
{
	static const bool must[WR_OP_KINDS] = {
	    [WR_OP_START] = true,    [WR_OP_DELETE] = true, [WR_OP_DROP] = true,
	    [WR_OP_UNDELETE] = true, [WR_OP_PURGE] = true,
	};
	WR_SCOPED(wr_freep) char *trashed = wr_asprintf(".trash/%s", l->project.s);

	if (!must[l->kind])
		return;
	for (size_t i = 0; i < l->node->volume_count; i++) {
		const struct wr_volume *v = &l->node->volume[i];

		if (faccessat(v->projects_fd, l->project.s, F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
		    faccessat(v->repos_fd, l->project.s, F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
		    faccessat(v->projects_fd, trashed, F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
		    faccessat(v->repos_fd, trashed, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			wr_room_make(v);
	}
	wr_room_make_state(l->node);
}

static int
store_result(struct wr_life *l, json_t *receipt, const struct wr_err *why, int exit_status,
	     struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = json_object();

	wr_json_u64(o, "format", 1);
	wr_json_bool(o, "ok", receipt != NULL);
	wr_json_u64(o, "exit", (uint64_t)exit_status);
	if (receipt)
		json_object_set(o, "receipt", receipt);
	else
		wr_json_null(o, "receipt");
	if (receipt)
		wr_json_null(o, "error");
	else
		wr_json_err(o, "error", why);
	wr_json_str(o, "step", l->status.step);
	if (wr_opdir_result_store(l->op_fd, o, err) == 0)
		return 0;
	if (err->code != WR_E_NOSPACE)
		return -1;
	wr_room_make_state(l->node);
	return wr_opdir_result_store(l->op_fd, o, err);
}

static bool
changes_files(enum wr_op_kind k)
{
	return k == WR_OP_RESTORE || k == WR_OP_UNDO || k == WR_OP_COPY;
}

bool
wr_life_stays_wrong(const struct wr_status *before, enum wr_op_kind kind)
{
	enum wr_op_kind blame = wr_op_kind_parse(before->op_kind);

	/* Where no operation is to blame, the state could not be read; now it can. */
	if (before->state != WR_ST_ERROR || !*before->op)
		return false;
	return kind == WR_OP_SAVE || (changes_files(kind) && !changes_files(blame));
}

bool
wr_life_runs(struct wr_life *l)
{
	struct wr_runner_status run;

	if (!*wr_settings_str(&l->set, "command"))
		return true;
	wr_life_processes(l, &run);
	return run.keeper || run.main;
}

/* The state after the operation, by the table. An operation that failed before it changed anything
 * leaves the state it found. */
static void
state_end(struct wr_life *l, bool ok, const struct wr_err *why)
{
	struct wr_status s = l->status;
	struct wr_err err = WR_ERR_INIT;
	bool back = (!ok && !l->changed) || wr_life_stays_wrong(&l->before, l->kind);

	if (back)
		s = l->before;
	s.active = wr_life_presented(&l->place, &l->set);
	if (!back) {
		s.state = wr_state_next(l->status.state, l->kind, ok ? WR_EV_DONE : WR_EV_FAILED,
					s.active);
		if (s.state == WR_ST_UNSET)
			s.state = s.active ? WR_ST_RUNNING : WR_ST_STOPPED;
		s.when = wr_clock_wall().s;
		s.error = (struct wr_err)WR_ERR_INIT;
		if (s.state == WR_ST_ERROR && !ok)
			s.error = *why;
		else if (s.state == WR_ST_ERROR && l->before.state == WR_ST_ERROR &&
			 l->status.state == WR_ST_ERROR)
			s = l->before; /* what it did was not what is wrong */
		else if (s.state == WR_ST_ERROR)
			wr_err_set(&s.error, WR_E_FAILED, "the home of '%s' is %s after %s",
				   l->set.name, s.active ? "still there" : "not there",
				   wr_op_kind_name(l->kind));
		else
			s.step[0] = s.op[0] = s.op_kind[0] = '\0';
		s.done = s.total = s.files = s.files_total = s.bytes = s.bytes_total = 0;
		s.target_count = 0;
		s.unit[0] = '\0';
	}
	if (wr_status_store(&l->place, &s, true, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "state", &err); /* settled by whoever looks next */
}

static int
finish(struct wr_life *l, json_t *receipt, struct wr_err *why)
{
	struct wr_err err = WR_ERR_INIT;
	int64_t now = wr_clock_wall().s;
	int status;

	step_end(l);
	if (receipt) {
		wr_json_time(receipt, "finished", now);
		wr_json_real(receipt, "seconds", seconds_since(l->begin_ns));
		if (json_array_size(l->warnings))
			json_object_set(receipt, "warnings", l->warnings);
		status = l->refused ? 4 : json_array_size(l->warnings) || l->skipped ? 3 : 0;
		wr_log(WR_LOG_NOTICE, "%s done seconds=%.3f exit=%d", wr_op_kind_name(l->kind),
		       seconds_since(l->begin_ns), status);
	} else {
		status = wr_err_exit(why->code);
		wr_log_err(WR_LOG_ERROR, wr_op_kind_name(l->kind), why);
	}
	/* DURABLE: the result first: a state that says "over" with no result would be called
	 * interrupted, a result with a stale state is put right by it. */
	if (store_result(l, receipt, why, status, &err) < 0) {
		wr_log_err(WR_LOG_ERROR, "result", &err);
		status = 1;
	}
	wr_life_crash(l, "result");
	if (l->state_begun)
		state_end(l, receipt != NULL, why);
	return status;
}

/* A volume that is not there, and the like: said by a result too, or it would look like a crash. */
static void
tell_unopened(struct wr_life *l, const char *root, struct wr_err *why)
{
	struct wr_err err = WR_ERR_INIT;

	if (l->node || wr_node_open(strcmp(root, "-") ? root : NULL,
				    WR_NODE_NO_VOLUMES | WR_NODE_OF_DAEMON, &l->node, &err) < 0)
		return;
	l->op_fd = wr_opdir_open(l->node, &l->op, &err);
	if (l->op_fd < 0 || store_result(l, NULL, why, wr_err_exit(why->code), &err) < 0)
		wr_log_err(WR_LOG_ERROR, "result", &err);
}

/* ---- entry ---- */

static json_t *
run(struct wr_life *l, struct wr_err *err)
{
	static json_t *(*const fn[WR_OP_KINDS])(struct wr_life *, struct wr_err *) = {
	    [WR_OP_CREATE] = wr_life_create,
	    [WR_OP_START] = wr_life_start,
	    [WR_OP_STOP] = wr_life_stop,
	    [WR_OP_RESTART] = wr_life_restart,
	    [WR_OP_SAVE] = wr_life_save,
	    [WR_OP_RESTORE] = wr_life_restore,
	    [WR_OP_UNDO] = wr_life_restore,
	    [WR_OP_CHOWN] = wr_life_chown,
	    [WR_OP_COPY] = wr_life_copy,
	    [WR_OP_DELETE] = wr_life_delete,
	    [WR_OP_UNDELETE] = wr_life_undelete,
	    [WR_OP_PURGE] = wr_life_purge,
	    [WR_OP_REPLICATE] = wr_life_replicate_op,
	    [WR_OP_UPDATE] = wr_life_update,
	    [WR_OP_DROP] = wr_life_drop,
	};

	return fn[l->kind](l, err);
}

static void
life_fini(struct wr_life *l)
{
	wr_settings_fini(&l->set);
	wr_work_fini(&l->work);
	wr_member_fini(&l->ms);
	wr_auth_close(l->auth);
	free(l->home);
	if (l->token)
		explicit_bzero(l->token, strlen(l->token));
	free(l->token);
	json_decref(l->warnings);
	json_decref(l->request);
	wr_place_of_fini(&l->place);
	wr_life_unshadow(l);
	/* DURABLE: everything else is on disk; whoever takes the lock next finds it. */
	wr_lock_drop(&l->lock);
	wr_closep(&l->op_fd);
	wr_node_close(l->node);
}

static int
open_request(struct wr_life *l, const char *root, const char *op, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *result = NULL;
	const char *s;

	if (!wr_uuid_parse(op, &l->op))
		return wr_err_set(err, WR_E_INVALID, "'%s' is no id of an operation", WR_Q(op));
	if (wr_node_open(strcmp(root, "-") ? root : NULL, WR_NODE_OF_DAEMON | WR_NODE_SOME_VOLUMES,
			 &l->node, err) < 0)
		return -1;
	l->op_fd = wr_opdir_open(l->node, &l->op, err);
	if (l->op_fd < 0)
		return -1;
	l->request = wr_opdir_request(l->op_fd, err);
	if (!l->request)
		return -1;
	result = wr_opdir_result(l->op_fd, NULL);
	if (result)
		return wr_err_set(err, WR_E_EXISTS, "operation '%s' has ended already", l->op.s);
	s = wr_json_get_str(l->request, "kind", "");
	l->kind = wr_op_kind_parse(s);
	if (l->kind == WR_OP_NONE)
		return wr_err_set(err, WR_E_UNSUPPORTED, "no such kind of operation: '%s'",
				  WR_Q(s));
	s = wr_json_get_str(l->request, "project", "");
	if (!wr_uuid_parse(s, &l->project))
		return wr_err_set(err, WR_E_INVALID, "'%s' is no id of a project", WR_Q(s));
	l->args = wr_json_get_obj(l->request, "args");
	snprintf(l->tag, sizeof(l->tag), "before-%.8s", l->op.s);
	status_begin(l, WR_ST_ABSENT); /* until the project's own state says more */
	return 0;
}

static void
take_token(struct wr_life *l)
{
	char *t = getenv("WARREN_OP_TOKEN");

	if (!t)
		return;
	l->token = wr_strdup(t);
	explicit_bzero(t, strlen(t));
	unsetenv("WARREN_OP_TOKEN");
}

int
wr_life_main(int argc, char **argv)
{
	struct sigaction term = {.sa_handler = on_term};
	struct wr_life l = {.place = WR_PLACE_OF_INIT,
			    .op_fd = -1,
			    .lock = WR_LOCK_INIT,
			    .started = wr_clock_wall().s,
			    .begin_ns = wr_clock_mono_ns()};
	struct wr_err err = WR_ERR_INIT;
	WR_SCOPED(wr_json_freep) json_t *receipt = NULL;
	struct wr_oplog *log = NULL;
	int log_fd = -1, status;

	/* Before anything is started: no worker, keeper or hook may hold the lock. */
	if (fcntl(LOCK_FD, F_SETFD, FD_CLOEXEC) == 0)
		l.lock.fd = LOCK_FD;
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	sigaction(SIGTERM, &term, NULL);
	umask(022);
	wr_log_init("op", WR_LOG_NOTICE, false);
	l.warnings = json_array();
	take_token(&l);
	if (argc != 3) {
		wr_err_set(&err, WR_E_USAGE, "an operation is started by the daemon alone");
		wr_log_err(WR_LOG_ERROR, "op", &err);
		life_fini(&l);
		return 2;
	}
	if (open_request(&l, argv[1], argv[2], &err) < 0) {
		wr_log_err(WR_LOG_ERROR, "op", &err);
		status = wr_err_exit(err.code);
		tell_unopened(&l, argv[1], &err);
		life_fini(&l);
		return status;
	}
	if (!wr_op_cancellable(l.kind)) {
		/* A stop because the host goes down gives up its save when the time is over. */
		if (!wr_life_arg_bool(&l, "comes_back"))
			signal(SIGTERM, SIG_IGN);
		l.no_cancel = true;
	}
	if (wr_oplog_begin(l.op_fd, "log", &log, &log_fd, &err) < 0 ||
	    dup2(log_fd, STDERR_FILENO) < 0)
		wr_log_err(WR_LOG_WARNING, "log", &err); /* then it goes where the daemon's goes */
	wr_log(WR_LOG_NOTICE, "op=%s kind=%s project=%s by=%s", l.op.s, wr_op_kind_name(l.kind),
	       l.project.s, WR_Q(wr_json_get_str(l.request, "by", "")));
	make_room(&l);
	receipt = run(&l, &err);
	status = finish(&l, receipt, &err);
	life_fini(&l);
	if (log) {
		int none = open("/dev/null", O_WRONLY | O_CLOEXEC);

		/* The log ends when the last descriptor of it is closed. */
		if (none >= 0)
			dup2(none, STDERR_FILENO);
		wr_closep(&none);
		wr_closep(&log_fd);
		wr_oplog_end(log);
	}
	return status;
}

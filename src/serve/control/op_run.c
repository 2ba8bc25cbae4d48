/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An operation begins and ends: the lock, the desired state and the row durable, its process; then
 * what its result.json says. Each end lets the next begin, from the loop.
 */
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "serve/control/control_int.h"
#include "serve/control/deletion.h"
#include "serve/control/drops.h"
#include "serve/control/marks.h"
#include "serve/control/notices.h"
#include "serve/control/queue_int.h"
#include "serve/control/replicas.h"
#include "sys/clock.h"
#include "sys/crash.h"
#include "sys/fs.h"

/* A lock that is held outside of our queue is asked for again after this long. */
#define LOCK_AGAIN_NS (WR_SECOND / 5)

/* Those work on what has no place yet, or none any more, and the operation takes the lock itself;
 * or they need none. */
static bool
locks_itself(enum wr_op_kind k)
{
	return k == WR_OP_CREATE || k == WR_OP_UNDELETE || k == WR_OP_PURGE || k == WR_OP_REPLICATE;
}

static char *
lock_note(const struct wr_op *o, pid_t pid)
{
	return wr_asprintf("op %s %s by %s since %s pid %d", o->row.id.s,
			   wr_op_kind_name(o->row.kind), o->row.by, wr_fmt_utc(wr_clock_wall().s).s,
			   (int)pid);
}

int
wr_op_take_lock(struct wr_op *o, struct wr_err *err)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	WR_SCOPED(wr_freep) char *note = NULL;
	int rc;

	if (locks_itself(o->row.kind) || o->lock.fd >= 0)
		return 0;
	note = lock_note(o, getpid());
	rc = wr_place_of_find(o->c->node, &o->row.project, &place, err);
	if (rc == 0)
		rc = wr_life_lock(&place, 0, note, &o->lock, err);
	wr_place_of_fini(&place);
	return rc;
}

/* Waited too long to be started. */
static void
wait_over(struct wr_timer *t)
{
	struct wr_op *o = WR_OWNER(t, struct wr_op, patience);
	struct wr_err err = WR_ERR_INIT;

	/* Whoever holds the lock outside is named. */
	if (o->row.kind == WR_OP_REPLICATE || o->p->first != o || o->p->run ||
	    wr_op_take_lock(o, &err) == 0) {
		wr_err_set(&err, WR_E_BUSY, "the project stayed busy as long as it was to wait");
		wr_err_hint(&err, "see 'warren op list'");
	}
	wr_op_end(o, WR_OPS_FAILED, NULL, &err, "");
}

void
wr_op_wait(struct wr_op *o, uint64_t seconds)
{
	wr_timer_on(&o->c->loop, &o->patience, seconds * WR_SECOND, wait_over);
}

/* The copies that waited for this save of their source. */
static void
copies_go_on(struct wr_op *save, enum wr_op_state state, const json_t *receipt,
	     const struct wr_err *why)
{
	struct wr_control *c = save->c;
	struct wr_op **at = &c->beside, *o;
	struct wr_err err = WR_ERR_INIT;

	while ((o = *at)) {
		const char *commit = wr_json_get_str(receipt, "commit", NULL);

		if (strcmp(o->source_save.s, save->row.id.s) != 0) {
			at = &o->next;
			continue;
		}
		if (state != WR_OPS_DONE) {
			err = *why;
			wr_err_wrap(&err, "save of the source");
			wr_op_end(o, WR_OPS_FAILED, NULL, &err, "");
			at = &c->beside; /* the list may be another one by now */
			continue;
		}
		if (commit)
			wr_json_str(o->args, "from_snapshot", commit);
		wr_op_args_changed(o);
		if (wr_op_store(o, &err) < 0)
			wr_log_err(WR_LOG_ERROR, "record an operation", &err);
		wr_op_unlink(o);
		o->next = NULL;
		wr_op_append(o);
		wr_op_wait(o, WR_OP_PATIENCE_S);
	}
}

static void
on_kick(struct wr_timer *t)
{
	struct wr_control *c = WR_OWNER(t, struct wr_control, kick);

	wr_back_next(c);
	wr_ops_kick(c);
	for (size_t i = c->proj_count; i-- > 0;)
		wr_proj_rest(c->proj[i]);
}

/* receipt is taken; why: unless it is done. */
void
wr_op_end(struct wr_op *o, enum wr_op_state state, json_t *receipt, const struct wr_err *why,
	  const char *step)
{
	struct wr_control *c = o->c;
	struct wr_proj *p = o->p;
	struct wr_err err = WR_ERR_INIT;
	struct wr_uuid id = o->row.id;
	struct wr_buf b = WR_BUF_INIT;
	bool quiet = wr_op_is_quiet(o, state, receipt), back = o->back;
	struct wr_proj_row row = {0};
	struct wr_status st = {0};
	int rc;

	o->row.state = state;
	o->row.finished = wr_clock_wall().s;
	snprintf(o->row.step, sizeof(o->row.step), "%s", step ? step : "");
	free(o->row.receipt);
	free(o->row.error);
	o->row.receipt = o->row.error = NULL;
	if (receipt) {
		wr_json_write(receipt, &b);
		o->row.receipt = wr_buf_detach(&b, NULL);
	}
	if (why) {
		WR_SCOPED(wr_json_freep) json_t *e = json_object();

		wr_json_err(e, "error", why);
		wr_json_write(json_object_get(e, "error"), &b);
		o->row.error = wr_buf_detach(&b, NULL);
	}
	wr_op_unlink(o);
	wr_crash_point("control.op-ended");
	/* Where the database cannot be written it is tried again; and result.json has it for the
	 * next start. */
	rc = wr_ops_record_pending(c, &err);
	if (rc == 0)
		rc = wr_store_begin(c->store, &err);
	if (rc == 0 && (rc = wr_op_record_end(o, state, receipt, &err)) < 0)
		wr_store_abort(c->store);
	wr_op_tell_end(o, state, receipt, why);
	if (rc == 0)
		rc = wr_store_commit(c->store, &err);
	if (rc < 0)
		wr_log_err(WR_LOG_ERROR, "record the end of an operation", &err);
	if (rc < 0 && why)
		wr_op_leave_end(o, why);
	if (quiet)
		p->spare = id;
	copies_go_on(o, state, receipt, why);
	wr_fleet_touch(c);
	wr_copies_op_ended(c, &o->row, receipt, why);
	wr_drop_op_ended(c, &o->row, why);
	wr_deletion_op_ended(c, &o->row);
	wr_fill_op_ended(c, &o->row, receipt);
	while (o->watches) {
		struct wr_op_watch *w = o->watches;

		o->watches = w->next;
		w->fn(w, receipt, why);
	}
	if (rc < 0)
		wr_op_record_later(o);
	/* What it left may not be at rest, also where nobody wants the project active.
	 * Whoever waits finds all of it. */
	if (wr_row_find(c, &p->id, &row, NULL) == 0) {
		wr_row_status(c, &row, &st);
		wr_notices_check(c, &row);
		wr_proj_row_fini(&row);
	}
	while (o->waiters)
		wr_req_reply_op(o->waiters, &id);
	json_decref(receipt);
	if (rc == 0) {
		wr_op_free(o);
		wr_ops_trim(c, &p->id);
	}
	if (back)
		c->back_running--;
	/* From the loop: callers still use what a wr_op_kick could end. */
	wr_timer_on(&c->loop, &c->kick, 0, on_kick);
}

/* Its process is gone: what did it leave? */
void
wr_op_collect(struct wr_op *o, int wait_status)
{
	struct wr_err why = WR_ERR_INIT, err = WR_ERR_INIT;
	struct wr_control *c = o->c;
	WR_SCOPED(wr_closep) int fd = wr_opdir_open(c->node, &o->row.id, &err);
	WR_SCOPED(wr_json_freep) json_t *result = fd >= 0 ? wr_opdir_result(fd, &err) : NULL;
	struct wr_proj_row row = {0};
	struct wr_status st = {0};
	char step[32];

	if (result) {
		json_t *receipt = wr_json_get_obj(result, "receipt");
		const json_t *e = wr_json_get_obj(result, "error");
		bool ok = wr_json_get_bool(result, "ok", false);
		uint64_t exit = wr_json_get_u64(result, "exit", 0);

		snprintf(step, sizeof(step), "%s", wr_json_get_str(result, "step", ""));
		if (ok) {
			receipt = receipt ? json_incref(receipt) : json_object();
			if (exit)
				wr_json_u64(receipt, "exit", exit);
			wr_op_end(o, WR_OPS_DONE, receipt, NULL, step);
			return;
		}
		if (e)
			wr_json_get_err(e, &why);
		if (why.code == WR_E_NONE)
			wr_err_set(&why, WR_E_FAILED, "it failed and does not say why");
		wr_op_end(o, why.code == WR_E_CANCELLED ? WR_OPS_CANCELLED : WR_OPS_FAILED, NULL,
			  &why, step);
		return;
	}
	step[0] = '\0';
	if (fd >= 0 && wr_opdir_progress(fd, &st, NULL) == 0)
		snprintf(step, sizeof(step), "%s", st.step);
	if (wait_status >= 0 && WIFSIGNALED(wait_status))
		wr_err_set(&why, WR_E_FAILED, "interrupted: its process was ended by signal %d",
			   WTERMSIG(wait_status));
	else
		wr_err_set(&why, WR_E_FAILED, "interrupted: its process ended without a result");
	wr_err_hint(&why, "do it again: what it left is put right first");
	if (wr_row_find(c, &o->row.project, &row, NULL) == 0) {
		struct wr_proj *p = o->p;
		struct wr_op *run = p->run;

		/* Not live any more for the rule that puts states right. */
		if (run == o)
			p->run = NULL;
		wr_row_status(c, &row, &st);
		p->run = run;
		wr_proj_row_fini(&row);
	}
	wr_op_end(o, WR_OPS_FAILED, NULL, &why, step);
}

static void
on_exit_of(struct wr_child *ch, int wait_status)
{
	struct wr_op *o = WR_OWNER(ch, struct wr_op, child);

	wr_op_collect(o, wait_status);
}

void
wr_op_watch_process(struct wr_op *o, pid_t pid, int pidfd)
{
	wr_child_on(&o->c->loop, &o->child, pid, pidfd, on_exit_of);
}

static int
spawn_op(struct wr_op *o, const char *token, struct wr_err *err)
{
	const char *argv[] = {"warren", "@op", wr_node_arg(o->c->node), o->row.id.s, NULL};
	struct wr_spawn s = WR_SPAWN_INIT;
	char **env = wr_part_environment(o->c, token);
	pid_t pid;
	int rc;

	s.argv = argv;
	s.envp = (const char *const *)env;
	s.fd[2] = STDERR_FILENO;
	s.fd[3] = o->lock.fd;
	s.fd_count = o->lock.fd >= 0 ? 4 : 3;
	s.new_session = true;
	rc = wr_spawn(&s, &pid, err);
	wr_part_environment_free(env);
	if (rc < 0)
		return wr_err_wrap(err, "start the operation");
	wr_crash_point("control.op-spawned");
	if (wr_proc_id_of(pid, &o->proc, NULL) == 0)
		snprintf(o->row.proc, sizeof(o->row.proc), "%s", wr_proc_format(&o->proc).s);
	wr_op_watch_process(o, pid, -1);
	return 0;
}

/* The settings go along as control knows them: conf/settings.json is a copy, where others than root
 * can write. */
static json_t *
op_request(const struct wr_op *o, const struct wr_proj_row *row)
{
	json_t *conf =
	    row->settings ? wr_json_parse(row->settings, strlen(row->settings), NULL) : NULL;

	json_t *r = json_object();

	wr_json_u64(r, "format", 1);
	wr_json_str(r, "id", o->row.id.s);
	wr_json_str(r, "project", o->row.project.s);
	wr_json_str(r, "kind", wr_op_kind_name(o->row.kind));
	wr_json_str(r, "by", o->row.by);
	wr_json_time(r, "created", o->row.created);
	json_object_set(r, "args", o->args);
	wr_json_take(r, "conf", conf ? conf : json_object());
	return r;
}

/* conf/settings.json is for people and other nodes: it shall say what is so. */
static void
copy_settings(struct wr_control *c, const struct wr_proj_row *row)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	struct wr_settings set = {0}, there = {0};
	struct wr_err err = WR_ERR_INIT;
	WR_SCOPED(wr_json_freep) json_t *is = NULL;
	WR_SCOPED(wr_json_freep) json_t *was = NULL;

	if (wr_row_settings(row, &set, NULL) < 0 ||
	    wr_place_of_find(c->node, &row->id, &place, NULL) < 0)
		goto out;
	is = wr_settings_json(&set);
	if (wr_settings_load(&place, &there, NULL) == 0)
		was = wr_settings_json(&there);
	if (!json_equal(is, was) && wr_settings_store(&place, &set, &err) < 0)
		wr_log_err(WR_LOG_WARNING, "copy the settings", &err);
out:
	wr_settings_fini(&there);
	wr_settings_fini(&set);
	wr_place_of_fini(&place);
}

/* Does it make a snapshot of its own accord?  What leads the project away from a full volume is
 * what helps, and is not counted. */
static bool
snapshots(const struct wr_op *o)
{
	enum wr_op_kind k = o->row.kind;

	return (k == WR_OP_SAVE || k == WR_OP_STOP || k == WR_OP_RESTART || k == WR_OP_DELETE) &&
	       !wr_json_get_bool(o->args, "release", false);
}

static int
begin_op(struct wr_op *o, struct wr_err *err)
{
	struct wr_control *c = o->c;
	struct wr_proj_row row = {0};
	WR_SCOPED(wr_json_freep) json_t *request = NULL;
	struct wr_err full = WR_ERR_INIT;
	int64_t now = wr_clock_wall().s;
	char token[80];
	bool with_token = o->row.kind == WR_OP_START || o->row.kind == WR_OP_RESTART;

	if (wr_row_find(c, &o->row.project, &row, err) < 0)
		return -1;
	if (wr_row_volumes(c, &row, err) < 0)
		goto fail;
	if (!locks_itself(o->row.kind))
		copy_settings(c, &row);
	wr_op_wish_row(o, &row, now);
	request = op_request(o, &row);
	if (snapshots(o) && wr_marks_snapshot(c, &row, &full) < 0)
		wr_json_str(request, "no_snapshot", full.msg);
	(void)wr_opdir_drop(c->node, &o->row.id, NULL); /* of an attempt that was cut off */
	if (wr_opdir_make(c->node, &o->row.id, request, err) < 0)
		goto fail;
	o->row.state = WR_OPS_RUNNING;
	o->row.started = now;
	if (wr_store_begin(c->store, err) < 0)
		goto fail;
	if (wr_store_proj_put(c->store, &row, err) < 0 || wr_op_store(o, err) < 0 ||
	    (with_token &&
	     wr_store_token_new(c->store, WR_SCOPE_PROJECT, &row.id, "start", 0, token, err) < 0)) {
		wr_store_abort(c->store);
		goto fail;
	}
	if (wr_store_commit(c->store, err) < 0)
		goto fail;
	if (o->row.kind == WR_OP_SAVE)
		o->p->last_scan_s = wr_clock_mono_ns() / WR_SECOND;
	wr_proj_refresh(o->p, &row);
	wr_proj_row_fini(&row);
	wr_crash_point("control.op-running");
	if (spawn_op(o, with_token ? token : NULL, err) < 0)
		return -1;
	/* Handed over: closing our descriptor, not dropping, leaves the lock and its note alone. */
	if (o->lock.fd >= 0) {
		WR_SCOPED(wr_freep) char *note = lock_note(o, o->proc.pid);

		(void)wr_lock_note(&o->lock, note, NULL); /* for people only */
		close(o->lock.fd);
		o->lock.fd = -1;
	}
	return wr_op_store(o, err);
fail:
	wr_proj_row_fini(&row);
	return -1;
}

/* The lock is held, where it needs one. */
static void
run(struct wr_op *o)
{
	struct wr_control *c = o->c;
	struct wr_err err = WR_ERR_INIT;
	int rc;

	wr_op_unlink(o);
	o->next = NULL;
	wr_timer_off(&c->loop, &o->patience);
	wr_op_set_running(o);
	/* That a save runs is worth nothing after a power failure: it is queued then, and harms
	 * nothing. */
	wr_store_relax(c->store, o->row.kind == WR_OP_SAVE);
	rc = begin_op(o, &err);
	wr_store_relax(c->store, false);
	if (rc == 0)
		return;
	/* A process that was started goes on, whatever the database says. */
	if (o->child.pid)
		wr_log_err(WR_LOG_ERROR, "record an operation", &err);
	else
		wr_op_end(o, WR_OPS_FAILED, NULL, &err, "");
}

static void
lock_again(struct wr_timer *t)
{
	struct wr_op *o = WR_OWNER(t, struct wr_op, again);

	wr_op_kick(o->p);
}

/* Start the first that waits, if none runs. */
void
wr_op_kick(struct wr_proj *p)
{
	struct wr_control *c = p->c;
	struct wr_op *o = p->first;
	struct wr_err err = WR_ERR_INIT;

	if (!o || p->run || o->again.on || c->draining || c->running >= WR_RUNNING_MAX)
		return;
	if (wr_op_take_lock(o, &err) < 0) {
		if (err.code == WR_E_BUSY)
			wr_timer_on(&c->loop, &o->again, LOCK_AGAIN_NS, lock_again);
		else
			wr_op_end(o, WR_OPS_FAILED, NULL, &err, "");
		return;
	}
	run(o);
}

/* The same for the one that replicates, which needs no lock. */
void
wr_op_kick_copy(struct wr_proj *p)
{
	struct wr_control *c = p->c;
	struct wr_op *o = p->to_copy;

	if (!o || p->copying || c->draining || c->copying >= WR_COPYING_MAX)
		return;
	run(o);
}

void
wr_ops_kick(struct wr_control *c)
{
	for (size_t i = 0; i < c->proj_count && c->copying < WR_COPYING_MAX; i++)
		wr_op_kick_copy(c->proj[i]);
	/* Ends of operations may take projects out while we look. */
	for (size_t i = 0; i < c->proj_count && c->running < WR_RUNNING_MAX; i++) {
		struct wr_proj *p = c->proj[i];

		if (p->first && !p->run && !p->first->again.on)
			wr_op_kick(p);
	}
}

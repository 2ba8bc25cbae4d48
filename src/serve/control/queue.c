/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations: one at a time per project, each in a process of its own.
 *
 *   wish --> row "queued" (durable) --> lock, desired state, row "running" (durable), process
 *        --> its result.json --> row "done" or "failed" and the project's row in one transaction
 *
 * Whatever ends in between, the next daemon finds the row and goes on from there (wr_ops_adopt).
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "serve/control/control_int.h"
#include "serve/control/deletion.h"
#include "serve/control/drops.h"
#include "serve/control/marks.h"
#include "serve/control/notices.h"
#include "serve/control/replicas.h"
#include "sys/clock.h"
#include "sys/crash.h"
#include "sys/fs.h"

/* A lock that is held outside of our queue is asked for again after this long. */
#define LOCK_AGAIN_NS (WR_SECOND / 5)
/* An operation that control itself wants waits this long for such a lock; longer than any. */
#define PATIENCE_S 3600
/* An end that node.db did not take is written again after so long. */
#define RECORD_NS (2 * (uint64_t)WR_SECOND)

extern char **environ;

static void op_end(struct wr_op *o, enum wr_op_state state, json_t *receipt,
		   const struct wr_err *why, const char *step);
static void on_kick(struct wr_timer *t);
static void wait_over(struct wr_timer *t);
static void kick(struct wr_proj *p);
static void kick_copy(struct wr_proj *p);

static void
op_free(struct wr_op *o)
{
	wr_timer_off(&o->c->loop, &o->again);
	wr_timer_off(&o->c->loop, &o->patience);
	wr_child_off(&o->child);
	wr_lock_drop(&o->lock);
	wr_op_row_fini(&o->row);
	json_decref(o->args);
	free(o);
}

static int
op_store(struct wr_op *o, struct wr_err *err)
{
	return wr_store_op_put(o->c->store, &o->row, err);
}

static void
op_args_changed(struct wr_op *o)
{
	struct wr_buf b = WR_BUF_INIT;

	wr_json_write(o->args, &b);
	free(o->row.args);
	o->row.args = wr_buf_detach(&b, NULL);
}

int
wr_op_find(struct wr_control *c, const char *ref, struct wr_op_row *out, struct wr_err *err)
{
	const struct wr_op *o = c->unrecorded;

	if (wr_store_op_find(c->store, ref, out, err) < 0)
		return -1;
	while (o && strcmp(o->row.id.s, out->id.s) != 0)
		o = o->next;
	if (!o)
		return 0;
	free(out->receipt);
	free(out->error);
	out->receipt = o->row.receipt ? wr_strdup(o->row.receipt) : NULL;
	out->error = o->row.error ? wr_strdup(o->row.error) : NULL;
	out->state = o->row.state;
	out->finished = o->row.finished;
	memcpy(out->step, o->row.step, sizeof(out->step));
	return 0;
}

struct wr_op *
wr_op_live(struct wr_control *c, const struct wr_op_row *row)
{
	struct wr_proj *p = wr_proj_find(c, &row->project);

	struct wr_op *const single[] = {p ? p->run : NULL, p ? p->copying : NULL,
					p ? p->to_copy : NULL};

	for (size_t i = 0; i < WR_ARRAY_LEN(single); i++)
		if (single[i] && !strcmp(single[i]->row.id.s, row->id.s))
			return single[i];
	for (struct wr_op *o = p ? p->first : NULL; o; o = o->next)
		if (!strcmp(o->row.id.s, row->id.s))
			return o;
	/* A copy waits beside its source's save until that has ended. */
	for (struct wr_op *o = c->beside; o; o = o->next)
		if (!strcmp(o->row.id.s, row->id.s))
			return o;
	return NULL;
}

/* ---- what an operation changes in its project's row ---- */

/* What is wanted from now on; before anything is done about it. */
static void
wish_row(struct wr_op *o, struct wr_proj_row *row, int64_t now)
{
	WR_SCOPED(wr_json_freep) json_t *holders = wr_holders_parse(row->holders);
	const char *holder = wr_json_get_str(o->args, "holder", "manual");
	json_t *names, *h;
	size_t i;

	switch (o->row.kind) {
	case WR_OP_START:
	case WR_OP_RESTART:
		if (!o->back && (o->row.kind == WR_OP_START || json_array_size(holders) == 0))
			wr_holders_add(holders, holder, now);
		names = wr_json_array(o->args, "holders");
		json_array_foreach(holders, i, h)
		    wr_json_add_str(names, wr_json_get_str(h, "name", ""));
		row->desired = true;
		break;
	case WR_OP_STOP:
	case WR_OP_DELETE:
	case WR_OP_DROP:
		json_array_clear(holders);
		row->desired = false;
		break;
	default:
		return;
	}
	free(row->holders);
	row->holders = wr_holders_text(holders);
	row->used = now;
}

static void
saved_row(struct wr_proj_row *row, const json_t *save)
{
	const bool latest = wr_json_get_bool(save, "latest", false); /* no snapshot */
	const char *commit = latest ? NULL : wr_json_get_str(save, "commit", NULL);
	const char *name = latest ? NULL : wr_json_get_str(save, "snapshot", NULL);

	if (!name && !latest)
		name = wr_json_get_str(save, "name", NULL);
	row->save_began = wr_json_get_time(save, "scan_started", row->save_began);
	row->save_ended = wr_json_get_time(save, "finished", wr_clock_wall().s);
	row->save_ok = true;
	if (commit)
		snprintf(row->commit, sizeof(row->commit), "%s", commit);
	if (name)
		snprintf(row->snapshot, sizeof(row->snapshot), "%s", name);
	row->files = wr_json_get_u64(wr_json_get_obj(save, "files"), "total", row->files);
	row->bytes = wr_json_get_u64(wr_json_get_obj(save, "bytes"), "total", row->bytes);
	if (wr_json_get_bool(save, "made", false))
		row->used = row->save_ended;
}

/* Packs and their indexes are all that grows; there are few, for small ones are rolled up. */
void
wr_row_measure(struct wr_control *c, struct wr_proj_row *row)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	WR_SCOPED(wr_closep) int repo = -1;
	struct dirent *e;
	struct stat st;
	uint64_t sum = 0;
	DIR *d;
	int fd;

	if (wr_place_of_find(c->node, &row->id, &place, NULL) == 0)
		repo = wr_repo_dir_open(&place, NULL);
	wr_place_of_fini(&place);
	fd = repo < 0 ? -1 : wr_open_dir(repo, "objects/pack");
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		wr_closep(&fd);
		return;
	}
	while ((e = readdir(d)))
		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode))
			sum += (uint64_t)st.st_size;
	closedir(d);
	row->repo_bytes = sum;
}

/* Where the project lies, from the disks. */
static void
placed_row(struct wr_control *c, struct wr_proj_row *row)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;

	if (wr_place_of_find(c->node, &row->id, &place, NULL) == 0) {
		row->tree_vol = (uint32_t)place.tree_vol;
		row->repo_vol = (uint32_t)place.repo_vol;
	}
	wr_place_of_fini(&place);
}

/* false: the row is to go. */
static bool
done_row(struct wr_op *o, struct wr_proj_row *row, const json_t *r)
{
	int64_t now = wr_clock_wall().s;

	switch (o->row.kind) {
	case WR_OP_SAVE:
		saved_row(row, r);
		break;
	case WR_OP_STOP:
		if (wr_json_get_obj(r, "save"))
			saved_row(row, wr_json_get_obj(r, "save"));
		break;
	case WR_OP_RESTART:
		if (wr_json_get_obj(wr_json_get_obj(r, "stop"), "save"))
			saved_row(row, wr_json_get_obj(wr_json_get_obj(r, "stop"), "save"));
		break;
	case WR_OP_CREATE: {
		const json_t *in = wr_json_get_obj(r, "imported");

		placed_row(o->c, row);
		row->used = now;
		snprintf(row->commit, sizeof(row->commit), "%s", wr_json_get_str(r, "commit", ""));
		snprintf(row->snapshot, sizeof(row->snapshot), "%s",
			 wr_json_get_str(r, "snapshot", ""));
		if (*row->commit) {
			row->save_began = row->save_ended = now;
			row->save_ok = true;
		}
		row->files = wr_json_get_u64(in, "files", 0);
		row->bytes = wr_json_get_u64(in, "bytes", 0);
		break;
	}
	case WR_OP_DELETE:
	case WR_OP_DROP:
		row->deleted = now;
		break;
	case WR_OP_UNDELETE:
		row->deleted = 0;
		placed_row(o->c, row);
		break;
	case WR_OP_PURGE:
		return false;
	default:
		break;
	}
	wr_row_measure(o->c, row);
	return true;
}

static bool
is_running(const struct wr_op *o)
{
	return o->p->run == o || o->p->copying == o;
}

static void
set_running(struct wr_op *o)
{
	if (o->row.kind == WR_OP_REPLICATE) {
		o->p->copying = o;
		o->c->copying++;
		return;
	}
	o->p->run = o;
	o->c->running++;
	if (o->scheduled && o->row.kind == WR_OP_SAVE)
		o->c->by_schedule++;
}

/* What failed or was cut off may have moved directories all the same: the disks say where they are.
 * false: the row is to go. */
static bool
undone_row(struct wr_op *o, struct wr_proj_row *row)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	bool there;

	if (o->row.kind == WR_OP_SAVE && o->row.state == WR_OPS_FAILED)
		row->save_ok = false;
	if (o->row.kind != WR_OP_CREATE && o->row.kind != WR_OP_DELETE &&
	    o->row.kind != WR_OP_DROP && o->row.kind != WR_OP_UNDELETE)
		return true;
	there = wr_place_of_find(o->c->node, &row->id, &place, NULL) == 0;
	wr_place_of_fini(&place);
	if (!there && o->row.kind == WR_OP_CREATE)
		return false;
	if (there) {
		row->deleted = 0;
		placed_row(o->c, row);
	} else if (!row->deleted) {
		row->deleted = wr_clock_wall().s;
	}
	return true;
}

/* ---- the end ---- */

static bool
is_quiet(const struct wr_op *o, enum wr_op_state state, const json_t *receipt)
{
	return o->scheduled && o->row.kind == WR_OP_SAVE && state == WR_OPS_DONE &&
	       o->row.joined == 0 && !o->waiters && !wr_json_get_bool(receipt, "made", true);
}

/* Rows of operation and project in one transaction. */
static int
record_end(struct wr_op *o, enum wr_op_state state, const json_t *receipt, struct wr_err *err)
{
	struct wr_control *c = o->c;
	struct wr_proj_row row = {0};
	bool keep = true;
	int rc = op_store(o, err);

	if (rc == 0 && wr_row_find(c, &o->row.project, &row, NULL) == 0) {
		if (state == WR_OPS_DONE)
			keep = done_row(o, &row, receipt);
		else
			keep = undone_row(o, &row);
		rc = keep ? wr_store_proj_put(c->store, &row, err)
			  : wr_store_proj_drop(c->store, &row.id, err);
		if (rc == 0 && state == WR_OPS_DONE &&
		    (o->row.kind == WR_OP_STOP || o->row.kind == WR_OP_DELETE))
			rc = wr_store_token_drop(c->store, &row.id, "start", err);
		if (rc == 0 && keep)
			wr_proj_refresh(o->p, &row);
		if (!keep)
			o->p->active = o->p->restless = false;
		wr_proj_row_fini(&row);
	}
	return rc;
}

static int
record(struct wr_op *o, const json_t *receipt, struct wr_err *err)
{
	int rc = wr_store_begin(o->c->store, err);

	if (rc == 0 && (rc = record_end(o, o->row.state, receipt, err)) < 0)
		wr_store_abort(o->c->store);
	return rc == 0 ? wr_store_commit(o->c->store, err) : -1;
}

/* In the order in which they ended: each writes its project's row. 0: none is left. */
static int
record_pending(struct wr_control *c, struct wr_err *err)
{
	while (c->unrecorded) {
		struct wr_op *o = c->unrecorded;
		const char *text = o->row.receipt;
		WR_SCOPED(wr_json_freep)
		json_t *receipt = text ? wr_json_parse(text, strlen(text), NULL) : NULL;
		int rc;

		o->p = wr_proj_get(c, &o->row.project);
		rc = record(o, receipt, err);
		wr_proj_rest(o->p);
		if (rc < 0)
			return -1;
		wr_log(WR_LOG_NOTICE, "the end of operation %s is recorded", o->row.id.s);
		c->unrecorded = o->next;
		op_free(o);
	}
	return 0;
}

static void
record_again(struct wr_timer *t)
{
	struct wr_control *c = WR_OWNER(t, struct wr_control, record);

	if (record_pending(c, NULL) < 0)
		wr_timer_on(&c->loop, t, RECORD_NS, record_again);
}

/* As far as the database knows it may still wait: the next daemon must not begin what was told to
 * be over. */
static void
leave_end(struct wr_op *o, const struct wr_err *why)
{
	struct wr_node *n = o->c->node;
	WR_SCOPED(wr_json_freep) json_t *request = json_object();
	WR_SCOPED(wr_json_freep) json_t *result = json_object();
	WR_SCOPED(wr_closep) int fd = wr_opdir_open(n, &o->row.id, NULL);
	struct wr_err err = WR_ERR_INIT;

	if (fd < 0 && wr_opdir_make(n, &o->row.id, request, &err) == 0)
		fd = wr_opdir_open(n, &o->row.id, &err);
	wr_json_bool(result, "ok", false);
	wr_json_err(result, "error", why);
	if (fd >= 0)
		(void)wr_opdir_result_store(fd, result, &err);
	if (err.code != WR_E_NONE && err.code != WR_E_EXISTS)
		wr_log_err(WR_LOG_ERROR, "leave the end of an operation", &err);
}

/* The database is full, or busy: whoever asks hears how it ended all the same. */
static void
record_later(struct wr_op *o)
{
	struct wr_op **at = &o->c->unrecorded;

	wr_timer_off(&o->c->loop, &o->again);
	wr_timer_off(&o->c->loop, &o->patience);
	wr_child_off(&o->child);
	wr_lock_drop(&o->lock);
	while (*at)
		at = &(*at)->next;
	*at = o;
	o->next = NULL;
	if (!o->c->record.on)
		wr_timer_on(&o->c->loop, &o->c->record, RECORD_NS, record_again);
}

/* No snapshot was made, the newest state alone is saved: told once by the schedule. */
static bool
tell_refused(struct wr_op *o, const json_t *receipt)
{
	const json_t *save = wr_json_get_obj(receipt, "save");
	const json_t *why = wr_json_get_obj(save ? save : receipt, "refused");
	const char *text = wr_json_get_str(why, "message", "");

	if (!why)
		return false;
	if (!o->scheduled || strncmp(o->p->warned, text, sizeof(o->p->warned) - 1) != 0)
		wr_event(o->c, o->row.by, &o->row.project, "save.refused", text, NULL);
	snprintf(o->p->warned, sizeof(o->p->warned), "%.63s", text);
	return true;
}

static void
tell_end(struct wr_op *o, enum wr_op_state state, const json_t *receipt, const struct wr_err *why)
{
	const char *kind = wr_op_kind_name(o->row.kind);
	/* What the schedule does for other nodes is told by who is behind and who is not. */
	bool beside =
	    o->scheduled && (o->row.kind == WR_OP_REPLICATE || o->row.kind == WR_OP_UPDATE);
	json_t *detail = json_object();
	WR_SCOPED(wr_freep) char *text = NULL;

	wr_json_str(detail, "op", o->row.id.s);
	if (state == WR_OPS_DONE && tell_refused(o, receipt)) {
		json_decref(detail);
		return;
	}
	if (state == WR_OPS_DONE) {
		text = wr_asprintf("%s done", kind);
		if (!is_quiet(o, state, receipt) && !beside)
			wr_event(o->c, o->row.by, &o->row.project, "op.done", text, detail);
		else
			json_decref(detail);
		o->p->warned[0] = '\0';
		return;
	}
	text = wr_asprintf("%s: %s", kind, why ? why->msg : "cancelled");
	/* A save that fails every five minutes for the same reason is one piece of news. */
	if (o->scheduled && !strncmp(o->p->warned, text, sizeof(o->p->warned) - 1)) {
		json_decref(detail);
		return;
	}
	if (o->scheduled)
		snprintf(o->p->warned, sizeof(o->p->warned), "%s", text);
	wr_event(o->c, o->row.by, &o->row.project,
		 state == WR_OPS_FAILED ? "op.failed" : "op.cancelled", text, detail);
}

static void
trim(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_uuid *ids = NULL;
	struct wr_err err = WR_ERR_INIT;
	size_t n = 0;

	if (wr_store_op_trim(c->store, project, (uint32_t)c->node->config.op_keep, &ids, &n, &err) <
	    0)
		wr_log_err(WR_LOG_ERROR, "drop old operations", &err);
	for (size_t i = 0; i < n; i++)
		(void)wr_opdir_drop(c->node, &ids[i], NULL); /* it may never have had one */
	free(ids);
}

static void
append(struct wr_op *o)
{
	struct wr_proj *p = o->p;

	if (o->row.kind == WR_OP_REPLICATE) {
		p->to_copy = o;
		return;
	}
	*(p->last ? &p->last->next : &p->first) = o;
	p->last = o;
	p->waiting++;
	o->c->queued++;
}

static void
unlink_op(struct wr_op *o)
{
	struct wr_proj *p = o->p;
	struct wr_op **at = &p->first, *before = NULL;

	if (p->run == o) {
		p->run = NULL;
		o->c->running--;
		if (o->scheduled && o->row.kind == WR_OP_SAVE)
			o->c->by_schedule--;
		return;
	}
	if (p->copying == o) {
		p->copying = NULL;
		o->c->copying--;
		return;
	}
	if (p->to_copy == o) {
		p->to_copy = NULL;
		return;
	}
	p->waiting--;
	o->c->queued--;
	while (*at && *at != o) {
		before = *at;
		at = &before->next;
	}
	if (*at) {
		*at = o->next;
		if (p->last == o)
			p->last = before;
		return;
	}
	for (at = &o->c->beside; *at != o;)
		at = &(*at)->next;
	*at = o->next;
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
			op_end(o, WR_OPS_FAILED, NULL, &err, "");
			at = &c->beside; /* the list may be another one by now */
			continue;
		}
		if (commit)
			wr_json_str(o->args, "from_snapshot", commit);
		op_args_changed(o);
		if (op_store(o, &err) < 0)
			wr_log_err(WR_LOG_ERROR, "record an operation", &err);
		unlink_op(o);
		o->next = NULL;
		append(o);
		wr_timer_on(&c->loop, &o->patience, PATIENCE_S * (uint64_t)WR_SECOND, wait_over);
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
static void
op_end(struct wr_op *o, enum wr_op_state state, json_t *receipt, const struct wr_err *why,
       const char *step)
{
	struct wr_control *c = o->c;
	struct wr_proj *p = o->p;
	struct wr_err err = WR_ERR_INIT;
	struct wr_uuid id = o->row.id;
	struct wr_buf b = WR_BUF_INIT;
	bool quiet = is_quiet(o, state, receipt), back = o->back;
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
	unlink_op(o);
	wr_crash_point("control.op-ended");
	/* Where the database cannot be written it is tried again; and result.json has it for the
	 * next start. */
	rc = record_pending(c, &err);
	if (rc == 0)
		rc = wr_store_begin(c->store, &err);
	if (rc == 0 && (rc = record_end(o, state, receipt, &err)) < 0)
		wr_store_abort(c->store);
	tell_end(o, state, receipt, why);
	if (rc == 0)
		rc = wr_store_commit(c->store, &err);
	if (rc < 0)
		wr_log_err(WR_LOG_ERROR, "record the end of an operation", &err);
	if (rc < 0 && why)
		leave_end(o, why);
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
		record_later(o);
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
		op_free(o);
		trim(c, &p->id);
	}
	if (back)
		c->back_running--;
	/* From the loop: callers still use what a kick could end. */
	wr_timer_on(&c->loop, &c->kick, 0, on_kick);
}

/* Its process is gone: what did it leave? */
static void
op_collect(struct wr_op *o, int wait_status)
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
			op_end(o, WR_OPS_DONE, receipt, NULL, step);
			return;
		}
		if (e)
			wr_json_get_err(e, &why);
		if (why.code == WR_E_NONE)
			wr_err_set(&why, WR_E_FAILED, "it failed and does not say why");
		op_end(o, why.code == WR_E_CANCELLED ? WR_OPS_CANCELLED : WR_OPS_FAILED, NULL, &why,
		       step);
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
	op_end(o, WR_OPS_FAILED, NULL, &why, step);
}

static void
on_op_ended(struct wr_child *ch, int wait_status)
{
	struct wr_op *o = WR_OWNER(ch, struct wr_op, child);

	op_collect(o, wait_status);
}

/* ---- the beginning ---- */

/* Everything of ours that settings of the node or tests come by, but no secrets. */
char **
wr_part_environment(struct wr_control *c, const char *token)
{
	static const char *const pass[] = {
	    "PATH=", "LANG=", "TZ=", "HOME=", "ASAN_OPTIONS=", "UBSAN_OPTIONS="};
	static const char *const secret[] = {"WARREN_TOKEN=", "WARREN_OP_TOKEN=", "WARREN_SOCKET=",
					     "WARREN_PROJECT=", "WARREN_URL="};
	size_t n = 0, cap = 0;
	char **env = NULL;

	for (char **e = environ; *e; e++) {
		bool take = !strncmp(*e, "WARREN_", 7);

		for (size_t i = 0; i < WR_ARRAY_LEN(pass); i++)
			take |= !strncmp(*e, pass[i], strlen(pass[i]));
		for (size_t i = 0; i < WR_ARRAY_LEN(secret); i++)
			take &= strncmp(*e, secret[i], strlen(secret[i])) != 0;
		if (!take)
			continue;
		wr_grow(&env, &cap, n + 1, sizeof(*env));
		env[n++] = wr_strdup(*e);
	}
	wr_grow(&env, &cap, n + 3, sizeof(*env));
	env[n++] = wr_asprintf("WARREN_SOCKET=%s", c->node->socket_path);
	if (token)
		env[n++] = wr_asprintf("WARREN_OP_TOKEN=%s", token);
	env[n] = NULL;
	return env;
}

void
wr_part_environment_free(char **env)
{
	for (char **e = env; *e; e++)
		free(*e);
	free(env);
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
	wr_child_on(&o->c->loop, &o->child, pid, -1, on_op_ended);
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

static int
take_lock(struct wr_op *o, struct wr_err *err)
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

/* The lock is held. */
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
	wish_row(o, &row, now);
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
	if (wr_store_proj_put(c->store, &row, err) < 0 || op_store(o, err) < 0 ||
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
	return op_store(o, err);
fail:
	wr_proj_row_fini(&row);
	return -1;
}

static void
lock_again(struct wr_timer *t)
{
	struct wr_op *o = WR_OWNER(t, struct wr_op, again);

	kick(o->p);
}

/* Start the first that waits, if none runs. */
static void
kick(struct wr_proj *p)
{
	struct wr_control *c = p->c;
	struct wr_op *o = p->first;
	struct wr_err err = WR_ERR_INIT;
	int rc;

	if (!o || p->run || o->again.on || c->draining || c->running >= WR_RUNNING_MAX)
		return;
	if (take_lock(o, &err) < 0) {
		if (err.code == WR_E_BUSY)
			wr_timer_on(&c->loop, &o->again, LOCK_AGAIN_NS, lock_again);
		else
			op_end(o, WR_OPS_FAILED, NULL, &err, "");
		return;
	}
	unlink_op(o);
	o->next = NULL;
	wr_timer_off(&c->loop, &o->patience);
	set_running(o);
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
		op_end(o, WR_OPS_FAILED, NULL, &err, "");
}

/* The same for the one that replicates. */
static void
kick_copy(struct wr_proj *p)
{
	struct wr_control *c = p->c;
	struct wr_op *o = p->to_copy;
	struct wr_err err = WR_ERR_INIT;

	if (!o || p->copying || c->draining || c->copying >= WR_COPYING_MAX)
		return;
	unlink_op(o);
	wr_timer_off(&c->loop, &o->patience);
	set_running(o);
	if (begin_op(o, &err) == 0)
		return;
	if (o->child.pid)
		wr_log_err(WR_LOG_ERROR, "record an operation", &err);
	else
		op_end(o, WR_OPS_FAILED, NULL, &err, "");
}

void
wr_ops_kick(struct wr_control *c)
{
	for (size_t i = 0; i < c->proj_count && c->copying < WR_COPYING_MAX; i++)
		kick_copy(c->proj[i]);
	/* Ends of operations may take projects out while we look. */
	for (size_t i = 0; i < c->proj_count && c->running < WR_RUNNING_MAX; i++) {
		struct wr_proj *p = c->proj[i];

		if (p->first && !p->run && !p->first->again.on)
			kick(p);
	}
}

/* Waited too long to be started. */
static void
wait_over(struct wr_timer *t)
{
	struct wr_op *o = WR_OWNER(t, struct wr_op, patience);
	struct wr_err err = WR_ERR_INIT;

	/* Whoever holds the lock outside is named. */
	if (o->row.kind == WR_OP_REPLICATE || o->p->first != o || o->p->run ||
	    take_lock(o, &err) == 0) {
		wr_err_set(&err, WR_E_BUSY, "the project stayed busy as long as it was to wait");
		wr_err_hint(&err, "see 'warren op list'");
	}
	op_end(o, WR_OPS_FAILED, NULL, &err, "");
}

/* ---- wishes ---- */

/* Who is in the way, as everywhere. */
static int
busy(const struct wr_op *o, const struct wr_proj_row *row, struct wr_err *err)
{
	int64_t since = o->row.started ? o->row.started : o->row.created;
	struct wr_short at = wr_fmt_utc(since);

	wr_err_set(err, WR_E_BUSY, "project '%s' is busy: %s by %s since %.8s (%" PRId64 " s)",
		   row->name, wr_op_kind_name(o->row.kind), o->row.by, at.s + 11,
		   WR_MAX(wr_clock_wall().s - since, (int64_t)0));
	return wr_err_hint(err, "wait for it with --wait SECONDS; see 'warren op show %s'",
			   o->row.id.s);
}

static struct wr_op *
op_new(struct wr_control *c, struct wr_proj *p, struct wr_op_wish *w)
{
	struct wr_op *o = wr_calloc(1, sizeof(*o));

	o->c = c;
	o->p = p;
	o->lock = (struct wr_lock)WR_LOCK_INIT;
	o->args = wr_steal(&w->args);
	o->scheduled = w->scheduled;
	o->back = w->back;
	if (w->id)
		o->row.id = *w->id;
	else
		wr_uuid_new(&o->row.id);
	o->row.project = p->id;
	o->row.kind = w->kind;
	o->row.state = WR_OPS_QUEUED;
	snprintf(o->row.by, sizeof(o->row.by), "%s", w->by);
	o->row.created = wr_clock_wall().s;
	op_args_changed(o);
	return o;
}

/* Targets of both: none named means all. */
static void
merge_targets(struct wr_op *o, const json_t *wish)
{
	json_t *have = wr_json_get_arr(o->args, "targets"), *t;
	const json_t *more = wr_json_get_arr(wish, "targets");
	size_t i;

	if (!have || !more)
		json_object_del(o->args, "targets");
	else
		json_array_foreach(more, i, t) json_array_append(have, t);
	op_args_changed(o);
}

/* What another node lacks is the same until there is another record. */
static bool
same_fill(const struct wr_op *o, const json_t *wish)
{
	const char *to = wr_json_get_str(wish, "fill_to", NULL);

	return o && to && !strcmp(to, wr_json_get_str(o->args, "fill_to", "")) &&
	       wr_json_get_bool(o->args, "mend", false) == wr_json_get_bool(wish, "mend", false) &&
	       wr_json_get_bool(o->args, "sides", false) == wr_json_get_bool(wish, "sides", false);
}

/* A request that a live operation fulfils: joined, and *out is it. */
static bool
join(struct wr_proj *p, struct wr_op_wish *w, struct wr_uuid *out)
{
	struct wr_err err = WR_ERR_INIT;
	struct wr_op *o = NULL;

	if (w->kind == WR_OP_SAVE) {
		/* Never a running one: its scan began before this was asked. */
		for (o = p->first; o; o = o->next) {
			json_t *merged = NULL;

			if (o->row.kind != WR_OP_SAVE || !wr_save_joins(o->args, w->args, &merged))
				continue;
			json_decref(o->args);
			o->args = merged;
			op_args_changed(o);
			break;
		}
	} else if (w->kind == WR_OP_REPLICATE && same_fill(p->copying, w->args)) {
		o = p->copying;
	} else if (w->kind == WR_OP_REPLICATE && same_fill(p->to_copy, w->args)) {
		o = p->to_copy;
	} else if (w->kind == WR_OP_REPLICATE && p->to_copy &&
		   !json_object_get(p->to_copy->args, "fill_to") &&
		   !json_object_get(w->args, "fill_to")) {
		o = p->to_copy;
		merge_targets(o, w->args);
	} else if (w->kind == WR_OP_START && p->run && p->run->row.kind == WR_OP_START &&
		   !p->first) {
		struct wr_proj_row row = {0};

		o = p->run;
		if (wr_row_find(p->c, &p->id, &row, NULL) == 0) {
			WR_SCOPED(wr_json_freep) json_t *holders = wr_holders_parse(row.holders);

			wr_holders_add(holders, wr_json_get_str(w->args, "holder", "manual"),
				       wr_clock_wall().s);
			free(row.holders);
			row.holders = wr_holders_text(holders);
			if (wr_store_proj_put(p->c->store, &row, &err) < 0)
				wr_log_err(WR_LOG_ERROR, "record a holder", &err);
			wr_proj_row_fini(&row);
		}
	}
	if (!o)
		return false;
	o->row.joined++;
	if (op_store(o, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "record an operation", &err);
	*out = o->row.id;
	return true;
}

/* The files of a copy are brought along when nobody wants anything else of it. */
static bool
gives_way(const struct wr_op *run)
{
	return run && run->row.kind == WR_OP_UPDATE && run->scheduled;
}

/* May it be queued at all? */
static int
admit(struct wr_proj *p, const struct wr_op_wish *w, struct wr_err *err)
{
	if (wr_row_volumes(p->c, w->row, err) < 0)
		return -1;
	if (p->waiting >= WR_QUEUE_MAX || p->c->queued >= WR_QUEUED_MAX) {
		wr_err_set(err, WR_E_BUSY, "too many operations wait%s",
			   p->waiting >= WR_QUEUE_MAX ? " for this project" : "");
		return wr_err_hint(err, "see 'warren op list'");
	}
	if (w->kind == WR_OP_REPLICATE)
		return p->to_copy ? busy(p->to_copy, w->row, err) : 0;
	if (w->kind == WR_OP_SAVE || w->may_wait || gives_way(p->run))
		return 0;
	if (p->run)
		return busy(p->run, w->row, err);
	return p->first ? busy(p->first, w->row, err) : 0;
}

int
wr_op_submit(struct wr_control *c, struct wr_op_wish *w, struct wr_uuid *out, struct wr_err *err)
{
	struct wr_proj *p = wr_proj_get(c, &w->row->id);
	struct wr_op *o;

	if (join(p, w, out)) {
		json_decref(w->args);
		return 0;
	}
	if (admit(p, w, err) < 0) {
		json_decref(w->args);
		wr_proj_rest(p);
		return -1;
	}
	o = op_new(c, p, w);
	if (gives_way(p->run) && w->kind != WR_OP_REPLICATE)
		(void)wr_proc_signal(&p->run->proc, SIGTERM); /* gone already: its result comes */
	/* Refused at once, and leaves no trace, if someone outside holds the lock. */
	if ((w->kind != WR_OP_SAVE && !w->may_wait && !gives_way(p->run) &&
	     take_lock(o, err) < 0) ||
	    op_store(o, err) < 0) {
		op_free(o);
		wr_proj_rest(p);
		return -1;
	}
	*out = o->row.id;
	append(o);
	wr_timer_on(&c->loop, &o->patience,
		    (w->may_wait ? w->wait_s : (uint64_t)PATIENCE_S) * WR_SECOND, wait_over);
	wr_crash_point("control.op-queued");
	if (w->kind == WR_OP_REPLICATE)
		kick_copy(p);
	else
		kick(p);
	return 0;
}

bool
wr_op_watch(struct wr_control *c, const struct wr_uuid *op, struct wr_op_watch *w)
{
	struct wr_op_row row = {0};
	struct wr_op *o = NULL;

	if (wr_op_find(c, op->s, &row, NULL) == 0)
		o = wr_op_live(c, &row);
	wr_op_row_fini(&row);
	if (!o)
		return false;
	w->next = o->watches;
	o->watches = w;
	return true;
}

static void
drop_watch(struct wr_op *o, const struct wr_op_watch *w)
{
	for (struct wr_op_watch **at = o ? &o->watches : NULL; at && *at; at = &(*at)->next)
		if (*at == w) {
			*at = w->next;
			return;
		}
}

void
wr_op_unwatch(struct wr_control *c, struct wr_op_watch *w)
{
	for (size_t i = 0; i < c->proj_count; i++) {
		struct wr_proj *p = c->proj[i];

		drop_watch(p->run, w);
		drop_watch(p->copying, w);
		drop_watch(p->to_copy, w);
		for (struct wr_op *o = p->first; o; o = o->next)
			drop_watch(o, w);
	}
}

int
wr_op_submit_copy(struct wr_control *c, const struct wr_proj_row *source, struct wr_op_wish *w,
		  struct wr_uuid *out, struct wr_err *err)
{
	struct wr_proj *p = wr_proj_get(c, &w->row->id);
	struct wr_op_wish save = {.row = source, .kind = WR_OP_SAVE, .by = w->by};
	struct wr_op *o;

	if (admit(p, w, err) < 0) {
		json_decref(w->args);
		wr_proj_rest(p);
		return -1;
	}
	o = op_new(c, p, w);
	if (op_store(o, err) < 0) {
		op_free(o);
		wr_proj_rest(p);
		return -1;
	}
	*out = o->row.id;
	save.args = json_object();
	o->next = c->beside;
	c->beside = o;
	p->waiting++;
	c->queued++;
	if (wr_op_submit(c, &save, &o->source_save, err) < 0) {
		struct wr_err why = *err;

		wr_err_wrap(&why, "save of the source");
		op_end(o, WR_OPS_FAILED, NULL, &why, "");
	}
	return 0;
}

int
wr_op_cancel(struct wr_op *o, const char *by, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;

	wr_err_set(&why, WR_E_CANCELLED, "cancelled by %s", by);
	if (!is_running(o)) {
		op_end(o, WR_OPS_CANCELLED, NULL, &why, "");
		return 0;
	}
	if (!wr_op_cancellable(o->row.kind)) {
		wr_err_set(err, WR_E_BUSY, "a running %s cannot be cancelled",
			   wr_op_kind_name(o->row.kind));
		return wr_err_hint(err, "it is short, or must end: 'warren op wait %s'",
				   o->row.id.s);
	}
	o->cancelled = true;
	(void)wr_proc_signal(&o->proc, SIGTERM); /* gone already: its result comes */
	return 0;
}

/* ---- after a start of the daemon ---- */

/* The process of an operation whose row has no id of one: the row was not written any more. */
static pid_t
find_process(const struct wr_control *c, const char *op)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	pid_t found = 0;

	while (d && !found && (e = readdir(d))) {
		struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;
		WR_SCOPED(wr_freep) char *path = NULL;
		uint64_t pid;
		const char *at, *word[4] = {NULL};
		struct stat st;

		/* Anybody may call his process so; it would never end. */
		if (wr_parse_u64(e->d_name, &pid, NULL) < 0 ||
		    fstatat(dirfd(d), e->d_name, &st, 0) < 0 || st.st_uid != c->self)
			continue;
		path = wr_asprintf("/proc/%s/cmdline", e->d_name);
		if (wr_read_file(AT_FDCWD, path, 4096, &b, NULL) < 0)
			continue;
		wr_buf_add8(&b, 0);
		at = (const char *)b.p;
		for (size_t i = 0; i < 4 && at < (const char *)b.p + b.len; i++) {
			word[i] = at;
			at += strlen(at) + 1;
		}
		if (word[3] && !strcmp(word[1], "@op") && !strcmp(word[3], op))
			found = (pid_t)pid;
	}
	if (d)
		closedir(d);
	return found;
}

struct old_ops {
	struct wr_op_row *row;
	size_t count, cap;
};

static int
collect_old(void *ctx, const struct wr_op_row *r, struct wr_err *err WR_UNUSED)
{
	struct old_ops *l = ctx;
	struct wr_op_row *to;

	wr_grow(&l->row, &l->cap, l->count + 1, sizeof(*l->row));
	to = &l->row[l->count++];
	*to = *r;
	to->args = wr_strdup(r->args ? r->args : "{}");
	to->receipt = to->error = NULL;
	return 0;
}

/* An end that the database did not take, or of which a power failure left it nothing. */
static bool
has_ended(struct wr_control *c, const struct wr_uuid *op)
{
	WR_SCOPED(wr_closep) int fd = wr_opdir_open(c->node, op, NULL);
	WR_SCOPED(wr_json_freep) json_t *result = fd < 0 ? NULL : wr_opdir_result(fd, NULL);

	return result != NULL;
}

static void
adopt_one(struct wr_control *c, const struct wr_op_row *row)
{
	struct wr_proj *p = wr_proj_get(c, &row->project);
	struct wr_op *o = wr_calloc(1, sizeof(*o));
	struct wr_err err = WR_ERR_INIT;
	int pidfd = -1;
	pid_t pid;

	o->c = c;
	o->p = p;
	o->lock = (struct wr_lock)WR_LOCK_INIT;
	o->row = *row;
	o->row.args = wr_strdup(row->args);
	o->args = wr_json_parse(row->args, strlen(row->args), &err);
	if (!json_is_object(o->args)) {
		json_decref(o->args);
		o->args = json_object();
	}
	o->scheduled = !strcmp(row->by, "schedule");
	if (row->state == WR_OPS_QUEUED) {
		if (has_ended(c, &row->id)) {
			append(o);
			op_collect(o, -1);
			return;
		}
		/* What sends to other nodes is asked for again by whoever lacks it. */
		if (row->kind == WR_OP_REPLICATE ||
		    (row->kind == WR_OP_COPY && !json_object_get(o->args, "from_snapshot"))) {
			struct wr_err why = WR_ERR_INIT;

			wr_err_set(&why, WR_E_FAILED, "interrupted before it began");
			wr_err_hint(&why, "%s again", wr_op_kind_name(row->kind));
			append(o);
			op_end(o, WR_OPS_FAILED, NULL, &why, "");
			return;
		}
		append(o);
		wr_timer_on(&c->loop, &o->patience, PATIENCE_S * (uint64_t)WR_SECOND, wait_over);
		return;
	}
	set_running(o);
	if (!wr_proc_parse(row->proc, &o->proc)) {
		pid = find_process(c, row->id.s);
		if (pid && wr_proc_id_of(pid, &o->proc, NULL) == 0)
			snprintf(o->row.proc, sizeof(o->row.proc), "%s",
				 wr_proc_format(&o->proc).s);
	}
	if (o->proc.pid > 0)
		pidfd = wr_proc_pidfd(&o->proc);
	if (pidfd < 0) {
		op_collect(o, -1);
		return;
	}
	wr_child_on(&c->loop, &o->child, o->proc.pid, pidfd, on_op_ended);
	if (op_store(o, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "record an operation", &err);
	wr_event(c, "control", &row->project, "op.adopted", wr_op_kind_name(row->kind), NULL);
}

int
wr_ops_adopt(struct wr_control *c, struct wr_err *err)
{
	static const enum wr_op_state state[] = {WR_OPS_RUNNING, WR_OPS_QUEUED};
	int rc = 0;

	/* What runs first; the queue in the order in which it was asked for. */
	for (size_t k = 0; k < WR_ARRAY_LEN(state); k++) {
		struct old_ops l = {0};

		rc = wr_store_op_each(c->store, NULL, state[k], 0, collect_old, &l, err);
		for (size_t i = l.count; i-- > 0;) {
			if (rc == 0)
				adopt_one(c, &l.row[i]);
			wr_op_row_fini(&l.row[i]);
		}
		free(l.row);
		if (rc < 0)
			return -1;
	}
	return 0;
}

void
wr_ops_detach(struct wr_control *c)
{
	for (size_t i = 0; i < c->proj_count; i++) {
		struct wr_proj *p = c->proj[i];

		if (p->run)
			op_free(p->run);
		if (p->copying)
			op_free(p->copying);
		if (p->to_copy)
			op_free(p->to_copy);
		p->copying = p->to_copy = NULL;
		while (p->first) {
			struct wr_op *o = p->first;

			p->first = o->next;
			op_free(o);
		}
		p->run = p->last = NULL;
	}
	wr_timer_off(&c->loop, &c->record);
	while (c->unrecorded) {
		struct wr_op *o = c->unrecorded;

		c->unrecorded = o->next;
		op_free(o);
	}
	while (c->beside) {
		struct wr_op *o = c->beside;

		c->beside = o->next;
		op_free(o);
	}
}

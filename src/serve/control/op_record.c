/* SPDX-License-Identifier: Apache-2.0 */
/* The end of an operation on record: its row, its project's, events. */
#include "base/log.h"
#include "serve/control/control_int.h"
#include "serve/control/queue_int.h"
#include "sys/fs.h"

/* An end that node.db did not take is written again after so long. */
#define RECORD_NS (2 * (uint64_t)WR_SECOND)

bool
wr_op_is_quiet(const struct wr_op *o, enum wr_op_state state, const json_t *receipt)
{
	return o->scheduled && o->row.kind == WR_OP_SAVE && state == WR_OPS_DONE &&
	       o->row.joined == 0 && !o->waiters && !wr_json_get_bool(receipt, "made", true);
}

/* Rows of operation and project in one transaction. */
int
wr_op_record_end(struct wr_op *o, enum wr_op_state state, const json_t *receipt, struct wr_err *err)
{
	struct wr_control *c = o->c;
	struct wr_proj_row row = {0};
	bool keep = true;
	int rc = wr_op_store(o, err);

	if (rc == 0 && wr_row_find(c, &o->row.project, &row, NULL) == 0) {
		if (state == WR_OPS_DONE)
			keep = wr_op_done_row(o, &row, receipt);
		else
			keep = wr_op_undone_row(o, &row);
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

	if (rc == 0 && (rc = wr_op_record_end(o, o->row.state, receipt, err)) < 0)
		wr_store_abort(o->c->store);
	return rc == 0 ? wr_store_commit(o->c->store, err) : -1;
}

/* In the order in which they ended: each writes its project's row. 0: none is left. */
int
wr_ops_record_pending(struct wr_control *c, struct wr_err *err)
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
		wr_op_free(o);
	}
	return 0;
}

static void
record_again(struct wr_timer *t)
{
	struct wr_control *c = WR_OWNER(t, struct wr_control, record);

	if (wr_ops_record_pending(c, NULL) < 0)
		wr_timer_on(&c->loop, t, RECORD_NS, record_again);
}

/* As far as the database knows it may still wait: the next daemon must not begin what was told to
 * be over. */
void
wr_op_leave_end(struct wr_op *o, const struct wr_err *why)
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
void
wr_op_record_later(struct wr_op *o)
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

void
wr_op_tell_end(struct wr_op *o, enum wr_op_state state, const json_t *receipt,
	       const struct wr_err *why)
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
		if (!wr_op_is_quiet(o, state, receipt) && !beside)
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

void
wr_ops_trim(struct wr_control *c, const struct wr_uuid *project)
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

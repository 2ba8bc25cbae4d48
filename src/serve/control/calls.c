/* SPDX-License-Identifier: Apache-2.0 */
/* From a checked call to its handler: who is it, which project or operation, may he? */
#include "serve/control/control_int.h"

static const wr_call_fn handler[WR_API_CALLS] = {
    [WR_API_HEALTH] = wr_on_health,
    [WR_API_NODE] = wr_on_node,
    [WR_API_STATUS] = wr_on_status,
    [WR_API_TOP] = wr_on_top,
    [WR_API_EVENTS] = wr_on_events,
    [WR_API_LIST] = wr_on_list,
    [WR_API_CREATE] = wr_on_create,
    [WR_API_SHOW] = wr_on_show,
    [WR_API_STATE] = wr_on_state,
    [WR_API_SETTINGS_GET] = wr_on_settings_get,
    [WR_API_SETTINGS_SET] = wr_on_settings_set,
    [WR_API_START] = wr_on_start,
    [WR_API_STOP] = wr_on_stop,
    [WR_API_RESTART] = wr_on_restart,
    [WR_API_SAVE] = wr_on_save,
    [WR_API_RESTORE] = wr_on_plain_op,
    [WR_API_UNDO] = wr_on_plain_op,
    [WR_API_CHOWN] = wr_on_plain_op,
    [WR_API_COPY] = wr_on_copy,
    [WR_API_DELETE] = wr_on_delete,
    [WR_API_UNDELETE] = wr_on_undelete,
    [WR_API_PURGE] = wr_on_purge,
    [WR_API_TRASH] = wr_on_trash,
    [WR_API_MKDIR] = wr_on_task,
    [WR_API_FILES] = wr_on_task,
    [WR_API_READ] = wr_on_task,
    [WR_API_SNAPSHOTS] = wr_on_view,
    [WR_API_LS] = wr_on_view,
    [WR_API_CAT] = wr_on_view,
    [WR_API_DIFF] = wr_on_view,
    [WR_API_FIND] = wr_on_view,
    [WR_API_HISTORY] = wr_on_view,
    [WR_API_OPS] = wr_on_ops,
    [WR_API_OP_SHOW] = wr_on_op_show,
    [WR_API_OP_CANCEL] = wr_on_op_cancel,
    [WR_API_OP_LOG] = wr_on_op_log,
    [WR_API_OPENAPI] = wr_on_openapi,
    [WR_API_TOKEN_CREATE] = wr_on_token_create,
    [WR_API_TOKENS] = wr_on_tokens,
    [WR_API_TOKEN_REVOKE] = wr_on_token_revoke,
    [WR_API_CA] = wr_on_ca,
    [WR_API_JOIN_LOOK] = wr_on_join_look,
    [WR_API_JOIN] = wr_on_join,
    [WR_API_NODE_ADD] = wr_on_node_add,
    [WR_API_NODES] = wr_on_nodes,
    [WR_API_NODE_SET] = wr_on_node_set,
    [WR_API_NODE_REMOVE] = wr_on_node_remove,
    [WR_API_FLEET] = wr_on_fleet,
    [WR_API_LOCATE] = wr_on_locate,
    [WR_API_EXPLAIN] = wr_on_explain,
    [WR_API_REPLICATE] = wr_on_replicate,
    [WR_API_MOVE] = wr_on_move,
    [WR_API_REPLICAS] = wr_on_replicas,
    [WR_API_AUDIT] = wr_on_audit,
    [WR_API_HUB_FORCE] = wr_on_force,
    [WR_API_SAVE_ALL] = wr_on_save_all,
    [WR_API_SHUTDOWN] = wr_on_shutdown,
    [WR_API_PERMIT_LOSS] = wr_on_permit_loss,
    [WR_API_USAGE] = wr_on_usage,
    [WR_API_QUOTA_AUTO] = wr_on_quota_auto,
};

/* Does this caller hear whether a project or an operation of others exists? */
static bool
hears(const struct wr_who *who)
{
	return who->rights & WR_RIGHT_READ;
}

static int
resolve_project(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	const struct wr_api_call *api = q->call.api;
	bool removes = api->id == WR_API_DELETE || api->id == WR_API_PURGE;
	bool trashed = api->id == WR_API_UNDELETE || api->id == WR_API_PURGE ||
		       api->id == WR_API_SHOW || api->id == WR_API_STATE || api->id == WR_API_USAGE;

	if (!wr_who_may(&q->who, api, NULL))
		return wr_refuse(c, &q->who, api, q->call.ref, err);
	if (wr_store_proj_find(c->store, q->call.ref, !removes, trashed, &q->row, err) < 0) {
		if (hears(&q->who))
			return -1;
		return wr_refuse(c, &q->who, api, q->call.ref, err);
	}
	if (!wr_who_may(&q->who, api, &q->row.id))
		return wr_refuse(c, &q->who, api, q->call.ref, err);
	return 0;
}

/* An operation is its project's; only the project's row is kept. */
static int
resolve_op(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	const struct wr_api_call *api = q->call.api;
	struct wr_op_row op = {0};
	bool may;

	if (!wr_who_may(&q->who, api, NULL))
		return wr_refuse(c, &q->who, api, q->call.ref, err);
	if (wr_store_op_find(c->store, q->call.ref, &op, err) < 0) {
		if (hears(&q->who))
			return -1;
		return wr_refuse(c, &q->who, api, q->call.ref, err);
	}
	may = wr_who_may(&q->who, api, &op.project);
	snprintf(q->call.ref, sizeof(q->call.ref), "%s", op.id.s);
	/* The project of an old operation may be gone for good. */
	if (wr_store_proj_find(c->store, op.project.s, false, true, &q->row, NULL) < 0)
		q->row = (struct wr_proj_row){0};
	wr_op_row_fini(&op);
	return may ? 0 : wr_refuse(c, &q->who, api, q->call.ref, err);
}

void
wr_call_serve(struct wr_req *q, const char *token)
{
	struct wr_control *c = q->c;
	const struct wr_api_call *api = q->call.api;
	struct wr_err err = WR_ERR_INIT;
	int rc = 0;

	if (wr_who_of(c, q, token, &err) < 0) {
		struct wr_err why = err;

		if (why.code == WR_E_BUSY) {
			wr_req_fail_as(q, 429, &why);
			return;
		}
		wr_refuse(c, &q->who, api, q->call.ref, &err);
		wr_req_fail(q, &why);
		return;
	}
	if (c->draining && (api->flags & WR_API_CHANGES)) {
		wr_err_set(&err, WR_E_BUSY, "the daemon is ending");
		wr_err_hint(&err, "try again when it is back");
		wr_req_fail(q, &err);
		return;
	}
	if (api->flags & WR_API_PROJECT)
		rc = resolve_project(c, q, &err);
	else if (api->flags & WR_API_OP)
		rc = resolve_op(c, q, &err);
	else if (!wr_who_may(&q->who, api, NULL))
		rc = wr_refuse(c, &q->who, api, "", &err);
	if (rc == 0 && !handler[api->id])
		rc = wr_err_set(&err, WR_E_UNSUPPORTED, "not in this release");
	if (rc == 0)
		rc = handler[api->id](c, q, &err);
	if (rc < 0)
		wr_req_fail(q, &err);
}

void
wr_call_forget(struct wr_req *q)
{
	wr_timer_off(&q->c->loop, &q->until);
	if (q->gone) {
		q->gone(q);
		q->gone = NULL;
	}
	if (q->op) {
		struct wr_req **at = &q->op->waiters;

		while (*at != q)
			at = &(*at)->op_next;
		*at = q->op_next;
		q->op = NULL;
	}
	if (q->stream) {
		wr_stream_abort(q->stream);
		q->stream = NULL;
	}
}

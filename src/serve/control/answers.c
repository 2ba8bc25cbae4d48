/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of projects and operations, as JSON. */
#include <unistd.h>

#include "base/str.h"
#include "host/node/age.h"
#include "host/runner/runner.h"
#include "serve/control/fleet.h"
#include "serve/control/limits.h"
#include "serve/control/resources.h"
#include "sys/fs.h"

json_t *
wr_json_args(const struct wr_call *call)
{
	json_t *o = json_object();

	for (size_t i = 0; i < call->val_count; i++) {
		const struct wr_api_arg *a = &call->api->arg[call->val[i].arg];
		const char *v = call->val[i].value;

		if (!strcmp(a->name, "wait"))
			continue;
		switch (a->kind) {
		case WR_ARG_BOOL:
			wr_json_bool(o, a->name, wr_call_bool(call, a->name, false));
			break;
		case WR_ARG_U64:
		case WR_ARG_SIZE:
		case WR_ARG_DURATION:
			wr_json_u64(o, a->name, wr_call_u64(call, a->name, 0));
			break;
		case WR_ARG_PATH:
			wr_json_path(o, a->name, v, strlen(v));
			break;
		case WR_ARG_LIST:
		case WR_ARG_MAP: {
			json_t *list = wr_json_get_arr(o, a->name);

			wr_json_add_str(list ? list : wr_json_array(o, a->name), v);
			break;
		}
		case WR_ARG_STR:
		case WR_ARG_DECIMAL:
		case WR_ARG_UUID:
			wr_json_str(o, a->name, v);
			break;
		}
	}
	return o;
}

/* JSON text of our own database as a member; null if absent or damaged. */
static void
take_text(json_t *o, const char *key, const char *text)
{
	json_t *v = text ? wr_json_parse(text, strlen(text), NULL) : NULL;

	if (v)
		wr_json_take(o, key, v);
	else
		wr_json_null(o, key);
}

/* The exit status that a command which waited for it ends with. */
static int
op_exit(const struct wr_op_row *row, const json_t *receipt, const json_t *error)
{
	struct wr_err e = WR_ERR_INIT;

	if (row->state == WR_OPS_DONE)
		return (int)wr_json_get_u64(receipt, "exit", 0);
	if (row->state == WR_OPS_FAILED || row->state == WR_OPS_CANCELLED) {
		wr_json_get_err(error, &e);
		return e.code == WR_E_NONE ? 1 : wr_err_exit(e.code);
	}
	return 0;
}

json_t *
wr_json_op(struct wr_control *c, const struct wr_op_row *row)
{
	json_t *o = wr_json_begin("warren.operation/1");
	struct wr_proj_row proj = {0};
	struct wr_status st = {0};
	WR_SCOPED(wr_closep) int fd = -1;
	bool known = row->project.s[0] && wr_row_find(c, &row->project, &proj, NULL) == 0;
	const char *step = row->step;

	wr_json_str(o, "id", row->id.s);
	wr_json_str(o, "project", row->project.s[0] ? row->project.s : NULL);
	wr_json_str(o, "name", known ? proj.name : NULL);
	wr_json_str(o, "kind", wr_op_kind_name(row->kind));
	wr_json_str(o, "state", wr_op_state_name(row->state));
	wr_json_str(o, "by", row->by);
	wr_json_time(o, "created", row->created);
	wr_json_time_or_null(o, "started", row->started);
	wr_json_time_or_null(o, "finished", row->finished);
	if (row->state == WR_OPS_RUNNING) {
		fd = wr_opdir_open(c->node, &row->id, NULL);
		if (fd >= 0 && wr_opdir_progress(fd, &st, NULL) == 0)
			step = st.step;
	}
	wr_json_str(o, "step", step && *step ? step : NULL);
	if (row->state == WR_OPS_RUNNING && *st.step) {
		WR_SCOPED(wr_json_freep) json_t *s = wr_status_json(&st);
		json_t *progress = json_object_get(s, "progress");

		json_object_set(o, "progress", progress ? progress : json_null());
	} else {
		wr_json_null(o, "progress");
	}
	wr_json_u64(o, "joined", row->joined);
	take_text(o, "receipt", row->receipt);
	take_text(o, "error", row->error);
	wr_json_u64(
	    o, "exit",
	    (uint64_t)op_exit(row, wr_json_get_obj(o, "receipt"), wr_json_get_obj(o, "error")));
	wr_proj_row_fini(&proj);
	return o;
}

void
wr_req_reply_op(struct wr_req *q, const struct wr_uuid *op)
{
	struct wr_op_row row = {0};
	struct wr_err err = WR_ERR_INIT;
	json_t *o;
	bool ended;

	if (wr_op_find(q->c, op->s, &row, &err) < 0) {
		wr_req_fail(q, &err);
		return;
	}
	o = wr_json_op(q->c, &row);
	ended = row.state != WR_OPS_QUEUED && row.state != WR_OPS_RUNNING;
	wr_op_row_fini(&row);
	wr_req_reply(q, ended ? 200 : 202, 0, o);
}

void
wr_json_last_save(json_t *o, const struct wr_proj_row *r)
{
	json_t *s;

	if (!r->save_began && !*r->commit) {
		wr_json_null(o, "last_save");
		return;
	}
	s = wr_json_object(o, "last_save");
	wr_json_time_or_null(s, "began", r->save_began);
	wr_json_time_or_null(s, "ended", r->save_ended);
	wr_json_bool(s, "ok", r->save_ok);
	wr_json_str(s, "commit", *r->commit ? r->commit : NULL);
	wr_json_str(s, "snapshot", *r->snapshot ? r->snapshot : NULL);
}

/* What an operator should know of it in one line, NULL if nothing. */
static const char *
notice(const struct wr_proj_row *r, const struct wr_status *st, const char *strain)
{
	const struct wr_notice *worst = wr_notice_worst(st);

	if (st->state == WR_ST_ERROR)
		return st->error.msg;
	if (strain)
		return strain;
	if (r->save_began && !r->save_ok)
		return "its last save failed";
	return worst ? worst->text : NULL;
}

json_t *
wr_json_project(struct wr_control *c, const struct wr_proj_row *r, enum wr_item how)
{
	json_t *o = how == WR_ITEM_SHOW ? wr_json_begin("warren.project/1") : json_object();
	struct wr_settings set = {0};
	struct wr_status st = {0};
	bool has = wr_row_settings(r, &set, NULL) == 0;
	WR_SCOPED(wr_freep) char *home = NULL;
	WR_SCOPED(wr_freep) char *strain = NULL;
	json_t *labels;

	/* What is not in memory is at rest: thousands of them are told without a look at the disk.
	 */
	if (how == WR_ITEM_SHOW || wr_proj_find(c, &r->id)) {
		wr_row_status(c, r, &st);
	} else {
		st.state = r->deleted ? WR_ST_ABSENT : WR_ST_STOPPED;
		st.when = r->deleted ? r->deleted : WR_MAX(r->used, r->created);
		st.epoch = 1;
		snprintf(st.node, sizeof(st.node), "%s", c->node->id.s);
	}
	if (has)
		home = wr_settings_home(&set, c->node->root ? c->node->root : "");
	wr_json_str(o, "id", r->id.s);
	wr_json_str(o, "name", r->name);
	labels = wr_json_object(o, "labels");
	for (size_t i = 0; has && i < set.label_count; i++)
		wr_json_str(labels, set.label[i].key, set.label[i].value);
	wr_json_take(o, "state", wr_status_json(&st));
	wr_json_str(o, "home", home);
	wr_json_u64(o, "uid", r->uid);
	wr_json_u64(o, "gid", r->gid);
	wr_json_str(o, "account",
		    has && (*set.account || (c->accounts != WR_ACCOUNTS_NONE && set.exclusive))
			? wr_account_of(&set)
			: NULL);
	wr_json_str(o, "identity", has ? wr_identity_name(set.identity) : NULL);
	wr_json_str(o, "accounts", wr_accounts_name(c->accounts));
	wr_json_bool(o, "desired", r->desired);
	wr_json_take(o, "holders", wr_holders_parse(r->holders));
	wr_json_bool(o, "autostart", r->autostart);
	wr_json_u64(o, "rev", has ? set.rev : 0);
	wr_json_u64(o, "epoch", 1);
	wr_json_str(o, "node", c->node->id.s);
	wr_fleet_json(c, o, r, how);
	wr_lease_json(c, o, &r->id);
	wr_json_time(o, "created", r->created);
	wr_json_str(o, "volume",
		    r->tree_vol < c->node->volume_count ? c->node->volume[r->tree_vol].path : NULL);
	wr_json_last_save(o, r);
	wr_json_u64(o, "files", r->files);
	wr_json_u64(o, "bytes", r->bytes);
	wr_json_u64(o, "repo_bytes", r->repo_bytes);
	if (how == WR_ITEM_SHOW) {
		struct wr_runner_status run = {0};

		if (st.active)
			wr_runner_status(c->node, &r->id, r->uid, r->exclusive, false, &run);
		wr_json_u64(o, "processes", run.processes);
		wr_limits_json(c, o, r, st.active, has ? &set : NULL);
		wr_resources_json(c, o, r);
		if (has)
			wr_json_take(o, "settings", wr_settings_show(&set));
		else
			wr_json_null(o, "settings");
	}
	if (has)
		strain = wr_resources_notice(c, r, &set);
	wr_json_str(o, "notice", notice(r, &st, strain));
	if (r->deleted) {
		wr_json_time(o, "deleted", r->deleted);
		wr_json_time(o, "trash_until",
			     r->deleted +
				 (int64_t)wr_age_span(c->node, c->node->config.trash_keep));
	}
	wr_settings_fini(&set);
	return o;
}

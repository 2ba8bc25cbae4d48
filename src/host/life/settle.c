/* SPDX-License-Identifier: Apache-2.0 */
/* States whose operation is gone. */
#include "host/life/life_int.h"

#include "sys/clock.h"
#include "sys/fs.h"

/* What the operation left: 1 it ended well, 0 with an error (*why), -1 nothing. */
static int
result_of(struct wr_place_of *p, const char *op, struct wr_err *why)
{
	WR_SCOPED(wr_json_freep) json_t *result = NULL;
	WR_SCOPED(wr_closep) int fd = -1;
	struct wr_uuid id;

	if (!wr_uuid_parse(op, &id))
		return -1;
	fd = wr_opdir_open(p->node, &id, NULL);
	if (fd < 0)
		return -1;
	result = wr_opdir_result(fd, NULL);
	if (!result)
		return -1;
	if (wr_json_get_bool(result, "ok", false))
		return 1;
	wr_json_get_err(wr_json_get_obj(result, "error"), why);
	return 0;
}

static const char *
cure(enum wr_op_kind kind)
{
	switch (kind) {
	case WR_OP_STOP:
		return "stop";
	case WR_OP_START:
	case WR_OP_RESTART:
		return "start";
	default:
		return "status";
	}
}

bool
wr_life_settle(struct wr_place_of *p, const struct wr_settings *set, const struct wr_status *now,
	       struct wr_status *out)
{
	enum wr_op_kind kind = wr_op_kind_parse(now->op_kind);
	bool active = wr_life_presented(p, set);
	struct wr_err why = WR_ERR_INIT;
	enum wr_state_event ev = WR_EV_INTERRUPTED;
	enum wr_state next;
	int ended;

	if (!wr_state_transient(now->state)) {
		if (now->active == active && (now->state != WR_ST_RUNNING || active))
			return false;
		*out = *now;
		out->active = active;
		if (now->state == WR_ST_RUNNING && !active) {
			out->state = WR_ST_STOPPED;
			out->when = wr_clock_wall().s;
		} else if (now->state == WR_ST_STOPPED && active) {
			out->state = WR_ST_RUNNING;
			out->when = wr_clock_wall().s;
		}
		return true;
	}
	/* A save of a project in error: that is what it still is. */
	if (now->state == WR_ST_SAVING && now->error.code != WR_E_NONE) {
		*out = (struct wr_status){.state = WR_ST_ERROR,
					  .when = now->when,
					  .active = active,
					  .epoch = now->epoch,
					  .error = now->error};
		memcpy(out->node, now->node, sizeof(out->node));
		memcpy(out->op, now->op, sizeof(out->op));
		memcpy(out->notice, now->notice, sizeof(out->notice));
		out->notice_count = now->notice_count;
		return true;
	}
	ended = result_of(p, now->op, &why);
	if (ended >= 0)
		ev = ended ? WR_EV_DONE : WR_EV_FAILED;
	next = wr_state_next(now->state, kind, ev, active);
	if (next == WR_ST_UNSET)
		next = active ? WR_ST_RUNNING : WR_ST_STOPPED;
	*out = *now;
	out->state = next;
	out->when = wr_clock_wall().s;
	out->active = active;
	out->done = out->total = out->files = out->files_total = out->bytes = out->bytes_total = 0;
	out->unit[0] = '\0';
	out->error = (struct wr_err)WR_ERR_INIT;
	if (next != WR_ST_ERROR) {
		out->step[0] = out->op[0] = out->op_kind[0] = '\0';
	} else if (ended == 0) {
		out->error = why;
	} else {
		wr_err_set(&out->error, WR_E_FAILED, "%s of project '%s' was cut off%s%s",
			   kind == WR_OP_NONE ? "an operation" : wr_op_kind_name(kind), set->name,
			   now->step[0] ? " at step " : "", now->step);
		wr_err_hint(&out->error, "warren %s %s", cure(kind), set->name);
	}
	return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "model/op.h"

static const struct {
	const char *name;
	bool cancellable;
} kinds[WR_OP_KINDS] = {
    [WR_OP_NONE] = {"none", false},       [WR_OP_CREATE] = {"create", true},
    [WR_OP_START] = {"start", false},     [WR_OP_STOP] = {"stop", false},
    [WR_OP_RESTART] = {"restart", false}, [WR_OP_SAVE] = {"save", true},
    [WR_OP_RESTORE] = {"restore", true},  [WR_OP_UNDO] = {"undo", true},
    [WR_OP_CHOWN] = {"chown", true},      [WR_OP_COPY] = {"copy", true},
    [WR_OP_DELETE] = {"delete", false},   [WR_OP_UNDELETE] = {"undelete", false},
    [WR_OP_PURGE] = {"purge", false},     [WR_OP_REPLICATE] = {"replicate", true},
    [WR_OP_UPDATE] = {"update", true},    [WR_OP_DROP] = {"drop", false},
};

static const char *const states[] = {
    [WR_OPS_UNSET] = "unset", [WR_OPS_QUEUED] = "queued", [WR_OPS_RUNNING] = "running",
    [WR_OPS_DONE] = "done",   [WR_OPS_FAILED] = "failed", [WR_OPS_CANCELLED] = "cancelled",
};

const char *
wr_op_kind_name(enum wr_op_kind k)
{
	return kinds[k].name;
}

enum wr_op_kind
wr_op_kind_parse(const char *s)
{
	for (unsigned k = WR_OP_NONE + 1; k < WR_OP_KINDS; k++)
		if (!strcmp(s, kinds[k].name))
			return k;
	return WR_OP_NONE;
}

bool
wr_op_cancellable(enum wr_op_kind k)
{
	return kinds[k].cancellable;
}

const char *
wr_op_state_name(enum wr_op_state s)
{
	return states[s];
}

enum wr_op_state
wr_op_state_parse(const char *s)
{
	for (unsigned k = WR_OPS_UNSET + 1; k < WR_ARRAY_LEN(states); k++)
		if (!strcmp(s, states[k]))
			return k;
	return WR_OPS_UNSET;
}

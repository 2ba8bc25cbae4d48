/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a project on a node: what get_state answers, what conf/state.json holds, and which
 * transitions there are, as data.  Pure.
 *
 *            create           start             stop
 *   absent ---------> stopped ------> starting -----> running ------> stopping -----> stopped
 *                        |                               | save / restore: saving, and back
 *                        | save, restore: saving, and back to where it was
 *   running -- restart --> restarting --> running
 *   a step that fails: error, with step and reason. The same operation leads out of it, or one
 *   that starts or stops. A save mends nothing: a project in error that is saved is in error
 *   again; nor do other files mend a start or stop that failed.
 */
#ifndef WR_STATE_H
#define WR_STATE_H

#include "base/json.h"
#include "model/op.h"

enum wr_state {
	WR_ST_UNSET = 0,
	WR_ST_ABSENT,
	WR_ST_STOPPED,
	WR_ST_STARTING,
	WR_ST_RUNNING,
	WR_ST_RESTARTING,
	WR_ST_STOPPING,
	WR_ST_SAVING,
	WR_ST_ERROR,
};
const char *wr_state_name(enum wr_state s);
enum wr_state wr_state_parse(const char *s); /* UNSET if unknown */
/* starting, restarting, stopping, saving: only while an operation lives. */
bool wr_state_transient(enum wr_state s);

/* What happens to a project. */
enum wr_state_event {
	WR_EV_BEGIN,       /* an operation of a kind begins */
	WR_EV_DONE,        /* it ended well */
	WR_EV_FAILED,      /* it ended with an error */
	WR_EV_INTERRUPTED, /* its process is gone without a result */
	WR_EV_REFUSED,     /* it ended with an error before it changed anything of the project */
};
/*
 * The next state from the table, UNSET if the event is not allowed in `from` (an operation must
 * then be refused).  active: the project's home is presented now (after the operation's last act).
 * A failed or interrupted save leads to where the project was (running if active, else stopped): a
 * save harms nothing.  A failed start, stop, restart, restore, undo, copy, delete: error; a
 * restore, undo, copy or delete that was refused: where the project was.  A create, an undelete and
 * a purge begin in absent and stay there until they are done; a chown, an update and a replicate
 * change no state.
 */
enum wr_state wr_state_next(enum wr_state from, enum wr_op_kind kind, enum wr_state_event ev,
			    bool active);
/* Every row of the table, for tests and for documents: returns false past the end. */
struct wr_transition {
	enum wr_state from;
	enum wr_op_kind kind;
	enum wr_state_event ev;
	enum wr_state to_active, to_inactive; /* equal where `active` does not matter */
};
bool wr_state_row(size_t i, struct wr_transition *out);

/* Steps: what a transition is doing. */
extern const char
    *const wr_step_names[]; /* ends with NULL: init_repo import restore salvage create_account
			       set_quota sync_template present_home run_hooks
			       start_processes stop_processes unmount scan snapshot
			       replicate thin rebuild chown trash purge copy open release update */
bool wr_step_known(const char *step);

/* One place that a save goes to, while it does. LIMIT: as many as a project has members. */
#define WR_STATUS_TARGETS 9
struct wr_status_target {
	char node[37], name[64];
	char state[16];       /* "connecting", "sending", "waiting", "done", "failed" */
	uint64_t done, total; /* bytes; total 0: not known */
};

/* What its user and its operator should know of a project while it lasts. */
struct wr_notice {
	char code[24];  /* what it is about: disk, inodes, history */
	uint64_t level; /* the mark that was reached, percent: 80, 95, 100 */
	char text[256];
	char command[128]; /* that helps; "" = none */
	int64_t since;
};
/* LIMIT: of one project at a time, one for each code. */
#define WR_NOTICES_MAX 5
/* The gravest; NULL: there is none. */
struct wr_status;
const struct wr_notice *wr_notice_worst(const struct wr_status *s);
/* {"code","level","text","command","since"} as a new reference, null for NULL. */
json_t *wr_notice_json(const struct wr_notice *n);
/* At which mark a use is that was at mark `was` (0: none): a mark is left 3 percent below it. */
uint64_t wr_notice_level(uint64_t used, uint64_t limit, uint64_t was);

/* conf/state.json, format 1. */
struct wr_status {
	enum wr_state state;
	int64_t when;         /* entered, seconds since the epoch */
	char step[32];        /* "" = none */
	uint64_t done, total; /* of unit; total 0: not known */
	char unit[16];        /* "files", "bytes"; "" = no progress is known */
	uint64_t files, files_total, bytes, bytes_total;   /* both, while it is known */
	struct wr_status_target target[WR_STATUS_TARGETS]; /* step "replicate" */
	size_t target_count;
	char op[37]; /* the operation's id, "" = none */
	char op_kind[16];
	bool active;    /* the home is presented and processes may run */
	uint64_t epoch; /* 1 with one member */
	char node[37];
	struct wr_err error; /* code WR_E_NONE: none */
	struct wr_notice notice[WR_NOTICES_MAX];
	size_t notice_count;
};
/* {"v":1,"state","when","step","progress":{"done","total","unit","percent","files","files_total",
 * "bytes","bytes_total"},"targets"?,"op","op_kind","active","epoch","node","error","notice": the
 * gravest of "notices"}; absent members are null.
 */
json_t *wr_status_json(const struct wr_status *s);
int wr_status_parse(const json_t *o, struct wr_status *out, struct wr_err *err);

#endif

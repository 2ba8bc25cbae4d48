/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of control share.  One thread, one loop; nothing here waits for anything that a
 * user could hold up.  In memory are only: fronts with their open requests, operations that wait or
 * run, and projects that are wanted active, have operations or are in trouble.
 */
#ifndef WR_CONTROL_INT_H
#define WR_CONTROL_INT_H

#include "host/auth/auth.h"
#include "host/ident/ident.h"
#include "host/life/life.h"
#include "host/runner/runner.h"
#include "host/store/store.h"
#include "serve/control/control.h"
#include "serve/control/loop.h"
#include "serve/control/rules.h"
#include "serve/ipc/ipc.h"
#include "sys/proc.h"

/* LIMITs */
#define WR_FRONTS_MAX 64
#define WR_CONNS_MAX 200 /* of one uid */
#define WR_REQS_MAX 256  /* open at one front; more is misbehaviour */
#define WR_ANSWER_LARGE (1u << 20)
#define WR_OUT_MAX (32u << 20)    /* bytes waiting for a front that does not read */
#define WR_STREAMS_MAX 8          /* of one uid or token at a time */
#define WR_STDERR_MAX (64u << 10) /* of a view, or of a task's result line by line */
#define WR_QUEUE_MAX 16           /* operations that wait for one project */
#define WR_QUEUED_MAX 4096        /* operations that wait at all */
#define WR_RUNNING_MAX 24         /* operations that run at a time */
#define WR_COPYING_MAX 8          /* operations that replicate, likewise */
#define WR_REFUSALS_MAX 50        /* refusals told a minute */
#define WR_FROM_MAX 32            /* connections from one address, of WR_CONNS_MAX in all */
#define WR_WRONG_MAX 10           /* wrong tokens a minute from one address */

#define WR_SECOND 1000000000u

struct wr_front;
struct wr_op;
struct wr_proj;
struct wr_stream;

struct wr_fleetctl;
struct wr_limits;
struct wr_notices;
struct wr_scratches;

/* The HTTPS API (net.c). */
struct wr_net {
	struct wr_watch listener; /* fd -1: it is not wanted */
	struct wr_timer again;
	struct wr_wrongs wrong;
	uint64_t cert; /* which key and certificate new fronts get; grows when they change */
	int64_t cert_stamp_ns;
};

struct wr_control {
	struct wr_node *node;
	struct wr_store *store;
	struct wr_fleetctl *fleet; /* NULL: in no fleet; fleet.h */
	struct wr_net net;
	bool hub_named;      /* a hub's certificate has the names of its configuration */
	struct wr_lock lock; /* the node's */
	struct wr_loop loop;
	const char *front_program;
	bool draining, ended;
	bool leaving;           /* the host goes down: nothing starts any more (save_all.c) */
	struct save_all *leave; /* what is saved before it does, until that is done */
	struct wr_timer stays;  /* unless it does not */
	uid_t self;
	enum wr_accounts accounts; /* how projects get names here */
	uid_t *admins;
	size_t admin_count;

	struct wr_watch listener, signals;
	struct wr_timer listen_again, drain_end;
	struct wr_front *fronts;
	size_t front_count;
	uint32_t next_conn;
	struct wr_tally refusals;
	bool trim; /* a large answer was made: memory is to be given back */

	struct wr_proj **proj; /* ascending by id */
	size_t proj_count, proj_cap;
	size_t running, queued, by_schedule; /* operations */
	size_t copying;                      /* those that replicate, beside them */
	struct wr_op *beside;                /* copies that wait for a save of their source */
	struct wr_op *unrecorded;            /* ended, and node.db does not know it yet */
	struct wr_timer record;              /* to try that again */
	struct wr_timer kick;                /* start what may start, from the loop */
	struct wr_stream *streams;
	struct wr_scratches *scratches; /* scratch.h */

	struct wr_timer tick;
	uint64_t watchdog_ns, volumes_ns, idle_ns, trash_ns;
	struct {
		uint64_t looked_ns, since_ns; /* monotonic; since: it is doubted */
		int64_t ahead_s;              /* of what is believed; 0: it is */
	} clock;
	bool *volume_lost;          /* per volume of the node */
	struct wr_limits *limits;   /* limits.h */
	struct wr_notices *notices; /* notices.h */
	size_t resources_next;      /* of proj, to be looked after */
	struct wr_marks *marks;     /* marks.h */
	struct wr_uuid *back;       /* projects still to be brought back */
	size_t back_count, back_cap, back_running;
};

/* ---- requests (conns.c, calls.c) ---- */

/* One call of a front that is not answered yet. */
struct wr_req {
	struct wr_control *c;
	struct wr_front *front;
	uint32_t seq;
	struct wr_call call;
	struct wr_who who;
	struct wr_from from;        /* of a call that came by a network */
	struct wr_proj_row row;     /* of the project that the call names; id empty if none */
	struct wr_req *prev, *next; /* of its front */
	/* waits for the end of an operation */
	struct wr_op *op;
	struct wr_req *op_next;
	struct wr_timer until;
	struct wr_stream *stream;
	/* waits for other nodes: who keeps it hears that nobody waits any more */
	void (*gone)(struct wr_req *q);
	void *held;
};

int wr_ctl_listen(struct wr_control *c, struct wr_err *err);
void wr_ctl_stop_listening(struct wr_control *c);
/* A front for uid, started if there is none. */
struct wr_front *wr_front_of(struct wr_control *c, uid_t uid, struct wr_err *err);
uid_t wr_front_uid(const struct wr_front *f);
/* One for connections from a network: it is nobody, tokens alone give rights. */
struct wr_front *wr_front_of_nobody(struct wr_control *c, struct wr_err *err);
bool wr_front_is_nobody(const struct wr_front *f);
/* How many connections it has, of all and from there. */
size_t wr_front_conns(const struct wr_front *f, const struct wr_from *from, size_t *out_from);
/* A connection for it (taken). from: NULL unless it came by a network. */
void wr_front_give(struct wr_front *f, int fd, const struct wr_from *from);
/* QUIT to all; each ends by itself. */
void wr_fronts_quit(struct wr_control *c);
void wr_fronts_tick(struct wr_control *c);
/* End all that are left, and their requests. */
void wr_fronts_kill(struct wr_control *c);

/* ---- the fleet as this node has it (hub_place.c) ---- */

/* Of a hub, at its start and daily: its own addresses in the fleet record; a certificate for its
 * names, at the start and when it is time for a new one. */
int wr_hub_refresh(struct wr_control *c, struct wr_err *err);

/* ---- the HTTPS API (net.c) ---- */

/* Nothing happens unless [listen] api says where. */
int wr_net_listen(struct wr_control *c, struct wr_err *err);
/* wr_link_listen at a start: a process of the daemon before may still be about to end. */
int wr_net_socket(const char *where, struct wr_err *err);
void wr_net_stop_listening(struct wr_control *c);
/* Once a second: has the certificate been renewed? */
void wr_net_tick(struct wr_control *c);
/* A file in memory with the key and its certificates, as PEM: descriptor, or -1. */
int wr_net_key(struct wr_control *c, struct wr_err *err);
/* When the node's key and certificate were written last. */
int64_t wr_key_stamp(struct wr_control *c);
struct wr_from_text {
	char s[48];
};
struct wr_from_text wr_from_text(const struct wr_from *f);
/* Append a certificate as PEM. */
void wr_pem_add(struct wr_buf *out, const void *der, size_t len);
/* Answers that many requests at once: every request that waits for an operation. */
void wr_fronts_answer_waiting(struct wr_control *c);

/* Answers; the request is gone then. */
void wr_req_reply(struct wr_req *q, unsigned http, int exit, json_t *body_taken);
/* The end of a handler: rc < 0 gives -1 and drops the body, otherwise it is the answer. */
int wr_req_answer(struct wr_req *q, int rc, json_t *body_taken);
void wr_req_fail(struct wr_req *q, const struct wr_err *err);
/* Likewise, with a status that the error's code does not give. */
void wr_req_fail_as(struct wr_req *q, unsigned http, const struct wr_err *err);
/* The answer is what comes out of the pipe (taken), until wr_req_end. */
void wr_req_stream(struct wr_req *q, const char *type, int pipe_fd);
void wr_req_end(struct wr_req *q, int exit, const struct wr_err *err);

/* A new call, checked as far as decoding goes. Answers now or later. */
void wr_call_serve(struct wr_req *q, const char *token);
/* Nobody waits any more: take the request out of what holds it. */
void wr_call_forget(struct wr_req *q);

/* 0: answered, or the request is kept by an operation or a stream. -1: to be answered with err. */
typedef int (*wr_call_fn)(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_health(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_node(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_status(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_top(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_events(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_list(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_create(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_show(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_state(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_settings_get(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_settings_set(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_start(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_stop(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_restart(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_save(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_plain_op(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_copy(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_delete(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_undelete(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_purge(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_trash(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_ops(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_op_show(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_op_cancel(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_op_log(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_view(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_task(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_openapi(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_token_create(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_tokens(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_token_revoke(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_ca(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_join_look(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_join(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_node_add(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_nodes(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_node_set(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_node_remove(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_fleet(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_locate(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_explain(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_replicate(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_move(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_replicas(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_audit(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_force(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_permit_loss(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_usage(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_quota_auto(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_save_all(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_on_shutdown(struct wr_control *c, struct wr_req *q, struct wr_err *err);

/* ---- authority (authority.c) ---- */

int wr_admins_load(struct wr_control *c, struct wr_err *err);
bool wr_is_admin(const struct wr_control *c, uid_t uid);
/* Who is behind a request (q->who, filled also on failure): by its front, and by a token ("":
 * none). WR_E_DENIED: one that is unknown or expired; WR_E_BUSY: too many wrong ones came from
 * there. */
int wr_who_of(struct wr_control *c, struct wr_req *q, const char *token, struct wr_err *err);
/* A secret of any kind was wrong; gives -1. Too many from one address are told as an event. */
int wr_wrong_secret(struct wr_control *c, const struct wr_req *q);
/* Is the next one looked at? WR_E_BUSY: not before the minute is over. */
int wr_wrong_held(struct wr_control *c, const struct wr_req *q, struct wr_err *err);
/* The error of a refusal, told as an event within bounds. Returns -1. */
int wr_refuse(struct wr_control *c, const struct wr_who *who, const struct wr_api_call *api,
	      const char *ref, struct wr_err *err);
void wr_refusals_flush(struct wr_control *c);

/* ---- settings (calls_project.c) ---- */

/* A change that was made to settings (rev is still what it was) takes effect: here, or by a hub.
 * done: once, at once or later. */
typedef void (*wr_settings_fn)(void *ctx, const struct wr_err *why);
void wr_settings_put(struct wr_control *c, const struct wr_proj_row *row, struct wr_settings *set,
		     uint64_t before, const char *by, const char *what, wr_settings_fn done,
		     void *ctx);

/* ---- projects (projects.c) ---- */

struct wr_proj {
	struct wr_control *c;
	struct wr_uuid id;
	bool active;                      /* wanted */
	bool restless;                    /* its state is not at rest, wanted or not */
	struct wr_op *run, *first, *last; /* run: not in the queue any more */
	struct wr_op *copying, *to_copy;  /* replicate: beside all others; at most one waits */
	size_t waiting;                   /* in the queue, or copies into it that wait beside */
	/* schedule; seconds of the monotonic clock */
	uint64_t last_scan_s, due_s;
	uint64_t save_every, idle_timeout;
	struct wr_uuid spare; /* its last scheduled save that made nothing; "" = none */
	char warned[64];      /* the failure of a scheduled save that was told last */
	bool noticed;         /* its user's prompt shows what there is to know */
	/* resources.c */
	unsigned enforced; /* enum wr_cgroup_ctl */
	bool seen_loaded;
	struct wr_run_seen seen;
};
struct wr_proj *wr_proj_find(struct wr_control *c, const struct wr_uuid *id); /* NULL: dormant */
struct wr_proj *wr_proj_get(struct wr_control *c, const struct wr_uuid *id);
/* Out of memory with it if nothing is to be remembered. */
void wr_proj_rest(struct wr_proj *p);
/* What the index and the settings say now counts for the schedule. */
void wr_proj_refresh(struct wr_proj *p, const struct wr_proj_row *row);
void wr_projs_free(struct wr_control *c);

int wr_row_find(struct wr_control *c, const struct wr_uuid *id, struct wr_proj_row *out,
		struct wr_err *err);
/* The members of a row that settings decide. */
void wr_row_from_settings(struct wr_proj_row *r, const struct wr_settings *s);
int wr_row_settings(const struct wr_proj_row *r, struct wr_settings *out, struct wr_err *err);
/* The size of its repository, from the disk. */
void wr_row_measure(struct wr_control *c, struct wr_proj_row *row);
/* The state as it is now: read, and put right if its operation is gone. */
void wr_row_status(struct wr_control *c, const struct wr_proj_row *r, struct wr_status *out);
/* Every living project, or every one in the trash, that he may see. */
int wr_rows_seen(struct wr_control *c, const struct wr_who *who, bool trashed, wr_proj_fn fn,
		 void *ctx, struct wr_err *err);
/* WR_E_FAILED with the volume's path if one of its volumes is not there. */
int wr_row_volumes(struct wr_control *c, const struct wr_proj_row *r, struct wr_err *err);
/* The index and the disks: rows for what has none, all states put right. */
int wr_ctl_reconcile(struct wr_control *c, struct wr_err *err);

/* ---- operations (queue_int.h names the files) ---- */

struct wr_op;

/* Someone of control who wants to know how an operation ends. Called once, at its end: nothing is
 * submitted from within, timers are set instead. receipt: if it is done, else why. */
struct wr_op_watch {
	void (*fn)(struct wr_op_watch *w, const json_t *receipt, const struct wr_err *why);
	struct wr_op_watch *next;
};

struct wr_op {
	struct wr_control *c;
	struct wr_proj *p;
	struct wr_op_row row;
	json_t *args; /* own */
	bool scheduled,
	    back;            /* asked for by the schedule; brought back after a start of the node */
	bool cancelled;      /* asked to */
	struct wr_lock lock; /* until it is handed over */
	struct wr_timer again;    /* to ask for the lock */
	struct wr_timer patience; /* until it is to be started */
	struct wr_child child;
	struct wr_proc_id proc;
	struct wr_req *waiters;
	struct wr_op_watch *watches;
	struct wr_uuid source_save; /* of a copy: the save that it waits for */
	struct wr_op *next;         /* in the queue, or beside */
};

struct wr_op_wish {
	const struct wr_proj_row *row;
	enum wr_op_kind kind;
	json_t *args; /* taken */
	const char *by;
	bool may_wait;
	uint64_t wait_s;
	bool scheduled, back;
	const struct wr_uuid *id; /* NULL: a new one */
};
/* Check, note durably, queue and start what can start. *out: the operation, which may be one that
 * was joined. WR_E_BUSY names what is in the way. */
int wr_op_submit(struct wr_control *c, struct wr_op_wish *w, struct wr_uuid *out,
		 struct wr_err *err);
/* A save of the source, then a copy into the destination: *out is the copy. */
int wr_op_submit_copy(struct wr_control *c, const struct wr_proj_row *source, struct wr_op_wish *w,
		      struct wr_uuid *out, struct wr_err *err);
/* As the store has it, or as it ended, where that could not be written yet. */
int wr_op_find(struct wr_control *c, const char *ref, struct wr_op_row *out, struct wr_err *err);
struct wr_op *wr_op_live(struct wr_control *c, const struct wr_op_row *row); /* NULL: it ended */
/* false: it ended already, or is unknown; w is not kept then. */
bool wr_op_watch(struct wr_control *c, const struct wr_uuid *op, struct wr_op_watch *w);
void wr_op_unwatch(struct wr_control *c, struct wr_op_watch *w);
/* WR_E_BUSY if it cannot be given up any more. */
int wr_op_cancel(struct wr_op *o, const char *by, struct wr_err *err);
/* For processes of ours: what settings of the node or tests come by, but no secrets except the
 * token (NULL: none). */
char **wr_part_environment(struct wr_control *c, const char *token);
void wr_part_environment_free(char **env);
/* Start whatever may start. */
void wr_ops_kick(struct wr_control *c);
/* After a start of the daemon: adopt what runs, finish what ended, queue what waited. */
int wr_ops_adopt(struct wr_control *c, struct wr_err *err);
void wr_ops_detach(struct wr_control *c); /* at the end: leave them running */

/* ---- schedule.c ---- */

void wr_schedule_begin(struct wr_control *c);
/* clock.c: once a second; why nothing goes by its age (NULL: the clock is believed). */
void wr_clock_tick(struct wr_control *c);
char *wr_clock_doubt(const struct wr_control *c);
int wr_bring_back(struct wr_control *c, struct wr_err *err);
void wr_back_next(struct wr_control *c);
/* Purge what was in the trash for its time. */
void wr_purge_expired(struct wr_control *c);
/* Why a project is not idle (no process, nothing changed for its idle_timeout); NULL: it is. */
const char *wr_not_idle(struct wr_control *c, const struct wr_proj_row *row);

/* ---- streams (views.c) ---- */

void wr_stream_abort(struct wr_stream *s);
/* Answer with a text (taken), which may be longer than a message. */
int wr_stream_text(struct wr_req *q, struct wr_buf *text, struct wr_err *err);
void wr_streams_kill(struct wr_control *c);
/* How far somebody's look at what a project takes is, as the task says it; NULL: nobody looks, or
 * nothing is known yet. New reference. */
json_t *wr_streams_progress(struct wr_control *c, const struct wr_uuid *project);

/* ---- usage.c ---- */

/* More arguments for the task; *out_scratch: what it counts besides, or -1. */
int wr_usage_args(struct wr_control *c, const struct wr_proj_row *r, json_t *args, int *out_scratch,
		  struct wr_err *err);
/* What it found, and what is known besides; result NULL: nothing was looked at. */
json_t *wr_usage_json(struct wr_control *c, const struct wr_proj_row *r, const json_t *result);

/* ---- answers.c ---- */

json_t *wr_json_op(struct wr_control *c, const struct wr_op_row *row);
enum wr_item { WR_ITEM_LIST, WR_ITEM_SHOW };
json_t *wr_json_project(struct wr_control *c, const struct wr_proj_row *r, enum wr_item how);
void wr_json_last_save(json_t *o, const struct wr_proj_row *r);
/* All arguments of a call but `wait`, typed. */
json_t *wr_json_args(const struct wr_call *call);
/* Answer with an operation as it is now: 202, or 200 if it ended. */
void wr_req_reply_op(struct wr_req *q, const struct wr_uuid *op);

/* ---- events ---- */

/* An event, and a line of log; detail is taken, may be NULL. */
void wr_event(struct wr_control *c, const char *who, const struct wr_uuid *project,
	      const char *what, const char *why, json_t *detail);

#endif

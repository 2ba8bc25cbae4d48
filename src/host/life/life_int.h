/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the operations share: the context of one operation, its steps, and the rules of the work
 * record.
 *
 * Order on disk: request.json (control), state "starting", work record, files or repository, work
 * record, result.json, state "running".  A crash at any place leaves a state that wr_life_settle
 * puts right and a record that settle_work puts right before anything touches the files again.
 */
#ifndef WR_LIFE_INT_H
#define WR_LIFE_INT_H

#include "engine/snap/restore.h"
#include "host/auth/auth.h"
#include "host/ident/ident.h"
#include "host/life/life.h"
#include "host/node/age.h"
#include "host/quota/quota.h"
#include "host/runner/runner.h"
#include "host/task/task.h"

/*
 * A node whose volumes' directories are others: the stage or the trash. Tasks open what they work
 * on through these descriptors; names in messages and the keys of caches are those of the places
 * where things belong.
 */
struct wr_life_shadow {
	struct wr_node node;
	struct wr_volume volume[2]; /* of the tree, of the repository */
};

struct wr_life {
	struct wr_node *node;
	struct wr_life_shadow shadow;
	struct wr_place_of place;
	struct wr_uuid op, project;
	enum wr_op_kind kind;
	json_t *request;
	const json_t *args; /* borrowed from request */
	int op_fd;          /* STATE/op/OPID */
	struct wr_lock lock;
	struct wr_settings set;
	struct wr_work work;
	struct wr_auth *auth;      /* NULL: this host belongs to no fleet */
	struct wr_member_state ms; /* with a fleet: what was promised and accepted here */
	struct wr_status before;   /* settled, as the operation found it */
	struct wr_status status;   /* as it is on disk */
	bool state_begun;
	bool nothing_to_do; /* a start of what runs already */
	char *home;     /* where the working files are presented; NULL until settings are loaded */
	char tag[16];   /* of its safety snapshot: before-OPID8 */
	char *token;    /* for the project's processes; NULL: none */
	bool no_cancel; /* past the point where it can be given up without harm */
	bool changed;   /* a failure now is a failure of the project, not only of the operation */
	bool copy;      /* of a project whose files another node keeps */
	bool no_work;   /* the work record cannot be read, and must not be written */
	bool held;      /* somebody had files of the home open when it was taken away */
	json_t *warnings; /* strings; not empty: exit status 3 */
	bool skipped;     /* a list of skipped files in a receipt is not empty: exit status 3 */
	bool refused;     /* part of what was asked for: exit status 4 */
	int64_t started;
	uint64_t begin_ns, step_ns, progress_ns;
};

/* ---- context (life.c) ---- */

/* Project, settings, work record and state; the lock is checked to be this project's. Fails for a
 * project in the trash. Puts the state to what the table says of this kind. */
int wr_life_begin(struct wr_life *l, struct wr_err *err);
/* The same for a project at another place (stage, trash): place is filled in, lock taken. */
int wr_life_load(struct wr_life *l, struct wr_err *err);
int wr_life_state_begin(struct wr_life *l, struct wr_err *err);
/* Was it asked to end (`op cancel`)? */
bool wr_life_cancelled(const struct wr_life *l);
/* Show l->status as it is now, if the last time is not too near. */
void wr_life_show(struct wr_life *l);
/* Say what is being done: state, progress file, log. */
void wr_life_step(struct wr_life *l, const char *step);
void wr_life_warn(struct wr_life *l, const char *fmt, ...) WR_PRINTF(2, 3);
/* Crash point life.KIND.where. */
void wr_life_crash(const struct wr_life *l, const char *where);
/* The work record as it is in memory, durably. */
int wr_life_work_store(struct wr_life *l, struct wr_err *err);
/* Run a task on the project; args is taken. source_fd -1: none. */
int wr_life_task(struct wr_life *l, enum wr_task_kind kind, json_t *args, int source_fd,
		 json_t **out_result, struct wr_err *err);
/* The same, with this directory (borrowed) as the tree. */
int wr_life_task_in(struct wr_life *l, enum wr_task_kind kind, json_t *args, int tree_fd,
		    json_t **out_result, struct wr_err *err);
/* {"schema","project","name","op","node","epoch","started",...}: a new reference. */
json_t *wr_life_receipt(const struct wr_life *l, const char *schema);
/* Processes of the project now. */
void wr_life_processes(struct wr_life *l, struct wr_runner_status *out);
/* Is there no command, or does what it started live? */
bool wr_life_runs(struct wr_life *l);
/* A project in error that is saved is in error again: a save mends nothing; nor does a restore a
 * start that failed. */
bool wr_life_stays_wrong(const struct wr_status *before, enum wr_op_kind kind);
/* The lock file of the project that conf_fd belongs to, for operations that were not handed one. */
int wr_life_lock_conf(struct wr_life *l, int conf_fd, struct wr_err *err);
/* Our own directory STAGE/ID below a volume's projects or repos (parent_fd, of which `where` is the
 * name in messages): empty, and locked as long as *out_fd is open (op_create.c). */
#define WR_LIFE_STAGE ".stage"
int wr_life_stage_make(struct wr_life *l, int parent_fd, const char *where, int *out_fd,
		       struct wr_err *err);
int wr_life_fsync(int fd, const char *what, struct wr_err *err);
/* parent_fd/SUB/ID, where parent_fd is of a volume's projects or repos. Also where that cannot be
 * seen, so that nobody concludes that it is not there; but not on a volume that is missing, for
 * which there is wr_node_missing. */
bool wr_life_may_be_in(int parent_fd, const char *sub, const char *id);
/* The place becomes one below these directories (both taken), for tree and repository on the real
 * volumes tree_vol and repo_vol; and back to the real ones. */
void wr_life_shadow(struct wr_life *l, size_t tree_vol, int projects_fd, size_t repo_vol,
		    int repos_fd);
void wr_life_unshadow(struct wr_life *l);
/* Rename a directory, never over another, and make it durable. WR_E_NOT_FOUND if it is not there.
 */
int wr_life_move(int from_fd, int to_fd, const char *name, struct wr_err *err);
/* Remove dir_fd/name by a worker; absent is fine. *io_files, *io_bytes (may be NULL) grow. */
int wr_life_remove(struct wr_life *l, int dir_fd, const char *name, uint64_t *io_files,
		   uint64_t *io_bytes, struct wr_err *err);

/* ---- arguments (args.c): typed JSON or its text, as the call was typed ---- */

const char *wr_life_arg(const struct wr_life *l, const char *name); /* NULL: not given */
bool wr_life_arg_bool(const struct wr_life *l, const char *name);
uint64_t wr_life_arg_u64(const struct wr_life *l, const char *name, uint64_t otherwise);
/* A path: any bytes; NULL if not given. Caller frees. */
char *wr_life_arg_path(const struct wr_life *l, const char *name, struct wr_err *err);
/* The same member of any object. */
char *wr_life_get_path(const json_t *o, const char *name, struct wr_err *err);
/* Copy a list or map of strings ("k=v") into a new array of strings. */
json_t *wr_life_arg_list(const struct wr_life *l, const char *name);
/* Member key of a task's or receipt's object: text, and key_b64 where that loses something. */
void wr_life_set_path(json_t *o, const char *key, const char *path);

/* ---- the work record (worklife.c) ---- */

struct wr_tip {
	bool has;    /* the repository has a snapshot */
	bool newer;  /* the files' base is it, or came before it */
	bool latest; /* it is no snapshot: the newest state, on the snapshot that is its parent */
	/* name: of the newest snapshot; base_on: see WR_TASK_INSPECT */
	char commit[41], parent[41], name[40], branch[64], op[37], base_on[41];
	uint64_t snapshots, repo_bytes;
};
int wr_life_inspect(struct wr_life *l, struct wr_tip *out, struct wr_err *err);
/* Do the working files derive from the tip? */
bool wr_life_on_line(const struct wr_life *l, const struct wr_tip *tip);

struct wr_life_mend {
	char restore_op[37]; /* "" or the operation whose restore was finished now */
	char dropped_op[37]; /* "" or the one whose restore is not going to be finished */
};
/* First act of whatever touches files or history: a save that may have moved the tip is looked up,
 * a restore that was cut off is finished. */
int wr_life_settle_work(struct wr_life *l, struct wr_life_mend *out, struct wr_err *err);

/* The files become a snapshot: on the branch if they derive from its tip, else on a side branch. */
struct wr_life_saved {
	json_t *part; /* of the receipt, from the task; own reference */
	json_t *refs; /* as they were then, or NULL; own reference */
	int64_t scan_started;
	char commit[41];    /* "" if there is nothing to save and never was */
	char snapshot[120]; /* BRANCH/NAME */
	bool side;          /* a side branch: the base stays what it is */
	bool whole;         /* nothing was skipped */
	bool made;
	bool latest; /* no snapshot could be made: the state alone, as refs/warren/latest */
	struct wr_err refused; /* why not */
};
void wr_life_saved_fini(struct wr_life_saved *s);
/*
 * Where no snapshot may be made (the repository's quota, or the request's "no_snapshot": a text
 * that says why) the state alone is saved, as refs/warren/latest: out->latest, and why. It is
 * replicated and started from as a snapshot is, and the next one takes its place. What is tagged
 * for others than a save (before a restore) is a snapshot all the same.
 */
int wr_life_protect(struct wr_life *l, const char *tag, struct wr_life_saved *out,
		    struct wr_err *err);
/* After a protect with nothing running: the files are clean. */
int wr_life_clean(struct wr_life *l, const struct wr_life_saved *s, struct wr_err *err);

struct wr_life_brought {
	char salvaged[120]; /* "" or the side branch that holds the files as they were */
	json_t *restored;   /* counts, or NULL: the files were left alone; own reference */
};
void wr_life_brought_fini(struct wr_life_brought *b);
/* Nothing runs: make the files derive from the tip, salvaging what no snapshot holds. */
int wr_life_bring_up(struct wr_life *l, const struct wr_tip *tip, struct wr_life_brought *out,
		     struct wr_err *err);

/* Arguments of a RESTORE from the project's own repository. path, dest NULL: the whole tree. */
json_t *wr_life_restore_args(struct wr_life *l, const char *commit, const char *path,
			     const char *dest, bool delete_extra, int overwrite);
/* The patterns that no save and no restore touches: the setting and the link to the history. */
json_t *wr_life_exclude(const struct wr_life *l);
/* Add to the arguments of what saves: those, and the largest file. */
void wr_life_leave_out(const struct wr_life *l, json_t *args);
/* {"files",...}: are there skipped entries? */
bool wr_life_has_skipped(const json_t *part);
/* Add the members of from to o, but not those o has. */
void wr_life_merge(json_t *o, const json_t *from);

/* ---- names of snapshots (snapname.c) ---- */

struct wr_life_snap {
	char commit[41];
	char name[120]; /* BRANCH/NAME, or the id */
	char *path;     /* of SPEC:PATH; NULL: none. Owned by who asked */
};
/* spec as users type it. */
int wr_life_snap_find(struct wr_life *l, const char *spec, struct wr_life_snap *out,
		      struct wr_err *err);
/* The newest before-* tag, "latest" if there is none. */
int wr_life_snap_before(struct wr_life *l, char *out, size_t size, struct wr_err *err);

/* ---- the fleet (replicate.c) ---- */

/* Who this node is in its fleet, and what it knows of the project; nothing without a fleet. */
int wr_life_fleet_load(struct wr_life *l, struct wr_err *err);
/* What the judging of this node's own acts looks at. */
void wr_life_env(const struct wr_life *l, struct wr_member_env *env);
/* May this node change the project's files and history now? WR_E_DENIED says who may. */
int wr_life_may_write(struct wr_life *l, struct wr_err *err);
/* W2: make this node's epoch one in which it can save. WR_E_NOT_FOUND: what it builds on is not
 * here yet. *out_opened: it was not open before, so the others should hear of it. */
int wr_life_open(struct wr_life *l, bool *out_opened, struct wr_err *err);
/* If the refs are other than those of the newest save record, make the next one: a version of
 * which this node is the first holder. refs: as a task said them, or NULL: they are looked at.
 * scan_started: of that save; 0: none. */
int wr_life_note_save(struct wr_life *l, const json_t *refs, int64_t scan_started,
		      struct wr_err *err);
/* A save or stop waits that long for each target; what takes longer goes on by itself. */
#define WR_REPLICATE_WAIT_S 60
/*
 * Send the newest version to the other members, in parallel, each within wait_s (0: as long as
 * bytes move), and say in the receipt what came of it: version, safe, safe_in, members, dcs,
 * replicas. Targets that are behind are warnings, not failures; -1 only where nothing could be
 * tried at all.
 */
int wr_life_replicate(struct wr_life *l, json_t *receipt, uint64_t wait_s, struct wr_err *err);
/* W7: side branches that no save names are offered to the writer; the mark goes when there are
 * none. receipt: "sides" [name], and if they were offered "to", "ok", "error", "record". */
int wr_life_offer_sides(struct wr_life *l, json_t *receipt, struct wr_err *err);

/* ---- limits (limits.c) ---- */

/* Of the volume of l->place, and its tree there: the caller closes it, also on failure. */
int wr_life_quota(struct wr_life *l, struct wr_quota *out, struct wr_quota_tree *out_tree,
		  struct wr_err *err);
/* The working files' directory, empty, its user's; one that is there is fine. */
int wr_life_make_tree(struct wr_life *l, struct wr_err *err);
/* btrfs: a plain directory becomes a subvolume, while nothing runs (renew.c). If it cannot, nothing
 * has changed and the error says why. */
int wr_life_renew_tree(struct wr_life *l, struct wr_quota *q, const struct wr_quota_tree *t,
		       struct wr_err *err);
/* And away with it; absent is fine. *out_whole: in one piece, so nobody counted files. */
int wr_life_remove_tree(struct wr_life *l, uint64_t *io_files, uint64_t *io_bytes, bool *out_whole,
			struct wr_err *err);
/* Member "limits" of the receipt. runs: there are processes already. *out_deny: what new ones are
 * denied. */
void wr_life_set_limits(struct wr_life *l, bool runs, unsigned *out_deny, json_t *receipt);
void wr_life_clear_limits(struct wr_life *l);
/* What anything that runs as the project's user is denied. */
unsigned wr_life_deny(struct wr_life *l);

/* ---- scratch (scratch.c) ---- */

/* Where it is, if the settings give some; NULL: there is none. Caller frees. */
char *wr_life_scratch_path(const struct wr_life *l);
/* Made, brought back, limited, or set aside, as the settings say; what fails is a warning. Member
 * "scratch" of the receipt. runs: there are processes already. */
void wr_life_scratch_ready(struct wr_life *l, bool runs, json_t *receipt);
/* At a stop: without limits. */
void wr_life_scratch_clear(struct wr_life *l);
/* With its project into the trash, and back; none is fine. */
int wr_life_scratch_to_trash(struct wr_life *l, struct wr_err *err);
int wr_life_scratch_from_trash(struct wr_life *l, struct wr_err *err);
/* Out of the trash for good. */
int wr_life_scratch_purge(struct wr_life *l, uint64_t *io_files, uint64_t *io_bytes,
			  struct wr_err *err);
/* args: as of WR_TASK_CHOWN, borrowed. Member "scratch" of the receipt. */
int wr_life_scratch_chown(struct wr_life *l, const json_t *args, json_t *receipt,
			  struct wr_err *err);

/* ---- presenting (present.c) ---- */

int wr_life_present(struct wr_life *l, struct wr_err *err);
int wr_life_unpresent(struct wr_life *l, struct wr_err *err);

/* ---- operations: the receipt, a new reference, or NULL with err ---- */

json_t *wr_life_create(struct wr_life *l, struct wr_err *err);
/* A place for a copy of a project of other nodes: an empty repository and tree, with l->set. */
int wr_life_make_copy(struct wr_life *l, struct wr_err *err);
json_t *wr_life_start(struct wr_life *l, struct wr_err *err);
json_t *wr_life_stop(struct wr_life *l, struct wr_err *err);
json_t *wr_life_restart(struct wr_life *l, struct wr_err *err);
json_t *wr_life_save(struct wr_life *l, struct wr_err *err);
json_t *wr_life_restore(struct wr_life *l, struct wr_err *err); /* also undo */
json_t *wr_life_copy(struct wr_life *l, struct wr_err *err);
json_t *wr_life_replicate_op(struct wr_life *l, struct wr_err *err);
json_t *wr_life_update(struct wr_life *l, struct wr_err *err);
json_t *wr_life_chown(struct wr_life *l, struct wr_err *err);
json_t *wr_life_delete(struct wr_life *l, struct wr_err *err);
json_t *wr_life_undelete(struct wr_life *l, struct wr_err *err);
json_t *wr_life_purge(struct wr_life *l, struct wr_err *err);
json_t *wr_life_drop(struct wr_life *l, struct wr_err *err);

/* Tree and repository into the trash; what is there already is fine (op_trash.c). */
int wr_life_to_trash(struct wr_life *l, struct wr_err *err);
/* X2: may what lies in the trash be removed for good? A copy that was dropped needs proofs, which
 * the request tells (op_drop.c). */
int wr_life_purge_check(struct wr_life *l, struct wr_err *err);
/* Before a project that its record calls deleted is purged: this node says no more that it holds
 * it. */
int wr_life_disown(struct wr_life *l, struct wr_err *err);
/* A dropped copy is back: it answers for what it has again. */
int wr_life_unhide(struct wr_life *l, struct wr_err *err);

/* The parts of start and stop that restart and delete share. */
int wr_life_do_start(struct wr_life *l, json_t *receipt, struct wr_err *err);
int wr_life_do_stop(struct wr_life *l, json_t *receipt, struct wr_err *err);
/* Run a hook of the host as the project's user. */
int wr_life_hook(struct wr_life *l, const char *program, struct wr_err *err);

#endif

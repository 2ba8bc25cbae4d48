/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the worker.  worker.c reads the request, builds the walls and reports; the tasks are in
 * worker_engine.c, worker_count.c, worker_adopt.c, worker_tree.c, worker_clone.c, worker_user.c,
 * worker_read.c, worker_sync.c, worker_prove.c, worker_audit.c, worker_mend.c and worker_usage.c.
 */
#ifndef WR_WORKER_INT_H
#define WR_WORKER_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/snap/notes.h"
#include "host/task/receipt.h"
#include "host/task/task.h"

/* The worker's descriptors. */
enum {
	WR_WORKER_REQUEST = 3,
	WR_WORKER_RESULT = 4,
	WR_WORKER_TREE = 5,
	WR_WORKER_REPO = 6,
	WR_WORKER_SOURCE = 7
};
#define WR_RATE_FILE "work.rate"
#define WR_WORKER_REPO_PATH "/proc/self/fd/6"
#define WR_WORKER_SOURCE_PATH "/proc/self/fd/7"

struct wr_worker {
	enum wr_task_kind kind;
	json_t *request;
	const json_t *args;    /* borrowed from request */
	const char *tree_path; /* names the tree in messages and the stat cache; borrowed */
	uid_t uid;             /* the project's */
	gid_t gid;
	int out_fd;  /* standard output */
	bool copied; /* RESTORE: source is the repository of another project */
};

/* A task: the result, a new reference, or NULL with err. */
typedef json_t *(*wr_work_fn)(struct wr_worker *w, struct wr_err *err);

json_t *wr_work_init_repo(struct wr_worker *w, struct wr_err *err);
json_t *wr_work_usage(struct wr_worker *w, struct wr_err *err);
json_t *wr_work_inspect(struct wr_worker *w, struct wr_err *err);
json_t *wr_work_save(struct wr_worker *w, struct wr_err *err); /* and SALVAGE */
json_t *wr_work_restore(struct wr_worker *w, struct wr_err *err);
json_t *wr_work_import(struct wr_worker *w, struct wr_err *err);
json_t *wr_work_adopt(struct wr_worker *w, struct wr_err *err);
json_t *wr_work_tag(struct wr_worker *w, struct wr_err *err);
json_t *wr_work_refs(struct wr_worker *w, struct wr_err *err);
json_t *wr_work_open(struct wr_worker *w, struct wr_err *err);
json_t *wr_work_push(struct wr_worker *w, struct wr_err *err);
json_t *wr_work_receive(struct wr_worker *w, struct wr_err *err);
json_t *wr_work_prove(struct wr_worker *w, struct wr_err *err);
json_t *wr_work_audit(struct wr_worker *w, struct wr_err *err);
json_t *wr_work_mend(struct wr_worker *w, struct wr_err *err);
json_t *wr_work_chown(struct wr_worker *w, struct wr_err *err);
json_t *wr_work_mark(struct wr_worker *w, struct wr_err *err);
json_t *wr_work_clone(struct wr_worker *w, struct wr_err *err);
json_t *wr_work_remove(struct wr_worker *w, struct wr_err *err);
json_t *wr_work_skel(struct wr_worker *w, struct wr_err *err);
json_t *wr_work_link(struct wr_worker *w, struct wr_err *err);
json_t *wr_work_mkdir(struct wr_worker *w, struct wr_err *err);
json_t *wr_work_files(struct wr_worker *w, struct wr_err *err);
json_t *wr_work_read(struct wr_worker *w, struct wr_err *err);
json_t *wr_work_hook(struct wr_worker *w, struct wr_err *err);

/* ---- worker.c ---- */

/* For wr_save_opts, wr_restore_opts and the rest: at most 20 lines a second. Any thread. */
void wr_worker_progress(void *ctx, const char *step, uint64_t files, uint64_t files_total,
			uint64_t bytes, uint64_t bytes_total);
/* As that, of what reads or writes a user's files: waits where it is faster than [work] rate says,
 * which may change meanwhile. bytes: so far, in this step. */
void wr_worker_pace(const char *step, uint64_t bytes);
/* Member "refs" of a result: what WR_TASK_REFS says. */
int wr_worker_refs(struct wr_repo *r, json_t *result, struct wr_err *err);
/* What the next list of a writer lets go, under the repository's lock: {side_s, floor_s}. */
int wr_worker_weed(struct wr_repo *r, const json_t *how, struct wr_err *err);
/* A line to the starter before the result. */
void wr_worker_say(const json_t *o);
/* Counts the files of a tree in a thread of its own (worker_count.c). */
struct wr_counting {
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t wake;
	struct wr_repo *repo;
	struct wr_id tree;
	uint64_t files;
	atomic_ullong total; /* 0: not known yet */
	atomic_bool stop;
	bool begun;
};
void wr_counting_begin(struct wr_counting *n, struct wr_repo *r, const struct wr_id *tree);
void wr_counting_end(struct wr_counting *n); /* harmless without begin */

/* ---- worker_engine.c ---- */

struct wr_ignore;
/* Argument "exclude". */
int wr_worker_exclude(const struct wr_worker *w, struct wr_ignore **out, struct wr_err *err);
/* What packs and their indexes take. */
uint64_t wr_worker_packs(struct wr_repo *r);

/* ---- worker_audit.c ---- */

struct wr_verify_result;
struct wr_idmap;
/* Behind all else on this machine, from now on. */
void wr_worker_step_back(void);
/* Behind what users run, but never without a share: somebody waits for it. */
void wr_worker_step_aside(void);
/* Verify with progress, at argument "rate". */
int wr_worker_verify(struct wr_worker *w, struct wr_repo *r, bool data,
		     struct wr_verify_result *out, struct wr_err *err);
/* A task on the repository: what fn puts into the result. */
typedef int (*wr_repo_work_fn)(struct wr_worker *w, struct wr_repo *r, json_t *result,
			       struct wr_err *err);
json_t *wr_worker_with_repo(struct wr_worker *w, wr_repo_work_fn fn, struct wr_err *err);
/* Members "damage", with why if there is one, and "damage_more". */
void wr_worker_damage(json_t *o, const struct wr_verify_result *v, const struct wr_err *why);
/* Ids of all that any ref reaches; fails where something is lacking. */
int wr_worker_reached(struct wr_repo *r, struct wr_idmap *out, struct wr_err *err);

/* Argument key (or key_b64), clean: *out is NULL if it was not given. Caller frees. */
int wr_worker_path(const struct wr_worker *w, const char *key, char **out, struct wr_err *err);
/* A name for a new entry of the home: no slash, not "." or "..". */
int wr_worker_name(const char *name, struct wr_err *err);

/* ---- walking the user's files (worker_tree.c) ---- */

/* One entry met by a walk; path is relative to its start, "" for the start itself. */
struct wr_met {
	int dirfd; /* -1 for the start */
	const char *name, *path;
	size_t path_len;
	struct stat st;
	int fd; /* of a directory: open for reading; else O_PATH */
};
/* When a directory is met before (and with after: behind) what is in it.  1: do not enter; -1 with
 * err: end. */
typedef int (*wr_met_fn)(void *ctx, const struct wr_met *m, bool after, struct wr_err *err);
/*
 * Everything in the directory fd (kept open, not closed), names ascending, without recursion on the
 * stack.  Each step opens one name in a directory that is held, so renaming leads nowhere else.
 * What cannot be opened, or is another mount, is noted in skipped and passed by.
 * LIMIT: 4,000 directories within each other.
 */
enum wr_walk_flag {
	WR_WALK_AFTER = 1, /* call fn behind what is in a directory as well */
	WR_WALK_FORCE = 2, /* our own directories that we may not enter: make them so that we may */
};
int wr_walk(int fd, unsigned flags, wr_met_fn fn, void *ctx, struct wr_notes *skipped,
	    struct wr_err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tasks: the parts of operations that touch repositories or users' files.  Each runs in a worker, a
 * process of our own image in a sandbox that fits it, and reports progress and one result; it dies
 * with the thread that started it.
 *
 *   engine tasks   as the node's user (owner of repositories) with the few capabilities they need,
 *                  Landlock: the repository and this project's tree
 *   user tasks     as the project's own uid and gid, without capabilities, Landlock: this project's
 *                  tree; paths are opened beneath it
 *
 *   descriptor 3: the request, JSON
 *   descriptor 4: lines of JSON {"progress":{...}}, at last {"result":{...}} or {"error":{...}}
 *   descriptors 5, 6, 7: tree, repository, source: directories opened by the starter, so that no
 *                  path is resolved twice
 */
#ifndef WR_TASK_H
#define WR_TASK_H

#include "host/node/node.h"

/*
 * Paths in args ("path", "dest") are relative to the home, also as path_b64; they are cleaned and
 * opened beneath it, never through a link or another mount.  exclude: gitignore patterns that no
 * save takes and no restore touches.  Counts and lists of skipped files: see receipt.h.
 */
enum wr_task_kind {
	WR_TASK_NONE = 0,
	/* engine */

	/* {split_bits}: into the repository's directory, which must be empty. -> {"made"} */
	WR_TASK_INIT_REPO,
	/* {branch?, base?} -> {"tip","tree","time","parent","branch","op"(trailer or null),
	 * "latest":bool,"snapshot","name","base_known":bool,"base_is_ancestor":bool,"base_on",
	 * "snapshots":N,"repo_bytes":N}; without the branch: tip null, snapshots 0.
	 * tip: the newest state; latest: it is refs/warren/latest, which stands on the newest
	 * snapshot (its parent then). base_on: what the base stands on, if it is such a state; then
	 * base_is_ancestor is about that. */
	WR_TASK_INSPECT,
	/* {op?, exclude[], max_file_size, tag?, branch?, message?, latest?, weed?} -> the receipt's
	 * part, "tag", "latest": it is no snapshot but the state alone, as refs/warren/latest.
	 * weed {side_s, floor_s}: side branches older than side_s leave the list of refs, what came
	 * ahead of its history and is not needed too; "weed": an error, if that failed.
	 * Hard links to files of others and what other mounts show are left out. */
	WR_TASK_SAVE,
	/* {now, exclude[], max_file_size, own_link, about?: how many files there may be}: what tree
	 * and history take, from sums that saves left, or (now) looked at ->
	 * {"at"|null,"exact","live":{"files","bytes"},
	 * "not_protected":{"count","bytes"},"history":{"bytes","exact","measured"|null,"packs"},
	 * "folders":[{"path","files","bytes","stored"}]: the heaviest ten,
	 * "scratch":{"files","bytes"}: of source, if there is one} */
	WR_TASK_USAGE,
	/* {op?, branch, exclude[], max_file_size}: the tree as one parentless commit on a side
	 * branch, which must be new */
	WR_TASK_SALVAGE,
	/* {snap, path?, dest?, beside:bool, delete_extra, overwrite: changed|always|newer|never,
	 * uid?, gid?, dry_run, exclude[], guard?, look:bool (is there such a part? no more)} -> the
	 * receipt's part, "snapshot", "commit", "path", "dest". dest: absent: where path is; a
	 * directory for a file: into it. beside: NAME.from-SNAPSHOT if something is at the place.
	 * uid, gid: whose everything is, whatever is stored. guard (whole trees): the commit of a
	 * SAVE just before: what is not in it, or changed since, is neither overwritten nor deleted
	 * but listed. */
	WR_TASK_RESTORE,
	/* {exclude[], uid, gid, op?, max_file_size}: source directory -> a snapshot of main, from
	 * there into the empty tree as uid, gid, and a snapshot of that. -> of the last,
	 * "imported":
	 * {"files","bytes"}, "skipped": of all three */
	WR_TASK_IMPORT,
	/* {}: source = a bup or git repository, copied whole into the repository's directory, which
	 * must be empty, and verified. -> {"objects","bytes","refs","snapshots"} */
	WR_TASK_ADOPT,
	/* {name, commit}: set; {name, delete:true}; {expire_before: seconds since the epoch,
	 * prefix}: drop tags PREFIX* whose snapshots are older -> {"dropped":[name]} */
	WR_TASK_TAG,
	/* {fill?} -> {"refs":[{name,id}]}: those that go to other nodes, ascending by name; fill:
	 * those that a fill brought, under the names they are to have. SAVE says them as well. */
	WR_TASK_REFS,
	/* {save_b64, held_b64?, side?, floor_s}: the refs become those of the save, whose objects
	 * are here; what they no longer reach is kept as a push would keep it */
	WR_TASK_OPEN,
	/* {address, node, inc, name, idle_ms, total_ms, rate}: what the envelope says to another
	 * node; source: a memfd as wr_push_kit makes it -> {"answer_b64","bytes","seconds"}; says
	 * {"latest":time} once the other has the newest state, if not yet its history. Reads
	 * the repository; the one task with a network. */
	WR_TASK_PUSH,
	/* {save_b64, fill, mend, sides, packs?, max_bytes, idle_ms, total_ms}: source: a stream
	 * with the sync protocol. Says {"ready":true,"latest":is there a refs/warren/latest} when
	 * all is here and checked, waits on in_fd for
	 * {"commit":{floor_s, side?, held_b64?, refs?}} or {"abort":{error}}, says
	 * {"again":true} when the refs had moved and more has to come
	 * -> {"objects","bytes","refs_moved","kept","sides"}; mend: objects alone, those that
	 * are lacking or lie damaged in packs (none named: anywhere); no ref moves; sides: the
	 * save's refs become new branches; refs: the result has "refs" as REFS says them */
	WR_TASK_RECEIVE,
	/* X1. {nonce_b64, pick: how many}: a challenge: objects drawn from what the refs reach
	 * -> {"tips":[where refs lead, each once, ascending],"ids":[],"digest_b64": the answer to
	 * come}; pick 0: tips alone matter.
	 * {nonce_b64, ids[], tips[]}: the answer -> {"digest_b64"}; WR_E_NOT_FOUND: an object is
	 * not here, or no ref reaches a tip */
	WR_TASK_PROVE,
	/* {data, rate}: is it whole, and what does it hold ->
	 * {"whole","objects","refs","snapshots",
	 * "bytes","damage":[text],"damage_more","digest_b64"?}; data: every object is read, at most
	 * rate bytes a second (0: as fast as it goes) */
	WR_TASK_AUDIT,
	/* {rate, floor_s}: of a damaged repository: indexes made anew, every object read; if all
	 * that refs reach is there, damaged packs go aside, and what lay aside for longer than
	 * floor_s goes -> {"whole","damage":[text],"damage_more","packs":[names of damaged
	 * ones],"aside":N} */
	WR_TASK_MEND,

	/* user */

	/* {template}: copy what is missing -> {"copied":N, "skipped"} */
	WR_TASK_SKEL,
	/* {name, target}: a symlink in the home, never over an existing entry -> {"made":bool} */
	WR_TASK_LINK,
	/* {path} -> {"existed":bool} */
	WR_TASK_MKDIR,
	/* {path, hidden, sort: name|time|size, reverse, start, limit}: JSON to standard output:
	 * {"schema":"warren.files/1","path","total","start","more":bool,"files":[{"name","type",
	 * "size","mtime","mode","target"?}]} -> {"total"} */
	WR_TASK_FILES,
	/* {path, format: raw|tar|zip, max_size}: bytes to standard output -> {"bytes","skipped"} */
	WR_TASK_READ,
	/* {program, env[], timeout, deny}: output to the log; no sandbox but the uid and the calls
	 * that limits deny it (enum wr_deny) -> {"seconds"} */
	WR_TASK_HOOK,

	/* on trees, as the node's user */

	/* {uid, gid, from_uid?}: everything in the tree; hard links to what was neither uid's nor
	 * from_uid's are left and named -> {"changed":N,"left":[{path,reason}],"left_more":N} */
	WR_TASK_CHOWN,
	/* {number}: every file of the tree carries the number that its limits go by (host/quota),
	 * and hands it on; the tree itself last, so what was cut off is seen -> {"marked":N,"left",
	 * "left_more"} */
	WR_TASK_MARK,
	/* {compare}: everything of the tree into the empty directory source_fd, on the same file
	 * system, data shared and not read; all as it is, or WR_E_UNSUPPORTED or what the system
	 * said. {compare, since_s, since_ns}: are the things in source_fd, of which the tree was
	 * made, still so? Else WR_E_CHANGED, also where somebody has a file of them open to write.
	 * -> {"files","bytes": of shared data,"since_s","since_ns": for the comparison} */
	WR_TASK_CLONE,
	/* {name}: remove the directory from its parent (source_fd) -> {"files":N,"bytes":N} */
	WR_TASK_REMOVE,
	WR_TASK_KINDS
};

/* [work] rate for all workers of the node, also those that run: RUN/work.rate, 8 bytes, which they
 * have mapped. */
int wr_work_rate_store(struct wr_node *n, struct wr_err *err);

struct wr_task {
	enum wr_task_kind kind;
	struct wr_place_of *place; /* NULL for REMOVE */
	uid_t uid;                 /* the project's */
	gid_t gid;
	json_t *args;  /* borrowed */
	int source_fd; /* IMPORT, ADOPT, REMOVE (parent directory), RESTORE for a copy (the other
			  repository); -1 */
	int tree_fd, repo_fd; /* >= 0: instead of the place's own, for a project in the making */
	int in_fd;            /* standard input of RECEIVE; -1 */
	int out_fd;           /* standard output of FILES, READ; -1 */
	int log_fd;           /* standard error; -1: /dev/null */
	void (*progress)(void *ctx, const char *step, uint64_t files, uint64_t files_total,
			 uint64_t bytes, uint64_t bytes_total);
	void *ctx;
	volatile int
	    *cancel; /* becomes nonzero: the worker is ended, WR_E_CANCELLED; may be NULL */
};
#define WR_TASK_INIT                                                                      \
	{                                                                                 \
		.source_fd = -1, .tree_fd = -1, .repo_fd = -1, .in_fd = -1, .out_fd = -1, \
		.log_fd = -1,                                                             \
	}

/* Run it and wait. *out_result: new reference (may be NULL to ignore). The worker's own error comes
 * back as it was set there. */
int wr_task_run(const struct wr_task *t, json_t **out_result, struct wr_err *err);
/* Start without waiting (control, for FILES, READ; several at once): *out_result_fd is to be read
 * (O_CLOEXEC, caller closes) for the last line; *out_pid to be reaped. */
int wr_task_begin(const struct wr_task *t, pid_t *out_pid, int *out_result_fd, struct wr_err *err);
/* What it says, for those who do not just wait for its end. */
struct wr_task_ear {
	struct wr_buf text; /* the lines that are not progress */
	size_t line;        /* where the last one begins */
	size_t word;        /* where the first one begins that wr_task_word has not given */
};
void wr_task_ear_fini(struct wr_task_ear *e);
/* Take in what is there, waiting for it at most timeout_ms (-1: for ever): 1, also if nothing came;
 * 0: it has closed its end; -1. Progress goes to t->progress. */
int wr_task_hear(const struct wr_task *t, struct wr_task_ear *e, int result_fd, int timeout_ms,
		 struct wr_err *err);
/* The next whole line that is an object; NULL: none. New reference. */
json_t *wr_task_word(struct wr_task_ear *e);
/* What a whole text read from result_fd and an exit status mean. */
int wr_task_end(const void *text, size_t len, int wait_status, json_t **out_result,
		struct wr_err *err);
/* Entry of the worker's process: argv[0] "@worker", argv[1] the starter's process id. */
int wr_worker_main(int argc, char **argv);

/* A view: `warren repo CMD` of our own image as the node's user, the repository read-only, its
 * output to out_fd, errors to err_fd. argv without "warren repo" and without -r; tty: names are
 * escaped and coloured as for a terminal ($WARREN_TTY). */
int wr_view_begin(struct wr_place_of *p, const char *const *argv, bool json, bool tty, int out_fd,
		  int err_fd, pid_t *out_pid, struct wr_err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node.db: operations, events, tokens, and an index of this node's projects, in SQLite (WAL, one
 * writer: control). Operations and events exist nowhere else; the rows of projects are a copy of
 * conf/settings.json plus what is desired here, and can be made again from the disks (desired state
 * then falls back to "inactive").
 */
#ifndef WR_STORE_H
#define WR_STORE_H

#include "base/json.h"
#include "model/api.h"
#include "model/op.h"
#include "model/settings.h"

struct wr_store;

/* Open or make dirfd's node.db. read_only: for clients of the same user when no daemon runs. A
 * newer format is WR_E_UNSUPPORTED with both numbers; a damaged file WR_E_CORRUPT with a hint.
 * path: of the file. */
int wr_store_open(const char *path, bool read_only, struct wr_store **out, struct wr_err *err);
void wr_store_close(struct wr_store *s);
/* Group changes: one fsync. Every change outside is durable by itself. Nesting is a bug. */
int wr_store_begin(struct wr_store *s, struct wr_err *err);
int wr_store_commit(struct wr_store *s, struct wr_err *err);
void wr_store_abort(struct wr_store *s);
/* While on, commits outlive the process and not a power failure; a later durable one carries them
 * along. Outside of groups. */
void wr_store_relax(struct wr_store *s, bool on);

/* ---- projects ---- */

struct wr_proj_row {
	struct wr_uuid id;
	char name[64];
	uint32_t tree_vol, repo_vol; /* positions in node.json's list of volumes */
	uint32_t uid, gid;
	bool exclusive;
	bool desired; /* active is wanted */
	bool autostart;
	int64_t created, deleted; /* deleted: when it went to the trash, 0: it lives */
	/* what the newest saves said */
	int64_t save_began,
	    save_ended; /* newest save, also one that changed nothing: scan_started, end; 0: none */
	bool save_ok;
	char commit[41], snapshot[40];
	uint64_t files, bytes, repo_bytes;
	int64_t used;   /* last start, stop, save with changes */
	char *settings; /* JSON of wr_settings_json; owned */
	char *holders;  /* JSON [{"name","since"}]; owned */
};
void wr_proj_row_fini(struct wr_proj_row *r);
/* Insert or replace by id. WR_E_EXISTS if another living or trashed project has the name. */
int wr_store_proj_put(struct wr_store *s, const struct wr_proj_row *r, struct wr_err *err);
/* ref: id, name, or (prefix_ok) unique prefix of an id. WR_E_NOT_FOUND (hint: near names),
 * WR_E_INVALID for an ambiguous prefix (hint: up to 5 of them) or what is neither. trashed: also
 * deleted ones. Hints name projects: not for callers who may not know of them. */
int wr_store_proj_find(struct wr_store *s, const char *ref, bool prefix_ok, bool trashed,
		       struct wr_proj_row *out, struct wr_err *err);
/* Its tokens go with it, its operations stay. */
int wr_store_proj_drop(struct wr_store *s, const struct wr_uuid *id, struct wr_err *err);
/* By name ascending. what: 0 living, 1 trashed, 2 both, 3 desired active. Nonzero of fn ends it
 * with that value. fn may use the store, but what it changes may or may not be seen on the way. */
typedef int (*wr_proj_fn)(void *ctx, const struct wr_proj_row *r, struct wr_err *err);
int wr_store_proj_each(struct wr_store *s, int what, wr_proj_fn fn, void *ctx, struct wr_err *err);
/* The project whose presented home is a prefix of path is found by control; the store knows uid:
 * the only living project with this uid. */
int wr_store_proj_by_uid(struct wr_store *s, uint32_t uid, struct wr_proj_row *out,
			 struct wr_err *err);
/* Smallest free uid in first..last: used neither by living nor trashed projects nor by tombstones
 * (wr_store_proj_drop keeps uid and drop time for keep_s seconds). WR_E_LIMIT if none. */
int wr_store_uid_next(struct wr_store *s, uint32_t first, uint32_t last, uint64_t keep_s,
		      uint32_t *out, struct wr_err *err);

/* ---- operations ---- */

struct wr_op_row {
	struct wr_uuid id;
	struct wr_uuid project; /* s[0] = 0: none */
	enum wr_op_kind kind;
	enum wr_op_state state;
	char by[128];                       /* who asked: "uid 1000", "schedule", "token ab12..." */
	char *args;                         /* JSON object; owned; never holds secrets */
	int64_t created, started, finished; /* 0: not yet */
	char proc[64];                      /* wr_proc_format of its child, "" = not started */
	uint32_t joined;                    /* requests that wait for this one */
	char *receipt, *error;              /* JSON or NULL; owned */
	char step[32];                      /* the last one known, for finished operations */
};
void wr_op_row_fini(struct wr_op_row *r);
int wr_store_op_put(struct wr_store *s, const struct wr_op_row *r, struct wr_err *err);
int wr_store_op_find(struct wr_store *s, const char *id_or_prefix, struct wr_op_row *out,
		     struct wr_err *err);
/* Newest first. project NULL: all. state UNSET: all. limit 0: no limit. */
typedef int (*wr_op_fn)(void *ctx, const struct wr_op_row *r, struct wr_err *err);
int wr_store_op_each(struct wr_store *s, const struct wr_uuid *project, enum wr_op_state state,
		     uint32_t limit, wr_op_fn fn, void *ctx, struct wr_err *err);
/* Drop finished operations of a project beyond the newest keep (20); gives their ids so that their
 * files can go. */
int wr_store_op_trim(struct wr_store *s, const struct wr_uuid *project, uint32_t keep,
		     struct wr_uuid **out_ids, size_t *out_count, struct wr_err *err);

/* ---- events: append-only ---- */

/* project may be NULL; what: a word with dots ("refused", "op.failed", "node.started"); why: text;
 * detail: JSON or NULL (taken). LIMIT: the newest 100,000 are kept. */
int wr_store_event(struct wr_store *s, const char *who, const struct wr_uuid *project,
		   const char *what, const char *why, json_t *detail_taken, struct wr_err *err);
/* Events with seq > since, oldest first: objects
 * {"seq","at","who","project","what","why","detail"}; limit >= 1. With since = UINT64_MAX: the
 * newest `limit`. A new array. */
int wr_store_events(struct wr_store *s, uint64_t since, const struct wr_uuid *project,
		    uint32_t limit, json_t **out, struct wr_err *err);

/* ---- tokens: only hashes are kept ---- */

/* Make a token "wrt_" + 43 characters of base64url (32 random bytes); *out (80 bytes) is the only
 * copy. Replaces earlier tokens of the same scope, project and purpose. expires 0: never. */
int wr_store_token_new(struct wr_store *s, enum wr_scope scope, const struct wr_uuid *project,
		       const char *purpose, int64_t expires, char out[80], struct wr_err *err);
/* What a presented token may do. WR_E_DENIED if unknown or expired. *out_project.s[0] = 0: not
 * bound to one. *out_short: 8 hex digits of its hash, for logs. */
int wr_store_token_check(struct wr_store *s, const char *token, int64_t now,
			 enum wr_scope *out_scope, struct wr_uuid *out_project, char out_short[16],
			 struct wr_err *err);
/* purpose NULL: all of the project's (project NULL: those that are bound to none). */
int wr_store_token_drop(struct wr_store *s, const struct wr_uuid *project, const char *purpose,
			struct wr_err *err);

#endif

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

/* By how much a project's files (as of its saves) and repository grew, within the last day at least
 * and a day and a half at most. */
struct wr_growth_row {
	struct wr_uuid id;
	char name[64];
	uint32_t tree_vol, repo_vol;
	uint64_t tree, repo;
};
#define WR_GROWTH_HALF_S (12 * 3600)
/* Of every project, in no order. As wr_store_proj_each. */
typedef int (*wr_growth_fn)(void *ctx, const struct wr_growth_row *r, struct wr_err *err);
int wr_store_growth_each(struct wr_store *s, wr_growth_fn fn, void *ctx, struct wr_err *err);

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

/* ---- replicas: what other members of a project acknowledged to this node ---- */

struct wr_replica_row {
	struct wr_uuid project, node;
	uint64_t epoch, seq; /* version of its newest ACK: number of the epoch, save; 0: none yet */
	int64_t scan_started; /* of that save; 0: not known */
	int64_t at;           /* it was tried last */
	int64_t behind_since; /* 0: it is not behind */
	uint32_t tries;       /* in vain, since then */
	int64_t next_try;
	char error[240], hint[240]; /* of the last try; "" = none */
	uint64_t settings_rev;      /* of the settings that went with that ACK; 0: not known */
	int64_t latest; /* it has the newest state of that time without its history; 0: no such */
};
/* Insert or replace by project and node. */
int wr_store_replica_put(struct wr_store *s, const struct wr_replica_row *r, struct wr_err *err);
/* Of a project, by node; project NULL: all that are behind. As wr_store_proj_each. */
typedef int (*wr_replica_fn)(void *ctx, const struct wr_replica_row *r, struct wr_err *err);
int wr_store_replica_each(struct wr_store *s, const struct wr_uuid *project, wr_replica_fn fn,
			  void *ctx, struct wr_err *err);
/* node NULL: all of the project. */
int wr_store_replica_drop(struct wr_store *s, const struct wr_uuid *project,
			  const struct wr_uuid *node, struct wr_err *err);

/* ---- tokens: only hashes are kept ---- */

/* Make a token "wrt_" + 43 characters of base64url (32 random bytes) of Warren's own; *out (80
 * bytes) is the only copy. Replaces earlier such tokens of the same scope, project and purpose.
 * expires 0: never. */
int wr_store_token_new(struct wr_store *s, enum wr_scope scope, const struct wr_uuid *project,
		       const char *purpose, int64_t expires, char out[80], struct wr_err *err);
/* What a presented token may do. WR_E_DENIED if unknown or expired. *out_project.s[0] = 0: not
 * bound to one. *out_short: 8 hex digits of its hash, for logs. */
int wr_store_token_check(struct wr_store *s, const char *token, int64_t now,
			 enum wr_scope *out_scope, struct wr_uuid *out_project, char out_short[16],
			 struct wr_err *err);
/* purpose NULL: all of the project's (project NULL: those that are bound to none); otherwise those
 * of Warren's own with that purpose. */
int wr_store_token_drop(struct wr_store *s, const struct wr_uuid *project, const char *purpose,
			struct wr_err *err);

struct wr_token_row {
	char id[9]; /* first 8 hex digits of its hash: enough to tell tokens apart */
	enum wr_scope scope;
	struct wr_uuid project; /* s[0] = 0: none */
	char purpose[129];
	bool asked;               /* by people; else Warren's own */
	int64_t created, expires; /* expires 0: never; created 0: not known */
	int64_t used;             /* beginning of the day (UTC) it was used last; 0: never */
};
/* A token that somebody asked for: id and used are set by it, asked is true. LIMIT: 1,000, 100 of
 * one project: WR_E_LIMIT. Those that expired a month ago go. */
int wr_store_token_make(struct wr_store *s, struct wr_token_row *t, char out[80],
			struct wr_err *err);
/* Oldest first. project NULL: all. */
typedef int (*wr_token_fn)(void *ctx, const struct wr_token_row *t, struct wr_err *err);
int wr_store_token_each(struct wr_store *s, const struct wr_uuid *project, wr_token_fn fn,
			void *ctx, struct wr_err *err);
/* The one whose id begins so, 4 to 64 hex digits: WR_E_NOT_FOUND, WR_E_INVALID (ambiguous). */
int wr_store_token_find(struct wr_store *s, const char *prefix, struct wr_token_row *out,
			struct wr_err *err);
/* Likewise, and end it. */
int wr_store_token_revoke(struct wr_store *s, const char *prefix, struct wr_err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls of the API, as data: route, scope, arguments.  The front turns HTTP into a call by this
 * table, control checks the call by the same table before it looks at it.  Pure.
 */
#ifndef WR_API_H
#define WR_API_H

#include "base/err.h"

enum wr_scope {
	WR_SCOPE_NONE = 0,
	WR_SCOPE_PUBLIC,  /* anyone who reaches the socket: health, version */
	WR_SCOPE_READ,    /* look at everything */
	WR_SCOPE_PROJECT, /* the project's own user (or its token), and operators */
	WR_SCOPE_OPERATE, /* start, stop, save any project */
	WR_SCOPE_ADMIN,   /* create, delete, identity, limits */
};
const char *wr_scope_name(enum wr_scope s);

enum wr_arg_kind {
	WR_ARG_STR = 1,
	WR_ARG_BOOL,
	WR_ARG_U64,
	WR_ARG_DECIMAL, /* in thousandths, max too */
	WR_ARG_SIZE,
	WR_ARG_DURATION,
	WR_ARG_UUID,
	WR_ARG_PATH, /* any bytes but NUL; in JSON also as NAME_b64 */
	WR_ARG_LIST, /* strings; given several times */
	WR_ARG_MAP,  /* strings "key=value"; in JSON an object of strings */
};
struct wr_api_arg {
	const char *name; /* NULL ends */
	enum wr_arg_kind kind;
	bool required;
	uint64_t max;        /* of numbers; of strings (of one item of a list) the longest in bytes,
				0: 4096 */
	const char *choices; /* STR: "a|b|c"; NULL: any text */
};
#define WR_API_ARGS 12

enum wr_api_flag {
	WR_API_PROJECT = 1, /* the path names a project: {id} */
	WR_API_OP = 2,      /* the path names an operation: {op} */
	WR_API_STREAM = 4,  /* the answer is a stream from a worker */
	WR_API_CHANGES = 8, /* changes something: not GET */
};

enum wr_api_call_id {
	WR_API_NONE = 0,
	WR_API_HEALTH,
	WR_API_NODE,
	WR_API_STATUS,
	WR_API_TOP,
	WR_API_EVENTS,
	WR_API_LIST,
	WR_API_CREATE,
	WR_API_SHOW,
	WR_API_STATE,
	WR_API_SETTINGS_GET,
	WR_API_SETTINGS_SET,
	WR_API_START,
	WR_API_STOP,
	WR_API_RESTART,
	WR_API_SAVE,
	WR_API_RESTORE,
	WR_API_UNDO,
	WR_API_CHOWN,
	WR_API_COPY,
	WR_API_DELETE,
	WR_API_UNDELETE,
	WR_API_PURGE,
	WR_API_TRASH,
	WR_API_MKDIR,
	WR_API_FILES,
	WR_API_READ,
	WR_API_SNAPSHOTS,
	WR_API_LS,
	WR_API_CAT,
	WR_API_DIFF,
	WR_API_FIND,
	WR_API_HISTORY,
	WR_API_OPS,
	WR_API_OP_SHOW,
	WR_API_OP_CANCEL,
	WR_API_OP_LOG,
	WR_API_OPENAPI,
	WR_API_TOKENS,
	WR_API_TOKEN_CREATE,
	WR_API_TOKEN_REVOKE,
	WR_API_CA,
	WR_API_JOIN_LOOK,
	WR_API_JOIN,
	WR_API_NODES,
	WR_API_NODE_ADD,
	WR_API_NODE_SET,
	WR_API_NODE_REMOVE,
	WR_API_FLEET,
	WR_API_LOCATE,
	WR_API_EXPLAIN,
	WR_API_REPLICATE,
	WR_API_MOVE,
	WR_API_SAVE_ALL,
	WR_API_SHUTDOWN,
	WR_API_REPLICAS,
	WR_API_AUDIT,
	WR_API_HUB_FORCE,
	WR_API_PERMIT_LOSS,
	WR_API_USAGE,
	WR_API_QUOTA_AUTO,
	WR_API_CALLS
};

struct wr_api_call {
	enum wr_api_call_id id;
	const char *method, *route; /* "POST", "/v1/projects/{id}/start" */
	enum wr_scope scope;
	unsigned flags;
	struct wr_api_arg arg[WR_API_ARGS];
	const char *summary;
};
extern const struct wr_api_call wr_api_calls[]; /* indexed by id; 0 is empty */

/* The call of a method and a path (without query, its escapes undone), what stands for {id} or {op}
 * in *out_ref (caller's buffer of 128 bytes, "" if none). NULL with WR_E_NOT_FOUND (no such route),
 * WR_E_UNSUPPORTED (route has other methods) or WR_E_INVALID (no id, name or prefix stands there).
 */
const struct wr_api_call *wr_api_match(const char *method, const char *path, char *out_ref,
				       struct wr_err *err);

/* LIMITs of one call: its values, and their bytes together (so that a message holds it). */
#define WR_CALL_VALUES 256
#define WR_CALL_BYTES (96u << 10)

/* A call with its arguments, as front and control exchange it. */
struct wr_call {
	const struct wr_api_call *api;
	char ref[128]; /* project or operation as typed; "" if none */
	struct {
		uint8_t arg; /* position in api->arg */
		char *value; /* NUL-terminated, owned; no NUL inside */
	} * val;
	size_t val_count, val_cap;
};
void wr_call_fini(struct wr_call *c);
/* Add a value as text; checks kind, bounds, repetition. WR_E_INVALID names the field. STR: UTF-8
 * without control characters but tab and line feed; PATH and items of LIST: any bytes but NUL. */
int wr_call_add(struct wr_call *c, const char *name, const char *value, size_t len,
		struct wr_err *err);
/* Are the required ones there, and what stands for {id} or {op}? */
int wr_call_check(const struct wr_call *c, struct wr_err *err);
const char *wr_call_str(const struct wr_call *c, const char *name); /* NULL: not given */
bool wr_call_bool(const struct wr_call *c, const char *name, bool otherwise);
uint64_t wr_call_u64(const struct wr_call *c, const char *name,
		     uint64_t otherwise); /* U64, SIZE, DURATION */
size_t wr_call_list(const struct wr_call *c, const char *name,
		    const char *const **out); /* array: caller frees */

/* Fixed binary form inside messages: u16 id, then ref, then count and values, all length-prefixed,
 * big endian. decode checks everything again as add and check do: the sender is not trusted. */
struct wr_buf;
struct wr_rd;
void wr_call_encode(const struct wr_call *c, struct wr_buf *out);
int wr_call_decode(struct wr_rd *r, struct wr_call *out, struct wr_err *err); /* out: as on success
	only; the reader stands behind the call */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to the daemon: HTTP/1.1 over its unix socket or its HTTPS API, made by the table of
 * calls, so that a command names a call and its arguments and never a route.  One connection per
 * request.
 */
#ifndef WR_CLIENT_H
#define WR_CLIENT_H

#include "base/json.h"
#include "cli/wire.h"
#include "model/api.h"

struct wr_args;

struct wr_client {
	struct wr_wire_to to;
	const char *token; /* $WARREN_TOKEN or NULL */
	/* Becomes nonzero by a signal: a read that waits ends with WR_E_CANCELLED. May be NULL. */
	const volatile sig_atomic_t *stop;
};
/* Where the daemon is: --socket, --root, $WARREN_SOCKET, $WARREN_URL (unix:PATH, or
 * https://HOST:PORT with $WARREN_CA), $WARREN_ROOT, the system's place.  Nothing is sent yet. */
int wr_client_init(struct wr_client *c, const struct wr_args *a, struct wr_err *err);
void wr_client_fini(struct wr_client *c);
/* The root of the arguments or of $WARREN_ROOT; NULL: the system's places. */
const char *wr_client_root(const struct wr_args *a);
/* Is the daemon told by its root alone, so that this host's own disks are meant? */
bool wr_client_is_local(const struct wr_args *a);

/* ---- a request ---- */

struct wr_ask {
	const struct wr_api_call *api;
	struct wr_buf target; /* path and query */
	json_t *body;         /* NULL: the call takes a query */
	bool query;           /* a '?' stands in target */
};
/* ref fills {id} or {op}; NULL for calls without. */
void wr_ask_init(struct wr_ask *r, enum wr_api_call_id id, const char *ref);
void wr_ask_fini(struct wr_ask *r);
/* NULL is left out. */
void wr_ask_str(struct wr_ask *r, const char *name, const char *value);
/* Any bytes. */
void wr_ask_path(struct wr_ask *r, const char *name, const char *value);
void wr_ask_u64(struct wr_ask *r, const char *name, uint64_t value);
/* false is left out. */
void wr_ask_flag(struct wr_ask *r, const char *name, bool value);
void wr_ask_list(struct wr_ask *r, const char *name, const char *const *value, size_t count);
/* "key=value" becomes a member of object `name`. WR_E_USAGE without '='. */
int wr_ask_pair(struct wr_ask *r, const char *name, const char *pair, struct wr_err *err);

/* ---- answers ---- */

/* LIMIT: 64 MiB. A refusal of the daemon comes back as the error it sent. *out_status (may be
 * NULL): of HTTP. *out: new reference. */
int wr_client_ask(struct wr_client *c, const struct wr_ask *r, unsigned *out_status, json_t **out,
		  struct wr_err *err);
/* An answer that is text, appended. */
int wr_client_read(struct wr_client *c, const struct wr_ask *r, struct wr_buf *out,
		   struct wr_err *err);
/*
 * Copy the answer to fd.  *out_exit: what the far side ended with (0 or 3).  On failure *out_begun
 * tells whether something was written already: then an object that was promised by --json is there,
 * and its error in it.
 */
int wr_client_stream(struct wr_client *c, const struct wr_ask *r, int fd, int *out_exit,
		     bool *out_begun, struct wr_err *err);
/* The same to standard output, as the whole of a command. */
int wr_client_show(struct wr_client *c, const struct wr_ask *r, struct wr_err *err);

/* A warning that the daemon worded: fit for a terminal, its quotes as they are. */
void wr_warn_text(const char *text);

#endif

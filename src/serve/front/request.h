/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From HTTP to a call: the target's path chooses the row of the API's table, its query and the JSON
 * body give the arguments, and whatever does not fit the row is refused by name.  Pure.
 *
 * Query:  ?name=value&name=value, percent-encoded, '+' is a blank; a name may come again for lists
 *         and maps ("key=value" each).
 * Body:   one object.  Texts are strings, counts numbers, yes and no booleans, sizes and durations
 *         numbers or strings ("4G", "5min"), lists arrays of strings, maps objects of strings; null
 *         is as if not given.  A path whose bytes are no UTF-8 comes as NAME_b64, in both.
 */
#ifndef WR_REQUEST_H
#define WR_REQUEST_H

#include "model/api.h"

/* Why a request is no call, as HTTP and as an error. */
struct wr_refusal {
	unsigned status;
	char allow[64]; /* with status 405: the methods that there are */
	struct wr_err err;
};

/* LIMIT: a body of 1 MiB. */
#define WR_BODY_MAX (1u << 20)

/* What an error of this code is in HTTP. */
unsigned wr_http_status(enum wr_err_code code);

/* target: as it stands in the request line. *out is an empty call. */
int wr_request_target(const char *method, const char *target, struct wr_call *out,
		      struct wr_refusal *no);
/* A body, added to what the target gave; content_type may be NULL. Ends with wr_call_check. */
int wr_request_body(struct wr_call *c, const char *content_type, const void *body, size_t len,
		    struct wr_refusal *no);
/* The token of an Authorization header (NULL: none), at most size - 1 bytes. */
int wr_request_token(const char *header, char *out, size_t size, struct wr_refusal *no);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One explicit error value, passed by the caller: code for programs, text for people, hint for
 * operators.  Functions that can fail return 0 or -1 and fill *err; the root of an error calls
 * wr_err_set or wr_err_sys, each layer above puts what *it* was doing in front with wr_err_wrap.
 * Text: lower case, no full stop, the subject in quotes.
 */
#ifndef WR_ERR_H
#define WR_ERR_H

#include "base/base.h"

/* code, name in JSON, exit status, HTTP status, default text */
#define WR_ERR_TABLE(X)                                             \
	X(WR_E_NONE, "none", 0, 200, "no error")                    \
	X(WR_E_FAILED, "failed", 1, 500, "operation failed")        \
	X(WR_E_USAGE, "usage", 2, 400, "wrong usage")               \
	X(WR_E_INVALID, "invalid", 2, 400, "invalid value")         \
	X(WR_E_SYS, "system", 1, 500, "system call failed")         \
	X(WR_E_NOSPACE, "no_space", 1, 507, "no space left")        \
	X(WR_E_CORRUPT, "corrupt", 1, 500, "damaged data")          \
	X(WR_E_LIMIT, "limit", 1, 413, "a limit was reached")       \
	X(WR_E_UNSUPPORTED, "unsupported", 1, 501, "not supported") \
	X(WR_E_NOT_FOUND, "not_found", 5, 404, "not found")         \
	X(WR_E_EXISTS, "exists", 4, 409, "exists already")          \
	X(WR_E_BUSY, "busy", 4, 423, "in use")                      \
	X(WR_E_DENIED, "denied", 4, 403, "permission denied")       \
	X(WR_E_CHANGED, "changed", 4, 409, "changed meanwhile")     \
	X(WR_E_CANCELLED, "cancelled", 1, 499, "cancelled")

enum wr_err_code {
#define X(code, name, ex, http, text) code,
	WR_ERR_TABLE(X)
#undef X
	    WR_E_COUNT
};

struct wr_err {
	enum wr_err_code code;
	int sys_errno; /* 0 unless the root was a system call */
	char msg[1024];
	char hint[512]; /* may be empty */
};

#define WR_ERR_INIT               \
	{                         \
		.code = WR_E_NONE \
	}

/* All of these return -1, so that `return wr_err_set(...)` reads well. err may be NULL. */
int wr_err_set(struct wr_err *err, enum wr_err_code code, const char *fmt, ...) WR_PRINTF(3, 4);
/* As wr_err_set with errno, taken at once, and its text appended; picks the code from errno. */
int wr_err_sys(struct wr_err *err, const char *fmt, ...) WR_PRINTF(2, 3);
/* Put "text: " in front of the message. */
int wr_err_wrap(struct wr_err *err, const char *fmt, ...) WR_PRINTF(2, 3);
int wr_err_hint(struct wr_err *err, const char *fmt, ...) WR_PRINTF(2, 3);
int wr_err_recode(struct wr_err *err, enum wr_err_code code);
void wr_err_clear(struct wr_err *err);

const char *wr_err_name(enum wr_err_code code);
int wr_err_exit(enum wr_err_code code);

/* Bytes from outside made fit for a message: control bytes, quotes and invalid UTF-8 escaped,
 * cut after 200 bytes.  By value, so nobody owns it. */
struct wr_quoted {
	char s[840]; /* 203 bytes at 4 characters each, and the dots */
};
struct wr_quoted wr_quote(const void *bytes, size_t len);
#define WR_Q(str) (wr_quote((str), strlen(str)).s)

#endif

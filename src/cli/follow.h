/* SPDX-License-Identifier: Apache-2.0 */
/* Operations: ask for one, wait for it with its steps shown, print its receipt. */
#ifndef WR_FOLLOW_H
#define WR_FOLLOW_H

#include "cli/client.h"

struct wr_args;

/*
 * Send a request whose answer is a receipt (200) or an operation (202), which is then waited for
 * unless --no-wait.  Prints the receipt, or the operation; the result is what a command returns.
 * Ctrl-C ends the waiting, not the operation.
 */
int wr_operate(struct wr_client *c, const struct wr_args *a, const struct wr_ask *r,
	       struct wr_err *err);
/* The same for one that was asked for before. timeout_s: 0 = as long as it takes. */
int wr_follow(struct wr_client *c, const struct wr_args *a, const char *op, uint64_t timeout_s,
	      struct wr_err *err);

/* report.c: a receipt as text; the warnings in it go to standard error, and the status is that of
 * success, 0 or 3. */
int wr_report(const json_t *receipt);
/* An operation in a line or two. */
void wr_report_op(const json_t *op);

/* Bytes of a member made by wr_json_path; the caller frees. NULL if absent. */
char *wr_json_path_bytes(const json_t *obj, const char *key);
/* "10:15:03" of today, else with the date, UTC; "-" for 0. */
struct wr_short wr_when_text(int64_t seconds);

#endif

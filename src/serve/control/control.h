/* SPDX-License-Identifier: Apache-2.0 */
/* Control: the daemon's one process with rights. */
#ifndef WR_CONTROL_H
#define WR_CONTROL_H

#include "base/err.h"

struct wr_serve_opts {
	const char *root;  /* NULL: the system's */
	const char *front; /* a program in place of our own front (tests of hostile ones); NULL: our
			      image */
	bool verbose;
};
/* Runs until SIGTERM or SIGINT: 0 after a clean drain. */
int wr_serve(const struct wr_serve_opts *o, struct wr_err *err);

#endif

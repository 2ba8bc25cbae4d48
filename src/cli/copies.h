/* SPDX-License-Identifier: Apache-2.0 */
/* What several commands say of copies on other nodes. */
#ifndef WR_CLI_COPIES_H
#define WR_CLI_COPIES_H

#include "cli/client.h"

struct wr_args;

/* --NAME A,B of the arguments as the call's argument of that name. */
void wr_copies_nodes(struct wr_ask *r, const struct wr_args *a, const char *name);
/* "3/3 12s ago" of a project as the daemon tells it; "on NODE" where another node writes it. */
void wr_copies_safe_text(const json_t *o, struct wr_buf *out);

#endif

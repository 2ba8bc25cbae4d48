/* SPDX-License-Identifier: Apache-2.0 */
/* Names of refs, by git's rules and some of ours; also fit to be paths. */
#ifndef WR_BASE_REFNAME_H
#define WR_BASE_REFNAME_H

#include <stdbool.h>
#include <stddef.h>

/* Parts with slashes between them. What has to stand in front is the caller's to say. */
bool wr_refname_ok(const char *name, size_t len);

#endif

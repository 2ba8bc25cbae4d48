/* SPDX-License-Identifier: Apache-2.0 */
/* What the receipts of save and restore have in common: lists of paths with a reason. */
#ifndef WR_RECEIPT_H
#define WR_RECEIPT_H

#include <jansson.h>

#include "engine/snap/notes.h"

/* Member key: [{path, reason}], and key_more: how many are not listed. */
void wr_receipt_notes(json_t *o, const char *key, const struct wr_notes *n);
/* To standard error, where people look, also with --quiet: the first of them, then a count. */
void wr_receipt_warn(const struct wr_notes *n);

#endif

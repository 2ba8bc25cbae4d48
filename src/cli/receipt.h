/* SPDX-License-Identifier: Apache-2.0 */
/* What the receipts of save and restore say to people; the JSON is host/task/receipt.h. */
#ifndef WR_CLI_RECEIPT_H
#define WR_CLI_RECEIPT_H

#include "engine/snap/notes.h"

/* To standard error, where people look, also with --quiet: the first of them, then a count. */
void wr_receipt_warn(const struct wr_notes *n);

#endif

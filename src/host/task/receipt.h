/* SPDX-License-Identifier: Apache-2.0 */
/* Results of the engine as members of receipts, the same for `warren repo` and for projects. */
#ifndef WR_HOST_RECEIPT_H
#define WR_HOST_RECEIPT_H

#include "base/json.h"
#include "engine/object/id.h"
#include "engine/snap/restore.h"
#include "engine/snap/save.h"

void wr_json_id(json_t *obj, const char *key, const struct wr_id *id);
/* Member key: [{path, reason}], and key_more: how many are not listed. */
void wr_receipt_notes(json_t *o, const char *key, const struct wr_notes *n);
void wr_receipt_save(json_t *o, const struct wr_save_result *r, bool dry_run);
/* Counts, skipped and safety; the caller adds how to undo it. */
void wr_receipt_restore(json_t *o, const struct wr_restore_result *r);

#endif

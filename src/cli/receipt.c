/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/receipt.h"

#include "cli/out.h"

/* Paths shown to people; --json has up to WR_LIST_MAX. */
#define SHOWN_MAX 20

void
wr_receipt_notes(json_t *o, const char *key, const struct wr_notes *n)
{
	json_t *list = wr_json_array(o, key);
	WR_SCOPED(wr_freep) char *more = wr_asprintf("%s_more", key);

	for (size_t i = 0; i < n->count; i++) {
		json_t *e = wr_json_item(list);

		wr_json_path(e, "path", n->note[i].path, n->note[i].path_len);
		wr_json_str(e, "reason", n->note[i].reason);
	}
	wr_json_u64(o, more, n->more);
}

void
wr_receipt_warn(const struct wr_notes *n)
{
	size_t shown = WR_MIN(n->count, (size_t)SHOWN_MAX);
	uint64_t rest = n->count - shown + n->more;

	for (size_t i = 0; i < shown; i++)
		wr_warn("'%s': %s", wr_quote(n->note[i].path, n->note[i].path_len).s,
			wr_quote(n->note[i].reason, strlen(n->note[i].reason)).s);
	if (rest)
		wr_warn("and %" PRIu64 " more; --json lists them", rest);
}

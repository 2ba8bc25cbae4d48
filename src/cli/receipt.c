/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/receipt.h"

#include "cli/out.h"

/* Paths shown to people; --json has up to WR_LIST_MAX. */
#define SHOWN_MAX 20

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

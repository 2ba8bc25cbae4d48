/* SPDX-License-Identifier: Apache-2.0 */
/* A fleet record.  What was taken is written the same, also by its copy, and who is in it is found.
 */
#include "fleet/record/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	WR_SCOPED(wr_fleet_fini) struct wr_fleet f = {0}, copy = {0};
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	if (wr_fleet_decode(data, size, &f, NULL) < 0)
		return 0;
	wr_fleet_copy(&copy, &f);
	wr_fleet_encode(&copy, &b);
	wr_assert(b.len == size && memcmp(b.p, data, size) == 0);
	for (size_t i = 0; i < f.node_count; i++) {
		const struct wr_fleet_node *n = &f.node[i];

		wr_assert(wr_fleet_has(&f, &n->node) == n);
		wr_assert(wr_fleet_find(&f, &n->node.id) >= n);
		wr_assert((n->flags & WR_FLEET_REMOVED) || wr_fleet_by_name(&f, n->name) == n);
	}
	return 0;
}

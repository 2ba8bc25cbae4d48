/* SPDX-License-Identifier: Apache-2.0 */
/* bup's multi-indexes: shape, names, lookups. */
#include "engine/pack/idx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wr_err err = WR_ERR_INIT;
	struct wr_midx m;

	if (wr_midx_open_mem(&m, data, size, &err) < 0)
		return 0;
	for (uint64_t i = 0; i < m.count; i++) {
		struct wr_id id;
		int64_t at;

		memcpy(id.b, m.ids + WR_ID_LEN * i, WR_ID_LEN);
		at = wr_midx_find(&m, &id);
		wr_assert(at < 0 || (size_t)at < m.name_count);
		id.b[i % WR_ID_LEN] ^= 1;
		(void)wr_midx_find(&m, &id);
	}
	for (size_t i = 0; i < m.name_count; i++)
		wr_assert(*m.name[i] && !strchr(m.name[i], '/'));
	wr_midx_close(&m);
	return 0;
}

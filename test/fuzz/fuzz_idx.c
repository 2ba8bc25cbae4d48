/* SPDX-License-Identifier: Apache-2.0 */
/* Pack indexes: shape, every lookup, the full check. */
#include "engine/pack/idx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wr_err err = WR_ERR_INIT;
	struct wr_id id = {{0}};
	struct wr_idx x;
	uint32_t n, crc;

	if (wr_idx_open_mem(&x, data, size, &err) < 0)
		return 0;
	(void)wr_idx_check(&x, size * 3, &err);
	(void)wr_idx_pack_sum(&x);
	for (uint32_t i = 0; i < x.count; i++) {
		id = wr_idx_id(&x, i);
		(void)wr_idx_find(&x, &id);
		(void)wr_idx_prefix(&x, &id, i % 161, &n);
		(void)wr_idx_offset(&x, i);
		(void)wr_idx_crc(&x, i, &crc);
		id.b[i % WR_ID_LEN] ^= 1;
		(void)wr_idx_find(&x, &id);
	}
	wr_idx_close(&x);
	return 0;
}

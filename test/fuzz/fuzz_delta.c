/* SPDX-License-Identifier: Apache-2.0 */
/* Deltas: the first two bytes tell the length of the base, then base, then delta. */
#include "engine/pack/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wr_buf out = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	size_t base;

	if (size < 2)
		return 0;
	base = (size_t)data[0] << 8 | data[1];
	data += 2;
	size -= 2;
	if (base > size)
		base = size;
	if (wr_delta_apply(data, base, data + base, size - base, &out, &err) == 0)
		wr_assert(out.len <= WR_OBJ_MAX);
	wr_buf_fini(&out);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Loose objects. */
#include "engine/pack/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wr_buf out = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	enum wr_obj_type type = WR_OBJ_NONE;

	if (wr_loose_parse(data, size, &type, &out, &err) == 0)
		wr_assert(type >= WR_OBJ_COMMIT && type <= WR_OBJ_TAG);
	wr_buf_fini(&out);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Foreign JSON: what is taken reads back as the same. */
#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wr_err err = WR_ERR_INIT, got = WR_ERR_INIT;
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;
	WR_SCOPED(wr_json_freep) json_t *o = wr_json_parse(data, size, &err);
	WR_SCOPED(wr_json_freep) json_t *again = NULL;

	if (!o) {
		wr_assert(*err.msg);
		return 0;
	}
	wr_json_get_err(o, &got);
	wr_json_write(o, &b);
	again = wr_json_parse(b.p, b.len, &err);
	wr_assert(again != NULL);
	return 0;
}

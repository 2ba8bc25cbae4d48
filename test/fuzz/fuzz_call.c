/* SPDX-License-Identifier: Apache-2.0 */
/* A call as a front sends it: what is taken is well-formed and comes back from its own writing. */
#include "base/buf.h"
#include "model/api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	WR_SCOPED(wr_call_fini) struct wr_call c = {0}, again = {0};
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_rd r = wr_rd(data, size);

	if (wr_call_decode(&r, &c, &err) < 0) {
		wr_assert(err.code == WR_E_INVALID && *err.msg);
		return 0;
	}
	wr_assert(c.val_count <= WR_CALL_VALUES);
	wr_call_encode(&c, &b);
	wr_assert(b.len == size - r.left && !memcmp(b.p, data, b.len));
	r = wr_rd(b.p, b.len);
	wr_assert(wr_call_decode(&r, &again, &err) == 0 && r.left == 0);
	wr_assert(again.api == c.api && !strcmp(again.ref, c.ref));
	return 0;
}

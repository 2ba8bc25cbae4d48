/* SPDX-License-Identifier: Apache-2.0 */
/* The small signed things: a record of an epoch, a settings document, a grant; the magic says
 * which. What was taken is written the same. */
#include "fleet/record/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	WR_SCOPED(wr_settings_doc_fini) struct wr_settings_doc d = {0};
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_record r;
	struct wr_grant g;

	if (wr_record_decode(data, size, &r, NULL) == 0) {
		wr_assert(wr_record_majority(&r) >= 1 && wr_record_has(&r, &r.writer));
		wr_record_encode(&r, &b);
	} else if (wr_settings_doc_decode(data, size, &d, NULL) == 0) {
		wr_settings_doc_encode(&d, &b);
	} else if (wr_grant_decode(data, size, &g, NULL) == 0) {
		wr_grant_encode(&g, &b);
	} else {
		return 0;
	}
	wr_assert(b.len == size && memcmp(b.p, data, size) == 0);
	return 0;
}

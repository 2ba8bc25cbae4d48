/* SPDX-License-Identifier: Apache-2.0 */
/* A save record.  What was taken is written the same, and no name leads elsewhere. */
#include "fleet/record/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	WR_SCOPED(wr_save_rec_fini) struct wr_save_rec s = WR_SAVE_REC_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	if (wr_save_rec_decode(data, size, &s, NULL) < 0)
		return 0;
	for (size_t i = 0; i < s.ref_count; i++) {
		const char *n = s.ref[i].name;

		wr_assert(strncmp(n, "refs/", 5) == 0 && !strstr(n, "..") && !strstr(n, "//"));
		wr_assert(i == 0 || strcmp(s.ref[i - 1].name, n) < 0);
	}
	wr_save_rec_encode(&s, &b);
	wr_assert(b.len == size && memcmp(b.p, data, size) == 0);
	return 0;
}

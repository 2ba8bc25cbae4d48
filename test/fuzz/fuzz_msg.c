/* SPDX-License-Identifier: Apache-2.0 */
/* A message.  What was taken is written the same, but for its signature. */
#include "fleet/record/msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t seed[32] = {1};
	WR_SCOPED(wr_msg_fini) struct wr_msg m = WR_MSG_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_sign_key k;
	struct wr_msg head;

	if (wr_msg_open(data, size, &m, &err) < 0)
		return 0;
	wr_assert(wr_msg_peek(data, size, &head, &err) == 0);
	wr_assert(head.kind == m.kind && wr_node_id_eq(&head.from, &m.from));
	wr_assert(wr_sign_key_of(seed, &k, &err) == 0);
	wr_assert(wr_msg_seal(&m, &k, &b, &err) == 0);
	wr_assert(b.len == size && memcmp(b.p, data, size - WR_SIG_LEN) == 0);
	wr_msg_get_err(&m, &err);
	return 0;
}

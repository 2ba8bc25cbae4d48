/* SPDX-License-Identifier: Apache-2.0 */
/* What strangers hand to a node before or while they speak: certificates, frames, addresses, join
 * tokens. Each takes the same bytes. */
#include "fleet/link/link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
frames(const uint8_t *p, size_t left)
{
	struct wr_frame f;
	size_t used;

	while (wr_frame_next(p, left, &f, &used, NULL) == 1) {
		wr_assert(used <= left && f.p + f.len == p + used);
		p += used;
		left -= used;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf text = WR_BUF_INIT;
	struct wr_join_token token;
	struct wr_cert_info info;
	char host[256];
	uint16_t port;

	frames(data, size);
	if (wr_cert_info((struct wr_der){data, size}, &info, NULL) == 0)
		wr_assert(info.ca == (info.node.inc == 0));
	wr_buf_add(&text, data, size);
	if (wr_addr_parse(wr_buf_str(&text), host, &port, NULL) == 0) {
		const struct wr_addr_text t = wr_addr_format(host, port);

		wr_assert(wr_addr_parse(t.s, host, &port, NULL) == 0);
	}
	if (wr_join_token_parse(wr_buf_str(&text), &token, NULL) == 0)
		wr_assert(strcmp(wr_join_token_text(&token).s, wr_buf_str(&text)) == 0);
	return 0;
}

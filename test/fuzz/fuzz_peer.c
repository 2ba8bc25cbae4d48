/* SPDX-License-Identifier: Apache-2.0 */
/* Messages, as control reads those of a taken @peer and as @peer reads control's; setups. */
#include "serve/peer/peer_int.h"

#include <fcntl.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* with_fd: as if a descriptor had come with it. */
static void
decode(const uint8_t *data, size_t size, bool from_peer, bool with_fd)
{
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg m = WR_PEER_MSG_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	int fd = with_fd ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;

	if (wr_peer_decode(data, size, &fd, fd >= 0, from_peer, &m, &err) < 0) {
		wr_assert(err.code == WR_E_INVALID && err.msg[0]);
		return;
	}
	wr_assert(from_peer == (m.type >= WR_PEER_CALL) && (m.fd >= 0) == with_fd);
	wr_peer_encode(&m, &b);
	wr_assert(b.len == size && !memcmp(b.p, data, size));
}

static void
decode_setup(const uint8_t *data, size_t size)
{
	struct wr_peer_setup s;
	struct wr_err err = WR_ERR_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	if (wr_peer_setup_decode(data, size, &s, &err) < 0) {
		wr_assert(err.code == WR_E_INVALID && err.msg[0]);
		return;
	}
	wr_peer_setup_encode(&s, &b);
	wr_assert(b.len == size && !memcmp(b.p, data, size));
	wr_peer_setup_fini(&s);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	decode(data, size, true, false);
	decode(data, size, false, false);
	decode(data, size, false, true);
	decode_setup(data, size);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Messages, as control reads a front's and as a front reads control's. */
#include "serve/ipc/ipc.h"

#include <fcntl.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* with_fd: as if a descriptor had come with it. */
static void
decode(const uint8_t *data, size_t size, bool from_front, bool with_fd)
{
	WR_SCOPED(wr_ipc_fini) struct wr_ipc m = WR_IPC_INIT;
	WR_SCOPED(wr_ipc_fini) struct wr_ipc back = WR_IPC_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	int fd = with_fd ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;

	if (wr_ipc_decode(data, size, &fd, fd >= 0, from_front, &m, &err) < 0) {
		wr_assert(err.code == WR_E_INVALID && err.msg[0]);
		return;
	}
	wr_assert(from_front == (m.type >= WR_IPC_CALL) && (m.fd >= 0) == with_fd);
	wr_ipc_encode(&m, &b);
	wr_assert(b.len == size && !memcmp(b.p, data, size));
	wr_assert(wr_ipc_decode(b.p, b.len, &m.fd, m.fd >= 0, from_front, &back, &err) == 0);
	m.fd = -1; /* it is the second one's now */
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	decode(data, size, true, false);
	decode(data, size, false, false);
	decode(data, size, false, true);
	return 0;
}

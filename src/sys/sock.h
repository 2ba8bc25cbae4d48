/* SPDX-License-Identifier: Apache-2.0 */
/* Unix sockets: listening and connecting below a directory of any path length, whole messages with
 * descriptors, who is at the other end, telling a service manager that we are ready. */
#ifndef WR_SOCK_H
#define WR_SOCK_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

/* Stream sockets at path (any length: bound through a descriptor of its directory). A stale socket
 * file is replaced; a live one is WR_E_BUSY. Non-blocking, close-on-exec. */
int wr_sock_listen(const char *path, mode_t mode, struct wr_err *err);
/* Blocking, close-on-exec. WR_E_NOT_FOUND: nobody listens there. */
int wr_sock_connect(const char *path, struct wr_err *err);

struct wr_peer {
	pid_t pid;
	uid_t uid;
	gid_t gid;
};
int wr_sock_peer(int fd, struct wr_peer *out, struct wr_err *err);

/* LIMIT: a message of 128 KiB (more goes through a memfd) with at most 4 descriptors. */
#define WR_MSG_MAX (128u << 10)
#define WR_MSG_FDS 4
/* A pair of AF_UNIX SOCK_SEQPACKET sockets with room for messages of that size. */
int wr_msg_pair(int out_fd[2], struct wr_err *err);
/* Send one message. 1: sent; 0: would block (non-blocking socket); -1. fds stay the caller's. */
int wr_msg_send(int fd, const void *p, size_t len, const int *fds, size_t fd_count,
		struct wr_err *err);
/* Receive one: *out replaced; descriptors, close-on-exec, become the caller's. 1: got one; 0: end
 * of stream; -1 with WR_E_BUSY: nothing there now (non-blocking), other codes: broken. */
int wr_msg_recv(int fd, struct wr_buf *out, int fds[WR_MSG_FDS], size_t *out_fd_count,
		struct wr_err *err);

/* "READY=1", "STOPPING=1", "STATUS=..." to $NOTIFY_SOCKET; without it nothing happens. */
void wr_notify(const char *text);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between control and its fronts, over a pair of SOCK_SEQPACKET sockets.
 *
 * There is one front per caller's uid, and the channel it was born with *is* that identity: control
 * knows from the kernel (SO_PEERCRED of the connections that it accepts and hands over) whose
 * requests can come through it.  No message names an identity; a token is evidence that control
 * checks itself.  So a front that is taken over can do what its own user can do anyway.
 *
 * A message is u8 type, then fields; texts are u32 length and bytes; all numbers big endian.
 */
#ifndef WR_IPC_H
#define WR_IPC_H

#include "base/buf.h"
#include "model/api.h"
#include "sys/sock.h"

enum wr_ipc_type {
	/* control -> front */
	WR_IPC_CONN = 1, /* u32 conn; descriptor: a connection to serve */
	WR_IPC_REPLY, /* u32 seq, u16 http status, u8 exit, text body (JSON); or the body in a memfd
			 if a descriptor comes */
	WR_IPC_STREAM, /* u32 seq, text content type; descriptor: a pipe, the body until its end */
	WR_IPC_END,  /* u32 seq, u8 exit, text error (JSON object or empty): after the stream's end
		      */
	WR_IPC_QUIT, /* answer what is open, then end */
	/* front -> control */
	WR_IPC_CALL = 64, /* u32 seq, u32 conn, text token (empty: none), call as wr_call_encode */
	WR_IPC_CLOSED,    /* u32 conn */
	WR_IPC_ABORT,     /* u32 seq: nobody waits for the answer any more */
};

struct wr_ipc {
	enum wr_ipc_type type;
	uint32_t seq, conn;
	uint16_t status;
	uint8_t exit;
	char token[128]; /* CALL */
	char *text;      /* body, content type or error; owned; NUL-terminated */
	size_t text_len;
	struct wr_call call; /* CALL */
	int fd;              /* -1: none; owned */
};
#define WR_IPC_INIT      \
	{                \
		.fd = -1 \
	}
void wr_ipc_fini(struct wr_ipc *m);
void wr_ipc_encode(const struct wr_ipc *m, struct wr_buf *out);
/* from_front: which half of the types is allowed. Everything is checked; WR_E_INVALID says what.
 * fds: of the message, taken. */
int wr_ipc_decode(const void *p, size_t len, const int *fds, size_t fd_count, bool from_front,
		  struct wr_ipc *out, struct wr_err *err);
/* Encode and send: 1 sent, 0 would block, -1. A REPLY whose body is longer than WR_IPC_INLINE goes
 * through a sealed memfd; any other message above WR_MSG_MAX is WR_E_LIMIT. */
#define WR_IPC_INLINE (64u << 10)
int wr_ipc_send(int sock, const struct wr_ipc *m, struct wr_err *err);

#endif

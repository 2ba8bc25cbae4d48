/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process between control and the peers: it ends their TLS connections, carries signed messages
 * and streams, and has no authority, no files and no signing key.  Taken over, it can delay and
 * drop.
 *
 *   peer --- TLS 1.3, mutual ---> @peer --- messages (SOCK_SEQPACKET, descriptor 3) ---> control
 *                                   \------ streams: one socket pair each -------------> @receive
 *
 * A message is u8 type, then fields; numbers big endian. A payload (an envelope, at most
 * WR_MSG_BYTES) comes in a sealed memfd where it does not fit into a message.
 */
#ifndef WR_PEER_H
#define WR_PEER_H

#include "base/buf.h"
#include "fleet/record/msg.h"

enum wr_peer_type {
	/* control -> peer */
	WR_PEER_SETUP = 1, /* payload: struct wr_peer_setup encoded; again at every change */
	WR_PEER_LISTEN,    /* descriptor: a listening socket; replaces the one there is */
	WR_PEER_SEND,      /* u32 id, u32 timeout_ms, text address, node; payload: envelope */
	WR_PEER_REPLY,     /* u32 conn, u32 seq; payload: envelope */
	WR_PEER_GO,        /* u32 conn; descriptor: the stream's other end; payload empty */
	WR_PEER_REFUSE,    /* u32 conn; payload: envelope: answer to a STREAM, which then closes */
	WR_PEER_QUIT,
	/* peer -> control */
	WR_PEER_CALL = 64, /* u32 conn, u32 seq; payload: envelope */
	WR_PEER_STREAM,    /* u32 conn; payload: envelope */
	WR_PEER_ANSWER,    /* u32 id; payload: envelope */
	WR_PEER_FAILED,    /* u32 id, u16 code (enum wr_err_code), text message, text hint */
	WR_PEER_NOTE, /* text: something worth an event, at most 10 a minute (handshakes refused,
			 ...) */
};

struct wr_peer_msg {
	enum wr_peer_type type;
	uint32_t id, conn, seq, timeout_ms;
	char address[256];
	struct wr_node_id node;
	enum wr_err_code code;
	char *text, *hint; /* owned */
	struct wr_buf payload;
	int fd; /* -1: none; owned */
};
#define WR_PEER_MSG_INIT \
	{                \
		.fd = -1 \
	}
void wr_peer_msg_fini(struct wr_peer_msg *m);
/* Encode and send: 1 sent, 0 would block (nothing was sent), -1. */
int wr_peer_send(int sock, const struct wr_peer_msg *m, struct wr_err *err);
/* 1 a message, 0 the other end is gone, -1: WR_E_BUSY nothing there now, WR_E_INVALID says what was
 * wrong. from_peer: which half of the types is allowed. */
int wr_peer_recv(int sock, bool from_peer, struct wr_peer_msg *out, struct wr_err *err);

/* What the process needs to know; no paths, all in memory. */
struct wr_peer_setup {
	struct wr_node_id self;
	char fleet[37];
	struct wr_buf key_pem, cert_der;
	struct wr_buf ca_der[2]; /* the second may be empty */
	int64_t fleet_at;        /* when the fleet record was signed, to tell a wrong clock */
	struct wr_node_id *node; /* who may connect: the fleet's nodes that are not removed */
	size_t node_count;
};
void wr_peer_setup_fini(struct wr_peer_setup *s);
void wr_peer_setup_encode(const struct wr_peer_setup *s, struct wr_buf *out);
int wr_peer_setup_decode(const void *p, size_t len, struct wr_peer_setup *out, struct wr_err *err);

/* argv[0] "@peer"; descriptor 3: the channel. Ends when control is gone or says QUIT. */
int wr_peer_main(int argc, char **argv);

#endif

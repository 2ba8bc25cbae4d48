/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Within the folder: one thread, one loop.  A request goes through these phases:
 *
 *   BODY -----> WAIT ------------------------> READY -----> SENT
 *     |          |  a stream begins             ^   |
 *     |          +-----> COLLECT ---------------+   | more than COLLECT_MAX
 *     |  refused           its end, in time         +-----> FLOW
 *     +----------------------------------------->
 *
 *   BODY     headers and body come in
 *   WAIT     control has the call; suspended in libmicrohttpd
 *   COLLECT  control streams; suspended until all is there, or more than COLLECT_MAX bytes
 *   READY    the answer is decided and waits to be queued
 *   FLOW     a long stream: its body reader takes from the pipe, suspended while that is empty
 *   SENT     the answer is queued
 *
 * In every phase the client may go; `owed` then says whether control must hear of it.
 */
#ifndef WR_FRONT_INT_H
#define WR_FRONT_INT_H

#include "serve/front/mhd.h"
#include "serve/front/request.h"
#include "serve/ipc/ipc.h"

/* LIMITs: connections; bytes of all bodies that are coming in; of a stream before it is answered as
 * one; seconds without a byte; seconds for what is open when control says quit or is gone. */
#define WR_CONNS_MAX 200
#define WR_BODIES_MAX (16u << 20)
#define WR_COLLECT_MAX (64u << 10)
#define WR_IDLE_S 30
#define WR_DRAIN_S 5
/* Of connections from a network, seconds in all, however a client drips: from accept to the end of
 * the first request's headers, with the handshake; from there to the end of the body; from one
 * request to the end of the next one's headers. */
#define WR_HEAD_S 20
#define WR_BODY_S 60
#define WR_NEXT_S 60

struct wr_front;
struct wr_req;

enum wr_watch_kind { WR_WATCH_CHANNEL, WR_WATCH_HTTP, WR_WATCH_PIPE, WR_WATCH_CLIENT };
/* What an event of the loop's epoll points at. */
struct wr_watch {
	enum wr_watch_kind kind;
	struct wr_req *req;
};

enum wr_phase {
	WR_REQ_BODY = 1,
	WR_REQ_WAIT,
	WR_REQ_COLLECT,
	WR_REQ_READY,
	WR_REQ_FLOW,
	WR_REQ_SENT
};

struct wr_answer {
	unsigned status;
	int exit;           /* -1: control said none */
	const char *type;   /* content type; borrowed */
	char allow[64];     /* "" = no such header */
	char *error;        /* JSON object for the header Warren-Error, NULL: none; owned */
	struct wr_buf body; /* used if fd is -1 */
	int fd;             /* a memfd with the body; owned */
};
#define WR_ANSWER_INIT               \
	{                            \
		.exit = -1, .fd = -1 \
	}
void wr_answer_fini(struct wr_answer *a);
/* Replaced by an error. */
void wr_answer_error(struct wr_answer *a, unsigned status, const struct wr_err *err);
void wr_answer_refusal(struct wr_answer *a, const struct wr_refusal *no);
/* From what control says at a stream's end: `text` is {"code",..} or an object with member "error",
 * or empty. The collected body is in a->body. */
void wr_answer_end(struct wr_answer *a, int exit, const char *text, size_t len);
/* As text for a header: itself, or base64 where it is other than printable ASCII. Caller frees. */
char *wr_answer_header(const char *json);
/* A response of the library's with headers; the answer's body is handed over. NULL: no memory. */
struct MHD_Response *wr_answer_response(struct wr_answer *a);

struct wr_conn {
	uint32_t id;
	int fd;               /* libmicrohttpd's */
	uint64_t deadline_ns; /* 0: none */
	struct wr_conn *prev, *next;
};

struct wr_req {
	struct wr_req *prev, *next; /* all requests, in front->reqs */
	struct wr_front *front;
	struct MHD_Connection *mhd;
	struct wr_conn *conn;
	enum wr_phase phase;
	bool suspended, owed, gone; /* gone: the client, or we give up */
	uint32_t seq;
	char *target;
	struct wr_call call;
	struct wr_refusal refused; /* status 0: not refused so far */
	struct wr_buf body;
	size_t body_seen;
	struct wr_answer answer;
	/* the stream */
	char *type;
	int pipe;    /* -1: not begun, or ended */
	size_t sent; /* of answer.body, in FLOW */
	bool ended;  /* END came */
	int exit;
	char *error; /* of END */
	size_t error_len;
	struct MHD_Response *flow;
	struct wr_watch on_pipe, on_client;
};

struct wr_front {
	int channel, epoll;
	struct MHD_Daemon *daemon;
	char *key, *cert;         /* PEM: TLS, for a network; NULL: a unix socket */
	struct wr_conn *arriving; /* handed to the library right now */
	struct wr_conn *conns;    /* those that the library has */
	size_t conn_count;
	size_t bodies; /* bytes that requests hold in body */
	struct wr_req *reqs;
	uint32_t last_seq;
	bool quitting, control_gone;
	uint64_t deadline_ns; /* of quitting */
	/* messages that the channel had no room for */
	struct wr_buf *queue;
	size_t queue_count, queue_cap;
	bool blocked; /* the loop waits for room in the channel */
	struct wr_watch on_channel, on_http;
};

/* front.c: a message to control. Never blocks; -1 with WR_E_LIMIT if it is too long. */
int wr_front_send(struct wr_front *f, const struct wr_ipc *m, struct wr_err *err);
void wr_front_watch(struct wr_front *f, int fd, struct wr_watch *w, uint32_t events);
void wr_front_unwatch(struct wr_front *f, int fd);

/* http.c */
int wr_http_start(struct wr_front *f, unsigned idle_s, struct wr_err *err);
void wr_http_stop(struct wr_front *f);
/* A connection to serve, taken. */
void wr_http_adopt(struct wr_front *f, int fd, uint32_t id);
/* What the loop learned: an answer of control's (its parts are taken), the pipe of a request can be
 * read, its client is gone. */
void wr_http_answer(struct wr_front *f, struct wr_ipc *m);
void wr_http_readable(struct wr_req *r);
void wr_http_client_gone(struct wr_req *r);
/* Hang up on who takes too long; *out_next_ns: when to look again, UINT64_MAX: not at all. */
void wr_http_deadlines(struct wr_front *f, uint64_t now_ns, uint64_t *out_next_ns);
/* Answer whatever waits for control with 503; streams are cut. */
void wr_http_give_up(struct wr_front *f);

/* The loop until control quits or ends: what wr_front_main does. key_fd: a memfd with the key and
 * the certificates for TLS, as PEM, taken; -1: plain HTTP. */
int wr_front_serve(int channel, int key_fd, unsigned idle_s, bool sandbox, struct wr_err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Within the folder: one thread, one loop over the channel, the listening socket, the connections
 * and the local ends of streams.
 *
 *   served:  GREET ---> OPEN ---------------------------> DEAD
 *                        | STREAM        ^    ^
 *                        v    control:   |    | both sides said their end
 *                      ASKED ---GO---> STREAM +
 *                        +----REFUSE-> LAST --+ the answer is out
 *
 *   ours:    RESOLVE -> GREET -> OPEN -> DEAD
 *
 *   RESOLVE  its name is looked up, or waits for that
 *   GREET    TCP connect and TLS handshake
 *   OPEN     calls and answers; served: at most WR_PEER_CALLS unanswered
 *   ASKED    control has the stream's envelope
 *   STREAM   bytes go both ways between `link` and `local`
 *   LAST     nothing is read any more, what waits goes out, then it closes
 *   DEAD     closed; freed at the end of the turn, after the last event that may point at it
 *
 * Every state has a deadline (conn_deadline in peer.c).
 */
#ifndef WR_PEER_INT_H
#define WR_PEER_INT_H

#include "fleet/link/link.h"
#include "serve/peer/peer.h"

/* ---- the codec (peer_msg.c) ---- */

/* A longer payload goes through a sealed memfd. */
#define WR_PEER_INLINE (64u << 10)
void wr_peer_encode(const struct wr_peer_msg *m, struct wr_buf *out);
/* fds: of the message, taken. WR_E_INVALID says what is wrong. */
int wr_peer_decode(const void *p, size_t len, const int *fds, size_t fd_count, bool from_peer,
		   struct wr_peer_msg *out, struct wr_err *err);

/* ---- LIMITs ---- */

/* Connections of others: in all, of one node, of one address before it is known who it is, in all
 * before that. */
#define WR_PEER_CONNS 512
#define WR_PEER_CONNS_NODE 32
#define WR_PEER_GREETS_ADDR 32
#define WR_PEER_GREETS 128
/* Connections of ours: in all, to one node. */
#define WR_PEER_OURS 512
#define WR_PEER_OURS_NODE 4
/* Calls without answer on one connection, either way. */
#define WR_PEER_CALLS 16
/* What control wants sent: messages and bytes that wait. */
#define WR_PEER_REQS 4096
#define WR_PEER_REQ_BYTES (64u << 20)
/* Bytes in buffers of all connections. */
#define WR_PEER_HELD (128u << 20)
/* Names that are looked up at the same time. */
#define WR_PEER_LOOKUPS 32
/* Remarks for control in a minute. */
#define WR_PEER_NOTES 10

struct wr_peer_opts {
	unsigned greet_ms;   /* of a handshake that others begin */
	unsigned connect_ms; /* of one that we begin, with the look-up of its name */
	unsigned idle_ms;    /* without a byte, or a call */
	unsigned keep_ms;    /* as idle_ms for ours: less, so that the other side is not first */
	unsigned answer_ms;  /* for control */
	unsigned linger_ms;  /* for the other side, to take the last bytes */
	unsigned drain_ms;   /* for all, after QUIT */
	bool sandbox;
};
#define WR_PEER_OPTS_INIT                                                                  \
	{                                                                                  \
		.greet_ms = 10000, .connect_ms = 5000, .idle_ms = 60000, .keep_ms = 50000, \
		.answer_ms = 600000, .linger_ms = 10000, .drain_ms = 2000, .sandbox = true \
	}

/* ---- the parts ---- */

struct wr_peerd;
struct wr_pconn;

enum wr_pwatch_kind {
	WR_PWATCH_CHANNEL,
	WR_PWATCH_LISTEN,
	WR_PWATCH_FOUND,
	WR_PWATCH_LINK,
	WR_PWATCH_LOCAL
};
/* What an event of the loop's epoll points at. */
struct wr_pwatch {
	enum wr_pwatch_kind kind;
	struct wr_pconn *conn;
	uint32_t events; /* waited for; 0: not in the epoll set */
};

enum wr_pconn_state {
	WR_PCONN_RESOLVE = 1,
	WR_PCONN_GREET,
	WR_PCONN_OPEN,
	WR_PCONN_ASKED,
	WR_PCONN_STREAM,
	WR_PCONN_LAST,
	WR_PCONN_DEAD
};

/* A call of the other side. */
struct wr_pcall {
	bool answered;
	struct wr_buf reply;
};

/* A message that control wants sent. */
struct wr_preq {
	struct wr_preq *next;
	uint32_t id;
	uint64_t deadline_ns;
	bool told; /* control knows that it failed; its answer, if one comes, is dropped */
	struct wr_buf envelope;
};

struct wr_pconn {
	struct wr_pconn *prev, *next;
	struct wr_peerd *p;
	uint32_t id; /* never used again */
	bool ours;
	enum wr_pconn_state state;
	char address[264]; /* of the other side, for people; of ours: as control said it */
	struct wr_node_id node;
	struct wr_link *link;
	struct wr_pwatch on_link;
	uint64_t since_ns, moved_ns; /* made, or lingering; the last byte either way */
	uint64_t wire;               /* bytes moved then */
	struct wr_buf in, out;
	size_t in_off, out_off;
	size_t counted;           /* of p->held */
	bool wants_in, wants_out; /* the link said so */
	bool again;               /* there may be more to do at once */
	/* served */
	struct wr_addr from;
	struct wr_pcall call[WR_PEER_CALLS]; /* a ring; call[0..] by number modulo its size */
	uint32_t call_first, call_count;
	/* stream */
	int local; /* -1: none */
	struct wr_pwatch on_local;
	size_t frame_done;        /* bytes of the first frame of `in` that are with `local` */
	bool local_in, local_out; /* waited for at `local` */
	bool end_got, end_sent, local_deaf;
	/* ours */
	struct wr_preq *reqs, **reqs_tail; /* asked first, in order; then those that wait */
	size_t req_count, asked;
	struct wr_addr addr[WR_ADDRS_MAX];
	size_t addr_count, addr_next;
	uint64_t try_ns;       /* until when this address is tried */
	bool looking, retired; /* retired: takes no more requests */
};

struct wr_peerd {
	struct wr_peer_opts opts;
	int channel, epoll, listener;
	int found[2]; /* pipe: looked-up names */
	struct wr_pwatch on_channel, on_listener, on_found;
	uint64_t now_ns, next_ns; /* next_ns: no deadline before that */
	bool have_setup;
	struct wr_peer_setup setup;
	struct wr_tls *tls;
	struct wr_pconn *conns, *dead;
	size_t served, ours;
	uint32_t last_conn;
	size_t lookups;
	size_t req_count, req_bytes, held;
	/* messages that the channel had no room for; while there are any, no connection is read */
	struct wr_peer_msg *queue;
	size_t queue_count, queue_cap;
	bool again, gone, quitting;
	uint64_t accept_ns; /* not before: out of descriptors */
	uint64_t quit_ns;
	uint64_t notes_ns; /* this minute began */
	unsigned notes, notes_lost;
};

/* ---- peer.c ---- */

/* A message to control; its parts are taken. Never blocks. */
void wr_peerd_tell(struct wr_peerd *p, struct wr_peer_msg *m);
/* For people: who, what, why. */
void wr_peerd_note(struct wr_peerd *p, const char *fmt, ...) WR_PRINTF(2, 3);
/* Text as messages may carry it; the caller frees. */
char *wr_peerd_text(const char *s, size_t max);
void wr_peerd_watch(struct wr_peerd *p, struct wr_pwatch *w, int fd, uint32_t events);
/* Look at deadlines at that time. */
void wr_peerd_arm(struct wr_peerd *p, uint64_t ns);
/* The loop until control is gone or said QUIT. */
int wr_peer_serve(int channel, const struct wr_peer_opts *o, struct wr_err *err);

/* ---- conn.c: what all connections share ---- */

struct wr_pconn *wr_pconn_new(struct wr_peerd *p, bool ours);
/* Its turn comes after everyone else's. */
void wr_pconn_to_end(struct wr_pconn *c);
struct wr_pconn *wr_pconn_find(struct wr_peerd *p, uint32_t id);
/* Close it. Requests on it fail with err (of ours; with something general if NULL). */
void wr_pconn_kill(struct wr_pconn *c, const struct wr_err *err);
void wr_pconn_free(struct wr_pconn *c);
/* Do all that can be done now, then wait for the right events. */
void wr_pconn_step(struct wr_pconn *c);
uint64_t wr_pconn_deadline(const struct wr_pconn *c);
void wr_pconn_expired(struct wr_pconn *c);
size_t wr_pconn_pending(const struct wr_pconn *c); /* bytes that wait to go out */
/* First whole frame of c->in: 1, 0 not whole, -1 killed. Its bytes are done with wr_pconn_taken. */
int wr_pconn_frame(struct wr_pconn *c, struct wr_frame *out, size_t *out_used);
void wr_pconn_taken(struct wr_pconn *c, size_t used);
/* Read more: true if bytes came. May kill. */
bool wr_pconn_pull(struct wr_pconn *c);
/* Write what waits: true if it is all out. May kill. */
bool wr_pconn_push(struct wr_pconn *c);
/* Of all that others and control may make us hold; false: killed. */
bool wr_pconn_account(struct wr_pconn *c);

/* ---- served.c ---- */

void wr_served_accept(struct wr_peerd *p);
void wr_served_greeted(struct wr_pconn *c);
bool wr_served_step(struct wr_pconn *c); /* true: there may be more to do at once */
void wr_served_reply(struct wr_peerd *p, struct wr_peer_msg *m);
void wr_served_go(struct wr_peerd *p, struct wr_peer_msg *m);
void wr_served_refuse(struct wr_peerd *p, struct wr_peer_msg *m);
/* After a new setup: those who may not be here any more go. */
void wr_served_review(struct wr_peerd *p);

/* ---- stream.c ---- */

void wr_pstream_begin(struct wr_pconn *c, int local); /* local: taken */
bool wr_pstream_step(struct wr_pconn *c);
/* Is all said, and only the rest of the other side's bytes taken, so that it can read ours? */
bool wr_pstream_lingers(const struct wr_pconn *c);

/* ---- ours.c ---- */

void wr_ours_send(struct wr_peerd *p, struct wr_peer_msg *m);
/* The name's addresses came through p->found. */
void wr_ours_found(struct wr_peerd *p);
bool wr_ours_step(struct wr_pconn *c);
/* Its address does not answer: try the next (then it is to be stepped), or kill. */
void wr_ours_next(struct wr_pconn *c, const struct wr_err *err);
void wr_ours_fail_all(struct wr_pconn *c, const struct wr_err *err);
/* Our keys are others now: the next connections show them, these end when they are idle. */
void wr_ours_retire(struct wr_peerd *p);
void wr_ours_expire(struct wr_pconn *c); /* requests whose time is over */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream to another node, for a process that does nothing else and may wait: the connection, the
 * envelope that asks for it, then bytes both ways in DATA frames until each side has said
 * STREAM_END.  The other end is that node's @peer, and behind it a process of its own.
 *
 * A stream belongs to one thread at a time.
 */
#ifndef WR_STREAM_H
#define WR_STREAM_H

#include <stdatomic.h>

#include "fleet/link/link.h"

struct wr_stream;

struct wr_stream_limits {
	uint64_t connect_ms; /* look-up, TCP, TLS */
	uint64_t answer_ms;  /* from then until it is granted or refused */
	uint64_t idle_ms;    /* without a byte either way, while waiting for one */
	uint64_t total_ms;   /* of all, from the opening; 0: none */
	uint64_t rate;       /* bytes per second going out; 0: no limit */
};
#define WR_STREAM_LIMITS_INIT                                             \
	{                                                                 \
		.connect_ms = 5000, .answer_ms = 60000, .idle_ms = 30000, \
	}

/*
 * 1: *out is open; 0: refused, *out_refusal is replaced by the envelope that says why; -1: neither.
 * A limit that has passed is WR_E_SYS with ETIMEDOUT, here and below. What is borrowed: nothing.
 */
int wr_stream_open(struct wr_tls *t, const char *addr, const struct wr_link_peer *peer,
		   const void *envelope, size_t len, const struct wr_stream_limits *l,
		   struct wr_stream **out, struct wr_buf *out_refusal, struct wr_err *err);
/* Without saying the end: the other side has to take it for a break. NULL is fine. */
void wr_stream_close(struct wr_stream *s);

/* Some bytes, as they come: 1; 0: the other side's end. */
int wr_stream_read(struct wr_stream *s, void *p, size_t len, size_t *out_n, struct wr_err *err);
/* All of them. Nothing is read meanwhile: who has much to say while the other side does uses
 * wr_stream_pump. */
int wr_stream_write(struct wr_stream *s, const void *p, size_t len, struct wr_err *err);
/* Nothing more from here; reading goes on. */
int wr_stream_end(struct wr_stream *s, struct wr_err *err);

uint64_t wr_stream_bytes_in(const struct wr_stream *s); /* of the wire */
uint64_t wr_stream_bytes_out(const struct wr_stream *s);

/* ---- both ways at once, for a machine over bytes ---- */

struct wr_stream_machine {
	void *ctx;
	/* Bytes that came. Gives how many it took: fewer than len when it has come to its end; the
	 * rest is for wr_stream_read. */
	size_t (*feed)(void *ctx, const void *p, size_t len);
	/* The other side's end, or a break. */
	void (*eof)(void *ctx);
	/* Next bytes to go out, at most cap; 0: none now. */
	size_t (*pull)(void *ctx, void *p, size_t cap);
	/* To be pulled again, whether or not something comes in? */
	bool (*busy)(void *ctx);
	/* Wants nothing more to come in? What it still has to say goes out. */
	bool (*done)(void *ctx);
};
/*
 * Until the machine is done and all it had to say is written: 0. -1: the connection broke, a limit
 * passed, or *cancel was set (WR_E_CANCELLED); the machine was told by eof where it could not go
 * on. The machine's own errors are its own. Neither side's end is said here.
 * progress: at most ten times a second; cancel is looked at as often. Both may be NULL.
 */
int wr_stream_pump(struct wr_stream *s, const struct wr_stream_machine *m,
		   void (*progress)(void *ctx), const atomic_bool *cancel, struct wr_err *err);

#endif

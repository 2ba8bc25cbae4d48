/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/link/link.h"

#include <netinet/in.h>
#include <poll.h>

#include "fleet/link/link_int.h"
#include "sys/clock.h"

#define MS UINT64_C(1000000)
/* A record's worth: what is shorter goes out in one piece with its head. */
#define RECORD 16384

uint64_t
wr_deadline_ms(uint64_t ms)
{
	return wr_clock_mono_ns() + ms * MS;
}

void
wr_link_set_idle(struct wr_link *l, uint64_t ms)
{
	l->idle_ms = ms;
}

/* ---- waiting ---- */

static void
begin_wait(struct wr_link *l)
{
	l->quiet_ns = wr_clock_mono_ns();
	l->seen = l->in + l->out;
}

static int
timed_out(const struct wr_link *l, const char *what, struct wr_err *err)
{
	errno = ETIMEDOUT;
	return wr_err_sys(err, "%s '%s'", what, WR_Q(l->name.s));
}

/* Until the link may go on. */
static int
wait_for(struct wr_link *l, short events, uint64_t deadline_ns, const char *what,
	 struct wr_err *err)
{
	struct pollfd p = {.fd = l->fd, .events = events};

	for (;;) {
		const uint64_t now = wr_clock_mono_ns();
		uint64_t until = deadline_ns;
		int n;

		if (l->seen != l->in + l->out) {
			l->seen = l->in + l->out;
			l->quiet_ns = now;
		}
		if (l->idle_ms)
			until = WR_MIN(until, l->quiet_ns + l->idle_ms * MS);
		if (now >= until)
			return timed_out(l, what, err);
		n = poll(&p, 1, (int)WR_MIN((until - now + MS - 1) / MS, (uint64_t)60000));
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return wr_err_sys(err, "wait for '%s'", WR_Q(l->name.s));
	}
}

int
wr_link_greet(struct wr_link *l, uint64_t deadline_ns, struct wr_err *err)
{
	begin_wait(l);
	for (;;) {
		const char *what =
		    l->state == LINK_CONNECTING ? "connect to" : "begin to speak TLS with";

		switch (wr_link_handshake(l, err)) {
		case WR_LINK_OK:
			return 0;
		case WR_LINK_WAIT:
			if (wait_for(l, wr_link_wants(l, true, false), deadline_ns, what, err) < 0)
				return -1;
			break;
		default:
			return -1;
		}
	}
}

/* ---- connecting ---- */

typedef int (*begin_fn)(struct wr_tls *t, const struct wr_addr *to, const void *how,
			struct wr_link **out, struct wr_err *err);

static int
begin_peer(struct wr_tls *t, const struct wr_addr *to, const void *how, struct wr_link **out,
	   struct wr_err *err)
{
	return wr_link_begin(t, to, how, out, err);
}

static int
begin_https(struct wr_tls *t, const struct wr_addr *to, const void *how, struct wr_link **out,
	    struct wr_err *err)
{
	return wr_link_begin_https(t, to, how, out, err);
}

/* 1: no connection there, another address may do; -1: no hope. */
static int
try_address(struct wr_link *l, uint64_t connect_ns, uint64_t deadline_ns, struct wr_err *err)
{
	begin_wait(l);
	while (l->state == LINK_CONNECTING) {
		const enum wr_link_io io = wr_link_handshake(l, err);

		if (io == WR_LINK_FAILED)
			return l->in || l->out ? -1 : 1;
		if (l->state == LINK_CONNECTING &&
		    wait_for(l, POLLOUT, connect_ns, "connect to", err) < 0)
			return 1;
	}
	return wr_link_greet(l, deadline_ns, err);
}

static int
connect_any(struct wr_tls *t, const char *addr, begin_fn begin, const void *how,
	    uint64_t deadline_ns, struct wr_link **out, struct wr_err *err)
{
	struct wr_addr to[WR_ADDRS_MAX];
	size_t count;
	int rc = 1;

	if (wr_addr_resolve(addr, deadline_ns, to, &count, err) < 0)
		return -1;
	for (size_t i = 0; rc == 1 && i < count; i++) {
		const uint64_t now = wr_clock_mono_ns();
		const uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
		struct wr_link *l = NULL;

		if (begin(t, &to[i], how, &l, err) < 0)
			continue;
		rc = try_address(l, now + left / (count - i), deadline_ns, err);
		if (rc == 0)
			*out = l;
		else
			wr_link_close(l);
	}
	return rc == 0 ? 0 : -1;
}

int
wr_link_connect(struct wr_tls *t, const char *addr, const struct wr_link_peer *peer,
		uint64_t deadline_ns, struct wr_link **out, struct wr_err *err)
{
	return connect_any(t, addr, begin_peer, peer, deadline_ns, out, err);
}

int
wr_https_connect(const struct wr_https *h, uint64_t deadline_ns, struct wr_link **out,
		 struct wr_err *err)
{
	const struct wr_addr_text addr = wr_addr_format(h->host, h->port);
	struct wr_tls *t = NULL;
	int rc;

	if (wr_tls_https_client(h, &t, err) < 0)
		return -1;
	rc = connect_any(t, addr.s, begin_https, h, deadline_ns, out, err);
	wr_tls_free(t);
	return rc;
}

/* ---- bytes ---- */

static int
send_all(struct wr_link *l, const uint8_t *p, size_t len, uint64_t deadline_ns, struct wr_err *err)
{
	while (len) {
		size_t n = 0;
		enum wr_link_io io = wr_link_write(l, p, len, &n, err);

		if (io == WR_LINK_WAIT &&
		    wait_for(l, wr_link_wants(l, false, true), deadline_ns, "send to", err) < 0)
			return -1;
		if (io == WR_LINK_END)
			return wr_err_set(err, WR_E_FAILED, "'%s' has ended the connection",
					  WR_Q(l->name.s));
		if (io == WR_LINK_FAILED)
			return -1;
		p += n;
		len -= n;
	}
	return 0;
}

int
wr_link_send(struct wr_link *l, const void *p, size_t len, uint64_t deadline_ns, struct wr_err *err)
{
	begin_wait(l);
	return send_all(l, p, len, deadline_ns, err);
}

static int
recv_some(struct wr_link *l, void *p, size_t len, size_t *out_n, uint64_t deadline_ns,
	  struct wr_err *err)
{
	for (;;) {
		switch (wr_link_read(l, p, len, out_n, err)) {
		case WR_LINK_OK:
			return 1;
		case WR_LINK_END:
			return 0;
		case WR_LINK_WAIT:
			if (wait_for(l, wr_link_wants(l, true, false), deadline_ns, "wait for",
				     err) < 0)
				return -1;
			break;
		default:
			return -1;
		}
	}
}

int
wr_link_recv(struct wr_link *l, void *p, size_t len, size_t *out_n, uint64_t deadline_ns,
	     struct wr_err *err)
{
	begin_wait(l);
	return recv_some(l, p, len, out_n, deadline_ns, err);
}

int
wr_link_finish(struct wr_link *l, uint64_t deadline_ns, struct wr_err *err)
{
	uint8_t ignored[4096];
	enum wr_link_io io;
	size_t n;
	int rc;

	begin_wait(l);
	while ((io = wr_link_goodbye(l, err)) == WR_LINK_WAIT)
		if (wait_for(l, wr_link_wants(l, false, true), deadline_ns, "send to", err) < 0)
			return -1;
	if (io == WR_LINK_FAILED)
		return -1;
	do
		rc = recv_some(l, ignored, sizeof(ignored), &n, deadline_ns, err);
	while (rc == 1);
	return rc;
}

/* ---- frames ---- */

int
wr_link_frame_send(struct wr_link *l, enum wr_frame_type type, const void *p, size_t len,
		   uint64_t deadline_ns, struct wr_err *err)
{
	uint8_t first[RECORD];
	size_t n;

	if (len > WR_FRAME_MAX)
		return wr_err_set(err, WR_E_LIMIT, "a frame of %zu bytes; %u are possible", len,
				  WR_FRAME_MAX);
	n = WR_MIN(len, sizeof(first) - WR_FRAME_HEAD);
	wr_frame_head(first, type, len);
	if (n)
		memcpy(first + WR_FRAME_HEAD, p, n);
	begin_wait(l);
	if (send_all(l, first, WR_FRAME_HEAD + n, deadline_ns, err) < 0)
		return -1;
	return len == n ? 0 : send_all(l, (const uint8_t *)p + n, len - n, deadline_ns, err);
}

/* Bytes of the frame at the front of l->frames that are still missing. */
static size_t
missing(const struct wr_link *l)
{
	const size_t have = l->frames.len - l->frames_used;

	if (have < WR_FRAME_HEAD)
		return WR_FRAME_HEAD - have;
	return WR_FRAME_HEAD + wr_get32be(l->frames.p + l->frames_used) - have;
}

/* Room behind what is there: for the rest of this frame and, in one go, what follows it. */
static size_t
make_room(struct wr_link *l)
{
	struct wr_buf *b = &l->frames;
	const size_t want = WR_MAX(missing(l), (size_t)RECORD);

	if (l->frames_used) {
		memmove(b->p, b->p + l->frames_used, b->len - l->frames_used);
		b->len -= l->frames_used;
		l->frames_used = 0;
	}
	wr_buf_reserve(b, want);
	return b->cap - b->len;
}

int
wr_link_frame_recv(struct wr_link *l, enum wr_frame_type *out_type, struct wr_buf *out,
		   uint64_t deadline_ns, struct wr_err *err)
{
	struct wr_buf *b = &l->frames;
	struct wr_frame f;
	size_t used;

	begin_wait(l);
	for (;;) {
		size_t n, room;
		int rc = b->len == l->frames_used
			     ? 0
			     : wr_frame_next(b->p + l->frames_used, b->len - l->frames_used, &f,
					     &used, err);

		if (rc < 0)
			return wr_err_wrap(err, "from '%s'", WR_Q(l->name.s));
		if (rc > 0)
			break;
		room = make_room(l);
		rc = recv_some(l, b->p + b->len, room, &n, deadline_ns, err);
		if (rc < 0)
			return -1;
		if (rc == 0 && b->len == 0)
			return 0;
		if (rc == 0)
			return wr_err_set(err, WR_E_FAILED,
					  "'%s' ended the connection within a frame",
					  WR_Q(l->name.s));
		b->len += n;
	}
	wr_buf_clear(out);
	wr_buf_add(out, f.p, f.len);
	*out_type = f.type;
	l->frames_used += used;
	return 1;
}

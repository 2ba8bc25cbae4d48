/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/link/stream.h"

#include <poll.h>

#include "sys/clock.h"

#define MS UINT64_C(1000000)
/* Buffers that grew larger for a frame are given back when empty. */
#define KEEP (256u << 10)
#define TICK_MS 100

struct wr_stream {
	struct wr_link *link;
	struct wr_stream_limits limits;
	struct wr_flow flow;
	uint64_t end_ns;         /* of all */
	uint64_t quiet_ns, wire; /* since then no byte moved; bytes that had moved then */
	uint64_t send_ns;        /* no more out before that: the rate */
	struct wr_buf in, out;
	size_t in_off, out_off;
	size_t frame_done; /* bytes of the first DATA frame of `in` that were taken */
	bool end_got, end_sent;
	struct wr_addr_text name;
};

static int
timed_out(const struct wr_stream *s, const char *what, struct wr_err *err)
{
	errno = ETIMEDOUT;
	return wr_err_sys(err, "%s '%s'", what, WR_Q(s->name.s));
}

static int
ended(const struct wr_stream *s, struct wr_err *err)
{
	return wr_err_set(err, WR_E_FAILED, "'%s' has broken off the stream", WR_Q(s->name.s));
}

/* ---- opening ---- */

static int
ask(struct wr_stream *s, const void *envelope, size_t len, struct wr_buf *out_refusal,
    struct wr_err *err)
{
	const uint64_t until = WR_MIN(s->end_ns, wr_deadline_ms(s->limits.answer_ms));
	enum wr_frame_type type;
	int rc;

	if (wr_link_frame_send(s->link, WR_FRAME_STREAM, envelope, len, until, err) < 0)
		return -1;
	rc = wr_link_frame_recv(s->link, &type, out_refusal, until, err);
	if (rc < 0)
		return -1;
	if (rc == 0) {
		wr_err_set(err, WR_E_FAILED, "'%s' has closed the connection", WR_Q(s->name.s));
		return wr_err_hint(err, "if it does so each time, its events tell why");
	}
	if (type == WR_FRAME_STREAM_GO && out_refusal->len == 0)
		return 1;
	if (type == WR_FRAME_MSG_REPLY)
		return 0;
	return wr_err_set(err, WR_E_INVALID, "'%s' says what does not belong here",
			  WR_Q(s->name.s));
}

int
wr_stream_open(struct wr_tls *t, const char *addr, const struct wr_link_peer *peer,
	       const void *envelope, size_t len, const struct wr_stream_limits *l,
	       struct wr_stream **out, struct wr_buf *out_refusal, struct wr_err *err)
{
	struct wr_stream *s = wr_calloc(1, sizeof(*s));
	int rc = -1;

	s->limits = *l;
	s->end_ns = l->total_ms ? wr_deadline_ms(l->total_ms) : UINT64_MAX;
	s->flow.per_s = l->rate;
	snprintf(s->name.s, sizeof(s->name.s), "%s", peer->name ? peer->name : addr);
	if (wr_link_connect(t, addr, peer, WR_MIN(s->end_ns, wr_deadline_ms(l->connect_ms)),
			    &s->link, err) == 0)
		rc = ask(s, envelope, len, out_refusal, err);
	if (rc == 1) {
		s->quiet_ns = wr_clock_mono_ns();
		*out = wr_steal(&s);
	}
	wr_stream_close(s);
	return rc;
}

void
wr_stream_close(struct wr_stream *s)
{
	if (!s)
		return;
	wr_link_close(s->link);
	wr_buf_fini(&s->in);
	wr_buf_fini(&s->out);
	free(s);
}

uint64_t
wr_stream_bytes_in(const struct wr_stream *s)
{
	return wr_link_bytes_in(s->link);
}

uint64_t
wr_stream_bytes_out(const struct wr_stream *s)
{
	return wr_link_bytes_out(s->link);
}

/* ---- what never waits ---- */

/* Write what waits: 1 all is out, 0 not yet, -1. */
static int
push(struct wr_stream *s, struct wr_err *err)
{
	switch (wr_link_push(s->link, &s->out, &s->out_off, err)) {
	case WR_LINK_OK:
		return 1;
	case WR_LINK_WAIT:
		return 0;
	case WR_LINK_END:
		return ended(s, err);
	default:
		return -1;
	}
}

/* Account for a frame that was added to s->out. */
static void
spend(struct wr_stream *s, size_t len)
{
	uint64_t now = wr_clock_mono_ns();

	s->send_ns = now + wr_flow_take(&s->flow, len, now);
}

/* More of what comes: 1 bytes came, 0 none now, -1. */
static int
pull(struct wr_stream *s, struct wr_err *err)
{
	size_t want = WR_FRAME_HEAD + WR_FRAME_DATA_LEN, had;
	enum wr_link_io io;

	if (s->in_off) {
		memmove(s->in.p, s->in.p + s->in_off, s->in.len - s->in_off);
		s->in.len -= s->in_off;
		s->in_off = 0;
	}
	if (s->in.len >= WR_FRAME_HEAD)
		want = WR_MAX(want, WR_FRAME_HEAD + WR_MIN(wr_get32be(s->in.p), WR_FRAME_MAX));
	had = s->in.len;
	io = wr_link_pull(s->link, &s->in, want, err);
	if (io == WR_LINK_FAILED)
		return -1;
	if (s->in.len > had)
		return 1;
	return io == WR_LINK_END ? ended(s, err) : 0;
}

static void
drop_frame(struct wr_stream *s, size_t used)
{
	s->frame_done = 0;
	s->in_off += used;
	if (s->in_off < s->in.len)
		return;
	s->in_off = s->in.len = 0;
	if (s->in.cap > KEEP)
		wr_buf_fini(&s->in);
}

/* Bytes of a DATA frame: 1, *p and *len, to be told of with taken(); 0: none there; -1. After the
 * other side's end none come: s->end_got. */
static int
next(struct wr_stream *s, const uint8_t **p, size_t *len, struct wr_err *err)
{
	struct wr_frame f;
	size_t used;
	int rc;

	while (!s->end_got) {
		if (s->in.len == s->in_off)
			return 0;
		rc = wr_frame_next(s->in.p + s->in_off, s->in.len - s->in_off, &f, &used, err);
		if (rc <= 0)
			return rc;
		if (f.type == WR_FRAME_STREAM_END) {
			s->end_got = true;
		} else if (f.type != WR_FRAME_DATA) {
			return wr_err_set(err, WR_E_INVALID, "'%s' says what does not belong here",
					  WR_Q(s->name.s));
		} else if (s->frame_done < f.len) {
			*p = f.p + s->frame_done;
			*len = f.len - s->frame_done;
			return 1;
		}
		drop_frame(s, used);
	}
	return 0;
}

/* The frame itself goes when next() finds it used up. */
static void
taken(struct wr_stream *s, size_t len)
{
	s->frame_done += len;
}

/* ---- waiting ---- */

/* Until the link may go on, or at_ns. */
static int
wait_for(struct wr_stream *s, bool reading, bool writing, uint64_t at_ns, struct wr_err *err)
{
	const short events = wr_link_wants(s->link, reading, writing);
	/* Without events a hang-up would end the wait, again and again. */
	struct pollfd p = {.fd = events ? wr_link_fd(s->link) : -1, .events = events};
	uint64_t now = wr_clock_mono_ns(), until = WR_MIN(at_ns, s->end_ns);
	uint64_t wire = wr_stream_bytes_in(s) + wr_stream_bytes_out(s);

	if (wire != s->wire) {
		s->wire = wire;
		s->quiet_ns = now;
	}
	if (now >= s->end_ns)
		return timed_out(s, "finish with", err);
	if (now >= s->quiet_ns + s->limits.idle_ms * MS)
		return timed_out(s, "wait for", err);
	until = WR_MIN(until, s->quiet_ns + s->limits.idle_ms * MS);
	if (until <= now)
		return 0;
	if (poll(&p, 1, (int)WR_MIN((until - now + MS - 1) / MS, UINT64_C(60000))) < 0 &&
	    errno != EINTR)
		return wr_err_sys(err, "wait for '%s'", WR_Q(s->name.s));
	return 0;
}

/* Time that was spent elsewhere is not the other side's. */
static void
begin_wait(struct wr_stream *s)
{
	s->quiet_ns = wr_clock_mono_ns();
}

int
wr_stream_read(struct wr_stream *s, void *p, size_t len, size_t *out_n, struct wr_err *err)
{
	const uint8_t *from;
	size_t n;
	int rc;

	begin_wait(s);
	for (;;) {
		rc = next(s, &from, &n, err);
		if (rc < 0)
			return -1;
		if (rc > 0) {
			*out_n = WR_MIN(n, len);
			memcpy(p, from, *out_n);
			taken(s, *out_n);
			return 1;
		}
		if (s->end_got)
			return 0;
		rc = pull(s, err);
		if (rc < 0 || (rc == 0 && wait_for(s, true, false, UINT64_MAX, err) < 0))
			return -1;
	}
}

static int
push_all(struct wr_stream *s, struct wr_err *err)
{
	int rc;

	while ((rc = push(s, err)) == 0)
		if (wait_for(s, false, true, UINT64_MAX, err) < 0)
			return -1;
	return rc < 0 ? -1 : 0;
}

int
wr_stream_write(struct wr_stream *s, const void *p, size_t len, struct wr_err *err)
{
	const uint8_t *at = p;

	wr_assert(!s->end_sent);
	begin_wait(s);
	for (size_t n; len; at += n, len -= n) {
		n = WR_MIN(len, (size_t)WR_FRAME_DATA_LEN);
		while (wr_clock_mono_ns() < s->send_ns) {
			/* Nothing is awaited from the other side. */
			begin_wait(s);
			if (wait_for(s, false, false, s->send_ns, err) < 0)
				return -1;
		}
		wr_frame_add(&s->out, WR_FRAME_DATA, at, n);
		spend(s, n);
		if (push_all(s, err) < 0)
			return -1;
	}
	return 0;
}

int
wr_stream_end(struct wr_stream *s, struct wr_err *err)
{
	if (s->end_sent)
		return 0;
	begin_wait(s);
	wr_frame_add(&s->out, WR_FRAME_STREAM_END, NULL, 0);
	s->end_sent = true;
	return push_all(s, err);
}

/* ---- both ways ---- */

/* 1 something went on, 0 nothing now, -1. */
static int
pump_in(struct wr_stream *s, const struct wr_stream_machine *m, struct wr_err *err)
{
	const uint8_t *p;
	bool was = s->end_got;
	size_t n;
	int rc = next(s, &p, &n, err);

	if (rc > 0)
		taken(s, m->feed(m->ctx, p, n));
	else if (rc == 0 && s->end_got && !was)
		m->eof(m->ctx);
	else if (rc == 0 && !s->end_got)
		return pull(s, err);
	else
		return rc;
	return 1;
}

/* As pump_in; *out_idle: the machine has nothing to say now, and all it said is written. */
static int
pump_out(struct wr_stream *s, const struct wr_stream_machine *m, bool *out_idle, struct wr_err *err)
{
	size_t n;
	int rc = push(s, err);

	*out_idle = false;
	if (rc <= 0)
		return rc;
	if (wr_clock_mono_ns() < s->send_ns)
		return 0;
	wr_buf_reserve(&s->out, WR_FRAME_HEAD + WR_FRAME_DATA_LEN);
	n = m->pull(m->ctx, s->out.p + WR_FRAME_HEAD, WR_FRAME_DATA_LEN);
	*out_idle = n == 0 && !m->busy(m->ctx);
	if (n == 0)
		return m->busy(m->ctx);
	wr_frame_head(s->out.p, WR_FRAME_DATA, n);
	s->out.len = WR_FRAME_HEAD + n;
	spend(s, n);
	return 1;
}

static int
pump(struct wr_stream *s, const struct wr_stream_machine *m, void (*progress)(void *ctx),
     const atomic_bool *cancel, struct wr_err *err)
{
	uint64_t told_ns = 0;

	begin_wait(s);
	for (;;) {
		bool quiet, watched = progress || cancel;
		uint64_t now = wr_clock_mono_ns(), at = watched ? now + TICK_MS * MS : UINT64_MAX;
		int out, in = 0;

		if (cancel && atomic_load_explicit(cancel, memory_order_relaxed))
			return wr_err_set(err, WR_E_CANCELLED, "the stream was cancelled");
		if (now >= s->end_ns)
			return timed_out(s, "finish with", err);
		if (progress && now >= told_ns + TICK_MS * MS) {
			told_ns = now;
			progress(m->ctx);
		}
		out = pump_out(s, m, &quiet, err);
		if (out < 0)
			return -1;
		if (m->done(m->ctx) && quiet)
			return 0;
		if (!m->done(m->ctx))
			in = pump_in(s, m, err);
		if (in < 0)
			return -1;
		if (out || in)
			continue;
		if (s->end_got && quiet && !m->done(m->ctx))
			return ended(s, err);
		/* What only waits for its share of the rate waits for nobody. */
		if (s->out.len == s->out_off && s->send_ns > now) {
			at = WR_MIN(at, s->send_ns);
			begin_wait(s);
		}
		if (wait_for(s, !m->done(m->ctx) && !s->end_got, s->out.len > s->out_off, at, err) <
		    0)
			return -1;
	}
}

int
wr_stream_pump(struct wr_stream *s, const struct wr_stream_machine *m, void (*progress)(void *ctx),
	       const atomic_bool *cancel, struct wr_err *err)
{
	int rc;

	wr_assert(!s->end_sent);
	rc = pump(s, m, progress, cancel, err);
	if (rc < 0 && !s->end_got)
		m->eof(m->ctx);
	if (progress)
		progress(m->ctx);
	return rc;
}

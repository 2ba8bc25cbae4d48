/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream: bytes of DATA frames to the local socket and back, with one frame of buffer either way.
 * What the one side does not take is not read from the other.
 */
#include "serve/peer/peer_int.h"

#include <sys/socket.h>

void
wr_pstream_begin(struct wr_pconn *c, int local)
{
	c->local = local;
	c->state = WR_PCONN_STREAM;
	c->moved_ns = c->p->now_ns;
	wr_frame_add(&c->out, WR_FRAME_STREAM_GO, NULL, 0);
}

bool
wr_pstream_lingers(const struct wr_pconn *c)
{
	return c->local_deaf && c->end_sent;
}

/* The local side reads no more. What it had to say may still be on its way, so the other side's
 * bytes are taken and dropped: to close over unread bytes would take ours away from it. */
static void
deaf(struct wr_pconn *c)
{
	c->local_deaf = true;
	c->since_ns = c->p->now_ns;
}

/* Some of the frame: true if all of it is with the local side (or dropped). */
static bool
to_local(struct wr_pconn *c, const struct wr_frame *f)
{
	while (!c->local_deaf && c->frame_done < f->len) {
		ssize_t n = send(c->local, f->p + c->frame_done, f->len - c->frame_done,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n >= 0) {
			c->frame_done += (size_t)n;
		} else if (errno == EAGAIN) {
			c->local_out = true;
			return false;
		} else if (errno != EINTR) {
			deaf(c);
		}
	}
	c->frame_done = 0;
	return true;
}

/* From the link to the local side: true if something went on. */
static bool
inward(struct wr_pconn *c)
{
	struct wr_frame f;
	size_t used;
	int rc;

	if (c->end_got)
		return false;
	rc = wr_pconn_frame(c, &f, &used);
	if (rc < 0)
		return false;
	if (rc == 0)
		return wr_pconn_pull(c);
	switch (f.type) {
	case WR_FRAME_DATA:
		if (!to_local(c, &f))
			return false;
		break;
	case WR_FRAME_STREAM_END:
		c->end_got = true;
		/* It may have gone already. */
		(void)shutdown(c->local, SHUT_WR);
		break;
	default:
		wr_peerd_note(c->p, "stream of %s cut: it says what does not belong here",
			      c->address);
		wr_pconn_kill(c, NULL);
		return false;
	}
	wr_pconn_taken(c, used);
	return true;
}

/* From the local side to the link, whose buffer is empty. */
static bool
outward(struct wr_pconn *c)
{
	uint8_t *p;
	ssize_t n;

	if (c->end_sent)
		return false;
	wr_buf_reserve(&c->out, WR_FRAME_HEAD + WR_FRAME_DATA_LEN);
	p = c->out.p + c->out.len;
	do
		n = recv(c->local, p + WR_FRAME_HEAD, WR_FRAME_DATA_LEN, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN) {
		c->local_in = true;
		return false;
	}
	if (n > 0) {
		wr_frame_head(p, WR_FRAME_DATA, (size_t)n);
		c->out.len += WR_FRAME_HEAD + (size_t)n;
		return true;
	}
	/* Broken off without reading all (ECONNRESET) is an end, too. */
	wr_frame_add(&c->out, WR_FRAME_STREAM_END, NULL, 0);
	c->end_sent = true;
	c->since_ns = c->p->now_ns;
	return true;
}

bool
wr_pstream_step(struct wr_pconn *c)
{
	bool out = wr_pconn_push(c), did = false;

	if (c->state == WR_PCONN_DEAD)
		return false;
	if (out && c->end_sent && c->end_got) {
		wr_pconn_kill(c, NULL);
		return false;
	}
	if (out)
		did = outward(c);
	did |= inward(c);
	return did && c->state != WR_PCONN_DEAD;
}

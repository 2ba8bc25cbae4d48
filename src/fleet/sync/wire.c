/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both machines share: frames in and out, failure, lists of refs.  While a machine has work of
 * its own it takes in only FAIL and WAIT, so the far side may not run ahead of it.
 */
#include "base/str.h"
#include "fleet/sync/sync_int.h"

/* LIMIT: what may come in while the machine is at work; all that is in turn then is WAIT. */
#define AHEAD_MAX ((size_t)1 << 20)
/* LIMIT: code, text and hint of a FAIL. */
#define FAIL_TEXT 1000

/* ---- lists of refs ---- */

void
wr_sync_list_add(struct wr_sync_list *l, const char *name, size_t len, const struct wr_id *id)
{
	char *copy = wr_malloc(len + 1);

	memcpy(copy, name, len);
	copy[len] = '\0';
	wr_grow(&l->ref, &l->cap, l->count + 1, sizeof(*l->ref));
	l->ref[l->count++] = (struct wr_sync_ref){copy, *id, false};
}

void
wr_sync_list_fini(struct wr_sync_list *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->ref[i].name);
	free(l->ref);
	*l = (struct wr_sync_list){0};
}

const struct wr_sync_ref *
wr_sync_list_find(const struct wr_sync_list *l, const char *name)
{
	size_t lo = 0, hi = l->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = strcmp(l->ref[mid].name, name);

		if (c == 0)
			return &l->ref[mid];
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

void
wr_sync_list_digest(const struct wr_sync_list *l, uint8_t out[WR_ID_LEN])
{
	struct wr_sha1 h;
	struct wr_id id;

	wr_sha1_init(&h);
	for (size_t i = 0; i < l->count; i++) {
		wr_sha1_add(&h, l->ref[i].name, strlen(l->ref[i].name) + 1);
		wr_sha1_add(&h, l->ref[i].id.b, WR_ID_LEN);
	}
	id = wr_sha1_end(&h);
	memcpy(out, id.b, WR_ID_LEN);
}

/* ---- frames ---- */

size_t
wr_frame_begin(struct wr_sync *m, enum wr_frame type)
{
	wr_buf_add32be(&m->out, 0);
	wr_buf_add8(&m->out, (uint8_t)type);
	return m->out.len;
}

void
wr_frame_end(struct wr_sync *m, size_t at)
{
	wr_assert(m->out.len - at <= WR_FRAME_MAX);
	wr_put32be(m->out.p + at - WR_FRAME_HEAD, (uint32_t)(m->out.len - at));
}

void
wr_frame_add_ref(struct wr_buf *b, const char *name, const struct wr_id *id)
{
	size_t len = strlen(name);

	wr_buf_add8(b, (uint8_t)(len >> 8));
	wr_buf_add8(b, (uint8_t)len);
	wr_buf_add(b, name, len);
	wr_buf_add(b, id->b, WR_ID_LEN);
}

int
wr_sync_out_of_turn(enum wr_frame type, struct wr_err *err)
{
	return wr_err_set(err, WR_E_INVALID, "the far side sent frame %d out of turn", (int)type);
}

/* ---- failure ---- */

static void
add_text(struct wr_buf *b, const char *s)
{
	size_t len = WR_MIN(strlen(s), (size_t)FAIL_TEXT);

	wr_buf_add8(b, (uint8_t)(len >> 8));
	wr_buf_add8(b, (uint8_t)len);
	wr_buf_add(b, s, len);
}

/* Text of the far side, made fit for a message. */
static void
get_text(struct wr_rd *r, char *out, size_t size)
{
	size_t len = wr_rd16be(r), n = 0;
	const uint8_t *p = len <= FAIL_TEXT ? wr_rd_bytes(r, len) : NULL;
	WR_SCOPED(wr_freep) char *text = p ? wr_utf8_lossy(p, len) : wr_strdup("");

	for (const char *s = text; *s && n + 1 < size; s++)
		out[n++] = (unsigned char)*s < ' ' || *s == 0x7f ? '?' : *s;
	/* Not in the middle of a character. */
	while (n > 0 && !wr_utf8_valid(out, n))
		n--;
	out[n] = '\0';
}

static enum wr_err_code
code_of(const char *name)
{
	for (int c = WR_E_NONE + 1; c < WR_E_COUNT; c++)
		if (!strcmp(wr_err_name((enum wr_err_code)c), name))
			return (enum wr_err_code)c;
	return WR_E_FAILED;
}

static void
set_failed(struct wr_sync *m, const struct wr_err *why)
{
	m->err = *why;
	if (m->err.code == WR_E_NONE)
		wr_err_set(&m->err, WR_E_FAILED, "the transfer failed");
	m->status = WR_SYNC_FAILED;
}

void
wr_sync_fail(struct wr_sync *m, const struct wr_err *why)
{
	size_t at;

	if (m->status == WR_SYNC_FAILED || m->status == WR_SYNC_DONE)
		return;
	set_failed(m, why);
	/* What has not gone out yet is of no use now, but the frame that is half out. */
	if (m->out_at == 0)
		wr_buf_clear(&m->out);
	at = wr_frame_begin(m, WR_FRAME_FAIL);
	add_text(&m->out, wr_err_name(m->err.code));
	add_text(&m->out, m->err.msg);
	add_text(&m->out, m->err.hint);
	wr_frame_end(m, at);
}

void
wr_sync_refuse(struct wr_sync *m, const struct wr_err *why)
{
	wr_sync_fail(m, why);
}

static void
far_failed(struct wr_sync *m, struct wr_rd *r)
{
	struct wr_err e = WR_ERR_INIT;
	char code[32], msg[512], hint[400];

	get_text(r, code, sizeof(code));
	get_text(r, msg, sizeof(msg));
	get_text(r, hint, sizeof(hint));
	wr_err_set(&e, code_of(code), "the far side: %s", *msg ? msg : "it failed");
	if (*hint)
		wr_err_hint(&e, "%s", hint);
	set_failed(m, &e);
}

/* ---- the machine ---- */

void
wr_sync_init(struct wr_sync *m, const struct wr_sync_ops *ops, struct wr_repo *r,
	     const struct wr_save_rec *target)
{
	m->ops = ops;
	m->status = WR_SYNC_RUNNING;
	m->err = (struct wr_err)WR_ERR_INIT;
	m->src.repo = r;
	m->src.rd = wr_reader_new(r);
	m->progress.phase = WR_SYNC_PHASE_NEGOTIATE;
	for (size_t i = 0; i < target->ref_count; i++) {
		struct wr_id id;

		memcpy(id.b, target->ref[i].id, WR_ID_LEN);
		wr_sync_list_add(&m->target, target->ref[i].name, strlen(target->ref[i].name), &id);
	}
}

void
wr_sync_free(struct wr_sync *m)
{
	if (!m)
		return;
	m->ops->free(m);
	wr_reader_free(m->src.rd);
	wr_sync_list_fini(&m->target);
	wr_buf_fini(&m->in);
	wr_buf_fini(&m->out);
	free(m);
}

bool
wr_sync_busy(const struct wr_sync *m)
{
	return m->status == WR_SYNC_RUNNING && m->ops->busy(m);
}

static void
take_frame(struct wr_sync *m, enum wr_frame type, const uint8_t *p, size_t len)
{
	struct wr_rd r = wr_rd(p, len);
	struct wr_err err = WR_ERR_INIT;

	if (type == WR_FRAME_WAIT)
		return;
	if (type == WR_FRAME_FAIL) {
		far_failed(m, &r);
		return;
	}
	if (m->status != WR_SYNC_RUNNING)
		wr_sync_out_of_turn(type, &err);
	else if (m->ops->frame(m, type, &r, &err) == 0 && !r.bad && r.left == 0)
		return;
	else if (err.code == WR_E_NONE)
		wr_err_set(&err, WR_E_INVALID, "the far side sent a malformed frame %d", (int)type);
	wr_sync_fail(m, &err);
}

/* LIMIT: of what comes behind the end and is kept for the caller. */
#define REST_MAX (2u << 20)

/* Take the frames that are whole, as long as nothing else is to do. */
static void
take_frames(struct wr_sync *m)
{
	while (m->status == WR_SYNC_RUNNING || m->status == WR_SYNC_READY) {
		size_t left = m->in.len - m->in_at;
		struct wr_err err = WR_ERR_INIT;
		const uint8_t *p;
		uint32_t len;

		if (left < WR_FRAME_HEAD)
			break;
		p = m->in.p + m->in_at;
		/* While at work only what needs no answer. */
		if (wr_sync_busy(m) && p[4] != WR_FRAME_FAIL && p[4] != WR_FRAME_WAIT)
			break;
		len = wr_get32be(p);
		if (len > WR_FRAME_MAX) {
			wr_err_set(&err, WR_E_INVALID,
				   "the far side sent a frame of %" PRIu32 " bytes", len);
			wr_sync_fail(m, &err);
			break;
		}
		if (left < WR_FRAME_HEAD + (size_t)len)
			break;
		m->in_at += WR_FRAME_HEAD + (size_t)len;
		take_frame(m, p[4], p + WR_FRAME_HEAD, len);
	}
	if (m->in_at == m->in.len) {
		wr_buf_clear(&m->in);
		m->in_at = 0;
	} else if (m->in_at > m->in.len / 2) {
		memmove(m->in.p, m->in.p + m->in_at, m->in.len - m->in_at);
		m->in.len -= m->in_at;
		m->in_at = 0;
	}
}

void
wr_sync_feed(struct wr_sync *m, const void *p, size_t len)
{
	struct wr_err err = WR_ERR_INIT;
	const uint8_t *b = p;

	m->progress.wire_in += len;
	while (len > 0 && (m->status == WR_SYNC_RUNNING || m->status == WR_SYNC_READY)) {
		size_t n = WR_MIN(len, (size_t)WR_FRAME_MAX);

		if (m->in.len - m->in_at > AHEAD_MAX) {
			wr_err_set(&err, WR_E_INVALID, "the far side does not wait for its turn");
			wr_sync_fail(m, &err);
			return;
		}
		wr_buf_add(&m->in, b, n);
		take_frames(m);
		b += n;
		len -= n;
	}
	if (len > 0 && m->in.len - m->in_at + len <= REST_MAX)
		wr_buf_add(&m->in, b, len);
}

const void *
wr_sync_rest(const struct wr_sync *m, size_t *out_len)
{
	bool ended = m->status == WR_SYNC_DONE || m->status == WR_SYNC_FAILED;

	*out_len = ended ? m->in.len - m->in_at : 0;
	return m->in.p + m->in_at;
}

/* It has closed, and what came before that is dealt with. */
static void
end_of_input(struct wr_sync *m)
{
	struct wr_err err = WR_ERR_INIT;

	if (!m->eof || m->status != WR_SYNC_RUNNING || wr_sync_busy(m))
		return;
	wr_err_set(&err, WR_E_FAILED, "the far side closed the connection");
	set_failed(m, &err);
}

void
wr_sync_eof(struct wr_sync *m)
{
	m->eof = true;
	take_frames(m);
	end_of_input(m);
}

void
wr_sync_alive(struct wr_sync *m)
{
	if (m->status == WR_SYNC_RUNNING || m->status == WR_SYNC_READY)
		wr_frame_end(m, wr_frame_begin(m, WR_FRAME_WAIT));
}

size_t
wr_sync_pull(struct wr_sync *m, void *p, size_t cap)
{
	struct wr_err err = WR_ERR_INIT;
	size_t n;

	if (m->out_at == m->out.len && wr_sync_busy(m)) {
		if (m->ops->work(m, &err) < 0) {
			wr_sync_fail(m, &err);
		} else if (m->out.len > m->out_at) {
			m->slices = 0;
		} else if (++m->slices % WR_WAIT_EVERY == 0) {
			wr_sync_alive(m);
		}
		take_frames(m);
		end_of_input(m);
	}
	n = WR_MIN(cap, m->out.len - m->out_at);
	if (n)
		memcpy(p, m->out.p + m->out_at, n);
	m->out_at += n;
	if (m->out_at == m->out.len) {
		wr_buf_clear(&m->out);
		m->out_at = 0;
	}
	m->progress.wire_out += n;
	return n;
}

enum wr_sync_status
wr_sync_status(const struct wr_sync *m)
{
	return m->status;
}

const struct wr_err *
wr_sync_error(const struct wr_sync *m)
{
	return &m->err;
}

void
wr_sync_progress(const struct wr_sync *m, struct wr_sync_progress *out)
{
	*out = m->progress;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between control and @peer, and the setup: written down, and checked as they come in. */
#include "serve/peer/peer_int.h"

#include <unistd.h>

#include "base/str.h"
#include "serve/ipc/codec.h"
#include "sys/fs.h"
#include "sys/sealed.h"
#include "sys/sock.h"

/* LIMITs of a setup. */
#define SETUP_PART_MAX (64u << 10)

void
wr_peer_msg_fini(struct wr_peer_msg *m)
{
	free(wr_steal(&m->text));
	free(wr_steal(&m->hint));
	wr_buf_fini(&m->payload);
	wr_closep(&m->fd);
	m->fd = -1;
}

/* ---- parts ---- */

static void
put_node(struct wr_buf *out, const struct wr_node_id *n)
{
	wr_codec_put_text(out, n->id.s);
	wr_buf_add32be(out, n->inc);
}

static int
take_node(struct wr_rd *r, struct wr_node_id *out, struct wr_err *err)
{
	char s[sizeof(out->id.s)] = "";
	size_t len;
	const uint8_t *p = wr_codec_take_bytes(r, &len);

	out->inc = wr_rd32be(r);
	if (r->bad || len >= sizeof(s))
		return wr_codec_bad(err, "its node is cut short or too long");
	if (len)
		memcpy(s, p, len);
	if (strlen(s) != len || !wr_uuid_parse(s, &out->id))
		return wr_codec_bad(err, "its node's id is none");
	return 0;
}

/* Fit to be shown: what a taken @peer says ends in logs and events. */
static bool
shows(const uint8_t *p, size_t len)
{
	if (!wr_utf8_valid(p, len))
		return false;
	for (size_t i = 0, n; i < len; i += n) {
		n = wr_utf8_len(p + i, len - i);
		if (p[i] < 0x20 || p[i] == 0x7f || wr_utf8_acts(wr_utf8_decode(p + i, n)))
			return false;
	}
	return true;
}

static int
take_shown(struct wr_rd *r, size_t max, char **out, struct wr_err *err)
{
	size_t len;
	const uint8_t *p = wr_codec_take_bytes(r, &len);

	if (r->bad)
		return wr_codec_bad(err, "it is cut short");
	if (len > max || !shows(p, len))
		return wr_codec_bad(err, "its text is too long, or other than text");
	wr_codec_copy(out, p, len);
	return 0;
}

static void
put_text(struct wr_buf *out, const void *ctx)
{
	const struct wr_peer_msg *m = ctx;

	wr_codec_put_text(out, m->text);
}

static int
take_text(struct wr_rd *r, void *ctx, struct wr_err *err)
{
	struct wr_peer_msg *m = ctx;

	return take_shown(r, sizeof(((struct wr_err *)NULL)->msg) - 1, &m->text, err);
}

static void
put_hint(struct wr_buf *out, const void *ctx)
{
	const struct wr_peer_msg *m = ctx;

	wr_codec_put_text(out, m->hint);
}

static int
take_hint(struct wr_rd *r, void *ctx, struct wr_err *err)
{
	struct wr_peer_msg *m = ctx;

	return take_shown(r, sizeof(((struct wr_err *)NULL)->hint) - 1, &m->hint, err);
}

static void
put_target(struct wr_buf *out, const void *ctx)
{
	const struct wr_peer_msg *m = ctx;

	wr_codec_put_text(out, m->address);
	put_node(out, &m->node);
}

static int
take_target(struct wr_rd *r, void *ctx, struct wr_err *err)
{
	struct wr_peer_msg *m = ctx;
	size_t len;
	const uint8_t *p = wr_codec_take_bytes(r, &len);

	if (r->bad || len == 0 || len >= sizeof(m->address))
		return wr_codec_bad(err, "its address is cut short, empty or too long");
	for (size_t i = 0; i < len; i++)
		if (p[i] <= 0x20 || p[i] > 0x7e)
			return wr_codec_bad(err,
					    "its address holds other than printable characters");
	memcpy(m->address, p, len);
	m->address[len] = '\0';
	return take_node(r, &m->node, err);
}

static void
put_code(struct wr_buf *out, const void *ctx)
{
	const struct wr_peer_msg *m = ctx;

	wr_buf_add8(out, (uint8_t)(m->code >> 8));
	wr_buf_add8(out, (uint8_t)m->code);
}

static int
take_code(struct wr_rd *r, void *ctx, struct wr_err *err)
{
	struct wr_peer_msg *m = ctx;
	uint16_t code = wr_rd16be(r);

	if (code == WR_E_NONE || code >= WR_E_COUNT)
		return wr_codec_bad(err, "its error code is none");
	m->code = code;
	return 0;
}

static void
put_payload(struct wr_buf *out, const void *ctx)
{
	const struct wr_peer_msg *m = ctx;

	wr_codec_put_bytes(out, m->payload.p, m->payload.len);
}

/* It lies in the message, or in the file that came along. */
static int
take_payload(struct wr_rd *r, void *ctx, struct wr_err *err)
{
	struct wr_peer_msg *m = ctx;
	size_t len;
	const uint8_t *p = wr_codec_take_bytes(r, &len);

	if (r->bad)
		return wr_codec_bad(err, "its payload is cut short");
	if (m->fd >= 0 && len)
		return wr_codec_bad(err, "its payload comes twice");
	if (m->fd < 0 && !len)
		return wr_codec_bad(err, "its payload is missing");
	if (m->fd < 0) {
		wr_buf_add(&m->payload, p, len);
		return 0;
	}
	if (wr_sealed_read(m->fd, WR_MSG_BYTES, &m->payload, err) < 0)
		return wr_err_wrap(err, "message");
	wr_closep(&m->fd);
	m->fd = -1;
	return 0;
}

static const struct wr_part conn = WR_PART_NUMBER(struct wr_peer_msg, conn, 32);
static const struct wr_part seq = WR_PART_NUMBER(struct wr_peer_msg, seq, 32);
static const struct wr_part id = WR_PART_NUMBER(struct wr_peer_msg, id, 32);
static const struct wr_part timeout = WR_PART_NUMBER(struct wr_peer_msg, timeout_ms, 32);
static const struct wr_part target = {.put = put_target, .take = take_target};
static const struct wr_part code = {.put = put_code, .take = take_code};
static const struct wr_part text = {.put = put_text, .take = take_text};
static const struct wr_part hint = {.put = put_hint, .take = take_hint};
static const struct wr_part payload = {.put = put_payload, .take = take_payload};

/* ---- the table ---- */

static const struct wr_codec_kind kinds[] = {
    {WR_PEER_SETUP, WR_CODEC_MAY_FD, {&payload}},
    {WR_PEER_LISTEN, WR_CODEC_FD, {NULL}},
    {WR_PEER_SEND, WR_CODEC_MAY_FD, {&id, &timeout, &target, &payload}},
    {WR_PEER_REPLY, WR_CODEC_MAY_FD, {&conn, &seq, &payload}},
    {WR_PEER_GO, WR_CODEC_FD, {&conn}},
    {WR_PEER_REFUSE, WR_CODEC_MAY_FD, {&conn, &payload}},
    {WR_PEER_QUIT, WR_CODEC_NO_FD, {NULL}},
    {WR_PEER_CALL, WR_CODEC_MAY_FD, {&conn, &seq, &payload}},
    {WR_PEER_STREAM, WR_CODEC_MAY_FD, {&conn, &payload}},
    {WR_PEER_ANSWER, WR_CODEC_MAY_FD, {&id, &payload}},
    {WR_PEER_FAILED, WR_CODEC_NO_FD, {&id, &code, &text, &hint}},
    {WR_PEER_NOTE, WR_CODEC_NO_FD, {&text}},
};
static const struct wr_codec codec = {.below = "a peer",
				      .first_below = WR_PEER_CALL,
				      .type_at = offsetof(struct wr_peer_msg, type),
				      .fd_at = offsetof(struct wr_peer_msg, fd),
				      .kind = kinds,
				      .count = WR_ARRAY_LEN(kinds)};

void
wr_peer_encode(const struct wr_peer_msg *m, struct wr_buf *out)
{
	wr_codec_put(&codec, m, out);
}

int
wr_peer_send(int sock, const struct wr_peer_msg *m, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	WR_SCOPED(wr_closep) int file = -1;
	struct wr_peer_msg head = *m; /* borrows all of it */

	if (m->payload.len > WR_MSG_BYTES)
		return wr_err_set(err, WR_E_LIMIT,
				  "an envelope of %zu bytes; at most %u are possible",
				  m->payload.len, WR_MSG_BYTES);
	if (m->payload.len > WR_PEER_INLINE) {
		file = wr_sealed_make(m->payload.p, m->payload.len, err);
		if (file < 0)
			return wr_err_wrap(err, "pass a message of %zu bytes", m->payload.len);
		head.fd = file;
		head.payload.len = 0;
	}
	wr_peer_encode(&head, &b);
	return wr_msg_send(sock, b.p, b.len, &head.fd, head.fd >= 0, err);
}

int
wr_peer_decode(const void *p, size_t len, const int *fds, size_t fd_count, bool from_peer,
	       struct wr_peer_msg *out, struct wr_err *err)
{
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg m = WR_PEER_MSG_INIT;

	if (wr_codec_take(&codec, p, len, fds, fd_count, from_peer, &m, err) < 0)
		return -1;
	*out = m;
	m = (struct wr_peer_msg)WR_PEER_MSG_INIT;
	return 0;
}

int
wr_peer_recv(int sock, bool from_peer, struct wr_peer_msg *out, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	int fds[WR_MSG_FDS];
	size_t count = 0;
	int rc = wr_msg_recv(sock, &b, fds, &count, err);

	/* Another code would read as a broken channel, but what is too long is just bad. */
	if (rc < 0 && err && err->code == WR_E_LIMIT)
		return wr_err_recode(err, WR_E_INVALID);
	if (rc <= 0)
		return rc;
	return wr_peer_decode(b.p, b.len, fds, count, from_peer, out, err) < 0 ? -1 : 1;
}

/* ---- setup ---- */

void
wr_peer_setup_fini(struct wr_peer_setup *s)
{
	if (s->key_pem.p)
		explicit_bzero(s->key_pem.p, s->key_pem.cap);
	wr_buf_fini(&s->key_pem);
	wr_buf_fini(&s->cert_der);
	for (size_t i = 0; i < WR_ARRAY_LEN(s->ca_der); i++)
		wr_buf_fini(&s->ca_der[i]);
	free(wr_steal(&s->node));
	s->node_count = 0;
}

void
wr_peer_setup_encode(const struct wr_peer_setup *s, struct wr_buf *out)
{
	put_node(out, &s->self);
	wr_codec_put_text(out, s->fleet);
	wr_codec_put_bytes(out, s->key_pem.p, s->key_pem.len);
	wr_codec_put_bytes(out, s->cert_der.p, s->cert_der.len);
	for (size_t i = 0; i < WR_ARRAY_LEN(s->ca_der); i++)
		wr_codec_put_bytes(out, s->ca_der[i].p, s->ca_der[i].len);
	wr_buf_add64be(out, (uint64_t)s->fleet_at);
	wr_buf_add32be(out, (uint32_t)s->node_count);
	for (size_t i = 0; i < s->node_count; i++)
		put_node(out, &s->node[i]);
}

static int
read_part(struct wr_rd *r, struct wr_buf *out, struct wr_err *err)
{
	size_t len;
	const uint8_t *p = wr_codec_take_bytes(r, &len);

	if (r->bad || len > SETUP_PART_MAX)
		return wr_err_set(err, WR_E_INVALID,
				  "setup: it is cut short, or a part is too long");
	wr_buf_add(out, p, len);
	return 0;
}

static int
read_setup(struct wr_rd *r, struct wr_peer_setup *s, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf fleet = WR_BUF_INIT;
	uint32_t count;

	if (take_node(r, &s->self, err) < 0 || read_part(r, &fleet, err) < 0 ||
	    read_part(r, &s->key_pem, err) < 0 || read_part(r, &s->cert_der, err) < 0)
		return -1;
	for (size_t i = 0; i < WR_ARRAY_LEN(s->ca_der); i++)
		if (read_part(r, &s->ca_der[i], err) < 0)
			return -1;
	if (fleet.len >= sizeof(s->fleet) || !shows(fleet.p, fleet.len))
		return wr_err_set(err, WR_E_INVALID, "setup: the fleet's id is none");
	if (fleet.len)
		memcpy(s->fleet, fleet.p, fleet.len);
	s->fleet[fleet.len] = '\0';
	s->fleet_at = (int64_t)wr_rd64be(r);
	count = wr_rd32be(r);
	if (r->bad || count > WR_NODES_MAX)
		return wr_err_set(err, WR_E_INVALID,
				  "setup: it is cut short, or has too many nodes");
	s->node = wr_calloc(count, sizeof(*s->node));
	for (; s->node_count < count; s->node_count++)
		if (take_node(r, &s->node[s->node_count], err) < 0)
			return -1;
	if (r->left)
		return wr_err_set(err, WR_E_INVALID, "setup: bytes follow its end");
	return 0;
}

int
wr_peer_setup_decode(const void *p, size_t len, struct wr_peer_setup *out, struct wr_err *err)
{
	struct wr_peer_setup s = {0};
	struct wr_rd r = wr_rd(p, len);

	if (read_setup(&r, &s, err) < 0) {
		wr_peer_setup_fini(&s);
		return -1;
	}
	*out = s;
	return 0;
}

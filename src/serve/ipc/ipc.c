/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/ipc/ipc.h"

#include <unistd.h>

#include "serve/ipc/codec.h"
#include "sys/fs.h"
#include "sys/sealed.h"

void
wr_ipc_fini(struct wr_ipc *m)
{
	free(wr_steal(&m->text));
	m->text_len = 0;
	wr_call_fini(&m->call);
	if (m->fd >= 0)
		close(m->fd);
	m->fd = -1;
}

/* ---- parts ---- */

/* Printable ASCII, or nothing: fit for a header line. */
static bool
plain(const uint8_t *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (s[i] < 0x20 || s[i] > 0x7e)
			return false;
	return true;
}

static int
check_status(struct wr_rd *r, void *ctx, struct wr_err *err)
{
	const struct wr_ipc *m = ctx;

	if (!r->bad && (m->status < 200 || m->status > 599))
		return wr_codec_bad(err, "its status is none of HTTP's");
	return 0;
}

static void
put_text(struct wr_buf *out, const void *ctx)
{
	const struct wr_ipc *m = ctx;

	wr_codec_put_bytes(out, m->text, m->text_len);
}

static int
take_text(struct wr_rd *r, void *ctx, struct wr_err *err)
{
	struct wr_ipc *m = ctx;
	const uint8_t *p = wr_codec_take_bytes(r, &m->text_len);

	if (r->bad || (m->text_len && memchr(p, '\0', m->text_len)))
		return wr_codec_bad(err, "its text is cut short or holds a NUL");
	wr_codec_copy(&m->text, p, m->text_len);
	return 0;
}

/* The body is in the message, or in the file that came along. */
static int
take_body(struct wr_rd *r, void *ctx, struct wr_err *err)
{
	struct wr_ipc *m = ctx;

	if (take_text(r, m, err) < 0)
		return -1;
	return m->fd >= 0 && m->text_len ? wr_codec_bad(err, "its body comes twice") : 0;
}

static int
take_content_type(struct wr_rd *r, void *ctx, struct wr_err *err)
{
	struct wr_ipc *m = ctx;

	if (take_text(r, m, err) < 0)
		return -1;
	if (!m->text_len || m->text_len > 127 || !plain((const uint8_t *)m->text, m->text_len))
		return wr_codec_bad(err, "its content type is none");
	return 0;
}

static void
put_token(struct wr_buf *out, const void *ctx)
{
	const struct wr_ipc *m = ctx;

	wr_codec_put_text(out, m->token);
}

static int
take_token(struct wr_rd *r, void *ctx, struct wr_err *err)
{
	struct wr_ipc *m = ctx;
	size_t len;
	const uint8_t *p = wr_codec_take_bytes(r, &len);

	if (r->bad || len >= sizeof(m->token))
		return wr_codec_bad(err, "its token is cut short or too long");
	if (!plain(p, len) || (len && memchr(p, ' ', len)))
		return wr_codec_bad(err, "its token holds other than printable characters");
	if (len)
		memcpy(m->token, p, len);
	m->token[len] = '\0';
	return 0;
}

static void
put_call(struct wr_buf *out, const void *ctx)
{
	const struct wr_ipc *m = ctx;

	wr_call_encode(&m->call, out);
}

static int
take_call(struct wr_rd *r, void *ctx, struct wr_err *err)
{
	struct wr_ipc *m = ctx;

	return wr_call_decode(r, &m->call, err);
}

static const struct wr_part seq = WR_PART_NUMBER(struct wr_ipc, seq, 32);
static const struct wr_part conn = WR_PART_NUMBER(struct wr_ipc, conn, 32);
static const struct wr_part exit_part = WR_PART_NUMBER(struct wr_ipc, exit, 8);
static const struct wr_part status = {
    .bits = 16, .at = offsetof(struct wr_ipc, status), .take = check_status};
static const struct wr_part text = {.put = put_text, .take = take_text};
static const struct wr_part body = {.put = put_text, .take = take_body};
static const struct wr_part content_type = {.put = put_text, .take = take_content_type};
static const struct wr_part token = {.put = put_token, .take = take_token};
static const struct wr_part call = {.put = put_call, .take = take_call};

/* ---- the table ---- */

static const struct wr_codec_kind kinds[] = {
    {WR_IPC_CONN, WR_CODEC_FD, {&conn}},
    {WR_IPC_REPLY, WR_CODEC_MAY_FD, {&seq, &status, &exit_part, &body}},
    {WR_IPC_STREAM, WR_CODEC_FD, {&seq, &content_type}},
    {WR_IPC_END, WR_CODEC_NO_FD, {&seq, &exit_part, &text}},
    {WR_IPC_QUIT, WR_CODEC_NO_FD, {NULL}},
    {WR_IPC_CALL, WR_CODEC_NO_FD, {&seq, &conn, &token, &call}},
    {WR_IPC_CLOSED, WR_CODEC_NO_FD, {&conn}},
    {WR_IPC_ABORT, WR_CODEC_NO_FD, {&seq}},
};
static const struct wr_codec codec = {.below = "a front",
				      .first_below = WR_IPC_CALL,
				      .type_at = offsetof(struct wr_ipc, type),
				      .fd_at = offsetof(struct wr_ipc, fd),
				      .kind = kinds,
				      .count = WR_ARRAY_LEN(kinds)};

void
wr_ipc_encode(const struct wr_ipc *m, struct wr_buf *out)
{
	wr_codec_put(&codec, m, out);
}

int
wr_ipc_send(int sock, const struct wr_ipc *m, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	WR_SCOPED(wr_closep) int file = -1;
	struct wr_ipc head = *m; /* borrows all of it */

	if (m->type == WR_IPC_REPLY && m->text_len > WR_IPC_INLINE) {
		file = wr_sealed_make(m->text, m->text_len, err);
		if (file < 0)
			return wr_err_wrap(err, "pass an answer of %zu bytes", m->text_len);
		head.fd = file;
		head.text_len = 0;
	}
	wr_ipc_encode(&head, &b);
	if (b.len > WR_MSG_MAX)
		return wr_err_set(err, WR_E_LIMIT,
				  "a message of %zu bytes; at most %u are possible", b.len,
				  WR_MSG_MAX);
	return wr_msg_send(sock, b.p, b.len, &head.fd, head.fd >= 0, err);
}

int
wr_ipc_decode(const void *p, size_t len, const int *fds, size_t fd_count, bool from_front,
	      struct wr_ipc *out, struct wr_err *err)
{
	WR_SCOPED(wr_ipc_fini) struct wr_ipc m = WR_IPC_INIT;

	if (wr_codec_take(&codec, p, len, fds, fd_count, from_front, &m, err) < 0)
		return -1;
	if (len > WR_MSG_MAX)
		return wr_codec_bad(err, "it is too long");
	*out = m;
	m = (struct wr_ipc)WR_IPC_INIT;
	return 0;
}

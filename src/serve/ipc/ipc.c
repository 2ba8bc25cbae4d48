/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/ipc/ipc.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sys/fs.h"

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

/* ---- writing ---- */

static void
add16be(struct wr_buf *b, uint16_t v)
{
	wr_buf_add8(b, (uint8_t)(v >> 8));
	wr_buf_add8(b, (uint8_t)v);
}

static void
add_text(struct wr_buf *b, const char *p, size_t len)
{
	wr_buf_add32be(b, (uint32_t)len);
	wr_buf_add(b, p, len);
}

/* The message with this body: its own, or none when that goes another way. */
static void
encode(const struct wr_ipc *m, const char *text, size_t len, struct wr_buf *out)
{
	wr_buf_add8(out, (uint8_t)m->type);
	switch (m->type) {
	case WR_IPC_CONN:
	case WR_IPC_CLOSED:
		wr_buf_add32be(out, m->conn);
		return;
	case WR_IPC_REPLY:
		wr_buf_add32be(out, m->seq);
		add16be(out, m->status);
		wr_buf_add8(out, m->exit);
		add_text(out, text, len);
		return;
	case WR_IPC_STREAM:
		wr_buf_add32be(out, m->seq);
		add_text(out, text, len);
		return;
	case WR_IPC_END:
		wr_buf_add32be(out, m->seq);
		wr_buf_add8(out, m->exit);
		add_text(out, text, len);
		return;
	case WR_IPC_QUIT:
		return;
	case WR_IPC_CALL:
		wr_buf_add32be(out, m->seq);
		wr_buf_add32be(out, m->conn);
		add_text(out, m->token, strlen(m->token));
		wr_call_encode(&m->call, out);
		return;
	case WR_IPC_ABORT:
		wr_buf_add32be(out, m->seq);
		return;
	}
	wr_assert(false); /* the caller filled in a type */
}

void
wr_ipc_encode(const struct wr_ipc *m, struct wr_buf *out)
{
	encode(m, m->text, m->text_len, out);
}

/* A memfd that holds the bytes and can never change again: the reader may map it without fear. */
static int
sealed(const char *p, size_t len, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int fd = memfd_create("warren-body", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int out;

	if (fd < 0)
		return wr_err_sys(err, "make a memory file");
	if (wr_write_all(fd, p, len) < 0)
		return wr_err_sys(err, "fill a memory file");
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return wr_err_sys(err, "seal a memory file");
	out = fd;
	fd = -1;
	return out;
}

int
wr_ipc_send(int sock, const struct wr_ipc *m, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	WR_SCOPED(wr_closep) int body = -1;
	int fd = m->fd;

	if (m->type == WR_IPC_REPLY && m->text_len > WR_IPC_INLINE) {
		body = sealed(m->text, m->text_len, err);
		if (body < 0)
			return wr_err_wrap(err, "pass an answer of %zu bytes", m->text_len);
		fd = body;
		encode(m, "", 0, &b);
	} else {
		wr_ipc_encode(m, &b);
	}
	if (b.len > WR_MSG_MAX)
		return wr_err_set(err, WR_E_LIMIT,
				  "a message of %zu bytes; at most %u are possible", b.len,
				  WR_MSG_MAX);
	return wr_msg_send(sock, b.p, b.len, &fd, fd >= 0, err);
}

/* ---- reading ---- */

static int
bad(struct wr_err *err, const char *what)
{
	return wr_err_set(err, WR_E_INVALID, "message: %s", what);
}

/* Printable ASCII, or nothing: fit for a header line. */
static bool
plain(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (s[i] < 0x20 || s[i] > 0x7e)
			return false;
	return true;
}

static int
read_text(struct wr_rd *r, struct wr_ipc *m, struct wr_err *err)
{
	uint32_t len = wr_rd32be(r);
	const uint8_t *p = wr_rd_bytes(r, len);

	if (r->bad || (len && memchr(p, '\0', len)))
		return bad(err, "its text is cut short or holds a NUL");
	m->text = wr_malloc((size_t)len + 1);
	if (len)
		memcpy(m->text, p, len);
	m->text[len] = '\0';
	m->text_len = len;
	return 0;
}

static int
read_token(struct wr_rd *r, struct wr_ipc *m, struct wr_err *err)
{
	uint32_t len = wr_rd32be(r);
	const uint8_t *p = wr_rd_bytes(r, len);

	if (r->bad || len >= sizeof(m->token))
		return bad(err, "its token is cut short or too long");
	if (len)
		memcpy(m->token, p, len);
	m->token[len] = '\0';
	if (!plain(m->token, len) || memchr(m->token, ' ', len))
		return bad(err, "its token holds other than printable characters");
	return 0;
}

static int
read_fields(struct wr_rd *r, bool from_front, struct wr_ipc *m, struct wr_err *err)
{
	uint8_t type = wr_rd8(r);

	if (r->bad)
		return bad(err, "it is empty");
	m->type = type;
	if (from_front != (type >= WR_IPC_CALL))
		return wr_err_set(err, WR_E_INVALID, "message: type %u does not come from %s", type,
				  from_front ? "a front" : "control");
	switch (m->type) {
	case WR_IPC_CONN:
	case WR_IPC_CLOSED:
		m->conn = wr_rd32be(r);
		return 0;
	case WR_IPC_REPLY:
		m->seq = wr_rd32be(r);
		m->status = wr_rd16be(r);
		m->exit = wr_rd8(r);
		if (!r->bad && (m->status < 200 || m->status > 599))
			return bad(err, "its status is none of HTTP's");
		return read_text(r, m, err);
	case WR_IPC_STREAM:
		m->seq = wr_rd32be(r);
		if (read_text(r, m, err) < 0)
			return -1;
		if (!m->text_len || m->text_len > 127 || !plain(m->text, m->text_len))
			return bad(err, "its content type is none");
		return 0;
	case WR_IPC_END:
		m->seq = wr_rd32be(r);
		m->exit = wr_rd8(r);
		return read_text(r, m, err);
	case WR_IPC_QUIT:
		return 0;
	case WR_IPC_CALL:
		m->seq = wr_rd32be(r);
		m->conn = wr_rd32be(r);
		if (read_token(r, m, err) < 0)
			return -1;
		return wr_call_decode(r, &m->call, err);
	case WR_IPC_ABORT:
		m->seq = wr_rd32be(r);
		return 0;
	}
	return wr_err_set(err, WR_E_INVALID, "message: no type %u is known", type);
}

static int
check_fd(const struct wr_ipc *m, struct wr_err *err)
{
	bool must = m->type == WR_IPC_CONN || m->type == WR_IPC_STREAM;

	if (m->fd < 0 && must)
		return bad(err, "its descriptor is missing");
	if (m->fd >= 0 && !must && m->type != WR_IPC_REPLY)
		return bad(err, "it carries a descriptor and should not");
	if (m->fd >= 0 && m->type == WR_IPC_REPLY && m->text_len)
		return bad(err, "its body comes twice");
	return 0;
}

int
wr_ipc_decode(const void *p, size_t len, const int *fds, size_t fd_count, bool from_front,
	      struct wr_ipc *out, struct wr_err *err)
{
	WR_SCOPED(wr_ipc_fini) struct wr_ipc m = WR_IPC_INIT;
	struct wr_rd r = wr_rd(p, len);

	if (fd_count)
		m.fd = fds[0];
	for (size_t i = 1; i < fd_count; i++)
		close(fds[i]);
	if (fd_count > 1)
		return bad(err, "it carries several descriptors");
	if (len > WR_MSG_MAX)
		return bad(err, "it is too long");
	if (read_fields(&r, from_front, &m, err) < 0)
		return -1;
	if (r.bad)
		return bad(err, "it is cut short");
	if (r.left)
		return bad(err, "bytes follow its end");
	if (check_fd(&m, err) < 0)
		return -1;
	*out = m;
	m = (struct wr_ipc)WR_IPC_INIT;
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between control and @peer, and the setup: written down, and checked as they come in. */
#include "serve/peer/peer_int.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "sys/fs.h"
#include "sys/sock.h"

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
/* LIMITs of a setup. */
#define SETUP_PART_MAX (64u << 10)

/* What each type has; also which types there are. */
enum { CONN = 1, SEQ = 2, ID = 4, PAYLOAD = 8, FD = 16, SEND = 32, FAILED = 64, NOTE = 128 };

static bool
parts_of(enum wr_peer_type type, unsigned *out)
{
	switch (type) {
	case WR_PEER_SETUP:
		*out = PAYLOAD;
		return true;
	case WR_PEER_LISTEN:
		*out = FD;
		return true;
	case WR_PEER_SEND:
		*out = ID | SEND | PAYLOAD;
		return true;
	case WR_PEER_REPLY:
	case WR_PEER_CALL:
		*out = CONN | SEQ | PAYLOAD;
		return true;
	case WR_PEER_GO:
		*out = CONN | FD;
		return true;
	case WR_PEER_REFUSE:
	case WR_PEER_STREAM:
		*out = CONN | PAYLOAD;
		return true;
	case WR_PEER_QUIT:
		*out = 0;
		return true;
	case WR_PEER_ANSWER:
		*out = ID | PAYLOAD;
		return true;
	case WR_PEER_FAILED:
		*out = ID | FAILED;
		return true;
	case WR_PEER_NOTE:
		*out = NOTE;
		return true;
	}
	return false;
}

void
wr_peer_msg_fini(struct wr_peer_msg *m)
{
	free(wr_steal(&m->text));
	free(wr_steal(&m->hint));
	wr_buf_fini(&m->payload);
	wr_closep(&m->fd);
	m->fd = -1;
}

/* ---- writing ---- */

static void
add_bytes(struct wr_buf *b, const void *p, size_t len)
{
	wr_buf_add32be(b, (uint32_t)len);
	wr_buf_add(b, p, len);
}

static void
add_text(struct wr_buf *b, const char *s)
{
	add_bytes(b, s ? s : "", s ? strlen(s) : 0);
}

static void
add_node(struct wr_buf *b, const struct wr_node_id *n)
{
	add_text(b, n->id.s);
	wr_buf_add32be(b, n->inc);
}

void
wr_peer_encode(const struct wr_peer_msg *m, bool elsewhere, struct wr_buf *out)
{
	unsigned parts = 0;

	wr_assert(parts_of(m->type, &parts));
	wr_buf_add8(out, (uint8_t)m->type);
	if (parts & CONN)
		wr_buf_add32be(out, m->conn);
	if (parts & SEQ)
		wr_buf_add32be(out, m->seq);
	if (parts & ID)
		wr_buf_add32be(out, m->id);
	if (parts & SEND) {
		wr_buf_add32be(out, m->timeout_ms);
		add_text(out, m->address);
		add_node(out, &m->node);
	}
	if (parts & FAILED) {
		wr_buf_add8(out, (uint8_t)(m->code >> 8));
		wr_buf_add8(out, (uint8_t)m->code);
	}
	if (parts & (FAILED | NOTE))
		add_text(out, m->text);
	if (parts & FAILED)
		add_text(out, m->hint);
	if (parts & PAYLOAD)
		add_bytes(out, m->payload.p, elsewhere ? 0 : m->payload.len);
}

/* A memfd with the bytes that nobody can change any more. */
static int
sealed(const struct wr_buf *b, struct wr_err *err)
{
	WR_SCOPED(wr_closep)
	int fd = memfd_create("warren-message", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int out;

	if (fd < 0)
		return wr_err_sys(err, "make a memory file");
	if (wr_write_all(fd, b->p, b->len) < 0)
		return wr_err_sys(err, "fill a memory file");
	if (fcntl(fd, F_ADD_SEALS, SEALS) < 0)
		return wr_err_sys(err, "seal a memory file");
	out = fd;
	fd = -1;
	return out;
}

int
wr_peer_send(int sock, const struct wr_peer_msg *m, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	WR_SCOPED(wr_closep) int body = -1;
	int fd = m->fd;

	if (m->payload.len > WR_MSG_BYTES)
		return wr_err_set(err, WR_E_LIMIT,
				  "an envelope of %zu bytes; at most %u are possible",
				  m->payload.len, WR_MSG_BYTES);
	if (m->payload.len > WR_PEER_INLINE) {
		body = sealed(&m->payload, err);
		if (body < 0)
			return wr_err_wrap(err, "pass a message of %zu bytes", m->payload.len);
		fd = body;
	}
	wr_peer_encode(m, body >= 0, &b);
	return wr_msg_send(sock, b.p, b.len, &fd, fd >= 0, err);
}

/* ---- reading ---- */

static int
bad(struct wr_err *err, const char *what)
{
	return wr_err_set(err, WR_E_INVALID, "message: %s", what);
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
read_text(struct wr_rd *r, size_t max, char **out, struct wr_err *err)
{
	uint32_t len = wr_rd32be(r);
	const uint8_t *p = wr_rd_bytes(r, len);

	if (r->bad)
		return bad(err, "it is cut short");
	if (len > max || !shows(p, len))
		return bad(err, "its text is too long, or other than text");
	free(*out);
	*out = wr_malloc((size_t)len + 1);
	if (len)
		memcpy(*out, p, len);
	(*out)[len] = '\0';
	return 0;
}

static int
read_node(struct wr_rd *r, struct wr_node_id *out, struct wr_err *err)
{
	char s[sizeof(out->id.s)] = "";
	uint32_t len = wr_rd32be(r);
	const uint8_t *p = wr_rd_bytes(r, len);

	out->inc = wr_rd32be(r);
	if (r->bad || len >= sizeof(s))
		return bad(err, "its node is cut short or too long");
	if (len)
		memcpy(s, p, len);
	if (strlen(s) != len || !wr_uuid_parse(s, &out->id))
		return bad(err, "its node's id is none");
	return 0;
}

static int
read_address(struct wr_rd *r, struct wr_peer_msg *m, struct wr_err *err)
{
	uint32_t len = wr_rd32be(r);
	const uint8_t *p = wr_rd_bytes(r, len);

	if (r->bad || len == 0 || len >= sizeof(m->address))
		return bad(err, "its address is cut short, empty or too long");
	for (uint32_t i = 0; i < len; i++)
		if (p[i] <= 0x20 || p[i] > 0x7e)
			return bad(err, "its address holds other than printable characters");
	memcpy(m->address, p, len);
	m->address[len] = '\0';
	return 0;
}

static int
read_code(struct wr_rd *r, struct wr_peer_msg *m, struct wr_err *err)
{
	uint16_t code = wr_rd16be(r);

	if (code == WR_E_NONE || code >= WR_E_COUNT)
		return bad(err, "its error code is none");
	m->code = code;
	return 0;
}

/* Sealed, so the file can neither change nor block nor shrink while it is read. */
static int
read_sealed(int fd, struct wr_buf *out, struct wr_err *err)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	if (seals < 0 || (seals & SEALS) != SEALS)
		return bad(err, "its file is not sealed");
	if (fstat(fd, &st) < 0)
		return wr_err_sys(err, "stat a message's file");
	if (st.st_size <= 0 || st.st_size > (off_t)WR_MSG_BYTES)
		return bad(err, "its file is empty or too long");
	wr_buf_reserve(out, (size_t)st.st_size);
	if (wr_pread_full(fd, out->p, (size_t)st.st_size, 0) != (ssize_t)st.st_size)
		return wr_err_sys(err, "read a message's file");
	out->len = (size_t)st.st_size;
	return 0;
}

/* The payload lies in the message, or in the file that came along. */
static int
read_payload(struct wr_rd *r, struct wr_peer_msg *m, struct wr_err *err)
{
	uint32_t len = wr_rd32be(r);
	const uint8_t *p = wr_rd_bytes(r, len);

	if (r->bad)
		return bad(err, "its payload is cut short");
	if (m->fd >= 0 && len)
		return bad(err, "its payload comes twice");
	if (m->fd < 0 && !len)
		return bad(err, "its payload is missing");
	if (m->fd < 0) {
		wr_buf_add(&m->payload, p, len);
		return 0;
	}
	if (read_sealed(m->fd, &m->payload, err) < 0)
		return -1;
	close(m->fd);
	m->fd = -1;
	return 0;
}

static int
read_parts(struct wr_rd *r, unsigned parts, struct wr_peer_msg *m, struct wr_err *err)
{
	if (parts & CONN)
		m->conn = wr_rd32be(r);
	if (parts & SEQ)
		m->seq = wr_rd32be(r);
	if (parts & ID)
		m->id = wr_rd32be(r);
	if (parts & SEND) {
		m->timeout_ms = wr_rd32be(r);
		if (read_address(r, m, err) < 0 || read_node(r, &m->node, err) < 0)
			return -1;
	}
	if ((parts & FAILED) && read_code(r, m, err) < 0)
		return -1;
	if ((parts & (FAILED | NOTE)) &&
	    read_text(r, sizeof(((struct wr_err *)NULL)->msg) - 1, &m->text, err) < 0)
		return -1;
	if ((parts & FAILED) &&
	    read_text(r, sizeof(((struct wr_err *)NULL)->hint) - 1, &m->hint, err) < 0)
		return -1;
	if ((parts & PAYLOAD) && read_payload(r, m, err) < 0)
		return -1;
	if (!(parts & (PAYLOAD | FD)) && m->fd >= 0)
		return bad(err, "it carries a descriptor and should not");
	if ((parts & FD) && m->fd < 0)
		return bad(err, "its descriptor is missing");
	return 0;
}

int
wr_peer_decode(const void *p, size_t len, const int *fds, size_t fd_count, bool from_peer,
	       struct wr_peer_msg *out, struct wr_err *err)
{
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg m = WR_PEER_MSG_INIT;
	struct wr_rd r = wr_rd(p, len);
	unsigned parts;

	if (fd_count)
		m.fd = fds[0];
	for (size_t i = 1; i < fd_count; i++)
		close(fds[i]);
	if (fd_count > 1)
		return bad(err, "it carries several descriptors");
	m.type = wr_rd8(&r);
	if (r.bad)
		return bad(err, "it is empty");
	if (!parts_of(m.type, &parts))
		return wr_err_set(err, WR_E_INVALID, "message: no type %u is known", m.type);
	if (from_peer != (m.type >= WR_PEER_CALL))
		return wr_err_set(err, WR_E_INVALID, "message: type %u does not come from %s",
				  m.type, from_peer ? "a peer" : "control");
	if (read_parts(&r, parts, &m, err) < 0)
		return -1;
	if (r.bad)
		return bad(err, "it is cut short");
	if (r.left)
		return bad(err, "bytes follow its end");
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
	add_node(out, &s->self);
	add_text(out, s->fleet);
	add_bytes(out, s->key_pem.p, s->key_pem.len);
	add_bytes(out, s->cert_der.p, s->cert_der.len);
	for (size_t i = 0; i < WR_ARRAY_LEN(s->ca_der); i++)
		add_bytes(out, s->ca_der[i].p, s->ca_der[i].len);
	wr_buf_add64be(out, (uint64_t)s->fleet_at);
	wr_buf_add32be(out, (uint32_t)s->node_count);
	for (size_t i = 0; i < s->node_count; i++)
		add_node(out, &s->node[i]);
}

static int
read_part(struct wr_rd *r, struct wr_buf *out, struct wr_err *err)
{
	uint32_t len = wr_rd32be(r);
	const uint8_t *p = wr_rd_bytes(r, len);

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

	if (read_node(r, &s->self, err) < 0 || read_part(r, &fleet, err) < 0 ||
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
		if (read_node(r, &s->node[s->node_count], err) < 0)
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

/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/wire.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/str.h"
#include "host/node/node.h"
#include "sys/fs.h"
#include "sys/sock.h"

#define SILENCE_S 300 /* a daemon that says nothing for so long is not there */
#define CONNECT_MS 20000
#define HTTPS_PORT 443
#define CA_FILE_MAX (256u << 10)

struct wr_wire {
	int fd;               /* of a unix socket; -1 */
	struct wr_link *link; /* or TLS */
	const volatile sig_atomic_t *stop;
};

/* ---- where to ---- */

void
wr_wire_to_fini(struct wr_wire_to *to)
{
	free(wr_steal(&to->socket));
	free(wr_steal(&to->host));
	for (size_t i = 0; i < to->ca_count; i++)
		wr_buf_fini(&to->ca[i]);
	to->ca_count = 0;
}

static int
bad_url(const char *what, const char *url, struct wr_err *err)
{
	wr_err_set(err, WR_E_USAGE, "%s: '%s' is not understood", what, WR_Q(url));
	return wr_err_hint(err, "write https://HOST:PORT, or unix:PATH, the path of the daemon's "
				"socket");
}

int
wr_wire_to_url(struct wr_wire_to *to, const char *what, const char *url, struct wr_err *err)
{
	static const char https[] = "https://";
	WR_SCOPED(wr_freep) char *at = NULL;
	char host[WR_HOST_SIZE];
	size_t len;

	if (!strncmp(url, "unix:", 5) && url[5]) {
		to->socket = wr_strdup(url + 5);
		return 0;
	}
	if (strncmp(url, https, strlen(https)) != 0)
		return bad_url(what, url, err);
	url += strlen(https);
	len = strlen(url);
	if (len && url[len - 1] == '/')
		len--;
	at = wr_asprintf("%.*s", (int)len, url);
	if (!wr_hostport_parse(at, host, &to->port)) {
		WR_SCOPED(wr_freep) char *usual = wr_asprintf("%s:%d", at, HTTPS_PORT);

		if (!wr_hostport_parse(usual, host, &to->port))
			return bad_url(what, url - strlen(https), err);
	}
	to->host = wr_strdup(host);
	return 0;
}

/* ---- CAs ---- */

/* 32 to 64 hex digits, by twos with colons between them or without. */
static bool
parse_print(const char *s, uint8_t out[WR_JOIN_PRINT_LEN])
{
	size_t n = 0;

	if (!strncasecmp(s, "sha256:", 7))
		s += 7;
	for (; *s; s++) {
		unsigned d;

		if (*s == ':')
			continue;
		if (!strchr("0123456789abcdefABCDEF", *s))
			return false;
		d = (unsigned)(*s <= '9' ? *s - '0' : (*s | 0x20) - 'a' + 10);
		if (n / 2 < WR_JOIN_PRINT_LEN)
			out[n / 2] = (uint8_t)(n % 2 ? out[n / 2] | d : d << 4);
		n++;
	}
	return n >= 2 * WR_JOIN_PRINT_LEN && n <= 64 && n % 2 == 0;
}

static int
read_pem(struct wr_wire_to *to, const char *text, const char *what, struct wr_err *err)
{
	static const char head[] = "-----BEGIN CERTIFICATE-----",
			  tail[] = "-----END CERTIFICATE-----";
	const char *p = text;

	while ((p = strstr(p, head))) {
		const char *end = strstr(p, tail);
		WR_SCOPED(wr_buf_fini) struct wr_buf b64 = WR_BUF_INIT;

		if (to->ca_count >= WR_WIRE_CAS)
			return wr_err_set(err, WR_E_INVALID, "%s: more than %d certificates", what,
					  WR_WIRE_CAS);
		for (p += strlen(head); end && p < end; p++)
			if (!strchr(" \t\r\n", *p))
				wr_buf_add8(&b64, (uint8_t)*p);
		if (!end || !wr_base64_decode(&to->ca[to->ca_count++], wr_buf_str(&b64), b64.len))
			return wr_err_set(err, WR_E_INVALID, "%s: a certificate is damaged", what);
	}
	return 0;
}

int
wr_wire_to_ca(struct wr_wire_to *to, const char *what, const char *ca, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_cert_info info;

	if (parse_print(ca, to->ca_print)) {
		to->by_print = true;
		return 0;
	}
	if (wr_read_file(AT_FDCWD, ca, CA_FILE_MAX, &b, err) < 0) {
		wr_err_wrap(err, "%s", what);
		return wr_err_hint(err, "the file with the fleet's CA, which 'warren ca' prints on "
					"its nodes, or that CA's fingerprint");
	}
	if (read_pem(to, wr_buf_str(&b), what, err) < 0)
		return -1;
	if (!to->ca_count)
		wr_buf_add(&to->ca[to->ca_count++], b.p, b.len);
	for (size_t i = 0; i < to->ca_count; i++)
		if (wr_cert_info((struct wr_der){to->ca[i].p, to->ca[i].len}, &info, err) < 0 ||
		    !info.ca) {
			wr_err_set(err, WR_E_INVALID, "%s: '%s' is no certificate of a fleet's CA",
				   what, WR_Q(ca));
			return wr_err_hint(err, "'warren ca' prints it, on the nodes of the fleet");
		}
	return 0;
}

struct wr_addr_text
wr_wire_name(const struct wr_wire_to *to)
{
	struct wr_addr_text t = {"warren"};

	return to->socket ? t : wr_addr_format(to->host, to->port);
}

/* ---- opening ---- */

static bool
stopped(const struct wr_wire *w)
{
	return w->stop && *w->stop;
}

static int
open_socket(struct wr_wire *w, const struct wr_wire_to *to, struct wr_err *err)
{
	struct timeval silence = {.tv_sec = SILENCE_S};
	struct wr_err why = WR_ERR_INIT;

	w->fd = wr_sock_connect(to->socket, &why);
	if (w->fd < 0) {
		if (why.code == WR_E_DENIED) {
			wr_err_set(err, WR_E_DENIED, "the daemon's socket '%s' is not open to you",
				   WR_Q(to->socket));
			return wr_err_hint(err, "%s", "socket_mode in warren.conf(5) says who may");
		}
		wr_err_set(err, WR_E_FAILED, "no daemon answers at '%s'", WR_Q(to->socket));
		return wr_err_hint(err, "start it with 'systemctl start warren' or 'warren serve', "
					"or name another with --root or --socket");
	}
	(void)setsockopt(w->fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence));
	(void)setsockopt(w->fd, SOL_SOCKET, SO_SNDTIMEO, &silence, sizeof(silence));
	return 0;
}

static int
open_link(struct wr_wire *w, const struct wr_wire_to *to, struct wr_err *err)
{
	struct wr_der ca[WR_WIRE_CAS];
	struct wr_https h = {.host = to->host,
			     .port = to->port,
			     .ca = ca,
			     .ca_count = to->ca_count,
			     .ca_print = to->by_print ? to->ca_print : NULL};

	if (!to->ca_count && !to->by_print) {
		wr_err_set(err, WR_E_USAGE,
			   "$WARREN_CA: is missing: nothing says whose server "
			   "'%s' has to be",
			   wr_wire_name(to).s);
		return wr_err_hint(err, "set it to the file with the fleet's CA, which 'warren ca' "
					"prints on its nodes, or to that CA's fingerprint");
	}
	for (size_t i = 0; i < to->ca_count; i++)
		ca[i] = (struct wr_der){to->ca[i].p, to->ca[i].len};
	if (wr_https_connect(&h, wr_deadline_ms(CONNECT_MS), &w->link, err) == 0)
		return 0;
	wr_err_wrap(err, "https://%s", wr_wire_name(to).s);
	if (!err->hint[0] && strstr(err->msg, "mismatch"))
		return wr_err_hint(err,
				   "its certificate does not name '%s'; 'name' in [listen] of "
				   "its warren.conf(5) says what it names",
				   WR_Q(to->host));
	if (!err->hint[0] && err->code == WR_E_DENIED)
		return wr_err_hint(err,
				   "is that the server that is meant, and %s? 'warren ca' on "
				   "its nodes prints the CA",
				   to->by_print ? "the right fingerprint" : "the right file");
	if (!err->hint[0] && err->sys_errno == ECONNREFUSED)
		return wr_err_hint(err, "is the daemon there, and is 'api' set in [listen] of its "
					"warren.conf(5)?");
	return -1;
}

int
wr_wire_open(const struct wr_wire_to *to, const volatile sig_atomic_t *stop, struct wr_wire **out,
	     struct wr_err *err)
{
	struct wr_wire *w = wr_calloc(1, sizeof(*w));
	int rc;

	w->fd = -1;
	w->stop = stop;
	rc = to->socket ? open_socket(w, to, err) : open_link(w, to, err);
	if (rc < 0) {
		wr_wire_close(w);
		return -1;
	}
	*out = w;
	return 0;
}

void
wr_wire_close(struct wr_wire *w)
{
	if (!w)
		return;
	wr_closep(&w->fd);
	wr_link_close(w->link);
	free(w);
}

struct wr_der
wr_wire_ca(const struct wr_wire *w)
{
	return w->link ? wr_link_ca(w->link) : (struct wr_der){NULL, 0};
}

/* ---- bytes ---- */

static int
silent(struct wr_err *err)
{
	return wr_err_set(err, WR_E_FAILED, "the daemon has said nothing for %d s", SILENCE_S);
}

/* Until the link can go on. */
static int
wait_link(struct wr_wire *w, bool reading, struct wr_err *err)
{
	struct pollfd p = {wr_link_fd(w->link), wr_link_wants(w->link, reading, !reading), 0};
	int n;

	if (stopped(w))
		return wr_err_set(err, WR_E_CANCELLED, "interrupted");
	n = poll(&p, 1, SILENCE_S * 1000);
	if (n == 0)
		return silent(err);
	return n < 0 && errno != EINTR ? wr_err_sys(err, "wait for the daemon") : 0;
}

static ssize_t
write_link(struct wr_wire *w, const uint8_t *p, size_t len, struct wr_err *err)
{
	for (;;) {
		size_t n = 0;

		switch (wr_link_write(w->link, p, len, &n, err)) {
		case WR_LINK_OK:
			return (ssize_t)n;
		case WR_LINK_WAIT:
			if (wait_link(w, false, err) < 0)
				return -1;
			break;
		case WR_LINK_END:
			return (ssize_t)len; /* it may have answered */
		case WR_LINK_FAILED:
			return -1;
		}
	}
}

static ssize_t
write_socket(struct wr_wire *w, const uint8_t *p, size_t len, struct wr_err *err)
{
	for (;;) {
		ssize_t n = send(w->fd, p, len, MSG_NOSIGNAL);

		if (n >= 0)
			return n;
		if (errno == EINTR && !stopped(w))
			continue;
		if (errno == EPIPE || errno == ECONNRESET)
			return (ssize_t)len; /* it may have answered */
		return wr_err_sys(err, "send to the daemon");
	}
}

int
wr_wire_write(struct wr_wire *w, const void *p, size_t len, struct wr_err *err)
{
	const uint8_t *at = p;

	while (len) {
		ssize_t n = w->link ? write_link(w, at, len, err) : write_socket(w, at, len, err);

		if (n < 0)
			return -1;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

static ssize_t
read_link(struct wr_wire *w, void *p, size_t len, struct wr_err *err)
{
	for (;;) {
		size_t n = 0;

		switch (wr_link_read(w->link, p, len, &n, err)) {
		case WR_LINK_OK:
			return (ssize_t)n;
		case WR_LINK_WAIT:
			if (wait_link(w, true, err) < 0)
				return -1;
			break;
		case WR_LINK_END:
			return 0;
		case WR_LINK_FAILED:
			return wr_err_wrap(err, "read the daemon's answer");
		}
	}
}

ssize_t
wr_wire_read(struct wr_wire *w, void *p, size_t len, struct wr_err *err)
{
	ssize_t n;

	if (w->link)
		return read_link(w, p, len, err);
	do {
		if (stopped(w))
			return wr_err_set(err, WR_E_CANCELLED, "interrupted");
		n = read(w->fd, p, len);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return silent(err);
	return n < 0 ? wr_err_sys(err, "read the daemon's answer") : n;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTPS API.  Control accepts, and hands each connection to the front that is nobody: it ends
 * TLS and has no rights of its own, so what comes out of it is worth what its token is worth.
 *
 * That front has the node's TLS key, in memory.  When key or certificate change, the next
 * connection gets a new front; the old one serves those it has and ends with the last of them.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "fleet/link/link.h"
#include "serve/control/fleet.h"
#include "sys/clock.h"
#include "sys/fs.h"
#include "sys/sealed.h"

#define KEY_FILE "tls/node.key"
#define CERT_FILE "tls/node.crt"
#define PEM_LINE 64

/* ---- addresses ---- */

static struct wr_from
from_of(const struct wr_addr *a)
{
	struct wr_from f = {{0}};

	if (a->ss.ss_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, &a->ss, sizeof(in));
		f.b[10] = f.b[11] = 0xff;
		memcpy(f.b + 12, &in.sin_addr, 4);
	} else if (a->ss.ss_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, &a->ss, sizeof(in6));
		/* One host has a whole network of these. */
		memcpy(f.b, &in6.sin6_addr, IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr) ? 16 : 8);
	}
	return f;
}

struct wr_from_text
wr_from_text(const struct wr_from *f)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	struct wr_from_text t = {""};

	if (!memcmp(f->b, mapped, sizeof(mapped))) {
		(void)inet_ntop(AF_INET, f->b + 12, t.s, sizeof(t.s));
	} else {
		(void)inet_ntop(AF_INET6, f->b, t.s, sizeof(t.s));
		snprintf(t.s + strlen(t.s), sizeof(t.s) - strlen(t.s), "/64");
	}
	return t;
}

/* ---- the key ---- */

void
wr_pem_add(struct wr_buf *out, const void *der, size_t len)
{
	WR_SCOPED(wr_freep) char *text = wr_base64(der, len);
	size_t left = strlen(text);

	wr_buf_adds(out, "-----BEGIN CERTIFICATE-----\n");
	for (const char *p = text; left;) {
		size_t n = WR_MIN(left, (size_t)PEM_LINE);

		wr_buf_add(out, p, n);
		wr_buf_add8(out, '\n');
		p += n;
		left -= n;
	}
	wr_buf_adds(out, "-----END CERTIFICATE-----\n");
}

/* The CA that signed ours goes along: a host that is about to join knows but its fingerprint. */
static void
add_ca(struct wr_control *c, struct wr_der cert, struct wr_buf *out)
{
	struct wr_der ca[2];
	size_t n = c->fleet ? wr_fleet_cas(&c->fleet->auth->fleet, ca) : 0;

	for (size_t i = 0; i < n; i++)
		if (wr_cert_verify(cert, &ca[i], 1, NULL) == 0) {
			wr_pem_add(out, ca[i].p, ca[i].len);
			return;
		}
}

/* Key, certificate and CA, as PEM; -1 unless they belong together. */
static int
load(struct wr_control *c, struct wr_buf *out, struct wr_err *err)
{
	WR_SCOPED(wr_secret_fini) struct wr_buf key = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf cert = WR_BUF_INIT;
	struct wr_der der;

	if (wr_read_file(c->node->state_fd, KEY_FILE, WR_TLS_KEY_BYTES, &key, err) < 0 ||
	    wr_read_file(c->node->state_fd, CERT_FILE, WR_CERT_BYTES, &cert, err) < 0) {
		wr_err_wrap(err, "the HTTPS API");
		return err->code == WR_E_NOT_FOUND
			   ? wr_err_hint(err, "this node belongs to no fleet: 'warren init' and "
					      "'warren join' give it a certificate; or take api "
					      "out of [listen] in warren.conf(5)")
			   : -1;
	}
	der = (struct wr_der){cert.p, cert.len};
	if (wr_cert_fits(der, (struct wr_der){key.p, key.len}, err) < 0)
		return wr_err_wrap(err, "the HTTPS API");
	wr_buf_add(out, key.p, key.len);
	wr_buf_add8(out, '\n');
	wr_pem_add(out, cert.p, cert.len);
	add_ca(c, der, out);
	return 0;
}

int
wr_net_key(struct wr_control *c, struct wr_err *err)
{
	WR_SCOPED(wr_secret_fini) struct wr_buf b = WR_BUF_INIT;

	return load(c, &b, err) < 0 ? -1 : wr_sealed_make(b.p, b.len, err);
}

int64_t
wr_key_stamp(struct wr_control *c)
{
	static const char *const name[] = {KEY_FILE, CERT_FILE};
	int64_t newest = 0;
	struct stat st;

	for (size_t i = 0; i < WR_ARRAY_LEN(name); i++)
		if (fstatat(c->node->state_fd, name[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
			newest = WR_MAX(newest, (int64_t)st.st_ctim.tv_sec * WR_SECOND +
						    st.st_ctim.tv_nsec);
	return newest;
}

void
wr_net_tick(struct wr_control *c)
{
	WR_SCOPED(wr_secret_fini) struct wr_buf b = WR_BUF_INIT;
	int64_t now = c->net.listener.fd >= 0 ? wr_key_stamp(c) : c->net.cert_stamp_ns;

	if (now == c->net.cert_stamp_ns)
		return;
	/* Two files are replaced one after the other: what does not fit yet will in a moment. */
	if (load(c, &b, NULL) < 0)
		return;
	c->net.cert_stamp_ns = now;
	c->net.cert++;
	wr_event(c, "control", NULL, "api.certificate", "new connections get the new one", NULL);
}

/* ---- connections ---- */

static void
accept_again(struct wr_timer *t)
{
	struct wr_control *c = WR_OWNER(t, struct wr_control, net.again);

	wr_watch_change(&c->loop, &c->net.listener, EPOLLIN);
}

/* For a moment nobody is taken in: asking again at once would only burn the processor. */
static void
pause_accept(struct wr_control *c)
{
	wr_watch_change(&c->loop, &c->net.listener, 0);
	wr_timer_on(&c->loop, &c->net.again, WR_SECOND / 5, accept_again);
}

static void
on_connection(struct wr_watch *w, uint32_t events WR_UNUSED)
{
	struct wr_control *c = WR_OWNER(w, struct wr_control, net.listener);
	struct wr_err err = WR_ERR_INIT;
	struct wr_front *f;
	struct wr_addr addr;
	struct wr_from from;
	size_t theirs;
	int fd = wr_link_accept(w->fd, &addr, &err);

	if (fd < 0) {
		if (err.code != WR_E_BUSY)
			pause_accept(c);
		return;
	}
	from = from_of(&addr);
	f = wr_front_of_nobody(c, &err);
	if (!f) {
		wr_log_err(WR_LOG_WARNING, "a connection to the HTTPS API was refused", &err);
		close(fd);
		pause_accept(c);
		return;
	}
	/* One address cannot keep all others out. */
	if (wr_front_conns(f, &from, &theirs) >= WR_CONNS_MAX || theirs >= WR_FROM_MAX) {
		close(fd);
		return;
	}
	wr_front_give(f, fd, &from);
}

int
wr_net_socket(const char *where, struct wr_err *err)
{
	const struct timespec pause = {.tv_nsec = 50000000};
	const uint64_t until = wr_deadline_ms(5000);
	struct wr_err why = WR_ERR_INIT;
	int fd;

	while ((fd = wr_link_listen(where, &why)) < 0) {
		if (why.code != WR_E_BUSY || wr_clock_mono_ns() >= until) {
			if (err)
				*err = why;
			return -1;
		}
		why = (struct wr_err)WR_ERR_INIT;
		nanosleep(&pause, NULL);
	}
	return fd;
}

int
wr_net_listen(struct wr_control *c, struct wr_err *err)
{
	WR_SCOPED(wr_secret_fini) struct wr_buf b = WR_BUF_INIT;
	const char *where = c->node->config.listen_api;
	struct wr_err front_err = WR_ERR_INIT;
	int fd;

	if (!where || !*where)
		return 0;
	c->net.cert_stamp_ns = wr_key_stamp(c);
	if (load(c, &b, err) < 0)
		return -1;
	fd = wr_net_socket(where, err);
	if (fd < 0)
		return wr_err_wrap(err, "[listen] api");
	wr_watch_on(&c->loop, &c->net.listener, fd, EPOLLIN, on_connection);
	if (!wr_front_of_nobody(c, &front_err))
		wr_log_err(WR_LOG_ERROR, "start a front for the HTTPS API", &front_err);
	wr_log(WR_LOG_NOTICE, "serving the HTTPS API address=\"%s\"", where);
	return 0;
}

void
wr_net_stop_listening(struct wr_control *c)
{
	int fd = c->net.listener.fd;

	wr_timer_off(&c->loop, &c->net.again);
	wr_watch_off(&c->loop, &c->net.listener);
	wr_closep(&fd);
}

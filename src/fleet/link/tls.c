/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/link/link.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "fleet/link/link_int.h"
#include "fleet/trust/ossl.h"
#include "sys/clock.h"
#include "sys/fs.h"

/* LIMIT: of what the other side shows before we know who it is. */
#define CHAIN_BYTES (3 * WR_CERT_BYTES)
/* One system call brings in so many bytes: four records. */
#define READ_AHEAD (68u << 10)

static const unsigned char alpn_peer[] = "\x0dwarren-peer/1";
static const unsigned char alpn_http[] = "\x08http/1.1";

enum kind { PEER, HTTPS_SERVER, HTTPS_CLIENT };
struct wr_tls {
	SSL_CTX *ctx;
	atomic_uint refs;
	enum kind kind;
	bool has_own;
	struct wr_cert_info own;
	struct wr_uuid fleet;
	int64_t fleet_at;
};

/* ---- the socket below: no SIGPIPE, EINTR retried, bytes counted ---- */

static BIO_METHOD *port_method;
static int port_type;

static ssize_t
port_result(BIO *b, struct wr_link *l, ssize_t n)
{
	BIO_clear_retry_flags(b);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		BIO_set_retry_read(b);
	if (n == 0)
		l->eof = true;
	return n;
}

static int
port_read(BIO *b, char *p, int len)
{
	struct wr_link *l = BIO_get_data(b);
	ssize_t n;

	do
		n = recv(l->fd, p, (size_t)len, 0);
	while (n < 0 && errno == EINTR);
	n = port_result(b, l, n);
	l->in += n > 0 ? (uint64_t)n : 0;
	return (int)n;
}

static int
port_write(BIO *b, const char *p, int len)
{
	struct wr_link *l = BIO_get_data(b);
	ssize_t n;

	do
		n = send(l->fd, p, (size_t)len, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	BIO_clear_retry_flags(b);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		BIO_set_retry_write(b);
	l->out += n > 0 ? (uint64_t)n : 0;
	return (int)n;
}

static long
port_ctrl(BIO *b, int cmd, long num, void *ptr)
{
	struct wr_link *l = BIO_get_data(b);

	(void)num;
	(void)ptr;
	if (cmd == BIO_CTRL_EOF)
		return l && l->eof;
	return cmd == BIO_CTRL_FLUSH;
}

static void
port_init(void)
{
	BIO_METHOD *m;

	port_type = BIO_get_new_index() | BIO_TYPE_SOURCE_SINK;
	m = BIO_meth_new(port_type, "warren socket");
	if (m && BIO_meth_set_read(m, port_read) && BIO_meth_set_write(m, port_write) &&
	    BIO_meth_set_ctrl(m, port_ctrl))
		port_method = m;
}

static BIO *
port_new(struct wr_link *l)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	BIO *b;

	pthread_once(&once, port_init);
	b = port_method ? BIO_new(port_method) : NULL;
	if (!b)
		return NULL;
	BIO_set_data(b, l);
	BIO_set_init(b, 1);
	return b;
}

/* ---- is it who it has to be? Within the handshake, so that the other side hears of a refusal ----
 */

static int
refuse(X509_STORE_CTX *x, struct wr_link *l, const char *why)
{
	l->refusal = why;
	X509_STORE_CTX_set_error(x, X509_V_ERR_APPLICATION_VERIFICATION);
	return 0;
}

/* Let the CA of that fingerprint, sent along, be the one to trust. */
static bool
pin(X509_STORE_CTX *x, struct wr_link *l)
{
	STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(x);

	for (int i = 1; i < sk_X509_num(sent); i++) {
		X509 *c = sk_X509_value(sent, i);
		uint8_t d[WR_SHA256_LEN];

		if (X509_check_ca(c) != 1 || X509_digest(c, EVP_sha256(), d, NULL) != 1 ||
		    memcmp(d, l->ca_print, sizeof(l->ca_print)) != 0)
			continue;
		l->pinned = sk_X509_new_null();
		if (!l->pinned || sk_X509_push(l->pinned, c) <= 0)
			return false;
		X509_STORE_CTX_set0_trusted_stack(x, l->pinned);
		return true;
	}
	return false;
}

static void
keep_ca(X509_STORE_CTX *x, struct wr_link *l)
{
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(x);
	unsigned char *der = NULL;
	int n = i2d_X509(sk_X509_value(chain, sk_X509_num(chain) - 1), &der);

	wr_buf_clear(&l->ca);
	if (n > 0)
		wr_buf_add(&l->ca, der, (size_t)n);
	OPENSSL_free(der);
}

/* OpenSSL has many words for this one thing. */
static const char *
refusal_text(int why)
{
	switch (why) {
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
		return "its certificate is not from a CA of this fleet";
	default:
		return X509_verify_cert_error_string(why);
	}
}

static int
verify(X509_STORE_CTX *x, void *arg)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(x, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct wr_link *l = SSL_get_app_data(ssl);

	(void)arg;
	l->has_its = wr_x509_info(X509_STORE_CTX_get0_cert(x), &l->its, NULL) == 0;
	ERR_clear_error();
	if (l->has_print && !pin(x, l))
		return refuse(x, l, "it does not show the CA whose fingerprint is expected");
	if (X509_verify_cert(x) != 1) {
		const int why = X509_STORE_CTX_get_error(x);

		l->refused_date =
		    why == X509_V_ERR_CERT_HAS_EXPIRED || why == X509_V_ERR_CERT_NOT_YET_VALID;
		l->refusal = refusal_text(why);
		/* It may be the CA whose time it is not. */
		if (l->refused_date)
			l->has_its =
			    wr_x509_info(X509_STORE_CTX_get_current_cert(x), &l->its, NULL) == 0;
		return 0;
	}
	keep_ca(x, l);
	if (!l->has_its || l->its.ca)
		return refuse(x, l, "its certificate is not that of a node");
	if (l->t->kind != PEER)
		return 1;
	if (strcmp(l->its.fleet.s, l->t->fleet.s) != 0)
		return refuse(x, l, "it belongs to another fleet");
	if (!l->any_node && strcmp(l->its.node.id.s, l->node.id.s) != 0)
		return refuse(x, l, "it is another node");
	if (!l->any_node && l->node.inc && l->its.node.inc != l->node.inc)
		return refuse(x, l, "it is that node, but from before or after it joined again");
	return 1;
}

static int
choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
	    unsigned int in_len, void *arg)
{
	const struct wr_tls *t = arg;
	const unsigned char *ours = t->kind == PEER ? alpn_peer : alpn_http;
	unsigned char *found;

	(void)ssl;
	if (SSL_select_next_proto(&found, out_len, ours, ours[0] + 1u, in, in_len) !=
	    OPENSSL_NPN_NEGOTIATED)
		return t->kind == PEER ? SSL_TLSEXT_ERR_ALERT_FATAL : SSL_TLSEXT_ERR_NOACK;
	*out = found;
	return SSL_TLSEXT_ERR_OK;
}

/* ---- contexts ---- */

static int
set_up(struct wr_tls *t, struct wr_err *err)
{
	const unsigned char *alpn = t->kind == PEER ? alpn_peer : alpn_http;
	int groups[] = {NID_X25519, NID_X9_62_prime256v1};
	SSL_CTX *c = SSL_CTX_new(TLS_method());

	t->ctx = c;
	if (!c || SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_max_proto_version(c, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_ciphersuites(c, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
					"TLS_CHACHA20_POLY1305_SHA256") != 1 ||
	    SSL_CTX_set1_groups(c, groups, WR_ARRAY_LEN(groups)) != 1 ||
	    SSL_CTX_set_num_tickets(c, 0) != 1 || SSL_CTX_set_alpn_protos(c, alpn, alpn[0] + 1u))
		return wr_ossl_err(err, WR_E_FAILED, "set up TLS");
	SSL_CTX_set_options(c, SSL_OP_NO_TICKET);
	SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
	SSL_CTX_set_read_ahead(c, 1);
	SSL_CTX_set_default_read_buffer_len(c, READ_AHEAD);
	SSL_CTX_set_max_cert_list(c, CHAIN_BYTES);
	SSL_CTX_set_alpn_select_cb(c, choose_alpn, t);
	SSL_CTX_set_cert_verify_callback(c, verify, NULL);
	SSL_CTX_set_verify(c,
			   t->kind == HTTPS_SERVER
			       ? SSL_VERIFY_NONE
			       : SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
			   NULL);
	return 0;
}

static int
set_cas(struct wr_tls *t, const struct wr_der *ca, size_t count, struct wr_err *err)
{
	X509_STORE *s = wr_store_of(ca, count, err);

	if (!s)
		return -1;
	SSL_CTX_set_cert_store(t->ctx, s); /* takes it */
	return 0;
}

static int
set_own(struct wr_tls *t, const struct wr_tls_conf *c, struct wr_err *err)
{
	WR_SCOPED(wr_pkey_freep) EVP_PKEY *key = wr_pkey_of_pem(c->key_pem, err);
	WR_SCOPED(wr_x509_freep) X509 *cert = key ? wr_x509_of_der(c->cert, err) : NULL;

	if (!cert || wr_x509_info(cert, &t->own, err) < 0)
		return -1;
	t->has_own = true;
	if (SSL_CTX_use_certificate(t->ctx, cert) != 1 || SSL_CTX_use_PrivateKey(t->ctx, key) != 1)
		return wr_ossl_err(err, WR_E_INVALID, "use key and certificate of this host");
	for (size_t i = 0; t->kind == HTTPS_SERVER && i < c->ca_count; i++) {
		WR_SCOPED(wr_x509_freep) X509 *ca = wr_x509_of_der(c->ca[i], err);

		if (!ca)
			return -1;
		if (X509_check_issued(ca, cert) == X509_V_OK &&
		    SSL_CTX_add1_chain_cert(t->ctx, ca) != 1)
			return wr_ossl_err(err, WR_E_FAILED, "use the certificate of the CA");
	}
	ERR_clear_error();
	return 0;
}

static int
tls_new(enum kind kind, const struct wr_tls_conf *c, struct wr_tls **out, struct wr_err *err)
{
	struct wr_tls *t = wr_calloc(1, sizeof(*t));

	t->refs = 1;
	t->kind = kind;
	t->fleet = c->fleet;
	t->fleet_at = c->fleet_at;
	if (set_up(t, err) < 0 || set_cas(t, c->ca, c->ca_count, err) < 0 ||
	    (kind != HTTPS_CLIENT && set_own(t, c, err) < 0)) {
		wr_tls_free(t);
		return wr_err_wrap(err, "prepare TLS");
	}
	*out = t;
	return 0;
}

int
wr_tls_new(const struct wr_tls_conf *c, struct wr_tls **out, struct wr_err *err)
{
	return tls_new(PEER, c, out, err);
}

int
wr_tls_https_new(const struct wr_tls_conf *c, struct wr_tls **out, struct wr_err *err)
{
	return tls_new(HTTPS_SERVER, c, out, err);
}

int
wr_tls_https_client(const struct wr_https *h, struct wr_tls **out, struct wr_err *err)
{
	return tls_new(
	    HTTPS_CLIENT,
	    &(struct wr_tls_conf){.ca = h->ca, .ca_count = h->ca_count, .fleet_at = h->fleet_at},
	    out, err);
}

void
wr_tls_free(struct wr_tls *t)
{
	if (!t || atomic_fetch_sub(&t->refs, 1) != 1)
		return;
	SSL_CTX_free(t->ctx);
	free(t);
}

/* ---- a link ---- */

static struct wr_link *
link_new(struct wr_tls *t, int fd, bool server, const struct wr_link_peer *peer, struct wr_err *err)
{
	struct wr_link *l = wr_calloc(1, sizeof(*l));
	const int on = 1;
	BIO *port;

	atomic_fetch_add(&t->refs, 1);
	l->t = t;
	l->fd = fd;
	l->server = server;
	l->state = LINK_GREETING;
	l->any_node = !peer || !peer->node;
	if (!l->any_node)
		l->node = *peer->node;
	if (peer && peer->name)
		snprintf(l->name.s, sizeof(l->name.s), "%s", peer->name);
	l->clock_known = peer && peer->clock_known;
	l->clock_ahead_s = peer ? peer->clock_ahead_s : 0;
	l->ssl = SSL_new(t->ctx);
	port = l->ssl ? port_new(l) : NULL;
	if (!port) {
		wr_ossl_err(err, WR_E_FAILED, "begin TLS");
		wr_link_close(l);
		return NULL;
	}
	SSL_set_bio(l->ssl, port, port);
	SSL_set_app_data(l->ssl, l);
	if (server)
		SSL_set_accept_state(l->ssl);
	else
		SSL_set_connect_state(l->ssl);
	/* Not on the sockets of tests that are none of TCP. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return l;
}

int
wr_link_serve(struct wr_tls *t, int fd, struct wr_link **out, struct wr_err *err)
{
	struct wr_addr from = {.len = sizeof(from.ss)};
	struct wr_link *l = link_new(t, fd, true, NULL, err);

	if (!l)
		return -1;
	if (getpeername(fd, (struct sockaddr *)&from.ss, &from.len) == 0)
		l->name = wr_addr_text(&from);
	*out = l;
	return 0;
}

int
wr_link_begin(struct wr_tls *t, const struct wr_addr *to, const struct wr_link_peer *peer,
	      struct wr_link **out, struct wr_err *err)
{
	const int fd = socket(to->ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct wr_link *l;

	if (fd < 0)
		return wr_err_sys(err, "make a socket");
	l = link_new(t, fd, false, peer, err);
	if (!l)
		return -1;
	if (!*l->name.s)
		l->name = wr_addr_text(to);
	l->state = LINK_CONNECTING;
	/* A connect that a signal cut short goes on by itself. */
	if (connect(fd, (const struct sockaddr *)&to->ss, to->len) < 0 && errno != EINPROGRESS &&
	    errno != EINTR) {
		wr_err_sys(err, "connect to '%s'", WR_Q(l->name.s));
		wr_link_close(l);
		return -1;
	}
	*out = l;
	return 0;
}

int
wr_link_begin_https(struct wr_tls *t, const struct wr_addr *to, const struct wr_https *h,
		    struct wr_link **out, struct wr_err *err)
{
	struct wr_link *l = NULL;
	X509_VERIFY_PARAM *want;
	union {
		const char *in;
		char *out;
	} name = {h->host}; /* it is copied */
	uint8_t ip[16];
	bool ok;

	if (wr_link_begin(t, to, NULL, &l, err) < 0)
		return -1;
	want = SSL_get0_param(l->ssl);
	if (inet_pton(AF_INET, h->host, ip) == 1)
		ok = X509_VERIFY_PARAM_set1_ip(want, ip, 4);
	else if (inet_pton(AF_INET6, h->host, ip) == 1)
		ok = X509_VERIFY_PARAM_set1_ip(want, ip, 16);
	else
		ok = X509_VERIFY_PARAM_set1_host(want, h->host, 0) &&
		     SSL_set_tlsext_host_name(l->ssl, name.out);
	if (!ok) {
		wr_ossl_err(err, WR_E_INVALID, "expect '%s'", WR_Q(h->host));
		wr_link_close(l);
		return -1;
	}
	if (h->ca_print) {
		l->has_print = true;
		memcpy(l->ca_print, h->ca_print, sizeof(l->ca_print));
	}
	*out = l;
	return 0;
}

void
wr_link_close(struct wr_link *l)
{
	if (!l)
		return;
	if (l->ssl && l->state == LINK_OPEN)
		(void)SSL_shutdown(
		    l->ssl); /* what the socket does not take now is not worth a wait */
	ERR_clear_error();
	SSL_free(l->ssl);
	sk_X509_free(l->pinned);
	wr_closep(&l->fd);
	wr_buf_fini(&l->ca);
	wr_buf_fini(&l->frames);
	wr_tls_free(l->t);
	free(l);
}

/* ---- why it failed ---- */

/* Alerts that speak of our certificate; the rest is told in OpenSSL's words. */
static const struct {
	int alert;
	const char *text;
} alerts[] = {
    {SSL_AD_BAD_CERTIFICATE, "it does not accept this host's certificate"},
    {SSL_AD_UNSUPPORTED_CERTIFICATE, "it does not accept this host's certificate"},
    {SSL_AD_CERTIFICATE_REVOKED, "this host's certificate was revoked"},
    {SSL_AD_CERTIFICATE_EXPIRED, "this host's certificate has expired"},
    {SSL_AD_CERTIFICATE_UNKNOWN, "it does not accept this host's certificate"},
    {SSL_AD_UNKNOWN_CA, "it does not know the CA of this host's certificate"},
    {SSL_AD_ACCESS_DENIED, "access denied"},
    {SSL_AD_HANDSHAKE_FAILURE, "this host is not whom it expects"},
    {SSL_AD_DECRYPT_ERROR, "a signature of this host is wrong"},
    {TLS13_AD_CERTIFICATE_REQUIRED, "it wants a certificate of this host"},
    {SSL_AD_PROTOCOL_VERSION, "it does not speak TLS 1.3"},
    {SSL_AD_NO_APPLICATION_PROTOCOL, "it does not speak this protocol there"},
};

static void
explain(const struct wr_link *l, int alert, struct wr_err *err)
{
	const int64_t now = wr_clock_wall().s;

	(void)wr_cert_explain(
	    &(struct wr_cert_case){
		.now = now,
		.peer = l->name.s,
		.own = l->t->has_own ? &l->t->own : NULL,
		/* Dates of a certificate that nobody vouches for explain nothing. */
		.its = l->has_its && (l->refused_date || !l->refusal) ? &l->its : NULL,
		.fleet_at = l->t->fleet_at,
		.clock_known = l->clock_known,
		.its_now = now + l->clock_ahead_s,
		.it_says_expired = alert == SSL_AD_CERTIFICATE_EXPIRED,
		.it_says_bad = alert == SSL_AD_BAD_CERTIFICATE,
	    },
	    err);
}

static void
told_by_alert(const struct wr_link *l, int alert, struct wr_err *err)
{
	for (size_t i = 0; i < WR_ARRAY_LEN(alerts); i++)
		if (alerts[i].alert == alert) {
			wr_err_set(err, WR_E_DENIED, "'%s' refuses the connection: %s",
				   WR_Q(l->name.s), alerts[i].text);
			explain(l, alert, err);
			return;
		}
	wr_err_set(err, WR_E_FAILED, "'%s' broke the connection off: %s", WR_Q(l->name.s),
		   SSL_alert_desc_string_long(alert));
}

static void
tell(const struct wr_link *l, int ssl_error, int sys, struct wr_err *err)
{
	const unsigned long e = ERR_peek_error();
	const int reason = ERR_GET_LIB(e) == ERR_LIB_SSL ? ERR_GET_REASON(e) : 0;

	if (l->refusal) {
		wr_err_set(err, WR_E_DENIED, "'%s' is refused: %s", WR_Q(l->name.s), l->refusal);
		if (l->refused_date)
			explain(l, 0, err);
	} else if (reason > SSL_AD_REASON_OFFSET) {
		told_by_alert(l, reason - SSL_AD_REASON_OFFSET, err);
	} else if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING || (!e && l->eof)) {
		wr_err_set(err, WR_E_FAILED, "'%s' cut the connection", WR_Q(l->name.s));
	} else if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
		wr_err_set(err, WR_E_DENIED, "'%s' is refused: it shows no certificate",
			   WR_Q(l->name.s));
	} else if (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_UNSUPPORTED_PROTOCOL ||
		   reason == SSL_R_HTTP_REQUEST) {
		wr_err_set(err, WR_E_DENIED, "'%s' does not speak TLS 1.3", WR_Q(l->name.s));
	} else if (!e && ssl_error == SSL_ERROR_SYSCALL && sys) {
		errno = sys;
		wr_err_sys(err, "connection with '%s'", WR_Q(l->name.s));
	} else {
		wr_ossl_err(err, WR_E_FAILED, "connection with '%s'", WR_Q(l->name.s));
	}
	ERR_clear_error();
}

/* What came of a call that was begun with an empty queue of errors; *wait gets poll events. */
static enum wr_link_io
judge(struct wr_link *l, int rc, short *wait, struct wr_err *err)
{
	const int sys = errno;
	const int e = SSL_get_error(l->ssl, rc);

	switch (e) {
	case SSL_ERROR_NONE:
		return WR_LINK_OK;
	case SSL_ERROR_WANT_READ:
		*wait = POLLIN;
		return WR_LINK_WAIT;
	case SSL_ERROR_WANT_WRITE:
		*wait = POLLOUT;
		return WR_LINK_WAIT;
	case SSL_ERROR_ZERO_RETURN:
		return WR_LINK_END;
	default:
		l->state = LINK_BROKEN;
		tell(l, e, sys, err);
		return WR_LINK_FAILED;
	}
}

/* ---- what it does ---- */

static enum wr_link_io
finish_connect(struct wr_link *l, struct wr_err *err)
{
	struct pollfd p = {.fd = l->fd, .events = POLLOUT};
	socklen_t len = sizeof(errno);
	int e = 0;

	if (poll(&p, 1, 0) == 0) {
		l->wait_read = POLLOUT;
		return WR_LINK_WAIT;
	}
	if (getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &e, &len) < 0)
		e = errno;
	if (e) {
		l->state = LINK_BROKEN;
		errno = e;
		wr_err_sys(err, "connect to '%s'", WR_Q(l->name.s));
		return WR_LINK_FAILED;
	}
	l->state = LINK_GREETING;
	return WR_LINK_OK;
}

/* Both have to mean the same protocol: one that offers none gets no alert by itself. */
static bool
same_protocol(const struct wr_link *l)
{
	const unsigned char *got;
	unsigned len;

	SSL_get0_alpn_selected(l->ssl, &got, &len);
	return len == alpn_peer[0] && memcmp(got, alpn_peer + 1, len) == 0;
}

static enum wr_link_io
broken(const struct wr_link *l, struct wr_err *err)
{
	wr_err_set(err, WR_E_FAILED, "the connection with '%s' is broken", WR_Q(l->name.s));
	return WR_LINK_FAILED;
}

enum wr_link_io
wr_link_handshake(struct wr_link *l, struct wr_err *err)
{
	enum wr_link_io io;

	if (l->state == LINK_OPEN)
		return WR_LINK_OK;
	if (l->state == LINK_BROKEN)
		return broken(l, err);
	if (l->state == LINK_CONNECTING) {
		io = finish_connect(l, err);
		if (io != WR_LINK_OK)
			return io;
	}
	ERR_clear_error();
	errno = 0;
	io = judge(l, SSL_do_handshake(l->ssl), &l->wait_read, err);
	if (io == WR_LINK_END) {
		l->state = LINK_BROKEN;
		wr_err_set(err, WR_E_FAILED, "'%s' cut the connection", WR_Q(l->name.s));
		return WR_LINK_FAILED;
	}
	if (io != WR_LINK_OK)
		return io;
	sk_X509_free(wr_steal(&l->pinned));
	if (l->t->kind == PEER && !same_protocol(l)) {
		l->state = LINK_BROKEN;
		wr_err_set(err, WR_E_DENIED, "'%s' is refused: it speaks another protocol",
			   WR_Q(l->name.s));
		return WR_LINK_FAILED;
	}
	l->state = LINK_OPEN;
	return WR_LINK_OK;
}

enum wr_link_io
wr_link_read(struct wr_link *l, void *p, size_t len, size_t *out_n, struct wr_err *err)
{
	*out_n = 0;
	if (l->state != LINK_OPEN)
		return broken(l, err);
	ERR_clear_error();
	errno = 0;
	return judge(l, SSL_read_ex(l->ssl, p, len, out_n), &l->wait_read, err);
}

/* The other side may have said why before it hung up. */
static void
last_words(struct wr_link *l, struct wr_err *err)
{
	uint8_t ignored[4096];
	struct wr_err e = WR_ERR_INIT;
	enum wr_link_io io;
	size_t n;

	l->state = LINK_OPEN;
	do
		io = wr_link_read(l, ignored, sizeof(ignored), &n, &e);
	while (io == WR_LINK_OK);
	l->state = LINK_BROKEN;
	if (io == WR_LINK_FAILED && e.code == WR_E_DENIED && err)
		*err = e;
}

enum wr_link_io
wr_link_write(struct wr_link *l, const void *p, size_t len, size_t *out_n, struct wr_err *err)
{
	enum wr_link_io io;
	int sys;

	*out_n = 0;
	if (l->state != LINK_OPEN)
		return broken(l, err);
	if (len == 0)
		return WR_LINK_OK;
	ERR_clear_error();
	errno = 0;
	io = SSL_write_ex(l->ssl, p, len, out_n) == 1 ? WR_LINK_OK : WR_LINK_FAILED;
	if (io == WR_LINK_OK)
		return io;
	sys = errno;
	io = judge(l, 0, &l->wait_write, err);
	if (io == WR_LINK_FAILED && (sys == EPIPE || sys == ECONNRESET))
		last_words(l, err);
	return io;
}

enum wr_link_io
wr_link_pull(struct wr_link *l, struct wr_buf *in, size_t max, struct wr_err *err)
{
	while (in->len < max) {
		enum wr_link_io io;
		size_t n;

		wr_buf_reserve(in, WR_MIN(max - in->len, (size_t)16384));
		io = wr_link_read(l, in->p + in->len, WR_MIN(max, in->cap) - in->len, &n, err);
		if (io != WR_LINK_OK)
			return io;
		in->len += n;
	}
	return WR_LINK_OK;
}

enum wr_link_io
wr_link_push(struct wr_link *l, struct wr_buf *out, size_t *off, struct wr_err *err)
{
	while (*off < out->len) {
		size_t n;
		enum wr_link_io io = wr_link_write(l, out->p + *off, out->len - *off, &n, err);

		if (io != WR_LINK_OK)
			return io;
		*off += n;
	}
	wr_buf_clear(out);
	*off = 0;
	return WR_LINK_OK;
}

enum wr_link_io
wr_link_goodbye(struct wr_link *l, struct wr_err *err)
{
	int rc;

	if (l->state != LINK_OPEN)
		return broken(l, err);
	ERR_clear_error();
	errno = 0;
	/* Called once more it would read, and not like what it finds. */
	rc = l->goodbye ? 0 : SSL_shutdown(l->ssl);
	if (rc < 0)
		return judge(l, rc, &l->wait_write, err);
	l->goodbye = true;
	return WR_LINK_OK;
}

/* ---- what it says of itself ---- */

short
wr_link_wants(const struct wr_link *l, bool reading, bool writing)
{
	return (short)((reading ? l->wait_read : 0) | (writing ? l->wait_write : 0));
}

int
wr_link_fd(const struct wr_link *l)
{
	return l->fd;
}

const struct wr_cert_info *
wr_link_cert(const struct wr_link *l)
{
	return l->has_its ? &l->its : NULL;
}

struct wr_der
wr_link_ca(const struct wr_link *l)
{
	return (struct wr_der){l->ca.p, l->ca.len};
}

uint64_t
wr_link_bytes_in(const struct wr_link *l)
{
	return l->in;
}

uint64_t
wr_link_bytes_out(const struct wr_link *l)
{
	return l->out;
}

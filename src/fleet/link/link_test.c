/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Links over real sockets: who is let in and what the refused are told, dates and clocks (also
 * under faketime), frames and their bounds, ends of connections, deadlines, the HTTPS client.
 */
#include "fleet/link/link.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fleet/trust/test_trust.h"
#include "sys/clock.h"
#include "sys/fs.h"
#include "sys/proc.h"
#include "sys/test_dir.h"

#define DAY INT64_C(86400)
#define PATIENCE_MS 20000

static const struct wr_uuid fleet = {"11111111-2222-4333-8444-555555555555"};
static const struct wr_uuid other_fleet = {"11111111-2222-4333-8444-666666666666"};
static const struct wr_node_id alice = {{"aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeee1"}, 1};
static const struct wr_node_id bob = {{"aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeee2"}, 4};

/* ---- a fleet ---- */

/* A host: its certificate is made by `by`, made_at from now, and it trusts `trusts`. */
struct host {
	const struct wr_ca *by;
	const struct wr_ca *trusts[2];
	struct wr_uuid fleet; /* that it thinks it is in */
	struct wr_node_id id;
	int64_t made_at;
	int64_t fleet_at;
	bool https;
};

static struct wr_tls *
tls_of(const struct host *h)
{
	static const char *const names[] = {"localhost", "127.0.0.1"};
	WR_SCOPED(wr_secret_fini) struct wr_buf key = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf spki = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf cert = WR_BUF_INIT;
	struct wr_cert_ask ask = WR_CERT_ASK_INIT;
	struct wr_cert_info ca;
	struct wr_der cas[2];
	struct wr_tls_conf c = {.ca = cas, .fleet = h->fleet, .fleet_at = h->fleet_at};
	struct wr_err e = WR_ERR_INIT;
	struct wr_tls *t = NULL;

	assert_int_equal(wr_tls_key_make(&key, &e), 0);
	assert_int_equal(wr_tls_key_spki(der(&key), &spki, &e), 0);
	assert_int_equal(wr_cert_info(wr_ca_cert(h->by), &ca, &e), 0);
	ask.fleet = ca.fleet;
	ask.node = h->id;
	ask.spki = der(&spki);
	ask.name = names;
	ask.name_count = 2;
	ask.now = wr_clock_wall().s + h->made_at;
	if (wr_cert_issue(h->by, &ask, &cert, &e) < 0)
		fail_msg("%s", e.msg);
	c.key_pem = der(&key);
	c.cert = der(&cert);
	for (; c.ca_count < 2 && h->trusts[c.ca_count]; c.ca_count++)
		cas[c.ca_count] = wr_ca_cert(h->trusts[c.ca_count]);
	if ((h->https ? wr_tls_https_new : wr_tls_new)(&c, &t, &e) < 0)
		fail_msg("%s", e.msg);
	return t;
}

/* ---- two ends that meet ---- */

struct pair {
	struct wr_link *server, *client;
	struct wr_err server_err, client_err; /* code NONE: all is well */
};

static void
pair_fini(struct pair *p)
{
	wr_link_close(p->server);
	wr_link_close(p->client);
	p->server = p->client = NULL;
}

static int
listen_here(struct wr_addr *out)
{
	struct wr_err e = WR_ERR_INIT;
	const int fd = wr_link_listen("127.0.0.1:0", &e);

	if (fd < 0 || wr_link_local(fd, out, &e) < 0)
		fail_msg("%s", e.msg);
	return fd;
}

/* Wait until one of the links may go on. */
static void
poll_links(const struct wr_link *a, const struct wr_link *b)
{
	struct pollfd p[2] = {{.fd = -1}, {.fd = -1}};

	if (a)
		p[0] = (struct pollfd){wr_link_fd(a), wr_link_wants(a, true, false), 0};
	if (b)
		p[1] = (struct pollfd){wr_link_fd(b), wr_link_wants(b, true, false), 0};
	assert_true(poll(p, 2, PATIENCE_MS) > 0);
}

/* Both handshakes; a side that gives up hangs up, as a server would. */
static void
shake(struct pair *p)
{
	bool s = p->server, c = p->client;

	while (s || c) {
		enum wr_link_io io;

		if (s) {
			io = wr_link_handshake(p->server, &p->server_err);
			s = io == WR_LINK_WAIT;
			if (io == WR_LINK_FAILED)
				wr_link_close(wr_steal(&p->server));
		}
		if (c) {
			io = wr_link_handshake(p->client, &p->client_err);
			c = io == WR_LINK_WAIT;
			if (io == WR_LINK_FAILED)
				wr_link_close(wr_steal(&p->client));
		}
		if (s || c)
			poll_links(s ? p->server : NULL, c ? p->client : NULL);
	}
}

/* The client reads to hear whether it was let in. */
static void
hear(struct pair *p)
{
	uint8_t byte;
	size_t n;
	enum wr_link_io io;

	while ((io = wr_link_read(p->client, &byte, 1, &n, &p->client_err)) == WR_LINK_WAIT)
		poll_links(p->client, NULL);
	assert_int_equal(io, WR_LINK_FAILED);
	assert_int_not_equal(p->client_err.code, WR_E_NONE);
}

static void
meet_as(struct wr_tls *server, struct wr_tls *client, const struct wr_link_peer *want,
	struct pair *p)
{
	struct wr_addr at;
	struct pollfd poller;
	int listener = listen_here(&at), fd;

	*p = (struct pair){0};
	assert_int_equal(wr_link_begin(client, &at, want, &p->client, &p->client_err), 0);
	poller = (struct pollfd){.fd = listener, .events = POLLIN};
	assert_int_equal(poll(&poller, 1, PATIENCE_MS), 1);
	fd = wr_link_accept(listener, NULL, &p->server_err);
	assert_true(fd >= 0);
	close(listener);
	assert_int_equal(wr_link_serve(server, fd, &p->server, &p->server_err), 0);
	shake(p);
	if (p->client && !p->server)
		hear(p);
}

/* Make them meet; contexts are released. */
static void
meet(const struct host *server, const struct host *client, const struct wr_link_peer *want,
     struct pair *p)
{
	struct wr_tls *s = tls_of(server), *c = tls_of(client);

	meet_as(s, c, want, p);
	wr_tls_free(s);
	wr_tls_free(c);
}

static void
must_say(const struct wr_err *e, enum wr_err_code code, const char *what)
{
	if (e->code != code || !strstr(e->msg, what))
		fail_msg("'%s' (%s) is not in: (%s) %s", what, wr_err_name(code),
			 wr_err_name(e->code), e->msg);
}

/* ---- who is let in ---- */

static void
test_good(void **state)
{
	struct wr_ca *ca = new_ca(*state, "ca", &fleet);
	const struct host s = {.by = ca, .trusts = {ca}, .fleet = fleet, .id = alice};
	const struct host c = {.by = ca, .trusts = {ca}, .fleet = fleet, .id = bob};
	const struct wr_link_peer want = {.node = &alice, .name = "alice"};
	WR_SCOPED(wr_buf_fini) struct wr_buf got = WR_BUF_INIT;
	const uint64_t soon = wr_deadline_ms(PATIENCE_MS);
	WR_SCOPED(pair_fini) struct pair p;
	struct wr_err e = WR_ERR_INIT;
	enum wr_frame_type type;

	meet(&s, &c, &want, &p);
	assert_non_null(p.server);
	assert_non_null(p.client);
	assert_true(wr_node_id_eq(&wr_link_cert(p.server)->node, &bob));
	assert_true(wr_node_id_eq(&wr_link_cert(p.client)->node, &alice));
	assert_int_equal(wr_link_ca(p.client).len, wr_ca_cert(ca).len);

	assert_int_equal(wr_link_frame_send(p.client, WR_FRAME_MSG, "question", 8, soon, &e), 0);
	assert_int_equal(wr_link_frame_send(p.client, WR_FRAME_DATA, NULL, 0, soon, &e), 0);
	assert_int_equal(wr_link_frame_recv(p.server, &type, &got, soon, &e), 1);
	assert_int_equal(type, WR_FRAME_MSG);
	assert_string_equal(wr_buf_str(&got), "question");
	assert_int_equal(wr_link_frame_recv(p.server, &type, &got, soon, &e), 1);
	assert_int_equal(type, WR_FRAME_DATA);
	assert_int_equal(got.len, 0);
	assert_int_equal(wr_link_frame_send(p.server, WR_FRAME_MSG_REPLY, "a", 1, soon, &e), 0);
	assert_int_equal(wr_link_frame_recv(p.client, &type, &got, soon, &e), 1);
	assert_int_equal(type, WR_FRAME_MSG_REPLY);
	assert_int_equal(wr_link_bytes_in(p.client), wr_link_bytes_out(p.server));
	assert_int_equal(wr_link_bytes_out(p.client), wr_link_bytes_in(p.server));

	wr_link_close(wr_steal(&p.client));
	assert_int_equal(wr_link_frame_recv(p.server, &type, &got, soon, &e), 0);
	wr_ca_free(ca);
}

static void
test_refused(void **state)
{
	struct wr_ca *ca = new_ca(*state, "ca", &fleet), *next = new_ca(*state, "next", &fleet);
	const struct host s = {.by = ca, .trusts = {ca}, .fleet = fleet, .id = alice};
	const struct host c = {.by = ca, .trusts = {ca}, .fleet = fleet, .id = bob};
	const struct wr_node_id later = {alice.id, 2}, any_inc = {alice.id, 0};
	struct wr_link_peer want = {.node = &alice, .name = "alice"};
	WR_SCOPED(pair_fini) struct pair p = {0};
	struct host h;

	/* The server's CA is unknown to the client. */
	h = c;
	h.trusts[0] = next;
	meet(&s, &h, &want, &p);
	must_say(&p.client_err, WR_E_DENIED,
		 "'alice' is refused: its certificate is not from a CA");
	must_say(&p.server_err, WR_E_DENIED, "it does not know the CA of this host's certificate");
	pair_fini(&p);
	/* And the other way round: the client hears of it when it reads. */
	h = s;
	h.trusts[0] = next;
	meet(&h, &c, &want, &p);
	must_say(&p.server_err, WR_E_DENIED, "is refused: its certificate is not from a CA");
	must_say(&p.client_err, WR_E_DENIED,
		 "'alice' refuses the connection: it does not know the CA of this host");
	pair_fini(&p);

	/* Both CAs are as good. */
	h.trusts[1] = ca;
	meet(&h, &c, &want, &p);
	assert_true(p.server && p.client);
	pair_fini(&p);
	h = s;
	h.by = next;
	meet(&h, &c, &want, &p);
	must_say(&p.client_err, WR_E_DENIED, "is refused");
	pair_fini(&p);
	{
		struct host both = c;

		both.trusts[1] = next;
		meet(&h, &both, &want, &p);
		assert_true(p.server && p.client);
		pair_fini(&p);
	}

	/* Another node, another incarnation of it. */
	want.node = &bob;
	meet(&s, &c, &want, &p);
	must_say(&p.client_err, WR_E_DENIED, "'alice' is refused: it is another node");
	must_say(&p.server_err, WR_E_DENIED, "this host is not whom it expects");
	pair_fini(&p);
	want.node = &later;
	meet(&s, &c, &want, &p);
	must_say(&p.client_err, WR_E_DENIED, "it is that node, but from before or after");
	pair_fini(&p);
	want.node = &any_inc;
	meet(&s, &c, &want, &p);
	assert_true(p.server && p.client);
	pair_fini(&p);
	meet(&s, &c, NULL, &p);
	assert_true(p.server && p.client);
	pair_fini(&p);

	/* Another fleet, even if its CA were known. */
	want.node = &alice;
	h = c;
	h.fleet = other_fleet;
	meet(&s, &h, &want, &p);
	must_say(&p.client_err, WR_E_DENIED, "it belongs to another fleet");
	pair_fini(&p);
	h = s;
	h.fleet = other_fleet;
	meet(&h, &c, &want, &p);
	must_say(&p.server_err, WR_E_DENIED, "it belongs to another fleet");
	must_say(&p.client_err, WR_E_DENIED, "refuses the connection");
	wr_ca_free(ca);
	wr_ca_free(next);
}

static void
test_dates(void **state)
{
	struct wr_ca *ca = new_ca(*state, "ca", &fleet);
	const struct host good = {.by = ca, .trusts = {ca}, .fleet = fleet, .id = alice};
	const struct wr_link_peer want = {.name = "n2"};
	struct wr_link_peer told = want;
	WR_SCOPED(pair_fini) struct pair p = {0};
	struct host expired = good, early = good;

	expired.made_at = -401 * DAY;
	early.made_at = 2 * DAY;
	meet(&expired, &good, &want, &p);
	must_say(&p.client_err, WR_E_DENIED, "the certificate of 'n2' expired at ");
	assert_non_null(strstr(p.client_err.hint, "warren join"));
	must_say(&p.server_err, WR_E_DENIED, "this host's certificate expired at ");
	pair_fini(&p);
	meet(&good, &expired, &want, &p);
	must_say(&p.server_err, WR_E_DENIED, "' expired at ");
	must_say(&p.client_err, WR_E_DENIED, "this host's certificate expired at ");
	pair_fini(&p);

	/* A HELLO told before that its clock is elsewhere. */
	told.clock_known = true;
	told.clock_ahead_s = -400 * DAY;
	meet(&expired, &good, &told, &p);
	must_say(&p.client_err, WR_E_DENIED, "this host's clock says ");
	must_say(&p.client_err, WR_E_DENIED, ", that of 'n2' says ");
	pair_fini(&p);

	meet(&early, &good, &want, &p);
	must_say(&p.client_err, WR_E_DENIED, "but the certificate of 'n2' was made for the time");
	must_say(&p.server_err, WR_E_DENIED, "but its own certificate was made for the time");
	pair_fini(&p);
	early.fleet_at = wr_clock_wall().s + 2 * DAY;
	early.made_at = 0;
	meet(&expired, &early, &want, &p);
	must_say(&p.client_err, WR_E_DENIED, "but the fleet record was signed at ");
	wr_ca_free(ca);
}

/* ---- with others' programs ---- */

/* A server in a thread: one connection, greeted. */
struct served {
	pthread_t thread;
	struct wr_tls *t;
	int listener;
	struct wr_addr at;
	struct wr_link *link;
	struct wr_err err;
};

static void *
serve_one(void *arg)
{
	struct served *s = arg;
	struct pollfd p = {.fd = s->listener, .events = POLLIN};
	int fd;

	if (poll(&p, 1, PATIENCE_MS) == 1) {
		fd = wr_link_accept(s->listener, NULL, &s->err);
		if (fd >= 0 && wr_link_serve(s->t, fd, &s->link, &s->err) == 0 &&
		    wr_link_greet(s->link, wr_deadline_ms(PATIENCE_MS), &s->err) < 0)
			wr_link_close(wr_steal(&s->link));
	}
	return NULL;
}

static void
serve_begin(struct served *s, const struct host *h)
{
	*s = (struct served){.t = tls_of(h)};
	s->listener = listen_here(&s->at);
	assert_int_equal(pthread_create(&s->thread, NULL, serve_one, s), 0);
}

/* The link, if there is one, stays. */
static void
serve_end(struct served *s)
{
	pthread_join(s->thread, NULL);
	wr_tls_free(s->t);
	close(s->listener);
}

static int
run(const char *const *argv, char *out, size_t size)
{
	struct wr_spawn s = WR_SPAWN_INIT;
	struct wr_err e = WR_ERR_INIT;
	int p[2], status;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	s.path = argv[0];
	s.argv = argv;
	s.fd[1] = s.fd[2] = p[1];
	if (wr_spawn(&s, &pid, &e) < 0)
		fail_msg("%s", e.msg);
	close(p[1]);
	n = wr_read_full(p[0], out, size - 1);
	assert_true(n >= 0);
	out[n] = '\0';
	close(p[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void
s_client(const struct served *s, const char *option, const char *value, char *out, size_t size)
{
	const struct wr_addr_text at = wr_addr_text(&s->at);
	const char *argv[] = {
	    "/usr/bin/openssl", "s_client", "-connect", at.s, option, value, NULL};

	(void)run(argv, out, size);
}

static void
test_s_client(void **state)
{
	struct wr_ca *ca = new_ca(*state, "ca", &fleet);
	const struct host h = {.by = ca, .trusts = {ca}, .fleet = fleet, .id = alice};
	struct served s;
	char out[32768];

	serve_begin(&s, &h);
	s_client(&s, "-tls1_2", NULL, out, sizeof(out));
	serve_end(&s);
	assert_non_null(strstr(out, "alert protocol version"));
	must_say(&s.err, WR_E_DENIED, "does not speak TLS 1.3");

	serve_begin(&s, &h);
	s_client(&s, "-alpn", "warren-peer/1", out, sizeof(out));
	serve_end(&s);
	assert_non_null(strstr(out, "TLSv1.3"));
	assert_non_null(strstr(out, "ALPN protocol: warren-peer/1"));
	must_say(&s.err, WR_E_DENIED, "it shows no certificate");

	serve_begin(&s, &h);
	s_client(&s, "-alpn", "h2", out, sizeof(out));
	serve_end(&s);
	assert_non_null(strstr(out, "no application protocol"));
	assert_int_equal(s.err.code, WR_E_FAILED);
	wr_ca_free(ca);
}

/* Bytes that are no TLS, before and within. */
static void
test_garbage(void **state)
{
	static const char *const bytes[] = {"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\xff\xff\x01",
					    "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00 ", "x"};
	struct wr_ca *ca = new_ca(*state, "ca", &fleet);
	const struct host h = {.by = ca, .trusts = {ca}, .fleet = fleet, .id = alice};
	struct served s;

	for (size_t i = 0; i < WR_ARRAY_LEN(bytes); i++) {
		int fd;

		serve_begin(&s, &h);
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(fd, (struct sockaddr *)&s.at.ss, s.at.len), 0);
		assert_int_equal(wr_write_all(fd, bytes[i], strlen(bytes[i])), 0);
		assert_int_equal(shutdown(fd, SHUT_WR), 0);
		serve_end(&s);
		close(fd);
		assert_null(s.link);
		assert_true(s.err.code == WR_E_FAILED || s.err.code == WR_E_DENIED);
		assert_null(strstr(s.err.msg, "Success"));
	}
	wr_ca_free(ca);
}

/* ---- frames ---- */

static void
test_frame_next(void **state)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_err e = WR_ERR_INIT;
	struct wr_frame f;
	size_t used = 0;

	(void)state;
	wr_frame_add(&b, WR_FRAME_STREAM_END, "abc", 3);
	wr_frame_add(&b, WR_FRAME_MSG, NULL, 0);
	for (size_t n = 0; n < 8; n++)
		assert_int_equal(wr_frame_next(b.p, n, &f, &used, &e), 0);
	assert_int_equal(wr_frame_next(b.p, b.len, &f, &used, &e), 1);
	assert_int_equal(used, 8);
	assert_int_equal(f.type, WR_FRAME_STREAM_END);
	assert_memory_equal(f.p, "abc", 3);
	assert_int_equal(wr_frame_next(b.p + used, b.len - used, &f, &used, &e), 1);
	assert_int_equal(f.len, 0);
	assert_int_equal(f.type, WR_FRAME_MSG);
	assert_int_equal(wr_frame_next("\0\0\0\0\0", 5, &f, &used, &e), -1);
	assert_int_equal(e.code, WR_E_INVALID);
	assert_int_equal(wr_frame_next("\0\0\0\0\7", 5, &f, &used, &e), -1);
	assert_int_equal(wr_frame_next("\0\x10\0\1\1", 5, &f, &used, &e), -1);
	must_say(&e, WR_E_INVALID, "a frame of 1048577 bytes");
	assert_int_equal(wr_frame_next("\0\x10\0\0\1", 5, &f, &used, &e), 0);
}

struct pump {
	struct wr_link *l;
	size_t frames, len;
	struct wr_err err;
	int rc;
};

static void *
pump_out(void *arg)
{
	struct pump *p = arg;
	uint8_t *bytes = wr_malloc(p->len + 1);

	for (size_t i = 0; p->rc == 0 && i < p->frames; i++) {
		memset(bytes, (int)(i & 0xff), p->len);
		p->rc = wr_link_frame_send(p->l, WR_FRAME_DATA, bytes, p->len,
					   wr_deadline_ms(PATIENCE_MS), &p->err);
	}
	free(bytes);
	return NULL;
}

static void
test_frames(void **state)
{
	static const struct {
		size_t frames, len;
	} runs[] = {{64, WR_FRAME_MAX}, {2000, 100}, {500, 0}, {100, 16379}, {100, 16380}};
	struct wr_ca *ca = new_ca(*state, "ca", &fleet);
	const struct host h = {.by = ca, .trusts = {ca}, .fleet = fleet, .id = alice};
	WR_SCOPED(wr_buf_fini) struct wr_buf got = WR_BUF_INIT;
	WR_SCOPED(pair_fini) struct pair p;
	struct wr_err e = WR_ERR_INIT;
	enum wr_frame_type type;

	meet(&h, &h, NULL, &p);
	wr_link_set_idle(p.server, PATIENCE_MS);
	wr_link_set_idle(p.client, PATIENCE_MS);
	for (size_t r = 0; r < WR_ARRAY_LEN(runs); r++) {
		struct pump out = {.l = p.client, .frames = runs[r].frames, .len = runs[r].len};
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, pump_out, &out), 0);
		for (size_t i = 0; i < runs[r].frames; i++) {
			if (wr_link_frame_recv(p.server, &type, &got, wr_deadline_ms(PATIENCE_MS),
					       &e) != 1)
				fail_msg("%s", e.msg);
			assert_int_equal(got.len, runs[r].len);
			for (size_t k = 0; k < got.len; k += 4093)
				assert_int_equal(got.p[k], i & 0xff);
		}
		pthread_join(thread, NULL);
		assert_int_equal(out.rc, 0);
	}
	assert_int_equal(wr_link_frame_send(p.client, WR_FRAME_DATA, "", WR_FRAME_MAX + 1, 0, &e),
			 -1);
	assert_int_equal(e.code, WR_E_LIMIT);
	wr_ca_free(ca);
}

/* The same without waiting: a loop over both ends, small buffers. */
static void
test_push_pull(void **state)
{
	struct wr_ca *ca = new_ca(*state, "ca", &fleet);
	const struct host h = {.by = ca, .trusts = {ca}, .fleet = fleet, .id = alice};
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf in = WR_BUF_INIT;
	WR_SCOPED(pair_fini) struct pair p;
	const size_t total = 5u << 20;
	struct wr_err e = WR_ERR_INIT;
	size_t off = 0, got = 0;
	bool blocked = false;

	meet(&h, &h, NULL, &p);
	for (size_t i = 0; i < total; i++)
		wr_buf_add8(&out, (uint8_t)(i * 7 >> 8));
	while (got < total) {
		const enum wr_link_io w = wr_link_push(p.client, &out, &off, &e);
		enum wr_link_io r;

		assert_true(w == WR_LINK_OK || w == WR_LINK_WAIT);
		if (w == WR_LINK_WAIT) {
			blocked = true;
			assert_int_equal(wr_link_wants(p.client, false, true), POLLOUT);
		}
		r = wr_link_pull(p.server, &in, 100000, &e);
		assert_true(r == WR_LINK_OK || r == WR_LINK_WAIT);
		assert_true(in.len <= 100000);
		for (size_t i = 0; i < in.len; i++)
			if (in.p[i] != (uint8_t)((got + i) * 7 >> 8))
				fail_msg("byte %zu is wrong", got + i);
		got += in.len;
		if (r == WR_LINK_WAIT && in.len == 0)
			poll_links(p.server, NULL);
		wr_buf_clear(&in);
	}
	assert_true(blocked);
	assert_int_equal(out.len, 0);
	assert_int_equal(off, 0);
	wr_link_close(wr_steal(&p.client));
	while (wr_link_pull(p.server, &in, 10, &e) == WR_LINK_WAIT)
		poll_links(p.server, NULL);
	assert_int_equal(wr_link_pull(p.server, &in, 10, &e), WR_LINK_END);
	wr_ca_free(ca);
}

static void
test_frames__bad(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		const char *what;
		enum wr_err_code code;
	} bad[] = {
	    {"\0\x10\0\1\1", 5, "a frame of 1048577 bytes", WR_E_INVALID},
	    {"\0\0\0\1\x63x", 6, "a frame of unknown type 99", WR_E_INVALID},
	    {"\0\0\0\5\1abc", 8, "ended the connection within a frame", WR_E_FAILED},
	    {"\0\0", 2, "ended the connection within a frame", WR_E_FAILED},
	};
	struct wr_ca *ca = new_ca(*state, "ca", &fleet);
	const struct host h = {.by = ca, .trusts = {ca}, .fleet = fleet, .id = alice};
	WR_SCOPED(wr_buf_fini) struct wr_buf got = WR_BUF_INIT;
	const uint64_t soon = wr_deadline_ms(PATIENCE_MS);
	WR_SCOPED(pair_fini) struct pair p = {0};
	struct wr_err e = WR_ERR_INIT;
	enum wr_frame_type type;

	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		meet(&h, &h, NULL, &p);
		assert_int_equal(wr_link_send(p.client, bad[i].bytes, bad[i].len, soon, &e), 0);
		wr_link_close(wr_steal(&p.client));
		assert_int_equal(wr_link_frame_recv(p.server, &type, &got, soon, &e), -1);
		must_say(&e, bad[i].code, bad[i].what);
		pair_fini(&p);
	}
	/* Hung up without goodbye. */
	meet(&h, &h, NULL, &p);
	assert_int_equal(shutdown(wr_link_fd(p.client), SHUT_WR), 0);
	assert_int_equal(wr_link_frame_recv(p.server, &type, &got, soon, &e), -1);
	must_say(&e, WR_E_FAILED, "cut the connection");
	assert_int_equal(wr_link_frame_recv(p.server, &type, &got, soon, &e), -1);
	must_say(&e, WR_E_FAILED, "is broken");
	wr_ca_free(ca);
}

/* ---- ends and deadlines ---- */

static void
test_gone(void **state)
{
	static uint8_t bytes[1 << 16];
	struct wr_ca *ca = new_ca(*state, "ca", &fleet);
	const struct host h = {.by = ca, .trusts = {ca}, .fleet = fleet, .id = alice};
	const uint64_t soon = wr_deadline_ms(PATIENCE_MS);
	WR_SCOPED(pair_fini) struct pair p;
	struct wr_err e = WR_ERR_INIT;
	int rc;

	/* The other end is gone while we write; SIGPIPE would end this program. */
	signal(SIGPIPE, SIG_DFL);
	meet(&h, &h, NULL, &p);
	wr_link_close(wr_steal(&p.server));
	do
		rc = wr_link_send(p.client, bytes, sizeof(bytes), soon, &e);
	while (rc == 0);
	assert_true(e.sys_errno == EPIPE || e.sys_errno == ECONNRESET);
	wr_ca_free(ca);
}

/* The last word arrives, whatever the other end had still to say. */
static void
test_finish(void **state)
{
	static uint8_t bytes[100000];
	struct wr_ca *ca = new_ca(*state, "ca", &fleet);
	const struct host h = {.by = ca, .trusts = {ca}, .fleet = fleet, .id = alice};
	WR_SCOPED(wr_buf_fini) struct wr_buf got = WR_BUF_INIT;
	const uint64_t soon = wr_deadline_ms(PATIENCE_MS);
	WR_SCOPED(pair_fini) struct pair p;
	struct wr_err e = WR_ERR_INIT;
	enum wr_frame_type type;

	meet(&h, &h, NULL, &p);
	assert_int_equal(wr_link_frame_send(p.server, WR_FRAME_MSG_REPLY, "end", 3, soon, &e), 0);
	assert_int_equal(wr_link_goodbye(p.server, &e), WR_LINK_OK);
	assert_int_equal(wr_link_send(p.client, bytes, sizeof(bytes), soon, &e), 0);
	assert_int_equal(wr_link_finish(p.server, wr_deadline_ms(50), &e), -1);
	assert_int_equal(e.sys_errno, ETIMEDOUT);
	assert_int_equal(wr_link_frame_recv(p.client, &type, &got, soon, &e), 1);
	assert_string_equal(wr_buf_str(&got), "end");
	assert_int_equal(wr_link_frame_recv(p.client, &type, &got, soon, &e), 0);
	wr_link_close(wr_steal(&p.client));
	assert_int_equal(wr_link_finish(p.server, soon, &e), 0);
	wr_ca_free(ca);
}

static void
test_deadlines(void **state)
{
	static uint8_t bytes[1 << 20];
	struct wr_ca *ca = new_ca(*state, "ca", &fleet);
	const struct host h = {.by = ca, .trusts = {ca}, .fleet = fleet, .id = alice};
	WR_SCOPED(wr_buf_fini) struct wr_buf got = WR_BUF_INIT;
	WR_SCOPED(pair_fini) struct pair p;
	struct wr_tls *t = tls_of(&h);
	struct wr_link *l = NULL;
	struct wr_err e = WR_ERR_INIT;
	enum wr_frame_type type;
	struct wr_addr at;
	int listener = listen_here(&at), fd, rc;

	/* One that takes connections and says nothing. */
	assert_int_equal(wr_link_connect(t, wr_addr_text(&at).s, NULL, wr_deadline_ms(50), &l, &e),
			 -1);
	assert_int_equal(e.sys_errno, ETIMEDOUT);
	must_say(&e, WR_E_SYS, "begin to speak TLS with '127.0.0.1:");
	fd = wr_link_accept(listener, NULL, &e);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(wr_link_accept(listener, NULL, &e), -1);
	assert_int_equal(e.code, WR_E_BUSY);
	/* And one that connects and says nothing. */
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&at.ss, at.len), 0);
	rc = wr_link_accept(listener, NULL, &e);
	assert_true(rc >= 0);
	assert_int_equal(wr_link_serve(t, rc, &l, &e), 0);
	assert_int_equal(wr_link_greet(l, wr_deadline_ms(50), &e), -1);
	assert_int_equal(e.sys_errno, ETIMEDOUT);
	wr_link_close(l);
	close(fd);
	close(listener);
	/* Nobody is there. */
	assert_int_equal(
	    wr_link_connect(t, wr_addr_text(&at).s, NULL, wr_deadline_ms(PATIENCE_MS), &l, &e), -1);
	assert_int_equal(e.sys_errno, ECONNREFUSED);
	must_say(&e, e.code, "connect to '127.0.0.1:");
	wr_tls_free(t);

	/* Silence after the handshake, within a frame, while the other end does not read. */
	meet(&h, &h, NULL, &p);
	assert_int_equal(wr_link_frame_recv(p.server, &type, &got, wr_deadline_ms(50), &e), -1);
	assert_int_equal(e.sys_errno, ETIMEDOUT);
	assert_int_equal(wr_link_send(p.client, "\0\0\1\0\1", 5, wr_deadline_ms(PATIENCE_MS), &e),
			 0);
	wr_link_set_idle(p.server, 50);
	assert_int_equal(wr_link_frame_recv(p.server, &type, &got, wr_deadline_ms(PATIENCE_MS), &e),
			 -1);
	assert_int_equal(e.sys_errno, ETIMEDOUT);
	must_say(&e, WR_E_SYS, "wait for '127.0.0.1:");
	wr_link_set_idle(p.client, 50);
	do
		rc = wr_link_frame_send(p.client, WR_FRAME_DATA, bytes, sizeof(bytes),
					wr_deadline_ms(PATIENCE_MS), &e);
	while (rc == 0);
	assert_int_equal(e.sys_errno, ETIMEDOUT);
	must_say(&e, WR_E_SYS, "send to '127.0.0.1:");
	wr_ca_free(ca);
}

static void
test_connect(void **state)
{
	struct wr_ca *ca = new_ca(*state, "ca", &fleet);
	const struct host h = {.by = ca, .trusts = {ca}, .fleet = fleet, .id = alice};
	struct wr_tls *t = tls_of(&h);
	struct wr_link *l = NULL;
	struct wr_err e = WR_ERR_INIT;
	char host[256], by_name[300];
	struct served s;
	uint16_t port;

	/* By name, which goes through the resolver. */
	serve_begin(&s, &h);
	assert_int_equal(wr_addr_parse(wr_addr_text(&s.at).s, host, &port, &e), 0);
	snprintf(by_name, sizeof(by_name), "localhost:%u", port);
	if (wr_link_connect(t, by_name, &(struct wr_link_peer){.node = &alice},
			    wr_deadline_ms(PATIENCE_MS), &l, &e) < 0)
		fail_msg("%s", e.msg);
	serve_end(&s);
	assert_non_null(s.link);
	wr_link_close(l);
	wr_link_close(s.link);
	wr_tls_free(t);
	wr_ca_free(ca);
}

/* ---- the HTTPS client ---- */

static void
test_https(void **state)
{
	struct wr_ca *ca = new_ca(*state, "ca", &fleet), *other = new_ca(*state, "other", &fleet);
	const struct wr_der good = wr_ca_cert(ca), bad = wr_ca_cert(other);
	const struct host h = {
	    .by = ca, .trusts = {other, ca}, .fleet = fleet, .id = alice, .https = true};
	struct wr_join_token token, wrong;
	const struct {
		const char *host;
		const struct wr_der *ca;
		const uint8_t *print;
		const char *refused; /* NULL: let in */
	} runs[] = {
	    {"127.0.0.1", &good, NULL, NULL},
	    {"localhost", &good, NULL, NULL},
	    {"127.0.0.1", NULL, token.ca_print, NULL},
	    {"127.0.0.1", &bad, NULL, "not from a CA of this fleet"},
	    {"127.0.0.1", NULL, NULL, "not from a CA of this fleet"},
	    {"127.0.0.1", NULL, wrong.ca_print, "whose fingerprint is expected"},
	    {"127.0.0.2", &good, NULL, "IP address mismatch"},
	    {"127.0.0.2", NULL, token.ca_print, "IP address mismatch"},
	};
	const uint64_t soon = wr_deadline_ms(PATIENCE_MS);

	wr_join_token_new(good, &token);
	wr_join_token_new(bad, &wrong);
	for (size_t i = 0; i < WR_ARRAY_LEN(runs); i++) {
		struct wr_https to = {.host = runs[i].host,
				      .ca = runs[i].ca,
				      .ca_count = runs[i].ca ? 1 : 0,
				      .ca_print = runs[i].print};
		struct wr_link *l = NULL;
		struct wr_err e = WR_ERR_INIT;
		struct wr_addr_text all;
		struct served s;
		char host[256], got[8];
		size_t n;

		s = (struct served){.t = tls_of(&h)};
		s.listener = wr_link_listen("0.0.0.0:0", &e);
		assert_int_equal(wr_link_local(s.listener, &s.at, &e), 0);
		all = wr_addr_text(&s.at);
		assert_int_equal(wr_addr_parse(all.s, host, &to.port, &e), 0);
		assert_int_equal(pthread_create(&s.thread, NULL, serve_one, &s), 0);
		if (runs[i].refused) {
			assert_int_equal(wr_https_connect(&to, soon, &l, &e), -1);
			must_say(&e, WR_E_DENIED, runs[i].refused);
			serve_end(&s);
			assert_null(s.link);
			continue;
		}
		if (wr_https_connect(&to, soon, &l, &e) < 0)
			fail_msg("%s", e.msg);
		serve_end(&s);
		assert_non_null(s.link);
		assert_null(wr_link_cert(s.link));
		assert_int_equal(wr_link_ca(l).len, good.len);
		assert_memory_equal(wr_link_ca(l).p, good.p, good.len);
		assert_true(wr_join_token_ca_ok(&token, wr_link_ca(l)));
		assert_int_equal(wr_link_send(l, "GET", 3, soon, &e), 0);
		assert_int_equal(wr_link_recv(s.link, got, sizeof(got), &n, soon, &e), 1);
		assert_int_equal(n, 3);
		wr_link_close(s.link);
		assert_int_equal(wr_link_recv(l, got, sizeof(got), &n, soon, &e), 0);
		wr_link_close(l);
	}
	/* A peer is no such server. */
	{
		struct host peer = h;
		struct wr_https to = {.host = "127.0.0.1", .ca = &good, .ca_count = 1};
		struct wr_link *l = NULL;
		struct wr_err e = WR_ERR_INIT;
		struct served s;
		char host[256];

		peer.https = false;
		serve_begin(&s, &peer);
		assert_int_equal(wr_addr_parse(wr_addr_text(&s.at).s, host, &to.port, &e), 0);
		assert_int_equal(wr_https_connect(&to, soon, &l, &e), -1);
		must_say(&e, WR_E_DENIED, "it does not speak this protocol there");
		serve_end(&s);
	}
	wr_ca_free(ca);
	wr_ca_free(other);
}

/* ---- addresses ---- */

static void
test_addr(void **state)
{
	static const struct {
		const char *s, *host;
		uint16_t port;
	} good[] = {{"a:1", "a", 1},
		    {"node-7.example.org:7400", "node-7.example.org", 7400},
		    {"10.0.0.1:65535", "10.0.0.1", 65535},
		    {"[::1]:80", "::1", 80},
		    {"[fe80::1%eth0]:80", "fe80::1%eth0", 80},
		    {"127.0.0.1:0", "127.0.0.1", 0}};
	static const char *const bad[] = {"",        "a",       ":1",       "a:",     "a:x",
					  "a:65536", "a:-1",    "a: 1",     "::1:80", "[::1]",
					  "[::1]80", "[::1:80", "[]:80",    "[a]:80", "a b:1",
					  "a:1:2",   "a/b:1",   "a:0000001"};
	struct wr_addr list[WR_ADDRS_MAX];
	struct wr_err e = WR_ERR_INIT;
	char host[256];
	uint16_t port;
	size_t n;

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(good); i++) {
		assert_int_equal(wr_addr_parse(good[i].s, host, &port, &e), 0);
		assert_string_equal(host, good[i].host);
		assert_int_equal(port, good[i].port);
		assert_string_equal(wr_addr_format(host, port).s, good[i].s);
	}
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		if (wr_addr_parse(bad[i], host, &port, &e) == 0)
			fail_msg("'%s' is taken", bad[i]);
		assert_int_equal(e.code, WR_E_INVALID);
	}
	assert_int_equal(wr_addr_resolve("[::1]:7", 0, list, &n, &e), 0);
	assert_int_equal(n, 1);
	assert_string_equal(wr_addr_text(&list[0]).s, "[::1]:7");
	assert_true(wr_addr_is_loopback(&list[0]));
	assert_int_equal(wr_addr_resolve("127.9.9.9:7", 0, list, &n, &e), 0);
	assert_true(wr_addr_is_loopback(&list[0]));
	assert_int_equal(wr_addr_resolve("0.0.0.0:7", 0, list, &n, &e), 0);
	assert_false(wr_addr_is_loopback(&list[0]));
	/* A deadline that has passed: nobody waits for the resolver. */
	assert_int_equal(wr_addr_resolve("nowhere.invalid:7", 0, list, &n, &e), -1);
	assert_int_equal(
	    wr_addr_resolve("nowhere.invalid:7", wr_deadline_ms(PATIENCE_MS), list, &n, &e), -1);
	assert_true(e.code == WR_E_NOT_FOUND || e.code == WR_E_FAILED);
}

static void
test_listen(void **state)
{
	struct wr_err e = WR_ERR_INIT;
	struct wr_addr at;
	int fd = listen_here(&at);

	(void)state;
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(wr_link_listen(wr_addr_text(&at).s, &e), -1);
	must_say(&e, WR_E_BUSY, "listen at '127.0.0.1:");
	close(fd);
	assert_int_equal(wr_link_listen("192.0.2.77:1", &e), -1);
	must_say(&e, WR_E_INVALID, "listen at '192.0.2.77:1'");
	/* An IPv6 listener leaves the port to an IPv4 one. */
	fd = wr_link_listen("[::]:0", &e);
	if (fd >= 0) {
		char v4[32];
		int other;

		assert_int_equal(wr_link_local(fd, &at, &e), 0);
		snprintf(v4, sizeof(v4), "0.0.0.0%s", strrchr(wr_addr_text(&at).s, ':'));
		other = wr_link_listen(v4, &e);
		assert_true(other >= 0 || e.code == WR_E_BUSY);
		close(other);
		close(fd);
	}
}

static void
test_flow(void **state)
{
	const uint64_t s = 1000000000u;
	struct wr_flow f = {.per_s = 1000}, none = {0};
	uint64_t now = 100 * s, sent = 0, wait;

	(void)state;
	assert_int_equal(wr_flow_take(&none, UINT64_MAX, now), 0);
	/* A quarter second's worth at once, then as fast as it may. */
	assert_int_equal(wr_flow_take(&f, 250, now), 0);
	assert_int_equal(wr_flow_take(&f, 100, now), s / 10);
	now += s / 10;
	for (const uint64_t end = now + 10 * s; now < end; now += wait ? wait : 1) {
		wait = wr_flow_take(&f, 64, now);
		sent += 64;
	}
	assert_true(sent >= 10000 && sent <= 10064);
	/* A long silence saves no more than that. */
	now += 1000 * s;
	assert_int_equal(wr_flow_take(&f, 250, now), 0);
	assert_true(wr_flow_take(&f, 1, now) > 0);
}

/* ---- with the clock elsewhere: this program again, under faketime ---- */

#define FAKETIME "/usr/bin/faketime"

/* What is preloaded does not go with a sanitizer. */
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED true
#else
#define SANITIZED false
#endif

/* What a host whose certificate lies in the directory hears when it speaks to itself. */
static int
speak_to_self(const char *path)
{
	WR_SCOPED(wr_secret_fini) struct wr_buf key = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf cert = WR_BUF_INIT;
	struct dir d = {.fd = wr_open_dir(AT_FDCWD, path)};
	struct wr_err e = WR_ERR_INIT;
	struct wr_ca *ca = NULL;
	struct wr_tls *t = NULL;
	struct wr_cert_info own;
	struct wr_der trusts;
	struct pair p;

	if (wr_ca_load(d.fd, "ca", &ca, &e) < 0 || wr_tls_key_load(d.fd, "tls.key", &key, &e) < 0 ||
	    wr_read_file(d.fd, "tls.crt", WR_CERT_BYTES, &cert, &e) < 0 ||
	    wr_cert_info(der(&cert), &own, &e) < 0)
		return 1;
	trusts = wr_ca_cert(ca);
	if (wr_tls_new(&(struct wr_tls_conf){.key_pem = der(&key),
					     .cert = der(&cert),
					     .ca = &trusts,
					     .ca_count = 1,
					     .fleet = fleet,
					     .fleet_at = own.not_before + WR_CERT_SLACK_S},
		       &t, &e) < 0)
		return 1;
	meet_as(t, t, &(struct wr_link_peer){.name = "n2"}, &p);
	printf("due %d client: %s server: %s\n", wr_cert_renew_due(&own, wr_clock_wall().s),
	       p.client_err.msg, p.server_err.msg);
	pair_fini(&p);
	wr_tls_free(t);
	wr_ca_free(ca);
	close(d.fd);
	return 0;
}

static void
test_faketime(void **state)
{
	static const struct {
		const char *shift, *want;
	} runs[] = {
	    {"+0d", "due 0 client:  server: "},
	    {"+99d", "due 0 client:  server: "},
	    {"+100d", "due 1 client:  server: "},
	    {"+399d", "due 1 client:  server: "},
	    {"+401d", "due 1 client: by this host's clock ("},
	    {"-30m", "due 0 client:  server: "},
	    {"-2d", "due 0 client: this host's clock says "},
	};
	const struct dir *d = *state;
	struct wr_ca *ca;
	WR_SCOPED(wr_secret_fini) struct wr_buf key = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf spki = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf cert = WR_BUF_INIT;
	struct wr_cert_ask ask = WR_CERT_ASK_INIT;
	struct wr_err e = WR_ERR_INIT;
	char self[4096] = "", out[8192];

	if (SANITIZED || access(FAKETIME, X_OK) < 0)
		skip();
	ca = new_ca(d, "ca", &fleet);
	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	assert_int_equal(wr_tls_key_new(d->fd, "tls.key", &key, &e), 0);
	assert_int_equal(wr_tls_key_spki(der(&key), &spki, &e), 0);
	ask.fleet = fleet;
	ask.node = alice;
	ask.spki = der(&spki);
	ask.now = wr_clock_wall().s;
	assert_int_equal(wr_cert_issue(ca, &ask, &cert, &e), 0);
	assert_int_equal(wr_replace_file(d->fd, "tls.crt", cert.p, cert.len, 0600, &e), 0);
	for (size_t i = 0; i < WR_ARRAY_LEN(runs); i++) {
		const char *const argv[] = {FAKETIME,      "-f", "--exclude-monotonic",
					    runs[i].shift, self, "speak-to-self",
					    d->path,       NULL};

		assert_int_equal(run(argv, out, sizeof(out)), 0);
		if (!strstr(out, runs[i].want))
			fail_msg("%s: '%s' is not in: %s", runs[i].shift, runs[i].want, out);
	}
	wr_ca_free(ca);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_good, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_dates, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_s_client, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_garbage, setup, teardown),
	    cmocka_unit_test(test_frame_next),
	    cmocka_unit_test_setup_teardown(test_frames, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_push_pull, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_frames__bad, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_gone, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_finish, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_deadlines, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_connect, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_https, setup, teardown),
	    cmocka_unit_test(test_addr),
	    cmocka_unit_test(test_listen),
	    cmocka_unit_test(test_flow),
	    cmocka_unit_test_setup_teardown(test_faketime, setup, teardown),
	};

	if (argc == 3 && strcmp(argv[1], "speak-to-self") == 0)
		return speak_to_self(argv[2]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

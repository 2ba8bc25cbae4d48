/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For the tests of @peer: a fleet of two nodes and a stranger, each with a process of its own
 * behind a real certificate. The test plays control at all of them.
 */
#ifndef WR_TEST_PEER_H
#define WR_TEST_PEER_H

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fleet/trust/test_trust.h"
#include "serve/peer/peer_int.h"
#include "sys/clock.h"
#include "sys/fs.h"
#include "sys/proc.h"
#include "sys/sandbox.h"
#include "sys/sock.h"
#include "sys/test_dir.h"

#ifdef __SANITIZE_ADDRESS__
void __lsan_do_leak_check(void);
#define SANITIZED true
#else
#define __lsan_do_leak_check() ((void)0)
#define SANITIZED false
#endif

/* Nothing here takes longer, unless it is broken. */
#define PATIENCE_MS 20000
#define MIB (1u << 20)

enum { A, B, STRANGER, NODES };

struct node {
	struct wr_node_id id;
	struct wr_buf key, cert;
	int channel;
	pid_t pid;
	struct wr_addr_text at;
};

struct fixture {
	struct dir *dir;
	struct wr_uuid fleet;
	struct wr_buf ca;
	struct node node[NODES];
};

/* ---- a fleet ---- */

static inline void
must(int rc, const struct wr_err *err)
{
	if (rc < 0)
		fail_msg("%s", err->msg);
}

static inline void
make_node(struct fixture *f, const struct wr_ca *ca, struct node *n)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf spki = WR_BUF_INIT;
	struct wr_cert_ask ask = WR_CERT_ASK_INIT;
	struct wr_err err = WR_ERR_INIT;

	wr_uuid_new(&n->id.id);
	n->id.inc = 1;
	n->channel = -1;
	must(wr_tls_key_make(&n->key, &err), &err);
	must(wr_tls_key_spki(der(&n->key), &spki, &err), &err);
	ask.fleet = f->fleet;
	ask.node = n->id;
	ask.spki = der(&spki);
	ask.now = wr_clock_wall().s;
	must(wr_cert_issue(ca, &ask, &n->cert, &err), &err);
}

static inline void
make_fleet(struct fixture *f)
{
	struct wr_err err = WR_ERR_INIT;
	struct wr_ca *ca = NULL, *other = NULL;

	wr_uuid_new(&f->fleet);
	must(wr_ca_new(f->dir->fd, "ca", &f->fleet, &err), &err);
	must(wr_ca_load(f->dir->fd, "ca", &ca, &err), &err);
	wr_buf_add(&f->ca, wr_ca_cert(ca).p, wr_ca_cert(ca).len);
	make_node(f, ca, &f->node[A]);
	make_node(f, ca, &f->node[B]);
	/* Says that it is of this fleet, by a CA that is not. */
	must(wr_ca_new(f->dir->fd, "other", &f->fleet, &err), &err);
	must(wr_ca_load(f->dir->fd, "other", &other, &err), &err);
	make_node(f, other, &f->node[STRANGER]);
	wr_ca_free(ca);
	wr_ca_free(other);
}

/* ---- processes ---- */

static inline struct wr_peer_opts
usual(void)
{
	struct wr_peer_opts o = WR_PEER_OPTS_INIT;

	o.sandbox = !SANITIZED; /* a leak check cannot work behind it */
	return o;
}

static inline void
tell(struct node *n, const struct wr_peer_msg *m)
{
	struct wr_err err = WR_ERR_INIT;

	must(wr_peer_send(n->channel, m, &err), &err);
}

/* Everyone of the fleet but the one at `without` (-1: none). */
static inline void
set_up(struct fixture *f, struct node *n, int without)
{
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg m = WR_PEER_MSG_INIT;
	struct wr_peer_setup s = {.self = n->id, .key_pem = n->key, .cert_der = n->cert};
	struct wr_node_id nodes[NODES];

	memcpy(s.fleet, f->fleet.s, sizeof(s.fleet));
	s.ca_der[0] = f->ca;
	s.node = nodes;
	for (int i = 0; i < NODES; i++)
		if (i != without)
			nodes[s.node_count++] = f->node[i].id;
	m.type = WR_PEER_SETUP;
	wr_peer_setup_encode(&s, &m.payload);
	tell(n, &m);
}

static inline void
start(struct fixture *f, int which, const struct wr_peer_opts *o)
{
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg m = WR_PEER_MSG_INIT;
	struct node *n = &f->node[which];
	struct wr_err err = WR_ERR_INIT;
	struct wr_addr at;
	int s[2];

	must(wr_msg_pair(s, &err), &err);
	n->pid = fork();
	assert_true(n->pid >= 0);
	if (n->pid == 0) {
		int rc;

		close(s[1]);
		for (int i = 0; i < NODES; i++)
			if (f->node[i].channel >= 0)
				close(f->node[i].channel);
		rc = wr_peer_serve(s[0], o, &err);
		if (rc < 0)
			fprintf(stderr, "# peer: %s\n", err.msg);
		for (int i = 0; i < NODES; i++) {
			wr_buf_fini(&f->node[i].key);
			wr_buf_fini(&f->node[i].cert);
		}
		__lsan_do_leak_check();
		_exit(rc < 0);
	}
	close(s[0]);
	n->channel = s[1];
	set_up(f, n, -1);
	m.type = WR_PEER_LISTEN;
	m.fd = wr_link_listen("127.0.0.1:0", &err);
	must(m.fd, &err);
	must(wr_link_local(m.fd, &at, &err), &err);
	n->at = wr_addr_text(&at);
	tell(n, &m);
}

/* The exit status, once it ends by itself. */
static inline int
wait_end(struct node *n)
{
	int status = -1;

	for (int ms = 0; ms < PATIENCE_MS; ms += 5) {
		if (waitpid(n->pid, &status, WNOHANG) == n->pid) {
			n->pid = 0;
			return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
		}
		poll(NULL, 0, 5);
	}
	return -1;
}

static inline int
stop(struct node *n)
{
	int rc = 0;

	wr_closep(&n->channel);
	if (n->pid) {
		rc = wait_end(n);
		if (rc == -1) {
			kill(n->pid, SIGKILL);
			waitpid(n->pid, NULL, 0);
			n->pid = 0;
		}
	}
	return rc;
}

static inline int
begin(void **state)
{
	struct fixture *f = wr_calloc(1, sizeof(*f));
	void *dir = NULL;

	if (setup(&dir) < 0)
		return -1;
	f->dir = dir;
	make_fleet(f);
	*state = f;
	return 0;
}

static inline int
begin_both(void **state)
{
	struct wr_peer_opts o = usual();

	if (begin(state) < 0)
		return -1;
	start(*state, A, &o);
	start(*state, B, &o);
	return 0;
}

static inline int
end(void **state)
{
	struct fixture *f = *state;
	void *dir = f->dir;
	int rc = 0;

	for (int i = 0; i < NODES; i++) {
		rc |= stop(&f->node[i]);
		wr_buf_fini(&f->node[i].key);
		wr_buf_fini(&f->node[i].cert);
	}
	wr_buf_fini(&f->ca);
	free(f);
	return teardown(&dir) | rc;
}

/* ---- control's side ---- */

/* The next message that is no remark, within ms; type 0: none. */
static inline struct wr_peer_msg
next_within(struct node *n, int ms)
{
	uint64_t end_ns = wr_clock_mono_ns() + (uint64_t)ms * 1000000;
	struct wr_err err = WR_ERR_INIT;

	for (;;) {
		uint64_t now = wr_clock_mono_ns();
		int left = now < end_ns ? (int)((end_ns - now) / 1000000) : 0;
		struct pollfd p = {n->channel, POLLIN, 0};
		struct wr_peer_msg m = WR_PEER_MSG_INIT;

		if (poll(&p, 1, left) != 1)
			return m;
		if (wr_peer_recv(n->channel, true, &m, &err) != 1)
			fail_msg("control: %s", err.msg);
		if (m.type != WR_PEER_NOTE)
			return m;
		print_message("# note: %s\n", m.text);
		wr_peer_msg_fini(&m);
	}
}

static inline struct wr_peer_msg
next(struct node *n, enum wr_peer_type type)
{
	struct wr_peer_msg m = next_within(n, PATIENCE_MS);

	if (m.type != type)
		fail_msg("message %d instead of %d: %s", m.type, type, m.text ? m.text : "");
	return m;
}

/* A remark that speaks of it; others are left out. */
static inline void
expect_note(struct node *n, const char *about)
{
	struct wr_err err = WR_ERR_INIT;

	for (;;) {
		WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg m = WR_PEER_MSG_INIT;
		struct pollfd p = {n->channel, POLLIN, 0};

		assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
		assert_int_equal(wr_peer_recv(n->channel, true, &m, &err), 1);
		assert_int_equal(m.type, WR_PEER_NOTE);
		print_message("# note: %s\n", m.text);
		if (strstr(m.text, about))
			return;
	}
}

static inline void
send_to(struct node *n, uint32_t id, const char *address, const struct wr_node_id *node,
	uint32_t timeout_ms, const void *p, size_t len)
{
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg m = WR_PEER_MSG_INIT;

	m.type = WR_PEER_SEND;
	m.id = id;
	m.timeout_ms = timeout_ms;
	assert_true(strlen(address) < sizeof(m.address));
	memcpy(m.address, address, strlen(address) + 1);
	m.node = *node;
	wr_buf_add(&m.payload, p, len);
	tell(n, &m);
}

/* A to B, for ten seconds. */
static inline void
ask(struct fixture *f, uint32_t id, const char *s)
{
	send_to(&f->node[A], id, f->node[B].at.s, &f->node[B].id, 10000, s, strlen(s));
}

static inline void
put(struct node *n, enum wr_peer_type type, uint32_t conn, uint32_t seq, const void *p, size_t len)
{
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg m = WR_PEER_MSG_INIT;

	m.type = type;
	m.conn = conn;
	m.seq = seq;
	wr_buf_add(&m.payload, p, len);
	tell(n, &m);
}

static inline void
reply(struct node *n, const struct wr_peer_msg *call, const char *s)
{
	put(n, WR_PEER_REPLY, call->conn, call->seq, s, strlen(s));
}

static inline void
is(const struct wr_peer_msg *m, const char *s)
{
	assert_int_equal(m->payload.len, strlen(s));
	assert_memory_equal(m->payload.p, s, strlen(s));
}

static inline void
expect_answer(struct node *n, uint32_t id, const char *s)
{
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg m = next(n, WR_PEER_ANSWER);

	assert_int_equal(m.id, id);
	is(&m, s);
}

/* Its failure; how long it took at most. */
static inline enum wr_err_code
expect_failed(struct node *n, uint32_t id, int ms)
{
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg m = next_within(n, ms);

	assert_int_equal(m.type, WR_PEER_FAILED);
	assert_int_equal(m.id, id);
	assert_true(*m.text);
	print_message("# failed: %s%s%s\n", m.text, *m.hint ? "; " : "", m.hint);
	return m.code;
}

/* One call there and back. */
static inline void
round_trip(struct fixture *f, uint32_t id)
{
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg call = WR_PEER_MSG_INIT;

	ask(f, id, "question");
	call = next(&f->node[B], WR_PEER_CALL);
	is(&call, "question");
	reply(&f->node[B], &call, "answer");
	expect_answer(&f->node[A], id, "answer");
}

static inline uint64_t
rss(const struct node *n)
{
	uint64_t bytes = 0;
	double cpu;

	assert_true(wr_proc_usage(n->pid, &bytes, &cpu));
	return bytes;
}

/* Bytes that tell where they belong. */
static inline void
pattern(uint8_t *p, size_t len, uint64_t off, uint8_t salt)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)((off + i) * 2654435761u >> 13) ^ salt;
}

static inline struct wr_tls *
tls_of(struct fixture *f, const struct node *n)
{
	struct wr_der ca = der(&f->ca);
	struct wr_tls_conf c = {.key_pem = der(&n->key),
				.cert = der(&n->cert),
				.ca = &ca,
				.ca_count = 1,
				.fleet = f->fleet};
	struct wr_err err = WR_ERR_INIT;
	struct wr_tls *t = NULL;

	must(wr_tls_new(&c, &t, &err), &err);
	return t;
}

#endif

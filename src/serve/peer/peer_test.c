/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real @peer processes of two nodes with certificates of one fleet, on 127.0.0.1; the test plays
 * control at both, and strangers.
 */
#include "serve/peer/peer_int.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fleet/link/stream.h"
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

static void
must(int rc, const struct wr_err *err)
{
	if (rc < 0)
		fail_msg("%s", err->msg);
}

static struct wr_der
der(const struct wr_buf *b)
{
	return (struct wr_der){b->p, b->len};
}

static void
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

static void
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

static struct wr_peer_opts
usual(void)
{
	struct wr_peer_opts o = WR_PEER_OPTS_INIT;

	o.sandbox = !SANITIZED; /* a leak check cannot work behind it */
	return o;
}

static void
tell(struct node *n, const struct wr_peer_msg *m)
{
	struct wr_err err = WR_ERR_INIT;

	must(wr_peer_send(n->channel, m, &err), &err);
}

/* Everyone of the fleet but the one at `without` (-1: none). */
static void
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

static void
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
static int
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

static int
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

static int
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

static int
begin_both(void **state)
{
	struct wr_peer_opts o = usual();

	if (begin(state) < 0)
		return -1;
	start(*state, A, &o);
	start(*state, B, &o);
	return 0;
}

static int
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
static struct wr_peer_msg
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

static struct wr_peer_msg
next(struct node *n, enum wr_peer_type type)
{
	struct wr_peer_msg m = next_within(n, PATIENCE_MS);

	if (m.type != type)
		fail_msg("message %d instead of %d: %s", m.type, type, m.text ? m.text : "");
	return m;
}

/* A remark that speaks of it; others are left out. */
static void
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

static void
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
static void
ask(struct fixture *f, uint32_t id, const char *s)
{
	send_to(&f->node[A], id, f->node[B].at.s, &f->node[B].id, 10000, s, strlen(s));
}

static void
put(struct node *n, enum wr_peer_type type, uint32_t conn, uint32_t seq, const void *p, size_t len)
{
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg m = WR_PEER_MSG_INIT;

	m.type = type;
	m.conn = conn;
	m.seq = seq;
	wr_buf_add(&m.payload, p, len);
	tell(n, &m);
}

static void
reply(struct node *n, const struct wr_peer_msg *call, const char *s)
{
	put(n, WR_PEER_REPLY, call->conn, call->seq, s, strlen(s));
}

static void
is(const struct wr_peer_msg *m, const char *s)
{
	assert_int_equal(m->payload.len, strlen(s));
	assert_memory_equal(m->payload.p, s, strlen(s));
}

static void
expect_answer(struct node *n, uint32_t id, const char *s)
{
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg m = next(n, WR_PEER_ANSWER);

	assert_int_equal(m.id, id);
	is(&m, s);
}

/* Its failure; how long it took at most. */
static enum wr_err_code
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
static void
round_trip(struct fixture *f, uint32_t id)
{
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg call = WR_PEER_MSG_INIT;

	ask(f, id, "question");
	call = next(&f->node[B], WR_PEER_CALL);
	is(&call, "question");
	reply(&f->node[B], &call, "answer");
	expect_answer(&f->node[A], id, "answer");
}

static uint64_t
rss(const struct node *n)
{
	uint64_t bytes = 0;
	double cpu;

	assert_true(wr_proc_usage(n->pid, &bytes, &cpu));
	return bytes;
}

/* Bytes that tell where they belong. */
static void
pattern(uint8_t *p, size_t len, uint64_t off, uint8_t salt)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)((off + i) * 2654435761u >> 13) ^ salt;
}

/* ---- calls ---- */

static void
test_call_and_answer(void **state)
{
	struct fixture *f = *state;

	for (uint32_t i = 1; i <= 5; i++)
		round_trip(f, i);
}

static void
test_names_are_looked_up(void **state)
{
	struct fixture *f = *state;
	WR_SCOPED(wr_freep)
	char *at = wr_asprintf("localhost:%s", strrchr(f->node[B].at.s, ':') + 1);
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg call = WR_PEER_MSG_INIT;

	send_to(&f->node[A], 1, at, &f->node[B].id, 10000, "q", 1);
	call = next(&f->node[B], WR_PEER_CALL);
	reply(&f->node[B], &call, "a");
	expect_answer(&f->node[A], 1, "a");
	send_to(&f->node[A], 2, "no-such-host.invalid:1", &f->node[B].id, 10000, "q", 1);
	(void)expect_failed(&f->node[A], 2, PATIENCE_MS);
	send_to(&f->node[A], 3, "no-port", &f->node[B].id, 10000, "q", 1);
	assert_int_equal(expect_failed(&f->node[A], 3, PATIENCE_MS), WR_E_INVALID);
}

/* However control takes its time, each question gets its own answer. */
static void
test_answers_out_of_order(void **state)
{
	struct fixture *f = *state;
	struct wr_peer_msg call[WR_PEER_CALLS];
	unsigned seen = 0;

	for (uint32_t i = 0; i < WR_PEER_CALLS; i++) {
		char s[16];

		snprintf(s, sizeof(s), "%u", i);
		ask(f, i, s);
	}
	for (int i = 0; i < WR_PEER_CALLS; i++)
		call[i] = next(&f->node[B], WR_PEER_CALL);
	for (int i = WR_PEER_CALLS - 1; i >= 0; i--) {
		put(&f->node[B], WR_PEER_REPLY, call[i].conn, call[i].seq, call[i].payload.p,
		    call[i].payload.len);
		wr_peer_msg_fini(&call[i]);
	}
	for (int i = 0; i < WR_PEER_CALLS; i++) {
		WR_SCOPED(wr_peer_msg_fini)
		struct wr_peer_msg m = next(&f->node[A], WR_PEER_ANSWER);

		assert_int_equal(strtoul(wr_buf_str(&m.payload), NULL, 10), m.id);
		seen |= 1u << m.id;
	}
	assert_int_equal(seen, (1u << WR_PEER_CALLS) - 1);
}

static void
test_a_mebibyte_there_and_back(void **state)
{
	struct fixture *f = *state;
	WR_SCOPED(wr_freep) uint8_t *p = wr_malloc(MIB);

	pattern(p, MIB, 0, 1);
	for (uint32_t i = 0; i < 4; i++) {
		WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg call = WR_PEER_MSG_INIT;
		WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg answer = WR_PEER_MSG_INIT;

		send_to(&f->node[A], i, f->node[B].at.s, &f->node[B].id, 10000, p, MIB);
		call = next(&f->node[B], WR_PEER_CALL);
		assert_int_equal(call.payload.len, MIB);
		put(&f->node[B], WR_PEER_REPLY, call.conn, call.seq, call.payload.p, MIB);
		answer = next(&f->node[A], WR_PEER_ANSWER);
		assert_int_equal(answer.payload.len, MIB);
		assert_memory_equal(answer.payload.p, p, MIB);
	}
}

/* B's control echoes what is there now. */
static void
echo(struct node *n, int ms)
{
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg m = next_within(n, ms);

	if (m.type != WR_PEER_CALL)
		return;
	put(n, WR_PEER_REPLY, m.conn, m.seq, m.payload.p, m.payload.len);
}

static void
test_a_thousand_at_once(void **state)
{
	struct fixture *f = *state;
	struct node *a = &f->node[A], *b = &f->node[B];
	bool seen[1000] = {false};

	for (uint32_t i = 0; i < 1000; i++) {
		char s[16];

		snprintf(s, sizeof(s), "%u", i);
		send_to(a, i, b->at.s, &b->id, 20000, s, strlen(s));
	}
	for (int done = 0; done < 1000;) {
		struct pollfd p[2] = {{a->channel, POLLIN, 0}, {b->channel, POLLIN, 0}};

		assert_true(poll(p, 2, PATIENCE_MS) > 0);
		if (p[1].revents)
			echo(b, 0);
		if (p[0].revents) {
			WR_SCOPED(wr_peer_msg_fini)
			struct wr_peer_msg m = next(a, WR_PEER_ANSWER);

			assert_int_equal(strtoul(wr_buf_str(&m.payload), NULL, 10), m.id);
			assert_false(seen[m.id]);
			seen[m.id] = true;
			done++;
		}
	}
}

/* Whoever does not read his channel makes others wait, not us grow. */
static void
test_a_control_that_does_not_read(void **state)
{
	struct fixture *f = *state;
	struct node *a = &f->node[A], *b = &f->node[B];
	enum { COUNT = 200 };
	WR_SCOPED(wr_freep) uint8_t *p = wr_malloc(256u << 10);
	uint64_t before = rss(b);
	int answered = 0;

	pattern(p, 256u << 10, 0, 2);
	for (uint32_t i = 0; i < COUNT; i++)
		send_to(a, i, b->at.s, &b->id, 60000, p, 256u << 10);
	poll(NULL, 0, 1000); /* time to do wrong */
	assert_true(rss(b) < before + 32 * MIB || SANITIZED);
	while (answered < COUNT) {
		struct pollfd q[2] = {{a->channel, POLLIN, 0}, {b->channel, POLLIN, 0}};

		assert_true(poll(q, 2, PATIENCE_MS) > 0);
		if (q[1].revents)
			echo(b, 0);
		if (q[0].revents) {
			WR_SCOPED(wr_peer_msg_fini)
			struct wr_peer_msg m = next(a, WR_PEER_ANSWER);

			assert_memory_equal(m.payload.p, p, 256u << 10);
			answered++;
		}
	}
}

static void
test_more_than_may_wait(void **state)
{
	struct fixture *f = *state;
	struct node *a = &f->node[A], *b = &f->node[B];
	WR_SCOPED(wr_freep) uint8_t *p = wr_calloc(1, MIB);
	int refused = 0;

	for (uint32_t i = 0; i < 200; i++)
		send_to(a, i, b->at.s, &b->id, 1500, p, MIB);
	for (int i = 0; i < 200; i++) {
		WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg m = next(a, WR_PEER_FAILED);

		refused += m.code == WR_E_LIMIT;
	}
	assert_true(refused >= 50 && refused < 190);
	assert_true(rss(a) < 200 * MIB || SANITIZED);
}

static void
test_no_answer_in_time(void **state)
{
	struct fixture *f = *state;
	struct node *a = &f->node[A], *b = &f->node[B];
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg call = WR_PEER_MSG_INIT;

	send_to(a, 1, b->at.s, &b->id, 200, "slow", 4);
	call = next(b, WR_PEER_CALL);
	(void)expect_failed(a, 1, 2000);
	/* It comes late, and is nobody's. */
	reply(b, &call, "late");
	round_trip(f, 2);
	assert_int_equal(next_within(a, 50).type, 0);
}

static void
test_killed_while_asked(void **state)
{
	struct fixture *f = *state;
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg call = WR_PEER_MSG_INIT;
	struct wr_peer_opts o = usual();

	ask(f, 1, "question");
	call = next(&f->node[B], WR_PEER_CALL);
	assert_int_equal(kill(f->node[B].pid, SIGKILL), 0);
	(void)expect_failed(&f->node[A], 1, 2000);
	(void)stop(&f->node[B]);
	ask(f, 2, "question");
	(void)expect_failed(&f->node[A], 2, 2000);
	start(f, B, &o);
	round_trip(f, 3);
}

/* SYN accepted, nothing said. */
static void
test_half_open(void **state)
{
	struct fixture *f = *state;
	struct wr_peer_opts o = usual();
	struct wr_err err = WR_ERR_INIT;
	WR_SCOPED(wr_closep) int fd = wr_link_listen("127.0.0.1:0", &err);
	struct wr_addr at;

	must(fd, &err);
	must(wr_link_local(fd, &at, &err), &err);
	o.connect_ms = 300;
	start(f, A, &o);
	send_to(&f->node[A], 1, wr_addr_text(&at).s, &f->node[B].id, 60000, "q", 1);
	(void)expect_failed(&f->node[A], 1, 3000);
	/* Or the patience of the request ends first. */
	send_to(&f->node[A], 2, wr_addr_text(&at).s, &f->node[B].id, 50, "q", 1);
	(void)expect_failed(&f->node[A], 2, 250);
}

static void
test_idle_connections_end(void **state)
{
	struct fixture *f = *state;
	struct wr_peer_opts o = usual();

	o.idle_ms = 100;
	o.keep_ms = 10000;
	start(f, A, &o);
	start(f, B, &o);
	for (uint32_t i = 0; i < 3; i++) {
		round_trip(f, i);
		poll(NULL, 0, 300); /* B ends it; A learns that before the next request */
	}
}

static int
dial(const struct node *n)
{
	struct wr_err err = WR_ERR_INIT;
	struct wr_addr at[WR_ADDRS_MAX];
	size_t count;
	int fd;

	must(wr_addr_resolve(n->at.s, wr_deadline_ms(1000), at, &count, &err), &err);
	fd = socket(at[0].ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)&at[0].ss, at[0].len), 0);
	return fd;
}

/* Who has nothing to do does nothing, whatever the others are about. */
static void
test_no_work_no_time(void **state)
{
	struct fixture *f = *state;
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg call = WR_PEER_MSG_INIT;
	WR_UNUSED WR_SCOPED(wr_closep) int silent = dial(&f->node[B]);
	double before, after;
	uint64_t bytes;

	round_trip(f, 1);
	ask(f, 2, "question");
	call = next(&f->node[B], WR_PEER_CALL);
	for (int i = A; i <= B; i++) {
		assert_true(wr_proc_usage(f->node[i].pid, &bytes, &before));
		poll(NULL, 0, 500);
		assert_true(wr_proc_usage(f->node[i].pid, &bytes, &after));
		assert_true(after - before < 0.05);
	}
}

static void
test_walls(void **state)
{
	struct fixture *f = *state;
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	char name[64];

	if (SANITIZED || !(wr_sandbox_available() & WR_WALL_SECCOMP))
		skip();
	round_trip(f, 1);
	snprintf(name, sizeof(name), "/proc/%d/status", f->node[B].pid);
	must(wr_read_file(AT_FDCWD, name, MIB, &b, &err), &err);
	assert_non_null(strstr(wr_buf_str(&b), "\nNoNewPrivs:\t1\n"));
	assert_non_null(strstr(wr_buf_str(&b), "\nSeccomp:\t2\n"));
}

/* ---- who may ---- */

static void
test_a_removed_node(void **state)
{
	struct fixture *f = *state;

	round_trip(f, 1);
	set_up(f, &f->node[B], A);
	/* The connection that is there ends, the next one is refused. */
	poll(NULL, 0, 100);
	ask(f, 2, "question");
	(void)expect_failed(&f->node[A], 2, 5000);
	expect_note(&f->node[B], "of the fleet");
	assert_int_equal(next_within(&f->node[B], 50).type, 0);
	set_up(f, &f->node[B], -1);
	round_trip(f, 3);
}

static void
test_another_ones_certificate(void **state)
{
	struct fixture *f = *state;
	struct wr_peer_opts o = usual();

	start(f, STRANGER, &o);
	send_to(&f->node[STRANGER], 1, f->node[B].at.s, &f->node[B].id, 5000, "q", 1);
	assert_int_equal(expect_failed(&f->node[STRANGER], 1, 5000), WR_E_DENIED);
	send_to(&f->node[A], 2, f->node[STRANGER].at.s, &f->node[STRANGER].id, 5000, "q", 1);
	assert_int_equal(expect_failed(&f->node[A], 2, 5000), WR_E_DENIED);
	/* The right fleet, the wrong node. */
	send_to(&f->node[A], 3, f->node[B].at.s, &f->node[STRANGER].id, 5000, "q", 1);
	assert_int_equal(expect_failed(&f->node[A], 3, 5000), WR_E_DENIED);
	expect_note(&f->node[STRANGER], "refused");
	round_trip(f, 4);
}

/* ---- strangers and worse ---- */

static struct wr_tls *
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

/* A speaks for itself to B. */
static struct wr_link *
link_to_b(struct fixture *f)
{
	const struct wr_link_peer peer = {.node = &f->node[B].id};
	struct wr_tls *t = tls_of(f, &f->node[A]);
	struct wr_err err = WR_ERR_INIT;
	struct wr_link *l = NULL;

	must(wr_link_connect(t, f->node[B].at.s, &peer, wr_deadline_ms(5000), &l, &err), &err);
	wr_tls_free(t);
	return l;
}

/* It hangs up. */
static void
expect_cut(int fd)
{
	char c[4096];
	ssize_t n;

	do {
		struct pollfd p = {fd, POLLIN, 0};

		assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
		n = recv(fd, c, sizeof(c), MSG_DONTWAIT);
	} while (n > 0 || (n < 0 && errno == EAGAIN));
}

static void
test_garbage_instead_of_tls(void **state)
{
	struct fixture *f = *state;
	uint8_t junk[4096];

	for (uint32_t i = 0; i < 20; i++) {
		WR_SCOPED(wr_closep) int fd = dial(&f->node[B]);

		pattern(junk, sizeof(junk), i * 7919, (uint8_t)i);
		(void)!send(fd, junk, sizeof(junk), MSG_NOSIGNAL);
		expect_cut(fd);
	}
	round_trip(f, 1);
}

static void
test_garbage_instead_of_frames(void **state)
{
	static const struct {
		const char *p;
		size_t len;
	} t[] = {
	    {"\xff\xff\xff\xff\x01", 5},            /* too long */
	    {"\0\0\0\0\x63", 5},                    /* no such type */
	    {"\0\0\0\0\x01", 5},                    /* an empty envelope */
	    {"\0\0\0\x01\x02x", 6},                 /* an answer to nothing */
	    {"\0\0\0\x01\x05x", 6},                 /* bytes of no stream */
	    {"\0\0\0\0\x04", 5},                    /* a stream that begins by itself */
	    {"\0\0\0\x01\x01x\0\0\0\x01\x03y", 12}, /* a stream behind a call */
	};
	struct fixture *f = *state;
	struct wr_err err = WR_ERR_INIT;

	for (size_t i = 0; i < WR_ARRAY_LEN(t); i++) {
		struct wr_link *l = link_to_b(f);

		must(wr_link_send(l, t[i].p, t[i].len, wr_deadline_ms(5000), &err), &err);
		expect_cut(wr_link_fd(l));
		wr_link_close(l);
	}
	for (bool more = true; more;) {
		WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg m = next_within(&f->node[B], 50);

		more = m.type != 0;
	}
	round_trip(f, 1);
}

/* Connections that say nothing, many more than are allowed; those who have something to say still
 * come through. */
static void
test_a_flood(void **state)
{
	struct fixture *f = *state;
	enum { COUNT = 700 };
	int fd[COUNT];

	for (int i = 0; i < COUNT; i++) {
		fd[i] = dial(&f->node[B]);
		if (i % 100 == 0) {
			round_trip(f, (uint32_t)i);
			wr_link_close(link_to_b(f));
		}
	}
	for (uint32_t i = 0; i < 10; i++)
		round_trip(f, 1000 + i);
	for (int i = 0; i < COUNT; i++)
		close(fd[i]);
	/* And silence ends by itself, too. */
	round_trip(f, 2000);
}

static void
test_nothing_said_in_time(void **state)
{
	struct fixture *f = *state;
	struct wr_peer_opts o = usual();
	WR_SCOPED(wr_closep) int fd = -1;

	o.greet_ms = 200;
	start(f, B, &o);
	fd = dial(&f->node[B]);
	expect_cut(fd);
	expect_note(&f->node[B], "no handshake in time");
}

static void
test_one_node_with_many_connections(void **state)
{
	struct fixture *f = *state;
	struct wr_link *l[WR_PEER_CONNS_NODE + 1];

	for (size_t i = 0; i < WR_ARRAY_LEN(l); i++)
		l[i] = link_to_b(f);
	expect_cut(wr_link_fd(l[WR_PEER_CONNS_NODE]));
	expect_note(&f->node[B], "already");
	for (size_t i = 0; i < WR_ARRAY_LEN(l); i++)
		wr_link_close(l[i]);
	round_trip(f, 1);
}

/* A caller that does not read its answers is not read either. */
static void
test_a_caller_that_does_not_read(void **state)
{
	struct fixture *f = *state;
	struct node *b = &f->node[B];
	struct wr_link *l = link_to_b(f);
	WR_SCOPED(wr_freep) uint8_t *big = wr_calloc(1, MIB);
	struct wr_err err = WR_ERR_INIT;
	uint64_t before = rss(b);
	int calls = 0;

	for (int i = 0; i < 200; i++)
		must(wr_link_frame_send(l, WR_FRAME_MSG, "question", 8, wr_deadline_ms(5000), &err),
		     &err);
	for (;;) {
		WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg m = next_within(b, 500);

		if (m.type != WR_PEER_CALL)
			break;
		calls++;
		put(b, WR_PEER_REPLY, m.conn, m.seq, big, MIB);
	}
	print_message("# %d calls taken\n", calls);
	assert_true(calls < 60);
	assert_true(rss(b) < before + 64 * MIB || SANITIZED);
	wr_link_close(l);
	round_trip(f, 1);
}

/* ---- streams ---- */

#define SALT_UP 3
#define SALT_DOWN 5

/* A machine that says `size` bytes and wants as many. */
struct both {
	uint64_t size, said, heard;
	bool good, end;
};

static size_t
both_feed(void *ctx, const void *p, size_t len)
{
	struct both *b = ctx;
	uint8_t want[256u << 10];
	size_t n = WR_MIN(len, (size_t)(b->size - b->heard));

	for (size_t i = 0, k; i < n; i += k) {
		k = WR_MIN(n - i, sizeof(want));
		pattern(want, k, b->heard + i, SALT_DOWN);
		b->good &= !memcmp(want, (const uint8_t *)p + i, k);
	}
	b->heard += n;
	return n;
}

static void
both_eof(void *ctx)
{
	((struct both *)ctx)->end = true;
}

static size_t
both_pull(void *ctx, void *p, size_t cap)
{
	struct both *b = ctx;
	size_t n = WR_MIN(cap, (size_t)(b->size - b->said));

	pattern(p, n, b->said, SALT_UP);
	b->said += n;
	return n;
}

static bool
both_busy(void *ctx)
{
	(void)ctx;
	return false;
}

static bool
both_done(void *ctx)
{
	const struct both *b = ctx;

	return b->end || (b->heard == b->size && b->said == b->size);
}

static const struct wr_stream_machine both_machine = {
    .feed = both_feed, .eof = both_eof, .pull = both_pull, .busy = both_busy, .done = both_done};

/* A worker of A that opens a stream to B and does `fn`; its process. */
static pid_t
worker(struct fixture *f, void (*fn)(struct wr_stream *s))
{
	const struct wr_link_peer peer = {.node = &f->node[B].id};
	struct wr_stream_limits l = WR_STREAM_LIMITS_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf no = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_stream *s = NULL;
	pid_t pid = fork();
	int rc;

	assert_true(pid >= 0);
	if (pid)
		return pid;
	for (int i = 0; i < NODES; i++)
		wr_closep(&f->node[i].channel);
	rc = wr_stream_open(tls_of(f, &f->node[A]), f->node[B].at.s, &peer, "push", 4, &l, &s, &no,
			    &err);
	if (rc < 0)
		fprintf(stderr, "# worker: %s\n", err.msg);
	if (rc == 0)
		_exit(no.len == 3 && !memcmp(no.p, "no!", 3) ? 10 : 11);
	if (rc < 0)
		_exit(12);
	fn(s);
	_exit(0);
}

static int
wait_worker(pid_t pid)
{
	int status = -1;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

/* B's control grants the stream; our end of it. */
static int
grant(struct fixture *f)
{
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg m = next(&f->node[B], WR_PEER_STREAM);
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg go = WR_PEER_MSG_INIT;
	int s[2];

	is(&m, "push");
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	go.type = WR_PEER_GO;
	go.conn = m.conn;
	go.fd = s[1];
	tell(&f->node[B], &go);
	return s[0];
}

#define STREAM_BYTES (100u * MIB)

static void
work_100(struct wr_stream *s)
{
	struct both b = {.size = STREAM_BYTES, .good = true};
	struct wr_stream_machine m = both_machine;
	struct wr_err err = WR_ERR_INIT;
	char tail[8] = "";
	size_t n = 0;

	m.ctx = &b;
	if (wr_stream_pump(s, &m, NULL, NULL, &err) < 0) {
		fprintf(stderr, "# worker: %s\n", err.msg);
		_exit(1);
	}
	if (!b.good || b.heard != b.size)
		_exit(2);
	/* What stands behind the machine's end is there for the reader. */
	if (wr_stream_read(s, tail, sizeof(tail), &n, &err) != 1 || n != 4 ||
	    memcmp(tail, "ack!", 4))
		_exit(3);
	if (wr_stream_end(s, &err) < 0)
		_exit(4);
	if (wr_stream_read(s, tail, sizeof(tail), &n, &err) != 0)
		_exit(5);
	wr_stream_close(s);
}

static void
test_stream_both_ways(void **state)
{
	struct fixture *f = *state;
	pid_t pid = worker(f, work_100);
	WR_SCOPED(wr_closep) int fd = grant(f);
	WR_SCOPED(wr_freep)
	uint8_t *out = wr_malloc(64u << 10), *in = wr_malloc(64u << 10),
		*want = wr_malloc(64u << 10);
	uint64_t said = 0, heard = 0, top = 0, before = rss(&f->node[B]);

	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	while (said < STREAM_BYTES || heard < STREAM_BYTES) {
		struct pollfd p = {fd, (short)(POLLIN | (said < STREAM_BYTES ? POLLOUT : 0)), 0};
		ssize_t n;

		assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
		if (p.revents & POLLIN) {
			n = read(fd, in, 64u << 10);
			assert_true(n > 0);
			pattern(want, (size_t)n, heard, SALT_UP);
			assert_memory_equal(in, want, (size_t)n);
			heard += (uint64_t)n;
		}
		if ((p.revents & POLLOUT) && said < STREAM_BYTES) {
			size_t len = (size_t)WR_MIN(STREAM_BYTES - said, 64u << 10);

			pattern(out, len, said, SALT_DOWN);
			n = write(fd, out, len);
			assert_true(n > 0);
			said += (uint64_t)n;
		}
		if (said % (10 * MIB) < (64u << 10))
			top = WR_MAX(top, rss(&f->node[B]));
	}
	assert_true(top < before + 16 * MIB || SANITIZED);
	assert_int_equal(write(fd, "ack!", 4), 4);
	/* Its end, and ours. */
	assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
	assert_int_equal(read(fd, in, 1), 0);
	close(fd);
	fd = -1;
	assert_int_equal(wait_worker(pid), 0);
	round_trip(f, 1);
}

static void
work_nothing(struct wr_stream *s)
{
	wr_stream_close(s);
}

static void
test_stream_refused(void **state)
{
	struct fixture *f = *state;
	pid_t pid = worker(f, work_nothing);
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg m = next(&f->node[B], WR_PEER_STREAM);

	put(&f->node[B], WR_PEER_REFUSE, m.conn, 0, "no!", 3);
	assert_int_equal(wait_worker(pid), 10);
	/* Twice, or to nobody, is nothing to anybody. */
	put(&f->node[B], WR_PEER_REFUSE, m.conn, 0, "no!", 3);
	put(&f->node[B], WR_PEER_REPLY, m.conn, 0, "no!", 3);
	round_trip(f, 1);
}

/* Says what it can until it is told to stop, which B's local side does by going away. */
static void
work_flood(struct wr_stream *s)
{
	struct both b = {.size = UINT64_C(1) << 40, .good = true};
	struct wr_stream_machine m = both_machine;
	struct wr_err err = WR_ERR_INIT;

	m.ctx = &b;
	(void)wr_stream_pump(s, &m, NULL, NULL, &err);
	/* The last words came through although we were still talking. */
	_exit(b.heard == 4 && b.end ? 7 : 1);
}

static void
test_stream_slow_reader(void **state)
{
	struct fixture *f = *state;
	struct wr_peer_opts o = usual();
	WR_SCOPED(wr_closep) int fd = -1;
	WR_SCOPED(wr_freep) uint8_t *in = wr_malloc(MIB), *want = wr_malloc(MIB);
	uint64_t before, heard = 0;
	pid_t pid;

	o.linger_ms = 500;
	start(f, A, &o);
	start(f, B, &o);
	pid = worker(f, work_flood);
	fd = grant(f);
	before = rss(&f->node[B]);
	poll(NULL, 0, 1500); /* time to do wrong */
	assert_true(rss(&f->node[B]) < before + 8 * MIB || SANITIZED);
	while (heard < 20 * MIB) {
		ssize_t n = read(fd, in, 10000);

		assert_true(n > 0);
		pattern(want, (size_t)n, heard, SALT_UP);
		assert_memory_equal(in, want, (size_t)n);
		heard += (uint64_t)n;
	}
	assert_true(rss(&f->node[B]) < before + 8 * MIB || SANITIZED);
	/* Words of good-bye that are wrong bytes for the machine, but arrive. */
	assert_int_equal(write(fd, "bye!", 4), 4);
	close(fd);
	fd = -1;
	assert_int_equal(wait_worker(pid), 7);
	round_trip(f, 1);
}

/* The worker is gone: the local side sees an end. */
static void
test_stream_breaks(void **state)
{
	struct fixture *f = *state;
	pid_t pid = worker(f, work_flood);
	WR_SCOPED(wr_closep) int fd = grant(f);
	WR_SCOPED(wr_freep) uint8_t *in = wr_malloc(MIB);
	ssize_t n;

	assert_true(read(fd, in, 1000) > 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(wait_worker(pid), 1000 + SIGKILL);
	do
		n = read(fd, in, MIB);
	while (n > 0);
	assert_int_equal(n, 0);
	round_trip(f, 1);
}

static void
work_idle(struct wr_stream *s)
{
	struct wr_err err = WR_ERR_INIT;
	char c;
	size_t n;

	_exit(wr_stream_read(s, &c, 1, &n, &err) < 0 ? 8 : 9);
}

static void
test_stream_idle(void **state)
{
	struct fixture *f = *state;
	struct wr_peer_opts o = usual();
	pid_t pid;
	WR_SCOPED(wr_closep) int fd = -1;
	char c;

	o.idle_ms = 200;
	start(f, B, &o);
	pid = worker(f, work_idle);
	fd = grant(f);
	assert_int_equal(read(fd, &c, 1), 0);
	assert_int_equal(wait_worker(pid), 8);
	expect_note(&f->node[B], "no byte in");
}

/* ---- the end ---- */

static void
test_control_goes_away(void **state)
{
	struct fixture *f = *state;
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg call = WR_PEER_MSG_INIT;

	ask(f, 1, "question");
	call = next(&f->node[B], WR_PEER_CALL);
	wr_closep(&f->node[B].channel);
	assert_int_equal(wait_end(&f->node[B]), 0);
	(void)expect_failed(&f->node[A], 1, 2000);
}

static void
test_quit_drains(void **state)
{
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg quit = WR_PEER_MSG_INIT;
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg call = WR_PEER_MSG_INIT;
	struct fixture *f = *state;
	uint64_t begun;

	quit.type = WR_PEER_QUIT;
	ask(f, 1, "question");
	call = next(&f->node[B], WR_PEER_CALL);
	tell(&f->node[B], &quit);
	tell(&f->node[A], &quit);
	ask(f, 2, "after that");
	assert_int_equal(expect_failed(&f->node[A], 2, 1000), WR_E_CANCELLED);
	reply(&f->node[B], &call, "answer");
	expect_answer(&f->node[A], 1, "answer");
	begun = wr_clock_mono_ns();
	assert_int_equal(wait_end(&f->node[A]), 0);
	assert_int_equal(wait_end(&f->node[B]), 0);
	assert_true(wr_clock_mono_ns() - begun < UINT64_C(1500000000));
}

/* Who does not answer holds nobody up for ever, and every question gets its word. */
static void
test_quit_gives_up(void **state)
{
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg quit = WR_PEER_MSG_INIT;
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg call = WR_PEER_MSG_INIT;
	struct fixture *f = *state;

	quit.type = WR_PEER_QUIT;
	ask(f, 1, "question");
	call = next(&f->node[B], WR_PEER_CALL);
	tell(&f->node[A], &quit);
	assert_int_equal(expect_failed(&f->node[A], 1, 4000), WR_E_CANCELLED);
	assert_int_equal(wait_end(&f->node[A]), 0);
}

static void
test_not_set_up(void **state)
{
	struct fixture *f = *state;
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg m = WR_PEER_MSG_INIT;
	struct wr_peer_opts o = usual();

	start(f, A, &o);
	/* A setup that is none changes nothing. */
	m.type = WR_PEER_SETUP;
	wr_buf_adds(&m.payload, "no setup");
	tell(&f->node[A], &m);
	expect_note(&f->node[A], "nothing has changed");
	start(f, B, &o);
	round_trip(f, 1);
}

/* Bytes of control that are none end it: something is badly wrong. */
static void
test_a_channel_with_garbage(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(send(f->node[B].channel, "\x63garbage", 8, 0), 8);
	assert_int_equal(wait_end(&f->node[B]), 1);
}

int
main(void)
{
#define BOTH(t) cmocka_unit_test_setup_teardown(t, begin_both, end)
#define NONE(t) cmocka_unit_test_setup_teardown(t, begin, end)
	const struct CMUnitTest tests[] = {
	    BOTH(test_call_and_answer),
	    BOTH(test_names_are_looked_up),
	    BOTH(test_answers_out_of_order),
	    BOTH(test_a_mebibyte_there_and_back),
	    BOTH(test_a_thousand_at_once),
	    BOTH(test_a_control_that_does_not_read),
	    BOTH(test_more_than_may_wait),
	    BOTH(test_no_answer_in_time),
	    BOTH(test_killed_while_asked),
	    NONE(test_half_open),
	    NONE(test_idle_connections_end),
	    BOTH(test_no_work_no_time),
	    BOTH(test_walls),
	    BOTH(test_a_removed_node),
	    BOTH(test_another_ones_certificate),
	    BOTH(test_garbage_instead_of_tls),
	    BOTH(test_garbage_instead_of_frames),
	    BOTH(test_a_flood),
	    NONE(test_nothing_said_in_time),
	    BOTH(test_one_node_with_many_connections),
	    BOTH(test_a_caller_that_does_not_read),
	    BOTH(test_stream_both_ways),
	    BOTH(test_stream_refused),
	    NONE(test_stream_slow_reader),
	    BOTH(test_stream_breaks),
	    NONE(test_stream_idle),
	    BOTH(test_control_goes_away),
	    BOTH(test_quit_drains),
	    BOTH(test_quit_gives_up),
	    NONE(test_not_set_up),
	    BOTH(test_a_channel_with_garbage),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

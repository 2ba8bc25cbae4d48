/* SPDX-License-Identifier: Apache-2.0 */
/* Real @peer processes on 127.0.0.1, calls and answers, strangers and worse, ends. */
#include "serve/peer/test_peer.h"

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
	/* None may be given up before the last was sent. */
	const uint32_t wait_ms = SANITIZED ? 15000 : 3000;
	int refused = 0;

	for (uint32_t i = 0; i < 200; i++)
		send_to(a, i, b->at.s, &b->id, wait_ms, p, MIB);
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
	    BOTH(test_control_goes_away),
	    BOTH(test_quit_drains),
	    BOTH(test_quit_gives_up),
	    NONE(test_not_set_up),
	    BOTH(test_a_channel_with_garbage),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

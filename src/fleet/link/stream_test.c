/* SPDX-License-Identifier: Apache-2.0 */
/* Streams against a far side that the test plays frame by frame, in a process of its own: granted,
 * refused, ends, breaks, limits, both ways at once. */
#include "fleet/link/stream.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "sys/clock.h"
#include "sys/fs.h"
#include "sys/test_dir.h"

#define PATIENCE_MS 20000

static const struct wr_uuid fleet = {"11111111-2222-4333-8444-555555555555"};
static const struct wr_node_id alice = {{"aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeee1"}, 1};
static const struct wr_node_id bob = {{"aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeee2"}, 4};

struct fixture {
	struct dir *dir;
	struct wr_tls *mine, *theirs;
	pid_t pid; /* of the far side; 0: none */
};

static struct wr_tls *
tls_of(const struct wr_ca *ca, const struct wr_node_id *id)
{
	WR_SCOPED(wr_secret_fini) struct wr_buf key = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf spki = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf cert = WR_BUF_INIT;
	struct wr_cert_ask ask = WR_CERT_ASK_INIT;
	struct wr_der by = wr_ca_cert(ca);
	struct wr_tls_conf c = {.ca = &by, .ca_count = 1, .fleet = fleet};
	struct wr_err e = WR_ERR_INIT;
	struct wr_tls *t = NULL;

	assert_int_equal(wr_tls_key_make(&key, &e), 0);
	c.key_pem = (struct wr_der){key.p, key.len};
	assert_int_equal(wr_tls_key_spki(c.key_pem, &spki, &e), 0);
	ask.fleet = fleet;
	ask.node = *id;
	ask.spki = (struct wr_der){spki.p, spki.len};
	ask.now = wr_clock_wall().s;
	assert_int_equal(wr_cert_issue(ca, &ask, &cert, &e), 0);
	c.cert = (struct wr_der){cert.p, cert.len};
	if (wr_tls_new(&c, &t, &e) < 0)
		fail_msg("%s", e.msg);
	return t;
}

static int
begin(void **state)
{
	struct fixture *f = wr_calloc(1, sizeof(*f));
	struct wr_err e = WR_ERR_INIT;
	struct wr_ca *ca = NULL;
	void *dir = NULL;

	if (setup(&dir) < 0)
		return -1;
	f->dir = dir;
	if (wr_ca_new(f->dir->fd, "ca", &fleet, &e) < 0 ||
	    wr_ca_load(f->dir->fd, "ca", &ca, &e) < 0)
		return -1;
	f->mine = tls_of(ca, &alice);
	f->theirs = tls_of(ca, &bob);
	wr_ca_free(ca);
	*state = f;
	return 0;
}

static int
finish(void **state)
{
	struct fixture *f = *state;
	void *dir = f->dir;

	if (f->pid > 0) {
		kill(f->pid, SIGKILL);
		waitpid(f->pid, NULL, 0);
	}
	wr_tls_free(f->mine);
	wr_tls_free(f->theirs);
	free(f);
	return teardown(&dir);
}

/* ---- the far side ---- */

typedef void (*far_fn)(struct wr_link *l);

static void
far_send(struct wr_link *l, enum wr_frame_type type, const void *p, size_t len)
{
	struct wr_err e = WR_ERR_INIT;

	if (wr_link_frame_send(l, type, p, len, wr_deadline_ms(PATIENCE_MS), &e) < 0)
		_exit(21);
}

/* The next frame has to be of that type; its payload. */
static struct wr_buf
far_get(struct wr_link *l, enum wr_frame_type type)
{
	struct wr_buf b = WR_BUF_INIT;
	struct wr_err e = WR_ERR_INIT;
	enum wr_frame_type got;

	if (wr_link_frame_recv(l, &got, &b, wr_deadline_ms(PATIENCE_MS), &e) != 1 || got != type)
		_exit(22);
	return b;
}

static void
far_go(struct wr_link *l)
{
	struct wr_buf b = far_get(l, WR_FRAME_STREAM);

	if (b.len != 8 || memcmp(b.p, "envelope", 8) != 0)
		_exit(23);
	wr_buf_fini(&b);
	far_send(l, WR_FRAME_STREAM_GO, NULL, 0);
}

/* Start the far side and try to open a stream to it. */
static int
open_to(struct fixture *f, far_fn far, const struct wr_stream_limits *l, struct wr_stream **out,
	struct wr_buf *no, struct wr_err *e)
{
	const struct wr_link_peer peer = {.node = &bob, .name = "bob"};
	WR_SCOPED(wr_closep) int fd = wr_link_listen("127.0.0.1:0", e);
	struct wr_addr at;

	assert_true(fd >= 0);
	assert_int_equal(wr_link_local(fd, &at, e), 0);
	f->pid = fork();
	assert_true(f->pid >= 0);
	if (f->pid == 0) {
		struct pollfd p = {fd, POLLIN, 0};
		struct wr_link *link = NULL;

		if (poll(&p, 1, PATIENCE_MS) != 1 ||
		    wr_link_serve(f->theirs, wr_link_accept(fd, NULL, e), &link, e) < 0 ||
		    wr_link_greet(link, wr_deadline_ms(PATIENCE_MS), e) < 0)
			_exit(20);
		far(link);
		wr_link_close(link);
		_exit(0);
	}
	return wr_stream_open(f->mine, wr_addr_text(&at).s, &peer, "envelope", 8, l, out, no, e);
}

static struct wr_stream *
open_stream(struct fixture *f, far_fn far, const struct wr_stream_limits *l)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf no = WR_BUF_INIT;
	struct wr_err e = WR_ERR_INIT;
	struct wr_stream *s = NULL;

	if (open_to(f, far, l, &s, &no, &e) != 1)
		fail_msg("%s", e.msg);
	return s;
}

static void
far_ended_well(struct fixture *f)
{
	int status = -1;

	assert_int_equal(waitpid(f->pid, &status, 0), f->pid);
	assert_int_equal(status, 0);
	f->pid = 0;
}

/* ---- opening ---- */

static void
far_refuses(struct wr_link *l)
{
	struct wr_buf b = far_get(l, WR_FRAME_STREAM);

	wr_buf_fini(&b);
	far_send(l, WR_FRAME_MSG_REPLY, "no", 2);
}

static void
far_hangs_up(struct wr_link *l)
{
	struct wr_buf b = far_get(l, WR_FRAME_STREAM);

	wr_buf_fini(&b);
}

static void
far_talks_nonsense(struct wr_link *l)
{
	far_send(l, WR_FRAME_DATA, "x", 1);
}

static void
far_sleeps(struct wr_link *l)
{
	(void)l;
	poll(NULL, 0, PATIENCE_MS);
}

static void
test_open__refused(void **state)
{
	struct wr_stream_limits l = WR_STREAM_LIMITS_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf no = WR_BUF_INIT;
	struct wr_err e = WR_ERR_INIT;
	struct wr_stream *s = NULL;

	assert_int_equal(open_to(*state, far_refuses, &l, &s, &no, &e), 0);
	assert_int_equal(no.len, 2);
	assert_memory_equal(no.p, "no", 2);
	assert_null(s);
	far_ended_well(*state);
}

static void
test_open__failures(void **state)
{
	static const struct {
		far_fn far;
		enum wr_err_code code;
		int sys;
	} t[] = {
	    {far_hangs_up, WR_E_FAILED, 0},
	    {far_talks_nonsense, WR_E_INVALID, 0},
	    {far_sleeps, WR_E_SYS, ETIMEDOUT},
	};
	struct wr_stream_limits l = WR_STREAM_LIMITS_INIT;
	struct fixture *f = *state;

	l.answer_ms = 300;
	for (size_t i = 0; i < WR_ARRAY_LEN(t); i++) {
		WR_SCOPED(wr_buf_fini) struct wr_buf no = WR_BUF_INIT;
		struct wr_err e = WR_ERR_INIT;
		struct wr_stream *s = NULL;

		assert_int_equal(open_to(f, t[i].far, &l, &s, &no, &e), -1);
		assert_int_equal(e.code, t[i].code);
		assert_int_equal(e.sys_errno, t[i].sys);
		assert_null(s);
		kill(f->pid, SIGKILL);
		waitpid(f->pid, NULL, 0);
		f->pid = 0;
	}
}

/* ---- reading and writing ---- */

static void
far_speaks_and_listens(struct wr_link *l)
{
	struct wr_buf b;

	far_go(l);
	far_send(l, WR_FRAME_DATA, "hello", 5);
	far_send(l, WR_FRAME_DATA, NULL, 0);
	far_send(l, WR_FRAME_DATA, "world", 5);
	b = far_get(l, WR_FRAME_DATA);
	if (b.len != 3 || memcmp(b.p, "yes", 3) != 0)
		_exit(30);
	wr_buf_fini(&b);
	b = far_get(l, WR_FRAME_STREAM_END);
	wr_buf_fini(&b);
	/* After our end theirs may still take its time. */
	far_send(l, WR_FRAME_DATA, "!", 1);
	far_send(l, WR_FRAME_STREAM_END, NULL, 0);
}

static void
test_read_write_end(void **state)
{
	struct wr_stream_limits l = WR_STREAM_LIMITS_INIT;
	struct wr_stream *s = open_stream(*state, far_speaks_and_listens, &l);
	struct wr_err e = WR_ERR_INIT;
	char got[16] = "";
	size_t at = 0, n;

	while (at < 10) {
		assert_int_equal(wr_stream_read(s, got + at, 3, &n, &e), 1);
		assert_true(n >= 1 && n <= 3);
		at += n;
	}
	assert_memory_equal(got, "helloworld", 10);
	assert_int_equal(wr_stream_write(s, "yes", 3, &e), 0);
	assert_int_equal(wr_stream_end(s, &e), 0);
	assert_int_equal(wr_stream_end(s, &e), 0);
	assert_int_equal(wr_stream_read(s, got, sizeof(got), &n, &e), 1);
	assert_int_equal(n, 1);
	for (int i = 0; i < 2; i++)
		assert_int_equal(wr_stream_read(s, got, sizeof(got), &n, &e), 0);
	wr_stream_close(s);
	far_ended_well(*state);
}

static void
far_breaks(struct wr_link *l)
{
	far_go(l);
	far_send(l, WR_FRAME_DATA, "x", 1);
}

static void
far_asks_within(struct wr_link *l)
{
	far_go(l);
	far_send(l, WR_FRAME_MSG, "x", 1);
	far_sleeps(l);
}

static void
far_goes_and_sleeps(struct wr_link *l)
{
	far_go(l);
	far_sleeps(l);
}

static void
test_read__failures(void **state)
{
	struct wr_stream_limits l = WR_STREAM_LIMITS_INIT;
	struct wr_stream *s = open_stream(*state, far_breaks, &l);
	struct fixture *f = *state;
	struct wr_err e = WR_ERR_INIT;
	uint64_t begun;
	char c;
	size_t n;

	/* A good-bye is no end. */
	assert_int_equal(wr_stream_read(s, &c, 1, &n, &e), 1);
	assert_int_equal(wr_stream_read(s, &c, 1, &n, &e), -1);
	assert_int_equal(e.code, WR_E_FAILED);
	wr_stream_close(s);
	far_ended_well(f);

	s = open_stream(f, far_asks_within, &l);
	assert_int_equal(wr_stream_read(s, &c, 1, &n, &e), -1);
	assert_int_equal(e.code, WR_E_INVALID);
	wr_stream_close(s);
	kill(f->pid, SIGKILL);
	waitpid(f->pid, NULL, 0);

	l.idle_ms = 200;
	s = open_stream(f, far_goes_and_sleeps, &l);
	begun = wr_clock_mono_ns();
	assert_int_equal(wr_stream_read(s, &c, 1, &n, &e), -1);
	assert_int_equal(e.sys_errno, ETIMEDOUT);
	assert_true(wr_clock_mono_ns() - begun >= UINT64_C(190000000));
	wr_stream_close(s);
	kill(f->pid, SIGKILL);
	waitpid(f->pid, NULL, 0);

	/* Nobody takes what is written. */
	s = open_stream(f, far_goes_and_sleeps, &l);
	{
		WR_SCOPED(wr_freep) void *much = wr_calloc(1, 64u << 20);

		assert_int_equal(wr_stream_write(s, much, 64u << 20, &e), -1);
		assert_int_equal(e.sys_errno, ETIMEDOUT);
	}
	wr_stream_close(s);
}

/* ---- the pump ---- */

/* Says `size` bytes, wants `wants`; wants what it hears to be the far side's count. */
struct machine {
	uint64_t size, said, wants, heard;
	bool good, eof;
	unsigned told;
	unsigned slices; /* of work between two pulls that give something */
};

static size_t
feed(void *ctx, const void *p, size_t len)
{
	struct machine *m = ctx;
	size_t n = (size_t)WR_MIN(len, m->wants - m->heard);

	for (size_t i = 0; i < n; i++)
		m->good &= ((const uint8_t *)p)[i] == (uint8_t)(m->heard + i);
	m->heard += n;
	return n;
}

static void
eof(void *ctx)
{
	((struct machine *)ctx)->eof = true;
}

static size_t
pull(void *ctx, void *p, size_t cap)
{
	struct machine *m = ctx;
	size_t n = (size_t)WR_MIN(cap, m->size - m->said);

	if (m->slices++ % 3)
		return 0;
	memset(p, 'x', n);
	m->said += n;
	return n;
}

static bool
busy(void *ctx)
{
	const struct machine *m = ctx;

	return m->said < m->size;
}

static bool
done(void *ctx)
{
	const struct machine *m = ctx;

	return m->eof || m->heard == m->wants;
}

static void
progress(void *ctx)
{
	((struct machine *)ctx)->told++;
}

static struct wr_stream_machine
machine(struct machine *m)
{
	m->good = true;
	return (struct wr_stream_machine){m, feed, eof, pull, busy, done};
}

#define MUCH (8u << 20)

/* Says much while it hears much: whoever only writes first waits for ever. */
static void
far_both(struct wr_link *l)
{
	struct wr_buf out = WR_BUF_INIT, in = WR_BUF_INIT;
	uint64_t said = 0, heard = 0;
	struct wr_err e = WR_ERR_INIT;
	size_t off = 0;

	far_go(l);
	while (said < MUCH || heard < MUCH || out.len) {
		enum wr_link_io o = WR_LINK_OK, i;
		struct wr_frame f;
		size_t used, at = 0;

		if (said < MUCH && !out.len) {
			uint8_t b[1000];

			for (size_t k = 0; k < sizeof(b); k++)
				b[k] = (uint8_t)(said + k);
			wr_frame_add(&out, WR_FRAME_DATA, b, WR_MIN(sizeof(b), MUCH - said));
			said += WR_MIN(sizeof(b), MUCH - said);
		}
		if (out.len)
			o = wr_link_push(l, &out, &off, &e);
		i = wr_link_pull(l, &in, 256u << 10, &e);
		while (at < in.len && wr_frame_next(in.p + at, in.len - at, &f, &used, &e) == 1) {
			heard += f.len;
			at += used;
		}
		memmove(in.p, in.p + at, in.len - at);
		in.len -= at;
		if (o == WR_LINK_FAILED || i == WR_LINK_FAILED || i == WR_LINK_END)
			_exit(31);
		if (i == WR_LINK_WAIT && (o == WR_LINK_WAIT || (said == MUCH && heard < MUCH))) {
			struct pollfd p = {wr_link_fd(l), wr_link_wants(l, true, o == WR_LINK_WAIT),
					   0};

			if (poll(&p, 1, PATIENCE_MS) != 1)
				_exit(32);
		}
	}
	far_send(l, WR_FRAME_DATA, "tail", 4);
	far_send(l, WR_FRAME_STREAM_END, NULL, 0);
	in = far_get(l, WR_FRAME_STREAM_END);
}

static void
test_pump__both_ways(void **state)
{
	struct wr_stream_limits l = WR_STREAM_LIMITS_INIT;
	struct wr_stream *s = open_stream(*state, far_both, &l);
	struct machine m = {.size = MUCH, .wants = MUCH};
	struct wr_stream_machine t = machine(&m);
	struct wr_err e = WR_ERR_INIT;
	char tail[8];
	size_t n = 0;

	if (wr_stream_pump(s, &t, progress, NULL, &e) < 0)
		fail_msg("%s", e.msg);
	assert_true(m.good && !m.eof);
	assert_int_equal(m.said, MUCH);
	assert_int_equal(m.heard, MUCH);
	assert_true(m.told >= 1);
	assert_true(wr_stream_bytes_in(s) > MUCH && wr_stream_bytes_out(s) > MUCH);
	if (wr_stream_read(s, tail, sizeof(tail), &n, &e) != 1)
		fail_msg("%s", e.msg);
	assert_int_equal(n, 4);
	assert_memory_equal(tail, "tail", 4);
	assert_int_equal(wr_stream_end(s, &e), 0);
	assert_int_equal(wr_stream_read(s, tail, sizeof(tail), &n, &e), 0);
	wr_stream_close(s);
	far_ended_well(*state);
}

static void
far_ends_early(struct wr_link *l)
{
	far_go(l);
	far_send(l, WR_FRAME_DATA, "\0\1\2", 3);
	far_send(l, WR_FRAME_STREAM_END, NULL, 0);
	far_sleeps(l);
}

static void
test_pump__the_other_sides_end(void **state)
{
	struct wr_stream_limits l = WR_STREAM_LIMITS_INIT;
	struct wr_stream *s = open_stream(*state, far_ends_early, &l);
	struct machine m = {.wants = 10};
	struct wr_stream_machine t = machine(&m);
	struct wr_err e = WR_ERR_INIT;

	assert_int_equal(wr_stream_pump(s, &t, NULL, NULL, &e), 0);
	assert_true(m.eof && m.good);
	assert_int_equal(m.heard, 3);
	wr_stream_close(s);
}

static void
test_pump__a_break(void **state)
{
	struct wr_stream_limits l = WR_STREAM_LIMITS_INIT;
	struct wr_stream *s = open_stream(*state, far_breaks, &l);
	struct machine m = {.wants = 10};
	struct wr_stream_machine t = machine(&m);
	struct wr_err e = WR_ERR_INIT;

	assert_int_equal(wr_stream_pump(s, &t, NULL, NULL, &e), -1);
	assert_int_equal(e.code, WR_E_FAILED);
	assert_true(m.eof);
	wr_stream_close(s);
}

static void
far_drinks(struct wr_link *l)
{
	far_go(l);
	for (;;) {
		struct wr_buf b = far_get(l, WR_FRAME_DATA);

		wr_buf_fini(&b);
	}
}

static void
test_pump__rate(void **state)
{
	struct wr_stream_limits l = WR_STREAM_LIMITS_INIT;
	struct machine m = {.size = 3u << 20, .wants = 1};
	struct wr_stream_machine t = machine(&m);
	struct wr_err e = WR_ERR_INIT;
	struct wr_stream *s;
	uint64_t begun, ms;

	/* What waits for the rate does not count as silence of the other side. */
	l.rate = 2u << 20;
	l.idle_ms = 300;
	s = open_stream(*state, far_drinks, &l);
	begun = wr_clock_mono_ns();
	assert_int_equal(wr_stream_pump(s, &t, NULL, NULL, &e), -1);
	assert_int_equal(e.sys_errno, ETIMEDOUT); /* at the end it is silent */
	ms = (wr_clock_mono_ns() - begun) / 1000000;
	assert_int_equal(m.said, 3u << 20);
	assert_true(ms >= 1200 && ms < 4000);
	wr_stream_close(s);
}

static void
test_pump__cancel_and_total(void **state)
{
	struct wr_stream_limits l = WR_STREAM_LIMITS_INIT;
	struct machine m = {.wants = 1};
	struct wr_stream_machine t = machine(&m);
	struct fixture *f = *state;
	struct wr_err e = WR_ERR_INIT;
	struct wr_stream *s = open_stream(f, far_goes_and_sleeps, &l);
	atomic_bool cancel = true;

	assert_int_equal(wr_stream_pump(s, &t, NULL, &cancel, &e), -1);
	assert_int_equal(e.code, WR_E_CANCELLED);
	wr_stream_close(s);
	kill(f->pid, SIGKILL);
	waitpid(f->pid, NULL, 0);
	m = (struct machine){.wants = 1};
	cancel = false;
	l.total_ms = 400;
	s = open_stream(f, far_goes_and_sleeps, &l);
	assert_int_equal(wr_stream_pump(s, &t, NULL, &cancel, &e), -1);
	assert_int_equal(e.sys_errno, ETIMEDOUT);
	wr_stream_close(s);
}

int
main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, begin, finish)
	const struct CMUnitTest tests[] = {
	    T(test_open__refused),  T(test_open__failures),  T(test_read_write_end),
	    T(test_read__failures), T(test_pump__both_ways), T(test_pump__the_other_sides_end),
	    T(test_pump__a_break),  T(test_pump__rate),      T(test_pump__cancel_and_total),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

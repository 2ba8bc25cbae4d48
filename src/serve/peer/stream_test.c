/* SPDX-License-Identifier: Apache-2.0 */
/* Streams through two @peers: both ways, refused, slow, broken off, idle. */
#include "serve/peer/test_peer.h"

#include "fleet/link/stream.h"

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

int
main(void)
{
#define BOTH(t) cmocka_unit_test_setup_teardown(t, begin_both, end)
#define NONE(t) cmocka_unit_test_setup_teardown(t, begin, end)
	const struct CMUnitTest tests[] = {
	    BOTH(test_stream_both_ways), BOTH(test_stream_refused), NONE(test_stream_slow_reader),
	    BOTH(test_stream_breaks),    NONE(test_stream_idle),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

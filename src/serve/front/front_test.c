/* SPDX-License-Identifier: Apache-2.0 */
/* The front as a process of its own; the test plays control at one side and clients at the other,
 * who speak HTTP byte by byte. */
#include "serve/front/front_int.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/str.h"
#include "serve/front/front.h"
#include "sys/clock.h"
#include "sys/fs.h"
#include "sys/proc.h"

#ifdef __SANITIZE_ADDRESS__
void __lsan_do_leak_check(void);
#else
#define __lsan_do_leak_check() ((void)0)
#endif

/* Nothing here takes longer, unless it is broken. */
#define PATIENCE_MS 20000

struct fixture {
	int channel;
	pid_t pid;
	uint32_t last_conn;
};

/* ---- the front ---- */

static void
start(struct fixture *f, unsigned idle_s)
{
	struct wr_err err = WR_ERR_INIT;
	int s[2];

	assert_int_equal(wr_msg_pair(s, &err), 0);
	f->pid = fork();
	assert_true(f->pid >= 0);
	if (f->pid == 0) {
		int rc;

		close(s[1]);
		/* Without the last walls: the leak check cannot work behind them. */
		rc = wr_front_serve(s[0], -1, idle_s, false, &err);
		if (rc < 0)
			fprintf(stderr, "# front: %s\n", err.msg);
		__lsan_do_leak_check();
		_exit(rc < 0);
	}
	close(s[0]);
	f->channel = s[1];
	f->last_conn = 100;
}

static int
setup(void **state)
{
	struct fixture *f = wr_calloc(1, sizeof(*f));

	start(f, WR_IDLE_S);
	*state = f;
	return 0;
}

/* The exit status, once it ends by itself. */
static int
wait_end(struct fixture *f)
{
	int status = -1;

	for (int ms = 0; ms < PATIENCE_MS; ms += 5) {
		if (waitpid(f->pid, &status, WNOHANG) == f->pid) {
			f->pid = 0;
			return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
		}
		poll(NULL, 0, 5);
	}
	return -1;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;
	int rc = 0;

	if (f->channel >= 0)
		close(f->channel);
	if (f->pid) {
		rc = wait_end(f);
		if (rc == -1) {
			kill(f->pid, SIGKILL);
			waitpid(f->pid, NULL, 0);
		}
	}
	free(f);
	return rc;
}

/* ---- control's side ---- */

/* The next message of the front's; type 0: none within ms. */
static struct wr_ipc
next_within(struct fixture *f, int ms)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct pollfd p = {f->channel, POLLIN, 0};
	struct wr_ipc m = WR_IPC_INIT;
	struct wr_err err = WR_ERR_INIT;
	int fds[WR_MSG_FDS];
	size_t n;

	if (poll(&p, 1, ms) != 1)
		return m;
	assert_int_equal(wr_msg_recv(f->channel, &b, fds, &n, &err), 1);
	assert_int_equal(wr_ipc_decode(b.p, b.len, fds, n, true, &m, &err), 0);
	return m;
}

static struct wr_ipc
next(struct fixture *f, enum wr_ipc_type type)
{
	struct wr_ipc m = next_within(f, PATIENCE_MS);

	assert_int_equal(m.type, type);
	return m;
}

/* A call of that id; its number. */
static uint32_t
next_call(struct fixture *f, enum wr_api_call_id id)
{
	WR_SCOPED(wr_ipc_fini) struct wr_ipc m = next(f, WR_IPC_CALL);

	assert_int_equal(m.call.api->id, id);
	return m.seq;
}

static void
tell(struct fixture *f, const struct wr_ipc *m)
{
	struct wr_err err = WR_ERR_INIT;

	assert_int_equal(wr_ipc_send(f->channel, m, &err), 1);
}

/* text and fd are the caller's. */
static void
tell_answer(struct fixture *f, enum wr_ipc_type type, uint32_t seq, uint16_t status, uint8_t exit,
	    const char *text, int fd)
{
	struct wr_ipc m = WR_IPC_INIT;

	m.type = type;
	m.seq = seq;
	m.status = status;
	m.exit = exit;
	m.text = wr_strdup(text);
	m.text_len = strlen(text);
	m.fd = fd;
	tell(f, &m);
	free(m.text);
}

static void
reply(struct fixture *f, uint32_t seq, uint16_t status, const char *text)
{
	tell_answer(f, WR_IPC_REPLY, seq, status, 0, text, -1);
}

/* Begin a stream; the end to write to. */
static int
stream(struct fixture *f, uint32_t seq)
{
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	tell_answer(f, WR_IPC_STREAM, seq, 0, 0, "text/plain", p[0]);
	close(p[0]);
	return p[1];
}

static void
end_stream(struct fixture *f, uint32_t seq, uint8_t exit, const char *error)
{
	tell_answer(f, WR_IPC_END, seq, 0, exit, error, -1);
}

static void
put(int fd, const char *p, size_t len)
{
	assert_int_equal(wr_write_all(fd, p, len), 0);
}

static void
puts_to(int fd, const char *s)
{
	put(fd, s, strlen(s));
}

/* ---- a client's side ---- */

struct client {
	int fd;
	uint32_t conn;
	struct wr_buf in;
};

static struct client
client(struct fixture *f)
{
	struct timeval t = {PATIENCE_MS / 1000, 0};
	struct client c = {.conn = ++f->last_conn};
	struct wr_ipc m = WR_IPC_INIT;
	int s[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	assert_int_equal(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)), 0);
	m.type = WR_IPC_CONN;
	m.conn = c.conn;
	m.fd = s[1];
	tell(f, &m);
	close(s[1]);
	c.fd = s[0];
	return c;
}

static void
client_end(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	wr_buf_fini(&c->in);
}

/* And control hears of it. */
static void
hang_up(struct fixture *f, struct client *c)
{
	WR_SCOPED(wr_ipc_fini) struct wr_ipc m = WR_IPC_INIT;

	client_end(c);
	m = next(f, WR_IPC_CLOSED);
	assert_int_equal(m.conn, c->conn);
}

/* More bytes into c->in: false at the end, or when nothing comes. */
static bool
more(struct client *c)
{
	ssize_t n;

	wr_buf_reserve(&c->in, 65536);
	do
		n = read(c->fd, c->in.p + c->in.len, 65536);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return false;
	c->in.len += (size_t)n;
	return true;
}

static void
eat(struct client *c, size_t n)
{
	memmove(c->in.p, c->in.p + n, c->in.len - n);
	c->in.len -= n;
}

/* The bytes up to and with `end`, taken; NULL: the connection ended before. */
static char *
until(struct client *c, const char *end)
{
	char *s, *at;
	size_t n;

	while (!(at = c->in.len ? memmem(c->in.p, c->in.len, end, strlen(end)) : NULL))
		if (!more(c))
			return NULL;
	n = (size_t)(at - (char *)c->in.p) + strlen(end);
	s = wr_malloc(n + 1);
	memcpy(s, c->in.p, n);
	s[n] = '\0';
	eat(c, n);
	return s;
}

static bool
exactly(struct client *c, size_t n, struct wr_buf *out)
{
	while (c->in.len < n)
		if (!more(c))
			return false;
	wr_buf_add(out, c->in.p, n);
	eat(c, n);
	return true;
}

struct answer {
	int status; /* 0: the connection ended */
	bool whole; /* it ended as it must */
	char *head, *trailers;
	struct wr_buf body;
};

static void
answer_fini(struct answer *a)
{
	free(a->head);
	free(a->trailers);
	wr_buf_fini(&a->body);
}

static void
read_chunks(struct client *c, struct answer *a)
{
	for (;;) {
		WR_SCOPED(wr_freep) char *line = until(c, "\r\n");
		WR_SCOPED(wr_freep) char *after = NULL;
		size_t n = line ? strtoul(line, NULL, 16) : 0;

		if (!line)
			return;
		if (n == 0)
			break;
		if (!exactly(c, n, &a->body) || !(after = until(c, "\r\n")))
			return;
	}
	a->trailers = wr_strdup("");
	for (;;) {
		WR_SCOPED(wr_freep) char *line = until(c, "\r\n");
		char *all;

		if (!line)
			return;
		if (!strcmp(line, "\r\n"))
			break;
		all = wr_asprintf("%s%s", a->trailers, line);
		free(a->trailers);
		a->trailers = all;
	}
	a->whole = true;
}

static struct answer
answer(struct client *c)
{
	struct answer a = {0};
	const char *length;

	a.head = until(c, "\r\n\r\n");
	if (!a.head)
		return a;
	assert_int_equal(strncmp(a.head, "HTTP/1.1 ", 9), 0);
	a.status = (int)strtol(a.head + 9, NULL, 10);
	length = strcasestr(a.head, "\r\nContent-Length: ");
	if (strcasestr(a.head, "\r\nTransfer-Encoding: chunked"))
		read_chunks(c, &a);
	else if (length)
		a.whole = exactly(c, strtoul(length + 18, NULL, 10), &a.body);
	return a;
}

static void
expect(struct client *c, int status, const char *body)
{
	WR_SCOPED(answer_fini) struct answer a = answer(c);

	assert_int_equal(a.status, status);
	assert_true(a.whole);
	if (!strstr(wr_buf_str(&a.body), body))
		fail_msg("'%s' is not in '%s'", body, wr_buf_str(&a.body));
}

static void
expect_closed(struct client *c)
{
	while (more(c))
		c->in.len = 0;
}

#define GET(target) "GET " target " HTTP/1.1\r\nHost: x\r\n\r\n"
#define ID "/v1/projects/demo"
#define POST(target, body) \
	"POST " target " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" body

/* ---- calls and replies ---- */

static void
test_a_call_and_its_reply(void **state)
{
	struct fixture *f = *state;
	struct client c = client(f);

	puts_to(c.fd,
		"GET " ID "/state HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrt_abc\r\n\r\n");
	{
		WR_SCOPED(wr_ipc_fini) struct wr_ipc m = next(f, WR_IPC_CALL);
		WR_SCOPED(answer_fini) struct answer a = {0};

		assert_int_equal(m.conn, c.conn);
		assert_string_equal(m.token, "wrt_abc");
		assert_int_equal(m.call.api->id, WR_API_STATE);
		assert_string_equal(m.call.ref, "demo");
		tell_answer(f, WR_IPC_REPLY, m.seq, 200, 3, "{\"state\":\"running\"}", -1);
		a = answer(&c);
		assert_int_equal(a.status, 200);
		assert_string_equal(wr_buf_str(&a.body), "{\"state\":\"running\"}");
		assert_non_null(strstr(a.head, "\r\nWarren-Exit: 3\r\n"));
		assert_non_null(strstr(a.head, "\r\nContent-Type: application/json\r\n"));
	}
	/* The connection serves again; the body comes as JSON. */
	puts_to(c.fd,
		POST(ID "/save", "Content-Length: 23\r\n\r\n{\"tag\":\"a\",\"wait\":\"1h\"}"));
	{
		WR_SCOPED(wr_ipc_fini) struct wr_ipc m = next(f, WR_IPC_CALL);

		assert_string_equal(m.token, "");
		assert_string_equal(wr_call_str(&m.call, "tag"), "a");
		assert_int_equal(wr_call_u64(&m.call, "wait", 0), 3600);
		reply(f, m.seq, 202, "{}");
	}
	expect(&c, 202, "{}");
	hang_up(f, &c);
}

static void
test_bodies_byte_by_byte_and_in_chunks(void **state)
{
	static const char slow[] = POST(ID "/save", "Content-Length: 11\r\n\r\n{\"tag\":\"a\"}");
	struct fixture *f = *state;
	struct client c = client(f);

	for (const char *s = slow; *s; s++)
		put(c.fd, s, 1);
	reply(f, next_call(f, WR_API_SAVE), 200, "{\"n\":1}");
	expect(&c, 200, "{\"n\":1}");
	puts_to(c.fd, POST(ID "/save", "Transfer-Encoding: chunked\r\n\r\n"
				       "4\r\n{\"ta\r\n7;x=y\r\ng\":\"a\"}\r\n0\r\n\r\n"));
	{
		WR_SCOPED(wr_ipc_fini) struct wr_ipc m = next(f, WR_IPC_CALL);

		assert_string_equal(wr_call_str(&m.call, "tag"), "a");
		reply(f, m.seq, 200, "{\"n\":2}");
	}
	expect(&c, 200, "{\"n\":2}");
	puts_to(c.fd, POST(ID "/save", "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"));
	{
		WR_SCOPED(wr_freep) char *go_on = until(&c, "\r\n\r\n");

		assert_non_null(go_on);
		assert_int_equal(strncmp(go_on, "HTTP/1.1 100 ", 13), 0);
	}
	puts_to(c.fd, "{}");
	reply(f, next_call(f, WR_API_SAVE), 200, "{\"n\":3}");
	expect(&c, 200, "{\"n\":3}");
	hang_up(f, &c);
}

static void
test_pipelined_requests_are_answered_in_order(void **state)
{
	struct fixture *f = *state;
	struct client c = client(f);

	puts_to(c.fd, GET("/v1/health") GET("/v1/nowhere") GET("/v1/top") GET("/v1/node"));
	reply(f, next_call(f, WR_API_HEALTH), 200, "{\"n\":1}");
	reply(f, next_call(f, WR_API_TOP), 200, "{\"n\":2}");
	reply(f, next_call(f, WR_API_NODE), 200, "{\"n\":3}");
	expect(&c, 200, "{\"n\":1}");
	expect(&c, 404, "nowhere");
	expect(&c, 200, "{\"n\":2}");
	expect(&c, 200, "{\"n\":3}");
	hang_up(f, &c);
}

static void
test_clients_do_not_wait_for_each_other(void **state)
{
	struct fixture *f = *state;
	struct client a = client(f), b = client(f);
	uint32_t slow;

	puts_to(a.fd, GET("/v1/top"));
	slow = next_call(f, WR_API_TOP);
	puts_to(b.fd, GET("/v1/health"));
	reply(f, next_call(f, WR_API_HEALTH), 200, "{\"b\":1}");
	expect(&b, 200, "{\"b\":1}");
	/* An answer to nothing, one twice. */
	reply(f, slow + 77, 200, "{}");
	reply(f, slow, 200, "{\"a\":1}");
	reply(f, slow, 200, "{\"a\":2}");
	expect(&a, 200, "{\"a\":1}");
	puts_to(a.fd, GET("/v1/health"));
	reply(f, next_call(f, WR_API_HEALTH), 200, "{\"a\":3}");
	expect(&a, 200, "{\"a\":3}");
	hang_up(f, &a);
	hang_up(f, &b);
}

static void
test_a_long_reply(void **state)
{
	struct fixture *f = *state;
	struct client c = client(f);
	size_t len = 5u << 20;
	WR_SCOPED(wr_freep) char *text = wr_malloc(len + 1);
	WR_SCOPED(answer_fini) struct answer a = {0};

	memset(text, 'x', len);
	text[len] = '\0';
	puts_to(c.fd, GET("/v1/projects"));
	reply(f, next_call(f, WR_API_LIST), 200, text);
	a = answer(&c);
	assert_int_equal(a.status, 200);
	assert_true(a.whole);
	assert_int_equal(a.body.len, len);
	assert_memory_equal(a.body.p, text, len);
	hang_up(f, &c);
}

/* ---- refusals: control never hears of them ---- */

static void
test_refusals(void **state)
{
	static const struct {
		const char *request;
		int status;
		const char *head, *body;
	} t[] = {
	    {GET("/nowhere"), 404, "", "\"code\":\"not_found\""},
	    {GET("/nowhere"), 404, "", "\"hint\":"},
	    {GET("/v1/health%00x"), 400, "", "NUL"},
	    {"DELETE " ID "/settings HTTP/1.1\r\nHost: x\r\n\r\n", 405, "\r\nAllow: GET, PATCH\r\n",
	     "DELETE"},
	    {"OPTIONS /v1/health HTTP/1.1\r\nHost: x\r\n\r\n", 405, "\r\nAllow: GET\r\n", ""},
	    {"POST " ID "/save HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 415, "",
	     "application/json"},
	    {POST(ID "/save", "Content-Length: 5\r\n\r\n{\n \"a"), 400, "", "line 2, column"},
	    {POST(ID "/save", "Content-Length: 21\r\n\r\n{\"tag\":\"a\",\"tag\":\"b\"}"), 400, "",
	     "duplicate"},
	    {POST(ID "/save", "Content-Length: 9\r\n\r\n{\"tag\":1}"), 400, "", "tag"},
	    {POST(ID "/save", "Content-Length: 10\r\n\r\n{\"tags\":1}"), 400, "", "tags"},
	    {POST(ID "/restore", "Content-Length: 0\r\n\r\n"), 400, "", "snapshot"},
	    {"GET /v1/health HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YTpi\r\n\r\n", 400, "",
	     "Authorization"},
	};
	struct fixture *f = *state;
	struct client c = client(f);

	for (size_t i = 0; i < WR_ARRAY_LEN(t); i++) {
		WR_SCOPED(answer_fini) struct answer a = {0};

		puts_to(c.fd, t[i].request);
		a = answer(&c);
		assert_int_equal(a.status, t[i].status);
		assert_non_null(strstr(a.head, t[i].head));
		assert_non_null(strstr(wr_buf_str(&a.body), "{\"schema\":\"warren.error/1\","));
		assert_non_null(strstr(wr_buf_str(&a.body), t[i].body));
	}
	/* HEAD has no body. */
	puts_to(c.fd, "HEAD /v1/health HTTP/1.1\r\nHost: x\r\n\r\n");
	{
		WR_SCOPED(wr_freep) char *head = until(&c, "\r\n\r\n");

		assert_non_null(head);
		assert_int_equal(strncmp(head, "HTTP/1.1 405 ", 13), 0);
	}
	puts_to(c.fd, GET("/v1/health"));
	reply(f, next_call(f, WR_API_HEALTH), 200, "{}");
	expect(&c, 200, "{}");
	hang_up(f, &c);
}

static void
test_deep_json(void **state)
{
	struct fixture *f = *state;
	struct client c = client(f);
	size_t len = WR_BODY_MAX;
	WR_SCOPED(wr_freep) char *body = wr_malloc(len);
	WR_SCOPED(wr_freep)
	char *head = wr_asprintf(POST(ID "/save", "Content-Length: %zu\r\n\r\n"), len);

	memset(body, '[', len);
	puts_to(c.fd, head);
	put(c.fd, body, len);
	expect(&c, 400, "nested");
	hang_up(f, &c);
}

static void
test_bodies_that_are_too_long(void **state)
{
	struct fixture *f = *state;
	struct client c = client(f);
	WR_SCOPED(wr_freep) char *piece = wr_malloc(65536);

	memset(piece, ' ', 65536);
	puts_to(c.fd, POST(ID "/save", "Content-Length: 1048577\r\n\r\n"));
	expect(&c, 413, "1048576");
	expect_closed(&c);
	hang_up(f, &c);

	/* Its length is not told before. */
	c = client(f);
	puts_to(c.fd, POST(ID "/save", "Transfer-Encoding: chunked\r\n\r\n"));
	for (int i = 0; i < 32; i++) {
		puts_to(c.fd, "10000\r\n");
		put(c.fd, piece, 65536);
		puts_to(c.fd, "\r\n");
	}
	puts_to(c.fd, "0\r\n\r\n");
	expect(&c, 413, "limit");
	/* And goes on here; then without an end. */
	puts_to(c.fd, POST(ID "/save", "Transfer-Encoding: chunked\r\n\r\n"));
	for (int i = 0; i < 100000; i++)
		if (wr_write_all(c.fd, "10000\r\n", 7) < 0 ||
		    wr_write_all(c.fd, piece, 65536) < 0 || wr_write_all(c.fd, "\r\n", 2) < 0)
			break;
	expect_closed(&c);
	hang_up(f, &c);

	/* A call may be short enough for HTTP, and have more values than a call can. */
	c = client(f);
	puts_to(c.fd, POST("/v1/projects", "Transfer-Encoding: chunked\r\n\r\n"
					   "e\r\n{\"settings\":[\"\r\n"));
	memset(piece, 'x', 65536);
	memcpy(piece + 20000, "\",\"", 3);
	memcpy(piece + 40000, "\",\"", 3);
	memcpy(piece + 60000, "\",\"", 3);
	for (int i = 0; i < 15; i++) {
		puts_to(c.fd, "10000\r\n");
		put(c.fd, piece, 65536);
		puts_to(c.fd, "\r\n");
	}
	puts_to(c.fd, "3\r\n\"]}\r\n0\r\n\r\n");
	expect(&c, 400, "settings");
	hang_up(f, &c);
}

static void
test_headers_that_are_too_long(void **state)
{
	struct fixture *f = *state;
	struct client c = client(f);
	WR_SCOPED(wr_freep) char *line = wr_malloc(1024);

	memset(line, 'a', 1024);
	memcpy(line, "X-Long: ", 8);
	memcpy(line + 1022, "\r\n", 2);
	puts_to(c.fd, "GET /v1/health HTTP/1.1\r\nHost: x\r\n");
	for (int i = 0; i < 1000; i++)
		if (send(c.fd, line, 1024, MSG_NOSIGNAL) != 1024)
			break;
	{
		WR_SCOPED(wr_freep) char *head = until(&c, "\r\n\r\n");

		/* What the client reads before the connection is cut is the library's choice. */
		if (head)
			assert_int_equal(strncmp(head, "HTTP/1.1 4", 10), 0);
	}
	expect_closed(&c);
	hang_up(f, &c);
}

static void
test_what_is_no_http(void **state)
{
	static const struct {
		const char *p;
		size_t len;
	} t[] = {
	    {"\0\1\2\3\r\n\r\n", 8},
	    {"GET\r\n\r\n", 7},
	    {"\r\n\r\n\r\n\r\n", 8},
	    {"GET /v1/health SPDY/9\r\n\r\n", 25},
	    {"GET /v1/health HTTP/1.1\r\nContent-Length: x\r\n\r\n", 47},
	    {"POST /v1/copy HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 58},
	    {"POST /v1/copy HTTP/1.1\r\nContent-Length: 10\r\n\r\n{}", 49},
	    {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11},
	    {"", 0},
	};
	struct fixture *f = *state;
	struct client c;

	for (size_t i = 0; i < WR_ARRAY_LEN(t); i++) {
		struct wr_ipc m;

		c = client(f);
		put(c.fd, t[i].p, t[i].len);
		client_end(&c);
		m = next_within(f, PATIENCE_MS);
		if (m.type == WR_IPC_CALL) {
			wr_ipc_fini(&m);
			fail_msg("request %zu became a call", i);
		}
		assert_int_equal(m.type, WR_IPC_CLOSED);
	}
	c = client(f);
	puts_to(c.fd, GET("/v1/health"));
	reply(f, next_call(f, WR_API_HEALTH), 200, "{}");
	expect(&c, 200, "{}");
	hang_up(f, &c);
}

/* ---- clients that go ---- */

static void
test_a_client_that_only_stops_sending(void **state)
{
	struct fixture *f = *state;
	struct client c = client(f);
	uint32_t seq;

	puts_to(c.fd, GET("/v1/top"));
	shutdown(c.fd, SHUT_WR);
	seq = next_call(f, WR_API_TOP);
	assert_int_equal(next_within(f, 100).type, 0);
	reply(f, seq, 200, "{\"late\":true}");
	expect(&c, 200, "late");
	expect_closed(&c);
	hang_up(f, &c);
}

static void
test_a_client_that_goes_away(void **state)
{
	struct fixture *f = *state;
	struct client c = client(f);
	WR_SCOPED(wr_ipc_fini) struct wr_ipc m = WR_IPC_INIT;
	uint32_t seq;

	puts_to(c.fd, GET("/v1/top"));
	seq = next_call(f, WR_API_TOP);
	client_end(&c);
	m = next(f, WR_IPC_ABORT);
	assert_int_equal(m.seq, seq);
	m = next(f, WR_IPC_CLOSED);
	assert_int_equal(m.conn, c.conn);
	/* Too late, but no harm. */
	reply(f, seq, 200, "{}");
	close(stream(f, seq));
	end_stream(f, seq, 0, "");
	c = client(f);
	puts_to(c.fd, GET("/v1/health"));
	reply(f, next_call(f, WR_API_HEALTH), 200, "{}");
	expect(&c, 200, "{}");
	hang_up(f, &c);
}

static void
test_a_client_that_goes_in_the_middle_of_a_stream(void **state)
{
	struct fixture *f = *state;
	char piece[4096];
	struct pollfd p = {.events = 0};

	memset(piece, 'x', sizeof(piece));
	/* While it is collected; while it flows and the pipe is empty; while the pipe is full. */
	for (int round = 0; round < 3; round++) {
		struct client c = client(f);
		WR_SCOPED(wr_ipc_fini) struct wr_ipc m = WR_IPC_INIT;
		uint32_t seq;

		puts_to(c.fd, GET(ID "/read?path=x"));
		seq = next_call(f, WR_API_READ);
		p.fd = stream(f, seq);
		if (round == 0)
			puts_to(p.fd, "a");
		else
			for (int i = 0; i < 40; i++)
				put(p.fd, piece, sizeof(piece));
		if (round == 1) {
			WR_SCOPED(wr_freep) char *head = until(&c, "\r\n\r\n");

			assert_non_null(head);
			while (c.in.len < sizeof(piece) * 40)
				assert_true(more(&c));
		}
		if (round == 2) {
			fcntl(p.fd, F_SETFL, O_NONBLOCK);
			/* The client takes nothing, so all buffers fill. */
			for (int i = 0; i < 1000; i++) {
				if (write(p.fd, piece, sizeof(piece)) < 0) {
					assert_int_equal(errno, EAGAIN);
					poll(NULL, 0, 1);
				}
			}
		}
		client_end(&c);
		m = next(f, WR_IPC_ABORT);
		assert_int_equal(m.seq, seq);
		m = next(f, WR_IPC_CLOSED);
		assert_int_equal(m.conn, c.conn);
		/* Whoever writes learns that nobody reads. */
		assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
		assert_true(p.revents & POLLERR);
		close(p.fd);
	}
}

/* ---- streams ---- */

static void
test_short_streams(void **state)
{
	static const char error[] =
	    "{\"code\":\"not_found\",\"message\":\"no such file\",\"hint\":\"look\"}";
	static const char wrapped[] =
	    "{\"schema\":\"warren.error/1\",\"error\":{\"code\":\"denied\",\"message\":\"no\"}}";
	static const struct {
		const char *data, *error;
		uint8_t exit;
		int status;
		const char *body;
	} t[] = {
	    {"hello", "", 0, 200, "hello"},
	    {"", "", 0, 200, ""},
	    {"differs", "", 1, 200, "differs"},
	    {"", error, 5, 404,
	     "{\"schema\":\"warren.error/1\",\"error\":{\"code\":\"not_found\",\"message\":\"no "
	     "such "
	     "file\",\"hint\":\"look\"}}"},
	    {"part", error, 5, 404, "no such file"},
	    {"most of it", error, 3, 200, "most of it"},
	    {"", wrapped, 4, 403, "\"message\":\"no\""},
	    {"", "no JSON", 1, 500, "no JSON"},
	};
	struct fixture *f = *state;
	struct client c = client(f);

	/* The end may be told before or after the pipe has it. */
	for (size_t i = 0; i < WR_ARRAY_LEN(t) * 2; i++) {
		WR_SCOPED(answer_fini) struct answer a = {0};
		size_t k = i / 2;
		char exit[32];
		uint32_t seq;
		int fd;

		puts_to(c.fd, GET(ID "/read?path=x"));
		seq = next_call(f, WR_API_READ);
		fd = stream(f, seq);
		puts_to(fd, t[k].data);
		if (i % 2)
			end_stream(f, seq, t[k].exit, t[k].error);
		close(fd);
		if (i % 2 == 0)
			end_stream(f, seq, t[k].exit, t[k].error);
		a = answer(&c);
		assert_int_equal(a.status, t[k].status);
		assert_non_null(strstr(wr_buf_str(&a.body), t[k].body));
		assert_non_null(strcasestr(a.head, "\r\nContent-Length: "));
		snprintf(exit, sizeof(exit), "\r\nWarren-Exit: %u\r\n", t[k].exit);
		assert_non_null(strstr(a.head, exit));
		assert_int_equal(strstr(a.head, "\r\nWarren-Error: ") != NULL, *t[k].error != 0);
		assert_non_null(
		    strstr(a.head, t[k].status == 200 ? "text/plain" : "application/json"));
	}
	/* No stream at all. */
	puts_to(c.fd, GET(ID "/read?path=x"));
	end_stream(f, next_call(f, WR_API_READ), 5, error);
	expect(&c, 404, "no such file");
	hang_up(f, &c);
}

static void
test_long_streams(void **state)
{
	static const struct {
		const char *error;
		uint8_t exit;
		const char *trailers;
	} t[] = {
	    {"", 0, "Warren-Exit: 0\r\n"},
	    {"{\"code\":\"failed\",\"message\":\"disk\"}", 1,
	     "Warren-Exit: 1\r\nWarren-Error: {\"code\":\"failed\",\"message\":\"disk\"}\r\n"},
	    /* {"message":"ä"} */
	    {"{\"message\":\"\xc3\xa4\"}", 3,
	     "Warren-Exit: 3\r\nWarren-Error: eyJtZXNzYWdlIjoiw6QifQ==\r\n"},
	};
	struct fixture *f = *state;
	struct client c = client(f);
	char piece[50000];

	for (size_t i = 0; i < WR_ARRAY_LEN(t) * 2; i++) {
		WR_SCOPED(wr_buf_fini) struct wr_buf want = WR_BUF_INIT;
		WR_SCOPED(answer_fini) struct answer a = {0};
		uint32_t seq;
		pid_t pid;
		int fd;

		puts_to(c.fd, GET(ID "/read?path=x"));
		seq = next_call(f, WR_API_READ);
		fd = stream(f, seq);
		for (int k = 0; k < 40; k++) {
			memset(piece, 'a' + k % 26, sizeof(piece));
			wr_buf_add(&want, piece, sizeof(piece));
		}
		pid = fork();
		if (pid == 0) {
			for (size_t at = 0; at < want.len; at += sizeof(piece)) {
				/* The pipe runs dry now and then. */
				if (at % 3 == 0)
					poll(NULL, 0, 5);
				(void)wr_write_all(fd, want.p + at, sizeof(piece));
			}
			_exit(0);
		}
		close(fd);
		if (i % 2)
			end_stream(f, seq, t[i / 2].exit, t[i / 2].error);
		assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
		if (i % 2 == 0) {
			WR_SCOPED(wr_freep) char *head = until(&c, "\r\n\r\n");
			struct client rest = c;

			/* All is read, and the front waits for the end to be told. */
			assert_non_null(head);
			assert_non_null(strstr(head, "\r\nTrailer: Warren-Exit, Warren-Error\r\n"));
			while (rest.in.len < want.len)
				assert_true(more(&rest));
			end_stream(f, seq, t[i / 2].exit, t[i / 2].error);
			c = rest;
			a.status = 200;
			read_chunks(&c, &a);
		} else {
			a = answer(&c);
		}
		waitpid(pid, NULL, 0);
		assert_int_equal(a.status, 200);
		assert_true(a.whole);
		assert_int_equal(a.body.len, want.len);
		assert_memory_equal(a.body.p, want.p, want.len);
		assert_string_equal(a.trailers, t[i / 2].trailers);
	}
	hang_up(f, &c);
}

/* ---- many ---- */

static void
test_three_hundred_connections(void **state)
{
	struct fixture *f = *state;
	struct client c[300];
	uint32_t seq[WR_CONNS_MAX];
	size_t closed = 0;

	for (size_t i = 0; i < 300; i++) {
		c[i] = client(f);
		if (i >= WR_CONNS_MAX) {
			expect(&c[i], 503, "too many connections");
			expect_closed(&c[i]);
			hang_up(f, &c[i]);
		}
	}
	for (size_t i = 0; i < WR_CONNS_MAX; i++) {
		puts_to(c[i].fd, GET("/v1/health"));
		seq[i] = next_call(f, WR_API_HEALTH);
	}
	for (size_t i = WR_CONNS_MAX; i--;) {
		reply(f, seq[i], 200, "{}");
		expect(&c[i], 200, "{}");
		client_end(&c[i]);
	}
	while (closed < WR_CONNS_MAX) {
		struct wr_ipc m = next(f, WR_IPC_CLOSED);

		wr_ipc_fini(&m);
		closed++;
	}
	/* There is room again. */
	c[0] = client(f);
	puts_to(c[0].fd, GET("/v1/health"));
	reply(f, next_call(f, WR_API_HEALTH), 200, "{}");
	expect(&c[0], 200, "{}");
	hang_up(f, &c[0]);
}

/* Control is slow: calls wait in the front, none is lost, and the front hears control meanwhile. */
static void
test_a_full_channel(void **state)
{
	enum { COUNT = 60 };
	struct fixture *f = *state;
	struct client c[COUNT];
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	bool seen[COUNT] = {false};

	wr_buf_adds(&b, "{\"settings\":[");
	for (int i = 0; i < 3; i++) {
		wr_buf_adds(&b, i ? ",\"" : "\"");
		for (int k = 0; k < 15000; k++)
			wr_buf_add8(&b, 'x');
		wr_buf_adds(&b, "\"");
	}
	wr_buf_adds(&b, "],\"name\":\"demo\"}");
	for (size_t i = 0; i < COUNT; i++) {
		char head[256];
		int n = snprintf(head, sizeof(head),
				 POST("/v1/projects", "Content-Length: %zu\r\n\r\n"), b.len);

		c[i] = client(f);
		put(c[i].fd, head, (size_t)n);
		put(c[i].fd, (const char *)b.p, b.len);
	}
	for (size_t i = 0; i < COUNT; i++) {
		WR_SCOPED(wr_ipc_fini) struct wr_ipc m = next(f, WR_IPC_CALL);
		size_t at = m.conn - c[0].conn;

		assert_true(at < COUNT && !seen[at]);
		seen[at] = true;
		reply(f, m.seq, 200, "{}");
		expect(&c[at], 200, "{}");
	}
	for (size_t i = 0; i < COUNT; i++)
		client_end(&c[i]);
}

/* ---- ends ---- */

static void
test_quit_answers_what_is_open(void **state)
{
	struct fixture *f = *state;
	struct client c = client(f), idle = client(f), late;
	struct wr_ipc quit = WR_IPC_INIT;
	uint32_t seq;

	puts_to(idle.fd, GET("/v1/health"));
	reply(f, next_call(f, WR_API_HEALTH), 200, "{}");
	expect(&idle, 200, "{}");
	puts_to(c.fd, GET("/v1/top"));
	seq = next_call(f, WR_API_TOP);
	quit.type = WR_IPC_QUIT;
	tell(f, &quit);
	late = client(f);
	expect(&late, 503, "");
	reply(f, seq, 200, "{\"last\":true}");
	expect(&c, 200, "last");
	expect_closed(&c);
	expect_closed(&idle);
	client_end(&c);
	client_end(&idle);
	client_end(&late);
	assert_int_equal(wait_end(f), 0);
}

static void
test_quit_waits_so_long_and_no_longer(void **state)
{
	struct fixture *f = *state;
	struct client c = client(f), flowing = client(f);
	struct wr_ipc quit = WR_IPC_INIT;
	uint64_t begin = wr_clock_mono_ns(), s;
	WR_SCOPED(answer_fini) struct answer a = {0};
	WR_SCOPED(wr_closep) int fd = -1;
	char piece[4096] = {0};

	puts_to(flowing.fd, GET(ID "/read?path=x"));
	fd = stream(f, next_call(f, WR_API_READ));
	for (int i = 0; i < 20; i++)
		put(fd, piece, sizeof(piece));
	puts_to(c.fd, GET("/v1/top"));
	(void)next_call(f, WR_API_TOP);
	quit.type = WR_IPC_QUIT;
	tell(f, &quit);
	expect(&c, 503, "ended before it answered");
	/* A stream that is cut is not taken for a whole one. */
	a = answer(&flowing);
	assert_int_equal(a.status, 200);
	assert_false(a.whole);
	assert_int_equal(wait_end(f), 0);
	s = (wr_clock_mono_ns() - begin) / 1000000000u;
	assert_in_range(s, WR_DRAIN_S - 1, WR_DRAIN_S + 4);
	client_end(&c);
	client_end(&flowing);
}

static void
test_control_dies(void **state)
{
	struct fixture *f = *state;
	struct client c = client(f), idle = client(f);

	puts_to(c.fd, GET("/v1/top"));
	(void)next_call(f, WR_API_TOP);
	close(f->channel);
	f->channel = -1;
	expect(&c, 503, "try again");
	expect_closed(&idle);
	assert_int_equal(wait_end(f), 0);
	client_end(&c);
	client_end(&idle);
}

static void
test_a_channel_that_speaks_nonsense(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(wr_msg_send(f->channel, "\x2a", 1, NULL, 0, NULL), 1);
	assert_int_equal(wait_end(f), 1);
}

static void
test_idle_connections_are_closed(void **state)
{
	struct fixture *f = *state;
	struct fixture quick;
	struct client silent, half, waiting;
	uint32_t seq;

	(void)f;
	start(&quick, 1);
	silent = client(&quick);
	half = client(&quick);
	waiting = client(&quick);
	puts_to(half.fd, "GET /v1/hea");
	puts_to(waiting.fd, GET("/v1/top"));
	seq = next_call(&quick, WR_API_TOP);
	expect_closed(&silent);
	expect_closed(&half);
	/* Who waits for control is not idle. */
	reply(&quick, seq, 200, "{\"waited\":true}");
	expect(&waiting, 200, "waited");
	client_end(&silent);
	client_end(&half);
	client_end(&waiting);
	close(quick.channel);
	assert_int_equal(wait_end(&quick), 0);
}

/* The real entry, with its walls; what it costs when nothing happens. */
static void
test_main_behind_its_walls(void **state)
{
	struct fixture f = {.last_conn = 0};
	struct client c;
	uint64_t rss;
	double cpu_s;
	int s[2];

	(void)state;
	assert_int_equal(wr_msg_pair(s, NULL), 0);
	f.pid = fork();
	assert_true(f.pid >= 0);
	if (f.pid == 0) {
		char *argv[] = {NULL, NULL};

		if (dup2(s[0], 3) < 0 || close_range(4, ~0u, 0) < 0)
			_exit(99);
		_exit(wr_front_main(0, argv));
	}
	close(s[0]);
	f.channel = s[1];
	c = client(&f);
	puts_to(c.fd, GET("/v1/health"));
	reply(&f, next_call(&f, WR_API_HEALTH), 200, "{}");
	expect(&c, 200, "{}");
	assert_true(wr_proc_usage(f.pid, &rss, &cpu_s));
	printf("# an idle front: %s resident\n", wr_fmt_bytes(rss).s);
	hang_up(&f, &c);
	close(f.channel);
	assert_int_equal(wait_end(&f), 0);
}

int
main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_a_call_and_its_reply),
	    TEST(test_bodies_byte_by_byte_and_in_chunks),
	    TEST(test_pipelined_requests_are_answered_in_order),
	    TEST(test_clients_do_not_wait_for_each_other),
	    TEST(test_a_long_reply),
	    TEST(test_refusals),
	    TEST(test_deep_json),
	    TEST(test_bodies_that_are_too_long),
	    TEST(test_headers_that_are_too_long),
	    TEST(test_what_is_no_http),
	    TEST(test_a_client_that_only_stops_sending),
	    TEST(test_a_client_that_goes_away),
	    TEST(test_a_client_that_goes_in_the_middle_of_a_stream),
	    TEST(test_short_streams),
	    TEST(test_long_streams),
	    TEST(test_three_hundred_connections),
	    TEST(test_a_full_channel),
	    TEST(test_quit_answers_what_is_open),
	    TEST(test_quit_waits_so_long_and_no_longer),
	    TEST(test_control_dies),
	    TEST(test_a_channel_that_speaks_nonsense),
	    TEST(test_idle_connections_are_closed),
	    cmocka_unit_test(test_main_behind_its_walls),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

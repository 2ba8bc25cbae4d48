/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a front could do that was taken over: started by control in place of our own
 * (`warren serve --front PROGRAM`), it speaks to control whatever it likes.
 *
 * $WARREN_HOSTILE, as the daemon had it: words NAME (a project), op:ID, token:TEXT, /PATH (a file
 * that is none of a front's business).
 * A client writes one line that says what to do, and reads what came of it, line by line:
 *
 *   calls           every call of the table, well-formed, about every project and operation that is
 *                   named:  METHOD ROUTE REF TOKEN STATUS CODE
 *   forged          the same with each token
 *   foreign         calls for connections that are not ours
 *   twice           two calls under one number
 *   closed          the end of a connection that is not ours
 *   malformed N     the N-th of the messages that are none; "none" if there are fewer
 *   oversized       messages beyond every limit
 *   descriptors     calls that carry descriptors
 *   flood           calls without end, whose answers nobody reads
 *   forks           programs, sockets and files, from inside the walls
 *
 * "done" comes last, unless control ended us before.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "serve/ipc/ipc.h"
#include "sys/fs.h"
#include "sys/sandbox.h"

#define CHANNEL 3
#define WORDS 64
#define WAITING 256

struct words {
	const char *word[WORDS];
	size_t count;
};

static struct words refs, ops, tokens, paths;
/* Connections that came while we waited for something else. */
static struct wr_ipc waiting[WAITING];
static size_t waiting_count;
static uint32_t last_seq;

/* ---- to the client ---- */

static void say(int fd, const char *fmt, ...) WR_PRINTF(2, 3);

static void
say(int fd, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	(void)wr_write_all(fd, line, WR_MIN((size_t)n, sizeof(line) - 1)); /* it may be gone */
}

static void
read_line(int fd, char *out, size_t size)
{
	size_t n = 0;

	while (n + 1 < size) {
		struct pollfd p = {fd, POLLIN, 0};

		if (poll(&p, 1, 10000) != 1 || read(fd, out + n, 1) != 1 || out[n] == '\n')
			break;
		n++;
	}
	out[n] = '\0';
}

/* ---- to control ---- */

/* The next message; connections are kept for later. Ends us with the channel. */
static struct wr_ipc
receive(void)
{
	for (;;) {
		WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
		struct wr_ipc m = WR_IPC_INIT;
		int fds[WR_MSG_FDS];
		size_t n;

		if (wr_msg_recv(CHANNEL, &b, fds, &n, NULL) != 1)
			_exit(0);
		if (wr_ipc_decode(b.p, b.len, fds, n, false, &m, NULL) < 0)
			_exit(1);
		if (m.type == WR_IPC_QUIT)
			_exit(0);
		if (m.type != WR_IPC_CONN)
			return m;
		if (waiting_count < WAITING)
			waiting[waiting_count++] = m;
		else
			wr_ipc_fini(&m);
	}
}

static void
send_bytes(const void *p, size_t len, const int *fds, size_t fd_count)
{
	(void)wr_msg_send(CHANNEL, p, len, fds, fd_count, NULL); /* refused is as good */
}

static int
send_call(const struct wr_call *c, uint32_t conn, uint32_t seq, const char *token)
{
	struct wr_ipc m = WR_IPC_INIT;

	m.type = WR_IPC_CALL;
	m.conn = conn;
	m.seq = seq;
	snprintf(m.token, sizeof(m.token), "%s", token);
	m.call = *c; /* lent */
	return wr_ipc_send(CHANNEL, &m, NULL);
}

/* ---- calls ---- */

/* Something that an attacker would like for this argument. */
static void
give(struct wr_call *c, const struct wr_api_arg *a, const char *ref)
{
	static const struct {
		const char *call_arg, *value;
	} wishes[] = {
	    {"set", "home=/root"},
	    {"settings", "command=touch /tmp/owned"},
	    {"labels", "owned=yes"},
	    {"uid", "0"},
	    {"gid", "0"},
	    {"id", "11111111-1111-4111-8111-111111111111"},
	    {"path", "../../../etc"},
	    {"to", "/etc/owned"},
	    {"from", "/etc"},
	    {"from_path", "."},
	    {"to_path", "."},
	    {"snapshot", "latest"},
	    {"spec", "latest:/"},
	    {"a", "latest"},
	    {"b", "latest"},
	    {"pattern", "*"},
	    {"force", "true"},
	    {"now", "true"},
	    {"delete", "true"},
	    {"in_place", "true"},
	    {"live", "true"},
	    {"wait", "0"},
	    {"message", "owned"},
	    {"tag", "owned"},
	    {"holder", "owned"},
	    {"scope", "admin"},
	    {"node", "11111111-1111-4111-8111-111111111111"},
	    {"tls_spki", "AAAA"},
	    {"sign_pub", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="},
	    {"dead", "test"},
	    {"min", "1"},
	};
	/* A join token as far as its form goes, and the id of a token. */
	static const char join[] =
	    "wrj_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
			  token[] = "00000000";
	struct wr_err err = WR_ERR_INIT;

	/* In copies these two are projects. */
	if (c->api->id == WR_API_COPY && (!strcmp(a->name, "from") || !strcmp(a->name, "to"))) {
		(void)wr_call_add(c, a->name, ref, strlen(ref), &err);
		return;
	}
	if (a->required && !strcmp(a->name, "project")) {
		(void)wr_call_add(c, a->name, "beta", 4, &err);
		return;
	}
	if (c->api->id == WR_API_CREATE && !strcmp(a->name, "name")) {
		(void)wr_call_add(c, a->name, "owned", 5, &err);
		return;
	}
	if (!strcmp(a->name, "token")) {
		const char *s = c->api->id == WR_API_TOKEN_REVOKE ? token : join;

		(void)wr_call_add(c, a->name, s, strlen(s), &err);
		return;
	}
	for (size_t i = 0; i < WR_ARRAY_LEN(wishes); i++)
		if (!strcmp(wishes[i].call_arg, a->name))
			(void)wr_call_add(c, a->name, wishes[i].value, strlen(wishes[i].value),
					  &err);
}

static void
make(struct wr_call *c, enum wr_api_call_id id, const char *ref)
{
	*c = (struct wr_call){.api = &wr_api_calls[id]};
	if (c->api->flags & (WR_API_PROJECT | WR_API_OP))
		snprintf(c->ref, sizeof(c->ref), "%s", ref);
	for (size_t i = 0; i < WR_API_ARGS && c->api->arg[i].name; i++)
		give(c, &c->api->arg[i], ref);
}

/* "code" of an error body, "-" where there is none. */
static void
code_of(const struct wr_ipc *m, char out[32])
{
	static const char key[] = "\"code\":\"";
	char text[4096] = "";
	const char *s;

	if (m->fd >= 0 && m->type == WR_IPC_REPLY) {
		ssize_t n = wr_pread_full(m->fd, text, sizeof(text) - 1, 0);

		text[n > 0 ? n : 0] = '\0';
	}
	s = strstr(m->text && !*text ? m->text : text, key);
	snprintf(out, 32, "%.*s", s ? (int)strcspn(s + sizeof(key) - 1, "\"") : 1,
		 s ? s + sizeof(key) - 1 : "-");
}

/* Ask, and tell the client what was answered. */
static void
ask(int fd, uint32_t conn, enum wr_api_call_id id, const char *ref, const char *token)
{
	struct wr_call c;
	uint32_t seq = ++last_seq;
	unsigned status = 0;
	char code[32] = "-";
	bool streams = false;

	make(&c, id, ref);
	(void)send_call(&c, conn, seq, token);
	for (;;) {
		WR_SCOPED(wr_ipc_fini) struct wr_ipc m = receive();

		if (m.seq != seq)
			continue;
		if (m.type == WR_IPC_STREAM) {
			streams = true;
			continue;
		}
		status = m.type == WR_IPC_REPLY ? m.status : 200;
		code_of(&m, code);
		break;
	}
	say(fd, "%s %s %s %s %u %s%s\n", c.api->method, c.api->route, *c.ref ? c.ref : "-",
	    *token ? token : "-", status, code, streams ? " STREAM" : "");
	wr_call_fini(&c);
}

/* Every call of the table; about everything of its kind that is named, if it names something. */
static void
all_calls(int fd, uint32_t conn, const char *token)
{
	for (unsigned id = WR_API_NONE + 1; id < WR_API_CALLS; id++) {
		const struct wr_api_call *api = &wr_api_calls[id];
		const struct words *w = api->flags & WR_API_OP ? &ops : &refs;
		bool names = (api->flags & (WR_API_PROJECT | WR_API_OP)) || id == WR_API_COPY;

		for (size_t i = 0; i < (names ? w->count : 1); i++)
			ask(fd, conn, id, names ? w->word[i] : "", token);
	}
}

/* ---- what is no call ---- */

static void
foreign(uint32_t conn)
{
	static const uint32_t steps[] = {1, 0xffffffffu, 0x80000000u};

	for (size_t i = 0; i < WR_ARRAY_LEN(steps); i++) {
		struct wr_call c;

		make(&c, WR_API_LIST, "");
		(void)send_call(&c, conn + steps[i], ++last_seq, "");
		wr_call_fini(&c);
	}
}

static void
twice(uint32_t conn)
{
	struct wr_call c;

	/* One that waits, so that it is open when the second comes. */
	make(&c, WR_API_OP_SHOW, ops.count ? ops.word[0] : "0000");
	for (int i = 0; i < 2000; i++)
		(void)send_call(&c, conn, 1, "");
	wr_call_fini(&c);
}

/* Every cut of a call, every type, lengths that lie, and noise. */
static bool
malformed(uint32_t conn, unsigned long n)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_ipc m = WR_IPC_INIT;
	unsigned long last;

	m.type = WR_IPC_CALL;
	m.conn = conn;
	m.seq = ++last_seq;
	memcpy(m.token, "wrt_x", 6);
	make(&m.call, WR_API_DELETE, refs.count ? refs.word[0] : "demo");
	wr_ipc_encode(&m, &b);
	wr_call_fini(&m.call);
	last = b.len;
	if (n == 0) {
		/* Past our own library, which would not send it. */
		(void)send(CHANNEL, "", 0, MSG_NOSIGNAL);
	} else if (n < last) {
		send_bytes(b.p, n, NULL, 0);
	} else if (n < last + 256) {
		/* As other types, those of control among them; those that fit are not malformed. */
		b.p[0] = (uint8_t)(n - last);
		if (b.p[0] == WR_IPC_CALL)
			wr_buf_add8(&b, 0);
		send_bytes(b.p, b.len, NULL, 0);
	} else if (n < last + 256 + last - 4) {
		size_t at = n - last - 256;

		memset(b.p + at, 0xff, 4);
		wr_buf_add8(&b, 0xff);
		send_bytes(b.p, b.len, NULL, 0);
	} else {
		return false;
	}
	return true;
}

static void
oversized(void)
{
	static const size_t sizes[] = {WR_MSG_MAX + 1, 200000, 1u << 20, 16u << 20};

	for (size_t i = 0; i < WR_ARRAY_LEN(sizes); i++) {
		uint8_t *p = wr_malloc(sizes[i]);

		memset(p, WR_IPC_CALL, sizes[i]);
		/* Past our own library, which would not send it. */
		if (send(CHANNEL, p, sizes[i], MSG_NOSIGNAL) < 0)
			send_bytes(p, WR_MSG_MAX, NULL, 0);
		free(p);
	}
}

static void
descriptors(uint32_t conn)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_ipc m = WR_IPC_INIT;
	int fds[WR_MSG_FDS];

	for (size_t i = 0; i < WR_MSG_FDS; i++)
		fds[i] = CHANNEL;
	m.type = WR_IPC_CALL;
	m.conn = conn;
	m.seq = ++last_seq;
	make(&m.call, WR_API_HEALTH, "");
	wr_ipc_encode(&m, &b);
	wr_call_fini(&m.call);
	for (size_t n = 1; n <= WR_MSG_FDS; n++)
		send_bytes(b.p, b.len, fds, n);
}

static void
flood(uint32_t conn)
{
	struct wr_call c;

	make(&c, WR_API_LIST, "");
	while (send_call(&c, conn, ++last_seq, "wrt_forged") >= 0)
		;
	wr_call_fini(&c);
}

static void
forks(int fd)
{
	char *argv[] = {(char *)(uintptr_t) "/bin/true", NULL};
	pid_t pid = fork();
	int status = 0, f;

	if (pid == 0) {
		execv(argv[0], argv);
		_exit(42);
	}
	if (pid > 0)
		waitpid(pid, &status, 0);
	say(fd, "exec %s\n",
	    pid < 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 42) || WIFSIGNALED(status)
		? "refused"
		: "POSSIBLE");
	f = socket(AF_INET, SOCK_STREAM, 0);
	say(fd, "internet %s\n", f < 0 ? "refused" : "POSSIBLE");
	f = socket(AF_UNIX, SOCK_STREAM, 0);
	say(fd, "socket %s\n", f < 0 ? "refused" : "POSSIBLE");
	for (size_t i = 0; i < paths.count; i++) {
		f = open(paths.word[i], O_RDONLY | O_CLOEXEC);
		say(fd, "open %s %s\n", paths.word[i], f < 0 ? "refused" : "POSSIBLE");
	}
}

/* ---- frame ---- */

static void
serve(const struct wr_ipc *m)
{
	struct wr_ipc end = WR_IPC_INIT;
	char mode[64];
	int fd = m->fd;

	(void)fcntl(fd, F_SETFL, 0); /* blocking from here; where it fails, lines are lost */
	read_line(fd, mode, sizeof(mode));
	say(fd, "mode %s\n", mode);
	if (!strcmp(mode, "calls"))
		all_calls(fd, m->conn, "");
	else if (!strcmp(mode, "forged"))
		for (size_t i = 0; i < tokens.count; i++)
			all_calls(fd, m->conn, tokens.word[i]);
	else if (!strcmp(mode, "foreign"))
		foreign(m->conn);
	else if (!strcmp(mode, "twice"))
		twice(m->conn);
	else if (!strncmp(mode, "malformed ", 10))
		say(fd, "%s\n", malformed(m->conn, strtoul(mode + 10, NULL, 10)) ? "sent" : "none");
	else if (!strcmp(mode, "oversized"))
		oversized();
	else if (!strcmp(mode, "descriptors"))
		descriptors(m->conn);
	else if (!strcmp(mode, "flood"))
		flood(m->conn);
	else if (!strcmp(mode, "forks"))
		forks(fd);
	end.type = WR_IPC_CLOSED;
	end.conn = m->conn;
	if (!strcmp(mode, "closed")) {
		end.conn++;
		(void)wr_ipc_send(CHANNEL, &end, NULL);
	}
	/* Are we still heard? Control ends a front that does not keep to the rules. */
	if (strcmp(mode, "forks") != 0)
		ask(fd, m->conn, WR_API_HEALTH, "", "");
	say(fd, "done\n");
	end.conn = m->conn;
	(void)wr_ipc_send(CHANNEL, &end, NULL);
}

static void
add_word(struct words *w, const char *s)
{
	if (w->count < WORDS)
		w->word[w->count++] = s;
}

int
main(void)
{
	char *list = wr_strdup(getenv("WARREN_HOSTILE") ? getenv("WARREN_HOSTILE") : "");
	char *save = NULL;
	/* A front is taken over by what it reads, and by then it has done this. */
	struct wr_sandbox last_walls = {
	    .no_new_privs = true, .no_exec_new = true, .no_sockets = true};

	if (wr_sandbox_apply(&last_walls, false, NULL) < 0)
		return 1;
	signal(SIGPIPE, SIG_IGN);
	for (char *s = strtok_r(list, " ", &save); s; s = strtok_r(NULL, " ", &save)) {
		if (!strncmp(s, "op:", 3))
			add_word(&ops, s + 3);
		else if (!strncmp(s, "token:", 6))
			add_word(&tokens, s + 6);
		else if (*s == '/')
			add_word(&paths, s);
		else
			add_word(&refs, s);
	}
	for (;;) {
		struct wr_ipc m;

		if (!waiting_count) {
			struct pollfd p = {CHANNEL, POLLIN, 0};
			WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
			int fds[WR_MSG_FDS];
			size_t n;

			m = (struct wr_ipc)WR_IPC_INIT;
			if (poll(&p, 1, -1) < 0)
				continue;
			if (wr_msg_recv(CHANNEL, &b, fds, &n, NULL) != 1 ||
			    wr_ipc_decode(b.p, b.len, fds, n, false, &m, NULL) < 0 ||
			    m.type == WR_IPC_QUIT)
				_exit(0);
		} else {
			m = waiting[0];
			memmove(waiting, waiting + 1, --waiting_count * sizeof(waiting[0]));
		}
		if (m.type == WR_IPC_CONN)
			serve(&m);
		wr_ipc_fini(&m);
	}
}

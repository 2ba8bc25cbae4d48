/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"

#include <strings.h>
#include <unistd.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/out.h"
#include "host/node/node.h"
#include "sys/fs.h"

#define BODY_MAX (64u << 20)  /* of an answer that is kept */
#define ERROR_MAX (1u << 20)  /* of a refusal */
#define LINE_MAX_BYTES 32768u /* of a header; Warren-Error is the longest */
#define HEADERS_MAX 100

/* ---- where ---- */

static const char *
option(const struct wr_args *a, const char *name)
{
	const struct wr_opt *o;

	for (size_t i = 0; (o = wr_cmd_opt(a->cmd, i)); i++)
		if (!strcmp(o->name, name))
			return wr_arg_str(a, name);
	return NULL;
}

static const char *
environment(const char *name)
{
	const char *s = getenv(name);

	return s && *s ? s : NULL;
}

const char *
wr_client_root(const struct wr_args *a)
{
	const char *root = option(a, "root");

	return root ? root : environment("WARREN_ROOT");
}

bool
wr_client_is_local(const struct wr_args *a)
{
	if (option(a, "socket"))
		return false;
	if (option(a, "root"))
		return true;
	return !environment("WARREN_SOCKET") && !environment("WARREN_URL");
}

/* The socket of a root; the configuration may have moved it. */
static char *
socket_of_root(const char *root)
{
	WR_SCOPED(wr_freep)
	char *path =
	    root ? wr_asprintf("%s/warren.conf", root) : wr_strdup("/etc/warren/warren.conf");
	struct wr_config config = {0};
	char *s = NULL;

	/* A file that this user may not read, or that is wrong, is the daemon's affair. */
	if (wr_config_load(path, &config, NULL) == 0) {
		if (config.listen_socket && *config.listen_socket)
			s = wr_strdup(config.listen_socket);
		wr_config_fini(&config);
	}
	if (!s)
		s = root ? wr_asprintf("%s/run/warren.sock", root)
			 : wr_strdup("/run/warren/warren.sock");
	return s;
}

int
wr_client_init(struct wr_client *c, const struct wr_args *a, struct wr_err *err)
{
	const char *url = environment("WARREN_URL"), *s = option(a, "socket");

	*c = (struct wr_client){.token = environment("WARREN_TOKEN")};
	if (s) {
		c->to.socket = wr_strdup(s);
	} else if (wr_client_is_local(a)) {
		c->to.socket = socket_of_root(wr_client_root(a));
	} else if ((s = environment("WARREN_SOCKET"))) {
		c->to.socket = wr_strdup(s);
	} else {
		if (wr_wire_to_url(&c->to, "$WARREN_URL", url, err) < 0)
			return -1;
		s = c->to.host ? environment("WARREN_CA") : NULL;
		if (s && wr_wire_to_ca(&c->to, "$WARREN_CA", s, err) < 0)
			return -1;
	}
	return 0;
}

void
wr_client_fini(struct wr_client *c)
{
	wr_wire_to_fini(&c->to);
	*c = (struct wr_client){0};
}

/* ---- requests ---- */

static void
add_encoded(struct wr_buf *b, const char *s)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				    "0123456789-._~";

	for (; *s; s++) {
		if (strchr(plain, *s))
			wr_buf_add8(b, (uint8_t)*s);
		else
			wr_buf_addf(b, "%%%02X", (unsigned char)*s);
	}
}

void
wr_ask_init(struct wr_ask *r, enum wr_api_call_id id, const char *ref)
{
	const char *route = wr_api_calls[id].route, *open = strchr(route, '{');

	*r = (struct wr_ask){.api = &wr_api_calls[id]};
	wr_assert(!open == !ref);
	if (!open) {
		wr_buf_adds(&r->target, route);
	} else {
		wr_buf_add(&r->target, route, (size_t)(open - route));
		add_encoded(&r->target, ref);
		wr_buf_adds(&r->target, strchr(open, '}') + 1);
	}
	if (strcmp(r->api->method, "GET") != 0)
		r->body = json_object();
}

void
wr_ask_fini(struct wr_ask *r)
{
	wr_buf_fini(&r->target);
	wr_json_freep(&r->body);
}

static void
add_query(struct wr_ask *r, const char *name, const char *value)
{
	wr_buf_addf(&r->target, "%c%s=", r->query ? '&' : '?', name);
	r->query = true;
	add_encoded(&r->target, value);
}

void
wr_ask_str(struct wr_ask *r, const char *name, const char *value)
{
	if (!value)
		return;
	if (r->body)
		wr_json_str(r->body, name, value);
	else
		add_query(r, name, value);
}

void
wr_ask_path(struct wr_ask *r, const char *name, const char *value)
{
	WR_SCOPED(wr_freep) char *key = NULL, *text = NULL;

	if (!value || !r->body || wr_utf8_valid(value, strlen(value))) {
		wr_ask_str(r, name, value);
		return;
	}
	key = wr_asprintf("%s_b64", name);
	text = wr_base64(value, strlen(value));
	wr_json_str(r->body, key, text);
}

void
wr_ask_u64(struct wr_ask *r, const char *name, uint64_t value)
{
	char text[24];

	if (r->body) {
		wr_json_u64(r->body, name, value);
		return;
	}
	snprintf(text, sizeof(text), "%" PRIu64, value);
	add_query(r, name, text);
}

void
wr_ask_flag(struct wr_ask *r, const char *name, bool value)
{
	if (!value)
		return;
	if (r->body)
		wr_json_bool(r->body, name, true);
	else
		add_query(r, name, "true");
}

void
wr_ask_list(struct wr_ask *r, const char *name, const char *const *value, size_t count)
{
	json_t *list = r->body && count ? wr_json_array(r->body, name) : NULL;

	for (size_t i = 0; i < count; i++) {
		if (list)
			wr_json_add_str(list, value[i]);
		else
			add_query(r, name, value[i]);
	}
}

int
wr_ask_pair(struct wr_ask *r, const char *name, const char *pair, struct wr_err *err)
{
	const char *eq = strchr(pair, '=');
	WR_SCOPED(wr_freep) char *key = NULL;
	json_t *o = wr_json_get_obj(r->body, name);

	if (!eq || eq == pair) {
		wr_err_set(err, WR_E_USAGE, "'%s' is not of the form KEY=VALUE", WR_Q(pair));
		return -1;
	}
	if (!o)
		o = wr_json_object(r->body, name);
	key = wr_utf8_lossy(pair, (size_t)(eq - pair));
	wr_json_str(o, key, eq + 1);
	return 0;
}

/* ---- the wire ---- */

struct conn {
	struct wr_wire *wire;
	const struct wr_client *client;
	size_t at, len;
	uint8_t buf[65536];
};

struct head {
	unsigned status;
	bool chunked, has_length;
	uint64_t length;
	int exit;    /* Warren-Exit, -1: not told */
	char *error; /* Warren-Error, as sent; owned */
};

static int
broken(struct wr_err *err, const char *what)
{
	return wr_err_set(err, WR_E_FAILED, "the daemon's answer is broken: %s", what);
}

/* 1: there are bytes, 0: the end */
static int
fill(struct conn *c, struct wr_err *err)
{
	ssize_t n;

	if (c->at < c->len)
		return 1;
	n = wr_wire_read(c->wire, c->buf, sizeof(c->buf), err);
	if (n < 0)
		return -1;
	c->at = 0;
	c->len = (size_t)n;
	return n > 0;
}

/* A line without its end. */
static int
read_line(struct conn *c, struct wr_buf *out, struct wr_err *err)
{
	wr_buf_clear(out);
	for (;;) {
		const uint8_t *p, *end;
		int rc = fill(c, err);
		size_t n;

		if (rc < 0)
			return -1;
		if (rc == 0)
			return broken(err, "it ended early");
		p = c->buf + c->at;
		end = memchr(p, '\n', c->len - c->at);
		n = end ? (size_t)(end - p) : c->len - c->at;
		if (out->len + n > LINE_MAX_BYTES)
			return broken(err, "a line is too long");
		wr_buf_add(out, p, n);
		c->at += n + (end != NULL);
		if (!end)
			continue;
		if (out->len && out->p[out->len - 1] == '\r')
			out->len--;
		(void)wr_buf_str(out);
		return 0;
	}
}

/* Header or trailer lines up to the empty one. */
static int
read_fields(struct conn *c, struct head *h, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	for (int i = 0; i < HEADERS_MAX; i++) {
		char *value;
		uint64_t n;

		if (read_line(c, &b, err) < 0)
			return -1;
		if (b.len == 0)
			return 0;
		value = strchr(wr_buf_str(&b), ':');
		if (!value)
			return broken(err, "a header without a colon");
		*value++ = '\0';
		value += strspn(value, " \t");
		if (!strcasecmp((char *)b.p, "Content-Length")) {
			if (wr_parse_u64(value, &h->length, NULL) < 0)
				return broken(err, "Content-Length is no number");
			h->has_length = true;
		} else if (!strcasecmp((char *)b.p, "Transfer-Encoding")) {
			if (strcasecmp(value, "chunked") != 0)
				return broken(err, "unknown Transfer-Encoding");
			h->chunked = true;
		} else if (!strcasecmp((char *)b.p, "Warren-Exit")) {
			if (wr_parse_u64(value, &n, NULL) < 0 || n > 255)
				return broken(err, "Warren-Exit is no exit status");
			h->exit = (int)n;
		} else if (!strcasecmp((char *)b.p, "Warren-Error")) {
			free(h->error);
			h->error = wr_strdup(value);
		}
	}
	return broken(err, "too many headers");
}

static int
read_head(struct conn *c, struct head *h, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	const char *s;

	if (read_line(c, &b, err) < 0)
		return -1;
	s = wr_buf_str(&b);
	if (strncmp(s, "HTTP/1.", 7) != 0 || b.len < 12 || s[8] != ' ' ||
	    strspn(s + 9, "0123456789") != 3)
		return broken(err, "it is not HTTP");
	*h = (struct head){.exit = -1};
	h->status =
	    (unsigned)(s[9] - '0') * 100 + (unsigned)(s[10] - '0') * 10 + (unsigned)(s[11] - '0');
	return read_fields(c, h, err);
}

/* Pieces of a body, in order. */
typedef int (*sink_fn)(void *ctx, const void *p, size_t len, struct wr_err *err);

static int
copy_bytes(struct conn *c, uint64_t left, sink_fn fn, void *ctx, struct wr_err *err)
{
	while (left) {
		size_t n;
		int rc = fill(c, err);

		if (rc < 0)
			return -1;
		if (rc == 0)
			return broken(err, "it ended early");
		n = (size_t)WR_MIN(left, (uint64_t)(c->len - c->at));
		if (fn(ctx, c->buf + c->at, n, err) < 0)
			return -1;
		c->at += n;
		left -= n;
	}
	return 0;
}

static int
chunk_size(const char *s, uint64_t *out)
{
	uint64_t v = 0;
	size_t n = strspn(s, "0123456789abcdefABCDEF");

	if (n == 0 || n > 15 || (s[n] && s[n] != ';' && s[n] != ' '))
		return -1;
	for (size_t i = 0; i < n; i++) {
		unsigned d = (unsigned char)s[i];

		v = v << 4 | (d <= '9' ? d - '0' : (d | 0x20) - 'a' + 10);
	}
	*out = v;
	return 0;
}

static int
read_body(struct conn *c, struct head *h, sink_fn fn, void *ctx, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	uint64_t size;
	int rc;

	if (!h->chunked && h->has_length)
		return copy_bytes(c, h->length, fn, ctx, err);
	if (!h->chunked) { /* up to the end of the connection */
		while ((rc = fill(c, err)) > 0) {
			if (fn(ctx, c->buf + c->at, c->len - c->at, err) < 0)
				return -1;
			c->at = c->len;
		}
		return rc;
	}
	for (;;) {
		if (read_line(c, &b, err) < 0)
			return -1;
		if (chunk_size(wr_buf_str(&b), &size) < 0)
			return broken(err, "a chunk without a size");
		if (size == 0)
			return read_fields(c, h, err);
		if (copy_bytes(c, size, fn, ctx, err) < 0 || read_line(c, &b, err) < 0)
			return -1;
		if (b.len)
			return broken(err, "a chunk is longer than it says");
	}
}

static int
exchange(struct conn *c, const struct wr_ask *r, struct head *h, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT, body = WR_BUF_INIT;
	const char *token = c->client->token;

	if (wr_wire_open(&c->client->to, c->client->stop, &c->wire, err) < 0)
		return -1;
	wr_buf_addf(&b, "%s %.*s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", r->api->method,
		    (int)r->target.len, (const char *)r->target.p, wr_wire_name(&c->client->to).s);
	/* What could end the header early is no token of ours. */
	if (token && !token[strcspn(token, "\r\n")])
		wr_buf_addf(&b, "Authorization: Bearer %s\r\n", token);
	if (r->body) {
		wr_json_write(r->body, &body);
		wr_buf_addf(&b, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
			    body.len);
	}
	wr_buf_adds(&b, "\r\n");
	wr_buf_add(&b, body.p, body.len);
	if (wr_wire_write(c->wire, b.p, b.len, err) < 0)
		return -1;
	do {
		free(h->error);
		*h = (struct head){0};
		if (read_head(c, h, err) < 0)
			return -1;
	} while (h->status / 100 == 1);
	return 0;
}

struct keep {
	struct wr_buf *b;
	size_t max;
};

static int
keep_bytes(void *ctx, const void *p, size_t len, struct wr_err *err)
{
	struct keep *k = ctx;

	if (len > k->max - WR_MIN(k->max, k->b->len))
		return broken(err, "it is too long");
	wr_buf_add(k->b, p, len);
	return 0;
}

/* Turn a refusal's body into the error it holds. */
static int
refusal(const struct wr_buf *b, unsigned status, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = wr_json_parse(b->p, b->len, NULL);
	const json_t *e = wr_json_get_obj(o, "error");

	if (!e)
		return wr_err_set(err, WR_E_FAILED, "the daemon answered with status %u", status);
	wr_json_get_err(e, err);
	return -1;
}

static void
conn_free(struct conn **c)
{
	wr_wire_close((*c)->wire);
	free(*c);
}

static struct conn *
conn_new(const struct wr_client *c)
{
	struct conn *n = wr_malloc(sizeof(*n));

	n->wire = NULL;
	n->client = c;
	n->at = n->len = 0;
	return n;
}

/* The whole body of an answer, appended; a refusal is an error. */
static int
fetch(const struct wr_client *c, const struct wr_ask *r, struct wr_buf *out, unsigned *out_status,
      struct wr_err *err)
{
	WR_SCOPED(conn_free) struct conn *n = conn_new(c);
	struct keep k = {out, BODY_MAX};
	struct head h = {0};
	int rc = -1;

	if (exchange(n, r, &h, err) == 0 && read_body(n, &h, keep_bytes, &k, err) == 0)
		rc = h.status / 100 == 2 ? 0 : refusal(out, h.status, err);
	*out_status = h.status;
	free(h.error);
	return rc;
}

int
wr_client_ask(struct wr_client *c, const struct wr_ask *r, unsigned *out_status, json_t **out,
	      struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	unsigned status;
	json_t *o;

	if (fetch(c, r, &b, &status, err) < 0)
		return -1;
	o = wr_json_parse(b.p, b.len, err);
	if (!o) {
		wr_err_wrap(err, "the daemon's answer");
		return wr_err_recode(err, WR_E_FAILED);
	}
	if (out_status)
		*out_status = status;
	*out = o;
	return 0;
}

int
wr_client_read(struct wr_client *c, const struct wr_ask *r, struct wr_buf *out, struct wr_err *err)
{
	unsigned status;

	return fetch(c, r, out, &status, err);
}

/* ---- streams ---- */

void
wr_warn_text(const char *text)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	wr_name_escape(&b, text, strlen(text));
	wr_warn("%s", wr_buf_str(&b));
}

struct copy {
	int fd;
	bool begun;
};

static int
copy_out(void *ctx, const void *p, size_t len, struct wr_err *err)
{
	struct copy *c = ctx;

	c->begun |= len > 0;
	if (wr_write_all(c->fd, p, len) == 0)
		return 0;
	wr_err_sys(err, "write %s", c->fd == STDOUT_FILENO ? "standard output" : "the file");
	return wr_err_hint(err, "%s", ""); /* the one for full disks speaks of repositories */
}

/* Warren-Error: the error object, in base64 where a header cannot carry it. */
static int
trailer_error(const struct head *h, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	if (h->error && *h->error == '{')
		wr_buf_adds(&b, h->error);
	else if (h->error && !wr_base64_decode(&b, h->error, strlen(h->error)))
		b.len = 0;
	if (b.len)
		o = wr_json_parse(b.p, b.len, NULL);
	if (!json_is_object(o))
		return wr_err_set(err, WR_E_FAILED, "the daemon's side ended with status %d",
				  h->exit);
	wr_json_get_err(wr_json_get_obj(o, "error") ? wr_json_get_obj(o, "error") : o, err);
	return -1;
}

int
wr_client_stream(struct wr_client *c, const struct wr_ask *r, int fd, int *out_exit,
		 bool *out_begun, struct wr_err *err)
{
	WR_SCOPED(conn_free) struct conn *n = conn_new(c);
	struct copy to = {.fd = fd};
	struct head h = {0};
	int rc = -1;

	if (exchange(n, r, &h, err) < 0)
		goto out;
	if (h.status / 100 != 2) {
		WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
		struct keep k = {&b, ERROR_MAX};

		if (read_body(n, &h, keep_bytes, &k, err) == 0)
			rc = refusal(&b, h.status, err);
		goto out;
	}
	if (read_body(n, &h, copy_out, &to, err) < 0)
		goto out;
	/* A long stream ends with its exit status; one that was cut off without one is not whole.
	 */
	if (h.chunked && h.exit < 0) {
		rc = broken(err, "it does not say how it ended");
		goto out;
	}
	if (h.exit > 0 && h.exit != WR_EXIT_WARNINGS) {
		rc = trailer_error(&h, err);
		goto out;
	}
	if (h.exit == WR_EXIT_WARNINGS && h.error) {
		struct wr_err w = WR_ERR_INIT;

		(void)trailer_error(&h, &w);
		wr_warn_text(w.msg);
	}
	*out_exit = WR_MAX(h.exit, 0);
	rc = 0;
out:
	*out_begun = to.begun;
	free(h.error);
	return rc;
}

int
wr_client_show(struct wr_client *c, const struct wr_ask *r, struct wr_err *err)
{
	bool begun = false;
	int ended = 0;

	fflush(stdout);
	if (wr_client_stream(c, r, STDOUT_FILENO, &ended, &begun, err) == 0)
		return ended;
	if (!begun || !wr_out_json())
		return -1;
	/* The one object of --json is on its way; a second one would make both unreadable. */
	wr_warn_text(err->msg);
	return wr_err_exit(err->code);
}

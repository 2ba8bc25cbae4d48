/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Says to a node whatever it is told to, with any keys, and prints the answer as JSON: what a hub
 * would say, and what a thief, a liar or a copy of an old host could.
 *
 *   peer_probe ROOT TO [OPTION]... KIND [FIELD=VALUE]...
 *
 * ROOT: the node whose keys and fleet record are used.  TO: the name of a node of the fleet.
 *   --tls ROOT        another node's TLS key and certificate
 *   --from NAME       the envelope says that it is from that node
 *   --counter N       and this counter
 *   --nonce N         a nonce of the receiver's; else it is asked for first
 *   --to-id NAME      the envelope is for that node
 *   --flip N          byte N of the envelope is another one
 *   --keep FILE       the envelope is kept there; --play FILE: that one is sent, as it is
 *   --stream          as a push is sent
 *   --serve HOW       asks nothing, but stands at ROOT's peer address
 *
 * --serve: in its daemon's place; takes records and forgets them, and attests to all: with some
 * digest (HOW: wrong), or with what TO says (relay).  HOW: holds=N, it has N copies that nobody
 * heard of, told in pages of HOLDS_PAGE, of which the second fails once; again=N, it tells the
 * first page again and again.  What it is asked for is printed: "after ID".
 *
 * Fields: project=ID, n=NUMBER[.RANDOM] or n=+N (above the record that ROOT has), next=,
 * version=N.S, number=, flag=1, seq=, text=, hint=, keep=1 (project and n), record=own (as ROOT has
 * it); record=make: that one changed by writer=NAME, n=, members=NAME,..., signed by the hub key in
 *   ROOT (key=hub), or by the node's own key (key=node); blob=TEXT; doc=JSON: settings, signed by
 * the hub key in ROOT
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/str.h"
#include "fleet/link/link.h"
#include "host/auth/auth.h"
#include "sys/fs.h"

#define WAIT_MS 20000
#define HOLDS_PAGE 4000

struct probe {
	struct wr_node *node, *tls_node;
	struct wr_auth *auth;
	const struct wr_fleet_node *to, *to_id, *from;
	const char *keep, *play;
	const char *serve;
	bool stream, has_nonce, has_counter;
	uint64_t nonce, counter, flip;
	struct wr_msg m;
	/* of a record that is made */
	const char *writer, *members, *key;
	bool make, keep_entry;
};

static void
die(const char *what, const struct wr_err *err)
{
	fprintf(stderr, "peer_probe: %s%s%s\n", what, err ? ": " : "", err ? err->msg : "");
	_exit(2);
}

/* What is held goes with the process. */
static void
done(void)
{
	fflush(stdout);
	_exit(0);
}

static uint64_t
number(const char *s)
{
	struct wr_err err = WR_ERR_INIT;
	uint64_t n;

	if (wr_parse_u64(s, &n, &err) < 0)
		die(s, &err);
	return n;
}

static const struct wr_fleet_node *
named(const struct probe *p, const char *name)
{
	const struct wr_fleet_node *f = wr_fleet_by_name(&p->auth->fleet, name);

	if (!f)
		die(name, NULL);
	return f;
}

static void
own_state(const struct probe *p, struct wr_member_state *s)
{
	struct wr_err err = WR_ERR_INIT;

	wr_member_init(s, &p->m.project);
	if (wr_auth_load(p->auth, &p->m.project, s, &err) < 0)
		die("state", &err);
}

static struct wr_epoch
epoch(const struct probe *p, const char *s)
{
	struct wr_epoch e = {0, 7};
	char *dot = strchr(s, '.');
	struct wr_member_state own;

	if (*s == '+') {
		own_state(p, &own);
		e.number = own.record.n.number + number(s + 1);
		e.random = s[1] == '0' ? own.record.n.random : 7;
		wr_member_fini(&own);
		return e;
	}
	if (dot) {
		e.random = number(dot + 1);
		*dot = '\0';
	}
	e.number = number(s);
	return e;
}

/* What a hub would sign, whatever it says. */
static void
make_doc(struct probe *p, const char *json)
{
	struct wr_settings_doc d = {.project = p->m.project, .rev = 1000, .json = wr_strdup(json)};
	struct wr_sign_key hub = {0};
	struct wr_err err = WR_ERR_INIT;

	if (wr_auth_hub_key(p->auth, &hub, &err) < 0 || wr_settings_doc_sign(&d, &hub, &err) < 0)
		die("sign", &err);
	wr_buf_clear(&p->m.settings);
	wr_settings_doc_encode(&d, &p->m.settings);
	wr_settings_doc_fini(&d);
	wr_sign_key_fini(&hub);
}

static void
field(struct probe *p, char *text)
{
	char *v = strchr(text, '=');
	struct wr_msg *m = &p->m;
	struct wr_member_state s;

	if (!v) {
		die(text, NULL);
		return;
	}
	*v++ = '\0';
	if (!strcmp(text, "project")) {
		if (!wr_uuid_parse(v, &m->project))
			die(v, NULL);
	} else if (!strcmp(text, "n")) {
		m->n = epoch(p, v);
	} else if (!strcmp(text, "next")) {
		m->next = epoch(p, v);
	} else if (!strcmp(text, "number")) {
		m->number = number(v);
	} else if (!strcmp(text, "seq")) {
		m->fleet_seq = number(v);
	} else if (!strcmp(text, "flag")) {
		m->flag = true;
	} else if (!strcmp(text, "text")) {
		m->text = wr_strdup(v);
	} else if (!strcmp(text, "hint")) {
		m->hint = wr_strdup(v);
	} else if (!strcmp(text, "blob")) {
		wr_buf_adds(&m->blob, v);
	} else if (!strcmp(text, "doc")) {
		make_doc(p, v);
	} else if (!strcmp(text, "keep")) {
		p->keep_entry = true;
	} else if (!strcmp(text, "writer")) {
		p->writer = v;
	} else if (!strcmp(text, "members")) {
		p->members = v;
	} else if (!strcmp(text, "key")) {
		p->key = v;
	} else if (!strcmp(text, "record") && !strcmp(v, "make")) {
		p->make = true;
	} else if (!strcmp(text, "record")) {
		own_state(p, &s);
		wr_buf_add(&m->record, s.record_bytes.p, s.record_bytes.len);
		wr_buf_add(&m->settings, s.settings.p, s.settings.len);
		wr_buf_add(&m->save, s.save_bytes.p, s.save_bytes.len);
		wr_member_fini(&s);
	} else {
		die(text, NULL);
	}
}

/* The next record after the one that ROOT has. */
static void
make_record(struct probe *p)
{
	struct wr_member_state s;
	struct wr_record e;
	struct wr_sign_key hub = {0};
	struct wr_err err = WR_ERR_INIT;
	char *list = p->members ? wr_strdup(p->members) : NULL, *save = NULL;

	own_state(p, &s);
	e = s.record;
	e.prev = s.record.n;
	e.n = p->m.n;
	if (s.has_save) {
		e.base = s.save.v;
		e.base_refs = wr_save_refs_digest(&s.save);
	}
	e.has_consent = false;
	if (list)
		e.member_count = 0;
	for (char *w = list ? strtok_r(list, ",", &save) : NULL;
	     w && e.member_count < WR_MEMBERS_MAX; w = strtok_r(NULL, ",", &save))
		e.member[e.member_count++] = (struct wr_member){named(p, w)->node, WR_ROLE_DATA};
	free(list);
	if (p->writer)
		e.writer = named(p, p->writer)->node;
	if (p->key && !strcmp(p->key, "node"))
		hub = p->auth->key;
	else if (wr_auth_hub_key(p->auth, &hub, &err) < 0)
		die("hub key", &err);
	if (wr_record_sign(&e, &hub, &err) < 0)
		die("sign", &err);
	wr_record_encode(&e, &p->m.record);
	wr_sign_key_fini(&hub);
	wr_member_fini(&s);
}

static void
envelope(struct probe *p, struct wr_buf *out)
{
	struct wr_msg head;
	struct wr_err err = WR_ERR_INIT;
	struct wr_msg *m = &p->m;

	wr_auth_msg(p->auth, &head, &p->to_id->node.id, p->nonce, m->kind);
	m->from = p->from ? p->from->node : head.from;
	m->to = head.to;
	m->to_nonce = p->nonce;
	m->nonce = head.nonce;
	m->counter = p->has_counter ? p->counter : head.counter;
	m->request = head.request;
	wr_buf_clear(out);
	if (wr_auth_seal(p->auth, m, out, &err) < 0)
		die("seal", &err);
	if (p->flip)
		out->p[p->flip % out->len] ^= 1;
}

static struct wr_tls *
tls_of(const struct probe *p)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf key = WR_BUF_INIT, cert = WR_BUF_INIT;
	struct wr_tls_conf conf = {.fleet = p->auth->fleet.id};
	struct wr_err err = WR_ERR_INIT;
	struct wr_tls *tls = NULL;
	struct wr_der ca[2];
	int fd = (p->tls_node ? p->tls_node : p->node)->state_fd;

	if (wr_read_file(fd, "tls/node.key", WR_TLS_KEY_BYTES, &key, &err) < 0 ||
	    wr_read_file(fd, "tls/node.crt", WR_CERT_BYTES, &cert, &err) < 0)
		die("keys", &err);
	conf.key_pem = (struct wr_der){key.p, key.len};
	conf.cert = (struct wr_der){cert.p, cert.len};
	conf.ca_count = wr_fleet_cas(&p->auth->fleet, ca);
	conf.ca = ca;
	if (wr_tls_new(&conf, &tls, &err) < 0)
		die("tls", &err);
	return tls;
}

static struct wr_link *
connect_to(const struct probe *p)
{
	struct wr_link_peer peer = WR_LINK_PEER_INIT;
	struct wr_tls *tls = tls_of(p);
	struct wr_err err = WR_ERR_INIT;
	struct wr_link *l = NULL;

	peer.node = &p->to->node;
	if (wr_link_connect(tls, p->to->peer, &peer, wr_deadline_ms(WAIT_MS), &l, &err) < 0)
		die("connect", &err);
	wr_tls_free(tls);
	return l;
}

/* The answer; exits if there is none. */
static void
ask(const struct probe *p, struct wr_link *l, const struct wr_buf *env, struct wr_msg *out)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	enum wr_frame_type type;
	uint64_t end = wr_deadline_ms(WAIT_MS);
	int rc;

	if (wr_link_frame_send(l, p->stream ? WR_FRAME_STREAM : WR_FRAME_MSG, env->p, env->len, end,
			       &err) < 0)
		die("send", &err);
	rc = wr_link_frame_recv(l, &type, &b, end, &err);
	if (rc < 0)
		die("no answer", &err);
	if (rc == 0)
		die("no answer: it closed the connection", NULL);
	if (type == WR_FRAME_STREAM_GO) {
		puts("{\"kind\":\"GO\"}");
		done();
	}
	if (wr_msg_open(b.p, b.len, out, &err) < 0)
		die("what is no answer", &err);
	if (wr_msg_verify(b.p, b.len, out, &p->auth->fleet, &err) < 0)
		die("an answer that is not signed by the other", &err);
}

static void
tell(const struct wr_msg *a)
{
	WR_SCOPED(wr_json_freep) json_t *o = json_object();
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_err e = WR_ERR_INIT;

	wr_json_str(o, "kind", wr_msg_kind_name(a->kind));
	wr_json_u64(o, "n", a->n.number);
	wr_json_u64(o, "number", a->number);
	wr_json_u64(o, "seq", a->fleet_seq);
	wr_json_u64(o, "keeps", a->keep_count);
	wr_json_bool(o, "kept", a->keep_count && a->keep[0].ok);
	wr_json_u64(o, "record", a->record.len + (a->blob_count ? a->blobs[0].len : 0));
	if (a->code) {
		wr_msg_get_err(a, &e);
		wr_json_str(o, "code", wr_err_name(e.code));
		wr_json_str(o, "text", e.msg);
	}
	wr_json_write(o, &b);
	puts(wr_buf_str(&b));
}

static void
open_node(const char *root, struct wr_node **out)
{
	struct wr_err err = WR_ERR_INIT;

	if (wr_node_open(root, WR_NODE_NO_VOLUMES, out, &err) < 0)
		die(root, &err);
}

static int
options(struct probe *p, int argc, char **argv)
{
	int i = 3;

	for (; i + 1 < argc && !strncmp(argv[i], "--", 2); i++) {
		const char *o = argv[i] + 2;

		if (!strcmp(o, "stream")) {
			p->stream = true;
			continue;
		}
		i++;
		if (!strcmp(o, "tls"))
			open_node(argv[i], &p->tls_node);
		else if (!strcmp(o, "from"))
			p->from = named(p, argv[i]);
		else if (!strcmp(o, "to-id"))
			p->to_id = named(p, argv[i]);
		else if (!strcmp(o, "keep"))
			p->keep = argv[i];
		else if (!strcmp(o, "serve"))
			p->serve = argv[i];
		else if (!strcmp(o, "play"))
			p->play = argv[i];
		else if (!strcmp(o, "flip"))
			p->flip = number(argv[i]);
		else if (!strcmp(o, "counter"))
			p->counter = number(argv[i]), p->has_counter = true;
		else if (!strcmp(o, "nonce"))
			p->nonce = number(argv[i]), p->has_nonce = true;
		else
			die(argv[i - 1], NULL);
	}
	return i;
}

static enum wr_msg_kind
kind_of(const char *s)
{
	for (unsigned k = 1; k < 256; k++)
		if (!strcmp(wr_msg_kind_name((enum wr_msg_kind)k), s))
			return (enum wr_msg_kind)k;
	die(s, NULL);
	return WR_MSG_NONE;
}

static void
compose(struct probe *p, int argc, char **argv)
{
	static struct wr_keep entry;

	p->m.kind = kind_of(argv[0]);
	for (int i = 1; i < argc; i++)
		field(p, argv[i]);
	if (p->make)
		make_record(p);
	if (p->keep_entry) {
		entry = (struct wr_keep){p->m.project, p->m.n, false};
		p->m.keep = &entry;
		p->m.keep_count = 1;
	}
}

/* The receiver's nonce is in what it answers to who knows none. */
static void
learn_nonce(struct probe *p, struct wr_link *l)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf env = WR_BUF_INIT;
	struct probe plain = *p;
	struct wr_msg a = WR_MSG_INIT, hello = {.kind = WR_MSG_HELLO};

	plain.m = hello;
	plain.from = NULL;
	plain.flip = 0;
	plain.has_counter = plain.stream = false;
	plain.to_id = plain.to;
	plain.nonce = 0;
	envelope(&plain, &env);
	ask(&plain, l, &env, &a);
	p->nonce = a.nonce;
	wr_msg_fini(&a);
}

/* ---- a liar, in a daemon's place ---- */

/* What the other one attests to the same challenge. */
static struct wr_digest
relayed(const struct probe *p, const struct wr_msg *q)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf env = WR_BUF_INIT;
	struct probe own = *p;
	struct wr_link *l = connect_to(&own);
	struct wr_msg a = WR_MSG_INIT;
	struct wr_digest d;

	own.has_counter = false;
	learn_nonce(&own, l);
	own.m = (struct wr_msg){.kind = WR_MSG_ATTEST, .project = q->project, .n = q->n};
	own.m.digest = q->digest;
	memcpy(own.m.challenge, q->challenge, sizeof(q->challenge));
	own.m.ids = q->ids;
	own.m.id_count = q->id_count;
	own.m.save = q->save; /* lent */
	envelope(&own, &env);
	ask(&own, l, &env, &a);
	d = a.digest;
	fprintf(stderr, "%s: %s\n", wr_msg_kind_name(a.kind), a.text ? a.text : "");
	wr_msg_fini(&a);
	wr_link_close(l);
	return d;
}

/* false: it fails. */
static bool
holds(const struct probe *p, const struct wr_msg *q, struct wr_msg *a)
{
	static bool failed;
	const bool again = !strncmp(p->serve, "again=", 6);
	const uint64_t all = number(strchr(p->serve, '=') + 1);
	uint64_t at = q->text ? strtoull(q->text, NULL, 16) : 0;

	printf("after %s\n", q->text ? q->text : "");
	fflush(stdout);
	if (at == HOLDS_PAGE && !again && !failed) {
		failed = true;
		return false;
	}
	a->report = wr_calloc(HOLDS_PAGE, sizeof(*a->report));
	for (at = again ? 0 : at; a->report_count < HOLDS_PAGE && at < all; a->report_count++)
		snprintf(a->report[a->report_count].project.s, sizeof(a->report[0].project.s),
			 "%08x-0000-4000-8000-000000000000", (unsigned)++at);
	a->flag = at == all;
	return true;
}

static void
reply(const struct probe *p, struct wr_link *l, const struct wr_msg *q)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf env = WR_BUF_INIT;
	struct wr_msg a = WR_MSG_INIT;
	struct wr_err err = WR_ERR_INIT;
	enum wr_msg_kind kind = q->kind == WR_MSG_HELLO         ? WR_MSG_HELLO_OK
				: q->kind == WR_MSG_ATTEST      ? WR_MSG_YES
				: q->kind == WR_MSG_INSTALL     ? WR_MSG_OK
				: q->kind == WR_MSG_RECORDS_ASK ? WR_MSG_RECORDS
				: q->kind == WR_MSG_INVENTORY && strchr(p->serve, '=')
				    ? WR_MSG_HOLDS
				    : WR_MSG_ERROR;

	/* Who knows no nonce of ours is told one. */
	if (q->to_nonce != p->auth->nonce && q->kind != WR_MSG_HELLO)
		kind = WR_MSG_WRONG_NONCE;
	wr_msg_answer(&a, q, &p->auth->self, kind);
	a.nonce = p->auth->nonce;
	a.counter = p->auth->counter;
	if (kind == WR_MSG_HOLDS && !holds(p, q, &a))
		a.kind = kind = WR_MSG_ERROR;
	if (kind == WR_MSG_RECORDS) {
		a.blob_count = 2 * q->keep_count;
		a.blobs = wr_calloc(a.blob_count + 1, sizeof(*a.blobs));
	}
	if (kind == WR_MSG_ERROR) {
		wr_err_set(&err, WR_E_BUSY, "not now");
		wr_msg_set_err(&a, &err);
	}
	if (kind == WR_MSG_HELLO_OK)
		a.fleet_seq = p->auth->fleet.seq;
	if (kind == WR_MSG_YES) {
		a.project = q->project;
		a.digest =
		    strcmp(p->serve, "relay") != 0 ? wr_digest_of("so it is", 8) : relayed(p, q);
		puts("lied");
		fflush(stdout);
	}
	if (wr_auth_seal(p->auth, &a, &env, &err) < 0 ||
	    wr_link_frame_send(l, WR_FRAME_MSG_REPLY, env.p, env.len, wr_deadline_ms(WAIT_MS),
			       &err) < 0)
		die("answer", &err);
	wr_msg_fini(&a);
}

static void
serve_one(const struct probe *p, struct wr_tls *tls, int fd)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_link *l = NULL;
	enum wr_frame_type type;

	if (wr_link_serve(tls, fd, &l, &err) < 0 ||
	    wr_link_greet(l, wr_deadline_ms(WAIT_MS), &err) < 0)
		die("greet", &err);
	while (wr_link_frame_recv(l, &type, &b, wr_deadline_ms(10 * WAIT_MS), &err) == 1) {
		struct wr_msg q = WR_MSG_INIT;

		if (type != WR_FRAME_MSG || wr_msg_open(b.p, b.len, &q, &err) < 0)
			break;
		reply(p, l, &q);
		wr_msg_fini(&q);
	}
	wr_link_close(l);
	done();
}

static void
serve(const struct probe *p)
{
	const struct wr_fleet_node *own = wr_auth_own(p->auth);
	struct wr_tls *tls = tls_of(p);
	struct wr_err err = WR_ERR_INIT;
	int lfd = own ? wr_link_listen(own->peer, &err) : -1;

	if (lfd < 0)
		die("listen", &err);
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		struct pollfd f = {.fd = lfd, .events = POLLIN};
		int fd;

		(void)poll(&f, 1, -1);
		fd = wr_link_accept(lfd, NULL, &err);
		if (fd < 0)
			continue;
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			close(lfd);
			serve_one(p, tls, fd);
		}
		close(fd);
	}
}

int
main(int argc, char **argv)
{
	struct probe p = {.nonce = 0};
	struct wr_buf env = WR_BUF_INIT;
	struct wr_msg a = WR_MSG_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_link *l;
	int i;

	if (argc < 4)
		die("ROOT TO [OPTION]... KIND [FIELD=VALUE]...", NULL);
	open_node(argv[1], &p.node);
	if (wr_auth_open(p.node, &p.auth, &err) < 0)
		die(argv[1], &err);
	p.to = p.to_id = named(&p, argv[2]);
	i = options(&p, argc, argv);
	if (p.serve)
		serve(&p);
	l = connect_to(&p);
	if (p.play) {
		if (wr_read_file(AT_FDCWD, p.play, WR_MSG_BYTES, &env, &err) < 0)
			die(p.play, &err);
	} else {
		if (i >= argc)
			die("which kind?", NULL);
		compose(&p, argc - i, argv + i);
		if (!p.has_nonce && !p.stream)
			learn_nonce(&p, l);
		envelope(&p, &env);
	}
	if (p.keep && wr_replace_file(AT_FDCWD, p.keep, env.p, env.len, 0600, &err) < 0)
		die(p.keep, &err);
	ask(&p, l, &env, &a);
	tell(&a);
	wr_link_close(l);
	done();
}

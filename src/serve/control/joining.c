/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which nodes belong to the fleet: join tokens, hosts that join, what is known of nodes, removal.
 *
 * The fleet record is signed by a hub, so only a hub changes it; every node shows it.  A join:
 *
 *   1  the catalog notes who uses the token up             durable; the same node may come again
 *   2  fleet record seq + 1, signed                        durable
 *   3  the answer: certificate, fleet record, incarnation
 *
 * Whatever is lost on the way, the same node asks again with the same keys and gets the same place.
 */
#include <arpa/inet.h>

#include "base/str.h"
#include "fleet/catalog/catalog.h"
#include "fleet/trust/trust.h"
#include "serve/control/fleet.h"
#include "serve/control/know.h"
#include "serve/control/replicas.h"
#include "sys/clock.h"
#include "sys/crash.h"
#include "sys/fs.h"

#define JOIN_S 3600
#define USUAL_WEIGHT 100
#define SPKI_MAX 512
/* LIMIT: projects that are named where a node may not go. */
#define NAMED_MAX 5

/* ---- the hub's own ---- */

static int
in_fleet(const struct wr_control *c, struct wr_err *err)
{
	if (c->fleet)
		return 0;
	wr_err_set(err, WR_E_UNSUPPORTED, "this node belongs to no fleet");
	return wr_err_hint(err, "'warren init' makes one, 'warren join' makes a host part of one");
}

static int
is_hub(const struct wr_control *c, struct wr_err *err)
{
	const struct wr_fleet *f;

	if (c->fleet && c->fleet->catalog)
		return 0;
	if (in_fleet(c, err) < 0)
		return -1;
	wr_err_set(err, WR_E_UNSUPPORTED, "this node is no hub of its fleet");
	f = &c->fleet->auth->fleet;
	for (size_t i = 0; i < f->node_count; i++)
		if ((f->node[i].flags & (WR_FLEET_HUB | WR_FLEET_REMOVED)) == WR_FLEET_HUB)
			return wr_err_hint(err, "ask node %s%s%s", f->node[i].name,
					   *f->node[i].api ? " at https://" : "", f->node[i].api);
	return -1;
}

/* Sign the changed copy of the fleet record and make it ours. */
static int
publish(struct wr_control *c, struct wr_fleet *f, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	WR_SCOPED(wr_sign_key_fini) struct wr_sign_key key = {0};

	f->seq++;
	f->at = wr_clock_wall().s;
	if (wr_auth_hub_key(c->fleet->auth, &key, err) < 0 || wr_fleet_sign(f, &key, err) < 0)
		return -1;
	wr_fleet_encode(f, &b);
	if (wr_auth_fleet_put(c->fleet->auth, b.p, b.len, NULL, err) < 0)
		return -1;
	wr_fleet_changed(c);
	return 0;
}

/* ---- nodes in a fleet record ---- */

static void
fleet_fini(struct wr_fleet *f)
{
	wr_fleet_fini(f);
}

static struct wr_fleet_node *
node_at(struct wr_fleet *f, const struct wr_fleet_node *n)
{
	return f->node + (n - f->node);
}

static int
order(const struct wr_node_id *a, const struct wr_node_id *b)
{
	int rc = strcmp(a->id.s, b->id.s);

	return rc ? rc : a->inc < b->inc ? -1 : a->inc > b->inc;
}

static struct wr_fleet_node *
insert(struct wr_fleet *f, const struct wr_fleet_node *n)
{
	size_t at = 0;

	while (at < f->node_count && order(&f->node[at].node, &n->node) < 0)
		at++;
	f->node = wr_reallocarray(f->node, f->node_count + 1, sizeof(*f->node));
	memmove(f->node + at + 1, f->node + at, (f->node_count - at) * sizeof(*f->node));
	f->node[at] = *n;
	f->node_count++;
	return &f->node[at];
}

/* By id or name; WR_E_NOT_FOUND. */
static const struct wr_fleet_node *
find_node(const struct wr_fleet *f, const char *ref, struct wr_err *err)
{
	const struct wr_fleet_node *n;
	struct wr_uuid id;

	n = wr_uuid_parse(ref, &id) ? wr_fleet_find(f, &id) : wr_fleet_by_name(f, ref);
	if (n)
		return n;
	wr_err_set(err, WR_E_NOT_FOUND, "the fleet has no node '%s'", WR_Q(ref));
	wr_err_hint(err, "'warren node list' shows all");
	return NULL;
}

static bool
name_ok(const char *s, const char *good)
{
	size_t n = strlen(s);

	return n && n <= 63 && strspn(s, good) == n && !strchr("-.", s[0]);
}

#define NAME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

/* ---- GET /v1/ca ---- */

int
wr_on_ca(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	struct wr_der ca[2];
	json_t *o, *list;
	size_t n;

	if (in_fleet(c, err) < 0)
		return -1;
	o = wr_json_begin("warren.ca/1");
	wr_json_str(o, "fleet", c->fleet->auth->fleet.id.s);
	list = wr_json_array(o, "certificates");
	n = wr_fleet_cas(&c->fleet->auth->fleet, ca);
	for (size_t i = 0; i < n; i++) {
		WR_SCOPED(wr_buf_fini) struct wr_buf pem = WR_BUF_INIT;
		struct wr_digest print = wr_digest_of(ca[i].p, ca[i].len);
		json_t *e = wr_json_item(list);

		wr_pem_add(&pem, ca[i].p, ca[i].len);
		wr_json_bool(e, "in_use", i == 0);
		wr_json_str(e, "fingerprint", wr_print_text(&print).s);
		wr_json_str(e, "pem", wr_buf_str(&pem));
	}
	wr_req_reply(q, 200, 0, o);
	return 0;
}

/* ---- names ---- */

static bool
is_loopback(const char *host)
{
	struct in_addr v4;

	if (inet_pton(AF_INET, host, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == 127;
	return !strcmp(host, "::1") || !strcasecmp(host, "localhost");
}

/* One address may be written in several ways. */
static bool
same_host(const char *a, const char *b)
{
	struct in6_addr x, y;

	if (inet_pton(AF_INET6, a, &x) == 1 && inet_pton(AF_INET6, b, &y) == 1)
		return !memcmp(&x, &y, sizeof(x));
	return !strcasecmp(a, b);
}

/* Does another node of the fleet answer under this name?  Its certificate would be as good as that
 * one's for whoever asks there. */
static bool
taken(const struct wr_fleet *f, const struct wr_uuid *by, const char *host)
{
	char theirs[WR_HOST_SIZE];
	uint16_t port;

	if (is_loopback(host))
		return false;
	for (size_t i = 0; i < f->node_count; i++) {
		const struct wr_fleet_node *n = &f->node[i];

		if ((n->flags & WR_FLEET_REMOVED) || !strcmp(n->node.id.s, by->s))
			continue;
		if (wr_names_have(n->names, host) ||
		    (wr_hostport_parse(n->api, theirs, &port) && same_host(theirs, host)) ||
		    (wr_hostport_parse(n->peer, theirs, &port) && same_host(theirs, host)))
			return true;
	}
	return false;
}

static int
set_names(const struct wr_fleet *f, struct wr_fleet_node *n, const char *list, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char(*host)[WR_HOST_SIZE] = wr_calloc(WR_CERT_NAMES, sizeof(*host));
	const char *name[WR_CERT_NAMES];
	size_t count = 0;

	while (*list) {
		if (count >= WR_CERT_NAMES)
			return wr_err_set(err, WR_E_INVALID, "names: more than %d", WR_CERT_NAMES);
		if (!wr_host_next(&list, host[count]))
			return wr_err_set(err, WR_E_INVALID,
					  "names: '%s' is no list of names or addresses",
					  WR_Q(list));
		if (taken(f, &n->node.id, host[count]))
			return wr_err_set(err, WR_E_EXISTS,
					  "names: another node of the fleet is reached as '%s'",
					  WR_Q(host[count]));
		name[count] = host[count];
		count++;
	}
	if (wr_names_spell(name, count, n->names, sizeof(n->names)))
		return 0;
	return wr_err_set(err, WR_E_LIMIT, "names: they are longer than %zu bytes",
			  sizeof(n->names) - 1);
}

/* ---- POST /v1/nodes: a token ---- */

struct place {
	char name[64], dc[64];
	struct wr_uuid rejoin; /* s[0] = 0: a new node */
};

/* The place of a node that comes back with its old files, or of a new one. */
static int
choose_place(struct wr_control *c, const struct wr_req *q, struct place *p, struct wr_err *err)
{
	const char *rejoin = wr_call_str(&q->call, "rejoin"), *name = wr_call_str(&q->call, "name"),
		   *dc = wr_call_str(&q->call, "dc");
	const struct wr_fleet *f = &c->fleet->auth->fleet;
	const struct wr_fleet_node *n = NULL;

	if (rejoin && !(n = find_node(f, rejoin, err)))
		return -1;
	if (n && !strcmp(n->node.id.s, c->node->id.s))
		return wr_err_set(err, WR_E_INVALID, "rejoin: that is this node itself");
	if (n) {
		p->rejoin = n->node.id;
		name = name ? name : n->name;
		dc = dc ? dc : n->dc;
	}
	if (!name || !dc)
		return wr_err_set(err, WR_E_INVALID, "%s: is missing", name ? "dc" : "name");
	if (!name_ok(name, NAME_CHARS))
		return wr_err_set(err, WR_E_INVALID, "name: '%s' is no name of a node", WR_Q(name));
	if (!name_ok(dc, NAME_CHARS) || dc[0] == '_')
		return wr_err_set(err, WR_E_INVALID, "dc: '%s' is no name of a data centre",
				  WR_Q(dc));
	n = wr_fleet_by_name(f, name);
	if (n && !(n->flags & WR_FLEET_REMOVED) && strcmp(n->node.id.s, p->rejoin.s) != 0) {
		wr_err_set(err, WR_E_EXISTS, "name: the fleet has a node '%s'", WR_Q(name));
		return wr_err_hint(err,
				   "take another name; or, if that host lost its place, "
				   "'warren node add --rejoin %s'",
				   name);
	}
	snprintf(p->name, sizeof(p->name), "%s", name);
	snprintf(p->dc, sizeof(p->dc), "%s", dc);
	return 0;
}

static void
hash_text(const struct wr_join_token *t, char out[65])
{
	struct wr_digest d = wr_join_token_hash(t);

	for (size_t i = 0; i < sizeof(d.b); i++)
		snprintf(out + 2 * i, 3, "%02x", d.b[i]);
}

int
wr_on_node_add(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	WR_SCOPED(wr_join_token_fini) struct wr_join_token token = {{0}, {0}};
	const char *names = wr_call_str(&q->call, "names");
	struct place p = {"", "", {""}};
	struct wr_join j = {.created = wr_clock_wall().s};
	struct wr_join_text text;
	const struct wr_fleet_node *own;
	struct wr_der ca[2];
	struct wr_digest print;
	json_t *o;

	if (is_hub(c, err) < 0 || choose_place(c, q, &p, err) < 0)
		return -1;
	if (!wr_fleet_cas(&c->fleet->auth->fleet, ca))
		return wr_err_set(err, WR_E_CORRUPT, "the fleet record has no CA");
	wr_join_token_new(ca[0], &token);
	hash_text(&token, j.hash);
	memcpy(j.name, p.name, sizeof(j.name));
	memcpy(j.dc, p.dc, sizeof(j.dc));
	memcpy(j.rejoin, p.rejoin.s, sizeof(j.rejoin));
	j.expires = j.created + JOIN_S;
	if (names) {
		struct wr_fleet_node n = {.node = {p.rejoin, 1}};

		if (set_names(&c->fleet->auth->fleet, &n, names, err) < 0)
			return -1;
		memcpy(j.names, n.names, sizeof(j.names));
	}
	if (wr_catalog_join_put(c->fleet->catalog, &j, err) < 0)
		return -1;
	{
		WR_SCOPED(wr_freep)
		char *why = wr_asprintf("a join token for %s in %s", j.name, j.dc);

		wr_event(c, q->who.by, NULL, "node.token", why, NULL);
	}
	own = wr_auth_own(c->fleet->auth);
	print = wr_digest_of(ca[0].p, ca[0].len);
	text = wr_join_token_text(&token);
	o = wr_json_begin("warren.join-token/1");
	wr_json_str(o, "token", text.s);
	explicit_bzero(&text, sizeof(text));
	wr_json_str(o, "name", j.name);
	wr_json_str(o, "dc", j.dc);
	wr_json_str(o, "rejoin", *j.rejoin ? j.rejoin : NULL);
	wr_json_str(o, "names", *j.names ? j.names : NULL);
	wr_json_time(o, "expires", j.expires);
	wr_json_str(o, "fingerprint", wr_print_text(&print).s);
	wr_json_str(o, "api", own && *own->api ? own->api : NULL);
	wr_req_reply(q, 200, 0, o);
	return 0;
}

/* ---- POST /v1/join ---- */

/* Whoever guesses is told apart from whoever mistypes by how often he does. */
static int
wrong_join(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	struct wr_err told = WR_ERR_INIT;

	if (err->code != WR_E_DENIED)
		return -1;
	(void)wr_wrong_secret(c, q);
	(void)wr_refuse(c, &q->who, q->call.api, "", &told);
	return -1;
}

static int
join_token(struct wr_control *c, struct wr_req *q, char hash[65], struct wr_err *err)
{
	WR_SCOPED(wr_join_token_fini) struct wr_join_token token = {{0}, {0}};

	if (is_hub(c, err) < 0 || wr_wrong_held(c, q, err) < 0)
		return -1;
	if (wr_join_token_parse(wr_call_str(&q->call, "token"), &token, err) < 0)
		return wr_err_wrap(err, "token");
	hash_text(&token, hash);
	return 0;
}

int
wr_on_join_look(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	const char *id = wr_call_str(&q->call, "node");
	struct wr_uuid node;
	struct wr_join j;
	char hash[65];
	json_t *o;
	int rc;

	if (join_token(c, q, hash, err) < 0)
		return -1;
	if (!id || !wr_uuid_parse(id, &node))
		wr_uuid_new(&node);
	if (wr_catalog_begin(c->fleet->catalog, err) < 0)
		return -1;
	rc = wr_catalog_join_use(c->fleet->catalog, hash, &node, wr_clock_wall().s, &j, err);
	wr_catalog_abort(c->fleet->catalog); /* only looked at */
	if (rc < 0)
		return wrong_join(c, q, err);
	o = wr_json_begin("warren.join-look/1");
	wr_json_str(o, "fleet", c->fleet->auth->fleet.id.s);
	wr_json_str(o, "name", j.name);
	wr_json_str(o, "dc", j.dc);
	wr_json_str(o, "rejoin", *j.rejoin ? j.rejoin : NULL);
	wr_req_reply(q, 200, 0, o);
	return 0;
}

/* What a host says of itself. */
struct joiner {
	struct wr_uuid id;
	struct wr_buf spki;
	struct wr_pub pub;
	char host[WR_CERT_NAMES][WR_HOST_SIZE];
	const char *name[WR_CERT_NAMES];
	size_t name_count;
	const char *peer, *api; /* "": none */
};

static int
check_address(const char *what, const char *s, struct wr_err *err)
{
	char host[WR_HOST_SIZE];
	uint16_t port;

	if (!*s || wr_hostport_parse(s, host, &port))
		return 0;
	return wr_err_set(err, WR_E_INVALID, "%s: '%s' is no HOST:PORT", what, WR_Q(s));
}

/* Certificates are made for these names: nobody takes another's. */
static int
check_claim(const struct wr_fleet *f, const struct wr_uuid *by, const char *address,
	    struct wr_err *err)
{
	char host[WR_HOST_SIZE];
	uint16_t port;

	if (!wr_hostport_parse(address, host, &port) || !taken(f, by, host))
		return 0;
	return wr_err_set(err, WR_E_EXISTS, "another node of the fleet is reached as '%s'",
			  WR_Q(host));
}

static int
joiner_names(struct wr_control *c, const char *list, struct joiner *j, struct wr_err *err)
{
	while (list && *list) {
		if (j->name_count >= WR_CERT_NAMES)
			return wr_err_set(err, WR_E_INVALID, "names: more than %d", WR_CERT_NAMES);
		if (!wr_host_next(&list, j->host[j->name_count]))
			return wr_err_set(err, WR_E_INVALID,
					  "names: '%s' is no list of names or addresses",
					  WR_Q(list));
		if (taken(&c->fleet->auth->fleet, &j->id, j->host[j->name_count])) {
			wr_err_set(err, WR_E_EXISTS,
				   "names: another node of the fleet is reached as '%s'",
				   WR_Q(j->host[j->name_count]));
			return wr_err_hint(err, "give this one its own in [listen] name, "
						"warren.conf(5)");
		}
		j->name[j->name_count] = j->host[j->name_count];
		j->name_count++;
	}
	return 0;
}

static int
joiner_of(struct wr_control *c, const struct wr_call *call, struct joiner *j, struct wr_err *err)
{
	const char *spki = wr_call_str(call, "tls_spki"), *pub = wr_call_str(call, "sign_pub"),
		   *peer = wr_call_str(call, "peer"), *api = wr_call_str(call, "api");
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	(void)wr_uuid_parse(wr_call_str(call, "node"), &j->id); /* the table saw to that */
	if (!wr_base64_decode(&j->spki, spki, strlen(spki)) || j->spki.len > SPKI_MAX)
		return wr_err_set(err, WR_E_INVALID, "tls_spki: is no key in base64");
	if (!wr_base64_decode(&b, pub, strlen(pub)) || b.len != WR_PUB_LEN)
		return wr_err_set(err, WR_E_INVALID, "sign_pub: is no key in base64");
	memcpy(j->pub.b, b.p, WR_PUB_LEN);
	j->peer = peer ? peer : "";
	j->api = api ? api : "";
	if (check_address("peer", j->peer, err) < 0 || check_address("api", j->api, err) < 0 ||
	    check_claim(&c->fleet->auth->fleet, &j->id, j->peer, err) < 0 ||
	    check_claim(&c->fleet->auth->fleet, &j->id, j->api, err) < 0)
		return -1;
	return joiner_names(c, wr_call_str(call, "names"), j, err);
}

/* Where the token says what it is called, that is what it may say of itself. */
static int
take_names(struct wr_control *c, struct joiner *j, const struct wr_join *token, struct wr_err *err)
{
	const char *const address[] = {j->peer, j->api};
	char host[WR_HOST_SIZE];
	uint16_t port;

	if (!*token->names)
		return 0;
	for (size_t i = 0; i < WR_ARRAY_LEN(address); i++) {
		if (!wr_hostport_parse(address[i], host, &port) ||
		    wr_names_have(token->names, host))
			continue;
		wr_err_set(err, WR_E_DENIED, "the join token is for a host called %s, not '%s'",
			   token->names, WR_Q(host));
		return wr_err_hint(err, "[listen] there, or 'warren node add --names' on the hub");
	}
	j->name_count = 0;
	return joiner_names(c, token->names, j, err);
}

/* Its place in the fleet record; *out_changed: the record is another one now. */
static struct wr_fleet_node *
take_place(struct wr_fleet *f, const struct joiner *j, const struct wr_join *token,
	   bool *out_changed, struct wr_err *err)
{
	struct wr_fleet_node new = {.node = {j->id, 1}, .pub = j->pub, .weight = USUAL_WEIGHT};
	const struct wr_fleet_node *old = wr_fleet_find(f, &j->id), *same;
	bool again = old && !(old->flags & WR_FLEET_REMOVED) &&
		     !memcmp(&old->pub, &j->pub, sizeof(j->pub)) && !*token->rejoin;

	if (!wr_names_spell(j->name, j->name_count, new.names, sizeof(new.names))) {
		wr_err_set(err, WR_E_LIMIT, "names: they are longer than %zu bytes",
			   sizeof(new.names) - 1);
		return NULL;
	}
	if (again) { /* the answer to its first try was lost */
		struct wr_fleet_node *n = node_at(f, old);

		*out_changed = strcmp(n->peer, j->peer) != 0 || strcmp(n->api, j->api) != 0;
		snprintf(n->peer, sizeof(n->peer), "%s", j->peer);
		snprintf(n->api, sizeof(n->api), "%s", j->api);
		*out_changed |= strcmp(n->names, new.names) != 0;
		memcpy(n->names, new.names, sizeof(n->names));
		return n;
	}
	if (old && !*token->rejoin) {
		wr_err_set(err, WR_E_EXISTS, "the fleet knows node %s with other keys", j->id.s);
		wr_err_hint(err, "'warren node add --rejoin %s' makes a token for its return",
			    old->name);
		return NULL;
	}
	if (f->node_count >= WR_NODES_MAX) {
		wr_err_set(err, WR_E_LIMIT, "a fleet has at most %d nodes", WR_NODES_MAX);
		return NULL;
	}
	same = wr_fleet_by_name(f, token->name);
	if (same && !(same->flags & WR_FLEET_REMOVED) && strcmp(same->node.id.s, j->id.s) != 0) {
		wr_err_set(err, WR_E_EXISTS, "the fleet has a node '%s' meanwhile", token->name);
		wr_err_hint(err, "'warren node add' makes a token with another name");
		return NULL;
	}
	if (old) {
		new.node.inc = old->node.inc + 1;
		new.weight = old->weight;
		new.flags = old->flags &(unsigned)~WR_FLEET_REMOVED;
		node_at(f, old)->flags |= WR_FLEET_REMOVED; /* what it signed stays good */
	}
	memcpy(new.name, token->name, sizeof(new.name));
	memcpy(new.dc, token->dc, sizeof(new.dc));
	snprintf(new.peer, sizeof(new.peer), "%s", j->peer);
	snprintf(new.api, sizeof(new.api), "%s", j->api);
	*out_changed = true;
	return insert(f, &new);
}

static int
issue(struct wr_control *c, const struct wr_node_id *node, struct wr_der spki,
      const char *const *name, size_t name_count, struct wr_buf *out, struct wr_err *err)
{
	struct wr_cert_ask ask = WR_CERT_ASK_INIT;
	struct wr_ca *ca = NULL;
	int rc;

	if (wr_auth_hub_ca(c->fleet->auth, &ca, err) < 0)
		return -1;
	ask.fleet = c->fleet->auth->fleet.id;
	ask.node = *node;
	ask.spki = spki;
	ask.name = name;
	ask.name_count = name_count;
	ask.now = wr_clock_wall().s;
	rc = wr_cert_issue(ca, &ask, out, err);
	wr_ca_free(ca);
	return rc;
}

static void
add_base64(json_t *o, const char *key, const struct wr_buf *b)
{
	WR_SCOPED(wr_freep) char *text = wr_base64(b->p, b->len);

	wr_json_str(o, key, text);
}

/* Token, place, certificate, record. */
static int
join(struct wr_control *c, struct wr_req *q, struct joiner *j, const char *hash,
     struct wr_buf *cert, struct wr_fleet_node *out, struct wr_err *err)
{
	WR_SCOPED(fleet_fini) struct wr_fleet f = {.seq = 0};
	struct wr_fleet_node *n;
	struct wr_join token;
	bool changed = false;

	wr_fleet_copy(&f, &c->fleet->auth->fleet);
	if (wr_catalog_begin(c->fleet->catalog, err) < 0)
		return -1;
	if (wr_catalog_join_use(c->fleet->catalog, hash, &j->id, wr_clock_wall().s, &token, err) <
	    0) {
		wr_catalog_abort(c->fleet->catalog);
		return wrong_join(c, q, err);
	}
	n = take_names(c, j, &token, err) < 0 ? NULL : take_place(&f, j, &token, &changed, err);
	if (!n || issue(c, &n->node, (struct wr_der){j->spki.p, j->spki.len}, j->name,
			j->name_count, cert, err) < 0) {
		wr_catalog_abort(c->fleet->catalog);
		return -1;
	}
	*out = *n;
	if (n->node.inc == 1 && !wr_fleet_find(&c->fleet->auth->fleet, &n->node.id) &&
	    wr_know_new_node(c, &n->node.id, err) < 0) {
		wr_catalog_abort(c->fleet->catalog);
		return -1;
	}
	if (wr_catalog_commit(c->fleet->catalog, err) < 0)
		return -1;
	wr_crash_point("control.join-used");
	return changed ? publish(c, &f, err) : 0;
}

int
wr_on_join(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	WR_SCOPED(wr_freep) struct joiner *j = wr_calloc(1, sizeof(*j));
	WR_SCOPED(wr_buf_fini) struct wr_buf cert = WR_BUF_INIT, fleet = WR_BUF_INIT;
	struct wr_fleet_node n;
	char hash[65];
	json_t *o;
	int rc = join_token(c, q, hash, err);

	if (rc == 0)
		rc = joiner_of(c, &q->call, j, err);
	if (rc == 0)
		rc = join(c, q, j, hash, &cert, &n, err);
	wr_buf_fini(&j->spki);
	if (rc < 0)
		return -1;
	wr_crash_point("control.join-stored");
	{
		WR_SCOPED(wr_freep)
		char *why =
		    wr_asprintf("%s in %s, incarnation %u", n.name, n.dc, (unsigned)n.node.inc);
		json_t *detail = json_object();

		wr_json_str(detail, "node", n.node.id.s);
		wr_event(c, q->who.by, NULL, "node.joined", why, detail);
	}
	wr_fleet_encode(&c->fleet->auth->fleet, &fleet);
	o = wr_json_begin("warren.join/1");
	wr_json_str(o, "fleet", c->fleet->auth->fleet.id.s);
	wr_json_str(o, "node", n.node.id.s);
	wr_json_str(o, "name", n.name);
	wr_json_str(o, "dc", n.dc);
	wr_json_u64(o, "incarnation", n.node.inc);
	add_base64(o, "cert_b64", &cert);
	add_base64(o, "fleet_b64", &fleet);
	wr_req_reply(q, 200, 0, o);
	return 0;
}

/* ---- GET /v1/nodes ---- */

struct evidence {
	const struct wr_uuid *node;
	uint64_t copies;
	int64_t newest;
};

static int
count_copy(void *ctx, const struct wr_cat_copy *k, struct wr_err *err WR_UNUSED)
{
	struct evidence *e = ctx;

	e->copies++;
	e->newest = WR_MAX(e->newest, k->reported_at);
	return 0;
}

static void
node_json(struct wr_control *c, json_t *o, const struct wr_fleet_node *n)
{
	struct evidence e = {&n->node.id, 0, 0};

	wr_json_str(o, "id", n->node.id.s);
	wr_json_str(o, "name", n->name);
	wr_json_str(o, "dc", n->dc);
	wr_json_u64(o, "incarnation", n->node.inc);
	wr_json_bool(o, "self", !strcmp(n->node.id.s, c->node->id.s));
	wr_json_bool(o, "hub", n->flags & WR_FLEET_HUB);
	wr_json_bool(o, "draining", n->flags & WR_FLEET_DRAINING);
	wr_json_bool(o, "experimental", n->flags & WR_FLEET_EXPERIMENTAL);
	wr_json_bool(o, "removed", n->flags & WR_FLEET_REMOVED);
	wr_json_u64(o, "weight", n->weight);
	wr_json_str(o, "peer", *n->peer ? n->peer : NULL);
	wr_json_str(o, "api", *n->api ? n->api : NULL);
	wr_json_str(o, "names", n->names);
	wr_json_str(o, "key", wr_pub_short(&n->pub).s);
	wr_peer_json(c, o, &n->node);
	/* What a hub heard from it. */
	if (c->fleet->catalog &&
	    wr_catalog_copies(c->fleet->catalog, NULL, &n->node.id, count_copy, &e, NULL) == 0) {
		wr_json_u64(o, "copies", e.copies);
		if (e.newest)
			wr_json_time(o, "reported", e.newest);
		else
			wr_json_null(o, "reported");
	}
}

/* The newest incarnation of each; an older one is told by the number alone. */
static bool
is_newest(const struct wr_fleet *f, const struct wr_fleet_node *n)
{
	return wr_fleet_find(f, &n->node.id) == n;
}

int
wr_on_nodes(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	const struct wr_fleet *f;
	json_t *o, *list;

	if (in_fleet(c, err) < 0)
		return -1;
	f = &c->fleet->auth->fleet;
	o = wr_json_begin("warren.nodes/1");
	wr_json_str(o, "fleet", f->id.s);
	wr_json_u64(o, "seq", f->seq);
	wr_json_time(o, "at", f->at);
	wr_json_bool(o, "hub", c->fleet->catalog != NULL);
	list = wr_json_array(o, "nodes");
	for (size_t i = 0; i < f->node_count; i++)
		if (is_newest(f, &f->node[i]))
			node_json(c, wr_json_item(list), &f->node[i]);
	wr_req_reply(q, 200, 0, o);
	return 0;
}

/* ---- POST /v1/nodes/set, /v1/nodes/remove ---- */

static void
set_flag(const struct wr_call *call, const char *name, unsigned flag, struct wr_fleet_node *n)
{
	if (wr_call_bool(call, name, n->flags & flag))
		n->flags |= flag;
	else
		n->flags &= ~flag;
}

/* Sign it, and answer with the node as it is then. */
static int
publish_node(struct wr_control *c, struct wr_req *q, struct wr_fleet *f, const char *id,
	     const char *what, const char *why, struct wr_err *err)
{
	const struct wr_fleet_node *n;
	json_t *detail, *o;

	if (publish(c, f, err) < 0)
		return -1;
	n = find_node(&c->fleet->auth->fleet, id, err);
	if (!n)
		return -1;
	detail = json_object();
	wr_json_str(detail, "node", n->node.id.s);
	wr_event(c, q->who.by, NULL, what, why, detail);
	o = wr_json_begin("warren.fleet-node/1");
	node_json(c, o, n);
	wr_req_reply(q, 200, 0, o);
	return 0;
}

/* An operator says where it is reached: then it may say so, too. */
static int
confirm(struct wr_fleet_node *n, const char *address, struct wr_err *err)
{
	size_t used = strlen(n->names);
	char host[WR_HOST_SIZE], spelled[WR_HOST_SIZE];
	uint16_t port;

	if (!address || !wr_hostport_parse(address, host, &port) || wr_names_have(n->names, host))
		return 0;
	wr_host_spell(host, spelled);
	if (used + strlen(spelled) + 2 > sizeof(n->names))
		return wr_err_set(err, WR_E_LIMIT, "names: they are longer than %zu bytes",
				  sizeof(n->names) - 1);
	snprintf(n->names + used, sizeof(n->names) - used, "%s%s", used ? "," : "", spelled);
	return 0;
}

int
wr_on_node_set(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	const char *peer = wr_call_str(&q->call, "peer"), *api = wr_call_str(&q->call, "api"),
		   *names = wr_call_str(&q->call, "names");
	WR_SCOPED(fleet_fini) struct wr_fleet f = {.seq = 0};
	const struct wr_fleet_node *found;
	struct wr_fleet_node *n;
	struct wr_uuid id;
	uint64_t weight;

	if (is_hub(c, err) < 0 || (peer && check_address("peer", peer, err) < 0) ||
	    (api && check_address("api", api, err) < 0))
		return -1;
	wr_fleet_copy(&f, &c->fleet->auth->fleet);
	found = find_node(&f, wr_call_str(&q->call, "node"), err);
	if (!found)
		return -1;
	if (found->flags & WR_FLEET_REMOVED)
		return wr_err_set(err, WR_E_NOT_FOUND, "node '%s' was removed", found->name);
	n = node_at(&f, found);
	id = n->node.id;
	weight = wr_call_u64(&q->call, "weight", n->weight);
	if (weight == 0)
		return wr_err_set(err, WR_E_INVALID,
				  "weight: 0 is none; --draining keeps new copies away");
	n->weight = (uint32_t)weight;
	set_flag(&q->call, "draining", WR_FLEET_DRAINING, n);
	set_flag(&q->call, "experimental", WR_FLEET_EXPERIMENTAL, n);
	if (peer)
		snprintf(n->peer, sizeof(n->peer), "%s", peer);
	if (api)
		snprintf(n->api, sizeof(n->api), "%s", api);
	if ((names && set_names(&f, n, names, err) < 0) || confirm(n, peer, err) < 0 ||
	    confirm(n, api, err) < 0)
		return -1;
	return publish_node(c, q, &f, id.s, "node.set", n->name, err);
}

/* Which copies are where: is one of this node the newest that the catalog knows of? */
struct holding {
	const struct wr_fleet *fleet;
	const struct wr_uuid *leaver;
	struct wr_uuid project;
	struct wr_version its, others;
	bool has, elsewhere;
	char names[NAMED_MAX * 40];
	size_t alone;
};

static void
settle(struct holding *h)
{
	size_t used = strlen(h->names);

	if (!h->has || (h->elsewhere && wr_version_cmp(&h->others, &h->its) >= 0))
		return;
	if (h->alone++ < NAMED_MAX)
		snprintf(h->names + used, sizeof(h->names) - used, "%s%s", used ? ", " : "",
			 h->project.s);
}

static int
see_copy(void *ctx, const struct wr_cat_copy *k, struct wr_err *err WR_UNUSED)
{
	struct holding *h = ctx;
	const struct wr_fleet_node *n = wr_fleet_has(h->fleet, &k->node);

	if (strcmp(h->project.s, k->r.project.s) != 0) {
		settle(h);
		h->project = k->r.project;
		h->has = h->elsewhere = false;
	}
	if (!strcmp(k->node.id.s, h->leaver->s)) {
		h->has = true;
		h->its = k->r.held;
	} else if (n && !(n->flags & WR_FLEET_REMOVED) && !k->r.hidden) {
		if (!h->elsewhere || wr_version_cmp(&k->r.held, &h->others) > 0)
			h->others = k->r.held;
		h->elsewhere = true;
	}
	return 0;
}

static int
may_go(struct wr_control *c, const struct wr_fleet_node *n, bool force, struct wr_err *err)
{
	struct holding h = {.fleet = &c->fleet->auth->fleet, .leaver = &n->node.id};

	if (!strcmp(n->node.id.s, c->node->id.s))
		return wr_err_set(err, WR_E_INVALID, "node: that is this node itself, the hub");
	if (!force && wr_know_missing(c, NULL)) {
		wr_err_set(err, WR_E_BUSY,
			   "the catalog is recovering: it does not know yet which "
			   "copies are elsewhere");
		return wr_err_hint(err,
				   "'warren fleet' shows what is missing; if it is '%s' that is "
				   "gone for good: --force",
				   n->name);
	}
	if (wr_catalog_copies(c->fleet->catalog, NULL, NULL, see_copy, &h, err) < 0)
		return -1;
	settle(&h);
	if (!h.alone || force)
		return 0;
	wr_err_set(err, WR_E_DENIED,
		   "node '%s' has the only or the newest copy of %zu projects: %s%s", n->name,
		   h.alone, h.names, h.alone > NAMED_MAX ? ", ..." : "");
	return wr_err_hint(err,
			   "let it drain first: 'warren node set %s --draining yes'; --force "
			   "gives those copies up",
			   n->name);
}

int
wr_on_node_remove(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	WR_SCOPED(fleet_fini) struct wr_fleet f = {.seq = 0};
	const struct wr_fleet_node *found;
	struct wr_uuid id;

	if (is_hub(c, err) < 0)
		return -1;
	wr_fleet_copy(&f, &c->fleet->auth->fleet);
	found = find_node(&f, wr_call_str(&q->call, "node"), err);
	if (!found)
		return -1;
	if (found->flags & WR_FLEET_REMOVED)
		return wr_err_set(err, WR_E_NOT_FOUND, "node '%s' was removed already",
				  found->name);
	if (may_go(c, found, wr_call_bool(&q->call, "force", false), err) < 0)
		return -1;
	id = found->node.id;
	for (size_t i = 0; i < f.node_count; i++)
		if (!strcmp(f.node[i].node.id.s, id.s))
			f.node[i].flags |= WR_FLEET_REMOVED;
	return publish_node(c, q, &f, id.s, "node.removed", found->name, err);
}

/* ---- a hub's own place ---- */

/* Made anew at each start: which names stand in the old one is not known, and it costs nothing. */
static int
own_certificate(struct wr_control *c, const struct wr_reach *r, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf spki = WR_BUF_INIT, cert = WR_BUF_INIT;
	struct wr_pub pub;

	if (wr_auth_keys(c->node, &spki, &pub, err) < 0 ||
	    issue(c, &c->fleet->auth->self, (struct wr_der){spki.p, spki.len},
		  (const char *const *)r->name, WR_MIN(r->name_count, (size_t)WR_CERT_NAMES), &cert,
		  err) < 0)
		return -1;
	return wr_auth_cert_put(c->fleet->auth, cert.p, cert.len, err);
}

/* A node says where it is reached; what stands in its certificate is an operator's word. names:
 * those of this hub itself, NULL: they stay. */
static int
set_address(struct wr_control *c, const struct wr_node_id *node, const char *peer, const char *api,
	    const char *names, struct wr_err *err)
{
	WR_SCOPED(fleet_fini) struct wr_fleet f = {.seq = 0};
	const struct wr_fleet_node *is = wr_fleet_has(&c->fleet->auth->fleet, node);
	struct wr_fleet_node *n;

	if (!is || (is->flags & WR_FLEET_REMOVED))
		return wr_err_set(err, WR_E_DENIED, "node %s is not in the fleet", node->id.s);
	if (!strncmp(is->peer, peer, 255) && !strncmp(is->api, api, 255) &&
	    (!names || !strcmp(is->names, names)))
		return 0;
	if (strcmp(node->id.s, c->node->id.s) != 0 &&
	    (check_claim(&c->fleet->auth->fleet, &node->id, peer, err) < 0 ||
	     check_claim(&c->fleet->auth->fleet, &node->id, api, err) < 0))
		return -1;
	wr_fleet_copy(&f, &c->fleet->auth->fleet);
	n = node_at(&f, wr_fleet_has(&f, node));
	snprintf(n->peer, sizeof(n->peer), "%.255s", peer);
	snprintf(n->api, sizeof(n->api), "%.255s", api);
	if (names)
		snprintf(n->names, sizeof(n->names), "%s", names);
	return publish(c, &f, err);
}

static void
tell_unconfirmed(struct wr_control *c, const struct wr_fleet_node *n, const char *address)
{
	WR_SCOPED(wr_freep) char *why = NULL;
	char host[WR_HOST_SIZE];
	uint16_t port;

	if (!wr_hostport_parse(address, host, &port) || wr_names_have(n->names, host))
		return;
	why = wr_asprintf("node '%s' says that it is reached as '%s'; no certificate says so "
			  "before 'warren node set %s --names %s%s%s'",
			  n->name, WR_Q(host), n->name, n->names, *n->names ? "," : "", WR_Q(host));
	wr_event(c, "hub", NULL, "node.unconfirmed", why, NULL);
}

int
wr_fleet_set_address(struct wr_control *c, const struct wr_node_id *node, const char *peer,
		     const char *api, struct wr_err *err)
{
	const struct wr_fleet *f = &c->fleet->auth->fleet;
	const struct wr_fleet_node *n;
	uint64_t seq = f->seq;

	if (set_address(c, node, peer, api, NULL, err) < 0)
		return -1;
	n = f->seq != seq ? wr_fleet_has(f, node) : NULL;
	if (n) {
		tell_unconfirmed(c, n, peer);
		tell_unconfirmed(c, n, api);
	}
	return 0;
}

/* Not before its time: each new one makes the front of the API a new process. */
static bool
renew_due(struct wr_control *c)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf cert = WR_BUF_INIT;
	struct wr_cert_info info;

	return wr_read_file(c->node->state_fd, "tls/node.crt", WR_CERT_BYTES, &cert, NULL) < 0 ||
	       wr_cert_info((struct wr_der){cert.p, cert.len}, &info, NULL) < 0 ||
	       wr_cert_renew_due(&info, wr_clock_wall().s);
}

static int
refresh(struct wr_control *c, const struct wr_reach *r, struct wr_err *err)
{
	char names[WR_FLEET_NAMES];

	if (!wr_auth_own(c->fleet->auth))
		return wr_err_set(err, WR_E_CORRUPT, "the fleet record does not name its hub");
	if ((!c->hub_named || renew_due(c)) && own_certificate(c, r, err) < 0)
		return -1;
	c->hub_named = true;
	(void)wr_names_spell((const char *const *)r->name, r->name_count, names,
			     sizeof(names)); /* those that have room */
	return set_address(c, &c->fleet->auth->self, r->peer, r->api, names, err);
}

int
wr_hub_refresh(struct wr_control *c, struct wr_err *err)
{
	struct wr_reach r = {0};
	int rc;

	if (!c->fleet->catalog)
		return 0;
	wr_reach_of(c->node, &r);
	rc = refresh(c, &r, err);
	wr_reach_fini(&r);
	return rc;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hosts that join: tokens, what they may say of themselves, their place.
 *
 * The fleet record is signed by a hub, so only a hub changes it; every node shows it.  A join:
 *
 *   1  the catalog notes who uses the token up             durable; the same node may come again
 *   2  fleet record seq + 1, signed                        durable
 *   3  the answer: certificate, fleet record, incarnation
 *
 * Whatever is lost on the way, the same node asks again with the same keys and gets the same place.
 */
#include "base/str.h"
#include "fleet/catalog/catalog.h"
#include "fleet/trust/trust.h"
#include "serve/control/know.h"
#include "serve/control/nodes.h"
#include "sys/clock.h"
#include "sys/crash.h"

#define JOIN_S 3600
#define USUAL_WEIGHT 100
#define SPKI_MAX 512
#define NAME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

static bool
name_ok(const char *s, const char *good)
{
	size_t n = strlen(s);

	return n && n <= 63 && strspn(s, good) == n && !strchr("-.", s[0]);
}

/* ---- GET /v1/ca ---- */

int
wr_on_ca(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	struct wr_der ca[2];
	json_t *o, *list;
	size_t n;

	if (wr_fleet_must(c, err) < 0)
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

	if (rejoin && !(n = wr_nodes_find(f, rejoin, err)))
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

	if (wr_nodes_at_hub(c, err) < 0 || choose_place(c, q, &p, err) < 0)
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

		if (wr_nodes_set_names(&c->fleet->auth->fleet, &n, names, err) < 0)
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

	if (wr_nodes_at_hub(c, err) < 0 || wr_wrong_held(c, q, err) < 0)
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
joiner_names(struct wr_control *c, const char *list, struct joiner *j, struct wr_err *err)
{
	while (list && *list) {
		if (j->name_count >= WR_CERT_NAMES)
			return wr_err_set(err, WR_E_INVALID, "names: more than %d", WR_CERT_NAMES);
		if (!wr_host_next(&list, j->host[j->name_count]))
			return wr_err_set(err, WR_E_INVALID,
					  "names: '%s' is no list of names or addresses",
					  WR_Q(list));
		if (wr_nodes_taken(&c->fleet->auth->fleet, &j->id, j->host[j->name_count])) {
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
	if (wr_nodes_check_address("peer", j->peer, err) < 0 ||
	    wr_nodes_check_address("api", j->api, err) < 0 ||
	    wr_nodes_check_claim(&c->fleet->auth->fleet, &j->id, j->peer, err) < 0 ||
	    wr_nodes_check_claim(&c->fleet->auth->fleet, &j->id, j->api, err) < 0)
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
		struct wr_fleet_node *n = wr_nodes_at(f, old);

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
		wr_nodes_at(f, old)->flags |= WR_FLEET_REMOVED; /* what it signed stays good */
	}
	memcpy(new.name, token->name, sizeof(new.name));
	memcpy(new.dc, token->dc, sizeof(new.dc));
	snprintf(new.peer, sizeof(new.peer), "%s", j->peer);
	snprintf(new.api, sizeof(new.api), "%s", j->api);
	*out_changed = true;
	return wr_nodes_insert(f, &new);
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
	WR_SCOPED(wr_fleet_fini) struct wr_fleet f = {.seq = 0};
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
	if (!n || wr_nodes_certify(c, &n->node, (struct wr_der){j->spki.p, j->spki.len}, j->name,
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
	return changed ? wr_nodes_publish(c, &f, err) : 0;
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

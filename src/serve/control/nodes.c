/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The nodes of the fleet record, as a hub changes them: a copy is changed, signed and made ours.
 * What a node is called and reached by is its own alone; certificates are made for these names.
 */
#include <arpa/inet.h>

#include "fleet/trust/trust.h"
#include "serve/control/fleet.h"
#include "serve/control/nodes.h"
#include "sys/clock.h"

int
wr_nodes_at_hub(const struct wr_control *c, struct wr_err *err)
{
	const struct wr_fleet *f;

	if (c->fleet && c->fleet->catalog)
		return 0;
	if (wr_fleet_must(c, err) < 0)
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
int
wr_nodes_publish(struct wr_control *c, struct wr_fleet *f, struct wr_err *err)
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

struct wr_fleet_node *
wr_nodes_at(struct wr_fleet *f, const struct wr_fleet_node *n)
{
	return f->node + (n - f->node);
}

static int
order(const struct wr_node_id *a, const struct wr_node_id *b)
{
	int rc = strcmp(a->id.s, b->id.s);

	return rc ? rc : a->inc < b->inc ? -1 : a->inc > b->inc;
}

struct wr_fleet_node *
wr_nodes_insert(struct wr_fleet *f, const struct wr_fleet_node *n)
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
const struct wr_fleet_node *
wr_nodes_find(const struct wr_fleet *f, const char *ref, struct wr_err *err)
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
bool
wr_nodes_taken(const struct wr_fleet *f, const struct wr_uuid *by, const char *host)
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

int
wr_nodes_set_names(const struct wr_fleet *f, struct wr_fleet_node *n, const char *list,
		   struct wr_err *err)
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
		if (wr_nodes_taken(f, &n->node.id, host[count]))
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

int
wr_nodes_check_address(const char *what, const char *s, struct wr_err *err)
{
	char host[WR_HOST_SIZE];
	uint16_t port;

	if (!*s || wr_hostport_parse(s, host, &port))
		return 0;
	return wr_err_set(err, WR_E_INVALID, "%s: '%s' is no HOST:PORT", what, WR_Q(s));
}

/* Certificates are made for these names: nobody takes another's. */
int
wr_nodes_check_claim(const struct wr_fleet *f, const struct wr_uuid *by, const char *address,
		     struct wr_err *err)
{
	char host[WR_HOST_SIZE];
	uint16_t port;

	if (!wr_hostport_parse(address, host, &port) || !wr_nodes_taken(f, by, host))
		return 0;
	return wr_err_set(err, WR_E_EXISTS, "another node of the fleet is reached as '%s'",
			  WR_Q(host));
}

int
wr_nodes_certify(struct wr_control *c, const struct wr_node_id *node, struct wr_der spki,
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

/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes of the fleet as calls see them: shown, set, removed. */
#include "fleet/catalog/catalog.h"
#include "serve/control/fleet.h"
#include "serve/control/know.h"
#include "serve/control/nodes.h"

/* LIMIT: projects that are named where a node may not go. */
#define NAMED_MAX 5

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

	if (wr_fleet_must(c, err) < 0)
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

	if (wr_nodes_publish(c, f, err) < 0)
		return -1;
	n = wr_nodes_find(&c->fleet->auth->fleet, id, err);
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
	WR_SCOPED(wr_fleet_fini) struct wr_fleet f = {.seq = 0};
	const struct wr_fleet_node *found;
	struct wr_fleet_node *n;
	struct wr_uuid id;
	uint64_t weight;

	if (wr_nodes_at_hub(c, err) < 0 ||
	    (peer && wr_nodes_check_address("peer", peer, err) < 0) ||
	    (api && wr_nodes_check_address("api", api, err) < 0))
		return -1;
	wr_fleet_copy(&f, &c->fleet->auth->fleet);
	found = wr_nodes_find(&f, wr_call_str(&q->call, "node"), err);
	if (!found)
		return -1;
	if (found->flags & WR_FLEET_REMOVED)
		return wr_err_set(err, WR_E_NOT_FOUND, "node '%s' was removed", found->name);
	n = wr_nodes_at(&f, found);
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
	if ((names && wr_nodes_set_names(&f, n, names, err) < 0) || confirm(n, peer, err) < 0 ||
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
	WR_SCOPED(wr_fleet_fini) struct wr_fleet f = {.seq = 0};
	const struct wr_fleet_node *found;
	struct wr_uuid id;

	if (wr_nodes_at_hub(c, err) < 0)
		return -1;
	wr_fleet_copy(&f, &c->fleet->auth->fleet);
	found = wr_nodes_find(&f, wr_call_str(&q->call, "node"), err);
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

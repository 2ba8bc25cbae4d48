/* SPDX-License-Identifier: Apache-2.0 */
/* A hub's own place in the fleet record, and where nodes say that they are reached. */
#include "fleet/trust/trust.h"
#include "serve/control/nodes.h"
#include "serve/control/replicas.h"
#include "sys/clock.h"
#include "sys/fs.h"

/* Made anew at each start: which names stand in the old one is not known, and it costs nothing. */
static int
own_certificate(struct wr_control *c, const struct wr_reach *r, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf spki = WR_BUF_INIT, cert = WR_BUF_INIT;
	struct wr_pub pub;

	if (wr_auth_keys(c->node, &spki, &pub, err) < 0 ||
	    wr_nodes_certify(c, &c->fleet->auth->self, (struct wr_der){spki.p, spki.len},
			     (const char *const *)r->name,
			     WR_MIN(r->name_count, (size_t)WR_CERT_NAMES), &cert, err) < 0)
		return -1;
	return wr_auth_cert_put(c->fleet->auth, cert.p, cert.len, err);
}

/* A node says where it is reached; what stands in its certificate is an operator's word. names:
 * those of this hub itself, NULL: they stay. */
static int
set_address(struct wr_control *c, const struct wr_node_id *node, const char *peer, const char *api,
	    const char *names, struct wr_err *err)
{
	WR_SCOPED(wr_fleet_fini) struct wr_fleet f = {.seq = 0};
	const struct wr_fleet_node *is = wr_fleet_has(&c->fleet->auth->fleet, node);
	struct wr_fleet_node *n;

	if (!is || (is->flags & WR_FLEET_REMOVED))
		return wr_err_set(err, WR_E_DENIED, "node %s is not in the fleet", node->id.s);
	if (!strncmp(is->peer, peer, 255) && !strncmp(is->api, api, 255) &&
	    (!names || !strcmp(is->names, names)))
		return 0;
	if (strcmp(node->id.s, c->node->id.s) != 0 &&
	    (wr_nodes_check_claim(&c->fleet->auth->fleet, &node->id, peer, err) < 0 ||
	     wr_nodes_check_claim(&c->fleet->auth->fleet, &node->id, api, err) < 0))
		return -1;
	wr_fleet_copy(&f, &c->fleet->auth->fleet);
	n = wr_nodes_at(&f, wr_fleet_has(&f, node));
	snprintf(n->peer, sizeof(n->peer), "%.255s", peer);
	snprintf(n->api, sizeof(n->api), "%.255s", api);
	if (names)
		snprintf(n->names, sizeof(n->names), "%s", names);
	return wr_nodes_publish(c, &f, err);
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

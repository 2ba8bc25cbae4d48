/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host that joins a fleet, comes back to it, or has its certificate renewed:
 *
 *   own keys -> (the hub) -> certificate -> fleet.bin -> node.json
 *
 * node.json comes last: before it the node belongs to no fleet, and all can be repeated.
 */
#include "host/auth/auth_int.h"

#include <unistd.h>

#include "fleet/trust/trust.h"
#include "sys/crash.h"
#include "sys/fs.h"

/* Signed by the fleet's CA, for this node in this incarnation and for the key here? */
static int
check_cert(struct wr_node *n, const struct wr_fleet *f, const struct wr_node_id *self,
	   struct wr_der cert, struct wr_err *err)
{
	WR_SCOPED(wr_secret_fini) struct wr_buf pem = WR_BUF_INIT;
	struct wr_cert_info info;
	struct wr_der ca[2];
	size_t count = wr_fleet_cas(f, ca);

	if (wr_cert_verify(cert, ca, count, err) < 0 || wr_cert_info(cert, &info, err) < 0 ||
	    wr_tls_key_load(n->state_fd, WR_TLS_KEY_FILE, &pem, err) < 0 ||
	    wr_cert_fits(cert, (struct wr_der){pem.p, pem.len}, err) < 0)
		return wr_err_wrap(err, "the certificate from the hub");
	if (strcmp(info.fleet.s, f->id.s) != 0 || !wr_node_id_eq(&info.node, self))
		return wr_err_set(err, WR_E_DENIED,
				  "the certificate from the hub is of node %s, incarnation "
				  "%" PRIu32 ", of fleet %s, not of this one",
				  info.node.id.s, info.node.inc, info.fleet.s);
	return 0;
}

/* Does the record name us as who we are? */
static int
check_named(struct wr_node *n, const struct wr_fleet *f, const struct wr_node_id *self,
	    struct wr_err *err)
{
	WR_SCOPED(wr_sign_key_fini) struct wr_sign_key key = {0};
	const struct wr_fleet_node *own = wr_fleet_find(f, &self->id);

	if (wr_auth_key_load(n->state_fd, WR_SIGN_KEY_FILE, &key, err) < 0)
		return -1;
	if (!own || !wr_node_id_eq(&own->node, self) ||
	    memcmp(own->pub.b, key.pub.b, sizeof(key.pub.b)) != 0 ||
	    (own->flags & WR_FLEET_REMOVED))
		return wr_err_set(err, WR_E_DENIED,
				  "the fleet record from the hub does not name this node, "
				  "incarnation %" PRIu32 ", with its key",
				  self->inc);
	return 0;
}

/* Not older than what is here, and by the same keys; without one here, by its own. */
static int
check_fleet(struct wr_node *n, const struct wr_fleet *f, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;
	struct wr_fleet held;
	int rc;

	if (n->fleet.s[0] && strcmp(n->fleet.s, f->id.s) != 0)
		return wr_err_set(err, WR_E_EXISTS, "this node belongs to fleet %s, not to %s",
				  n->fleet.s, f->id.s);
	/* One that a node of no fleet holds is what a run left that was cut off. */
	if (!n->fleet.s[0] || wr_auth_fleet_load(n, &held, NULL, NULL, &why) < 0) {
		if (n->fleet.s[0] && why.code != WR_E_NOT_FOUND && why.code != WR_E_CORRUPT) {
			if (err)
				*err = why;
			return -1;
		}
		return wr_fleet_verify(f, NULL, err);
	}
	rc = f->seq == held.seq ? wr_fleet_verify(f, NULL, err) : wr_fleet_verify(f, &held, err);
	wr_fleet_fini(&held);
	return rc;
}

static int
store_cert(struct wr_node *n, const void *der, size_t len, struct wr_err *err)
{
	wr_crash_point("join.cert");
	if (wr_replace_file(n->state_fd, WR_CERT_FILE, der, len, 0600, err) < 0)
		return wr_err_wrap(err, "keep the certificate");
	return 0;
}

/* A founding that was cut off left keys that nobody has seen; with them this would pass for a hub.
 */
static int
put_hub_aside(struct wr_node *n, struct wr_err *err)
{
	char aside[sizeof("hub.unused-") + 13];

	wr_random_name(aside, sizeof(aside), "hub.unused-");
	if (renameat(n->state_fd, "hub", n->state_fd, aside) < 0 && errno != ENOENT)
		return wr_err_sys(err, "put 'hub' aside");
	return 0;
}

static int
join(struct wr_node *n, const struct wr_fleet *f, const struct wr_node_id *self,
     const struct wr_buf *cert, const struct wr_buf *fleet, struct wr_err *err)
{
	WR_SCOPED(wr_lock_drop) struct wr_lock lock = WR_LOCK_INIT;

	if (wr_auth_fleet_lock(n, &lock, err) < 0 || check_fleet(n, f, err) < 0 ||
	    check_named(n, f, self, err) < 0 ||
	    check_cert(n, f, self, (struct wr_der){cert->p, cert->len}, err) < 0)
		return -1;
	if (!n->fleet.s[0] && put_hub_aside(n, err) < 0)
		return -1;
	if (store_cert(n, cert->p, cert->len, err) < 0)
		return -1;
	wr_crash_point("join.fleet");
	if (wr_replace_file(n->state_fd, WR_FLEET_FILE, fleet->p, fleet->len, 0600, err) < 0)
		return wr_err_wrap(err, "keep the fleet record");
	wr_crash_point("join.node");
	return wr_node_set_fleet(n, &f->id, self->inc, err);
}

int
wr_auth_join(struct wr_node *n, uint32_t inc, const struct wr_buf *cert_der,
	     const struct wr_buf *fleet, struct wr_err *err)
{
	WR_SCOPED(wr_lock_drop) struct wr_lock lock = WR_LOCK_INIT;
	struct wr_node_id self = {n->id, inc};
	struct wr_fleet f;
	int rc;

	if (inc == 0 || inc < n->incarnation)
		return wr_err_set(err, WR_E_INVALID,
				  "incarnation %" PRIu32 " is not one for this node to have", inc);
	if (wr_fleet_decode(fleet->p, fleet->len, &f, err) < 0)
		return wr_err_wrap(err, "the fleet record from the hub");
	rc = wr_auth_keys_lock(n, &lock, err);
	if (rc == 0)
		rc = join(n, &f, &self, cert_der, fleet, err);
	wr_fleet_fini(&f);
	return rc;
}

int
wr_auth_cert_put(struct wr_auth *a, const void *der, size_t len, struct wr_err *err)
{
	WR_SCOPED(wr_lock_drop) struct wr_lock lock = WR_LOCK_INIT;

	if (wr_auth_keys_lock(a->node, &lock, err) < 0 ||
	    check_cert(a->node, &a->fleet, &a->self, (struct wr_der){der, len}, err) < 0)
		return -1;
	return store_cert(a->node, der, len, err);
}

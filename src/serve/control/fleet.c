/* SPDX-License-Identifier: Apache-2.0 */
/*
 * This node in its fleet: authority, counter, the fleet record and its gossip, certificate, own
 * addresses, and whether it was set back (M5).
 *
 *   STATE/behind.json {"format":1,"incarnation","by","seen"}: another node saw a greater counter
 *   than this one has.  It stays until the host comes back as another incarnation, or until the one
 *   who said so was removed from the fleet.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "fleet/trust/trust.h"
#include "serve/control/fleet_int.h"
#include "serve/control/replicas.h"
#include "sys/clock.h"
#include "sys/fs.h"

#define KEY_FILE "tls/node.key"
#define CERT_FILE "tls/node.crt"
#define BEHIND_BYTES 4096

#define SECOND_NS ((uint64_t)WR_SECOND)
#define COUNT_EVERY_NS (10 * SECOND_NS)
#define HELLO_EVERY_NS (30 * SECOND_NS)
/* LIMIT: of those that are due at once. */
#define HELLOS_MAX 64
#define ASK_MS 10000
#define CERT_EVERY_NS (3600 * SECOND_NS) /* asked for; looked at: */
#define CERT_LOOK_NS (5 * SECOND_NS)
#define ADDRESS_EVERY_NS (60 * SECOND_NS)
#define DAY_NS (86400 * SECOND_NS)
/* What a message has room for. */
#define FLEET_BYTES (WR_MSG_BYTES - 4096)

int
wr_fleet_must(const struct wr_control *c, struct wr_err *err)
{
	if (c->fleet)
		return 0;
	wr_err_set(err, WR_E_UNSUPPORTED, "this node belongs to no fleet");
	return wr_err_hint(err, "'warren init' makes one, 'warren join' makes a host part of one");
}

const char *
wr_fleet_name(struct wr_control *c, const struct wr_uuid *node)
{
	const struct wr_fleet_node *f = wr_fleet_find(&c->fleet->auth->fleet, node);

	return f ? f->name : "?";
}

/* ---- set back? ---- */

bool
wr_fleet_set_back(struct wr_control *c, struct wr_err *err)
{
	if (!c->fleet || !c->fleet->amnesia)
		return false;
	wr_err_set(err, WR_E_DENIED,
		   "this node was set back: another one saw it further than it is, so it has no "
		   "vote and may not write");
	wr_err_hint(err,
		    "it was restored from an image: on a hub 'warren node add --rejoin %s', "
		    "then here 'warren join' with that token",
		    wr_fleet_name(c, &c->node->id));
	return true;
}

static void
say_behind(struct wr_control *c)
{
	struct wr_err err = WR_ERR_INIT;

	if (wr_fleet_set_back(c, &err))
		wr_log_err(WR_LOG_ERROR, "fleet", &err);
}

static void
load_behind(struct wr_control *c)
{
	struct wr_err err = WR_ERR_INIT;
	WR_SCOPED(wr_json_freep)
	json_t *o =
	    wr_file_load(c->node->state_fd, WR_AUTH_BEHIND, BEHIND_BYTES, "format", 1, &err);
	const struct wr_fleet_node *by = NULL;
	struct wr_uuid id;

	if (!o && err.code == WR_E_NOT_FOUND)
		return;
	/* One that cannot be read was written all the same. */
	if (o && wr_uuid_parse(wr_json_get_str(o, "by", ""), &id))
		by = wr_fleet_find(&c->fleet->auth->fleet, &id);
	if (o && (wr_json_get_u64(o, "incarnation", 0) != c->fleet->auth->self.inc || !by ||
		  (by->flags & WR_FLEET_REMOVED))) {
		(void)unlinkat(c->node->state_fd, WR_AUTH_BEHIND,
			       0); /* else it is looked at again */
		return;
	}
	c->fleet->amnesia = true;
	say_behind(c);
}

void
wr_fleet_behind(struct wr_control *c, const struct wr_uuid *by, uint64_t seen)
{
	WR_SCOPED(wr_json_freep) json_t *o = json_object();
	WR_SCOPED(wr_freep) char *why = NULL;
	struct wr_err err = WR_ERR_INIT;

	if (c->fleet->amnesia)
		return;
	c->fleet->amnesia = true;
	wr_json_u64(o, "format", 1);
	wr_json_u64(o, "incarnation", c->fleet->auth->self.inc);
	wr_json_str(o, "by", by->s);
	wr_json_u64(o, "seen", seen);
	if (wr_file_store(c->node->state_fd, WR_AUTH_BEHIND, o, BEHIND_BYTES, 0600, true, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "note that this node was set back", &err);
	why = wr_asprintf("node '%s' saw this one at %" PRIu64 ", it is at %" PRIu64,
			  wr_fleet_name(c, by), seen, c->fleet->auth->counter);
	wr_event(c, "fleet", NULL, "node.behind", why, NULL);
	say_behind(c);
}

/* ---- the counter ---- */

void
wr_fleet_touch(struct wr_control *c)
{
	if (c->fleet)
		c->fleet->peers->touched = true;
}

static void
count(struct wr_control *c, uint64_t now)
{
	struct wr_peers *p = c->fleet->peers;
	struct wr_err err = WR_ERR_INIT;

	if (!p->touched || now - p->counted_ns < COUNT_EVERY_NS)
		return;
	p->counted_ns = now;
	if (wr_auth_count(c->fleet->auth, &err) == 0) {
		p->touched = p->count_failed = false;
		return;
	}
	if (!p->count_failed)
		wr_log_err(WR_LOG_ERROR, "count", &err);
	p->count_failed = true;
}

/* ---- what @peer has to know ---- */

static int
fill_setup(struct wr_control *c, struct wr_peer_setup *s, struct wr_err *err)
{
	const struct wr_auth *a = c->fleet->auth;
	struct wr_der ca[2];
	size_t n = wr_fleet_cas(&a->fleet, ca);

	if (wr_read_file(c->node->state_fd, KEY_FILE, WR_TLS_KEY_BYTES, &s->key_pem, err) < 0 ||
	    wr_read_file(c->node->state_fd, CERT_FILE, WR_CERT_BYTES, &s->cert_der, err) < 0)
		return wr_err_wrap(err, "this node's certificate");
	s->self = a->self;
	snprintf(s->fleet, sizeof(s->fleet), "%s", a->fleet.id.s);
	for (size_t i = 0; i < n; i++)
		wr_buf_add(&s->ca_der[i], ca[i].p, ca[i].len);
	s->fleet_at = a->fleet.at;
	s->node = wr_calloc(a->fleet.node_count + 1, sizeof(*s->node));
	for (size_t i = 0; i < a->fleet.node_count; i++)
		if (!(a->fleet.node[i].flags & WR_FLEET_REMOVED))
			s->node[s->node_count++] = a->fleet.node[i].node;
	return 0;
}

int
wr_fleet_setup(struct wr_control *c, struct wr_buf *out, struct wr_err *err)
{
	struct wr_peer_setup s = {0};
	int rc;

	/* Before the files are read: what is written meanwhile is noticed. */
	c->fleet->peers->cert_stamp_ns = wr_key_stamp(c);
	rc = fill_setup(c, &s, err);
	if (rc == 0)
		wr_peer_setup_encode(&s, out);
	wr_peer_setup_fini(&s);
	return rc;
}

/* ---- the fleet record ---- */

void
wr_fleet_changed(struct wr_control *c)
{
	struct wr_peers *p = c->fleet->peers;
	const struct wr_fleet *f = &c->fleet->auth->fleet;
	WR_SCOPED(wr_freep) char *why = NULL;
	size_t nodes = 0;

	if (f->seq == p->told_seq)
		return;
	p->told_seq = f->seq;
	for (size_t i = 0; i < f->node_count; i++)
		nodes += !(f->node[i].flags & WR_FLEET_REMOVED);
	why = wr_asprintf("number %" PRIu64 ", %zu nodes", f->seq, nodes);
	wr_event(c, "fleet", NULL, "fleet.record", why, NULL);
	wr_channel_setup(c);
	/* Everyone hears of it at once. */
	for (size_t i = 0; i < p->node_count; i++)
		p->node[i]->hello_ns = 0;
	p->address_ns = p->cert_ns = p->cert_asked_ns = 0;
}

void
wr_fleet_bytes(struct wr_control *c, struct wr_buf *out)
{
	struct wr_peers *p = c->fleet->peers;

	wr_fleet_encode(&c->fleet->auth->fleet, out);
	if (out->len <= FLEET_BYTES)
		return;
	wr_buf_clear(out);
	if (!p->large_told)
		wr_event(c, "fleet", NULL, "fleet.record",
			 "it is too large to be handed on to other nodes", NULL);
	p->large_told = true;
}

/* ---- gossip ---- */

struct hello {
	struct wr_control *c;
	struct wr_node_id to;
	uint64_t sent_ns;
};

static void
told(void *ctx, const struct wr_msg *answer, const struct wr_err *why)
{
	(void)ctx;
	(void)answer;
	(void)why; /* the next HELLO shows whether it has it */
}

static void
compare(struct wr_control *c, const struct wr_node_id *with, const struct wr_msg *a)
{
	const struct wr_auth *auth = c->fleet->auth;
	struct wr_err err = WR_ERR_INIT;
	struct wr_msg m = WR_MSG_INIT;
	bool newer = false;

	if (a->fleet_seq < auth->fleet.seq) {
		m.kind = WR_MSG_FLEET_PUT;
		wr_fleet_bytes(c, &m.blob);
		if (m.blob.len)
			wr_ask(c, &with->id, &m, ASK_MS, told, NULL);
		wr_msg_fini(&m);
	} else if (a->fleet_seq > auth->fleet.seq && a->blob.len) {
		if (wr_auth_fleet_put(c->fleet->auth, a->blob.p, a->blob.len, &newer, &err) < 0)
			wr_peer_refused(c, a, &err);
		else if (newer)
			wr_fleet_changed(c);
	}
}

static void
on_hello(void *ctx, const struct wr_msg *a, const struct wr_err *why WR_UNUSED)
{
	struct hello *h = ctx;
	struct wr_control *c = h->c;
	struct wr_pnode *n = wr_pnode_get(c, &h->to);
	bool ok = a && a->kind == WR_MSG_HELLO_OK && n;
	uint64_t took = wr_clock_mono_ns() - h->sent_ns;

	if (ok) {
		wr_pnode_clock(c, n, a->at - wr_clock_wall().s + (int64_t)(took / 2 / SECOND_NS));
		if (!n->there)
			wr_copies_seen(c, &h->to.id);
		n->there = true;
		compare(c, &h->to, a);
	} else if (n) {
		n->there = false;
	}
	free(h);
}

static void
greet(struct wr_control *c, uint64_t now)
{
	const struct wr_fleet *f = &c->fleet->auth->fleet;
	size_t sent = 0;

	for (size_t i = 0; i < f->node_count && sent < HELLOS_MAX; i++) {
		const struct wr_fleet_node *e = &f->node[i];
		struct wr_msg m = WR_MSG_INIT;
		struct wr_pnode *n;
		struct hello *h;

		if ((e->flags & WR_FLEET_REMOVED) || !*e->peer ||
		    !strcmp(e->node.id.s, c->node->id.s) || !(n = wr_pnode_get(c, &e->node)) ||
		    now < n->hello_ns)
			continue;
		n->hello_ns = now + HELLO_EVERY_NS;
		h = wr_calloc(1, sizeof(*h));
		*h = (struct hello){c, e->node, now};
		m.kind = WR_MSG_HELLO;
		m.fleet_seq = f->seq;
		m.at = wr_clock_wall().s;
		wr_ask(c, &e->node.id, &m, ASK_MS, on_hello, h);
		sent++;
	}
}

/* ---- addresses and certificate of this node; hubs see to their own (wr_hub_refresh) ---- */

static void
on_address(void *ctx, const struct wr_msg *a WR_UNUSED, const struct wr_err *why WR_UNUSED)
{
	/* Whether it helped is seen in the fleet record. */
	((struct wr_control *)ctx)->fleet->peers->address_asked = false;
}

static void
tell_address(struct wr_control *c, uint64_t now)
{
	struct wr_peers *p = c->fleet->peers;
	const struct wr_fleet_node *own = wr_auth_own(c->fleet->auth);
	const struct wr_uuid *hub = wr_hub_pick(c);
	struct wr_reach r = {0};
	struct wr_msg m = WR_MSG_INIT;

	if (c->fleet->catalog || !own || !hub || p->address_asked ||
	    (p->address_ns && now - p->address_ns < ADDRESS_EVERY_NS))
		return;
	p->address_ns = now;
	wr_reach_of(c->node, &r);
	if (strncmp(own->peer, r.peer, sizeof(own->peer) - 1) != 0 ||
	    strncmp(own->api, r.api, sizeof(own->api) - 1) != 0) {
		m.kind = WR_MSG_ADDRESS;
		m.text = *r.peer ? wr_strdup(r.peer) : NULL;
		m.hint = *r.api ? wr_strdup(r.api) : NULL;
		p->address_asked = true;
		wr_ask(c, hub, &m, ASK_MS, on_address, c);
	}
	wr_reach_fini(&r);
}

static void
on_cert(void *ctx, const struct wr_msg *a, const struct wr_err *why)
{
	struct wr_control *c = ctx;
	struct wr_err err = WR_ERR_INIT;

	c->fleet->peers->cert_asked = false;
	if (a && a->kind == WR_MSG_CERT_OK) {
		if (wr_auth_cert_put(c->fleet->auth, a->blob.p, a->blob.len, &err) == 0) {
			wr_event(c, "fleet", NULL, "node.certificate", "renewed", NULL);
			wr_channel_setup(c);
			return;
		}
	} else if (a) {
		wr_msg_get_err(a, &err);
	} else {
		err = *why;
	}
	if (err.code != WR_E_CANCELLED)
		wr_event(c, "fleet", NULL, "node.certificate", err.msg, NULL);
}

static void
renew(struct wr_control *c, uint64_t now)
{
	struct wr_peers *p = c->fleet->peers;
	WR_SCOPED(wr_buf_fini) struct wr_buf cert = WR_BUF_INIT, key = WR_BUF_INIT;
	const struct wr_fleet_node *own = wr_auth_own(c->fleet->auth);
	const struct wr_uuid *hub = wr_hub_pick(c);
	struct wr_cert_info info;
	struct wr_msg m = WR_MSG_INIT;

	/* Its time may come with a clock that is put right. */
	if (c->fleet->catalog || !own || !hub || p->cert_asked ||
	    (p->cert_ns && now - p->cert_ns < CERT_LOOK_NS) ||
	    (p->cert_asked_ns && now - p->cert_asked_ns < CERT_EVERY_NS))
		return;
	p->cert_ns = now;
	if (wr_read_file(c->node->state_fd, CERT_FILE, WR_CERT_BYTES, &cert, NULL) < 0 ||
	    wr_cert_info((struct wr_der){cert.p, cert.len}, &info, NULL) < 0 ||
	    (!wr_cert_renew_due(&info, wr_clock_wall().s) && !strcmp(info.names, own->names)))
		return;
	m.kind = WR_MSG_CERT;
	if (wr_read_file(c->node->state_fd, KEY_FILE, WR_TLS_KEY_BYTES, &key, NULL) == 0 &&
	    wr_tls_key_spki((struct wr_der){key.p, key.len}, &m.blob, NULL) == 0) {
		p->cert_asked = true;
		p->cert_asked_ns = now;
		wr_ask(c, hub, &m, ASK_MS, on_cert, c);
	}
	wr_secret_fini(&key);
	wr_msg_fini(&m);
}

static void
daily(struct wr_control *c, uint64_t now)
{
	struct wr_peers *p = c->fleet->peers;
	struct wr_err err = WR_ERR_INIT;

	if (!c->fleet->catalog || now - p->daily_ns < DAY_NS)
		return;
	p->daily_ns = now;
	if (wr_hub_refresh(c, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "this hub's certificate", &err);
}

/* ---- the clock ---- */

static void
on_tick(struct wr_timer *t)
{
	struct wr_peers *p = WR_OWNER(t, struct wr_peers, tick);
	struct wr_control *c = p->c;
	uint64_t now = wr_clock_mono_ns();

	wr_timer_on(&c->loop, t, SECOND_NS, on_tick);
	wr_inbound_tick(c);
	count(c, now);
	wr_peers_store(c, false);
	if (c->draining)
		return;
	if (wr_asks_overdue(c))
		wr_channel_replace(c, "it keeps answers longer than it may");
	(void)wr_auth_refresh(c->fleet->auth);
	if (c->fleet->auth->fleet.seq != p->told_seq)
		wr_fleet_changed(c);
	else if (wr_key_stamp(c) != p->cert_stamp_ns)
		wr_channel_setup(c);
	greet(c, now);
	tell_address(c, now);
	renew(c, now);
	daily(c, now);
}

/* ---- beginning and end ---- */

/* A hub that has lost its keys is still a node. */
static int
open_hub(struct wr_control *c, struct wr_err *err)
{
	WR_SCOPED(wr_freep)
	char *where = wr_asprintf("sqlite:%s/hub/catalog.db", c->node->state_path);
	struct wr_err key_err = WR_ERR_INIT;

	if (!wr_auth_is_hub(c->fleet->auth))
		return 0;
	if (wr_auth_hub_key(c->fleet->auth, &c->fleet->hub_key, &key_err) < 0) {
		wr_event(c, "fleet", NULL, "hub.disabled", key_err.msg, NULL);
		return 0;
	}
	if (wr_catalog_open(where, &c->fleet->catalog, err) < 0)
		return -1;
	return wr_hub_refresh(c, err);
}

static int
begin(struct wr_control *c, struct wr_err *err)
{
	struct wr_peers *p = c->fleet->peers;

	load_behind(c);
	wr_peers_load(c);
	if (wr_auth_count(c->fleet->auth, err) < 0)
		return wr_err_wrap(err, "count this start");
	p->counted_ns = p->daily_ns = wr_clock_mono_ns();
	/* What was heard before is not known any more. */
	p->held_until_ns = wr_clock_boot_ns() + WR_HOLD_NS;
	if (open_hub(c, err) < 0 || (c->fleet->catalog && wr_hub_begin(c, err) < 0))
		return -1;
	p->told_seq = c->fleet->auth->fleet.seq;
	if (wr_channel_begin(c, err) < 0)
		return -1;
	wr_copies_begin(c);
	wr_reserve_begin(c);
	wr_leases_begin(c);
	wr_timer_on(&c->loop, &p->tick, 0, on_tick);
	return 0;
}

int
wr_fleet_begin(struct wr_control *c, struct wr_err *err)
{
	struct wr_auth *auth = NULL;
	struct wr_peers *p;

	if (!*c->node->fleet.s)
		return 0;
	if (wr_auth_open(c->node, &auth, err) < 0)
		return -1;
	p = wr_calloc(1, sizeof(*p));
	p->c = c;
	p->sock = p->listen_fd = -1;
	p->watch = (struct wr_watch)WR_WATCH_INIT;
	p->ready_tail = &p->ready;
	c->fleet = wr_calloc(1, sizeof(*c->fleet));
	c->fleet->c = c;
	c->fleet->peers = p;
	c->fleet->auth = auth;
	return begin(c, err);
}

void
wr_fleet_end(struct wr_control *c)
{
	struct wr_fleetctl *f = c->fleet;

	if (!f)
		return;
	wr_timer_off(&c->loop, &f->peers->tick);
	wr_channel_end(c);
	wr_asks_end(c);
	wr_reserve_end(c);
	if (f->copies)
		wr_copies_end(c);
	if (f->hub)
		wr_hub_end(c);
	wr_leases_end(c);
	wr_inbound_end(c);
	wr_members_end(c);
	wr_peers_store(c, true);
	wr_peers_free(c);
	wr_catalog_close(f->catalog);
	wr_sign_key_fini(&f->hub_key);
	wr_auth_close(f->auth);
	free(f->peers);
	free(f);
	c->fleet = NULL;
}

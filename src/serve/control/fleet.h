/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What control does with other nodes.  All of it hangs at wr_control.fleet, NULL on a host that
 * belongs to no fleet.
 *
 *   fleet.c    its beginning and end: authority, the fleet record, own addresses and certificate
 *   channel.c  the @peer process; peers.c  what is remembered of other nodes
 *   ask.c      messages that go out, their answers
 *   member.c   messages that come in, judged by fleet/rules on this node's own disk
 *   inbound.c  streams that come in: one @receive each
 *   lease_int.h  keepalives of what runs here; freezing
 *   copies_int.h who holds what: the replica table, retries
 *   open.c     how a project comes to run here: raise, fill, start; move
 *   deletion.c projects that are deleted, or come back, by their record
 *   drops.h    copies that come and go: attest.c, drop.c, calls_replica.c
 *   hub_int.h  (hubs) create, raise, settings, reports, certificates
 *   know.h     (hubs) what it must know before it gives names away
 */
#ifndef WR_CONTROL_FLEET_H
#define WR_CONTROL_FLEET_H

#include "fleet/catalog/catalog.h"
#include "fleet/record/msg.h"
#include "host/auth/auth.h"
#include "serve/control/control_int.h"

struct wr_peers;
struct wr_leases;
struct wr_copies;
struct wr_hub;
struct wr_know;
struct wr_reserve;
struct wr_drops;
struct wr_deletions;

struct wr_fleetctl {
	struct wr_control *c;
	struct wr_auth *auth;
	struct wr_catalog *catalog; /* hubs; else NULL */
	struct wr_sign_key hub_key; /* hubs */
	bool amnesia;               /* M5: it answers nothing; why is told */
	struct wr_peers *peers;
	struct wr_leases *leases;
	struct wr_copies *copies;
	struct wr_hub *hub;
	struct wr_know *know; /* hubs; know.h */
	struct wr_reserve *reserve;
	struct wr_drops *drops;
	struct wr_deletions *deletions;
};

/* ---- fleet.c ---- */

/* A host that belongs to no fleet: c->fleet stays NULL, 0. */
int wr_fleet_begin(struct wr_control *c, struct wr_err *err);
void wr_fleet_end(struct wr_control *c);
/* WR_E_UNSUPPORTED: this host belongs to none. */
int wr_fleet_must(const struct wr_control *c, struct wr_err *err);
/* A newer fleet record came: the peer process, fronts and leases learn of it. */
void wr_fleet_changed(struct wr_control *c);
/* Something was answered, or changed on disk: the counter (M5) is to move. Works without a fleet.
 */
void wr_fleet_touch(struct wr_control *c);
/* Was this node set back (M5)? err says so, with what to do. */
bool wr_fleet_set_back(struct wr_control *c, struct wr_err *err);
/* What is known of another node beside the fleet record: is it there, its clock, is it behind. */
void wr_peer_json(struct wr_control *c, json_t *o, const struct wr_node_id *node);
const char *wr_fleet_name(struct wr_control *c, const struct wr_uuid *node); /* "?" if unknown */

/* ---- ask.c ---- */

/* answer NULL: why says what was wrong. ERROR and NACK come as answers. */
typedef void (*wr_ask_fn)(void *ctx, const struct wr_msg *answer, const struct wr_err *why);
/* Ask a node, or ourselves. m: kind and body; taken, left empty. fn is called exactly once, from
 * the loop, never from within; also at the end of control (WR_E_CANCELLED). NULL: nobody wants the
 * answer. Nonces, signatures and
 * their repetition are seen to here. m's request, if it has one, is that of the answer as fn sees
 * it. */
void wr_ask(struct wr_control *c, const struct wr_uuid *to, struct wr_msg *m, uint32_t timeout_ms,
	    wr_ask_fn fn, void *ctx);
/* Forget who asked: fn is not called any more. */
void wr_ask_forget(struct wr_control *c, const void *ctx);

/* ---- member.c ---- */

/* A message that came in. q is valid until it is answered. */
struct wr_asked {
	struct wr_control *c;
	struct wr_msg q;
	void *back; /* ask.c's */
};
/* Exactly once per message; a is taken, left empty. */
void wr_asked_answer(struct wr_asked *k, struct wr_msg *a);
void wr_asked_fail(struct wr_asked *k, const struct wr_err *err);
/* Did this very process ask? */
bool wr_asked_here(const struct wr_asked *k);
/* Judge and answer, now or later. */
void wr_asked_serve(struct wr_asked *k);
/* A message refused: an event within bounds. */
void wr_peer_refused(struct wr_control *c, const struct wr_msg *q, const struct wr_err *why);

/* ---- hub.c ---- */

int wr_hub_begin(struct wr_control *c, struct wr_err *err);
void wr_hub_end(struct wr_control *c);
/* CREATE, RAISE, SETTINGS, REPORT, CERT. */
void wr_hub_serve(struct wr_asked *k);
/* The hub to ask: ourselves if we are one, else the one that answered last. */
const struct wr_uuid *wr_hub_pick(struct wr_control *c);

/* ---- open.c, copies (copies_int.h), leases (lease_int.h) ---- */

/* The record of a project as this node knows it; false: none (no fleet, or unknown here). */
bool wr_fleet_record(struct wr_control *c, const struct wr_uuid *project, struct wr_record *out);
bool wr_fleet_is_writer(struct wr_control *c, const struct wr_uuid *project);
/* The answers' members: epoch, writer, version, safe, replicas. */
void wr_fleet_json(struct wr_control *c, json_t *o, const struct wr_proj_row *r, enum wr_item how);
/* What there is of a project beside its history. */
struct wr_beside {
	size_t sides;   /* side branches that its newest save names */
	char side[256]; /* one of them */
	int64_t latest; /* a node has the newest state of then, and its history not yet; 0: none */
	char latest_on[64];
};
void wr_copies_beside(struct wr_control *c, const struct wr_proj_row *r, struct wr_beside *out);
/* What an operation's receipt says of its targets. */
void wr_copies_took(struct wr_control *c, const struct wr_uuid *project, const json_t *receipt);
/* Something of the project changed on this node's disk beside an operation: row and lists follow.
 */
void wr_fleet_learn(struct wr_control *c, const struct wr_uuid *project);
void wr_copies_begin(struct wr_control *c);
void wr_copies_end(struct wr_control *c);
void wr_leases_begin(struct wr_control *c);
void wr_leases_end(struct wr_control *c);
/* May its processes run here now? The only voter always may. */
bool wr_lease_may_run(struct wr_control *c, const struct wr_uuid *project);
/* Are its processes frozen? *out_why ("lost its replicas 40 s ago") is borrowed. */
bool wr_lease_frozen(struct wr_control *c, const struct wr_uuid *project, int64_t *out_since,
		     const char **out_why);

/* Make this node the writer with the newest files (raise, fill), then call fn from the loop: an
 * operation may be submitted if why is NULL. */
typedef void (*wr_open_fn)(void *ctx, const struct wr_err *why);
/* Member "frozen": {since, why} or null. */
void wr_lease_json(struct wr_control *c, json_t *o, const struct wr_uuid *project);
/* Before a start: one good round of keepalives, 5 s at most; fn from the loop, why NULL: it may
 * run. Not called at the end of control. */
void wr_lease_want(struct wr_control *c, const struct wr_uuid *project, wr_open_fn fn, void *ctx);
void wr_open_here(struct wr_control *c, const struct wr_uuid *project, bool accept_loss,
		  wr_open_fn fn, void *ctx);

/* Do most nodes of the fleet, this one among them, tell the same time, as they said since then? */
bool wr_peers_clocks_agree(struct wr_control *c, uint64_t since_ns);

#endif

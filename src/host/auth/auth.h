/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node's authority on its own disk: who it is, the fleet as it knows it, and per project what it
 * promised and accepted.  Root's alone; used by control and by operations.
 *
 *   STATE/fleet.bin          the newest fleet record          STATE/fleet.lock     flock: take one
 *   STATE/tls/node.key       PEM, of the certificate          STATE/tls/node.crt   DER
 *   STATE/tls/sign.key       32 bytes: the node's signing key STATE/tls/lock       flock: make keys
 *   STATE/control/ID.auth    struct wr_member_state (fleet/rules/member.h)
 *   STATE/control/ID.lock    flock: read, judge, write
 *   STATE/hub/               only on hubs: ca/current.key, ca/next.key (fleet/trust), keys/1,
 * keys/2 (32 bytes), catalog.db, recovery.key (text) until it is moved away
 */
#ifndef WR_AUTH_H
#define WR_AUTH_H

#include "base/ts.h"
#include "fleet/record/msg.h"
#include "fleet/rules/member.h"
#include "host/node/node.h"

struct wr_auth {
	struct wr_node *node; /* borrowed */
	struct wr_node_id self;
	struct wr_fleet fleet;
	struct wr_sign_key key;
	uint64_t counter; /* as in node.json */
	uint64_t nonce;   /* of this process, for envelopes */
	struct {
		uint64_t ino;
		struct wr_ts when;
	} seen; /* fleet.bin as it was read; refresh's own */
};
/* WR_E_NOT_FOUND (hint) where this host belongs to no fleet; WR_E_CORRUPT, WR_E_DENIED as the files
 * say. */
int wr_auth_open(struct wr_node *n, struct wr_auth **out, struct wr_err *err);
void wr_auth_close(struct wr_auth *a); /* NULL is fine */
/* Read fleet.bin again if it is newer than what is held: true if it was. */
bool wr_auth_refresh(struct wr_auth *a);
/* Take a newer fleet record (verified by the one held), durably. *out_newer may be NULL. */
int wr_auth_fleet_put(struct wr_auth *a, const void *p, size_t len, bool *out_newer,
		      struct wr_err *err);
/* M5: was this node set back (restored from an image)? The mark is control's; as long as it is
 * there nothing here may be believed. */
#define WR_AUTH_BEHIND "behind.json"
bool wr_auth_set_back(const struct wr_auth *a);
/* counter + 1, durably (node.json). */
int wr_auth_count(struct wr_auth *a, struct wr_err *err);
const struct wr_fleet_node *wr_auth_own(const struct wr_auth *a); /* NULL: not in the record */

/* ---- a project ---- */

/* Waits (holders only read, judge and write, and a slow disk is no reason to fail: 10 s at most).
 */
int wr_auth_lock(struct wr_auth *a, const struct wr_uuid *project, struct wr_lock *out,
		 struct wr_err *err);
/* Does not wait: WR_E_BUSY. */
int wr_auth_lock_now(struct wr_auth *a, const struct wr_uuid *project, struct wr_lock *out,
		     struct wr_err *err);
/* WR_E_NOT_FOUND: nothing is known of it here; *out is empty then. WR_E_CORRUPT must not be guessed
 * around. Reading needs no lock: the file is replaced whole. */
int wr_auth_load(struct wr_auth *a, const struct wr_uuid *project, struct wr_member_state *out,
		 struct wr_err *err);
/* Is its file gone (M5)? There is none, but what lies beside the repository names this node among
 * others. Alone it may begin anew: nobody counts on what it promised. */
bool wr_auth_forgot(const struct wr_auth *a, const struct wr_uuid *project);
/* Durable when it returns. Under the lock. Also writes conf/replicas.json, the readable copy of the
 * record, where the repository is there (best effort). */
int wr_auth_store(struct wr_auth *a, const struct wr_uuid *project, const struct wr_member_state *s,
		  struct wr_err *err);
/* Every project of which something is known here. Nonzero of fn ends it with that value. */
typedef int (*wr_auth_fn)(void *ctx, const struct wr_uuid *project, struct wr_err *err);
int wr_auth_each(struct wr_auth *a, wr_auth_fn fn, void *ctx, struct wr_err *err);

/* ---- messages ---- */

/* A new envelope from here; its request is one more than that of the one before. */
void wr_auth_msg(const struct wr_auth *a, struct wr_msg *m, const struct wr_uuid *to,
		 uint64_t to_nonce, enum wr_msg_kind kind);
int wr_auth_seal(const struct wr_auth *a, const struct wr_msg *m, struct wr_buf *out,
		 struct wr_err *err);
/* Decode and judge the envelope: signature, for us, sender in the fleet and not removed. Nonce and
 * counter are the caller's. */
int wr_auth_open_msg(const struct wr_auth *a, const void *p, size_t len, struct wr_msg *out,
		     struct wr_err *err);

/* ---- on a hub ---- */

struct wr_ca;
bool wr_auth_is_hub(const struct wr_auth *a); /* it has STATE/hub */
/* The CA in use; wr_ca_free. */
int wr_auth_hub_ca(const struct wr_auth *a, struct wr_ca **out, struct wr_err *err);
/* The first key of hub/keys/ that the fleet record names. */
int wr_auth_hub_key(const struct wr_auth *a, struct wr_sign_key *out, struct wr_err *err);
/* The offline key, as `recovery.key` holds it, at path. */
int wr_auth_recovery_load(const char *path, struct wr_sign_key *out, struct wr_err *err);

/* ---- beginnings (found.c, join.c) ---- */

/* A new fleet with this node, named in node.json, as its first member and hub: CA and planned CA,
 * hub keys, recovery key, the node's keys and certificate, fleet record 1. Called by wr_node_init's
 * callers; a run that was cut off can be repeated. WR_E_EXISTS: it belongs to one already. receipt:
 * new reference, warren.found/1 {fleet, ca_fingerprint, recovery_key (path; to be moved away)}; may
 * be NULL. */
int wr_auth_found(struct wr_node *n, json_t **out_receipt, struct wr_err *err);
/* The keys of a host that joins: made (or found), their public halves; appends to *out_spki. */
int wr_auth_keys(struct wr_node *n, struct wr_buf *out_spki, struct wr_pub *out_sign,
		 struct wr_err *err);
/* What the hub answered: certificate and fleet record, durably; node.json gets fleet and
 * incarnation. They are held against each other and against the keys here (WR_E_DENIED), and
 * against an older fleet record; that it is the right fleet was told by the join token, to the
 * caller. */
int wr_auth_join(struct wr_node *n, uint32_t inc, const struct wr_buf *cert_der,
		 const struct wr_buf *fleet, struct wr_err *err);

/* A renewed certificate for the key here, checked and durably. */
int wr_auth_cert_put(struct wr_auth *a, const void *der, size_t len, struct wr_err *err);

#endif

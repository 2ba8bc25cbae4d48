/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What nodes and hubs sign and keep: epochs, versions, the record of an epoch (E), the record of a
 * save (S), a project's settings, the fleet record.  One fixed binary layout each
 * (doc/format/records.md, with test vectors); all numbers big endian.  Pure.
 *
 * A decoder checks form and bounds and gives WR_E_INVALID naming the field; it does not judge
 * signatures: wr_*_verify does, with the keys of a fleet record.  A value has one encoding.  The
 * wr_*_sign refuse what a decoder would refuse.
 */
#ifndef WR_RECORD_H
#define WR_RECORD_H

#include "base/buf.h"
#include "model/uuid.h"

/* ---- keys: Ed25519 (RFC 8032), through libcrypto ---- */

#define WR_SIG_LEN 64
#define WR_PUB_LEN 32
#define WR_SHA256_LEN 32

struct wr_pub {
	uint8_t b[WR_PUB_LEN];
};
struct wr_sig {
	uint8_t b[WR_SIG_LEN];
};
struct wr_digest {
	uint8_t b[WR_SHA256_LEN];
};
struct wr_sign_key {
	uint8_t seed[32]; /* wiped by fini */
	struct wr_pub pub;
};
int wr_sign_key_new(struct wr_sign_key *out, struct wr_err *err);
/* From its 32 bytes, as they lie in a key file. */
int wr_sign_key_of(const uint8_t seed[32], struct wr_sign_key *out, struct wr_err *err);
void wr_sign_key_fini(struct wr_sign_key *k); /* harmless twice */
/* domain: what kind of thing is signed ("warren record 1"), signed along, so that no signature of
 * one kind is one of another. */
int wr_sign(const struct wr_sign_key *k, const char *domain, const void *p, size_t len,
	    struct wr_sig *out, struct wr_err *err);
bool wr_sign_ok(const struct wr_pub *pub, const char *domain, const void *p, size_t len,
		const struct wr_sig *sig);
struct wr_digest wr_digest_of(const void *p, size_t len); /* SHA-256 */
/* "xxxxxxxx", the first 8 hex digits of its digest, for people. */
struct wr_pub_text {
	char s[9];
};
struct wr_pub_text wr_pub_short(const struct wr_pub *pub);

/* ---- epochs and versions ---- */

/* n: users see the number; 64 random bits behind it, so that no two hubs ever issue the same.
 * number 0: none. Ordered as a pair. */
struct wr_epoch {
	uint64_t number, random;
};
int wr_epoch_cmp(const struct wr_epoch *a, const struct wr_epoch *b);
bool wr_epoch_none(const struct wr_epoch *e);
/* v = (n, s): the s-th save of epoch n; (n, 0) = opened. */
struct wr_version {
	struct wr_epoch n;
	uint64_t s;
};
int wr_version_cmp(const struct wr_version *a, const struct wr_version *b);
/* "7.12": for people and for names of side branches. */
struct wr_version_text {
	char s[44];
};
struct wr_version_text wr_version_text(const struct wr_version *v);

/* ---- who ---- */

struct wr_node_id {
	struct wr_uuid id;
	uint32_t inc; /* incarnation, from 1 */
};
bool wr_node_id_eq(const struct wr_node_id *a, const struct wr_node_id *b);

enum wr_role { WR_ROLE_DATA = 1, WR_ROLE_WITNESS, WR_ROLE_LEARNER };
const char *wr_role_name(enum wr_role role); /* data, witness, learner */
struct wr_member {
	struct wr_node_id node;
	enum wr_role role;
};
/* LIMITs */
#define WR_MEMBERS_MAX 9
#define WR_SAVE_REFS_MAX 4096
#define WR_NODES_MAX 4096
#define WR_HUB_KEYS_MAX 8
#define WR_RECORD_BYTES (16u << 10)
#define WR_SAVE_BYTES (512u << 10)
#define WR_FLEET_BYTES (4u << 20)
#define WR_SETTINGS_DOC_BYTES (64u << 10)

/* ---- E ---- */

enum wr_record_state { WR_RECORD_LIVE = 1, WR_RECORD_DELETED };
struct wr_record {
	struct wr_uuid project;
	struct wr_epoch n, prev;                 /* prev none: the project's first */
	struct wr_member member[WR_MEMBERS_MAX]; /* distinct nodes; decoded ones ascend by id */
	size_t member_count;
	struct wr_node_id writer;   /* a data member */
	struct wr_version base;     /* number 0 in a first record */
	struct wr_digest base_refs; /* of the ref list of base; zero in a first record */
	enum wr_record_state state;
	uint64_t settings_rev;
	bool has_consent;
	struct wr_node_id consent; /* the writer who consented to this raise */
	bool accept_loss, forced;
	int64_t at;        /* for people; seconds */
	struct wr_pub hub; /* which hub key signed */
	struct wr_sig sig;
};
/* Appends all, the signature last; members in order. */
void wr_record_encode(const struct wr_record *r, struct wr_buf *out);
int wr_record_decode(const void *p, size_t len, struct wr_record *out, struct wr_err *err);
int wr_record_sign(struct wr_record *r, const struct wr_sign_key *hub, struct wr_err *err);
const struct wr_member *wr_record_member(const struct wr_record *r, const struct wr_uuid *node);
/* As wr_record_member, but only that incarnation. */
const struct wr_member *wr_record_has(const struct wr_record *r, const struct wr_node_id *node);
size_t wr_record_voters(const struct wr_record *r);   /* data and witness */
size_t wr_record_majority(const struct wr_record *r); /* voters / 2 + 1 */

/* ---- S ---- */

struct wr_save_ref {
	char *name;     /* refs/heads/main; owned */
	uint8_t id[20]; /* of a commit or tag object */
};
struct wr_save_rec {
	struct wr_uuid project;
	struct wr_version v;
	struct wr_save_ref *ref; /* ascending by name */
	size_t ref_count;
	int64_t scan_started; /* seconds; 0: none (an opening) */
	uint32_t scan_ns;
	uint64_t settings_rev;
	struct wr_node_id writer;
	struct wr_sig sig; /* by the writer's signing key */
};
#define WR_SAVE_REC_INIT \
	{                \
		0        \
	}
void wr_save_rec_fini(struct wr_save_rec *s); /* harmless twice */
void wr_save_rec_encode(const struct wr_save_rec *s, struct wr_buf *out);
int wr_save_rec_decode(const void *p, size_t len, struct wr_save_rec *out, struct wr_err *err);
int wr_save_rec_sign(struct wr_save_rec *s, const struct wr_sign_key *node, struct wr_err *err);
/* Of the ref list alone: what base_refs holds. */
struct wr_digest wr_save_refs_digest(const struct wr_save_rec *s);

/* ---- settings of a project, as a hub signed them ---- */

struct wr_settings_doc {
	struct wr_uuid project;
	uint64_t rev;
	char *json; /* as conf/settings.json (without epoch); owned */
	struct wr_pub hub;
	struct wr_sig sig;
};
void wr_settings_doc_fini(struct wr_settings_doc *d);
void wr_settings_doc_encode(const struct wr_settings_doc *d, struct wr_buf *out);
int wr_settings_doc_decode(const void *p, size_t len, struct wr_settings_doc *out,
			   struct wr_err *err);
int wr_settings_doc_sign(struct wr_settings_doc *d, const struct wr_sign_key *hub,
			 struct wr_err *err);

/* ---- the right to go on, signed by a writer ---- */

enum wr_grant_kind { WR_GRANT_RELEASE = 1, WR_GRANT_CONSENT };
struct wr_grant {
	enum wr_grant_kind kind;
	struct wr_uuid project;
	struct wr_epoch n;    /* of the record under which it is writer */
	struct wr_epoch next; /* CONSENT: the raise it consents to; RELEASE: none */
	struct wr_node_id writer;
	struct wr_sig sig;
};
void wr_grant_encode(const struct wr_grant *g, struct wr_buf *out);
int wr_grant_decode(const void *p, size_t len, struct wr_grant *out, struct wr_err *err);
int wr_grant_sign(struct wr_grant *g, const struct wr_sign_key *node, struct wr_err *err);

/* ---- the fleet ---- */

enum wr_fleet_flag {
	WR_FLEET_DRAINING = 1,
	WR_FLEET_EXPERIMENTAL = 2,
	WR_FLEET_REMOVED = 4,
	WR_FLEET_HUB = 8,
};
#define WR_FLEET_NAMES 512 /* LIMIT, with its NUL */
struct wr_fleet_node {
	struct wr_node_id node;
	char name[64], dc[64];
	char peer[256]; /* HOST:PORT or [V6]:PORT of its peer listener; "": nobody can reach it */
	char api[256];  /* likewise, of its HTTPS API */
	char names[WR_FLEET_NAMES]; /* hosts that may stand in its certificate, commas between */
	struct wr_pub pub;          /* its signing key */
	uint32_t weight;            /* 100 = usual */
	unsigned flags;
};
struct wr_fleet {
	struct wr_uuid id;
	uint64_t seq;
	int64_t at;
	/* Ascending by id, then incarnation. An older incarnation may stay, removed, so that what
	 * it signed can still be judged: a hub that lets a node rejoin keeps it. */
	struct wr_fleet_node *node;
	size_t node_count;
	struct wr_pub hub[WR_HUB_KEYS_MAX]; /* keys that may sign; the first ones are in use */
	size_t hub_count;
	struct wr_pub recovery; /* the offline key: forced records; zeros: none */
	uint8_t *ca[2];         /* certificates, DER; the one in use, the planned one; owned */
	size_t ca_len[2];
	uint32_t replicas; /* policy: copies of a new project */
	struct wr_pub signer;
	struct wr_sig sig;
};
void wr_fleet_fini(struct wr_fleet *f);
/* to is overwritten. */
void wr_fleet_copy(struct wr_fleet *to, const struct wr_fleet *from);
void wr_fleet_encode(const struct wr_fleet *f, struct wr_buf *out);
int wr_fleet_decode(const void *p, size_t len, struct wr_fleet *out, struct wr_err *err);
int wr_fleet_sign(struct wr_fleet *f, const struct wr_sign_key *hub, struct wr_err *err);
/* Its newest incarnation. */
const struct wr_fleet_node *wr_fleet_find(const struct wr_fleet *f, const struct wr_uuid *id);
/* Exactly that incarnation. */
const struct wr_fleet_node *wr_fleet_has(const struct wr_fleet *f, const struct wr_node_id *node);
/* Names are distinct among those not removed; a removed node is found if no other has the name. */
const struct wr_fleet_node *wr_fleet_by_name(const struct wr_fleet *f, const char *name);
bool wr_fleet_hub_key(const struct wr_fleet *f, const struct wr_pub *k); /* one of its hub keys? */

/* ---- judging signatures with what a fleet record says: WR_E_DENIED says whose is missing ---- */

/* By a hub key of the fleet, or, a forced one, by the recovery key. */
int wr_record_verify(const struct wr_record *r, const struct wr_fleet *f, struct wr_err *err);
int wr_settings_doc_verify(const struct wr_settings_doc *d, const struct wr_fleet *f,
			   struct wr_err *err);
/* By the node it names, in exactly that incarnation. A removed node's old saves stay good: removal
 * is about what it may do from now on. */
int wr_save_rec_verify(const struct wr_save_rec *s, const struct wr_fleet *f, struct wr_err *err);
/* As that, but not by a node that was removed. */
int wr_grant_verify(const struct wr_grant *g, const struct wr_fleet *f, struct wr_err *err);
/* A newer one, judged by the one we have: same fleet, larger seq, signed by a key that we have as a
 * hub key or as recovery. have NULL: by its own keys; only where something else, such as a join
 * token, told that it is the right fleet. */
int wr_fleet_verify(const struct wr_fleet *next, const struct wr_fleet *have, struct wr_err *err);

#endif

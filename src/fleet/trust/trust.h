/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who belongs to a fleet: its certificate authority (CA), the certificates of its nodes, the keys
 * of their TLS connections, join tokens.  X.509 and ECDSA P-256 through libcrypto.  The keys that
 * sign records are others (fleet/record): a stolen TLS key lets nobody forge a message.
 *
 * A node's certificate says who it is in one URI, warren:FLEET/NODE/INCARNATION; a CA's says
 * warren:FLEET.  Certificates travel and are kept as DER, keys as PEM.
 */
#ifndef WR_TRUST_H
#define WR_TRUST_H

#include "base/buf.h"
#include "fleet/record/record.h"

/* Bytes of someone else. */
struct wr_der {
	const void *p;
	size_t len;
};

/* LIMITs */
#define WR_CERT_BYTES 8192
#define WR_CERT_NAMES 32
#define WR_TLS_KEY_BYTES 4096
#define WR_CERT_DAYS 400
#define WR_CA_DAYS 3650
/* A certificate is valid from so much before it was made: clocks of hosts differ a little. */
#define WR_CERT_SLACK_S 3600

/* Overwrite, then release. Harmless twice. */
void wr_secret_fini(struct wr_buf *b);

/* ---- the CA ---- */

struct wr_ca;
/*
 * Make a CA (key, self-signed certificate, from now on for ten years) and keep both durably in
 * dirfd/NAME.key (0600): two PEM blocks in one file, so that there is never one without the other.
 * WR_E_EXISTS if the file is there. The caller keeps its directory closed to others (0700).
 */
int wr_ca_new(int dirfd, const char *name, const struct wr_uuid *fleet, struct wr_err *err);
/* WR_E_NOT_FOUND, WR_E_CORRUPT. The caller frees. */
int wr_ca_load(int dirfd, const char *name, struct wr_ca **out, struct wr_err *err);
void wr_ca_free(struct wr_ca *ca);
/* Its certificate; borrowed. */
struct wr_der wr_ca_cert(const struct wr_ca *ca);

/* ---- keys of TLS connections ---- */

/* A new P-256 key as PEM (PKCS#8). */
int wr_tls_key_make(struct wr_buf *out_pem, struct wr_err *err);
/* The same, kept durably in dirfd/NAME (0600), which is replaced. out_pem may be NULL. */
int wr_tls_key_new(int dirfd, const char *name, struct wr_buf *out_pem, struct wr_err *err);
int wr_tls_key_load(int dirfd, const char *name, struct wr_buf *out_pem, struct wr_err *err);
/* Its public half: SubjectPublicKeyInfo, DER. What is sent to a hub to be certified. */
int wr_tls_key_spki(struct wr_der pem, struct wr_buf *out_spki, struct wr_err *err);

/* ---- certificates ---- */

struct wr_cert_ask {
	struct wr_uuid fleet;
	struct wr_node_id node;
	struct wr_der spki;      /* from outside: refused unless a P-256 key */
	const char *const *name; /* DNS names and IP addresses of its listeners, without ports */
	size_t name_count;       /* may be 0: a node that nobody opens a browser at */
	int64_t now;             /* valid from slack_s before */
	uint32_t slack_s;
	uint32_t days; /* but never longer than the CA */
};
#define WR_CERT_ASK_INIT                                         \
	{                                                        \
		.slack_s = WR_CERT_SLACK_S, .days = WR_CERT_DAYS \
	}
/* Appends to *out. WR_E_INVALID for a bad key or name. */
int wr_cert_issue(const struct wr_ca *ca, const struct wr_cert_ask *ask, struct wr_buf *out,
		  struct wr_err *err);

struct wr_cert_info {
	bool ca;
	struct wr_uuid fleet;
	struct wr_node_id node; /* of a CA: empty */
	int64_t not_before, not_after;
	struct wr_digest print;     /* SHA-256 of the whole certificate */
	char names[WR_FLEET_NAMES]; /* as a fleet record has them; those that have room */
};
/* What it says; believes it. WR_E_INVALID unless it is one of ours. */
int wr_cert_info(struct wr_der cert, struct wr_cert_info *out, struct wr_err *err);
/* Signed by one of the CAs, in force now, of a node? For what comes from a hub, before it is kept.
 * WR_E_DENIED. */
int wr_cert_verify(struct wr_der cert, const struct wr_der *ca, size_t ca_count,
		   struct wr_err *err);
/* Is it for this key? WR_E_INVALID. */
int wr_cert_fits(struct wr_der cert, struct wr_der key_pem, struct wr_err *err);
/* From a quarter of its life on: day 100 of 400. */
bool wr_cert_renew_due(const struct wr_cert_info *c, int64_t now);
/* "AB:CD:...": a fingerprint for people. */
struct wr_print_text {
	char s[96];
};
struct wr_print_text wr_print_text(const struct wr_digest *print);
/* The CAs of a fleet record, the one in use first; borrowed from it. Gives the count. */
size_t wr_fleet_cas(const struct wr_fleet *f, struct wr_der out[2]);

/* ---- expired, or a wrong clock? ---- */

/* What is known when a connection failed because of a certificate. */
struct wr_cert_case {
	int64_t now;                    /* this host's clock */
	const char *peer;               /* how to call the other one: name or address */
	const struct wr_cert_info *own; /* NULL: we have none */
	const struct wr_cert_info *its; /* NULL: not seen */
	int64_t fleet_at;               /* our newest fleet record was signed then; 0: none */
	bool clock_known;
	int64_t its_now; /* the other one's clock, if known */
	/* It refused ours, and said so: */
	bool it_says_expired, it_says_bad; /* bad: among other things "not valid yet" */
};
/* If the dates say why: true, with *err replaced by that (WR_E_DENIED) and what to do about it.
 * Otherwise false, and *err stays. */
bool wr_cert_explain(const struct wr_cert_case *c, struct wr_err *err);

/* ---- join tokens ---- */

/*
 * "wrj_" and 64 characters of base64url: 32 random bytes which the hub knows by their hash only,
 * and the first 16 bytes of the fingerprint of the CA that the joining host has to meet before it
 * says any of them.
 */
#define WR_JOIN_SECRET_LEN 32
#define WR_JOIN_PRINT_LEN 16
struct wr_join_token {
	uint8_t secret[WR_JOIN_SECRET_LEN];
	uint8_t ca_print[WR_JOIN_PRINT_LEN];
};
struct wr_join_text {
	char s[72];
};
void wr_join_token_new(struct wr_der ca, struct wr_join_token *out);
void wr_join_token_fini(struct wr_join_token *t); /* overwrites */
struct wr_join_text wr_join_token_text(const struct wr_join_token *t);
int wr_join_token_parse(const char *s, struct wr_join_token *out, struct wr_err *err);
/* Is that the CA it names? */
bool wr_join_token_ca_ok(const struct wr_join_token *t, struct wr_der ca);
/* What the catalog keeps of it. */
struct wr_digest wr_join_token_hash(const struct wr_join_token *t);

#endif

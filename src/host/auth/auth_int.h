/* SPDX-License-Identifier: Apache-2.0 */
/* Shared within the folder: names below STATE, files that are read with bounds and without
 * following links. */
#ifndef WR_AUTH_INT_H
#define WR_AUTH_INT_H

#include "host/auth/auth.h"

#define WR_FLEET_FILE "fleet.bin"
#define WR_CERT_FILE "tls/node.crt"
#define WR_TLS_KEY_FILE "tls/node.key"
#define WR_SIGN_KEY_FILE "tls/sign.key"
#define WR_HUB_CA "hub/ca" /* current.key, next.key */
#define WR_HUB_KEYS "hub/keys"
#define WR_RECOVERY_FILE "hub/recovery.key"

enum wr_secrecy { WR_OPEN_FILE, WR_SECRET_FILE };
/* Append dirfd/name, a regular file of at most max bytes. WR_E_NOT_FOUND, WR_E_CORRUPT; a secret
 * that others may read is WR_E_DENIED. out_ino, out_when: which file it was; may be NULL. */
int wr_auth_read(int dirfd, const char *name, size_t max, enum wr_secrecy secrecy,
		 struct wr_buf *out, uint64_t *out_ino, struct wr_ts *out_when, struct wr_err *err);
/* 32 bytes at dirfd/name. WR_E_NOT_FOUND, WR_E_CORRUPT. */
int wr_auth_key_load(int dirfd, const char *name, struct wr_sign_key *out, struct wr_err *err);

/* ---- keys.c ---- */

/* Of a hub: the one that is used, the spare one. */
#define WR_HUB_KEY_FILES 2
extern const char *const wr_hub_key_files[WR_HUB_KEY_FILES];

/* Made, closed to others, or found. */
int wr_auth_dir(int dirfd, const char *name, struct wr_err *err);
/* One process at a time makes keys; makes STATE/tls. */
int wr_auth_keys_lock(struct wr_node *n, struct wr_lock *out, struct wr_err *err);
int wr_auth_sign_key_need(int dirfd, const char *name, struct wr_sign_key *out, struct wr_err *err);

/* The keys of the node itself. */
struct wr_own_keys {
	struct wr_buf pem, spki;
	struct wr_sign_key sign;
};
void wr_own_keys_fini(struct wr_own_keys *o);
int wr_own_keys_need(struct wr_node *n, struct wr_own_keys *out, struct wr_err *err);

/* ---- auth.c ---- */

/* STATE/fleet.bin of this node's fleet, by its own signature. WR_E_NOT_FOUND: there is none. */
int wr_auth_fleet_load(const struct wr_node *n, struct wr_fleet *out, uint64_t *out_ino,
		       struct wr_ts *out_when, struct wr_err *err);
/* Who replaces it. */
int wr_auth_fleet_lock(struct wr_node *n, struct wr_lock *out, struct wr_err *err);

#endif

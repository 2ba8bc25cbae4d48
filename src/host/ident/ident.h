/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who a project is on this host: where its uid comes from, which numbers belong to others, and how
 * the host knows its name while it is active.
 *
 * Drivers of identity (model/settings.h):
 *   range    the next free of [node] uid_range that is nobody's (wr_ident_next)
 *   nss      an account of the host: looked up when the project is created, compared at each start
 *   fixed    given by who creates; may be shared
 *   derived  SHA-512 of the project's id, as the program before this one did it
 *
 * Drivers of accounts, [identity] accounts:
 *   userdb   records in /run/userdb, from start to stop: libnss-systemd shows them to all
 *   passwd   lines in /etc/passwd and /etc/group, from the first start until the project is deleted
 *   none     a number has no name
 * Only a project that has its uid for itself gets one.  What is not ours is never changed: a userdb
 * record is ours by its member org.warren.node, a line of passwd by what stands for the password.
 */
#ifndef WR_IDENT_H
#define WR_IDENT_H

#include "host/node/node.h"

/* ---- numbers that belong to others (range.c) ---- */

struct wr_ident_range {
	uint32_t first, last;
	char whose[96]; /* "alice in /etc/subuid" */
};
struct wr_ident_taken {
	struct wr_ident_range *range;
	size_t count;
};
void wr_ident_taken_fini(struct wr_ident_taken *t); /* harmless twice */
/* What no project gets: subordinate ids as /etc/subuid and /etc/subgid give them away now,
 * systemd's dynamic users, nobody, (uint16_t)-1. Files that are not there give nothing away. */
int wr_ident_taken_load(const struct wr_node *n, struct wr_ident_taken *out, struct wr_err *err);
/* The first of them that has a number of first..last; NULL: none. Borrowed. */
const struct wr_ident_range *wr_ident_taken_find(const struct wr_ident_taken *t, uint32_t first,
						 uint32_t last);
/* Numbers that others may take by themselves, so a range should stay out of them; never refused,
 * for an operator may know better: systemd's containers, and sssd's mapped ids where it is
 * configured. */
int wr_ident_doubtful_load(const struct wr_node *n, struct wr_ident_taken *out, struct wr_err *err);

/* The next free number that whoever keeps the index knows of: first..last, or WR_E_LIMIT. */
typedef int (*wr_ident_free_fn)(void *ctx, uint32_t first, uint32_t last, uint32_t *out,
				struct wr_err *err);
/* The next of uid_range that is free for fn, not taken, and that no name service knows. */
int wr_ident_next(const struct wr_node *n, wr_ident_free_fn fn, void *ctx, uint32_t *out,
		  struct wr_err *err);

/* ---- other drivers (ident.c) ---- */

/* The first 8 hex digits of the SHA-512 of the id, halved, 65537 added to what is not above that.
 */
uint32_t wr_ident_derived(const struct wr_uuid *id);
/* The id without dashes. */
struct wr_ident_account {
	char s[33];
};
struct wr_ident_account wr_ident_derived_account(const struct wr_uuid *id);
/* WR_E_NOT_FOUND: there is no such account; WR_E_BUSY: the name service does not say. */
int wr_ident_look_up(const char *account, uint32_t *out_uid, uint32_t *out_gid, struct wr_err *err);
/* Before a start of a project with driver nss: WR_E_DENIED where the account has other numbers or
 * is gone. Where the name service fails it goes by what is stored, and *out_doubt (caller frees)
 * says so; else it is NULL. */
int wr_ident_check(const struct wr_settings *s, char **out_doubt, struct wr_err *err);

/* ---- accounts (account.c, userdb.c, passwd.c) ---- */

enum wr_accounts { WR_ACCOUNTS_NONE, WR_ACCOUNTS_USERDB, WR_ACCOUNTS_PASSWD };
/* What the configuration means here: auto is userdb where libnss-systemd is asked for users and the
 * records lie in the system's place, else none. Rootless none. */
enum wr_accounts wr_accounts_driver(const struct wr_node *n);
const char *wr_accounts_name(enum wr_accounts a);
/* The name that the host knows the project by: its account or its own. Borrowed. */
const char *wr_account_of(const struct wr_settings *s);
/* Make it known; again is fine, and mends. *out_made false: it gets none (driver none, a shared
 * uid, an account of the host). WR_E_EXISTS: name or number are somebody else's. */
int wr_account_make(const struct wr_node *n, const struct wr_settings *s, bool *out_made,
		    struct wr_err *err);
/* It is inactive, or deleted: what the driver keeps no longer goes, and what other drivers left. */
int wr_account_drop(const struct wr_node *n, const struct wr_settings *s, bool deleted,
		    struct wr_err *err);
/* As after a reboot or a crash: userdb's records of this node's projects go, but those of active
 * ones. */
int wr_accounts_sweep(const struct wr_node *n,
		      bool (*active)(void *ctx, const struct wr_uuid *project), void *ctx,
		      struct wr_err *err);

#endif

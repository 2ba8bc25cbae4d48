/* SPDX-License-Identifier: Apache-2.0 */
/* What the files here share. */
#ifndef WR_IDENT_INT_H
#define WR_IDENT_INT_H

#include "host/ident/ident.h"

/* Directory of subuid, subgid and sssd: [identity] etc, else the system's. */
const char *wr_ident_etc(const struct wr_node *n);

/* As the project's processes see it. Borrowed. */
const char *wr_ident_shell(const struct wr_settings *s);

/* userdb.c. WR_E_NOT_FOUND of the directory is fine for drop and sweep. */
int wr_userdb_make(const struct wr_node *n, const struct wr_settings *s, struct wr_err *err);
int wr_userdb_drop(const struct wr_node *n, const struct wr_settings *s, struct wr_err *err);
int wr_userdb_sweep(const struct wr_node *n,
		    bool (*active)(void *ctx, const struct wr_uuid *project), void *ctx,
		    struct wr_err *err);

/* passwd.c */
int wr_passwd_make(const struct wr_node *n, const struct wr_settings *s, struct wr_err *err);
int wr_passwd_drop(const struct wr_node *n, const struct wr_uuid *project, struct wr_err *err);

#endif

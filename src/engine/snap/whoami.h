/* SPDX-License-Identifier: Apache-2.0 */
/* Who acts, for commits and reflogs: "NAME <LOGIN@HOST>" as bup forms it, made fit by wr_ident. */
#ifndef WR_WHOAMI_H
#define WR_WHOAMI_H

/* The caller frees it. A user without a name gets one; it never fails. */
char *wr_whoami(void);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Ids and names of projects, nodes, volumes, operations. Pure but for wr_uuid_new. */
#ifndef WR_UUID_H
#define WR_UUID_H

#include "base/err.h"

/* A UUID v4 (RFC 9562) in canonical lower case, NUL-terminated. */
struct wr_uuid {
	char s[37];
};
void wr_uuid_new(struct wr_uuid *out); /* from getrandom(2) */
/* Exactly the canonical form, lower case, version 4. false otherwise. */
bool wr_uuid_parse(const char *s, struct wr_uuid *out);

/* [a-z_][a-z0-9_.@+-]{0,62}, and not hex digits only or otherwise as an id begins ("deadbeef-c"):
 * it would be taken for an id. WR_E_INVALID says which rule is broken. */
int wr_name_check(const char *s, struct wr_err *err);
/* A label's key: [a-z0-9][a-z0-9_./-]{0,62}; its value: UTF-8 without control characters, 0..255
 * bytes. */
int wr_label_check(const char *key, const char *value, struct wr_err *err);

/* What a user typed for a project. */
enum wr_ref_kind { WR_REF_BAD, WR_REF_ID, WR_REF_NAME, WR_REF_PREFIX };
/* PREFIX: 4 to 35 characters of hex digits and dashes as in an id. */
enum wr_ref_kind wr_project_ref(const char *s);

#endif

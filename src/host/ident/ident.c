/* SPDX-License-Identifier: Apache-2.0 */
#include "host/ident/ident_int.h"

#include <openssl/sha.h>

#include "sys/getent.h"

/* What derived uids stay above: those of 16 bits and nobody's. */
#define DERIVED_ABOVE 65537u

uint32_t
wr_ident_derived(const struct wr_uuid *id)
{
	unsigned char h[SHA512_DIGEST_LENGTH];
	uint32_t n;

	SHA512((const unsigned char *)id->s, strlen(id->s), h);
	n = ((uint32_t)h[0] << 24 | (uint32_t)h[1] << 16 | (uint32_t)h[2] << 8 | h[3]) / 2;
	return n > DERIVED_ABOVE ? n : n + DERIVED_ABOVE;
}

struct wr_ident_account
wr_ident_derived_account(const struct wr_uuid *id)
{
	struct wr_ident_account a = {""};
	size_t n = 0;

	for (const char *p = id->s; *p && n < sizeof(a.s) - 1; p++)
		if (*p != '-')
			a.s[n++] = *p;
	return a;
}

static int
no_answer(const char *account, struct wr_err *err)
{
	wr_err_set(err, WR_E_BUSY, "account '%s': %s", WR_Q(account), wr_getent_why());
	return wr_err_hint(err, "getent passwd %s; again when it answers", WR_Q(account));
}

int
wr_ident_look_up(const char *account, uint32_t *out_uid, uint32_t *out_gid, struct wr_err *err)
{
	struct wr_getent_entry e;

	switch (wr_getent_by_name(false, account, &e)) {
	case WR_GETENT_FOUND:
		*out_uid = e.id;
		*out_gid = e.gid;
		return 0;
	case WR_GETENT_ABSENT:
		wr_err_set(err, WR_E_NOT_FOUND, "there is no account '%s' on this host",
			   WR_Q(account));
		return wr_err_hint(err, "getent passwd %s", WR_Q(account));
	case WR_GETENT_FAILED:
		break;
	}
	return no_answer(account, err);
}

int
wr_ident_check(const struct wr_settings *s, char **out_doubt, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;
	uint32_t uid, gid;

	*out_doubt = NULL;
	if (s->identity != WR_IDENTITY_NSS)
		return 0;
	if (wr_ident_look_up(s->account, &uid, &gid, &why) < 0) {
		if (why.code == WR_E_NOT_FOUND) {
			wr_err_set(err, WR_E_DENIED,
				   "project '%s' is of account '%s' (uid %u, gid %u), which this "
				   "host does not have any more",
				   s->name, WR_Q(s->account), s->uid, s->gid);
			return wr_err_hint(err, "bring the account back with these numbers");
		}
		*out_doubt = wr_asprintf("%s; started as uid %u, gid %u, as it was created",
					 why.msg, s->uid, s->gid);
		return 0;
	}
	if (uid == s->uid && gid == s->gid)
		return 0;
	wr_err_set(
	    err, WR_E_DENIED,
	    "account '%s' is uid %u, gid %u on this host, but project '%s' is uid %u, gid %u",
	    WR_Q(s->account), uid, gid, s->name, s->uid, s->gid);
	return wr_err_hint(err, "give the account its former numbers back; its files are stored "
				"under them on every node");
}

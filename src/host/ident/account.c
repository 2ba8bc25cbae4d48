/* SPDX-License-Identifier: Apache-2.0 */
#include "host/ident/ident_int.h"

#include "sys/getent.h"

static const char *const names[] = {
    [WR_ACCOUNTS_NONE] = "none",
    [WR_ACCOUNTS_USERDB] = "userdb",
    [WR_ACCOUNTS_PASSWD] = "passwd",
};

const char *
wr_accounts_name(enum wr_accounts a)
{
	return names[a];
}

enum wr_accounts
wr_accounts_driver(const struct wr_node *n)
{
	const char *want = n->config.identity_accounts;

	if (!n->root_mode)
		return WR_ACCOUNTS_NONE;
	for (size_t i = 0; i < WR_ARRAY_LEN(names); i++)
		if (!strcmp(want, names[i]))
			return (enum wr_accounts)i;
	/* auto: records that nobody reads are of no use. */
	return !n->root && !n->config.identity_userdb && wr_getent_has_service("passwd", "systemd")
		   ? WR_ACCOUNTS_USERDB
		   : WR_ACCOUNTS_NONE;
}

const char *
wr_account_of(const struct wr_settings *s)
{
	return *s->account ? s->account : s->name;
}

const char *
wr_ident_shell(const struct wr_settings *s)
{
	const char *shell = wr_settings_str(s, "shell");

	return *shell ? shell : "/bin/sh";
}

/* What the name service says already, by other means than ours, must be the same. *out_named: the
 * number was given, and has a name. */
static int
check_others(const struct wr_settings *s, bool *out_named, struct wr_err *err)
{
	const char *name = wr_account_of(s);
	struct wr_getent_entry e;

	*out_named = false;
	if (wr_getent_by_id(false, s->uid, &e) == WR_GETENT_FOUND && strcmp(e.name, name) != 0) {
		*out_named = s->identity != WR_IDENTITY_RANGE;
		if (*out_named)
			return 0;
		return wr_err_set(err, WR_E_EXISTS, "uid %u is '%s' on this host, not '%s'", s->uid,
				  WR_Q(e.name), name);
	}
	if (wr_getent_by_name(false, name, &e) == WR_GETENT_FOUND && e.id != s->uid)
		return wr_err_set(err, WR_E_EXISTS,
				  "account '%s': the host has one, of uid %u, not %u", name, e.id,
				  s->uid);
	/* What the host allows a group goes by its name, with some programs (sudo). */
	if (s->gid == s->uid && wr_getent_by_name(true, name, &e) == WR_GETENT_FOUND &&
	    e.id != s->gid)
		return wr_err_set(err, WR_E_EXISTS,
				  "group '%s': the host has one, of gid %u, not %u", name, e.id,
				  s->gid);
	return 0;
}

int
wr_account_make(const struct wr_node *n, const struct wr_settings *s, bool *out_made,
		struct wr_err *err)
{
	enum wr_accounts driver = wr_accounts_driver(n);
	bool named;

	*out_made = false;
	if (driver == WR_ACCOUNTS_NONE || !s->exclusive || s->identity == WR_IDENTITY_NSS)
		return 0;
	/* Renamed since the last time: what was made then is in the way. */
	if (wr_userdb_drop(n, s, err) < 0 || check_others(s, &named, err) < 0)
		return wr_err_hint(
		    err, "warren settings %s name=..., or live without a name for it", s->name);
	if (named)
		return 0;
	if ((driver == WR_ACCOUNTS_USERDB ? wr_userdb_make(n, s, err) : wr_passwd_make(n, s, err)) <
	    0)
		return wr_err_hint(
		    err, "warren settings %s name=..., or live without a name for it", s->name);
	*out_made = true;
	return 0;
}

int
wr_account_drop(const struct wr_node *n, const struct wr_settings *s, bool deleted,
		struct wr_err *err)
{
	if (!n->root_mode)
		return 0;
	if (wr_userdb_drop(n, s, err) < 0)
		return -1;
	if (wr_accounts_driver(n) == WR_ACCOUNTS_PASSWD && deleted)
		return wr_passwd_drop(n, &s->id, err);
	return 0;
}

int
wr_accounts_sweep(const struct wr_node *n, bool (*active)(void *ctx, const struct wr_uuid *project),
		  void *ctx, struct wr_err *err)
{
	return n->root_mode ? wr_userdb_sweep(n, active, ctx, err) : 0;
}

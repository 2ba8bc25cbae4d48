/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A project's settings: one table of keys with type, unit, bounds, default and who may set it; the
 * file conf/settings.json.  Pure.
 */
#ifndef WR_SETTINGS_H
#define WR_SETTINGS_H

#include "base/json.h"
#include "model/uuid.h"

enum wr_set_kind {
	WR_SET_STR,
	WR_SET_BOOL,
	WR_SET_U64,
	WR_SET_SIZE,     /* bytes; 4G, 500M */
	WR_SET_DURATION, /* seconds; 5min, 30d, never = 0 */
	WR_SET_CHOICE,
	WR_SET_LIST, /* strings; written a,b,c or as a JSON array; no commas inside */
	WR_SET_PATH, /* absolute, clean (no "..", no "//") */
};

struct wr_set_key {
	const char *key;
	enum wr_set_kind kind;
	const char *fallback; /* default as text; NULL: none ("" / absent) */
	uint64_t min,
	    max; /* of numbers; max 0: no bound. Of strings and lists: longest, in bytes */
	const char *const *choices;
	bool by_user;     /* the project's own user may set it, else operators alone */
	bool at_start;    /* takes effect at the next start; otherwise at once, also on an active
			     project */
	bool fixed;       /* set at create only */
	const char *help; /* lower case, no full stop */
};
/*
 * The keys of this release, ends with key NULL:
 *   home (path, /home/NAME), command (string: run by /bin/sh -c as the project's user; none), env
 * (list K=V), shell (path), autostart (bool, no), idle_timeout (duration, never), stop_timeout
 * (duration, 10s), save_every (duration, 5min, 0 never), exclude (list of gitignore patterns,
 * by_user), repo_quota_factor (3; 0 none), template (path, at_start), snapshots_link (string,
 * .snapshots; "" none; at_start), hook_timeout (duration 30s), disk (size, 3000M), inodes (200000),
 * memory (size 2G), cpu_weight (1..10000, 100), pids (4096): kept and shown, enforced by the part
 * that sets limits; description (string, by_user), cpu_max (string, see wr_cpu_parse; none),
 * io_weight (1..10000, 100), max_file_size (size, 1T), split_bits (13..19, 16, fixed).
 */
extern const struct wr_set_key wr_set_keys[];
const struct wr_set_key *
wr_set_key_find(const char *key); /* NULL: unknown; hint is did-you-mean's job */

/* Where uid and gid of a project come from. */
enum wr_identity {
	WR_IDENTITY_RANGE,   /* a free number of [node] uid_range */
	WR_IDENTITY_NSS,     /* those of an account of the host, looked up when it was created */
	WR_IDENTITY_FIXED,   /* given, perhaps those of others, too */
	WR_IDENTITY_DERIVED, /* from the project's id */
	WR_IDENTITY_COUNT
};
const char *wr_identity_name(enum wr_identity i);
/* WR_IDENTITY_COUNT: no such name. */
enum wr_identity wr_identity_parse(const char *name);

struct wr_settings {
	struct wr_uuid id;
	char name[64];
	uint64_t rev;   /* 1 at create, + 1 per change */
	uint64_t epoch; /* 1 with one member */
	uint32_t uid, gid;
	bool exclusive;   /* no other project has this uid */
	char account[64]; /* "" = none: the project's name where a host gives it one */
	enum wr_identity identity;
	int64_t created;
	struct {
		char *key, *value;
	} * label; /* ascending by key */
	size_t label_count;
	json_t *set; /* own reference: only what differs from the defaults, typed JSON values */
};
void wr_settings_fini(struct wr_settings *s); /* harmless twice */
void wr_settings_copy(struct wr_settings *to, const struct wr_settings *from);

/* Effective values. Asking for a key of another kind is a bug. */
const char *wr_settings_str(const struct wr_settings *s,
			    const char *key);                           /* "" if none; borrowed */
uint64_t wr_settings_u64(const struct wr_settings *s, const char *key); /* U64, SIZE, DURATION */
bool wr_settings_bool(const struct wr_settings *s, const char *key);
size_t wr_settings_list(const struct wr_settings *s, const char *key,
			const char *const **out); /* the
array is the caller's to free, its strings are borrowed */
/* Of cpu_max: processors ("2", "0.5") or percent of one ("50%"). */
bool wr_cpu_parse(const char *s, uint64_t *out_percent);
/* What the repository may take; 0: anything. */
uint64_t wr_repo_quota(const struct wr_settings *s);
/* "home" with {name} and {id} filled in; root_prefix (may be "") is put before the default only.
 * Caller frees. */
char *wr_settings_home(const struct wr_settings *s, const char *root_prefix);

/* One change as typed: "key=value"; "key=" takes the default back; "label.KEY=VALUE", "label.KEY="
 * removes; "name=NEW". A value of two quotes ("") is the empty text. rev grows by 1 if anything
 * differs then, except in a create. by_user: refuse (WR_E_DENIED) what the project's user may not
 * set: all but the keys that say so. created: is this a create (fixed keys allowed)?  WR_E_INVALID
 * names the field, what was given and what is allowed. Unchanged on failure. */
int wr_settings_change(struct wr_settings *s, const char *assignment, bool by_user, bool created,
		       struct wr_err *err);

/* conf/settings.json, format 1; created is RFC 3339. Settings whose key is not known here are kept
 * as they are; a newer format is WR_E_UNSUPPORTED with both numbers, anything malformed
 * WR_E_CORRUPT, naming the member. */
json_t *wr_settings_json(const struct wr_settings *s);
int wr_settings_parse(const json_t *o, struct wr_settings *out, struct wr_err *err);
/* For show: every key with its value as text (units), default or not:
 * {"key":{"value","text","default":bool,"by_user","at_start","fixed","help"}}. */
json_t *wr_settings_show(const struct wr_settings *s);

#endif

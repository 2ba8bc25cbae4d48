/* SPDX-License-Identifier: Apache-2.0 */
/* warren.conf: one table gives the key, its kind and bounds, its default and its field; reading,
 * overriding, printing and documenting all go by it. */
#include "host/node/node.h"

#include <ctype.h>
#include <fcntl.h>

#include "base/ini.h"
#include "base/str.h"
#include "model/text.h"
#include "sys/fs.h"

enum kind {
	TEXT,
	PROGRAM,
	PLACE,
	CGROUP,
	PATTERN,
	ADDRESS,
	NAMES,
	IDENTITY,
	ACCOUNTS,
	QUOTA,
	MARKS,
	COUNT,
	SPAN,
	SIZE,
	OCTAL,
	RANGE
};

/* section, key, kind, field, default, least, most (0: none), help */
#define CONFIG_KEYS(X)                                                                        \
	X("node", "home", PATTERN, home_pattern, "/home/{name}", 0, 0,                        \
	  "where homes of new projects are presented; {name} and {id} are filled in")         \
	X("node", "admins", TEXT, admins, "root", 0, 0,                                       \
	  "users, by name or uid and separated by commas, who may do everything")             \
	X("node", "uid_range", RANGE, uid_first, "2100000000-2100999999", 1, UINT32_MAX - 1,  \
	  "uids from which new projects get theirs")                                          \
	X("node", "socket", PLACE, listen_socket, "", 0, 0,                                   \
	  "the daemon's socket; empty: warren.sock in the run directory")                     \
	X("node", "socket_mode", OCTAL, socket_mode, "0666", 0, 0777,                         \
	  "permissions of the socket: who may connect at all")                                \
	X("identity", "driver", IDENTITY, identity_driver, "range", 0, 0,                     \
	  "whose uid new projects get: range, nss, fixed or derived")                         \
	X("identity", "accounts", ACCOUNTS, identity_accounts, "auto", 0, 0,                  \
	  "how the host knows projects by name: userdb, passwd, none; auto: userdb or none")  \
	X("identity", "userdb", PLACE, identity_userdb, "", 0, 0,                             \
	  "directory of userdb's records; empty: /run/userdb")                                \
	X("identity", "etc", PLACE, identity_etc, "", 0, 0,                                   \
	  "directory of passwd, group, subuid, subgid and sssd; empty: /etc")                 \
	X("listen", "api", ADDRESS, listen_api, "", 0, 0,                                     \
	  "HOST:PORT of the HTTPS API; empty: only the socket")                               \
	X("listen", "peer", ADDRESS, listen_peer, "", 0, 0,                                   \
	  "HOST:PORT for other nodes of the fleet; empty: none can reach this one")           \
	X("listen", "name", NAMES, listen_name, "", 0, 0,                                     \
	  "names or addresses, separated by commas, that others reach this host by")          \
	X("save", "every", SPAN, save_every, "5min", 0, 0,                                    \
	  "how often an active project is saved if it changed; never: only at stop")          \
	X("save", "min_interval", SPAN, save_min_interval, "90s", 0, 0,                       \
	  "least time between two saves that the schedule starts")                            \
	X("save", "parallel", COUNT, save_parallel, "2", 1, 64,                               \
	  "saves that the schedule runs at a time")                                           \
	X("start", "parallel", COUNT, start_parallel, "2", 1, 64,                             \
	  "projects that come back at a time after a reboot")                                 \
	X("volume", "quota", QUOTA, volume_quota, "auto", 0, 0,                               \
	  "how disk and inodes are limited: btrfs, prjquota, none; auto: as the volume can")  \
	X("volume", "marks", MARKS, volume_mark, "85,92,97", 1, 100,                          \
	  "percent used from which new projects, then expired trash, then snapshots stop")    \
	X("trash", "keep", SPAN, trash_keep, "30d", 0, 0,                                     \
	  "how long deleted projects stay in the trash; never: for good")                     \
	X("trash", "drop_after", SPAN, trash_drop_after, "10min", 0, 0,                       \
	  "how long a copy that is not counted any more stays before it may go to the trash") \
	X("trash", "drops_per_day", COUNT, trash_drops_per_day, "0", 0, 1000000,              \
	  "copies that may go so within a day; 0: a hundredth of those held, at least 10")    \
	X("restore", "safety_keep", SPAN, safety_keep, "30d", 0, 0,                           \
	  "how long the snapshot before a restore keeps its tag; never: for good")            \
	X("replica", "rate", SIZE, replica_rate, "20M", 0, 0,                                 \
	  "bytes per second of one transfer between nodes; 0: as fast as it goes")            \
	X("replica", "floor", SPAN, replica_floor, "30d", 0, 0,                               \
	  "how long what a sender dropped from its branches is kept here; never: for good")   \
	X("replica", "timeout", SPAN, replica_timeout, "30s", 1, 3600,                        \
	  "a transfer on which nothing moved for that long is given up")                      \
	X("replica", "retry_max", SPAN, replica_retry_max, "10min", 5, 86400,                 \
	  "longest wait before a copy that is behind is tried again")                         \
	X("replica", "max_size", SIZE, replica_max_size, "0", 0, 0,                           \
	  "largest repository that this host takes from others; 0: no bound")                 \
	X("replica", "uids", RANGE, replica_uid_first, "1000-4294967294", 1, UINT32_MAX - 1,  \
	  "uids and gids that projects of other nodes may have here")                         \
	X("replica", "tree_after", SPAN, replica_tree_after, "10min", 1, 86400,               \
	  "how long a copy's working files may stay behind it (replica_tree = warm)")         \
	X("replica", "parallel", COUNT, replica_parallel, "4", 1, 64,                         \
	  "transfers that this host takes in at a time")                                      \
	X("hub", "creates", COUNT, hub_creates, "1000", 0, 1000000,                           \
	  "projects that another node may make within an hour; 0: no limit")                  \
	X("notice", "command", PROGRAM, notice_command, "", 0, 0,                             \
	  "program told of notices that come and go, as the daemon's user; empty: none")      \
	X("notice", "interval", SPAN, notice_interval, "1h", 0, 0,                            \
	  "least time between two calls for one project, unless it grows worse")              \
	X("op", "keep", COUNT, op_keep, "20", 1, 1000,                                        \
	  "finished operations kept for each project")                                        \
	X("hooks", "started", PROGRAM, hook_started, "", 0, 0,                                \
	  "program run as the project's user after a start; empty: none")                     \
	X("hooks", "stopping", PROGRAM, hook_stopping, "", 0, 0,                              \
	  "program run as the project's user before a stop; empty: none")                     \
	X("runner", "cgroup", CGROUP, cgroup, "auto", 0, 0,                                   \
	  "directory of the unified hierarchy for projects' processes; auto: find one; none") \
	X("work", "rate", SIZE, work_rate, "0", 0, 0,                                         \
	  "bytes per second that one save or restore reads or writes; 0: as fast as it goes") \
	X("work", "shutdown_save", SPAN, work_shutdown_save, "1min", 0, 240,                  \
	  "how long the host's shutdown waits for projects to be ended and saved; never")     \
	X("work", "idle", SPAN, work_idle, "2min", 1, 86400,                                  \
	  "a look at what a project takes at which nothing moved for that long is given up")  \
	X("front", "idle", SPAN, front_idle, "60s", 1, 0,                                     \
	  "a user's front that nobody talks to ends after this time")

#define X(section, key, kind, field, fallback, least, most, help) {section, key, fallback, help},
const struct wr_config_key wr_config_keys[] = {CONFIG_KEYS(X){NULL, NULL, NULL, NULL}};
#undef X

static const struct {
	enum kind kind;
	size_t offset;
	uint64_t least, most;
} rules[] = {
#define X(section, key, kind, field, fallback, least, most, help) \
	{kind, offsetof(struct wr_config, field), least, most},
    CONFIG_KEYS(X)
#undef X
};

#define KEY_COUNT WR_ARRAY_LEN(rules)

static void *
field(const struct wr_config *c, size_t i)
{
	union {
		const struct wr_config *in;
		char *out;
	} u = {.in = c};

	return u.out + rules[i].offset;
}

static bool
is_text_kind(enum kind k)
{
	return k == TEXT || k == PROGRAM || k == PLACE || k == CGROUP || k == PATTERN ||
	       k == ADDRESS || k == NAMES || k == IDENTITY || k == ACCOUNTS || k == QUOTA;
}

void
wr_config_fini(struct wr_config *c)
{
	for (size_t i = 0; i < KEY_COUNT; i++)
		if (is_text_kind(rules[i].kind)) {
			char **s = field(c, i);

			free(*s);
			*s = NULL;
		}
}

static int
check_address(const char *value, struct wr_err *err)
{
	char host[WR_HOST_SIZE];
	uint16_t port;

	if (!*value || wr_hostport_parse(value, host, &port))
		return 0;
	wr_err_set(err, WR_E_INVALID, "'%s' is no HOST:PORT", WR_Q(value));
	return wr_err_hint(err, "for instance 0.0.0.0:7443, [::]:7443 or node1.example.org:7443");
}

static int
check_names(const char *value, struct wr_err *err)
{
	char host[WR_HOST_SIZE];
	const char *at = value;

	for (size_t i = 0; *at; i++)
		if (i == WR_HOSTS_MAX || !wr_host_next(&at, host))
			return wr_err_set(err, WR_E_INVALID,
					  "'%s' is no list of at most %d names or addresses, "
					  "separated by commas",
					  WR_Q(value), WR_HOSTS_MAX);
	return 0;
}

static const char *const accounts[] = {"auto", "userdb", "passwd", "none"};
static const char *const quotas[] = {"auto", "btrfs", "prjquota", "none"};

static int
check_word(const char *value, const char *const *words, size_t count, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	for (size_t i = 0; i < count; i++) {
		if (!strcmp(value, words[i]))
			return 0;
		wr_buf_addf(&b, "%s%s", i ? ", " : "", words[i]);
	}
	return wr_err_set(err, WR_E_INVALID, "'%s' is none of %s", WR_Q(value), wr_buf_str(&b));
}

static int
check_identity(const char *value, struct wr_err *err)
{
	const char *word[WR_IDENTITY_COUNT];

	for (size_t i = 0; i < WR_IDENTITY_COUNT; i++)
		word[i] = wr_identity_name((enum wr_identity)i);
	return check_word(value, word, WR_IDENTITY_COUNT, err);
}

static int
check_text(size_t i, const char *value, struct wr_err *err)
{
	enum kind k = rules[i].kind;

	if (k == TEXT || (k == CGROUP && (!strcmp(value, "auto") || !strcmp(value, "none"))))
		return 0;
	if ((k == PROGRAM || k == PLACE) && !*value)
		return 0;
	if (k == ADDRESS)
		return check_address(value, err);
	if (k == NAMES)
		return check_names(value, err);
	if (k == IDENTITY)
		return check_identity(value, err);
	if (k == ACCOUNTS)
		return check_word(value, accounts, WR_ARRAY_LEN(accounts), err);
	if (k == QUOTA)
		return check_word(value, quotas, WR_ARRAY_LEN(quotas), err);
	if (*value != '/')
		return wr_err_set(err, WR_E_INVALID, "'%s' is not an absolute path", WR_Q(value));
	if (k == PATTERN && !strstr(value, "{name}") && !strstr(value, "{id}"))
		return wr_err_set(err, WR_E_INVALID, "'%s' holds neither {name} nor {id}",
				  WR_Q(value));
	return 0;
}

static int
parse_octal(const char *value, uint64_t most, uint32_t *out, struct wr_err *err)
{
	char *end;
	unsigned long v = strtoul(value, &end, 8);

	if (!*value || strspn(value, "01234567") != strlen(value) || v > most)
		return wr_err_set(err, WR_E_INVALID, "'%s' is no mode like 0660", WR_Q(value));
	*out = (uint32_t)v;
	return 0;
}

static int
parse_range(size_t i, const char *value, uint32_t out[2], struct wr_err *err)
{
	const char *dash = strchr(value, '-');
	WR_SCOPED(wr_freep) char *first = wr_strdup(value);
	uint64_t lo, hi;

	if (dash)
		first[dash - value] = '\0';
	if (!dash || wr_parse_u64(first, &lo, NULL) < 0 || wr_parse_u64(dash + 1, &hi, NULL) < 0 ||
	    lo < rules[i].least || hi > rules[i].most || lo > hi)
		return wr_err_set(err, WR_E_INVALID,
				  "'%s' is no range of uids like 2100000000-2100999999",
				  WR_Q(value));
	out[0] = (uint32_t)lo;
	out[1] = (uint32_t)hi;
	return 0;
}

static int
parse_marks(size_t i, const char *value, uint32_t out[3], struct wr_err *err)
{
	uint32_t mark[3] = {0};
	const char *at = value;
	size_t n = 0;

	for (; n < 3 && *at >= '0' && *at <= '9'; n++) {
		char *end;
		unsigned long v = strtoul(at, &end, 10);

		if (v < rules[i].least || v > rules[i].most || (n && v < mark[n - 1]) ||
		    *end != (n < 2 ? ',' : '\0'))
			break;
		mark[n] = (uint32_t)v;
		at = end + (n < 2);
	}
	if (n < 3)
		return wr_err_set(err, WR_E_INVALID,
				  "'%s' is not three percentages, ascending, like 85,92,97",
				  WR_Q(value));
	memcpy(out, mark, sizeof(mark));
	return 0;
}

static int
parse_number(size_t i, const char *value, uint64_t *out, struct wr_err *err)
{
	uint64_t v;

	if (rules[i].kind == SPAN   ? wr_parse_duration(value, &v, err) < 0
	    : rules[i].kind == SIZE ? wr_parse_size(value, &v, err) < 0
				    : wr_parse_u64(value, &v, err) < 0)
		return -1;
	if (v < rules[i].least)
		return wr_err_set(err, WR_E_INVALID, "'%s' is less than %" PRIu64, WR_Q(value),
				  rules[i].least);
	if (rules[i].most && v > rules[i].most)
		return wr_err_set(err, WR_E_INVALID, "'%s' is more than %" PRIu64, WR_Q(value),
				  rules[i].most);
	*out = v;
	return 0;
}

static int
set_key(struct wr_config *c, size_t i, const char *value, struct wr_err *err)
{
	_Static_assert(offsetof(struct wr_config, uid_last) ==
			       offsetof(struct wr_config, uid_first) + sizeof(uint32_t) &&
			   offsetof(struct wr_config, replica_uid_last) ==
			       offsetof(struct wr_config, replica_uid_first) + sizeof(uint32_t),
		       "a range is written as two in a row");
	char **s;

	switch (rules[i].kind) {
	case COUNT:
	case SPAN:
	case SIZE:
		return parse_number(i, value, field(c, i), err);
	case OCTAL:
		return parse_octal(value, rules[i].most, field(c, i), err);
	case RANGE:
		return parse_range(i, value, field(c, i), err);
	case MARKS:
		return parse_marks(i, value, field(c, i), err);
	case TEXT:
	case PROGRAM:
	case PLACE:
	case CGROUP:
	case PATTERN:
	case ADDRESS:
	case NAMES:
	case IDENTITY:
	case ACCOUNTS:
	case QUOTA:
		break;
	}
	if (check_text(i, value, err) < 0)
		return -1;
	s = field(c, i);
	free(*s);
	*s = *value ? wr_strdup(value) : NULL;
	return 0;
}

/* ---- the file ---- */

struct reading {
	struct wr_config *c;
	unsigned line_of[KEY_COUNT]; /* where each key was given; 0: not yet */
};

static bool
section_known(const char *section)
{
	for (size_t i = 0; i < KEY_COUNT; i++)
		if (!strcmp(wr_config_keys[i].section, section))
			return true;
	return false;
}

static int
unknown_section(const char *section, struct wr_err *err)
{
	const char *names[KEY_COUNT + 1], *near;

	for (size_t i = 0; i <= KEY_COUNT; i++)
		names[i] = wr_config_keys[i].section;
	wr_err_set(err, WR_E_INVALID, "there is no section [%s]", WR_Q(section));
	near = wr_near(section, names);
	return near ? wr_err_hint(err, "did you mean [%s]?", near) : -1;
}

static int
unknown_key(const char *section, const char *key, struct wr_err *err)
{
	const char *names[KEY_COUNT + 1], *near;
	size_t n = 0;

	for (size_t i = 0; i < KEY_COUNT; i++)
		if (!strcmp(wr_config_keys[i].section, section))
			names[n++] = wr_config_keys[i].key;
	names[n] = NULL;
	wr_err_set(err, WR_E_INVALID, "section [%s] has no key '%s'", section, WR_Q(key));
	near = wr_near(key, names);
	return near ? wr_err_hint(err, "did you mean '%s'?", near) : -1;
}

static int
take_key(void *ctx, unsigned line, const char *section, const char *key, const char *value,
	 struct wr_err *err)
{
	struct reading *r = ctx;
	size_t i;

	if (!*section)
		return wr_err_set(err, WR_E_INVALID, "key '%s' stands before the first [section]",
				  WR_Q(key));
	if (!section_known(section))
		return unknown_section(section, err);
	for (i = 0; i < KEY_COUNT; i++)
		if (!strcmp(wr_config_keys[i].section, section) &&
		    !strcmp(wr_config_keys[i].key, key))
			break;
	if (i == KEY_COUNT)
		return unknown_key(section, key, err);
	if (r->line_of[i])
		return wr_err_set(err, WR_E_INVALID, "key '%s' was given in line %u already", key,
				  r->line_of[i]);
	r->line_of[i] = line;
	if (set_key(r->c, i, value, err) < 0)
		return wr_err_wrap(err, "key '%s'", key);
	return 0;
}

static int
load_file(const char *path, struct wr_config *c, struct wr_err *err)
{
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;
	struct reading r = {.c = c};
	struct wr_err why = WR_ERR_INIT;

	if (wr_read_file(AT_FDCWD, path, WR_INI_MAX, &b, &why) < 0) {
		if (why.code == WR_E_NOT_FOUND)
			return 0;
		if (err)
			*err = why;
		return -1;
	}
	return wr_ini_parse(path, b.p, b.len, take_key, &r, err);
}

/* $WARREN_SECTION_KEY */
static int
load_environment(struct wr_config *c, struct wr_err *err)
{
	for (size_t i = 0; i < KEY_COUNT; i++) {
		WR_SCOPED(wr_freep)
		char *name =
		    wr_asprintf("WARREN_%s_%s", wr_config_keys[i].section, wr_config_keys[i].key);
		const char *value;

		for (char *s = name; *s; s++)
			*s = (char)toupper((unsigned char)*s);
		value = getenv(name);
		if (value && set_key(c, i, value, err) < 0)
			return wr_err_wrap(err, "$%s", name);
	}
	return 0;
}

int
wr_config_load(const char *path, struct wr_config *out, struct wr_err *err)
{
	struct wr_config c = {0};

	for (size_t i = 0; i < KEY_COUNT; i++) {
		int rc = set_key(&c, i, wr_config_keys[i].fallback, err);

		wr_assert(rc == 0);
	}
	if ((path && load_file(path, &c, err) < 0) || load_environment(&c, err) < 0) {
		wr_config_fini(&c);
		return -1;
	}
	*out = c;
	return 0;
}

static char *
key_text(const struct wr_config *c, size_t i)
{
	const void *p = field(c, i);
	const uint32_t *u32 = p;
	const uint64_t *u64 = p;
	char *const *s = p;

	switch (rules[i].kind) {
	case COUNT:
		return wr_asprintf("%" PRIu64, *u64);
	case SPAN:
		return wr_strdup(*u64 ? wr_fmt_duration(*u64).s : "never");
	case SIZE:
		return wr_strdup(wr_fmt_size(*u64).s);
	case OCTAL:
		return wr_asprintf("%04o", *u32);
	case RANGE:
		return wr_asprintf("%u-%u", u32[0], u32[1]);
	case MARKS:
		return wr_asprintf("%u,%u,%u", u32[0], u32[1], u32[2]);
	case TEXT:
	case PROGRAM:
	case PLACE:
	case CGROUP:
	case PATTERN:
	case ADDRESS:
	case NAMES:
	case IDENTITY:
	case ACCOUNTS:
	case QUOTA:
		break;
	}
	return wr_strdup(*s ? *s : "");
}

int
wr_config_get(const struct wr_config *c, const char *name, char **out, struct wr_err *err)
{
	for (size_t i = 0; i < KEY_COUNT; i++) {
		WR_SCOPED(wr_freep)
		char *full = wr_asprintf("%s.%s", wr_config_keys[i].section, wr_config_keys[i].key);

		if (!strcmp(full, name)) {
			*out = key_text(c, i);
			return 0;
		}
	}
	wr_err_set(err, WR_E_NOT_FOUND, "there is no key '%s'", WR_Q(name));
	return wr_err_hint(err, "keys are written SECTION.KEY; `warren config get` lists them all");
}

/* ---- read anew ---- */

static bool
taken_live(size_t i)
{
	static const char *const sections[] = {"save",    "start",   "work", "trash",
					       "restore", "replica", "op"};
	enum kind k = rules[i].kind;

	if (k != COUNT && k != SPAN && k != SIZE)
		return false;
	for (size_t s = 0; s < WR_ARRAY_LEN(sections); s++)
		if (!strcmp(wr_config_keys[i].section, sections[s]))
			return true;
	return false;
}

size_t
wr_config_take(struct wr_config *c, const struct wr_config *fresh, size_t *out_left)
{
	size_t taken = 0;

	*out_left = 0;
	for (size_t i = 0; i < KEY_COUNT; i++) {
		WR_SCOPED(wr_freep) char *was = key_text(c, i);
		WR_SCOPED(wr_freep) char *is = key_text(fresh, i);

		if (!strcmp(was, is))
			continue;
		if (taken_live(i)) {
			memcpy(field(c, i), field(fresh, i), sizeof(uint64_t));
			taken++;
		} else {
			++*out_left;
		}
	}
	return taken;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "model/settings.h"

#include "base/str.h"
#include "model/text.h"

/* LIMITs of what one project's settings hold. */
#define LABELS_MAX 64
#define FOREIGN_MAX 64
#define YEAR (365u * 86400)
#define CPU_PERCENT_MAX 100000

static const char *const isolations[] = {"freeze", "run", "stop", NULL};
static const char *const replica_trees[] = {"warm", "eager", "none", NULL};

const struct wr_set_key wr_set_keys[] = {
    {.key = "autostart",
     .kind = WR_SET_BOOL,
     .fallback = "no",
     .help = "started after a reboot, even if it was not active before it"},
    {.key = "command",
     .kind = WR_SET_STR,
     .max = 4096,
     .at_start = true,
     .help = "run by /bin/sh -c as the project's user while it is active"},
    {.key = "cpu_max",
     .kind = WR_SET_STR,
     .max = 16,
     .help = "processors that all processes together may use, as 2, 0.5 or 50%"},
    {.key = "cpu_weight",
     .kind = WR_SET_U64,
     .fallback = "100",
     .min = 1,
     .max = 10000,
     .help = "share of the processors beside other projects"},
    {.key = "description",
     .kind = WR_SET_STR,
     .max = 1024,
     .by_user = true,
     .help = "a line for people"},
    {.key = "disk",
     .kind = WR_SET_SIZE,
     .fallback = "3000M",
     .min = 1 << 20,
     .help = "bytes that the working files may take"},
    {.key = "env",
     .kind = WR_SET_LIST,
     .max = 16384,
     .at_start = true,
     .help = "NAME=VALUE for the environment of the command"},
    {.key = "exclude",
     .kind = WR_SET_LIST,
     .max = 16384,
     .by_user = true,
     .help = "patterns, as in .gitignore, of what is not saved"},
    {.key = "home",
     .kind = WR_SET_PATH,
     .fallback = "/home/{name}",
     .max = 1024,
     .at_start = true,
     .help = "where the working files are presented, changed while it is stopped; {name} and {id} "
	     "are filled in"},
    {.key = "hook_timeout",
     .kind = WR_SET_DURATION,
     .fallback = "30s",
     .min = 1,
     .max = 3600,
     .help = "how long a hook may run"},
    {.key = "idle_timeout",
     .kind = WR_SET_DURATION,
     .fallback = "never",
     .max = 10 * YEAR,
     .help = "stopped after so long without processes and changes"},
    {.key = "inodes",
     .kind = WR_SET_U64,
     .fallback = "200000",
     .min = 100,
     .help = "files and directories that there may be"},
    {.key = "io_weight",
     .kind = WR_SET_U64,
     .fallback = "100",
     .min = 1,
     .max = 10000,
     .help = "share of the disks beside other projects"},
    {.key = "isolation",
     .kind = WR_SET_CHOICE,
     .fallback = "freeze",
     .choices = isolations,
     .help = "what its processes do on a host that has lost sight of the other replicas"},
    {.key = "max_file_size",
     .kind = WR_SET_SIZE,
     .fallback = "1T",
     .min = 1,
     .help = "larger files are not saved"},
    {.key = "memory",
     .kind = WR_SET_SIZE,
     .fallback = "2G",
     .min = 16 << 20,
     .help = "memory of all processes together"},
    {.key = "pids",
     .kind = WR_SET_U64,
     .fallback = "4096",
     .min = 8,
     .max = 1 << 22,
     .help = "processes and threads that there may be"},
    {.key = "replica_tree",
     .kind = WR_SET_CHOICE,
     .fallback = "warm",
     .choices = replica_trees,
     .help = "which replicas keep working files too: warm: one, within 15 min; eager: all; none"},
    {.key = "repo_quota_factor",
     .kind = WR_SET_U64,
     .fallback = "3",
     .max = 1000,
     .help = "its history may take so many times its disk; past that no snapshot is made; 0: no "
	     "quota"},
    {.key = "save_every",
     .kind = WR_SET_DURATION,
     .fallback = "5min",
     .max = 10 * YEAR,
     .help = "how often changes are saved while it is active; 0 or never: not by itself"},
    {.key = "scratch",
     .kind = WR_SET_SIZE,
     .fallback = "0",
     .help =
	 "room in $WARREN_SCRATCH, on this host alone, never saved; 0: none; begins and ends at "
	 "a start"},
    {.key = "shell",
     .kind = WR_SET_PATH,
     .max = 1024,
     .at_start = true,
     .help = "the user's shell"},
    {.key = "snapshots_link",
     .kind = WR_SET_STR,
     .fallback = ".snapshots",
     .max = 64,
     .at_start = true,
     .help = "name of the link to the history in the home, where that is served; "
	     "\"\": none"},
    {.key = "split_bits",
     .kind = WR_SET_U64,
     .fallback = "16",
     .min = 13,
     .max = 19,
     .fixed = true,
     .help = "log2 of the mean size of chunks in the repository"},
    {.key = "stop_timeout",
     .kind = WR_SET_DURATION,
     .fallback = "10s",
     .max = 3600,
     .help = "between TERM and KILL when processes are stopped"},
    {.key = "template",
     .kind = WR_SET_PATH,
     .max = 1024,
     .at_start = true,
     .help = "a folder whose files are copied into the home where they are missing"},
    {0},
};

const struct wr_set_key *
wr_set_key_find(const char *key)
{
	for (const struct wr_set_key *k = wr_set_keys; k->key; k++)
		if (!strcmp(k->key, key))
			return k;
	return NULL;
}

static bool
is_number(const struct wr_set_key *k)
{
	return k->kind == WR_SET_U64 || k->kind == WR_SET_SIZE || k->kind == WR_SET_DURATION;
}

static uint64_t
largest(const struct wr_set_key *k)
{
	return k->max ? k->max : INT64_MAX; /* JSON's integers are signed */
}

/* ---- the object ---- */

void
wr_settings_fini(struct wr_settings *s)
{
	for (size_t i = 0; i < s->label_count; i++) {
		free(s->label[i].key);
		free(s->label[i].value);
	}
	free(s->label);
	s->label = NULL;
	s->label_count = 0;
	wr_json_freep(&s->set);
}

void
wr_settings_copy(struct wr_settings *to, const struct wr_settings *from)
{
	*to = *from;
	to->label = wr_calloc(from->label_count, sizeof(*to->label));
	for (size_t i = 0; i < from->label_count; i++) {
		to->label[i].key = wr_strdup(from->label[i].key);
		to->label[i].value = wr_strdup(from->label[i].value);
	}
	to->set = from->set ? json_deep_copy(from->set) : json_object();
}

/* Where the label is, or would have to be. */
static size_t
label_at(const struct wr_settings *s, const char *key, bool *out_found)
{
	size_t i = 0;
	int cmp = 1;

	while (i < s->label_count && (cmp = strcmp(s->label[i].key, key)) < 0)
		i++;
	*out_found = i < s->label_count && cmp == 0;
	return i;
}

/* value NULL removes. Gives whether anything differs now. */
static bool
put_label(struct wr_settings *s, const char *key, const char *value)
{
	bool found;
	size_t at = label_at(s, key, &found), after;

	if (found && value && !strcmp(s->label[at].value, value))
		return false;
	if (found && value) {
		free(s->label[at].value);
		s->label[at].value = wr_strdup(value);
	} else if (value) {
		s->label = wr_reallocarray(s->label, s->label_count + 1, sizeof(*s->label));
		memmove(s->label + at + 1, s->label + at,
			(s->label_count - at) * sizeof(*s->label));
		s->label[at].key = wr_strdup(key);
		s->label[at].value = wr_strdup(value);
		s->label_count++;
	} else if (found) {
		free(s->label[at].key);
		free(s->label[at].value);
		after = --s->label_count - at;
		memmove(s->label + at, s->label + at + 1, after * sizeof(*s->label));
	}
	return value || found;
}

/* ---- values ---- */

/* What is allowed, for the hint of an error. */
static int
hint_allowed(const struct wr_set_key *k, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_short (*fmt)(uint64_t) = k->kind == WR_SET_SIZE ? wr_fmt_size : wr_fmt_duration;

	switch (k->kind) {
	case WR_SET_BOOL:
		return wr_err_hint(err, "%s is yes or no", k->key);
	case WR_SET_CHOICE:
		for (const char *const *c = k->choices; *c; c++)
			wr_buf_addf(&b, "%s%s", c == k->choices ? "" : ", ", *c);
		return wr_err_hint(err, "%s is one of: %s", k->key, wr_buf_str(&b));
	case WR_SET_PATH:
		return wr_err_hint(err, "%s is an absolute path without '//', '.' and '..'",
				   k->key);
	case WR_SET_STR:
		if (!strcmp(k->key, "cpu_max"))
			return wr_err_hint(
			    err,
			    "%s is a number of processors (2, 0.5) or percent of one "
			    "(50%%), from 0.01 to 1000; '%s=': no limit",
			    k->key, k->key);
		return wr_err_hint(
		    err, "%s is text of at most %" PRIu64 " bytes without control characters",
		    k->key, k->max);
	case WR_SET_LIST:
		return wr_err_hint(err,
				   "%s is a list a,b,c of at most %" PRIu64
				   " bytes without control characters",
				   k->key, k->max);
	case WR_SET_U64:
		if (k->max)
			return wr_err_hint(err, "%s is a number from %" PRIu64 " to %" PRIu64,
					   k->key, k->min, k->max);
		return wr_err_hint(err, "%s is a number, at least %" PRIu64, k->key, k->min);
	case WR_SET_SIZE:
		wr_buf_adds(&b, "sizes are written 500M, 4G or in bytes");
		break;
	case WR_SET_DURATION:
		wr_buf_adds(&b, "durations are written 90s, 5min, 12h, 30d, 4w, or never");
		break;
	}
	if (k->min)
		wr_buf_addf(&b, "; %s is at least %s", k->key, fmt(k->min).s);
	if (k->max)
		wr_buf_addf(&b, "; %s is at most %s", k->key, fmt(k->max).s);
	return wr_err_hint(err, "%s", wr_buf_str(&b));
}

static int
no_good(const struct wr_set_key *k, const char *value, const char *what, struct wr_err *err)
{
	wr_err_set(err, WR_E_INVALID, "setting '%s': '%s' %s", k->key, WR_Q(value), what);
	return hint_allowed(k, err);
}

static bool
clean_path(const char *s)
{
	size_t n;

	if (*s != '/')
		return false;
	while (*s == '/') {
		n = strcspn(++s, "/");
		if (n == 0 || (n == 1 && s[0] == '.') || (n == 2 && s[0] == '.' && s[1] == '.'))
			return false;
		s += n;
	}
	return true;
}

static bool
env_item(const char *s)
{
	static const char first[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789");

	return strchr(first, *s) && n > 0 && s[n] == '=';
}

bool
wr_cpu_parse(const char *s, uint64_t *out_percent)
{
	size_t digits = strspn(s, "0123456789"), more = 0;
	uint64_t whole = 0, hundredths = 0;
	const char *end = s + digits;

	if (digits == 0 || digits > 6)
		return false;
	for (size_t i = 0; i < digits; i++)
		whole = whole * 10 + (uint64_t)(s[i] - '0');
	if (*end == '%') {
		hundredths = whole;
		end++;
	} else {
		if (*end == '.' && !(more = strspn(++end, "0123456789")))
			return false;
		if (more > 2)
			return false;
		for (size_t i = 0; i < 2; i++)
			hundredths = hundredths * 10 + (i < more ? (uint64_t)(end[i] - '0') : 0);
		hundredths += whole * 100;
		end += more;
	}
	if (*end || hundredths < 1 || hundredths > CPU_PERCENT_MAX)
		return false;
	*out_percent = hundredths;
	return true;
}

static int
check_str(const struct wr_set_key *k, const char *s, struct wr_err *err)
{
	uint64_t percent;

	if (k->max && strlen(s) > k->max)
		return no_good(k, s, "is too long", err);
	if (!wr_text_plain(s, strlen(s), false))
		return no_good(k, s, "is not text without control characters", err);
	if (k->kind == WR_SET_PATH && !clean_path(s))
		return no_good(k, s, "is no absolute, clean path", err);
	if (!strcmp(k->key, "snapshots_link") &&
	    (strchr(s, '/') || !strcmp(s, ".") || !strcmp(s, "..")))
		return no_good(k, s, "is no name of a file in the home", err);
	if (!strcmp(k->key, "cpu_max") && *s && !wr_cpu_parse(s, &percent))
		return no_good(k, s, "is no part of the processors", err);
	return 0;
}

static int
check_item(const struct wr_set_key *k, const char *s, struct wr_err *err)
{
	if (!*s || strchr(s, ',') || !wr_text_plain(s, strlen(s), false))
		return no_good(k, s, "is no item of a list", err);
	if (!strcmp(k->key, "env") && !env_item(s))
		return no_good(k, s, "is not NAME=VALUE", err);
	if (!strcmp(k->key, "env") && !strncmp(s, "WARREN_", 7))
		return no_good(k, s, "has a name that Warren itself sets", err);
	return 0;
}

static int
check_number(const struct wr_set_key *k, uint64_t v, const char *text, struct wr_err *err)
{
	if (v < k->min)
		return no_good(k, text, "is too small", err);
	if (v > largest(k))
		return no_good(k, text, "is too large", err);
	return 0;
}

static int
check_choice(const struct wr_set_key *k, const char *s, struct wr_err *err)
{
	for (const char *const *c = k->choices; *c; c++)
		if (!strcmp(*c, s))
			return 0;
	return no_good(k, s, "is no choice", err);
}

/* A list as typed: JSON, or items with commas between; NULL with err. */
static json_t *
list_of_text(const struct wr_set_key *k, const char *text, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *list = json_array();
	const char *s = text;

	if (strlen(text) > k->max) {
		no_good(k, text, "is too long", err);
		return NULL;
	}
	if (*text == '[') {
		WR_SCOPED(wr_json_freep) json_t *typed = wr_json_parse(text, strlen(text), NULL);

		/* A pattern may begin with '[' too: only what is JSON is JSON. */
		if (json_is_array(typed))
			return wr_steal(&typed);
	}
	for (; *s; s += strcspn(s, ",")) {
		WR_SCOPED(wr_freep) char *item = NULL;

		s += s != text; /* the comma behind the one before */
		item = wr_memdup(s, strcspn(s, ",") + 1);
		item[strcspn(s, ",")] = '\0';
		if (check_item(k, item, err) < 0)
			return NULL;
		wr_json_add_str(list, item);
	}
	return wr_steal(&list);
}

/* The typed value of a text, not yet checked against the bounds; NULL with err. */
static json_t *
value_of_text(const struct wr_set_key *k, const char *text, struct wr_err *err)
{
	uint64_t v = 0;
	bool b = false;
	int rc = 0;

	switch (k->kind) {
	case WR_SET_BOOL:
		rc = wr_parse_bool(text, &b, NULL);
		if (rc < 0)
			no_good(k, text, "is neither yes nor no", err);
		return rc < 0 ? NULL : json_boolean(b);
	case WR_SET_U64:
		rc = wr_parse_u64(text, &v, NULL);
		if (rc < 0)
			no_good(k, text, "is no number", err);
		break;
	case WR_SET_SIZE:
		rc = wr_parse_size(text, &v, NULL);
		if (rc < 0)
			no_good(k, text, "is no size", err);
		break;
	case WR_SET_DURATION:
		rc = wr_parse_duration(text, &v, NULL);
		if (rc < 0)
			no_good(k, text, "is no duration", err);
		break;
	case WR_SET_LIST:
		return list_of_text(k, text, err);
	case WR_SET_STR:
	case WR_SET_PATH:
	case WR_SET_CHOICE:
		if (check_str(k, text, err) < 0)
			return NULL; /* before jansson sees it */
		return json_string(text);
	}
	/* Here, for a JSON integer would not hold it. */
	if (rc < 0 || check_number(k, v, text, err) < 0)
		return NULL;
	return json_integer((json_int_t)v);
}

/* A typed value from a file, or as value_of_text made it. */
static int
check_value(const struct wr_set_key *k, const json_t *v, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	const json_t *item;
	size_t i, bytes = 0;

	wr_json_write(v, &b);
	if (is_number(k)) {
		if (!json_is_integer(v) || json_integer_value(v) < 0)
			return no_good(k, wr_buf_str(&b), "is no number", err);
		return check_number(k, (uint64_t)json_integer_value(v), wr_buf_str(&b), err);
	}
	switch (k->kind) {
	case WR_SET_BOOL:
		return json_is_boolean(v)
			   ? 0
			   : no_good(k, wr_buf_str(&b), "is neither true nor false", err);
	case WR_SET_LIST:
		if (!json_is_array(v))
			return no_good(k, wr_buf_str(&b), "is no list", err);
		json_array_foreach(v, i, item)
		{
			const char *s = json_string_value(item);

			if (!s)
				return no_good(k, wr_buf_str(&b), "is no list of texts", err);
			if (check_item(k, s, err) < 0)
				return -1;
			bytes += strlen(s) + 1;
		}
		return bytes > k->max + 1 ? no_good(k, wr_buf_str(&b), "is too long", err) : 0;
	default:
		if (!json_is_string(v))
			return no_good(k, wr_buf_str(&b), "is no text", err);
		if (k->kind == WR_SET_CHOICE)
			return check_choice(k, json_string_value(v), err);
		return check_str(k, json_string_value(v), err);
	}
}

static json_t *
fallback_value(const struct wr_set_key *k)
{
	json_t *v;

	if (!k->fallback)
		return k->kind == WR_SET_LIST ? json_array() : json_string("");
	v = value_of_text(k, k->fallback, NULL);
	wr_assert(v); /* the table is right */
	return v;
}

/* ---- effective values ---- */

static const struct wr_set_key *
key_of(const char *key)
{
	const struct wr_set_key *k = wr_set_key_find(key);

	wr_assert(k);
	return k;
}

const char *
wr_settings_str(const struct wr_settings *s, const char *key)
{
	const struct wr_set_key *k = key_of(key);
	const char *v = json_string_value(json_object_get(s->set, key));

	wr_assert(k->kind == WR_SET_STR || k->kind == WR_SET_PATH || k->kind == WR_SET_CHOICE);
	if (v)
		return v;
	return k->fallback ? k->fallback : "";
}

uint64_t
wr_settings_u64(const struct wr_settings *s, const char *key)
{
	const struct wr_set_key *k = key_of(key);
	WR_SCOPED(wr_json_freep) json_t *otherwise = NULL;
	const json_t *v = json_object_get(s->set, key);

	wr_assert(is_number(k));
	if (!v)
		v = otherwise = fallback_value(k);
	return (uint64_t)json_integer_value(v);
}

bool
wr_settings_bool(const struct wr_settings *s, const char *key)
{
	const struct wr_set_key *k = key_of(key);
	const json_t *v = json_object_get(s->set, key);
	bool b = false;

	wr_assert(k->kind == WR_SET_BOOL);
	if (v)
		return json_is_true(v);
	(void)wr_parse_bool(k->fallback, &b, NULL); /* the table is right */
	return b;
}

uint64_t
wr_repo_quota(const struct wr_settings *s)
{
	uint64_t factor = wr_settings_u64(s, "repo_quota_factor"),
		 disk = wr_settings_u64(s, "disk");

	return factor && disk > UINT64_MAX / factor ? 0 : factor * disk;
}

size_t
wr_settings_list(const struct wr_settings *s, const char *key, const char *const **out)
{
	const struct wr_set_key *k = key_of(key);
	const json_t *v = json_object_get(s->set, key), *item;
	size_t i, n = json_array_size(v);
	const char **list;

	wr_assert(k->kind == WR_SET_LIST && !k->fallback);
	list = wr_calloc(n + 1, sizeof(*list));
	json_array_foreach(v, i, item) list[i] = json_string_value(item);
	*out = list;
	return n;
}

char *
wr_settings_home(const struct wr_settings *s, const char *root_prefix)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	const char *p = wr_settings_str(s, "home");

	if (!json_object_get(s->set, "home"))
		wr_buf_adds(&b, root_prefix);
	while (*p) {
		if (!strncmp(p, "{name}", 6)) {
			wr_buf_adds(&b, s->name);
			p += 6;
		} else if (!strncmp(p, "{id}", 4)) {
			wr_buf_adds(&b, s->id.s);
			p += 4;
		} else {
			wr_buf_add8(&b, (uint8_t)*p++);
		}
	}
	return wr_buf_detach(&b, NULL);
}

/* ---- changes ---- */

static int
unknown(const char *key, struct wr_err *err)
{
	const char *names[WR_ARRAY_LEN(wr_set_keys) + 1], *near;
	size_t n = 0;

	for (const struct wr_set_key *k = wr_set_keys; k->key; k++)
		names[n++] = k->key;
	names[n++] = "name";
	names[n] = NULL;
	near = wr_near(key, names);
	wr_err_set(err, WR_E_INVALID, "unknown setting '%s'", WR_Q(key));
	if (near)
		return wr_err_hint(err, "did you mean '%s'?", near);
	return wr_err_hint(err,
			   "'warren settings ID' lists all of them; labels are label.KEY=VALUE");
}

static int
operators_only(const char *what, struct wr_err *err)
{
	return wr_err_set(err, WR_E_DENIED, "setting '%s' is changed by operators only", what);
}

static int
change_label(struct wr_settings *s, const char *key, const char *value, bool *out_differs,
	     struct wr_err *err)
{
	const char *plain = !strcmp(value, "\"\"") ? "" : value;
	bool found;

	if (wr_label_check(key, plain, err) < 0)
		return -1;
	(void)label_at(s, key, &found);
	if (*value && !found && s->label_count >= LABELS_MAX)
		return wr_err_set(err, WR_E_LIMIT, "label '%s': a project has at most %d labels",
				  key, LABELS_MAX);
	*out_differs = put_label(s, key, *value ? plain : NULL);
	return 0;
}

static int
change_name(struct wr_settings *s, const char *value, bool *out_differs, struct wr_err *err)
{
	if (wr_name_check(value, err) < 0)
		return wr_err_wrap(err, "setting 'name'");
	*out_differs = strcmp(s->name, value) != 0;
	memcpy(s->name, value, strlen(value) + 1);
	return 0;
}

static int
change_key(struct wr_settings *s, const struct wr_set_key *k, const char *value, bool *out_differs,
	   struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *usual = fallback_value(k);
	WR_SCOPED(wr_json_freep) json_t *v = NULL;
	const json_t *old = json_object_get(s->set, k->key);

	if (!*value)
		v = json_incref(usual);
	else
		v = value_of_text(k, strcmp(value, "\"\"") ? value : "", err);
	/* Without a default, "" stands for none, also where that is no value by itself. */
	if (!v || (!json_equal(v, usual) && check_value(k, v, err) < 0))
		return -1;
	*out_differs = !json_equal(v, old ? old : usual);
	if (json_equal(v, usual))
		(void)json_object_del(s->set, k->key); /* -1: it was not there */
	else
		wr_json_take(s->set, k->key, wr_steal(&v));
	return 0;
}

int
wr_settings_change(struct wr_settings *s, const char *assignment, bool by_user, bool created,
		   struct wr_err *err)
{
	const char *value = strchr(assignment, '=');
	WR_SCOPED(wr_freep) char *key = NULL;
	const struct wr_set_key *k;
	bool differs = false;
	int rc;

	if (!value) {
		wr_err_set(err, WR_E_INVALID, "'%s' is no assignment", WR_Q(assignment));
		return wr_err_hint(err,
				   "settings are written KEY=VALUE; KEY= takes the default back");
	}
	key = wr_memdup(assignment, (size_t)(value - assignment) + 1);
	key[value++ - assignment] = '\0';
	if (!s->set)
		s->set = json_object();
	if (!strncmp(key, "label.", 6) || !strcmp(key, "name")) {
		if (by_user)
			return operators_only(*key == 'n' ? "name" : "label", err);
		rc = *key == 'n' ? change_name(s, value, &differs, err)
				 : change_label(s, key + 6, value, &differs, err);
	} else {
		k = wr_set_key_find(key);
		if (!k)
			return unknown(key, err);
		if (by_user && !k->by_user)
			return operators_only(k->key, err);
		if (k->fixed && !created)
			return wr_err_set(err, WR_E_INVALID,
					  "setting '%s' is decided when a project is created",
					  k->key);
		rc = change_key(s, k, value, &differs, err);
	}
	if (rc == 0 && differs && !created)
		s->rev++;
	return rc;
}

/* ---- identity ---- */

static const char *const identities[WR_IDENTITY_COUNT] = {
    [WR_IDENTITY_RANGE] = "range",
    [WR_IDENTITY_NSS] = "nss",
    [WR_IDENTITY_FIXED] = "fixed",
    [WR_IDENTITY_DERIVED] = "derived",
};

const char *
wr_identity_name(enum wr_identity i)
{
	wr_assert(i < WR_IDENTITY_COUNT);
	return identities[i];
}

enum wr_identity
wr_identity_parse(const char *name)
{
	enum wr_identity i = WR_IDENTITY_RANGE;

	while (i < WR_IDENTITY_COUNT && strcmp(name, identities[i]) != 0)
		i++;
	return i;
}

/* ---- conf/settings.json ---- */

json_t *
wr_settings_json(const struct wr_settings *s)
{
	json_t *o = json_object(), *labels;

	wr_json_u64(o, "format", 1);
	wr_json_str(o, "id", s->id.s);
	wr_json_str(o, "name", s->name);
	wr_json_u64(o, "rev", s->rev);
	wr_json_u64(o, "epoch", s->epoch);
	wr_json_u64(o, "uid", s->uid);
	wr_json_u64(o, "gid", s->gid);
	wr_json_bool(o, "exclusive", s->exclusive);
	wr_json_str(o, "account", s->account);
	wr_json_str(o, "identity", wr_identity_name(s->identity));
	wr_json_time(o, "created", s->created);
	labels = wr_json_object(o, "labels");
	for (size_t i = 0; i < s->label_count; i++)
		wr_json_str(labels, s->label[i].key, s->label[i].value);
	wr_json_take(o, "settings", s->set ? json_deep_copy(s->set) : json_object());
	return o;
}

static int
bad_member(const char *key, struct wr_err *err)
{
	return wr_err_set(err, WR_E_CORRUPT, "settings: member '%s' is missing or malformed", key);
}

static int
parse_numbers(const json_t *o, struct wr_settings *s, struct wr_err *err)
{
	uint64_t uid = wr_json_get_u64(o, "uid", UINT64_MAX),
		 gid = wr_json_get_u64(o, "gid", UINT64_MAX);

	s->rev = wr_json_get_u64(o, "rev", 0);
	s->epoch = wr_json_get_u64(o, "epoch", 0);
	if (!s->rev)
		return bad_member("rev", err);
	if (!s->epoch)
		return bad_member("epoch", err);
	/* (uid_t)-1 means "no change" to the kernel. */
	if (uid >= UINT32_MAX)
		return bad_member("uid", err);
	if (gid >= UINT32_MAX)
		return bad_member("gid", err);
	s->uid = (uint32_t)uid;
	s->gid = (uint32_t)gid;
	if (!json_is_boolean(json_object_get(o, "exclusive")))
		return bad_member("exclusive", err);
	s->exclusive = wr_json_get_bool(o, "exclusive", false);
	if (wr_parse_utc(wr_json_get_str(o, "created", ""), &s->created, NULL) < 0 ||
	    s->created < 0)
		return bad_member("created", err);
	return 0;
}

static int
parse_texts(const json_t *o, struct wr_settings *s, struct wr_err *err)
{
	const char *name = wr_json_get_str(o, "name", ""),
		   *account = wr_json_get_str(o, "account", "");

	if (!wr_uuid_parse(wr_json_get_str(o, "id", ""), &s->id))
		return bad_member("id", err);
	if (wr_name_check(name, NULL) < 0)
		return bad_member("name", err);
	/* An account may have been made by others, with names by their rules. */
	if (strlen(account) >= sizeof(s->account) || account[strcspn(account, ":/\n")] ||
	    !wr_text_plain(account, strlen(account), false))
		return bad_member("account", err);
	memcpy(s->name, name, strlen(name) + 1);
	memcpy(s->account, account, strlen(account) + 1);
	/* Releases before this member knew no other. */
	s->identity = wr_identity_parse(wr_json_get_str(o, "identity", "range"));
	if (s->identity == WR_IDENTITY_COUNT)
		return bad_member("identity", err);
	return 0;
}

static int
parse_maps(json_t *labels, json_t *set, struct wr_settings *s, struct wr_err *err)
{
	const char *key;
	size_t foreign = 0;
	json_t *v;

	if (!labels || json_object_size(labels) > LABELS_MAX)
		return bad_member("labels", err);
	if (!set)
		return bad_member("settings", err);
	json_object_foreach(labels, key, v)
	{
		if (!json_is_string(v) || wr_label_check(key, json_string_value(v), NULL) < 0)
			return bad_member("labels", err);
		(void)put_label(s, key, json_string_value(v));
	}
	json_object_foreach(set, key, v)
	{
		const struct wr_set_key *k = wr_set_key_find(key);

		/* A key that this release does not know is kept as it is. */
		if (!k && ++foreign > FOREIGN_MAX)
			return bad_member("settings", err);
		if (k && check_value(k, v, err) < 0) {
			wr_err_hint(err, "%s", "");
			return wr_err_recode(err, WR_E_CORRUPT);
		}
	}
	s->set = json_deep_copy(set);
	return 0;
}

int
wr_settings_parse(const json_t *o, struct wr_settings *out, struct wr_err *err)
{
	WR_SCOPED(wr_settings_fini) struct wr_settings s = {0};
	uint64_t format = wr_json_get_u64(o, "format", 0);

	if (!format)
		return bad_member("format", err);
	if (format > 1)
		return wr_err_set(err, WR_E_UNSUPPORTED,
				  "settings have format %" PRIu64 ", this program reads up to 1",
				  format);
	if (parse_texts(o, &s, err) < 0 || parse_numbers(o, &s, err) < 0 ||
	    parse_maps(wr_json_get_obj(o, "labels"), wr_json_get_obj(o, "settings"), &s, err) < 0)
		return -1;
	*out = s;
	s = (struct wr_settings){0};
	return 0;
}

/* ---- show ---- */

static void
add_text(json_t *o, const struct wr_set_key *k, const json_t *v)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	const json_t *item;
	size_t i;

	switch (k->kind) {
	case WR_SET_BOOL:
		wr_buf_adds(&b, json_is_true(v) ? "yes" : "no");
		break;
	case WR_SET_U64:
		wr_buf_addf(&b, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
		break;
	case WR_SET_SIZE:
		wr_buf_adds(&b, wr_fmt_size((uint64_t)json_integer_value(v)).s);
		break;
	case WR_SET_DURATION:
		wr_buf_adds(&b, json_integer_value(v)
				    ? wr_fmt_duration((uint64_t)json_integer_value(v)).s
				    : "never");
		break;
	case WR_SET_LIST:
		json_array_foreach(v, i, item)
		    wr_buf_addf(&b, "%s%s", i ? "," : "", json_string_value(item));
		break;
	case WR_SET_STR:
	case WR_SET_PATH:
	case WR_SET_CHOICE:
		wr_buf_adds(&b, json_string_value(v));
		break;
	}
	wr_json_str(o, "text", wr_buf_str(&b));
}

json_t *
wr_settings_show(const struct wr_settings *s)
{
	json_t *all = json_object();

	for (const struct wr_set_key *k = wr_set_keys; k->key; k++) {
		json_t *o = wr_json_object(all, k->key), *v = json_object_get(s->set, k->key);

		wr_json_take(o, "value", v ? json_deep_copy(v) : fallback_value(k));
		add_text(o, k, json_object_get(o, "value"));
		wr_json_bool(o, "default", !v);
		wr_json_bool(o, "by_user", k->by_user);
		wr_json_bool(o, "at_start", k->at_start);
		wr_json_bool(o, "fixed", k->fixed);
		wr_json_str(o, "help", k->help);
	}
	return all;
}

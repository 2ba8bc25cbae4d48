/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/options.h"

#include "base/str.h"
#include "model/text.h"

struct wr_optval {
	const struct wr_opt *opt;
	const char **text; /* every value given, in order */
	size_t count, cap;
	uint64_t num; /* of the last one: number, or position in choices */
};

#define JSON_OPT                                                \
	{                                                       \
		.name = "json", .kind = WR_OPT_FLAG,            \
		.help = "print one JSON object instead of text" \
	}

#define QUIET_OPT                                                      \
	{                                                              \
		.name = "quiet", .letter = 'q', .kind = WR_OPT_FLAG,   \
		.help = "print no receipt, no remarks and no progress" \
	}
#define NO_PROGRESS_OPT                                       \
	{                                                     \
		.name = "no-progress", .kind = WR_OPT_FLAG,   \
		.help = "draw no progress line on a terminal" \
	}

static const struct wr_opt repo_opts[] = {
    {.name = "repo",
     .letter = 'r',
     .kind = WR_OPT_STR,
     .value = "REPO",
     .help = "the repository; without it $WARREN_REPO says which",
     .complete = WR_COMPLETE_DIR},
    JSON_OPT,
    QUIET_OPT,
    NO_PROGRESS_OPT,
    {0},
};

static const struct wr_opt json_opts[] = {JSON_OPT, {0}};

#define ROOT_OPT                                                                                 \
	{                                                                                        \
		.name = "root", .kind = WR_OPT_STR, .value = "DIR", .complete = WR_COMPLETE_DIR, \
		.help = "the node whose data root is DIR (default: $WARREN_ROOT, else the "      \
			"system's)"                                                              \
	}

static const struct wr_opt node_opts[] = {ROOT_OPT, QUIET_OPT, {0}};

static const struct wr_opt client_opts[] = {
    ROOT_OPT,
    {.name = "socket",
     .kind = WR_OPT_STR,
     .value = "PATH",
     .help = "the daemon's socket (default: $WARREN_SOCKET, $WARREN_URL, else that of the root)",
     .complete = WR_COMPLETE_FILE},
    QUIET_OPT,
    NO_PROGRESS_OPT,
    {0},
};

static const struct wr_opt no_wait_opts[] = {
    {.name = "no-wait",
     .kind = WR_OPT_FLAG,
     .help = "print the operation and do not wait for its end"},
    {0},
};

static const struct wr_opt help_opts[] = {
    {.name = "help", .letter = 'h', .kind = WR_OPT_FLAG, .help = "show this help"},
    {0},
};

const struct wr_opt *
wr_cmd_opt(const struct wr_cmd *cmd, size_t i)
{
	const struct wr_opt *lists[] = {
	    cmd->opts,
	    cmd->flags & WR_CMD_REPO ? repo_opts : NULL,
	    cmd->flags & WR_CMD_NO_WAIT ? no_wait_opts : NULL,
	    cmd->flags & WR_CMD_NODE ? node_opts : NULL,
	    cmd->flags & WR_CMD_CLIENT ? client_opts : NULL,
	    cmd->flags & WR_CMD_JSON ? json_opts : NULL,
	    help_opts,
	};

	for (size_t l = 0; l < WR_ARRAY_LEN(lists); l++)
		for (const struct wr_opt *o = lists[l]; o && o->kind; o++)
			if (i-- == 0)
				return o;
	return NULL;
}

char *
wr_cmd_man_name(const struct wr_cmd *cmd)
{
	char *s = wr_asprintf("warren%s%s", *cmd->path ? "-" : "", cmd->path);

	for (char *p = s; *p; p++)
		if (*p == ' ')
			*p = '-';
	return s;
}

char *
wr_cmd_synopsis(const struct wr_cmd *cmd)
{
	struct wr_buf b = WR_BUF_INIT;
	size_t open = 0;

	wr_buf_adds(&b, cmd->flags & WR_CMD_GROUP ? "COMMAND [OPTION]..." : "[OPTION]...");
	for (size_t i = 0; i < WR_POS_MAX && cmd->pos[i].name; i++) {
		const struct wr_pos *p = &cmd->pos[i];

		if (p->lead) {
			wr_buf_addf(&b, " [%s]", p->name);
			continue;
		}
		wr_buf_addf(&b, " %s%s%s", p->optional ? "[" : "", p->name, p->repeat ? "..." : "");
		open += p->optional;
	}
	while (open--)
		wr_buf_add8(&b, ']');
	return wr_buf_detach(&b, NULL);
}

/* ---- parsing ---- */

static int
hint_help(const struct wr_cmd *cmd, struct wr_err *err)
{
	return wr_err_hint(err, "see 'warren %s --help'", cmd->path);
}

static int
unknown_option(const struct wr_cmd *cmd, const char *name, size_t len, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *word = wr_malloc(len + 1);
	WR_SCOPED(wr_freep) const char **names = NULL;
	const char *near;
	size_t n = 0;

	memcpy(word, name, len);
	word[len] = '\0';
	while (wr_cmd_opt(cmd, n))
		n++;
	names = wr_calloc(n + 1, sizeof(*names));
	for (size_t i = 0; i < n; i++)
		names[i] = wr_cmd_opt(cmd, i)->name;
	near = wr_near(word, names);
	wr_err_set(err, WR_E_USAGE, "unknown option '--%s'", WR_Q(word));
	if (near)
		return wr_err_hint(err, "did you mean '--%s'?", near);
	return hint_help(cmd, err);
}

/* How the user wrote it, for messages. */
static struct wr_short
shown(const struct wr_opt *o)
{
	struct wr_short s;

	if (o->letter)
		snprintf(s.s, sizeof(s.s), "-%c, --%s", o->letter, o->name);
	else
		snprintf(s.s, sizeof(s.s), "--%s", o->name);
	return s;
}

static int
choice_value(struct wr_optval *v, const char *text, struct wr_err *err)
{
	struct wr_buf all = WR_BUF_INIT;

	for (size_t i = 0; v->opt->choices[i]; i++) {
		if (!strcmp(v->opt->choices[i], text)) {
			v->num = i;
			wr_buf_fini(&all);
			return 0;
		}
		wr_buf_addf(&all, "%s%s", i ? ", " : "", v->opt->choices[i]);
	}
	wr_err_set(err, WR_E_USAGE, "option '--%s': '%s' is none of its values", v->opt->name,
		   WR_Q(text));
	wr_err_hint(err, "give one of: %s", wr_buf_str(&all));
	wr_buf_fini(&all);
	return -1;
}

static int
number_value(struct wr_optval *v, const char *text, struct wr_err *err)
{
	const struct wr_opt *o = v->opt;
	uint64_t max = o->kind == WR_OPT_TIME ? INT64_MAX : o->max ? o->max : UINT64_MAX;
	uint64_t num;
	int rc;

	if (o->kind == WR_OPT_SIZE)
		rc = wr_parse_size(text, &num, err);
	else if (o->kind == WR_OPT_DURATION)
		rc = wr_parse_duration(text, &num, err);
	else if (o->kind == WR_OPT_DECIMAL)
		rc = wr_parse_decimal(text, &num, err);
	else
		rc = wr_parse_u64(text, &num, err);
	if (rc < 0) {
		wr_err_wrap(err, "option '%s'", shown(o).s);
		if (o->kind == WR_OPT_TIME)
			wr_err_hint(err, "give whole seconds since 1970-01-01 00:00 UTC, as "
					 "'date +%%s' prints them");
		return wr_err_recode(err, WR_E_USAGE);
	}
	if (num < o->min || num > max) {
		const uint64_t unit = o->kind == WR_OPT_DECIMAL ? 1000 : 1;

		wr_err_set(err, WR_E_USAGE, "option '%s': %s is out of range", shown(o).s,
			   WR_Q(text));
		return wr_err_hint(err, "give a number from %" PRIu64 " to %" PRIu64, o->min / unit,
				   max / unit);
	}
	v->num = num;
	return 0;
}

static int
add_value(struct wr_optval *v, const char *text, struct wr_err *err)
{
	switch (v->opt->kind) {
	case WR_OPT_SIZE:
	case WR_OPT_U64:
	case WR_OPT_DECIMAL:
	case WR_OPT_TIME:
	case WR_OPT_DURATION:
		if (number_value(v, text, err) < 0)
			return -1;
		break;
	case WR_OPT_CHOICE:
		if (choice_value(v, text, err) < 0)
			return -1;
		break;
	default:
		break;
	}
	wr_grow(&v->text, &v->cap, v->count + 1, sizeof(*v->text));
	v->text[v->count++] = text;
	return 0;
}

static int
missing_value(const struct wr_cmd *cmd, const struct wr_opt *o, struct wr_err *err)
{
	wr_err_set(err, WR_E_USAGE, "option '%s' needs a value: %s", shown(o).s, o->value);
	return hint_help(cmd, err);
}

/* "--name", "--name=value", "--name value"; *at moves past a value that stands apart. */
static int
parse_long(struct wr_args *a, int argc, char **argv, int *at, struct wr_err *err)
{
	const char *name = argv[*at] + 2, *eq = strchr(name, '=');
	size_t len = eq ? (size_t)(eq - name) : strlen(name);

	for (size_t i = 0; i < a->val_count; i++) {
		struct wr_optval *v = &a->val[i];

		if (strlen(v->opt->name) != len || memcmp(v->opt->name, name, len) != 0)
			continue;
		if (v->opt->kind == WR_OPT_FLAG) {
			if (!eq)
				return add_value(v, "", err);
			wr_err_set(err, WR_E_USAGE, "option '--%s' takes no value", v->opt->name);
			return hint_help(a->cmd, err);
		}
		if (eq)
			return add_value(v, eq + 1, err);
		if (*at + 1 >= argc)
			return missing_value(a->cmd, v->opt, err);
		return add_value(v, argv[++*at], err);
	}
	return unknown_option(a->cmd, name, len, err);
}

/* "-x", "-xyz" for flags, "-nVALUE", "-n VALUE". */
static int
parse_short(struct wr_args *a, int argc, char **argv, int *at, struct wr_err *err)
{
	for (const char *p = argv[*at] + 1; *p; p++) {
		struct wr_optval *v = NULL;

		for (size_t i = 0; i < a->val_count && !v; i++)
			if (a->val[i].opt->letter == *p)
				v = &a->val[i];
		if (!v) {
			size_t n = wr_utf8_len((const uint8_t *)p, strlen(p));

			wr_err_set(err, WR_E_USAGE, "unknown option '-%s'",
				   wr_quote(p, n ? n : 1).s);
			if (*p == '-' || (*p >= '0' && *p <= '9'))
				return wr_err_hint(err, "put -- in front of arguments that begin "
							"with a dash");
			return hint_help(a->cmd, err);
		}
		if (v->opt->kind == WR_OPT_FLAG) {
			if (add_value(v, "", err) < 0)
				return -1;
			continue;
		}
		if (p[1])
			return add_value(v, p + 1, err);
		if (*at + 1 >= argc)
			return missing_value(a->cmd, v->opt, err);
		return add_value(v, argv[++*at], err);
	}
	return 0;
}

static int
check_positionals(const struct wr_args *a, struct wr_err *err)
{
	const struct wr_pos *pos = a->cmd->pos;
	size_t need = 0, max = 0;
	bool endless = false, given = true;

	for (size_t i = 0; i < WR_POS_MAX && pos[i].name; i++) {
		max++;
		endless |= pos[i].repeat;
		if (pos[i].lead)
			continue;
		/* [NAME SNAP]: who gives a NAME gives a SNAP too. */
		given = given && !(pos[i].optional && a->pos_count <= i);
		need += given;
	}
	if (a->pos_count < need) {
		wr_err_set(err, WR_E_USAGE, "argument %s is missing",
			   pos[a->pos_count + pos[0].lead].name);
		return hint_help(a->cmd, err);
	}
	if (a->pos_count > max && !endless) {
		wr_err_set(err, WR_E_USAGE, "unexpected argument '%s'", WR_Q(a->pos[max]));
		return hint_help(a->cmd, err);
	}
	return 0;
}

int
wr_args_parse(struct wr_args *a, const struct wr_cmd *cmd, int argc, char **argv,
	      struct wr_err *err)
{
	bool literal = false;
	size_t n = 0;

	*a = (struct wr_args){.cmd = cmd};
	while (wr_cmd_opt(cmd, n))
		n++;
	a->val = wr_calloc(n, sizeof(*a->val));
	a->val_count = n;
	for (size_t i = 0; i < n; i++)
		a->val[i].opt = wr_cmd_opt(cmd, i);
	a->pos = wr_calloc((size_t)argc + 1, sizeof(*a->pos));

	for (int i = 0; i < argc; i++) {
		const char *s = argv[i];
		int rc;

		if (literal || s[0] != '-' || !s[1]) {
			a->pos[a->pos_count++] = s;
			continue;
		}
		if (!strcmp(s, "--")) {
			literal = true;
			continue;
		}
		if (s[1] == '-')
			rc = parse_long(a, argc, argv, &i, err);
		else
			rc = parse_short(a, argc, argv, &i, err);
		if (rc < 0)
			goto fail;
		if (wr_arg_flag(a, "help"))
			return 0;
	}
	if (check_positionals(a, err) < 0)
		goto fail;
	return 0;
fail:
	wr_args_fini(a);
	return -1;
}

void
wr_args_fini(struct wr_args *a)
{
	for (size_t i = 0; i < a->val_count; i++)
		free(a->val[i].text);
	free(a->val);
	free(a->pos);
	*a = (struct wr_args){0};
}

/* ---- look-ups ---- */

static const struct wr_optval *
value(const struct wr_args *a, const char *name)
{
	for (size_t i = 0; i < a->val_count; i++)
		if (!strcmp(a->val[i].opt->name, name))
			return &a->val[i];
	wr_assert_fail("option declared by the command", __FILE__, __LINE__);
}

bool
wr_arg_flag(const struct wr_args *a, const char *name)
{
	return value(a, name)->count > 0;
}

const char *
wr_arg_str(const struct wr_args *a, const char *name)
{
	const struct wr_optval *v = value(a, name);

	return v->count ? v->text[v->count - 1] : NULL;
}

size_t
wr_arg_list(const struct wr_args *a, const char *name, const char *const **out)
{
	const struct wr_optval *v = value(a, name);

	*out = v->text;
	return v->count;
}

uint64_t
wr_arg_u64(const struct wr_args *a, const char *name, uint64_t otherwise)
{
	const struct wr_optval *v = value(a, name);

	return v->count ? v->num : otherwise;
}

int
wr_arg_choice(const struct wr_args *a, const char *name, int otherwise)
{
	const struct wr_optval *v = value(a, name);

	return v->count ? (int)v->num : otherwise;
}

const char *
wr_arg_repo(const struct wr_args *a, struct wr_err *err)
{
	const char *env = getenv("WARREN_REPO");

	for (size_t i = 0; i < WR_POS_MAX && a->cmd->pos[i].name && i < a->pos_count; i++)
		if (!strcmp(a->cmd->pos[i].name, "REPO"))
			return a->pos[i];
	if (wr_arg_str(a, "repo"))
		return wr_arg_str(a, "repo");
	if (env && *env)
		return env;
	wr_err_set(err, WR_E_USAGE, "no repository given");
	wr_err_hint(err, "name it with -r REPO or in $WARREN_REPO");
	return NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* warren list, show, status, top: looking at projects. */
#include <time.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/copies.h"
#include "cli/follow.h"
#include "cli/out.h"
#include "cli/project.h"
#include "model/state.h"

static void
add_text(struct wr_table *t, const json_t *o, const char *key)
{
	const char *s = wr_json_get_str(o, key, "-");

	wr_table_add_name(t, s, strlen(s));
}

static enum wr_color
state_color(const char *state)
{
	switch (wr_state_parse(state)) {
	case WR_ST_RUNNING:
		return WR_GREEN;
	case WR_ST_ERROR:
		return WR_RED;
	case WR_ST_STARTING:
	case WR_ST_RESTARTING:
	case WR_ST_STOPPING:
	case WR_ST_SAVING:
		return WR_BLUE;
	default:
		return WR_PLAIN;
	}
}

static void
add_colored(struct wr_table *t, enum wr_color color, const char *text)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	wr_buf_adds(&b, wr_color(color));
	wr_name_add(&b, text, strlen(text));
	wr_buf_adds(&b, wr_color(WR_PLAIN));
	wr_table_add(t, wr_buf_str(&b));
}

/* A member of a project's own state, which stands in it as an object. */
static const char *
state_of(const json_t *p)
{
	return wr_json_get_str(wr_json_get_obj(p, "state"), "state", "?");
}

/* ---- list ---- */

/* Is any of them on more than this node? */
static bool
any_elsewhere(const json_t *list)
{
	const json_t *p;
	size_t i;

	json_array_foreach(list, i, p)
	{
		const json_t *s = wr_json_get_obj(p, "safe");

		if (wr_json_get_obj(p, "writer") && (!s || wr_json_get_u64(s, "of", 0) > 1))
			return true;
	}
	return false;
}

static void
list_table(const json_t *list)
{
	static const char *const heads[] = {"NAME", "STATE", "SAVED", "FILES", "SIZE", "ID"};
	static const char *const more[] = {"NAME", "STATE", "SAVED", "SAFE", "FILES", "SIZE", "ID"};
	bool safe = any_elsewhere(list);
	const json_t *p;
	struct wr_table t;
	size_t i;

	wr_table_init(&t, safe ? "llllrrl" : "lllrrl",
		      !wr_out_tty() || !json_array_size(list) ? NULL
		      : safe                                  ? more
							      : heads);
	json_array_foreach(list, i, p)
	{
		const json_t *save = wr_json_get_obj(p, "last_save");
		WR_SCOPED(wr_buf_fini) struct wr_buf text = WR_BUF_INIT;

		add_text(&t, p, "name");
		add_colored(&t, state_color(state_of(p)), state_of(p));
		wr_table_add(&t, wr_when_text(wr_json_get_time(save, "ended", 0)).s);
		if (safe) {
			wr_copies_safe_text(p, &text);
			wr_table_add_name(&t, wr_buf_str(&text), text.len);
		}
		wr_table_add(&t, wr_fmt_count(wr_json_get_u64(p, "files", 0)).s);
		wr_table_add(&t, wr_fmt_bytes(wr_json_get_u64(p, "bytes", 0)).s);
		add_text(&t, p, "id");
	}
	wr_table_print(&t);
	wr_table_fini(&t);
	if (!json_array_size(list))
		wr_remark("no such projects; 'warren create' makes one");
}

int
wr_cmd_list(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_client_fini) struct wr_client c = {0};
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	const char *const *labels;
	size_t n = wr_arg_list(a, "label", &labels);

	if (wr_client_init(&c, a, err) < 0)
		return -1;
	wr_ask_init(&r, WR_API_LIST, NULL);
	wr_ask_list(&r, "label", labels, n);
	wr_ask_str(&r, "state", wr_arg_str(a, "state"));
	wr_ask_str(&r, "name", wr_arg_str(a, "name"));
	wr_ask_flag(&r, "trashed", wr_arg_flag(a, "trashed"));
	if (wr_client_ask(&c, &r, NULL, &o, err) < 0)
		return -1;
	if (wr_out_json())
		return wr_json_print(wr_steal(&o), err);
	list_table(wr_json_get_arr(o, "projects"));
	return 0;
}

/* ---- show ---- */

static void
row(struct wr_table *t, const char *what, const char *text)
{
	if (!text || !*text)
		return;
	wr_table_addf(t, "%s%s%s", wr_color(WR_DIM), what, wr_color(WR_PLAIN));
	wr_table_add_name(t, text, strlen(text));
}

static void
state_text(const json_t *s, struct wr_buf *b)
{
	const char *step = wr_json_get_str(s, "step", "");
	const json_t *e = wr_json_get_obj(s, "error");

	wr_buf_adds(b, wr_json_get_str(s, "state", "?"));
	if (*step)
		wr_buf_addf(b, ", %s", step);
	wr_buf_addf(b, " since %s", wr_when_text(wr_json_get_time(s, "when", 0)).s);
	if (e)
		wr_buf_addf(b, ": %s", wr_json_get_str(e, "message", "?"));
}

static void
labels_text(const json_t *p, struct wr_buf *b)
{
	json_t *labels = wr_json_get_obj(p, "labels");
	const char *key;
	json_t *value;

	json_object_foreach(labels, key, value)
	    wr_buf_addf(b, "%s%s=%s", b->len ? " " : "", key, json_string_value(value));
}

static void
holders_text(const json_t *p, struct wr_buf *b)
{
	const json_t *list = wr_json_get_arr(p, "holders"), *h;
	size_t i;

	json_array_foreach(list, i, h)
	    wr_buf_addf(b, "%s%s since %s", i ? ", " : "", wr_json_get_str(h, "name", "?"),
			wr_when_text(wr_json_get_time(h, "since", 0)).s);
}

static void
save_text(const json_t *p, struct wr_buf *b)
{
	const json_t *s = wr_json_get_obj(p, "last_save");
	const char *snapshot = wr_json_get_str(s, "snapshot", "");

	if (!s || !wr_json_get_time(s, "ended", 0)) {
		wr_buf_adds(b, "never");
		return;
	}
	wr_buf_adds(b, wr_when_text(wr_json_get_time(s, "ended", 0)).s);
	if (!wr_json_get_bool(s, "ok", true))
		wr_buf_adds(b, ", failed");
	if (*snapshot)
		wr_buf_addf(b, ", %s", snapshot);
}

/* Settings that differ from the defaults. */
static void
settings_rows(struct wr_table *t, const json_t *p)
{
	json_t *all = wr_json_get_obj(p, "settings");
	const char *key;
	json_t *v;

	json_object_foreach(all, key, v) if (!wr_json_get_bool(v, "default", true))
	    row(t, key, wr_json_get_str(v, "text", ""));
}

static void
identity_text(const json_t *p, char *out, size_t size)
{
	const char *account = wr_json_get_str(p, "account", NULL),
		   *how = wr_json_get_str(p, "accounts", "none"),
		   *driver = wr_json_get_str(p, "identity", "unknown");

	if (!account)
		snprintf(out, size, "%s", driver);
	else if (!strcmp(driver, "nss") || !strcmp(how, "none"))
		snprintf(out, size, "%s, account %s", driver, account);
	else
		snprintf(out, size, "%s, account %s (%s)", driver, account, how);
}

/* What keeps the limits, or that nothing does. */
static void
limits_row(struct wr_table *t, const json_t *p)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	const json_t *l = wr_json_get_obj(p, "limits");
	const char *driver = wr_json_get_str(l, "driver", "none");
	const char *why = wr_json_get_str(l, "why", NULL);
	const char *grace = wr_json_get_str(l, "grace", NULL);

	if (!wr_json_get_bool(l, "bytes", false)) {
		wr_buf_addf(&b, "%s, nothing is enforced%s%s", driver, why ? ": " : "",
			    why ? why : "");
		row(t, "limits", wr_buf_str(&b));
		return;
	}
	wr_buf_addf(&b, "%s: bytes%s%s", driver,
		    wr_json_get_bool(l, "inodes", false) ? ", files" : "",
		    wr_json_get_bool(l, "tamperproof", false) ? ", tamperproof" : "");
	if (json_is_integer(json_object_get(l, "used")))
		wr_buf_addf(&b, "; %s used", wr_fmt_bytes(wr_json_get_u64(l, "used", 0)).s);
	if (grace)
		wr_buf_addf(&b, " of %s, grace %s", wr_fmt_bytes(wr_json_get_u64(l, "limit", 0)).s,
			    grace);
	row(t, "limits", wr_buf_str(&b));
}

/* Of memory, processors and so on: what is limited, and why not more. */
static void
resources_row(struct wr_table *t, const json_t *p)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	json_t *o = wr_json_get_obj(p, "resources"), *on;
	const char *why = wr_json_get_str(o, "why", NULL), *key;

	json_object_foreach(o, key, on)
	{
		if (json_is_true(on))
			wr_buf_addf(&b, "%s%s", b.len ? ", " : "", key);
	}
	if (!b.len)
		wr_buf_adds(&b, "nothing is enforced");
	if (why)
		wr_buf_addf(&b, "; %s", why);
	row(t, "resources", wr_buf_str(&b));
}

/* Work that was off the line. */
static void
sides_row(struct wr_table *t, const json_t *p)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	const json_t *list = wr_json_get_arr(p, "sides"), *s;
	size_t i;

	json_array_foreach(list, i, s) wr_buf_addf(&b, "%s%s", i ? ", " : "", json_string_value(s));
	row(t, "side branches", wr_buf_str(&b));
}

static void
show_text(const json_t *p)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf state = WR_BUF_INIT, labels = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf holders = WR_BUF_INIT, save = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf safe = WR_BUF_INIT;
	uint64_t processes = wr_json_get_u64(p, "processes", 0);
	char text[120];
	struct wr_table t;

	state_text(wr_json_get_obj(p, "state"), &state);
	labels_text(p, &labels);
	holders_text(p, &holders);
	save_text(p, &save);
	wr_table_init(&t, "ll", NULL);
	row(&t, "name", wr_json_get_str(p, "name", NULL));
	row(&t, "id", wr_json_get_str(p, "id", NULL));
	row(&t, "state", wr_buf_str(&state));
	row(&t, "notice", wr_json_get_str(p, "notice", NULL));
	row(&t, "home", wr_json_get_str(p, "home", NULL));
	snprintf(text, sizeof(text), "uid %" PRIu64 ", gid %" PRIu64, wr_json_get_u64(p, "uid", 0),
		 wr_json_get_u64(p, "gid", 0));
	row(&t, "user", text);
	identity_text(p, text, sizeof(text));
	row(&t, "identity", text);
	row(&t, "labels", wr_buf_str(&labels));
	row(&t, "held by", wr_buf_str(&holders));
	if (processes) {
		snprintf(text, sizeof(text), "%" PRIu64, processes);
		row(&t, "processes", text);
	}
	row(&t, "last save", wr_buf_str(&save));
	if (wr_json_get_obj(p, "writer")) {
		wr_copies_safe_text(p, &safe);
		row(&t, "safe", wr_buf_str(&safe));
	}
	sides_row(&t, p);
	snprintf(text, sizeof(text), "%s, %s", wr_fmt_count(wr_json_get_u64(p, "files", 0)).s,
		 wr_fmt_bytes(wr_json_get_u64(p, "bytes", 0)).s);
	row(&t, "files", text);
	row(&t, "history", wr_fmt_bytes(wr_json_get_u64(p, "repo_bytes", 0)).s);
	row(&t, "volume", wr_json_get_str(p, "volume", NULL));
	limits_row(&t, p);
	resources_row(&t, p);
	row(&t, "created", wr_json_get_str(p, "created", NULL));
	settings_rows(&t, p);
	wr_table_print(&t);
	wr_table_fini(&t);
}

int
wr_cmd_show(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about b = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;

	if (wr_about_begin(&b, a, WR_API_SHOW, err) < 0 ||
	    wr_client_ask(&b.client, &b.req, NULL, &o, err) < 0)
		return -1;
	if (wr_out_json())
		return wr_json_print(wr_steal(&o), err);
	show_text(o);
	return 0;
}

/* ---- status ---- */

static void
status_text(const json_t *o)
{
	static const struct {
		const char *level;
		enum wr_color color;
	} levels[] = {{"error", WR_RED}, {"warning", WR_YELLOW}, {"ok", WR_GREEN}};
	json_t *counts = wr_json_get_obj(o, "counts"), *n;
	const json_t *list = wr_json_get_arr(o, "projects"), *p;
	const char *key, *sep = "";
	struct wr_table t;
	size_t i;

	wr_table_init(&t, "llll", NULL);
	json_array_foreach(list, i, p)
	{
		const char *level = wr_json_get_str(p, "level", "?");
		enum wr_color color = WR_PLAIN;

		for (size_t k = 0; k < WR_ARRAY_LEN(levels); k++)
			if (!strcmp(level, levels[k].level))
				color = levels[k].color;
		add_colored(&t, color, level);
		add_text(&t, p, "name");
		add_text(&t, p, "text");
		add_colored(&t, WR_CYAN, wr_json_get_str(p, "command", ""));
	}
	wr_table_print(&t);
	wr_table_fini(&t);
	json_object_foreach(counts, key, n)
	{
		if (!json_integer_value(n))
			continue;
		printf("%s%s %s", sep, wr_fmt_count((uint64_t)json_integer_value(n)).s, WR_Q(key));
		sep = ", ";
	}
	puts(*sep ? "" : "no projects");
}

int
wr_cmd_status(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_client_fini) struct wr_client c = {0};
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	WR_SCOPED(wr_freep) char *id = NULL;
	uint64_t ends;

	if (wr_client_init(&c, a, err) < 0 ||
	    (a->pos_count && wr_target_resolve(&c, a->pos[0], &id, NULL, err) < 0))
		return -1;
	wr_ask_init(&r, WR_API_STATUS, NULL);
	wr_ask_str(&r, "project", id);
	if (wr_client_ask(&c, &r, NULL, &o, err) < 0)
		return -1;
	ends = wr_json_get_u64(o, "exit", 0);
	if (!wr_out_json())
		status_text(o);
	else if (wr_json_print(wr_steal(&o), err) < 0)
		return -1;
	return ends == 1 || ends == WR_EXIT_WARNINGS ? (int)ends : 0;
}

/* ---- top ---- */

static int
top_once(struct wr_client *c, bool screen, struct wr_err *err)
{
	static const char *const heads[] = {"NAME",  "PROCESSES", "MEMORY", "CPU",
					    "SAVED", "SAVE TOOK", "NEW",    "HISTORY"};
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	const json_t *list, *p;
	struct wr_table t;
	size_t i;

	wr_ask_init(&r, WR_API_TOP, NULL);
	if (wr_client_ask(c, &r, NULL, &o, err) < 0)
		return -1;
	if (wr_out_json())
		return wr_json_print(wr_steal(&o), err);
	list = wr_json_get_arr(o, "projects");
	if (screen)
		fputs("\033[H\033[2J", stdout);
	wr_table_init(&t, "lrrrlrrr", wr_out_tty() ? heads : NULL);
	json_array_foreach(list, i, p)
	{
		const json_t *save = wr_json_get_obj(p, "last_save");

		add_text(&t, p, "name");
		wr_table_add(&t, wr_fmt_count(wr_json_get_u64(p, "processes", 0)).s);
		wr_table_add(&t, wr_fmt_bytes(wr_json_get_u64(p, "rss", 0)).s);
		wr_table_add(&t, wr_fmt_seconds(wr_json_get_real(p, "cpu_s", 0)).s);
		wr_table_add(&t, wr_when_text(wr_json_get_time(save, "ended", 0)).s);
		wr_table_add(&t, wr_fmt_seconds(wr_json_get_real(save, "seconds", 0)).s);
		wr_table_add(&t, wr_fmt_bytes(wr_json_get_u64(save, "bytes", 0)).s);
		wr_table_add(&t, wr_fmt_bytes(wr_json_get_u64(p, "repo_bytes", 0)).s);
	}
	wr_table_print(&t);
	wr_table_fini(&t);
	if (!json_array_size(list))
		wr_remark("no project is active");
	return 0;
}

int
wr_cmd_top(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_client_fini) struct wr_client c = {0};
	struct timespec nap = {.tv_sec = (time_t)wr_arg_u64(a, "watch", 0)};
	bool screen = nap.tv_sec && wr_out_tty() && !wr_out_json();

	if (nap.tv_sec && !screen)
		return wr_err_set(err, WR_E_USAGE, "--watch needs a terminal and text");
	if (wr_client_init(&c, a, err) < 0)
		return -1;
	for (;;) {
		if (top_once(&c, screen, err) < 0)
			return -1;
		if (!screen)
			return 0;
		fflush(stdout);
		nanosleep(&nap, NULL); /* a signal ends the command */
	}
}

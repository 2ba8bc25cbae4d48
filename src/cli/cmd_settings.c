/* SPDX-License-Identifier: Apache-2.0 */
/* warren settings: what a project is set to, and changes of it. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/out.h"
#include "cli/project.h"
#include "model/settings.h"

static const char *
unit_of(const char *key)
{
	const struct wr_set_key *k = wr_set_key_find(key);

	if (!k)
		return "";
	switch (k->kind) {
	case WR_SET_SIZE:
		return "bytes";
	case WR_SET_DURATION:
		return "time";
	case WR_SET_BOOL:
		return "yes or no";
	case WR_SET_U64:
		return "number";
	case WR_SET_LIST:
		return "list";
	case WR_SET_PATH:
		return "path";
	case WR_SET_CHOICE:
		return "choice";
	default:
		return "text";
	}
}

/* What is not the default is marked by a star. */
static void
print_table(json_t *all, bool help)
{
	static const char *const heads[] = {"", "KEY", "VALUE", "KIND", "WHAT"};
	static const char *const short_heads[] = {"", "KEY", "VALUE", "KIND"};
	struct wr_table t;
	const char *key;
	json_t *v;

	wr_table_init(&t, help ? "lllll" : "llll",
		      !wr_out_tty() ? NULL
		      : help        ? heads
				    : short_heads);
	json_object_foreach(all, key, v)
	{
		const char *text = wr_json_get_str(v, "text", "");
		bool plain = wr_json_get_bool(v, "default", true);

		wr_table_add(&t, plain ? " " : "*");
		wr_table_addf(&t, "%s%s%s", plain ? "" : wr_color(WR_BOLD), WR_Q(key),
			      plain ? "" : wr_color(WR_PLAIN));
		wr_table_add_name(&t, *text ? text : "-", strlen(*text ? text : "-"));
		wr_table_add(&t, unit_of(key));
		if (help)
			wr_table_add(&t, wr_json_get_str(v, "help", ""));
	}
	wr_table_print(&t);
	wr_table_fini(&t);
}

/* The table of keys itself, which needs no daemon and no project. */
static int
show_keys(struct wr_err *err)
{
	struct wr_settings none = {.set = json_object()};
	WR_SCOPED(wr_json_freep) json_t *all = wr_settings_show(&none), *o = NULL;

	json_decref(none.set);
	if (wr_out_json()) {
		o = wr_json_begin("warren.setting-keys/1");
		wr_json_take(o, "settings", wr_steal(&all));
		return wr_json_print(wr_steal(&o), err);
	}
	print_table(all, true);
	return 0;
}

static int
print(json_t *taken, bool changed, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = taken;

	if (wr_out_json())
		return wr_json_print(wr_steal(&o), err);
	if (changed)
		printf("changed, now at revision %" PRIu64 "\n", wr_json_get_u64(o, "rev", 0));
	else
		print_table(wr_json_get_obj(o, "settings"), false);
	if (json_array_size(wr_json_get_arr(o, "at_start")))
		wr_remark("some of it takes effect at the next start");
	return 0;
}

int
wr_cmd_settings(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about b = {0};
	json_t *o = NULL;
	bool change = a->pos_count > wr_target_given(a);

	if (wr_arg_flag(a, "keys")) {
		if (a->pos_count)
			return wr_err_set(err, WR_E_USAGE, "--keys takes no arguments");
		return show_keys(err);
	}
	if (wr_arg_str(a, "rev") && !change)
		return wr_err_set(err, WR_E_USAGE, "--rev goes with a change, KEY=VALUE");
	for (size_t i = wr_target_given(a); i < a->pos_count; i++)
		if (!strchr(a->pos[i], '=')) {
			wr_err_set(err, WR_E_USAGE, "'%s' is not of the form KEY=VALUE",
				   WR_Q(a->pos[i]));
			return wr_err_hint(err, "'warren settings --keys' lists the keys");
		}
	if (wr_about_begin(&b, a, change ? WR_API_SETTINGS_SET : WR_API_SETTINGS_GET, err) < 0)
		return -1;
	if (change) {
		wr_ask_list(&b.req, "set", b.target.pos, b.target.pos_count);
		if (wr_arg_str(a, "rev"))
			wr_ask_u64(&b.req, "rev", wr_arg_u64(a, "rev", 0));
	}
	if (wr_client_ask(&b.client, &b.req, NULL, &o, err) < 0)
		return -1;
	return print(o, change, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* warren hub: what only a hub can do. */
#include <stdlib.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/copies.h"
#include "cli/out.h"

static void
print_name(const char *s)
{
	wr_name_print(s, strlen(s));
}

static void
print_nodes(const json_t *o, const char *key, const char *what)
{
	const json_t *list = wr_json_get_arr(o, key), *n;
	size_t i;

	json_array_foreach(list, i, n)
	{
		printf("  %-9s ", what);
		print_name(wr_json_get_str(n, "name", wr_json_get_str(n, "node", "?")));
		printf(" (");
		print_name(wr_json_get_str(n, "dc", "?"));
		printf("), ");
		if (wr_json_get_str(n, "version", NULL))
			printf("had save %s of %s as last reported\n",
			       wr_json_get_str(n, "version", "?"),
			       wr_json_get_str(n, "since", "?"));
		else
			printf("reported no save\n");
	}
}

static void
print_forced(const json_t *o)
{
	const json_t *list = wr_json_get_arr(o, "lost"), *l;
	size_t i;

	print_name(wr_json_get_str(o, "name", "?"));
	if (wr_json_get_bool(o, "forced", false)) {
		printf(": epoch %" PRIu64 ", kept by ", wr_json_get_u64(o, "epoch", 0));
		print_name(wr_json_get_str(o, "writer", "?"));
		printf(", at save %s\n", wr_json_get_str(o, "version", "none"));
	} else {
		printf(": nothing was changed; what is left reaches save %s\n",
		       wr_json_get_str(o, "version", "none"));
	}
	print_nodes(o, "members", "left");
	print_nodes(o, "dead", "dead");
	json_array_foreach(list, i, l)
	{
		printf("  lost      ");
		print_name(json_string_value(l) ? json_string_value(l) : "?");
		putchar('\n');
	}
	if (!wr_json_get_bool(o, "forced", false))
		return;
	wr_remark("what the dead saved and never reported is not counted; should one of them come "
		  "back, its own work becomes a branch beside");
}

/* The daemon opens it, somewhere else than here. */
static int
ask_key(struct wr_ask *r, const char *path, struct wr_err *err)
{
	char *whole = realpath(path, NULL);

	if (!whole)
		return wr_err_sys(err, "recovery key '%s'", WR_Q(path));
	wr_ask_str(r, "key", whole);
	free(whole);
	return 0;
}

int
wr_cmd_hub_force(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_client_fini) struct wr_client c = {0};
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	const char *key = wr_arg_str(a, "key"), *to = wr_arg_str(a, "to");
	const char *const *dead;
	bool dry = wr_arg_flag(a, "dry-run"), lost;

	if (!wr_arg_list(a, "dead", &dead))
		return wr_err_set(err, WR_E_USAGE, "option '--dead' is missing");
	if (!key && !dry) {
		wr_err_set(err, WR_E_USAGE, "option '--key' is missing");
		return wr_err_hint(err, "the recovery key that 'warren init' made for the fleet; "
					"--dry-run needs none");
	}
	if (wr_client_init(&c, a, err) < 0)
		return -1;
	wr_ask_init(&r, WR_API_HUB_FORCE, NULL);
	wr_ask_str(&r, "project", a->pos[0]);
	wr_copies_nodes(&r, a, "dead");
	if (to)
		wr_ask_str(&r, "to", to);
	if (key && ask_key(&r, key, err) < 0)
		return -1;
	wr_ask_flag(&r, "accept_loss", wr_arg_flag(a, "accept-loss"));
	wr_ask_flag(&r, "dry_run", dry);
	if (wr_client_ask(&c, &r, NULL, &o, err) < 0)
		return -1;
	lost = json_array_size(wr_json_get_arr(o, "lost")) > 0;
	if (wr_out_json()) {
		if (wr_json_print(wr_steal(&o), err) < 0)
			return -1;
	} else if (!wr_out_quiet()) {
		print_forced(o);
	}
	return lost && !dry ? 3 : 0;
}

int
wr_cmd_hub_permit_loss(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_client_fini) struct wr_client c = {0};
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	const char *node = wr_arg_str(a, "node");

	if (!node)
		return wr_err_set(err, WR_E_USAGE, "option '--node' is missing");
	if (wr_client_init(&c, a, err) < 0)
		return -1;
	wr_ask_init(&r, WR_API_PERMIT_LOSS, NULL);
	wr_ask_str(&r, "project", a->pos[0]);
	wr_ask_str(&r, "node", node);
	if (wr_client_ask(&c, &r, NULL, &o, err) < 0)
		return -1;
	if (wr_out_json())
		return wr_json_print(wr_steal(&o), err);
	if (wr_out_quiet())
		return 0;
	printf("until %s: warren start ", wr_json_get_str(o, "until", "?"));
	print_name(wr_json_get_str(o, "name", "?"));
	printf(" --accept-loss, on node ");
	print_name(wr_json_get_str(o, "node_name", "?"));
	putchar('\n');
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* warren init, config, serve: this host as a node. */
#include <limits.h>
#include <unistd.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/out.h"
#include "host/auth/auth.h"
#include "serve/control/control.h"

/* ---- init ---- */

/* The node, and the fleet whose first member it is. A node without a fleet is one of an earlier
 * release, or a run was cut off between the two. */
static int
init_node(const struct wr_node_init *o, json_t **out_receipt, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *receipt = NULL, *found = NULL;
	struct wr_node *n = NULL;
	struct wr_err why = WR_ERR_INIT;
	bool there = false;
	int rc;

	if (wr_node_init(o, &receipt, &why) < 0) {
		there = why.code == WR_E_EXISTS &&
			wr_node_open(o->root, WR_NODE_NO_VOLUMES, &n, NULL) == 0 && !*n->fleet.s;
		if (!there) {
			wr_node_close(n);
			*err = why;
			return -1;
		}
	} else if (wr_node_open(o->root, WR_NODE_NO_VOLUMES, &n, err) < 0) {
		return -1;
	}
	rc = wr_auth_found(n, &found, err);
	if (rc == 0 && !receipt)
		receipt = wr_node_receipt(n);
	wr_node_close(n);
	if (rc < 0)
		return -1;
	json_object_update_missing(receipt, found);
	*out_receipt = wr_steal(&receipt);
	return 0;
}

int
wr_cmd_init(const struct wr_args *a, struct wr_err *err)
{
	struct wr_node_init o = {.root = wr_client_root(a),
				 .dc = wr_arg_str(a, "dc"),
				 .name = wr_arg_str(a, "name"),
				 .user = wr_arg_str(a, "user"),
				 .volume = a->pos[0],
				 .allow_root_fs = wr_arg_flag(a, "allow-root-fs"),
				 .reserve_bytes = wr_arg_u64(a, "reserve", 0)};
	WR_SCOPED(wr_json_freep) json_t *receipt = NULL;
	const char *recovery;

	if (!o.dc) {
		wr_err_set(err, WR_E_USAGE, "option '--dc' is missing");
		return wr_err_hint(err, "it names the data centre that this host stands in, so "
					"that copies can be kept in others; any word will do");
	}
	if (init_node(&o, &receipt, err) < 0)
		return -1;
	if (wr_out_json())
		return wr_json_print(wr_steal(&receipt), err);
	if (wr_out_quiet())
		return 0;
	printf("this host is node ");
	wr_name_print(wr_json_get_str(receipt, "name", "?"),
		      strlen(wr_json_get_str(receipt, "name", "?")));
	printf(" (%.36s) now, with volume ", wr_json_get_str(receipt, "node", "?"));
	wr_name_print(o.volume, strlen(o.volume));
	printf("\nit is the first of a fleet, whose CA has the fingerprint\n  %.95s\n",
	       wr_json_get_str(receipt, "ca_fingerprint", "?"));
	recovery = wr_json_get_str(receipt, "recovery_key", "?");
	printf("move the recovery key off this host, to where only you get at it:\n  ");
	wr_name_print(recovery, strlen(recovery));
	if (o.root) {
		printf("\nstart its daemon with 'warren serve --root ");
		wr_name_print(o.root, strlen(o.root));
		printf("'\n");
	} else {
		printf("\nstart its daemon with 'systemctl start warren'\n");
	}
	return 0;
}

/* ---- configuration ---- */

static char *
config_path(const struct wr_args *a)
{
	const char *root = wr_client_root(a);

	return root ? wr_asprintf("%s/warren.conf", root) : wr_strdup("/etc/warren/warren.conf");
}

int
wr_cmd_config_check(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *path = a->pos_count ? wr_strdup(a->pos[0]) : config_path(a);
	bool there = access(path, F_OK) == 0;
	struct wr_config c = {0};

	/* Without a file all is at its defaults, but one that was named has to be there. */
	if (a->pos_count && !there)
		return wr_err_sys(err, "read '%s'", WR_Q(path));
	if (wr_config_load(path, &c, err) < 0)
		return -1;
	wr_config_fini(&c);
	if (wr_out_json()) {
		json_t *o = wr_json_begin("warren.config-check/1");

		wr_json_path(o, "path", path, strlen(path));
		wr_json_bool(o, "exists", there);
		wr_json_bool(o, "ok", true);
		return wr_json_print(o, err);
	}
	if (wr_out_quiet())
		return 0;
	wr_name_print(path, strlen(path));
	puts(there ? " is right" : " is not there: everything is at its default");
	return 0;
}

/* Is it the default, be it written in another unit? */
static bool
is_default(const char *value, const char *fallback)
{
	uint64_t a, b;

	if (!strcmp(value, fallback))
		return true;
	return wr_parse_duration(value, &a, NULL) == 0 &&
	       wr_parse_duration(fallback, &b, NULL) == 0 && a == b;
}

static int
config_table(const struct wr_config *c, struct wr_err *err)
{
	static const char *const heads[] = {"", "KEY", "VALUE", "WHAT"};
	WR_SCOPED(wr_json_freep) json_t *o = wr_json_begin("warren.config/1");
	json_t *all = wr_json_object(o, "config");
	struct wr_table t;

	wr_table_init(&t, "llll", wr_out_tty() ? heads : NULL);
	for (const struct wr_config_key *k = wr_config_keys; k->key; k++) {
		WR_SCOPED(wr_freep) char *name = wr_asprintf("%s.%s", k->section, k->key);
		WR_SCOPED(wr_freep) char *value = NULL;
		json_t *e = wr_json_object(all, name);

		if (wr_config_get(c, name, &value, err) < 0) {
			wr_table_fini(&t);
			return -1;
		}
		wr_json_str(e, "value", value);
		wr_json_str(e, "default", k->fallback);
		wr_json_str(e, "help", k->help);
		wr_table_add(&t, is_default(value, k->fallback) ? " " : "*");
		wr_table_add(&t, name);
		wr_table_add_name(&t, *value ? value : "-", strlen(*value ? value : "-"));
		wr_table_add(&t, k->help);
	}
	if (!wr_out_json())
		wr_table_print(&t);
	wr_table_fini(&t);
	return wr_out_json() ? wr_json_print(wr_steal(&o), err) : 0;
}

int
wr_cmd_config_get(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *path = config_path(a), *value = NULL;
	WR_SCOPED(wr_config_fini) struct wr_config c = {0};

	if (wr_config_load(path, &c, err) < 0)
		return -1;
	if (!a->pos_count)
		return config_table(&c, err);
	if (wr_config_get(&c, a->pos[0], &value, err) < 0)
		return -1;
	if (wr_out_json()) {
		json_t *o = wr_json_begin("warren.config-value/1");

		wr_json_str(o, "key", a->pos[0]);
		wr_json_str(o, "value", value);
		return wr_json_print(o, err);
	}
	wr_name_print(value, strlen(value));
	putchar('\n');
	return 0;
}

/* ---- serve ---- */

int
wr_cmd_serve(const struct wr_args *a, struct wr_err *err)
{
	const char *root = wr_client_root(a), *front = wr_arg_str(a, "front");
	char full_root[PATH_MAX], full_front[PATH_MAX];
	struct wr_serve_opts o = {.verbose = wr_arg_flag(a, "verbose")};

	/* The daemon leaves this directory. */
	if (root && !realpath(root, full_root))
		return wr_err_sys(err, "--root '%s'", WR_Q(root));
	if (front && !realpath(front, full_front))
		return wr_err_sys(err, "--front '%s'", WR_Q(front));
	o.root = root ? full_root : NULL;
	o.front = front ? full_front : NULL;
	return wr_serve(&o, err);
}

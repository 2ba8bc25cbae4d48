/* SPDX-License-Identifier: Apache-2.0 */
/* warren node, warren ca: the fleet as the daemon has it. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/out.h"

static int
fetch(const struct wr_args *a, enum wr_api_call_id call, json_t **out, struct wr_err *err)
{
	WR_SCOPED(wr_client_fini) struct wr_client c = {0};
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};

	if (wr_client_init(&c, a, err) < 0)
		return -1;
	wr_ask_init(&r, call, NULL);
	return wr_client_ask(&c, &r, NULL, out, err);
}

static void
print_name(const char *s)
{
	wr_name_print(s, strlen(s));
}

/* ---- ca ---- */

int
wr_cmd_ca(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	const json_t *list, *e;
	size_t i;

	if (fetch(a, WR_API_CA, &o, err) < 0)
		return -1;
	if (wr_out_json())
		return wr_json_print(wr_steal(&o), err);
	list = wr_json_get_arr(o, "certificates");
	json_array_foreach(list, i, e)
	{
		const char *pem = wr_json_get_str(e, "pem", "");

		wr_remark("%s: fingerprint %.95s",
			  wr_json_get_bool(e, "in_use", false) ? "in use" : "planned",
			  wr_json_get_str(e, "fingerprint", "?"));
		/* Line by line: the escaping for a terminal is not to take the line ends. */
		while (*pem) {
			size_t n = strcspn(pem, "\n");

			wr_name_print(pem, n);
			putchar('\n');
			pem += n + (pem[n] == '\n');
		}
	}
	return 0;
}

/* ---- node list, show ---- */

/* "hub, draining" */
static char *
flags_text(const json_t *n)
{
	static const char *const flag[] = {"self", "hub", "draining", "experimental", "removed"};
	struct wr_buf b = WR_BUF_INIT;

	for (size_t i = 0; i < WR_ARRAY_LEN(flag); i++)
		if (wr_json_get_bool(n, flag[i], false))
			wr_buf_addf(&b, "%s%s", b.len ? "," : "", i ? flag[i] : "here");
	if (!b.len)
		wr_buf_adds(&b, "-");
	return wr_buf_detach(&b, NULL);
}

int
wr_cmd_node_list(const struct wr_args *a, struct wr_err *err)
{
	static const char *const heads[] = {"NAME",   "DC",     "PEER",     "API",
					    "WEIGHT", "COPIES", "REPORTED", "FLAGS"};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	const json_t *list, *n;
	struct wr_table t;
	size_t i;

	if (fetch(a, WR_API_NODES, &o, err) < 0)
		return -1;
	if (wr_out_json())
		return wr_json_print(wr_steal(&o), err);
	list = wr_json_get_arr(o, "nodes");
	wr_table_init(&t, "llllrrll", wr_out_tty() && json_array_size(list) ? heads : NULL);
	json_array_foreach(list, i, n)
	{
		const char *name = wr_json_get_str(n, "name", "?"),
			   *peer = wr_json_get_str(n, "peer", "-"),
			   *api = wr_json_get_str(n, "api", "-");
		WR_SCOPED(wr_freep) char *flags = flags_text(n);

		wr_table_add_name(&t, name, strlen(name));
		wr_table_add(&t, wr_json_get_str(n, "dc", "?"));
		wr_table_add_name(&t, peer, strlen(peer));
		wr_table_add_name(&t, api, strlen(api));
		wr_table_addf(&t, "%" PRIu64, wr_json_get_u64(n, "weight", 0));
		if (json_object_get(n, "copies"))
			wr_table_addf(&t, "%" PRIu64, wr_json_get_u64(n, "copies", 0));
		else
			wr_table_add(&t, "-");
		wr_table_add(&t, wr_json_get_str(n, "reported", "-"));
		wr_table_add(&t, flags);
	}
	wr_table_print(&t);
	wr_table_fini(&t);
	return 0;
}

static void
print_line(const char *what, const char *value)
{
	printf("%-12s ", what);
	print_name(value ? value : "-");
	putchar('\n');
}

static void
print_node(const json_t *n)
{
	WR_SCOPED(wr_freep) char *flags = flags_text(n);
	WR_SCOPED(wr_freep)
	char *inc = wr_asprintf("%" PRIu64, wr_json_get_u64(n, "incarnation", 0));
	WR_SCOPED(wr_freep) char *weight = wr_asprintf("%" PRIu64, wr_json_get_u64(n, "weight", 0));

	print_line("name", wr_json_get_str(n, "name", NULL));
	print_line("id", wr_json_get_str(n, "id", NULL));
	print_line("dc", wr_json_get_str(n, "dc", NULL));
	print_line("incarnation", inc);
	print_line("peer", wr_json_get_str(n, "peer", NULL));
	print_line("api", wr_json_get_str(n, "api", NULL));
	print_line("names", wr_json_get_str(n, "names", NULL));
	print_line("weight", weight);
	print_line("flags", flags);
	print_line("key", wr_json_get_str(n, "key", NULL));
	if (json_object_get(n, "copies")) {
		WR_SCOPED(wr_freep)
		char *copies = wr_asprintf("%" PRIu64, wr_json_get_u64(n, "copies", 0));

		print_line("copies", copies);
		print_line("reported", wr_json_get_str(n, "reported", "never"));
	}
}

/* By name or id; without one the node that was asked. */
static const json_t *
find(const json_t *o, const char *ref, struct wr_err *err)
{
	const json_t *list = wr_json_get_arr(o, "nodes"), *n;
	size_t i;

	json_array_foreach(list, i, n)
	{
		if (ref ? !strcmp(wr_json_get_str(n, "name", ""), ref) ||
			      !strcmp(wr_json_get_str(n, "id", ""), ref)
			: wr_json_get_bool(n, "self", false))
			return n;
	}
	wr_err_set(err, WR_E_NOT_FOUND, "the fleet has no node '%s'", ref ? WR_Q(ref) : "here");
	wr_err_hint(err, "'warren node list' shows all");
	return NULL;
}

int
wr_cmd_node_show(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	const json_t *n;

	if (fetch(a, WR_API_NODES, &o, err) < 0)
		return -1;
	n = find(o, a->pos_count ? a->pos[0] : NULL, err);
	if (!n)
		return -1;
	if (wr_out_json()) {
		json_t *one = wr_json_begin("warren.fleet-node/1");

		json_object_update(one, (json_t *)(uintptr_t)n);
		return wr_json_print(one, err);
	}
	print_node(n);
	return 0;
}

/* ---- node add ---- */

int
wr_cmd_node_add(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_client_fini) struct wr_client c = {0};
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	const char *api, *token;

	if (wr_client_init(&c, a, err) < 0)
		return -1;
	if (!wr_arg_str(a, "rejoin") && (!wr_arg_str(a, "name") || !wr_arg_str(a, "dc")))
		return wr_err_set(err, WR_E_USAGE, "option '--%s' is missing",
				  wr_arg_str(a, "name") ? "dc" : "name");
	wr_ask_init(&r, WR_API_NODE_ADD, NULL);
	wr_ask_str(&r, "name", wr_arg_str(a, "name"));
	wr_ask_str(&r, "dc", wr_arg_str(a, "dc"));
	wr_ask_str(&r, "rejoin", wr_arg_str(a, "rejoin"));
	wr_ask_str(&r, "names", wr_arg_str(a, "names"));
	if (wr_client_ask(&c, &r, NULL, &o, err) < 0)
		return -1;
	if (wr_out_json())
		return wr_json_print(wr_steal(&o), err);
	api = wr_json_get_str(o, "api", NULL);
	token = wr_json_get_str(o, "token", "");
	if (wr_out_quiet()) {
		print_name(token);
		putchar('\n');
		return 0;
	}
	printf("on the new host, until %.20s:\n  warren join ", wr_json_get_str(o, "expires", "?"));
	if (api) {
		printf("https://");
		print_name(api);
	} else {
		printf("https://HOST:PORT");
	}
	putchar(' ');
	print_name(token);
	printf("%s\n", wr_json_get_str(o, "rejoin", NULL) ? "" : " --volume DIR");
	printf("it is to see this fingerprint of the fleet's CA:\n  %.95s\n",
	       wr_json_get_str(o, "fingerprint", "?"));
	if (!api)
		wr_warn("this node has no HTTPS API: set 'api' in [listen] of warren.conf(5) and "
			"start the daemon again");
	return 0;
}

/* ---- node set, remove ---- */

static int
change(const struct wr_args *a, struct wr_client *c, struct wr_ask *r, const char *done,
       struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;

	(void)a;
	if (wr_client_ask(c, r, NULL, &o, err) < 0)
		return -1;
	if (wr_out_json())
		return wr_json_print(wr_steal(&o), err);
	if (wr_out_quiet())
		return 0;
	printf("node ");
	print_name(wr_json_get_str(o, "name", "?"));
	printf(" %s\n", done);
	return 0;
}

static void
ask_yes_no(struct wr_ask *r, const struct wr_args *a, const char *name)
{
	int at = wr_arg_choice(a, name, -1);

	if (at >= 0)
		wr_json_bool(r->body, name, at == 0);
}

int
wr_cmd_node_set(const struct wr_args *a, struct wr_err *err)
{
	static const char *const names[] = {"weight", "draining", "experimental",
					    "peer",   "api",      "names"};
	WR_SCOPED(wr_client_fini) struct wr_client c = {0};
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};
	bool any = false;

	for (size_t i = 0; i < WR_ARRAY_LEN(names); i++)
		any |= wr_arg_str(a, names[i]) != NULL;
	if (!any)
		return wr_err_set(err, WR_E_USAGE, "nothing to set");
	if (wr_client_init(&c, a, err) < 0)
		return -1;
	wr_ask_init(&r, WR_API_NODE_SET, NULL);
	wr_ask_str(&r, "node", a->pos[0]);
	if (wr_arg_str(a, "weight"))
		wr_ask_u64(&r, "weight", wr_arg_u64(a, "weight", 0));
	ask_yes_no(&r, a, "draining");
	ask_yes_no(&r, a, "experimental");
	wr_ask_str(&r, "peer", wr_arg_str(a, "peer"));
	wr_ask_str(&r, "api", wr_arg_str(a, "api"));
	wr_ask_str(&r, "names", wr_arg_str(a, "names"));
	return change(a, &c, &r, "is set; other nodes hear of it from this one", err);
}

int
wr_cmd_node_remove(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_client_fini) struct wr_client c = {0};
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};

	if (wr_client_init(&c, a, err) < 0)
		return -1;
	wr_ask_init(&r, WR_API_NODE_REMOVE, NULL);
	wr_ask_str(&r, "node", a->pos[0]);
	wr_ask_flag(&r, "force", wr_arg_flag(a, "force"));
	return change(a, &c, &r, "is no part of the fleet any more", err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* warren replica: which nodes hold copies of a project. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/out.h"
#include "cli/project.h"

static void
print_name(const char *s)
{
	wr_name_print(s, strlen(s));
}

static void
print_member(const json_t *m)
{
	printf("  ");
	print_name(wr_json_get_str(m, "name", "?"));
	printf(" (");
	print_name(wr_json_get_str(m, "dc", "?"));
	printf(") %s%s\n", wr_json_get_str(m, "role", "?"),
	       wr_json_get_bool(m, "writer", false) ? ", keeps the files" : "");
}

static int
change(const struct wr_args *a, const char *what, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about b = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	const char *node = wr_arg_str(a, "node");
	const json_t *list, *m;
	bool add = !strcmp(what, "add");
	size_t i;

	if (!node)
		return wr_err_set(err, WR_E_USAGE, "option '--node' is missing");
	if (wr_about_begin(&b, a, WR_API_REPLICAS, err) < 0)
		return -1;
	wr_ask_str(&b.req, what, node);
	if (add)
		wr_ask_flag(&b.req, "witness", wr_arg_flag(a, "witness"));
	if (add && wr_arg_u64(a, "wait", 0))
		wr_ask_u64(&b.req, "wait", wr_arg_u64(a, "wait", 0));
	if (wr_client_ask(&b.client, &b.req, NULL, &o, err) < 0)
		return -1;
	if (wr_out_json())
		return wr_json_print(wr_steal(&o), err);
	if (wr_out_quiet())
		return 0;
	print_name(wr_json_get_str(o, "name", "?"));
	printf(", epoch %" PRIu64 ":\n", wr_json_get_u64(o, "epoch", 0));
	list = wr_json_get_arr(o, "members");
	json_array_foreach(list, i, m) print_member(m);
	if (add && !strcmp(wr_json_get_str(o, "role", ""), "learner"))
		wr_remark("it counts as a copy when it has everything; that goes on by itself");
	if (!add)
		wr_remark("its copy there goes to the trash when the others have proved theirs");
	return 0;
}

int
wr_cmd_replica_add(const struct wr_args *a, struct wr_err *err)
{
	return change(a, "add", err);
}

int
wr_cmd_replica_remove(const struct wr_args *a, struct wr_err *err)
{
	return change(a, "remove", err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * warren state: what this host knows of a project, at once.  Who may read conf/state.json reads it;
 * everyone else, and whoever meets a state that nothing works on, asks the daemon.
 */
#include <fcntl.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/follow.h"
#include "cli/out.h"
#include "cli/project.h"
#include "host/node/node.h"
#include "host/store/store.h"
#include "sys/fs.h"

/* ---- from the disk ---- */

static bool
find_id(const struct wr_node *n, const char *ref, struct wr_uuid *out)
{
	WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/node.db", n->state_path);
	struct wr_proj_row row = {0};
	struct wr_store *s;
	bool found;

	if (wr_uuid_parse(ref, out))
		return true;
	if (wr_store_open(path, true, &s, NULL) < 0)
		return false;
	found = wr_store_proj_find(s, ref, true, false, &row, NULL) == 0;
	if (found)
		*out = row.id;
	wr_proj_row_fini(&row);
	wr_store_close(s);
	return found;
}

/* The state as it is on disk. False: it cannot be told from here. */
static bool
read_state(struct wr_node *n, const char *ref, json_t **out)
{
	WR_SCOPED(wr_place_of_fini) struct wr_place_of p = WR_PLACE_OF_INIT;
	WR_SCOPED(wr_freep) char *note = NULL;
	struct wr_settings set = {0};
	struct wr_status st;
	json_t *o, *status;

	p.node = n;
	if (!find_id(n, ref, &p.id))
		return false;
	for (size_t i = 0; i < n->volume_count && p.conf_fd < 0; i++) {
		WR_SCOPED(wr_freep)
		char *path = wr_asprintf("%s/repos/%s/conf", n->volume[i].path, p.id.s);

		p.conf_fd = wr_open_dir(AT_FDCWD, path);
		p.tree_vol = p.repo_vol = i;
	}
	if (p.conf_fd < 0)
		return false;
	wr_status_load(&p, &st);
	/* A transition that nobody works on is over; the daemon puts it right. */
	if (wr_state_transient(st.state) && !wr_life_lock_held(&p, &note))
		return false;
	if (wr_settings_load(&p, &set, NULL) < 0)
		return false;
	o = wr_json_begin("warren.state/1");
	wr_json_str(o, "id", p.id.s);
	wr_json_str(o, "name", set.name);
	status = wr_status_json(&st);
	json_object_update(o, status);
	json_decref(status);
	wr_settings_fini(&set);
	*out = o;
	return true;
}

static bool
from_disk(const struct wr_args *a, json_t **out)
{
	const char *env = getenv("WARREN_PROJECT");
	const char *ref = wr_target_given(a) && strcmp(a->pos[0], ".") != 0 ? a->pos[0] : env;
	struct wr_node *n;
	bool ok;

	if (!ref || !*ref || !wr_client_is_local(a) ||
	    wr_node_open(wr_client_root(a), WR_NODE_NO_VOLUMES, &n, NULL) < 0)
		return false;
	ok = read_state(n, ref, out);
	wr_node_close(n);
	return ok;
}

/* ---- output ---- */

static void
print_line(const char *s)
{
	if (!*s)
		return;
	printf("  ");
	wr_name_print(s, strlen(s));
	printf("\n");
}

static void
print_text(const json_t *o)
{
	const json_t *p = wr_json_get_obj(o, "progress"), *e = wr_json_get_obj(o, "error");
	const char *step = wr_json_get_str(o, "step", "");
	uint64_t files = wr_json_get_u64(p, "files", 0), bytes = wr_json_get_u64(p, "bytes", 0);
	uint64_t total = wr_json_get_u64(p, "files_total", 0);

	printf("%s", WR_Q(wr_json_get_str(o, "state", "?")));
	if (*step)
		printf(": %s", WR_Q(step));
	if (files)
		printf(", %s", wr_fmt_count(files).s);
	if (files && total)
		printf(" of %s", wr_fmt_count(total).s);
	if (files)
		printf(" files");
	if (bytes)
		printf(", %s", wr_fmt_bytes(bytes).s);
	if (json_is_integer(json_object_get(p, "percent")))
		printf(", %" PRIu64 " %%", wr_json_get_u64(p, "percent", 0));
	printf(" (since %s)\n", wr_when_text(wr_json_get_time(o, "when", 0)).s);
	print_line(wr_json_get_str(e, "message", ""));
	print_line(wr_json_get_str(e, "hint", ""));
}

int
wr_cmd_state(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;

	if (!from_disk(a, &o)) {
		WR_SCOPED(wr_about_fini) struct wr_about b = {0};

		if (wr_about_begin(&b, a, WR_API_STATE, err) < 0 ||
		    wr_client_ask(&b.client, &b.req, NULL, &o, err) < 0)
			return -1;
	}
	if (wr_out_json())
		return wr_json_print(wr_steal(&o), err);
	print_text(o);
	return 0;
}

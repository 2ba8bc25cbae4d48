/* SPDX-License-Identifier: Apache-2.0 */
/* warren volume: where projects lie on this host, and how full that is. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/out.h"
#include "host/node/room.h"

int
wr_cmd_volume_add(const struct wr_args *a, struct wr_err *err)
{
	json_t *receipt = NULL;
	struct wr_node *n;
	int rc;

	if (wr_node_open(wr_client_root(a), WR_NODE_NO_VOLUMES, &n, err) < 0)
		return -1;
	rc = wr_volume_add(n, a->pos[0], wr_arg_flag(a, "allow-root-fs"), &receipt, err);
	wr_node_close(n);
	if (rc < 0)
		return -1;
	if (wr_out_json())
		return wr_json_print(receipt, err);
	json_decref(receipt);
	if (wr_out_quiet())
		return 0;
	printf("added volume ");
	wr_name_print(a->pos[0], strlen(a->pos[0]));
	printf("; a daemon that runs takes it into use when it is started again\n");
	return 0;
}

/* What the daemon says of the node, if it is there and we may know: NULL. */
static json_t *
ask_node(const struct wr_args *a)
{
	struct wr_client c;
	struct wr_ask r;
	json_t *o = NULL;

	if (wr_client_init(&c, a, NULL) == 0) {
		wr_ask_init(&r, WR_API_NODE, NULL);
		(void)wr_client_ask(&c, &r, NULL, &o, NULL); /* then those members are null */
		wr_ask_fini(&r);
	}
	wr_client_fini(&c);
	return o;
}

static const json_t *
told(const json_t *node, const struct wr_volume *v)
{
	const json_t *e;
	size_t i;

	json_array_foreach(wr_json_get_arr(node, "volumes"), i,
			   e) if (!strcmp(wr_json_get_str(e, "id", ""), v->id.s)) return e;
	return NULL;
}

/* r NULL: it cannot be looked at. */
static void
volume_json(json_t *o, const struct wr_volume *v, const struct wr_room *r, const char *mark,
	    const json_t *daemon)
{
	json_t *growers = wr_json_get_arr(daemon, "growers");
	json_t *s;

	wr_json_path(o, "path", v->path, strlen(v->path));
	wr_json_str(o, "id", v->id.s);
	if (!r) {
		wr_json_null(o, "bytes");
		return;
	}
	wr_json_u64(o, "bytes", r->bytes);
	wr_json_u64(o, "bytes_used", r->used);
	wr_json_u64(o, "bytes_free", r->free);
	wr_json_u64(o, "inodes", r->inodes);
	wr_json_u64(o, "inodes_free", r->inodes_free);
	wr_json_u64(o, "percent", r->permille / 10);
	wr_json_str(o, "mark", mark);
	s = wr_json_object(o, "reserve");
	wr_json_u64(s, "bytes", r->reserve);
	wr_json_u64(s, "wanted", r->reserve_wanted);
	wr_json_u64(s, "files", r->spare);
	wr_json_u64(s, "files_wanted", r->spare_wanted);
	if (growers)
		json_object_set(o, "growers", growers);
	else
		wr_json_null(o, "growers");
}

static void
volume_row(struct wr_table *t, const struct wr_volume *v, const struct wr_room *r, const char *mark)
{
	WR_SCOPED(wr_freep) char *percent = NULL;
	WR_SCOPED(wr_freep) char *reserve = NULL;

	wr_table_add_name(t, v->path, strlen(v->path));
	wr_table_add(t, v->id.s);
	if (!r) {
		for (size_t i = 0; i < 6; i++)
			wr_table_add(t, "-");
		return;
	}
	percent = wr_asprintf("%u%%", r->permille / 10);
	reserve = r->reserve < r->reserve_wanted || r->spare < r->spare_wanted
		      ? wr_asprintf("%s of %s", wr_fmt_bytes(r->reserve).s,
				    wr_fmt_bytes(r->reserve_wanted).s)
		      : wr_strdup(wr_fmt_bytes(r->reserve).s);
	wr_table_add(t, wr_fmt_bytes(r->bytes).s);
	wr_table_add(t, wr_fmt_bytes(r->free).s);
	wr_table_add(t, r->inodes ? wr_fmt_count(r->inodes_free).s : "-");
	wr_table_add(t, percent);
	wr_table_add(t, mark);
	wr_table_add(t, reserve);
}

static void
print_growers(const json_t *list)
{
	const json_t *v, *g;
	size_t i, k;

	json_array_foreach(list, i, v)
	{
		const json_t *growers = wr_json_get_arr(v, "growers");
		const char *path = wr_json_get_str(v, "path", "");

		json_array_foreach(growers, k, g)
		{
			if (k == 0) {
				printf("\nGrew most within a day on ");
				wr_name_print(path, strlen(path));
				printf(":\n");
			}
			printf("  %10s  %s\n", wr_fmt_bytes(wr_json_get_u64(g, "bytes", 0)).s,
			       wr_json_get_str(g, "name", "?"));
		}
	}
}

int
wr_cmd_volume_list(const struct wr_args *a, struct wr_err *err)
{
	static const char *const heads[] = {"VOLUME",      "ID",   "SIZE", "FREE",
					    "INODES FREE", "USED", "MARK", "RESERVE"};
	WR_SCOPED(wr_json_freep) json_t *o = wr_json_begin("warren.volumes/1");
	WR_SCOPED(wr_json_freep) json_t *node = NULL;
	json_t *list = wr_json_array(o, "volumes");
	struct wr_node *n;
	struct wr_table t;

	if (wr_node_open(wr_client_root(a), WR_NODE_NO_VOLUMES, &n, err) < 0)
		return -1;
	node = ask_node(a);
	wr_table_init(&t, "llrrrrlr", wr_out_tty() && n->volume_count ? heads : NULL);
	for (size_t i = 0; i < n->volume_count; i++) {
		const struct wr_volume *v = &n->volume[i];
		const json_t *daemon = told(node, v);
		struct wr_room room;
		bool there = wr_room_look(v, &room, NULL) == 0;
		/* The daemon knows from where it came there. */
		const char *mark =
		    there ? wr_mark_name(wr_mark_of(&n->config, &room, WR_MARK_NONE)) : "";

		mark = wr_json_get_str(daemon, "mark", mark);
		volume_json(wr_json_item(list), v, there ? &room : NULL, mark, daemon);
		volume_row(&t, v, there ? &room : NULL, mark);
	}
	wr_node_close(n);
	if (wr_out_json()) {
		wr_table_fini(&t);
		return wr_json_print(wr_steal(&o), err);
	}
	wr_table_print(&t);
	wr_table_fini(&t);
	print_growers(list);
	return 0;
}

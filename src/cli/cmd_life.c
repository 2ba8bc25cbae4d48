/* SPDX-License-Identifier: Apache-2.0 */
/* warren create, start, stop, restart, save, restore, undo, copy, chown: operations on a project.
 */
#include <limits.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/copies.h"
#include "cli/follow.h"
#include "cli/out.h"
#include "cli/project.h"

static void
add_wait(struct wr_ask *r, const struct wr_args *a)
{
	uint64_t s = wr_arg_u64(a, "wait", 0);

	if (s)
		wr_ask_u64(r, "wait", s);
}

static int
begin(struct wr_about *b, const struct wr_args *a, enum wr_api_call_id call, struct wr_err *err)
{
	if (wr_about_begin(b, a, call, err) < 0)
		return -1;
	add_wait(&b->req, a);
	return 0;
}

int
wr_cmd_start(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about b = {0};

	if (begin(&b, a, WR_API_START, err) < 0)
		return -1;
	wr_ask_str(&b.req, "holder", wr_arg_str(a, "holder"));
	wr_ask_flag(&b.req, "accept_loss", wr_arg_flag(a, "accept-loss"));
	return wr_operate(&b.client, a, &b.req, err);
}

int
wr_cmd_stop(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about b = {0};

	if (wr_arg_str(a, "holder") && wr_arg_flag(a, "force"))
		return wr_err_set(err, WR_E_USAGE,
				  "--holder and --force exclude each other: one drops a holder, "
				  "the other all of them");
	if (begin(&b, a, WR_API_STOP, err) < 0)
		return -1;
	wr_ask_str(&b.req, "holder", wr_arg_str(a, "holder"));
	wr_ask_flag(&b.req, "force", wr_arg_flag(a, "force"));
	wr_ask_flag(&b.req, "if_idle", wr_arg_flag(a, "if-idle"));
	wr_ask_flag(&b.req, "no_save", wr_arg_flag(a, "no-save"));
	return wr_operate(&b.client, a, &b.req, err);
}

int
wr_cmd_restart(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about b = {0};

	if (begin(&b, a, WR_API_RESTART, err) < 0)
		return -1;
	wr_ask_flag(&b.req, "force", wr_arg_flag(a, "force"));
	return wr_operate(&b.client, a, &b.req, err);
}

int
wr_cmd_save(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about b = {0};

	if (begin(&b, a, WR_API_SAVE, err) < 0)
		return -1;
	wr_ask_str(&b.req, "tag", wr_arg_str(a, "tag"));
	wr_ask_str(&b.req, "message", wr_arg_str(a, "message"));
	wr_copies_nodes(&b.req, a, "targets");
	if (wr_arg_u64(a, "replicate-wait", 0))
		wr_ask_u64(&b.req, "replicate_wait", wr_arg_u64(a, "replicate-wait", 0));
	return wr_operate(&b.client, a, &b.req, err);
}

int
wr_cmd_chown(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about b = {0};

	if (begin(&b, a, WR_API_CHOWN, err) < 0)
		return -1;
	return wr_operate(&b.client, a, &b.req, err);
}

/* ---- files come back ---- */

int
wr_cmd_restore(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about b = {0};
	WR_SCOPED(wr_freep) char *snap = NULL, *path = NULL;
	const char *to = wr_arg_str(a, "to");

	if (to && wr_arg_flag(a, "in-place"))
		return wr_err_set(err, WR_E_USAGE, "--to and --in-place exclude each other");
	if (begin(&b, a, WR_API_RESTORE, err) < 0)
		return -1;
	wr_snapshot_cut(b.target.pos[0], &snap, &path);
	if (!*snap) {
		wr_err_set(err, WR_E_USAGE, "'%s' names no snapshot", WR_Q(b.target.pos[0]));
		return wr_err_hint(err, "for the newest one: latest:%s", WR_Q(path ? path : ""));
	}
	wr_ask_str(&b.req, "snapshot", snap);
	if (path && *path)
		wr_ask_path(&b.req, "path", wr_target_path(&b.target, path));
	wr_ask_path(&b.req, "to", wr_target_path(&b.target, to));
	wr_ask_flag(&b.req, "in_place", wr_arg_flag(a, "in-place"));
	wr_ask_flag(&b.req, "delete", wr_arg_flag(a, "delete"));
	wr_ask_str(&b.req, "overwrite", wr_arg_str(a, "overwrite"));
	wr_ask_flag(&b.req, "live", wr_arg_flag(a, "live"));
	wr_ask_flag(&b.req, "dry_run", wr_arg_flag(a, "dry-run"));
	return wr_operate(&b.client, a, &b.req, err);
}

int
wr_cmd_undo(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about b = {0};
	WR_SCOPED(wr_freep) char *snap = NULL, *path = NULL;

	if (begin(&b, a, WR_API_UNDO, err) < 0)
		return -1;
	if (b.target.pos_count) {
		wr_snapshot_cut(b.target.pos[0], &snap, &path);
		if (path) {
			wr_err_set(err, WR_E_USAGE, "'%s' names a path, not a snapshot",
				   WR_Q(b.target.pos[0]));
			return wr_err_hint(err, "'warren restore' brings back single paths");
		}
		wr_ask_str(&b.req, "snapshot", snap);
	}
	wr_ask_flag(&b.req, "live", wr_arg_flag(a, "live"));
	return wr_operate(&b.client, a, &b.req, err);
}

/* ---- copy ---- */

/* ID:PATH into the two members of the request. */
static int
add_place(struct wr_client *c, struct wr_ask *r, const char *text, const char *id_key,
	  const char *path_key, struct wr_err *err)
{
	const char *colon = strchr(text, ':');
	WR_SCOPED(wr_freep) char *ref = NULL;
	WR_SCOPED(wr_target_fini) struct wr_target t = {0};

	if (!colon) {
		wr_err_set(err, WR_E_USAGE, "'%s' has no colon", WR_Q(text));
		return wr_err_hint(err,
				   "write ID:PATH; '%s:' means the whole project, ':PATH' the "
				   "one of the current directory",
				   WR_Q(text));
	}
	ref = wr_asprintf("%.*s", (int)(colon - text), text);
	if (wr_target_resolve(c, *ref ? ref : NULL, &t.id, &t.home, err) < 0)
		return -1;
	wr_ask_str(r, id_key, t.id);
	if (colon[1])
		wr_ask_path(r, path_key, wr_target_path(&t, colon + 1));
	return 0;
}

int
wr_cmd_copy(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about b = {0};

	if (wr_client_init(&b.client, a, err) < 0)
		return -1;
	wr_ask_init(&b.req, WR_API_COPY, NULL);
	if (add_place(&b.client, &b.req, a->pos[0], "from", "from_path", err) < 0 ||
	    add_place(&b.client, &b.req, a->pos[1], "to", "to_path", err) < 0)
		return -1;
	wr_ask_str(&b.req, "mode", wr_arg_str(a, "mode"));
	wr_ask_flag(&b.req, "delete", wr_arg_flag(a, "delete"));
	add_wait(&b.req, a);
	return wr_operate(&b.client, a, &b.req, err);
}

/* ---- create ---- */

/* A bare one, as bup and git make them. */
static bool
is_repository(const char *dir)
{
	static const char *const parts[] = {"HEAD", "objects", "refs"};
	bool is = true;

	for (size_t i = 0; i < WR_ARRAY_LEN(parts); i++) {
		WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/%s", dir, parts[i]);

		is = is && access(path, F_OK) == 0;
	}
	return is;
}

int
wr_cmd_create(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about b = {0};
	const char *from = wr_arg_str(a, "from"), *const * list;
	char full[PATH_MAX];
	size_t n;

	if (wr_arg_flag(a, "adopt") && !from) {
		wr_err_set(err, WR_E_USAGE, "--adopt: which repository?");
		return wr_err_hint(err, "name it with --from DIR");
	}
	/* The daemon stands in another directory. */
	if (from && !realpath(from, full))
		return wr_err_sys(err, "--from '%s'", WR_Q(from));
	if (from && !wr_arg_flag(a, "adopt") && is_repository(full))
		wr_remark(
		    "HINT: '%s' is a repository, and its files become the project's; to take over "
		    "its history give --adopt",
		    WR_Q(from));
	if (wr_client_init(&b.client, a, err) < 0)
		return -1;
	wr_ask_init(&b.req, WR_API_CREATE, NULL);
	wr_ask_str(&b.req, "name", wr_arg_str(a, "name"));
	wr_ask_path(&b.req, "from", from ? full : NULL);
	wr_ask_flag(&b.req, "adopt", wr_arg_flag(a, "adopt"));
	n = wr_arg_list(a, "label", &list);
	for (size_t i = 0; i < n; i++)
		if (wr_ask_pair(&b.req, "labels", list[i], err) < 0)
			return wr_err_wrap(err, "--label");
	n = wr_arg_list(a, "set", &list);
	wr_ask_list(&b.req, "settings", list, n);
	if (wr_arg_str(a, "uid"))
		wr_ask_u64(&b.req, "uid", wr_arg_u64(a, "uid", 0));
	if (wr_arg_str(a, "gid"))
		wr_ask_u64(&b.req, "gid", wr_arg_u64(a, "gid", 0));
	wr_ask_str(&b.req, "identity", wr_arg_str(a, "identity"));
	wr_ask_str(&b.req, "account", wr_arg_str(a, "account"));
	wr_ask_str(&b.req, "volume", wr_arg_str(a, "volume"));
	wr_ask_str(&b.req, "id", wr_arg_str(a, "id"));
	add_wait(&b.req, a);
	return wr_operate(&b.client, a, &b.req, err);
}

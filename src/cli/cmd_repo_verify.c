/* SPDX-License-Identifier: Apache-2.0 */
/* warren repo verify: is everything there and whole; --repair writes what is missing. */
#include <sys/stat.h>

#include "base/str.h"
#include "cli/claim.h"
#include "cli/cli.h"
#include "cli/out.h"
#include "engine/repo/verify.h"
#include "engine/snap/save.h"

#define SHOWN_MAX 20
#define EXIT_DAMAGED 1

static const char *const kind_name[] = {
    [WR_DAMAGE_MISSING] = "missing",     [WR_DAMAGE_BAD] = "damaged",
    [WR_DAMAGE_SHADOWED] = "shadowed",   [WR_DAMAGE_INDEX] = "index",
    [WR_DAMAGE_PACK] = "pack",           [WR_DAMAGE_REF] = "ref",
    [WR_DAMAGE_UNINDEXED] = "unindexed",
};

struct run {
	const struct wr_args *a;
	struct wr_repo *repo;
	struct wr_verify_opts o;
	struct wr_progress *progress;
	struct wr_verify_result res;
	uint64_t indexes_rebuilt, objects_stored;
	struct wr_idmap wanted; /* ids that repair looks for */
};

static int
on_bytes(void *ctx, uint64_t done)
{
	struct run *run = ctx;

	wr_progress_total(run->progress, 0, run->o.total_bytes);
	wr_progress_set(run->progress, 0, done);
	return 0;
}

static int
verify(struct run *run, struct wr_err *err)
{
	int rc;

	wr_verify_result_fini(&run->res);
	run->progress = wr_progress_begin(run->a, "verifying");
	run->o.progress = on_bytes;
	run->o.ctx = run;
	rc = wr_verify(run->repo, &run->o, &run->res, err);
	wr_progress_end(run->progress);
	return rc;
}

static bool
is_wanted(void *ctx, const struct wr_id *id)
{
	return wr_idmap_find(ctx, id) != NULL;
}

/* Read the files below path as a save would, and keep only objects that are damaged or missing. */
static int
fill_from(struct run *run, const char *path, struct wr_err *err)
{
	struct wr_save_opts so = WR_SAVE_OPTS_INIT;
	struct wr_save_result sr;

	for (size_t i = 0; i < run->res.damage_count; i++) {
		const struct wr_damage *d = &run->res.damage[i];
		bool fresh;

		if (d->kind == WR_DAMAGE_MISSING || d->kind == WR_DAMAGE_BAD)
			wr_idmap_put(&run->wanted, &d->id, &fresh);
	}
	if (!run->wanted.count)
		return 0;
	so.fill = true;
	so.damaged = is_wanted;
	so.damaged_ctx = &run->wanted;
	so.threads = run->o.threads;
	if (wr_save(run->repo, path, &so, &sr, err) < 0)
		return wr_err_wrap(err, "look for lost contents");
	run->objects_stored = sr.objects_new;
	wr_save_result_fini(&sr);
	return wr_repo_refresh(run->repo, err);
}

static int
repair(struct run *run, struct wr_err *err)
{
	const char *from = wr_arg_str(run->a, "from");

	if (wr_repo_lock(run->repo, "verify --repair", (int)wr_arg_u64(run->a, "wait", 0), err) < 0)
		return -1;
	if (wr_repair_indexes(run->repo, &run->indexes_rebuilt, err) < 0 ||
	    wr_repo_refresh(run->repo, err) < 0 || verify(run, err) < 0)
		return -1;
	if (!from || wr_verify_whole(&run->res))
		return 0;
	if (fill_from(run, from, err) < 0)
		return -1;
	return run->objects_stored ? verify(run, err) : 0;
}

/* Anything but what a killed writer leaves behind? */
static bool
has_damage(const struct wr_verify_result *v)
{
	for (size_t i = 0; i < v->damage_count; i++)
		if (v->damage[i].kind != WR_DAMAGE_UNINDEXED)
			return true;
	return false;
}

static int
print_json(const struct run *run, struct wr_err *err)
{
	const struct wr_verify_result *v = &run->res;
	json_t *o = wr_json_begin("warren.verify/1"), *list;

	wr_json_bool(o, "whole", wr_verify_whole(v));
	wr_json_bool(o, "data", run->o.data);
	wr_json_u64(o, "packs", v->packs);
	wr_json_u64(o, "objects", v->objects);
	wr_json_u64(o, "bytes", v->bytes);
	wr_json_u64(o, "refs", v->refs);
	wr_json_u64(o, "snapshots", v->snapshots);
	if (wr_arg_flag(run->a, "repair")) {
		json_t *r = wr_json_object(o, "repaired");

		wr_json_u64(r, "indexes", run->indexes_rebuilt);
		wr_json_u64(r, "objects", run->objects_stored);
	}
	list = wr_json_array(o, "damage");
	for (size_t i = 0; i < v->damage_count; i++) {
		const struct wr_damage *d = &v->damage[i];
		json_t *e = wr_json_item(list);

		wr_json_str(e, "kind", kind_name[d->kind]);
		if (!wr_id_is_zero(&d->id))
			wr_json_id(e, "object", &d->id);
		wr_json_str(e, "where", d->where);
		wr_json_str(e, "why", d->why);
	}
	list = wr_json_array(o, "hurt");
	for (size_t i = 0; i < v->hurt_count; i++) {
		const struct wr_hurt *h = &v->hurt[i];
		json_t *e = wr_json_item(list);

		wr_json_str(e, "snapshot", h->snapshot);
		wr_json_id(e, "commit", &h->commit);
		wr_json_path(e, "path", h->path.p, h->path.len);
		wr_json_id(e, "object", &h->object);
	}
	wr_json_u64(o, "hurt_more", v->hurt_more);
	return wr_json_print(o, err);
}

static void
print_text(const struct run *run)
{
	const struct wr_verify_result *v = &run->res;
	size_t shown = WR_MIN(v->hurt_count, (size_t)SHOWN_MAX);

	if (run->indexes_rebuilt)
		printf("rebuilt %s indexes\n", wr_fmt_count(run->indexes_rebuilt).s);
	if (run->objects_stored)
		printf("stored %s lost objects again\n", wr_fmt_count(run->objects_stored).s);
	for (size_t i = 0; i < WR_MIN(v->damage_count, (size_t)SHOWN_MAX); i++) {
		const struct wr_damage *d = &v->damage[i];

		printf("%-9s", kind_name[d->kind]);
		if (!wr_id_is_zero(&d->id))
			printf(" %s", wr_id_hex(&d->id).s);
		if (d->where)
			printf(" %s", WR_Q(d->where));
		printf("%s%s\n", d->why ? ": " : "", d->why ? d->why : "");
	}
	if (v->damage_count > SHOWN_MAX)
		printf("and %zu more; --json lists them\n", v->damage_count - SHOWN_MAX);
	if (shown)
		printf("hurt by that:\n");
	for (size_t i = 0; i < shown; i++) {
		printf("  %s:/", v->hurt[i].snapshot);
		wr_name_print(v->hurt[i].path.p, v->hurt[i].path.len);
		printf("\n");
	}
	if (v->hurt_count > shown || v->hurt_more)
		printf("  and %" PRIu64 " more paths; --json lists up to 10,000\n",
		       (uint64_t)(v->hurt_count - shown) + v->hurt_more);
	printf("%s: %s snapshots, ",
	       wr_verify_whole(v) ? has_damage(v) ? "whole, but see above" : "whole" : "DAMAGED",
	       wr_fmt_count(v->snapshots).s);
	printf("%s objects in ", wr_fmt_count(v->objects).s);
	printf("%s packs", wr_fmt_count(v->packs).s);
	if (run->o.data)
		printf(", %s read and hashed\n", wr_fmt_bytes(v->bytes).s);
	else
		printf(" (contents not read; --data does)\n");
}

/* Told before the long work, not after it, and also when there turns out to be nothing to fill. */
static int
check_from(const char *from, struct wr_err *err)
{
	struct stat st;

	if (!from)
		return 0;
	if (stat(from, &st) < 0)
		return wr_err_sys(err, "--from '%s'", WR_Q(from));
	if (!S_ISDIR(st.st_mode))
		return wr_err_set(err, WR_E_INVALID, "--from '%s': not a directory", WR_Q(from));
	return 0;
}

int
wr_cmd_repo_verify(const struct wr_args *a, struct wr_err *err)
{
	struct run run = {.a = a};
	WR_SCOPED(wr_lock_drop) struct wr_lock claim = WR_LOCK_INIT;
	const char *path = wr_arg_repo(a, err);
	int rc = -1;

	if (wr_arg_str(a, "from") && !wr_arg_flag(a, "repair")) {
		wr_err_set(err, WR_E_USAGE, "--from is of use with --repair only");
		return -1;
	}
	if (!path || check_from(wr_arg_str(a, "from"), err) < 0 ||
	    wr_repo_open(path, &run.repo, err) < 0)
		return -1;
	run.o.data = wr_arg_flag(a, "data");
	run.o.threads = (unsigned)wr_arg_u64(a, "threads", 0);
	if (!wr_arg_flag(a, "repair"))
		rc = verify(&run, err);
	else if (wr_claim(run.repo, a->cmd->path, (int)wr_arg_u64(a, "wait", 0), &claim, err) == 0)
		rc = repair(&run, err);
	if (rc == 0) {
		bool whole = wr_verify_whole(&run.res);

		if (wr_out_json())
			rc = print_json(&run, err);
		else if (!wr_out_quiet() || !whole)
			print_text(&run);
		if (rc == 0 && !whole) {
			wr_remark("HINT: `warren repo verify --repair --from PATH` stores lost "
				  "contents again that files below PATH still have");
			rc = EXIT_DAMAGED;
		} else if (rc == 0 && has_damage(&run.res)) {
			rc = WR_EXIT_WARNINGS;
		}
	}
	wr_verify_result_fini(&run.res);
	wr_idmap_fini(&run.wanted);
	wr_repo_close(run.repo);
	return rc;
}

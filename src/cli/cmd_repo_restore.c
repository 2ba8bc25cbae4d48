/* SPDX-License-Identifier: Apache-2.0 */
/* warren repo restore: a directory or file becomes what a snapshot holds. */
#include <pthread.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/receipt.h"
#include "cli/view.h"
#include "engine/snap/restore.h"

/* Actions of a dry run that are held back to be shown in order. */
#define SORT_MAX 100000

struct action {
	const char *op; /* static */
	char *path;
	size_t len;
};

struct run {
	struct wr_view v;
	struct wr_snap snap;
	char *path; /* inside the snapshot, or NULL */
	const char *repo, *dest;
	struct wr_restore_opts o;
	struct wr_restore_result res;
	struct wr_progress *progress;
	pthread_mutex_t mutex; /* for the actions */
	struct action *action;
	size_t count, cap;
	struct wr_err err; /* of printing them */
};

static void
on_progress(void *ctx, const char *step, uint64_t files, uint64_t files_total, uint64_t bytes,
	    uint64_t bytes_total)
{
	struct run *run = ctx;

	(void)step;
	wr_progress_total(run->progress, files_total, bytes_total);
	wr_progress_set(run->progress, files, bytes);
}

/* ---- a dry run's actions ---- */

static int
by_path(const void *a, const void *b)
{
	const struct action *x = a, *y = b;
	int c = memcmp(x->path, y->path, WR_MIN(x->len, y->len));

	if (c == 0 && x->len == y->len)
		return strcmp(y->op, x->op) > 0 ? 1 : -1; /* delete, then create */
	return c ? c : x->len < y->len ? -1 : 1;
}

static void
print_actions(struct run *run)
{
	if (run->count)
		qsort(run->action, run->count, sizeof(*run->action), by_path);
	for (size_t i = 0; i < run->count; i++) {
		struct action *e = &run->action[i];

		if (wr_out_json()) {
			json_t *item = json_object();

			wr_json_str(item, "op", e->op);
			wr_json_path(item, "path", e->path, e->len);
			if (run->err.code == WR_E_NONE)
				(void)wr_json_stream_item(item, &run->err); /* told at the end */
			else
				json_decref(item);
		} else if (!wr_out_quiet()) {
			printf("would %-9s", strcmp(e->op, "metadata") ? e->op : "update");
			wr_name_print(e->path, e->len);
			printf("\n");
		}
		free(e->path);
	}
	run->count = 0;
}

static void
on_action(void *ctx, const char *op, const char *path, size_t len)
{
	struct run *run = ctx;

	pthread_mutex_lock(&run->mutex);
	if (run->count == SORT_MAX)
		print_actions(run);
	wr_grow(&run->action, &run->cap, run->count + 1, sizeof(*run->action));
	run->action[run->count++] = (struct action){op, wr_memdup(path, len), len};
	pthread_mutex_unlock(&run->mutex);
}

/* ---- receipts ---- */

/* A word for a shell: as it is if nothing in it is special. */
static void
add_word(struct wr_buf *b, const char *s)
{
	wr_buf_add8(b, ' ');
	if (*s && !s[strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
			       "_-./:@%+=,")]) {
		wr_buf_adds(b, s);
		return;
	}
	wr_buf_add8(b, '\'');
	for (; *s; s++) {
		if (*s == '\'')
			wr_buf_adds(b, "'\\''");
		else
			wr_buf_add8(b, (uint8_t)*s);
	}
	wr_buf_add8(b, '\'');
}

static bool
changed(const struct wr_restore_result *r)
{
	return r->created || r->replaced || r->metadata || r->deleted;
}

/* The command that brings back what was there; empty if there is nothing to bring back. */
static void
undo_command(const struct run *run, struct wr_buf *out)
{
	const struct wr_restore_result *r = &run->res;
	WR_SCOPED(wr_buf_fini) struct wr_buf spec = WR_BUF_INIT;
	const char *base = r->target ? strrchr(r->target, '/') : NULL;

	if (!r->has_safety || !changed(r))
		return;
	wr_buf_addf(&spec, "%s/%s", WR_SAFETY_BRANCH, r->safety_name);
	if (r->one_file && base)
		wr_buf_addf(&spec, ":%s", base + 1);
	wr_buf_adds(out, "warren repo restore -r");
	add_word(out, run->repo);
	add_word(out, wr_buf_str(&spec));
	add_word(out, r->target);
	if (!r->one_file)
		wr_buf_adds(out, " --delete");
}

static void
json_counts(const struct run *run, json_t *o)
{
	const struct wr_restore_result *r = &run->res;
	WR_SCOPED(wr_buf_fini) struct wr_buf undo = WR_BUF_INIT;

	wr_receipt_restore(o, r);
	undo_command(run, &undo);
	if (undo.len)
		wr_json_path(o, "undo", undo.p, undo.len);
	wr_json_real(o, "seconds", r->seconds);
}

static json_t *
json_head(const struct run *run)
{
	const char *path = run->path ? run->path : "";
	json_t *o = wr_json_begin("warren.restore/1");

	wr_json_snap(o, &run->snap);
	wr_json_path(o, "path", path, strlen(path));
	wr_json_path(o, "dest", run->dest, strlen(run->dest));
	wr_json_bool(o, "dry_run", run->o.dry_run);
	return o;
}

static void
print_text(const struct run *run)
{
	const struct wr_restore_result *r = &run->res;
	WR_SCOPED(wr_buf_fini) struct wr_buf undo = WR_BUF_INIT;
	const char *would = run->o.dry_run ? "would be " : "";

	printf("%s %s", run->o.dry_run ? "would restore" : "restored", wr_snap_name(&run->snap).s);
	if (run->path && *run->path) {
		printf(":");
		wr_name_print(run->path, strlen(run->path));
	}
	printf(" to ");
	wr_name_print(run->dest, strlen(run->dest));
	printf(" in %s\n", wr_fmt_seconds(r->seconds).s);
	if (!changed(r))
		printf("  nothing to change\n");
	if (r->created)
		printf("  %s %screated\n", wr_fmt_count(r->created).s, would);
	if (r->replaced)
		printf("  %s %sreplaced\n", wr_fmt_count(r->replaced).s, would);
	if (r->metadata)
		printf("  %s %supdated in metadata only\n", wr_fmt_count(r->metadata).s, would);
	if (r->deleted)
		printf("  %s %sdeleted\n", wr_fmt_count(r->deleted).s, would);
	if (r->kept)
		printf("  %s kept as they are\n", wr_fmt_count(r->kept).s);
	if (r->unchanged)
		printf("  %s unchanged\n", wr_fmt_count(r->unchanged).s);
	if (r->bytes_written)
		printf("  %s written\n", wr_fmt_bytes(r->bytes_written).s);
	undo_command(run, &undo);
	if (undo.len) {
		printf("what was there before is in snapshot %s/%s; to bring it back:\n  ",
		       WR_SAFETY_BRANCH, r->safety_name);
		wr_name_print(undo.p, undo.len);
		printf("\n");
	}
}

static int
restore(struct run *run, const struct wr_args *a, struct wr_err *err)
{
	json_t *o;
	int rc;

	if (run->o.dry_run) {
		run->o.action = on_action;
		if (wr_out_json())
			wr_json_stream_begin(json_head(run), "actions");
	}
	run->progress = wr_progress_begin(a, "restoring");
	rc = wr_restore(run->v.repo, &run->snap, run->path, run->dest, &run->o, &run->res, err);
	wr_progress_end(run->progress);
	print_actions(run);
	if (rc < 0)
		return -1;
	if (wr_out_json()) {
		o = run->o.dry_run ? json_object() : json_head(run);
		json_counts(run, o);
		rc = run->o.dry_run ? wr_json_stream_end(o, err) : wr_json_print(o, err);
	} else if (!wr_out_quiet()) {
		print_text(run);
	}
	wr_receipt_warn(&run->res.skipped);
	if (rc == 0 && run->err.code != WR_E_NONE) {
		*err = run->err;
		rc = -1;
	}
	if (rc == 0 && run->res.skipped.count)
		rc = WR_EXIT_WARNINGS;
	wr_restore_result_fini(&run->res);
	return rc;
}

int
wr_cmd_repo_restore(const struct wr_args *a, struct wr_err *err)
{
	static const struct {
		const char *word;
		enum wr_overwrite mode;
	} overwrite[] = {{"always", WR_OVERWRITE_ALWAYS},
			 {"changed", WR_OVERWRITE_CHANGED},
			 {"newer", WR_OVERWRITE_NEWER},
			 {"never", WR_OVERWRITE_NEVER}};
	struct run run = {
	    .mutex = PTHREAD_MUTEX_INITIALIZER, .err = WR_ERR_INIT, .o = WR_RESTORE_OPTS_INIT};
	const char *when = wr_arg_str(a, "overwrite");
	int rc = -1;

	run.repo = wr_arg_repo(a, err);
	if (!run.repo || wr_view_open(a, &run.v, err) < 0)
		return -1;
	run.dest = a->pos[1];
	run.o.delete_extra = wr_arg_flag(a, "delete");
	run.o.dry_run = wr_arg_flag(a, "dry-run");
	run.o.no_owner = wr_arg_flag(a, "no-owner");
	run.o.names = wr_arg_flag(a, "names");
	run.o.no_safety = wr_arg_flag(a, "no-safety");
	run.o.wait_s = (int)wr_arg_u64(a, "wait", 0);
	run.o.threads = (unsigned)wr_arg_u64(a, "threads", 0);
	run.o.progress = on_progress;
	run.o.ctx = &run;
	for (size_t i = 0; when && i < WR_ARRAY_LEN(overwrite); i++)
		if (!strcmp(when, overwrite[i].word))
			run.o.overwrite = overwrite[i].mode;
	if (!*run.dest)
		wr_err_set(err, WR_E_USAGE, "DEST is empty");
	else if (wr_resolve(run.v.rd, a->pos[0], run.v.now, &run.snap, &run.path, err) == 0)
		rc = restore(&run, a, err);
	wr_snap_fini(&run.snap);
	free(run.path);
	free(run.action);
	wr_view_close(&run.v);
	return rc;
}

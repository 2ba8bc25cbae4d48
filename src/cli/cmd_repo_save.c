/* SPDX-License-Identifier: Apache-2.0 */
/* warren repo save: a directory becomes a new snapshot. */
#include "base/str.h"
#include "cli/claim.h"
#include "cli/cli.h"
#include "cli/out.h"
#include "cli/receipt.h"
#include "engine/snap/save.h"
#include "sys/fs.h"

#include <fcntl.h>

static void
on_progress(void *ctx, const char *step, uint64_t files, uint64_t files_total, uint64_t bytes,
	    uint64_t bytes_total)
{
	(void)step;
	wr_progress_total(ctx, files_total, bytes_total);
	wr_progress_set(ctx, files, bytes);
}

static int
read_patterns(const struct wr_args *a, struct wr_ignore *ig, struct wr_err *err)
{
	const char *file = wr_arg_str(a, "exclude-from");
	const char *const *pattern;
	size_t n = wr_arg_list(a, "exclude", &pattern);

	if (file) {
		WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

		if (wr_read_file(AT_FDCWD, file, WR_IGNORE_FILE_MAX, &b, err) < 0 ||
		    wr_ignore_add_file(ig, b.p, b.len, err) < 0)
			return wr_err_wrap(err, "--exclude-from");
	}
	for (size_t i = 0; i < n; i++)
		if (wr_ignore_add(ig, pattern[i], strlen(pattern[i]), err) < 0)
			return wr_err_wrap(err, "--exclude");
	return 0;
}

static int
print_json(const struct wr_save_result *r, bool dry_run, struct wr_err *err)
{
	json_t *o = wr_json_begin("warren.save/1");

	wr_receipt_save(o, r, dry_run);
	return wr_json_print(o, err);
}

static void
print_text(const struct wr_save_result *r, bool dry_run)
{
	if (!r->made)
		printf("nothing changed since %s/%s", r->branch, r->name);
	else
		printf("%s %s/%s", dry_run ? "would save" : "saved", r->branch, r->name);
	if (r->has_commit && !(dry_run && r->made))
		printf(" (%s)", wr_id_short(&r->commit).s);
	printf(" in %s\n", wr_fmt_seconds(r->seconds).s);
	printf("  files     %s", wr_fmt_count(r->files).s);
	if (r->files_new || r->files_changed || r->files_removed) {
		printf(" (%s new, ", wr_fmt_count(r->files_new).s);
		printf("%s changed, ", wr_fmt_count(r->files_changed).s);
		printf("%s removed)", wr_fmt_count(r->files_removed).s);
	}
	printf("\n  size      %s, read %s, new ", wr_fmt_bytes(r->bytes_total).s,
	       wr_fmt_bytes(r->bytes_read).s);
	printf("%s, stored %s\n", wr_fmt_bytes(r->bytes_new).s, wr_fmt_bytes(r->bytes_stored).s);
	if (r->left_out_files || r->left_out.count) {
		printf("  not protected: %s files, %s, by rules\n",
		       wr_fmt_count(r->left_out_files).s, wr_fmt_bytes(r->left_out_bytes).s);
		for (size_t i = 0; i < WR_MIN(r->left_out.count, (size_t)5); i++) {
			printf("    %10s  ", wr_fmt_bytes(r->left_out.note[i].bytes).s);
			wr_name_print(r->left_out.note[i].path, r->left_out.note[i].path_len);
			printf("  (%s)\n", r->left_out.note[i].reason);
		}
	}
}

int
wr_cmd_repo_save(const struct wr_args *a, struct wr_err *err)
{
	struct wr_save_opts o = WR_SAVE_OPTS_INIT;
	struct wr_save_result res;
	const char *path = wr_arg_repo(a, err);
	WR_SCOPED(wr_lock_drop) struct wr_lock claim = WR_LOCK_INIT;
	struct wr_repo *r;
	int rc;

	if (!path || wr_repo_open(path, &r, err) < 0)
		return -1;
	o.branch = wr_arg_str(a, "name");
	if (wr_arg_str(a, "date"))
		o.date = (int64_t)wr_arg_u64(a, "date", 0);
	o.one_file_system = wr_arg_flag(a, "one-file-system");
	o.max_file_size = wr_arg_u64(a, "max-file-size", 0);
	o.dry_run = wr_arg_flag(a, "dry-run");
	o.force = wr_arg_flag(a, "force");
	o.trust_mtime = wr_arg_flag(a, "trust-mtime");
	o.wait_s = (int)wr_arg_u64(a, "wait", 0);
	o.threads = (unsigned)wr_arg_u64(a, "threads", 0);
	o.ignore = wr_ignore_new(NULL, "");
	rc = read_patterns(a, o.ignore, err);
	if (rc == 0 && !o.dry_run)
		rc = wr_claim(r, a->cmd->path, o.wait_s, &claim, err);
	if (rc == 0) {
		o.progress = on_progress;
		o.ctx = wr_progress_begin(a, "saving");
		rc = wr_save(r, a->pos[0], &o, &res, err);
		wr_progress_end(o.ctx);
	}
	wr_ignore_unref(o.ignore);
	wr_repo_close(r);
	if (rc < 0)
		return -1;
	if (wr_out_json())
		rc = print_json(&res, o.dry_run, err);
	else if (!wr_out_quiet())
		print_text(&res, o.dry_run);
	wr_receipt_warn(&res.skipped);
	if (rc == 0 && res.skipped.count)
		rc = WR_EXIT_WARNINGS;
	wr_save_result_fini(&res);
	return rc;
}

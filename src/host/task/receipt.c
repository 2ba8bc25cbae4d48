/* SPDX-License-Identifier: Apache-2.0 */
#include "host/task/receipt.h"

void
wr_json_id(json_t *obj, const char *key, const struct wr_id *id)
{
	wr_json_str(obj, key, wr_id_hex(id).s);
}

/* LIMIT: of what one list names; receipts are kept, and told of by tens. */
#define NAMED_MAX (128u << 10)
/* What an entry takes besides its path. */
#define NAMED_REST 64

/* Name what there is room for; gives how many are not named. */
static uint64_t
add_notes(json_t *list, const struct wr_notes *n, bool with_bytes)
{
	size_t room = NAMED_MAX, i;

	for (i = 0; i < n->count && n->note[i].path_len + NAMED_REST <= room; i++) {
		json_t *e = wr_json_item(list);

		wr_json_path(e, "path", n->note[i].path, n->note[i].path_len);
		wr_json_str(e, "reason", n->note[i].reason);
		if (with_bytes)
			wr_json_u64(e, "bytes", n->note[i].bytes);
		room -= n->note[i].path_len + NAMED_REST;
	}
	return n->more + (n->count - i);
}

void
wr_receipt_notes(json_t *o, const char *key, const struct wr_notes *n)
{
	WR_SCOPED(wr_freep) char *more = wr_asprintf("%s_more", key);
	json_t *list = wr_json_array(o, key);

	wr_json_u64(o, more, add_notes(list, n, false));
}

void
wr_receipt_save(json_t *o, const struct wr_save_result *r, bool dry_run)
{
	json_t *files, *bytes, *out, *list;

	wr_json_bool(o, "made", r->made);
	wr_json_bool(o, "dry_run", dry_run);
	if (r->has_commit) {
		wr_json_id(o, "commit", &r->commit);
		wr_json_str(o, "name", r->name);
		wr_json_time(o, "time", r->time);
	}
	wr_json_id(o, "tree", &r->tree);
	wr_json_str(o, "branch", r->branch);
	files = wr_json_object(o, "files");
	wr_json_u64(files, "total", r->files);
	wr_json_u64(files, "new", r->files_new);
	wr_json_u64(files, "changed", r->files_changed);
	wr_json_u64(files, "removed", r->files_removed);
	wr_json_u64(o, "directories", r->dirs);
	bytes = wr_json_object(o, "bytes");
	wr_json_u64(bytes, "total", r->bytes_total);
	wr_json_u64(bytes, "read", r->bytes_read);
	wr_json_u64(bytes, "new", r->bytes_new);
	wr_json_u64(bytes, "stored", r->bytes_stored);
	wr_json_u64(o, "objects_new", r->objects_new);
	wr_json_time(o, "scan_started", r->scan_started.s);
	wr_json_real(o, "seconds", r->seconds);
	out = wr_json_object(o, "not_protected");
	wr_json_u64(out, "count", r->left_out_files);
	wr_json_u64(out, "bytes", r->left_out_bytes);
	list = wr_json_array(out, "largest");
	(void)add_notes(list, &r->left_out, true); /* count says how many there are */
	wr_receipt_notes(o, "skipped", &r->skipped);
}

void
wr_receipt_restore(json_t *o, const struct wr_restore_result *r)
{
	wr_json_u64(o, "files", r->files);
	wr_json_u64(o, "directories", r->dirs);
	wr_json_u64(o, "created", r->created);
	wr_json_u64(o, "replaced", r->replaced);
	wr_json_u64(o, "metadata", r->metadata);
	wr_json_u64(o, "deleted", r->deleted);
	wr_json_u64(o, "unchanged", r->unchanged);
	wr_json_u64(o, "kept", r->kept);
	wr_json_u64(o, "bytes_written", r->bytes_written);
	wr_receipt_notes(o, "skipped", &r->skipped);
	if (r->has_safety) {
		json_t *s = wr_json_object(o, "safety");
		WR_SCOPED(wr_freep)
		char *name = wr_asprintf("%s/%s", WR_SAFETY_BRANCH, r->safety_name);

		wr_json_str(s, "snapshot", name);
		wr_json_id(s, "commit", &r->safety_commit);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Receipts and operations as text for people. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/follow.h"
#include "cli/out.h"
#include "sys/clock.h"

/* Paths and warnings shown to people; --json has more. */
#define SHOWN_MAX 20

char *
wr_json_path_bytes(const json_t *obj, const char *key)
{
	WR_SCOPED(wr_freep) char *key64 = wr_asprintf("%s_b64", key);
	const char *s = wr_json_get_str(obj, key64, NULL);
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	if (!s) {
		s = wr_json_get_str(obj, key, NULL);
		return s ? wr_strdup(s) : NULL;
	}
	return wr_base64_decode(&b, s, strlen(s)) ? wr_buf_detach(&b, NULL) : NULL;
}

struct wr_short
wr_when_text(int64_t seconds)
{
	struct wr_short s = wr_fmt_utc(seconds);

	if (seconds == 0)
		return (struct wr_short){"-"};
	if (seconds / 86400 == wr_clock_wall().s / 86400 && strlen(s.s) == 20) {
		memmove(s.s, s.s + 11, 8);
		s.s[8] = '\0';
	}
	return s;
}

static void
print_text(const char *s)
{
	wr_name_print(s, strlen(s));
}

static void
print_member(const json_t *o, const char *key)
{
	WR_SCOPED(wr_freep) char *s = wr_json_path_bytes(o, key);

	print_text(s ? s : "?");
}

/* "  12 what\n" unless it is none. */
static void
print_count(const json_t *o, const char *key, const char *what)
{
	uint64_t n = wr_json_get_u64(o, key, 0);

	if (n)
		printf("  %s %s\n", wr_fmt_count(n).s, what);
}

static void
print_seconds(const json_t *o)
{
	if (json_object_get(o, "seconds"))
		printf(" in %s", wr_fmt_seconds(wr_json_get_real(o, "seconds", 0)).s);
}

/* ---- warnings: they go to standard error also with --quiet ---- */

static size_t
warn_paths(const json_t *o, const char *key)
{
	const json_t *list = wr_json_get_arr(o, key), *item;
	WR_SCOPED(wr_freep) char *more_key = wr_asprintf("%s_more", key);
	uint64_t more = wr_json_get_u64(o, more_key, 0);
	size_t i, n = json_array_size(list);

	json_array_foreach(list, i, item)
	{
		WR_SCOPED(wr_freep) char *path = wr_json_path_bytes(item, "path");

		if (i == SHOWN_MAX)
			break;
		wr_warn("'%s': %s", WR_Q(path ? path : "?"),
			WR_Q(wr_json_get_str(item, "reason", "?")));
	}
	if (n > SHOWN_MAX || more)
		wr_warn("and %" PRIu64 " more; --json lists them",
			more + (n > SHOWN_MAX ? n - SHOWN_MAX : 0));
	return n;
}

static size_t
warn_texts(const json_t *o)
{
	const json_t *list = wr_json_get_arr(o, "warnings"), *item;
	size_t i;

	json_array_foreach(list, i, item) if (json_is_string(item))
	    wr_warn_text(json_string_value(item));
	return json_array_size(list);
}

static int
warn_all(const json_t *o)
{
	static const char *const parts[] = {"save", "stop", "start", "restored", "imported"};
	size_t n = warn_paths(o, "skipped") + warn_paths(o, "left") + warn_texts(o);

	for (size_t i = 0; i < WR_ARRAY_LEN(parts); i++) {
		const json_t *part = wr_json_get_obj(o, parts[i]);

		if (part && warn_all(part))
			n++;
	}
	return n ? WR_EXIT_WARNINGS : 0;
}

/* ---- one function per kind of receipt ---- */

/* Who has it, and what a user may rely on. */
static void
replicas_text(const json_t *o)
{
	const json_t *list = wr_json_get_arr(o, "replicas"), *r;
	int64_t scan = wr_json_get_time(o, "scan_started", 0);
	uint64_t in = wr_json_get_u64(o, "safe_in", 0), of = wr_json_get_u64(o, "members", 0);
	size_t i;

	if (!json_array_size(list))
		return;
	json_array_foreach(list, i, r)
	{
		const json_t *e = wr_json_get_obj(r, "error");

		printf("  replica   ");
		print_member(r, "name");
		printf(" (");
		print_member(r, "dc");
		if (e) {
			printf(") is behind: ");
			print_text(wr_json_get_str(e, "message", "?"));
			printf("\n");
		} else {
			printf(") at ");
			print_member(r, "version");
			printf("\n");
		}
	}
	if (wr_json_get_bool(o, "safe", false) && scan)
		printf("everything you closed before %s is in %" PRIu64 " data centres\n",
		       wr_when_text(scan).s, wr_json_get_u64(o, "dcs", 0));
	else
		printf("%s in %" PRIu64 " of %" PRIu64 " copies\n",
		       wr_json_get_bool(o, "safe", false) ? "safe:" : "not safe yet:", in, of);
}

static void
replicate_text(const json_t *o)
{
	printf("sent ");
	print_member(o, "name");
	printf(" ");
	print_member(o, "version");
	print_seconds(o);
	printf("\n");
	replicas_text(o);
}

static void
move_text(const json_t *o)
{
	printf("moved ");
	print_member(o, "name");
	printf(" to ");
	print_member(o, "to_name");
	printf(" (epoch %" PRIu64 ")%s\n", wr_json_get_u64(o, "epoch", 0),
	       wr_json_get_bool(o, "started", false) ? ", where it starts" : "");
	if (wr_json_get_obj(o, "scratch"))
		printf("  scratch   stays here, in the trash until %s: moved back before, it is "
		       "there again\n",
		       wr_fmt_utc(wr_json_get_time(wr_json_get_obj(o, "scratch"), "trash_until", 0))
			   .s);
}

static void
save_text(const json_t *o)
{
	const json_t *files = wr_json_get_obj(o, "files"), *bytes = wr_json_get_obj(o, "bytes");
	const json_t *left_out = wr_json_get_obj(o, "not_protected");
	uint64_t added = wr_json_get_u64(files, "new", 0);
	uint64_t edited = wr_json_get_u64(files, "changed", 0);
	uint64_t removed = wr_json_get_u64(files, "removed", 0);
	const char *commit = wr_json_get_str(o, "commit", "");

	printf("%s ", wr_json_get_bool(o, "made", true) ? "saved" : "nothing changed since");
	if (wr_json_get_bool(o, "latest", false))
		printf("the newest files, without history");
	else
		print_member(o, "snapshot");
	if (*commit)
		printf(" (%.10s)", commit);
	print_seconds(o);
	printf("\n  files     %s", wr_fmt_count(wr_json_get_u64(files, "total", 0)).s);
	if (added || edited || removed)
		printf(" (%s new, %s changed, %s removed)", wr_fmt_count(added).s,
		       wr_fmt_count(edited).s, wr_fmt_count(removed).s);
	printf("\n  size      %s, read %s, new %s, stored %s\n",
	       wr_fmt_bytes(wr_json_get_u64(bytes, "total", 0)).s,
	       wr_fmt_bytes(wr_json_get_u64(bytes, "read", 0)).s,
	       wr_fmt_bytes(wr_json_get_u64(bytes, "new", 0)).s,
	       wr_fmt_bytes(wr_json_get_u64(bytes, "stored", 0)).s);
	if (wr_json_get_u64(left_out, "count", 0))
		printf("  not protected: %s %s, %s, by rules\n",
		       wr_fmt_count(wr_json_get_u64(left_out, "count", 0)).s,
		       wr_json_get_u64(left_out, "count", 0) == 1 ? "file" : "files",
		       wr_fmt_bytes(wr_json_get_u64(left_out, "bytes", 0)).s);
	if (wr_json_get_str(o, "tag", NULL)) {
		printf("  tag       ");
		print_member(o, "tag");
		printf("\n");
	}
	replicas_text(o);
}

static bool
changed(const json_t *o)
{
	return wr_json_get_u64(o, "created", 0) || wr_json_get_u64(o, "replaced", 0) ||
	       wr_json_get_u64(o, "metadata", 0) || wr_json_get_u64(o, "deleted", 0);
}

static void
counts_text(const json_t *o)
{
	uint64_t written = wr_json_get_u64(o, "bytes_written", 0);

	if (!changed(o))
		printf("  nothing to change\n");
	print_count(o, "created", "created");
	print_count(o, "replaced", "replaced");
	print_count(o, "metadata", "updated in metadata only");
	print_count(o, "deleted", "deleted");
	print_count(o, "kept", "kept as they are");
	print_count(o, "unchanged", "unchanged");
	if (written)
		printf("  %s written\n", wr_fmt_bytes(written).s);
}

static void
undo_text(const json_t *o)
{
	const json_t *safety = wr_json_get_obj(o, "safety");

	if (!wr_json_get_str(o, "undo", NULL) || (safety && !changed(o)))
		return;
	if (safety) {
		printf("what was there before is in snapshot ");
		print_member(safety, wr_json_get_str(safety, "tag", NULL) ? "tag" : "snapshot");
		printf("; to bring it back:\n  ");
	} else {
		printf("to undo it:\n  ");
	}
	print_member(o, "undo");
	printf("\n");
}

static void
restore_text(const json_t *o)
{
	WR_SCOPED(wr_freep) char *path = wr_json_path_bytes(o, "path");
	WR_SCOPED(wr_freep) char *dest = wr_json_path_bytes(o, "dest");

	printf("%s ", wr_json_get_bool(o, "dry_run", false) ? "would restore" : "restored");
	print_member(o, "snapshot");
	if (path && *path) {
		printf(":");
		print_text(path);
	}
	printf(" to ");
	if (dest && *dest)
		print_text(dest);
	else
		print_member(o, "name");
	print_seconds(o);
	printf("\n");
	counts_text(o);
	undo_text(o);
}

static void
undo_receipt_text(const json_t *o)
{
	printf("took ");
	print_member(o, "name");
	printf(" back to ");
	print_member(o, "snapshot");
	print_seconds(o);
	printf("\n");
	counts_text(o);
	undo_text(o);
}

static void
copy_text(const json_t *o)
{
	printf("copied to ");
	print_member(o, "name");
	if (wr_json_get_str(o, "from_snapshot", NULL)) {
		printf(" from snapshot ");
		print_member(o, "from_snapshot");
	}
	print_seconds(o);
	printf("\n");
	counts_text(o);
	undo_text(o);
}

static void
create_text(const json_t *o)
{
	const json_t *in = wr_json_get_obj(o, "imported");

	printf("created ");
	print_member(o, "name");
	printf(" (%.36s)", wr_json_get_str(o, "id", "?"));
	print_seconds(o);
	printf("\n  home      ");
	print_member(o, "home");
	printf("\n  user      uid %" PRIu64 ", gid %" PRIu64 "\n", wr_json_get_u64(o, "uid", 0),
	       wr_json_get_u64(o, "gid", 0));
	if (in) {
		printf("  imported  %s files, %s\n",
		       wr_fmt_count(wr_json_get_u64(in, "files", 0)).s,
		       wr_fmt_bytes(wr_json_get_u64(in, "bytes", 0)).s);
	}
	if (wr_json_get_bool(o, "adopted", false))
		printf("  adopted   the repository with its history\n");
	if (wr_json_get_str(o, "snapshot", NULL)) {
		printf("  snapshot  ");
		print_member(o, "snapshot");
		printf("\n");
	}
}

static void
holders_text(const json_t *o)
{
	const json_t *list = wr_json_get_arr(o, "holders"), *h;
	size_t i;

	json_array_foreach(list, i, h)
	{
		const char *name =
		    json_is_string(h) ? json_string_value(h) : wr_json_get_str(h, "name", "?");

		printf("%s", i ? ", " : "");
		print_text(name);
	}
}

static void
start_text(const json_t *o)
{
	uint64_t processes = wr_json_get_u64(o, "processes", 0);

	if (wr_json_get_bool(o, "already", false)) {
		print_member(o, "name");
		printf(" is active already, at ");
		print_member(o, "home");
		printf("\n");
	} else {
		printf("started ");
		print_member(o, "name");
		printf(" at ");
		print_member(o, "home");
		print_seconds(o);
		printf("\n");
	}
	if (wr_json_get_str(o, "salvaged", NULL)) {
		printf("  salvaged  the files as they were are on branch ");
		print_member(o, "salvaged");
		printf("\n");
	}
	if (wr_json_get_obj(o, "restored")) {
		printf("  restored  from ");
		print_member(o, "snapshot");
		printf("\n");
	}
	if (wr_json_get_str(o, "finished_restore", NULL))
		printf("  finished  a restore that had been interrupted\n");
	print_count(o, "skel", "missing files of the template copied");
	if (wr_json_get_bool(wr_json_get_obj(o, "limits"), "enforced", false)) {
		const json_t *l = wr_json_get_obj(o, "limits");

		printf("  disk      %s used of ", wr_fmt_bytes(wr_json_get_u64(l, "used", 0)).s);
		printf("%s\n", wr_fmt_bytes(wr_json_get_u64(l, "disk", 0)).s);
	}
	if (wr_json_get_obj(o, "scratch")) {
		const json_t *s = wr_json_get_obj(o, "scratch");

		printf("  scratch   ");
		print_member(s, "path");
		printf("%s%s\n", wr_json_get_bool(s, "back", false) ? ", back from the trash" : "",
		       wr_json_get_bool(s, "enforced", false) ? "" : ", not limited");
	}
	if (processes)
		printf("  running   %s %s\n", wr_fmt_count(processes).s,
		       processes == 1 ? "process" : "processes");
	if (json_array_size(wr_json_get_arr(o, "holders"))) {
		printf("  held by   ");
		holders_text(o);
		printf("\n");
	}
}

static void
stop_text(const json_t *o)
{
	const json_t *save = wr_json_get_obj(o, "save");

	if (!wr_json_get_bool(o, "stopped", true)) {
		print_member(o, "name");
		if (json_array_size(wr_json_get_arr(o, "holders"))) {
			printf(" goes on, held by ");
			holders_text(o);
		} else {
			printf(" goes on: ");
			print_text(wr_json_get_str(o, "reason", "it is in use"));
		}
		printf("\n");
		return;
	}
	if (wr_json_get_bool(o, "already", false)) {
		print_member(o, "name");
		printf(" is stopped already\n");
		return;
	}
	printf("stopped ");
	print_member(o, "name");
	print_seconds(o);
	printf("\n");
	print_count(o, "processes", "processes were running");
	print_count(o, "killed", "of them had to be killed");
	if (save && wr_json_get_str(save, "snapshot", NULL)) {
		printf("  %s ",
		       wr_json_get_bool(save, "made", true) ? "saved as" : "unchanged since");
		print_member(save, "snapshot");
		printf("\n");
	}
}

static void
restart_text(const json_t *o)
{
	const json_t *start = wr_json_get_obj(o, "start");

	printf("restarted ");
	print_member(o, "name");
	print_seconds(o);
	printf("\n");
	print_count(wr_json_get_obj(o, "stop"), "processes", "processes ended");
	print_count(start, "processes", "processes running");
}

static void
chown_text(const json_t *o)
{
	printf("gave %s entries of ", wr_fmt_count(wr_json_get_u64(o, "changed", 0)).s);
	print_member(o, "name");
	printf(" to its user");
	print_seconds(o);
	printf("\n");
}

static void
delete_text(const json_t *o)
{
	printf("put ");
	print_member(o, "name");
	printf(" into the trash");
	if (wr_json_get_str(o, "trash_until", NULL)) {
		printf(", where it stays until ");
		print_member(o, "trash_until");
	}
	printf("\n");
	undo_text(o);
}

static void
undelete_text(const json_t *o)
{
	printf("took ");
	print_member(o, "name");
	printf(" out of the trash\n");
}

static void
purge_text(const json_t *o)
{
	const json_t *kept = wr_json_get_arr(o, "kept_by"), *n;
	size_t i;

	printf("removed ");
	print_member(o, "name");
	printf(" for good: ");
	/* A subvolume goes as a whole: nobody counts what was in it. */
	if (json_is_integer(json_object_get(o, "files")))
		printf("%s files, ", wr_fmt_count(wr_json_get_u64(o, "files", 0)).s);
	printf("%s\n", wr_fmt_bytes(wr_json_get_u64(o, "bytes", 0)).s);
	if (!json_array_size(kept))
		return;
	printf("other nodes keep theirs until its time in their trash is over:");
	json_array_foreach(kept, i, n) printf(" %s", json_string_value(n));
	printf("\n");
}

static void
mkdir_text(const json_t *o)
{
	printf("%s folder ", wr_json_get_bool(o, "existed", false) ? "there is already a" : "made");
	print_member(o, "path");
	printf("\n");
}

int
wr_report(const json_t *o)
{
	static const struct {
		const char *schema;
		void (*text)(const json_t *o);
	} kinds[] = {
	    {"warren.save/1", save_text},         {"warren.restore/1", restore_text},
	    {"warren.undo/1", undo_receipt_text}, {"warren.copy/1", copy_text},
	    {"warren.create/1", create_text},     {"warren.start/1", start_text},
	    {"warren.stop/1", stop_text},         {"warren.restart/1", restart_text},
	    {"warren.chown/1", chown_text},       {"warren.delete/1", delete_text},
	    {"warren.undelete/1", undelete_text}, {"warren.purge/1", purge_text},
	    {"warren.mkdir/1", mkdir_text},       {"warren.replicate/1", replicate_text},
	    {"warren.move/1", move_text},
	};
	const char *schema = wr_json_get_str(o, "schema", "");

	for (size_t i = 0; i < WR_ARRAY_LEN(kinds) && !wr_out_quiet(); i++)
		if (!strcmp(schema, kinds[i].schema))
			kinds[i].text(o);
	return warn_all(o);
}

void
wr_report_op(const json_t *op)
{
	const char *step = wr_json_get_str(op, "step", "");
	const json_t *p = wr_json_get_obj(op, "progress"), *e = wr_json_get_obj(op, "error");
	const char *id = wr_json_get_str(op, "id", "?");

	if (wr_out_quiet()) {
		print_text(id);
		printf("\n");
		return;
	}
	print_text(id);
	printf("  ");
	print_member(op, "kind");
	if (wr_json_get_str(op, "name", NULL)) {
		printf(" of ");
		print_member(op, "name");
	}
	printf(": ");
	print_member(op, "state");
	if (*step && strcmp(wr_json_get_str(op, "state", ""), "done") != 0) {
		printf(", ");
		print_text(step);
	}
	if (wr_json_get_u64(p, "files", 0))
		printf(", %s files", wr_fmt_count(wr_json_get_u64(p, "files", 0)).s);
	if (json_is_integer(json_object_get(p, "percent")))
		printf(", %" PRIu64 " %%", wr_json_get_u64(p, "percent", 0));
	printf("\n");
	if (e) {
		printf("  ");
		print_member(e, "message");
		printf("\n");
	}
}

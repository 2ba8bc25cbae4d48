/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restore, undo, copy: files come out of a snapshot. What would be overwritten or deleted is a
 * snapshot of its own first, tagged before-OPID8; if that cannot be made nothing is changed.
 */
#include "host/life/life_int.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/log.h"
#include "sys/beneath.h"
#include "sys/clock.h"
#include "sys/fs.h"

struct restore {
	char *path; /* inside the snapshot; NULL: the whole tree */
	char *dest; /* beneath the home; NULL: where path was */
	bool beside, delete_extra, live;
	bool was_there; /* something lay where it went */
	int overwrite;
	struct wr_life_snap snap;
	struct wr_life_saved safety;
	bool has_safety;
	json_t *counts;
};

static void
restore_fini(struct restore *r)
{
	free(r->path);
	free(r->dest);
	free(r->snap.path);
	wr_life_saved_fini(&r->safety);
	wr_json_freep(&r->counts);
}

static int
overwrite_mode(const char *word, int *out, struct wr_err *err)
{
	static const struct {
		const char *word;
		enum wr_overwrite mode;
	} words[] = {{"changed", WR_OVERWRITE_CHANGED},   {"always", WR_OVERWRITE_ALWAYS},
		     {"newer", WR_OVERWRITE_NEWER},       {"never", WR_OVERWRITE_NEVER},
		     {"overwrite", WR_OVERWRITE_CHANGED}, {"update", WR_OVERWRITE_NEWER},
		     {"keep", WR_OVERWRITE_NEVER}};

	*out = WR_OVERWRITE_CHANGED;
	for (size_t i = 0; word && i < WR_ARRAY_LEN(words); i++)
		if (!strcmp(word, words[i].word)) {
			*out = (int)words[i].mode;
			return 0;
		}
	if (!word)
		return 0;
	return wr_err_set(err, WR_E_INVALID, "'%s' is no way to overwrite", WR_Q(word));
}

/* A path beneath the home; "" becomes NULL: the whole of it. */
static int
take_path(struct wr_life *l, const char *name, char **out, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;
	WR_SCOPED(wr_freep) char *raw = wr_life_arg_path(l, name, &why);
	WR_SCOPED(wr_freep) char *clean = NULL;

	if (why.code != WR_E_NONE) {
		*err = why;
		return -1;
	}
	if (!raw)
		return 0;
	clean = wr_beneath_clean(raw, strlen(raw), err);
	if (!clean)
		return wr_err_wrap(err, "%s", name);
	if (*clean)
		*out = wr_steal(&clean);
	return 0;
}

/* Is anything at path beneath the home? A path that cannot be judged is taken as one. */
static bool
occupied(struct wr_life *l, const char *path)
{
	WR_SCOPED(wr_closep) int tree = wr_tree_open(&l->place, NULL);
	WR_SCOPED(wr_closep) int dir = -1;
	struct wr_err why = WR_ERR_INIT;
	const char *name;

	if (tree < 0)
		return true;
	dir = wr_beneath_parent(tree, path, &name, &why);
	if (dir < 0)
		return why.code != WR_E_NOT_FOUND;
	return faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

static int
safety(struct wr_life *l, struct restore *r, struct wr_err *err)
{
	if (wr_life_protect(l, l->tag, &r->safety, err) < 0) {
		wr_err_wrap(err, "safety snapshot of '%s' (nothing was changed)", l->set.name);
		if (err->code != WR_E_CANCELLED)
			wr_err_hint(err,
				    "free space (warren status %s); or restore to a place "
				    "where nothing is, with --to DIR",
				    l->set.name);
		return -1;
	}
	r->has_safety = r->safety.commit[0] != '\0';
	if (!r->safety.whole) {
		l->skipped = true;
		wr_life_warn(l, "the safety snapshot lacks files that could not be read");
	}
	return 0;
}

static void
expire_safeties(struct wr_life *l)
{
	uint64_t keep = l->node->config.safety_keep;
	struct wr_err why = WR_ERR_INIT;
	json_t *args;

	if (!keep)
		return;
	args = json_object();
	wr_json_str(args, "prefix", "before-");
	wr_json_i64(args, "expire_before", wr_clock_wall().s - (int64_t)wr_age_span(l->node, keep));
	if (wr_life_task(l, WR_TASK_TAG, args, -1, NULL, &why) < 0)
		wr_log_err(WR_LOG_WARNING, "old safety tags", &why); /* next time */
}

/* Such that a shell takes it as it is: the name is a user's, and someone else may paste it. */
static char *
shell_quote(const char *s)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	wr_buf_add8(&b, '\'');
	for (; *s; s++) {
		if (*s == '\'')
			wr_buf_adds(&b, "'\\'");
		wr_buf_add8(&b, (uint8_t)*s);
	}
	wr_buf_add8(&b, '\'');
	return wr_buf_detach(&b, NULL);
}

/* What brings back the files as they were; NULL: there were none. Caller frees. */
static char *
undo_command(const struct wr_life *l, const struct restore *r)
{
	/* The task knows best: a file goes into a directory that is there. */
	WR_SCOPED(wr_freep) char *at = wr_life_get_path(r->counts, "dest", NULL);
	WR_SCOPED(wr_freep) char *spec = NULL;
	WR_SCOPED(wr_freep) char *quoted = NULL;
	bool dir = wr_json_get_u64(r->counts, "directories", 0) > 0;

	if (!at)
		at = wr_strdup(r->dest ? r->dest : r->path ? r->path : "");
	if (!r->has_safety)
		return NULL;
	if (!*at)
		return wr_asprintf("warren undo %s %s", l->set.name, l->tag);
	if (!r->was_there || (!dir && wr_json_get_u64(r->counts, "created", 0) > 0))
		return NULL;
	spec = wr_asprintf("%s:%s", l->tag, at);
	quoted = shell_quote(spec);
	return wr_asprintf("warren restore %s %s --in-place%s", l->set.name, quoted,
			   dir ? " --delete" : "");
}

static void
receipt_safety(struct wr_life *l, const struct restore *r, json_t *o)
{
	WR_SCOPED(wr_freep) char *undo = undo_command(l, r);
	struct wr_err why = WR_ERR_INIT;
	json_t *s;

	if (undo)
		wr_json_path(o, "undo", undo, strlen(undo));
	else
		wr_json_null(o, "undo");
	if (!r->has_safety) {
		wr_json_null(o, "safety");
		return;
	}
	s = wr_json_object(o, "safety");
	wr_json_str(s, "snapshot", r->safety.snapshot);
	wr_json_str(s, "tag", l->tag);
	wr_json_str(s, "commit", r->safety.commit);
	/* It moved the refs; other nodes get it with the next save. */
	if (wr_life_note_save(l, r->safety.refs, r->safety.scan_started, &why) < 0)
		wr_life_warn(l, "note the snapshot: %s", why.msg);
}

/* The change itself failed: it is not tried again behind anyone's back. */
static int
gave_up(struct wr_life *l, const struct restore *r, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;
	WR_SCOPED(wr_freep) char *undo = undo_command(l, r);

	free(l->work.applying.path);
	free(l->work.applying.dest);
	memset(&l->work.applying, 0, sizeof(l->work.applying));
	if (wr_life_work_store(l, &why) < 0)
		wr_log_err(WR_LOG_WARNING, "work record", &why);
	wr_err_wrap(err, "files of '%s' may be changed in part", l->set.name);
	if (undo)
		wr_err_hint(err, "as they were: %s; or ask again", undo);
	else
		wr_err_hint(err, "ask again");
	return -1;
}

static json_t *
task_args(struct wr_life *l, const struct restore *r, bool dry_run)
{
	json_t *a = wr_life_restore_args(l, r->snap.commit, r->path, r->dest, r->delete_extra,
					 r->overwrite);

	if (r->beside)
		json_object_set_new(a, "beside", json_true());
	if (dry_run)
		json_object_set_new(a, "dry_run", json_true());
	/* What someone writes after the safety snapshot is in no snapshot: it is left alone. */
	if (r->has_safety && !r->safety.side && !r->path && !r->dest)
		wr_json_str(a, "guard", r->safety.commit);
	return a;
}

/* DURABLE: dirty, and for what overwrites: `applying` with all that is needed to finish it. */
static int
mark(struct wr_life *l, const struct restore *r, bool finish_later, struct wr_err *err)
{
	l->work.dirty = true;
	if (finish_later) {
		l->work.applying.on = true;
		snprintf(l->work.applying.op, sizeof(l->work.applying.op), "%s", l->op.s);
		snprintf(l->work.applying.commit, sizeof(l->work.applying.commit), "%s",
			 r->snap.commit);
		l->work.applying.path = r->path ? wr_strdup(r->path) : NULL;
		l->work.applying.dest = r->dest ? wr_strdup(r->dest) : NULL;
		l->work.applying.delete_extra = r->delete_extra;
		l->work.applying.overwrite = r->overwrite;
	}
	if (wr_life_work_store(l, err) < 0)
		return -1;
	wr_life_crash(l, "applying");
	return 0;
}

/* Has the snapshot what is asked for? If not, nothing was changed. */
static int
look(struct wr_life *l, const struct restore *r, int source_fd, struct wr_err *err)
{
	json_t *args = task_args(l, r, false);

	json_object_set_new(args, "look", json_true());
	return wr_life_task(l, WR_TASK_RESTORE, args, source_fd, NULL, err);
}

static int
change(struct wr_life *l, struct restore *r, int source_fd, struct wr_err *err)
{
	bool finish_later = source_fd < 0 && !r->beside;
	const char *at = r->dest ? r->dest : r->path;

	r->was_there = !at || occupied(l, at);
	if ((r->path || r->dest) && look(l, r, source_fd, err) < 0)
		return -1;
	if (mark(l, r, finish_later, err) < 0)
		return -1;
	/* Past this there is no "as before" but by the safety snapshot. */
	l->changed = true;
	l->no_cancel = true;
	wr_life_step(l, source_fd < 0 ? "restore" : "copy");
	if (wr_life_task(l, WR_TASK_RESTORE, task_args(l, r, false), source_fd, &r->counts, err) <
	    0)
		return gave_up(l, r, err);
	wr_life_crash(l, "restored");
	l->skipped = l->skipped || wr_life_has_skipped(r->counts);
	if (!finish_later)
		return 0;
	free(l->work.applying.path);
	free(l->work.applying.dest);
	memset(&l->work.applying, 0, sizeof(l->work.applying));
	if (wr_life_work_store(l, err) < 0)
		return -1;
	wr_life_crash(l, "applied");
	return 0;
}

/* Nothing runs: the files are at the tip before they are changed, whatever they were. */
static int
files_at_tip(struct wr_life *l, struct wr_err *err)
{
	WR_SCOPED(wr_life_brought_fini) struct wr_life_brought b = {0};
	struct wr_tip tip;

	if (wr_life_inspect(l, &tip, err) < 0 || wr_life_bring_up(l, &tip, &b, err) < 0)
		return -1;
	if (b.salvaged[0])
		wr_life_warn(
		    l,
		    "the files of '%s' were not those of its newest snapshot; as they were "
		    "they are in %s",
		    l->set.name, b.salvaged);
	return 0;
}

static int
read_args(struct wr_life *l, struct restore *r, struct wr_err *err)
{
	bool undo = l->kind == WR_OP_UNDO;
	char before[64];
	const char *spec = wr_life_arg(l, "snapshot");

	if (overwrite_mode(wr_life_arg(l, "overwrite"), &r->overwrite, err) < 0 ||
	    take_path(l, "path", &r->path, err) < 0 || take_path(l, "to", &r->dest, err) < 0)
		return -1;
	if (undo) {
		free(wr_steal(&r->path));
		free(wr_steal(&r->dest));
	}
	r->live = wr_life_arg_bool(l, "live");
	r->delete_extra = undo || wr_life_arg_bool(l, "delete");
	r->beside = r->path && !r->dest && !wr_life_arg_bool(l, "in_place");
	if (!spec && !undo)
		return wr_err_set(err, WR_E_INVALID, "snapshot: none is given");
	if (!spec && wr_life_snap_before(l, before, sizeof(before), err) < 0)
		return -1;
	if (wr_life_snap_find(l, spec ? spec : before, &r->snap, err) < 0)
		return -1;
	if (!r->snap.path)
		return 0;
	/* SNAPSHOT:PATH as it is typed. */
	if (undo || r->path)
		return wr_err_set(err, WR_E_INVALID, "snapshot: '%s' names a path%s", WR_Q(spec),
				  undo ? ", but undo is of the whole; see warren restore" : "");
	r->path = wr_steal(&r->snap.path);
	r->beside = !r->dest && !wr_life_arg_bool(l, "in_place");
	return 0;
}

static int
refuse_under_processes(struct wr_life *l, const struct restore *r, struct wr_err *err)
{
	struct wr_runner_status run;

	if (r->path || r->dest || r->live)
		return 0;
	wr_life_processes(l, &run);
	if (run.processes == 0)
		return 0;
	wr_err_set(err, WR_E_BUSY,
		   "project '%s' has %zu %s: all its files would change under their hands",
		   l->set.name, run.processes, run.processes == 1 ? "process" : "processes");
	return wr_err_hint(err, "warren stop %s first; or with --live", l->set.name);
}

json_t *
wr_life_restore(struct wr_life *l, struct wr_err *err)
{
	WR_SCOPED(restore_fini) struct restore r = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	bool dry_run = wr_life_arg_bool(l, "dry_run");
	struct wr_life_mend mend;
	struct wr_runner_status run;

	if (wr_life_begin(l, err) < 0 || read_args(l, &r, err) < 0)
		return NULL;
	if (!dry_run && refuse_under_processes(l, &r, err) < 0)
		return NULL;
	if (dry_run) {
		if (wr_life_task(l, WR_TASK_RESTORE, task_args(l, &r, true), -1, &r.counts, err) <
		    0)
			return NULL;
	} else {
		if (wr_life_settle_work(l, &mend, err) < 0)
			return NULL;
		wr_life_processes(l, &run);
		if (run.processes == 0 && files_at_tip(l, err) < 0)
			return NULL;
		/* Where nothing is, nothing is overwritten. */
		if (!r.beside && !(r.dest && !occupied(l, r.dest)) && safety(l, &r, err) < 0)
			return NULL;
		if (change(l, &r, -1, err) < 0)
			return NULL;
		expire_safeties(l);
	}
	o = wr_life_receipt(l, l->kind == WR_OP_UNDO ? "warren.undo/1" : "warren.restore/1");
	wr_json_str(o, "snapshot", r.snap.name);
	wr_json_str(o, "commit", r.snap.commit);
	wr_life_set_path(o, "path", r.path ? r.path : "");
	if (!json_object_get(r.counts, "dest"))
		wr_life_set_path(o, "dest", r.dest ? r.dest : r.path ? r.path : "");
	wr_json_bool(o, "dry_run", dry_run);
	receipt_safety(l, &r, o);
	wr_life_merge(o, r.counts);
	return wr_steal(&o);
}

/* ---- copy ---- */

/* The newest snapshot of the project that is copied from. */
static int
source_tip(struct wr_place_of *src, struct wr_life_snap *out, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *args = json_object();
	WR_SCOPED(wr_json_freep) json_t *res = NULL;
	WR_SCOPED(wr_settings_fini) struct wr_settings set = {0};
	struct wr_task t = WR_TASK_INIT;

	if (wr_settings_load(src, &set, err) < 0)
		return -1;
	t.kind = WR_TASK_INSPECT;
	t.place = src;
	t.uid = set.uid;
	t.gid = set.gid;
	t.args = args;
	t.log_fd = STDERR_FILENO;
	if (wr_task_run(&t, &res, err) < 0)
		return wr_err_wrap(err, "look at the history of '%s'", set.name);
	snprintf(out->commit, sizeof(out->commit), "%s", wr_json_get_str(res, "tip", ""));
	snprintf(out->name, sizeof(out->name), "%s/%s", wr_json_get_str(res, "branch", "main"),
		 wr_json_get_str(res, "name", ""));
	if (out->commit[0])
		return 0;
	wr_err_set(err, WR_E_NOT_FOUND, "project '%s' has no snapshot to copy from", set.name);
	return wr_err_hint(err, "warren save %s", set.name);
}

json_t *
wr_life_copy(struct wr_life *l, struct wr_err *err)
{
	WR_SCOPED(restore_fini) struct restore r = {0};
	WR_SCOPED(wr_place_of_fini) struct wr_place_of src = WR_PLACE_OF_INIT;
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	WR_SCOPED(wr_closep) int repo = -1;
	const char *from = wr_life_arg(l, "from"), *fresh = wr_life_arg(l, "from_snapshot");
	struct wr_life_mend mend;
	struct wr_runner_status run;
	struct wr_uuid id;

	if (wr_life_begin(l, err) < 0)
		return NULL;
	if (!from || !wr_uuid_parse(from, &id)) {
		wr_err_set(err, WR_E_INVALID, "from: '%s' is no id of a project",
			   from ? WR_Q(from) : "");
		return NULL;
	}
	if (overwrite_mode(wr_life_arg(l, "mode"), &r.overwrite, err) < 0 ||
	    take_path(l, "from_path", &r.path, err) < 0 ||
	    take_path(l, "to_path", &r.dest, err) < 0)
		return NULL;
	r.delete_extra = wr_life_arg_bool(l, "delete");
	r.live = true; /* what he copies onto his own files is the user's own decision */
	if (wr_place_of_find(l->node, &id, &src, err) < 0 || source_tip(&src, &r.snap, err) < 0)
		return NULL;
	/* The save that was made for this copy, though others may have followed. */
	if (fresh && strlen(fresh) == 40 && strcmp(fresh, r.snap.commit) != 0) {
		snprintf(r.snap.commit, sizeof(r.snap.commit), "%s", fresh);
		snprintf(r.snap.name, sizeof(r.snap.name), "%s", fresh);
	}
	repo = wr_repo_dir_open(&src, err);
	if (repo < 0 || wr_life_settle_work(l, &mend, err) < 0)
		return NULL;
	wr_life_processes(l, &run);
	if (run.processes == 0 && files_at_tip(l, err) < 0)
		return NULL;
	if (!(r.dest && !occupied(l, r.dest)) && safety(l, &r, err) < 0)
		return NULL;
	if (change(l, &r, repo, err) < 0)
		return NULL;
	expire_safeties(l);
	o = wr_life_receipt(l, "warren.copy/1");
	wr_json_str(o, "from", id.s);
	wr_json_str(o, "from_snapshot", r.snap.name);
	wr_json_str(o, "from_commit", r.snap.commit);
	wr_life_set_path(o, "from_path", r.path ? r.path : "");
	wr_life_set_path(o, "to_path", r.dest ? r.dest : "");
	receipt_safety(l, &r, o);
	wr_life_merge(o, r.counts);
	return wr_steal(&o);
}

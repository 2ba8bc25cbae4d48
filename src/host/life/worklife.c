/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of the work record.  The record says from which snapshot the working files derive
 * (base) and whether someone may have changed them since (dirty):
 *
 *   tip = base            the files are the newest state, with edits if dirty: kept
 *   tip != base, clean    they are behind: brought to the tip, if base is on its line
 *   tip != base, dirty    they are off the line: salvaged to a side branch, then brought to the tip
 *   no base, but a tip    the record was lost: as dirty
 *
 * A restore that a user asked for is an edit: base stays the tip, dirty is set with `applying`.
 * Bringing the files to the tip is none: `applying` with dirty unset, so that whoever finishes it
 * knows that the files then derive from applying.commit.
 */
#include "host/life/life_int.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "sys/fs.h"

static void
take_str(char *out, size_t size, const json_t *o, const char *key)
{
	snprintf(out, size, "%s", wr_json_get_str(o, key, ""));
}

int
wr_life_inspect(struct wr_life *l, struct wr_tip *out, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *r = NULL;
	json_t *args = json_object();

	if (l->work.base[0])
		wr_json_str(args, "base", l->work.base);
	if (wr_life_task(l, WR_TASK_INSPECT, args, -1, &r, err) < 0)
		return wr_err_wrap(err, "look at the history of '%s'", l->set.name);
	*out = (struct wr_tip){0};
	take_str(out->commit, sizeof(out->commit), r, "tip");
	take_str(out->parent, sizeof(out->parent), r, "parent");
	take_str(out->name, sizeof(out->name), r, "name");
	take_str(out->branch, sizeof(out->branch), r, "branch");
	take_str(out->op, sizeof(out->op), r, "op");
	take_str(out->base_on, sizeof(out->base_on), r, "base_on");
	out->latest = wr_json_get_bool(r, "latest", false);
	out->has = out->commit[0] != '\0';
	out->newer = wr_json_get_bool(r, "base_is_ancestor", false);
	out->snapshots = wr_json_get_u64(r, "snapshots", 0);
	out->repo_bytes = wr_json_get_u64(r, "repo_bytes", 0);
	return 0;
}

bool
wr_life_on_line(const struct wr_life *l, const struct wr_tip *tip)
{
	return !strcmp(tip->has ? tip->commit : "", l->work.base);
}

static json_t *
exclude(const struct wr_settings *set)
{
	const char *link = wr_settings_str(set, "snapshots_link");
	WR_SCOPED(wr_freep) const char *const *rule = NULL;
	size_t n = wr_settings_list(set, "exclude", &rule);
	json_t *out = json_array();

	if (*link) {
		WR_SCOPED(wr_freep) char *own = wr_asprintf("/%s", link);

		wr_json_add_str(out, own);
	}
	for (size_t i = 0; i < n; i++)
		wr_json_add_str(out, rule[i]);
	return out;
}

json_t *
wr_life_exclude(const struct wr_life *l)
{
	return exclude(&l->set);
}

void
wr_life_leave_out_of(const struct wr_settings *set, json_t *args)
{
	wr_json_take(args, "exclude", exclude(set));
	wr_json_str(args, "own_link", wr_settings_str(set, "snapshots_link"));
	wr_json_u64(args, "max_file_size", wr_settings_u64(set, "max_file_size"));
}

void
wr_life_leave_out(const struct wr_life *l, json_t *args)
{
	wr_life_leave_out_of(&l->set, args);
}

bool
wr_life_has_skipped(const json_t *part)
{
	return json_array_size(wr_json_get_arr(part, "skipped")) > 0;
}

void
wr_life_merge(json_t *o, const json_t *from)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)from, key, v)
	{
		if (!json_object_get(o, key))
			json_object_set(o, key, v);
	}
}

/* ---- settling ---- */

/* A save that died may have moved the branch before it could write base. Its commit is known by
 * the operation's id and by its parent. */
static int
settle_saving(struct wr_life *l, struct wr_err *err)
{
	struct wr_tip tip;

	if (!l->work.saving[0])
		return 0;
	if (wr_life_inspect(l, &tip, err) < 0)
		return -1;
	if (tip.has && !strcmp(tip.op, l->work.saving) &&
	    (!strcmp(tip.parent, l->work.base) ||
	     (*tip.base_on && !strcmp(tip.parent, tip.base_on)))) {
		wr_log(WR_LOG_NOTICE, "save %s had made %s", l->work.saving, tip.commit);
		snprintf(l->work.base, sizeof(l->work.base), "%s", tip.commit);
	}
	l->work.saving[0] = '\0';
	if (wr_life_work_store(l, err) < 0)
		return -1;
	wr_life_crash(l, "settled");
	return 0;
}

static void
applying_off(struct wr_work *w)
{
	free(w->applying.path);
	free(w->applying.dest);
	memset(&w->applying, 0, sizeof(w->applying));
}

static const char *
overwrite_word(int mode)
{
	switch ((enum wr_overwrite)mode) {
	case WR_OVERWRITE_ALWAYS:
		return "always";
	case WR_OVERWRITE_NEWER:
		return "newer";
	case WR_OVERWRITE_NEVER:
		return "never";
	default:
		return "changed";
	}
}

json_t *
wr_life_restore_args(struct wr_life *l, const char *commit, const char *path, const char *dest,
		     bool delete_extra, int overwrite)
{
	json_t *a = json_object();

	wr_json_str(a, "snap", commit);
	if (path)
		wr_life_set_path(a, "path", path);
	if (dest)
		wr_life_set_path(a, "dest", dest);
	wr_json_bool(a, "beside", false);
	wr_json_bool(a, "delete_extra", delete_extra);
	wr_json_str(a, "overwrite", overwrite_word(overwrite));
	wr_json_u64(a, "uid", l->set.uid);
	wr_json_u64(a, "gid", l->set.gid);
	wr_json_take(a, "exclude", wr_life_exclude(l));
	return a;
}

static bool
tree_missing(struct wr_life *l, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;
	int fd = wr_tree_open(&l->place, &why);

	if (fd >= 0) {
		close(fd);
		return false;
	}
	*err = why;
	return why.code == WR_E_NOT_FOUND;
}

/* Run what `applying` says. guard: the snapshot of what is there now, or NULL. */
static int
apply(struct wr_life *l, const char *guard, json_t **out_counts, struct wr_err *err)
{
	const struct wr_work *w = &l->work;
	json_t *args =
	    wr_life_restore_args(l, w->applying.commit, w->applying.path, w->applying.dest,
				 w->applying.delete_extra, w->applying.overwrite);

	if (guard && !w->applying.path && !w->applying.dest)
		wr_json_str(args, "guard", guard);
	wr_life_step(l, "restore");
	return wr_life_task(l, WR_TASK_RESTORE, args, -1, out_counts, err);
}

/* Bringing the files to a snapshot was cut off: nothing may run on them before it is finished. */
static int
finish_bring_up(struct wr_life *l, json_t **out_counts, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;

	if (tree_missing(l, &why) && wr_life_make_tree(l, err) < 0)
		return -1;
	if (apply(l, NULL, out_counts, err) < 0) {
		wr_err_wrap(err, "bring the files of '%s' to %.12s", l->set.name,
			    l->work.applying.commit);
		if (!err->hint[0])
			wr_err_hint(err, "warren start %s", l->set.name);
		return -1;
	}
	wr_life_crash(l, "restored");
	snprintf(l->work.base, sizeof(l->work.base), "%s", l->work.applying.commit);
	applying_off(&l->work);
	if (wr_life_work_store(l, err) < 0)
		return -1;
	wr_life_crash(l, "applied");
	return 0;
}

/*
 * A restore that a user asked for was cut off. What it would have changed was saved before, so
 * giving it up loses nothing; finishing it is what he expects, as long as nobody worked on the
 * files since. What is there now is saved first all the same.
 */
static int
finish_restore(struct wr_life *l, struct wr_life_mend *out, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;
	struct wr_runner_status run;
	struct wr_tip tip;
	WR_SCOPED(wr_life_saved_fini) struct wr_life_saved saved = {0};
	bool done = false;

	wr_life_processes(l, &run);
	if (l->kind != WR_OP_START)
		/* What he asks for now is about the files as they are now. */
		wr_err_set(&why, WR_E_CHANGED, "the project was used since");
	else if (l->before.active || run.processes > 0)
		wr_err_set(&why, WR_E_BUSY, "the project was in use since");
	else if (wr_life_inspect(l, &tip, &why) == 0 && !wr_life_on_line(l, &tip))
		wr_err_set(&why, WR_E_CHANGED, "its history has moved");
	else if (why.code == WR_E_NONE && wr_life_protect(l, NULL, &saved, &why) == 0)
		done =
		    apply(l, saved.side || !saved.commit[0] ? NULL : saved.commit, NULL, &why) == 0;
	if (why.code == WR_E_CANCELLED) {
		*err = why;
		return -1;
	}
	wr_life_crash(l, "restored");
	snprintf(done ? out->restore_op : out->dropped_op, sizeof(out->restore_op), "%s",
		 l->work.applying.op);
	if (!done && l->kind != WR_OP_UNDO && l->kind != WR_OP_RESTORE)
		wr_life_warn(l, "restore %s was cut off and is not finished: %s; ask for it again",
			     l->work.applying.op, why.msg);
	applying_off(&l->work);
	if (wr_life_work_store(l, err) < 0)
		return -1;
	wr_life_crash(l, "applied");
	return 0;
}

int
wr_life_settle_work(struct wr_life *l, struct wr_life_mend *out, struct wr_err *err)
{
	*out = (struct wr_life_mend){0};
	if (settle_saving(l, err) < 0)
		return -1;
	if (!l->work.applying.on)
		return 0;
	if (l->work.dirty)
		return finish_restore(l, out, err);
	snprintf(out->restore_op, sizeof(out->restore_op), "%s", l->work.applying.op);
	return finish_bring_up(l, NULL, err);
}

/* ---- saving ---- */

void
wr_life_saved_fini(struct wr_life_saved *s)
{
	wr_json_freep(&s->part);
	wr_json_freep(&s->refs);
}

static void
read_saved(struct wr_life_saved *s, const char *otherwise_branch)
{
	take_str(s->commit, sizeof(s->commit), s->part, "commit");
	s->latest = wr_json_get_bool(s->part, "latest", false);
	if (s->commit[0] && !s->latest)
		snprintf(s->snapshot, sizeof(s->snapshot), "%s/%s",
			 wr_json_get_str(s->part, "branch", otherwise_branch),
			 wr_json_get_str(s->part, "name", ""));
	s->made = wr_json_get_bool(s->part, "made", s->commit[0] != '\0');
	s->whole = !wr_life_has_skipped(s->part);
	s->scan_started = wr_json_get_time(s->part, "scan_started", 0);
	/* Not for receipts. */
	s->refs = json_incref(json_object_get(s->part, "refs"));
	json_object_del(s->part, "refs");
}

static int
salvage(struct wr_life *l, const struct wr_tip *tip, struct wr_life_saved *out, struct wr_err *err)
{
	char branch[64];
	json_t *args;

	wr_life_step(l, "salvage");
	/* The writer may be another node: control sees to it that the branch gets there. */
	if (l->auth && wr_flag_set(l->node, WR_FLAG_SIDES, &l->project, "", 0, err) < 0)
		return -1;
	/* What is there already, from a start that was cut off, is not stored again. */
	snprintf(branch, sizeof(branch), "conflict-%" PRIu64 ".%" PRIu64 "-%.8s", l->set.epoch,
		 tip->snapshots, l->node->id.s);
	args = json_object();
	wr_json_str(args, "op", l->op.s);
	wr_json_str(args, "branch", branch);
	wr_life_leave_out(l, args);
	if (wr_life_task(l, WR_TASK_SALVAGE, args, -1, &out->part, err) < 0) {
		wr_err_wrap(err, "put the files of '%s' on side branch '%s'", l->set.name, branch);
		if (!err->hint[0])
			wr_err_hint(err, "free space, then: warren start %s", l->set.name);
		return -1;
	}
	out->side = true;
	read_saved(out, branch);
	wr_life_crash(l, "salvaged");
	return 0;
}

static int
tag(struct wr_life *l, const char *name, const char *commit, struct wr_err *err)
{
	json_t *args = json_object();

	wr_json_str(args, "name", name);
	wr_json_str(args, "commit", commit);
	return wr_life_task(l, WR_TASK_TAG, args, -1, NULL, err);
}

/* May the files become a snapshot? */
static bool
may_snapshot(struct wr_life *l, const struct wr_tip *tip, struct wr_err *why)
{
	const char *full = wr_json_get_str(l->request, "no_snapshot", NULL);
	uint64_t quota = wr_repo_quota(&l->set);

	if (full) {
		wr_err_set(why, WR_E_DENIED, "%s", full);
		wr_err_hint(why, "warren volume list");
		return false;
	}
	if (!quota || tip->repo_bytes < quota)
		return true;
	wr_err_set(why, WR_E_DENIED,
		   "no snapshot: the history of '%s' takes %s, and its quota is %s", l->set.name,
		   wr_fmt_bytes(tip->repo_bytes).s, wr_fmt_bytes(quota).s);
	wr_err_hint(why, "warren usage %s; an operator can raise it: repo_quota_factor, or disk",
		    l->set.name);
	return false;
}

static int
save(struct wr_life *l, const char *tag_name, struct wr_life_saved *out, struct wr_err *err)
{
	const char *message = wr_life_arg(l, "message");
	const bool latest = out->refused.code != WR_E_NONE;
	json_t *args = json_object(), *weed;
	struct wr_err why = WR_ERR_INIT;

	wr_life_step(l, "scan");
	snprintf(l->work.saving, sizeof(l->work.saving), "%s", l->op.s);
	if (wr_life_work_store(l, err) < 0) {
		json_decref(args);
		return -1;
	}
	wr_life_crash(l, "saving");
	wr_json_str(args, "op", l->op.s);
	wr_life_leave_out(l, args);
	wr_json_bool(args, "latest", latest);
	if (l->auth) {
		weed = wr_json_object(args, "weed");
		wr_json_i64(weed, "side_s", (int64_t)wr_age_span(l->node, WR_SIDES_AGE_S));
		wr_age_floor(l->node, weed);
	}
	if (tag_name && !latest)
		wr_json_str(args, "tag", tag_name);
	/* A safety snapshot is as old as its tag, also where nothing has changed for long. */
	if (tag_name && l->kind != WR_OP_SAVE)
		wr_json_bool(args, "force", true);
	if (message && l->kind == WR_OP_SAVE)
		wr_json_str(args, "message", message);
	if (wr_life_task(l, WR_TASK_SAVE, args, -1, &out->part, err) < 0) {
		/* It may have failed after the branch moved. */
		if (settle_saving(l, &why) < 0)
			wr_log_err(WR_LOG_WARNING, "settle", &why);
		return -1;
	}
	wr_life_crash(l, "moved");
	if (wr_json_get_obj(out->part, "weed"))
		wr_json_get_err(wr_json_get_obj(out->part, "weed"), &why);
	json_object_del(out->part, "weed");
	if (why.code != WR_E_NONE)
		wr_life_warn(l, "old side branches: %s", why.msg);
	read_saved(out, "main");
	snprintf(l->work.base, sizeof(l->work.base), "%s", out->commit);
	l->work.saving[0] = '\0';
	if (wr_life_work_store(l, err) < 0)
		return -1;
	wr_life_crash(l, "saved");
	return 0;
}

int
wr_life_protect(struct wr_life *l, const char *tag_name, struct wr_life_saved *out,
		struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;
	struct wr_tip tip;

	*out = (struct wr_life_saved){0};
	/* An absent directory must never become an empty snapshot. */
	if (tree_missing(l, &why)) {
		wr_err_set(err, WR_E_NOT_FOUND, "project '%s' has no working files here",
			   l->set.name);
		return wr_err_hint(err, "warren start %s brings them back", l->set.name);
	}
	if (why.code != WR_E_NONE) {
		*err = why;
		return -1;
	}
	if (wr_life_inspect(l, &tip, err) < 0)
		return -1;
	if (wr_life_on_line(l, &tip) && !l->copy) {
		if (!tag_name || l->kind == WR_OP_SAVE)
			(void)may_snapshot(l, &tip, &out->refused);
		return save(l, tag_name, out, err);
	}
	/* A snapshot on the branch would undo what the tip has and these files lack. */
	if (salvage(l, &tip, out, err) < 0)
		return -1;
	return tag_name && out->commit[0] ? tag(l, tag_name, out->commit, err) : 0;
}

int
wr_life_clean(struct wr_life *l, const struct wr_life_saved *s, struct wr_err *err)
{
	/* A writer's side branch leaves the files off the line; a copy's are saved, and may be
	 * brought to it (W6). */
	if ((s->side && !l->copy) || !s->whole || !l->work.dirty || l->held)
		return 0;
	l->work.dirty = false;
	if (wr_life_work_store(l, err) < 0)
		return -1;
	wr_life_crash(l, "clean");
	return 0;
}

/* ---- bringing up ---- */

void
wr_life_brought_fini(struct wr_life_brought *b)
{
	wr_json_freep(&b->restored);
}

/* No entry at all: as a copy's files are before they were ever brought up. */
static bool
tree_empty(struct wr_life *l)
{
	int fd = wr_tree_open(&l->place, NULL);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *e;
	bool empty = d != NULL;

	if (!d)
		wr_closep(&fd);
	while (empty && (e = readdir(d)))
		empty = !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..");
	if (d)
		closedir(d);
	return empty;
}

int
wr_life_bring_up(struct wr_life *l, const struct wr_tip *tip, struct wr_life_brought *out,
		 struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;
	bool missing = tree_missing(l, &why);

	*out = (struct wr_life_brought){0};
	if (!missing && why.code != WR_E_NONE) {
		*err = why;
		return -1;
	}
	if (!tip->has && l->work.base[0]) {
		wr_err_set(err, WR_E_CORRUPT,
			   "the repository of '%s' has no snapshot, but %.12s was saved in it",
			   l->set.name, l->work.base);
		return wr_err_hint(err,
				   "warren repo verify -r REPOSITORY; then bring the branch back "
				   "to that commit");
	}
	if (!tip->has)
		return missing ? wr_life_make_tree(l, err) : 0;
	if (!missing && wr_life_on_line(l, tip))
		return 0;
	/* Also files that nobody changed since their snapshot, if the line has lost that one. */
	if (!missing && (l->work.dirty || !tip->newer) && !(!l->work.base[0] && tree_empty(l))) {
		WR_SCOPED(wr_life_saved_fini) struct wr_life_saved s = {0};

		if (salvage(l, tip, &s, err) < 0)
			return -1;
		if (!s.whole) {
			wr_err_set(err, WR_E_CHANGED,
				   "some files of '%s' could not be read, so they are not safe on "
				   "side branch '%s'",
				   l->set.name, s.snapshot);
			return wr_err_hint(err, "warren op log %s names them", l->op.s);
		}
		snprintf(out->salvaged, sizeof(out->salvaged), "%s", s.snapshot);
	}
	/* DURABLE: from here the files are known to be neither base nor tip. */
	applying_off(&l->work);
	l->work.applying.on = true;
	snprintf(l->work.applying.op, sizeof(l->work.applying.op), "%s", l->op.s);
	snprintf(l->work.applying.commit, sizeof(l->work.applying.commit), "%s", tip->commit);
	l->work.applying.delete_extra = true;
	l->work.applying.overwrite = WR_OVERWRITE_CHANGED;
	l->work.dirty = false;
	if (wr_life_work_store(l, err) < 0)
		return -1;
	wr_life_crash(l, "applying");
	return finish_bring_up(l, &out->restored, err);
}

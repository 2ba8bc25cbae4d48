/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delete, undelete, purge. The work record says first what is meant: from then on every half-way
 * place of tree and repository is finished by asking again. The repository is the last to go to the
 * trash and the last to come back: while it lies in repos/ the project can be found.
 */
#include "host/life/life_int.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "sys/clock.h"
#include "sys/fs.h"

#define TRASH ".trash"

/* From one directory to the other; not there is fine. */
static int
move_if(int from_fd, int to_fd, const char *id, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;

	if (wr_life_move(from_fd, to_fd, id, &why) == 0 || why.code == WR_E_NOT_FOUND)
		return 0;
	*err = why;
	return -1;
}

static int
trash_dir(int parent_fd, const char *volume, struct wr_err *err)
{
	int fd = wr_open_dir(parent_fd, TRASH);

	return fd < 0 ? wr_err_sys(err, "open the trash of volume '%s'", volume) : fd;
}

int
wr_life_to_trash(struct wr_life *l, struct wr_err *err)
{
	const struct wr_volume *tv = &l->node->volume[l->place.tree_vol];
	const struct wr_volume *rv = &l->node->volume[l->place.repo_vol];
	WR_SCOPED(wr_closep) int trees = trash_dir(tv->projects_fd, tv->path, err);
	WR_SCOPED(wr_closep) int repos = -1;
	struct wr_err why = WR_ERR_INIT;

	if (trees < 0)
		return -1;
	repos = trash_dir(rv->repos_fd, rv->path, err);
	if (repos < 0 || move_if(tv->projects_fd, trees, l->project.s, err) < 0)
		return -1;
	wr_life_crash(l, "tree");
	if (wr_life_scratch_to_trash(l, err) < 0)
		return -1;
	/* Before the last step: asked again, all of it is done again. */
	if (wr_account_drop(l->node, &l->set, true, &why) < 0)
		wr_life_warn(l, "account: %s", why.msg);
	if (move_if(rv->repos_fd, repos, l->project.s, err) < 0)
		return -1;
	wr_life_crash(l, "moved");
	return 0;
}

json_t *
wr_life_delete(struct wr_life *l, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	WR_SCOPED(wr_freep) char *undo = NULL;
	struct wr_runner_status run;

	if (wr_life_begin(l, err) < 0)
		return NULL;
	o = wr_life_receipt(l, "warren.delete/1");
	wr_life_processes(l, &run);
	if (!l->work.deleted && (l->before.active || run.processes > 0)) {
		if (!wr_life_arg_bool(l, "force")) {
			wr_err_set(err, WR_E_BUSY, "project '%s' is active", l->set.name);
			wr_err_hint(err, "warren stop %s first; or with --force", l->set.name);
			return NULL;
		}
		if (wr_life_do_stop(l, wr_json_object(o, "stop"), err) < 0)
			return NULL;
	}
	if (!l->work.deleted) {
		l->work.deleted = true;
		l->work.deleted_at = wr_age_stamp(l->node);
		if (wr_life_work_store(l, err) < 0)
			return NULL;
	}
	wr_life_crash(l, "marked");
	l->changed = true;
	wr_life_step(l, "trash");
	if (wr_life_to_trash(l, err) < 0) {
		if (!err->hint[0])
			wr_err_hint(err, "warren delete %s again, or warren undelete %s",
				    l->set.name, l->project.s);
		return NULL;
	}
	undo = wr_asprintf("warren undelete %s", l->project.s);
	wr_json_time(o, "trash_until",
		     l->work.deleted_at +
			 (int64_t)wr_age_span(l->node, l->node->config.trash_keep));
	wr_json_str(o, "undo", undo);
	return wr_steal(&o);
}

/* ---- what lies in the trash ---- */

struct trashed {
	size_t tree_vol, repo_vol;
	bool tree, repo; /* in the trash */
	bool live;       /* the repository is (still, or again) in repos/ */
};

static struct trashed
find(struct wr_life *l)
{
	struct trashed t = {0};

	for (size_t i = 0; i < l->node->volume_count; i++) {
		const struct wr_volume *v = &l->node->volume[i];

		if (!t.repo && wr_life_may_be_in(v->repos_fd, TRASH, l->project.s)) {
			t.repo = true;
			t.repo_vol = i;
		} else if (!t.repo && wr_life_may_be_in(v->repos_fd, ".", l->project.s)) {
			t.live = true;
			t.repo_vol = i;
		}
		if (!t.tree && wr_life_may_be_in(v->projects_fd, TRASH, l->project.s)) {
			t.tree = true;
			t.tree_vol = i;
		}
	}
	if (!t.tree)
		t.tree_vol = t.repo_vol;
	return t;
}

/* Half of it may lie on a volume that is not there. */
static bool
parts_missing(const struct wr_life *l, const struct trashed *t, struct wr_err *err)
{
	return (!t->tree || (!t->repo && !t->live)) && wr_node_missing(l->node, err) < 0;
}

/* The place becomes the one in the trash, its lock is taken. */
static int
open_trashed(struct wr_life *l, const struct trashed *t, struct wr_err *err)
{
	const struct wr_volume *tv = &l->node->volume[t->tree_vol];
	const struct wr_volume *rv = &l->node->volume[t->repo_vol];
	WR_SCOPED(wr_closep) int trees = trash_dir(tv->projects_fd, tv->path, err);
	WR_SCOPED(wr_closep) int repos = -1;
	int conf;

	if (trees < 0)
		return -1;
	if (t->live)
		repos = fcntl(rv->repos_fd, F_DUPFD_CLOEXEC, 0);
	else
		repos = trash_dir(rv->repos_fd, rv->path, err);
	if (repos < 0)
		return t->live ? wr_err_sys(err, "open the repositories of '%s'", rv->path) : -1;
	wr_life_shadow(l, t->tree_vol, trees, t->repo_vol, repos);
	trees = repos = -1;
	conf = wr_conf_fd(&l->place, err);
	return conf < 0 ? -1 : wr_life_lock_conf(l, conf, err);
}

static int
not_deleted(struct wr_life *l, struct wr_err *err)
{
	wr_err_set(err, WR_E_NOT_FOUND, "project '%s' is not in the trash", l->project.s);
	return wr_err_hint(err, "warren trash list");
}

json_t *
wr_life_undelete(struct wr_life *l, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	struct trashed t = find(l);
	const struct wr_volume *tv = &l->node->volume[t.tree_vol];
	const struct wr_volume *rv = &l->node->volume[t.repo_vol];
	struct wr_status s = {.state = WR_ST_STOPPED, .when = l->started, .epoch = 1};

	if (parts_missing(l, &t, err))
		return NULL;
	if (!t.repo && !t.live) {
		not_deleted(l, err);
		return NULL;
	}
	if (open_trashed(l, &t, err) < 0 || wr_life_load(l, err) < 0)
		return NULL;
	if (l->work.purged || !l->work.deleted) {
		not_deleted(l, err);
		return NULL;
	}
	wr_life_step(l, "trash");
	/* While it still cannot be found: nobody shall see a state from before. */
	snprintf(s.node, sizeof(s.node), "%s", l->node->id.s);
	if (wr_status_store(&l->place, &s, true, err) < 0)
		return NULL;
	if (t.tree &&
	    move_if(l->shadow.volume[0].projects_fd, tv->projects_fd, l->project.s, err) < 0)
		return NULL;
	wr_life_crash(l, "tree");
	if (wr_life_scratch_from_trash(l, err) < 0)
		return NULL;
	if (t.repo && move_if(l->shadow.volume[1].repos_fd, rv->repos_fd, l->project.s, err) < 0)
		return NULL;
	wr_life_crash(l, "moved");
	wr_life_unshadow(l);
	l->work.deleted = false;
	l->work.deleted_at = 0;
	if (wr_life_work_store(l, err) < 0)
		return NULL;
	wr_life_crash(l, "unmarked");
	if (wr_life_unhide(l, err) < 0)
		return NULL;
	o = wr_life_receipt(l, "warren.undelete/1");
	wr_json_str(o, "home", l->home);
	return wr_steal(&o);
}

static int
too_early(struct wr_life *l, struct wr_err *err)
{
	int64_t until =
	    l->work.deleted_at + (int64_t)wr_age_span(l->node, l->node->config.trash_keep);

	if (wr_life_arg_bool(l, "now") || l->work.purged || wr_clock_wall().s >= until)
		return 0;
	wr_err_set(err, WR_E_DENIED, "project '%s' stays in the trash until %s", l->set.name,
		   wr_fmt_utc(until).s);
	return wr_err_hint(err, "warren purge %s --now removes it for ever", l->project.s);
}

/* Each node's trash keeps it as long as that node's own configuration says. */
static void
add_keepers(const struct wr_life *l, json_t *o)
{
	json_t *list;

	if (!l->auth || !l->ms.has_record || l->ms.record.state != WR_RECORD_DELETED)
		return;
	list = wr_json_array(o, "kept_by");
	for (size_t i = 0; i < l->ms.record.member_count; i++) {
		const struct wr_member *m = &l->ms.record.member[i];
		const struct wr_fleet_node *n = wr_fleet_find(&l->auth->fleet, &m->node.id);

		if (m->role != WR_ROLE_WITNESS && !wr_node_id_eq(&m->node, &l->auth->self))
			wr_json_add_str(list, n ? n->name : m->node.id.s);
	}
}

json_t *
wr_life_purge(struct wr_life *l, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	WR_SCOPED(wr_freep) char *log = wr_asprintf("log/%s", l->project.s);
	struct trashed t = find(l);
	struct wr_err why = WR_ERR_INIT;
	uint64_t files = 0, bytes = 0;
	bool whole = false;

	if (wr_work_load(l->node, &l->project, &l->work, err) < 0)
		return NULL;
	if (parts_missing(l, &t, err))
		return NULL;
	if (t.live || !l->work.deleted) {
		if (!t.live)
			not_deleted(l, err);
		else {
			wr_err_set(err, WR_E_BUSY, "project '%s' is not in the trash",
				   l->project.s);
			wr_err_hint(err, "warren delete %s first", l->project.s);
		}
		return NULL;
	}
	wr_work_fini(&l->work);
	l->work = (struct wr_work){0};
	/* A purge that was cut off may have taken settings and lock with it already. */
	if (open_trashed(l, &t, &why) < 0 || wr_life_load(l, &why) < 0) {
		if (why.code == WR_E_BUSY ||
		    wr_work_load(l->node, &l->project, &l->work, err) < 0 || !l->work.purged) {
			*err = why;
			return NULL;
		}
		snprintf(l->set.name, sizeof(l->set.name), "%s", l->project.s);
	}
	if (too_early(l, err) < 0 || wr_life_purge_check(l, err) < 0)
		return NULL;
	/* DURABLE: nobody takes back what is being removed. */
	l->work.purged = true;
	if (wr_life_work_store(l, err) < 0)
		return NULL;
	wr_life_crash(l, "marked");
	if (wr_life_disown(l, err) < 0)
		return NULL;
	wr_life_step(l, "purge");
	if (wr_life_scratch_purge(l, &files, &bytes, err) < 0)
		return NULL;
	if (wr_life_remove_tree(l, &files, &bytes, &whole, err) < 0)
		return NULL;
	wr_life_crash(l, "tree");
	if (wr_life_remove(l, l->shadow.volume[1].repos_fd, l->project.s, &files, &bytes, err) < 0)
		return NULL;
	wr_life_crash(l, "repo");
	(void)unlinkat(l->node->state_fd, log, 0); /* output of its last command, if there is any */
	o = wr_life_receipt(l, "warren.purge/1");
	add_keepers(l, o);
	if (whole)
		wr_json_null(o, "files");
	else
		wr_json_u64(o, "files", files);
	wr_json_u64(o, "bytes", bytes);
	return wr_steal(&o);
}

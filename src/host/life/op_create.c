/* SPDX-License-Identifier: Apache-2.0 */
/*
 * create: everything is made in a stage and renamed at the end, the repository last: a project is
 * there when repos/ID is there.
 *
 *   VOLUME/projects/.stage/ID/   flock held by its creator    projects/.stage/ID/ID   the tree
 *   VOLUME/repos/.stage/ID/      likewise                     repos/.stage/ID/ID      the
 * repository
 *
 * What a dead creator left is removed by the next one.
 */
#include "host/life/life_int.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "host/node/room.h"
#include "sys/clock.h"
#include "sys/fs.h"

#define TRASH ".trash"
/* Two creators of one id, or a creator and one who clears up, meet for a moment only. */
#define STAGE_TRIES 100

/* ---- the stage ---- */

/* Is it in use by a living creator?  0 with the lock held in *out_fd, 1 in use, -1 gone. */
static int
stage_lock(int stage_fd, const char *id, int *out_fd)
{
	WR_SCOPED(wr_closep) int fd = wr_open_dir(stage_fd, id);
	struct stat here, ours;

	if (fd < 0)
		return -1;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return 1;
	/* It may have been removed while we waited to look. */
	if (fstat(fd, &ours) < 0 || fstatat(stage_fd, id, &here, AT_SYMLINK_NOFOLLOW) < 0 ||
	    ours.st_ino != here.st_ino)
		return -1;
	*out_fd = fd;
	fd = -1;
	return 0;
}

int
wr_life_stage_make(struct wr_life *l, int parent_fd, const char *where, int *out_fd,
		   struct wr_err *err)
{
	WR_SCOPED(wr_closep) int stage = wr_open_dir(parent_fd, WR_LIFE_STAGE);
	const struct timespec nap = {0, 20000000};

	if (stage < 0)
		return wr_err_sys(err, "open '%s/" WR_LIFE_STAGE "'", where);
	for (unsigned i = 0; i < STAGE_TRIES; i++) {
		if (mkdirat(stage, l->project.s, 0711) < 0 && errno != EEXIST)
			return wr_err_sys(err, "make directory '%s/" WR_LIFE_STAGE "/%s'", where,
					  l->project.s);
		if (stage_lock(stage, l->project.s, out_fd) == 0)
			return wr_life_remove(l, *out_fd, l->project.s, NULL, NULL, err);
		nanosleep(&nap, NULL);
	}
	return wr_err_set(err, WR_E_BUSY, "project '%s' is being created by another operation",
			  l->project.s);
}

static bool
known_anywhere(const struct wr_node *n, const char *id)
{
	for (size_t i = 0; i < n->volume_count; i++)
		if (wr_life_may_be_in(n->volume[i].repos_fd, ".", id) ||
		    wr_life_may_be_in(n->volume[i].repos_fd, TRASH, id))
			return true;
	return false;
}

/* One left behind by a creator that died. A tree that was renamed before it died belongs to no
 * project, for the repository comes last. */
static void
sweep_one(struct wr_life *l, const struct wr_volume *v, int stage_fd, bool trees,
	  const struct wr_uuid *id)
{
	WR_SCOPED(wr_closep) int held = -1;
	struct wr_err why = WR_ERR_INIT;
	bool purged;

	if (stage_lock(stage_fd, id->s, &held) != 0)
		return;
	/* That of a renewal: its project's next start knows what to do with it. */
	if (trees && known_anywhere(l->node, id->s) && wr_life_may_be_in(held, ".", id->s))
		return;
	wr_log(WR_LOG_NOTICE, "removing what a create of %s left behind", id->s);
	if (trees && !known_anywhere(l->node, id->s)) {
		struct wr_work w;
		WR_SCOPED(wr_freep) char *record = wr_asprintf("control/%s", id->s);

		if (wr_work_load(l->node, id, &w, &why) < 0 || (w.deleted && !w.purged)) {
			wr_log(WR_LOG_WARNING, "%s is left alone: it has a tombstone", id->s);
			return;
		}
		purged = w.purged; /* then what lies here was left by a renewal before that */
		wr_work_fini(&w);
		if (!purged && wr_life_remove(l, v->projects_fd, id->s, NULL, NULL, &why) < 0) {
			wr_log_err(WR_LOG_WARNING, "clear up", &why);
			return;
		}
		/* Empty, as if it were not there. */
		if (!purged)
			(void)unlinkat(l->node->state_fd, record, 0);
	}
	if (wr_life_remove(l, stage_fd, id->s, NULL, NULL, &why) < 0)
		wr_log_err(WR_LOG_WARNING, "clear up", &why); /* the next create tries again */
}

static void
sweep_dir(struct wr_life *l, const struct wr_volume *v, bool trees)
{
	int fd = wr_open_dir(trees ? v->projects_fd : v->repos_fd, WR_LIFE_STAGE);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;

	if (!d) {
		wr_closep(&fd);
		return;
	}
	while ((e = readdir(d))) {
		struct wr_uuid id;

		if (wr_uuid_parse(e->d_name, &id))
			sweep_one(l, v, dirfd(d), trees, &id);
	}
	closedir(d);
}

/* Not with a volume missing: what lies here may belong to a repository there. */
static void
sweep(struct wr_life *l)
{
	if (wr_node_missing(l->node, NULL) < 0)
		return;
	for (size_t i = 0; i < l->node->volume_count; i++) {
		sweep_dir(l, &l->node->volume[i], false);
		sweep_dir(l, &l->node->volume[i], true);
	}
}

/* ---- what it is to be ---- */

/* By id or path; not given: the one with most room. */
static int
pick_volume(struct wr_life *l, size_t *out, struct wr_err *err)
{
	const char *want = wr_life_arg(l, "volume");
	uint64_t best = 0;

	*out = 0;
	for (size_t i = 0; i < l->node->volume_count; i++) {
		const struct wr_volume *v = &l->node->volume[i];
		struct wr_room room;

		if (want && (!strcmp(want, v->id.s) || !strcmp(want, v->path))) {
			*out = i;
			return v->fd >= 0 ? 0 : wr_node_missing(l->node, err);
		}
		if (v->fd >= 0 && wr_room_look(v, &room, NULL) == 0 && room.free > best &&
		    wr_mark_of(&l->node->config, &room, WR_MARK_NONE) == WR_MARK_NONE) {
			best = room.free;
			*out = i;
		}
	}
	if (!want)
		return 0;
	wr_err_set(err, WR_E_NOT_FOUND, "volume: there is no volume '%s'", WR_Q(want));
	return wr_err_hint(err, "warren volume list");
}

/* The settings come whole, as the daemon checked them. */
static int
take_settings(struct wr_life *l, struct wr_err *err)
{
	const json_t *conf = wr_json_get_obj(l->args, "conf");
	struct wr_settings *s = &l->set;

	if (!conf)
		return wr_err_set(err, WR_E_INVALID, "conf: the settings are missing");
	if (wr_settings_parse(conf, s, err) < 0)
		return wr_err_wrap(err, "conf");
	if (strcmp(s->id.s, l->project.s) != 0)
		return wr_err_set(err, WR_E_INVALID, "conf: these are settings of project '%s'",
				  s->id.s);
	if (!l->node->root_mode && (s->uid != l->node->uid || s->gid != l->node->gid))
		return wr_err_set(err, WR_E_DENIED, "uid: without root a project is uid %u's",
				  (unsigned)l->node->uid);
	l->home = wr_settings_home(s, l->node->root ? l->node->root : "");
	return 0;
}

/* ---- making it ---- */

static int
own_dir(int parent_fd, const char *name, mode_t mode, bool give, uid_t uid, gid_t gid,
	struct wr_err *err)
{
	WR_SCOPED(wr_closep) int fd = -1;

	if (mkdirat(parent_fd, name, mode) < 0)
		return wr_err_sys(err, "make directory '%s'", name);
	fd = wr_open_dir(parent_fd, name);
	if (fd < 0 || (give && fchown(fd, uid, gid) < 0) || fchmod(fd, mode) < 0)
		return wr_err_sys(err, "set up directory '%s'", name);
	return 0;
}

static int
fill(struct wr_life *l, const char *from, int source, json_t *receipt, struct wr_err *err)
{
	bool adopt = wr_life_arg_bool(l, "adopt");
	WR_SCOPED(wr_json_freep) json_t *r = NULL;
	WR_SCOPED(wr_freep) char *snapshot = NULL;
	json_t *args = json_object();
	struct wr_tip tip;

	wr_life_step(l, adopt ? "import" : "init_repo");
	if (adopt) {
		if (wr_life_task(l, WR_TASK_ADOPT, args, source, &r, err) < 0)
			return wr_err_wrap(err, "adopt repository '%s'", WR_Q(from));
	} else {
		wr_json_u64(args, "split_bits", wr_settings_u64(&l->set, "split_bits"));
		if (wr_life_task(l, WR_TASK_INIT_REPO, args, -1, NULL, err) < 0)
			return wr_err_wrap(err, "make a repository");
	}
	wr_life_crash(l, "repo");
	if (from && !adopt) {
		wr_life_step(l, "import");
		args = json_object();
		wr_json_str(args, "op", l->op.s);
		wr_life_leave_out(l, args);
		if (wr_life_task(l, WR_TASK_IMPORT, args, source, &r, err) < 0)
			return wr_err_wrap(err, "import '%s'", WR_Q(from));
		l->skipped = wr_life_has_skipped(r);
		wr_json_take(receipt, "imported", json_incref(wr_json_get_obj(r, "imported")));
		wr_life_merge(receipt, r);
	} else {
		wr_json_null(receipt, "imported");
	}
	wr_json_bool(receipt, "adopted", adopt);
	if (wr_life_inspect(l, &tip, err) < 0)
		return -1;
	if (adopt && tip.has) {
		WR_SCOPED(wr_json_freep) json_t *counts = NULL;

		wr_life_step(l, "restore");
		if (wr_life_task(
			l, WR_TASK_RESTORE,
			wr_life_restore_args(l, tip.commit, NULL, NULL, true, WR_OVERWRITE_CHANGED),
			-1, &counts, err) < 0)
			return wr_err_wrap(err, "bring the newest files out of '%s'", WR_Q(from));
		l->skipped = wr_life_has_skipped(counts);
	}
	snprintf(l->work.base, sizeof(l->work.base), "%s", tip.commit);
	if (tip.has)
		snapshot = wr_asprintf("%s/%s", tip.branch[0] ? tip.branch : "main", tip.name);
	wr_json_str(receipt, "snapshot", snapshot);
	wr_json_str(receipt, "commit", tip.has ? tip.commit : NULL);
	return 0;
}

static int
set_up(struct wr_life *l, const char *from, int source, json_t *receipt, struct wr_err *err)
{
	struct wr_status s = {.state = WR_ST_STOPPED, .when = l->started, .epoch = 1};
	const struct wr_node *n = l->node;
	WR_SCOPED(wr_closep) int repo = -1;
	int conf;

	if (wr_life_make_tree(l, err) < 0 || own_dir(l->shadow.volume[1].repos_fd, l->project.s,
						     0700, n->root_mode, n->uid, n->gid, err) < 0)
		return -1;
	if (fill(l, from, source, receipt, err) < 0)
		return -1;
	repo = wr_repo_dir_open(&l->place, err);
	if (repo < 0 || own_dir(repo, "conf", 0755, false, 0, 0, err) < 0)
		return -1;
	conf = wr_conf_fd(&l->place, err);
	if (conf < 0 || wr_settings_store(&l->place, &l->set, err) < 0)
		return -1;
	snprintf(s.node, sizeof(s.node), "%s", n->id.s);
	if (wr_status_store(&l->place, &s, true, err) < 0 || wr_life_lock_conf(l, conf, err) < 0)
		return -1;
	return wr_life_fsync(repo, "the repository", err);
}

static int
stage_open(struct wr_life *l, size_t vol, struct wr_err *err)
{
	const struct wr_volume *v = &l->node->volume[vol];
	WR_SCOPED(wr_closep) int trees = -1;
	WR_SCOPED(wr_closep) int repos = -1;

	if (wr_life_stage_make(l, v->projects_fd, v->path, &trees, err) < 0 ||
	    wr_life_stage_make(l, v->repos_fd, v->path, &repos, err) < 0)
		return -1;
	wr_life_shadow(l, vol, trees, vol, repos);
	trees = repos = -1;
	return 0;
}

static void
stage_drop(struct wr_life *l, const struct wr_volume *v)
{
	const int parents[] = {v->repos_fd, v->projects_fd};
	struct wr_err why = WR_ERR_INIT;

	for (size_t i = 0; i < WR_ARRAY_LEN(parents); i++) {
		WR_SCOPED(wr_closep) int stage = wr_open_dir(parents[i], WR_LIFE_STAGE);

		if (stage >= 0 && wr_life_remove(l, stage, l->project.s, NULL, NULL, &why) < 0)
			wr_log_err(WR_LOG_WARNING, "stage", &why); /* the next create removes it */
	}
}

static int
publish(struct wr_life *l, const struct wr_volume *v, struct wr_err *err)
{
	if (wr_life_work_store(l, err) < 0)
		return -1;
	wr_life_crash(l, "staged");
	if (wr_life_move(l->shadow.volume[0].projects_fd, v->projects_fd, l->project.s, err) < 0)
		return -1;
	wr_life_crash(l, "tree");
	l->no_cancel = true;
	if (wr_life_move(l->shadow.volume[1].repos_fd, v->repos_fd, l->project.s, err) < 0)
		return -1;
	wr_life_crash(l, "published");
	return 0;
}

int
wr_life_make_copy(struct wr_life *l, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *receipt = json_object();
	size_t vol;
	int rc;

	sweep(l);
	if (wr_work_load(l->node, &l->project, &l->work, err) < 0)
		return -1;
	if (l->work.deleted && !l->work.purged)
		return wr_err_set(err, WR_E_EXISTS, "project '%s' is in the trash here",
				  l->project.s);
	if (pick_volume(l, &vol, err) < 0)
		return -1;
	/* What was purged here may come again, by a newer record. */
	wr_work_fini(&l->work);
	l->work = (struct wr_work){0};
	rc = stage_open(l, vol, err);
	if (rc == 0)
		rc = set_up(l, NULL, -1, receipt, err);
	if (rc == 0)
		rc = publish(l, &l->node->volume[vol], err);
	if (l->shadow.node.volume)
		stage_drop(l, &l->node->volume[vol]);
	wr_lock_drop(&l->lock);
	if (rc == 0)
		wr_life_unshadow(l);
	return rc;
}

/* The project is there; that it is on other nodes too is what the schedule sees to otherwise. */
static void
spread(struct wr_life *l, json_t *receipt)
{
	struct wr_err why = WR_ERR_INIT;

	if (wr_life_fleet_load(l, &why) < 0 || wr_life_note_save(l, NULL, 0, &why) < 0 ||
	    wr_life_replicate(l, receipt, WR_REPLICATE_WAIT_S, &why) < 0)
		wr_life_warn(l, "replicate: %s", why.msg);
}

json_t *
wr_life_create(struct wr_life *l, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	WR_SCOPED(wr_freep) char *from = NULL;
	WR_SCOPED(wr_closep) int source = -1;
	struct wr_err why = WR_ERR_INIT;
	size_t vol;
	int rc;

	sweep(l);
	if (wr_work_load(l->node, &l->project, &l->work, err) < 0)
		return NULL;
	if (l->work.deleted || l->work.purged || known_anywhere(l->node, l->project.s)) {
		wr_err_set(err, WR_E_EXISTS, "project '%s' %s", l->project.s,
			   l->work.purged    ? "was purged: its id is not used again"
			   : l->work.deleted ? "is in the trash"
					     : "exists already");
		wr_err_hint(err, l->work.deleted && !l->work.purged
				     ? "warren undelete, or leave the id out"
				     : "leave the id out");
		return NULL;
	}
	l->work = (struct wr_work){0};
	from = wr_life_arg_path(l, "from", &why);
	if (why.code != WR_E_NONE) {
		*err = why;
		return NULL;
	}
	if (!from && wr_life_arg_bool(l, "adopt")) {
		wr_err_set(err, WR_E_INVALID, "adopt: from is missing: the repository to adopt");
		return NULL;
	}
	if (from) {
		source = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (source < 0) {
			wr_err_sys(err, "open '%s'", WR_Q(from));
			return NULL;
		}
	}
	if (take_settings(l, err) < 0 || pick_volume(l, &vol, err) < 0)
		return NULL;
	o = wr_life_receipt(l, "warren.create/1");
	wr_json_str(o, "id", l->project.s);
	wr_json_u64(o, "uid", l->set.uid);
	wr_json_u64(o, "gid", l->set.gid);
	wr_json_str(o, "identity", wr_identity_name(l->set.identity));
	wr_json_str(o, "home", l->home);
	wr_json_str(o, "volume", l->node->volume[vol].path);
	rc = stage_open(l, vol, err);
	if (rc == 0)
		rc = set_up(l, from, source, o, err);
	if (rc == 0)
		rc = publish(l, &l->node->volume[vol], err);
	l->no_cancel = true; /* clearing up is not given up */
	if (l->shadow.node.volume)
		stage_drop(l, &l->node->volume[vol]);
	if (rc < 0) {
		wr_place_of_fini(&l->place);
		if (!known_anywhere(l->node, l->project.s)) {
			WR_SCOPED(wr_freep) char *record = wr_asprintf("control/%s", l->project.s);

			if (wr_life_remove(l, l->node->volume[vol].projects_fd, l->project.s, NULL,
					   NULL, &why) < 0)
				wr_log_err(WR_LOG_WARNING, "clear up", &why);
			(void)unlinkat(l->node->state_fd, record, 0);
		}
		return NULL;
	}
	wr_life_unshadow(l);
	spread(l, o);
	return wr_steal(&o);
}

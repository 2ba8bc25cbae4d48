/* SPDX-License-Identifier: Apache-2.0 */
/*
 * On btrfs only a subvolume can be limited.  Working files that lie in a plain directory (adopted,
 * or made before there were quotas) are brought into one at a start, before anything runs:
 *
 *   projects/.stage/ID/ID   a new subvolume, with all that the tree has, data shared
 *   sync, then the two change places; so either the one or the other is projects/ID, whole
 *   what was the tree is looked at once more, and removed
 *
 * A kill leaves something in the stage, which the next start or create removes.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "host/life/life_int.h"
#include "host/node/room.h"
#include "sys/clock.h"
#include "sys/fs.h"

/* What could not be done is tried again that much later: it takes as long as there are files. */
#define AGAIN_S (24 * 3600)
/* LIMIT: of the flag that says why. */
#define WHY_MAX 1024

struct renewal {
	struct wr_life *l;
	struct wr_quota *q;
	const struct wr_quota_tree *t;
	struct wr_quota_tree made; /* its twin in the stage */
	int stage;
	uint64_t bytes;
	int64_t since_s; /* when the clone began */
	uint64_t since_ns;
	bool swapped; /* what was the tree lies in the stage */
	bool same;    /* and all of it is in its place as well */
};

/* ---- what was tried before ---- */

/* again: when it is tried again; 0: at the next start. */
static int
cannot_be_one(const struct wr_life *l, const char *why, int64_t again, struct wr_err *err)
{
	WR_SCOPED(wr_freep)
	char *when = again ? wr_asprintf("a start after %s tries again", wr_fmt_utc(again).s)
			   : wr_strdup("stop and start it");

	wr_err_set(err, WR_E_UNSUPPORTED,
		   "the working files lie in a plain directory and cannot be brought into a "
		   "subvolume: %s",
		   why);
	return wr_err_hint(
	    err,
	    "mend that: %s; or save and stop it, move VOLUME/projects/%s away, start "
	    "it: then they come back as one",
	    when, l->project.s);
}

/* 1: it is not yet time to try again. */
static int
tried(struct wr_life *l, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	const int64_t now = wr_clock_wall().s;
	long long at;
	int n = 0;

	if (wr_flag_load(l->node, WR_FLAG_PLAIN, &l->project, WHY_MAX, &b, NULL) < 0 ||
	    sscanf(wr_buf_str(&b), "%lld %n", &at, &n) != 1 || n == 0 || now < at ||
	    now - at > AGAIN_S)
		return 0;
	cannot_be_one(l, wr_buf_str(&b) + n, at + AGAIN_S, err);
	return 1;
}

/* Gives when it is tried again. */
static int64_t
remember(struct wr_life *l, const struct wr_err *why)
{
	const int64_t now = wr_clock_wall().s;
	WR_SCOPED(wr_freep) char *text = wr_asprintf("%lld %.900s", (long long)now, why->msg);

	/* Without it there is one try too many. */
	(void)wr_flag_set(l->node, WR_FLAG_PLAIN, &l->project, text, strlen(text), NULL);
	return now + AGAIN_S;
}

/* What was no try, or may be over with the next start. */
static bool
passes(enum wr_err_code code)
{
	return code == WR_E_CANCELLED || code == WR_E_CHANGED || code == WR_E_BUSY;
}

/* Small files are copied, and a volume that gets full on the way is full for all: so not where it
 * is nearly that. */
static int
has_room(const struct wr_life *l, struct wr_err *err)
{
	struct wr_room room;

	if (wr_room_look(&l->node->volume[l->place.tree_vol], &room, err) < 0)
		return -1;
	if (wr_mark_of(&l->node->config, &room, WR_MARK_NONE) == WR_MARK_NONE)
		return 0;
	return wr_err_set(err, WR_E_BUSY, "the volume is too full (%s)", wr_room_text(&room).s);
}

/* ---- doing it ---- */

static int
clone(struct renewal *r, bool compare, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int fd = wr_open_dir(r->stage, r->made.id.s);
	WR_SCOPED(wr_json_freep) json_t *out = NULL;
	json_t *args;

	if (fd < 0)
		return wr_err_sys(err, "open the stage of project %s", r->made.id.s);
	args = json_object();
	wr_json_bool(args, "compare", compare);
	wr_json_i64(args, "since_s", r->since_s);
	wr_json_u64(args, "since_ns", r->since_ns);
	if (wr_life_task(r->l, WR_TASK_CLONE, args, fd, &out, err) < 0)
		return -1;
	if (!compare) {
		r->bytes = wr_json_get_u64(out, "bytes", 0);
		r->since_s = wr_json_get_i64(out, "since_s", 0);
		r->since_ns = wr_json_get_u64(out, "since_ns", 0);
	}
	/* DURABLE: before it takes the place of what is. */
	return compare || syncfs(fd) == 0 ? 0 : wr_err_sys(err, "sync the volume");
}

static int
change_places(struct renewal *r, struct wr_err *err)
{
	const char *id = r->t->id.s;

	if (renameat2(r->t->parent_fd, id, r->stage, id, RENAME_EXCHANGE) < 0)
		return wr_err_sys(err, "exchange '%s' with its subvolume", id);
	r->swapped = !r->swapped;
	if (wr_life_fsync(r->t->parent_fd, "projects", err) < 0)
		return -1;
	return wr_life_fsync(r->stage, "the stage", err);
}

/* Whoever held a file of it open, or stood in it, may have gone on writing there. */
static int
take_over(struct renewal *r, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;

	r->same = change_places(r, err) == 0;
	wr_life_crash(r->l, "exchanged");
	r->same = r->same && clone(r, true, err) == 0;
	if (r->same)
		return 0;
	if (r->swapped && change_places(r, &why) < 0)
		wr_log_err(WR_LOG_ERROR, "back to the directory that was", &why);
	return -1;
}

/* Whichever of the two lies there. */
static void
clear_up(struct renewal *r)
{
	WR_SCOPED(wr_closep) int stages = wr_open_dir(r->t->parent_fd, WR_LIFE_STAGE);
	struct wr_err why = WR_ERR_INIT;
	uint64_t bytes;
	bool gone;

	if (wr_quota_remove_tree(r->q, &r->made, &gone, &bytes, &why) < 0 || stages < 0 ||
	    wr_life_remove(r->l, stages, r->made.id.s, NULL, NULL, &why) < 0)
		wr_log_err(WR_LOG_WARNING, "clear up the stage", &why); /* the next start does */
}

/* What one that was killed has left, or nothing. But where a reason was remembered and the tree is
 * a subvolume all the same, the exchange could not be taken back. */
static void
leave_nothing(struct wr_life *l, const struct wr_quota_tree *t)
{
	WR_SCOPED(wr_freep) char *path = wr_asprintf(WR_LIFE_STAGE "/%s", t->id.s);
	WR_SCOPED(wr_closep) int held = -1;
	WR_SCOPED(wr_closep) int stages = -1;
	struct wr_err why = WR_ERR_INIT;

	if (faccessat(t->parent_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (wr_flag_is(l->node, WR_FLAG_PLAIN, &l->project)) {
		wr_life_warn(l,
			     "'%s/projects/%s' may hold changes to the files of '%s' that are "
			     "nowhere else: take what is missing, then remove it and '%s/plain/%s'",
			     l->node->volume[l->place.tree_vol].path, path, l->set.name,
			     l->node->state_path, t->id.s);
		return;
	}
	stages = wr_open_dir(t->parent_fd, WR_LIFE_STAGE);
	if (stages < 0 || wr_life_stage_make(l, t->parent_fd, "projects", &held, &why) < 0 ||
	    wr_life_remove(l, stages, t->id.s, NULL, NULL, &why) < 0)
		wr_log_err(WR_LOG_WARNING, "clear up the stage", &why); /* the next start does */
}

static int
renew(struct renewal *r, struct wr_err *err)
{
	struct wr_life *l = r->l;
	int rc;

	if (has_room(l, err) < 0)
		return -1;
	if (l->held)
		return wr_err_set(err, WR_E_BUSY, "somebody has files of the home open");
	if (wr_life_stage_make(l, r->t->parent_fd, "projects", &r->stage, err) < 0)
		return -1;
	r->made = *r->t;
	r->made.parent_fd = r->stage;
	rc = wr_quota_make_tree(r->q, &r->made, 0700, err);
	wr_life_crash(l, "subvolume");
	if (rc == 0)
		rc = clone(r, false, err);
	wr_life_crash(l, "cloned");
	if (rc == 0 && wr_life_cancelled(l))
		rc = wr_err_set(err, WR_E_CANCELLED, "cancelled");
	return rc;
}

int
wr_life_renew_tree(struct wr_life *l, struct wr_quota *q, const struct wr_quota_tree *t,
		   struct wr_err *err)
{
	struct renewal r = {.l = l, .q = q, .t = t, .stage = -1};
	const bool was = l->no_cancel;
	struct wr_err why = WR_ERR_INIT;
	bool kept;
	int rc;

	if (!wr_quota_wants_new_tree(q, t)) {
		leave_nothing(l, t);
		return 0;
	}
	if (tried(l, err))
		return -1;
	rc = renew(&r, &why);
	l->no_cancel = true; /* from here on it is short, and clearing up is not given up */
	if (rc == 0)
		rc = wr_flag_clear(l->node, WR_FLAG_PLAIN, &l->project, &why);
	if (rc == 0)
		rc = take_over(&r, &why);
	kept = r.swapped && !r.same;
	if (r.stage >= 0 && !kept)
		clear_up(&r);
	wr_closep(&r.stage);
	l->no_cancel = was;
	if (rc < 0)
		return cannot_be_one(l, why.msg, kept || !passes(why.code) ? remember(l, &why) : 0,
				     err);
	wr_log(WR_LOG_NOTICE, "the working files lie in a subvolume now");
	if (q->simple && r.bytes)
		wr_life_warn(l,
			     "the files of '%s' lie in a subvolume now, which is limited; simple "
			     "quotas do not count the %s that were there before until they are "
			     "written anew",
			     l->set.name, wr_fmt_bytes(r.bytes).s);
	return 0;
}

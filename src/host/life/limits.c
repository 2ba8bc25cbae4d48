/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limits of the working files: set at a start, when the files are there and before anything
 * runs on them; cleared at a stop. What fails here is a warning: no limit keeps anyone from what is
 * his.
 */
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "host/life/life_int.h"
#include "sys/fs.h"

static const struct wr_volume *
volume_of(const struct wr_life *l)
{
	return &l->place.node->volume[l->place.tree_vol];
}

int
wr_life_quota(struct wr_life *l, struct wr_quota *out, struct wr_quota_tree *out_tree,
	      struct wr_err *err)
{
	const struct wr_volume *v = volume_of(l);

	*out_tree = (struct wr_quota_tree){.id = l->project,
					   .parent_fd = v->projects_fd,
					   .uid = l->set.uid,
					   .exclusive = l->set.exclusive};
	return wr_quota_open(v->projects_fd, l->node->state_fd, v->path,
			     l->node->config.volume_quota, false, out, err);
}

int
wr_life_make_tree(struct wr_life *l, struct wr_err *err)
{
	WR_SCOPED(wr_quota_close) struct wr_quota q = WR_QUOTA_INIT;
	WR_SCOPED(wr_closep) int fd = -1;
	struct wr_quota_tree t;
	struct wr_err why = WR_ERR_INIT;

	if (wr_life_quota(l, &q, &t, err) < 0)
		return -1;
	if (wr_quota_make_tree(&q, &t, 0700, &why) < 0 && why.sys_errno != EEXIST) {
		*err = why;
		return wr_err_wrap(err, "working files in '%s'", volume_of(l)->path);
	}
	fd = wr_tree_open(&l->place, err);
	if (fd < 0)
		return -1;
	if ((l->node->root_mode && fchown(fd, l->set.uid, l->set.gid) < 0) || fchmod(fd, 0700) < 0)
		return wr_err_sys(err, "give '%s/projects/%s' to its user", volume_of(l)->path,
				  l->project.s);
	return wr_life_fsync(t.parent_fd, "projects", err);
}

int
wr_life_remove_tree(struct wr_life *l, uint64_t *io_files, uint64_t *io_bytes, bool *out_whole,
		    struct wr_err *err)
{
	WR_SCOPED(wr_quota_close) struct wr_quota q = WR_QUOTA_INIT;
	struct wr_quota_tree t;
	uint64_t bytes;

	if (wr_life_quota(l, &q, &t, err) < 0 ||
	    wr_quota_remove_tree(&q, &t, out_whole, &bytes, err) < 0)
		return -1;
	if (!*out_whole)
		return wr_life_remove(l, t.parent_fd, l->project.s, io_files, io_bytes, err);
	*io_bytes += bytes;
	return wr_life_fsync(t.parent_fd, "projects", err);
}

/* Files that came here before the volume kept limits do not count yet. */
static int
mark_files(struct wr_life *l, uint32_t number, struct wr_err *err)
{
	json_t *args = json_object();

	wr_json_u64(args, "number", number);
	return wr_life_task(l, WR_TASK_MARK, args, -1, NULL, err);
}

static int
set_limits(struct wr_life *l, struct wr_quota *q, const struct wr_quota_tree *t, bool runs,
	   struct wr_quota_usage *out, struct wr_err *err)
{
	const uint64_t disk = wr_settings_u64(&l->set, "disk");
	const struct wr_quota_limits limits = {
	    .bytes = wr_quota_hard(disk),
	    .inodes = q->caps.inodes ? wr_settings_u64(&l->set, "inodes") : 0};
	uint32_t number;

	/* Whoever works in a home that can be reached does so in the directory that it is now. */
	if (!runs && !wr_life_presented(&l->place, &l->set) && wr_life_renew_tree(l, q, t, err) < 0)
		return -1;
	if (wr_quota_check_tree(q, t, &number, err) < 0 ||
	    (number && mark_files(l, number, err) < 0))
		return -1;
	/* A start opens the grace; what runs already goes on as it is. */
	if (!runs && wr_quota_set(q, t, &limits, err) < 0)
		return -1;
	wr_life_crash(l, "limited");
	return wr_quota_tend(q, t, disk, limits.inodes, out, err);
}

void
wr_life_set_limits(struct wr_life *l, bool runs, unsigned *out_deny, json_t *receipt)
{
	WR_SCOPED(wr_quota_close) struct wr_quota q = WR_QUOTA_INIT;
	json_t *o = wr_json_object(receipt, "limits");
	struct wr_quota_usage u = {0};
	struct wr_err why = WR_ERR_INIT;
	struct wr_quota_tree t;
	bool on;

	wr_life_step(l, "set_quota");
	on = wr_life_quota(l, &q, &t, &why) == 0 && q.caps.bytes;
	/* Also who is not limited must not have others charged. */
	*out_deny = wr_quota_deny(&q, l->set.exclusive);
	if (on && set_limits(l, &q, &t, runs, &u, &why) < 0)
		on = false;
	if (why.code != WR_E_NONE)
		wr_life_warn(l, "disk and inodes of '%s' are not limited: %s%s%s", l->set.name,
			     why.msg, *why.hint ? "; " : "", why.hint);
	wr_json_str(o, "driver", q.caps.driver ? q.caps.driver : "none");
	wr_json_bool(o, "enforced", on);
	wr_json_u64(o, "disk", wr_settings_u64(&l->set, "disk"));
	if (on) {
		wr_json_u64(o, "limit", u.limit_bytes);
		wr_json_u64(o, "used", u.bytes);
	} else {
		wr_json_null(o, "limit");
		wr_json_null(o, "used");
	}
}

unsigned
wr_life_deny(struct wr_life *l)
{
	WR_SCOPED(wr_quota_close) struct wr_quota q = WR_QUOTA_INIT;
	struct wr_quota_tree t;

	return wr_life_quota(l, &q, &t, NULL) < 0 ? 0 : wr_quota_deny(&q, l->set.exclusive);
}

void
wr_life_clear_limits(struct wr_life *l)
{
	WR_SCOPED(wr_quota_close) struct wr_quota q = WR_QUOTA_INIT;
	struct wr_err why = WR_ERR_INIT;
	struct wr_quota_tree t;

	/* The next start of the daemon tries again. */
	if (wr_life_quota(l, &q, &t, &why) < 0 || wr_quota_clear(&q, &t, &why) < 0)
		wr_life_warn(l, "the limits of '%s' stay: %s", l->set.name, why.msg);
	wr_life_crash(l, "unlimited");
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scratch: room on this host alone, for as long as the setting `scratch` gives some. A start makes
 * it, or brings back what was set aside; limits are as those of the working files. A project
 * without scratch is a project: but for a purge, and what goes with a project into its trash and
 * out of it, what fails here is a warning.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "host/life/life_int.h"
#include "sys/clock.h"
#include "sys/fs.h"

/* One that is open for work: the directory of all, its own limits. */
struct scratch {
	const struct wr_volume *vol;
	int dir_fd;
	struct wr_quota quota;
	struct wr_quota_tree tree;
};
#define SCRATCH_INIT                                 \
	{                                            \
		.dir_fd = -1, .quota = WR_QUOTA_INIT \
	}

static void
scratch_fini(struct scratch *s)
{
	wr_closep(&s->dir_fd);
	wr_quota_close(&s->quota);
}

static int
scratch_open(struct wr_life *l, size_t vol, enum wr_scratch_part part, bool make,
	     struct scratch *out, struct wr_err *err)
{
	out->vol = &l->node->volume[vol];
	out->dir_fd = wr_scratch_dir(out->vol, part, make, err);
	if (out->dir_fd < 0)
		return -1;
	out->tree = (struct wr_quota_tree){.id = l->project,
					   .parent_fd = out->dir_fd,
					   .uid = l->set.uid,
					   .exclusive = l->set.exclusive,
					   .scratch = true};
	return wr_quota_open(out->vol->projects_fd, l->node->state_fd, out->vol->path,
			     l->node->config.volume_quota, false, &out->quota, err);
}

static uint64_t
wanted(const struct wr_life *l)
{
	return wr_settings_u64(&l->set, "scratch");
}

char *
wr_life_scratch_path(const struct wr_life *l)
{
	size_t vol;

	if (!wanted(l) || !wr_scratch_find(l->node, &l->project, WR_SCRATCH_LIVE, &vol))
		return NULL;
	return wr_scratch_path(&l->node->volume[vol], &l->project);
}

/* Removed from one of the directories of scratch. */
static int
drop(struct wr_life *l, struct scratch *s, uint64_t *io_files, uint64_t *io_bytes,
     struct wr_err *err)
{
	uint64_t bytes;
	bool gone;

	if (wr_quota_remove_tree(&s->quota, &s->tree, &gone, &bytes, err) < 0)
		return -1;
	*io_bytes += bytes;
	if (gone)
		return wr_life_fsync(s->dir_fd, "scratch", err);
	return wr_life_remove(l, s->dir_fd, l->project.s, io_files, io_bytes, err);
}

/* ---- start ---- */

/* On which volume it is by now: as it was, back from the trash, or new beside the working files. */
static int
have(struct wr_life *l, struct scratch *s, bool *out_back, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;
	uint64_t none = 0;
	size_t vol;

	*out_back = false;
	if (!wr_scratch_find(l->node, &l->project, WR_SCRATCH_LIVE, &vol)) {
		*out_back = wr_scratch_find(l->node, &l->project, WR_SCRATCH_TRASH, &vol);
		if (*out_back && wr_scratch_move(&l->node->volume[vol], &l->project,
						 WR_SCRATCH_TRASH, WR_SCRATCH_LIVE, err) < 0)
			return -1;
		/* A second one would hide the first, when its volume is back. */
		if (!*out_back && wr_node_missing(l->node, err) < 0)
			return -1;
		if (!*out_back)
			vol = l->place.tree_vol;
	}
	if (scratch_open(l, vol, WR_SCRATCH_LIVE, true, s, err) < 0)
		return -1;
	/* Made before there were quotas. */
	if (wr_quota_wants_new_tree(&s->quota, &s->tree) &&
	    wr_scratch_is_empty(s->vol, &l->project) && drop(l, s, &none, &none, err) < 0)
		return -1;
	if (wr_quota_make_tree(&s->quota, &s->tree, 0700, &why) < 0 && why.sys_errno != EEXIST) {
		*err = why;
		return -1;
	}
	wr_life_crash(l, "scratch-made");
	return 0;
}

static int
chown_all(struct wr_life *l, int fd, const json_t *args, json_t *receipt, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *r = NULL;

	if (wr_life_task_in(l, WR_TASK_CHOWN, json_deep_copy(args), fd, &r, err) < 0)
		return wr_err_wrap(err, "scratch");
	if (json_array_size(wr_json_get_arr(r, "left")) > 0)
		l->skipped = true;
	json_object_set(receipt, "scratch", r);
	return 0;
}

/* One that was half made is root's; the mode of one that is its user's is his. It may come back to
 * a project that has another user by now. */
static int
give(struct wr_life *l, struct scratch *s, int fd, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *args = json_object();
	WR_SCOPED(wr_json_freep) json_t *told = json_object();
	struct stat st;
	bool ours;

	if (fstat(fd, &st) < 0)
		goto failed;
	ours = !l->node->root_mode || st.st_uid == l->set.uid;
	if (!ours && st.st_uid != geteuid()) {
		wr_json_u64(args, "uid", l->set.uid);
		wr_json_u64(args, "gid", l->set.gid);
		wr_json_u64(args, "from_uid", st.st_uid);
		if (chown_all(l, fd, args, told, err) < 0)
			return -1;
	}
	if (ours || (fchown(fd, l->set.uid, l->set.gid) == 0 && fchmod(fd, 0700) == 0))
		return wr_life_fsync(s->dir_fd, "scratch", err);
failed:
	return wr_err_sys(err, "give '%s/scratch/%s' to its user", s->vol->path, l->project.s);
}

static int
limit(struct wr_life *l, struct scratch *s, int fd, bool runs, struct wr_quota_usage *out,
      struct wr_err *err)
{
	const uint64_t bytes = wanted(l);
	const struct wr_quota_limits limits = {
	    .bytes = wr_quota_hard(bytes),
	    .inodes = s->quota.caps.inodes ? wr_settings_u64(&l->set, "inodes") : 0};
	uint32_t number;

	if (wr_quota_check_tree(&s->quota, &s->tree, &number, err) < 0)
		return -1;
	if (number) {
		json_t *args = json_object();

		wr_json_u64(args, "number", number);
		if (wr_life_task_in(l, WR_TASK_MARK, args, fd, NULL, err) < 0)
			return -1;
	}
	if (!runs && wr_quota_set(&s->quota, &s->tree, &limits, err) < 0)
		return -1;
	return wr_quota_tend(&s->quota, &s->tree, bytes, limits.inodes, out, err);
}

static void
tell(struct wr_life *l, const struct scratch *s, bool back, bool on, const struct wr_quota_usage *u,
     json_t *receipt)
{
	json_t *o = wr_json_object(receipt, "scratch");
	WR_SCOPED(wr_freep) char *path = wr_scratch_path(s->vol, &l->project);

	wr_json_path(o, "path", path, strlen(path));
	wr_json_u64(o, "quota", wanted(l));
	wr_json_bool(o, "back", back);
	wr_json_bool(o, "enforced", on);
	if (on) {
		wr_json_u64(o, "limit", u->limit_bytes);
		wr_json_u64(o, "used", u->bytes);
	} else {
		wr_json_null(o, "limit");
		wr_json_null(o, "used");
	}
}

/* The first directory on the way to it that keeps its user out; NULL: there is none. Caller frees.
 */
static char *
closed_at(const struct wr_life *l, const struct scratch *s)
{
	WR_SCOPED(wr_freep) char *path = wr_scratch_path(s->vol, &l->project);
	struct stat st;

	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (stat(path, &st) < 0 || !(st.st_mode & S_IXOTH))
			return wr_steal(&path);
		*slash = '/';
	}
	return NULL;
}

static int
make_ready(struct wr_life *l, bool runs, json_t *receipt, struct wr_err *err)
{
	WR_SCOPED(scratch_fini) struct scratch s = SCRATCH_INIT;
	WR_SCOPED(wr_closep) int fd = -1;
	WR_SCOPED(wr_freep) char *closed = NULL;
	struct wr_quota_usage u = {0};
	struct wr_err why = WR_ERR_INIT;
	bool back, on;

	if (have(l, &s, &back, err) < 0)
		return -1;
	fd = wr_open_dir(s.dir_fd, l->project.s);
	if (fd < 0)
		return wr_err_sys(err, "open '%s/scratch/%s'", s.vol->path, l->project.s);
	if (give(l, &s, fd, err) < 0)
		return -1;
	on = s.quota.caps.bytes && limit(l, &s, fd, runs, &u, &why) == 0;
	if (why.code != WR_E_NONE)
		wr_life_warn(l, "the scratch of '%s' is not limited: %s%s%s", l->set.name, why.msg,
			     *why.hint ? "; " : "", why.hint);
	tell(l, &s, back, on, &u, receipt);
	closed = l->node->root_mode ? closed_at(l, &s) : NULL;
	if (closed)
		wr_life_warn(l, "'%s' cannot reach its scratch: chmod o+x '%s'", l->set.name,
			     closed);
	return 0;
}

/* The setting was taken back: nothing runs, so what is there goes where nobody writes to it. */
static int
set_aside(struct wr_life *l, struct wr_err *err)
{
	WR_SCOPED(scratch_fini) struct scratch s = SCRATCH_INIT;
	uint64_t files = 0, bytes = 0;
	size_t vol;

	if (!wr_scratch_find(l->node, &l->project, WR_SCRATCH_LIVE, &vol))
		return 0;
	if (scratch_open(l, vol, WR_SCRATCH_LIVE, false, &s, err) < 0)
		return -1;
	if (wr_scratch_is_empty(s.vol, &l->project))
		return drop(l, &s, &files, &bytes, err);
	if (wr_scratch_move(s.vol, &l->project, WR_SCRATCH_LIVE, WR_SCRATCH_TRASH, err) < 0)
		return -1;
	wr_life_warn(l,
		     "'%s' has no scratch any more: what was in it is in the trash until %s; a "
		     "start with scratch=SIZE before that brings it back",
		     l->set.name,
		     wr_fmt_utc(wr_clock_wall().s +
				(int64_t)wr_age_span(l->node, l->node->config.trash_keep))
			 .s);
	return 0;
}

void
wr_life_scratch_ready(struct wr_life *l, bool runs, json_t *receipt)
{
	struct wr_err why = WR_ERR_INIT;
	int rc = 0;

	wr_json_null(receipt, "scratch");
	if (wanted(l)) {
		wr_life_step(l, "set_quota");
		rc = make_ready(l, runs, receipt, &why);
	} else if (!runs) {
		rc = set_aside(l, &why);
	}
	if (rc < 0)
		wr_life_warn(l, "scratch of '%s': %s%s%s", l->set.name, why.msg,
			     *why.hint ? "; " : "", why.hint);
	wr_life_crash(l, "scratch");
}

void
wr_life_scratch_clear(struct wr_life *l)
{
	WR_SCOPED(scratch_fini) struct scratch s = SCRATCH_INIT;
	struct wr_err why = WR_ERR_INIT;
	size_t vol;

	if (!wr_scratch_find(l->node, &l->project, WR_SCRATCH_LIVE, &vol))
		return;
	/* The next start of the daemon tries again. */
	if (scratch_open(l, vol, WR_SCRATCH_LIVE, false, &s, &why) < 0 ||
	    wr_quota_clear(&s.quota, &s.tree, &why) < 0)
		wr_life_warn(l, "the limit of the scratch of '%s' stays: %s", l->set.name, why.msg);
}

/* ---- with its project ---- */

int
wr_life_scratch_to_trash(struct wr_life *l, struct wr_err *err)
{
	size_t vol;

	if (wr_scratch_find(l->node, &l->project, WR_SCRATCH_LIVE, &vol) &&
	    wr_scratch_move(&l->node->volume[vol], &l->project, WR_SCRATCH_LIVE, WR_SCRATCH_TRASH,
			    err) < 0)
		return -1;
	wr_life_crash(l, "scratch");
	return 0;
}

int
wr_life_scratch_from_trash(struct wr_life *l, struct wr_err *err)
{
	size_t vol;

	if (wr_scratch_find(l->node, &l->project, WR_SCRATCH_TRASH, &vol) &&
	    wr_scratch_move(&l->node->volume[vol], &l->project, WR_SCRATCH_TRASH, WR_SCRATCH_LIVE,
			    err) < 0)
		return -1;
	wr_life_crash(l, "scratch");
	return 0;
}

int
wr_life_scratch_purge(struct wr_life *l, uint64_t *io_files, uint64_t *io_bytes, struct wr_err *err)
{
	size_t vol;

	while (wr_scratch_find(l->node, &l->project, WR_SCRATCH_TRASH, &vol)) {
		WR_SCOPED(scratch_fini) struct scratch s = SCRATCH_INIT;

		if (scratch_open(l, vol, WR_SCRATCH_TRASH, false, &s, err) < 0 ||
		    drop(l, &s, io_files, io_bytes, err) < 0)
			return wr_err_wrap(err, "scratch");
	}
	wr_life_crash(l, "scratch");
	return 0;
}

int
wr_life_scratch_chown(struct wr_life *l, const json_t *args, json_t *receipt, struct wr_err *err)
{
	static const enum wr_scratch_part part[] = {WR_SCRATCH_LIVE, WR_SCRATCH_TRASH};

	wr_json_null(receipt, "scratch");
	for (size_t i = 0; i < WR_ARRAY_LEN(part); i++) {
		WR_SCOPED(wr_closep) int dir = -1;
		WR_SCOPED(wr_closep) int fd = -1;
		size_t vol;

		if (!wr_scratch_find(l->node, &l->project, part[i], &vol))
			continue;
		dir = wr_scratch_dir(&l->node->volume[vol], part[i], false, err);
		if (dir < 0)
			return -1;
		fd = wr_open_dir(dir, l->project.s);
		if (fd < 0)
			return wr_err_sys(err, "open the scratch of project %s", l->project.s);
		return chown_all(l, fd, args, receipt, err);
	}
	return 0;
}

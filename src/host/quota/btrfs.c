/* SPDX-License-Identifier: Apache-2.0 */
/*
 * btrfs: a tree is subvolume N with the kernel's own group 0/N below ours, 700/N, which carries the
 * limit.  No other program makes groups of that level, so all of them are Warren's, also those
 * whose subvolume has gone.  With simple quotas a subvolume that a user makes in his tree becomes a
 * member of the same group by itself, unless he names other groups for it, or none, which the
 * kernel lets anybody do; with the older kind it is in none.  So his processes may not make any
 * (wr_quota_deny).
 *
 * Removing files is never refused for a limit, only what makes or grows them is.
 */
#include <endian.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/quota/quota_int.h"
#include "sys/fs.h"

#define LEVEL UINT64_C(700)
#define LEVEL_SHIFT 48
#define NUMBER_MASK ((UINT64_C(1) << LEVEL_SHIFT) - 1)
#define OURS(n) (LEVEL << LEVEL_SHIFT | (n))
/* Headers before Linux 6.7 do not have them. */
#define CTL_ENABLE_SIMPLE 4
#define STATUS_SIMPLE (UINT64_C(1) << 3)

static uint64_t
le64_at(const uint8_t *p, size_t i)
{
	uint64_t v;

	memcpy(&v, p + 8 * i, sizeof(v));
	return le64toh(v);
}

/* ---- looking into the file system's own trees ---- */

struct key {
	uint64_t object, offset;
	uint32_t type;
};
/* 1: enough. */
typedef int (*item_fn)(void *ctx, const struct key *k, const uint8_t *data, size_t len);

/* Everything of one type between two keys. */
static int
search(int fd, uint64_t tree, const struct key *from, const struct key *to, item_fn fn, void *ctx,
       struct wr_err *err)
{
	struct key at = *from;

	for (;;) {
		struct btrfs_ioctl_search_args a = {0};
		size_t pos = 0;

		a.key.tree_id = tree;
		a.key.min_objectid = at.object;
		a.key.max_objectid = to->object;
		a.key.min_type = at.type;
		a.key.max_type = to->type;
		a.key.min_offset = at.offset;
		a.key.max_offset = to->offset;
		a.key.max_transid = UINT64_MAX;
		a.key.nr_items = 4096;
		if (ioctl(fd, BTRFS_IOC_TREE_SEARCH, &a) < 0)
			return wr_err_sys(err, "look into the file system");
		if (a.key.nr_items == 0)
			return 0;
		for (uint32_t i = 0; i < a.key.nr_items; i++) {
			struct btrfs_ioctl_search_header h;
			int rc;

			if (sizeof(a.buf) - pos < sizeof(h))
				return wr_err_set(err, WR_E_CORRUPT, "the file system's answer");
			memcpy(&h, a.buf + pos, sizeof(h));
			pos += sizeof(h);
			if (sizeof(a.buf) - pos < h.len)
				return wr_err_set(err, WR_E_CORRUPT, "the file system's answer");
			at = (struct key){h.objectid, h.offset, h.type};
			rc = h.type == from->type
				 ? fn(ctx, &at, (const uint8_t *)a.buf + pos, h.len)
				 : 0;
			if (rc != 0)
				return 0;
			pos += h.len;
		}
		if (at.offset == UINT64_MAX)
			return 0;
		at.offset++;
	}
}

/* Of one item: the first numbers in it. */
struct numbers {
	uint64_t v[5];
	bool found;
};

static int
take_numbers(void *ctx, const struct key *k, const uint8_t *data, size_t len)
{
	struct numbers *n = ctx;

	(void)k;
	for (size_t i = 0; i < WR_ARRAY_LEN(n->v) && 8 * (i + 1) <= len; i++)
		n->v[i] = le64_at(data, i);
	n->found = len >= 8;
	return 1;
}

static int
one_item(int fd, uint64_t tree, const struct key *k, struct numbers *out, struct wr_err *err)
{
	*out = (struct numbers){0};
	return search(fd, tree, k, k, take_numbers, out, err);
}

/* The flags of quotas; 0: they are off. */
static int
status(int fd, uint64_t *out, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;
	struct numbers n;

	*out = 0;
	if (one_item(fd, BTRFS_QUOTA_TREE_OBJECTID, &(struct key){0, 0, BTRFS_QGROUP_STATUS_KEY},
		     &n, &why) < 0) {
		if (why.code == WR_E_NOT_FOUND)
			return 0;
		*err = why;
		return -1;
	}
	if (n.found && (n.v[2] & BTRFS_QGROUP_STATUS_FLAG_ON))
		*out = n.v[2];
	return 0;
}

/* ---- is it there ---- */

void
wr_quota_btrfs_probe(struct wr_quota *q, const char *path, bool turn_on, bool own)
{
	struct btrfs_ioctl_quota_ctl_args ctl = {.cmd = CTL_ENABLE_SIMPLE};
	struct wr_err why = WR_ERR_INIT;
	uint64_t flags;
	int rc = status(q->fd, &flags, &why);

	q->driver = &wr_quota_btrfs;
	if (rc == 0 && !flags && turn_on && own) {
		if (ioctl(q->fd, BTRFS_IOC_QUOTA_CTL, &ctl) < 0) {
			ctl.cmd = BTRFS_QUOTA_CTL_ENABLE;
			(void)ioctl(q->fd, BTRFS_IOC_QUOTA_CTL, &ctl); /* status says */
		}
		rc = status(q->fd, &flags, &why);
	}
	if (rc < 0) {
		snprintf(q->why, sizeof(q->why), "%.150s", why.msg);
		return;
	}
	if (!flags) {
		snprintf(q->why, sizeof(q->why), "quotas are off");
		snprintf(q->hint, sizeof(q->hint),
			 "[volume] quota = btrfs in warren.conf, or: btrfs quota enable %.120s",
			 path);
		return;
	}
	q->simple = flags & STATUS_SIMPLE;
	q->caps.bytes = true;
	if (turn_on && !q->simple && (flags & BTRFS_QGROUP_STATUS_FLAG_INCONSISTENT) &&
	    !(flags & BTRFS_QGROUP_STATUS_FLAG_RESCAN)) {
		struct btrfs_ioctl_quota_rescan_args again = {0};

		/* One may be under way already. */
		(void)ioctl(q->fd, BTRFS_IOC_QUOTA_RESCAN, &again);
	}
}

/* ---- groups ---- */

static int
group_make(int fd, uint64_t group, bool create)
{
	struct btrfs_ioctl_qgroup_create_args a = {.create = create, .qgroupid = group};

	return ioctl(fd, BTRFS_IOC_QGROUP_CREATE, &a) < 0 && (!create || errno != EEXIST) ? -1 : 0;
}

/* 1: what is counted has to be counted again. */
static int
group_assign(int fd, uint64_t member, uint64_t group, bool assign)
{
	struct btrfs_ioctl_qgroup_assign_args a = {.assign = assign, .src = member, .dst = group};
	int rc = ioctl(fd, BTRFS_IOC_QGROUP_ASSIGN, &a);

	return rc < 0 && assign && errno == EEXIST ? 0 : rc;
}

/* Our group with the subvolume in it. */
static int
group_ready(int fd, uint64_t number, struct wr_err *err)
{
	int rc;

	if (group_make(fd, OURS(number), true) < 0)
		return wr_err_sys(err, "make group 700/%" PRIu64, number);
	rc = group_assign(fd, number, OURS(number), true);
	if (rc < 0 && errno == ENOENT && group_make(fd, number, true) == 0)
		rc = group_assign(fd, number, OURS(number), true);
	if (rc < 0)
		return wr_err_sys(err, "put subvolume %" PRIu64 " into its group", number);
	if (rc > 0) {
		struct btrfs_ioctl_quota_rescan_args again = {0};

		(void)ioctl(fd, BTRFS_IOC_QUOTA_RESCAN, &again); /* or one is under way */
	}
	return 0;
}

struct ids {
	uint64_t *id;
	size_t count, cap;
};

static void
ids_fini(struct ids *s)
{
	free(s->id);
}

static int
take_offset(void *ctx, const struct key *k, const uint8_t *data, size_t len)
{
	struct ids *s = ctx;

	(void)data;
	(void)len;
	wr_grow(&s->id, &s->cap, s->count + 1, sizeof(*s->id));
	s->id[s->count++] = k->offset;
	return 0;
}

/* Of a subvolume that is gone. The kernel refuses while it still gives back the space: then ours
 * stays too, by which the next start of the daemon finds them. */
static void
groups_drop(int fd, uint64_t number)
{
	WR_SCOPED(ids_fini) struct ids member = {0};
	bool all = true;
	const struct key from = {OURS(number), 0, BTRFS_QGROUP_RELATION_KEY};
	const struct key to = {OURS(number), UINT64_MAX, BTRFS_QGROUP_RELATION_KEY};

	if (search(fd, BTRFS_QUOTA_TREE_OBJECTID, &from, &to, take_offset, &member, NULL) < 0)
		return;
	for (size_t i = 0; i < member.count; i++)
		all &= group_make(fd, member.id[i], false) == 0;
	if (all)
		(void)group_make(fd, OURS(number), false); /* found again if it cannot be */
}

static int
limit(int fd, uint64_t group, uint64_t bytes)
{
	struct btrfs_ioctl_qgroup_limit_args a = {.qgroupid = group};

	a.lim.flags = BTRFS_QGROUP_LIMIT_MAX_RFER;
	a.lim.max_rfer = bytes ? bytes : UINT64_MAX; /* that value takes it away */
	return ioctl(fd, BTRFS_IOC_QGROUP_LIMIT, &a);
}

/* ---- trees ---- */

/* The number of the subvolume parent_fd/ID. */
static int
number_of(const struct wr_quota_tree *t, uint64_t *out, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int fd = wr_open_dir(t->parent_fd, t->id.s);
	struct btrfs_ioctl_ino_lookup_args a = {.objectid = BTRFS_FIRST_FREE_OBJECTID};
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return wr_err_sys(err, "open the working files of project %s", t->id.s);
	if (st.st_ino != BTRFS_FIRST_FREE_OBJECTID) {
		wr_err_set(err, WR_E_UNSUPPORTED, "the %s of project %s %s no subvolume",
			   t->scratch ? "scratch" : "working files", t->id.s,
			   t->scratch ? "is" : "are");
		return wr_err_hint(
		    err, t->scratch ? "empty it, then stop and start the project"
				    : "stop it and start it: then they are brought into one");
	}
	if (ioctl(fd, BTRFS_IOC_INO_LOOKUP, &a) < 0)
		return wr_err_sys(err, "ask for the number of a subvolume");
	*out = a.treeid;
	return 0;
}

static int
make_tree(struct wr_quota *q, const struct wr_quota_tree *t, mode_t mode, struct wr_err *err)
{
	struct btrfs_ioctl_vol_args a = {0};
	WR_SCOPED(wr_closep) int fd = -1;
	uint64_t number;

	snprintf(a.name, sizeof(a.name), "%s", t->id.s);
	if (ioctl(t->parent_fd, BTRFS_IOC_SUBVOL_CREATE, &a) < 0)
		return wr_err_sys(err, "make subvolume '%s'", t->id.s);
	fd = wr_open_dir(t->parent_fd, t->id.s);
	if (fd < 0 || fchmod(fd, mode) < 0)
		return wr_err_sys(err, "set up subvolume '%s'", t->id.s);
	if (!q->caps.bytes)
		return 0;
	return number_of(t, &number, err) < 0 ? -1 : group_ready(q->fd, number, err);
}

static int
check_tree(struct wr_quota *q, const struct wr_quota_tree *t, uint32_t *out_number,
	   struct wr_err *err)
{
	uint64_t number;

	(void)out_number;
	return q->caps.bytes ? number_of(t, &number, err) : 0;
}

static bool
wants_new_tree(const struct wr_quota_tree *t)
{
	struct wr_err why = WR_ERR_INIT;
	uint64_t number;

	return number_of(t, &number, &why) < 0 && why.code == WR_E_UNSUPPORTED;
}

/* Those a user has made inside of it, however deep: each is found before those within it. */
static int
destroy_nested(int fd, uint64_t number, struct wr_err *err)
{
	WR_SCOPED(ids_fini) struct ids found = {0};

	for (size_t i = 0;; i++) {
		const struct key from = {number, 0, BTRFS_ROOT_REF_KEY};
		const struct key to = {number, UINT64_MAX, BTRFS_ROOT_REF_KEY};

		if (search(fd, BTRFS_ROOT_TREE_OBJECTID, &from, &to, take_offset, &found, err) < 0)
			return -1;
		if (i == found.count)
			break;
		number = found.id[i];
	}
	while (found.count > 0) {
		struct btrfs_ioctl_vol_args_v2 a = {.flags = BTRFS_SUBVOL_SPEC_BY_ID};

		a.subvolid = found.id[--found.count];
		if (ioctl(fd, BTRFS_IOC_SNAP_DESTROY_V2, &a) < 0 && errno != ENOENT)
			return wr_err_sys(err, "remove subvolume %llu", a.subvolid);
	}
	return 0;
}

static int
usage_of(const struct wr_quota *q, uint64_t number, struct wr_quota_usage *out, struct wr_err *err)
{
	struct numbers info, lim;

	if (one_item(q->fd, BTRFS_QUOTA_TREE_OBJECTID,
		     &(struct key){0, OURS(number), BTRFS_QGROUP_INFO_KEY}, &info, err) < 0 ||
	    one_item(q->fd, BTRFS_QUOTA_TREE_OBJECTID,
		     &(struct key){0, OURS(number), BTRFS_QGROUP_LIMIT_KEY}, &lim, err) < 0)
		return -1;
	*out = (struct wr_quota_usage){.bytes = info.v[1]};
	if (lim.v[0] & BTRFS_QGROUP_LIMIT_MAX_RFER)
		out->limit_bytes = lim.v[1];
	return 0;
}

static int
usage(struct wr_quota *q, const struct wr_quota_tree *t, struct wr_quota_usage *out,
      struct wr_err *err)
{
	uint64_t number;

	return number_of(t, &number, err) < 0 ? -1 : usage_of(q, number, out, err);
}

static int
remove_tree(struct wr_quota *q, const struct wr_quota_tree *t, bool *out_gone, uint64_t *out_bytes,
	    struct wr_err *err)
{
	struct btrfs_ioctl_vol_args a = {0};
	struct wr_quota_usage u = {0};
	struct wr_err why = WR_ERR_INIT;
	uint64_t number, transaction;

	if (number_of(t, &number, &why) < 0) {
		if (why.code == WR_E_NOT_FOUND || why.code == WR_E_UNSUPPORTED)
			return 0;
		*err = why;
		return -1;
	}
	if (q->caps.bytes && usage_of(q, number, &u, err) < 0)
		return -1;
	/* Destroying a subvolume takes room, for which its own limit counts. */
	if (u.limit_bytes && limit(q->fd, OURS(number), 0) < 0)
		return wr_err_sys(err, "clear the limit of group 700/%" PRIu64, number);
	if (destroy_nested(q->fd, number, err) < 0)
		return -1;
	snprintf(a.name, sizeof(a.name), "%s", t->id.s);
	if (ioctl(t->parent_fd, BTRFS_IOC_SNAP_DESTROY, &a) < 0 && errno != ENOENT)
		return wr_err_sys(err, "remove subvolume '%s'", t->id.s);
	/* Its room comes back once a transaction has ended and the next one has as well: that can
	 * take a minute, of which this takes the half. It is not waited for. */
	(void)ioctl(q->fd, BTRFS_IOC_START_SYNC, &transaction);
	*out_gone = true;
	*out_bytes = u.bytes;
	if (q->caps.bytes)
		groups_drop(q->fd, number);
	return 0;
}

static int
set(struct wr_quota *q, const struct wr_quota_tree *t, const struct wr_quota_limits *limits,
    struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;
	uint64_t number;

	if (number_of(t, &number, &why) < 0) {
		/* What is not there, or could not be limited, has no limit to be cleared. */
		if (!limits->bytes && (why.code == WR_E_NOT_FOUND || why.code == WR_E_UNSUPPORTED))
			return 0;
		*err = why;
		return -1;
	}
	if (limits->bytes && group_ready(q->fd, number, err) < 0)
		return -1;
	if (limit(q->fd, OURS(number), limits->bytes) < 0 && (limits->bytes || errno != ENOENT))
		return wr_err_sys(err, "limit group 700/%" PRIu64, number);
	return 0;
}

/* ---- all of them ---- */

static int
take_ours(void *ctx, const struct key *k, const uint8_t *data, size_t len)
{
	return k->offset >> LEVEL_SHIFT == LEVEL ? take_offset(ctx, k, data, len) : 0;
}

/* Where a subvolume hangs. */
struct where {
	uint64_t parent, dir;
	char name[sizeof(struct wr_uuid)]; /* "" if it cannot be an id */
	bool found;
};

static int
take_where(void *ctx, const struct key *k, const uint8_t *data, size_t len)
{
	struct where *w = ctx;
	uint16_t n;

	if (len < sizeof(struct btrfs_root_ref))
		return 1;
	memcpy(&n, data + 16, sizeof(n));
	n = le16toh(n);
	w->parent = k->offset;
	w->dir = le64_at(data, 0);
	if (n < sizeof(w->name) && n <= len - sizeof(struct btrfs_root_ref))
		memcpy(w->name, data + sizeof(struct btrfs_root_ref), n);
	w->found = true;
	return 1;
}

/* A directory of trees of ours; dir 0: it is not there. */
struct home {
	uint64_t tree, dir;
	bool live; /* what lies there may be active */
};

static int
home_of(int projects_fd, const char *name, bool live, struct home *out, struct wr_err *err)
{
	struct btrfs_ioctl_ino_lookup_args here = {.objectid = BTRFS_FIRST_FREE_OBJECTID};
	WR_SCOPED(wr_closep) int fd = wr_open_dir(projects_fd, name);
	struct stat st;

	*out = (struct home){.live = live};
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0 || ioctl(fd, BTRFS_IOC_INO_LOOKUP, &here) < 0)
		return wr_err_sys(err, "ask for the number of a subvolume");
	out->tree = here.treeid;
	out->dir = st.st_ino;
	return 0;
}

#define HOMES 4

/* Working files, scratch (host/node/scratch.c) and the trash of both; what is gone from scratch
 * lost its limit before. */
static int
homes_of(int projects_fd, struct home out[HOMES], struct wr_err *err)
{
	static const struct {
		const char *name;
		bool live;
	} part[HOMES] = {
	    {".", true}, {".trash", false}, {"../scratch", true}, {"../scratch/.trash", false}};

	for (size_t i = 0; i < HOMES; i++)
		if (home_of(projects_fd, part[i].name, part[i].live, &out[i], err) < 0)
			return -1;
	return 0;
}

static const struct home *
home_find(const struct where *w, const struct home home[HOMES])
{
	for (size_t i = 0; i < HOMES; i++)
		if (home[i].dir && home[i].tree == w->parent && home[i].dir == w->dir)
			return &home[i];
	return NULL;
}

static bool
may_keep(const struct where *w, const struct home *h, const struct wr_quota_owner *all,
	 size_t count)
{
	const struct wr_quota_owner *o;
	struct wr_uuid id;

	if (!h->live || !wr_uuid_parse(w->name, &id))
		return false;
	o = wr_quota_owner_find(all, count, &id);
	return o && o->active;
}

static int
clear_all(struct wr_quota *q, const struct wr_quota_owner *all, size_t count, size_t *out_cleared,
	  struct wr_err *err)
{
	const struct key from = {0, OURS(0), BTRFS_QGROUP_LIMIT_KEY};
	const struct key to = {0, OURS(NUMBER_MASK), BTRFS_QGROUP_LIMIT_KEY};
	WR_SCOPED(ids_fini) struct ids group = {0};
	struct home home[HOMES];

	if (homes_of(q->fd, home, err) < 0 ||
	    search(q->fd, BTRFS_QUOTA_TREE_OBJECTID, &from, &to, take_ours, &group, err) < 0)
		return -1;
	for (size_t i = 0; i < group.count; i++) {
		const uint64_t number = group.id[i] & NUMBER_MASK;
		const struct key first = {number, 0, BTRFS_ROOT_BACKREF_KEY};
		const struct key last = {number, UINT64_MAX, BTRFS_ROOT_BACKREF_KEY};
		const struct home *h;
		struct wr_quota_usage u;
		struct where w = {0};

		if (search(q->fd, BTRFS_ROOT_TREE_OBJECTID, &first, &last, take_where, &w, err) < 0)
			return -1;
		if (!w.found) {
			groups_drop(q->fd, number);
			continue;
		}
		/* Other volumes may lie on the same file system. */
		h = home_find(&w, home);
		if (!h || may_keep(&w, h, all, count))
			continue;
		if (usage_of(q, number, &u, err) < 0)
			return -1;
		if (!u.limit_bytes)
			continue;
		if (limit(q->fd, group.id[i], 0) < 0)
			return wr_err_sys(err, "clear the limit of group 700/%" PRIu64, number);
		++*out_cleared;
	}
	return 0;
}

const struct wr_quota_driver wr_quota_btrfs = {
    .name = "btrfs",
    .make_tree = make_tree,
    .check_tree = check_tree,
    .wants_new_tree = wants_new_tree,
    .remove_tree = remove_tree,
    .set = set,
    .usage = usage,
    .clear_all = clear_all,
};

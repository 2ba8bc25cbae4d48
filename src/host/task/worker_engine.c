/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks on the repository, and between it and the tree. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "engine/repo/resolve.h"
#include "engine/snap/dirview.h"
#include "engine/snap/ignore.h"
#include "engine/snap/latest.h"
#include "engine/snap/whoami.h"
#include "host/task/worker_int.h"
#include "sys/beneath.h"
#include "sys/clock.h"
#include "sys/fs.h"

/* How long another writer (`warren repo` by an operator) is waited for. */
#define LOCK_WAIT_S 30
#define TAGS "refs/tags/"
#define TRAILER_OP "Warren-Op"
/* LIMIT: of a user's message. */
#define MESSAGE_MAX 4096
#define BESIDE_TRIES 1000

static void
close_repo(struct wr_repo **r)
{
	wr_repo_close(*r);
}

static void
free_reader(struct wr_reader **rd)
{
	wr_reader_free(*rd);
}

static void
unref_ignore(struct wr_ignore **ig)
{
	wr_ignore_unref(*ig);
}

static struct wr_repo *
open_repo(const char *path, struct wr_err *err)
{
	struct wr_repo *r;

	return wr_repo_open(path, &r, err) < 0 ? NULL : r;
}

json_t *
wr_work_init_repo(struct wr_worker *w, struct wr_err *err)
{
	unsigned bits = (unsigned)wr_json_get_u64(w->args, "split_bits", WR_SPLIT_BITS_DEFAULT);
	json_t *o;
	bool existed;

	if (wr_repo_init(WR_WORKER_REPO_PATH, bits, &existed, err) < 0) {
		wr_err_wrap(err, "make the repository");
		return NULL;
	}
	o = json_object();
	wr_json_bool(o, "made", !existed);
	return o;
}

/* ---- inspect ---- */

uint64_t
wr_worker_packs(struct wr_repo *r)
{
	int fd = openat(wr_repo_objects_fd(r), "pack", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	uint64_t sum = 0;
	struct dirent *e;
	struct stat st;

	if (!d && fd >= 0)
		close(fd);
	while (d && (e = readdir(d)))
		if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
			sum += (uint64_t)st.st_size;
	if (d)
		closedir(d);
	return sum;
}

/* A state that may not become history: the snapshot that it stands on. */
static bool
stands_on(struct wr_reader *rd, const struct wr_id *state, struct wr_id *out)
{
	struct wr_commit c = WR_COMMIT_INIT;
	bool yes = wr_repo_read_commit(rd, state, &c, NULL) == 0 && wr_latest_base(&c, out);

	wr_commit_fini(&c);
	return yes;
}

/* Down the line of first parents.  Damage far back ends the count, not the project. */
static void
look_back(struct wr_reader *rd, struct wr_id at, const struct wr_id *base, uint64_t *out_count,
	  bool *out_met)
{
	bool more = true;

	*out_count = 0;
	*out_met = false;
	while (more) {
		struct wr_commit c = WR_COMMIT_INIT;

		*out_met = *out_met || (base && wr_id_eq(&at, base));
		if (wr_repo_read_commit(rd, &at, &c, NULL) < 0)
			return;
		++*out_count;
		more = c.parent_count > 0;
		if (more)
			at = c.parent[0];
		wr_commit_fini(&c);
	}
}

static int
find_tip(struct wr_worker *w, struct wr_repo *r, struct wr_reader *rd, char **out_branch,
	 struct wr_id *out, bool *out_has, struct wr_err *err)
{
	const char *given = wr_json_get_str(w->args, "branch", NULL);
	WR_SCOPED(wr_freep) char *branch = given ? wr_strdup(given) : NULL;
	WR_SCOPED(wr_freep) char *ref = NULL;
	struct wr_err e = WR_ERR_INIT;

	*out_has = false;
	if (!branch && wr_default_branch(rd, &branch, &e) < 0) {
		if (e.code != WR_E_NOT_FOUND) {
			*err = e;
			return -1;
		}
		branch = wr_strdup("main");
	}
	if (wr_ref_name_check(branch, err) < 0)
		return -1;
	ref = wr_asprintf("refs/heads/%s", branch);
	*out_branch = wr_steal(&branch);
	*out_has = wr_ref_read(r, ref, out, &e) == 0;
	if (*out_has || e.code == WR_E_NOT_FOUND)
		return 0;
	*err = e;
	return -1;
}

json_t *
wr_work_inspect(struct wr_worker *w, struct wr_err *err)
{
	const char *base_hex = wr_json_get_str(w->args, "base", NULL);
	WR_SCOPED(close_repo) struct wr_repo *r = open_repo(WR_WORKER_REPO_PATH, err);
	WR_SCOPED(free_reader) struct wr_reader *rd = r ? wr_reader_new(r) : NULL;
	WR_SCOPED(wr_commit_fini) struct wr_commit c = WR_COMMIT_INIT;
	WR_SCOPED(wr_latest_fini) struct wr_latest latest = {0};
	WR_SCOPED(wr_freep) char *branch = NULL;
	WR_SCOPED(wr_freep) char *op = NULL;
	const struct wr_commit *newest = &c;
	struct wr_id tip, base, on;
	uint64_t snapshots = 0;
	bool has, met = false, base_stands = false;
	json_t *o;

	if (!r)
		return NULL;
	if (base_hex && (strlen(base_hex) != 40 || !wr_id_parse(base_hex, &base))) {
		wr_err_set(err, WR_E_INVALID, "base: '%s' is no id", WR_Q(base_hex));
		return NULL;
	}
	if (find_tip(w, r, rd, &branch, &tip, &has, err) < 0)
		return NULL;
	if (has && wr_repo_read_commit(rd, &tip, &c, err) < 0) {
		if (err->code == WR_E_NOT_FOUND)
			wr_err_recode(err, WR_E_CORRUPT); /* the branch says it is there */
		wr_err_wrap(err, "newest snapshot of branch '%s'", WR_Q(branch));
		return NULL;
	}
	if (wr_latest_find(r, rd, branch, has ? &tip : NULL, &latest, err) < 0)
		return NULL;
	if (latest.valid)
		newest = &latest.commit;
	/* Whatever stood on a snapshot of the line is older than what followed there. */
	base_stands = base_hex && stands_on(rd, &base, &on);
	if (has)
		look_back(rd, tip, base_stands ? &on : base_hex ? &base : NULL, &snapshots, &met);
	o = json_object();
	wr_json_str(o, "branch", branch);
	wr_json_str(o, "snapshot", has ? wr_id_hex(&tip).s : NULL);
	wr_json_bool(o, "latest", latest.valid);
	wr_json_str(o, "tip",
		    latest.valid ? wr_id_hex(&latest.id).s
		    : has        ? wr_id_hex(&tip).s
				 : NULL);
	if (has || latest.valid) {
		op = wr_commit_trailer(newest, TRAILER_OP);
		wr_json_id(o, "tree", &newest->tree);
		wr_json_time(o, "time", newest->author_time);
		wr_json_str(o, "op", op);
	}
	if (has) {
		wr_json_str(o, "name", wr_fmt_snap_name(c.author_time).s);
		wr_json_str(o, "parent",
			    latest.valid     ? wr_id_hex(&tip).s
			    : c.parent_count ? wr_id_hex(&c.parent[0]).s
					     : NULL);
	}
	wr_json_str(o, "base_on", base_stands ? wr_id_hex(&on).s : NULL);
	wr_json_bool(o, "base_known", base_hex && wr_repo_exists(r, &base));
	wr_json_bool(o, "base_is_ancestor", met);
	wr_json_u64(o, "snapshots", snapshots);
	wr_json_u64(o, "repo_bytes", wr_worker_packs(r));
	return o;
}

/* ---- save ---- */

/* The engine's second pass makes the snapshot. */
static void
save_progress(void *ctx, const char *step, uint64_t files, uint64_t files_total, uint64_t bytes,
	      uint64_t bytes_total)
{
	wr_worker_progress(ctx, strcmp(step, "save") ? step : "snapshot", files, files_total, bytes,
			   bytes_total);
	if (!strcmp(step, "save")) /* a scan reads no contents */
		wr_worker_pace("save", bytes);
}

int
wr_worker_exclude(const struct wr_worker *w, struct wr_ignore **out, struct wr_err *err)
{
	const json_t *list = wr_json_get_arr(w->args, "exclude");
	struct wr_ignore *ig = wr_ignore_new(NULL, "");

	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *v = json_array_get(list, i);

		if (!json_is_string(v) ||
		    wr_ignore_add(ig, json_string_value(v), json_string_length(v), err) < 0) {
			wr_ignore_unref(ig);
			return wr_err_wrap(err, "exclude");
		}
	}
	*out = ig;
	return 0;
}

/* The first line of the message and what the user says; neither can look like a trailer, for those
 * stand in the last paragraph, which is ours. */
static char *
make_what(const struct wr_worker *w, const char *head)
{
	const char *said = wr_json_get_str(w->args, "message", NULL);

	if (!said || !*said)
		return wr_strdup(head);
	return wr_asprintf("%.*s", MESSAGE_MAX, said);
}

static char *
make_trailer(const struct wr_worker *w, struct wr_err *err)
{
	const char *op = wr_json_get_str(w->args, "op", "");

	if (op[strspn(op, "0123456789abcdef-")]) {
		wr_err_set(err, WR_E_INVALID, "op: '%s' is no id", WR_Q(op));
		return NULL;
	}
	return *op ? wr_asprintf(TRAILER_OP ": %s", op) : wr_strdup("");
}

static void
save_opts(const struct wr_worker *w, struct wr_save_opts *o)
{
	o->max_file_size = wr_json_get_u64(w->args, "max_file_size", 0);
	o->own_link = wr_json_get_str(w->args, "own_link", NULL);
	o->wait_s = LOCK_WAIT_S;
	o->progress = save_progress;
	o->root_fd = WR_WORKER_TREE;
	o->one_file_system = true;
	o->no_mounts = true;
	o->only_own_links = true;
	o->owner = w->uid;
}

static int
check_tag(const char *name, struct wr_err *err)
{
	return wr_ref_name_check(name, err) < 0 ? wr_err_wrap(err, "tag") : 0;
}

/* Under the repository's lock. The same tag on the same commit: a repetition. */
static int
set_tag(struct wr_repo *r, const char *name, const struct wr_id *commit, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *ref = wr_asprintf(TAGS "%s", name);
	WR_SCOPED(wr_freep) char *what = wr_asprintf("tag %s", name);
	WR_SCOPED(wr_freep) char *ident = wr_whoami();
	struct wr_id there;

	if (wr_ref_read(r, ref, &there, NULL) == 0) {
		if (wr_id_eq(&there, commit))
			return 0;
		return wr_err_set(err, WR_E_EXISTS, "tag '%s' exists already, at %s", WR_Q(name),
				  wr_id_short(&there).s);
	}
	return wr_ref_update(r, ref, commit, NULL, ident, what, err);
}

json_t *
wr_work_save(struct wr_worker *w, struct wr_err *err)
{
	const char *tag = wr_json_get_str(w->args, "tag", NULL);
	const json_t *weed = wr_json_get_obj(w->args, "weed");
	struct wr_err why = WR_ERR_INIT;
	WR_SCOPED(close_repo) struct wr_repo *r = open_repo(WR_WORKER_REPO_PATH, err);
	WR_SCOPED(unref_ignore) struct wr_ignore *ig = NULL;
	WR_SCOPED(wr_freep) char *what = make_what(w, "warren save");
	WR_SCOPED(wr_freep) char *trailer = make_trailer(w, err);
	struct wr_save_opts o = WR_SAVE_OPTS_INIT;
	struct wr_save_result res;
	json_t *out;
	int rc = 0;

	if (!r || !trailer || wr_worker_exclude(w, &ig, err) < 0 ||
	    (tag && check_tag(tag, err) < 0))
		return NULL;
	save_opts(w, &o);
	o.force = wr_json_get_bool(w->args, "force", false);
	o.latest = wr_json_get_bool(w->args, "latest", false);
	o.branch = wr_json_get_str(w->args, "branch", NULL);
	if (w->kind == WR_TASK_SALVAGE && !o.branch) {
		wr_err_set(err, WR_E_INVALID, "branch: which one?");
		return NULL;
	}
	o.ignore = ig;
	o.what = what;
	o.trailer = *trailer ? trailer : NULL;
	o.carry_from_cache = w->kind == WR_TASK_SALVAGE; /* a new branch has nothing of its own */
	if (wr_repo_lock(r, "save", LOCK_WAIT_S, err) < 0)
		return NULL;
	if (wr_save(r, w->tree_path, &o, &res, err) < 0)
		return NULL;
	if (tag && res.has_commit)
		rc = set_tag(r, tag, &res.commit, err);
	out = rc == 0 ? json_object() : NULL;
	if (out) {
		wr_receipt_save(out, &res, false);
		wr_json_str(out, "tag", tag);
		wr_json_bool(out, "latest", res.latest);
		if (weed && wr_worker_weed(r, weed, &why) < 0)
			wr_json_err(out, "weed", &why); /* the snapshot is there all the same */
		if (wr_worker_refs(r, out, err) < 0)
			wr_json_freep(&out);
	}
	wr_save_result_fini(&res);
	return out;
}

/* ---- restore ---- */

/*
 * The directory that is restored to or into, made where it is missing.  Its user may be renaming
 * meanwhile: each name is opened in the directory above, and what another put there is his.
 */
static int
make_dirs(const char *path, const struct wr_restore_opts *o, struct wr_err *err)
{
	int at = wr_beneath_open(WR_WORKER_TREE, "", O_RDONLY | O_DIRECTORY, 0, err);

	while (at >= 0 && *path) {
		WR_SCOPED(wr_closep) int up = at;
		size_t n = strcspn(path, "/");
		WR_SCOPED(wr_freep) char *name = wr_memdup(path, n + 1);
		struct wr_err e = WR_ERR_INIT;
		struct stat st;

		name[n] = '\0';
		path += n + (path[n] == '/');
		at = wr_beneath_open(up, name, O_RDONLY | O_DIRECTORY, 0, &e);
		if (at >= 0)
			continue;
		if (e.sys_errno != ENOENT) {
			*err = e;
			return -1;
		}
		if (mkdirat(up, name, 0755) < 0 && errno != EEXIST)
			return wr_err_sys(err, "make directory '%s'", WR_Q(name));
		at = wr_beneath_open(up, name, O_RDONLY | O_DIRECTORY, 0, err);
		if (at < 0 || !o->owned || fstat(at, &st) < 0 || st.st_uid != geteuid())
			continue;
		if (fchown(at, o->uid, o->gid) < 0 && errno != EPERM) {
			close(at);
			return wr_err_sys(err, "set the owner of '%s'", WR_Q(name));
		}
	}
	return at;
}

/* 1 there, 0 not there, -1. *out_dir: it is a directory. */
static int
look(const char *path, bool *out_dir, struct wr_err *err)
{
	struct wr_err e = WR_ERR_INIT;
	WR_SCOPED(wr_closep) int fd = wr_beneath_open(WR_WORKER_TREE, path, O_PATH, 0, &e);
	struct stat st;

	*out_dir = false;
	if (fd < 0 && e.sys_errno == ENOENT)
		return 0;
	if (fd < 0) {
		*err = e;
		return -1;
	}
	*out_dir = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
	return 1;
}

struct restoring {
	struct wr_worker *w;
	struct wr_snap snap;
	struct wr_restore_opts o;
	char *path, *dest; /* both clean */
	bool is_dir;
	struct wr_id tree; /* of a directory */
	char *name;        /* of a file */
	struct wr_counting count;
};

/* NAME.from-SNAPSHOT, with a number if that is taken. */
static int
go_beside(struct restoring *rs, struct wr_err *err)
{
	bool dir;
	int there = look(rs->dest, &dir, err);

	if (there <= 0)
		return there;
	for (unsigned i = 1; i <= BESIDE_TRIES; i++) {
		WR_SCOPED(wr_freep)
		char *next = i == 1 ? wr_asprintf("%s.from-%s", rs->dest, rs->snap.name)
				    : wr_asprintf("%s.from-%s-%u", rs->dest, rs->snap.name, i);
		WR_SCOPED(wr_freep) char *clean = wr_beneath_clean(next, strlen(next), err);

		if (!clean || (there = look(clean, &dir, err)) < 0)
			return -1;
		if (!there) {
			free(rs->dest);
			rs->dest = wr_steal(&clean);
			return 0;
		}
	}
	return wr_err_set(err, WR_E_EXISTS, "there are too many copies beside '%s'",
			  WR_Q(rs->dest));
}

/* Where it goes: settles rs->dest, opens the directory. */
static int
open_dest(struct restoring *rs, struct wr_err *err)
{
	const bool beside = wr_json_get_bool(rs->w->args, "beside", false);
	const char *base = strrchr(rs->path, '/'), *slash;
	bool given, dir;
	int there;

	if (wr_worker_path(rs->w, "dest", &rs->dest, err) < 0)
		return -1;
	given = rs->dest != NULL;
	if (!given)
		rs->dest = wr_strdup(rs->path);
	base = base ? base + 1 : rs->path;
	if (!rs->is_dir && given) {
		there = look(rs->dest, &dir, err);
		if (there < 0)
			return -1;
		if (there && dir) {
			char *in = wr_asprintf("%s%s%s", rs->dest, *rs->dest ? "/" : "", base);

			free(rs->dest);
			rs->dest = in;
		}
	}
	if (beside && *rs->dest && go_beside(rs, err) < 0)
		return -1;
	if (rs->o.dry_run) {
		there = look(rs->dest, &dir, err);
		if (there < 0)
			return -1;
		if (!there)
			return 0; /* all of it would be made */
	}
	if (rs->is_dir) {
		rs->o.dest_fd = make_dirs(rs->dest, &rs->o, err);
	} else {
		WR_SCOPED(wr_freep) char *parent = wr_strdup(rs->dest);

		slash = strrchr(rs->dest, '/');
		parent[slash ? slash - rs->dest : 0] = '\0';
		rs->o.dest_fd = make_dirs(parent, &rs->o, err);
	}
	return rs->o.dest_fd < 0 ? wr_err_wrap(err, "open the place of '%s'", WR_Q(rs->dest)) : 0;
}

static void
restore_progress(void *ctx, const char *step, uint64_t files, uint64_t files_total, uint64_t bytes,
		 uint64_t bytes_total)
{
	struct wr_counting *n = ctx;

	(void)files_total;
	wr_worker_progress(NULL, step, files, n->total, bytes, bytes_total);
	if (!strcmp(step, "save") || !strcmp(step, "restore"))
		wr_worker_pace(step, bytes);
}

static int
read_restore(struct restoring *rs, struct wr_id *guard, struct wr_err *err)
{
	static const char *const words[] = {[WR_OVERWRITE_CHANGED] = "changed",
					    [WR_OVERWRITE_ALWAYS] = "always",
					    [WR_OVERWRITE_NEWER] = "newer",
					    [WR_OVERWRITE_NEVER] = "never"};
	const json_t *a = rs->w->args;
	const char *word = wr_json_get_str(a, "overwrite", "changed");
	const char *guard_hex = wr_json_get_str(a, "guard", NULL);
	struct wr_restore_opts *o = &rs->o;
	size_t i;

	for (i = 0; i < WR_ARRAY_LEN(words) && strcmp(word, words[i]) != 0; i++)
		;
	if (i == WR_ARRAY_LEN(words))
		return wr_err_set(err, WR_E_INVALID, "overwrite: there is no mode '%s'",
				  WR_Q(word));
	o->overwrite = (enum wr_overwrite)i;
	o->delete_extra = wr_json_get_bool(a, "delete_extra", false);
	o->dry_run = wr_json_get_bool(a, "dry_run", false);
	o->no_safety = true; /* the operation has made one */
	o->no_mounts = true;
	o->wait_s = LOCK_WAIT_S;
	o->progress = restore_progress;
	o->ctx = &rs->count;
	o->owned = json_object_get(a, "uid") != NULL;
	o->uid = (uid_t)wr_json_get_u64(a, "uid", rs->w->uid);
	o->gid = (gid_t)wr_json_get_u64(a, "gid", rs->w->gid);
	if (guard_hex && (strlen(guard_hex) != 40 || !wr_id_parse(guard_hex, guard)))
		return wr_err_set(err, WR_E_INVALID, "guard: '%s' is no id", WR_Q(guard_hex));
	o->guard = guard_hex ? guard : NULL;
	return 0;
}

/* Which snapshot, which part of it. */
static int
find_part(struct restoring *rs, struct wr_reader *rd, struct wr_err *err)
{
	const char *spec = wr_json_get_str(rs->w->args, "snap", "");
	WR_SCOPED(wr_freep) char *behind = NULL;
	WR_SCOPED(wr_at_fini) struct wr_at at = WR_AT_INIT;

	if (wr_worker_path(rs->w, "path", &rs->path, err) < 0 ||
	    wr_resolve(rd, spec, wr_clock_wall().s, &rs->snap, &behind, err) < 0)
		return -1;
	if (!rs->path)
		rs->path = wr_beneath_clean(behind ? behind : "", behind ? strlen(behind) : 0, err);
	if (!rs->path || wr_at_find(rd, &rs->snap.tree, rs->path, strlen(rs->path), &at, err) < 0)
		return -1;
	rs->is_dir = at.is_dir;
	rs->tree = at.tree;
	return 0;
}

static json_t *
restore_receipt(const struct restoring *rs, const struct wr_restore_result *res)
{
	json_t *o = json_object();
	WR_SCOPED(wr_freep)
	char *name = rs->snap.branch ? wr_asprintf("%s/%s", rs->snap.branch, rs->snap.name)
				     : wr_strdup(wr_id_hex(&rs->snap.commit).s);

	wr_json_str(o, "snapshot", name);
	wr_json_id(o, "commit", &rs->snap.commit);
	wr_json_path(o, "path", rs->path, strlen(rs->path));
	wr_json_path(o, "dest", rs->dest, strlen(rs->dest));
	wr_json_bool(o, "dry_run", rs->o.dry_run);
	wr_receipt_restore(o, res);
	wr_json_real(o, "seconds", res->seconds);
	return o;
}

static json_t *
restore(struct restoring *rs, struct wr_repo *r, struct wr_reader *rd, struct wr_err *err)
{
	WR_SCOPED(unref_ignore) struct wr_ignore *ig = NULL;
	WR_SCOPED(wr_freep) char *full = NULL;
	struct wr_restore_result res;
	struct wr_id guard;
	json_t *o;
	bool whole;
	int rc;

	if (wr_worker_exclude(rs->w, &ig, err) < 0 || read_restore(rs, &guard, err) < 0 ||
	    find_part(rs, rd, err) < 0)
		return NULL;
	if (wr_json_get_bool(rs->w->args, "look", false))
		rs->o.dry_run = true;
	if (open_dest(rs, err) < 0)
		return NULL;
	if (wr_json_get_bool(rs->w->args, "look", false))
		return json_object();
	whole = !*rs->dest && !*rs->path && !rs->w->copied;
	if (rs->o.guard && !whole) {
		wr_err_set(err, WR_E_INVALID, "guard: only the whole tree can be guarded");
		return NULL;
	}
	rs->o.ignore = ig;
	/* The cache is of the tree as this project's snapshots have it. */
	rs->o.no_cache = !whole;
	if (rs->o.dest_fd >= 0) {
		full = wr_asprintf("%s%s%s", rs->w->tree_path, *rs->dest ? "/" : "", rs->dest);
	} else { /* a dry run: a name in the tree that nothing has */
		char name[32];

		wr_random_name(name, sizeof(name), ".warren-tmp-");
		full = wr_asprintf("/proc/self/fd/%d/%s", WR_WORKER_TREE, name);
	}
	if (rs->is_dir)
		wr_counting_begin(&rs->count, r, &rs->tree);
	rc = wr_restore(r, &rs->snap, rs->path, full, &rs->o, &res, err);
	wr_counting_end(&rs->count);
	if (rc < 0)
		return NULL;
	o = restore_receipt(rs, &res);
	wr_restore_result_fini(&res);
	return o;
}

json_t *
wr_work_restore(struct wr_worker *w, struct wr_err *err)
{
	struct restoring rs = {.w = w, .o = WR_RESTORE_OPTS_INIT};
	WR_SCOPED(close_repo)
	struct wr_repo *r = open_repo(w->copied ? WR_WORKER_SOURCE_PATH : WR_WORKER_REPO_PATH, err);
	WR_SCOPED(free_reader) struct wr_reader *rd = r ? wr_reader_new(r) : NULL;
	json_t *o = r ? restore(&rs, r, rd, err) : NULL;

	wr_closep(&rs.o.dest_fd);
	wr_snap_fini(&rs.snap);
	free(rs.path);
	free(rs.dest);
	return o;
}

/* ---- import ---- */

static void
import_progress(void *ctx, const char *step, uint64_t files, uint64_t files_total, uint64_t bytes,
		uint64_t bytes_total)
{
	wr_worker_progress(ctx, "import", files, files_total, bytes, bytes_total);
	if (!strcmp(step, "save") || !strcmp(step, "restore"))
		wr_worker_pace(step, bytes);
}

/* The source becomes a snapshot. */
static int
take_in(struct wr_worker *w, struct wr_repo *r, struct wr_ignore *ig, struct wr_save_result *out,
	struct wr_err *err)
{
	struct wr_save_opts o = WR_SAVE_OPTS_INIT;
	char from[4096];
	ssize_t n = readlink(WR_WORKER_SOURCE_PATH, from, sizeof(from) - 1);

	if (n < 0)
		return wr_err_sys(err, "find the path of the source");
	from[n] = '\0';
	save_opts(w, &o);
	o.root_fd = WR_WORKER_SOURCE;
	o.only_own_links = false; /* an operator says what is imported */
	o.no_cache = true;
	o.sums_of = w->tree_path; /* it is there that usage asks what folders have cost */
	o.force = true;           /* an empty source is a snapshot as well */
	o.ignore = ig;
	o.what = "warren import";
	o.progress = import_progress;
	return wr_save(r, from, &o, out, err) < 0 ? wr_err_wrap(err, "import '%s'", WR_Q(from)) : 0;
}

static int
bring_out(struct wr_worker *w, struct wr_repo *r, const struct wr_save_result *saved,
	  struct wr_restore_result *out, struct wr_err *err)
{
	struct wr_restore_opts o = WR_RESTORE_OPTS_INIT;
	struct wr_snap snap = {.commit = saved->commit, .tree = saved->tree, .time = saved->time};
	struct wr_counting all = {.total = saved->files};
	struct stat st;

	o.dest_fd = WR_WORKER_TREE;
	o.owned = true;
	o.uid = (uid_t)wr_json_get_u64(w->args, "uid", w->uid);
	o.gid = (gid_t)wr_json_get_u64(w->args, "gid", w->gid);
	o.no_safety = true;
	o.no_mounts = true;
	o.progress = restore_progress;
	o.ctx = &all;
	if (wr_restore(r, &snap, NULL, w->tree_path, &o, out, err) < 0)
		return wr_err_wrap(err, "bring in what was imported");
	/* A home is its user's alone, whatever the source was. */
	if (fstat(WR_WORKER_TREE, &st) < 0 ||
	    (fchmod(WR_WORKER_TREE, st.st_mode & 0700) < 0 && errno != EPERM)) {
		wr_restore_result_fini(out);
		return wr_err_sys(err, "set the mode of the home");
	}
	return 0;
}

/* What one of the steps skipped, to the lists of the receipt. */
static void
add_skipped(json_t *o, const struct wr_notes *n)
{
	json_t *list = wr_json_get_arr(o, "skipped"), *part = json_object();

	wr_receipt_notes(part, "skipped", n);
	json_array_extend(list, wr_json_get_arr(part, "skipped"));
	wr_json_u64(o, "skipped_more",
		    wr_json_get_u64(o, "skipped_more", 0) +
			wr_json_get_u64(part, "skipped_more", 0));
	json_decref(part);
}

json_t *
wr_work_import(struct wr_worker *w, struct wr_err *err)
{
	WR_SCOPED(close_repo) struct wr_repo *r = open_repo(WR_WORKER_REPO_PATH, err);
	WR_SCOPED(unref_ignore) struct wr_ignore *ig = NULL;
	WR_SCOPED(wr_freep) char *trailer = make_trailer(w, err);
	struct wr_save_opts o = WR_SAVE_OPTS_INIT;
	struct wr_save_result in, again;
	struct wr_restore_result out;
	json_t *res = NULL, *imported;

	if (!r || !trailer || wr_worker_exclude(w, &ig, err) < 0 ||
	    wr_repo_lock(r, "import", LOCK_WAIT_S, err) < 0)
		return NULL;
	if (take_in(w, r, ig, &in, err) < 0)
		return NULL;
	if (wr_repo_refresh(r, err) < 0 || bring_out(w, r, &in, &out, err) < 0) {
		wr_save_result_fini(&in);
		return NULL;
	}
	save_opts(w, &o);
	o.ignore = ig;
	o.what = "warren import";
	o.trailer = *trailer ? trailer : NULL;
	o.force = true; /* the operation is to be seen in the newest snapshot */
	o.progress = import_progress;
	if (wr_save(r, w->tree_path, &o, &again, err) == 0) {
		res = json_object();
		wr_receipt_save(res, &again, false);
		imported = wr_json_object(res, "imported");
		wr_json_u64(imported, "files", in.files);
		wr_json_u64(imported, "bytes", in.bytes_total);
		add_skipped(res, &in.skipped);
		add_skipped(res, &out.skipped);
		wr_save_result_fini(&again);
	}
	wr_restore_result_fini(&out);
	wr_save_result_fini(&in);
	return res;
}

/* ---- tags ---- */

static int
drop_tag(struct wr_repo *r, const char *ref, json_t *dropped, struct wr_err *err)
{
	if (wr_ref_delete(r, ref, NULL, err) < 0)
		return -1;
	wr_json_add_str(dropped, ref + strlen(TAGS));
	return 0;
}

/* Made by an operation, and not by a user who likes the prefix: before-1a2b3c4d. */
static bool
names_op(const char *tag, const char *prefix)
{
	size_t n = strlen(prefix);

	return !strncmp(tag, prefix, n) && strlen(tag + n) == 8 &&
	       strspn(tag + n, "0123456789abcdef") == 8;
}

/* Tags of a prefix and an operation whose snapshots are older than asked. */
static int
expire(struct wr_worker *w, struct wr_repo *r, struct wr_reader *rd, json_t *dropped,
       struct wr_err *err)
{
	const char *prefix = wr_json_get_str(w->args, "prefix", "");
	int64_t before = wr_json_get_i64(w->args, "expire_before", 0);
	WR_SCOPED(wr_refs_fini) struct wr_refs refs = {0};
	int rc = 0;

	if (!*prefix)
		return wr_err_set(err, WR_E_INVALID, "prefix: which tags?");
	if (wr_refs_list(r, TAGS, &refs, err) < 0)
		return -1;
	for (size_t i = 0; i < refs.count && rc == 0; i++) {
		struct wr_commit c = WR_COMMIT_INIT;

		if (!names_op(refs.ref[i].name + strlen(TAGS), prefix) ||
		    wr_repo_read_commit(rd, &refs.ref[i].id, &c, NULL) < 0)
			continue;
		if (c.author_time < before)
			rc = drop_tag(r, refs.ref[i].name, dropped, err);
		wr_commit_fini(&c);
	}
	return rc;
}

json_t *
wr_work_tag(struct wr_worker *w, struct wr_err *err)
{
	const char *name = wr_json_get_str(w->args, "name", NULL);
	const char *commit = wr_json_get_str(w->args, "commit", NULL);
	WR_SCOPED(close_repo) struct wr_repo *r = open_repo(WR_WORKER_REPO_PATH, err);
	WR_SCOPED(free_reader) struct wr_reader *rd = r ? wr_reader_new(r) : NULL;
	WR_SCOPED(wr_json_freep) json_t *o = json_object();
	json_t *dropped = wr_json_array(o, "dropped");
	struct wr_id id;
	int rc;

	if (!r || wr_repo_lock(r, "tag", LOCK_WAIT_S, err) < 0)
		return NULL;
	if (!name) {
		rc = expire(w, r, rd, dropped, err);
	} else if (check_tag(name, err) < 0) {
		rc = -1;
	} else if (wr_json_get_bool(w->args, "delete", false)) {
		WR_SCOPED(wr_freep) char *ref = wr_asprintf(TAGS "%s", name);

		rc = wr_ref_read(r, ref, &id, NULL) < 0 ? 0 : drop_tag(r, ref, dropped, err);
	} else if (!commit || strlen(commit) != 40 || !wr_id_parse(commit, &id)) {
		rc = wr_err_set(err, WR_E_INVALID, "commit: '%s' is no id",
				WR_Q(commit ? commit : ""));
	} else {
		struct wr_commit c = WR_COMMIT_INIT;

		rc = wr_repo_read_commit(rd, &id, &c, err);
		wr_commit_fini(&c);
		rc = rc < 0 ? rc : set_tag(r, name, &id, err);
	}
	return rc < 0 ? NULL : wr_steal(&o);
}

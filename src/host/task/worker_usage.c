/* SPDX-License-Identifier: Apache-2.0 */
/* What a project takes: from the sums that saves leave beside the stat cache, or looked at now. */
#include "engine/repo/resolve.h"
#include "engine/snap/ignore.h"
#include "engine/snap/scan.h"
#include "host/task/worker_int.h"
#include "sys/clock.h"

#define FOLDERS_TOLD 10
#define SCAN_THREADS 4
/* A folder of which nearly all is in one that it holds says nothing that this one does not. */
#define NEARLY_ALL 0.9

/* ---- now ---- */

/* ctx: about how many files there are; what has been saved since may be more. */
static void
scan_progress(void *ctx, uint64_t files, uint64_t bytes)
{
	const uint64_t *about = ctx;

	wr_worker_progress(NULL, "scan", files, *about ? WR_MAX(*about, files) : 0, bytes, 0);
}

static int
scan_now(struct wr_worker *w, struct wr_usage *u, struct wr_err *err)
{
	struct wr_pool *pool = wr_pool_new(SCAN_THREADS);
	struct wr_sums *sums = wr_sums_new();
	struct wr_ignore *ignore = NULL;
	struct wr_scan_opts o = {.one_file_system = true,
				 .no_mounts = true,
				 .only_own_links = true,
				 .owner = w->uid,
				 .own_link = wr_json_get_str(w->args, "own_link", NULL),
				 .max_file_size = wr_json_get_u64(w->args, "max_file_size", 0),
				 .sums = sums,
				 .progress = scan_progress};
	uint64_t about = u->files ? u->files : wr_json_get_u64(w->args, "about", 0);
	struct wr_scan *scan = NULL;
	bool changed;
	int rc = wr_worker_exclude(w, &ignore, err);

	o.ignore = ignore;
	o.ctx = &about;
	if (rc == 0)
		rc = wr_scan_run(WR_WORKER_TREE, pool, &o, NULL, "", &scan, err);
	if (rc == 0) {
		wr_usage_add(u, sums, false, &changed);
		(void)wr_scan_left_out(scan, &u->left_out_files, &u->left_out_bytes);
		u->at = wr_clock_wall().s;
	}
	wr_scan_free(scan);
	wr_ignore_unref(ignore);
	wr_sums_free(sums);
	wr_pool_free(pool);
	return rc;
}

static void
history_progress(void *ctx, uint64_t done, uint64_t total)
{
	wr_worker_progress(ctx, "history", 0, 0, done, total);
}

static int
look_now(struct wr_worker *w, struct wr_repo *r, struct wr_usage *u, struct wr_err *err)
{
	struct wr_reader *rd = wr_reader_new(r);
	char *branch = NULL;
	int rc = scan_now(w, u, err);

	if (rc == 0 && wr_default_branch(rd, &branch, NULL) < 0)
		branch = wr_strdup("main");
	if (rc == 0)
		rc = wr_usage_measure(r, branch, u, history_progress, NULL, err);
	/* While somebody saves, his sums are as good. */
	if (rc == 0 && wr_repo_lock(r, "usage", 0, NULL) == 0)
		wr_usage_store(r, w->tree_path, u);
	free(branch);
	wr_reader_free(rd);
	return rc;
}

/* ---- told ---- */

static uint64_t
cost(const struct wr_usage_folder *f)
{
	return f->bytes + f->stored;
}

static int
by_cost(const void *a, const void *b)
{
	const struct wr_usage_folder *x = *(const struct wr_usage_folder *const *)a,
				     *y = *(const struct wr_usage_folder *const *)b;

	if (cost(x) != cost(y))
		return cost(x) < cost(y) ? 1 : -1;
	return x->path_len > y->path_len ? -1 : x->path_len < y->path_len;
}

/* Folders stand in order of their paths, though others ("a-b") may stand between "a" and "a/b". */
static bool
holds_heavier(const struct wr_usage *u, size_t i)
{
	const struct wr_usage_folder *f = &u->folder[i];

	for (size_t k = i + 1; k < u->folder_count; k++) {
		const struct wr_usage_folder *in = &u->folder[k];

		if (in->path_len < f->path_len || memcmp(in->path, f->path, f->path_len) != 0)
			return false;
		if (in->path[f->path_len] == '/' &&
		    (double)cost(in) >= NEARLY_ALL * (double)cost(f))
			return true;
	}
	return false;
}

static void
tell_folders(json_t *o, const struct wr_usage *u)
{
	WR_SCOPED(wr_freep)
	const struct wr_usage_folder **f = wr_calloc(u->folder_count + 1, sizeof(*f));
	json_t *list = wr_json_array(o, "folders");
	size_t n = 0;

	for (size_t i = 1; i < u->folder_count; i++)
		if (cost(&u->folder[i]) && !holds_heavier(u, i))
			f[n++] = &u->folder[i];
	if (n)
		qsort(f, n, sizeof(*f), by_cost);
	for (size_t i = 0; i < WR_MIN(n, (size_t)FOLDERS_TOLD); i++) {
		json_t *e = wr_json_item(list);

		wr_json_path(e, "path", f[i]->path, f[i]->path_len);
		wr_json_u64(e, "files", f[i]->files);
		wr_json_u64(e, "bytes", f[i]->bytes);
		wr_json_u64(e, "stored", f[i]->stored);
	}
}

/* What the newest state does not need of the history. Between two looks it is taken to need as much
 * more or less as the files have grown or shrunk. */
static uint64_t
history_bytes(const struct wr_usage *u, uint64_t packs, bool exact)
{
	double needed = (double)u->bytes;

	if (u->measured && u->then)
		needed = (double)u->needed * (double)u->bytes / (double)u->then;
	if (exact)
		needed = (double)u->needed;
	return needed < (double)packs ? packs - (uint64_t)needed : 0;
}

/* ---- scratch ---- */

struct counted {
	uint64_t files, bytes;
};

static int
count_one(void *ctx, const struct wr_met *m, bool after, struct wr_err *err)
{
	struct counted *c = ctx;

	(void)after;
	(void)err;
	c->files++;
	/* One with several names counts once in the end. */
	c->bytes += (uint64_t)m->st.st_blocks * 512 /
		    (S_ISDIR(m->st.st_mode) || m->st.st_nlink == 0 ? 1 : (uint64_t)m->st.st_nlink);
	wr_worker_progress(NULL, "scan", c->files, 0, c->bytes, 0);
	return 0;
}

static int
count_scratch(struct wr_worker *w, json_t *o, struct wr_err *err)
{
	struct counted c = {0};
	json_t *part;

	if (!wr_json_get_bool(w->request, "source", false))
		return 0;
	if (wr_walk(WR_WORKER_SOURCE, 0, count_one, &c, NULL, err) < 0)
		return wr_err_wrap(err, "scratch");
	part = wr_json_object(o, "scratch");
	wr_json_u64(part, "files", c.files);
	wr_json_u64(part, "bytes", c.bytes);
	return 0;
}

json_t *
wr_work_usage(struct wr_worker *w, struct wr_err *err)
{
	const bool now = wr_json_get_bool(w->args, "now", false);
	struct wr_usage u = {0};
	struct wr_repo *r = NULL;
	json_t *o = NULL, *part;
	uint64_t packs;

	if (wr_repo_open(WR_WORKER_REPO_PATH, &r, err) < 0)
		return NULL;
	wr_usage_load(r, w->tree_path, &u);
	if (now && look_now(w, r, &u, err) < 0)
		goto out;
	packs = now ? u.packs : wr_worker_packs(r);
	o = json_object();
	wr_json_time_or_null(o, "at", u.at);
	wr_json_bool(o, "exact", now);
	part = wr_json_object(o, "live");
	wr_json_u64(part, "files", u.files);
	wr_json_u64(part, "bytes", u.bytes);
	part = wr_json_object(o, "not_protected");
	wr_json_u64(part, "count", u.left_out_files);
	wr_json_u64(part, "bytes", u.left_out_bytes);
	part = wr_json_object(o, "history");
	wr_json_u64(part, "bytes", history_bytes(&u, packs, now));
	wr_json_bool(part, "exact", now);
	wr_json_time_or_null(part, "measured", u.measured);
	wr_json_u64(part, "packs", packs);
	tell_folders(o, &u);
	if (count_scratch(w, o, err) < 0)
		wr_json_freep(&o);
out:
	wr_usage_fini(&u);
	wr_repo_close(r);
	return o;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/snap/save.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/str.h"
#include "engine/repo/resolve.h"
#include "engine/snap/latest.h"
#include "engine/snap/save_walk.h"
#include "engine/snap/whoami.h"
#include "sys/clock.h"
#include "sys/crash.h"
#include "sys/fs.h"

/* Each thread holds a block of a file and its compressed chunks; the budget is 128 MiB. */
#define THREADS_MAX 8
#define DEFLATE_LEVEL 2
#define DEFAULT_BRANCH "main"
/* How far back a cache's snapshot is looked for on each branch. */
#define TRUST_DEPTH 1000
#define TRAILER_LINKS "Warren-Links"
/* LIMIT: the last second of the year 9999; bup cannot list much later ones. */
#define TIME_MAX INT64_C(253402300799)

struct save {
	struct wr_repo *repo;
	const struct wr_save_opts *o;
	struct wr_save_result *res;
	int root_fd;
	char *source; /* absolute */
	struct wr_pool *pool;
	struct wr_reader *reader;
	struct wr_sink *sink;
	struct wr_statcache *cache;
	bool use_cache;
	struct wr_id cache_tree;
	struct wr_scan *scan;
	struct wr_scan_opts scan_opts;
	char *ref; /* refs/heads/BRANCH */
	bool has_tip;
	struct wr_id tip;
	struct wr_commit tip_commit;
	struct wr_latest latest;
	struct wr_sums *sums;
	char *link_root;
	bool locked;    /* by us, here */
	bool same_tree; /* the scan found nothing changed */
};

void
wr_save_result_fini(struct wr_save_result *r)
{
	wr_notes_fini(&r->left_out);
	wr_notes_fini(&r->skipped);
}

static int
open_source(struct save *s, const char *path, struct wr_err *err)
{
	struct stat st;

	s->root_fd = s->o->root_fd >= 0
			 ? openat(s->o->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
			 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->root_fd < 0) {
		bool not_dir = errno == ENOTDIR;

		wr_err_sys(err, "open '%s'", WR_Q(path));
		if (not_dir) {
			wr_err_recode(err, WR_E_INVALID);
			wr_err_hint(err, "save takes a directory; its contents become the root of "
					 "the snapshot");
		}
		return -1;
	}
	s->source = s->o->root_fd >= 0 ? wr_strdup(path) : realpath(path, NULL);
	if (!s->source)
		return wr_err_sys(err, "find the full path of '%s'", WR_Q(path));
	if (fstat(wr_repo_fd(s->repo), &st) == 0) {
		s->scan_opts.skip_dev = st.st_dev;
		s->scan_opts.skip_ino = st.st_ino;
	}
	s->scan_opts.one_file_system = s->o->one_file_system;
	s->scan_opts.no_mounts = s->o->no_mounts;
	s->scan_opts.only_own_links = s->o->only_own_links;
	s->scan_opts.owner = s->o->owner;
	s->scan_opts.own_link = s->o->own_link;
	s->scan_opts.ignore = s->o->ignore;
	s->scan_opts.max_file_size =
	    s->o->max_file_size ? s->o->max_file_size : WR_MAX_FILE_SIZE_DEFAULT;
	return 0;
}

static void
scan_progress(void *ctx, uint64_t files, uint64_t bytes)
{
	struct save *s = ctx;

	s->o->progress(s->o->ctx, "scan", files, 0, bytes, 0);
}

static int
find_tip(struct save *s, struct wr_err *err)
{
	struct wr_err e = WR_ERR_INIT;
	WR_SCOPED(wr_freep) char *branch = NULL;

	if (s->o->branch)
		branch = wr_strdup(s->o->branch);
	else if (wr_default_branch(s->reader, &branch, &e) < 0)
		branch = wr_strdup(DEFAULT_BRANCH);
	if (wr_ref_name_check(branch, err) < 0)
		return -1;
	snprintf(s->res->branch, sizeof(s->res->branch), "%s", branch);
	s->ref = wr_asprintf("refs/heads/%s", branch);
	if (wr_ref_read(s->repo, s->ref, &s->tip, &e) < 0) {
		if (e.code == WR_E_NOT_FOUND)
			return 0;
		*err = e;
		return -1;
	}
	if (wr_repo_read_commit(s->reader, &s->tip, &s->tip_commit, err) < 0) {
		if (err->code == WR_E_NOT_FOUND)
			wr_err_recode(err, WR_E_CORRUPT); /* the branch says it is there */
		wr_err_wrap(err, "newest snapshot of branch '%s'", branch);
		return wr_err_hint(err, "run `warren repo verify` to see what is damaged");
	}
	s->has_tip = true;
	return 0;
}

static int
find_latest(struct save *s, struct wr_err *err)
{
	return wr_latest_find(s->repo, s->reader, s->res->branch, s->has_tip ? &s->tip : NULL,
			      &s->latest, err);
}

/* Is commit on a branch, within the newest snapshots? Then all that its tree holds is here. */
static bool
still_reachable(struct save *s, const struct wr_id *commit)
{
	struct wr_refs refs = {0};
	bool found = (s->has_tip && wr_id_eq(commit, &s->tip)) ||
		     (s->latest.there && wr_id_eq(commit, &s->latest.id));

	if (found || wr_refs_list(s->repo, "refs/heads/", &refs, NULL) < 0)
		return found;
	for (size_t i = 0; i < refs.count && !found; i++) {
		struct wr_id at = refs.ref[i].id;

		for (int depth = 0; depth < TRUST_DEPTH && !found; depth++) {
			struct wr_commit c = WR_COMMIT_INIT;

			found = wr_id_eq(&at, commit);
			if (found || wr_repo_read_commit(s->reader, &at, &c, NULL) < 0)
				break;
			if (!c.parent_count)
				depth = TRUST_DEPTH;
			else
				at = c.parent[0];
			wr_commit_fini(&c);
		}
	}
	wr_refs_fini(&refs);
	return found;
}

static int
open_cache(struct save *s, struct wr_err *err)
{
	struct wr_id commit;

	if (s->o->no_cache || s->o->fill)
		return 0;
	if (wr_statcache_open(s->repo, s->source, &s->cache, err) < 0) {
		if (!s->o->dry_run)
			return -1;
		wr_err_clear(err); /* a reader who may not write there goes without */
		return 0;
	}
	if (wr_statcache_root(s->cache, NULL, &s->cache_tree, &commit)) {
		s->use_cache = still_reachable(s, &commit);
		if (!s->use_cache)
			wr_statcache_reset(s->cache);
	}
	return 0;
}

/* Percent-encoding for a trailer line: paths may hold any byte. */
static void
percent_encode(struct wr_buf *out, const char *s)
{
	for (; *s; s++) {
		if ((unsigned char)*s <= 0x20 || (unsigned char)*s >= 0x7f || *s == '%')
			wr_buf_addf(out, "%%%02x", (unsigned char)*s);
		else
			wr_buf_add8(out, (uint8_t)*s);
	}
}

static char *
percent_decode(const char *s)
{
	struct wr_buf b = WR_BUF_INIT;

	while (*s) {
		unsigned v;
		int used = 0;

		if (*s == '%' && sscanf(s, "%%%2x%n", &v, &used) == 1 && used == 3 && v) {
			wr_buf_add8(&b, (uint8_t)v);
			s += 3;
		} else {
			wr_buf_add8(&b, (uint8_t)*s++);
		}
	}
	return wr_buf_detach(&b, NULL);
}

/*
 * What hard-link keys begin with.  The branch keeps the first one, so that a tree saved from
 * another place gets the same keys; `bup save --strip` names it in its arguments.
 */
static char *
find_link_root(const struct save *s)
{
	char *value = s->has_tip ? wr_commit_trailer(&s->tip_commit, TRAILER_LINKS) : NULL;
	const char *m = s->has_tip ? s->tip_commit.message : NULL, *last;

	if (value) {
		char *root = percent_decode(value);

		free(value);
		return root;
	}
	if (m && strstr(m, "['save'") && strstr(m, "'--strip'") && (last = strrchr(m, ']')) &&
	    last - m > 2 && last[-1] == '\'') {
		const char *end = last - 1, *p = end;

		while (p > m && p[-1] != '\'')
			p--;
		if (*p == '/' && end > p + 1) {
			char *root = wr_strdup(p);

			root[end - p] = '\0';
			return root;
		}
	}
	return wr_strdup(strcmp(s->source, "/") == 0 ? "" : s->source);
}

/* Write the commit, publish the packs, move the ref. */
static int
make_snapshot(struct save *s, struct wr_err *err)
{
	struct wr_save_result *res = s->res;
	const struct wr_id *parent = s->has_tip && !s->o->latest ? &s->tip : NULL;
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT, msg = WR_BUF_INIT;
	WR_SCOPED(wr_freep) char *ident = wr_whoami();
	WR_SCOPED(wr_freep) char *log = NULL;

	res->time = s->o->date >= 0 ? s->o->date : wr_clock_wall().s;
	/* Names follow from times, so times on a branch must differ. */
	if (s->has_tip && res->time <= s->tip_commit.author_time)
		res->time = WR_MIN(s->tip_commit.author_time, TIME_MAX) + 1;
	if (s->latest.valid && res->time <= s->latest.commit.author_time)
		res->time = WR_MIN(s->latest.commit.author_time, TIME_MAX) + 1;
	if (res->time > TIME_MAX) {
		wr_err_set(err, WR_E_INVALID, "a snapshot cannot be dated after the year 9999");
		return wr_err_hint(err, "if the newest snapshot of '%s' is, save to another branch",
				   res->branch);
	}
	wr_buf_addf(&msg, "%s\n\nWarren-Release: %s\nWarren-Tree: %s\nWarren-Source: ",
		    s->o->what ? s->o->what : "warren save", WR_VERSION, wr_id_hex(&res->tree).s);
	percent_encode(&msg, s->source);
	wr_buf_adds(&msg, "\n" TRAILER_LINKS ": ");
	percent_encode(&msg, s->link_root);
	wr_buf_adds(&msg, "\n");
	if (s->o->trailer)
		wr_buf_addf(&msg, "%s\n", s->o->trailer);
	if (s->o->latest)
		wr_latest_trailer(&msg, res->branch, s->has_tip ? &s->tip : NULL);
	wr_commit_format(&b, &res->tree, parent, ident, res->time, wr_buf_str(&msg));
	res->latest = s->o->latest;
	snprintf(res->name, sizeof(res->name), "%s", wr_fmt_snap_name(res->time).s);
	res->made = true;
	res->has_commit = true;
	if (wr_sink_put(s->sink, 0, WR_OBJ_COMMIT, b.p, b.len, &res->commit, err) < 0)
		return -1;
	if (s->o->dry_run)
		return 0;
	wr_crash_point("save.before-publish");
	if (wr_sink_commit(wr_steal(&s->sink), NULL, err) < 0)
		return wr_err_wrap(err, "publish the snapshot's objects");
	wr_crash_point("save.before-ref");
	if (s->o->latest)
		return wr_latest_put(s->repo, &s->latest, &res->commit, ident, err);
	log = wr_asprintf("save: %s", res->name);
	if (wr_ref_update(s->repo, s->ref, &res->commit, s->has_tip ? &s->tip : NULL, ident, log,
			  err) < 0)
		return wr_err_wrap(err, "move branch '%s'", res->branch);
	wr_crash_point("save.after-ref");
	return 0;
}

static void
take_totals(struct save *s, struct wr_walk_out *w)
{
	struct wr_save_result *res = s->res;
	const struct wr_notes *out;
	struct wr_sink_stats st;

	wr_scan_totals(s->scan, &res->files, &res->dirs, &res->bytes_total);
	out = wr_scan_left_out(s->scan, &res->left_out_files, &res->left_out_bytes);
	for (size_t i = 0; i < out->count; i++)
		wr_notes_add(&res->left_out, out->note[i].path, out->note[i].path_len,
			     out->note[i].reason, out->note[i].bytes);
	res->left_out.more = out->more;
	res->tree = w->tree;
	res->files_new = w->files_new;
	res->files_changed = w->files_changed;
	res->files_removed = w->files_removed;
	res->bytes_read = w->bytes_read;
	res->skipped = w->skipped;
	wr_sink_stats(s->sink, &st);
	res->objects_new = st.objects_new;
	res->bytes_new = st.raw_new;
	res->bytes_stored = st.bytes_new;
}

/* An unchanged tree takes what it took. */
static void
keep_sums(struct save *s)
{
	const char *source = s->o->sums_of ? s->o->sums_of : s->source;
	struct wr_usage u;
	bool changed;

	wr_usage_load(s->repo, source, &u);
	wr_usage_add(&u, s->sums, s->same_tree, &changed);
	changed |= u.left_out_files != s->res->left_out_files ||
		   u.left_out_bytes != s->res->left_out_bytes;
	u.at = s->res->scan_started.s;
	u.left_out_files = s->res->left_out_files;
	u.left_out_bytes = s->res->left_out_bytes;
	if (changed)
		wr_usage_store(s->repo, source, &u);
	wr_usage_fini(&u);
}

static int
publish(struct save *s, uint64_t block, struct wr_err *err)
{
	struct wr_save_result *res = s->res;
	bool as_tip = s->has_tip && wr_id_eq(&res->tree, &s->tip_commit.tree);
	bool as_latest =
	    s->o->latest && s->latest.valid && wr_id_eq(&res->tree, &s->latest.commit.tree);

	if (s->o->fill)
		return s->o->dry_run ? 0 : wr_sink_commit(wr_steal(&s->sink), NULL, err);
	if (as_latest) {
		res->commit = s->latest.id;
		res->has_commit = res->latest = true;
		res->time = s->latest.commit.author_time;
		snprintf(res->name, sizeof(res->name), "%s", wr_fmt_snap_name(res->time).s);
	} else if (as_tip && !s->o->force) {
		res->commit = s->tip;
		res->has_commit = true;
		res->time = s->tip_commit.author_time;
		snprintf(res->name, sizeof(res->name), "%s", wr_fmt_snap_name(res->time).s);
	} else if (make_snapshot(s, err) < 0) {
		return -1;
	}
	/* The branch says it all by now. */
	if ((s->latest.valid || s->latest.past) && !res->latest && !s->o->dry_run &&
	    wr_latest_drop(s->repo, &s->latest, err) < 0)
		return -1;
	if (s->cache && block && !s->o->dry_run) {
		uint64_t old;
		struct wr_id commit;

		/* Nothing to write when it says the same already. */
		if (!wr_statcache_root(s->cache, &old, NULL, &commit) || old != block ||
		    !wr_id_eq(&commit, &res->commit))
			wr_statcache_commit(s->cache, block, &res->tree, &res->commit);
	}
	if (s->sums)
		keep_sums(s);
	if (res->made && !s->o->dry_run) {
		struct wr_err ignored = WR_ERR_INIT;

		/* A cache of the indexes; the next save tries again. */
		(void)wr_repo_index_maintain(s->repo, &ignored);
	}
	return 0;
}

static int
run(struct save *s, struct wr_err *err)
{
	struct wr_walk_out w = {0};
	struct wr_sink_opts so = {.level = DEFLATE_LEVEL,
				  .dry_run = s->o->dry_run,
				  .damaged = s->o->damaged,
				  .only_damaged = s->o->fill,
				  .ctx = s->o->damaged_ctx};
	struct wr_walk_in in = {.repo = s->repo,
				.o = s->o,
				.pool = s->pool,
				.scan_opts = &s->scan_opts,
				.root_fd = s->root_fd};
	const struct wr_id *carry = s->has_tip ? &s->tip_commit.tree : NULL;
	uint64_t root;

	if (s->o->latest && s->latest.valid)
		carry = &s->latest.commit.tree;
	if (s->use_cache && s->o->carry_from_cache)
		carry = &s->cache_tree;
	s->link_root = find_link_root(s);
	s->scan_opts.sums = s->sums;
	if (s->o->progress) {
		s->scan_opts.progress = scan_progress;
		s->scan_opts.ctx = s;
	}
	if (wr_scan_run(s->root_fd, s->pool, &s->scan_opts, s->use_cache ? s->cache : NULL,
			s->link_root, &s->scan, err) < 0)
		return -1;
	so.threads = wr_pool_threads(s->pool);
	s->sink = wr_sink_open(s->repo, &so, err);
	if (!s->sink)
		return -1;
	if (s->use_cache && wr_statcache_root(s->cache, &root, NULL, NULL) &&
	    wr_scan_clean(s->scan, root) && carry && wr_id_eq(carry, &s->cache_tree)) {
		w.tree = s->cache_tree;
		w.block = root;
		s->same_tree = true;
	} else {
		in.sink = s->sink;
		in.scan = s->scan;
		in.cache = s->cache;
		in.use_cache = s->use_cache;
		in.carry = carry;
		in.link_root = s->link_root;
		in.sums = s->sums;
		if (wr_save_walk(&in, &w, err) < 0)
			return -1;
	}
	take_totals(s, &w);
	return publish(s, w.block, err);
}

int
wr_save(struct wr_repo *r, const char *path, const struct wr_save_opts *o,
	struct wr_save_result *out, struct wr_err *err)
{
	struct wr_save_result res = {.scan_started = wr_clock_wall()};
	struct save s = {.repo = r, .o = o, .res = &res, .root_fd = -1};
	uint64_t start = wr_clock_mono_ns();
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned threads = o->threads ? o->threads : (unsigned)WR_MAX(cpus, 1);
	int rc = -1;

	if (!o->dry_run && !o->fill)
		s.sums = wr_sums_new();
	wr_raise_fd_limit();
	s.pool = wr_pool_new(WR_MIN(threads, (unsigned)THREADS_MAX));
	s.reader = wr_reader_new(r);
	if (open_source(&s, path, err) < 0)
		goto out;
	if (!o->dry_run && !wr_repo_locked(r)) {
		if (wr_repo_lock(r, "save", o->wait_s, err) < 0)
			goto out;
		s.locked = true;
	}
	if (find_tip(&s, err) < 0 || find_latest(&s, err) < 0 || open_cache(&s, err) < 0 ||
	    run(&s, err) < 0)
		goto out;
	res.seconds = (double)(wr_clock_mono_ns() - start) / 1e9;
	rc = 0;
out:
	wr_sink_abort(s.sink);
	if (s.locked)
		wr_repo_unlock(r);
	wr_scan_free(s.scan);
	wr_sums_free(s.sums);
	wr_statcache_close(s.cache);
	wr_reader_free(s.reader);
	wr_pool_free(s.pool);
	wr_commit_fini(&s.tip_commit);
	wr_latest_fini(&s.latest);
	wr_closep(&s.root_fd);
	free(s.source);
	free(s.ref);
	free(s.link_root);
	if (rc == 0)
		*out = res;
	else
		wr_save_result_fini(&res);
	return rc;
}

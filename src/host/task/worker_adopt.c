/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A repository made elsewhere becomes a project's own: its objects are copied, its branches and
 * tags set, everything is verified.  Configuration, hooks and caches are made anew: they are
 * instructions of another host.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/repo/verify.h"
#include "engine/snap/whoami.h"
#include "host/task/worker_int.h"
#include "sys/fs.h"

#define COPY_BYTES (1u << 20)
#define LOCK_WAIT_S 30

struct adopting {
	struct wr_repo *from, *to;
	uint64_t files, bytes;
	uint8_t *block;
};

/* ---- objects ---- */

static int
copy_file(struct adopting *a, int from_dir, int to_dir, const char *name, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int from = -1;
	WR_SCOPED(wr_closep) int to = -1;
	struct stat st;

	from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (from < 0 || fstat(from, &st) < 0)
		return wr_err_sys(err, "open '%s'", WR_Q(name));
	if (!S_ISREG(st.st_mode))
		return wr_err_set(err, WR_E_CORRUPT, "'%s' is not a file", WR_Q(name));
	to = openat(to_dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0444);
	if (to < 0)
		return wr_err_sys(err, "create '%s'", WR_Q(name));
	for (;;) {
		ssize_t n = wr_read_full(from, a->block, COPY_BYTES);

		if (n < 0)
			return wr_err_sys(err, "read '%s'", WR_Q(name));
		if (n == 0)
			break;
		if (wr_write_all(to, a->block, (size_t)n) < 0)
			return wr_err_sys(err, "write '%s'", WR_Q(name));
		a->bytes += (uint64_t)n;
		wr_worker_progress(NULL, "import", a->files, 0, a->bytes, 0);
	}
	a->files++;
	return 0;
}

static bool
has_suffix(const char *s, const char *suffix)
{
	size_t n = strlen(s), k = strlen(suffix);

	return n > k && !strcmp(s + n - k, suffix);
}

static bool
is_hex(const char *s, size_t len)
{
	return strlen(s) == len && strspn(s, "0123456789abcdef") == len;
}

/* Packs (with their indexes), or the loose objects of one of the 256 directories. */
static int
copy_dir(struct adopting *a, const char *dir, bool packs, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int to = -1;
	int from = wr_open_dir(wr_repo_objects_fd(a->from), dir);
	struct dirent *e;
	int rc = 0;
	DIR *d;

	if (from < 0)
		return wr_err_sys(err, "open 'objects/%s'", dir);
	d = fdopendir(from);
	if (!d) {
		close(from);
		return wr_err_sys(err, "read 'objects/%s'", dir);
	}
	if (mkdirat(wr_repo_objects_fd(a->to), dir, 0755) < 0 && errno != EEXIST)
		rc = wr_err_sys(err, "make directory 'objects/%s'", dir);
	to = rc < 0 ? -1 : wr_open_dir(wr_repo_objects_fd(a->to), dir);
	if (rc == 0 && to < 0)
		rc = wr_err_sys(err, "open 'objects/%s'", dir);
	errno = 0;
	while (rc == 0 && (e = readdir(d))) {
		bool wanted =
		    packs ? !strncmp(e->d_name, "pack-", 5) &&
				(has_suffix(e->d_name, ".pack") || has_suffix(e->d_name, ".idx"))
			  : is_hex(e->d_name, 38);

		if (wanted)
			rc = copy_file(a, from, to, e->d_name, err);
		errno = 0;
	}
	if (rc == 0 && errno)
		rc = wr_err_sys(err, "read 'objects/%s'", dir);
	closedir(d);
	return rc < 0 ? wr_err_wrap(err, "objects/%s", dir) : 0;
}

static int
copy_objects(struct adopting *a, struct wr_err *err)
{
	int fd = openat(wr_repo_objects_fd(a->from), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	struct stat st;
	int rc = 0;

	if (!d)
		return wr_err_sys(err, "read 'objects'");
	if (fstatat(fd, "info/alternates", &st, 0) == 0) {
		rc = wr_err_set(
		    err, WR_E_UNSUPPORTED,
		    "it borrows objects from another repository (objects/info/alternates)");
		wr_err_hint(err, "git repack -a -d there makes it whole; then adopt it again");
	}
	if (rc == 0)
		rc = copy_dir(a, "pack", true, err);
	while (rc == 0 && (e = readdir(d)))
		if (is_hex(e->d_name, 2))
			rc = copy_dir(a, e->d_name, false, err);
	closedir(d);
	/* DURABLE: objects before the refs that lead to them. */
	if (rc == 0 && syncfs(wr_repo_fd(a->to)) < 0)
		rc = wr_err_sys(err, "sync the repository");
	return rc;
}

/* ---- refs ---- */

static int
copy_refs(struct adopting *a, const char *prefix, uint64_t *count, struct wr_err *err)
{
	WR_SCOPED(wr_refs_fini) struct wr_refs refs = {0};
	WR_SCOPED(wr_freep) char *ident = wr_whoami();

	if (wr_refs_list(a->from, prefix, &refs, err) < 0)
		return -1;
	for (size_t i = 0; i < refs.count; i++)
		if (wr_ref_update(a->to, refs.ref[i].name, &refs.ref[i].id, NULL, ident, "adopt",
				  err) < 0)
			return wr_err_wrap(err, "set '%s'", WR_Q(refs.ref[i].name));
	*count += refs.count;
	return 0;
}

/* Saves go on with the branch that was saved to before. */
static int
copy_head(struct adopting *a, struct wr_err *err)
{
	static const char heads[] = "ref: refs/heads/";
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	WR_SCOPED(wr_freep) char *ref = NULL;
	struct wr_id id;
	char *name;

	if (wr_read_file(wr_repo_fd(a->from), "HEAD", 1024, &b, NULL) < 0 ||
	    strncmp(wr_buf_str(&b), heads, sizeof(heads) - 1) != 0)
		return 0;
	name = wr_buf_str(&b) + sizeof(heads) - 1;
	name[strcspn(name, "\n")] = '\0';
	ref = wr_asprintf("refs/heads/%s", name);
	if (wr_ref_name_check(name, NULL) < 0 || wr_ref_read(a->to, ref, &id, NULL) < 0)
		return 0; /* without one the default branch is found by other rules */
	wr_buf_clear(&b);
	wr_buf_addf(&b, "ref: %s\n", ref);
	return wr_replace_file(wr_repo_fd(a->to), "HEAD", b.p, b.len, 0644, err);
}

/* ---- the task ---- */

static int
on_verify(void *ctx, uint64_t done)
{
	const struct wr_verify_opts *vo = ctx;

	wr_worker_progress(NULL, "verify", 0, 0, done, vo->total_bytes);
	return 0;
}

static int
verify(struct adopting *a, json_t *o, struct wr_err *err)
{
	struct wr_verify_opts vo = {.data = true, .progress = on_verify};
	struct wr_verify_result v = {0};
	int rc = 0;

	vo.ctx = &vo;
	if (wr_verify(a->to, &vo, &v, err) < 0)
		return wr_err_wrap(err, "verify what was copied");
	if (!wr_verify_whole(&v)) {
		rc = wr_err_set(err, WR_E_CORRUPT,
				"the repository is damaged: %zu objects or files, %zu paths of "
				"snapshots",
				v.damage_count, v.hurt_count);
		wr_err_hint(err, "`warren repo verify --data` there lists what is damaged");
	}
	wr_json_u64(o, "objects", v.objects);
	wr_json_u64(o, "snapshots", v.snapshots);
	wr_verify_result_fini(&v);
	return rc;
}

static int
adopt(struct adopting *a, json_t *o, struct wr_err *err)
{
	const struct wr_repo_config *c = wr_repo_config(a->from);
	uint64_t refs = 0;
	bool existed;

	if (c->split_trees)
		return wr_err_set(err, WR_E_UNSUPPORTED,
				  "it was made with bup.split.trees, which Warren can only read");
	if (wr_repo_init(WR_WORKER_REPO_PATH, c->split_bits, &existed, err) < 0 ||
	    wr_repo_open(WR_WORKER_REPO_PATH, &a->to, err) < 0 ||
	    wr_repo_lock(a->to, "adopt", LOCK_WAIT_S, err) < 0)
		return -1;
	if (copy_objects(a, err) < 0 || wr_repo_refresh(a->to, err) < 0 ||
	    copy_refs(a, "refs/heads/", &refs, err) < 0 ||
	    copy_refs(a, "refs/tags/", &refs, err) < 0 || copy_head(a, err) < 0 ||
	    verify(a, o, err) < 0)
		return -1;
	wr_json_u64(o, "refs", refs);
	wr_json_u64(o, "bytes", a->bytes);
	return 0;
}

json_t *
wr_work_adopt(struct wr_worker *w, struct wr_err *err)
{
	struct adopting a = {0};
	WR_SCOPED(wr_json_freep) json_t *o = json_object();
	int rc = wr_repo_open(WR_WORKER_SOURCE_PATH, &a.from, err);

	(void)w;
	if (rc == 0) {
		a.block = wr_malloc(COPY_BYTES);
		rc = adopt(&a, o, err);
	}
	free(a.block);
	wr_repo_close(a.to);
	wr_repo_close(a.from);
	return rc < 0 ? NULL : wr_steal(&o);
}

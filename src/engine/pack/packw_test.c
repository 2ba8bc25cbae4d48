/* SPDX-License-Identifier: Apache-2.0 */
/* git is the judge of the packs we write; a child that is killed shows what a crash leaves. */
#include "engine/pack/pack.h"
#include "engine/pack/test_pack.h"

#include <signal.h>
#include <sys/resource.h>

static int objects_fd = -1;
static struct wr_id tip; /* commit of what write_some wrote */

static void
fresh_repo(void)
{
	char path[600];

	assert_int_equal(run(NULL, "rm -rf repo && git init -q --bare repo"), 0);
	snprintf(path, sizeof(path), "%s/repo/objects", test_dir);
	wr_closep(&objects_fd);
	objects_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(objects_fd >= 0);
}

static int
add(struct wr_packw *w, enum wr_obj_type type, const void *p, size_t len, struct wr_id *out,
    struct wr_err *err)
{
	struct wr_deflater *d = wr_deflater_new(1);
	struct wr_buf z = WR_BUF_INIT;
	int rc;

	*out = wr_obj_id(type, p, len);
	wr_deflate(d, p, len, &z);
	rc = wr_packw_add(w, type, out, len, z.p, z.len, err);
	wr_buf_fini(&z);
	wr_deflater_free(d);
	return rc;
}

/* `count` blobs of growing size, a tree over them, a commit. */
static int
write_some(struct wr_packw *w, unsigned count, size_t step, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf tree = WR_BUF_INIT, commit = WR_BUF_INIT;
	WR_SCOPED(wr_freep) uint8_t *p = wr_malloc(count * step + 1);
	struct wr_id id;
	uint64_t seed = 21;

	for (unsigned i = 0; i < count; i++) {
		size_t len = i * step;

		(i % 2 ? random_text : random_bytes)(&seed, p, len);
		if (add(w, WR_OBJ_BLOB, p, len, &id, err) < 0)
			return -1;
		wr_buf_addf(&tree, "100644 f%06u", i);
		wr_buf_add8(&tree, 0);
		wr_buf_add(&tree, id.b, WR_ID_LEN);
	}
	if (add(w, WR_OBJ_TREE, tree.p, tree.len, &id, err) < 0)
		return -1;
	wr_buf_addf(&commit, "tree %s\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nm\n",
		    wr_id_hex(&id).s);
	return add(w, WR_OBJ_COMMIT, commit.p, commit.len, &tip, err);
}

static struct wr_packw *
start(void)
{
	struct wr_err err = WR_ERR_INIT;
	struct wr_packw *w = wr_packw_open(objects_fd, &err);

	if (!w)
		fail_msg("%s", err.msg);
	return w;
}

static int
leftovers(void)
{
	struct wr_buf out = WR_BUF_INIT;
	int n;

	assert_int_equal(run(&out, "ls repo/objects | grep -c pack-tmp || true"), 0);
	n = (int)strtol(wr_buf_str(&out), NULL, 10);
	wr_buf_fini(&out);
	return n;
}

static void
test_packw__git_takes_it(WR_UNUSED void **state)
{
	/* Few; many small; some larger than the writer's buffer, and writeback on the way. */
	static const struct {
		unsigned count;
		size_t step;
	} c[] = {{1, 1}, {300, 5}, {12, 400000}};

	for (size_t i = 0; i < WR_ARRAY_LEN(c); i++) {
		WR_SCOPED(wr_freep) char *name = NULL;
		struct wr_err err = WR_ERR_INIT;
		struct wr_packw *w;
		struct wr_buf a, b;
		char path[200];

		fresh_repo();
		w = start();
		assert_int_equal(wr_packw_bytes(w), 12);
		if (write_some(w, c[i].count, c[i].step, &err) < 0)
			fail_msg("%s", err.msg);
		assert_int_equal(wr_packw_count(w), c[i].count + 2);
		if (wr_packw_commit(w, &name, &err) < 0)
			fail_msg("%s", err.msg);
		assert_int_equal(leftovers(), 0);
		assert_int_equal(run(NULL,
				     "git update-ref refs/heads/main %s && "
				     "test $(git rev-list --objects main | wc -l) = %u && "
				     "git fsck --full --strict 2>&1 && "
				     "git verify-pack repo/objects/pack/%s.idx",
				     wr_id_hex(&tip).s, c[i].count + 2, name),
				 0);
		assert_int_equal(run(NULL,
				     "test $(stat -c %%a repo/objects/pack/%s.pack) = 444 && "
				     "git index-pack -o again.idx repo/objects/pack/%s.pack",
				     name, name),
				 0);
		snprintf(path, sizeof(path), "repo/objects/pack/%s.idx", name);
		a = read_whole(path);
		b = read_whole("again.idx");
		assert_int_equal(a.len, b.len);
		assert_memory_equal(a.p, b.p, a.len);
		wr_buf_fini(&a);
		wr_buf_fini(&b);
		assert_int_equal(run(NULL, "rm -f again.idx"), 0);
	}
}

static void
test_packw__empty_publishes_nothing(WR_UNUSED void **state)
{
	struct wr_err err = WR_ERR_INIT;
	char *name = test_dir;

	fresh_repo();
	assert_int_equal(wr_packw_commit(start(), &name, &err), 0);
	assert_null(name);
	assert_int_equal(leftovers(), 0);
	assert_int_equal(run(NULL, "test -z \"$(ls repo/objects/pack)\""), 0);
}

static void
test_packw_abort__leaves_nothing(WR_UNUSED void **state)
{
	struct wr_err err = WR_ERR_INIT;
	struct wr_packw *w;

	fresh_repo();
	w = start();
	assert_int_equal(write_some(w, 5, 1000000, &err), 0);
	assert_int_equal(leftovers(), 1);
	wr_packw_abort(w);
	wr_packw_abort(NULL);
	assert_int_equal(leftovers(), 0);
	assert_int_equal(run(NULL, "test -z \"$(ls repo/objects/pack)\""), 0);
}

/* The same objects again make the same pack; a copy that has rotted is healed by it. */
static void
test_packw__same_pack_again(WR_UNUSED void **state)
{
	struct wr_err err = WR_ERR_INIT;
	char *first = NULL, *second = NULL;
	struct wr_packw *w;

	fresh_repo();
	w = start();
	assert_int_equal(write_some(w, 20, 100, &err), 0);
	assert_int_equal(wr_packw_commit(w, &first, &err), 0);
	assert_int_equal(run(NULL,
			     "cd repo/objects/pack && chmod u+w * && "
			     "echo rotten | dd of=%s.pack bs=1 seek=500 conv=notrunc 2>&1 && "
			     "! git verify-pack %s.idx 2>&1 && rm %s.idx",
			     first, first, first),
			 0);
	w = start();
	assert_int_equal(write_some(w, 20, 100, &err), 0);
	assert_int_equal(wr_packw_commit(w, &second, &err), 0);
	assert_string_equal(first, second);
	assert_int_equal(run(NULL, "cd repo/objects/pack && git verify-pack %s.idx", first), 0);
	free(first);
	free(second);
}

static void
test_packw_clean__only_ours(WR_UNUSED void **state)
{
	struct wr_err err = WR_ERR_INIT;

	fresh_repo();
	assert_int_equal(run(NULL, "cd repo/objects && mkdir -p pack-tmp-warren-abc/x "
				   "pack-tmp-12345678 && touch pack-tmp-warren-abc/pack "
				   "pack-tmp-warren-file pack-tmp-12345678/pack"),
			 0);
	assert_int_equal(wr_packw_clean(objects_fd, &err), 0);
	assert_int_equal(run(NULL, "cd repo/objects && test \"$(ls -d pack*)\" = \"pack\n"
				   "pack-tmp-12345678\""),
			 0);
}

static void
test_packw__killed_anywhere(WR_UNUSED void **state)
{
	static const struct {
		const char *point;
		unsigned packs, idx; /* what may be seen afterwards */
	} c[] = {{"pack.written", 0, 0},
		 {"pack.synced", 0, 0},
		 {"pack.renamed", 1, 0},
		 {"idx.renamed", 1, 1}};

	for (size_t i = 0; i < WR_ARRAY_LEN(c); i++) {
		struct wr_err err = WR_ERR_INIT;
		int st;
		pid_t pid;

		fresh_repo();
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			struct wr_packw *w;
			char *name;

			setenv("WARREN_CRASH", c[i].point, 1);
			w = wr_packw_open(objects_fd, &err);
			if (!w || write_some(w, 30, 100, &err) < 0)
				_exit(3);
			_exit(wr_packw_commit(w, &name, &err) < 0 ? 4 : 0);
		}
		assert_int_equal(waitpid(pid, &st, 0), pid);
		assert_true(WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL);
		assert_int_equal(run(NULL,
				     "cd repo/objects/pack && "
				     "test $(ls | grep -c 'pack$') = %u && "
				     "test $(ls | grep -c 'idx$') = %u",
				     c[i].packs, c[i].idx),
				 0);
		assert_int_equal(leftovers(), 1);
		assert_int_equal(wr_packw_clean(objects_fd, &err), 0);
		assert_int_equal(leftovers(), 0);
		/* What can be seen is whole. */
		assert_int_equal(run(NULL, "cd repo/objects/pack && for p in *.pack; do "
					   "test ! -e $p || git index-pack -o ../x.idx $p; done"),
				 0);
	}
}

/* Writing fails at some byte: an error, nothing published, nothing left. */
static void
test_packw__no_room(WR_UNUSED void **state)
{
	static const rlim_t room[] = {0, 500000, 1 << 20, 3000000};
	struct rlimit before, now;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	for (size_t i = 0; i < WR_ARRAY_LEN(room); i++) {
		struct wr_err err = WR_ERR_INIT;
		char *name = test_dir;
		struct wr_packw *w;
		int rc;

		fresh_repo();
		now = before;
		now.rlim_cur = room[i];
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &now), 0);
		w = start();
		rc = write_some(w, 6, 1000000, &err);
		if (rc == 0)
			rc = wr_packw_commit(w, &name, &err);
		else
			wr_packw_abort(w);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
		assert_int_equal(rc, -1);
		assert_int_equal(err.sys_errno, EFBIG);
		assert_ptr_equal(name, test_dir);
		assert_int_equal(leftovers(), 0);
		assert_int_equal(run(NULL, "test -z \"$(ls repo/objects/pack)\""), 0);
	}
}

static void
test_packw_open__no_directory(WR_UNUSED void **state)
{
	struct wr_err err = WR_ERR_INIT;

	fresh_repo();
	assert_int_equal(run(NULL, "rm -rf repo"), 0);
	assert_null(wr_packw_open(objects_fd, &err));
	assert_int_equal(err.code, WR_E_NOT_FOUND);
}

static int
teardown(void **state)
{
	wr_closep(&objects_fd);
	return teardown_pack(state);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    /* First: crash points look at the environment once per process. */
	    cmocka_unit_test(test_packw__killed_anywhere),
	    cmocka_unit_test(test_packw__git_takes_it),
	    cmocka_unit_test(test_packw__empty_publishes_nothing),
	    cmocka_unit_test(test_packw_abort__leaves_nothing),
	    cmocka_unit_test(test_packw__same_pack_again),
	    cmocka_unit_test(test_packw_clean__only_ours),
	    cmocka_unit_test(test_packw__no_room),
	    cmocka_unit_test(test_packw_open__no_directory),
	};

	return cmocka_run_group_tests(tests, setup_dir, teardown);
}

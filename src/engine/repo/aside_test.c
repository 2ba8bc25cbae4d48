/* SPDX-License-Identifier: Apache-2.0 */
/* Damaged packs out of the way: nothing that is needed goes with them, killed anywhere. */
#include "engine/repo/test_repo.h"

#include "engine/repo/repo_int.h"
#include "engine/repo/verify.h"

static char self[4096];

/* "repo" with two packs that hold the same, by git; one of them damaged in one object, which the
 * other has, and the other lacks one that the damaged one has. Its name in "bad", what refs reach
 * in "all". */
static void
two_packs(void)
{
	must_run(
	    "rm -rf repo w && git init -q --bare repo && mkdir w && "
	    "G='git --git-dir=repo --work-tree=w -c user.name=T -c user.email=t@t' && "
	    "for i in 1 2 3; do seq $i 200 >w/f$i; $G add -A && $G commit -qm c; done && "
	    "git --git-dir=repo rev-list --objects --all | cut -c1-40 | sort -u >all && "
	    "git --git-dir=repo pack-objects -q --window=0 repo/objects/pack/pack <all >bad && "
	    "lost=$(git --git-dir=repo rev-parse HEAD:f1) && "
	    "grep -v $(git --git-dir=repo rev-parse HEAD:f2) all | "
	    "git --git-dir=repo pack-objects -q --window=0 repo/objects/pack/pack >good && "
	    "git --git-dir=repo prune-packed -q && p=repo/objects/pack/pack-$(cat bad).pack && "
	    "at=$(git --git-dir=repo show-index <${p%.pack}.idx | grep $lost | cut -d' ' -f1) && "
	    "chmod u+w $p && printf '\\377\\377\\377' | "
	    "dd of=$p bs=1 seek=$((at + 3)) conv=notrunc 2>/dev/null && "
	    "! git --git-dir=repo fsck --full 2>/dev/null");
}

static void
needed_of(struct wr_idmap *out)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	assert_int_equal(run(&b, "cat all"), 0);
	for (const char *s = wr_buf_str(&b); *s; s = strchr(s, '\n') + 1) {
		struct wr_id id;
		bool fresh;

		assert_true(wr_id_parse(s, &id));
		(void)wr_idmap_put(out, &id, &fresh);
	}
	assert_true(out->count >= 9);
}

/* 0 and how many went aside, or -1 with err. */
static int
set_aside(const char *repo, size_t *out_moved)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_idmap needed = WR_IDMAP_INIT;
	struct wr_repo *r;
	const char *name;
	int rc;

	assert_int_equal(run(&b, "printf pack-; cat bad"), 0);
	*strchr(wr_buf_str(&b), '\n') = '\0';
	name = wr_buf_str(&b);
	needed_of(&needed);
	assert_ok(wr_repo_open(repo, &r, &err));
	assert_ok(wr_repo_lock(r, "test", 0, &err));
	err = (struct wr_err)WR_ERR_INIT;
	rc = wr_repo_set_aside(r, &name, 1, &needed, 1800000000, out_moved, &err);
	wr_idmap_fini(&needed);
	wr_repo_close(r);
	return rc;
}

static void
assert_aside(void)
{
	must_run("git fsck --full --strict && ls repo/warren/aside/1800000000-pack-$(cat bad).pack "
		 "repo/warren/aside/1800000000-pack-$(cat bad).idx && "
		 "test ! -e repo/objects/pack/pack-$(cat bad).pack && "
		 "test ! -e repo/objects/pack/pack-$(cat bad).idx");
}

static void
test_aside__what_it_alone_has_is_stored_again(WR_UNUSED void **state)
{
	struct wr_repo *r;
	size_t moved;

	two_packs();
	assert_ok(set_aside(path_of("repo").s, &moved));
	assert_int_equal(moved, 1);
	assert_aside();
	/* Until its time. */
	r = open_repo();
	assert_ok(wr_repo_drop_aside(r, 1800000100, 100, &err));
	assert_ok(wr_repo_drop_aside(r, 1900000000, -1, &err));
	assert_aside();
	assert_ok(wr_repo_drop_aside(r, 1800000101, 100, &err));
	must_run("test -z \"$(ls repo/warren/aside)\"");
	wr_repo_close(r);
}

static void
test_aside__stays_while_something_is_lost(WR_UNUSED void **state)
{
	size_t moved;

	two_packs();
	must_run("rm -f repo/objects/pack/pack-$(cat good).*");
	assert_fails(set_aside(path_of("repo").s, &moved), WR_E_CORRUPT);
	must_run(
	    "ls repo/objects/pack/pack-$(cat bad).pack repo/objects/pack/pack-$(cat bad).idx && "
	    "test ! -e repo/warren/aside");
}

static void
test_aside__killed_anywhere(WR_UNUSED void **state)
{
	static const char *const points[] = {"pack.renamed", "aside.stored", "aside.pack",
					     "aside.moved"};

	for (size_t i = 0; i < WR_ARRAY_LEN(points); i++) {
		struct wr_verify_opts o = {.data = true, .threads = 1};
		struct wr_verify_result v;
		struct wr_repo *r;
		size_t moved;

		two_packs();
		assert_int_equal(run(NULL, "WARREN_CRASH=%s ASIDE_TEST_VICTIM='%s' '%s'", points[i],
				     path_of("repo").s, self),
				 128 + 9);
		r = open_repo();
		assert_ok(wr_verify(r, &o, &v, &err));
		assert_true(wr_verify_whole(&v));
		wr_verify_result_fini(&v);
		wr_repo_close(r);
		assert_ok(set_aside(path_of("repo").s, &moved));
		assert_aside();
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_aside__what_it_alone_has_is_stored_again),
	    cmocka_unit_test(test_aside__stays_while_something_is_lost),
	    cmocka_unit_test(test_aside__killed_anywhere),
	};
	const char *repo = getenv("ASIDE_TEST_VICTIM");
	size_t moved;

	if (repo)
		return set_aside(repo, &moved) < 0;
	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	return cmocka_run_group_tests(tests, setup_dir, teardown_dir);
}

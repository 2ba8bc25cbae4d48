/* SPDX-License-Identifier: Apache-2.0 */
/* Refs against git: what it wrote, what it makes of ours, hostile content, crashes, locks. */
#include "engine/repo/test_repo.h"

#include "engine/repo/repo_int.h"
#include "sys/clock.h"

#define IDENT "T <t@t>"

static char self[1024]; /* this program */

static void
test_name__as_git_judges(WR_UNUSED void **state)
{
	static const char *const names[] = {
	    "refs/heads/main",     "refs/heads/a/b",  "refs/heads/.a",
	    "refs/heads/a.lock",   "refs/heads/a..b", "refs/heads/a b",
	    "refs/heads/a~b",      "refs/heads/a^b",  "refs/heads/a:b",
	    "refs/heads/a?b",      "refs/heads/a*b",  "refs/heads/a[b",
	    "refs/heads/a@{b",     "refs/heads/@",    "refs/heads/a.",
	    "refs/heads/a/",       "refs/heads//a",   "refs/heads/a.lock/b",
	    "refs/heads/\xc3\xa4", "refs/heads/a\\b", "refs/heads/-a",
	    "refs/heads/a.b",      "refs/",           "refs/warren/latest",
	};

	must_run("git init -q --bare repo");
	for (size_t i = 0; i < WR_ARRAY_LEN(names); i++)
		assert_int_equal(wr_ref_full_ok(names[i], strlen(names[i])),
				 run(NULL, "git check-ref-format '%s'", names[i]) == 0);
	assert_true(wr_ref_full_ok("HEAD", 4));
	assert_false(wr_ref_full_ok("heads/main", 10));
	assert_false(wr_ref_full_ok("/etc/passwd", 11));
}

/* Our list is git's list. */
static void
assert_same_list(struct wr_repo *r)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf git = WR_BUF_INIT, ours = WR_BUF_INIT;
	WR_SCOPED(wr_refs_fini) struct wr_refs refs = {0};

	assert_ok(wr_refs_list(r, "refs/", &refs, &err));
	for (size_t i = 0; i < refs.count; i++) {
		struct wr_id id;

		wr_buf_addf(&ours, "%s %s\n", wr_id_hex(&refs.ref[i].id).s, refs.ref[i].name);
		assert_ok(wr_ref_read(r, refs.ref[i].name, &id, &err));
		assert_id_equal(&id, &refs.ref[i].id);
	}
	assert_int_equal(run(&git, "git for-each-ref --format='%%(objectname) %%(refname)'"), 0);
	assert_string_equal(wr_buf_str(&ours), wr_buf_str(&git));
}

static void
test_list__loose_packed_and_both(WR_UNUSED void **state)
{
	struct wr_repo *r;
	WR_SCOPED(wr_refs_fini) struct wr_refs refs = {0};

	git_history(5);
	must_run("git branch one main~1 && git branch two/deep main~2 && git tag t main~3 && "
		 "git -c user.name=a -c user.email=a@b tag -a -m x ann main");
	r = open_repo();
	assert_same_list(r);
	must_run("git pack-refs --all --prune");
	assert_same_list(r);
	must_run("git branch -f one main~3 && git branch -D two/deep && git branch three main && "
		 "git symbolic-ref refs/heads/sym refs/heads/one && "
		 "touch repo/refs/heads/x.lock repo/refs/heads/x.tmp-1 repo/refs/heads/.hid");
	assert_same_list(r);
	assert_ok(wr_refs_list(r, "refs/heads/t", &refs, &err));
	assert_int_equal(refs.count, 1);
	assert_string_equal(refs.ref[0].name, "refs/heads/three");
	wr_repo_close(r);
}

static void
test_read__hostile_content(WR_UNUSED void **state)
{
	static const struct {
		const char *command;
		enum wr_err_code code;
	} cases[] = {
	    {"echo garbage >repo/refs/heads/x", WR_E_CORRUPT},
	    {": >repo/refs/heads/x", WR_E_CORRUPT},
	    {"head -c 100000 /dev/zero >repo/refs/heads/x", WR_E_CORRUPT},
	    {"echo 'ref: ../../etc/passwd' >repo/refs/heads/x", WR_E_CORRUPT},
	    {"echo 'ref: refs/../../x' >repo/refs/heads/x", WR_E_CORRUPT},
	    {"echo 'ref: refs/heads/x' >repo/refs/heads/x", WR_E_CORRUPT},
	    {"echo 'ref: refs/heads/y' >repo/refs/heads/x; "
	     "echo 'ref: refs/heads/x' >repo/refs/heads/y",
	     WR_E_CORRUPT},
	    {"echo 'ref: refs/heads/none' >repo/refs/heads/x", WR_E_NOT_FOUND},
	    {"rm -f repo/refs/heads/x; mkfifo repo/refs/heads/x", WR_E_CORRUPT},
	    {"rm -f repo/refs/heads/x; ln -s /etc/hostname repo/refs/heads/x", WR_E_CORRUPT},
	};
	struct wr_repo *r;
	struct wr_id id;

	git_history(2);
	r = open_repo();
	for (size_t i = 0; i < WR_ARRAY_LEN(cases); i++) {
		WR_SCOPED(wr_refs_fini) struct wr_refs refs = {0};

		must_run(cases[i].command);
		assert_fails(wr_ref_read(r, "refs/heads/x", &id, &err), cases[i].code);
		assert_non_null(strstr(err.msg, "refs/heads/"));
		/* the list names it, with no id */
		assert_ok(wr_refs_list(r, "refs/heads/x", &refs, &err));
		assert_int_equal(refs.count, 1);
		assert_true(wr_id_is_zero(&refs.ref[0].id));
	}
	assert_fails(wr_ref_read(r, "refs/../config", &id, &err), WR_E_INVALID);
	assert_fails(wr_ref_read(r, "refs/heads/absent", &id, &err), WR_E_NOT_FOUND);
	wr_repo_close(r);
}

static void
test_packed__hostile_content(WR_UNUSED void **state)
{
#define H "0123456789012345678901234567890123456789"
	static const char *const bad[] = {
	    H " refs/heads/x",
	    H " refs/../x\n",
	    H " refs/heads/x\n" H " refs/heads/x\n",
	    "0123 refs/heads/x\n",
	    H "  refs/heads/x\n",
	    H " refs/heads/x\n^123\n",
	    "zz23456789012345678901234567890123456789 refs/heads/x\n",
	};
	static const char good[] =
	    "# pack-refs with: peeled\n" H " refs/heads/b\n" H " refs/heads/a\n^" H "\n\n";
	WR_SCOPED(wr_refs_fini) struct wr_refs refs = {0};
	struct wr_repo *r;
	struct wr_id id;

	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++)
		assert_fails(wr_packed_refs_parse(bad[i], strlen(bad[i]), &refs, &err),
			     WR_E_CORRUPT);
	assert_ok(wr_packed_refs_parse(good, sizeof(good) - 1, &refs, &err));
	assert_int_equal(refs.count, 2);
	assert_string_equal(refs.ref[0].name, "refs/heads/a");
	git_history(2);
	must_run("git pack-refs --all && echo junk >>repo/packed-refs");
	r = open_repo();
	assert_fails(wr_ref_read(r, "refs/heads/main", &id, &err), WR_E_CORRUPT);
	wr_refs_fini(&refs);
	assert_fails(wr_refs_list(r, "refs/", &refs, &err), WR_E_CORRUPT);
	wr_repo_close(r);
#undef H
}

/* The newest line of the reflog, git's or ours; nothing that is not one. */
static void
test_since(WR_UNUSED void **state)
{
	int64_t at = 5, before = wr_clock_wall().s;
	struct wr_repo *r;
	struct wr_id a;

	git_history(2);
	a = git_id("git rev-parse main");
	r = open_repo();
	must_run("rm -rf repo/logs");
	assert_false(wr_ref_since(r, "refs/heads/main", &at));
	assert_int_equal(at, 5);
	must_run("mkdir -p repo/logs/refs/heads; for n in 1 2; do printf '%040d %040d A <b> C "
		 "<d@e> %d +0200\\tx > 7\\n' 0 0 $((1700000000 + n)); done "
		 ">repo/logs/refs/heads/main");
	assert_true(wr_ref_since(r, "refs/heads/main", &at));
	assert_int_equal(at, 1700000002);
	must_run("printf cut >>repo/logs/refs/heads/main");
	assert_false(wr_ref_since(r, "refs/heads/main", &at));
	must_run("printf '\\n' >>repo/logs/refs/heads/main");
	assert_false(wr_ref_since(r, "refs/heads/main", &at));
	must_run("rm repo/logs/refs/heads/main; mkfifo repo/logs/refs/heads/main");
	assert_false(wr_ref_since(r, "refs/heads/main", &at));
	must_run("rm repo/logs/refs/heads/main");
	assert_ok(wr_repo_lock(r, "test", 0, &err));
	assert_ok(wr_ref_update(r, "refs/heads/n", &a, NULL, IDENT, "m", &err));
	assert_true(wr_ref_since(r, "refs/heads/n", &at));
	assert_true(at >= before);
	wr_repo_close(r);
}

static void
test_update__compare_and_set(WR_UNUSED void **state)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;
	struct wr_id a, b, zero = {{0}}, id;
	struct wr_repo *r;

	git_history(4);
	a = git_id("git rev-parse main");
	b = git_id("git rev-parse main~1");
	must_run("git pack-refs --all");
	r = open_repo();
	assert_ok(wr_repo_lock(r, "test", 0, &err));
	/* new; exists already; moved; right; do not care */
	assert_ok(wr_ref_update(r, "refs/heads/n", &a, NULL, IDENT, "one\ntwo", &err));
	assert_fails(wr_ref_update(r, "refs/heads/n", &b, NULL, IDENT, "m", &err), WR_E_CHANGED);
	assert_fails(wr_ref_update(r, "refs/heads/n", &b, &b, IDENT, "m", &err), WR_E_CHANGED);
	assert_fails(wr_ref_update(r, "refs/heads/gone", &b, &b, IDENT, "m", &err), WR_E_CHANGED);
	assert_ok(wr_ref_update(r, "refs/heads/n", &b, &a, IDENT, "m", &err));
	assert_ok(wr_ref_update(r, "refs/heads/n", &a, &zero, IDENT, "m", &err));
	assert_ok(wr_ref_update(r, "refs/warren/keep/deep", &a, &zero, IDENT, "m", &err));
	/* one that is packed only */
	assert_fails(wr_ref_update(r, "refs/heads/main", &b, &b, IDENT, "m", &err), WR_E_CHANGED);
	assert_ok(wr_ref_update(r, "refs/heads/main", &b, &a, IDENT, "m", &err));
	assert_ok(wr_ref_read(r, "refs/heads/main", &id, &err));
	assert_id_equal(&id, &b);
	assert_same_list(r);
	assert_int_equal(run(&out, "git reflog show n --format='%%gs %%gn %%H'"), 0);
	assert_non_null(strstr(wr_buf_str(&out), "one two T "));
	assert_int_equal(run(NULL, "test $(git reflog show n | wc -l) = 3"), 0);
	must_run("git fsck --full --strict && test -z \"$(find repo -name '*.lock')\"");
	/* what cannot be a ref */
	assert_fails(wr_ref_update(r, "refs/heads/../x", &a, NULL, IDENT, "m", &err), WR_E_INVALID);
	assert_fails(wr_ref_update(r, "HEAD", &a, &zero, IDENT, "m", &err), WR_E_INVALID);
	must_run("git symbolic-ref refs/heads/sym refs/heads/n");
	assert_fails(wr_ref_update(r, "refs/heads/sym", &a, &a, IDENT, "m", &err),
		     WR_E_UNSUPPORTED);
	wr_repo_close(r);
}

static void
test_update__replaces_a_broken_one_if_told(WR_UNUSED void **state)
{
	struct wr_id a, zero = {{0}};
	struct wr_repo *r;

	git_history(2);
	a = git_id("git rev-parse main");
	must_run("echo junk >repo/refs/heads/x");
	r = open_repo();
	assert_ok(wr_repo_lock(r, "test", 0, &err));
	assert_fails(wr_ref_update(r, "refs/heads/x", &a, &a, IDENT, "m", &err), WR_E_CORRUPT);
	assert_ok(wr_ref_update(r, "refs/heads/x", &a, &zero, IDENT, "m", &err));
	assert_same_list(r);
	wr_repo_close(r);
}

static void
test_update__file_against_directory(WR_UNUSED void **state)
{
	struct wr_id a, zero = {{0}};
	struct wr_repo *r;

	git_history(2);
	a = git_id("git rev-parse main");
	must_run("git branch d/one && git branch p/one && git branch q && git pack-refs --all && "
		 "git branch l/one && mkdir -p repo/refs/heads/empty/dirs/in/it");
	r = open_repo();
	assert_ok(wr_repo_lock(r, "test", 0, &err));
	assert_fails(wr_ref_update(r, "refs/heads/p", &a, NULL, IDENT, "m", &err), WR_E_EXISTS);
	assert_fails(wr_ref_update(r, "refs/heads/q/x", &a, &zero, IDENT, "m", &err), WR_E_EXISTS);
	assert_fails(wr_ref_update(r, "refs/heads/l", &a, NULL, IDENT, "m", &err), WR_E_EXISTS);
	assert_ok(wr_ref_update(r, "refs/heads/empty", &a, NULL, IDENT, "m", &err));
	assert_same_list(r);
	wr_repo_close(r);
}

static void
test_update__waits_for_gits_lock(WR_UNUSED void **state)
{
	struct wr_id a;
	struct wr_repo *r;
	uint64_t t;

	git_history(2);
	a = git_id("git rev-parse main");
	must_run("touch repo/refs/heads/x.lock");
	r = open_repo();
	assert_ok(wr_repo_lock(r, "test", 0, &err));
	t = wr_clock_mono_ns();
	assert_fails(wr_ref_update(r, "refs/heads/x", &a, NULL, IDENT, "m", &err), WR_E_BUSY);
	t = wr_clock_mono_ns() - t;
	assert_true(t >= 1900000000u && t < 5000000000u);
	assert_non_null(strstr(err.hint, "refs/heads/x.lock"));
	must_run("test -e repo/refs/heads/x.lock && ! grep -q refs/heads/x repo/warren/lock");
	/* one that goes in time */
	must_run("(sleep 0.3; rm repo/refs/heads/x.lock) >/dev/null 2>&1 &");
	assert_ok(wr_ref_update(r, "refs/heads/x", &a, NULL, IDENT, "m", &err));
	wr_repo_close(r);
}

static void
test_delete__loose_packed_and_log(WR_UNUSED void **state)
{
	struct wr_id a, b;
	struct wr_repo *r;

	git_history(4);
	a = git_id("git rev-parse main");
	b = git_id("git rev-parse main~1");
	must_run("git branch p && git -c user.name=a -c user.email=a@b tag -a -m x ann main && "
		 "git branch both && git pack-refs --all && git branch -f both main~1");
	r = open_repo();
	assert_ok(wr_repo_lock(r, "test", 0, &err));
	assert_ok(wr_ref_update(r, "refs/heads/l", &a, NULL, IDENT, "m", &err));
	assert_fails(wr_ref_delete(r, "refs/heads/l", &b, &err), WR_E_CHANGED);
	assert_ok(wr_ref_delete(r, "refs/heads/l", &a, &err));
	must_run("test ! -e repo/logs/refs/heads/l");
	assert_same_list(r);
	assert_ok(wr_ref_delete(r, "refs/heads/both", &b, &err));
	assert_same_list(r);
	assert_ok(wr_ref_delete(r, "refs/heads/p", NULL, &err));
	assert_ok(wr_ref_delete(r, "refs/tags/ann", NULL, &err));
	assert_same_list(r);
	must_run("git fsck --full && test $(git for-each-ref | wc -l) = 1 && "
		 "test -z \"$(find repo -name '*.lock')\"");
	assert_fails(wr_ref_delete(r, "refs/heads/p", NULL, &err), WR_E_NOT_FOUND);
	wr_repo_close(r);
}

/* Run by the test below in a process of its own, which the crash point ends. */
static int
victim(const char *repo)
{
	struct wr_repo *r;
	struct wr_id a, b;

	if (wr_repo_open(repo, &r, NULL) < 0 || wr_repo_lock(r, "victim", 0, NULL) < 0 ||
	    wr_ref_read(r, "refs/heads/main", &a, NULL) < 0 ||
	    wr_ref_read(r, "refs/heads/old", &b, NULL) < 0)
		return 1;
	return wr_ref_update(r, "refs/heads/main", &b, &a, IDENT, "m", NULL) < 0;
}

/* Killed at each point of an update: git sees the old or the new value, the next one can go on. */
static void
test_update__killed_anywhere(WR_UNUSED void **state)
{
	static const struct {
		const char *point;
		bool done;
	} cases[] = {{"ref.locked", false}, {"ref.written", false}, {"ref.renamed", true}};

	for (size_t i = 0; i < WR_ARRAY_LEN(cases); i++) {
		struct wr_id a, b, id;
		struct wr_repo *r;

		git_history(3);
		must_run("git branch old main~1");
		a = git_id("git rev-parse main");
		b = git_id("git rev-parse old");
		assert_int_equal(run(NULL, "WARREN_CRASH=%s REFS_TEST_VICTIM='%s' '%s'",
				     cases[i].point, path_of("repo").s, self),
				 128 + 9);
		id = git_id("git rev-parse main");
		assert_id_equal(&id, cases[i].done ? &b : &a);
		must_run("git fsck --full --strict");
		r = open_repo();
		assert_ok(wr_repo_lock(r, "next", 0, &err));
		assert_ok(wr_ref_update(r, "refs/heads/main", &b, &id, IDENT, "m", &err));
		must_run("test -z \"$(find repo -name '*.lock')\"");
		assert_same_list(r);
		wr_repo_close(r);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_name__as_git_judges),
	    cmocka_unit_test(test_list__loose_packed_and_both),
	    cmocka_unit_test(test_read__hostile_content),
	    cmocka_unit_test(test_packed__hostile_content),
	    cmocka_unit_test(test_since),
	    cmocka_unit_test(test_update__compare_and_set),
	    cmocka_unit_test(test_update__replaces_a_broken_one_if_told),
	    cmocka_unit_test(test_update__file_against_directory),
	    cmocka_unit_test(test_update__waits_for_gits_lock),
	    cmocka_unit_test(test_delete__loose_packed_and_log),
	    cmocka_unit_test(test_update__killed_anywhere),
	};

	const char *repo = getenv("REFS_TEST_VICTIM");

	if (repo)
		return victim(repo);
	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	return cmocka_run_group_tests(tests, setup_dir, teardown_dir);
}

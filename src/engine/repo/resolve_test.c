/* SPDX-License-Identifier: Apache-2.0 */
/* Names of snapshots: the grammar, what it finds, bup's suffixes, hints. */
#include "engine/repo/test_repo.h"

#include "base/str.h"
#include "engine/repo/repo_int.h"

static int64_t
utc(int year, int month, int day, int hour, int min, int sec)
{
	int64_t t;

	assert_true(wr_utc_seconds(year, month, day, hour, min, sec, &t));
	return t;
}

static void
test_parse__forms(WR_UNUSED void **state)
{
	const int64_t now = utc(2026, 11, 22, 15, 0, 0), day = 86400;
	const struct {
		const char *spec, *token;
		bool has_time;
		int64_t time;
		const char *path;
	} cases[] = {
	    {"main", "main", false, 0, NULL},
	    {"main:", "main", false, 0, ""},
	    {"main:a/b:c", "main", false, 0, "a/b:c"},
	    {"main/latest:a", "main/latest", false, 0, "a"},
	    {"now", "now", true, now, NULL},
	    {"today", "today", true, utc(2026, 11, 22, 23, 59, 59), NULL},
	    {"yesterday:x", "yesterday", true, utc(2026, 11, 21, 23, 59, 59), "x"},
	    {"yesterdays", "yesterdays", false, 0, NULL},
	    {"90s", "90s", true, now - 90, NULL},
	    {"20m", "20m", true, now - 1200, NULL},
	    {"2h", "2h", true, now - 7200, NULL},
	    {"3d", "3d", true, now - 3 * day, NULL},
	    {"b/2w:p", "b/2w", true, now - 14 * day, "p"},
	    {"2x", "2x", false, 0, NULL},
	    {"2026-11-22", "2026-11-22", true, utc(2026, 11, 22, 23, 59, 59), NULL},
	    {"2026-11-22-10", "2026-11-22-10", false, 0, NULL},
	    {"2026-02-30", "2026-02-30", false, 0, NULL},
	    {"2026-11-22T10:15", "2026-11-22T10:15", true, utc(2026, 11, 22, 10, 15, 59), NULL},
	    {"2026-11-22T10:15:30", "2026-11-22T10:15:30", true, utc(2026, 11, 22, 10, 15, 30),
	     NULL},
	    {"2026-11-22T10:15:30Z:a:b", "2026-11-22T10:15:30Z", true,
	     utc(2026, 11, 22, 10, 15, 30), "a:b"},
	    {"2026-11-22T10:15Z", "2026-11-22T10:15Z", true, utc(2026, 11, 22, 10, 15, 59), NULL},
	    {"2026-11-22T10:15:PATH", "2026-11-22T10:15", true, utc(2026, 11, 22, 10, 15, 59),
	     "PATH"},
	    {"m/2026-11-22T10:15:30:", "m/2026-11-22T10:15:30", true, utc(2026, 11, 22, 10, 15, 30),
	     ""},
	    {"2026-11-22T10:15:30days", "2026-11-22T10:15", true, utc(2026, 11, 22, 10, 15, 59),
	     "30days"},
	    {"2026-11-22T25:15", "2026-11-22T25", false, 0, "15"},
	    {"", "", false, 0, NULL},
	    {":p", "", false, 0, "p"},
	    {"a/b/c", "a/b/c", false, 0, NULL},
	    {"99999999999d", "99999999999d", false, 0, NULL},
	};

	for (size_t i = 0; i < WR_ARRAY_LEN(cases); i++) {
		struct wr_spec s;

		wr_spec_parse(cases[i].spec, now, &s);
		assert_string_equal(s.token, cases[i].token);
		assert_int_equal(s.has_time, cases[i].has_time);
		if (s.has_time)
			assert_int_equal(s.time, cases[i].time);
		if (cases[i].path)
			assert_string_equal(s.path, cases[i].path);
		else
			assert_null(s.path);
		wr_spec_fini(&s);
	}
}

/* A repository with saves at these times on a branch, oldest first; the tip is given. */
static struct wr_id
make_branch(struct wr_repo *r, const char *branch, const int64_t *times, size_t count)
{
	struct wr_sink_opts o = {.level = 1, .threads = 1};
	struct wr_sink *s = wr_sink_open(r, &o, &err);
	WR_SCOPED(wr_freep) char *ref = wr_asprintf("refs/heads/%s", branch);
	struct wr_id tip = {{0}}, zero = {{0}};

	for (size_t i = 0; i < count; i++) {
		char content[64];

		snprintf(content, sizeof(content), "%s %zu", branch, i);
		save_one(s, content, times[i], &tip);
	}
	assert_ok(wr_sink_commit(s, NULL, &err));
	assert_ok(wr_ref_update(r, ref, &tip, &zero, "T <t@t>", "save", &err));
	return tip;
}

static void
test_resolve__all_forms(WR_UNUSED void **state)
{
	const int64_t t[] = {utc(2026, 11, 20, 8, 0, 0), utc(2026, 11, 21, 9, 0, 0),
			     utc(2026, 11, 22, 10, 15, 30), utc(2026, 11, 22, 10, 15, 50),
			     utc(2026, 11, 22, 14, 59, 0)};
	const int64_t now = utc(2026, 11, 22, 15, 0, 0);
	const struct {
		const char *spec;
		int want; /* index into t, or -1 - error code */
	} cases[] = {
	    {"main", 4},
	    {"main/latest", 4},
	    {"latest", 4},
	    {"now", 4},
	    {"today", 4},
	    {"yesterday", 1},
	    {"main/yesterday", 1},
	    {"1m", 4},
	    {"2m", 3},
	    {"main/1d", 1},
	    {"2d", 0},
	    {"1w", -1 - WR_E_NOT_FOUND},
	    {"2026-11-21", 1},
	    {"2026-11-22T10:15", 3},
	    {"2026-11-22T10:15:40", 2},
	    {"2026-11-22T10:15:29Z", 1},
	    {"main/2026-11-22-101530", 2},
	    {"main/2026-11-22-10155", 3},
	    {"2026-11-22-14", 4},
	    {"main/2026-11-22-10", -1 - WR_E_INVALID},
	    {"main/2026-11-23-1", -1 - WR_E_NOT_FOUND},
	    {"main/nonsense", -1 - WR_E_NOT_FOUND},
	    {"nobranch/latest", -1 - WR_E_NOT_FOUND},
	    {"nonsense", -1 - WR_E_NOT_FOUND},
	    {"", -1 - WR_E_NOT_FOUND},
	    {"../etc", -1 - WR_E_NOT_FOUND},
	    {"v1", 2},
	    {"ann", 2},
	    {"refs/tags/v1", 2},
	    {"refs/heads/main", 4},
	};
	struct wr_repo *r = new_repo();
	struct wr_id tip = make_branch(r, "main", t, WR_ARRAY_LEN(t)), first;
	struct wr_reader *rd = wr_reader_new(r);
	struct wr_snap s;
	char *path;

	must_run("git tag v1 main~2 && git -c user.name=a -c user.email=a@b tag -a -m x ann main~2 "
		 "&& git tag tree main~1^{tree} && git tag blob main:file");
	for (size_t i = 0; i < WR_ARRAY_LEN(cases); i++) {
		int rc = wr_resolve(rd, cases[i].spec, now, &s, &path, &err);

		if (cases[i].want >= 0) {
			if (rc < 0 || s.time != t[cases[i].want])
				fail_msg("%s: %s", cases[i].spec, rc < 0 ? err.msg : s.name);
			assert_string_equal(s.name, wr_fmt_snap_name(s.time).s);
			wr_snap_fini(&s);
		} else {
			if (rc == 0 || err.code != (enum wr_err_code)(-1 - cases[i].want))
				fail_msg("%s: %s", cases[i].spec, rc < 0 ? err.msg : s.name);
			assert_string_not_equal(err.hint, "");
		}
	}
	/* ids, shortened too, and paths */
	assert_ok(wr_resolve(rd, wr_id_hex(&tip).s, now, &s, &path, &err));
	assert_id_equal(&s.commit, &tip);
	assert_null(s.branch);
	wr_snap_fini(&s);
	first = git_id("git rev-parse main~4");
	assert_ok(wr_resolve(rd, wr_id_short(&first).s, now, &s, &path, &err));
	assert_id_equal(&s.commit, &first);
	assert_null(path);
	wr_snap_fini(&s);
	assert_ok(wr_resolve(rd, "main/2d:some/dir", now, &s, &path, &err));
	assert_id_equal(&s.commit, &first);
	assert_string_equal(s.branch, "main");
	assert_string_equal(path, "some/dir");
	free(path);
	wr_snap_fini(&s);
	/* a tag of a tree is a snapshot without a commit, a blob is none */
	assert_ok(wr_resolve(rd, "tree", now, &s, &path, &err));
	assert_true(wr_id_is_zero(&s.commit));
	first = git_id("git rev-parse main~1^{tree}");
	assert_id_equal(&s.tree, &first);
	wr_snap_fini(&s);
	assert_fails(wr_resolve(rd, "blob", now, &s, &path, &err), WR_E_INVALID);
	wr_reader_free(rd);
	wr_repo_close(r);
}

static void
test_resolve__branch_before_time_and_nested(WR_UNUSED void **state)
{
	const int64_t t[] = {1700000000};
	struct wr_repo *r = new_repo();
	struct wr_reader *rd = wr_reader_new(r);
	struct wr_id tip = make_branch(r, "2h", t, 1);
	struct wr_snap s;

	assert_ok(wr_resolve(rd, "2h", 1800000000, &s, NULL, &err));
	assert_id_equal(&s.commit, &tip);
	assert_string_equal(s.branch, "2h");
	wr_snap_fini(&s);
	must_run("git branch deep/er 2h");
	assert_ok(wr_resolve(rd, "deep/er/latest", 1800000000, &s, NULL, &err));
	assert_string_equal(s.branch, "deep/er");
	wr_snap_fini(&s);
	assert_ok(wr_resolve(rd, "deep/er", 1800000000, &s, NULL, &err));
	wr_snap_fini(&s);
	wr_reader_free(rd);
	wr_repo_close(r);
}

static void
test_default_branch__order(WR_UNUSED void **state)
{
	const int64_t t[] = {1700000000};
	struct wr_repo *r = new_repo();
	struct wr_reader *rd = wr_reader_new(r);
	struct wr_id zero = {{0}};
	char *b;

	assert_fails(wr_default_branch(rd, &b, &err), WR_E_NOT_FOUND);
	make_branch(r, "one", t, 1);
	assert_ok(wr_default_branch(rd, &b, &err));
	assert_string_equal(b, "one");
	free(b);
	make_branch(r, "two", t, 1);
	assert_fails(wr_default_branch(rd, &b, &err), WR_E_NOT_FOUND);
	assert_non_null(strstr(err.hint, "one, two"));
	make_branch(r, "main", t, 1);
	must_run("git symbolic-ref HEAD refs/heads/two");
	assert_ok(wr_default_branch(rd, &b, &err));
	assert_string_equal(b, "two");
	free(b);
	assert_ok(wr_ref_delete(r, "refs/heads/two", &zero, &err));
	assert_ok(wr_default_branch(rd, &b, &err));
	assert_string_equal(b, "main");
	free(b);
	wr_reader_free(rd);
	wr_repo_close(r);
}

/* Equal times: our names are those that bup lists. */
static void
test_snaps__names_are_bups(WR_UNUSED void **state)
{
	int64_t t[16];
	struct wr_repo *r = new_repo();
	struct wr_reader *rd = wr_reader_new(r);
	WR_SCOPED(wr_buf_fini) struct wr_buf bup = WR_BUF_INIT, ours = WR_BUF_INIT;
	WR_SCOPED(wr_snaps_fini) struct wr_snaps s = {0};
	struct wr_snap one;

	for (size_t i = 0; i < 16; i++)
		t[i] = 1700000000 + (i < 2 ? 0 : i < 3 ? 1 : i < 14 ? 2 : (int64_t)i);
	make_branch(r, "main", t, 16);
	assert_ok(wr_snaps_list(rd, "main", &s, &err));
	assert_int_equal(s.count, 16);
	for (size_t i = s.count; i-- > 0;)
		wr_buf_addf(&ours, "%s\n", s.snap[i].name);
	wr_buf_adds(&ours, "latest\n");
	assert_int_equal(run(&bup, "bup ls main"), 0);
	assert_string_equal(wr_buf_str(&ours), wr_buf_str(&bup));
	assert_ok(wr_resolve(rd, "main/2023-11-14-221322-03", 0, &one, NULL, &err));
	assert_id_equal(&one.commit, &s.snap[9].commit);
	wr_snap_fini(&one);
	assert_ok(wr_resolve(rd, "main/2023-11-14-221320-1", 0, &one, NULL, &err));
	assert_id_equal(&one.commit, &s.snap[14].commit);
	wr_snap_fini(&one);
	wr_reader_free(rd);
	wr_repo_close(r);
}

static void
test_snaps__all_branches_and_absent(WR_UNUSED void **state)
{
	const int64_t t[] = {1700000000, 1700000001};
	struct wr_repo *r = new_repo();
	struct wr_reader *rd = wr_reader_new(r);
	WR_SCOPED(wr_snaps_fini) struct wr_snaps s = {0};

	make_branch(r, "b", t, 2);
	make_branch(r, "a", t, 1);
	assert_ok(wr_snaps_list(rd, NULL, &s, &err));
	assert_int_equal(s.count, 3);
	assert_string_equal(s.snap[0].branch, "a");
	assert_string_equal(s.snap[2].branch, "b");
	assert_fails(wr_snaps_list(rd, "c", &s, &err), WR_E_NOT_FOUND);
	assert_non_null(strstr(err.hint, "a, b"));
	wr_reader_free(rd);
	wr_repo_close(r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_parse__forms),
	    cmocka_unit_test(test_resolve__all_forms),
	    cmocka_unit_test(test_resolve__branch_before_time_and_nested),
	    cmocka_unit_test(test_default_branch__order),
	    cmocka_unit_test(test_snaps__names_are_bups),
	    cmocka_unit_test(test_snaps__all_branches_and_absent),
	};

	return cmocka_run_group_tests(tests, setup_dir, teardown_dir);
}

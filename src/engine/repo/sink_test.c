/* SPDX-License-Identifier: Apache-2.0 */
/* The sink: deduplication, threads, rollover, repair, dry runs, failures, crashes. */
#include "engine/repo/test_repo.h"

#include <pthread.h>
#include <sys/resource.h>

#include "engine/pack/pack.h"
#include "engine/repo/repo_int.h"

static char self[1024]; /* this program */

static struct wr_sink *
open_sink(struct wr_repo *r, unsigned threads)
{
	struct wr_sink_opts o = {.level = 1, .threads = threads};
	struct wr_sink *s = wr_sink_open(r, &o, &err);

	assert_non_null(s);
	return s;
}

static void
test_save__git_and_bup_read_it(WR_UNUSED void **state)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;
	struct wr_repo *r = new_repo();
	struct wr_sink_stats st;
	struct wr_id tip = {{0}};

	for (unsigned i = 0; i < 3; i++) {
		struct wr_sink *s = open_sink(r, 1);
		char content[20];
		struct wr_id old = tip;

		snprintf(content, sizeof(content), "content %u\n", i);
		save_one(s, content, 1700000000 + i, &tip);
		assert_true(wr_sink_has(s, &tip));
		assert_ok(wr_sink_commit(s, &st, &err));
		/* the metadata blob is new the first time only */
		assert_int_equal(st.objects_new, i ? 3 : 4);
		assert_int_equal(st.packs, 1);
		assert_true(wr_repo_has(r, &tip));
		assert_ok(wr_ref_update(r, "refs/heads/main", &tip, i ? &old : NULL, "T <t@t>",
					"save", &err));
	}
	wr_repo_close(r);
	must_run("git fsck --full --strict");
	assert_int_equal(run(&out, "bup ls main && bup ls main/latest && git show main:file"), 0);
	assert_string_equal(wr_buf_str(&out),
			    "2023-11-14-221320\n2023-11-14-221321\n2023-11-14-221322\nlatest\n"
			    "file\ncontent 2\n");
	must_run("bup midx --check -a && bup fsck && bup validate-object-links");
}

static void
test_put__nothing_new_leaves_no_trace(WR_UNUSED void **state)
{
	struct wr_repo *r = new_repo();
	struct wr_sink *s = open_sink(r, 1);
	struct wr_sink_stats st;
	struct wr_id id, id2;

	assert_ok(wr_sink_put(s, 0, WR_OBJ_BLOB, "x", 1, &id, &err));
	assert_ok(wr_sink_put(s, 0, WR_OBJ_BLOB, "x", 1, &id2, &err));
	assert_id_equal(&id, &id2);
	assert_ok(wr_sink_commit(s, &st, &err));
	assert_int_equal(st.objects_new, 1);
	assert_int_equal(st.raw_new, 1);
	must_run("find repo/objects | sort >1");
	s = open_sink(r, 1);
	assert_ok(wr_sink_put(s, 0, WR_OBJ_BLOB, "x", 1, &id, &err));
	assert_ok(wr_sink_commit(s, &st, &err));
	assert_int_equal(st.objects_new, 0);
	assert_int_equal(st.packs, 0);
	must_run("find repo/objects | sort >2 && cmp 1 2");
	wr_repo_close(r);
}

static void
test_abort__leaves_no_trace(WR_UNUSED void **state)
{
	struct wr_repo *r = new_repo();
	struct wr_sink *s = open_sink(r, 1);
	struct wr_id id;

	must_run("find repo/objects | sort >1");
	assert_ok(wr_sink_put(s, 0, WR_OBJ_BLOB, "x", 1, &id, &err));
	wr_sink_abort(s);
	wr_sink_abort(NULL);
	must_run("find repo/objects | sort >2 && cmp 1 2");
	assert_false(wr_repo_exists(r, &id));
	wr_repo_close(r);
}

static void
test_dry_run__counts_only(WR_UNUSED void **state)
{
	struct wr_repo *r = new_repo();
	struct wr_sink_opts o = {.dry_run = true, .threads = 1};
	struct wr_sink *s = open_sink(r, 1);
	struct wr_sink_stats st;
	struct wr_id id, want;

	assert_ok(wr_sink_put(s, 0, WR_OBJ_BLOB, "old", 3, &id, &err));
	assert_ok(wr_sink_commit(s, &st, &err));
	must_run("find repo/objects | sort >1");
	s = wr_sink_open(r, &o, &err);
	assert_ok(wr_sink_put(s, 0, WR_OBJ_BLOB, "old", 3, &id, &err));
	assert_ok(wr_sink_put(s, 0, WR_OBJ_BLOB, "new", 3, &id, &err));
	assert_ok(wr_sink_put(s, 0, WR_OBJ_BLOB, "new", 3, &id, &err));
	want = wr_obj_id(WR_OBJ_BLOB, "new", 3);
	assert_id_equal(&id, &want);
	assert_ok(wr_sink_commit(s, &st, &err));
	assert_int_equal(st.objects_new, 1);
	assert_int_equal(st.raw_new, 3);
	must_run("find repo/objects | sort >2 && cmp 1 2");
	wr_repo_close(r);
}

/* ---- threads and rollover ---- */

#define THREADS 4
#define TREES 300

struct job {
	struct wr_sink *s;
	unsigned thread;
	pthread_t t;
	bool failed;
};

/* All threads put the same trees of the same blobs, in different orders: every object is raced
 * for, and a tree is put by those who did not wait for its blobs. */
static void *
put_trees(void *arg)
{
	struct job *j = arg;

	for (unsigned i = 0; i < TREES && !j->failed; i++) {
		unsigned n = j->thread % 2 ? i : (i * 7) % TREES;
		WR_SCOPED(wr_buf_fini) struct wr_buf tree = WR_BUF_INIT;
		struct wr_id id;

		for (unsigned k = 0; k < 5; k++) {
			char content[3000], name[8];

			memset(content, 'a' + (char)k, sizeof(content));
			snprintf(content, sizeof(content), "%u %u", n, k);
			snprintf(name, sizeof(name), "f%u", k);
			if (wr_sink_put(j->s, j->thread, WR_OBJ_BLOB, content, sizeof(content), &id,
					NULL) < 0) {
				j->failed = true;
				return NULL;
			}
			wr_tree_add(&tree, WR_MODE_FILE, name, 2, &id);
		}
		j->failed =
		    wr_sink_put(j->s, j->thread, WR_OBJ_TREE, tree.p, tree.len, &id, NULL) < 0;
	}
	return NULL;
}

static void
run_threads(struct wr_sink *s, struct job *job)
{
	for (unsigned i = 0; i < THREADS; i++) {
		job[i] = (struct job){.s = s, .thread = i};
		assert_int_equal(pthread_create(&job[i].t, NULL, put_trees, &job[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(job[i].t, NULL);
}

static void
test_put__threads_and_rollover(WR_UNUSED void **state)
{
	struct wr_repo *r = new_repo();
	struct wr_sink_stats st;
	struct wr_sink *s;
	struct job job[THREADS];

	wr_repo_close(r);
	must_run("git config pack.packSizeLimit 150k"); /* 30 objects a pack */
	r = open_repo();
	assert_ok(wr_repo_lock(r, "test", 0, &err));
	s = open_sink(r, THREADS);
	run_threads(s, job);
	for (unsigned i = 0; i < THREADS; i++)
		assert_false(job[i].failed);
	assert_ok(wr_sink_commit(s, &st, &err));
	assert_int_equal(st.objects_new, TREES * 6);
	assert_int_equal(st.raw_new, TREES * 5 * 3000 + TREES * 5 * (7 + 3 + 20));
	/* Each other thread may have one put under way when a pack reaches its size, not more. */
	assert_true(st.packs >= TREES * 6 / (30 + THREADS - 1) && st.packs <= TREES * 6 / 30 + 1);
	assert_int_equal(wr_repo_pack_count(r), st.packs);
	assert_int_equal(wr_repo_ordinal_end(r), TREES * 6); /* each once */
	assert_ok(wr_repo_index_maintain(r, &err));
	assert_reads_all(r);
	wr_repo_close(r);
	must_run("git fsck --full --strict && bup midx --check -a");
}

/* Killed at a rollover: every tree in a published pack has its blobs in one, too. */
static void
test_put__killed_at_rollover(WR_UNUSED void **state)
{
	struct wr_repo *r;

	for (unsigned n = 1; n < 50; n += 16) {
		wr_repo_close(new_repo());
		must_run("git config pack.packSizeLimit 150k");
		assert_int_equal(run(NULL,
				     "WARREN_CRASH=sink.rollover:%u SINK_TEST_VICTIM='%s' "
				     "'%s'",
				     n, path_of("repo").s, self),
				 128 + 9);
		must_run("git fsck --full --strict && ! git fsck --full 2>&1 | grep missing && "
			 "git cat-file --batch-all-objects --batch-check | grep -q tree");
	}
	r = open_repo();
	assert_ok(wr_repo_lock(r, "next", 0, &err));
	must_run("! ls -d repo/objects/pack-tmp-* 2>/dev/null");
	wr_repo_close(r);
}

static int
victim(const char *repo)
{
	struct wr_sink_opts o = {.level = 1, .threads = THREADS};
	struct job job[THREADS];
	struct wr_repo *r;
	struct wr_sink *s;

	if (wr_repo_open(repo, &r, NULL) < 0 || wr_repo_lock(r, "victim", 0, NULL) < 0)
		return 1;
	s = wr_sink_open(r, &o, NULL);
	run_threads(s, job);
	return wr_sink_commit(s, NULL, NULL) < 0;
}

/* ---- repair and failure ---- */

static bool
is_damaged(void *ctx, const struct wr_id *id)
{
	return wr_id_eq(id, ctx);
}

static void
test_put__damaged_is_stored_again(WR_UNUSED void **state)
{
	struct wr_repo *r = new_repo();
	struct wr_sink *s = open_sink(r, 1);
	struct wr_sink_stats st;
	struct wr_id a, b;
	struct wr_sink_opts o = {.level = 1, .threads = 1, .damaged = is_damaged, .ctx = &a};

	assert_ok(wr_sink_put(s, 0, WR_OBJ_BLOB, "a", 1, &a, &err));
	assert_ok(wr_sink_put(s, 0, WR_OBJ_BLOB, "b", 1, &b, &err));
	assert_ok(wr_sink_commit(s, &st, &err));
	s = wr_sink_open(r, &o, &err);
	assert_false(wr_sink_has(s, &a));
	assert_ok(wr_sink_put(s, 0, WR_OBJ_BLOB, "a", 1, &a, &err));
	assert_true(wr_sink_has(s, &a));
	assert_ok(wr_sink_put(s, 0, WR_OBJ_BLOB, "a", 1, &a, &err));
	assert_ok(wr_sink_put(s, 0, WR_OBJ_BLOB, "b", 1, &b, &err));
	assert_ok(wr_sink_commit(s, &st, &err));
	assert_int_equal(st.objects_new, 1);
	wr_repo_close(r);
}

static void
test_put__failure_poisons(WR_UNUSED void **state)
{
	struct wr_repo *r = new_repo();
	struct wr_sink *s = open_sink(r, 1);
	static uint8_t noise[4 << 20];
	uint64_t seed = 5;
	struct rlimit old, small;
	struct wr_sink_stats st;
	struct wr_id id;
	int rc = 0;

	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (uint8_t)test_random(&seed);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = old;
	small.rlim_cur = 1 << 20;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (unsigned i = 0; i < 4 && rc == 0; i++) {
		noise[0] = (uint8_t)i;
		rc = wr_sink_put(s, 0, WR_OBJ_BLOB, noise, sizeof(noise), &id, &err);
	}
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(rc, -1);
	assert_fails(wr_sink_put(s, 0, WR_OBJ_BLOB, "fine", 4, &id, &err), WR_E_SYS);
	assert_fails(wr_sink_commit(s, &st, &err), WR_E_SYS);
	assert_int_equal(wr_repo_pack_count(r), 0);
	must_run("! ls -d repo/objects/pack-tmp-* 2>/dev/null");
	wr_repo_close(r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_save__git_and_bup_read_it),
	    cmocka_unit_test(test_put__nothing_new_leaves_no_trace),
	    cmocka_unit_test(test_abort__leaves_no_trace),
	    cmocka_unit_test(test_dry_run__counts_only),
	    cmocka_unit_test(test_put__threads_and_rollover),
	    cmocka_unit_test(test_put__killed_at_rollover),
	    cmocka_unit_test(test_put__damaged_is_stored_again),
	    cmocka_unit_test(test_put__failure_poisons),
	};
	const char *repo = getenv("SINK_TEST_VICTIM");

	if (repo)
		return victim(repo);
	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	return cmocka_run_group_tests(tests, setup_dir, teardown_dir);
}

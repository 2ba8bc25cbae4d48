/* SPDX-License-Identifier: Apache-2.0 */
/* Ids of whole contents: known ones, those of the installed bup, and runs against single adds. */
#include "engine/chunk/hashtree.h"

#include <setjmp.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/chunk/split.h"
#include "engine/chunk/testdata.h"
#include "engine/object/tree.h"

struct store {
	size_t puts;
	size_t fail_at; /* the put that fails, counted from 1; 0 = none */
};

static int
put_tree(void *ctx, const void *p, size_t len, struct wr_id *out, struct wr_err *err)
{
	struct store *s = ctx;
	struct wr_tree_entry e;
	struct wr_rd r = wr_rd(p, len);
	size_t entries = 0;

	if (++s->puts == s->fail_at)
		return wr_err_set(err, WR_E_NOSPACE, "store is full");
	while (wr_tree_next(&r, &e, NULL) == 1)
		entries++;
	assert_int_equal(r.left, 0);
	assert_in_range(entries, 2, 256);
	*out = wr_obj_id(WR_OBJ_TREE, p, len);
	return 0;
}

struct result {
	char s[64]; /* "blob ID" or "tree ID" */
};

static struct result
end_tree(struct wr_hashtree *t)
{
	struct result out;
	struct wr_id id;
	uint32_t mode;
	bool empty, any = t->total > 0;

	assert_int_equal(wr_hashtree_end(t, &mode, &id, &empty, NULL), 0);
	assert_int_equal(empty, !any);
	assert_true(mode == WR_MODE_FILE || mode == WR_MODE_TREE);
	snprintf(out.s, sizeof(out.s), "%s %s", mode == WR_MODE_TREE ? "tree" : "blob",
		 wr_id_hex(&id).s);
	return out;
}

/* What a content is stored as with 13 bits. */
static struct result
store(const uint8_t *p, size_t len)
{
	struct store st = {0};
	struct wr_hashtree t;
	struct wr_splitter s;
	struct result out;
	size_t at = 0, end = 0;

	wr_splitter_init(&s, 13);
	wr_hashtree_init(&t, put_tree, &st);
	while (at < len) {
		const uint8_t *q = p + at;

		end += WR_MIN(WR_SPLIT_BLOCK, len - end);
		at += wr_split_feed(&s, q, end - at, end == len);
		for (size_t i = 0; i < s.cut_count; i++) {
			struct wr_id id = wr_obj_id(WR_OBJ_BLOB, q, s.cut[i].len);

			assert_int_equal(
			    wr_hashtree_add(&t, &id, s.cut[i].len, s.cut[i].level, NULL), 0);
			q += s.cut[i].len;
		}
	}
	out = end_tree(&t);
	wr_hashtree_fini(&t);
	wr_hashtree_fini(&t);
	wr_splitter_fini(&s);
	return out;
}

static void
assert_stored(const struct wr_buf *b, size_t len, const char *want)
{
	assert_string_equal(store(b->p, len).s, want);
}

static void
test_hashtree__known_ids(void **state)
{
	struct wr_buf b = WR_BUF_INIT;

	(void)state;
	td_fill(&b, 0, 10485767);
	assert_stored(&b, 0, "blob e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
	assert_stored(&b, 32768, "blob 12f3be4dd3b5a2b5146f36630acbf7e99e490797");
	assert_stored(&b, 32769, "tree 7521234f17fd433964bf92f7980510729dd08ca3");
	assert_stored(&b, 256 * 32768, "tree c346be176670b646d7cc416a66c0e1673201f08a");
	assert_stored(&b, 257 * 32768, "tree 9d0784d3dd09f740fa6660cf5d030ef6609f72aa");
	assert_stored(&b, 10485767, "tree c96cfeb313c70c1b749db5b0d3b6934d7aa3d5a2");
	wr_buf_clear(&b);
	td_noise(&b, "big", 4 << 20);
	assert_stored(&b, b.len, "tree 795ffb5d2f6bf45e245e6b8c21cce3bd29d5f73d");
	wr_buf_clear(&b);
	td_quirk_tail(&b);
	assert_stored(&b, b.len, "tree 57a50675dbdc0942165ceee0a1bfbd6e182804f4");
	wr_buf_clear(&b);
	td_quirk_block(&b);
	assert_stored(&b, b.len, "tree a06a9c0d527b72c56872e82c9cfdef0a2131c0fd");
	wr_buf_fini(&b);
}

/* Output of a shell command, its last newline cut off; "" if it fails. */
static void
run(struct wr_buf *out, const char *command)
{
	FILE *f = popen(command, "r");
	int c;

	assert_non_null(f);
	wr_buf_clear(out);
	while ((c = getc(f)) != EOF)
		wr_buf_add8(out, (uint8_t)c);
	if (pclose(f) != 0)
		wr_buf_clear(out);
	if (out->len && out->p[out->len - 1] == '\n')
		out->len--;
	wr_buf_str(out);
}

static void
assert_as_bup(const char *dir, const struct wr_buf *b, const char *what)
{
	WR_SCOPED(wr_freep) char *file = wr_asprintf("%s/file", dir);
	WR_SCOPED(wr_freep)
	char *command = wr_asprintf("export BUP_DIR='%s/repo' GIT_DIR='%s/repo' LC_ALL=C; "
				    "bup split -q -n x -0 <'%s/file' && "
				    "git ls-tree x | sed 's/^[0-9]* \\([a-z]* [0-9a-f]*\\).*/\\1/'",
				    dir, dir, dir);
	struct wr_buf want = WR_BUF_INIT;
	FILE *f = fopen(file, "wb");

	assert_non_null(f);
	if (b->len)
		assert_int_equal(fwrite(b->p, 1, b->len, f), b->len);
	assert_int_equal(fclose(f), 0);
	run(&want, command);
	if (strcmp(store(b->p, b->len).s, (const char *)want.p) != 0)
		fail_msg("%s: stored as %s, by bup as %s", what, store(b->p, b->len).s, want.p);
	wr_buf_fini(&want);
}

static int
make_dir(void **state)
{
	const char *tmp = getenv("TMPDIR");
	char *dir = wr_asprintf("%s/hashtree_test.XXXXXX", tmp ? tmp : "/tmp");

	*state = dir;
	return mkdtemp(dir) ? 0 : -1;
}

static int
remove_dir(void **state)
{
	WR_SCOPED(wr_freep) char *dir = *state;
	WR_SCOPED(wr_freep) char *command = wr_asprintf("rm -rf '%s'", dir);
	struct wr_buf out = WR_BUF_INIT;

	run(&out, command);
	wr_buf_fini(&out);
	return 0;
}

static void
test_hashtree__as_bup_stores_it(void **state)
{
	const char *dir = *state;
	WR_SCOPED(wr_freep) char *init = wr_asprintf("BUP_DIR='%s/repo' bup init 2>&1", dir);
	struct wr_buf b = WR_BUF_INIT, out = WR_BUF_INIT;

	run(&out, "bup version 2>/dev/null");
	if (out.len < 5 || strncmp((const char *)out.p, "0.33.", 5) != 0) {
		wr_buf_fini(&out);
		skip();
	}
	run(&out, init);

	assert_as_bup(dir, &b, "empty");
	td_noise(&b, "one", 1);
	assert_as_bup(dir, &b, "one byte");
	wr_buf_clear(&b);
	td_noise(&b, "noise", (18 << 20) + 3);
	assert_as_bup(dir, &b, "noise");
	wr_buf_clear(&b);
	for (unsigned i = 0; b.len < 17u << 20; i++)
		wr_buf_addf(&b, "%08u a line of a log file that grows by %x\n", i, i * 2654435761u);
	assert_as_bup(dir, &b, "text");
	wr_buf_clear(&b);
	td_fill(&b, 0, 16 << 20);
	assert_as_bup(dir, &b, "zeros, whole blocks");
	wr_buf_clear(&b);
	for (unsigned i = 0; b.len < 20u << 20; i++) {
		WR_SCOPED(wr_freep) char *seed = wr_asprintf("mix%u", i);

		td_fill(&b, (uint8_t)(i % 3 ? 0 : i), 40000 + i * 7919 % 900000);
		td_noise(&b, seed, 30 + i * 104729 % 300000);
		td_low(&b, seed, i * 15485863 % 200000);
	}
	assert_as_bup(dir, &b, "zeros, noise and low entropy");
	wr_buf_clear(&b);
	td_low(&b, "low", (9 << 20) + 77);
	assert_as_bup(dir, &b, "low entropy");
	wr_buf_clear(&b);
	td_hidden(&b, WR_SPLIT_BLOCK + 5000);
	assert_as_bup(dir, &b, "boundaries hidden until the next block");
	b.len = WR_SPLIT_BLOCK;
	assert_as_bup(dir, &b, "boundary hidden to the end");
	wr_buf_fini(&b);
	wr_buf_fini(&out);
}

static uint64_t rng_state;

static uint32_t
rng(uint32_t below)
{
	rng_state = rng_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((rng_state >> 33) % below);
}

static struct wr_id
blob_id(uint32_t n)
{
	return wr_obj_id(WR_OBJ_BLOB, &n, sizeof(n));
}

/* Runs among chunks of all levels must give what single adds give. */
static void
test_hashtree_add_run__as_single_adds(void **state)
{
	static const uint32_t counts[] = {0,   1,     255,   256,   257,  511,
					  512, 65535, 65536, 65537, 70000};
	struct store one_store = {0}, run_store = {0};
	struct wr_hashtree one, run_tree;

	(void)state;
	rng_state = 1;
	wr_hashtree_init(&one, put_tree, &one_store);
	wr_hashtree_init(&run_tree, put_tree, &run_store);
	for (unsigned round = 0; round < 30; round++) {
		unsigned steps = 1 + rng(8);

		for (unsigned i = 0; i < steps; i++) {
			struct wr_id zero = blob_id(rng(2));
			uint32_t count = counts[rng(WR_ARRAY_LEN(counts))];

			for (uint32_t k = 0; k < count; k++)
				assert_int_equal(wr_hashtree_add(&one, &zero, 32768, 0, NULL), 0);
			assert_int_equal(wr_hashtree_add_run(&run_tree, &zero, 32768, count, NULL),
					 0);
			for (uint32_t k = rng(300); k; k--) {
				struct wr_id id = blob_id(k);
				unsigned level = rng(20) ? 0 : rng(WR_HASHTREE_LEVEL_MAX + 1);

				assert_int_equal(wr_hashtree_add(&one, &id, k, level, NULL), 0);
				assert_int_equal(wr_hashtree_add(&run_tree, &id, k, level, NULL),
						 0);
			}
		}
		assert_int_equal(one.total, run_tree.total);
		assert_string_equal(end_tree(&run_tree).s, end_tree(&one).s);
	}
	assert_true(run_store.puts < one_store.puts / 2);
	wr_hashtree_fini(&one);
	wr_hashtree_fini(&run_tree);
}

static void
test_hashtree_add_run__huge_count(void **state)
{
	struct store st = {0};
	struct wr_err err = WR_ERR_INIT;
	struct wr_id id = blob_id(0);
	struct wr_hashtree t;
	struct result whole;

	(void)state;
	wr_hashtree_init(&t, put_tree, &st);
	/* 2^32 equal chunks are four levels of the same tree each. */
	assert_int_equal(wr_hashtree_add_run(&t, &id, 32768, UINT64_C(1) << 32, NULL), 0);
	whole = end_tree(&t);
	assert_int_equal(st.puts, 4);
	/* The same in two parts that no tree's border separates. */
	assert_int_equal(wr_hashtree_add_run(&t, &id, 32768, 1000001, NULL), 0);
	assert_int_equal(wr_hashtree_add_run(&t, &id, 32768, (UINT64_C(1) << 32) - 1000001, NULL),
			 0);
	assert_string_equal(end_tree(&t).s, whole.s);

	assert_int_equal(wr_hashtree_add_run(&t, &id, 2, UINT64_C(1) << 63, &err), -1);
	assert_int_equal(err.code, WR_E_LIMIT);
	assert_int_equal(wr_hashtree_add_run(&t, &id, 1, UINT64_MAX, NULL), 0);
	assert_int_equal(wr_hashtree_add(&t, &id, 1, 0, &err), -1);
	assert_int_equal(err.code, WR_E_LIMIT);
	assert_int_equal(t.total, 0);
	wr_hashtree_fini(&t);
}

/* Levels of boundaries shape the tree: seen through the number of trees stored. */
static void
test_hashtree__levels(void **state)
{
	struct store st = {0};
	struct wr_id id = blob_id(0);
	struct wr_hashtree t;

	(void)state;
	wr_hashtree_init(&t, put_tree, &st);
	/* A lone element moves up as it is, so one chunk of any level is no tree. */
	assert_int_equal(wr_hashtree_add(&t, &id, 5, WR_HASHTREE_LEVEL_MAX, NULL), 0);
	assert_memory_equal(end_tree(&t).s, "blob", 4);
	assert_int_equal(st.puts, 0);
	/* (a b) (c d), e */
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(wr_hashtree_add(&t, &id, 5, i % 2, NULL), 0);
	assert_memory_equal(end_tree(&t).s, "tree", 4);
	assert_int_equal(st.puts, 3);
	wr_hashtree_fini(&t);
}

static void
test_hashtree__failing_store_empties_it(void **state)
{
	struct store st = {0};
	struct wr_err err = WR_ERR_INIT;
	struct wr_id id = blob_id(0), got;
	struct wr_hashtree t;
	struct result want;
	uint32_t mode = 7;
	bool empty;

	(void)state;
	wr_hashtree_init(&t, put_tree, &st);
	assert_int_equal(wr_hashtree_add_run(&t, &id, 9, 70000, NULL), 0);
	want = end_tree(&t);
	for (size_t n = 1; n <= 5; n++) {
		int r;

		st = (struct store){.fail_at = n};
		r = wr_hashtree_add_run(&t, &id, 9, 70000, &err);
		if (r == 0)
			r = wr_hashtree_end(&t, &mode, &got, &empty, &err);
		assert_int_equal(r, -1);
		assert_int_equal(err.code, WR_E_NOSPACE);
		assert_int_equal(mode, 7);
		assert_int_equal(t.total, 0);
		st.fail_at = 0;
		assert_int_equal(wr_hashtree_add_run(&t, &id, 9, 70000, NULL), 0);
		assert_string_equal(end_tree(&t).s, want.s);
	}
	st = (struct store){.fail_at = 1};
	for (unsigned i = 0; i < 256; i++)
		assert_int_equal(wr_hashtree_add(&t, &id, 9, 0, &err), i == 255 ? -1 : 0);
	assert_int_equal(t.total, 0);
	wr_hashtree_fini(&t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_hashtree__known_ids),
	    cmocka_unit_test(test_hashtree__levels),
	    cmocka_unit_test_setup_teardown(test_hashtree__as_bup_stores_it, make_dir, remove_dir),
	    cmocka_unit_test(test_hashtree_add_run__as_single_adds),
	    cmocka_unit_test(test_hashtree_add_run__huge_count),
	    cmocka_unit_test(test_hashtree__failing_store_empties_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

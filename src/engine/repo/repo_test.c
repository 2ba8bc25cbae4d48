/* SPDX-License-Identifier: Apache-2.0 */
/* Making, opening and locking repositories; configuration; reading what git and bup wrote. */
#include "engine/repo/test_repo.h"

#include "engine/repo/repo_int.h"

/* ---- init ---- */

static void
test_init__git_and_bup_accept_it(WR_UNUSED void **state)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;
	struct wr_repo *r = new_repo();

	assert_int_equal(wr_repo_config(r)->split_bits, 16);
	assert_int_equal(strlen(wr_repo_config(r)->id), 31);
	wr_repo_close(r);
	must_run("git fsck --full --strict");
	must_run("bup ls");
	assert_int_equal(run(&out, "git config bup.split.files && git config core.bare && "
				   "git config pack.indexversion && git symbolic-ref HEAD"),
			 0);
	assert_string_equal(wr_buf_str(&out), "legacy:16\ntrue\n2\nrefs/heads/main\n");
	/* bup writes into it */
	must_run("mkdir -p src && echo hello >src/f && bup index -u src && bup save -q -n b src");
	r = open_repo();
	assert_reads_all(r);
	wr_repo_close(r);
	must_run("rm -rf src");
}

static void
test_init__thirteen_bits_are_not_written(WR_UNUSED void **state)
{
	bool existed = true;
	struct wr_repo *r;

	must_run("rm -rf a");
	assert_ok(wr_repo_init(path_of("a/b/c").s, 13, &existed, &err));
	assert_false(existed);
	assert_int_equal(run(NULL, "GIT_DIR=a/b/c git config bup.split.files"), 1);
	assert_ok(wr_repo_open(path_of("a/b/c").s, &r, &err));
	assert_int_equal(wr_repo_config(r)->split_bits, 13);
	wr_repo_close(r);
}

static void
test_init__existing_is_left_alone(WR_UNUSED void **state)
{
	bool existed = false;

	must_run("rm -rf repo && git init -q --bare repo && find repo | sort | xargs ls -ld >1");
	assert_ok(wr_repo_init(path_of("repo").s, 16, &existed, &err));
	assert_true(existed);
	must_run("find repo | sort | xargs ls -ld >2 && cmp 1 2");
}

static void
test_init__interrupted_is_completed(WR_UNUSED void **state)
{
	bool existed = true;
	struct wr_repo *r;

	must_run("rm -rf repo && mkdir -p repo/objects/pack repo/refs && "
		 "echo x >repo/config.tmp-abc");
	assert_fails(wr_repo_open(path_of("repo").s, &r, &err), WR_E_NOT_FOUND);
	assert_ok(wr_repo_init(path_of("repo").s, 16, &existed, &err));
	assert_false(existed);
	must_run("git fsck --full --strict");
}

static void
test_init__refuses_what_is_not_empty(WR_UNUSED void **state)
{
	bool existed;

	must_run("rm -rf repo && mkdir repo && echo precious >repo/file");
	assert_fails(wr_repo_init(path_of("repo").s, 16, &existed, &err), WR_E_EXISTS);
	assert_string_not_equal(err.hint, "");
	must_run("test \"$(ls repo)\" = file && rm -rf repo && echo x >repo");
	assert_int_equal(wr_repo_init(path_of("repo").s, 16, &existed, &err), -1);
	must_run("rm repo");
}

/* ---- open and configuration ---- */

static void
test_open__absent(WR_UNUSED void **state)
{
	struct wr_repo *r;

	assert_fails(wr_repo_open(path_of("nowhere").s, &r, &err), WR_E_NOT_FOUND);
	assert_non_null(strstr(err.hint, "warren repo init"));
	must_run("mkdir -p plain");
	assert_fails(wr_repo_open(path_of("plain").s, &r, &err), WR_E_NOT_FOUND);
}

static void
test_open__work_tree(WR_UNUSED void **state)
{
	struct wr_repo *r;

	must_run("rm -rf tree && unset GIT_DIR && git init -q tree");
	assert_ok(wr_repo_open(path_of("tree").s, &r, &err));
	assert_non_null(strstr(wr_repo_path(r), "tree/.git"));
	wr_repo_close(r);
}

static void
test_open__unsupported(WR_UNUSED void **state)
{
	static const char *const configs[] = {
	    "core.repositoryformatversion 2",
	    "extensions.objectformat sha256",
	    "extensions.refstorage reftable",
	    "extensions.somethingnew true",
	};
	struct wr_repo *r;

	for (size_t i = 0; i < WR_ARRAY_LEN(configs); i++) {
		must_run("rm -rf repo && git init -q --bare repo");
		assert_int_equal(run(NULL,
				     "f=repo/config; git config -f $f "
				     "core.repositoryformatversion 1; git config -f $f %s",
				     configs[i]),
				 0);
		assert_fails(wr_repo_open(path_of("repo").s, &r, &err), WR_E_UNSUPPORTED);
	}
}

static void
test_open__split_trees_is_read_only(WR_UNUSED void **state)
{
	struct wr_repo *r;

	must_run("rm -rf repo && git init -q --bare repo && git config bup.split.trees true && "
		 "git config pack.packSizeLimit 100k && git config bup.split.files legacy:15 && "
		 "git config bup.repo.id abc");
	r = open_repo();
	assert_true(wr_repo_config(r)->split_trees);
	assert_int_equal(wr_repo_config(r)->pack_size_limit, 102400);
	assert_int_equal(wr_repo_config(r)->split_bits, 15);
	assert_string_equal(wr_repo_config(r)->id, "abc");
	assert_fails(wr_repo_lock(r, "test", 0, &err), WR_E_UNSUPPORTED);
	wr_repo_close(r);
	must_run("git config bup.split.trees false && git config bup.split.files new:1");
	r = open_repo();
	assert_fails(wr_repo_lock(r, "test", 0, &err), WR_E_UNSUPPORTED);
	wr_repo_close(r);
}

static void
collect(void *ctx, const char *key, const char *value)
{
	wr_buf_addf(ctx, "%s=%s\n", key, value ? value : "(true)");
}

static void
test_config__syntax(WR_UNUSED void **state)
{
	static const char text[] = "# c\n[Core] Bare\n\tx = a  b  ; c\r\n"
				   "[a \"B\\\"c\"]\n k=\"x ; y\" z\\\n  w\\t#\n"
				   "[dot.Sub]\nname = \n [e]\nlast=1";
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;

	assert_ok(wr_config_parse(text, sizeof(text) - 1, collect, &out, &err));
	assert_string_equal(wr_buf_str(&out), "core.bare=(true)\ncore.x=a  b\n"
					      "a.B\"c.k=x ; y z  w\t\ndot.sub.name=\ne.last=1\n");
}

static void
test_config__malformed(WR_UNUSED void **state)
{
	static const char *const bad[] = {"[a\n",           "x = 1\n",        "[a]\nx 1\n",
					  "[a]\nx = \"y\n", "[a]\nx = \\q\n", "[a \"b]\n",
					  "[]\n",           "[a]\n1x = 2\n"};
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;

	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++)
		assert_fails(wr_config_parse(bad[i], strlen(bad[i]), collect, &out, &err),
			     WR_E_CORRUPT);
	assert_fails(wr_config_parse("[a]\nb = 1\n\nc d\n", 16, collect, &out, &err), WR_E_CORRUPT);
	assert_non_null(strstr(err.msg, "line 4"));
}

/* ---- lock ---- */

static void
test_lock__second_writer_is_refused(WR_UNUSED void **state)
{
	struct wr_repo *a = new_repo(), *b = open_repo();

	assert_true(wr_repo_locked(a));
	assert_fails(wr_repo_lock(b, "other", 0, &err), WR_E_BUSY);
	assert_non_null(strstr(err.msg, "test, since 20"));
	wr_repo_unlock(a);
	assert_ok(wr_repo_lock(b, "other", 0, &err));
	wr_repo_close(b);
	wr_repo_close(a);
}

static void
test_lock__removes_what_a_dead_writer_left(WR_UNUSED void **state)
{
	struct wr_repo *r = new_repo();

	wr_repo_close(r);
	must_run("mkdir repo/objects/pack-tmp-warren-aaaaaaaaaaaa && "
		 "echo x >repo/objects/pack-tmp-warren-aaaaaaaaaaaa/pack && "
		 "touch repo/refs/heads/ours.lock repo/refs/heads/git.lock && "
		 "printf 'pid 1, save, since x\\nref refs/heads/ours\\n"
		 "ref ../../../etc/x\\n' >repo/warren/lock");
	r = open_repo();
	assert_ok(wr_repo_lock(r, "test", 0, &err));
	must_run("test ! -e repo/objects/pack-tmp-warren-aaaaaaaaaaaa && "
		 "test ! -e repo/refs/heads/ours.lock && test -e repo/refs/heads/git.lock");
	wr_repo_close(r);
}

/* ---- reading what git and bup wrote ---- */

static void
test_read__every_shape_git_leaves(WR_UNUSED void **state)
{
	static const char *const shapes[] = {
	    "git repack -adfq --depth=50",
	    "git repack -adq -b && touch repo/objects/pack/$(ls repo/objects/pack | "
	    "sed -n 's/pack$/keep/p' | head -1)",
	    "git unpack-objects -q <$(ls repo/objects/pack/*.pack | head -1) && "
	    "mv repo/objects/pack old && mkdir repo/objects/pack && "
	    "cat old/*.pack | git unpack-objects -q",
	    "git pack-refs --all && for i in 1 2 3 4 5 6 7; do "
	    "echo $i | git hash-object -w --stdin && git repack -q; done && git gc -q --no-prune",
	    "git multi-pack-index write && git -c user.name=a -c user.email=a@b tag -a -m t v1 "
	    "main && git pack-refs --all",
	    "git config pack.indexversion 1 && git repack -adfq",
	};

	git_history(30);
	for (size_t i = 0; i < WR_ARRAY_LEN(shapes); i++) {
		struct wr_repo *r;

		must_run(shapes[i]);
		r = open_repo();
		assert_reads_all(r);
		wr_repo_close(r);
	}
	must_run("rm -rf old");
}

static void
test_read__bup_with_midx(WR_UNUSED void **state)
{
	struct wr_id tip;
	struct wr_repo *r;
	struct wr_reader *rd;
	struct wr_commit c = WR_COMMIT_INIT;

	must_run("rm -rf repo src && bup init && mkdir src && for i in 1 2 3 4 5 6 7 8; do "
		 "seq $i $((i*3000)) >src/f$i; bup index -u src && bup save -q -n b src; done && "
		 "bup midx -a && ls repo/objects/pack/*.midx");
	tip = git_id("git rev-parse b");
	r = open_repo();
	assert_true(wr_repo_pack_count(r) >= 8);
	assert_reads_all(r);
	assert_true(wr_repo_has(r, &tip));
	rd = wr_reader_new(r);
	assert_ok(wr_repo_read_commit(rd, &tip, &c, &err));
	assert_int_equal(c.parent_count, 1);
	wr_commit_fini(&c);
	wr_reader_free(rd);
	wr_repo_close(r);
	/* a midx that names a missing index is ignored */
	must_run("git repack -adq");
	r = open_repo();
	assert_int_equal(wr_repo_pack_count(r), 1);
	assert_reads_all(r);
	wr_repo_close(r);
	must_run("rm -rf src");
}

static void
test_read__absent_wrong_type_and_packs_that_go(WR_UNUSED void **state)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf payload = WR_BUF_INIT;
	struct wr_id id = {{1, 2, 3}}, tip, fresh;
	struct wr_repo *r;
	struct wr_reader *rd;

	git_history(5);
	tip = git_id("git rev-parse main");
	r = open_repo();
	rd = wr_reader_new(r);
	assert_fails(wr_repo_read(rd, &id, WR_OBJ_NONE, false, NULL, &payload, &err),
		     WR_E_NOT_FOUND);
	assert_non_null(strstr(err.msg, wr_id_hex(&id).s));
	assert_fails(wr_repo_read(rd, &tip, WR_OBJ_TREE, false, NULL, &payload, &err),
		     WR_E_CORRUPT);
	assert_false(wr_repo_exists(r, &id));
	/* repacked under our eyes: the pack we know goes, another comes */
	must_run("echo more | git hash-object -w --stdin >new && git repack -adfq && "
		 "git update-ref refs/tags/t $(cat new) && git repack -adfq");
	fresh = git_id("cat new");
	assert_ok(wr_repo_read(rd, &tip, WR_OBJ_COMMIT, true, NULL, &payload, &err));
	assert_ok(wr_repo_read(rd, &fresh, WR_OBJ_BLOB, true, NULL, &payload, &err));
	assert_string_equal(wr_buf_str(&payload), "more\n");
	wr_reader_free(rd);
	wr_repo_close(r);
}

/* Overwrite the middle of the first pack. */
static void
damage_pack(const char *sort)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;

	assert_int_equal(run(&out,
			     "p=$(ls %s repo/objects/pack/*.pack | head -1); chmod u+w $p; "
			     "s=$(stat -c %%s $p); head -c $((s/2)) /dev/zero | dd of=$p bs=1 "
			     "seek=$((s/4)) conv=notrunc 2>/dev/null",
			     sort),
			 0);
}

static void
test_read__falls_through_to_good_copies(WR_UNUSED void **state)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf payload = WR_BUF_INIT;
	struct wr_repo *r;
	struct wr_reader *rd;

	/* the same objects in two packs, the older one damaged, then both, with loose copies */
	git_history(10);
	must_run("cp -r repo/objects/pack keep && git repack -adfq --depth=1 && "
		 "cp -n keep/* repo/objects/pack/ && rm -rf keep && "
		 "test $(ls repo/objects/pack/*.pack | wc -l) = 2");
	damage_pack("-S");
	r = open_repo();
	assert_reads_all(r);
	wr_repo_close(r);
	damage_pack("-rS");
	r = open_repo();
	rd = wr_reader_new(r);
	for (unsigned i = 0, bad = 0;; i++) {
		struct wr_id id;

		if (i == wr_repo_pack_idx(r, 0)->count) {
			assert_true(bad > 0);
			break;
		}
		id = wr_idx_id(wr_repo_pack_idx(r, 0), i);
		if (wr_repo_read(rd, &id, WR_OBJ_NONE, true, NULL, &payload, &err) < 0) {
			assert_int_equal(err.code, WR_E_CORRUPT);
			assert_non_null(strstr(err.msg, wr_id_hex(&id).s));
			bad++;
		}
	}
	wr_reader_free(rd);
	wr_repo_close(r);
}

static void
test_ordinal__dense_and_reversible(WR_UNUSED void **state)
{
	struct wr_repo *r;
	uint64_t end, seen = 0;

	git_history(10);
	must_run("for i in 1 2 3; do echo $i | git hash-object -w --stdin >n && "
		 "git pack-objects -q repo/objects/pack/pack <n; done");
	r = open_repo();
	end = wr_repo_ordinal_end(r);
	assert_int_equal(wr_repo_pack_count(r), 4);
	for (uint64_t o = 0; o < end; o++) {
		struct wr_id id = wr_repo_ordinal_id(r, o);

		assert_false(wr_id_is_zero(&id));
		assert_int_equal(wr_repo_ordinal(r, &id), o);
		seen++;
	}
	assert_true(seen > 40);
	wr_repo_close(r);
}

static void
test_abbrev__unique_ambiguous_absent(WR_UNUSED void **state)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf dup = WR_BUF_INIT;
	struct wr_id tip, out;
	struct wr_repo *r;

	git_history(400); /* 1600 objects, of which some begin with the same 4 digits */
	tip = git_id("git rev-parse main");
	r = open_repo();
	assert_ok(wr_repo_abbrev(r, wr_id_hex(&tip).s, &out, &err));
	assert_id_equal(&out, &tip);
	assert_ok(wr_repo_abbrev(r, wr_id_short(&tip).s, &out, &err));
	assert_fails(wr_repo_abbrev(r, "abc", &out, &err), WR_E_INVALID);
	assert_fails(wr_repo_abbrev(r, "abcdefgh", &out, &err), WR_E_INVALID);
	must_run("git rev-list --objects --all | cut -c1-4 | sort | uniq -d | head -1 >dup && "
		 "test -s dup");
	assert_int_equal(run(&dup, "cat dup"), 0);
	wr_buf_str(&dup)[4] = '\0';
	assert_fails(wr_repo_abbrev(r, wr_buf_str(&dup), &out, &err), WR_E_INVALID);
	assert_string_not_equal(err.hint, "");
	/* a loose one */
	must_run("echo loose-only | git hash-object -w --stdin >loose");
	tip = git_id("cat loose");
	assert_ok(wr_repo_abbrev(r, wr_id_short(&tip).s, &out, &err));
	assert_id_equal(&out, &tip);
	assert_fails(wr_repo_abbrev(r, "0123456789012345678901234567890123456789", &out, &err),
		     WR_E_NOT_FOUND);
	wr_repo_close(r);
}

static void
test_open__garbage_in_the_pack_directory(WR_UNUSED void **state)
{
	struct wr_repo *r;

	git_history(5);
	must_run("cd repo/objects/pack && echo junk >pack-0.idx && echo junk >pack-1.pack && "
		 "echo junk >pack-1.idx && echo junk >midx-0.midx && mkdir d.pack && "
		 "cp $(ls pack-????*.idx | head -1) orphan.idx && echo x >tmp_pack_x");
	r = open_repo();
	assert_reads_all(r);
	wr_repo_close(r);
}

/* ---- midx ---- */

static void
test_index_maintain__bup_checks_it(WR_UNUSED void **state)
{
	struct wr_repo *r;

	git_history(3);
	must_run("for i in $(seq 20); do echo $i | git hash-object -w --stdin >n && "
		 "git pack-objects -q repo/objects/pack/pack <n; done && rm -f n");
	r = open_repo();
	assert_ok(wr_repo_index_maintain(r, &err));
	must_run("test $(ls repo/objects/pack/*.midx | wc -l) = 1 && bup midx --check -a");
	assert_reads_all(r);
	for (uint64_t o = 0; o < wr_repo_ordinal_end(r); o++) {
		struct wr_id id = wr_repo_ordinal_id(r, o);

		assert_true(wr_repo_has(r, &id));
	}
	/* few more: left alone; many more: merged */
	must_run("for i in 31 32; do echo $i | git hash-object -w --stdin >n && "
		 "git pack-objects -q repo/objects/pack/pack <n; done");
	assert_ok(wr_repo_refresh(r, &err));
	assert_ok(wr_repo_index_maintain(r, &err));
	must_run("test $(ls repo/objects/pack/*.midx | wc -l) = 1");
	must_run("for i in $(seq 41 60); do echo $i | git hash-object -w --stdin >n && "
		 "git pack-objects -q repo/objects/pack/pack <n; done");
	assert_ok(wr_repo_refresh(r, &err));
	assert_ok(wr_repo_index_maintain(r, &err));
	must_run("test $(ls repo/objects/pack/*.midx | wc -l) = 1 && bup midx --check -a");
	assert_reads_all(r);
	wr_repo_close(r);
}

static void
test_has__filter_agrees_with_indexes(WR_UNUSED void **state)
{
	struct wr_repo *r;
	uint64_t seed = 3, hits = 0;
	struct wr_id later;

	git_history(200);
	r = open_repo();
	for (unsigned i = 0; i < 100000; i++) {
		struct wr_id id;

		for (size_t k = 0; k < WR_ID_LEN; k++)
			id.b[k] = (uint8_t)test_random(&seed);
		hits += wr_repo_has(r, &id);
	}
	assert_int_equal(hits, 0);
	assert_non_null(r->filter);
	for (uint64_t o = 0; o < wr_repo_ordinal_end(r); o++) {
		struct wr_id id = wr_repo_ordinal_id(r, o);

		assert_true(wr_repo_has(r, &id));
	}
	/* a pack that comes later is in the filter too */
	must_run("echo later | git hash-object -w --stdin >n && "
		 "git pack-objects -q repo/objects/pack/pack <n");
	later = git_id("cat n");
	assert_false(wr_repo_has(r, &later));
	assert_ok(wr_repo_refresh(r, &err));
	assert_true(wr_repo_has(r, &later));
	wr_repo_close(r);
}

static void
test_acquire__many_packs_few_descriptors(WR_UNUSED void **state)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf payload = WR_BUF_INIT;
	struct wr_repo *r;
	struct wr_reader *rd;

	must_run("rm -rf repo && git init -q --bare -b main repo && for i in $(seq 230); do "
		 "echo $i | git hash-object -w --stdin | git pack-objects -q "
		 "repo/objects/pack/pack; done >/dev/null");
	r = open_repo();
	rd = wr_reader_new(r);
	assert_int_equal(wr_repo_pack_count(r), 230);
	for (int round = 0; round < 2; round++)
		for (uint64_t o = 0; o < wr_repo_ordinal_end(r); o++) {
			struct wr_id id = wr_repo_ordinal_id(r, o);

			assert_ok(wr_repo_read(rd, &id, WR_OBJ_BLOB, true, NULL, &payload, &err));
		}
	assert_true(r->open_count <= WR_PACK_FDS_MAX);
	assert_non_null(wr_repo_pack(r, 0, &err));
	assert_true(wr_repo_pack(r, 0, &err) == wr_repo_pack(r, 0, &err));
	wr_reader_free(rd);
	wr_repo_close(r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_init__git_and_bup_accept_it),
	    cmocka_unit_test(test_init__thirteen_bits_are_not_written),
	    cmocka_unit_test(test_init__existing_is_left_alone),
	    cmocka_unit_test(test_init__interrupted_is_completed),
	    cmocka_unit_test(test_init__refuses_what_is_not_empty),
	    cmocka_unit_test(test_open__absent),
	    cmocka_unit_test(test_open__work_tree),
	    cmocka_unit_test(test_open__unsupported),
	    cmocka_unit_test(test_open__split_trees_is_read_only),
	    cmocka_unit_test(test_open__garbage_in_the_pack_directory),
	    cmocka_unit_test(test_config__syntax),
	    cmocka_unit_test(test_config__malformed),
	    cmocka_unit_test(test_lock__second_writer_is_refused),
	    cmocka_unit_test(test_lock__removes_what_a_dead_writer_left),
	    cmocka_unit_test(test_read__every_shape_git_leaves),
	    cmocka_unit_test(test_read__bup_with_midx),
	    cmocka_unit_test(test_read__absent_wrong_type_and_packs_that_go),
	    cmocka_unit_test(test_read__falls_through_to_good_copies),
	    cmocka_unit_test(test_ordinal__dense_and_reversible),
	    cmocka_unit_test(test_abbrev__unique_ambiguous_absent),
	    cmocka_unit_test(test_index_maintain__bup_checks_it),
	    cmocka_unit_test(test_has__filter_agrees_with_indexes),
	    cmocka_unit_test(test_acquire__many_packs_few_descriptors),
	};

	return cmocka_run_group_tests(tests, setup_dir, teardown_dir);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Verify and the rebuilding of indexes: every kind of damage is made, found and named. */
#include "engine/repo/test_repo.h"

#include "engine/repo/repo_int.h"
#include "engine/repo/verify.h"

static struct wr_verify_result
verify(struct wr_repo *r, bool data)
{
	struct wr_verify_opts o = {.data = data, .threads = 2};
	struct wr_verify_result v;

	assert_ok(wr_verify(r, &o, &v, &err));
	return v;
}

static size_t
count_kind(const struct wr_verify_result *v, enum wr_damage_kind kind)
{
	size_t n = 0;

	for (size_t i = 0; i < v->damage_count; i++) {
		n += v->damage[i].kind == kind;
		assert_non_null(v->damage[i].why);
	}
	return n;
}

/* Is exactly this path of this snapshot hurt? NULL: any snapshot. */
static bool
is_hurt(struct wr_verify_result *v, const char *snapshot, const char *path)
{
	for (size_t i = 0; i < v->hurt_count; i++)
		if ((!snapshot || !strcmp(v->hurt[i].snapshot, snapshot)) &&
		    !strcmp(wr_buf_str(&v->hurt[i].path), path))
			return true;
	return false;
}

/* "repo" by bup: two saves of small files, a directory, a file of many chunks. */
static void
bup_repo(void)
{
	must_run("rm -rf repo src old && bup init && mkdir -p src/dir/sub && echo one >src/one && "
		 "echo two >src/dir/two && echo three >src/dir/sub/three && "
		 "seq 300000 >src/dir/big.bup && bup index -u src && "
		 "bup save -q --strip -d 1700000000 -n b src && echo more >src/more && "
		 "bup index -u src && bup save -q --strip -d 1700000060 -n b src && rm -rf src");
}

/* Overwrite the stored bytes of an object in every pack that has it. */
static void
damage_object(struct wr_repo *r, const struct wr_id *id)
{
	size_t hits = 0;

	for (size_t i = 0; i < wr_repo_pack_count(r); i++) {
		const struct wr_idx *x = wr_repo_pack_idx(r, i);
		int64_t at = x ? wr_idx_find(x, id) : -1;

		if (at < 0)
			continue;
		assert_int_equal(run(NULL,
				     "p=repo/objects/pack/%s.pack; chmod u+w $p; "
				     "printf '\\377\\377\\377\\377' | dd of=$p bs=1 seek=%" PRIu64
				     " conv=notrunc 2>/dev/null",
				     wr_repo_pack_name(r, i), wr_idx_offset(x, (uint32_t)at) + 3),
				 0);
		hits++;
	}
	assert_true(hits > 0);
}

static void
test_verify__whole(WR_UNUSED void **state)
{
	static const char *const shapes[] = {
	    "true",
	    "bup midx -f",
	    "git -c user.name=a -c user.email=a@b tag -a -m x ann b && git tag tree b^{tree}",
	    "git repack -adfq",
	    "o=repo/objects; mv $o/pack old; mkdir $o/pack; git unpack-objects -q <$(ls old/*k)",
	};

	bup_repo();
	for (size_t i = 0; i < WR_ARRAY_LEN(shapes); i++)
		for (int data = 0; data < 2; data++) {
			struct wr_verify_result v;
			struct wr_repo *r;

			if (data == 0)
				must_run(shapes[i]);
			r = open_repo();
			v = verify(r, data);
			if (v.damage_count)
				fail_msg("%s: %s", shapes[i], v.damage[0].why);
			assert_true(wr_verify_whole(&v));
			assert_int_equal(v.snapshots, 2);
			assert_int_equal(v.refs, i < 2 ? 1 : 3);
			assert_int_equal(v.objects, wr_repo_ordinal_end(r));
			wr_verify_result_fini(&v);
			wr_repo_close(r);
		}
	must_run("rm -rf repo && git init -q --bare repo");
	{
		struct wr_repo *r = open_repo();
		struct wr_verify_result v = verify(r, true);

		assert_true(wr_verify_whole(&v));
		wr_verify_result_fini(&v);
		wr_repo_close(r);
	}
}

static void
test_verify__damaged_blob_names_its_file(WR_UNUSED void **state)
{
	struct wr_repo *r;
	struct wr_verify_result v;
	struct wr_id id;

	bup_repo();
	r = open_repo();
	id = git_id("git rev-parse b:dir/two");
	damage_object(r, &id);
	v = verify(r, true);
	assert_false(wr_verify_whole(&v));
	assert_int_equal(v.damage_count, 1);
	assert_int_equal(v.damage[0].kind, WR_DAMAGE_BAD);
	assert_id_equal(&v.damage[0].id, &id);
	assert_non_null(strstr(v.damage[0].where, ".pack"));
	assert_int_equal(v.hurt_count, 2);
	assert_true(is_hurt(&v, "b/2023-11-14-221320", "dir/two"));
	assert_true(is_hurt(&v, "b/2023-11-14-221420", "dir/two"));
	assert_id_equal(&v.hurt[0].object, &id);
	wr_verify_result_fini(&v);
	/* a good copy elsewhere */
	must_run("rm -rf other && git init -q --bare other && "
		 "echo two | GIT_DIR=other git hash-object -w --stdin && "
		 "cp -r other/objects/?? repo/objects/ && rm -rf other");
	v = verify(r, true);
	assert_true(wr_verify_whole(&v));
	assert_int_equal(v.damage_count, 1);
	assert_int_equal(v.damage[0].kind, WR_DAMAGE_SHADOWED);
	wr_verify_result_fini(&v);
	wr_repo_close(r);
}

static void
test_verify__chunked_file_once_and_metadata_as_directory(WR_UNUSED void **state)
{
	struct wr_repo *r;
	struct wr_verify_result v;
	struct wr_id id;

	bup_repo();
	r = open_repo();
	must_run("git ls-tree -r b:dir/big.bup.bup >list && test $(wc -l <list) -gt 20");
	id = git_id("sed -n 3p list | cut -c13-52");
	damage_object(r, &id);
	id = git_id("sed -n 9p list | cut -c13-52");
	damage_object(r, &id);
	id = git_id("git rev-parse b:dir/sub/.bupm");
	damage_object(r, &id);
	v = verify(r, true);
	assert_int_equal(v.damage_count, 3);
	assert_int_equal(v.hurt_count, 4);
	assert_true(is_hurt(&v, "b/2023-11-14-221320", "dir/big.bup"));
	assert_true(is_hurt(&v, "b/2023-11-14-221320", "dir/sub"));
	wr_verify_result_fini(&v);
	/* trees are read in any case */
	id = git_id("git rev-parse b:dir");
	damage_object(r, &id);
	v = verify(r, false);
	assert_int_equal(v.damage_count, 1);
	assert_int_equal(v.hurt_count, 2);
	assert_true(is_hurt(&v, "b/2023-11-14-221320", "dir"));
	wr_verify_result_fini(&v);
	wr_repo_close(r);
}

static void
test_verify__missing_objects_and_commits(WR_UNUSED void **state)
{
	struct wr_repo *r;
	struct wr_verify_result v;

	bup_repo();
	must_run("mv repo/objects/pack old && mkdir repo/objects/pack && "
		 "for p in old/*.pack; do git unpack-objects -q <$p; done && rm -rf old && "
		 "rm_object() { f=$(git rev-parse $1 | sed 's,^..,&/,'); "
		 "mv repo/objects/$f gone-$2; }; rm_object b:one 1; r=$(git rev-parse b~1); "
		 "rm_object b:dir/sub 2; rm_object b~1 3; git tag old $r 2>/dev/null || "
		 "echo $r >repo/refs/tags/old");
	r = open_repo();
	v = verify(r, false);
	assert_int_equal(count_kind(&v, WR_DAMAGE_MISSING), 3);
	assert_int_equal(count_kind(&v, WR_DAMAGE_REF), 1);
	assert_int_equal(v.damage_count, 4);
	assert_true(is_hurt(&v, "b/2023-11-14-221420", "one"));
	assert_true(is_hurt(&v, "b/2023-11-14-221420", "dir/sub"));
	assert_true(is_hurt(&v, NULL, ""));
	assert_false(wr_verify_whole(&v));
	wr_verify_result_fini(&v);
	wr_repo_close(r);
	must_run("rm -f gone-*");
}

static void
test_verify__refs(WR_UNUSED void **state)
{
	struct wr_repo *r;
	struct wr_verify_result v;

	bup_repo();
	must_run("echo junk >repo/refs/heads/x && echo 'ref: refs/../x' >repo/HEAD && "
		 "echo 1234567890123456789012345678901234567890 >repo/refs/tags/nowhere && "
		 "echo junk >>repo/packed-refs");
	r = open_repo();
	v = verify(r, false);
	assert_int_equal(count_kind(&v, WR_DAMAGE_REF), 4);
	assert_int_equal(count_kind(&v, WR_DAMAGE_MISSING), 1);
	assert_false(wr_verify_whole(&v));
	assert_true(is_hurt(&v, "nowhere", ""));
	wr_verify_result_fini(&v);
	wr_repo_close(r);
}

static void
test_verify__submodules_are_not_followed(WR_UNUSED void **state)
{
	struct wr_repo *r;
	struct wr_verify_result v;

	must_run("rm -rf repo && git init -q --bare -b main repo && "
		 "t=$(printf '160000 commit 1234567890123456789012345678901234567890\\tsub\\n' | "
		 "git mktree --missing) && git update-ref refs/heads/main $(echo m | "
		 "git -c user.name=a -c user.email=a@b commit-tree $t)");
	r = open_repo();
	v = verify(r, true);
	assert_true(wr_verify_whole(&v));
	assert_int_equal(v.damage_count, 0);
	wr_verify_result_fini(&v);
	wr_repo_close(r);
}

static void
test_verify__many_paths_are_counted(WR_UNUSED void **state)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf s = WR_BUF_INIT;
	struct wr_repo *r;
	struct wr_verify_result v;

	for (unsigned i = 0; i < 40; i++) {
		wr_buf_addf(&s, "commit refs/heads/main\ncommitter A <a@b> %u +0000\ndata 0\n",
			    1000000 + i);
		for (unsigned k = 0; k < 300; k++)
			wr_buf_addf(&s, "M 644 inline c%u/f%u\ndata 4\nlost\n", i / 20, k);
		wr_buf_addf(&s, "M 644 inline c%u/n\ndata 4\n%04u\n", i / 20, i);
	}
	write_file("stream", s.p, s.len);
	must_run("rm -rf repo && git init -q --bare -b main repo && "
		 "git -c fastimport.unpackLimit=0 fast-import --quiet <stream");
	r = open_repo();
	{
		struct wr_id id = git_id("printf lost | git hash-object --stdin");

		damage_object(r, &id);
	}
	v = verify(r, true);
	assert_int_equal(v.hurt_count, 10000);
	/* 20 commits with one directory, 20 with both */
	assert_int_equal(v.hurt_more, 20 * 300 + 20 * 600 - 10000);
	wr_verify_result_fini(&v);
	wr_repo_close(r);
}

static void
test_verify__pack_cut_short_or_gone(WR_UNUSED void **state)
{
	struct wr_repo *r;
	struct wr_verify_result v;

	bup_repo();
	must_run("p=$(ls -S repo/objects/pack/*.pack | head -1); chmod u+w $p; "
		 "truncate -s $(($(stat -c %s $p)/2)) $p");
	r = open_repo();
	v = verify(r, false);
	assert_true(count_kind(&v, WR_DAMAGE_PACK) > 0);
	assert_true(count_kind(&v, WR_DAMAGE_BAD) > 0);
	assert_false(wr_verify_whole(&v));
	wr_verify_result_fini(&v);
	wr_repo_close(r);
	must_run("p=$(ls -S repo/objects/pack/*.pack | head -1); echo junk >$p");
	r = open_repo();
	v = verify(r, false);
	assert_int_equal(count_kind(&v, WR_DAMAGE_PACK), 1);
	assert_false(wr_verify_whole(&v));
	assert_true(v.hurt_count > 0);
	wr_verify_result_fini(&v);
	wr_repo_close(r);
	bup_repo();
	must_run("rm -f $(ls -S repo/objects/pack/*.pack | head -1)");
	r = open_repo();
	v = verify(r, false);
	assert_int_equal(count_kind(&v, WR_DAMAGE_PACK), 1);
	assert_false(wr_verify_whole(&v));
	wr_verify_result_fini(&v);
	wr_repo_close(r);
}

static void
test_verify__trailer_alone(WR_UNUSED void **state)
{
	struct wr_repo *r;
	struct wr_verify_result v;
	uint64_t rebuilt;

	bup_repo();
	must_run("p=$(ls -S repo/objects/pack/*.pack | head -1); chmod u+w $p; "
		 "printf '\\1\\2\\3' | dd of=$p bs=1 seek=$(($(stat -c %s $p)-5)) conv=notrunc "
		 "2>/dev/null");
	r = open_repo();
	for (int data = 0; data < 2; data++) {
		v = verify(r, data);
		assert_int_equal(v.damage_count, 1);
		assert_int_equal(v.damage[0].kind, WR_DAMAGE_PACK);
		assert_true(wr_verify_whole(&v));
		wr_verify_result_fini(&v);
	}
	assert_ok(wr_repo_lock(r, "test", 0, &err));
	assert_ok(wr_repair_indexes(r, &rebuilt, &err));
	assert_int_equal(rebuilt, 0);
	wr_repo_close(r);
}

/* Every way an index can be unusable; afterwards git, bup and verify are content. */
static void
test_repair__indexes(WR_UNUSED void **state)
{
	static const char *const ways[] = {
	    "rm -f $i",
	    ": >$i",
	    "head -c 3000 /dev/urandom >$i",
	    "head -c 500 /dev/zero | dd of=$i bs=1 seek=1300 conv=notrunc 2>/dev/null",
	    "truncate -s -1 $i",
	    "printf '\\1' | dd of=$i bs=1 seek=$(($(stat -c %s $i)-1)) conv=notrunc 2>/dev/null",
	    "cp $(ls -rS repo/objects/pack/*.idx | head -1) $i",
	};

	for (size_t k = 0; k < WR_ARRAY_LEN(ways); k++) {
		struct wr_repo *r;
		struct wr_verify_result v;
		uint64_t rebuilt;

		bup_repo();
		must_run("bup midx -f");
		assert_int_equal(run(NULL,
				     "i=$(ls -S repo/objects/pack/*.idx | head -1); "
				     "chmod u+w $i; %s",
				     ways[k]),
				 0);
		r = open_repo();
		v = verify(r, false);
		/* none at all may also be a killed writer's, and is told apart */
		if (count_kind(&v, k ? WR_DAMAGE_INDEX : WR_DAMAGE_UNINDEXED) != 1)
			fail_msg("%s: not found", ways[k]);
		wr_verify_result_fini(&v);
		assert_ok(wr_repo_lock(r, "test", 0, &err));
		assert_ok(wr_repair_indexes(r, &rebuilt, &err));
		assert_int_equal(rebuilt, 1);
		v = verify(r, true);
		if (v.damage_count)
			fail_msg("%s: %s", ways[k], v.damage[0].why);
		wr_verify_result_fini(&v);
		assert_reads_all(r);
		assert_ok(wr_repair_indexes(r, &rebuilt, &err));
		assert_int_equal(rebuilt, 0);
		wr_repo_close(r);
		must_run("git fsck --full --strict && bup midx --check -a && bup fsck");
	}
}

static int
count_progress(void *ctx, uint64_t done)
{
	uint64_t *last = ctx;

	assert_true(done >= *last);
	*last = done;
	return 0;
}

static int
cancel(void *ctx, uint64_t done)
{
	(void)ctx, (void)done;
	return 1;
}

static void
test_verify__progress_and_cancel(WR_UNUSED void **state)
{
	struct wr_repo *r;

	bup_repo();
	r = open_repo();
	for (int data = 0; data < 2; data++) {
		uint64_t last = 0;
		struct wr_verify_opts o = {
		    .data = data, .threads = 2, .progress = count_progress, .ctx = &last};
		struct wr_verify_result v;

		assert_ok(wr_verify(r, &o, &v, &err));
		assert_true(last > 0);
		assert_int_equal(last, o.total_bytes);
		wr_verify_result_fini(&v);
		o.progress = cancel;
		assert_fails(wr_verify(r, &o, &v, &err), WR_E_CANCELLED);
	}
	wr_repo_close(r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_verify__whole),
	    cmocka_unit_test(test_verify__damaged_blob_names_its_file),
	    cmocka_unit_test(test_verify__chunked_file_once_and_metadata_as_directory),
	    cmocka_unit_test(test_verify__missing_objects_and_commits),
	    cmocka_unit_test(test_verify__refs),
	    cmocka_unit_test(test_verify__submodules_are_not_followed),
	    cmocka_unit_test(test_verify__many_paths_are_counted),
	    cmocka_unit_test(test_verify__pack_cut_short_or_gone),
	    cmocka_unit_test(test_verify__trailer_alone),
	    cmocka_unit_test(test_repair__indexes),
	    cmocka_unit_test(test_verify__progress_and_cancel),
	};

	return cmocka_run_group_tests(tests, setup_dir, teardown_dir);
}

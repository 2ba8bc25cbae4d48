/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/sync/test_sync.h"

static void
test_empty_target(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;

	SH("for i in $(seq 200); do bytes $i $((i * 50)) >w/f$i; done; mkdir w/d; bytes x 300000 "
	   ">w/d/big; save");
	push_ok(&p);
	SH("same; whole dst; BUP_DIR=dst bup -d dst restore -q -C out /main/latest/.; "
	   "diff -r w out");
	assert_true(p.result.objects > 200);
	/* Nothing to do: one round trip. */
	p = (struct push)PUSH_INIT;
	push_ok(&p);
	assert_int_equal(p.result.objects, 0);
	assert_int_equal(p.result.refs_moved, 0);
	assert_true(p.port.turns <= 1);
	assert_true(p.port.to_recv < 200 && p.port.to_send < 400);
}

static void
test_nothing_at_all(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;

	push_ok(&p);
	assert_int_equal(p.result.objects, 0);
}

/* Bytes of the packs of src that were not there before. */
static uint64_t
new_pack_bytes(void)
{
	struct wr_buf out = WR_BUF_INIT;
	uint64_t n;

	assert_int_equal(run(&out, "ls src/objects/pack/*.pack | sort >packs.now; touch packs.old; "
				   "n=0; for p in $(comm -13 packs.old packs.now); do "
				   "n=$((n + $(stat -c %%s $p))); done; mv packs.now packs.old; "
				   "echo $n"),
			 0);
	n = strtoull(wr_buf_str(&out), NULL, 10);
	wr_buf_fini(&out);
	return n;
}

static void
test_missed_saves_and_wire_bytes(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;
	uint64_t fresh;

	SH("for i in $(seq 300); do mkdir -p w/d$((i %% 20)); bytes $i 400 >w/d$((i %% 20))/f$i; "
	   "done; save");
	push_ok(&p);
	(void)new_pack_bytes();
	/* One changed file. */
	SH("echo changed >w/d3/f3; save main 1700000100");
	p = (struct push)PUSH_INIT;
	push_ok(&p);
	SH("same");
	fresh = new_pack_bytes();
	/* A transfer's own lines are some 200 bytes. */
	assert_true(p.port.to_recv <= fresh * 11 / 10 + 200);
	/* Twelve missed ones. */
	SH("for i in $(seq 12); do bytes m$i 5000 >w/d$i/f$i; save main $((1700000200 + i)); done");
	p = (struct push)PUSH_INIT;
	push_ok(&p);
	fresh = new_pack_bytes();
	assert_true(p.port.to_recv <= fresh * 11 / 10);
	SH("same; whole dst; test $(g dst rev-list --count main) = 14");
}

static void
test_repacked(WR_UNUSED void **state)
{
	SH("for i in $(seq 100); do seq $i $((i + 500)) >w/f$i; done; save; "
	   "seq 1 600 >w/f7; save main 1700000100");
	push_same();
	SH("g src repack -adfq; seq 2 700 >w/f8; save main 1700000200");
	push_same();
	SH("g dst repack -adfq; seq 3 700 >w/f9; save main 1700000300; g src repack -adfq");
	push_same();
	SH("g dst pack-refs --all; seq 4 700 >w/f9; save main 1700000400");
	push_same();
	/* Deltas as source of everything, to an empty target. */
	SH("rm -rf dst; git init -q --bare dst");
	push_same();
}

static void
test_git_made_source(WR_UNUSED void **state)
{
	SH("for i in $(seq 20); do echo $i >w/f$i; done; gsave; g src tag -a -m t v1; "
	   "g src tag -a -m t v2 v1; g src tag tree main^{tree}; g src tag blob main:f3; "
	   "g src symbolic-ref HEAD refs/heads/side/x; g src update-ref refs/heads/side/x main; "
	   "echo y >w/f1; gsave 1700000100; "
	   "g src branch main2 side/x; g src update-ref refs/other/x main");
	push_same();
	SH("! g dst rev-parse -q --verify refs/other/x; "
	   "g src branch -q -M side/x side; echo z >w/f1; g src symbolic-ref HEAD "
	   "refs/heads/side; gsave 1700000200; g src tag -d v2 >/dev/null");
	push_same();
	SH("g src branch -q -m side a; g src branch b; g src gc -q");
	push_same();
	/* A branch where a directory of branches was, and the other way round. */
	SH("g src branch -q -m a a/b; g src branch -q -m b x");
	push_same();
	SH("g src branch -q -m a/b a; g src branch -q -m x x/y/z");
	push_same();
}

static void
test_target_ahead(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;

	SH("bytes a 200000 >w/big; save; g src tag old main; bytes b 3000 >w/x; "
	   "save main 1700000100; bytes c 3000 >w/y; save main 1700000200");
	push_same();
	/* The list names an older state: what was ahead is kept. */
	SH("g src rev-parse main >tip; g src update-ref refs/heads/main old");
	push_ok(&p);
	SH("same; whole dst");
	assert_int_equal(p.result.objects, 0);
	assert_int_equal(p.result.refs_kept, 1);
	SH("test $(g dst for-each-ref --format='%%(objectname)' refs/warren/keep) = $(cat tip); "
	   "g dst for-each-ref refs/warren/keep/ | grep -q \"keep/20270115T080000Z-$(cut -c1-8 "
	   "tip)$\"");
	/* And forward again: nothing has to come. */
	SH("g src update-ref refs/heads/main $(cat tip)");
	p = (struct push)PUSH_INIT;
	push_ok(&p);
	assert_int_equal(p.result.objects, 0);
	SH("same");
}

static void
test_diverged(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;

	SH("bytes a 400000 >w/big; for i in $(seq 6); do bytes $i 100 >w/f$i; "
	   "save main $((1700000000 + i)); done");
	push_same();
	/* The target goes on by itself, as a writer that was cut off. */
	SH("cp -a src keep.src; for i in 1 2 3; do bytes t$i 2000 >w/t$i; "
	   "save main $((1700001000 + i)); done; rm -rf dst; mv src dst; mv keep.src src; "
	   "rm w/t?; bytes n 2000 >w/n; save main 1700002000; g dst rev-parse main >tip");
	p.commit.side = "conflict-7.3-0a1b2c3d";
	push_ok(&p);
	assert_int_equal(p.result.sides, 1);
	assert_int_equal(p.result.refs_kept, 0);
	/* The common part was found below a tip that the sender does not know. */
	assert_true(p.port.to_recv < 20000);
	SH("test $(g dst rev-parse conflict-7.3-0a1b2c3d) = $(cat tip); whole dst; "
	   "test $(g dst rev-parse main) = $(g src rev-parse main)");
	/* Nor does a second one take the name of one that a list brings. */
	SH("cp -a dst dst.one; g src branch conflict-8.1-0a1b2c3d main~1; "
	   "g dst update-ref refs/heads/main $(g dst commit-tree -m more -p main main^{tree}); "
	   "g dst rev-parse main >tip2");
	p = (struct push)PUSH_INIT;
	p.commit.side = "conflict-8.1-0a1b2c3d";
	push_ok(&p);
	SH("test $(g dst rev-parse conflict-8.1-0a1b2c3d-2) = $(cat tip2); whole dst; "
	   "g src branch -q -D conflict-8.1-0a1b2c3d; rm -rf dst; mv dst.one dst");
	/* It stays, although no list names it. */
	SH("bytes n2 2000 >w/n2; save main 1700002100");
	p = (struct push)PUSH_INIT;
	push_ok(&p);
	SH("test $(g dst rev-parse conflict-7.3-0a1b2c3d) = $(cat tip)");
	assert_true(p.port.to_recv < 20000);
}

static void
test_insertion_into_big_file(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;

	SH("bytes a 12000000 >w/disk; seq 1000 >w/small; save");
	push_same();
	SH("{ echo inserted; cat w/disk; } >w2; mv w2 w/disk; save main 1700000100; "
	   "g src repack -adq");
	push_ok(&p);
	SH("same; whole dst");
	/* A few chunks and the trees above them. */
	assert_true(p.port.to_recv < 150000);
}

static void
test_renamed_directory(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;

	SH("mkdir -p w/a/deep/dir w/b; for i in $(seq 50); do bytes $i 60000 >w/a/deep/dir/f$i; "
	   "done; save");
	push_same();
	SH("mv w/a/deep w/b/elsewhere; echo new >w/b/elsewhere/dir/new; save main 1700000100; "
	   "g src repack -adq");
	push_ok(&p);
	assert_true(p.port.to_recv < 50000);
	SH("same; whole dst");
	/* Below the bound it is sent for nothing, which harms nobody. */
	SH("mv w/b/elsewhere/dir w/moved; echo new2 >w/moved/new; save main 1700000200; "
	   "g src repack -adq");
	p = (struct push)PUSH_INIT;
	p.send.waste_bytes = UINT64_MAX;
	push_ok(&p);
	assert_true(p.port.to_recv > 1000000);
	SH("same; whole dst");
}

static void
test_revert_and_thin(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;

	SH("bytes a 3000000 >w/big; save; g src rev-parse main >first; bytes b 3000000 >w/big; "
	   "save main 1700000100; bytes a 3000000 >w/big; save main 1700000200");
	push_same();
	/* A history written anew: other commits, the same trees. */
	SH("g src rev-parse main >was; new=$(g src commit-tree -m thinned $(cat first)^{tree}); "
	   "g src update-ref refs/heads/main $new; bytes c 1000 >w/x; save main 1700000300");
	push_ok(&p);
	assert_true(p.port.to_recv < 20000);
	assert_int_equal(p.result.refs_kept, 1);
	SH("same; whole dst; test $(g dst for-each-ref --format='%%(objectname)' "
	   "refs/warren/keep) = $(cat was)");
}

static void
test_tags_keep_and_floor(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;

	SH("echo 1 >w/f; save; g src tag t main; g src tag -a -m note n main; "
	   "echo 2 >w/f; save gone 1700000100");
	push_same();
	/* t moves along the line, n and gone are deleted. */
	SH("echo 3 >w/f; save main 1700000200; g src tag -f t main >/dev/null; g src tag -d n "
	   ">/dev/null; g src branch -q -D gone");
	push_ok(&p);
	SH("same; test $(g dst for-each-ref refs/warren/keep/ | wc -l) = 2");
	assert_int_equal(p.result.refs_kept, 2);
	/* Not before its time, then gone. */
	p = (struct push)PUSH_INIT;
	p.commit.floor_s = 3600;
	p.commit.now = NOW + 3600;
	push_ok(&p);
	assert_int_equal(p.result.refs_dropped, 0);
	p.commit.now = NOW + 3601;
	push_ok(&p);
	assert_int_equal(p.result.refs_dropped, 2);
	SH("same; whole dst; test -z \"$(g dst for-each-ref refs/warren/keep/)\"");
}

static void
test_fill(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;

	SH("echo 1 >w/f; save; g src tag t main");
	push_same();
	SH("g dst rev-parse main >own; echo 2 >w/f; save main 1700000100");
	p.recv.mode = WR_SYNC_AS_FILL;
	push_ok(&p);
	SH("test $(g dst rev-parse main) = $(cat own); whole dst; "
	   "test $(g dst rev-parse refs/warren/fill/heads/main) = $(g src rev-parse main); "
	   "test $(g dst rev-parse refs/warren/fill/tags/t) = $(g src rev-parse t)");
	/* Then as a push: nothing has to come, and the fill is gone. */
	p = (struct push)PUSH_INIT;
	push_ok(&p);
	assert_int_equal(p.result.objects, 0);
	assert_int_equal(p.result.refs_kept, 0);
	SH("same; test -z \"$(g dst for-each-ref refs/warren/)\"");
}

static void
mend_ok(struct push *p)
{
	*p = (struct push)PUSH_INIT;
	p->recv.mode = WR_SYNC_MEND;
	p->recv.all_suspect = true;
	push_ok(p);
}

/* Whatever was lost is brought back singly, and nothing else; no ref moves. */
static void
test_mend(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;
	uint64_t one;

	SH("bytes a 300000 >w/big; echo 1 >w/f; save; echo 2 >w/f; save main 1700000100; "
	   "g src tag t main");
	push_same();
	mend_ok(&p);
	assert_int_equal(p.result.objects, 0);
	/* A blob, a tree and a commit in the middle of it all: out of their pack into none. */
	SH("cd dst/objects/pack; rm -f *.midx; mv pack-* ../../..; cd ../../..; "
	   "for f in pack-*.pack; do git --git-dir=dst unpack-objects -q <$f; done; "
	   "for id in $(g src rev-parse main~ main~^{tree} main:f); do "
	   "rm -f dst/objects/$(echo $id | cut -c1-2)/$(echo $id | cut -c3-); done; "
	   "! g dst fsck 2>/dev/null");
	mend_ok(&p);
	assert_int_equal(p.result.objects, 3);
	assert_int_equal(p.result.refs_moved, 0);
	SH("same; g dst fsck --strict");
	/* Everything. */
	SH("rm -rf dst/objects/??; rm -f dst/objects/pack/*");
	mend_ok(&p);
	SH("same; whole dst");
	/* What its source cannot read stays away, and the rest comes. */
	SH("rm -f dst/objects/pack/*; g src cat-file --batch-all-objects --batch-check | wc -l "
	   ">all; "
	   "mkdir y; mv src/objects/pack y/pack; mkdir src/objects/pack; "
	   "for f in y/pack/*.pack; do git --git-dir=src unpack-objects -q <$f; done; "
	   "id=$(git --git-dir=src rev-parse main:f); chmod u+w src/objects/$(echo $id | cut "
	   "-c1-2)/*; "
	   "echo rubbish >src/objects/$(echo $id | cut -c1-2)/$(echo $id | cut -c3-)");
	mend_ok(&p);
	one = p.result.objects;
	assert_true(one > 3);
	SH("test $(($(cat all) - 1)) = %" PRIu64 "; ! g dst cat-file -e main:f 2>/dev/null; "
	   "g dst cat-file -e main~:f",
	   one);
	/* Another one has that. */
	SH("rm -rf src/objects/??; mv y/pack/* src/objects/pack/");
	mend_ok(&p);
	assert_int_equal(p.result.objects, 1);
	SH("same; whole dst");
}

/* A ref that only the damaged side still has, of a history that its source knows. */
static void
test_mend_what_is_kept(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;

	SH("echo 1 >w/f; save gone; g src rev-parse gone >was; echo 2 >w/f; save main 1700000100");
	push_same();
	SH("g src branch -q -D gone");
	push_ok(&p);
	assert_int_equal(p.result.refs_kept, 1);
	SH("rm -f dst/objects/pack/*");
	mend_ok(&p);
	SH("same; whole dst; test $(g dst for-each-ref --format='%%(objectname)' refs/warren/keep) "
	   "= "
	   "$(cat was)");
}

static void
test_latest_first(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;

	SH("bytes a 500000 >w/big; for i in $(seq 5); do bytes $i 100000 >w/f; "
	   "save main $((1700000000 + i)); done; "
	   "g src update-ref refs/warren/latest $(g src commit-tree -m latest main^{tree})");
	/* First the newest state alone. */
	assert_ok(({
		struct wr_repo *src = open_named("src");
		int rc = wr_sync_refs(src, &p.list, &err);

		wr_repo_close(src);
		rc;
	}));
	assert_int_equal(p.list.ref_count, 2);
	free(p.list.ref[0].name);
	p.list.ref[0] = p.list.ref[1];
	p.list.ref_count = 1;
	push_ok(&p);
	SH("whole dst; test $(g dst for-each-ref | wc -l) = 1");
	assert_true(p.port.to_recv < 700000);
	/* Then the history behind it, without the newest tree. */
	p = (struct push)PUSH_INIT;
	push_ok(&p);
	SH("same; whole dst");
	assert_true(p.port.to_recv < 450000);
}

/* src has saves of 500 kB and 100 kB each; dst gets the newest state of the tip and no more. */
static void
send_newest_alone(void)
{
	struct push p = PUSH_INIT;
	bool first = false;

	for (uint64_t cut = 300000; !first; cut += 50000) {
		p = (struct push)PUSH_INIT;
		p.send.newest_first = true;
		p.send.first_bytes = 1000;
		p.port.cut_at = cut;
		assert_int_equal(push(&p), -1);
		rec_fini(&p.list);
		first =
		    run(NULL, "git --git-dir=dst rev-parse -q --verify refs/warren/latest") == 0;
	}
	SH("whole dst; test $(g dst rev-parse refs/warren/latest^{tree}) = $(g src rev-parse "
	   "main^{tree}); test $(g dst rev-list --count refs/warren/latest) = 1; "
	   "test $(g dst for-each-ref refs/heads | wc -l) = 0");
}

static void
test_newest_state_first(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;
	uint64_t whole;

	SH("bytes a 500000 >w/big; for i in $(seq 5); do bytes $i 100000 >w/f; "
	   "save main $((1700000000 + i)); done");
	push_ok(&p);
	whole = p.port.to_recv;
	SH("rm -rf dst; git init -q --bare dst");
	send_newest_alone();
	/* The history behind it, without what came: then it stands for nothing any more. */
	p = (struct push)PUSH_INIT;
	p.send.newest_first = true;
	p.send.first_bytes = 1000;
	push_ok(&p);
	assert_true(p.port.to_recv < whole - 500000);
	SH("same; whole dst; test -z \"$(g dst for-each-ref refs/warren/)\"; "
	   "test -z \"$(ls dst/warren/incoming)\"");
	/* In one go: what came as the newest state does not come again. */
	SH("rm -rf dst; git init -q --bare dst");
	p = (struct push)PUSH_INIT;
	p.send.newest_first = true;
	p.send.first_bytes = 1000;
	push_ok(&p);
	assert_true(p.port.to_recv < whole + 20000);
	SH("same; whole dst; test -z \"$(g dst for-each-ref refs/warren/)\"");
	/* Not for one snapshot, nor for a small one. */
	SH("bytes n 100000 >w/f; save main 1700000100");
	p = (struct push)PUSH_INIT;
	p.send.newest_first = true;
	p.send.first_bytes = 1000;
	push_ok(&p);
	assert_int_equal(p.result.refs_moved, 1);
	SH("same; for i in 1 2 3; do echo $i >w/f; save main 170000020$i; done");
	p = (struct push)PUSH_INIT;
	p.send.newest_first = true;
	push_ok(&p);
	assert_int_equal(p.result.refs_moved, 1);
	SH("same");
}

/* Whoever went on from an older state: what came ahead of its history is all there is of it. */
static void
test_newest_state_whose_history_is_lost(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;

	SH("bytes a 500000 >w/big; save; g src rev-parse main >old; for i in 1 2 3; do "
	   "bytes $i 100000 >w/f; save main $((1700000000 + i)); done; g src rev-parse "
	   "main^{tree} >tree");
	send_newest_alone();
	SH("g src update-ref refs/heads/main $(cat old); echo other >w/f; rm -f idx; "
	   "save main 1700000100");
	push_ok(&p);
	assert_int_equal(p.result.sides, 1);
	SH("whole dst; test $(g dst rev-parse main) = $(g src rev-parse main); "
	   "test $(g dst rev-parse conflict-latest-20231114T221323Z^{tree}) = $(cat tree); "
	   "test -z \"$(g dst for-each-ref refs/warren/)\"");
}

/* What a list has there is replaced, and nothing is kept of it. */
static void
test_listed_latest_is_replaced(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;
	struct wr_save_rec held;

	SH("echo 1 >w/f; save; g src update-ref refs/warren/latest $(g src commit-tree -m 1 "
	   "main^{tree})");
	assert_int_equal(push(&p), 0);
	held = p.list;
	SH("g src update-ref refs/warren/latest $(g src commit-tree -m 2 main^{tree})");
	p = (struct push)PUSH_INIT;
	p.commit.held = &held;
	push_ok(&p);
	assert_int_equal(p.result.refs_kept, 0);
	assert_int_equal(p.result.sides, 0);
	SH("same; whole dst; test $(g dst for-each-ref refs/warren/ | wc -l) = 1");
	rec_fini(&held);
}

/* Off the line nothing that comes was made of it, nor of one that was not listed yet: it is kept.
 */
static void
test_latest_off_the_line(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;
	struct wr_save_rec held;

	SH("echo 1 >w/f; save; g src update-ref refs/warren/latest "
	   "$(GIT_COMMITTER_DATE='1700000001 +0000' g src commit-tree -m 1 $(g src mktree "
	   "</dev/null))");
	assert_int_equal(push(&p), 0);
	held = p.list;
	SH("g src update-ref -d refs/warren/latest");
	p = (struct push)PUSH_INIT;
	p.commit.held = &held;
	p.commit.side = "conflict-1.1-here";
	push_ok(&p);
	assert_int_equal(p.result.sides, 1);
	SH("! g dst rev-parse -q --verify refs/warren/latest; "
	   "test $(g dst log -1 --format=%%s conflict-latest-20231114T221321Z) = 1");
	SH("g dst update-ref refs/warren/latest $(GIT_COMMITTER_DATE='1700000002 +0000' "
	   "g dst commit-tree -m 2 $(g dst mktree </dev/null))");
	p = (struct push)PUSH_INIT;
	p.commit.held = &held;
	push_ok(&p);
	assert_int_equal(p.result.sides, 1);
	SH("! g dst rev-parse -q --verify refs/warren/latest; whole dst; "
	   "test $(g dst log -1 --format=%%s conflict-latest-20231114T221322Z) = 2");
	rec_fini(&held);
}

/* What a save names does not give way to a state that comes ahead of its history; one that came so
 * itself does, and is kept. */
static void
test_newest_state_where_one_is(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;

	SH("bytes a 500000 >w/big; save; g src update-ref refs/warren/latest "
	   "$(g src commit-tree -m 1 main^{tree})");
	push_ok(&p);
	SH("g src rev-parse refs/warren/latest >was; g src update-ref -d refs/warren/latest; "
	   "for i in 1 2 3; do bytes $i 100000 >w/f; save main $((1700000100 + i)); done");
	for (uint64_t cut = 60000; cut <= 180000; cut += 60000) {
		p = (struct push)PUSH_INIT;
		p.send.newest_first = true;
		p.send.first_bytes = 1000;
		p.port.cut_at = cut;
		assert_int_equal(push(&p), -1);
		rec_fini(&p.list);
		SH("test $(g dst rev-parse refs/warren/latest) = $(cat was)");
	}
	SH("rm -rf dst; git init -q --bare dst");
	send_newest_alone();
	SH("g dst rev-parse refs/warren/latest >was; bytes 4 100000 >w/f; save main 1700000200");
	for (uint64_t cut = 50000;; cut += 50000) {
		p = (struct push)PUSH_INIT;
		p.send.newest_first = true;
		p.send.first_bytes = 1000;
		p.port.cut_at = cut;
		assert_int_equal(push(&p), -1);
		rec_fini(&p.list);
		if (run(NULL, "test $(git --git-dir=dst rev-parse refs/warren/latest) = "
			      "$(cat was)") != 0)
			break;
	}
	SH("test $(g dst for-each-ref --format='%%(objectname)' refs/warren/keep) = $(cat was)");
}

/* W7: side branches of another node become branches here, and nothing else changes. */
static void
test_side_branches_of_others(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;

	SH("echo 1 >w/f; save; g src branch conflict-1.1-a $(g src commit-tree -m a main^{tree}); "
	   "g src branch conflict-1.1-b $(g src commit-tree -m b main^{tree}); "
	   "g src update-ref -d refs/heads/main; g dst update-ref refs/heads/conflict-1.1-b "
	   "$(GIT_OBJECT_DIRECTORY=dst/objects g src commit-tree -m mine $(g dst mktree "
	   "</dev/null)); "
	   "g dst for-each-ref | LC_ALL=C sort >before");
	p.recv.mode = WR_SYNC_AS_SIDES;
	push_ok(&p);
	assert_int_equal(p.result.sides, 2);
	SH("whole dst; g dst for-each-ref | LC_ALL=C sort >after; test $(LC_ALL=C comm -23 before "
	   "after | wc -l) = 0; "
	   "test $(g dst rev-parse conflict-1.1-a) = $(g src rev-parse conflict-1.1-a); "
	   "test $(g dst rev-parse conflict-1.1-b-2) = $(g src rev-parse conflict-1.1-b)");
	/* Once more: nothing. */
	p = (struct push)PUSH_INIT;
	p.recv.mode = WR_SYNC_AS_SIDES;
	push_ok(&p);
	assert_int_equal(p.result.sides, 0);
	assert_int_equal(p.result.objects, 0);
	/* No other ref comes that way. */
	SH("g src branch main conflict-1.1-a");
	p = (struct push)PUSH_INIT;
	p.recv.mode = WR_SYNC_AS_SIDES;
	assert_int_equal(push(&p), -1);
	assert_int_equal(p.err.code, WR_E_INVALID);
	rec_fini(&p.list);
}

/* A side branch that went on here after it was listed: the list does not take that away. */
static void
test_side_branch_goes_on(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;
	struct wr_save_rec held;

	SH("echo 1 >w/f; save; g src branch conflict-1.1-a $(g src commit-tree -m a main^{tree})");
	assert_int_equal(push(&p), 0);
	held = p.list;
	SH("g dst update-ref refs/heads/conflict-1.1-a $(g dst commit-tree -m more -p "
	   "conflict-1.1-a main^{tree}); g dst rev-parse conflict-1.1-a >more");
	p = (struct push)PUSH_INIT;
	p.commit.held = &held;
	push_ok(&p);
	assert_int_equal(p.result.sides, 1);
	SH("whole dst; test $(g dst rev-parse conflict-1.1-a) = $(g src rev-parse conflict-1.1-a); "
	   "test $(g dst rev-parse conflict-1.1-a-2) = $(cat more)");
	rec_fini(&held);
}

/* One that a list named otherwise goes when the next list names it no more. */
static void
test_side_branch_let_go(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;
	struct wr_save_rec held;

	SH("echo 1 >w/f; save; g src branch conflict-1.1-a $(g src commit-tree -m a main^{tree})");
	assert_int_equal(push(&p), 0);
	held = p.list;
	SH("g dst update-ref refs/heads/conflict-1.1-a-2 conflict-1.1-a; "
	   "g dst update-ref -d refs/heads/conflict-1.1-a; echo 2 >w/f; save main 1700000100");
	p = (struct push)PUSH_INIT;
	p.commit.held = &held;
	p.list = (struct wr_save_rec)WR_SAVE_REC_INIT;
	assert_int_equal(push(&p), 0);
	SH("g dst rev-parse -q --verify refs/heads/conflict-1.1-a-2");
	rec_fini(&p.list);
	SH("g src rev-parse conflict-1.1-a >was; g src branch -q -D conflict-1.1-a; "
	   "g dst update-ref -d refs/heads/conflict-1.1-a");
	p = (struct push)PUSH_INIT;
	p.commit.held = &held;
	push_ok(&p);
	assert_int_equal(p.result.sides, 0);
	SH("same; whole dst; test $(g dst for-each-ref --format='%%(objectname)' refs/warren/keep) "
	   "= $(cat was)");
	rec_fini(&held);
}

static void
weed(struct wr_sync_weed w)
{
	struct wr_repo *r = open_named("src");

	w.now = NOW;
	w.ident = "T <t@t>";
	assert_ok(wr_repo_lock(r, "test", 0, &err));
	assert_ok(wr_sync_weed(r, &w, &err));
	wr_repo_close(r);
}

/* Side branches go by the time they came, not by that of their work. */
static void
test_weed(WR_UNUSED void **state)
{
	const struct wr_sync_weed days = {.side_s = 90 * 86400, .floor_s = 86400};
	struct wr_sync_weed ahead = days;

	SH("log() { mkdir -p src/logs/refs/heads; printf '%%040d %%s T <t@t> %%d +0000\tm\n' 0 "
	   "$(g src rev-parse $1) $2 >src/logs/refs/heads/$1; }; "
	   "echo 1 >w/f; save; for n in old new none; do "
	   "g src branch conflict-1.1-$n $(g src commit-tree -m $n main^{tree}); done; "
	   "rm -rf src/logs; log conflict-1.1-old %d; log conflict-1.1-new %d; "
	   "g src update-ref refs/warren/keep/20270113T080000Z-00000000 main",
	   NOW - 90 * 86400 - 1, NOW - 90 * 86400);
	weed(days);
	SH("test \"$(g src for-each-ref --format='%%(refname:short)' refs/heads | xargs)\" = "
	   "'conflict-1.1-new conflict-1.1-none main'; "
	   "test \"$(g src for-each-ref --format='%%(refname) %%(subject)' refs/warren)\" = "
	   "\"refs/warren/keep/20270115T080000Z-$(g src for-each-ref --format='%%(objectname)' "
	   "refs/warren/keep | cut -c1-8) old\"; grep -q found "
	   "src/logs/refs/heads/conflict-1.1-none");
	/* A state that the history has, and one that it has not. */
	ahead.ahead = true;
	SH("g src update-ref refs/warren/latest $(GIT_COMMITTER_DATE='1700000000 +0000' "
	   "g src commit-tree -m l main^{tree}); echo 2 >w/f; save main 1700000100");
	weed(days);
	SH("g src rev-parse -q --verify refs/warren/latest");
	weed(ahead);
	SH("! g src rev-parse -q --verify refs/warren/latest; "
	   "! g src for-each-ref refs/heads | grep latest; "
	   "g src update-ref refs/warren/latest $(GIT_COMMITTER_DATE='1700000050 +0000' "
	   "g src commit-tree -m l $(g src mktree </dev/null))");
	weed(ahead);
	SH("! g src rev-parse -q --verify refs/warren/latest; "
	   "test $(g src log -1 --format=%%s conflict-latest-20231114T221410Z) = l; whole src");
}

static void
test_bad_lists(WR_UNUSED void **state)
{
	static const char *const bad[][2] = {
	    {"refs/warren/keep/x", NULL},
	    {"refs/heads/../x", NULL},
	    {"HEAD", NULL},
	    {"refs/heads/a", "refs/heads/a/b"},
	    {"refs/heads/b", "refs/heads/a"},
	    {"refs/heads/a", "refs/heads/a"},
	    {"refs/warren/fill/heads/x", NULL},
	    {"refs/heads/x.lock", NULL},
	};
	struct wr_id tip;

	SH("echo 1 >w/f; save");
	must_run("git --git-dir=src rev-parse main >tip");
	{
		struct wr_repo *src = open_named("src");

		assert_ok(wr_ref_read(src, "refs/heads/main", &tip, &err));
		wr_repo_close(src);
	}
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		struct push p = PUSH_INIT;

		p.list.ref = wr_calloc(2, sizeof(*p.list.ref));
		for (size_t k = 0; k < 2 && bad[i][k]; k++) {
			p.list.ref[k].name = wr_strdup(bad[i][k]);
			memcpy(p.list.ref[k].id, tip.b, WR_ID_LEN);
			p.list.ref_count++;
		}
		assert_int_equal(push(&p), -1);
		assert_int_equal(p.err.code, WR_E_INVALID);
		rec_fini(&p.list);
	}
	SH("test -z \"$(g dst for-each-ref)\"");
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup_sync, teardown_dir)
	    T(test_nothing_at_all),
	    T(test_empty_target),
	    T(test_missed_saves_and_wire_bytes),
	    T(test_repacked),
	    T(test_git_made_source),
	    T(test_target_ahead),
	    T(test_diverged),
	    T(test_insertion_into_big_file),
	    T(test_renamed_directory),
	    T(test_revert_and_thin),
	    T(test_tags_keep_and_floor),
	    T(test_fill),
	    T(test_mend),
	    T(test_mend_what_is_kept),
	    T(test_latest_first),
	    T(test_newest_state_first),
	    T(test_newest_state_whose_history_is_lost),
	    T(test_listed_latest_is_replaced),
	    T(test_latest_off_the_line),
	    T(test_newest_state_where_one_is),
	    T(test_side_branches_of_others),
	    T(test_side_branch_goes_on),
	    T(test_side_branch_let_go),
	    T(test_weed),
	    T(test_bad_lists),
	};
	int status;

	if (is_own_tool(argc, argv, &status))
		return status;
	return cmocka_run_group_tests(tests, NULL, NULL);
}

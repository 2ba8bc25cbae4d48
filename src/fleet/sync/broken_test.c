/* SPDX-License-Identifier: Apache-2.0 */
/* What goes wrong on the way: moved refs, cuts, kills, changed bytes, limits. */
#include "fleet/sync/test_sync.h"

static void
test_base_moves_meanwhile(WR_UNUSED void **state)
{
	struct wr_repo *src, *dst;
	struct wr_save_rec list = {0};
	struct wr_sync_recv_opts ro = {.mode = WR_SYNC_PUSH};
	struct wr_sync_commit c = {.now = NOW, .floor_s = -1, .ident = "T <t@t>"};
	struct wr_sync_result res;
	struct wr_sync *s, *r;
	struct port port = {0};
	uint64_t before;

	SH("bytes a 300000 >w/big; save; g src tag t main");
	push_same();
	SH("bytes b 300000 >w/big2; save main 1700000100");
	src = open_named("src");
	dst = open_named("dst");
	assert_ok(wr_sync_refs(src, &list, &err));
	s = wr_sync_send_new(src, &list, NULL);
	r = wr_sync_recv_new(dst, &list, &ro);
	shuttle(s, r, &port);
	assert_int_equal(wr_sync_status(r), WR_SYNC_READY);
	SH("g dst update-ref -d refs/tags/t");
	assert_fails(wr_sync_recv_commit(r, &c, &res, &err), WR_E_CHANGED);
	assert_int_equal(wr_sync_status(r), WR_SYNC_RUNNING);
	before = port.to_recv;
	shuttle(s, r, &port);
	if (wr_sync_status(r) != WR_SYNC_READY)
		fail_msg("%s", wr_sync_error(r)->msg);
	assert_true(port.to_recv - before < 1000); /* what came was kept */
	assert_ok(wr_sync_recv_commit(r, &c, &res, &err));
	shuttle(s, r, &port);
	assert_int_equal(wr_sync_status(s), WR_SYNC_DONE);
	wr_sync_free(s);
	wr_sync_free(r);
	wr_repo_close(src);
	wr_repo_close(dst);
	rec_fini(&list);
	SH("same; whole dst; test -z \"$(ls dst/warren/incoming)\"");
}

/* While it waited for its commit the same objects came by another way. */
static void
test_objects_come_meanwhile(WR_UNUSED void **state)
{
	struct wr_repo *src, *dst;
	struct wr_save_rec list = {0};
	struct wr_sync_recv_opts ro = {.mode = WR_SYNC_PUSH};
	struct wr_sync_commit c = {.now = NOW, .floor_s = -1, .ident = "T <t@t>"};
	struct wr_sync_result res;
	struct wr_sync *s, *r;
	struct port port = {0};

	SH("bytes a 300000 >w/big; save");
	src = open_named("src");
	dst = open_named("dst");
	assert_ok(wr_sync_refs(src, &list, &err));
	s = wr_sync_send_new(src, &list, NULL);
	r = wr_sync_recv_new(dst, &list, &ro);
	shuttle(s, r, &port);
	assert_int_equal(wr_sync_status(r), WR_SYNC_READY);
	SH("cp src/objects/pack/*.pack src/objects/pack/*.idx dst/objects/pack/");
	assert_ok(wr_sync_recv_commit(r, &c, &res, &err));
	shuttle(s, r, &port);
	assert_int_equal(wr_sync_status(s), WR_SYNC_DONE);
	wr_sync_free(s);
	wr_sync_free(r);
	wr_repo_close(src);
	wr_repo_close(dst);
	rec_fini(&list);
	SH("same; whole dst; cp dst/objects/pack/*.pack dst/objects/pack/*.idx src/objects/pack/");
	/* Every object lies in two packs now, on both sides: each is sent once. */
	SH("rm -rf dst; git init -q --bare dst; bytes b 20000 >w/f; save main 1700000100");
	push_same();
}

static void
test_busy(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;
	struct wr_repo *dst = open_named("dst");

	SH("echo 1 >w/f; save");
	assert_ok(wr_repo_lock(dst, "somebody else", 0, &err));
	assert_int_equal(push(&p), -1);
	assert_int_equal(p.err.code, WR_E_BUSY);
	rec_fini(&p.list);
	wr_repo_close(dst);
	push_same();
}

static void
test_resume_at_every_cut(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;
	uint64_t whole, total = 0;
	unsigned cuts = 0;

	SH("for i in $(seq 12); do bytes $i 60000 >w/f$i; done; save");
	push_ok(&p);
	whole = p.port.to_recv;
	SH("rm -rf dst");
	for (uint64_t cut = 1; cut < whole; cut += 65536, cuts++) {
		bool existed;

		assert_ok(wr_repo_init(path_of("dst").s, 13, &existed, &err));
		p = (struct push)PUSH_INIT;
		p.port.cut_at = cut;
		assert_int_equal(push(&p), -1);
		rec_fini(&p.list);
		SH("test -z \"$(g dst for-each-ref)\"; ! ls dst/objects/pack/*.pack 2>/dev/null");
		p = (struct push)PUSH_INIT;
		push_ok(&p);
		SH("same");
		/* Two halves are hardly more than the whole: objects and the last few lines. */
		if (p.port.to_recv + cut >= whole + 80000)
			fail_msg("%" PRIu64 " + %" PRIu64 " of %" PRIu64, cut, p.port.to_recv,
				 whole);
		SH("whole dst; test -z \"$(ls dst/warren/incoming)\"; rm -rf dst");
		assert_true(p.port.cut_at == 0);
	}
	assert_true(cuts > 5);
	/* A connection that breaks again and again gets there. */
	assert_ok(({
		bool existed;

		wr_repo_init(path_of("dst").s, 13, &existed, &err);
	}));
	for (unsigned i = 0;; i++) {
		p = (struct push)PUSH_INIT;
		p.port.cut_at = 150000;
		assert_true(i < 50);
		if (push(&p) == 0)
			break;
		total += p.port.to_recv;
		rec_fini(&p.list);
	}
	rec_fini(&p.list);
	assert_true(total < 2 * whole);
	SH("same; whole dst");
	/* Byte by byte. */
	SH("rm -rf dst; git init -q --bare dst; g src update-ref -d refs/heads/main; rm -rf w; "
	   "mkdir w; bytes z 3000 >w/f; save small");
	p = (struct push)PUSH_INIT;
	p.port.piece = 1;
	push_ok(&p);
	SH("same; whole dst");
}

/* A save that came meanwhile: what came of the one before it counts. */
static void
test_resume_with_another_list(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;
	uint64_t whole;

	SH("for i in $(seq 12); do bytes $i 60000 >w/f$i; done; save");
	push_ok(&p);
	whole = p.port.to_recv;
	SH("rm -rf dst; git init -q --bare dst");
	p = (struct push)PUSH_INIT;
	p.port.cut_at = whole / 2;
	assert_int_equal(push(&p), -1);
	rec_fini(&p.list);
	SH("echo line >>w/f3; echo new >w/g; save main 1700000100");
	p = (struct push)PUSH_INIT;
	push_ok(&p);
	assert_true(p.port.to_recv < whole / 2 + 150000);
	SH("same; whole dst; test -z \"$(ls dst/warren/incoming)\"");
	/* What the new list does not reach is left out, wherever it lay. */
	SH("rm -rf dst; git init -q --bare dst");
	p = (struct push)PUSH_INIT;
	p.port.cut_at = whole - 100000;
	assert_int_equal(push(&p), -1);
	rec_fini(&p.list);
	SH("g src update-ref -d refs/heads/main; rm -f w/f1 w/f2 w/f7 w/f8 idx; "
	   "save main 1700000200");
	for (uint64_t cut = 20000; cut < 300000; cut += 120000) {
		p = (struct push)PUSH_INIT;
		p.port.cut_at = cut;
		if (push(&p) == 0)
			break;
		rec_fini(&p.list);
	}
	rec_fini(&p.list);
	p = (struct push)PUSH_INIT;
	push_ok(&p);
	SH("same; whole dst; test -z \"$(ls dst/warren/incoming)\"; "
	   "test -z \"$(g dst fsck --unreachable --no-reflogs 2>/dev/null)\"");
}

/* Push in a program of its own that dies at a point; gives whether it did. */
static bool
push_dying(const char *point)
{
	int st;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		setenv("WARREN_CRASH", point, 1);
		execl("/proc/self/exe", "broken_test", "push", test_dir, (char *)NULL);
		_exit(4);
	}
	assert_int_equal(waitpid(pid, &st, 0), pid);
	if (WIFSIGNALED(st))
		return true;
	assert_int_equal(WEXITSTATUS(st), 0);
	return false;
}

static void
test_killed_anywhere(WR_UNUSED void **state)
{
	static const char *const point[] = {
	    "sync.object:1", "sync.object:20", "sync.sorted:9",  "sync.written",   "sync.ready",
	    "sync.install",  "pack.renamed",   "idx.renamed",    "sync.installed", "sync.kept:1",
	    "sync.moved:1",  "sync.moved:2",   "sync.deleted:1", "ref.locked",     "ref.renamed:2",
	};

	SH("for i in $(seq 30); do bytes $i 3000 >w/f$i; done; save; g src tag t main; "
	   "bytes q 200 >w/q; save other 1700000050");
	push_same();
	SH("cp -a dst dst.old; g dst rev-parse other >other; g dst rev-parse main >main; "
	   "for i in $(seq 30); do bytes x$i 3000 >w/f$i; done; save main 1700000100; "
	   "g src branch -D -q other; g src update-ref refs/tags/t $(g src commit-tree -m x "
	   "main^{tree}); g src tag u main");
	for (size_t i = 0; i < WR_ARRAY_LEN(point); i++) {
		bool died;

		SH("rm -rf dst; cp -a dst.old dst");
		/* One that broke off before is sorted first. */
		if (!strncmp(point[i], "sync.sorted", 11))
			assert_true(push_dying("sync.ready"));
		died = push_dying(point[i]);
		if (!died)
			fail_msg("never came to %s", point[i]);
		/* Whatever was there is reachable still. */
		SH("whole dst; g dst rev-list --all >all; grep -q $(cat other) all; "
		   "grep -q $(cat main) all");
		push_same();
		SH("g dst rev-list --all >all; grep -q $(cat other) all; "
		   "test -z \"$(ls dst/warren/incoming)\"");
	}
}

/* Bytes that change or are cut on the way: the result is the old or the new state, never another.
 */
static void
test_faulty_port(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;
	uint64_t seed = 42, whole, back;
	unsigned failed = 0;

	SH("for i in $(seq 10); do bytes $i 500 >w/f$i; done; save");
	push_same();
	SH("cp -a dst dst.old; mkdir w/d; for i in $(seq 6); do bytes y$i 700 >w/d/f$i; done; "
	   "save main 1700000100; g src tag t main; g dst rev-parse main >old");
	push_ok(&p);
	whole = p.port.to_recv;
	back = p.port.to_send;
	for (unsigned i = 0; i < 42; i++) {
		bool ok;

		SH("rm -rf dst; cp -a dst.old dst");
		p = (struct push)PUSH_INIT;
		p.port.flip = (uint8_t)(1 + test_random(&seed) % 255);
		if (i % 3 == 0)
			p.port.cut_at = 1 + test_random(&seed) % whole;
		else if (i % 3 == 1)
			p.port.flip_at = 1 + test_random(&seed) % whole;
		else
			p.port.flip_back_at = 1 + test_random(&seed) % back;
		ok = push(&p) == 0;
		rec_fini(&p.list);
		failed += !ok;
		if (ok)
			SH("same; whole dst");
		else
			SH("test $(g dst rev-parse main) = $(cat old); whole dst");
		push_same(); /* what it left behind is in nobody's way */
	}
	assert_true(failed > 14);
}

static void
test_limits_of_the_receiver(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;

	SH("for i in $(seq 20); do bytes $i 9000 >w/f$i; done; save");
	p.recv.max_bytes = 100000;
	assert_int_equal(push(&p), -1);
	assert_int_equal(p.err.code, WR_E_LIMIT);
	assert_int_equal(p.sent, WR_SYNC_FAILED);
	p.recv.max_bytes = 0;
	p.recv.max_objects = 10;
	assert_int_equal(push(&p), -1);
	assert_int_equal(p.err.code, WR_E_LIMIT);
	p.recv.max_objects = 0;
	p.recv.max_object = 100;
	assert_int_equal(push(&p), -1);
	assert_int_equal(p.err.code, WR_E_LIMIT);
	p.recv.max_object = 0;
	p.recv.min_free = UINT64_MAX;
	assert_int_equal(push(&p), -1);
	assert_int_equal(p.err.code, WR_E_NOSPACE);
	rec_fini(&p.list);
	SH("test -z \"$(g dst for-each-ref)\"");
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup_sync, teardown_dir)
	    T(test_base_moves_meanwhile),   T(test_objects_come_meanwhile),   T(test_busy),
	    T(test_resume_at_every_cut),    T(test_killed_anywhere),          T(test_faulty_port),
	    T(test_limits_of_the_receiver), T(test_resume_with_another_list),
	};
	int status;

	if (is_own_tool(argc, argv, &status))
		return status;
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A far side that lies: frames written by hand. */
#include "fleet/sync/test_sync.h"

#include "engine/object/tree.h"
#include "sys/clock.h"

/* ---- frames by hand ---- */

struct hand {
	struct wr_buf out;
};

static size_t
begin(struct hand *h, enum wr_frame type)
{
	wr_buf_add32be(&h->out, 0);
	wr_buf_add8(&h->out, (uint8_t)type);
	return h->out.len;
}

static void
end(struct hand *h, size_t at)
{
	wr_put32be(h->out.p + at - WR_FRAME_HEAD, (uint32_t)(h->out.len - at));
}

/* BEGIN with the first `used` of `refs` refs as base. */
static void
put_begin(struct hand *h, uint64_t objects, uint32_t refs, unsigned used)
{
	size_t at = begin(h, WR_FRAME_BEGIN);

	for (unsigned i = 0; i < WR_ID_LEN; i++)
		wr_buf_add8(&h->out, (uint8_t)i);
	wr_buf_add64be(&h->out, objects);
	wr_buf_add64be(&h->out, 1000);
	wr_buf_add32be(&h->out, refs);
	for (unsigned i = 0; i < (refs + 7) / 8; i++)
		wr_buf_add8(&h->out, (uint8_t)(i == 0 ? (1u << used) - 1 : 0));
	end(h, at);
}

static struct wr_id
put_object(struct hand *h, enum wr_obj_type type, const void *p, size_t len)
{
	struct wr_deflater *d = wr_deflater_new(1);
	size_t at = begin(h, WR_FRAME_DATA), from;

	wr_buf_add32be(&h->out, 0);
	from = h->out.len;
	wr_pack_entry_make(d, type, p, len, &h->out);
	wr_put32be(h->out.p + from - 4, (uint32_t)(h->out.len - from));
	end(h, at);
	wr_deflater_free(d);
	return wr_obj_id(type, p, len);
}

static void
put_end(struct hand *h, uint64_t objects)
{
	size_t at = begin(h, WR_FRAME_END);

	wr_buf_add64be(&h->out, objects);
	end(h, at);
}

static struct wr_id
put_tree(struct hand *h, uint32_t mode, const char *name, const struct wr_id *id)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	wr_tree_add(&b, mode, name, strlen(name), id);
	return put_object(h, WR_OBJ_TREE, b.p, b.len);
}

static struct wr_id
put_commit(struct hand *h, const struct wr_id *tree, const struct wr_id *parent)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	wr_commit_format(&b, tree, parent, "T <t@t>", 1700000000, "x\n");
	return put_object(h, WR_OBJ_COMMIT, b.p, b.len);
}

/* A list of one ref. */
static struct wr_save_rec
list_of(const char *name, const struct wr_id *id)
{
	struct wr_save_rec s = {0};

	s.ref = wr_calloc(1, sizeof(*s.ref));
	s.ref_count = 1;
	s.ref[0].name = wr_strdup(name);
	memcpy(s.ref[0].id, id->b, WR_ID_LEN);
	return s;
}

/* Feed a receiver of dst with the frames; gives the status, the error in err. */
static enum wr_sync_status
feed_recv(struct hand *h, const char *name, const struct wr_id *tip,
	  const struct wr_sync_recv_opts *o)
{
	struct wr_repo *dst = open_named("dst");
	struct wr_save_rec list = list_of(name, tip);
	struct wr_sync_recv_opts ro = {.mode = WR_SYNC_PUSH};
	struct wr_sync *r = wr_sync_recv_new(dst, &list, o ? o : &ro);
	enum wr_sync_status s;
	uint8_t drop[4096];

	while (wr_sync_pull(r, drop, sizeof(drop)) || wr_sync_busy(r))
		;
	for (size_t at = 0; at < h->out.len; at += 1000)
		wr_sync_feed(r, h->out.p + at, WR_MIN(h->out.len - at, (size_t)1000));
	while (wr_sync_pull(r, drop, sizeof(drop)) || wr_sync_busy(r))
		;
	s = wr_sync_status(r);
	err = *wr_sync_error(r);
	if (s == WR_SYNC_READY) {
		struct wr_sync_commit c = {.now = NOW, .floor_s = -1, .ident = "T <t@t>"};
		struct wr_sync_result res;

		assert_ok(wr_sync_recv_commit(r, &c, &res, &err));
		s = WR_SYNC_DONE;
	}
	wr_sync_free(r);
	wr_repo_close(dst);
	rec_fini(&list);
	wr_buf_fini(&h->out);
	return s;
}

#define refused(h, tip, want)                                                                 \
	do {                                                                                  \
		assert_int_equal(feed_recv(h, "refs/heads/main", tip, NULL), WR_SYNC_FAILED); \
		if (err.code != (want))                                                       \
			fail_msg("%s (%s)", err.msg, wr_err_name(err.code));                  \
	} while (0)

/* dst with a snapshot on main, one on other, and objects that no ref reaches. */
static struct wr_id blob, tree, unreached_tree, unreached_blob, unreached_commit;

static void
make_dst(void)
{
	SH("echo 1 >w/f; save; g src symbolic-ref HEAD refs/heads/other; echo keep >w/g; "
	   "gsave 1700000050; g src rev-parse HEAD:g HEAD^{tree} HEAD >unreached");
	push_same();
	SH("g dst update-ref -d refs/heads/other");
	blob = git_id("git --git-dir=dst rev-parse main:f");
	tree = git_id("git --git-dir=dst rev-parse main^{tree}");
	unreached_blob = git_id("sed -n 1p unreached");
	unreached_tree = git_id("sed -n 2p unreached");
	unreached_commit = git_id("sed -n 3p unreached");
}

static void
test_closure_is_proven(WR_UNUSED void **state)
{
	static const char word[] = "a word";
	struct wr_id nowhere = {{7}}, id, b, t;
	struct hand h = {0};

	make_dst();
	SH("cp -a dst dst.old");
	/* As it should be: new blob, tree, commit on top of main. */
	put_begin(&h, 3, 1, 1);
	b = put_object(&h, WR_OBJ_BLOB, word, sizeof(word));
	t = put_tree(&h, WR_MODE_FILE, "new", &b);
	id = git_id("git --git-dir=dst rev-parse main");
	id = put_commit(&h, &t, &id);
	put_end(&h, 3);
	assert_int_equal(feed_recv(&h, "refs/heads/main", &id, NULL), WR_SYNC_DONE);
	SH("whole dst; rm -rf dst; cp -a dst.old dst");
	/* The blob is missing. */
	put_begin(&h, 2, 1, 1);
	t = put_tree(&h, WR_MODE_FILE, "new", &nowhere);
	id = put_commit(&h, &t, NULL);
	put_end(&h, 2);
	refused(&h, &id, WR_E_CORRUPT);
	/* It is in the repository, but no ref reaches it. */
	put_begin(&h, 2, 1, 1);
	t = put_tree(&h, WR_MODE_FILE, "new", &unreached_blob);
	id = put_commit(&h, &t, NULL);
	put_end(&h, 2);
	refused(&h, &id, WR_E_CORRUPT);
	/* So is a whole tree, and a parent. */
	put_begin(&h, 1, 1, 1);
	id = put_commit(&h, &unreached_tree, NULL);
	put_end(&h, 1);
	refused(&h, &id, WR_E_CORRUPT);
	put_begin(&h, 1, 1, 1);
	id = put_commit(&h, &tree, &unreached_commit);
	put_end(&h, 1);
	refused(&h, &id, WR_E_CORRUPT);
	/* And the tip itself. */
	put_begin(&h, 0, 1, 1);
	put_end(&h, 0);
	refused(&h, &unreached_commit, WR_E_CORRUPT);
	/* main reaches it, but the sender does not build on main. */
	put_begin(&h, 2, 1, 0);
	t = put_tree(&h, WR_MODE_FILE, "new", &blob);
	id = put_commit(&h, &t, NULL);
	put_end(&h, 2);
	refused(&h, &id, WR_E_CORRUPT);
	/* With main it is found, although no tree stands beside. */
	put_begin(&h, 2, 1, 1);
	t = put_tree(&h, WR_MODE_FILE, "new", &blob);
	id = put_commit(&h, &t, NULL);
	put_end(&h, 2);
	assert_int_equal(feed_recv(&h, "refs/heads/main", &id, NULL), WR_SYNC_DONE);
	SH("whole dst; rm -rf dst; cp -a dst.old dst");
	/* Something beside the line: its references count, too. */
	put_begin(&h, 3, 1, 1);
	put_tree(&h, WR_MODE_FILE, "aside", &nowhere);
	b = put_object(&h, WR_OBJ_BLOB, word, sizeof(word));
	id = put_commit(&h, &tree, NULL);
	put_end(&h, 3);
	refused(&h, &id, WR_E_CORRUPT);
	SH("whole dst; test -z \"$(ls dst/warren/incoming)\"");
}

static void
test_wrong_types(WR_UNUSED void **state)
{
	static const char word[] = "a word";
	struct wr_id id, b, t;
	struct hand h = {0};

	make_dst();
	/* A tree that is a blob, here and in the repository; a branch that is a tree. */
	put_begin(&h, 3, 1, 1);
	b = put_object(&h, WR_OBJ_BLOB, word, sizeof(word));
	t = put_tree(&h, WR_MODE_TREE, "new", &b);
	id = put_commit(&h, &t, NULL);
	put_end(&h, 3);
	refused(&h, &id, WR_E_CORRUPT);
	put_begin(&h, 2, 1, 1);
	t = put_tree(&h, WR_MODE_TREE, "new", &blob);
	id = put_commit(&h, &t, NULL);
	put_end(&h, 2);
	refused(&h, &id, WR_E_CORRUPT);
	put_begin(&h, 2, 1, 1);
	t = put_tree(&h, WR_MODE_FILE, "f", &tree);
	id = put_commit(&h, &t, NULL);
	put_end(&h, 2);
	refused(&h, &id, WR_E_CORRUPT);
	put_begin(&h, 1, 1, 1);
	t = put_tree(&h, WR_MODE_FILE, "f", &blob);
	put_end(&h, 1);
	refused(&h, &t, WR_E_CORRUPT);
	/* Objects that are not what they say. */
	put_begin(&h, 1, 1, 1);
	id = put_object(&h, WR_OBJ_COMMIT, word, sizeof(word));
	put_end(&h, 1);
	refused(&h, &id, WR_E_CORRUPT);
	put_begin(&h, 2, 1, 1);
	t = put_object(&h, WR_OBJ_TREE, word, sizeof(word));
	id = put_commit(&h, &t, NULL);
	put_end(&h, 2);
	refused(&h, &id, WR_E_CORRUPT);
	SH("whole dst");
}

static void
test_frames_out_of_form(WR_UNUSED void **state)
{
	static const char word[] = "a word";
	struct wr_id id = {{1}};
	struct hand h = {0};
	size_t at;

	make_dst();
	/* Twice the same, too many, too few. */
	put_begin(&h, 2, 1, 1);
	put_object(&h, WR_OBJ_BLOB, word, sizeof(word));
	put_object(&h, WR_OBJ_BLOB, word, sizeof(word));
	put_end(&h, 2);
	refused(&h, &tree, WR_E_CORRUPT);
	put_begin(&h, 1, 1, 1);
	put_object(&h, WR_OBJ_BLOB, word, 1);
	put_object(&h, WR_OBJ_BLOB, word, 2);
	refused(&h, &id, WR_E_INVALID);
	put_begin(&h, 2, 1, 1);
	put_object(&h, WR_OBJ_BLOB, word, 1);
	put_end(&h, 2);
	refused(&h, &id, WR_E_INVALID);
	put_begin(&h, 0, 1, 1);
	put_object(&h, WR_OBJ_BLOB, word, 1);
	refused(&h, &id, WR_E_INVALID);
	put_object(&h, WR_OBJ_BLOB, word, 1);
	refused(&h, &id, WR_E_INVALID);
	put_begin(&h, 1, 2, 1);
	refused(&h, &id, WR_E_INVALID);
	put_begin(&h, UINT64_C(1) << 40, 1, 1);
	refused(&h, &id, WR_E_LIMIT);
	/* An entry that is a delta, one that lies about its size, one without end. */
	put_begin(&h, 1, 1, 1);
	at = begin(&h, WR_FRAME_DATA);
	wr_buf_add32be(&h.out, 30);
	wr_buf_add8(&h.out, WR_OBJ_REF_DELTA << 4 | 5);
	wr_buf_add(&h.out, "0123456789012345678901234567890", 29);
	end(&h, at);
	refused(&h, &id, WR_E_CORRUPT);
	put_begin(&h, 1, 1, 1);
	at = begin(&h, WR_FRAME_DATA);
	wr_buf_add32be(&h.out, 10);
	wr_buf_add(&h.out, "\xbf\xff\xff\xff\x07x\x9cxxx", 10);
	end(&h, at);
	assert_int_equal(feed_recv(&h, "refs/heads/main", &id, NULL), WR_SYNC_FAILED);
	put_begin(&h, 1, 1, 1);
	at = begin(&h, WR_FRAME_DATA);
	wr_buf_add32be(&h.out, UINT32_MAX);
	end(&h, at);
	refused(&h, &id, WR_E_LIMIT);
	/* Frames that are too long, unknown, empty, of the other side. */
	wr_buf_add32be(&h.out, WR_FRAME_MAX + 1);
	wr_buf_add8(&h.out, WR_FRAME_DATA);
	refused(&h, &id, WR_E_INVALID);
	for (unsigned type = 0; type < 256; type++) {
		if (type == WR_FRAME_WAIT || type == WR_FRAME_MORE)
			continue;
		end(&h, begin(&h, (enum wr_frame)type));
		assert_int_equal(feed_recv(&h, "refs/heads/main", &id, NULL), WR_SYNC_FAILED);
	}
	/* MORE for ever. */
	end(&h, begin(&h, WR_FRAME_MORE));
	end(&h, begin(&h, WR_FRAME_MORE));
	refused(&h, &id, WR_E_INVALID);
	SH("whole dst");
}

/* What a receiver says to a sender that has secrets. */
static void
test_hostile_receiver(WR_UNUSED void **state)
{
	struct wr_repo *src;
	struct wr_save_rec list;
	struct wr_id tip, secret;
	struct hand h = {0};
	struct wr_sync *s;
	uint8_t buf[1 << 16];
	struct wr_buf got = WR_BUF_INIT;
	size_t at, n;

	SH("echo secret-of-a-branch >w/s; gsave; g src branch secret; g src rev-parse HEAD >sec; "
	   "g src update-ref -d refs/heads/main; rm w/s; rm -f src/index; echo open >w/o; "
	   "gsave 1700000100; g src repack -adq");
	tip = git_id("git --git-dir=src rev-parse main");
	secret = git_id("cat sec");
	src = open_named("src");
	list = list_of("refs/heads/main", &tip);
	s = wr_sync_send_new(src, &list, NULL);
	/* It says that it has the secret branch: nothing of it comes, not even what is beside. */
	at = begin(&h, WR_FRAME_HELLO);
	wr_buf_add32be(&h.out, WR_SYNC_MAGIC);
	wr_buf_add8(&h.out, 0);
	wr_buf_add8(&h.out, WR_SYNC_VERSION);
	wr_buf_add32be(&h.out, 1);
	wr_buf_add8(&h.out, 0);
	end(&h, at);
	at = begin(&h, WR_FRAME_REFS);
	wr_frame_add_ref(&h.out, "refs/heads/secret", &secret);
	end(&h, at);
	wr_sync_feed(s, h.out.p, h.out.len);
	while ((n = wr_sync_pull(s, buf, sizeof(buf))) || wr_sync_busy(s))
		wr_buf_add(&got, buf, n);
	assert_int_equal(wr_sync_status(s), WR_SYNC_RUNNING);
	assert_true(got.len < 1000);
	/* 3 objects: commit, tree, blob of main. */
	assert_int_equal(wr_get64be(got.p + WR_FRAME_HEAD + WR_ID_LEN), 3);
	wr_sync_free(s);
	/* Too many refs, bad names, DONE before its time. */
	for (int i = 0; i < 4; i++) {
		s = wr_sync_send_new(src, &list, NULL);
		wr_buf_clear(&h.out);
		at = begin(&h, i == 2 ? WR_FRAME_DONE : WR_FRAME_HELLO);
		wr_buf_add32be(&h.out, i == 3 ? 0 : WR_SYNC_MAGIC);
		wr_buf_add8(&h.out, 0);
		wr_buf_add8(&h.out, WR_SYNC_VERSION);
		wr_buf_add32be(&h.out, i == 0 ? 100000 : 1);
		wr_buf_add8(&h.out, 0);
		end(&h, at);
		at = begin(&h, WR_FRAME_REFS);
		wr_buf_add(&h.out, "\xff\xffxxxxxxxx", 10);
		end(&h, at);
		wr_sync_feed(s, h.out.p, h.out.len);
		assert_int_equal(wr_sync_status(s), WR_SYNC_FAILED);
		wr_sync_free(s);
	}
	wr_buf_fini(&h.out);
	wr_buf_fini(&got);
	rec_fini(&list);
	wr_repo_close(src);
}

/* An object that is here with other bytes: made by a pack of ours whose index lies. */
static void
test_same_id_other_bytes(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;

	SH("seq 100 >w/f; save");
	/* dst holds garbage under the id: damaged, so what comes is taken. */
	SH("o=$(g src rev-parse main:f); g dst unpack-objects -q <$(ls src/objects/pack/*.pack); "
	   "f=dst/objects/$(echo $o | cut -c1-2)/$(echo $o | cut -c3-); chmod u+w $f; "
	   "echo rubbish >$f");
	push_ok(&p);
	SH("same; g dst cat-file blob main:f | cmp - w/f");
}

static void
test_stale_quarantines(WR_UNUSED void **state)
{
	struct push p = PUSH_INIT;
	struct wr_repo *dst;
	size_t dropped;

	SH("bytes a 200000 >w/f; save");
	p.port.cut_at = 100000;
	assert_int_equal(push(&p), -1);
	rec_fini(&p.list);
	SH("test $(ls dst/warren/incoming | wc -l) = 1");
	dst = open_named("dst");
	assert_ok(wr_repo_lock(dst, "test", 0, &err));
	assert_ok(wr_sync_tidy(dst, wr_clock_wall().s + 100, -1, 200, &dropped, &err));
	SH("test $(ls dst/warren/incoming | wc -l) = 1");
	assert_ok(wr_sync_tidy(dst, wr_clock_wall().s + 300, -1, 200, &dropped, &err));
	SH("test $(ls dst/warren/incoming | wc -l) = 0");
	wr_repo_close(dst);
	/* Many different ones that were given up do not pile up. */
	for (int i = 0; i < 9; i++) {
		SH("bytes a%d 200000 >w/f; save main 17000001%02d", i, i);
		p = (struct push)PUSH_INIT;
		p.port.cut_at = 100000;
		assert_int_equal(push(&p), -1);
		rec_fini(&p.list);
	}
	SH("test $(ls dst/warren/incoming | wc -l) -le 5");
	push_same();
}

static void
put_offer(struct hand *h, bool last, const struct wr_id *id, size_t bytes)
{
	size_t at = begin(h, WR_FRAME_OFFER);

	wr_buf_add8(&h->out, last);
	wr_buf_add(&h->out, id->b, bytes);
	end(h, at);
}

/* A damaged repository takes what it asked for; a whole one is offered nothing. */
static void
test_mend_takes_what_it_asked_for(WR_UNUSED void **state)
{
	struct wr_sync_recv_opts o = {.mode = WR_SYNC_MEND};
	struct wr_id x = wr_obj_id(WR_OBJ_BLOB, "x", 1), y = wr_obj_id(WR_OBJ_BLOB, "y", 1);
	struct hand h = {0};

	put_offer(&h, true, &x, WR_ID_LEN);
	put_begin(&h, 1, 0, 0);
	put_object(&h, WR_OBJ_BLOB, "y", 1);
	put_end(&h, 1);
	assert_int_equal(feed_recv(&h, "refs/heads/main", &x, &o), WR_SYNC_FAILED);
	assert_non_null(strstr(err.msg, "not asked for"));
	/* Something that nothing refers to, but wanted; and it is not wanted a second time. */
	for (int again = 0; again < 2; again++) {
		put_offer(&h, false, &y, WR_ID_LEN);
		put_offer(&h, true, &x, WR_ID_LEN);
		put_begin(&h, 1, 0, 0);
		put_object(&h, WR_OBJ_BLOB, "x", 1);
		put_end(&h, 1);
		assert_int_equal(feed_recv(&h, "refs/heads/main", &x, &o),
				 again ? WR_SYNC_FAILED : WR_SYNC_DONE);
	}
	SH("test \"$(g dst cat-file blob %s)\" = x; test -z \"$(g dst for-each-ref)\"",
	   wr_id_hex(&x).s);
	put_offer(&h, true, &x, WR_ID_LEN - 1);
	assert_int_equal(feed_recv(&h, "refs/heads/main", &x, &o), WR_SYNC_FAILED);
	put_offer(&h, false, &x, 0);
	assert_int_equal(feed_recv(&h, "refs/heads/main", &x, &o), WR_SYNC_FAILED);
	o.max_objects = 1;
	put_offer(&h, false, &x, WR_ID_LEN);
	put_offer(&h, true, &y, WR_ID_LEN);
	assert_int_equal(feed_recv(&h, "refs/heads/main", &x, &o), WR_SYNC_FAILED);
	assert_int_equal(err.code, WR_E_LIMIT);
	put_offer(&h, true, &x, WR_ID_LEN);
	assert_int_equal(feed_recv(&h, "refs/heads/main", &x, NULL), WR_SYNC_FAILED);
	assert_int_equal(err.code, WR_E_INVALID);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup_sync, teardown_dir)
	    T(test_closure_is_proven),
	    T(test_wrong_types),
	    T(test_frames_out_of_form),
	    T(test_hostile_receiver),
	    T(test_same_id_other_bytes),
	    T(test_stale_quarantines),
	    T(test_mend_takes_what_it_asked_for),
	};
	int status;

	if (is_own_tool(argc, argv, &status))
		return status;
	return cmocka_run_group_tests(tests, NULL, NULL);
}

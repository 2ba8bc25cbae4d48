/* SPDX-License-Identifier: Apache-2.0 */
/* Reading packs that git made, and packs that nobody should make. */
#include "engine/pack/pack.h"
#include "engine/pack/test_pack.h"

static char name[80];

/* Every object reads back as its id says, forwards and in a mixed order. */
static void
read_all(struct opened *o, uint32_t step)
{
	for (uint32_t k = 0; k < o->idx.count; k++) {
		uint32_t i = (uint32_t)((uint64_t)k * step % o->idx.count);
		struct wr_id want = wr_idx_id(&o->idx, i), id;
		struct wr_err err = WR_ERR_INIT;
		enum wr_obj_type type = WR_OBJ_NONE, stat_type = WR_OBJ_NONE;
		uint64_t size = 0;

		if (wr_pack_stat(&o->pack, &o->idx, o->r, wr_idx_offset(&o->idx, i), &stat_type,
				 &size, &err) < 0 ||
		    wr_pack_read(&o->pack, &o->idx, o->r, wr_idx_offset(&o->idx, i), &type, &o->out,
				 &err) < 0)
			fail_msg("%s", err.msg);
		id = wr_obj_id(type, o->out.p, o->out.len);
		assert_id_equal(&id, &want);
		assert_int_equal(stat_type, type);
		assert_int_equal(size, o->out.len);
	}
}

static void
read_git_pack(const char *settings, unsigned type)
{
	struct opened o;
	size_t of_type = 0;

	make_pack(settings, name, sizeof(name));
	/* Long chains too. */
	assert_int_equal(run(NULL,
			     "git verify-pack -v repo/objects/pack/%s.idx | "
			     "grep -q '^chain length = [1-9]'",
			     name),
			 0);
	open_both(&o, name);
	assert_int_equal(o.pack.count, o.idx.count);
	for (uint32_t i = 0; i < o.idx.count; i++) {
		uint8_t c;

		assert_int_equal(pread(o.pack.fd, &c, 1, (off_t)wr_idx_offset(&o.idx, i)), 1);
		of_type += (c >> 4 & 7) == type;
	}
	assert_true(of_type >= 50); /* the case is really tested */
	read_all(&o, 1);
	read_all(&o, 101);
	close_both(&o);
}

static void
test_pack_read__ofs_deltas(WR_UNUSED void **state)
{
	read_git_pack("", WR_OBJ_OFS_DELTA);
}

static void
test_pack_read__ref_deltas(WR_UNUSED void **state)
{
	read_git_pack("-c repack.useDeltaBaseOffset=false", WR_OBJ_REF_DELTA);
}

static void
test_pack_read__large_and_many(WR_UNUSED void **state)
{
	static const size_t size[] = {3000000, 70000, 300000, 12, 200000, 1 << 18, 1 << 17};
	WR_SCOPED(wr_freep) uint8_t *p = wr_malloc(3000000);
	struct hand_pack h;
	struct opened o;
	uint64_t seed = 1;

	hand_start(&h, WR_ARRAY_LEN(size) * 2);
	for (size_t i = 0; i < WR_ARRAY_LEN(size) * 2; i++) {
		size_t len = size[i / 2];
		struct wr_id id;

		(i % 2 ? random_bytes : random_text)(&seed, p, len);
		id = wr_obj_id(WR_OBJ_BLOB, p, len);
		hand_list(&h, &id, hand_head(&h, WR_OBJ_BLOB, len));
		hand_stream(&h, p, len);
	}
	hand_finish(&h, "large");
	open_both(&o, "large");
	read_all(&o, 1);
	read_all(&o, 5);
	close_both(&o);
}

/* One reader used on two packs that live at the same descriptor in turn. */
static void
test_pack_reader__no_bytes_of_another_pack(WR_UNUSED void **state)
{
	struct wr_pack_reader *r = wr_pack_reader_new();
	struct wr_buf out = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;

	for (unsigned i = 0; i < 2; i++) {
		const char *text = i ? "second" : "first one";
		struct wr_id id = wr_obj_id(WR_OBJ_BLOB, text, strlen(text));
		enum wr_obj_type type;
		struct hand_pack h;
		struct opened o;

		hand_start(&h, 1);
		hand_list(&h, &id, hand_head(&h, WR_OBJ_BLOB, strlen(text)));
		hand_stream(&h, text, strlen(text));
		hand_finish(&h, "turn");
		open_both(&o, "turn");
		assert_int_equal(wr_pack_read(&o.pack, &o.idx, r, 12, &type, &out, &err), 0);
		assert_string_equal(wr_buf_str(&out), text);
		close_both(&o);
	}
	wr_pack_reader_free(r);
	wr_buf_fini(&out);
}

static void
read_fails(struct opened *o, uint64_t off, enum wr_err_code code)
{
	struct wr_err err = WR_ERR_INIT;
	enum wr_obj_type type = 99;

	assert_int_equal(wr_pack_read(&o->pack, &o->idx, o->r, off, &type, &o->out, &err), -1);
	assert_int_equal(err.code, code);
	assert_non_null(strstr(err.msg, o->pack.name));
	assert_int_equal(type, 99);
}

static void
test_pack_read__circles(WR_UNUSED void **state)
{
	static const uint8_t delta[] = {1, 1, 0x90, 1};
	struct wr_id id[3] = {{{1}}, {{2}}, {{3}}};
	struct hand_pack h;
	struct opened o;

	hand_start(&h, 3);
	for (unsigned i = 0; i < 3; i++) {
		/* 0 -> 1 -> 2 -> 1 */
		const struct wr_id *base = &id[i == 2 ? 1 : i + 1];

		hand_list(&h, &id[i], hand_head(&h, WR_OBJ_REF_DELTA, sizeof(delta)));
		wr_buf_add(&h.b, base->b, WR_ID_LEN);
		hand_stream(&h, delta, sizeof(delta));
	}
	hand_finish(&h, "circle");
	open_both(&o, "circle");
	for (uint32_t i = 0; i < 3; i++) {
		enum wr_obj_type type;
		struct wr_err err = WR_ERR_INIT;
		uint64_t size;

		read_fails(&o, wr_idx_offset(&o.idx, i), WR_E_CORRUPT);
		assert_int_equal(wr_pack_stat(&o.pack, &o.idx, o.r, wr_idx_offset(&o.idx, i), &type,
					      &size, &err),
				 -1);
	}
	close_both(&o);
}

static void
test_pack_read__base_absent(WR_UNUSED void **state)
{
	static const uint8_t delta[] = {1, 1, 0x90, 1};
	struct wr_err err = WR_ERR_INIT;
	struct wr_id id = {{1}}, other = {{2}};
	enum wr_obj_type type;
	struct hand_pack h;
	struct opened o;

	hand_start(&h, 1);
	hand_list(&h, &id, hand_head(&h, WR_OBJ_REF_DELTA, sizeof(delta)));
	wr_buf_add(&h.b, other.b, WR_ID_LEN);
	hand_stream(&h, delta, sizeof(delta));
	hand_finish(&h, "thin");
	open_both(&o, "thin");
	read_fails(&o, 12, WR_E_CORRUPT);
	assert_int_equal(wr_pack_read(&o.pack, NULL, o.r, 12, &type, &o.out, &err), -1);
	close_both(&o);
}

/* A chain of `depth` deltas on one blob; reading its end. */
static int
read_chain(unsigned depth, struct wr_err *err)
{
	static const uint8_t delta[] = {1, 1, 0x90, 1};
	struct wr_id id = {{1}};
	struct hand_pack h;
	struct opened o;
	enum wr_obj_type type;
	uint64_t last, off;
	int rc;

	hand_start(&h, depth + 1);
	last = hand_head(&h, WR_OBJ_BLOB, 1);
	hand_stream(&h, "x", 1);
	for (unsigned i = 0; i < depth; i++) {
		off = hand_head(&h, WR_OBJ_OFS_DELTA, sizeof(delta));
		hand_distance(&h, off - last);
		hand_stream(&h, delta, sizeof(delta));
		last = off;
	}
	hand_list(&h, &id, last);
	hand_finish(&h, "chain");
	open_both(&o, "chain");
	rc = wr_pack_read(&o.pack, &o.idx, o.r, last, &type, &o.out, err);
	if (rc == 0) {
		assert_int_equal(type, WR_OBJ_BLOB);
		assert_string_equal(wr_buf_str(&o.out), "x");
	}
	close_both(&o);
	return rc;
}

static void
test_pack_read__depth(WR_UNUSED void **state)
{
	struct wr_err err = WR_ERR_INIT;

	assert_int_equal(read_chain(WR_DELTA_DEPTH_MAX, &err), 0);
	assert_int_equal(read_chain(WR_DELTA_DEPTH_MAX + 1, &err), -1);
	assert_int_equal(err.code, WR_E_LIMIT);
}

static void
test_pack_read__hostile_heads(WR_UNUSED void **state)
{
	struct wr_id id = {{1}};
	struct hand_pack h;
	struct opened o;
	uint64_t off[8];

	hand_start(&h, 8);
	off[0] = hand_head(&h, WR_OBJ_BLOB, UINT64_C(1) << 50);
	hand_stream(&h, "x", 1);
	off[1] = hand_head(&h, WR_OBJ_BLOB, WR_OBJ_MAX); /* more than the bytes can make */
	hand_stream(&h, "x", 1);
	off[2] = hand_head(&h, 5, 1);
	hand_stream(&h, "x", 1);
	off[3] = hand_head(&h, 0, 1);
	hand_stream(&h, "x", 1);
	off[4] = hand_head(&h, WR_OBJ_OFS_DELTA, 4);
	hand_distance(&h, 0);
	hand_stream(&h, "\1\1\x90\1", 4);
	off[5] = hand_head(&h, WR_OBJ_OFS_DELTA, 4);
	hand_distance(&h, off[5] - 4); /* into the header of the pack */
	hand_stream(&h, "\1\1\x90\1", 4);
	off[6] = hand_head(&h, WR_OBJ_BLOB, 2);
	hand_stream(&h, "x", 1);
	off[7] = h.b.len; /* a size without end */
	for (unsigned i = 0; i < 12; i++)
		wr_buf_add8(&h.b, 0xff);
	hand_list(&h, &id, 12);
	hand_finish(&h, "hostile");
	open_both(&o, "hostile");
	read_fails(&o, off[0], WR_E_LIMIT);
	for (unsigned i = 1; i < 8; i++)
		read_fails(&o, off[i], WR_E_CORRUPT);
	read_fails(&o, o.pack.size, WR_E_CORRUPT);
	read_fails(&o, UINT64_MAX, WR_E_CORRUPT);
	close_both(&o);
}

static void
test_pack_read__became_shorter(WR_UNUSED void **state)
{
	struct wr_err err = WR_ERR_INIT;
	enum wr_obj_type type;
	struct opened o;
	uint64_t last = 0;

	make_pack("", name, sizeof(name));
	open_both(&o, name);
	for (uint32_t i = 0; i < o.idx.count; i++)
		last = WR_MAX(last, wr_idx_offset(&o.idx, i));
	assert_int_equal(run(NULL, "chmod u+w repo/objects/pack/*.pack && "
				   "truncate -s 100 repo/objects/pack/*.pack"),
			 0);
	assert_int_equal(wr_pack_read(&o.pack, &o.idx, o.r, last, &type, &o.out, &err), -1);
	assert_int_equal(err.code, WR_E_CORRUPT);
	close_both(&o);
}

static void
test_pack_open__refuses(WR_UNUSED void **state)
{
	static const char junk[40] = "PACK\0\0\0\4";
	struct wr_pack p = WR_PACK_INIT;
	struct wr_err err = WR_ERR_INIT;

	wr_closep(&dir_fd);
	dir_fd = open(test_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	write_file("junk.pack", junk, 40);
	assert_int_equal(wr_pack_open(&p, dir_fd, "junk.pack", &err), -1);
	assert_int_equal(err.code, WR_E_UNSUPPORTED);
	write_file("junk.pack", junk, 31);
	assert_int_equal(wr_pack_open(&p, dir_fd, "junk.pack", &err), -1);
	assert_int_equal(err.code, WR_E_CORRUPT);
	write_file("junk.pack", junk + 1, 39);
	assert_int_equal(wr_pack_open(&p, dir_fd, "junk.pack", &err), -1);
	assert_int_equal(err.code, WR_E_CORRUPT);
	assert_int_equal(wr_pack_open(&p, dir_fd, "none.pack", &err), -1);
	assert_int_equal(err.code, WR_E_NOT_FOUND);
	assert_int_equal(wr_pack_open(&p, AT_FDCWD, test_dir, &err), -1);
	wr_pack_close(&p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_pack_read__ofs_deltas),
	    cmocka_unit_test(test_pack_read__ref_deltas),
	    cmocka_unit_test(test_pack_read__large_and_many),
	    cmocka_unit_test(test_pack_reader__no_bytes_of_another_pack),
	    cmocka_unit_test(test_pack_read__circles),
	    cmocka_unit_test(test_pack_read__base_absent),
	    cmocka_unit_test(test_pack_read__depth),
	    cmocka_unit_test(test_pack_read__hostile_heads),
	    cmocka_unit_test(test_pack_read__became_shorter),
	    cmocka_unit_test(test_pack_open__refuses),
	};

	return cmocka_run_group_tests(tests, setup_dir, teardown_pack);
}

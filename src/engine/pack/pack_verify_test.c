/* SPDX-License-Identifier: Apache-2.0 */
/* Checking whole packs and rebuilding indexes; git says which damage there is. */
#include "engine/pack/pack.h"
#include "engine/pack/test_pack.h"
#include "sys/pool.h"

static char name[80];
static struct wr_pool *pool;

struct found {
	size_t objects, whole;
	struct wr_id last;
	char why[2000];
	uint64_t done;
	int cancel;
};

static void
on_bad(void *ctx, const struct wr_id *id, const char *why)
{
	struct found *f = ctx;

	if (id) {
		f->objects++;
		f->last = *id;
	} else {
		f->whole++;
	}
	snprintf(f->why, sizeof(f->why), "%s", why);
}

static int
on_progress(void *ctx, uint64_t done)
{
	struct found *f = ctx;

	assert_true(done >= f->done);
	f->done = done;
	return f->cancel;
}

static struct found
verify(const char *which)
{
	struct wr_err err = WR_ERR_INIT;
	struct found f = {0};
	struct opened o;

	open_both(&o, which);
	if (wr_pack_verify(&o.pack, &o.idx, pool, on_bad, on_progress, &f, &err) < 0)
		fail_msg("%s", err.msg);
	close_both(&o);
	return f;
}

static void
patch(const char *suffix, uint64_t off, uint8_t with)
{
	char file[90];
	uint8_t c;
	int fd;

	snprintf(file, sizeof(file), "%s.%s", name, suffix);
	assert_int_equal(fchmodat(dir_fd, file, 0644, 0), 0);
	fd = openat(dir_fd, file, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &c, 1, (off_t)off), 1);
	c ^= with;
	assert_int_equal(pwrite(fd, &c, 1, (off_t)off), 1);
	close(fd);
}

static void
test_pack_verify__good_packs(WR_UNUSED void **state)
{
	static const char *const settings[] = {"", "-c repack.useDeltaBaseOffset=false",
					       "-c core.compression=0"};
	for (size_t i = 0; i < WR_ARRAY_LEN(settings); i++) {
		struct found f;

		make_pack(settings[i], name, sizeof(name));
		f = verify(name);
		assert_string_equal(f.why, "");
		assert_int_equal(f.objects + f.whole, 0);
		assert_true(f.done > 5000);
	}
	/* An old index has no CRCs. */
	assert_int_equal(run(NULL,
			     "cd repo/objects/pack && rm -f *.idx *.rev && "
			     "git index-pack --index-version=1 %s.pack",
			     name),
			 0);
	assert_int_equal(verify(name).objects, 0);
}

static void
test_pack_verify__every_byte_counts(WR_UNUSED void **state)
{
	struct opened o;
	uint64_t size;

	make_pack("", name, sizeof(name));
	open_both(&o, name);
	size = o.pack.size;
	close_both(&o);
	for (uint64_t off = 12; off < size; off += 41) {
		struct found f;

		patch("pack", off, 0x20);
		f = verify(name);
		if (off < size - 20)
			assert_true(f.objects > 0);
		else
			assert_true(f.objects == 0 && f.whole == 1);
		patch("pack", off, 0x20);
	}
	patch("pack", size - 1, 1);
	assert_int_equal(verify(name).whole, 1);
	patch("pack", size - 1, 1);
	patch("pack", 11, 1); /* the count */
	assert_true(verify(name).whole >= 1);
	patch("pack", 11, 1);
	assert_int_equal(verify(name).objects + verify(name).whole, 0);
}

/* The right object is named. */
static void
test_pack_verify__names_the_object(WR_UNUSED void **state)
{
	char text[3][2000];
	struct wr_id id[3];
	uint64_t off[3], seed = 4;
	struct hand_pack h;
	struct found f;

	hand_start(&h, 3);
	for (unsigned i = 0; i < 3; i++) {
		random_bytes(&seed, text[i], sizeof(text[i]));
		id[i] = wr_obj_id(WR_OBJ_BLOB, text[i], sizeof(text[i]));
		off[i] = hand_head(&h, WR_OBJ_BLOB, sizeof(text[i]));
		hand_list(&h, &id[i], off[i]);
		hand_stream(&h, text[i], sizeof(text[i]));
	}
	hand_finish(&h, "three");
	snprintf(name, sizeof(name), "three");
	f = verify(name); /* no CRCs in this index: they are 0 */
	assert_int_equal(f.objects, 3);
	assert_non_null(strstr(f.why, "CRC"));
	for (unsigned i = 0; i < 3; i++) {
		struct wr_buf idx = WR_BUF_INIT;
		struct wr_err err = WR_ERR_INIT;
		struct opened o;

		open_both(&o, name);
		assert_int_equal(wr_pack_index(&o.pack, &idx, on_bad, &f, &err), 0);
		close_both(&o);
		write_file("three.idx", idx.p, idx.len);
		wr_buf_fini(&idx);
		assert_int_equal(verify(name).objects, 0);
		patch("pack", off[i] + 500, 1);
		f = verify(name);
		assert_int_equal(f.objects, 1);
		assert_id_equal(&f.last, &id[i]);
		patch("pack", off[i] + 500, 1);
	}
}

static void
test_pack_verify__tree_shape(WR_UNUSED void **state)
{
	/* Two entries in the wrong order. */
	static const char tree[] = "100644 b\0aaaaaaaaaaaaaaaaaaaa100644 a\0aaaaaaaaaaaaaaaaaaaa";
	struct wr_id id = wr_obj_id(WR_OBJ_TREE, tree, sizeof(tree) - 1);
	struct wr_buf idx = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct hand_pack h;
	struct found f = {0};
	struct opened o;

	hand_start(&h, 1);
	hand_list(&h, &id, hand_head(&h, WR_OBJ_TREE, sizeof(tree) - 1));
	hand_stream(&h, tree, sizeof(tree) - 1);
	hand_finish(&h, "tree");
	open_both(&o, "tree");
	assert_int_equal(wr_pack_index(&o.pack, &idx, on_bad, &f, &err), 0);
	close_both(&o);
	write_file("tree.idx", idx.p, idx.len);
	wr_buf_fini(&idx);
	f = verify("tree");
	assert_int_equal(f.objects, 1);
	assert_non_null(strstr(f.why, "tree"));
}

static void
test_pack_verify__index_of_another(WR_UNUSED void **state)
{
	struct opened a, b;
	struct wr_err err = WR_ERR_INIT;
	struct found f = {0};
	struct wr_buf text = WR_BUF_INIT, idx = WR_BUF_INIT;
	struct wr_idx_entry *e;
	struct wr_id sum;

	make_pack("", name, sizeof(name));
	open_both(&a, name);
	/* The same objects, another trailer named in the index. */
	e = wr_calloc(a.idx.count, sizeof(*e));
	for (uint32_t i = 0; i < a.idx.count; i++) {
		e[i].id = wr_idx_id(&a.idx, i);
		e[i].off = wr_idx_offset(&a.idx, i);
		wr_idx_crc(&a.idx, i, &e[i].crc);
	}
	b = a;
	sum = wr_idx_pack_sum(&a.idx);
	sum.b[3] ^= 1;
	wr_idx_format(&idx, e, a.idx.count, &sum);
	assert_int_equal(wr_idx_open_mem(&b.idx, idx.p, idx.len, &err), 0);
	assert_int_equal(wr_pack_verify(&b.pack, &b.idx, pool, on_bad, NULL, &f, &err), 0);
	assert_int_equal(f.objects, 0);
	assert_int_equal(f.whole, 1);
	/* One object not listed: the others are good, the gap is told. */
	f = (struct found){0};
	wr_buf_clear(&idx);
	sum.b[3] ^= 1;
	wr_idx_format(&idx, e + 1, a.idx.count - 1, &sum);
	assert_int_equal(wr_idx_open_mem(&b.idx, idx.p, idx.len, &err), 0);
	assert_int_equal(wr_pack_verify(&b.pack, &b.idx, pool, on_bad, NULL, &f, &err), 0);
	assert_int_equal(f.whole, 1);
	/* Offsets that lead nowhere. */
	f = (struct found){0};
	e[0].off = UINT64_MAX;
	e[1].off = 3;
	e[2].off = e[3].off;
	wr_buf_clear(&idx);
	wr_idx_format(&idx, e, a.idx.count, &sum);
	assert_int_equal(wr_idx_open_mem(&b.idx, idx.p, idx.len, &err), 0);
	assert_int_equal(wr_pack_verify(&b.pack, &b.idx, pool, on_bad, NULL, &f, &err), 0);
	assert_true(f.objects >= 3);
	close_both(&a);
	free(e);
	wr_buf_fini(&idx);
	wr_buf_fini(&text);
}

static void
test_pack_verify__cancel(WR_UNUSED void **state)
{
	struct wr_err err = WR_ERR_INIT;
	struct found f = {.cancel = 1};
	struct opened o;

	make_pack("", name, sizeof(name));
	open_both(&o, name);
	assert_int_equal(wr_pack_verify(&o.pack, &o.idx, pool, on_bad, on_progress, &f, &err), -1);
	assert_int_equal(err.code, WR_E_CANCELLED);
	close_both(&o);
}

static void
test_pack_index__as_git_does(WR_UNUSED void **state)
{
	static const char *const settings[] = {"", "-c repack.useDeltaBaseOffset=false"};

	for (size_t i = 0; i < WR_ARRAY_LEN(settings); i++) {
		struct wr_buf idx = WR_BUF_INIT;
		struct wr_err err = WR_ERR_INIT;
		struct found f = {0};
		struct opened o;

		make_pack(settings[i], name, sizeof(name));
		open_both(&o, name);
		if (wr_pack_index(&o.pack, &idx, on_bad, &f, &err) < 0)
			fail_msg("%s", err.msg);
		assert_int_equal(f.objects + f.whole, 0);
		assert_int_equal(idx.len, o.idx.map_len);
		assert_memory_equal(idx.p, o.idx.map, idx.len);
		close_both(&o);
		wr_buf_fini(&idx);
	}
}

/* A REF_DELTA chain whose bases all come later, one whose base never comes, and a circle. */
static void
test_pack_index__late_bases(WR_UNUSED void **state)
{
	static const char text[] = "0123456789";
	uint8_t delta[] = {10, 10, 0x91, 1, 9, 1, 'x'};
	struct wr_buf idx = WR_BUF_INIT, now = WR_BUF_INIT, next = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_id id[8], none = {{77}};
	struct hand_pack h;
	struct found f = {0};
	struct opened o;

	/* id[0] is the blob, each next one a delta on the one before; packed last first. */
	wr_buf_add(&now, text, 10);
	for (unsigned i = 0; i < 8; i++) {
		id[i] = wr_obj_id(WR_OBJ_BLOB, now.p, now.len);
		delta[6] = (uint8_t)('a' + i);
		assert_int_equal(wr_delta_apply(now.p, now.len, delta, 7, &next, &err), 0);
		wr_buf_clear(&now);
		wr_buf_add(&now, next.p, next.len);
	}
	hand_start(&h, 10);
	for (unsigned i = 8; i-- > 1;) {
		delta[6] = (uint8_t)('a' + i - 1);
		hand_head(&h, WR_OBJ_REF_DELTA, 7);
		wr_buf_add(&h.b, id[i - 1].b, WR_ID_LEN);
		hand_stream(&h, delta, 7);
	}
	for (unsigned i = 0; i < 2; i++) {
		hand_head(&h, WR_OBJ_REF_DELTA, 7);
		wr_buf_add(&h.b, none.b, WR_ID_LEN);
		hand_stream(&h, delta, 7);
	}
	hand_head(&h, WR_OBJ_BLOB, 10);
	hand_stream(&h, text, 10);
	hand_finish(&h, "late");
	open_both(&o, "late");
	if (wr_pack_index(&o.pack, &idx, on_bad, &f, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(f.whole, 2);
	assert_non_null(strstr(f.why, "4d00000000"));
	wr_idx_close(&o.idx);
	assert_int_equal(wr_idx_open_mem(&o.idx, idx.p, idx.len, &err), 0);
	assert_int_equal(o.idx.count, 8);
	for (unsigned i = 0; i < 8; i++)
		assert_true(wr_idx_find(&o.idx, &id[i]) >= 0);
	assert_int_equal(wr_idx_check(&o.idx, o.pack.size, &err), 0);
	close_both(&o);
	wr_buf_fini(&idx);
	wr_buf_fini(&now);
	wr_buf_fini(&next);
}

static void
test_pack_index__damage(WR_UNUSED void **state)
{
	struct wr_buf idx = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct found f = {0};
	struct wr_idx x;
	struct opened o;
	uint64_t *off, at;
	uint32_t n;

	make_pack("-c pack.depth=0 -c pack.window=0", name, sizeof(name));
	open_both(&o, name);
	n = o.idx.count;
	off = wr_calloc(n, sizeof(*off));
	for (uint32_t i = 0; i < n; i++)
		off[i] = wr_idx_offset(&o.idx, i);
	at = off[n / 2];
	patch("pack", at + 4, 0xff);
	assert_int_equal(wr_pack_index(&o.pack, &idx, on_bad, &f, &err), 0);
	assert_int_equal(f.whole, 1);
	assert_non_null(strstr(f.why, "lost"));
	assert_int_equal(wr_idx_open_mem(&x, idx.p, idx.len, &err), 0);
	for (uint32_t i = 0; i < n; i++) {
		struct wr_id id = wr_idx_id(&o.idx, i);

		if (off[i] < at) /* a delta's base always lies before it here */
			assert_true(wr_idx_find(&x, &id) >= 0);
		else
			assert_int_equal(wr_idx_find(&x, &id), -1);
	}
	/* Cut in the first object: nothing is left. */
	patch("pack", 14, 0xff);
	wr_buf_clear(&idx);
	assert_int_equal(wr_pack_index(&o.pack, &idx, on_bad, &f, &err), -1);
	assert_int_equal(err.code, WR_E_CORRUPT);
	assert_int_equal(idx.len, 0);
	close_both(&o);
	free(off);
	wr_buf_fini(&idx);
}

static int
setup(void **state)
{
	pool = wr_pool_new(3);
	return setup_dir(state);
}

static int
teardown(void **state)
{
	wr_pool_free(pool);
	return teardown_pack(state);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_pack_verify__good_packs),
	    cmocka_unit_test(test_pack_verify__every_byte_counts),
	    cmocka_unit_test(test_pack_verify__names_the_object),
	    cmocka_unit_test(test_pack_verify__tree_shape),
	    cmocka_unit_test(test_pack_verify__index_of_another),
	    cmocka_unit_test(test_pack_verify__cancel),
	    cmocka_unit_test(test_pack_index__as_git_does),
	    cmocka_unit_test(test_pack_index__late_bases),
	    cmocka_unit_test(test_pack_index__damage),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

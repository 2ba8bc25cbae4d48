/* SPDX-License-Identifier: Apache-2.0 */
/* git writes indexes and reads ours. */
#include "engine/pack/idx.h"
#include "engine/pack/test_pack.h"

static char name[80];

static void
open_idx(struct wr_idx *x)
{
	struct wr_err err = WR_ERR_INIT;
	char file[90];

	snprintf(file, sizeof(file), "%s.idx", name);
	if (wr_idx_open(x, dir_fd, file, &err) < 0)
		fail_msg("%s", err.msg);
}

static uint64_t
pack_size(void)
{
	struct stat st;
	char file[90];

	snprintf(file, sizeof(file), "%s.pack", name);
	assert_int_equal(fstatat(dir_fd, file, &st, 0), 0);
	return (uint64_t)st.st_size;
}

/* Compare with `git show-index`: offset, id, (crc) per line, by id. */
static void
compare_with_git(const struct wr_idx *x)
{
	struct wr_buf out = WR_BUF_INIT;
	uint32_t n = 0;
	char *line, *save;

	assert_int_equal(run(&out, "git show-index <repo/objects/pack/%s.idx", name), 0);
	for (line = strtok_r(wr_buf_str(&out), "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save), n++) {
		char *end;
		uint64_t off = strtoull(line, &end, 10);
		struct wr_id id, at;
		uint32_t crc;

		assert_true(wr_id_parse(end + 1, &id));
		assert_int_equal(wr_idx_find(x, &id), n);
		at = wr_idx_id(x, n);
		assert_id_equal(&at, &id);
		assert_int_equal(wr_idx_offset(x, n), off);
		assert_int_equal(wr_idx_crc(x, n, &crc), x->version == 2);
		if (x->version == 2)
			assert_int_equal(crc, strtoul(end + 1 + 42, NULL, 16));
		/* A neighbour that is not there. */
		id.b[19] ^= 1;
		assert_int_equal(wr_idx_find(x, &id), -1);
	}
	assert_int_equal(n, x->count);
	assert_true(n > 200);
	wr_buf_fini(&out);
}

static void
test_idx__reads_git_2(WR_UNUSED void **state)
{
	struct wr_err err = WR_ERR_INIT;
	struct wr_idx x;

	make_pack("", name, sizeof(name));
	open_idx(&x);
	assert_int_equal(x.version, 2);
	compare_with_git(&x);
	assert_int_equal(wr_idx_check(&x, pack_size(), &err), 0);
	wr_idx_close(&x);
}

static void
test_idx__reads_git_1(WR_UNUSED void **state)
{
	struct wr_err err = WR_ERR_INIT;
	struct wr_idx x;

	make_pack("", name, sizeof(name));
	assert_int_equal(run(NULL,
			     "cd repo/objects/pack && rm -f %s.idx %s.rev && "
			     "git index-pack --index-version=1 %s.pack",
			     name, name, name),
			 0);
	open_idx(&x);
	assert_int_equal(x.version, 1);
	compare_with_git(&x);
	assert_int_equal(wr_idx_check(&x, pack_size(), &err), 0);
	wr_idx_close(&x);
}

static void
test_idx_format__byte_for_byte(WR_UNUSED void **state)
{
	struct wr_buf out = WR_BUF_INIT;
	struct wr_idx x;
	struct wr_id sum;
	struct wr_idx_entry *e;

	make_pack("", name, sizeof(name));
	open_idx(&x);
	e = wr_calloc(x.count, sizeof(*e));
	for (uint32_t i = 0; i < x.count; i++) {
		uint32_t to = (i + 17) % x.count; /* not in order */

		e[to].id = wr_idx_id(&x, i);
		e[to].off = wr_idx_offset(&x, i);
		assert_true(wr_idx_crc(&x, i, &e[to].crc));
	}
	sum = wr_idx_pack_sum(&x);
	wr_buf_adds(&out, "xyz");
	wr_idx_format(&out, e, x.count, &sum);
	assert_int_equal(out.len, x.map_len + 3);
	assert_memory_equal(out.p + 3, x.map, x.map_len);
	free(e);
	wr_idx_close(&x);
	wr_buf_fini(&out);
}

static void
test_idx_format__far_offsets(WR_UNUSED void **state)
{
	static const uint64_t off[] = {12, 0x7fffffff, 0x80000000, 0x123456789ab, 0xffffffff};
	struct wr_idx_entry e[WR_ARRAY_LEN(off)];
	struct wr_buf out = WR_BUF_INIT, text = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_id sum = {{9}};
	struct wr_idx x;
	uint8_t *table;

	for (size_t i = 0; i < WR_ARRAY_LEN(off); i++)
		e[i] = (struct wr_idx_entry){.id = {{(uint8_t)(200 - 40 * i), 7}}, .off = off[i]};
	wr_idx_format(&out, e, WR_ARRAY_LEN(off), &sum);
	assert_int_equal(wr_idx_open_mem(&x, out.p, out.len, &err), 0);
	assert_int_equal(x.offs64_count, 3);
	for (size_t i = 0; i < WR_ARRAY_LEN(off); i++) {
		struct wr_id id = {{(uint8_t)(200 - 40 * i), 7}};

		assert_int_equal(wr_idx_offset(&x, (uint32_t)wr_idx_find(&x, &id)), off[i]);
	}
	assert_int_equal(wr_idx_check(&x, UINT64_C(1) << 41, &err), 0);
	assert_int_equal(wr_idx_check(&x, 0x123456789ab, &err), -1);
	write_file("far.idx", out.p, out.len);
	assert_int_equal(run(&text, "git show-index <far.idx"), 0);
	assert_non_null(strstr(wr_buf_str(&text), "1250999896491 5007"));
	/* An entry that points outside the table of far offsets. */
	table = out.p + (x.offs - x.map);
	for (size_t i = 0; i < WR_ARRAY_LEN(off); i++)
		if (table[4 * i] & 0x80)
			wr_put32be(table + 4 * i, 0x80000003);
	assert_int_equal(wr_idx_offset(&x, 0), UINT64_MAX);
	wr_buf_fini(&out);
	wr_buf_fini(&text);
}

static void
test_idx__empty(WR_UNUSED void **state)
{
	struct wr_buf out = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_id id = {{0}};
	struct wr_idx x;
	uint32_t n;

	wr_idx_format(&out, NULL, 0, &id);
	assert_int_equal(wr_idx_open_mem(&x, out.p, out.len, &err), 0);
	assert_int_equal(wr_idx_find(&x, &id), -1);
	assert_int_equal(wr_idx_prefix(&x, &id, 0, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(wr_idx_check(&x, 32, &err), 0);
	wr_buf_fini(&out);
}

static void
test_idx_prefix__against_a_scan(WR_UNUSED void **state)
{
	struct wr_idx x;

	make_pack("", name, sizeof(name));
	open_idx(&x);
	for (unsigned bits = 0; bits <= 160; bits += bits < 20 ? 1 : 35) {
		for (uint32_t i = 0; i < x.count; i += 7) {
			struct wr_id id = wr_idx_id(&x, i);
			uint32_t first = UINT32_MAX, count = 0, got, got_count;

			for (uint32_t j = 0; j < x.count; j++) {
				struct wr_id other = wr_idx_id(&x, j);
				unsigned b = 0;

				while (b < bits &&
				       !((id.b[b / 8] ^ other.b[b / 8]) >> (7 - b % 8) & 1))
					b++;
				if (b < bits)
					continue;
				first = WR_MIN(first, j);
				count++;
			}
			got = wr_idx_prefix(&x, &id, bits, &got_count);
			assert_int_equal(got, first);
			assert_int_equal(got_count, count);
		}
	}
	wr_idx_close(&x);
}

/* Put a right checksum on a changed index. */
static void
seal(struct wr_buf *b)
{
	struct wr_sha1 h;
	struct wr_id sum;

	wr_sha1_init(&h);
	wr_sha1_add(&h, b->p, b->len - WR_ID_LEN);
	sum = wr_sha1_end(&h);
	memcpy(b->p + b->len - WR_ID_LEN, sum.b, WR_ID_LEN);
}

static void
make_three(struct wr_buf *b)
{
	struct wr_idx_entry e[3] = {
	    {.id = {{1}}, .off = 12}, {.id = {{1, 1}}, .off = 30}, {.id = {{200}}, .off = 50}};
	struct wr_id sum = {{9}};

	wr_buf_clear(b);
	wr_idx_format(b, e, 3, &sum);
}

static void
test_idx_open__cut_anywhere(WR_UNUSED void **state)
{
	struct wr_buf b = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_idx x;

	make_three(&b);
	for (size_t n = 0; n < b.len; n++) {
		/* Its own memory, so that a checker sees a read behind the end. */
		WR_SCOPED(wr_freep) void *p = wr_memdup(b.p, n);

		assert_int_equal(wr_idx_open_mem(&x, p, n, &err), -1);
		assert_true(err.code == WR_E_CORRUPT || err.code == WR_E_UNSUPPORTED);
	}
	write_file("bad.idx", b.p, 100);
	dir_fd = dir_fd >= 0 ? dir_fd : open(test_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(wr_idx_open(&x, AT_FDCWD, "/nonexistent.idx", &err), -1);
	assert_int_equal(err.code, WR_E_NOT_FOUND);
	wr_buf_fini(&b);
}

static void
test_idx_check__finds(WR_UNUSED void **state)
{
	struct wr_buf b = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_idx x;

	for (size_t i = 0; i < 1100; i += 3) {
		make_three(&b);
		b.p[i % b.len] ^= 1;
		assert_true(wr_idx_open_mem(&x, b.p, b.len, &err) < 0 ||
			    wr_idx_check(&x, 100, &err) < 0);
	}
	make_three(&b);
	assert_int_equal(wr_idx_open_mem(&x, b.p, b.len, &err), 0);
	assert_int_equal(wr_idx_check(&x, 71, &err), 0);
	assert_int_equal(wr_idx_check(&x, 70, &err), -1);
	assert_non_null(strstr(err.msg, "outside"));
	assert_int_equal(wr_idx_check(&x, 10, &err), -1);
	b.p[8 + 1024 + 1] = 1; /* the first id becomes the second */
	seal(&b);
	assert_int_equal(wr_idx_check(&x, 71, &err), -1);
	assert_non_null(strstr(err.msg, "order"));
	make_three(&b);
	wr_put32be(b.p + 8 + 4 * 100, 3);
	for (unsigned i = 100; i < 200; i++)
		wr_put32be(b.p + 8 + 4 * i, 3);
	seal(&b);
	assert_int_equal(wr_idx_open_mem(&x, b.p, b.len, &err), 0);
	assert_int_equal(wr_idx_check(&x, 71, &err), -1);
	assert_non_null(strstr(err.msg, "fan-out"));
	make_three(&b);
	b.p[8 + 1024 + 60 + 12 + 3] = 11;
	seal(&b);
	assert_int_equal(wr_idx_open_mem(&x, b.p, b.len, &err), 0);
	assert_int_equal(wr_idx_check(&x, 71, &err), -1);
	wr_buf_fini(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_idx__reads_git_2),
	    cmocka_unit_test(test_idx__reads_git_1),
	    cmocka_unit_test(test_idx_format__byte_for_byte),
	    cmocka_unit_test(test_idx_format__far_offsets),
	    cmocka_unit_test(test_idx__empty),
	    cmocka_unit_test(test_idx_prefix__against_a_scan),
	    cmocka_unit_test(test_idx_open__cut_anywhere),
	    cmocka_unit_test(test_idx_check__finds),
	};

	return cmocka_run_group_tests(tests, setup_dir, teardown_pack);
}

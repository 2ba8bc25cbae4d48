/* SPDX-License-Identifier: Apache-2.0 */
/* bup writes multi-indexes and checks ours. */
#include "engine/pack/idx.h"
#include "engine/pack/test_pack.h"

#include <dirent.h>

#define PACKS_MAX 16

static struct wr_idx idx[PACKS_MAX];
static const struct wr_idx *idx_p[PACKS_MAX];
static const char *idx_name[PACKS_MAX];
static size_t idx_count;

/* A bup repository with five packs of some thousand objects. */
static void
make_bup_repo(void)
{
	WR_SCOPED(wr_freep) uint8_t *p = wr_malloc(12000000);
	uint64_t seed = 11;
	char path[600];

	random_bytes(&seed, p, 12000000);
	assert_int_equal(run(NULL, "rm -rf repo && bup init 2>/dev/null"), 0);
	for (unsigned i = 0; i < 5; i++) {
		write_file("data", p + 1500000 * i, 6000000 - 1000000 * i);
		assert_int_equal(run(NULL,
				     "bup split -q -n b%u <data 2>/dev/null && "
				     "rm -f repo/objects/pack/*.midx",
				     i),
				 0);
	}
	wr_closep(&dir_fd);
	snprintf(path, sizeof(path), "%s/repo/objects/pack", test_dir);
	dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir_fd >= 0);
}

static void
open_one(const char *name)
{
	struct wr_err err = WR_ERR_INIT;

	assert_true(idx_count < PACKS_MAX);
	if (wr_idx_open(&idx[idx_count], dir_fd, name, &err) < 0)
		fail_msg("%s", err.msg);
	idx_p[idx_count] = &idx[idx_count];
	idx_name[idx_count++] = name;
}

static void
close_all(void)
{
	while (idx_count)
		wr_idx_close(&idx[--idx_count]);
}

/* The only midx there is. */
static char *
midx_name(void)
{
	struct wr_buf out = WR_BUF_INIT;

	assert_int_equal(run(&out, "cd repo/objects/pack && ls *.midx"), 0);
	out.len--;
	return wr_buf_detach(&out, NULL);
}

static void
check_lookups(const struct wr_midx *m)
{
	for (size_t i = 0; i < idx_count; i++) {
		for (uint32_t j = 0; j < idx[i].count; j++) {
			struct wr_id id = wr_idx_id(&idx[i], j);
			int64_t at = wr_midx_find(m, &id);
			size_t k = 0;

			assert_true(at >= 0 && (size_t)at < m->name_count);
			while (strcmp(idx_name[k], m->name[at]) != 0)
				assert_true(++k < idx_count);
			assert_true(wr_idx_find(&idx[k], &id) >= 0);
			id.b[19] ^= 1;
			assert_int_equal(wr_midx_find(m, &id), -1);
		}
	}
}

static void
test_midx__reads_bup_and_writes_the_same(WR_UNUSED void **state)
{
	WR_SCOPED(wr_freep) char *name = NULL;
	WR_SCOPED(wr_freep) char *ours = NULL;
	struct wr_err err = WR_ERR_INIT;
	struct wr_midx m;
	struct wr_buf a, b;
	char path[200];

	make_bup_repo();
	assert_int_equal(run(NULL, "bup midx -f 2>/dev/null"), 0);
	name = midx_name();
	if (wr_midx_open(&m, dir_fd, name, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(m.name_count, 5);
	assert_true(m.bits > 0);
	for (size_t i = 0; i < m.name_count; i++)
		open_one(m.name[i]);
	check_lookups(&m);

	snprintf(path, sizeof(path), "repo/objects/pack/%s", name);
	a = read_whole(path);
	assert_int_equal(unlinkat(dir_fd, name, 0), 0);
	if (wr_midx_write(dir_fd, idx_p, idx_name, idx_count, &err) < 0)
		fail_msg("%s", err.msg);
	ours = midx_name();
	snprintf(path, sizeof(path), "repo/objects/pack/%s", ours);
	b = read_whole(path);
	assert_int_equal(a.len, b.len);
	assert_memory_equal(a.p, b.p, a.len);
	assert_int_equal(run(NULL, "bup midx --check -a 2>/dev/null"), 0);
	assert_int_equal(run(NULL, "test $(ls repo/objects/pack/tmp-* 2>/dev/null | wc -l) = 0"),
			 0);
	/* bup must go on with it: saving the same again stores nothing. */
	assert_int_equal(run(NULL, "bup split -q -b <data >/dev/null 2>&1 && "
				   "test $(ls repo/objects/pack/*.pack | wc -l) = 5"),
			 0);
	wr_buf_fini(&a);
	wr_buf_fini(&b);
	wr_midx_close(&m);
	close_all();
}

static void
test_midx_write__duplicates_and_odd_shapes(WR_UNUSED void **state)
{
	WR_SCOPED(wr_freep) char *name = NULL;
	struct wr_buf b = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_id sum = {{0}};
	struct wr_midx m;

	make_bup_repo();
	wr_idx_format(&b, NULL, 0, &sum);
	write_file("repo/objects/pack/pack-empty.idx", b.p, b.len);
	assert_int_equal(
	    run(NULL, "cd repo/objects/pack && i=0; for f in $(ls pack-[0-9a-f][0-9a-f]*.idx); "
		      "do i=$((i+1)); cp $f pack-$i.idx; cp $f pack-x$i.idx; done"),
	    0);
	open_one("pack-2.idx");
	open_one("pack-empty.idx");
	open_one("pack-1.idx");
	open_one("pack-x2.idx");
	if (wr_midx_write(dir_fd, idx_p, idx_name, idx_count, &err) < 0)
		fail_msg("%s", err.msg);
	name = midx_name();
	if (wr_midx_open(&m, dir_fd, name, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(m.count, 2 * idx[0].count + idx[2].count);
	check_lookups(&m);
	wr_midx_close(&m);
	close_all();
	assert_int_equal(unlinkat(dir_fd, name, 0), 0);

	free(wr_steal(&name));
	if (wr_midx_write(dir_fd, NULL, NULL, 0, &err) < 0)
		fail_msg("%s", err.msg);
	name = midx_name();
	assert_int_equal(wr_midx_open(&m, dir_fd, name, &err), 0);
	assert_int_equal(wr_midx_find(&m, &sum), -1);
	wr_midx_close(&m);
	wr_buf_fini(&b);
}

static void
test_midx_open__damage(WR_UNUSED void **state)
{
	WR_SCOPED(wr_freep) char *name = NULL;
	struct wr_buf b = WR_BUF_INIT, whole;
	struct wr_idx_entry e[3] = {{.id = {{1}}}, {.id = {{100, 1}}}, {.id = {{200}}}};
	struct wr_err err = WR_ERR_INIT;
	struct wr_id sum = {{0}};
	struct wr_midx m;
	char path[600];
	size_t names;

	assert_int_equal(run(NULL, "rm -rf repo && git init -q --bare repo"), 0);
	wr_closep(&dir_fd);
	snprintf(path, sizeof(path), "%s/repo/objects/pack", test_dir);
	dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	wr_idx_format(&b, e, 3, &sum);
	write_file("repo/objects/pack/pack-a.idx", b.p, b.len);
	open_one("pack-a.idx");
	assert_int_equal(wr_midx_write(dir_fd, idx_p, idx_name, 1, &err), 0);
	name = midx_name();
	snprintf(path, sizeof(path), "repo/objects/pack/%s", name);
	whole = read_whole(path);
	names = whole.len - strlen("pack-a.idx");
	for (size_t n = 0; n < whole.len; n++) {
		WR_SCOPED(wr_freep) void *p = wr_memdup(whole.p, n);
		int rc = wr_midx_open_mem(&m, p, n, &err);

		assert_int_equal(rc, n < names ? -1 : 0);
		if (rc == 0) {
			/* With no name left an entry leads nowhere. */
			assert_int_equal(wr_midx_find(&m, &e[0].id), n == names ? -1 : 0);
			wr_midx_close(&m);
		}
	}
	for (size_t i = 0; i < 16; i++) {
		whole.p[i] ^= 0x40;
		assert_int_equal(wr_midx_open_mem(&m, whole.p, whole.len, &err), -1);
		whole.p[i] ^= 0x40;
	}
	memcpy(whole.p + names, "../a", 4);
	assert_int_equal(wr_midx_open_mem(&m, whole.p, whole.len, &err), -1);
	memcpy(whole.p + names, "pac/", 4);
	assert_int_equal(wr_midx_open_mem(&m, whole.p, whole.len, &err), -1);
	memcpy(whole.p + names, "pa\0\0", 4);
	assert_int_equal(wr_midx_open_mem(&m, whole.p, whole.len, &err), -1);
	close_all();
	wr_buf_fini(&whole);
	wr_buf_fini(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_midx__reads_bup_and_writes_the_same),
	    cmocka_unit_test(test_midx_write__duplicates_and_odd_shapes),
	    cmocka_unit_test(test_midx_open__damage),
	};

	return cmocka_run_group_tests(tests, setup_dir, teardown_pack);
}

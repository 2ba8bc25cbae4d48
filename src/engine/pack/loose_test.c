/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/pack/pack.h"
#include "engine/pack/test_pack.h"

static int
objects(void)
{
	char path[600];
	int fd;

	snprintf(path, sizeof(path), "%s/repo/objects", test_dir);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void
check(int fd, const struct wr_id *id, enum wr_obj_type want, size_t len)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	enum wr_obj_type type;
	struct wr_id real;

	wr_buf_adds(&out, "before");
	assert_true(wr_loose_exists(fd, id));
	if (wr_loose_read(fd, id, &type, &out, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(type, want);
	if (len)
		assert_int_equal(out.len, len);
	real = wr_obj_id(type, out.p, out.len);
	assert_id_equal(&real, id);
}

static void
test_loose_read__what_git_wrote(WR_UNUSED void **state)
{
	static const size_t size[] = {0, 1, 100, 4065, 4096, 5000, 300000};
	WR_SCOPED(wr_closep) int fd = -1;
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;
	WR_SCOPED(wr_freep) uint8_t *p = wr_calloc(1, 3000000);
	struct wr_id id;
	uint64_t seed = 3;

	assert_int_equal(run(NULL, "rm -rf repo && git init -q --bare repo"), 0);
	fd = objects();
	for (size_t i = 0; i < WR_ARRAY_LEN(size); i++) {
		random_text(&seed, p, size[i]);
		id = git_hash("-w", p, size[i]);
		check(fd, &id, WR_OBJ_BLOB, size[i]);
	}
	memset(p, 0, 3000000);
	id = git_hash("-w", p, 3000000);
	check(fd, &id, WR_OBJ_BLOB, 3000000);
	wr_closep(&fd);
	make_history();
	fd = objects();
	assert_int_equal(run(&out, "git rev-parse refs/tags/v1 main^{commit} main^{tree} && "
				   "mv repo/objects/pack/*.pack . && "
				   "rm -f repo/objects/pack/* && "
				   "cat *.pack | git unpack-objects -q"),
			 0);
	assert_true(out.len >= 123 && wr_id_parse((char *)out.p, &id));
	check(fd, &id, WR_OBJ_TAG, 0);
	assert_true(wr_id_parse((char *)out.p + 41, &id));
	check(fd, &id, WR_OBJ_COMMIT, 0);
	assert_true(wr_id_parse((char *)out.p + 82, &id));
	check(fd, &id, WR_OBJ_TREE, 0);
}

static void
test_loose_read__absent(WR_UNUSED void **state)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;
	WR_SCOPED(wr_closep) int fd = -1;
	struct wr_err err = WR_ERR_INIT;
	struct wr_id id = {{0xab, 1}};
	enum wr_obj_type type;

	assert_int_equal(run(NULL, "rm -rf repo && git init -q --bare repo"), 0);
	fd = objects();
	assert_false(wr_loose_exists(fd, &id));
	assert_int_equal(wr_loose_read(fd, &id, &type, &out, &err), -1);
	assert_int_equal(err.code, WR_E_NOT_FOUND);
	assert_non_null(strstr(err.msg, wr_id_hex(&id).s));
}

static int
parse(const char *head, size_t head_len, size_t payload, struct wr_buf *out)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf raw = WR_BUF_INIT, z = WR_BUF_INIT;
	struct wr_deflater *d = wr_deflater_new(1);
	struct wr_err err = WR_ERR_INIT;
	enum wr_obj_type type;
	int rc;

	wr_buf_add(&raw, head, head_len);
	while (payload-- > 0)
		wr_buf_add8(&raw, 'x');
	wr_deflate(d, raw.p, raw.len, &z);
	wr_deflater_free(d);
	rc = wr_loose_parse(z.p, z.len, &type, out, &err);
	assert_int_equal(err.code, rc < 0 ? WR_E_CORRUPT : WR_E_NONE);
	return rc;
}

static void
test_loose_parse__refuses(WR_UNUSED void **state)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT, z = WR_BUF_INIT;
	struct wr_deflater *d = wr_deflater_new(1);
	struct wr_err err = WR_ERR_INIT;
	enum wr_obj_type type;

#define P(head, payload) parse(head, sizeof(head) - 1, payload, &out)
	assert_int_equal(P("blob 3\0", 3), 0);
	assert_int_equal(P("blob 4\0", 3), -1);
	assert_int_equal(P("blob 2\0", 3), -1);
	assert_int_equal(P("blub 3\0", 3), -1);
	assert_int_equal(P("blob\0", 3), -1);
	assert_int_equal(P("blob \0", 0), -1);
	assert_int_equal(P("blob 3", 3), -1);
	assert_int_equal(P("blob -3\0", 3), -1);
	assert_int_equal(P("blob 18446744073709551619\0", 3), -1);
	assert_int_equal(P("", 0), -1);
#undef P
	wr_deflate(d, "blob 5\0hello", 12, &z);
	assert_int_equal(wr_loose_parse(z.p, z.len, &type, &out, &err), 0);
	assert_string_equal(wr_buf_str(&out), "hello");
	for (size_t n = 0; n < z.len; n++)
		assert_int_equal(wr_loose_parse(z.p, n, &type, &out, &err), -1);
	wr_deflater_free(d);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_loose_read__what_git_wrote),
	    cmocka_unit_test(test_loose_read__absent),
	    cmocka_unit_test(test_loose_parse__refuses),
	};

	return cmocka_run_group_tests(tests, setup_dir, teardown_dir);
}

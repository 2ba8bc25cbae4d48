/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include <fcntl.h>
#include <setjmp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "sys/fs.h"

static int dir = -1; /* fixed by setup */
static char path[] = "/tmp/json_file_test.XXXXXX";

static int
setup(void **state)
{
	(void)state;
	if (!mkdtemp(path))
		return -1;
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0 ? -1 : 0;
}

static int
teardown(void **state)
{
	(void)state;
	close(dir);
	return wr_remove_tree(AT_FDCWD, path, NULL);
}

static void
test_json_file__save_and_load(void **state)
{
	struct wr_err e = WR_ERR_INIT;
	WR_SCOPED(wr_json_freep) json_t *o = json_object();
	WR_SCOPED(wr_json_freep) json_t *back = NULL;
	struct stat st;

	(void)state;
	wr_json_u64(o, "format", 2);
	wr_json_str(o, "name", "x");
	assert_int_equal(wr_json_save(dir, "f", o, 0600, &e), 0);
	assert_int_equal(fstatat(dir, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	back = wr_json_load(dir, "f", 100, 2, &e);
	assert_non_null(back);
	assert_true(json_equal(o, back));
	assert_null(wr_json_load(dir, "f", 100, 1, &e));
	assert_int_equal(e.code, WR_E_UNSUPPORTED);
	assert_non_null(strstr(e.msg, "format 2, this program reads up to 1"));
	assert_null(wr_json_load(dir, "f", 5, 2, &e));
	assert_int_equal(e.code, WR_E_CORRUPT);
	assert_null(wr_json_load(dir, "none", 100, 2, &e));
	assert_int_equal(e.code, WR_E_NOT_FOUND);
	assert_null(wr_json_load(dir, "none", 100, 2, NULL));
}

static void
test_json_file__damage_names_the_file(void **state)
{
	static const char *const bad[] = {
	    "", "{", "[]", "7", "{}", "{\"format\":\"1\"}", "{\"format\":-1}", "nonsense"};

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		struct wr_err e = WR_ERR_INIT;

		assert_int_equal(
		    wr_replace_file(dir, "state.json", bad[i], strlen(bad[i]), 0644, &e), 0);
		assert_null(wr_json_load(dir, "state.json", 100, 1, &e));
		assert_int_equal(e.code, WR_E_CORRUPT);
		assert_non_null(strstr(e.msg, "'state.json'"));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_json_file__save_and_load),
	    cmocka_unit_test(test_json_file__damage_names_the_file),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
